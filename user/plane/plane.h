/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Snapshot -> kernel, and counters back. The only room that knows libbpf. One struct plane is this node's data path: the
 * pinned maps, programs and links, and what of them is in use. Everything is single-threaded.
 */
#ifndef PLANE_PLANE_H
#define PLANE_PLANE_H

#include "base/json.h"
#include "config/snapshot.h"
#include "plane/settings.h"

struct plane;

/* What one apply did; for replies, logs and benches. */
struct plane_applied {
	uint64_t epoch; /* live epoch afterwards */
	uint32_t units_changed, rows_written, rows_removed, pods_changed;
	uint32_t members_changed, programs_written;
	uint64_t ns; /* time spent */
};

/*
 * Opens the data path under settings->pin: creates and pins what is missing, adopts what is there (same layout and sizes),
 * rolls back an apply that was never committed, replaces programs in the pinned links in place. Attach order: connect hooks
 * last. Holds an exclusive lock on the pin directory until plane_close.
 * 0 or: -EBUSY another meshd holds the lock; -EEXIST the pins have another layout or other sizes; -errno of the kernel. A sentence
 * that says what failed, and what to do, is in err. Nothing that was live stops, whatever fails.
 */
int plane_open(const struct settings *s, struct plane **ret, struct buf *err);
/* Forgets the plane; the data path keeps running. */
void plane_close(struct plane *p);
/* Removes everything under settings->pin that meshd made, links first, and the directory. 0 also when there is nothing. */
int plane_unload(const struct settings *s, struct buf *err);

/*
 * Makes `s` live: writes what differs from the last applied snapshot under the next epoch, then commits with one store. All
 * services, scopes and pods flip together. On failure (table full, kernel error) the old rules stay live, what was written
 * is taken back, and err says why. The plane keeps a reference to `s`.
 */
int plane_apply(struct plane *p, struct snapshot *s, struct plane_applied *ret, struct buf *err);

/* Finds the network namespaces of the snapshot's pods on this node again (pod cgroups below settings->cgroup) and makes changes
 * live. Number of pods enrolled, or -errno. */
int plane_rescan(struct plane *p);
/* An fd that polls readable when pods may have come or gone below the cgroup (inotify); plane_pods_event() drains it and rescans. */
int plane_pods_fd(struct plane *p);
void plane_pods_event(struct plane *p);

/* Frees slots whose grace period is due. Cheap when there is nothing; call when idle. */
void plane_idle(struct plane *p);

/* Flows, oldest first: closed ones still in the ring, then live ones (refreshed by iterators over sockets first). fn returns false
 * to stop. Names are resolved: texts live until fn returns. */
struct shortcut_counts {
	uint64_t packets, bytes;
};

struct flow_view {
	const struct mesh_flow *flow;
	uint64_t opened_realtime_ns, closed_realtime_ns; /* 0: open */
	struct str client, server;			 /* "namespace/pod/serviceaccount", empty: unknown */
	struct str service, cluster;			 /* "namespace/host", "outbound|..."; empty: none */
	struct str policy;				 /* "namespace/name" that gave the verdict; empty: none did */
	struct shortcut_counts straight;		 /* what went straight from pod to pod, both ways */
	struct str
		acceleration; /* "STATE" or "STATE: WHY" of its end on the way past TCP; empty: none, or not looked at */
};

struct flow_filter {
	struct str workload, service; /* empty: any; "name" or "namespace/name" */
	struct str state;	      /* label of MESH_STATES, "open" or "closed"; empty: any */
	bool live_only;
	bool ends; /* to be looked at, too */
};

typedef bool (*flow_fn)(void *data, const struct flow_view *v);
int plane_flows(struct plane *p, const struct flow_filter *f, flow_fn fn, void *data);
/* One flow as DESIGN §8 has it, without a newline. */
void flow_json(struct json *j, const struct flow_view *v);

/* Every policy that a live program names, with what its verdicts came to. fn returns false to stop. 0 or -errno. */
typedef bool (*policy_fn)(void *data, struct str name, const struct mesh_policy_hits *hits);
int plane_policies(struct plane *p, policy_fn fn, void *data);

/* State of an endpoint, what keeps connections from it first: X(name, text). */
#define ENDPOINT_STATES(X)          \
	X(GONE, "gone")             \
	X(DRAINING, "draining")     \
	X(UNHEALTHY, "unhealthy")   \
	X(EJECTED, "ejected")       \
	X(WARMING_UP, "warming up") \
	X(HEALTHY, "healthy")
#define X(name, text) ENDPOINT_##name,
enum endpoint_state { ENDPOINT_STATES(X) ENDPOINT_STATE_NR };
#undef X

/* One endpoint of one cluster. Texts live until the callback returns. */
struct endpoint_view {
	struct str cluster;	/* "outbound|port|subset|host" */
	struct str workload;	/* "namespace/pod/serviceaccount", empty: unknown */
	struct str locality;	/* "region/zone/subzone", empty: unknown */
	struct str check;	/* what the last active check said, empty: nobody checks it */
	struct str why;		/* it is not healthy, in a few words */
	uint32_t weight, level; /* weight 0: the rules have it no more */
	enum endpoint_state state;
	struct mesh_backend backend; /* copies */
	struct mesh_tally tally;
	struct mesh_pool pool;
	uint64_t from_realtime_ns, until_realtime_ns; /* of its ejection; 0: it is not ejected */
	uint64_t since_realtime_ns;		      /* of its warming up or draining; 0: none */
};

/* Endpoints that the rules have, and those that connections are left on: of this host ("name", "name.namespace", "namespace/name" or the
 * whole host), or of all when it is empty. fn returns false to stop. */
typedef bool (*endpoint_fn)(void *data, const struct endpoint_view *v);
void plane_endpoints(struct plane *p, struct str host, endpoint_fn fn, void *data);

/* What the node knows of its pods, for explain(); valid until the next call of any plane function. `text` holds some of it. */
struct explain_node;
void plane_explain(struct plane *p, struct explain_node *ret, struct buf *text);

/* Status as a JSON object: versions, kernel, sizes and use of each map, counters by hook and reason, pods enrolled, losses,
 * honest limits found at start (missing helpers, foreign programs). */
void plane_status(struct plane *p, struct json *j);

#endif
