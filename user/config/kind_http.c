/* SPDX-License-Identifier: BSD-2-Clause */
/* What rules for requests of both upstreams have in common: texts of heads, and whether a rule does anything with a request. */
#include "base/regex.h"
#include "config/kind_http.h"

/* Of both upstreams. */
#define REGEX_LEN_MAX 1024

const struct m_http_retry http_retry_default = {
	.on = MESH_RETRY_CONNECT_FAILURE | MESH_RETRY_REFUSED_STREAM,
	.attempts = 2,
	.backoff_ms = 25,
	.other_endpoints = true,
};

struct str http_lower(struct arena *a, struct str s)
{
	char *v = arena_alloc(a, s.len + 1);

	for (uint32_t i = 0; i < s.len; i++)
		v[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] - 'A' + 'a') : s.p[i];
	return (struct str){ v, s.len };
}

/* A token of RFC 9110. */
static bool is_token(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      (c && strchr("!#$%&'*+-.^_`|~", c))))
			return false;
	}
	return s.len;
}

const char *http_name_bad(struct str s)
{
	if (s.len > 256)
		return "must have at most 256 characters";
	return is_token(s) ? NULL : "is not a name of a header";
}

const char *http_method_bad(struct str s)
{
	return is_token(s) ? NULL : "is no method";
}

const char *http_value_bad(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] < ' ' ? s.p[i] != '\t' : s.p[i] == 0x7f)
			return "must not have control characters";
	return NULL;
}

const char *http_change_bad(struct str s)
{
	static const char *const names[] = { "host",	   "content-length", "transfer-encoding",
					     "connection", "keep-alive",     "proxy-connection",
					     "te",	   "trailer",	     "upgrade",
					     "expect" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (str_is(s, names[i]))
			return "is about the connection or the message's end, which rules do not change";
	return http_name_bad(s);
}

/* Letters, digits, and what is in `more`. */
static bool all_of(struct str s, const char *more)
{
	for (uint32_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      (c && strchr(more, c))))
			return false;
	}
	return true;
}

const char *http_path_bad(struct str s)
{
	if (all_of(s, "/-._~!$&'()*+,;=:@%[]|"))
		return NULL;
	return "must be a path without a query, with all escaped that RFC 3986 has in no path";
}

/* RFC 3986, section 3.2: a name or address, an IPv6 address in brackets, and a port. */
const char *http_authority_bad(struct str s)
{
	struct str host = s;
	int end;

	if (!s.len)
		return "must not be empty";
	if (s.p[0] == '[')
		end = str_find(s, ']') + 1;
	else
		end = str_find(s, ':') < 0 ? (int)s.len : str_find(s, ':');
	host = str_sub(s, 0, (uint32_t)end);
	if (s.p[0] == '[' ? end < 3 || !all_of(str_sub(host, 1, host.len - 2), ":.") : !all_of(host, "-._~!$&'()*+;=%"))
		return "is no host, with a port or without";
	s = str_sub(s, (uint32_t)end, s.len);
	if (s.len && (s.p[0] != ':' || s.len > 6))
		return "is no host, with a port or without";
	for (uint32_t i = 1; i < s.len; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return "is no host, with a port or without";
	return NULL;
}

bool http_fields_any(const struct m_http_fields *f)
{
	return f->set.nr || f->add.nr || f->remove.nr;
}

static bool rewrites(const struct m_http_rewrite *r)
{
	return r->change || r->authority.len;
}

bool http_match_any(const struct m_http_match *m)
{
	return !m->path.kind && !m->method.kind && !m->authority.kind && !m->scheme.kind && !m->header_nr &&
	       !m->query_nr;
}

static bool text_same(const struct m_http_text *a, const struct m_http_text *b)
{
	return a->kind == b->kind && a->ignore_case == b->ignore_case && a->invert == b->invert &&
	       str_eq(a->text, b->text);
}

static bool named_same(const struct m_http_named *a, uint32_t a_nr, const struct m_http_named *b, uint32_t b_nr)
{
	for (uint32_t i = 0; i < a_nr && a_nr == b_nr; i++)
		if (!str_eq(a[i].name, b[i].name) || !text_same(&a[i].value, &b[i].value))
			return false;
	return a_nr == b_nr;
}

bool http_match_same(const struct m_http_match *a, const struct m_http_match *b)
{
	if (!a || !b)
		return a == b;
	return text_same(&a->path, &b->path) && text_same(&a->method, &b->method) &&
	       text_same(&a->authority, &b->authority) && text_same(&a->scheme, &b->scheme) &&
	       named_same(a->headers, a->header_nr, b->headers, b->header_nr) &&
	       named_same(a->queries, a->query_nr, b->queries, b->query_nr);
}

bool http_rule_acts(const struct m_http_rule *r, uint32_t dest_nr)
{
	if (r->action || r->timeout_ms || r->retry || r->cors || r->mirrors.nr || rewrites(&r->rewrite) ||
	    r->fault.delay_share || r->fault.abort_share || http_fields_any(&r->request) ||
	    http_fields_any(&r->response))
		return true;
	for (uint32_t i = 0; i < dest_nr && r->dests; i++) {
		const struct m_http_dest *d = &r->dests[i];

		if (http_fields_any(&d->request) || http_fields_any(&d->response) || rewrites(&d->rewrite) ||
		    d->redirect || d->mirrors.nr)
			return true;
	}
	return false;
}

static void report_text(const struct check *c, struct str what, const struct buf *err, const char *path)
{
	check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(what), err->data), NULL, "%s", path);
}

bool http_regex_check(const struct check *c, struct str regex, const char *path)
{
	struct buf err = { 0 };
	struct regex *re = NULL;

	if (!regex.len || regex.len > REGEX_LEN_MAX) {
		check_fail(c, regex.len ? STR("must have at most 1024 characters") : STR("must not be empty"), NULL,
			   "%s", path);
		return false;
	}
	re = regex_new(regex, false, &err);
	if (!re)
		report_text(c, regex, &err, path);
	regex_free(re);
	buf_release(&err);
	return re;
}

void http_replacement_check(const struct check *c, struct str regex, struct str with, const char *path)
{
	struct buf err = { 0 };
	struct regex *re = regex_new(regex, false, &err);

	if (!all_of(with, "/-._~!$&'()*+,;=:@%[]|?\\"))
		buf_printf(&err, "has what must be escaped in a path");
	if (re && (err.len || !regex_replacement_ok(re, with, &err)))
		report_text(c, with, &err, path);
	regex_free(re);
	buf_release(&err);
}

struct str http_joined(const struct check *c, const struct strs *list, const char *(*bad)(struct str), const char *base)
{
	struct buf text = { 0 };
	struct str s;

	for (uint32_t i = 0; i < list->nr; i++) {
		const char *why = str_is(list->v[i], "*") ? NULL : bad(list->v[i]);

		if (why)
			check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(list->v[i]), why), NULL, "%s[%u]", base, i);
		buf_printf(&text, "%s%.*s", i ? "," : "", STR_ARG(list->v[i]));
	}
	s = arena_str(c->d->arena, (struct str){ text.data, (uint32_t)text.len });
	buf_release(&text);
	return s;
}

void http_regex_quote(struct buf *out, struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		buf_printf(out, strchr("\\^$.|?*+()[]{}", s.p[i]) ? "\\%c" : "%c", s.p[i]);
}
