/* SPDX-License-Identifier: BSD-2-Clause */
/* Istio ServiceEntry and WorkloadEntry: what is outside Kubernetes' own discovery. */
#include <stdio.h>

#include "config/kind_local.h"

/* ---- WorkloadEntry, and an entry of ServiceEntry.spec.endpoints ---- */
static const struct field workload_fields[] = {
	F_STR("address", struct raw_workload, entry.address_text),
	/* A map of names to numbers: workload_fill reads it from the tree. */
	F_INERT("ports", FIELD_ANY),
	F_KVS("labels", struct raw_workload, entry.labels),
	F_STR("network", struct raw_workload, entry.network),
	F_STR("locality", struct raw_workload, entry.locality),
	F_INT("weight", struct raw_workload, entry.weight, 0, U32_MAX_INT),
	F_STR("serviceAccount", struct raw_workload, entry.service_account),
	F_END,
};
const struct schema workload_schema = {
	.name = "WorkloadEntry",
	.size = sizeof(struct raw_workload),
	.fields = workload_fields,
	.place_offset_plus1 = offsetof(struct raw_workload, at) + 1,
};

static bool se_has_port(const struct m_se_port *ports, uint32_t nr, struct str name)
{
	for (uint32_t i = 0; i < nr; i++)
		if (str_eq(ports[i].name, name))
			return true;
	return false;
}

static void fill_ports(const struct check *c, const char *base, struct m_workload_entry *e,
		       const struct m_se_port *se_ports, uint32_t se_port_nr)
{
	char path[96];
	const struct ynode *map;

	snprintf(path, sizeof(path), "%s.ports", base);
	map = check_node(c, path);
	if (!map || map->kind == YNODE_NULL)
		return;
	if (str_starts(e->address_text, STR("unix://"))) {
		check_fail(c, STR("a unix socket has no ports"), NULL, "%s", path);
		return;
	}
	if (map->kind != YNODE_MAP || map->nr > 128) {
		check_fail(c,
			   map->kind == YNODE_MAP ? STR("must have at most 128 entries")
						  : STR("must be a map of port names to numbers"),
			   NULL, "%s", path);
		return;
	}
	e->ports = arena_array(c->d->arena, map->nr, sizeof(*e->ports));
	for (uint32_t i = 0; i < map->nr; i++) {
		const struct ynode *key = map->items[2 * i], *val = map->items[2 * i + 1];
		const char *bad =
			key->scalar.len > 62 ? "must have at most 62 characters" : istio_label_bad(key->scalar);
		int64_t port = 0;

		if (bad)
			check_fail_key(c, CHECK_TEXT(c, "the name of a port %s", bad), NULL, key->scalar, "%s", path);
		if (!ynode_int(val, &port))
			check_fail_key(c, STR("must be a number"), NULL, key->scalar, "%s", path);
		else if (!port_ok(port))
			check_fail_key(c, CHECK_TEXT(c, "port %lld is not in 1..65535", (long long)port), NULL,
				       key->scalar, "%s", path);
		else if (se_ports && !se_has_port(se_ports, se_port_nr, key->scalar))
			check_fail_key(c, CHECK_TEXT(c, "the ServiceEntry has no port \"%.*s\"", STR_ARG(key->scalar)),
				       NULL, key->scalar, "%s", path);
		e->ports[e->port_nr++] = (struct named_port){ arena_str(c->d->arena, key->scalar), port };
	}
}

static void check_address(const struct check *c, const char *base, struct m_workload_entry *e, bool in_service_entry)
{
	struct str s = e->address_text;

	if (addr_parse(s, &e->address))
		return;
	if (!s.len)
		check_fail(c, STR("is required"), NULL, "%s.address", base);
	else if (str_starts(s, STR("unix://")))
		check_fail(c,
			   s.len < 8 || (s.p[7] != '/' && s.p[7] != '@') || s.p[s.len - 1] == '/'
				   ? STR("must be unix:// and an absolute path or an abstract name")
				   : STR("unix sockets are not enforced yet"),
			   NULL, "%s.address", base);
	else if (in_service_entry)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" is not an IP address", STR_ARG(s)),
			   "resolution STATIC has addresses only", "%s.address", base);
	else if (fqdn_bad(s))
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" is neither an IP address nor a domain name", STR_ARG(s)), NULL,
			   "%s.address", base);
	else
		check_fail(c, STR("resolving names is not enforced yet"), NULL, "%s.address", base);
}

