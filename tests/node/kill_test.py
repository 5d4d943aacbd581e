#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of meshd at its n-th bpf() call, for all n: of a start with nothing there and of a start that adopts, at each call that
changes what outlives it, and of an apply at each at all; of an apply at each other system call too. Programs are at the links of the
lab's pods and of its node, as they are at its sockets. All the while a client connects thousands of times a second: no connection fails, and
none is answered by a stranger. After each kill meshd starts again, adopts what it finds and serves; a service with two ports is
the old one or the new one, whole; what is pinned and attached is what a start that was not disturbed leaves; and after --unload
there is nothing."""
import json
import os
import select
import signal
import subprocess
import time

import peers # first: it finds tests/lib
import labs
from suite import check, main, test

# Of a start, the calls that change what outlives it (KILLS=full: all of them); loading and asking leave nothing behind.
STARTS = [] if os.environ.get("KILLS") == "full" else ["--changes"]
STEP = 1 if os.environ.get("KILLS") == "full" else 7 # each seventh of those calls
KILLAT = os.path.join(peers.PROGRAMS, "killat")
GUESTS = [peers.pod("client", ["10.244.1.1"])] + [
    peers.pod(name, [f"10.244.1.{10 + i}"]) for i, name in enumerate(("a1", "a2", "b1", "b2"))]
# In the node's namespace: a pod could not answer from an address that is not its own.
FALLBACK = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fallback", "namespace": "default"},
            "spec": {"hostNetwork": True, "containers": [{"name": "c", "image": "none"}]}}
PODS = [*GUESTS, FALLBACK]
VIPS = ("10.96.0.100", "10.96.0.101")
TARGETS = [f"{vip}:{port}" for vip in VIPS for port in (80, 81)]
A = (["10.244.1.10", "10.244.1.11"], 7001, {"a1", "a2"})
B = (["10.244.1.12", "10.244.1.13"], 7101, {"b1", "b2"})


def rule_set(of):
    ips, port, _ = of
    docs = []
    for i, vip in enumerate(VIPS):
        docs += [peers.service(f"shop{i}", [vip], [("a", 80, port), ("b", 81, port + 1)]),
                 peers.endpoints(f"shop{i}", ips, [("a", port), ("b", port + 1)])]
    # A service that only one of the sets has, so that an apply adds and removes rows too.
    docs += [peers.service(f"only{port}", [f"10.96.1.{port % 100}"], [("a", 80, port)]),
             peers.endpoints(f"only{port}", ips, [("a", port)])]
    return docs


class Killing:
    """One lab with servers, a client that never stops, and meshd started under killat."""

    def __init__(self, lab):
        self.lab = lab
        for name in ("a1", "a2"):
            lab.serve(name, 7001, 7002)
        for name in ("b1", "b2"):
            lab.serve(name, 7101, 7102)
        # Where connections go as long as no rule is live: to a server that has the services' own addresses.
        lab.serve("fallback", 80, 81)
        for vip in VIPS:
            lab.ip("fallback", "addr", "add", vip + "/32", "dev", "lo")
        labs.run("mount", "-t", "bpf", "-o", "mode=0700", "bpf", lab.path("bpf"))
        self.traffic = None
        os.environ["KILLAT_DIR"] = lab.path()
        self.pid = None

    def start_traffic(self, names):
        self.traffic = self.lab.spawn(self.lab.in_pod("client", peers.PEER, "load", *TARGETS, "--allow", ",".join(sorted(names)),
                                                     "--period-us", "150"))

    def traffic_is_well(self, when):
        self.traffic.send_signal(signal.SIGUSR1)
        seen = json.loads(self.traffic.stdout.readline())
        check(not seen["failures"] and not seen["foreign"], f"{when}: {seen['first_error']} (of {seen['connections']})")
        return seen["connections"]

    def stop_traffic(self):
        self.traffic.send_signal(signal.SIGTERM)
        seen = json.loads(self.traffic.communicate()[0])
        check(not seen["failures"] and not seen["foreign"], seen["first_error"])
        return seen["connections"]

    def start(self, at=0):
        """Starts meshd, killed at its at-th bpf() call that changes something; (calls, how). killat goes when meshd is ready."""
        path = os.path.join(self.lab.folder.name, "killat")
        # Files, not pipes: meshd goes on and would hold them open.
        with open(path, "w", encoding="utf-8") as out, open(path + ".log", "a", encoding="utf-8") as log:
            subprocess.run([KILLAT, *STARTS, "--at", str(at), "--", *self.lab.meshd("--log-level", "warn")], stdin=subprocess.DEVNULL,
                           stdout=out, stderr=log, timeout=60, check=False)
        with open(path, encoding="utf-8") as f:
            calls, how, self.pid = parse(f.read())
        return calls, how

    def log(self):
        with open(os.path.join(self.lab.folder.name, "killat.log"), encoding="utf-8") as f:
            return f.read()[-500:]

    def stop(self):
        fd = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            # Readable when the last of its threads, and so its lock, is gone.
            check(select.select([fd], [], [], 30)[0], "meshd did not die")
        finally:
            os.close(fd)

    def unload(self):
        labs.run(*self.lab.meshd("--unload"))

    def whole(self, sets, when):
        """Which of the sets answers, on every address and port; exactly one must."""
        seen = self.lab.load("client", TARGETS, "--count", "40")
        check(not seen["failures"], f"{when}: {seen['first_error']}")
        names = {answer.split()[0] for answer in seen["answers"]}
        live = [s for s in sets if names <= s]
        check(len(live) == 1, f"{when}: answers from {sorted(names)}")
        return live[0]

    def made(self):
        """What the data path is made of: pins, and programs attached to the cgroup."""
        root = self.lab.path("bpf")
        # bpffs itself brings two files that list what exists.
        pins = sorted(os.path.relpath(os.path.join(d, f), root) for d, _, files in os.walk(root) for f in files
                      if not f.endswith(".debug"))
        out = labs.run("bpftool", "-j", "cgroup", "show", self.lab.record["cgroup"])
        attached = sorted((p["attach_type"], p["name"]) for p in json.loads(out.strip() or "[]"))
        return pins, attached


def parse(out):
    words = out.split()[-5:]
    check(words and words[0] == "bpf", f"killat said {out!r}")
    return int(words[1]), words[2], int(words[3])


def objects():
    """Names of all maps, programs and links of a mesh on this machine; None while other labs or tests run."""
    mine = f"t{os.getpid()}-"
    others = [n for n in os.listdir("/run/tulle-lab") if not n.startswith(mine)]
    others += [n for n in os.listdir("/run") if n.startswith("tulle-flips-")]
    if others:
        return None
    found = []
    progs = {p["id"] for p in json.loads(labs.run("bpftool", "-j", "prog", "show")) if p.get("name", "").startswith("mesh_")}
    found += ["map " + m["name"] for m in json.loads(labs.run("bpftool", "-j", "map", "show"))
              if m.get("name", "").startswith("mesh_")]
    found += ["link" for l in json.loads(labs.run("bpftool", "-j", "link", "show")) if l.get("prog_id") in progs]
    return sorted(found + ["prog"] * len(progs))


def objects_become(wanted, when, n=1):
    """Freed objects go after a grace period: bounded, ends with the condition. Slow, so only after the first kill, and some more: what is
    pinned and attached is looked at after each, and nothing else can keep an object of a dead process."""
    if (n - 1) % 10:
        return
    deadline = time.monotonic() + 10
    while True:
        found = objects()
        if found is None or wanted is None or found == wanted:
            return
        check(time.monotonic() < deadline, f"{when}: {len(found)} objects, {len(wanted)} expected: "
              f"{set(found).symmetric_difference(wanted)}")
        time.sleep(0.02)


@test
def start_with_nothing_there():
    with peers.PeerLab(PODS) as lab:
        k = Killing(lab)
        write_rules(lab, A)
        everyone = A[2] | {"fallback"}
        calls, how = k.start()
        check(how == "ready", f"start: {how} {k.log()}")
        k.whole([A[2]], "undisturbed start")
        made, wanted = k.made(), objects()
        at_links = sum("link_mesh_" in name and ("_pod_" in name or "_node_" in name) for name in made[0])
        check(at_links == 2 * len(GUESTS) + 2, f"programs at links: {made[0]}")
        k.stop()
        k.unload()
        check(k.made() == ([], []), f"after --unload: {k.made()}")
        objects_become([] if wanted else None, "after --unload")
        k.start_traffic(everyone)
        n = 1 - STEP
        while True:
            n += STEP
            calls, how = k.start(n)
            k.traffic_is_well(f"killed at {n}")
            if how != "killed":
                check(how == "ready", f"start {n}: {how} {k.log()}")
                k.stop()
            else:
                _, again = k.start()
                check(again == "ready", f"start after a kill at {n}: {again} {k.log()}")
                k.whole([A[2]], f"start after a kill at {n}")
                check(k.made() == made, f"start after a kill at {n}: {difference(k.made(), made)}")
                objects_become(wanted, f"start after a kill at {n}", n)
                k.stop()
            k.unload()
            check(k.made() == ([], []), f"--unload after a kill at {n}: {k.made()}")
            objects_become([] if wanted else None, f"--unload after a kill at {n}", n)
            k.traffic_is_well(f"--unload after a kill at {n}")
            if how != "killed":
                break
        print(f"killed up to call {n - STEP} of a start; {k.stop_traffic()} connections")


@test
def start_that_adopts():
    with peers.PeerLab(PODS) as lab:
        k = Killing(lab)
        write_rules(lab, A)
        k.start()
        made, wanted = k.made(), objects()
        k.stop()
        k.start_traffic(A[2])
        n = 1 - STEP
        while True:
            n += STEP
            _, how = k.start(n)
            k.traffic_is_well(f"killed at {n}")
            k.whole([A[2]], f"killed at {n}")
            if how != "killed":
                check(how == "ready", f"start {n}: {how} {k.log()}")
                break
            _, again = k.start()
            check(again == "ready", f"start after a kill at {n}: {again} {k.log()}")
            check(k.made() == made, f"start after a kill at {n}: {difference(k.made(), made)}")
            objects_become(wanted, f"start after a kill at {n}", n)
            k.traffic_is_well(f"start after a kill at {n}")
            k.stop()
        print(f"killed up to call {n - STEP} of an adopting start; {k.stop_traffic()} connections")
        k.stop()
        k.unload()
        check(k.made() == ([], []), f"after --unload: {k.made()}")


@test
def apply_killed_at_bpf_calls():
    kill_applies("bpf() call", 1)


@test
def apply_killed_at_system_calls():
    """Between the journal's write, the writes to the maps, the commit and the reply."""
    kill_applies("system call", STEP, "--any")


