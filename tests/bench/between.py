# SPDX-License-Identifier: BSD-2-Clause
"""What two pods of a node say to each other over connections that are kept: through the mesh, as far as it accelerates by itself, against
two pods that it has no program at, a socket of the file system, and the hops of proxies. All take turns within one run."""
import os
import shutil
import statistics
import subprocess
import time
import types

import accel
import labs
import peers
from table import QUICK, Clients, row

RTT = os.path.join(labs.BUILD, "tests", "bench", "rtt")
DIRECT, MESH, UNIX, ALONE = "direct", "mesh", "AF_UNIX", "a redirect alone"
OUTSIDE_DIRECT, OUTSIDE_MESH = "direct to outside", "mesh to outside"
ROUNDS, ROUND_MS = (3, 100) if QUICK else (9, 200)
IPS = {"client": "10.244.1.1", "server": "10.244.1.2", "bare-client": "10.244.1.3", "bare-server": "10.244.1.4", "bare-proxy": "10.244.1.5"}
VIP, OUTSIDE_VIP, OUTSIDE = "10.96.0.1", "10.96.0.2", "172.31.0.250"
ECHO, SINK, REDIS, HAPROXY, NGINX = 9000, 9001, 6379, 7000, 7001
REQUESTS = (64, 1024, 2048, 4096, 16384, 65536)
WRITES = (64, 256, 1024, 4096, 16384, 65536, 262144, 1 << 20)


def rules():
    services = [peers.service(name, [vip], [(f"p{port}", port, port) for port in (ECHO, SINK, REDIS)])
                for name, vip in (("server", VIP), ("outside", OUTSIDE_VIP))]
    ports = [(f"p{port}", port) for port in (ECHO, SINK, REDIS)]
    return services + [peers.endpoints("server", [IPS["server"]], ports), peers.endpoints("outside", [OUTSIDE], ports)]


class Turns:
    """Programs of a node that take turns; each is one or more processes, whose time on a CPU counts."""

    def __init__(self, lab):
        self.lab, self.clients = lab, Clients(lab)
        self.servers = {}

    def argv(self, pod, cpu, *command):
        command = ("taskset", "-c", str(cpu), *command)
        return self.lab.in_pod(pod, *command) if pod in ("client", "server") else self.clients.outside(pod, *command)

    def serve(self, pod, cpu, verb, where):
        """A server on a CPU; started once."""
        key = (pod, cpu, verb)
        if key not in self.servers:
            child = self.lab.spawn(self.argv(pod, cpu, RTT, verb, where))
            assert child.stdout.readline() == "ready\n"
            self.servers[key] = child
        return self.servers[key]

    def client(self, pod, cpu, verb, target):
        return self.lab.spawn(self.argv(pod, cpu, RTT, verb, target))

    def alone(self, cpu):
        """Both ends of a connection past TCP that nobody watches, on a CPU: client and server."""
        child = self.lab.spawn(self.argv("bare-client", cpu, RTT, "alone"))
        return [child, types.SimpleNamespace(pid=int(child.stdout.readline()))]

    def end(self):
        for child in self.lab.children:
            child.kill()
            child.wait()
        self.lab.children.clear()
        self.servers.clear()


