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

/* An endpoint whose node nobody names is on none. */
static bool is_here(const struct world *w, struct str node)
{
	return node.len && str_eq(node, w->node);
}

struct adding {
	struct endpoints *e;
	const struct world *w;
	const struct spec *spec;
	bool draining;
};

static void add(const struct adding *a, const struct addr *addr, int64_t port, int64_t weight,
		const struct candidate *more)
{
	struct endpoints *e = a->e;

	if (addr_is_v4(addr) == a->spec->v6 || port < 1 || port > 65535 || addr_is_zero(addr))
		return;
	if (a->spec->local && !is_here(a->w, more->node)) {
		e->elsewhere |= !a->draining;
		return;
	}
	if (e->nr == e->cap) {
		e->cap = e->cap ? e->cap * 2 : 64;
		e->v = xrealloc(e->v, e->cap * sizeof(*e->v));
		e->more = xrealloc(e->more, e->cap * sizeof(*e->more));
	}
	e->v[e->nr] = (struct u_endpoint){ .addr = *addr,
					   .port = (uint16_t)port,
					   .draining = a->draining,
					   .weight = weight > 0 ? (uint32_t)weight : 1 };
	e->more[e->nr++] = *more;
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
	struct adding adding;
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
	const struct spec *spec = s->adding.spec;
	struct adding adding = s->adding;
	const struct doc *d = wl->doc;
	struct candidate more = { .who = &wl->text, .at = wl->at, .labels = wl->labels, .group = wl->group };

	if (!in_subset(spec, wl->labels))
		return;
	if (d->kind == KIND_WORKLOAD_ENTRY) {
		adding.draining = d->we->unhealthy;
		add(&adding, &d->we->address, entry_port(d->we, spec->port), d->we->weight, &more);
		return;
	}
	if (!s->pods || d->pod->finished)
		return;
	adding.draining = !s->not_ready && (!d->pod->ready || d->meta.deleting);
	more.serving = d->pod->ready;
	more.node = d->pod->node;
	for (uint32_t i = 0; i < d->pod->ip_nr; i++)
		add(&adding, &d->pod->ips[i], pod_port(d, spec->port), 1, &more);
}

/* ---- slices ---- */

static void slice_endpoint(const struct adding *a, const struct m_slice_endpoint *ep, int64_t port)
{
	struct candidate more = { .ep = ep, .node = ep->node, .serving = ep->serving && ep->terminating };
	const struct workload *wl = NULL;
	const struct locale *named = NULL;
	struct arena *texts = &a->e->texts;

	if (ep->pod.len)
		wl = workload_named(a->w, ep->pod_ns, ep->pod);
	for (uint32_t i = 0; i < ep->addr_nr; i++) {
		if (!wl)
			wl = workload_at(a->w, &ep->addrs[i]);
		if (!in_subset(a->spec, wl ? wl->labels : NULL))
			continue;
		if (!wl && ep->pod.len && !more.who) {
			struct str *text = arena_new(texts, struct str);

			*text = workload_text(texts, ep->pod_ns, ep->pod, STR(""));
			more.who = text;
		}
		if (!more.node.len && wl && wl->doc->kind == KIND_POD)
			more.node = wl->doc->pod->node;
		if (wl)
			more.who = &wl->text;
		more.labels = wl ? wl->labels : NULL;
		more.at = wl ? wl->at : NULL;
		more.group = wl ? wl->group : NULL;
		if (!more.at && more.node.len)
			more.at = locale_of_node(a->w, more.node);
		if (!more.at && ep->zone.len)
			more.at = named = named ? named : locale_of_zone(a->w, texts, ep->zone);
		add(a, &ep->addrs[i], port, 1, &more);
	}
}

static void slice(const struct adding *a, const struct m_slice *s, bool not_ready)
{
	const struct port *p = a->spec->port;
	struct adding adding = *a;
	int64_t port = -1;

	for (uint32_t i = 0; i < s->port_nr && port < 0; i++)
		if (str_eq(s->ports[i].name, p->name) && s->ports[i].proto == p->proto)
			port = s->ports[i].port ? s->ports[i].port : p->target.number;
	if (port < 0 || s->fqdn)
		return;
	for (uint32_t i = 0; i < s->endpoint_nr; i++) {
		const struct m_slice_endpoint *ep = &s->endpoints[i];

		adding.draining = !not_ready && (!ep->ready || ep->terminating);
		slice_endpoint(&adding, ep, port);
	}
}

/* True when the Service has slices of the kind asked for. */
static bool slices(const struct adding *a, const struct model *m, bool from_endpoints)
{
	const struct doc *service = a->spec->host->doc, *last = NULL;
	bool not_ready = service->service->publish_not_ready, any = false;
	uint32_t nr;
	struct doc *const *docs = model_slices_of(m, service->meta.ns, service->meta.name, &nr);

	for (uint32_t i = 0; i < nr; last = docs[i++]) {
		for (uint32_t k = 0; k < docs[i]->slice_nr && docs[i] != last; k++) {
			const struct m_slice *s = &docs[i]->slices[k];

			if (s->from_endpoints != from_endpoints || !str_eq(s->service, service->meta.name))
				continue;
			any = true;
			slice(a, s, not_ready);
		}
	}
	return any;
}

