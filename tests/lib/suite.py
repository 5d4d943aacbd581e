# SPDX-License-Identifier: BSD-2-Clause
"""A node test script is functions with @test and, last, `main()`. An assertion that does not hold fails the test and the next one
runs; Skip skips it with a reason. `SCRIPT [NAME...]` runs the tests whose name contains one of the words. Prints a line for
each, and the closing line that tests/run-node adds up."""
import sys
import time
import traceback

import runner

TESTS = []


class Skip(Exception):
    pass


def test(fn):
    TESTS.append(fn)
    return fn


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def main():
    runner.on_signals()
    totals = runner.Totals()
    for fn in TESTS:
        if len(sys.argv) > 1 and not any(word in fn.__name__ for word in sys.argv[1:]):
            continue
        begin = time.monotonic()
        try:
            fn()
            totals.passed += 1
            verdict = "pass"
        except Skip as e:
            totals.skipped += 1
            verdict = f"skip: {e}"
        except Exception as e: # pylint: disable=broad-except
            totals.failed += 1
            verdict = f"FAIL: {type(e).__name__}: {e}"
            if not isinstance(e, AssertionError):
                traceback.print_exc()
        print(f"{fn.__name__} {verdict} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(totals, flush=True)
    sys.exit(1 if totals.failed else 0)
