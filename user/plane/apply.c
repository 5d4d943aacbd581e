/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One apply: what differs from the live snapshot is lowered into free slots, keys are pointed at it, and one store commits. Until
 * that store every reader sees the old rules, and every step can be taken back.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/plane_int.h"

struct apply {
	struct plane *p;
	struct snapshot *s;
	uint64_t epoch;
	struct buf *err;
	struct lowered **lowered; /* of s->units */
	uint32_t *fresh;	  /* indexes of those lowered now */
	uint32_t fresh_nr, fresh_cap;
	struct lowered **old; /* what they and the removed units had */
	uint32_t old_nr, old_cap;
	struct rowset rows;
	struct pod_change *pods;
	uint32_t pod_nr;
	bool pods_written;
	struct access_change access;
	bool udp; /* a unit lowered now has a UDP row */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int unit_cmp(const struct unit *a, const struct unit *b)
{
	int d = str_cmp(a->host, b->host);

	return d ? d : str_cmp(a->ns, b->ns);
}

static void drop_old(struct apply *a, struct lowered *l)
{
	a->old = plane_grow(a->old, a->old_nr, &a->old_cap, sizeof(*a->old));
	a->old[a->old_nr++] = l;
}

static void lower_later(struct apply *a, uint32_t index)
{
	a->fresh = plane_grow(a->fresh, a->fresh_nr, &a->fresh_cap, sizeof(*a->fresh));
	a->fresh[a->fresh_nr++] = index;
}

/* Walks both sorted lists of units. Equal pointers are equal units, and are not even looked at. */
static void diff(struct apply *a)
{
	const struct snapshot *was = a->p->snapshot, *s = a->s;
	uint32_t i = 0, j = 0, was_nr = was ? was->unit_nr : 0;

	a->lowered = xcalloc(s->unit_nr, sizeof(struct lowered *));
	while (i < was_nr || j < s->unit_nr) {
		int d;

		if (i < was_nr && j < s->unit_nr && was->units[i] == s->units[j]) {
			a->lowered[j++] = a->p->lowered[i++];
			continue;
		}
		d = i == was_nr ? 1 : j == s->unit_nr ? -1 : unit_cmp(was->units[i], s->units[j]);
		if (!d && was->units[i]->hash == s->units[j]->hash) {
			a->lowered[j++] = a->p->lowered[i++];
			continue;
		}
		if (d <= 0)
			drop_old(a, a->p->lowered[i++]);
		if (d >= 0)
			lower_later(a, j++);
	}
	if (a->p->adopted)
		drop_old(a, a->p->adopted);
}

static int lower_all(struct apply *a)
{
	for (uint32_t i = 0; i < a->fresh_nr; i++) {
		uint32_t at = a->fresh[i];
		int rc = lower_unit(a->p, a->s->units[at], a->epoch, &a->lowered[at], a->err);

		if (rc)
			return rc;
		rowset_new(a->p, &a->rows, a->lowered[at]);
		for (uint32_t k = 0; k < a->s->units[at]->row_nr; k++)
			a->udp |= a->s->units[at]->rows[k].proto == MESH_PROTO_UDP;
	}
	for (uint32_t i = 0; i < a->old_nr; i++)
		rowset_old(a->p, &a->rows, a->old[i]);
	return 0;
}

static int check_limits(const struct apply *a)
{
	if (a->s->row_nr <= a->p->max_services)
		return 0;
	buf_printf(a->err,
		   "the rules need %u rows (address, port and scope), max-services allows %u; raise max-services",
		   a->s->row_nr, a->p->max_services);
	return -ENOSPC;
}

static int prepare(struct apply *a)
{
	int rc = check_limits(a);

	if (!rc) {
		diff(a);
		rc = lower_all(a);
	}
	if (!rc)
		rc = rowset_prepare(a->p, &a->rows, a->epoch, a->err);
	/* Identities have numbers of their access. */
	if (a->s->access != a->p->access)
		a->p->pods.dirty = true;
	if (!rc)
		rc = pods_prepare(a->p, a->s, a->epoch, &a->pods, &a->pod_nr, a->err);
	if (!rc)
		rc = access_prepare(a->p, a->s->access, a->epoch, a->pods, a->pod_nr, &a->access, a->err);
	if (!rc)
		rc = names_flush(a->p, a->err);
	if (!rc && a->udp)
		rc = links_trace(a->p, a->err);
	return rc;
}

static int write_all(struct apply *a)
{
	int rc = rowset_write(a->p, &a->rows, a->err);

	if (!rc && a->access.nr)
		rc = access_write(a->p, &a->access, a->err);
	if (rc || !a->pod_nr)
		return rc;
	a->pods_written = true;
	return pods_write(a->p, a->pods, a->pod_nr, a->err);
}

static void undo(struct apply *a)
{
	rowset_undo(a->p, &a->rows);
	pods_undo(a->p, a->pods, a->pod_nr, a->pods_written);
	access_undo(a->p, &a->access, a->access.written);
	for (uint32_t i = 0; i < a->fresh_nr; i++) {
		struct lowered *l = a->lowered[a->fresh[i]];

		if (l && a->rows.written)
			retire(a->p, RETIRED_UNIT, 0, l);
		else
			lowered_free(a->p, l);
	}
	free(a->lowered);
	barrier_kick(a->p);
}

/* What readers remember of workloads is void before they can meet others. */
static void go_live(struct plane *p, uint64_t epoch, const struct access_change *access)
{
	if (access->nr)
		__atomic_store_n(&p->control->member_epoch, epoch, __ATOMIC_RELEASE);
	__atomic_store_n(&p->control->live, epoch, __ATOMIC_RELEASE);
}

static void commit(struct apply *a)
{
	struct plane *p = a->p;

	for (uint32_t i = 0; i < a->fresh_nr; i++)
		pools_commit(p, a->s->units[a->fresh[i]]);
	if (a->rows.nr || a->pod_nr || a->access.nr)
		go_live(p, a->epoch, &a->access);
	for (uint32_t i = 0; i < a->old_nr; i++)
		retire(p, RETIRED_UNIT, 0, a->old[i]);
	rowset_commit(p, &a->rows);
	pods_commit(p, a->pods, a->pod_nr);
	access_commit(p, &a->access);
	free(p->lowered);
	p->lowered = a->lowered;
	p->adopted = NULL;
	/* The old snapshot may be the last to know 10,000 units: dropping it can wait until nobody does. */
	snapshot_unref(p->old_snapshot);
	p->old_snapshot = p->snapshot;
	p->snapshot = snapshot_ref(a->s);
	p->applied++;
	barrier_kick(p);
	/* Endpoints of a workload that fails its check must not be chosen until somebody finds the time. */
	for (uint32_t i = 0; i < a->fresh_nr && p->health; i++) {
		if (!a->s->units[a->fresh[i]]->probe_nr)
			continue;
		health_rules(p->health);
		break;
	}
}

static int apply_once(struct plane *p, struct snapshot *s, struct plane_applied *ret, struct buf *err)
{
	struct apply a = { .p = p, .s = s, .epoch = p->next_epoch++, .err = err };
	int rc = prepare(&a);

	if (!rc)
		rc = write_all(&a);
	/* No row leads to meshl7 before it knows what the row means. */
	if (!rc && p->meshl7)
		rc = parser_rules(p->meshl7, s, a.epoch, err);
	/* An epoch that no reader can have met is used again. */
	if ((rc && !a.rows.written && !a.pods_written && !a.access.written) ||
	    (!rc && !a.rows.nr && !a.pod_nr && !a.access.nr))
		p->next_epoch--;
	if (rc) {
		undo(&a);
	} else {
		commit(&a);
		if (a.access.verdicts)
			cut_forbidden(p, a.epoch);
		ret->units_changed = a.fresh_nr;
		for (uint32_t i = 0; i < a.rows.nr; i++) {
			ret->rows_removed += a.rows.items[i].new_gone;
			ret->rows_written += !a.rows.items[i].new_gone;
		}
		ret->pods_changed = a.pod_nr;
	}
	rowset_release(&a.rows);
	access_change_release(&a.access);
	free(a.pods);
	free(a.fresh);
	free(a.old);
	return rc;
}

int plane_apply(struct plane *p, struct snapshot *s, struct plane_applied *ret, struct buf *err)
{
	uint64_t began = now_ns();
	size_t err_len = err->len;
	int rc;

	*ret = (struct plane_applied){ 0 };
	podscan_match(p, s, false);
	/* On the links of new pods before they are pods, off those of old ones when they are none. */
	ifaces_pods(p, s);
	rc = apply_once(p, s, ret, err);
	/* Full: slots of earlier versions may only be waiting for their grace period. */
	if (rc == -ENOSPC && s->row_nr <= p->max_services && reclaim(p)) {
		err->len = err_len;
		rc = apply_once(p, s, ret, err);
	}
	if (rc) {
		podscan_match(p, p->snapshot, false);
		ifaces_pods(p, p->snapshot);
	}
	ifaces_prune(p);
	accel_sync(p);
	ret->epoch = p->control->live;
	ret->ns = now_ns() - began;
	return rc;
}

int apply_pods(struct plane *p, uint32_t *ret_changed, struct buf *err)
{
	uint64_t epoch = p->next_epoch++;
	struct pod_change *changes = NULL;
	struct access_change access = { 0 };
	bool written = false;
	uint32_t nr = 0;
	int rc;

	*ret_changed = 0;
	if (!p->snapshot)
		return 0;
	rc = pods_prepare(p, p->snapshot, epoch, &changes, &nr, err);
	if (!rc)
		rc = access_prepare(p, p->snapshot->access, epoch, changes, nr, &access, err);
	if (!rc)
		rc = names_flush(p, err);
	if (!rc && access.nr)
		rc = access_write(p, &access, err);
	if (!rc && nr) {
		written = true;
		rc = pods_write(p, changes, nr, err);
	}
	if (!written && !access.written)
		p->next_epoch--;
	if (rc) {
		pods_undo(p, changes, nr, written);
		access_undo(p, &access, access.written);
	} else {
		if (nr || access.nr)
			go_live(p, epoch, &access);
		pods_commit(p, changes, nr);
		access_commit(p, &access);
	}
	*ret_changed = rc ? 0 : nr;
	if (*ret_changed)
		accel_sync(p);
	barrier_kick(p);
	access_change_release(&access);
	free(changes);
	return rc;
}

void plane_idle(struct plane *p)
{
	if (p->old_snapshot) {
		snapshot_unref(p->old_snapshot);
		p->old_snapshot = NULL;
	}
	reap(p);
	barrier_kick(p);
	names_trim(p);
	accel_idle(p);
	selftest_idle(p);
}
