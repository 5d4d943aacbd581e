/* SPDX-License-Identifier: BSD-2-Clause */
/* v1 Service. What Kubernetes' own validation refuses is refused here (pkg/apis/core/validation, ValidateService). */
#include "config/kind_local.h"

#include "mesh_abi.h"

struct raw_port {
	struct str name, app_protocol;
	int64_t port, node_port;
	struct int_or_str target;
	uint32_t proto;
	struct place at;
};

struct raw_client_ip {
	int64_t timeout_s;
};

struct raw_affinity {
	struct raw_client_ip client_ip;
};

struct raw_service_spec {
	uint32_t type, affinity, internal_policy, external_policy, family_policy;
	struct str cluster_ip, external_name;
	struct strs cluster_ips, families, source_ranges;
	struct raw_affinity *affinity_config;
	struct kvs selector;
	struct list ports;
	bool publish_not_ready;
};

struct raw_service {
	struct raw_meta meta;
	struct raw_service_spec spec;
};

static const char *const type_names[] = { "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", NULL };
static const char *const affinity_names[] = { "None", "ClientIP", NULL };
static const char *const policy_names[] = { "Cluster", "Local", NULL };
static const char *const family_policy_names[] = { "SingleStack", "PreferDualStack", "RequireDualStack", NULL };

static const struct field port_fields[] = {
	F_STR("name", struct raw_port, name),
	F_STR("appProtocol", struct raw_port, app_protocol),
	F_INT("port", struct raw_port, port, 1, 65535, .flags = FIELD_REQUIRED),
	F_ENUM("protocol", struct raw_port, proto, protocol_names, .flags = FIELD_EMPTY_ENUM),
	F("targetPort", FIELD_INTSTR, struct raw_port, target),
	/* Only says where traffic from outside the cluster enters; type NodePort is warned about below. */
	F_INT("nodePort", struct raw_port, node_port, 0, 65535),
	F_END,
};
static const struct schema port_schema = {
	.name = "ServicePort",
	.size = sizeof(struct raw_port),
	.fields = port_fields,
	.place_offset_plus1 = offsetof(struct raw_port, at) + 1,
};

static const struct field client_ip_fields[] = {
	F_INT("timeoutSeconds", struct raw_client_ip, timeout_s, 1, 86400),
	F_END,
};
static const struct schema client_ip_schema = { .name = "ClientIPConfig",
						.size = sizeof(struct raw_client_ip),
						.fields = client_ip_fields };

static const struct field affinity_fields[] = {
	F_OBJECT("clientIP", struct raw_affinity, client_ip, client_ip_schema),
	F_END,
};
static const struct schema affinity_schema = {
	.name = "SessionAffinityConfig",
	.size = sizeof(struct raw_affinity),
	.fields = affinity_fields,
};

static const struct field spec_fields[] = {
	F_ENUM("type", struct raw_service_spec, type, type_names, .flags = FIELD_EMPTY_ENUM),
	F_STR("clusterIP", struct raw_service_spec, cluster_ip),
	F_STRS("clusterIPs", struct raw_service_spec, cluster_ips, .max = 2),
	F_LIST("ports", struct raw_service_spec, ports, port_schema, .max = ITEMS_MAX),
	F_KVS("selector", struct raw_service_spec, selector),
	F_BOOL("publishNotReadyAddresses", struct raw_service_spec, publish_not_ready),
	F_STR("externalName", struct raw_service_spec, external_name),
	F_ENUM("sessionAffinity", struct raw_service_spec, affinity, affinity_names, .flags = FIELD_EMPTY_ENUM),
	F_OBJECT_PTR("sessionAffinityConfig", struct raw_service_spec, affinity_config, affinity_schema),
	F_ENUM("internalTrafficPolicy", struct raw_service_spec, internal_policy, policy_names),
	/*
	 * Chooses among the endpoints for what enters at a node port or load balancer. A pod that dials the
	 * cluster IP never meets it.
	 */
	F_ENUM("externalTrafficPolicy", struct raw_service_spec, external_policy, policy_names,
	       .flags = FIELD_EMPTY_ENUM),
	/* What the API server should allocate; what it did allocate stands in clusterIPs. */
	F_STRS("ipFamilies", struct raw_service_spec, families, .max = 2),
	F_ENUM("ipFamilyPolicy", struct raw_service_spec, family_policy, family_policy_names),
	F_REFUSED("externalIPs", "only cluster IPs are handled"),
	F_REFUSED("trafficDistribution", "choosing endpoints by zone or node"),
	/* For the cloud's load balancer, in front of the node; a pod that dials the cluster IP never meets it. */
	F_INERT("allocateLoadBalancerNodePorts", FIELD_BOOL),
	F_INERT("healthCheckNodePort", FIELD_INT),
	F_INERT("loadBalancerClass", FIELD_STR),
	F_INERT("loadBalancerIP", FIELD_STR),
	F_STRS("loadBalancerSourceRanges", struct raw_service_spec, source_ranges, .flags = FIELD_SCRATCH),
	F_END,
};
static const struct schema spec_schema = {
	.name = "ServiceSpec",
	.size = sizeof(struct raw_service_spec),
	.fields = spec_fields,
};

