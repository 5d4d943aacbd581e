/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which policies guard which workload. AuthorizationPolicies of the workload's namespace and of the root namespace, whose selector
 * has its labels or is not there; of PeerAuthentications the oldest of each level, the workload's before the namespace's before the
 * mesh's, where UNSET leaves it to the next (Istio pilot, model/authentication; a selector in the root namespace counts for nothing
 * there). Workloads that the same policies guard share a program.
 */
#include <stdlib.h>

#include "config/access_local.h"

struct set {
	uint64_t hash;
	struct guards guards;
	uint32_t program;
};

struct selecting {
	struct access_making *mk;
	const struct world *w;
	uint32_t policy_nr;    /* AuthorizationPolicies; PeerAuthentications stand behind them */
	struct index by_ns;    /* those without a selector, by namespace */
	struct index by_label; /* the others, by one pair of their labels; in the root namespace by the pair alone */
	bool *selects;	       /* of each policy: some workload */
	const struct doc **on_node; /* of each: a selected pod on its node's network */
	uint32_t *found;	    /* of one workload */
	uint32_t found_nr;
	struct set *sets;
	uint32_t set_nr, set_cap;
	uint32_t *slots, mask; /* set + 1 */
};

static const struct kvs *selector_of(const struct doc *doc)
{
	return doc->kind == KIND_PEER_AUTHENTICATION ? &doc->peers->selector : &doc->policy->selector;
}

static struct place selector_at(const struct doc *doc)
{
	return doc->kind == KIND_PEER_AUTHENTICATION ? doc->peers->selector_at : doc->policy->selector_at;
}

static uint64_t label_hash(struct str ns, const struct kv *label)
{
	return index_hash2(ns, label->key) * 31 + str_hash(label->val);
}

static bool in_root(const struct selecting *s, const struct doc *doc)
{
	return str_eq(doc->meta.ns, s->w->root_ns);
}

/* ---- all policies ---- */

static void add_policy(struct access *a, const struct doc *doc)
{
	struct u_policy *p = &a->policies[a->policy_nr++];

	p->kind = arena_str(&a->arena, doc->kind_name);
	p->ns = arena_str(&a->arena, doc->meta.ns);
	p->name = arena_str(&a->arena, doc->meta.name);
	p->file = arena_str(&a->arena, doc->at.file);
	p->line = doc->at.line;
	p->deny = doc->kind == KIND_PEER_AUTHENTICATION || doc->policy->deny;
	if (doc->kind == KIND_PEER_AUTHENTICATION)
		return;
	p->dry_run = doc->policy->dry_run;
	for (uint32_t i = 0; i < doc->policy->rule_nr && p->deny; i++)
		p->needs_l7 |= doc->policy->rules[i].l7;
}

static void index_policy(struct selecting *s, uint32_t policy)
{
	const struct doc *doc = s->mk->docs[policy];
	const struct kvs *selector = selector_of(doc);

	if (!selector->nr)
		index_add(&s->by_ns, str_hash(doc->meta.ns), policy);
	else
		index_add(&s->by_label, label_hash(in_root(s, doc) ? (struct str){ 0 } : doc->meta.ns, &selector->v[0]),
			  policy);
}

static void find_policies(struct selecting *s)
{
	struct access_making *mk = s->mk;
	struct access *a = mk->access;
	uint32_t peer_nr;
	struct doc *const *policies = model_list(mk->b->model, KIND_AUTHORIZATION_POLICY, &s->policy_nr);
	struct doc *const *peers = model_list(mk->b->model, KIND_PEER_AUTHENTICATION, &peer_nr);
	uint32_t nr = s->policy_nr + peer_nr;

	a->policies = arena_array(&a->arena, nr, sizeof(*a->policies));
	mk->docs = arena_array(&mk->temp, nr, sizeof(*mk->docs));
	s->selects = arena_array(&mk->temp, nr, sizeof(*s->selects));
	s->on_node = arena_array(&mk->temp, nr, sizeof(*s->on_node));
	s->found = arena_array(&mk->temp, nr, sizeof(*s->found));
	index_init(&s->by_ns, &mk->temp, nr);
	index_init(&s->by_label, &mk->temp, nr);
	for (uint32_t i = 0; i < nr; i++) {
		mk->docs[i] = i < s->policy_nr ? policies[i] : peers[i - s->policy_nr];
		add_policy(a, mk->docs[i]);
		index_policy(s, i);
	}
	index_seal(&s->by_ns, &mk->temp);
	index_seal(&s->by_label, &mk->temp);
}

