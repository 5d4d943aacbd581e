/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes the way from the user's text to the image: batch_read, model, snapshot_build, and everything that prints them. An input
 * is rules; behind a line "#%%put" or "#%%del" stand documents that are put into, or removed from, what stands before. After a
 * change the snapshot built from the previous one must print as the snapshot built from nothing. Laws of snapshot.h are checked
 * on each snapshot. Built with libFuzzer, and with REPLAY (a main that reads files) for coverage.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/alias.h"
#include "config/explain.h"
#include "config/kinds.h"
#include "config/snapshot.h"
#include "must.h"
#include "mutate.h"

#define INPUT_MAX 16384

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static const struct snapshot_options options = { .cluster_domain = STR("cluster.local"),
						 .root_namespace = STR("istio-system"),
						 .node_name = STR("n1") };

/* One input in progress: the rules so far, and the snapshot of them (NULL while they have errors). */
struct run {
	struct model *model;
	struct snapshot *snapshot;
	struct buf a, b; /* scratch, kept over inputs */
};

static void check_row(const struct snapshot *s, const struct unit *u, const struct u_row *row,
		      const struct u_row *before)
{
	const struct unit *found_unit;

	MUST(row->port && (row->scope == MESH_SCOPE_OUTSIDE || (row->scope & ~MESH_SCOPE_CLOSED) < s->scope_nr));
	MUST(row->proto == MESH_PROTO_TCP || row->proto == MESH_PROTO_UDP);
	MUST(row->prefix_len <= 128 && row->origin <= u->origin_nr);
	MUST(row->action == MESH_ROUTE || row->action == MESH_PASS || row->action == MESH_ABSENT);
	MUST(row->dest <= u->dest_nr && row->dest_nr <= u->dest_nr - row->dest);
	for (uint32_t i = 0; i < row->dest_nr; i++)
		MUST(u->dests[row->dest + i].weight && u->dests[row->dest + i].cluster < u->cluster_nr);
	if (before)
		MUST(before->scope != row->scope || addr_cmp(&before->addr, &row->addr) ||
		     before->prefix_len != row->prefix_len || before->port != row->port || before->proto != row->proto);
	if (row->prefix_len == 128)
		MUST(snapshot_find(s, row->scope, &row->addr, row->port, row->proto, &found_unit) == row &&
		     found_unit == u);
	else
		MUST(snapshot_find(s, row->scope, &row->addr, row->port, row->proto, &found_unit));
}

/* The cluster's endpoints have the family and the sums that an image can hold. */
static void check_cluster(const struct unit *u, const struct u_cluster *c)
{
	uint64_t weights[64], sum, scratch[128];
	struct mesh_choice columns[64];
	uint32_t ids[64];

	MUST(c->endpoint <= u->endpoint_nr && c->endpoint_nr + c->draining_nr <= u->endpoint_nr - c->endpoint);
	MUST(c->traffic.lb > LB_UNSET && c->traffic.lb < LB_PASSTHROUGH && c->traffic.origin <= u->origin_nr);
	MUST(!c->elsewhere || (c->local && !c->endpoint_nr));
	for (uint32_t i = 0; i < c->endpoint_nr + c->draining_nr; i++) {
		const struct u_endpoint *e = &u->endpoints[c->endpoint + i];

		MUST(e->draining == (i >= c->endpoint_nr) && e->level < U_LEVELS_MAX && e->locality <= u->locality_nr);
		MUST(e->probe <= u->probe_nr);
		MUST(e->draining || (i ? e->level - e[-1].level <= 1 && e->level >= e[-1].level : !e->level));
		MUST(e->weight && e->port && e->workload <= u->workload_nr);
		MUST(addr_is_v4(&e->addr) == !c->v6);
		if (i < 64 && i < c->endpoint_nr) {
			weights[i] = e->weight;
			ids[i] = i;
		}
	}
	if (c->endpoint_nr && c->endpoint_nr <= 64)
		MUST(!alias_build(weights, ids, c->endpoint_nr, columns, &sum, scratch));
}

