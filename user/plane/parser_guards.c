/* SPDX-License-Identifier: BSD-2-Clause */
/* Policies that ask something of requests, packed for meshl7, and the servers that they guard. */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "mesh_http.h"
#include "plane/parser_rules_int.h"

/* "x", "x*", "*x" or "*" (something is there); of paths "{*}" and "{**}" too. */
static struct mesh_http_text text_of(struct buf *out, uint32_t subject, struct str s)
{
	struct mesh_http_text t = { .kind = MESH_TEXT_EXACT, .ignore_case = subject == MESH_SUBJECT_HOST };

	if (subject == MESH_SUBJECT_PATH && str_find(s, '{') >= 0) {
		t.kind = MESH_TEXT_TEMPLATE;
	} else if (subject == MESH_SUBJECT_ACCOUNT || subject == MESH_SUBJECT_PORT) {
		t.kind = MESH_TEXT_EXACT;
	} else if (str_is(s, "*")) {
		t.kind = MESH_TEXT_PRESENT;
	} else if (s.len && s.p[0] == '*') {
		t.kind = MESH_TEXT_SUFFIX;
		s = str_sub(s, 1, s.len);
	} else if (s.len && s.p[s.len - 1] == '*') {
		t.kind = MESH_TEXT_PREFIX;
		s.len--;
	}
	t.text = rules_text(out, s);
	return t;
}

static struct mesh_ref add_texts(struct buf *out, uint32_t subject, const struct strs *list)
{
	struct mesh_http_text *v = xcalloc((size_t)list->nr + 1, sizeof(*v));
	struct mesh_ref ref;

	for (uint32_t i = 0; i < list->nr; i++)
		v[i] = text_of(out, subject, list->v[i]);
	ref = rules_array(out, v, list->nr, sizeof(*v));
	free(v);
	return ref;
}

static struct mesh_ref add_nets(struct buf *out, const struct m_cidrs *list)
{
	struct mesh_http_net *v = xcalloc((size_t)list->nr + 1, sizeof(*v));
	struct mesh_ref ref;

	for (uint32_t i = 0; i < list->nr; i++) {
		memcpy(&v[i].addr, &list->v[i].addr, sizeof(v[i].addr));
		v[i].prefix_len = list->v[i].prefix_len;
	}
	ref = rules_array(out, v, list->nr, sizeof(*v));
	free(v);
	return ref;
}

static struct mesh_ref add_ports(struct buf *out, const struct m_numbers *list)
{
	struct mesh_http_text *v = xcalloc((size_t)list->nr + 1, sizeof(*v));
	struct mesh_ref ref;
	char text[8];

	for (uint32_t i = 0; i < list->nr; i++) {
		snprintf(text, sizeof(text), "%u", list->v[i]);
		v[i] = text_of(out, MESH_SUBJECT_PORT, str_of(text));
	}
	ref = rules_array(out, v, list->nr, sizeof(*v));
	free(v);
	return ref;
}

/* ---- conditions ---- */

/* The tests of one condition: seven lists of its own, and those of requests. */
struct tests {
	struct mesh_http_test *v;
	uint32_t nr;
};

static void test_texts(struct buf *out, struct tests *t, uint32_t subject, const struct strs *pair)
{
	if (!pair[0].nr && !pair[1].nr)
		return;
	t->v[t->nr].subject = subject;
	t->v[t->nr].any = add_texts(out, subject, &pair[0]);
	t->v[t->nr++].none = add_texts(out, subject, &pair[1]);
}

static void test_nets(struct buf *out, struct tests *t, uint32_t subject, const struct m_cidrs *pair)
{
	if (!pair[0].nr && !pair[1].nr)
		return;
	t->v[t->nr].subject = subject;
	t->v[t->nr].any = add_nets(out, &pair[0]);
	t->v[t->nr++].none = add_nets(out, &pair[1]);
}

static void test_request(struct buf *out, struct tests *t, const struct m_request_test *test)
{
	if (test->subject == MESH_SUBJECT_REMOTE_IP) {
		test_nets(out, t, test->subject, test->nets);
		return;
	}
	t->v[t->nr].name = rules_text(out, test->header);
	test_texts(out, t, test->subject, test->texts);
}

static struct mesh_http_cond condition(struct buf *out, const struct m_condition *m)
{
	struct tests t = { .v = xcalloc((size_t)m->test_nr + 7, sizeof(*t.v)) };
	struct mesh_http_cond cond;

