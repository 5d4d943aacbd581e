/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which rules for requests hold at one row, in order of precedence, with their destinations as one client has them. A row gets a table
 * only where a request's bytes decide or change something; everything else stays in the kernel.
 */
#include <stdlib.h>

#include "config/http_local.h"
#include "mesh_http.h"

/* ---- tables that are the same ---- */

static bool mirrors_same(const struct h_mirror *a, uint32_t a_nr, const struct h_mirror *b, uint32_t b_nr)
{
	return a_nr == b_nr && (!a_nr || !memcmp(a, b, a_nr * sizeof(*a)));
}

static bool routes_same(const struct h_route *a, const struct h_route *b)
{
	if (a->rule != b->rule || a->match != b->match || a->dest_nr != b->dest_nr || !str_eq(a->origin, b->origin) ||
	    !str_eq(a->name, b->name) || !mirrors_same(a->mirrors, a->mirror_nr, b->mirrors, b->mirror_nr))
		return false;
	for (uint32_t i = 0; i < a->dest_nr; i++) {
		const struct h_dest *x = &a->dests[i], *y = &b->dests[i];

		if (x->spec != y->spec || x->weight != y->weight || x->more != y->more ||
		    !mirrors_same(x->mirrors, x->mirror_nr, y->mirrors, y->mirror_nr))
			return false;
	}
	return true;
}

static bool tables_same(const struct h_table *a, const struct h_table *b)
{
	if (a->host_nr != b->host_nr || a->flags != b->flags)
		return false;
	for (uint32_t i = 0; i < a->host_nr; i++) {
		const struct h_host *x = &a->hosts[i], *y = &b->hosts[i];

		if (!str_eq(x->name, y->name) || x->route_nr != y->route_nr)
			return false;
		for (uint32_t k = 0; k < x->route_nr; k++)
			if (!routes_same(&x->routes[k], &y->routes[k]))
				return false;
	}
	return true;
}

/* Its number in the making, + 1. */
static uint32_t table_put(struct making *mk, const struct h_table *t)
{
	for (uint32_t i = 0; i < mk->table_nr; i++)
		if (tables_same(&mk->tables[i], t))
			return i + 1;
	GROW(mk->tables, mk->table_nr, &mk->table_cap);
	mk->tables[mk->table_nr++] = *t;
	return mk->table_nr;
}

static void mirrors_copy(struct arena *keep, const uint32_t *cluster, struct h_mirror **v, uint32_t nr)
{
	const struct h_mirror *from = *v;

	*v = arena_array(keep, nr, sizeof(**v));
	for (uint32_t i = 0; i < nr; i++)
		(*v)[i] = (struct h_mirror){ cluster[from[i].spec] - 1, from[i].share };
}

static void route_copy(struct arena *keep, const struct h_route *from, const uint32_t *cluster, struct h_route *to)
{
	*to = *from;
	to->name = arena_str(keep, from->name);
	to->origin = arena_str(keep, from->origin);
	mirrors_copy(keep, cluster, &to->mirrors, to->mirror_nr);
	to->dests = arena_array(keep, to->dest_nr, sizeof(*to->dests));
	for (uint32_t i = 0; i < to->dest_nr; i++) {
		to->dests[i] = from->dests[i];
		to->dests[i].spec = cluster[from->dests[i].spec] - 1;
		mirrors_copy(keep, cluster, &to->dests[i].mirrors, to->dests[i].mirror_nr);
	}
}

void http_table_copy(struct arena *keep, const struct h_table *from, const uint32_t *cluster, struct h_table *to)
{
	*to = *from;
	to->hosts = arena_array(keep, from->host_nr, sizeof(*to->hosts));
	for (uint32_t i = 0; i < from->host_nr; i++) {
		const struct h_host *h = &from->hosts[i];

		to->hosts[i] = (struct h_host){ .name = arena_str(keep, h->name), .route_nr = h->route_nr };
		to->hosts[i].routes = arena_array(keep, h->route_nr, sizeof(*h->routes));
		for (uint32_t k = 0; k < h->route_nr; k++)
			route_copy(keep, &h->routes[k], cluster, &to->hosts[i].routes[k]);
	}
}

