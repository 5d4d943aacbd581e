/* SPDX-License-Identifier: BSD-2-Clause */
/* After 101, or 2xx to CONNECT: bytes both ways, and the end of each way on its own. */
#include "l7/engine.h"

/* One way. false: it broke. */
static bool way(struct conn *c, struct sock *from, struct body *b, struct sock *to)
{
	struct worker *w = c->w;

	if (!sock_flush(w, to))
		return false;
	if (!to->out && !b->done) {
		enum relay r = relay(w, from, b, to, (struct str){ NULL, 0 }, NULL);

		if (r == RELAY_FROM_LOST || r == RELAY_TO_LOST)
			return false;
		if (r == RELAY_AGAIN)
			conn_again(c);
	}
	if (b->done)
		sock_end_writing(to);
	return true;
}

void tunnel_run(struct exchange *x)
{
	struct worker *w = worker_of(x);
	struct sock *client = &x->c->s, *server = &x->u->s;
	uint32_t own = x->tls ? x->choice.cluster->tcp_idle_ms : 0;

	if (!way(x->c, client, &x->rb, server) || !way(x->c, server, &x->ab, client)) {
		exchange_abort(x, client->bad ? MESH_FLAG_DOWNSTREAM_TERMINATION : MESH_FLAG_UPSTREAM_TERMINATION,
			       "tunnel_reset");
		return;
	}
	if (client->shut && server->shut) {
		x->answer = ANSWER_DONE;
		x->phase = X_END;
		attempt_end(x, false);
		return;
	}
	wait_timer(w, &x->c->timer, own ? own : w->idle_ms);
}
