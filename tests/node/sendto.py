#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Datagrams of sockets that never call connect(), sent to services: at the socket alone (--tc off), at the socket with the links beside
it, at the links alone. Who answers, under which address, what is counted, and what is refused how."""
import collections
import contextlib
import json
import subprocess
import time

from labs import TC_ONLY, Lab, run
from stats import split_error
from suite import Skip, check, main, test

MODES = [()] if TC_ONLY else [("--tc", "off"), ()]
SERVICES = 12
N = 800
OUTSIDE = ("172.31.0.250", "fd31::250")
V4, V6 = "10.96.7.{}", "fd00:10:96::7{:02x}"

PODS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, labels: {app: client}}, spec: {containers: [{name: c}]}}
"""

# In a pod: each line on standard input is [FUNCTION, ARGUMENT...] in JSON, and gets a line with what it returns, or the name of an error.
AGENT = r"""
import collections, ctypes, errno, json, os, socket, struct, sys, threading
sockets, run = {}, {}

def ends(fd, address, port):
    mapped = sockets[fd].family == socket.AF_INET6 and ":" not in address
    return ("::ffff:" + address if mapped else address), port

def plain(source):
    return source[0].removeprefix("::ffff:"), source[1]

def new(family, bind=None):
    s = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    if bind is not None:
        s.bind(("", bind))
    sockets[s.fileno()] = s
    return s.fileno()

def close(fd):
    sockets.pop(fd).close()

def local(fd):
    return sockets[fd].getsockname()[1]

def connect(fd, address, port):
    sockets[fd].connect(ends(fd, address, port))

def send(fd, data, address=None, port=0):
    s = sockets[fd]
    return s.sendto(data.encode(), ends(fd, address, port)) if address else s.send(data.encode())

def recv(fd, wait=5, peek=False):
    sockets[fd].settimeout(wait)
    data, source = sockets[fd].recvfrom(65536, socket.MSG_PEEK if peek else 0)
    return [data.decode(), *plain(source)]

def read(fd):
    return sockets[fd].recv(65536).decode()

def answer(fd, data):
    got, source = sockets[fd].recvfrom(65536)
    sockets[fd].sendto(data.encode(), source)
    return [got.decode(), *plain(source)]

def from_source(fd, data, source, address, port):
    info = struct.pack("=I4s4s", 0, socket.inet_aton(source), socket.inet_aton(source))
    return sockets[fd].sendmsg([data.encode()], [(socket.IPPROTO_IP, 8, info)], 0, ends(fd, address, port))

def segments(fd, size, data, address, port):
    sockets[fd].setsockopt(socket.IPPROTO_UDP, 103, size)
    n = sockets[fd].sendto(data.encode(), ends(fd, address, port))
    sockets[fd].setsockopt(socket.IPPROTO_UDP, 103, 0)
    return n

def sendmmsg(fd, datagrams):
    class Vec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]
    class Msg(ctypes.Structure):
        _fields_ = [("name", ctypes.c_char_p), ("namelen", ctypes.c_uint), ("vec", ctypes.POINTER(Vec)), ("vecs", ctypes.c_size_t),
                    ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int), ("pad", ctypes.c_int),
                    ("sent", ctypes.c_uint)]
    messages = (Msg * len(datagrams))()
    for m, (data, address, port) in zip(messages, datagrams):
        name = struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(address) + bytes(8)
        m.name, m.namelen, m.vecs = name, len(name), 1
        m.vec = ctypes.pointer(Vec(data.encode(), len(data)))
    return ctypes.CDLL(None, use_errno=True).sendmmsg(fd, messages, len(datagrams), 0)

def split(family, address, port, times):
    seen = collections.Counter()
    for i in range(times):
        fd = new(family)
        send(fd, "n%d" % i, address, port)
        data, *source = recv(fd)
        assert source == [address, port] and data.endswith(" n%d" % i), (data, source)
        seen[data.split()[0]] += 1
        close(fd)
    return seen

def rally(fd, address, port, times):
    seen, sent, received = collections.Counter(), 0, 0
    for i in range(times):
        if times > 1000 and run.get("stop"):
            break
        sent += send(fd, "n%d" % i, address, port)
        data, *source = recv(fd)
        assert source == [address, port] and data.endswith(" n%d" % i), (data, source)
        received += len(data)
        seen[data.split()[0]] += 1
    return {"seen": seen, "sent": sent, "received": received}

def start(*args):
    run.pop("stop", None)
    run["thread"] = threading.Thread(target=lambda: run.update(result=rally(*args)))
    run["thread"].start()

def stop():
    run["stop"] = True
    run["thread"].join()
    return run.pop("result")

def crowd(fd, targets, threads, times):
    lock = threading.Lock()
    counts = collections.Counter()
    window = threading.Semaphore(16)
    def one(seed):
        for i in range(times):
            window.acquire()
            address, port = targets[(seed * 7 + i * (seed + 1)) % len(targets)]
            n = send(fd, "x" * (1 + (seed * 31 + i * 17) % 900), address, port)
            with lock:
                counts[address] += n
    def collect():
        for _ in range(threads * times):
            data, source, _ = recv(fd)
            got[source] += len(data)
            window.release()
    got = collections.Counter()
    for address, port in targets: # at the links, first datagrams of one flow on two processors may begin two
        counts[address] += send(fd, "first", address, port)
        got[address] += len(recv(fd)[0])
    all_of_them = [threading.Thread(target=one, args=(t, )) for t in range(threads)] + [threading.Thread(target=collect)]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()
    return {a: [counts[a], got[a]] for a, _ in targets}

print("ready", flush=True)
for line in sys.stdin:
    name, *args = json.loads(line)
    try:
        print(json.dumps({"is": globals()[name](*args)}), flush=True)
    except OSError as e:
        print(json.dumps({"is": errno.errorcode.get(e.errno) or type(e).__name__}), flush=True)
    except AssertionError as e:
        print(json.dumps({"wrong": str(e)}), flush=True)
"""