/* ---- rules of a VirtualService ---- */

static void vs_mirrors(struct table_of *t, const struct m_http_mirrors *m, struct h_mirror **ret, uint32_t *ret_nr)
{
	*ret = arena_array(&t->b->temp, m->nr, sizeof(**ret));
	*ret_nr = 0;
	for (uint32_t i = 0; i < m->nr; i++)
		if (m->v[i].share)
			(*ret)[(*ret_nr)++] = (struct h_mirror){
				view_destination(t->b, t->mk, t->row, &m->v[i].to, t->doc, t->who, &t->pass),
				m->v[i].share,
			};
}

/* Of one match of a rule, NULL: of all requests. */
static void vs_route(struct table_of *t, const struct m_rule *r, const struct m_http_match *match, struct h_route *ret)
{
	const struct doc *doc = r->doc ? r->doc : t->doc;

	*ret = (struct h_route){ .rule = r->more->acts ? r->more : NULL, .match = match, .name = r->name };
	ret->origin = arena_printf(&t->b->temp, "VirtualService %.*s/%.*s spec.http[%u]", STR_ARG(doc->meta.ns),
				   STR_ARG(doc->meta.name), r->index);
	ret->dests = arena_array(&t->b->temp, r->route_nr, sizeof(*ret->dests));
	for (uint32_t i = 0; i < r->route_nr; i++) {
		uint32_t weight = r->route_nr == 1 ? 1 : (uint32_t)r->routes[i].weight;

		if (weight)
			ret->dests[ret->dest_nr++] = (struct h_dest){
				.spec = view_destination(t->b, t->mk, t->row, &r->routes[i], t->doc, t->who, &t->pass),
				.weight = weight,
				.more = r->more->dests && r->more->acts ? &r->more->dests[i] : NULL,
			};
	}
	vs_mirrors(t, &r->more->mirrors, &ret->mirrors, &ret->mirror_nr);
}

/* Something of this rule holds whatever the request is, or is done with it. */
struct matching {
	bool some; /* it may hold at all */
	bool all;  /* for every request */
};

bool table_match(const struct table_of *t, const struct m_l4_match *m, const struct port *port)
{
	if (t->mk->host->kind == HOST_GATEWAY)
		return gateway_match(t->mk->host, t->doc, m, port->number);
	return match_l4(m, &t->row->net, port->number, t->who);
}

static struct matching rule_matching(const struct table_of *t, const struct m_rule *r, const struct port *port)
{
	struct matching m = { .some = !r->match_nr, .all = !r->match_nr };

	for (uint32_t i = 0; i < r->match_nr; i++) {
		if (!table_match(t, &r->matches[i], port))
			continue;
		m.some = true;
		m.all |= http_match_any(&r->more->matches[i]);
	}
	return m;
}

/* The first rule that can hold holds for every request, and does nothing but to choose a destination. */
static bool vs_is_plain(const struct table_of *t, const struct port *port, bool per_request)
{
	const struct m_virtual_service *vs = t->doc->vs;

	for (uint32_t i = 0; i < vs->rule_nr; i++) {
		const struct m_rule *r = &vs->rules[i];
		struct matching m;
		uint32_t weighted = 0;

		if (!r->http)
			continue;
		m = rule_matching(t, r, port);
		for (uint32_t k = 0; k < r->route_nr; k++)
			weighted += r->route_nr == 1 || r->routes[k].weight;
		if (m.some)
			return m.all && !r->more->acts && !(per_request && weighted > 1);
	}
	return true;
}

/* The host of a name, appended when there is none. */
static struct h_host *host_put(struct h_table *table, struct str name, uint32_t *cap)
{
	for (uint32_t i = 0; i < table->host_nr; i++)
		if (str_eq(table->hosts[i].name, name))
			return &table->hosts[i];
	GROW(table->hosts, table->host_nr, cap);
	table->hosts[table->host_nr] = (struct h_host){ .name = name };
	return &table->hosts[table->host_nr++];
}

