/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Parts of the http: rules of a VirtualService: what is done with a request and its answer. Checks as Istio's validation does
 * (pkg/config/validation, validateHTTPRoute and what it calls).
 */
#include <math.h>
#include <stdio.h>

#include "config/kind_http.h"
#include "config/kind_traffic.h"

/* ---- texts ---- */
static const struct field text_fields[] = {
	F_STR("exact", struct raw_text, exact, .place_offset = offsetof(struct raw_text, exact_at)),
	F_STR("prefix", struct raw_text, prefix, .place_offset = offsetof(struct raw_text, prefix_at)),
	F_STR("regex", struct raw_text, regex, .place_offset = offsetof(struct raw_text, regex_at)),
	F_END,
};
static const char *const text_kinds[] = { "exact", "prefix", "regex", NULL };
static const struct oneof text_oneofs[] = { { .names = text_kinds }, { .names = NULL } };
const struct schema text_schema = {
	.name = "StringMatch", .size = sizeof(struct raw_text), .fields = text_fields, .oneofs = text_oneofs
};

void http_text_fill(const struct check *c, const struct raw_text *raw, bool present, const char *base,
		    struct m_http_text *t)
{
	char path[512];

	*t = (struct m_http_text){ .kind = present ? MESH_TEXT_PRESENT : MESH_TEXT_ANY };
	if (!raw)
		return;
	if (raw->exact_at.line) {
		*t = (struct m_http_text){ .kind = MESH_TEXT_EXACT, .text = raw->exact };
	} else if (raw->prefix_at.line) {
		*t = (struct m_http_text){ .kind = MESH_TEXT_PREFIX, .text = raw->prefix };
		if (!raw->prefix.len)
			check_fail(c, STR("must not be empty"), NULL, "%s.prefix", base);
	} else if (raw->regex_at.line) {
		*t = (struct m_http_text){ .kind = MESH_TEXT_REGEX, .text = raw->regex };
		snprintf(path, sizeof(path), "%s.regex", base);
		http_regex_check(c, raw->regex, path);
	}
}

/* ---- headers ---- */
static const struct field operations_fields[] = {
	F_KVS("set", struct raw_operations, set),
	F_KVS("add", struct raw_operations, add),
	F_STRS("remove", struct raw_operations, remove),
	F_END,
};
static const struct schema operations_schema = { .name = "HeaderOperations",
						 .size = sizeof(struct raw_operations),
						 .fields = operations_fields };
static const struct field headers_fields[] = {
	F_OBJECT("request", struct raw_headers, request, operations_schema),
	F_OBJECT("response", struct raw_headers, response, operations_schema),
	F_END,
};
const struct schema headers_schema = { .name = "Headers",
				       .size = sizeof(struct raw_headers),
				       .fields = headers_fields };

/* Envoy fills in what stands between two "%"; "%%" is one. */
static const char *formatted(struct arena *a, struct str *s)
{
	char *v = arena_alloc(a, s->len + 1);
	uint32_t len = 0;

	for (uint32_t i = 0; i < s->len; i++) {
		if (s->p[i] == '%' && (i + 1 == s->len || s->p[++i] != '%'))
			return "has a \"%\": what Envoy would put in its place is not enforced (write \"%%\" for one)";
		v[len++] = s->p[i];
	}
	*s = (struct str){ v, len };
	return http_value_bad(*s);
}

