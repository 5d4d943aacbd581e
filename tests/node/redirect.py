#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""In and out of the way past TCP: who is taken in, what takes him out again, and that no byte is lost on the way, whoever dies or is
removed meanwhile."""
import json
import os
import re
import signal
import subprocess
import time

import accel # first: it finds tests/lib
import labs
import peers
from suite import Skip, check, main, test

PORT = 7000
ECHO = """
import select, selectors, socket, sys
block = sys.argv[2] == 'block'
if block:
    import threading
    def serve(c):
        while data := c.recv(1 << 20): c.sendall(data)
    s = socket.create_server(('::', int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
    while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
sel = selectors.DefaultSelector()
edges = select.EPOLLET if sys.argv[2] == 'edge' else 0
s = socket.create_server(('::', int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
sel.register(s, selectors.EVENT_READ)
out = {}
def go_on(c):
    while out[c]:
        try: n = c.send(out[c])
        except BlockingIOError: break
        del out[c][:n]
    sel.modify(c, selectors.EVENT_READ | (selectors.EVENT_WRITE if out[c] else 0))
    if edges: sel._selector.modify(c.fileno(), edges | select.EPOLLIN)
while True:
    for key, events in sel.select():
        c = key.fileobj
        if c is s:
            c = s.accept()[0]
            c.setblocking(False)
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            out[c] = bytearray()
            sel.register(c, selectors.EVENT_READ)
            continue
        if events & selectors.EVENT_READ:
            try: data = c.recv(1 << 18)
            except BlockingIOError: continue
            if not data:
                sel.unregister(c); del out[c]; c.close()
                continue
            if sys.argv[2] == 'later' and len(data) == 5:
                c.setblocking(True)
                c.sendall(data)
                while data := c.recv(1 << 20): c.sendall(data)
            out[c] += data
        go_on(c)
"""
# Sends "rr COUNT SIZE": so many requests, each answered before the next; "send SIZE" without an answer; "take SIZE". Each byte is checked.
TALK = """
import select, socket, sys, random
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.setblocking(False)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
text = random.Random(7).randbytes(1 << 20) * 2
sent = got = 0
def piece(at, n): return text[at % (1 << 20):][:n]
def move(to_send, to_take):
    global sent, got
    while to_send or to_take:
        r, w, _ = select.select([s] if to_take else [], [s] if to_send else [], [], 60)
        assert r or w, f'nothing moves: {to_send} to send, {to_take} to take'
        if w:
            n = s.send(piece(sent, min(to_send, 1 << 18)))
            sent += n; to_send -= n
        if r:
            data = s.recv(min(to_take, 1 << 18))
            assert data and data == piece(got, len(data)), f'a wrong byte after {got}'
            got += len(data); to_take -= len(data)
print('ready', flush=True)
for line in sys.stdin:
    word, *numbers = line.split()
    if word == 'rr':
        for _ in range(int(numbers[0])): move(int(numbers[1]), int(numbers[1]))
    else:
        move(*(int(numbers[0]), 0) if word == 'send' else (0, int(numbers[0])))
    print('done', flush=True)
"""


class Talk:
    def __init__(self, node, client="client", six=False, at=None):
        self.child = node.spawn(node.in_pod(client, "python3", node.write("talk.py", TALK), at or node.to("server", six), PORT))
        check(self.child.stdout.readline() == "ready\n", "not connected")

    def begin(self, *words):
        self.child.stdin.write(" ".join(map(str, words)) + "\n")
        self.child.stdin.flush()

    def end(self):
        check(self.child.stdout.readline() == "done\n", "the client found something wrong")

    def __call__(self, *words):
        self.begin(*words)
        self.end()


def serve(node, how="poll", pod="server"):
    return node.start(pod, PORT, "python3", node.write("echo.py", ECHO), PORT, how)


def past(node):
    return accel.redirected(node.flows_to("server"))


def workload(node, pod="server"):
    return next(w for w in node.status()["plane"]["acceleration"]["workloads"] if w["pod"] == pod)


def ways(node, client="client", to="server"):
    """What explain says of the connection that Talk makes."""
    address = json.loads(node.ctl("explain", "-o", "json", client, f"{to}.default:{PORT}"))["addresses"][0]
    (way, ) = address["ways"]
    return way


def wait_for(what, condition):
    deadline = time.monotonic() + 20 # bounded, ends with the condition
    while not condition():
        check(time.monotonic() < deadline, what)
        time.sleep(0.02)


def need_sockets():
    if labs.TC_ONLY:
        raise Skip("nothing is accelerated without programs at the sockets")


@test
def requests_go_past_tcp():
    need_sockets()
    with accel.shared("auto") as node:
        serve(node)
        for six in (False, True):
            node.fresh()
            Talk(node, six=six)("rr", 2000, 512)
            accel.check_redirected(node.flows_to("server"), 2000, f"IPv{'6' if six else '4'}")
            check(all(f["path"] == "redirect" for f in node.flows_to("server")), "the path is called so")
            check([f["acceleration"] for f in node.flows_to("server") if f["state"] == "established"] == ["ready"],
                  f"{node.flows_to('server')}")
        check(workload(node)["bytes_redirected"] > 0, f"{workload(node)}")
        check(re.search(r" REDIRECTED +ACCELERATION .*\n.* ready ", node.ctl("flows", "-o", "wide", "--live"), re.S), "flows -o wide says it")
        check(ways(node)["acceleration"] == {"mode": "auto", "by": "mesh", "eligible": True, "why": None}, f"{ways(node)}")
        check(ways(node)["shortcut"] == {"on": True, "why": None}, f"{ways(node)}")


@test
def bulk_is_left_to_tcp_and_requests_after_it_come_back():
    need_sockets()
    with accel.shared("auto") as node:
        serve(node)
        talk = Talk(node)
        talk("rr", 200, 100)
        check(past(node) > 0, "nothing went past TCP")
        talk("rr", 1, 8 << 20)
        before = past(node)
        talk("rr", 1, 8 << 20)
        check(past(node) == before, f"{past(node) - before} bytes of bulk went past TCP")
        for size in (100, 3000): # which TCP answers by a packet of its own, before the answer
            before = past(node)
            talk("rr", 1000, size)
            check(past(node) > before, f"never again past TCP, {size} B")
            talk("rr", 1, 8 << 20)
        for size in (1, 70000, 3, 1 << 20, 65536, 65537, 2):
            talk("rr", 20, size)


@test
def what_waits_in_tcp_is_not_overtaken():
    need_sockets()
    with accel.shared("auto") as node:
        serve(node)
        talk = Talk(node)
        talk("rr", 200, 1000)
        before = workload(node)["bytes_redirected"]
        talk("send", 1000) # its answer waits, and makes room for more one way when it is taken
        wait_for("no answer", lambda: workload(node)["bytes_redirected"] >= before + 1000)
        pid = int(labs.run("pgrep", "-f", f"echo.py {PORT}").split()[0])
        os.kill(pid, signal.SIGSTOP)
        talk("send", 60000)
        talk("send", 10000) # bulk by now: by TCP
        talk("take", 1000)
        talk("send", 2000)
        os.kill(pid, signal.SIGCONT)
        talk("take", 72000)


@test
def blocking_readers_and_other_namespaces_stay_on_tcp():
    need_sockets()
    with accel.shared("auto") as node:
        server = serve(node, "block")
        Talk(node)("rr", 500, 100)
        accel.check_not_redirected(node.flows_to("server"), "a server that blocks")
        check(workload(node)["why"].get("blocking"), f"{workload(node)}")
        server.kill()
        server.wait()
        serve(node)
        node.fresh()
        Talk(node, "stranger")("rr", 500, 100)
        accel.check_not_redirected(node.flows_to("server"), "a client of another namespace")
        check(workload(node)["why"].get("namespace"), f"{workload(node)}")
        check(ways(node, "stranger.elsewhere")["acceleration"]["why"].startswith("between namespaces"), "explain says it")


@test
def programs_that_may_splice_stay_on_tcp():
    need_sockets()
    with accel.shared("auto", splices=None) as node: # Python gives scripts splice()
        serve(node)
        Talk(node)("rr", 300, 100)
        accel.check_not_redirected(node.flows_to("server"), "programs that may splice")
        at = workload(node)
        check(at["why"].get("splices"), f"{at}")
        check([p for p in at["programs"] if p["splices"] and p["evidence"].endswith("uses splice")], f"{at}")
        way = ways(node)["acceleration"]
        check(not way["eligible"] and re.fullmatch(r"default/client may splice: python3\S*: .* uses splice", way["why"]), f"{way}")
        check(re.search(r"PROGRAM +SPLICES +EVIDENCE\n +python3\S* +true +\S+ uses splice\n", node.ctl("status")), "status lists it")


@test
def who_turns_to_edges_or_calls_that_block_goes_back_to_tcp():
    need_sockets()
    for how, why in (("edge", "edges"), ("later", "blocking")):
        with accel.shared("auto") as node:
            serve(node, how)
            talk = Talk(node)
            talk("rr", 500, 100)
            if how == "edge":
                accel.check_not_redirected(node.flows_to("server"), "a server that is told by edges")
            else:
                before = past(node)
                check(before > 0, "nothing went past TCP")
                talk("send", 5)
                talk("take", 5) # from now on the server blocks
                before = past(node)
                talk("rr", 100, 100)
                check(past(node) == before, f"{past(node) - before} bytes went past TCP to a server that blocks")
            check(workload(node)["why"].get(why), f"{workload(node)}")


@test
def on_goes_across_namespaces():
    need_sockets()
    with accel.shared("on") as node:
        serve(node)
        Talk(node, "stranger")("rr", 1000, 100)
        accel.check_redirected(node.flows_to("server"), 1000, "on, across namespaces")


@test
def an_annotation_takes_open_connections_out_and_in():
    need_sockets()
    with accel.shared("auto") as node:
        serve(node)
        talk = Talk(node)
        talk("rr", 200, 1000)
        check(workload(node)["accelerated"] == 1, f"{workload(node)}")
        for word, says in (("off", 0), ("auto", 1)):
            node.apply(texts=[peers.text([{"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": "default", "annotations": {"tulle.dev/accelerate": word}}}])])
            if word == "off":
                wait_for("an idle connection stays past TCP", lambda: not workload(node)["accelerated"])
            before = past(node)
            talk("rr", 200, 1000)
            check((past(node) > before) == bool(says), f"{word}: {past(node) - before} bytes past TCP")
            check(workload(node)["accelerate"] == word and workload(node)["by"] == "namespace", f"{workload(node)}")
            way = ways(node)["acceleration"]
            check((way["mode"], way["by"], way["eligible"]) == (word, "namespace default", bool(says)), f"{way}")
        node.ctl("delete", "namespace", "default")


@test
def inside_a_pod_too_where_the_setting_says_so():
    need_sockets()
    with accel.Node("auto", "--accelerate-loopback", "on") as node:
        serve(node)
        for address in ("127.0.0.1", "::1"):
            talk = Talk(node, "server", at=address)
            talk("rr", 200, 1000)
            wait_for("no iterator came", lambda: workload(node)["accelerated"] == 2) # both ends are the pod's
            before = workload(node)["bytes_redirected"]
            talk("rr", 200, 1000)
            check(workload(node)["bytes_redirected"] >= before + 390000, f"{address}: {workload(node)}")
            talk.child.kill()
            talk.child.wait()
            wait_for("its ends stay counted", lambda: not workload(node)["accelerated"])


POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: default}
spec: {selector: {matchLabels: {app: server}}, action: DENY, rules: [{to: [{operation: {ports: ["%d"]}}]}]}
""" % PORT


@test
def a_policy_that_comes_cuts_what_goes_past_tcp():
    need_sockets()
    with accel.Node("auto", "--on-policy-change", "cut") as node:
        serve(node)
        talks = [Talk(node, six=six) for six in (False, True)]
        for talk in talks:
            talk("rr", 200, 1000)
        check(all(f["path"] == "redirect" for f in node.flows_to("server")), "not all go past TCP")
        node.apply(texts=[POLICY])
        for talk in talks:
            talk.begin("rr", 1, 1000)
            check(talk.child.wait(10) != 0, "the connection goes on")
        flows = node.flows_to("server")
        check([(f["reason"], f["policy"]) for f in flows] == 2 * [("cut", "default/nobody")], f"{flows}")
        wait_for("ends stay", lambda: not workload(node)["accelerated"])


TCP_MEM = "/proc/sys/net/ipv4/tcp_mem"


@test
def where_tcp_is_short_of_memory_all_goes_by_it():
    need_sockets()
    if not accel.LONG:
        raise Skip("changes net.ipv4.tcp_mem of the machine for a moment: only with TULLE_TEST_LONG=1")
    with accel.shared("auto") as node:
        serve(node)
        talk, idle = Talk(node), Talk(node)
        talk("rr", 200, 1000)
        idle("send", 200000) # whose answer nobody reads
        with open(TCP_MEM, encoding="ascii") as f:
            before = f.read()
        least, _, most = before.split()
        with open("/proc/net/sockstat", encoding="ascii") as f:
            pages = next(int(line.split()[-1]) for line in f if line.startswith("TCP:"))
        try:
            with open(TCP_MEM, "w", encoding="ascii") as f:
                f.write(f"{min(int(least), pages)} {pages} {most}")
            was = past(node)
            talk("rr", 200, 1000)
            check(past(node) == was, f"{past(node) - was} bytes went past TCP while its memory was short")
            check(node.status()["plane"]["counters"]["redirect"].get("memory_pressure"), "the reason is counted")
        finally:
            with open(TCP_MEM, "w", encoding="ascii") as f:
                f.write(before)
        talk("rr", 200, 1000)
        check(past(node) > was, "never again past TCP")


@test
def no_byte_is_lost_when_meshd_dies_and_comes_again():
    need_sockets()
    with accel.Node("auto") as node:
        serve(node)
        talk = Talk(node)
        talk("rr", 200, 1000)
        talk.begin("rr", 5000, 1000)
        node.kill_mesh()
        talk.end()
        node.mesh("--accelerate", "auto")
        check(workload(node)["accelerated"] == 1, f"{workload(node)}")
        before = past(node)
        talk("rr", 200, 1000)
        check(past(node) == before + 400000, f"{past(node) - before} bytes past TCP after the restart")


def unload(node):
    return subprocess.run(node.meshd("--unload"), capture_output=True, text=True, check=False)


@test
def unloading_waits_for_what_is_not_read():
    need_sockets()
    with accel.Node("auto") as node:
        server = serve(node)
        talk = Talk(node)
        talk("rr", 200, 1000)
        os.kill(node.mesh_pid(), signal.SIGTERM)
        wait_for("meshd stays", lambda: not os.path.exists(f"/proc/{node.mesh_pid()}"))
        pid = int(labs.run("pgrep", "-f", f"echo.py {PORT}").split()[0])
        os.kill(pid, signal.SIGSTOP)
        talk("send", 5000)
        done = unload(node)
        check(done.returncode and "have not read yet" in done.stderr, f"unload ended with {done.returncode}: {done.stderr}")
        os.kill(pid, signal.SIGCONT)
        talk("take", 5000)
        talk.begin("rr", 5000, 1000)
        done = unload(node)
        check(not done.returncode, f"unload: {done.stderr}")
        talk.end()
        check(server.poll() is None and not os.path.exists(node.path("bpf", "tulle")), "something is left")
        talk("rr", 100, 100000)


with accel.NODES:
    main()