/* Jumps lead forward, to a step; bits are the program's own. */
static void check_program(const struct access *a, const struct u_program *p)
{
	MUST(p->term_nr && p->term_nr <= MESH_TERMS_MAX && p->term + p->term_nr <= a->term_nr);
	MUST(p->bit + p->bit_nr <= a->bit_nr && p->guard + p->guard_nr <= a->guard_nr);
	for (uint32_t i = 0; i < p->term_nr; i++) {
		const struct u_term *t = &a->terms[p->term + i];

		if (t->op == MESH_OP_ALLOW || t->op == MESH_OP_DENY) {
			MUST(t->arg <= a->policy_nr);
			continue;
		}
		MUST(t->hit > i && t->hit < p->term_nr && t->miss > i && t->miss < p->term_nr);
		MUST(t->op != MESH_OP_IDENTITY || t->arg + t->nr <= p->bit_nr);
	}
	for (uint32_t i = 0; i < p->guard_nr; i++)
		MUST(a->guards[p->guard + i] < a->policy_nr &&
		     (!i || a->guards[p->guard + i - 1] < a->guards[p->guard + i]));
}

static void check_access(const struct access *a)
{
	for (uint32_t i = 0; i < a->program_nr; i++)
		check_program(a, &a->programs[i]);
	for (uint32_t i = 0; i < a->member_nr; i++) {
		const struct u_member *m = &a->members[i];

		MUST(!i || addr_cmp(&a->members[i - 1].addr, &m->addr) < 0);
		MUST(m->identity < a->identity_nr && m->program <= a->program_nr && m->shadow <= a->program_nr);
		access_ask(a, m->program, m->identity, &m->addr, &m->addr, 80);
		access_ask(a, m->shadow, 0, &a->members[0].addr, &m->addr, 65535);
	}
}

static void check_laws(const struct snapshot *s)
{
	uint32_t rows = 0;

	check_access(s->access);

	for (uint32_t i = 0; i < s->unit_nr; i++) {
		const struct unit *u = s->units[i];

		if (i) {
			int order = str_cmp(s->units[i - 1]->host, u->host);

			MUST(order < 0 || (order == 0 && str_cmp(s->units[i - 1]->ns, u->ns) < 0));
		}
		for (uint32_t j = 0; j < u->row_nr; j++)
			check_row(s, u, &u->rows[j], j ? &u->rows[j - 1] : NULL);
		for (uint32_t j = 0; j < u->cluster_nr; j++)
			check_cluster(u, &u->clusters[j]);
		rows += u->row_nr;
	}
	MUST(rows == s->row_nr);
	for (uint32_t i = 0; i < s->client_nr; i++)
		MUST((s->clients[i].scope & ~MESH_SCOPE_CLOSED) < s->scope_nr);
}

/* Asks `explain` about the first rows, by name and by address, each from another client. */
static void ask(const struct snapshot *s, struct run *r)
{
	char text[ADDR_TEXT_MAX];
	struct json json;
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->unit_nr && i < 3 && s->client_nr; i++) {
		const struct unit *u = s->units[i];

		for (uint32_t j = 0; j < u->row_nr && j < 2; j++) {
			struct str src = s->clients[n++ % s->client_nr].name;
			const struct u_row *row = &u->rows[j];

			buf_clear(&r->a);
			buf_clear(&r->b);
			json_init(&json, &r->b);
			explain(s, &options, NULL, src, u->host, row->port, row->proto, &r->a, &json);
			buf_clear(&r->b);
			json_init(&json, &r->b);
			explain(s, &options, NULL, src, str_of(addr_text(&row->addr, text)), row->port, row->proto,
				&r->a, &json);
		}
	}
}

static void report(struct batch *b, struct run *r)
{
	MUST(b->applied + b->skipped + b->refused == b->nr);
	buf_clear(&r->a);
	report_text(b, &r->a, true);
	buf_clear(&r->a);
	report_json(b, &r->a);
}

struct changes {
	struct doc **v;
	uint32_t nr, cap;
};

static void changes_add(struct changes *c, struct doc *d)
{
	if (!d)
		return;
	if (c->nr == c->cap) {
		c->cap = c->cap ? c->cap * 2 : 16;
		c->v = xrealloc(c->v, c->cap * sizeof(*c->v));
	}
	c->v[c->nr++] = d;
}

/* Changes `m` by the documents of the batch. */
static void change(struct model *m, struct batch *b, bool remove, struct changes *ret)
{
	for (uint32_t i = 0; i < b->nr; i++) {
		struct doc *d = b->results[i].doc;

		if (b->results[i].outcome != OUTCOME_APPLIED)
			continue;
		if (remove) {
			changes_add(ret, model_remove(m, d->layer, d->kind, d->kind_name, d->meta.ns, d->meta.name));
		} else {
			changes_add(ret, model_put(m, d));
			changes_add(ret, doc_ref(d));
		}
	}
}

