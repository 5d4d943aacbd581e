#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Traffic from outside of the cluster: node ports, external addresses, load balancers' and gateways' addresses, TCP and UDP, IPv4 and
IPv6; endpoints on the node that was dialled, which is bridged, and on the other one, which is routed. The outside is tools/lab's
@outside. It has no mesh: that it is answered from the address that it dialled is checked by its sockets."""
import contextlib
import json
import subprocess

from labs import CONN, TC_ONLY, Lab
from suite import check, main, test

EXTERNAL, BALANCER = ("192.0.2.10", "2001:db8:ffff::10"), ("192.0.2.20", "2001:db8:ffff::20")
GATEWAY = ("192.0.2.30", "2001:db8:ffff::30")
CLUSTER = ("10.96.9.9", "fd00:10:96::909")
CLIENT = ("172.31.0.250", "fd31::250")
GROUP = "gateway.networking.k8s.io"
N = 60

# Connections that are held open: `open tcp|udp ADDRESS PORT` and `say NUMBER TEXT` are answered by the pod's name, or by the error.
HOLD = r"""
import errno, socket, sys
held = []
def ask(s, text):
    try:
        s.send(text.encode() + b"\n" * (s.type == socket.SOCK_STREAM))
        return s.recv(65536).split(b" ")[0].decode() or "EOF"
    except OSError as e:
        return errno.errorcode.get(e.errno, "timeout")
for line in sys.stdin:
    verb, *words = line.split()
    if verb == "open":
        s = socket.socket(socket.AF_INET6 if ":" in words[1] else socket.AF_INET,
                          socket.SOCK_STREAM if words[0] == "tcp" else socket.SOCK_DGRAM)
        s.settimeout(5)
        held.append(s)
        try:
            s.connect((words[1], int(words[2])))
            print(ask(s, "x"), flush=True)
        except OSError as e:
            print(errno.errorcode.get(e.errno, "timeout"), flush=True)
    else:
        print(ask(held[int(words[0])], words[1] * int(words[2])), flush=True)
"""
# Takes what one client sends until it has no more, answers with a hash of it and with as much of its own, from a seed.
SINK = r"""
import hashlib, random, socket
with socket.socket(socket.AF_INET6) as l:
    l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    l.bind(("::", 9000))
    l.listen()
    print("ready", flush=True)
    while True:
        s, peer = l.accept()
        h, size = hashlib.sha256(), 0
        while data := s.recv(1 << 20):
            h.update(data)
            size += len(data)
        s.sendall(h.digest())
        s.sendall(random.Random(size).randbytes(size))
        s.close()
"""
FEED = r"""
import hashlib, json, random, socket, sys
size, results = int(sys.argv[1]), []
for address in sys.argv[3:]:
    with socket.create_connection((address, int(sys.argv[2])), 20) as s:
        data = random.Random(7).randbytes(size)
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        got = bytearray()
        while more := s.recv(1 << 20):
            got += more
        results.append(bytes(got[:32]) == hashlib.sha256(data).digest() and bytes(got[32:]) == random.Random(size).randbytes(size))
