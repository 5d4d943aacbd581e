/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * v1 Pod, Namespace and Node: who the clients and endpoints are. Of a Pod's specification only what says who it
 * is and which ports have which name matters here; how it is run does not.
 */
#include <stdio.h>

#include "config/kind_local.h"

/* ---- Pod ---- */
struct raw_container_port {
	struct str name;
	int64_t port;
	uint32_t proto;
};

struct raw_container {
	struct str name, restart_policy;
	struct list ports;
};

struct raw_ip {
	struct str ip;
};

struct raw_condition {
	struct str type, status;
};

struct raw_pod {
	struct raw_meta meta;
	struct {
		struct str node, service_account, service_account_old;
		bool host_network;
		struct list containers, init_containers;
	} spec;
	struct {
		struct str ip, phase;
		struct list ips, conditions;
		struct place conditions_at;
	} status;
};

static const struct field container_port_fields[] = {
	F_STR("name", struct raw_container_port, name),
	F_INT("containerPort", struct raw_container_port, port, 1, 65535, .flags = FIELD_REQUIRED),
	F_ENUM("protocol", struct raw_container_port, proto, protocol_names, .flags = FIELD_EMPTY_ENUM),
	/* A way in at the node's address; pods that dial the pod's address or a cluster IP never meet it. */
	F_INERT("hostPort", FIELD_INT),
	F_INERT("hostIP", FIELD_STR),
	F_END,
};
static const struct schema container_port_schema = {
	.name = "ContainerPort",
	.size = sizeof(struct raw_container_port),
	.fields = container_port_fields,
};

static const struct field container_fields[] = {
	F_STR("name", struct raw_container, name, .flags = FIELD_REQUIRED),
	F_STR("restartPolicy", struct raw_container, restart_policy),
	F_LIST("ports", struct raw_container, ports, container_port_schema, .max = ITEMS_MAX),
	F_INERT("args", FIELD_STRS),
	F_INERT("command", FIELD_STRS),
	F_INERT("env", FIELD_LIST),
	F_INERT("envFrom", FIELD_LIST),
	F_INERT("image", FIELD_STR),
	F_INERT("imagePullPolicy", FIELD_STR),
	F_INERT("lifecycle", FIELD_OBJECT),
	/* What the kubelet probes; the outcome is the pod's condition Ready. */
	F_INERT("livenessProbe", FIELD_OBJECT),
	F_INERT("readinessProbe", FIELD_OBJECT),
	F_INERT("startupProbe", FIELD_OBJECT),
	F_INERT("resizePolicy", FIELD_LIST),
	F_INERT("resources", FIELD_OBJECT),
	F_INERT("restartPolicyRules", FIELD_LIST),
	F_INERT("securityContext", FIELD_OBJECT),
	F_INERT("stdin", FIELD_BOOL),
	F_INERT("stdinOnce", FIELD_BOOL),
	F_INERT("terminationMessagePath", FIELD_STR),
	F_INERT("terminationMessagePolicy", FIELD_STR),
	F_INERT("tty", FIELD_BOOL),
	F_INERT("volumeDevices", FIELD_LIST),
	F_INERT("volumeMounts", FIELD_LIST),
	F_INERT("workingDir", FIELD_STR),
	F_END,
};
static const struct schema container_schema = {
	.name = "Container",
	.size = sizeof(struct raw_container),
	.fields = container_fields,
};

