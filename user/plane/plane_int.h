/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside of user/plane: the one struct plane and what its files call of each other. Nobody outside this room includes it.
 *
 *   loader.c  maps, pins, programs, the lock           links.c   programs on their hooks
 *   sizes.c   elements of each map, out of the settings
 *   adopt.c   what an earlier meshd left in the maps    retire.c  grace periods, slots that wait for one
 *   apply.c   difference, commit, undo                  rows.c    keys and versions of their rows
 *   lower.c   a unit -> rows, clusters, tables         names.c   ids and their texts
 *   backends.c  endpoints and pools
 *   pods.c    mesh_netns: who a namespace is            podscan.c the cgroup tree, inotify, processes
 *   access.c  mesh_members: who an address is           programs.c policies     batch.c many elements of a map at once
 *   ifaces.c  programs at interfaces (ifaces.h)        nodelinks.c  the node's own links and addresses
 *   tc.c      one program at one interface              netlink.c, netns.c  what there is
 *   parser_net.c  the parser's network namespace and link
 *   flows.c   flow records       status.c  plane_status
 *   accel.c   who is accelerated                           drain.c    nobody any more
 *   ways.c    what explain asks of both, and of shortcuts
 *   selftest.c  what that means on this kernel           selftest_child.c, selftest_pair.c, selftest_cases.c  measured
 *   shortcuts.c  packets straight from pod to pod        conntrack.c  netfilter's entries
 *   cut.c     connections that policies forbid by now      podsocks.c  iterators in pods      sockdiag.c  sockets destroyed by name
 *   ends.c    connections ended by name      health.c, and what health_int.h names: endpoints watched      endpoints.c  and listed
 */
#ifndef PLANE_PLANE_INT_H
#define PLANE_PLANE_INT_H

#include <pthread.h>

#include "mesh_abi.h"
#include "mesh_shortcut.h"
#include "plane/alloc.h"
#include "plane/ifaces.h"
#include "plane/netns.h"
#include "plane/parser_net.h"
#include "plane/plane.h"
#include "plane/plane_objects.h"
#include "plane/selftest.h"

/* What one unit holds in the maps. Everything else (backends, names) is read off the maps themselves. */
struct lowered {
	uint32_t row_nr, cluster_nr, run_nr;
	uint32_t slot[]; /* rows in the unit's order, clusters, then runs of row tables as {first column, columns} */
};

/* A text that an id stands for. */
struct name {
	char *text; /* owned, NUL-terminated; NULL: free */
	uint32_t id, refs;
	uint64_t idle_since; /* refs == 0: number in the order of becoming idle */
	uint16_t len;
	uint8_t kind; /* enum mesh_name_kind */
	bool written; /* it is in mesh_names */
};

struct names {
	struct name *items; /* [0] is not used */
	uint32_t nr, cap, idle, next_id;
	uint64_t idle_seq;
	uint32_t *pending; /* indexes that are not written yet */
	uint32_t pending_nr, pending_cap;
	uint32_t *spare; /* indexes that are free */
	uint32_t spare_nr, spare_cap;
	struct slotset by_text, by_id;
};

/* A slot or unit that nothing leads to any more, but that a running program may still read. */
enum retired_kind { RETIRED_UNIT, RETIRED_ROW, RETIRED_POD, RETIRED_WORKLOAD, RETIRED_PROGRAM, RETIRED_BACKEND };
struct retired {
	uint64_t tag; /* free once a barrier with a higher number is done */
	enum retired_kind kind;
	uint32_t slot;
	uint32_t leave;	      /* RETIRED_BACKEND: which of the times that it left */
	struct lowered *unit; /* owned */
};

/* A backend that no table holds, with connections left. */
struct parked {
	uint32_t slot, tag;
};

/* A key whose live row says MESH_GONE: deleted from its map after a grace period. */
struct gone {
	struct mesh_key key;
	uint32_t slot;
	uint64_t tag;
};

/* The thread that waits for grace periods, so that no request does. It runs one system call and touches nothing else. */
struct barrier {
	pthread_t thread;
	bool running;
	int map_fd, inner_fd, event_fd;
	pthread_mutex_t mutex; /* of what follows */
	pthread_cond_t cond;
	bool stop;
	uint64_t started, done;	      /* numbers of barriers */
	uint64_t live_at_start, safe; /* epochs; no reader is older than `safe` */
};

