#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""HTTP by request, from end to end: rule files as upstream ships them, curl and wrk as clients, and what they see while rules flip and
processes of meshl7 come and go. LONG (TULLE_TEST_LONG=1): 1,000 flips and 100 kills."""
import json
import os
import re
import shutil
import signal
import subprocess
import time

from labs import Lab, sample
from stats import split_error
from suite import Skip, check, main, test

LONG = os.environ.get("TULLE_TEST_LONG") == "1"
FLIPS, KILLS, RESTARTS = (1000, 100, 20) if LONG else (40, 3, 3)
RULES = ("bookinfo", "networking")
JASON = ("-H", "end-user: jason")


class Seen:
    """What curl tells of one request."""

    def __init__(self, text):
        self.body, _, last = text.rpartition("\n")
        code, seconds = last.split()
        self.code, self.seconds = int(code), float(seconds)

    @property
    def answer(self):
        return json.loads(self.body)

    @property
    def workload(self):
        return re.sub(r"-\d+$", "", self.answer["pod"])


def curl(lab, pod, url, *options):
    return Seen(lab.exec(pod, "curl", "-s", "-m", "20", "-w", r"\n%{http_code} %{time_total}", *options, url, ok=None))


def addresses(service):
    four, six = service["ips"]
    return four, f"[{six}]"


def bookinfo():
    files = [sample("bookinfo", "platform", "kube", "bookinfo.yaml"), sample("curl", "curl.yaml")]
    return Lab(*files), sample(*RULES, "destination-rule-all.yaml"), sample(*RULES, "virtual-service-all-v1.yaml")


def header_routes(lab):
    for name, jason, others in (("test-v2", "reviews-v2", "reviews-v1"), ("jason-v2-v3", "reviews-v2", "reviews-v3")):
        lab.apply(sample(*RULES, f"virtual-service-reviews-{name}.yaml"))
        for address in addresses(lab.service("reviews")):
            url = f"http://{address}:9080/reviews/0"
            seen = curl(lab, "productpage-v1", url, *JASON)
            check(seen.code == 200 and seen.workload == jason, f"{name}, jason: {seen.code} {seen.body}")
            # The server sees its client's own address, whoever read the request.
            check(seen.answer["peer"] in lab.pod("productpage-v1")["ips"], seen.body)
            for options in ((), ("-H", "end-user: jasons"), ("-H", "end-user: Jason")):
                seen = curl(lab, "productpage-v1", url, *options)
                check(seen.code == 200 and seen.workload == others, f"{name}, {options}: {seen.code} {seen.body}")


def faults(lab):
    url = f"http://{lab.service('ratings')['ips'][0]}:9080/ratings/0"
    lab.apply(sample(*RULES, "virtual-service-ratings-test-delay.yaml"))
    slow, fast = curl(lab, "productpage-v1", url, *JASON), curl(lab, "productpage-v1", url)
    check(slow.code == fast.code == 200, f"{slow.code} {fast.code}")
    check(slow.seconds >= 7 and fast.seconds < 7, f"{slow.seconds} s with the delay, {fast.seconds} s without")
    lab.apply(sample(*RULES, "virtual-service-ratings-test-abort.yaml"))
    bad, good = curl(lab, "productpage-v1", url, *JASON), curl(lab, "productpage-v1", url)
    check(bad.code == 500 and good.code == 200, f"{bad.code} {bad.body}, {good.code}")


def weights_by_request(lab):
    lab.tool("unmesh")
    lab.mesh("--http-weights", "request")
    lab.apply(sample(*RULES, "virtual-service-reviews-80-20.yaml"))
    n = 2000
    out = lab.exec("productpage-v1", "curl", "-s", f"http://{lab.service('reviews')['ips'][0]}:9080/reviews/[1-{n}]",
                   "-w", r"\n%{num_connects} new\n")
    counts = {}
    for pod in re.findall(r'"pod":"(reviews-v\d)-\d+"', out):
        counts[pod] = counts.get(pod, 0) + 1
    check(sum(map(int, re.findall(r"^(\d+) new$", out, re.M))) == 1, "more than one connection")
    wrong = split_error(counts, {"reviews-v1": 80, "reviews-v2": 20})
    check(sum(counts.values()) == n and not wrong, f"{wrong} {counts}")


POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: read}
spec:
  selector: {matchLabels: {app: details}}
  rules:
  - from: [{source: {serviceAccounts: [bookinfo-productpage]}}]
    to: [{operation: {methods: [GET], paths: ["/details/{*}", "/static*"], notHosts: ["*.EXAMPLE"]}}]
  - to: [{operation: {methods: [HEAD]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-debug}
spec:
  selector: {matchLabels: {app: details}}
  action: DENY
  rules:
  - to: [{operation: {paths: ["/static/secret"]}}]
  - when: [{key: "request.headers[X-Debug]", values: ["*"]}]
"""
# Who asks, and what the answer is to what.
ASKED = (
    ("productpage-v1", (
        (200, "/details/1"),
        (200, "/details/1?x=/static/secret"),
        (200, "/static/a/b", "-H", "Host: details:9080"),
        (200, "/details/1", "-I"),
        (200, "/x", "-I"),
        (403, "/details/1/2"),
        (403, "/details/1", "-X", "POST"),
        (403, "/details/1", "-H", "Host: other.example:9080"),
        (403, "/static/secret"),
        (403, "/static/x/%2e./secret", "--path-as-is"),
        (403, "/details/1", "-H", "X-Debug: 0"),
        (403, "/x", "-I", "-H", "x-debug: 0"))),
    ("ratings-v1", ((403, "/details/1"), (200, "/details/1", "-I"))),
)