static const struct field pod_spec_fields[] = {
	F_STR("nodeName", struct raw_pod, spec.node),
	F_STR("serviceAccountName", struct raw_pod, spec.service_account),
	F_STR("serviceAccount", struct raw_pod, spec.service_account_old),
	F_BOOL("hostNetwork", struct raw_pod, spec.host_network),
	F_LIST("containers", struct raw_pod, spec.containers, container_schema, .max = ITEMS_MAX),
	F_LIST("initContainers", struct raw_pod, spec.init_containers, container_schema, .max = ITEMS_MAX),
	F_INERT("activeDeadlineSeconds", FIELD_INT),
	F_INERT("affinity", FIELD_OBJECT),
	F_INERT("automountServiceAccountToken", FIELD_BOOL),
	F_INERT("dnsConfig", FIELD_OBJECT),
	F_INERT("dnsPolicy", FIELD_STR),
	F_INERT("enableServiceLinks", FIELD_BOOL),
	F_INERT("ephemeralContainers", FIELD_LIST),
	F_INERT("hostAliases", FIELD_LIST),
	F_INERT("hostIPC", FIELD_BOOL),
	F_INERT("hostPID", FIELD_BOOL),
	F_INERT("hostUsers", FIELD_BOOL),
	F_INERT("hostname", FIELD_STR),
	F_INERT("hostnameOverride", FIELD_STR),
	F_INERT("imagePullSecrets", FIELD_LIST),
	F_INERT("nodeSelector", FIELD_OBJECT),
	F_INERT("os", FIELD_OBJECT),
	F_INERT("overhead", FIELD_OBJECT),
	F_INERT("preemptionPolicy", FIELD_STR),
	F_INERT("priority", FIELD_INT),
	F_INERT("priorityClassName", FIELD_STR),
	F_INERT("readinessGates", FIELD_LIST),
	F_INERT("resourceClaims", FIELD_LIST),
	F_INERT("resources", FIELD_OBJECT),
	F_INERT("restartPolicy", FIELD_STR),
	F_INERT("runtimeClassName", FIELD_STR),
	F_INERT("schedulerName", FIELD_STR),
	F_INERT("schedulingGates", FIELD_LIST),
	F_INERT("schedulingGroup", FIELD_OBJECT),
	F_INERT("securityContext", FIELD_OBJECT),
	F_INERT("setHostnameAsFQDN", FIELD_BOOL),
	F_INERT("shareProcessNamespace", FIELD_BOOL),
	F_INERT("subdomain", FIELD_STR),
	F_INERT("terminationGracePeriodSeconds", FIELD_INT),
	F_INERT("tolerations", FIELD_LIST),
	F_INERT("topologySpreadConstraints", FIELD_LIST),
	F_INERT("volumes", FIELD_LIST),
	F_INERT("workloadRef", FIELD_OBJECT),
	F_END,
};

static const struct field ip_fields[] = {
	F_STR("ip", struct raw_ip, ip, .flags = FIELD_REQUIRED),
	F_END,
};
static const struct schema ip_schema = { .name = "PodIP", .size = sizeof(struct raw_ip), .fields = ip_fields };

static const struct field condition_fields[] = {
	F_STR("type", struct raw_condition, type),
	F_STR("status", struct raw_condition, status),
	F_INERT("lastProbeTime", FIELD_STR),
	F_INERT("lastTransitionTime", FIELD_STR),
	F_INERT("message", FIELD_STR),
	F_INERT("observedGeneration", FIELD_INT),
	F_INERT("reason", FIELD_STR),
	F_END,
};
static const struct schema condition_schema = {
	.name = "PodCondition",
	.size = sizeof(struct raw_condition),
	.fields = condition_fields,
};

static const struct field pod_status_fields[] = {
	F_STR("podIP", struct raw_pod, status.ip),
	F_LIST("podIPs", struct raw_pod, status.ips, ip_schema, .max = 16),
	F_STR("phase", struct raw_pod, status.phase),
	F_LIST("conditions", struct raw_pod, status.conditions, condition_schema),
	F_INERT("allocatedResources", FIELD_OBJECT),
	F_INERT("containerStatuses", FIELD_LIST),
	F_INERT("ephemeralContainerStatuses", FIELD_LIST),
	F_INERT("extendedResourceClaimStatus", FIELD_OBJECT),
	F_INERT("hostIP", FIELD_STR),
	F_INERT("hostIPs", FIELD_LIST),
	F_INERT("initContainerStatuses", FIELD_LIST),
	F_INERT("message", FIELD_STR),
	F_INERT("nodeAllocatableResourceClaimStatuses", FIELD_LIST),
	F_INERT("nominatedNodeName", FIELD_STR),
	F_INERT("observedGeneration", FIELD_INT),
	F_INERT("qosClass", FIELD_STR),
	F_INERT("reason", FIELD_STR),
	F_INERT("resize", FIELD_STR),
	F_INERT("resourceClaimStatuses", FIELD_LIST),
	F_INERT("resources", FIELD_OBJECT),
	F_INERT("startTime", FIELD_STR),
	F_END,
};

