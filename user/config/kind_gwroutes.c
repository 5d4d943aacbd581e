/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Gateway API routes whose parent is a Service (GAMMA): TCPRoute, UDPRoute, and of HTTPRoute what needs no bytes of a request;
 * and those whose parent is a Gateway. The rules of the CRDs (patterns, counts, CEL) that concern fields which are enforced are
 * checked here.
 */
#include <stdio.h>

#include "config/kind_gwroutes.h"

struct raw_parent {
	struct str group, kind, name, ns, section;
	int64_t port;
	struct place at, group_at, section_at;
};

struct raw_route_spec {
	struct list parents, rules;
	struct strs hostnames;
	uint32_t default_gateways;
};

struct raw_route {
	struct raw_meta meta;
	struct raw_route_spec spec;
};

static const char *const default_gateway_names[] = { "All", "None", NULL };

static const struct field parent_fields[] = {
	F_STR("group", struct raw_parent, group, .place_offset = offsetof(struct raw_parent, group_at)),
	F_STR("kind", struct raw_parent, kind, .flags = FIELD_NONEMPTY),
	F_STR("name", struct raw_parent, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_STR("namespace", struct raw_parent, ns, .flags = FIELD_NONEMPTY),
	F_STR("sectionName", struct raw_parent, section, .flags = FIELD_NONEMPTY,
	      .place_offset = offsetof(struct raw_parent, section_at)),
	F_INT("port", struct raw_parent, port, 1, 65535),
	F_END,
};
static const struct schema parent_schema = {
	.name = "ParentReference",
	.size = sizeof(struct raw_parent),
	.fields = parent_fields,
	.place_offset_plus1 = offsetof(struct raw_parent, at) + 1,
};

static const struct field backend_fields[] = { BACKEND_FIELDS, BACKEND_WEIGHT, F_END };
static const struct schema backend_schema = {
	.name = "BackendRef",
	.size = sizeof(struct raw_backend),
	.fields = backend_fields,
	.place_offset_plus1 = offsetof(struct raw_backend, at) + 1,
};

static const struct field l4_rule_fields[] = {
	F_STR("name", struct raw_rule, name, .place_offset = offsetof(struct raw_rule, name_at)),
	F_LIST("backendRefs", struct raw_rule, backends, backend_schema, .flags = FIELD_REQUIRED | FIELD_NONEMPTY,
	       .max = 16),
	F_END,
};
static const struct schema l4_rule_schema = {
	.name = "RouteRule",
	.size = sizeof(struct raw_rule),
	.fields = l4_rule_fields,
	.place_offset_plus1 = offsetof(struct raw_rule, at) + 1,
};

static const struct field l4_spec_fields[] = {
	F_LIST("parentRefs", struct raw_route_spec, parents, parent_schema, .max = 32),
	F_LIST("rules", struct raw_route_spec, rules, l4_rule_schema, .flags = FIELD_REQUIRED | FIELD_NONEMPTY,
	       .max = 16),
	F_ENUM("useDefaultGateways", struct raw_route_spec, default_gateways, default_gateway_names),
	F_END,
};
static const struct schema l4_spec_schema = {
	.name = "RouteSpec",
	.size = sizeof(struct raw_route_spec),
	.fields = l4_spec_fields,
};

static const struct field http_spec_fields[] = {
	F_LIST("parentRefs", struct raw_route_spec, parents, parent_schema, .max = 32),
	F_LIST("rules", struct raw_route_spec, rules, http_rule_schema, .flags = FIELD_NONEMPTY, .max = 16),
	F_ENUM("useDefaultGateways", struct raw_route_spec, default_gateways, default_gateway_names),
	F_STRS("hostnames", struct raw_route_spec, hostnames, .max = 16),
	F_END,
};
static const struct schema http_spec_schema = {
	.name = "HTTPRouteSpec",
	.size = sizeof(struct raw_route_spec),
	.fields = http_spec_fields,
};

#define ROUTE_FIELDS(spec_schema)                                                                     \
	F_HEADER, F_OBJECT("metadata", struct raw_route, meta, meta_schema, .flags = FIELD_REQUIRED), \
		F_OBJECT("spec", struct raw_route, spec, spec_schema, .flags = FIELD_REQUIRED),       \
		F_INERT("status", FIELD_OBJECT), F_END

static const struct field l4_fields[] = { ROUTE_FIELDS(l4_spec_schema) };
static const struct schema l4_schema = { .name = "Route", .size = sizeof(struct raw_route), .fields = l4_fields };
static const struct field http_fields[] = { ROUTE_FIELDS(http_spec_schema) };
static const struct schema http_schema = { .name = "HTTPRoute",
					   .size = sizeof(struct raw_route),
					   .fields = http_fields };

/* "core" is how some tools write the empty group. */
static bool is_core(struct str group)
{
	return !group.len || str_is(group, "core");
}

static void check_ref(const struct check *c, const char *base, struct str group, struct str kind, struct str name,
		      struct str ns)
{
	const char *bad = group_name_bad(group);

	if (bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(group), bad), NULL, "%s.group", base);
	bad = kind_name_bad(kind);
	if (bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(kind), bad), NULL, "%s.kind", base);
	if (name.len > 253)
		check_fail(c, STR("must have at most 253 characters"), NULL, "%s.name", base);
	bad = ns.len ? dns_label_bad(ns) : NULL;
	if (bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(ns), bad), NULL, "%s.namespace", base);
}

