/* SPDX-License-Identifier: BSD-2-Clause */
/* user/config/yaml.c and scalar.c */
#include "config/yaml.h"

#include <errno.h>
#include <math.h>
#include <time.h>

#include "guard.h"
#include "test.h"

/* Everything one text gives: documents as compact text, one a line, "!" for a broken one, and the diags. */
struct outcome {
	struct buf documents;
	struct diags diags;
	uint32_t nr;
};

static void show(struct buf *out, const struct ynode *n)
{
	switch ((enum ynode_kind)n->kind) {
	case YNODE_NULL:
		buf_str(out, STR("null"));
		break;
	case YNODE_SCALAR:
		buf_printf(out, n->quoted ? "\"%.*s\"" : "%.*s", STR_ARG(n->scalar));
		break;
	case YNODE_SEQ:
		buf_str(out, STR("["));
		for (uint32_t i = 0; i < n->nr; i++) {
			buf_str(out, i ? STR(" ") : STR(""));
			show(out, n->items[i]);
		}
		buf_str(out, STR("]"));
		break;
	case YNODE_MAP:
		buf_str(out, STR("{"));
		for (uint32_t i = 0; i < n->nr; i++) {
			buf_str(out, i ? STR(" ") : STR(""));
			show(out, n->items[2 * i]);
			buf_str(out, STR(":"));
			show(out, n->items[2 * i + 1]);
		}
		buf_str(out, STR("}"));
		break;
	}
}

/* Adds up everything reachable, so that a sanitizer or a guard page sees each byte touched. */
static uint64_t touch(const struct ynode *n, struct str text)
{
	uint64_t sum = n->line + n->column;

	if (n->begin > n->end || n->end > text.len)
		abort();
	if (n->kind == YNODE_SCALAR)
		return sum + str_hash(n->scalar) + (uint64_t)ynode_type(n);
	for (uint32_t i = 0; n->kind >= YNODE_SEQ && i < n->nr * (n->kind == YNODE_MAP ? 2 : 1); i++)
		sum += touch(n->items[i], text);
	return sum;
}

static struct outcome read_text(struct str text)
{
	struct yaml *y = yaml_open(STR("t"), text);
	struct outcome o = { 0 };
	struct arena a = { 0 };
	struct ynode *root;
	struct str slice;
	uint32_t document;
	int rc;

	while ((rc = yaml_next(y, &a, &o.diags, &root, &document, &slice))) {
		if (document != ++o.nr)
			abort();
		if (rc == 1 && root) {
			touch(root, text);
			show(&o.documents, root);
			if (slice.p < text.p || slice.p + slice.len > text.p + text.len)
				abort();
		} else {
			buf_str(&o.documents, rc == 1 ? STR("-") : STR("!"));
		}
		buf_str(&o.documents, STR("\n"));
		arena_clear(&a);
	}
	yaml_close(y);
	arena_release(&a);
	return o;
}

static void outcome_release(struct outcome *o)
{
	buf_release(&o->documents);
	diags_release(&o->diags);
}

static void check_documents(const char *text, const char *want)
{
	struct outcome o = read_text(str_of(text));

	CHECK_STR(o.documents.data ? o.documents.data : "", want);
	outcome_release(&o);
}

/* The first error of a text as "line:column: message". */
static void check_error_of(struct str text, const char *want)
{
	struct outcome o = read_text(text);
	char got[512] = "none";

	if (o.diags.nr)
		snprintf(got, sizeof(got), "%u:%u: %.*s", o.diags.items[0].at.line, o.diags.items[0].at.column,
			 STR_ARG(o.diags.items[0].message));
	CHECK_STR(got, want);
	outcome_release(&o);
}

static void check_error(const char *text, const char *want)
{
	check_error_of(str_of(text), want);
}

