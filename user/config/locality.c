/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where workloads are, and which endpoints of a destination go first because of it. Follows Istio (pilot/pkg/networking/core/
 * loadbalancer: the priority of an endpoint by locality, failover, failoverPriority; shares of distribute), and for hints kube-proxy
 * (pkg/proxy/topology.go).
 */
#include <stdlib.h>

#include "config/alias.h"
#include "config/resolve.h"

/* ---- localities ---- */

struct m_locality locality_parse(struct str text)
{
	struct str parts[3] = { 0 };

	for (int i = 0; i < 3 && text.len; i++) {
		int at = str_find(text, '/');

		parts[i] = at < 0 ? text : str_sub(text, 0, (uint32_t)at);
		text = at < 0 ? (struct str){ 0 } : str_sub(text, (uint32_t)at + 1, text.len);
	}
	return (struct m_locality){ parts[0], parts[1], parts[2] };
}

/* A value of a label has no "/": "." stands for it, unless there is one. */
static struct m_locality parse_label(struct arena *a, struct str text)
{
	char *copy;

	if (str_find(text, '/') >= 0)
		return locality_parse(text);
	copy = (char *)arena_str(a, text).p;
	for (uint32_t i = 0; i < text.len; i++)
		if (copy[i] == '.')
			copy[i] = '/';
	return locality_parse((struct str){ copy, text.len });
}

const struct locale *locale_new(struct arena *a, struct m_locality l)
{
	struct locale *new;

	if (!l.region.len && !l.zone.len && !l.subzone.len)
		return NULL;
	new = arena_new(a, struct locale);
	new->l = l;
	new->text = arena_printf(a, "%.*s%s%.*s%s%.*s", STR_ARG(l.region), l.zone.len || l.subzone.len ? "/" : "",
				 STR_ARG(l.zone), l.subzone.len ? "/" : "", STR_ARG(l.subzone));
	return new;
}

static struct str label_of(const struct doc *d, const char *key, const char *old)
{
	const struct str *v = kvs_get(&d->meta.labels, str_of(key));

	if (!v && old)
		v = kvs_get(&d->meta.labels, str_of(old));
	return v ? *v : (struct str){ 0 };
}

static void add_nodes(struct world *w, const struct model *m)
{
	struct doc *const *docs = model_list(m, KIND_NODE, &w->node_nr);

	w->nodes = arena_array(&w->arena, w->node_nr, sizeof(*w->nodes));
	index_init(&w->by_node, &w->arena, w->node_nr);
	index_init(&w->by_zone, &w->arena, w->node_nr);
	for (uint32_t i = 0; i < w->node_nr; i++) {
		struct node *n = &w->nodes[i];
		struct m_locality l = { label_of(docs[i], LABEL_REGION, "failure-domain.beta.kubernetes.io/region"),
					label_of(docs[i], LABEL_ZONE, "failure-domain.beta.kubernetes.io/zone"),
					label_of(docs[i], LABEL_SUBZONE, NULL) };

		n->name = docs[i]->meta.name;
		n->at = locale_new(&w->arena, l);
		l.subzone = (struct str){ 0 };
		n->zone = locale_new(&w->arena, l);
		index_add(&w->by_node, str_hash(n->name), i);
		if (l.zone.len)
			index_add(&w->by_zone, str_hash(l.zone), i);
	}
	index_seal(&w->by_node, &w->arena);
	index_seal(&w->by_zone, &w->arena);
}

const struct locale *locale_of_node(const struct world *w, struct str node)
{
	for (index_each(&w->by_node, str_hash(node), at, i))
		if (str_eq(w->nodes[i].name, node))
			return w->nodes[i].at;
	return NULL;
}

const struct locale *locale_of_zone(const struct world *w, struct arena *a, struct str zone)
{
	for (index_each(&w->by_zone, str_hash(zone), at, i))
		if (str_eq(w->nodes[i].zone->l.zone, zone))
			return w->nodes[i].zone;
	return locale_new(a, (struct m_locality){ .zone = zone });
}

