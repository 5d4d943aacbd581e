# SPDX-License-Identifier: BSD-2-Clause
"""meshl7 beside nginx, haproxy and Envoy, one worker each: an 80/20 route over two clusters, answers of 1 KB, kept connections on both sides, no
access log; meshl7 with its sandbox and its counters; and a relay that does nothing but copy (relay.c), which no proxy can undercut. All in a network namespace of the bench's own; the proxy is on the first CPU, who drives
the load and who answers it on the other. They take turns, after one each that does not count.

CPU time is what the scheduler has for the proxy's threads: its system calls, and the packets that loopback delivers within these. What the
client's and the server's calls deliver to the proxy's sockets is on their account, whichever proxy it is.

TULLE_BENCH_FIRST, for a machine with other work: turns run before that, and a second is left to it before each. A turn is shorter than a second,
since the kernel stops for 50 ms of that who runs first and never waits."""
import contextlib
import ctypes
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import envoys
import labs
import table
from table import row

MESHL7 = os.path.join(labs.BUILD, "meshl7")
RELAY = os.path.join(labs.BUILD, "tests", "bench", "relay")
CLONE_NEWNET = 0x40000000
FIRST = ["chrt", "-f", "1"] if os.environ.get("TULLE_BENCH_FIRST") else []
TURN = ["timeout", "--preserve-status", "--signal=INT", "0.85"]
ROUNDS, CONNECTIONS = (2, (16, )) if table.QUICK else (11, (1, 16, 128))
IDLE = 10000
ROUTES = 1000
A, B = 19101, 19102
LOOPBACK = ("127.0.0.1", f"127.0.0.1:{A}", f"127.0.0.1:{B}") # where a proxy listens, and what is behind it
PORTS = {"meshl7": 19200, "nginx": 19300, "haproxy": 19400, "envoy": 19500, "meshl7, 1,000 routes": 19600,
         "relay that looks at nothing": 19700}


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    return path


def servers(folder, name, *addresses):
    body = "x" * 1024
    listen = "".join(f"server {{ listen {address} backlog=4096; location / {{ return 200 '{body}'; }} }}\n" for address in addresses)
    return ["nginx", "-e", "/dev/null", "-c", write(folder, f"{name}.conf", f"""daemon off; master_process off; pid {folder}/{name}.pid;
        error_log /dev/null; events {{ worker_connections 4000; }}
        http {{ access_log off; keepalive_requests 1000000000; {listen} }}""")]


def meshl7(folder, name, routes):
    text = f"cluster name=a to=127.0.0.1:{A}\ncluster name=b to=127.0.0.1:{B}\n"
    text += "".join(f"route path=/never/{i} to=a\n" for i in range(routes - 1)) + "route to=a:80,b:20\n"
    path = write(folder, f"rules{routes}", text)
    return [os.path.join(labs.BUILD, "tests", "l7", "hand"), str(PORTS[name]), path, "--meshl7", MESHL7]


def nginx(folder, here, a, b):
    return ["nginx", "-e", "/dev/null", "-c", write(folder, "nginx.conf", f"""daemon off; master_process off; pid {folder}/n.pid;
        error_log /dev/null; events {{ worker_connections 14000; }}
        http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
        upstream a {{ server {a}; keepalive 256; keepalive_requests 1000000000; }}
        upstream b {{ server {b}; keepalive 256; keepalive_requests 1000000000; }}
        split_clients $request_id $to {{ 80% a; * b; }}
        server {{ listen {here}:{PORTS["nginx"]} backlog=4096; location / {{ proxy_pass http://$to; proxy_http_version 1.1;
        proxy_set_header Connection ""; proxy_set_header Host $host; }} }} }}""")]


def haproxy(folder, here, a, b):
    return ["haproxy", "-q", "-f", write(folder, "haproxy.cfg", f"""global
 maxconn 14000
 no strict-limits
 nbthread 1
defaults
 mode http
 timeout connect 5s
 timeout client 1h
 timeout server 1h
 http-reuse always
frontend f
 bind {here}:{PORTS["haproxy"]} backlog 4096
 use_backend b if {{ rand(100) lt 20 }}
 default_backend a
backend a
 server s {a}
backend b
 server s {b}
""")]


def envoy(folder, here, a, b):
    cluster = ("{{name: {0}, type: STATIC, connect_timeout: 5s, load_assignment: {{cluster_name: {0}, endpoints: [{{lb_endpoints: [{{endpoint: "
               "{{address: {{socket_address: {{address: {1}, port_value: {2}}}}}}}}}]}}]}}}}")
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "envoy.extensions.filters.http.router.v3.Router"
    return [envoys.program(), "--concurrency", "1", "-l", "off", "--use-dynamic-base-id", "-c", write(folder, "envoy.yaml", f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: {here}, port_value: {PORTS["envoy"]}}}}}
    filter_chains:
    - filters:
      - name: m
        typed_config:
          "@type": type.googleapis.com/{manager}
          stat_prefix: s
          route_config: {{virtual_hosts: [{{name: v, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{weighted_clusters: {{clusters:
            [{{name: a, weight: 80}}, {{name: b, weight: 20}}]}}}}}}]}}]}}
          http_filters: [{{name: r, typed_config: {{"@type": type.googleapis.com/{router}}}}}]
  clusters: [{cluster.format("a", *a.split(":"))}, {cluster.format("b", *b.split(":"))}]
