/* SPDX-License-Identifier: BSD-2-Clause */
/* What the verbs of meshctl share: the tables of verbs and flags, the parsed command line, files read, the way to meshd. */
#ifndef MESHCTL_MESHCTL_H
#define MESHCTL_MESHCTL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "base/wire.h"

#define DEFAULT_SOCKET "/run/tulle/meshd.sock"

/* Exit codes, documented in meshctl(8); the daemon's replies carry the same numbers. */
enum exit_code {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1, /* refused, not found, different */
	EXIT_USAGE = 2,	  /* wrong command line, or a file or the socket cannot be read or written */
	EXIT_DAEMON = 3,  /* meshd failed, or its answer made no sense */
	EXIT_NR
};

/* Flags: X(id, letter or 0, name, value or NULL, help). A flag has one meaning in all verbs that take it. */
#define FLAGS(X)                                                                                               \
	X(FILENAME, 'f', "filename", "PATH",                                                                   \
	  "file, directory (*.yaml *.yml *.json below it), or - for standard input")                           \
	X(OUTPUT, 'o', "output", "FORMAT", "how to print")                                                     \
	X(NAMESPACE, 'n', "namespace", "NAME", "namespace to look in (default: default)")                      \
	X(ALL_NAMESPACES, 'A', "all-namespaces", NULL, "look in all namespaces")                               \
	X(DRY_RUN, 0, "dry-run", NULL, "say what would happen, change nothing")                                \
	X(PROTOCOL, 0, "protocol", "tcp|udp", "protocol of the connection (default: tcp)")                     \
	X(WORKLOAD, 0, "workload", "NAME", "only flows from or to this pod: name or namespace/name")           \
	X(SERVICE, 0, "service", "NAME", "only flows to this service: name or namespace/name")                 \
	X(STATE, 0, "state", "STATE", "only flows in this state: open, closed, or a state's name")             \
	X(LIVE, 0, "live", NULL, "only flows that are still open")                                             \
	X(CLUSTER_DOMAIN, 0, "cluster-domain", "DOMAIN", "DNS domain of the cluster (default: cluster.local)") \
	X(ROOT_NAMESPACE, 0, "root-namespace", "NAME", "namespace of mesh-wide rules (default: istio-system)") \
	X(NODE_NAME, 0, "node-name", "NAME", "node whose endpoints are local (default: none is)")              \
	X(OUTBOUND, 0, "outbound-traffic-policy", "ALLOW_ANY|REGISTRY_ONLY",                                   \
	  "what pods may reach whose Sidecar does not say (default: ALLOW_ANY)")                               \
	X(SOCKET, 0, "socket", "PATH", "control socket of meshd (default: " DEFAULT_SOCKET ")")                \
	X(HELP, 'h', "help", NULL, "print this help")

#define X(id, ...) FLAG_##id,
enum flag_id { FLAGS(X) FLAG_NR };
#undef X
#define FLAG(id) (1u << FLAG_##id)

struct flag {
	char letter; /* 0: none */
	const char *name;
	const char *value; /* NULL: takes none */
	const char *help;
};

extern const struct flag flags[FLAG_NR];

/* The command line of one verb. All texts are borrowed from argv. */
struct args {
	struct arena arena;
	uint32_t given;		    /* bits of FLAG() */
	const char *value[FLAG_NR]; /* last value of each flag; NULL: not given */
	const char **paths;	    /* of -f, in order, then words that are paths */
	uint32_t path_nr;
	const char **words; /* what is not a flag */
	uint32_t word_nr;
	bool colour; /* standard output is a terminal that wants it */
};

struct verb {
	const char *name;
	const char *synopsis; /* behind the name */
	const char *help;     /* one line */
	uint32_t flags;	      /* bits of FLAG(), besides SOCKET and HELP */
	const char *outputs;  /* values of -o, separated by '|' */
	/* With -f, words beyond this number are more paths; without it they stay words. */
	uint32_t words_before_paths;
	int (*run)(struct args *a); /* returns an exit code */
};

extern const struct verb verbs[]; /* ends with a row without a name */

int verb_check(struct args *a);
int verb_apply(struct args *a);
int verb_delete(struct args *a);
int verb_diff(struct args *a);
int verb_get(struct args *a);
int verb_explain(struct args *a);
int verb_flows(struct args *a);
int verb_endpoints(struct args *a);
int verb_parser(struct args *a);
int verb_metrics(struct args *a);
int verb_status(struct args *a);
int verb_version(struct args *a);
int verb_completion(struct args *a);
int verb_help(struct args *a);

/* "error: ..." on standard error; returns EXIT_USAGE, so that a verb can return it. */
int usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* All of it, or a message and EXIT_USAGE. */
int print_out(struct str text);

/* ---- input.c ---- */
struct input {
	struct str name; /* as the user wrote it; "-": standard input */
	struct buf text;
};

struct inputs {
	struct arena arena;
	struct input *v;
	uint32_t nr, cap;
};

/* Reads all paths of the command line. An exit code; at EXIT_USAGE a message was printed. */
int inputs_read(struct inputs *in, const struct args *a);
void inputs_release(struct inputs *in);

/* ---- client.c ---- */
/* A request of this type with the parts that all requests carry. */
void request_begin(struct buf *b, const struct args *a, enum wire_type type);
void request_text(struct buf *b, const char *name, const char *value); /* nothing when value is NULL */
void request_flag(struct buf *b, const struct args *a, enum flag_id flag);
void request_inputs(struct buf *b, const struct inputs *in);

/*
 * Sends the request, waits for the reply. An exit code: the one of the reply, EXIT_USAGE when meshd cannot be reached,
 * EXIT_DAEMON when it answers nonsense. out and err take what meshd wrote; messages about the connection go to err.
 */
int request_send(const struct args *a, struct buf *request, struct buf *out, struct buf *err);
/* Sends, prints both texts, releases the request. */
int request_run(const struct args *a, struct buf *request);

/* ---- get.c ---- */
/* Parts "kind", "namespace" and "name" from the words KIND NAME... or KIND/NAME... An exit code; messages name `verb`. */
int request_resources(struct buf *b, const struct args *a, const char *verb, uint32_t names_min);

/* ---- flows.c ---- */
/* The i-th value of --state; NULL: there are no more. */
const char *flow_state(uint32_t i);

/* ---- progress.c ---- */
/* From two seconds on, a line with the time it takes so far; only when standard error is a terminal. */
void progress_start(const char *what);
void progress_stop(void);

/* ---- check.c ---- */
struct batch;
struct model;
struct snapshot;
struct snapshot_options;

/* The whole compiler, without a daemon: inputs -> batch -> model -> snapshot. *ret_snapshot is NULL when anything is refused. */
struct compiled {
	struct batch *batch;
	struct model *model;
	struct snapshot *snapshot;
};

void compile(const struct inputs *in, const struct snapshot_options *opts, struct compiled *ret);
void compiled_release(struct compiled *c);
struct snapshot_options compile_options(const struct args *a);

#endif
