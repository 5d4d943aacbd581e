/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Endpoints and what belongs to all endpoints of a cluster. A backend is one endpoint of one cluster, by cluster, address, port and
 * protocol; it keeps its slot, and with that its counts, for as long as a table holds it or a connection of it is left. A pool is a
 * cluster by its name; clusters and backends hold it. Slots come back only after a grace period, as connect() may have found them just
 * before.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "plane/plane_int.h"

struct backend_key {
	struct mesh_addr addr;
	uint32_t pool;
	uint16_t port_be;
	uint8_t proto;
};

struct mesh_backend *backend_at(const struct plane *p, uint32_t slot)
{
	return marray_at((struct marray *)&p->backends, slot, 1);
}

struct mesh_tally *tally_at(const struct plane *p, uint32_t slot)
{
	return marray_at((struct marray *)&p->tallies, slot, 1);
}

struct mesh_pool *pool_at(const struct plane *p, uint32_t slot)
{
	return marray_at((struct marray *)&p->pools, slot, 1);
}

static uint64_t boot_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ---- pools ---- */

static uint64_t pool_hash(const void *owner, uint32_t slot)
{
	return slotset_mix(pool_at(owner, slot)->cluster_id);
}

static bool pool_eq(const void *owner, uint32_t slot, const void *key)
{
	return pool_at(owner, slot)->cluster_id == *(const uint32_t *)key;
}

static uint32_t pool_of_id(const struct plane *p, uint32_t cluster_id)
{
	return slotset_find(&p->pool_set, slotset_mix(cluster_id), pool_eq, &cluster_id);
}

uint32_t pool_find(struct plane *p, struct str name)
{
	uint32_t id = name_ref(p, MESH_NAME_CLUSTER, name), slot = pool_of_id(p, id);

	name_drop(p, id);
	return slot;
}

/* Shares of its weight that an endpoint gets as it warms up, in the middle of each step; one less, so that the whole fits. */
static void warmup_steps(const struct u_traffic *t, uint16_t *steps)
{
	for (uint32_t i = 0; i < MESH_WARMUP_STEPS; i++) {
		double age = (i + 0.5) / MESH_WARMUP_STEPS, least = t->warmup_min / 1000.0;
		double part = t->warmup_aggression ? pow(age, 1000.0 / t->warmup_aggression) : age;

		if (part < least)
			part = least;
		steps[i] = (uint16_t)(part >= 1 ? 65535 : part * 65536);
	}
}

/* What connect() reads of it is written word by word, while it may be read. */
static void pool_write(struct plane *p, uint32_t slot, const struct u_traffic *t)
{
	struct mesh_pool *pool = pool_at(p, slot);

	pool->max_connections = t->max_connections;
	pool->connect_timeout_ms = t->connect_timeout_ms;
	pool->keepalive_time_s = t->keepalive_time_s;
	pool->keepalive_interval_s = t->keepalive_interval_s;
	pool->keepalive_probes = t->keepalive_probes;
	pool->affinity_s = t->affinity_s;
	pool->warmup_ms = t->warmup_ms;
	pool->connect_failures = t->connect_failures;
	pool->resets = t->resets;
	pool->base_ejection_ms = t->base_ejection_ms;
	pool->max_ejection_ms = t->max_ejection_ms;
	pool->flags = (uint8_t)((t->outlier ? MESH_POOL_OUTLIER : 0) | (t->keepalive ? MESH_POOL_KEEPALIVE : 0));
	pool->max_ejection_percent = t->max_ejection_percent;
	pool->min_health_percent = t->min_health_percent;
	warmup_steps(t, pool->warmup);
	if (t->connect_timeout_ms && t->connect_timeout_ms < MESH_SYN_TIMEOUT_MS)
		__atomic_fetch_or(&p->control->flags, MESH_CONTROL_HASTE, __ATOMIC_RELAXED);
}

uint32_t pool_get(struct plane *p, const struct u_cluster *c)
{
	uint32_t id = name_ref(p, MESH_NAME_CLUSTER, c->name), slot = pool_of_id(p, id);

	if (slot) {
		name_drop(p, id);
		p->pool_refs[slot]++;
		return slot;
	}
	slot = slots_get(&p->pool_slots);
	if (!slot) {
		name_drop(p, id);
		return 0;
	}
	*pool_at(p, slot) = (struct mesh_pool){ .cluster_id = id };
	pool_write(p, slot, &c->traffic);
	p->pool_refs[slot] = 1;
	slotset_add(&p->pool_set, slot);
	return slot;
}

