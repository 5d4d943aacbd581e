#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel counts of endpoints and clusters: limits that hold to the connection, slots that come back however a connect ends,
and endpoints that are put out of service, with and without a meshd that lives."""
import json
import time

import peers # first: it finds tests/lib
import labs
from suite import Skip, check, main, test

CLIENT, GOOD, OTHER, HOLE = ("10.244.1.%d" % i for i in (1, 2, 3, 4))
PODS = [peers.pod("client", [CLIENT]), peers.pod("good", [GOOD]), peers.pod("other", [OTHER]), peers.pod("hole", [HOLE])]
VIPS = {"few": "10.96.1.1", "half": "10.96.1.2", "closed": "10.96.1.3", "slow": "10.96.1.4", "loyal": "10.96.1.5", "curt": "10.96.1.6",
        "forgiven": "10.96.1.7", "lost": "10.96.1.8"}

# Threads that connect all at once, hold what they got, and let go together.
STORM = """
import collections, json, socket, sys, threading
host, port, threads, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
held, errors, lock = [], collections.Counter(), threading.Lock()
go = threading.Barrier(threads)
def one():
    go.wait()
    for _ in range(each):
        s = socket.socket()
        s.settimeout(20)
        try:
            s.connect((host, port))
            with lock:
                held.append(s)
        except OSError as e:
            s.close()
            with lock:
                errors[type(e).__name__] += 1
all = [threading.Thread(target=one) for _ in range(threads)]
[t.start() for t in all]
[t.join() for t in all]
print(json.dumps({"held": len(held), "errors": errors}), flush=True)
sys.stdin.readline()
"""
# Resets each connection that it accepts: before it has sent anything, or after a byte.
CURT = """
import socket, struct, sys
s = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=64)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    if sys.argv[2] == "answers":
        c.send(b".")
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
"""
# Connects N times, one after the other, and says what came of it.
VICTIM = """
import collections, json, socket, sys
seen = collections.Counter()
for _ in range(int(sys.argv[3])):
    s = socket.socket()
    s.settimeout(5)
    try:
        s.connect((sys.argv[1], int(sys.argv[2])))
        if s.recv(1):
            s.recv(1)
        seen["end"] += 1
    except OSError as e:
        seen[type(e).__name__] += 1
    s.close()
print(json.dumps(seen))
"""
# Begins to connect, and lets go once its SYN was sent so many times more.
IMPATIENT = """
import socket, sys, time
s = socket.socket()
s.setblocking(False)
s.connect_ex((sys.argv[1], int(sys.argv[2])))
until = time.monotonic() + 10
while int.from_bytes(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[100:104], sys.byteorder) < int(sys.argv[3]):
    if time.monotonic() > until:
        sys.exit("its SYN is not sent again")
    time.sleep(0.02)
