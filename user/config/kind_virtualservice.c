/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Istio VirtualService: all but its http: rules (kind_vshttp.c). What Istio's own validation refuses is refused here
 * (pkg/config/validation).
 */
#include <stdio.h>

#include "config/kind_vs.h"

struct raw_route {
	struct raw_destination destination;
	int64_t weight;
	struct place at;
};

struct raw_rule {
	struct list matches, routes;
	struct place at;
};

struct raw_vs_spec {
	struct strs hosts, gateways, export_to;
	struct list http, tcp, tls;
};

struct raw_vs {
	struct raw_meta meta;
	struct raw_vs_spec spec;
};

static const struct field port_fields[] = {
	F_INT("number", struct raw_port_selector, number, 0, U32_MAX_INT,
	      .place_offset = offsetof(struct raw_port_selector, at)),
	F_END,
};
static const struct schema port_schema = {
	.name = "PortSelector",
	.size = sizeof(struct raw_port_selector),
	.fields = port_fields,
};

static const struct field destination_fields[] = {
	F_STR("host", struct raw_destination, host, .flags = FIELD_REQUIRED,
	      .place_offset = offsetof(struct raw_destination, host_at)),
	F_STR("subset", struct raw_destination, subset, .place_offset = offsetof(struct raw_destination, subset_at)),
	F_OBJECT_PTR("port", struct raw_destination, port, port_schema),
	F_END,
};
const struct schema vs_destination_schema = {
	.name = "Destination",
	.size = sizeof(struct raw_destination),
	.fields = destination_fields,
};

static const struct field tcp_route_fields[] = {
	F_OBJECT("destination", struct raw_route, destination, vs_destination_schema, .flags = FIELD_REQUIRED),
	F_INT("weight", struct raw_route, weight, 0, I32_MAX_INT),
	F_END,
};
static const struct schema tcp_route_schema = {
	.name = "RouteDestination",
	.size = sizeof(struct raw_route),
	.fields = tcp_route_fields,
	.place_offset_plus1 = offsetof(struct raw_route, at) + 1,
};

static const struct field tcp_match_fields[] = {
	F_STRS("destinationSubnets", struct raw_match, subnets),
	F_INT("port", struct raw_match, port, 0, U32_MAX_INT, .place_offset = offsetof(struct raw_match, port_at)),
	F_KVS("sourceLabels", struct raw_match, source_labels),
	F_STRS("gateways", struct raw_match, gateways),
	F_STR("sourceNamespace", struct raw_match, source_ns),
	F_REFUSED("sourceSubnet", "rules by the client's address are not kept"),
	F_END,
};
static const struct schema tcp_match_schema = {
	.name = "L4MatchAttributes",
	.size = sizeof(struct raw_match),
	.fields = tcp_match_fields,
	.place_offset_plus1 = offsetof(struct raw_match, at) + 1,
};

static const struct field tcp_fields[] = {
	F_LIST("match", struct raw_rule, matches, tcp_match_schema, .max = ITEMS_MAX),
	F_LIST("route", struct raw_rule, routes, tcp_route_schema),
	F_END,
};
static const struct schema tcp_schema = {
	.name = "TCPRoute",
	.size = sizeof(struct raw_rule),
	.fields = tcp_fields,
	.place_offset_plus1 = offsetof(struct raw_rule, at) + 1,
};

static const struct field tls_match_fields[] = {
	F_STRS("sniHosts", struct raw_match, names),
	F_STRS("destinationSubnets", struct raw_match, subnets),
	F_INT("port", struct raw_match, port, 0, U32_MAX_INT, .place_offset = offsetof(struct raw_match, port_at)),
	F_KVS("sourceLabels", struct raw_match, source_labels),
	F_STRS("gateways", struct raw_match, gateways),
	F_STR("sourceNamespace", struct raw_match, source_ns),
	F_END,
};
static const struct schema tls_match_schema = {
	.name = "TLSMatchAttributes",
	.size = sizeof(struct raw_match),
	.fields = tls_match_fields,
	.place_offset_plus1 = offsetof(struct raw_match, at) + 1,
};

static const struct field tls_fields[] = {
	F_LIST("match", struct raw_rule, matches, tls_match_schema, .max = ITEMS_MAX),
	F_LIST("route", struct raw_rule, routes, tcp_route_schema),
	F_END,
};
static const struct schema tls_schema = {
	.name = "TLSRoute",
	.size = sizeof(struct raw_rule),
	.fields = tls_fields,
	.place_offset_plus1 = offsetof(struct raw_rule, at) + 1,
};

