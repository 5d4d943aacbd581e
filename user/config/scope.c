/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scopes. What a client sees depends on its namespace (exportTo, sourceNamespace, DestinationRules of its own, consumer routes) and
 * labels (sourceLabels, workloadSelector of DestinationRules, failoverPriority, its locality), and on its Sidecar. Clients that no condition tells apart form a
 * group; each host whose rules have conditions is resolved once for every group that they can tell apart; groups that see the same
 * of all hosts share a scope. Scope 0 is the view of a client without special visibility. Endpoints have no part in this, and numbers depend
 * on nothing but the model.
 */
#include <stdlib.h>

#include "config/resolve.h"

/* Namespaces that conditions name, numbered from 1. */
struct names {
	struct str *v;
	uint32_t *asked; /* last round of conditions that named it */
	uint32_t nr, cap, asked_cap;
	uint32_t *slots, mask; /* numbers by hash */
	uint32_t round;
};

/* Conditions that tell clients of one host apart: the namespaces named in this round, labels, and keys of labels whose values count. */
struct conds {
	struct names *names;
	uint32_t ns_nr;
	const struct kvs **labels;
	uint32_t label_nr, label_cap;
	struct str *keys;
	uint32_t key_nr, key_cap;
};

struct group {
	struct str ns; /* empty: no condition names it */
	uint32_t ns_id;
	struct kvs labels; /* those that conditions mention */
	const struct doc *sidecar;
	uint64_t hash;
	uint32_t *hosts, *views; /* differences from the common view, in host order */
	uint32_t diff_nr, diff_cap, view_cap;
	uint32_t scope;
};

struct finding {
	struct build *b;
	struct names names;
	struct str *keys; /* of labels that conditions mention */
	uint32_t key_nr, key_cap;
	struct group *groups;
	uint32_t group_nr, group_cap;
	uint32_t *slots, slot_mask; /* groups by hash, + 1 */
	bool sidecars;		    /* some group has one */
};

static void names_grow(struct names *n)
{
	uint32_t size = 64;

	while (size < n->nr * 4)
		size *= 2;
	free(n->slots);
	n->slots = xcalloc(size, sizeof(*n->slots));
	n->mask = size - 1;
	for (uint32_t i = 0; i < n->nr; i++) {
		uint32_t at = (uint32_t)str_hash(n->v[i]) & n->mask;

		while (n->slots[at])
			at = (at + 1) & n->mask;
		n->slots[at] = i + 1;
	}
}

/* Number of a name; `add`: a new one when it has none, else 0. */
static uint32_t name_id(struct names *n, struct str name, bool add)
{
	uint32_t at;

	if (add && (!n->slots || n->nr * 2 > n->mask))
		names_grow(n);
	if (!n->slots)
		return 0;
	at = (uint32_t)str_hash(name) & n->mask;
	while (n->slots[at] && !str_eq(n->v[n->slots[at] - 1], name))
		at = (at + 1) & n->mask;
	if (n->slots[at] || !add)
		return n->slots[at];
	GROW(n->v, n->nr, &n->cap);
	GROW(n->asked, n->nr, &n->asked_cap);
	n->v[n->nr] = name;
	n->asked[n->nr++] = 0;
	n->slots[at] = n->nr;
	return n->nr;
}

static void cond_ns(struct conds *c, struct str ns)
{
	uint32_t id = name_id(c->names, ns, true);

	c->ns_nr += c->names->asked[id - 1] != c->names->round;
	c->names->asked[id - 1] = c->names->round;
}

/* Named in the present round. */
static bool in_ns(const struct conds *c, uint32_t id)
{
	return id && c->names->asked[id - 1] == c->names->round;
}

static void add_labels(const struct kvs ***list, uint32_t *nr, uint32_t *cap, const struct kvs *labels)
{
	for (uint32_t i = 0; i < *nr; i++)
		if ((*list)[i] == labels)
			return;
	GROW(*list, *nr, cap);
	(*list)[(*nr)++] = labels;
}

static void cond_labels(struct conds *c, const struct kvs *labels)
{
	add_labels(&c->labels, &c->label_nr, &c->label_cap, labels);
}

static void cond_export(struct conds *c, const struct strs *to, struct str owner)
{
	if (exported_to_all(to))
		return;
	for (uint32_t i = 0; i < to->nr; i++)
		cond_ns(c, str_is(to->v[i], ".") ? owner : to->v[i]);
}