/* What holds of an entry, and of a template for some. */
static void check_rest(const struct check *c, const char *base, struct m_workload_entry *e,
		       const struct m_se_port *ports, uint32_t port_nr)
{
	char path[96];

	fill_ports(c, base, e, ports, port_nr);
	snprintf(path, sizeof(path), "%s.labels", base);
	check_labels(c, &e->labels, path);
	if (e->labels.nr > 256)
		check_fail(c, STR("must have at most 256 entries"), NULL, "%s", path);
	if (e->locality.len > 2048)
		check_fail(c, STR("must have at most 2048 characters"), NULL, "%s.locality", base);
	if (e->service_account.len > 253)
		check_fail(c, STR("must have at most 253 characters"), NULL, "%s.serviceAccount", base);
}

void workload_fill(const struct check *c, const char *base, struct raw_workload *raw, const struct m_se_port *ports,
		   uint32_t port_nr)
{
	struct m_workload_entry *e = &raw->entry;

	e->at = raw->at;
	if (e->network.len)
		check_fail(c, STR("several networks are not enforced yet"), NULL, "%s.network", base);
	else
		check_address(c, base, e, ports != NULL);
	check_rest(c, base, e, ports, port_nr);
}

void workload_check(const struct check *c, const char *base, struct raw_workload *raw)
{
	if (raw->entry.address_text.len)
		check_address(c, base, &raw->entry, false);
	if (raw->entry.network.len > 2048)
		check_fail(c, STR("must have at most 2048 characters"), NULL, "%s.network", base);
	check_rest(c, base, &raw->entry, NULL, 0);
}

struct raw_condition {
	struct str type, status;
};

struct raw_we_status {
	struct list conditions;
};

struct raw_we {
	struct raw_meta meta;
	struct raw_workload spec;
	struct raw_we_status status;
};

static const struct field condition_fields[] = {
	F_STR("type", struct raw_condition, type),
	F_STR("status", struct raw_condition, status),
	F_END,
};
static const struct schema condition_schema = {
	.name = "IstioCondition",
	.size = sizeof(struct raw_condition),
	.fields = condition_fields,
	.open = true,
};

static const struct field we_status_fields[] = {
	F_LIST("conditions", struct raw_we_status, conditions, condition_schema, .max = ITEMS_MAX),
	F_END,
};
static const struct schema we_status_schema = {
	.name = "IstioStatus",
	.size = sizeof(struct raw_we_status),
	.fields = we_status_fields,
	.open = true,
};

static const struct field we_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_we, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_we, spec, workload_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("status", struct raw_we, status, we_status_schema),
	F_END,
};
static const struct schema we_schema = { .name = "WorkloadEntry", .size = sizeof(struct raw_we), .fields = we_fields };

/* What Istio was told by who checks its health, where that is to count. */
static bool told_unhealthy(const struct raw_we *raw)
{
	const struct str *counts = kvs_get(&raw->meta.annotations, STR("proxy.istio.io/health-checks-enabled"));

	for (uint32_t i = 0; counts && str_is(*counts, "true") && i < raw->status.conditions.nr; i++) {
		const struct raw_condition *c = LIST_AT(raw->status.conditions, struct raw_condition, i);

		if (str_is(c->type, "Healthy"))
			return !str_is(c->status, "True");
	}
	return false;
}

