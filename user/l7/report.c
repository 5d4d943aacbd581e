/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that are over, as they are counted and logged. */
#include <time.h>

#include "l7/engine.h"

static struct str field(const struct exchange *x, struct str name)
{
	const struct head_field *f = x->head ? head_find(&x->rh, x->rq.p, name) : NULL;

	return f ? head_str(x->rq.p, f->value) : (struct str){ NULL, 0 };
}

static void count(struct exchange *x, uint64_t duration_us)
{
	const struct http_place *p = &x->c->place;
	struct stats_request r = { .status = x->status,
				   .flags = x->flags,
				   .duration_us = duration_us,
				   .request_bytes = x->rb.bytes,
				   .response_bytes = x->ab.bytes };

	if (x->rules)
		r.source = http_client_workload(p);
	if (x->rules && p->image)
		r.service = http_text(p->image, p->image->service);
	if (x->rules && x->to)
		r.server = http_text(p->image, x->to->workload);
	stats_request(worker_of(x)->stats, &r);
}

static uint64_t real_ns(uint64_t ago_us)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec - ago_us * 1000;
}

static void write_log(struct exchange *x, uint64_t duration_us)
{
	const struct http_place *p = &x->c->place;
	struct str made = str_of(x->request_id);
	struct access_entry e = { .start_ns = real_ns(duration_us),
				  .minor = x->rh.minor,
				  .status = x->status,
				  .flags = x->flags,
				  .details = str_of(x->detail),
				  .bytes_received = x->rb.bytes,
				  .bytes_sent = x->ab.bytes,
				  .duration_ms = duration_us / 1000,
				  .upstream_ms = -1,
				  .dialled = p->dialled,
				  .dialled_port = p->dialled_port,
				  .client = p->client_addr,
				  .client_port = x->c->client_port };

	if (x->tls) {
		e.tls = true;
		e.server_name = hello_name(&x->hello);
	}
	if (x->head) {
		e.method = head_str(x->rq.p, x->rh.method);
		e.path = head_str(x->rq.p, x->rh.path);
		e.authority = head_str(x->rq.p, x->rh.authority);
		e.forwarded_for = field(x, STR("x-forwarded-for"));
		e.user_agent = field(x, STR("user-agent"));
		e.request_id = field(x, STR("x-request-id"));
		if (!e.request_id.len)
			e.request_id = made;
	}
	if (x->answer_us)
		e.upstream_ms = (int64_t)((x->answer_us - x->begin_us) / 1000);
	if (x->choice.route)
		e.route = http_text(p->image, x->choice.route->name);
	if (x->choice.cluster)
		e.cluster = http_text(p->image, x->choice.cluster->name);
	if (x->to) {
		e.server = x->to->addr;
		e.server_port = x->to->port;
	}
	access_log(worker_of(x)->log, &e);
}

void report(struct exchange *x)
{
	struct worker *w = worker_of(x);
	uint64_t duration;

	if (!x->begin_us)
		return;
	duration = worker_us() - x->begin_us;
	if (w->counted && !x->tls)
		count(x, duration);
	if (w->logged)
		write_log(x, duration);
}
