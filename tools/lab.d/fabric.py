# SPDX-License-Identifier: BSD-2-Clause
"""What lies between nodes: one bridge in a network namespace of its own, an uplink `eth0` of each node into it, and a machine
outside of the cluster. Each lab that is joined has a holder of those two namespaces among its own processes, so that they live
as long as one of the labs does, and no lab has to outlive another. Knows addresses and links only; node.py builds the rest."""
import fcntl
import ipaddress
import json
import os

from inventory import NODES_MAX, Cluster, LabError, pod_nets
from place import ROOT, Place, names, start_time

BRIDGE = "fab0"
NETS = (ipaddress.ip_network("172.31.0.0/24"), ipaddress.ip_network("fd31::/64"))
OUTSIDE = ("172.31.0.250", "fd31::250")
ROUTER = ("172.31.0.254", "fd31::254")
# Addresses of no node that the outside sends to the first one: external IPs and load balancers' (documentation networks).
EXTERNAL = ("192.0.2.0/24", "2001:db8:ffff::/64")


def node_ips(number):
    return (f"172.31.0.{number}", f"fd31::{number:x}")


def mac(number):
    """The same for the same number, so that nobody's neighbour table goes stale when a node comes back."""
    return f"02:00:ac:1f:00:{number:02x}"


def read_record(name):
    try:
        with open(os.path.join(ROOT, name, "lab.json"), encoding="utf-8") as f:
            record = json.load(f)
    except (OSError, ValueError):
        return None
    return record if start_time(record["node_pid"]) else None


def netns_id(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


def joined(record):
    """The records of the labs on the same fabric, itself among them."""
    records = [r for r in map(read_record, names()) if r and r["fabric_pid"]]
    return [r for r in records if netns_id(r["fabric_pid"]) == netns_id(record["fabric_pid"])]


def nodes(record):
    """For people and scripts: a lab's node, and the nodes joined with it."""
    found = sorted(joined(record), key=lambda r: r["number"]) if record["fabric_pid"] else [record]
    return [{"node": r["node"], "lab": r["name"], "ips": r["node_ips"], "number": r["number"], "netns": f"/proc/{r['node_pid']}/ns/net",
             "outside_ips": OUTSIDE if r["fabric_pid"] else []} for r in found]


class Fabric:
    """The labs that one is joined with: `members`, by the records they left; none: this lab is the first."""

    def __init__(self, join):
        self.members, self.lock_fd = [], None
        if not join:
            return
        self.lock()
        first = read_record(join)
        if not first:
            raise LabError(f'there is no lab "{join}" to join: tools/lab up --name {join} -f FILE...')
        if not first["fabric_pid"]:
            raise LabError(f'lab "{join}" has no uplink')
        self.members = joined(first)

    def lock(self):
        """One join at a time on this machine: numbers and addresses are given out by looking at who is there."""
        self.lock_fd = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX)

    def release(self):
        if self.lock_fd is not None:
            os.close(self.lock_fd)
            self.lock_fd = None

    def number(self):
        taken = {r["number"] for r in self.members}
        free = next(n for n in range(1, NODES_MAX + 2) if n not in taken)
        if free > NODES_MAX:
            raise LabError(f"a fabric has {NODES_MAX} nodes")
        return free

    def cluster(self, node):
        if any(r["node"] == node for r in self.members):
            raise LabError(f'there is a node "{node}" already: --node')
        return Cluster(self.members)

    def namespaces(self):
        """To be joined by this lab's holders: of the fabric and the outside."""
        if not self.members:
            return ["new", "new"]
        return [f"/proc/{self.members[0][key]}/ns/net" for key in ("fabric_pid", "outside_pid")]


def on_link(ip, net):
    return f"{ip}/{net.prefixlen}" + (" nodad" if ":" in ip else "")


def fabric_links(outside_pid):
    """The namespace between the nodes; once, by the first lab. It routes for who knows no better."""
    lines = [f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"]
    lines += [f"addr add {on_link(ip, net)} dev {BRIDGE}" for ip, net in zip(ROUTER, NETS)]
    lines += [f"link set {BRIDGE} up", f"link add outside type veth peer name eth0 address {mac(250)} netns {outside_pid}",
              "link set outside addrgenmode none", f"link set outside master {BRIDGE} up"]
    return lines


def outside_links(ips):
    lines = [f"addr add {on_link(ip, net)} dev eth0" for ip, net in zip(OUTSIDE, NETS)]
    lines += ["link set eth0 up"]
    lines += [f"route add default via {ip} dev eth0" for ip in ROUTER]
    return lines + [f"route add {net} via {via} dev eth0" for net, via in zip(EXTERNAL, ips)]


def uplink_lines(number, fabric_pid):
    """In the node's namespace."""
    lines = [f"link add eth0 address {mac(number)} type veth peer name node{number} netns {fabric_pid}"]
    lines += [f"addr add {on_link(ip, net)} dev eth0" for ip, net in zip(node_ips(number), NETS)]
    lines += ["link set eth0 up"]
    return lines + [f"route add default via {ip} dev eth0" for ip in ROUTER]


def port_lines(number):
    """In the fabric, for a node's uplink."""
    return [f"link set node{number} addrgenmode none", f"link set node{number} master {BRIDGE} up"]


def routes_to(number, pod_ips):
    """To the pods of a node, for everybody else on the fabric."""
    nets = pod_nets(number)
    single = [ip for ip in pod_ips if ipaddress.ip_address(ip) not in nets[":" in ip]]
    return [f"route replace {to} via {node_ips(number)[':' in str(to)]}" for to in [*nets, *single]]


def pod_ips(record):
    return [ip for pod in record["pods"] for ip in pod["ips"] if ip not in record["node_ips"]]


def share(place, members):
    """Each node's rules directory gets what the others have. Pods and nodes go when their lab goes, Services stay."""
    for record in members:
        other = Place(record["name"])
        for source, target in ((place, other), (other, place)):
            for kind in ("nodes", "cluster"):
                with open(source.path("share", f"{kind}.yaml"), encoding="utf-8") as f:
                    write(target.path("rules", f"01-{source.name}-{kind}.yaml"), f.read())


def write(path, text):
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(path + ".new", path)
