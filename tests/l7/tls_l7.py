#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Connections of TLS by the name that they ask for: through the engine to servers that nobody but the client talks to."""
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import time

import tls
from hands import WAIT, Client, Hand, Origin, cluster, free_port, until
from suite import Skip, check, main, test


# Some 4 KiB of a first message; in records of one byte each they are more than is read of any.
MANY = ["x" * 200 + str(i) for i in range(20)]


def secure(name):
    """A server that says its name to whoever got through a handshake, and then what it hears."""
    context = tls.server(name)

    def talk(sock, _):
        with context.wrap_socket(sock, server_side=True) as s:
            s.sendall(name.encode() + b"\n")
            while data := s.recv(65536):
                s.sendall(data)
            s.unwrap()
    return Origin(talk=talk)


def asks(port, name, version=None):
    """Who answers."""
    with socket.create_connection(("127.0.0.1", port), WAIT) as s, tls.client(version).wrap_socket(s, server_hostname=name) as t:
        with t.makefile("rb") as reader:
            said = reader.readline().decode().strip()
        t.unwrap()
        return said


def refused(port, name):
    try:
        return f"answered by {asks(port, name)}"
    except ssl.SSLError as e:
        return e.reason


RULES = "\ntls\nroute host=a.test to=a\nroute host=*.test to=b\nroute host=*.deep.test to=a"


@test
def by_name():
    with secure("a") as a, secure("b") as b, Hand(cluster("a", a) + "\n" + cluster("b", b) + RULES) as h:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for name, want in (("a.test", "a"), ("A.TEST", "a"), ("x.test", "b"), ("x.y.test", "b"), ("x.deep.test", "a")):
                check(asks(h.port, name, version) == want, f"{name} of {version}")
        for name in ("test", "a.testing", "other", None):
            check(refused(h.port, name) in ("TLSV1_UNRECOGNIZED_NAME", "TLSV1_ALERT_UNRECOGNIZED_NAME"), f"{name}: {refused(h.port, name)}")
        counts = h.counts()
        check(counts["tls"] == 10 and counts["tls_unrouted"] == 8 and not counts["requests"], f"{counts}")
        h.rules(cluster("b", b) + "\ntls\nroute host=a.test to=b\nroute to=b")
        check(asks(h.port, "a.test") == asks(h.port, None) == asks(h.port, "other") == "b", "other rules, and a name that all have")
        until(lambda: not h.counts()["open"] and not h.counts()["upstream_open"], "nothing is left")


@test
def bytes_both_ways():
    whole = os.urandom(1 << 20) * 8
    with secure("a") as a, Hand(cluster("a", a) + RULES.replace("to=b", "to=a")) as h:
        with socket.create_connection(("127.0.0.1", h.port), WAIT) as s, tls.client().wrap_socket(s, server_hostname="a.test") as t:
            with t.makefile("rb") as reader:
                check(reader.readline() == b"a\n", "its name")
                for at in range(0, len(whole), 1 << 20):
                    t.sendall(whole[at:at + (1 << 18)])
                    check(reader.read(1 << 18) == whole[at:at + (1 << 18)], f"at {at}")
            t.unwrap()
        until(lambda: not h.counts()["open"], "and it ends")


@test
def in_pieces():
    def talk(sock, reader):
        reader.exactly(len(want))
        sock.sendall(b"done")
        reader.rest()
    with Origin(talk=talk) as o, Hand(cluster("a", o) + "\ntls\nroute host=a.test to=a") as h:
        for size in (16384, 50, 1):
            want = tls.records(tls.hello("a.test", protocols=MANY if size > 16 else ()), size)
            for step in (len(want), 100, 5):
                with Client(h) as c:
                    for at in range(0, len(want), step):
                        c.send(want[at:at + step])
                        if at == 0 and step < len(want):
                            check(c.silent(0.005) and h.counts()["upstream_open"] == 0, "nobody is asked before the whole is there")
                    check(c.reader.exactly(4) == b"done", f"{size} by {step}")


@test
def what_is_none():
    hello = tls.hello("a.test")
    with Origin() as o, Hand(cluster("a", o) + "\ntls\nroute to=a", "--head-ms", "200") as h:
        for text in (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", b"SSH-2.0-x\r\n", b"\x80\x2e\x01\x03\x01", hello[:20] + b"\xff" + hello[21:43] + b"\xff" * 500,
                     tls.records(hello + bytes(16000), 16384), tls.records(tls.hello("a.test", protocols=MANY), 1)):
            with Client(h) as c:
                c.send(text)
                check(c.reader.rest() == b"", f"closed without a word: {text[:20]}")
        check(h.counts()["refused"] == 6 and not o.accepted, f"{h.counts()}")
        with Client(h) as c, Client(h) as silent:
            c.send(hello[:100])
            check(c.reader.rest() == b"" and silent.reader.rest() == b"", "who says no more is closed after a time")
        with Client(h) as c:
            c.send(hello[:100])
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: not h.counts()["open"], "nothing is left")
        check(not o.accepted, "nobody was asked")


@test
def nobody_to_ask():
    with Hand(f"{cluster('a', free_port())}\ntls\nroute host=a.test to=a\ndeny port=1") as h, Client(h) as c:
        c.send(tls.hello("a.test"))
        check(c.reader.rest() == b"", "closed")
        until(lambda: not h.counts()["upstream_open"], "nothing is left")
    with secure("a") as a, Hand(f"{cluster('a', a, more='max_connections=1')}\ntls\nroute to=a") as h:
        with socket.create_connection(("127.0.0.1", h.port), WAIT) as s, tls.client().wrap_socket(s) as t:
            check(t.makefile("rb").readline() == b"a\n", "the first")
            with Client(h) as c:
                c.send(tls.hello("a.test"))
                check(c.reader.rest() == b"", "one more than there may be is closed at once")
        until(lambda: not h.counts()["upstream_open"], "room again")
        check(asks(h.port, "a") == "a", "and used")


