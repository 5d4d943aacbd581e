/* SPDX-License-Identifier: BSD-2-Clause */
/* discovery.k8s.io/v1 EndpointSlice and v1 Endpoints, which become the same struct. */
#include <stdio.h>

#include "config/kind_local.h"

/* ---- EndpointSlice ---- */
struct raw_target {
	struct str kind, name, ns;
};

struct raw_conditions {
	bool ready, serving, terminating;
	struct place ready_at, serving_at;
};

struct raw_hint {
	struct str name;
};

struct raw_hints {
	struct list zones, nodes;
};

struct raw_endpoint {
	struct strs addresses;
	struct raw_conditions conditions;
	struct str node, zone;
	struct raw_target target;
	struct raw_hints hints;
	struct place at;
};

struct raw_slice_port {
	struct str name, app_protocol;
	int64_t port;
	uint32_t proto;
};

struct raw_slice {
	struct raw_meta meta;
	uint32_t address_type;
	struct list endpoints, ports;
};

static const char *const address_types[] = { "IPv4", "IPv6", "FQDN", NULL };

static const struct field target_fields[] = {
	F_STR("kind", struct raw_target, kind),
	F_STR("name", struct raw_target, name),
	F_STR("namespace", struct raw_target, ns),
	F_INERT("apiVersion", FIELD_STR),
	F_INERT("uid", FIELD_STR),
	F_INERT("resourceVersion", FIELD_STR),
	F_INERT("fieldPath", FIELD_STR),
	F_END,
};
static const struct schema target_schema = {
	.name = "ObjectReference",
	.size = sizeof(struct raw_target),
	.fields = target_fields,
};

static const struct field conditions_fields[] = {
	F_BOOL("ready", struct raw_conditions, ready, .place_offset = offsetof(struct raw_conditions, ready_at)),
	F_BOOL("terminating", struct raw_conditions, terminating),
	F_BOOL("serving", struct raw_conditions, serving, .place_offset = offsetof(struct raw_conditions, serving_at)),
	F_END,
};
static const struct schema conditions_schema = {
	.name = "EndpointConditions",
	.size = sizeof(struct raw_conditions),
	.fields = conditions_fields,
};

static const struct field hint_fields[] = {
	F_STR("name", struct raw_hint, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_END,
};
static const struct schema hint_schema = { .name = "Hint", .size = sizeof(struct raw_hint), .fields = hint_fields };

static const struct field hints_fields[] = {
	F_LIST("forZones", struct raw_hints, zones, hint_schema, .max = 8),
	F_LIST("forNodes", struct raw_hints, nodes, hint_schema, .max = 8),
	F_END,
};
static const struct schema hints_schema = { .name = "EndpointHints",
					    .size = sizeof(struct raw_hints),
					    .fields = hints_fields };

static const struct field endpoint_fields[] = {
	F_STRS("addresses", struct raw_endpoint, addresses, .flags = FIELD_REQUIRED | FIELD_NONEMPTY | FIELD_SCRATCH,
	       .max = 100),
	F_OBJECT("conditions", struct raw_endpoint, conditions, conditions_schema),
	F_STR("nodeName", struct raw_endpoint, node),
	F_STR("zone", struct raw_endpoint, zone),
	F_OBJECT("targetRef", struct raw_endpoint, target, target_schema),
	F_OBJECT("hints", struct raw_endpoint, hints, hints_schema),
	/* For DNS only. */
	F_INERT("hostname", FIELD_STR),
	/* What was known of the node in v1beta1; zone and nodeName took its place. */
	F_INERT("deprecatedTopology", FIELD_OBJECT),
	F_END,
};
static const struct schema endpoint_schema = {
	.name = "Endpoint",
	.size = sizeof(struct raw_endpoint),
	.fields = endpoint_fields,
	.place_offset_plus1 = offsetof(struct raw_endpoint, at) + 1,
};

static const struct field slice_port_fields[] = {
	F_STR("name", struct raw_slice_port, name),
	F_STR("appProtocol", struct raw_slice_port, app_protocol),
	F_INT("port", struct raw_slice_port, port, 1, 65535),
	F_ENUM("protocol", struct raw_slice_port, proto, protocol_names, .flags = FIELD_EMPTY_ENUM),
	F_END,
};
static const struct schema slice_port_schema = {
	.name = "EndpointPort",
	.size = sizeof(struct raw_slice_port),
	.fields = slice_port_fields,
};

static const struct field slice_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_slice, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_ENUM("addressType", struct raw_slice, address_type, address_types, .flags = FIELD_REQUIRED),
	F_LIST("endpoints", struct raw_slice, endpoints, endpoint_schema, .max = 1000),
	F_LIST("ports", struct raw_slice, ports, slice_port_schema, .max = 20000),
	F_END,
};
static const struct schema slice_schema = {
	.name = "EndpointSlice",
	.size = sizeof(struct raw_slice),
	.fields = slice_fields,
};

