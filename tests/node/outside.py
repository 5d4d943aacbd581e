#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Traffic from outside of the cluster: node ports, external addresses, load balancers' and gateways' addresses, TCP and UDP, IPv4 and
IPv6; endpoints on the node that was dialled and on the other one. The outside is tools/lab's @outside. It has no mesh: that it is
answered from the address that it dialled is checked by its sockets."""
import json

from labs import Lab
from suite import check, main, test

EXTERNAL, BALANCER = ("192.0.2.10", "2001:db8:ffff::10"), ("192.0.2.20", "2001:db8:ffff::20")
GATEWAY = ("192.0.2.30", "2001:db8:ffff::30")
CLIENT = ("172.31.0.250", "fd31::250")
N = 60


def pods(name, app):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"template": {
        "metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]}}}}


def service(name, app, node_port=None, **more):
    ports = [{"name": p.lower(), "port": 80, "targetPort": 8080, "protocol": p} | ({"nodePort": node_port} if node_port else {})
             for p in ("TCP", "UDP")]
    status = more.pop("status", None)
    doc = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": app}, "ports": ports, **more}}
    return doc | ({"status": status} if status else {})


def text(*docs):
    return "\n---\n".join(map(json.dumps, docs))


def two(*near_docs):
    near = Lab(texts=[text(pods("near", "web"), pods("only-near", "near"), pods("client", "client"), *near_docs)])
    return near, Lab(texts=[text(pods("far", "web"), pods("only-far", "far"))], shape="routed", options=["--join", near.name])


def reach(lab, address, port, pods_wanted, who="@outside"):
    """TCP and UDP; every one of these pods, and no other, answers."""
    for options in ([], ["--udp"]):
        seen = lab.conn(who, address, port, *options, n=N)
        check(set(seen["pods"]) == set(pods_wanted) and seen["answered"] == N, f"{who} to {address}:{port} {options}: {seen}")
        check(not seen["source_wrong"] and not seen["peername_wrong"], f"answered from elsewhere: {seen}")


def peers_seen(lab, address, port, n=12):
    """{pod: addresses that it saw as its clients'}."""
    literal = f"[{address}]" if ":" in address else address
    out = lab.exec("@outside", "curl", "-sS", *(f"http://{literal}:{port}/{i}" for i in range(n)), "--no-keepalive", "-H",
                   "Connection: close")
    seen = {}
    for line in out.splitlines():
        answer = json.loads(line)
        seen.setdefault(answer["pod"], set()).add(answer["peer"])
    return seen


@test
def node_ports():
    near, far = two(service("web", "web", 30080, type="NodePort"), service("away", "far", 30081, type="NodePort"))
    with far.after(near):
        near.mesh()
        far.mesh()
        for node in near.nodes():
            for family, ip in enumerate(node["ips"]):
                reach(near, ip, 30080, ("near-0", "far-0"))
                reach(near, ip, 30081, ("only-far-0", ))
                for pod, peers in peers_seen(near, ip, 30080).items():
                    # Kept where the endpoint is on the node that was dialled; otherwise the answer has to come back through it.
                    here = (pod == "near-0") == (node["lab"] == near.name)
                    want = CLIENT[family] if here else ip
                    check(peers == {want}, f"{pod}, dialled at {ip}, sees {peers}")
        reach(near, near.nodes()[0]["ips"][0], 30080, ("near-0", "far-0"), who="client")


@test
def external_addresses_and_load_balancers():
    near, far = two(service("ext", "web", externalIPs=list(EXTERNAL)))
    balanced = service("lb", "web", type="LoadBalancer", status={"loadBalancer": {"ingress": [{"ip": ip} for ip in BALANCER]}},
                       clusterIPs=["10.96.9.9", "fd00:10:96::909"], clusterIP="10.96.9.9")
    with far.after(near):
        for lab in (near, far):
            lab.mesh()
            lab.apply(texts=[text(balanced)])
        for ip in (*EXTERNAL, *BALANCER):
            reach(near, ip, 80, ("near-0", "far-0"))
            reach(near, ip, 80, ("near-0", "far-0"), who="client")


@test
def local_policies():
    near, far = two(service("web", "web", 30080, type="NodePort", externalTrafficPolicy="Local"),
                    service("away", "far", 30081, type="NodePort", externalTrafficPolicy="Local"),
                    service("inside", "web", internalTrafficPolicy="Local"))
    with far.after(near):
        near.mesh()
        far.mesh()
        for node in near.nodes():
            here = "near-0" if node["lab"] == near.name else "far-0"
            for family, ip in enumerate(node["ips"]):
                reach(near, ip, 30080, (here, ))
                check(peers_seen(near, ip, 30080) == {here: {CLIENT[family]}}, f"the client's address is kept at {ip}")
        for ip in near.nodes()[0]["ips"]:
            check(near.conn("@outside", ip, 30081, "-c", "1", n=1)["failed"] == 1, "a node without an endpoint does not answer")
        for ip in near.service("inside")["ips"]:
            reach(near, ip, 80, ("near-0", ), who="client")
            reach(far, ip, 80, ("far-0", ), who="only-far")


@test
def istio_gateway():
    ingress = service("ingress", "proxy", externalIPs=list(GATEWAY))
    rules = [{"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "edge"},
              "spec": {"selector": {"app": "proxy"},
                       "servers": [{"port": {"number": 80, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]}]}},
             {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "edge"},
              "spec": {"hosts": ["*"], "gateways": ["edge"], "tcp": [{"match": [{"port": 80}], "route": [
                  {"destination": {"host": "web", "port": {"number": 80}}}]}]}}]
    near, far = two(service("web", "web"), ingress, pods("proxy", "proxy"))
    with far.after(near):
        for lab in (near, far):
            lab.mesh()
            lab.apply(texts=[text(*rules)])
        for ip in GATEWAY:
            seen = near.conn("@outside", ip, 80, n=N)
            check(set(seen["pods"]) == {"near-0", "far-0"} and seen["answered"] == N, f"{ip}: {seen}")


main()
