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
/* Order of a rule among those of a host, 0 .. RULE_RANK_MAX, then by age; -1: this client does not see it. */
#define RULE_RANK_MAX 3
int rule_rank(const struct world *w, const struct doc *doc, const struct host *h, const struct who *who);
/* A route's parents name this port of this Service. */
bool route_takes(const struct doc *doc, const struct host *h, uint16_t port);
/* A VirtualService names this gateway, and one of its hosts is one of the gateway's. */
bool gateway_bound(const struct world *w, const struct host *h, const struct doc *vs);

#endif
