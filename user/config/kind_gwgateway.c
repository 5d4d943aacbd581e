/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Gateway of the Gateway API. What the CRDs refuse is refused here, of every class. What is in order but not enforced is only
 * noted: a Gateway of another controller's class is none of our business, and which class is whose is known when all documents are.
 */
#include <ctype.h>
#include <stdio.h>

#include "config/kind_local.h"

#include "mesh_abi.h"

struct raw_ref {
	struct str group, kind, name, ns;
	struct place group_at;
};

struct raw_tls {
	struct list certificates;
	struct kvs options;
	uint32_t mode;
	struct place mode_at, at;
};

struct raw_expression {
	struct str key, op;
	struct strs values;
};

struct raw_selector {
	struct kvs labels;
	struct list expressions;
	struct place at;
};

struct raw_namespaces {
	uint32_t from;
	struct raw_selector selector;
};

struct raw_allowed {
	struct raw_namespaces namespaces;
	struct list kinds;
	struct place kinds_at;
};

struct raw_listener {
	struct str name, hostname, protocol;
	int64_t port;
	struct raw_tls tls;
	struct raw_allowed allowed;
	struct place at, hostname_at;
};

struct raw_address {
	struct str type, value;
	struct place value_at;
};

struct raw_infrastructure {
	struct kvs labels, annotations;
	struct raw_ref parameters;
};

struct raw_validation {
	struct list authorities;
	uint32_t mode;
};

struct raw_frontend {
	struct raw_validation validation;
};

struct raw_port_tls {
	int64_t port;
	struct raw_frontend tls;
};

struct raw_frontends {
	struct raw_frontend otherwise;
	struct list per_port;
};

struct raw_backend_tls {
	struct raw_ref certificate;
};

struct raw_gateway_tls {
	struct raw_backend_tls backend;
	struct raw_frontends frontend;
};

struct raw_spec {
	struct str class;
	struct list listeners, addresses;
	struct raw_infrastructure infrastructure;
	struct raw_allowed allowed_listeners;
	struct raw_gateway_tls tls;
	uint32_t default_scope;
	struct place class_at;
};

struct raw_status {
	struct list addresses;
};

struct raw_gateway {
	struct raw_meta meta;
	struct raw_spec spec;
	struct raw_status status;
};

static const char *const tls_modes[] = { "Terminate", "Passthrough", NULL };
static const char *const from_names[] = { "Same", "All", "Selector", NULL };
static const char *const set_from_names[] = { "None", "All", "Selector", "Same", NULL };
static const char *const scope_names[] = { "All", "None", NULL };
static const char *const client_modes[] = { "AllowValidOnly", "AllowInsecureFallback", NULL };
enum { TLS_TERMINATE = 1, TLS_PASSTHROUGH };

