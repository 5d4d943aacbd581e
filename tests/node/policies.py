#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Each policy of balancing, with real connections: the split that it is to give, by weight; round robin's order; what least request is for,
the most connections that one endpoint has, against random's; where hashes of the client's address lead, and how few of thousands of
clients go elsewhere when one endpoint leaves. False alarms: less than one in a million a check, as computed or said beside it."""
import collections
import json
import os

import peers # first: it finds tests/lib
import labs
import stats
from suite import check, main, test

SERVER = "10.244.1.2"
FIRST_PORT = 9000
WEIGHTS = [1, 2, 3, 4]
MANY, HELD = 100, 3000
CONNECTIONS = 2000 if labs.SHORT else 10000
KEYS, NODES = 2000, 10
PACE = os.path.join(peers.PROGRAMS, "pace")
HASHES = {"maglev": {"useSourceIp": True, "maglev": {"tableSize": 65537}}, "ring": {"useSourceIp": True, "ringHash": {"minimumRingSize": 1024}}}
VIP = "10.96.1.1"
# One connection from each address of 198.18.0.0/16, of a list; whoever answers.
EACH = r"""
import json, socket, sys
answers = []
for i in range(int(sys.argv[2])):
    with socket.socket() as s:
        s.settimeout(10)
        s.bind((f"198.18.{i >> 8}.{i & 255}", 0))
        s.connect((sys.argv[1], 80))
        s.sendall(b"?\n")
        answers.append(s.recv(80).decode().strip())