void localities_add(struct world *w, const struct model *m)
{
	add_nodes(w, m);
	w->here = locale_of_node(w, w->node);
	for (uint32_t i = 0; i < w->workload_nr; i++) {
		struct workload *wl = &w->workloads[i];
		const struct str *own;

		if (wl->doc->kind == KIND_WORKLOAD_ENTRY) {
			wl->at = locale_new(&w->arena, locality_parse(wl->doc->we->locality));
			continue;
		}
		own = kvs_get(wl->labels, STR(LABEL_LOCALITY));
		wl->at = own && own->len ? locale_new(&w->arena, parse_label(&w->arena, *own))
					 : locale_of_node(w, wl->doc->pod->node);
	}
}

/* ---- what one client goes by ---- */

/* trafficDistribution, as Istio spells it out. */
static struct kv same_zone[] = {
	{ { LABEL_NETWORK, sizeof(LABEL_NETWORK) - 1 }, { 0 } },
	{ { LABEL_REGION, sizeof(LABEL_REGION) - 1 }, { 0 } },
	{ { LABEL_ZONE, sizeof(LABEL_ZONE) - 1 }, { 0 } },
	{ { LABEL_SUBZONE, sizeof(LABEL_SUBZONE) - 1 }, { 0 } },
	{ { LABEL_HOSTNAME, sizeof(LABEL_HOSTNAME) - 1 }, { 0 } },
};
static const struct m_locality_lb by_default, by_zone = { .priority = same_zone, .priority_nr = 3 },
					      by_node = { .priority = same_zone, .priority_nr = 5 };

const struct m_locality_lb *host_distribution(const struct host *h)
{
	enum distribution d = h->kind == HOST_SERVICE ? h->doc->service->distribution
			      : h->kind == HOST_ENTRY ? h->doc->se->distribution
						      : DISTRIBUTION_ANY;

	return d == DISTRIBUTION_SAME_ZONE ? &by_zone : d == DISTRIBUTION_SAME_NODE ? &by_node : NULL;
}

static bool matches(const struct m_locality *rule, const struct m_locality *l)
{
	return (str_is(rule->region, "*") || str_eq(rule->region, l->region)) &&
	       (!rule->zone.len || str_is(rule->zone, "*") || str_eq(rule->zone, l->zone)) &&
	       (!rule->subzone.len || str_is(rule->subzone, "*") || str_eq(rule->subzone, l->subzone));
}

/* What has a label of its own, unless it says where it is. */
static struct str topology(struct str key, const struct m_locality *l, struct str node, const struct kvs *labels)
{
	const struct str *own;

	if (str_is(key, LABEL_REGION) && l->region.len)
		return l->region;
	if (str_is(key, LABEL_ZONE) && l->zone.len)
		return l->zone;
	if (str_is(key, LABEL_SUBZONE) && l->subzone.len)
		return l->subzone;
	if (str_is(key, LABEL_HOSTNAME) && node.len)
		return node;
	own = labels ? kvs_get(labels, key) : NULL;
	return own ? *own : (struct str){ 0 };
}

static void client_values(struct ranking *r, const struct world *w, const struct who *who)
{
	for (uint32_t i = 0; i < r->lb->priority_nr; i++) {
		const struct kv *kv = &r->lb->priority[i];

		r->values[i] = kv->val.p ? kv->val : topology(kv->key, &r->client, w->node, who->labels);
	}
}

void ranking_find(struct world *w, const struct host *h, const struct policy *policy, const struct who *who,
		  struct ranking *ret)
{
	const struct m_locality_lb *lb = policy && policy->parts.lb ? policy->parts.lb->locality : NULL;
	const struct str *own = who->labels ? kvs_get(who->labels, STR(LABEL_LOCALITY)) : NULL;
	bool failover = policy && policy->parts.outlier;