/* Lower case may make two names one: then the last holds, as headers are set one after the other. */
static void fill_values(const struct check *c, const struct kvs *raw, const char *base, struct kvs *out,
			struct str *authority)
{
	out->v = arena_array(c->d->arena, raw->nr, sizeof(*out->v));
	for (uint32_t i = 0; i < raw->nr; i++) {
		struct str name = http_lower(c->d->arena, raw->v[i].key), value = raw->v[i].val;
		bool host = str_is(name, "host") || str_is(name, ":authority");
		const char *bad = host ? NULL : http_change_bad(name);
		uint32_t at = 0;

		if (!bad)
			bad = formatted(c->d->arena, &value);
		if (!bad && host)
			bad = authority ? http_authority_bad(value) : "must not be given here";
		if (bad) {
			check_fail_key(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(raw->v[i].key), bad), NULL,
				       raw->v[i].key, "%s", base);
			continue;
		}
		if (host) {
			*authority = value;
			continue;
		}
		while (at < out->nr && !str_eq(out->v[at].key, name))
			at++;
		out->v[at] = (struct kv){ name, value };
		out->nr += at == out->nr;
	}
}

static void fill_operations(const struct check *c, const struct raw_operations *raw, const char *base,
			    struct m_http_fields *f, struct str *authority)
{
	char path[192];

	snprintf(path, sizeof(path), "%s.set", base);
	fill_values(c, &raw->set, path, &f->set, authority);
	snprintf(path, sizeof(path), "%s.add", base);
	fill_values(c, &raw->add, path, &f->add, NULL);
	f->remove.v = arena_array(c->d->arena, raw->remove.nr, sizeof(*f->remove.v));
	for (uint32_t i = 0; i < raw->remove.nr; i++) {
		struct str name = http_lower(c->d->arena, raw->remove.v[i]);
		const char *bad = http_change_bad(name);

		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(raw->remove.v[i]), bad), NULL,
				   "%s.remove[%u]", base, i);
		f->remove.v[f->remove.nr++] = name;
	}
}

void http_headers_fill(const struct check *c, const struct raw_headers *raw, const char *base,
		       struct m_http_fields *request, struct m_http_fields *response, struct str *authority)
{
	char path[160];

	if (!raw)
		return;
	snprintf(path, sizeof(path), "%s.request", base);
	fill_operations(c, &raw->request, path, request, authority);
	snprintf(path, sizeof(path), "%s.response", base);
	fill_operations(c, &raw->response, path, response, NULL);
}

/* ---- percentages ---- */
static const struct field percent_fields[] = {
	F("value", FIELD_DOUBLE, struct raw_percent, value),
	F_END,
};
const struct schema percent_schema = { .name = "Percent",
				       .size = sizeof(struct raw_percent),
				       .fields = percent_fields };

uint32_t http_share_fill(const struct check *c, const struct raw_percent *raw, uint32_t otherwise, const char *base)
{
	if (!raw)
		return otherwise;
	if (!(raw->value >= 0 && raw->value <= 100) || (raw->value > 0 && raw->value < 0.0001))
		check_fail(c, STR("must be 0, or between 0.0001 and 100"), NULL, "%s.value", base);
	else
		return (uint32_t)lround(raw->value * (MESH_HTTP_WHOLE / 100));
	return 0;
}

/* ---- redirect ---- */
static const char *const derive_names[] = { "FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT", NULL };
static const struct field redirect_fields[] = {
	F_STR("uri", struct raw_redirect, uri, .place_offset = offsetof(struct raw_redirect, uri_at)),
	F_STR("prefixRewrite", struct raw_redirect, prefix, .place_offset = offsetof(struct raw_redirect, prefix_at)),
	F_STR("authority", struct raw_redirect, authority),
	F_STR("scheme", struct raw_redirect, scheme),
	F_INT("port", struct raw_redirect, port, 0, U32_MAX_INT,
	      .place_offset = offsetof(struct raw_redirect, port_at)),
	F_ENUM("derivePort", struct raw_redirect, derive, derive_names),
	F_INT("redirectCode", struct raw_redirect, code, 0, U32_MAX_INT,
	      .place_offset = offsetof(struct raw_redirect, code_at)),
	F_END,
};
static const char *const redirect_ports[] = { "port", "derivePort", NULL };
static const struct oneof redirect_oneofs[] = { { .names = redirect_ports }, { .names = NULL } };
const struct schema redirect_schema = { .name = "HTTPRedirect",
					.size = sizeof(struct raw_redirect),
					.fields = redirect_fields,
					.oneofs = redirect_oneofs };

