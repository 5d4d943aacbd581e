/* SPDX-License-Identifier: BSD-2-Clause */
/* Filters of HTTPRoutes, of rules and of single backends: what is done with a request and its answer. */
#include <stdio.h>

#include "config/kind_filters.h"

struct raw_field {
	struct str name, value;
};

struct raw_modifier {
	struct list set, add;
	struct strs remove;
};

struct raw_fraction {
	int64_t numerator, denominator;
};

struct raw_mirror {
	struct raw_backend *backend;
	int64_t percent;
	struct place percent_at;
	struct raw_fraction *fraction;
};

struct raw_modify_path {
	uint32_t type;
	struct str full, prefix;
	struct place full_at, prefix_at;
};

struct raw_to {
	struct str hostname;
	struct raw_modify_path *path;
	uint32_t scheme;
	int64_t port, status;
	struct place hostname_at, port_at;
};

struct raw_gwcors {
	struct strs origins, methods, headers, exposed;
	int64_t max_age;
	bool credentials;
};

struct raw_filter {
	uint32_t type;
	struct raw_modifier *request, *response;
	struct raw_mirror *mirror;
	struct raw_to *redirect, *rewrite;
	struct raw_gwcors *cors;
};

static const char *const filter_types[] = { "RequestHeaderModifier",
					    "ResponseHeaderModifier",
					    "RequestMirror",
					    "RequestRedirect",
					    "URLRewrite",
					    "CORS",
					    "ExtensionRef",
					    "ExternalAuth",
					    NULL };
/* By type. */
static const char *const filter_names[] = { "requestHeaderModifier",
					    "responseHeaderModifier",
					    "requestMirror",
					    "requestRedirect",
					    "urlRewrite",
					    "cors",
					    "extensionRef",
					    "externalAuth" };
enum {
	FILTER_REQUEST = 1,
	FILTER_RESPONSE,
	FILTER_MIRROR,
	FILTER_REDIRECT,
	FILTER_REWRITE,
	FILTER_CORS,
	FILTER_EXTENSION
};
static const char *const path_types[] = { "ReplaceFullPath", "ReplacePrefixMatch", NULL };
static const char *const schemes[] = { "http", "https", NULL };

