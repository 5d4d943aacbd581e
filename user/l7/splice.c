/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Long bodies, from socket to socket without a copy of them here: through a pipe of the worker's, which is empty whenever this is not at work.
 * What the socket they are for does not take is read out of it, and waits where everything else does.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "l7/engine.h"

/* Shorter bodies are copied: two calls more for each portion, and one that finds nothing, cost what there is to gain. */
#define LONG (512u << 10)
/* At a time: what waits then has room in one buffer. */
#define PORTION IOBUF_LARGE_CAP

void splice_release(struct worker *w)
{
	for (int i = 0; i < 2; i++) {
		if (w->pipe[i] >= 0)
			close(w->pipe[i]);
		w->pipe[i] = -1;
	}
}

bool splice_fits(const struct worker *w, const struct sock *from, const struct body *b)
{
	if (w->shared->past_tcp || b->done || b->framed || from->in || !from->rd)
		return false;
	if (b->kind == HEAD_BODY_LENGTH)
		return b->bytes + b->left >= LONG;
	return b->kind == HEAD_BODY_CLOSE && b->bytes >= LONG && from->big;
}

/* What is left in the pipe goes where bytes wait that a socket does not take. false: it cannot be had. */
static bool read_rest(struct worker *w, struct sock *to, uint32_t len)
{
	iobuf_reserve(&w->bufs, &to->out, len);
	while (len) {
		ssize_t n = read(w->pipe[0], to->out->data + to->out->end, len);

		if (n <= 0)
			return false;
		to->out->end += (uint32_t)n;
		len -= (uint32_t)n;
	}
	return true;
}

/* All that is in the pipe, or as much as is taken. */
static bool push(struct worker *w, struct sock *to, uint32_t len)
{
	while (len) {
		ssize_t n = splice(w->pipe[0], NULL, to->fd, NULL, len, SPLICE_F_NONBLOCK);

		if (n < 0 && errno == EINTR)
			continue;
		if (!n || (n < 0 && errno != EAGAIN))
			return false;
		if (n < 0)
			break;
		len -= (uint32_t)n;
	}
	to->wr = !len;
	return !len || read_rest(w, to, len);
}

bool splice_some(struct worker *w, struct sock *from, struct body *b, struct sock *to, enum relay *ret)
{
	size_t most = b->kind == HEAD_BODY_LENGTH && b->left < PORTION ? b->left : PORTION;
	ssize_t n;

	if (w->pipe[0] < 0 && pipe2(w->pipe, O_CLOEXEC | O_NONBLOCK))
		return false;
	n = splice(from->fd, NULL, w->pipe[1], NULL, most, SPLICE_F_NONBLOCK);
	if (!n)
		return false;
	if (n < 0) {
		from->rd = errno == EINTR;
		from->bad = errno != EINTR && errno != EAGAIN;
		*ret = from->bad ? RELAY_FROM_LOST : from->rd ? RELAY_AGAIN : RELAY_MORE;
		return true;
	}
	from->big = n >= IOBUF_USUAL_CAP;
	b->bytes += (uint64_t)n;
	if (b->kind == HEAD_BODY_LENGTH)
		b->done = !(b->left -= (uint64_t)n);
	if (!push(w, to, (uint32_t)n)) {
		/* There may be bytes in it that are nobody's now. */
		splice_release(w);
		*ret = RELAY_TO_LOST;
	} else if (b->done) {
		*ret = RELAY_DONE;
	} else {
		*ret = to->out ? RELAY_BLOCKED : RELAY_AGAIN;
	}
	return true;
}
