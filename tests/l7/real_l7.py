#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The engine between clients and servers that others have written, and with many connections at once."""
import http.server
import os
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import threading

from hands import Client, Hand, Origin, cluster, free_port, ok, until
from suite import Skip, check, main, test

IDLE = 10000


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, **more)
    check(done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stderr.decode()[-300:]}")
    return done.stdout


def listening(port):
    def ask():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False
    until(ask, f"somebody listens at {port}")


class Started:
    """A server program that listens at `port`."""

    def __init__(self, port, *command):
        self.port = port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        listening(self.port)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)


def nginx(folder, port):
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write(f"daemon off; master_process off; pid {folder}/pid; error_log /dev/null;\n"
                "events { worker_connections 2000; }\n"
                f"http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {folder}/body; "
                f"proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; "
                f"server {{ listen 127.0.0.1:{port} backlog=2048; root {folder}; gzip on; gzip_min_length 100; "
                "location /text { return 200 'small text'; } } }\n")
    return Started(port, "nginx", "-c", path, "-e", "/dev/null")


@test
def curl_and_nginx():
    need("curl", "nginx")
    with tempfile.TemporaryDirectory(prefix="tulle-l7-") as folder:
        data = os.urandom(5_000_000)
        with open(os.path.join(folder, "big"), "wb") as f:
            f.write(data)
        with open(os.path.join(folder, "page.html"), "w", encoding="ascii") as f:
            f.write("<p>text</p>" * 5000)
        with nginx(folder, free_port()) as server, Hand(f"{cluster('a', server.port)}\nroute to=a") as h:
            base = f"http://127.0.0.1:{h.port}"
            check(run("curl", "-sf", f"{base}/big") == data, "a large file")
            check(run("curl", "-sf", "-r", "100-199", f"{base}/big") == data[100:200], "a part of it")
            check(run("curl", "-sf", "--compressed", f"{base}/page.html") == b"<p>text</p>" * 5000, "gzip, in chunks")
            check(run("curl", "-sf", "--http1.0", f"{base}/big") == data, "HTTP/1.0")
            check(b"200 OK" in run("curl", "-sfI", f"{base}/big"), "HEAD")
            out = run("curl", "-sf", "-w", "%{num_connects} ", *[f"{base}/text"] * 5)
            check(out.startswith(b"small text1 small text0 "), "one connection")


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST

    def log_message(self, *_):
        pass


@test
def curl_and_python():
    need("curl")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    data = os.urandom(3_000_000)
    try:
        with Hand(f"{cluster('a', server.server_port)}\nroute to=a") as h:
            base = f"http://127.0.0.1:{h.port}/"
            check(run("curl", "-sf", "--data-binary", "@-", base, input=data) == data, "POST that expects 100")
            check(run("curl", "-sf", "-T", "-", base, input=data) == data, "PUT in chunks")
            check(run("curl", "-sf", "-d", "x=1", base, base) == b"x=1x=1", "small ones")
    finally:
        server.shutdown()
        server.server_close()


NODE = """
const http = require('http');
const [port, proxy] = process.argv.slice(1).map(Number);
const server = http.createServer((q, r) => {
  if (q.url === '/trailers') { r.writeHead(200, {Trailer: 'X-End'}); r.write('a'); r.addTrailers({'X-End': 'yes'}); r.end('b'); return; }
  q.pipe(r);
}).listen(port, '127.0.0.1', async () => {
  const agent = new http.Agent({keepAlive: true, maxSockets: 8});
  const ask = (path, body) => new Promise((done, fail) => {
    const q = http.request({host: '127.0.0.1', port: proxy, path, method: 'POST', agent}, r => {
      const parts = []; r.on('data', d => parts.push(d)); r.on('end', () => done([Buffer.concat(parts), r.trailers]));
      r.on('error', fail); });
    q.on('error', fail); q.write(body.subarray(0, 1000)); setImmediate(() => q.end(body.subarray(1000))); });
  const jobs = [];
  for (let i = 1; i <= 200; i++) { const body = require('crypto').randomBytes(i * 997); jobs.push(ask('/', body).then(([got]) => got.equals(body))); }
  const all = await Promise.all(jobs);
  const [text, trailers] = await ask('/trailers', Buffer.from('x'));
  console.log(all.every(x => x) && text.toString() === 'ab' && trailers['x-end'] === 'yes' ? 'good' : 'bad');
  process.exit();
});
"""


@test
def node_both_ways():
    need("node")
    port = free_port()
    with Hand(f"{cluster('a', port)}\nroute to=a") as h:
        check(run("node", "-e", NODE, str(port), str(h.port)) == b"good\n", "bodies are echoed, trailers come")


@test
def load_without_errors():
    need("wrk", "h2load", "nginx")
    with tempfile.TemporaryDirectory(prefix="tulle-l7-") as folder, nginx(folder, free_port()) as server, \
            Hand(f"{cluster('a', server.port)}\nroute to=a", "--workers", "2") as h:
        base = f"http://127.0.0.1:{h.port}/text"
        out = run("wrk", "-t1", "-c50", "-d2", base).decode()
        check("Socket errors" not in out and "Non-2xx" not in out, out)
        out = run("h2load", "--h1", "-n20000", "-c100", "-m4", base).decode()
        check(re.search(r"20000 total, .* 20000 succeeded, 0 failed, 0 errored, 0 timeout", out), out)
        until(lambda: h.counts()["open"] == 0, "all are closed")
        check(h.counts()["active"] == 0, "nothing hangs")


def allow_files(nr):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= nr:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (nr, max(nr, hard)))
    except (OSError, ValueError) as e:
        raise Skip(f"no {nr} open files: {e}") from e


@test
def idle_connections_take_little():
    allow_files(IDLE + 1000)
    with Origin(lambda r: ok(b"x" * 1000)) as o, Hand(f"{cluster('a', o)}\nroute to=a") as h:
        with Client(h) as c:
            check(c.get()[0] == 200, "it serves")
        check(h.memory_kb() <= 5 * 1024, f"{h.memory_kb()} KiB when it is idle")
        before, socks = h.memory_kb(), []
        try:
            for i in range(IDLE):
                s = socket.create_connection(("127.0.0.1", h.port))
                socks.append(s)
                s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                if i % 100 == 99:
                    for waiting in socks[-100:]:
                        check(waiting.recv(4096).startswith(b"HTTP/1.1 200"), "answered")
            check(h.counts()["open"] == IDLE, "all are open")
            more = h.memory_kb() - before
            check(more * 1024 / IDLE <= 330, f"{more * 1024 / IDLE:.0f} bytes for each")
            print(f"idle connections: {before} KiB before, {more * 1024 / IDLE:.0f} bytes for each")
        finally:
            for s in socks:
                s.close()
        until(lambda: h.counts()["open"] == 0, "all are gone", 20)


main()
