#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Connections of TLS by the name that they ask for, all the way: rules, kernel, meshl7, servers that say who they are; both families."""
import collections
import contextlib
import json
import os
import socket
import sys

import tls
from labs import SHAPE, Lab
from suite import check, main, test

PODS = "".join(f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec: {{containers: [{{name: c}}]}}
""" for name in ("blue", "green", "client", "other"))
SERVICES = "".join(f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.8.{nr}
  clusterIPs: ["10.96.8.{nr}", "fd00:10:96::8:{nr}"]
  ports: [{{name: tls, port: 443, targetPort: 8443}}]
""" for nr, name in enumerate(("blue", "green"), 1))
RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [blue, "*.shop.example", both.example]
  tls:
  - match: [{sniHosts: [mine.shop.example], sourceLabels: {app: other}}]
    route: [{destination: {host: blue}}]
  - match: [{sniHosts: [blue.shop.example]}]
    route: [{destination: {host: blue}}]
  - match: [{sniHosts: ["*.shop.example"]}]
    route: [{destination: {host: green}}]
  - match: [{sniHosts: [both.example]}]
    route: [{destination: {host: blue}, weight: 60}, {destination: {host: green}, weight: 40}]
"""
GATEWAY = """
apiVersion: v1
kind: Service
metadata: {name: ingress}
spec:
  selector: {istio: ingress}
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.8.9
  clusterIPs: [10.96.8.9, "fd00:10:96::8:9"]
  externalIPs: [192.0.2.40, "2001:db8:ffff::40"]
  ports: [{name: tls, port: 443}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
spec:
  selector: {istio: ingress}
  servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: ["*.shop.example"], tls: {mode: PASSTHROUGH}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front}
spec:
  hosts: ["*.shop.example", both.example]
  gateways: [front]
  tls:
  - match: [{sniHosts: [one.shop.example, both.example]}]
    route: [{destination: {host: green}}]
"""
DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-this-one}
spec:
  selector: {matchLabels: {app: green}}
  action: DENY
  rules: [{from: [{source: {ipBlocks: ["%s"]}}]}]
"""
ADDRESSES = ("10.96.8.1", "fd00:10:96::8:1")
GATEWAYS = ("10.96.8.9", "fd00:10:96::8:9")
OUTER = ("192.0.2.40", "2001:db8:ffff::40")
# As a server: `SCRIPT serve CERTIFICATE KEY`. As a client: `SCRIPT ask ADDRESS/NAME...`, a line for each.


def serve(cert, key):
    context = tls.ssl.SSLContext(tls.ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("::", 8443), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    print("ready", flush=True)
    while True:
        sock, peer = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), sock, context.wrap_socket(sock, server_side=True) as s:
            s.sendall(peer[0].removeprefix("::ffff:").encode() + b"\n")
            s.recv(1)
            s.unwrap()


def ask(*where):
    context = tls.client()
    context.verify_mode = tls.ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=os.environ["CERTIFICATES"])
    for address, name in (w.split("/") for w in where):
        try:
            with socket.create_connection((address, 443), 10) as s, context.wrap_socket(s, server_hostname=name or None) as t:
                with t.makefile("rb") as reader:
                    peer = reader.readline().decode().strip()
                subject = dict(pair for rdn in t.getpeercert()["subject"] for pair in rdn)
                t.unwrap()
            print(json.dumps([subject["commonName"], peer]))
        except OSError as e:
            print(json.dumps([getattr(e, "reason", None) or type(e).__name__, ""]))


class Shop:
    def __init__(self, lab, path):
        self.lab, self.path = lab, path

    def ask(self, address, *names, pod="client"):
        """(who it is, address that it sees) for each name; why not, and nothing."""
        out = self.lab.exec(pod, "env", f"CERTIFICATES={self.path}", f"PYTHONPATH={os.environ['PYTHONPATH']}", sys.executable, "-B",
                            os.path.abspath(__file__), "ask", *(f"{address}/{name}" for name in names))
        return [tuple(json.loads(line)) for line in out.splitlines()]

    def who(self, *args, **kwargs):
        return [who for who, _ in self.ask(*args, **kwargs)]


