#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Streams of which every byte is checked, between ends of each way of reading, without a mesh and under it; and readers that fall
asleep: what is then taken from their writers, and what that costs the system.

TULLE_TEST_SOAK=100000000000 moves so many bytes for readers that poll, instead of some, and with `on` among TULLE_TEST_MODES a twentieth of
it for each other kind that is accelerated then: until the way has been changed as often as is to be shown."""
import json
import os
import re
import statistics

import accel # first: it finds tests/lib
import peers
from suite import check, main, test

SOAK = os.path.join(peers.PROGRAMS, "soak")
SLEEPERS = os.path.join(peers.PROGRAMS, "sleepers")
BYTES = int(os.environ.get("TULLE_TEST_SOAK", 100_000_000))
OTHERS_BYTES = max(BYTES // 20, 50_000_000)
SEED = int(os.environ.get("SEED", 20261130))
CONNECTIONS = 4
HELLO = 24
# Those that auto leaves to TCP from the first byte to the last; `on` does not, and is known to differ for them.
LEFT_ALONE = ("block", "waitall", "urgent", "threads", "signals")
# A low-water mark of one byte, which some of its messages leave, means nothing: these may be redirected.
OTHERS = ("lowat", )
# Their bytes arrive in `on` too, if not as many a call, or without being woken for none.
PAST = ("block", "waitall", "signals")
PORT = 9000


def switches(node):
    """How often a direction went past TCP and by TCP again."""
    counters = node.status()["plane"]["counters"]
    return counters.get("redirect", {}).get("switched", 0) // 2


def soak(kind):
    nr = BYTES if kind == "poll" else OTHERS_BYTES
    for mode in accel.modes():
        if mode == "on" and kind not in ("poll", *PAST):
            continue
        with accel.shared(mode) as node:
            node.start("server", PORT, SOAK, "serve", PORT)
            targets = [peers.target(node.to("server", six), PORT) for six in (False, True)]
            before = 0 if mode == "plain" else switches(node)
            out = json.loads(node.run("client", SOAK, "past" if mode == "on" else "run", kind, CONNECTIONS, nr, SEED, *targets, timeout=3600))
            check(out["bytes"] >= nr and (kind != "urgent" or out["urgent"]), f"{mode}, {kind}: {out}")
            check(out["early"] <= out["messages"] // 100, f"{mode}, {kind}: too little was read for a low-water mark: {out}")
            flows = node.flows_to("server")
            print(f"{kind}, {mode}: {out['bytes']} bytes, {accel.redirected(flows)} redirected, {out['seconds']} s")
            if mode == "plain":
                continue
            counters = node.status()["plane"]["counters"]
            print(f"  {switches(node) - before} switches each way; so far: {counters.get('redirect', {})} {counters.get('ends', {})}")
            check(not counters.get("ends", {}).get("conn_limit"), f"{mode}, {kind}: there was no room for some: {counters['ends']}")
            if kind != "urgent": # whether urgent bytes are counted is no matter here
                check(accel.carried(flows) == out["bytes"] + out["connections"] * HELLO, f"{mode}, {kind}: {accel.carried(flows)} were counted of {out}")
            if mode == "off" or (mode == "auto" and kind in LEFT_ALONE):
                accel.check_not_redirected(flows, f"{mode}, {kind}")
            elif kind == "poll" or mode == "on":
                check(switches(node) - before >= nr // (1_000_000 if kind == "poll" else 5_000_000), f"{mode}, {kind}: {counters}")
                check(accel.redirected(flows) > 0, f"{mode}, {kind}: nothing was redirected")


def add(kind):
    def fn():
        soak(kind)
    fn.__name__ = f"each_byte_arrives_for_{kind}"
    test(fn)


for each in ("poll", *OTHERS, *LEFT_ALONE):
    add(each)


def memory():
    """Bytes: available to the system, in slabs that cannot be given back, and of TCP by its own account."""
    with open("/proc/meminfo", encoding="ascii") as f:
        info = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in f}
    with open("/proc/net/sockstat", encoding="ascii") as f:
        pages = int(re.search(r"TCP: .* mem (\d+)", f.read())[1])
    return {"system": -info["MemAvailable"], "slab": info["SUnreclaim"], "tcp": pages * os.sysconf("SC_PAGE_SIZE")}


class Sleepers:
    """So many connections to a reader that is asleep."""

    def __init__(self, node, nr, size):
        self.server = node.spawn(node.in_pod("server", SLEEPERS, "serve", PORT))
        check(self.server.stdout.readline() == "ready\n", "no server")
        self.client = node.spawn(node.in_pod("client", SLEEPERS, "fill", nr, size, peers.target(node.to("server"), PORT)))
        check(self.client.stdout.readline() == "warm\n", "requests were not answered")
        self.before = memory()
        self.tell(self.client)
        self.taken = json.loads(self.client.stdout.readline())
        self.held = {what: after - self.before[what] for what, after in memory().items()}

    @staticmethod
    def tell(child):
        child.stdin.write("go\n")
        child.stdin.flush()

    def wake(self):
        """All that was taken arrives, and is what was sent."""
        self.tell(self.client)
        self.tell(self.server)
        out, _ = self.server.communicate(timeout=120)
        check(out.strip() == str(self.taken["accepted"]), f"{out!r} of {self.taken} arrived")
        check(self.client.wait(30) == 0, "the client failed")


def held(node, nr, size, rounds):
    """What a connection to a sleeping reader holds, by how it is measured, and how much one took: of each the median and the least."""
    seen = []
    for _ in range(rounds):
        sleepers = Sleepers(node, nr, size)
        seen.append({what: n / nr for what, n in sleepers.held.items()} | {"took": sleepers.taken["most"]})
        sleepers.wake()
        node.end_servers()
    return [{what: of(s[what] for s in seen) for what in seen[0]} for of in (statistics.median, min)]


@test
def sleeping_readers_hold_little():
    """As much as the same readers hold without a mesh, twice at most, and 8 MB at most. Other programs' memory comes and goes while this is
    measured: so it is many connections, and what they hold at least in all of some rounds is held against the median without a mesh. What is
    in slabs stands beside what the system lacks."""
    nr, rounds = (64, 7) if accel.LONG else (24, 3)
    for size in (64, 65536):
        seen = {}
        for mode in accel.modes():
            with accel.shared(mode) as node:
                seen[mode] = held(node, nr, size, rounds)
                print(f"messages of {size}, {mode}: a pair holds " + ", ".join(f"{k} {v / 1e6:.2f} MB" for k, v in seen[mode][0].items()))
        for mode in list(seen)[1:]:
            for what in ("system", "slab"):
                plain, least = seen["plain"][0][what], seen[mode][1][what]
                check(least <= min(max(2 * plain, plain + 1e6), 8e6), f"{size}, {mode}, {what}: {seen[mode]} against {seen['plain']}")


@test
def two_hundred_sleepers_keep_to_the_budget_of_their_pod():
    accel.need_auto()
    budget = 4 << 20
    with accel.Node("auto", "--accelerate-pod-bytes", str(budget)) as node:
        sleepers = Sleepers(node, 200, 4096)
        flows = node.flows_to("server")
        warm = 200 * 300 * 64 * 2
        check(accel.redirected(flows) > 0, "nothing was redirected")
        check(accel.redirected(flows) - warm <= budget, f"{accel.redirected(flows) - warm} bytes wait past TCP, {budget} may")
        sleepers.wake()


with accel.NODES:
    main()
