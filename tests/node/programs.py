#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Programs that people run, in pods, with the clients that people use: they give the same answers without a mesh and under it, whatever
moves their bytes; and what is moved from socket to socket is the traffic that it is meant for, and no other."""
import functools
import glob
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import typing

import accel # first: it finds tests/lib
import envoys
import labs
from suite import Skip, check, main, test

SOURCES = os.path.join(labs.REPO, "tests", "programs")
BUILT = os.path.join(labs.BUILD, "tests", "programs")
# Programs by the name of their test. A program is a function of a node: what its clients got, and Shares.
PROGRAMS = {}


class Share(typing.NamedTuple):
    """What is to be redirected of flows in mode auto: `most` of those that have at least so many messages each, or `none`."""
    what: str
    flows: list
    messages: int = 0


def program(fn):
    PROGRAMS[fn.__name__] = fn
    return fn


@functools.cache
def ran(name, mode):
    with accel.shared(mode, splices=None) as node:
        return PROGRAMS[name](node)


def source(name):
    return os.path.join(SOURCES, name)


def digest(node, url, *options):
    """SHA-256 of what curl gets."""
    return node.run("client", "sh", "-c", 'set -e; curl -sSf --noproxy "*" "$@" | sha256sum', "sh", *options, url).split()[0]


def get_files(node, url, files, *options):
    """Whether each file arrives as it is, and a second of requests for the first without a failure."""
    got = {name: digest(node, f"{url}/{name}", *options) == wanted for name, wanted in files.items()}
    if shutil.which("wrk"):
        out = node.run("client", "wrk", "-t1", "-c8", "-d1s", f"{url}/{next(iter(files))}")
        got["wrk"] = int(re.search(r"(\d+) requests in", out)[1]) > 0 and not re.search("Socket errors|Non-2xx", out)
    return got


def nginx(node, pod, port, location):
    """A server of one location; stream modules are not needed."""
    name = f"nginx-{pod}"
    path = node.write(f"{name}.conf", f"""daemon off; master_process off; pid {node.scratch}/{name}.pid; error_log stderr;
events {{ worker_connections 1000; }}
http {{ access_log off; sendfile on; client_body_temp_path {node.scratch}/{name}-body; proxy_temp_path {node.scratch}/{name}-proxy;
fastcgi_temp_path {node.scratch}/1; uwsgi_temp_path {node.scratch}/2; scgi_temp_path {node.scratch}/3;
server {{ listen [::]:{port} ipv6only=off; location / {{ {location} }} }} }}
""")
    node.start(pod, port, accel.need("nginx", "nginx"), "-c", path, "-e", "stderr")


def static_files(node):
    """Starts nginx with files in the pod server; their digests by name."""
    folder = os.path.join(node.scratch, "files")
    os.mkdir(folder)
    rng, files = random.Random(5), {}
    for size in (512, 100_000, 10_000_000):
        data = rng.randbytes(size)
        files[f"f{size}"] = hashlib.sha256(data).hexdigest()
        with open(os.path.join(folder, f"f{size}"), "wb") as f:
            f.write(data)
    nginx(node, "server", 8080, f"root {folder};")
    return files


def node_js():
    return accel.need("node", "nodejs")


# ---- what is asked and answered, by event loops ----

@program
def redis(node):
    node.start("server", 6379, accel.need("redis-server", "redis-server"), "--port", 6379, "--bind", "0.0.0.0", "::", "--save", "",
               "--appendonly", "no", "--protected-mode", "no", "--enable-debug-command", "yes", "--dir", node.scratch)
    at = ("-h", node.to("server"), "-p", 6379)
    out = node.run("client", "redis-benchmark", *at, "-t", "set,get,incr,lpush,lpop,mset", "-n", 8000, "-c", 8, "-d", 100, "-r", 500, "--csv")
    rows = [line.split(",")[0] for line in out.splitlines()]
    benchmark = Share("most", node.flows_to("server"), 2000)
    return (rows, redis_data(node, at)), [benchmark, Share("none", redis_blocking(node, at))]


def redis_data(node, at):
    """What is written by redis-cli --pipe and read back, and redis' own digest of everything."""
    rng = random.Random(3)
    values = {f"key:{i}": "".join(rng.choices("abcdefgh\\\"' ", k=int(2 ** rng.uniform(0, 14)))) for i in range(500)}
    writes = "".join(f"*3\r\n$3\r\nSET\r\n${len(k)}\r\n{k}\r\n${len(v)}\r\n{v}\r\n" for k, v in values.items())
    node.run("client", "redis-cli", *at, "flushall")
    piped = node.run("client", "redis-cli", *at, "--pipe", text_in=writes).splitlines()[-1]
    lines = node.run("client", "redis-cli", *at, "--raw", text_in="".join(f"get {k}\n" for k in values)).split("\n")[:-1]
    check(lines == list(values.values()), "redis: other values are read than were written")
    return piped, node.run("client", "redis-cli", *at, "debug", "digest")


