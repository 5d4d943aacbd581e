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
#define MESH_LAYOUT 7

#define MESH_PROTO_TCP 6
#define MESH_PROTO_UDP 17

/* Depth of the version chain a reader follows. One that was held up for longer takes the live epoch again. */
#define MESH_PREV_MAX 64
/* Draws of a random number before the choice gives up; a draw fails with p < 1/2, so giving up has p < 2^-32. */
#define MESH_DRAWS_MAX 32
#define MESH_NAME_LEN 192

/* The class of clients that are no pods of this node: they come in by the node's links. Pods have classes from 0 on. */
#define MESH_SCOPE_OUTSIDE 0x7fffffffu
/* Flag of a scope that has all that its clients see: scope 0 is not asked. Where a Sidecar hides most, that takes fewer rows. */
#define MESH_SCOPE_CLOSED 0x80000000u

/* IPv4 is stored as ::ffff:a.b.c.d. Network order, as on the wire. */
struct mesh_addr {
	__u32 w_be[4];
};
_Static_assert(sizeof(struct mesh_addr) == 16, "mesh_addr");

#include "mesh_ends.h"
#include "mesh_peers.h"

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
	MESH_L7 =
		4, /* the parser has it, by its own rules; the row's choice is for when it is down (MESH_ROW_FAIL_OPEN) */
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
	__u32 flags;	  /* enum mesh_row_flag */
	__u64 weight_sum;
};
enum mesh_row_flag {
	MESH_ROW_ENDPOINT = 1,	/* one of its own endpoints is at its own address and port */
	MESH_ROW_FAIL_OPEN = 2, /* MESH_L7: while the parser is down it is as if MESH_ROUTE; otherwise refused */
};
_Static_assert(sizeof(struct mesh_row) == 64, "mesh_row");

/* One column of an alias table (Vose 1991) with integer thresholds, exact: a draw < threshold takes `primary`. */
struct mesh_choice {
	__u64 threshold; /* 0 .. weight_sum of the table */
	__u32 primary;
	__u32 alias;
};
_Static_assert(sizeof(struct mesh_choice) == 16, "mesh_choice");

/* How an endpoint is chosen. */
enum mesh_lb {
	MESH_LB_RANDOM = 0,
	MESH_LB_LEAST_REQUEST = 1, /* fewest active connections of a few that are drawn */
	MESH_LB_ROUND_ROBIN = 2,   /* in turn: the columns, or where weights differ the schedule in mesh_tables */
	MESH_LB_RING = 3,	   /* the client's address on a ring: hash << 32 | backend in mesh_tables, ascending */
	MESH_LB_MAGLEV = 4,	   /* the client's address in a table of backends in mesh_tables */
};

/*
 * Element of mesh_clusters: one level of priority of a destination {host, subset, port} as one row version sees it. Owned by one row's
 * unit. A row leads to the first level; `next` leads on, for when nobody in a level is available.
 */
struct mesh_cluster {
	__u64 weight_sum;
	__u32 choice; /* first column in mesh_choices, over mesh_backends; their primaries are the endpoints, each once */
	__u32 choice_nr;  /* columns; 0: no endpoint, refuse */
	__u32 table;	  /* first in mesh_tables, of lb kinds that have one, or MESH_CLUSTER_STRAYS */
	__u32 table_nr;	  /* turns, positions, entries or words of bits; 0: none */
	__u32 cluster_id; /* mesh_names, stable across rule changes */
	__u32 pool;	  /* mesh_pools; 0: none */
	__u32 next;	  /* in mesh_clusters, 0: this is the last level */
	__u32 share; /* of the connections, in percent, that begin their search here; the last level has the rest. In place */
	__u16 lb;    /* enum mesh_lb */
	__u16 flags; /* enum mesh_cluster_flag */
	__u32 first; /* column i is backend first + i and nothing else, and is not read, for all i but strays; 0: all are read */
};
enum mesh_cluster_flag {
	MESH_CLUSTER_ELSEWHERE = 1, /* its endpoints are on other nodes, and it may use this node's only */
	MESH_CLUSTER_WEIGHTED = 2,  /* endpoints differ in weight */
	MESH_CLUSTER_LOCAL = 4,	    /* has endpoints of this node only */
	MESH_CLUSTER_STRAYS = 8,    /* its table is a bit for each column, from the lowest on: it is a stray */
};
_Static_assert(sizeof(struct mesh_cluster) == 48, "mesh_cluster");

