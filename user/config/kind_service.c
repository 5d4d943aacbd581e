/* SPDX-License-Identifier: BSD-2-Clause */
/* v1 Service. What Kubernetes' own validation refuses is refused here (pkg/apis/core/validation, ValidateService). */
#include <stdio.h>
#include <strings.h>

#include "config/kind_local.h"

#include "mesh_abi.h"

#define KUBELET_PORT 10250

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
	uint32_t type, affinity, internal_policy, external_policy, family_policy, distribution;
	struct str cluster_ip, external_name, balancer_class;
	struct strs cluster_ips, families, external_ips, source_ranges;
	struct raw_affinity *affinity_config;
	struct kvs selector;
	struct list ports;
	int64_t health_port;
	bool publish_not_ready, allocate;
	struct place allocate_at, class_at;
};

struct raw_ingress {
	struct str ip, hostname;
	uint32_t mode;
};

struct raw_balancer {
	struct list ingress;
};

struct raw_service_status {
	struct raw_balancer balancer;
};

struct raw_service {
	struct raw_meta meta;
	struct raw_service_spec spec;
	struct raw_service_status status;
};

enum { TYPE_CLUSTER_IP = 1, TYPE_NODE_PORT, TYPE_LOAD_BALANCER, TYPE_EXTERNAL_NAME };
enum { POLICY_CLUSTER = 1, POLICY_LOCAL };
enum { AFFINITY_NONE = 1, AFFINITY_CLIENT_IP };
enum { MODE_VIP = 1, MODE_PROXY };

static const char *const type_names[] = { "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", NULL };
static const char *const affinity_names[] = { "None", "ClientIP", NULL };
static const char *const policy_names[] = { "Cluster", "Local", NULL };
static const char *const mode_names[] = { "VIP", "Proxy", NULL };
static const char *const distribution_names[] = { "PreferClose", "PreferSameZone", "PreferSameNode", NULL };
static const char *const family_policy_names[] = { "SingleStack", "PreferDualStack", "RequireDualStack", NULL };

static const struct field port_fields[] = {
	F_STR("name", struct raw_port, name),
	F_STR("appProtocol", struct raw_port, app_protocol),
	F_INT("port", struct raw_port, port, 1, 65535, .flags = FIELD_REQUIRED),
	F_ENUM("protocol", struct raw_port, proto, protocol_names, .flags = FIELD_EMPTY_ENUM),
	F("targetPort", FIELD_INTSTR, struct raw_port, target),
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
	F_ENUM("externalTrafficPolicy", struct raw_service_spec, external_policy, policy_names,
	       .flags = FIELD_EMPTY_ENUM),
	/* What the API server should allocate; what it did allocate stands in clusterIPs. */
	F_STRS("ipFamilies", struct raw_service_spec, families, .max = 2),
	F_ENUM("ipFamilyPolicy", struct raw_service_spec, family_policy, family_policy_names),
	F_STRS("externalIPs", struct raw_service_spec, external_ips, .max = ITEMS_MAX),
	F_ENUM("trafficDistribution", struct raw_service_spec, distribution, distribution_names),
	F_INT("healthCheckNodePort", struct raw_service_spec, health_port, 0, 65535),
	F_STRS("loadBalancerSourceRanges", struct raw_service_spec, source_ranges, .max = ITEMS_MAX),
	/* What the API server and the cloud's controller should do; what they did stands in nodePort and in the status. */
	F_BOOL("allocateLoadBalancerNodePorts", struct raw_service_spec, allocate,
	       .place_offset = offsetof(struct raw_service_spec, allocate_at)),
	F_STR("loadBalancerClass", struct raw_service_spec, balancer_class,
	      .place_offset = offsetof(struct raw_service_spec, class_at)),
	F_INERT("loadBalancerIP", FIELD_STR),
	F_END,
};
static const struct schema spec_schema = {
	.name = "ServiceSpec",
	.size = sizeof(struct raw_service_spec),
	.fields = spec_fields,
};

