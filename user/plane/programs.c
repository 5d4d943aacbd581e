/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Policy programs in mesh_terms and mesh_bits. A program that is there already, by its hash, is used again, so that a change of one
 * policy writes one program; one that the new access has no use for waits for a grace period. Each verdict of a program holds the
 * name of its policy, which can be counted again after a restart.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "plane/plane_int.h"

static uint64_t hash_by_content(const void *owner, uint32_t at)
{
	return slotset_mix(((const struct programs *)owner)->items[at].hash);
}

static bool eq_by_content(const void *owner, uint32_t at, const void *key)
{
	const struct program *have = &((const struct programs *)owner)->items[at];
	const struct u_program *want = key;

	return have->hash == want->hash && have->term_nr == want->term_nr;
}

void programs_init(struct plane *p)
{
	struct programs *s = &p->programs;

	s->nr = 1;
	s->items = plane_grow(NULL, 0, &s->cap, sizeof(*s->items));
	slotset_init(&s->by_hash, hash_by_content, s);
	runs_init(&s->terms, p->map_max[PLANE_MAP_TERMS]);
	runs_init(&s->bits, p->map_max[PLANE_MAP_BITS]);
	runs_take(&s->terms, 0, 1); /* term 0 means that there is no program */
}

void programs_release(struct plane *p)
{
	struct programs *s = &p->programs;

	free(s->items);
	free(s->spare);
	slotset_release(&s->by_hash);
	runs_release(&s->terms);
	runs_release(&s->bits);
	*s = (struct programs){ 0 };
}

static uint32_t entry_get(struct programs *s)
{
	if (s->spare_nr)
		return s->spare[--s->spare_nr];
	s->items = plane_grow(s->items, s->nr, &s->cap, sizeof(*s->items));
	return s->nr++;
}

static bool is_verdict(const struct mesh_term *t)
{
	return t->op == MESH_OP_ALLOW || t->op == MESH_OP_DENY;
}

void program_free(struct plane *p, uint32_t at)
{
	struct programs *s = &p->programs;
	struct program *g = &s->items[at];
	const struct mesh_term *t = marray_at(&p->terms, g->term, g->term_nr);

	for (uint32_t i = 0; i < g->term_nr; i++)
		if (is_verdict(&t[i]))
			name_drop(p, t[i].arg);
	runs_put(&s->terms, g->term, g->term_nr);
	if (g->bit_nr)
		runs_put(&s->bits, g->bit, g->bit_nr);
	*g = (struct program){ 0 };
	s->spare = plane_grow(s->spare, s->spare_nr, &s->spare_cap, sizeof(*s->spare));
	s->spare[s->spare_nr++] = at;
}

static uint32_t policy_id(struct plane *p, const struct access *a, uint32_t policy)
{
	char text[1024];

	if (!policy)
		return 0;
	snprintf(text, sizeof(text), "%.*s/%.*s", STR_ARG(a->policies[policy - 1].ns),
		 STR_ARG(a->policies[policy - 1].name));
	return name_ref(p, MESH_NAME_POLICY, str_of(text));
}

static int write_program(struct plane *p, const struct access *a, const struct u_program *u, uint32_t *ret,
			 struct buf *err)
{
	struct programs *s = &p->programs;
	struct program g = { .hash = u->hash, .term_nr = u->term_nr, .bit_nr = u->bit_nr, .live = true, .fresh = true };
	struct mesh_term *out;

	if (!runs_get(&s->terms, g.term_nr, &g.term)) {
		buf_printf(err, "no room left for policies; raise max-policy-terms (%u)", p->map_max[PLANE_MAP_TERMS]);
		return -ENOSPC;
	}
	if (g.bit_nr && !runs_get(&s->bits, g.bit_nr, &g.bit)) {
		runs_put(&s->terms, g.term, g.term_nr);
		buf_printf(err, "no room left for identities in policies; raise max-policy-terms (%u)",
			   p->map_max[PLANE_MAP_TERMS]);
		return -ENOSPC;
	}
	if (g.bit_nr)
		memcpy(marray_at(&p->bits, g.bit, g.bit_nr), a->bits + u->bit, g.bit_nr * sizeof(*a->bits));
	out = marray_at(&p->terms, g.term, g.term_nr);
	for (uint32_t i = 0; i < g.term_nr; i++) {
		const struct u_term *t = &a->terms[u->term + i];

		out[i] = (struct mesh_term){ .arg = t->arg, .nr = t->nr, .hit = t->hit, .miss = t->miss, .op = t->op };
		memcpy(&out[i].addr, &t->addr, sizeof(out[i].addr));
		if (t->op == MESH_OP_IDENTITY)
			out[i].arg += g.bit;
		else if (is_verdict(&out[i]))
			out[i].arg = policy_id(p, a, t->arg);
	}
	*ret = entry_get(s);
	s->items[*ret] = g;
	slotset_add(&s->by_hash, *ret);
	return 0;
}

