/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scopes. What a client sees depends on its namespace (exportTo, sourceNamespace, DestinationRules of its own, consumer routes) and
 * labels (sourceLabels, workloadSelector of DestinationRules). Clients that no condition tells apart form a class; each host
 * whose rules have conditions is resolved once for every class that they can tell apart; classes that see the same of all hosts
 * share a scope. Scope 0 is the view of a client without special visibility. Endpoints have no part in this, and numbers depend
 * on nothing but the model.
 */
#include <stdlib.h>

#include "config/resolve.h"

/* Conditions that tell clients of one host apart. */
struct conds {
	struct str *ns;
	uint32_t ns_nr, ns_cap;
	const struct kvs **labels;
	uint32_t label_nr, label_cap;
};

struct class
{
	struct str ns;	   /* empty: no condition names it */
	struct kvs labels; /* those that conditions mention */
	uint64_t hash;
	uint32_t *hosts, *views; /* differences from the common view, in host order */
	uint32_t diff_nr, diff_cap, view_cap;
	uint32_t scope;
};

struct finding {
	struct build *b;
	struct conds all;
	struct str *keys; /* of labels that conditions mention */
	uint32_t key_nr, key_cap;
	struct class *classes;
	uint32_t class_nr, class_cap;
	uint32_t *slots, slot_mask; /* classes by hash, + 1 */
	struct str last_ns;	    /* pods come by namespace */
	bool last_named;
};

static void cond_ns(struct conds *c, struct str ns)
{
	for (uint32_t i = 0; i < c->ns_nr; i++)
		if (str_eq(c->ns[i], ns))
			return;
	GROW(c->ns, c->ns_nr, &c->ns_cap);
	c->ns[c->ns_nr++] = ns;
}

static void cond_labels(struct conds *c, const struct kvs *labels)
{
	for (uint32_t i = 0; i < c->label_nr; i++)
		if (c->labels[i] == labels)
			return;
	GROW(c->labels, c->label_nr, &c->label_cap);
	c->labels[c->label_nr++] = labels;
}

static void cond_export(struct conds *c, const struct strs *to, struct str owner)
{
	if (exported_to_all(to))
		return;
	for (uint32_t i = 0; i < to->nr; i++)
		cond_ns(c, str_is(to->v[i], ".") ? owner : to->v[i]);
}

static void cond_dr(struct conds *c, const struct world *w, const struct host *h, const struct doc *doc)
{
	if (doc->dr->workload_selector.nr) {
		cond_ns(c, doc->meta.ns);
		cond_labels(c, &doc->dr->workload_selector);
	}
	if (!exported_to_all(&doc->dr->export_to)) {
		cond_ns(c, doc->meta.ns);
		cond_export(c, &doc->dr->export_to, doc->meta.ns);
	}
	/* Clients of the rule's own namespace look there first. */
	if (!str_eq(doc->meta.ns, h->ns))
		cond_ns(c, doc->meta.ns);
}

/* Everything that makes a destination differ from client to client. */
static void cond_dest(struct conds *c, const struct world *w, struct str name)
{
	for (index_each(&w->by_name, str_hash(name), at, i)) {
		const struct host *h = &w->hosts[i];

		if (!str_eq(h->name, name) || h->shadowed_by)
			continue;
		cond_export(c, h->export_to, h->ns);
		if (at != index_first(&w->by_name, str_hash(name)))
			cond_ns(c, h->ns);
		for (index_each(&w->dr_exact, str_hash(name), k, d))
			if (str_eq(w->drs[d].host, name))
				cond_dr(c, w, h, w->drs[d].doc);
		for (uint32_t k = 0; k < w->dr_wild_nr; k++) {
			const struct dr *dr = &w->drs[w->dr_wild[k]];

			if (str_ends(name, str_sub(dr->host, 1, dr->host.len)))
				cond_dr(c, w, h, dr->doc);
		}
	}
}

static void cond_vs(struct finding *f, struct conds *c, const struct doc *doc)
{
	cond_export(c, &doc->vs->export_to, doc->meta.ns);
	for (uint32_t i = 0; i < doc->vs->rule_nr; i++) {
		const struct m_rule *r = &doc->vs->rules[i];

		for (uint32_t k = 0; k < r->match_nr; k++) {
			if (r->matches[k].source_ns.len)
				cond_ns(c, r->matches[k].source_ns);
			if (r->matches[k].source_labels.nr)
				cond_labels(c, &r->matches[k].source_labels);
		}
		for (uint32_t k = 0; k < r->route_nr; k++)
			cond_dest(c, f->b->world, host_full(&f->b->temp, f->b->world, r->routes[k].host, doc->meta.ns));
	}
}

