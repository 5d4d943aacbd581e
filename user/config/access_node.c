/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pods on their node's network, as clients. They share the node's address with all that runs there, so that nobody can be told by it,
 * and what a policy says of them fails closed: a rule of an ALLOW policy that names them does not match them, and one that leaves them
 * out leaves out their address; a rule of a DENY policy that names them is for everybody at their address. Each policy that names them
 * says so.
 */
#include <stdlib.h>

#include "config/access_local.h"

/* Those of one service account. */
struct node_group {
	struct str ns, account, principal; /* that they would have */
	const struct doc *pod;		   /* one of them */
	struct cidr *addrs;		   /* of their nodes, unique */
	uint32_t addr_nr, addr_cap;
};

static void add_addr(struct node_group *g, const struct addr *addr)
{
	for (uint32_t i = 0; i < g->addr_nr; i++)
		if (!addr_cmp(&g->addrs[i].addr, addr))
			return;
	GROW(g->addrs, g->addr_nr, &g->addr_cap);
	g->addrs[g->addr_nr++] = (struct cidr){ *addr, 128 };
}

static struct node_group *group_of(struct access_making *mk, const struct doc *pod)
{
	struct node_group *g;

	for (uint32_t i = 0; i < mk->on_node_nr; i++)
		if (str_eq(mk->on_node[i].account, pod->pod->service_account) &&
		    str_eq(mk->on_node[i].ns, pod->meta.ns))
			return &mk->on_node[i];
	GROW(mk->on_node, mk->on_node_nr, &mk->on_node_cap);
	g = &mk->on_node[mk->on_node_nr++];
	*g = (struct node_group){ .ns = pod->meta.ns, .account = pod->pod->service_account, .pod = pod };
	g->principal = arena_printf(&mk->temp, "%.*s/ns/%.*s/sa/%.*s", STR_ARG(mk->trust_domain), STR_ARG(g->ns),
				    STR_ARG(g->account));
	return g;
}

void on_node_find(struct access_making *mk)
{
	const struct world *w = mk->b->world;

	for (uint32_t i = 0; i < w->pod_nr; i++) {
		const struct doc *pod = w->workloads[i].doc;
		struct node_group *g;

		if (!pod->pod->host_network || pod->pod->finished)
			continue;
		g = group_of(mk, pod);
		for (uint32_t k = 0; k < pod->pod->ip_nr; k++)
			add_addr(g, &pod->pod->ips[k]);
	}
}

void on_node_release(struct access_making *mk)
{
	for (uint32_t i = 0; i < mk->on_node_nr; i++)
		free(mk->on_node[i].addrs);
	free(mk->on_node);
}

/* ---- whom a condition names ---- */

enum named { PRINCIPALS, NAMESPACES, ACCOUNTS, TRUST_DOMAINS, NAMED_NR };

static const struct strs *list_of(const struct m_condition *m, uint32_t what)
{
	const struct strs *const lists[] = { m->principals, m->namespaces, m->accounts, m->trust_domains };

	return lists[what];
}

static bool names(const struct access_making *mk, uint32_t what, struct str form, const struct node_group *g)
{
	int slash = str_find(form, '/');

	if (what == ACCOUNTS)
		return slash >= 0 && str_eq(str_sub(form, 0, (uint32_t)slash), g->ns) &&
		       str_eq(str_sub(form, (uint32_t)slash + 1, form.len), g->account);
	return access_text_is(form, what == PRINCIPALS ? g->principal : what == NAMESPACES ? g->ns : mk->trust_domain);
}

/* Position + 1 of the first in the list that names them. */
static uint32_t first_named(const struct access_making *mk, uint32_t what, const struct strs *list,
			    const struct node_group *g)
{
	for (uint32_t i = 0; i < list->nr; i++)
		if (names(mk, what, list->v[i], g))
			return i + 1;
	return 0;
}

/* What the condition says of identities, of theirs if they had one. */
static bool holds(const struct access_making *mk, const struct m_condition *m, const struct node_group *g)
{
	for (uint32_t i = 0; i < 2 * NAMED_NR; i++) {
		const struct strs *list = &list_of(m, i / 2)[i % 2];

		if (list->nr && !!first_named(mk, i / 2, list, g) == i % 2)
			return false;
	}
	return true;
}

/* Somebody must be named; who has no identity is not. */
static bool names_somebody(const struct m_condition *m)
{
	return m->principals[0].nr || m->namespaces[0].nr || m->accounts[0].nr || m->trust_domains[0].nr;
}

static bool leaves_somebody_out(const struct m_condition *m)
{
	return m->principals[1].nr || m->namespaces[1].nr || m->accounts[1].nr || m->trust_domains[1].nr;
}

/* ---- rules that fail closed ---- */

static void push_addr(struct m_cidrs *list, uint32_t *cap, const struct cidr *addr)
{
	for (uint32_t i = 0; i < list->nr; i++)
		if (list->v[i].prefix_len == 128 && !addr_cmp(&list->v[i].addr, &addr->addr))
			return;
	GROW(list->v, list->nr, cap);
	list->v[list->nr++] = *addr;
}

static bool in_any(const struct m_cidrs *list, const struct addr *addr)
{
	for (uint32_t i = 0; i < list->nr; i++)
		if (addr_is_v4(addr) == (list->v[i].prefix_len >= 96 && addr_is_v4(&list->v[i].addr)) &&
		    addr_in(addr, &list->v[i].addr, list->v[i].prefix_len))
			return true;
	return !list->nr;
}

