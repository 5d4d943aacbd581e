/* SPDX-License-Identifier: BSD-2-Clause */
/* Sums of what processes of meshl7 have counted, and their text for Prometheus. Believes nothing that stands in shared memory. */
#ifndef PLANE_PARSER_METRICS_H
#define PLANE_PARSER_METRICS_H

#include "base/str.h"
#include "mesh_stats.h"

/* Different {source, server, service, status, flags} that are told apart; what comes on top is in one without texts. */
#define METRICS_MAX 65536

struct metric;

/* Zeroed is empty. */
struct metrics {
	struct metric *items; /* owned */
	uint32_t nr, cap;
	uint32_t *index; /* 1 + item; 0: free; owned */
	uint32_t index_len;
	uint64_t accepted, refused, refused_tls, tls, tls_unrouted, log_dropped, series_dropped;
	uint64_t open, upstream_open, active; /* of processes that live */
};

/* `live`: the process does, so its gauges count. */
void metrics_add(struct metrics *m, const struct mesh_l7_stats *s, uint32_t worker_nr, bool live);
void metrics_merge(struct metrics *m, const struct metrics *from);
void metrics_release(struct metrics *m);
/* Text format 0.0.4. */
void metrics_print(const struct metrics *m, struct str trust_domain, struct buf *out);

#endif
