/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The keys of mesh_services and mesh_cidrs: which row each leads to before and after an apply, the links between versions, and
 * the way back. Knows nothing of units.
 *
 * Networks. A longest-prefix match finds one row only. So a network that is new leads, for readers of older epochs, to the row of
 * the network around it; and one that goes leads to a copy of the row around it until its key is deleted.
 */
#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "base/log.h"
#include "plane/plane_int.h"

void rowset_release(struct rowset *r)
{
	free(r->items);
	free(r->cidrs);
	*r = (struct rowset){ 0 };
}

static void add(struct rowset *r, const struct mesh_key *key, uint32_t old, uint32_t new)
{
	r->items = plane_grow(r->items, r->nr, &r->cap, sizeof(*r->items));
	r->items[r->nr++] = (struct row_change){ .key = *key, .old = old, .new = new };
	r->cidrs_change |= key->prefix_len < 128;
}

void rowset_old(struct plane *p, struct rowset *r, const struct lowered *l)
{
	for (uint32_t i = 0; i < l->row_nr; i++)
		add(r, &row_at(p, l->slot[i])->key, l->slot[i], 0);
}

void rowset_new(struct plane *p, struct rowset *r, const struct lowered *l)
{
	for (uint32_t i = 0; i < l->row_nr; i++)
		add(r, &row_at(p, l->slot[i])->key, 0, l->slot[i]);
}

static int change_cmp(const void *a, const void *b)
{
	const struct row_change *x = a, *y = b;

	return memcmp(&x->key, &y->key, sizeof(x->key));
}

static int gone_cmp(const void *key, const void *item)
{
	return memcmp(key, &((const struct gone *)item)->key, sizeof(struct mesh_key));
}

/* One item a key. -EINVAL: two new rows for one key. */
static int join(struct rowset *r, struct buf *err)
{
	uint32_t nr = 0;

	if (r->nr)
		qsort(r->items, r->nr, sizeof(*r->items), change_cmp);
	for (uint32_t i = 0; i < r->nr; i++) {
		struct row_change *c = &r->items[i], *last = nr ? &r->items[nr - 1] : NULL;

		if (!last || change_cmp(last, c)) {
			r->items[nr++] = *c;
			continue;
		}
		if ((last->old && c->old) || (last->new && c->new)) {
			buf_printf(err, "two rows claim one address, port and scope");
			return -EINVAL;
		}
		last->old |= c->old;
		last->new |= c->new;
	}
	r->nr = nr;
	return 0;
}

/* The nearest network around a network, 0: none. */
static uint32_t around(const struct cidr_row *rows, uint32_t nr, const struct mesh_key *key)
{
	uint32_t best = 0, best_len = 0;

	for (uint32_t i = 0; i < nr; i++) {
		const struct mesh_key *k = &rows[i].key;

		if (k->scope != key->scope || k->port_be != key->port_be || k->proto != key->proto ||
		    k->prefix_len >= key->prefix_len || (best && k->prefix_len <= best_len))
			continue;
		if (!addr_in((const struct addr *)&key->addr, (const struct addr *)&k->addr, k->prefix_len))
			continue;
		best = rows[i].slot;
		best_len = k->prefix_len;
	}
	return best;
}

static bool cidrs_gone(const struct plane *p)
{
	for (uint32_t i = 0; i < p->gone_nr; i++)
		if (p->gone[i].key.prefix_len < 128)
			return true;
	return false;
}

static const struct row_change *find(const struct rowset *r, const struct mesh_key *key)
{
	struct row_change want = { .key = *key };

	return bsearch(&want, r->items, r->nr, sizeof(*r->items), change_cmp);
}

/* The networks that are live afterwards: those of now that nobody touches, and the new rows. */
static void cidrs_after(const struct plane *p, struct rowset *r)
{
	r->cidrs = xcalloc(p->cidr_nr + r->nr, sizeof(*r->cidrs));
	for (uint32_t i = 0; i < p->cidr_nr; i++)
		if (!find(r, &p->cidrs[i].key))
			r->cidrs[r->cidr_nr++] = p->cidrs[i];
	for (uint32_t i = 0; i < r->nr; i++)
		if (r->items[i].new && r->items[i].key.prefix_len < 128)
			r->cidrs[r->cidr_nr++] = (struct cidr_row){ r->items[i].key, r->items[i].new };
}

