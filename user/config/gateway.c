/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Servers of Istio Gateways as hosts: TCP, HTTP, and TLS that is passed on. There is no gateway process: what a client dials at a gateway's address is balanced at the
 * client, or where it enters the node, to where the gateway would have sent it. One host a gateway and server port; its addresses are
 * those of the Services in front of the gateway's pods that have this port (cluster IPs, external addresses, the node port at every
 * address of the node), and the pods' own; when there is neither, the nodes'. Rule selection as in pilot's gateway listeners: the
 * first VirtualService by age whose hosts meet the server's and whose rule matches port and gateway.
 */
#include "config/route.h"

#include "config/kind_http.h"
#include "config/validate.h"

static bool gateway_has(const struct host *h, const struct doc *vs, const struct strs *gateways)
{
	for (uint32_t i = 0; i < gateways->nr; i++) {
		struct str s = gateways->v[i];
		int slash = str_find(s, '/');
		struct str ns = slash < 0 ? vs->meta.ns : str_sub(s, 0, (uint32_t)slash);

		if (str_eq(ns, h->ns) &&
		    str_eq(slash < 0 ? s : str_sub(s, (uint32_t)slash + 1, s.len), h->doc->meta.name))
			return true;
	}
	return false;
}

/* The name of a host of a server, without the namespace before it. */
static void server_dns(struct str s, struct str *ret)
{
	int slash = str_find(s, '/');

	*ret = slash < 0 ? s : str_sub(s, (uint32_t)slash + 1, s.len);
}

/* A host of a server ("dns", "namespace/dns", "./dns"), as far as it is for this VirtualService. */
static bool server_host(const struct host *h, struct str s, const struct doc *vs, struct str *ret_dns)
{
	int slash = str_find(s, '/');
	struct str ns = slash < 0 ? STR("*") : str_sub(s, 0, (uint32_t)slash);

	server_dns(s, ret_dns);
	return str_is(ns, "*") || str_eq(ns, vs->meta.ns) || (str_is(ns, ".") && str_eq(h->ns, vs->meta.ns));
}

static bool server_takes(const struct world *w, const struct host *h, const struct m_gateway_server *server,
			 const struct doc *vs)
{
	struct arena a = { 0 };
	bool found = false;
	struct str dns;

	for (uint32_t i = 0; i < server->hosts.nr && !found; i++) {
		if (!server_host(h, server->hosts.v[i], vs, &dns))
			continue;
		for (uint32_t k = 0; k < vs->vs->hosts.nr && !found; k++)
			found = hosts_overlap(dns, host_full(&a, w, vs->vs->hosts.v[k], vs->meta.ns));
	}
	arena_release(&a);
	return found;
}

static uint32_t name_add(struct str *v, uint32_t nr, uint32_t max, struct str s)
{
	for (uint32_t i = 0; i < nr; i++)
		if (str_eq(v[i], s))
			return nr;
	if (nr < max)
		v[nr++] = s;
	return nr;
}

static enum port_class server_class(const struct m_gateway_server *s)
{
	return s->http ? PORT_HTTP : s->tls ? PORT_TLS : PORT_TCP;
}

/* A server that has the host's port and redirects all its requests. */
static bool redirects(const struct host *h, const struct m_gateway_server *s)
{
	return s->redirect && s->http && s->port == h->ports->number;
}

const struct m_rule *gateway_redirect(const struct host *h)
{
	for (uint32_t i = 0; h->doc->kind == KIND_ISTIO_GATEWAY && i < h->doc->gateway->server_nr; i++)
		if (redirects(h, &h->doc->gateway->servers[i]))
			return h->doc->gateway->servers[i].redirect;
	return NULL;
}

const struct m_rule *gateway_redirect_of(struct arena *a, const struct host *h, struct str name)
{
	const struct m_istio_gateway *g = h->doc->gateway;
	struct str dns, both;

	for (uint32_t s = 0; s < g->server_nr; s++)
		for (uint32_t i = 0; i < g->servers[s].hosts.nr && redirects(h, &g->servers[s]); i++) {
			server_dns(g->servers[s].hosts.v[i], &dns);
			if (http_names_meet(http_lower(a, dns), name, &both) && str_eq(both, name))
				return g->servers[s].redirect;
		}
	return NULL;
}

uint32_t gateway_redirect_names(struct arena *a, const struct host *h, struct str *ret, uint32_t max)
{
	const struct m_istio_gateway *g = h->doc->gateway;
	struct str dns;
	uint32_t nr = 0;

	for (uint32_t s = 0; s < g->server_nr; s++)
		for (uint32_t i = 0; i < g->servers[s].hosts.nr && redirects(h, &g->servers[s]); i++) {
			server_dns(g->servers[s].hosts.v[i], &dns);
			nr = name_add(ret, nr, max, http_lower(a, dns));
		}
	return nr;
}

