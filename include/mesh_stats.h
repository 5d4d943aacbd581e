/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What meshl7 counts, in shared memory that meshd makes, one for each process: a part for each worker, which nobody else writes. Numbers are
 * read and written as whole words, without locks. meshd believes no length in it.
 */
#ifndef MESH_STATS_H
#define MESH_STATS_H

#include "mesh_abi.h"

#define MESH_STATS_MAGIC 0x32543753u /* "S7T2" */

/* Why a request was not simply answered, as Envoy's response flags have it: X(name, text). */
#define MESH_FLAGS(X)                                                                     \
	X(NO_HEALTHY_UPSTREAM, "UH") /* the cluster has nobody to ask */                  \
	X(UPSTREAM_CONNECT_FAILURE, "UF")                                                 \
	X(UPSTREAM_OVERFLOW, "UO") /* a limit of connectionPool */                        \
	X(NO_ROUTE, "NR")                                                                 \
	X(RETRY_LIMIT, "URX") /* retries or connects are used up */                       \
	X(NO_CLUSTER, "NC")                                                               \
	X(DURATION_TIMEOUT, "DT")                                                         \
	X(DOWNSTREAM_TERMINATION, "DC") /* the client went away */                        \
	X(UPSTREAM_TERMINATION, "UC")	/* the server did, before its answer was whole */ \
	X(UPSTREAM_RESET, "UR")                                                           \
	X(UPSTREAM_TIMEOUT, "UT")                                                         \
	X(LOCAL_RESET, "LR")                                                              \
	X(DELAY_INJECTED, "DI")                                                           \
	X(FAULT_INJECTED, "FI")                                                           \
	X(UNAUTHORIZED, "UAEX")                                                           \
	X(IDLE_TIMEOUT, "SI")                                                             \
	X(DOWNSTREAM_PROTOCOL_ERROR, "DPE")                                               \
	X(UPSTREAM_PROTOCOL_ERROR, "UPE")                                                 \
	X(OVERLOAD, "OM")
#define X(name, text) MESH_FLAG_BIT_##name,
enum mesh_flag_bit { MESH_FLAGS(X) MESH_FLAG_NR };
#undef X
#define X(name, text) MESH_FLAG_##name = 1 << MESH_FLAG_BIT_##name,
enum mesh_flag { MESH_FLAGS(X) };
#undef X

/* Upper bounds of the histogram, as Istio's: X(label, microseconds). What is above the last is in one more. */
#define MESH_STATS_BOUNDS(X)     \
	X("0.5", 500)            \
	X("1", 1000)             \
	X("5", 5000)             \
	X("10", 10000)           \
	X("25", 25000)           \
	X("50", 50000)           \
	X("100", 100000)         \
	X("250", 250000)         \
	X("500", 500000)         \
	X("1000", 1000000)       \
	X("2500", 2500000)       \
	X("5000", 5000000)       \
	X("10000", 10000000)     \
	X("30000", 30000000)     \
	X("60000", 60000000)     \
	X("300000", 300000000)   \
	X("600000", 600000000)   \
	X("1800000", 1800000000) \
	X("3600000", 3600000000)
#define X(label, us) +1
enum { MESH_STATS_BUCKETS = 1 MESH_STATS_BOUNDS(X) };
#undef X

#define MESH_STATS_TEXT 256
#define MESH_STATS_SERIES 2048 /* of a worker; the first takes what finds no room of its own */

/* Requests of {source, server, service, status, flags}. */
struct mesh_series {
	__u64 requests, duration_us, request_bytes, response_bytes;
	__u64 buckets[MESH_STATS_BUCKETS]; /* not cumulative */
	__u32 flags;			   /* enum mesh_flag */
	__u16 status;			   /* 0: no answer was sent */
	__u16 source_len, server_len, service_len;
	__u32 pad;
	char source[MESH_STATS_TEXT];  /* "namespace/name/serviceaccount" of the client; empty: unknown */
	char server[MESH_STATS_TEXT];  /* the same of the endpoint */
	char service[MESH_STATS_TEXT]; /* "namespace/host" */
};

struct mesh_l7_worker {
	__u64 accepted;	      /* connections of clients */
	__u64 open;	      /* of these, now */
	__u64 upstream_open;  /* connections to endpoints, now */
	__u64 active;	      /* requests, now */
	__u64 refused;	      /* connections of clients that were ended since what came was no request */
	__u64 refused_tls;    /* among them those that began with TLS, at a port of HTTP */
	__u64 tls;	      /* connections of TLS that were passed on by the name that they ask for */
	__u64 tls_unrouted;   /* those whose name no rule has */
	__u64 log_dropped;    /* lines of the access log that found no room */
	__u64 series_dropped; /* requests counted in the first series for want of room */
	__u32 series_nr;      /* those below are whole; stored with release */
	__u32 pad;
	struct mesh_series series[MESH_STATS_SERIES];
};

struct mesh_l7_stats {
	__u32 magic, worker_nr; /* meshd's */
	struct mesh_l7_worker workers[];
};

_Static_assert(sizeof(struct mesh_series) % 8 == 0, "words");
_Static_assert(sizeof(struct mesh_l7_worker) % 8 == 0, "words");

#endif
