#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Seeds of fuzz_engine: scripts of clients and servers, most of them such that requests are answered. usage: seed_engine.py DIR"""
import os
import random
import sys

(ACCEPT, CLIENT_SAYS, SERVER_SAYS, CLIENT_ASKS, SERVER_ANSWERS, CLIENT_FILLS, SERVER_FILLS, CLIENT_ENDS, SERVER_ENDS, CLIENT_TAKES,
 SERVER_TAKES, CONNECTED, TIME, RULES, DRAIN, NO_FILE) = range(16)
MORE, REQUESTS, ANSWERS = 0x80, 19, 13


def some(rng):
    who = rng.randrange(8)
    return rng.choice((
        [ACCEPT], [CLIENT_ASKS, who, rng.randrange(REQUESTS)], [CLIENT_ASKS, who, rng.randrange(REQUESTS)],
        [SERVER_ANSWERS, who, rng.randrange(ANSWERS)], [SERVER_ANSWERS, who, rng.randrange(ANSWERS)], [CLIENT_FILLS, who | rng.choice((0, 128)), rng.randrange(256)],
        [SERVER_FILLS, who | rng.choice((0, 128)), rng.randrange(256)], [CLIENT_ENDS, who | rng.choice((0, 128))], [SERVER_ENDS, who | rng.choice((0, 128))],
        [CLIENT_TAKES, who, rng.randrange(256)], [SERVER_TAKES, who, rng.randrange(256)], [CONNECTED, who | rng.choice((0, 0, 128))],
        [TIME, rng.randrange(256)], [RULES, rng.randrange(3)], [DRAIN, rng.randrange(256)], [NO_FILE, rng.randrange(8)],
        [CLIENT_SAYS, who, 4, *b"GET "], [SERVER_SAYS, who, 7, *b"0\r\n\r\nHT"]))


def write(folder, name, settings, steps):
    with open(os.path.join(folder, name), "wb") as f:
        f.write(bytes([settings]) + bytes(b for step in steps for b in step))


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(1)
    for ask in range(REQUESTS):
        for answer in range(ANSWERS):
            steps = [[ACCEPT], [CLIENT_ASKS, 0, ask], [CLIENT_FILLS, rng.choice((0, 128)), 250], [SERVER_ANSWERS, 0, answer], [SERVER_FILLS, rng.choice((0, 128)), 250],
                     [SERVER_ENDS, 0], [CLIENT_ASKS, 0, 0], [SERVER_ANSWERS, 0, 0]]
            settings = 2 | rng.choice((0, 8, 16, 32))
            write(folder, f"one-{ask:02}-{answer:02}", settings, [s for s in steps if rng.random() < 0.9])
    for hello in (17, 18):
        for end in (CLIENT_ENDS, SERVER_ENDS):
            for by in (0, 128):
                write(folder, f"tls-{hello}-{end}-{by}", 2 | 32, [[RULES | MORE, 2], [ACCEPT], [CLIENT_ASKS, 0, hello], [SERVER_FILLS, 0, 200],
                                                                   [CLIENT_FILLS, 128, 250], [end, by]])
    for n in range(200):
        steps = [[ACCEPT]] + [some(rng) for _ in range(rng.randrange(4, 60))]
        for step in steps:
            step[0] |= rng.choice((0, 0, MORE))
        write(folder, f"some-{n:03}", rng.randrange(256) & ~64, steps)


main()