static const struct field ingress_fields[] = {
	F_STR("ip", struct raw_ingress, ip),
	/* Of a load balancer that clients find by its name: in front of the nodes, where it dials node ports. */
	F_STR("hostname", struct raw_ingress, hostname),
	F_ENUM("ipMode", struct raw_ingress, mode, mode_names),
	/* Of the load balancer's own health. */
	F_INERT("ports", FIELD_LIST),
	F_END,
};
static const struct schema ingress_schema = {
	.name = "LoadBalancerIngress",
	.size = sizeof(struct raw_ingress),
	.fields = ingress_fields,
};

static const struct field balancer_fields[] = {
	F_LIST("ingress", struct raw_balancer, ingress, ingress_schema, .max = ITEMS_MAX),
	F_END,
};
static const struct schema balancer_schema = {
	.name = "LoadBalancerStatus",
	.size = sizeof(struct raw_balancer),
	.fields = balancer_fields,
};

static const struct field status_fields[] = {
	F_OBJECT("loadBalancer", struct raw_service_status, balancer, balancer_schema),
	/* For people. */
	F_INERT("conditions", FIELD_LIST),
	F_END,
};
static const struct schema status_schema = {
	.name = "ServiceStatus",
	.size = sizeof(struct raw_service_status),
	.fields = status_fields,
};

static const struct field service_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_service, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_service, spec, spec_schema),
	F_OBJECT("status", struct raw_service, status, status_schema),
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
		if (p->node_port && spec->type <= TYPE_CLUSTER_IP)
			check_fail(c, STR("may not be used when the type is ClusterIP"), NULL,
				   "spec.ports[%u].nodePort", i);
		if (spec->type == TYPE_LOAD_BALANCER && p->port == KUBELET_PORT)
			check_fail(c, STR("may not be 10250, which is the kubelet's"), NULL, "spec.ports[%u].port", i);
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
			if (p->node_port && p->node_port == q->node_port &&
			    protocol_of(p->proto) == protocol_of(q->proto))
				check_fail(c, CHECK_TEXT(c, "duplicate node port %lld", (long long)p->node_port), NULL,
					   "spec.ports[%u].nodePort", i);
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
}

/* ---- addresses and ports for clients outside of the cluster ---- */

/* One more address of the outside. A family that the Service does not have is left out, as kube-proxy does. */
static void add_external(const struct check *c, struct str text, struct m_service *s, const char *path_fmt, uint32_t i)
{
	const char *bad;
	struct addr a;
	char path[64];

	bad = addr_parse(text, &a) ? special_addr_bad(&a) : "is not an IP address";
	snprintf(path, sizeof(path), path_fmt, i);
	if (bad) {
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(text), bad), NULL, "%s", path);
		return;
	}
	if (!(addr_is_v4(&a) ? s->v4 : s->v6)) {
		check_warn(c,
			   CHECK_TEXT(c, "the Service has no %s, so that this address means nothing",
				      addr_is_v4(&a) ? "IPv4" : "IPv6"),
			   NULL, "%s", path);
		return;
	}
	for (uint32_t k = 0; k < s->external_nr; k++)
		if (!addr_cmp(&s->externals[k], &a))
			return;
	s->externals[s->external_nr++] = a;
}

static void fill_families(const struct raw_service_spec *spec, struct m_service *s)
{
	for (uint32_t i = 0; i < s->vip_nr; i++) {
		s->v4 |= addr_is_v4(&s->vips[i]);
		s->v6 |= !addr_is_v4(&s->vips[i]);
	}
	for (uint32_t i = 0; i < spec->families.nr && !s->vip_nr; i++) {
		s->v4 |= str_is(spec->families.v[i], "IPv4");
		s->v6 |= str_is(spec->families.v[i], "IPv6");
	}
	if (!s->v4 && !s->v6)
		s->v4 = s->v6 = true;
}

