#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The way of connections through the parser's network namespace and back, with a script in its place (parser_path.c stands in for
meshd): both shapes, IPv4 and IPv6, from pods and from outside. The parser sees what was dialled and who has dialled, the server sees the
client; nobody else can be spoken for; without a parser connections are refused or go on at L4; what is there stays when rules change."""
import json
import os
import subprocess
import time

from labs import BUILD, WEB, Lab
from suite import check, main, test

PROGRAM, PODEXEC = os.path.join(BUILD, "tests", "node", "parser_path"), os.path.join(BUILD, "lab", "podexec")
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIPs: [10.96.7.7, "fd00:10:96::707"], clusterIP: 10.96.7.7, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
NODE_PORT = SERVICE.replace("spec: {", "spec: {type: NodePort, ").replace("port: 80,", "port: 80, nodePort: 30080,")
VIPS, OUTSIDE = ("10.96.7.7", "fd00:10:96::707"), ("172.31.0.250", "fd31::250")
RIVAL = """
---
{apiVersion: v1, kind: Pod, metadata: {name: rival, labels: {app: rival}}, spec: {serviceAccountName: rival, containers: [{name: c}]}}
"""
FAR = "{apiVersion: v1, kind: Pod, metadata: {name: far, labels: {app: far}}, spec: {containers: [{name: c}]}}"
NO_RIVALS = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-rivals}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/rival]}}]}]
"""
# Joins each connection with one to the next of the endpoints of its family, under the client's address (`-`), from that port of it (`=PORT`), or
# under another address. The first line that a client sends may ask for something else: `who` says who is at either end.
PARSER = r"""
import errno, itertools, json, os, socket, sys, threading
words = sys.argv[1:]
nr, pretend, ends = int(words[0]), words[1], [w.rsplit("|", 1) for w in words[2:]]
assert os.getuid() == 65534
turns = {six: itertools.cycle([e for e in ends if (":" in e[0]) == six]) for six in (False, True)}
def plain(address):
    return address[0].removeprefix("::ffff:")
def copy(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass
def serve(s):
    client, dialled = plain(s.getpeername()), plain(s.getsockname())
    first = s.recv(65536)
    if first.startswith(b"who"):
        s.sendall(json.dumps([client, dialled, s.getsockname()[1]]).encode() + b"\n")
        first = s.recv(65536)
    if not first:
        return
    six = ":" in client
    leg = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    leg.setsockopt(socket.IPPROTO_IP, 24, 1)
    leg.settimeout(2)
    try:
        leg.bind((client, int(pretend[1:])) if pretend[0] == "=" else (client if pretend == "-" else pretend, 0))
        host, port = next(turns[six])
        leg.connect((host, int(port)))
    except OSError as e:
        s.sendall((errno.errorcode.get(e.errno, "timeout") + "\n").encode())
        return
    leg.settimeout(None)
    leg.sendall(first)
    threading.Thread(target=copy, args=(s, leg), daemon=True).start()
    copy(leg, s)
def accept(fd):
    listener = socket.socket(fileno=fd)
    listener.setblocking(True)
    while True:
        threading.Thread(target=served, args=(listener.accept()[0],), daemon=True).start()
def served(s):
    with s:
        serve(s)
for fd in range(3, 3 + nr):
    threading.Thread(target=accept, args=(fd,)).start()
"""
# Dials, and says on each line that is given to it what was answered, or the error.
CLIENT = r"""
import errno, socket, sys
held = {}
for line in sys.stdin:
    verb, name, *words = line.split()
    try:
        if verb == "open":
            source = ("", int(words[2])) if words[2:] else None
            held[name] = socket.create_connection((words[0], int(words[1])), 4, source)
            print("ok", flush=True)
        elif verb == "bulk":
            held[name].sendall(b"x" * int(words[0]))
            held[name].shutdown(socket.SHUT_WR)
            print(held[name].recv(64).decode(), flush=True)
        else:
            held[name].sendall(" ".join(words).encode() + b"\n")
            print(held[name].recv(65536).decode().strip() or "EOF", flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, "timeout"), flush=True)
"""

# Says how much it was sent.
SINK = r"""
import socket
with socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True) as l:
    print("ready", flush=True)
    while True:
        s, size = l.accept()[0], 0
        while data := s.recv(1 << 20):
            size += len(data)
        s.sendall(str(size).encode())
        s.close()
"""