static const struct field service_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_service, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_service, spec, spec_schema),
	/* loadBalancer.ingress: addresses in front of the node; conditions: for people. */
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema service_schema = {
	.name = "Service",
	.size = sizeof(struct raw_service),
	.fields = service_fields,
};

static void check_target(const struct check *c, const struct raw_port *p, uint32_t i)
{
	const char *bad;

	if (!p->target.given)
		return;
	if (p->target.name.len) {
		bad = port_name_bad(p->target.name);
		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(p->target.name), bad), NULL,
				   "spec.ports[%u].targetPort", i);
	} else if (p->target.number && !port_ok(p->target.number)) {
		check_fail(c, CHECK_TEXT(c, "port %d is not in 1..65535", p->target.number), NULL,
			   "spec.ports[%u].targetPort", i);
	}
}

/* The API server takes 0 and "" for not given. */
static struct int_or_str target_of(const struct raw_port *p)
{
	return p->target.name.len || p->target.number ? p->target : (struct int_or_str){ 0 };
}

static void check_ports(const struct check *c, const struct raw_service_spec *spec)
{
	for (uint32_t i = 0; i < spec->ports.nr; i++) {
		const struct raw_port *p = LIST_AT(spec->ports, struct raw_port, i);
		const char *bad = p->name.len ? dns_label_bad(p->name) : NULL;

		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(p->name), bad), NULL, "spec.ports[%u].name",
				   i);
		if (!p->name.len && spec->ports.nr > 1)
			check_fail(c, STR("is required when a Service has several ports"), NULL, "spec.ports[%u].name",
				   i);
		bad = p->app_protocol.len ? label_key_bad(p->app_protocol) : NULL;
		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(p->app_protocol), bad), NULL,
				   "spec.ports[%u].appProtocol", i);
		check_target(c, p, i);
		/* Type 0 is ClusterIP. */
		if (p->node_port && spec->type <= 1)
			check_fail(c, STR("may not be used when the type is ClusterIP"), NULL,
				   "spec.ports[%u].nodePort", i);
		if (protocol_of(p->proto) == PROTO_SCTP)
			check_warn(c, STR("SCTP is not handled: the mesh leaves this port alone"), NULL,
				   "spec.ports[%u].protocol", i);
		for (uint32_t j = 0; j < i; j++) {
			const struct raw_port *q = LIST_AT(spec->ports, struct raw_port, j);

			if (p->name.len && str_eq(p->name, q->name))
				check_fail(c, CHECK_TEXT(c, "duplicate port name \"%.*s\"", STR_ARG(p->name)), NULL,
					   "spec.ports[%u].name", i);
			if (p->port == q->port && protocol_of(p->proto) == protocol_of(q->proto))
				check_fail(c, CHECK_TEXT(c, "duplicate port %lld", (long long)p->port), NULL,
					   "spec.ports[%u].port", i);
		}
	}
}

static bool is_none(struct str s)
{
	return str_is(s, "None");
}

