#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""meshl7 as a process: what it may, that it comes back, that another one takes over without a connection lost, whoever is killed."""
import contextlib
import json
import os
import re
import signal
import subprocess
import time

from daemon import METRICS, PARSER, Daemon
from runner import die_with_parent
from suite import check, main, test

# Every address and port of its network leads to it, for packets that come in over its link, and here over the loopback too.
DIAL = ("127.0.0.1", 18080)
USER = 64999
# It runs because of a rule that needs it; nobody dials that.
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.7.7
  ports: [{name: http, port: 80}]
"""
RULES = SERVICE + """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - match: [{uri: {prefix: /}}]
    directResponse: {status: 204}
"""

# Dials from inside of meshl7's network until standard input ends: each connection asks once. Prints what came of it.
CLIENT = """
import json, socket, sys, threading
sys.stdin.reconfigure(line_buffering=True)
done, failed, end = [0], [], threading.Event()
def dial():
    while True:
        try:
            with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as s:
                s.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
                text = b""
                while chunk := s.recv(65536):
                    text += chunk
            if not text.startswith(b"HTTP/1.1 "):
                failed.append(repr(text[:60]))
            done[0] += 1
        except OSError as e:
            failed.append(str(e))
        if done[0] + len(failed) == 1:
            print("first", flush=True)
        if end.is_set():
            return
