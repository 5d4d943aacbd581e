/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which workloads are checked, and what of the maps says so: a check speaks for every endpoint, of any service, that has its address and is
 * of its WorkloadGroup. The rules are compared with the checks that there are, so that those which stay go on as they were.
 */
#include "plane/health_int.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"

/* What the rules ask for: an endpoint and its check. */
struct wish {
	struct str group;
	struct addr addr;
	const struct u_probe *probe;
	uint32_t backend;
};

struct wishes {
	struct wish *v;
	uint32_t nr, cap;
};

static int order(struct str group_a, const struct addr *a, struct str group_b, const struct addr *b)
{
	int d = str_cmp(group_a, group_b);

	return d ? d : addr_cmp(a, b);
}

static int by_check(const void *a, const void *b)
{
	const struct wish *x = a, *y = b;

	return order(x->group, &x->addr, y->group, &y->addr);
}

static void wish_add(struct health *h, struct wishes *w, const struct unit *u, uint32_t pool,
		     const struct u_endpoint *e)
{
	static const uint8_t protos[] = { MESH_PROTO_TCP, MESH_PROTO_UDP };

	for (uint32_t i = 0; i < sizeof(protos) && e->probe; i++) {
		const struct u_probe *probe = &u->probes[e->probe - 1];
		uint32_t backend = backend_find(h->p, pool, &e->addr, e->port, protos[i]);

		if (!backend)
			continue;
		w->v = plane_grow(w->v, w->nr, &w->cap, sizeof(*w->v));
		w->v[w->nr++] = (struct wish){ probe->group, e->addr, probe, backend };
	}
}

static void wishes_read(struct health *h, struct wishes *w)
{
	const struct snapshot *s = h->p->snapshot;

	for (uint32_t i = 0; s && i < s->unit_nr; i++) {
		const struct unit *u = s->units[i];

		for (uint32_t k = 0; k < u->cluster_nr && u->probe_nr; k++) {
			const struct u_cluster *c = &u->clusters[k];
			uint32_t pool = pool_find(h->p, c->name);

			for (uint32_t n = 0; n < c->endpoint_nr && pool; n++)
				wish_add(h, w, u, pool, &u->endpoints[c->endpoint + n]);
		}
	}
	if (w->nr)
		qsort(w->v, w->nr, sizeof(*w->v), by_check);
}

/* ---- the maps ---- */

static void backend_set(struct plane *p, uint32_t backend, bool healthy)
{
	struct mesh_backend *b = backend_at(p, backend);
	bool was = !(b->flags & MESH_HEALTH_FAILS);

	/* What no rule leads to is nobody's to choose. */
	if (was == healthy || !b->used)
		return;
	/* It comes back as if it were new: it may have to warm up. */
	if (healthy)
		__atomic_store_n(&b->since_ns, health_now_ns(), __ATOMIC_RELAXED);
	__atomic_fetch_xor(&b->flags, MESH_HEALTH_FAILS, __ATOMIC_RELAXED);
	__atomic_fetch_add(&pool_at(p, b->pool)->unhealthy, healthy ? UINT32_MAX : 1, __ATOMIC_RELAXED);
}

static void on_change(void *data, bool healthy)
{
	struct check *c = data;
	char text[ADDR_TEXT_MAX];

	for (uint32_t i = 0; i < c->backend_nr; i++)
		backend_set(c->health->p, c->backends[i], healthy);
	log_info("workload %s group=%s address=%s check=\"%s\"",
		 healthy ? "is healthy again" : "is not healthy any more", c->group, addr_text(&c->addr, text),
		 probe_result(c->probe));
}

/* ---- checks ---- */

static void check_free(struct check *c)
{
	probe_free(c->probe);
	free(c->group);
	free(c->backends);
	free(c);
}

static struct check *check_new(struct health *h, const struct wish *w)
{
	struct check *c = xcalloc(1, sizeof(*c));

	c->health = h;
	c->group = xmalloc((size_t)w->group.len + 1);
	memcpy(c->group, w->group.p, w->group.len);
	c->group[w->group.len] = 0;
	c->addr = w->addr;
	return c;
}

