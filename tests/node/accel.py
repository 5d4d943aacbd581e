# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of acceleration share: the modes they run in, a node for them, and how much of a flow was moved from socket to socket.

A mode is `plain` (no mesh: the server's address is dialled), or the value of the setting `accelerate` of a mesh whose service is dialled:
`off`, `auto`, `on`. TULLE_TEST_MODES=plain,on has the tests run in these instead of their own."""
import contextlib
import datetime
import functools
import os
import tempfile
import time

import peers # first: it finds tests/lib
import labs
from suite import Skip, check

PORTS = (5201, 5432, 6379, 7000, 8000, 8080, 9000, 11211)
IPS = {"client": ["10.244.1.1", "fd00:10:244::101"], "server": ["10.244.1.2", "fd00:10:244::102"],
       "middle": ["10.244.1.3", "fd00:10:244::103"], "stranger": ["10.244.1.4", "fd00:10:244::104"]}
NAMESPACE = {"stranger": "elsewhere"}
VIPS = {"server": ["10.96.0.2", "fd00:10:96::2"], "middle": ["10.96.0.3", "fd00:10:96::3"]}
LONG = os.environ.get("TULLE_TEST_LONG") == "1"


def modes():
    """Those of this run."""
    return tuple(filter(None, os.environ.get("TULLE_TEST_MODES", "").split(","))) or ("plain", "auto")


def mesh_modes():
    return [mode for mode in modes() if mode != "plain"]


def rules(splices):
    annotations = {"tulle.dev/splices": splices} if splices else {}
    docs = [peers.pod(name, ips, {"app": name}, NAMESPACE.get(name, "default"), annotations) for name, ips in IPS.items()]
    return docs + [peers.service(name, vips, [(f"p{port}", port, port) for port in PORTS], selector={"app": name})
                   for name, vips in VIPS.items()]


class Node(peers.PeerLab):
    """Pods client, server and middle of one namespace, stranger of another; Services server and middle, all ports as they are.
    splices: what their annotation says; None, and the census looks. Python's own program could splice."""

    def __init__(self, mode, *options, splices="no", tested=True, **kwargs):
        super().__init__(rules(splices), **kwargs)
        self.mode, self.options, self.tested = mode, options, tested
        self.scratch = self.folder.name # where write() puts them
        self.since = "" # flows that were opened before are none of what is measured now

    def __enter__(self):
        super().__enter__()
        try:
            if self.mode != "plain":
                self.mesh(*accelerate(self.mode), *self.options)
                if self.tested:
                    await_self_test(self, self.mode)
        except BaseException:
            self.__exit__()
            raise
        return self

    def to(self, name, six=False):
        """Where the pod is dialled."""
        return (IPS if self.mode == "plain" else VIPS)[name][six]

    def run(self, pod, *argv, **kwargs):
        return labs.run(*self.in_pod(pod, *argv), **kwargs)

    def start(self, pod, port, *argv):
        """Starts a server, and returns when it listens."""
        path = os.path.join(self.folder.name, f"log-{pod}-{port}")
        with open(path, "w", encoding="utf-8") as log:
            child = self.spawn(self.in_pod(pod, *argv), stdout=log, stderr=log)
        deadline = time.monotonic() + 60 # bounded, ends with the condition
        while not self.run(pod, "ss", "-Hltn", f"sport = :{port}").strip():
            if child.poll() is not None or time.monotonic() > deadline:
                with open(path, encoding="utf-8", errors="replace") as log:
                    raise AssertionError(f"{argv[0]} does not listen at {port}: {log.read()[-1000:]}")
            time.sleep(0.02)
        return child

    def write(self, name, text):
        path = os.path.join(self.scratch, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def flows_to(self, pod):
        """What the mesh knows of connections to the pod's service since fresh(); without a mesh, nothing."""
        flows = [] if self.mode == "plain" else self.flows()
        return [f for f in flows if f["server"]["pod"] == pod and f["opened"] > self.since]

    def fresh(self):
        self.since = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def end_servers(self):
        for child in self.children:
            child.kill()
            child.wait()
        self.children.clear()


# Those that a test script uses for all its tests, one a mode: `with accel.NODES: main()` takes them down.
NODES = contextlib.ExitStack()


@functools.cache
def node_of(mode, splices):
    return NODES.enter_context(Node(mode, splices=splices))


@contextlib.contextmanager
def shared(mode, splices="no"):
    """The node of the mode as if it were new: no server, no flow, a folder of its own."""
    node = node_of(mode, splices)
    try:
        with tempfile.TemporaryDirectory(dir=node.folder.name) as node.scratch:
            node.fresh()
            yield node
    finally:
        node.end_servers()


def self_test(lab):
    """What came of it, or how far it is."""
    return lab.status()["plane"]["acceleration"]["self_test"]


def await_self_test(lab, mode):
    """Nothing new is accelerated before it is over; it is not run for `off`."""
    if mode == "off":
        return
    deadline = time.monotonic() + 60 # bounded, ends with the condition
    while self_test(lab)["state"] not in ("passed", "refused"):
        check(time.monotonic() < deadline, f"the self-test does not end: {self_test(lab)}")
        time.sleep(0.02)


def accelerate(mode):
    """meshd's words for a mode."""
    return ["--accelerate", mode]


def redirected(flows):
    return sum(f.get("bytes_redirected", 0) for f in flows)


def carried(flows):
    return sum(f["bytes_sent"] + f["bytes_received"] for f in flows)


def check_redirected(flows, messages, what):
    """At least 90 % after the first 100 of so many messages of each flow, which are all of about a size."""
    check(flows, f"{what}: no flow was seen")
    share, wanted = redirected(flows) / max(carried(flows), 1), 0.9 * (1 - 100 / messages)
    check(share >= wanted, f"{what}: {share:.3f} of {carried(flows)} bytes redirected, wanted {wanted:.3f}")


def check_not_redirected(flows, what):
    check(flows, f"{what}: no flow was seen")
    check(redirected(flows) == 0, f"{what}: {redirected(flows)} of {carried(flows)} bytes redirected, wanted none")


def same(what, results):
    """results: by mode."""
    (first, wanted), *others = results.items()
    for mode, got in others:
        check(got == wanted, f"{what}: {mode} gives {got!r:.2000}, {first} {wanted!r:.2000}")


def need(program, package):
    path = labs.run("sh", "-c", f"command -v {program}", ok=None).strip()
    if not path:
        raise Skip(f"{program} is not installed (Debian package {package})")
    return path


def need_auto():
    if "auto" not in modes():
        raise Skip("not among the modes of this run")