static const struct field ref_fields[] = {
	F_STR("group", struct raw_ref, group, .place_offset = offsetof(struct raw_ref, group_at)),
	F_STR("kind", struct raw_ref, kind),
	F_STR("name", struct raw_ref, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_STR("namespace", struct raw_ref, ns, .flags = FIELD_NONEMPTY),
	F_END,
};
static const struct schema ref_schema = { .name = "ObjectReference",
					  .size = sizeof(struct raw_ref),
					  .fields = ref_fields };

static const struct field tls_fields[] = {
	F_ENUM("mode", struct raw_tls, mode, tls_modes, .place_offset = offsetof(struct raw_tls, mode_at)),
	F_LIST("certificateRefs", struct raw_tls, certificates, ref_schema, .max = 64),
	F_KVS("options", struct raw_tls, options),
	F_END,
};
static const struct schema tls_schema = {
	.name = "ListenerTLSConfig",
	.size = sizeof(struct raw_tls),
	.fields = tls_fields,
	.place_offset_plus1 = offsetof(struct raw_tls, at) + 1,
};

static const struct field expression_fields[] = {
	F_STR("key", struct raw_expression, key, .flags = FIELD_REQUIRED),
	F_STR("operator", struct raw_expression, op, .flags = FIELD_REQUIRED),
	F_STRS("values", struct raw_expression, values),
	F_END,
};
static const struct schema expression_schema = { .name = "LabelSelectorRequirement",
						 .size = sizeof(struct raw_expression),
						 .fields = expression_fields };

static const struct field selector_fields[] = {
	F_KVS("matchLabels", struct raw_selector, labels),
	F_LIST("matchExpressions", struct raw_selector, expressions, expression_schema),
	F_END,
};
static const struct schema selector_schema = {
	.name = "LabelSelector",
	.size = sizeof(struct raw_selector),
	.fields = selector_fields,
	.place_offset_plus1 = offsetof(struct raw_selector, at) + 1,
};

static const struct field namespaces_fields[] = {
	F_ENUM("from", struct raw_namespaces, from, from_names),
	F_OBJECT("selector", struct raw_namespaces, selector, selector_schema),
	F_END,
};
static const struct schema namespaces_schema = { .name = "RouteNamespaces",
						 .size = sizeof(struct raw_namespaces),
						 .fields = namespaces_fields };

static const struct field kind_fields[] = {
	F_STR("group", struct raw_ref, group, .place_offset = offsetof(struct raw_ref, group_at)),
	F_STR("kind", struct raw_ref, kind, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_END,
};
static const struct schema kind_schema = { .name = "RouteGroupKind",
					   .size = sizeof(struct raw_ref),
					   .fields = kind_fields };

static const struct field allowed_fields[] = {
	F_OBJECT("namespaces", struct raw_allowed, namespaces, namespaces_schema),
	F_LIST("kinds", struct raw_allowed, kinds, kind_schema, .max = 8,
	       .place_offset = offsetof(struct raw_allowed, kinds_at)),
	F_END,
};
static const struct schema allowed_schema = { .name = "AllowedRoutes",
					      .size = sizeof(struct raw_allowed),
					      .fields = allowed_fields };

static const struct field listener_fields[] = {
	F_STR("name", struct raw_listener, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_STR("hostname", struct raw_listener, hostname, .place_offset = offsetof(struct raw_listener, hostname_at)),
	F_INT("port", struct raw_listener, port, 1, 65535, .flags = FIELD_REQUIRED),
	F_STR("protocol", struct raw_listener, protocol, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_OBJECT("tls", struct raw_listener, tls, tls_schema),
	F_OBJECT("allowedRoutes", struct raw_listener, allowed, allowed_schema),
	F_END,
};
static const struct schema listener_schema = {
	.name = "Listener",
	.size = sizeof(struct raw_listener),
	.fields = listener_fields,
	.place_offset_plus1 = offsetof(struct raw_listener, at) + 1,
};

static const struct field address_fields[] = {
	F_STR("type", struct raw_address, type, .flags = FIELD_NONEMPTY),
	F_STR("value", struct raw_address, value, .place_offset = offsetof(struct raw_address, value_at)),
	F_END,
};
static const struct schema address_schema = { .name = "GatewayAddress",
					      .size = sizeof(struct raw_address),
					      .fields = address_fields };

static const struct field infrastructure_fields[] = {
	F_KVS("labels", struct raw_infrastructure, labels),
	F_KVS("annotations", struct raw_infrastructure, annotations),
	F_OBJECT("parametersRef", struct raw_infrastructure, parameters, ref_schema),
	F_END,
};
static const struct schema infrastructure_schema = { .name = "GatewayInfrastructure",
						     .size = sizeof(struct raw_infrastructure),
						     .fields = infrastructure_fields };

static const struct field set_namespaces_fields[] = {
	F_ENUM("from", struct raw_namespaces, from, set_from_names),
	F_OBJECT("selector", struct raw_namespaces, selector, selector_schema),
	F_END,
};
static const struct schema set_namespaces_schema = { .name = "ListenerNamespaces",
						     .size = sizeof(struct raw_namespaces),
						     .fields = set_namespaces_fields };
static const struct field sets_fields[] = {
	F_OBJECT("namespaces", struct raw_allowed, namespaces, set_namespaces_schema),
	F_END,
};
static const struct schema sets_schema = { .name = "AllowedListeners",
					   .size = sizeof(struct raw_allowed),
					   .fields = sets_fields };

static const struct field validation_fields[] = {
	F_LIST("caCertificateRefs", struct raw_validation, authorities, ref_schema,
	       .flags = FIELD_REQUIRED | FIELD_NONEMPTY, .max = 16),
	F_ENUM("mode", struct raw_validation, mode, client_modes),
	F_END,
};
static const struct schema validation_schema = { .name = "FrontendTLSValidation",
						 .size = sizeof(struct raw_validation),
						 .fields = validation_fields };
static const struct field frontend_fields[] = {
	F_OBJECT("validation", struct raw_frontend, validation, validation_schema),
	F_END,
};
static const struct schema frontend_schema = { .name = "TLSConfig",
					       .size = sizeof(struct raw_frontend),
					       .fields = frontend_fields };
static const struct field port_tls_fields[] = {
	F_INT("port", struct raw_port_tls, port, 1, 65535, .flags = FIELD_REQUIRED),
	F_OBJECT("tls", struct raw_port_tls, tls, frontend_schema, .flags = FIELD_REQUIRED),
	F_END,
};
static const struct schema port_tls_schema = { .name = "TLSPortConfig",
					       .size = sizeof(struct raw_port_tls),
					       .fields = port_tls_fields };
static const struct field frontends_fields[] = {
	F_OBJECT("default", struct raw_frontends, otherwise, frontend_schema, .flags = FIELD_REQUIRED),
	F_LIST("perPort", struct raw_frontends, per_port, port_tls_schema, .max = 64),
	F_END,
};
static const struct schema frontends_schema = { .name = "FrontendTLSConfig",
						.size = sizeof(struct raw_frontends),
						.fields = frontends_fields };
static const struct field backend_tls_fields[] = {
	F_OBJECT("clientCertificateRef", struct raw_backend_tls, certificate, ref_schema),
	F_END,
};
static const struct schema backend_tls_schema = { .name = "GatewayBackendTLS",
						  .size = sizeof(struct raw_backend_tls),
						  .fields = backend_tls_fields };
static const struct field gateway_tls_fields[] = {
	F_OBJECT("backend", struct raw_gateway_tls, backend, backend_tls_schema),
	F_OBJECT("frontend", struct raw_gateway_tls, frontend, frontends_schema),
	F_END,
};
static const struct schema gateway_tls_schema = { .name = "GatewayTLSConfig",
						  .size = sizeof(struct raw_gateway_tls),
						  .fields = gateway_tls_fields };

static const struct field spec_fields[] = {
	F_STR("gatewayClassName", struct raw_spec, class, .flags = FIELD_REQUIRED | FIELD_NONEMPTY,
	      .place_offset = offsetof(struct raw_spec, class_at)),
	F_LIST("listeners", struct raw_spec, listeners, listener_schema, .flags = FIELD_REQUIRED | FIELD_NONEMPTY,
	       .max = 64),
	F_LIST("addresses", struct raw_spec, addresses, address_schema, .max = 16),
	F_OBJECT("infrastructure", struct raw_spec, infrastructure, infrastructure_schema),
	F_OBJECT("allowedListeners", struct raw_spec, allowed_listeners, sets_schema),
	F_OBJECT("tls", struct raw_spec, tls, gateway_tls_schema),
	F_ENUM("defaultScope", struct raw_spec, default_scope, scope_names),
	F_END,
};
static const struct schema spec_schema = { .name = "GatewaySpec",
					   .size = sizeof(struct raw_spec),
					   .fields = spec_fields };

static const struct field status_fields[] = {
	F_LIST("addresses", struct raw_status, addresses, address_schema, .max = 16),
	/* For people. */
	F_INERT("conditions", FIELD_LIST),
	F_INERT("listeners", FIELD_LIST),
	F_INERT("attachedListenerSets", FIELD_INT),
	F_END,
};
static const struct schema status_schema = { .name = "GatewayStatus",
					     .size = sizeof(struct raw_status),
					     .fields = status_fields };

static const struct field gateway_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_gateway, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_gateway, spec, spec_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("status", struct raw_gateway, status, status_schema),
	F_END,
};
static const struct schema gateway_schema = { .name = "Gateway",
					      .size = sizeof(struct raw_gateway),
					      .fields = gateway_fields };

/* ---- what is in order, but not enforced ---- */

#define NOTED_REST 4 /* beside listeners and addresses, which have one each */

static void not_enforced(const struct check *c, struct m_gateway *g, const char *path, const char *why)
{
	const struct ynode *n = check_node(c, path);

	g->noted[g->noted_nr++] = (struct m_noted){
		.field = arena_str(c->d->arena, str_of(path)),
		.message = str_of(why),
		.at = n ? (struct place){ n->line, n->column } : (struct place){ 0 },
	};
}

/* ---- listeners ---- */

static bool is_protocol(struct str s)
{
	int slash = str_find(s, '/');
	struct str name = slash < 0 ? s : str_sub(s, (uint32_t)slash + 1, s.len);

	if (slash >= 0 && dns_subdomain_bad(str_sub(s, 0, (uint32_t)slash)))
		return false;
	for (uint32_t i = 0; i < name.len; i++)
		if (!isalnum((unsigned char)name.p[i]) && (slash >= 0 || name.p[i] != '-' || !i || i == name.len - 1))
			return false;
	return name.len && s.len <= 255;
}

static bool needs_bytes(struct str protocol)
{
	return str_is(protocol, "HTTPS") || str_is(protocol, "TLS");
}

static void check_tls(const struct check *c, const struct raw_listener *r, uint32_t i)
{
	const struct raw_tls *t = &r->tls;
	struct str p = r->protocol;
	bool given = t->at.line;

	if (given && (str_is(p, "HTTP") || str_is(p, "TCP") || str_is(p, "UDP")))
		check_fail(c, STR("must not be specified for protocols HTTP, TCP and UDP"), NULL,
			   "spec.listeners[%u].tls", i);
	else if (given && str_is(p, "HTTPS") && t->mode == TLS_PASSTHROUGH)
		check_fail(c, STR("must be Terminate for protocol HTTPS"), NULL, "spec.listeners[%u].tls.mode", i);
	else if (!given && str_is(p, "TLS"))
		check_fail(c, STR("tls.mode must be set for protocol TLS"), NULL, "spec.listeners[%u].tls", i);
	if (given && t->mode <= TLS_TERMINATE && !t->certificates.nr && !t->options.nr)
		check_fail(c, STR("certificateRefs or options must be specified when the mode is Terminate"), NULL,
			   "spec.listeners[%u].tls", i);
}

static void check_listener(const struct check *c, const struct raw_spec *spec, uint32_t i)
{
	const struct raw_listener *r = LIST_AT(spec->listeners, struct raw_listener, i);
	struct str host = r->hostname;
	const char *bad = dns_subdomain_bad(r->name);

	if (r->name.len && bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->name), bad), NULL, "spec.listeners[%u].name", i);
	if (r->protocol.len && !is_protocol(r->protocol))
		check_fail(c,
			   CHECK_TEXT(c, "\"%.*s\" is not a protocol: a name, or one behind a domain and \"/\"",
				      STR_ARG(r->protocol)),
			   "HTTP, HTTPS, TLS, TCP or UDP", "spec.listeners[%u].protocol", i);
	bad = dns_subdomain_bad(str_starts(host, STR("*.")) ? str_sub(host, 2, host.len) : host);
	if (r->hostname_at.line && (str_is(r->protocol, "TCP") || str_is(r->protocol, "UDP")) && host.len)
		check_fail(c, STR("must not be specified for protocols TCP and UDP"), NULL,
			   "spec.listeners[%u].hostname", i);
	else if (r->hostname_at.line && bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(host), bad), NULL, "spec.listeners[%u].hostname", i);
	check_tls(c, r, i);
	for (uint32_t k = 0; k < i; k++) {
		const struct raw_listener *q = LIST_AT(spec->listeners, struct raw_listener, k);

		if (str_eq(r->name, q->name))
			check_fail(c, CHECK_TEXT(c, "duplicate listener name \"%.*s\"", STR_ARG(r->name)), NULL,
				   "spec.listeners[%u].name", i);
		if (r->port == q->port && str_eq(r->protocol, q->protocol) && str_eq(r->hostname, q->hostname))
			check_fail(c, STR("port, protocol and hostname must differ from those of other listeners"),
				   NULL, "spec.listeners[%u]", i);
	}
}