int programs_prepare(struct plane *p, const struct access *a, uint32_t **ret, uint32_t *ret_written, struct buf *err)
{
	struct programs *s = &p->programs;
	int rc = 0;

	*ret = xcalloc(a->program_nr, sizeof(**ret));
	for (uint32_t i = 0; i < a->program_nr && !rc; i++) {
		const struct u_program *u = &a->programs[i];

		(*ret)[i] = slotset_find(&s->by_hash, slotset_mix(u->hash), eq_by_content, u);
		if ((*ret)[i])
			continue;
		rc = write_program(p, a, u, &(*ret)[i], err);
		*ret_written += !rc;
	}
	return rc;
}

/* Nothing finds it any more. */
static void give_up(struct plane *p, uint32_t at, bool reachable)
{
	struct program *g = &p->programs.items[at];

	slotset_del(&p->programs.by_hash, at); /* one that was adopted is not in it */
	g->live = false;
	if (reachable)
		retire(p, RETIRED_PROGRAM, at, NULL);
	else
		program_free(p, at);
}

void programs_undo(struct plane *p, bool reachable)
{
	for (uint32_t i = 1; i < p->programs.nr; i++)
		if (p->programs.items[i].fresh)
			give_up(p, i, reachable);
}

void programs_commit(struct plane *p, const uint32_t *used, uint32_t nr)
{
	struct programs *s = &p->programs;
	bool *keep = xcalloc(s->nr, sizeof(*keep));

	for (uint32_t i = 0; i < nr; i++)
		keep[used[i]] = true;
	for (uint32_t i = 1; i < s->nr; i++) {
		s->items[i].fresh = false;
		if (s->items[i].live && !keep[i])
			give_up(p, i, true);
	}
	free(keep);
}

/* The steps that can be reached from `first`, and the words of identities that they ask for, from *ret_lo to before *ret_hi. */
static const char *measure(struct plane *p, uint32_t first, uint32_t *ret_nr, uint32_t *ret_lo, uint32_t *ret_hi)
{
	uint32_t nr = 1, lo = UINT32_MAX, hi = 0, bits = p->map_max[PLANE_MAP_BITS];

	for (uint32_t i = 0; i < nr; i++) {
		const struct mesh_term *t;

		if (first + i >= p->map_max[PLANE_MAP_TERMS])
			return "a policy goes on behind the end of mesh_terms";
		t = marray_at(&p->terms, first + i, 1);
		if (is_verdict(t))
			continue;
		nr = t->hit >= nr ? t->hit + 1u : nr;
		nr = t->miss >= nr ? t->miss + 1u : nr;
		if (t->op != MESH_OP_IDENTITY || !t->nr)
			continue;
		if (t->arg >= bits || t->nr > bits - t->arg)
			return "a policy asks for identities behind the end of mesh_bits";
		lo = t->arg < lo ? t->arg : lo;
		hi = t->arg + t->nr > hi ? t->arg + t->nr : hi;
	}
	*ret_nr = nr;
	*ret_lo = lo;
	*ret_hi = hi;
	return NULL;
}

const char *program_adopt(struct plane *p, uint32_t first)
{
	struct program g = { .term = first, .live = true };
	uint32_t lo, hi, order = 0, at;
	const char *wrong = measure(p, first, &g.term_nr, &lo, &hi);
	const struct mesh_term *t;

	if (wrong)
		return wrong;
	if (!runs_take(&p->programs.terms, first, g.term_nr))
		return "two policies overlap";
	if (lo < hi) {
		/* The block around them is the one they were given, or a part of it. */
		while (lo >> order != (hi - 1) >> order)
			order++;
		g.bit = lo >> order << order;
		g.bit_nr = 1u << order;
		if (!runs_take(&p->programs.bits, g.bit, g.bit_nr))
			return "identities of two policies overlap";
	}
	t = marray_at(&p->terms, first, g.term_nr);
	for (uint32_t i = 0; i < g.term_nr; i++)
		if (is_verdict(&t[i]))
			name_hold(p, t[i].arg);
	at = entry_get(&p->programs);
	p->programs.items[at] = g;
	return NULL;
}
