#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Connections with meshl7 past TCP (accelerate-parser): what arrives is what was sent, whatever way each part of it went; policies are asked
again; and whoever dies or is replaced meanwhile is not noticed."""
import json
import os
import time

import accel # first: it finds tests/lib
import labs
import peers
from suite import check, main, test

OPTIONS = ("--accelerate-parser", "on", "--parser-workers", "2")
PORT = 8080
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: server}
spec:
  hosts: [server]
  http: [{route: [{destination: {host: server, port: {number: 8080}}}], headers: {response: {set: {x-route: %s}}}}]
"""
DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-this-one}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{from: [{source: {ipBlocks: ["%s"]}}]}]
"""
# Gives back what it gets, with a length or in chunks.
SERVER = r"""
import http.server, os, socket, time
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 64
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True
    def log_message(self, *args): pass
    def chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
    def do_POST(self):
        if path := self.headers.get("X-Until"):
            while not os.path.exists(path):
                time.sleep(0.005)
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        body = b"".join(self.chunks()) if chunked else self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body), 9000):
                part = body[at:at + 9000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        self.wfile.flush()
    do_GET = do_POST
Server(("::", 8080), Handler).serve_forever()
"""
# One connection after the other, each as long as it is kept. Prints what went over the first one: requests, bytes each way.
CLIENT = r"""
import http.client, json, random, socket, sys
host, nr, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
r = random.Random(seed)
sizes = [1, 100, 1000, 1 << 14, 1 << 16, 1 << 17, 3 << 19]
class Counted(http.client.HTTPConnection):
    sent = 0
    def send(self, data):
        self.sent += len(data)
        super().send(data)
c, done = Counted(host, 8080, timeout=20), 0
while done < nr:
    body = r.randbytes(r.randint(1, r.choice(sizes if done > nr // 2 else sizes[:4])))
    if r.random() < 0.3:
        c.request("POST", "/", iter([body[at:at + 5000] for at in range(0, len(body), 5000)]), encode_chunked=True,
                  headers={"Transfer-Encoding": "chunked"})
    elif r.random() < 0.5:
        c.request("POST", "/", iter([body[at:at + 9000] for at in range(0, len(body), 9000)]), headers={"Content-Length": str(len(body))})
    else:
        c.request("POST", "/", body)
    answer = c.getresponse()
    got = answer.read()
    assert answer.status == 200 and got == body, f"request {done}: {answer.status}, {len(got)} of {len(body)} bytes"
    done += 1
    if done % 50 == 0:
        print(done, flush=True)
print(json.dumps({"requests": done, "sent": c.sent}))
"""
# Several requests before any answer is read, in one piece and in pieces; then one for each line of its input, which names what the answer waits for.
PIPELINED = r"""
import socket, sys
s = socket.create_connection((sys.argv[1], 8080), 20)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
f = s.makefile("rb")
def answer():
    line, size = f.readline(), 0
    while (field := f.readline()) not in (b"\r\n", b""):
        if field.lower().startswith(b"content-length:"):
            size = int(field.split(b":")[1])
    return line.split()[1].decode(), f.read(size)
def bodies(n, at):
    return [b"%d," % (at + i) * (1 + 997 * i) for i in range(n)]
def request(body, fields=b""):
    return b"POST / HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n%s" % (fields, len(body), body)
for turn in range(100):
    some = bodies(5, turn)
    if turn % 2:
        s.sendall(b"".join(map(request, some)))
    else:
        for body in some:
            s.sendall(request(body))
    for body in some:
        assert answer() == ("200", body), f"turn {turn}"
for line in sys.stdin:
    s.sendall(request(b"x", b"X-Until: %s\r\n" % line.strip().encode() if line.strip() else b""))
    print(*answer(), flush=True)
"""


def parser_past(lab):
    return lab.status()["plane"]["acceleration"]["parser"]


def serve(node):
    node.start("server", PORT, "python3", "-c", SERVER)
    node.apply(texts=[ROUTE % "one"])
    node.serving()


def client(node, nr, seed, six=False):
    return node.in_pod("client", "python3", "-c", CLIENT, accel.VIPS["server"][six], nr, seed)


def arrives_as_sent(node):
    for six in (False, True):
        node.fresh()
        out = labs.run(*client(node, 200, 1 + six, six), timeout=120)
        sent = json.loads(out.splitlines()[-1])["sent"]
        flow, = (f for f in node.flows() if f["opened"] > node.since)
        check(flow["path"] == "l7" and flow["bytes_sent"] == sent, f"{sent} bytes sent: {flow}")
        check(flow["bytes_redirected"] > 100000, f"past TCP went too little: {flow}")


def whoever_dies_is_not_noticed(node):
    child = node.spawn(client(node, 600, 7))
    for turn in range(3):
        check(child.stdout.readline().strip().isdigit(), "no answer")
        if turn == 1:
            node.kill_mesh()
            node.mesh(*accel.accelerate("on"), *OPTIONS)
        else:
            node.ctl("parser", "restart")
    rest = child.stdout.read().split()
    check(child.wait() == 0 and "600" in rest, f"{rest}")


def a_policy_is_asked_again(node):
    with node.spawn(node.in_pod("client", "python3", "-c", PIPELINED, accel.VIPS["server"][0])) as child:
        def begin(until=""):
            child.stdin.write(until + "\n")
            child.stdin.flush()

        def ask():
            begin()
            return child.stdout.readline().split()[0]

        deadline = time.monotonic() + 20 # bounded, ends with the condition
        while (past := parser_past(node))["accelerated"] < 2 or not past["bytes_redirected"]:
            check(time.monotonic() < deadline, f"nothing is past TCP: {past}")
            check(ask() == "200", "no answer")
        # Whoever waits for an answer hears that it may not come.
        until = os.path.join(node.scratch, "until")
        begin(until)
        node.apply(texts=[DENY % accel.IPS["client"][0]])
        node.write("until", "")
        got = [child.stdout.readline().split()[0], *(ask() for _ in range(3))]
        check(got == ["503"] * 4, f"a policy forbids it: {got}")


@test
def past_tcp_nothing_else_changes():
    with accel.Node("on", *OPTIONS) as node:
        serve(node)
        arrives_as_sent(node)
        whoever_dies_is_not_noticed(node)
        a_policy_is_asked_again(node)


@test
def only_who_says_so_is_past_tcp():
    with accel.Node("auto", *OPTIONS) as node:
        serve(node)
        labs.run(*client(node, 100, 3), timeout=120)
        past = parser_past(node)
        check(past["accelerate"] and past["accelerated"] == past["bytes_redirected"] == 0, f"in auto: {past}")
        text = node.ctl("explain", "default/client", f"server.default:{PORT}")
        check("with meshl7, which takes accelerate: on" in text, text)


if __name__ == "__main__":
    main()
