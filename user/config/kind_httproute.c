/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rules of an HTTPRoute: matches, times and retries (filters are in kind_filters.c). The rules of the CRDs (patterns, counts, CEL) are
 * checked here.
 */
#include <stdio.h>

#include "config/kind_filters.h"

#define NS_PER_MS 1000000ll

struct raw_path {
	uint32_t type;
	struct str value;
	struct place value_at;
};

struct raw_named {
	struct str name, value;
	uint32_t type;
};

struct raw_match {
	struct raw_path path;
	struct list headers, queries;
	uint32_t method;
};

struct raw_timeouts {
	int64_t request, backend;
	struct place request_at, backend_at;
};

struct raw_retry {
	struct list codes;
	int64_t attempts, backoff;
	struct place attempts_at, backoff_at;
};

struct raw_http_rule {
	struct raw_rule rule; /* first */
	struct list matches, filters;
	struct raw_timeouts timeouts;
	struct raw_retry *retry;
};

static const char *const path_types[] = { "Exact", "PathPrefix", "RegularExpression", NULL };
static const char *const value_types[] = { "Exact", "RegularExpression", NULL };
static const char *const methods[] = { "GET",	  "HEAD",    "POST",  "PUT",   "DELETE",
				       "CONNECT", "OPTIONS", "TRACE", "PATCH", NULL };
enum { PATH_EXACT = 1, PATH_PREFIX, PATH_REGEX };
#define VALUE_REGEX 2

static const struct field backend_fields[] = {
	BACKEND_FIELDS,
	BACKEND_WEIGHT,
	F_LIST("filters", struct raw_backend, filters, filter_schema, .max = 16),
	F_END,
};
static const struct schema backend_schema = {
	.name = "HTTPBackendRef",
	.size = sizeof(struct raw_backend),
	.fields = backend_fields,
	.place_offset_plus1 = offsetof(struct raw_backend, at) + 1,
};

static const struct field path_fields[] = {
	F_ENUM("type", struct raw_path, type, path_types),
	F_STR("value", struct raw_path, value, .place_offset = offsetof(struct raw_path, value_at)),
	F_END,
};
static const struct schema path_schema = { .name = "HTTPPathMatch",
					   .size = sizeof(struct raw_path),
					   .fields = path_fields };

