/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Endpoints of one destination: from EndpointSlices; from Endpoints documents only when a Service has no slice; else from the
 * Pods that its selector takes. WorkloadEntries that a Service's selector takes join either. A ServiceEntry has its own, or
 * selects. The only part of resolving that looks at slices, so it is all that a change of slices runs again.
 */
#include <stdlib.h>

#include "config/alias.h"
#include "config/resolve.h"

static uint64_t addr_hash(const struct addr *a)
{
	return str_hash((struct str){ (const char *)a->b, sizeof(a->b) });
}

/* here: it is on this node. */
static void add(struct endpoints *e, const struct spec *spec, const struct addr *addr, int64_t port, int64_t weight,
		const struct str *who, bool here)
{
	if (addr_is_v4(addr) == spec->v6 || port < 1 || port > 65535 || addr_is_zero(addr))
		return;
	if (spec->local && !here) {
		e->elsewhere = true;
		return;
	}
	if (e->nr == e->cap) {
		e->cap = e->cap ? e->cap * 2 : 64;
		e->v = xrealloc(e->v, e->cap * sizeof(*e->v));
		e->who = xrealloc(e->who, e->cap * sizeof(*e->who));
	}
	e->v[e->nr] = (struct u_endpoint){ .addr = *addr,
					   .port = (uint16_t)port,
					   .weight = weight > 0 ? (uint32_t)weight : 1 };
	e->who[e->nr++] = who;
}

static const struct workload *workload_at(const struct world *w, const struct addr *a)
{
	for (index_each(&w->by_ip, addr_hash(a), at, i)) {
		const struct doc *d = w->workloads[i].doc;

		if (d->kind == KIND_WORKLOAD_ENTRY) {
			if (!addr_cmp(&d->we->address, a))
				return &w->workloads[i];
			continue;
		}
		for (uint32_t k = 0; k < d->pod->ip_nr && !d->pod->finished; k++)
			if (!addr_cmp(&d->pod->ips[k], a))
				return &w->workloads[i];
	}
	return NULL;
}

static const struct workload *workload_named(const struct world *w, struct str ns, struct str name)
{
	for (index_each(&w->by_pod, index_hash2(ns, name), at, i)) {
		const struct doc *d = w->workloads[i].doc;

		if (str_eq(d->meta.name, name) && str_eq(d->meta.ns, ns))
			return &w->workloads[i];
	}
	return NULL;
}

/* An endpoint whose node nobody names is on none. */
static bool is_here(const struct world *w, struct str node)
{
	return node.len && str_eq(node, w->node);
}

static bool in_subset(const struct spec *spec, const struct kvs *labels)
{
	if (!spec->subset || !spec->subset->labels.nr)
		return true;
	return labels && kvs_match(&spec->subset->labels, labels);
}

/* ---- selectors ---- */

static uint64_t label_hash(struct str ns, const struct kv *kv)
{
	return index_hash2(ns, kv->key) * 31 + str_hash(kv->val);
}

/* The pair of the selector with the fewest workloads: all lists are walked in step until one ends. */
static uint32_t shortest(const struct world *w, struct str ns, const struct kvs *selector)
{
	uint32_t at[8], nr = selector->nr < 8 ? selector->nr : 8;

	for (uint32_t i = 0; i < nr; i++)
		at[i] = index_first(&w->by_label, label_hash(ns, &selector->v[i]));
	for (;;) {
		for (uint32_t i = 0; i < nr; i++) {
			if (!at[i])
				return i;
			at[i] = index_skip(&w->by_label, w->by_label.entries[at[i] - 1].next,
					   label_hash(ns, &selector->v[i]));
		}
	}
}

void workloads_each(const struct world *w, struct str ns, const struct kvs *selector,
		    void (*fn)(void *data, const struct workload *wl), void *data)
{
	uint32_t pair;

	if (!selector->nr)
		return;
	if (!w->labelled) {
		for (uint32_t i = 0; i < w->workload_nr; i++)
			if (str_eq(w->workloads[i].doc->meta.ns, ns) && kvs_match(selector, w->workloads[i].labels))
				fn(data, &w->workloads[i]);
		return;
	}
	pair = shortest(w, ns, selector);
	for (index_each(&w->by_label, label_hash(ns, &selector->v[pair]), at, i))
		if (str_eq(w->workloads[i].doc->meta.ns, ns) && kvs_match(selector, w->workloads[i].labels))
			fn(data, &w->workloads[i]);
}