def redis_blocking(node, at):
    """Flows of a client that sleeps in read()."""
    node.fresh()
    check(node.run("client", "redis-cli", *at, "-r", 2000, "echo", "hello").count("hello") == 2000, "redis: 2000 echoes")
    return node.flows_to("server")


@program
def memcached(node):
    node.start("server", 11211, accel.need("memcached", "memcached"), "-u", "root", "-l", "::,0.0.0.0", "-p", 11211, "-U", 0, "-t", 2)
    out = node.run("client", node_js(), source("memcache.js"), node.to("server", True), 11211, 4, 3000)
    return out, [Share("most", node.flows_to("server"), 6000)]


@program
def node_http(node):
    node.start("server", 8000, node_js(), source("http.js"), "serve", 8000)
    out = node.run("client", node_js(), source("http.js"), "get", node.to("server"), 8000, 8000, 4)
    flows = node.flows_to("server")
    data = node.write("upload", random.Random(7).randbytes(3_000_000).hex())
    put = node.run("client", accel.need("curl", "curl"), "-sSf", "--noproxy", "*", "-T", data, f"http://{node.to('server')}:8000/")
    with open(data, "rb") as f:
        check(put.strip() == hashlib.sha256(f.read()).hexdigest(), "node: another upload arrived")
    return out, [Share("most", flows, 2000)]


@program
def pgbench(node):
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    if not found:
        raise Skip("PostgreSQL is not installed (Debian package postgresql)")
    tools = os.path.dirname(found[-1])
    with tempfile.TemporaryDirectory(prefix=labs.folder_prefix()) as folder:
        shutil.chown(folder, "postgres", "postgres")
        as_postgres = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--")
        data = os.path.join(folder, "data")
        node.run("server", *as_postgres, f"{tools}/initdb", "-D", data, "-A", "trust", "--no-sync", "--no-locale")
        with open(os.path.join(data, "pg_hba.conf"), "a", encoding="ascii") as f:
            f.write("host all all all trust\n")
        server = node.start("server", 5432, *as_postgres, f"{tools}/postgres", "-D", data, "-p", 5432, "-h", "0.0.0.0", "-k", folder, "-F")
        try:
            return pgbench_client(node, tools)
        finally:
            server.terminate() # its children go with it, and its shared memory
            server.wait(30)


def pgbench_client(node, tools):
    at = f"host={node.to('server')} port=5432 user=postgres dbname=postgres sslmode=disable gssencmode=disable"
    node.run("client", f"{tools}/pgbench", "-i", "-q", at)
    node.fresh()
    out = [node.run("client", f"{tools}/pgbench", "-n", "-c", 4, "-t", 1500, "-S", at)]
    # One connection of pgbench's own asks for the tables first.
    select = [f for f in node.flows_to("server") if f["bytes_sent"] + f["bytes_received"] > 150_000]
    out.append(node.run("client", f"{tools}/pgbench", "-n", "-c", 4, "-t", 100, at))
    done = [re.search(r"actually processed: (\S+)", text)[1] for text in out]
    sums = node.run("client", f"{tools}/psql", "-XAt", at, "-c",
                    "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), "
                    "(select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers), "
                    "(select count(*) from pgbench_history)").strip()
    return (done, sums), [Share("most", select, 3000)]


# ---- files and proxies ----

@program
def nginx_static(node):
    files = static_files(node)
    return get_files(node, f"http://{node.to('server')}:8080", files), []


@program
def nginx_proxy(node):
    files = static_files(node)
    nginx(node, "middle", 8000, f"proxy_pass http://{node.to('server')}:8080; proxy_http_version 1.1; proxy_buffering off;")
    return get_files(node, f"http://{node.to('middle')}:8000", files), []


