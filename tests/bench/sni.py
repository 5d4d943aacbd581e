# SPDX-License-Identifier: BSD-2-Clause
"""meshl7 beside nginx (ssl_preread), haproxy (req.ssl_sni) and Envoy (tls_inspector), one worker each: connections of TLS that go where the name in
their first message says. Whoever is behind them looks at nothing, so that what is counted is the proxies' work: connections that bring a first message,
get a byte and end, one after another, where all of them pass on that one side has ended (nginx only when told to); and bytes through one that is open. Else as l7.py: the proxy is on the first CPU, client and server are on
the other; they take turns, after one each that does not count."""
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time

import envoys
import l7
import table
import tls
from table import row

# A name for each server: one answers with a byte, the other with as much as the client takes.
NAMES = {"short.test": l7.A, "long.test": l7.B}
HELLOS = {name: tls.hello(name) for name in NAMES}
ROUNDS, SECONDS = (2, 0.3) if table.QUICK else (11, 0.85)
SERVER = r"""
import socket, sys, threading
def short(s):
    s.recv(65536)
    s.sendall(b"x")
    s.recv(1)
def long(s):
    data = bytes(1 << 20)
    s.recv(65536)
    while True:
        s.sendall(data)
def serve(port, talk):
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listener:
        while True:
            s, _ = listener.accept()
            with s:
                try:
                    talk(s)
                except OSError:
                    pass
threading.Thread(target=serve, args=(int(sys.argv[1]), short)).start()
serve(int(sys.argv[2]), long)
"""


def meshl7(folder):
    rules = "".join(f"cluster name={name} to=127.0.0.1:{port}\n" for name, port in NAMES.items())
    rules += "tls\n" + "".join(f"route host={name} to={name}\n" for name in NAMES)
    return [os.path.join(l7.labs.BUILD, "tests", "l7", "hand"), str(l7.PORTS["meshl7"]), l7.write(folder, "rules", rules), "--meshl7", l7.MESHL7]


def nginx(folder):
    names = "".join(f"{name} 127.0.0.1:{port};" for name, port in NAMES.items())
    return ["nginx", "-e", "/dev/null", "-c", l7.write(folder, "nginx.conf", f"""daemon off; master_process off; pid {folder}/n.pid;
        load_module /usr/lib/nginx/modules/ngx_stream_module.so; error_log /dev/null; events {{ worker_connections 4000; }}
        stream {{ map $ssl_preread_server_name $to {{ {names} }}
        server {{ listen 127.0.0.1:{l7.PORTS["nginx"]} backlog=4096; ssl_preread on; proxy_half_close on; proxy_pass $to; }} }}""")]


def haproxy(folder):
    chosen = "".join(f" use_backend {name} if {{ req.ssl_sni {name} }}\n" for name in NAMES)
    backends = "".join(f"backend {name}\n server s 127.0.0.1:{port}\n" for name, port in NAMES.items())
    return ["haproxy", "-q", "-f", l7.write(folder, "haproxy.cfg", f"""global
 maxconn 4000
 no strict-limits
 nbthread 1
defaults
 mode tcp
 option splice-auto
 timeout connect 5s
 timeout client 1h
 timeout server 1h
frontend f
 bind 127.0.0.1:{l7.PORTS["haproxy"]} backlog 4096
 tcp-request inspect-delay 5s
 tcp-request content accept if {{ req.ssl_hello_type 1 }}
{chosen}{backends}""")]


def envoy(folder):
    types = "type.googleapis.com/envoy.extensions.filters"
    chains = "".join(f"""
    - filter_chain_match: {{server_names: [{name}]}}
      filters: [{{name: t, typed_config: {{"@type": {types}.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: {name}}}}}]""" for name in NAMES)
    clusters = "".join(f"""
  - {{name: {name}, type: STATIC, connect_timeout: 5s, load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address:
      {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}}}""" for name, port in NAMES.items())
    return [envoys.program(), "--concurrency", "1", "-l", "off", "--use-dynamic-base-id", "-c", l7.write(folder, "envoy.yaml", f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {l7.PORTS["envoy"]}}}}}
    listener_filters: [{{name: i, typed_config: {{"@type": {types}.listener.tls_inspector.v3.TlsInspector}}}}]
    filter_chains:{chains}
  clusters:{clusters}
""")]


def connect(proxy, name):
    s = socket.create_connection(("127.0.0.1", proxy.port), 10)
    s.sendall(HELLOS[name])
    if not s.recv(1):
        raise RuntimeError(f"{proxy.name} does not pass {name} on")
    return s


def short(proxy, until):
    """Connections, one after another."""
    nr = 0
    while time.monotonic() < until:
        connect(proxy, "short.test").close()
        nr += 1
    return nr


def long(proxy, until):
    """Megabytes through one."""
    room, got = bytearray(1 << 20), 0
    with connect(proxy, "long.test") as s:
        while time.monotonic() < until:
            got += s.recv_into(room)
    return got / 1e6


def turn(proxy, what):
    """What is done in a CPU second of the proxy's."""
    before = proxy.cpu_ns()
    done = what(proxy, time.monotonic() + SECONDS)
    return done / ((proxy.cpu_ns() - before) / 1e9)


def take_turns(proxies):
    for what, unit, name in ((short, "conn/CPUs", "TLS by name, new connections"), (long, "MB/CPUs", "TLS by name, bytes of one")):
        results = {p: [] for p in proxies}
        for i in range(ROUNDS + 1):
            for p in proxies if i % 2 else proxies[::-1]:
                results[p].append(turn(p, what))
        first = results[proxies[0]][1:]
        for p in proxies:
            values = results[p][1:]
            ratios = [a / b for a, b in zip(first, values)]
            other = p is not proxies[0]
            row(f"{p.name}, {name}", unit, statistics.median(values), [min(values), max(values)],
                f"{proxies[0].name}, {name}" if other else None, statistics.median(ratios) if other else None,
                "meshl7's to it; quartiles {0:.2f} {2:.2f}".format(*statistics.quantiles(ratios, n=4)) if other else "")


def measure():
    missing = [p for p in ("nginx", "haproxy", "taskset") if not shutil.which(p)]
    if missing:
        return row("meshl7 by name, beside others", "conn/CPUs", None, note=f"not installed: {' '.join(missing)}")
    affinity = os.sched_getaffinity(0)
    with l7.own_network(), tempfile.TemporaryDirectory(prefix="tulle-bench-") as folder:
        known = {"meshl7": meshl7(folder), "nginx": nginx(folder), "haproxy": haproxy(folder)}
        if envoys.installed():
            known["envoy"] = envoy(folder)
        else:
            row("envoy", "conn/CPUs", None, note="not installed")
        started = []
        try:
            started.append(l7.Proxy("servers", [sys.executable, "-c", SERVER, str(l7.A), str(l7.B)], 1))
            for name, command in known.items():
                started.append(l7.Proxy(name, command, 0))
            os.sched_setaffinity(0, {1})
            take_turns(started[1:])
        finally:
            os.sched_setaffinity(0, affinity)
            for p in started:
                p.end()
    return None