/* The wishes of one check are all there. One that has just been made begins as an earlier meshd left its endpoints. */
static void check_settle(struct check *c, const struct u_probe *what)
{
	bool healthy = true;

	if (c->probe && probe_is(c->probe, what, &c->addr)) {
		healthy = probe_healthy(c->probe);
	} else {
		for (uint32_t i = 0; i < c->backend_nr && !c->probe; i++)
			healthy &= !(backend_at(c->health->p, c->backends[i])->flags & MESH_HEALTH_FAILS);
		healthy = c->probe ? probe_healthy(c->probe) : healthy;
		probe_free(c->probe);
		c->probe = probe_new(&c->health->probes, what, &c->addr, healthy, on_change, c);
	}
	for (uint32_t i = 0; i < c->backend_nr; i++)
		backend_set(c->health->p, c->backends[i], healthy);
}

static uint32_t merge(struct health *h, const struct wishes *w, struct check **out)
{
	uint32_t nr = 0, old = 0, i = 0;

	while (i < w->nr || old < h->check_nr) {
		struct check *have = old < h->check_nr ? h->checks[old] : NULL, *c;
		const struct wish *first = i < w->nr ? &w->v[i] : NULL;
		int d = !have ? -1 : !first ? 1 : order(first->group, &first->addr, str_of(have->group), &have->addr);

		if (d > 0) {
			check_free(have);
			old++;
			continue;
		}
		c = d ? check_new(h, first) : have;
		old += !d;
		for (c->backend_nr = 0; i < w->nr && !by_check(&w->v[i], first); i++) {
			c->backends = plane_grow(c->backends, c->backend_nr, &c->backend_cap, sizeof(*c->backends));
			c->backends[c->backend_nr++] = w->v[i].backend;
		}
		check_settle(c, first->probe);
		out[nr++] = c;
	}
	return nr;
}

static int by_backend(const void *a, const void *b)
{
	const struct checked *x = a, *y = b;

	return x->backend < y->backend ? -1 : x->backend > y->backend;
}

static const struct checked *checked_find(const struct health *h, uint32_t backend)
{
	const struct checked key = { .backend = backend };

	return h->checked_nr ? bsearch(&key, h->checked, h->checked_nr, sizeof(key), by_backend) : NULL;
}

static void checked_update(struct health *h, uint32_t nr)
{
	free(h->checked);
	h->checked = nr ? xcalloc(nr, sizeof(*h->checked)) : NULL;
	h->checked_nr = 0;
	for (uint32_t i = 0; i < h->check_nr; i++)
		for (uint32_t k = 0; k < h->checks[i]->backend_nr; k++)
			h->checked[h->checked_nr++] = (struct checked){ h->checks[i]->backends[k], h->checks[i] };
	if (h->checked_nr)
		qsort(h->checked, h->checked_nr, sizeof(*h->checked), by_backend);
}

/* Endpoints that nobody checks any more do not fail, whoever said so. */
static void clear_others(struct health *h)
{
	for (uint32_t i = 0; (i = backend_next(h->p, i));)
		if (!checked_find(h, i))
			backend_set(h->p, i, true);
}

void checks_update(struct health *h)
{
	struct wishes w = { 0 };
	struct check **checks;
	bool had = h->check_nr || !h->looked;

	wishes_read(h, &w);
	checks = w.nr ? xcalloc(w.nr, sizeof(struct check *)) : NULL;
	h->check_nr = merge(h, &w, checks);
	free(h->checks);
	h->checks = checks;
	checked_update(h, w.nr);
	free(w.v);
	if (had)
		clear_others(h);
}

void checks_release(struct health *h)
{
	for (uint32_t i = 0; i < h->check_nr; i++)
		check_free(h->checks[i]);
	free(h->checks);
	free(h->checked);
}

const char *check_result(const struct health *h, uint32_t backend)
{
	const struct checked *c = checked_find(h, backend);

	return c ? probe_result(c->check->probe) : NULL;
}
