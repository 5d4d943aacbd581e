/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mesh_members and mesh_workloads: who each address of the mesh is and what guards it, under the same epochs as the rules. The live
 * addresses and those of an access are both sorted, so one walk over both tells what differs, and only that is written.
 */
#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/plane_int.h"

/* The walk, and what it knows. */
struct walk {
	struct plane *p;
	struct access_change *c;
	uint64_t epoch, safe;
	struct addr *locals; /* addresses of the pods that are enrolled, sorted */
	uint32_t local_nr, local_at;
	struct buf *err;
};

struct mesh_workload *workload_at(struct plane *p, uint32_t slot)
{
	return marray_at(&p->workload_rows, slot, 1);
}

void workload_free(struct plane *p, uint32_t slot)
{
	name_drop(p, workload_at(p, slot)->workload_id);
	slots_put(&p->workload_slots, slot);
}

static int addr_order(const void *a, const void *b)
{
	return addr_cmp(a, b);
}

static void add_locals(struct walk *w, const struct mesh_pod *pod)
{
	for (uint32_t i = 0; i < 2 && pod->workload_id; i++) {
		memcpy(&w->locals[w->local_nr], &pod->addr[i], sizeof(*w->locals));
		w->local_nr += !addr_is_zero(&w->locals[w->local_nr]);
	}
}

static bool replaced(const struct pod_change *pods, uint32_t nr, uint32_t slot)
{
	for (uint32_t i = 0; i < nr; i++)
		if (pods[i].old == slot)
			return true;
	return false;
}

/* Addresses of the pods that are enrolled once `pods` are live. */
static void find_locals(struct walk *w, const struct pod_change *pods, uint32_t nr)
{
	const struct podset *s = &w->p->pods;

	w->locals = xcalloc((s->enrolled_nr + nr) * 2 + 1, sizeof(*w->locals));
	for (uint32_t i = 0; i < s->enrolled_nr; i++)
		if (!replaced(pods, nr, s->enrolled[i].slot))
			add_locals(w, pod_row_at(w->p, s->enrolled[i].slot));
	for (uint32_t i = 0; i < nr; i++)
		add_locals(w, pod_row_at(w->p, pods[i].slot));
	qsort(w->locals, w->local_nr, sizeof(*w->locals), addr_order);
}

/* Asked for addresses in ascending order. */
static bool is_local(struct walk *w, const struct u_member *u)
{
	if (u->node.len && str_is(u->node, w->p->node_name))
		return true;
	while (w->local_at < w->local_nr && addr_cmp(&w->locals[w->local_at], &u->addr) < 0)
		w->local_at++;
	return w->local_at < w->local_nr && !addr_cmp(&w->locals[w->local_at], &u->addr);
}

static uint32_t first_term(const struct walk *w, uint32_t program)
{
	return program ? w->p->programs.items[w->c->programs[program - 1]].term : 0;
}

/* The row that an address needs, but for its name. */
static struct mesh_workload wanted(struct walk *w, const struct u_member *u)
{
	struct mesh_workload row = {
		.identity = u->identity,
		.policy = first_term(w, u->program),
		.shadow = first_term(w, u->shadow),
		.relayed = first_term(w, u->relayed),
		.flags = is_local(w, u) ? MESH_WORKLOAD_LOCAL : 0,
	};

	memcpy(&row.addr, &u->addr, sizeof(row.addr));
	return row;
}

static bool same(struct walk *w, const struct member *have, const struct u_member *u, const struct mesh_workload *want)
{
	const struct mesh_workload *row = workload_at(w->p, have->slot);
	uint32_t id;

	if (have->gone || row->identity != want->identity || row->policy != want->policy ||
	    row->shadow != want->shadow || row->relayed != want->relayed || row->flags != want->flags)
		return false;
	if (have->from)
		return str_eq(have->from->workload, u->workload);
	id = name_ref(w->p, MESH_NAME_WORKLOAD, u->workload);
	name_drop(w->p, id);
	return id == row->workload_id;
}

