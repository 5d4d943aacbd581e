#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Connects that fail, each in its own way: a record for each, with the right reason, and no open flow left behind."""
import collections
import time

import peers # first: it finds tests/lib
import labs
from suite import check, main, test

CLIENT, SERVER, HOLE = (["10.244.1.%d" % i, "fd00:10:244::10%d" % i] for i in (1, 2, 3))
NOWHERE = ["203.0.113.7", "2001:db8::7"]
PODS = [peers.pod("client", CLIENT), peers.pod("server", SERVER), peers.pod("hole", HOLE)]
# Service: endpoint, target port.
SERVICES = {"good": (SERVER, 9000), "closed": (SERVER, 9999), "hole": (HOLE, 9000), "nowhere": (NOWHERE, 9000), "empty": (None, 9000),
            "lonely": (SERVER, 9001)}
VIPS = {name: ["10.96.1.%d" % i, "fd00:10:96::10%d" % i] for i, name in enumerate(SERVICES, 1)}


def rules():
    docs = []
    for name, (ips, port) in SERVICES.items():
        docs.append(peers.service(name, VIPS[name], [("tcp", 80, port)]))
        docs += [peers.endpoints(name, [ip], [("tcp", port)]) for ip in ips or []]
    return docs


def prepare(lab):
    lab.serve("server", 9000, 9001)
    # SYNs reach the hole, answers do not leave it.
    for ip in CLIENT:
        lab.ip("hole", "route", "replace", "blackhole", ip)
    # No route at all for one endpoint, although there is a default route.
    for ip in NOWHERE:
        lab.ip("client", "route", "add", "throw", ip)
    lab.sysctl("client", "net.ipv4.tcp_syn_retries=1", "net.ipv4.tcp_fastopen=5", "net.ipv4.tcp_congestion_control=reno")
    lab.mesh()
    lab.apply(texts=[peers.text(rules())])


def settled(lab):
    """All flows, once the last FIN was answered: bounded, ends with the condition."""
    deadline = time.monotonic() + 10
    while True:
        flows = lab.flows()
        if all(f["closed"] for f in flows) or time.monotonic() > deadline:
            return flows
        time.sleep(0.05)


@test
def failed_connects_leave_a_record_each():
    with peers.PeerLab(PODS) as lab:
        prepare(lab)
        seen = collections.Counter()
        for six in (0, 1, 0):
            expect_all(lab, seen, six)
        flows = settled(lab)
        got = collections.Counter((f["dialled"]["service"], f["state"], f["reason"]) for f in flows)
        check(got == seen, f"records: {dict(got)}, expected: {dict(seen)}")
        still = [f for f in flows if not f["closed"]]
        check(not still and not lab.dump("mesh_flows"), f"open flows left: {still[:2]}")
        check(all(f["client"]["pod"] == "client" and f["bytes_sent"] == 0 for f in flows if f["state"] == "failed"),
              "failed flows name their client and carry nothing")


def expect_all(lab, seen, six):
    """At the links there is a record of what a packet was sent for: a connect that fails within the client's kernel leaves none, one
    that nobody answers has its record when the connection's time is over, after more than two minutes."""
    def one(kind, service, errno, state, reason):
        got = lab.fail("client", kind, peers.target(VIPS[service][six], 80))
        check(got == errno, f"{kind} to {service}: {got}, expected {errno}")
        seen[(service, state, reason)] += 1

    one("connect", "good", "0", "closed", "closed")
    one("connect", "closed", "ECONNREFUSED", "failed", "refused")
    one("connect", "empty", "ECONNREFUSED", "failed", "no_endpoint")
    if labs.TC_ONLY:
        return
    one("connect", "hole", "ETIMEDOUT", "failed", "timed_out")
    one("connect", "nowhere", "ENETUNREACH", "failed", "not_sent")
    one("close", "hole", "EINPROGRESS", "failed", "aborted")
    one("deferred", "good", "0", "failed", "not_sent")
    # One local port, which a connection to the only endpoint holds: the next finds none.
    lab.sysctl("client", "net.ipv4.ip_local_port_range=50000 50000")
    holder = lab.spawn(lab.in_pod("client", peers.PEER, "fail", "hold", peers.target(VIPS["lonely"][six], 80)))
    check(holder.stdout.readline() == "0\n", "the holder of the port did not connect")
    one("connect", "lonely", "EADDRNOTAVAIL", "failed", "not_sent")
    holder.communicate()
    seen[("lonely", "closed", "closed")] += 1
    lab.sysctl("client", "net.ipv4.ip_local_port_range=32768 60999")


main()
