/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Builds snapshots, whole or from the one before, and looks rows up in them. When only slices changed, units of their Services
 * get their endpoints again and nothing else is touched: all other units, the clients and the plan (what each cluster's
 * endpoints are made of) are shared. To take no reference on ten thousand units for that, a snapshot holds one on the pool that
 * holds all of the last whole build's units, and one on each unit that replaced one of them since.
 */
#include <errno.h>
#include <stdlib.h>

#include "config/resolve.h"

/* Changed units until a new pool is made. */
#define REPLACED_MAX 1024

/* What endpoints do not change. */
struct plan {
	uint32_t refs;
	struct world *world;
	struct arena arena;	 /* specs, index, clients */
	struct unit_plan *units; /* of each unit */
	struct index by_service; /* {namespace, name} -> units that use its endpoints */
	struct client *clients;
	struct addr *node_ips;
	uint32_t client_nr, scope_nr, node_ip_nr;
};

/* References to units. */
struct pool {
	uint32_t refs;
	struct unit **units;
	uint32_t nr;
};

struct snap {
	struct snapshot s; /* first */
	struct plan *plan;
	struct pool *pool;
	uint32_t *replaced; /* positions whose unit is not the pool's; a reference each */
	uint32_t replaced_nr;
};

static void plan_unref(struct plan *p)
{
	if (--p->refs)
		return;
	world_unref(p->world);
	arena_release(&p->arena);
	free(p);
}

static void pool_unref(struct pool *p)
{
	if (--p->refs)
		return;
	for (uint32_t i = 0; i < p->nr; i++)
		unit_unref(p->units[i]);
	free(p->units);
	free(p);
}

struct snapshot *snapshot_ref(struct snapshot *s)
{
	s->refs++;
	return s;
}

void snapshot_unref(struct snapshot *s)
{
	struct snap *snap = (struct snap *)s;

	if (!s || --s->refs)
		return;
	for (uint32_t i = 0; i < snap->replaced_nr; i++)
		unit_unref(s->units[snap->replaced[i]]);
	free(snap->replaced);
	pool_unref(snap->pool);
	access_unref(s->access);
	plan_unref(snap->plan);
	free(s->units);
	arena_release(&s->arena);
	free(snap);
}

/* A snapshot over `units` and `access` (both taken over); the pool holds all of `units`. */
static struct snap *snap_new(struct plan *plan, struct access *access, struct unit **units, uint32_t nr)
{
	struct snap *snap = xcalloc(1, sizeof(*snap));
	struct snapshot *s = &snap->s;

	s->refs = 1;
	s->access = access;
	s->units = units;
	s->unit_nr = nr;
	s->clients = plan->clients;
	s->client_nr = plan->client_nr;
	s->node_ips = plan->node_ips;
	s->node_ip_nr = plan->node_ip_nr;
	s->scope_nr = plan->scope_nr;
	plan->refs++;
	snap->plan = plan;
	return snap;
}

static struct pool *pool_new(struct unit **units, uint32_t nr)
{
	struct pool *p = xcalloc(1, sizeof(*p));

	p->refs = 1;
	p->nr = nr;
	p->units = xmalloc((nr + 1) * sizeof(*units));
	if (nr)
		memcpy(p->units, units, nr * sizeof(*units));
	return p;
}

/* ---- a whole build ---- */

static int by_host(const void *a, const void *b)
{
	const struct host *x = *(const struct host *const *)a, *y = *(const struct host *const *)b;
	int c = str_cmp(x->name, y->name);

	return c ? c : str_cmp(x->ns, y->ns);
}

static struct host **hosts_sorted(struct world *w, uint32_t *ret_nr)
{
	struct host **hosts = xcalloc(w->host_nr + 1, sizeof(*hosts));
	uint32_t nr = 0;

	for (uint32_t i = 0; i < w->host_nr; i++)
		if (!w->hosts[i].shadowed_by)
			hosts[nr++] = &w->hosts[i];
	qsort(hosts, nr, sizeof(*hosts), by_host);
	for (uint32_t i = 0; i < nr; i++)
		hosts[i]->position = i;
	*ret_nr = nr;
	return hosts;
}

