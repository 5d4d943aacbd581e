/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * State of clusters, of the balance_*.c alone: balance.c its lifetime and limits, balance_pick.c the choice, balance_outlier.c ejection.
 *
 * A cluster (by name) has hosts (by address and port) and sets. A set is what one version of the rules has it choose from: immutable, and
 * shared by all versions in which that is the same. A view has a set for each cluster of its rules. Sets keep their hosts; what nobody
 * keeps goes when nothing is counted on it any more.
 */
#ifndef L7_BALANCE_INT_H
#define L7_BALANCE_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "config/tables.h"
#include "l7/balance.h"
#include "l7/rules.h"

struct host {
	struct lb_host pub;
	struct host *next;
	uint32_t refs; /* sets */
	/* Failures in a row. */
	_Atomic uint32_t bad, bad_gateway, bad_local;
	/* How often it was ejected, less one for each interval that it was well since; under the lock. */
	uint32_t ejections;
	uint64_t judged_ms; /* up to when these intervals are counted */
};

struct member {
	struct host *host;
	uint32_t weight, level;
};

/* Members of one level, and what they are chosen by. */
struct level {
	uint32_t first, nr;
	uint64_t weight_sum;
	uint64_t *sums;				/* weights of those up to each one: NULL, all weigh the same */
	uint32_t *turns, turn_nr;		/* MESH_LB_ROUND_ROBIN */
	struct table_position *ring;		/* MESH_LB_RING */
	uint32_t ring_nr, *maglev, maglev_size; /* MESH_LB_MAGLEV */
	_Atomic uint32_t turn;
};

struct set {
	struct lb_cluster *cluster;
	struct set *next;
	uint32_t refs; /* clusters of views */
	uint64_t hash; /* of everything it was made of */
	uint32_t lb, min_health_percent;
	uint32_t nr, level_nr;
	struct member *members; /* in the order of the rules */
	struct level *levels;
};

struct outlier {
	uint32_t bad, bad_gateway, bad_local, interval_ms, base_ms, max_ms, max_percent;
	bool given;
};

struct lb_cluster {
	struct lb *lb;
	struct lb_cluster *next;
	struct str name;     /* owned */
	struct host **hosts; /* chains by address and port */
	uint32_t host_mask, host_nr;
	struct set *sets;
	_Atomic uint64_t ejected_until_ms;			 /* nobody is for longer */
	_Atomic uint32_t taken[LB_LIMIT_NR], limit[LB_LIMIT_NR]; /* of the rules that came last */
	struct outlier outlier;					 /* as above; under the lock */
	_Atomic uint32_t bad, bad_gateway, bad_local;		 /* thresholds, 0: never */
};

struct lb {
	pthread_mutex_t lock;
	struct lb_cluster **clusters; /* chains by name */
	uint32_t cluster_mask, cluster_nr;
	struct lb_view *views;
};

struct lb_view {
	struct lb *lb;
	struct lb_view *next;
	struct http_rules *rules;
	uint32_t refs;
	struct offset_map sets; /* of the offset of a struct mesh_http_cluster */
};

static inline struct host *host_of(struct lb_host *h)
{
	return (struct host *)((char *)h - offsetof(struct host, pub));
}

static inline bool host_ejected(const struct lb_host *h, uint64_t now_ms)
{
	return atomic_load_explicit(&h->ejected_until_ms, memory_order_relaxed) > now_ms;
}

/* Makes what the members of each level are chosen by. */
void set_levels(struct set *s, const struct mesh_http_cluster *c);
void set_free(struct set *s);
/* An index in its members; false: there is nobody. */
bool set_pick(const struct set *s, const uint64_t *hash, const struct lb_tried *tried, uint64_t draw, uint64_t now_ms,
	      uint32_t *ret);

#endif
