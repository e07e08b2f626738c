#!/usr/bin/env python3
"""Load benchmark of one node, or of two binaries in turn: requests/s and latency beside the limits of the machine.

    bench.py --server target/release/ferrolite [--other PATH] [--seconds 3] [--rounds 2]

Needs `wrk` (Debian package of that name); one thread of it, on the same cores as the server. Every point is measured once per
round and the rounds are alternated (A B A B with two binaries), so that a drift of the machine shows as a spread. The limits
are measured in the same run: fdatasync of a recycled block, inserts into plain SQLite, an answer without any database.
"""
import argparse
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
from pynode import Failed, Node, disk_bytes  # noqa: E402

WRITES, READS = (1, 16, 64, 256), (1, 16, 64)
POINTS = ([("write", "write.lua", c) for c in WRITES] + [("read GET", "read_get.lua", c) for c in READS]
          + [("read POST", "read_post.lua", c) for c in READS] + [("constant", None, c) for c in READS])
UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def wrk(port, script, connections, seconds):
    """(requests/s, p50 ms, p99 ms, requests) of one run."""
    command = ["wrk", "-t1", "-c%d" % connections, "-d%gs" % seconds, "--latency", "--timeout", "10s"]
    command += ["-s", os.path.join(HERE, script)] if script else []
    command.append("http://127.0.0.1:%d/readyz?noleader" % port)
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", text)
    if bad:
        raise Failed("%s at %d connections: %s" % (script, connections, bad.group(0)))
    latency = {}
    for percent, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s|m)\b", text):
        latency[percent] = float(value) * UNITS_MS[unit]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    return rate, latency["50"], latency["99"], requests


class Subject:
    """One binary under test, on a directory of its own."""

    def __init__(self, name, server, serve_args, folder):
        self.name, self.server = name, server
        self.node = Node(server, serve_args, os.path.join(folder, "data-" + name))
        self.results = {}
        self.inserted = 0
        self.node.start()
        time.sleep(1)   # idle means: after the start has settled
        self.idle = self.node.memory()[0]
        client = self.node.client()
        client.execute(["CREATE TABLE bench (id INTEGER PRIMARY KEY, name TEXT, value INT)",
                        "CREATE TABLE point (id INTEGER PRIMARY KEY, name TEXT, value INT)"])
        for first in range(1, 10001, 1000):
            client.execute([["INSERT INTO point VALUES(?,?,?)", i, "name %d" % i, i * 3] for i in range(first, first + 1000)], "?transaction")
        if client.query("SELECT id, name, value FROM point WHERE id = ?", 4242) != [[4242, "name 4242", 12726]]:
            raise Failed("a point SELECT gives the wrong row")
        client.close()

    def measure(self, point, seconds):
        kind, script, connections = point
        rate, p50, p99, requests = wrk(self.node.port, script, connections, seconds)
        self.results.setdefault(point, []).append((rate, p50, p99))
        if kind == "write":
            self.inserted += requests

    def finish(self):
        client = self.node.client()
        (rows,), = client.query("SELECT count(*) FROM bench", level="strong")
        (size,), = client.query("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        client.close()
        # wrk does not count the requests that are under way when its time is over.
        if not self.inserted <= rows <= self.inserted + 10000:
            raise Failed("%d rows after %d acknowledged inserts" % (rows, self.inserted))
        rss, peak = self.node.memory()
        print("%s: RSS idle %.1f MB, loaded now %.1f MB, peak %.1f MB; binary %.1f MB; %d rows, database %.1f MB, disk %.1f MB"
              % (self.name, self.idle / 1e6, rss / 1e6, peak / 1e6, os.path.getsize(shutil.which(self.server)) / 1e6, rows, size / 1e6,
                 disk_bytes(self.node.data) / 1e6))
        status = self.node.terminate()
        if status != 0:
            raise Failed("%s: exit status %d on SIGTERM" % (self.name, status))


def fdatasync_rate(folder, seconds):
    """4 KiB writes, each synced, over and over in a zero-filled file."""
    path = os.path.join(folder, "recycled")
    block = os.urandom(4096)
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.pwrite(fd, bytes(16 << 20), 0)
        os.fsync(fd)
        count, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            os.pwrite(fd, block, count % 4096 * 4096)
            os.fdatasync(fd)
            count += 1
        return count / (time.monotonic() - began)
    finally:
        os.close(fd)
        os.unlink(path)


def sqlite_rate(folder, seconds, batch):
    """Rows/s into plain SQLite in WAL mode with synchronous=NORMAL, `batch` rows a transaction, through Python's module."""
    path = os.path.join(folder, "plain.db")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("CREATE TABLE bench (id INTEGER PRIMARY KEY, name TEXT, value INT)")
    rows = [("a name of some length", 12345)] * batch
    count, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        db.execute("BEGIN")
        db.executemany("INSERT INTO bench(name, value) VALUES(?, ?)", rows)
        db.execute("COMMIT")
        count += batch
    rate = count / (time.monotonic() - began)
    db.close()
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    return rate


def table(subjects, points):
    names = [s.name for s in subjects]
    print("\n| point | connections | " + " | ".join("%s req/s | runs | p50 ms | p99 ms" % n for n in names) + " |")
    print("|---|---|" + "---|---|---|---|" * len(names))
    for point in points:
        cells = []
        for subject in subjects:
            runs = subject.results[point]
            mean = [sum(run[i] for run in runs) / len(runs) for i in range(3)]
            spread = " / ".join("%d" % run[0] for run in runs)
            cells.append("%d | %s | %.3f | %.3f" % (mean[0], spread, mean[1], mean[2]))
        print("| %s | %d | %s |" % (point[0], point[2], " | ".join(cells)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--serve-args", default="serve")
    parser.add_argument("--other", help="a second binary, measured in turn with the first")
    parser.add_argument("--other-args", default="serve")
    parser.add_argument("--seconds", type=float, default=3, help="per point (default 3)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each point is measured (default 2)")
    parser.add_argument("--only", default="", help="regular expression over points such as 'write 16'")
    parser.add_argument("--work", default=None, help="folder for data directories (default: a temporary one)")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed (Debian package wrk)")
    points = [p for p in POINTS if re.search(options.only, "%s %d" % (p[0], p[2]))]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.work) as folder:
        subjects = [Subject("A", options.server, options.serve_args, folder)]
        if options.other:
            subjects.append(Subject("B", options.other, options.other_args, folder))
        limits = []
        for _ in range(options.rounds):
            limits.append((fdatasync_rate(folder, 1), sqlite_rate(folder, 1, 1), sqlite_rate(folder, 1, 256)))
            for point in points:
                for subject in subjects:
                    subject.measure(point, options.seconds)
        table(subjects, points)
        syncs, single, batched = (sum(l[i] for l in limits) / len(limits) for i in range(3))
        print("\nlimits here: %d fdatasync/s (%.0f us each); plain SQLite %d inserts/s one by one, %d in batches of 256"
              % (syncs, 1e6 / syncs, single, batched))
        for subject in subjects:
            key = ("write", "write.lua", 1)
            if key in subject.results:
                runs = subject.results[key]
                p50 = sum(r[1] for r in runs) / len(runs)
                print("%s: a single write takes %.0f us at the median, %.0f us more than one fdatasync" % (subject.name, p50 * 1e3, p50 * 1e3 - 1e6 / syncs))
            subject.finish()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(str(failure))
