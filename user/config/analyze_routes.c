/* SPDX-License-Identifier: BSD-2-Clause */
/* What is wrong between routes of the Gateway API, the Services they are for, and those they send to. */
#include "config/route.h"

#define FIELD(b, ...) arena_printf(&(b)->temp, __VA_ARGS__)
#define NO_HINT ((struct str){ 0 })

static const struct doc *older_route(const struct world *w, const struct doc *doc, const struct m_parent_ref *p)
{
	for (index_each(&w->route_by, index_hash2(p->ns, p->name), at, i)) {
		const struct doc *other = w->routes[i];

		if (other == doc)
			break;
		if (other->route->kind != doc->route->kind || !str_eq(other->meta.ns, doc->meta.ns))
			continue;
		for (uint32_t k = 0; k < other->route->parent_nr; k++) {
			const struct m_parent_ref *q = &other->route->parents[k];

			if (!q->gateway && str_eq(p->ns, q->ns) && str_eq(p->name, q->name) &&
			    (!p->port || !q->port || p->port == q->port))
				return other;
		}
	}
	return NULL;
}

/* A port that the route is for, but cannot take. */
static bool port_fits(const struct doc *doc, const struct host *h, const struct m_parent_ref *p)
{
	const struct port *port;
	bool any = false;

	for (uint32_t i = 0; i < h->port_nr; i++) {
		port = &h->ports[i];
		if (p->port && p->port != port->number)
			continue;
		if (doc->route->kind == ROUTE_UDP)
			any |= port->class == PORT_UDP;
		else if (doc->route->kind == ROUTE_TCP)
			any |= port->proto == MESH_PROTO_TCP;
		else
			any |= port->class == PORT_HTTP || port->class == PORT_AUTO;
	}
	return any;
}

static void route_parent(struct build *b, const struct doc *doc, uint32_t at)
{
	const struct m_parent_ref *p = &doc->route->parents[at];
	const struct host *h = host_service(b->world, p->ns, p->name);
	struct str field = FIELD(b, "spec.parentRefs[%u]", at);
	const struct doc *other;

	if (!h) {
		report_warning(b, doc, p->at, field, NO_HINT,
			       "Service %.*s/%.*s not found: the route has no effect there", STR_ARG(p->ns),
			       STR_ARG(p->name));
		return;
	}
	if (host_not_frontend(h)) {
		report_error(b, doc, p->at, field, NO_HINT, "%s", host_not_frontend(h));
		return;
	}
	if (!port_fits(doc, h, p))
		report_warning(b, doc, p->at, field, NO_HINT,
			       "Service %.*s/%.*s has no port that %.*s can take: the route has no effect there",
			       STR_ARG(p->ns), STR_ARG(p->name), STR_ARG(doc->kind_name));
	/* HTTPRoutes of one Service are merged. */
	other = doc->route->kind == ROUTE_HTTP ? NULL : older_route(b->world, doc, p);
	if (other)
		report_warning(b, doc, p->at, field, NO_HINT,
			       "%.*s %.*s/%.*s comes first for this Service and port; the oldest wins",
			       STR_ARG(other->kind_name), STR_ARG(other->meta.ns), STR_ARG(other->meta.name));
	for (uint32_t i = 0; i < h->rule_nr; i++) {
		if (h->rules[i]->kind != KIND_VIRTUAL_SERVICE || doc->route->kind == ROUTE_UDP)
			continue;
		report_warning(b, doc, p->at, field, NO_HINT,
			       "VirtualService %.*s/%.*s has rules for this Service too; the older of the two wins, "
			       "and the route for clients of namespace %.*s",
			       STR_ARG(h->rules[i]->meta.ns), STR_ARG(h->rules[i]->meta.name), STR_ARG(doc->meta.ns));
		break;
	}
}

static void backend(struct build *b, const struct doc *doc, const struct m_backend_ref *to, struct str field)
{
	const struct host *h;
	const struct port *port;
	const char *bad = backend_bad(b->world, doc, to, &h, &port);

	if (bad)
		report_warning(b, doc, to->at, field, NO_HINT, "Service %.*s/%.*s: %s; its share of %s",
			       STR_ARG(to->ns), STR_ARG(to->name), bad,
			       doc->route->kind == ROUTE_HTTP ? "requests is answered with 500"
							      : "connections is refused");
}

static void mirrors(struct build *b, const struct doc *doc, const struct m_http_mirrors *m, uint32_t rule)
{
	for (uint32_t i = 0; i < m->nr; i++)
		backend(b, doc, &m->v[i].backend, FIELD(b, "spec.rules[%u].filters", rule));
}

/* Nothing in it needs the bytes of requests, so that weights stay in the kernel. */
static bool per_connection(const struct build *b, const struct doc *doc)
{
	const struct str *weights = kvs_get(&doc->meta.annotations, STR(HTTP_WEIGHTS_KEY));
	const struct m_http_rule *more = doc->route->rules[0].more;

	return doc->route->rule_nr == 1 && more && !more->acts &&
	       (!more->match_nr || (more->match_nr == 1 && http_match_any(&more->matches[0]))) &&
	       !(weights ? str_is(*weights, "request") : b->http_per_request);
}

static void route_backends(struct build *b, const struct doc *doc)
{
	for (uint32_t i = 0; i < doc->route->rule_nr; i++) {
		const struct m_route_rule *r = &doc->route->rules[i];
		uint32_t weighted = 0;

		for (uint32_t k = 0; k < r->backend_nr; k++) {
			weighted += r->backends[k].weight > 0;
			backend(b, doc, &r->backends[k], FIELD(b, "spec.rules[%u].backendRefs[%u]", i, k));
			if (r->more)
				mirrors(b, doc, &r->more->dests[k].mirrors, i);
		}
		if (r->more)
			mirrors(b, doc, &r->more->mirrors, i);
		if (weighted > 1 && per_connection(b, doc))
			report_warning(b, doc, r->at, FIELD(b, "spec.rules[%u]", i), NO_HINT,
				       "weights of an HTTPRoute are balanced per connection for now, not per request");
	}
}

void routes_analyze(struct build *b)
{
	for (uint32_t i = 0; i < b->world->route_nr; i++) {
		const struct doc *doc = b->world->routes[i];

		for (uint32_t k = 0; k < doc->route->parent_nr; k++) {
			if (doc->route->parents[k].gateway)
				gwapi_parent_analyze(b, doc, k);
			else
				route_parent(b, doc, k);
		}
		route_backends(b, doc);
	}
}
