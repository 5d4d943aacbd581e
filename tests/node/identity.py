#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Whom the mesh touches: sockets of its pods that dial a service, and nothing else."""
import json
import os
import subprocess
import time

from labs import BUILD, CONN, Lab, run
from suite import Skip, check, main, test

APP = """
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: nobody}, spec: {selector: {app: nobody}, ports: [{port: 80}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, labels: {app: client}}, spec: {containers: [{name: c}]}}
"""

# Makes namespaces of its own, takes ADDRESS and VIP for itself, and talks to itself over them.
IMPOSTOR = """
set -e
ip link set lo up
ip addr add "$1" dev lo nodad 2>/dev/null || ip addr add "$1" dev lo
ip addr add "$2" dev lo nodad 2>/dev/null || ip addr add "$2" dev lo
"$3/lab/podd" impostor default '{}' 80 &
server=$!
trap 'kill $server' EXIT
for i in $(seq 100); do
	"$3/lab/conn" "$2" 80 >/dev/null 2>&1 && break
	sleep 0.05
done
"$3/lab/conn" --json -n 200 "$2" 80
"$3/lab/conn" --json -n 200 --udp "$2" 80
"""


def flow_keys(lab):
    return sorted((f["client"]["pod"], f["client"]["ip"], f["client"]["port"], f["dialled"]["ip"]) for f in lab.flows())


def counted(lab, reason):
    """How often connect() ended for this reason, by the kernel's own counters."""
    counters = lab.status()["plane"]["counters"]
    return sum(counters.get(hook, {}).get(reason, 0) for hook in ("connect4", "connect6"))


def routed(lab):
    return counted(lab, "routed")


def ways(service):
    four, six = service["ips"]
    return four, six, "::ffff:" + four


@test
def both_ends_see_the_right_addresses():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        client = lab.pod("client")
        for address in ways(lab.service("web")):
            seen = lab.conn("client", address, 80, n=200)
            check(seen["answered"] == 200 and not seen["peername_wrong"], f"getpeername of {address}: {seen}")
            literal = f"[{address}]" if ":" in address else address
            answer = json.loads(lab.exec("client", "curl", "-sS", f"http://{literal}/who"))
            want = client["ips"][":" in address and not address.startswith("::ffff:")]
            check(answer["peer"] == want, f"the server sees {answer['peer']}, the client is {want}")


@test
def a_pod_dialled_directly_is_untouched():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        before = routed(lab)
        for ip in lab.pod("web-1")["ips"]:
            seen = lab.conn("client", ip, 8080, n=500)
            check(seen["pods"] == {"web-1": 500}, f"{seen}")
        check(routed(lab) == before, "nothing was routed")
        check(lab.conn("client", lab.service("web")["ips"][0], 80, n=50)["answered"] == 50, "services still work")
        check(routed(lab) == before + 50, "and are counted once each")


@test
def processes_outside_the_mesh_are_untouched():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        client = lab.pod("client")
        with open(lab.path("lab.json"), encoding="utf-8") as f:
            node = f"/proc/{json.load(f)['node_pid']}/ns/net"
        before, flows = routed(lab), flow_keys(lab)
        vip = lab.service("web")["ips"][0]
        # In the pod's network, but in the cgroup of this test; in the node's network; in the pod's cgroup, but in the node's network.
        places = [["nsenter", "--net=" + client["netns"]], ["nsenter", "--net=" + node],
                  [os.path.join(BUILD, "lab", "podexec"), "-c", client["cgroup"], "-N", node, "--"]]
        for place in places:
            seen = json.loads(run(*place, CONN, "--json", "-n", "3", vip, "80", ok=(1,)))
            check(seen["answered"] == 0 and set(seen["errors"]) <= {"ENETUNREACH", "EHOSTUNREACH"}, f"{place}: {seen}")
        check(routed(lab) == before and flow_keys(lab) == flows, "nothing was routed, no flow was made")


@test
def an_impostor_touches_nothing():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        if subprocess.run(["unshare", "-Urn", "true"], check=False).returncode:
            raise Skip("user namespaces are not allowed here")
        vip = lab.service("web")["ips"]
        lab.conn("client", vip[0], 80, n=10)
        pods = [lab.pod("client"), lab.pod("web-0")]
        before, flows = routed(lab), flow_keys(lab)
        enter = [os.path.join(BUILD, "lab", "podexec")]
        with open(lab.path("lab.json"), encoding="utf-8") as f:
            node = f"/proc/{json.load(f)['node_pid']}/ns/net"
        for family in (0, 1):
            for victim in pods:
                # Inside the victim's cgroup, inside another pod's, and outside of all.
                places = [[*enter, "-c", pods[0]["cgroup"], "-N", pods[0]["netns"], "--"],
                          [*enter, "-c", pods[1]["cgroup"], "-N", pods[1]["netns"], "--"],
                          [*enter, "-c", lab_node_cgroup(lab), "-N", node, "--"]]
                for place in places:
                    out = run(*place, "unshare", "-Urn", "sh", "-c", IMPOSTOR, "impostor", victim["ips"][family], vip[family], BUILD)
                    for line in out.splitlines():
                        seen = json.loads(line)
                        check(seen["pods"] == {"impostor": 200} and not seen["peername_wrong"], f"{place}: {seen}")
        check(routed(lab) == before, "nothing was routed")
        check(flow_keys(lab) == flows, "no flow was made or changed")
        time.sleep(0.3) # a rescan that follows the events in the cgroups
        check(lab.conn("client", vip[0], 80, n=10)["answered"] == 10, "the real pod is still served")


def lab_node_cgroup(lab):
    return os.path.join(os.path.dirname(os.path.dirname(lab.pod("client")["cgroup"])), "node")


@test
def no_endpoint_is_refused_at_once_and_counted():
    with Lab(texts=[APP]) as lab:
        lab.mesh()

        before = counted(lab, "no_endpoint")
        for address in ways(lab.service("nobody")):
            begin = time.monotonic()
            seen = lab.conn("client", address, 80, n=100)
            check(seen["errors"] == {"ECONNREFUSED": 100}, f"{address}: {seen}")
            check(time.monotonic() - begin < 2, "at once")
        now = counted(lab, "no_endpoint")
        check(now == before + 300, f"{now - before} counted")
        refused = [f for f in lab.flows("--service", "nobody") if f["reason"] == "no_endpoint"]
        check(len(refused) == 300, f"{len(refused)} flows")


main()