/* The two parts are decoded in place, so their offsets count from the beginning of struct raw_pod. */
static const struct schema pod_spec_schema = { .name = "PodSpec",
					       .size = sizeof(struct raw_pod),
					       .fields = pod_spec_fields };
static const struct schema pod_status_schema = {
	.name = "PodStatus",
	.size = sizeof(struct raw_pod),
	.fields = pod_status_fields,
};

static const struct field pod_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_pod, meta, meta_schema, .flags = FIELD_REQUIRED),
	{ .name = "spec", .type = FIELD_OBJECT, .offset = 0, .sub = &pod_spec_schema },
	{ .name = "status", .type = FIELD_OBJECT, .offset = 0, .sub = &pod_status_schema },
	F_END,
};
static const struct schema pod_schema = { .name = "Pod", .size = sizeof(struct raw_pod), .fields = pod_fields };

static void add_ip(const struct check *c, struct str text, const char *path, struct addr *ips, uint32_t *nr)
{
	struct addr a;

	if (!addr_parse(text, &a)) {
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" is not an IP address", STR_ARG(text)), NULL, "%s", path);
		return;
	}
	for (uint32_t i = 0; i < *nr; i++)
		if (!addr_cmp(&ips[i], &a))
			return;
	ips[(*nr)++] = a;
}

static void fill_ips(const struct check *c, const struct raw_pod *raw, struct m_pod *p)
{
	p->ips = arena_array(c->d->arena, raw->status.ips.nr + 1, sizeof(*p->ips));
	if (raw->status.ip.len)
		add_ip(c, raw->status.ip, "status.podIP", p->ips, &p->ip_nr);
	for (uint32_t i = 0; i < raw->status.ips.nr; i++) {
		char path[48];

		snprintf(path, sizeof(path), "status.podIPs[%u].ip", i);
		add_ip(c, LIST_AT(raw->status.ips, struct raw_ip, i)->ip, path, p->ips, &p->ip_nr);
	}
}

static uint32_t add_ports(const struct list *containers, bool init, struct m_container_port *out)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < containers->nr; i++) {
		const struct raw_container *r = LIST_AT(*containers, struct raw_container, i);

		/* An init container that restarts is a sidecar: it runs as long as the others. */
		if (init && !str_is(r->restart_policy, "Always"))
			continue;
		for (uint32_t j = 0; j < r->ports.nr; j++, nr++) {
			const struct raw_container_port *p = LIST_AT(r->ports, struct raw_container_port, j);

			if (out)
				out[nr] = (struct m_container_port){ p->name, p->port, protocol_of(p->proto) };
		}
	}
	return nr;
}