/* A path that requests are sent to, or led to. */
static void check_path(const struct check *c, struct str path, bool empty_ok, const char *where)
{
	const char *bad = http_path_bad(path);

	if (!empty_ok && !path.len)
		bad = "must not be empty";
	if (bad)
		check_fail(c, str_of(bad), NULL, "%s", where);
}

static bool redirect_code(int64_t code)
{
	return code == 301 || code == 302 || code == 303 || code == 307 || code == 308;
}

void http_redirect_fill(const struct check *c, const struct raw_redirect *raw, const char *base,
			struct m_http_redirect *r)
{
	char path[128];

	*r = (struct m_http_redirect){ .scheme = raw->scheme,
				       .status = raw->code ? (uint16_t)raw->code : 301,
				       .to.authority = raw->authority };
	if (!raw->uri.len && !raw->prefix.len && !raw->authority.len && !raw->scheme.len && !raw->port_at.line &&
	    !raw->derive)
		check_fail(c, STR("one of uri, prefixRewrite, authority, port, derivePort and scheme is required"),
			   NULL, "%s", base);
	if (raw->uri.len && raw->prefix.len)
		check_fail(c, STR("only one of uri and prefixRewrite may be given"), NULL, "%s.prefixRewrite", base);
	if (raw->code && !redirect_code(raw->code))
		check_fail(c, STR("must be 301, 302, 303, 307 or 308"), NULL, "%s.redirectCode", base);
	if (raw->scheme.len && !str_is(raw->scheme, "http") && !str_is(raw->scheme, "https"))
		check_fail(c, STR("must be \"http\" or \"https\""), NULL, "%s.scheme", base);
	if (raw->authority.len && http_authority_bad(raw->authority))
		check_fail(c, str_of(http_authority_bad(raw->authority)), NULL, "%s.authority", base);
	snprintf(path, sizeof(path), "%s.%s", base, raw->prefix.len ? "prefixRewrite" : "uri");
	r->to.path = raw->prefix.len ? raw->prefix : raw->uri;
	check_path(c, r->to.path, true, path);
	if (r->to.path.len)
		r->to.change = raw->prefix.len ? MESH_PATH_PREFIX_TEXT : MESH_PATH_FULL;
	if (raw->port_at.line && !port_ok(raw->port))
		check_fail(c, STR("is not in 1..65535"), NULL, "%s.port", base);
	r->port = (uint16_t)raw->port;
	if (raw->port)
		r->port_kind = MESH_PORT_GIVEN;
	else if (raw->derive)
		r->port_kind = raw->derive == 1 ? MESH_PORT_DEFAULT : MESH_PORT_REQUEST;
}

/* ---- rewrite ---- */
static const struct field rewrite_regex_fields[] = {
	F_STR("match", struct raw_rewrite_regex, match),
	F_STR("rewrite", struct raw_rewrite_regex, rewrite),
	F_END,
};
static const struct schema rewrite_regex_schema = { .name = "RegexRewrite",
						    .size = sizeof(struct raw_rewrite_regex),
						    .fields = rewrite_regex_fields };
static const struct field rewrite_fields[] = {
	F_STR("uri", struct raw_rewrite, uri),
	F_STR("authority", struct raw_rewrite, authority),
	F_OBJECT_PTR("uriRegexRewrite", struct raw_rewrite, regex, rewrite_regex_schema),
	F_END,
};
const struct schema rewrite_schema = { .name = "HTTPRewrite",
				       .size = sizeof(struct raw_rewrite),
				       .fields = rewrite_fields };