	*ret = (struct ranking){ .no_hints = lb != NULL };
	if (lb && lb->off)
		return;
	if (!lb && host_distribution(h)) {
		lb = host_distribution(h);
		failover = true;
	}
	if (!lb)
		lb = &by_default;
	if (own && own->len)
		ret->client = parse_label(&w->arena, *own);
	else if (w->here)
		ret->client = w->here->l;
	for (uint32_t i = 0; i < lb->distribute_nr && !ret->shares; i++)
		if (matches(&lb->distribute[i].from, &ret->client))
			ret->shares = &lb->distribute[i];
	if (lb->distribute_nr || !failover) {
		ret->client = (struct m_locality){ 0 };
		return;
	}
	ret->lb = lb;
	client_values(ret, w, who);
	/* Labels alone decide, whose values are known now. */
	if (lb->priority_nr && !lb->failover_nr)
		ret->client = (struct m_locality){ 0 };
}

static bool locality_same(const struct m_locality *a, const struct m_locality *b)
{
	return str_eq(a->region, b->region) && str_eq(a->zone, b->zone) && str_eq(a->subzone, b->subzone);
}

bool ranking_same(const struct ranking *a, const struct ranking *b)
{
	if (a->lb != b->lb || a->shares != b->shares || a->no_hints != b->no_hints ||
	    !locality_same(&a->client, &b->client))
		return false;
	for (uint32_t i = 0; a->lb && i < a->lb->priority_nr; i++)
		if (!str_eq(a->values[i], b->values[i]))
			return false;
	return true;
}

uint64_t ranking_hash(const struct ranking *r)
{
	uint64_t v = index_hash2(r->client.region, r->client.zone) * 31 + str_hash(r->client.subzone);

	for (uint32_t i = 0; r->lb && i < r->lb->priority_nr; i++)
		v = v * 31 + str_hash(r->values[i]);
	return v;
}

/* ---- ranks and levels ---- */

static uint32_t by_locality(const struct ranking *r, const struct m_locality *l)
{
	if (!str_eq(r->client.region, l->region)) {
		for (uint32_t i = 0; i < r->lb->failover_nr; i++)
			if (str_eq(r->lb->failover[i].from, r->client.region))
				return str_eq(r->lb->failover[i].to, l->region) ? 3 : 4;
		return 3;
	}
	if (!str_eq(r->client.zone, l->zone))
		return 2;
	return !str_eq(r->client.subzone, l->subzone);
}

/* Lower goes first. */
static uint32_t rank_of(const struct ranking *r, const struct candidate *c)
{
	static const struct m_locality nowhere;
	const struct m_locality *l = c->at ? &c->at->l : &nowhere;
	uint32_t rank = 0;

	if (!r->lb)
		return 0;
	for (uint32_t i = 0; i < r->lb->priority_nr && !rank; i++)
		if (!str_eq(r->values[i], topology(r->lb->priority[i].key, l, c->node, c->labels)))
			rank = r->lb->priority_nr - i;
	if (!r->lb->priority_nr || r->lb->failover_nr)
		rank = rank * 5 + by_locality(r, l);
	return rank;
}

static bool hinted(const struct strs *names, struct str name)
{
	for (uint32_t i = 0; i < names->nr; i++)
		if (str_eq(names->v[i], name))
			return true;
	return false;
}

