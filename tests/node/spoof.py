#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A pod that has every capability in its own network namespace attacks the others: packets, ARP, neighbour discovery and link
addresses that are not its own, reused tuples, floods. Each attack is made with raw packets, must be seen in the kernel's counters,
get nothing, and leave an established flow of somebody else alive. The same packets without the mesh do arrive: the attack is real."""
import json
import subprocess

from labs import Lab
from suite import check, main, test

APP = """
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: victim}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: evil}, spec: {containers: [{name: c}]}}
"""

# Frames and their checksums, sent on eth0 through a packet socket: KIND VICTIM-IP TARGET-IP GATEWAY-MAC [COUNT]. UDP goes to port 8080.
RAW = r"""
import ipaddress, random, socket, struct, sys
kind, victim, target, gateway, count = sys.argv[1], *map(ipaddress.ip_address, sys.argv[2:4]), bytes.fromhex(sys.argv[4].replace(":", "")), int(sys.argv[5])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
own = s.getsockname()[4]
six = victim.version == 6
def checksum(data):
    data += b"\0" * (len(data) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 65535) + (total >> 16)
    return ~total & 65535
def with_sum(source, destination, proto, body, at):
    pseudo = source.packed + destination.packed + struct.pack(">II", len(body), proto)
    return body[:at] + struct.pack(">H", checksum(pseudo + body) or 65535) + body[at + 2:]
def ip(source, destination, proto, body, at, hops=64):
    body = with_sum(source, destination, proto, body, at)
    if source.version == 6:
        return struct.pack(">IHBB", 6 << 28, len(body), proto, hops) + source.packed + destination.packed + body
    head = struct.pack(">BBHHHBBH", 69, 0, 20 + len(body), 1, 0, hops, proto, 0) + source.packed + destination.packed
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body
def udp(port):
    return struct.pack(">4H", port, 8080, 8 + 5, 0) + b"spoof"
def syn(port, seq=1000):
    return struct.pack(">HHIIBBHHH", port, int(sys.argv[6]), seq, 0, 80, 2, 65535, 0, 0)
def frame(payload, source=own, ether=0x86dd if six else 0x800, to=gateway):
    return to + source + struct.pack(">H", ether) + payload
def arp(op, to=b"\xff" * 6):
    return frame(struct.pack(">HHBBH", 1, 0x800, 6, 4, op) + own + victim.packed + to + (victim if op == 1 else target).packed, ether=0x806, to=to)
def icmp6(body, source, hops=255, to=ipaddress.ip_address("ff02::1")):
    return frame(ip(source, to, 58, body, 2, hops), to=b"\x33\x33\0\0\0\1")
def one(i):
    if kind == "udp":
        return frame(ip(victim, target, 17, udp(40000 + i), 6))
    if kind == "mac":
        return frame(ip(victim, target, 17, udp(40000 + i), 6), source=b"\2\0\0\0\0\x66")
    if kind == "syn":
        return frame(ip(victim, target, 6, syn(1024 + i % 60000, random.getrandbits(32)), 16))
    if kind == "gratuitous":
        return arp(1)
    if kind == "reply":
        return arp(2)
    option = b"\2\1" + own
    link = ipaddress.ip_address("fe80::" + f"{own[0] ^ 2:02x}{own[1]:02x}:{own[2]:02x}ff:fe{own[3]:02x}:{own[4]:02x}{own[5]:02x}")
    if kind == "na":
        return icmp6(struct.pack(">BBHI", 136, 0, 0, 0x20000000) + victim.packed + option, link)
    if kind == "ra":
        return icmp6(struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"\1\1" + own, link)
for i in range(count):
    s.send(one(i))
"""

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


def raw(lab, kind, victim, target, gateway, count=1, port=8080):
    lab.exec("evil", "python3", "-c", RAW, kind, victim, target, gateway, str(count), str(port))


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


def attack_all(lab, shape, reasons):
    """Every attack of both families, each counted for its reason. Without the mesh (reasons: False) only what leaves no trace in the
    neighbours' tables, to see that it would arrive."""
    evil, gateway = mac_of(lab, "evil"), gateway_mac(lab, shape)
    for six in (0, 1):
        victim, target = lab.pod("victim")["ips"][six], lab.pod("web")["ips"][six]
        kinds = {"udp": "spoofed_ip", "mac": "spoofed_mac", **({"na": "spoofed_ndp", "ra": "spoofed_ndp"} if six else
                                                               {"gratuitous": "spoofed_arp", "reply": "spoofed_arp"})}
        for kind, reason in kinds.items() if reasons else [("udp", None)]:
            source = lab.pod("evil")["ips"][six] if kind == "mac" else victim
            before, got = counted(lab, reason) if reasons else 0, datagrams(lab, six)
            raw(lab, kind, source, target, gateway, 5)
            if reasons:
                check(counted(lab, reason) == before + 5, f"{kind} over IPv{6 if six else 4}: {counted(lab, reason) - before} counted as {reason}")
                check(datagrams(lab, six) == got, f"{kind}: nothing arrives")
                stolen = [line for line in neighbours(lab) if evil in line and victim in line]
                check(not stolen, f"{kind}: neighbours believe it: {stolen}")
            else:
                check(datagrams(lab, six) == got + 5, f"without the mesh it arrives: {datagrams(lab, six) - got}")


@test
def what_is_not_its_own_gets_nowhere():
    for shape in ("bridge", "routed"):
        with Lab(texts=[APP], shape=shape) as lab:
            lab.conn("evil", lab.pod("web")["ips"][0], 8080)
            attack_all(lab, shape, False)
            lab.mesh()
            held = [Held(lab, ip, 80) for ip in lab.service("web")["ips"]]
            attack_all(lab, shape, True)
            for flow in held:
                flow.talks()
                flow.end()
            check(lab.conn("evil", lab.service("web")["ips"][0], 80, n=20)["answered"] == 20, "what is its own still works")


@test
def a_syn_on_an_established_tuple_changes_nothing():
    with Lab(texts=[APP]) as lab:
        lab.mesh("--socket-hooks", "off")
        vip, web = lab.service("web")["ips"], lab.pod("web")["ips"]
        held = [Held(lab, ip, 80) for ip in vip]
        flows = len([f for f in lab.flows() if not f["closed"]])
        for six in (0, 1):
            raw(lab, "syn", lab.pod("victim")["ips"][six], vip[six], gateway_mac(lab, "bridge"), 10, 80)
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
            raw(lab, "syn", lab.pod("evil")["ips"][six], vip[six], gateway_mac(lab, "bridge"), 5000, 80)
            for flow in held:
                flow.talks()
            check(lab.conn("victim", vip[six], 80, "-c", "4", n=50)["answered"] == 50, "others still connect")
        for flow in held:
            flow.end()


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