s.close()
"""


def rule(host, policy, annotations=None):
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": host, "annotations": annotations or {}},
            "spec": {"host": host, "trafficPolicy": policy}}


def rules():
    docs = []
    for name, ends in {"few": [(GOOD, 9000)], "half": [(GOOD, 9000), (OTHER, 9000)], "closed": [(GOOD, 9999)],
                       "slow": [(HOLE, 9000)], "loyal": [(GOOD, 9000), (OTHER, 9001)], "curt": [(OTHER, 9002)],
                       "forgiven": [(OTHER, 9002)], "lost": [(HOLE, 9000)]}.items():
        docs.append(peers.service(name, [VIPS[name]], [("tcp", 80, ends[0][1])]))
        docs.append(peers.endpoints(name, [ip for ip, _ in ends], [("tcp", ends[0][1])]))
    docs.append(rule("few", {"connectionPool": {"tcp": {"maxConnections": 7}}}))
    docs.append(rule("half", {"outlierDetection": {"consecutive5xxErrors": 3, "baseEjectionTime": "3s", "interval": "600s",
                                                    "maxEjectionPercent": 50}}))
    outlier = {"consecutive5xxErrors": 3, "baseEjectionTime": "600s", "interval": "600s"}
    docs.append(rule("curt", {"outlierDetection": outlier}, {"tulle.dev/reset-ejection": "3"}))
    docs += [rule(name, {"outlierDetection": outlier}) for name in ("forgiven", "lost")]
    docs.append(rule("slow", {"connectionPool": {"tcp": {"connectTimeout": "300ms"}}}))
    docs[-1]["spec"]["trafficPolicy"]["outlierDetection"] = {}
    return docs


def prepare(lab):
    lab.good = lab.serve("good", 9000)
    lab.ip("hole", "route", "replace", "blackhole", CLIENT)
    lab.mesh("--max-services", "256", "--max-endpoints", "512") # small maps, which are read whole
    lab.apply(texts=[peers.text(rules())])


def actives(lab):
    return (sum(p["active"] for p in lab.dump("mesh_pools")), sum(s["active"] for s in lab.dump("mesh_backends")))


def settle(lab):
    """No connection is counted any more. Bounded, ends with the condition."""
    deadline = time.monotonic() + 15
    while (left := actives(lab)) != (0, 0):
        check(time.monotonic() < deadline, f"still counted: {left}")
        time.sleep(0.05)


def storm(lab, vip, threads, each):
    child = lab.spawn(lab.in_pod("client", "python3", "-c", STORM, vip, 80, threads, each))
    return child, json.loads(child.stdout.readline())


@test
def no_connection_beyond_the_limit():
    with peers.PeerLab(PODS) as lab:
        prepare(lab)
        for _ in range(3):
            child, got = storm(lab, VIPS["few"], 64, 4)
            check(got == {"held": 7, "errors": {"ConnectionRefusedError": 249}}, f"{got}")
            check(actives(lab) == (7, 7), f"{actives(lab)}")
            child.stdin.write("\n")
            child.stdin.flush()
            child.wait()
            settle(lab)
        overflows = [p["overflow"] for p in lab.dump("mesh_pools") if p["max_connections"] == 7]
        check(overflows == [3 * 249], f"{overflows}")
        refused = [f for f in lab.flows() if f["reason"] == "overflow"]
        check(len(refused) == 3 * 249, f"{len(refused)} records of overflow")


@test
def slots_come_back_however_it_ends():
    with peers.PeerLab(PODS) as lab:
        prepare(lab)
        for kind in ("connect", "close", "deferred"):
            lab.fail("client", kind, peers.target(VIPS["few"], 80))
            lab.fail("client", kind, peers.target(VIPS["closed"], 80))
        lab.load("client", [peers.target(VIPS["few"], 80)], "--count", "200")
        child, got = storm(lab, VIPS["few"], 4, 1)
        check(got["held"] == 4, f"{got}")
        lab.kill_mesh()
        child.kill()
        child.wait()
        settle(lab)


@test
def who_refuses_is_out_while_no_meshd_lives():
    with peers.PeerLab(PODS) as lab:
        prepare(lab)
        lab.kill_mesh()
        began = time.monotonic()
        child, got = storm(lab, VIPS["half"], 1, 100)
        took = time.monotonic() - began
        # Three in a row eject for three seconds: 3 failures at the most for each time that it is let in again.
        most = 3 * (1 + int(took / 3))
        failed = sum(got["errors"].values())
        check(1 <= failed <= most and got["held"] == 100 - failed, f"{got} in {took:.1f} s")
        ejected = [p["ejected"] for p in lab.dump("mesh_pools") if p["flags"] & 1 and p["endpoint_nr"] == 2]
        check(ejected == [1], f"ejected: {ejected}")
        lab.serve("other", 9000)
        deadline = time.monotonic() + 20
        while not any(a.startswith("other") for a in lab.load("client", [peers.target(VIPS["half"], 80)], "--count", "40")["answers"]):
            check(time.monotonic() < deadline, "it does not come back")
            time.sleep(0.2)


@test
def who_does_not_answer_is_given_up_in_time():
    if labs.TC_ONLY:
        raise Skip("there are no sockets to set at the links")
    with peers.PeerLab(PODS) as lab:
        prepare(lab)
        began = time.monotonic()
        got = lab.fail("client", "connect", peers.target(VIPS["slow"], 80))
        took = time.monotonic() - began
        check(got == "ETIMEDOUT", got)
        check(0.3 <= took < 0.9, f"{took:.2f} s")
        settle(lab)


def endpoint(lab, host):
    found = lab.endpoints(host)
    check(len(found) == 1, f"{host} has one endpoint: {found}")
    return found[0]


def victims(lab, name, n):
    return json.loads(labs.run(*lab.in_pod("client", "python3", "-c", VICTIM, VIPS[name], 80, n)))


@test
def resets_eject_where_that_is_asked_for():
    with peers.PeerLab(PODS) as lab:
        prepare(lab)
        server = lab.spawn(lab.in_pod("other", "python3", "-c", CURT, 9002, "answers"))
        check(server.stdout.readline() == "ready\n", "no server")
        seen = victims(lab, "curt", 5)
        check(seen == {"ConnectionResetError": 5}, f"reset after a byte: {seen}")
        e = endpoint(lab, "curt")
        check((e["state"], e["reset"], e["reset_in_a_row"], e["cause"]) == ("healthy", 5, 0, None), f"who has answered is not ejected: {e}")
        server.kill()
        server.wait()
        server = lab.spawn(lab.in_pod("other", "python3", "-c", CURT, 9002, "never"))
        check(server.stdout.readline() == "ready\n", "no server")
        seen = victims(lab, "curt", 5)
        check(seen == {"ConnectionResetError": 3, "ConnectionRefusedError": 2}, f"three in a row: {seen}")
        e = endpoint(lab, "curt")
        check((e["state"], e["cause"], e["reset"]) == ("ejected", "resets", 8) and e["ejected_at"] < e["ejected_until"], f"{e}")
        check(e["why"].startswith("resets without an answer in a row "), e["why"])
        seen = victims(lab, "forgiven", 5)
        check(seen == {"ConnectionResetError": 5} and endpoint(lab, "forgiven")["state"] == "healthy", f"upstream does not count them: {seen}")


@test
def who_gives_up_blames_whoever_did_not_answer():
    if labs.TC_ONLY:
        raise Skip("the links do not see a client give up")
    with peers.PeerLab(PODS) as lab:
        prepare(lab)
        for again, failed in ((0, 0), (1, 1), (1, 2)):
            labs.run(*lab.in_pod("client", "python3", "-c", IMPATIENT, VIPS["lost"], 80, again))
            e = endpoint(lab, "lost")
            check((e["failed"], e["failed_in_a_row"], e["state"]) == (failed, failed, "healthy"), f"after {again} more: {e}")
        check([f["reason"] for f in lab.flows()] == ["aborted"] * 3, f"{lab.flows()}")
        labs.run(*lab.in_pod("client", "python3", "-c", IMPATIENT, VIPS["lost"], 80, 1))
        e = endpoint(lab, "lost")
        check((e["state"], e["cause"]) == ("ejected", "connect_failures"), f"three in a row: {e}")


main()
