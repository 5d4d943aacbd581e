#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Pods on their node's network: policies hold for what they send to the pods of their own node, under the address that they share with
it; the node's own processes are not asked."""
import os
import time

import peers # first: it finds tests/lib
from suite import check, main, test

PODS = [peers.pod("client", ["10.244.1.1", "fd00:10:244::101"]), peers.pod("web", ["10.244.1.2", "fd00:10:244::102"], {"app": "web"}),
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent", "namespace": "default"},
         "spec": {"hostNetwork": True, "serviceAccountName": "agent", "containers": [{"name": "c", "image": "none"}]}}]


def policy(account):
    return peers.text([{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "only"},
                        "spec": {"selector": {"matchLabels": {"app": "web"}}, "action": "ALLOW", "rules": [
                            {"from": [{"source": {"principals": [f"cluster.local/ns/default/sa/{account}"]}}]}]}}])


def on_node(lab, *argv):
    """A process of the node itself: in its network, in no pod's cgroup."""
    return [peers.PODEXEC, "-c", os.path.join(os.path.dirname(lab.record["cgroup"]), "node"), "-N",
            f"/proc/{lab.record['node_pid']}/ns/net", "--", *map(str, argv)]


def dial(lab, who, ip):
    argv = (peers.PEER, "fail", "connect", peers.target(ip, 7000))
    return peers.labs.run(*(lab.in_pod(who, *argv) if who else on_node(lab, *argv)), ok=None).strip()


def become(lab, who, ip, wanted):
    """Pods are found by their cgroups, a moment after they come: bounded, ends with the condition."""
    deadline = time.monotonic() + 10
    while (got := dial(lab, who, ip)) != wanted:
        check(time.monotonic() < deadline, f"{who or 'the node'} to {ip}: {got}, expected {wanted}")
        time.sleep(0.05)


@test
def policies_hold_for_pods_on_the_node_s_network():
    with peers.PeerLab(PODS) as lab:
        lab.serve("web", 7000)
        lab.mesh()
        for ip in PODS[1]["status"]["podIPs"]:
            for who in ("agent", "client", None):
                check(dial(lab, who, ip["ip"]) == "0", f"{who} reaches {ip} without a policy")
        # A principal is nobody's who shares an address, not even the one's whom the rule names.
        for account, client in (("default", "0"), ("agent", "EPERM")):
            lab.apply(texts=[policy(account)])
            for ip in (i["ip"] for i in PODS[1]["status"]["podIPs"]):
                become(lab, "agent", ip, "ECONNREFUSED")
                check(dial(lab, None, ip) == "0", f"the node's own processes reach {ip}")
                if not peers.labs.TC_ONLY:
                    check(dial(lab, "client", ip) == client, f"client to {ip}, allowed is {account}")
        # A restarted meshd knows them from the first packet on.
        lab.tool("unmesh")
        lab.mesh()
        for ip in (i["ip"] for i in PODS[1]["status"]["podIPs"]):
            check(dial(lab, "agent", ip) == "ECONNREFUSED", f"agent to {ip} after a restart")
        check(len(lab.dump("mesh_host_pods")) == 1, "one pod is on the node's network")


main()