@test
def policies_of_requests():
    """Nobody can look: what denies some paths denies all, what denies another port nothing."""
    with secure("a") as a:
        with Hand(f"{cluster('a', a)}\ntls\nroute to=a\ndeny path=/secret") as h, Client(h) as c:
            c.send(tls.hello("a.test"))
            check(c.reader.rest() == b"" and not a.accepted, "denied")
        with Hand(f"{cluster('a', a)}\ntls\nroute to=a\ndeny port={a.port}") as h, Client(h) as c:
            c.send(tls.hello("a.test"))
            check(c.reader.rest() == b"" and not a.accepted, "denied by port")
        with Hand(f"{cluster('a', a)}\ntls\nroute to=a\ndeny port=1") as h:
            check(asks(h.port, "x") == "a", "allowed")


@test
def a_server_that_breaks():
    def talk(sock, reader):
        reader.exactly(10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with Origin(talk=talk) as o, Hand(f"{cluster('a', o)}\ntls\nroute to=a") as h, Client(h) as c:
        c.send(tls.hello("a.test"))
        try:
            check(not c.sock.recv(1), "not even an end")
            check(False, "a reset that looks like an end")
        except ConnectionResetError:
            pass


@test
def times():
    with secure("a") as a:
        for limit in ("tcp_idle_ms=100", "duration_ms=100"):
            with Hand(f"{cluster('a', a, more=limit)}\ntls\nroute to=a") as h:
                begun = time.monotonic()
                with socket.create_connection(("127.0.0.1", h.port), WAIT) as s, tls.client().wrap_socket(s) as t, t.makefile("rb") as reader:
                    check(reader.readline() == b"a\n", "it talks")
                    begin = begun if limit.startswith("duration") else time.monotonic()
                    try:
                        t.sendall(b"x")
                        while reader.read(1) and limit.startswith("duration"):
                            t.sendall(b"x")
                        check(not reader.read(1), "it ends")
                    except (ssl.SSLEOFError, ConnectionError):
                        pass
                    check(time.monotonic() - begin >= 0.09, f"{limit}: too soon")
                until(lambda: not h.counts()["open"] and not h.counts()["upstream_open"], "and nothing is left") # pylint: disable=cell-var-from-loop


@test
def rules_of_another_kind():
    with secure("a") as a, Origin() as o:
        with Hand(f"{cluster('a', a)}\ntls\nroute to=a") as h, Client(h) as c, Client(h) as waits:
            hello = tls.hello("a.test")
            waits.send(hello[:50])
            until(lambda: h.counts()["active"] == 1, "it waits")
            h.rules(f"{cluster('a', o)}\nroute to=a")
            check(c.get()[0] == 200, "now it is a port of HTTP")
            waits.send(hello[50:])
            check(waits.reader.rest() == b"", "what was asked under other rules has no route")
            h.rules(f"{cluster('a', a)}\ntls\nroute to=a")
            check(c.get()[0] == 404, "a connection of HTTP that is kept stays one")
            check(asks(h.port, "x") == "a", "others are TLS again")


@test
def told():
    with secure("a") as a, tempfile.TemporaryFile("w+", encoding="ascii") as log:
        with Hand(f"{cluster('a', a)}\ntls\nroute host=a.test to=a name=r", "--log", "text", stderr=log) as h:
            asks(h.port, "a.test")
            refused(h.port, "b.test")
            with Client(h) as c:
                c.send("GET / HTTP/1.1\r\n\r\n").reader.rest()
            # What is no name gets no line of its own, and no quote, where others read.
            for bad in (b"\n", b'"', b"\0"):
                with socket.create_connection(("127.0.0.1", h.port), WAIT) as s:
                    s.sendall(tls.hello("evil.test").replace(b"evil.", b"evil" + bad))
                    check(s.recv(1) == b"", "it is refused")
        log.seek(0)
        lines = log.read().splitlines()
    check(len(lines) == 6 and all('"- - -" 0 ' in line for line in lines), f"{lines}")
    by_flag = {line.split('"- - -" 0 ')[1].split()[0]: line for line in lines}
    check(set(by_flag) == {"-", "NR", "DPE"}, f"{lines}")
    check(" via_upstream " in by_flag["-"] and by_flag["-"].endswith(" a.test r"), by_flag["-"])
    check(f'"127.0.0.1:{a.port}" a ' in by_flag["-"], by_flag["-"])
    check(all(line.endswith(" - -") for line in lines if " DPE " in line), f"{lines}")
    check(" filter_chain_not_found " in by_flag["NR"] and by_flag["NR"].endswith(" b.test -"), by_flag["NR"])


@test
def curl():
    if not shutil.which("curl"):
        raise Skip("no curl")

    def talk(sock, _):
        with tls.server("a").wrap_socket(sock, server_side=True) as s:
            s.recv(65536)
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            s.unwrap()
    with Origin(talk=talk) as o, Hand(f"{cluster('a', o)}\ntls\nroute host=a.test to=a") as h:
        done = subprocess.run(["curl", "-sk", "--max-time", "5", "--resolve", f"a.test:{h.port}:127.0.0.1", f"https://a.test:{h.port}/"],
                              capture_output=True, text=True, check=False)
        check(done.stdout == "ok", f"{done}")
        done = subprocess.run(["curl", "-sk", "--max-time", "5", f"https://127.0.0.1:{h.port}/"], capture_output=True, check=False)
        check(done.returncode == 35, f"without a name: {done.returncode}")


main()