struct selecting {
	struct endpoints *e;
	const struct world *w;
	const struct spec *spec;
	bool pods, not_ready;
};

static int64_t pod_port(const struct doc *d, const struct port *p)
{
	if (!p->target.name.len)
		return p->target.number;
	for (uint32_t i = 0; i < d->pod->port_nr; i++)
		if (d->pod->ports[i].proto == p->proto && str_eq(d->pod->ports[i].name, p->target.name))
			return d->pod->ports[i].port;
	return 0;
}

static int64_t entry_port(const struct m_workload_entry *we, const struct port *p)
{
	for (uint32_t i = 0; i < we->port_nr; i++)
		if (str_eq(we->ports[i].name, p->name))
			return we->ports[i].port;
	for (uint32_t i = 0; i < we->port_nr && p->target.name.len; i++)
		if (str_eq(we->ports[i].name, p->target.name))
			return we->ports[i].port;
	return p->target.number;
}

static void selected(void *data, const struct workload *wl)
{
	const struct selecting *s = data;
	const struct doc *d = wl->doc;

	if (!in_subset(s->spec, wl->labels))
		return;
	if (d->kind == KIND_WORKLOAD_ENTRY) {
		add(s->e, s->spec, &d->we->address, entry_port(d->we, s->spec->port), d->we->weight, &wl->text, false);
		return;
	}
	if (!s->pods || d->pod->finished)
		return;
	if (!s->not_ready && (!d->pod->ready || d->meta.deleting))
		return;
	for (uint32_t i = 0; i < d->pod->ip_nr; i++)
		add(s->e, s->spec, &d->pod->ips[i], pod_port(d, s->spec->port), 1, &wl->text,
		    is_here(s->w, d->pod->node));
}

/* ---- slices ---- */

static void slice_endpoint(struct endpoints *e, const struct world *w, const struct spec *spec,
			   const struct m_slice_endpoint *ep, int64_t port)
{
	const struct workload *wl = NULL;
	const struct str *who = NULL;
	struct str node = ep->node;

	if (ep->pod.len)
		wl = workload_named(w, ep->pod_ns, ep->pod);
	for (uint32_t i = 0; i < ep->addr_nr; i++) {
		if (!wl)
			wl = workload_at(w, &ep->addrs[i]);
		if (!in_subset(spec, wl ? wl->labels : NULL))
			continue;
		if (!wl && ep->pod.len && !who) {
			struct str *text = arena_new(&e->texts, struct str);

			*text = workload_text(&e->texts, ep->pod_ns, ep->pod, STR(""));
			who = text;
		}
		if (!node.len && wl && wl->doc->kind == KIND_POD)
			node = wl->doc->pod->node;
		add(e, spec, &ep->addrs[i], port, 1, wl ? &wl->text : who, is_here(w, node));
	}
}

static void slice(struct endpoints *e, const struct world *w, const struct spec *spec, const struct m_slice *s,
		  bool not_ready)
{
	const struct port *p = spec->port;
	int64_t port = -1;

	for (uint32_t i = 0; i < s->port_nr && port < 0; i++)
		if (str_eq(s->ports[i].name, p->name) && s->ports[i].proto == p->proto)
			port = s->ports[i].port ? s->ports[i].port : p->target.number;
	if (port < 0 || s->fqdn)
		return;
	for (uint32_t i = 0; i < s->endpoint_nr; i++) {
		const struct m_slice_endpoint *ep = &s->endpoints[i];

		if ((ep->ready && !ep->terminating) || not_ready)
			slice_endpoint(e, w, spec, ep, port);
	}
}

/* True when the Service has slices of the kind asked for. */
static bool slices(struct endpoints *e, const struct world *w, const struct model *m, const struct spec *spec,
		   bool from_endpoints)
{
	const struct doc *service = spec->host->doc, *last = NULL;
	bool not_ready = service->service->publish_not_ready, any = false;
	uint32_t nr;
	struct doc *const *docs = model_slices_of(m, service->meta.ns, service->meta.name, &nr);

	for (uint32_t i = 0; i < nr; last = docs[i++]) {
		for (uint32_t k = 0; k < docs[i]->slice_nr && docs[i] != last; k++) {
			const struct m_slice *s = &docs[i]->slices[k];

			if (s->from_endpoints != from_endpoints || !str_eq(s->service, service->meta.name))
				continue;
			any = true;
			slice(e, w, spec, s, not_ready);
		}
	}
	return any;
}

