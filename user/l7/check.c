/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks of single things, and of the policies. */
#include "l7/check.h"

bool check_refuse(struct check *k, const char *what, uint32_t at)
{
	if (!k->failed) {
		if (k->err->len)
			buf_printf(k->err, ": ");
		buf_printf(k->err, "compiled HTTP rules do not hold together: %s at %u", what, at);
	}
	k->failed = true;
	return false;
}

const void *check_array(struct check *k, struct mesh_ref ref, size_t size, size_t align, const char *what)
{
	uint64_t bytes = (uint64_t)ref.nr * size;

	if (k->failed || !ref.nr)
		return NULL;
	if (ref.at > k->size || bytes > k->size - ref.at || (uintptr_t)(k->base + ref.at) % align ||
	    bytes > k->budget) {
		check_refuse(k, what, ref.at);
		return NULL;
	}
	k->budget -= bytes;
	return k->base + ref.at;
}

static bool shown(struct str s, bool lower)
{
	for (uint32_t i = 0; i < s.len; i++)
		if ((uint8_t)s.p[i] < 0x20 || s.p[i] == 0x7f || (lower && s.p[i] >= 'A' && s.p[i] <= 'Z'))
			return false;
	return true;
}

static bool replacement(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (s.p[i] != '\\' && !head_target(str_sub(s, i, 1)))
			return false;
	return true;
}

static bool of_class(struct str s, enum check_class class)
{
	switch (class) {
	case CHECK_BYTES:
		return true;
	case CHECK_ANY:
		return shown(s, false);
	case CHECK_LOWER:
		return shown(s, true);
	case CHECK_VALUE:
		return head_value(s);
	case CHECK_TARGET:
		return head_target(s);
	case CHECK_REPLACEMENT:
		return replacement(s);
	case CHECK_HOST:
		return head_host(s);
	case CHECK_SCHEME:
		return !s.len || str_is(s, "http") || str_is(s, "https");
	case CHECK_TOKEN:
		return head_token(s);
	case CHECK_LOWER_TOKEN:
		return head_token(s) && shown(s, true);
	case CHECK_FIELD:
		switch (head_known_of(s)) {
		case HEAD_OTHER:
		case HEAD_PROXY_AUTHENTICATE:
		case HEAD_PROXY_AUTHORIZATION:
			return head_token(s) && shown(s, true);
		default:
			return false;
		}
	}
	return false;
}

bool check_text(struct check *k, struct mesh_ref ref, enum check_class class, const char *what)
{
	check_array(k, ref, 1, 1, what);
	if (!k->failed && !of_class(ref.nr ? http_check_text(k, ref) : STR(""), class))
		return check_refuse(k, what, ref.at);
	return !k->failed;
}

bool check_texts(struct check *k, struct mesh_ref ref, enum check_class class, const char *what)
{
	const struct mesh_ref *texts = check_array(k, ref, sizeof(*texts), 4, what);

	for (uint32_t i = 0; !k->failed && i < ref.nr; i++)
		check_text(k, texts[i], class, what);
	return !k->failed;
}

struct regex *check_regex(struct check *k, const void *owner, struct str pattern, bool ignore_case)
{
	uint64_t key = offset_key(rules_offset(k->rules, owner), 0);
	struct regex *re = offset_map_get(&k->rules->regexes, key);

	if (re)
		return re;
	re = regex_new(pattern, ignore_case, k->err);
	if (!re) {
		check_refuse(k, "expression", (uint32_t)(pattern.p - k->base));
		return NULL;
	}
	offset_map_put(&k->rules->regexes, key, re);
	return re;
}

bool check_match_text(struct check *k, const struct mesh_http_text *t)
{
	if (t->kind > MESH_TEXT_TEMPLATE || t->ignore_case > 1 || t->invert > 1)
		return check_refuse(k, "text to match", t->text.at);
	if (!check_text(k, t->text, CHECK_BYTES, "text to match"))
		return false;
	return t->kind != MESH_TEXT_REGEX || check_regex(k, t, http_check_text(k, t->text), t->ignore_case);
}

