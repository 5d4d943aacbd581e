#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A pod that has every capability in its own network namespace attacks the others: packets, ARP, neighbour discovery, ICMP errors and
link addresses that are not its own, headers and tags that hide them, policies walked around, reused tuples, floods. Each attack is made with raw packets, must be seen in the kernel's counters,
get nothing, and leave an established flow of somebody else alive. The same packets without the mesh do arrive: the attack is real."""
import json
import os
import subprocess

import accel # first: it finds tests/lib
import peers
from labs import Lab, run
from suite import check, main, test

APP = """
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080},
 {name: pair, port: 9000}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: victim, labels: {app: victim}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: evil, labels: {app: evil}}, spec: {containers: [{name: c}]}}
"""

PAIR = os.path.join(peers.PROGRAMS, "pair")
FRAMES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "frames.py")

# One connection; each line on standard input is sent, and its answer printed with the local port.
HOLD = r"""
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for line in sys.stdin:
    s.sendall(line.encode())
    data = b""
    while not data.endswith(b"\n"):
        more = s.recv(4096)
        assert more, "the connection ended"
        data += more
    print(data.decode().strip(), s.getsockname()[1], flush=True)
"""


def counted(lab, *reasons):
    counters = lab.status()["plane"]["counters"].get("from_pod", {})
    return sum(counters.get(reason, 0) for reason in reasons)


def mac_of(lab, pod, device="eth0"):
    return json.loads(lab.exec(pod, "ip", "-j", "link", "show", "dev", device))[0]["address"]


def gateway_mac(lab, shape):
    device = "cni0" if shape == "bridge" else "veth2" # evil is the third pod
    return mac_of(lab, "@node", device)


def raw(lab, kind, victim, target, gateway, count=1, **more):
    options = [word for name, value in more.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    lab.exec("evil", "python3", FRAMES, kind, "--victim", victim, "--target", target, "--gateway", gateway, "--count", str(count), *options)


class Held:
    """An established flow of somebody else, which must outlive the attack."""

    def __init__(self, lab, address, port):
        self.process = lab.popen("victim", "python3", "-c", HOLD, address, str(port), stdin=subprocess.PIPE)
        self.port = int(self.talks().split()[-1])

    def talks(self):
        self.process.stdin.write("alive\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        check(line.startswith("web alive"), f"the held flow answers {line!r}")
        return line

    def end(self):
        self.process.communicate(timeout=10)


def datagrams(lab, six):
    """UDP datagrams that the pod web has received."""
    if six:
        text = lab.exec("web", "cat", "/proc/net/snmp6")
        return sum(int(line.split()[1]) for line in text.splitlines() if line.split()[0] in ("Udp6InDatagrams", "Udp6InErrors"))
    names, values = [line.split() for line in lab.exec("web", "cat", "/proc/net/snmp").splitlines() if line.startswith("Udp:")]
    return int(dict(zip(names, values))["InDatagrams"])


def neighbours(lab):
    return {line for where in ("@node", "web", "victim") for line in lab.exec(where, "ip", "neigh").splitlines()}


# What is counted for each attack; None: there is nothing to forbid in it, but nothing comes of it either.
BOTH = {"udp": "spoofed_ip", "mac_of_nobody": "spoofed_mac", "mac_of_victim": "spoofed_mac", "tags": "tagged", "tunnel": None,
        "quote": "spoofed_icmp"}
FOUR = {"gratuitous": "spoofed_arp", "reply": "spoofed_arp", "mapped": "malformed", "redirect": "spoofed_icmp"}
SIX = {"na": "spoofed_ndp", "na_hidden": "malformed", "ra": "spoofed_ndp", "dad": "spoofed_ndp", "query": "spoofed_ndp",
       "redirect": "spoofed_ndp"}


def bridge_ports(lab, mac):
    """Where the bridge believes that link address to be; in the routed shape there is no bridge."""
    return {e["ifname"] for e in json.loads(lab.exec("@node", "bridge", "-j", "fdb", "show") or "[]")
            if e["mac"] == mac and "permanent" not in e.get("state", "") and e.get("master")}


def attack(lab, kind, six, gateway, count=5):
    raw(lab, kind, lab.pod("victim")["ips"][six], lab.pod("web")["ips"][six], gateway, count, victim_mac=mac_of(lab, "victim"))


def attack_all(lab, shape):
    """Every attack of both families, each counted for its reason, and believed by nobody."""
    evil, gateway, victim_mac = mac_of(lab, "evil"), gateway_mac(lab, shape), mac_of(lab, "victim")
    ports = bridge_ports(lab, victim_mac)
    for six in (0, 1):
        victim = lab.pod("victim")["ips"][six]
        for kind, reason in (BOTH | (SIX if six else FOUR)).items():
            what = f"{kind} over IPv{6 if six else 4} ({shape})"
            before, got = counted(lab, reason) if reason else 0, datagrams(lab, six)
            attack(lab, kind, six, gateway)
            if reason:
                check(counted(lab, reason) == before + 5, f"{what}: {counted(lab, reason) - before} counted as {reason}")
            check(datagrams(lab, six) == got, f"{what}: nothing arrives")
        stolen = [line for line in neighbours(lab) if evil in line and victim in line]
        check(not stolen, f"neighbours believe something of it: {stolen}")
    check(bridge_ports(lab, victim_mac) == ports, "the bridge looks for the victim where it was")


def arrives_without_the_mesh(lab, shape):
    """The attacks are real. Only those that leave no trace in the neighbours' tables."""
    gateway = gateway_mac(lab, shape)
    # Between two links of a bridge the second tag is the receiver's business; a node that routes takes it off itself.
    for six in (0, 1):
        for kind in ("udp", "tags"):
            got = datagrams(lab, six)
            attack(lab, kind, six, mac_of(lab, "web") if shape == "bridge" else gateway)
            check(datagrams(lab, six) == got + 5, f"{kind}: without the mesh it arrives: {datagrams(lab, six) - got}")


