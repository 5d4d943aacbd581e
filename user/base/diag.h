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
	struct str file;   /* as the user named it; "-" for standard input */
	uint32_t document; /* 1-based in the file */
	uint32_t line, column;
	uint32_t item; /* 1-based item of the List that is the document; 0: not a List */
};

struct diag {
	enum diag_level level;
	struct where at;
	struct str field;   /* "spec.http[0].route[1].weight"; may be empty */
	struct str message; /* one sentence, no full stop */
	struct str hint;    /* may be empty */
	struct str source;  /* the line of text that `at` names, cut around the column when long; may be empty */
	uint32_t caret;	    /* column in `source`, 1-based; 0: none */
};

/* At most DIAG_PER_DOCUMENT errors (and as many warnings and notes) are kept of one document or List item; the rest are counted. */
#define DIAG_PER_DOCUMENT 20

struct diag_count;

struct diags {
	struct arena arena; /* owns all texts */
	struct diag *items;
	uint32_t nr, cap;
	uint32_t errors, warnings; /* seen, kept or not */
	/* How many of which document: open addressing, private. */
	struct diag_count *counts;
	uint32_t count_nr, count_cap;
	/* Text that `source` is cut out of, see diags_source(); borrowed. */
	struct str text;
	uint32_t text_line, text_indent;
};

void diags_release(struct diags *d);
/* Texts of the next diags stand in `text` (borrowed until the next call), whose first line is number `line` and whose lines were cut
 * by `indent` columns. An empty text: no source lines. */
void diags_source(struct diags *d, struct str text, uint32_t line, uint32_t indent);
/* Texts are copied. */
void diag_add(struct diags *d, enum diag_level level, struct where at, struct str field, struct str hint,
	      const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* Errors of one document (of all its items, when it is a List) so far. */
uint32_t diag_errors_in(const struct diags *d, struct str file, uint32_t document);
/* Errors of exactly this document or List item so far; line and column do not count. */
uint32_t diag_errors_at(const struct diags *d, const struct where *at);
/* One diag as people read it (three lines with source and caret, plus the hint). colour: ANSI. */
void diag_print(struct buf *out, const struct diag *d, bool colour);

#endif
