/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is wrong between Istio Gateways and what stands behind and beside them. What keeps no rule from being what it says is a warning with
 * the code of istioctl analyze; rules at a gateway whose address and port are another's already would never be asked, so they are refused.
 */
#include "config/resolve.h"
#include "config/validate.h"

/* Pairs of pods and Services that are looked at for warnings about ports. */
#define WORK_MAX (1u << 22)

#define NO_HINT ((struct str){ 0 })

/* Names a selector for people: "a=b,c=d". */
static struct str selector_text(struct arena *a, const struct kvs *selector)
{
	struct str text = STR("");

	for (uint32_t i = 0; i < selector->nr; i++)
		text = arena_printf(a, "%.*s%s%.*s=%.*s", STR_ARG(text), i ? "," : "", STR_ARG(selector->v[i].key),
				    STR_ARG(selector->v[i].val));
	return text;
}

/* ---- whom a gateway selects ---- */

/* Some Service in front of the pod has the port. */
static bool is_served(const struct world *w, const struct workload *pod, int64_t port)
{
	for (uint32_t i = 0; i < w->gateway_at; i++) {
		const struct host *h = &w->hosts[i];

		if (h->kind == HOST_SERVICE && str_eq(h->ns, pod->doc->meta.ns) && h->doc->service->selector.nr &&
		    kvs_match(&h->doc->service->selector, pod->labels) && host_port(h, port, false))
			return true;
	}
	return false;
}

static void ports(struct build *b, const struct doc *doc)
{
	const struct m_istio_gateway *g = doc->gateway;
	const struct world *w = b->world;
	uint64_t work = 0;

	for (uint32_t k = 0; k < g->server_nr; k++) {
		bool served = false;

		for (uint32_t i = 0; i < w->pod_nr && !served; i++) {
			if (!kvs_match(&g->selector, w->workloads[i].labels))
				continue;
			work += w->gateway_at;
			if (work > WORK_MAX)
				return;
			served = is_served(w, &w->workloads[i], g->servers[k].port);
		}
		if (!served)
			report_warning(b, doc, g->servers[k].at, arena_printf(&b->temp, "spec.servers[%u]", k), NO_HINT,
				       "[IST0162] no Service of the pods with %.*s has port %lld",
				       STR_ARG(selector_text(&b->temp, &g->selector)), (long long)g->servers[k].port);
	}
}

static void selector(struct build *b, const struct doc *doc)
{
	const struct m_istio_gateway *g = doc->gateway;
	const struct world *w = b->world;

	/* Without any pod the rules are being checked without a cluster. */
	if (!w->pod_nr)
		return;
	for (uint32_t i = 0; i < w->pod_nr; i++)
		if (kvs_match(&g->selector, w->workloads[i].labels)) {
			ports(b, doc);
			return;
		}
	report_warning(b, doc, g->selector_at, STR("spec.selector"), NO_HINT,
		       "[IST0101] referenced selector not found: \"%.*s\"",
		       STR_ARG(selector_text(&b->temp, &g->selector)));
}

/* ---- gateways that want the same ---- */

static bool hosts_meet(const struct strs *a, const struct strs *b)
{
	for (uint32_t i = 0; i < a->nr; i++)
		for (uint32_t k = 0; k < b->nr; k++)
			if (hosts_overlap(a->v[i], b->v[k]))
				return true;
	return false;
}

static uint64_t server_hash(const struct doc *doc, uint32_t server)
{
	const struct kvs *labels = &doc->gateway->selector;
	uint64_t h = (uint64_t)doc->gateway->servers[server].port * 0x9e3779b97f4a7c15ull;

	for (uint32_t i = 0; i < labels->nr; i++)
		h = h * 31 + index_hash2(labels->v[i].key, labels->v[i].val);
	return h;
}

static bool same_place(const struct doc *a, uint32_t server_a, const struct doc *b, uint32_t server_b)
{
	return a->gateway->servers[server_a].port == b->gateway->servers[server_b].port &&
	       a->gateway->selector.nr == b->gateway->selector.nr &&
	       kvs_match(&a->gateway->selector, &b->gateway->selector);
}

struct server {
	const struct doc *doc;
	uint32_t number; /* in its gateway */
};

static void conflict(struct build *b, const struct server *servers, const struct index *by_place, uint32_t number)
{
	const struct server *s = &servers[number];
	const struct m_gateway_server *mine = &s->doc->gateway->servers[s->number];

	for (index_each(by_place, server_hash(s->doc, s->number), at, i)) {
		const struct server *o = &servers[i];

		if (o->doc == s->doc || !same_place(s->doc, s->number, o->doc, o->number) ||
		    !hosts_meet(&mine->hosts, &o->doc->gateway->servers[o->number].hosts))
			continue;
		report_warning(b, s->doc, mine->at, arena_printf(&b->temp, "spec.servers[%u]", s->number), NO_HINT,
			       "[IST0145] Gateway %.*s/%.*s has the same selector and port %lld, and a host in common",
			       STR_ARG(o->doc->meta.ns), STR_ARG(o->doc->meta.name), (long long)mine->port);
		return;
	}
}

/* Who else has one of a gateway's addresses at its port, and comes first; NULL: nobody. */
static const struct host *comes_first(const struct world *w, const struct host *h)
{
	for (uint32_t i = 0; i < h->front_nr; i++) {
		for (index_each(&w->claims, claim_hash(h, &h->fronts[i]), at, n)) {
			const struct host *o = &w->hosts[n];

			if (o >= h)
				break;
			for (uint32_t k = 0; k < o->front_nr; k++)
				if (o->fronts[k].number == h->fronts[i].number &&
				    !addr_cmp(&o->fronts[k].net.addr, &h->fronts[i].net.addr))
					return o;
		}
	}
	return NULL;
}

static void shared(struct build *b, const struct host *h)
{
	const struct m_istio_gateway *g = h->doc->gateway;
	const struct host *first = comes_first(b->world, h);
	uint32_t s = 0;

	if (!first)
		return;
	while (g->servers[s].port != h->ports->number)
		s++;
	report_error(b, h->doc, g->servers[s].at, arena_printf(&b->temp, "spec.servers[%u].port", s),
		     STR("put the servers of a port into one Gateway"),
		     "Gateway %.*s/%.*s has port %u at the same address already; merging them is not enforced yet",
		     STR_ARG(first->ns), STR_ARG(first->doc->meta.name), h->ports->number);
}

void gateways_analyze(struct build *b)
{
	uint32_t nr, server_nr = 0;
	struct doc *const *docs = model_list(b->model, KIND_ISTIO_GATEWAY, &nr);
	struct server *servers = arena_array(&b->temp, gateways_count(b->model), sizeof(*servers));
	struct index by_place;

	index_init(&by_place, &b->temp, gateways_count(b->model));
	for (uint32_t i = 0; i < nr; i++) {
		selector(b, docs[i]);
		for (uint32_t k = 0; k < docs[i]->gateway->server_nr; k++) {
			index_add(&by_place, server_hash(docs[i], k), server_nr);
			servers[server_nr++] = (struct server){ docs[i], k };
		}
	}
	index_seal(&by_place, &b->temp);
	for (uint32_t i = 0; i < server_nr; i++)
		conflict(b, servers, &by_place, i);
	for (uint32_t i = b->world->gateway_at; i < b->world->host_nr; i++) {
		const struct host *h = &b->world->hosts[i];

		if (h->contended && h->doc->kind == KIND_ISTIO_GATEWAY)
			shared(b, h);
	}
}