@test
def what_is_not_its_own_gets_nowhere():
    for shape in ("bridge", "routed"):
        with Lab(texts=[APP], shape=shape) as lab:
            lab.conn("evil", lab.pod("web")["ips"][0], 8080)
            arrives_without_the_mesh(lab, shape)
            lab.mesh()
            held = [Held(lab, ip, 80) for ip in lab.service("web")["ips"]]
            attack_all(lab, shape)
            for flow in held:
                flow.talks()
                flow.end()
            check(lab.conn("evil", lab.service("web")["ips"][0], 80, n=20)["answered"] == 20, "what is its own still works")


def first_line(process):
    return process.stdout.readline().strip()


def exchange(process, messages):
    process.stdin.write(f"{messages}\n")
    process.stdin.flush()
    check(first_line(process) == "ok", "every answer is what was asked")


@test
def lies_do_not_reach_what_is_accelerated():
    """All of the attacks, while bytes go from socket to socket; messages of the victim go on between them, and arrive."""
    for mode in accel.mesh_modes():
        for shape in ("bridge", "routed") if accel.LONG else ("bridge", ):
            with Lab(texts=[APP], shape=shape) as lab:
                lab.mesh(*accel.accelerate(mode))
                accel.await_self_test(lab, mode)
                server = lab.popen("web", PAIR, "serve", 9000, stdin=subprocess.PIPE)
                check(first_line(server) == "ready", "no server")
                held = [lab.popen("victim", PAIR, "hold", peers.target(ip, 9000), stdin=subprocess.PIPE) for ip in lab.service("web")["ips"]]
                for process in held:
                    check(first_line(process), "the victim connects")
                    exchange(process, 1000)
                attack_all(lab, shape)
                for process in held:
                    exchange(process, 1000)
                flows = [f for f in lab.flows() if f["dialled"]["port"] == 9000]
                check(accel.carried(flows) == 2 * 2 * 2000 * 64, f"what the victim said is all: {flows}")
                check(mode == "off" or all(f["bytes_redirected"] for f in flows), f"{mode}: redirected: {flows}")
                for process in (*held, server):
                    process.kill()
                    process.wait()


@test
def a_syn_on_an_established_tuple_changes_nothing():
    with Lab(texts=[APP]) as lab:
        lab.mesh("--socket-hooks", "off")
        vip, web = lab.service("web")["ips"], lab.pod("web")["ips"]
        held = [Held(lab, ip, 80) for ip in vip]
        flows = len([f for f in lab.flows() if not f["closed"]])
        for six in (0, 1):
            raw(lab, "syn", lab.pod("victim")["ips"][six], vip[six], gateway_mac(lab, "bridge"), 10, port=80)
            raw(lab, "syn", lab.pod("victim")["ips"][six], web[six], gateway_mac(lab, "bridge"), 10)
        check(len([f for f in lab.flows() if not f["closed"]]) == flows, "no flow was made or ended")
        for flow in held:
            flow.talks()
            flow.end()


@test
def a_flood_of_syns_evicts_nobody():
    with Lab(texts=[APP]) as lab:
        lab.mesh("--socket-hooks", "off", "--max-connections", "1024")
        vip = lab.service("web")["ips"]
        held = [Held(lab, ip, 80) for ip in vip]
        for six in (0, 1):
            raw(lab, "syn", lab.pod("evil")["ips"][six], vip[six], gateway_mac(lab, "bridge"), 5000, port=80)
            for flow in held:
                flow.talks()
            check(lab.conn("victim", vip[six], 80, "-c", "4", n=50)["answered"] == 50, "others still connect")
        for flow in held:
            flow.end()


