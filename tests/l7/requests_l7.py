#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Requests and answers as they pass through the engine: heads, bodies, pipelining, tunnels."""
import contextlib
import hashlib
import os
import re
import socket
import threading

from hands import Client, Hand, Origin, cluster, ok, until
from suite import check, main, test


def simple(origin, more="", route="route to=a"):
    return f"{cluster('a', origin, more=more)}\n{route}"


@test
def keeps_connections_on_both_sides():
    with Origin() as o, Hand(simple(o)) as h, Client(h) as c:
        for _ in range(50):
            check(c.get()[0] == 200, "200")
        check(o.accepted == 1, f"{o.accepted} connections to the server for one of the client")
        check(h.counts()["accepted"] == 1, "one accepted")


@test
def serves_pipelined_requests_in_order():
    with Origin(lambda r: ok(r.target.encode())) as o, Hand(simple(o)) as h, Client(h) as c:
        c.send("".join(f"GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n" for i in range(200)))
        for i in range(200):
            check(c.answer()[2] == f"/{i}".encode(), f"answer {i}")


@test
def takes_heads_byte_by_byte():
    with Origin() as o, Hand(simple(o)) as h, Client(h) as c:
        for byte in "GET /slow HTTP/1.1\r\nHost: svc\r\nX-A: b\r\n\r\n":
            c.send(byte)
        check(c.answer()[0] == 200, "200")
        check(o.requests[0].target == "/slow" and o.requests[0].fields["x-a"] == "b", "whole request")


@test
def passes_bodies_by_length_and_in_chunks():
    data = os.urandom(3_000_000)
    with Origin(lambda r: ok(hashlib.sha256(r.body).hexdigest().encode())) as o, Hand(simple(o)) as h, Client(h) as c:
        want = hashlib.sha256(data).hexdigest().encode()
        c.send(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n").send(data)
        check(c.answer()[2] == want, "by length")
        c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(data), 77777):
            piece = data[at:at + 77777]
            c.send(f"{len(piece):X};ext=1\r\n".encode() + piece + b"\r\n")
        c.send("0\r\nX-Sum: 1\r\n\r\n")
        check(c.answer()[2] == want, "in chunks")
        check(o.requests[1].trailers == {"x-sum": "1"}, f"trailers {o.requests[1].trailers}")


