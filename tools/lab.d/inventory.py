# SPDX-License-Identifier: BSD-2-Clause
"""From the user's YAML to what a node would have: pods with addresses, Services with cluster IPs, and the documents an API
server would hold of them. Knows files and documents only; makes nothing on the machine."""
import ipaddress
import os
import sys
import uuid

import yaml

SERVICE_NET = (ipaddress.ip_network("10.96.0.0/12"), ipaddress.ip_network("fd00:10:96::/108"))
FIRST_POD, FIRST_SERVICE = 2, 10
NODE_PORTS = range(30000, 32768)
NODES_MAX = 12

# Kinds that hold a pod template, and the field that says how many pods there are.
TEMPLATES = {
    "Deployment": "replicas",
    "StatefulSet": "replicas",
    "ReplicaSet": "replicas",
    "ReplicationController": "replicas",
    "DaemonSet": None,
    "Job": "parallelism",
}
# Documents that go into the node's inventory as they are.
KEPT = ("Namespace", "ServiceAccount", "Endpoints", "EndpointSlice")


class LabError(Exception):
    """Something the user can put right; printed without a trace."""


def pod_nets(number):
    """Of the node with that number, 1 .. NODES_MAX."""
    return (ipaddress.ip_network(f"10.{243 + number}.0.0/16"), ipaddress.ip_network(f"fd00:10:{243 + number}::/64"))


def files_of(paths):
    for path in paths:
        if path == "-" or os.path.isfile(path):
            yield path
        elif os.path.isdir(path):
            for folder, _, names in sorted(os.walk(path)):
                for name in sorted(names):
                    if name.endswith((".yaml", ".yml", ".json")):
                        yield os.path.join(folder, name)
        else:
            raise LabError(f"{path}: no such file")


def documents_of(paths):
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in files_of(paths):
        try:
            with (sys.stdin if path == "-" else open(path, encoding="utf-8")) as f:
                docs = list(yaml.load_all(f, Loader=loader))
        except (yaml.YAMLError, UnicodeDecodeError) as e:
            raise LabError(f"{path}: {e}") from None
        while docs:
            doc = docs.pop(0)
            if not isinstance(doc, dict):
                continue
            if str(doc.get("kind", "")).endswith("List") and isinstance(doc.get("items"), list):
                docs[:0] = doc["items"]
            elif doc.get("kind") and isinstance(doc.get("metadata"), dict):
                yield doc


def text_map(value):
    """Labels and annotations: the API server has only strings."""
    def text(v):
        return str(v).lower() if isinstance(v, bool) else "" if v is None else str(v)
    return {str(k): text(v) for k, v in (value or {}).items()}


class Addresses:
    """Hands addresses out in order, for both families at once, and leaves out those that documents name."""

    def __init__(self, nets, first):
        self.nets, self.next, self.taken = nets, first, set()

    def take(self, address):
        address = ipaddress.ip_address(address)
        if address in self.taken:
            raise LabError(f"{address} is given twice")
        self.taken.add(address)
        return str(address)

    def give(self):
        while True:
            pair = [net[self.next] for net in self.nets]
            self.next += 1
            if not self.taken.intersection(pair):
                self.taken.update(pair)
                return [str(a) for a in pair]


class Cluster:
    """What other nodes of the cluster have already. Their Services are this node's too; a second pod of a name is a mistake."""

    def __init__(self, records=()):
        self.documents = {tuple(d) for r in records for d in r["documents"]}
        self.pods = {(p["namespace"], p["pod"]): r["node"] for r in records for p in r["pods"]}
        self.addresses = {ip for r in records for p in r["pods"] for ip in p["ips"]}
        self.service_ips = {ip for r in records for s in r["services"] for ip in s["ips"]}
        self.node_ports = {p["nodePort"] for r in records for s in r["services"] for p in s["ports"] if p.get("nodePort")}


