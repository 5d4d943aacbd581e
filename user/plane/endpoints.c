/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * plane_endpoints: how each endpoint of the live rules fares, and why, read out of the maps. Endpoints that the rules have no more are
 * among them for as long as connections are left on them. Reads only.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "plane/health_int.h"

struct listing {
	struct plane *p;
	struct str host;
	endpoint_fn fn;
	void *data;
	uint64_t now, real_minus_boot_ns;
	uint64_t *shown; /* bitmap of backends */
	bool stopped;
	char why[128];
};

static uint64_t realtime_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* The n-th part of "outbound|port|subset|host". */
static struct str cluster_part(struct str cluster, uint32_t n)
{
	for (; n; n--) {
		int bar = str_find(cluster, '|');

		if (bar < 0)
			return (struct str){ 0 };
		cluster = str_sub(cluster, (uint32_t)bar + 1, cluster.len);
	}
	return str_find(cluster, '|') < 0 ? cluster : str_sub(cluster, 0, (uint32_t)str_find(cluster, '|'));
}

static bool holds(struct str s, const char *what)
{
	return s.len && memmem(s.p, s.len, what, strlen(what));
}

static bool host_is(struct str host, struct str want)
{
	int slash = str_find(want, '/');
	struct buf text = { 0 };
	bool is;

	if (slash >= 0)
		buf_printf(&text, "%.*s.%.*s", (int)want.len - slash - 1, want.p + slash + 1, slash, want.p);
	else
		buf_str(&text, want);
	want = (struct str){ text.data ? text.data : "", (uint32_t)text.len };
	is = str_eq(host, want) || (want.len && str_starts(host, want) && host.len > want.len &&
				    host.p[want.len] == '.' && holds(str_sub(host, want.len, host.len), ".svc."));
	buf_release(&text);
	return is;
}

static uint64_t seconds_to(uint64_t now, uint64_t then)
{
	return then > now ? (then - now + 999999999) / 1000000000 : 0;
}

#define X(name, label, text) text,
static const char *const causes[MESH_CAUSE_NR] = { MESH_CAUSES(X) };
#undef X

static void say_ejection(struct listing *l, const struct endpoint_view *v)
{
	const struct mesh_backend *b = &v->backend;
	uint64_t from = b->ejected_until_ns - (uint64_t)v->tally.ejected_for_ms * 1000000;

	snprintf(l->why, sizeof(l->why), "%s %llus ago, for %llus more",
		 causes[b->cause < MESH_CAUSE_NR ? b->cause : 0], (unsigned long long)((l->now - from) / 1000000000),
		 (unsigned long long)seconds_to(l->now, b->ejected_until_ns));
}

static enum endpoint_state judge(struct listing *l, struct endpoint_view *v)
{
	const struct mesh_backend *b = &v->backend;
	uint64_t warm_ns = (uint64_t)v->pool.warmup_ms * 1000000;

	l->why[0] = 0;
	if (!v->weight) {
		snprintf(l->why, sizeof(l->why), "the rules have it no more");
		return ENDPOINT_GONE;
	}
	if (b->flags & MESH_HEALTH_DRAINS) {
		snprintf(l->why, sizeof(l->why), "not ready, or terminating");
		return ENDPOINT_DRAINING;
	}
	if (b->flags & MESH_HEALTH_FAILS) {
		snprintf(l->why, sizeof(l->why), "check: %.*s", STR_ARG(v->check));
		return ENDPOINT_UNHEALTHY;
	}
	if (b->ejected_until_ns > l->now) {
		say_ejection(l, v);
		return ENDPOINT_EJECTED;
	}
	if (warm_ns && b->since_ns && l->now - b->since_ns < warm_ns) {
		snprintf(l->why, sizeof(l->why), "for %llus more",
			 (unsigned long long)seconds_to(l->now, b->since_ns + warm_ns));
		return ENDPOINT_WARMING_UP;
	}
	return ENDPOINT_HEALTHY;
}