/* A live row of mesh_cidrs. */
struct cidr_row {
	struct mesh_key key;
	uint32_t slot;
};

/* A pod cgroup of this node, and the network namespace that was found in it. */
struct pod {
	char *uid;    /* of its cgroup's name; of the client where an annotation names the cgroup; owned */
	char *cgroup; /* path below the mesh cgroup, owned */
	bool seen;    /* in the scan that is going on */
	bool annotated;
	uint32_t client;	       /* index + 1 in the snapshot of the last match, 0: none */
	uint64_t netns_dev, netns_ino; /* 0: none found */
	uint64_t cookie;	       /* 0: none found */
	struct addr *addrs;	       /* what that namespace carries, owned */
	uint32_t addr_nr;
	struct netns_link link; /* that carries the client's address; host 0: it has no end here */
};

/* What mesh_netns says of one cookie now. */
struct enrolled {
	uint64_t cookie;
	uint32_t slot;
	bool gone; /* the row says so: deleted from the hash after a grace period */
	uint64_t tag;
};

/* A change of mesh_netns, prepared under the next epoch. */
struct pod_change {
	uint64_t cookie;
	uint32_t old, slot; /* rows; old 0: none */
	bool gone;
};

struct podset {
	struct pod *items;
	uint32_t nr, cap;
	struct slotset by_uid; /* index + 1 */
	struct enrolled *enrolled;
	uint32_t enrolled_nr, enrolled_cap;
	int inotify_fd, timer_fd, poll_fd, own_netns_fd;
	uint64_t host_dev, host_ino; /* the host's network namespace, never enrolled */
	uint64_t userns_dev, userns_ino;
	const struct client *matched; /* array that pod.client points into; only compared */
	uint32_t matched_nr;
	bool dirty;	     /* mesh_netns was not compared with what was found since */
	uint64_t scanned_ms; /* time of the last scan, 0: never */
	uint32_t retry_ms;   /* until the next look at pods that have processes but no namespace yet */
	uint32_t waiting;    /* how many of them there are */
	uint32_t expected;   /* clients of the snapshot that should be on this node */
};

/* What mesh_members says of one address now. */
struct member {
	uint32_t slot; /* of its row */
	bool gone;     /* the row says so: deleted from the hash after a grace period */
	uint64_t tag;
	const struct u_member *from; /* in plane->access; NULL: adopted */
};

/* A policy program in mesh_terms and mesh_bits. */
struct program {
	uint64_t hash; /* of its u_program; 0: adopted */
	uint32_t term, term_nr, bit, bit_nr;
	bool live, fresh; /* fresh: made by the apply that is going on */
};

struct programs {
	struct program *items; /* [0] is not used */
	uint32_t nr, cap;
	uint32_t *spare;
	uint32_t spare_nr, spare_cap;
	struct slotset by_hash;
	struct runs terms, bits;
};

/* Who destroys sockets: nobody, the iterator that finds them (Linux 6.5), or user space by sock_diag. */
enum cut_by { CUT_BY_LINKS, CUT_BY_PROGRAM, CUT_BY_SOCK_DIAG };

struct member_change {
	uint32_t old, slot; /* rows; old 0: none */
};

/* What an apply does to members and programs. Zeroed is nothing. */
struct access_change {
	struct access *access; /* NULL: nothing changes */
	uint32_t *programs;    /* by index in access->programs: item of plane->programs */
	uint32_t programs_written;
	bool verdicts;		/* what guards an address, or whose it is, is another than before */
	struct member *members; /* all of them afterwards, by address */
	uint32_t member_nr;
	struct member_change *items;
	uint32_t nr, cap, written;
};

/* Whether acceleration is what it is meant to be here. */
enum selftest_state { SELFTEST_WAITS, SELFTEST_RUNS, SELFTEST_PASSED, SELFTEST_REFUSED };
struct selftest {
	enum selftest_state state;
	uint32_t slot;				   /* of its pod row, 0: not enrolled */
	uint32_t slow;				   /* times that the machine was too busy for it */
	int fd;					   /* to the child; -1: there is none */
	uint64_t cookie, began_ms, next_ms, ms;	   /* next: not before */
	char text[SEMANTIC_NR][SELFTEST_TEXT_LEN]; /* as in struct selftest_report */
	char why[160];				   /* it has not passed */
};