/*
 * Element of mesh_backends: one endpoint of one cluster; its index is the stable backend id. Backend 0 is never used. All that a choice
 * needs of it, in one cache line: who it is, which user/plane writes, and how it fares, which survives rule changes and restarts of user
 * space. Times are CLOCK_BOOTTIME nanoseconds. Changed by several at once: counts by atomic operations, flags by user/plane alone.
 */
struct mesh_backend {
	struct mesh_addr addr;
	__be16 port_be;
	__u8 proto;
	__u8 used;		/* 1: some rules lead to it. 0 and still not free: connections from before are left */
	__u32 workload_id;	/* mesh_names, 0: unknown */
	__u32 pool;		/* whose endpoint it is */
	__u32 active;		/* TCP connections, the ones that are being opened too */
	__u64 ejected_until_ns; /* 0: not ejected. Whoever exchanges it for 0 gives back its place in the pool's `ejected` */
	__u64 since_ns; /* when it came, or came back: warm-up begins; when it went, for one that drains. 0: always there */
	__u32 open_epoch; /* its address was seen to have no policy to ask: low half of mesh_control.member_epoch then */
	__u32 connect_failures; /* in a row: refused, timed out, unreachable, reset before they were established */
	__u32 resets;		/* in a row: established ones that the endpoint reset without having sent anything */
	__u16 flags;		/* enum mesh_health_flag */
	__u16 cause;		/* enum mesh_cause: of the last ejection */
};
_Static_assert(sizeof(struct mesh_backend) == 64, "mesh_backend");

#include "mesh_health.h"

/* Element of mesh_pods: who a network namespace of this node is, from `epoch` on. Row 0 is never used. */
struct mesh_pod {
	__u64 netns_cookie;
	__u64 epoch;
	struct mesh_addr addr[2]; /* all addresses of the pod that the mesh knows; zero: none */
	__u32 prev;
	__u32 workload_id; /* 0: this namespace is not (any more) a pod of the mesh */
	__u32 scope;
	__u32 identity;	  /* as in its struct mesh_workload */
	__u32 flags;	  /* enum mesh_pod_flag */
	__u32 ifindex;	  /* host's end of its link; 0: not known */
	__u32 sidecar_id; /* mesh_names: the Sidecar that says what it may reach; 0: none */
	__u32 ns_id;	  /* mesh_names: its namespace */
	__u32 accelerate; /* enum mesh_accelerate */
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_pod) == 88, "mesh_pod");
enum mesh_pod_flag {
	MESH_POD_REGISTRY_ONLY = 1, /* may reach only what the rules know */
	MESH_POD_TRIAL = 2,	    /* the self-test's: accelerated before others are, over its loopback */
	MESH_POD_NO_SPLICE = 4,	    /* its programs do not splice; the census is not asked */
};

/*
 * Who an address of the mesh is, from `epoch` on; for the whole cluster. Element of mesh_workloads; mesh_members leads from the
 * address to it. Row 0 is never used.
 */
enum mesh_workload_flag { MESH_WORKLOAD_LOCAL = 1 /* a pod of this node */ };
struct mesh_workload {
	struct mesh_addr addr;
	__u64 epoch;
	__u32 prev;
	__u32 workload_id; /* 0: the address is not (any more) a workload's */
	__u32 identity;	   /* bit of mesh_bits, 0: none that the kernel vouches for */
	__u32 policy;	   /* first term in mesh_terms for connections to it; 0: everything is allowed */
	__u32 shadow;	   /* the same of dry-run policies: counted, not enforced */
	__u32 flags;	   /* enum mesh_workload_flag */
	__u32 relayed; /* as `policy`, for connections of the parser, which asks the rest of each request; 0: `policy` holds */
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_workload) == 56, "mesh_workload");