/* `e` is NULL for one that the rules have no more. */
static void show(struct listing *l, uint32_t slot, const struct unit *u, const struct u_endpoint *e)
{
	struct plane *p = l->p;
	struct endpoint_view v = { .backend = *backend_at(p, slot), .tally = *tally_at(p, slot) };
	const char *check = p->health ? check_result(p->health, slot) : NULL;

	if (l->stopped || (l->shown[slot / 64] >> slot % 64 & 1))
		return;
	l->shown[slot / 64] |= 1ull << slot % 64;
	v.pool = *pool_at(p, v.backend.pool);
	v.cluster = name_text(p, v.pool.cluster_id);
	v.workload = name_text(p, v.backend.workload_id);
	v.check = str_of(check ? check : "");
	if (e) {
		v.weight = e->weight;
		v.level = e->level;
		v.locality = e->locality ? u->localities[e->locality - 1] : (struct str){ 0 };
	}
	v.state = judge(l, &v);
	v.why = str_of(l->why);
	if (v.state == ENDPOINT_EJECTED) {
		v.until_realtime_ns = v.backend.ejected_until_ns + l->real_minus_boot_ns;
		v.from_realtime_ns = v.until_realtime_ns - (uint64_t)v.tally.ejected_for_ms * 1000000;
	}
	if (v.backend.since_ns)
		v.since_realtime_ns = v.backend.since_ns + l->real_minus_boot_ns;
	l->stopped = !l->fn(l->data, &v);
}

static void show_cluster(struct listing *l, const struct unit *u, const struct u_cluster *c)
{
	static const uint8_t protos[] = { MESH_PROTO_TCP, MESH_PROTO_UDP };

	uint32_t pool = pool_find(l->p, c->name);

	for (uint32_t i = 0; i < c->endpoint_nr + c->draining_nr && pool; i++) {
		const struct u_endpoint *e = &u->endpoints[c->endpoint + i];

		for (uint32_t k = 0; k < sizeof(protos); k++) {
			uint32_t slot = backend_find(l->p, pool, &e->addr, e->port, protos[k]);

			if (slot)
				show(l, slot, u, e);
		}
	}
}

static void show_gone(struct listing *l)
{
	struct plane *p = l->p;

	for (uint32_t i = 0; (i = backend_next(p, i));) {
		struct str cluster = name_text(p, pool_at(p, backend_at(p, i)->pool)->cluster_id);

		if (backend_at(p, i)->active && (!l->host.len || host_is(cluster_part(cluster, 3), l->host)))
			show(l, i, NULL, NULL);
	}
}

void plane_endpoints(struct plane *p, struct str host, endpoint_fn fn, void *data)
{
	struct listing l = { .p = p, .host = host, .fn = fn, .data = data, .now = health_now_ns() };
	const struct snapshot *s = p->snapshot;

	l.real_minus_boot_ns = realtime_ns() - l.now;
	l.shown = xcalloc(p->backend_slots.max / 64 + 1, sizeof(*l.shown));
	for (uint32_t i = 0; s && i < s->unit_nr; i++) {
		const struct unit *u = s->units[i];

		for (uint32_t k = 0; k < u->cluster_nr && (!host.len || host_is(u->host, host)); k++)
			show_cluster(&l, u, &u->clusters[k]);
	}
	show_gone(&l);
	free(l.shown);
}

void endpoints_json(struct json *j, const struct plane *p)
{
	uint64_t active = 0, overflow = 0, ejected = 0, unhealthy = 0;

	for (uint32_t i = 1; i < p->pool_slots.max; i++) {
		if (!(i & 63) && !p->pool_slots.used[i / 64]) {
			i |= 63;
			continue;
		}
		if (!slots_used(&p->pool_slots, i))
			continue;
		active += pool_at(p, i)->active;
		overflow += pool_at(p, i)->overflow;
		ejected += pool_at(p, i)->ejected;
		unhealthy += pool_at(p, i)->unhealthy;
	}
	json_key(j, "endpoints");
	json_object(j);
	json_kuint(j, "ejected", ejected);
	json_kuint(j, "unhealthy", unhealthy);
	json_kuint(j, "leaving", p->parked_nr);
	json_kuint(j, "checked", p->health ? p->health->checked_nr : 0);
	json_kuint(j, "active", active);
	json_kuint(j, "overflow", overflow);
	json_object_end(j);
}
