/* SPDX-License-Identifier: BSD-2-Clause */
/* How long what is known of clusters lasts, and their limits. */
#include "l7/balance_int.h"

#include <stdlib.h>

struct lb *lb_new(void)
{
	struct lb *lb = xcalloc(1, sizeof(*lb));

	pthread_mutex_init(&lb->lock, NULL);
	lb->cluster_mask = 63;
	lb->clusters = xcalloc(lb->cluster_mask + 1ul, sizeof(*lb->clusters));
	return lb;
}

/* ---- what nobody keeps any more ---- */

static bool host_idle(const struct host *h)
{
	return !h->refs && !atomic_load(&h->pub.active) && !atomic_load(&h->pub.conns);
}

static bool cluster_idle(const struct lb_cluster *c)
{
	for (int i = 0; i < LB_LIMIT_NR; i++)
		if (atomic_load(&c->taken[i]))
			return false;
	return !c->host_nr && !c->sets;
}

static void sweep_hosts(struct lb_cluster *c, bool all)
{
	for (uint32_t i = 0; i <= c->host_mask; i++) {
		struct host **at = &c->hosts[i], *h;

		while ((h = *at)) {
			if (!all && !host_idle(h)) {
				at = &h->next;
				continue;
			}
			*at = h->next;
			c->host_nr--;
			free(h);
		}
	}
}

static void sweep_clusters(struct lb *lb, struct lb_cluster **at, bool all)
{
	struct lb_cluster *c;

	while ((c = *at)) {
		sweep_hosts(c, all);
		if (!all && !cluster_idle(c)) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		lb->cluster_nr--;
		free(c->hosts);
		free((char *)c->name.p);
		free(c);
	}
}

static void sweep(struct lb *lb, bool all)
{
	for (uint32_t i = 0; i <= lb->cluster_mask; i++)
		sweep_clusters(lb, &lb->clusters[i], all);
}

void lb_free(struct lb *lb)
{
	if (!lb)
		return;
	sweep(lb, true);
	free(lb->clusters);
	pthread_mutex_destroy(&lb->lock);
	free(lb);
}

static void set_unref(struct set *s)
{
	struct set **at = &s->cluster->sets;

	if (--s->refs)
		return;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	for (uint32_t i = 0; i < s->nr; i++)
		s->members[i].host->refs--;
	set_free(s);
}

/* ---- what rules have ---- */

static void clusters_grow(struct lb *lb)
{
	uint32_t mask = 2 * lb->cluster_mask + 1;
	struct lb_cluster **more = xcalloc(mask + 1ul, sizeof(struct lb_cluster *)), *c;

	for (uint32_t i = 0; i <= lb->cluster_mask; i++)
		while ((c = lb->clusters[i])) {
			struct lb_cluster **chain = &more[str_hash(c->name) & mask];

			lb->clusters[i] = c->next;
			c->next = *chain;
			*chain = c;
		}
	free(lb->clusters);
	lb->clusters = more;
	lb->cluster_mask = mask;
}

static struct lb_cluster *cluster_get(struct lb *lb, struct str name)
{
	struct lb_cluster **chain, *c;
	char *copy;

	if (lb->cluster_nr > lb->cluster_mask)
		clusters_grow(lb);
	chain = &lb->clusters[str_hash(name) & lb->cluster_mask];
	for (c = *chain; c; c = c->next)
		if (str_eq(c->name, name))
			return c;
	copy = xmalloc(name.len + 1ul);
	memcpy(copy, name.p, name.len);
	c = xcalloc(1, sizeof(*c));
	c->lb = lb;
	c->name = (struct str){ copy, name.len };
	c->hosts = xcalloc(1, sizeof(struct host *));
	c->next = *chain;
	*chain = c;
	lb->cluster_nr++;
	return c;
}

static struct host **host_chain(const struct lb_cluster *c, const struct mesh_addr *addr, uint16_t port)
{
	return &c->hosts[(str_hash((struct str){ (const char *)addr, sizeof(*addr) }) + port) & c->host_mask];
}