static const char *expression_bad(const struct raw_expression *r, enum label_op *ret)
{
	static const char *const ops[] = {
		[LABEL_IN] = "In", [LABEL_NOT_IN] = "NotIn", [LABEL_EXISTS] = "Exists", [LABEL_ABSENT] = "DoesNotExist"
	};

	for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
		if (!str_is(r->op, ops[i]))
			continue;
		*ret = (enum label_op)i;
		if (i <= LABEL_NOT_IN && !r->values.nr)
			return "must have values for In and NotIn";
		if (i > LABEL_NOT_IN && r->values.nr)
			return "must have no values for Exists and DoesNotExist";
		return label_key_bad(r->key) ? "must have a label's key" : NULL;
	}
	return "must have an operator In, NotIn, Exists or DoesNotExist";
}

static void fill_selector(const struct check *c, const struct raw_selector *raw, const char *base, struct m_selector *s)
{
	char path[160];

	s->labels = raw->labels;
	s->terms = arena_array(c->d->arena, raw->expressions.nr, sizeof(*s->terms));
	s->term_nr = raw->expressions.nr;
	snprintf(path, sizeof(path), "%s.matchLabels", base);
	check_labels(c, &raw->labels, path);
	for (uint32_t i = 0; i < s->term_nr; i++) {
		const struct raw_expression *r = LIST_AT(raw->expressions, struct raw_expression, i);
		const char *bad = expression_bad(r, &s->terms[i].op);

		s->terms[i].key = r->key;
		s->terms[i].values = r->values;
		if (bad)
			check_fail(c, CHECK_TEXT(c, "an expression %s", bad), NULL, "%s.matchExpressions[%u]", base, i);
	}
}