static void add_key(struct str **keys, uint32_t *nr, uint32_t *cap, struct str key)
{
	for (uint32_t i = 0; i < *nr; i++)
		if (str_eq((*keys)[i], key))
			return;
	GROW(*keys, *nr, cap);
	(*keys)[(*nr)++] = key;
}

/* What the order of endpoints depends on. */
static void cond_locality(struct conds *c, const struct m_locality_lb *l)
{
	add_key(&c->keys, &c->key_nr, &c->key_cap, STR(LABEL_LOCALITY));
	for (uint32_t i = 0; l && i < l->priority_nr; i++)
		if (!l->priority[i].val.p)
			add_key(&c->keys, &c->key_nr, &c->key_cap, l->priority[i].key);
}

static void cond_parts(struct conds *c, const struct m_policy *p)
{
	if (p->outlier || (p->lb && p->lb->locality))
		cond_locality(c, p->lb ? p->lb->locality : NULL);
}

static void cond_policy(struct conds *c, const struct m_traffic_policy *p)
{
	cond_parts(c, &p->all);
	for (uint32_t i = 0; i < p->port_nr; i++)
		cond_parts(c, &p->ports[i].policy);
}

static void cond_dr(struct conds *c, const struct world *w, const struct host *h, const struct doc *doc)
{
	cond_policy(c, &doc->dr->policy);
	for (uint32_t i = 0; i < doc->dr->subset_nr; i++)
		cond_policy(c, &doc->dr->subsets[i].policy);
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
		if (host_distribution(h))
			cond_locality(c, host_distribution(h));
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
		for (uint32_t k = 0; r->more && k < r->more->mirrors.nr; k++)
			cond_dest(c, f->b->world,
				  host_full(&f->b->temp, f->b->world, r->more->mirrors.v[k].to.host, doc->meta.ns));
	}
}

static void cond_backend(const struct world *w, struct conds *c, const struct m_backend_ref *to)
{
	const struct host *d = host_service(w, to->ns, to->name);

	if (d)
		cond_dest(c, w, d->name);
}

static void cond_mirrors(const struct world *w, struct conds *c, const struct m_http_mirrors *m)
{
	for (uint32_t i = 0; i < m->nr; i++)
		cond_backend(w, c, &m->v[i].backend);
}

static void cond_route(struct finding *f, struct conds *c, const struct host *h, const struct doc *doc)
{
	const struct world *w = f->b->world;

	/* Of its own namespace it goes before rules that are older. */
	if (!str_eq(doc->meta.ns, h->ns) || h->rule_nr > 1)
		cond_ns(c, doc->meta.ns);
	for (uint32_t i = 0; i < doc->route->rule_nr; i++) {
		const struct m_route_rule *r = &doc->route->rules[i];

		for (uint32_t k = 0; k < r->backend_nr; k++) {
			cond_backend(w, c, &r->backends[k]);
			if (r->more)
				cond_mirrors(w, c, &r->more->dests[k].mirrors);
		}
		if (r->more)
			cond_mirrors(w, c, &r->more->mirrors);
	}
}