/* Versions of a row that a reader may still ask for. */
static uint32_t versions(struct plane *p, uint32_t slot, uint64_t safe)
{
	uint32_t nr = 0;

	while (slot && workload_at(p, slot)->epoch > safe) {
		slot = workload_at(p, slot)->prev;
		nr++;
	}
	return nr;
}

static void keep(struct walk *w, const struct member *have, const struct u_member *from)
{
	struct member *m = &w->c->members[w->c->member_nr++];

	*m = *have;
	m->from = from;
}

/* Takes over the caller's reference on the row's name. `have`: what the address leads to now, NULL: nothing. */
static int change(struct walk *w, const struct member *have, struct mesh_workload *row, const struct u_member *from)
{
	uint32_t slot = slots_get(&w->p->workload_slots), old = have ? have->slot : 0;
	struct access_change *c = w->c;

	if (!slot) {
		name_drop(w->p, row->workload_id);
		buf_printf(w->err, "no room left for addresses of workloads; raise max-workloads (%u)",
			   w->p->max_workloads);
		return -ENOSPC;
	}
	if (versions(w->p, old, w->safe) > MESH_PREV_MAX - 2) {
		barrier_wait(w->p);
		w->safe = barrier_safe(w->p);
	}
	row->epoch = w->epoch;
	row->prev = old;
	*workload_at(w->p, slot) = *row;
	c->items = plane_grow(c->items, c->nr, &c->cap, sizeof(*c->items));
	c->items[c->nr++] = (struct member_change){ .old = old, .slot = slot };
	keep(w, &(struct member){ .slot = slot, .gone = !row->workload_id, .tag = retire_tag(w->p) }, from);
	return 0;
}

static int go(struct walk *w, const struct member *have)
{
	struct mesh_workload row = { .addr = workload_at(w->p, have->slot)->addr };

	if (!have->gone)
		return change(w, have, &row, NULL);
	keep(w, have, NULL);
	return 0;
}

static int come(struct walk *w, const struct member *have, const struct u_member *u)
{
	struct mesh_workload row = wanted(w, u);

	if (have && same(w, have, u, &row)) {
		keep(w, have, u);
		return 0;
	}
	if (have && !have->gone)
		w->c->verdicts |= workload_at(w->p, have->slot)->policy != row.policy ||
				  workload_at(w->p, have->slot)->relayed != row.relayed ||
				  workload_at(w->p, have->slot)->identity != row.identity;
	row.workload_id = name_ref(w->p, MESH_NAME_WORKLOAD, u->workload);
	return change(w, have, &row, u);
}

static int walk(struct walk *w)
{
	const struct access *a = w->c->access;
	struct plane *p = w->p;
	uint32_t i = 0, j = 0;
	int rc = 0;

	w->c->members = xcalloc(p->member_nr + a->member_nr, sizeof(*w->c->members));
	while ((i < p->member_nr || j < a->member_nr) && !rc) {
		const struct member *have = i < p->member_nr ? &p->members[i] : NULL;
		const struct u_member *u = j < a->member_nr ? &a->members[j] : NULL;
		int d = !have ? 1 : !u ? -1 : memcmp(&workload_at(p, have->slot)->addr, &u->addr, sizeof(u->addr));

		rc = d < 0 ? go(w, have) : come(w, d ? NULL : have, u);
		i += d <= 0;
		j += d >= 0;
	}
	return rc;
}

int access_prepare(struct plane *p, struct access *a, uint64_t epoch, const struct pod_change *pods, uint32_t pod_nr,
		   struct access_change *c, struct buf *err)
{
	struct walk w = { .p = p, .c = c, .epoch = epoch, .safe = barrier_safe(p), .err = err };
	int rc;

	if (a == p->access && !pod_nr)
		return 0;
	c->access = a;
	rc = programs_prepare(p, a, &c->programs, &c->programs_written, err);
	if (rc)
		return rc;
	find_locals(&w, pods, pod_nr);
	rc = walk(&w);
	free(w.locals);
	return rc;
}

