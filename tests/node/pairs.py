# SPDX-License-Identifier: BSD-2-Clause
"""Connections of tests/node/pair.c, whose ends never sleep in a call on a socket, so that they are accelerated where anything is."""
import os
import select

import accel
import peers
from suite import check

PAIR = os.path.join(peers.PROGRAMS, "pair")
PORT = 9000
MESSAGE, WARM = 64, 400 # bytes; messages after which a connection is redirected, if ever
SECONDS = 10


def answer(child, seconds=SECONDS):
    """The next line, or None when there is none for so long."""
    return child.stdout.readline().strip() if select.select([child.stdout], [], [], seconds)[0] else None


def order(child, text, seconds=SECONDS):
    child.stdin.write(f"{text}\n")
    child.stdin.flush()
    return answer(child, seconds)


def exchange(child, what, nr=WARM):
    check(order(child, nr) == "ok", f"{what}: its own answers")


def serve(node, port=PORT):
    server = node.spawn(node.in_pod("server", PAIR, "serve", port))
    check(answer(server) == "ready", "no server")
    return server


def hold(node, pod, *source, six=False, port=PORT):
    child = node.spawn(node.in_pod(pod, PAIR, "hold", peers.target(node.to("server", six), port), *source))
    check(answer(child), f"{pod} does not connect")
    return child


def check_moved(node, what):
    """That flows of the server are redirected where they are to be."""
    if node.mode != "off":
        check(accel.redirected(node.flows_to("server")) > 0, f"{what}: nothing is redirected")