static void service(struct endpoints *e, const struct world *w, const struct model *m, const struct spec *spec)
{
	const struct m_service *s = spec->host->doc->service;
	struct selecting selecting = { .e = e, .w = w, .spec = spec, .not_ready = s->publish_not_ready };

	selecting.pods = !slices(e, w, m, spec, false) && !slices(e, w, m, spec, true);
	if (s->has_selector && (selecting.pods || w->workload_nr > w->pod_nr))
		workloads_each(w, spec->host->ns, &s->selector, selected, &selecting);
}

static void entry(struct endpoints *e, const struct world *w, const struct spec *spec)
{
	const struct m_service_entry *se = spec->host->doc->se;
	struct selecting selecting = { .e = e, .w = w, .spec = spec, .pods = true };

	for (uint32_t i = 0; i < se->endpoint_nr; i++) {
		const struct m_workload_entry *we = &se->endpoints[i];
		const struct workload *wl = workload_at(w, &we->address);

		if (in_subset(spec, &we->labels))
			add(e, spec, &we->address, entry_port(we, spec->port), we->weight, wl ? &wl->text : NULL,
			    false);
	}
	if (se->has_selector)
		workloads_each(w, spec->host->ns, &se->selector, selected, &selecting);
}

struct order {
	struct u_endpoint ep;
	const struct str *who;
};

static int by_address(const void *a, const void *b)
{
	const struct order *x = a, *y = b;
	int c = addr_cmp(&x->ep.addr, &y->ep.addr);

	if (c)
		return c;
	if (x->ep.port != y->ep.port)
		return x->ep.port < y->ep.port ? -1 : 1;
	/* One of two duplicates must win whatever order they came in. */
	if (x->ep.weight != y->ep.weight)
		return x->ep.weight > y->ep.weight ? -1 : 1;
	if (!x->who || !y->who)
		return !x->who - !y->who;
	return str_cmp(*x->who, *y->who);
}

static void sort(struct endpoints *e, uint32_t from)
{
	uint32_t nr = e->nr - from, out = from;
	struct order small[64], *v = nr <= 64 ? small : xmalloc(nr * sizeof(*v));
	bool sorted = true;

	for (uint32_t i = 0; i < nr; i++) {
		v[i] = (struct order){ e->v[from + i], e->who[from + i] };
		sorted &= !i || by_address(&v[i - 1], &v[i]) < 0;
	}
	if (!sorted)
		qsort(v, nr, sizeof(*v), by_address);
	for (uint32_t i = 0; i < nr; i++) {
		if (i && !addr_cmp(&v[i].ep.addr, &v[i - 1].ep.addr) && v[i].ep.port == v[i - 1].ep.port)
			continue;
		e->v[out] = v[i].ep;
		e->who[out++] = v[i].who;
	}
	e->nr = out;
	if (v != small)
		free(v);
}

/* Halves all weights until their sum fits: only thousands of endpoints with weights near the largest come here. */
static void bound_weights(struct endpoints *e, uint32_t from)
{
	uint64_t sum;

	for (;;) {
		sum = 0;
		for (uint32_t i = from; i < e->nr; i++)
			sum += e->v[i].weight;
		if (sum <= ALIAS_SUM_MAX)
			return;
		for (uint32_t i = from; i < e->nr; i++)
			e->v[i].weight -= e->v[i].weight / 2;
	}
}

void endpoints_add(struct endpoints *e, const struct world *w, const struct model *m, const struct spec *spec)
{
	uint32_t from = e->nr;

	e->elsewhere = false;
	if (!spec->host)
		return;
	if (spec->host->kind == HOST_SERVICE)
		service(e, w, m, spec);
	else if (spec->host->kind == HOST_ENTRY)
		entry(e, w, spec);
	sort(e, from);
	bound_weights(e, from);
}
