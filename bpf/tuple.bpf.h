/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Pure arithmetic on struct mesh_tuple: its key in mesh_nats, and which way a packet goes. */
#ifndef BPF_TUPLE_H
#define BPF_TUPLE_H

#include "decide.bpf.h"

static __always_inline int end_less(const struct mesh_addr *a, __be16 a_port, const struct mesh_addr *b, __be16 b_port)
{
	int i;

	for (i = 3; i >= 0; i--)
		if (a->w_be[i] != b->w_be[i])
			return a->w_be[i] < b->w_be[i];
	return a_port < b_port;
}

/* The key of mesh_nats for a packet or view, the same in both directions. */
static __always_inline void tuple_key(const struct mesh_tuple *t, struct mesh_tuple *ret)
{
	__builtin_memset(ret, 0, sizeof(*ret));
	if (end_less(&t->client, t->client_port_be, &t->server, t->server_port_be)) {
		ret->client = t->client;
		ret->server = t->server;
		ret->client_port_be = t->client_port_be;
		ret->server_port_be = t->server_port_be;
	} else {
		ret->client = t->server;
		ret->server = t->client;
		ret->client_port_be = t->server_port_be;
		ret->server_port_be = t->client_port_be;
	}
	ret->proto = t->proto;
}

static __always_inline int tuple_from_client(const struct mesh_tuple *t, const struct mesh_tuple *view)
{
	return t->client_port_be == view->client_port_be && t->server_port_be == view->server_port_be &&
	       mesh_addr_eq(&t->client, &view->client) && mesh_addr_eq(&t->server, &view->server);
}

static __always_inline int tuple_from_server(const struct mesh_tuple *t, const struct mesh_tuple *view)
{
	return t->client_port_be == view->server_port_be && t->server_port_be == view->client_port_be &&
	       mesh_addr_eq(&t->client, &view->server) && mesh_addr_eq(&t->server, &view->client);
}

#endif
