#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Two nodes, each with its own meshd, pins and cgroup: flows across are balanced where the client is, policed where the server is,
and both sides count the same bytes."""
import json
import time

from labs import SHAPE, TC_ONLY, Lab
from stats import split_error
from suite import check, main, test

N = 300


def pods(name, app, replicas):
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "template": {"metadata": {"labels": {"app": app}},
                                           "spec": {"serviceAccountName": name,
                                                    "containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]}}}})


SERVICE = json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
    "selector": {"app": "web"}, "ports": [{"name": "t", "port": 80, "targetPort": 8080},
                                          {"name": "u", "port": 80, "targetPort": 8080, "protocol": "UDP"}]}})
# For the law of its split: least request gives more to who ends connections sooner.
RANDOM = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
"""
NEAR = "\n---\n".join((SERVICE, pods("web-a", "web", 1), pods("good", "client", 1), pods("bad", "client", 1)))
FAR = "\n---\n".join((pods("web-b", "web", 2), pods("client-b", "client", 1)))
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-bad, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/bad]}}]}]
"""


def two(*options):
    near = Lab(texts=[NEAR], shape=SHAPE)
    return near, Lab(texts=[FAR], shape=SHAPE, options=["--join", near.name, *options])


@test
def flows_across_are_balanced():
    near, far = two()
    with far.after(near):
        for lab in (near, far):
            lab.mesh()
            lab.apply(texts=[RANDOM])
        for lab, client in ((near, "good"), (far, "client-b")):
            for address in near.service("web")["ips"]:
                for options in ([], ["--udp"]):
                    seen = lab.conn(client, address, 80, *options, n=N)
                    check(seen["answered"] == N and not seen["peername_wrong"] and not seen["source_wrong"], f"{seen}")
                    wrong = split_error(seen["pods"], {"web-a-0": 1, "web-b-0": 1, "web-b-1": 1})
                    check(not wrong, f"{client} to {address} {options}: {wrong}")
        # One meshd less: the data path of its node stays, the other does not notice.
        near.tool("unmesh")
        for lab, client in ((near, "good"), (far, "client-b")):
            check(lab.conn(client, near.service("web")["ips"][0], 80, n=30)["answered"] == 30, f"{client} without a meshd")


@test
def the_server_s_node_polices():
    near, far = two()
    with far.after(near):
        near.mesh()
        far.mesh()
        far.apply(texts=[POLICY]) # the clients' node knows nothing of it
        for ip in far.pod("web-b-0")["ips"]:
            check(near.conn("good", ip, 8080, n=20)["answered"] == 20, f"who is not forbidden reaches {ip}")
            seen = near.conn("bad", ip, 8080, n=20)
            check(set(seen["errors"]) <= {"ECONNREFUSED", "ECONNRESET"} and seen["failed"] == 20, f"refused at {ip}: {seen}")
            check(near.conn("bad", ip, 8080, "-c", "1", "--udp", n=1)["failed"] == 1, "datagrams too")
        for address in near.service("web")["ips"]:
            seen = near.conn("bad", address, 80, n=N)
            check(set(seen["pods"]) == {"web-a-0"} and seen["failed"], f"only the node without the policy answers: {seen}")
        denied = [f for f in far.flows() if f["policy"]]
        check(denied and all(f["reason"] == "denied" and "not-bad" in str(f["policy"]) and f["client"]["pod"] == "bad-0"
                             for f in denied if f["state"] == "failed"), f"flows name the policy: {denied[:2]}")


def closed(lab, wanted):
    """Flows by the client's address, once as many have closed; bounded."""
    deadline = time.monotonic() + 15
    while True:
        flows = {(f["client"]["ip"], f["client"]["port"]): f for f in lab.flows()
                 if f["closed"] and f["client"]["pod"] == "good-0" and str(f["server"]["pod"]).startswith("web-b")}
        if len(flows) >= wanted or time.monotonic() > deadline:
            return flows
        time.sleep(0.1)


@test
def both_sides_count_the_same():
    near, far = two()
    with far.after(near):
        near.mesh()
        far.mesh()
        crossed = 0
        for address in near.service("web")["ips"]:
            seen = near.conn("good", address, 80, "--http", n=100)
            check(seen["answered"] == 100, f"{seen}")
            crossed += sum(n for pod, n in seen["pods"].items() if pod.startswith("web-b"))
        one, other = closed(near, crossed), closed(far, crossed)
        check(len(one) == crossed and set(one) == set(other), f"{crossed} flows crossed; {len(one)} and {len(other)} are recorded")
        differ = [(k, one[k], other[k]) for k in one
                  if any(one[k][what] != other[k][what] for what in ("bytes_sent", "bytes_received"))]
        check(not differ, f"{len(differ)} differ: {differ[:1]}")
        check(all(f["bytes_sent"] and f["bytes_received"] for f in one.values()), "and are no zeros")
        check({f["path"] for f in other.values()} == {"tc"}, "the server's side saw packets")
        check({f["path"] for f in one.values()} == {"tc" if TC_ONLY else "tcp"}, "the client's side saw sockets, where it has hooks")


main()
