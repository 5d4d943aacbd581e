# SPDX-License-Identifier: BSD-2-Clause
"""A meshd for a test alone, with pins, a cgroup and directories of its own, and the control protocol spoken by hand."""
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

from labs import folder_prefix
from runner import die_with_parent
from suite import check

BUILD = os.environ.get("TULLE_BUILD", "build")
VERSION, APPLY, DELETE, GET, DIFF, EXPLAIN, FLOWS, STATUS, ENDPOINTS = 1, 2, 3, 4, 5, 6, 7, 8, 9
PARSER, METRICS, JOURNAL = 10, 11, 100


def frame(kind, parts, version=1):
    body = b"".join(struct.pack("<II", len(n), len(d)) + n + d for n, d in parts)
    return b"TULL" + struct.pack("<HHII", version, kind, len(body), len(parts)) + body


def parse(data):
    check(len(data) >= 16 and data[:4] == b"TULL", f"not a reply: {data[:40]!r}")
    length = struct.unpack_from("<I", data, 8)[0]
    check(len(data) == 16 + length, f"reply of {len(data)} bytes says {length}")
    parts, at = {}, 16
    while at < len(data):
        n, d = struct.unpack_from("<II", data, at)
        at += 8
        parts[data[at:at + n].decode()] = data[at + n:at + n + d]
        at += n + d
    return int(parts["exit"]), parts.get("out", b"").decode(), parts.get("err", b"").decode()


class Daemon:
    """`with` ends it and removes all it made."""
    number = 0
    apart = True # from the machine's network

    def __init__(self, rules=None, **flags):
        Daemon.number += 1
        name = f"tulle-test-{os.getpid()}-{Daemon.number}"
        self.home = tempfile.mkdtemp(prefix=folder_prefix())
        self.socket = f"{self.home}/run/meshd.sock"
        self.rules = f"{self.home}/rules"
        self.log_path = f"{self.home}/log"
        self.pin = f"/sys/fs/bpf/{name}"
        root = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
        self.cgroup = f"{root}/{name}"
        os.mkdir(self.cgroup)
        os.mkdir(self.rules)
        if rules:
            self.write("base.yaml", rules)
        self.flags = {"rules": self.rules, "state": f"{self.home}/state", "socket": self.socket, "pin": self.pin,
                      "cgroup": self.cgroup, "max-services": 4096, "max-endpoints": 4096, "max-flows": 1024,
                      "max-closed-flows": 1024, **{k.replace("_", "-"): v for k, v in flags.items()}}
        self.process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(self.log())
        ended = self.process and self.process.poll() is None
        if ended:
            # A clean end, so that a build with sanitizers can say what leaked.
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        left = self.log()
        subprocess.run(self.command("--unload"), stderr=subprocess.DEVNULL, check=False)
        with contextlib.suppress(OSError):
            os.rmdir(self.cgroup)
        shutil.rmtree(self.home)
        if ended and not kind:
            check(self.process.returncode == 0, f"meshd ended with {self.process.returncode}: {left}")

    def command(self, *more):
        # In a network of its own: the machine's links are not the test's.
        apart = ["unshare", "--net"] if self.apart else []
        return [*apart, f"{BUILD}/meshd", *[f"--{k}={v}" for k, v in self.flags.items()], *more]

    def start(self, env=None, wait=True):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(self.command(), stderr=log, env=os.environ | (env or {}),
                                            preexec_fn=die_with_parent)
        if not wait:
            return
        self.until(lambda: os.path.exists(self.socket) and self.call(VERSION)[0] == 0, "no answer after the start", 20)

    def stop(self, signo=signal.SIGTERM):
        self.process.send_signal(signo)
        return self.process.wait(10)

    def until(self, fn, text, seconds=5):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            check(self.process.poll() is None, f"meshd ended with {self.process.returncode}: {self.log()}")
            with contextlib.suppress(OSError):
                if fn():
                    return
            time.sleep(0.02)
        raise AssertionError(f"{text}: {self.log()}")

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def write(self, name, text):
        with open(f"{self.rules}/{name}", "w") as f:
            f.write(text)

    def connect(self, timeout=30):
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.socket)
        s.settimeout(timeout)
        return s

    @staticmethod
    def read_all(s):
        data = b""
        # Behind the answer there may be a reset, when not all of the request was read.
        with contextlib.suppress(ConnectionResetError):
            while chunk := s.recv(1 << 20):
                data += chunk
        return data

    def raw(self, data, half_close=False):
        with self.connect() as s:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
            return self.read_all(s)

    def call(self, request, /, *files, **parts):
        items = [(b"file:" + n.encode(), t.encode()) for n, t in files]
        for key, value in parts.items():
            for one in value if isinstance(value, list) else [value]:
                items.append((key.replace("_", "-").encode(), one.encode()))
        return parse(self.raw(frame(request, items)))

    def ok(self, request, /, *files, **parts):
        code, out, err = self.call(request, *files, **parts)
        check(code == 0, f"exit {code}: {out}{err}")
        return out

    def status(self):
        return json.loads(self.ok(STATUS, output="json"))

    def epoch(self):
        return self.status()["rules"]["epoch"]

    def names(self, kind="all"):
        return self.ok(GET, kind=kind, output="name").split()

    def resident(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))