/* clusterIP and clusterIPs into `s`. */
static void fill_vips(const struct check *c, const struct raw_service_spec *spec, struct m_service *s)
{
	const struct strs *all = &spec->cluster_ips;

	s->headless = is_none(spec->cluster_ip) || (all->nr && is_none(all->v[0]));
	if (all->nr && !spec->cluster_ip.len)
		check_fail(c, STR("must be empty when clusterIP is not given"), "clusterIP is the first of clusterIPs",
			   "spec.clusterIPs");
	s->vips = arena_array(c->d->arena, all->nr + 1, sizeof(*s->vips));
	if (spec->cluster_ip.len && !is_none(spec->cluster_ip)) {
		if (addr_parse(spec->cluster_ip, &s->vips[0]))
			s->vip_nr = 1;
		else
			check_fail(
				c,
				CHECK_TEXT(c, "\"%.*s\" is neither an IP address nor None", STR_ARG(spec->cluster_ip)),
				NULL, "spec.clusterIP");
	}
	for (uint32_t i = 0; i < all->nr; i++) {
		struct addr a;

		if (is_none(all->v[i]) && all->nr == 1)
			continue;
		if (!addr_parse(all->v[i], &a)) {
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" is neither an IP address nor None", STR_ARG(all->v[i])),
				   NULL, "spec.clusterIPs[%u]", i);
			continue;
		}
		if (!i && spec->cluster_ip.len) {
			if (!str_eq(spec->cluster_ip, all->v[0]))
				check_fail(c, STR("the first of clusterIPs must equal clusterIP"), NULL,
					   "spec.clusterIPs[0]");
			continue;
		}
		if (s->vip_nr && addr_is_v4(&s->vips[0]) == addr_is_v4(&a))
			check_fail(c, STR("two addresses must be one IPv4 and one IPv6"), NULL, "spec.clusterIPs[%u]",
				   i);
		s->vips[s->vip_nr++] = a;
	}
}

static void check_type(const struct check *c, const struct raw_service_spec *spec, const struct m_service *s)
{
	const char *bad;

	if (s->type == SERVICE_TYPE_NONE || s->type == SERVICE_CLUSTER_IP)
		return;
	if (s->type == SERVICE_EXTERNAL_NAME) {
		struct str host = spec->external_name;

		if (host.len > 1 && host.p[host.len - 1] == '.')
			host.len--;
		bad = dns_subdomain_bad(host);
		if (bad)
			check_fail(c,
				   host.len ? CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(host), bad)
					    : STR("is required when the type is ExternalName"),
				   NULL, "spec.externalName");
		if (s->vip_nr || s->headless)
			check_fail(c, STR("may not be set when the type is ExternalName"), NULL,
				   spec->cluster_ip.len ? "spec.clusterIP" : "spec.clusterIPs");
		return;
	}
	if (s->headless)
		check_fail(c, CHECK_TEXT(c, "may not be None when the type is %s", type_names[spec->type - 1]), NULL,
			   "spec.clusterIP");
	check_warn(c, STR("only what pods of this node send to the cluster IP is handled"),
		   "node ports and load balancers stay with kube-proxy and the cloud", "spec.type");
}

/* Fields that only some types have. */
static void check_outside(const struct check *c, const struct raw_service_spec *spec)
{
	static const char *const balancer[] = { "allocateLoadBalancerNodePorts", "loadBalancerClass",
						"loadBalancerSourceRanges", "healthCheckNodePort" };
	bool inside = spec->type <= 1 || spec->type == 4, load_balancer = spec->type == 3;
	struct cidr cidr;

	if (spec->external_policy && inside)
		check_fail(c, STR("may only be set when the type is NodePort or LoadBalancer"), NULL,
			   "spec.externalTrafficPolicy");
	for (size_t i = 0; i < sizeof(balancer) / sizeof(*balancer) && !load_balancer; i++)
		if (check_has(c, "spec.%s", balancer[i]))
			check_fail(c, STR("may only be set when the type is LoadBalancer"), NULL, "spec.%s",
				   balancer[i]);
	for (uint32_t i = 0; i < spec->source_ranges.nr; i++)
		check_cidr(c, spec->source_ranges.v[i], &cidr, "spec.loadBalancerSourceRanges[%u]", i);
}

/* The families that were asked for are those of the addresses that were given. */
static void check_families(const struct check *c, const struct raw_service_spec *spec, const struct m_service *s)
{
	for (uint32_t i = 0; i < spec->families.nr; i++) {
		struct str family = spec->families.v[i];

		if (!str_is(family, "IPv4") && !str_is(family, "IPv6"))
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" is neither IPv4 nor IPv6", STR_ARG(family)), NULL,
				   "spec.ipFamilies[%u]", i);
		else if (i && str_eq(family, spec->families.v[0]))
			check_fail(c, STR("duplicate value"), NULL, "spec.ipFamilies[%u]", i);
		else if (i < s->vip_nr && addr_is_v4(&s->vips[i]) != str_is(family, "IPv4"))
			check_fail(c, CHECK_TEXT(c, "%.*s, but that address is of the other family", STR_ARG(family)),
				   NULL, "spec.ipFamilies[%u]", i);
	}
}