/* ---- those of one workload ---- */

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void find_plain(struct selecting *s, struct str ns)
{
	for (index_each(&s->by_ns, str_hash(ns), at, policy))
		if (str_eq(s->mk->docs[policy]->meta.ns, ns))
			s->found[s->found_nr++] = policy;
}

static void find_labelled(struct selecting *s, const struct workload *wl, bool root)
{
	struct str ns = root ? (struct str){ 0 } : wl->doc->meta.ns;

	for (uint32_t i = 0; i < wl->labels->nr; i++) {
		for (index_each(&s->by_label, label_hash(ns, &wl->labels->v[i]), at, policy)) {
			const struct doc *doc = s->mk->docs[policy];

			/* Another label's hash may lead here too: a policy counts at its own first label. */
			if (in_root(s, doc) != root || (!root && !str_eq(doc->meta.ns, ns)) ||
			    !str_eq(selector_of(doc)->v[0].key, wl->labels->v[i].key) ||
			    !kvs_match(selector_of(doc), wl->labels))
				continue;
			s->found[s->found_nr++] = policy;
		}
	}
}

static void find(struct selecting *s, const struct workload *wl)
{
	const struct doc *pod = wl->doc->kind == KIND_POD ? wl->doc : NULL;

	s->found_nr = 0;
	find_plain(s, wl->doc->meta.ns);
	if (!in_root(s, wl->doc))
		find_plain(s, s->w->root_ns);
	find_labelled(s, wl, false);
	find_labelled(s, wl, true);
	if (s->found_nr)
		qsort(s->found, s->found_nr, sizeof(*s->found), by_number);
	for (uint32_t i = 0; i < s->found_nr; i++) {
		s->selects[s->found[i]] = true;
		if (pod && pod->pod->host_network && !pod->pod->finished)
			s->on_node[s->found[i]] = pod;
	}
}

/* ---- PeerAuthentication ---- */

static void take_mode(const struct selecting *s, uint32_t policy, enum mtls_mode *mode, uint32_t *by)
{
	const struct m_peer_authentication *p = policy ? s->mk->docs[policy - 1]->peers : NULL;

	if (!p || p->mode == MTLS_UNSET)
		return;
	*mode = p->mode;
	*by = policy;
}

/* Of what was found for a workload. */
static void find_strict(const struct selecting *s, struct guards *g)
{
	uint32_t mesh = 0, space = 0, own = 0, by = 0;
	enum mtls_mode mode = MTLS_PERMISSIVE;

	for (uint32_t i = 0; i < s->found_nr; i++) {
		const struct doc *doc = s->mk->docs[s->found[i]];
		bool labelled = s->found[i] >= s->policy_nr && doc->peers->selector.nr;
		uint32_t *level = labelled ? &own : in_root(s, doc) ? &mesh : &space;

		if (s->found[i] < s->policy_nr || *level || (labelled && in_root(s, doc)))
			continue;
		*level = s->found[i] + 1;
	}
	take_mode(s, mesh, &mode, &by);
	take_mode(s, space, &mode, &by);
	take_mode(s, own, &mode, &by);
	if (mode == MTLS_STRICT)
		g->strict = by;
	for (uint32_t i = 0; own && i < s->mk->docs[own - 1]->peers->port_nr; i++) {
		enum mtls_mode port = s->mk->docs[own - 1]->peers->ports[i].mode;

		if (port != MTLS_UNSET && (port == MTLS_STRICT) != (mode == MTLS_STRICT))
			g->strict_ports = own;
	}
}

/* ---- sets ---- */

static bool same_guards(const struct guards *x, const struct guards *y)
{
	return x->nr == y->nr && x->strict == y->strict && x->strict_ports == y->strict_ports &&
	       x->shadow == y->shadow && x->relayed == y->relayed &&
	       (!x->nr || !memcmp(x->policies, y->policies, x->nr * sizeof(*x->policies)));
}

