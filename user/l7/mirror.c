/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copies of requests to other clusters. A copy goes out once the whole request was read, on a connection of its own that ends with it; nobody
 * waits for the answer. What has no connection at once, a body beyond REPLAY_MAX, or no leave of the policies there, is not mirrored.
 */
#include "l7/engine.h"

#define MIRROR_MS 15000u
/* Reads in one go. */
#define READS_MAX 16

static void choose(struct exchange *x, struct mesh_ref ref)
{
	const struct mesh_http_mirror *v = http_ref(x->c->place.image, ref);

	for (uint32_t i = 0; i < ref.nr && x->mirror_nr < MIRRORS_MAX; i++)
		if (http_share(v[i].share, worker_random(worker_of(x))))
			x->mirrors[x->mirror_nr++] = v[i];
}

void mirrors_choose(struct exchange *x)
{
	choose(x, x->choice.route->mirrors);
	choose(x, x->choice.dest->mirrors);
}

static void write_request(struct exchange *x, struct buf *out)
{
	struct http_forward f = { .request_id = str_of(x->request_id), .mirrored = true, .attempt = 1 };
	struct str body = { x->replay ? x->replay->data + x->replay->at : NULL, iobuf_len(x->replay) };

	http_request_head(&x->c->place, &x->rq, &x->choice, &f, out);
	body_frame(&x->rb, body, out);
	body_close(&x->rb, out);
}

static void mirror(struct exchange *x, uint32_t cluster)
{
	const struct mesh_http_cluster *rules = http_ref(x->c->place.image, x->c->place.image->clusters);
	struct worker *w = worker_of(x);
	struct lb_cluster *state;
	struct mesh_addr from = w->shared->bind_client ? x->c->place.client_addr : (struct mesh_addr){ 0 };
	const struct mesh_http_endpoint *to;
	struct lb_host *host;
	struct str denied;
	struct up *u;

	rules += cluster;
	state = lb_of(x->rules->view, x->c->place.image, rules);
	host = lb_pick(x->rules->view, x->c->place.image, rules, NULL, &(struct lb_tried){ 0 }, worker_random(w),
		       w->now_ms, &to);
	if (!host || http_authorize(&x->c->place, &x->rq, &x->choice, to, &denied) == HTTP_DENIED ||
	    !lb_take(state, LB_CONNECTIONS))
		return;
	u = up_open(w, &from, state, rules, host);
	if (!u) {
		lb_give(state, LB_CONNECTIONS);
		return;
	}
	u->next = w->mirrors;
	u->prev = &w->mirrors;
	if (u->next)
		u->next->prev = &u->next;
	w->mirrors = u;
	buf_clear(&w->text);
	write_request(x, &w->text);
	iobuf_add(&w->bufs, &u->s.out, w->text.data, w->text.len);
}

void mirrors_send(struct exchange *x)
{
	if (x->replay_lost)
		return;
	for (uint32_t i = 0; i < x->mirror_nr; i++)
		mirror(x, x->mirrors[i].cluster);
}

void mirror_connected(struct up *u)
{
	u->state = UP_SINK;
	wait_timer(u->w, &u->timer, MIRROR_MS);
	mirror_run(u);
}

void mirror_run(struct up *u)
{
	struct worker *w = u->w;
	bool broken = !sock_flush(w, &u->s);
	uint32_t reads = 0;

	while (!broken && u->s.rd && !u->s.eof && !u->s.bad) {
		if (reads++ == READS_MAX) {
			sock_again(w, &u->s);
			return;
		}
		if (sock_read(w, &u->s) <= 0)
			break;
		iobuf_put(&w->bufs, u->s.in);
		u->s.in = NULL;
	}
	if (broken || u->s.eof || u->s.bad)
		up_close(u);
}