static const struct field spec_fields[] = {
	F_STRS("hosts", struct raw_vs_spec, hosts, .max = ITEMS_MAX),
	F_STRS("gateways", struct raw_vs_spec, gateways),
	F_STRS("exportTo", struct raw_vs_spec, export_to, .max = ITEMS_MAX),
	F_LIST("http", struct raw_vs_spec, http, vs_http_schema, .max = ITEMS_MAX),
	F_LIST("tcp", struct raw_vs_spec, tcp, tcp_schema, .max = ITEMS_MAX),
	F_LIST("tls", struct raw_vs_spec, tls, tls_schema, .max = ITEMS_MAX),
	F_END,
};
static const struct schema spec_schema = {
	.name = "VirtualService",
	.size = sizeof(struct raw_vs_spec),
	.fields = spec_fields,
};

static const struct field vs_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_vs, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_vs, spec, spec_schema, .flags = FIELD_REQUIRED),
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema vs_schema = { .name = "VirtualService", .size = sizeof(struct raw_vs), .fields = vs_fields };

static void check_hosts(const struct check *c, const struct strs *hosts, bool mesh)
{
	bool valid = true;

	for (uint32_t i = 0; i < hosts->nr; i++) {
		const char *bad = wildcard_domain_bad(hosts->v[i]);

		if (bad && text_is_ip(hosts->v[i]))
			continue;
		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(hosts->v[i]), bad), NULL, "spec.hosts[%u]",
				   i);
		else if (mesh && str_is(hosts->v[i], "*"))
			check_fail(c, STR("the host \"*\" is not allowed on the mesh gateway"), NULL, "spec.hosts[%u]",
				   i);
		else
			continue;
		valid = false;
	}
	for (uint32_t i = 0; valid && i < hosts->nr; i++) {
		for (uint32_t j = 0; j < i; j++) {
			if (!hosts_overlap(hosts->v[j], hosts->v[i]))
				continue;
			check_fail(c,
				   CHECK_TEXT(c, "duplicate host: \"%.*s\" is covered by \"%.*s\"",
					      STR_ARG(hosts->v[i]), STR_ARG(hosts->v[j])),
				   NULL, "spec.hosts[%u]", i);
			break;
		}
	}
}

void vs_destination_fill(const struct check *c, const struct raw_destination *raw, const char *base,
			 struct m_destination *to)
{
	const char *bad = str_is(raw->host, "*") ? "must be a host" : wildcard_domain_bad(raw->host);

	to->host = raw->host;
	to->subset = raw->subset;
	to->port = raw->port ? raw->port->number : 0;
	to->host_at = raw->host_at;
	to->subset_at = raw->subset_at;
	to->port_at = raw->port ? raw->port->at : (struct place){ 0 };
	if (bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(raw->host), bad), NULL, "%s.host", base);
	bad = raw->subset.len ? istio_label_bad(raw->subset) : NULL;
	if (bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(raw->subset), bad), NULL, "%s.subset", base);
	if (raw->port && !port_ok(raw->port->number))
		check_fail(c, CHECK_TEXT(c, "port %lld is not in 1..65535", (long long)raw->port->number), NULL,
			   "%s.port.number", base);
}

void vs_weights_check(const struct check *c, const struct m_rule *rule, const char *base)
{
	int64_t sum = 0;

	for (uint32_t i = 0; i < rule->route_nr; i++)
		sum += rule->routes[i].weight;
	if (rule->route_nr > 1 && !sum)
		check_fail(c, STR("the weights of several destinations must not all be 0"), NULL, "%s.route", base);
}

void vs_match_fill(const struct check *c, const struct raw_match *raw, const char *base, struct m_l4_match *m)
{
	char path[128];

	*m = (struct m_l4_match){
		.port = raw->port,
		.source_labels = raw->source_labels,
		.gateways = raw->gateways,
		.source_ns = raw->source_ns,
		.at = raw->at,
		.port_at = raw->port_at,
	};
	m->subnets = arena_array(c->d->arena, raw->subnets.nr, sizeof(*m->subnets));
	for (uint32_t i = 0; i < raw->subnets.nr; i++)
		m->subnet_nr += check_cidr(c, raw->subnets.v[i], &m->subnets[m->subnet_nr], "%s.destinationSubnets[%u]",
					   base, i);
	if (raw->port && !port_ok(raw->port))
		check_fail(c, CHECK_TEXT(c, "port %lld is not in 1..65535", (long long)raw->port), NULL, "%s.port",
			   base);
	snprintf(path, sizeof(path), "%s.sourceLabels", base);
	check_labels(c, &raw->source_labels, path);
	snprintf(path, sizeof(path), "%s.gateways", base);
	check_gateway_names(c, &raw->gateways, path);
}

