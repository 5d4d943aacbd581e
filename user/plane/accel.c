/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is accelerated: which pods may be, by settings and annotations, and what the kernel says of it. The kernel decides about each
 * connection (bpf/redirect.bpf.c).
 */
#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/census.h"
#include "plane/parser.h"
#include "plane/plane_int.h"

uint32_t accel_mode(const struct plane *p, const struct client *c)
{
	static const uint32_t modes[ACCELERATE_NR] = {
		[ACCELERATE_OFF] = MESH_ACCELERATE_OFF,
		[ACCELERATE_AUTO] = MESH_ACCELERATE_AUTO,
		[ACCELERATE_ON] = MESH_ACCELERATE_ON,
	};

	return modes[c->accelerate ? c->accelerate : p->accel.mode];
}

#define TRIAL_MESSAGE 65536

/* What the self-test sends one way is not bulk, however little may be; until that is over nobody else begins to be
 * accelerated. */
static uint32_t message(const struct plane *p)
{
	return selftest_over(p) || p->accel.message > TRIAL_MESSAGE ? p->accel.message : TRIAL_MESSAGE;
}

void accel_init(struct plane *p)
{
	struct mesh_limits *l = &p->control->limits;

	l->message = message(p);
	l->held = p->accel.flow;
	l->pod_ends = p->accel.pod / p->accel.flow;
	l->loopback = p->accel.loopback;
	l->parser = 0;
	p->accel.waiting = l->waiting;
	p->accel.due = true;
}

/* Pods that are gone count no ends any more. */
static void forget_pods(struct plane *p)
{
	int fd = p->map_fd[PLANE_MAP_POD_ENDS];
	uint64_t key, next;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);
	uint32_t slot;

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (key != p->parser.cookie && bpf_map_lookup_elem(p->map_fd[PLANE_MAP_NETNS], &key, &slot))
			bpf_map_delete_elem(fd, &key);
	}
}

bool accel_can(const struct plane *p)
{
	return p->sockets && p->prog_fd[PLANE_PROG_SEND] >= 0 && p->iter_fd[PLANE_ITER_STEP_ENDS] >= 0;
}

static void set_flag(struct plane *p, uint32_t flag, bool on)
{
	if (on)
		__atomic_or_fetch(&p->control->flags, flag, __ATOMIC_RELEASE);
	else
		__atomic_and_fetch(&p->control->flags, ~flag, __ATOMIC_RELEASE);
}

/* Of processes that are not this meshd's nobody knows whether they read as they must. */
static void let_parser(struct plane *p)
{
	bool may = p->accel.parser && p->parser.netns_fd >= 0 && parser_is_own(p->meshl7);

	__atomic_store_n(&p->control->limits.parser, may ? p->parser.cookie : 0, __ATOMIC_RELEASE);
}

void accel_sync(struct plane *p)
{
	struct buf err = { 0 };
	bool wanted = false;

	for (uint32_t i = 0; i < p->pods.enrolled_nr && accel_can(p); i++)
		wanted |= pod_row_at(p, p->pods.enrolled[i].slot)->accelerate >= MESH_ACCELERATE_AUTO;
	wanted &= !selftest_refusal(p);
	if (wanted && links_trace(p, &err)) {
		log_warn("nothing is accelerated error=%s", err.data ? err.data : "");
		wanted = false;
	}
	/* Until the self-test is over, connections of pods stay what they are. */
	set_flag(p, MESH_CONTROL_TRIAL, !selftest_over(p));
	p->control->limits.message = message(p);
	set_flag(p, MESH_CONTROL_ACCELERATE, wanted);
	let_parser(p);
	p->accel.due = true;
	forget_pods(p);
	census_forget(p);
	buf_release(&err);
}

static bool any_socket(int fd)
{
	uint64_t key;

	return !bpf_map_get_next_key(fd, NULL, &key);
}

static int still_waits(void *data, int netns_fd, const char *out, size_t len)
{
	struct plane *p = data;

	(void)netns_fd;
	(void)out;
	p->accel.due |= len > 0;
	return 0;
}

void accel_idle(struct plane *p)
{
	static const enum plane_iter_id ids[] = { PLANE_ITER_STEP_ENDS };
	uint32_t waiting = __atomic_load_n(&p->control->limits.waiting, __ATOMIC_ACQUIRE);
	bool due = (p->accel.due && any_socket(p->map_fd[PLANE_MAP_SOCKETS])) || waiting != p->accel.waiting;

	p->accel.due = false;
	p->accel.waiting = waiting;
	if (due)
		podsocks_run(p, &(struct podsocks){
					.ids = ids, .id_nr = 1, .parser = true, .wrote = still_waits, .data = p });
}

/* What the ends of one pod's connections are like. */
struct tally {
	uint64_t cookie;
	uint32_t states[MESH_END_STATE_NR], whys[MESH_WHY_NR];
	uint64_t redirected; /* bytes that they sent past TCP */
};

struct tallies {
	struct tally *items;
	uint32_t nr;
};

#define X(name, label, ...) label,
static const char *const state_labels[] = { MESH_END_STATES(X) };
static const char *const why_labels[] = { MESH_WHYS(X) };
#undef X
#define X(name, label, text) text,
static const char *const why_texts[] = { MESH_WHYS(X) };
#undef X

