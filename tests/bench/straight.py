# SPDX-License-Identifier: BSD-2-Clause
"""What shortcuts are worth: nodes that are alike but for that say the same, in turns: with shortcuts, with the mesh and without them, and
without the mesh; on a bridge, routed, and routed by a node whose netfilter tracks connections and drops what is invalid."""
import contextlib
import os

import peers
from between import ECHO, RTT, SINK, rounds_of, rows, told
from links import in_node
from table import Clients, rate, row

SERVER, PORT = "10.244.1.2", 8080
ON, OFF, NONE = "shortcuts", "no shortcuts", "no mesh"
RULES = """table inet n { chain f { type filter hook forward priority 0; policy drop; ct state invalid drop
    ct state established,related accept; ip daddr 10.244.0.0/16 accept; }; }"""


def cpu_us(lab):
    """CPU time of all that runs in the pods, and of the packets handled meanwhile. Other work on the machine changes how long bytes take,
    and hardly this."""
    total = 0
    for pod in lab.pods():
        with open(os.path.join(pod["cgroup"], "cpu.stat"), encoding="ascii") as f:
            total += int(f.readline().split()[1])
    return total


class Node:
    def __init__(self, lab, label):
        self.lab = lab
        if label != NONE:
            lab.mesh("--shortcut", "on" if label == ON else "off", "--log-level", "warn")
        self.clients = Clients(lab)
        for pod in ("client", "server"):
            lab.sysctl(pod, "net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_max_tw_buckets=20000")
        self.clients.server("server", PORT, True)
        for verb, port in (("serve", ECHO), ("sink", SINK)):
            assert lab.spawn(lab.in_pod("server", RTT, verb, port)).stdout.readline() == "ready\n"
        self.children = {verb: lab.spawn(lab.in_pod("client", RTT, verb, peers.target(SERVER, port)))
                         for verb, port in (("ask", ECHO), ("pour", SINK))}
        self.children["connect"] = self.clients.client("client", peers.target(SERVER, PORT), 1, True)

    def asks(self, size):
        _, _, p50, _ = told(self.children["ask"], size)
        return {"p50": p50 / 1000}

    def pours(self, size):
        before = cpu_us(self.lab)
        sent, ns = told(self.children["pour"], size)
        return {"rate": sent * 1000 / ns, "cpu": (cpu_us(self.lab) - before) * 1000000 / sent}

    def connects(self):
        return {"rate": rate(self.children["connect"])[0]}


def node_kind(name, shape, rules):
    docs = [peers.pod("client", ["10.244.1.1"]), peers.pod("server", [SERVER])]
    with contextlib.ExitStack() as stack:
        made = {label: stack.enter_context(peers.PeerLab(docs, shape=shape)) for label in (ON, OFF, NONE)}
        why = [in_node(lab, "nft", rules) for lab in made.values()] if rules else []
        if any(why):
            row(f"shortcuts, {name}", "-", None, note=str(why[0])[:200])
            return
        nodes = {label: Node(lab, label) for label, lab in made.items()}
        against = {ON: OFF, NONE: OFF}
        for size in (64, 16384):
            seen = rounds_of(nodes, lambda label: nodes[label].asks(size)) # pylint: disable=cell-var-from-loop
            rows(f"shortcuts: request/response {size} B, {name}, p50", "us", seen, "p50", against)
        seen = rounds_of(nodes, lambda label: nodes[label].pours(131072))
        rows(f"shortcuts: bulk, writes of 128 KB, {name}", "MB/s", seen, "rate", against)
        rows(f"shortcuts: CPU of bulk, {name}", "us/MB", seen, "cpu", against)
        seen = rounds_of(nodes, lambda label: nodes[label].connects())
        rows(f"shortcuts: connect+request+close, {name}", "conn/s", seen, "rate", against)


def measure():
    print("congestion control: reno; against the mesh without shortcuts")
    for name, shape, rules in (("bridge", "bridge", ""), ("routed", "routed", ""), ("routed, netfilter tracks", "routed", RULES)):
        node_kind(name, shape, rules)