static uint32_t program_of(struct selecting *s, const struct guards *g)
{
	uint64_t hash = str_hash((struct str){ (const char *)g->policies, (uint32_t)(g->nr * sizeof(*g->policies)) });
	uint32_t at, *policies;
	struct set *set;

	if (!g->nr && !g->strict && !g->strict_ports)
		return 0;
	hash = (hash ^ ((uint64_t)g->strict << 34 | (uint64_t)g->strict_ports << 2 | g->relayed << 1 | g->shadow)) *
	       0x9e3779b97f4a7c15ull;
	hash ^= hash >> 29;
	for (at = (uint32_t)hash & s->mask; s->slots[at]; at = (at + 1) & s->mask) {
		set = &s->sets[s->slots[at] - 1];
		if (set->hash == hash && same_guards(&set->guards, g))
			return set->program;
	}
	GROW(s->sets, s->set_nr, &s->set_cap);
	set = &s->sets[s->set_nr++];
	s->slots[at] = s->set_nr;
	policies = arena_array(&s->mk->temp, g->nr, sizeof(*policies));
	if (g->nr)
		memcpy(policies, g->policies, g->nr * sizeof(*policies));
	*set = (struct set){ .hash = hash, .guards = *g };
	set->guards.policies = policies;
	set->program = access_compile(s->mk, &set->guards);
	return set->program;
}

/* What holds for connections of meshl7, where that is something else. */
static uint32_t relayed_of(struct selecting *s, const struct guards *g, uint32_t program)
{
	struct guards relayed = *g;
	uint32_t ret;
	bool asks = false;

	for (uint32_t i = 0; i < g->nr; i++)
		asks |= access_asks_requests(s->mk->docs[g->policies[i]]->policy);
	if (!asks || s->mk->b->no_parser)
		return 0;
	relayed.relayed = true;
	ret = program_of(s, &relayed);
	if (ret == program)
		return 0;
	for (uint32_t i = 0; i < g->nr; i++)
		access_keep_rules(s->mk, g->policies[i]);
	s->mk->access->asks_requests = true;
	return ret;
}

static struct guarded programs_of(struct selecting *s)
{
	uint32_t *split = xcalloc(2 * (size_t)s->found_nr + 1, sizeof(*split));
	struct guards g[2] = { { .policies = split }, { .policies = split + s->found_nr, .shadow = true } };
	struct guarded ret;

	for (uint32_t i = 0; i < s->found_nr; i++) {
		uint32_t policy = s->found[i], shadow;

		if (policy >= s->policy_nr)
			continue;
		shadow = s->mk->docs[policy]->policy->dry_run;
		split[shadow * s->found_nr + g[shadow].nr++] = policy;
	}
	find_strict(s, &g[0]);
	ret.program = program_of(s, &g[0]);
	ret.shadow = program_of(s, &g[1]);
	ret.relayed = relayed_of(s, &g[0], ret.program);
	free(split);
	return ret;
}

/* ---- what people should know ---- */

struct spaces {
	struct doc *const *docs;
	uint32_t nr;
	struct index by_name;
};

static void find_spaces(struct selecting *s, struct spaces *o)
{
	o->docs = model_list(s->mk->b->model, KIND_NAMESPACE, &o->nr);
	index_init(&o->by_name, &s->mk->temp, o->nr);
	for (uint32_t i = 0; i < o->nr; i++)
		index_add(&o->by_name, str_hash(o->docs[i]->meta.name), i);
	index_seal(&o->by_name, &s->mk->temp);
}

static bool names_some(const struct selecting *s, const struct spaces *o, struct str text)
{
	uint64_t hash = str_hash(text);

	if (str_find(text, '*') < 0)
		return index_first(&o->by_name, hash) || index_first(&s->mk->by_ns, hash);
	for (uint32_t i = 0; i < o->nr; i++)
		if (access_text_is(text, o->docs[i]->meta.name))
			return true;
	return false;
}