@test
def long_bodies_do_not_mix():
    size = 4_000_000
    def pipes(h):
        links = (os.readlink(f"/proc/{h.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{h.pid}/fd") if int(fd) > 2)
        return sum(link.startswith("pipe:") for link in links)
    with Origin(lambda r: ok(r.target[1:].encode() * size)) as o, Hand(simple(o)) as h, contextlib.ExitStack() as stack:
        def reader(name):
            c = stack.enter_context(Client(h))
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            c.send(f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n")
            check(c.reader.head()[1]["content-length"] == str(size), "its length")
            return c
        check(stack.enter_context(Client(h)).get("/s")[0] == 200 and pipes(h) == 2, "they need not be copied")
        left = {name: size for name in "abcdef"}
        readers = {name: reader(name) for name in left}
        while left:
            for name in list(left):
                data = readers[name].reader.data or readers[name].sock.recv(min(left[name], 50000))
                readers[name].reader.data = b""
                check(data == name.encode() * len(data) and data, f"{name}: {data[:20]}")
                left[name] -= len(data)
                if name in "bf" and left[name] < size // 2:
                    readers[name].sock.close()
                    left[name] = 0
                if not left[name]:
                    del left[name]


@test
def what_follows_a_long_answer_answers_nobody():
    size, times = 600_000, 20
    def talk(sock, reader):
        while head := reader.head():
            more = ok(b"of nobody") if head[0].startswith("GET /more ") else b""
            sock.sendall(ok(b"l" * size) + more)
    for path, connections in (("/", 1), ("/more", times)):
        with Origin(talk=talk) as o, Hand(simple(o)) as h, Client(h) as c:
            for i in range(times):
                body = c.get(path)[2]
                check(body == b"l" * size, f"{path}: answer {i} is {len(body)} bytes: {body[:20]}")
            check(o.accepted == connections, f"{path}: {o.accepted} connections to the server for {times} answers")


@test
def passes_chunks_that_come_byte_by_byte():
    with Origin(lambda r: ok(r.body)) as o, Hand(simple(o)) as h, Client(h) as c:
        for byte in "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x\r\n!\r\n0\r\nA: b\r\n\r\n":
            c.send(byte)
        check(c.answer()[2] == b"hello!", "body")
        check(o.requests[0].trailers == {"a": "b"}, "trailer")


@test
def passes_answers_of_every_framing():
    big = os.urandom(1_500_000)
    def talk(sock, reader):
        while True:
            head = reader.head()
            if not head:
                return
            kind = head[0].split(" ")[1]
            if kind == "/chunked":
                sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n")
                for at in range(0, len(big), 100000):
                    piece = big[at:at + 100000]
                    sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                sock.sendall(b"0\r\nT: end\r\n\r\n")
            elif kind == "/length":
                sock.sendall(ok(big))
            elif kind == "/none":
                sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            elif kind == "/old":
                sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + big)
                return
            else:
                sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + big)
                return

    with Origin(talk=talk) as o, Hand(simple(o)) as h, Client(h) as c:
        for path in ("/chunked", "/length", "/close", "/none", "/old", "/length"):
            status, fields, body = c.get(path)
            check(status == (204 if path == "/none" else 200), path)
            check(body == (b"" if path == "/none" else big), f"body of {path}: {len(body)} bytes")
            if path in ("/close", "/old"):
                check(fields.get("transfer-encoding") == "chunked", f"{path} is chunked to a client of 1.1")
            if path == "/chunked":
                check(c.reader.trailers == {"t": "end"}, "trailers")


@test
def serves_old_clients():
    def answer(request):
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with Origin(answer) as o, Hand(simple(o)) as h:
        with Client(h) as c:
            c.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            head, data = c.reader.rest().split(b"\r\n\r\n", 1)
            check(data == b"abcde" and b"chunked" not in head, f"{head} {data}")
        with Client(h) as c:
            o.answer = lambda request: ok()
            for _ in range(2):
                c.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
                status, fields, body = c.answer()
                check(body == b"ok" and fields["connection"] == "keep-alive", "kept")


@test
def answers_head_without_a_body():
    with Origin(lambda r: ok(b"" if r.method == "HEAD" else b"abc").replace(b"Length: 0", b"Length: 3")) as o, \
            Hand(simple(o)) as h, Client(h) as c:
        check(c.get(method="HEAD")[1]["content-length"] == "3", "length of what would be")
        check(c.get()[2] == b"abc", "the connection goes on")


@test
def passes_interim_answers():
    def talk(sock, reader):
        head = reader.head()
        check(head[1]["expect"] == "100-continue", "expect is passed on")
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(ok(reader.body(head[1])))
    with Origin(talk=talk) as o, Hand(simple(o)) as h, Client(h) as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        check(c.answer()[0] == 103, "103")
        check(c.answer()[0] == 100, "100")
        check(c.send("body").answer()[2] == b"body", "body")


@test
def early_answers_end_the_request():
    def talk(sock, reader):
        reader.head()
        sock.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        sock.recv(1)
    with Origin(talk=talk) as o, Hand(simple(o)) as h, Client(h) as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegin")
        status, fields, body = c.answer()
        check((status, body, fields.get("connection")) == (413, b"no", "close"), f"{status} {fields}")
        check(c.ended(), "and the connection ends")
        until(lambda: h.counts()["upstream_open"] == 0, "the server's is not used on")


