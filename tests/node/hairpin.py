#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A pod that dials a service of which it is the only endpoint reaches itself, over both families, by TCP and UDP, and sees the address
it dialled."""
from labs import Lab
from suite import check, main, test

ALONE = """
apiVersion: v1
kind: Service
metadata: {name: self}
spec:
  selector: {app: self}
  ports: [{name: t, port: 80, targetPort: 8080}, {name: u, port: 80, targetPort: 8080, protocol: UDP}]
---
{apiVersion: v1, kind: Pod, metadata: {name: self, labels: {app: self}},
 spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other}, spec: {containers: [{name: c}]}}
"""


@test
def a_pod_reaches_itself():
    for shape in ("bridge", "routed"):
        with Lab(texts=[ALONE], shape=shape) as lab:
            lab.mesh()
            for address in lab.service("self")["ips"]:
                for options in ([], ["--http"], ["--udp"]):
                    for client in ("self", "other"):
                        seen = lab.conn(client, address, 80, *options, n=50)
                        check(seen["pods"] == {"self": 50} and not seen["peername_wrong"] and not seen["source_wrong"],
                              f"{shape}, {client} to {address} {options}: {seen}")


main()