void pool_hold(struct plane *p, uint32_t slot)
{
	p->pool_refs[slot]++;
}

void pool_drop(struct plane *p, uint32_t slot)
{
	if (!slot || --p->pool_refs[slot])
		return;
	slotset_del(&p->pool_set, slot);
	name_drop(p, pool_at(p, slot)->cluster_id);
	slots_put(&p->pool_slots, slot);
}

bool pool_adopt(struct plane *p, uint32_t slot)
{
	if (!slot || slot >= p->map_max[PLANE_MAP_POOLS])
		return false;
	if (slots_take(&p->pool_slots, slot)) {
		slotset_add(&p->pool_set, slot);
		name_hold(p, pool_at(p, slot)->cluster_id);
		p->pool_refs[slot] = 0;
	}
	p->pool_refs[slot]++;
	return true;
}

/* Endpoints of both families; a cluster of this node's endpoints only has some of those. */
static uint32_t endpoints_of(const struct unit *u, struct str name)
{
	uint32_t nr[2] = { 0 };

	for (uint32_t i = 0; i < u->cluster_nr; i++) {
		const struct u_cluster *c = &u->clusters[i];

		if (c->endpoint_nr > nr[c->v6] && str_eq(c->name, name))
			nr[c->v6] = c->endpoint_nr;
	}
	return nr[0] + nr[1];
}

/* Ends an ejection without regard to its time. */
static void eject_end(struct plane *p, uint32_t slot)
{
	if (__atomic_exchange_n(&backend_at(p, slot)->ejected_until_ns, 0, __ATOMIC_ACQ_REL))
		__atomic_fetch_sub(&pool_at(p, backend_at(p, slot)->pool)->ejected, 1, __ATOMIC_ACQ_REL);
}

/* It does not count among the endpoints of its pool that fail. */
static void fail_end(struct plane *p, uint32_t slot)
{
	uint16_t was = __atomic_fetch_and(&backend_at(p, slot)->flags, (__u16)~MESH_HEALTH_FAILS, __ATOMIC_ACQ_REL);

	if (was & MESH_HEALTH_FAILS)
		__atomic_fetch_sub(&pool_at(p, backend_at(p, slot)->pool)->unhealthy, 1, __ATOMIC_ACQ_REL);
}

/* Nothing ejects any more what this cluster has: who was ejected is no longer. */
static void ejections_end(struct plane *p, const struct unit *u, const struct u_cluster *c, uint32_t pool)
{
	for (uint32_t i = 0; i < c->endpoint_nr && pool_at(p, pool)->ejected; i++) {
		const struct u_endpoint *e = &u->endpoints[c->endpoint + i];
		uint32_t slot = backend_find(p, pool, &e->addr, e->port, MESH_PROTO_TCP);

		if (slot)
			eject_end(p, slot);
	}
}

void pools_commit(struct plane *p, const struct unit *u)
{
	for (uint32_t i = 0; i < u->cluster_nr; i++) {
		uint32_t slot = pool_find(p, u->clusters[i].name);

		if (!slot)
			continue;
		pool_write(p, slot, &u->clusters[i].traffic);
		pool_at(p, slot)->endpoint_nr = endpoints_of(u, u->clusters[i].name);
		if (!u->clusters[i].traffic.outlier)
			ejections_end(p, u, &u->clusters[i], slot);
	}
}

/* ---- backends ---- */

static uint64_t key_hash(const struct backend_key *k)
{
	uint64_t w[2];

	memcpy(w, &k->addr, sizeof(w));
	return slotset_mix(slotset_mix(w[0] ^ ((uint64_t)k->pool << 32 | (uint32_t)k->port_be << 8 | k->proto)) ^ w[1]);
}

static uint64_t hash_by_slot(const void *owner, uint32_t slot)
{
	const struct mesh_backend *b = backend_at(owner, slot);

	return key_hash(
		&(struct backend_key){ .addr = b->addr, .pool = b->pool, .port_be = b->port_be, .proto = b->proto });
}