/* The next end that the iterator has written, and that this meshd knows the words for. */
static bool next_end(const char *out, size_t len, size_t *at, struct mesh_end *ret)
{
	while (*at + sizeof(*ret) <= len) {
		memcpy(ret, out + *at, sizeof(*ret));
		*at += sizeof(*ret);
		if (ret->state < MESH_END_STATE_NR && ret->why < MESH_WHY_NR)
			return true;
	}
	return false;
}

static int count_ends(void *data, int netns_fd, const char *out, size_t len)
{
	struct tallies *t = data;
	struct mesh_end end;
	size_t at = 0;

	(void)netns_fd;
	while (next_end(out, len, &at, &end)) {
		for (uint32_t i = 0; i < t->nr; i++) {
			struct tally *one = &t->items[i];

			if (one->cookie != end.netns_cookie)
				continue;
			one->states[end.state]++;
			one->whys[end.why] += end.why != MESH_WHY_NONE;
			one->redirected += end.redirected;
		}
	}
	return 0;
}

static int keep_ends(void *data, int netns_fd, const char *out, size_t len)
{
	struct accel_ends *ends = data;
	struct mesh_end end;
	size_t at = 0;

	(void)netns_fd;
	while (next_end(out, len, &at, &end)) {
		ends->items = plane_grow(ends->items, ends->nr, &ends->cap, sizeof(*ends->items));
		ends->items[ends->nr++] = (struct accel_end){
			.cookie = end.cookie,
			.state = state_labels[end.state],
			.why = end.why == MESH_WHY_NONE ? NULL : why_texts[end.why],
		};
	}
	return 0;
}

static int end_cmp(const void *a, const void *b)
{
	const struct accel_end *x = a, *y = b;

	return x->cookie < y->cookie ? -1 : x->cookie > y->cookie;
}

void accel_ends_read(struct plane *p, struct accel_ends *ret)
{
	static const enum plane_iter_id ids[] = { PLANE_ITER_SHOW_ENDS };

	if (!(p->control->flags & MESH_CONTROL_ACCELERATE))
		return;
	podsocks_run(p, &(struct podsocks){ .ids = ids, .id_nr = 1, .wrote = keep_ends, .data = ret });
	if (ret->nr)
		qsort(ret->items, ret->nr, sizeof(*ret->items), end_cmp);
}

const struct accel_end *accel_ends_find(const struct accel_ends *ends, uint64_t cookie)
{
	const struct accel_end key = { .cookie = cookie };

	return ends->nr ? bsearch(&key, ends->items, ends->nr, sizeof(key), end_cmp) : NULL;
}

static void counts_json(struct json *j, const char *key, const char *const *labels, const uint32_t *counts, uint32_t nr)
{
	json_key(j, key);
	json_object(j);
	for (uint32_t i = 1; i < nr; i++)
		if (counts[i])
			json_kuint(j, labels[i], counts[i]);
	json_object_end(j);
}

static void tally_json(struct json *j, const struct tally *t)
{
	json_kuint(j, "accelerated", t->states[MESH_END_ENROLLED] + t->states[MESH_END_READY]);
	json_kuint(j, "bytes_redirected", t->redirected);
	counts_json(j, "connections", state_labels, t->states, MESH_END_STATE_NR);
	counts_json(j, "why", why_labels, t->whys, MESH_WHY_NR);
}

static void workload_json(struct json *j, const struct plane *p, const struct client *c, const struct tally *t)
{
	json_object(j);
	json_kstr(j, "namespace", c->ns);
	json_kstr(j, "pod", c->name);
	json_kstr(j, "accelerate", str_of(accelerate_text(c->accelerate ? c->accelerate : p->accel.mode)));
	json_kstr(j, "by", c->accelerate ? c->accelerate_by : STR("mesh"));
	tally_json(j, t);
	json_key(j, "programs");
	census_json(j, p, t->cookie);
	json_object_end(j);
}

/* Of connections with meshl7: its ends. */
static void parser_past_json(struct json *j, const struct plane *p, const struct tally *t)
{
	json_key(j, "parser");
	json_object(j);
	json_kbool(j, "accelerate", p->accel.parser);
	tally_json(j, t);
	json_object_end(j);
}

void accel_json(struct json *j, struct plane *p)
{
	static const enum plane_iter_id ids[] = { PLANE_ITER_SHOW_ENDS };
	struct tallies t = { xcalloc((size_t)p->pods.nr + 1, sizeof(*t.items)), p->pods.nr + 1 };

	for (uint32_t i = 0; i < p->pods.nr; i++)
		t.items[i].cookie = p->pods.items[i].cookie;
	t.items[p->pods.nr].cookie = p->parser.cookie;
	if (p->control->flags & MESH_CONTROL_ACCELERATE)
		podsocks_run(p, &(struct podsocks){
					.ids = ids, .id_nr = 1, .parser = true, .wrote = count_ends, .data = &t });
	json_key(j, "acceleration");
	json_object(j);
	json_kstr(j, "accelerate", str_of(accelerate_text(p->accel.mode)));
	json_kbool(j, "loopback", p->accel.loopback);
	selftest_json(j, p);
	json_key(j, "workloads");
	json_array(j);
	for (uint32_t i = 0; p->snapshot && i < p->pods.nr; i++)
		if (pod_enrols(&p->pods, i, p->snapshot))
			workload_json(j, p, &p->snapshot->clients[p->pods.items[i].client - 1], &t.items[i]);
	json_array_end(j);
	parser_past_json(j, p, &t.items[p->pods.nr]);
	json_object_end(j);
	free(t.items);
}