class Agent:
    """A process in a pod that does with its sockets what it is told: agent.send(...), agent.recv(...)."""

    def __init__(self, lab, pod="client"):
        self.process = lab.popen(pod, "python3", "-c", AGENT, stdin=subprocess.PIPE)
        check(self.process.stdout.readline() == "ready\n", "the agent did not start")

    def __getattr__(self, name):
        def call(*args):
            self.process.stdin.write(json.dumps([name, *args]) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline() or '{"wrong": "the agent is gone"}')
            check("is" in answer, f"{name}{args}: {answer.get('wrong')}")
            return answer["is"]
        return call

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=10)


@contextlib.contextmanager
def node(mode, *texts):
    """A lab, meshd, and an agent in its client."""
    with Lab(texts=[PODS]) as lab:
        lab.mesh(*mode)
        if texts:
            lab.apply(texts=texts)
        with Agent(lab) as agent:
            yield lab, agent


def service(number, ips, name=None, port=8080):
    """One with an IPv4 and an IPv6 address, whose endpoints are these."""
    name = name or f"s{number}"
    docs = [{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
             "metadata": {"name": f"{name}-{family.lower()}", "labels": {"kubernetes.io/service-name": name}},
             "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in ips if (":" in ip) == (family == "IPv6")],
             "ports": [{"name": "u", "port": port, "protocol": "UDP"}]} for family in ("IPv4", "IPv6")]
    docs.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
        "clusterIP": V4.format(number), "clusterIPs": [V4.format(number), V6.format(number)],
        "ports": [{"name": "u", "port": 80, "protocol": "UDP"}]}})
    return "\n---\n".join(map(json.dumps, docs))


def ips_of(lab, *pods):
    have = {p["pod"]: p["ips"] for p in lab.pods()}
    return [ip for pod in pods for ip in have[pod]]


def third(lab):
    """The addresses of each of the three servers."""
    have = {p["pod"]: p["ips"] for p in lab.pods()}
    return [have[f"app-{i}"] for i in range(3)]


def ways(number):
    """(family of the socket, address)."""
    return (4, V4.format(number)), (6, V6.format(number)), (6, V4.format(number))


def flows_to(lab, address, *options):
    return [f for f in lab.flows(*options) if f["dialled"]["ip"] == address]


@test
def each_socket_draws_by_the_weights():
    for mode in MODES:
        with node(mode) as (lab, agent):
            route = {"apiVersion": "gateway.networking.k8s.io/v1alpha2", "kind": "UDPRoute", "metadata": {"name": "all"}, "spec": {
                "parentRefs": [{"kind": "Service", "group": "", "name": "all"}],
                "rules": [{"backendRefs": [{"name": f"s{i}", "port": 80, "weight": w} for i, w in enumerate((1, 3, 6))]}]}}
            servers = third(lab)
            lab.apply(texts=[*(service(i, servers[i]) for i in range(3)), service(9, servers[0], "all"), json.dumps(route)])
            for family, address in ways(9):
                seen = agent.split(family, address, 80, N)
                wrong = split_error(seen, {"app-0": 1, "app-1": 3, "app-2": 6})
                check(not wrong, f"{mode} {address} by a socket of IPv{family}: {wrong}")
            if not TC_ONLY:
                check(len(flows_to(lab, V4.format(9), "--state", "closed")) == 2 * N, "a record for each socket")


