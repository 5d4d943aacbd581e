/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Unit test harness. A test is TEST(name) { ... CHECK(...) ... }; main() is here, so each test_*.c is a program. Prints a line for
 * each failed check, skips with a reason, and closes with `N passed, N failed[, N skipped]`. A test without a check fails.
 */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*test_fn)(void);

static struct test_entry {
	const char *name;
	test_fn fn;
} test_entries[512];
static unsigned int test_nr, test_checks, test_bad;
static const char *test_skip_reason;

static void __attribute__((unused)) test_register(const char *name, test_fn fn)
{
	if (test_nr == sizeof(test_entries) / sizeof(*test_entries))
		abort();
	test_entries[test_nr++] = (struct test_entry){ name, fn };
}

#define TEST(name)                                                       \
	static void test__##name(void);                                  \
	static void __attribute__((constructor)) test_ctor__##name(void) \
	{                                                                \
		test_register(#name, test__##name);                      \
	}                                                                \
	static void test__##name(void)

#define CHECK_MSG(cond, ...)                                                       \
	do {                                                                       \
		test_checks++;                                                     \
		if (!(cond)) {                                                     \
			test_bad++;                                                \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                              \
			fputc('\n', stderr);                                       \
		}                                                                  \
	} while (0)
#define CHECK(cond) CHECK_MSG(cond, "failed")
#define CHECK_INT(got, want)                                                  \
	do {                                                                  \
		long long got_ = (long long)(got), want_ = (long long)(want); \
		CHECK_MSG(got_ == want_, "got %lld, want %lld", got_, want_); \
	} while (0)
#define CHECK_STR(got, want)                                                             \
	do {                                                                             \
		const char *got_ = (got), *want_ = (want);                               \
		CHECK_MSG(!strcmp(got_, want_), "got \"%s\", want \"%s\"", got_, want_); \
	} while (0)
#define SKIP(reason)                         \
	do {                                 \
		test_skip_reason = (reason); \
		return;                      \
	} while (0)

int main(int argc, char **argv)
{
	unsigned int passed = 0, failed = 0, skipped = 0;

	for (unsigned int i = 0; i < test_nr; i++) {
		if (argc > 1 && !strstr(test_entries[i].name, argv[1]))
			continue;
		test_checks = test_bad = 0;
		test_skip_reason = NULL;
		test_entries[i].fn();
		if (test_skip_reason) {
			printf("skip %s: %s\n", test_entries[i].name, test_skip_reason);
			skipped++;
		} else if (test_bad || !test_checks) {
			printf("FAIL %s%s\n", test_entries[i].name, test_checks ? "" : ": no check ran");
			failed++;
		} else {
			passed++;
		}
	}
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}

#endif
