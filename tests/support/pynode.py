"""One `ferrolite serve` process, and a small HTTP client, for the checks written in Python.

Standard library only; loopback only. A node is always killed at the end of the program.
"""
import atexit
import http.client
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import time

READY_LIMIT_S = 60
POLL_PAUSE_S = 0.002


class Failed(Exception):
    """The server answered something that it must not answer, or did not start."""


class Client:
    """A kept-alive connection. It never sends a request twice: after an error the outcome is unknown to the caller."""

    def __init__(self, port, timeout=120):
        self.port, self.timeout, self.conn = port, timeout, None

    def call(self, method, path, body=None):
        """(status, body bytes); OSError or HTTPException when there was no answer."""
        if self.conn is None:
            conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            conn.connect()
            conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.conn = conn
        try:
            self.conn.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            answer = self.conn.getresponse()
            return answer.status, answer.read()
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.conn is not None:
            self.conn.close()
            self.conn = None

    def execute(self, statements, parameters=""):
        """The results of a statement list; Failed if any of them failed."""
        body = json.dumps(statements, separators=(",", ":"))
        return self._results(*self.call("POST", "/db/execute" + parameters, body), what=body)

    def query(self, sql, *parameters, level="weak"):
        """The rows of one query."""
        body = json.dumps([[sql, *parameters]])
        result = self._results(*self.call("POST", "/db/query?level=" + level, body), what=sql)[0]
        return result.get("values", [])

    @staticmethod
    def _results(status, body, what):
        if status != 200:
            raise Failed("%.200s: status %d: %.300r" % (what, status, body))
        answer = json.loads(body)
        if "error" in answer or any("error" in r for r in answer["results"]):
            raise Failed("%.200s: %.300r" % (what, body))
        return answer["results"]


class Node:
    """A data directory and the process that serves it. Ports stay the same over restarts."""

    def __init__(self, server, serve_args, data, flags=()):
        self.data, self.log = data, data + ".log"
        self.port, raft = free_port(), free_port()
        self.command = [server] + shlex.split(serve_args) + ["-node-id", "n1", "-http-addr", "127.0.0.1:%d" % self.port,
                                                             "-raft-addr", "127.0.0.1:%d" % raft, *flags, data]
        self.proc = None
        atexit.register(self.kill)

    def start(self, limit_s=READY_LIMIT_S):
        """Starts it; seconds until /readyz said 200."""
        began = time.monotonic()
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        last = "no answer"
        while time.monotonic() < began + limit_s:
            client = Client(self.port, timeout=2)
            try:
                status, body = client.call("GET", "/readyz")
                if status == 200:
                    return time.monotonic() - began
                last = "%d %r" % (status, body)
            except (OSError, http.client.HTTPException) as e:
                last = repr(e)
            finally:
                client.close()
            if self.proc.poll() is not None:
                raise Failed("the node ended with status %s before it was ready\n%s" % (self.proc.returncode, self.tail()))
            time.sleep(POLL_PAUSE_S)
        raise Failed("/readyz was not 200 within %g s, last: %s\n%s" % (limit_s, last, self.tail()))

    def kill(self):
        if self.proc is not None and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()

    def terminate(self, limit_s=30):
        """SIGTERM; the exit status."""
        self.proc.send_signal(signal.SIGTERM)
        return self.proc.wait(limit_s)

    def client(self, timeout=120):
        return Client(self.port, timeout)

    def memory(self):
        """(resident now, highest resident ever) in bytes."""
        with open("/proc/%d/status" % self.proc.pid) as f:
            fields = dict(line.split(":", 1) for line in f)
        return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))

    def tail(self, lines=15):
        with open(self.log, "rb") as f:
            return "\n".join("  | " + line for line in f.read().decode("utf-8", "replace").splitlines()[-lines:])


_handed_out = set()


def free_port():
    """A loopback port below the ephemeral range that nobody listens on."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(15000, 32000)
        if port in _handed_out:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise Failed("no free loopback port")


def disk_bytes(path):
    """What the files below a directory take on the disk: blocks, not lengths."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                pass    # a running node may remove one meanwhile
    return total
