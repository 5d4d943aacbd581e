/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http: rules of a VirtualService: which requests they are for, and what becomes of these. What can be decided without the bytes of a
 * request is in struct m_rule, as with tcp: rules, the rest in struct m_http_rule beside it.
 */
#include <stdio.h>

#include "config/kind_traffic.h"
#include "config/kind_vs.h"

struct raw_http_match {
	struct raw_match l4; /* first */
	struct raw_text *uri, *scheme, *method, *authority;
	struct list headers, without, queries;
	bool ignore_case;
};

struct raw_http_route {
	struct raw_destination destination;
	int64_t weight;
	struct raw_headers *headers;
	struct place at;
};

struct raw_mirror {
	struct raw_destination destination;
	struct raw_percent *percentage;
	struct place at;
};

struct raw_delegate {
	struct str name, ns;
	struct place at;
};

struct raw_http_rule {
	struct str name;
	struct list matches, routes, mirrors;
	struct raw_redirect *redirect;
	struct raw_direct *direct;
	struct raw_delegate *delegate;
	struct raw_rewrite *rewrite;
	struct raw_retries *retries;
	struct raw_fault *fault;
	struct raw_destination *mirror;
	struct raw_percent *mirror_percentage;
	struct raw_cors *cors;
	struct raw_headers *headers;
	int64_t timeout, mirror_percent;
	struct place at, timeout_at, mirror_percent_at;
};

static const struct field route_fields[] = {
	F_OBJECT("destination", struct raw_http_route, destination, vs_destination_schema, .flags = FIELD_REQUIRED),
	F_INT("weight", struct raw_http_route, weight, 0, I32_MAX_INT),
	F_OBJECT_PTR("headers", struct raw_http_route, headers, headers_schema),
	F_END,
};
static const struct schema route_schema = {
	.name = "HTTPRouteDestination",
	.size = sizeof(struct raw_http_route),
	.fields = route_fields,
	.place_offset_plus1 = offsetof(struct raw_http_route, at) + 1,
};

static const struct field match_fields[] = {
	F_INT("port", struct raw_match, port, 0, U32_MAX_INT, .place_offset = offsetof(struct raw_match, port_at)),
	F_KVS("sourceLabels", struct raw_match, source_labels),
	F_STRS("gateways", struct raw_match, gateways),
	F_STR("sourceNamespace", struct raw_match, source_ns),
	/* Labels for logs and metrics of Istio. */
	F_INERT("name", FIELD_STR),
	F_INERT("statPrefix", FIELD_STR),
	F_OBJECT_PTR("uri", struct raw_http_match, uri, text_schema),
	F_OBJECT_PTR("scheme", struct raw_http_match, scheme, text_schema),
	F_OBJECT_PTR("method", struct raw_http_match, method, text_schema),
	F_OBJECT_PTR("authority", struct raw_http_match, authority, text_schema),
	F_MAP("headers", struct raw_http_match, headers, text_schema),
	F_MAP("withoutHeaders", struct raw_http_match, without, text_schema),
	F_MAP("queryParams", struct raw_http_match, queries, text_schema),
	F_BOOL("ignoreUriCase", struct raw_http_match, ignore_case),
	F_END,
};
static const struct schema match_schema = {
	.name = "HTTPMatchRequest",
	.size = sizeof(struct raw_http_match),
	.fields = match_fields,
	.place_offset_plus1 = offsetof(struct raw_match, at) + 1,
};

static const struct field mirror_fields[] = {
	F_OBJECT("destination", struct raw_mirror, destination, vs_destination_schema, .flags = FIELD_REQUIRED),
	F_OBJECT_PTR("percentage", struct raw_mirror, percentage, percent_schema),
	F_END,
};
static const struct schema mirror_schema = {
	.name = "HTTPMirrorPolicy",
	.size = sizeof(struct raw_mirror),
	.fields = mirror_fields,
	.place_offset_plus1 = offsetof(struct raw_mirror, at) + 1,
};

static const struct field delegate_fields[] = {
	F_STR("name", struct raw_delegate, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY,
	      .place_offset = offsetof(struct raw_delegate, at)),
	F_STR("namespace", struct raw_delegate, ns),
	F_END,
};
static const struct schema delegate_schema = {
	.name = "Delegate",
	.size = sizeof(struct raw_delegate),
	.fields = delegate_fields,
};

#define MIRROR_PERCENT(name)                                              \
	F_INT(name, struct raw_http_rule, mirror_percent, 0, U32_MAX_INT, \
	      .place_offset = offsetof(struct raw_http_rule, mirror_percent_at))