	test_texts(out, &t, MESH_SUBJECT_PRINCIPAL, m->principals);
	test_texts(out, &t, MESH_SUBJECT_NAMESPACE, m->namespaces);
	test_texts(out, &t, MESH_SUBJECT_ACCOUNT, m->accounts);
	test_texts(out, &t, MESH_SUBJECT_TRUST_DOMAIN, m->trust_domains);
	test_nets(out, &t, MESH_SUBJECT_SOURCE_IP, m->sources);
	test_nets(out, &t, MESH_SUBJECT_DESTINATION_IP, m->destinations);
	if (m->ports[0].nr || m->ports[1].nr) {
		t.v[t.nr].subject = MESH_SUBJECT_PORT;
		t.v[t.nr].any = add_ports(out, &m->ports[0]);
		t.v[t.nr++].none = add_ports(out, &m->ports[1]);
	}
	for (uint32_t i = 0; i < m->test_nr; i++)
		test_request(out, &t, &m->tests[i]);
	cond.tests = rules_array(out, t.v, t.nr, sizeof(*t.v));
	free(t.v);
	return cond;
}

static struct mesh_http_clause clause(struct buf *out, const struct m_clause *c)
{
	struct mesh_http_cond *v = xcalloc((size_t)c->nr + 1, sizeof(*v));
	struct mesh_http_clause ret;

	for (uint32_t i = 0; i < c->nr; i++)
		v[i] = condition(out, &c->any[i]);
	ret.any = rules_array(out, v, c->nr, sizeof(*v));
	free(v);
	return ret;
}

static struct mesh_http_policy policy(struct buf *out, const struct u_policy *p)
{
	struct mesh_http_rule *rules = xcalloc((size_t)p->rule_nr + 1, sizeof(*rules));
	struct mesh_http_policy ret = { .deny = p->deny };
	struct buf name = { 0 };

	for (uint32_t i = 0; i < p->rule_nr; i++) {
		const struct m_policy_rule *r = &p->rules[i];
		struct mesh_http_clause *v = xcalloc((size_t)r->clause_nr + 1, sizeof(*v));

		for (uint32_t k = 0; k < r->clause_nr; k++)
			v[k] = clause(out, &r->clauses[k]);
		rules[i].clauses = rules_array(out, v, r->clause_nr, sizeof(*v));
		free(v);
	}
	buf_printf(&name, "%.*s/%.*s", STR_ARG(p->ns), STR_ARG(p->name));
	ret.name = rules_text(out, (struct str){ name.data, (uint32_t)name.len });
	ret.rules = rules_array(out, rules, p->rule_nr, sizeof(*rules));
	buf_release(&name);
	free(rules);
	return ret;
}

/* ---- the whole ---- */

/* *ret_index: of each policy of the access, its number. */
static struct mesh_ref add_policies(struct buf *out, const struct access *a, uint32_t *ret_index)
{
	struct mesh_http_policy *v = xcalloc((size_t)a->policy_nr + 1, sizeof(*v));
	struct mesh_ref ref;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < a->policy_nr; i++) {
		if (!a->policies[i].rules)
			continue;
		ret_index[i] = nr;
		v[nr++] = policy(out, &a->policies[i]);
	}
	ref = rules_array(out, v, nr, sizeof(*v));
	free(v);
	return ref;
}

/* Those of one program, which stand behind each other: first what denies. */
static struct mesh_ref add_numbers(struct buf *out, const struct access *a, const struct u_program *p,
				   const uint32_t *index)
{
	uint32_t *v = xcalloc((size_t)p->guard_nr + 1, sizeof(*v)), nr = 0;
	struct mesh_ref ref;

	for (int deny = 1; deny >= 0; deny--) {
		for (uint32_t i = 0; i < p->guard_nr; i++) {
			uint32_t at = a->guards[p->guard + i];

			if (a->policies[at].rules && a->policies[at].deny == deny)
				v[nr++] = index[at];
		}
	}
	ref = rules_array(out, v, nr, sizeof(*v));
	free(v);
	return ref;
}

void rules_add_guards(struct buf *out, const struct access *a, struct mesh_http *h)
{
	uint32_t *index = xcalloc((size_t)a->policy_nr + 1, sizeof(*index)), nr = 0;
	struct mesh_ref *numbers = xcalloc((size_t)a->program_nr + 1, sizeof(*numbers));
	struct mesh_http_guard *v = xcalloc((size_t)a->member_nr + 1, sizeof(*v));

	h->policies = add_policies(out, a, index);
	for (uint32_t i = 0; i < a->member_nr; i++) {
		uint32_t program = a->members[i].relayed;

		if (!program)
			continue;
		if (!numbers[program].nr)
			numbers[program] = add_numbers(out, a, &a->programs[program - 1], index);
		memcpy(&v[nr].addr, &a->members[i].addr, sizeof(v[nr].addr));
		v[nr++].policies = numbers[program];
	}
	h->guards = rules_array(out, v, nr, sizeof(*v));
	free(index);
	free(numbers);
	free(v);
}