@test
def tunnels_after_an_upgrade():
    def talk(sock, reader):
        head = reader.head()
        check(head[1].get("upgrade") == "websocket", "upgrade is passed on")
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst")
        while True:
            data = reader.data or sock.recv(65536)
            reader.data = b""
            if not data:
                break
            sock.sendall(data)
        sock.sendall(b"after the end")
    with Origin(talk=talk) as o, Hand(simple(o)) as h, Client(h) as c:
        c.send("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nsoon")
        status, fields, _ = c.answer()
        check(status == 101 and fields["upgrade"] == "websocket", f"{status} {fields}")
        check(c.reader.exactly(9) == b"firstsoon", "bytes around the answer")
        data = os.urandom(2_000_000)
        writer = threading.Thread(target=lambda: (c.send(data), c.sock.shutdown(socket.SHUT_WR)))
        writer.start()
        check(c.reader.rest() == data + b"after the end", "echo, and half of it stays open")
        writer.join()
    with Origin(lambda r: ok(b"no")) as o, Hand(simple(o)) as h, Client(h) as c:
        check(c.get("/", "Upgrade: x", "Connection: upgrade")[2] == b"no", "it may be declined")
        check(c.get()[2] == b"no", "and the connection goes on")
        for name in ("h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.3"):
            check(c.get("/", f"Upgrade: {name}", "Connection: upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")[2] == b"no", name)
            check(not {"upgrade", "http2-settings"} & set(o.requests[-1].fields), f"{name} is asked for: {o.requests[-1].fields}")
        o.answer = lambda request: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
        check(c.get("/", "Upgrade: h2c", "Connection: upgrade")[0] == 502, "nor is it got")


@test
def bytes_for_a_tunnel_that_is_refused_are_no_request():
    with Origin(lambda r: ok(b"no", status="403 Forbidden")) as o, Hand(simple(o)) as h, Client(h) as c:
        c.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n")
        status, fields, _ = c.answer()
        check((status, fields.get("connection")) == (403, "close"), f"{status} {fields}")
        check(c.ended() and len(o.requests) == 1, f"{[r.target for r in o.requests]}")


@test
def tunnels_leave_nothing_behind():
    def talk(sock, reader):
        reader.body(reader.head()[1])
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    def one(h):
        with Client(h) as c:
            c.send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
            check(c.answer()[0] == 101, "the request has a body, and its answer is a tunnel")
    with Origin(talk=talk) as o, Hand(simple(o)) as h:
        for _ in range(100):
            one(h)
        before = h.memory_kb()
        for _ in range(1000):
            one(h)
        check(h.memory_kb() - before < 2048, f"{before} KiB became {h.memory_kb()}")


@test
def half_closed_clients_are_answered():
    with Origin() as o, Hand(simple(o)) as h, Client(h) as c:
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").sock.shutdown(socket.SHUT_WR)
        check(c.answer()[2] == b"ok" and c.ended(), "answer, then the end")


@test
def rules_hold_from_the_next_request_on():
    gate = threading.Event()
    with Origin(lambda r: (gate.wait(10), ok(b"a"))[1]) as a, Origin(lambda r: ok(b"b")) as b:
        both = f"{cluster('a', a)}\n{cluster('b', b)}\n"
        with Hand(both + "route to=a") as h, Client(h) as c:
            c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: a.requests, "the request arrives")
            h.rules(both + "route to=b")
            gate.set()
            check(c.answer()[2] == b"a", "under the rules it began with")
            check(c.get()[2] == b"b", "then under the others")