static const struct field http_fields[] = {
	F_STR("name", struct raw_http_rule, name),
	F_LIST("match", struct raw_http_rule, matches, match_schema, .max = ITEMS_MAX),
	F_LIST("route", struct raw_http_rule, routes, route_schema),
	F_OBJECT_PTR("redirect", struct raw_http_rule, redirect, redirect_schema),
	F_OBJECT_PTR("directResponse", struct raw_http_rule, direct, direct_schema),
	F_OBJECT_PTR("delegate", struct raw_http_rule, delegate, delegate_schema),
	F_OBJECT_PTR("rewrite", struct raw_http_rule, rewrite, rewrite_schema),
	F("timeout", FIELD_DURATION, struct raw_http_rule, timeout,
	  .place_offset = offsetof(struct raw_http_rule, timeout_at)),
	F_OBJECT_PTR("retries", struct raw_http_rule, retries, retries_schema),
	F_OBJECT_PTR("fault", struct raw_http_rule, fault, fault_schema),
	F_OBJECT_PTR("mirror", struct raw_http_rule, mirror, vs_destination_schema),
	F_LIST("mirrors", struct raw_http_rule, mirrors, mirror_schema, .max = ITEMS_MAX),
	F_OBJECT_PTR("mirrorPercentage", struct raw_http_rule, mirror_percentage, percent_schema),
	MIRROR_PERCENT("mirrorPercent"),
	MIRROR_PERCENT("mirror_percent"),
	F_OBJECT_PTR("corsPolicy", struct raw_http_rule, cors, cors_schema),
	F_OBJECT_PTR("headers", struct raw_http_rule, headers, headers_schema),
	F_END,
};
const struct schema vs_http_schema = {
	.name = "HTTPRoute",
	.size = sizeof(struct raw_http_rule),
	.fields = http_fields,
	.place_offset_plus1 = offsetof(struct raw_http_rule, at) + 1,
};

/* ---- matches ---- */

static void fill_named(const struct check *c, const struct list *raw, const char *base, bool header, bool invert,
		       struct m_http_named *v)
{
	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_text *r = LIST_AT(*raw, struct raw_text, i);
		struct str name = header ? http_lower(c->d->arena, r->key) : r->key;
		const char *bad = header ? http_name_bad(name) : name.len ? NULL : "must not be empty";
		char path[512];

		snprintf(path, sizeof(path), "%s[%.*s]", base, STR_ARG(r->key));
		v[i].name = name;
		http_text_fill(c, r, true, path, &v[i].value);
		v[i].value.invert = invert;
		if (header && str_starts(name, STR("@request.")))
			bad = "not enforced yet: claims of tokens";
		else if (header && name.len && name.p[0] == ':')
			bad = "is no header; uri, method, scheme and authority have fields of their own";
		if (bad)
			check_fail_key(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->key), bad), NULL, r->key, "%s", base);
	}
}

static void fill_match(const struct check *c, const struct raw_http_match *raw, const char *base,
		       struct m_http_match *m)
{
	char path[128];

	snprintf(path, sizeof(path), "%s.uri", base);
	http_text_fill(c, raw->uri, false, path, &m->path);
	m->path.ignore_case = raw->ignore_case && (m->path.kind == MESH_TEXT_EXACT || m->path.kind == MESH_TEXT_PREFIX);
	snprintf(path, sizeof(path), "%s.scheme", base);
	http_text_fill(c, raw->scheme, false, path, &m->scheme);
	snprintf(path, sizeof(path), "%s.method", base);
	http_text_fill(c, raw->method, false, path, &m->method);
	snprintf(path, sizeof(path), "%s.authority", base);
	http_text_fill(c, raw->authority, false, path, &m->authority);
	m->header_nr = raw->headers.nr + raw->without.nr;
	m->headers = arena_array(c->d->arena, m->header_nr, sizeof(*m->headers));
	snprintf(path, sizeof(path), "%s.headers", base);
	fill_named(c, &raw->headers, path, true, false, m->headers);
	snprintf(path, sizeof(path), "%s.withoutHeaders", base);
	fill_named(c, &raw->without, path, true, true, m->headers + raw->headers.nr);
	m->query_nr = raw->queries.nr;
	m->queries = arena_array(c->d->arena, m->query_nr, sizeof(*m->queries));
	snprintf(path, sizeof(path), "%s.queryParams", base);
	fill_named(c, &raw->queries, path, false, false, m->queries);
	if (raw->l4.source_ns.len && istio_label_bad(raw->l4.source_ns))
		check_fail(c,
			   CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(raw->l4.source_ns), istio_label_bad(raw->l4.source_ns)),
			   NULL, "%s.sourceNamespace", base);
}

