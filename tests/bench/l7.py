# SPDX-License-Identifier: BSD-2-Clause
"""meshl7's engine beside nginx, haproxy and Envoy, one worker each, on loopback: an 80/20 route over two clusters, answers of 1 KB, kept
connections on both sides. They take turns within one run. What counts is requests per second of the proxy's own CPU time: who drives the
load and who answers it are on the other CPU."""
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import labs
import table
from table import row

ENVOY = os.environ.get("ENVOY", "/opt/envoy/envoy/_bin/envoy")
SECONDS, ROUNDS, CONNECTIONS = (1, 2, (16, )) if table.QUICK else (3, 5, (1, 16, 128))
IDLE = 10000
ROUTES = 1000
A, B = 19101, 19102
PORTS = {"meshl7": 19200, "nginx": 19300, "haproxy": 19400, "envoy": 19500, "meshl7, 1,000 routes": 19600}


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    return path


def servers(folder):
    body = "x" * 1024
    listen = "".join(f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{body}'; }} }}\n" for port in (A, B))
    return ["nginx", "-e", "/dev/null", "-c", write(folder, "servers.conf", f"""daemon off; master_process off; pid {folder}/s.pid;
        error_log /dev/null; events {{ worker_connections 4000; }}
        http {{ access_log off; keepalive_requests 1000000000; {listen} }}""")]


def meshl7(folder, name, routes):
    text = f"cluster name=a to=127.0.0.1:{A}\ncluster name=b to=127.0.0.1:{B}\n"
    text += "".join(f"route path=/never/{i} to=a\n" for i in range(routes - 1)) + "route to=a:80,b:20\n"
    path = write(folder, f"rules{routes}", text)
    return [os.path.join(labs.BUILD, "tests", "l7", "hand"), str(PORTS[name]), path]


def nginx(folder):
    return ["nginx", "-e", "/dev/null", "-c", write(folder, "nginx.conf", f"""daemon off; master_process off; pid {folder}/n.pid;
        error_log /dev/null; events {{ worker_connections 14000; }}
        http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
        upstream a {{ server 127.0.0.1:{A}; keepalive 256; keepalive_requests 1000000000; }}
        upstream b {{ server 127.0.0.1:{B}; keepalive 256; keepalive_requests 1000000000; }}
        split_clients $request_id $to {{ 80% a; * b; }}
        server {{ listen 127.0.0.1:{PORTS["nginx"]} backlog=4096; location / {{ proxy_pass http://$to; proxy_http_version 1.1;
        proxy_set_header Connection ""; proxy_set_header Host $host; }} }} }}""")]


def haproxy(folder):
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
 bind 127.0.0.1:{PORTS["haproxy"]} backlog 4096
 use_backend b if {{ rand(100) lt 20 }}
 default_backend a
backend a
 server s 127.0.0.1:{A}
backend b
 server s 127.0.0.1:{B}
""")]


def envoy(folder):
    cluster = ("{{name: {0}, type: STATIC, connect_timeout: 5s, load_assignment: {{cluster_name: {0}, endpoints: [{{lb_endpoints: [{{endpoint: "
               "{{address: {{socket_address: {{address: 127.0.0.1, port_value: {1}}}}}}}}}]}}]}}}}")
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "envoy.extensions.filters.http.router.v3.Router"
    return [ENVOY, "--concurrency", "1", "-l", "off", "--use-dynamic-base-id", "-c", write(folder, "envoy.yaml", f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {PORTS["envoy"]}}}}}
    filter_chains:
    - filters:
      - name: m
        typed_config:
          "@type": type.googleapis.com/{manager}
          stat_prefix: s
          route_config: {{virtual_hosts: [{{name: v, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{weighted_clusters: {{clusters:
            [{{name: a, weight: 80}}, {{name: b, weight: 20}}]}}}}}}]}}]}}
          http_filters: [{{name: r, typed_config: {{"@type": type.googleapis.com/{router}}}}}]
  clusters: [{cluster.format("a", A)}, {cluster.format("b", B)}]
""")]


class Proxy:
    def __init__(self, name, command, cpu):
        self.name, self.port = name, PORTS.get(name, A)
        self.process = subprocess.Popen(["taskset", "-c", str(cpu), *command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        self.results = {}
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
        total, folder = 0, f"/proc/{self.process.pid}/task"
        for task in os.listdir(folder):
            with open(f"{folder}/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        return total

    def memory_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def load(self, connections):
        """(requests per CPU second, p50 in us, p99 in us)"""
        before = self.cpu_ns()
        done = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", "--latency",
                               f"http://127.0.0.1:{self.port}/"], capture_output=True, text=True, check=True, timeout=60)
        spent = self.cpu_ns() - before
        if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
            raise RuntimeError(f"{self.name}: {done.stdout}")
        requests = int(re.search(r"(\d+) requests in", done.stdout)[1])
        units = {"us": 1, "ms": 1000, "s": 1e6}
        times = [float(v) * units[u] for v, u in (re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", done.stdout).groups() for p in (50, 99))]
        return requests / (spent / 1e9), *times

    def end(self):
        self.process.kill()
        self.process.wait()


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


def report(proxies, first):
    for connections in CONNECTIONS:
        base = [r[0] for r in first.results[connections]]
        for p in proxies:
            rates = [r[0] for r in p.results[connections]]
            p50, p99 = (statistics.median(r[k] for r in p.results[connections]) for k in (1, 2))
            ratio = statistics.median(mine / other for mine, other in zip(base, rates))
            row(f"{p.name}, {connections} connections", "req/CPUs", statistics.median(rates), [min(rates), max(rates)],
                None if p is first else f"meshl7, {connections} connections", None if p is first else ratio,
                f"p50 {p50:,.0f} us, p99 {p99:,.0f} us" + ("" if p is first else "; the ratio is meshl7's to it"))


def measure():
    missing = [p for p in ("nginx", "haproxy", "wrk", "taskset") if not shutil.which(p)]
    if missing:
        return row("meshl7 beside others", "req/CPUs", None, note=f"not installed: {' '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="tulle-bench-") as folder:
        started = []
        try:
            started.append(Proxy("servers", servers(folder), 1))
            known = {"meshl7": meshl7(folder, "meshl7", 1), "nginx": nginx(folder), "haproxy": haproxy(folder),
                     "meshl7, 1,000 routes": meshl7(folder, "meshl7, 1,000 routes", ROUTES)}
            if os.path.exists(ENVOY):
                known["envoy"] = envoy(folder)
            else:
                row("envoy", "req/CPUs", None, note=f"there is no {ENVOY}")
            for name, command in known.items():
                started.append(Proxy(name, command, 0))
            proxies = started[1:]
            for connections in CONNECTIONS:
                for i in range(ROUNDS):
                    order = proxies if i % 2 else proxies[::-1]
                    for p in order:
                        p.results.setdefault(connections, []).append(p.load(connections))
            report(proxies, proxies[0])
            for p in proxies:
                if p.name in ("meshl7", "nginx", "haproxy", "envoy"):
                    idle(p)
        finally:
            for p in started:
                p.end()
    return None


if __name__ == "__main__":
    sys.exit("run it as: tests/bench/run --l7")