static bool takes_kind(const struct check *c, const struct raw_allowed *a, const char *kind, const char *base)
{
	bool takes = !a->kinds_at.line;

	for (uint32_t i = 0; i < a->kinds.nr; i++) {
		const struct raw_ref *r = LIST_AT(a->kinds, struct raw_ref, i);
		struct str group = r->group_at.line ? r->group : STR(GATEWAY_GROUP);

		if (group_name_bad(group))
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(group), group_name_bad(group)), NULL,
				   "%s.kinds[%u].group", base, i);
		if (kind_name_bad(r->kind))
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->kind), kind_name_bad(r->kind)), NULL,
				   "%s.kinds[%u].kind", base, i);
		takes |= str_is(group, GATEWAY_GROUP) && str_is(r->kind, kind);
	}
	return takes;
}

static void fill_listener(const struct check *c, const struct raw_spec *spec, uint32_t i, struct m_gateway *g)
{
	const struct raw_listener *r = LIST_AT(spec->listeners, struct raw_listener, i);
	struct m_listener *l = &g->listeners[i];
	char path[128];

	*l = (struct m_listener){ .name = r->name, .port = (uint16_t)r->port, .at = r->at };
	l->from = r->allowed.namespaces.from ? (enum route_from)(r->allowed.namespaces.from - 1) : ROUTES_SAME;
	if (str_is(r->protocol, "TCP"))
		l->proto = MESH_PROTO_TCP;
	if (str_is(r->protocol, "UDP"))
		l->proto = MESH_PROTO_UDP;
	if (str_is(r->protocol, "HTTP")) {
		l->proto = MESH_PROTO_TCP;
		l->http = true;
		l->hostname = r->hostname;
	}
	l->has_selector = r->allowed.namespaces.selector.at.line;
	snprintf(path, sizeof(path), "spec.listeners[%u].allowedRoutes.namespaces.selector", i);
	fill_selector(c, &r->allowed.namespaces.selector, path, &l->selector);
	snprintf(path, sizeof(path), "spec.listeners[%u].allowedRoutes", i);
	l->takes = takes_kind(c, &r->allowed,
			      l->http			   ? "HTTPRoute"
			      : l->proto == MESH_PROTO_UDP ? "UDPRoute"
							   : "TCPRoute",
			      path);
	check_listener(c, spec, i);
	snprintf(path, sizeof(path), "spec.listeners[%u].protocol", i);
	if (needs_bytes(r->protocol))
		not_enforced(c, g, path, "a listener of this protocol needs a proxy that reads the bytes");
	else if (!l->proto)
		not_enforced(c, g, path, "HTTP, TCP and UDP are enforced, protocols of others are not");
}

