/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Policies of one workload -> one program. Steps are written in order, and lead to labels that are only known later, so that every
 * jump is forward. What depends on nothing but the identity of the source becomes one bitmap over identities, number 0 among them:
 * who has none is never what a list names, and always apart from it (as ztunnel has it).
 */
#include <stdlib.h>

#include "config/access_local.h"

/* Label of the step behind this one. */
#define NEXT 0u

struct step {
	struct u_term term;
	uint32_t hit, miss; /* labels; verdicts have none */
};

struct code {
	struct access_making *mk;
	struct step *steps;
	uint32_t nr, cap;
	uint32_t *labels; /* position of each; [0] is not used */
	uint32_t label_nr, label_cap;
	uint64_t *bits;
	uint32_t bit_nr, bit_cap;
	uint64_t *scratch; /* four bitmaps: two of the rule and the clause, two of what is called for them */
	uint32_t words;
	uint32_t policy; /* whose steps are being written */
	bool full;
	bool closed; /* the last step is a verdict that nothing leads around: what would follow cannot be reached */
};

/* ---- steps ---- */

static uint32_t label_new(struct code *c)
{
	GROW(c->labels, c->label_nr, &c->label_cap);
	c->labels[c->label_nr] = 0;
	return c->label_nr++;
}

/* The label is the next step from now on. */
static void label_here(struct code *c, uint32_t label)
{
	c->labels[label] = c->nr;
}

static struct step *emit(struct code *c, uint16_t op, uint32_t hit, uint32_t miss)
{
	static struct step nowhere;

	if (c->nr >= MESH_TERMS_MAX)
		c->full = true;
	if (c->full)
		return &nowhere;
	GROW(c->steps, c->nr, &c->cap);
	/* Padding too: terms are compared as bytes. */
	memset(&c->steps[c->nr], 0, sizeof(*c->steps));
	c->steps[c->nr].term.op = op;
	c->steps[c->nr].hit = hit;
	c->steps[c->nr].miss = miss;
	return &c->steps[c->nr++];
}

static void emit_verdict(struct code *c, uint16_t op, uint32_t policy, uint32_t rule)
{
	struct step *s = emit(c, op, NEXT, NEXT);

	s->term.arg = policy;
	s->term.rule = rule;
}

/* ---- identities ---- */

bool access_text_is(struct str form, struct str text)
{
	if (str_is(form, "*"))
		return text.len != 0;
	if (form.len && form.p[0] == '*')
		return str_ends(text, str_sub(form, 1, form.len));
	if (form.len && form.p[form.len - 1] == '*')
		return str_starts(text, str_sub(form, 0, form.len - 1));
	return str_eq(form, text);
}

bool access_principal_parse(struct str text, struct str trust_domain, struct str *ret_ns, struct str *ret_account)
{
	struct str rest = str_sub(text, trust_domain.len, text.len);
	int slash;

	if (!str_starts(text, trust_domain) || !str_starts(rest, STR("/ns/")))
		return false;
	rest = str_sub(rest, 4, rest.len);
	slash = str_find(rest, '/');
	if (slash < 0)
		return false;
	*ret_ns = str_sub(rest, 0, (uint32_t)slash);
	rest = str_sub(rest, (uint32_t)slash, rest.len);
	if (!str_starts(rest, STR("/sa/")))
		return false;
	*ret_account = str_sub(rest, 4, rest.len);
	return true;
}

/* Lists of texts about the source. */
enum about { PRINCIPALS, NAMESPACES, ACCOUNTS, TRUST_DOMAINS, ABOUT_NR };

static const struct strs *list_of(const struct m_condition *m, enum about about)
{
	const struct strs *const lists[] = { m->principals, m->namespaces, m->accounts, m->trust_domains };

	return lists[about];
}

static struct str text_of(const struct access_making *mk, enum about about, uint32_t identity)
{
	return about == PRINCIPALS ? mk->principals[identity] : mk->access->identities[identity].ns;
}

