/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One worker's counters: see stats.h. Series are found by an index in private memory, so that nothing that stands in the shared one leads
 * anywhere.
 */
#include "l7/stats.h"

#include <stdlib.h>

#include "base/arena.h"

#define INDEX_LEN (2 * MESH_STATS_SERIES) /* a power of two */

struct stats {
	struct mesh_l7_worker *shared;
	struct mesh_l7_worker *own; /* where nobody gave any; else NULL */
	uint32_t nr;		    /* series that are in use; the first always */
	struct {
		uint32_t hash, at; /* at: 0 is free */
	} index[INDEX_LEN];
};

#define X(label, us) us,
static const uint64_t bounds[MESH_STATS_BUCKETS - 1] = { MESH_STATS_BOUNDS(X) };
#undef X

struct stats *stats_new(struct mesh_l7_worker *shared)
{
	struct stats *s = xcalloc(1, sizeof(*s));

	if (!shared)
		shared = s->own = xcalloc(1, sizeof(*shared));
	s->shared = shared;
	s->nr = 1;
	__atomic_store_n(&shared->series_nr, 1, __ATOMIC_RELEASE);
	return s;
}

void stats_free(struct stats *s)
{
	if (!s)
		return;
	free(s->own);
	free(s);
}

struct mesh_l7_worker *stats_worker(struct stats *s)
{
	return s->shared;
}

static struct str cut(struct str text)
{
	return str_sub(text, 0, MESH_STATS_TEXT);
}

static uint32_t hash_of(const struct stats_request *r)
{
	uint64_t h = ((uint64_t)r->flags << 16 | r->status) * 0x9e3779b97f4a7c15u;
	const struct str texts[] = { r->source, r->server, r->service };

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct str t = texts[i];
		uint64_t word;

		for (; t.len >= sizeof(word); t.p += sizeof(word), t.len -= sizeof(word)) {
			memcpy(&word, t.p, sizeof(word));
			h = (h ^ word) * 0x9e3779b97f4a7c15u;
			h ^= h >> 29;
		}
		word = t.len + 1;
		if (t.len)
			memcpy((char *)&word + 1, t.p, t.len);
		h = (h ^ word) * 0x9e3779b97f4a7c15u;
		h ^= h >> 32;
	}
	return (uint32_t)h;
}

static bool is_series(const struct mesh_series *s, const struct stats_request *r)
{
	return s->status == r->status && s->flags == r->flags &&
	       str_eq((struct str){ s->source, s->source_len }, r->source) &&
	       str_eq((struct str){ s->server, s->server_len }, r->server) &&
	       str_eq((struct str){ s->service, s->service_len }, r->service);
}

static void put(char *to, __u16 *ret_len, struct str text)
{
	*ret_len = (__u16)text.len;
	if (text.len)
		memcpy(to, text.p, text.len);
}

/* The series of a request; the first where there is no room. */
static struct mesh_series *find(struct stats *s, const struct stats_request *r)
{
	uint32_t hash = hash_of(r), i = hash & (INDEX_LEN - 1);
	struct mesh_series *n;

	for (; s->index[i].at; i = (i + 1) & (INDEX_LEN - 1)) {
		n = &s->shared->series[s->index[i].at];
		if (s->index[i].hash == hash && is_series(n, r))
			return n;
	}
	if (s->nr == MESH_STATS_SERIES) {
		stats_add(&s->shared->series_dropped, 1);
		return s->shared->series;
	}
	n = &s->shared->series[s->nr];
	n->status = r->status;
	n->flags = r->flags;
	put(n->source, &n->source_len, r->source);
	put(n->server, &n->server_len, r->server);
	put(n->service, &n->service_len, r->service);
	s->index[i].hash = hash;
	s->index[i].at = s->nr++;
	__atomic_store_n(&s->shared->series_nr, s->nr, __ATOMIC_RELEASE);
	return n;
}

void stats_request(struct stats *s, const struct stats_request *r)
{
	struct stats_request q = *r;
	struct mesh_series *n;
	uint32_t bucket = 0;

	q.source = cut(q.source);
	q.server = cut(q.server);
	q.service = cut(q.service);
	n = find(s, &q);
	/* An upper bound is in its own bucket. */
	while (bucket < MESH_STATS_BUCKETS - 1 && r->duration_us > bounds[bucket])
		bucket++;
	stats_add(&n->requests, 1);
	stats_add(&n->duration_us, (int64_t)r->duration_us);
	stats_add(&n->request_bytes, (int64_t)r->request_bytes);
	stats_add(&n->response_bytes, (int64_t)r->response_bytes);
	stats_add(&n->buckets[bucket], 1);
}