/* Addresses of those for whom `m` holds, or does not, in a list of the making's own. */
static struct m_cidrs addrs_of(struct access_making *mk, const struct m_condition *m, bool wanted)
{
	struct m_cidrs found = { 0 }, kept;
	uint32_t cap = 0;

	for (uint32_t i = 0; i < mk->on_node_nr; i++) {
		const struct node_group *g = &mk->on_node[i];

		if (holds(mk, m, g) != wanted)
			continue;
		for (uint32_t k = 0; k < g->addr_nr; k++)
			if (in_any(&m->sources[0], &g->addrs[k].addr))
				push_addr(&found, &cap, &g->addrs[k]);
	}
	kept = (struct m_cidrs){ arena_array(&mk->temp, found.nr, sizeof(*kept.v)), found.nr };
	if (found.nr)
		memcpy(kept.v, found.v, found.nr * sizeof(*kept.v));
	free(found.v);
	return kept;
}

/* The condition again, for everybody at these addresses. */
static struct m_condition at_addrs(const struct m_condition *m, struct m_cidrs addrs)
{
	struct m_condition c = *m;

	for (uint32_t n = 0; n < 2; n++)
		c.principals[n].nr = c.namespaces[n].nr = c.accounts[n].nr = c.trust_domains[n].nr = 0;
	c.sources[0] = addrs;
	return c;
}

/* The condition, but for these addresses. */
static struct m_condition but_addrs(struct access_making *mk, const struct m_condition *m, struct m_cidrs addrs)
{
	struct m_condition c = *m;
	struct cidr *v = arena_array(&mk->temp, m->sources[1].nr + addrs.nr, sizeof(*v));

	if (m->sources[1].nr)
		memcpy(v, m->sources[1].v, m->sources[1].nr * sizeof(*v));
	memcpy(v + m->sources[1].nr, addrs.v, addrs.nr * sizeof(*v));
	c.sources[1] = (struct m_cidrs){ v, m->sources[1].nr + addrs.nr };
	return c;
}

static struct m_clause closed_clause(struct access_making *mk, const struct m_clause *clause, bool deny)
{
	struct m_clause ret = { arena_array(&mk->temp, 2 * (size_t)clause->nr, sizeof(*ret.any)), 0 };

	for (uint32_t i = 0; i < clause->nr; i++) {
		const struct m_condition *m = &clause->any[i];
		struct m_cidrs addrs = { 0 };

		ret.any[ret.nr++] = *m;
		if (deny && names_somebody(m))
			addrs = addrs_of(mk, m, true);
		else if (!deny && !names_somebody(m) && leaves_somebody_out(m))
			addrs = addrs_of(mk, m, false);
		if (addrs.nr && deny)
			ret.any[ret.nr++] = at_addrs(m, addrs);
		else if (addrs.nr)
			ret.any[ret.nr - 1] = but_addrs(mk, m, addrs);
	}
	return ret;
}

struct m_policy_rule on_node_closed(struct access_making *mk, const struct m_policy_rule *rule, bool deny)
{
	struct m_policy_rule ret = *rule;

	if (!mk->on_node_nr)
		return ret;
	ret.clauses = arena_array(&mk->temp, rule->clause_nr, sizeof(*ret.clauses));
	for (uint32_t i = 0; i < rule->clause_nr; i++)
		ret.clauses[i] = closed_clause(mk, &rule->clauses[i], deny);
	return ret;
}

/* ---- what people should know ---- */

static bool warn_list(struct access_making *mk, const struct doc *policy, const struct strs *list, uint32_t what,
		      bool negative)
{
	const char *outcome = policy->policy->deny ? "what is said of it holds for its node's address"
			      : negative	   ? "its node's address is left out"
						   : "this does not match it";

	for (uint32_t i = 0; i < mk->on_node_nr && what != TRUST_DOMAINS; i++) {
		const struct node_group *g = &mk->on_node[i];
		uint32_t at = first_named(mk, what, list, g);

		if (!at)
			continue;
		report_warning(mk->b, policy, list->at[at - 1], STR("spec.rules"),
			       STR("such pods share their node's address, so that nobody can be told by it"),
			       "\"%.*s\" names pod %.*s/%.*s, which is on its node's network and has no identity here: "
			       "%s",
			       STR_ARG(list->v[at - 1]), STR_ARG(g->pod->meta.ns), STR_ARG(g->pod->meta.name), outcome);
		return true;
	}
	return false;
}

void on_node_warn(struct access_making *mk, const struct doc *doc)
{
	const struct m_authorization_policy *p = doc->policy;

	for (uint32_t i = 0; i < p->rule_nr && mk->on_node_nr; i++) {
		for (uint32_t k = 0; k < p->rules[i].clause_nr; k++) {
			const struct m_clause *clause = &p->rules[i].clauses[k];

			for (uint32_t n = 0; n < 2 * NAMED_NR * clause->nr; n++) {
				uint32_t what = n / 2 % NAMED_NR, negative = n % 2;

				if (warn_list(mk, doc, &list_of(&clause->any[n / (2 * NAMED_NR)], what)[negative], what,
					      negative))
					return;
			}
		}
	}
}
