#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The corpus of smuggling/*.txt through the whole engine: what the client is answered, and what the server takes for requests."""
import glob
import os
import re

from hands import Client, Hand, Origin, cluster
from suite import check, main, test

BEHIND = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def blocks(path):
    with open(path, encoding="ascii") as f:
        for block in f.read().split("\n\n"):
            lines = [line for line in block.strip().split("\n") if not line.startswith("#")]
            if not lines:
                continue
            name, statuses, targets = re.fullmatch(r"(.*): ([\d ]+) \|(.*)", lines[0]).groups()
            yield name, statuses.split(), targets.split(), "".join(lines[1:]).encode().decode("unicode_escape").encode("latin-1")


def answers(hand, pieces):
    """Statuses of all answers until the connection ends."""
    got = []
    with Client(hand) as c:
        try:
            for piece in pieces:
                c.send(piece)
        except OSError:
            pass
        try:
            while True:
                got.append(str(c.answer()[0]))
        except (EOFError, ConnectionResetError):
            pass
    return got


def one(hand, origin, name, statuses, targets, data, split):
    origin.requests.clear()
    text = data + BEHIND
    got = answers(hand, [text[:split], text[split:]] if split else [text])
    seen = [r.target for r in origin.requests]
    if targets:
        check(got == statuses, f"{name}, split at {split}: answers {got}")
        check(seen == targets, f"{name}, split at {split}: the server saw {seen}")
    else:
        check(len(got) == 1 and got[0] in statuses, f"{name}, split at {split}: answers {got}")
        check(not seen, f"{name}, split at {split}: the server saw {seen}")


def corpus(pattern):
    nr = 0
    with Origin() as o, Hand(f"{cluster('a', o)}\nroute to=a") as h:
        for path in glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "smuggling", pattern)):
            for name, statuses, targets, data in blocks(path):
                for split in (0, len(data) // 2, len(data) - 1, len(data)):
                    one(h, o, name, statuses, targets, data, split)
                nr += 1
    check(nr, "there are none")


@test
def framing():
    corpus("framing.txt")


@test
def lines():
    corpus("lines.txt")


@test
def chunks():
    corpus("chunks.txt")


main()
