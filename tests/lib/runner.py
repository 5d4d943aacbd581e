# SPDX-License-Identifier: BSD-2-Clause
"""Runs test programs, shows what they print, and adds their closing lines `N passed, N failed, N skipped`
up. A program that prints none, ends badly, or takes too long counts as one failure more."""
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time

LIBC = ctypes.CDLL(None)
RUNNING = set() # processes of programs that have not ended
CLOSING = re.compile(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$")


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def end_group(process):
    """The program and whatever it left in its process group."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
        except ProcessLookupError:
            return
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            pass


def die_with_parent():
    """So that even a kill -9 of the runner lets a test take down what it made."""
    LIBC.prctl(1, signal.SIGTERM)


def run(name, command, timeout, env=None, quiet=False, label=""):
    """Runs one program; its Totals. Its lines are shown as they come, quiet: only when it fails, but what it skips always; the
    closing one under the program's name."""
    result = Totals()
    begin = time.monotonic()
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   errors="replace", env=env, start_new_session=True, preexec_fn=die_with_parent)
    except OSError as e:
        print(f"FAIL {name}: {e}", flush=True)
        result.failed += 1
        return result
    RUNNING.add(process)
    late = threading.Event()

    def expire():
        late.set()
        end_group(process)

    timer = threading.Timer(timeout, expire)
    timer.start()
    closing, held = None, []
    try:
        for line in process.stdout:
            match = CLOSING.fullmatch(line.strip())
            if match:
                closing = match
                continue
            held.append(line)
            if not quiet or line.startswith("skip"):
                sys.stdout.write(label + line)
                sys.stdout.flush()
        code = process.wait()
    finally:
        timer.cancel()
        end_group(process)
        RUNNING.discard(process)
    if closing:
        result.add(*(int(g or 0) for g in closing.groups()))
    why = None
    if late.is_set():
        why = f"took more than {timeout:.0f} s"
    elif code < 0:
        why = f"killed by signal {-code}"
    elif not closing:
        why = f"ended with {code} and no closing line"
    elif code and not result.failed:
        why = f"ended with {code}"
    if why:
        result.failed += 1
        held.append(f"FAIL {name}: {why}\n")
    if quiet and result.failed:
        sys.stdout.writelines(line for line in held if not line.startswith("skip"))
    elif why:
        print(held[-1], end="")
    print(f"{name}: {result} ({time.monotonic() - begin:.1f} s)", flush=True)
    return result


def run_all(programs, timeout, env=None, after=None, quiet=False):
    """programs: (name, command) pairs. Prints the sum last; the exit code."""
    return run_stages([programs], 1, timeout, env, after, quiet)


def run_stages(stages, workers, timeout, env=None, after=None, quiet=False):
    """The same for several lists of programs, one list after the other. `workers` of a list run beside each other; their lines are labelled
    then."""
    totals, lock = Totals(), threading.Lock()

    def work(waiting):
        while True:
            with lock:
                name, command = next(waiting, (None, None))
            if name is None:
                return
            one = run(name, command, timeout, env, quiet, f"{name}: " if workers > 1 else "")
            with lock:
                totals.add(one.passed, one.failed, one.skipped)
                if after:
                    after()

    try:
        for programs in stages:
            waiting = iter(programs)
            threads = [threading.Thread(target=work, args=(waiting, ), daemon=True) for _ in programs[:workers]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        for process in list(RUNNING):
            end_group(process)
    print(totals, flush=True)
    return 1 if totals.failed else 0


def on_signals():
    """SIGTERM and SIGHUP end a program as Ctrl-C does, with its clean-up."""
    def stop(signo, _frame):
        raise SystemExit(128 + signo)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