static void cond_route(struct finding *f, struct conds *c, const struct host *h, const struct doc *doc)
{
	const struct world *w = f->b->world;

	/* Of its own namespace it goes before rules that are older. */
	if (!str_eq(doc->meta.ns, h->ns) || h->rule_nr > 1)
		cond_ns(c, doc->meta.ns);
	for (uint32_t i = 0; i < doc->route->rule_nr; i++) {
		for (uint32_t k = 0; k < doc->route->rules[i].backend_nr; k++) {
			const struct m_backend_ref *to = &doc->route->rules[i].backends[k];
			const struct host *d = host_service(w, to->ns, to->name);

			if (d)
				cond_dest(c, w, d->name);
		}
	}
}

static void conds_of(struct finding *f, const struct host *h, struct conds *c)
{
	const struct world *w = f->b->world;

	c->ns_nr = c->label_nr = 0;
	if (!h->addr_nr)
		return;
	cond_export(c, h->export_to, h->ns);
	for (uint32_t a = 0; a < h->addr_nr && h->contended; a++) {
		for (uint32_t p = 0; p < h->port_nr; p++) {
			for (index_each(&w->claims, claim_hash(&h->addrs[a], &h->ports[p]), at, i))
				cond_export(c, w->hosts[i].export_to, w->hosts[i].ns);
		}
	}
	/* A gateway sees with its own eyes. */
	if (h->kind == HOST_GATEWAY)
		return;
	cond_dest(c, w, h->name);
	for (uint32_t i = 0; i < h->rule_nr; i++) {
		if (h->rules[i]->kind == KIND_ROUTE)
			cond_route(f, c, h, h->rules[i]);
		else
			cond_vs(f, c, h->rules[i]);
	}
}

/* ---- classes ---- */

static bool in_ns(const struct conds *c, struct str ns)
{
	for (uint32_t i = 0; i < c->ns_nr; i++)
		if (str_eq(c->ns[i], ns))
			return true;
	return false;
}

static bool mentions(const struct finding *f, struct str key)
{
	for (uint32_t i = 0; i < f->key_nr; i++)
		if (str_eq(f->keys[i], key))
			return true;
	return false;
}

static void collect_keys(struct finding *f)
{
	for (uint32_t i = 0; i < f->all.label_nr; i++) {
		for (uint32_t k = 0; k < f->all.labels[i]->nr; k++) {
			struct str key = f->all.labels[i]->v[k].key;

			if (mentions(f, key))
				continue;
			GROW(f->keys, f->key_nr, &f->key_cap);
			f->keys[f->key_nr++] = key;
		}
	}
}

static bool kvs_equal(const struct kvs *a, const struct kvs *b)
{
	return a->nr == b->nr && kvs_match(a, b);
}

static void rehash(struct finding *f)
{
	uint32_t size = 64;

	while (size < f->class_nr * 4)
		size *= 2;
	free(f->slots);
	f->slots = xcalloc(size, sizeof(*f->slots));
	f->slot_mask = size - 1;
	for (uint32_t i = 0; i < f->class_nr; i++) {
		uint32_t at = (uint32_t)f->classes[i].hash & f->slot_mask;

		while (f->slots[at])
			at = (at + 1) & f->slot_mask;
		f->slots[at] = i + 1;
	}
}

static uint32_t class_of(struct finding *f, const struct doc *pod)
{
	struct class c = { 0 };
	uint32_t at;

	if (!str_eq(f->last_ns, pod->meta.ns)) {
		f->last_ns = pod->meta.ns;
		f->last_named = in_ns(&f->all, pod->meta.ns);
	}
	if (f->last_named)
		c.ns = pod->meta.ns;
	if (f->all.label_nr)
		c.labels.v = arena_array(&f->b->temp, pod->meta.labels.nr, sizeof(*c.labels.v));
	c.hash = str_hash(c.ns);
	for (uint32_t i = 0; i < pod->meta.labels.nr && f->all.label_nr; i++) {
		const struct kv *kv = &pod->meta.labels.v[i];

		if (!mentions(f, kv->key))
			continue;
		c.labels.v[c.labels.nr++] = *kv;
		c.hash = c.hash * 31 + index_hash2(kv->key, kv->val);
	}
	if (!f->slots || f->class_nr * 2 > f->slot_mask)
		rehash(f);
	at = (uint32_t)c.hash & f->slot_mask;
	while (f->slots[at]) {
		const struct class *known = &f->classes[f->slots[at] - 1];

		if (known->hash == c.hash && str_eq(known->ns, c.ns) && kvs_equal(&known->labels, &c.labels))
			return f->slots[at] - 1;
		at = (at + 1) & f->slot_mask;
	}
	GROW(f->classes, f->class_nr, &f->class_cap);
	f->classes[f->class_nr++] = c;
	f->slots[at] = f->class_nr;
	return f->class_nr - 1;
}