print(json.dumps(answers))
"""


def entry(name, at, weights):
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name},
            "spec": {"hosts": [f"{name}.example.com"], "addresses": [f"240.1.0.{at}"], "resolution": "STATIC",
                     "ports": [{"number": 80, "name": "tcp", "protocol": "TCP"}],
                     "endpoints": [{"address": SERVER, "ports": {"tcp": FIRST_PORT + i}, "weight": w} for i, w in enumerate(weights)]}}


def rule(host, balancer):
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": host.split(".")[0]},
            "spec": {"host": host, "trafficPolicy": {"loadBalancer": balancer}}}


def names(weights):
    return {f"srv {FIRST_PORT + i}": w for i, w in enumerate(weights)}


def one_lab():
    return peers.PeerLab([peers.pod("client", ["10.244.1.1"]), peers.pod("srv", [SERVER])])


def answers(lab, at, connections):
    seen = lab.load("client", [f"240.1.0.{at}:80"], "--count", str(connections))
    check(not seen["failures"], f"240.1.0.{at}: {seen['failures']} failed, first: {seen['first_error']}")
    return seen["answers"]


@test
def splits_are_as_the_weights_say():
    cases = [(simple, weights) for simple in ("RANDOM", "LEAST_REQUEST", "ROUND_ROBIN") for weights in ([1] * 4, WEIGHTS)]
    docs = []
    for i, (simple, weights) in enumerate(cases, 1):
        docs += [entry(f"e{i}", i, weights), rule(f"e{i}.example.com", {"simple": simple})]
    with one_lab() as lab:
        lab.serve("srv", *range(FIRST_PORT, FIRST_PORT + 4))
        lab.mesh()
        lab.apply(texts=[peers.text(docs)])
        for i, (simple, weights) in enumerate(cases, 1):
            seen = answers(lab, i, CONNECTIONS)
            if simple == "ROUND_ROBIN": # nothing is left to chance
                wanted = {name: CONNECTIONS * w // sum(weights) for name, w in names(weights).items()}
                check(seen == wanted, f"round robin, {weights}: {seen}")
            else:
                # One after the other: nobody has a connection when the next one is made, and least request goes by weight.
                wrong = stats.split_error(seen, names(weights))
                check(not wrong, f"{simple}, {weights}: {wrong}")


def held(lab, at):
    """So many connections held at the same time; who has how many."""
    client = lab.spawn(lab.in_pod("client", PACE, f"240.1.0.{at}:80", HELD, 1, 20000, 60000))
    check(client.stdout.readline() == "begun\n", "no client")
    seen = [client.stdout.readline().strip().split(" ", 3) for _ in range(HELD)]
    client.kill()
    client.wait()
    failed = [one for one in seen if one[2] != "0"]
    check(not failed, f"{len(failed)} connections failed, first: {failed[:1]}")
    return collections.Counter(one[3] for one in seen)


@test
def least_request_levels_what_random_does_not():
    docs = [entry("least", 1, [1] * MANY), rule("least.example.com", {"simple": "LEAST_REQUEST"}),
            entry("random", 2, [1] * MANY), rule("random.example.com", {"simple": "RANDOM"}),
            entry("unlike", 3, [1] * 50 + [3] * 50), rule("unlike.example.com", {"simple": "LEAST_REQUEST"})]
    with one_lab() as lab:
        lab.sysctl("srv", "net.core.somaxconn=4096")
        lab.serve("srv", *range(FIRST_PORT, FIRST_PORT + MANY))
        lab.mesh()
        lab.apply(texts=[peers.text(docs)])
        mean = HELD / MANY
        least, random, unlike = (held(lab, at) for at in (1, 2, 3))
        print(f"{HELD} connections over {MANY} endpoints: most by least request {max(least.values())}, by random {max(random.values())}; "
              f"fewest {min(least.values())}, {min(random.values())}", flush=True)
        # Balls into bins: thrown at random, all 100 bins have 35 or fewer once in 2e7 times; with two choices the fullest has a few more
        # than the mean, log log n / log 2 + O(1), however many balls there are.
        check(max(random.values()) > 35, f"random: {max(random.values())} at most")
        check(max(least.values()) <= mean + 4, f"least request: {max(least.values())} at most, the mean is {mean}")
        # Three times the weight: between the share by weight alone and an even one.
        heavy = sum(unlike[name] for name, w in names([1] * 50 + [3] * 50).items() if w == 3)
        check(0.5 < heavy / HELD < 0.78, f"weights 1 and 3: {heavy} of {HELD} to the heavier ones")


def hashed_service(kind, ports):
    """One Service with an endpoint at each of the ports."""
    docs = [peers.service("hashed", [VIP], [("tcp", 80, FIRST_PORT)]), rule("hashed", {"consistentHash": HASHES[kind]})]
    for port in ports:
        slice_ = peers.endpoints("hashed", [SERVER], [("tcp", port)])
        slice_["metadata"]["name"] = f"hashed-{port}"
        docs.append(slice_)
    return docs


def led_to(lab):
    return json.loads(lab.exec("@outside", "python3", "-c", EACH, VIP, str(KEYS), timeout=300))


@test
def hashes_move_only_what_must_move():
    """KEYS clients, each with an address of its own, come in by the node's link; then one of the endpoints leaves, and comes back."""
    ports = list(range(FIRST_PORT, FIRST_PORT + NODES))
    with one_lab() as lab:
        lab.exec("@outside", "ip", "route", "add", "local", "198.18.0.0/16", "dev", "lo")
        lab.exec("@outside", "ip", "route", "add", VIP, "via", lab.nodes()[0]["ips"][0])
        lab.exec("@node", "ip", "route", "add", "198.18.0.0/16", "via", "172.31.0.250")
        lab.serve("srv", *ports)
        lab.mesh()
        for kind in HASHES:
            gone = f"srv {ports[3]}"
            lab.apply(texts=[peers.text(hashed_service(kind, ports))])
            before = led_to(lab)
            check(before == led_to(lab), f"{kind}: the same client was led elsewhere")
            counts = collections.Counter(before)
            check(len(counts) == NODES and max(counts.values()) < 2 * KEYS / NODES, f"{kind}: {counts}")
            lab.ctl("delete", "endpointslice", f"hashed-{ports[3]}")
            after = led_to(lab)
            moved = [b for b, a in zip(before, after) if a != b]
            others = sum(b != gone for b in moved)
            print(f"{kind}: {KEYS} clients, the endpoint that left had {counts[gone]}; {others} of others moved", flush=True)
            check(gone not in after and len(moved) - others == counts[gone], f"{kind}: the endpoint that left still serves")
            # A ring moves nobody else. Maglev gives some entries of its table to others: of 65537 less than 3 % with 10 endpoints.
            check(others == 0 if kind == "ring" else others < 0.05 * KEYS, f"{kind}: {others} clients of others moved")
            lab.apply(texts=[peers.text(hashed_service(kind, ports))])
            check(led_to(lab) == before, f"{kind}: not as before when the endpoint is back")


main()
