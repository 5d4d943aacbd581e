# SPDX-License-Identifier: BSD-2-Clause
"""The stages of tools/test, each a program that prints a closing line, with the time it may take on two CPUs."""
import os
import subprocess
import sys
import time

import labs
import runner

BUILD = "build"
SAN = ["O=build/san", "SANITIZE=address,undefined"]
TOTAL_SECONDS = 30 * 60

# name, command, seconds. `make` prints what it builds only when that fails or takes long, so its output is shown as it is.
STAGES = [
    ("unit", ["make", "-j2", "test"], 300),
    ("cli", ["tests/cli/run", BUILD], 300),
    ("l7", ["tests/run-l7", BUILD], 120),
    ("schemas", ["tests/run-schemas", BUILD], 120),
    ("rows", ["tests/run-rows"], 60),
    ("node", ["tests/run-node", BUILD], 1700),
    ("packets", [f"{BUILD}/tests/packets/packets"], 120),
    ("sanitizers", ["make", "-j2", *SAN, "test"], 600),
    ("fuzz", ["tests/fuzz/run", "--short"], 420),
    ("check", ["make", "check"], 300),
]
# On request only: the part of `unit` that is data.
EXTRA = [("cases", ["tests/run-cases", BUILD], 120)]


def build():
    begin = time.monotonic()
    done = subprocess.run(["make", "-j2", "all", "testbins"], check=False, timeout=600)
    print(f"build: {'failed' if done.returncode else 'done'} ({time.monotonic() - begin:.1f} s)", flush=True)
    return done.returncode == 0


def main():
    known = {name: (name, command, seconds) for name, command, seconds in STAGES + EXTRA}
    unknown = [word for word in sys.argv[1:] if word not in known]
    if unknown:
        print(f"unknown stage {unknown[0]}; there are: {' '.join(known)}", file=sys.stderr)
        return 2
    chosen = [known[word] for word in sys.argv[1:]] or STAGES
    runner.on_signals()
    os.environ["TULLE_BUILD"] = os.path.abspath(BUILD)
    totals = runner.Totals()
    deadline = time.monotonic() + TOTAL_SECONDS
    try:
        if not build():
            totals.failed += 1
            chosen = []
        for name, command, seconds in chosen:
            print(f"\n== {name}: {' '.join(command)}", flush=True)
            one = runner.run(name, command, max(1, min(seconds, deadline - time.monotonic())))
            totals.add(one.passed, one.failed, one.skipped)
    finally:
        if not os.geteuid():
            labs.remove_stale()
    print(f"\n{totals}", flush=True)
    return 1 if totals.failed else 0


sys.exit(main())