/* Pods are looked up by label only where no slice says who serves. */
static void label_if_needed(struct world *w, const struct model *m)
{
	uint32_t nr;

	for (uint32_t i = 0; i < w->gateway_at && w->workload_nr; i++) {
		const struct host *h = &w->hosts[i];
		bool needs = h->kind == HOST_ENTRY ? h->doc->se->has_selector : h->doc->service->has_selector;

		if (!needs)
			continue;
		if (h->kind == HOST_SERVICE && w->workload_nr == w->pod_nr) {
			model_slices_of(m, h->ns, h->doc->meta.name, &nr);
			if (nr)
				continue;
		}
		world_label(w);
		return;
	}
}

static void copy_node_ips(struct plan *plan, const struct model *m)
{
	uint32_t nr, ip_nr = 0;
	struct doc *const *nodes = model_list(m, KIND_NODE, &nr);
	struct str name = plan->world->node;

	for (uint32_t i = 0; i < nr; i++)
		ip_nr += nodes[i]->node->ip_nr;
	plan->node_ips = arena_array(&plan->arena, ip_nr, sizeof(*plan->node_ips));
	for (uint32_t i = 0; i < nr; i++)
		for (uint32_t k = 0; k < nodes[i]->node->ip_nr; k++)
			if (!name.len || str_eq(name, nodes[i]->meta.name))
				plan->node_ips[plan->node_ip_nr++] = nodes[i]->node->ips[k];
}

static void index_services(struct plan *plan, struct unit *const *units, uint32_t nr)
{
	uint32_t total = 0;

	for (uint32_t i = 0; i < nr; i++)
		total += units[i]->service_nr;
	index_init(&plan->by_service, &plan->arena, total);
	for (uint32_t i = 0; i < nr; i++)
		for (uint32_t k = 0; k < units[i]->service_nr; k++)
			index_add(&plan->by_service, str_hash(units[i]->services[k]), i);
	index_seal(&plan->by_service, &plan->arena);
}

/* The unit of the last snapshot that says the same, or `u`; prev's units are sorted alike, *at goes along. */
static struct unit *share(struct unit *u, const struct snapshot *prev, uint32_t *at)
{
	int c = -1;

	while (prev && *at < prev->unit_nr) {
		c = str_cmp(prev->units[*at]->host, u->host);
		if (!c)
			c = str_cmp(prev->units[*at]->ns, u->ns);
		if (c >= 0)
			break;
		++*at;
	}
	if (c || !unit_same(prev->units[*at], u))
		return u;
	unit_unref(u);
	return unit_ref(prev->units[*at]);
}

static struct unit **make_units(struct build *b, struct plan *plan, const struct snapshot *prev, struct host **hosts,
				uint32_t nr)
{
	static const struct who common;
	struct unit **units = xmalloc((nr + 1) * sizeof(*units));
	struct making scratch = { 0 };
	struct endpoints e = { 0 };
	struct scopes scopes;
	uint32_t at = 0;

	scopes_find(b, &plan->arena, hosts, nr, &scopes);
	plan->clients = scopes.clients;
	plan->client_nr = scopes.client_nr;
	plan->scope_nr = scopes.scope_nr;
	plan->units = arena_array(&plan->arena, nr, sizeof(*plan->units));
	for (uint32_t i = 0; i < nr; i++) {
		struct making *mk = scopes.conditional[i];

		if (!mk) {
			making_clear(&scratch);
			scratch.host = hosts[i];
			mk = &scratch;
			view_add(b, mk, &common);
		}
		view_outside(b, mk);
		units[i] = share(unit_make(b, mk, &e, &plan->arena, &plan->units[i]), prev, &at);
		if (mk != &scratch) {
			making_free(mk);
			free(mk);
		}
	}
	making_free(&scratch);
	free(scopes.conditional);
	free(e.v);
	free(e.more);
	arena_release(&e.texts);
	return units;
}

static int build_whole(const struct model *m, const struct snapshot_options *opts, const struct snapshot *prev,
		       struct batch *batch, struct snapshot **ret)
{
	struct build b = { .model = m,
			   .batch = batch,
			   .no_parser = opts->no_parser,
			   .http_fail_open = opts->http_fail_open,
			   .http_per_request = opts->http_per_request };
	struct plan *plan = xcalloc(1, sizeof(*plan));
	struct unit **units = NULL;
	struct access *access;
	struct host **hosts;
	struct snap *snap;
	uint32_t nr;

