/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is wrong with a user's rules, and where. The compiler collects diags and never prints; the CLI prints them:
 *   file:line:column: error: <field path>: text
 * with the source line, a caret and a hint.
 */
#ifndef BASE_DIAG_H
#define BASE_DIAG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

enum diag_level { DIAG_ERROR, DIAG_WARNING, DIAG_NOTE };

/* Where in the user's text. line and column count from 1; 0: the whole document. */
struct where {
	struct str file; /* as the user named it; "-" for standard input */
	uint32_t document; /* 1-based in the file */
	uint32_t line, column;
};

struct diag {
	enum diag_level level;
	struct where at;
	struct str field;   /* "spec.http[0].route[1].weight"; may be empty */
	struct str message; /* one sentence, no full stop */
	struct str hint;    /* may be empty */
	struct str source;  /* the line of text that `at` names; may be empty */
};

/* At most DIAG_PER_DOCUMENT errors are kept of one document; the rest are counted. */
#define DIAG_PER_DOCUMENT 20

struct diags {
	struct arena arena; /* owns all texts */
	struct diag *items;
	uint32_t nr, cap;
	uint32_t errors, warnings; /* seen, kept or not */
	/* Text of the documents being read now, so that `source` can be cut out of it; borrowed. */
	struct str text;
};

void diags_release(struct diags *d);
/* Texts are copied. */
void diag_add(struct diags *d, enum diag_level level, struct where at, struct str field, struct str hint, const char *fmt,
	      ...) __attribute__((format(printf, 6, 7)));
/* Errors of one document so far. */
uint32_t diag_errors_in(const struct diags *d, struct str file, uint32_t document);
/* One diag as people read it (three lines with source and caret, plus the hint). colour: ANSI. */
void diag_print(struct buf *out, const struct diag *d, bool colour);

#endif