/* The row that a removed key leads to from now on. */
static int row_gone(struct plane *p, const struct rowset *r, struct row_change *c, uint64_t epoch, struct buf *err)
{
	uint32_t model = c->key.prefix_len < 128 ? around(r->cidrs, r->cidr_nr, &c->key) : 0;
	struct mesh_row row = { .key = c->key, .action = MESH_GONE };
	uint32_t slot = slots_get(&p->row_slots);

	if (!slot) {
		buf_printf(err, "no room left for rows of removed services; raise max-services (%u)", p->max_services);
		return -ENOSPC;
	}
	if (model)
		row = *row_at(p, model);
	row.epoch = epoch;
	row.prev = c->old;
	name_hold(p, row.service_id);
	*row_at(p, slot) = row;
	c->new = slot;
	c->new_gone = true;
	return 0;
}

int rowset_prepare(struct plane *p, struct rowset *r, uint64_t epoch, struct buf *err)
{
	int rc = join(r, err);

	if (rc)
		return rc;
	if (r->cidrs_change) {
		/* Copies of rows around must not outlive what they are copies of. */
		if (cidrs_gone(p))
			reclaim(p);
		cidrs_after(p, r);
	}
	for (uint32_t i = 0; i < r->nr; i++) {
		struct row_change *c = &r->items[i];
		const struct gone *g;

		if (!c->old && p->gone_nr) {
			g = bsearch(&c->key, p->gone, p->gone_nr, sizeof(*p->gone), gone_cmp);
			c->old = g ? g->slot : 0;
			c->old_gone = g;
		}
		if (!c->new) {
			rc = row_gone(p, r, c, epoch, err);
			if (rc)
				return rc;
		} else {
			uint32_t prev = c->old;

			if (!prev && c->key.prefix_len < 128)
				prev = around(p->cidrs, p->cidr_nr, &c->key);
			row_at(p, c->new)->prev = prev;
		}
	}
	return 0;
}

void cidr_key(const struct mesh_key *key, struct mesh_cidr_key *ret)
{
	*ret = (struct mesh_cidr_key){
		.prefix_len = 64u + key->prefix_len,
		.scope = key->scope,
		.port_be = key->port_be,
		.proto = key->proto,
		.addr = key->addr,
	};
}

static int point(struct plane *p, const struct mesh_key *key, uint32_t slot)
{
	struct mesh_cidr_key cidr;

	if (key->prefix_len == 128)
		return plane_errno(bpf_map_update_elem(p->map_fd[PLANE_MAP_SERVICES], key, &slot, BPF_ANY));
	cidr_key(key, &cidr);
	return plane_errno(bpf_map_update_elem(p->map_fd[PLANE_MAP_CIDRS], &cidr, &slot, BPF_ANY));
}

static void unpoint(struct plane *p, const struct mesh_key *key)
{
	struct mesh_cidr_key cidr;

	if (key->prefix_len == 128) {
		bpf_map_delete_elem(p->map_fd[PLANE_MAP_SERVICES], key);
		return;
	}
	cidr_key(key, &cidr);
	bpf_map_delete_elem(p->map_fd[PLANE_MAP_CIDRS], &cidr);
}

/* Moves networks behind the addresses, so that the addresses can go in one batch. */
static uint32_t split(struct rowset *r)
{
	struct row_change *cidrs = xcalloc(r->nr, sizeof(*cidrs));
	uint32_t nr = 0, cidr_nr = 0;

	for (uint32_t i = 0; i < r->nr; i++) {
		if (r->items[i].key.prefix_len < 128)
			cidrs[cidr_nr++] = r->items[i];
		else
			r->items[nr++] = r->items[i];
	}
	memcpy(r->items + nr, cidrs, cidr_nr * sizeof(*cidrs));
	free(cidrs);
	return nr;
}

