/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files share that make tables of rules for requests. */
#ifndef CONFIG_HTTP_LOCAL_H
#define CONFIG_HTTP_LOCAL_H

#include "config/route.h"

/* Where a table is made. */
struct table_of {
	struct build *b;
	struct making *mk;
	const struct view_row *row;
	const struct doc *doc; /* of the VirtualService at hand */
	const struct who *who;
	uint32_t pass;	     /* destinations that keep the dialled address */
	struct chosen first; /* the first rule; doc NULL: there is none */
	struct chosen open;  /* the first without a condition; the same */
};

/* http_routes.c: the HTTPRoutes of a Service, `c` the one that comes first. False: all that t->open says is where to. */
bool http_routes_service(struct table_of *t, const struct chosen *c, const struct port *port, bool per_request,
			 struct h_table *table);
/* Those of the HTTP listeners of a Gateway that have one port. */
void http_routes_listener(struct table_of *t, struct h_table *table);

/* http_table.c: what needs no bytes of a match of t->doc holds here. */
bool table_match(const struct table_of *t, const struct m_l4_match *m, const struct port *port);
/* More hosts of one VirtualService at one gateway than this are left out. */
#define HOSTS_MAX 1024

/* tls_table.c: the names that tls: rules of the VirtualServices of a host have at a port. */
void tls_names(struct table_of *t, const struct port *port, struct h_table *table);

/* For qsort: full names first, then the longest. */
int http_hosts_by_name(const void *a, const void *b);

#endif
