/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots that nothing leads to any more wait here until no program that may have seen them still runs. The wait is one system
 * call (an update of mesh_barrier, some 10 ms) in a thread of its own: an apply only waits when it would run dry.
 *
 * Barriers are numbered. What is retired while n were started is free when barrier n+1 is done, since only that one is sure to
 * have begun after. A key that is gone takes two: one until no reader needs its history, then it is deleted, and one for the slot.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/plane_int.h"

void *plane_grow(void *items, uint32_t nr, uint32_t *cap, size_t size)
{
	if (nr < *cap)
		return items;
	*cap = *cap ? *cap * 2 : 16;
	return xrealloc(items, *cap * size);
}

int plane_errno(int rc)
{
	if (rc >= 0)
		return 0;
	return rc == -1 && errno ? -errno : rc;
}

static void *barrier_main(void *data)
{
	struct barrier *b = data;

	pthread_mutex_lock(&b->mutex);
	while (!b->stop) {
		uint64_t number = b->started, one = 1;
		uint32_t zero = 0;
		int rc;

		if (b->done == number) {
			pthread_cond_wait(&b->cond, &b->mutex);
			continue;
		}
		pthread_mutex_unlock(&b->mutex);
		rc = bpf_map_update_elem(b->map_fd, &zero, &b->inner_fd, BPF_ANY);
		if (rc)
			usleep(100000);
		pthread_mutex_lock(&b->mutex);
		if (rc)
			continue;
		b->done = number;
		b->safe = b->live_at_start;
		pthread_cond_broadcast(&b->cond);
		if (write(b->event_fd, &one, sizeof(one)) != sizeof(one))
			continue; /* full: it polls readable already */
	}
	pthread_mutex_unlock(&b->mutex);
	return NULL;
}

int barrier_init(struct plane *p)
{
	struct barrier *b = &p->barrier;
	sigset_t all, old;
	int err;

	b->map_fd = p->map_fd[PLANE_MAP_BARRIER];
	b->inner_fd =
		bpf_map_create(BPF_MAP_TYPE_ARRAY, "mesh_barrier_in", sizeof(uint32_t), sizeof(uint32_t), 1, NULL);
	if (b->inner_fd < 0)
		return -errno;
	b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->event_fd < 0)
		return -errno;
	pthread_mutex_init(&b->mutex, NULL);
	pthread_cond_init(&b->cond, NULL);
	/* Signals are the caller's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&b->thread, NULL, barrier_main, b);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	b->running = !err;
	return err;
}

void barrier_release(struct plane *p)
{
	struct barrier *b = &p->barrier;

	if (b->running) {
		pthread_mutex_lock(&b->mutex);
		b->stop = true;
		pthread_cond_broadcast(&b->cond);
		pthread_mutex_unlock(&b->mutex);
		pthread_join(b->thread, NULL);
		pthread_mutex_destroy(&b->mutex);
		pthread_cond_destroy(&b->cond);
		b->running = false;
	}
	if (b->inner_fd >= 0)
		close(b->inner_fd);
	if (b->event_fd >= 0)
		close(b->event_fd);
	b->inner_fd = b->event_fd = -1;
}

static uint64_t barrier_done(struct plane *p)
{
	uint64_t done;

	pthread_mutex_lock(&p->barrier.mutex);
	done = p->barrier.done;
	pthread_mutex_unlock(&p->barrier.mutex);
	return done;
}

uint64_t barrier_safe(struct plane *p)
{
	uint64_t safe;

	pthread_mutex_lock(&p->barrier.mutex);
	safe = p->barrier.safe;
	pthread_mutex_unlock(&p->barrier.mutex);
	return safe;
}

uint64_t retire_tag(struct plane *p)
{
	return p->barrier.started; /* only this thread starts barriers */
}

static void barrier_start(struct plane *p)
{
	struct barrier *b = &p->barrier;

	pthread_mutex_lock(&b->mutex);
	if (b->started == b->done) {
		b->started++;
		b->live_at_start = p->control->live;
		pthread_cond_broadcast(&b->cond);
	}
	pthread_mutex_unlock(&b->mutex);
}

static void barrier_until(struct plane *p, uint64_t number)
{
	struct barrier *b = &p->barrier;

	pthread_mutex_lock(&b->mutex);
	while (b->done < number)
		pthread_cond_wait(&b->cond, &b->mutex);
	pthread_mutex_unlock(&b->mutex);
}

