/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTPRoutes that have one row, merged: in the order of precedence of the Gateway API (apis/v1/httproute_types.go). The rules of all routes
 * of one parent form one list for each host name: what a more specific host name has stands in front of what the less specific
 * ones have.
 */
#include <stdlib.h>

#include "config/http_local.h"
#include "config/validate.h"
#include "mesh_http.h"

/* One match of one rule, and what it is sorted by. */
struct entry {
	struct h_route route;
	struct chosen from;
	bool exact;	   /* the host name that it has of the route is no wildcard */
	uint32_t name_len; /* of that */
	uint32_t order;	   /* of documents by age, rules and matches */
};

struct entries {
	struct entry *v;
	uint32_t nr, cap;
};

/* Exact paths, then prefixes; of regular expressions the Gateway API leaves it open: before what takes every path. */
static uint32_t path_rank(const struct m_http_match *m)
{
	switch (m ? m->path.kind : MESH_TEXT_ANY) {
	case MESH_TEXT_EXACT:
		return 3;
	case MESH_TEXT_PATH_PREFIX:
		return 2;
	case MESH_TEXT_REGEX:
		return 1;
	default:
		return 0;
	}
}

static int more_first(uint64_t a, uint64_t b)
{
	return a == b ? 0 : a > b ? -1 : 1;
}

static int by_precedence(const void *a, const void *b)
{
	static const struct m_http_match any;
	const struct entry *x = a, *y = b;
	const struct m_http_match *m = x->route.match ? x->route.match : &any,
				  *n = y->route.match ? y->route.match : &any;
	const int by[] = { more_first(x->exact, y->exact),
			   more_first(x->name_len, y->name_len),
			   more_first(path_rank(m), path_rank(n)),
			   more_first(m->path.text.len, n->path.text.len),
			   more_first(m->method.kind, n->method.kind),
			   more_first(m->header_nr, n->header_nr),
			   more_first(m->query_nr, n->query_nr),
			   more_first(y->order, x->order) };

	for (size_t i = 0; i < sizeof(by) / sizeof(*by); i++)
		if (by[i])
			return by[i];
	return 0;
}

static void route_mirrors(struct table_of *t, const struct doc *doc, const struct m_http_mirrors *m,
			  struct h_mirror **ret, uint32_t *ret_nr)
{
	*ret = arena_array(&t->b->temp, m->nr, sizeof(**ret));
	*ret_nr = 0;
	for (uint32_t i = 0; i < m->nr; i++)
		if (m->v[i].share)
			(*ret)[(*ret_nr)++] = (struct h_mirror){
				view_backend(t->b, t->mk, t->row, &m->v[i].backend, doc, t->who, &t->pass),
				m->v[i].share,
			};
}

static void fill_route(struct table_of *t, const struct doc *doc, uint32_t rule, const struct m_http_match *match,
		       struct h_route *ret)
{
	const struct m_route_rule *r = &doc->route->rules[rule];

	*ret = (struct h_route){ .rule = r->more->acts ? r->more : NULL,
				 .match = match && http_match_any(match) ? NULL : match,
				 .name = r->name };
	ret->origin = arena_printf(&t->b->temp, "HTTPRoute %.*s/%.*s spec.rules[%u]", STR_ARG(doc->meta.ns),
				   STR_ARG(doc->meta.name), rule);
	ret->dests = arena_array(&t->b->temp, r->backend_nr, sizeof(*ret->dests));
	for (uint32_t i = 0; i < r->backend_nr; i++) {
		struct h_dest *d = &ret->dests[ret->dest_nr];

		if (!r->backends[i].weight)
			continue;
		ret->dest_nr++;
		d->spec = view_backend(t->b, t->mk, t->row, &r->backends[i], doc, t->who, &t->pass);
		d->weight = (uint32_t)r->backends[i].weight;
		if (!r->more->acts)
			continue;
		d->more = &r->more->dests[i];
		route_mirrors(t, doc, &d->more->mirrors, &d->mirrors, &d->mirror_nr);
	}
	route_mirrors(t, doc, &r->more->mirrors, &ret->mirrors, &ret->mirror_nr);
}