uint32_t gateway_names(const struct world *w, struct arena *a, const struct host *h, const struct doc *vs,
		       struct str *ret, uint32_t max)
{
	const struct m_istio_gateway *g = h->doc->gateway;
	struct str dns, name;
	uint32_t nr = 0;

	for (uint32_t s = 0; s < g->server_nr; s++) {
		const struct m_gateway_server *server = &g->servers[s];

		for (uint32_t i = 0; i < server->hosts.nr && server->http && server->port == h->ports->number; i++) {
			if (!server_host(h, server->hosts.v[i], vs, &dns))
				continue;
			for (uint32_t k = 0; k < vs->vs->hosts.nr; k++)
				if (http_names_meet(dns, host_full(a, w, vs->vs->hosts.v[k], vs->meta.ns), &name))
					nr = name_add(ret, nr, max, http_lower(a, name));
		}
	}
	return nr;
}

uint32_t gateway_tls_names(struct arena *a, const struct host *h, const struct doc *vs, struct str name,
			   struct str *ret, uint32_t max)
{
	const struct m_istio_gateway *g = h->doc->gateway;
	struct str dns, both;
	uint32_t nr = 0;

	for (uint32_t s = 0; s < g->server_nr; s++) {
		const struct m_gateway_server *server = &g->servers[s];

		for (uint32_t i = 0; i < server->hosts.nr && server->tls && server->port == h->ports->number; i++)
			if (server_host(h, server->hosts.v[i], vs, &dns) &&
			    http_names_meet(http_lower(a, dns), name, &both))
				nr = name_add(ret, nr, max, both);
	}
	return nr;
}

bool gateway_takes(const struct world *w, const struct host *h, const struct doc *vs, enum port_class class)
{
	const struct m_istio_gateway *g = h->doc->gateway;

	for (uint32_t i = 0; i < g->server_nr; i++)
		if (server_class(&g->servers[i]) == class && server_takes(w, h, &g->servers[i], vs))
			return true;
	return false;
}

/* Gateways look at port and gateway only: source labels and subnets are of clients inside the mesh. */
bool gateway_match(const struct host *h, const struct doc *vs, const struct m_l4_match *m, uint16_t port)
{
	return (!m->port || m->port == port) && (!m->gateways.nr || gateway_has(h, vs, &m->gateways));
}

static const struct m_rule *bound_rule(const struct host *h, const struct doc *vs, uint16_t port)
{
	for (uint32_t i = 0; i < vs->vs->rule_nr; i++) {
		const struct m_rule *r = &vs->vs->rules[i];

		if (rule_class(r) != h->ports->class)
			continue;
		if (!r->match_nr)
			return r;
		for (uint32_t k = 0; k < r->match_nr; k++)
			if (gateway_match(h, vs, &r->matches[k], port))
				return r;
	}
	return NULL;
}

bool gateway_bound(const struct world *w, const struct host *h, const struct doc *vs)
{
	bool takes = false;

	for (uint32_t i = 0; i < h->doc->gateway->server_nr; i++)
		takes |= server_takes(w, h, &h->doc->gateway->servers[i], vs);
	return takes && gateway_has(h, vs, &vs->vs->gateways);
}

bool gateway_serves(const struct world *w, const struct host *h, struct chosen *ret)
{
	const struct port *port = &h->ports[0];
	const struct who who = { .ns = h->client_ns };

	*ret = (struct chosen){ 0 };
	if (h->doc->kind == KIND_GATEWAY) {
		if (!h->rule_nr)
			return false;
		ret->doc = h->rules[0];
		ret->http = port->class == PORT_HTTP;
		return true;
	}
	ret->http = port->class == PORT_HTTP;
	ret->tls = port->class == PORT_TLS;
	ret->rule = gateway_redirect(h);
	ret->doc = h->doc;
	if (ret->rule)
		return true;
	for (int order = 0; order <= RULE_RANK_MAX; order++) {
		for (uint32_t i = 0; i < h->rule_nr; i++) {
			const struct doc *vs = h->rules[i];
			bool takes = false;

			if (rule_rank(w, vs, h, &who) != order)
				continue;
			for (uint32_t k = 0; k < h->doc->gateway->server_nr; k++) {
				const struct m_gateway_server *s = &h->doc->gateway->servers[k];

				takes |= s->port == port->number && server_class(s) == port->class &&
					 server_takes(w, h, s, vs);
			}
			ret->doc = vs;
			ret->rule = takes ? bound_rule(h, vs, port->number) : NULL;
			if (ret->rule)
				return true;
		}
	}
	return false;
}

/* ---- hosts ---- */

static void add_addrs(struct world *w, struct host *h, const struct addr *addrs, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		front_add(w, h, &(struct front){ .net = { addrs[i], 128 }, .number = h->ports[0].number });
}

