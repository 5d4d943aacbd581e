# SPDX-License-Identifier: BSD-2-Clause
"""meshl7 between pods of a node, by TCP and past it (accelerate-parser), beside nginx, haproxy and Envoy in a pod between pods that the mesh has
no program at, and a relay in a pod, past TCP on both sides, that does nothing but copy: an 80/20 route over two clusters, answers of 1 KB, kept
connections on both sides, one worker each. The proxy is on the first CPU, who drives the load and who answers it on the other. They take turns,
after one each that does not count."""
import os
import re
import shutil
import subprocess
import time

import envoys
import l7
import labs
import peers
from table import Clients, row

# Pods of the mesh: who asks and who answers, by TCP and past it; and what is compared.
PODS = ["tcp-client", "tcp-a", "tcp-b", "past-client", "past-a", "past-b", "past-relay", "bare-client", "bare-a", "bare-b", "bare-proxy"]
IPS = {name: f"10.244.1.{i + 1}" for i, name in enumerate(PODS)}
VIPS = {"tcp": "10.96.0.1", "past": "10.96.0.2"}
PORT = 8080
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %(way)s}
spec:
  hosts: [%(way)s]
  http: [{route: [{destination: {host: %(way)s-a}, weight: 80}, {destination: {host: %(way)s-b}, weight: 20}]}]
---
"""


def rules():
    docs = [peers.pod(name, [ip], {"app": name}, annotations={"tulle.dev/accelerate": "on" if name.startswith("past") else "off"})
            for name, ip in IPS.items()]
    docs += [peers.service(way, [vip], [("http", 80, PORT)], selector={"app": f"{way}-none"}) for way, vip in VIPS.items()]
    return docs + [peers.service(f"{way}-{x}", [f"10.96.1.{2 * i + j + 1}"], [("http", 80, PORT)], selector={"app": f"{way}-{x}"})
                   for i, way in enumerate(VIPS) for j, x in enumerate("ab")]


class Between(l7.Proxy):
    """Something that a client of a pod asks."""

    def __init__(self, name, pid, client, url): # pylint: disable=super-init-not-called
        self.name, self.pid, self.client, self.url, self.results = name, pid, client, url, {}

    def wrk(self, connections):
        return [*l7.FIRST, *self.client, *l7.TURN, "taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", "-d2", "--latency", self.url]


def await_listener(argv, port):
    deadline = time.monotonic() + 20 # bounded, ends with the condition
    while not labs.run(*argv, "ss", "-Hltn", f"sport = :{port}").strip():
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody listens at {port}")
        time.sleep(0.02)


def compared(lab, clients):
    """What is held against meshl7, started."""
    here, folder = IPS["bare-proxy"], lab.folder.name
    to = [f"{IPS[f'bare-{x}']}:{PORT}" for x in "ab"]
    known = {"nginx": l7.nginx(folder, here, *to), "haproxy": l7.haproxy(folder, here, *to)}
    if envoys.installed():
        known["envoy"] = l7.envoy(folder, here, *to)
    for name, command in known.items():
        child = lab.spawn(clients.outside("bare-proxy", *l7.FIRST, "taskset", "-c", "0", *command), stderr=subprocess.DEVNULL)
        await_listener(clients.outside("bare-proxy"), l7.PORTS[name])
        yield Between(name, child.pid, clients.outside("bare-client"), f"http://{here}:{l7.PORTS[name]}/")


def relay(lab):
    """What no proxy can undercut, past TCP on both sides."""
    name = "relay that looks at nothing"
    port = l7.PORTS[name]
    argv = lab.in_pod("past-relay", *l7.FIRST, "taskset", "-c", "0", l7.RELAY, str(port), f"{IPS['past-a']}:{PORT}")
    child = lab.spawn(argv, stderr=subprocess.DEVNULL)
    await_listener(lab.in_pod("past-relay"), port)
    return Between(f"{name}, past TCP", child.pid, lab.in_pod("past-client"), f"http://{IPS['past-relay']}:{port}/")


def measure(leave_out):
    missing = [p for p in ("nginx", "haproxy", "wrk", "taskset") if not shutil.which(p)]
    if missing:
        return row("meshl7 past TCP", "req/CPUs", None, note=f"not installed: {' '.join(missing)}")
    with peers.PeerLab(rules()) as lab:
        leave_out(lab)
        clients = Clients(lab)
        lab.mesh("--parser-workers", "1", "--http-weights", "request", "--accelerate", "off", "--accelerate-parser", "on")
        lab.apply(texts=[ROUTE % {"way": way} for way in VIPS])
        for pod in PODS:
            if pod[-2:] in ("-a", "-b"):
                argv = clients.outside(pod) if pod.startswith("bare") else lab.in_pod(pod)
                lab.spawn([*argv, *l7.FIRST, "taskset", "-c", "1", *l7.servers(lab.folder.name, pod, str(PORT))], stderr=subprocess.DEVNULL)
                await_listener(argv, PORT)
        pid = lab.serving()
        labs.run("taskset", "-a", "-p", "-c", "0", str(pid))
        ways = {way: Between(f"meshl7, {'past TCP' if way == 'past' else 'by TCP'}", pid, lab.in_pod(f"{way}-client"), f"http://{vip}/")
                for way, vip in VIPS.items()}
        for p in ways.values():
            labs.run(*p.client, "curl", "-sf", "-o", "/dev/null", p.url)
        l7.take_turns([ways["past"], ways["tcp"], relay(lab), *compared(lab, clients)])
        past = [f for f in lab.flows() if f["client"]["pod"] == "past-client"]
        row("past TCP, of the bytes of clients that were to", "", sum(f["bytes_redirected"] for f in past) /
            sum(f["bytes_sent"] + f["bytes_received"] for f in past))
    return None