void http_rewrite_fill(const struct check *c, const struct raw_rewrite *raw, const char *base, struct m_http_rewrite *r)
{
	char path[128];

	*r = (struct m_http_rewrite){ .authority = raw->authority };
	if (!raw->uri.len && !raw->authority.len && !raw->regex)
		check_fail(c, STR("one of uri, authority and uriRegexRewrite is required"), NULL, "%s", base);
	if (raw->uri.len && raw->regex)
		check_fail(c, STR("only one of uri and uriRegexRewrite may be given"), NULL, "%s.uriRegexRewrite",
			   base);
	if (raw->authority.len && http_authority_bad(raw->authority))
		check_fail(c, str_of(http_authority_bad(raw->authority)), NULL, "%s.authority", base);
	snprintf(path, sizeof(path), "%s.uri", base);
	check_path(c, raw->uri, true, path);
	if (raw->uri.len) {
		r->change = MESH_PATH_PREFIX_TEXT;
		r->path = raw->uri;
	}
	if (!raw->regex)
		return;
	r->change = MESH_PATH_REGEX;
	r->regex = raw->regex->match;
	r->path = raw->regex->rewrite;
	snprintf(path, sizeof(path), "%s.uriRegexRewrite.match", base);
	if (!http_regex_check(c, r->regex, path))
		return;
	snprintf(path, sizeof(path), "%s.uriRegexRewrite.rewrite", base);
	http_replacement_check(c, r->regex, r->path, path);
}

/* ---- directResponse ---- */
#define BODY_MAX (1u << 20)

static const struct field body_fields[] = {
	F_STR("string", struct raw_body, string),
	F_STR("bytes", struct raw_body, bytes, .place_offset = offsetof(struct raw_body, bytes_at)),
	F_END,
};
static const char *const body_kinds[] = { "string", "bytes", NULL };
static const struct oneof body_oneofs[] = { { .names = body_kinds }, { .names = NULL } };
static const struct schema body_schema = {
	.name = "HTTPBody", .size = sizeof(struct raw_body), .fields = body_fields, .oneofs = body_oneofs
};
static const struct field direct_fields[] = {
	F_INT("status", struct raw_direct, status, 0, U32_MAX_INT, .flags = FIELD_REQUIRED),
	F_OBJECT_PTR("body", struct raw_direct, body, body_schema),
	F_END,
};
const struct schema direct_schema = { .name = "HTTPDirectResponse",
				      .size = sizeof(struct raw_direct),
				      .fields = direct_fields };

static int digit64(char ch)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = ch ? strchr(digits, ch) : NULL;

	/* JSON of protobuf takes the alphabet of URLs too. */
	return ch == '-' ? 62 : ch == '_' ? 63 : at ? (int)(at - digits) : -1;
}

static bool base64(struct arena *a, struct str s, struct str *ret)
{
	char *out = arena_alloc(a, s.len + 1);
	uint32_t bits = 0, len = 0, nr = 0;

	while (s.len && s.p[s.len - 1] == '=')
		s.len--;
	for (uint32_t i = 0; i < s.len; i++) {
		int v = digit64(s.p[i]);

		if (v < 0)
			return false;
		bits = bits << 6 | (uint32_t)v;
		nr += 6;
		if (nr >= 8)
			out[len++] = (char)(bits >> (nr -= 8));
	}
	*ret = (struct str){ out, len };
	return nr < 6;
}

void http_direct_fill(const struct check *c, const struct raw_direct *raw, const char *base, struct m_http_rule *r)
{
	r->action = MESH_HTTP_DIRECT;
	r->direct_status = (uint16_t)raw->status;
	if (raw->status < 200 || raw->status > 599)
		check_fail(c, STR("must be between 200 and 599"), NULL, "%s.status", base);
	if (!raw->body)
		return;
	r->body = raw->body->string;
	if (raw->body->bytes_at.line && !base64(c->d->arena, raw->body->bytes, &r->body))
		check_fail(c, STR("is not in base64"), NULL, "%s.body.bytes", base);
	if (r->body.len > BODY_MAX)
		check_fail(c, STR("more than 1 MB"), NULL, "%s.body", base);
}
