#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Rules of a size: N Services with an IPv4 ClusterIP, each with an EndpointSlice of M endpoints.

  gen.py --services N --endpoints M [--live IP4,IP6,PORT] [--one]

Service 0 is live: its endpoints are at the --live addresses, and it has an IPv6 ClusterIP too. --one prints only the IPv4 slice of service 1, with a random
endpoint, for benches of a small change."""
import argparse
import ipaddress
import random
import sys


def number(base, i):
    return str(ipaddress.ip_address(base) + i)


def service(i, ips):
    return f"""---
apiVersion: v1
kind: Service
metadata: {{name: s{i}, namespace: bench}}
spec:
  clusterIP: {ips[0]}
  clusterIPs: [{", ".join(f'"{ip}"' for ip in ips)}]
  ports: [{{name: tcp, port: 80, targetPort: 8080, protocol: TCP}}]
"""


def endpoint_slice(i, family, addresses, port):
    lines = "".join(f'- {{addresses: ["{a}"], conditions: {{ready: true}}}}\n' for a in addresses)
    return f"""---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{i}-{family.lower()}, namespace: bench, labels: {{kubernetes.io/service-name: s{i}}}}}
addressType: {family}
ports: [{{name: tcp, port: {port}, protocol: TCP}}]
endpoints:
{lines}"""


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--services", type=int, required=True)
    p.add_argument("--endpoints", type=int, required=True)
    p.add_argument("--live")
    p.add_argument("--one", action="store_true")
    args = p.parse_args()
    write = sys.stdout.write
    if args.one:
        own = [number("172.16.0.1", args.endpoints + j) for j in range(args.endpoints - 1)]
        write(endpoint_slice(1, "IPv4", own + [number("172.30.0.1", random.randrange(60000))], 8080))
        return
    for i in range(args.services):
        live = i == 0 and args.live
        write(service(i, [number("10.96.0.1", i)] + (["fd00:10:96::1"] if live else [])))
        if live:
            four, six, port = args.live.split(",")
            write(endpoint_slice(0, "IPv4", [four], port))
            write(endpoint_slice(0, "IPv6", [six], port))
            continue
        first = i * args.endpoints
        write(endpoint_slice(i, "IPv4", [number("172.16.0.1", first + j) for j in range(args.endpoints)], 8080))


main()