static const struct field field_fields[] = {
	F_STR("name", struct raw_field, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_STR("value", struct raw_field, value, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_END,
};
static const struct schema field_schema = { .name = "HTTPHeader",
					    .size = sizeof(struct raw_field),
					    .fields = field_fields };
static const struct field modifier_fields[] = {
	F_LIST("set", struct raw_modifier, set, field_schema, .max = 16),
	F_LIST("add", struct raw_modifier, add, field_schema, .max = 16),
	F_STRS("remove", struct raw_modifier, remove, .max = 16),
	F_END,
};
static const struct schema modifier_schema = { .name = "HTTPHeaderFilter",
					       .size = sizeof(struct raw_modifier),
					       .fields = modifier_fields };

static const struct field mirrored_fields[] = { BACKEND_FIELDS, F_END };
static const struct schema mirrored_schema = {
	.name = "BackendObjectReference",
	.size = sizeof(struct raw_backend),
	.fields = mirrored_fields,
	.place_offset_plus1 = offsetof(struct raw_backend, at) + 1,
};
static const struct field fraction_fields[] = {
	F_INT("numerator", struct raw_fraction, numerator, 0, I32_MAX_INT, .flags = FIELD_REQUIRED),
	F_INT("denominator", struct raw_fraction, denominator, 1, I32_MAX_INT),
	F_END,
};
static const struct schema fraction_schema = { .name = "Fraction",
					       .size = sizeof(struct raw_fraction),
					       .fields = fraction_fields };
static const struct field mirror_fields[] = {
	F_OBJECT_PTR("backendRef", struct raw_mirror, backend, mirrored_schema, .flags = FIELD_REQUIRED),
	F_INT("percent", struct raw_mirror, percent, 0, 100, .place_offset = offsetof(struct raw_mirror, percent_at)),
	F_OBJECT_PTR("fraction", struct raw_mirror, fraction, fraction_schema),
	F_END,
};
static const char *const mirror_shares[] = { "percent", "fraction", NULL };
static const struct oneof mirror_oneofs[] = { { .names = mirror_shares }, { .names = NULL } };
static const struct schema mirror_schema = { .name = "HTTPRequestMirrorFilter",
					     .size = sizeof(struct raw_mirror),
					     .fields = mirror_fields,
					     .oneofs = mirror_oneofs };

static const struct field path_fields[] = {
	F_ENUM("type", struct raw_modify_path, type, path_types, .flags = FIELD_REQUIRED),
	F_STR("replaceFullPath", struct raw_modify_path, full,
	      .place_offset = offsetof(struct raw_modify_path, full_at)),
	F_STR("replacePrefixMatch", struct raw_modify_path, prefix,
	      .place_offset = offsetof(struct raw_modify_path, prefix_at)),
	F_END,
};
static const struct schema path_schema = { .name = "HTTPPathModifier",
					   .size = sizeof(struct raw_modify_path),
					   .fields = path_fields };
static const struct field redirect_fields[] = {
	F_ENUM("scheme", struct raw_to, scheme, schemes),
	F_STR("hostname", struct raw_to, hostname, .flags = FIELD_NONEMPTY,
	      .place_offset = offsetof(struct raw_to, hostname_at)),
	F_OBJECT_PTR("path", struct raw_to, path, path_schema),
	F_INT("port", struct raw_to, port, 1, 65535, .place_offset = offsetof(struct raw_to, port_at)),
	F_INT("statusCode", struct raw_to, status, 301, 308),
	F_END,
};
static const struct schema redirect_schema_of_gateways = { .name = "HTTPRequestRedirectFilter",
							   .size = sizeof(struct raw_to),
							   .fields = redirect_fields };
static const struct field rewrite_fields[] = {
	F_STR("hostname", struct raw_to, hostname, .flags = FIELD_NONEMPTY,
	      .place_offset = offsetof(struct raw_to, hostname_at)),
	F_OBJECT_PTR("path", struct raw_to, path, path_schema),
	F_END,
};
static const struct schema rewrite_schema_of_gateways = { .name = "HTTPURLRewriteFilter",
							  .size = sizeof(struct raw_to),
							  .fields = rewrite_fields };
static const struct field cors_fields[] = {
	F_STRS("allowOrigins", struct raw_gwcors, origins, .max = 64),
	F_BOOL("allowCredentials", struct raw_gwcors, credentials),
	F_STRS("allowMethods", struct raw_gwcors, methods, .max = 9),
	F_STRS("allowHeaders", struct raw_gwcors, headers, .max = 64),
	F_STRS("exposeHeaders", struct raw_gwcors, exposed, .max = 64),
	F_INT("maxAge", struct raw_gwcors, max_age, 1, I32_MAX_INT),
	F_END,
};
static const struct schema cors_schema_of_gateways = { .name = "HTTPCORSFilter",
						       .size = sizeof(struct raw_gwcors),
						       .fields = cors_fields };

static const struct field filter_fields[] = {
	F_ENUM("type", struct raw_filter, type, filter_types, .flags = FIELD_REQUIRED),
	F_OBJECT_PTR("requestHeaderModifier", struct raw_filter, request, modifier_schema),
	F_OBJECT_PTR("responseHeaderModifier", struct raw_filter, response, modifier_schema),
	F_OBJECT_PTR("requestMirror", struct raw_filter, mirror, mirror_schema),
	F_OBJECT_PTR("requestRedirect", struct raw_filter, redirect, redirect_schema_of_gateways),
	F_OBJECT_PTR("urlRewrite", struct raw_filter, rewrite, rewrite_schema_of_gateways),
	F_OBJECT_PTR("cors", struct raw_filter, cors, cors_schema_of_gateways),
	F_REFUSED("extensionRef", "there are no kinds of filters"),
	F_REFUSED("externalAuth", "somebody else who decides"),
	F_END,
};
const struct schema filter_schema = { .name = "HTTPRouteFilter",
				      .size = sizeof(struct raw_filter),
				      .fields = filter_fields };

const char *header_value_bad(struct str s)
{
	bool blank = true;

	if (s.len > 4096)
		return "must have at most 4096 characters";
	for (uint32_t i = 0; i < s.len; i++) {
		bool here = s.p[i] == ' ' || s.p[i] == '\t';

		if (here ? blank : s.p[i] < '!' || s.p[i] > '~')
			return "must have visible characters of ASCII, with single blanks between them";
		blank = here;
	}
	return blank ? "must have visible characters of ASCII, with single blanks between them" : NULL;
}

static void fill_values(const struct check *c, const struct list *raw, const char *base, struct kvs *out)
{
	out->v = arena_array(c->d->arena, raw->nr, sizeof(*out->v));
	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_field *r = LIST_AT(*raw, struct raw_field, i);
		struct str name = http_lower(c->d->arena, r->name);
		const char *bad = str_is(name, "host") ? "cannot be changed here; URLRewrite has a hostname"
						       : http_change_bad(name);
		uint32_t at = 0;

		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->name), bad), NULL, "%s[%u].name", base,
				   i);
		bad = header_value_bad(r->value);
		if (bad)
			check_fail(c, str_of(bad), NULL, "%s[%u].value", base, i);
		for (uint32_t k = 0; k < i; k++)
			if (str_eq(LIST_AT(*raw, struct raw_field, k)->name, r->name))
				check_fail(c, STR("is there already"), NULL, "%s[%u].name", base, i);
		/* Of several that differ in case the first counts. */
		while (at < out->nr && !str_eq(out->v[at].key, name))
			at++;
		if (at == out->nr)
			out->v[out->nr++] = (struct kv){ name, r->value };
	}
}

