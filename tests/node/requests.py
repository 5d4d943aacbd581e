#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Requests of a pod, routed by what is in them, all the way: rules, kernel, meshl7, the servers, and back; with the parser killed, replaced and
down, and with rules that change."""
import contextlib
import json
import os
import re
import signal
import subprocess
import time

from labs import SHAPE, WEB, Lab
from suite import check, main, test

SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIP: 10.96.7.7, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - name: teapot
    match: [{uri: {prefix: /tea}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: web}}]
    headers: {response: {set: {x-route: jason}}}
  - route: [{destination: {host: web}}]
    headers: {response: {set: {x-route: %s}}}
"""
DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-this-one}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{from: [{source: {ipBlocks: ["%s"]}}]}]
"""
PARSER = ("--parser", "on", "--parser-workers", "2")


def ask(lab, *options, path="/", ok=(0,)):
    """(status, x-route, body) of what the client is answered."""
    out = lab.exec("client", "curl", "-s", "-m", "10", "-o", "-", "-w", "\n%{http_code} %header{x-route}", *options,
                   f"http://10.96.7.7{path}", ok=ok)
    body, _, last = out.rpartition("\n")
    status, _, route = last.partition(" ")
    return int(status), route, body


@test
def requests_go_where_their_bytes_say():
    with Lab(texts=[WEB, SERVICE], shape=SHAPE) as lab:
        log = lab.path("access.log")
        lab.mesh(*PARSER, "--access-log", log)
        lab.apply(texts=[ROUTES % "rest"])
        lab.serving()
        own = lab.pod("client")["ips"]
        status, route, body = ask(lab)
        check((status, route) == (200, "rest") and json.loads(body)["peer"] in own, f"{status} {route} {body}")
        check(ask(lab, "-H", "end-user: jason")[:2] == (200, "jason"), "it is not routed by the field")
        check(ask(lab, path="/tea")[::2] == (418, "short and stout"), "it is not answered directly")
        pods = {json.loads(ask(lab)[2])["pod"] for _ in range(30)}
        check(len(pods) == 2, f"all went to {pods}")
        # Rules hold for the next request as soon as they are applied.
        for word in ("one", "two", "three"):
            lab.apply(texts=[ROUTES % word])
            check(ask(lab)[1] == word, "rules do not hold when apply is done")
        metrics = lab.ctl("metrics")
        check(re.search(r'istio_requests_total{.*source_workload="client".*destination_service_name="web".*response_code="418".*} 1\n',
                        metrics), metrics)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            with open(log, encoding="utf-8") as f:
                text = f.read()
            if text.count("\n") == 36:
                break
            time.sleep(0.05)
        check(text.count("\n") == 36 and ' "GET /tea HTTP/1.1" 418 ' in text, text)
        # What meshl7 keeps to the servers is no way round a policy that has come since.
        lab.apply(texts=[DENY % own[0]])
        got = [ask(lab)[0] for _ in range(8)]
        check(got == [503] * 8, f"a policy forbids it: {got}")


def kill_until_down(lab):
    end = time.monotonic() + 20
    while not (p := lab.parser())["state"].startswith("down: "):
        check(time.monotonic() < end, f"it does not give up: {p}")
        # It may be dead, and meshd not have heard of it yet.
        with contextlib.suppress(ProcessLookupError):
            if p["pid"]:
                os.kill(p["pid"], signal.SIGKILL)


@test
def nobody_notices_who_serves():
    with Lab(texts=[WEB, SERVICE], shape=SHAPE) as lab:
        lab.mesh(*PARSER)
        lab.apply(texts=[ROUTES % "rest"])
        pid = lab.serving()
        loop = "while read -r line; do curl -s -m 10 -o /dev/null -w '%{http_code}\\n' http://10.96.7.7/; done"
        with lab.popen("client", "sh", "-c", loop, stdin=subprocess.PIPE) as client:
            def some(nr=20):
                client.stdin.write("\n" * nr)
                client.stdin.flush()

            some()
            for _ in range(2):
                check(client.stdout.readline() == "200\n", "no answer")
                lab.ctl("parser", "restart")
                pid = lab.serving(pid)
                some()
            client.stdin.close()
            answers = client.stdout.read().split()
        check(answers == ["200"] * 58, f"{answers}")
        kill_until_down(lab)
        check(ask(lab, ok=(7, ))[0] == 0, "it is answered without a parser")
        lab.ctl("parser", "restart")
        check(ask(lab)[1] == "rest", "it is not back")
        lab.apply(texts=[(ROUTES % "rest").replace("{name: web}", '{name: web, annotations: {tulle.dev/on-parser-down: l4}}', 1)])
        kill_until_down(lab)
        check(ask(lab)[:2] == (200, ""), "without a parser it is not balanced at L4")


if __name__ == "__main__":
    main()