static void check_policies(const struct check *c, const struct raw_service_spec *spec)
{
	if (spec->affinity == 2)
		check_fail(c, STR("session affinity is not enforced yet"), NULL, "spec.sessionAffinity");
	else if (spec->affinity_config)
		check_fail(c, STR("must not be set when the session affinity is None"), NULL,
			   "spec.sessionAffinityConfig");
	if (spec->internal_policy == 2)
		check_fail(c, STR("choosing endpoints of this node only is not enforced yet"), NULL,
			   "spec.internalTrafficPolicy");
}

static void check_annotations(const struct check *c, const struct kvs *annotations)
{
	const struct str *mode = kvs_get(annotations, STR("service.kubernetes.io/topology-mode"));

	if (kvs_get(annotations, STR("networking.istio.io/traffic-distribution")))
		check_fail_key(c, STR("choosing endpoints by zone or node is not enforced yet"), NULL,
			       STR("networking.istio.io/traffic-distribution"), "metadata.annotations");
	if (mode && !str_is(*mode, "Disabled") && !str_is(*mode, "disabled"))
		check_warn(c, STR("topology-aware routing is not enforced: all endpoints are used"), NULL,
			   "metadata.annotations");
}

/* networking.istio.io/exportTo: a list with commas. */
static void fill_export_to(const struct check *c, const struct str *text, struct strs *ret)
{
	uint32_t nr = 1, at = 0;

	for (uint32_t i = 0; i < text->len; i++)
		nr += text->p[i] == ',';
	ret->v = arena_array(c->d->arena, nr, sizeof(*ret->v));
	ret->at = arena_array(c->d->arena, nr, sizeof(*ret->at));
	while (at <= text->len) {
		uint32_t end = at;

		while (end < text->len && text->p[end] != ',')
			end++;
		struct str part = str_sub(*text, at, end - at);

		while (part.len && part.p[0] == ' ')
			part = str_sub(part, 1, part.len);
		while (part.len && part.p[part.len - 1] == ' ')
			part.len--;
		if (part.len)
			ret->v[ret->nr++] = part;
		at = end + 1;
	}
}

bool decode_service(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_service raw = { 0 };
	struct m_service *s = arena_new(d->arena, struct m_service);
	const struct str *export_to;
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &service_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_LABEL, doc, &c);
	doc->service = s;
	s->type = (enum service_type)raw.spec.type;
	s->has_selector = raw.spec.selector.nr != 0;
	s->publish_not_ready = raw.spec.publish_not_ready;
	s->external_name = raw.spec.external_name;
	s->selector = raw.spec.selector;
	s->ports = arena_array(d->arena, raw.spec.ports.nr, sizeof(*s->ports));
	s->port_nr = raw.spec.ports.nr;
	for (uint32_t i = 0; i < s->port_nr; i++) {
		const struct raw_port *p = LIST_AT(raw.spec.ports, struct raw_port, i);

		s->ports[i] = (struct m_port){ .name = p->name,
					       .port = p->port,
					       .target = target_of(p),
					       .proto = protocol_of(p->proto),
					       .app_protocol = p->app_protocol,
					       .at = p->at };
	}
	fill_vips(&c, &raw.spec, s);
	check_ports(&c, &raw.spec);
	check_type(&c, &raw.spec, s);
	check_policies(&c, &raw.spec);
	check_outside(&c, &raw.spec);
	check_families(&c, &raw.spec, s);
	check_annotations(&c, &raw.meta.annotations);
	check_labels(&c, &raw.spec.selector, "spec.selector");
	if (!s->port_nr && !s->headless && s->type != SERVICE_EXTERNAL_NAME)
		check_fail(&c, STR("at least one port is required"), NULL, "spec.ports");
	export_to = kvs_get(&raw.meta.annotations, STR("networking.istio.io/exportTo"));
	if (export_to)
		fill_export_to(&c, export_to, &s->export_to);
	return d->errors == before;
}
