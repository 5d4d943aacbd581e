/* SPDX-License-Identifier: BSD-2-Clause */
/* Regular expressions: what matches, what is replaced, what is refused, and that no expression makes a text take long. */
#include "test.h"

#include <time.h>

#include "base/regex.h"

struct row {
	const char *pattern, *yes, *no; /* texts, one after the other with a blank between; "" is no text */
};

static const struct row rows[] = {
	{ "/a", "/a", "/ab x/a /A" },
	{ "[^a]", "b A", "a" },
	{ "/api/v[0-9]+/.*", "/api/v1/ /api/v22/x/y", "/api/v/ /api/v1" },
	{ "a|b|", "a b", "ab c" },
	{ "(a|ab)(c|bcd)(d*)", "abcd acd abc", "ab abcdd!" },
	{ "(?:ab)*", "ab abab", "a aba" },
	{ "a*?b", "b aab", "a ba" },
	{ "a{2}", "aa", "a aaa" },
	{ "a{2,}", "aa aaaa", "a" },
	{ "a{1,3}", "a aa aaa", "aaaa" },
	{ "(ab){0,2}c", "c abc ababc", "abababc" },
	{ "a{,3}", "a{,3}", "a aa" },
	{ "a{x", "a{x", "a" },
	{ "x{0}y", "y", "xy" },
	{ "^a$", "a", "ab" },
	{ "(^a|b$)+", "a ab", "ba ac" },
	{ "\\Aa\\z", "a", "b" },
	{ "a\\b.*", "a a-b", "ab" },
	{ "a\\B.+", "ab", "a-b" },
	{ "\\d+\\w\\S", "12a- 1__", "a1- 12" },
	{ "\\D\\W", "a- --", "1- aa" },
	{ "[\\d.]+", "1.2", "1a" },
	{ "[[:alpha:]_][[:^digit:]]", "a_ _-", "1a a1" },
	{ "[]a]+", "]a a", "b" },
	{ "[^]a]", "b", "] a" },
	{ "[a-]+", "a-a", "b" },
	{ "[\\x41-\\x{43}]", "A C", "D" },
	{ "\\x2fa\\.b", "/a.b", "/axb" },
	{ "\\Qa.b*\\E.", "a.b*c", "axb*c" },
	{ "\\101", "A", "B" },
	{ "(?i)ab", "AB ab", "ac" },
	{ "(?i:a)b", "Ab ab", "AB" },
	{ "a(?i)b|c", "aB C", "AB" },
	{ "(?P<name>a)(?<n2>b)", "ab", "a" },
	{ "(?s).", "a \n", "ab" },
	{ ".", "a", "\n" },
	{ "(?U)a+", "a aa", "b" },
	{ "((a*)*)*", "a aaa", "ab" },
	{ "(a*)+", "a aaa", "b" },
	{ "(|a)+", "a aaa", "b" },
	{ "\\/\\-\\_", "/-_", "/-" },
};

static void each(const struct regex *re, const struct row *r, const char *list, bool want)
{
	char text[64];

	while (*list) {
		size_t len = strcspn(list, " ");

		snprintf(text, sizeof(text), "%.*s", (int)len, list);
		CHECK_MSG(regex_matches(re, str_of(text)) == want, "\"%s\" and \"%s\"", r->pattern, text);
		list += len;
		list += *list == ' ';
	}
}

TEST(matches)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct buf err = { 0 };
		struct regex *re = regex_new(str_of(rows[i].pattern), false, &err);

		CHECK_MSG(re, "\"%s\" %s", rows[i].pattern, err.data);
		if (re) {
			each(re, &rows[i], rows[i].yes, true);
			each(re, &rows[i], rows[i].no, false);
		}
		regex_free(re);
		buf_release(&err);
	}
}

TEST(case_ignored)
{
	struct buf err = { 0 };
	struct regex *re = regex_new(STR("/A[b-d]"), true, &err), *negated = regex_new(STR("[^a]"), true, &err);

	CHECK(regex_matches(re, STR("/ab")) && regex_matches(re, STR("/AD")) && !regex_matches(re, STR("/ae")));
	CHECK(regex_matches(negated, STR("b")) && !regex_matches(negated, STR("a")) &&
	      !regex_matches(negated, STR("A")));
	regex_free(re);
	regex_free(negated);
}

TEST(nothing_matches_nothing)
{
	static const char *const empty[] = { "", "a*", "a?", "(a|)", "^$", "()" };
	struct buf err = { 0 };

	for (size_t i = 0; i < sizeof(empty) / sizeof(*empty); i++) {
		struct regex *re = regex_new(str_of(empty[i]), false, &err);

		CHECK_MSG(re && regex_matches(re, STR("")), "%s", empty[i]);
		CHECK_MSG(re && !regex_matches(re, STR("b")), "%s", empty[i]);
		regex_free(re);
	}
	buf_release(&err);
}

