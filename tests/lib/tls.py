# SPDX-License-Identifier: BSD-2-Clause
"""TLS in tests: servers that say who they are, clients that ask for names, and first messages in pieces."""
import os
import ssl
import subprocess
import tempfile

if "TULLE_TEST_TLS" not in os.environ: # whoever a test starts shares its folder, and may be killed
    OWN = tempfile.TemporaryDirectory(prefix="tulle-tls-")
    os.environ["TULLE_TEST_TLS"] = OWN.name
FOLDER = os.environ["TULLE_TEST_TLS"]


def certificate(name):
    """Paths of a certificate for this name, signed by itself, and of its key."""
    cert, key = (os.path.join(FOLDER, f"{name}.{end}") for end in ("crt", "key"))
    if not os.path.exists(cert):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", f"/CN={name}", "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def server(name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(name))
    return context


def client(version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    return context


def hello(name, version=None, protocols=()):
    """The first message of this machine's OpenSSL, in one record."""
    out = ssl.MemoryBIO()
    context = client(version)
    context.set_alpn_protocols(list(protocols))
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def records(whole, size):
    """The same message in records of so many bytes."""
    message = whole[5:]
    parts = [message[at:at + size] for at in range(0, len(message), size)]
    return b"".join(whole[:3] + len(part).to_bytes(2, "big") + part for part in parts)
