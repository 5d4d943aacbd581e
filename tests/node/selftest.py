#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The self-test of acceleration that meshd runs at start: it is soon over, leaves nothing, finds what tests/transparency finds, and where
it cannot find that nothing is lost, nothing is accelerated."""
import json
import os
import re
import time

import accel # first: it finds tests/lib
import labs
import pairs
from suite import Skip, check, main, test

# Cases of tests/transparency that show the same.
CASES = {
    "order": ("stream_mixed", "stream_odd", "two_large_writers"),
    "drain": ("recv_changes_ways", "reader_stops_and_goes_on"),
    "back_pressure": ("reader_stops", "stream_blocks"),
    "fionread_by_tcp": ("fionread_many", "fionread_end"),
    "fionread_past": ("fionread", ),
    "splice": ("splice_out", "splice_echo", "tee"),
    "rcvlowat": ("rcvlowat_poll", "rcvlowat_recv"),
    "waitall": ("recv_waitall_asleep", ),
    "peek": ("recv_peek", "recv_peek_two_messages"),
    "zerocopy": ("send_zerocopy", ),
    "epoll_level": ("epoll_level", ),
    "epoll_edge": ("epoll_edge", ),
    "signal": ("signal_recv_restarts", ),
    "duplex": ("recv_beside_send", ),
    "reset_errno": ("reset_send", ),
    "send_after_shutdown": ("send_after_shutdown", ),
    "urgent": ("urgent", "urgent_alone"),
    "half_close": ("half_close", "half_close_much"),
    "reset": ("reset_recv", "reset_after_data"),
    "close_unread": ("close_unread", ),
}


def need_sockets():
    if labs.TC_ONLY:
        raise Skip("nothing is accelerated without programs at the sockets")


def table(found):
    return {row["semantic"]: row["past_tcp"] for row in found["semantics"]}


def known():
    """What differs, by case of tests/transparency."""
    with open(os.path.join(labs.REPO, "tests", "transparency", "known.tsv"), encoding="utf-8") as f:
        return {case: text for case, _, text in (line.rstrip("\n").split("\t") for line in f if not line.startswith("#"))}


@test
def it_finds_what_the_suite_finds():
    need_sockets()
    with accel.shared("auto") as node:
        found = accel.self_test(node)
        check(found["state"] == "passed" and not found["why"], f"{found}")
        print(f"{found['ms']} ms")
        seen, differs = table(found), known()
        check(set(seen) == set(CASES), f"semantics: {sorted(seen)}")
        for semantic, outcome in seen.items():
            texts = {differs.get(case, "same") for case in CASES[semantic]}
            check(outcome in texts, f"{semantic}: {outcome!r}, in tests/transparency {texts}")
        text = node.ctl("status", "-o", "wide")
        check(re.search(r"SEMANTIC +PAST-TCP\n +order +same\n", text), f"status -o wide: {text}")
        check("SEMANTIC" not in node.ctl("status"), "status without -o wide is long enough")


@test
def it_leaves_nothing_and_is_not_repeated():
    need_sockets()
    with accel.Node("auto") as node:
        plane = node.status()["plane"]
        check(plane["pods"]["enrolled"] == len(accel.IPS), f"{plane['pods']}")
        check(not node.flows(), f"flows: {node.flows()}")
        spaces = json.loads(labs.run("bpftool", "-j", "map", "dump", "pinned", node.path("bpf", "tulle", "mesh_netns")))
        check(len(spaces) == len(accel.IPS), f"mesh_netns: {spaces}")
        deadline = time.monotonic() + 10 # bounded, ends with the condition
        while labs.run("pgrep", "-P", str(node.mesh_pid()), "-x", "meshd-selftest", ok=None):
            check(time.monotonic() < deadline, "the child is still there")
            time.sleep(0.02)
        check(accel.self_test(node)["state"] == "passed", "it was begun again")


@test
def nothing_is_accelerated_where_it_cannot_be_measured():
    need_sockets()
    with accel.Node("auto", "--accelerate-pod-bytes", "65536", tested=False) as node: # not enough for one socket
        deadline = time.monotonic() + 20 # bounded, ends with the condition
        while not (found := accel.self_test(node))["why"]:
            check(time.monotonic() < deadline, f"{found}")
            time.sleep(0.02)
        check(found["state"] in ("waits", "runs") and found["why"] == "order: could not be measured", f"{found}")
        pairs.serve(node)
        pairs.exchange(pairs.hold(node, "client"), "without a self-test")
        accel.check_not_redirected(node.flows_to("server"), "without a self-test")


@test
def it_is_over_where_messages_are_to_be_small():
    need_sockets()
    with accel.Node("auto", "--accelerate-message", "1024", "--accelerate-flow-bytes", "4096") as node:
        check(accel.self_test(node)["state"] == "passed", f"{accel.self_test(node)}")
        pairs.serve(node)
        talk = pairs.hold(node, "client")
        pairs.exchange(talk, "of 64 bytes")
        accel.check_redirected(node.flows_to("server"), pairs.WARM, "small messages")


@test
def it_is_not_run_for_nobody():
    with accel.Node("off") as node:
        check(accel.self_test(node)["state"] == "waits" and not accel.self_test(node)["semantics"], f"{accel.self_test(node)}")


with accel.NODES:
    main()
