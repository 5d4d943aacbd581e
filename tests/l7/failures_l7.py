#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What is done when clients, servers or limits do not play along."""
import os
import signal
import socket
import struct
import threading
import time

from hands import WAIT, Client, Hand, Origin, Reader, cluster, free_port, ok, until
from suite import check, main, test

GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@test
def asks_again_when_a_kept_connection_is_dead():
    with Origin() as o, Hand(f"{cluster('a', o)}\nroute to=a") as h, Client(h) as c:
        def once(sock, reader):
            while reader.head():
                sock.sendall(ok())
                # The next request meets a closed connection, whatever of this the engine has seen by then.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
        o.talk = once
        for i in range(100):
            check(c.get()[0] == 200, f"request {i}")
    # It read the request, and closed: nobody knows what it did with it, so that a POST is not repeated.
    seen = []
    def second(sock, reader):
        while True:
            head = reader.head()
            seen.append(head[0].split(" ")[0])
            if len(seen) in (2, 4):
                return
            sock.sendall(ok())
    with Origin(talk=second) as o, Hand(f"{cluster('a', o)}\nroute to=a") as h, Client(h) as c:
        check([c.get()[0], c.get()[0]] == [200, 200] and seen == ["GET"] * 3, f"{seen}")
        check(c.get(method="POST")[0] == 503, "no second POST")
        check(seen == ["GET"] * 3 + ["POST"], f"{seen}")


