/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The golden cases, which are data: each folder of tests/cases/errors holds in.yaml and want.err (what the compiler says of it, one
 * line a diag: `line:column: field: message`, with `warning: ` or `note: ` before it, and its hint indented below), each folder of
 * tests/cases/image holds in.yaml and want.image (the snapshot as text as node n1 has it, warnings above it). `test_cases [--folder DIR] [NAME]`;
 * UPDATE=1 writes the wants instead of comparing them. Adding a case needs no C.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/snapshot.h"

static unsigned int passed, failed;
static bool update;

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

static bool write_file(const char *path, const struct buf *text)
{
	FILE *f = fopen(path, "we");
	bool written;

	if (!f)
		return false;
	written = fwrite(text->data, 1, text->len, f) == text->len;
	return !fclose(f) && written;
}

static void print_diags(const struct diags *d, const char *before, struct buf *out)
{
	static const char *const levels[] = { [DIAG_ERROR] = "", [DIAG_WARNING] = "warning: ", [DIAG_NOTE] = "note: " };

	for (uint32_t i = 0; i < d->nr; i++) {
		const struct diag *one = &d->items[i];

		buf_printf(out, "%s%s%u:%u: ", before, levels[one->level], one->at.line, one->at.column);
		if (one->field.len)
			buf_printf(out, "%.*s: ", STR_ARG(one->field));
		buf_printf(out, "%.*s\n", STR_ARG(one->message));
		if (one->hint.len)
			buf_printf(out, "%s    hint: %.*s\n", before, STR_ARG(one->hint));
	}
}

/* What the compiler says of `text`: its diags, and for an image the snapshot below them. */
static void compile(struct str text, bool image, struct buf *out)
{
	const struct snapshot_options opts = { .cluster_domain = STR("cluster.local"),
					       .root_namespace = STR("istio-system"),
					       .trust_domain = STR("cluster.local"),
					       .node_name = STR("n1") };
	struct model *model = model_new();
	struct snapshot *snapshot = NULL;
	struct batch b = { 0 };

	batch_read(&b, LAYER_RULES, STR("in.yaml"), text);
	for (uint32_t i = 0; i < b.nr; i++)
		if (b.results[i].doc)
			doc_unref(model_put(model, b.results[i].doc));
	snapshot_build(model, &opts, NULL, NULL, 0, &b, &snapshot);
	print_diags(&b.diags, image ? "# " : "", out);
	if (image && snapshot)
		snapshot_print(snapshot, out);
	snapshot_unref(snapshot);
	model_free(model);
	batch_release(&b);
}

static void show_difference(const char *path, const struct buf *got)
{
	char command[8192];
	FILE *diff;

	snprintf(command, sizeof(command), "diff -u '%s' -", path);
	fflush(stdout);
	diff = popen(command, "w");
	if (!diff)
		return;
	fwrite(got->data, 1, got->len, diff);
	pclose(diff);
}

static void run_case(const char *folder, const char *name, bool image)
{
	char in[4096], want_path[4096];
	struct buf text = { 0 }, want = { 0 }, got = { 0 };

	snprintf(in, sizeof(in), "%s/%s/in.yaml", folder, name);
	snprintf(want_path, sizeof(want_path), "%s/%s/want.%s", folder, name, image ? "image" : "err");
	if (!read_file(in, &text)) {
		printf("FAIL %s: %s\n", in, strerror(errno));
		failed++;
		return;
	}
	compile((struct str){ text.data ? text.data : "", text.len }, image, &got);
	if (!got.data)
		buf_str(&got, STR(""));
	if (update && !write_file(want_path, &got)) {
		printf("FAIL %s: %s\n", want_path, strerror(errno));
		failed++;
	} else if (!update && (!read_file(want_path, &want) || want.len != got.len ||
			       memcmp(want.data ? want.data : "", got.data ? got.data : "", got.len))) {
		printf("FAIL %s/%s\n", folder, name);
		show_difference(want_path, &got);
		failed++;
	} else {
		passed++;
	}
	buf_release(&text);
	buf_release(&want);
	buf_release(&got);
}

static int is_case(const struct dirent *d)
{
	return d->d_name[0] != '.' && d->d_type == DT_DIR;
}

static void run_folder(const char *root, const char *sub, bool image, const char *filter)
{
	char folder[2048];
	struct dirent **cases;
	int nr;

	snprintf(folder, sizeof(folder), "%s/%s", root, sub);
	nr = scandir(folder, &cases, is_case, alphasort);
	for (int i = 0; i < nr; i++) {
		if (!filter || strstr(cases[i]->d_name, filter))
			run_case(folder, cases[i]->d_name, image);
		free(cases[i]);
	}
	if (nr >= 0)
		free(cases);
}

int main(int argc, char **argv)
{
	const char *root = "tests/cases", *filter = NULL, *wish = getenv("UPDATE");

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--folder") && i + 1 < argc)
			root = argv[++i];
		else
			filter = argv[i];
	}
	update = wish && *wish && strcmp(wish, "0");
	run_folder(root, "errors", false, filter);
	run_folder(root, "image", true, filter);
	if (!passed && !failed) {
		printf("FAIL %s: no case there\n", root);
		failed++;
	}
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed ? 1 : 0;
}
