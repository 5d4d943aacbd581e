/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rules that ask something of requests: what of them the kernel is told of connections that meshl7 makes, and all of them for meshl7. What
 * nobody here can tell never holds in an ALLOW rule, and always in a DENY rule.
 */
#include "config/access_local.h"
#include "mesh_http.h"

bool access_asks_requests(const struct m_authorization_policy *p)
{
	for (uint32_t i = 0; i < p->rule_nr; i++)
		for (uint32_t k = 0; k < p->rules[i].clause_nr; k++)
			for (uint32_t n = 0; n < p->rules[i].clauses[k].nr; n++)
				if (p->rules[i].clauses[k].any[n].test_nr)
					return true;
	return false;
}

/* The rule with the conditions that `kept` says; false: a clause of it has none left. */
static bool filter(struct arena *arena, const struct m_policy_rule *rule, bool deny,
		   bool (*kept)(const struct m_condition *m, bool deny), struct m_policy_rule *ret)
{
	*ret = *rule;
	ret->clauses = arena_array(arena, rule->clause_nr, sizeof(*ret->clauses));
	for (uint32_t i = 0; i < rule->clause_nr; i++) {
		const struct m_clause *from = &rule->clauses[i];
		struct m_clause *to = &ret->clauses[i];

		to->any = arena_array(arena, from->nr, sizeof(*to->any));
		for (uint32_t k = 0; k < from->nr; k++)
			if (kept(&from->any[k], deny))
				to->any[to->nr++] = from->any[k];
		if (!to->nr)
			return false;
	}
	return true;
}

static bool holds_some(const struct m_condition *m, bool deny)
{
	return deny || !m->unknown;
}

static bool holds_now(const struct m_condition *m, bool deny)
{
	return deny ? !m->test_nr : !m->unknown;
}

bool access_rule_relayed(struct access_making *mk, const struct m_policy_rule *rule, bool deny,
			 struct m_policy_rule *ret)
{
	return filter(&mk->temp, rule, deny, holds_now, ret);
}

/* ---- copies, which outlive the documents ---- */

static struct strs strs_copy(struct arena *a, const struct strs *from)
{
	struct strs to = { .v = arena_array(a, from->nr, sizeof(*to.v)), .nr = from->nr };

	for (uint32_t i = 0; i < from->nr; i++)
		to.v[i] = arena_str(a, from->v[i]);
	return to;
}

static struct m_cidrs cidrs_copy(struct arena *a, const struct m_cidrs *from)
{
	struct m_cidrs to = { .v = arena_array(a, from->nr, sizeof(*to.v)), .nr = from->nr };

	if (from->nr)
		memcpy(to.v, from->v, from->nr * sizeof(*to.v));
	return to;
}

static struct m_numbers numbers_copy(struct arena *a, const struct m_numbers *from)
{
	struct m_numbers to = { .v = arena_array(a, from->nr, sizeof(*to.v)), .nr = from->nr };

	if (from->nr)
		memcpy(to.v, from->v, from->nr * sizeof(*to.v));
	return to;
}

static void condition_copy(struct arena *a, struct m_condition *m)
{
	struct m_request_test *tests = arena_array(a, m->test_nr, sizeof(*tests));

	for (uint32_t n = 0; n < 2; n++) {
		m->principals[n] = strs_copy(a, &m->principals[n]);
		m->namespaces[n] = strs_copy(a, &m->namespaces[n]);
		m->accounts[n] = strs_copy(a, &m->accounts[n]);
		m->trust_domains[n] = strs_copy(a, &m->trust_domains[n]);
		m->sources[n] = cidrs_copy(a, &m->sources[n]);
		m->destinations[n] = cidrs_copy(a, &m->destinations[n]);
		m->ports[n] = numbers_copy(a, &m->ports[n]);
		for (uint32_t i = 0; i < m->test_nr; i++) {
			tests[i].texts[n] = strs_copy(a, &m->tests[i].texts[n]);
			tests[i].nets[n] = cidrs_copy(a, &m->tests[i].nets[n]);
		}
	}
	for (uint32_t i = 0; i < m->test_nr; i++) {
		tests[i].subject = m->tests[i].subject;
		tests[i].header = arena_str(a, m->tests[i].header);
	}
	m->tests = tests;
}