static void fill_modifier(const struct check *c, const struct raw_modifier *raw, const char *base,
			  struct m_http_fields *f)
{
	char path[192];

	snprintf(path, sizeof(path), "%s.set", base);
	fill_values(c, &raw->set, path, &f->set);
	snprintf(path, sizeof(path), "%s.add", base);
	fill_values(c, &raw->add, path, &f->add);
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

static void fill_mirror(const struct check *c, const struct raw_mirror *raw, const char *base, uint32_t nr,
			struct m_http_mirrors *out)
{
	struct m_http_mirror *m;
	char path[192];

	if (!out->v)
		out->v = arena_array(c->d->arena, nr, sizeof(*out->v));
	m = &out->v[out->nr++];
	m->share = MESH_HTTP_WHOLE;
	snprintf(path, sizeof(path), "%s.backendRef", base);
	if (raw->backend)
		gwroute_backend_fill(c, raw->backend, path, &m->backend);
	if (raw->percent_at.line)
		m->share = (uint32_t)raw->percent * (MESH_HTTP_WHOLE / 100);
	if (!raw->fraction)
		return;
	if (!raw->fraction->denominator)
		raw->fraction->denominator = 100;
	if (raw->fraction->numerator > raw->fraction->denominator)
		check_fail(c, STR("must not be over 1"), NULL, "%s.fraction", base);
	else
		m->share = (uint32_t)(raw->fraction->numerator * MESH_HTTP_WHOLE / raw->fraction->denominator);
}

static void fill_path(const struct check *c, const struct raw_modify_path *raw, const char *base,
		      struct m_http_rewrite *r)
{
	bool full = raw->type == 1;
	struct str text = full ? raw->full : raw->prefix;