/* All of one route, whose host name `name` is of this length. */
static void add_route(struct table_of *t, struct entries *e, const struct doc *doc, struct str name)
{
	for (uint32_t i = 0; i < doc->route->rule_nr; i++) {
		const struct m_http_rule *more = doc->route->rules[i].more;

		for (uint32_t k = 0; k < more->match_nr + !more->match_nr; k++) {
			struct entry *x;

			GROW(e->v, e->nr, &e->cap);
			x = &e->v[e->nr];
			*x = (struct entry){ .from = { .doc = doc, .route_rule = i, .http = true },
					     .exact = !host_is_wild(name),
					     .name_len = name.len,
					     .order = e->nr++ };
			fill_route(t, doc, i, more->match_nr ? &more->matches[k] : NULL, &x->route);
		}
	}
}

/* Behind one that takes every request there is nothing. */
static void entries_put(struct table_of *t, struct entries *e, struct h_host *host)
{
	qsort(e->v, e->nr, sizeof(*e->v), by_precedence);
	host->routes = arena_array(&t->b->temp, e->nr, sizeof(*host->routes));
	for (uint32_t i = 0; i < e->nr; i++) {
		if (!i)
			t->first = e->v[i].from;
		host->routes[host->route_nr++] = e->v[i].route;
		if (e->v[i].route.match)
			continue;
		if (!t->open.doc)
			t->open = e->v[i].from;
		break;
	}
}

/* Nothing but a choice among weighted destinations. */
static bool is_plain(const struct h_host *host, bool per_request)
{
	const struct h_route *r = host->routes;

	return host->route_nr == 1 && !r->match && !r->rule && !(per_request && r->dest_nr > 1);
}

bool http_routes_service(struct table_of *t, const struct chosen *c, const struct port *port, bool per_request,
			 struct h_table *table)
{
	const struct host *h = t->mk->host;
	int rank = rule_rank(t->b->world, c->doc, h, t->who);
	struct entries e = { 0 };

	table->hosts = arena_new(&t->b->temp, struct h_host);
	table->host_nr = 1;
	table->hosts->name = STR("*");
	for (uint32_t i = 0; i < h->rule_nr; i++)
		if (route_is(h->rules[i], ROUTE_HTTP, h, port->number) &&
		    rule_rank(t->b->world, h->rules[i], h, t->who) == rank)
			add_route(t, &e, h->rules[i], STR(""));
	entries_put(t, &e, table->hosts);
	free(e.v);
	return !is_plain(table->hosts, per_request);
}

/* ---- listeners ---- */

/* `wide` has all names that `name` has. */
static bool covers(struct str wide, struct str name)
{
	return str_is(wide, "*") || str_eq(wide, name) ||
	       (host_is_wild(wide) && name.len > wide.len - 1 && str_ends(name, str_sub(wide, 1, wide.len)));
}

bool http_names_meet(struct str a, struct str b, struct str *ret)
{
	*ret = covers(a, b) ? b : a;
	return covers(a, b) || covers(b, a);
}

static struct str listener_name(const struct m_listener *l)
{
	return l->hostname.len ? l->hostname : STR("*");
}

static bool is_here(const struct host *h, const struct m_listener *l)
{
	return l->http && l->port == h->ports[0].number;
}

/* The listener that has requests for a name: the most specific. */
static const struct m_listener *owner_of(const struct host *h, struct str name)
{
	const struct m_gateway *g = h->doc->gw;
	const struct m_listener *best = NULL;

	for (uint32_t i = 0; i < g->listener_nr; i++) {
		const struct m_listener *l = &g->listeners[i];

		if (is_here(h, l) && covers(listener_name(l), name) &&
		    (!best || covers(listener_name(best), listener_name(l))))
			best = l;
	}
	return best;
}

