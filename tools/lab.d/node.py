# SPDX-License-Identifier: BSD-2-Clause
"""Builds the node: one network namespace for it, one for each pod, links and routes between them, a cgroup and the processes of
each pod. All of it below the lab's own cgroup and namespaces; nothing here runs `ip` in the machine's namespace."""
import ipaddress
import json
import os
import subprocess
import sys

from inventory import NODE_IPS, POD_NET, Inventory, LabError
from place import Place, program

BRIDGE = "cni0"
ROUTED_GATEWAY = ("169.254.1.1", "fe80::1")
BRIDGE_PORTS_MAX = 1000


def up(args):
    place = Place(args.name)
    if os.geteuid():
        raise LabError("must be root")
    for name in ("lab/pause", "lab/podd", "lab/podexec"):
        program(name)
    inventory = Inventory(args.file, args.namespace, args.node)
    if args.shape == "bridge" and len(inventory.pods) > BRIDGE_PORTS_MAX:
        raise LabError(f"a bridge has {BRIDGE_PORTS_MAX} ports: use --shape routed for {len(inventory.pods)} pods")
    existed = place.exists()
    place.lock()
    if os.path.exists(place.path("lab.json")):
        raise LabError(f'lab "{place.name}" is up already: tools/lab down --name {place.name}')
    if existed:
        # What is there without a record is an `up` that was killed: the lock says that none is at work.
        place.remove()
        place.lock_fd = None
        place.lock()
    try:
        build(place, inventory, args)
    except BaseException:
        place.remove()
        raise
    ignored = ", ".join(f"{n} {kind}" for kind, n in sorted(inventory.ignored.items()))
    print(f'lab "{place.name}": {len(inventory.pods)} pods, {len(inventory.services)} services, {args.shape}'
          + (f"; no business of the lab: {ignored}" if ignored else ""))


def build(place, inventory, args):
    for folder in (place.cgroup, place.pods_cgroup, place.node_cgroup):
        os.mkdir(folder)
    for folder in ("rules", "state", "bpf"):
        os.mkdir(place.path(folder))
    node_pid = start_pauses([(place.node_cgroup, "new", "node")])[0]
    node_netns = f"/proc/{node_pid}/ns/net"
    start_pods(place, inventory, node_netns)
    ip_batch(place.node_cgroup, node_netns, node_links(inventory, args.shape))
    guests = [(i, p) for i, p in enumerate(inventory.pods) if not p.host_network]
    ip_batches([(pod_cgroup(place, p), f"/proc/{p.pid}/ns/net", pod_links(p, args.shape)) for _, p in guests])
    if args.server != "none":
        start_servers(place, inventory)
    write_records(place, inventory, args, node_pid)


def pod_cgroup(place, pod):
    return os.path.join(place.pods_cgroup, "pod" + pod.uid)