static bool same_parent(const struct raw_parent *a, const struct raw_parent *b)
{
	return str_eq(a->group, b->group) && str_eq(a->kind, b->kind) && str_eq(a->name, b->name) &&
	       str_eq(a->ns, b->ns);
}

/* Several references to one parent must differ, and each name what the others do: a section, a port, or both. */
static void check_same_parents(const struct check *c, const struct list *parents)
{
	for (uint32_t i = 0; i < parents->nr; i++) {
		const struct raw_parent *a = LIST_AT(*parents, struct raw_parent, i);

		for (uint32_t j = 0; j < i; j++) {
			const struct raw_parent *b = LIST_AT(*parents, struct raw_parent, j);

			if (!same_parent(a, b))
				continue;
			if (a->port == b->port && str_eq(a->section, b->section))
				check_fail(c, STR("duplicate reference to the same parent"), NULL,
					   "spec.parentRefs[%u]", i);
			else if (!a->port != !b->port)
				check_fail(c, STR("several references to the same parent must each have a port"), NULL,
					   "spec.parentRefs[%u]", a->port ? j : i);
			else if (!a->section.len != !b->section.len)
				check_fail(c, STR("several references to the same parent must each have a sectionName"),
					   NULL, "spec.parentRefs[%u]", a->section.len ? j : i);
		}
	}
}

static void fill_parents(const struct check *c, struct raw_route_spec *spec, struct m_route *route)
{
	route->parents = arena_array(c->d->arena, spec->parents.nr, sizeof(*route->parents));
	route->parent_nr = spec->parents.nr;
	for (uint32_t i = 0; i < spec->parents.nr; i++) {
		struct raw_parent *r = LIST_AT(spec->parents, struct raw_parent, i);
		char base[48];
		bool gateway;

		snprintf(base, sizeof(base), "spec.parentRefs[%u]", i);
		if (!r->group_at.line)
			r->group = STR(GATEWAY_GROUP);
		if (!r->kind.len)
			r->kind = STR("Gateway");
		check_ref(c, base, r->group, r->kind, r->name, r->ns);
		gateway = str_is(r->group, GATEWAY_GROUP) && str_is(r->kind, "Gateway");
		if (gateway && r->section.len && dns_subdomain_bad(r->section))
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->section), dns_subdomain_bad(r->section)),
				   NULL, "%s.sectionName", base);
		else if (!gateway && (!is_core(r->group) || !str_is(r->kind, "Service")))
			check_fail(c,
				   CHECK_TEXT(c, "a parent of kind %.*s%s%.*s is not enforced yet", STR_ARG(r->kind),
					      r->group.len ? "." : "", STR_ARG(r->group)),
				   "Services (group \"\") and Gateways are enforced",
				   check_has(c, "%s.kind", base) ? "%s.kind" : "%s", base);
		else if (!gateway && r->section.len)
			check_fail(c, STR("choosing the port of a Service by name is not enforced yet"),
				   "give port instead", "%s.sectionName", base);
		route->parents[i] = (struct m_parent_ref){ .name = r->name,
							   .ns = r->ns.len ? r->ns : c->ns,
							   .section = r->section,
							   .port = r->port,
							   .gateway = gateway,
							   .at = r->at };
	}
	if (spec->default_gateways == 1)
		check_fail(c, STR("default gateways are not enforced yet"), NULL, "spec.useDefaultGateways");
	else if (!spec->parents.nr)
		check_warn(c, STR("a route without a parent changes nothing"), NULL, "spec");
	check_same_parents(c, &spec->parents);
}

void gwroute_backend_fill(const struct check *c, const struct raw_backend *r, const char *path,
			  struct m_backend_ref *to)
{
	struct str kind = r->kind.len ? r->kind : STR("Service");