TEST(reads_collections_and_scalars)
{
	check_documents("a: 1\nb: [x, 'y', \"z\"]\nc:\n- d: |\n    hi\n- ~\n",
			"{a:1 b:[x \"y\" \"z\"] c:[{d:\"hi\n\"} null]}\n");
	check_documents("{\"a\":{\"b\":[1,true,null]},\"c\":\"d\"}", "{\"a\":{\"b\":[1 true null]} \"c\":\"d\"}\n");
	check_documents("a: >-\n  x\n  y\n", "{a:\"x y\"}\n");
	check_documents("a: \"x\\ty\\u00e9\"", "{a:\"x\ty\xc3\xa9\"}\n");
	check_documents("a:\nb: \"\"\nc: ''", "{a:null b:\"\" c:\"\"}\n");
	check_documents("plain", "plain\n");
	check_documents("", "");
	check_documents("# nothing\n\n", "");
}

TEST(cuts_documents)
{
	check_documents("a: 1\n---\nb: 2\n", "{a:1}\n{b:2}\n");
	check_documents("---\na: 1\n---\n---\nb: 2\n---\n", "{a:1}\n-\n{b:2}\n-\n");
	check_documents("# head\n---\na: 1\n...\n# tail\n", "{a:1}\n");
	check_documents("%YAML 1.1\n---\na: 1\n...\n%YAML 1.1\n---\nb: 2\n", "{a:1}\n{b:2}\n");
	check_documents("--- {a: 1}\n--- # c\nb: 2\n", "{a:1}\n{b:2}\n");
	check_documents("a: |\n  ---\n  x\nb: '--- y'\n", "{a:\"---\nx\n\" b:\"--- y\"}\n");
	check_documents("\xef\xbb\xbf"
			"a: 1\n",
			"{a:1}\n");
	check_documents("a: 1\r\n---\r\nb: 2\r\n", "{a:1}\n{b:2}\n");
	check_documents("a: ---x\n---x: 1\n", "{a:---x ---x:1}\n");
}

TEST(a_broken_document_costs_only_itself)
{
	check_documents("a: 1\n---\nb: [\n---\nc: 3\n", "{a:1}\n!\n{c:3}\n");
	check_documents("a: \"x\n---\nb: 2\n", "!\n{b:2}\n");
	check_documents("a: 1\n---\nb: \xff\n---\nc: 3\n", "{a:1}\n!\n{c:3}\n");
	check_documents("a: \x01\n---\nb: 2\n", "!\n{b:2}\n");
	check_documents("}\n---\n]\n---\n\t\n---\n: :\n---\nok: 1\n", "!\n!\n!\n!\n{ok:1}\n");
	check_documents("a: !x 1\n---\nb: 2\n", "!\n{b:2}\n");
	check_documents("[a]\n[b]\n---\nb: 2\n", "!\n{b:2}\n");
}

TEST(places_count_lines_and_characters)
{
	static const char text[] = "---\n# c\n\n\xc3\xa9\xc3\xa9: {x: y}\n  # z\nk:\n- v\n";
	struct yaml *y = yaml_open(STR("t"), str_of(text));
	struct arena a = { 0 };
	struct diags d = { 0 };
	struct ynode *root;
	struct str slice;
	uint32_t document;

	CHECK_INT(yaml_next(y, &a, &d, &root, &document, &slice), 1);
	CHECK_INT(root->line, 4);
	CHECK_INT(root->column, 1);
	CHECK_INT(root->items[1]->column, 5);
	CHECK_INT(root->items[1]->items[1]->column, 9);
	CHECK(!memcmp(text + root->items[1]->items[1]->begin, "y", 1));
	CHECK_INT(root->items[1]->end - root->items[1]->begin, 6);
	CHECK_INT(root->items[3]->items[0]->line, 7);
	CHECK_INT(root->items[3]->items[0]->column, 3);
	CHECK(str_is(slice, "\xc3\xa9\xc3\xa9: {x: y}\n  # z\nk:\n- v\n"));
	CHECK(ynode_get(root, "k") == root->items[3]);
	CHECK(!ynode_get(root, "v") && !ynode_get(NULL, "k") && !ynode_get(root->items[3], "v"));
	yaml_close(y);
	arena_release(&a);
	diags_release(&d);
}

