/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Regular expressions in RE2's syntax, in time that grows with the text and no faster, whatever expression and text are: what is no regular
 * language (back references, looking around, atomic groups) is refused. Works on bytes: expressions are of ASCII alone, "." and negated
 * classes take one byte. Construction and simulation: Thompson 1968; captures: Pike's, as Cox, "Regular Expression Matching: the
 * Virtual Machine Approach" has them, leftmost-first.
 */
#ifndef BASE_REGEX_H
#define BASE_REGEX_H

#include "base/str.h"

#define REGEX_PATTERN_MAX 4096
#define REGEX_GROUPS 10 /* the whole and \1 to \9; more may be in an expression, and cannot be asked for */

struct regex; /* owned by the caller, immutable: any number of threads may use it */

/* NULL with a clause in err ("... is no regular expression of RE2" without the expression itself). */
struct regex *regex_new(struct str pattern, bool ignore_case, struct buf *err);
void regex_free(struct regex *re); /* NULL is fine */
/* Number of groups in parentheses. */
uint32_t regex_groups(const struct regex *re);

/* The whole text matches. */
bool regex_matches(const struct regex *re, struct str text);
/* Whether each \N of `with` is a group of the expression; else a clause in err. */
bool regex_replacement_ok(const struct regex *re, struct str with, struct buf *err);
/* Appends the text with every match, from left to right, replaced by `with`, where \0 to \9 are groups and \\ is a backslash. */
void regex_replace(const struct regex *re, struct str text, struct str with, struct buf *out);

#endif