static void service(const struct adding *a, const struct model *m)
{
	const struct host *h = a->spec->host;
	const struct m_service *s = h->doc->service;
	struct selecting selecting = { .adding = *a, .not_ready = s->publish_not_ready };

	selecting.pods = !slices(a, m, false) && !slices(a, m, true);
	if (s->has_selector && (selecting.pods || a->w->workload_nr > a->w->pod_nr))
		workloads_each(a->w, h->ns, &s->selector, selected, &selecting);
}

static void entry(const struct adding *a)
{
	const struct host *h = a->spec->host;
	const struct m_service_entry *se = h->doc->se;
	struct selecting selecting = { .adding = *a, .pods = true };

	for (uint32_t i = 0; i < se->endpoint_nr; i++) {
		const struct m_workload_entry *we = &se->endpoints[i];
		const struct workload *wl = workload_at(a->w, &we->address);
		struct candidate more = { .who = wl ? &wl->text : NULL, .labels = &we->labels };

		if (!in_subset(a->spec, &we->labels))
			continue;
		more.at = we->locality.len ? locale_new(&a->e->texts, locality_parse(we->locality)) : NULL;
		add(a, &we->address, entry_port(we, a->spec->port), we->weight, &more);
	}
	if (se->has_selector)
		workloads_each(a->w, h->ns, &se->selector, selected, &selecting);
}

/* ---- order ---- */

struct order {
	struct u_endpoint ep;
	struct candidate more;
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
	if (x->ep.draining != y->ep.draining)
		return x->ep.draining - y->ep.draining;
	if (x->ep.weight != y->ep.weight)
		return x->ep.weight > y->ep.weight ? -1 : 1;
	if (!x->more.who || !y->more.who)
		return !x->more.who - !y->more.who;
	return str_cmp(*x->more.who, *y->more.who);
}

static int by_level(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	if (x->ep.draining != y->ep.draining)
		return x->ep.draining - y->ep.draining;
	if (x->ep.level != y->ep.level)
		return x->ep.level - y->ep.level;
	return by_address(a, b);
}

/* Duplicates stay. */
static void sort(struct endpoints *e, uint32_t from, int (*cmp)(const void *, const void *))
{
	uint32_t nr = e->nr - from;
	struct order small[64], *v = nr <= 64 ? small : xmalloc(nr * sizeof(*v));
	bool sorted = true;

	for (uint32_t i = 0; i < nr; i++) {
		v[i] = (struct order){ e->v[from + i], e->more[from + i] };
		sorted &= !i || cmp(&v[i - 1], &v[i]) <= 0;
	}
	if (!sorted)
		qsort(v, nr, sizeof(*v), cmp);
	for (uint32_t i = 0; i < nr && !sorted; i++) {
		e->v[from + i] = v[i].ep;
		e->more[from + i] = v[i].more;
	}
	if (v != small)
		free(v);
}

static void drop_duplicates(struct endpoints *e, uint32_t from)
{
	uint32_t out = from;

	for (uint32_t i = from; i < e->nr; i++) {
		if (i > from && !addr_cmp(&e->v[i].addr, &e->v[out - 1].addr) && e->v[i].port == e->v[out - 1].port)
			continue;
		e->v[out] = e->v[i];
		e->more[out++] = e->more[i];
	}
	e->nr = out;
}

/* As kube-proxy has it: when nobody is ready, those take connections that are on their way out and still serve. */
static void take_serving(struct endpoints *e, uint32_t from)
{
	for (uint32_t i = from; i < e->nr; i++)
		if (!e->v[i].draining)
			return;
	for (uint32_t i = from; i < e->nr; i++)
		e->v[i].draining = !e->more[i].serving;
}

static void count_draining(struct endpoints *e, uint32_t from)
{
	e->draining_nr = 0;
	for (uint32_t i = from; i < e->nr; i++)
		e->draining_nr += e->v[i].draining;
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
	const struct adding adding = { .e = e, .w = w, .spec = spec };
	uint32_t from = e->nr;

	e->elsewhere = false;
	e->draining_nr = 0;
	if (!spec->host)
		return;
	if (spec->host->kind == HOST_SERVICE)
		service(&adding, m);
	else if (spec->host->kind == HOST_ENTRY)
		entry(&adding);
	sort(e, from, by_address);
	drop_duplicates(e, from);
	if (spec->host->kind == HOST_SERVICE)
		take_serving(e, from);
	levels_find(e, from, w, spec);
	sort(e, from, by_level);
	count_draining(e, from);
	bound_weights(e, from);
}