/* ---- views ---- */

/* Which conditions of a host hold for a class: equal answers, equal views. */
struct answers {
	uint32_t ns; /* index + 1 */
	uint64_t labels;
	uint32_t view;
};

static uint32_t view_of(struct finding *f, struct making *mk, const struct conds *c, const struct class *class,
			struct answers **memo, uint32_t *nr, uint32_t *cap)
{
	const struct who who = { class->ns, &class->labels };
	struct answers a = { 0 };

	for (uint32_t i = 0; i < c->ns_nr && !a.ns; i++)
		a.ns = str_eq(c->ns[i], class->ns) ? i + 1 : 0;
	for (uint32_t i = 0; i < c->label_nr && i < 64; i++)
		a.labels |= (uint64_t)kvs_match(c->labels[i], &class->labels) << i;
	for (uint32_t i = 0; i < *nr && c->label_nr <= 64; i++)
		if ((*memo)[i].ns == a.ns && (*memo)[i].labels == a.labels)
			return (*memo)[i].view;
	a.view = view_add(f->b, mk, &who);
	GROW(*memo, *nr, cap);
	(*memo)[(*nr)++] = a;
	return a.view;
}

static void class_differs(struct class *class, uint32_t host, uint32_t view)
{
	GROW(class->hosts, class->diff_nr, &class->diff_cap);
	GROW(class->views, class->diff_nr, &class->view_cap);
	class->hosts[class->diff_nr] = host;
	class->views[class->diff_nr++] = view;
}

static struct making *resolve_host(struct finding *f, struct host *h, uint32_t position, const struct conds *c)
{
	static const struct who common;
	struct making *mk = xcalloc(1, sizeof(*mk));
	struct answers *memo = NULL;
	uint32_t nr = 0, cap = 0;

	mk->host = h;
	view_add(f->b, mk, &common);
	for (uint32_t i = 0; i < f->class_nr; i++) {
		struct class *class = &f->classes[i];
		uint32_t view;

		if (!c->label_nr && !in_ns(c, class->ns))
			continue;
		view = view_of(f, mk, c, class, &memo, &nr, &cap);
		if (view)
			class_differs(class, position, view);
	}
	free(memo);
	return mk;
}

static bool same_views(const struct class *a, const struct class *b)
{
	return a->diff_nr == b->diff_nr && !memcmp(a->hosts, b->hosts, a->diff_nr * sizeof(*a->hosts)) &&
	       !memcmp(a->views, b->views, a->diff_nr * sizeof(*a->views));
}

static int by_class(const void *a, const void *b)
{
	const struct class *x = *(struct class *const *)a, *y = *(struct class *const *)b;
	int c = str_cmp(x->ns, y->ns);

	for (uint32_t i = 0; !c && i < x->labels.nr && i < y->labels.nr; i++) {
		c = str_cmp(x->labels.v[i].key, y->labels.v[i].key);
		if (!c)
			c = str_cmp(x->labels.v[i].val, y->labels.v[i].val);
	}
	return c ? c : (int)x->labels.nr - (int)y->labels.nr;
}

/* In order of namespace and labels, so that numbers do not depend on the order of pods. */
static uint32_t number_scopes(struct finding *f, struct making **making)
{
	struct class **order = xcalloc(f->class_nr + 1, sizeof(*order));
	uint32_t scope_nr = 1;

	for (uint32_t i = 0; i < f->class_nr; i++)
		order[i] = &f->classes[i];
	qsort(order, f->class_nr, sizeof(*order), by_class);
	for (uint32_t i = 0; i < f->class_nr; i++) {
		struct class *c = order[i];

		for (uint32_t k = 0; k < i && c->diff_nr && !c->scope; k++)
			if (same_views(order[k], c))
				c->scope = order[k]->scope;
		if (c->scope || !c->diff_nr)
			continue;
		c->scope = scope_nr++;
		for (uint32_t k = 0; k < c->diff_nr; k++) {
			struct making *mk = making[c->hosts[k]];

			GROW(mk->scoped, mk->scoped_nr, &mk->scoped_cap);
			mk->scoped[mk->scoped_nr++] = (struct scope_view){ c->scope, c->views[k] };
		}
	}
	free(order);
	return scope_nr;
}

