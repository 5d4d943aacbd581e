/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine: every place of the program that the text so far can lead to, each at most once for a byte. */
#include <stdlib.h>

#include "base/regex_prog.h"

/* Larger programs take their memory from the heap. */
#define SMALL 256
#define SLOTS (2 * REGEX_GROUPS)
#define NOWHERE UINT32_MAX

/* A set of places in the order in which they were added, with what to do next. */
struct places {
	uint16_t *dense, *sparse;
	uint32_t nr;
};

static bool has(const struct places *s, uint32_t pc)
{
	return s->sparse[pc] < s->nr && s->dense[s->sparse[pc]] == pc;
}

static void add(struct places *s, uint32_t pc)
{
	s->sparse[pc] = (uint16_t)s->nr;
	s->dense[s->nr++] = (uint16_t)pc;
}

static bool word(struct str t, uint32_t at)
{
	char c;

	if (at >= t.len)
		return false;
	c = t.p[at];
	return c == '_' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static bool holds(enum regex_at what, struct str t, uint32_t at)
{
	bool edge;

	switch (what) {
	case REGEX_TEXT_BEGIN:
		return !at;
	case REGEX_TEXT_END:
		return at == t.len;
	case REGEX_LINE_BEGIN:
		return !at || t.p[at - 1] == '\n';
	case REGEX_LINE_END:
		return at == t.len || t.p[at] == '\n';
	default:
		edge = (at && word(t, at - 1)) != word(t, at);
		return edge == (what == REGEX_WORD_EDGE);
	}
}

/* ---- whole texts ---- */

/* All places that pc leads to without a byte. The places themselves are the list of what is to be done. */
static void follow(const struct regex *re, struct places *s, uint32_t pc, struct str t, uint32_t at)
{
	uint32_t done = s->nr;

	if (!has(s, pc))
		add(s, pc);
	for (; done < s->nr; done++) {
		const struct regex_inst *i = &re->prog[s->dense[done]];

		switch (i->op) {
		case REGEX_SPLIT:
			if (!has(s, i->y))
				add(s, i->y);
			/* fall through */
		case REGEX_JUMP:
			if (!has(s, i->x))
				add(s, i->x);
			break;
		case REGEX_AT:
			if (!holds(i->x, t, at))
				break;
			/* fall through */
		case REGEX_SAVE:
			if (!has(s, s->dense[done] + 1u))
				add(s, s->dense[done] + 1u);
			break;
		}
	}
}

static bool whole(const struct regex *re, struct str t, struct places *now, struct places *next)
{
	follow(re, now, 0, t, 0);
	for (uint32_t at = 0; at < t.len && now->nr; at++) {
		struct places *turn = now;

		next->nr = 0;
		for (uint32_t k = 0; k < now->nr; k++) {
			const struct regex_inst *i = &re->prog[now->dense[k]];

			if (i->op == REGEX_SET && regex_in(&re->sets[i->x], (uint8_t)t.p[at]))
				follow(re, next, now->dense[k] + 1u, t, at + 1);
		}
		now = next;
		next = turn;
	}
	/* MATCH is the last instruction. */
	return now->nr && has(now, re->nr - 1);
}

bool regex_matches(const struct regex *re, struct str text)
{
	uint16_t small[4 * SMALL] = { 0 }, *mem = small;
	struct places now = { 0 }, next = { 0 };
	bool rc;

	if (text.len < re->literal_len || (re->literal_len && memcmp(text.p, re->literal, re->literal_len)))
		return false;
	if (re->nr > SMALL)
		mem = xcalloc(4ul * re->nr, sizeof(*mem));
	now.dense = mem;
	now.sparse = mem + re->nr;
	next.dense = mem + 2ul * re->nr;
	next.sparse = mem + 3ul * re->nr;
	rc = whole(re, text, &now, &next);
	if (mem != small)
		free(mem);
	return rc;
}

/* ---- matches within a text ---- */

struct ways {
	struct places places;
	uint32_t (*slots)[SLOTS]; /* by place */
};

/* A place that is still to be followed; or, when slot is given, what that slot was before. */
struct pending {
	uint32_t pc, slot, was;
};

struct machine {
	const struct regex *re;
	struct str text;
	struct ways now, next;
	struct pending *stack;
};

/* As follow(), in the order of preference, with the slots of the way. */
static void follow_first(struct machine *m, struct ways *w, uint32_t from, uint32_t *slots, uint32_t at)
{
	uint32_t nr = 1;

	m->stack[0] = (struct pending){ from, NOWHERE, 0 };
	while (nr) {
		struct pending p = m->stack[--nr];
		const struct regex_inst *i = &m->re->prog[p.pc];

		if (p.slot != NOWHERE) {
			slots[p.slot] = p.was;
			continue;
		}
		if (has(&w->places, p.pc))
			continue;
		add(&w->places, p.pc);
		switch (i->op) {
		case REGEX_SPLIT:
			m->stack[nr++] = (struct pending){ i->y, NOWHERE, 0 };
			m->stack[nr++] = (struct pending){ i->x, NOWHERE, 0 };
			break;
		case REGEX_JUMP:
			m->stack[nr++] = (struct pending){ i->x, NOWHERE, 0 };
			break;
		case REGEX_AT:
			if (holds(i->x, m->text, at))
				m->stack[nr++] = (struct pending){ p.pc + 1, NOWHERE, 0 };
			break;
		case REGEX_SAVE:
			m->stack[nr++] = (struct pending){ p.pc, i->x, slots[i->x] };
			slots[i->x] = at;
			m->stack[nr++] = (struct pending){ p.pc + 1, NOWHERE, 0 };
			break;
		default:
			memcpy(w->slots[p.pc], slots, sizeof(*w->slots));
		}
	}
}

/* The leftmost match at or behind `from`, of those the first in the order of preference. */
static bool search(struct machine *m, uint32_t from, uint32_t *ret)
{
	struct ways *now = &m->now, *next = &m->next;
	uint32_t fresh[SLOTS];
	bool found = false;

	now->places.nr = 0;
	for (uint32_t at = from;; at++) {
		struct ways *turn = now;

		if (!found) {
			memset(fresh, 0xff, sizeof(fresh));
			fresh[0] = at;
			follow_first(m, now, 0, fresh, at);
		}
		next->places.nr = 0;
		for (uint32_t k = 0; k < now->places.nr; k++) {
			uint32_t pc = now->places.dense[k];
			const struct regex_inst *i = &m->re->prog[pc];

			if (i->op == REGEX_MATCH) {
				memcpy(ret, now->slots[pc], sizeof(fresh));
				ret[1] = at;
				found = true;
				break; /* what comes behind it in the order is of no interest */
			}
			if (i->op == REGEX_SET && at < m->text.len &&
			    regex_in(&m->re->sets[i->x], (uint8_t)m->text.p[at]))
				follow_first(m, next, pc + 1, now->slots[pc], at + 1);
		}
		if (at == m->text.len || (found && !next->places.nr))
			return found;
		now = next;
		next = turn;
	}
}

static void replacement(const struct machine *m, const uint32_t *slots, struct str with, struct buf *out)
{
	for (uint32_t i = 0; i < with.len; i++) {
		uint32_t group;

		if (with.p[i] != '\\' || i + 1 == with.len) {
			buf_add(out, with.p + i, 1);
			continue;
		}
		i++;
		group = (uint32_t)(with.p[i] - '0');
		if (group >= REGEX_GROUPS)
			buf_add(out, with.p + i, 1);
		else if (slots[2 * group] != NOWHERE && slots[2 * group + 1] != NOWHERE)
			buf_add(out, m->text.p + slots[2 * group], slots[2 * group + 1] - slots[2 * group]);
	}
}

static void replace_all(struct machine *m, struct str with, struct buf *out)
{
	uint32_t slots[SLOTS], p = 0, last = NOWHERE;

	while (p <= m->text.len && search(m, p, slots)) {
		buf_add(out, m->text.p + p, slots[0] - p);
		p = slots[0];
		if (slots[0] == last && slots[1] == slots[0]) {
			/* Nothing right behind a match is no match of its own. */
			if (p < m->text.len)
				buf_add(out, m->text.p + p, 1);
			p++;
			continue;
		}
		replacement(m, slots, with, out);
		p = last = slots[1];
	}
	if (p < m->text.len)
		buf_add(out, m->text.p + p, m->text.len - p);
}

void regex_replace(const struct regex *re, struct str text, struct str with, struct buf *out)
{
	struct machine m = { .re = re, .text = text };
	uint16_t *mem = xcalloc(4ul * re->nr, sizeof(*mem));

	m.now.places.dense = mem;
	m.now.places.sparse = mem + re->nr;
	m.next.places.dense = mem + 2ul * re->nr;
	m.next.places.sparse = mem + 3ul * re->nr;
	m.now.slots = xcalloc(re->nr, sizeof(*m.now.slots));
	m.next.slots = xcalloc(re->nr, sizeof(*m.next.slots));
	/* Each place is followed once, and leaves two entries at most. */
	m.stack = xcalloc(2ul * re->nr + 2, sizeof(*m.stack));
	replace_all(&m, with, out);
	free(m.stack);
	free(m.next.slots);
	free(m.now.slots);
	free(mem);
}
