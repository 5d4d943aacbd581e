#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Seeds of fuzz_route: choices of rules with requests and responses. usage: seed_route.py DIR"""
import os
import random
import sys

REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a.b\r\n\r\n",
    b"GET /a/b?q=1&x-a=a HTTP/1.1\r\nHost: x.b:80\r\nX-A: a\r\nX-A: b\r\nCookie: a=1; x-a=2\r\n\r\n",
    b"POST /ab HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nTE: trailers\r\n\r\n",
    b"PUT http://a.b/a//b HTTP/1.1\r\nHost: z\r\nContent-Length: 3\r\nConnection: x-b, close\r\nX-B: 1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a.b\r\nOrigin: a\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    b"OPTIONS http://a.b HTTP/1.1\r\nHost: a.b\r\n\r\n",
    b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n",
    b"GET /x/%2e/y HTTP/1.0\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nConnection: close\r\nAccess-Control-Allow-Origin: *\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 304 \r\nETag: x\r\nContent-Length: 9\r\n\r\n",
]


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(1)
    for n in range(200):
        choices = bytes(rng.randrange(256) for _ in range(rng.randrange(40, 250)))
        corrupt = rng.randrange(1, 4) if n % 4 == 3 else 0
        text = bytes([corrupt, len(choices)]) + choices + rng.choice(REQUESTS) + b"\0" + rng.choice(RESPONSES)
        with open(os.path.join(folder, f"{n:03}"), "wb") as f:
            f.write(text)


main()
