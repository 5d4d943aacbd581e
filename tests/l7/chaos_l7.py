#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Many clients and servers at once that do what nobody should: bytes in pieces, ends and resets anywhere, rules that change, limits that are
reached. What comes out whole must be right, nothing may be left over, and the engine must live. TULLE_TEST_LONG=1: for a minute."""
import os
import random
import socket
import struct
import threading
import time

from hands import Client, Hand, Origin, cluster, free_port, until
from suite import check, main, test

SECONDS = 60 if os.environ.get("TULLE_TEST_LONG") else 4
SEED = int(os.environ.get("SEED", "1"))
WRONG = []


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def pieces(rng, data):
    while data:
        n = rng.choice((1, 3, 100, 5000, 70000))
        yield data[:n]
        data = data[n:]


def body_of(seed):
    rng = random.Random(seed)
    return rng.randbytes(rng.choice((0, 1, 10, 1000, 20000, 200000)))


def encoded(rng, body):
    """Fields and bytes of a body, by length or in chunks."""
    if rng.random() < 0.5:
        return f"Content-Length: {len(body)}\r\n", body
    out = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces(rng, body))
    return "Transfer-Encoding: chunked\r\n", out + b"0\r\n\r\n"


def server(rng):
    def talk(sock, reader):
        while True:
            head = reader.head()
            if not head:
                return
            what = rng.random()
            if what < 0.03:
                return reset(sock)
            body = reader.body(head[1])
            if what < 0.06:
                return None
            seed = head[0].split(" ")[1].split("/")[-1]
            if head[0].startswith("POST") and body != body_of(f"q{seed}"):
                WRONG.append(f"body of request {seed}")
            status = "503 No" if what < 0.12 else "200 OK"
            fields, data = encoded(rng, body_of(f"a{seed}"))
            if what < 0.15:
                sock.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            answer = f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + data
            if what < 0.2:
                answer = answer[:rng.randrange(len(answer))]
            for piece in pieces(rng, answer):
                sock.sendall(piece)
            if what < 0.25:
                return None
    return talk


def ask(rng, c, number):
    """One request, maybe several in a row; raises when the connection is of no use any more."""
    seeds = [f"{number}.{i}" for i in range(rng.choice((1, 1, 1, 5)))]
    text = b""
    for seed in seeds:
        method = rng.choice(("GET", "POST"))
        fields, data = encoded(rng, body_of(f"q{seed}")) if method == "POST" else ("", b"")
        text += f"{method} /{rng.choice('mrdx')}/{seed} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode() + data
    if rng.random() < 0.1:
        text = text[:rng.randrange(len(text))]
    writer = threading.Thread(target=write, args=(rng, c, text))
    writer.start()
    try:
        for seed in seeds:
            status = 103
            while status < 200:
                status, _, body = c.answer()
            if status == 200 and body != body_of(f"a{seed}"):
                WRONG.append(f"answer to {seed}: {len(body)} bytes")
            if rng.random() < 0.05:
                raise EOFError("enough")
    finally:
        if rng.random() < 0.5:
            c.sock.shutdown(socket.SHUT_RDWR)
        writer.join()


def write(rng, c, text):
    try:
        for piece in pieces(rng, text):
            c.send(piece)
    except OSError:
        pass


def client(hand, rng, end, done):
    number = rng.randrange(1 << 40)
    while time.monotonic() < end:
        try:
            with Client(hand) as c:
                c.sock.settimeout(3)
                while time.monotonic() < end:
                    number += 1
                    ask(rng, c, number)
                    done.append(1)
        except TimeoutError:
            WRONG.append(f"nothing came of {number}")
        except (OSError, EOFError):
            pass


@test
def whatever_happens():
    rng = random.Random(SEED)
    with Origin(talk=server(random.Random(rng.random()))) as a, Origin(talk=server(random.Random(rng.random()))) as b:
        rules = (f"{cluster('a', a, b, more='max_connections=6 max_pending=4 per_connection=7')}\n{cluster('b', b, free_port(), a)}\n"
                 "route path=/m to=a mirror=b\nroute path=/r to=b:9,a:1 retries=2 on=13 statuses=503 timeout_ms=700 try_ms=300\n"
                 "route path=/d to=b delay_ms=3\n")
        with Hand(rules + "route to=a", "--workers", "2", "--head-ms", "500", "--body-ms", "500", "--idle-ms", "900") as h:
            end, done = time.monotonic() + SECONDS, []
            threads = [threading.Thread(target=client, args=(h, random.Random(rng.random()), end, done)) for _ in range(24)]
            for t in threads:
                t.start()
            turn = 0
            while any(t.is_alive() for t in threads):
                turn += 1
                h.rules(rules + f"route to={'ab'[turn % 2]}")
                time.sleep(0.05)
            check(not WRONG, f"{len(WRONG)} wrong, seed {SEED}: {WRONG[:3]}")
            check(len(done) > 20, f"{len(done)} requests only")
            until(lambda: h.counts()["open"] == 0 and h.counts()["active"] == 0, "nothing of clients is left")
            a.close_all()
            b.close_all()
            until(lambda: h.counts()["upstream_open"] == 0, "nor of servers", 20)
            print(f"{len(done)} turns of requests, {h.counts()['accepted']} connections, seed {SEED}")


main()