static void check_ingress(const struct check *c, const struct raw_ingress *in, uint32_t i)
{
	const char *bad = in->hostname.len ? dns_subdomain_bad(in->hostname) : NULL;

	if (in->mode && !in->ip.len)
		check_fail(c, STR("may not be specified when ip is not set"), NULL,
			   "status.loadBalancer.ingress[%u].ipMode", i);
	if (in->hostname.len && text_is_ip(in->hostname))
		bad = "must be a DNS name, not an IP address";
	if (bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(in->hostname), bad), NULL,
			   "status.loadBalancer.ingress[%u].hostname", i);
}

/* A range that is not enforced would let everybody in. */
static void check_source_ranges(const struct check *c, const struct raw_service_spec *spec, bool balanced)
{
	const struct strs *ranges = &spec->source_ranges;

	if (ranges->nr && spec->type != TYPE_LOAD_BALANCER)
		check_fail(c, STR("may only be used when the type is LoadBalancer"), NULL,
			   "spec.loadBalancerSourceRanges");
	for (uint32_t i = 0; i < ranges->nr; i++) {
		struct str text = ranges->v[i];
		struct cidr net;

		while (text.len && text.p[0] == ' ')
			text = str_sub(text, 1, text.len);
		while (text.len && text.p[text.len - 1] == ' ')
			text.len--;
		if (str_find(text, '/') < 0 || !addr_parse_cidr(text, true, &net.addr, &net.prefix_len))
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" is not a CIDR block", STR_ARG(text)), NULL,
				   "spec.loadBalancerSourceRanges[%u]", i);
		else if (balanced && net.prefix_len > (addr_is_v4(&net.addr) ? 96 : 0))
			check_fail(c, STR("who may reach the load balancer's addresses is not enforced yet"),
				   "an AuthorizationPolicy with ipBlocks says who may reach the pods",
				   "spec.loadBalancerSourceRanges[%u]", i);
	}
}

/* Fields that only have a place beside others. */
static void check_outer_policies(const struct check *c, const struct raw_service_spec *spec)
{
	bool local = spec->external_policy == POLICY_LOCAL, balancer = spec->type == TYPE_LOAD_BALANCER;
	bool outer =
		spec->type == TYPE_NODE_PORT || balancer || (spec->type <= TYPE_CLUSTER_IP && spec->external_ips.nr);

	if (spec->external_policy && !outer)
		check_fail(c, STR("may only be set for a Service with node ports, a load balancer or externalIPs"),
			   NULL, "spec.externalTrafficPolicy");
	if (spec->allocate_at.line && !balancer)
		check_fail(c, STR("may only be used when the type is LoadBalancer"), NULL,
			   "spec.allocateLoadBalancerNodePorts");
	if (spec->class_at.line && !balancer)
		check_fail(c, STR("may only be used when the type is LoadBalancer"), NULL, "spec.loadBalancerClass");
	else if (spec->class_at.line && label_key_bad(spec->balancer_class))
		check_fail(c,
			   CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(spec->balancer_class),
				      label_key_bad(spec->balancer_class)),
			   NULL, "spec.loadBalancerClass");
	if (spec->health_port && !(balancer && local))
		check_fail(c, STR("may only be set when the type is LoadBalancer and externalTrafficPolicy is Local"),
			   NULL, "spec.healthCheckNodePort");
	else if (spec->health_port)
		check_warn(c, STR("the load balancer's health checks are not answered here"), "kube-proxy answers them",
			   "spec.healthCheckNodePort");
}

