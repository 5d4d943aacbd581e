/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which rule a client meets at one address and port of a host. Only chooses; view.c makes destinations of it.
 *
 * Order, as Istio's sidecars have it: VirtualServices that only the client's namespace sees, then those exported to it, then
 * Gateway API routes of the client's own namespace, then the rest by age. From there on protocols differ:
 * - tcp: rules of all VirtualServices of a host form one list, whose first match wins, wildcard hosts included.
 * - http: the first VirtualService with a rule that can match decides alone; one with the exact host hides all wildcard ones,
 *   of which the most specific decides. When no rule of it can match this port and client, the service's default holds.
 * - tls: rules of all VirtualServices of a host form one list too, in which the most specific name wins (tls_table.c); they are for ports
 *   of TLS, where tcp: and http: rules have nothing to say.
 * - A route attaches to a Service, and has no conditions left here, so the oldest wins its ports. HTTPRoute is preferred to
 *   TCPRoute where both attach, the more specific kind first.
 * - A port whose protocol is not declared takes both kinds; tcp: rules are preferred, because they mean every connection, and
 *   http: rules only those that turn out to be HTTP.
 */
#include "config/route.h"

#include "config/validate.h"

static bool has(const struct strs *list, const char *z)
{
	for (uint32_t i = 0; i < list->nr; i++)
		if (str_is(list->v[i], z))
			return true;
	return false;
}

int rule_rank(const struct world *w, const struct doc *doc, const struct host *h, const struct who *who)
{
	if (!sidecar_imports(w, who, h, doc))
		return -1;
	if (doc->kind == KIND_ROUTE) {
		if (who->ns.len && str_eq(doc->meta.ns, who->ns))
			return 2;
		return str_eq(doc->meta.ns, h->ns) ? 3 : -1;
	}
	if (exported_to_all(&doc->vs->export_to))
		return 3;
	if (!exported(&doc->vs->export_to, doc->meta.ns, who->ns))
		return -1;
	return str_eq(doc->meta.ns, who->ns) ? 0 : 1;
}

bool match_l4(const struct m_l4_match *m, const struct cidr *net, uint16_t port, const struct who *who)
{
	static const struct kvs none;
	bool inside = !m->subnet_nr;

	for (uint32_t i = 0; i < m->subnet_nr; i++)
		inside |= m->subnets[i].prefix_len <= net->prefix_len &&
			  addr_in(&net->addr, &m->subnets[i].addr, m->subnets[i].prefix_len);
	return inside && (!m->port || m->port == port) && (!m->gateways.nr || has(&m->gateways, "mesh")) &&
	       (!m->source_ns.len || str_eq(m->source_ns, who->ns)) &&
	       kvs_match(&m->source_labels, who->labels ? who->labels : &none);
}

static const struct m_rule *vs_rule(const struct m_virtual_service *vs, enum port_class class, const struct cidr *net,
				    uint16_t port, const struct who *who)
{
	for (uint32_t i = 0; i < vs->rule_nr; i++) {
		const struct m_rule *r = &vs->rules[i];

		if (rule_class(r) != class)
			continue;
		if (!r->match_nr)
			return r;
		for (uint32_t k = 0; k < r->match_nr; k++)
			if (match_l4(&r->matches[k], net, port, who))
				return r;
	}
	return NULL;
}

bool route_takes(const struct doc *doc, const struct host *h, uint16_t port)
{
	for (uint32_t i = 0; i < doc->route->parent_nr; i++) {
		const struct m_parent_ref *p = &doc->route->parents[i];

		if (!p->gateway && str_eq(p->ns, h->ns) && str_eq(p->name, h->doc->meta.name) &&
		    (!p->port || p->port == port))
			return true;
	}
	return false;
}

bool route_is(const struct doc *doc, enum route_kind kind, const struct host *h, uint16_t port)
{
	return doc->kind == KIND_ROUTE && doc->route->kind == kind && doc->route->rule_nr && route_takes(doc, h, port);
}

/* Length of the host of a VirtualService that covers `host`; UINT32_MAX: exact, 0: none. */
static uint32_t specificity(const struct world *w, const struct doc *doc, const struct host *h)
{
	uint32_t best = 0;

	for (uint32_t i = 0; i < doc->vs->hosts.nr; i++) {
		struct str s = doc->vs->hosts.v[i];

		if (!host_is_wild(s)) {
			if (vs_names(w, doc, s, h->name))
				return UINT32_MAX;
		} else if (hosts_overlap(s, h->name) && s.len <= h->name.len + 1 && s.len > best) {
			best = s.len;
		}
	}
	return best;
}