POLICY = """
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: closed}, spec: {
  selector: {matchLabels: {app: web}}, action: DENY,
  rules: [{to: [{operation: {ports: ["8080"]}}], from: [{source: {ipBlocks: [EVIL4, EVIL6]}}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: for-others}, spec: {
  selector: {matchLabels: {app: evil}}, action: DENY, rules: [{to: [{operation: {ports: ["9"]}}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: deaf}, spec: {selector: {matchLabels: {app: victim}}}}
"""


def to_pod(lab, reason):
    return lab.status()["plane"]["counters"].get("to_pod", {}).get(reason, 0)


@test
def a_policy_cannot_be_walked_around():
    """Datagrams that are denied, from a pod that has a policy of its own, so that its link tracks what it sends: as they are, behind
    headers, in parts whose first is too short to say much. And what a bridge floods is no business of those that it is not for."""
    with Lab(texts=[APP]) as lab:
        gateway = gateway_mac(lab, "bridge")
        kinds = {"udp": 3, "behind": 3, "parts": 6}
        four, six = lab.pod("evil")["ips"]
        for denied in (False, True):
            if denied:
                lab.mesh()
                lab.apply(texts=[POLICY.replace("EVIL4", four).replace("EVIL6", f'"{six}"')])
            for family in (0, 1):
                for kind, count in kinds.items():
                    got = datagrams(lab, family)
                    own = lab.pod("evil")["ips"][family]
                    raw(lab, kind, own, lab.pod("web")["ips"][family], gateway, count)
                    want = got + (0 if denied else 3)
                    check(datagrams(lab, family) == want, f"{kind}: {datagrams(lab, family) - got} arrive, {'denied' if denied else 'before'}")
        check(lab.conn("victim", lab.pod("web")["ips"][0], 8080, "--udp", n=20)["answered"] == 20, "others may")
        refused, flooded = to_pod(lab, "denied") + to_pod(lab, "denied_by_default"), to_pod(lab, "flooded")
        raw(lab, "lost", four, lab.pod("web")["ips"][0], gateway, 5)
        check(to_pod(lab, "flooded") >= flooded + 5, f"{to_pod(lab, 'flooded') - flooded} counted as flooded")
        check(to_pod(lab, "denied") + to_pod(lab, "denied_by_default") == refused, "a pod that it is not for refuses nothing")


def tracked(lab):
    return len(json.loads(run("bpftool", "-j", "map", "dump", "pinned", lab.path("bpf", "tulle", "mesh_conns"))))


@test
def what_is_over_counts_until_it_is_gone():
    with Lab(texts=[APP]) as lab:
        lab.mesh("--socket-hooks", "off", "--max-connections", "1024", "--max-pod-connections", "100")
        vip = lab.service("web")["ips"]
        for ip in vip:
            check(lab.conn("evil", ip, 80, "-c", "8", n=600)["answered"] == 600, "each is served")
            check(tracked(lab) <= 100, f"the pod has {tracked(lab)} of the table")


EXHAUST = r"""
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held, failed = [], 0
for i in range(int(sys.argv[3])):
    s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
    s.settimeout(0.2)
    try:
        s.connect((sys.argv[1], int(sys.argv[2])))
        held.append(s)
    except OSError:
        failed += 1
        if failed == 5:
            break
print(len(held), failed, flush=True)
sys.stdin.readline()
"""


@test
def one_pod_cannot_use_all_connections():
    with Lab(texts=[APP]) as lab:
        lab.mesh("--socket-hooks", "off", "--max-connections", "1024", "--max-pod-connections", "200")
        vip = lab.service("web")["ips"]
        held = [Held(lab, ip, 80) for ip in vip]
        greedy = lab.popen("evil", "python3", "-c", EXHAUST, vip[0], "80", "400", stdin=subprocess.PIPE)
        try:
            got, failed = map(int, greedy.stdout.readline().split())
            # What is over its share goes on where newcomers push it out, and takes nothing from the others.
            check(got == 400 and not failed, f"the greedy pod holds {got}, {failed} failed")
            check(counted(lab, "conn_limit") >= 200, "counted as conn_limit")
            for flow in held:
                flow.talks()
            check(lab.conn("victim", vip[0], 80, "-c", "4", n=50)["answered"] == 50, "others still connect")
        finally:
            greedy.communicate("\n", timeout=10)
            for flow in held:
                flow.end()


main()