bool decode_workload_entry(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_we raw = { 0 };
	uint32_t before = d->errors;
	const struct str *group;
	struct check c;

	schema_decode(d, &we_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_ISTIO, doc, &c);
	workload_fill(&c, "spec", &raw.spec, NULL, 0);
	doc->we = arena_new(d->arena, struct m_workload_entry);
	*doc->we = raw.spec.entry;
	doc->we->unhealthy = told_unhealthy(&raw);
	group = kvs_get(&raw.meta.annotations, STR("istio.io/autoRegistrationGroup"));
	if (group)
		doc->we->group = *group;
	return d->errors == before;
}

/* ---- ServiceEntry ---- */
struct raw_se_port {
	struct str name, protocol;
	int64_t number, target;
	struct place at, target_at;
};

struct raw_selector {
	struct kvs labels;
};

struct raw_status_address {
	struct str value;
};

struct raw_se_spec {
	struct strs hosts, addresses, export_to;
	struct list ports, endpoints;
	uint32_t location, resolution;
	struct raw_selector *selector;
};

struct raw_se_status {
	struct list addresses;
};

struct raw_se {
	struct raw_meta meta;
	struct raw_se_spec spec;
	struct raw_se_status status;
};

static const char *const locations[] = { "MESH_EXTERNAL", "MESH_INTERNAL", NULL };
static const char *const resolutions[] = { "NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS", NULL };
enum { RESOLVE_STATIC = 2 };

static const struct field port_fields[] = {
	F_INT("number", struct raw_se_port, number, 1, 65535, .flags = FIELD_REQUIRED),
	F_STR("name", struct raw_se_port, name, .flags = FIELD_REQUIRED),
	F_STR("protocol", struct raw_se_port, protocol),
	F_INT("targetPort", struct raw_se_port, target, 1, 65535,
	      .place_offset = offsetof(struct raw_se_port, target_at)),
	F_END,
};
static const struct schema port_schema = {
	.name = "ServicePort",
	.size = sizeof(struct raw_se_port),
	.fields = port_fields,
	.place_offset_plus1 = offsetof(struct raw_se_port, at) + 1,
};

static const struct field selector_fields[] = {
	F_KVS("labels", struct raw_selector, labels),
	F_END,
};
static const struct schema selector_schema = {
	.name = "WorkloadSelector",
	.size = sizeof(struct raw_selector),
	.fields = selector_fields,
};

static const struct field spec_fields[] = {
	F_STRS("hosts", struct raw_se_spec, hosts, .flags = FIELD_REQUIRED | FIELD_NONEMPTY, .max = 256),
	F_STRS("addresses", struct raw_se_spec, addresses, .max = 256),
	F_LIST("ports", struct raw_se_spec, ports, port_schema, .max = 256),
	F_ENUM("location", struct raw_se_spec, location, locations),
	F_ENUM("resolution", struct raw_se_spec, resolution, resolutions),
	F_LIST("endpoints", struct raw_se_spec, endpoints, workload_schema, .max = 4096),
	F_OBJECT_PTR("workloadSelector", struct raw_se_spec, selector, selector_schema),
	F_STRS("exportTo", struct raw_se_spec, export_to, .max = ITEMS_MAX),
	F_REFUSED("subjectAltNames", "checking the names of servers needs TLS"),
	F_END,
};
static const struct schema spec_schema = {
	.name = "ServiceEntry",
	.size = sizeof(struct raw_se_spec),
	.fields = spec_fields,
};

static const struct field status_address_fields[] = {
	F_STR("value", struct raw_status_address, value),
	F_INERT("host", FIELD_STR),
	F_END,
};
static const struct schema status_address_schema = {
	.name = "ServiceEntryAddress",
	.size = sizeof(struct raw_status_address),
	.fields = status_address_fields,
};

static const struct field status_fields[] = {
	F_LIST("addresses", struct raw_se_status, addresses, status_address_schema, .max = 512),
	F_END,
};
/* open: the CRD keeps whatever else a controller writes. */
static const struct schema status_schema = {
	.name = "ServiceEntryStatus",
	.size = sizeof(struct raw_se_status),
	.fields = status_fields,
	.open = true,
};

