/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Access log in Istio's default text format, or with the keys of its JSON one. Lines wait in a buffer of the worker's own until it is full or
 * flushed; nothing here waits for whoever reads the log: what finds no room is dropped and counted.
 */
#ifndef L7_ACCESS_LOG_H
#define L7_ACCESS_LOG_H

#include <stdatomic.h>

#include "l7/stats.h"
#include "mesh_l7.h"

/* Where the logs of all workers go. */
struct access_sink {
	_Atomic int fd;	    /* -1: nowhere. Stays the same from the first log on: a new file is put in its place */
	_Atomic int format; /* enum mesh_l7_log */
};

/* Texts are borrowed, the empty one is printed as "-". */
struct access_entry {
	uint64_t start_ns; /* CLOCK_REALTIME */
	struct str method, path, authority, forwarded_for, user_agent, request_id;
	bool tls;			     /* no request: a connection of TLS */
	struct str server_name;		     /* that it asks for */
	uint8_t minor;			     /* HTTP/1.minor */
	uint16_t status;		     /* 0: none was sent */
	uint32_t flags;			     /* enum mesh_flag */
	struct str details;		     /* "via_upstream", "route_not_found" ... */
	struct str failure;		     /* why no connection to the server came about */
	uint64_t bytes_received, bytes_sent; /* of the bodies */
	uint64_t duration_ms;
	int64_t upstream_ms; /* until the answer's head; -1: none came */
	struct str cluster, route;
	struct mesh_addr server, server_local, dialled, client;
	uint16_t server_port, server_local_port, dialled_port, client_port; /* host order; 0: unknown */
};

struct access_log;

/* `counts` is the worker's. Both are borrowed. */
struct access_log *access_log_new(struct access_sink *sink, struct stats *counts);
void access_log_free(struct access_log *l); /* flushes */
/* Somebody wants entries: else there is no need to make any. */
static inline bool access_log_wanted(const struct access_sink *sink)
{
	return atomic_load_explicit(&sink->fd, memory_order_relaxed) >= 0;
}
void access_log(struct access_log *l, const struct access_entry *e);
/* To be called from time to time: once a second while something waits. True: something is left. */
bool access_log_flush(struct access_log *l);

#endif
