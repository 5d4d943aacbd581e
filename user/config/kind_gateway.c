/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Istio Gateway: servers of protocols TCP, HTTP, also such as redirect to https, and TLS that is passed on. Everything else is refused by name.
 */
#include <strings.h>

#include "config/kind_http.h"

#define NEEDS_L7 "needs a proxy that reads the bytes"
#define ENDS_TLS "TLS that ends at the gateway"

struct raw_port {
	struct str name, protocol;
	int64_t number, target;
	struct place target_at;
};

struct raw_tls {
	bool redirect;
	uint32_t mode; /* in `modes`, from 1 on; 0: not given */
};

struct raw_server {
	struct raw_port port;
	struct strs hosts;
	struct raw_tls *tls;
	struct place at;
};

struct raw_spec {
	struct kvs selector;
	struct list servers;
};

struct raw_gateway {
	struct raw_meta meta;
	struct raw_spec spec;
};

static const struct field port_fields[] = {
	F_INT("number", struct raw_port, number, 1, 65535, .flags = FIELD_REQUIRED),
	F_STR("protocol", struct raw_port, protocol, .flags = FIELD_REQUIRED),
	F_STR("name", struct raw_port, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_INT("targetPort", struct raw_port, target, 0, U32_MAX_INT,
	      .place_offset = offsetof(struct raw_port, target_at)),
	F_END,
};
static const struct schema port_schema = { .name = "Port", .size = sizeof(struct raw_port), .fields = port_fields };

static const char *const modes[] = { "PASSTHROUGH",  "SIMPLE",		"MUTUAL", "AUTO_PASSTHROUGH",
				     "ISTIO_MUTUAL", "OPTIONAL_MUTUAL", NULL };
enum { MODE_PASSTHROUGH = 1 };

static const struct field tls_fields[] = {
	F_BOOL("httpsRedirect", struct raw_tls, redirect),
	F_ENUM("mode", struct raw_tls, mode, modes),
	F_REFUSED("serverCertificate", ENDS_TLS),
	F_REFUSED("privateKey", ENDS_TLS),
	F_REFUSED("caCertificates", ENDS_TLS),
	F_REFUSED("caCrl", ENDS_TLS),
	F_REFUSED("credentialName", ENDS_TLS),
	F_REFUSED("credentialNames", ENDS_TLS),
	F_REFUSED("caCertCredentialName", ENDS_TLS),
	F_REFUSED("tlsCertificates", ENDS_TLS),
	F_REFUSED("subjectAltNames", ENDS_TLS),
	F_REFUSED("verifyCertificateSpki", ENDS_TLS),
	F_REFUSED("verifyCertificateHash", ENDS_TLS),
	F_REFUSED("minProtocolVersion", ENDS_TLS),
	F_REFUSED("maxProtocolVersion", ENDS_TLS),
	F_REFUSED("cipherSuites", ENDS_TLS),
	F_REFUSED("insecureSkipVerify", ENDS_TLS),
	F_END,
};
static const struct schema tls_schema = { .name = "ServerTLSSettings",
					  .size = sizeof(struct raw_tls),
					  .fields = tls_fields };

static const struct field server_fields[] = {
	F_OBJECT("port", struct raw_server, port, port_schema, .flags = FIELD_REQUIRED),
	F_STRS("hosts", struct raw_server, hosts, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	/* For logs and for names of routes in Envoy. */
	F_INERT("name", FIELD_STR),
	F_REFUSED("bind", "listening on one address only"),
	F_REFUSED("defaultEndpoint", "neither is it by Istio"),
	F_OBJECT_PTR("tls", struct raw_server, tls, tls_schema),
	F_END,
};
static const struct schema server_schema = {
	.name = "Server",
	.size = sizeof(struct raw_server),
	.fields = server_fields,
	.place_offset_plus1 = offsetof(struct raw_server, at) + 1,
};

static const struct field spec_fields[] = {
	F_KVS("selector", struct raw_spec, selector),
	F_LIST("servers", struct raw_spec, servers, server_schema, .flags = FIELD_REQUIRED | FIELD_NONEMPTY,
	       .max = ITEMS_MAX),
	F_END,
};
static const struct schema spec_schema = { .name = "Gateway", .size = sizeof(struct raw_spec), .fields = spec_fields };

static const struct field gateway_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_gateway, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_gateway, spec, spec_schema, .flags = FIELD_REQUIRED),
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema gateway_schema = {
	.name = "Gateway",
	.size = sizeof(struct raw_gateway),
	.fields = gateway_fields,
};

/* "ns/host", "./host", "*" + "/host" or "host"; hosts are full names, "*", "*.domain" or addresses. */
static const char *host_bad(struct str s)
{
	int slash = str_find(s, '/');
	struct str ns = slash < 0 ? STR("*") : str_sub(s, 0, (uint32_t)slash);
	struct str host = slash < 0 ? s : str_sub(s, (uint32_t)slash + 1, s.len);

	if (!str_is(ns, "*") && !str_is(ns, ".") && istio_label_bad(ns))
		return "must have \"*\", \".\" or a namespace before the \"/\"";
	if (text_is_ip(host))
		return NULL;
	if (host_is_partial_wildcard(host))
		return "must not have a wildcard that is only a part of a label";
	if (!str_is(host, "*") && str_find(host, '.') < 0)
		return "must be a full domain name, not a short one";
	return wildcard_domain_bad(host);
}

/* HTTP/1. */
static bool is_http(struct str protocol)
{
	return protocol.len == 4 && !strncasecmp(protocol.p, "http", 4);
}

static bool is_tls(struct str protocol)
{
	return app_protocol_parse(protocol) == APP_TLS;
}

/* Connections of TLS are passed on, or not at all. */
static void check_mode(const struct check *c, const struct raw_server *r, uint32_t i)
{
	bool given = r->tls && r->tls->mode;

	if (!is_tls(r->port.protocol)) {
		if (given)
			check_fail(c, STR("is for servers of protocol TLS or HTTPS only"), NULL,
				   "spec.servers[%u].tls.mode", i);
	} else if (!r->tls) {
		check_fail(c, STR("a server of protocol TLS or HTTPS must have tls"), NULL, "spec.servers[%u]", i);
	} else if (r->tls->redirect) {
		check_fail(c, STR("is for servers of protocol HTTP only"), NULL, "spec.servers[%u].tls.httpsRedirect",
			   i);
	} else if (r->tls->mode != MODE_PASSTHROUGH) {
		check_fail(c, STR("not enforced yet: " ENDS_TLS), "mode PASSTHROUGH is enforced",
			   given ? "spec.servers[%u].tls.mode" : "spec.servers[%u].tls", i);
	}
}

static void check_protocol(const struct check *c, struct str protocol, uint32_t i)
{
	switch (app_protocol_parse(protocol)) {
	case APP_TCP:
	case APP_TLS:
		return;
	case APP_UDP:
		check_fail(c, STR("not enforced yet: a server of protocol UDP"), "HTTP, TLS and TCP are enforced",
			   "spec.servers[%u].port.protocol", i);
		return;
	case APP_UNKNOWN:
		check_fail(c, CHECK_TEXT(c, "unknown protocol \"%.*s\"", STR_ARG(protocol)),
			   "HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP or TLS", "spec.servers[%u].port.protocol",
			   i);
		return;
	default:
		if (is_http(protocol))
			return;
		check_fail(c, CHECK_TEXT(c, "not enforced yet: a server of protocol %.*s " NEEDS_L7, STR_ARG(protocol)),
			   "HTTP, TLS and TCP are enforced", "spec.servers[%u].port.protocol", i);
	}
}

/* The rule that every request of a server gets which redirects; NULL: it does not. */
static const struct m_rule *redirect_of(const struct check *c, const struct raw_server *r, uint32_t i)
{
	struct m_http_rule *more;
	struct m_rule *rule;

	if (!r->tls)
		return NULL;
	/* Other protocols are refused by themselves. */
	if (app_protocol_parse(r->port.protocol) == APP_TCP)
		check_fail(c, STR("is for servers of protocol HTTP only, where it may have httpsRedirect"), NULL,
			   "spec.servers[%u].tls", i);
	if (!r->tls->redirect)
		return NULL;
	more = arena_new(c->d->arena, struct m_http_rule);
	more->action = MESH_HTTP_REDIRECT;
	more->redirect = (struct m_http_redirect){ .scheme = STR("https"), .status = 301 };
	more->acts = true;
	rule = arena_new(c->d->arena, struct m_rule);
	*rule = (struct m_rule){ .http = true, .index = i, .more = more, .at = r->at };
	return rule;
}

/*
 * Servers of one port speak one protocol. TLS and others are told apart by the first bytes of each connection, which is not done yet; of HTTP
 * and TCP nobody could say whose a connection is, so that the first would take them all.
 */
static void check_neighbours(const struct check *c, const struct m_istio_gateway *g, uint32_t i)
{
	const struct m_gateway_server *s = &g->servers[i], *o = g->servers;

	while (o->port != s->port)
		o++;
	if (o->tls != s->tls)
		check_fail(c, STR("not enforced yet: servers of TLS and of other protocols at one port"), NULL,
			   "spec.servers[%u].port", i);
	else if (o->http != s->http)
		check_fail(c,
			   CHECK_TEXT(c, "conflicts with spec.servers[%u], which has the port for %s",
				      (uint32_t)(o - g->servers), o->http ? "HTTP" : "TCP"),
			   "servers of HTTP and of TCP need a port each", "spec.servers[%u].port", i);
}

bool decode_istio_gateway(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_gateway raw = { 0 };
	struct m_istio_gateway *g = arena_new(d->arena, struct m_istio_gateway);
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &gateway_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_ISTIO, doc, &c);
	doc->gateway = g;
	if (raw.meta.name.len && istio_label_bad(raw.meta.name))
		check_fail(&c, CHECK_TEXT(&c, "\"%.*s\" %s", STR_ARG(raw.meta.name), istio_label_bad(raw.meta.name)),
			   NULL, "metadata.name");
	g->selector = raw.spec.selector;
	g->selector_at = place_of_selector(&c, &doc->meta, "spec.selector");
	g->servers = arena_array(d->arena, raw.spec.servers.nr, sizeof(*g->servers));
	g->server_nr = raw.spec.servers.nr;
	for (uint32_t i = 0; i < g->server_nr; i++) {
		const struct raw_server *r = LIST_AT(raw.spec.servers, struct raw_server, i);

		g->servers[i] = (struct m_gateway_server){
			.port = r->port.number,
			.port_name = r->port.name,
			.hosts = r->hosts,
			.at = r->at,
			.http = is_http(r->port.protocol),
			.tls = is_tls(r->port.protocol),
			.redirect = redirect_of(&c, r, i),
		};
		check_protocol(&c, r->port.protocol, i);
		check_mode(&c, r, i);
		if (r->port.target)
			check_fail(&c, STR("has no effect on a Gateway"), NULL, "spec.servers[%u].port.targetPort", i);
		for (uint32_t j = 0; j < r->hosts.nr; j++) {
			const char *bad = host_bad(r->hosts.v[j]);

			if (bad)
				check_fail(&c, CHECK_TEXT(&c, "\"%.*s\" %s", STR_ARG(r->hosts.v[j]), bad), NULL,
					   "spec.servers[%u].hosts[%u]", i, j);
		}
		check_neighbours(&c, g, i);
		for (uint32_t j = 0; j < i; j++) {
			if (!str_eq(r->port.name, g->servers[j].port_name))
				continue;
			check_fail(&c, CHECK_TEXT(&c, "duplicate port name \"%.*s\"", STR_ARG(r->port.name)), NULL,
				   "spec.servers[%u].port.name", i);
			break;
		}
	}
	return d->errors == before;
}