static const struct field named_fields[] = {
	F_STR("name", struct raw_named, name, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_STR("value", struct raw_named, value, .flags = FIELD_REQUIRED | FIELD_NONEMPTY),
	F_ENUM("type", struct raw_named, type, value_types),
	F_END,
};
static const struct schema named_schema = { .name = "HTTPHeaderMatch",
					    .size = sizeof(struct raw_named),
					    .fields = named_fields };

static const struct field match_fields[] = {
	F_OBJECT("path", struct raw_match, path, path_schema),
	F_LIST("headers", struct raw_match, headers, named_schema, .max = 16),
	F_LIST("queryParams", struct raw_match, queries, named_schema, .max = 16),
	F_ENUM("method", struct raw_match, method, methods),
	F_END,
};
static const struct schema match_schema = { .name = "HTTPRouteMatch",
					    .size = sizeof(struct raw_match),
					    .fields = match_fields };

static const struct field timeouts_fields[] = {
	F("request", FIELD_DURATION, struct raw_timeouts, request, .flags = FIELD_GEP2257,
	  .place_offset = offsetof(struct raw_timeouts, request_at)),
	F("backendRequest", FIELD_DURATION, struct raw_timeouts, backend, .flags = FIELD_GEP2257,
	  .place_offset = offsetof(struct raw_timeouts, backend_at)),
	F_END,
};
static const struct schema timeouts_schema = { .name = "HTTPRouteTimeouts",
					       .size = sizeof(struct raw_timeouts),
					       .fields = timeouts_fields };

static const struct field retry_fields[] = {
	/* A list of numbers: read from the tree. */
	F_INERT("codes", FIELD_ANY),
	F_INT("attempts", struct raw_retry, attempts, 1, I32_MAX_INT,
	      .place_offset = offsetof(struct raw_retry, attempts_at)),
	F("backoff", FIELD_DURATION, struct raw_retry, backoff, .flags = FIELD_GEP2257,
	  .place_offset = offsetof(struct raw_retry, backoff_at)),
	F_END,
};
static const struct schema retry_schema = { .name = "HTTPRouteRetry",
					    .size = sizeof(struct raw_retry),
					    .fields = retry_fields };

static const struct field http_rule_fields[] = {
	F_STR("name", struct raw_rule, name, .place_offset = offsetof(struct raw_rule, name_at)),
	F_LIST("matches", struct raw_http_rule, matches, match_schema, .max = 64),
	F_LIST("backendRefs", struct raw_rule, backends, backend_schema, .max = 16),
	F_LIST("filters", struct raw_http_rule, filters, filter_schema, .max = 16),
	F_OBJECT("timeouts", struct raw_http_rule, timeouts, timeouts_schema),
	F_OBJECT_PTR("retry", struct raw_http_rule, retry, retry_schema),
	F_REFUSED("sessionPersistence", "sessions that are kept by a cookie or header"),
	F_END,
};
const struct schema http_rule_schema = {
	.name = "HTTPRouteRule",
	.size = sizeof(struct raw_http_rule),
	.fields = http_rule_fields,
	.place_offset_plus1 = offsetof(struct raw_rule, at) + 1,
};

/* ---- matches ---- */

static bool has_text(struct str s, const char *z)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (str_starts(str_sub(s, i, s.len), str_of(z)))
			return true;
	return false;
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static const char *path_bad(struct str s)
{
	static const char *const none[] = { "//", "/./", "/../", "%2f", "%2F", "#" };

	if (!s.len || s.p[0] != '/')
		return "must begin with \"/\"";
	if (s.len > 1024)
		return "must have at most 1024 characters";
	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
		if (has_text(s, none[i]))
			return "must not have \"//\", \"/./\", \"/../\", \"%2f\" or \"#\"";
	if (str_ends(s, STR("/..")) || str_ends(s, STR("/.")))
		return "must not end with \"/..\" or \"/.\"";
	for (uint32_t i = 0; i < s.len; i++) {
		char c = s.p[i];
		bool escaped = c == '%' && i + 2 < s.len && is_hex(s.p[i + 1]) && is_hex(s.p[i + 2]);

		if (!escaped && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !(c && strchr("-/._~!$&'()*+,;=:@", c)))
			return "has a character that a path cannot have";
	}
	return NULL;
}

/* "/" as a prefix takes every request: it is no condition. */
static void fill_path(const struct check *c, const struct raw_path *p, const char *base, struct m_http_text *t)
{
	struct str value = p->value_at.line ? p->value : STR("/");
	const char *bad = p->type == PATH_REGEX ? NULL : path_bad(value);
	char path[192];

	snprintf(path, sizeof(path), "%s.path.value", base);
	if (bad)
		check_fail(c, str_of(bad), NULL, "%s", path);
	t->text = value;
	if (p->type == PATH_EXACT) {
		t->kind = MESH_TEXT_EXACT;
	} else if (p->type == PATH_REGEX) {
		t->kind = MESH_TEXT_REGEX;
		http_regex_check(c, value, path);
	} else if (!str_is(value, "/")) {
		t->kind = MESH_TEXT_PATH_PREFIX;
		while (t->text.len > 1 && t->text.p[t->text.len - 1] == '/')
			t->text.len--;
	} else {
		*t = (struct m_http_text){ 0 };
	}
}

/* A name may be there once; of several that differ in case the first counts. */
static uint32_t fill_named(const struct check *c, const struct list *raw, bool header, const char *base,
			   struct m_http_named *v)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_named *r = LIST_AT(*raw, struct raw_named, i);
		struct str name = header ? http_lower(c->d->arena, r->name) : r->name;
		const char *bad = http_name_bad(name);
		uint32_t at = 0;
		char path[128];

		if (bad)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(r->name), bad), NULL, "%s[%u].name", base,
				   i);
		snprintf(path, sizeof(path), "%s[%u].value", base, i);
		bad = header		    ? header_value_bad(r->value)
		      : r->value.len > 1024 ? "must have at most 1024 characters"
					    : NULL;
		if (bad)
			check_fail(c, str_of(bad), NULL, "%s", path);
		else if (r->type == VALUE_REGEX)
			http_regex_check(c, r->value, path);
		for (uint32_t k = 0; k < i; k++)
			if (str_eq(LIST_AT(*raw, struct raw_named, k)->name, r->name))
				check_fail(c, STR("is there already"), NULL, "%s[%u].name", base, i);
		while (at < nr && !str_eq(v[at].name, name))
			at++;
		if (at < nr)
			continue;
		v[nr++] = (struct m_http_named){
			name, { .kind = r->type == VALUE_REGEX ? MESH_TEXT_REGEX : MESH_TEXT_EXACT, .text = r->value }
		};
	}
	return nr;
}

