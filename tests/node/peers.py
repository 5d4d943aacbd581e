# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of connections share: documents as an API server has them, and a lab whose pods run tests/node/peer.c. Knows the
words of tools/lab, meshctl and peer only."""
import json
import os
import re
import select
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.dont_write_bytecode = True
import labs
from suite import check

PROGRAMS = os.path.join(labs.BUILD, "tests", "node")
PEER = os.path.join(PROGRAMS, "peer")
PODEXEC = os.path.join(labs.BUILD, "lab", "podexec")
MESHD = os.path.join(labs.BUILD, "meshd")
MESHCTL = os.path.join(labs.BUILD, "meshctl")


def pod(name, ips, labels=None, namespace="default", annotations=None):
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels or {}, "annotations": annotations or {}},
            "spec": {"containers": [{"name": "c", "image": "none"}]},
            "status": {"phase": "Running", "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}}


def service(name, ips, ports, namespace="default", selector=None):
    """ports: (name, port, target)."""
    spec = {"clusterIP": ips[0], "clusterIPs": list(ips),
            "ports": [{"name": n, "port": p, "targetPort": t, "protocol": "TCP"} for n, p, t in ports]}
    if selector:
        spec["selector"] = selector
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def endpoints(of, addresses, ports, namespace="default"):
    """An EndpointSlice of one family. ports: (name, port)."""
    family = "IPv6" if ":" in addresses[0] else "IPv4"
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": f"{of}-{family.lower()}", "namespace": namespace,
                         "labels": {"kubernetes.io/service-name": of}},
            "addressType": family, "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
            "ports": [{"name": n, "port": p, "protocol": "TCP"} for n, p in ports]}


def text(docs):
    """JSON is YAML."""
    return "\n---\n".join(json.dumps(d) for d in docs) + "\n"


def target(ip, port):
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


class PeerLab(labs.Lab):
    def __init__(self, docs, **kwargs):
        super().__init__(texts=[text(docs)], options=["--server", "none"], **kwargs)
        self.children = []

    def __enter__(self):
        super().__enter__()
        with open(self.path("lab.json"), encoding="utf-8") as f:
            self.record = json.load(f)
        self.by_name = {p["pod"]: p for p in self.record["pods"]}
        return self

    def __exit__(self, *error):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        super().__exit__(*error)

    def in_pod(self, name, *argv):
        p = self.by_name[name]
        return [PODEXEC, "-c", p["cgroup"], "-N", p["netns"], "--", *map(str, argv)]

    def spawn(self, argv, **kwargs):
        child = subprocess.Popen(argv, text=True, **({"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} | kwargs))
        self.children.append(child)
        return child

    def serve(self, pod_name, *ports, name=None):
        """A server in the pod that answers each line with the pod's name (or `name`) and its port."""
        child = self.spawn(self.in_pod(pod_name, PEER, "serve", name or pod_name, *ports))
        check(child.stdout.readline() == "ready\n", f"no server in {pod_name}")
        return child

    def load(self, pod_name, targets, *options, timeout=300):
        """Connections in turn to the targets; the counts of peer load."""
        out = labs.run(*self.in_pod(pod_name, PEER, "load", *targets, *options), ok=(0, 1), timeout=timeout)
        return json.loads(out)

    def fail(self, pod_name, kind, to, timeout=120):
        """The errno that the connect() met."""
        return labs.run(*self.in_pod(pod_name, PEER, "fail", kind, to), ok=None, timeout=timeout).strip()

    def sysctl(self, pod_name, *settings):
        labs.run(*self.in_pod(pod_name, "sysctl", "-qw", *settings))

    def ip(self, pod_name, *words):
        labs.run(*self.in_pod(pod_name, "ip", *words))

    def meshd(self, *options):
        """The command that tools/lab mesh runs, for tests that start meshd themselves."""
        r = self.record
        return [PODEXEC, "-c", os.path.join(os.path.dirname(r["cgroup"]), "node"), "-N", f"/proc/{r['node_pid']}/ns/net", "--",
                MESHD, "--cgroup", r["cgroup"], "--pin", self.path("bpf", "tulle"), "--rules", self.path("rules"),
                "--state", self.path("state"), "--socket", self.path("meshd.sock"), "--node-name", r["node"], *options]

    def dump(self, map_name):
        """Values of a pinned map as bpftool prints them."""
        out = labs.run("bpftool", "-j", "map", "dump", "pinned", self.path("bpf", "tulle", map_name))
        return [row["formatted"]["value"] if "formatted" in row else row["value"] for row in json.loads(out)]

    def mesh_pid(self):
        with open(self.path("meshd.pid"), encoding="ascii") as f:
            return int(re.match(r"\d+", f.read())[0])

    def kill_mesh(self):
        """It may be in the kernel for a while yet."""
        fd = os.pidfd_open(self.mesh_pid())
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            check(select.select([fd], [], [], 30)[0], "meshd did not die")
        finally:
            os.close(fd)
