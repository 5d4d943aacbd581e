/* SPDX-License-Identifier: BSD-2-Clause */
/* Choice of a rule, see route.c; private to resolving. */
#ifndef CONFIG_ROUTE_H
#define CONFIG_ROUTE_H

#include "config/resolve.h"

struct chosen {
	const struct doc *doc;	   /* VirtualService or route */
	const struct m_rule *rule; /* of a VirtualService; NULL: a route, whose first rule holds */
	bool http;		   /* from http: or an HTTPRoute */
	bool hides_http;	   /* an http: rule holds for the same port, whose protocol is not declared */
};

/* False: no rule, the host's own default holds. */
bool rule_find(const struct world *w, const struct host *h, const struct cidr *net, const struct port *port,
	       const struct who *who, struct chosen *ret);
/* A rule's conditions hold that need no bytes: for a client that dials this address and port of a Service. */
bool match_l4(const struct m_l4_match *m, const struct cidr *net, uint16_t port, const struct who *who);
/* Order of a rule among those of a host, 0 .. RULE_RANK_MAX, then by age; -1: this client does not see it. */
#define RULE_RANK_MAX 3
int rule_rank(const struct world *w, const struct doc *doc, const struct host *h, const struct who *who);
/* What a VirtualService bound to an Istio Gateway says for its port, or the route of a listener. False: nothing, nobody listens. */
bool gateway_serves(const struct world *w, const struct host *h, struct chosen *ret);
/* A route's parents name this port of this Service. */
bool route_takes(const struct doc *doc, const struct host *h, uint16_t port);
/* A VirtualService names this gateway, and one of its hosts is one of the gateway's. */
bool gateway_bound(const struct world *w, const struct host *h, const struct doc *vs);

/*
 * Routes each request by the rules that were chosen, where one of them needs its bytes: sets row->http, and row->fail_open. False: the
 * destinations of c->rule are all there is.
 */
bool http_table_find(struct build *b, struct making *mk, struct view_row *row, const struct chosen *c,
		     const struct port *port, const struct who *who);
/* The first rule of such a table that has no condition; NULL: there is none. */
const struct m_rule *http_rule_open(const struct doc *vs, const struct view_row *row, const struct port *port,
				    const struct who *who);

/* ---- Gateways of the Gateway API (gwapi.c) ---- */

/* Its class is of this mesh. */
bool gwapi_ours(const struct model *m, const struct doc *gateway);
/* Whether a reference of a route to this Gateway is about a listener, and whether the listener takes it. */
enum attachment { ATTACH_YES, ATTACH_ELSEWHERE, ATTACH_KIND, ATTACH_NAMESPACE };
enum attachment gwapi_attaches(const struct model *m, const struct doc *gateway, const struct m_listener *l,
			       const struct doc *route, const struct m_parent_ref *p);
/* The route that has a listener, NULL: none does. */
const struct doc *gwapi_route(const struct world *w, const struct model *m, const struct doc *gateway,
			      const struct m_listener *l);
/* Adds the listeners that have a route, at most gwapi_count() of them. */
uint32_t gwapi_count(const struct model *m);
void gwapi_add(struct world *w, const struct model *m);

#endif
