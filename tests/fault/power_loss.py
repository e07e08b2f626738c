#!/usr/bin/env python3
"""Power cuts against a real file system: what was acknowledged is there after the lights come back.

    power_loss.py --server target/release/ferrolite [--rounds 10]

An ext4 file system on a loop device is shut down in an instant while 16 connections write (the shutdown ioctl with "no log
flush": synced data stay, all else is lost, later writes fail). The node must stop by itself with exit status 1. The file
system is then unmounted and mounted again, which replays its journal as after a power cut, and the node is started on what
is left. Needs root and loop devices; only loopback is used.
"""
import argparse
import collections
import fcntl
import http.client
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from pynode import Failed, Node  # noqa: E402

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
WRITERS = 16
IMAGE_BYTES = 600 << 20
EXIT_LIMIT_S = 20


class Volume:
    """A file system in a file, on a loop device."""

    def __init__(self, folder):
        self.image, self.point = os.path.join(folder, "image"), os.path.join(folder, "mount")
        os.mkdir(self.point)
        with open(self.image, "wb") as f:
            f.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.point], check=True)

    def unmount(self):
        subprocess.run(["umount", self.point], check=True)

    def cut_power(self):
        fd = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)


def write(node, round_, writer, attempts, seed):
    """Sends requests of one to five rows until the first that is not acknowledged: [(seq, rows, acknowledged)]."""
    rng = random.Random(seed)
    client = node.client(timeout=30)
    for seq in range(10 ** 9):
        rows = rng.randint(1, 5)
        body = json.dumps([["INSERT INTO ledger VALUES(?,?,?,?,?)", round_, writer, seq, part, "x" * rng.choice((10, 3000))] for part in range(rows)])
        acknowledged = False
        try:
            status, answer = client.call("POST", "/db/execute" + rng.choice(("", "?transaction")), body)
            acknowledged = status == 200 and b'"error"' not in answer
        except (OSError, http.client.HTTPException):
            pass
        attempts.append((seq, rows, acknowledged))
        if not acknowledged:
            client.close()
            return


def verify(node, round_, attempts):
    """Texts of what is wrong."""
    client = node.client()
    found = collections.defaultdict(tuple)
    sql = "SELECT writer, seq, count(*), count(DISTINCT part) FROM ledger WHERE round = ? GROUP BY 1, 2"
    for writer, seq, rows, distinct in client.query(sql, round_):
        found[writer, seq] = (rows, distinct)
    client.close()
    wrong = []
    for writer, list_ in attempts.items():
        for seq, rows, acknowledged in list_:
            got = found.pop((writer, seq), None)
            if got is None and acknowledged:
                wrong.append("acknowledged and lost: writer %d, request %d" % (writer, seq))
            if got not in (None, (rows, rows)):
                wrong.append("writer %d, request %d has %r of %d rows" % (writer, seq, got, rows))
    return wrong + ["never sent, but there: %r" % (key,) for key in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--serve-args", default="serve")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10 ** 9))
    options = parser.parse_args()
    print("seed %d" % options.seed)
    rng = random.Random(options.seed)
    passed, wrong, total, slowest = 0, [], 0, 0.0
    with tempfile.TemporaryDirectory(prefix="power-") as folder:
        volume = Volume(folder)
        node = Node(options.server, options.serve_args, os.path.join(volume.point, "data"))
        node.log = os.path.join(folder, "log")     # not on the disk that goes away
        last = {}
        for round_ in range(options.rounds + 1):
            volume.mount()
            try:
                slowest = max(slowest, node.start())
                if round_:
                    found = verify(node, round_ - 1, last)
                    wrong += ["round %d: %s" % (round_ - 1, text) for text in found]
                    passed += not found
                if round_ == options.rounds:
                    if node.terminate() != 0:
                        wrong.append("SIGTERM does not give exit status 0")
                    break
                client = node.client()
                client.execute(["CREATE TABLE IF NOT EXISTS ledger (round INT, writer INT, seq INT, part INT, filler TEXT)"])
                client.close()
                last = {writer: [] for writer in range(WRITERS)}
                threads = [threading.Thread(target=write, args=(node, round_, w, last[w], rng.random())) for w in last]
                for t in threads:
                    t.start()
                time.sleep(rng.uniform(0.02, 1.0))
                volume.cut_power()
                for t in threads:
                    t.join()
                total += sum(a for list_ in last.values() for _, _, a in list_)
                try:
                    status = node.proc.wait(EXIT_LIMIT_S)
                    if status != 1:
                        wrong.append("round %d: exit status %d instead of 1 after the disk was gone\n%s" % (round_, status, node.tail()))
                except subprocess.TimeoutExpired:
                    wrong.append("round %d: still running %d s after the disk was gone\n%s" % (round_, EXIT_LIMIT_S, node.tail()))
            except Failed as e:
                wrong.append("round %d: %s" % (round_, e))
                break
            finally:
                node.kill()
                volume.unmount()
    for text in wrong[:20]:
        print("FAILED: " + text)
    print("%d power cuts, %d acknowledged requests, slowest start %.3f s" % (options.rounds, total, slowest))
    print("%d passed, %d failed" % (passed, len(wrong)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
