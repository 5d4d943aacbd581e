#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Shortcuts: what pods of one node say to each other goes straight from link to link once the connection stands, on a bridge and routed,
over IPv4 and IPv6, and nothing comes of that but speed. What the node's netfilter forbids stays forbidden, and what it comes to forbid
stops; its connection tracking calls nothing invalid and keeps nothing for longer; policies, guards and others' programs keep their say."""
import contextlib
import json
import os
import re
import subprocess
import time

import accel # first: it finds tests/lib
import pairs
from labs import TC_ONLY, Lab
from suite import Skip, check, main, test

SHAPES = ("bridge", "routed")
LONG = os.environ.get("TULLE_TEST_LONG") == "1"
APP = """
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}},
 spec: {serviceAccountName: web, containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, labels: {app: client}},
 spec: {serviceAccountName: client, containers: [{name: c, ports: [{containerPort: 8080}]}]}}
"""
# As many connections as there are lines of the first word, opened in order; `talk I N`: N lines there and back over number I, each answer
# checked; `end I`: closed, `reset I`: closed by a reset. Answers each order by a line.
CLIENT = r"""
import socket, struct, sys
held = []
def talk(s, n):
    for i in range(n):
        line = b"%d" % i + b"x" * (i * 37 % 900) + b"\n"
        s.sendall(line)
        got = b""
        while not got.endswith(line):
            part = s.recv(65536)
            if not part:
                return i
            got += part
    return n
for order in sys.stdin:
    word, *rest = order.split()
    try:
        if word == "open":
            s = socket.create_connection((rest[0], int(rest[1])), timeout=4)
            held.append(s)
            print("open", *s.getsockname()[:2], flush=True)
        elif word == "talk":
            print("talked", talk(held[int(rest[0])], int(rest[1])), flush=True)
        else:
            if word == "reset":
                held[int(rest[0])].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            held[int(rest[0])].close()
            print("closed", flush=True)
    except OSError as e:
        print(type(e).__name__, flush=True)
"""