static void conds_of(struct finding *f, const struct host *h, struct conds *c)
{
	const struct world *w = f->b->world;

	c->names->round++;
	c->ns_nr = c->label_nr = c->key_nr = 0;
	if (!h->front_nr)
		return;
	cond_export(c, h->export_to, h->ns);
	for (uint32_t k = 0; k < h->front_nr && h->contended; k++)
		for (index_each(&w->claims, claim_hash(h, &h->fronts[k]), at, i))
			cond_export(c, w->hosts[i].export_to, w->hosts[i].ns);
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

/* ---- groups ---- */

static bool mentions(const struct finding *f, struct str key)
{
	for (uint32_t i = 0; i < f->key_nr; i++)
		if (str_eq(f->keys[i], key))
			return true;
	return false;
}

/* Notes the keys of labels that the conditions of one host mention. */
static void collect_keys(struct finding *f, const struct conds *c)
{
	for (uint32_t i = 0; i < c->label_nr; i++)
		for (uint32_t k = 0; k < c->labels[i]->nr; k++)
			add_key(&f->keys, &f->key_nr, &f->key_cap, c->labels[i]->v[k].key);
	for (uint32_t i = 0; i < c->key_nr; i++)
		add_key(&f->keys, &f->key_nr, &f->key_cap, c->keys[i]);
}

static bool kvs_equal(const struct kvs *a, const struct kvs *b)
{
	return a->nr == b->nr && kvs_match(a, b);
}

static void rehash(struct finding *f)
{
	uint32_t size = 64;

	while (size < f->group_nr * 4)
		size *= 2;
	free(f->slots);
	f->slots = xcalloc(size, sizeof(*f->slots));
	f->slot_mask = size - 1;
	for (uint32_t i = 0; i < f->group_nr; i++) {
		uint32_t at = (uint32_t)f->groups[i].hash & f->slot_mask;

		while (f->slots[at])
			at = (at + 1) & f->slot_mask;
		f->slots[at] = i + 1;
	}
}

static uint32_t group_of(struct finding *f, const struct doc *pod, const struct doc *sidecar)
{
	struct group c = { .sidecar = sidecar };
	uint32_t at;

	c.ns_id = name_id(&f->names, pod->meta.ns, false);
	if (c.ns_id)
		c.ns = pod->meta.ns;
	if (f->key_nr)
		c.labels.v = arena_array(&f->b->temp, pod->meta.labels.nr, sizeof(*c.labels.v));
	c.hash = str_hash(c.ns);
	if (sidecar)
		c.hash = c.hash * 31 + index_hash2(sidecar->meta.ns, sidecar->meta.name);
	f->sidecars |= sidecar != NULL;
	for (uint32_t i = 0; i < pod->meta.labels.nr && f->key_nr; i++) {
		const struct kv *kv = &pod->meta.labels.v[i];

		if (!mentions(f, kv->key))
			continue;
		c.labels.v[c.labels.nr++] = *kv;
		c.hash = c.hash * 31 + index_hash2(kv->key, kv->val);
	}
	if (!f->slots || f->group_nr * 2 > f->slot_mask)
		rehash(f);
	at = (uint32_t)c.hash & f->slot_mask;
	while (f->slots[at]) {
		const struct group *known = &f->groups[f->slots[at] - 1];

		if (known->hash == c.hash && known->sidecar == sidecar && str_eq(known->ns, c.ns) &&
		    kvs_equal(&known->labels, &c.labels))
			return f->slots[at] - 1;
		at = (at + 1) & f->slot_mask;
	}
	GROW(f->groups, f->group_nr, &f->group_cap);
	f->groups[f->group_nr++] = c;
	f->slots[at] = f->group_nr;
	return f->group_nr - 1;
}

/* ---- views ---- */

/* Which conditions of a host hold for a group: equal answers, equal views. */
struct answers {
	uint32_t ns;   /* 0: not named */
	uint32_t sees; /* enum sidecar_view */
	uint64_t labels, values;
	const struct doc *sidecar; /* where it sees a part */
	uint32_t view;
};

static struct answers answers_of(const struct finding *f, const struct making *mk, const struct conds *c,
				 const struct group *group)
{
	const struct who who = { .ns = group->ns, .labels = &group->labels, .sidecar = group->sidecar };
	struct answers a = { .sees = sidecar_view(f->b->world, &who, mk->host) };

	if (a.sees == SIDECAR_SEES_NOTHING)
		return a;
	if (a.sees == SIDECAR_SEES_PART)
		a.sidecar = group->sidecar;
	if (in_ns(c, group->ns_id) || a.sidecar)
		a.ns = group->ns_id;
	for (uint32_t i = 0; i < c->label_nr && i < 64; i++)
		a.labels |= (uint64_t)kvs_match(c->labels[i], &group->labels) << i;
	for (uint32_t i = 0; i < c->key_nr; i++) {
		const struct str *v = kvs_get(&group->labels, c->keys[i]);

		a.values = a.values * 31 + (v ? str_hash(*v) | 1 : 0);
	}
	return a;
}

static uint32_t view_of(struct finding *f, struct making *mk, const struct conds *c, const struct group *group,
			struct answers **memo, uint32_t *nr, uint32_t *cap)
{
	const struct who who = { .ns = group->ns, .labels = &group->labels, .sidecar = group->sidecar };
	struct answers a = answers_of(f, mk, c, group);

	for (uint32_t i = 0; i < *nr && (c->label_nr <= 64 || a.sees == SIDECAR_SEES_NOTHING); i++) {
		const struct answers *known = &(*memo)[i];

		if (known->sees == a.sees && known->ns == a.ns && known->labels == a.labels &&
		    known->values == a.values && known->sidecar == a.sidecar)
			return known->view;
	}
	a.view = view_add(f->b, mk, &who);
	GROW(*memo, *nr, cap);
	(*memo)[(*nr)++] = a;
	return a.view;
}

static void group_differs(struct group *group, uint32_t host, uint32_t view)
{
	GROW(group->hosts, group->diff_nr, &group->diff_cap);
	GROW(group->views, group->diff_nr, &group->view_cap);
	group->hosts[group->diff_nr] = host;
	group->views[group->diff_nr++] = view;
}

static struct making *resolve_host(struct finding *f, struct host *h, uint32_t position, const struct conds *c)
{
	static const struct who common;
	struct making *mk = xcalloc(1, sizeof(*mk));
	struct answers *memo = NULL;
	uint32_t nr = 0, cap = 0;

	mk->host = h;
	view_add(f->b, mk, &common);
	for (uint32_t i = 0; i < f->group_nr; i++) {
		struct group *group = &f->groups[i];
		uint32_t view;

		if (!c->label_nr && !c->key_nr && !in_ns(c, group->ns_id) && !group->sidecar)
			continue;
		view = view_of(f, mk, c, group, &memo, &nr, &cap);
		if (view)
			group_differs(group, position, view);
	}
	free(memo);
	return mk;
}

static bool same_views(const struct group *a, const struct group *b)
{
	return a->diff_nr == b->diff_nr && !memcmp(a->hosts, b->hosts, a->diff_nr * sizeof(*a->hosts)) &&
	       !memcmp(a->views, b->views, a->diff_nr * sizeof(*a->views));
}

static int by_group(const void *a, const void *b)
{
	const struct group *x = *(struct group *const *)a, *y = *(struct group *const *)b;
	int c = str_cmp(x->ns, y->ns);

	for (uint32_t i = 0; !c && i < x->labels.nr && i < y->labels.nr; i++) {
		c = str_cmp(x->labels.v[i].key, y->labels.v[i].key);
		if (!c)
			c = str_cmp(x->labels.v[i].val, y->labels.v[i].val);
	}
	if (!c)
		c = (int)x->labels.nr - (int)y->labels.nr;
	if (c || x->sidecar == y->sidecar)
		return c;
	if (!x->sidecar || !y->sidecar)
		return x->sidecar ? 1 : -1;
	c = str_cmp(x->sidecar->meta.ns, y->sidecar->meta.ns);
	return c ? c : str_cmp(x->sidecar->meta.name, y->sidecar->meta.name);
}

static bool shows_nothing(const struct making *mk, uint32_t view)
{
	for (uint32_t i = 0; i < mk->row_nr; i++)
		if (mk->rows[view * mk->row_nr + i].state != VIEW_NONE)
			return false;
	return true;
}

/* More is hidden than shown, so that fewer rows say what is shown. */
static bool mostly_hidden(const struct group *c, struct making *const *making, uint32_t host_nr)
{
	uint64_t hidden = 0, all = 0;

	for (uint32_t k = 0; k < c->diff_nr && c->sidecar; k++)
		if (shows_nothing(making[c->hosts[k]], c->views[k]))
			hidden += making[c->hosts[k]]->row_nr;
	for (uint32_t i = 0; i < host_nr && hidden; i++)
		all += making[i]->row_nr;
	return hidden > all - hidden;
}

static void see(struct making *mk, uint32_t scope, uint32_t view)
{
	GROW(mk->scoped, mk->scoped_nr, &mk->scoped_cap);
	mk->scoped[mk->scoped_nr++] = (struct scope_view){ scope, view };
}

/* Adds the scope to what it sees otherwise than all do; a closed one to all that it sees. */
static void scope_fill(const struct group *c, struct making **making, uint32_t host_nr)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < host_nr; i++) {
		bool differs = at < c->diff_nr && c->hosts[at] == i;
		uint32_t view = differs ? c->views[at] : 0;

		at += differs;
		if (c->scope & MESH_SCOPE_CLOSED ? !shows_nothing(making[i], view) : differs)
			see(making[i], c->scope, view);
	}
}

