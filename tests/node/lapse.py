#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Connections whose time is up: idle for longer than their DestinationRule allows, open for longer, or left on an endpoint that drains or
is gone. Each ends in time, none before it, and none of a neighbour's; their records say why."""
import contextlib
import subprocess
import time

from labs import TC_ONLY, WEB, Lab
from suite import check, main, test

APP = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: t, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {selector: {app: web}, ports: [{name: t, port: 80, targetPort: 8080}]}
---
""" + WEB
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec:
  host: web
  trafficPolicy:
    connectionPool: {tcp: {%s}}
"""
# One connection. `talk`: a line there and back; `wait S`: how it ends, or `open` after S, and the seconds since it was opened and since
# its last line.
CLIENT = r"""
import errno, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
opened = last = time.monotonic()
s.sendall(b"first\n")
print(s.recv(4096).decode().split()[0], flush=True)
for order in sys.stdin:
    word, _, number = order.strip().partition(" ")
    try:
        s.settimeout(float(number or 5))
        if word == "talk":
            s.sendall(b"hello\n")
            last = time.monotonic()
            print(s.recv(4096).decode().split()[0], flush=True)
            continue
        got = "end" if not s.recv(65536) else "data"
    except TimeoutError:
        got = "open"
    except OSError as e:
        got = errno.errorcode.get(e.errno, type(e).__name__)
    print(got, time.monotonic() - opened, time.monotonic() - last, flush=True)
"""
# Programs at the links alone end a connection at its next packet.
ENDED = {"ECONNRESET", "ECONNABORTED"}


class Talk:
    def __init__(self, lab, address, port):
        self.process = lab.popen("client", "python3", "-c", CLIENT, address, port, stdin=subprocess.PIPE)
        self.where = self.process.stdout.readline().strip()

    def order(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def talk(self):
        got = self.order("talk")
        check(len(got) == 1, f"a line comes back: {got}")
        return got[0]

    def lasts(self, seconds):
        got = self.order(f"wait {seconds}")
        check(got[0] == "open", f"it is open after {seconds} s: {got}")

    def ends(self, within):
        """Seconds since it was opened, and since its last line."""
        if TC_ONLY:
            time.sleep(within) # what only the links see ends at its next packet, which must not come before
        got = self.order("talk" if TC_ONLY else f"wait {within}")
        check(got and got[0] in ENDED, f"it ends within {within} s: {got}")
        return float(got[1]), float(got[2])

    def close(self):
        self.process.communicate(timeout=10)


@contextlib.contextmanager
def talks(lab, *services):
    all_of = [Talk(lab, lab.service(name)["ips"][family], 80) for name, family in services]
    try:
        yield all_of
    finally:
        for talk in all_of:
            talk.close()


def reasons(lab, service="web"):
    return sorted(f["reason"] for f in lab.flows() if f["dialled"]["service"] == service and f["closed"])


@test
def idle_ones_end_and_busy_ones_do_not():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        lab.apply(texts=[RULE % "idleTimeout: 4s"])
        with talks(lab, ("web", 0), ("web", 1), ("other", 0), ("web", 0)) as (four, six, other, busy):
            until = time.monotonic() + 6
            while time.monotonic() < until:
                time.sleep(0.3)
                busy.talk()
            # By now those that were idle for 6 s are over, and what was not, or is of another service, is not.
            for talk in (four, six):
                talk.ends(0.2)
            busy.talk()
            other.talk()
            check(reasons(lab) == ["idle_timeout"] * 2, f"records: {reasons(lab)}")
            after = busy.ends(7)[1]
            check(TC_ONLY or 4 <= after < 6, f"the busy one ends 4 s after its last line: {after}")
            other.talk()


@test
def nobody_lasts_longer_than_allowed():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        lab.apply(texts=[RULE % "maxConnectionDuration: 3s"])
        began = time.monotonic()
        with talks(lab, ("web", 0), ("web", 1), ("other", 0)) as (four, six, other):
            while time.monotonic() < began + 2.2:
                for talk in (four, six, other):
                    talk.talk()
                time.sleep(0.1)
            for talk in (four, six):
                after = talk.ends(5)[0]
                check(TC_ONLY or 3 <= after < 5, f"after 3 s: {after}")
            other.talk()
            check(reasons(lab) == ["max_duration"] * 2, f"records: {reasons(lab)}")


def without(lab, pod):
    """Rules under which the pod is none of the Service's."""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: default, labels: {{app: none}}}}
