/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Endpoints of clusters as all workers of meshl7 see them: active requests, connections, failures, ejection. State is found by the name of
 * the cluster and the endpoint's address, so that it outlives rules. Counters are atomic; nothing here blocks.
 */
#ifndef L7_BALANCE_H
#define L7_BALANCE_H

#include "l7/route.h"

/*
 * One endpoint of one cluster. It and its cluster live as long as rules have it, and while `active` or `conns` is not 0 or something is
 * taken of the cluster; the same struct stands for it whatever rules come. balance.c has it in a struct that says more.
 */
struct lb_host {
	struct mesh_addr addr;
	uint16_t port;
	_Atomic uint32_t active;	   /* requests */
	_Atomic uint32_t conns;		   /* connections open or being opened */
	_Atomic uint64_t ejected_until_ms; /* CLOCK_MONOTONIC; 0: it is not */
};

struct lb_cluster; /* shared by all rules that have a cluster of that name */
struct lb;

struct lb *lb_new(void);
void lb_free(struct lb *lb);
/*
 * The state of every cluster of these rules, found or made; thread-safe. Workers that attach to the same rules share one view, which keeps the
 * rules; each detaches once.
 */
struct lb_view;
struct lb_view *lb_attach(struct lb *lb, const struct http_rules *r);
void lb_detach(struct lb_view *v);
struct lb_cluster *lb_of(const struct lb_view *v, const struct mesh_http_image *image,
			 const struct mesh_http_cluster *c);

/* Endpoints that were tried already for this request. */
#define LB_TRIED_MAX 8
struct lb_tried {
	const struct lb_host *v[LB_TRIED_MAX];
	uint32_t nr;
};

/*
 * Chooses an endpoint of a cluster of the view's rules: by level, then the cluster's kind (P2C over active requests, weighted as Envoy
 * does; random; round robin; ring, Maglev by `hash`, at random without). Ejected ones are passed over unless fewer than
 * min_health_percent are left, and tried ones unless there are no others. NULL: there is none. *ret_ep is in the image.
 */
struct lb_host *lb_pick(const struct lb_view *v, const struct mesh_http_image *image, const struct mesh_http_cluster *c,
			const uint64_t *hash, const struct lb_tried *tried, uint64_t draw, uint64_t now_ms,
			const struct mesh_http_endpoint **ret_ep);

/* Limits of the cluster (connectionPool). false: over, nothing was taken. Given back once each. */
enum lb_limit { LB_CONNECTIONS, LB_PENDING, LB_REQUESTS, LB_RETRIES, LB_LIMIT_NR };
bool lb_take(struct lb_cluster *c, enum lb_limit what);
void lb_give(struct lb_cluster *c, enum lb_limit what);

/* How a request to it ended. status 0: no answer (`local`: it did not connect, or in time). May eject: returns for how long in ms, else 0. */
uint64_t lb_result(struct lb_cluster *c, struct lb_host *h, uint16_t status, bool local, uint64_t now_ms);

#endif