	r->change = full ? MESH_PATH_FULL : MESH_PATH_PREFIX;
	r->path = text;
	if (raw->type && !(full ? raw->full_at.line : raw->prefix_at.line))
		check_fail(c, STR("is required by the type"), NULL, "%s.path.%s", base,
			   full ? "replaceFullPath" : "replacePrefixMatch");
	if (raw->type && (full ? raw->prefix_at.line : raw->full_at.line))
		check_fail(c, STR("is not of this type"), NULL, "%s.path.%s", base,
			   full ? "replacePrefixMatch" : "replaceFullPath");
	if (text.len > 1024)
		check_fail(c, STR("must have at most 1024 characters"), NULL, "%s.path", base);
	if (text.len && http_path_bad(text))
		check_fail(c, str_of(http_path_bad(text)), NULL, "%s.path", base);
}

static void fill_to(const struct check *c, const struct raw_to *raw, const char *base, struct m_http_rewrite *r)
{
	const char *bad = raw->hostname_at.line ? dns_subdomain_bad(raw->hostname) : NULL;

	if (bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(raw->hostname), bad), NULL, "%s.hostname", base);
	r->authority = raw->hostname;
	if (raw->path)
		fill_path(c, raw->path, base, r);
}

static void fill_redirect(const struct check *c, const struct raw_to *raw, const char *base, struct m_http_redirect *r)
{
	int64_t status = raw->status ? raw->status : 302;

	fill_to(c, raw, base, &r->to);
	if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308)
		check_fail(c, STR("must be 301, 302, 303, 307 or 308"), NULL, "%s.statusCode", base);
	r->status = (uint16_t)status;
	if (raw->scheme)
		r->scheme = str_of(schemes[raw->scheme - 1]);
	r->port = (uint16_t)raw->port;
	/* Without a scheme, the port that was dialled: the listener's. */
	r->port_kind = raw->port_at.line ? MESH_PORT_GIVEN : raw->scheme ? MESH_PORT_DEFAULT : MESH_PORT_REQUEST;
}

