#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Who is preferred, with real connections, by sockets and by links: localities, nearest first, and the next when they fail; shares of
localities; zones of a Service; a client's own endpoint for as long as its session lasts; new endpoints, which get less at first; and everybody
when too few are left. False alarms: less than one in a million a check."""
import json
import time

import peers # first: it finds tests/lib
import labs
import stats
from suite import Skip, check, main, test

SERVER = "10.244.1.2"
PORT = 9000
ZONES = {"w1": "10.244.1.3", "w2": "10.244.1.4", "e1": "10.244.1.5"} # pods there
LOCALITIES = ["west/w1", "west/w2", "east/e1"]
SERVICES, SESSION_S, WARM_S = 16, 3, 2
OUTLIER = {"consecutive5xxErrors": 3, "interval": "600s", "baseEjectionTime": "2s", "maxEjectionPercent": 100}
KEEPALIVE = """
import json, socket, sys
s = socket.create_connection((sys.argv[1], 80))
print(json.dumps([s.getsockopt(*o) for o in ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), (6, socket.TCP_KEEPIDLE), (6, socket.TCP_KEEPINTVL), (6, socket.TCP_KEEPCNT))]))
"""


def entry(name, at, ports, localities=None):
    ends = [{"address": SERVER, "ports": {"tcp": port}} | ({"locality": localities[i]} if localities else {}) for i, port in enumerate(ports)]
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name},
            "spec": {"hosts": [f"{name}.example.com"], "addresses": [f"240.2.0.{at}"], "resolution": "STATIC",
                     "ports": [{"number": 80, "name": "tcp", "protocol": "TCP"}], "endpoints": ends}}


def rule(name, **policy):
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": name},
            "spec": {"host": f"{name}.example.com", "trafficPolicy": policy}}


def zoned(name, vip, **spec):
    """A Service with a pod in each zone, at a port of its own."""
    docs = [peers.service(name, [vip], [("tcp", 80, PORT)])]
    docs[0]["spec"] |= spec
    for i, (zone, ip) in enumerate(ZONES.items()):
        docs.append(peers.endpoints(name, [ip], [("tcp", PORT + i)]))
        docs[-1]["metadata"]["name"] = f"{name}-{zone}"
        docs[-1]["endpoints"][0]["zone"] = zone
    return docs


def one_lab():
    client = peers.pod("client", ["10.244.1.1"], labels={"istio-locality": "west.w1.r1"})
    return peers.PeerLab([client, peers.pod("srv", [SERVER])])


def zones_lab():
    where = {"client": ("10.244.1.1", "w1")} | {zone: (ip, zone) for zone, ip in ZONES.items()}
    return peers.PeerLab([peers.pod(name, [ip], labels={"istio-locality": f"{'east' if zone == 'e1' else 'west'}.{zone}"})
                          for name, (ip, zone) in where.items()])


def serve_zones(lab):
    for i, zone in enumerate(ZONES):
        lab.serve(zone, PORT + i)


def answers(lab, ip, connections, failing=False):
    """Connections by the port that they went to."""
    seen = lab.load("client", [f"{ip}:80"], "--count", str(connections))
    check(failing or not seen["failures"], f"{ip}: {seen['failures']} failed, first: {seen['first_error']}")
    return {int(who.split()[1]): nr for who, nr in seen["answers"].items()}


@test
def the_nearest_serve_and_the_next_when_they_fail():
    docs = [entry("near", 1, range(PORT, PORT + 3), LOCALITIES), rule("near", outlierDetection=OUTLIER)]
    with one_lab() as lab:
        servers = [lab.serve("srv", PORT + i) for i in range(3)]
        lab.mesh()
        lab.apply(texts=[peers.text(docs)])
        for i, server in enumerate(servers):
            # Ejected after three failures; meshd has the next level serve then.
            deadline = time.monotonic() + 30 # bounded, ends with the condition
            while (seen := answers(lab, "240.2.0.1", 50, failing=i > 0)) != {PORT + i: 50}:
                check(i > 0 and time.monotonic() < deadline, f"{LOCALITIES[i]} is to serve: {seen}")
            if i < 2:
                server.kill()
                server.wait()
        lab.serve("srv", PORT)
        deadline = time.monotonic() + 30 # its ejections end
        while (seen := answers(lab, "240.2.0.1", 50, failing=True)) != {PORT: 50}:
            check(time.monotonic() < deadline, f"the nearest is back, and does not serve: {seen}")


@test
def localities_have_the_shares_that_a_rule_gives_them():
    shares = {"west/w1/*": 60, "west/w2/*": 30, "east/e1/*": 10}
    docs = [entry("shared", 1, range(PORT, PORT + 3), LOCALITIES),
            rule("shared", loadBalancer={"simple": "RANDOM", "localityLbSetting": {"distribute": [{"from": "west/w1/*", "to": shares}]}}),
            entry("alike", 2, range(PORT, PORT + 3), LOCALITIES), rule("alike", loadBalancer={"simple": "RANDOM"})]
    with one_lab() as lab:
        lab.serve("srv", *range(PORT, PORT + 3))
        lab.mesh()
        lab.apply(texts=[peers.text(docs)])
        for at, weights in ((1, shares.values()), (2, [1, 1, 1])):
            wrong = stats.split_error(answers(lab, f"240.2.0.{at}", 3000), {PORT + i: w for i, w in enumerate(weights)})
            check(not wrong, f"240.2.0.{at}: {wrong}")


@test
def zones_of_services_and_hints():
    docs = zoned("close", "10.96.2.1", trafficDistribution="PreferClose") + zoned("wide", "10.96.2.2") + zoned("hinted", "10.96.2.3")
    for doc in docs[-3:]:
        doc["endpoints"][0]["hints"] = {"forZones": [{"name": {"w1": "e1", "w2": "w1", "e1": "w2"}[doc["endpoints"][0]["zone"]]}]}
    with zones_lab() as lab:
        serve_zones(lab)
        lab.mesh()
        here = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": lab.record["node"], "labels": {"topology.kubernetes.io/zone": "w1"}}}
        lab.apply(texts=[peers.text([*docs, here])])
        check(answers(lab, "10.96.2.1", 300) == {PORT: 300}, "PreferClose goes to the client's zone")
        check(len(answers(lab, "10.96.2.2", 300)) == 3, "without it all zones serve") # by chance not once in 1e50 times
        check(answers(lab, "10.96.2.3", 300) == {PORT + 1: 300}, "whose hint names the client's zone")


@test
def a_session_lasts_and_ends():
    docs = []
    for i in range(1, SERVICES + 1):
        docs += zoned(f"s{i}", f"10.96.3.{i}", sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": SESSION_S}})
    with zones_lab() as lab:
        serve_zones(lab)
        lab.mesh()
        lab.apply(texts=[peers.text(docs)])

        def ask(i):
            """Whom the client is led to, and when it began to ask."""
            begin = time.monotonic()
            seen = answers(lab, f"10.96.3.{i}", 5)
            check(len(seen) == 1, f"a client is led to several: {seen}")
            return next(iter(seen)), begin

        services = range(1, SERVICES + 1)
        first = {i: ask(i) for i in services}
        check(len({port for port, _ in first.values()}) > 1, f"all sessions at one endpoint: {first}") # by chance once in 3^15 times
        lasted, last = 0, dict(first)
        deadline = time.monotonic() + 60
        while lasted < 4 * SERVICES:
            check(time.monotonic() < deadline, "no session was asked about while it lasted")
            for i in services:
                before, last[i] = last[i], ask(i)
                if time.monotonic() - before[1] < SESSION_S: # each connection renews it
                    check(last[i][0] == before[0], "a session that lasts goes elsewhere")
                    lasted += 1
        time.sleep(SESSION_S + 1) # what is asked about is the time that passes
        check(any(ask(i)[0] != last[i][0] for i in services), "all of the sessions went on after their end") # by chance once in 3^16 times


@test
def new_endpoints_get_less_at_first():
    warm = {"simple": "ROUND_ROBIN", "warmup": {"duration": f"{WARM_S}s", "minimumPercent": 10}}
    with one_lab() as lab:
        lab.serve("srv", *range(PORT, PORT + 4))
        lab.mesh()
        lab.apply(texts=[peers.text([entry("warm", 1, range(PORT, PORT + 3)), rule("warm", loadBalancer=warm)])])
        deadline = time.monotonic() + 20 # bounded, ends with the condition
        while set((seen := answers(lab, "240.2.0.1", 300)).values()) != {100}:
            check(time.monotonic() < deadline, f"the first ones, all warm: {seen}")
        time.sleep(WARM_S) # all are warm
        for _ in range(5): # where it takes as long to ask, it is warm by then
            lab.apply(texts=[peers.text([entry("warm", 1, range(PORT, PORT + 4))])])
            new = answers(lab, "240.2.0.1", 400).get(PORT + 3, 0)
            if new < 70:
                break
            lab.apply(texts=[peers.text([entry("warm", 1, range(PORT, PORT + 3))])])
        check(new < 70, f"a new one gets as much as others: {new} of 400")
        deadline = time.monotonic() + 20 # bounded, ends with the condition
        while set((seen := answers(lab, "240.2.0.1", 400)).values()) != {100}:
            check(time.monotonic() < deadline, f"it is warm, and gets less: {seen}")


@test
def when_too_few_are_left_all_serve():
    docs = []
    for at, (name, percent) in enumerate((("calm", 0), ("panics", 60)), 1):
        docs += [entry(name, at, range(PORT, PORT + 4)), rule(name, outlierDetection=OUTLIER | {"baseEjectionTime": "600s", "minHealthPercent": percent})]
    with one_lab() as lab:
        lab.serve("srv", PORT, PORT + 1) # the others refuse
        lab.mesh()
        lab.apply(texts=[peers.text(docs)])
        for at in (1, 2):
            answers(lab, f"240.2.0.{at}", 100, failing=True)
        calm, panics = (sum(answers(lab, f"240.2.0.{at}", 400, failing=True).values()) for at in (1, 2))
        check(calm == 400, f"{400 - calm} connections to who was ejected")
        # Half of them fail: fewer than 100 once in 1e23 times.
        check(panics < 300, f"{panics} of 400 connections served, with half of the endpoints refusing and no less than 60 % to be used")


@test
def keepalive_is_as_the_rule_says():
    if labs.TC_ONLY:
        raise Skip("options of sockets need programs at the sockets")
    docs = [entry("kept", 1, [PORT]), rule("kept", connectionPool={"tcp": {"tcpKeepalive": {"time": "321s", "interval": "7s", "probes": 5}}}),
            entry("plain", 2, [PORT])]
    with one_lab() as lab:
        lab.serve("srv", PORT)
        lab.mesh()
        lab.apply(texts=[peers.text(docs)])
        seen = [json.loads(labs.run(*lab.in_pod("client", "python3", "-c", KEEPALIVE, f"240.2.0.{at}"))) for at in (1, 2)]
        check(seen[0] == [1, 321, 7, 5], f"{seen[0]}")
        check(seen[1][0] == 0, f"without a rule: {seen[1]}")


main()