class Pod:
    def __init__(self, namespace, name, workload, metadata, spec, status):
        self.namespace, self.name, self.workload = namespace, name, workload
        self.labels = text_map(metadata.get("labels"))
        self.annotations = text_map(metadata.get("annotations"))
        self.uid = str(metadata.get("uid") or uuid.uuid5(uuid.NAMESPACE_URL, f"tulle-lab/{namespace}/{name}"))
        self.spec, self.status = spec, status or {}
        self.host_network = bool(spec.get("hostNetwork"))
        self.ips = []
        self.pid = None

    def wanted_ips(self):
        ips = [entry.get("ip") for entry in self.status.get("podIPs") or [] if entry.get("ip")]
        return ips or ([self.status["podIP"]] if self.status.get("podIP") else [])

    def containers(self, field):
        return [c for c in self.spec.get(field) or [] if isinstance(c, dict)]

    def ports(self):
        ports = set()
        sidecars = [c for c in self.containers("initContainers") if c.get("restartPolicy") == "Always"]
        for container in self.containers("containers") + sidecars:
            for port in container.get("ports") or []:
                ports.add(int(port["containerPort"]))
        return sorted(ports)

    def document(self, node, node_ips):
        def short(container):
            return {k: container[k] for k in ("name", "image", "restartPolicy", "ports") if k in container}

        metadata = {"name": self.name, "namespace": self.namespace, "uid": self.uid, "labels": self.labels}
        if self.annotations:
            metadata["annotations"] = self.annotations
        spec = {
            "nodeName": node,
            "serviceAccountName": self.spec.get("serviceAccountName") or self.spec.get("serviceAccount") or "default",
            "containers": [short(c) for c in self.containers("containers")],
        }
        for field in ("initContainers", ):
            if self.containers(field):
                spec[field] = [short(c) for c in self.containers(field)]
        for field in ("hostname", "subdomain"):
            if self.spec.get(field):
                spec[field] = self.spec[field]
        if self.host_network:
            spec["hostNetwork"] = True
        conditions = self.status.get("conditions") or [{"type": "Ready", "status": "True"}]
        status = {"phase": self.status.get("phase", "Running"), "conditions": conditions, "hostIP": node_ips[0]}
        if self.ips:
            status["podIP"] = self.ips[0]
            status["podIPs"] = [{"ip": ip} for ip in self.ips]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