spec: {{containers: [{{name: c}}]}}
status: {{podIPs: [{", ".join('{ip: "%s"}' % ip for ip in lab.pod(pod)["ips"])}], podIP: {lab.pod(pod)["ips"][0]}}}
"""


def on_both(lab, n=8):
    """Connections, by the endpoint that they went to."""
    found = {"web-0": [], "web-1": []}
    for _ in range(4 * n):
        talk = Talk(lab, lab.service("web")["ips"][0], 80)
        if len(found[talk.where]) < 2:
            found[talk.where].append(talk)
        else:
            talk.close()
        if all(len(talks_) == 2 for talks_ in found.values()):
            return found
    raise AssertionError(f"connections went to {found}")


def leave(options, expect):
    with Lab(texts=[APP]) as lab:
        lab.mesh(*options)
        found = on_both(lab)
        began = time.monotonic()
        lab.apply(texts=[without(lab, "web-0")])
        expect(lab, found["web-0"], began)
        for talk in found["web-1"]:
            check(talk.talk() == "web-1", "the other endpoint's go on")
        for talk in sum(found.values(), []):
            talk.close()


@test
def connections_of_an_endpoint_that_is_gone_stay():
    def expect(lab, of_it, _):
        time.sleep(3)
        for talk in of_it:
            check(talk.talk() == "web-0", "it goes on")
        check(lab.conn("client", lab.service("web")["ips"][0], 80, n=50)["pods"] == {"web-1": 50}, "it gets no new ones")
        gone = [e for e in lab.endpoints("web") if e["state"] == "gone"]
        check([e["active"] for e in gone] == [2] and gone[0]["ip"] in lab.pod("web-0")["ips"], f"it is listed: {gone}")
    leave([], expect)


@test
def or_for_as_long_as_they_may():
    def expect(lab, of_it, began):
        for talk in of_it:
            talk.talk()
        check(time.monotonic() < began + 2, "they go on first")
        for talk in of_it:
            talk.ends(4)
        check(TC_ONLY or 2 <= time.monotonic() - began < 4.5, f"after 2 s: {time.monotonic() - began}")
        check(reasons(lab).count("drained") == 2, f"records: {reasons(lab)}")
        check(not [e for e in lab.endpoints("web") if e["state"] == "gone"], "nothing is left of it")
    leave(["--drain-timeout", "2"], expect)


ANNOTATED = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default, annotations: {tulle.dev/%s}}
spec: {host: web}
"""


def annotated(annotation, options, expect):
    """Of two services with the same endpoints one has the annotation. expect: of its connections, and of the other's."""
    with Lab(texts=[APP]) as lab:
        lab.mesh(*options)
        lab.apply(texts=[ANNOTATED % annotation])
        own = on_both(lab)
        other = [Talk(lab, lab.service("other")["ips"][0], 80) for _ in range(4)]
        began = time.monotonic()
        lab.apply(texts=[without(lab, "web-0")])
        expect([talk for talk in own["web-0"]], [talk for talk in other if talk.where == "web-0"], began)
        for talk in sum(own.values(), []) + other:
            talk.close()


@test
def a_service_may_have_a_time_of_its_own():
    def expect(own, other, began):
        for talk in own:
            talk.ends(4)
        check(TC_ONLY or 2 <= time.monotonic() - began < 4.5, f"after 2 s: {time.monotonic() - began}")
        check(other and all(talk.talk() == "web-0" for talk in other), "those of the other service go on")
    annotated("drain-timeout: 2s", [], expect)


@test
def or_keep_what_others_lose():
    def expect(own, other, _):
        for talk in other:
            talk.ends(3)
        check(other and all(talk.talk() == "web-0" for talk in own), "its own go on")
    annotated("on-endpoint-removal: keep", ["--on-endpoint-removal", "reset"], expect)


@test
def or_are_reset():
    def expect(lab, of_it, began):
        for talk in of_it:
            talk.ends(3)
        check(TC_ONLY or time.monotonic() - began < 10, f"soon: {time.monotonic() - began}")
        check(reasons(lab).count("drained") == 2, f"records: {reasons(lab)}")
    leave(["--on-endpoint-removal", "reset"], expect)


main()
