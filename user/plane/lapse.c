/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections whose time is up: idle or open for longer than their destination allows, or left on an endpoint that drains or is gone.
 * Looked for now and then, so that a connection may last a little longer than it should, and never shorter.
 */
#include "plane/health_int.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

struct look {
	struct health *h;
	uint64_t now;
	struct end *ends;
	uint32_t end_nr, end_cap;
	struct activity *activity;
	uint32_t activity_nr, activity_cap;
};

/* What becomes of connections whose endpoint leaves: the mesh's settings, where the destination has no annotations of its own. */
struct leaving {
	uint64_t drain_ms; /* 0: they may last */
	bool reset_removed;
};

static struct leaving leaving_of(const struct health *h, uint32_t backend)
{
	const struct watched *w = watched_find(h, backend_at(h->p, backend)->pool);
	struct leaving l = { .drain_ms = h->drain_ms, .reset_removed = h->reset_removed };

	if (w && w->traffic.drain_ms != DRAIN_UNSET)
		l.drain_ms = w->traffic.drain_ms;
	if (w && w->traffic.removal != REMOVAL_UNSET)
		l.reset_removed = w->traffic.removal == REMOVAL_RESET;
	return l;
}

bool lapse_drains(const struct health *h, uint64_t *ret_ms)
{
	const struct plane *p = h->p;
	bool drains = false;

	*ret_ms = UINT64_MAX;
	for (uint32_t i = 0; i < p->parked_nr; i++) {
		struct leaving l = leaving_of(h, p->parked[i].slot);

		if ((!l.drain_ms && !l.reset_removed) || !backend_at(p, p->parked[i].slot)->active)
			continue;
		drains = true;
		if (l.drain_ms < *ret_ms)
			*ret_ms = l.drain_ms;
	}
	return drains;
}

/* UDP is not held to this: its flows end by themselves. */
static bool is_held(const struct mesh_flow *f)
{
	return f->proto == MESH_PROTO_TCP && f->backend && !f->closed_ns && f->state != MESH_STATE_CONNECTING;
}

static const struct u_traffic *traffic_of(const struct health *h, const struct mesh_flow *f)
{
	const struct watched *w = is_held(f) ? watched_find(h, backend_at(h->p, f->backend)->pool) : NULL;

	return w ? &w->traffic : NULL;
}

static bool may_idle(void *data, const struct mesh_flow *f)
{
	const struct look *l = data;
	const struct u_traffic *t = traffic_of(l->h, f);

	return t && t->idle_timeout_ms;
}

static int by_cookie(const void *a, const void *b)
{
	const struct activity *x = a, *y = b;

	return x->cookie < y->cookie ? -1 : x->cookie > y->cookie;
}

/* Since when the connection has carried nothing. One that is seen for the first time may have done so until now. */
static uint64_t idle_since(struct look *l, const struct mesh_flow *f)
{
	struct activity a = { .cookie = f->cookie, .bytes = f->bytes_sent + f->bytes_received };
	const struct activity *was =
		l->h->activity_nr ? bsearch(&a, l->h->activity, l->h->activity_nr, sizeof(a), by_cookie) : NULL;

	a.since_ns = was && was->bytes == a.bytes ? was->since_ns : !was && !a.bytes ? f->opened_ns : l->now;
	l->activity = plane_grow(l->activity, l->activity_nr, &l->activity_cap, sizeof(a));
	l->activity[l->activity_nr++] = a;
	return a.since_ns;
}

/* What an endpoint that drains or is gone allows. */
static uint32_t drained(const struct look *l, const struct mesh_flow *f)
{
	const struct health *h = l->h;
	struct leaving own;
	bool late;

	if (backend_at(h->p, f->backend)->used)
		return MESH_REASON_NONE;
	own = leaving_of(h, f->backend);
	late = own.drain_ms && l->now - backend_at(h->p, f->backend)->since_ns >= own.drain_ms * 1000000;
	return late || (own.reset_removed && !is_draining(h, f->backend)) ? MESH_REASON_DRAINED : MESH_REASON_NONE;
}

static uint32_t lapsed(struct look *l, const struct mesh_flow *f)
{
	const struct u_traffic *t = traffic_of(l->h, f);
	uint64_t since = t && t->idle_timeout_ms ? idle_since(l, f) : l->now;

	if (t && t->max_duration_ms && l->now - f->opened_ns >= (uint64_t)t->max_duration_ms * 1000000)
		return MESH_REASON_MAX_DURATION;
	if (t && t->idle_timeout_ms && l->now - since >= (uint64_t)t->idle_timeout_ms * 1000000)
		return MESH_REASON_IDLE;
	return drained(l, f);
}

static void look_at(void *data, const struct mesh_flow *f, const struct mesh_tuple *wire)
{
	struct look *l = data;
	uint32_t reason;

	reason = is_held(f) ? lapsed(l, f) : MESH_REASON_NONE;
	if (reason == MESH_REASON_NONE)
		return;
	l->ends = plane_grow(l->ends, l->end_nr, &l->end_cap, sizeof(*l->ends));
	l->ends[l->end_nr] = (struct end){ .cookie = f->cookie, .netns_cookie = f->netns_cookie, .reason = reason };
	if (wire) {
		l->ends[l->end_nr].wire = *wire;
		l->ends[l->end_nr].conn = true;
	}
	l->end_nr++;
}

void lapse_look(struct health *h)
{
	struct look l = { .h = h, .now = health_now_ns() };
	int rc = flows_live(h->p, may_idle, look_at, &l);

	if (!rc && l.end_nr) {
		log_debug("connections have lasted too long number=%u", l.end_nr);
		rc = ends_run(h->p, l.ends, l.end_nr);
	}
	if (rc)
		log_warn("cannot end all connections that have lasted too long error=%s", strerror(-rc));
	if (l.activity_nr)
		qsort(l.activity, l.activity_nr, sizeof(*l.activity), by_cookie);
	free(h->activity);
	h->activity = l.activity;
	h->activity_nr = l.activity_nr;
	free(l.ends);
}