TEST(refuses_by_name_with_a_place)
{
	check_error("a: !!str 1", "1:4: tags are not accepted: `!!str`");
	check_error("a: !local {b: c}", "1:4: tags are not accepted: `!local`");
	check_error("%TAG ! tag:x,2000:\n---\na: b", "1:1: tags are not accepted: %TAG directive");
	check_error("a: 1\nb: 2\na: 3", "3:1: duplicate key `a`, first given in line 1");
	check_error("a: 1\n\"a\": 3", "2:1: duplicate key `a`, first given in line 1");
	check_error("{a: {k: 1, k: 2}}", "1:12: duplicate key `k`, first given in line 1");
	check_error("yes: 1", "1:1: key `yes` is a boolean in YAML, not a string");
	check_error("~: 1", "1:1: key `~` is null in YAML, not a string");
	check_error("1.10: 1", "1:1: key `1.10` is a number in YAML, not a string");
	check_error("010: 1", "1:1: key `010` is a number in YAML, not a string");
	check_error("[a]: 1", "1:1: a key must be a string, this is a list");
	check_error("? {a: b}\n: 1", "1:3: a key must be a string, this is an object");
	check_error("a: [", "1:4: did not find expected node content while parsing a flow node");
	check_error("a: \"x", "1:4: found unexpected end of stream while scanning a quoted scalar");
	check_error("a: b: c", "1:5: mapping values are not allowed in this context");
	check_error("a:\n\t- x", "2:1: found character that cannot start any token");
	check_error("a: b\nc: \x02", "2:4: control characters are not allowed");
	check_error("x\n---\na: \xc3\x28", "3:5: invalid trailing UTF-8 octet");
	check_documents("8080: a\n\"yes\": b\ntrue: c\n", "{8080:a \"yes\":b true:c}\n");
}

TEST(objects_may_follow_each_other)
{
	check_documents("{\"a\": 1}\n{\"b\": {\"c\": \"}\\\"{\"}}\n\n  {\n\"d\": []\n}\n",
			"{\"a\":1}\n{\"b\":{\"c\":\"}\"{\"}}\n{\"d\":[]}\n");
	check_documents("---\n{a: 1}\n{b: 2}\n---\nc: {d: e}\nf: g\n", "{a:1}\n{b:2}\n{c:{d:e} f:g}\n");
	check_documents("# x\n{a: b}\n# y\n", "{a:b}\n");
	check_documents("{a: [}\n{b: 2}\n", "!\n{b:2}\n");
	check_error("{\"a\": 1}\n{\"b\": [\n", "2:7: did not find expected node content while parsing a flow node");
	check_error("{a: 1} {b: 2}\n", "1:8: did not find expected <document start>");
	check_error("{a: 1\n", "1:1: did not find expected ',' or '}' while parsing a flow mapping");
}

TEST(aliases_stand_for_their_anchors)
{
	check_documents("a: &x 1\nb: *x\nc: [*x, &x y, *x]\n", "{a:1 b:1 c:[1 y y]}\n");
	check_documents("a: &x {k: [v]}\nb: *x\n", "{a:{k:[v]} b:{k:[v]}}\n");
	check_documents("a: &x \"1\"\n*x : b\n", "{a:\"1\" \"1\":b}\n");
	check_documents("&k a: &v\nb: *v\nc: *k\n", "{a:null b:null c:a}\n");
	check_documents("a: &x\n  - b\nc:\n- d: *x\n  e: *x\n# f\n", "{a:[b] c:[{d:[b] e:[b]}]}\n");
	check_error("a: b\nc:\n  d: [*x]", "3:7: unknown anchor: `*x`");
	check_error("a: &x 1\n---\nb: *x", "3:4: unknown anchor: `*x`");
	check_error("a: &x\n  b: [*x]", "2:7: `*x` would be a part of itself");
	check_error("a: &x {b: c}\n*x : d", "2:1: a key must be a string, this is an object");
	check_error("a: &x k\n*x : d\nk: e", "3:1: duplicate key `k`, first given in line 1");
}