	plan->refs = 1;
	plan->world = b.world = world_new(m, opts);
	copy_node_ips(plan, m);
	gateways_add(b.world, m);
	world_link(b.world);
	label_if_needed(b.world, m);
	analyze(&b);
	access = access_build(&b, opts, prev ? prev->access : NULL);
	b.access = access;
	hosts = hosts_sorted(b.world, &nr);
	units = make_units(&b, plan, prev, hosts, nr);
	index_services(plan, units, nr);
	free(hosts);
	for (uint32_t i = 0; i < b.refused_nr; i++)
		batch_refuse_doc(batch, b.refused[i]);
	free(b.refused);
	diags_release(&b.spare);
	arena_release(&b.temp);

	snap = snap_new(plan, access, units, nr);
	snap->pool = pool_new(units, nr);
	plan_unref(plan);
	for (uint32_t i = 0; i < nr; i++) {
		snap->s.row_nr += units[i]->row_nr;
		snap->s.endpoint_nr += units[i]->endpoint_nr - units[i]->draining_nr;
	}
	if (b.errors) {
		snapshot_unref(&snap->s);
		return -EINVAL;
	}
	*ret = &snap->s;
	return 0;
}

/* ---- after a change of slices ---- */

static bool only_slices(struct doc *const *changed, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		if (changed[i]->kind != KIND_SLICE)
			return false;
	return changed;
}

/* Positions of the units that use the changed slices' Services, once each; *ret is the caller's to free. */
static uint32_t affected(const struct snap *prev, struct doc *const *changed, uint32_t nr, uint32_t **ret)
{
	const struct index *ix = &prev->plan->by_service;
	uint64_t *seen = xcalloc(prev->s.unit_nr / 64 + 1, sizeof(*seen)); /* a bit a unit */
	uint32_t *list = NULL, list_nr = 0, cap = 0;
	struct buf key = { 0 };

	for (uint32_t i = 0; i < nr; i++) {
		for (uint32_t k = 0; k < changed[i]->slice_nr; k++) {
			buf_clear(&key);
			buf_printf(&key, "%.*s/%.*s", STR_ARG(changed[i]->meta.ns),
				   STR_ARG(changed[i]->slices[k].service));
			for (index_each(ix, str_hash((struct str){ key.data, (uint32_t)key.len }), at, position)) {
				if (seen[position / 64] & (1ull << position % 64))
					continue;
				seen[position / 64] |= 1ull << position % 64;
				GROW(list, list_nr, &cap);
				list[list_nr++] = position;
			}
		}
	}
	buf_release(&key);
	free(seen);
	*ret = list;
	return list_nr;
}

static struct unit *with_endpoints(const struct snap *prev, uint32_t position, const struct model *m,
				   struct endpoints *e)
{
	const struct unit_plan *plan = &prev->plan->units[position];
	const struct unit *u = prev->s.units[position];
	const struct parts p = { .ns = u->ns,
				 .host = u->host,
				 .source_kind = u->source_kind,
				 .file = u->file,
				 .line = u->line,
				 .rows = u->rows,
				 .row_nr = u->row_nr,
				 .dests = u->dests,
				 .dest_nr = u->dest_nr,
				 .specs = plan->specs,
				 .spec_nr = u->cluster_nr,
				 .tables = plan->tables,
				 .table_nr = plan->table_nr,
				 .origins = u->origins,
				 .origin_nr = u->origin_nr,
				 .notes = u->notes,
				 .note_nr = u->note_nr };

	return unit_pack(&p, prev->plan->world, m, e);
}

/* The new snapshot's references: prev's pool and replaced units, unless there are too many for that. */
static void hold_units(struct snap *snap, const struct snap *prev, const uint32_t *fresh, uint32_t nr)
{
	struct unit **units = snap->s.units;

	if (prev->replaced_nr + nr > REPLACED_MAX) {
		snap->pool = pool_new(units, snap->s.unit_nr);
		for (uint32_t i = 0; i < snap->s.unit_nr; i++)
			unit_ref(units[i]);
		/* Those made just now came with a reference. */
		for (uint32_t i = 0; i < nr; i++)
			unit_unref(units[fresh[i]]);
		return;
	}
	snap->pool = prev->pool;
	snap->pool->refs++;
	snap->replaced = xmalloc((prev->replaced_nr + nr + 1) * sizeof(*snap->replaced));
	for (uint32_t i = 0; i < nr; i++)
		snap->replaced[snap->replaced_nr++] = fresh[i];
	for (uint32_t i = 0; i < prev->replaced_nr; i++) {
		uint32_t position = prev->replaced[i];
		bool again = false;

		for (uint32_t k = 0; k < nr && !again; k++)
			again = fresh[k] == position;
		if (again)
			continue;
		unit_ref(units[position]);
		snap->replaced[snap->replaced_nr++] = position;
	}
}