int access_write(struct plane *p, struct access_change *c, struct buf *err)
{
	struct mesh_addr *keys = xcalloc(c->nr, sizeof(*keys));
	uint32_t *values = xcalloc(c->nr, sizeof(*values));
	int rc;

	for (uint32_t i = 0; i < c->nr; i++) {
		keys[i] = workload_at(p, c->items[i].slot)->addr;
		values[i] = c->items[i].slot;
	}
	rc = batch_write(p, PLANE_MAP_MEMBERS, keys, values, c->nr, &c->written);
	if (rc) {
		buf_printf(err, "cannot write mesh_members: %s", strerror(-rc));
		if (rc == -E2BIG || rc == -ENOSPC) {
			buf_printf(err, ": the table is full; raise max-workloads (%u)", p->max_workloads);
			rc = -ENOSPC;
		}
	}
	free(keys);
	free(values);
	return rc;
}

void access_undo(struct plane *p, struct access_change *c, bool reachable)
{
	for (uint32_t i = 0; i < c->nr; i++) {
		const struct member_change *m = &c->items[i];
		const struct mesh_addr *addr = &workload_at(p, m->slot)->addr;
		int rc = 0;

		if (i < c->written && m->old)
			rc = bpf_map_update_elem(p->map_fd[PLANE_MAP_MEMBERS], addr, &m->old, BPF_ANY);
		else if (i < c->written)
			rc = bpf_map_delete_elem(p->map_fd[PLANE_MAP_MEMBERS], addr);
		if (rc)
			log_err("cannot take back an address error=%s", strerror(errno));
		if (reachable)
			retire(p, RETIRED_WORKLOAD, m->slot, NULL);
		else
			workload_free(p, m->slot);
	}
	if (c->access)
		programs_undo(p, reachable);
}

void access_commit(struct plane *p, struct access_change *c)
{
	if (!c->access)
		return;
	for (uint32_t i = 0; i < c->nr; i++)
		if (c->items[i].old)
			retire(p, RETIRED_WORKLOAD, c->items[i].old, NULL);
	programs_commit(p, c->programs, c->access->program_nr);
	free(p->members);
	p->members = c->members;
	p->member_nr = c->member_nr;
	c->members = NULL;
	p->members_gone = 0;
	for (uint32_t i = 0; i < p->member_nr; i++)
		p->members_gone += p->members[i].gone;
	access_ref(c->access);
	access_unref(p->access);
	p->access = c->access;
}

void access_change_release(struct access_change *c)
{
	free(c->members);
	free(c->items);
	free(c->programs);
	*c = (struct access_change){ 0 };
}

void members_reap(struct plane *p, uint64_t done)
{
	struct mesh_addr *keys;
	uint32_t left = 0, nr = 0;

	if (!p->members_gone)
		return;
	keys = xcalloc(p->members_gone, sizeof(*keys));
	for (uint32_t i = 0; i < p->member_nr; i++) {
		const struct member *m = &p->members[i];

		if (!m->gone || m->tag >= done) {
			p->members[left++] = *m;
			continue;
		}
		keys[nr++] = workload_at(p, m->slot)->addr;
		retire(p, RETIRED_WORKLOAD, m->slot, NULL);
	}
	p->member_nr = left;
	p->members_gone -= nr;
	batch_delete(p, PLANE_MAP_MEMBERS, keys, sizeof(*keys), nr);
	free(keys);
}

int plane_policies(struct plane *p, policy_fn fn, void *data)
{
	const struct names *n = &p->names;

	for (uint32_t i = 1; i < n->nr; i++) {
		const struct name *name = &n->items[i];
		struct mesh_policy_hits hits;

		if (!name->text || name->kind != MESH_NAME_POLICY || !name->refs || !name->written)
			continue;
		if (bpf_map_lookup_elem(p->map_fd[PLANE_MAP_POLICIES], &name->id, &hits))
			return -errno;
		if (!fn(data, (struct str){ name->text, name->len }, &hits))
			break;
	}
	return 0;
}