/* ---- addresses ---- */

static bool addr_type_is(const struct raw_address *r, const char *type)
{
	return r->type.len ? str_is(r->type, type) : !strcmp(type, "IPAddress");
}

static void check_address(const struct check *c, const struct list *all, uint32_t i)
{
	const struct raw_address *r = LIST_AT(*all, struct raw_address, i);
	struct str host = str_starts(r->value, STR("*.")) ? str_sub(r->value, 2, r->value.len) : r->value;
	bool known = addr_type_is(r, "IPAddress") || addr_type_is(r, "Hostname") || addr_type_is(r, "NamedAddress");

	if (!known && str_find(r->type, '/') < 0)
		check_fail(c, CHECK_TEXT(c, "unknown type of address \"%.*s\"", STR_ARG(r->type)),
			   "IPAddress, Hostname, or one behind a domain and \"/\"", "spec.addresses[%u].type", i);
	if (addr_type_is(r, "Hostname") && host.len && dns_subdomain_bad(host))
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->value), dns_subdomain_bad(host)), NULL,
			   "spec.addresses[%u].value", i);
	for (uint32_t k = 0; k < i && r->value_at.line; k++) {
		const struct raw_address *q = LIST_AT(*all, struct raw_address, k);
		bool same = addr_type_is(r, "IPAddress") ? addr_type_is(q, "IPAddress")
							 : addr_type_is(r, "Hostname") && addr_type_is(q, "Hostname");

		if (same && q->value_at.line && str_eq(q->value, r->value))
			check_fail(c, CHECK_TEXT(c, "duplicate address \"%.*s\"", STR_ARG(r->value)), NULL,
				   "spec.addresses[%u].value", i);
	}
}