/* The hosts, which were allocated while they were collected, move to where everything else is. */
static void table_keep(struct table_of *t, struct h_table *table)
{
	struct h_host *hosts = arena_array(&t->b->temp, table->host_nr, sizeof(*hosts));

	if (table->host_nr)
		memcpy(hosts, table->hosts, table->host_nr * sizeof(*hosts));
	free(table->hosts);
	table->hosts = hosts;
}

/* Appends them. */
static void vs_routes(struct table_of *t, const struct port *port, struct h_host *host)
{
	const struct m_virtual_service *vs = t->doc->vs;
	const struct h_route *before = host->routes;
	uint32_t max = host->route_nr;
	bool open = host->route_nr && !host->routes[host->route_nr - 1].match;

	for (uint32_t i = 0; i < vs->rule_nr; i++)
		max += vs->rules[i].match_nr + !vs->rules[i].match_nr;
	host->routes = arena_array(&t->b->temp, max, sizeof(*host->routes));
	if (host->route_nr)
		memcpy(host->routes, before, host->route_nr * sizeof(*before));
	/* Behind one that holds for every request there is nothing. */
	for (uint32_t i = 0; i < vs->rule_nr && !open; i++) {
		const struct m_rule *r = &vs->rules[i];

		if (!r->http)
			continue;
		open = rule_matching(t, r, port).all;
		if (open) {
			t->open = (struct chosen){ .doc = t->doc, .rule = r, .http = true };
			vs_route(t, r, NULL, &host->routes[host->route_nr++]);
			continue;
		}
		for (uint32_t k = 0; k < r->match_nr; k++)
			if (table_match(t, &r->matches[k], port))
				vs_route(t, r, &r->more->matches[k], &host->routes[host->route_nr++]);
	}
}

/* One that says nothing here does not keep requests from those with a wildcard for its hosts. */
static bool vs_speaks(const struct table_of *t, const struct port *port)
{
	const struct m_virtual_service *vs = t->doc->vs;

	for (uint32_t i = 0; i < vs->rule_nr; i++)
		if (vs->rules[i].http && rule_matching(t, &vs->rules[i], port).some)
			return true;
	return false;
}

/* Hosts of servers that redirect have nothing else. */
static void server_redirects(struct table_of *t, struct h_table *table, uint32_t *cap)
{
	const struct host *h = t->mk->host;
	struct str names[HOSTS_MAX];
	uint32_t nr = gateway_redirect_names(&t->b->temp, h, names, HOSTS_MAX);

	for (uint32_t i = 0; i < nr; i++)
		host_put(table, names[i], cap);
	for (uint32_t i = 0; i < table->host_nr; i++) {
		const struct m_rule *r = gateway_redirect_of(&t->b->temp, h, table->hosts[i].name);
		struct h_route *route;

		if (!r)
			continue;
		route = arena_new(&t->b->temp, struct h_route);
		*route = (struct h_route){ .rule = r->more };
		route->origin = arena_printf(&t->b->temp, "Gateway %.*s/%.*s spec.servers[%u]",
					     STR_ARG(h->doc->meta.ns), STR_ARG(h->doc->meta.name), r->index);
		table->hosts[i].routes = route;
		table->hosts[i].route_nr = 1;
		t->open = (struct chosen){ .doc = h->doc, .rule = r, .http = true };
	}
}

/*
 * The hosts of the servers of an Istio Gateway that have the port, each with the rules of all VirtualServices that name it there, the oldest
 * first.
 */
