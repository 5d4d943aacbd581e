/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mesh_netns and mesh_pods: which network namespace is which pod, under the same epochs as the rules. What was found on the node
 * comes from podscan.c; here it is compared with what the maps say. No file system is touched here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/plane_int.h"

static struct enrolled *enrolled_find(struct podset *s, uint64_t cookie)
{
	for (uint32_t i = 0; i < s->enrolled_nr; i++)
		if (s->enrolled[i].cookie == cookie)
			return &s->enrolled[i];
	return NULL;
}

bool pod_carries(const struct addr *addrs, uint32_t nr, const struct client *c)
{
	for (uint32_t i = 0; i < nr; i++)
		for (uint32_t k = 0; k < c->ip_nr; k++)
			if (!addr_cmp(&addrs[i], &c->ips[k]))
				return true;
	return false;
}

/* The row that a pod needs; its names are referenced once. */
static struct mesh_pod wanted(struct plane *p, const struct pod *pod, const struct client *c, const struct access *a)
{
	const struct u_member *self = c->ip_nr ? access_member(a, &c->ips[0]) : NULL;
	struct mesh_pod row = { .netns_cookie = pod->cookie, .scope = c->scope, .ifindex = iface_of(p, pod->cookie) };
	char text[1024];

	for (uint32_t i = 0; i < c->ip_nr && i < 2; i++)
		memcpy(&row.addr[i], &c->ips[i], sizeof(row.addr[i]));
	snprintf(text, sizeof(text), "%.*s/%.*s/%.*s", STR_ARG(c->ns), STR_ARG(c->name), STR_ARG(c->service_account));
	row.workload_id = name_ref(p, MESH_NAME_WORKLOAD, str_of(text));
	row.ns_id = name_ref(p, MESH_NAME_NAMESPACE, c->ns);
	row.accelerate = accel_mode(p, c);
	row.identity = self ? self->identity : 0;
	row.flags = (c->registry_only ? MESH_POD_REGISTRY_ONLY : 0) | (c->no_splice ? MESH_POD_NO_SPLICE : 0);
	if (c->sidecar) {
		snprintf(text, sizeof(text), "%.*s/%.*s", STR_ARG(c->sidecar->ns), STR_ARG(c->sidecar->name));
		row.sidecar_id = name_ref(p, MESH_NAME_SIDECAR, str_of(text));
	}
	return row;
}

static void names_give_back(struct plane *p, const struct mesh_pod *row)
{
	name_drop(p, row->workload_id);
	name_drop(p, row->sidecar_id);
	name_drop(p, row->ns_id);
}

static bool same(const struct mesh_pod *a, const struct mesh_pod *b)
{
	return a->workload_id == b->workload_id && a->scope == b->scope && a->ifindex == b->ifindex &&
	       a->identity == b->identity && a->flags == b->flags && a->sidecar_id == b->sidecar_id &&
	       a->ns_id == b->ns_id && a->accelerate == b->accelerate && !memcmp(a->addr, b->addr, sizeof(a->addr));
}

static uint32_t chain(struct plane *p, uint32_t slot, uint64_t safe)
{
	uint32_t nr = 0;

	while (slot && pod_row_at(p, slot)->epoch > safe) {
		slot = pod_row_at(p, slot)->prev;
		nr++;
	}
	return nr;
}

/* Takes over the caller's references on the row's names. */
static int change(struct plane *p, struct mesh_pod *row, uint32_t old, uint64_t epoch, struct pod_change *ret,
		  struct buf *err)
{
	uint32_t slot = slots_get(&p->pod_slots);

	if (!slot) {
		names_give_back(p, row);
		buf_printf(err, "no room left for pods of this node; raise max-pods (%u)", p->max_pods);
		return -ENOSPC;
	}
	if (chain(p, old, barrier_safe(p)) > MESH_PREV_MAX - 2)
		barrier_wait(p);
	row->epoch = epoch;
	row->prev = old;
	*pod_row_at(p, slot) = *row;
	*ret = (struct pod_change){ .cookie = row->netns_cookie, .old = old, .slot = slot, .gone = !row->workload_id };
	return 0;
}

static bool claimed(const struct podset *s, uint32_t before, uint64_t cookie)
{
	for (uint32_t i = 0; i < before; i++)
		if (s->items[i].cookie == cookie && s->items[i].client)
			return true;
	return false;
}

bool pod_enrols(const struct podset *s, uint32_t at, const struct snapshot *snap)
{
	const struct pod *pod = &s->items[at];

	return pod->cookie && pod->client && pod->client <= snap->client_nr &&
	       pod_carries(pod->addrs, pod->addr_nr, &snap->clients[pod->client - 1]) && !claimed(s, at, pod->cookie);
}

