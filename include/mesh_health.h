/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of mesh_abi.h, which includes it, that is about how endpoints fare and what their cluster allows. */
#ifndef MESH_HEALTH_H
#define MESH_HEALTH_H

/* Element of mesh_tallies: what has become of the connections of an endpoint of mesh_backends, and is not asked when one is chosen. */
struct mesh_tally {
	__u64 opened;	      /* connections established */
	__u32 ejections;      /* how often it was ejected, less one for each interval that it was well */
	__u32 latency_us;     /* round trip, smoothed over connections */
	__u32 latency_nr;     /* samples in it */
	__u32 failed;	      /* connections never established, by the endpoint's fault */
	__u32 reset;	      /* established ones that it reset */
	__u32 ejected_for_ms; /* how long the last ejection is: it began so long before ejected_until_ns */
};
_Static_assert(sizeof(struct mesh_tally) == 32, "mesh_tally");

enum mesh_health_flag {
	MESH_HEALTH_FAILS = 1,	/* an active check says so */
	MESH_HEALTH_DRAINS = 2, /* no new connections */
};

/* clang-format off */
/* Why an endpoint was ejected: X(name, label, text). The label is JSON's, the text the CLI's, before how long ago. */
#define MESH_CAUSES(X)                                                                \
	X(NONE,             "none",             "ejected")                            \
	X(CONNECT_FAILURES, "connect_failures", "failed connects in a row")           \
	X(RESETS,           "resets",           "resets without an answer in a row")  \
	X(LATENCY,          "latency",          "far slower than its peers")
/* clang-format on */
#define X(name, ...) MESH_CAUSE_##name,
enum mesh_cause { MESH_CAUSES(X) MESH_CAUSE_NR };
#undef X

/*
 * Element of mesh_pools: a cluster by its name, whichever rows lead to it: the policy that user/plane writes when rules become live, and
 * the counts that belong to all of its endpoints. A pool keeps its place for as long as a cluster or a connection needs it. Pool 0 is
 * never used. Two cache lines: what is read, and what is written all the time.
 */
#define MESH_WARMUP_STEPS 16
#define MESH_SYN_TIMEOUT_MS 1000 /* of the first SYN (RFC 6298) */
struct mesh_pool {
	__u32 cluster_id;						/* mesh_names */
	__u32 max_connections;						/* UINT32_MAX: any number */
	__u32 connect_timeout_ms;					/* 0: none */
	__u32 keepalive_time_s, keepalive_interval_s, keepalive_probes; /* 0: as the system has it */
	__u32 affinity_s;	/* a client's address keeps its endpoint for so long; 0: not */
	__u32 warmup_ms;	/* 0: none */
	__u32 connect_failures; /* so many in a row eject, 0: never */
	__u32 resets;		/* the same */
	__u32 base_ejection_ms, max_ejection_ms;
	__u32 endpoint_nr;	   /* that take connections */
	__u8 flags;		   /* enum mesh_pool_flag */
	__u8 max_ejection_percent; /* of endpoint_nr; one may always be ejected */
	__u8 min_health_percent;   /* with fewer than this available, ejections and checks are overlooked; 0: never */
	__u8 pad[9];

	__u32 active;			 /* TCP connections, the ones that are being opened too */
	__u32 cursor;			 /* of round robin */
	__u32 ejected;			 /* endpoints that are at this moment */
	__u32 unhealthy;		 /* endpoints that fail an active check; by user/plane */
	__u64 overflow;			 /* connections refused for max_connections */
	__u16 warmup[MESH_WARMUP_STEPS]; /* share of its weight, in 1/65536, less one, of each part of warmup_ms */
	__u64 pad2;
};
enum mesh_pool_flag {
	MESH_POOL_OUTLIER = 1,	 /* endpoints that fail are ejected */
	MESH_POOL_KEEPALIVE = 2, /* idle connections are probed */
};
_Static_assert(sizeof(struct mesh_pool) == 128, "mesh_pool");

/* mesh_affinities: where a client's address went last. */
struct mesh_affinity_key {
	struct mesh_addr client;
	__u32 pool;
	__u8 proto;
	__u8 local; /* of a cluster with this node's endpoints only */
	__u16 pad;
};
_Static_assert(sizeof(struct mesh_affinity_key) == 24, "mesh_affinity_key");
struct mesh_affinity {
	__u64 seen_ns; /* when it was last asked for */
	__u32 backend;
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_affinity) == 16, "mesh_affinity");

#endif
