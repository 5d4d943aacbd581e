#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Attacks on what is moved from socket to socket, made for real, which get nothing: a network namespace that calls itself by the
addresses of others, ports that are used again while their old sockets are kept, a reader that stalls in a page fault. (Lies about
neighbours are in spoof.py.)"""
import json

import accel # first: it finds tests/lib
import pairs
import peers
from suite import check, main, test



def source_port(six, first):
    """One for each, so that a connection is not the successor of another."""
    return 40000 + 2 * six + first


def impostor(node, six, port):
    """A server and a client in a namespace that a process of the client's pod without any right has made, and that has the addresses of
    both pods. They talk to each other, by the tuple of the real ones."""
    client, server = accel.IPS["client"][six], accel.IPS["server"][six]
    rest = "/128 dev lo nodad" if six else "/32 dev lo" # an address that is still being looked at cannot be bound
    script = (f"ip link set lo up && ip addr add {client}{rest} && ip addr add {server}{rest} || exit 1; "
              f"{pairs.PAIR} serve {pairs.PORT} </dev/null >/dev/null & "
              f"until [ -n \"$(ss -Hltn 'sport = :{pairs.PORT}')\" ]; do sleep 0.02; done; "
              f"read line; exec {pairs.PAIR} hold {peers.target(server, pairs.PORT)} {peers.target(client, port)}")
    child = node.spawn(node.in_pod("client", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
                                   "unshare", "-Urn", "--kill-child", "sh", "-c", script))
    check(pairs.order(child, "go"), "the impostor talks to itself")
    pairs.exchange(child, "impostor")
    return child


def has_no_share(node, six, impostor_first):
    what = f"{node.mode}, IPv{6 if six else 4}, impostor {'first' if impostor_first else 'second'}"
    pairs.serve(node)
    port = source_port(six, impostor_first)
    fake = impostor(node, six, port) if impostor_first else None
    real = pairs.hold(node, "client", peers.target(accel.IPS["client"][six], port), six=six)
    pairs.exchange(real, what)
    fake = fake or impostor(node, six, port)
    for _ in range(5):
        pairs.exchange(fake, what)
        pairs.exchange(real, what)
    flows = node.flows_to("server")
    check(len(flows) == 1 and accel.carried(flows) == 6 * pairs.WARM * pairs.MESSAGE * 2, f"{what}: what the real ones said is all: {flows}")
    pairs.check_moved(node, what)
    for child in (real, fake):
        _, errors = child.communicate(timeout=pairs.SECONDS)
        check(child.returncode == 0, f"{what}: {errors}")


@test
def an_impostor_namespace_hears_nothing():
    for mode in accel.mesh_modes():
        for six in (False, True):
            for first in (False, True):
                with accel.shared(mode) as node:
                    has_no_share(node, six, first)


@test
def an_old_socket_of_a_port_used_again_reads_nothing():
    rounds = 200 if accel.LONG else 20
    for mode in accel.mesh_modes():
        for six in (False, True):
            with accel.shared(mode) as node:
                pairs.serve(node)
                out = json.loads(node.run("client", pairs.PAIR, "reuse", rounds, peers.target(node.to("server", six), pairs.PORT)))
                check(out == {"rounds": rounds, "stolen": 0}, f"{mode}: {out}")
                pairs.check_moved(node, mode)


@test
def a_stalled_reader_stops_no_writer():
    """Its recv() sleeps in a page fault, with the socket's lock; who writes to it, of the same namespace or of another, must not wait."""
    for mode in accel.mesh_modes():
        for pod in ("client", "stranger"):
            with accel.shared(mode) as node:
                server = pairs.serve(node)
                writer = pairs.hold(node, pod)
                pairs.exchange(writer, pod)
                check(pairs.order(writer, "stall") == "ok" and pairs.answer(server) == "stalled", "the reader does not stall")
                check(pairs.order(writer, "push 20") == "ok", f"{mode}, {pod}: the writer waits for a reader that stalls")
                server.stdin.write("go\n")
                server.stdin.flush()
                check(pairs.order(writer, "collect") == "ok", f"{mode}, {pod}: answers after the stall")
                pairs.exchange(writer, pod)
                if mode == "auto" and pod == "stranger":
                    accel.check_not_redirected(node.flows_to("server"), "across namespaces")
                else:
                    pairs.check_moved(node, f"{mode}, {pod}")


with accel.NODES:
    main()