TEST(merge_keys_add_what_is_not_there)
{
	check_documents("a: &x {b: c, d: e}\nf:\n  <<: *x\n  d: g\n", "{a:{b:c d:e} f:{d:g b:c}}\n");
	check_documents("f: {<<: [{b: 1}, {b: 2, c: 3}], d: 4}\n", "{f:{d:4 b:1 c:3}}\n");
	check_documents("f: {\"<<\": {b: c}}\n", "{f:{\"<<\":{b:c}}}\n");
	check_documents("f: {<<: []}\ng: {<<: {}}\n", "{f:{} g:{}}\n");
	check_error("f:\n  <<: b", "2:3: `<<` wants an object or a list of objects");
	check_error("f:\n  <<: [{a: b}, c]", "2:3: `<<` wants an object or a list of objects");
	check_error("f: {<<: {a: b}, <<: {c: d}}", "1:17: duplicate key `<<`, first given in line 1");
}

/* Nine lines of nine aliases each would be 387 million values. */
TEST(aliases_do_not_explode)
{
	struct buf text = { 0 }, fields = { 0 };
	struct outcome o;

	buf_printf(&text, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
	for (int i = 1; i < 9; i++)
		buf_printf(&text, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1,
			   i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	o = read_text((struct str){ text.data, (uint32_t)text.len });
	CHECK(o.diags.errors && str_is(o.diags.items[0].message, "aliases stand for more than 100000 values"));
	outcome_release(&o);
	buf_clear(&text);
	buf_printf(&text, "a0: &a0 []\n");
	for (int i = 1; i < 70; i++)
		buf_printf(&text, "a%d: &a%d [*a%d]\n", i, i, i - 1);
	o = read_text((struct str){ text.data, (uint32_t)text.len });
	CHECK(o.diags.errors && str_is(o.diags.items[0].message, "nested deeper than 64 levels"));
	outcome_release(&o);
	buf_clear(&text);
	for (int i = 0; i < 300; i++)
		buf_printf(&text, "- &a%d x\n", i);
	check_error_of((struct str){ text.data, (uint32_t)text.len }, "257:3: the document has more than 256 anchors");
	buf_clear(&text);
	for (int i = 0; i < 3000; i++)
		buf_printf(&fields, "%sk%d: v", i ? ", " : "", i);
	buf_printf(&text, "a: {<<: {%s}}\n", fields.data);
	check_error_of((struct str){ text.data, (uint32_t)text.len }, "1:5: too many fields to merge");
	buf_release(&text);
	buf_release(&fields);
}

TEST(many_duplicates_are_found_in_large_maps)
{
	struct buf text = { 0 };
	struct outcome o;

	for (int i = 0; i < 5000; i++)
		buf_printf(&text, "key%d: x\n", i);
	buf_printf(&text, "key4321: y\nkey7: z\n");
	o = read_text((struct str){ text.data, (uint32_t)text.len });
	CHECK_INT(o.diags.errors, 2);
	CHECK(str_is(o.diags.items[0].message, "duplicate key `key4321`, first given in line 4322"));
	outcome_release(&o);
	buf_release(&text);
}

TEST(colons_may_end_plain_scalars_in_brackets)
{
	check_documents("a: [1.2.3.4, 001:db8::]\n", "{a:[1.2.3.4 001:db8::]}\n");
	check_documents("a: [2001:db8::, f::, x]\nb: {c: [1::]}\n", "{a:[2001:db8:: f:: x] b:{c:[1::]}}\n");
	check_documents("a: [\"q:]\", 1::]\n", "{a:[\"q:]\" 1::]}\n");
	check_error("a: [1::, \"\\t:]\"]\nb: {c", "2:4: did not find expected ',' or '}' while parsing a flow mapping");
}

TEST(depth_is_bounded)
{
	struct buf text = { 0 };
	struct outcome o;

	for (int i = 0; i < YAML_DEPTH_MAX; i++)
		buf_printf(&text, "[");
	for (int i = 0; i < YAML_DEPTH_MAX; i++)
		buf_printf(&text, "]");
	o = read_text((struct str){ text.data, (uint32_t)text.len });
	CHECK_INT(o.diags.errors, 0);
	outcome_release(&o);
	buf_clear(&text);
	for (int i = 0; i < 100000; i++)
		buf_printf(&text, "[");
	o = read_text((struct str){ text.data, (uint32_t)text.len });
	CHECK_INT(o.diags.errors, 1);
	CHECK(str_is(o.diags.items[0].message, "nested deeper than 64 levels"));
	outcome_release(&o);
	buf_release(&text);
}

static enum ytype type_of(const char *text)
{
	return yscalar_type(str_of(text));
}

TEST(types_are_those_of_the_api_server)
{
	static const char *const strings[] = {
		"a",	 "yess",  "1a",	 "1.2.3", "v1",	 "0x",	       "0xg",
		"1e",	 "e1",	  "-",	 "+",	  ".",	 "2026-01-31", "2026-01-31T00:00:00Z",
		"10:30", "1,000", "- 1", "<<",	  "nul", ".infx",      "-x",
		"0b2",	 "10s",	  "1_a"
	};
	static const char *const bools[] = { "true", "True", "TRUE", "false", "y",  "Y",
					     "n",    "N",    "yes",  "No",    "on", "OFF" };
	static const char *const ints[] = {
		"0", "1", "-1", "+1", "0x1F", "0o17", "017", "0b101", "1_000", "-0x10", "18446744073709551616"
	};
	static const char *const floats[] = {
		"1.5", "1.", ".5", "-.5", "1e3", "1.5E-3", "08", ".inf", "-.Inf", ".nan"
	};
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };

	for (size_t i = 0; i < sizeof(strings) / sizeof(*strings); i++)
		CHECK_MSG(type_of(strings[i]) == YTYPE_STR, "%s", strings[i]);
	for (size_t i = 0; i < sizeof(bools) / sizeof(*bools); i++)
		CHECK_MSG(type_of(bools[i]) == YTYPE_BOOL, "%s", bools[i]);
	for (size_t i = 0; i < sizeof(ints) / sizeof(*ints); i++)
		CHECK_MSG(type_of(ints[i]) == YTYPE_INT, "%s", ints[i]);
	for (size_t i = 0; i < sizeof(floats) / sizeof(*floats); i++)
		CHECK_MSG(type_of(floats[i]) == YTYPE_FLOAT, "%s", floats[i]);
	for (size_t i = 0; i < sizeof(nulls) / sizeof(*nulls); i++)
		CHECK_MSG(type_of(nulls[i]) == YTYPE_NULL, "%s", nulls[i]);
}

static struct ynode plain(const char *text)
{
	return (struct ynode){ .kind = YNODE_SCALAR, .scalar = str_of(text) };
}

static long long int_of(const char *text)
{
	struct ynode n = plain(text);
	int64_t v;

	return ynode_int(&n, &v) ? v : -999;
}

TEST(values_of_plain_scalars)
{
	struct ynode n = plain("yes");
	double d;
	bool b;

	CHECK_INT(int_of("80"), 80);
	CHECK_INT(int_of("0x1F"), 31);
	CHECK_INT(int_of("017"), 15);
	CHECK_INT(int_of("0b101"), 5);
	CHECK_INT(int_of("1_000"), 1000);
	CHECK_INT(int_of("-5"), -5);
	CHECK_INT(int_of("8e1"), 80);
	CHECK_INT(int_of("80.0"), 80);
	CHECK_INT(int_of("80.5"), -999);
	CHECK_INT(int_of(".inf"), -999);
	CHECK_INT(int_of(".nan"), -999);
	CHECK_INT(int_of("1e300"), -999);
	CHECK_INT(int_of("9223372036854775807"), INT64_MAX);
	CHECK_INT(int_of("9223372036854775808"), -999);
	CHECK_INT(int_of("-9223372036854775808"), INT64_MIN);
	CHECK_INT(int_of("-9223372036854775809"), -999);
	CHECK_INT(int_of("x"), -999);
	CHECK(ynode_bool(&n, &b) && b);
	n = plain("off");
	CHECK(ynode_bool(&n, &b) && !b);
	n.quoted = true;
	CHECK(!ynode_bool(&n, &b) && ynode_is_string(&n));
	n = plain("1.5e2");
	CHECK(ynode_double(&n, &d) && d == 150);
	n = plain("-.inf");
	CHECK(ynode_double(&n, &d) && isinf(d) && d < 0);
	n = plain(".NaN");
	CHECK(ynode_double(&n, &d) && isnan(d));
	n = plain("18446744073709551616");
	CHECK(ynode_double(&n, &d) && d > 1.8e19);
}

static const char everything[] =
	"%YAML 1.1\n---\n# c\na: {b: [1, \"\\u00e9\\n\", 'it''s'], c: !x y, 1::: z}\n"
	"\xc3\xa9: &k >+\n  folded\n\n  text\n\n? - complex\n: *k\n<<: [::, a::]\n...\n--- |\n lit\n"
	"---\n{\"j\": [true, null, -1.5e3], \"j\": {}}\r\n--- # e\n\t\n";

TEST(reads_no_byte_too_many)
{
	struct guard g = guard_new(sizeof(everything));
	uint32_t documents = 0;

	for (uint32_t len = 0; len < sizeof(everything); len++) {
		struct outcome o = read_text(guard_end(&g, everything, len));

		documents += o.nr;
		outcome_release(&o);
		o = read_text(guard_begin(&g, everything, len));
		outcome_release(&o);
		o = read_text(guard_end(&g, everything + len, sizeof(everything) - 1 - len));
		outcome_release(&o);
	}
	CHECK(documents > 100);
	guard_free(&g);
}

/* Each byte of the text replaced by each that means something to YAML. */
TEST(survives_every_byte_replaced)
{
	static const char bytes[] = "\t\n -:#&*!|>'\"%@`{}[],?<\\x0\x80\xff\xc3";
	char text[sizeof(everything)];
	uint32_t errors = 0;

	for (size_t i = 0; i < sizeof(everything) - 1; i++)
		for (size_t k = 0; k < sizeof(bytes); k++) {
			struct outcome o;

			memcpy(text, everything, sizeof(text));
			text[i] = bytes[k];
			o = read_text((struct str){ text, sizeof(text) - 1 });
			errors += o.diags.errors;
			outcome_release(&o);
		}
	CHECK(errors > 1000);
}

static double seconds_for(const char *unit, uint32_t repeat)
{
	struct timespec from, to;
	struct buf text = { 0 };
	struct outcome o;

	for (uint32_t i = 0; i < repeat; i++)
		buf_str(&text, str_of(unit));
	clock_gettime(CLOCK_MONOTONIC, &from);
	o = read_text((struct str){ text.data, (uint32_t)text.len });
	clock_gettime(CLOCK_MONOTONIC, &to);
	outcome_release(&o);
	buf_release(&text);
	return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
}

/* What would cost the square of its length somewhere: ten times the text must not take much more than ten times as long. */
TEST(cost_grows_with_the_text)
{
	static const char *const units[] = {
		"a: [\n---\n", "{a: b}, ",   "- [a::]\n",  "\"a\": ", "a: [1::, 2::]\n---\n",
		"&a ",	       "--- \xff\n", "k: |\n x\n", "[a, ",    "\xc3\xa9: \xc3\xa9\n---\n"
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
		double small = seconds_for(units[i], 3000), large = seconds_for(units[i], 30000);

		CHECK_MSG(large < small * 40 + 0.5, "unit %zu: %.3f s, then %.3f s", i, small, large);
	}
}
