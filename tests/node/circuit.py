#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Istio's circuit breaking task, of connections: a service that takes one connection at a time, and three clients. One is served; the others
are refused at once, and counted. The same through a real Envoy, where who is over the limit sees its connection closed."""
import collections
import concurrent.futures
import os
import time

import peers # first: it finds tests/lib
import envoys
import labs
from suite import check, main, test

CLIENTS = {f"c{i}": [f"10.244.1.{i}"] for i in (1, 2, 3)}
SERVER, PROXY, VIP = "10.244.1.10", "10.244.1.11", "10.96.1.1"
TRIES, HOLD_MS = 20, 40 # of each client; each connection is held for so long
PACE = os.path.join(peers.PROGRAMS, "pace")
RULES = peers.text([
    peers.service("httpbin", [VIP], [("tcp", 8000, 9000)]), peers.endpoints("httpbin", [SERVER], [("tcp", 9000)]),
    {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "httpbin"},
     "spec": {"host": "httpbin", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1}}}}}])
ENVOY = {"connect_timeout": "1s", "circuit_breakers": {"thresholds": [{"max_connections": 1}]}}


def pace(lab, client, target, seconds, rate, hold_ms):
    child = lab.spawn(lab.in_pod(client, PACE, target, rate, seconds, 1000, hold_ms))
    check(child.stdout.readline() == "begun\n", "no client")
    return child


def attempts(child):
    """Not communicate(): what came together with the first line is in the file's buffer."""
    lines = [line.split(" ") for line in child.stdout.read().splitlines()]
    check(child.wait(60) == 0, "a client failed")
    return lines


def outcomes(child):
    return collections.Counter(line[2] for line in attempts(child))


def one_has_it(lab, target, over):
    """One holds the connection, nobody else gets one; when it lets go, the next one does."""
    holder = pace(lab, "c1", target, 1, 1, 60000)
    check(holder.stdout.readline().split(" ")[2] == "0", "the first connection was not answered")
    for client in ("c2", "c3"):
        child = pace(lab, client, target, TRIES / 100, 100, 0)
        lines = attempts(child)
        seen = collections.Counter(line[2] for line in lines)
        check(set(seen) <= over and sum(seen.values()) == TRIES, f"{client}: {seen} while another has the one connection")
        took = sorted(int(line[1]) for line in lines)
        check(took[TRIES // 2] < 100000, f"{client}: refused after {took[TRIES // 2]} us in the middle")
    holder.kill()
    deadline = time.monotonic() + 10
    while lab.load("c2", [target], "--count", "1")["failures"]: # its FIN is on its way
        check(time.monotonic() < deadline, "the connection is not free again")


def overflows(lab):
    return sum(f["reason"] == "overflow" for f in lab.flows())


def three_at_once(lab, target):
    """They try at their own pace, faster than the one connection is free again: some of all are served."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        children = [pace(lab, client, target, TRIES * HOLD_MS / 1000, 1000 / HOLD_MS, HOLD_MS) for client in CLIENTS]
        return sum(pool.map(outcomes, children), collections.Counter())


def lab_of_three(*more):
    return peers.PeerLab([peers.pod(name, ips) for name, ips in (CLIENTS | {"server": [SERVER]} | dict(more)).items()])


@test
def one_connection_and_three_clients():
    with lab_of_three() as lab:
        lab.serve("server", 9000)
        lab.mesh()
        lab.apply(texts=[RULES])
        target = f"{VIP}:8000"
        one_has_it(lab, target, {"ECONNREFUSED"})
        check(overflows(lab) >= 2 * TRIES, f"{overflows(lab)} flows say that they were refused for it")
        before = overflows(lab)
        seen = three_at_once(lab, target)
        print(f"mesh: {dict(seen)}", flush=True)
        check(set(seen) == {"0", "ECONNREFUSED"} and sum(seen.values()) == 3 * TRIES, f"{seen}")
        # One at a time, and each is held for as long as a client waits between two: at most one of three.
        check(TRIES // 4 <= seen["0"] <= TRIES + 1, f"{seen}")
        check(overflows(lab) - before == seen["ECONNREFUSED"], f"{overflows(lab) - before} flows say so, of {seen['ECONNREFUSED']}")


@test
def the_same_in_envoy():
    envoys.program()
    with lab_of_three(("proxy", [PROXY])) as lab:
        lab.serve("server", 9000)
        envoys.start(lab, "proxy", 7000, [(SERVER, 9000)], **ENVOY)
        target = f"{PROXY}:7000"
        one_has_it(lab, target, {"EPIPE", "ECONNRESET"})
        seen = three_at_once(lab, target)
        print(f"Envoy: {dict(seen)}", flush=True)
        check(TRIES // 4 <= seen["0"] <= TRIES + 1 and sum(seen.values()) == 3 * TRIES, f"{seen}")


main()
