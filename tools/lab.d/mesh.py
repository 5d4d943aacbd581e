# SPDX-License-Identifier: BSD-2-Clause
"""meshd of a lab: started in the node's namespace with everything it needs below the lab's directory, its pins in a bpffs that
only this lab has, so that they go with it and meet no other's."""
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

from inventory import LabError
from place import Place, mounts_below, program, start_time

START_SECONDS = 120
STOP_SECONDS = 30


def record_of(name):
    place = Place(name)
    try:
        with open(place.path("lab.json"), encoding="utf-8") as f:
            return place, json.load(f)
    except FileNotFoundError:
        raise LabError(f'there is no lab "{name}": tools/lab up --name {name} -f FILE...') from None


def running(place):
    """pid of this lab's meshd, or None."""
    try:
        with open(place.path("meshd.pid"), encoding="ascii") as f:
            pid, started = map(int, f.read().split())
    except (OSError, ValueError):
        return None
    return pid if start_time(pid) == started else None


def options_of(place, record):
    return ["--cgroup", record["cgroup"], "--pin", place.path("bpf", "tulle"), "--rules", place.path("rules"),
            "--state", place.path("state"), "--socket", place.path("meshd.sock"), "--node-name", record["node"]]


def command(place, record, options):
    return [program("lab/podexec"), "-d", "-c", place.node_cgroup, "-N", f"/proc/{record['node_pid']}/ns/net", "--",
            program("meshd"), *options_of(place, record), *options]


def mesh(args):
    place, record = record_of(args.name)
    place.lock()
    if running(place):
        raise LabError(f"meshd {running(place)} runs already: tools/lab unmesh")
    if not mounts_below(place.path("bpf")):
        subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", place.path("bpf")], check=True)
    notify_path = place.path("notify.sock")
    if os.path.exists(notify_path):
        os.unlink(notify_path)
    log_path = place.path("meshd.log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify, open(log_path, "ab") as log:
        notify.bind(notify_path)
        log_start = log.tell()
        process = subprocess.Popen(command(place, record, args.options), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env=os.environ | {"NOTIFY_SOCKET": notify_path})
        with open(place.path("meshd.pid"), "w", encoding="ascii") as f:
            f.write(f"{process.pid} {start_time(process.pid)}\n")
        ready = wait_ready(process, notify)
    os.unlink(notify_path)
    if not ready:
        with open(log_path, encoding="utf-8", errors="replace") as f:
            f.seek(log_start)
            sys.stderr.write(f.read())
        ended = process.poll()
        if ended is None:
            process.kill()
        raise LabError(f"meshd ended with {ended}" if ended is not None else f"meshd was not ready in {START_SECONDS} s")
    if not args.quiet:
        print(f"meshd {process.pid} is ready; log: {log_path}")


def wait_ready(process, notify):
    deadline = time.monotonic() + START_SECONDS
    ended = os.pidfd_open(process.pid)
    try:
        while True:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([notify, ended], [], [], max(left, 0))
            if notify in readable:
                if b"READY=1" in notify.recv(4096).split(b"\n"):
                    return True
            elif ended in readable or left <= 0:
                return False
    finally:
        os.close(ended)


def unmesh(args):
    place, record = record_of(args.name)
    place.lock()
    pid = running(place)
    if pid:
        stop(pid)
    if args.unload and mounts_below(place.path("bpf")):
        done = subprocess.run(command(place, record, ["--unload"]), check=False)
        if done.returncode:
            raise LabError(f"meshd --unload ended with {done.returncode}")
    elif not pid:
        raise LabError("meshd does not run")


def stop(pid):
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        if not select.select([fd], [], [], STOP_SECONDS)[0]:
            raise LabError(f"meshd {pid} did not end in {STOP_SECONDS} s after SIGTERM")
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
