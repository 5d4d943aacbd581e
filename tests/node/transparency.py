#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Cases of the socket interface (tests/transparency), run between two pods without a mesh and under it in each mode: what every call
returns is the same. `transparency.py WORD...` runs the cases whose name contains a word; TULLE_TEST_MODES=off,auto,on the modes."""
import functools
import os
import re
import sys

import accel # first: it finds tests/lib
import labs
from suite import check, main, test

PROGRAM = os.path.join(labs.BUILD, "tests", "transparency", "transparency")
WORDS = sys.argv[1:]


@functools.cache
def variants():
    """CASE/FAMILY/cold|warm, by case, of those that this run is for."""
    found = {}
    for variant in labs.run(PROGRAM, "list").split() if os.access(PROGRAM, os.X_OK) else []:
        case = variant.split("/")[0]
        if not WORDS or any(word in case for word in WORDS):
            found.setdefault(case, []).append(variant)
    return found


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
            return parse(node.run("client", PROGRAM, "run", meet, *accel.IPS["client"], *to, *variants(), timeout=600))
    except Exception as e: # pylint: disable=broad-except
        return e


def said(mode):
    if isinstance(ran(mode), Exception):
        raise ran(mode)
    return ran(mode)


def add(mode, case):
    def compare():
        plain, under, lines = said("plain"), said(mode), []
        for variant in variants()[case]:
            if plain[variant] != under[variant]:
                lines += [variant, *(f"    plain: {line}" for line in plain[variant]),
                          *(f"    {mode}: {line}" for line in under[variant])]
        check(not lines, "\n".join(["differs", *lines]))

    compare.__name__ = f"{mode}_{case}"
    test(compare)


@test
def the_cases_are_there():
    check(WORDS or len(variants()) >= 120, f"{len(variants())} cases")
    # Where nothing is the matter with the cases themselves, both sides got to the end.
    for variant, lines in said("plain").items():
        bad = [line for line in lines if re.match(r"NOT: |ended by|the other side is gone|not acknowledged|no such event", line)]
        check(not bad, f"without a mesh, {variant}: {bad}")


for each_mode in accel.modes():
    if each_mode != "plain":
        for each_case in variants():
            add(each_mode, each_case)
sys.argv[1:] = []
main()