static bool tcp_rule(const struct world *w, const struct host *h, const struct cidr *net, const struct port *port,
		     const struct who *who, bool routes_only, struct chosen *ret)
{
	for (int order = 0; order <= 3; order++) {
		for (uint32_t i = 0; i < h->rule_nr; i++) {
			const struct doc *doc = h->rules[i];

			if (rule_rank(w, doc, h, who) != order)
				continue;
			*ret = (struct chosen){ .doc = doc };
			if (route_is(doc, ROUTE_TCP, h, port->number))
				return true;
			if (doc->kind != KIND_VIRTUAL_SERVICE || routes_only)
				continue;
			ret->rule = vs_rule(doc->vs, PORT_TCP, net, port->number, who);
			if (ret->rule)
				return true;
		}
	}
	return false;
}

/* The first that has a rule. */
static bool tls_rule(const struct world *w, const struct host *h, const struct cidr *net, const struct port *port,
		     const struct who *who, struct chosen *ret)
{
	for (int order = 0; order <= RULE_RANK_MAX; order++) {
		for (uint32_t i = 0; i < h->rule_nr; i++) {
			const struct doc *doc = h->rules[i];

			if (doc->kind != KIND_VIRTUAL_SERVICE || rule_rank(w, doc, h, who) != order)
				continue;
			*ret = (struct chosen){ .doc = doc, .tls = true };
			ret->rule = vs_rule(doc->vs, PORT_TLS, net, port->number, who);
			if (ret->rule)
				return true;
		}
	}
	return false;
}

static bool http_rule(const struct world *w, const struct host *h, const struct cidr *net, const struct port *port,
		      const struct who *who, struct chosen *ret)
{
	uint32_t best = 0;

	for (uint32_t i = 0; i < h->rule_nr; i++) {
		const struct doc *doc = h->rules[i];
		uint32_t s;

		if (rule_rank(w, doc, h, who) < 0)
			continue;
		s = doc->kind == KIND_VIRTUAL_SERVICE		 ? specificity(w, doc, h)
		    : route_is(doc, ROUTE_HTTP, h, port->number) ? UINT32_MAX
								 : 0;
		if (s > best)
			best = s;
	}
	for (int order = 0; order <= 3 && best; order++) {
		for (uint32_t i = 0; i < h->rule_nr; i++) {
			const struct doc *doc = h->rules[i];

			if (rule_rank(w, doc, h, who) != order)
				continue;
			*ret = (struct chosen){ .doc = doc, .http = true };
			if (route_is(doc, ROUTE_HTTP, h, port->number))
				return true;
			if (doc->kind != KIND_VIRTUAL_SERVICE || specificity(w, doc, h) != best)
				continue;
			ret->rule = vs_rule(doc->vs, PORT_HTTP, net, port->number, who);
			if (ret->rule)
				return true;
			if (best != UINT32_MAX)
				return false;
		}
	}
	return false;
}

static bool udp_rule(const struct world *w, const struct host *h, const struct port *port, const struct who *who,
		     struct chosen *ret)
{
	for (int order = 2; order <= 3; order++) {
		for (uint32_t i = 0; i < h->rule_nr; i++) {
			if (route_is(h->rules[i], ROUTE_UDP, h, port->number) &&
			    rule_rank(w, h->rules[i], h, who) == order) {
				*ret = (struct chosen){ .doc = h->rules[i] };
				return true;
			}
		}
	}
	return false;
}

bool rule_find(const struct world *w, const struct host *h, const struct cidr *net, const struct port *port,
	       const struct who *who, struct chosen *ret)
{
	struct chosen http;
	bool tcp;

	*ret = (struct chosen){ 0 };
	if (h->kind == HOST_GATEWAY)
		return gateway_serves(w, h, ret);
	switch (port->class) {
	case PORT_UDP:
		return udp_rule(w, h, port, who, ret);
	case PORT_HTTP:
		return http_rule(w, h, net, port, who, ret) || tcp_rule(w, h, net, port, who, true, ret);
	case PORT_TCP:
		return tcp_rule(w, h, net, port, who, false, ret);
	case PORT_TLS:
		return tls_rule(w, h, net, port, who, ret) || tcp_rule(w, h, net, port, who, true, ret);
	default:
		break;
	}
	tcp = tcp_rule(w, h, net, port, who, false, ret);
	if (!http_rule(w, h, net, port, who, &http))
		return tcp;
	if (!tcp || http.doc->kind == KIND_ROUTE) {
		*ret = http;
		return true;
	}
	ret->hides_http = true;
	return true;
}
