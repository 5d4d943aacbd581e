# SPDX-License-Identifier: BSD-2-Clause
"""The tc path alone (no programs at sockets) against what kube-proxy would have written, iptables and nftables, and against the pod
dialled directly. Four nodes that route to their pods, alike but for that; their clients take turns within one run."""
import contextlib
import shutil
import statistics
import subprocess
import time

import kubeproxy
import labs
import peers
from table import QUICK, ROUNDS, Clients, rate, row

CLIENT, SERVER, VIP = "10.244.1.1", "10.244.1.2", "10.96.0.1"
PORT, SINK_PORT = 8080, 8090
MANY = 10000
OURS, DIRECT, IPTABLES, NFT = "tc path", "direct", "iptables", "nftables"


def in_node(lab, *argv, **kwargs):
    """None, or what the command complained of."""
    done = subprocess.run(["nsenter", f"--net=/proc/{lab.record['node_pid']}/ns/net", *argv], stderr=subprocess.PIPE, text=True,
                          check=False, **kwargs)
    return (done.stderr.strip() or f"ended with {done.returncode}") if done.returncode else None


def iptables_tool():
    """The kernel's own tables where it has them: iptables-nft is translated, and is nftables then."""
    for name in ("iptables-legacy-restore", "iptables-restore"):
        if shutil.which(name):
            return name
    return None


def versions():
    for tool in ("iptables-legacy", "iptables", "nft"):
        if shutil.which(tool):
            print(f"{tool}:", labs.run(tool, "--version").strip())


class Node:
    """A node with a client and a server pod. load(n): its rules for n services; what stands in the way of that, or None."""

    def __init__(self, lab, label, load):
        self.lab, self.label, self.load = lab, label, load
        self.clients = Clients(lab)
        for pod in ("client", "server"):
            lab.sysctl(pod, "net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_max_tw_buckets=20000")
        self.clients.server("server", PORT, True)
        self.clients.server("server", SINK_PORT, True, "sink")

    def target(self, port):
        return f"{SERVER}:{port}" if self.label == DIRECT else f"{VIP}:80"


def load_iptables(lab, number, port):
    text = kubeproxy.iptables(kubeproxy.Services(number, (SERVER, port)))
    return in_node(lab, iptables_tool(), input=text) if iptables_tool() else "iptables is not installed"


def load_nft(lab, number, port):
    text = kubeproxy.nft(kubeproxy.Services(number, (SERVER, port)))
    return in_node(lab, "nft", "-f", "-", input="flush ruleset\n" + text) if shutil.which("nft") else "nft is not installed"


def compared(name, unit, rounds, labels):
    """A row for each of the others, and one of ours for each of them: the median of the rounds' ratios."""
    for label in labels:
        values = [r[label] for r in rounds]
        row(f"{name}, {label}", unit, statistics.median(values), [min(values), max(values)])
    for label in labels[1:]:
        ratios = [r[OURS] / r[label] for r in rounds]
        low, _, high = statistics.quantiles(ratios, n=4)
        row(f"{name}, {OURS} against {label}", unit, statistics.median(r[OURS] for r in rounds), None, f"{name}, {label}",
            statistics.median(ratios), f"quartiles of the ratio {low:.3f} {high:.3f}")


def take_turns(name, unit, scale, children):
    """children: by label. Whoever begins a round changes."""
    labels = list(children)
    for child in children.values():
        rate(child)
    rounds = []
    for i in range(ROUNDS):
        order = labels[i % len(labels):] + labels[:i % len(labels)]
        rounds.append({label: rate(children[label])[0] * scale for label in order})
    compared(name, unit, rounds, labels)
    for child in children.values():
        child.stdin.close()
        child.wait()


def ready(nodes, number, port):
    """The nodes whose rules for so many services could be loaded."""
    good = []
    for node in nodes:
        start = time.monotonic()
        why = node.load(number, port)
        if why:
            row(f"{node.label}, {number} services", "-", None, note=why[:200])
            continue
        row(f"{node.label}: rules of {number} services loaded", "s", time.monotonic() - start)
        good.append(node)
    return good


def connections(nodes, size):
    take_turns(f"links: connect+request+close, {size}", "conn/s", 1,
               {n.label: n.clients.client("client", n.target(PORT), 1, True) for n in nodes})


def streams(nodes):
    take_turns("links: one stream, 1 service", "MB/s", 1e-6,
               {n.label: n.clients.bulk("client", n.target(SINK_PORT)) for n in nodes})


def measure(generate):
    versions()
    docs = [peers.pod("client", [CLIENT]), peers.pod("server", [SERVER])]
    with contextlib.ExitStack() as stack:
        ours, direct, iptables, nft = (stack.enter_context(peers.PeerLab(docs, shape="routed")) for _ in range(4))

        def load_ours(number, port):
            ours.ctl("apply", "-f", generate(ours, number, f"{number}.yaml", port))

        ours.mesh("--socket-hooks", "off", "--log-level", "warn")
        nodes = [Node(ours, OURS, load_ours), Node(direct, DIRECT, lambda *_: None),
                 Node(iptables, IPTABLES, lambda n, port: load_iptables(iptables, n, port)),
                 Node(nft, NFT, lambda n, port: load_nft(nft, n, port))]
        print("congestion control:", labs.run(*nodes[0].clients.outside("client", "sysctl", "-n", "net.ipv4.tcp_congestion_control")).strip())
        streams(ready(nodes, 1, SINK_PORT))
        connections(ready(nodes, 1, PORT), "1 service")
        if not QUICK:
            connections(ready(nodes, MANY, PORT), f"{MANY} services")