struct plane {
	char *cgroup, *pin, *node_name; /* owned */
	uint32_t max_services, max_endpoints, max_pods, max_flows, closed_nr, max_conns, max_pod_conns, max_workloads;
	int lock_fd, cgroup_fd;
	int map_fd[PLANE_MAP_NR];
	uint32_t map_max[PLANE_MAP_NR];
	int prog_fd[PLANE_PROG_NR]; /* -1: this kernel has no such hook */
	uint32_t attach_type[PLANE_PROG_NR];
	int tc_fd[PLANE_TC_NR]; /* -1: not loaded */
	int lapse_conn_fd;	/* the program that ends a connection of the tc path; -1: not loaded */
	int parser_fd;		/* the program that finds sockets in the parser's namespace; -1: not loaded */
	struct parser_net parser;
	uint32_t tc_id[PLANE_TC_NR];
	bool sockets, tc; /* what is to be attached */
	bool traced;	  /* nothing is left to attach for it */
	bool cut;	  /* connections that a policy comes to forbid */
	bool shortcut;	  /* packets straight from pod to pod */
	bool sock_diag;	  /* sockets are cut by it, whatever the kernel has */
	enum cut_by cut_by;
	int iter_fd[PLANE_ITER_NR]; /* links of iterators; -1: this kernel has none, or it is not wanted */
	bool adopted_pins;

	struct marray rows, choices, clusters, backends, tables, tallies, pools, pods_rows, workload_rows, terms, bits,
		control_array;
	struct mesh_control *control;
	struct slots row_slots, cluster_slots, backend_slots, pod_slots, workload_slots;
	uint32_t *backend_refs, *backend_tags; /* tag: the last time that it left, 0: never */
	struct slotset backend_set;
	uint32_t backend_tag;
	struct parked *parked;
	uint32_t parked_nr, parked_cap;
	struct slots pool_slots;
	uint32_t *pool_refs;
	struct slotset pool_set; /* by cluster_id */
	struct runs table_runs;
	struct runs runs;
	struct names names;

	uint64_t next_epoch;
	struct snapshot *snapshot;     /* live; NULL before the first apply */
	uint64_t applied;	       /* how often there was another one */
	struct lowered **lowered;      /* of snapshot->units, same index */
	struct snapshot *old_snapshot; /* to be dropped when idle */
	struct lowered *adopted;       /* what an earlier meshd left live; NULL after the first apply */
	struct cidr_row *cidrs;
	uint32_t cidr_nr;

	struct barrier barrier;
	struct retired *retired; /* by tag */
	uint32_t retired_head, retired_nr, retired_cap;
	struct gone *gone; /* sorted by key */
	uint32_t gone_nr;

	struct access *access;	/* live; NULL before the first apply */
	struct member *members; /* by address */
	uint32_t member_nr, members_gone;
	struct programs programs;

	struct podset pods;
	struct ifaces ifaces;
	struct ring_buffer *offers; /* of mesh_offers; NULL: nobody makes any */
	struct census *census;
	int conntrack_fd;
	struct health *health; /* NULL: nobody watches */
	struct parser *meshl7; /* NULL: nobody looks into HTTP */
	struct {
		enum accelerate mode; /* of pods that nothing else is said of */
		bool loopback, parser;
		uint32_t message, flow, pod, max; /* as in settings.h */
		uint32_t waiting;		  /* control->waiting when ends were last looked after */
		bool due;			  /* there is, or may be, more to do */
	} accel;
	struct selftest selftest;
};

/* Grows *items (elements of `size` bytes) so that nr + 1 fit. */
void *plane_grow(void *items, uint32_t nr, uint32_t *cap, size_t size);
/* 0 or -errno of a libbpf call that may answer either way. */
int plane_errno(int rc);

/* ---- sizes.c ---- */
void plane_sizes(struct plane *p, const struct settings *s);
int plane_check_settings(const struct settings *s, struct buf *err); /* 0, or -EINVAL with a sentence */

