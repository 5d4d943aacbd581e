/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the parser of regular expressions, the writer of programs and the machine. Nobody else includes this. */
#ifndef BASE_REGEX_PROG_H
#define BASE_REGEX_PROG_H

#include "base/arena.h"
#include "base/regex.h"

/* Instructions of one expression: bounds its memory, and the time for one byte of text. */
#define REGEX_PROG_MAX 8192
#define REGEX_LITERAL_MAX 32

enum regex_op {
	REGEX_SET,   /* a byte of sets[x] */
	REGEX_SPLIT, /* x, or else y */
	REGEX_JUMP,  /* x */
	REGEX_SAVE,  /* the position is slot x */
	REGEX_AT,    /* enum regex_at x holds here */
	REGEX_MATCH,
};

enum regex_at {
	REGEX_TEXT_BEGIN,
	REGEX_TEXT_END,
	REGEX_LINE_BEGIN,
	REGEX_LINE_END,
	REGEX_WORD_EDGE,
	REGEX_NO_WORD_EDGE
};

struct regex_inst {
	uint16_t op;
	uint16_t x, y;
};

struct regex_set {
	uint64_t bits[4];
};

enum regex_kind { NODE_EMPTY, NODE_SET, NODE_CAT, NODE_ALT, NODE_REPEAT, NODE_GROUP, NODE_AT };
#define REGEX_NO_LIMIT UINT32_MAX

struct regex_node {
	enum regex_kind kind;
	struct regex_node *a, *b;
	struct regex_set set;
	uint32_t min, max; /* NODE_REPEAT; NODE_GROUP: min is its number */
	bool lazy;
	enum regex_at at;
};

/* NULL, or why it is none; nodes are in the arena. */
const char *regex_parse(struct arena *arena, struct str pattern, bool ignore_case, struct regex_node **ret,
			uint32_t *ret_groups);

struct regex {
	uint32_t nr, set_nr, group_nr;
	uint32_t literal_len;
	char literal[REGEX_LITERAL_MAX]; /* what every match begins with */
	struct regex_inst *prog;
	struct regex_set *sets;
};

static inline bool regex_in(const struct regex_set *s, uint8_t c)
{
	return s->bits[c >> 6] >> (c & 63) & 1;
}

#endif