@test
def retries_by_policy():
    count = []
    def answer(request):
        count.append(request)
        return ok(request.body, status="503 Unavailable" if len(count) < 3 else "200 OK")
    with Origin(answer) as o, Hand(f"{cluster('a', o)}\nroute to=a retries=3 on=64 statuses=503") as h, Client(h) as c:
        c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nT: x\r\n\r\n")
        status, _, body = c.answer()
        check((status, body, len(count)) == (200, b"body", 3), f"{status} {body} {len(count)}")
        check(all(r.trailers == {"t": "x"} for r in count), "trailers each time")
        check([r.fields["x-envoy-attempt-count"] for r in count] == ["1", "2", "3"], "attempts are counted")
    count.clear()
    with Origin(lambda r: (count.append(r), ok(status="500 No"))[1]) as o, \
            Hand(f"{cluster('a', o)}\nroute to=a retries=2 on=64 statuses=503") as h, Client(h) as c:
        check(c.get()[0] == 500 and len(count) == 1, "another status is none of it")
    count.clear()
    with Origin(lambda r: (count.append(r), ok(status="503 No"))[1]) as o, \
            Hand(f"{cluster('a', o)}\nroute to=a retries=2 on=64 statuses=503") as h, Client(h) as c:
        check(c.get()[0] == 503 and len(count) == 3, f"{len(count)} tries")
        count.clear()
        body = "x" * 70000
        c.send(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        check(c.answer()[0] == 503 and len(count) == 1, "too large to be kept for a retry")


@test
def retries_elsewhere_when_nobody_listens():
    with Origin() as o, Hand(f"{cluster('a', free_port(), o)}\nroute to=a retries=4 on=1") as h, Client(h) as c:
        for i in range(20):
            check(c.get()[0] == 200, f"request {i}")
    with Hand(f"{cluster('a', free_port())}\nroute to=a") as h, Client(h) as c:
        status, _, body = c.get()
        check(status == 503 and b"remote connection failure" in body, f"{status} {body}")


@test
def times_out():
    gate = threading.Event()
    with Origin(lambda r: (gate.wait(10), ok())[1] if r.target == "/late" else ok()) as o:
        rules = f"{cluster('a', o)}\nroute path=/late to=a timeout_ms=100\nroute to=a timeout_ms=2000"
        with Hand(rules) as h, Client(h) as c:
            begin = time.monotonic()
            status, _, body = c.get("/late")
            took = time.monotonic() - begin
            check((status, body) == (504, b"upstream request timeout") and took >= 0.09, f"{status} {took}")
            check(c.get()[0] == 200, "the client's connection goes on")
        with Hand(f"{cluster('a', o)}\nroute to=a timeout_ms=2000 retries=2 try_ms=50 on=4") as h, Client(h) as c:
            before = len(o.requests)
            check(c.get("/late")[0] == 504, "each try")
            # The server may find the last one only now.
            until(lambda: len(o.requests) - before >= 3, "each of them is asked")
            check(len(o.requests) - before == 3, f"{len(o.requests) - before} tries")
        gate.set()


@test
def delays():
    with Origin() as o, Hand(f"{cluster('a', o)}\nroute to=a delay_ms=150") as h, Client(h) as c:
        begin = time.monotonic()
        check(c.get()[0] == 200 and time.monotonic() - begin >= 0.14, "later")


@test
def limits_of_the_cluster():
    gate = threading.Event()
    with Origin(lambda r: (gate.wait(10), ok())[1]) as o:
        rules = f"{cluster('a', o, more='max_connections=1 max_pending=1')}\nroute to=a"
        with Hand(rules) as h, Client(h) as one, Client(h) as two, Client(h) as three:
            one.send(GET)
            until(lambda: len(o.requests) == 1, "the first has the connection")
            two.send(GET)
            until(lambda: h.counts()["active"] == 2, "the second waits")
            status, fields, _ = three.send(GET).answer()
            check(status == 503 and fields.get("x-envoy-overloaded") == "true", f"{status} {fields}")
            gate.set()
            check(one.answer()[0] == 200 and two.answer()[0] == 200, "the others are served")
            check(o.accepted == 1, "by one connection")
            check(three.get()[0] == 200, "and there is room again")
        gate.clear()
        held = rules.replace("route", "route path=/held to=a\nroute")
        with Hand(held + " timeout_ms=200") as h, Client(h) as one, Client(h) as two:
            before = len(o.requests)
            one.send(GET.replace("/ ", "/held ", 1))
            until(lambda: len(o.requests) > before, "the first has the connection")
            check(two.send(GET).answer()[0] == 504, "who waits for a connection waits no longer than the route lets it")
        gate.set()
        gate.clear()
        with Hand(f"{cluster('a', o, more='max_requests=1')}\nroute to=a") as h, Client(h) as one, Client(h) as two:
            before = len(o.requests)
            one.send(GET)
            until(lambda: len(o.requests) > before, "one is there")
            check(two.send(GET).answer()[0] == 503, "no other")
            gate.set()
            check(one.answer()[0] == 200, "the one is answered")


@test
def connections_serve_no_more_than_they_may():
    with Origin() as o, Hand(f"{cluster('a', o, more='per_connection=2')}\nroute to=a") as h, Client(h) as c:
        for _ in range(6):
            check(c.get()[0] == 200, "200")
        check(o.accepted == 3, f"{o.accepted} connections")


@test
def servers_that_break_off():
    def talk(sock, reader):
        kind = reader.head()[0].split(" ")[1]
        if kind == "/length":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        elif kind == "/chunked":
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        elif kind == "/bad":
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
            sock.recv(1)
        elif kind == "/garbage":
            sock.sendall(b"SSH-2.0-x\r\n\r\n")
            sock.recv(1)
        elif kind == "/both":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            sock.recv(1)
    with Origin(talk=talk) as o, Hand(f"{cluster('a', o)}\nroute to=a") as h:
        for path in ("/length", "/chunked", "/bad"):
            with Client(h) as c:
                try:
                    c.get(path)
                    raise AssertionError(f"{path}: taken for whole")
                except (EOFError, ConnectionResetError):
                    pass
        for path, status in (("/garbage", 502), ("/both", 502), ("/nothing", 503)):
            with Client(h) as c:
                check(c.get(path)[0] == status, path)
        with Client(h) as c:
            c.send("GET /length HTTP/1.0\r\nHost: a\r\n\r\n")
            try:
                c.reader.rest()
                raise AssertionError("an old client takes the end for the answer's")
            except ConnectionResetError:
                pass
        until(lambda: h.counts()["upstream_open"] == 0 and h.counts()["open"] == 0, "nothing is left")


@test
def a_body_that_nobody_took_is_no_request():
    asked, closed, gate, seen = threading.Event(), threading.Event(), threading.Event(), []
    def talk(sock, reader):
        while head := reader.head():
            seen.append(head[0].split(" ")[1])
            if len(seen) > 1:
                sock.sendall(ok())
                continue
            asked.set()
            gate.wait(WAIT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            closed.set()
            return
    hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
    with Origin(talk=talk) as o, Hand(f"{cluster('a', o)}\nroute to=a") as h, Client(h) as c:
        c.send(f"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: {len(hidden)}\r\n\r\n")
        check(asked.wait(WAIT), "the head is there")
        # The engine finds the body first, and a connection that takes none of it.
        os.kill(h.pid, signal.SIGSTOP)
        until(lambda: h.stopped(), "it stands still")
        c.send(hidden)
        gate.set()
        check(closed.wait(WAIT), "the server is gone")
        os.kill(h.pid, signal.SIGCONT)
        check(c.answer()[0] == 503, "there is no answer to it")
        check(c.get("/next")[0] == 200 and seen == ["/first", "/next"], f"{seen}")


@test
def endless_interim_answers_hold_up_nobody_else():
    over = threading.Event()
    def talk(sock, reader):
        if "/endless" not in reader.head()[0]:
            sock.sendall(ok())
            return
        while not over.is_set():
            sock.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 4000)
    with Origin(talk=talk) as o, Hand(f"{cluster('a', o)}\nroute to=a", "--workers", "1") as h, Client(h) as c:
        # A client this old is told of none of them, and holds nothing back.
        c.send("GET /endless HTTP/1.0\r\nHost: a\r\n\r\n")
        until(lambda: o.accepted, "they come")
        try:
            with Client(h) as other:
                for _ in range(20):
                    check(other.get()[0] == 200, "another client of the same worker is answered")
        finally:
            over.set()


@test
def clients_that_go_away():
    gone = threading.Event()
    def talk(sock, reader):
        reader.head()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                sock.sendall(b"x" * 65536)
        except OSError:
            gone.set()
    with Origin(talk=talk) as o, Hand(f"{cluster('a', o)}\nroute to=a") as h:
        with Client(h) as c:
            c.send(GET).reader.more()
        check(gone.wait(10), "the server learns of it")
        until(lambda: h.counts()["open"] == 0 and h.counts()["upstream_open"] == 0, "nothing is left")
    with Origin(talk=lambda sock, reader: (reader.head(), sock.recv(1), gone.set())) as o, \
            Hand(f"{cluster('a', o)}\nroute to=a") as h:
        gone.clear()
        with Client(h) as c:
            c.send(GET)
            until(lambda: o.accepted, "it waits for the answer")
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        check(gone.wait(10), "also of one that is reset before the answer")
        with Client(h) as c:
            gone.clear()
            c.send(GET)
            until(lambda: o.accepted == 2, "it waits again")
            c.sock.shutdown(socket.SHUT_WR)
            check(gone.wait(10), "and of one that says no more")
            check(c.ended(), "which is what becomes of the other way")
        with Client(h) as c:
            c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        until(lambda: h.counts()["open"] == 0 and h.counts()["upstream_open"] == 0, "half a request ends")


@test
def slow_readers_hold_servers_back():
    sent = []
    def talk(sock, reader):
        reader.head()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(500):
            sock.sendall(b"y" * 100000)
            sent.append(100000)
    with Origin(talk=talk) as o, Hand(f"{cluster('a', o)}\nroute to=a") as h:
        before = h.memory_kb()
        with Client(h) as c:
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            c.send(GET).reader.more()
            last = -1
            while last != len(sent):
                last = len(sent)
                time.sleep(0.2)
            check(len(sent) < 400, f"{sum(sent)} bytes were taken from the server")
            check(h.memory_kb() - before < 768, f"{h.memory_kb() - before} KiB more")
            total = len(c.reader.data)
            while total < 50_000_000:
                got = c.sock.recv(1 << 20)
                if not got:
                    break
                total += len(got)
            check(total >= 50_000_000, f"the rest comes: {total}")


@test
def slow_clients():
    with Origin() as o, Hand(f"{cluster('a', o)}\nroute to=a", "--head-ms", "150", "--body-ms", "200", "--idle-ms", "400") as h:
        with Client(h) as c:
            begin = time.monotonic()
            c.send("GET / HTTP/1.1\r\n")
            dripped = 0
            while c.silent(0.02):
                c.send("X-A: b\r\n")
                dripped += 1
                check(dripped < 90, "drops make it longer")
            status, fields, _ = c.answer()
            took = time.monotonic() - begin
            check(status == 408 and fields["connection"] == "close", f"{status}")
            check(took >= 0.14, f"too early: {took}")
        with Client(h) as c:
            check(c.ended(), "who says nothing at first")
        with Client(h) as c:
            c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
            check(c.answer()[0] == 408, "half a body")
        with Client(h) as c:
            check(c.get()[0] == 200, "idle ones")
            check(c.silent(0.1) and c.ended(), "later")
        check(len(o.requests) == 1, "nothing of the others")


@test
def heads_that_never_end_take_a_buffer_each():
    nr = 200
    head = f"GET / HTTP/1.1\r\nHost: a\r\nX-A: {'x' * 50000}"
    def wave(h):
        clients = [Client(h) for _ in range(nr)]
        for c in clients:
            c.send(head)
        until(lambda: h.memory_kb() - before >= nr * 45, "all are there")
        taken = h.memory_kb() - before
        check(taken <= nr * 70, f"{taken / nr:.0f} KiB for each")
        for c in clients:
            c.sock.shutdown(socket.SHUT_WR)
        for c in clients:
            check(c.ended(), "closed without an answer")
            c.sock.close()
        until(lambda: h.counts()["open"] == 0, "all are gone")
    with Origin() as o, Hand(f"{cluster('a', o)}\nroute to=a") as h:
        before = h.memory_kb()
        for _ in range(3):
            wave(h)
        check(not o.accepted, "no server was bothered")


@test
def drains():
    gate = threading.Event()
    with Origin(lambda r: (gate.wait(10), ok())[1] if r.target == "/slow" else ok()) as o, Hand(f"{cluster('a', o)}\nroute to=a") as h:
        with Client(h) as busy, Client(h) as idle, Client(h) as late, Client(h) as new:
            check(idle.get()[0] == late.get()[0] == 200, "they were used")
            until(lambda: h.counts()["open"] == 4, "all are there")
            busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: len(o.requests) == 3, "at work")
            check(h.say("drain 5000") == "draining", "draining")
            status, fields, _ = late.get()
            check(status == 200 and fields["connection"] == "close" and late.ended(), "a request that was on its way is served")
            check(idle.ended(), "idle ones end")
            status, fields, _ = new.get()
            check(status == 200 and fields["connection"] == "close", "who was accepted is served once")
            gate.set()
            status, fields, _ = busy.answer()
            check(status == 200 and fields["connection"] == "close" and busy.ended(), f"{fields}")
        check(h.process.stdout.readline() == "ended\n", "and they end")


@test
def without_descriptors_it_waits():
    with Origin() as o, Hand(f"{cluster('a', o)}\nroute to=a", files=40) as h:
        clients = [Client(h) for _ in range(60)]
        until(lambda: h.counts()["open"] >= 20, "as many as there are descriptors")
        before = h.cpu_ticks()
        time.sleep(0.5)
        check(h.cpu_ticks() - before < 3, f"{h.cpu_ticks() - before} ticks of a half second")
        for c in clients:
            c.sock.close()
        with Client(h) as c:
            check(c.get()[0] == 200, "and goes on when there are some")


@test
def tls_is_named():
    with Origin() as o, Hand(f"{cluster('a', o)}\nroute to=a") as h, Client(h) as c:
        c.send(bytes.fromhex("16030100c8010000c40303") + bytes(32))
        check(c.ended(), "closed")
        check(h.counts()["refused_tls"] == 1 and not o.accepted, "and counted")


main()