/* ---- retire.c ---- */
int barrier_init(struct plane *p); /* 0 or -errno */
void barrier_release(struct plane *p);
void retire(struct plane *p, enum retired_kind kind, uint32_t slot, struct lowered *unit);
/* Starts a barrier when something waits for one and none is under way. */
void barrier_kick(struct plane *p);
/* Frees what is due. */
void reap(struct plane *p);
/* Waits for grace periods until nothing is left to free; true when anything was freed. */
bool reclaim(struct plane *p);
uint64_t barrier_safe(struct plane *p); /* no running reader took an epoch before this one */
void barrier_wait(struct plane *p);	/* one whole grace period from now */
uint64_t retire_tag(struct plane *p);

/* ---- names.c ---- */
void names_init(struct plane *p);
void names_release(struct plane *p);
int names_adopt(struct plane *p); /* reads mesh_names: 0 or -errno */
/* Id of a text, with one reference more. Never 0. Texts over MESH_NAME_LEN - 1 are cut and end in their hash. */
uint32_t name_ref(struct plane *p, enum mesh_name_kind kind, struct str text);
void name_hold(struct plane *p, uint32_t id); /* unknown ids and 0 are fine */
void name_drop(struct plane *p, uint32_t id);
struct str name_text(const struct plane *p, uint32_t id); /* empty: unknown */
int names_flush(struct plane *p, struct buf *err);	  /* writes what is pending: 0 or -errno */
void names_trim(struct plane *p);

/* ---- lower.c ---- */
struct mesh_key lower_key(const struct u_row *r);
/* Writes everything of the unit into free slots under `epoch`, unreachable still. 0 or -errno with a sentence. */
int lower_unit(struct plane *p, const struct unit *u, uint64_t epoch, struct lowered **ret, struct buf *err);
/* Gives all of it back at once; only for what no reader can reach. */
void lowered_free(struct plane *p, struct lowered *l);
void row_free(struct plane *p, uint32_t slot);
void pod_row_free(struct plane *p, uint32_t slot);
struct mesh_row *row_at(struct plane *p, uint32_t slot);
struct mesh_pod *pod_row_at(struct plane *p, uint32_t slot);

/* ---- backends.c ---- */
void backends_init(struct plane *p);
void backends_release(struct plane *p);
struct mesh_backend *backend_at(const struct plane *p, uint32_t slot);
struct mesh_tally *tally_at(const struct plane *p, uint32_t slot);
struct mesh_pool *pool_at(const struct plane *p, uint32_t slot);
/* The pool of a cluster, 0: none. */
uint32_t pool_find(struct plane *p, struct str name);
/* The same, made when there is none, with a reference; 0: the table is full. */
uint32_t pool_get(struct plane *p, const struct u_cluster *c);
void pool_hold(struct plane *p, uint32_t slot);
void pool_drop(struct plane *p, uint32_t slot);
bool pool_adopt(struct plane *p, uint32_t slot); /* takes a reference; false: there is no such pool */
/* The policies of the unit's clusters, just before its rows become live. */
void pools_commit(struct plane *p, const struct unit *u);
/* Slot of an endpoint, without a reference; 0: the table is full. */
uint32_t backend_get(struct plane *p, const struct unit *u, const struct u_endpoint *e, uint8_t proto, uint32_t pool);
/* The same for one that is there, or that has connections left; 0: neither. */
uint32_t backend_find(const struct plane *p, uint32_t pool, const struct addr *addr, uint16_t port, uint8_t proto);
void backend_hold(struct plane *p, uint32_t slot);
void backend_drop(struct plane *p, uint32_t slot);
void backend_unused(struct plane *p, uint32_t slot);
bool backend_adopt(struct plane *p, uint32_t slot); /* first sight of it; false: there is no such backend */
int backends_adopt_left(struct plane *p);	    /* 0 or -errno */
/* Its grace period is over: it is freed by the next backends_reap() that finds no connection of it. */
void backend_park(struct plane *p, uint32_t slot, uint32_t tag);
void backends_reap(struct plane *p);

/* ---- access.c ---- */
struct mesh_workload *workload_at(struct plane *p, uint32_t slot);
void workload_free(struct plane *p, uint32_t slot);
/* What mesh_members and the programs must say under `a`, with `pods` about to be enrolled; rows are written under `epoch`, unreachable
 * still. Nothing to do: c->access stays NULL. 0 or -errno with a sentence. */
