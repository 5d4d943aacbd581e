# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of meshl7's engine are made of: Hand runs the engine by rules of a few lines (rules.h), Origin is a server that does
as it is told, Client says bytes and reads answers. All on loopback, at ports that the kernel chose."""
import os
import re
import resource
import select
import socket
import subprocess
import tempfile
import threading
import time

BUILD = os.environ.get("TULLE_BUILD", "build")
WAIT = 10
# meshl7 in place of workers in the harness; where a test shortens waits, it is the workers all the same.
PROGRAM = os.environ.get("TULLE_L7_PROGRAM") and os.path.abspath(os.environ["TULLE_L7_PROGRAM"])


def free_port():
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(fn, what, seconds=WAIT):
    """Asks again until it is so."""
    deadline = time.monotonic() + seconds
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


class Hand:
    def __init__(self, rules, *options, files=None, stderr=None):
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory(prefix="tulle-l7-")
        self.path = os.path.join(self.folder.name, "rules")
        self.write(rules)
        program = [] if options or not PROGRAM else ["--meshl7", PROGRAM]
        self.process = subprocess.Popen([os.path.join(BUILD, "tests/l7/hand"), str(self.port), self.path, *options, *program],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
                                        preexec_fn=files and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))))
        self.pid = self.process.pid
        if program:
            self.pid = int(self.process.stdout.readline().split()[1])
        line = self.process.stdout.readline()
        assert line == "ready\n", line

    def write(self, rules):
        with open(self.path, "w", encoding="ascii") as f:
            f.write("\n".join(line.strip() for line in rules.strip().splitlines()) + "\n")

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def rules(self, rules):
        self.write(rules)
        assert self.say(f"rules {self.path}") == "applied"

    def counts(self):
        return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", self.say("counts"))}

    def memory_kb(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def cpu_ticks(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def stopped(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "T"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.status = self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.status = "did not end"
        self.process.stdout.close()
        self.folder.cleanup()
        assert self.status == 0, f"hand ended with {self.status}"


class Reader:
    """Messages out of a socket: heads, and bodies by their framing. Strict enough to notice when what was written is none."""

    def __init__(self, sock):
        self.sock = sock
        self.data = b""

    def more(self):
        got = self.sock.recv(65536)
        self.data += got
        return bool(got)

    def line(self):
        while b"\r\n" not in self.data:
            if not self.more():
                raise EOFError(self.data)
        line, self.data = self.data.split(b"\r\n", 1)
        return line

    def exactly(self, n):
        while len(self.data) < n:
            if not self.more():
                raise EOFError(self.data)
        part, self.data = self.data[:n], self.data[n:]
        return part

    def rest(self):
        while self.more():
            pass
        part, self.data = self.data, b""
        return part

    def head(self):
        """(first line, {name: value}); None at the end."""
        if not self.data and not self.more():
            return None
        first, fields = self.line().decode("latin-1"), {}
        while True:
            line = self.line().decode("latin-1")
            if not line:
                return first, fields
            name, value = line.split(":", 1)
            name = name.lower()
            fields[name] = f"{fields[name]},{value.strip()}" if name in fields else value.strip()

    def chunks(self):
        """(body, {trailer: value}, number of chunks)"""
        body, nr = b"", 0
        while True:
            size = int(self.line(), 16)
            if not size:
                break
            body += self.exactly(size)
            nr += 1
            assert self.exactly(2) == b"\r\n"
        trailers = {}
        while True:
            line = self.line().decode("latin-1")
            if not line:
                return body, trailers, nr
            name, value = line.split(":", 1)
            trailers[name.lower()] = value.strip()

    def body(self, fields, close=False):
        self.trailers = {}
        if fields.get("transfer-encoding") == "chunked":
            assert "content-length" not in fields
            data, self.trailers, _ = self.chunks()
            return data
        if "content-length" in fields:
            return self.exactly(int(fields["content-length"]))
        return self.rest() if close else b""


class Request:
    def __init__(self, first, fields, body, trailers, peer):
        self.method, self.target, self.version = first.split(" ")
        self.fields, self.body, self.trailers, self.peer = fields, body, trailers, peer


def ok(body=b"ok", *fields, status="200 OK"):
    lines = "".join(f"{line}\r\n" for line in fields)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


class Origin:
    """Reads whole requests and gives answer(request) for each: bytes, or None to close. `talk(sock, reader)` in its place has the
    connection for itself. What was asked is in `requests`, connections are counted."""

    def __init__(self, answer=lambda request: ok(), talk=None):
        self.answer, self.talk = answer, talk
        self.requests, self.accepted, self.open = [], 0, set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.accepted += 1
                self.open.add(sock)
            threading.Thread(target=self.serve, args=(sock, peer), daemon=True).start()

    def serve(self, sock, peer):
        try:
            reader = Reader(sock)
            if self.talk:
                self.talk(sock, reader)
            else:
                while self.one(sock, reader, peer):
                    pass
        except (OSError, EOFError, ValueError):
            pass
        finally:
            with self.lock:
                self.open.discard(sock)
            sock.close()

    def one(self, sock, reader, peer):
        head = reader.head()
        if not head:
            return False
        if head[1].get("expect") == "100-continue":
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = reader.body(head[1])
        request = Request(head[0], head[1], body, reader.trailers, peer)
        with self.lock:
            self.requests.append(request)
        answer = self.answer(request)
        if answer is None:
            return False
        sock.sendall(answer)
        return b"Connection: close" not in answer and b"HTTP/1.0" not in answer[:9]

    def close_all(self):
        """Ends every connection that is open now."""
        with self.lock:
            for sock in self.open:
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        try:
            self.close_all()
        except OSError:
            pass


class Client:
    def __init__(self, hand, host="127.0.0.1"):
        self.sock = socket.create_connection((host, hand.port if isinstance(hand, Hand) else hand), WAIT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = Reader(self.sock)

    def send(self, data):
        self.sock.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def answer(self, head_only=False):
        """(status, fields, body); interim answers are answers."""
        head = self.reader.head()
        if not head:
            raise EOFError("closed without an answer")
        version, status = head[0].split(" ")[:2]
        assert version == "HTTP/1.1", head[0]
        bodiless = head_only or status[0] == "1" or status in ("204", "304")
        close = head[1].get("connection") == "close"
        return int(status), head[1], b"" if bodiless else self.reader.body(head[1], close)

    def get(self, path="/", *fields, method="GET"):
        lines = "".join(f"{line}\r\n" for line in fields)
        return self.send(f"{method} {path} HTTP/1.1\r\nHost: svc\r\n{lines}\r\n").answer(method == "HEAD")

    def ended(self):
        """The other side has closed, or does so now."""
        try:
            return not self.reader.data and not self.sock.recv(1)
        except ConnectionResetError:
            return True

    def silent(self, seconds=0.05):
        return not self.reader.data and not select.select([self.sock], [], [], seconds)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def cluster(name, *origins, more=""):
    to = ",".join(f"127.0.0.1:{o.port if isinstance(o, Origin) else o}" for o in origins)
    return f"cluster name={name} to={to} {more}".strip()