static void add_address(const struct check *c, const struct raw_address *r, struct m_gateway *g, const char *list,
			uint32_t i)
{
	char path[64];
	struct addr a;

	snprintf(path, sizeof(path), "%s[%u].value", list, i);
	if (!addr_parse(r->value, &a))
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" is not an IP address", STR_ARG(r->value)), NULL, "%s", path);
	else if (special_addr_bad(&a))
		not_enforced(c, g, path,
			     "an address that is no Gateway's own: unspecified, loopback, link-local, multicast");
	else
		g->addrs[g->addr_nr++] = a;
}

/* What was asked for; where nothing was, what somebody gave. */
static void fill_addresses(const struct check *c, const struct raw_gateway *raw, struct m_gateway *g)
{
	const struct list *asked = &raw->spec.addresses, *given = &raw->status.addresses;
	char path[64];

	g->addrs = arena_array(c->d->arena, asked->nr + given->nr, sizeof(*g->addrs));
	for (uint32_t i = 0; i < asked->nr; i++) {
		const struct raw_address *r = LIST_AT(*asked, struct raw_address, i);

		check_address(c, asked, i);
		snprintf(path, sizeof(path), "spec.addresses[%u]", i);
		if (!addr_type_is(r, "IPAddress"))
			not_enforced(c, g, path, "addresses other than IPAddress");
		else if (!r->value_at.line)
			not_enforced(c, g, path, "an address of any value: there is nobody who would choose one");
		else
			add_address(c, r, g, "spec.addresses", i);
	}
	for (uint32_t i = 0; i < given->nr && !asked->nr; i++) {
		const struct raw_address *r = LIST_AT(*given, struct raw_address, i);

		if (addr_type_is(r, "IPAddress") && r->value.len)
			add_address(c, r, g, "status.addresses", i);
	}
}

