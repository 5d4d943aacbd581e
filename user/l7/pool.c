/* SPDX-License-Identifier: BSD-2-Clause */
/* Idle connections to endpoints, each for the client that it was opened for. */
#include <stdlib.h>

#include "l7/engine.h"

static uint32_t bucket(const struct mesh_addr *client, const struct lb_host *host)
{
	uint64_t h = (uintptr_t)host >> 4;

	for (int i = 0; i < 4; i++)
		h = (h ^ client->w_be[i]) * 0x9e3779b97f4a7c15ull;
	return (uint32_t)(h >> 40) % POOL_BUCKETS;
}

static struct pool **find(struct worker *w, const struct mesh_addr *client, const struct lb_host *host)
{
	struct pool **at = &w->pools[bucket(client, host)];

	while (*at && ((*at)->host != host || memcmp(&(*at)->client, client, sizeof(*client))))
		at = &(*at)->next;
	return at;
}

struct pool *pool_of(struct worker *w, const struct mesh_addr *client, struct lb_host *host)
{
	struct pool **at = find(w, client, host), *p = *at;

	if (!p) {
		p = *at = xcalloc(1, sizeof(*p));
		p->client = *client;
		p->host = host;
	}
	p->nr++;
	return p;
}

void pool_unref(struct worker *w, struct pool *p)
{
	struct pool **at;

	if (--p->nr)
		return;
	at = find(w, &p->client, p->host);
	*at = p->next;
	free(p);
}

struct up *pool_take(struct worker *w, const struct mesh_addr *client, struct lb_host *host)
{
	struct pool *p = *find(w, client, host);
	struct up *u = p ? p->idle : NULL;

	if (!u)
		return NULL;
	p->idle = u->next;
	if (u->next)
		u->next->prev = &p->idle;
	u->prev = NULL;
	u->state = UP_BUSY;
	w->idle_nr--;
	timer_stop(&u->timer);
	return u;
}

void pool_put(struct up *u)
{
	struct worker *w = u->w;

	u->served++;
	if (u->max_requests && u->served >= u->max_requests) {
		up_close(u);
		return;
	}
	u->state = UP_IDLE;
	w->idle_nr++;
	u->next = u->pool->idle;
	u->prev = &u->pool->idle;
	if (u->next)
		u->next->prev = &u->next;
	u->pool->idle = u;
	wait_timer(w, &u->timer, u->idle_ms);
}

/* The first idle one that `cluster` has, NULL: any cluster. */
static struct up *idle_of(struct worker *w, const struct lb_cluster *cluster)
{
	for (uint32_t i = 0; w->idle_nr && i < POOL_BUCKETS; i++)
		for (struct pool *p = w->pools[i]; p; p = p->next)
			if (p->idle && (!cluster || p->idle->cluster == cluster))
				return p->idle;
	return NULL;
}

bool pool_evict(struct worker *w, const struct lb_cluster *cluster)
{
	struct up *u = idle_of(w, cluster);

	if (u)
		up_close(u);
	return u;
}

void pool_drain(struct worker *w)
{
	while (pool_evict(w, NULL))
		;
}