@test
def one_socket_dials_many_services():
    for mode in MODES:
        with node(mode) as (lab, agent):
            servers = third(lab)
            lab.apply(texts=[service(i, servers[i % 3]) for i in range(SERVICES)])
            for family, form in ((4, V4), (6, V6), (6, V4)):
                addresses = [form.format(i) for i in range(SERVICES)]
                fd = agent.new(family)
                for address in addresses:
                    check(agent.send(fd, address, address, 80) == len(address), f"{mode}: sent to {address}")
                seen = sorted(agent.recv(fd) for _ in addresses)
                want = sorted([f"app-{i % 3} {a}", a, 80] for i, a in enumerate(addresses))
                if not TC_ONLY:
                    # Those of one endpoint, on one socket: every address answers once, and whose answer is whose only the order says.
                    want, seen = ([[d.split()[0], a, p] for d, a, p in x] for x in (want, seen))
                check(sorted(seen) == sorted(want), f"{mode} IPv{family} {form}: {seen}")
                for address in addresses:
                    got = agent.rally(fd, address, 80, 3)
                    check(sum(got["seen"].values()) == 3, f"{mode}: {address} in turn: {got}")


@test
def more_services_than_a_socket_keeps():
    """Request and answer in turn, to 60 of them from one socket."""
    for mode in MODES:
        with node(mode) as (lab, agent):
            servers = third(lab)
            lab.apply(texts=[service(i, servers[i % 3]) for i in range(60)])
            fd = agent.new(4)
            for _ in range(2):
                for i in range(60):
                    got = agent.rally(fd, V4.format(i), 80, 2)
                    check(got["seen"] == {f"app-{i % 3}": 2}, f"{mode} service {i}: {got}")


@test
def a_long_flow_stays_through_changes():
    """As QUIC has it: thousands of datagrams both ways on one socket, while the rules change under them."""
    for mode in MODES:
        with node(mode) as (lab, agent):
            every = ips_of(lab, "app-0", "app-1", "app-2")
            lab.apply(texts=[service(1, ips_of(lab, "app-0"))])
            for family, address in ways(1):
                fd = agent.new(family)
                check(agent.rally(fd, address, 80, 10)["seen"] == {"app-0": 10}, "the only endpoint answers")
                agent.start(fd, address, 80, 1000000)
                for i in range(6):
                    lab.apply(texts=[service(1, every) if i % 2 else service(1, ips_of(lab, "app-0", "app-1"))])
                got = agent.stop()
                check(set(got["seen"]) == {"app-0"}, f"{mode} {address}: it stays where it is: {got}")
                (flow, ) = [f for f in flows_to(lab, address) if f["client"]["port"] == agent.local(fd)]
                # Ten exchanges of "nX" and "app-0 nX" before.
                want = (got["sent"] + 20, got["received"] + 80)
                check((flow["bytes_sent"], flow["bytes_received"]) == want and not flow["closed"], f"{mode} {flow}, wanted {want}")
                lab.apply(texts=[service(1, ips_of(lab, "app-0"))])
            # An endpoint that is drained keeps what it has, and gets nothing new.
            fd = agent.new(4)
            agent.rally(fd, V4.format(1), 80, 1)
            lab.apply(texts=[service(1, ips_of(lab, "app-2"))])
            check(agent.rally(fd, V4.format(1), 80, 20)["seen"] == {"app-0": 20}, f"{mode}: the drained endpoint keeps its flow")
            check(agent.split(4, V4.format(1), 80, 20) == {"app-2": 20}, f"{mode}: and gets no new one")


