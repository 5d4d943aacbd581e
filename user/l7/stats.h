/* SPDX-License-Identifier: BSD-2-Clause */
/* One worker's counters (mesh_stats.h). Only that worker calls these. */
#ifndef L7_STATS_H
#define L7_STATS_H

#include "base/str.h"
#include "mesh_stats.h"

struct stats;

/* `shared` outlives it; NULL: it counts for nobody. */
struct stats *stats_new(struct mesh_l7_worker *shared);
void stats_free(struct stats *s);

/* For gauges and counters of the connections; never NULL. */
struct mesh_l7_worker *stats_worker(struct stats *s);
static inline void stats_add(__u64 *counter, int64_t by)
{
	__atomic_store_n(counter, *counter + (__u64)by, __ATOMIC_RELAXED);
}

/* A request that is over. Texts longer than MESH_STATS_TEXT are cut. */
struct stats_request {
	struct str source, server; /* "namespace/name/serviceaccount"; empty: unknown */
	struct str service;	   /* "namespace/host" of the image */
	uint16_t status;
	uint32_t flags; /* enum mesh_flag */
	uint64_t duration_us, request_bytes, response_bytes;
};
void stats_request(struct stats *s, const struct stats_request *r);

#endif