int pods_prepare(struct plane *p, const struct snapshot *snap, uint64_t epoch, struct pod_change **ret,
		 uint32_t *ret_nr, struct buf *err)
{
	struct podset *s = &p->pods;
	uint32_t nr = 0, live = 0;
	bool *keep;
	int rc = 0;

	*ret_nr = 0;
	*ret = NULL;
	if (!s->dirty)
		return 0;
	keep = xcalloc(s->enrolled_nr, sizeof(*keep));
	*ret = xcalloc(s->nr + s->enrolled_nr, sizeof(**ret));
	for (uint32_t i = 0; i < s->nr && !rc; i++) {
		struct enrolled *e;
		struct mesh_pod row;

		if (!pod_enrols(s, i, snap))
			continue;
		row = wanted(p, &s->items[i], &snap->clients[s->items[i].client - 1], snap->access);
		e = enrolled_find(s, row.netns_cookie);
		if (e)
			keep[e - s->enrolled] = true;
		if (++live > p->max_pods) {
			names_give_back(p, &row);
			buf_printf(err, "more than %u pods on this node; raise max-pods", p->max_pods);
			rc = -ENOSPC;
		} else if (e && same(pod_row_at(p, e->slot), &row)) {
			names_give_back(p, &row);
		} else {
			rc = change(p, &row, e ? e->slot : 0, epoch, &(*ret)[nr], err);
			nr += !rc;
		}
	}
	for (uint32_t i = 0; i < s->enrolled_nr && !rc; i++) {
		struct mesh_pod row = { .netns_cookie = s->enrolled[i].cookie };

		if (keep[i] || s->enrolled[i].gone)
			continue;
		rc = change(p, &row, s->enrolled[i].slot, epoch, &(*ret)[nr], err);
		nr += !rc;
	}
	free(keep);
	*ret_nr = nr;
	return rc;
}

int pods_write(struct plane *p, const struct pod_change *c, uint32_t nr, struct buf *err)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (!bpf_map_update_elem(p->map_fd[PLANE_MAP_NETNS], &c[i].cookie, &c[i].slot, BPF_ANY))
			continue;
		buf_printf(err, "cannot write mesh_netns: %s", strerror(errno));
		if (errno != E2BIG)
			return -errno;
		buf_printf(err, ": the table is full; raise max-pods (%u)", p->max_pods);
		return -ENOSPC;
	}
	return 0;
}

void pods_undo(struct plane *p, const struct pod_change *c, uint32_t nr, bool written)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (!written) {
			pod_row_free(p, c[i].slot);
			continue;
		}
		if (c[i].old)
			bpf_map_update_elem(p->map_fd[PLANE_MAP_NETNS], &c[i].cookie, &c[i].old, BPF_ANY);
		else
			bpf_map_delete_elem(p->map_fd[PLANE_MAP_NETNS], &c[i].cookie);
		retire(p, RETIRED_POD, c[i].slot, NULL);
	}
}

void pods_commit(struct plane *p, const struct pod_change *c, uint32_t nr)
{
	struct podset *s = &p->pods;

	s->dirty = false;
	for (uint32_t i = 0; i < nr; i++) {
		struct enrolled *e = enrolled_find(s, c[i].cookie);

		if (e) {
			retire(p, RETIRED_POD, e->slot, NULL);
		} else {
			s->enrolled = plane_grow(s->enrolled, s->enrolled_nr, &s->enrolled_cap, sizeof(*s->enrolled));
			e = &s->enrolled[s->enrolled_nr++];
		}
		*e = (struct enrolled){
			.cookie = c[i].cookie, .slot = c[i].slot, .gone = c[i].gone, .tag = retire_tag(p)
		};
	}
}

void pods_reap(struct plane *p, uint64_t done)
{
	struct podset *s = &p->pods;
	uint32_t left = 0;

	for (uint32_t i = 0; i < s->enrolled_nr; i++) {
		struct enrolled *e = &s->enrolled[i];

		if (!e->gone || e->tag >= done) {
			s->enrolled[left++] = *e;
			continue;
		}
		bpf_map_delete_elem(p->map_fd[PLANE_MAP_NETNS], &e->cookie);
		retire(p, RETIRED_POD, e->slot, NULL);
	}
	s->enrolled_nr = left;
}

int plane_rescan(struct plane *p)
{
	struct buf err = { 0 };
	uint32_t changed = 0, nr = 0;
	int rc;

	podscan_tree(p);
	if (p->snapshot)
		podscan_match(p, p->snapshot, true);
	ifaces_pods(p, p->snapshot);
	rc = apply_pods(p, &changed, &err);
	if (rc == -ENOSPC && reclaim(p)) {
		buf_clear(&err);
		rc = apply_pods(p, &changed, &err);
	}
	if (rc)
		log_warn("cannot enroll pods error=%s", err.data ? err.data : strerror(-rc));
	else if (changed)
		log_info("pods changed changes=%u", changed);
	ifaces_prune(p);
	buf_release(&err);
	for (uint32_t i = 0; i < p->pods.enrolled_nr; i++)
		nr += !p->pods.enrolled[i].gone;
	return rc ? rc : (int)nr;
}
