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

from labs import TC_ONLY, Lab
from suite import Skip, check, main, test

SHAPES = ("bridge", "routed")
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


if __name__ == "__main__":
    main()
