#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""UDP as it is used: a real DNS server behind a service, long flows of many datagrams that keep their endpoint, datagrams larger than
a link takes, and the ICMP error of a port that nobody listens on."""
import contextlib
import json
import os
import shutil
import signal
import subprocess

from labs import TC_ONLY, Lab
from suite import Skip, check, main, test

APP = """
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports: [{name: u, port: 80, targetPort: 8080, protocol: UDP}, {name: dns, port: 53, targetPort: 5353, protocol: UDP},
          {name: closed, port: 81, targetPort: 9, protocol: UDP}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, labels: {app: client}}, spec: {containers: [{name: c}]}}
"""

# Asks ADDRESS PORT for the A record of pod.test so many times, from one socket or many, connected or not; prints the answers' counts.
ASK = r"""
import collections, json, socket, struct, sys
address, port, times, connected = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "connected"
family = socket.AF_INET6 if ":" in address else socket.AF_INET
seen = collections.Counter()
for i in range(times):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        question = struct.pack(">6H", i, 0x100, 1, 0, 0, 0) + b"\3pod\4test\0" + struct.pack(">2H", 1, 1)
        if connected:
            s.connect((address, port))
            s.send(question)
        else:
            s.sendto(question, (address, port))
        answer, source = s.recvfrom(4096)
        assert source[:2] == (address, port), source
        assert struct.unpack(">2H", answer[:4])[0] == i and answer[3] & 15 == 0, answer
        seen[socket.inet_ntoa(answer[-4:])] += 1
print(json.dumps(seen))
"""

# One connected socket; each line on standard input is a number of datagrams to exchange; prints who answered, as JSON.
LONG = r"""
import collections, json, socket, sys
address, port = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((address, port))
for line in sys.stdin:
    seen = collections.Counter()
    for i in range(int(line)):
        s.send(b"n%d" % i)
        pod, answer = s.recv(4096).split(b" ")
        assert answer == b"n%d" % i, answer
        seen[pod.decode()] += 1
    print(json.dumps(seen), flush=True)
"""

BIG = r"""
import os, socket, sys
address, port = sys.argv[1], int(sys.argv[2])
for size in (1400, 1473, 3000, 9000, 40000):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect((address, port))
        data = os.urandom(size)
        s.send(data)
        answer = s.recv(65536)
        assert answer.endswith(data) and answer.startswith(b"app-"), (size, len(answer))
print("whole")
"""

REFUSED = r"""
import errno, socket, sys
address, port = sys.argv[1], int(sys.argv[2])
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(5)
    s.connect((address, port))
    s.send(b"x")
    try:
        s.recv(100)
    except OSError as e:
        print(errno.errorcode.get(e.errno, e))
