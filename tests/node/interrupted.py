#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What moves bytes needs no daemon: meshd is killed, started again, and taken away with all it made, in the middle of traffic whose every
byte is checked. And what the node's firewall forbids stays forbidden, whatever moves the bytes; what it allows is never invalid to it."""
import json
import os
import re
import time

import accel # first: it finds tests/lib
import pairs
import peers
from suite import check, main, test

SOAK = os.path.join(peers.PROGRAMS, "soak")
BYTES = 5_000_000_000 if accel.LONG else 500_000_000
KILLS = 50 if accel.LONG else 4


def again(node):
    node.mesh(*accel.accelerate(node.mode), *node.options)
    accel.await_self_test(node, node.mode)


def serve_soak(node):
    node.start("server", pairs.PORT, SOAK, "serve", pairs.PORT)


def start_soak(node, size=BYTES, to=None):
    targets = [peers.target(ip, pairs.PORT) for ip in to or [node.to("server", six) for six in (False, True)]]
    return node.spawn(node.in_pod("client", SOAK, "run", "poll", 4, size, 7, *targets))


def end_soak(child, what):
    out, _ = child.communicate(timeout=600)
    check(child.returncode == 0 and json.loads(out)["bytes"] >= BYTES, f"{what}: every byte arrives: {out}")


@test
def no_byte_is_lost_when_meshd_is_killed():
    for mode in accel.mesh_modes():
        with accel.Node(mode) as node:
            serve_soak(node)
            child = start_soak(node)
            for _ in range(KILLS):
                if child.poll() is not None:
                    end_soak(child, mode)
                    child = start_soak(node)
                node.kill_mesh()
                again(node)
            end_soak(child, mode)
            pairs.check_moved(node, mode)
            print(f"{mode}: {accel.redirected(node.flows_to('server'))} of "
                  f"{accel.carried(node.flows_to('server'))} bytes redirected")


def wait_counted(node, wanted, what):
    """The flows of the server when all is counted: TCP holds an acknowledgement back for a moment. Bounded, ends with the condition."""
    deadline = time.monotonic() + 10
    while True:
        flows = node.flows_to("server")
        if accel.carried(flows) == wanted:
            return flows
        check(time.monotonic() < deadline, f"{what}: {accel.carried(flows)} bytes were counted of {wanted}: {flows}")
        time.sleep(0.02)


@test
def flows_go_on_without_meshd_and_are_adopted():
    for mode in accel.mesh_modes():
        with accel.Node(mode) as node:
            pairs.serve(node)
            held = [pairs.hold(node, "client", six=six) for six in (False, True)]
            seen = []
            for step in ("before", "killed", "adopted"):
                if step == "killed":
                    node.kill_mesh()
                for child in held:
                    pairs.exchange(child, f"{mode}, {step}", 2000)
                if step == "killed":
                    again(node)
                seen.append(wait_counted(node, (len(seen) + 1) * 2 * 2 * 2000 * pairs.MESSAGE, f"{mode}, {step}"))
            if mode != "off":
                for earlier, later in zip(seen, seen[1:]):
                    gain = accel.redirected(later) - accel.redirected(earlier)
                    check(gain >= 0.9 * 2 * 2 * 2000 * pairs.MESSAGE, f"{mode}: {gain} bytes were redirected of a step's")


@test
def no_byte_is_lost_when_the_mesh_is_taken_away():
    for mode in accel.mesh_modes():
        with accel.Node(mode) as node:
            serve_soak(node)
            child = start_soak(node, 4 * BYTES, accel.IPS["server"]) # which is there without a mesh
            node.tool("unmesh", "--unload")
            check(child.poll() is None, f"{mode}: it was over before")
            end_soak(child, mode)


FORBIDDEN = 7000
RULES = """table inet t { chain f { type filter hook forward priority 0; ct state invalid counter drop;
 tcp dport %d reject with tcp reset; }; }"""


def invalid(node):
    return int(re.search(r"invalid counter packets (\d+)", node.run("@node", "nft", "list", "table", "inet", "t"))[1])


class Firewalled(accel.Node):
    """A node that routes, whose firewall tracks connections and forbids a port."""

    def __init__(self, mode):
        super().__init__(mode, shape="routed")

    def in_pod(self, name, *argv):
        return ["nsenter", f"--net=/proc/{self.record['node_pid']}/ns/net", *argv] if name == "@node" else super().in_pod(name, *argv)

    def __enter__(self):
        super().__enter__()
        self.run("@node", accel.need("nft", "nftables"), RULES % FORBIDDEN)
        # Longer than any test takes, so that entries can be counted.
        self.run("@node", "sysctl", "-qw", *(f"net.netfilter.nf_conntrack_tcp_timeout_{state}=600" for state in (
            "fin_wait", "close_wait", "last_ack", "time_wait", "close")))
        return self


def refused(node):
    to = peers.target(node.to("server"), FORBIDDEN)
    return node.run("client", peers.PEER, "fail", "connect", to, ok=None).strip() == "ECONNREFUSED"


@test
def what_the_firewall_forbids_stays_forbidden():
    for mode in accel.mesh_modes():
        with Firewalled(mode) as node:
            for port in (pairs.PORT, FORBIDDEN):
                pairs.serve(node, port)
            held = [pairs.hold(node, "client", six=six) for six in (False, True)]
            for child in held:
                pairs.exchange(child, mode, 1000)
            check(refused(node), f"{mode}: what is forbidden is open")
            pairs.check_moved(node, mode)
            node.tool("unmesh", "--unload")
            for child in held:
                pairs.exchange(child, f"{mode}, after --unload", 1000)
                child.stdin.close()
                check(child.wait(10) == 0, "the connection ends")
            check(invalid(node) == 0, f"{mode}: {invalid(node)} packets were invalid")


def tracked(mode, connections):
    """Entries of the node's connection tracking after so many connections, and some that talk long enough to be redirected: all, and those
    that have not seen an end."""
    with Firewalled(mode) as node:
        pairs.serve(node)
        held = [pairs.hold(node, "client") for _ in range(10)]
        for child in held:
            pairs.exchange(child, mode)
            child.stdin.close()
            child.wait(10)
        node.serve("server", 8000)
        done = node.load("client", [peers.target(node.to("server"), 8000)], "--count", str(connections))
        check(done["connections"] == connections and not done["failures"], f"{mode}: {done}")
        check(invalid(node) == 0, f"{mode}: {invalid(node)} packets were invalid")
        conntrack = accel.need("conntrack", "conntrack")
        open_still = node.run("@node", conntrack, "-L", "-p", "tcp", "--state", "ESTABLISHED")
        return int(node.run("@node", conntrack, "-C").split()[-1]), len(open_still.splitlines())


@test
def no_more_connections_are_tracked_than_without_a_mesh():
    connections = 10000 if accel.LONG else 1000
    seen = {mode: tracked(mode, connections) for mode in ("plain", *accel.mesh_modes())}
    print(f"entries, and those without an end: {seen}")
    # Ports that the kernel chose twice share an entry: some tens more or less of thousands.
    plain, _ = seen["plain"]
    check(plain >= 0.7 * connections, f"the node's firewall tracks: {seen}")
    check(all(nr <= plain + connections // 50 and not open_still for nr, open_still in seen.values()), f"entries: {seen}")


main()