def ask(lab, pod, requests):
    """Codes and bodies of requests, each the options of a curl."""
    words = []
    for request in requests:
        words += ["--next", "-s", "-m", "10", "-w", r"\n%{http_code}\n;;\n", *request]
    answers = lab.exec(pod, "curl", *words[1:], ok=None).split("\n;;\n")[:-1]
    check(len(answers) == len(requests), f"{len(answers)} answers to {len(requests)} requests")
    return [(int(code), body) for body, _, code in (answer.rpartition("\n") for answer in answers)]


def policies(lab):
    lab.apply(texts=[POLICIES])
    for pod, rows in ASKED:
        asked = [(code, [f"http://{address}:9080{path}", *options]) for code, path, *options in rows
                 for address in addresses(lab.service("details"))]
        for (code, request), (seen, body) in zip(asked, ask(lab, pod, [request for _, request in asked])):
            check(seen == code, f"{pod} {request}: {seen} {body}")
            check(code != 403 or "-I" in request or body == "RBAC: access denied", body)
    # A dial to the server itself is decided without a look at what it asks for.
    hosts = addresses(lab.pod("details-v1"))
    for seen, body in ask(lab, "productpage-v1", [[f"http://{host}:9080/details/1", "-I"] for host in hosts]):
        check(seen == 0, f"past the service: {seen} {body}")


@test
def bookinfo_as_upstream_ships_it():
    lab, subsets, all_v1 = bookinfo()
    with lab:
        lab.mesh()
        check(lab.parser()["state"] == "not needed by the rules", f"{lab.status()['parser']}")
        lab.apply(subsets, all_v1)
        check(not lab.parser()["pid"], "a parser runs that no rule needs")
        header_routes(lab)
        faults(lab)
        policies(lab)
        paths = {f["path"] for f in lab.flows() if (f["dialled"]["service"] or "").startswith("ratings")}
        check(paths == {"l7"}, f"paths of flows: {paths}")
        weights_by_request(lab)


TIMEOUT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http:
  - route: [{destination: {host: silent, port: {number: 9999}}}]
    timeout: 0.5s
"""
SILENT = """
apiVersion: v1
kind: Service
metadata: {name: silent}
spec:
  selector: {app: silent}
  ports: [{name: http, port: 9999}]
---
apiVersion: v1
kind: Pod
metadata: {name: silent, labels: {app: silent}}
spec: {containers: [{name: c}]}
"""
MIRROR = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews, subset: v1}, weight: 100}]
    mirror: {host: silent, port: {number: 9999}}
    mirrorPercentage: {value: 100.0}
"""
DELEGATES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /reviews/9}}]
    delegate: {name: nine}
  - route: [{destination: {host: reviews, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: nine}
spec:
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v3}}]
  - route: [{destination: {host: reviews, subset: v2}}]
"""
EDGE = """
apiVersion: v1
kind: Service
metadata: {name: edge}
spec:
  selector: {app: silent}
  ports: [{name: http, port: 80}]
"""
TO_HTTPS = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {app: silent}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"], tls: {httpsRedirect: true}}]
"""
# Accepts, prints the first line and the Host of each request, and never answers.
LISTEN = r"""
import socket, re
s = socket.create_server(("::", 9999), family=socket.AF_INET6, dualstack_ipv6=True)
print("listens", flush=True)
keep = []
while True:
    c, _ = s.accept()
    keep.append(c)
    text = c.recv(65536).decode()
    print(text.split("\r\n")[0], re.search(r"(?im)^host: *(\S+)", text)[1], flush=True)
"""


def delegates(lab, url):
    lab.apply(texts=[DELEGATES])
    for path, options, workload in (("/1", (), "reviews-v1"), ("/9", (), "reviews-v2"), ("/9", JASON, "reviews-v3")):
        seen = curl(lab, "productpage-v1", url + path, *options)
        check(seen.code == 200 and seen.workload == workload, f"{path}, {options}: {seen.code} {seen.body}")


def to_https(lab):
    lab.apply(texts=[TO_HTTPS])
    url = f"http://{lab.service('edge')['ips'][0]}/a?b"
    out = lab.exec("productpage-v1", "curl", "-s", "-m", "20", "-w", "%{http_code} %{redirect_url}", "-H", "Host: shop.test", url)
    check(out == "301 https://shop.test/a?b", out)


