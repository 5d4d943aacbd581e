#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Cases of the socket interface (tests/transparency), run between two pods without a mesh and under it in each mode: what every call
returns is the same. `transparency.py WORD...` runs the cases whose name contains a word. With TULLE_TEST_LONG=1, or TULLE_TEST_MODES=off,auto,on,
they also run in `auto` and `on` over connections that are past TCP already, whose program then uses calls that block (warm) or, some in
`auto`, goes on without (events); what is known to differ there is named in known.tsv."""
import functools
import os
import re
import sys

import accel # first: it finds tests/lib
import labs
from suite import check, main, test

PROGRAM = os.path.join(labs.BUILD, "tests", "transparency", "transparency")
KNOWN = os.path.join(labs.REPO, "tests", "transparency", "known.tsv")
WORDS = sys.argv[1:]
# What an event loop may come to do later, or be done to, and says the same each time.
EVENTS = ("recv_", "urgent", "fionread", "send_bad", "send_with_name", "splice_out", "splice_echo", "tee", "epoll_edge", "close_unread", "close_half_read",
          "tcp_info", "tcp_zerocopy_receive", "rcvlowat")
WAITS = ("recv_waitall_end", ) # for an end that may not be there yet
ALL = accel.LONG or bool(os.environ.get("TULLE_TEST_MODES"))
MODES = [m for m in os.environ.get("TULLE_TEST_MODES", "").split(",") if m not in ("", "plain")] or ["off", "auto", *["on"] * accel.LONG]


@functools.cache
def variants():
    """CASE/FAMILY/cold|warm, by case, of those that this run is for."""
    found = {}
    for variant in labs.run(PROGRAM, "list").split() if os.access(PROGRAM, os.X_OK) else []:
        case = variant.split("/")[0]
        if not WORDS or any(word in case for word in WORDS):
            found.setdefault(case, []).append(variant)
    return found


@functools.cache
def known():
    """What differs: text, by (case, where)."""
    with open(KNOWN, encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]
    return {(case, where): text for case, places, text in rows for where in places.split(",")}


def where(mode, variant):
    """The name of a place in known.tsv; None: nothing may differ there."""
    use = variant.rsplit("/", 1)[1]
    return {("auto", "warm"): "auto", ("auto", "events"): "events", ("on", "warm"): "on"}.get((mode, use))


def asked(mode):
    """Variants of a mode: warm connections are past TCP where something is accelerated, and each that hangs there takes its whole time."""
    return [v for case, of_case in variants().items() for v in of_case
            if v.endswith("/cold") or (v.endswith("/warm") and (ALL or mode in ("plain", "off"))) or
            (v.endswith("/v4/events") and ALL and mode in ("plain", "auto") and case.startswith(EVENTS) and case not in WAITS)]


def parse(text):
    """What both sides said, by variant."""
    blocks = (block.partition("\n") for block in re.split(r"^= ", text, flags=re.M)[1:])
    return {name: [line for line in said.splitlines() if not line.startswith("@")] for name, _, said in blocks}


@functools.cache
def ran(mode):
    """What was said in all variants between two pods, or why not; a failure is not tried again for each case."""
    try:
        with accel.Node(mode) as node:
            meet = os.path.join(node.folder.name, "meet")
            server = node.spawn(node.in_pod("server", PROGRAM, "serve", meet, *accel.IPS["server"], *accel.IPS["client"]))
            check(server.stdout.readline() == "ready\n", "the server's half does not run")
            to = [node.to("server"), node.to("server", True)]
            return parse(node.run("client", PROGRAM, "run", meet, *accel.IPS["client"], *to, *asked(mode), timeout=800))
    except Exception as e: # pylint: disable=broad-except
        return e


def said(mode):
    if isinstance(ran(mode), Exception):
        raise ran(mode)
    return ran(mode)


def add(mode, case):
    def compare():
        plain, under, lines = said("plain"), said(mode), []
        for variant in set(variants()[case]) & set(under):
            if plain[variant] != under[variant]:
                if (case, where(mode, variant)) in known():
                    print(f"{mode} {variant} differs as is known: {known()[case, where(mode, variant)]}")
                    continue
                lines += [variant, *(f"    plain: {line}" for line in plain[variant]),
                          *(f"    {mode}: {line}" for line in under[variant])]
        check(not lines, "\n".join(["differs", *lines]))

    compare.__name__ = f"{mode}_{case}"
    test(compare)


@test
def the_cases_are_there():
    check(WORDS or len(variants()) >= 120, f"{len(variants())} cases")
    check(WORDS or {case for case, _ in known()} <= set(variants()), "known.tsv names cases that there are not")
    # Where nothing is the matter with the cases themselves, both sides got to the end.
    for variant, lines in said("plain").items():
        bad = [line for line in lines if re.match(r"NOT: |ended by|the other side is gone|not acknowledged|no such event", line)]
        check(not bad, f"without a mesh, {variant}: {bad}")


for each_mode in MODES:
    for each_case in variants():
        if any(v.startswith(each_case + "/") for v in asked(each_mode)):
            add(each_mode, each_case)
sys.argv[1:] = []
main()
