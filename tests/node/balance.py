#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Rules in, split out: for each rule set 10,000 connections (or more) from a pod, over IPv4, IPv6 and IPv4 from an IPv6 socket. The
counts must fit the weights at 1 - 1e-6 by an exact binomial test, or by chi-square for more than two."""
import json
import re

from labs import CONN, SHORT, Lab, sample
from stats import split_error
from suite import check, main, test

# The runs at the links are there for the path, not for the arithmetic.
N = 2000 if SHORT else 10000

GATEWAY = """
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  ports: [{name: tcp, port: 31400, targetPort: 31400}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  template:
    metadata: {labels: {istio: ingressgateway}}
    spec: {containers: [{name: proxy, ports: [{containerPort: 31400}]}]}
"""


def targets(service):
    """The ways to a service: (name, address)."""
    four, six = service["ips"]
    return (("IPv4", four), ("IPv6", six), ("IPv4 by ::", "::ffff:" + four))


def by_workload(pods):
    """Counts of pods as counts of their Deployments."""
    counts = {}
    for pod, count in pods.items():
        workload = re.sub(r"-\d+$", "", pod)
        counts[workload] = counts.get(workload, 0) + count
    return counts


def check_result(what, seen, n, weights):
    check(seen["answered"] == n and not seen["failed"], f"{what}: {seen}")
    check(not seen["peername_wrong"] and not seen["source_wrong"], f"{what}: not the dialled address: {seen}")
    wrong = split_error(by_workload(seen["pods"]), weights)
    check(not wrong, f"{what}: {wrong}")


def check_split(lab, client, service, port, weights, *options, n=N):
    """weights: of Deployments."""
    for family, address in targets(service):
        seen = lab.conn(client, address, port, *options, n=n)
        check_result(f"{service['service']} over {family}", seen, n, weights)


def check_served(lab, client, service, port, names):
    """Without a rule endpoints are chosen by least request: who ends connections sooner gets more. Each of the Deployments has some."""
    for family, address in targets(service):
        what, seen = f"{service['service']} over {family}", lab.conn(client, address, port, n=N)
        check(seen["answered"] == N and not seen["failed"] and not seen["peername_wrong"], f"{what}: {seen}")
        check(set(by_workload(seen["pods"])) == set(names), f"{what}: {seen['pods']}")


@test
def bookinfo_as_upstream_ships_it():
    rules = ("bookinfo", "networking")
    files = [sample("bookinfo", "platform", "kube", "bookinfo.yaml"), sample("curl", "curl.yaml")]
    subsets = sample(*rules, "destination-rule-all.yaml")
    with Lab(*files) as lab:
        lab.mesh()
        reviews = lab.service("reviews")
        check_served(lab, "curl", reviews, 9080, ("reviews-v1", "reviews-v2", "reviews-v3"))
        lab.apply(subsets, sample(*rules, "virtual-service-all-v1.yaml"))
        for name in ("productpage", "ratings", "details", "reviews"):
            check_split(lab, "curl", lab.service(name), 9080, {f"{name}-v1": 1})
        for name, weights in (("50-v3", {"reviews-v1": 50, "reviews-v3": 50}),
                              ("80-20", {"reviews-v1": 80, "reviews-v2": 20}),
                              ("90-10", {"reviews-v1": 90, "reviews-v2": 10})):
            lab.apply(sample(*rules, f"virtual-service-reviews-{name}.yaml"))
            check_split(lab, "curl", reviews, 9080, weights)
        check_split(lab, "productpage-v1", reviews, 9080, weights, "--http")


@test
def tcp_echo_20_percent_through_the_gateway():
    files = [sample("tcp-echo", "tcp-echo-services.yaml"), sample("curl", "curl.yaml")]
    with Lab(*files, texts=[GATEWAY], shape="routed") as lab:
        lab.mesh()
        gateway = lab.service("istio-ingressgateway", "istio-system")
        lab.apply(sample("tcp-echo", "tcp-echo-all-v1.yaml"))
        check_split(lab, "curl", gateway, 31400, {"tcp-echo-v1": 1})
        lab.apply(sample("tcp-echo", "tcp-echo-20-v2.yaml"))
        check_split(lab, "curl", gateway, 31400, {"tcp-echo-v1": 80, "tcp-echo-v2": 20})
        # The rule is bound to the gateway: the service's own address is not its business.
        check_served(lab, "curl", lab.service("tcp-echo"), 9000, ("tcp-echo-v1", "tcp-echo-v2"))


def deployment(name, labels, replicas=1, port=7000, namespace="default"):
    doc = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
           "spec": {"replicas": replicas, "template": {
               "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": port}]}]}}}}
    return json.dumps(doc) + "\n---\n"


def service(name, port=7000, protocol="TCP", **selector):
    doc = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
           "spec": {"selector": selector, "ports": [{"name": "p", "port": port, "protocol": protocol}]}}
    return json.dumps(doc) + "\n---\n"


def subsets(host, *names):
    doc = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": host},
           "spec": {"host": host, "subsets": [{"name": n, "labels": {"version": n}} for n in names]}}
    return json.dumps(doc) + "\n---\n"


def virtual_service(host, *rules):
    """rules: (match or None, {subset: weight})."""
    tcp = []
    for match, weights in rules:
        rule = {"route": [{"destination": {"host": host, "subset": s}, "weight": w} for s, w in weights.items()]}
        if match:
            rule["match"] = [match]
        tcp.append(rule)
    doc = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": host},
           "spec": {"hosts": [host], "tcp": tcp}}
    return json.dumps(doc) + "\n---\n"


VOTE = (service("vote", app="vote") + deployment("vote-v1", {"app": "vote", "version": "v1"})
        + deployment("vote-v2", {"app": "vote", "version": "v2"}) + deployment("plain", {"app": "plain"})
        + deployment("gold", {"app": "gold", "tier": "gold"}) + deployment("guest", {"app": "guest"}, namespace="team-b"))


@test
def clients_get_different_shares_at_the_same_time():
    with Lab(texts=[VOTE]) as lab:
        lab.mesh()
        lab.apply(texts=[subsets("vote", "v1", "v2") + virtual_service(
            "vote", ({"sourceLabels": {"tier": "gold"}}, {"v1": 90, "v2": 10}),
            ({"sourceNamespace": "team-b"}, {"v1": 10, "v2": 90}), (None, {"v1": 50, "v2": 50}))])
        weights = {"gold": (90, 10), "team-b/guest": (10, 90), "plain": (50, 50)}
        for family, address in targets(lab.service("vote")):
            running = {client: lab.popen(client, CONN, "--json", "-n", N, address, 7000) for client in weights}
            for client, process in running.items():
                seen = json.loads(process.communicate(timeout=120)[0])
                shares = dict(zip(("vote-v1", "vote-v2"), weights[client]))
                check_result(f"{client} over {family}", seen, N, shares)


@test
def connected_udp_is_balanced():
    # Each phase has a service of its own: a flow keeps its endpoint while it lasts, also for who comes with the same port.
    with Lab(texts=[VOTE, service("dns", protocol="UDP", app="vote"), service("routed", protocol="UDP", app="vote")]) as lab:
        lab.mesh()
        check_split(lab, "plain", lab.service("dns"), 7000, {"vote-v1": 1, "vote-v2": 1}, "--udp")
        route = {"apiVersion": "gateway.networking.k8s.io/v1alpha2", "kind": "UDPRoute", "metadata": {"name": "routed"},
                 "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "routed", "port": 7000}],
                          "rules": [{"backendRefs": [{"name": "one", "port": 7000, "weight": 1},
                                                     {"name": "two", "port": 7000, "weight": 3}]}]}}
        lab.apply(texts=[service("one", protocol="UDP", version="v1") + service("two", protocol="UDP", version="v2")
                         + json.dumps(route)])
        check_split(lab, "plain", lab.service("routed"), 7000, {"vote-v1": 1, "vote-v2": 3}, "--udp")


main()
