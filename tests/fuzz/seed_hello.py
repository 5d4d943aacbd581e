# SPDX-License-Identifier: BSD-2-Clause
"""Seeds of the fuzzer of TLS's first message: those of this machine's OpenSSL, in several versions and records.   seed_hello.py DIR"""

import pathlib
import ssl
import sys


def hello(name, version, protocols):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(protocols)
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def records(whole, size):
    message = whole[5:]
    for at in range(0, len(message), size):
        part = message[at : at + size]
        yield b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part


def main():
    out = pathlib.Path(sys.argv[1])
    nr = 0
    for name in (None, "a.example", "Shop.Example.COM", "x" * 63 + "." + "y" * 63):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for protocols in ([], ["h2", "http/1.1"]):
                whole = hello(name, version, protocols)
                for size in (16384, 100, 3):
                    (out / f"{nr:03}").write_bytes(bytes([nr * 7 % 256]) + b"".join(records(whole, size)))
                    nr += 1


if __name__ == "__main__":
    main()