struct names {
	struct str *v;
	uint32_t nr, cap;
};

static void name_add(struct names *n, struct str s)
{
	for (uint32_t i = 0; i < n->nr; i++)
		if (str_eq(n->v[i], s))
			return;
	GROW(n->v, n->nr, &n->cap);
	n->v[n->nr++] = s;
}

/* The i-th name that a route has at a listener; false: it has no such. */
static bool route_name(const struct doc *route, const struct m_listener *l, uint32_t i, struct str *ret)
{
	const struct strs *own = &route->route->hostnames;

	*ret = listener_name(l);
	return own->nr ? http_names_meet(own->v[i], listener_name(l), ret) : true;
}

static uint32_t route_names(const struct doc *route)
{
	return route->route->hostnames.nr ? route->route->hostnames.nr : 1;
}

/* The most specific name of a route at the listener that has `name`. */
static bool best_name(const struct doc *route, const struct m_listener *l, struct str name, struct str *ret)
{
	struct str s;
	bool any = false;

	for (uint32_t i = 0; i < route_names(route); i++) {
		if (!route_name(route, l, i, &s) || !covers(s, name) || (any && !covers(*ret, s)))
			continue;
		*ret = s;
		any = true;
	}
	return any;
}

/* Full names first, then the longest. */
static int by_specificity(const void *a, const void *b)
{
	const struct str *x = a, *y = b;
	int c = more_first(!host_is_wild(*x), !host_is_wild(*y));

	if (!c)
		c = more_first(x->len, y->len);
	return c ? c : str_cmp(*x, *y);
}

int http_hosts_by_name(const void *a, const void *b)
{
	return by_specificity(&((const struct h_host *)a)->name, &((const struct h_host *)b)->name);
}

void http_routes_listener(struct table_of *t, struct h_table *table)
{
	const struct host *h = t->mk->host;
	const struct m_gateway *g = h->doc->gw;
	struct names names = { 0 };
	struct str s;

	for (uint32_t i = 0; i < g->listener_nr; i++) {
		if (!is_here(h, &g->listeners[i]))
			continue;
		name_add(&names, listener_name(&g->listeners[i]));
		for (uint32_t r = 0; r < h->rule_nr; r++)
			for (uint32_t k = 0; k < route_names(h->rules[r]); k++)
				if (gwapi_attached(t->b->model, h->doc, &g->listeners[i], h->rules[r]) &&
				    route_name(h->rules[r], &g->listeners[i], k, &s))
					name_add(&names, s);
	}
	qsort(names.v, names.nr, sizeof(*names.v), by_specificity);
	table->flags = MESH_HTTP_EDGE;
	table->hosts = arena_array(&t->b->temp, names.nr, sizeof(*table->hosts));
	for (uint32_t i = 0; i < names.nr; i++) {
		const struct m_listener *l = owner_of(h, names.v[i]);
		struct h_host *host = &table->hosts[table->host_nr++];
		struct entries e = { 0 };

		host->name = names.v[i];
		for (uint32_t r = 0; r < h->rule_nr; r++)
			if (gwapi_attached(t->b->model, h->doc, l, h->rules[r]) &&
			    best_name(h->rules[r], l, names.v[i], &s))
				add_route(t, &e, h->rules[r], s);
		entries_put(t, &e, host);
		free(e.v);
	}
	free(names.v);
	/* Without a look at the request there is no telling which host it is for. */
	if (table->host_nr != 1 || !str_is(table->hosts[0].name, "*"))
		t->open = (struct chosen){ 0 };
}

bool http_route_meets(const struct model *m, const struct doc *gateway, const struct doc *route)
{
	struct str s;

	for (uint32_t i = 0; i < gateway->gw->listener_nr; i++) {
		const struct m_listener *l = &gateway->gw->listeners[i];

		for (uint32_t k = 0; k < route_names(route) && l->http; k++)
			if (gwapi_attached(m, gateway, l, route) && route_name(route, l, k, &s))
				return true;
	}
	return false;
}