TEST(refused)
{
	static const char *const bad[] = {
		"(",
		")",
		"a)",
		"[",
		"[a",
		"[]",
		"a**",
		"a+*",
		"*a",
		"a|*",
		"(?=a)",
		"(?!a)",
		"(?<=a)",
		"(?<!a)",
		"(?>a)",
		"(a)\\1",
		"\\",
		"\\k<a>",
		"\\p{L}",
		"\\C",
		"a{1001}",
		"a{3,2}",
		"[b-a]",
		"\\x{80}",
		"\\x1",
		"\xc3\xa4",
		"(?R)",
		"(?P=n)",
		"(?#c)",
		"a++",
		"(*UTF8)",
		"a{2}{3}",
		"(?a)",
		"\\Z",
		"\\G",
		"(?P<>a)",
		"(?P<a-b>c)",
		"[\\1]",
		"(?i",
		"\\8",
		"(((a{100}){100}){100})",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct buf err = { 0 };
		struct regex *re = regex_new(str_of(bad[i]), false, &err);

		CHECK_MSG(!re && err.len, "\"%s\"", bad[i]);
		regex_free(re);
		buf_release(&err);
	}
}

TEST(replaced)
{
	static const struct {
		const char *pattern, *text, *with, *want;
	} rows_[] = {
		{ "/v[0-9]+", "/v1/a/v22", "/w", "/w/a/w" },
		{ "^/service/([^/]+)(/.*)$", "/service/foo/v1/api", "\\2/instance/\\1", "/v1/api/instance/foo" },
		{ "one", "/xxx/one/yyy/one/zzz", "two", "/xxx/two/yyy/two/zzz" },
		{ "^(.*?)one(.*)$", "/xxx/one/yyy/one/zzz", "\\1two\\2", "/xxx/two/yyy/one/zzz" },
		{ "(?i)/xxx/", "/aaa/XxX/bbb", "/yyy/", "/aaa/yyy/bbb" },
		{ "b*", "abc", "-", "-a-c-" },
		{ "(a)|b", "ab", "[\\1]", "[a][]" },
		{ "(a+)(b?)", "aab", "\\2\\1", "baa" },
		{ "(a|ab)(c|bcd)", "abcd", "<\\1,\\2>", "<a,bcd>" },
		{ "a+?", "aa", "x", "xx" },
		{ "/", "/a/", "\\\\\\0", "\\/a\\/" },
		{ "x", "abc", "y", "abc" },
		{ "$", "/a", "/end", "/a/end" },
	};

	for (size_t i = 0; i < sizeof(rows_) / sizeof(*rows_); i++) {
		struct buf err = { 0 }, out = { 0 };
		struct regex *re = regex_new(str_of(rows_[i].pattern), false, &err);

		CHECK_MSG(re && regex_replacement_ok(re, str_of(rows_[i].with), &err), "%s: %s", rows_[i].pattern,
			  err.data);
		if (re)
			regex_replace(re, str_of(rows_[i].text), str_of(rows_[i].with), &out);
		CHECK_STR(out.data ? out.data : "", rows_[i].want);
		regex_free(re);
		buf_release(&err);
		buf_release(&out);
	}
}

TEST(replacements)
{
	struct buf err = { 0 };
	struct regex *re = regex_new(STR("(a)(?:b)(c)"), false, &err);

	CHECK_INT(regex_groups(re), 2);
	CHECK(regex_replacement_ok(re, STR("\\0\\1\\2\\\\"), &err) && !err.len);
	CHECK(!regex_replacement_ok(re, STR("\\3"), &err) && err.len);
	CHECK(!regex_replacement_ok(re, STR("\\x"), &err));
	CHECK(!regex_replacement_ok(re, STR("\\"), &err));
	regex_free(re);
	buf_release(&err);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* What a machine that comes back would take years for. */
TEST(no_text_takes_long)
{
	static const char *const evil[] = { "(a+)+b",	  "(a|a)*b",	     "(a|aa)+b",
					    "(.*a){12}b", "(a?){200}a{200}", "(a*)*(a*)*b" };
	static char text[8000];
	double begin = seconds();

	memset(text, 'a', sizeof(text));
	for (size_t i = 0; i < sizeof(evil) / sizeof(*evil); i++) {
		struct buf err = { 0 }, out = { 0 };
		struct regex *re = regex_new(str_of(evil[i]), false, &err);

		CHECK_MSG(re, "%s", evil[i]);
		CHECK(!regex_matches(re, (struct str){ text, sizeof(text) }));
		regex_replace(re, (struct str){ text, 400 }, STR("x"), &out);
		regex_free(re);
		buf_release(&err);
		buf_release(&out);
	}
	CHECK_MSG(seconds() - begin < 5, "%.1f s", seconds() - begin);
}