@test
def time_runs_out_and_a_mirror_gets_a_copy():
    files = [sample("bookinfo", "platform", "kube", "bookinfo.yaml")]
    with Lab(*files, texts=[SILENT, EDGE]) as lab:
        lab.mesh()
        lab.apply(sample(*RULES, "destination-rule-all.yaml"), texts=[TIMEOUT, MIRROR])
        with lab.popen("silent", "python3", "-u", "-c", LISTEN) as listener:
            try:
                check(listener.stdout.readline() == "listens\n", "it does not listen")
                seen = curl(lab, "productpage-v1", f"http://{lab.service('ratings')['ips'][0]}:9080/ratings/7")
                check(seen.code == 504 and 0.5 <= seen.seconds < 5, f"{seen.code} after {seen.seconds} s")
                check(listener.stdout.readline().startswith("GET /ratings/7 HTTP/1.1 "), "it was not asked")
                address = lab.service("reviews")["ips"][0]
                seen = curl(lab, "productpage-v1", f"http://{address}:9080/reviews/8")
                check(seen.code == 200 and seen.workload == "reviews-v1", f"{seen.code} {seen.body}")
                line = listener.stdout.readline()
                check(line.startswith(f"GET /reviews/8 HTTP/1.1 {address}-shadow"), f"the copy: {line}")
            finally:
                listener.kill()
        delegates(lab, f"http://{address}:9080/reviews")
        to_https(lab)


FLIP = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - match: [{headers: {x-flip: {exact: "%d"}}}]
    route: [{destination: {host: web, subset: v%d}}]
  - match: [{uri: {prefix: /}}]
    route: [{destination: {host: web, subset: v%d}}]
"""
WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
{apiVersion: v1, kind: Pod, metadata: {name: web-v1, labels: {app: web, version: v1}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-v2, labels: {app: web, version: v2}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {containers: [{name: c}]}}
"""
SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""
CONNECTIONS = 8


class Wrk:
    """wrk in a pod until it is told to end; what it saw go wrong."""

    def __init__(self, lab, url, seconds):
        self.process = lab.popen("client", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", url)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        text = self.process.communicate(timeout=60)[0]
        done = re.search(r"(\d+) requests in", text)
        check(done, f"wrk says: {text}")
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        return int(done[1]), sum(map(int, errors.groups())) if errors else 0, int(bad[1]) if bad else 0


# For each line, which says when the parser was killed: how long it took from then on until somebody new was served.
PROBE = r"""
import socket, sys, time
for line in sys.stdin:
    while True:
        try:
            with socket.create_connection((sys.argv[1], 80), 20) as s:
                s.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
                if s.recv(100).startswith(b"HTTP/1.1 200 "):
                    break
        except OSError:
            pass
    print(time.monotonic() - float(line), flush=True)
"""


def accepted(lab):
    return lab.parser()["accepted"]


def flip(lab):
    paths = [lab.file(FLIP % (i, 1 + i % 2, 2 - i % 2)) for i in range(2)]
    for i in range(FLIPS):
        lab.ctl("apply", "-f", paths[i % 2])


def restart(lab):
    for _ in range(RESTARTS):
        pid = lab.serving()
        lab.ctl("parser", "restart")
        lab.serving(pid)


def kill(lab):
    times = []
    with lab.popen("client", "python3", "-c", PROBE, lab.service("web")["ips"][0], stdin=subprocess.PIPE) as probe:
        for i in range(KILLS):
            # Five ends within ten seconds are too many: then it would not be started again for a while.
            if LONG and i:
                time.sleep(2.6)
            pid = lab.serving()
            before = accepted(lab)
            begin = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            probe.stdin.write(f"{begin}\n")
            probe.stdin.flush()
            times.append(1000 * float(probe.stdout.readline()))
            lab.serving(pid)
            end = time.monotonic() + 20
            while accepted(lab) < before + CONNECTIONS + 1 and time.monotonic() < end:
                time.sleep(0.01)
        probe.stdin.close()
    times.sort()
    print(f"served again after {times[0]:.0f} to {times[-1]:.0f} ms, half within {times[len(times) // 2]:.0f}, nine of ten within "
          f"{times[len(times) * 9 // 10]:.0f}")
    return times[-1]


@test
def rules_flip_and_processes_come_and_go():
    if not shutil.which("wrk"):
        raise Skip("no wrk here")
    with Lab(texts=[WEB]) as lab:
        lab.mesh()
        lab.apply(texts=[SUBSETS, FLIP % (0, 1, 2)])
        url = f"http://{lab.service('web')['ips'][0]}/"
        lab.serving()
        for what, act, lost in (("flips", flip, 0), ("hot restarts", restart, 0), ("kills", kill, KILLS * CONNECTIONS)):
            wrk = Wrk(lab, url, 3000)
            slowest = act(lab) or 0
            done, errors, bad = wrk.end()
            print(f"{what}: {done} requests, {errors} errors, {bad} other answers")
            check(done > 100, f"{what}: {done} requests")
            check(errors + bad <= lost, f"{what}: of {done} requests {errors} failed and {bad} got another answer")
            check(not LONG or slowest < 200, f"{what}: nobody was served for {slowest:.0f} ms")


main()
