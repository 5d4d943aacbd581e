/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The workers of meshl7: threads, each with an epoll, a listener and pools of its own. The main thread starts them, hands them rules and lets
 * them drain; nothing it calls here waits for them but workers_free().
 */
#ifndef L7_WORKER_H
#define L7_WORKER_H

#include "l7/access_log.h"
#include "l7/balance.h"

/* What all have in common; outlives them. */
struct worker_shared {
	struct lb *lb;
	struct mesh_l7_stats *stats; /* NULL: nobody counts */
	struct access_sink log;
	bool bind_client; /* sockets to endpoints get the client's address */
	bool past_tcp;	  /* bytes may come past TCP */
	/* Waits in milliseconds; 0: 60 s, 300 s, 1 h */
	uint32_t head_ms; /* from the first byte of a request to the end of its head */
	uint32_t body_ms; /* for the next bytes of a body, or for room for them */
	uint32_t idle_ms; /* between requests, in tunnels, and for answers where the route has no timeout */
	/* An endpoint was ejected. Called by any worker, must not wait. NULL: nobody wants to know. */
	void (*ejected)(void *data, struct str cluster, const struct lb_host *host, uint64_t ms);
	void *data;
};

struct workers;

/*
 * Starts one worker for each listener (non-blocking, becomes the worker's), with one reference to `rules` for each. The process ignores SIGPIPE.
 * 0; or -errno and none runs.
 */
int workers_start(const int *listeners, uint32_t nr, struct worker_shared *shared, struct http_rules *rules,
		  struct workers **ret);

/* These hold for every request that begins after this returned: a worker looks for new rules before it reads a head. The caller keeps its
 * reference. */
void workers_rules(struct workers *w, struct http_rules *rules);

/*
 * Nothing is accepted any more but what has been waiting in the listeners; connections end with their next answer, idle ones at once; all
 * ends after `ms`. The workers end then, one after the other. Again: the shorter of both times.
 */
void workers_drain(struct workers *w, uint32_t ms);

/* An fd that polls readable when all workers have ended after a drain. */
int workers_ended_fd(const struct workers *w);

/* Ends them at once, waits for that, and frees everything. NULL is fine. */
void workers_free(struct workers *w);

#endif