@contextlib.contextmanager
def shop():
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(texts=[PODS + SERVICES], shape=SHAPE))
        path = os.path.join(tls.FOLDER, "all")
        with open(path, "w", encoding="ascii") as whole:
            for name in ("blue", "green"):
                pair = tls.certificate(name)
                with open(pair[0], encoding="ascii") as one:
                    whole.write(one.read())
                server = lab.popen(name, "env", f"PYTHONPATH={os.environ['PYTHONPATH']}", sys.executable, "-B", os.path.abspath(__file__),
                                   "serve", *pair)
                stack.callback(server.wait, 10)
                stack.callback(server.terminate)
                check(server.stdout.readline() == "ready\n", "it serves")
        yield Shop(lab, path)


@test
def by_name():
    with shop() as s:
        lab = s.lab
        lab.mesh("--parser", "on", "--parser-workers", "2")
        check(s.who(ADDRESSES[0], "x.shop.example") == ["blue"], "without a rule the service itself has it")
        lab.apply(texts=[RULES])
        lab.serving()
        for address in ADDRESSES:
            seen = s.ask(address, "blue.shop.example", "Green.Shop.example", "mine.shop.example", "shop.example", "elsewhere.example", "")
            check([who for who, _ in seen[:3]] == ["blue", "green", "green"], f"{seen}")
            check({peer for _, peer in seen[:3]} <= set(lab.pod("client")["ips"]), f"the server sees the client: {seen}")
            check(all("UNRECOGNIZED_NAME" in why for why, _ in seen[3:]), f"names that no rule has: {seen}")
        check(s.who(ADDRESSES[0], "mine.shop.example", pod="other") == ["blue"], "by labels of the client")
        seen = collections.Counter(s.who(ADDRESSES[0], *["both.example"] * 100))
        # Five standard deviations.
        check(set(seen) == {"blue", "green"} and 35 <= seen["blue"] <= 85, f"{seen}")
        out = lab.exec("client", "curl", "-s", "-m", "10", "http://10.96.8.1:443/", ok=(52, 56))
        check(out == "", f"plain text is answered: {out}")
        metrics = lab.ctl("metrics")
        check("\ntulle_parser_tls_unrouted_total 6\n" in metrics and "\ntulle_parser_refused_total 1\n" in metrics, metrics)
        said = lab.ctl("explain", "client", "blue:443")
        check("connections of TLS that ask for the name *.shop.example" in said and "every other connection is closed" in said, said)
        lab.apply(texts=[RULES, GATEWAY])
        lab.serving()
        # Pods, and a client that no pod is and no mesh has.
        for pod, addresses in (("client", GATEWAYS), ("@outside", OUTER)):
            for address in addresses:
                seen = s.ask(address, "one.shop.example", "both.example", "", pod=pod)
                check(seen[0][0] == "green" and all("UNRECOGNIZED_NAME" in why for why, _ in seen[1:]),
                      f"{pod} at a gateway that has one of the names: {address}: {seen}")
        for address in OUTER:
            literal = f"[{address}]" if ":" in address else address
            out = lab.exec("@outside", "curl", "-s", "-m", "10", f"http://{literal}:443/", ok=(52, 56))
            check(out == "", f"plain text from outside is answered: {out}")
        metrics = lab.ctl("metrics")
        check("\ntulle_parser_tls_unrouted_total 14\n" in metrics and "\ntulle_parser_refused_total 3\n" in metrics, metrics)
        # The server's own policies see the client, not who passes it on.
        lab.apply(texts=[RULES, DENY % lab.pod("client")["ips"][0]])
        seen = s.who(ADDRESSES[0], "blue.shop.example", "x.shop.example")
        check(seen[0] == "blue" and seen[1] not in ("blue", "green"), f"a policy of a server: {seen}")
        check(s.who(ADDRESSES[0], "x.shop.example", pod="other") == ["green"], "another client may")


if sys.argv[1:2] == ["serve"]:
    serve(*sys.argv[2:])
elif sys.argv[1:2] == ["ask"]:
    ask(*sys.argv[2:])
else:
    main()