/* ---- what becomes of a request ---- */

static void fill_routes(const struct check *c, const struct raw_http_rule *raw, const char *base, struct m_rule *rule,
			struct m_http_rule *more)
{
	char path[128];

	rule->route_nr = raw->routes.nr;
	rule->routes = arena_array(c->d->arena, rule->route_nr, sizeof(*rule->routes));
	more->dests = arena_array(c->d->arena, rule->route_nr, sizeof(*more->dests));
	for (uint32_t i = 0; i < rule->route_nr; i++) {
		const struct raw_http_route *r = LIST_AT(raw->routes, struct raw_http_route, i);
		struct m_http_dest *d = &more->dests[i];

		rule->routes[i] = (struct m_destination){ .weight = r->weight, .at = r->at };
		snprintf(path, sizeof(path), "%s.route[%u].destination", base, i);
		vs_destination_fill(c, &r->destination, path, &rule->routes[i]);
		snprintf(path, sizeof(path), "%s.route[%u].headers", base, i);
		http_headers_fill(c, r->headers, path, &d->request, &d->response, &d->rewrite.authority);
	}
	vs_weights_check(c, rule, base);
}

static uint32_t mirror_share(const struct check *c, const struct raw_http_rule *raw, const char *base)
{
	char path[128];

	snprintf(path, sizeof(path), "%s.mirrorPercentage", base);
	if (raw->mirror_percentage || !raw->mirror_percent_at.line)
		return http_share_fill(c, raw->mirror_percentage, MESH_HTTP_WHOLE, path);
	if (raw->mirror_percent <= 100)
		return (uint32_t)raw->mirror_percent * (MESH_HTTP_WHOLE / 100);
	check_fail(c, STR("must be at most 100"), NULL, "%s.mirrorPercent", base);
	return 0;
}

static void mirror_add(const struct check *c, const struct raw_destination *raw, struct place at, uint32_t share,
		       const char *base, struct m_http_mirrors *out)
{
	struct m_http_mirror *m = &out->v[out->nr++];

	*m = (struct m_http_mirror){ .to.at = at, .share = share };
	vs_destination_fill(c, raw, base, &m->to);
}

/* inherits: its mirror may be another rule's, or that of another rule. */
static void fill_mirrors(const struct check *c, const struct raw_http_rule *raw, const char *base, bool inherits,
			 struct m_http_rule *more)
{
	struct m_http_mirrors *out = &more->mirrors;
	char path[128];

	out->v = arena_array(c->d->arena, raw->mirrors.nr + 1, sizeof(*out->v));
	if (raw->mirror && raw->mirrors.nr)
		check_fail(c, STR("only one of mirror and mirrors may be given"), NULL, "%s.mirrors", base);
	more->own.mirror = raw->mirror;
	more->own.mirrors = raw->mirrors.nr;
	more->own.share = raw->mirror_percentage || raw->mirror_percent_at.line;
	more->own.mirror_share = mirror_share(c, raw, base);
	if (raw->mirror) {
		snprintf(path, sizeof(path), "%s.mirror", base);
		mirror_add(c, raw->mirror, raw->mirror->host_at, more->own.mirror_share, path, out);
	} else if ((raw->mirror_percentage || raw->mirror_percent_at.line) && !inherits) {
		check_warn(c, STR("means nothing without mirror"), NULL, "%s.%s", base,
			   raw->mirror_percentage ? "mirrorPercentage" : "mirrorPercent");
	}
	for (uint32_t i = 0; i < raw->mirrors.nr; i++) {
		const struct raw_mirror *r = LIST_AT(raw->mirrors, struct raw_mirror, i);
		uint32_t share;

		snprintf(path, sizeof(path), "%s.mirrors[%u].percentage", base, i);
		share = http_share_fill(c, r->percentage, MESH_HTTP_WHOLE, path);
		snprintf(path, sizeof(path), "%s.mirrors[%u].destination", base, i);
		mirror_add(c, &r->destination, r->at, share, path, out);
	}
}

/* A delegate's rules say where requests go. */
static void check_delegating(const struct check *c, const struct raw_http_rule *r, const char *base, bool in_delegate)
{
	if (in_delegate)
		check_fail(c, STR("a delegate (a VirtualService without hosts) cannot delegate"), NULL, "%s.delegate",
			   base);
	if (r->routes.nr || r->redirect)
		check_fail(c, STR("cannot be given beside delegate"), NULL, "%s.%s", base,
			   r->routes.nr ? "route" : "redirect");
}

