/* SPDX-License-Identifier: BSD-2-Clause */
/* What a text, field or parameter must be for a match to hold. */
#include "l7/rules.h"

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool same(struct str a, struct str b, bool ignore_case)
{
	return ignore_case ? head_same(a, b) : str_eq(a, b);
}

/*
 * {*} is one element that is not empty, {**} any number of them, and what is left of one; elsewhere only what stands there. The template is
 * gone through once for each byte at most: only the last {**} is ever come back to.
 */
static bool template_matches(struct str t, struct str s, bool ignore_case)
{
	uint32_t ti = 0, si = 0, back_t = 0, back_s = UINT32_MAX;

	for (;;) {
		struct str rest = str_sub(t, ti, t.len);

		if (str_starts(rest, STR("{**}"))) {
			back_t = ti += 4;
			back_s = si;
			continue;
		}
		if (ti == t.len && si == s.len)
			return true;
		if (str_starts(rest, STR("{*}")) && si < s.len && s.p[si] != '/') {
			while (si < s.len && s.p[si] != '/')
				si++;
			ti += 3;
			continue;
		}
		if (ti < t.len && si < s.len && (ignore_case ? lower(t.p[ti]) == lower(s.p[si]) : t.p[ti] == s.p[si])) {
			ti++;
			si++;
			continue;
		}
		if (back_s >= s.len)
			return false;
		ti = back_t;
		si = ++back_s;
	}
}

static bool path_prefix_matches(struct str prefix, struct str s, bool ignore_case)
{
	while (prefix.len && prefix.p[prefix.len - 1] == '/')
		prefix.len--;
	return s.len >= prefix.len && same(prefix, str_sub(s, 0, prefix.len), ignore_case) &&
	       (s.len == prefix.len ? prefix.len > 0 : s.p[prefix.len] == '/');
}

static bool holds(const struct http_rules *r, const struct mesh_http_text *t, struct str pattern, struct str s)
{
	switch (t->kind) {
	case MESH_TEXT_PRESENT:
		return true;
	case MESH_TEXT_EXACT:
		return same(pattern, s, t->ignore_case);
	case MESH_TEXT_PREFIX:
		return s.len >= pattern.len && same(pattern, str_sub(s, 0, pattern.len), t->ignore_case);
	case MESH_TEXT_SUFFIX:
		return s.len >= pattern.len &&
		       same(pattern, str_sub(s, s.len - pattern.len, pattern.len), t->ignore_case);
	case MESH_TEXT_REGEX:
		return regex_matches(offset_map_get(&r->regexes, offset_key(rules_offset(r, t), 0)), s);
	case MESH_TEXT_PATH_PREFIX:
		return path_prefix_matches(pattern, s, t->ignore_case);
	default:
		return template_matches(pattern, s, t->ignore_case);
	}
}

bool text_matches(const struct http_rules *r, const struct mesh_http_text *t, struct str pattern, struct str s,
		  bool there)
{
	if (t->kind == MESH_TEXT_ANY)
		return !t->invert;
	return (there && holds(r, t, pattern, s)) != t->invert;
}

struct str authority_name(struct str a)
{
	/* The port is behind the last colon, unless that is within the brackets of an IPv6 address. */
	for (uint32_t i = a.len; i && a.p[i - 1] != ']'; i--)
		if (a.p[i - 1] == ':') {
			a.len = i - 1;
			break;
		}
	if (a.len > 1 && a.p[a.len - 1] == '.')
		a.len--;
	return a;
}

struct str request_path(const struct http_request *rq, struct str *ret_query)
{
	const struct head *h = rq->head;
	struct str path = head_str(rq->p, h->path);
	int question = str_find(path, '?');

	*ret_query = (struct str){ NULL, 0 };
	if (question >= 0) {
		*ret_query = str_sub(path, (uint32_t)question + 1, path.len);
		path.len = (uint32_t)question;
	}
	if (path.len)
		return path;
	if (h->form == HEAD_ABSOLUTE)
		return str_is(head_str(rq->p, h->method), "OPTIONS") && question < 0 ? STR("*") : STR("/");
	return h->form == HEAD_ASTERISK ? STR("*") : path;
}

bool query_find(struct str query, struct str name, struct str *ret)
{
	while (query.len) {
		int amp = str_find(query, '&'), eq;
		struct str one = str_sub(query, 0, amp < 0 ? query.len : (uint32_t)amp);

		eq = str_find(one, '=');
		if (str_eq(str_sub(one, 0, eq < 0 ? one.len : (uint32_t)eq), name)) {
			*ret = eq < 0 ? STR("") : str_sub(one, (uint32_t)eq + 1, one.len);
			return true;
		}
		query = str_sub(query, amp < 0 ? query.len : (uint32_t)amp + 1, query.len);
	}
	return false;
}

bool field_find(const struct http_request *rq, struct str name, struct buf *joined, struct str *ret)
{
	const struct head *h = rq->head;
	uint32_t found = 0;

	for (uint32_t i = 0; i < h->field_nr; i++) {
		const struct head_field *f = &h->fields[i];
		struct str value;

		if (!head_same(head_str(rq->p, f->name), name) || (f->nominated && f->known != HEAD_UPGRADE))
			continue;
		value = head_str(rq->p, f->value);
		if (!found++) {
			*ret = value;
			continue;
		}
		if (found == 2) {
			buf_clear(joined);
			buf_str(joined, *ret);
		}
		buf_add(joined, ",", 1);
		buf_str(joined, value);
		*ret = (struct str){ joined->data, (uint32_t)joined->len };
	}
	return found > 0;
}