def kill_applies(what, step, *options):
    with peers.PeerLab(PODS) as lab:
        k = Killing(lab)
        files = {id(s): lab.file(peers.text(rule_set(s))) for s in (A, B)}
        k.start()
        meshctl(lab, "apply", "-f", files[id(A)])
        made, wanted = k.made(), objects()
        k.start_traffic(A[2] | B[2])
        killed = n = 0
        while True:
            n += step
            out = labs.run(KILLAT, *options, "--at", str(n), "--attach", str(k.pid), "--", *meshctl_argv(lab, "apply", "-f", files[id(B)]))
            _, how, _ = parse(out)
            live = k.whole([A[2], B[2]], f"apply killed at {n}")
            k.traffic_is_well(f"apply killed at {n}")
            if how != "killed":
                check(live == B[2], "an apply that was not killed is live")
                break
            killed += 1
            _, again = k.start()
            check(again == "ready", f"start after an apply killed at {n}: {again} {k.log()}")
            k.whole([A[2], B[2]], f"start after an apply killed at {n}")
            check(k.made() == made, f"start after an apply killed at {n}: {difference(k.made(), made)}")
            objects_become(wanted, f"start after an apply killed at {n}")
            meshctl(lab, "apply", "-f", files[id(A)])
            k.whole([A[2]], f"apply after a kill at {n}")
            delete_only(lab, B)
        print(f"killed {killed} times, at one of {step} of the {what}s of an apply; {k.stop_traffic()} connections")
        k.stop()
        k.unload()
        check(k.made() == ([], []), f"after --unload: {k.made()}")


def meshctl_argv(lab, *args):
    return [peers.MESHCTL, "--socket", lab.path("meshd.sock"), *args]


def meshctl(lab, *args):
    labs.run(*meshctl_argv(lab, *args))


def delete_only(lab, of):
    """The service that only this set has, when the killed apply got as far as the journal."""
    labs.run(*meshctl_argv(lab, "delete", "service", f"only{of[1]}"), ok=None)
    labs.run(*meshctl_argv(lab, "delete", "endpointslice", f"only{of[1]}-ipv4"), ok=None)


def difference(got, wanted):
    return [sorted(set(g).symmetric_difference(w)) for g, w in zip(got, wanted)]


def write_rules(lab, of):
    with open(lab.path("rules", "10-test.yaml"), "w", encoding="utf-8") as f:
        f.write(peers.text(rule_set(of)))


main()
