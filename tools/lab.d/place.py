# SPDX-License-Identifier: BSD-2-Clause
"""Where a lab lives on the machine, and how it is taken away again. Everything of a lab named N is found by its name alone:
/run/tulle-lab/N (records, sockets, a bpffs of its own for the pins) and <cgroup2>/tulle-N (every process). Network
namespaces live in those processes and go with them. So `down` needs no record of what `up` got done."""
import errno
import fcntl
import os
import re
import select
import shutil
import subprocess
import time

from inventory import LabError

ROOT = "/run/tulle-lab"
BUILD = os.path.abspath(os.environ.get("TULLE_BUILD") or os.path.join(os.path.dirname(__file__), "..", "..", "build"))
KILL_SECONDS = 90 # orphans are there until PID 1 has reaped them, which may be busy


def cgroup2_mount():
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            left, right = line.split(" - ")
            if right.split()[0] == "cgroup2":
                return left.split()[4]
    raise LabError("no cgroup2 file system is mounted (mount -t cgroup2 none /sys/fs/cgroup)")


def program(name):
    path = os.path.join(BUILD, name)
    if not os.access(path, os.X_OK):
        raise LabError(f"{path} is missing: run make first")
    return path


def start_time(pid):
    """Ticks since boot, which with the pid names a process for ever; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class Place:
    def __init__(self, name):
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
            raise LabError(f'"{name}" is no name for a lab: a-z, 0-9 and -, at most 32')
        self.name = name
        self.dir = os.path.join(ROOT, name)
        self.cgroup = os.path.join(cgroup2_mount(), "tulle-" + name)
        self.pods_cgroup = os.path.join(self.cgroup, "kubepods")
        self.node_cgroup = os.path.join(self.cgroup, "node")
        self.outside_cgroup = os.path.join(self.cgroup, "outside")
        self.lock_fd = None

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def exists(self):
        return os.path.isdir(self.dir) or os.path.isdir(self.cgroup)

    def lock(self):
        """Waits until no other command works on this lab. The lock goes with the process."""
        while self.lock_fd is None:
            os.makedirs(self.dir, mode=0o755, exist_ok=True)
            fd = os.open(self.dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                same = os.path.samestat(os.fstat(fd), os.stat(self.dir))
            except FileNotFoundError:
                same = False
            if same:
                self.lock_fd = fd
            else:
                os.close(fd)

    def remove(self):
        """Everything of the lab, in whatever state it is. Safe to call again."""
        withdraw(self.name)
        kill_cgroup(self.cgroup)
        unmount_below(self.dir)
        shutil.rmtree(self.dir, ignore_errors=True)
        if os.path.exists(self.dir):
            raise LabError(f"{self.dir} could not be removed")
        try:
            os.rmdir(ROOT)
        except OSError:
            pass # other labs are there


def cgroup_processes(cgroup):
    for folder, _, _ in os.walk(cgroup):
        try:
            with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as f:
                yield from (int(line) for line in f)
        except OSError:
            pass


def is_populated(cgroup):
    try:
        with open(os.path.join(cgroup, "cgroup.events"), encoding="ascii") as f:
            return "populated 1" in f.read()
    except OSError:
        return False


def kill_cgroup(cgroup):
    if not os.path.isdir(cgroup):
        return
    deadline = time.monotonic() + KILL_SECONDS
    pids = list(cgroup_processes(cgroup))
    while is_populated(cgroup):
        try:
            with open(os.path.join(cgroup, "cgroup.kill"), "w", encoding="ascii") as f:
                f.write("1")
        except OSError: # before 5.14
            for pid in cgroup_processes(cgroup):
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
        wait_empty(cgroup, 0.5)
        if time.monotonic() > deadline:
            raise LabError(f"processes in {cgroup} do not end: {list(cgroup_processes(cgroup))}")
    for folder, _, _ in os.walk(cgroup, topdown=False):
        remove_cgroup(folder, deadline)
    wait_reaped(pids)


def wait_reaped(pids):
    """A moment for init to take its dead children away, so that a list of processes shows nothing of the lab either."""
    deadline = time.monotonic() + 0.3
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


def wait_empty(cgroup, seconds):
    """cgroup.events wakes poll() when `populated` changes."""
    fd = os.open(os.path.join(cgroup, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        if b"populated 1" in os.read(fd, 4096):
            poll.poll(seconds * 1000)
    finally:
        os.close(fd)


def remove_cgroup(folder, deadline):
    while True:
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError as e:
            # A dying process leaves its cgroup a moment after `populated` fell.
            if e.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def mounts_below(folder):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        points = [line.split()[4] for line in f]
    return [p for p in reversed(points) if p == folder or p.startswith(folder + "/")]


def unmount_below(folder):
    for point in mounts_below(folder):
        subprocess.run(["umount", "-l", point], check=True)


def withdraw(name):
    """The pods of a lab that goes down are gone for the nodes that were joined with it, too."""
    for other in names():
        try:
            os.unlink(os.path.join(ROOT, other, "rules", f"01-{name}-nodes.yaml"))
        except OSError:
            pass # not joined


def names():
    """Every lab that left anything, also one whose records are gone."""
    found = set(os.listdir(ROOT)) if os.path.isdir(ROOT) else set()
    mount = cgroup2_mount()
    found.update(d[6:] for d in os.listdir(mount)
                 if d.startswith("tulle-") and os.path.isdir(os.path.join(mount, d, "kubepods")))
    return sorted(found)
