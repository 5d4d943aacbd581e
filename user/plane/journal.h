/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The journal of applied documents: <state>/applied.log, a sequence of WIRE_JOURNAL frames (base/wire.h), one a change. An
 * entry's name is "<kind>/<namespace>/<name>". What a reply promised survives the death of meshd at once, and of the machine
 * after the kernel's write-back; rewritten files are synced before they replace the old one.
 */
#ifndef PLANE_JOURNAL_H
#define PLANE_JOURNAL_H

#include "base/str.h"

struct journal;

struct journal_entry {
	struct str name, text;
	struct str vips; /* addresses that a Service took over, separated by spaces; may be empty */
};

typedef void (*journal_fn)(void *data, const struct journal_entry *e);

/*
 * Opens (creates) the journal in directory `state`, cuts off a torn tail (with a warning in the log), calls fn for each live entry,
 * oldest first, and rewrites the file when it holds anything else. Texts live until fn returns. Locks the directory until
 * journal_close. 0 or: -EBUSY another meshd has it; -errno. err gets a sentence.
 */
int journal_open(const char *state, journal_fn fn, void *data, struct journal **ret, struct buf *err);
void journal_close(struct journal *j); /* NULL is fine */

/* One change: any number of put and del, then commit (one write) or drop. dead: bytes of the entry's text that this one replaces. */
void journal_put(struct journal *j, const struct journal_entry *e, uint64_t dead);
void journal_del(struct journal *j, struct str name, uint64_t dead);
/* 0 or -errno; -E2BIG: more than a frame holds. The file is as before when it fails. */
int journal_commit(struct journal *j);
void journal_drop(struct journal *j);
/* Takes back what the last journal_commit() wrote. */
void journal_undo(struct journal *j);

/* More than three quarters of a file of some size are dead: rewrite it. `each` calls add for every live entry. */
bool journal_wants_compaction(const struct journal *j);
typedef void (*journal_each_fn)(void *data, void (*add)(void *to, const struct journal_entry *e), void *to);
int journal_compact(struct journal *j, journal_each_fn each, void *data);

#endif
