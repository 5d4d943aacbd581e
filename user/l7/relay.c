/* SPDX-License-Identifier: BSD-2-Clause */
/* Bodies on their way from one socket to another: read by their framing, and framed anew where they are chunked. */
#include <stdio.h>

#include "l7/engine.h"

#define PIECES_MAX 16
/* Reads of one body in one go: up to a megabyte. */
#define ROUNDS_MAX 16

/* Pieces of a body that go out together. They point into the buffer that they came in. */
struct gather {
	struct iovec v[IOV_SEND_MAX];
	uint32_t nr, pieces;
	uint32_t used; /* bytes of the buffer that are done with once these are sent */
	char lines[PIECES_MAX][20];
};
_Static_assert(3 * PIECES_MAX + 4 <= IOV_SEND_MAX, "a chunk is three pieces, the prefix one, the end three");

void body_end(struct worker *w, struct body *b)
{
	iobuf_put(&w->bufs, b->chunk);
	b->chunk = NULL;
}

void body_begin(struct worker *w, struct body *b, enum head_body kind, uint64_t length)
{
	body_end(w, b);
	*b = (struct body){ .kind = (uint8_t)kind, .left = length };
	if (kind == HEAD_BODY_CHUNKED) {
		b->chunk = iobuf_get(&w->bufs, sizeof(struct chunk));
		chunk_begin((struct chunk *)b->chunk->data);
		b->framed = true;
	}
	b->done = kind == HEAD_BODY_NONE || (kind == HEAD_BODY_LENGTH && !length);
}

void body_frame(const struct body *b, struct str piece, struct buf *out)
{
	if (b->framed && piece.len)
		buf_printf(out, "%x\r\n", piece.len);
	buf_str(out, piece);
	if (b->framed && piece.len)
		buf_str(out, STR("\r\n"));
}

static struct str trailers(const struct body *b)
{
	const struct chunk *c = b->chunk ? (const struct chunk *)b->chunk->data : NULL;

	return c ? (struct str){ c->trailer, c->trailer_len } : (struct str){ NULL, 0 };
}

void body_close(const struct body *b, struct buf *out)
{
	if (!b->framed)
		return;
	buf_str(out, STR("0\r\n"));
	buf_str(out, trailers(b));
	buf_str(out, STR("\r\n"));
}

static void add(struct gather *g, const void *p, size_t len)
{
	if (len)
		g->v[g->nr++] = (struct iovec){ (void *)p, len };
}

static void add_end(struct gather *g, const struct body *b)
{
	struct str t = trailers(b);

	add(g, "0\r\n", 3);
	add(g, t.p, t.len);
	add(g, "\r\n", 2);
}

static void add_piece(struct gather *g, struct body *b, struct str piece)
{
	if (b->framed) {
		char *line = g->lines[g->pieces];

		add(g, line, (size_t)snprintf(line, sizeof(g->lines[0]), "%x\r\n", piece.len));
	}
	add(g, piece.p, piece.len);
	if (b->framed)
		add(g, "\r\n", 2);
	g->pieces++;
	b->bytes += piece.len;
}

/* The next piece of the body at p[0 .. len). false: what is there is no body. */
static bool next_piece(struct body *b, const char *p, uint32_t len, uint32_t *ret_used, struct str *ret)
{
	enum chunk_result r;

	if (b->kind == HEAD_BODY_CHUNKED) {
		r = chunk_read((struct chunk *)b->chunk->data, p, len, ret_used, ret);
		if (r != CHUNK_DATA)
			ret->len = 0;
		b->done = r == CHUNK_END;
		return r != CHUNK_BAD;
	}
	if (b->kind == HEAD_BODY_LENGTH) {
		if (b->left < len)
			len = (uint32_t)b->left;
		b->left -= len;
		b->done = !b->left;
	}
	*ret = (struct str){ p, len };
	*ret_used = len;
	return true;
}

static bool keeps(const struct relay_copy *copy)
{
	return copy && !*copy->lost;
}

static void keep(struct worker *w, const struct relay_copy *copy, struct str piece)
{
	if (!keeps(copy))
		return;
	if (iobuf_len(*copy->to) + piece.len > REPLAY_MAX) {
		*copy->lost = true;
		iobuf_put(&w->bufs, *copy->to);
		*copy->to = NULL;
		return;
	}
	iobuf_add(&w->bufs, copy->to, piece.p, piece.len);
}

static bool gather(struct worker *w, struct gather *g, struct sock *from, struct body *b, const struct relay_copy *copy)
{
	while (!b->done && g->pieces < PIECES_MAX && g->used < iobuf_len(from->in)) {
		struct str piece;
		uint32_t used;

		if (!next_piece(b, from->in->data + from->in->at + g->used, iobuf_len(from->in) - g->used, &used,
				&piece))
			return false;
		g->used += used;
		if (piece.len) {
			add_piece(g, b, piece);
			keep(w, copy, piece);
		}
	}
	return true;
}

/* More of the body into from->in, which is empty. */
static int fetch(struct worker *w, struct sock *from, struct body *b)
{
	int n;

	if (!from->rd && !from->eof)
		return SOCK_NOTHING;
	n = sock_read(w, from);
	if (n == SOCK_END && (b->kind == HEAD_BODY_CLOSE || b->kind == HEAD_BODY_TUNNEL)) {
		b->done = true;
		return 1;
	}
	return n;
}

enum relay relay(struct worker *w, struct sock *from, struct body *b, struct sock *to, struct str prefix,
		 const struct relay_copy *copy)
{
	if (b->done && !prefix.len)
		return RELAY_DONE;
	for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
		enum relay spliced;
		struct gather g;
		int got = 1;
		bool sent;

		if (!prefix.len && !keeps(copy) && splice_fits(w, from, b) && splice_some(w, from, b, to, &spliced)) {
			if (spliced != RELAY_AGAIN)
				return spliced;
			continue;
		}
		g.nr = g.pieces = g.used = 0;
		if (!b->done && !from->in)
			got = fetch(w, from, b);
		add(&g, prefix.p, prefix.len);
		prefix.len = 0;
		if (from->in && !gather(w, &g, from, b, copy))
			return RELAY_BAD;
		if (b->done && b->framed)
			add_end(&g, b);
		sent = sock_send(w, to, g.v, g.nr);
		/* `b` is past these bytes, whether anybody took them or not: the next message begins behind them. */
		iobuf_consume(&w->bufs, &from->in, g.used);
		if (!sent)
			return RELAY_TO_LOST;
		if (b->done)
			return RELAY_DONE;
		if (got < 0)
			return RELAY_FROM_LOST;
		if (to->out)
			return RELAY_BLOCKED;
		if (!got)
			return RELAY_MORE;
	}
	return RELAY_AGAIN;
}

void body_skip(struct worker *w, struct sock *from, struct body *b)
{
	while (!b->done && (from->in || (from->rd && sock_read(w, from) > 0))) {
		struct str piece;
		uint32_t used;

		if (!next_piece(b, from->in->data + from->in->at, iobuf_len(from->in), &used, &piece))
			return;
		b->bytes += piece.len;
		iobuf_consume(&w->bufs, &from->in, used);
		if (b->bytes > REPLAY_MAX)
			return;
	}
}