	check_ref(c, path, r->group, kind, r->name, r->ns);
	if (!is_core(r->group) || !str_is(kind, "Service"))
		check_fail(c,
			   CHECK_TEXT(c, "a backend of kind %.*s%s%.*s is not enforced yet", STR_ARG(kind),
				      r->group.len ? "." : "", STR_ARG(r->group)),
			   "group \"\" and kind Service are enforced", check_has(c, "%s.kind", path) ? "%s.kind" : "%s",
			   path);
	else if (!r->port)
		check_fail(c, STR("is required for a Service"), NULL, "%s.port", path);
	*to = (struct m_backend_ref){
		.name = r->name,
		.ns = r->ns.len ? r->ns : c->ns,
		.port = r->port,
		.weight = r->weight_at.line ? r->weight : 1,
		.at = r->at,
	};
}

static void fill_backends(const struct check *c, const struct raw_rule *raw, const char *base,
			  struct m_route_rule *rule)
{
	rule->backends = arena_array(c->d->arena, raw->backends.nr, sizeof(*rule->backends));
	rule->backend_nr = raw->backends.nr;
	for (uint32_t i = 0; i < raw->backends.nr; i++) {
		char path[96];

		snprintf(path, sizeof(path), "%s.backendRefs[%u]", base, i);
		gwroute_backend_fill(c, LIST_AT(raw->backends, struct raw_backend, i), path, &rule->backends[i]);
	}
}

static void fill_rules(const struct check *c, const struct list *rules, bool http, struct m_route *route)
{
	size_t size = http ? http_rule_schema.size : sizeof(struct raw_rule);
	uint32_t matches = 0;

	route->rules = arena_array(c->d->arena, rules->nr, sizeof(*route->rules));
	route->rule_nr = rules->nr;
	for (uint32_t i = 0; i < rules->nr; i++) {
		const struct raw_rule *r = (const struct raw_rule *)((const char *)rules->v + i * size);
		const char *bad = r->name_at.line ? dns_subdomain_bad(r->name) : NULL;
		char base[32];

		snprintf(base, sizeof(base), "spec.rules[%u]", i);
		route->rules[i] = (struct m_route_rule){ .name = r->name, .at = r->at };
		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->name), bad), NULL, "%s.name", base);
		for (uint32_t j = 0; j < i && r->name_at.line; j++)
			if (str_eq(r->name, route->rules[j].name))
				check_fail(c, CHECK_TEXT(c, "duplicate rule name \"%.*s\"", STR_ARG(r->name)), NULL,
					   "%s.name", base);
		fill_backends(c, r, base, &route->rules[i]);
		if (http)
			matches += httproute_rule_fill(c, r, base, &route->rules[i]);
	}
	if (matches > 128)
		check_fail(c, STR("all rules together may have at most 128 matches"), NULL, "spec.rules");
}

static void check_hostnames(const struct check *c, const struct strs *hostnames, bool services)
{
	for (uint32_t i = 0; i < hostnames->nr; i++) {
		struct str s = hostnames->v[i];
		const char *bad = dns_subdomain_bad(str_starts(s, STR("*.")) ? str_sub(s, 2, s.len) : s);

		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(s), bad), NULL, "spec.hostnames[%u]", i);
	}
	/* With a Service as parent the address that was dialled chooses the route, upstream too. */
	if (hostnames->nr && services)
		check_warn(c, STR("host names have no effect when the parents are Services"), NULL, "spec.hostnames");
}

static bool takes_all(const struct m_route_rule *r)
{
	bool all = !r->more || !r->more->match_nr;

	for (uint32_t i = 0; !all && i < r->more->match_nr; i++)
		all = http_match_any(&r->more->matches[i]);
	return all;
}

/* It has no condition, and one before it has none either: rules with conditions go before both. */
static bool takes_nothing(const struct m_route *route, uint32_t at)
{
	bool taken = false;

	for (uint32_t i = 0; i < at; i++)
		taken |= takes_all(&route->rules[i]);
	return taken && takes_all(&route->rules[at]);
}

