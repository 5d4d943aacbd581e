/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that crosses a map: keys, values, verdicts, reasons, limits. Read by bpf/ and by user/plane, so that kernel,
 * CLI and metrics agree. It must hold no pointer, bool, enum field or implicit padding.
 *
 * Versions. A connection must see one rule set, whole. Rows are immutable while a lookup can reach them: a change writes
 * a new row under the next epoch, whose `prev` names the row it replaces, and points the hash at it; storing the epoch in
 * mesh_control.live makes every row of that epoch live at once. A reader takes `live` first and follows `prev` until it
 * finds a row that is not younger (multi-version concurrency control). Hash values are one aligned u32, so they cannot be
 * torn; a recycled hash element can still hand out another key's row, so each row carries its key and the reader compares.
 * Slots are reused only after an RCU grace period (a map-in-map update waits for one).
 */
#ifndef MESH_ABI_H
#define MESH_ABI_H

#include <linux/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Layout of every map below; a pinned map of another version is never adopted silently. */
#define MESH_LAYOUT 1

#define MESH_PROTO_TCP 6
#define MESH_PROTO_UDP 17

/* Depth of the version chain a reader follows. One that was held up for longer takes the live epoch again. */
#define MESH_PREV_MAX 64
/* Draws of a random number before the choice gives up; a draw fails with p < 1/2, so giving up has p < 2^-32. */
#define MESH_DRAWS_MAX 32
#define MESH_NAME_LEN 192

/* IPv4 is stored as ::ffff:a.b.c.d. Network order, as on the wire. */
struct mesh_addr {
	__u32 w_be[4];
};
_Static_assert(sizeof(struct mesh_addr) == 16, "mesh_addr");

/*
 * What a client dials. Key of mesh_services; prefix_len is 128 there. In a row of mesh_cidrs it is 96+n for an IPv4 network
 * of n bits.
 */
struct mesh_key {
	__u32 scope;
	__be16 port_be;
	__u8 proto;
	__u8 prefix_len;
	struct mesh_addr addr;
};
_Static_assert(sizeof(struct mesh_key) == 24, "mesh_key");

/* Key of mesh_cidrs, a longest-prefix-match trie: prefix_len counts the 64 bits before the address too. */
struct mesh_cidr_key {
	__u32 prefix_len;
	__u32 scope;
	__be16 port_be;
	__u8 proto;
	__u8 pad;
	struct mesh_addr addr;
};
_Static_assert(sizeof(struct mesh_cidr_key) == 28, "mesh_cidr_key");

/* What a row does with a connection. */
enum mesh_action {
	MESH_GONE = 0,	 /* the row was removed: go on as if it had never been there (scope 0, then CIDRs) */
	MESH_ROUTE = 1,	 /* choose a cluster, then an endpoint */
	MESH_PASS = 2,	 /* known service, original destination (ServiceEntry NONE, PASSTHROUGH) */
	MESH_ABSENT = 3, /* no service at this address for this client, whatever scope 0 says: not touched */
};

/* Element of mesh_rows: what {scope, address, port} means from `epoch` on. Row 0 is never used. */
struct mesh_row {
	struct mesh_key key;
	__u64 epoch;	  /* first epoch in which this row holds */
	__u32 prev;	  /* row that held before, 0: none */
	__u32 action;	  /* enum mesh_action */
	__u32 service_id; /* mesh_names */
	__u32 choice;	  /* first column in mesh_choices, over mesh_clusters */
	__u32 choice_nr;  /* columns; 0: refuse */
	__u32 pad;
	__u64 weight_sum;
};
_Static_assert(sizeof(struct mesh_row) == 64, "mesh_row");

/* One column of an alias table (Vose 1991) with integer thresholds, exact: a draw < threshold takes `primary`. */
struct mesh_choice {
	__u64 threshold; /* 0 .. weight_sum of the table */
	__u32 primary;
	__u32 alias;
};
_Static_assert(sizeof(struct mesh_choice) == 16, "mesh_choice");

