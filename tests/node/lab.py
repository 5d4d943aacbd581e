#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The lab itself: what it builds, what its pods answer, and that it leaves no trace whatever is killed."""
import json
import os
import signal
import subprocess
import time

from labs import BUILD, TOOL, Lab, run
from suite import Skip, check, main, test

ENV = os.environ | {"TULLE_BUILD": BUILD}
SHOP = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: fixed, namespace: other}
spec: {clusterIP: 10.96.7.7, ports: [{port: 80}], selector: {app: db}}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{port: 5432}], selector: {app: db}}
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {ipFamilyPolicy: SingleStack, ipFamilies: [IPv6], ports: [{port: 80}], selector: {app: web}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: "1.10"}}
    spec:
      serviceAccountName: web
      containers: [{name: c, image: none, ports: [{containerPort: 8080}, {containerPort: 9090}]}]
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: db, namespace: other}
  spec:
    serviceName: db
    template:
      metadata: {labels: {app: db}}
      spec: {containers: [{name: c, ports: [{containerPort: 5432}]}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: client, uid: 11111111-2222-3333-4444-555555555555, labels: {app: client}}
  spec: {containers: [{name: c}]}
  status: {podIP: 10.99.0.7}
- apiVersion: apps/v1
  kind: DaemonSet
  metadata: {name: agent}
  spec:
    template:
      metadata: {labels: {app: agent}}
      spec: {hostNetwork: true, containers: [{name: c, ports: [{containerPort: 7000}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: none-of-its-business}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
"""


def cgroup2():
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return next(line.split()[4] for line in f if " - cgroup2 " in line)


def netns_in_use():
    """Inode numbers of the network namespaces that any process is in, or any mount holds."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            pass
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        found.update(line.split()[3] for line in f if " - nsfs " in line)
    return found


def netns_of(lab):
    with open(lab.path("lab.json"), encoding="utf-8") as f:
        record = json.load(f)
    return {os.readlink(f"/proc/{p['pid']}/ns/net") for p in record["pods"]} | {
        os.readlink(f"/proc/{record['node_pid']}/ns/net")}


def is_dead(pid):
    """Ended, and only waits for init to take notice."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        return f.read().rpartition(")")[2].split()[0] in "ZX"


def traces(name):
    """Whatever on this machine still has to do with the lab of that name."""
    found = []
    if os.path.exists(f"/run/tulle-lab/{name}"):
        found.append(f"/run/tulle-lab/{name}")
    cgroup = f"{cgroup2()}/tulle-{name}"
    if os.path.exists(cgroup):
        found.append(cgroup)
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        found += [line.split()[4] for line in f if f"/{name}" in line]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
                if f"/tulle-{name}" in f.read() and not is_dead(pid):
                    found.append(f"process {pid}")
        except OSError:
            pass
    return found


def bpf_ids(lab):
    """(object, id, type) of everything pinned by the lab's meshd."""
    ids = set()
    for folder, _, names in os.walk(lab.path("bpf")):
        for name in names:
            for kind in ("map", "prog", "link"):
                out = subprocess.run(["bpftool", "-j", kind, "show", "pinned", os.path.join(folder, name)],
                                     capture_output=True, text=True, check=False)
                if out.returncode == 0 and out.stdout.strip():
                    entry = json.loads(out.stdout)
                    ids.add((kind, entry["id"], entry.get("type")))
                    if kind == "link":
                        ids.add(("prog", entry["prog_id"], None))
                    break
    return ids


def adopted(ids):
    """What a restart keeps: programs change, and links of tracepoints cannot be updated in place."""
    return {i for i in ids if i[0] == "map" or (i[0] == "link" and i[2] == "cgroup")}


def wait_bpf_gone(ids):
    deadline = time.monotonic() + 10
    while ids and time.monotonic() < deadline:
        ids = {(kind, i, t) for kind, i, t in ids
               if subprocess.run(["bpftool", kind, "show", "id", str(i)], capture_output=True, check=False).returncode == 0}
        time.sleep(0.05)
    check(not ids, f"still loaded: {ids}")


def check_gone(lab, namespaces=frozenset()):
    check(not traces(lab.name), f"left behind: {traces(lab.name)}")
    check(not namespaces & netns_in_use(), "a network namespace is still in use")


def need_meshd():
    for name in ("meshd", "meshctl"):
        if not os.access(os.path.join(BUILD, name), os.X_OK):
            raise Skip(f"no {name} in {BUILD}")


def shop_is_whole(shape):
    host_links = run("ip", "-o", "link")
    with Lab(texts=[SHOP], shape=shape) as lab:
        namespaces = netns_of(lab)
        check(run("ip", "-o", "link") == host_links, "the machine's own links changed")
        pods = {(p["namespace"], p["pod"]): p for p in lab.pods()}
        names = {("default", "web-0"), ("default", "web-1"), ("other", "db-0"), ("default", "client"), ("default", "agent-0")}
        check(set(pods) == names, f"pods: {sorted(pods)}")
        check(pods["default", "client"]["ips"] == ["10.99.0.7"], "a given address is kept")
        check(pods["default", "web-0"]["labels"] == {"app": "web", "version": "1.10"}, "labels are text")
        check(pods["default", "client"]["cgroup"].endswith("/pod11111111-2222-3333-4444-555555555555"), "a given uid is kept")
        web = pods["default", "web-1"]
        for address in web["ips"][:1] + ["::ffff:" + web["ips"][0]]:
            check(lab.conn("client", address, 9090)["pods"] == {"web-1": 1}, f"client reaches {address}")
        for address in web["ips"] + pods["default", "agent-0"]["ips"]:
            port = 7000 if address.startswith(("172.31.", "fd31::")) else 8080
            check(lab.conn("db", address, port)["answered"] == 1, f"db reaches {address}")
        check(lab.conn("web-0", web["ips"][1], 8080, "--udp")["pods"] == {"web-1": 1}, "a datagram is answered")
        services = {s: lab.service(s)["ips"] for s in ("web", "db", "six")}
        check(len(services["web"]) == 2 and not services["db"] and len(services["six"]) == 1, f"{services}")
        check(lab.service("fixed", "other")["ips"] == ["10.96.7.7"], "a given cluster IP is kept")
        lab.tool("exec", "web-0", "--", "ip", "route", "get", "8.8.8.8")
        check(lab.conn("web-0", "8.8.8.8", 80)["errors"].keys() <= {"ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT"}, "there is no way out")
    check_gone(lab, namespaces)


@test
def bridge_pods_reach_each_other_and_leave_no_trace():
    shop_is_whole("bridge")


@test
def routed_pods_reach_each_other_and_leave_no_trace():
    shop_is_whole("routed")


@test
def exec_is_in_the_pod_and_passes_the_exit_code_on():
    with Lab(texts=[SHOP]) as lab:
        pod = lab.pod("db", "other")
        for name in ("db", "db-0", "other/db", "other/db-0"):
            where = lab.exec(name, "sh", "-c", "readlink /proc/self/ns/net; cat /proc/self/cgroup; pwd").split("\n")
            check(where[0] == os.readlink(pod["netns"]), "network namespace")
            check(any(line == "0::" + pod["cgroup"][len(cgroup2()):] for line in where), "cgroup")
            check(where[-2] == os.getcwd(), "files are shared")
        done = subprocess.run([TOOL, "exec", "--name", lab.name, "db", "-n", "other", "--", "sh", "-c", "exit 37"], check=False, env=ENV)
        check(done.returncode == 37, "exit code")
        done = subprocess.run([TOOL, "exec", "--name", lab.name, "db", "-n", "default", "--", "true"], capture_output=True,
                              check=False, env=ENV)
        check(done.returncode == 125 and b"no pod" in done.stderr, "a pod that is not there")
        begin = time.monotonic()
        for _ in range(20):
            lab.exec("db", "true")
        check(time.monotonic() - begin < 4, "exec is quick")


def talk(lab, text, port=8080, end=True):
    """One connection from client to web-0; everything it answers. It runs in the pod by way of Python, whose sockets it tests."""
    code = ("import socket, sys, threading\n"
            "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
            "data = sys.stdin.buffer.read()\n"
            "def send():\n"
            "    s.sendall(data)\n"
            f"    {'s.shutdown(socket.SHUT_WR)' if end else 'pass'}\n"
            "t = threading.Thread(target=send); t.start()\n"
            "while True:\n"
            "    b = s.recv(65536)\n"
            "    if not b: break\n"
            "    sys.stdout.buffer.write(b)\n"
            "t.join()\n")
    return lab.exec("client", "python3", "-c", code, lab.pod("web-0")["ips"][0], str(port), text_in=text, timeout=60)


@test
def pods_answer_lines_and_requests():
    with Lab(texts=[SHOP]) as lab:
        check(talk(lab, "one\ntwo\nthree") == "web-0 one\nweb-0 two\nweb-0 three\n", "lines, the last without an end")
        check(talk(lab, "GET it HTTP/2\n\n") == "web-0 GET it HTTP/2\nweb-0 \n", "what only looks like HTTP is lines")
        long_line = "x" * 3_000_000
        check(talk(lab, long_line + "\nshort\n") == f"web-0 {long_line}\nweb-0 short\n", "a line of 3 MB")
        many = "".join(f"line {i}\n" for i in range(100_000))
        check(talk(lab, many) == "".join(f"web-0 line {i}\n" for i in range(100_000)), "100,000 lines")
        out = talk(lab, "POST /a?b HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 5\r\n\r\nhello"
                        "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: t\r\n\r\n"
                        "HEAD /h HTTP/1.1\r\n\r\nGET /q\"\x01 HTTP/1.0\r\n\r\nlost", end=False)
        heads = [part.split("\n\n")[0] for part in out.split("HTTP/1.1 200 OK\n")[1:]]
        check(len(heads) == 4 and "Connection: close" in heads[3], f"four answers: {out}")
        bodies = [json.loads(line[line.index("{"):]) for line in out.splitlines() if "{" in line]
        check([b["method"] + b["path"] for b in bodies] == ["POST/a?b", "PUT/c", 'GET/q"\x01'], f"{bodies}")
        check(bodies[0]["headers"] == {"Host": "h", "X-One": "1, 2", "Content-Length": "5"}, "headers as received")
        check((bodies[0]["pod"], bodies[0]["namespace"], bodies[0]["peer"]) == ("web-0", "default", "10.99.0.7"), "who")
        check(bodies[0]["labels"] == {"app": "web", "version": "1.10"}, "labels")
        check(talk(lab, "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n").startswith("HTTP/1.1 400"), "a length that is none")
        check(talk(lab, "GET / HTTP/1.1\r\n" + "a: b\r\n" * 20000).startswith("HTTP/1.1 431"), "a head without end")
        for options in (["--http"], ["--udp"], []):
            seen = lab.conn("client", lab.pod("web-0")["ips"][0], 8080, "-c", "64", *options, n=10000)
            check(seen["pods"] == {"web-0": 10000} and not seen["failed"], f"10,000 connections {options}: {seen}")
            check(not seen["peername_wrong"] and not seen["source_wrong"], "addresses as dialled")


@test
def without_server_nothing_listens():
    with Lab(texts=[SHOP], options=["--server", "none"]) as lab:
        check(lab.conn("client", lab.pod("web-0")["ips"][0], 8080)["errors"] == {"ECONNREFUSED": 1}, "refused")


@test
def a_killed_up_is_cleared():
    for step in range(0, 12):
        lab = Lab(texts=[SHOP])
        up = subprocess.Popen([TOOL, "up", "--name", lab.name, "-f", *lab.files], stdout=subprocess.DEVNULL,
                              env=ENV, start_new_session=True)
        time.sleep(0.05 + step * 0.02)
        up.kill()
        up.wait()
        whole = os.path.exists(lab.path("lab.json"))
        if step % 2 and not whole:
            with lab: # a second `up` takes the place of the killed one
                check(len(lab.pods()) == 5, "five pods")
        else:
            lab.tool("down")
            lab.folder.cleanup()
        check_gone(lab)


@test
def a_node_whose_processes_were_killed_is_cleared():
    with Lab(texts=[SHOP]) as lab:
        namespaces = netns_of(lab)
        for pod in lab.pods():
            os.kill(pod["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 5
        while os.path.exists(f"/proc/{lab.pod('client')['pid']}/ns/net") and time.monotonic() < deadline:
            time.sleep(0.01)
        done = subprocess.run([TOOL, "exec", "--name", lab.name, "client", "--", "true"], capture_output=True, check=False,
                              env=ENV)
        check(done.returncode == 125, f"a dead pod is not entered: {done}")
    check_gone(lab, namespaces)
    with Lab(texts=[SHOP]) as lab:
        os.unlink(lab.path("lab.json"))
    check_gone(lab)
    lab.tool("down")


@test
def two_labs_and_what_is_refused():
    with Lab(texts=[SHOP]) as one, Lab(texts=[SHOP], shape="routed") as two:
        for lab in (one, two):
            check(lab.conn("db", lab.pod("web-0")["ips"][0], 8080)["answered"] == 1, "each in its own node")
        done = subprocess.run([TOOL, "up", "--name", one.name, "-f", *one.files], capture_output=True, text=True, check=False,
                              env=ENV)
        check(done.returncode == 1 and "is up already" in done.stderr, "a second up")
    for text, why in (("kind: [", "while parsing"), ("", "")):
        lab = Lab(texts=[text])
        done = subprocess.run([TOOL, "up", "--name", lab.name, "-f", *lab.files], capture_output=True, text=True, check=False,
                              env=ENV)
        check(done.returncode == (1 if why else 0) and why in done.stderr, f"{text}: {done}")
        lab.tool("down")
        lab.folder.cleanup()
        check_gone(lab)


FAR = """
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80, targetPort: 8080}], selector: {app: web}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: far}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}}
"""


def inventories(lab):
    return sorted(name for name in os.listdir(lab.path("rules")))


@test
def two_nodes_are_joined_and_either_goes_alone():
    for shapes in (("bridge", "routed"), ("routed", "bridge")):
        near = Lab(texts=[SHOP], shape=shapes[0])
        far = Lab(texts=[FAR], shape=shapes[1], options=["--join", near.name, "--node", "far-node"])
        with far.after(near):
            check([n["node"] for n in near.nodes()] == [near.name, "far-node"], f"{near.nodes()}")
            check(near.nodes() == far.nodes(), "both say the same")
            check(not json.loads(far.tool("ls", "--services", "-o", "json")), "a Service is made once")
            for ip in far.pod("far-0")["ips"]:
                for client in ("client", "db", "@node", "@outside"):
                    if client != "client" or ":" not in ip: # it has an IPv4 address only
                        check(near.conn(client, ip, 8080)["pods"] == {"far-0": 1}, f"{client} reaches {ip} on the other node")
            for ip in near.pod("web-0")["ips"]:
                for client in ("far", "@node", "@outside"):
                    check(far.conn(client, ip, 8080)["pods"] == {"web-0": 1}, f"{client} reaches {ip} on the other node")
            for lab, other in ((near, far), (far, near)):
                check(inventories(lab) == ["00-inventory.yaml", f"01-{other.name}-cluster.yaml", f"01-{other.name}-nodes.yaml"],
                      f"rules of {lab.name}: {inventories(lab)}")
            near.tool("down")
            check_gone(near)
            check(inventories(far) == ["00-inventory.yaml", f"01-{near.name}-cluster.yaml"], "its pods went, its Services stay")
            for ip in far.pod("far-0")["ips"]:
                check(far.conn("@outside", ip, 8080)["answered"] == 1, "the other node lives on")
        check_gone(far)


@test
def meshd_starts_stops_and_leaves_no_trace():
    need_meshd()
    with Lab(texts=[SHOP]) as lab:
        namespaces = netns_of(lab)
        lab.mesh()
        ids = bpf_ids(lab)
        check(ids, "something is pinned")
        check(lab.status(), "status answers")
        lab.tool("unmesh")
        check(bpf_ids(lab) == ids, "the data path stays")
        lab.mesh()
        check(adopted(bpf_ids(lab)) == adopted(ids), "maps and links are adopted")
        ids |= bpf_ids(lab)
        lab.tool("unmesh", "--unload")
        check(not bpf_ids(lab), "--unload removes the pins")
        lab.mesh()
        ids |= bpf_ids(lab)
    check_gone(lab, namespaces)
    wait_bpf_gone(ids)


@test
def a_killed_meshd_leaves_no_trace():
    need_meshd()
    with Lab(texts=[SHOP], shape="routed") as lab:
        for _ in range(2):
            lab.mesh()
            with open(lab.path("meshd.pid"), encoding="ascii") as f:
                os.kill(int(f.read().split()[0]), signal.SIGKILL)
        ids = bpf_ids(lab)
        check(lab.conn("client", lab.service("web")["ips"][0], 80, n=100)["answered"] == 100, "the data path runs on")
    check_gone(lab)
    wait_bpf_gone(ids)


main()
