#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Whom the mesh touches: sockets of its pods that dial a service, and nothing else."""
import json
import os
import signal
import subprocess
import time

from labs import BUILD, CONN, TC_ONLY, WEB, Lab, run
from suite import Skip, check, main, test

APP = """
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: nobody}, spec: {selector: {app: nobody}, ports: [{port: 80}]}}
---
""" + WEB

# Makes namespaces of its own, takes ADDRESS and VIP for itself, waits for a line, and talks to itself over them.
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
echo ready
read -r line
"$3/lab/conn" --json -n 200 "$2" 80
"$3/lab/conn" --json -n 200 --udp "$2" 80
"""


def flow_keys(lab):
    return sorted((f["client"]["pod"], f["client"]["ip"], f["client"]["port"], f["dialled"]["ip"]) for f in lab.flows())


def counted(lab, reason):
    """How often a connection met this reason, by the kernel's own counters: at connect(), or at the client's link."""
    counters = lab.status()["plane"]["counters"]
    return sum(counters.get(hook, {}).get(reason, 0) for hook in (("from_pod", ) if TC_ONLY else ("connect4", "connect6")))


def routed(lab):
    """Connections that were given an endpoint: the links count packets, and keep a flow for each."""
    return len(lab.flows()) if TC_ONLY else counted(lab, "routed")


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
        # In the node's network; in the pod's cgroup, but in the node's network. Whoever is in the pod's network is the pod: its link
        # knows it by that.
        places = [["nsenter", "--net=" + node],
                  [os.path.join(BUILD, "lab", "podexec"), "-c", client["cgroup"], "-N", node, "--"]]
        for place in places:
            seen = json.loads(run(*place, CONN, "--json", "-n", "3", vip, "80", ok=(1,)))
            check(seen["answered"] == 0 and set(seen["errors"]) <= {"ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT"}, f"{place}: {seen}")
        check(routed(lab) == before and flow_keys(lab) == flows, "nothing was routed, no flow was made")


class Impostor:
    """Somebody in the cgroup and, until he unshares, in the network of `place`, who takes a pod's address and a service's."""

    def __init__(self, place, address, vip):
        cgroup, netns = place
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "lab", "podexec"), "-c", cgroup, "-N", netns, "--", "unshare", "-Urn", "sh", "-c", IMPOSTOR,
             "impostor", address, vip, BUILD], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        check(self.process.stdout.readline() == "ready\n", "the impostor could not start")

    def talks_to_himself(self):
        out, _ = self.process.communicate("go\n", timeout=60)
        for line in out.splitlines():
            seen = json.loads(line)
            check(seen["pods"] == {"impostor": 200} and not seen["peername_wrong"], f"{seen}")
        check(len(out.splitlines()) == 2, "TCP and UDP")


def need_user_namespaces():
    if subprocess.run(["unshare", "-Urn", "true"], check=False).returncode:
        raise Skip("user namespaces are not allowed here")


def places(lab):
    """Inside one pod's cgroup, inside another's, and outside of all."""
    with open(lab.path("lab.json"), encoding="utf-8") as f:
        record = json.load(f)
    pods = [lab.pod("client"), lab.pod("web-0")]
    outside = (os.path.join(os.path.dirname(record["cgroup"]), "node"), f"/proc/{record['node_pid']}/ns/net")
    return [(p["cgroup"], p["netns"]) for p in pods] + [outside]


@test
def an_impostor_touches_nothing():
    need_user_namespaces()
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        vip = lab.service("web")["ips"]
        lab.conn("client", vip[0], 80, n=10)
        before, flows = routed(lab), flow_keys(lab)
        for family in (0, 1):
            for victim in (lab.pod("client"), lab.pod("web-0")):
                for place in places(lab):
                    Impostor(place, victim["ips"][family], vip[family]).talks_to_himself()
        check(routed(lab) == before, "nothing was routed")
        check(flow_keys(lab) == flows, "no flow was made or changed")
        check(lab.conn("client", vip[0], 80, n=10)["answered"] == 10, "the real pod is still served")


@test
def a_restart_does_not_take_an_impostor_for_the_pod():
    need_user_namespaces()
    with Lab(texts=[APP]) as lab:
        vip, client = lab.service("web")["ips"], lab.pod("client")
        for restart in (False, True):
            impostors = [Impostor(place, client["ips"][family], vip[family]) for place in places(lab) for family in (0, 1)]
            if restart:
                lab.tool("unmesh", "--unload")
            lab.mesh()
            flows = flow_keys(lab)
            for impostor in impostors:
                impostor.talks_to_himself()
            check(flow_keys(lab) == flows and not routed(lab), "he touched nothing")
            for address in vip:
                check(lab.conn("client", address, 80, n=10)["answered"] == 10, "the real pod is served")


@test
def an_impostor_does_not_inherit_a_pod_that_is_gone():
    need_user_namespaces()
    with Lab(texts=[APP]) as lab:
        vip, client = lab.service("web")["ips"], lab.pod("client")
        impostor = Impostor((client["cgroup"], client["netns"]), client["ips"][0], vip[0])
        os.kill(client["pid"], signal.SIGKILL) # he alone is left in the pod's cgroup
        lab.mesh()
        pods = lab.status()["plane"]["pods"]
        check(pods["enrolled"] == pods["expected"] - 1, f"all but the one that is gone: {pods}")
        impostor.talks_to_himself()
        check(not routed(lab), "nothing was routed")


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
