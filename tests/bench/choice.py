# SPDX-License-Identifier: BSD-2-Clause
"""What choosing an endpoint costs, by policy and by how many there are: the connect program's own time, connections a second, and what memory
alone costs that is read as a choice reads it; and what each endpoint takes of memory. All endpoints are addresses of one pod that no program of the mesh sees."""
import json
import os
import statistics
import time

import labs
import peers
from table import FLOOR, QUICK, ROUND_MS, ROUNDS, Clients, program_statistics, programs, rate, row

CLIENT, SERVER = "10.244.1.1", "10.244.1.2"
NETWORK = "10.250.0.0/16"
PORT = 8081
SIZES = (2, 10000) if QUICK else (2, 10, 100, 1000, 10000)
POLICIES = {"random": {"simple": "RANDOM"}, "least request": {"simple": "LEAST_REQUEST"}, "round robin": {"simple": "ROUND_ROBIN"},
            "ring": {"consistentHash": {"useSourceIp": True, "ringHash": {"minimumRingSize": 1024}}},
            "maglev": {"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 65537}}}}
WARM_UP = 5 # connections for each endpoint: one in 150 is not chosen by chance
SLICE = 1000 # endpoints of an EndpointSlice, at most
UNLIKE = 4000 # a ServiceEntry has 4096 at most
GROWING = ("mesh_choices", "mesh_tables", "mesh_clusters", "mesh_backends", "mesh_tallies", "mesh_names")


def vip(at):
    return f"10.96.0.{at + 1}"


def addresses(size):
    return [f"10.250.{i >> 8}.{i & 255}" for i in range(size)]


def equal(name, ip, size):
    """A Service whose endpoints are alike."""
    docs = [peers.service(name, [ip], [("tcp", 80, PORT)])]
    for first in range(0, size, SLICE):
        docs.append(peers.endpoints(name, addresses(size)[first:first + SLICE], [("tcp", PORT)]))
        docs[-1]["metadata"]["name"] += f"-{first}"
    return docs


def unlike(name, ip, size):
    """A ServiceEntry whose endpoints have two weights."""
    return [{"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name},
             "spec": {"hosts": [f"{name}.default.svc.cluster.local"], "addresses": [ip], "resolution": "STATIC",
                      "ports": [{"number": 80, "name": "tcp", "protocol": "TCP", "targetPort": PORT}],
                      "endpoints": [{"address": a, "weight": 1 + i % 2} for i, a in enumerate(addresses(size))]}}]


def documents(kind, sizes, policy):
    """A service of each size, with this policy."""
    docs = []
    for at, size in enumerate(sizes):
        docs += [*kind(f"choice{at}", vip(at), size),
                 {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": f"choice{at}"},
                  "spec": {"host": f"choice{at}.default.svc.cluster.local", "trafficPolicy": {"loadBalancer": POLICIES[policy]}}}]
    return docs


def replace_rules(lab, docs):
    path = os.path.join(lab.folder.name, "choice.yaml")
    if os.path.exists(path):
        lab.ctl("delete", "-f", path)
    with open(path, "w", encoding="utf-8") as f:
        f.write(peers.text(docs))
    lab.ctl("apply", "-f", path)


def against(rounds, first):
    """Median and quartiles of the rounds' ratios."""
    ratios = [a / b for a, b in zip(rounds, first)]
    return statistics.median(ratios), statistics.quantiles(ratios, n=4)


def report(what, unit, label, rounds):
    """rounds: {size: values}, of rounds in which all sizes had their turn."""
    smallest = min(rounds)
    for size, values in rounds.items():
        ratio, quartiles = against(values, rounds[smallest])
        row(f"{what}, {size} {label}", unit, statistics.median(values), [min(values), max(values)], f"{what}, {smallest} {label}",
            ratio if size != smallest else None, f"quartiles of the ratio {quartiles[0]:.3f} {quartiles[1]:.3f} {quartiles[2]:.3f}")


def warm_up(child, connections):
    while connections > 0:
        connections -= rate(child)[0] * ROUND_MS / 1000


def by_size(lab, clients, kind, sizes, policy):
    """The sizes take turns. The kernel's statistics are on all the while: they cost all the same."""
    replace_rules(lab, documents(kind, sizes, policy))
    label = f"endpoints{' of two weights' if kind == unlike else ''}"
    rates, costs = {size: [] for size in sizes}, {size: [] for size in sizes}
    with program_statistics():
        children = {size: clients.client("client", peers.target(vip(at), 80), 1, True) for at, size in enumerate(sizes)}
        # Until all have been chosen once or twice: the first choice of an endpoint asks whether it has a policy.
        for size, child in children.items():
            warm_up(child, WARM_UP * size)
        for _ in range(ROUNDS):
            for size, child in children.items():
                before = programs(lab)["mesh_connect4"]
                rates[size].append(rate(child)[0])
                after = programs(lab)["mesh_connect4"]
                costs[size].append((after["ns"] - before["ns"]) / (after["runs"] - before["runs"]))
        for child in children.values():
            child.stdin.close()
            child.wait()
    report(f"choice: {policy}", "conn/s", label, rates)
    report(f"choice: mesh_connect4, {policy}", "ns", label, costs)


def floor(lab, clients):
    """What lines of memory cost, that one of many is read of for each connection: programs that do nothing else, of the least and the most."""
    replace_rules(lab, documents(equal, [2], "random"))
    sizes, costs = (min(SIZES), max(SIZES)), {}
    with program_statistics():
        client = clients.client("client", peers.target(vip(0), 80), 1, True)
        children = {size: lab.spawn([FLOOR, lab.record["cgroup"], str(size)]) for size in sizes}
        for child in children.values():
            assert child.stdout.readline() == "ready\n"
        for _ in range(ROUNDS + 1):
            before = {size: seen(child) for size, child in children.items()}
            rate(client)
            for size, child in children.items():
                for reads, (a, b) in enumerate(zip(before[size], seen(child))):
                    costs.setdefault((reads, size), []).append((b[0] - a[0]) / (b[1] - a[1]))
        for child in (client, *children.values()):
            child.stdin.close()
            child.wait()
    for reads in range(1, 3):
        for size in sizes:
            extra = [a - b for a, b in zip(costs[reads, size][1:], costs[0, size][1:])]
            row(f"floor: {reads} line{'s' * (reads > 1)} of {size}", "ns", statistics.median(extra), [min(extra), max(extra)])


def seen(child):
    """[(nanoseconds, runs)], by how many lines a program reads."""
    child.stdin.write("\n")
    child.stdin.flush()
    numbers = [int(n) for n in child.stdout.readline().split()]
    return list(zip(numbers[::2], numbers[1::2]))


def used(lab, size):
    """Bytes of the elements in use, of the pinned maps that grow with endpoints, once those of the last rules are given back."""
    sizes = {m: json.loads(labs.run("bpftool", "-j", "map", "show", "pinned", lab.path("bpf", "tulle", m)))["bytes_value"] for m in GROWING}
    deadline = time.monotonic() + 30
    while (count := lab.status()["plane"]["maps"])["mesh_backends"]["used"] > size and time.monotonic() < deadline:
        time.sleep(0.2)
    # An endpoint's tally is at its place in mesh_backends.
    count |= {"mesh_tallies": count["mesh_backends"]}
    return {m: count[m]["used"] * each for m, each in sizes.items()}


def memory(lab):
    """One service without endpoints, and one of the most; the difference, an endpoint."""
    for name in POLICIES:
        found = []
        for size in (0, max(SIZES)):
            replace_rules(lab, documents(equal, [size], name))
            found.append(used(lab, size))
        each = {m: (found[1][m] - found[0][m]) / max(SIZES) for m in found[0]}
        row(f"memory: maps, an endpoint, {name}", "bytes", sum(each.values()),
            note=", ".join(f"{m} {v:.0f}" for m, v in each.items() if v))


def measure(leave_out):
    docs = [peers.pod("client", [CLIENT]), peers.pod("bare-client", ["10.244.1.3"]), peers.pod("bare-server", [SERVER])]
    with peers.PeerLab(docs, shape="routed") as lab:
        leave_out(lab)
        clients = Clients(lab)
        lab.exec("@node", "ip", "route", "add", NETWORK, "via", SERVER)
        lab.ip("bare-server", "route", "add", "local", NETWORK, "dev", "lo")
        for pod in ("client", "bare-server"):
            lab.sysctl(pod, "net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_max_tw_buckets=20000")
        clients.server("bare-server", PORT, False)
        lab.mesh("--log-level", "warn")
        memory(lab)
        floor(lab, clients)
        for policy in POLICIES:
            by_size(lab, clients, equal, SIZES, policy)
            by_size(lab, clients, unlike, (SIZES[0], UNLIKE), policy)