/* Copies ports; base is the path of the list. */
static void fill_ports(const struct check *c, const struct list *raw, struct m_slice *s, bool required,
		       const char *base)
{
	s->ports = arena_array(c->d->arena, raw->nr, sizeof(*s->ports));
	s->port_nr = raw->nr;
	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_slice_port *p = LIST_AT(*raw, struct raw_slice_port, i);
		const char *bad = p->name.len ? dns_label_bad(p->name) : NULL;

		s->ports[i] = (struct m_slice_port){ .name = p->name,
						     .port = p->port,
						     .proto = protocol_of(p->proto),
						     .app_protocol = p->app_protocol };
		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(p->name), bad), NULL, "%s[%u].name", base,
				   i);
		if (required && !p->port)
			check_fail(c, STR("is required"), NULL, "%s[%u].port", base, i);
		for (uint32_t j = 0; j < i; j++) {
			if (!str_eq(p->name, s->ports[j].name))
				continue;
			check_fail(c,
				   p->name.len ? CHECK_TEXT(c, "duplicate port name \"%.*s\"", STR_ARG(p->name))
					       : STR("is required when there are several ports"),
				   NULL, "%s[%u].name", base, i);
			break;
		}
	}
}

/* An endpoint's address as Kubernetes allows it. */
static bool endpoint_addr(const struct check *c, struct str text, struct addr *ret, const char *path_fmt,
			  const char *base, uint32_t i, uint32_t j)
{
	const char *bad = addr_parse(text, ret) ? special_addr_bad(ret) : "is not an IP address";
	char path[128];

	if (!bad)
		return true;
	snprintf(path, sizeof(path), path_fmt, base, i, j);
	check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(text), bad), NULL, "%s", path);
	return false;
}

/* The names of a list of hints. */
static struct strs hints_of(const struct check *c, const struct list *raw)
{
	struct strs names = { .v = arena_array(c->d->arena, raw->nr, sizeof(struct str)), .nr = raw->nr };

	for (uint32_t i = 0; i < raw->nr; i++)
		names.v[i] = LIST_AT(*raw, struct raw_hint, i)->name;
	return names;
}

static void fill_endpoint(const struct check *c, const struct raw_slice *raw, uint32_t i, struct m_slice_endpoint *e)
{
	const struct raw_endpoint *r = LIST_AT(raw->endpoints, struct raw_endpoint, i);
	bool fqdn = raw->address_type == 3, v4 = raw->address_type == 1;

	*e = (struct m_slice_endpoint){
		.ready = r->conditions.ready_at.line ? r->conditions.ready : true,
		.serving = r->conditions.serving_at.line ? r->conditions.serving : true,
		.terminating = r->conditions.terminating,
		.for_zones = hints_of(c, &r->hints.zones),
		.for_nodes = hints_of(c, &r->hints.nodes),
		.node = r->node,
		.zone = r->zone,
		.at = r->at,
	};
	if (str_is(r->target.kind, "Pod")) {
		e->pod = r->target.name;
		e->pod_ns = r->target.ns.len ? r->target.ns : c->ns;
	}
	e->addrs = arena_array(c->d->arena, r->addresses.nr, sizeof(*e->addrs));
	for (uint32_t j = 0; j < r->addresses.nr; j++) {
		struct addr a;
		const char *bad = fqdn ? dns_subdomain_bad(r->addresses.v[j]) : NULL;

		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->addresses.v[j]), bad), NULL,
				   "endpoints[%u].addresses[%u]", i, j);
		if (fqdn || !endpoint_addr(c, r->addresses.v[j], &a, "%s[%u].addresses[%u]", "endpoints", i, j))
			continue;
		if (raw->address_type && addr_is_v4(&a) != v4) {
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" is not of the addressType", STR_ARG(r->addresses.v[j])),
				   NULL, "endpoints[%u].addresses[%u]", i, j);
			continue;
		}
		e->addrs[e->addr_nr++] = a;
	}
}