/*
 * One step of a policy program, in mesh_terms: a test that goes on at `hit` or `miss`, or a verdict. Steps are numbered from the
 * program's first, and only lead forward, so that a program ends. Term 0 of the array is never used.
 */
enum mesh_op {
	MESH_OP_ALLOW = 1,	 /* verdict; arg: policy in mesh_names, 0: no policy says so */
	MESH_OP_DENY = 2,	 /* the same; arg 0: policies allow others, none allows this */
	MESH_OP_IDENTITY = 3,	 /* bit `identity` of mesh_bits[arg .. arg + nr) is set; beyond them: miss */
	MESH_OP_SOURCE = 4,	 /* source address is in addr/nr */
	MESH_OP_DESTINATION = 5, /* address on the wire of the server is in addr/nr */
	MESH_OP_PORT = 6,	 /* port on the wire of the server is in arg .. nr, host order */
};
struct mesh_term {
	struct mesh_addr addr;
	__u32 arg;
	__u32 nr;
	__u16 hit, miss;
	__u16 op; /* enum mesh_op */
	__u16 pad;
};
_Static_assert(sizeof(struct mesh_term) == 32, "mesh_term");
#define MESH_TERMS_MAX 65535 /* of one program */

/* Value of mesh_policies, key: the policy in mesh_names. Verdicts that named it. */
struct mesh_policy_hits {
	__u64 allowed, denied;
	__u64 would_allow, would_deny; /* dry-run */
};
_Static_assert(sizeof(struct mesh_policy_hits) == 32, "mesh_policy_hits");

/* Value of mesh_ifaces, key: ifindex on the host's side. */
enum mesh_iface_kind {
	MESH_IFACE_POD = 1,    /* the host's end of a pod's link */
	MESH_IFACE_NODE = 2,   /* a link of the node to the outside */
	MESH_IFACE_PARSER = 3, /* the node's end of the parser's link */
};
struct mesh_iface {
	__u64 netns_cookie;	  /* POD: whose; mesh_netns says who that is */
	struct mesh_addr addr[2]; /* NODE: own IPv4 and IPv6 address, for connections that are passed on; zero: none */
	struct mesh_addr link_local; /* POD: the IPv6 link-local address that it may claim */
	__u8 mac[6];		     /* POD: the pod's own */
	__u8 kind;		     /* enum mesh_iface_kind */
	__u8 flags;		     /* enum mesh_iface_flag */
	__u8 gateway
		[6]; /* POD: what the node itself has there: link address of the bridge, or of the link; zero: not known */
	__u8 pad[2];
};
enum mesh_iface_flag {
	MESH_IFACE_ALONE = 1 /* POD: nobody else has programs or a queue there, which a shortcut would go round */
};
_Static_assert(sizeof(struct mesh_iface) == 72, "mesh_iface");

/* Value of mesh_loads, key: ifindex on the host's side. */
struct mesh_load {
	__u32 established; /* connections of the pod that the tc path keeps */
	__u32 tracks;	   /* 1: TCP connections have been tracked here */
};
_Static_assert(sizeof(struct mesh_load) == 8, "mesh_load");

/* Value of mesh_names: text of an id, for people. Key: the id. */
struct mesh_name {
	__u32 kind; /* enum mesh_name_kind */
	__u32 pad;
	/* service: "namespace/host"; cluster: "outbound|port|subset|host"; workload: "namespace/pod/serviceaccount";
	 * policy, Sidecar: "namespace/name". */
	char text[MESH_NAME_LEN];
};
_Static_assert(sizeof(struct mesh_name) == 200, "mesh_name");

enum mesh_name_kind {
	MESH_NAME_SERVICE = 1,
	MESH_NAME_CLUSTER = 2,
	MESH_NAME_WORKLOAD = 3,
	MESH_NAME_POLICY = 4,
	MESH_NAME_SIDECAR = 5,
	MESH_NAME_NAMESPACE = 6
};

