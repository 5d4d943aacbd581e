#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Rule sets flipped under load. tests/node/flips.c does it through user/plane, thousands of services at once; here it is started
with numbers that fit a CI run (FLIPS=full: the numbers of the acceptance test), and the same is done through meshctl apply."""
import os
import signal

import peers # first: it finds tests/lib
import labs
from suite import check, main, test

FULL = os.environ.get("FLIPS") == "full"
NUMBERS = {"--services": 10000, "--flips": 1000, "--clients": 8} if FULL else {"--services": 1000, "--flips": 100, "--clients": 8}
VIPS = ["10.96.0.100", "fd00:10:96::100"]
TARGETS = [peers.target(ip, port) for ip in VIPS for port in (80, 81)]


@test
def flips_through_the_plane():
    options = [str(word) for pair in NUMBERS.items() for word in pair] + ["--path", "tc" if labs.TC_ONLY else "sockets"]
    for family in ("4", "6"):
        out = labs.run(os.path.join(peers.PROGRAMS, "flips"), *options, "--family", family, ok=None, timeout=3000 if FULL else 300)
        lines = out.splitlines() or ["nothing printed"]
        print("\n".join(lines[:-1]))
        check(" 0 failed" in lines[-1], f"a law was broken over IPv{family}, see above: {lines[-1]}")


def addresses(i):
    return [f"10.244.1.{i}", f"fd00:10:244::10{i}"]


def rule_set(pods, port):
    ports = [("a", port), ("b", port + 1)]
    return [peers.service("shop", VIPS, [("a", 80, port), ("b", 81, port + 1)]),
            *(peers.endpoints("shop", [addresses(i)[six] for i in pods], ports) for six in (0, 1))]


@test
def flips_through_meshctl():
    pods = [peers.pod(name, addresses(i)) for i, name in enumerate(("client", "a1", "b1", "b2"), 1)]
    with peers.PeerLab(pods) as lab:
        lab.serve("a1", 7001, 7002)
        for name in ("b1", "b2"):
            lab.serve(name, 7101, 7102)
        lab.mesh()
        files = [lab.file(peers.text(rule_set(which, port))) for which, port in (([2], 7001), ([3, 4], 7101))]
        lab.apply(files[0])
        loads = [lab.spawn(lab.in_pod("client", peers.PEER, "load", *TARGETS)) for _ in range(2)]
        for i in range(20):
            lab.apply(files[(i + 1) % 2])
            # Between applies the answer is the applied set's, whole.
            seen = lab.load("client", TARGETS, "--count", "80")
            want = {"a1 7001", "a1 7002"} if i % 2 else {"b1 7101", "b1 7102", "b2 7101", "b2 7102"}
            check(not seen["failures"] and set(seen["answers"]) <= want, f"after apply {i}: {seen}")
        for child in loads:
            child.send_signal(signal.SIGTERM)
            out = child.communicate()[0]
            check('"failures":0,"foreign":0' in out, out)


# A connection to each ADDRESS; each line on standard input is sent on all, and their answers are printed.
HOLD = r"""
import socket, sys
held = [socket.create_connection((a, 80)) for a in sys.argv[1:]]
for line in sys.stdin:
    for s in held:
        s.sendall(line.encode())
        print(s.makefile().readline().strip(), flush=True)
"""


@test
def a_drained_endpoint_keeps_what_it_has_and_gets_nothing_new():
    pods = [peers.pod(name, addresses(i)) for i, name in enumerate(("client", "a1", "b1"), 1)]
    with peers.PeerLab(pods) as lab:
        lab.serve("a1", 7001, 7002)
        lab.serve("b1", 7001, 7002)
        lab.mesh()
        files = [lab.file(peers.text(rule_set(which, 7001))) for which in ([2], [2, 3], [3])]
        lab.apply(files[0])
        held = lab.spawn(lab.in_pod("client", "python3", "-c", HOLD, *VIPS))

        def answers():
            held.stdin.write("who\n")
            held.stdin.flush()
            return [held.stdout.readline().split()[0] for _ in VIPS]

        check(answers() == ["a1", "a1"], "the only endpoint answers")
        for file, new in ((files[1], {"a1 7001", "b1 7001"}), (files[2], {"b1 7001"})):
            lab.apply(file)
            seen = lab.load("client", TARGETS[::2], "--count", "200")
            check(set(seen["answers"]) == new and not seen["failures"], f"new ones go where the rules say: {seen}")
            check(answers() == ["a1", "a1"], "the held ones stay where they are")
        held.communicate()


main()
