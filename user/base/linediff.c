/* SPDX-License-Identifier: BSD-2-Clause */
/* Longest common subsequence by dynamic programming (Wagner and Fischer 1974), on what is left between equal heads and tails. */
#include "base/linediff.h"

#include <stdlib.h>

#include "base/arena.h"

#define CONTEXT 3
/* Cells of the table; beyond it the middle counts as replaced. */
#define TABLE_MAX (16u << 20)

struct lines {
	struct str *v;
	uint32_t nr;
};

/* ' ', '-' or '+' and the line it stands before. */
struct edit {
	char op;
	struct str line;
};

struct edits {
	struct edit *v;
	uint32_t nr;
};

static struct lines split(struct str text)
{
	struct lines l = { 0 };
	uint32_t nr = 1;

	for (uint32_t i = 0; i < text.len; i++)
		nr += text.p[i] == '\n';
	l.v = xcalloc(nr, sizeof(*l.v));
	while (text.len) {
		int end = str_find(text, '\n');
		uint32_t len = end < 0 ? text.len : (uint32_t)end;

		l.v[l.nr++] = str_sub(text, 0, len);
		text = str_sub(text, len + 1, text.len);
	}
	return l;
}

static void add(struct edits *e, char op, struct str line)
{
	e->v[e->nr++] = (struct edit){ op, line };
}

static void middle(struct edits *e, const struct str *a, uint32_t an, const struct str *b, uint32_t bn)
{
	size_t width = (size_t)bn + 1;
	uint32_t i = 0, k = 0;
	uint32_t *len;

	if ((an + 1ull) * width > TABLE_MAX) {
		while (i < an)
			add(e, '-', a[i++]);
		while (k < bn)
			add(e, '+', b[k++]);
		return;
	}
	/* len[i][k]: common lines of a[i..] and b[k..]. */
	len = xcalloc(((size_t)an + 1) * width, sizeof(*len));
	for (i = an; i--;) {
		for (k = bn; k--;) {
			uint32_t down = len[(i + 1) * width + k], right = len[i * width + k + 1];

			len[i * width + k] = str_eq(a[i], b[k]) ? len[(i + 1) * width + k + 1] + 1
					     : down > right	? down
								: right;
		}
	}
	i = k = 0;
	while (i < an || k < bn) {
		if (i < an && k < bn && str_eq(a[i], b[k])) {
			add(e, ' ', a[i++]);
			k++;
		} else if (i < an && (k == bn || len[(i + 1) * width + k] >= len[i * width + k + 1])) {
			add(e, '-', a[i++]);
		} else {
			add(e, '+', b[k++]);
		}
	}
	free(len);
}

static struct edits compare(const struct lines *a, const struct lines *b)
{
	struct edits e = { .v = xcalloc((size_t)a->nr + b->nr + 1, sizeof(*e.v)) };
	uint32_t head = 0, tail = 0, least = a->nr < b->nr ? a->nr : b->nr;

	while (head < least && str_eq(a->v[head], b->v[head]))
		add(&e, ' ', a->v[head++]);
	while (tail < least - head && str_eq(a->v[a->nr - 1 - tail], b->v[b->nr - 1 - tail]))
		tail++;
	middle(&e, a->v + head, a->nr - head - tail, b->v + head, b->nr - head - tail);
	for (uint32_t i = a->nr - tail; i < a->nr; i++)
		add(&e, ' ', a->v[i]);
	return e;
}

static void print_edit(struct buf *out, const struct edit *e, bool colour)
{
	const char *on = e->op == '-' ? "\033[31m" : "\033[32m";
	bool paint = colour && e->op != ' ';

	buf_printf(out, "%s%c", paint ? on : "", e->op);
	buf_str(out, e->line);
	buf_printf(out, "%s\n", paint ? "\033[0m" : "");
}

/* Prints edits [from, to); a_line and b_line are the lines before it. */
static void print_hunk(struct buf *out, const struct edits *e, uint32_t from, uint32_t to, uint32_t a_line,
		       uint32_t b_line, bool colour)
{
	uint32_t an = 0, bn = 0;

	for (uint32_t i = from; i < to; i++) {
		an += e->v[i].op != '+';
		bn += e->v[i].op != '-';
	}
	buf_printf(out, "%s@@ -%u,%u +%u,%u @@%s\n", colour ? "\033[36m" : "", a_line + (an > 0), an, b_line + (bn > 0),
		   bn, colour ? "\033[0m" : "");
	for (uint32_t i = from; i < to; i++)
		print_edit(out, &e->v[i], colour);
}

/* End of the hunk that has its first change at `i`: the next change is more than two contexts away. */
static uint32_t hunk_end(const struct edits *e, uint32_t i)
{
	uint32_t last = i;

	for (; i < e->nr && i - last <= 2 * CONTEXT; i++) {
		if (e->v[i].op != ' ')
			last = i;
	}
	return last + 1 + CONTEXT < e->nr ? last + 1 + CONTEXT : e->nr;
}

void linediff(struct buf *out, struct str a, struct str b, bool colour)
{
	struct lines la = split(a), lb = split(b);
	struct edits e = compare(&la, &lb);
	uint32_t a_line = 0, b_line = 0, done = 0;

	for (uint32_t i = 0; i < e.nr; i++) {
		uint32_t from, to;

		if (e.v[i].op == ' ')
			continue;
		from = i > done + CONTEXT ? i - CONTEXT : done;
		to = hunk_end(&e, i);
		/* What lies between the hunks is equal on both sides. */
		a_line += from - done;
		b_line += from - done;
		print_hunk(out, &e, from, to, a_line, b_line, colour);
		for (uint32_t k = from; k < to; k++) {
			a_line += e.v[k].op != '+';
			b_line += e.v[k].op != '-';
		}
		done = to;
		i = to - 1;
	}
	free(e.v);
	free(la.v);
	free(lb.v);
}