/* Where all endpoints have hints and one is for here, those for here go first: *ret_nodes by node, else by zone. */
static bool hints_count(const struct endpoints *e, uint32_t from, const struct world *w, bool *ret_nodes)
{
	bool nodes = w->node.len, zones = w->here && w->here->l.zone.len, node = false, zone = false;

	for (uint32_t i = from; i < e->nr && (nodes || zones); i++) {
		const struct m_slice_endpoint *ep = e->more[i].ep;

		if (e->v[i].draining)
			continue;
		nodes = nodes && ep && ep->for_nodes.nr;
		zones = zones && ep && ep->for_zones.nr;
		node |= nodes && hinted(&ep->for_nodes, w->node);
		zone |= zones && hinted(&ep->for_zones, w->here->l.zone);
	}
	*ret_nodes = nodes && node;
	return *ret_nodes || (zones && zone);
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Ranks become levels without gaps. */
static void set_levels(struct endpoints *e, uint32_t from, const uint32_t *ranks)
{
	uint32_t *sorted = xmalloc((e->nr - from + 1) * sizeof(*sorted)), nr = 0, out = 0;

	for (uint32_t i = from; i < e->nr; i++)
		if (!e->v[i].draining)
			sorted[nr++] = ranks[i - from];
	qsort(sorted, nr, sizeof(*sorted), by_number);
	for (uint32_t i = 0; i < nr; i++)
		if (!out || sorted[out - 1] != sorted[i])
			sorted[out++] = sorted[i];
	for (uint32_t i = from; i < e->nr; i++) {
		uint32_t level = 0;

		while (!e->v[i].draining && level + 1 < U_LEVELS_MAX && sorted[level] != ranks[i - from])
			level++;
		e->v[i].level = (uint8_t)level;
	}
	free(sorted);
}

static void rank(struct endpoints *e, uint32_t from, const struct world *w, const struct spec *spec)
{
	const struct ranking *r = &spec->balance->ranking;
	bool nodes, hints = !spec->local && !r->no_hints && hints_count(e, from, w, &nodes);
	uint32_t *ranks;

	if (!r->lb && !hints)
		return;
	ranks = xmalloc((e->nr - from + 1) * sizeof(*ranks));
	for (uint32_t i = from; i < e->nr; i++) {
		const struct m_slice_endpoint *ep = e->more[i].ep;

		ranks[i - from] = rank_of(r, &e->more[i]);
		if (hints && !e->v[i].draining &&
		    !(nodes ? hinted(&ep->for_nodes, w->node) : hinted(&ep->for_zones, w->here->l.zone)))
			ranks[i - from] += 1u << 16;
	}
	set_levels(e, from, ranks);
	free(ranks);
}

/* ---- shares of localities ---- */

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static uint32_t share_of(const struct m_distribute *d, const struct candidate *c)
{
	static const struct m_locality nowhere;

	for (uint32_t i = 0; i < d->to_nr; i++)
		if (matches(&d->to[i].to, c->at ? &c->at->l : &nowhere))
			return i;
	return d->to_nr;
}

/* Weights in one scale: each locality's percentage, divided by the weights of its endpoints. Exact while the scale is small enough. */
static void scale_weights(struct endpoints *e, uint32_t from, const struct m_distribute *d, const uint32_t *share,
			  const uint64_t *sums)
{
	uint64_t scale = 1, common = 0;

	for (uint32_t i = 0; i < d->to_nr; i++)
		if (sums[i] && scale < 1u << 20)
			scale *= sums[i] / gcd(scale, sums[i]);
	if (scale > 1u << 20)
		scale = 1u << 20;
	for (uint32_t i = from; i < e->nr; i++) {
		uint64_t weight = e->v[i].weight;

		if (e->v[i].draining)
			continue;
		weight = (weight * d->to[share[i - from]].percent * scale + sums[share[i - from]] / 2) /
			 sums[share[i - from]];
		e->v[i].weight = weight > UINT32_MAX ? UINT32_MAX : weight ? (uint32_t)weight : 1;
		common = gcd(common, e->v[i].weight);
	}
	for (uint32_t i = from; i < e->nr && common; i++)
		if (!e->v[i].draining)
			e->v[i].weight /= (uint32_t)common;
}

/* Endpoints of localities without a share are none of this client's. */
static void distribute(struct endpoints *e, uint32_t from, const struct m_distribute *d)
{
	uint64_t *sums = xcalloc(d->to_nr + 1, sizeof(*sums));
	uint32_t *share = xmalloc((e->nr - from + 1) * sizeof(*share)), out = from;

	for (uint32_t i = from; i < e->nr; i++) {
		uint32_t at = share_of(d, &e->more[i]);

		if (at == d->to_nr)
			continue;
		if (!e->v[i].draining)
			sums[at] += e->v[i].weight;
		e->v[out] = e->v[i];
		e->more[out] = e->more[i];
		share[out++ - from] = at;
	}
	e->nr = out;
	scale_weights(e, from, d, share, sums);
	free(share);
	free(sums);
}

void levels_find(struct endpoints *e, uint32_t from, const struct world *w, const struct spec *spec)
{
	if (spec->balance->ranking.shares)
		distribute(e, from, spec->balance->ranking.shares);
	else
		rank(e, from, w, spec);
}
