#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""One of four endpoints refuses, then swallows what it is sent, then is slow by 200 ms: what becomes of connections at a steady pace, of a
service without outlier detection, of one with it, and through a real Envoy with the same policy. With the rule few connections
suffer, and the endpoint has traffic again once it is well. The curves are drawn in BUILD/outlier.svg,
at the links alone in BUILD/outlier-links.svg."""
import concurrent.futures
import os
import sys
import time

import peers # first: it finds tests/lib
import curves
import envoys
import labs
from suite import Skip, check, main, test

RATE, TIMEOUT_MS, SLOW_MS = 100, 1000, 100
BREAK_S, MEND_S, WELL_S, END_S = 3, 8, 12, 16 # from when the endpoint must be back
BUCKET_S = 0.5
SERVERS = {f"s{i}": [f"10.244.1.{10 + i}"] for i in (1, 2, 3, 4)}
CLIENTS = {"plain": ["10.244.1.1"], "ruled": ["10.244.1.2"], "proxied": ["10.244.1.3"], "proxy": ["10.244.1.4"]}
VIPS = {"plain": "10.96.1.1", "ruled": "10.96.1.2"}
PACE = os.path.join(peers.PROGRAMS, "pace")
SLOWLINE = os.path.join(labs.REPO, "tests", "lib", "slowline.py")
CURVES = {"plain": "no rule", "ruled": "outlier detection", "proxied": "the same in Envoy"}
PANELS = {}


def destination_rule():
    policy = {"loadBalancer": {"simple": "RANDOM"}, "connectionPool": {"tcp": {"connectTimeout": "250ms"}},
              "outlierDetection": {"consecutive5xxErrors": 3, "interval": "500ms", "baseEjectionTime": "2s", "maxEjectionPercent": 50}}
    plain = {"loadBalancer": {"simple": "RANDOM"}}
    return [{"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
             "metadata": {"name": name, "annotations": {"tulle.dev/latency-ejection": "3"} if name == "ruled" else {}},
             "spec": {"host": name, "trafficPolicy": p}} for name, p in (("plain", plain), ("ruled", policy))]


ENVOY = {"connect_timeout": "0.25s", "lb_policy": "RANDOM",
         "outlier_detection": {"consecutive_5xx": 3, "interval": "0.5s", "base_ejection_time": "2s", "max_ejection_percent": 50,
                               "enforcing_success_rate": 0}}


class Endpoint:
    """s4, which can be broken in three ways, and mended."""

    def __init__(self, lab):
        self.lab, self.server, self.line = lab, lab.serve("s4", 9000), None

    def refuse(self):
        self.server.kill()
        self.server.wait()

    def swallow(self):
        for ips in CLIENTS.values():
            self.lab.ip("s4", "route", "replace", "blackhole", ips[0])

    def slow(self):
        self.line = self.lab.spawn(self.lab.in_pod("s4", sys.executable, SLOWLINE, 200, *(ips[0] for ips in CLIENTS.values())))
        check(self.line.stdout.readline() == "ready\n", "the slow line is not up")

    def mend(self):
        if self.server.poll() is not None:
            self.server = self.lab.serve("s4", 9000)
        elif self.line:
            self.line.communicate()
            self.line = None
        else:
            for ips in CLIENTS.values():
                self.lab.ip("s4", "route", "del", "blackhole", ips[0])


def paced(lab, client, target):
    """[(second, us, errno, who)] of a whole run."""
    child = lab.spawn(lab.in_pod(client, PACE, target, RATE, END_S, TIMEOUT_MS))
    check(child.stdout.readline() == "begun\n", "no client")
    out = child.stdout.read() # not communicate(): what came together with the first line is in the file's buffer
    check(child.wait(30) == 0, f"the client in {client} failed")
    return [(int(at) / 1000, int(us), error, who) for at, us, error, who in (line.split(" ", 3) for line in out.splitlines())]


def at(start, second):
    time.sleep(max(start + second - time.monotonic(), 0)) # the scenario's own clock


def scenario(lab, how):
    """The endpoint is broken for a while; what each client saw."""
    endpoint, targets = Endpoint(lab), {"plain": f"{VIPS['plain']}:80", "ruled": f"{VIPS['ruled']}:80"}
    if envoys.installed():
        targets["proxied"] = f"{CLIENTS['proxy'][0]}:7000"
        proxy = envoys.start(lab, "proxy", 7000, [(ips[0], 9000) for ips in SERVERS.values()], **ENVOY)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        start = time.monotonic()
        runs = {name: pool.submit(paced, lab, name, to) for name, to in targets.items()}
        at(start, BREAK_S)
        getattr(endpoint, how)()
        at(start, MEND_S)
        endpoint.mend()
        seen = {name: run.result() for name, run in runs.items()}
    endpoint.server.kill()
    endpoint.server.wait()
    if envoys.installed():
        proxy.kill()
        proxy.wait()
    return seen


def suffers(one):
    return one[2] != "0" or one[1] > SLOW_MS * 1000


def curve(seen):
    buckets = {}
    for one in seen:
        buckets.setdefault(int(one[0] / BUCKET_S), []).append(suffers(one))
    return [((i + 0.5) * BUCKET_S, sum(b) / len(b)) for i, b in sorted(buckets.items())]


def within(seen, begin, end):
    return [one for one in seen if begin <= one[0] < end]


def judge(how, seen):
    """With 500 connections while it is broken, a quarter of them to it: 125 +- 10 suffer without the rule. Bounds are six of these away."""
    title = {"refuse": "refuses", "swallow": "swallows packets", "slow": "is slow by 200 ms"}[how]
    PANELS[f"One of four endpoints {title}: connections that failed or took more than {SLOW_MS} ms"] = {
        CURVES[name]: curve(s) for name, s in seen.items()}
    curves.draw(os.path.join(labs.BUILD, "outlier-links.svg" if labs.TC_ONLY else "outlier.svg"), END_S, (BREAK_S, MEND_S), PANELS)
    bad = {name: sum(map(suffers, within(s, BREAK_S, MEND_S))) for name, s in seen.items()}
    back = {name: sum(one[3] == "s4 9000" for one in within(s, WELL_S, END_S)) for name, s in seen.items()}
    after = {name: sum(map(suffers, within(s, WELL_S, END_S))) for name, s in seen.items()}
    print(f"{how}: of {RATE * (MEND_S - BREAK_S)} connections suffered {bad}; of {RATE * (END_S - WELL_S)} later {after}, it served {back}", flush=True)
    check(bad["plain"] > 65, f"{how}: without the rule only {bad['plain']} suffered: the endpoint was not broken")
    # Twice three in a row, and what was on its way then. By latency: until there are samples and an interval has ended, twice.
    check(bad["ruled"] < (60 if how == "slow" else 35), f"{how}: {bad['ruled']} suffered with the rule")
    check(min(back["plain"], back["ruled"]) > 45, f"{how}: it is well, and had {back} of {RATE * (END_S - WELL_S)} connections")
    check(after["ruled"] < 5, f"{how}: {after['ruled']} suffer when all is well again")


def lab_of_four():
    docs = [peers.pod(name, ips) for name, ips in (SERVERS | CLIENTS).items()]
    rules = destination_rule()
    for name, vip in VIPS.items():
        rules += [peers.service(name, [vip], [("tcp", 80, 9000)]),
                  peers.endpoints(name, [ips[0] for ips in SERVERS.values()], [("tcp", 9000)])]
    return docs, peers.text(rules)


def run(how):
    docs, rules = lab_of_four()
    with peers.PeerLab(docs) as lab:
        for name in ("s1", "s2", "s3"):
            lab.serve(name, 9000)
        lab.mesh()
        lab.apply(texts=[rules])
        judge(how, scenario(lab, how))


@test
def an_endpoint_that_refuses():
    run("refuse")


@test
def an_endpoint_that_swallows_packets():
    if labs.TC_ONLY:
        raise Skip("connectTimeout acts at sockets, and for the links a SYN without an answer has two minutes")
    run("swallow")


@test
def an_endpoint_that_is_slow():
    if labs.TC_ONLY:
        raise Skip("the links do not know how long a connect takes")
    run("slow")


@test
def envoy_beside_it():
    """For the count of what was left out."""
    envoys.program()
    check(all(CURVES["proxied"] in c for c in PANELS.values()), f"curves of Envoy are missing: {PANELS.keys()}")


main()