@test
def answers_of_its_own():
    rules = """cluster name=a to=127.0.0.1:9
        route host=d.example path=/d direct=200 body=hello
        route host=d.example path=/r redirect=302 to_host=x.example
        route host=d.example path=/f abort=418 to=a
        route host=d.example to=a"""
    with Hand(rules) as h, Client(h) as c:
        def ask(path, host="d.example", body=""):
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            return c.send(f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n{body}").answer()
        check(ask("/d")[::2] == (200, b"hello"), "direct")
        check(ask("/d", body="x" * 1000)[::2] == (200, b"hello"), "with a body that nobody reads")
        check(ask("/r")[1]["location"] == "http://x.example/r", "redirect")
        check(ask("/f")[0] == 418, "abort")
        check(ask("/d", "other.example")[0] == 404, "no host")
        check(ask("/x")[0] == 503, "nobody there")
        check(ask("/d")[0] == 200, "all of it on one connection")


@test
def cookies_stay_with_their_endpoint():
    with Origin(lambda r: ok(b"a")) as a, Origin(lambda r: ok(b"b")) as b, Origin(lambda r: ok(b"c")) as third:
        with Hand(f"{cluster('a', a, b, third, more='lb=4 cookie=peer')}\nroute to=a") as h, Client(h) as c:
            seen = set()
            for _ in range(30):
                _, fields, first = c.get()
                value = fields["set-cookie"].split(";")[0]
                check(fields["set-cookie"].endswith("; Path=/; HttpOnly"), fields["set-cookie"])
                for _ in range(3):
                    _, fields, again = c.get("/", f"Cookie: other=1; {value}")
                    check(again == first and "set-cookie" not in fields, f"{first} then {again}")
                seen.add(first)
            check(seen == {b"a", b"b", b"c"}, f"all have their share: {seen}")


@test
def requests_have_an_id():
    with Origin() as o, Hand(simple(o)) as h, Client(h) as c:
        for _ in range(50):
            c.get()
        c.get("/", "X-Request-Id: mine")
        ids = [r.fields["x-request-id"] for r in o.requests]
        check(ids.pop() == "mine", "who has one keeps it")
        form = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
        check(len(set(ids)) == 50 and all(form.fullmatch(i) for i in ids), f"{ids[:2]}")


@test
def mirrors():
    with Origin() as a, Origin(lambda r: None) as b:
        with Hand(f"{cluster('a', a)}\n{cluster('b', b)}\nroute to=a mirror=b") as h, Client(h) as c:
            check(c.get("/one")[0] == 200, "answer of the first")
            c.send("POST /two HTTP/1.1\r\nHost: svc\r\nContent-Length: 3\r\n\r\nabc")
            check(c.answer()[0] == 200, "again")
            until(lambda: len(b.requests) == 2, "both are mirrored")
            check(sorted((r.target, r.body) for r in b.requests) == [("/one", b""), ("/two", b"abc")], "as they were")
            check(b.requests[0].fields["host"] == "svc-shadow", b.requests[0].fields["host"])


@test
def policies_are_asked_of_what_the_server_gets():
    with Origin() as o, Hand(f"""{cluster('a', o)}
                                 route path=/front to=a path_to=/admin
                                 route path=/admin to=a path_to=/open
                                 route to=a
                                 deny path=/admin""") as h, Client(h) as c:
        check(c.get("/front/x")[0] == 403, "a rewritten path is no way past the policy")
        check(c.get("/admin/x")[0] == 200 and [r.target for r in o.requests] == ["/open/x"], f"{[r.target for r in o.requests]}")
        check(c.get("/x/../admin")[0] == 403 and c.get("/x")[0] == 200, "others are as they are")


@test
def mirrors_are_for_those_who_may_ask_there():
    with Origin() as a, Origin() as b, Origin(lambda r: None) as seen:
        with Hand(f"""{cluster('a', a)}
                      {cluster('b', b)}
                      {cluster('seen', seen)}
                      route path=/b to=b
                      route path=/mirrored to=a mirror=seen
                      route to=a mirror=b
                      deny port={b.port}""") as h, Client(h) as c:
            check(c.get("/b")[0] == 403, "the policy holds")
            check([c.get("/")[0], c.get("/mirrored")[0]] == [200, 200], "of the server that answers nothing is said")
            until(lambda: seen.requests and h.counts()["upstream_open"] == 1, "the later one is mirrored, and over")
            check(not b.accepted, "the copy is no way past the policy")


main()