/* The same destinations have servers whose policies ask something of requests, so that the same rows lead to meshl7. */
static bool same_guarded(const struct access *a, const struct unit *x, const struct unit *y)
{
	for (uint32_t i = 0; i < x->cluster_nr && a->asks_requests; i++) {
		const struct u_cluster *c = &x->clusters[i], *d = &y->clusters[i];

		if (access_guards(a, &x->endpoints[c->endpoint], c->endpoint_nr) !=
		    access_guards(a, &y->endpoints[d->endpoint], d->endpoint_nr))
			return false;
	}
	return true;
}

/* NULL: other rows are needed. */
static struct snapshot *build_endpoints(const struct model *m, const struct snap *prev, struct doc *const *changed,
					uint32_t changed_nr)
{
	uint32_t *list, nr = affected(prev, changed, changed_nr, &list), fresh = 0;
	struct unit **units = xmalloc((prev->s.unit_nr + 1) * sizeof(*units));
	struct snap *snap = snap_new(prev->plan, access_ref(prev->s.access), units, prev->s.unit_nr);
	struct endpoints e = { 0 };
	bool same = true;

	memcpy(units, prev->s.units, prev->s.unit_nr * sizeof(*units));
	snap->s.row_nr = prev->s.row_nr;
	snap->s.endpoint_nr = prev->s.endpoint_nr;
	for (uint32_t i = 0; i < nr; i++) {
		struct unit *old = units[list[i]], *u = with_endpoints(prev, list[i], m, &e);

		if (u->hash == old->hash) {
			unit_unref(u);
			continue;
		}
		same &= same_guarded(prev->s.access, old, u);
		units[list[i]] = u;
		snap->s.endpoint_nr += (u->endpoint_nr - u->draining_nr) - (old->endpoint_nr - old->draining_nr);
		list[fresh++] = list[i];
	}
	hold_units(snap, prev, list, fresh);
	free(list);
	free(e.v);
	free(e.more);
	arena_release(&e.texts);
	if (same)
		return &snap->s;
	snapshot_unref(&snap->s);
	return NULL;
}

int snapshot_build(const struct model *m, const struct snapshot_options *opts, const struct snapshot *prev,
		   struct doc *const *changed, uint32_t changed_nr, struct batch *b, struct snapshot **ret)
{
	if (prev && only_slices(changed, changed_nr)) {
		*ret = build_endpoints(m, (const struct snap *)prev, changed, changed_nr);
		if (*ret)
			return 0;
	}
	return build_whole(m, opts, prev, b, ret);
}

/* ---- lookup ---- */

static const struct u_row *unit_find(const struct unit *u, uint32_t scope, const struct addr *addr, uint16_t port,
				     uint8_t proto, bool network)
{
	const struct u_row *best = NULL;

	for (uint32_t i = 0; i < u->row_nr; i++) {
		const struct u_row *r = &u->rows[i];

		if (r->scope != scope || r->port != port || r->proto != proto || (r->prefix_len < 128) != network ||
		    !addr_in(addr, &r->addr, r->prefix_len))
			continue;
		if (!best || r->prefix_len > best->prefix_len)
			best = r;
	}
	return best;
}

static const struct u_row *find_in(const struct snapshot *s, uint32_t scope, const struct addr *addr, uint16_t port,
				   uint8_t proto, bool network, const struct unit **ret_unit)
{
	const struct u_row *best = NULL;

	for (uint32_t i = 0; i < s->unit_nr; i++) {
		const struct u_row *r = unit_find(s->units[i], scope, addr, port, proto, network);

		if (!r || (best && best->prefix_len >= r->prefix_len))
			continue;
		best = r;
		*ret_unit = s->units[i];
	}
	return best;
}

const struct u_row *snapshot_find(const struct snapshot *s, uint32_t scope, const struct addr *addr, uint16_t port,
				  uint8_t proto, const struct unit **ret_unit)
{
	const struct unit *unit = NULL;
	const struct u_row *r = NULL;

	for (int network = 0; network < 2 && !r; network++) {
		if (scope)
			r = find_in(s, scope, addr, port, proto, network, &unit);
		if (!r && !(scope & MESH_SCOPE_CLOSED))
			r = find_in(s, 0, addr, port, proto, network, &unit);
	}
	if (r && ret_unit)
		*ret_unit = unit;
	return r;
}