def on_cpu(processes):
    """Nanoseconds."""
    total = 0
    for process in processes:
        with open(f"/proc/{process.pid}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total


def told(child, size):
    child.stdin.write(f"{size} {ROUND_MS}\n")
    child.stdin.flush()
    return [int(word) for word in child.stdout.readline().split()]


def rounds_of(labels, turn):
    """What each label's turn gave in each round; whoever begins changes."""
    labels, seen = list(labels), []
    for i in range(ROUNDS):
        order = labels[i % len(labels):] + labels[:i % len(labels)]
        seen.append({label: turn(label) for label in order})
    return seen


def rows(name, unit, seen, key, against, note=""):
    """A row a label: median, and of the rounds' ratios to what it is held against."""
    for label in seen[0]:
        values = [r[label][key] for r in seen]
        ratio = quartiles = None
        if against.get(label):
            ratios = [r[label][key] / r[against[label]][key] for r in seen]
            ratio = statistics.median(ratios)
            low, _, high = statistics.quantiles(ratios, n=4)
            quartiles = f"quartiles of the ratio {low:.3f} {high:.3f}{note}"
        row(f"{name}, {label}", unit, statistics.median(values), [min(values), max(values)],
            f"{name}, {against[label]}" if ratio else None, ratio, quartiles or note)


# ---- requests and answers ----

def proxies(turns, cpu):
    """Starts those that are installed, on a CPU; their ports by label."""
    lab, found = turns.lab, {}
    to = f"{IPS['bare-server']}:{ECHO}"
    if shutil.which("haproxy"):
        path = os.path.join(lab.folder.name, "haproxy.cfg")
        with open(path, "w", encoding="utf-8") as f:
            f.write("global\n nbthread 1\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
                    f"listen l\n bind 0.0.0.0:{HAPROXY}\n server s {to}\n")
        found["haproxy"] = HAPROXY, lab.spawn(turns.argv("bare-proxy", cpu, "haproxy", "-q", "-db", "-f", path))
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    if shutil.which("nginx") and os.path.exists(module):
        path = os.path.join(lab.folder.name, "nginx.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"load_module {module};\ndaemon off;\nmaster_process off;\npid {path}.pid;\nerror_log /dev/null;\n"
                    "events { worker_connections 64; }\nstream { tcp_nodelay on; proxy_timeout 1h; server { "
                    f"listen {NGINX}; proxy_pass {to}; }} }}\n")
        found["nginx stream"] = NGINX, lab.spawn(turns.argv("bare-proxy", cpu, "nginx", "-c", path, "-e", "/dev/null"))
    for label in {"haproxy", "nginx stream"} - set(found):
        row(f"request/response, {label}", "us", None, note="not installed")
    deadline = time.monotonic() + 10
    for label, (port, _) in found.items():
        while not labs.run(*turns.clients.outside("bare-proxy", "ss", "-Hltn", f"sport = :{port}")).strip():
            assert time.monotonic() < deadline, f"{label} does not listen"
            time.sleep(0.02)
    return found


def requests(turns, cpus, name):
    here, there = cpus
    path = os.path.join(turns.lab.folder.name, f"echo-{name}")
    servers = {MESH: turns.serve("server", there, "serve", ECHO), DIRECT: turns.serve("bare-server", there, "serve", ECHO),
               UNIX: turns.serve("bare-proxy", there, "serve", path)}
    ends = {DIRECT: [turns.client("bare-client", here, "ask", peers.target(IPS["bare-server"], ECHO)), servers[DIRECT]],
            MESH: [turns.client("client", here, "ask", peers.target(VIP, ECHO)), servers[MESH]],
            UNIX: [turns.client("bare-client", here, "ask", path), servers[UNIX]]}
    if here == there:
        ends[ALONE] = turns.alone(here)
    for label, (port, proxy) in proxies(turns, there).items():
        ends[label] = [turns.client("bare-client", here, "ask", peers.target(IPS["bare-proxy"], port)), proxy, servers[DIRECT]]

    def turn(label, size):
        before = on_cpu(ends[label])
        nr, _, p50, p99 = told(ends[label][0], size)
        return {"p50": p50 / 1000, "p99": p99 / 1000, "cpu": (on_cpu(ends[label]) - before) / nr / 1000}

    against = {label: DIRECT for label in ends if label != DIRECT}
    for size in REQUESTS[::3] if QUICK else REQUESTS:
        seen = rounds_of(ends, lambda label: turn(label, size)) # pylint: disable=cell-var-from-loop
        for key, unit in (("p50", "us"), ("p99", "us"), ("cpu", "us CPU")):
            rows(f"request/response {size} B, {name}, {key}", unit, seen, key, against)
        if size == 64:
            for label in (MESH, ALONE) if ALONE in ends else (MESH, ):
                ratios = [r[label]["p50"] / r[UNIX]["p50"] for r in seen]
                row(f"request/response 64 B, {name}, {label} against AF_UNIX", "us", statistics.median(r[label]["p50"] for r in seen), None,
                    f"request/response 64 B, {name}, p50, {UNIX}", statistics.median(ratios))
    turns.end()


# ---- streams ----

def streams(turns):
    turns.serve("server", 1, "sink", SINK)
    turns.serve("bare-server", 1, "sink", SINK)
    ends = {DIRECT: turns.client("bare-client", 0, "pour", peers.target(IPS["bare-server"], SINK)),
            MESH: turns.client("client", 0, "pour", peers.target(VIP, SINK))}

    def turn(label, size):
        sent, ns = told(ends[label], size)
        return {"rate": sent * 1000 / ns}

    for size in WRITES[::3] if QUICK else WRITES:
        seen = rounds_of(ends, lambda label: turn(label, size)) # pylint: disable=cell-var-from-loop
        rows(f"bulk, writes of {size} B", "MB/s", seen, "rate", {MESH: DIRECT})
    turns.end()


def outside(turns):
    """A peer that is no pod of the node: there is nothing to accelerate, and it should cost nothing."""
    with subprocess.Popen([labs.TOOL, "exec", "--name", turns.lab.name, "@outside", "--", "taskset", "-c", "1", RTT, "serve", str(ECHO)],
                          stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == "ready\n"
            ends = {OUTSIDE_DIRECT: turns.client("bare-client", 0, "ask", peers.target(OUTSIDE, ECHO)),
                    OUTSIDE_MESH: turns.client("client", 0, "ask", peers.target(OUTSIDE_VIP, ECHO))}

            def turn(label, size):
                nr, ns, _, _ = told(ends[label], size)
                return {"rate": nr * 1e9 / ns}

            for size in (64, 16384):
                seen = rounds_of(ends, lambda label: turn(label, size)) # pylint: disable=cell-var-from-loop
                rows(f"request/response {size} B, peer outside the node", "1/s", seen, "rate", {OUTSIDE_MESH: OUTSIDE_DIRECT})
        finally:
            turns.end()
            server.kill()


# ---- redis ----

def redis(turns):
    if not (shutil.which("redis-server") and shutil.which("redis-benchmark")):
        row("redis-benchmark", "1/s", None, note="not installed")
        return
    for pod in ("server", "bare-server"):
        turns.lab.spawn(turns.argv(pod, "0,1", "redis-server", "--port", REDIS, "--bind", "0.0.0.0", "--save", "", "--protected-mode", "no"),
                        stdout=subprocess.DEVNULL)
        while not labs.run(*turns.clients.outside(pod, "ss", "-Hltn", f"sport = :{REDIS}")).strip():
            time.sleep(0.02)
    targets = {DIRECT: ("bare-client", IPS["bare-server"]), MESH: ("client", VIP)}

    def turn(label, size):
        pod, ip = targets[label]
        out = labs.run(*turns.argv(pod, "0,1", "redis-benchmark", "-h", ip, "-p", REDIS, "-c", 50, "-n", 20000 if QUICK else 60000,
                                   "-d", size, "-t", "get", "--csv"))
        return {"rate": float(out.splitlines()[-1].split(",")[1].strip('"'))}

    for size in (64, 1024):
        seen = rounds_of(targets, lambda label: turn(label, size)) # pylint: disable=cell-var-from-loop
        rows(f"redis-benchmark, 50 clients, GET of {size} B", "1/s", seen, "rate", {MESH: DIRECT})
    turns.end()


def measure(leave_out):
    with peers.PeerLab([peers.pod(name, [ip]) for name, ip in IPS.items()]) as lab:
        leave_out(lab)
        turns = Turns(lab)
        for name in IPS:
            labs.run(*turns.clients.outside(name, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"))
        lab.tool("exec", "@outside", "--", "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno")
        mode = accel.mesh_modes()[-1]
        lab.mesh("--log-level", "warn", *accel.accelerate(mode))
        accel.await_self_test(lab, mode)
        lab.apply(texts=[peers.text(rules())])
        print("accelerate:", mode)
        print("congestion control:", labs.run(*turns.clients.outside("client", "sysctl", "-n", "net.ipv4.tcp_congestion_control")).strip())
        for cpus, name in (((0, 0), "one CPU"), ((0, 1), "two CPUs")):
            requests(turns, cpus, name)
        streams(turns)
        outside(turns)
        redis(turns)