/* ---- clients ---- */

static int by_name(const void *a, const void *b)
{
	const struct doc *x = *(const struct doc *const *)a, *y = *(const struct doc *const *)b;
	int c = str_cmp(x->meta.ns, y->meta.ns);

	return c ? c : str_cmp(x->meta.name, y->meta.name);
}

/* Copies; neighbours mostly share namespace, account and node. */
static struct str copy(struct arena *a, struct str s, struct str last)
{
	return str_eq(s, last) ? last : arena_str(a, s);
}

static void add_client(struct arena *a, struct scopes *ret, const struct doc *d)
{
	static const struct client none;
	const struct client *last = ret->client_nr ? &ret->clients[ret->client_nr - 1] : &none;
	struct client *c = &ret->clients[ret->client_nr++];
	const struct str *cgroup = kvs_get(&d->meta.annotations, STR("tulle.dev/cgroup"));

	*c = (struct client){ .ns = copy(a, d->meta.ns, last->ns),
			      .name = arena_str(a, d->meta.name),
			      .service_account = copy(a, d->pod->service_account, last->service_account),
			      .uid = arena_str(a, d->meta.uid),
			      .node = copy(a, d->pod->node, last->node),
			      .ip_nr = d->pod->ip_nr,
			      .host_network = d->pod->host_network };
	if (cgroup)
		c->cgroup = arena_str(a, *cgroup);
	c->ips = arena_array(a, c->ip_nr, sizeof(*c->ips));
	memcpy(c->ips, d->pod->ips, c->ip_nr * sizeof(*c->ips));
}

/* Sorted pods that have an address; *ret_nr of them. */
static const struct doc **pods_of(struct build *b, uint32_t *ret_nr)
{
	const struct world *w = b->world;
	const struct doc **pods = xcalloc(w->pod_nr + 1, sizeof(struct doc *));
	uint32_t nr = 0;

	for (uint32_t i = 0; i < w->pod_nr; i++)
		if (w->workloads[i].doc->pod->ip_nr && !w->workloads[i].doc->pod->finished)
			pods[nr++] = w->workloads[i].doc;
	qsort(pods, nr, sizeof(*pods), by_name);
	*ret_nr = nr;
	return pods;
}

static void finding_free(struct finding *f)
{
	for (uint32_t i = 0; i < f->class_nr; i++) {
		free(f->classes[i].hosts);
		free(f->classes[i].views);
	}
	free(f->classes);
	free(f->slots);
	free(f->keys);
	free(f->all.ns);
	free(f->all.labels);
}

void scopes_find(struct build *b, struct arena *arena, struct host **hosts, uint32_t nr, struct scopes *ret)
{
	struct finding f = { .b = b };
	struct conds c = { 0 };
	uint32_t pod_nr, *class_of_pod;
	const struct doc **pods = pods_of(b, &pod_nr);

	*ret = (struct scopes){ .scope_nr = 1, .conditional = xcalloc(nr + 1, sizeof(struct making *)) };
	for (uint32_t i = 0; i < nr; i++) {
		conds_of(&f, hosts[i], &c);
		for (uint32_t k = 0; k < c.ns_nr; k++)
			cond_ns(&f.all, c.ns[k]);
		for (uint32_t k = 0; k < c.label_nr; k++)
			cond_labels(&f.all, c.labels[k]);
	}
	collect_keys(&f);
	class_of_pod = xcalloc(pod_nr + 1, sizeof(*class_of_pod));
	for (uint32_t i = 0; i < pod_nr && (f.all.ns_nr || f.all.label_nr); i++)
		class_of_pod[i] = class_of(&f, pods[i]);
	for (uint32_t i = 0; i < nr && f.class_nr; i++) {
		conds_of(&f, hosts[i], &c);
		if (c.ns_nr || c.label_nr)
			ret->conditional[i] = resolve_host(&f, hosts[i], i, &c);
	}
	ret->scope_nr = number_scopes(&f, ret->conditional);
	ret->clients = arena_array(arena, pod_nr, sizeof(*ret->clients));
	for (uint32_t i = 0; i < pod_nr; i++) {
		add_client(arena, ret, pods[i]);
		if (f.class_nr)
			ret->clients[i].scope = f.classes[class_of_pod[i]].scope;
	}
	free(class_of_pod);
	free(pods);
	free(c.ns);
	free(c.labels);
	finding_free(&f);
}
