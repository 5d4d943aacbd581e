#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""on-policy-change: cut. A policy that comes ends the open connections that it forbids, at once, and no others: to a service and to a
pod's own address, over IPv4 and IPv6, whether the client's or the server's node knows the policy, and datagrams as far as they are followed."""
import contextlib
import subprocess

from labs import SHAPE, TC_ONLY, Lab
from suite import Skip, check, main, test

APP = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: t, port: 80, targetPort: 8080}, {name: u, port: 80, targetPort: 8080, protocol: UDP}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: web}}
    spec: {serviceAccountName: web, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: good, labels: {app: client}}, spec: {serviceAccountName: good, containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: bad, labels: {app: client}}, spec: {serviceAccountName: bad, containers: [{name: c}]}}
"""
FAR = """
{apiVersion: v1, kind: Pod, metadata: {name: far-good}, spec: {serviceAccountName: good, containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: far-bad}, spec: {serviceAccountName: bad, containers: [{name: c}]}}
"""
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-bad, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/bad]}}]}]
"""
# One connection. `talk N`: N lines there and back, each answer checked, then their number; `call`: one, with less
# patience; `wait`: how the connection ends, within 5 s.
CLIENT = r"""
import errno, socket, sys
address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((address, port))
serial = 0
def talk():
    global serial
    serial += 1
    line = b"line-%d" % serial + b"x" * (serial * 37 % 900)
    s.sendall(line + (b"\n" if kind == "tcp" else b""))
    got = b""
    while not got.endswith(line + b"\n" if kind == "tcp" else line):
        part = s.recv(65536)
        if not part:
            return False
        got += part
    return True
for order in sys.stdin:
    word, _, number = order.strip().partition(" ")
    try:
        if word == "call":
            s.settimeout(1)
            word, number = "talk", "1"
        if word == "talk":
            print(sum(talk() for _ in range(int(number))), flush=True)
        else:
            print("end" if not s.recv(65536) else "data", flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, type(e).__name__), flush=True)
"""
# Many connections; how many of them are reset, within 10 s in all.
MANY = r"""
import errno, socket, sys, time
sockets = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(int(sys.argv[3]))]
print(len(sockets), flush=True)
sys.stdin.readline()
ended, until = 0, time.monotonic() + 10
for s in sockets:
    s.settimeout(max(until - time.monotonic(), 0.001))
    try:
        s.recv(1)
    except OSError as e:
        ended += e.errno in (errno.ECONNRESET, errno.ECONNABORTED)
print(ended, flush=True)
"""
ENDED = {"ECONNRESET", "ECONNABORTED"}