static const struct field se_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_se, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_se, spec, spec_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("status", struct raw_se, status, status_schema),
	F_END,
};
static const struct schema se_schema = { .name = "ServiceEntry", .size = sizeof(struct raw_se), .fields = se_fields };

static void check_hosts(const struct check *c, const struct strs *hosts)
{
	for (uint32_t i = 0; i < hosts->nr; i++) {
		const char *bad = str_is(hosts->v[i], "*") ? "must be a host" : wildcard_domain_bad(hosts->v[i]);

		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(hosts->v[i]), bad), NULL, "spec.hosts[%u]",
				   i);
		else if (host_is_partial_wildcard(hosts->v[i]))
			check_warn(c, STR("a wildcard that is only a part of a label matches nothing"),
				   "write \"*.\" and a domain", "spec.hosts[%u]", i);
	}
}

static void fill_se_ports(const struct check *c, const struct list *raw, bool none, struct m_service_entry *se)
{
	se->ports = arena_array(c->d->arena, raw->nr, sizeof(*se->ports));
	se->port_nr = raw->nr;
	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_se_port *r = LIST_AT(*raw, struct raw_se_port, i);
		struct str upper = arena_str(c->d->arena, r->protocol);
		const char *bad = istio_label_bad(r->name);

		for (uint32_t k = 0; k < upper.len; k++)
			if (upper.p[k] >= 'a' && upper.p[k] <= 'z')
				((char *)upper.p)[k] -= 'a' - 'A';
		se->ports[i] = (struct m_se_port){ r->number, r->target, r->name, upper, r->at };
		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->name), bad), NULL, "spec.ports[%u].name",
				   i);
		if (r->protocol.len && app_protocol_parse(r->protocol) == APP_UNKNOWN)
			check_fail(c, CHECK_TEXT(c, "unknown protocol \"%.*s\"", STR_ARG(r->protocol)),
				   "HTTP, HTTP2, HTTPS, GRPC, GRPC-WEB, TCP, TLS, UDP, MONGO, MYSQL or REDIS",
				   "spec.ports[%u].protocol", i);
		if (none && r->target_at.line)
			check_warn(c, STR("has no effect when the resolution is NONE"), NULL,
				   "spec.ports[%u].targetPort", i);
		for (uint32_t j = 0; j < i; j++) {
			if (str_eq(r->name, se->ports[j].name))
				check_fail(c, CHECK_TEXT(c, "duplicate port name \"%.*s\"", STR_ARG(r->name)), NULL,
					   "spec.ports[%u].name", i);
			if (r->number == se->ports[j].number)
				check_fail(c, CHECK_TEXT(c, "duplicate port %lld", (long long)r->number), NULL,
					   "spec.ports[%u].number", i);
		}
	}
}

/* Istio asks for addresses with TCP only, as HTTP has the host in it; the kernel sees neither. */
static void warn_no_address(const struct check *c, const struct m_service_entry *se)
{
	static const char hint[] = "give spec.addresses, or status.addresses as Istio allocates them";
	bool tcp = false;

	for (uint32_t i = 0; i < se->port_nr; i++)
		tcp |= !se->ports[i].protocol.len || str_is(se->ports[i].protocol, "TCP");
	check_warn(c,
		   tcp ? STR("[IST0134] addresses are required for TCP: without them no connection can be told to be "
			     "for this host")
		       : STR("without addresses no connection can be told to be for this host"),
		   hint, "spec");
}