static void add_account(const struct access_making *mk, struct str ns, struct str account, uint64_t *set)
{
	for (index_each(&mk->by_account, index_hash2(ns, account), at, i))
		if (str_eq(mk->access->identities[i].ns, ns) && str_eq(mk->access->identities[i].account, account))
			set[i / 64] |= 1ull << i % 64;
}

static void add_namespace(const struct access_making *mk, struct str ns, uint64_t *set)
{
	for (index_each(&mk->by_ns, str_hash(ns), at, i))
		if (str_eq(mk->access->identities[i].ns, ns))
			set[i / 64] |= 1ull << i % 64;
}

/* Everybody that one text names; number 0 never. */
static void add_named(const struct access_making *mk, enum about about, struct str form, uint64_t *set)
{
	bool exact = form.p[0] != '*' && form.p[form.len - 1] != '*';
	struct str ns, account;
	int slash = str_find(form, '/');

	if (about == ACCOUNTS) {
		if (slash >= 0)
			add_account(mk, str_sub(form, 0, (uint32_t)slash), str_sub(form, (uint32_t)slash + 1, form.len),
				    set);
	} else if (about == NAMESPACES && exact) {
		add_namespace(mk, form, set);
	} else if (about == PRINCIPALS && exact) {
		if (access_principal_parse(form, mk->trust_domain, &ns, &account))
			add_account(mk, ns, account, set);
	} else if (about != TRUST_DOMAINS || access_text_is(form, mk->trust_domain)) {
		for (uint32_t i = 1; i < mk->access->identity_nr; i++)
			if (about == TRUST_DOMAINS || access_text_is(form, text_of(mk, about, i)))
				set[i / 64] |= 1ull << i % 64;
	}
}

static bool about_identity(const struct m_condition *m)
{
	return m->principals[0].nr || m->principals[1].nr || m->namespaces[0].nr || m->namespaces[1].nr ||
	       m->accounts[0].nr || m->accounts[1].nr || m->trust_domains[0].nr || m->trust_domains[1].nr;
}

static bool about_more(const struct m_condition *m)
{
	return m->sources[0].nr || m->sources[1].nr || m->destinations[0].nr || m->destinations[1].nr ||
	       m->ports[0].nr || m->ports[1].nr;
}

/* Sets the bit of every identity for which the condition holds. Numbers that nobody has are in no set, nor in what it leaves out, so
 * that a program does not tell how the numbers came about. */
static void identities_add(const struct code *c, const struct m_condition *m, uint64_t *bits)
{
	uint64_t *all = c->scratch + 2 * (size_t)c->words, *one = all + c->words;

	memcpy(all, c->mk->live, c->words * sizeof(*all));
	for (uint32_t i = 0; i < 2 * ABOUT_NR; i++) {
		const struct strs *list = &list_of(m, i / 2)[i % 2];
		uint64_t out = i % 2 ? 0 : UINT64_MAX;

		if (!list->nr)
			continue;
		memset(one, 0, c->words * sizeof(*one));
		for (uint32_t k = 0; k < list->nr; k++)
			add_named(c->mk, i / 2, list->v[k], one);
		for (uint32_t k = 0; k < c->words; k++)
			all[k] &= ~(one[k] ^ out);
	}
	for (uint32_t k = 0; k < c->words; k++)
		bits[k] |= all[k];
}

static uint32_t trimmed(const uint64_t *bits, uint32_t words)
{
	while (words && !bits[words - 1])
		words--;
	return words;
}

static uint32_t bits_set(const uint64_t *bits, uint32_t words)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < words; i++)
		nr += (uint32_t)__builtin_popcountll(bits[i]);
	return nr;
}

static void emit_words(struct code *c, const uint64_t *bits, uint32_t words, uint32_t hit, uint32_t miss)
{
	struct step *s = emit(c, MESH_OP_IDENTITY, hit, miss);

	s->term.arg = c->bit_nr;
	s->term.nr = words;
	for (uint32_t i = 0; i < words && !c->full; i++) {
		GROW(c->bits, c->bit_nr, &c->bit_cap);
		c->bits[c->bit_nr++] = bits[i];
	}
}