/* The one element of mesh_control. */
struct mesh_control {
	__u64 live;		   /* epoch whose rows are live; the only store that commits an apply */
	__u64 closed_head;	   /* records ever written to mesh_closed */
	__u32 cidr_nr;		   /* rows in mesh_cidrs; 0: the trie is not asked */
	__u32 layout;		   /* MESH_LAYOUT */
	__u64 cut_epoch;	   /* what was allowed before is asked about again; 0: never */
	__u64 member_epoch;	   /* first in which mesh_workloads says what it says now */
	__u32 flags;		   /* enum mesh_control_flag */
	__u32 pod_conns;	   /* connections that one pod may have in mesh_conns */
	struct mesh_limits limits; /* of acceleration */
	__u32 parser_ifindex;	   /* the node's end of the parser's link; 0: there is none */
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_control) == 88, "mesh_control");
enum mesh_control_flag {
	MESH_CONTROL_SOCKETS = 1, /* the socket hooks are attached: flows of this node's pods are theirs */
	MESH_CONTROL_CUT = 2, /* connections that a policy comes to forbid are cut: all that are guarded are tracked */
	MESH_CONTROL_ACCELERATE = 16, /* bytes of some pod may go from socket to socket */
	MESH_CONTROL_SHORTCUTS = 4,   /* packets may go straight to the link of another pod of the node */
	MESH_CONTROL_HASTE = 8,	      /* some pool's connect_timeout_ms is shorter than TCP's first */
	MESH_CONTROL_TRIAL = 32,      /* the self-test is not over: no connection of pods begins to be observed */
};

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
	X(ACCEPTED,        "accepted",          "a pod of the mesh accepted a connection")             \
	X(DENIED,          "denied",            "a policy denies it")                                 \
	X(DENIED_DEFAULT,  "denied_by_default", "policies allow others, and none allows it")          \
	X(REGISTRY_ONLY,   "registry_only",     "not in the rules, and the client may reach nothing else") \
	X(SPOOFED_IP,      "spoofed_ip",        "source address is not the pod's")                    \
	X(SPOOFED_MAC,     "spoofed_mac",       "source link address is not the pod's")               \
	X(SPOOFED_ARP,     "spoofed_arp",       "ARP speaks for an address that is not the pod's")    \
	X(SPOOFED_NDP,     "spoofed_ndp",       "neighbour discovery speaks for an address that is not the pod's, or for a router") \
	X(MALFORMED,       "malformed",         "headers are cut short or contradict each other")     \
	X(FRAGMENT,        "fragment",          "a fragment whose first part was not seen")           \
	X(TRANSLATED,      "translated",        "addresses of a connection translated")               \
	X(ICMP_TRANSLATED, "icmp_translated",   "addresses inside an ICMP error translated")          \
	X(NO_CONN,         "no_connection",     "a segment to a service that belongs to no connection") \
	X(CONN_TABLE_FULL, "conn_table_full",   "no room for another connection")                     \
	X(CONN_LIMIT,      "conn_limit",        "the pod has as many connections as one may have")    \
	X(NO_PORT,         "no_port",           "no source port is free for a connection that is passed on") \
	X(EXPIRED,         "expired",           "idle for longer than its state allows")              \
	X(NO_LOCAL,        "no_local_endpoint", "only endpoints of this node may be used, and all are on others") \
	X(SPOOFED_ICMP,    "spoofed_icmp",      "an ICMP error about a packet that was not for the pod, or a redirect") \
	X(TAGGED,          "tagged",            "VLAN tags hide what the frame holds")                \
	X(FLOODED,         "flooded",           "for another link address: a bridge did not know where that is")                      \
	X(CUT,             "cut",               "a policy that came later forbids it")              \
	X(SHORTCUT,        "shortcut",          "went straight to the other pod's link, past the node's own stack") \
	X(OVERFLOW,        "overflow",          "the destination has as many connections as it may")  \
	X(NO_HEALTHY,      "no_healthy_endpoint", "every endpoint of the destination is ejected, unhealthy or draining") \
	X(IDLE,            "idle_timeout",      "idle for longer than the destination allows")        \
	X(MAX_DURATION,    "max_duration",      "open for longer than the destination allows")        \
	X(DRAINED,         "drained",           "its endpoint was gone for longer than connections may last")   \
	X(REDIRECTED,      "redirected",        "from socket to socket")                              \
	X(NOT_MATCHED,     "not_matched",       "the other end is not ready to take bytes past TCP")  \
	X(NOT_DRAINED,     "not_drained",       "bytes that came before are still to be read")        \
	X(BUSY,            "busy",              "somebody is in a system call with the other end")    \
	X(BULK,            "bulk",              "more bytes one way than a message may have")         \
	X(BLOCKING,        "blocking",          "calls of one of both ends may sleep again")           \
	X(HELD,            "held",              "as many bytes wait for their reader as may")         \
	X(PRESSURE,        "memory_pressure",   "TCP as a whole holds much memory")                   \
	X(OPTION,          "option",            "an option of the socket that only TCP honours")      \
	X(ENROLLED,        "enrolled",          "a socket was put among those that are accelerated")  \
	X(LEFT,            "left",              "a socket was taken from among those that are accelerated") \
	X(PARSED,          "parsed",            "went to the parser of HTTP, or came from it")        \
	X(NO_PARSER,       "no_parser",         "the parser of HTTP is down, and the rules have it refused then") \
	X(LEG_UNBOUND,     "leg_unbound",       "the parser speaks for a client that has no connection to it") \
	X(LEG_TAKEN,       "leg_taken",         "the parser's source port is one that the client itself uses") \
	X(SWITCHED,        "switched",          "the other way than what the socket sent before: past TCP, or by TCP") \
	X(LONG_WAY,        "long_way",          "by TCP, for the node's netfilter and policies to see some again")

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
	X(RECV,         "recv")            \
	X(SENDMSG4,     "sendmsg4")        \
	X(SENDMSG6,     "sendmsg6")        \
	X(FROM_POD,     "from_pod")        \
	X(TO_POD,       "to_pod")          \
	X(FROM_NODE,    "from_node")       \
	X(TO_NODE,      "to_node")         \
	X(CONN_TIMER,   "conn_timer")      \
	X(CUT,          "cut")             \
	X(REDIRECT,     "redirect")        \
	X(ENDS,         "ends")            \
	X(FROM_PARSER,  "from_parser")     \
	X(PARSER,       "parser")

