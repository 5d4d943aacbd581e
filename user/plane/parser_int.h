/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside of parser.h: parser.c decides who runs, parser_proc.c is one process and what is said with it, parser_left.c those that an earlier meshd
 * has left, parser_rules.c and parser_metrics.c what they are given and what they count.
 */
#ifndef PLANE_PARSER_INT_H
#define PLANE_PARSER_INT_H

#include "mesh_l7.h"
#include "plane/parser.h"
#include "plane/parser_metrics.h"

enum proc_state { PROC_STARTING, PROC_SERVING, PROC_DRAINING };

/* A process that this meshd has started. */
struct parser_proc {
	struct parser *parser;
	struct parser_proc *next;
	pid_t pid;
	uint64_t ticks; /* when it began, as /proc has it: what tells two of one pid apart */
	int link;	/* -1: it has closed its end, and will be gone */
	struct loop_io *io;
	struct loop_timer *patience; /* NULL: nothing is due */
	enum proc_state state;
	uint64_t started_ms;
	uint64_t epoch;		    /* of the rules that it has */
	bool refused;		    /* the last rules that it was given */
	struct buf why;		    /* it refused them */
	uint32_t ejected;	    /* endpoints, so far */
	uint32_t lines, lines_more; /* of the log for what it said since `lines_ms`, and what was left out */
	uint64_t lines_ms;
	struct mesh_l7_stats *stats;
	size_t stats_len;
};

/* A process of an earlier meshd. */
struct parser_left {
	struct parser *parser;
	struct parser_left *next;
	pid_t pid;
	uint64_t ticks;
	int pidfd;
	bool draining; /* it was told to */
	struct loop_io *io;
};

#define CRASHES_MAX 5

struct parser {
	struct loop *loop;
	const struct settings *settings;
	struct plane *plane;
	uid_t uid;
	gid_t gid;
	char *program; /* owned */
	int netns_fd;  /* -1: not open */
	int *listeners; /* one for each worker, owned; they stay open here, so that what waits in them survives a process */
	uint32_t worker_nr;
	bool listening, published;
	int log_fd;		   /* -1: nobody wants it, or it cannot be opened */
	struct buf rules;	   /* struct mesh_http; empty: there were none yet */
	uint64_t epoch;		   /* of these */
	struct parser_proc *procs; /* newest first */
	struct parser_left *left;
	uint64_t crashes_ms[CRASHES_MAX]; /* the last ones, in turn */
	uint64_t crash_nr, restart_nr;
	bool given_up; /* it crashes again and again: connections are not led to it */
	struct loop_timer *retry;
	struct buf why;	     /* the last failure; empty: there was none */
	struct metrics past; /* of processes that are gone */
};

/* ---- parser.c ---- */
void parser_ready(struct parser_proc *c); /* it serves */
void parser_failed(struct parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- parser_proc.c ---- */
/* A process that has been told everything it needs; it stands first in p->procs. NULL with a sentence. */
struct parser_proc *proc_start(struct parser *p, struct buf *err);
int proc_send_rules(struct parser_proc *c, const struct buf *rules, uint64_t epoch);
void proc_send_log(struct parser_proc *c);
void proc_drain(struct parser_proc *c);
/* Reads what it says until `done`, at most `ms`. */
bool proc_wait(struct parser_proc *c, bool (*done)(const struct parser_proc *c), uint64_t ms);
void proc_kill(struct parser_proc *c);
/* Takes it out of p->procs; what it has counted is kept. */
void proc_free(struct parser_proc *c);

/* ---- parser_left.c ---- */
/* When the process began, in clock ticks since boot; 0: there is none. */
uint64_t proc_ticks(pid_t pid);
/* Notes who runs, for the next meshd. */
void left_note(const struct parser *p);
/* Finds those that run by the note of an earlier meshd. */
void left_find(struct parser *p);
/* The network namespace of one of them; -1: there is none. The caller closes it. */
int left_netns(const struct parser *p);
void left_drain(struct parser *p);
void left_kill(const struct parser *p);
void left_free(struct parser *p);

#endif
