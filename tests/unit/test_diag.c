/* SPDX-License-Identifier: BSD-2-Clause */
/* user/base/diag.c */
#include "base/diag.h"

#include "test.h"

static struct where at(uint32_t document, uint32_t line, uint32_t column)
{
	return (struct where){ .file = STR("a.yaml"), .document = document, .line = line, .column = column };
}

/* The last diag as people see it. */
static const char *shown(const struct diags *d)
{
	static struct buf out;

	buf_clear(&out);
	diag_print(&out, &d->items[d->nr - 1], false);
	return out.data;
}

TEST(prints_place_source_caret_and_hint)
{
	struct diags d = { 0 };

	diags_source(&d, STR("one\n  subest: v1\nthree"), 1, 0);
	diag_add(&d, DIAG_ERROR, at(1, 2, 3), STR("spec.subest"), STR("did you mean `subset`?"), "unknown field `%s`",
		 "subest");
	CHECK_STR(shown(&d), "a.yaml:2:3: error: spec.subest: unknown field `subest`\n"
			     "    subest: v1\n"
			     "    ^\n"
			     "hint: did you mean `subset`?\n");
	diag_add(&d, DIAG_WARNING, at(1, 3, 1), STR(""), STR(""), "odd");
	CHECK_STR(shown(&d), "a.yaml:3:1: warning: odd\n  three\n  ^\n");
	diag_add(&d, DIAG_NOTE, at(1, 4, 1), STR("x"), STR(""), "no such line");
	CHECK_STR(shown(&d), "a.yaml:4:1: note: x: no such line\n");
	diag_add(&d, DIAG_ERROR, at(1, 0, 0), STR(""), STR(""), "whole document");
	CHECK_STR(shown(&d), "a.yaml: error: whole document\n");
	CHECK_INT(d.errors, 2);
	CHECK_INT(d.warnings, 1);
	diags_release(&d);
}

TEST(caret_counts_characters_and_keeps_tabs)
{
	struct diags d = { 0 };

	diags_source(&d, STR("\xc3\xa9\xc3\xa9: x\r\n\tname: y\n"), 10, 0);
	diag_add(&d, DIAG_ERROR, at(1, 10, 5), STR(""), STR(""), "m");
	CHECK_STR(shown(&d), "a.yaml:10:5: error: m\n  \xc3\xa9\xc3\xa9: x\n      ^\n");
	diag_add(&d, DIAG_ERROR, at(1, 11, 2), STR(""), STR(""), "m");
	CHECK_STR(shown(&d), "a.yaml:11:2: error: m\n  \tname: y\n  \t^\n");
	diag_add(&d, DIAG_ERROR, at(1, 11, 40), STR(""), STR(""), "behind the line");
	CHECK_STR(shown(&d), "a.yaml:11:40: error: behind the line\n  \tname: y\n"
			     "  \t                                      ^\n");
	diags_release(&d);
}

TEST(cut_columns_come_back)
{
	struct diags d = { 0 };

	/* An item of a List: its lines were moved left by four columns. */
	diags_source(&d, STR("kind: X\nspec: 1\n"), 7, 4);
	diag_add(&d, DIAG_ERROR, at(1, 8, 11), STR(""), STR(""), "m");
	CHECK_STR(shown(&d), "a.yaml:8:11: error: m\n      spec: 1\n            ^\n");
	diags_release(&d);
}

TEST(long_lines_are_cut_around_the_column)
{
	struct diags d = { 0 };
	char text[5000];

	memset(text, 'x', sizeof(text));
	memcpy(text + 3000, "HERE", 4);
	diags_source(&d, (struct str){ text, sizeof(text) }, 1, 0);
	diag_add(&d, DIAG_ERROR, at(1, 1, 3001), STR(""), STR(""), "m");
	CHECK(d.items[0].source.len <= 160);
	CHECK(!strncmp(d.items[0].source.p + d.items[0].caret - 1, "HERE", 4));
	/* The same in the middle of characters of two bytes. */
	for (size_t i = 0; i < sizeof(text); i += 2)
		memcpy(text + i, "\xc3\xa9", 2);
	for (uint32_t column = 1; column <= 2500; column += 311) {
		const struct diag *g;

		diag_add(&d, DIAG_ERROR, at(2, 1, column), STR(""), STR(""), "m");
		g = &d.items[d.nr - 1];
		CHECK(g->source.len <= 160 && g->source.len % 2 == 0);
		CHECK(!memcmp(g->source.p, "\xc3\xa9", 2));
		CHECK(g->caret >= 1 && g->caret <= g->source.len / 2);
	}
	diags_release(&d);
}

TEST(terminals_are_not_steered)
{
	struct diags d = { 0 };

	diags_source(&d,
		     STR("a: \033[2J\xc2\x9b"
			 "1m\x7f"),
		     1, 0);
	diag_add(&d, DIAG_ERROR, at(1, 1, 4), STR("a\033"), STR("h\n"), "m\r%s", "\xc3\xa9");
	CHECK_STR(shown(&d), "a.yaml:1:4: error: a?: m?\xc3\xa9\n  a: ?[2J?1m?\n     ^\nhint: h?\n");
	diags_release(&d);
}

TEST(keeps_twenty_a_document_and_counts_all)
{
	struct diags d = { 0 };
	struct where item = at(3, 1, 1);

	for (uint32_t document = 1; document <= 2; document++)
		for (int i = 0; i < 50; i++)
			diag_add(&d, DIAG_ERROR, at(document, 1, 1), STR(""), STR(""), "m");
	CHECK_INT(d.nr, 2 * DIAG_PER_DOCUMENT);
	CHECK_INT(d.errors, 100);
	CHECK_INT(diag_errors_in(&d, STR("a.yaml"), 1), 50);
	CHECK_INT(diag_errors_in(&d, STR("b.yaml"), 1), 0);
	for (item.item = 1; item.item <= 3; item.item++)
		for (int i = 0; i < 30; i++)
			diag_add(&d, DIAG_ERROR, item, STR(""), STR(""), "m");
	CHECK_INT(d.nr, 5 * DIAG_PER_DOCUMENT);
	CHECK_INT(diag_errors_in(&d, STR("a.yaml"), 3), 90);
	item.item = 2;
	CHECK_INT(diag_errors_at(&d, &item), 30);
	diags_release(&d);
	CHECK_INT(diag_errors_in(&d, STR("a.yaml"), 3), 0);
}

TEST(texts_are_copies)
{
	struct diags d = { 0 };
	char file[] = "f.yaml", field[] = "spec";

	diag_add(&d, DIAG_ERROR, (struct where){ .file = str_of(file), .document = 1 }, str_of(field), STR(""), "m");
	file[0] = field[0] = 'X';
	CHECK_STR(shown(&d), "f.yaml: error: spec: m\n");
	diags_release(&d);
}

TEST(many_documents)
{
	struct diags d = { 0 };

	for (uint32_t document = 1; document <= 20000; document++)
		diag_add(&d, DIAG_ERROR, at(document, document, 1), STR(""), STR(""), "m");
	CHECK_INT(d.nr, 20000);
	CHECK_INT(diag_errors_in(&d, STR("a.yaml"), 12345), 1);
	diags_release(&d);
}