int access_prepare(struct plane *p, struct access *a, uint64_t epoch, const struct pod_change *pods, uint32_t pod_nr,
		   struct access_change *c, struct buf *err);
int access_write(struct plane *p, struct access_change *c, struct buf *err);
/* `reachable`: readers may have met what was written. */
void access_undo(struct plane *p, struct access_change *c, bool reachable);
void access_commit(struct plane *p, struct access_change *c);
void access_change_release(struct access_change *c);
/* Deletes addresses whose grace period ended with barrier `done`. */
void members_reap(struct plane *p, uint64_t done);

/* ---- programs.c ---- */
void programs_init(struct plane *p);
void programs_release(struct plane *p);
int programs_prepare(struct plane *p, const struct access *a, uint32_t **ret, uint32_t *ret_written, struct buf *err);
void programs_undo(struct plane *p, bool reachable);
void programs_commit(struct plane *p, const uint32_t *used, uint32_t nr);
void program_free(struct plane *p, uint32_t at);
/* Takes over the program that begins at term `first`; what is wrong with it, NULL: nothing. */
const char *program_adopt(struct plane *p, uint32_t first);

/* ---- batch.c ---- */
typedef void (*batch_fn)(void *data, const void *key, const void *value);
/* *ret_written: how many the map holds, also on failure. 0 or -errno. */
int batch_write(const struct plane *p, enum plane_map_id map, const void *keys, const void *values, uint32_t nr,
		uint32_t *ret_written);
void batch_delete(const struct plane *p, enum plane_map_id map, const void *keys, size_t key_size, uint32_t nr);
int batch_each(const struct plane *p, enum plane_map_id map, size_t key_size, size_t value_size, batch_fn fn,
	       void *data);

/* ---- adopt.c ---- */
/* Takes over what the pinned maps hold: rolls back what was never committed, counts what is in use. 0 or -errno. */
int adopt(struct plane *p, struct buf *err);

/* ---- rows.c ---- */
/* What becomes of one key: slots of its row now and then, 0: none. */
struct row_change {
	struct mesh_key key;
	uint32_t old, new;
	bool old_gone; /* `old` is in plane.gone */
	bool new_gone; /* `new` was made here, for a key that is removed */
};

/* The keys that an apply touches. Zeroed is empty. */
struct rowset {
	struct row_change *items;
	uint32_t nr, cap;
	uint32_t written;	/* items whose hash value was changed */
	struct cidr_row *cidrs; /* live networks afterwards */
	uint32_t cidr_nr;
	bool cidrs_change;
};

void rowset_release(struct rowset *r);
void rowset_old(struct plane *p, struct rowset *r, const struct lowered *l);
void rowset_new(struct plane *p, struct rowset *r, const struct lowered *l);
/* Joins old and new rows of a key, links versions, makes rows for keys that go. May wait for a grace period. 0 or -errno. */
int rowset_prepare(struct plane *p, struct rowset *r, uint64_t epoch, struct buf *err);
int rowset_write(struct plane *p, struct rowset *r, struct buf *err);
/* Points what was written back to the old rows, and gives up the rows that rowset_prepare made. */
void rowset_undo(struct plane *p, struct rowset *r);
void rowset_commit(struct plane *p, struct rowset *r);
void cidr_key(const struct mesh_key *key, struct mesh_cidr_key *ret);

/* ---- apply.c ---- */
/* Makes what the last scan of pods found live, under an epoch of its own. 0 or -errno. */
int apply_pods(struct plane *p, uint32_t *ret_changed, struct buf *err);

/* ---- pods.c ---- */
/* One of the addresses is the client's. */
bool pod_carries(const struct addr *addrs, uint32_t nr, const struct client *c);
/* What mesh_netns must say under `s`: change set in *ret (caller frees), rows written under `epoch`. 0 or -errno. */
int pods_prepare(struct plane *p, const struct snapshot *s, uint64_t epoch, struct pod_change **ret, uint32_t *ret_nr,
		 struct buf *err);