static void vs_servers(struct table_of *t, const struct port *port, struct h_table *table)
{
	const struct host *h = t->mk->host;
	struct str names[HOSTS_MAX];
	uint32_t cap = 0;

	table->flags = MESH_HTTP_EDGE;
	for (int order = 0; order <= RULE_RANK_MAX; order++) {
		for (uint32_t i = 0; i < h->rule_nr; i++) {
			uint32_t nr = gateway_names(t->b->world, &t->b->temp, h, h->rules[i], names, HOSTS_MAX);

			t->doc = h->rules[i];
			if (rule_rank(t->b->world, h->rules[i], h, t->who) != order || !vs_speaks(t, port))
				continue;
			for (uint32_t k = 0; k < nr; k++)
				vs_routes(t, port, host_put(table, names[k], &cap));
		}
	}
	server_redirects(t, table, &cap);
	if (table->host_nr)
		qsort(table->hosts, table->host_nr, sizeof(*table->hosts), http_hosts_by_name);
	table_keep(t, table);
	if (table->host_nr != 1 || !str_is(table->hosts[0].name, "*"))
		t->open = (struct chosen){ 0 };
}

/* ---- rows ---- */

/* What the annotation of a rule says, else of the service's; empty: neither. */
static struct str annotation(const struct making *mk, const struct doc *rule, const char *key)
{
	const struct str *s = kvs_get(&rule->meta.annotations, str_of(key));

	if (!s && mk->host->kind == HOST_SERVICE)
		s = kvs_get(&mk->host->doc->meta.annotations, str_of(key));
	return s ? *s : (struct str){ 0 };
}

/* Why nobody can look into requests, or into what TLS begins with, here; NULL: somebody can. */
static const char *row_bad(const struct build *b, const struct view_row *row, const struct port *port)
{
	if (b->no_parser)
		return "the setting parser is off";
	if (port->http2)
		return "the port's protocol is HTTP/2 or gRPC";
	if (row->net.prefix_len < 128)
		return "the service is a network and no address";
	return NULL;
}

static bool table_make(struct table_of *t, const struct chosen *c, const struct port *port, bool per_request,
		       struct h_table *table)
{
	const struct host *h = t->mk->host;

	if (h->kind == HOST_GATEWAY && h->doc->kind == KIND_GATEWAY) {
		http_routes_listener(t, table);
		return true;
	}
	if (!c->rule)
		return http_routes_service(t, c, port, per_request, table);
	t->first = *c;
	if (c->tls) {
		tls_names(t, port, table);
		return true;
	}
	if (h->kind == HOST_GATEWAY) {
		vs_servers(t, port, table);
		return true;
	}
	if (vs_is_plain(t, port, per_request)) {
		t->open = *c;
		return false;
	}
	table->host_nr = 1;
	table->hosts = arena_new(&t->b->temp, struct h_host);
	table->hosts->name = STR("*");
	vs_routes(t, port, table->hosts);
	return true;
}

bool http_table_find(struct build *b, struct making *mk, struct view_row *row, struct chosen *c,
		     const struct port *port, const struct who *who, struct chosen *ret_open)
{
	struct str weights = annotation(mk, c->doc, HTTP_WEIGHTS_KEY);
	struct str down = annotation(mk, c->doc, HTTP_DOWN_KEY);
	struct table_of t = { .b = b, .mk = mk, .row = row, .doc = c->doc, .who = who };
	bool per_request = weights.len ? str_is(weights, "request") : b->http_per_request;
	struct h_table table = { 0 };
	const char *bad;

	if (!table_make(&t, c, port, per_request, &table)) {
		*c = t.open;
		return false;
	}
	if (t.first.doc)
		*c = t.first;
	*ret_open = t.open;
	bad = row_bad(b, row, port);
	if (bad)
		report_once(b, rule_doc(c), rule_place(c), rule_field(b, c),
			    "not enforced yet at port %u of %.*s: it needs the bytes of %s, and %s", row->port,
			    STR_ARG(mk->host->name), c->tls ? "connections" : "requests", bad);
	else if (t.pass)
		report_once(b, rule_doc(c), rule_place(c), rule_field(b, c),
			    "a destination keeps the original address (PASSTHROUGH or resolution NONE); for rules that "
			    "need the bytes of %s that is not enforced yet",
			    c->tls ? "connections" : "requests");
	row->http = table_put(mk, &table);
	row->fail_open = down.len ? str_is(down, "l4") : b->http_fail_open;
	if (port->class == PORT_AUTO)
		making_note(b, mk, "port %u: protocol is not declared, and its rules need requests of HTTP/1",
			    row->port);
	return true;
}