void barrier_wait(struct plane *p)
{
	barrier_until(p, p->barrier.started);
	barrier_start(p);
	barrier_until(p, p->barrier.started);
}

static bool waiting(const struct plane *p)
{
	if (p->retired_head < p->retired_nr || p->gone_nr || p->members_gone)
		return true;
	for (uint32_t i = 0; i < p->pods.enrolled_nr; i++)
		if (p->pods.enrolled[i].gone)
			return true;
	return false;
}

void barrier_kick(struct plane *p)
{
	if (waiting(p))
		barrier_start(p);
}

void retire(struct plane *p, enum retired_kind kind, uint32_t slot, struct lowered *unit)
{
	if (p->retired_head && p->retired_head == p->retired_nr)
		p->retired_head = p->retired_nr = 0;
	p->retired = plane_grow(p->retired, p->retired_nr, &p->retired_cap, sizeof(*p->retired));
	p->retired[p->retired_nr++] =
		(struct retired){ .tag = retire_tag(p), .kind = kind, .slot = slot, .unit = unit };
}

/* r is a copy: what is freed may retire something else. */
static void retired_free(struct plane *p, const struct retired *r)
{
	switch (r->kind) {
	case RETIRED_UNIT:
		lowered_free(p, r->unit);
		break;
	case RETIRED_ROW:
		row_free(p, r->slot);
		break;
	case RETIRED_POD:
		pod_row_free(p, r->slot);
		break;
	case RETIRED_WORKLOAD:
		workload_free(p, r->slot);
		break;
	case RETIRED_PROGRAM:
		program_free(p, r->slot);
		break;
	case RETIRED_BACKEND:
		backend_park(p, r->slot, r->leave);
		break;
	}
}

static void cidr_forget(struct plane *p, const struct gone *g)
{
	struct mesh_cidr_key key;

	cidr_key(&g->key, &key);
	if (bpf_map_delete_elem(p->map_fd[PLANE_MAP_CIDRS], &key) && errno != ENOENT)
		log_warn("cannot delete a network error=%s", strerror(errno));
}

/* Deletes the keys of gone rows that no reader needs any more; their slots wait once more. */
static void gone_reap(struct plane *p, uint64_t done)
{
	struct mesh_key *keys = xcalloc(p->gone_nr, sizeof(*keys));
	uint32_t left = 0, key_nr = 0;

	for (uint32_t i = 0; i < p->gone_nr; i++) {
		const struct gone *g = &p->gone[i];

		if (g->tag >= done) {
			p->gone[left++] = *g;
			continue;
		}
		if (g->key.prefix_len < 128)
			cidr_forget(p, g);
		else
			keys[key_nr++] = g->key;
		retire(p, RETIRED_ROW, g->slot, NULL);
	}
	p->gone_nr = left;
	for (uint32_t at = 0; at < key_nr;) {
		uint32_t nr = key_nr - at;

		if (!bpf_map_delete_batch(p->map_fd[PLANE_MAP_SERVICES], keys + at, &nr, NULL))
			break;
		/* Stopped at one: it is not there, or the kernel deletes no batches. */
		at += nr < key_nr - at ? nr : 0;
		bpf_map_delete_elem(p->map_fd[PLANE_MAP_SERVICES], &keys[at++]);
	}
	free(keys);
}

void reap(struct plane *p)
{
	uint64_t done = barrier_done(p);

	while (p->retired_head < p->retired_nr && p->retired[p->retired_head].tag < done) {
		struct retired r = p->retired[p->retired_head++];

		retired_free(p, &r);
	}
	if (p->retired_head == p->retired_nr)
		p->retired_head = p->retired_nr = 0;
	backends_reap(p);
	pods_reap(p, done);
	members_reap(p, done);
	if (p->gone_nr)
		gone_reap(p, done);
	if (p->control->cidr_nr != p->cidr_nr) {
		uint32_t left = p->cidr_nr;

		for (uint32_t i = 0; i < p->gone_nr; i++)
			left += p->gone[i].key.prefix_len < 128;
		__atomic_store_n(&p->control->cidr_nr, left, __ATOMIC_RELEASE);
	}
}

bool reclaim(struct plane *p)
{
	bool any = false;

	reap(p);
	while (waiting(p)) {
		barrier_wait(p);
		reap(p);
		any = true;
	}
	return any;
}
