#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes seeds for fuzz_control: a well-formed frame of each request, two frames in one stream, journals, and broken ones.
Usage: seed_control.py DIR. The frame format is user/base/wire.h's."""
import os
import struct
import sys

RULES = b"""apiVersion: v1
kind: Service
metadata: {name: s}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
"""


def frame(kind, *parts):
    body = b"".join(struct.pack("<II", len(n), len(d)) + n + d for n, d in parts)
    return struct.pack("<4sHHII", b"TULL", 1, kind, len(body), len(parts)) + body


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    apply = frame(2, (b"file:rules.yaml", RULES))
    seeds = {
        "version": frame(1),
        "apply": apply,
        "dry": frame(2, (b"file:-", RULES), (b"dry-run", b"1"), (b"output", b"json")),
        "delete": apply + frame(3, (b"kind", b"service"), (b"namespace", b"default"), (b"name", b"s")),
        "delete-file": apply + frame(3, (b"file:x", RULES)),
        "get": apply + frame(4, (b"kind", b"svc"), (b"namespace", b""), (b"output", b"yaml")),
        "get-wide": apply + frame(4, (b"kind", b"all"), (b"output", b"wide"), (b"colour", b"1")),
        "diff": apply + frame(5, (b"file:x", RULES.replace(b"80", b"81"))),
        "explain": frame(6, (b"source", b"p"), (b"destination", b"s:80"), (b"protocol", b"tcp")),
        "flows": frame(7, (b"workload", b"a/b"), (b"state", b"open"), (b"live", b"1"), (b"output", b"json")),
        "endpoints": frame(9, (b"name", b"s.example.com"), (b"output", b"wide")),
        "status": frame(8, (b"output", b"json")),
        "journal": frame(100, (b"put:Service/default/s", RULES), (b"del:Service/default/t", b"")),
        "bad-magic": b"TULX" + frame(1)[4:],
        "short": frame(2, (b"file:a", RULES))[:-7],
        "socket": b"S" + apply,
        "socket-short": b"S" + apply[:-9],
        "socket-get": b"S" + frame(4, (b"kind", b"all"), (b"output", b"wide")),
        "journal-file": b"J" + frame(100, (b"put:Service/default/s", RULES), (b"vips:Service/default/s", b"10.96.0.1")) * 2,
        "journal-torn": b"J" + frame(100, (b"put:Service/default/s", RULES))[:-5],
        "long": struct.pack("<4sHHII", b"TULL", 1, 2, 0xFFFFFFFF, 1),
    }
    for name, data in seeds.items():
        with open(os.path.join(out, name), "wb") as f:
            f.write(data)


main()