void access_keep_rules(struct access_making *mk, uint32_t policy)
{
	const struct m_authorization_policy *p = mk->docs[policy]->policy;
	struct u_policy *to = &mk->access->policies[policy];
	struct arena *arena = &mk->access->arena;
	struct m_policy_rule *rules;

	if (to->rules)
		return;
	rules = arena_array(arena, p->rule_nr + 1, sizeof(*rules));
	to->rules = rules;
	for (uint32_t i = 0; i < p->rule_nr; i++) {
		struct m_policy_rule *r = &rules[to->rule_nr], some;

		if (!filter(&mk->temp, &p->rules[i], p->deny, holds_some, &some))
			continue;
		some = on_node_closed(mk, &some, p->deny);
		*r = some;
		r->clauses = arena_array(arena, some.clause_nr, sizeof(*r->clauses));
		for (uint32_t k = 0; k < some.clause_nr; k++) {
			const struct m_clause *from = &some.clauses[k];

			r->clauses[k] = (struct m_clause){ arena_array(arena, from->nr, sizeof(*from->any)), from->nr };
			for (uint32_t n = 0; n < from->nr; n++) {
				r->clauses[k].any[n] = from->any[n];
				condition_copy(arena, &r->clauses[k].any[n]);
			}
		}
		to->rule_nr++;
	}
}

/* ---- as text ---- */

static void print_texts(struct buf *out, const char *what, const struct strs *pair)
{
	for (uint32_t n = 0; n < 2; n++) {
		if (!pair[n].nr)
			continue;
		buf_printf(out, " %s%s", what, n ? " not" : "");
		for (uint32_t i = 0; i < pair[n].nr; i++)
			buf_printf(out, "%s\"%.*s\"", i ? "," : " ", STR_ARG(pair[n].v[i]));
	}
}

static void print_nets(struct buf *out, const char *what, const struct m_cidrs *pair)
{
	char text[ADDR_TEXT_MAX];

	for (uint32_t n = 0; n < 2; n++) {
		if (!pair[n].nr)
			continue;
		buf_printf(out, " %s%s", what, n ? " not" : "");
		for (uint32_t i = 0; i < pair[n].nr; i++)
			buf_printf(out, "%s%s/%u", i ? "," : " ", addr_text(&pair[n].v[i].addr, text),
				   pair[n].v[i].prefix_len);
	}
}

static void print_ports(struct buf *out, const struct m_numbers *pair)
{
	for (uint32_t n = 0; n < 2; n++) {
		if (!pair[n].nr)
			continue;
		buf_printf(out, " port%s", n ? " not" : "");
		for (uint32_t i = 0; i < pair[n].nr; i++)
			buf_printf(out, "%s%u", i ? "," : " ", pair[n].v[i]);
	}
}

static void print_test(struct buf *out, const struct m_request_test *t)
{
	static const char *const words[] = {
		[MESH_SUBJECT_HOST] = "host", [MESH_SUBJECT_METHOD] = "method", [MESH_SUBJECT_PATH] = "path"
	};
	struct buf what = { 0 };

	if (t->subject == MESH_SUBJECT_REMOTE_IP) {
		print_nets(out, "remote", t->nets);
		return;
	}
	if (t->subject == MESH_SUBJECT_HEADER)
		buf_printf(&what, "header %.*s", STR_ARG(t->header));
	print_texts(out, what.len ? what.data : words[t->subject], t->texts);
	buf_release(&what);
}

static void print_condition(struct buf *out, const struct m_condition *m)
{
	size_t before = out->len;

	print_texts(out, "principal", m->principals);
	print_texts(out, "namespace", m->namespaces);
	print_texts(out, "account", m->accounts);
	print_texts(out, "trust domain", m->trust_domains);
	print_nets(out, "source", m->sources);
	print_nets(out, "destination", m->destinations);
	print_ports(out, m->ports);
	for (uint32_t i = 0; i < m->test_nr; i++)
		print_test(out, &m->tests[i]);
	if (out->len == before)
		buf_str(out, STR(" anything"));
}

void access_rules_print(const struct u_policy *p, struct buf *out)
{
	if (!p->rules)
		return;
	buf_printf(out, "requests: %.*s %.*s/%.*s %s\n", STR_ARG(p->kind), STR_ARG(p->ns), STR_ARG(p->name),
		   p->deny ? "denies" : "allows");
	for (uint32_t i = 0; i < p->rule_nr; i++) {
		buf_str(out, STR("  rule\n"));
		for (uint32_t k = 0; k < p->rules[i].clause_nr; k++) {
			const struct m_clause *c = &p->rules[i].clauses[k];

			buf_str(out, STR("   "));
			for (uint32_t n = 0; n < c->nr; n++) {
				buf_str(out, n ? STR(" or") : STR(""));
				print_condition(out, &c->any[n]);
			}
			buf_str(out, STR("\n"));
		}
	}
}