/* A request goes one way. */
static void check_actions(const struct check *c, const struct raw_http_rule *r, const char *base)
{
	const char *action = r->redirect ? "redirect" : "directResponse";
	const struct {
		const char *name;
		bool given;
	} others[] = { { "route", r->routes.nr },
		       { "fault", r->fault },
		       { "rewrite", r->rewrite },
		       { "directResponse", r->redirect && r->direct } };

	if (!r->redirect && !r->direct) {
		if (!r->routes.nr)
			check_fail(c, STR("at least one destination is required"), NULL, "%s.route", base);
		return;
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (others[i].given)
			check_fail(c, CHECK_TEXT(c, "cannot be given beside %s", action), NULL, "%s.%s", base,
				   others[i].name);
}

static void fill_action(const struct check *c, const struct raw_http_rule *r, const char *base,
			struct m_http_rule *more)
{
	char path[96];

	if (r->redirect) {
		snprintf(path, sizeof(path), "%s.redirect", base);
		more->action = MESH_HTTP_REDIRECT;
		http_redirect_fill(c, r->redirect, path, &more->redirect);
	} else if (r->direct) {
		snprintf(path, sizeof(path), "%s.directResponse", base);
		http_direct_fill(c, r->direct, path, more);
	}
	if (r->rewrite) {
		snprintf(path, sizeof(path), "%s.rewrite", base);
		http_rewrite_fill(c, r->rewrite, path, &more->rewrite);
	}
	snprintf(path, sizeof(path), "%s.headers", base);
	http_headers_fill(c, r->headers, path, &more->request, &more->response, &more->own.host);
	more->own.authority = more->rewrite.authority;
	if (more->own.host.len)
		more->rewrite.authority = more->own.host;
	if (r->fault) {
		snprintf(path, sizeof(path), "%s.fault", base);
		http_fault_fill(c, r->fault, path, &more->fault);
	}
	snprintf(path, sizeof(path), "%s.retries", base);
	more->retry = http_retries_fill(c, r->retries, path);
	snprintf(path, sizeof(path), "%s.corsPolicy", base);
	more->cors = http_cors_fill(c, r->cors, path);
	more->timeout_ms = traffic_ms(c, r->timeout, r->timeout_at, base, "timeout");
	more->own.rewrite = r->rewrite;
	more->own.headers = r->headers;
	more->own.fault = r->fault;
	more->own.timeout = r->timeout_at.line;
}

static void fill_delegate(const struct check *c, const struct raw_delegate *r, struct m_rule *rule)
{
	struct m_delegate *d = arena_new(c->d->arena, struct m_delegate);

	*d = (struct m_delegate){ r->name, r->ns, r->at };
	rule->delegate = d;
}

/* in_delegate: the VirtualService is one. */
static void fill_rule(const struct check *c, const struct raw_http_rule *r, const char *base, bool in_delegate,
		      struct m_rule *rule)
{
	struct m_http_rule *more = arena_new(c->d->arena, struct m_http_rule);
	char path[96];

	rule->match_nr = more->match_nr = r->matches.nr;
	rule->matches = arena_array(c->d->arena, rule->match_nr, sizeof(*rule->matches));
	more->matches = arena_array(c->d->arena, rule->match_nr, sizeof(*more->matches));
	for (uint32_t i = 0; i < rule->match_nr; i++) {
		const struct raw_http_match *m = LIST_AT(r->matches, struct raw_http_match, i);

		snprintf(path, sizeof(path), "%s.match[%u]", base, i);
		vs_match_fill(c, &m->l4, path, &rule->matches[i]);
		fill_match(c, m, path, &more->matches[i]);
	}
	if (r->delegate) {
		check_delegating(c, r, base, in_delegate);
		fill_delegate(c, r->delegate, rule);
	} else {
		check_actions(c, r, base);
	}
	fill_routes(c, r, base, rule, more);
	fill_action(c, r, base, more);
	fill_mirrors(c, r, base, r->delegate || in_delegate, more);
	more->acts = http_rule_acts(more, rule->route_nr);
	rule->more = more;
}

void vs_http_fill(const struct check *c, const struct list *raw, struct m_virtual_service *vs)
{
	struct m_rule *rules = vs->rules + vs->rule_nr;

	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_http_rule *r = LIST_AT(*raw, struct raw_http_rule, i);
		char base[64];

		snprintf(base, sizeof(base), "spec.http[%u]", i);
		rules[i] = (struct m_rule){ .name = r->name, .http = true, .index = i, .at = r->at };
		fill_rule(c, r, base, !vs->hosts.nr, &rules[i]);
		vs->delegates |= rules[i].delegate != NULL;
	}
	vs->rule_nr += raw->nr;
	vs_warn_unreachable(c, rules, raw->nr, "http");
}