static int write_addresses(struct plane *p, struct rowset *r, uint32_t nr)
{
	struct mesh_key *keys = xcalloc(nr, sizeof(*keys));
	uint32_t *values = xcalloc(nr, sizeof(*values)), done = nr;
	int rc;

	for (uint32_t i = 0; i < nr; i++) {
		keys[i] = r->items[i].key;
		values[i] = r->items[i].new;
	}
	rc = nr ? plane_errno(bpf_map_update_batch(p->map_fd[PLANE_MAP_SERVICES], keys, values, &done, NULL)) : 0;
	/* What is above `done` is unknown only when the call did not begin; then nothing was written. */
	r->written = rc && done >= nr ? 0 : done;
	free(keys);
	free(values);
	return rc;
}

int rowset_write(struct plane *p, struct rowset *r, struct buf *err)
{
	uint32_t nr = r->cidrs_change ? split(r) : r->nr, trie = p->cidr_nr;
	const char *map = "mesh_services";
	int rc;

	if (r->cidrs_change) {
		for (uint32_t i = nr; i < r->nr; i++)
			trie += !r->items[i].old;
		__atomic_store_n(&p->control->cidr_nr, trie, __ATOMIC_RELEASE);
	}
	rc = write_addresses(p, r, nr);
	for (uint32_t i = nr; i < r->nr && !rc; i++) {
		map = "mesh_cidrs";
		rc = point(p, &r->items[i].key, r->items[i].new);
		r->written += !rc;
	}
	if (!rc)
		return 0;
	buf_printf(err, "cannot write %s: %s", map, strerror(-rc));
	if (rc == -E2BIG || rc == -ENOSPC) {
		buf_printf(err, ": the table is full; raise max-services (%u)", p->max_services);
		rc = -ENOSPC;
	}
	return rc;
}

void rowset_undo(struct plane *p, struct rowset *r)
{
	for (uint32_t i = 0; i < r->nr; i++) {
		struct row_change *c = &r->items[i];
		int rc = 0;

		if (i < r->written && c->old)
			rc = point(p, &c->key, c->old);
		else if (i < r->written)
			unpoint(p, &c->key);
		if (rc)
			log_err("cannot take back a row error=%s", strerror(-rc));
		if (!c->new_gone)
			continue;
		if (r->written)
			retire(p, RETIRED_ROW, c->new, NULL);
		else
			row_free(p, c->new);
	}
}

/* plane.gone, less what came back, with what goes now; both are sorted by key once r is. */
static void gone_merge(struct plane *p, struct rowset *r, uint32_t going)
{
	struct gone *out = xcalloc(p->gone_nr + going, sizeof(*out));
	uint64_t tag = retire_tag(p);
	uint32_t nr = 0, i = 0;

	qsort(r->items, r->nr, sizeof(*r->items), change_cmp);
	for (uint32_t c = 0; c < r->nr; c++) {
		const struct row_change *item = &r->items[c];

		if (!item->new_gone && !item->old_gone)
			continue;
		while (i < p->gone_nr && memcmp(&p->gone[i].key, &item->key, sizeof(item->key)) < 0)
			out[nr++] = p->gone[i++];
		if (item->old_gone) {
			retire(p, RETIRED_ROW, item->old, NULL);
			i++;
		} else {
			out[nr++] = (struct gone){ .key = item->key, .slot = item->new, .tag = tag };
		}
	}
	while (i < p->gone_nr)
		out[nr++] = p->gone[i++];
	free(p->gone);
	p->gone = out;
	p->gone_nr = nr;
}

void rowset_commit(struct plane *p, struct rowset *r)
{
	uint32_t going = 0, back = 0;

	for (uint32_t i = 0; i < r->nr; i++) {
		going += r->items[i].new_gone;
		back += r->items[i].old_gone;
	}
	if (going || back)
		gone_merge(p, r, going);
	if (r->cidrs_change) {
		free(p->cidrs);
		p->cidrs = r->cidrs;
		p->cidr_nr = r->cidr_nr;
		r->cidrs = NULL;
	}
}
