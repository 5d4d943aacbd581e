/* SPDX-License-Identifier: BSD-2-Clause */
/* Netfilter's connection tracking in the calling thread's network namespace. */
#ifndef PLANE_CONNTRACK_H
#define PLANE_CONNTRACK_H

#include "base/addr.h"

/* A TCP connection as its client began it, not translated. */
struct conntrack_tuple {
	struct addr client, server;
	uint16_t client_port_be, server_port_be;
};

int conntrack_open(void); /* a socket for the below, or -errno */
/* From now on the connection's entry takes every packet for a valid one. 0; -ENOENT: there is no entry; or -errno. */
int conntrack_loosen(int sock, const struct conntrack_tuple *t);
/* Seconds that the entry of an established connection is kept without packets; 0: nothing is tracked here. */
uint32_t conntrack_timeout_s(void);

#endif
