# SPDX-License-Identifier: BSD-2-Clause
"""The verbs of tools/lab."""
import argparse
import json
import os
import sys

import fabric
import mesh
import node
from inventory import LabError
from place import Place, names

HELP = """A whole Kubernetes-like node inside a network namespace of its own.

  tools/lab up [--name N] [--shape bridge|routed] [--server none] -f FILE...   pods of the Pods, Deployments, ... in FILE
  tools/lab up --name M --join N -f FILE...   one node more, beside those that N is joined with
  tools/lab ls [-o json] [--services|--nodes]   pods: namespace, labels, addresses, network namespace, cgroup
  tools/lab exec POD [-n NS] -- COMMAND    runs there: own network and cgroup, same files
  tools/lab mesh [meshd options]           starts meshd for this node, or restarts it (it adopts what is loaded); every
                                           setting is an option: --socket-hooks off
  tools/lab ctl ARGUMENTS                  meshctl against it
  tools/lab unmesh [--unload]              stops meshd; connections stay balanced unless --unload
  tools/lab down [--all]                   leaves no trace, whatever was killed before

POD is a pod, NAMESPACE/POD or the name of a Deployment; @node is the node itself, @outside a machine outside of the cluster.

Nodes. A node has an uplink eth0 (172.31.0.M and fd31::M, its addresses as a Node) into a network namespace between the nodes
(unless --no-uplink); pods of the M-th node have addresses in 10.{243+M}.0.0/16 and fd00:10:{243+M}::/64. Nodes that are joined
reach each other's pods, have each other's documents in their rules directories, and each its own meshd, pins and cgroup. A
Service that a node has already is not made again by one that joins it. `down` takes one away, with its pods; Services stay.
@outside is 172.31.0.250 and fd31::250, beside the nodes. It has routes to nodes and pods, and sends 192.0.2.0/24 and
2001:db8:ffff::/64, for external addresses, to the first node. --node names the node (as the lab).

Every verb takes --name N first (or TULLE_LAB=N; "lab" otherwise).
TULLE_BUILD names the build directory (build). A lab keeps its records, the log of meshd, the pins and the control socket
in /run/tulle-lab/N.
"""


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def ls(args):
    _, record = mesh.record_of(args.name)
    items = record["services"] if args.services else fabric.nodes(record) if args.nodes else record["pods"]
    if args.output == "json":
        print(json.dumps(items, indent=1))
    elif args.nodes:
        table([("NODE", "LAB", "ADDRESSES", "OUTSIDE")]
              + [(n["node"], n["lab"], ",".join(n["ips"]), ",".join(n["outside_ips"]) or "-") for n in items])
    elif args.services:
        table([("NAMESPACE", "SERVICE", "TYPE", "ADDRESSES", "PORTS")]
              + [(s["namespace"], s["service"], s["type"], ",".join(s["ips"]) or "None",
                  ",".join(f"{p['port']}/{p.get('protocol', 'TCP')}" for p in s["ports"])) for s in items])
    else:
        table([("NAMESPACE", "POD", "ADDRESSES", "LABELS", "NETNS", "CGROUP")]
              + [(p["namespace"], p["pod"], ",".join(p["ips"]), ",".join(f"{k}={v}" for k, v in p["labels"].items()),
                  p["netns"], p["cgroup"]) for p in items])


def down(args):
    if os.geteuid():
        raise LabError("must be root")
    for name in names() if args.all else [args.name]:
        place = Place(name)
        if place.exists():
            place.lock()
            place.remove()


def parser():
    top = argparse.ArgumentParser(prog="tools/lab", add_help=False)
    verbs = top.add_subparsers(dest="verb", required=True)

    def verb(name, fn, **kwargs):
        p = verbs.add_parser(name, prog=f"tools/lab {name}", allow_abbrev=False, **kwargs)
        p.add_argument("--name", default=os.environ.get("TULLE_LAB") or "lab")
        p.set_defaults(fn=fn)
        return p

    p = verb("up", node.up)
    p.add_argument("--shape", choices=("bridge", "routed"), default="bridge")
    p.add_argument("--server", choices=("echo", "none"), default="echo")
    p.add_argument("--namespace", "-n", default="default", help="of documents that name none")
    p.add_argument("--node", help="the node's name; as the lab when not given")
    p.add_argument("--join", metavar="LAB", help="as one node more of its cluster")
    p.add_argument("--no-uplink", action="store_true")
    p.add_argument("-f", "--file", action="append", nargs="+", required=True, metavar="FILE")
    p = verb("ls", ls)
    p.add_argument("-o", "--output", choices=("table", "json"), default="table")
    what = p.add_mutually_exclusive_group()
    what.add_argument("--services", action="store_true")
    what.add_argument("--nodes", action="store_true")
    p = verb("mesh", mesh.mesh, add_help=False)
    p.add_argument("-q", "--quiet", action="store_true")
    p = verb("unmesh", mesh.unmesh)
    p.add_argument("--unload", action="store_true")
    p = verb("down", down)
    p.add_argument("--all", action="store_true")
    return top


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("help", "-h", "--help"):
        print(HELP, end="")
        return 0 if len(sys.argv) > 1 else 2
    args, rest = parser().parse_known_args()
    if rest and args.verb != "mesh":
        parser().error("unrecognized arguments: " + " ".join(rest))
    args.options = rest[1:] if rest[:1] == ["--"] else rest
    if args.verb == "up":
        if args.join and args.no_uplink:
            parser().error("--join needs an uplink")
        args.file = [path for group in args.file for path in group]
    try:
        args.fn(args)
    except LabError as e:
        print(f"tools/lab: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