static void check_containers(const struct check *c, const struct list *containers, const char *list)
{
	for (uint32_t i = 0; i < containers->nr; i++) {
		const struct raw_container *r = LIST_AT(*containers, struct raw_container, i);
		const char *bad = r->name.len ? dns_label_bad(r->name) : NULL;

		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->name), bad), NULL, "spec.%s[%u].name",
				   list, i);
		for (uint32_t j = 0; j < i && r->name.len; j++)
			if (str_eq(r->name, LIST_AT(*containers, struct raw_container, j)->name))
				check_fail(c, CHECK_TEXT(c, "duplicate container name \"%.*s\"", STR_ARG(r->name)),
					   NULL, "spec.%s[%u].name", list, i);
		for (uint32_t j = 0; j < r->ports.nr; j++) {
			struct str name = LIST_AT(r->ports, struct raw_container_port, j)->name;

			bad = name.len ? port_name_bad(name) : NULL;
			if (bad)
				check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(name), bad), NULL,
					   "spec.%s[%u].ports[%u].name", list, i, j);
			for (uint32_t k = 0; name.len && k < j; k++)
				if (str_eq(name, LIST_AT(r->ports, struct raw_container_port, k)->name))
					check_fail(c, CHECK_TEXT(c, "duplicate port name \"%.*s\"", STR_ARG(name)),
						   NULL, "spec.%s[%u].ports[%u].name", list, i, j);
		}
	}
}

/* Settings of a sidecar or of the ambient mesh that would take the pod, or a part of its traffic, out of the mesh. */
static void check_mesh_settings(const struct check *c, const struct raw_meta *meta)
{
	const struct str *inject = kvs_get(&meta->labels, STR("sidecar.istio.io/inject"));
	const struct str *mode = kvs_get(&meta->labels, STR("istio.io/dataplane-mode"));

	if (!inject)
		inject = kvs_get(&meta->annotations, STR("sidecar.istio.io/inject"));
	if ((inject && str_is(*inject, "false")) || (mode && str_is(*mode, "none")))
		check_warn(c, STR("opting out of the mesh is not enforced: the pod is in it if its cgroup is"), NULL,
			   "metadata");
	for (uint32_t i = 0; i < meta->annotations.nr; i++)
		if (str_starts(meta->annotations.v[i].key, STR("traffic.sidecar.istio.io/")))
			check_warn(c,
				   CHECK_TEXT(c, "%.*s is not enforced: it is for a sidecar",
					      STR_ARG(meta->annotations.v[i].key)),
				   NULL, "metadata.annotations");
}

bool decode_pod(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_pod raw = { 0 };
	struct m_pod *p = arena_new(d->arena, struct m_pod);
	uint32_t before = d->errors, nr;
	struct check c;

	schema_decode(d, &pod_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_SUBDOMAIN, doc, &c);
	doc->pod = p;
	fill_ips(&c, &raw, p);
	p->node = raw.spec.node;
	p->service_account = raw.spec.service_account.len	? raw.spec.service_account
			     : raw.spec.service_account_old.len ? raw.spec.service_account_old
								: STR("default");
	p->host_network = raw.spec.host_network;
	p->ready = !raw.status.conditions.nr;
	for (uint32_t i = 0; i < raw.status.conditions.nr; i++) {
		const struct raw_condition *r = LIST_AT(raw.status.conditions, struct raw_condition, i);

		if (str_is(r->type, "Ready"))
			p->ready = str_is(r->status, "True");
	}
	p->finished = str_is(raw.status.phase, "Succeeded") || str_is(raw.status.phase, "Failed");
	nr = add_ports(&raw.spec.containers, false, NULL);
	p->ports = arena_array(d->arena, nr + add_ports(&raw.spec.init_containers, true, NULL), sizeof(*p->ports));
	p->port_nr = add_ports(&raw.spec.containers, false, p->ports);
	p->port_nr += add_ports(&raw.spec.init_containers, true, p->ports + p->port_nr);
	check_containers(&c, &raw.spec.containers, "containers");
	check_containers(&c, &raw.spec.init_containers, "initContainers");
	check_mesh_settings(&c, &raw.meta);
	return d->errors == before;
}

/* ---- Namespace ---- */
struct raw_namespace {
	struct raw_meta meta;
};

static const struct field namespace_spec_fields[] = { F_INERT("finalizers", FIELD_STRS), F_END };
static const struct schema namespace_spec_schema = { .name = "NamespaceSpec",
						     .size = 1,
						     .fields = namespace_spec_fields };