/* Element of mesh_clusters: one destination {host, subset, port} as one row version sees it. Owned by one row's unit. */
struct mesh_cluster {
	__u64 weight_sum;
	__u32 choice;	  /* first column in mesh_choices, over mesh_backends */
	__u32 choice_nr;  /* columns; 0: no endpoint, refuse */
	__u32 cluster_id; /* mesh_names, stable across rule changes */
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_cluster) == 24, "mesh_cluster");

/* Element of mesh_backends: one endpoint address; its index is the stable backend id. Backend 0 is never used. */
struct mesh_backend {
	struct mesh_addr addr;
	__be16 port_be;
	__u8 proto;
	__u8 used;	   /* 1: slot taken */
	__u32 workload_id; /* mesh_names, 0: unknown */
	__u64 pad;
};
_Static_assert(sizeof(struct mesh_backend) == 32, "mesh_backend");

/* Element of mesh_pods: who a network namespace of this node is, from `epoch` on. Row 0 is never used. */
struct mesh_pod {
	__u64 netns_cookie;
	__u64 epoch;
	struct mesh_addr addr[2]; /* all addresses of the pod that the mesh knows; zero: none */
	__u32 prev;
	__u32 workload_id; /* 0: this namespace is not (any more) a pod of the mesh */
	__u32 scope;
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_pod) == 64, "mesh_pod");

/* Value of mesh_names: text of an id, for people. Key: the id. */
struct mesh_name {
	__u32 kind; /* enum mesh_name_kind */
	__u32 pad;
	/* service: "namespace/host"; cluster: "outbound|port|subset|host"; workload: "namespace/pod/serviceaccount". */
	char text[MESH_NAME_LEN];
};
_Static_assert(sizeof(struct mesh_name) == 200, "mesh_name");

enum mesh_name_kind { MESH_NAME_SERVICE = 1, MESH_NAME_CLUSTER = 2, MESH_NAME_WORKLOAD = 3 };

/* The one element of mesh_control. */
struct mesh_control {
	__u64 live;	   /* epoch whose rows are live; the only store that commits an apply */
	__u64 closed_head; /* records ever written to mesh_closed */
	__u32 cidr_nr;	   /* rows in mesh_cidrs; 0: the trie is not asked */
	__u32 layout;	   /* MESH_LAYOUT */
};
_Static_assert(sizeof(struct mesh_control) == 24, "mesh_control");

/* clang-format off */

/* State of a flow: X(name, text). */
#define MESH_STATES(X)                     \
	X(NONE,        "none")             \
	X(CONNECTING,  "connecting")       \
	X(ESTABLISHED, "established")      \
	X(CLOSING,     "closing")          \
	X(CLOSED,      "closed")           \
	X(FAILED,      "failed")

/*
 * Why a program exits, and why a flow ended: X(name, label, text). The index is the counter's, the label the metric's and
 * JSON's, the text the CLI's. Append only.
 */
#define MESH_REASONS(X)                                                                               \
	X(NONE,            "none",              "no reason recorded")                                 \
	X(ROUTED,          "routed",            "an endpoint was chosen")                             \
	X(PASSED,          "passed",            "known service, original destination kept")           \
	X(NOT_SERVICE,     "not_service",       "no service at the dialled address")                  \
	X(NOT_ENROLLED,    "not_enrolled",      "network namespace is not a pod of the mesh")         \
	X(FOREIGN_SOURCE,  "foreign_source",    "socket bound to an address that is not its pod's")   \
	X(NOT_HANDLED,     "not_handled",       "protocol or operation that this hook leaves alone")  \
	X(NO_ENDPOINT,     "no_endpoint",       "the chosen destination has no endpoint")             \
	X(ROW_RACED,       "row_raced",         "row changed while it was read, too often")           \
	X(CORRUPT,         "corrupt",           "map contents contradict each other")                 \
	X(SOCK_STORAGE,    "sock_storage",      "no memory for the socket's record")                  \
	X(FLOW_TABLE_FULL, "flow_table_full",   "flow table full, flow not recorded")                 \
	X(NOT_TRACKED,     "not_tracked",       "socket has no flow")                                 \
	X(TRACKED,         "tracked",           "flow updated")                                       \
	X(RESTORED,        "restored",          "dialled address shown to the application")           \
	X(CLOSED,          "closed",            "closed by either side")                              \
	X(RESET,           "reset",             "connection reset by peer")                           \
	X(ABORTED,         "aborted",           "closed by the client before it was established")     \
	X(REFUSED,         "refused",           "connection refused by the endpoint")                 \
	X(TIMED_OUT,       "timed_out",         "no answer in time")                                  \
	X(UNREACHABLE,     "unreachable",       "network or host unreachable")                        \
	X(NOT_SENT,        "not_sent",          "connect() failed before anything was sent")          \
	X(ERROR,           "error",             "the socket reported another error")                  \
	X(ACCEPTED,        "accepted",          "a pod of the mesh accepted a connection")