/* The pod at this index is to be enrolled: it has a client, and its namespace carries one of the client's addresses. */
bool pod_enrols(const struct podset *s, uint32_t at, const struct snapshot *snap);
int pods_write(struct plane *p, const struct pod_change *c, uint32_t nr, struct buf *err);
void pods_undo(struct plane *p, const struct pod_change *c, uint32_t nr, bool written);
void pods_commit(struct plane *p, const struct pod_change *c, uint32_t nr);
/* Deletes cookies whose grace period ended with barrier `done`. */
void pods_reap(struct plane *p, uint64_t done);

/* ---- podscan.c ---- */
int podscan_init(struct plane *p); /* 0 or -errno */
void podscan_release(struct plane *p);
/* Looks for pod cgroups again, and watches what it walked over. */
void podscan_tree(struct plane *p);
/* Connects pods and clients of `s`, and looks into the processes of those that have no namespace yet, or of all. */
void podscan_match(struct plane *p, const struct snapshot *s, bool all);
/* An fd of the network namespace of the pod at this index, -1: it is gone. The caller closes it. */
int podscan_netns(struct plane *p, uint32_t at);
/* The uid in a pod cgroup's name ("pod<uid>", "...-pod<uid with _ for ->.slice"), to be freed; NULL: not one. */
char *podscan_uid(const char *dir_name);

/* The id of the pod's cgroup; 0: it is not there. */
uint64_t podscan_cgroup(struct plane *p, const struct client *c);

/* ---- hostpods.c ---- */
/* mesh_host_pods: which cgroups are those of this node's pods on its own network. */
void hostpods_sync(struct plane *p, const struct snapshot *s);

/* ---- podsocks.c ---- */
struct podsocks {
	const enum plane_iter_id *ids;
	uint32_t id_nr;
	bool (*wants)(void *data, uint64_t netns_cookie); /* NULL: all */
	bool parser;					  /* where the parser is, too */
	/* What one iterator has written in one pod, when it is through: 0 or -errno. NULL: they write nothing. */
	int (*wrote)(void *data, int netns_fd, const char *out, size_t len);
	void *data;
};
/* Runs iterators in the network namespaces of the pods that are wanted: each over all pods, before the next. 0, or the last -errno; pods
 * that are gone are none. */
int podsocks_run(struct plane *p, const struct podsocks *what);

/* ---- shortcuts.c ---- */
int shortcuts_init(struct plane *p); /* 0 or -errno */
void shortcuts_release(struct plane *p);
/* This kernel lets programs keep netfilter's entries. */
bool shortcuts_keep(void);
/* Takes what the programs offer. */
void shortcuts_event(struct plane *p);
/* Nothing of others is at the link of a pod that a packet which goes straight would not meet: programs, a queue. */
bool shortcut_alone(const struct plane *p, uint32_t ifindex);
/* What of a flow has gone straight, both ways, as far as is remembered. */
void shortcut_counts(const struct plane *p, const struct mesh_flow *f, struct shortcut_counts *ret);
/* Member of the status object. */
void shortcuts_json(struct json *j, const struct plane *p);

/* ---- flows.c ---- */
typedef bool (*flow_is)(void *data, const struct mesh_flow *flow);
/* Every live flow; `wire` is NULL for those of sockets. The counters of those that `fresh` picks are brought up to date first, as are
 * others of the same pods. 0 or -errno. */
int flows_live(struct plane *p, flow_is fresh,
	       void (*fn)(void *data, const struct mesh_flow *flow, const struct mesh_tuple *wire), void *data);

/* ---- ends.c ---- */
/* A connection whose time is up. */
struct end {
	uint64_t cookie, netns_cookie;
	struct mesh_tuple wire; /* of the tc path */
	bool conn;
	uint32_t reason; /* enum mesh_reason */
};
/* Ends them, MESH_LAPSED_MAX at most: sockets of pods at once, what only the links see at its next packet. 0, or the last -errno. */
int ends_run(struct plane *p, const struct end *ends, uint32_t nr);

/* ---- sockdiag.c ---- */
/* This kernel destroys sockets on request (CONFIG_INET_DIAG_DESTROY, and the handlers of TCP and UDP). */
bool sockdiag_destroys(void);
/* Destroys those sockets of a network namespace. A socket that is gone by now is none. 0, or the last -errno. */
int sockdiag_destroy(int own_netns_fd, int netns_fd, const struct mesh_victim *v, size_t nr);

