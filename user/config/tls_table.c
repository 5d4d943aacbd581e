/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where connections of TLS go to by the name that they ask for: tls: rules of all VirtualServices that a host has at a port of TLS, in their
 * order. Of one name the first rule decides, as with Istio's filter chains; a connection whose name none of them has goes nowhere.
 */
#include <stdlib.h>

#include "config/http_local.h"
#include "mesh_http.h"

struct entry {
	struct str name;
	struct h_route *route;
	uint32_t order;
};

struct entries {
	struct entry *v;
	uint32_t nr, cap;
};

static int by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	const struct h_host l = { .name = x->name }, r = { .name = y->name };
	int c = http_hosts_by_name(&l, &r);

	return c ? c : x->order < y->order ? -1 : 1;
}

static struct h_route *route_of(struct table_of *t, const struct m_rule *r)
{
	struct h_route *ret = arena_new(&t->b->temp, struct h_route);

	ret->origin = arena_printf(&t->b->temp, "VirtualService %.*s/%.*s spec.tls[%u]", STR_ARG(t->doc->meta.ns),
				   STR_ARG(t->doc->meta.name), r->index);
	ret->dests = arena_array(&t->b->temp, r->route_nr, sizeof(*ret->dests));
	for (uint32_t i = 0; i < r->route_nr; i++) {
		uint32_t weight = r->route_nr == 1 ? 1 : (uint32_t)r->routes[i].weight;

		if (weight)
			ret->dests[ret->dest_nr++] = (struct h_dest){
				.spec = view_destination(t->b, t->mk, t->row, &r->routes[i], t->doc, t->who, &t->pass),
				.weight = weight,
			};
	}
	return ret;
}

static void add_name(struct entries *e, struct str name, struct h_route *route)
{
	GROW(e->v, e->nr, &e->cap);
	e->v[e->nr] = (struct entry){ name, route, e->nr };
	e->nr++;
}

/* At a gateway, as far as its servers have the name. */
static void add_names(struct table_of *t, struct str name, struct h_route *route, struct entries *e)
{
	const struct host *h = t->mk->host;
	struct str names[HOSTS_MAX];
	uint32_t nr;

	if (h->kind != HOST_GATEWAY) {
		add_name(e, name, route);
		return;
	}
	nr = gateway_tls_names(&t->b->temp, h, t->doc, name, names, HOSTS_MAX);
	for (uint32_t i = 0; i < nr; i++)
		add_name(e, names[i], route);
}

static void add_rule(struct table_of *t, const struct m_rule *r, const struct port *port, struct entries *e)
{
	struct h_route *route = NULL;

	for (uint32_t i = 0; i < r->match_nr; i++) {
		const struct m_l4_match *m = &r->matches[i];

		if (!table_match(t, m, port))
			continue;
		route = route ? route : route_of(t, r);
		for (uint32_t k = 0; k < m->names.nr; k++)
			add_names(t, m->names.v[k], route, e);
	}
}

void tls_names(struct table_of *t, const struct port *port, struct h_table *table)
{
	const struct host *h = t->mk->host;
	struct entries e = { 0 };

	for (int order = 0; order <= RULE_RANK_MAX; order++) {
		for (uint32_t i = 0; i < h->rule_nr; i++) {
			const struct m_virtual_service *vs = h->rules[i]->vs;

			if (h->rules[i]->kind != KIND_VIRTUAL_SERVICE ||
			    rule_rank(t->b->world, h->rules[i], h, t->who) != order)
				continue;
			t->doc = h->rules[i];
			for (uint32_t k = 0; k < vs->rule_nr; k++)
				if (vs->rules[k].tls)
					add_rule(t, &vs->rules[k], port, &e);
		}
	}
	qsort(e.v, e.nr, sizeof(*e.v), by_name);
	table->flags = MESH_HTTP_TLS;
	table->hosts = arena_array(&t->b->temp, e.nr, sizeof(*table->hosts));
	for (uint32_t i = 0; i < e.nr; i++)
		if (!i || !str_eq(e.v[i].name, e.v[i - 1].name))
			table->hosts[table->host_nr++] =
				(struct h_host){ .name = e.v[i].name, .routes = e.v[i].route, .route_nr = 1 };
	free(e.v);
}