/* A host that begins with a star has one label or more in place of the star. */
static void fill_origin(const struct check *c, struct str s, const char *path, struct m_http_text *t)
{
	int star = str_find(s, '*');
	struct buf text = { 0 };

	*t = (struct m_http_text){ .kind = MESH_TEXT_EXACT, .text = s };
	if (str_is(s, "*")) {
		*t = (struct m_http_text){ .kind = MESH_TEXT_PRESENT };
		return;
	}
	if (!str_starts(s, STR("http://")) && !str_starts(s, STR("https://")))
		check_fail(c, STR("must be \"*\", or begin with http:// or https://"), NULL, "%s", path);
	for (uint32_t i = 0, slashes = 0; i < s.len; i++) {
		char ch = s.p[i];
		bool word = (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');

		slashes += ch == '/';
		if (word || (ch && strchr("-.:*/", ch) && slashes <= 2))
			continue;
		check_fail(c, STR("is no origin: scheme, host and port"), NULL, "%s", path);
		return;
	}
	if (star < 0)
		return;
	http_regex_quote(&text, str_sub(s, 0, (uint32_t)star));
	buf_printf(&text, "[^/:]+");
	http_regex_quote(&text, str_sub(s, (uint32_t)star + 1, s.len));
	t->kind = MESH_TEXT_REGEX;
	t->text = arena_str(c->d->arena, (struct str){ text.data, (uint32_t)text.len });
	buf_release(&text);
}

static bool has_star(const struct strs *list)
{
	for (uint32_t i = 0; i < list->nr; i++)
		if (str_is(list->v[i], "*"))
			return true;
	return false;
}

static const char *cors_method_bad(struct str s)
{
	static const char *const names[] = { "GET",	"HEAD",	   "POST",  "PUT",  "DELETE",
					     "CONNECT", "OPTIONS", "TRACE", "PATCH" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (str_is(s, names[i]))
			return NULL;
	return "is no method";
}

static void fill_cors(const struct check *c, const struct raw_gwcors *raw, const char *base, struct m_http_cors *cors)
{
	const struct {
		const char *name;
		const struct strs *list;
	} lists[] = { { "allowOrigins", &raw->origins },
		      { "allowMethods", &raw->methods },
		      { "allowHeaders", &raw->headers } };
	char path[192];

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		if (lists[i].list->nr > 1 && has_star(lists[i].list))
			check_fail(c, STR("\"*\" cannot stand beside others"), NULL, "%s.%s", base, lists[i].name);
	cors->origins = arena_array(c->d->arena, raw->origins.nr, sizeof(*cors->origins));
	for (uint32_t i = 0; i < raw->origins.nr; i++) {
		snprintf(path, sizeof(path), "%s.allowOrigins[%u]", base, i);
		fill_origin(c, raw->origins.v[i], path, &cors->origins[cors->origin_nr++]);
	}
	snprintf(path, sizeof(path), "%s.allowMethods", base);
	cors->methods = http_joined(c, &raw->methods, cors_method_bad, path);
	snprintf(path, sizeof(path), "%s.allowHeaders", base);
	cors->headers = http_joined(c, &raw->headers, http_name_bad, path);
	snprintf(path, sizeof(path), "%s.exposeHeaders", base);
	cors->exposed = http_joined(c, &raw->exposed, http_name_bad, path);
	cors->credentials = raw->credentials;
	cors->has_max_age = true;
	cors->max_age_s = raw->max_age ? (uint32_t)raw->max_age : 5;
}

static void check_given(const struct check *c, const struct raw_filter *f, const char *base)
{
	for (uint32_t i = 0; i < sizeof(filter_names) / sizeof(*filter_names) && f->type; i++) {
		bool given = check_has(c, "%s.%s", base, filter_names[i]);

		if (i + 1 == f->type && !given)
			check_fail(c, STR("is required by the type"), NULL, "%s.%s", base, filter_names[i]);
		else if (i + 1 != f->type && given)
			check_fail(c, STR("is not of this type"), NULL, "%s.%s", base, filter_names[i]);
	}
}

/* Into one of the two. */
static void fill_filter(const struct check *c, const struct raw_filter *f, const char *base, uint32_t nr,
			struct m_http_rule *rule, struct m_http_dest *dest)
{
	char path[160];

	check_given(c, f, base);
	snprintf(path, sizeof(path), "%s.%s", base, f->type ? filter_names[f->type - 1] : "type");
	if (f->request)
		fill_modifier(c, f->request, path, rule ? &rule->request : &dest->request);
	if (f->response)
		fill_modifier(c, f->response, path, rule ? &rule->response : &dest->response);
	if (f->mirror)
		fill_mirror(c, f->mirror, path, nr, rule ? &rule->mirrors : &dest->mirrors);
	if (f->rewrite)
		fill_to(c, f->rewrite, path, rule ? &rule->rewrite : &dest->rewrite);
	if (f->redirect && rule) {
		rule->action = MESH_HTTP_REDIRECT;
		fill_redirect(c, f->redirect, path, &rule->redirect);
	} else if (f->redirect) {
		struct m_http_redirect *r = arena_new(c->d->arena, struct m_http_redirect);

		fill_redirect(c, f->redirect, path, r);
		dest->redirect = r;
	}
	if (f->cors && rule) {
		struct m_http_cors *cors = arena_new(c->d->arena, struct m_http_cors);

		fill_cors(c, f->cors, path, cors);
		rule->cors = cors;
	} else if (f->cors) {
		check_fail(c, STR("not enforced yet: CORS of one backend"), NULL, "%s", path);
	}
}

void filters_fill(const struct check *c, const struct list *raw, const char *base, struct m_http_rule *rule,
		  struct m_http_dest *dest)
{
	uint32_t seen[sizeof(filter_names) / sizeof(*filter_names) + 1] = { 0 };

	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_filter *f = LIST_AT(*raw, struct raw_filter, i);
		char path[128];

		snprintf(path, sizeof(path), "%s[%u]", base, i);
		if (seen[f->type]++ && f->type != FILTER_MIRROR && f->type && f->type < FILTER_EXTENSION)
			check_fail(c, STR("a filter of this type is there already"), NULL, "%s", path);
		else
			fill_filter(c, f, path, raw->nr, rule, dest);
	}
	if (seen[FILTER_REDIRECT] && seen[FILTER_REWRITE])
		check_fail(c, STR("RequestRedirect and URLRewrite cannot be given both"), NULL, "%s", base);
}