static bool eq_by_key(const void *owner, uint32_t slot, const void *key)
{
	const struct mesh_backend *b = backend_at(owner, slot);
	const struct backend_key *want = key;

	return b->port_be == want->port_be && b->proto == want->proto && b->pool == want->pool &&
	       !memcmp(&b->addr, &want->addr, sizeof(b->addr));
}

void backends_init(struct plane *p)
{
	slots_init(&p->pool_slots, p->map_max[PLANE_MAP_POOLS]);
	p->pool_refs = xcalloc(p->map_max[PLANE_MAP_POOLS], sizeof(*p->pool_refs));
	slotset_init(&p->pool_set, pool_hash, p);
	slots_init(&p->backend_slots, p->map_max[PLANE_MAP_BACKENDS]);
	p->backend_refs = xcalloc(p->map_max[PLANE_MAP_BACKENDS], sizeof(*p->backend_refs));
	p->backend_tags = xcalloc(p->map_max[PLANE_MAP_BACKENDS], sizeof(*p->backend_tags));
	slotset_init(&p->backend_set, hash_by_slot, p);
}

void backends_release(struct plane *p)
{
	free(p->pool_refs);
	free(p->backend_refs);
	free(p->backend_tags);
	free(p->parked);
	slotset_release(&p->pool_set);
	slotset_release(&p->backend_set);
	slots_release(&p->pool_slots);
	slots_release(&p->backend_slots);
}

void backend_hold(struct plane *p, uint32_t slot)
{
	p->backend_refs[slot]++;
}

bool backend_adopt(struct plane *p, uint32_t slot)
{
	if (slots_used(&p->backend_slots, slot))
		return slot < p->map_max[PLANE_MAP_BACKENDS];
	if (!pool_adopt(p, backend_at(p, slot)->pool))
		return false;
	slots_take(&p->backend_slots, slot);
	slotset_add(&p->backend_set, slot);
	name_hold(p, backend_at(p, slot)->workload_id);
	return true;
}

static void backend_free(struct plane *p, uint32_t slot)
{
	struct mesh_backend *b = backend_at(p, slot);

	eject_end(p, slot);
	slotset_del(&p->backend_set, slot);
	name_drop(p, b->workload_id);
	pool_drop(p, b->pool);
	slots_put(&p->backend_slots, slot);
}

/* No table holds it any more: it gets no new connections, and its slot waits until none is left. */
static void backend_leave(struct plane *p, uint32_t slot)
{
	struct mesh_backend *b = backend_at(p, slot);

	b->since_ns = boot_ns();
	__atomic_fetch_or(&b->flags, MESH_HEALTH_DRAINS, __ATOMIC_RELAXED);
	__atomic_store_n(&b->used, 0, __ATOMIC_RELEASE);
	eject_end(p, slot);
	fail_end(p, slot);
	p->backend_tags[slot] = ++p->backend_tag;
	retire(p, RETIRED_BACKEND, slot, NULL);
	p->retired[p->retired_nr - 1].leave = p->backend_tag;
}

void backend_drop(struct plane *p, uint32_t slot)
{
	if (slot && !--p->backend_refs[slot])
		backend_leave(p, slot);
}

/* Nothing has changed about it since it left under this tag. */
static bool left(const struct plane *p, uint32_t slot, uint32_t tag)
{
	return p->backend_tags[slot] == tag && !p->backend_refs[slot];
}

void backend_park(struct plane *p, uint32_t slot, uint32_t tag)
{
	if (!left(p, slot, tag))
		return;
	p->parked = plane_grow(p->parked, p->parked_nr, &p->parked_cap, sizeof(*p->parked));
	p->parked[p->parked_nr++] = (struct parked){ slot, tag };
}

void backends_reap(struct plane *p)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < p->parked_nr; i++) {
		const struct parked at = p->parked[i];

		if (!left(p, at.slot, at.tag))
			continue;
		if (__atomic_load_n(&backend_at(p, at.slot)->active, __ATOMIC_ACQUIRE)) {
			p->parked[nr++] = at;
			continue;
		}
		backend_free(p, at.slot);
		p->backend_tags[at.slot] = 0;
	}
	p->parked_nr = nr;
}

