# SPDX-License-Identifier: BSD-2-Clause
"""Builds the node: one network namespace for it, one for each pod, links and routes between them, a cgroup and the processes of
each pod. All of it below the lab's own cgroup and namespaces; nothing here runs `ip` in the machine's namespace."""
import ipaddress
import json
import os
import subprocess
import sys

import fabric
from inventory import Inventory, LabError, text
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
    args.node = args.node or args.name
    net = fabric.Fabric(args.join)
    number = net.number()
    node_ips = fabric.node_ips(number)
    inventory = Inventory(args.file, args.namespace, args.node, number, node_ips, net.cluster(args.node))
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
        build(place, inventory, args, net, number)
    except BaseException:
        place.remove()
        raise
    finally:
        net.release()
    ignored = ", ".join(f"{n} {kind}" for kind, n in sorted(inventory.ignored.items()))
    print(f'lab "{place.name}": {len(inventory.pods)} pods, {len(inventory.services)} services, {args.shape}'
          + (f"; no business of the lab: {ignored}" if ignored else ""))


def build(place, inventory, args, net, number):
    for folder in (place.cgroup, place.pods_cgroup, place.node_cgroup, place.outside_cgroup):
        os.mkdir(folder)
    for folder in ("rules", "state", "bpf", "share"):
        os.mkdir(place.path(folder))
    holders = [(place.node_cgroup, "new", "node")]
    if not args.no_uplink:
        between, outside = net.namespaces()
        holders += [(place.outside_cgroup, between, "node"), (place.outside_cgroup, outside)]
    node_pid, fabric_pid, outside_pid = (start_pauses(holders) + [None, None])[:3]
    start_pods(place, inventory, netns(node_pid))
    if fabric_pid and not net.members:
        # Before any uplink: the kernel puts the news of a link's carrier off for a second where the two ends have the same number.
        ip_batches([(place.outside_cgroup, netns(fabric_pid), fabric.fabric_links(outside_pid))])
    ip_batches([(place.node_cgroup, netns(node_pid), node_links(inventory, args.shape, uplink(number, fabric_pid)))])
    guests = [(i, p) for i, p in enumerate(inventory.pods) if not p.host_network]
    ip_batches([(pod_cgroup(place, p), netns(p.pid), pod_links(p, args.shape, inventory.pod_net)) for _, p in guests])
    if args.server != "none":
        start_servers(place, inventory)
    record = record_of(place, inventory, args)
    record |= {"number": number, "node_pid": node_pid, "fabric_pid": fabric_pid, "outside_pid": outside_pid}
    if fabric_pid:
        connect(place, record, net.members)
    write_records(place, inventory, record)
    fabric.share(place, net.members)
    # Last: a lab with this file is whole.
    fabric.write(place.path("lab.json"), json.dumps(record, indent=1) + "\n")


def netns(pid):
    return f"/proc/{pid}/ns/net"


def uplink(number, fabric_pid):
    if fabric_pid:
        return fabric.uplink_lines(number, fabric_pid)
    return [f"addr add {host(ip)} dev lo{nodad(ip)}" for ip in fabric.node_ips(number)]


def connect(place, record, members):
    """The uplink's other end, and routes between this node's pods and everybody else on the fabric."""
    number, fabric_netns, outside_netns = record["number"], netns(record["fabric_pid"]), netns(record["outside_pid"])
    to_here = fabric.routes_to(number, fabric.pod_ips(record))
    to_others = [line for r in members for line in fabric.routes_to(r["number"], fabric.pod_ips(r))]
    first = [] if members else fabric.outside_links(record["node_ips"])
    ip_batches([(place.outside_cgroup, fabric_netns, fabric.port_lines(number) + to_here),
                (place.outside_cgroup, outside_netns, first + to_here), (place.node_cgroup, netns(record["node_pid"]), to_others)]
               + [(Place(r["name"]).node_cgroup, netns(r["node_pid"]), to_here) for r in members])


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


def gateways(pod_net):
    return [str(net[1]) for net in pod_net]


