# SPDX-License-Identifier: BSD-2-Clause
"""The table of a bench, its clients, and how they are compared: in turn, within one run."""
import contextlib
import json
import os
import statistics
import sys

import labs
import peers

QUICK = "--quick" in sys.argv
ROUNDS, ROUND_MS = (3, 200) if QUICK else (15, 500)
RR, OPS, FLOOR = (os.path.join(labs.BUILD, "tests", "bench", name) for name in ("rr", "ops", "floor"))
ROWS = []


def row(name, unit, value, spread=None, relative_to=None, ratio=None, note=""):
    ROWS.append({"name": name, "unit": unit, "value": value, "spread": spread, "relative_to": relative_to, "ratio": ratio,
                 "note": note})
    shown = f"{value:,.4g}" if isinstance(value, float) and value < 100 else f"{value:,.0f}" if value is not None else "-"
    print(f"{name:<46} {shown:>12} {unit:<8} {'x%.3f' % ratio if ratio else '':<8} "
          f"{'[%.4g, %.4g]' % tuple(spread) if spread else '':<22} {note}", flush=True)


def ops(*args, within=()):
    return json.loads(labs.run(*within, OPS, *map(str, args), timeout=600))


class Clients:
    """rr clients that wait for their turn."""

    def __init__(self, lab):
        self.lab, self.node_cgroup = lab, os.path.join(os.path.dirname(lab.record["cgroup"]), "node")

    def outside(self, pod, *argv):
        """In the pod's network, not in the mesh's cgroup."""
        return [peers.PODEXEC, "-c", self.node_cgroup, "-N", self.lab.by_name[pod]["netns"], "--", *map(str, argv)]

    def client(self, pod, target, threads, meshed):
        argv = (RR, "client", target, threads)
        return self.lab.spawn(self.lab.in_pod(pod, *argv) if meshed else self.outside(pod, *argv))

    def bulk(self, pod, target):
        return self.lab.spawn(self.lab.in_pod(pod, RR, "bulk", target))

    def server(self, pod, port, meshed, kind="serve"):
        argv = (RR, kind, port)
        child = self.lab.spawn(self.lab.in_pod(pod, *argv) if meshed else self.outside(pod, *argv))
        assert child.stdout.readline() == "ready\n"


def rate(child):
    child.stdin.write(f"{ROUND_MS}\n")
    child.stdin.flush()
    connections, ns, failures, cpu = map(int, child.stdout.readline().split())
    if failures:
        raise RuntimeError(f"{failures} of {connections} connections failed")
    return connections * 1e9 / ns, cpu / max(connections, 1)


def compare(name, plain, other, against):
    """Alternates, the order swapped each round; medians of the rates and of the rounds' ratios."""
    rate(plain), rate(other)
    rates, ratios, cpu = ([], []), [], ([], [])
    for i in range(ROUNDS):
        first, second = (plain, other) if i % 2 else (other, plain)
        got = {first: rate(first), second: rate(second)}
        for side, child in enumerate((plain, other)):
            rates[side].append(got[child][0])
            cpu[side].append(got[child][1])
        ratios.append(got[other][0] / got[plain][0])
    quartiles = statistics.quantiles(ratios, n=4)
    cpu_text = "client CPU a connection {:.1f} us, against {:.1f}".format(*(statistics.median(c) / 1000 for c in reversed(cpu)))
    row(f"{name}, {against}", "conn/s", statistics.median(rates[0]), [min(rates[0]), max(rates[0])])
    row(name, "conn/s", statistics.median(rates[1]), [min(rates[1]), max(rates[1])], f"{name}, {against}",
        statistics.median(ratios), f"quartiles of the ratio {quartiles[0]:.3f} {quartiles[2]:.3f}; {cpu_text}")
    for child in (plain, other):
        child.stdin.close()
        child.wait()


@contextlib.contextmanager
def program_statistics():
    """The kernel's own, which cost something themselves: two clock reads a run."""
    before = labs.run("sysctl", "-n", "kernel.bpf_stats_enabled").strip()
    labs.run("sysctl", "-qw", "kernel.bpf_stats_enabled=1")
    try:
        yield
    finally:
        labs.run("sysctl", "-qw", f"kernel.bpf_stats_enabled={before}")


def programs(lab):
    """{program: what the kernel says of it}, nanoseconds and runs among that."""
    return {p["name"]: p for p in ops("programs", lab.path("bpf", "tulle", "mesh_counters"))}


def program_costs(lab, clients, target):
    """Of each program while connections are made: what the kernel says of it, and {program: (nanoseconds a run, runs)}."""
    with program_statistics():
        before = programs(lab)
        client = clients.client("client", target, 1, True)
        for _ in range(ROUNDS):
            rate(client)
        client.stdin.close()
        after = programs(lab)
    costs = {}
    for name, info in after.items():
        runs = info["runs"] - before[name]["runs"]
        if runs:
            costs[name] = (float(info["ns"] - before[name]["ns"]) / runs, runs)
    return after, costs