static bool strs_eq(const struct strs *a, const struct strs *b)
{
	for (uint32_t i = 0; i < a->nr && a->nr == b->nr; i++)
		if (!str_eq(a->v[i], b->v[i]))
			return false;
	return a->nr == b->nr;
}

static bool cidr_eq(const struct cidr *a, const struct cidr *b)
{
	return a->prefix_len == b->prefix_len && !addr_cmp(&a->addr, &b->addr);
}

static bool match_eq(const struct m_l4_match *a, const struct m_l4_match *b)
{
	if (a->port != b->port || !str_eq(a->source_ns, b->source_ns) || a->subnet_nr != b->subnet_nr)
		return false;
	for (uint32_t i = 0; i < a->subnet_nr; i++)
		if (!cidr_eq(&a->subnets[i], &b->subnets[i]))
			return false;
	return strs_eq(&a->gateways, &b->gateways) && strs_eq(&a->names, &b->names) &&
	       a->source_labels.nr == b->source_labels.nr && kvs_match(&a->source_labels, &b->source_labels);
}

/* A match before match j of rule i is this very match. */
static bool match_used(const struct m_rule *rules, uint32_t i, uint32_t j)
{
	for (uint32_t k = 0; k <= i; k++)
		for (uint32_t l = 0; l < (k == i ? j : rules[k].match_nr); l++)
			if ((k == i || !rules[k].delegate) && match_eq(&rules[k].matches[l], &rules[i].matches[j]) &&
			    http_match_same(rules[k].more ? &rules[k].more->matches[l] : NULL,
					    rules[i].more ? &rules[i].more->matches[j] : NULL))
				return true;
	return false;
}

/* Matches that an earlier one takes everything from; true when that is all of them. */
static bool warn_used(const struct check *c, const struct m_rule *rules, uint32_t i, const char *list)
{
	uint32_t used = 0;

	for (uint32_t j = 0; j < rules[i].match_nr; j++) {
		if (!match_used(rules, i, j))
			continue;
		used++;
		check_warn(c, STR("[IST0131] this match is not used: an earlier one is the same"), NULL,
			   "spec.%s[%u].match[%u]", list, i, j);
	}
	return used && used == rules[i].match_nr;
}

/* Rules that can never be reached, which Istio's analyzer warns of too. */
void vs_warn_unreachable(const struct check *c, const struct m_rule *rules, uint32_t nr, const char *list)
{
	bool open = false;
	uint64_t work = 0, earlier = 0;

	/* What was refused may be what told two rules apart. */
	for (uint32_t i = 0; i < nr && !c->d->errors; i++) {
		/* The comparison is quadratic, and only for a warning. */
		earlier += rules[i].match_nr;
		work += rules[i].match_nr * earlier;
		if (open)
			check_warn(c, STR("[IST0130] this rule is never reached: an earlier one takes everything"),
				   "only the last rule should have no match", "spec.%s[%u]", list, i);
		else if (work < 1u << 16 && warn_used(c, rules, i, list))
			check_warn(c, STR("[IST0130] this rule is never reached: its matches are used already"), NULL,
				   "spec.%s[%u]", list, i);
		/* Where a delegate takes a part, there is a rest. */
		open |= !rules[i].match_nr && !rules[i].delegate;
	}
}

static bool covers(struct str host, struct str name)
{
	return str_eq(host, name) ||
	       (host.len && host.p[0] == '*' && name.len >= host.len && str_ends(name, str_sub(host, 1, host.len)));
}

/* The names that a tls: rule is for: some of the hosts, as Istio wants it. */
static void fill_names(const struct check *c, const struct strs *hosts, const struct raw_match *raw, const char *base,
		       struct m_l4_match *m)
{
	m->names = raw->names;
	m->names.v = arena_array(c->d->arena, raw->names.nr, sizeof(*m->names.v));
	if (!raw->names.nr)
		check_fail(c, STR("at least one name is required"), NULL, "%s.sniHosts", base);
	for (uint32_t i = 0; i < raw->names.nr; i++) {
		struct str name = raw->names.v[i];
		const char *bad = host_is_partial_wildcard(name)
					  ? "must not have a wildcard that is only a part of a label"
					  : wildcard_domain_bad(name);
		bool some = false;

		m->names.v[i] = http_lower(c->d->arena, name);
		for (uint32_t k = 0; k < hosts->nr; k++)
			some |= covers(hosts->v[k], name);
		if (bad && !text_is_ip(name))
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(name), bad), NULL, "%s.sniHosts[%u]", base,
				   i);
		else if (!some)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" is not among the hosts", STR_ARG(name)), NULL,
				   "%s.sniHosts[%u]", base, i);
	}
}