/* ---- accel.c ---- */
uint32_t accel_mode(const struct plane *p, const struct client *c); /* enum mesh_accelerate */
void accel_json(struct json *j, struct plane *p);
/* An end of a connection: its socket's cookie, and the words for where it stands; why is NULL when nothing speaks against it. */
struct accel_end {
	uint64_t cookie;
	const char *state, *why;
};
struct accel_ends {
	struct accel_end *items; /* sorted by cookie; owned */
	uint32_t nr, cap;
};
/* Those of all pods, added to *ret. */
void accel_ends_read(struct plane *p, struct accel_ends *ret);
const struct accel_end *accel_ends_find(const struct accel_ends *ends, uint64_t cookie); /* NULL: there is none */
/* What the programs are to know of the settings. */
void accel_init(struct plane *p);
bool accel_can(const struct plane *p); /* this kernel has what it takes, and the settings do */
/* After the pods changed, or their modes: whether anything is to be observed at all, and who has to go. */
void accel_sync(struct plane *p);
/* Takes ends out that send nothing, and puts those in that no link sees. */
void accel_idle(struct plane *p);

/* ---- selftest.c ---- */
/* Begins it, when something is to be accelerated and it was not run yet. */
void selftest_idle(struct plane *p);
/* Takes what the child says. */
void selftest_event(struct plane *p);
bool selftest_over(const struct plane *p);
const char *selftest_refusal(
	const struct plane *p); /* why nothing is accelerated on this kernel; NULL: it may be, so far */
void selftest_json(struct json *j, const struct plane *p);
void selftest_release(struct plane *p);

/* ---- drain.c ---- */
#define ACCEL_ITER_PIN "iter_ends"
/* Pins the iterator that drains, for whoever unloads. 0 or -errno. */
int accel_pin(struct plane *p, struct buf *err);
/* Nothing goes past TCP any more, and what did is read. 0; -EBUSY: some readers have not read it yet; or -errno. */
int accel_drain(const char *pin, struct buf *err);

/* ---- cut.c ---- */
/* Before the programs are loaded: chooses who destroys sockets. */
void cut_choose(struct plane *p);
const char *cut_text(const struct plane *p); /* for status; NULL: nothing is cut */
/* Before the first apply: nothing is cut for what an earlier meshd left. */
void cut_init(struct plane *p);
/* The policies of `epoch`, which is live by now, may forbid connections that are open: those are ended. */
void cut_forbidden(struct plane *p, uint64_t epoch);

/* ---- endpoints.c ---- */
/* Member of the status object. */
void endpoints_json(struct json *j, const struct plane *p);

/* ---- health.c ---- */
/* Looks at the live rules now. */
void health_rules(struct health *h);

/* ---- checks.c ---- */
/* What the last active check of an endpoint said; NULL: nobody checks it. */
const char *check_result(const struct health *h, uint32_t backend);

/* ---- parser.c ---- */
/* Gives meshl7 the rules of what is about to be live as `epoch`, and waits a little until they hold. 0; or -errno with a sentence: it
 * refuses them, and goes on by those before. That it is down, or slow, is no error. */
int parser_rules(struct parser *p, const struct snapshot *s, uint64_t epoch, struct buf *err);

/* ---- links.c ---- */
#define PLANE_PATH_LEN 4096
/* Adds a sentence to err and returns rc. */
int plane_fail(struct buf *err, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "<pin>/<prefix><name><suffix>" in out, which has PLANE_PATH_LEN bytes; returns out. */
const char *plane_pin_path(const char *pin, const char *prefix, const char *name, const char *suffix, char *out);
/* Something is attached that a pin tells of. */
bool links_pinned(const char *pin);
/* Puts every program of the sockets on its hook, or takes it off where the settings say so: 0 or -errno with a sentence. */
int links_attach(struct plane *p, struct buf *err);
/* Attaches the programs that see every recvmsg() and sendmsg() of the host, from the first UDP service or the first pod that may be
 * accelerated on. 0 or -errno. */
int links_trace(struct plane *p, struct buf *err);
/* Takes everything off its hooks, connect first, even if somebody else holds a link too. */
void links_remove(const char *pin);
/* Number of programs of others that run for the mesh cgroup at the connect hooks, or -errno. */
int links_foreign(struct plane *p);

#endif
