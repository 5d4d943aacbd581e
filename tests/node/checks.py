#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Active checks: meshd asks the workloads of a WorkloadGroup, and who fails gets no connections until it answers again; over a restart
too, and only for as long as the group has a probe."""
import contextlib
import subprocess
import time

from labs import WEB, Lab
from suite import check, main, test

SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec:
  hosts: [web.example.org]
  addresses: ["%s"]
  ports: [{number: 80, name: tcp, protocol: TCP, targetPort: 8080}]
  resolution: STATIC
  workloadSelector: {labels: {app: web-entry}}
"""
ENTRY = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: %s, namespace: default, annotations: {istio.io/autoRegistrationGroup: web}}
spec: {address: "%s", labels: {app: web-entry}}
"""
GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: web, namespace: default}
spec:
  template: {}
  %s
"""
TIMES = "periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 2, successThreshold: 1"
HTTP = "probe: {httpGet: {path: /health, port: 9000}, %s}" % TIMES
TCP = "probe: {tcpSocket: {port: 9000}, %s}" % TIMES
VIPS = ("10.97.0.1", "fd97::1")
# Answers with the status that was said last; `close` and `open` are about its port.
HEALTH = r"""
import http.server, socket, sys, threading
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(status if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *_):
        pass
def open_port():
    s = Server(("::", 9000), Handler)
    threading.Thread(target=s.serve_forever, args=(0.02,), daemon=True).start()
    return s
status = 200
server = open_port()
print("ok", flush=True)
for order in sys.stdin:
    word = order.strip()
    if word == "close":
        server.shutdown()
        server.server_close()
    elif word == "open":
        server = open_port()
    else:
        status = int(word)
    print("ok", flush=True)
"""


class Health:
    def __init__(self, lab, pod):
        self.process = lab.popen(pod, "python3", "-c", HEALTH, stdin=subprocess.PIPE)
        self.done()

    def done(self):
        check(self.process.stdout.readline().strip() == "ok", "the pod's health server answers")

    def tell(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        self.done()

    def close(self):
        self.process.communicate(timeout=10)


@contextlib.contextmanager
def checked(family, probe):
    with Lab(texts=[WEB]) as lab:
        healths = [Health(lab, f"web-{i}") for i in range(2)]
        try:
            lab.mesh()
            entries = [ENTRY % (f"web-{i}", lab.pod(f"web-{i}")["ips"][family]) for i in range(2)]
            lab.apply(texts=[SERVICE % VIPS[family], *entries, GROUP % probe])
            yield lab, healths
        finally:
            for health in healths:
                health.close()


def state(lab, pod):
    """Of the pod's endpoint: state and why not."""
    found = [e for e in lab.endpoints("web.example.org") if e["ip"] in lab.pod(pod)["ips"] and e["protocol"] == "tcp"]
    check(len(found) == 1, f"one endpoint of {pod}: {found}")
    return found[0]["state"], found[0]["why"], found[0]["check"]


def becomes(lab, pod, want, why, said):
    deadline = time.monotonic() + 20
    while (got := state(lab, pod)) != (want, why, said) and time.monotonic() < deadline:
        time.sleep(0.1)
    check(got == (want, why, said), f"{pod} becomes {want} ({why}, {said}): {got}")


def goes_to(lab, vip, *pods):
    """All connections go to these, and, with less than one in 2^60 of a chance to miss one, to each of them."""
    got = lab.conn("client", vip, 80, n=64)
    check(got["answered"] == 64 and set(got["pods"]) == set(pods), f"connections go to {pods}: {got}")


def fail(lab, vip, healths, word, said):
    becomes(lab, "web-0", "healthy", None, "status 200" if said.startswith("status") else "connected")
    becomes(lab, "web-1", "healthy", None, "status 200" if said.startswith("status") else "connected")
    goes_to(lab, vip, "web-0", "web-1")
    healths[0].tell(word)
    becomes(lab, "web-0", "unhealthy", f"check: {said}", said)
    goes_to(lab, vip, "web-1")


@test
def by_http():
    with checked(0, HTTP) as (lab, healths):
        fail(lab, VIPS[0], healths, "503", "status 503")
        healths[0].tell("204")
        becomes(lab, "web-0", "healthy", None, "status 204")
        goes_to(lab, VIPS[0], "web-0", "web-1")


@test
def by_connecting():
    with checked(1, TCP) as (lab, healths):
        fail(lab, VIPS[1], healths, "close", "Connection refused")
        healths[0].tell("open")
        becomes(lab, "web-0", "healthy", None, "connected")
        goes_to(lab, VIPS[1], "web-0", "web-1")


@test
def over_a_restart_and_a_change_of_rules():
    with checked(0, HTTP) as (lab, healths):
        fail(lab, VIPS[0], healths, "500", "status 500")
        lab.tool("unmesh")
        goes_to(lab, VIPS[0], "web-1")
        lab.mesh()
        goes_to(lab, VIPS[0], "web-1")
        becomes(lab, "web-0", "unhealthy", "check: status 500", "status 500")
        # Another destination that leads to the workload: it fails there from the first moment on.
        lab.apply(texts=[SERVICE.replace("name: web,", "name: again,").replace("web.example.org", "again.example.org") % "10.97.0.2"])
        goes_to(lab, "10.97.0.2", "web-1")
        # All fail: refused, and said so.
        healths[1].tell("500")
        becomes(lab, "web-1", "unhealthy", "check: status 500", "status 500")
        got = lab.conn("client", VIPS[0], 80, n=4)
        check(got["errors"] == {"ECONNREFUSED": 4}, f"nobody is left: {got}")
        # Nobody is asked any more.
        lab.apply(texts=[GROUP % ""])
        becomes(lab, "web-0", "healthy", None, None)
        becomes(lab, "web-1", "healthy", None, None)
        goes_to(lab, VIPS[0], "web-0", "web-1")


main()
