#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A thousand flows of known random sizes both ways, over IPv4 and IPv6, some shut down in one direction: what the mesh counted is
what was sent, to the byte, while the flows run and after they closed by FIN of either side or by a reset; and `meshctl flows`
agrees with `bpftool map dump`."""
import ipaddress
import json
import os
import socket
import time

import peers # first: it finds tests/lib
import labs
from suite import check, main, test

FLOWS = 300 if labs.SHORT else 1000
SEED = 20260801
XFER = os.path.join(peers.PROGRAMS, "xfer")
PODS = [peers.pod("client", ["10.244.1.1", "fd00:10:244::101"]), peers.pod("srv1", ["10.244.1.2", "fd00:10:244::102"]),
        peers.pod("srv2", ["10.244.1.3", "fd00:10:244::103"])]
VIPS = ["10.96.0.100", "fd00:10:96::100"]
RULES = [peers.service("bulk", VIPS, [("tcp", 80, 9000)]),
         peers.endpoints("bulk", ["10.244.1.2", "10.244.1.3"], [("tcp", 9000)]),
         peers.endpoints("bulk", ["fd00:10:244::102", "fd00:10:244::103"], [("tcp", 9000)])]


def ip_text(addr):
    """struct mesh_addr as bpftool prints it."""
    words = b"".join(int(w).to_bytes(4, "little") for w in addr["w_be"])
    ip = ipaddress.IPv6Address(words)
    return str(ip.ipv4_mapped or ip)


def live(lab):
    """Open flows as bpftool prints them: of sockets, or of the connections that the links track."""
    if not labs.TC_ONLY:
        return lab.dump("mesh_flows")
    return [row["conn"]["flow"] for row in lab.dump("mesh_conns")]


def from_map(record):
    return ((ip_text(record["client"]), socket.ntohs(record["client_port_be"])),
            (record["bytes_sent"], record["bytes_received"]))


def from_json(flow):
    return ((flow["client"]["ip"], flow["client"]["port"]), (flow["bytes_sent"], flow["bytes_received"]))


def compare(what, wanted, got):
    missing = [k for k in wanted if k not in got]
    check(not missing, f"{what}: {len(missing)} flows have no record, first: {missing[:3]}")
    wrong = [(k, wanted[k], got[k]) for k in wanted if wanted[k][0] != got[k]]
    check(not wrong, f"{what}: {len(wrong)} of {len(wanted)} differ (flow, (wanted, end), got), first: {wrong[:3]}")


def start(lab):
    """Everything up; the flows open, all their bytes sent, read and acknowledged. The client and what is to be counted."""
    plan = os.path.join(lab.folder.name, "plan")
    for name in ("srv1", "srv2"):
        child = lab.spawn(lab.in_pod(name, XFER, "serve", plan, 9000))
        check(child.stdout.readline() == "ready\n", f"no server in {name}")
    lab.mesh()
    lab.apply(texts=[peers.text(RULES)])
    client = lab.spawn(lab.in_pod("client", XFER, "run", plan, FLOWS, SEED, *(peers.target(ip, 80) for ip in VIPS)))
    wanted = {}
    for line in client.stdout:
        if line == "open\n":
            break
        flow = json.loads(line)
        wanted[(flow["ip"], flow["port"])] = ((flow["sent"], flow["received"]), flow["how"])
    check(len(wanted) == FLOWS, f"the client opened {len(wanted)} flows")
    return client, wanted


def wait_no_open(lab):
    """The last FIN of a flow is answered by the other side; bounded, ends with the condition."""
    deadline = time.monotonic() + 20
    while True:
        flows = lab.flows()
        left = [f for f in flows if not f["closed"]]
        if not left or time.monotonic() > deadline:
            check(not left, f"{len(left)} flows are still open, first: {left[:1]}")
            return flows
        time.sleep(0.05)


def wait_counted(lab, wanted):
    """Links count what was acknowledged, and a last acknowledgement may be held back; bounded, ends with the condition."""
    deadline = time.monotonic() + 20
    while True:
        flows = lab.flows()
        got = dict(from_json(f) for f in flows if not f["closed"])
        if all(got.get(key) == count for key, (count, _) in wanted.items()) or time.monotonic() > deadline:
            return flows
        time.sleep(0.05)


@test
def counters_equal_bytes():
    with peers.PeerLab(PODS) as lab:
        client, wanted = start(lab)
        flows = wait_counted(lab, wanted)
        compare("running, meshctl flows", wanted, dict(from_json(f) for f in flows if not f["closed"]))
        compare("running, bpftool", wanted, dict(from_map(r) for r in live(lab)))
        states = {f["state"] for f in flows if wanted[from_json(f)[0]][1] != "half"}
        check(states == {"established"}, f"states of open flows: {states}")
        check(all(f["dialled"]["ip"] in VIPS and f["server"]["pod"] in ("srv1", "srv2") for f in flows), "who talks to whom")
        client.stdin.write("close\n")
        client.stdin.flush()
        check(client.stdout.readline() == "closed\n", "the client did not close its flows")
        flows = wait_no_open(lab)
        compare("closed, meshctl flows", wanted, dict(from_json(f) for f in flows))
        compare("closed, bpftool", wanted, dict(from_map(r) for r in lab.dump("mesh_closed") if r["seq"]))
        check(not lab.dump("mesh_flows"), "mesh_flows is not empty")
        # A connection at the links is kept for a moment after its end, and is no open flow then.
        check(all(r["closed_ns"] for r in live(lab)), "an open flow is left")


main()
