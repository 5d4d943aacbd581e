#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The way of connections through the parser's network namespace and back, with a script in its place (parser_path.c stands in for
meshd): both shapes, IPv4 and IPv6, from pods and from outside. The parser sees what was dialled and who has dialled, the server sees the
client; nobody else can be spoken for; without a parser connections are refused or go on at L4; what is there stays when rules change."""
import contextlib
import errno
import json
import os
import subprocess
import time

from labs import BUILD, SHORT, TC_ONLY, WEB, Lab
from suite import check, main, test

PROGRAM, PODEXEC = os.path.join(BUILD, "tests", "node", "parser_path"), os.path.join(BUILD, "lab", "podexec")
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIPs: [10.96.7.7, "fd00:10:96::707"], clusterIP: 10.96.7.7, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
VIPS = ("10.96.7.7", "fd00:10:96::707")
# Joins each connection with one to the next of the endpoints of its family, under the client's address, or with --as another's. The first
# line that a client sends may ask for something else: `who` says who is at either end.
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
        leg.bind((client if pretend == "-" else pretend, 0))
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
            held[name] = socket.create_connection((words[0], int(words[1])), 4)
            print("ok", flush=True)
        elif verb == "close":
            held.pop(name).close()
            print("ok", flush=True)
        elif verb == "bulk":
            held[name].sendall(b"x" * int(words[0]) + b"\n")
            print("ok", flush=True)
        else:
            held[name].sendall(" ".join(words).encode() + b"\n")
            print(held[name].recv(65536).decode().strip() or "EOF", flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, "timeout"), flush=True)
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
                        record["node"], *(["--socket-hooks", "off"] if TC_ONLY else []), *options]
        super().__init__(subprocess.Popen(self.enter(PROGRAM, "web", *self.options), text=True, stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE))
        check(self.line() == "ready", "it does not start")

    def enter(self, *command):
        return [PODEXEC, "-c", self.lab_cgroup(), "-N", f"/proc/{self.record['node_pid']}/ns/net", "--", *command]

    def lab_cgroup(self):
        return os.path.join(os.path.dirname(self.record["cgroup"]), "node")

    def run(self, *command):
        return subprocess.run(self.enter(*command), check=True, capture_output=True, text=True).stdout

    def up(self, pretend="-", listeners=2):
        ends = [f"{ip}|8080" for pod in self.lab.pods() if pod["workload"] == "web" for ip in pod["ips"]]
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


@contextlib.contextmanager
def meshed(shape, how="closed", texts=(SERVICE, )):
    with Lab(texts=[WEB, *texts], shape=shape) as lab, Node(lab) as node:
        check(node.ask("apply", how).startswith("ok"), "no rules")
        yield lab, node


def through(lab, node):
    own = lab.pod("client")["ips"]
    webs = {p["pod"] for p in lab.pods() if p["workload"] == "web"}
    node.up()
    with client_of(lab) as client:
        for vip in VIPS:
            six = ":" in vip
            for i in range(3):
                check(client.ask("open", i, vip, 80) == "ok", f"{vip} does not answer")
                got = json.loads(client.ask("say", i, "who"))
                mine = next(ip for ip in own if (":" in ip) == six)
                check(got == [mine, vip, 80], f"the parser sees {got} of {mine} to {vip}")
                said = client.ask("say", i, "hello")
                check(said.split()[0] in webs, f"through the parser: {said}")
        check(node.ask("relays") == "2", "clients of the parser")
        for i in range(3):
            client.ask("close", i)
    for vip in VIPS:
        literal = f"[{vip}]" if ":" in vip else vip
        seen = json.loads(lab.exec("client", "curl", "-sS", "-m", "5", f"http://{literal}/"))
        check(seen["peer"] in own, f"the server sees {seen['peer']} of {own}")
    eventually("0", lambda: node.ask("relays"))


@test
def bridge():
    with meshed("bridge") as (lab, node):
        through(lab, node)


@test
def routed():
    with meshed("routed") as (lab, node):
        through(lab, node)


main()
