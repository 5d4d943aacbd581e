/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is compiled from rules is what meshl7 takes: the images of every unit of every case and, where they are here, of the corpora. Where
 * the compiler let something pass that the loader refuses, one such rule would hold up all others.
 */
#include "test.h"

#include <ftw.h>
#include <unistd.h>

#include "config/snapshot.h"
#include "http_image.h"

static uint32_t images, loaded;

static void take(const char *path, const struct unit *u)
{
	struct image im = { 0 }, whole;
	struct buf err = { 0 };
	struct http_rules *r;

	if (!u->http)
		return;
	images++;
	buf_add(&im.b, u->http, u->http_len);
	image_whole_begin(&whole);
	image_whole_end(&whole, &im, (struct mesh_http){ 0 });
	r = http_rules_load(whole.b.data, whole.b.len, NULL, NULL, &err);
	CHECK_MSG(r, "%s: %.*s: %s", path, STR_ARG(u->host), err.data ? err.data : "");
	loaded += r != NULL;
	http_rules_unref(r);
	buf_release(&err);
	buf_release(&im.b);
	buf_release(&whole.b);
}

static int add_path(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	static char text[1 << 20];
	const struct snapshot_options opts = { .cluster_domain = STR("cluster.local"),
					       .root_namespace = STR("istio-system"),
					       .trust_domain = STR("cluster.local"),
					       .http_per_request = true };
	struct model *model;
	struct snapshot *s = NULL;
	struct batch b = { 0 };
	size_t len;
	FILE *f;

	(void)st;
	(void)ftw;
	if (type != FTW_F || !str_ends(str_of(path), STR(".yaml")) || !(f = fopen(path, "re")))
		return 0;
	len = fread(text, 1, sizeof(text), f);
	fclose(f);
	model = model_new();
	batch_read(&b, LAYER_RULES, str_of(path), (struct str){ text, (uint32_t)len });
	for (uint32_t i = 0; i < b.nr; i++)
		if (b.results[i].doc)
			doc_unref(model_put(model, b.results[i].doc));
	snapshot_build(model, &opts, NULL, NULL, 0, &b, &s);
	for (uint32_t i = 0; s && i < s->unit_nr; i++)
		take(path, s->units[i]);
	snapshot_unref(s);
	model_free(model);
	batch_release(&b);
	return 0;
}

TEST(compiled_rules_load)
{
	CHECK(!nftw("tests/cases", add_path, 16, FTW_PHYS));
	if (!access("../shared/corpora", R_OK))
		CHECK(!nftw("../shared/corpora", add_path, 16, FTW_PHYS));
	CHECK_MSG(images > 5 && loaded == images, "%u of %u", loaded, images);
	printf("%u images\n", images);
}