static void fill_match(const struct check *c, const struct raw_match *raw, const char *base, struct m_http_match *m)
{
	char path[192];

	fill_path(c, &raw->path, base, &m->path);
	if (raw->method)
		m->method = (struct m_http_text){ .kind = MESH_TEXT_EXACT, .text = str_of(methods[raw->method - 1]) };
	m->headers = arena_array(c->d->arena, raw->headers.nr, sizeof(*m->headers));
	snprintf(path, sizeof(path), "%s.headers", base);
	m->header_nr = fill_named(c, &raw->headers, true, path, m->headers);
	m->queries = arena_array(c->d->arena, raw->queries.nr, sizeof(*m->queries));
	snprintf(path, sizeof(path), "%s.queryParams", base);
	m->query_nr = fill_named(c, &raw->queries, false, path, m->queries);
}

/* ---- times ---- */

static uint32_t fill_ms(const struct check *c, int64_t ns, const char *base, const char *field)
{
	if (ns / NS_PER_MS > U32_MAX_INT) {
		check_fail(c, STR("more than 49 days are not enforced"), NULL, "%s.%s", base, field);
		return 0;
	}
	return (uint32_t)(ns / NS_PER_MS);
}

static void fill_codes(const struct check *c, const char *base, struct m_http_retry *r)
{
	const struct ynode *list;
	char path[192];

	snprintf(path, sizeof(path), "%s.retry.codes", base);
	list = check_node(c, path);
	if (!list || list->kind == YNODE_NULL)
		return;
	if (list->kind != YNODE_SEQ || list->nr > ITEMS_MAX) {
		check_fail(c, STR("must be a list of statuses"), NULL, "%s", path);
		return;
	}
	r->statuses = arena_array(c->d->arena, list->nr, sizeof(*r->statuses));
	for (uint32_t i = 0; i < list->nr; i++) {
		int64_t code = 0;

		if (ynode_type(list->items[i]) != YTYPE_INT || !ynode_int(list->items[i], &code) || code < 400 ||
		    code > 599)
			check_fail(c, STR("must be a status from 400 to 599"), NULL, "%s[%u]", path, i);
		r->statuses[r->status_nr++] = (uint16_t)code;
	}
	if (r->status_nr)
		r->on |= MESH_RETRY_STATUS;
}

static void fill_times(const struct check *c, const struct raw_http_rule *raw, const char *base,
		       struct m_http_rule *more)
{
	uint32_t try_ms = fill_ms(c, raw->timeouts.backend, base, "timeouts.backendRequest");
	struct m_http_retry *r;