@test
def a_flow_whose_endpoint_is_gone_begins_anew():
    for mode in MODES:
        with node(mode) as (lab, agent), Agent(lab, "@outside") as outside:
            there = outside.new(6, 7100)
            lab.apply(texts=[service(1, OUTSIDE, port=7100)])
            fd = agent.new(4)
            agent.send(fd, "ask", V4.format(1), 80)
            outside.answer(there, "answer")
            check(agent.recv(fd) == ["answer", V4.format(1), 80], f"{mode}: the only endpoint answers")
            lab.apply(texts=[service(1, ips_of(lab, "app-2"))])
            deadline = time.monotonic() + 20
            got = None
            while got != ["app-2 x", V4.format(1), 80]: # the old one is given up after a grace period
                check(time.monotonic() < deadline, f"{mode}: a new choice when the endpoint is gone: {got}")
                agent.send(fd, "x", V4.format(1), 80)
                got = agent.recv(fd, 0.2)
            check(agent.rally(fd, V4.format(1), 80, 20)["seen"] == {"app-2": 20}, f"{mode}: it stays there")
            (ended, ) = [f for f in flows_to(lab, V4.format(1)) if f["closed"]]
            check(ended["server"]["ip"] == OUTSIDE[0], f"{mode}: the old flow has ended: {ended}")


@test
def bytes_are_counted_for_each_service():
    for mode in MODES:
        with node(mode) as (lab, agent):
            servers = third(lab)
            lab.apply(texts=[service(i, servers[i]) for i in range(3)])
            for family, form in ((4, V4), (6, V6)):
                fd = agent.new(family)
                want = agent.crowd(fd, [[form.format(i), 80] for i in range(3)], 4, 150)
                port = agent.local(fd)
                for state in ("open", "closed"):
                    for address, (sent, received) in want.items():
                        (flow, ) = [f for f in flows_to(lab, address) if f["client"]["port"] == port]
                        check((flow["bytes_sent"], flow["bytes_received"]) == (sent, received),
                              f"{mode} {state} {address}: {flow}, wanted {sent} and {received}")
                        check(flow["client"]["pod"] == "client" and flow["server"]["pod"].startswith("app-"), f"{flow}")
                        check(TC_ONLY or (flow["closed"] is None) == (state == "open"), f"{mode}: {state}: {flow}")
                    if state == "open":
                        agent.close(fd)


@test
def the_ways_of_sending():
    """Several datagrams in one call, one that is cut into many, a source named by IP_PKTINFO, a peek, a receiver that asks no address."""
    for mode in MODES:
        with node(mode) as (lab, agent):
            servers = third(lab)
            lab.apply(texts=[service(i, servers[i]) for i in range(3)])
            one, other = V4.format(0), V4.format(1)
            fd = agent.new(4)
            check(agent.sendmmsg(fd, [["a", one, 80], ["bb", other, 80], ["ccc", one, 80]]) == 3, "sendmmsg")
            got = sorted(agent.recv(fd) for _ in range(3))
            check(got == [["app-0 a", one, 80], ["app-0 ccc", one, 80], ["app-1 bb", other, 80]], f"{mode} sendmmsg: {got}")
            check(agent.segments(fd, 4, "aaaabbbbcc", one, 80) == 10, "UDP_SEGMENT")
            got = sorted(agent.recv(fd) for _ in range(3))
            check(got == [["app-0 aaaa", one, 80], ["app-0 bbbb", one, 80], ["app-0 cc", one, 80]], f"{mode} UDP_SEGMENT: {got}")
            check(agent.from_source(fd, "dd", ips_of(lab, "client")[0], other, 80) == 2, "IP_PKTINFO")
            check(agent.recv(fd, 5, True) == agent.recv(fd) == ["app-1 dd", other, 80], f"{mode} MSG_PEEK")
            # The same for the reader who asks no address, on a socket with one service.
            single = agent.new(4)
            agent.send(single, "eeeee", V4.format(2), 80)
            check(agent.read(single) == "app-2 eeeee", f"{mode} recv()")
            counts = {a: [(f["bytes_sent"], f["bytes_received"]) for f in flows_to(lab, a)] for a in (one, other, V4.format(2))}
            # An ICMP header of a segmented datagram is counted by the links once for each segment, so there it is left out.
            check(TC_ONLY or counts[one] == [(14, 14 + 5 * 6)], f"{mode}: {counts}")
            check(counts[other] == [(4, 16)] and counts[V4.format(2)] == [(5, 11)], f"{mode}: {counts}")
            # A connected socket that names another service, and its own.
            fd = agent.new(6)
            agent.connect(fd, one, 80)
            agent.send(fd, "own", one, 80)
            check(agent.recv(fd) == ["app-0 own", one, 80], f"{mode}: sendto() of a connected socket to its own service")
            agent.send(fd, "plain")
            check(agent.recv(fd) == ["app-0 plain", one, 80], f"{mode}: send() of it")
            check(agent.send(fd, "other", other, 80) == 5, f"{mode}: sendto() of it to another")