threads = [threading.Thread(target=dial) for _ in range(int(sys.argv[3]))]
for t in threads: t.start()
sys.stdin.read()
end.set()
for t in threads: t.join()
print(json.dumps({"done": done[0], "failed": failed[:5], "failures": len(failed)}))
"""


class Client:
    """Connections one after the other in each of some threads, from the network of the process `pid`."""

    def __init__(self, pid, threads=4):
        for words in ("link set lo up", "rule add pref 0 iif lo lookup local"):
            subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *words.split()], stderr=subprocess.DEVNULL, check=False)
        self.process = subprocess.Popen(["nsenter", "-t", str(pid), "-n", "python3", "-c", CLIENT, *map(str, DIAL), str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def first(self):
        check(self.process.stdout.readline() == "first\n", "it does not dial")

    def end(self):
        return json.loads(self.process.communicate(timeout=30)[0].splitlines()[-1])


class Node(Daemon):
    """A meshd with a parser, on a network that stays when meshd ends."""
    apart = False

    def __init__(self, **flags):
        super().__init__(RULES, **{"parser-workers": 2, **flags})
        self.flags |= {"access-log": f"{self.home}/access.log", "access-log-format": "json"}
        # Says so when it is on its own network.
        self.network = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE,
                                        preexec_fn=die_with_parent)
        self.network.stdout.readline()

    def command(self, *more):
        return ["nsenter", f"--net=/proc/{self.network.pid}/ns/net", *super().command(*more)]

    def __exit__(self, *args):
        try:
            super().__exit__(*args)
        finally:
            self.network.kill()
            self.network.communicate()

    def parser(self):
        return self.status()["parser"]

    def serving(self, than=0):
        """The pid that serves, another one than `than`."""
        pids = []

        def found():
            pids.append(self.parser()["pid"])
            return pids[-1] not in (0, than)
        self.until(found, "meshl7 does not serve", 20)
        return pids[-1]

    def killed_without_warning(self):
        """meshd alone, as it is when the system kills it."""
        self.process.kill()
        self.process.wait()


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def facts(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return dict(re.split(r":\s*", line.strip(), maxsplit=1) for line in f if ":" in line)


def wait_ended(pid, seconds=10):
    end = time.monotonic() + seconds
    while not ended(pid) and time.monotonic() < end:
        time.sleep(0.01)
    check(ended(pid), f"{pid} has not ended")


def it_is_shut_in(d):
    pid = d.serving()
    for thread in os.listdir(f"/proc/{pid}/task"):
        f = facts(f"{pid}/task/{thread}")
        got = {k: f[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs", "Groups")}
        want = {**dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16), "Seccomp": "2", "NoNewPrivs": "1",
                "Groups": ""}
        check(got == want, f"thread {thread}: {got}")
        check(f["Uid"].split() == [str(USER)] * 4 and f["Gid"].split() == [str(USER)] * 4, f"it is {f['Uid']} {f['Gid']}")
    # An empty directory of a file system of its own, read-only.
    check(not os.listdir(f"/proc/{pid}/root") and os.stat(f"/proc/{pid}/root").st_dev != os.stat("/").st_dev, "it has files")
    with open(f"/proc/{pid}/mounts", encoding="utf-8") as f:
        mounts = [line.split() for line in f]
    check(len(mounts) == 1 and "ro" in mounts[0][3].split(","), f"mounts: {mounts}")
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        check(re.match(r"socket:|anon_inode:|/memfd:|/dev/null", target) or target in (d.log_path, d.flags["access-log"]), f"descriptor {fd} is {target}")
    with open(f"/proc/{pid}/limits", encoding="utf-8") as f:
        limits = f.read()
    check(re.search(r"Max core file size +0 +0", limits) and re.search(rf"Max data size +{1 << 30} ", limits), limits)


def killed_it_is_back_at_once(d):
    took = []
    pid = d.serving()
    for _ in range(3):
        lines = d.log().count("meshl7 serves")
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while d.log().count("meshl7 serves") == lines and time.monotonic() < begin + 10:
            time.sleep(0.002)
        took.append(time.monotonic() - begin)
        pid = d.serving(pid)
        with Client(pid, 1) as client:
            client.first()
            result = client.end()
            check(result["failures"] == 0, f"{result}")
    p = d.parser()
    check(p["restarts"] == 3 and "signal 9" in p["failure"], f"{p}")
    check(min(took) < 0.2, f"it took {took} s")


def who_waits_is_served_by_the_next(d):
    pid = d.serving()
    with Client(pid) as client:
        client.first()
        os.kill(pid, signal.SIGKILL)
        d.serving(pid)
        result = client.end()
    # One connection of each thread may have been accepted; none was refused.
    check(result["failures"] <= 4 and not any("refused" in f for f in result["failed"]), f"{result}")


def it_gives_up_and_is_told_to_try_again(d):
    def given_up():
        p = d.parser()
        # It may be dead, and meshd not have heard of it yet.
        with contextlib.suppress(ProcessLookupError):
            if p["pid"]:
                os.kill(p["pid"], signal.SIGKILL)
        return p["state"].startswith("down: ")
    d.until(given_up, "it does not give up", 20)
    check("no connection is led to it" in d.log(), d.log())
    d.ok(PARSER, name="restart")
    check(d.parser()["state"] == "serves", f"{d.parser()}")
    with Client(d.parser()["pid"], 1) as client:
        client.first()
        result = client.end()
        check(result["failures"] == 0, f"{result}")


def another_takes_over_and_nobody_notices(d):
    pid = d.serving()
    with Client(pid) as client:
        client.first()
        for _ in range(3):
            before = pid
            d.ok(PARSER, name="restart")
            pid = d.serving(before)
            wait_ended(before)
        result = client.end()
    check(result["failures"] == 0 and result["done"] > 10, f"{result}")
    check(d.parser()["draining"] == 0 and d.parser()["failure"] == "", f"{d.parser()}")


@test
def it_outlives_meshd():
    with Node() as d:
        first = d.serving()
        with Client(first) as client:
            client.first()
            d.killed_without_warning()
            check(not ended(first), "it ended with meshd")
            d.start()
            second = d.serving(first)
            wait_ended(first)
            d.stop()
            check(not ended(second), "it ended with meshd")
            d.start()
            third = d.serving(second)
            wait_ended(second)
            result = client.end()
        check(result["failures"] == 0 and result["done"] > 10, f"{result}")
        d.stop()
        subprocess.run(d.command("--unload"), check=True, stderr=subprocess.DEVNULL)
        check(ended(third), "it outlives --unload")


@test
def it_starts_with_the_first_rule_that_needs_it():
    with Node() as d:
        pid = d.serving()
        d.stop()
        d.write("base.yaml", SERVICE)
        d.start()
        # The next meshd has no use for it.
        wait_ended(pid)
        check(d.parser()["state"] == "not needed by the rules" and not d.parser()["pid"], f"{d.parser()}")
        d.write("base.yaml", RULES)
        d.serving()


@test
def turned_off_it_ends():
    with Node() as d:
        pid = d.serving()
        d.stop()
        d.flags["parser"] = "off"
        d.write("base.yaml", SERVICE)
        d.start()
        wait_ended(pid)
        check(d.status()["parser"] is None, f"{d.parser()}")
        code, _, err = d.call(METRICS)
        check(code == 1 and "off" in err, f"{code} {err}")


def what_it_counts_and_logs(d):
    log = d.flags["access-log"]
    pid = d.serving()

    def lines(path):
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as f:
            return f.readlines()
        return []

    def ask():
        with Client(pid, 1) as client:
            client.first()
            return client.end()["done"]

    nr = ask()
    d.until(lambda: len(lines(log)) == nr, "the log is not whole")
    check(json.loads(lines(log)[0])["method"] == "GET", f"{lines(log)[0]}")
    os.rename(log, log + ".1")
    d.process.send_signal(signal.SIGHUP)
    d.until(lambda: os.path.exists(log), "the log is not opened again")
    more = ask()
    d.until(lambda: len(lines(log)) + len(lines(log + ".1")) == nr + more, "the logs are not whole")
    check(lines(log), "nothing came to the new file")
    d.ok(PARSER, name="restart")
    wait_ended(pid)
    metrics = d.ok(METRICS)
    total = sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("istio_requests_total{"))
    check(total == nr + more, f"{total} of {nr + more}: {metrics}")
    check(f"tulle_parser_accepted_total {nr + more}" in metrics, metrics)


@test
def one_process_after_the_other():
    with Node() as d:
        it_is_shut_in(d)
        what_it_counts_and_logs(d)
        another_takes_over_and_nobody_notices(d)


@test
def killed():
    with Node() as d:
        killed_it_is_back_at_once(d)
        who_waits_is_served_by_the_next(d)
        it_gives_up_and_is_told_to_try_again(d)


if __name__ == "__main__":
    main()
