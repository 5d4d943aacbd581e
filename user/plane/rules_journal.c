/* SPDX-License-Identifier: BSD-2-Clause */
/* Applied documents as entries of the journal: names, addresses that were taken over, and those that cannot be read any more. */
#include "plane/rules_local.h"

#include <stdlib.h>

#include "base/log.h"

void rules_entry_name(struct buf *out, enum kind kind, struct str kind_name, struct str ns, struct str name)
{
	/* There are two kinds of this name. */
	buf_printf(out, "%.*s%s/%.*s/%.*s", STR_ARG(kind_name), kind == KIND_GATEWAY ? "." GATEWAY_GROUP : "",
		   STR_ARG(ns), STR_ARG(name));
}

void entry_name(struct buf *out, const struct doc *d)
{
	rules_entry_name(out, d->kind, d->kind_name, d->meta.ns, d->meta.name);
}

static bool takes_over_vips(const struct doc *d)
{
	return d->kind == KIND_SERVICE && !d->service->vip_nr && !d->service->headless &&
	       d->service->type != SERVICE_EXTERNAL_NAME;
}

bool vips_take_over(struct doc *d, const struct doc *from)
{
	struct m_service *s = d->service;

	if (!from || !takes_over_vips(d) || !from->service->vip_nr)
		return false;
	s->vips = arena_array(&d->arena, from->service->vip_nr, sizeof(*s->vips));
	memcpy(s->vips, from->service->vips, from->service->vip_nr * sizeof(*s->vips));
	s->vip_nr = from->service->vip_nr;
	s->v4 = from->service->v4;
	s->v6 = from->service->v6;
	return true;
}

void vips_print(struct buf *out, const struct doc *d)
{
	char text[ADDR_TEXT_MAX];

	for (uint32_t i = 0; i < d->service->vip_nr; i++)
		buf_printf(out, "%s%s", i ? " " : "", addr_text(&d->service->vips[i], text));
}

static void vips_parse(struct doc *d, struct str text)
{
	struct m_service *s = d->service;
	uint32_t nr = 1;

	for (uint32_t i = 0; i < text.len; i++)
		nr += text.p[i] == ' ';
	s->vips = arena_array(&d->arena, nr, sizeof(*s->vips));
	while (text.len) {
		int space = str_find(text, ' ');
		uint32_t len = space < 0 ? text.len : (uint32_t)space;

		if (addr_parse(str_sub(text, 0, len), &s->vips[s->vip_nr]))
			s->vip_nr++;
		text = str_sub(text, len + 1, text.len);
	}
}

bool rules_is_stuck(const struct rules *r, struct str name)
{
	for (uint32_t i = 0; i < r->stuck_nr; i++) {
		if (str_is(name, r->stuck[i].name))
			return true;
	}
	return false;
}

void stuck_mark(struct rules *r, struct str name)
{
	for (uint32_t i = 0; i < r->stuck_nr; i++)
		r->stuck[i].gone |= str_is(name, r->stuck[i].name);
}

void stuck_unmark(struct rules *r)
{
	for (uint32_t i = 0; i < r->stuck_nr; i++)
		r->stuck[i].gone = false;
}

void stuck_drop(struct rules *r)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < r->stuck_nr; i++) {
		struct stuck *s = &r->stuck[i];

		if (!s->gone) {
			r->stuck[nr++] = *s;
			continue;
		}
		free(s->name);
		buf_release(&s->text);
		buf_release(&s->vips);
		buf_release(&s->why);
	}
	r->stuck_nr = nr;
}

bool stuck_left(const struct rules *r, struct buf *err)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < r->stuck_nr; i++)
		nr += !r->stuck[i].gone;
	if (!nr)
		return false;
	buf_printf(err,
		   "documents that were applied earlier cannot be read any more; apply them anew or delete them in the "
		   "same command:");
	for (uint32_t i = 0; i < r->stuck_nr; i++) {
		if (!r->stuck[i].gone)
			buf_printf(err, "\n  %s: %s", r->stuck[i].name, r->stuck[i].why.data);
	}
	return true;
}

static void stuck_add(struct rules *r, const struct journal_entry *e, const struct diags *diags, uint32_t first)
{
	struct stuck *s;

	r->stuck = xrealloc(r->stuck, (r->stuck_nr + 1) * sizeof(*r->stuck));
	s = &r->stuck[r->stuck_nr++];
	*s = (struct stuck){ .name = xmalloc((size_t)e->name.len + 1) };
	memcpy(s->name, e->name.p, e->name.len);
	s->name[e->name.len] = 0;
	buf_str(&s->text, e->text);
	buf_str(&s->vips, e->vips);
	buf_printf(&s->why, "not one document");
	for (uint32_t i = first; i < diags->nr; i++) {
		if (diags->items[i].level != DIAG_ERROR)
			continue;
		buf_clear(&s->why);
		diag_line(&s->why, &diags->items[i]);
		break;
	}
	log_err("journal: %s", s->why.data);
}

void entry_load(void *data, const struct journal_entry *e)
{
	struct loading *l = data;
	struct rules *r = l->rules;
	struct batch *b = &l->batch;
	uint32_t from = b->nr, first = b->diags.nr;
	struct buf file = { 0 };
	struct doc *d;

	buf_printf(&file, "applied:%.*s", STR_ARG(e->name));
	batch_read(b, LAYER_APPLIED, (struct str){ file.data, (uint32_t)file.len }, e->text);
	buf_release(&file);
	if (b->nr != from + 1 || b->results[from].outcome != OUTCOME_APPLIED) {
		stuck_add(r, e, &b->diags, first);
		return;
	}
	d = b->results[from].doc;
	if (e->vips.len && d->kind == KIND_SERVICE && !d->service->vip_nr)
		vips_parse(d, e->vips);
	doc_unref(model_put(r->model, d));
	r->applied_nr++;
}

void entry_each(void *data, void (*add)(void *, const struct journal_entry *), void *to)
{
	struct rules *r = data;
	struct buf name = { 0 }, vips = { 0 };
	struct journal_entry e;

	for (int kind = 0; kind < KIND_NR; kind++) {
		uint32_t nr;
		struct doc *const *docs = model_list(r->model, (enum kind)kind, &nr);

		for (uint32_t i = 0; i < nr; i++) {
			if (docs[i]->layer != LAYER_APPLIED)
				continue;
			buf_clear(&name);
			buf_clear(&vips);
			entry_name(&name, docs[i]);
			/* Addresses that the text gives itself are not read back, so they may stand here too. */
			if (docs[i]->kind == KIND_SERVICE)
				vips_print(&vips, docs[i]);
			e = (struct journal_entry){ { name.data, (uint32_t)name.len },
						    docs[i]->text,
						    { vips.data, (uint32_t)vips.len } };
			add(to, &e);
		}
	}
	for (uint32_t i = 0; i < r->stuck_nr; i++) {
		struct stuck *s = &r->stuck[i];

		e = (struct journal_entry){ str_of(s->name),
					    { s->text.data, (uint32_t)s->text.len },
					    { s->vips.data, (uint32_t)s->vips.len } };
		add(to, &e);
	}
	buf_release(&name);
	buf_release(&vips);
}
