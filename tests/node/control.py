#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""meshd as a daemon: its control socket under hostile and slow clients, its journal, its rules directory, its signals. Each test has a
meshd of its own, on pins, a cgroup and directories of its own."""
import grp
import json
import os
import random
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

from daemon import APPLY, BUILD, DELETE, DIFF, Daemon, EXPLAIN, FLOWS, GET, JOURNAL, STATUS, VERSION, frame, parse
from suite import Skip, check, main, test

PATIENCE = 10

SERVICE = """apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  clusterIP: 10.96.0.10
  ports: [{name: tcp, port: 9080}]
"""
SLICE = """apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports: [{name: tcp, port: 9080}]
endpoints: [{addresses: [10.1.0.1]}]
"""
RULES = SERVICE + "---\n" + SLICE


# ---- the socket ----

@test
def permissions():
    group = grp.getgrgid(65534).gr_name
    with Daemon(socket_group=group) as d:
        st = os.stat(d.socket)
        check(stat.S_IMODE(st.st_mode) == 0o660 and st.st_uid == 0 and st.st_gid == 65534, f"socket is {st}")
        os.chmod(d.home, 0o755)

        def as_user(gid, groups):
            def become():
                os.setgroups(groups)
                os.setgid(gid)
                os.setuid(65533)
            script = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
                      "s.sendall(bytes.fromhex(sys.argv[2])); sys.stdout.buffer.write(s.recv(65536))")
            return subprocess.run(["python3", "-c", script, d.socket, frame(VERSION, []).hex()], preexec_fn=become,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

        refused = as_user(65533, [])
        check(b"Permission denied" in refused.stderr, f"a stranger got {refused}")
        for gid, groups in ((65534, []), (65533, [65534])):
            check(parse(as_user(gid, groups).stdout)[0] == 0, "a member of the group was not let in")
        # A socket that was opened to all by hand still asks who is there.
        os.chmod(d.socket, 0o666)
        code, _, err = parse(as_user(65533, []).stdout)
        check(code != 0 and "group" in err, f"a stranger got {code} {err}")


@test
def malformed_frames_get_an_error():
    with Daemon() as d:
        cases = [
            (b"GET / HTTP/1.1\r\n\r\n", "not a request"),
            (frame(VERSION, [], version=2), "another version"),
            (b"TULL" + struct.pack("<HHII", 1, VERSION, 300 << 20, 1), "not a request"),
            (b"TULL" + struct.pack("<HHII", 1, VERSION, 8, 2) + bytes(8), "not a request"),
            (b"TULL" + struct.pack("<HHII", 1, VERSION, 8, 1) + b"\xff" * 8, "malformed"),
            (b"TULL" + struct.pack("<HHII", 1, VERSION, 16, 1) + bytes(16), "not understood"),
            (b"TULL" + struct.pack("<HHII", 1, APPLY, 28, 1) + (struct.pack("<II", 6, 0) + b"file:a") * 2, "malformed"),
            (frame(77, []), "does not know"),
            (frame(0, []), "does not know"),
            (frame(JOURNAL, [(b"put:a", b"b")]), "does not know"),
            (frame(VERSION, [(b"unheard-of", b"1")]), "not understood"),
            (frame(VERSION, [(b"output", b"xml")]), "not understood"),
        ]
        for data, want in cases:
            code, _, err = parse(d.raw(data))
            check(code == 2 and want in err, f"{data[:24]!r}: {code} {err}")
        for cut in (1, 15, 16, 20):
            code, _, err = parse(d.raw(frame(APPLY, [(b"file:a", RULES.encode())])[:cut], half_close=True))
            check(code == 2 and "ends early" in err, f"cut at {cut}: {code} {err}")
        check(d.raw(b"", half_close=True) == b"", "an empty connection got an answer")
        d.ok(VERSION)


@test
def noise_does_not_hurt():
    rng = random.Random(1)
    with Daemon(RULES) as d:
        seed = [frame(APPLY, [(b"file:a", RULES.encode()), (b"output", b"json")]), frame(GET, [(b"kind", b"all")]),
                frame(STATUS, []), frame(DELETE, [(b"kind", b"svc"), (b"name", b"reviews")])]
        for _ in range(3000):
            data = bytearray(rng.choice(seed))
            for _ in range(rng.randrange(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            with d.connect() as s:
                s.sendall(data[:rng.randrange(len(data) + 1)])
        before = d.resident()
        d.ok(VERSION)
        check(before < 64 << 20, f"resident memory is {before}")


@test
def a_reset_does_not_eat_the_answer():
    with Daemon() as d:
        # More than the socket's buffers hold, all of it unread when the answer goes out.
        code, _, err = parse(d.raw(b"x" * (4 << 20)))
        check(code == 2 and "not a request" in err, f"{code} {err}")


@test
def slow_senders_are_dropped_and_hold_nobody_up():
    with Daemon(RULES) as d:
        slow = [d.connect(PATIENCE * 3) for _ in range(20)]
        request = frame(APPLY, [(b"file:a", RULES.encode())])
        for i, s in enumerate(slow):
            s.sendall(request[:i * 3])
        begin = time.monotonic()
        for _ in range(50):
            d.ok(VERSION)
        check(time.monotonic() - begin < 2, "others had to wait")
        for s in slow:
            check(s.recv(1) == b"", "a slow client got an answer")
            s.close()
        took = time.monotonic() - begin
        check(PATIENCE - 1 < took < PATIENCE + 5, f"slow clients were dropped after {took:.1f} s")


@test
def slow_readers_are_dropped_and_hold_nobody_up():
    # 200 KB in each of 30 Services: an answer of 6 MB.
    text = "---\n".join(SERVICE.replace("name: reviews", f"name: s{i}, annotations: {{a: {'x' * 200000}}}")
                        .replace("0.10", f"1.{i}") for i in range(30))
    with Daemon() as d:
        d.ok(APPLY, ("a.yaml", text))
        slow = []
        for _ in range(5):
            s = d.connect(PATIENCE * 3)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(frame(GET, [(b"kind", b"svc"), (b"output", b"yaml")]))
            slow.append(s)
        begin = time.monotonic()
        for _ in range(20):
            d.ok(VERSION)
        check(time.monotonic() - begin < 2, "others had to wait")
        fast = d.ok(GET, kind="svc", output="yaml")
        check(len(fast) > 6000000, f"only {len(fast)} bytes")
        time.sleep(PATIENCE + 2)
        for s in slow:
            check(len(d.read_all(s)) < 6000000, "a slow reader was served to the end")
            s.close()


@test
def more_clients_than_there_is_room_for():
    with Daemon() as d:
        idle = [d.connect() for _ in range(80)]
        late = d.connect()
        late.sendall(frame(VERSION, []))
        late.settimeout(0.5)
        try:
            late.recv(1)
            raise AssertionError("the 81st client was served beside 80 that wait")
        except TimeoutError:
            pass
        for s in idle:
            s.close()
        late.settimeout(5)
        check(parse(d.read_all(late))[0] == 0, "the late client got no answer")
        late.close()


@test
def many_clients_at_once():
    with Daemon(RULES) as d:
        clients = [d.connect() for _ in range(60)]
        for i, s in enumerate(clients):
            s.sendall(frame(GET, [(b"kind", b"all")]) if i % 2 else frame(STATUS, []))
        for s in clients:
            check(parse(d.read_all(s))[0] == 0, "a client got no answer")
            s.close()


@test
def big_bodies_one_at_a_time():
    comment = b"# " + b"x" * (24 << 20) + b"\n"
    with Daemon() as d:
        first, second = d.connect(), d.connect()
        request = frame(APPLY, [(b"file:big.yaml", comment + SERVICE.encode())])
        first.sendall(request[:1 << 20])
        second.settimeout(1)
        try:
            second.sendall(request)
            raise AssertionError("two big bodies were read at once")
        except TimeoutError:
            pass
        d.ok(VERSION)
        first.sendall(request[1 << 20:])
        check(parse(d.read_all(first))[0] == 0, "the first body was refused")
        first.close()
        second.close()
        check(parse(d.raw(request))[0] == 0, "a body after it was refused")
        with open(f"{BUILD}/meshd", "rb") as f:
            sanitized = b"__asan_init" in f.read()
        if not sanitized:
            d.until(lambda: d.resident() < 48 << 20, "memory was not given back")


@test
def a_stale_socket_is_replaced_and_a_live_one_is_not():
    with Daemon() as d:
        d.stop(signal.SIGKILL)
        check(os.path.exists(d.socket), "a killed meshd leaves its socket")
        d.start()
        d.ok(VERSION)
        with Daemon() as other:
            other.stop()
            other.flags["socket"] = d.socket
            done = subprocess.run(other.command(), stderr=subprocess.PIPE, timeout=20, check=False)
            check(done.returncode == 1 and b"another meshd listens" in done.stderr, f"{done}")
        d.ok(VERSION)


# ---- start, signals, end ----

@test
def a_second_meshd_is_refused():
    with Daemon(RULES) as d:
        for flags in ({}, {"state": f"{d.home}/other"}):
            command = [f"{BUILD}/meshd", *[f"--{k}={v}" for k, v in (d.flags | flags).items()]]
            done = subprocess.run(command, stderr=subprocess.PIPE, timeout=20, check=False)
            check(done.returncode == 1 and b"another meshd" in done.stderr, f"{done}")
        d.ok(VERSION)


@test
def unload():
    with Daemon(RULES) as d:
        d.ok(APPLY, ("a.yaml", SERVICE.replace("reviews", "mine").replace("0.10", "0.11")))
        done = subprocess.run(d.command("--unload"), stderr=subprocess.PIPE, check=False)
        check(done.returncode == 1 and b"another meshd" in done.stderr, f"{done}")
        d.ok(VERSION)
        d.stop()
        check(os.listdir(d.pin), "the data path went with meshd")
        for _ in range(2):
            done = subprocess.run(d.command("--unload"), stderr=subprocess.PIPE, check=False)
            check(done.returncode == 0 and not os.path.exists(d.pin), f"{done}")
        # What was applied is the user's, not the kernel's.
        d.start()
        check("service/mine" in d.names(), f"{d.names()}")


@test
def queries():
    with Daemon(RULES) as d:
        check(d.call(FLOWS) == (0, "", "No flows found.\n"), f"{d.call(FLOWS)}")
        check(d.call(FLOWS, output="json") == (0, "", ""), "no flows are no lines")
        for state in ("open", "closed", "established", "failed"):
            check(d.call(FLOWS, state=state)[0] == 0, f"state {state}")
        code, _, err = d.call(FLOWS, state="lost")
        check(code == 2 and "lost" in err, f"{code} {err}")
        for destination in ("reviews", "reviews:0", "reviews:99999", "[::1:80", "::1:80", ":80"):
            code, _, err = d.call(EXPLAIN, source="default/x", destination=destination)
            check(code == 2 and "HOST:PORT" in err, f"{destination}: {code} {err}")
        check(d.call(EXPLAIN, source="default/x", destination="reviews:80", protocol="icmp")[0] == 2, "protocol")
        code, _, err = d.call(EXPLAIN, source="default/x", destination="reviews:9080")
        check(code == 1 and "default/x" in err, f"{code} {err}")
        text = d.ok(STATUS)
        check("compiled: true" in text and "mesh_rows" in text and "\n  programs:" not in text, text)
        check("\n  programs:" in d.ok(STATUS, output="wide"), "wide says no more")
        check(set(d.status()) == {"daemon", "rules", "plane", "parser"}, f"{d.status().keys()}")
        check(json.loads(d.ok(VERSION, output="json"))["protocol"] == 1, "version")


@test
def signals():
    with Daemon(RULES) as d:
        check(d.stop() == 0, "SIGTERM did not end it cleanly")
        check(not os.path.exists(d.socket), "the socket was left behind")
        d.start()
        check(d.stop(signal.SIGINT) == 0, "SIGINT did not end it cleanly")
        d.start()
        d.process.send_signal(signal.SIGHUP)
        d.until(lambda: "reading the rules directory again" in d.log(), "SIGHUP did nothing")
        d.process.send_signal(signal.SIGPIPE)
        d.ok(VERSION)


@test
def systemd_is_told():
    with Daemon(RULES) as d:
        d.stop()
        for abstract in (False, True):
            name = f"{d.home}/notify" if not abstract else f"@tulle-test-{os.getpid()}"
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                s.bind(name if not abstract else "\0" + name[1:])
                if abstract: # such names are those of one network
                    d.apart = False
                    d.flags["tc"] = "off"
                s.settimeout(5)
                d.start({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"})
                got = [s.recv(4096).decode() for _ in range(5)]
                check(any("READY=1" in g for g in got) and any("STATUS=rules are live" in g for g in got), f"{got}")
                check(sum("WATCHDOG=1" in g for g in got) >= 2, f"{got}")
                d.stop()
                rest = ""
                while "STOPPING=1" not in rest:
                    rest = s.recv(4096).decode()


@test
def orphans_are_reaped():
    """As process 1 of a namespace, it collects the children of others and ends on SIGTERM."""
    with Daemon() as d:
        d.stop()
        done = subprocess.run(["unshare", "--pid", "--mount-proc", "--fork", "true"], check=False, stderr=subprocess.PIPE)
        if done.returncode:
            raise Skip("no PID namespaces")
        with open(d.log_path, "a") as log:
            d.process = subprocess.Popen(["unshare", "--pid", "--mount-proc", "--fork", "--kill-child", *d.command()],
                                         stderr=log)
        d.until(lambda: os.path.exists(d.socket) and d.call(VERSION)[0] == 0, "no answer", 20)
        with open(f"/proc/{d.process.pid}/task/{d.process.pid}/children") as f:
            child = int(f.read().split()[0])
        subprocess.run(["nsenter", "-t", str(child), "-p", "sh", "-c", "(sleep 0.2; true) & exit 0"], check=True)
        time.sleep(0.6)
        with open(f"/proc/{child}/task/{child}/children") as f:
            check(not f.read().split(), "an orphan was left as a zombie")
        os.kill(child, signal.SIGTERM)
        check(d.process.wait(10) == 0, "process 1 did not end cleanly")


# ---- documents ----

@test
def apply_get_delete():
    with Daemon() as d:
        out = d.ok(APPLY, ("a.yaml", RULES + "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n"))
        check(out.splitlines()[:3] == ["service/reviews created", "endpointslice/reviews-1 created", "configmap/c skipped"], out)
        epoch = d.epoch()
        out = d.ok(APPLY, ("a.yaml", RULES))
        check("service/reviews unchanged" in out and d.epoch() == epoch, out)
        out = d.ok(APPLY, ("a.yaml", RULES.replace("9080", "9081")), dry_run="1")
        check("service/reviews configured (dry run)" in out and d.epoch() == epoch, out)
        code, out, _ = d.call(DIFF, ("a.yaml", RULES.replace("10.1.0.1", "10.1.0.2")))
        check(code == 1 and "-" in out and "10.1.0.2" in out, f"{code} {out}")
        check(d.call(DIFF, ("a.yaml", RULES))[0] == 0, "no difference is 0")
        check(d.call(DIFF, ("a.yaml", "kind: {"))[0] == 2, "an error is 2")
        check(sorted(d.names()) == ["endpointslice/reviews-1", "service/reviews"], f"{d.names()}")
        check(d.ok(GET, kind="svc", output="yaml") == SERVICE, "get -o yaml is not the text that was applied")
        service = json.loads(d.ok(GET, kind="svc", name="reviews", output="json"))
        check(service["spec"]["ports"] == [{"name": "tcp", "port": 9080}], f"{service}")
        items = json.loads(d.ok(GET, kind="all", output="json"))
        check(items["kind"] == "List" and len(items["items"]) == 2, f"{items}")
        table = d.ok(GET, kind="services", namespace="default").splitlines()
        check(table[0].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-NAME", "PORT(S)", "AGE", "SOURCE"], table[0])
        code, _, err = d.call(GET, kind="svc", name="nobody", namespace="default")
        check(code == 1 and "not found" in err, f"{code} {err}")
        check(d.call(GET, kind="gadgets")[0] == 2, "an unknown kind is a wrong command")
        code, _, err = d.call(DELETE, kind="svc", namespace="default", name=["reviews", "nobody"])
        check(code == 1 and len(d.names()) == 2, f"half a delete: {code} {err}")
        check(d.ok(DELETE, kind="svc", namespace="default", name="reviews") == "service/reviews deleted\n", "delete")
        check(d.names() == ["endpointslice/reviews-1"], f"{d.names()}")
        d.ok(DELETE, ("a.yaml", SLICE))
        check(not d.names(), f"{d.names()}")


@test
def a_refused_apply_changes_nothing():
    with Daemon(RULES) as d:
        epoch = d.epoch()
        bad = SERVICE.replace("reviews", "other") + "---\n" + SERVICE.replace("port: 9080", "port: 99999")
        code, out, err = d.call(APPLY, ("bad.yaml", bad))
        check(code == 1 and "bad.yaml:13:" in out and "nothing was changed" in err, f"{code} {out} {err}")
        code, out, _ = d.call(APPLY, ("bad.yaml", bad), output="json")
        report = json.loads(out)
        check(code == 1 and report["summary"]["refused"] == 1, out)
        check(report["documents"][1]["errors"][0]["line"] == 13, out)
        check(d.epoch() == epoch and "service/other" not in d.names(), "something was applied")


@test
def rules_that_do_not_fit():
    with Daemon(RULES, max_services=16) as d:
        epoch = d.epoch()
        many = "---\n".join(SERVICE.replace("reviews", f"s{i}").replace("0.10", f"1.{i}") for i in range(60))
        code, _, err = d.call(APPLY, ("many.yaml", many))
        check(code == 1 and "max-services" in err, f"{code} {err}")
        check(d.epoch() == epoch and len(d.names()) == 2, "something was applied")
        check(os.path.getsize(f"{d.home}/state/applied.log") == 0, "the journal kept what was taken back")
        d.write("many.yaml", many)
        d.until(lambda: "max-services" in d.status()["rules"]["error"], "the directory was taken")
        os.unlink(f"{d.rules}/many.yaml")
        d.until(lambda: not d.status()["rules"]["error"], "the error stays")


@test
def applied_documents_cover_those_of_the_directory():
    with Daemon(RULES) as d:
        out = d.ok(APPLY, ("mine.yaml", SERVICE.replace("  clusterIP: 10.96.0.10\n", "").replace("9080", "9999")))
        check("service/reviews configured" in out and "10.96.0.10" in out, out)
        out = d.ok(GET, kind="svc")
        check("10.96.0.10" in out and "9999/TCP" in out and "applied" in out, out)
        # What was taken over outlives the document it was taken from, and meshd.
        d.write("base.yaml", SLICE)
        d.until(lambda: d.status()["rules"]["documents"] == 2, "the directory was not read again")
        d.stop(signal.SIGKILL)
        d.start()
        out = d.ok(GET, kind="svc")
        check("10.96.0.10" in out and "9999/TCP" in out, out)
        d.write("base.yaml", RULES)
        d.until(lambda: d.status()["rules"]["documents"] == 3, "the directory was not read again")
        d.ok(DELETE, kind="svc", namespace="default", name="reviews")
        out = d.ok(GET, kind="svc")
        check("9080/TCP" in out and "base.yaml:1" in out, out)
        code, _, err = d.call(DELETE, kind="svc", namespace="default", name="reviews")
        check(code == 1 and f"{d.rules}/base.yaml:1" in err, f"{code} {err}")


@test
def the_journal_survives_a_kill_and_a_torn_end():
    with Daemon() as d:
        d.ok(APPLY, ("a.yaml", RULES))
        d.stop(signal.SIGKILL)
        with open(f"{d.home}/state/applied.log", "ab") as f:
            f.write(frame(JOURNAL, [(b"put:Service/default/torn", SERVICE.encode())])[:-7])
        d.start()
        check(sorted(d.names()) == ["endpointslice/reviews-1", "service/reviews"], f"{d.names()}")
        check("torn end" in d.log(), d.log())
        check(stat.S_IMODE(os.stat(f"{d.home}/state/applied.log").st_mode) == 0o600, "the journal can be read by others")
        d.ok(DELETE, kind="svc", namespace="default", name="reviews")
        d.stop(signal.SIGKILL)
        d.start()
        check(d.names() == ["endpointslice/reviews-1"], f"{d.names()}")


@test
def a_document_of_the_journal_that_cannot_be_read_any_more():
    with Daemon(RULES) as d:
        d.stop()
        bad = SERVICE.replace("name: reviews", "name: old").replace("port: 9080", "port: 0")
        with open(f"{d.home}/state/applied.log", "ab") as f:
            f.write(frame(JOURNAL, [(b"put:Service/default/old", bad.encode())]))
        d.start()
        status = d.status()["rules"]
        check(not status["compiled"] and "Service/default/old" in status["error"], f"{status}")
        code, _, err = d.call(APPLY, ("b.yaml", SERVICE.replace("reviews", "new").replace("0.10", "0.11")))
        check(code == 1 and "Service/default/old" in err, f"{code} {err}")
        d.stop()
        d.start()
        check(d.ok(DELETE, kind="svc", namespace="default", name="old") == "service/old deleted\n", "delete")
        status = d.status()["rules"]
        check(status["compiled"] and status["units"] == 1, f"{status}")
        d.stop()
        d.start()
        check(d.status()["rules"]["compiled"], "it came back")


# ---- the rules directory ----

@test
def the_directory_is_one_transaction():
    with Daemon(RULES) as d:
        first = d.epoch()
        d.write("more.yml", SERVICE.replace("reviews", "ratings").replace("0.10", "0.11"))
        d.until(lambda: "service/ratings" in d.names(), "a new file was not seen")
        check(d.epoch() == first + 1, "more than one apply")
        # Two changes, one of them wrong: neither is taken.
        d.write("other.yaml", SERVICE.replace("reviews", "third").replace("0.10", "0.12"))
        d.write("more.yml", "apiVersion: v1\nkind: Service\nmetadata: {name: ratings}\nspec: {prots: []}\n")
        d.until(lambda: d.status()["rules"]["error"], "an error was not seen")
        status = d.status()["rules"]
        check(f"{d.rules}/more.yml:4:" in status["error"] and "prots" in status["error"], f"{status}")
        check(f"{d.rules}/more.yml:4:" in d.log(), d.log())
        check("service/ratings" in d.names() and "service/third" not in d.names(), f"{d.names()}")
        # Applied documents still work on what is live.
        d.ok(APPLY, ("a.yaml", SERVICE.replace("reviews", "fourth").replace("0.10", "0.13")))
        os.unlink(f"{d.rules}/more.yml")
        d.until(lambda: "service/third" in d.names(), "the error was put right and not seen")
        status = d.status()["rules"]
        check(not status["error"] and "service/ratings" not in d.names(), f"{status} {d.names()}")


@test
def the_same_document_twice():
    with Daemon(RULES) as d:
        d.write("copy.yaml", SERVICE)
        d.until(lambda: d.status()["rules"]["error"], "a second copy was taken")
        error = d.status()["rules"]["error"]
        check(f"{d.rules}/copy.yaml:" in error and "twice" in error and f"{d.rules}/base.yaml:1" in error, error)


@test
def what_is_looked_at():
    with Daemon() as d:
        os.makedirs(f"{d.rules}/deep/er")
        d.write("deep/er/a.json", json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "one"}}))
        d.write(".hidden.yaml", "broken: [")
        d.write("notes.txt", "broken: [")
        d.until(lambda: d.names() == ["namespace/one"], f"{d.names()}")
        shutil.rmtree(f"{d.rules}/deep")
        d.until(lambda: not d.names(), "files of a removed directory live on")
        check(not d.status()["rules"]["error"], f"{d.status()['rules']}")


@test
def a_mounted_config_map():
    def version(number, names):
        folder = f"{d.rules}/..{number}"
        os.mkdir(folder)
        for name in names:
            with open(f"{folder}/{name}.yaml", "w") as f:
                f.write(f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}{number}}}}}\n")
        os.symlink(f"..{number}", f"{d.rules}/..data_tmp")
        os.rename(f"{d.rules}/..data_tmp", f"{d.rules}/..data")

    with Daemon() as d:
        version(1, ["a", "b"])
        for name in ("a", "b"):
            os.symlink(f"..data/{name}.yaml", f"{d.rules}/{name}.yaml")
        d.until(lambda: sorted(d.names()) == ["namespace/a1", "namespace/b1"], f"{d.names()}")
        applies = d.log().count("rules directory live")
        version(2, ["a", "b"])
        shutil.rmtree(f"{d.rules}/..1")
        d.until(lambda: sorted(d.names()) == ["namespace/a2", "namespace/b2"], f"{d.names()}")
        check(d.log().count("rules directory live") == applies + 1, "the swap was not one transaction")


@test
def a_directory_that_comes_later_and_goes():
    with Daemon() as d:
        d.stop()
        os.rmdir(d.rules)
        d.start()
        check("rules directory" in d.status()["rules"]["error"], f"{d.status()['rules']}")
        os.mkdir(d.rules)
        d.write("a.yaml", SERVICE)
        d.until(lambda: d.names() == ["service/reviews"], "a late directory was not seen")
        shutil.rmtree(d.rules)
        d.until(lambda: d.status()["rules"]["error"], "a missing directory is an error")
        check(d.names() == ["service/reviews"], "the rules went with their directory")


@test
def rewritten_in_place_again_and_again():
    with Daemon(RULES) as d:
        for i in range(30):
            d.write("base.yaml", RULES.replace("9080", f"{9100 + i}"))
            time.sleep(0.005 * (i % 7))
        d.until(lambda: "9129/TCP" in d.ok(GET, kind="svc"), "the last version is not the live one")


@test
def a_start_with_broken_rules():
    with Daemon(RULES) as d:
        d.stop()
        d.write("bad.yaml", "apiVersion: v1\nkind: Sorvice\nmetadata: {name: x}\n")
        d.start()
        check(f"{d.rules}/bad.yaml:2:" in d.log(), d.log())
        status = d.status()["rules"]
        check(not status["compiled"] and "bad.yaml:2:" in status["error"], f"{status}")
        code, _, err = d.call(APPLY, ("a.yaml", SERVICE.replace("reviews", "mine").replace("0.10", "0.14")))
        check(code == 1 and "bad.yaml:2:" in err, f"{code} {err}")
        os.unlink(f"{d.rules}/bad.yaml")
        d.until(lambda: d.status()["rules"]["compiled"], "it was put right and not seen")
        check(not d.status()["rules"]["error"], f"{d.status()['rules']}")


main()