bool decode_slice(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_slice raw = { 0 };
	struct m_slice *s = arena_new(d->arena, struct m_slice);
	const struct str *service;
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &slice_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_SUBDOMAIN, doc, &c);
	doc->slices = s;
	doc->slice_nr = 1;
	service = kvs_get(&raw.meta.labels, STR("kubernetes.io/service-name"));
	if (service)
		s->service = *service;
	else
		check_warn(&c, STR("without the label kubernetes.io/service-name this slice belongs to no Service"),
			   NULL, "metadata");
	s->fqdn = raw.address_type == 3;
	if (s->fqdn)
		check_warn(&c, STR("endpoints by name are not resolved: this slice adds no endpoint"), NULL,
			   "addressType");
	fill_ports(&c, &raw.ports, s, false, "ports");
	s->endpoints = arena_array(d->arena, raw.endpoints.nr, sizeof(*s->endpoints));
	s->endpoint_nr = raw.endpoints.nr;
	for (uint32_t i = 0; i < s->endpoint_nr; i++)
		fill_endpoint(&c, &raw, i, &s->endpoints[i]);
	return d->errors == before;
}

/* ---- Endpoints ---- */
struct raw_address {
	struct str ip, node;
	struct raw_target target;
	struct place at;
};

struct raw_subset {
	struct list addresses, not_ready, ports;
};

struct raw_endpoints {
	struct raw_meta meta;
	struct list subsets;
};

static const struct field address_fields[] = {
	F_STR("ip", struct raw_address, ip, .flags = FIELD_REQUIRED),
	F_STR("nodeName", struct raw_address, node),
	F_OBJECT("targetRef", struct raw_address, target, target_schema),
	F_INERT("hostname", FIELD_STR),
	F_END,
};
static const struct schema address_schema = {
	.name = "EndpointAddress",
	.size = sizeof(struct raw_address),
	.fields = address_fields,
	.place_offset_plus1 = offsetof(struct raw_address, at) + 1,
};

static const struct field subset_fields[] = {
	F_LIST("addresses", struct raw_subset, addresses, address_schema),
	F_LIST("notReadyAddresses", struct raw_subset, not_ready, address_schema),
	F_LIST("ports", struct raw_subset, ports, slice_port_schema, .max = ITEMS_MAX),
	F_END,
};
static const struct schema subset_schema = {
	.name = "EndpointSubset",
	.size = sizeof(struct raw_subset),
	.fields = subset_fields,
};

static const struct field endpoints_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_endpoints, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_LIST("subsets", struct raw_endpoints, subsets, subset_schema),
	F_END,
};
static const struct schema endpoints_schema = {
	.name = "Endpoints",
	.size = sizeof(struct raw_endpoints),
	.fields = endpoints_fields,
};

static void fill_addresses(const struct check *c, const struct list *raw, bool ready, uint32_t subset,
			   struct m_slice *s)
{
	const char *base = ready ? "addresses" : "notReadyAddresses";

	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_address *r = LIST_AT(*raw, struct raw_address, i);
		struct m_slice_endpoint *e = &s->endpoints[s->endpoint_nr++];
		char path[64];

		*e = (struct m_slice_endpoint){ .ready = ready, .node = r->node, .at = r->at };
		if (str_is(r->target.kind, "Pod")) {
			e->pod = r->target.name;
			e->pod_ns = r->target.ns.len ? r->target.ns : c->ns;
		}
		e->addrs = arena_new(c->d->arena, struct addr);
		snprintf(path, sizeof(path), "subsets[%u].%s", subset, base);
		if (endpoint_addr(c, r->ip, e->addrs, "%s[%u].ip", path, i, 0))
			e->addr_nr = 1;
	}
}

bool decode_endpoints(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_endpoints raw = { 0 };
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &endpoints_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_SUBDOMAIN, doc, &c);
	doc->slices = arena_array(d->arena, raw.subsets.nr, sizeof(*doc->slices));
	doc->slice_nr = raw.subsets.nr;
	for (uint32_t i = 0; i < raw.subsets.nr; i++) {
		const struct raw_subset *r = LIST_AT(raw.subsets, struct raw_subset, i);
		struct m_slice *s = &doc->slices[i];
		char base[64];

		s->service = doc->meta.name;
		s->from_endpoints = true;
		if (!r->addresses.nr && !r->not_ready.nr)
			check_fail(&c, STR("must have addresses or notReadyAddresses"), NULL, "subsets[%u]", i);
		s->endpoints = arena_array(d->arena, (size_t)r->addresses.nr + r->not_ready.nr, sizeof(*s->endpoints));
		fill_addresses(&c, &r->addresses, true, i, s);
		fill_addresses(&c, &r->not_ready, false, i, s);
		snprintf(base, sizeof(base), "subsets[%u].ports", i);
		fill_ports(&c, &r->ports, s, true, base);
	}
	return d->errors == before;
}