@test
def refusals_have_their_errno():
    deny = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "no"}, "spec": {
        "action": "DENY", "selector": {"matchLabels": {"app": "app"}}, "rules": [{}]}}
    for mode in MODES:
        with node(mode) as (lab, agent):
            lab.apply(texts=[service(1, ips_of(lab, "app-1")), service(2, [])])
            fds = {}
            for family, address in ways(2):
                fd = agent.new(family)
                got = agent.send(fd, "x", address, 80)
                got = agent.recv(fd, 0.2) if TC_ONLY else got
                check(got == ("TimeoutError" if TC_ONLY else "ECONNREFUSED"), f"{mode} {address} without an endpoint: {got}")
            for way in ways(1):
                fds[way] = agent.new(way[0])
                agent.rally(fds[way], way[1], 80, 1)
            lab.apply(texts=[json.dumps(deny)])
            for family, address in ways(1):
                fd = agent.new(family)
                got = agent.send(fd, "x", address, 80)
                got = agent.recv(fd, 0.2) if TC_ONLY else got
                check(got == ("TimeoutError" if TC_ONLY else "EPERM"), f"{mode} {address} denied: {got}")
                # At the server's link, a datagram that no link has seen before is a first one.
                if mode or TC_ONLY:
                    check(agent.rally(fds[family, address], address, 80, 3)["seen"] == {"app-1": 3}, f"{mode}: what is open stays")
            failed = collections.Counter(f["reason"] for f in lab.flows() if f["state"] == "failed")
            check(failed == {"no_endpoint": 3, "denied": 3}, f"{mode}: {failed}")
            check(all(f["policy"] for f in lab.flows() if f["reason"] == "denied"), "the policy is named")


@test
def a_change_of_policies_cuts_where_asked_to():
    """Of the flows of one socket those that are forbidden now; the socket and its other flows go on."""
    deny = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "no"}, "spec": {
        "action": "DENY", "selector": {"matchLabels": {"app": "app"}}, "rules": [{"to": [{"operation": {"ports": ["8080"]}}]}]}}
    for mode in MODES:
        with node((*mode, "--on-policy-change", "cut")) as (lab, agent), Agent(lab, "app-0") as server:
            listening = server.new(6, 7000)
            lab.apply(texts=[service(1, ips_of(lab, "app-0")), service(2, ips_of(lab, "app-0"), port=7000)])
            for family, cut, kept in ((4, V4.format(1), V4.format(2)), (6, V6.format(1), V6.format(2))):
                fd = agent.new(family)
                for denied in (False, True):
                    if denied:
                        lab.apply(texts=[json.dumps(deny)])
                    check(agent.send(fd, "ask", kept, 80) == 3 and server.answer(listening, "answer")[0] == "ask", f"{mode} {kept}")
                    check(agent.recv(fd) == ["answer", kept, 80], f"{mode} {kept}")
                    got = agent.send(fd, "ask", cut, 80)
                    if denied and not TC_ONLY:
                        check(got == "EPERM", f"{mode} {cut}: {got}")
                        continue
                    got = agent.recv(fd, 0.2 if denied else 5)
                    check(got == ("TimeoutError" if denied else ["app-0 ask", cut, 80]), f"{mode} {cut}: {got}")
                ended = [(f["reason"], f["policy"]) for f in flows_to(lab, cut) if f["bytes_received"]]
                check(ended == [("cut", "default/no")], f"{mode} {cut}: {ended}")
                check([f["closed"] for f in flows_to(lab, kept)] == [None], f"{mode} {kept} is open")
                lab.ctl("delete", "authorizationpolicies", "no")