class Talk:
    """Connections of one process of the client's pod."""

    def __init__(self, lab, pod="client"):
        self.process = lab.popen(pod, "python3", "-c", CLIENT, stdin=subprocess.PIPE)

    def order(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def opens(self, address, port):
        got = self.order("open", address, port)
        check(got.startswith("open "), f"a connection to {address}:{port} opens: {got}")
        return int(got.split()[-1])

    def talks(self, number=0, lines=50):
        got = self.order("talk", number, lines)
        check(got == f"talked {lines}", f"connection {number} goes on: {got}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=10)


@contextlib.contextmanager
def node(shape, *options):
    if TC_ONLY:
        raise Skip("there are no shortcuts with the programs at the links alone")
    with Lab(texts=[APP], shape=shape) as lab:
        lab.mesh(*options)
        yield lab


def nft(lab, rules):
    done = lab.exec("@node", "nft", rules, ok=None)
    check(not done.strip(), f"nft takes the rules: {done}")


# Counts what the node forwards of TCP between its pods. A bridge shows it where a bridge's own hook is.
COUNT = {"bridge": "table bridge t {{ chain f {{ type filter hook forward priority -10; {} }}; }}",
         "routed": "table inet t {{ chain f {{ type filter hook forward priority -10; {} }}; }}"}


def forwarded(lab, shape):
    """Packets of TCP that came by the node's forward hook."""
    out = lab.exec("@node", "nft", "list", "table", "bridge" if shape == "bridge" else "inet", "t")
    return int(re.search(r"counter packets (\d+)", out)[1])


def count_forwarded(lab, shape):
    nft(lab, COUNT[shape].format("meta l4proto tcp counter;"))


def straight(lab):
    return lab.status()["plane"]["counters"]["from_pod"].get("shortcut", 0)


def ways(lab):
    """To the service and to the pod's own address, in both families."""
    return [(ip, 80) for ip in lab.service("web")["ips"]] + [(ip, 8080) for ip in lab.pod("web")["ips"]]


def goes_straight(shape):
    with node(shape) as lab:
        count_forwarded(lab, shape)
        for address, port in ways(lab):
            with Talk(lab) as talk:
                local = talk.opens(address, port)
                talk.talks(0, 2)
                begun = time.monotonic()
                long_way, short_way = forwarded(lab, shape), straight(lab)
                talk.talks(0, 500)
                lease = 1 + int((time.monotonic() - begun) / 10)
                long_way, short_way = forwarded(lab, shape) - long_way, straight(lab) - short_way
                check(long_way <= 2 * lease, f"{address} ({shape}): {long_way} packets of 500 lines went the long way")
                check(short_way >= 1000 - 2 * lease, f"{address} ({shape}): {short_way} packets of 500 lines went straight")
                if port == 80:
                    flow = next(f for f in lab.flows("--live") if f["client"]["port"] == local)
                    check(flow["packets_shortcut"] >= 1000 - 2 * lease, f"the flow's record counts {flow['packets_shortcut']} packets")
                    check(0 < flow["bytes_shortcut"] <= flow["bytes_sent"] + flow["bytes_received"], f"and bytes: {flow}")
                long_way = forwarded(lab, shape)
                check(talk.order("end", 0) == "closed", "the connection is closed")
                deadline = time.monotonic() + 5
                while forwarded(lab, shape) < long_way + 2 and time.monotonic() < deadline:
                    time.sleep(0.02)
                check(forwarded(lab, shape) >= long_way + 2, f"{address} ({shape}): both FINs take the long way")
        state = lab.status()["plane"]["shortcuts"]
        check(state["setting"] == "on" and state["packets"] > 4000 and state["bytes"] > 0, f"meshctl status tells of them: {state}")


@test
def packets_go_straight_on_a_bridge():
    goes_straight("bridge")


@test
def packets_go_straight_where_the_node_routes():
    goes_straight("routed")


@test
def off_is_off():
    for shape in SHAPES:
        with node(shape, "--shortcut", "off") as lab, Talk(lab) as talk:
            talk.opens(*ways(lab)[0])
            talk.talks()
            state = lab.status()["plane"]
            check(state["shortcuts"]["setting"] == "off" and not straight(lab), f"nothing goes straight: {state['shortcuts']}")


# ---- the node's netfilter ----

# What many a node has: connections are tracked, whatever is invalid is dropped, and only what the rules know begins. {} are more rules.
TRACK = """table inet n {{ chain f {{ type filter hook forward priority 0; policy drop;
    {}
    ct state invalid counter drop
    ct state established,related accept
    tcp flags & (syn|ack) == syn tcp dport 8080 accept
    meta l4proto != tcp accept
}}; }}"""


def track(lab, shape, more=""):
    if shape == "bridge":
        for name in ("iptables", "ip6tables"):
            path = f"net.bridge.bridge-nf-call-{name}"
            if not os.path.exists("/proc/sys/" + path.replace(".", "/")):
                raise Skip("bridges do not ask netfilter on this kernel")
            lab.exec("@node", "sysctl", "-qw", f"{path}=1")
    nft(lab, TRACK.format(more))


def invalid(lab):
    return int(re.search(r"invalid counter packets (\d+)", lab.exec("@node", "nft", "list", "table", "inet", "n"))[1])


def entries(lab):
    """[(state, seconds left, client's port)] of the connections that the node tracks."""
    if not os.path.exists("/proc/net/nf_conntrack"):
        raise Skip("this kernel does not list what it tracks")
    found = re.findall(r"tcp +6 (\d+) (\w+) .*?sport=(\d+) ", lab.exec("@node", "cat", "/proc/net/nf_conntrack"))
    return [(state, int(left), int(port)) for left, state, port in found]


def until(what, condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, what)
        time.sleep(0.02)


def talks_straight(lab, talk, number=0):
    """Talks until that goes straight."""
    before = straight(lab)

    def does():
        talk.talks(number, 20)
        return straight(lab) > before + 30
    until("a connection that netfilter tracks goes straight, too", does)


def tracked(shape):
    with node(shape) as lab:
        track(lab, shape)
        for address, port in ways(lab):
            with Talk(lab) as talk:
                ports = [talk.opens(address, port) for _ in range(3)]
                for number in range(3):
                    talks_straight(lab, talk, number)
                    before = straight(lab)
                    talk.talks(number, 3000) # far more than any window holds
                    check(straight(lab) - before > 5000, f"{address} ({shape}): {straight(lab) - before} of 6000 packets went straight")
                left = {port: left for _, left, port in entries(lab)}
                check(all(left[p] > 400 for p in ports), f"netfilter keeps the entries of what is open: {[left[p] for p in ports]} s")
                talk.order("end", 0)
                talk.order("reset", 1)
                until(f"{address} ({shape}): netfilter takes notice of the ends: {entries(lab)}",
                      lambda: all(left <= 120 for _, left, p in entries(lab) if p in ports[:2]))
                until(f"{address} ({shape}): and of both FINs: {entries(lab)}",
                      lambda: {p: state for state, _, p in entries(lab)}.get(ports[0]) in (None, "TIME_WAIT", "LAST_ACK", "CLOSE"))
                talk.talks(2)
            check(not invalid(lab), f"{address} ({shape}): netfilter calls {invalid(lab)} packets invalid")


@test
def tracked_connections_stay_valid_on_a_bridge():
    tracked("bridge")


@test
def tracked_connections_stay_valid_where_the_node_routes():
    tracked("routed")


@test
def they_stay_valid_without_the_mesh():
    """Unloaded in the middle of connections, of which netfilter has not seen most."""
    for shape in SHAPES:
        with node(shape) as lab:
            track(lab, shape)
            with Talk(lab) as talk:
                for number, (address, port) in enumerate(ways(lab)):
                    talk.opens(address, port)
                    talks_straight(lab, talk, number)
                    talk.talks(number, 3000)
                lab.tool("unmesh", "--unload")
                for number in range(4):
                    talk.talks(number, 300)
                    talk.order("reset" if number % 2 else "end", number)
                until(f"netfilter takes notice of the ends: {entries(lab)}", lambda: all(left <= 120 for _, left, _ in entries(lab)))
            check(not invalid(lab), f"{shape}: netfilter calls {invalid(lab)} packets invalid")


def hold_each(lab, what):
    """A connection whose packets go straight, as nothing goes past TCP between namespaces, and in each family one that goes past TCP."""
    lab.fresh()
    held = [pairs.hold(lab, pod, six=six, port=8080) for pod, six in (("stranger", False), ("client", False), ("client", True))]

    def go_on():
        for child in held:
            pairs.exchange(child, what, 200)
        return all(f["packets_shortcut"] > 200 if lab.mode == "auto" and f["client"]["pod"] == "stranger" else f["bytes_redirected"] > 20000
                   for f in lab.flows_to("server"))
    until(f"{what}: one goes straight, two past TCP", go_on)
    return held


@test
def what_netfilter_forbids_stays_forbidden():
    """From the start, and by a rule that comes when a connection goes straight already, or another past TCP, which takes its time."""
    if TC_ONLY:
        raise Skip("there are no shortcuts with the programs at the links alone")
    for shape in SHAPES if LONG else SHAPES[1:]:
        with accel.Node("auto", shape=shape) as lab:
            track(lab, shape, "tcp dport 8080 counter drop")
            with Talk(lab) as talk:
                pairs.serve(lab, 8080)
                got = talk.order("open", lab.to("server"), 8080)
                check(got == "TimeoutError", f"{shape}: a connection that netfilter forbids: {got}")
                check(not straight(lab), "nothing went straight")
            lab.exec("@node", "nft", "flush", "ruleset")
            track(lab, shape)
            held = hold_each(lab, shape)
            nft(lab, "insert rule inet n f tcp dport 8080 drop")
            begun = time.monotonic()
            while held:
                held = [child for child in held if pairs.order(child, 20, seconds=2)]
                check(time.monotonic() < begun + 12 + 3 * 2 + 2, f"{shape}: of what netfilter comes to forbid goes on: {lab.flows_to('server')}")


# ---- shortcuts and redirect at once ----

# One connection from each port of a range. Of every eighth, the messages are as many as take it past TCP. Arguments: address, port, first
# port, how many.
MANY = r"""
import select, socket, sys
to, first, count = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])
message = b"e" + b"x" * 63 # as tests/node/pair.c has it
for port in range(first, first + count):
    with socket.socket() as s:
        s.bind(("", port))
        s.connect(to)
        s.setblocking(False)
        p = select.poll()
        p.register(s, select.POLLIN)
        for _ in range(1 if port % 8 else 100):
            s.sendall(message)
            got = b""
            while len(got) < len(message):
                assert p.poll(10000)
                got += s.recv(len(message))
            assert got == message
"""


def leaves(lab, address, first, nr):
    """So many connections one after another, and the seconds that entries of theirs have yet to live."""
    for port in range(first, first + nr, 1000):
        server = pairs.serve(lab, 8080) # which has room for so many
        lab.run("client", "python3", "-c", MANY, address, "8080", str(port), str(min(1000, first + nr - port)))
        server.kill()
        server.wait()
    return [left for _, left, port in entries(lab) if first <= port < first + nr]


def both_ways(shape, mode, nr):
    what = f"{shape}, {mode}"
    with accel.Node(mode, shape=shape) as lab:
        track(lab, shape)
        # No entry may go while the last connections are made.
        lab.exec("@node", "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=600")
        with_mesh = leaves(lab, lab.to("server"), 10000, nr)
        check(accel.redirected(lab.flows_to("server")) > nr // 8 * 100 * 64, f"{what}: too little went past TCP")
        server = pairs.serve(lab, 8080)
        held = hold_each(lab, what)
        lab.tool("unmesh", "--unload")
        for child in held:
            pairs.exchange(child, f"{what}, after the mesh is gone")
            child.stdin.close()
            check(child.wait(10) == 0, f"{what}: it ends well")
        server.kill()
        server.wait()
        until(f"{what}: netfilter takes notice of the ends: {entries(lab)}", lambda: all(left <= 600 for _, left, _ in entries(lab)))
        without = leaves(lab, accel.IPS["server"][0], 20000, nr)
        check(0 < len(with_mesh) <= len(without), f"{what}: {len(with_mesh)} entries, without a mesh {len(without)}")
        check(max(with_mesh) <= 600, f"{what}: one stays for {max(with_mesh)} seconds")
        check(not invalid(lab), f"{what}: netfilter calls {invalid(lab)} packets invalid")


@test
def both_ways_keep_to_netfilter():
    """Connections whose ends netfilter sees, of which it keeps no more entries than without a mesh; and such as go on after the mesh is gone,
    in the middle."""
    if TC_ONLY:
        raise Skip("there are no shortcuts with the programs at the links alone")
    for shape in SHAPES if LONG else SHAPES[1:]:
        for mode in ("auto", "on") if LONG else ("auto", ):
            both_ways(shape, mode, 10000 if LONG else 1000)


# Segments of TCP under any addresses, over the node's routes. Arguments: source, port, destination, port, flags, count.
FORGE = r"""
import socket, struct, sys
source, sport, to, dport, flags, count = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def total(b):
    n = sum(struct.unpack(f">{len(b) // 2}H", b))
    while n >> 16:
        n = (n & 65535) + (n >> 16)
    return ~n & 65535
ends = socket.inet_aton(source) + socket.inet_aton(to)
for i in range(int(count)):
    tcp = struct.pack(">HHIIBBHHH", int(sport), int(dport), 7001, 9001, 80, int(flags), 65535, 0, 0) + b"forged"
    tcp = tcp[:16] + struct.pack(">H", total(ends + struct.pack(">HH", 6, len(tcp)) + tcp)) + tcp[18:]
    s.sendto(struct.pack(">BBHHHBBH", 69, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + ends + tcp, (to, 0))
"""
SYN, SYN_ACK, ACK = 2, 18, 16


def forge(lab, pod, source, destination, flags, count=1):
    lab.exec(pod, "python3", "-c", FORGE, *map(str, (*source, *destination, flags, count)))


def segments(lab, pod):
    """Segments of TCP that the pod's kernel has taken in."""
    names, values = [line.split() for line in lab.exec(pod, "cat", "/proc/net/snmp").splitlines() if line.startswith("Tcp:")]
    return int(dict(zip(names, values))["InSegs"])


@test
def pods_that_conspire_do_not_get_past_netfilter():
    """Both ends act a handshake that netfilter lets nobody see, then send."""
    for shape in SHAPES:
        with node(shape) as lab:
            track(lab, shape, "tcp dport 8080 drop")
            client, web = (lab.pod("client")["ips"][0], 40000), (lab.pod("web")["ips"][0], 8080)
            before = segments(lab, "web")
            forge(lab, "client", client, web, SYN)
            forge(lab, "web", web, client, SYN_ACK)
            for _ in range(3):
                forge(lab, "client", client, web, ACK, 5)
                forge(lab, "web", web, client, ACK, 5)
            check(not straight(lab), f"{shape}: {straight(lab)} went straight")
            check(segments(lab, "web") == before, f"{shape}: {segments(lab, 'web') - before} segments have arrived")


EVIL = '{apiVersion: v1, kind: Pod, metadata: {name: evil}, spec: {containers: [{name: c}]}}'


@test
def nobody_else_can_use_a_shortcut():
    """Another pod sends under the addresses and ports of a connection that goes straight."""
    if TC_ONLY:
        raise Skip("there are no shortcuts with the programs at the links alone")
    for shape in SHAPES:
        with Lab(texts=[APP + "---\n" + EVIL], shape=shape) as lab:
            client, web = lab.pod("client")["ips"][0], (lab.pod("web")["ips"][0], 8080)
            before = segments(lab, "web")
            forge(lab, "evil", (client, 40000), web, ACK, 5)
            until("without the mesh, the segments do arrive", lambda: segments(lab, "web") >= before + 5)
            lab.mesh()
            with Talk(lab) as talk:
                port = talk.opens(*web)
                talks_straight(lab, talk)
                counts = lab.status()["plane"]["counters"]["from_pod"]
                before = segments(lab, "web")
                forge(lab, "evil", (client, port), web, ACK, 5)
                now = lab.status()["plane"]["counters"]["from_pod"]
                check(now.get("spoofed_ip", 0) == counts.get("spoofed_ip", 0) + 5, f"{shape}: the guard sees each: {now}")
                # The client's last acknowledgement may be on its way.
                check(now["shortcut"] <= counts["shortcut"] + 1, f"{shape}: none goes straight")
                check(segments(lab, "web") <= before + 1, f"{shape}: none arrives")
                talk.talks()


# One connection from each port of a range, one line there and back each. Arguments: address, port, first port, how many.
EACH = r"""
import socket, sys
to, first, count = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])
for port in range(first, first + count):
    with socket.socket() as s:
        s.settimeout(10)
        s.bind(("", port))
        s.connect(to)
        s.sendall(b"line\n")
        assert s.recv(100).endswith(b"line\n")
"""


@test
def short_connections_leave_no_more_entries_than_without():
    """Of 10,000 connections, and none for longer."""
    for shape in SHAPES if LONG else SHAPES[1:]:
        counts = {}
        for setting in ("off", "on"):
            with node(shape, "--shortcut", setting) as lab:
                track(lab, shape)
                # None may go while the last connections are made.
                lab.exec("@node", "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=600")
                lab.exec("client", "python3", "-c", EACH, lab.pod("web")["ips"][0], "8080", "20000", "10000")
                left = entries(lab)
                counts[setting] = len(left)
                check(all(seconds <= 600 for _, seconds, _ in left), f"{shape}, {setting}: {[e for e in left if e[1] > 600][:3]} stay")
                check(not invalid(lab), f"{shape}, {setting}: {invalid(lab)} packets are called invalid")
        check(counts["on"] <= counts["off"], f"{shape}: entries with shortcuts and without: {counts}")


# ---- policies, and others at a link ----

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: %s, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/%s]}}]}]
"""


@test
def policies_keep_their_say():
    """One that forbids another client costs no connection its shortcut; one that forbids this one ends it where changes cut."""
    for shape in SHAPES:
        with node(shape, "--on-policy-change", "cut") as lab, Talk(lab) as talk:
            count_forwarded(lab, shape)
            for number, (address, port) in enumerate(ways(lab)):
                talk.opens(address, port)
                talks_straight(lab, talk, number)
            before = forwarded(lab, shape)
            lab.apply(texts=[POLICY % ("others", "nobody")])
            for number in range(4):
                talk.talks(number, 1)
            check(forwarded(lab, shape) >= before + 8, f"{shape}: each direction is asked about at the server's link again")
            for number in range(4):
                talks_straight(lab, talk, number)
            lab.apply(texts=[POLICY % ("this-one", "client")])
            for number in range(4):
                got = talk.order("talk", number, 1)
                check(got in ("ConnectionResetError", "ConnectionAbortedError", "talked 0"), f"{shape}: connection {number} is cut: {got}")
            before = straight(lab)
            got = talk.order("open", lab.pod("web")["ips"][0], 8080)
            check(got == "PermissionError", f"{shape}: and no other is made: {got}")
            check(straight(lab) == before, "nothing went straight")


@test
def a_queue_at_a_link_is_not_gone_round():
    """Nor are programs of others."""
    for shape in SHAPES:
        with node(shape) as lab, Talk(lab) as talk:
            talk.opens(*ways(lab)[0])
            talks_straight(lab, talk)
            for add in (["qdisc", "add", "dev", "veth0", "root", "tbf", "rate", "10gbit", "burst", "1mb", "limit", "1mb"],
                        ["qdisc", "add", "dev", "veth1", "clsact"]):
                lab.exec("@node", "tc", *add)
                if "clsact" in add:
                    lab.exec("@node", "tc", "filter", "add", "dev", "veth1", "ingress", "prio", "7", "bpf", "bytecode", "1,6 0 0 0")
                links = lambda: {i["name"]: i["shortcuts"] for i in lab.status()["plane"]["interfaces"] if i["kind"] == "pod"}
                until(f"{shape}: the link of the two is left out: {links()}", lambda: not links()[add[3]])
                before = straight(lab)
                talk.talks()
                check(straight(lab) == before, f"{shape}: nothing goes round {add}")
                lab.exec("@node", "tc", "qdisc", "del", "dev", add[3], *(["root"] if "root" in add else ["clsact"]))
                until(f"{shape}: the link is used again: {links()}", lambda: all(links().values()))
                talks_straight(lab, talk)


if __name__ == "__main__":
    main()
