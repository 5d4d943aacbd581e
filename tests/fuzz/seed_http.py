# SPDX-License-Identifier: BSD-2-Clause
"""Seeds of the HTTP fuzzer: the messages of the unit tests' tables, as requests and as responses.   seed_http.py DIR"""

import pathlib
import re
import sys


def texts():
    for name in ("test_head.c", "test_chunk.c"):
        source = (pathlib.Path(__file__).parent.parent / "unit" / name).read_text()
        macros = dict(re.findall(r'#define (GET|HOST|POST) ("[^\n]*")', source))
        for row in re.findall(r'^\t\{ "[^"]*", (.*), [^,]*(?:, [^,]*)? \},$', source, re.M):
            for key, value in macros.items():
                row = re.sub(rf"\b{key}\b", lambda _: value, row)
            text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', row))
            yield name, text.encode().decode("unicode_escape").encode("latin-1")


def main():
    out = pathlib.Path(sys.argv[1])
    for nr, (name, text) in enumerate(texts()):
        if name == "test_chunk.c":
            text = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + text
        kind = 1 if text.startswith(b"HTTP/") else 0
        (out / f"{nr:03}").write_bytes(bytes([kind | (nr % 32) << 3]) + text)
    if nr < 100:
        sys.exit(f"only {nr} seeds: the tables of the unit tests are written another way now")


if __name__ == "__main__":
    main()