""")]


class Proxy:
    def __init__(self, name, command, cpu):
        self.name, self.port, self.results = name, PORTS.get(name, A), {}
        self.process = subprocess.Popen([*FIRST, "taskset", "-c", str(cpu), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        # The first line of what starts meshl7 says which process that is.
        self.pid = int(self.process.stdout.readline().split()[1]) if MESHL7 in command else self.process.pid
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.end()
        raise RuntimeError(f"{name} does not listen")

    def cpu_ns(self):
        """On a CPU until now, all threads."""
        total, folder = 0, f"/proc/{self.pid}/task"
        for task in os.listdir(folder):
            with open(f"{folder}/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        return total

    def memory_kb(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def wrk(self, connections):
        return [*FIRST, *TURN, "taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", "-d2", "--latency", f"http://127.0.0.1:{self.port}/"]

    def load(self, connections):
        """(requests per CPU second, p50 in us, p99 in us)"""
        before = self.cpu_ns()
        if FIRST:
            time.sleep(1)
        done = subprocess.run(self.wrk(connections), capture_output=True, text=True, check=True, timeout=60)
        spent = self.cpu_ns() - before
        if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
            raise RuntimeError(f"{self.name}: {done.stdout}")
        requests = int(re.search(r"(\d+) requests in", done.stdout)[1])
        units = {"us": 1, "ms": 1000, "s": 1e6}
        times = [float(v) * units[u] for v, u in (re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", done.stdout).groups() for p in (50, 99))]
        return requests / (spent / 1e9), *times

    def end(self):
        """The end of its input is what ends meshl7 with who started it."""
        self.process.stdin.close()
        if self.pid == self.process.pid:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def idle(proxy):
    """Bytes for each of IDLE connections that have been answered once and wait."""
    before, socks = proxy.memory_kb(), []
    try:
        for i in range(IDLE):
            s = socket.create_connection(("127.0.0.1", proxy.port))
            s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            socks.append(s)
            if i % 50 == 49:
                for waiting in socks[-50:]:
                    waiting.recv(65536)
        after = proxy.memory_kb()
    finally:
        for s in socks:
            s.close()
    row(f"resident memory of {proxy.name}, idle", "KB", before)
    row(f"resident memory of {proxy.name}, {IDLE} idle connections", "KB", after, note=f"{(after - before) * 1024 / IDLE:.0f} bytes for each")


def compared(first, proxies, connections, k, unit, what):
    """A row for each: the k-th of its results."""
    mine = [r[k] for r in first.results[connections]]
    name = f"%s{what}, {connections} connection{'s' * (connections > 1)}"
    for p in proxies:
        values = [r[k] for r in p.results[connections]]
        ratios = [a / b for a, b in zip(mine, values)]
        other = p is not first
        row(name % p.name, unit, statistics.median(values), [min(values), max(values)], name % first.name if other else None,
            statistics.median(ratios) if other else None,
            "meshl7's to it; quartiles {0:.2f} {2:.2f}".format(*statistics.quantiles(ratios, n=4)) if other else "")


def take_turns(proxies):
    for connections in CONNECTIONS:
        for p in proxies:
            p.load(connections)
        for i in range(ROUNDS):
            for p in proxies if i % 2 else proxies[::-1]:
                p.results.setdefault(connections, []).append(p.load(connections))
        compared(proxies[0], proxies, connections, 0, "req/CPUs", "")
        compared(proxies[0], proxies, connections, 1, "us", ", p50")
        compared(proxies[0], proxies, connections, 2, "us", ", p99")


@contextlib.contextmanager
def own_network():
    """Where nobody else's traffic, filters and settings are."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        labs.run("ip", "link", "set", "lo", "up")
        labs.run("sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")
        yield
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)


def measure():
    missing = [p for p in ("nginx", "haproxy", "wrk", "taskset") if not shutil.which(p)]
    if missing:
        return row("meshl7 beside others", "req/CPUs", None, note=f"not installed: {' '.join(missing)}")
    with own_network(), tempfile.TemporaryDirectory(prefix="tulle-bench-") as folder:
        started = []
        try:
            started.append(Proxy("servers", servers(folder, "servers", *LOOPBACK[1:]), 1))
            known = {"meshl7": meshl7(folder, "meshl7", 1), "nginx": nginx(folder, *LOOPBACK), "haproxy": haproxy(folder, *LOOPBACK),
                     "meshl7, 1,000 routes": meshl7(folder, "meshl7, 1,000 routes", ROUTES),
                     "relay that looks at nothing": [RELAY, str(PORTS["relay that looks at nothing"]), LOOPBACK[1]]}
            if envoys.installed():
                known["envoy"] = envoy(folder, *LOOPBACK)
            else:
                row("envoy", "req/CPUs", None, note="not installed")
            for name, command in known.items():
                started.append(Proxy(name, command, 0))
            take_turns(started[1:])
            for p in started[1:]:
                if p.name in ("meshl7", "nginx", "haproxy", "envoy"):
                    idle(p)
        finally:
            for p in started:
                p.end()
    return None


if __name__ == "__main__":
    sys.exit("run it as: tests/bench/run --l7")