/* `was` is nobody's: an earlier meshd ended before it had taken it from the ejected and failing ones of its pool, if it is one. */
static void backend_abandon(struct plane *p, uint32_t slot, const struct mesh_backend *was)
{
	if (was->pool >= p->map_max[PLANE_MAP_POOLS] || (!was->used && !was->ejected_until_ns && !was->flags))
		return;
	__atomic_store_n(&backend_at(p, slot)->used, 0, __ATOMIC_RELEASE);
	eject_end(p, slot);
	fail_end(p, slot);
}

/* Connections that an earlier meshd's rules led to backends which no rule has any more. Their counts go on. */
int backends_adopt_left(struct plane *p)
{
	struct mesh_backend *all = xcalloc(1024, sizeof(*all));
	uint32_t nr, in = 0, out = 0, *keys = xcalloc(1024, sizeof(*keys));
	bool first = true;
	int rc = 0;

	while (!rc) {
		nr = 1024;
		rc = plane_errno(bpf_map_lookup_batch(p->map_fd[PLANE_MAP_BACKENDS], first ? NULL : &in, &out, keys,
						      all, &nr, NULL));
		for (uint32_t i = 0; i < nr && (!rc || rc == -ENOENT); i++) {
			if (slots_used(&p->backend_slots, keys[i]))
				continue;
			if (!all[i].active || !backend_adopt(p, keys[i])) {
				backend_abandon(p, keys[i], &all[i]);
				continue;
			}
			p->backend_tags[keys[i]] = ++p->backend_tag;
			__atomic_store_n(&backend_at(p, keys[i])->used, 0, __ATOMIC_RELEASE);
			backend_park(p, keys[i], p->backend_tag);
		}
		in = out;
		first = false;
	}
	free(all);
	free(keys);
	return rc == -ENOENT ? 0 : rc;
}

static uint32_t find(const struct plane *p, const struct backend_key *key)
{
	return slotset_find(&p->backend_set, key_hash(key), eq_by_key, key);
}

uint32_t backend_find(const struct plane *p, uint32_t pool, const struct addr *addr, uint16_t port, uint8_t proto)
{
	struct backend_key key = { .pool = pool, .port_be = htons(port), .proto = proto };

	memcpy(&key.addr, addr, sizeof(key.addr));
	return find(p, &key);
}

/* It is there again, or for the first time. Whoever comes to a cluster that has endpoints warms up. */
static void backend_enter(struct plane *p, uint32_t slot)
{
	struct mesh_backend *b = backend_at(p, slot);

	b->since_ns = pool_at(p, b->pool)->endpoint_nr ? boot_ns() : 0;
	__atomic_fetch_and(&b->flags, (__u16)~MESH_HEALTH_DRAINS, __ATOMIC_RELAXED);
	__atomic_store_n(&b->used, 1, __ATOMIC_RELEASE);
}

uint32_t backend_get(struct plane *p, const struct unit *u, const struct u_endpoint *e, uint8_t proto, uint32_t pool)
{
	struct backend_key key = { .pool = pool, .port_be = htons(e->port), .proto = proto };
	uint32_t slot, id, old;
	struct mesh_backend *b;

	memcpy(&key.addr, &e->addr, sizeof(key.addr));
	slot = find(p, &key);
	if (!slot) {
		slot = slots_get(&p->backend_slots);
		if (!slot)
			return 0;
		*backend_at(p, slot) =
			(struct mesh_backend){ .addr = key.addr, .port_be = key.port_be, .proto = proto, .pool = pool };
		*tally_at(p, slot) = (struct mesh_tally){ 0 };
		pool_hold(p, pool);
		slotset_add(&p->backend_set, slot);
	}
	b = backend_at(p, slot);
	if (!b->used)
		backend_enter(p, slot);
	if (!e->workload)
		return slot;
	/* Only names in flow records hang on the workload: when an address changes hands, the next flow may say so at once. */
	old = b->workload_id;
	id = name_ref(p, MESH_NAME_WORKLOAD, u->workloads[e->workload - 1].text);
	__atomic_store_n(&b->workload_id, id, __ATOMIC_RELAXED);
	name_drop(p, old);
	return slot;
}

/* A backend that was found or made, but that no column came to hold. */
void backend_unused(struct plane *p, uint32_t slot)
{
	if (slot && slots_used(&p->backend_slots, slot) && !p->backend_refs[slot]) {
		p->backend_refs[slot] = 1;
		backend_drop(p, slot);
	}
}