/* What carried a flow: X(name, label). */
#define MESH_PATHS(X)                      \
	X(TCP,      "tcp")                 \
	X(TC,       "tc")                  \
	X(REDIRECT, "redirect")            \
	X(L7,       "l7")

#define X(name, ...) MESH_PATH_##name,
enum mesh_path { MESH_PATHS(X) MESH_PATH_NR };
#undef X
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
#define MESH_REASON_MAX 96
#define MESH_HOOK_MAX 32
_Static_assert(MESH_REASON_NR <= MESH_REASON_MAX, "reasons");
_Static_assert(MESH_HOOK_NR <= MESH_HOOK_MAX, "hooks");

/*
 * One connection, seen from the client. Value of mesh_flows (key: the client's socket cookie) while it lives, element of
 * mesh_closed after. Times are CLOCK_BOOTTIME nanoseconds. Bytes are payload that the other side acknowledged (sent) and
 * that arrived in order (received); for UDP, payload of the datagrams that the application sent and received. A record of the tc
 * path has the same counts, taken from sequence numbers; its cookie is a number of its own with the highest bit set.
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
	__u64 bytes_redirected; /* of both: from socket to socket, past TCP */
	struct mesh_addr client;
	struct mesh_addr dialled;
	struct mesh_addr chosen;
	__be16 client_port_be; /* 0 until the socket has one: TCP, until the SYN goes out */
	__be16 dialled_port_be;
	__be16 chosen_port_be;
	__u8 proto;
	__u8 state;	  /* enum mesh_state */
	__u16 reason;	  /* enum mesh_reason */
	__u8 path;	  /* enum mesh_path */
	__u8 server_side; /* recorded at the server's end: the client is not a pod of this node, or not seen as one */
	__u32 client_id;  /* mesh_names: workloads, service, cluster */
	__u32 server_id;
	__u32 service_id;
	__u32 cluster_id;
	__u32 srtt_us;
	__u32 retransmits;
	__u32 policy_id; /* that gave the verdict: a policy, or of what is REGISTRY_ONLY a Sidecar; 0: none did */
	__u32 backend;	 /* in mesh_backends, 0: none chosen */
	__u32 held; /* 1: it is one of the active connections of its backend. Whoever exchanges it for 0 counts it off */
	__u32 user_timeout_ms; /* of the socket, plus one, where connect_timeout_ms has its place until it is established; else 0 */
	__u32 pad;
	__u64 seq_end; /* equals seq in a whole record */
};
_Static_assert(sizeof(struct mesh_flow) == 184, "mesh_flow");