/* The set, or with the branches swapped what it leaves out, whichever are fewer: what a rule does not name then mostly needs no new
 * program when another service account comes. */
static void emit_identities(struct code *c, const uint64_t *bits, uint32_t hit, uint32_t miss)
{
	uint64_t *rest = c->scratch + 2 * (size_t)c->words;

	for (uint32_t i = 0; i < c->words; i++)
		rest[i] = c->mk->live[i] & ~bits[i];
	if (bits_set(bits, c->words) <= bits_set(rest, c->words))
		emit_words(c, bits, trimmed(bits, c->words), hit, miss);
	else
		emit_words(c, rest, trimmed(rest, c->words), miss, hit);
}

/* ---- lists ---- */

/* Addresses of IPv4 are ::ffff:a.b.c.d here, but in no network of IPv6. */
static bool covers_v4(const struct cidr *net)
{
	static const struct addr v4 = { .b = { [10] = 0xff, [11] = 0xff } };

	return net->prefix_len < 96 && addr_in(&v4, &net->addr, net->prefix_len);
}

static void emit_net(struct code *c, uint16_t op, const struct cidr *net, uint32_t hit, uint32_t miss)
{
	struct step *s;

	if (covers_v4(net)) {
		/* NEXT would be the step below. */
		uint32_t out = miss == NEXT ? label_new(c) : miss;

		s = emit(c, op, out, NEXT);
		s->term.addr.b[10] = s->term.addr.b[11] = 0xff;
		s->term.nr = 96;
		s = emit(c, op, hit, out);
		s->term.addr = net->addr;
		s->term.nr = net->prefix_len;
		if (miss == NEXT)
			label_here(c, out);
		return;
	}
	s = emit(c, op, hit, miss);
	s->term.addr = net->addr;
	s->term.nr = net->prefix_len;
}

static void emit_nets(struct code *c, uint16_t op, const struct m_cidrs *list, bool negative, uint32_t ok,
		      uint32_t fail)
{
	for (uint32_t i = 0; i < list->nr; i++) {
		bool last = i + 1 == list->nr;

		emit_net(c, op, &list->v[i], negative ? fail : ok, !last ? NEXT : negative ? ok : fail);
	}
}