static void hosts_grow(struct lb_cluster *c)
{
	struct host **old = c->hosts, *h;
	uint32_t old_mask = c->host_mask;

	c->host_mask = 2 * old_mask + 1;
	c->hosts = xcalloc(c->host_mask + 1ul, sizeof(struct host *));
	for (uint32_t i = 0; i <= old_mask; i++)
		while ((h = old[i])) {
			struct host **chain = host_chain(c, &h->pub.addr, h->pub.port);

			old[i] = h->next;
			h->next = *chain;
			*chain = h;
		}
	free(old);
}

static struct host *host_get(struct lb_cluster *c, const struct mesh_http_endpoint *e)
{
	struct host **chain, *h;

	if (c->host_nr > c->host_mask)
		hosts_grow(c);
	chain = host_chain(c, &e->addr, e->port);
	for (h = *chain; h; h = h->next)
		if (h->pub.port == e->port && !memcmp(&h->pub.addr, &e->addr, sizeof(e->addr)))
			return h;
	h = xcalloc(1, sizeof(*h));
	h->pub.addr = e->addr;
	h->pub.port = e->port;
	h->next = *chain;
	*chain = h;
	c->host_nr++;
	return h;
}

/* Of what a set is made of. */
static uint64_t content_hash(const struct mesh_http_image *image, const struct mesh_http_cluster *c)
{
	const struct mesh_http_endpoint *e = http_ref(image, c->endpoints);
	uint32_t what[] = { c->lb, c->table_size, c->min_health_percent, c->endpoints.nr };
	uint64_t hash = str_hash((struct str){ (const char *)what, sizeof(what) });

	for (uint32_t i = 0; i < c->endpoints.nr; i++) {
		struct mesh_http_endpoint one = e[i];

		one.workload = (struct mesh_ref){ 0 };
		hash = (hash ^ str_hash((struct str){ (const char *)&one, sizeof(one) })) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 32;
	}
	return hash;
}

static struct set *set_get(struct lb_cluster *cluster, const struct mesh_http_image *image,
			   const struct mesh_http_cluster *c)
{
	const struct mesh_http_endpoint *e = http_ref(image, c->endpoints);
	uint64_t hash = content_hash(image, c);
	struct set *s;

	for (s = cluster->sets; s; s = s->next)
		if (s->hash == hash && s->nr == c->endpoints.nr) {
			s->refs++;
			return s;
		}
	s = xcalloc(1, sizeof(*s));
	*s = (struct set){ .cluster = cluster,
			   .next = cluster->sets,
			   .refs = 1,
			   .hash = hash,
			   .lb = c->lb,
			   .min_health_percent = c->min_health_percent,
			   .nr = c->endpoints.nr,
			   .members = xcalloc(c->endpoints.nr ? c->endpoints.nr : 1, sizeof(*s->members)) };
	for (uint32_t i = 0; i < s->nr; i++) {
		struct host *h = host_get(cluster, &e[i]);

		h->refs++;
		s->members[i] = (struct member){ h, e[i].weight, e[i].level };
	}
	set_levels(s, c);
	cluster->sets = s;
	return s;
}

static void cluster_settings(struct lb_cluster *cluster, const struct mesh_http_cluster *c)
{
	atomic_store(&cluster->limit[LB_CONNECTIONS], c->max_connections);
	atomic_store(&cluster->limit[LB_PENDING], c->max_pending);
	atomic_store(&cluster->limit[LB_REQUESTS], c->max_requests);
	atomic_store(&cluster->limit[LB_RETRIES], c->max_retries);
	cluster->outlier = (struct outlier){ .given = c->outlier,
					     .interval_ms = c->interval_ms,
					     .base_ms = c->base_ejection_ms,
					     .max_ms = c->max_ejection_ms,
					     .max_percent = c->max_ejection_percent };
	atomic_store(&cluster->bad, c->outlier ? c->consecutive_5xx : 0);
	atomic_store(&cluster->bad_gateway, c->outlier ? c->consecutive_gateway : 0);
	atomic_store(&cluster->bad_local, c->outlier ? c->consecutive_local : 0);
}

