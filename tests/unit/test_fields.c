/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every field that the given CRD schemas have, in every served version of a kind that is decoded, is known to our tables: a
 * document with just this field is decoded, and nobody calls it unknown. Skipped where the corpora are absent.
 */
#include "test.h"

#include <glob.h>
#include <unistd.h>

#include "config/kinds.h"

#define DEPTH_MAX 32

static const char *corpora = "../shared/corpora";

/* A place in a schema: names from the document down; an empty one is an item of a list. */
struct walk {
	struct str api_version, kind;
	struct str texts[DEPTH_MAX];
	uint32_t depth, fields, unknown;
};

static struct str scalar_at(const struct ynode *map, const char *key)
{
	const struct ynode *n = map ? ynode_get(map, key) : NULL;

	return n && n->kind == YNODE_SCALAR ? n->scalar : (struct str){ 0 };
}

/* {"apiVersion": ..., "spec": {"tcp": [{"route": VALUE}]}} */
static void add_document(const struct walk *w, struct str type, struct buf *out)
{
	buf_printf(out, "{\"apiVersion\": \"%.*s\", \"kind\": \"%.*s\", \"metadata\": {\"name\": \"a\"}",
		   STR_ARG(w->api_version), STR_ARG(w->kind));
	for (uint32_t i = 0; i < w->depth; i++) {
		if (!w->texts[i].len)
			buf_str(out, STR("["));
		else
			buf_printf(out, "%s\"%.*s\": ", i ? "{" : ", ", STR_ARG(w->texts[i]));
	}
	buf_str(out, str_is(type, "array") ? STR("[]") : str_is(type, "object") ? STR("{}") : STR("1"));
	for (uint32_t i = w->depth; i--;)
		buf_str(out, w->texts[i].len ? STR("}") : STR("]"));
	buf_str(out, STR("\n"));
}

static void try_field(struct walk *w, struct str type)
{
	struct buf text = { 0 };
	struct batch b = { 0 };

	add_document(w, type, &text);
	batch_read(&b, LAYER_RULES, STR("f"), (struct str){ text.data, (uint32_t)text.len });
	for (uint32_t i = 0; i < b.diags.nr; i++) {
		if (!str_starts(b.diags.items[i].message, STR("unknown field")) &&
		    !str_starts(b.diags.items[i].message, STR("unknown kind")))
			continue;
		w->unknown++;
		fprintf(stderr, "%.*s %.*s: %.*s: %.*s\n", STR_ARG(w->api_version), STR_ARG(w->kind),
			STR_ARG(b.diags.items[i].field), STR_ARG(b.diags.items[i].message));
	}
	w->fields++;
	batch_release(&b);
	buf_release(&text);
}

static void walk_schema(struct walk *w, const struct ynode *schema)
{
	const struct ynode *properties = ynode_get(schema, "properties"), *items = ynode_get(schema, "items");

	if (w->depth == DEPTH_MAX)
		return;
	w->depth++;
	if (items) {
		w->texts[w->depth - 1] = (struct str){ 0 };
		walk_schema(w, items);
	}
	for (uint32_t i = 0; properties && i < properties->nr; i++) {
		const struct ynode *value = properties->items[2 * i + 1];

		w->texts[w->depth - 1] = properties->items[2 * i]->scalar;
		try_field(w, scalar_at(value, "type"));
		walk_schema(w, value);
	}
	w->depth--;
}

static void walk_version(const struct ynode *spec, const struct ynode *version, uint32_t *fields)
{
	const struct ynode *schema = ynode_get(version, "schema"), *root, *part;
	struct str kind = scalar_at(ynode_get(spec, "names"), "kind"), hint;
	struct walk w = { .kind = kind };
	struct arena arena = { 0 };
	const struct kind_entry *e;

	w.api_version = arena_printf(&arena, "%.*s/%.*s", STR_ARG(scalar_at(spec, "group")),
				     STR_ARG(scalar_at(version, "name")));
	e = kind_find(&arena, w.api_version, kind, &hint);
	root = schema ? ynode_get(schema, "openAPIV3Schema") : NULL;
	part = root ? ynode_get(ynode_get(root, "properties"), "spec") : NULL;
	/* A version that is not served any more has no fields that matter. */
	if (str_is(scalar_at(version, "served"), "true") && part && (!e || e->class == KIND_DECODED)) {
		CHECK_MSG(e, "%.*s %.*s is served, and not known", STR_ARG(w.api_version), STR_ARG(kind));
		w.texts[0] = STR("spec");
		w.depth = 1;
		walk_schema(&w, part);
		CHECK_INT(w.unknown, 0);
		*fields += w.fields;
	}
	arena_release(&arena);
}

static void walk_file(const char *path, uint32_t *fields)
{
	struct buf text = { 0 };
	struct diags diags = { 0 };
	struct ynode *root;
	struct str slice;
	struct yaml *y;
	uint32_t number;
	char bytes[65536];
	FILE *f = fopen(path, "re");
	size_t n;

	CHECK_MSG(f, "%s", path);
	while (f && (n = fread(bytes, 1, sizeof(bytes), f)))
		buf_add(&text, bytes, n);
	if (f)
		fclose(f);
	y = yaml_open(str_of(path), (struct str){ text.data, (uint32_t)text.len });
	for (;;) {
		struct arena arena = { 0 };
		int r = yaml_next(y, &arena, &diags, &root, &number, &slice);
		const struct ynode *spec = r == 1 && root ? ynode_get(root, "spec") : NULL;
		const struct ynode *versions = spec && str_is(scalar_at(root, "kind"), "CustomResourceDefinition")
						       ? ynode_get(spec, "versions")
						       : NULL;

		for (uint32_t i = 0; versions && i < versions->nr; i++)
			walk_version(spec, versions->items[i], fields);
		arena_release(&arena);
		if (r != 1)
			break;
	}
	yaml_close(y);
	diags_release(&diags);
	buf_release(&text);
}

TEST(every_field_is_known)
{
	static const char *const patterns[] = {
		"istio-validation/istio-api/kubernetes/customresourcedefinitions.gen.yaml",
		"gateway-api-conformance/config/crd/*/gateway.networking.k8s.io_*.yaml"
	};
	const char *place = getenv("CORPORA");
	uint32_t fields = 0;

	if (place && *place)
		corpora = place;
	if (access(corpora, R_OK))
		SKIP("the corpora are not here");
	for (size_t i = 0; i < sizeof(patterns) / sizeof(*patterns); i++) {
		char path[4096];
		glob_t found;

		snprintf(path, sizeof(path), "%s/%s", corpora, patterns[i]);
		CHECK_MSG(!glob(path, 0, NULL, &found), "%s", path);
		for (size_t k = 0; k < found.gl_pathc; k++)
			walk_file(found.gl_pathv[k], &fields);
		globfree(&found);
	}
	CHECK_MSG(fields > 2000, "%u fields", fields);
}
