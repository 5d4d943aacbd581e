/* SPDX-License-Identifier: BSD-2-Clause */
/* Endpoints that fail in a row are ejected for a while (Envoy's outlier detection, with numbers and limits as in the kernel). */
#include "l7/balance_int.h"

/* One fewer for each interval that it was well, since its last ejection was over. Under the lock. */
static void forgive(const struct outlier *o, struct host *h, uint64_t now_ms)
{
	uint64_t intervals;

	if (now_ms <= h->judged_ms)
		return;
	intervals = (now_ms - h->judged_ms) / (o->interval_ms ? o->interval_ms : 10000);
	h->ejections = intervals < h->ejections ? h->ejections - (uint32_t)intervals : 0;
	h->judged_ms += intervals * (o->interval_ms ? o->interval_ms : 10000);
}

/* Under the lock: for how long, 0: it may not be. */
static uint64_t eject(struct lb_cluster *c, struct host *h, uint64_t now_ms)
{
	const struct outlier *o = &c->outlier;
	uint32_t nr = 0, ejected = 0, most;
	uint64_t ms, longest = o->max_ms > o->base_ms ? o->max_ms : o->base_ms;

	for (uint32_t i = 0; i <= c->host_mask; i++)
		for (const struct host *k = c->hosts[i]; k; k = k->next) {
			nr += k->refs > 0;
			ejected += k->refs > 0 && host_ejected(&k->pub, now_ms);
		}
	most = nr * o->max_percent / 100;
	if (!o->given || !h->refs || host_ejected(&h->pub, now_ms) || ejected >= (most ? most : 1))
		return 0;
	forgive(o, h, now_ms);
	ms = (uint64_t)o->base_ms * ++h->ejections;
	ms = ms < longest ? ms : longest;
	h->judged_ms = now_ms + ms;
	atomic_store(&h->pub.ejected_until_ms, now_ms + ms);
	if (atomic_load(&c->ejected_until_ms) < now_ms + ms)
		atomic_store(&c->ejected_until_ms, now_ms + ms);
	return ms;
}

/* One more in a row, or none: true when that is as many as the threshold, and the row begins anew. */
static bool row(_Atomic uint32_t *nr, bool bad, const _Atomic uint32_t *threshold)
{
	uint32_t most = atomic_load_explicit(threshold, memory_order_relaxed);

	if (!bad) {
		if (atomic_load_explicit(nr, memory_order_relaxed))
			atomic_store_explicit(nr, 0, memory_order_relaxed);
		return false;
	}
	if (!most || atomic_fetch_add_explicit(nr, 1, memory_order_relaxed) + 1 < most)
		return false;
	atomic_store_explicit(nr, 0, memory_order_relaxed);
	return true;
}

uint64_t lb_result(struct lb_cluster *c, struct lb_host *pub, uint16_t status, bool local, uint64_t now_ms)
{
	bool apart = atomic_load_explicit(&c->bad_local, memory_order_relaxed) > 0, over;
	struct host *h = host_of(pub);
	uint64_t ms = 0;

	/* No answer at all counts as one of a gateway, unless failures of its own are counted apart. */
	over = row(&h->bad_local, local, &c->bad_local);
	if (!local || !apart) {
		over |= row(&h->bad, !status || status >= 500, &c->bad);
		over |= row(&h->bad_gateway, !status || (status >= 502 && status <= 504), &c->bad_gateway);
	}
	if (over) {
		pthread_mutex_lock(&c->lb->lock);
		ms = eject(c, h, now_ms);
		pthread_mutex_unlock(&c->lb->lock);
	}
	return ms;
}