/*
 * Socket storage: what a UDP socket dialled by connect(), so that the application keeps seeing it. Of a TCP socket its flow tells, and this
 * only when there was no room for one: the storage costs more than all else that connect() does.
 */
struct mesh_dial {
	struct mesh_addr dialled;
	struct mesh_addr chosen;
	__u64 cookie; /* of the flow; 0: no flow recorded */
	__u64 bytes_sent;
	__u64 bytes_received;
	__be16 dialled_port_be;
	__be16 chosen_port_be;
	__u8 sent; /* a datagram, or the SYN, passed: the local end is known */
	__u8 pad[3];
	__u32 backend, held, user_timeout_ms; /* TCP: as in struct mesh_flow */
	__u32 pad2;
};
_Static_assert(sizeof(struct mesh_dial) == 80, "mesh_dial");

/* What the iterators of cut.bpf.c write for each socket that user space is to destroy. */
struct mesh_victim {
	__u64 cookie;
	struct mesh_addr local, remote;
	__u32 ifindex; /* that the socket is bound to, 0: none */
	__be16 local_port_be, remote_port_be;
	__u8 proto;
	__u8 pad[7];
};
_Static_assert(sizeof(struct mesh_victim) == 56, "mesh_victim");

/*
 * Both ends of a connection. `client` is who began it. As a key of mesh_nats the lesser end comes first, so that packets of both
 * directions find it, and kind is 0; the value there is the connection's tuple on the wire, and its kind says which view the key is.
 */
enum mesh_tuple_kind {
	MESH_TUPLE_KEY = 0,
	MESH_TUPLE_WIRE = 1,	/* as the server's link sees it; also the kind in keys of mesh_conns */
	MESH_TUPLE_DIALLED = 2, /* as the client sees it */
	MESH_TUPLE_MASQ = 3,	/* as it leaves the node under the node's address */
};
struct mesh_tuple {
	struct mesh_addr client, server;
	__be16 client_port_be, server_port_be;
	__u8 proto;
	__u8 kind; /* enum mesh_tuple_kind */
	__u16 pad;
};
_Static_assert(sizeof(struct mesh_tuple) == 40, "mesh_tuple");

/* Where a connection of the tc path stands: X(name, seconds without a packet until it is over). */
#define MESH_UDP_ONE_WAY_S 30
#define MESH_UDP_BOTH_WAYS_S 300
#define MESH_CONN_STATES(X)                                                \
	X(SYN, 127)		       /* the client's SYN passed */       \
	X(SYN_ACK, 60)		       /* and the server's answer */       \
	X(OPEN, 432000)		       /* and the client's: established */ \
	X(FIN, 120)		       /* one side has ended */            \
	X(CLOSED, 1)		       /* both have, or one has reset */   \
	X(UDP_NEW, MESH_UDP_ONE_WAY_S) /* datagrams one way */             \
	X(UDP, MESH_UDP_BOTH_WAYS_S)   /* both ways */
#define X(name, ...) MESH_CONN_##name,
enum mesh_conn_state { MESH_CONN_STATES(X) MESH_CONN_STATE_NR };
#undef X

enum mesh_conn_flag {
	MESH_CONN_NAT = 1,     /* dialled and wire differ */
	MESH_CONN_RECORD = 2,  /* its end goes to mesh_closed */
	MESH_CONN_HAIRPIN = 4, /* client and server are one pod */
	MESH_CONN_KEPT = 8,  /* from its SYN on it is where nothing pushes it out: its destination limits connections */
	MESH_CONN_MASQ = 16, /* leaves the node under the node's address */
	MESH_CONN_ASKED = 32, /* the server's policy allows it */
	MESH_CONN_CUT = 64,   /* a policy forbids it by now */
	MESH_CONN_L7 = 128,   /* of a client with the parser, which has it till it ends, whatever the rules become */
	MESH_CONN_LEG = 256,  /* of the parser with a server, for a client whose address it has */
};