def start_pauses(jobs):
    """Starts holders together; their pids, once each has its namespace. A holder closes its output when it is ready."""
    started = [subprocess.Popen([program("lab/pause"), *job], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
               for job in jobs]
    for process in started:
        process.stdout.read()
        process.stdout.close()
        if process.poll() is not None:
            raise LabError(f"pause ended with {process.returncode}")
    return [process.pid for process in started]


def start_pods(place, inventory, node_netns):
    for pod in inventory.pods:
        os.mkdir(pod_cgroup(place, pod))
    jobs = [(pod_cgroup(place, p), node_netns if p.host_network else "new") for p in inventory.pods]
    for first in range(0, len(jobs), 64):
        for pod, pid in zip(inventory.pods[first:], start_pauses(jobs[first:first + 64])):
            pod.pid = pid


def gateways():
    return [str(net[1]) for net in POD_NET]


def node_links(inventory, shape):
    lines = [f"addr add {NODE_IPS[0]}/32 dev lo", f"addr add {NODE_IPS[1]}/128 dev lo nodad"]
    if shape == "bridge":
        lines += [f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"]
        lines += [f"addr add {gw}/{net.prefixlen} dev {BRIDGE}{nodad(gw)}" for gw, net in zip(gateways(), POD_NET)]
        lines += [f"link set {BRIDGE} up"]
    for i, pod in enumerate(inventory.pods):
        if pod.host_network:
            continue
        lines += [f"link add veth{i} type veth peer name eth0 netns {pod.pid}"]
        if shape == "bridge":
            lines += [f"link set veth{i} addrgenmode none", f"link set veth{i} master {BRIDGE} up"]
            lines += [f"route add {host(ip)} dev {BRIDGE}" for ip in pod.ips if not in_pod_net(ip)]
        else:
            lines += [f"addr add {ROUTED_GATEWAY[0]}/32 dev veth{i} scope link",
                      f"addr add {ROUTED_GATEWAY[1]}/64 dev veth{i} nodad", f"link set veth{i} up"]
            lines += [f"route add {host(ip)} dev veth{i} src {NODE_IPS[':' in ip]}" for ip in pod.ips]
    return lines


def pod_links(pod, shape):
    lines = ["link set eth0 up"]
    gateway = ROUTED_GATEWAY if shape == "routed" else gateways()
    for ip in pod.ips:
        v6 = ":" in ip
        on_link = shape == "bridge" and in_pod_net(ip)
        prefix = POD_NET[v6].prefixlen if on_link else 128 if v6 else 32
        lines += [f"addr add {ip}/{prefix} dev eth0{nodad(ip)}"]
    for v6 in (False, True):
        ips = [ip for ip in pod.ips if (":" in ip) == v6]
        if ips:
            lines += [f"route add default via {gateway[v6]} dev eth0 onlink src {ips[0]}"]
    return lines


def host(ip):
    return ip + ("/128" if ":" in ip else "/32")


def nodad(ip):
    return " nodad" if ":" in ip else ""


def in_pod_net(ip):
    return ipaddress.ip_address(ip) in POD_NET[":" in ip]


def ip_batches(jobs):
    """`ip -batch` in several namespaces, some at a time."""
    for first in range(0, len(jobs), 16):
        running = []
        for cgroup, netns, lines in jobs[first:first + 16]:
            process = subprocess.Popen([program("lab/podexec"), "-c", cgroup, "-N", netns, "--", "ip", "-batch", "-"],
                                       stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            process.stdin.write("\n".join(lines) + "\n")
            process.stdin.close()
            running.append(process)
        for process in running:
            text = process.stderr.read()
            if process.wait():
                raise LabError("ip: " + text.strip())


def ip_batch(cgroup, netns, lines):
    ip_batches([(cgroup, netns, lines)])


def start_servers(place, inventory):
    log = open(place.path("servers.log"), "ab")
    started = []
    for pod in inventory.pods:
        ports = pod.ports()
        if not ports:
            continue
        process = subprocess.Popen(
            [program("lab/podexec"), "-d", "-c", pod_cgroup(place, pod), "-N", f"/proc/{pod.pid}/ns/net", "--",
             program("lab/podd"), pod.name, pod.namespace, json.dumps(pod.labels, separators=(",", ":")), *map(str, ports)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        started.append((pod, process))
    for pod, process in started:
        process.stdout.read()
        process.stdout.close()
        if process.poll() is not None:
            with open(place.path("servers.log"), encoding="utf-8", errors="replace") as f:
                print(f"tools/lab: no server in {pod.namespace}/{pod.name}: {f.read().strip()}", file=sys.stderr)
    log.close()


def write_records(place, inventory, args, node_pid):
    write(place.path("rules", "00-inventory.yaml"), inventory.text())
    pods = []
    table = []
    for pod in inventory.pods:
        netns = f"/proc/{pod.pid}/ns/net"
        pods.append({"pod": pod.name, "namespace": pod.namespace, "labels": pod.labels, "ips": pod.ips, "netns": netns,
                     "cgroup": pod_cgroup(place, pod), "pid": pod.pid, "workload": pod.workload, "uid": pod.uid})
        table.append("\t".join((pod.namespace, pod.name, pod.workload, pod_cgroup(place, pod), netns)) + "\n")
    services = [{"service": d["metadata"]["name"], "namespace": d["metadata"]["namespace"],
                 "type": d["spec"].get("type", "ClusterIP"),
                 "ips": [ip for ip in d["spec"].get("clusterIPs", []) if ip != "None"],
                 "ports": d["spec"].get("ports") or []} for d in inventory.services]
    write(place.path("pods"), "".join(table))
    # Last: a lab with this file is whole.
    record = {"name": place.name, "shape": args.shape, "node": args.node, "cgroup": place.pods_cgroup,
              "node_ips": NODE_IPS, "node_pid": node_pid, "pods": pods, "services": services}
    write(place.path("lab.json"), json.dumps(record, indent=1) + "\n")


def write(path, text):
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(path + ".new", path)