/* One hook a row: X(name, label). Counters are kept per hook and reason. */
#define MESH_HOOKS(X)                      \
	X(CONNECT4,     "connect4")        \
	X(CONNECT6,     "connect6")        \
	X(GETPEERNAME4, "getpeername4")    \
	X(GETPEERNAME6, "getpeername6")    \
	X(RECVMSG4,     "recvmsg4")        \
	X(RECVMSG6,     "recvmsg6")        \
	X(SOCKOPS,      "sockops")         \
	X(SOCK_RELEASE, "sock_release")    \
	X(SEND,         "send")            \
	X(RECV,         "recv")

#define X(name, ...) MESH_STATE_##name,
enum mesh_state { MESH_STATES(X) MESH_STATE_NR };
#undef X
#define X(name, ...) MESH_REASON_##name,
enum mesh_reason { MESH_REASONS(X) MESH_REASON_NR };
#undef X
#define X(name, ...) MESH_HOOK_##name,
enum mesh_hook { MESH_HOOKS(X) MESH_HOOK_NR };
#undef X

/* clang-format on */

/* mesh_counters: per-CPU array of u64, index hook * MESH_REASON_MAX + reason. Room to append reasons. */
#define MESH_REASON_MAX 64
#define MESH_HOOK_MAX 32
_Static_assert(MESH_REASON_NR <= MESH_REASON_MAX, "reasons");
_Static_assert(MESH_HOOK_NR <= MESH_HOOK_MAX, "hooks");

/*
 * One connection, seen from the client. Value of mesh_flows (key: the client's socket cookie) while it lives, element of
 * mesh_closed after. Times are CLOCK_BOOTTIME nanoseconds. Bytes are payload that the other side acknowledged (sent) and
 * that arrived in order (received); for UDP, payload of the datagrams that the application sent and received.
 */
struct mesh_flow {
	__u64 seq; /* mesh_closed: index of the record + 1, written last; live: 0 */
	__u64 cookie;
	__u64 netns_cookie;
	__u64 epoch; /* rule epoch that chose */
	__u64 opened_ns;
	__u64 closed_ns; /* 0: open */
	__u64 bytes_sent;
	__u64 bytes_received;
	struct mesh_addr client;
	struct mesh_addr dialled;
	struct mesh_addr chosen;
	__be16 client_port_be; /* 0 until the socket has one */
	__be16 dialled_port_be;
	__be16 chosen_port_be;
	__u8 proto;
	__u8 state;   /* enum mesh_state */
	__u16 reason; /* enum mesh_reason */
	__u16 pad;
	__u32 client_id; /* mesh_names: workloads, service, cluster */
	__u32 server_id;
	__u32 service_id;
	__u32 cluster_id;
	__u32 srtt_us;
	__u32 retransmits;
	__u32 pad2;
	__u64 seq_end; /* equals seq in a whole record */
};
_Static_assert(sizeof(struct mesh_flow) == 160, "mesh_flow");

/* Socket storage: what a socket dialled, so that the application keeps seeing it. */
struct mesh_dial {
	struct mesh_addr dialled;
	struct mesh_addr chosen;
	__u64 cookie;	  /* of the flow; 0: no flow recorded */
	__u64 bytes_sent; /* UDP only */
	__u64 bytes_received;
	__be16 dialled_port_be;
	__be16 chosen_port_be;
	__u8 proto;
	__u8 sent; /* TCP: the SYN went out, so STATE_CB ends the flow; UDP: a packet passed, the local end is known */
	__u16 pad;
};
_Static_assert(sizeof(struct mesh_dial) == 64, "mesh_dial");

#ifdef __cplusplus
}
#endif

#endif