class Talk:
    def __init__(self, lab, pod, address, port, kind="tcp"):
        self.what = f"{pod} to {address}:{port}/{kind}"
        self.process = lab.popen(pod, "python3", "-c", CLIENT, address, port, kind, stdin=subprocess.PIPE)

    def order(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def talks(self, n=5):
        got = self.order(f"talk {n}")
        check(got == str(n), f"{self.what} goes on: {got}")

    def is_cut(self):
        got = self.order("wait")
        check(got in ENDED, f"{self.what} is cut: {got}")

    def close(self):
        self.process.communicate(timeout=10)


@contextlib.contextmanager
def talks(*all_of):
    try:
        for talk in all_of:
            talk.talks()
        yield all_of
    finally:
        for talk in all_of:
            talk.close()


def reach(lab, pod, server, kind="tcp"):
    """To the service and to the pod itself, in both families."""
    ways = [(ip, 80) for ip in server.service("web")["ips"]] + [(ip, 8080) for ip in server.pod("web-0")["ips"]]
    return [Talk(lab, pod, ip, port, kind) for ip, port in ways]


def records(lab, pod):
    return sorted((f["dialled"]["ip"], f["reason"], f["policy"], f["closed"] is not None)
                  for f in lab.flows() if f["client"]["pod"] == pod and f["protocol"] == "tcp")


@test
def a_policy_that_comes_cuts_what_it_forbids():
    with Lab(texts=[APP]) as lab:
        lab.mesh("--on-policy-change", "cut")
        # What the guarded pod itself has dialled is no connection to it, whatever its own policy says of the other end.
        with talks(*reach(lab, "good", lab)) as good, talks(*reach(lab, "bad", lab)) as bad, \
                talks(Talk(lab, "web-0", lab.pod("web-0")["ips"][0], 8080)) as own:
            lab.apply(texts=[POLICY])
            for talk in bad:
                talk.is_cut()
            for talk in (*good, *own):
                talk.talks(50)
            cut = records(lab, "bad")
            services, pods = lab.service("web")["ips"], lab.pod("web-0")["ips"]
            want = [(ip, "cut", "default/not-bad", True) for ip in services + pods]
            check(cut == sorted(want), f"each has one record, which names the policy: {cut}")
            check(not [f for f in records(lab, "good") if f[1] == "cut"], "and nobody else's does")
            for ip, port in ((services[0], 80), (pods[1], 8080)):
                seen = lab.conn("bad", ip, port)
                # By connect() itself, which had seen before that nobody has to be asked.
                check(seen["failed"] == 1 and (TC_ONLY or set(seen["errors"]) == {"EPERM"}), f"nor does it get in again: {seen}")
            # Gone again, and back: a new connection meets the same.
            lab.ctl("delete", "authorizationpolicies", "not-bad")
            with talks(*reach(lab, "bad", lab)) as again:
                lab.apply(texts=[POLICY])
                for talk in again:
                    talk.is_cut()
            for talk in good:
                talk.talks(50)


@test
def sockets_alone():
    if TC_ONLY:
        raise Skip("of the sockets alone")
    with Lab(texts=[APP]) as lab:
        lab.mesh("--on-policy-change", "cut", "--tc", "off")
        with talks(*reach(lab, "good", lab)) as good, talks(*reach(lab, "bad", lab)) as bad:
            lab.apply(texts=[POLICY])
            for talk in bad:
                talk.is_cut()
            for talk in good:
                talk.talks(50)


@test
def kept_where_it_says_so():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        with talks(*reach(lab, "bad", lab)) as bad:
            lab.apply(texts=[POLICY])
            for talk in bad:
                talk.talks(20)
            # Another meshd, told otherwise: its first rules are asked about too.
            lab.tool("unmesh")
            lab.mesh("--on-policy-change", "cut")
            for talk in bad:
                talk.is_cut()


@test
def clients_of_another_node():
    near = Lab(texts=[APP], shape=SHAPE)
    far = Lab(texts=[FAR], shape=SHAPE, options=["--join", near.name])
    with far.after(near):
        near.mesh("--on-policy-change", "cut")
        far.mesh("--on-policy-change", "cut")
        with talks(*reach(far, "far-good", near)) as good, talks(*reach(far, "far-bad", near)) as bad:
            near.apply(texts=[POLICY]) # the clients' node knows nothing of it
            for talk in bad:
                talk.is_cut()
            for talk in good:
                talk.talks(50)
            seen = records(near, "far-bad")
            check({f[1:] for f in seen} == {("cut", "default/not-bad", True)} and len(seen) == 4, f"the server's node says why: {seen}")


@test
def datagrams():
    with Lab(texts=[APP]) as lab:
        lab.mesh("--on-policy-change", "cut")
        with talks(*reach(lab, "good", lab, "udp")) as good, talks(*reach(lab, "bad", lab, "udp")) as bad:
            lab.apply(texts=[POLICY])
            for talk in good:
                talk.talks(50)
            for i, talk in enumerate(bad):
                # A socket that dialled the service is told; the others hear nothing any more.
                if not TC_ONLY and i < 2:
                    talk.is_cut()
                    continue
                got = talk.order("call")
                check(got == "TimeoutError", f"{talk.what} gets no answer: {got}")
            reasons = {(f["reason"], f["policy"]) for f in lab.flows("--service", "web") if f["client"]["pod"] == "bad"}
            check(reasons == {("cut", "default/not-bad")}, f"{reasons}")


@test
def by_sock_diag():
    """As on kernels whose programs cannot destroy sockets: the same sockets are found, and destroyed by their names."""
    near = Lab(texts=[APP], shape=SHAPE)
    far = Lab(texts=[FAR], shape=SHAPE, options=["--join", near.name])
    with far.after(near):
        near.mesh("--on-policy-change", "cut", "--sock-diag", "on")
        far.mesh()
        check(near.status()["plane"]["cut"] == "sock_diag", "it says so")
        with talks(*reach(near, "good", near), *reach(far, "far-good", near)) as good, talks(*reach(near, "bad", near)) as bad, \
                talks(*reach(far, "far-bad", near)) as far_bad, talks(*reach(near, "bad", near, "udp")) as datagrams_of_bad:
            near.apply(texts=[POLICY])
            for talk in (*bad, *far_bad):
                talk.is_cut()
            for talk in datagrams_of_bad[:0 if TC_ONLY else 2]:
                talk.is_cut()
            for talk in good:
                talk.talks(50)
            for pod in ("bad", "far-bad"):
                cut = records(near, pod)
                check({f[1:] for f in cut} == {("cut", "default/not-bad", True)} and len(cut) == 4, f"each has one record, which names the policy: {cut}")
            for pod in ("good", "far-good"):
                check(not [f for f in records(near, pod) if f[1] == "cut"], "and nobody else's does")
            check("error" not in near.status()["plane"]["counters"]["cut"], "nothing went wrong")


@test
def very_many_by_sock_diag():
    """More than are found with one read."""
    with Lab(texts=[APP]) as lab:
        lab.mesh("--on-policy-change", "cut", "--sock-diag", "on")
        pod, n = lab.pod("web-0")["ips"][1], 400
        with lab.popen("bad", "python3", "-c", MANY, pod, 8080, n, stdin=subprocess.PIPE) as many, talks(Talk(lab, "good", pod, 8080)) as good:
            check(many.stdout.readline().strip() == str(n), "all are open")
            lab.apply(texts=[POLICY])
            got = many.communicate("now\n", timeout=20)[0].strip()
            check(got == str(n), f"all are cut: {got}")
            good[0].talks(50)
            cut = records(lab, "bad")
            check(cut == [(pod, "cut", "default/not-bad", True)] * n, f"each has one record: {len(cut)}")


@test
def a_guarded_client_is_not_taken_for_the_server():
    with Lab(texts=[APP]) as lab:
        lab.mesh("--on-policy-change", "cut")
        # Nobody asks a pod's own policy about the connections that it has made.
        guard = POLICY.replace("app: web", "app: client").replace("sa/bad", "sa/web").replace("not-bad", "not-web")
        with talks(*reach(lab, "bad", lab)) as bad, talks(*reach(lab, "good", lab)) as good:
            lab.apply(texts=[guard])
            for talk in (*bad, *good):
                talk.talks(50)
            lab.apply(texts=[guard.replace("DENY", "ALLOW").replace("not-web", "only-nobody").replace("sa/web", "sa/nobody")])
            for talk in (*bad, *good):
                talk.talks(50)
        check(not lab.status()["plane"]["counters"].get("cut"), "nothing was cut")


main()
