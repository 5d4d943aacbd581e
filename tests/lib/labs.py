# SPDX-License-Identifier: BSD-2-Clause
"""A lab for a test: `with Lab(files) as lab:` brings one up under a name of its own, and takes it down whatever happens. The
name holds the pid of the test, so that the runner can remove what a killed test left."""
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from suite import Skip, check

REPO = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("TULLE_BUILD") or os.path.join(REPO, "build"))
TOOL = os.path.join(REPO, "tools", "lab")
CORPORA = os.path.join(REPO, "..", "shared", "corpora")
SAMPLES = os.path.join(CORPORA, "istio-samples", "samples")
CONN = os.path.join(BUILD, "lab", "conn")
COUNTER = itertools.count()
# Which of the runs of tests/run-node this is: without programs at the sockets, everything is left to the links; and the shape of
# the labs of tests that name none.
TC_ONLY = os.environ.get("TULLE_TEST_PATH") == "tc"
SHAPE = os.environ.get("TULLE_TEST_SHAPE", "bridge")
# Whether a run at the links makes do with fewer connections.
SHORT = TC_ONLY and os.environ.get("TULLE_TEST_LONG") != "1"


# A Deployment of two pods that serve, and a pod that does not.
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, labels: {app: client}}, spec: {containers: [{name: c}]}}
"""


def sample(*names):
    """A file of the public samples, which are not part of this repository."""
    path = os.path.join(SAMPLES, *names)
    if not os.path.exists(path):
        raise Skip(f"no {os.path.relpath(path, REPO)} here")
    return path


def run(*command, ok=(0,), timeout=120, text_in=None):
    """Runs a command; its standard output. ok: exit codes that are no failure, None: all."""
    done = subprocess.run(command, input=text_in, capture_output=True, text=True, timeout=timeout, check=False,
                          env=os.environ | {"TULLE_BUILD": BUILD})
    check(ok is None or done.returncode in ok,
          f"{' '.join(map(str, command))} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def stale_names():
    """Labs of tests whose process is gone."""
    root = "/run/tulle-lab"
    for name in os.listdir(root) if os.path.isdir(root) else []:
        match = re.fullmatch(r"t(\d+)-\d+", name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            yield name


def is_left(name):
    """Of a test whose process is gone: what it makes outside of labs is named for its pid too."""
    match = re.match(r"tulle-(?:test|plane|flips)-(\d+)(?:-|$)", name)
    return match and not os.path.exists(f"/proc/{match[1]}")


def remove_cgroup(path):
    with contextlib.suppress(OSError):
        with open(os.path.join(path, "cgroup.kill"), "w", encoding="ascii") as f:
            f.write("1")
    for folder, _, _ in os.walk(path, topdown=False):
        for _ in range(100): # what was killed goes in its own time
            with contextlib.suppress(OSError):
                os.rmdir(folder)
                break
            time.sleep(0.02)


def end_parsers(folder):
    """What outlives the meshd of a test that had its socket in this folder."""
    with contextlib.suppress(OSError), open(os.path.join(folder, "run", "meshd.sock.meshl7"), encoding="ascii") as f:
        for pid, ticks in map(str.split, f):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                if stat.read().rpartition(")")[2].split()[19] == ticks:
                    os.kill(int(pid), signal.SIGKILL)


def remove_stale():
    for name in list(stale_names()):
        subprocess.run([TOOL, "down", "--name", name], check=False)
    for root in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        for name in filter(is_left, os.listdir(root) if os.path.isdir(root) else []):
            remove_cgroup(os.path.join(root, name))
    for root in ("/sys/fs/bpf", "/run", tempfile.gettempdir()):
        for name in filter(is_left, os.listdir(root) if os.path.isdir(root) else []):
            end_parsers(os.path.join(root, name))
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)


def folder_prefix():
    return f"tulle-test-{os.getpid()}-"


class Lab:
    def __init__(self, *files, shape=SHAPE, texts=(), options=()):
        self.name = f"t{os.getpid()}-{next(COUNTER)}"
        self.folder = tempfile.TemporaryDirectory(prefix=folder_prefix())
        self.files = list(files) + [self.file(text) for text in texts]
        self.up_options = ["--shape", shape, *options]

    def __enter__(self):
        try:
            self.tool("up", *self.up_options, "-f", *self.files)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.tool("down")
        finally:
            self.folder.cleanup()

    @contextlib.contextmanager
    def after(self, *others):
        """Brings the others up before this one, which joins one of them; takes all of them down."""
        with contextlib.ExitStack() as stack:
            for lab in (*others, self):
                stack.enter_context(lab)
            yield self

    def nodes(self):
        return json.loads(self.tool("ls", "--nodes", "-o", "json"))

    def tool(self, verb, *args, **kwargs):
        return run(TOOL, verb, "--name", self.name, *args, **kwargs)

    def file(self, text):
        fd, path = tempfile.mkstemp(suffix=".yaml", dir=self.folder.name)
        with os.fdopen(fd, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def path(self, *names):
        return os.path.join("/run/tulle-lab", self.name, *names)

    def mesh(self, *options):
        return self.tool("mesh", *(["--socket-hooks", "off"] if TC_ONLY else []), *options)

    def ctl(self, *args, **kwargs):
        return self.tool("ctl", *args, **kwargs)

    def apply(self, *files, texts=()):
        paths = [*files, *(self.file(text) for text in texts)]
        return self.ctl("apply", *itertools.chain.from_iterable(("-f", p) for p in paths))

    def pods(self):
        return json.loads(self.tool("ls", "-o", "json"))

    def pod(self, name, namespace="default"):
        for pod in self.pods():
            if pod["namespace"] == namespace and name in (pod["pod"], pod["workload"]):
                return pod
        raise AssertionError(f"no pod {namespace}/{name}")

    def service(self, name, namespace="default"):
        for service in json.loads(self.tool("ls", "--services", "-o", "json")):
            if (service["namespace"], service["service"]) == (namespace, name):
                return service
        raise AssertionError(f"no service {namespace}/{name}")

    def exec(self, pod, *command, **kwargs):
        return self.tool("exec", pod, "--", *command, **kwargs)

    def popen(self, pod, *command, **kwargs):
        return subprocess.Popen([TOOL, "exec", "--name", self.name, pod, "--", *map(str, command)], text=True,
                                stdout=subprocess.PIPE, env=os.environ | {"TULLE_BUILD": BUILD}, **kwargs)

    def conn(self, pod, address, port, *options, n=1, line=None, timeout=120):
        """What tools/lab.d/conn.c reports, as a dict."""
        words = [line] if line else []
        out = self.exec(pod, CONN, "--json", "-n", str(n), *options, address, str(port), *words, ok=(0, 1),
                        timeout=timeout)
        return json.loads(out)

    def status(self):
        return json.loads(self.ctl("status", "-o", "json"))

    def parser(self):
        return self.status()["parser"]

    def serving(self, than=0):
        """The pid of the meshl7 that serves, another one than `than`."""
        end = time.monotonic() + 20
        while (pid := self.parser()["pid"]) in (0, than):
            check(time.monotonic() < end, f"meshl7 does not serve: {self.parser()}")
            time.sleep(0.01)
        return pid

    def flows(self, *options):
        return [json.loads(line) for line in self.ctl("flows", "-o", "json", *options).splitlines()]

    def endpoints(self, *args):
        return [json.loads(line) for line in self.ctl("endpoints", "-o", "json", *args).splitlines()]
