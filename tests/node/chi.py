#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Weights against real connections: chi-square (exact binomial for two), less than one false alarm in a million a case. The weights
of a route's destinations (VirtualService) and of a ServiceEntry's endpoints are two tables in the kernel; both are asked."""
import peers # first: it finds tests/lib
import labs
import stats
from suite import check, main, test

SERVER = "10.244.1.2"
ROUTES = {"240.1.0.1": [1, 1], "240.1.0.2": [1, 2, 3], "240.1.0.3": [0, 1], "240.1.0.4": [7, 993],
          "240.1.0.5": [2147483647, 1]}
CONNECTIONS = 3000 if labs.TC_ONLY else 10000
HUNDRED = "240.1.0.99"
HUNDRED_CONNECTIONS = 10000 if labs.TC_ONLY else 100000
FIRST_PORT = 9000


def entry(name, address, weights):
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name},
            "spec": {"hosts": [f"{name}.example.com"], "addresses": [address], "resolution": "STATIC",
                     "ports": [{"number": 80, "name": "tcp", "protocol": "TCP"}],
                     "endpoints": [{"address": SERVER, "ports": {"tcp": FIRST_PORT + i}, "labels": {"n": str(i)}, "weight": w}
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
    for i, (address, weights) in enumerate(ROUTES.items()):
        docs += [entry(f"route{i}", address, [1] * len(weights)), *route(f"route{i}", weights)]
    docs.append(entry("hundred", HUNDRED, [i + 1 for i in range(100)]))
    return docs


def fits(lab, address, weights, connections):
    seen = lab.load("client", [f"{address}:80"], "--count", str(connections))
    check(not seen["failures"], f"{address}: {seen['failures']} failed, first: {seen['first_error']}")
    by_name = {f"srv {FIRST_PORT + i}": w for i, w in enumerate(weights)}
    wrong = stats.split_error(seen["answers"], by_name)
    check(not wrong, f"{address} {weights[:4]}: {wrong}")


@test
def weights_are_exact():
    with peers.PeerLab([peers.pod("client", ["10.244.1.1"]), peers.pod("srv", [SERVER])]) as lab:
        lab.serve("srv", *range(FIRST_PORT, FIRST_PORT + 100))
        lab.mesh()
        lab.apply(texts=[peers.text(rules())])
        for address, weights in ROUTES.items():
            fits(lab, address, weights, CONNECTIONS)
        fits(lab, HUNDRED, [i + 1 for i in range(100)], HUNDRED_CONNECTIONS)


main()