/* Wherever the Service is dialled at this port of the gateway's, from inside and outside. */
static void add_fronts(struct world *w, struct host *h, const struct host *service)
{
	const struct port *port = host_port(service, h->ports[0].number, false);

	for (uint32_t i = 0; i < service->front_nr && port; i++) {
		struct front f = service->fronts[i];

		if (front_port(service, &f) != port)
			continue;
		f.port = 0;
		f.outer = false;
		front_add(w, h, &f);
	}
}

static bool is_gateway_pod(const struct workload *wl, const struct kvs *selector)
{
	const struct doc *d = wl->doc;

	return kvs_match(selector, wl->labels) && !d->pod->finished && !d->meta.deleting && d->pod->ip_nr;
}

static bool fronts(const struct world *w, const struct host *service, const struct kvs *selector, const uint32_t *pods,
		   uint32_t pod_nr)
{
	const struct kvs *own = &service->doc->service->selector;

	if (!own->nr)
		return false;
	if (kvs_match(selector, own))
		return true;
	for (uint32_t i = 0; i < pod_nr; i++) {
		const struct workload *wl = &w->workloads[pods[i]];

		if (str_eq(wl->doc->meta.ns, service->ns) && kvs_match(own, wl->labels))
			return true;
	}
	return false;
}

static void add_addresses(struct world *w, const struct model *m, struct host *h, const struct kvs *selector)
{
	uint32_t *pods = arena_array(&w->arena, w->pod_nr, sizeof(*pods));
	uint32_t pod_nr = 0, node_nr;
	struct doc *const *nodes;
	bool any = false;

	for (uint32_t i = 0; i < w->pod_nr && selector->nr; i++)
		if (is_gateway_pod(&w->workloads[i], selector))
			pods[pod_nr++] = i;
	for (uint32_t i = 0; i < w->gateway_at && selector->nr; i++) {
		const struct host *s = &w->hosts[i];

		if (s->kind != HOST_SERVICE || !fronts(w, s, selector, pods, pod_nr))
			continue;
		any = true;
		if (!h->client_ns.len)
			h->client_ns = s->ns;
		add_fronts(w, h, s);
	}
	for (uint32_t i = 0; i < pod_nr; i++) {
		const struct doc *d = w->workloads[pods[i]].doc;

		if (!h->client_ns.len)
			h->client_ns = d->meta.ns;
		add_addrs(w, h, d->pod->ips, d->pod->ip_nr);
	}
	if (!h->client_ns.len)
		h->client_ns = h->ns;
	if (any || pod_nr)
		return;
	nodes = model_list(m, KIND_NODE, &node_nr);
	for (uint32_t i = 0; i < node_nr; i++)
		add_addrs(w, h, nodes[i]->node->ips, nodes[i]->node->ip_nr);
}

static void add_gateway(struct world *w, const struct model *m, const struct doc *doc,
			const struct m_gateway_server *server)
{
	static const struct strs everybody;
	struct host *h = &w->hosts[w->host_nr++];

	*h = (struct host){
		.kind = HOST_GATEWAY, .ns = doc->meta.ns, .doc = doc, .export_to = &everybody, .port_nr = 1
	};
	h->name = arena_printf(&w->arena, "gateway:%.*s:%u", STR_ARG(doc->meta.name), (unsigned int)server->port);
	h->ports = arena_new(&w->arena, struct port);
	*h->ports = (struct port){ .name = server->port_name,
				   .number = (uint16_t)server->port,
				   .proto = MESH_PROTO_TCP,
				   .class = server_class(server) };
	h->rules = arena_array(&w->arena, w->vs_nr, sizeof(struct doc *));
	for (uint32_t i = 0; i < w->vs_nr; i++)
		if (gateway_bound(w, h, w->vss[i]))
			h->rules[h->rule_nr++] = w->vss[i];
	if (h->rule_nr || gateway_redirect(h))
		add_addresses(w, m, h, &doc->gateway->selector);
}

uint32_t gateways_count(const struct model *m)
{
	uint32_t nr, total = gwapi_count(m);
	struct doc *const *docs = model_list(m, KIND_ISTIO_GATEWAY, &nr);

	for (uint32_t i = 0; i < nr; i++)
		total += docs[i]->gateway->server_nr;
	return total;
}

void gateways_add(struct world *w, const struct model *m)
{
	uint32_t nr;
	struct doc *const *docs = model_list(m, KIND_ISTIO_GATEWAY, &nr);

	for (uint32_t i = 0; i < nr; i++) {
		const struct m_istio_gateway *g = docs[i]->gateway;

		for (uint32_t k = 0; k < g->server_nr; k++) {
			bool first = true;

			for (uint32_t n = 0; n < k; n++)
				first &= g->servers[n].port != g->servers[k].port;
			if (first)
				add_gateway(w, m, docs[i], &g->servers[k]);
		}
	}
	gwapi_add(w, m);
}