/* In order of namespace and labels, so that numbers do not depend on the order of pods. */
static uint32_t number_scopes(struct finding *f, struct making **making, uint32_t host_nr)
{
	struct group **order = xcalloc(f->group_nr + 1, sizeof(*order));
	uint32_t scope_nr = 1;

	for (uint32_t i = 0; i < f->group_nr; i++)
		order[i] = &f->groups[i];
	qsort(order, f->group_nr, sizeof(*order), by_group);
	for (uint32_t i = 0; i < f->group_nr; i++) {
		struct group *c = order[i];

		for (uint32_t k = 0; k < i && c->diff_nr && !c->scope; k++)
			if (same_views(order[k], c))
				c->scope = order[k]->scope;
		if (c->scope || !c->diff_nr)
			continue;
		c->scope = scope_nr++;
		if (mostly_hidden(c, making, host_nr))
			c->scope |= MESH_SCOPE_CLOSED;
		scope_fill(c, making, host_nr);
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

/* As the verdicts of explain show it. Pods of one Sidecar, who stand together mostly, share it. */
static const struct u_policy *sidecar_text(struct arena *a, const struct doc *doc, const struct u_policy *last)
{
	struct u_policy *p;

	if (!doc || (last && str_eq(last->ns, doc->meta.ns) && str_eq(last->name, doc->meta.name)))
		return doc ? last : NULL;
	p = arena_new(a, struct u_policy);
	p->kind = STR("Sidecar");
	p->ns = arena_str(a, doc->meta.ns);
	p->name = arena_str(a, doc->meta.name);
	p->file = arena_str(a, doc->at.file);
	p->line = doc->sidecar->outbound_at.line ? doc->sidecar->outbound_at.line : doc->at.line;
	return p;
}

static bool registry_only(const struct world *w, const struct doc *sidecar)
{
	if (!sidecar || sidecar->sidecar->outbound == OUTBOUND_UNSET)
		return w->registry_only;
	return sidecar->sidecar->outbound == OUTBOUND_REGISTRY_ONLY;
}

static void add_client(const struct world *w, struct arena *a, struct scopes *ret, const struct doc *d,
		       const struct doc *sidecar, const struct accelerations *acc)
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
	/* Sockets on the node's network are not asked. */
	if (!c->host_network) {
		c->registry_only = registry_only(w, sidecar);
		c->sidecar = sidecar_text(a, sidecar, last->sidecar);
	}
	if (cgroup)
		c->cgroup = arena_str(a, *cgroup);
	accelerate_find(acc, d, a, c);
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
	for (uint32_t i = 0; i < f->group_nr; i++) {
		free(f->groups[i].hosts);
		free(f->groups[i].views);
	}
	free(f->groups);
	free(f->slots);
	free(f->keys);
	free(f->names.v);
	free(f->names.asked);
	free(f->names.slots);
}

/* The Sidecar of each pod. One that speaks of its clients' own namespace tells namespaces apart. */
static const struct doc **sidecars_of(struct finding *f, const struct doc **pods, uint32_t nr)
{
	const struct doc **v = xcalloc(nr + 1, sizeof(struct doc *));

	for (uint32_t i = 0; i < nr && f->b->world->sidecar_nr; i++) {
		v[i] = pods[i]->pod->host_network ? NULL : sidecar_of(f->b->world, pods[i]);
		if (v[i] && sidecar_names_own(v[i]))
			name_id(&f->names, pods[i]->meta.ns, true);
	}
	return v;
}

void scopes_find(struct build *b, struct arena *arena, struct host **hosts, uint32_t nr, struct scopes *ret)
{
	struct finding f = { .b = b };
	struct conds c = { .names = &f.names };
	uint32_t pod_nr, *group_of_pod;
	const struct doc **pods = pods_of(b, &pod_nr), **sidecars;
	struct accelerations acc;

	*ret = (struct scopes){ .scope_nr = 1, .conditional = xcalloc(nr + 1, sizeof(struct making *)) };
	for (uint32_t i = 0; i < nr; i++) {
		conds_of(&f, hosts[i], &c);
		collect_keys(&f, &c);
	}
	sidecars = sidecars_of(&f, pods, pod_nr);
	group_of_pod = xcalloc(pod_nr + 1, sizeof(*group_of_pod));
	for (uint32_t i = 0; i < pod_nr && (f.names.nr || f.key_nr || b->world->sidecar_nr); i++)
		group_of_pod[i] = group_of(&f, pods[i], sidecars[i]);
	for (uint32_t i = 0; i < nr && f.group_nr; i++) {
		conds_of(&f, hosts[i], &c);
		if (c.ns_nr || c.label_nr || c.key_nr || f.sidecars)
			ret->conditional[i] = resolve_host(&f, hosts[i], i, &c);
	}
	ret->scope_nr = number_scopes(&f, ret->conditional, nr);
	accelerate_index(b, &acc);
	ret->clients = arena_array(arena, pod_nr, sizeof(*ret->clients));
	for (uint32_t i = 0; i < pod_nr; i++) {
		add_client(b->world, arena, ret, pods[i], sidecars[i], &acc);
		if (f.group_nr)
			ret->clients[i].scope = f.groups[group_of_pod[i]].scope;
	}
	free(group_of_pod);
	free(sidecars);
	free(pods);
	free(c.labels);
	free(c.keys);
	finding_free(&f);
}
