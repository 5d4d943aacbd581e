#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a pod may reach that the rules do not know, and what its Sidecar lets it see: the mesh's own setting, a namespace's Sidecar and
a workload's, and what explain and flows say of it."""
import json

from labs import TC_ONLY, Lab
from suite import check, main, test

APP = """
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: a}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: b}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: a}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: b}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: a, labels: {app: client}}, spec: {containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: free, namespace: a, labels: {app: free}}, spec: {containers: [{name: c}]}}
"""

# What is hidden outnumbers what is shown: the client has rows of its own only.
SPARE = "".join(f"""
---
{{apiVersion: v1, kind: Service, metadata: {{name: spare-{i}, namespace: b}}, spec: {{selector: {{app: none}}, ports: [{{port: 80}}]}}}}
""" for i in range(3))

SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: NAME, namespace: a}
spec:
  SELECTOR
  egress: [{hosts: [HOSTS]}]
  outboundTrafficPolicy: {mode: MODE}
"""
STRANGERS = ("10.96.250.250", "fd00:10:96::fafa") # of the services' networks, so that there is a route, and nobody's
NOBODY = {"EHOSTUNREACH", "ETIMEDOUT", "ENETUNREACH"} # what a dial gets that nothing was done about
REFUSED = {"ECONNREFUSED"} if TC_ONLY else {"EPERM"}


def sidecar(name, hosts, mode, labels=None):
    selector = f"workloadSelector: {{labels: {labels}}}" if labels else ""
    return SIDECAR.replace("NAME", name).replace("SELECTOR", selector).replace("HOSTS", hosts).replace("MODE", mode)


def fails(lab, pod, address, how):
    """One dial, which fails in one of these ways."""
    seen = set(lab.conn(pod, address, 80)["errors"])
    check(seen and seen <= how, f"{pod} to {address}: {seen}, wanted {how}")


def reached(lab, pod, address, port=80, n=5):
    seen = lab.conn(pod, address, port, n=n)
    check(seen["answered"] == n, f"{pod} to {address}:{port}: {seen}")


def both(lab, namespace):
    return lab.service("web", namespace)["ips"]


@test
def the_mesh_allows_any_or_the_registry_only():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        for ip in STRANGERS:
            fails(lab, "a/client", ip, NOBODY)
        # A change at a restart, both ways; the pods' rows are adopted and written anew.
        for restart in range(2):
            lab.tool("unmesh")
            lab.mesh("--outbound-traffic-policy", "REGISTRY_ONLY")
            for ip in STRANGERS:
                fails(lab, "a/client", ip, REFUSED)
            for ip in both(lab, "b"):
                reached(lab, "a/client", ip)
            for ip in lab.pod("web-0", "b")["ips"]:
                reached(lab, "a/client", ip, 8080)
            check(not lab.conn("a/web-0", "127.0.0.1", 8080, n=1)["errors"], "its own loopback is not off the pod")
            flows = [(f["dialled"]["ip"], f["policy"]) for f in lab.flows() if f["reason"] == "registry_only"]
            check(set(flows) == {(ip, None) for ip in STRANGERS}, f"recorded: {flows}")
            said = lab.ctl("explain", "a/client", f"{STRANGERS[0]}:80")
            check("REGISTRY_ONLY of the mesh" in said and "verdict: denied" in said, said)
            if not restart:
                lab.tool("unmesh")
                lab.mesh()
                fails(lab, "a/client", STRANGERS[0], NOBODY)


def hides_and_refuses(app):
    with Lab(texts=[app]) as lab:
        lab.mesh()
        own, other = both(lab, "a"), both(lab, "b")
        for ip in own + other:
            reached(lab, "a/client", ip)
        # Hidden, and whatever is not known is let through: nobody is behind the address.
        lab.apply(texts=[sidecar("default", "./*", "ALLOW_ANY")])
        for ip in own:
            reached(lab, "a/client", ip)
        for ip in other:
            fails(lab, "a/client", ip, NOBODY)
            reached(lab, "b/web-0", ip) # others see it as before
        # Hidden, and what is not known is refused; one pod of the namespace has a Sidecar of its own.
        lab.apply(texts=[sidecar("default", "./*", "REGISTRY_ONLY"),
                         sidecar("free", "'*/*'", "ALLOW_ANY", "{app: free}")])
        for ip in own:
            reached(lab, "a/client", ip)
            reached(lab, "a/free", ip)
        for ip in other:
            fails(lab, "a/client", ip, REFUSED)
            reached(lab, "a/free", ip)
        for ip in STRANGERS:
            fails(lab, "a/client", ip, REFUSED)
            fails(lab, "a/free", ip, NOBODY)
        refused = sorted((f["dialled"]["ip"], f["client"]["pod"], f["policy"]) for f in lab.flows() if f["reason"] == "registry_only")
        check(refused == sorted((ip, "client", "a/default") for ip in (*STRANGERS, *other)), f"recorded: {refused}")
        one = json.loads(lab.ctl("explain", "-o", "json", "a/client", f"{other[0]}:80"))
        check((one["verdict"], one["kind"], one["policy"]) == ("denied", "Sidecar", "a/default") and one["file"] and one["line"],
              f"explain names it: {one}")
        # One host only, of another namespace, by its name.
        lab.apply(texts=[sidecar("default", "b/web.b.svc.cluster.local", "REGISTRY_ONLY")])
        for ip in other:
            reached(lab, "a/client", ip)
        for ip in own:
            fails(lab, "a/client", ip, REFUSED)
        lab.ctl("delete", "sidecars", "default", "-n", "a")
        for ip in own + other:
            reached(lab, "a/client", ip)
        for ip in STRANGERS:
            fails(lab, "a/client", ip, NOBODY)
        lab.apply(texts=[sidecar("default", "~/*", "REGISTRY_ONLY")])
        for ip in own + other:
            fails(lab, "a/client", ip, REFUSED)
            reached(lab, "b/web-0", ip)


@test
def a_sidecar_hides_and_refuses():
    hides_and_refuses(APP)


@test
def a_sidecar_hides_most():
    hides_and_refuses(APP + SPARE)


main()
