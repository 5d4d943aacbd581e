#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Active connections are counted exactly, whatever happens to those who have them. 64 threads open and end connections in every way
there is, a tenth of them each refused, timed out, without a route, without a free address, closed before the SYN; meanwhile processes of
clients and servers are killed, pods are deleted with all they have, rules change, and meshd is killed and started again. In the end every endpoint
and every cluster has 0 connections, without anybody having counted anew; maxConnections was never exceeded by one, as the clients
themselves counted, and as many connections as it allows can be had. COUNTS=full makes a million connections of it."""
import itertools
import json
import os
import random
import time

import peers # first: it finds tests/lib
import labs
from suite import check, main, test

FULL = os.environ.get("COUNTS") == "full"
TRIES = 1000000 if FULL else 15000 if labs.SHORT else 60000 # at least
PAUSE_US = 30000
PLENTY = 1 << 40 # tries, until there have been enough tries and misfortunes
MISFORTUNES = 200 if FULL else 8 if labs.SHORT else 15 # at least
GAP_S = (0.1, 0.4) # between two
SLOTS, THREADS = 8, 8
LIMIT = 40
SEED = int(os.environ.get("COUNTS_SEED") or random.SystemRandom().randrange(1 << 31))

CHURN, ACTIVE = (os.path.join(peers.PROGRAMS, name) for name in ("churn", "active"))
IP = {name: [f"10.244.1.{i}", f"fd00:10:244::1{i:02}"] for i, name in enumerate(
    ("s1", "s2", "s3", "firm", "hole", *(f"c{i}" for i in range(4)), *(f"gone{i}" for i in range(4))), 1)}
NOWHERE = ["203.0.113.7", "2001:db8::7"]
VIP = {name: [f"10.96.1.{i}", f"fd00:10:96::1{i:02}"] for i, name in enumerate(
    ("good", "limited", "refused", "hole", "nowhere", "taken"), 1)}
# Kind of tests/node/churn.c: weight, service.
KINDS = {"good": (30, "good"), "limited": (20, "limited"), "refused": (10, "refused"), "nowhere": (10, "nowhere"),
         "taken": (10, "taken"), "deferred": (10, "good"), "hole": (10, "hole")}
if labs.TC_ONLY:
    del KINDS["nowhere"] # that is the node's, which is sparing with ICMP errors
    if not FULL:
        del KINDS["hole"] # links take more than two minutes to forget a SYN that nobody answered
# What each kind is to end with, for the test to have tested it.
ENDS = {"good": "0", "limited": "0", "refused": "ECONNREFUSED", "nowhere": "ENETUNREACH", "taken": "EADDRNOTAVAIL", "deferred": "0",
        "hole": "ETIMEDOUT"}


def limit(of, most):
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": of},
            "spec": {"host": of, "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": most}}}}}


def rules(good, port=9000):
    """good: who serves it."""
    where = {"good": ([IP[name] for name in good], port), "limited": ([IP["firm"]], 9000), "refused": ([IP["firm"]], 9999),
             "hole": ([IP["hole"]], 9000), "nowhere": ([NOWHERE], 9000), "taken": ([IP["firm"]], 9001)}
    docs = [limit("limited", LIMIT)]
    for name, (ips, target) in where.items():
        docs.append(peers.service(name, VIP[name], [("tcp", 80, target)]))
        docs += [peers.endpoints(name, [ip[six] for ip in ips], [("tcp", target)]) for six in (0, 1)]
    return peers.text(docs)


RULES = [rules(("s1", "s2", "s3")), rules(("s1", "s2")), rules(("s1", "s2", "s3"), 9001), rules(("s3",))]


class Churn:
    """The processes, and what befalls them."""

    def __init__(self, lab):
        self.lab, self.random = lab, random.Random(SEED)
        self.shared = os.path.join(lab.folder.name, "shared")
        self.pods = [f"c{i % 4}" for i in range(4)] + [f"gone{i}" for i in range(4)] # by slot
        self.processes = [None] * SLOTS
        self.servers = {}
        self.seeds = itertools.count(SEED % 1000000)
        self.rule_set = itertools.cycle(RULES[1:] + RULES[:1])
        self.happened = dict.fromkeys(("client", "server", "meshd", "rules", "pod"), 0)
        self.more(PLENTY)

    def more(self, tries):
        labs.run(CHURN, "more", self.shared, str(tries))

    def tries(self):
        seen = self.shown()
        return sum(sum(seen[kind].values()) for kind in KINDS)

    def start_client(self, slot):
        kinds = [f"{kind}={weight}={peers.target(ip, 80)}" for kind, (weight, service) in KINDS.items() for ip in VIP[service]]
        argv = self.lab.in_pod(self.pods[slot], CHURN, "run", self.shared, slot, THREADS, next(self.seeds), PAUSE_US,
                               *kinds)
        # Misfortunes have their turn however many threads there are.
        self.processes[slot] = self.lab.spawn(["nice", "-n", "15", *argv])
        check(self.processes[slot].stdout.readline() == "ready\n", f"no client in {self.pods[slot]}")

    def start_server(self, name):
        self.servers[name] = self.lab.serve(name, 9000, 9001)

    def shown(self):
        return json.loads(labs.run(CHURN, "show", self.shared))

    def stopped(self, slot):
        """A process that still runs, stopped, and not counted any more; None: it has ended."""
        process = self.processes[slot]
        if process.poll() is None:
            labs.run(CHURN, "stop", self.shared, str(slot), str(process.pid), ok=(0, 2))
        return process if process.poll() is None else None

    def kill_client(self):
        slot = self.random.randrange(SLOTS)
        process = self.stopped(slot)
        if process:
            process.kill()
            process.wait()
            self.start_client(slot)

    def kill_server(self):
        name = self.random.choice(sorted(self.servers))
        self.servers[name].kill()
        self.servers[name].wait()
        self.start_server(name)

    def kill_meshd(self):
        self.lab.kill_mesh()
        self.lab.mesh()

    def change_rules(self):
        self.lab.apply(texts=[next(self.rule_set)])

    def delete_pod(self):
        """Its last process holds its network namespace; everything goes at once."""
        slot = next((i for i, pod in enumerate(self.pods) if pod.startswith("gone")), None)
        if slot is None or not self.stopped(slot):
            return
        with open(os.path.join(self.lab.by_name[self.pods[slot]]["cgroup"], "cgroup.kill"), "w", encoding="ascii") as f:
            f.write("1")
        self.processes[slot].wait()
        self.pods[slot] = f"c{slot % 4}"
        self.start_client(slot)

    def run(self):
        for name in ("s1", "s2", "s3"):
            self.start_server(name)
        for slot in range(SLOTS):
            self.start_client(slot)
        verbs = {"client": self.kill_client, "server": self.kill_server, "meshd": self.kill_meshd, "rules": self.change_rules,
                 "pod": self.delete_pod}
        if labs.SHORT:
            del verbs["pod"], self.happened["pod"] # its links remember for two minutes who was closing then
        often = {"client": 8, "server": 5, "meshd": 2, "rules": 3, "pod": 2}
        # Each at least once, whatever the dice say.
        first = list(verbs)
        while self.tries() < TRIES or sum(self.happened.values()) < MISFORTUNES:
            what = first.pop() if first else self.random.choices(list(verbs), [often[verb] for verb in verbs])[0]
            verbs[what]()
            self.happened[what] += 1
            time.sleep(self.random.uniform(*GAP_S)) # the pace of misfortunes, nothing is awaited
        self.more(-PLENTY)
        for process in self.processes:
            process.wait(60)


def prepare(lab):
    lab.serve("firm", 9000, 9001)
    for name in [*(f"c{i}" for i in range(4)), *(f"gone{i}" for i in range(4))]:
        for six in (0, 1):
            lab.ip("hole", "route", "replace", "blackhole", IP[name][six])
            lab.ip(name, "route", "add", "throw", NOWHERE[six])
        lab.sysctl(name, "net.ipv4.tcp_fastopen=5", "net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_tw_reuse=1",
                   "net.ipv4.tcp_syn_retries=1")
    lab.mesh()
    lab.apply(texts=[RULES[0]])


def counted(lab):
    """What is not zero: (endpoints, clusters)."""
    seen = json.loads(labs.run(ACTIVE, lab.path("bpf", "tulle")))
    return tuple({i: e["active"] for i, e in seen[kind].items() if e["active"]} for kind in ("backends", "pools"))


def wait_for_zero(lab):
    """FINs are on their way, and links forget a connection some time after its last packet: bounded, ends with the condition."""
    deadline = time.monotonic() + (200 if labs.TC_ONLY else 20)
    while True:
        left = counted(lab)
        if left == ({}, {}) or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def fits_exactly(lab):
    """As many connections as are allowed, and the next one is refused; twice, since the first are given back."""
    for ip in VIP["limited"]:
        full = lab.spawn(lab.in_pod("c0", CHURN, "fill", peers.target(ip, 80)))
        seen = full.stdout.readline().strip()
        check(seen == f"{LIMIT} ECONNREFUSED", f"{ip}: connections until the limit of {LIMIT}, and then: {seen}")
        endpoints, pools = counted(lab)
        check(sum(endpoints.values()) == sum(pools.values()) == LIMIT, f"held: {LIMIT}, counted: {endpoints}, {pools}")
        full.communicate()
        check(wait_for_zero(lab) == ({}, {}), f"given back: {counted(lab)}")


@test
def active_counts_survive_everything():
    docs = [peers.pod(name, ips) for name, ips in IP.items()]
    with peers.PeerLab(docs) as lab:
        prepare(lab)
        churn = Churn(lab)
        start = time.monotonic()
        churn.run()
        took = time.monotonic() - start
        seen = churn.shown()
        print(f"seed {SEED}: {churn.tries()} tries in {took:.0f} s; {churn.happened}; {seen}", flush=True)
        left = wait_for_zero(lab)
        check(left == ({}, {}), f"seed {SEED}: still counted, of endpoints {left[0]}, of clusters {left[1]}")
        check(seen["held"] == 0 and seen["held_max"] <= LIMIT, f"seed {SEED}: {seen['held_max']} connections at a time, allowed are {LIMIT}")
        check(seen["held_max"] == LIMIT, f"{seen['held_max']} at most: the limit of {LIMIT} was never reached")
        check(all(churn.happened.values()), f"{churn.happened}")
        for kind in KINDS:
            end = ENDS[kind]
            share = seen[kind].get(end, 0) / max(sum(seen[kind].values()), 1)
            check(share > (0.02 if kind == "limited" else 0.5), f"{kind}: {end} was {share:.1%} of {seen[kind]}")
        fits_exactly(lab)


main()
