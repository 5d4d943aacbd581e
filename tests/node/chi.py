#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Weights against real connections: chi-square (exact binomial for two), less than one false alarm in a million a case. The weights
of a route's destinations (VirtualService) and of a ServiceEntry's endpoints are two tables in the kernel; both are asked."""
import peers # first: it finds tests/lib
import labs
import stats
from suite import check, main, test

SERVER = ["10.244.1.2", "fd00:10:244::102"]
ROUTES = [[1, 1], [1, 2, 3], [0, 1], [7, 993], [2147483647, 1]]
VIPS = "240.1.0.{}", "fd00:240:1::{}"
CONNECTIONS = 3000 if labs.SHORT else 10000
HUNDRED_CONNECTIONS = 10000 if labs.SHORT else 50000
HUNDRED = [i + 1 for i in range(100)]
ALIKE_AT = 98
FIRST_PORT = 9000


def entry(name, at, weights, six):
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name},
            "spec": {"hosts": [f"{name}.example.com"], "addresses": [VIPS[six].format(at)], "resolution": "STATIC",
                     "ports": [{"number": 80, "name": "tcp", "protocol": "TCP"}],
                     "endpoints": [{"address": SERVER[six], "ports": {"tcp": FIRST_PORT + i}, "labels": {"n": str(i)}, "weight": w}
                                   for i, w in enumerate(weights)]}}


def route(name, weights):
    host = f"{name}.example.com"
    return [{"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": name},
             "spec": {"host": host, "subsets": [{"name": f"n{i}", "labels": {"n": str(i)}} for i in range(len(weights))]}},
            {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name},
             "spec": {"hosts": [host],
                      "tcp": [{"route": [{"destination": {"host": host, "subset": f"n{i}"}, "weight": w}
                                         for i, w in enumerate(weights)]}]}}]


def rules():
    docs = []
    for six in (0, 1):
        for i, weights in enumerate(ROUTES, 1):
            name = f"route{i}-{six}"
            docs += [entry(name, i, [1] * len(weights), six), *route(name, weights)]
        docs.append(entry(f"hundred-{six}", 99, HUNDRED, six))
    return docs


def fits(lab, address, weights, connections):
    seen = lab.load("client", [peers.target(address, 80)], "--count", str(connections))
    check(not seen["failures"], f"{address}: {seen['failures']} failed, first: {seen['first_error']}")
    by_name = {f"srv {FIRST_PORT + i}": w for i, w in enumerate(weights)}
    wrong = stats.split_error(seen["answers"], by_name)
    check(not wrong, f"{address} {weights[:4]}: {wrong}")


def alike(weights):
    """An entry of endpoints that have the same weight or none, and no other policy than chance."""
    docs = [entry("alike", ALIKE_AT, weights, 0),
            {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "alike"},
             "spec": {"host": "alike.example.com", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}}]
    docs[0]["spec"]["endpoints"] = [e for e in docs[0]["spec"]["endpoints"] if e["weight"]]
    return docs


def endpoints_are_replaced(lab):
    """Some endpoints go and others come, whose numbers do not follow those of the first."""
    for gone in range(90, 100), range(0, 100, 20):
        weights = [int(i not in gone) for i in range(100)]
        lab.apply(texts=[peers.text(alike(weights))])
        fits(lab, VIPS[0].format(ALIKE_AT), weights, 3000)


@test
def weights_are_exact():
    with peers.PeerLab([peers.pod("client", ["10.244.1.1", "fd00:10:244::101"]), peers.pod("srv", SERVER)]) as lab:
        lab.serve("srv", *range(FIRST_PORT, FIRST_PORT + 100))
        lab.mesh()
        lab.apply(texts=[peers.text(rules())])
        for vip in VIPS:
            for i, weights in enumerate(ROUTES, 1):
                fits(lab, vip.format(i), weights, CONNECTIONS)
            fits(lab, vip.format(99), HUNDRED, HUNDRED_CONNECTIONS)
        endpoints_are_replaced(lab)


main()