/* Namespaces that nobody has: once a policy. Without any Namespace the rules are being checked without a cluster. */
static void warn_namespaces(struct selecting *s, const struct spaces *o, const struct doc *doc)
{
	const struct m_authorization_policy *p = doc->policy;

	for (uint32_t i = 0; i < p->rule_nr && o->nr; i++) {
		for (uint32_t k = 0; k < p->rules[i].clause_nr; k++) {
			const struct m_clause *clause = &p->rules[i].clauses[k];

			for (uint32_t n = 0; n < 2 * clause->nr; n++) {
				const struct strs *list = &clause->any[n / 2].namespaces[n % 2];

				for (uint32_t at = 0; at < list->nr; at++) {
					if (names_some(s, o, list->v[at]))
						continue;
					report_warning(s->mk->b, doc, list->at[at],
						       arena_printf(&s->mk->temp, "spec.rules[%u]", i),
						       (struct str){ 0 },
						       "[IST0101] referenced namespace not found: \"%.*s\"",
						       STR_ARG(list->v[at]));
					return;
				}
			}
		}
	}
}

static void warn_selector(struct selecting *s, uint32_t policy)
{
	const struct doc *doc = s->mk->docs[policy];
	bool peers = doc->kind == KIND_PEER_AUTHENTICATION;

	if (peers && !selector_of(doc)->nr) {
		for (uint32_t i = s->policy_nr; i < policy; i++) {
			if (selector_of(s->mk->docs[i])->nr || !str_eq(s->mk->docs[i]->meta.ns, doc->meta.ns))
				continue;
			report_warning(s->mk->b, doc, doc->meta.name_at, STR("metadata.name"), (struct str){ 0 },
				       "not used: %.*s of the same namespace is older",
				       STR_ARG(s->mk->docs[i]->meta.name));
			return;
		}
	}
	if (!selector_of(doc)->nr) {
		if (!peers && !s->selects[policy] && s->w->workload_nr)
			report_warning(s->mk->b, doc, doc->meta.name_at, STR("metadata.name"), (struct str){ 0 },
				       "[IST0127] there is no workload in its namespace");
		return;
	}
	if (peers && in_root(s, doc)) {
		report_warning(s->mk->b, doc, selector_at(doc), STR("spec.selector"),
			       STR("write it into the workload's namespace"),
			       "not used: in the root namespace a PeerAuthentication is for the whole mesh");
		return;
	}
	if (s->on_node[policy])
		report_warning(s->mk->b, doc, selector_at(doc), STR("spec.selector"), (struct str){ 0 },
			       "not enforced for pod %.*s/%.*s: it is on its node's network",
			       STR_ARG(s->on_node[policy]->meta.ns), STR_ARG(s->on_node[policy]->meta.name));
	if (!s->selects[policy] && s->w->workload_nr)
		report_warning(s->mk->b, doc, selector_at(doc), STR("spec.selector"), (struct str){ 0 },
			       "[IST0127] selects no workload");
}

static void warn_requests(struct access_making *mk, const struct doc *doc)
{
	if (!mk->b->no_parser || !access_asks_requests(doc->policy))
		return;
	report_warning(mk->b, doc, doc->meta.name_at, STR("spec.rules"), (struct str){ 0 },
		       "not enforced: the setting parser is off; rules that need the bytes of requests %s",
		       doc->policy->deny ? "count as if they held" : "allow nobody");
}

void access_select(struct access_making *mk, const bool *members, struct guarded *ret)
{
	struct selecting s = { .mk = mk, .w = mk->b->world };
	struct spaces spaces;
	uint32_t room = 16;

	find_policies(&s);
	if (!mk->access->policy_nr)
		return;
	on_node_find(mk);
	/* Three sets a workload at most, and the table no more than half full. */
	while (room < 6 * s.w->workload_nr)
		room *= 2;
	s.slots = xcalloc(room, sizeof(*s.slots));
	s.mask = room - 1;
	for (uint32_t i = 0; i < s.w->workload_nr; i++) {
		find(&s, &s.w->workloads[i]);
		if (members[i])
			ret[i] = programs_of(&s);
	}
	find_spaces(&s, &spaces);
	for (uint32_t i = 0; i < mk->access->policy_nr; i++) {
		warn_selector(&s, i);
		if (i >= s.policy_nr)
			continue;
		on_node_warn(mk, mk->docs[i]);
		warn_requests(mk, mk->docs[i]);
		warn_namespaces(&s, &spaces, mk->docs[i]);
	}
	on_node_release(mk);
	free(s.sets);
	free(s.slots);
}