static const struct field namespace_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_namespace, meta, meta_schema, .flags = FIELD_REQUIRED),
	{ .name = "spec", .type = FIELD_OBJECT, .offset = 0, .sub = &namespace_spec_schema },
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema namespace_schema = {
	.name = "Namespace",
	.size = sizeof(struct raw_namespace),
	.fields = namespace_fields,
};

bool decode_namespace(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_namespace raw = { 0 };
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &namespace_schema, root, &raw);
	meta_fill(d, root, &raw.meta, true, NAME_LABEL, doc, &c);
	return d->errors == before;
}

/* ---- Node ---- */
struct raw_node_address {
	struct str type, address;
};

struct raw_node {
	struct raw_meta meta;
	struct list addresses;
};

static const struct field node_spec_fields[] = {
	F_INERT("configSource", FIELD_OBJECT), F_INERT("externalID", FIELD_STR),
	F_INERT("podCIDR", FIELD_STR),	       F_INERT("podCIDRs", FIELD_STRS),
	F_INERT("providerID", FIELD_STR),      F_INERT("taints", FIELD_LIST),
	F_INERT("unschedulable", FIELD_BOOL),  F_END,
};
static const struct schema node_spec_schema = { .name = "NodeSpec", .size = 1, .fields = node_spec_fields };

static const struct field node_address_fields[] = {
	F_STR("type", struct raw_node_address, type, .flags = FIELD_REQUIRED),
	F_STR("address", struct raw_node_address, address, .flags = FIELD_REQUIRED),
	F_END,
};
static const struct schema node_address_schema = {
	.name = "NodeAddress",
	.size = sizeof(struct raw_node_address),
	.fields = node_address_fields,
};

static const struct field node_status_fields[] = {
	F_LIST("addresses", struct raw_node, addresses, node_address_schema),
	F_INERT("allocatable", FIELD_OBJECT),
	F_INERT("capacity", FIELD_OBJECT),
	F_INERT("conditions", FIELD_LIST),
	F_INERT("config", FIELD_OBJECT),
	F_INERT("daemonEndpoints", FIELD_OBJECT),
	F_INERT("declaredFeatures", FIELD_LIST),
	F_INERT("features", FIELD_OBJECT),
	F_INERT("images", FIELD_LIST),
	F_INERT("nodeInfo", FIELD_OBJECT),
	F_INERT("phase", FIELD_STR),
	F_INERT("runtimeHandlers", FIELD_LIST),
	F_INERT("volumesAttached", FIELD_LIST),
	F_INERT("volumesInUse", FIELD_STRS),
	F_END,
};
static const struct schema node_status_schema = {
	.name = "NodeStatus",
	.size = sizeof(struct raw_node),
	.fields = node_status_fields,
};

static const struct field node_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_node, meta, meta_schema, .flags = FIELD_REQUIRED),
	{ .name = "spec", .type = FIELD_OBJECT, .offset = 0, .sub = &node_spec_schema },
	{ .name = "status", .type = FIELD_OBJECT, .offset = 0, .sub = &node_status_schema },
	F_END,
};
static const struct schema node_schema = { .name = "Node", .size = sizeof(struct raw_node), .fields = node_fields };

bool decode_node(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_node raw = { 0 };
	struct m_node *n = arena_new(d->arena, struct m_node);
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &node_schema, root, &raw);
	meta_fill(d, root, &raw.meta, true, NAME_SUBDOMAIN, doc, &c);
	doc->node = n;
	n->ips = arena_array(d->arena, raw.addresses.nr, sizeof(*n->ips));
	for (uint32_t i = 0; i < raw.addresses.nr; i++) {
		const struct raw_node_address *r = LIST_AT(raw.addresses, struct raw_node_address, i);
		char path[48];

		if (!str_is(r->type, "InternalIP") && !str_is(r->type, "ExternalIP"))
			continue;
		snprintf(path, sizeof(path), "status.addresses[%u].address", i);
		add_ip(&c, r->address, path, n->ips, &n->ip_nr);
	}
	return d->errors == before;
}
