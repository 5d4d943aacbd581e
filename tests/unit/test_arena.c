/* SPDX-License-Identifier: BSD-2-Clause */
/* user/base/arena.c */
#include "base/arena.h"

#include "test.h"

static bool is_zero(const unsigned char *p, size_t len)
{
	while (len--)
		if (*p++)
			return false;
	return true;
}

TEST(objects_are_zero_aligned_and_apart)
{
	struct arena a = { 0 };
	unsigned char *last = NULL;
	size_t last_size = 0;
	bool fine = true;

	for (size_t size = 1; size < 3000; size += 7) {
		unsigned char *p = arena_alloc(&a, size);

		fine &= (uintptr_t)p % 8 == 0 && is_zero(p, size);
		fine &= !last || last + last_size <= p || p + size <= last;
		memset(p, 0xaa, size);
		last = p;
		last_size = size;
		fine &= arena_str(&a, STR("odd")).len == 3;
	}
	CHECK(fine);
	arena_release(&a);
}

TEST(text_is_copied_and_ended)
{
	struct arena a = { 0 };
	char text[] = "reviews";
	struct str s = arena_str(&a, str_of(text));

	text[0] = 'x';
	CHECK_STR(s.p, "reviews");
	CHECK_INT(s.len, 7);
	s = arena_str(&a, (struct str){ 0 });
	CHECK_STR(s.p, "");
	s = arena_printf(&a, "%s/%d", "ns", 42);
	CHECK_STR(s.p, "ns/42");
	CHECK_INT(s.len, 5);
	s = arena_printf(&a, "%05000d", 1);
	CHECK_INT(s.len, 5000);
	CHECK_INT(strlen(s.p), 5000);
	arena_release(&a);
}

TEST(cleared_memory_is_zero_again)
{
	struct arena a = { 0 };
	size_t size;
	bool zero = true;

	arena_clear(&a);
	for (int i = 0; i < 100; i++)
		memset(arena_alloc(&a, 1000), 0xff, 1000);
	arena_clear(&a);
	size = arena_size(&a);
	CHECK(size >= 1000);
	for (int i = 0; i < 200; i++)
		zero &= is_zero(arena_alloc(&a, 1000), 1000);
	CHECK(zero);
	arena_release(&a);
	CHECK_INT(arena_size(&a), 0);
}

TEST(small_documents_stay_small)
{
	struct arena a = { 0 };

	arena_alloc(&a, 16);
	CHECK(arena_size(&a) <= 512);
	arena_release(&a);
	arena_reserve(&a, 2000);
	arena_alloc(&a, 1000);
	arena_alloc(&a, 1000);
	CHECK(arena_size(&a) < 2100);
	arena_release(&a);
}

TEST(growth_wastes_less_than_half)
{
	struct arena a = { 0 };

	for (int i = 0; i < 100000; i++)
		arena_alloc(&a, 24);
	CHECK(arena_size(&a) < 2 * 2400000);
	arena_release(&a);
}

TEST(arrays_of_nothing)
{
	struct arena a = { 0 };

	CHECK(arena_array(&a, 0, 8) != NULL);
	CHECK(arena_array(&a, 3, 0) != NULL);
	arena_release(&a);
}
