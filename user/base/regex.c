/* SPDX-License-Identifier: BSD-2-Clause */
/* A tree is written out as a program, and the program is run on all ways at once, byte by byte. */
#include "base/regex_prog.h"

#include <stdlib.h>

/* ---- writing ---- */

struct writer {
	struct regex *re;
	bool full;
};

static uint32_t emit(struct writer *w, enum regex_op op, uint32_t x)
{
	struct regex *re = w->re;

	if (re->nr == REGEX_PROG_MAX) {
		w->full = true;
		return REGEX_PROG_MAX - 1;
	}
	re->prog[re->nr] = (struct regex_inst){ (uint16_t)op, (uint16_t)x, 0 };
	return re->nr++;
}

static uint32_t set_index(struct regex *re, const struct regex_set *set)
{
	for (uint32_t i = 0; i < re->set_nr; i++)
		if (!memcmp(&re->sets[i], set, sizeof(*set)))
			return i;
	re->sets = xrealloc(re->sets, (re->set_nr + 1) * sizeof(*re->sets));
	re->sets[re->set_nr] = *set;
	return re->set_nr++;
}

/* The ways of the SPLIT at `at`: into what follows it, or out of it. */
static void split_to(struct regex *re, uint32_t at, uint32_t into, uint32_t out, bool lazy)
{
	re->prog[at].x = (uint16_t)(lazy ? out : into);
	re->prog[at].y = (uint16_t)(lazy ? into : out);
}

static void write_node(struct writer *w, const struct regex_node *n);

static void write_repeat(struct writer *w, const struct regex_node *n)
{
	uint32_t at = w->re->nr, first, optional;

	for (uint32_t i = 0; i < n->min && !w->full; i++) {
		at = w->re->nr;
		write_node(w, n->a);
		if (w->re->nr == at)
			break; /* nothing, a thousand times */
	}
	if (n->max == REGEX_NO_LIMIT) {
		if (n->min) {
			/* The last copy again and again. */
			first = emit(w, REGEX_SPLIT, 0);
			split_to(w->re, first, at, w->re->nr, n->lazy);
			return;
		}
		first = emit(w, REGEX_SPLIT, 0);
		write_node(w, n->a);
		emit(w, REGEX_JUMP, first);
		split_to(w->re, first, first + 1, w->re->nr, n->lazy);
		return;
	}
	/* Each optional copy is a SPLIT and the copy; every SPLIT leads out to the end of all. */
	optional = n->max - n->min;
	first = w->re->nr;
	for (uint32_t i = 0; i < optional && !w->full; i++) {
		emit(w, REGEX_SPLIT, 0);
		write_node(w, n->a);
	}
	if (w->full || !optional)
		return;
	at = (w->re->nr - first) / optional;
	for (uint32_t i = 0; i < optional; i++)
		split_to(w->re, first + i * at, first + i * at + 1, w->re->nr, n->lazy);
}

static void write_alt(struct writer *w, const struct regex_node *n)
{
	uint32_t split = emit(w, REGEX_SPLIT, 0), jump;

	write_node(w, n->a);
	jump = emit(w, REGEX_JUMP, 0);
	split_to(w->re, split, split + 1, w->re->nr, false);
	write_node(w, n->b);
	w->re->prog[jump].x = (uint16_t)w->re->nr;
}

static void write_node(struct writer *w, const struct regex_node *n)
{
	if (w->full)
		return;
	switch (n->kind) {
	case NODE_EMPTY:
		break;
	case NODE_SET:
		emit(w, REGEX_SET, set_index(w->re, &n->set));
		break;
	case NODE_AT:
		emit(w, REGEX_AT, n->at);
		break;
	case NODE_CAT:
		write_node(w, n->a);
		write_node(w, n->b);
		break;
	case NODE_ALT:
		write_alt(w, n);
		break;
	case NODE_REPEAT:
		write_repeat(w, n);
		break;
	case NODE_GROUP:
		if (n->min < REGEX_GROUPS)
			emit(w, REGEX_SAVE, 2 * n->min);
		write_node(w, n->a);
		if (n->min < REGEX_GROUPS)
			emit(w, REGEX_SAVE, 2 * n->min + 1);
		break;
	}
}

/* The byte that a set has alone, or -1. */
static int only_byte(const struct regex_set *s)
{
	int found = -1;

	for (int c = 0; c < 256; c++)
		if (regex_in(s, (uint8_t)c)) {
			if (found >= 0)
				return -1;
			found = c;
		}
	return found;
}

static void find_literal(struct regex *re)
{
	for (uint32_t pc = 0; re->literal_len < REGEX_LITERAL_MAX; pc++) {
		int c;

		if (re->prog[pc].op == REGEX_SAVE ||
		    (re->prog[pc].op == REGEX_AT && re->prog[pc].x == REGEX_TEXT_BEGIN))
			continue;
		c = re->prog[pc].op == REGEX_SET ? only_byte(&re->sets[re->prog[pc].x]) : -1;
		if (c < 0)
			return;
		re->literal[re->literal_len++] = (char)c;
	}
}

struct regex *regex_new(struct str pattern, bool ignore_case, struct buf *err)
{
	struct arena arena = { 0 };
	struct regex_node *tree;
	uint32_t groups = 0;
	const char *why = regex_parse(&arena, pattern, ignore_case, &tree, &groups);
	struct writer w = { 0 };

	if (!why) {
		w.re = xcalloc(1, sizeof(*w.re));
		w.re->prog = xcalloc(REGEX_PROG_MAX, sizeof(*w.re->prog));
		w.re->group_nr = groups;
		write_node(&w, tree);
		emit(&w, REGEX_MATCH, 0);
		if (w.full)
			why = "it is too large once its repetitions are written out";
	}
	arena_release(&arena);
	if (why) {
		buf_printf(err, "is no regular expression that can be matched: %s", why);
		regex_free(w.re);
		return NULL;
	}
	w.re->prog = xrealloc(w.re->prog, w.re->nr * sizeof(*w.re->prog));
	find_literal(w.re);
	return w.re;
}

void regex_free(struct regex *re)
{
	if (!re)
		return;
	free(re->prog);
	free(re->sets);
	free(re);
}

uint32_t regex_groups(const struct regex *re)
{
	return re->group_nr;
}

bool regex_replacement_ok(const struct regex *re, struct str with, struct buf *err)
{
	for (uint32_t i = 0; i < with.len; i++) {
		if (with.p[i] != '\\')
			continue;
		if (++i == with.len || (with.p[i] != '\\' && (with.p[i] < '0' || with.p[i] > '9'))) {
			buf_printf(err, "has a backslash with neither a digit nor another one behind it");
			return false;
		}
		if (with.p[i] != '\\' && (uint32_t)(with.p[i] - '0') > re->group_nr) {
			buf_printf(err, "has \\%c, and the expression has %u groups", with.p[i], re->group_nr);
			return false;
		}
	}
	return true;
}