int http_row_cmp(const struct mesh_http_row *row, uint32_t scope, const struct mesh_addr *addr, uint16_t port)
{
	int rc;

	if (row->scope != scope)
		return row->scope < scope ? -1 : 1;
	rc = memcmp(&row->addr, addr, sizeof(*addr));
	if (rc)
		return rc;
	return row->port < port ? -1 : row->port > port;
}

/* ---- policies ---- */

static bool check_values(struct check *k, const struct mesh_http_test *t, struct mesh_ref ref)
{
	const struct mesh_http_net *nets;
	const struct mesh_http_text *texts;

	if (t->subject == MESH_SUBJECT_SOURCE_IP || t->subject == MESH_SUBJECT_REMOTE_IP ||
	    t->subject == MESH_SUBJECT_DESTINATION_IP) {
		nets = check_array(k, ref, sizeof(*nets), 4, "networks");
		for (uint32_t i = 0; !k->failed && i < ref.nr; i++)
			if (nets[i].prefix_len > 128)
				return check_refuse(k, "network", ref.at);
		return !k->failed;
	}
	texts = check_array(k, ref, sizeof(*texts), 4, "texts");
	for (uint32_t i = 0; !k->failed && i < ref.nr; i++)
		if (!check_match_text(k, &texts[i]))
			return false;
	return !k->failed;
}

static bool check_cond(struct check *k, const struct mesh_http_cond *c)
{
	const struct mesh_http_test *tests = check_array(k, c->tests, sizeof(*tests), 4, "tests");

	for (uint32_t i = 0; !k->failed && i < c->tests.nr; i++) {
		if (tests[i].subject > MESH_SUBJECT_HEADER)
			return check_refuse(k, "subject", c->tests.at);
		if (!check_text(k, tests[i].name,
				tests[i].subject == MESH_SUBJECT_HEADER ? CHECK_LOWER_TOKEN : CHECK_ANY, "field") ||
		    !check_values(k, &tests[i], tests[i].any) || !check_values(k, &tests[i], tests[i].none))
			return false;
	}
	return !k->failed;
}

static bool check_rule(struct check *k, const struct mesh_http_rule *r)
{
	const struct mesh_http_clause *clauses = check_array(k, r->clauses, sizeof(*clauses), 4, "clauses");

	for (uint32_t i = 0; !k->failed && i < r->clauses.nr; i++) {
		const struct mesh_http_cond *conds = check_array(k, clauses[i].any, sizeof(*conds), 4, "conditions");

		/* A clause that nothing can fulfil would make a denying policy void. */
		if (!clauses[i].any.nr)
			return check_refuse(k, "clause", r->clauses.at);
		for (uint32_t c = 0; !k->failed && c < clauses[i].any.nr; c++)
			check_cond(k, &conds[c]);
	}
	return !k->failed;
}

bool check_policies(struct check *k)
{
	const struct mesh_http *h = k->rules->http;
	const struct mesh_http_policy *policies = check_array(k, h->policies, sizeof(*policies), 4, "policies");
	const struct mesh_http_guard *guards = check_array(k, h->guards, sizeof(*guards), 4, "guards");

	for (uint32_t i = 0; !k->failed && i < h->policies.nr; i++) {
		const struct mesh_http_rule *rules = check_array(k, policies[i].rules, sizeof(*rules), 4, "rules");

		check_text(k, policies[i].name, CHECK_ANY, "policy");
		if (policies[i].deny > 1 || policies[i].dry_run > 1)
			return check_refuse(k, "policy", h->policies.at);
		for (uint32_t r = 0; !k->failed && r < policies[i].rules.nr; r++)
			check_rule(k, &rules[r]);
	}
	for (uint32_t i = 0; !k->failed && i < h->guards.nr; i++) {
		const uint32_t *v = check_array(k, guards[i].policies, sizeof(*v), 4, "guard's policies");

		if (i && memcmp(&guards[i - 1].addr, &guards[i].addr, sizeof(guards->addr)) >= 0)
			return check_refuse(k, "order of guards", h->guards.at);
		for (uint32_t n = 0; !k->failed && n < guards[i].policies.nr; n++)
			if (v[n] >= h->policies.nr)
				return check_refuse(k, "guard's policy", guards[i].policies.at);
	}
	return !k->failed;
}