/*
 * A connection of the tc path: value of mesh_conns (established) and mesh_conns_new (not yet, LRU), behind a struct bpf_timer of 16
 * bytes. Index 0 of the pairs is the client's direction.
 */
struct mesh_conn {
	struct mesh_flow flow;	   /* the record, kept up to date; flow.seq is 0 */
	struct mesh_tuple dialled; /* kind DIALLED; equal to wire but for that when nothing is translated */
	struct mesh_tuple wire;	   /* kind WIRE */
	struct mesh_addr masq;	   /* client on the other side of the node; zero: not passed on */
	__u64 seen_ns;		   /* last packet, CLOCK_BOOTTIME */
	__u64 verdict_epoch;	   /* live epoch when the policy was asked */
	__u64 packets[2];
	__u32 seq_end[2]; /* TCP: highest sequence number sent, and acknowledged by the other side, */
	__u32 acked[2];	  /* of each direction */
	__u32 ifindex;	  /* where it is tracked */
	__u32 quota;	  /* interface whose mesh_loads counts it; 0: none */
	__u32 relayed;	  /* 1: mesh_relays counts it. Whoever exchanges it for 0 counts it off */
	__u16 flags;	  /* enum mesh_conn_flag */
	__u8 state;	  /* enum mesh_conn_state */
	__u8 fin;	  /* bit 0: client's FIN seen, bit 1: server's, bits 2 and 3: acknowledged */
	__be16 masq_port_be;
	__u8 far[6],
		near[6]; /* L7, LEG: link addresses where the client comes in: the node's and whoever sends there */
	__u16 pad;
};
_Static_assert(sizeof(struct mesh_conn) == 360, "mesh_conn");
#define MESH_TIMER_SIZE 16 /* in front of struct mesh_conn in the maps */

/*
 * Value of mesh_relays: a client that has connections to the parser, and so may be spoken for by it. Key: its address. Legs come in where the
 * client itself does, so that whatever the node has for the one it has for the other.
 */
#define MESH_RELAY_GONE (~0u)
struct mesh_relay {
	struct mesh_addr client; /* as in the key: an element may be recycled while it is read */
	__u32 connections;	 /* established; MESH_RELAY_GONE: it is being deleted */
	__u32 ifindex;		 /* where they come in */
	__u8 far[6], near[6];	 /* link addresses there: the node's, and of whoever sends */
};
_Static_assert(sizeof(struct mesh_relay) == 36, "mesh_relay");

/* The parser's link: link addresses of both ends, which nobody asks for, and names. */
#define MESH_PARSER_LINK "tulle-l7"
#define MESH_PARSER_MAC                            \
	{                                          \
		0x02, 0x74, 0x6c, 0x37, 0x00, 0x02 \
	}
/* Elements of mesh_parsers. Each is filled while the parser is up, with its listeners in turn. */
#define MESH_PARSERS_MAX 64

/* mesh_lapsed: so many connections are ended at a time. */
#define MESH_LAPSED_MAX 4096

/* One of the tc path that is to end: what user space gives to mesh_lapse_conn. */
struct mesh_conn_lapse {
	struct mesh_tuple wire; /* kind WIRE */
	__u64 cookie;		/* of its flow: not a later connection with the same ends */
	__u32 reason;		/* enum mesh_reason */
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_conn_lapse) == 56, "mesh_conn_lapse");

/* First fragments name the ports for the rest. Key and value of mesh_frags. */
struct mesh_frag_key {
	struct mesh_addr source, destination;
	__u32 id;
	__u32 proto;
};
_Static_assert(sizeof(struct mesh_frag_key) == 40, "mesh_frag_key");
struct mesh_frag {
	__be16 source_port_be, destination_port_be;
};
_Static_assert(sizeof(struct mesh_frag) == 4, "mesh_frag");

#ifdef __cplusplus
}
#endif

#endif