static void check_rest(const struct check *c, const struct raw_spec *spec, struct m_gateway *g)
{
	const struct list *ports = &spec->tls.frontend.per_port;
	const struct raw_infrastructure *in = &spec->infrastructure;

	if (spec->class.len > 253)
		check_fail(c, STR("must have at most 253 characters"), NULL, "spec.gatewayClassName");
	for (uint32_t i = 0; i < in->annotations.nr; i++)
		if (in->annotations.v[i].val.len > 4096 || label_key_bad(in->annotations.v[i].key))
			check_fail_key(c, STR("must have the key of a label and at most 4096 characters"), NULL,
				       in->annotations.v[i].key, "spec.infrastructure.annotations");
	if (in->labels.nr > 8)
		check_fail(c, STR("must have at most 8 entries"), NULL, "spec.infrastructure.labels");
	if (in->annotations.nr > 16)
		check_fail(c, STR("must have at most 16 entries"), NULL, "spec.infrastructure.annotations");
	check_labels(c, &in->labels, "spec.infrastructure.labels");
	for (uint32_t i = 0; i < ports->nr; i++)
		for (uint32_t k = 0; k < i; k++)
			if (LIST_AT(*ports, struct raw_port_tls, i)->port ==
			    LIST_AT(*ports, struct raw_port_tls, k)->port)
				check_fail(c, STR("duplicate port"), NULL, "spec.tls.frontend.perPort[%u].port", i);
	if (in->parameters.name.len)
		not_enforced(c, g, "spec.infrastructure.parametersRef", "there are no parameters of a gateway");
	if (spec->allowed_listeners.namespaces.from > 1)
		not_enforced(c, g, "spec.allowedListeners", "listeners of ListenerSets");
	if (check_has(c, "spec.tls"))
		not_enforced(c, g, "spec.tls", "TLS");
	if (spec->default_scope == 1)
		not_enforced(c, g, "spec.defaultScope", "default gateways");
}

bool decode_gateway(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_gateway raw = { 0 };
	struct m_gateway *g = arena_new(d->arena, struct m_gateway);
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &gateway_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_SUBDOMAIN, doc, &c);
	doc->gw = g;
	g->class = raw.spec.class;
	g->class_at = raw.spec.class_at;
	g->noted = arena_array(d->arena,
			       raw.spec.listeners.nr + raw.spec.addresses.nr + raw.status.addresses.nr + NOTED_REST,
			       sizeof(*g->noted));
	g->listeners = arena_array(d->arena, raw.spec.listeners.nr, sizeof(*g->listeners));
	g->listener_nr = raw.spec.listeners.nr;
	for (uint32_t i = 0; i < g->listener_nr; i++)
		fill_listener(&c, &raw.spec, i, g);
	fill_addresses(&c, &raw, g);
	check_rest(&c, &raw.spec, g);
	return d->errors == before;
}
