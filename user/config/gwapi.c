/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Listeners of Gateways of the Gateway API as hosts: one for each of TCP and UDP, one for all of HTTP that have one port. There is no gateway process: what a client dials at one
 * of the Gateway's addresses is balanced at the client, or where it enters the node. Gateways of a class that is another controller's
 * are left alone. Of the routes that may attach to a listener
 * of TCP or UDP, the oldest has it; those of HTTP are merged (http_routes.c).
 */
#include "config/route.h"

bool gwapi_ours(const struct model *m, const struct doc *gateway)
{
	const struct doc *class =
		model_get(m, KIND_GATEWAY_CLASS, STR("GatewayClass"), (struct str){ 0 }, gateway->gw->class);

	return class ? class->gwclass->ours : str_is(gateway->gw->class, GATEWAY_CLASS);
}

static bool has_value(const struct strs *values, const struct str *s)
{
	for (uint32_t i = 0; s && i < values->nr; i++)
		if (str_eq(values->v[i], *s))
			return true;
	return false;
}

static bool selects(const struct m_selector *s, const struct kvs *labels)
{
	for (uint32_t i = 0; i < s->term_nr; i++) {
		const struct m_label_term *t = &s->terms[i];
		const struct str *value = kvs_get(labels, t->key);
		bool holds = t->op == LABEL_EXISTS   ? value != NULL
			     : t->op == LABEL_ABSENT ? !value
						     : has_value(&t->values, value) == (t->op == LABEL_IN);

		if (!holds)
			return false;
	}
	return kvs_match(&s->labels, labels);
}

/* A namespace that no document describes has no labels. */
static bool allows_namespace(const struct model *m, const struct doc *gateway, const struct m_listener *l,
			     struct str ns)
{
	static const struct kvs none;
	const struct doc *doc;

	if (l->from != ROUTES_SELECTED)
		return l->from == ROUTES_ALL || str_eq(ns, gateway->meta.ns);
	doc = model_get(m, KIND_NAMESPACE, STR("Namespace"), (struct str){ 0 }, ns);
	return l->has_selector && selects(&l->selector, doc ? &doc->meta.labels : &none);
}

enum attachment gwapi_attaches(const struct model *m, const struct doc *gateway, const struct m_listener *l,
			       const struct doc *route, const struct m_parent_ref *p)
{
	uint8_t proto = route->route->kind == ROUTE_UDP ? MESH_PROTO_UDP : MESH_PROTO_TCP;

	if ((p->section.len && !str_eq(p->section, l->name)) || (p->port && p->port != l->port))
		return ATTACH_ELSEWHERE;
	if (!l->proto || l->proto != proto || !l->takes || l->http != (route->route->kind == ROUTE_HTTP))
		return ATTACH_KIND;
	return allows_namespace(m, gateway, l, route->meta.ns) ? ATTACH_YES : ATTACH_NAMESPACE;
}

bool gwapi_attached(const struct model *m, const struct doc *gateway, const struct m_listener *l,
		    const struct doc *route)
{
	for (uint32_t k = 0; k < route->route->parent_nr && route->route->rule_nr; k++) {
		const struct m_parent_ref *p = &route->route->parents[k];

		if (p->gateway && str_eq(p->ns, gateway->meta.ns) && str_eq(p->name, gateway->meta.name) &&
		    gwapi_attaches(m, gateway, l, route, p) == ATTACH_YES)
			return true;
	}
	return false;
}

const struct doc *gwapi_route(const struct world *w, const struct model *m, const struct doc *gateway,
			      const struct m_listener *l)
{
	for (index_each(&w->route_by, index_hash2(gateway->meta.ns, gateway->meta.name), at, i))
		if (gwapi_attached(m, gateway, l, w->routes[i]))
			return w->routes[i];
	return NULL;
}

/* Those of all HTTP listeners of its port, by age, each once. */
static void add_routes(struct world *w, const struct model *m, struct host *h)
{
	const struct m_gateway *g = h->doc->gw;

	h->rules = arena_array(&w->arena, w->route_nr, sizeof(*h->rules));
	for (uint32_t i = 0; i < w->route_nr; i++) {
		bool attached = false;

		for (uint32_t k = 0; k < g->listener_nr && !attached; k++)
			attached = g->listeners[k].http && g->listeners[k].port == h->ports->number &&
				   gwapi_attached(m, h->doc, &g->listeners[k], w->routes[i]);
		if (attached)
			h->rules[h->rule_nr++] = w->routes[i];
	}
}

/* Another HTTP listener before this one has its port. */
static bool has_host(const struct m_gateway *g, const struct m_listener *l)
{
	for (const struct m_listener *x = g->listeners; x < l; x++)
		if (x->http && l->http && x->port == l->port)
			return true;
	return false;
}

static void add_listener(struct world *w, const struct model *m, const struct doc *doc, const struct m_listener *l)
{
	static const struct strs everybody;
	const struct doc *route = gwapi_route(w, m, doc, l);
	struct host *h;

	if (has_host(doc->gw, l) || (!route && !l->http))
		return;
	h = &w->hosts[w->host_nr++];
	*h = (struct host){ .kind = HOST_GATEWAY,
			    .ns = doc->meta.ns,
			    .doc = doc,
			    .export_to = &everybody,
			    .port_nr = 1,
			    .client_ns = doc->meta.ns };
	/* No listener of a server of Istio's has such a name, whose last part is a number behind "gateway". */
	h->name = arena_printf(&w->arena, "listener:%.*s:%.*s", STR_ARG(doc->meta.name), STR_ARG(l->name));
	h->ports = arena_new(&w->arena, struct port);
	*h->ports = (struct port){ .name = l->name,
				   .number = l->port,
				   .proto = l->proto,
				   .class = l->http			 ? PORT_HTTP
					    : l->proto == MESH_PROTO_UDP ? PORT_UDP
									 : PORT_TCP };
	if (l->http) {
		add_routes(w, m, h);
	} else {
		h->rules = arena_array(&w->arena, 1, sizeof(*h->rules));
		h->rules[h->rule_nr++] = route;
	}
	for (uint32_t i = 0; i < doc->gw->addr_nr; i++)
		front_add(w, h, &(struct front){ .net = { doc->gw->addrs[i], 128 }, .number = l->port });
}

uint32_t gwapi_count(const struct model *m)
{
	uint32_t nr, total = 0;
	struct doc *const *docs = model_list(m, KIND_GATEWAY, &nr);

	for (uint32_t i = 0; i < nr; i++)
		total += docs[i]->gw->listener_nr;
	return total;
}

void gwapi_add(struct world *w, const struct model *m)
{
	uint32_t nr;
	struct doc *const *docs = model_list(m, KIND_GATEWAY, &nr);

	for (uint32_t i = 0; i < nr; i++)
		for (uint32_t k = 0; k < docs[i]->gw->listener_nr && gwapi_ours(m, docs[i]); k++)
			add_listener(w, m, docs[i], &docs[i]->gw->listeners[k]);
}