/* A destination has something that holds for requests only. */
static const struct balance *limited(const struct making *mk, const struct view_row *row)
{
	for (uint32_t i = 0; i < row->dest_nr; i++) {
		const struct balance *b = mk->specs[mk->dests[row->dest + i].spec].balance;

		if (b && b->by && (b->hash || b->requests))
			return b;
	}
	return NULL;
}

static void plain_route(struct build *b, const struct making *mk, const struct view_row *row, struct h_route *r)
{
	const struct origin *o = row->origin ? &mk->origins[row->origin - 1] : NULL;
	const struct doc *doc = o ? o->doc : mk->host->doc;

	r->origin = arena_printf(&b->temp, "%.*s %.*s/%.*s%s%.*s", STR_ARG(doc->kind_name), STR_ARG(doc->meta.ns),
				 STR_ARG(doc->meta.name), o ? " " : "", o ? (int)o->field.len : 0, o ? o->field.p : "");
	r->dests = arena_array(&b->temp, row->dest_nr, sizeof(*r->dests));
	for (uint32_t i = 0; i < row->dest_nr; i++)
		r->dests[r->dest_nr++] = (struct h_dest){ .spec = mk->dests[row->dest + i].spec,
							  .weight = (uint32_t)mk->dests[row->dest + i].weight };
}

/* A server of the row has policies that ask something of requests. */
static bool guarded(struct build *b, const struct making *mk, const struct view_row *row)
{
	struct endpoints e = { 0 };
	bool found = false;

	for (uint32_t i = 0; i < row->dest_nr && !found && b->access->asks_requests; i++) {
		e.nr = 0;
		arena_clear(&e.texts);
		endpoints_add(&e, b->world, b->model, &mk->specs[mk->dests[row->dest + i].spec]);
		found = access_guards(b->access, e.v, e.nr);
	}
	free(e.v);
	free(e.more);
	arena_release(&e.texts);
	return found;
}

/* The row's own destinations, by way of meshl7. */
static void plain_table(struct build *b, struct making *mk, struct view_row *row, uint16_t flags)
{
	struct str down = annotation(mk, mk->host->doc, HTTP_DOWN_KEY);
	struct h_table table = { .host_nr = 1, .flags = flags };

	table.hosts = arena_new(&b->temp, struct h_host);
	table.hosts->name = STR("*");
	table.hosts->route_nr = 1;
	table.hosts->routes = arena_new(&b->temp, struct h_route);
	plain_route(b, mk, row, table.hosts->routes);
	row->http = table_put(mk, &table);
	row->fail_open = down.len ? str_is(down, "l4") : b->http_fail_open;
	row->per_connection = false;
}

void http_table_limits(struct build *b, struct making *mk, struct view_row *row, const struct port *port,
		       uint16_t flags)
{
	const struct balance *by = limited(mk, row);
	const char *bad = row_bad(b, row, port);

	if (by && port->class != PORT_HTTP) {
		making_note(b, mk, "port %u: protocol is not HTTP, limits of requests and hashes of them do not act",
			    row->port);
		by = NULL;
	} else if (by && bad) {
		report_once(b, by->by, by->from->at, balance_field(&b->temp, by),
			    "not enforced yet at port %u of %.*s: it needs the bytes of requests, and %s", row->port,
			    STR_ARG(mk->host->name), bad);
	}
	if (!by && (row->proto != MESH_PROTO_TCP || !guarded(b, mk, row)))
		return;
	if (!by && (port->class != PORT_HTTP || bad)) {
		making_note(b, mk, "port %u: what policies ask of requests is denied: %s%s", row->port,
			    port->class != PORT_HTTP ? "" : "it needs the bytes of requests, and ",
			    port->class != PORT_HTTP ? "protocol is not HTTP" : bad);
		return;
	}
	plain_table(b, mk, row, flags);
}
