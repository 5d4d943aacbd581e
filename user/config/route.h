/* SPDX-License-Identifier: BSD-2-Clause */
/* Choice of a rule, see route.c; private to resolving. */
#ifndef CONFIG_ROUTE_H
#define CONFIG_ROUTE_H

#include "config/resolve.h"

struct chosen {
	const struct doc *doc;	   /* VirtualService or route */
	const struct m_rule *rule; /* of a VirtualService; NULL: a route */
	uint32_t route_rule;	   /* of a route: which of its rules */
	bool http;		   /* from http: or an HTTPRoute */
	bool tls;		   /* from tls: */
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

/* The document of a rule, which is another than that of its VirtualService where it is a delegate's; path and place in it. */
const struct doc *rule_doc(const struct chosen *c);
struct str rule_field(struct build *b, const struct chosen *c);
struct place rule_place(const struct chosen *c);
/*
 * Routes each request, or connection of TLS, by the rules that were chosen, where one of them needs its bytes: sets row->http and row->fail_open, *c is the first
 * of them, and *ret_open the first that has no condition (doc NULL: there is none). False: the destinations of *c are all there is.
 */
bool http_table_find(struct build *b, struct making *mk, struct view_row *row, struct chosen *c,
		     const struct port *port, const struct who *who, struct chosen *ret_open);
/* The same for a row whose destinations, which are chosen already, have limits of requests or hashes of what is in them, or policies that
 * ask something of requests. flags: enum mesh_http_table_flag. */
void http_table_limits(struct build *b, struct making *mk, struct view_row *row, const struct port *port,
		       uint16_t flags);
/* A route of this kind that is for this port of this Service. */
bool route_is(const struct doc *doc, enum route_kind kind, const struct host *h, uint16_t port);

/* The conditions of a match that need no bytes, at a server of an Istio Gateway with this port. */
bool gateway_match(const struct host *h, const struct doc *vs, const struct m_l4_match *m, uint16_t port);
/* The names that a VirtualService and the gateway's servers of protocol HTTP at its port have in common, in lower case; their number.
 * Texts are in `a`. */
uint32_t gateway_names(const struct world *w, struct arena *a, const struct host *h, const struct doc *vs,
		       struct str *ret, uint32_t max);

/* The names that the gateway's servers of TLS at its port and this one, in lower case, have in common; their number. Texts are in `a`. */
uint32_t gateway_tls_names(struct arena *a, const struct host *h, const struct doc *vs, struct str name,
			   struct str *ret, uint32_t max);
/* Some server of this protocol has one of the VirtualService's hosts. */
bool gateway_takes(const struct world *w, const struct host *h, const struct doc *vs, enum port_class class);

/* What all requests get at a server of an Istio Gateway that has the host's port and redirects; NULL: no such server. */
const struct m_rule *gateway_redirect(const struct host *h);
/* The same of the server that has a name, and the names of all such servers; their number. */
const struct m_rule *gateway_redirect_of(struct arena *a, const struct host *h, struct str name);
uint32_t gateway_redirect_names(struct arena *a, const struct host *h, struct str *ret, uint32_t max);

/* ---- Gateways of the Gateway API (gwapi.c) ---- */

/* Its class is of this mesh. */
bool gwapi_ours(const struct model *m, const struct doc *gateway);
/* Whether a reference of a route to this Gateway is about a listener, and whether the listener takes it. */
enum attachment { ATTACH_YES, ATTACH_ELSEWHERE, ATTACH_KIND, ATTACH_NAMESPACE };
enum attachment gwapi_attaches(const struct model *m, const struct doc *gateway, const struct m_listener *l,
			       const struct doc *route, const struct m_parent_ref *p);
bool gwapi_attached(const struct model *m, const struct doc *gateway, const struct m_listener *l,
		    const struct doc *route);
/* The names that two names with wildcards have in common; false: none. */
bool http_names_meet(struct str a, struct str b, struct str *ret);
/* An HTTPRoute has a host name in common with a listener that it attaches to. */
bool http_route_meets(const struct model *m, const struct doc *gateway, const struct doc *route);
/* The route that has a listener, NULL: none does. */
const struct doc *gwapi_route(const struct world *w, const struct model *m, const struct doc *gateway,
			      const struct m_listener *l);
/* Adds the listeners that have a route, at most gwapi_count() of them. */
uint32_t gwapi_count(const struct model *m);
void gwapi_add(struct world *w, const struct model *m);

#endif