static int by_number(const void *a, const void *b)
{
	return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

static void emit_ports(struct code *c, const struct m_numbers *list, bool negative, uint32_t ok, uint32_t fail)
{
	uint16_t *v = arena_array(&c->mk->temp, list->nr, sizeof(*v));
	struct step *s;

	memcpy(v, list->v, list->nr * sizeof(*v));
	qsort(v, list->nr, sizeof(*v), by_number);
	for (uint32_t i = 0; i < list->nr;) {
		uint32_t from = v[i], to = v[i];

		for (i++; i < list->nr && v[i] <= to + 1u; i++)
			to = v[i];
		s = emit(c, MESH_OP_PORT, negative ? fail : ok, i < list->nr ? NEXT : negative ? ok : fail);
		s->term.arg = from;
		s->term.nr = to;
	}
}

/* Everything of the condition but the identity, at least one list. */
static void emit_lists(struct code *c, const struct m_condition *m, uint32_t ok, uint32_t fail)
{
	uint32_t left = 0;

	for (uint32_t n = 0; n < 2; n++)
		left += !!m->sources[n].nr + !!m->destinations[n].nr + !!m->ports[n].nr;
	for (uint32_t n = 0; n < 2; n++) {
		if (m->ports[n].nr) {
			uint32_t then = --left ? label_new(c) : ok;

			emit_ports(c, &m->ports[n], n, then, fail);
			if (left)
				label_here(c, then);
		}
		if (m->sources[n].nr) {
			uint32_t then = --left ? label_new(c) : ok;

			emit_nets(c, MESH_OP_SOURCE, &m->sources[n], n, then, fail);
			if (left)
				label_here(c, then);
		}
		if (m->destinations[n].nr) {
			uint32_t then = --left ? label_new(c) : ok;

			emit_nets(c, MESH_OP_DESTINATION, &m->destinations[n], n, then, fail);
			if (left)
				label_here(c, then);
		}
	}
}

/* ---- rules ---- */

/* Holds for everything: nothing is asked of it, or only bytes would tell (a DENY rule). */
static bool always(const struct m_clause *clause)
{
	for (uint32_t i = 0; i < clause->nr; i++)
		if (!about_identity(&clause->any[i]) && !about_more(&clause->any[i]))
			return true;
	return false;
}

static bool identity_only(const struct m_clause *clause)
{
	for (uint32_t i = 0; i < clause->nr; i++)
		if (about_more(&clause->any[i]))
			return false;
	return true;
}

/* One of the conditions must hold; what only asks for the identity first, all at once. */
static void emit_clause(struct code *c, const struct m_clause *clause, uint32_t fail)
{
	uint32_t ok = label_new(c), left = 0;
	uint64_t *bits = c->scratch;
	bool some = false;

	memset(bits, 0, c->words * sizeof(*bits));
	for (uint32_t i = 0; i < clause->nr; i++) {
		if (about_more(&clause->any[i])) {
			left++;
			continue;
		}
		identities_add(c, &clause->any[i], bits);
		some = true;
	}
	if (some)
		emit_identities(c, bits, ok, left ? NEXT : fail);
	for (uint32_t i = 0; i < clause->nr; i++) {
		const struct m_condition *m = &clause->any[i];
		uint32_t other;

		if (!about_more(m))
			continue;
		other = --left ? label_new(c) : fail;
		if (about_identity(m)) {
			memset(bits, 0, c->words * sizeof(*bits));
			identities_add(c, m, bits);
			emit_identities(c, bits, NEXT, other);
		}
		emit_lists(c, m, ok, other);
		if (left)
			label_here(c, other);
	}
	label_here(c, ok);
}

/* Clauses that only ask for the identity, as one test. True: there are some. */
static bool identities_of(struct code *c, const struct m_policy_rule *rule, uint64_t *all)
{
	uint64_t *one = c->scratch;
	bool some = false;

	memset(all, 0xff, c->words * sizeof(*all));
	for (uint32_t i = 0; i < rule->clause_nr; i++) {
		const struct m_clause *clause = &rule->clauses[i];

		if (always(clause) || !identity_only(clause))
			continue;
		memset(one, 0, c->words * sizeof(*one));
		for (uint32_t k = 0; k < clause->nr; k++)
			identities_add(c, &clause->any[k], one);
		for (uint32_t k = 0; k < c->words; k++)
			all[k] &= one[k];
		some = true;
	}
	return some;
}

static void emit_rule(struct code *c, const struct m_policy_rule *rule, uint16_t op, uint32_t policy, uint32_t index)
{
	uint32_t fail = label_new(c), before = c->nr;
	uint64_t *all = c->scratch + c->words;

	if (identities_of(c, rule, all))
		emit_identities(c, all, NEXT, fail);
	for (uint32_t i = 0; i < rule->clause_nr; i++)
		if (!always(&rule->clauses[i]) && !identity_only(&rule->clauses[i]))
			emit_clause(c, &rule->clauses[i], fail);
	c->closed = c->nr == before;
	emit_verdict(c, op, policy, index);
	label_here(c, fail);
}

static void emit_policies(struct code *c, const struct guards *g, bool deny)
{
	for (uint32_t i = 0; i < g->nr && !c->closed; i++) {
		const struct m_authorization_policy *p = c->mk->docs[g->policies[i]]->policy;

		if (p->deny != deny)
			continue;
		for (uint32_t k = 0; k < p->rule_nr && !c->closed && !c->full; k++) {
			struct m_policy_rule rule = p->rules[k];

			c->policy = g->policies[i];
			/* Of who dials directly, an ALLOW rule that only bytes could fulfil allows nobody. */
			if (g->relayed ? !access_rule_relayed(c->mk, &p->rules[k], deny, &rule) : !deny && rule.l7)
				continue;
			rule = on_node_closed(c->mk, &rule, deny);
			emit_rule(c, &rule, deny ? MESH_OP_DENY : MESH_OP_ALLOW, g->policies[i] + 1, k);
		}
	}
}

/* ---- PeerAuthentication ---- */

/* Sources without an identity are denied, but on ports whose mode says otherwise. */
static void emit_strict(struct code *c, const struct guards *g)
{
	const struct m_peer_authentication *p =
		g->strict_ports ? c->mk->docs[g->strict_ports - 1]->peers : &(struct m_peer_authentication){ 0 };
	static const uint64_t nobody = 1;
	uint32_t end = label_new(c), own = label_new(c);
	bool some = false;

	c->policy = (g->strict ? g->strict : g->strict_ports) - 1;
	emit_words(c, &nobody, 1, NEXT, end);
	for (uint32_t i = 0; i < p->port_nr; i++) {
		bool strict = p->ports[i].mode == MTLS_STRICT;
		struct step *s;

		if (p->ports[i].mode == MTLS_UNSET || strict == !!g->strict)
			continue;
		s = emit(c, MESH_OP_PORT, strict ? own : end, NEXT);
		s->term.arg = s->term.nr = p->ports[i].port;
		some = true;
	}
	if (g->strict) {
		emit_verdict(c, MESH_OP_DENY, g->strict, 0);
	} else if (some && !c->full) {
		/* No port is: the last of the tests leads out. */
		c->steps[c->nr - 1].miss = end;
		label_here(c, own);
		emit_verdict(c, MESH_OP_DENY, g->strict_ports, 0);
	}
	label_here(c, end);
}

/* ---- the program ---- */

/* The end: allowed, unless policies allow others. A dry run's denial is counted for the first of its policies. */
static void emit_end(struct code *c, const struct guards *g)
{
	for (uint32_t i = 0; i < g->nr; i++) {
		if (c->mk->docs[g->policies[i]]->policy->deny)
			continue;
		emit_verdict(c, MESH_OP_DENY, g->shadow ? g->policies[i] + 1 : 0, NO_RULE);
		return;
	}
	emit_verdict(c, MESH_OP_ALLOW, 0, NO_RULE);
}

static void report_full(struct code *c)
{
	const struct doc *doc = c->mk->docs[c->policy];

	report_error(c->mk->b, doc, doc->meta.name_at, STR("spec"),
		     STR("write fewer rules, or lists of networks and ports that are shorter"),
		     "with this policy a workload has more than %u tests of policies, so that it is denied everything",
		     MESH_TERMS_MAX);
	c->nr = c->bit_nr = 0;
	c->full = false;
	emit_verdict(c, MESH_OP_DENY, c->policy + 1, NO_RULE);
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ (h >> 29);
}

static uint64_t policy_hash(const struct access *a, uint32_t policy)
{
	const struct u_policy *p;

	if (!policy)
		return 0;
	p = &a->policies[policy - 1];
	return mix(mix(str_hash(p->kind), str_hash(p->ns)), str_hash(p->name));
}

static uint64_t program_hash(const struct access *a, const struct u_program *p)
{
	uint64_t h = mix(p->term_nr, p->bit_nr);

	for (uint32_t i = 0; i < p->term_nr; i++) {
		const struct u_term *t = &a->terms[p->term + i];
		bool verdict = t->op == MESH_OP_ALLOW || t->op == MESH_OP_DENY;

		h = mix(h, str_hash((struct str){ (const char *)t->addr.b, sizeof(t->addr.b) }));
		h = mix(mix(h, verdict ? policy_hash(a, t->arg) : t->arg), t->nr);
		h = mix(h, (uint64_t)t->hit << 32 | (uint64_t)t->miss << 16 | t->op);
	}
	for (uint32_t i = 0; i < p->bit_nr; i++)
		h = mix(h, a->bits[p->bit + i]);
	return h;
}

static bool same_program(const struct access *a, const struct u_program *x, const struct u_program *y)
{
	if (x->hash != y->hash || x->term_nr != y->term_nr || x->bit_nr != y->bit_nr || x->guard_nr != y->guard_nr)
		return false;
	return !memcmp(&a->terms[x->term], &a->terms[y->term], x->term_nr * sizeof(*a->terms)) &&
	       (!x->bit_nr || !memcmp(&a->bits[x->bit], &a->bits[y->bit], x->bit_nr * sizeof(*a->bits))) &&
	       (!x->guard_nr || !memcmp(&a->guards[x->guard], &a->guards[y->guard], x->guard_nr * sizeof(*a->guards)));
}

static void add_guard(struct access_making *mk, struct u_program *p, uint32_t policy)
{
	struct access *a = mk->access;

	GROW(a->guards, a->guard_nr, &mk->guard_cap);
	a->guards[a->guard_nr++] = policy;
	p->guard_nr++;
}

/* Puts the code behind what the access has. */
static struct u_program append(struct code *c, const struct guards *g)
{
	struct access_making *mk = c->mk;
	struct access *a = mk->access;
	struct u_program p = {
		.term = a->term_nr, .term_nr = c->nr, .bit = a->bit_nr, .bit_nr = c->bit_nr, .guard = a->guard_nr
	};

	for (uint32_t i = 0; i < c->nr; i++) {
		struct step *s = &c->steps[i];
		bool verdict = s->term.op == MESH_OP_ALLOW || s->term.op == MESH_OP_DENY;

		if (!verdict) {
			s->term.hit = (uint16_t)(s->hit == NEXT ? i + 1 : c->labels[s->hit]);
			s->term.miss = (uint16_t)(s->miss == NEXT ? i + 1 : c->labels[s->miss]);
		}
		GROW(a->terms, a->term_nr, &mk->term_cap);
		a->terms[a->term_nr++] = s->term;
	}
	for (uint32_t i = 0; i < c->bit_nr; i++) {
		GROW(a->bits, a->bit_nr, &mk->bit_cap);
		a->bits[a->bit_nr++] = c->bits[i];
	}
	for (uint32_t i = 0; i < g->nr; i++)
		add_guard(mk, &p, g->policies[i]);
	/* PeerAuthentications stand behind AuthorizationPolicies. */
	if (g->strict && (!g->strict_ports || g->strict < g->strict_ports))
		add_guard(mk, &p, g->strict - 1);
	if (g->strict_ports)
		add_guard(mk, &p, g->strict_ports - 1);
	if (g->strict && g->strict_ports && g->strict > g->strict_ports)
		add_guard(mk, &p, g->strict - 1);
	p.hash = program_hash(a, &p);
	return p;
}

uint32_t access_compile(struct access_making *mk, const struct guards *g)
{
	struct access *a = mk->access;
	struct code c = { .mk = mk, .words = (a->identity_nr + 63) / 64 };
	struct u_program p;
	uint32_t at;

	c.scratch = xcalloc(4 * (size_t)c.words, sizeof(*c.scratch));
	label_new(&c);
	if (g->strict || g->strict_ports)
		emit_strict(&c, g);
	emit_policies(&c, g, true);
	if (!c.closed)
		emit_policies(&c, g, false);
	if (!c.closed)
		emit_end(&c, g);
	if (c.full)
		report_full(&c);
	p = append(&c, g);
	free(c.scratch);
	free(c.steps);
	free(c.labels);
	free(c.bits);
	for (at = 0; at < a->program_nr; at++) {
		if (!same_program(a, &a->programs[at], &p))
			continue;
		a->term_nr = p.term;
		a->bit_nr = p.bit;
		a->guard_nr = p.guard;
		return at + 1;
	}
	GROW(a->programs, a->program_nr, &mk->program_cap);
	a->programs[a->program_nr++] = p;
	return a->program_nr;
}