def node_links(inventory, shape, lines):
    pod_net = inventory.pod_net
    if shape == "bridge":
        lines += [f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"]
        lines += [f"addr add {gw}/{net.prefixlen} dev {BRIDGE}{nodad(gw)}" for gw, net in zip(gateways(pod_net), pod_net)]
        lines += [f"link set {BRIDGE} up"]
    for i, pod in enumerate(inventory.pods):
        if pod.host_network:
            continue
        lines += [f"link add veth{i} type veth peer name eth0 netns {pod.pid}"]
        if shape == "bridge":
            lines += [f"link set veth{i} addrgenmode none", f"link set veth{i} master {BRIDGE} up"]
            lines += [f"route add {host(ip)} dev {BRIDGE}" for ip in pod.ips if not in_net(ip, pod_net)]
        else:
            lines += [f"addr add {ROUTED_GATEWAY[0]}/32 dev veth{i} scope link",
                      f"addr add {ROUTED_GATEWAY[1]}/64 dev veth{i} nodad", f"link set veth{i} up"]
            lines += [f"route add {host(ip)} dev veth{i} src {inventory.node_ips[':' in ip]}" for ip in pod.ips]
    return lines


def pod_links(pod, shape, pod_net):
    lines = ["link set eth0 up"]
    gateway = ROUTED_GATEWAY if shape == "routed" else gateways(pod_net)
    for ip in pod.ips:
        v6 = ":" in ip
        on_link = shape == "bridge" and in_net(ip, pod_net)
        prefix = pod_net[v6].prefixlen if on_link else 128 if v6 else 32
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


def in_net(ip, nets):
    return ipaddress.ip_address(ip) in nets[":" in ip]


def ip_batches(jobs):
    """`ip -batch` in several namespaces, some at a time."""
    for first in range(0, len(jobs), 16):
        running = []
        for cgroup, place, lines in jobs[first:first + 16]:
            process = subprocess.Popen([program("lab/podexec"), "-c", cgroup, "-N", place, "--", "ip", "-batch", "-"],
                                       stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            process.stdin.write("\n".join(lines) + "\n")
            process.stdin.close()
            running.append(process)
        for process in running:
            text = process.stderr.read()
            if process.wait():
                raise LabError("ip: " + text.strip())


def start_servers(place, inventory):
    log = open(place.path("servers.log"), "ab")
    started = []
    for pod in inventory.pods:
        ports = pod.ports()
        if not ports:
            continue
        process = subprocess.Popen(
            [program("lab/podexec"), "-d", "-c", pod_cgroup(place, pod), "-N", netns(pod.pid), "--",
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


def record_of(place, inventory, args):
    pods = [{"pod": p.name, "namespace": p.namespace, "labels": p.labels, "ips": p.ips, "node": args.node, "netns": netns(p.pid),
             "cgroup": pod_cgroup(place, p), "pid": p.pid, "workload": p.workload, "uid": p.uid} for p in inventory.pods]
    services = [{"service": d["metadata"]["name"], "namespace": d["metadata"]["namespace"],
                 "type": d["spec"].get("type", "ClusterIP"),
                 "ips": [ip for ip in d["spec"].get("clusterIPs", []) if ip != "None"],
                 "ports": d["spec"].get("ports") or []} for d in inventory.services]
    return {"name": place.name, "shape": args.shape, "node": args.node, "cgroup": place.pods_cgroup,
            "node_ips": inventory.node_ips, "pods": pods, "services": services,
            "documents": [inventory.key(d) for d in inventory.cluster_documents()]}


def write_records(place, inventory, record):
    texts = {"nodes": text(inventory.node_documents()), "cluster": text(inventory.cluster_documents())}
    for kind, content in texts.items():
        fabric.write(place.path("share", f"{kind}.yaml"), content)
    fabric.write(place.path("rules", "00-inventory.yaml"), texts["cluster"] + texts["nodes"])
    # What tools/lab.d/podexec.c reads: the pods, and under names that no pod can have the node and who is outside of it.
    rows = [(p["namespace"], p["pod"], p["workload"], p["cgroup"], p["netns"]) for p in record["pods"]]
    for name, cgroup, pid in (("@node", place.node_cgroup, record["node_pid"]),
                              ("@fabric", place.outside_cgroup, record["fabric_pid"]),
                              ("@outside", place.outside_cgroup, record["outside_pid"])):
        if pid:
            rows.append(("", name, name, cgroup, netns(pid)))
    fabric.write(place.path("pods"), "".join("\t".join(row) + "\n" for row in rows))
