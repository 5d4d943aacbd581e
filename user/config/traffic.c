/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The traffic policy of a destination as one client has it: what DestinationRules say, put together as Istio does it
 * (pilot/pkg/networking/core, applyTrafficPolicy), and what the Service says.
 */
#include "config/resolve.h"

/* Envoy's max_ejection_time, which Istio leaves at its default. */
#define EJECTION_MS_MAX 300000

/* Istio's defaults: of Envoy, where Istio does not say. */
#define TRAFFIC_DEFAULT                                                                        \
	{                                                                                      \
		.lb = LB_LEAST_REQUEST, .max_connections = UINT32_MAX, .drain_ms = DRAIN_UNSET \
	}
const struct u_traffic traffic_default = TRAFFIC_DEFAULT;

static void add_lb(struct u_traffic *t, const struct m_lb *lb)
{
	/* One destination of several that keep the address is not one of them. */
	if (lb->policy != LB_UNSET && lb->policy != LB_PASSTHROUGH)
		t->lb = (uint8_t)lb->policy;
	t->table_size = lb->table_size;
	t->warmup_ms = lb->warmup_ms;
	t->warmup_min = lb->warmup_min;
	t->warmup_aggression = lb->warmup_aggression;
}

static void add_pool(struct u_traffic *t, const struct m_pool *p)
{
	if (p->max_connections)
		t->max_connections = p->max_connections;
	t->connect_timeout_ms = p->connect_timeout_ms;
	t->keepalive = p->keepalive;
	t->keepalive_probes = p->keepalive_probes;
	t->keepalive_time_s = p->keepalive_time_s;
	t->keepalive_interval_s = p->keepalive_interval_s;
	t->idle_timeout_ms = p->idle_timeout_ms;
	t->max_duration_ms = p->max_duration_ms;
	t->drain_ms = p->drain_ms;
	t->removal = (uint8_t)p->removal;
}

static void add_outlier(struct u_traffic *t, const struct m_outlier *o)
{
	t->outlier = true;
	t->connect_failures = o->connect_failures;
	t->resets = o->resets;
	t->interval_ms = o->interval_ms;
	t->base_ejection_ms = o->base_ejection_ms;
	t->max_ejection_ms = o->base_ejection_ms > EJECTION_MS_MAX ? o->base_ejection_ms : EJECTION_MS_MAX;
	t->max_ejection_percent = o->max_ejection_percent;
	t->min_health_percent = o->min_health_percent;
	t->latency_factor = o->latency_factor;
	t->latency_floor_us = o->latency_floor_us;
}

/* policy NULL: none. */
static void fill_balance(struct world *w, struct balance *b, const struct host *h, const struct policy *policy,
			 const struct who *who)
{
	struct u_traffic before;

	*b = (struct balance){ .traffic = traffic_default };
	ranking_find(w, h, policy, who, &b->ranking);
	if (h->kind == HOST_SERVICE)
		b->traffic.affinity_s = h->doc->service->affinity_s;
	if (!policy || !policy->by)
		return;
	before = b->traffic;
	if (policy->parts.lb)
		add_lb(&b->traffic, policy->parts.lb);
	if (policy->parts.pool)
		add_pool(&b->traffic, policy->parts.pool);
	if (policy->parts.outlier)
		add_outlier(&b->traffic, policy->parts.outlier);
	b->hash = policy->parts.lb ? policy->parts.lb->hash : NULL;
	b->requests = policy->parts.pool ? policy->parts.pool->http : NULL;
	b->outlier = policy->parts.outlier;
	/* A policy that only says the defaults is no difference. */
	if (!memcmp(&b->traffic, &before, sizeof(before)) && !(policy->parts.lb && policy->parts.lb->locality) &&
	    !b->hash && !b->requests)
		return;
	b->by = policy->by;
	b->from = policy->from;
	b->port = policy->port;
}

bool balance_same(const struct balance *a, const struct balance *b)
{
	return !memcmp(&a->traffic, &b->traffic, sizeof(a->traffic)) && a->by == b->by && a->from == b->from &&
	       a->port == b->port && a->hash == b->hash && a->requests == b->requests && a->outlier == b->outlier &&
	       ranking_same(&a->ranking, &b->ranking);
}

const struct balance *balance_keep(struct world *w, const struct balance *b)
{
	static const struct balance nothing = { .traffic = TRAFFIC_DEFAULT };
	struct balance *own;

	if (balance_same(b, &nothing))
		return &nothing;
	own = arena_new(&w->arena, struct balance);
	*own = *b;
	return own;
}

struct str balance_field(struct arena *a, const struct balance *b)
{
	const struct m_destination_rule *dr = b->by->dr;
	struct str base = b->from->at.line ? STR("spec.trafficPolicy") : STR("metadata.annotations");

	for (uint32_t i = 0; i < dr->subset_nr; i++)
		if (b->from == &dr->subsets[i].policy)
			base = arena_printf(a, "spec.subsets[%u].trafficPolicy", i);
	if (!b->port)
		return base;
	return arena_printf(a, "%.*s.portLevelSettings[%u]", STR_ARG(base), (uint32_t)(b->port - b->from->ports));
}

static void find(struct world *w, const struct host *h, const struct port *port, struct str subset,
		 const struct who *who, struct target *ret)
{
	struct policy policy;
	struct drs drs;

	*ret = (struct target){ 0 };
	drs_find(w, h, who, &drs);
	if (subset.len)
		ret->subset = drs_subset(&drs, subset, &ret->subset_by);
	drs_policy(&drs, ret->subset, port->number, &policy);
	if (policy.parts.lb && policy.parts.lb->policy == LB_PASSTHROUGH) {
		ret->pass = true;
		ret->pass_by = policy.by;
	} else if (h->kind == HOST_ENTRY && h->doc->se->resolution == RESOLUTION_NONE) {
		ret->pass = true;
	}
	fill_balance(w, &ret->balance, h, &policy, who);
}

static uint64_t doc_hash(const struct doc *doc)
{
	return doc ? index_hash2(doc->meta.ns, doc->meta.name) : 0;
}

/* Of texts and not of pointers, so that it stays the same while the documents do. seed: tells views apart that no rule does. */
static void set_variant(struct target *t, const struct target *common, uint64_t seed)
{
	uint64_t v = (seed * 31 + doc_hash(t->balance.by)) * 31 + doc_hash(t->subset_by);

	v = v * 31 + ranking_hash(&t->balance.ranking);
	if (t->subset == common->subset && balance_same(&t->balance, &common->balance))
		return;
	t->variant = (uint32_t)(v ^ v >> 32);
	t->variant += !t->variant;
}

void target_find(struct world *w, const struct host *h, const struct port *port, struct str subset,
		 const struct who *who, struct target *ret)
{
	static const struct who everybody;
	struct target common;

	find(w, h, port, subset, who, ret);
	if (!who->ns.len && !(who->labels && who->labels->nr))
		return;
	find(w, h, port, subset, &everybody, &common);
	set_variant(ret, &common, 1);
}

void target_outer(struct world *w, const struct host *h, const struct port *port, struct target *ret)
{
	static const struct who everybody;
	struct target common;

	find(w, h, port, (struct str){ 0 }, &everybody, &common);
	*ret = (struct target){ 0 };
	fill_balance(w, &ret->balance, h, NULL, &everybody);
	set_variant(ret, &common, 2);
}