print(json.dumps(results))
"""


def pods(name, app):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"template": {
        "metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]}}}}


def service(name, app, node_port=None, target=8080, **more):
    ports = [{"name": p.lower(), "port": 80, "targetPort": target, "protocol": p} | ({"nodePort": node_port} if node_port else {})
             for p in ("TCP", "UDP")]
    status = more.pop("status", None)
    spec = {"ports": ports, **({"selector": {"app": app}} if app else {}), **more}
    doc = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
    return doc | ({"status": status} if status else {})


def text(*docs):
    return "\n---\n".join(map(json.dumps, docs))


@contextlib.contextmanager
def two(*near_docs):
    """Both nodes, with their meshes, and in both all pods: near-0 and only-near-0, far-0 and only-far-0."""
    near = Lab(texts=[text(pods("near", "web"), pods("only-near", "near"), pods("client", "client"), *near_docs)], shape="bridge")
    far = Lab(texts=[text(pods("far", "web"), pods("only-far", "far"))], shape="routed", options=["--join", near.name])
    with far.after(near):
        near.mesh()
        far.mesh()
        yield near, far


def apply_all(labs, *docs):
    for lab in labs:
        lab.apply(texts=[text(*docs)])


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


def all_fail(lab, targets, who="@outside"):
    """Dials all at once; the errors of each."""
    running = [lab.popen(who, CONN, "--json", "-c", "1", *options, ip, port) for ip, port, *options in targets]
    answers = [json.loads(p.communicate(timeout=60)[0]) for p in running]
    check(all(not a["answered"] for a in answers), f"{who} reaches what it must not: {targets}: {answers}")
    return [set(a["errors"]) for a in answers]


class Holder:
    def __init__(self, lab, who="@outside"):
        self.process = lab.popen(who, "python3", "-c", HOLD, stdin=subprocess.PIPE)
        self.nr = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=60)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def open(self, proto, address, port):
        """(number, pod)"""
        self.nr += 1
        return self.nr - 1, self.ask("open", proto, address, port)

    def open_to(self, pod, proto, address, port):
        """A connection that this pod has; which one is drawn, so that there may be several tries."""
        for _ in range(64):
            number, got = self.open(proto, address, port)
            if got == pod:
                return number
        raise AssertionError(f"{pod} was not chosen in 64 tries")

    def say(self, number, character="y", times=1):
        return self.ask("say", number, character, times)


@test
def node_ports():
    with two(service("web", "web", 30080, type="NodePort"), service("away", "far", 30081, type="NodePort")) as (near, far):
        for node in near.nodes():
            for family, ip in enumerate(node["ips"]):
                reach(near, ip, 30080, ("near-0", "far-0"))
                reach(near, ip, 30081, ("only-far-0", ))
                for pod, peers in peers_seen(near, ip, 30080).items():
                    # Kept where the endpoint is on the node that was dialled; otherwise the answer has to come back through it.
                    here = (pod == "near-0") == (node["lab"] == near.name)
                    want = CLIENT[family] if here else ip
                    check(peers == {want}, f"{pod}, dialled at {ip}, sees {peers}")
        # Pods: at their own node, and at another one, where they come in from outside.
        for node in near.nodes():
            for ip in node["ips"]:
                reach(near, ip, 30080, ("near-0", "far-0"), who="client")
                reach(far, ip, 30080, ("near-0", "far-0"), who="only-far")
        errors = all_fail(near, [(near.nodes()[0]["ips"][0], 30082)])
        check(errors == [{"ECONNREFUSED"}], f"a port that is nobody's is the node's own business: {errors}")


@test
def endpoints_on_the_network_of_their_node():
    host = pods("host", "host")
    host["spec"]["template"]["spec"]["hostNetwork"] = True
    # Neither names its node port: the lab gives them some, as an API server does.
    with two(host, service("host", "host", type="NodePort"),
             service("local", "host", type="LoadBalancer", externalTrafficPolicy="Local")) as (near, far):
        anywhere, local = ([p["nodePort"] for p in near.service(name)["ports"]] for name in ("host", "local"))
        check(len(set(anywhere + local)) == 4, f"each its own: {anywhere} {local}")
        for node in near.nodes():
            for family, ip in enumerate(node["ips"]):
                tcp = peers_seen(near, ip, anywhere[0])
                check(tcp == {"host-0": {CLIENT[family] if node["lab"] == near.name else ip}}, f"{ip}: {tcp}")
                seen = near.conn("@outside", ip, anywhere[1], "--udp", n=N)
                check(seen["pods"] == {"host-0": N} and not seen["source_wrong"], f"{ip}: {seen}")
                seen = far.conn("only-far", ip, anywhere[0], n=N)
                check(seen["pods"] == {"host-0": N}, f"a pod to {ip}: {seen}")
        for ip in near.nodes()[0]["ips"]:
            seen = near.conn("@outside", ip, local[0], n=N)
            check(seen["pods"] == {"host-0": N}, f"{ip}: {seen}")


@test
def external_addresses_and_load_balancers():
    with two(service("ext", "web", externalIPs=list(EXTERNAL))) as (near, far):
        proxied = "192.0.2.99"
        apply_all((near, far), service(
            "lb", "web", type="LoadBalancer", clusterIPs=list(CLUSTER), clusterIP=CLUSTER[0],
            status={"loadBalancer": {"ingress": [{"ip": ip} for ip in BALANCER] + [{"ip": proxied, "ipMode": "Proxy"}]}}))
        for ip in (*EXTERNAL, *BALANCER):
            reach(near, ip, 80, ("near-0", "far-0"))
            reach(near, ip, 80, ("near-0", "far-0"), who="client")
        all_fail(near, [(proxied, 80)])


@test
def local_policies():
    with two(service("web", "web", 30080, type="NodePort", externalTrafficPolicy="Local"),
             service("away", "far", 30081, type="NodePort", externalTrafficPolicy="Local"),
             service("inside", "web", internalTrafficPolicy="Local"),
             service("inside-away", "far", internalTrafficPolicy="Local")) as (near, far):
        for node in near.nodes():
            here = "near-0" if node["lab"] == near.name else "far-0"
            for family, ip in enumerate(node["ips"]):
                reach(near, ip, 30080, (here, ))
                check(peers_seen(near, ip, 30080) == {here: {CLIENT[family]}}, f"the client's address is kept at {ip}")
        ips = near.nodes()[0]["ips"]
        # All of it stays without a meshd, and one that comes back finds it as it is.
        near.tool("unmesh")
        reach(near, ips[0], 30080, ("near-0", ))
        near.mesh()
        reach(near, ips[1], 30080, ("near-0", ))
        errors = all_fail(near, [(ip, 30081, *options) for ip in ips for options in ([], ["--udp"])])
        check(errors == [{"ETIMEDOUT"}] * 4, f"a node without an endpoint does not answer: {errors}")
        dropped = [f for f in near.flows() if f["reason"] == "no_local_endpoint"]
        check({f["protocol"] for f in dropped} == {"tcp", "udp"} and all(f["dialled"]["service"] for f in dropped), f"{dropped[:2]}")
        for ip in ips: # its pods may go anywhere, as Kubernetes has it
            reach(near, ip, 30080, ("near-0", "far-0"), who="client")
            reach(near, ip, 30081, ("only-far-0", ), who="client")
        for ip in near.service("inside")["ips"]:
            reach(near, ip, 80, ("near-0", ), who="client")
            reach(far, ip, 80, ("far-0", ), who="only-far")
        errors = all_fail(near, [(ip, 80) for ip in near.service("inside-away")["ips"]], who="client")
        check(errors == [{"ECONNREFUSED"}] * 2, f"a pod of a node without an endpoint is refused: {errors}")


def slices(endpoints):
    """EndpointSlices of the Service `held`. endpoints: (addresses, conditions)."""
    return [{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
             "metadata": {"name": f"held-{family.lower()}", "labels": {"kubernetes.io/service-name": "held"}},
             "endpoints": [{"addresses": [ip for ip in ips if (":" in ip) == (family == "IPv6")], "conditions": conditions}
                           for ips, conditions in endpoints],
             "ports": [{"name": p.lower(), "port": 8080, "protocol": p} for p in ("TCP", "UDP")]} for family in ("IPv4", "IPv6")]


@test
def flows_stay_where_they_are():
    """One flow to each of two endpoints, of which one is on the other node; then neither takes new ones."""
    ready, gone = {"ready": True}, ({"ready": False, "serving": True, "terminating": True}, {"ready": False})
    with two() as (near, far), Holder(near) as holder:
        held = service("held", None, 30090, type="NodePort", clusterIP=CLUSTER[0], clusterIPs=list(CLUSTER))
        ips = {pod: lab.pod(pod)["ips"] for lab, pod in ((near, "near-0"), (far, "far-0"), (near, "only-near-0"))}
        apply_all((near, far), held, *slices([(ips["near-0"], ready), (ips["far-0"], ready)]))
        open_now = [(pod, holder.open_to(pod, proto, ip, 30090)) for ip in near.nodes()[0]["ips"] for proto in ("tcp", "udp")
                    for pod in ("near-0", "far-0")]
        for conditions in (gone, gone[::-1]):
            apply_all((near, far), *slices([(ips["near-0"], conditions[0]), (ips["far-0"], conditions[1]), (ips["only-near-0"], ready)]))
            for pod, number in open_now:
                check(holder.say(number) == pod, f"flow {number} left {pod}")
            for ip in near.nodes()[0]["ips"]:
                reach(near, ip, 30090, ("only-near-0", ))
        # Another rule for the port: Local, without an endpoint of this node.
        apply_all((near, far), held | {"spec": held["spec"] | {"externalTrafficPolicy": "Local"}}, *slices([(ips["far-0"], ready)]))
        for pod, number in open_now:
            check(holder.say(number) == pod, f"flow {number} left {pod}")
        # No endpoint at all: refused.
        apply_all((near, far), *slices([]))
        errors = all_fail(near, [(ip, 30090) for ip in near.nodes()[0]["ips"]])
        check(errors == [{"ECONNREFUSED"}] * 2, f"nobody serves: {errors}")
        for pod, number in open_now:
            check(holder.say(number) == pod, f"flow {number} left {pod}")


@test
def through_the_other_node():
    """Bulk both ways, datagrams in fragments, and errors, of flows that leave their node again under its address."""
    with two(service("big", "far", 30091, target=9000, type="NodePort"), service("text", "far", 30092, type="NodePort"),
             service("closed", "far", 30093, target=9, type="NodePort")) as (near, far), Holder(near) as holder:
        ips = near.nodes()[0]["ips"]
        sink = far.popen("only-far", "python3", "-c", SINK)
        try:
            check(sink.stdout.readline() == "ready\n", "no sink")
            size = 8 << 20
            whole = json.loads(near.exec("@outside", "python3", "-c", FEED, str(size), "30091", *ips))
            check(whole == [True, True], f"{size} bytes both ways: {whole}")
        finally:
            sink.kill()
            sink.communicate(timeout=10)
        flows = [f for f in near.flows() if f["dialled"]["service"] == "big" or f["dialled"]["port"] == 30091]
        check(len(flows) == 2 and all(f["bytes_sent"] == size and f["bytes_received"] == size + 32 for f in flows), f"{flows}")
        for ip in ips:
            for proto in ("tcp", "udp"):
                number, pod = holder.open(proto, ip, 30092)
                check(pod == "only-far-0" and holder.say(number, "z", 20000) == pod, f"20000 bytes to {ip} by {proto}")
            number, answer = holder.open("udp", ip, 30093)
            check(answer == "ECONNREFUSED", f"the far pod's error reaches the client of {ip}: {answer}")
            check(holder.open("tcp", ip, 30093)[1] == "ECONNREFUSED", "and its reset")


POLICY = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "by-address"}}


@test
def policies_see_the_client():
    with two(service("web", "web", 30080, type="NodePort"),
             service("local", "web", 30081, type="NodePort", externalTrafficPolicy="Local")) as (near, far):
        blocks = [f"{CLIENT[0]}/32", f"{CLIENT[1]}/128"]
        rule = {"from": [{"source": {"ipBlocks": blocks}}]}
        deny = POLICY | {"spec": {"selector": {"matchLabels": {"app": "web"}}, "action": "DENY", "rules": [rule]}}
        ips = [ip for node in near.nodes() for ip in node["ips"]]
        apply_all((near, far), deny)
        errors = all_fail(near, [(ip, port) for ip in ips for port in (30080, 30081)])
        check(all(e == {"ECONNREFUSED"} for e in errors), f"denied at both nodes: {errors}")
        denied = [f for f in near.flows() if f["reason"] == "denied"]
        check(denied and all("by-address" in str(f["policy"]) and f["client"]["ip"] in CLIENT for f in denied), f"{denied[:1]}")
        # Only the client may: what another node has put its address on is somebody else's.
        allow = POLICY | {"spec": deny["spec"] | {"action": "ALLOW"}}
        apply_all((near, far), allow)
        for node in near.nodes():
            here = "near-0" if node["lab"] == near.name else "far-0"
            for ip in node["ips"]:
                reach(near, ip, 30081, (here, ))
                seen = near.conn("@outside", ip, 30080, n=N)
                check(set(seen["pods"]) == {here} and seen["failed"], f"through {ip} the other node is not reached: {seen}")


@test
def istio_gateway():
    ingress = service("ingress", "proxy", 30095, type="NodePort", externalIPs=list(GATEWAY))
    rules = [{"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "edge"},
              "spec": {"selector": {"app": "proxy"},
                       "servers": [{"port": {"number": 80, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]}]}},
             {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "edge"},
              "spec": {"hosts": ["*"], "gateways": ["edge"], "tcp": [{"match": [{"port": 80}], "route": [
                  {"destination": {"host": "web", "port": {"number": 80}}}]}]}}]
    with two(service("web", "web"), ingress, pods("proxy", "proxy")) as (near, far):
        apply_all((near, far), *rules)
        own = [(ip, 80) for ip in near.pod("proxy")["ips"]]
        both = [(ip, 80) for ip in GATEWAY] + [(ip, 30095) for node in near.nodes() for ip in node["ips"]]
        inner = [(ip, 80) for ip in near.service("ingress")["ips"]]
        # At the links, what one pod of a bridge sends to another is bridged there before anything can be done about it.
        for who, targets in (("@outside", both + own), ("client", both + inner + (own if not TC_ONLY else []))):
            for ip, port in targets:
                seen = near.conn(who, ip, port, n=N)
                check(set(seen["pods"]) == {"near-0", "far-0"} and seen["answered"] == N, f"{who} to {ip}:{port}: {seen}")


@test
def gateway_api():
    gateway = {"apiVersion": f"{GROUP}/v1", "kind": "Gateway", "metadata": {"name": "edge"}, "spec": {
        "gatewayClassName": "tulle", "addresses": [{"type": "IPAddress", "value": ip} for ip in GATEWAY],
        "listeners": [{"name": p.lower(), "protocol": p, "port": 81} for p in ("TCP", "UDP")]}}
    routes = [{"apiVersion": f"{GROUP}/v1alpha2", "kind": f"{p}Route", "metadata": {"name": f"edge-{p.lower()}"}, "spec": {
        "parentRefs": [{"name": "edge", "sectionName": p.lower()}],
        "rules": [{"backendRefs": [{"name": "web", "port": 80}, {"name": "none", "port": 80, "weight": 0}]}]}} for p in ("TCP", "UDP")]
    with two(service("web", "web")) as (near, far):
        apply_all((near, far), gateway, *routes)
        for ip in GATEWAY:
            for who in ("@outside", "client"):
                reach(near, ip, 81, ("near-0", "far-0"), who=who)
        # A class of another controller: from one moment on the Gateway is not ours.
        theirs = {"apiVersion": f"{GROUP}/v1", "kind": "GatewayClass", "metadata": {"name": "tulle"},
                  "spec": {"controllerName": "example.com/other"}}
        said = near.apply(texts=[text(theirs)])
        check("skipped" in said, f"the class is said to be skipped: {said}")
        all_fail(near, [(GATEWAY[0], 81)])
        near.ctl("delete", "gatewayclass", "tulle")
        reach(near, GATEWAY[0], 81, ("near-0", "far-0"))
        near.ctl("delete", "gateways.gateway.networking.k8s.io", "edge")
        all_fail(near, [(GATEWAY[0], 81)])


main()