class Lines:
    """A program that answers each line with one."""
    def __init__(self, process):
        self.process = process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)

    def line(self):
        return self.process.stdout.readline().strip()

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.line()


class Node(Lines):
    """What stands in for the lab's meshd."""
    def __init__(self, lab, *options):
        with open(lab.path("lab.json"), encoding="utf-8") as f:
            record = json.load(f)
        self.lab, self.record = lab, record
        if not os.path.ismount(lab.path("bpf")):
            subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", lab.path("bpf")], check=True)
        self.options = ["--cgroup", record["cgroup"], "--pin", lab.path("bpf", "tulle"), "--rules", lab.path("rules"), "--node-name",
                        record["node"], *options]
        super().__init__(subprocess.Popen(self.enter(PROGRAM, "web", *self.options), text=True, stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE))
        check(self.line() == "ready", "it does not start")

    def enter(self, *command):
        return [PODEXEC, "-c", self.lab_cgroup(), "-N", f"/proc/{self.record['node_pid']}/ns/net", "--", *command]

    def lab_cgroup(self):
        return os.path.join(os.path.dirname(self.record["cgroup"]), "node")

    def run(self, *command):
        return subprocess.run(self.enter(*command), check=True, capture_output=True, text=True, timeout=60).stdout

    def up(self, pretend="-", listeners=2, ends=None):
        """A parser for the pods of web, or for these ends."""
        ends = ends or [f"{ip}|8080" for pod in web_pods(self.lab) for ip in pod["ips"]]
        script = self.lab.file(PARSER)
        os.chmod(self.lab.folder.name, 0o755)
        os.chmod(script, 0o644)
        check(self.ask("up", listeners, "python3", script, listeners, pretend, *ends) == "ok", "no parser")

    def count(self, hook, reason):
        return int(self.ask("count", hook, reason))

    def unload(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.run(os.path.join(BUILD, "meshd"), *self.options, "--unload")


def at_node(lab, *command):
    return lab.exec("@node", *command)


def client_of(lab, pod="client"):
    return Lines(lab.popen(pod, "python3", "-c", CLIENT, stdin=subprocess.PIPE))


def state_of(node):
    """Rules and routes of the node, and its links' names."""
    return [node.run("ip", *family, *what) for family in ((), ("-6", )) for what in (("rule", ), ("route", "show", "table", "all"))]


def eventually(wanted, ask):
    deadline = time.monotonic() + 8
    while (got := ask()) != wanted:
        check(time.monotonic() < deadline, f"{got} and not {wanted}")
        time.sleep(0.05)



def web_pods(lab):
    return [p for p in lab.pods() if p["workload"] == "web"]


def answered(lab, said):
    return said.split()[0] in {p["pod"] for p in web_pods(lab)}


def through(lab, node, before=0):
    """The parser sees client and what it dialled, the server sees the client; who has no connection any more is not spoken for."""
    own = lab.pod("client")["ips"]
    with client_of(lab) as client:
        for first, vip in ((0, VIPS[0]), (3, VIPS[1])):
            mine = next(ip for ip in own if (":" in ip) == (":" in vip))
            for i in range(first, first + 3):
                check(client.ask("open", i, vip, 80) == "ok", f"{vip} does not answer")
                got = json.loads(client.ask("say", i, "who"))
                check(got == [mine, vip, 80], f"the parser sees {got} of {mine} to {vip}")
                said = client.ask("say", i, "hello")
                check(answered(lab, said), f"through the parser: {said}")
        check(node.ask("relays") == "2", f"{node.ask('relays')} clients of the parser")
    for vip in VIPS:
        literal = f"[{vip}]" if ":" in vip else vip
        seen = json.loads(lab.exec("client", "curl", "-sS", "-m", "5", f"http://{literal}/"))
        check(seen["peer"] in own, f"the server sees {seen['peer']} of {own}")
    eventually("0", lambda: node.ask("relays"))
    nr = int(node.ask("flows")) - before
    check(nr == 4 * len(VIPS), f"records of {nr} connections")


def nobody_else(lab, node):
    """A parser that takes another pod's address, which has no connection to it, is refused."""
    before = node.count("from_parser", "leg_unbound")
    node.up(web_pods(lab)[0]["ips"][0])
    with client_of(lab) as client:
        client.ask("open", 0, VIPS[0], 80)
        said = client.ask("say", 0, "hello")
    check(said == "ECONNREFUSED", f"as somebody else: {said}")
    check(node.count("from_parser", "leg_unbound") > before, "it is not counted")
    node.ask("down")
    # Nor is the client itself, where it has such a connection.
    server, port = web_pods(lab)[0]["ips"][0], 20000
    node.up(f"={port}", ends=[f"{server}|8080"])
    with client_of(lab) as client:
        client.ask("open", "own", server, 8080, port)
        client.ask("open", 0, VIPS[0], 80)
        said = client.ask("say", 0, "hello")
        check(said == "ECONNREFUSED", f"between the ends of the client's own connection: {said}")
        check(node.count("from_parser", "leg_taken"), "it is not counted")
        check(answered(lab, client.ask("say", "own", "hello")), "the client's own connection is broken")
    node.ask("down")
    node.up()


def rules_change(lab, node):
    """Who is with the parser stays there, and it can go on with servers; who comes later goes by the new rules."""
    with client_of(lab) as client:
        client.ask("open", "old", VIPS[0], 80)
        check(json.loads(client.ask("say", "old", "who"))[1] == VIPS[0], "not with the parser")
        node.ask("apply", "l4")
        client.ask("open", "new", VIPS[0], 80)
        check(answered(lab, client.ask("say", "new", "who")), "it goes to the parser by rules that are gone")
        check(answered(lab, client.ask("say", "old", "hello")), "what was open is open no more")
        node.ask("apply", "closed")
        check(answered(lab, client.ask("say", "new", "who")), "what was open at L4 is open no more")
        check(client.ask("open", "late", VIPS[0], 80) == "ok" and client.ask("say", "late", "who")[0] == "[", "not with the parser")
        check(node.ask("adopt") == "ok", "another meshd does not find the namespace")
        # Another parser: the one before keeps what it has.
        node.up()
        check(answered(lab, client.ask("say", "late", "hello")), "a parser that another follows loses a connection")
        check(client.ask("open", "last", VIPS[0], 80) == "ok" and client.ask("say", "last", "who")[0] == "[", "no successor")


def without_parser(lab, node):
    """Refused or at L4, by the row; what it had is reset."""
    with client_of(lab) as client:
        client.ask("open", "held", VIPS[0], 80)
        client.ask("say", "held", "who")
        node.ask("down")
        check(client.ask("say", "held", "hello") in ("EOF", "ECONNRESET", "EPIPE"), "a dead parser answers")
        for vip in VIPS:
            eventually("ECONNREFUSED", lambda: client.ask("open", "closed", vip, 80))
        check(node.count("from_pod", "no_parser"), "it is not counted")
        node.ask("apply", "open")
        for vip in VIPS:
            check(client.ask("open", vip, vip, 80) == "ok", "it does not fail open")
            check(answered(lab, client.ask("say", vip, "who")), "no answer at L4")
        # The same while there is somebody who listens in a namespace that is given up.
        node.up()
        check(node.ask("close") == "ok" and client.ask("open", "lost", VIPS[0], 80) == "ok", "it does not fail open")
        check(answered(lab, client.ask("say", "lost", "who")), "no answer at L4")
        node.up()
        check(client.ask("open", "again", VIPS[0], 80) == "ok" and client.ask("say", "again", "who")[0] == "[", "no parser again")


def nothing_left(lab, node, before):
    """Rules and routes of the node are what they were, with the parser and without; its link goes."""
    check(state_of(node) == before, f"the node has other rules or routes: {state_of(node)}, not {before}")
    check("tulle-l7" in node.run("ip", "-o", "link"), "no link")
    node.unload()
    check("tulle-l7" not in node.run("ip", "-o", "link") and not os.path.exists(lab.path("bpf", "tulle")), "something is left")
    check(state_of(node) == before, "the node is not what it was")


@test
def on_a_bridge():
    with Lab(texts=[WEB, SERVICE], shape="bridge") as lab:
        with Node(lab) as node:
            before = state_of(node)
            node.ask("apply", "closed")
            node.up()
            through(lab, node)
            nobody_else(lab, node)
            rules_change(lab, node)
            without_parser(lab, node)
            nothing_left(lab, node, before)


def from_outside(node):
    """Node ports: answers go back to where the client came in."""
    with client_of(node.lab, "@outside") as client:
        for own, ip in zip(OUTSIDE, node.lab.nodes()[0]["ips"]):
            check(client.ask("open", ip, ip, 30080) == "ok", f"{ip} does not answer outside")
            got = json.loads(client.ask("say", ip, "who"))
            check(got == [own, ip, 30080], f"the parser sees {got}")
            check(answered(node.lab, client.ask("say", ip, "hello")), "no answer outside")
            literal = f"[{ip}]" if ":" in ip else ip
            seen = json.loads(node.lab.exec("@outside", "curl", "-sS", "-m", "5", f"http://{literal}:30080/"))
            check(seen["peer"] == own, f"the server sees {seen['peer']}")


def own_server(lab):
    """A pod whose service leads back to itself, among others."""
    pods = {p["pod"] for p in web_pods(lab)}
    with client_of(lab, sorted(pods)[0]) as client:
        for vip in VIPS:
            said = set()
            for i in range(4):
                client.ask("open", i, vip, 80)
                said.add(client.ask("say", i, "hello").split()[0])
            check(said == pods, f"{vip} from one of its own pods: {said}")


def policies(lab, node):
    """The server's policy is asked about the client, not about the parser."""
    with client_of(lab, "rival") as rival, client_of(lab) as client:
        for who, wanted in ((rival, False), (client, True)):
            who.ask("open", 0, VIPS[0], 80)
            said = who.ask("say", 0, "hello")
            check(answered(lab, said) == wanted and (wanted or said == "ECONNREFUSED"), f"the policy allows {wanted}: {said}")
    check(node.count("from_parser", "denied"), "it is not counted")


def strict(lab):
    """A node that takes addresses only by the links that its routes have for them, and forwards only what its netfilter follows."""
    at_node(lab, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    at_node(lab, "nft", "add table inet t; add chain inet t f { type filter hook forward priority 0; policy drop; }; "
                        "add rule inet t f ct state established,related accept; add rule inet t f ct state new tcp dport 8080 accept")


@test
def routed():
    with Lab(texts=[WEB, NODE_PORT, RIVAL], shape="routed") as lab:
        strict(lab)
        with open(lab.path("rules", "policy.yaml"), "w", encoding="utf-8") as f:
            f.write(NO_RIVALS)
        with Node(lab, "--socket-hooks", "off") as node:
            node.ask("apply", "closed")
            node.up()
            through(lab, node)
            from_outside(node)
            own_server(lab)
            policies(lab, node)
            node.process.kill()
        # The namespace went with its last process, and the link with it.
        eventually(False, lambda: "tulle-l7" in node.run("ip", "-o", "link"))
        with Node(lab, "--socket-hooks", "off") as node:
            before = int(node.ask("flows"))
            node.up()
            through(lab, node, before)


@test
def servers_on_another_node():
    """Legs of pods go there as they are, legs of who comes from outside under the node's address; routers that take less than the parser's
    link are heard."""
    near = Lab(texts=[WEB, NODE_PORT], shape="bridge")
    far = Lab(texts=[FAR], shape="routed", options=["--join", near.name])
    with far.after(near), Node(near) as node:
        pod = far.pod("far")
        sink = far.popen("far", "python3", "-c", SINK)
        check(sink.stdout.readline() == "ready\n", "no server")
        node.ask("apply", "closed")
        node.up(ends=[f"{ip}|9000" for ip in pod["ips"]])
        link = at_node(far, "ip", "-o", "-4", "route", "get", pod["ips"][0]).split(" dev ")[1].split()[0]
        at_node(far, "ip", "link", "set", link, "mtu", "1300")
        with client_of(near, "@outside") as outside, client_of(near) as client:
            # What the first hears of a way, the kernel remembers for the second.
            node4, node6 = ((ip, 30080) for ip in near.nodes()[0]["ips"])
            vip4, vip6 = ((ip, 80) for ip in VIPS)
            for who, at in ((outside, node4), (client, vip6), (client, vip4), (outside, node6)):
                check(who.ask("open", at[0], *at) == "ok" and who.ask("say", at[0], "who")[0] == "[", f"{at} is not the parser's")
                got = who.ask("bulk", at[0], 200000)
                check(got == "200000", f"of 200000 bytes to {at} the server got {got}")
        sink.kill()
        sink.communicate()


main()
