/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the rule store share: rules.c (transactions), rules_files.c (the directory), rules_journal.c (applied documents on
 * disk). Nobody else includes it. */
#ifndef PLANE_RULES_LOCAL_H
#define PLANE_RULES_LOCAL_H

#include "plane/journal.h"
#include "plane/rules.h"
#include "plane/rulesdir.h"

/* Diags of one failure that are logged and kept for status; the rest are counted. */
#define LOGGED_MAX 20

/* A document of the journal that could not be read; it blocks every compile until it is applied anew or deleted. */
struct stuck {
	char *name;
	struct buf text, vips, why;
	bool gone; /* replaced or deleted by the transaction that runs */
};

struct rules {
	const struct settings *settings;
	struct plane *plane;
	struct snapshot_options options;
	struct journal *journal;
	struct model *model;
	struct snapshot *live;
	struct rules_files files; /* what the model holds of the rules directory */
	struct stuck *stuck;
	uint32_t stuck_nr;
	uint32_t applied_nr, warnings;
	struct plane_applied last;
	int64_t last_at, error_at; /* seconds since 1970; 0: never */
	struct buf error;	   /* why the directory or the start failed; empty: it did not */
	bool trim;
};

struct step {
	struct doc *put, *old; /* references; either may be NULL */
};

struct txn {
	struct rules *rules;
	struct step *steps;
	uint32_t nr, cap;
	struct rules_files files; /* new list of files */
	bool has_files;
	uint64_t text; /* bytes */
};

/* ---- rules.c ---- */
/* Returns the document that was replaced, borrowed. */
struct doc *txn_put(struct txn *t, struct doc *d);
void txn_remove(struct txn *t, struct doc *d);
/* One diag on one line, without a newline. */
void diag_line(struct buf *out, const struct diag *d);

/* ---- rules_files.c ---- */
/* Brings the model up to the rules directory. 0; -EINVAL with errors in `b` or a sentence in err. */
int txn_directory(struct txn *t, struct batch *b, struct buf *err);

/* ---- rules_journal.c ---- */
/* "<kind>/<namespace>/<name>", as the journal names entries; see rules_entry_name(). */
void entry_name(struct buf *out, const struct doc *d);
/* The API server keeps a Service's addresses when an update names none. True when `d`, which is not shared yet, took some over; `from`
 * may be NULL. */
bool vips_take_over(struct doc *d, const struct doc *from);
void vips_print(struct buf *out, const struct doc *d);
/* journal_fn: one entry at start goes into the model, or among the stuck ones. */
struct loading {
	struct rules *rules;
	struct batch batch;
};
void entry_load(void *data, const struct journal_entry *e);
/* journal_each_fn: all that the journal must hold. */
void entry_each(void *data, void (*add)(void *, const struct journal_entry *), void *to);
/* The running transaction replaces or deletes this entry. */
void stuck_mark(struct rules *r, struct str name);
/* Some are left that the running transaction does not replace: err names them and says why. */
bool stuck_left(const struct rules *r, struct buf *err);
/* Forgets those that were marked; or takes the marks back. */
void stuck_drop(struct rules *r);
void stuck_unmark(struct rules *r);

#endif