static void fill_externals(const struct check *c, const struct raw_service *raw, struct m_service *s)
{
	const struct raw_service_spec *spec = &raw->spec;
	const struct list *ingress = &raw->status.balancer.ingress;
	uint32_t own;

	fill_families(spec, s);
	s->internal_local = spec->internal_policy == POLICY_LOCAL;
	s->external_local = spec->external_policy == POLICY_LOCAL;
	s->externals = arena_array(c->d->arena, spec->external_ips.nr + ingress->nr, sizeof(*s->externals));
	for (uint32_t i = 0; i < spec->external_ips.nr; i++)
		add_external(c, spec->external_ips.v[i], s, "spec.externalIPs[%u]", i);
	own = s->external_nr;
	if (ingress->nr && spec->type != TYPE_LOAD_BALANCER)
		check_fail(c, STR("may only be used when the type is LoadBalancer"), NULL,
			   "status.loadBalancer.ingress");
	for (uint32_t i = 0; i < ingress->nr; i++) {
		const struct raw_ingress *in = LIST_AT(*ingress, struct raw_ingress, i);

		check_ingress(c, in, i);
		/* Proxy: clients are to meet the load balancer itself, which then dials node ports. */
		if (in->ip.len && in->mode != MODE_PROXY)
			add_external(c, in->ip, s, "status.loadBalancer.ingress[%u].ip", i);
	}
	check_source_ranges(c, spec, s->external_nr > own);
	check_outer_policies(c, spec);
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

/* 10800 is Kubernetes' default. */
static void fill_affinity(const struct check *c, const struct raw_service_spec *spec, struct m_service *s)
{
	int64_t given = spec->affinity_config ? spec->affinity_config->client_ip.timeout_s : 0;

	if (spec->affinity == AFFINITY_CLIENT_IP)
		s->affinity_s = given ? (uint32_t)given : 10800;
	else if (spec->affinity_config)
		check_fail(c, STR("must not be set when the session affinity is None"), NULL,
			   "spec.sessionAffinityConfig");
}

/* PreferClose is the old name of PreferSameZone. */
static enum distribution distribution_at(uint32_t choice)
{
	return !choice ? DISTRIBUTION_ANY : choice < 3 ? DISTRIBUTION_SAME_ZONE : DISTRIBUTION_SAME_NODE;
}

enum distribution distribution_of(const struct check *c, const struct kvs *annotations)
{
	const struct str *text = kvs_get(annotations, STR("networking.istio.io/traffic-distribution"));

	if (!text)
		return DISTRIBUTION_ANY;
	for (uint32_t i = 0; distribution_names[i]; i++)
		if (text->len == strlen(distribution_names[i]) &&
		    !strncasecmp(text->p, distribution_names[i], text->len))
			return distribution_at(i + 1);
	check_warn(c,
		   STR("networking.istio.io/traffic-distribution is none of PreferSameZone, PreferSameNode and "
		       "PreferClose: endpoints are chosen wherever they are"),
		   NULL, "metadata.annotations");
	return DISTRIBUTION_ANY;
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
					       .node_port = (uint16_t)p->node_port,
					       .at = p->at };
	}
	fill_vips(&c, &raw.spec, s);
	check_ports(&c, &raw.spec);
	check_type(&c, &raw.spec, s);
	fill_externals(&c, &raw, s);
	fill_affinity(&c, &raw.spec, s);
	check_families(&c, &raw.spec, s);
	if (kvs_get(&raw.meta.annotations, STR(ACCELERATE_KEY)) && !raw.spec.selector.nr)
		check_fail_key(&c, STR("a Service without a selector says nothing of pods"), NULL, STR(ACCELERATE_KEY),
			       "metadata.annotations");
	s->distribution = raw.spec.distribution ? distribution_at(raw.spec.distribution)
						: distribution_of(&c, &raw.meta.annotations);
	check_labels(&c, &raw.spec.selector, "spec.selector");
	if (!s->port_nr && !s->headless && s->type != SERVICE_EXTERNAL_NAME)
		check_fail(&c, STR("at least one port is required"), NULL, "spec.ports");
	export_to = kvs_get(&raw.meta.annotations, STR("networking.istio.io/exportTo"));
	if (export_to)
		fill_export_to(&c, export_to, &s->export_to);
	return d->errors == before;
}