static void fill_addresses(const struct check *c, const struct raw_se *raw, bool ip_only, struct m_service_entry *se)
{
	const struct strs *given = &raw->spec.addresses;

	se->addresses = arena_array(c->d->arena, (size_t)given->nr + raw->status.addresses.nr, sizeof(*se->addresses));
	for (uint32_t i = 0; i < given->nr; i++) {
		struct cidr *to = &se->addresses[se->address_nr];

		if (ip_only && str_find(given->v[i], '/') >= 0)
			check_fail(c, STR("CIDR blocks are allowed with resolution NONE and STATIC only"), NULL,
				   "spec.addresses[%u]", i);
		else
			se->address_nr += check_cidr(c, given->v[i], to, "spec.addresses[%u]", i);
	}
	for (uint32_t i = 0; !given->nr && i < raw->status.addresses.nr; i++) {
		struct str value = LIST_AT(raw->status.addresses, struct raw_status_address, i)->value;

		se->address_nr += check_cidr(c, value, &se->addresses[se->address_nr], "status.addresses[%u].value", i);
	}
	if (!se->address_nr && !c->d->errors)
		warn_no_address(c, se);
}

static void fill_endpoints(const struct check *c, const struct raw_se_spec *spec, struct m_service_entry *se)
{
	se->endpoints = arena_array(c->d->arena, spec->endpoints.nr, sizeof(*se->endpoints));
	se->endpoint_nr = spec->endpoints.nr;
	for (uint32_t i = 0; i < se->endpoint_nr; i++) {
		struct raw_workload *r = LIST_AT(spec->endpoints, struct raw_workload, i);
		char base[48];

		snprintf(base, sizeof(base), "spec.endpoints[%u]", i);
		workload_fill(c, base, r, se->ports, se->port_nr);
		se->endpoints[i] = r->entry;
	}
}

/* Nothing in a TCP connection tells which of several hosts was meant. */
static void check_many_hosts(const struct check *c, const struct m_service_entry *se)
{
	for (uint32_t i = 0; i < se->port_nr; i++) {
		enum app_protocol p = app_protocol_parse(se->ports[i].protocol);

		if (p == APP_HTTP || p == APP_TLS)
			continue;
		check_fail(c, STR("several hosts need ports of HTTP or TLS: TCP has no host in it"), NULL,
			   "spec.ports[%u]", i);
		return;
	}
}

bool decode_service_entry(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_se raw = { 0 };
	struct m_service_entry *se = arena_new(d->arena, struct m_service_entry);
	uint32_t before = d->errors;
	bool none;
	struct check c;

	schema_decode(d, &se_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_ISTIO, doc, &c);
	doc->se = se;
	se->hosts = raw.spec.hosts;
	se->export_to = raw.spec.export_to;
	se->internal = raw.spec.location == 2;
	se->distribution = distribution_of(&c, &raw.meta.annotations);
	none = raw.spec.resolution < RESOLVE_STATIC;
	se->resolution = none ? RESOLUTION_NONE : RESOLUTION_STATIC;
	if (raw.spec.resolution > RESOLVE_STATIC)
		check_fail(&c, STR("resolving names is not enforced yet"), "NONE and STATIC are enforced",
			   "spec.resolution");
	check_hosts(&c, &se->hosts);
	fill_se_ports(&c, &raw.spec.ports, none, se);
	fill_addresses(&c, &raw, raw.spec.resolution > RESOLVE_STATIC, se);
	if (raw.spec.selector) {
		se->has_selector = true;
		se->selector = raw.spec.selector->labels;
		check_selector(&c, &se->selector, 256, "spec.workloadSelector.labels");
		if (check_has(&c, "spec.endpoints"))
			check_fail(&c, STR("only one of endpoints and workloadSelector may be given"), NULL,
				   "spec.endpoints");
		if (none)
			check_warn(&c, STR("has no effect when the resolution is NONE"), NULL, "spec.workloadSelector");
	}
	if (none && check_has(&c, "spec.endpoints"))
		check_fail(&c, STR("resolution NONE has no endpoints"), NULL, "spec.endpoints");
	else if (raw.spec.resolution == RESOLVE_STATIC)
		fill_endpoints(&c, &raw.spec, se);
	if (!none && se->hosts.nr > 1)
		check_many_hosts(&c, se);
	check_export_to(&c, &se->export_to, true);
	return d->errors == before;
}