	more->timeout_ms = fill_ms(c, raw->timeouts.request, base, "timeouts.request");
	if (more->timeout_ms && try_ms > more->timeout_ms)
		check_fail(c, STR("cannot be longer than the timeout of the request"), NULL,
			   "%s.timeouts.backendRequest", base);
	if (!raw->retry && !try_ms)
		return;
	r = arena_new(c->d->arena, struct m_http_retry);
	*r = http_retry_default;
	r->try_timeout_ms = try_ms;
	more->retry = r;
	if (!raw->retry)
		return;
	r->on |= MESH_RETRY_RESET;
	if (raw->retry->attempts_at.line)
		r->attempts = (uint32_t)raw->retry->attempts;
	if (raw->retry->backoff_at.line)
		r->backoff_ms = fill_ms(c, raw->retry->backoff, base, "retry.backoff");
	fill_codes(c, base, r);
}

/* ---- rules ---- */

/* What replaces a prefix needs one match, of a prefix. */
static void check_prefix(const struct check *c, const struct raw_http_rule *raw, const char *base,
			 const struct m_http_rule *more, uint32_t backend_nr)
{
	bool replaces = more->rewrite.change == MESH_PATH_PREFIX || more->redirect.to.change == MESH_PATH_PREFIX;
	uint32_t type = raw->matches.nr == 1 ? LIST_AT(raw->matches, struct raw_match, 0)->path.type : 0;

	for (uint32_t i = 0; i < backend_nr; i++)
		replaces |= more->dests[i].rewrite.change == MESH_PATH_PREFIX ||
			    (more->dests[i].redirect && more->dests[i].redirect->to.change == MESH_PATH_PREFIX);
	if (replaces && (raw->matches.nr > 1 || (type && type != PATH_PREFIX)))
		check_fail(c, STR("replacing a prefix needs exactly one match, of a PathPrefix"), NULL, "%s.filters",
			   base);
}

uint32_t httproute_rule_fill(const struct check *c, const struct raw_rule *rule, const char *base,
			     struct m_route_rule *out)
{
	const struct raw_http_rule *raw = (const struct raw_http_rule *)rule;
	struct m_http_rule *more = arena_new(c->d->arena, struct m_http_rule);
	char path[96];

	out->more = more;
	more->match_nr = raw->matches.nr;
	more->matches = arena_array(c->d->arena, more->match_nr, sizeof(*more->matches));
	for (uint32_t i = 0; i < more->match_nr; i++) {
		snprintf(path, sizeof(path), "%s.matches[%u]", base, i);
		fill_match(c, LIST_AT(raw->matches, struct raw_match, i), path, &more->matches[i]);
	}
	snprintf(path, sizeof(path), "%s.filters", base);
	filters_fill(c, &raw->filters, path, more, NULL);
	more->dests = arena_array(c->d->arena, out->backend_nr, sizeof(*more->dests));
	for (uint32_t i = 0; i < out->backend_nr; i++) {
		snprintf(path, sizeof(path), "%s.backendRefs[%u].filters", base, i);
		filters_fill(c, &LIST_AT(rule->backends, struct raw_backend, i)->filters, path, NULL, &more->dests[i]);
	}
	if (more->action == MESH_HTTP_REDIRECT && out->backend_nr)
		check_fail(c, STR("cannot be given beside a RequestRedirect"), NULL, "%s.backendRefs", base);
	check_prefix(c, raw, base, more, out->backend_nr);
	fill_times(c, raw, base, more);
	more->acts = http_rule_acts(more, out->backend_nr) || !out->backend_nr;
	return raw->matches.nr;
}

void httproute_default(struct arena *a, struct m_route *route, struct place at)
{
	struct m_http_rule *more = arena_new(a, struct m_http_rule);

	more->acts = true;
	route->rules = arena_new(a, struct m_route_rule);
	route->rules[0] = (struct m_route_rule){ .more = more, .at = at };
	route->rule_nr = 1;
}