def haproxy(node, options):
    files = static_files(node)
    path = node.write("haproxy.cfg", "global\n nbthread 1\n" + ("" if options else " nosplice\n") + "defaults\n mode tcp\n timeout connect 5s\n"
                      f" timeout client 10s\n timeout server 10s\n{options}listen l\n bind :::7000 v4v6\n"
                      f" server s {node.to('server')}:8080\n")
    node.start("middle", 7000, accel.need("haproxy", "haproxy"), "-q", "-db", "-f", path)
    return get_files(node, f"http://{node.to('middle')}:7000", files)


@program
def haproxy_that_splices(node):
    got = haproxy(node, " option splice-request\n option splice-response\n")
    return got, [Share("none", node.flows_to("middle")), Share("none", node.flows_to("server"))]


@program
def haproxy_without_splice(node):
    return haproxy(node, ""), []


@program
def go_io_copy(node):
    go, path = accel.need("go", "golang-go"), os.path.join(BUILT, "proxy")
    os.makedirs(BUILT, exist_ok=True)
    env = os.environ | {"GOCACHE": os.path.join(BUILT, "go"), "GOTOOLCHAIN": "local", "GOFLAGS": "", "GO111MODULE": "off"}
    subprocess.run([go, "build", "-o", path, source("proxy.go")], check=True, env=env)
    files = static_files(node)
    node.start("middle", 9000, path, ":9000", f"{node.to('server')}:8080")
    got = get_files(node, f"http://{node.to('middle')}:9000", files)
    return got, [Share("none", node.flows_to("middle")), Share("none", node.flows_to("server"))]


@program
def envoy(node):
    path = envoys.program()
    files = static_files(node)
    address = '{socket_address: {address: "%s", port_value: %d}}'
    config = node.write("envoy.yaml", f"""static_resources:
  listeners:
  - address: {address % ("0.0.0.0", 7000)}
    filter_chains: [{{filters: [{{name: envoy.filters.network.tcp_proxy, typed_config: {{
      "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: c}}}}]}}]
  clusters:
  - {{name: c, connect_timeout: 5s, type: STATIC, load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [
      {{endpoint: {{address: {address % (node.to("server"), 8080)}}}}}]}}]}}}}
""")
    node.start("middle", 7000, path, "-c", config, "--concurrency", 1, "-l", "error", "--disable-hot-restart")
    return get_files(node, f"http://{node.to('middle')}:7000", files), []


# ---- others ----

@program
def iperf3(node):
    path = accel.need("iperf3", "iperf3")
    node.start("server", 5201, path, "-s", "-p", 5201)
    moved = {}
    for options in ((), ("-R", ), ("-6", "-l", "512")):
        out = json.loads(node.run("client", path, "-J", "-c", node.to("server", "-6" in options), "-p", 5201, "-t", 1, *options))
        moved[" ".join(options)] = out["end"]["sum_received"]["bytes"] > 1_000_000
    return moved, [Share("none", [f for f in node.flows_to("server") if f["bytes_sent"] + f["bytes_received"] > 100_000])]


@program
def python_asyncio(node):
    node.start("server", 9000, "python3", source("echo.py"), "serve", 9000)
    return node.run("client", "python3", source("echo.py"), "ask", node.to("server"), 9000, 4, 300), []


@program
def java_nio(node):
    java, javac = (accel.need(name, "default-jdk-headless") for name in ("java", "javac"))
    os.makedirs(BUILT, exist_ok=True)
    subprocess.run([javac, "-d", BUILT, source("Echo.java")], check=True)
    node.start("server", 9000, java, "-cp", BUILT, "Echo", "serve", 9000)
    return node.run("client", java, "-cp", BUILT, "Echo", "ask", node.to("server"), 9000, 1000), []


# ---- the tests ----

def add(name, suffix, fn):
    fn.__name__ = name + suffix
    test(fn)


def answers(name):
    def fn():
        accel.same(name, {mode: ran(name, mode)[0] for mode in accel.modes()})
    return fn


def moved(name):
    def fn():
        accel.need_auto()
        shares = ran(name, "auto")[1]
        for number, share in enumerate(shares):
            what = f"{name}, {number + 1}"
            if share.what == "most":
                accel.check_redirected(share.flows, share.messages, what)
            else:
                accel.check_not_redirected(share.flows, what)
    return fn


for each in PROGRAMS:
    add(each, "_answers_the_same", answers(each))
for each in ("redis", "memcached", "node_http", "pgbench", "haproxy_that_splices", "go_io_copy", "iperf3"):
    add(each, "_is_redirected_where_it_pays", moved(each))

with accel.NODES:
    main()