class Inventory:
    def __init__(self, paths, namespace, node, number, node_ips, cluster):
        self.node, self.pod_net, self.node_ips, self.cluster = node, pod_nets(number), node_ips, cluster
        self.default_namespace = namespace
        self.pods, self.services, self.kept = [], [], []
        self.ignored = {}
        for doc in documents_of(paths):
            self.add(doc)
        self.number_pods()
        self.number_services()
        self.number_node_ports()

    def namespace_of(self, doc):
        return str(doc["metadata"].get("namespace") or self.default_namespace)

    def key(self, doc):
        return (doc["kind"], "" if doc["kind"] in ("Namespace", "Node") else self.namespace_of(doc), str(doc["metadata"]["name"]))

    def add(self, doc):
        kind = doc["kind"]
        if kind == "Pod":
            name = str(doc["metadata"]["name"])
            self.pods.append(Pod(self.namespace_of(doc), name, name, doc["metadata"], doc.get("spec") or {},
                                 doc.get("status")))
        elif kind in TEMPLATES:
            self.add_template(doc, TEMPLATES[kind])
        elif kind == "Service" and str(doc.get("apiVersion")) == "v1":
            if self.key(doc) not in self.cluster.documents:
                self.services.append(doc)
        elif kind in KEPT:
            if self.key(doc) not in self.cluster.documents:
                self.kept.append(doc)
        else:
            self.ignored[kind] = self.ignored.get(kind, 0) + 1

    def add_template(self, doc, count_field):
        spec = doc.get("spec") or {}
        template = spec.get("template") or {}
        count = spec.get(count_field) if count_field else None
        workload = str(doc["metadata"]["name"])
        for i in range(1 if count is None else int(count)):
            name = f"{workload}-{i}"
            pod = Pod(self.namespace_of(doc), name, workload, template.get("metadata") or {}, template.get("spec") or {},
                      None)
            if doc["kind"] == "StatefulSet":
                pod.labels["statefulset.kubernetes.io/pod-name"] = name
                pod.labels["apps.kubernetes.io/pod-index"] = str(i)
            self.pods.append(pod)

    def number_pods(self):
        seen = set()
        addresses = Addresses(self.pod_net, FIRST_POD)
        for ip in self.cluster.addresses:
            addresses.taken.add(ipaddress.ip_address(ip))
        for pod in self.pods:
            if (pod.namespace, pod.name) in seen:
                raise LabError(f"pod {pod.namespace}/{pod.name} is given twice")
            if (pod.namespace, pod.name) in self.cluster.pods:
                node = self.cluster.pods[pod.namespace, pod.name]
                raise LabError(f"pod {pod.namespace}/{pod.name} is on node {node} already")
            seen.add((pod.namespace, pod.name))
            if not pod.host_network:
                pod.ips = [addresses.take(ip) for ip in pod.wanted_ips()]
        for pod in self.pods:
            if pod.host_network:
                pod.ips = list(self.node_ips)
            elif not pod.ips:
                pod.ips = addresses.give()

    def number_services(self):
        addresses = Addresses(SERVICE_NET, FIRST_SERVICE)
        for ip in self.cluster.service_ips:
            addresses.take(ip)
        for doc in self.services:
            doc.pop("status", None)
            doc["metadata"]["namespace"] = self.namespace_of(doc)
            spec = doc.setdefault("spec", {})
            given = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
            for ip in given:
                if ip != "None":
                    addresses.take(ip)
        for doc in self.services:
            spec = doc["spec"]
            if spec.get("type") == "ExternalName":
                continue
            given = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
            if not given:
                given = self.choose_cluster_ips(spec, addresses.give())
            spec["clusterIP"], spec["clusterIPs"] = given[0], given
            if given[0] != "None":
                spec["ipFamilies"] = ["IPv6" if ":" in ip else "IPv4" for ip in given]
                spec["ipFamilyPolicy"] = spec.get("ipFamilyPolicy") or (
                    "PreferDualStack" if len(given) > 1 else "SingleStack")

    def number_node_ports(self):
        """Ports of Services of these types that name none."""
        outer = [d["spec"] for d in self.services if d["spec"].get("type") in ("NodePort", "LoadBalancer")]
        taken = self.cluster.node_ports | {p.get("nodePort") for spec in outer for p in spec.get("ports") or []}
        free = iter(sorted(set(NODE_PORTS) - taken))
        for spec in outer:
            for port in spec.get("ports") or []:
                if not port.get("nodePort") and spec.get("allocateLoadBalancerNodePorts", True):
                    port["nodePort"] = next(free)

    @staticmethod
    def choose_cluster_ips(spec, pair):
        """Dual stack unless the document asks for less; families in the order it names them."""
        families = spec.get("ipFamilies") or ["IPv4", "IPv6"]
        by_family = {"IPv4": pair[0], "IPv6": pair[1]}
        if spec.get("ipFamilyPolicy") == "SingleStack":
            families = families[:1]
        elif len(families) == 1:
            families = families + [f for f in ("IPv4", "IPv6") if f not in families]
        return [by_family[f] for f in families]

    def cluster_documents(self):
        """What belongs to no node."""
        known = {d["metadata"]["name"] for d in self.kept if d["kind"] == "Namespace"}
        known |= {name for kind, _, name in self.cluster.documents if kind == "Namespace"}
        used = {p.namespace for p in self.pods} | {d["metadata"]["namespace"] for d in self.services}
        used.add(self.default_namespace)
        for name in sorted(used - known):
            labels = {"kubernetes.io/metadata.name": name}
            yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for doc in self.kept:
            if doc["kind"] != "Namespace":
                doc["metadata"]["namespace"] = self.namespace_of(doc)
            yield doc
        yield from self.services

    def node_documents(self):
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.node, "labels": {"kubernetes.io/hostname": self.node}},
            "status": {"addresses": [{"type": "InternalIP", "address": ip} for ip in self.node_ips]
                                    + [{"type": "Hostname", "address": self.node}]},
        }
        for pod in self.pods:
            yield pod.document(self.node, self.node_ips)


def text(documents):
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump_all(documents, Dumper=dumper, sort_keys=False, explicit_start=True)