static void show_diags(const struct batch *batch, const struct batch *second, int err, int err_full)
{
	struct buf out = { 0 };

	buf_printf(&out, "--- incremental %d\n", err);
	report_text(batch, &out, false);
	buf_printf(&out, "--- full %d\n", err_full);
	report_text(second, &out, false);
	fprintf(stderr, "%s", out.data);
	buf_release(&out);
}

static void changes_release(struct changes *c)
{
	for (uint32_t i = 0; i < c->nr; i++)
		doc_unref(c->v[i]);
	free(c->v);
}

/* The same transaction from nothing: errors depend on what is new, so the text is read again. */
static int build_again(const struct model *before, struct str text, bool remove, enum layer layer, struct batch *b,
		       struct snapshot **ret)
{
	struct model *m = model_clone(before);
	struct changes changes = { 0 };
	int err;

	batch_read(b, layer, STR("rules.yaml"), text);
	change(m, b, remove, &changes);
	err = snapshot_build(m, &options, NULL, NULL, 0, b, ret);
	changes_release(&changes);
	model_free(m);
	return err;
}

/* One part of the input: a transaction, as meshd makes it. */
static void step(struct run *r, struct str text, bool remove, enum layer layer)
{
	struct model *next = model_clone(r->model);
	struct snapshot *incremental = NULL, *full = NULL;
	struct changes changes = { 0 };
	struct batch batch = { 0 }, second = { 0 };
	int err, err_full;

	batch_read(&batch, layer, STR("rules.yaml"), text);
	change(next, &batch, remove, &changes);
	err = snapshot_build(next, &options, r->snapshot, changes.v, changes.nr, &batch, &incremental);
	MUST(err == 0 || err == -EINVAL);
	MUST(!err == !!incremental);
	report(&batch, r);
	if (r->snapshot) {
		err_full = build_again(r->model, text, remove, layer, &second, &full);
		if (err != err_full)
			show_diags(&batch, &second, err, err_full);
		MUST(err == err_full);
	}
	if (incremental) {
		buf_clear(&r->a);
		snapshot_print(incremental, &r->a);
		check_laws(incremental);
		if (full) {
			buf_clear(&r->b);
			snapshot_print(full, &r->b);
			if (r->a.len != r->b.len || (r->a.len && memcmp(r->a.data, r->b.data, r->a.len)))
				fprintf(stderr, "--- incremental\n%s--- full\n%s", r->a.data, r->b.data);
			MUST(r->a.len == r->b.len && (!r->a.len || !memcmp(r->a.data, r->b.data, r->a.len)));
		}
		ask(incremental, r);
	}
	snapshot_unref(full);
	if (!err) {
		model_free(r->model);
		r->model = next;
		snapshot_unref(r->snapshot);
		r->snapshot = incremental;
	} else {
		model_free(next);
	}
	changes_release(&changes);
	batch_release(&batch);
	batch_release(&second);
}

/* Behind `at`: the next cut line, or the end. */
static uint32_t next_cut(struct str text, uint32_t at)
{
	for (; at + sizeof(MUTATE_PUT) - 1 <= text.len; at++) {
		if (text.p[at] != '#' || (at && text.p[at - 1] != '\n'))
			continue;
		if (!memcmp(text.p + at, MUTATE_PUT, sizeof(MUTATE_PUT) - 1) ||
		    !memcmp(text.p + at, MUTATE_DEL, sizeof(MUTATE_DEL) - 1))
			return at;
	}
	return text.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct run run;
	struct str text = { (const char *)data, (uint32_t)size };
	bool remove = false, again = false;
	uint32_t at = 0, end;

	if (size > INPUT_MAX)
		return 0;
	run.model = model_new();
	run.snapshot = NULL;
	for (uint32_t i = 0; i < 4 && at <= text.len; i++) {
		end = next_cut(text, at);
		step(&run, str_sub(text, at, end - at), remove,
		     again && !remove && i == 2 ? LAYER_APPLIED : LAYER_RULES);
		if (end == text.len)
			break;
		remove = text.p[end + 3] == 'd';
		again = true;
		at = end + (uint32_t)sizeof(MUTATE_PUT) - 1;
	}
	snapshot_unref(run.snapshot);
	model_free(run.model);
	return 0;
}

#ifdef REPLAY
#include "replay.h"
#else

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	mutate_init();
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	return mutate(data, size, max, seed);
}

#endif
