#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""CPython's own tests of sockets, TLS and asyncio, which talk over loopback, in a pod whose loopback is accelerated: each ends as it does
without a mesh. Only those of TLS without TULLE_TEST_LONG=1: the others take a minute and more."""
import concurrent.futures
import functools
import os
import subprocess
import xml.etree.ElementTree

import accel # first: it finds tests/lib
from suite import Skip, check, main, test

# Sockets to the host of a virtual machine wait for ever in some of them.
LEFT_OUT = ("*VSOCK*", )
PODS = {"test_socket": "client", "test_ssl": "server", "test_asyncio": "middle"}


@functools.cache
def node_of(mode):
    return accel.NODES.enter_context(accel.Node(mode, "--accelerate-loopback", "on"))


def outcomes(mode, name, only=()):
    """By test: completed, or what became of it."""
    node = node_of(mode)
    path = os.path.join(node.folder.name, f"{name}.xml")
    left_out = [word for pattern in LEFT_OUT for word in ("-i", pattern)] + [word for case in only for word in ("-m", case)]
    out = node.run(PODS[name], "env", f"TMPDIR={node.folder.name}", "python3", "-m", "test", "--junit-xml", path, "--timeout", "300", *left_out,
             name, ok=None, timeout=600)
    check(os.path.exists(path), f"{name} did not come to its end: {out[-3000:]}")
    seen = {}
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        what = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        seen[case.get("name")] = what[0] if what else "completed"
    return seen


@functools.cache
def all_runs():
    """They sleep most of the time, so all run beside each other, each in a pod of its own; futures by mode and name."""
    for mode in accel.modes():
        node_of(mode)
    names = [name for name in PODS if name == "test_ssl" or accel.LONG]
    pool = concurrent.futures.ThreadPoolExecutor(len(accel.modes()) * len(names))
    return {(mode, name): pool.submit(outcomes, mode, name) for mode in accel.modes() for name in names}


def differences(one, other):
    return {case: (one.get(case), other.get(case)) for case in one.keys() | other.keys() if one.get(case) != other.get(case)}


def end_alike(name):
    if name != "test_ssl" and not accel.LONG:
        raise Skip("only with TULLE_TEST_LONG=1")
    if subprocess.run(["python3", "-c", f"import test.{name}"], capture_output=True, check=False).returncode:
        raise Skip(f"this Python has no test.{name} (Debian package libpython3-testsuite)")
    seen = {mode: all_runs()[mode, name].result() for mode in accel.modes()}
    first, *others = seen
    check(list(seen[first].values()).count("completed") > 50, f"{name}: {len(seen[first])} tests ran")
    for mode in others:
        differ = differences(seen[first], seen[mode])
        if differ: # some of them measure time, which other programs may take: what is no accident is so again
            differ = differences(outcomes(first, name, differ), outcomes(mode, name, differ))
        check(not differ, f"{name}: {len(differ)} of {len(seen[first])} end otherwise: ({first}, {mode}): {differ}")
    print(f"{name}: {len(seen[first])} tests end as they do without a mesh")


@test
def sockets():
    end_alike("test_socket")


@test
def tls():
    end_alike("test_ssl")


@test
def asyncio():
    end_alike("test_asyncio")


with accel.NODES:
    main()
