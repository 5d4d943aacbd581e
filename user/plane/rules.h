/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rule store: the model of all documents that are to be live (the rules directory's and the applied ones), and the snapshot
 * that is. Every change is a transaction: documents go into the model, the model is compiled, the journal is written, the
 * data path takes the snapshot; when any step fails all of them are taken back, and what was live stays live.
 */
#ifndef PLANE_RULES_H
#define PLANE_RULES_H

#include "config/snapshot.h"
#include "plane/plane.h"
#include "plane/settings.h"

struct rules;

enum change { CHANGE_NONE, CHANGE_CREATED, CHANGE_CONFIGURED };

/* What one transaction did or, in a dry run, would do. */
struct rules_result {
	enum change *changes; /* of an apply: one a row of the batch */
	struct plane_applied applied;
	bool touched;		 /* anything changed at all */
	struct snapshot *before; /* NULL when nothing was live yet */
	struct snapshot *after;	 /* NULL when refused */
	struct buf err;		 /* why, when it is not in the batch's diags */
};

void rules_result_release(struct rules_result *r);

/* Opens the journal; settings and plane are borrowed. 0 or -errno with a sentence in err. */
int rules_new(const struct settings *s, struct plane *p, struct rules **ret, struct buf *err);
void rules_free(struct rules *r); /* NULL is fine */

/*
 * Start: compiles the journal's documents and the rules directory, and makes them live. When they do not compile the rules that
 * are pinned stay, the errors are logged and kept for status, and each later change tries again with all that is there.
 */
void rules_start(struct rules *r);
/* Reads the rules directory again: one transaction. Errors are logged and kept for status. */
void rules_reread(struct rules *r);

/*
 * Applies the documents of `b`, which were read with LAYER_APPLIED. 0; -EINVAL: refused, with errors in b->diags or a sentence
 * in ret->err; another -errno: failed, with a sentence in ret->err. Nothing changed unless 0.
 */
int rules_apply(struct rules *r, struct batch *b, bool dry_run, struct rules_result *ret);

/* One applied document that is to go. */
struct rules_victim {
	struct doc *doc; /* of the model; NULL: one that cannot be read any more, known by its name alone */
	struct str name; /* "<kind>/<namespace>/<name>" */
};

/* Is there an applied document of this name that cannot be read any more? */
bool rules_is_stuck(const struct rules *r, struct str name);
/* What the journal calls an applied document, appended. */
void rules_entry_name(struct buf *out, enum kind kind, struct str kind_name, struct str ns, struct str name);
/* Deletes applied documents; errors that follow from it go to b->diags. As rules_apply. */
int rules_delete(struct rules *r, const struct rules_victim *v, uint32_t nr, struct batch *b, struct rules_result *ret);

const struct model *rules_model(const struct rules *r);
/* NULL: nothing that this process compiled is live yet. */
const struct snapshot *rules_live(const struct rules *r);
const struct snapshot_options *rules_options(const struct rules *r);
/* Documents, rows, last change, last error, as a JSON object. */
void rules_status(const struct rules *r, struct json *j);
/* Upkeep that may wait: rewrites a journal that is mostly dead, gives freed memory back to the system. */
void rules_idle(struct rules *r);
/* Much memory was used and freed; rules_idle() will give it back. */
void rules_trim_later(struct rules *r);

#endif