/* Rules of tcp: or tls:. */
static void fill_l4(const struct check *c, const struct raw_vs_spec *spec, bool tls, struct m_virtual_service *vs)
{
	const struct list *raw = tls ? &spec->tls : &spec->tcp;
	const char *list = tls ? "tls" : "tcp";
	struct m_rule *rules = vs->rules + vs->rule_nr;

	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_rule *r = LIST_AT(*raw, struct raw_rule, i);
		struct m_rule *rule = &rules[i];
		char base[64], path[96];

		snprintf(base, sizeof(base), "spec.%s[%u]", list, i);
		*rule = (struct m_rule){
			.tls = tls, .index = i, .at = r->at, .match_nr = r->matches.nr, .route_nr = r->routes.nr
		};
		if (tls && !rule->match_nr)
			check_fail(c, STR("at least one match is required"), NULL, "%s.match", base);
		rule->matches = arena_array(c->d->arena, rule->match_nr, sizeof(*rule->matches));
		for (uint32_t j = 0; j < rule->match_nr; j++) {
			snprintf(path, sizeof(path), "%s.match[%u]", base, j);
			vs_match_fill(c, LIST_AT(r->matches, struct raw_match, j), path, &rule->matches[j]);
			if (tls)
				fill_names(c, &spec->hosts, LIST_AT(r->matches, struct raw_match, j), path,
					   &rule->matches[j]);
		}
		rule->routes = arena_array(c->d->arena, rule->route_nr, sizeof(*rule->routes));
		for (uint32_t j = 0; j < rule->route_nr; j++) {
			const struct raw_route *to = LIST_AT(r->routes, struct raw_route, j);

			snprintf(path, sizeof(path), "%s.route[%u].destination", base, j);
			rule->routes[j] = (struct m_destination){ .weight = to->weight, .at = to->at };
			vs_destination_fill(c, &to->destination, path, &rule->routes[j]);
		}
		vs_weights_check(c, rule, base);
		if (!rule->route_nr)
			check_fail(c, STR("at least one destination is required"), NULL, "%s.route", base);
	}
	vs->rule_nr += raw->nr;
	vs_warn_unreachable(c, rules, raw->nr, list);
}

static bool names_mesh(const struct strs *gateways)
{
	for (uint32_t i = 0; i < gateways->nr; i++)
		if (str_is(gateways->v[i], "mesh"))
			return true;
	return !gateways->nr;
}

/* One without hosts says something to those that delegate to it only. */
static void check_delegate(const struct check *c, const struct raw_vs_spec *spec)
{
	if (spec->gateways.nr)
		check_fail(c, STR("a delegate (a VirtualService without hosts) must have no gateways"), NULL,
			   "spec.gateways");
	if (spec->tcp.nr)
		check_fail(c, STR("a delegate (a VirtualService without hosts) must have no tcp rules"), NULL,
			   "spec.tcp");
	if (spec->tls.nr)
		check_fail(c, STR("a delegate (a VirtualService without hosts) must have no tls rules"), NULL,
			   "spec.tls");
}

bool decode_virtual_service(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_vs raw = { 0 };
	struct m_virtual_service *vs = arena_new(d->arena, struct m_virtual_service);
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &vs_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_ISTIO, doc, &c);
	doc->vs = vs;
	vs->hosts = raw.spec.hosts;
	vs->gateways = raw.spec.gateways;
	vs->export_to = raw.spec.export_to;
	if (!vs->gateways.nr) {
		vs->gateways.v = arena_new(d->arena, struct str);
		vs->gateways.v[0] = STR("mesh");
		vs->gateways.at = arena_new(d->arena, struct place);
		vs->gateways.nr = 1;
	}
	check_gateway_names(&c, &raw.spec.gateways, "spec.gateways");
	if (raw.spec.hosts.nr)
		check_hosts(&c, &raw.spec.hosts, names_mesh(&raw.spec.gateways));
	else if (d->errors == before)
		check_delegate(&c, &raw.spec);
	check_export_to(&c, &raw.spec.export_to, false);
	if (!raw.spec.http.nr && !raw.spec.tcp.nr && !raw.spec.tls.nr)
		check_fail(&c, STR("http, tcp or tls rules are required"), NULL, "spec");
	vs->rules =
		arena_array(d->arena, (size_t)raw.spec.tcp.nr + raw.spec.tls.nr + raw.spec.http.nr, sizeof(*vs->rules));
	fill_l4(&c, &raw.spec, false, vs);
	fill_l4(&c, &raw.spec, true, vs);
	vs_http_fill(&c, &raw.spec.http, vs);
	return d->errors == before;
}
