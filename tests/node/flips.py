#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Rule sets flipped under load. tests/node/flips.c does it through user/plane, thousands of services at once; here it is started
with numbers that fit a CI run (FLIPS=full: the numbers of the acceptance test), and the same is done through meshctl apply."""
import os
import signal

import peers # first: it finds tests/lib
import labs
from suite import Skip, check, main, test

FULL = os.environ.get("FLIPS") == "full"
NUMBERS = {"--services": 10000, "--flips": 1000, "--clients": 8} if FULL else {"--services": 1000, "--flips": 100, "--clients": 8}


@test
def flips_through_the_plane():
    if labs.TC_ONLY:
        raise Skip("it attaches the programs at the sockets itself")
    options = [str(word) for pair in NUMBERS.items() for word in pair]
    out = labs.run(os.path.join(peers.PROGRAMS, "flips"), *options, ok=None, timeout=3000 if FULL else 300)
    lines = out.splitlines() or ["nothing printed"]
    print("\n".join(lines[:-1]))
    check(" 0 failed" in lines[-1], f"a law was broken, see above: {lines[-1]}")


def rule_set(ips, port):
    return [peers.service("shop", ["10.96.0.100"], [("a", 80, port), ("b", 81, port + 1)]),
            peers.endpoints("shop", ips, [("a", port), ("b", port + 1)])]


@test
def flips_through_meshctl():
    pods = [peers.pod("client", ["10.244.1.1"]), peers.pod("a1", ["10.244.1.2"]), peers.pod("b1", ["10.244.1.3"]),
            peers.pod("b2", ["10.244.1.4"])]
    with peers.PeerLab(pods) as lab:
        lab.serve("a1", 7001, 7002)
        for name in ("b1", "b2"):
            lab.serve(name, 7101, 7102)
        lab.mesh()
        files = [lab.file(peers.text(rule_set(ips, port))) for ips, port in
                 ((["10.244.1.2"], 7001), (["10.244.1.3", "10.244.1.4"], 7101))]
        lab.apply(files[0])
        loads = [lab.spawn(lab.in_pod("client", peers.PEER, "load", "10.96.0.100:80", "10.96.0.100:81")) for _ in range(2)]
        for i in range(20):
            lab.apply(files[(i + 1) % 2])
            # Between applies the answer is the applied set's, whole.
            seen = lab.load("client", ["10.96.0.100:80", "10.96.0.100:81"], "--count", "40")
            want = {"a1 7001", "a1 7002"} if i % 2 else {"b1 7101", "b1 7102", "b2 7101", "b2 7102"}
            check(not seen["failures"] and set(seen["answers"]) <= want, f"after apply {i}: {seen}")
        for child in loads:
            child.send_signal(signal.SIGTERM)
            out = child.communicate()[0]
            check('"failures":0,"foreign":0' in out, out)


main()