static void view_fill(struct lb_view *v)
{
	const struct offset_map *images = &v->rules->images;

	for (uint32_t i = 0; images->slots && i <= images->mask; i++) {
		const struct mesh_http_image *image;
		const struct mesh_http_cluster *c;

		if (!images->slots[i].key)
			continue;
		image = (const void *)(v->rules->base + (uint32_t)images->slots[i].key);
		c = http_ref(image, image->clusters);
		for (uint32_t k = 0; k < image->clusters.nr; k++) {
			struct lb_cluster *cluster = cluster_get(v->lb, http_text(image, c[k].name));

			cluster_settings(cluster, &c[k]);
			offset_map_put(&v->sets, offset_key(rules_offset(v->rules, &c[k]), 0),
				       set_get(cluster, image, &c[k]));
		}
	}
}

struct lb_view *lb_attach(struct lb *lb, const struct http_rules *r)
{
	struct lb_view *v;

	pthread_mutex_lock(&lb->lock);
	for (v = lb->views; v && v->rules != r; v = v->next)
		;
	if (!v) {
		v = xcalloc(1, sizeof(*v));
		v->lb = lb;
		v->rules = http_rules_ref((struct http_rules *)r);
		view_fill(v);
		v->next = lb->views;
		lb->views = v;
	}
	v->refs++;
	sweep(lb, false);
	pthread_mutex_unlock(&lb->lock);
	return v;
}

void lb_detach(struct lb_view *v)
{
	struct lb *lb;
	struct lb_view **at;

	if (!v)
		return;
	lb = v->lb;
	pthread_mutex_lock(&lb->lock);
	if (--v->refs) {
		pthread_mutex_unlock(&lb->lock);
		return;
	}
	for (at = &lb->views; *at != v; at = &(*at)->next)
		;
	*at = v->next;
	for (uint32_t i = 0; v->sets.slots && i <= v->sets.mask; i++)
		if (v->sets.slots[i].key)
			set_unref(v->sets.slots[i].value);
	sweep(lb, false);
	pthread_mutex_unlock(&lb->lock);
	free(v->sets.slots);
	http_rules_unref(v->rules);
	free(v);
}

static const struct set *set_of(const struct lb_view *v, const struct mesh_http_cluster *c)
{
	return offset_map_get(&v->sets, offset_key(rules_offset(v->rules, c), 0));
}

struct lb_cluster *lb_of(const struct lb_view *v, const struct mesh_http_image *image,
			 const struct mesh_http_cluster *c)
{
	return set_of(v, c)->cluster;
}

struct lb_host *lb_pick(const struct lb_view *v, const struct mesh_http_image *image, const struct mesh_http_cluster *c,
			const uint64_t *hash, const struct lb_tried *tried, uint64_t draw, uint64_t now_ms,
			const struct mesh_http_endpoint **ret_ep)
{
	const struct mesh_http_endpoint *endpoints = http_ref(image, c->endpoints);
	const struct set *s = set_of(v, c);
	uint32_t at;

	if (!set_pick(s, hash, tried, draw, now_ms, &at))
		return NULL;
	*ret_ep = &endpoints[at];
	return &s->members[at].host->pub;
}

/* ---- limits ---- */

bool lb_take(struct lb_cluster *c, enum lb_limit what)
{
	uint32_t had = atomic_load_explicit(&c->taken[what], memory_order_relaxed);

	do
		if (had >= atomic_load_explicit(&c->limit[what], memory_order_relaxed))
			return false;
	while (!atomic_compare_exchange_weak(&c->taken[what], &had, had + 1));
	return true;
}

void lb_give(struct lb_cluster *c, enum lb_limit what)
{
	atomic_fetch_sub(&c->taken[what], 1);
}