"""


def python(lab, code, *args):
    return lab.exec("client", "python3", "-c", code, *map(str, args))


def dnsmasq(lab, pod, port, *options):
    server = lab.popen(pod, "/usr/sbin/dnsmasq", "--keep-in-foreground", f"--port={port}", "--no-resolv", "--no-hosts",
                       "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-", *options, stderr=subprocess.PIPE)
    check("started" in server.stderr.readline(), "dnsmasq did not start")
    return server


@contextlib.contextmanager
def dns_servers():
    """A lab whose service app is three DNS servers, each with another answer for pod.test."""
    if not os.access("/usr/sbin/dnsmasq", os.X_OK):
        raise Skip("no dnsmasq (Debian package dnsmasq-base)")
    with Lab(texts=[APP]) as lab:
        servers = [dnsmasq(lab, f"app-{i}", 5353, f"--address=/pod.test/198.51.100.{i + 1}") for i in range(3)]
        try:
            yield lab, servers
        finally:
            for server in servers:
                server.send_signal(signal.SIGTERM)
                server.communicate(timeout=10)


ANSWERS = {f"198.51.100.{i}" for i in (1, 2, 3)}


@test
def a_dns_server_as_a_service():
    with dns_servers() as (lab, _):
        lab.mesh()
        for address in lab.service("app")["ips"]:
            for how in ("connected", "unconnected"):
                seen = json.loads(python(lab, ASK, address, 53, 90, how))
                check(set(seen) == ANSWERS and sum(seen.values()) == 90, f"{how} to {address}: {seen}")


@test
def resolvers_that_do_not_connect():
    """drill sends with sendto(), as does dnsmasq to the server that it asks; neither takes an answer from another address than it asked."""
    if not shutil.which("drill"):
        raise Skip("no drill (Debian package ldnsutils)")
    ask = "for i in $(seq 40); do drill -p $1 pod.test @$2 | awk '/^pod.test/ { print $5 }'; done"
    for options in ([], ) if TC_ONLY else ([], ["--tc", "off"]):
        with dns_servers() as (lab, servers):
            lab.mesh(*options)
            for address in lab.service("app")["ips"]:
                seen = lab.exec("client", "sh", "-c", ask, "ask", "53", address).split()
                check(len(seen) == 40 and set(seen) == ANSWERS, f"{options} drill to {address}: {seen}")
            forward = [f"--server={address}#53" for address in lab.service("app")["ips"]]
            servers.append(dnsmasq(lab, "client", 5300, "--cache-size=0", "--listen-address=127.0.0.1", "--bind-interfaces", *forward))
            seen = lab.exec("client", "sh", "-c", ask, "ask", "5300", "127.0.0.1").split()
            check(len(seen) == 40 and set(seen) <= ANSWERS, f"{options} by dnsmasq: {seen}")


def slices(*ips):
    """The Service without its selector, and these endpoints."""
    docs = [{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
             "metadata": {"name": f"app-{family.lower()}", "labels": {"kubernetes.io/service-name": "long"}},
             "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in ips if (":" in ip) == (family == "IPv6")],
             "ports": [{"name": "u", "port": 8080, "protocol": "UDP"}]} for family in ("IPv4", "IPv6")]
    docs.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "long"}, "spec": {
        "clusterIP": "10.96.5.5", "clusterIPs": ["10.96.5.5", "fd00:10:96::505"],
        "ports": [{"name": "u", "port": 80, "protocol": "UDP"}]}})
    return "\n---\n".join(map(json.dumps, docs))


@test
def a_long_flow_keeps_its_endpoint():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        ips = {name: lab.pod(name)["ips"] for name in ("app-0", "app-1")}
        lab.apply(texts=[slices(*ips["app-0"])])
        flows = [lab.popen("client", "python3", "-c", LONG, ip, 80, stdin=subprocess.PIPE) for ip in ("10.96.5.5", "fd00:10:96::505")]

        def exchange(flow):
            flow.stdin.write("200\n")
            flow.stdin.flush()
            return json.loads(flow.stdout.readline() or "{}")

        try:
            for flow in flows:
                check(exchange(flow) == {"app-0": 200}, "the only endpoint answers")
            for now in (ips["app-0"] + ips["app-1"], ips["app-1"]):
                lab.apply(texts=[slices(*now)])
                for flow in flows:
                    check(exchange(flow) == {"app-0": 200}, "the flow stays where it is")
            for ip in ("10.96.5.5", "fd00:10:96::505"):
                seen = lab.conn("client", ip, 80, "--udp", n=50)
                check(seen["pods"] == {"app-1": 50}, f"new flows go to what is there: {seen}")
        finally:
            for flow in flows:
                flow.communicate(timeout=10)


@test
def datagrams_larger_than_the_link():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        for address in lab.service("app")["ips"]:
            for _ in range(3):
                check(python(lab, BIG, address, 80) == "whole\n", f"fragments to {address} and back")


@test
def a_closed_port_is_refused():
    with Lab(texts=[APP]) as lab:
        lab.mesh()
        for address in lab.service("app")["ips"]:
            got = python(lab, REFUSED, address, 81).strip()
            check(got == "ECONNREFUSED", f"{address}, {'links' if TC_ONLY else 'sockets'}: {got or 'no error'}")


main()