@test
def what_the_registry_does_not_know():
    """REGISTRY_ONLY: a service outside of the cluster is reached, its machine itself is not, unless it has asked."""
    for mode in MODES:
        with node((*mode, "--outbound-traffic-policy", "REGISTRY_ONLY")) as (lab, agent), Agent(lab, "@outside") as outside:
            there = outside.new(6, 7100)
            lab.apply(texts=[service(1, OUTSIDE, port=7100)])
            for family, address in ways(1):
                fd = agent.new(family)
                for _ in range(2):
                    check(agent.send(fd, "ask", address, 80) == 3, f"{mode} {address}")
                    check(outside.answer(there, "answer")[0] == "ask" and agent.recv(fd) == ["answer", address, 80], f"{mode} {address}")
            for family, ip, own in zip((4, 6), OUTSIDE, ips_of(lab, "client")):
                for bind in (None, 7200 + family):
                    fd = agent.new(family, bind)
                    got = agent.send(fd, "unasked", ip, 7100)
                    # With nothing at the link, who has bound a port may be a server.
                    known = bind and "off" in mode
                    check(got == (7 if known or TC_ONLY else "EPERM"), f"{mode} {ip} from port {bind}: {got}")
                    got = outside.recv(there, 5 if known else 0.2)
                    check(got[0] == "unasked" if known else got == "TimeoutError", f"{mode} {ip} from port {bind}: {got}")
                asking = outside.new(family)
                outside.send(asking, "ask", own, 7200 + family)
                check(agent.answer(fd, "answer")[0] == "ask", f"{mode}: {own} is asked")
                check(outside.recv(asking) == ["answer", own, 7200 + family], f"{mode}: {own} answers")
            refused = {f["dialled"]["ip"] for f in lab.flows() if f["reason"] == "registry_only"}
            check(refused == set(OUTSIDE), f"{mode}: recorded {refused}")


@test
def flows_stay_when_the_sockets_take_over():
    if TC_ONLY:
        raise Skip("needs programs at the sockets")
    with Lab(texts=[PODS]) as lab:
        lab.mesh("--socket-hooks", "off")
        servers = third(lab)
        lab.apply(texts=[service(1, servers[0] + servers[1] + servers[2])])
        with Agent(lab) as agent:
            fds = [agent.new(4) for _ in range(30)]
            before = [agent.rally(fd, V4.format(1), 80, 3)["seen"] for fd in fds]
            lab.tool("unmesh")
            lab.mesh()
            check([agent.rally(fd, V4.format(1), 80, 3)["seen"] for fd in fds] == before, "every flow stays where it was")
            agent.split(4, V4.format(1), 80, 50)
            check(lab.status()["plane"]["counters"]["sendmsg4"].get("routed") == 50, "and the sockets choose for new ones")


@test
def servers_and_strangers_are_left_alone():
    """A server answers whoever asked, even below a policy that denies that one everything; no process outside of the pods is touched."""
    deny = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "no"}, "spec": {
        "action": "DENY", "selector": {"matchLabels": {"app": "client"}}, "rules": [{}]}}
    for mode in MODES:
        with node(mode) as (lab, agent), Agent(lab, "app-0") as server:
            lab.apply(texts=[service(1, ips_of(lab, "app-0"), port=7000), json.dumps(deny)])
            listening = {4: server.new(4, 7000), 6: server.new(6, 7001)}
            lab.apply(texts=[service(2, ips_of(lab, "app-0"), port=7001)])
            for family, address in ((4, V4.format(1)), (6, V6.format(2)), (4, V4.format(2))):
                fd = agent.new(family)
                agent.send(fd, "ask", address, 80)
                listener = listening[4 if address == V4.format(1) else 6]
                server.answer(listener, "answer")
                check(agent.recv(fd) == ["answer", address, 80], f"{mode}: answered by a socket of its own")
            direct = agent.new(4)
            agent.send(direct, "ask", ips_of(lab, "app-0")[0], 7000)
            server.answer(listening[4], "direct")
            check(agent.recv(direct) == ["direct", ips_of(lab, "app-0")[0], 7000], f"{mode}: a pod dialled by its own address")
            with open(lab.path("lab.json"), encoding="utf-8") as f:
                inside = ["nsenter", f"--net=/proc/{json.load(f)['node_pid']}/ns/net"]
            before = len(lab.flows())
            code = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.2)\n"
                    f"s.sendto(b'x', ('{V4.format(1)}', 80)); s.recvfrom(9)")
            run(*inside, "python3", "-c", code, ok=(1, ))
            check(len(lab.flows()) == before, f"{mode}: no flow of the node's own process")


@test
def sockets_end_their_flows():
    """Thousands of sockets that dial and go leave nothing open, and nothing that is in the way of others."""
    if TC_ONLY:
        raise Skip("the links end flows by time")
    for mode in MODES:
        with node(mode) as (lab, agent):
            lab.apply(texts=[service(1, ips_of(lab, "app-0", "app-1"))])
            keeper = agent.new(4)
            agent.rally(keeper, V4.format(1), 80, 1)
            agent.split(4, V4.format(1), 80, 2000)
            check(len(lab.flows("--state", "open")) == 1, f"{mode}: only the one that is open is open")
            check(len(lab.flows("--state", "closed")) == 2000, f"{mode}: the others ended")
            agent.close(keeper)
            check(not lab.flows("--state", "open"), f"{mode}: none is left")


main()
