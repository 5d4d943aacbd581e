/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What becomes of every document of the given corpora, against the reviewed table tests/corpora.tsv: file,
 * document (item of a List behind a dot), kind, outcome, and why when refused. Each file is compiled alone, as
 * `meshctl check -f FILE` does, without the `_err:` lines that say what an invalid document is about. UPDATE=1
 * writes the table. Skipped where the corpora are absent. Files none of whose documents has an apiVersion are
 * outputs and settings of other tools.
 */
#include "test.h"

#include <ftw.h>
#include <unistd.h>

#include "config/snapshot.h"

#define TABLE "tests/corpora.tsv"

static const char *corpora = "../shared/corpora";
static char **paths;
static uint32_t path_nr;

static int add_path(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if (type != FTW_F || !str_ends(str_of(path), STR(".yaml")))
		return 0;
	paths = xrealloc(paths, (path_nr + 1) * sizeof(*paths));
	paths[path_nr++] = xstrdup(path);
	return 0;
}

static int path_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool read_file(const char *path, struct buf *ret)
{
	char bytes[65536];
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return false;
	while ((n = fread(bytes, 1, sizeof(bytes), f)))
		buf_add(ret, bytes, n);
	fclose(f);
	return true;
}

/* The text of a file, with each `_err:` line made a comment so that line numbers stay. */
static bool read_rules(const char *path, struct buf *ret)
{
	if (!read_file(path, ret))
		return false;
	for (size_t i = 0; i + 5 < ret->len; i++)
		if ((!i || ret->data[i - 1] == '\n') && !memcmp(ret->data + i, "_err:", 5))
			ret->data[i] = '#';
	return true;
}

/* Why a document was refused: its first error. */
static void add_reason(const struct batch *b, const struct doc_result *row, struct buf *out)
{
	for (uint32_t i = 0; i < b->diags.nr; i++) {
		const struct diag *d = &b->diags.items[i];

		if (d->level != DIAG_ERROR || d->at.document != row->at.document || d->at.item != row->at.item)
			continue;
		buf_printf(out, "%.*s: %.*s", STR_ARG(d->field), STR_ARG(d->message));
		return;
	}
}

static void add_rows(const char *path, struct buf *out)
{
	static const char *const outcomes[] = { "applied", "skipped", "refused" };
	const struct snapshot_options opts = { .cluster_domain = STR("cluster.local"),
					       .root_namespace = STR("istio-system"),
					       .trust_domain = STR("cluster.local") };
	struct model *model = model_new();
	struct snapshot *snapshot = NULL;
	struct batch b = { 0 };
	struct buf text = { 0 };
	bool ours = false;

	CHECK_MSG(read_rules(path, &text), "%s", path);
	batch_read(&b, LAYER_RULES, str_of(path), (struct str){ text.data ? text.data : "", (uint32_t)text.len });
	for (uint32_t i = 0; i < b.nr; i++) {
		if (b.results[i].doc)
			doc_unref(model_put(model, b.results[i].doc));
		ours |= b.results[i].api_version.len != 0;
	}
	snapshot_build(model, &opts, NULL, NULL, 0, &b, &snapshot);
	for (uint32_t i = 0; ours && i < b.nr; i++) {
		const struct doc_result *row = &b.results[i];
		char item[16] = "";

		if (row->at.item)
			snprintf(item, sizeof(item), ".%u", row->at.item);
		buf_printf(out, "%s\t%u%s\t%.*s\t%s\t", path + strlen(corpora) + 1, row->at.document, item,
			   STR_ARG(row->kind), outcomes[row->outcome]);
		/* What upstream says is invalid is refused, whatever the table says. (Files of Istio's gateway controller that are named so
		 * are about its own state.) */
		if ((strstr(path, "/istio-api/tests/testdata/") && strstr(path, "-invalid.yaml")) ||
		    strstr(path, "/invalid-examples/"))
			CHECK_MSG(row->outcome == OUTCOME_REFUSED, "%s:%u is invalid", path, row->at.line);
		if (row->outcome == OUTCOME_REFUSED)
			add_reason(&b, row, out);
		buf_str(out, STR("\n"));
	}
	snapshot_unref(snapshot);
	model_free(model);
	batch_release(&b);
	buf_release(&text);
}

/* Next line of *at, without its end; false at the end of the text. */
static bool next_line(struct str *at, struct str *ret)
{
	int end = str_find(*at, '\n');

	if (!at->len)
		return false;
	*ret = end < 0 ? *at : str_sub(*at, 0, (uint32_t)end);
	*at = end < 0 ? STR("") : str_sub(*at, (uint32_t)end + 1, at->len);
	return true;
}

static void compare(const struct buf *got, const struct buf *want)
{
	struct str g = { got->data, (uint32_t)got->len }, w = { want->data, (uint32_t)want->len }, a, b;
	uint32_t line = 0;

	for (;;) {
		bool more_got = next_line(&g, &a), more_want = next_line(&w, &b);

		line++;
		if (!more_got && !more_want)
			return;
		CHECK_MSG(more_got && more_want && str_eq(a, b), TABLE ":%u: got  %.*s\n\twant %.*s", line,
			  STR_ARG(more_got ? a : STR("")), STR_ARG(more_want ? b : STR("")));
	}
}

TEST(corpora)
{
	const char *wish = getenv("UPDATE"), *place = getenv("CORPORA");
	struct buf got = { 0 }, want = { 0 };

	if (place && *place)
		corpora = place;
	if (access(corpora, R_OK))
		SKIP("the corpora are not here");
	CHECK(!nftw(corpora, add_path, 16, FTW_PHYS));
	qsort(paths, path_nr, sizeof(*paths), path_cmp);
	buf_str(&got, STR("file\tdocument\tkind\toutcome\twhy\n"));
	for (uint32_t i = 0; i < path_nr; i++)
		add_rows(paths[i], &got);
	if (wish && *wish && strcmp(wish, "0")) {
		FILE *f = fopen(TABLE, "we");

		CHECK(f && fwrite(got.data, 1, got.len, f) == got.len && !fclose(f));
	} else {
		CHECK_MSG(read_file(TABLE, &want), TABLE);
		if (want.data)
			compare(&got, &want);
	}
	for (uint32_t i = 0; i < path_nr; i++)
		free(paths[i]);
	free(paths);
	buf_release(&got);
	buf_release(&want);
}