static bool decode_route(struct decode *d, const struct ynode *root, struct doc *doc, enum route_kind kind)
{
	struct raw_route raw = { 0 };
	struct m_route *route = arena_new(d->arena, struct m_route);
	bool http = kind == ROUTE_HTTP, services = true;
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, http ? &http_schema : &l4_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_SUBDOMAIN, doc, &c);
	doc->route = route;
	route->kind = kind;
	fill_parents(&c, &raw.spec, route);
	fill_rules(&c, &raw.spec.rules, http, route);
	if (http && !route->rule_nr)
		httproute_default(d->arena, route, doc->meta.name_at);
	for (uint32_t i = 0; i < route->parent_nr; i++)
		services &= !route->parents[i].gateway;
	check_hostnames(&c, &raw.spec.hostnames, services);
	/* v1alpha2 allowed sixteen. */
	if (!http && raw.spec.rules.nr > 1 && str_ends(doc->api_version, STR("/v1")))
		check_fail(&c, STR("must have exactly one rule"), NULL, "spec.rules");
	route->hostnames = raw.spec.hostnames;
	for (uint32_t i = 1; i < raw.spec.rules.nr && d->errors == before; i++)
		if (takes_nothing(route, i))
			check_warn(&c, STR("this rule is never reached: an earlier one takes everything"), NULL,
				   "spec.rules[%u]", i);
	return d->errors == before;
}

bool decode_tcp_route(struct decode *d, const struct ynode *root, struct doc *doc)
{
	return decode_route(d, root, doc, ROUTE_TCP);
}

bool decode_udp_route(struct decode *d, const struct ynode *root, struct doc *doc)
{
	return decode_route(d, root, doc, ROUTE_UDP);
}

bool decode_http_route(struct decode *d, const struct ynode *root, struct doc *doc)
{
	return decode_route(d, root, doc, ROUTE_HTTP);
}

/* ---- ReferenceGrant ---- */
struct raw_from {
	struct str group, kind, ns;
};

struct raw_to {
	struct str group, kind, name;
};

struct raw_grant_spec {
	struct list from, to;
};

struct raw_grant {
	struct raw_meta meta;
	struct raw_grant_spec spec;
};

static const struct field from_fields[] = {
	F_STR("group", struct raw_from, group, .flags = FIELD_REQUIRED),
	F_STR("kind", struct raw_from, kind, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_STR("namespace", struct raw_from, ns, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_END,
};
static const struct schema from_schema = { .name = "ReferenceGrantFrom",
					   .size = sizeof(struct raw_from),
					   .fields = from_fields };

static const struct field to_fields[] = {
	F_STR("group", struct raw_to, group, .flags = FIELD_REQUIRED),
	F_STR("kind", struct raw_to, kind, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_STR("name", struct raw_to, name, .flags = FIELD_NONEMPTY),
	F_END,
};
static const struct schema to_schema = { .name = "ReferenceGrantTo",
					 .size = sizeof(struct raw_to),
					 .fields = to_fields };

static const struct field grant_spec_fields[] = {
	F_LIST("from", struct raw_grant_spec, from, from_schema, .flags = FIELD_REQUIRED | FIELD_NONEMPTY, .max = 16),
	F_LIST("to", struct raw_grant_spec, to, to_schema, .flags = FIELD_REQUIRED | FIELD_NONEMPTY, .max = 16),
	F_END,
};
static const struct schema grant_spec_schema = {
	.name = "ReferenceGrantSpec",
	.size = sizeof(struct raw_grant_spec),
	.fields = grant_spec_fields,
};

static const struct field grant_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_grant, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_grant, spec, grant_spec_schema, .flags = FIELD_REQUIRED),
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema grant_schema = { .name = "ReferenceGrant",
					    .size = sizeof(struct raw_grant),
					    .fields = grant_fields };

bool decode_reference_grant(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_grant raw = { 0 };
	struct m_reference_grant *g = arena_new(d->arena, struct m_reference_grant);
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &grant_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_SUBDOMAIN, doc, &c);
	doc->grant = g;
	g->from = arena_array(d->arena, raw.spec.from.nr, sizeof(*g->from));
	g->from_nr = raw.spec.from.nr;
	for (uint32_t i = 0; i < g->from_nr; i++) {
		const struct raw_from *r = LIST_AT(raw.spec.from, struct raw_from, i);
		char base[32];

		snprintf(base, sizeof(base), "spec.from[%u]", i);
		check_ref(&c, base, r->group, r->kind, (struct str){ 0 }, r->ns);
		g->from[i] = (struct m_grant_from){ r->group, r->kind, r->ns };
	}
	g->to = arena_array(d->arena, raw.spec.to.nr, sizeof(*g->to));
	g->to_nr = raw.spec.to.nr;
	for (uint32_t i = 0; i < g->to_nr; i++) {
		const struct raw_to *r = LIST_AT(raw.spec.to, struct raw_to, i);
		char base[32];

		snprintf(base, sizeof(base), "spec.to[%u]", i);
		check_ref(&c, base, r->group, r->kind, r->name, (struct str){ 0 });
		g->to[i] = (struct m_grant_to){ r->group, r->kind, r->name };
	}
	return d->errors == before;
}
