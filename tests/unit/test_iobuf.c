/* SPDX-License-Identifier: BSD-2-Clause */
#include "l7/iobuf.h"

#include "test.h"

TEST(bytes_stay_in_order_through_all_sizes)
{
	struct iobuf_pool pool = { 0 };
	struct iobuf *b = NULL;
	uint32_t written = 0, read = 0;
	unsigned char piece[997];

	for (int step = 0; step < 2000; step++) {
		uint32_t len = 1 + (uint32_t)step % sizeof(piece), take = (uint32_t)(step * 7) % (len + 400);

		for (uint32_t i = 0; i < len; i++)
			piece[i] = (unsigned char)((written + i) % 251);
		iobuf_add(&pool, &b, piece, len);
		written += len;
		take = take < iobuf_len(b) ? take : iobuf_len(b);
		for (uint32_t i = 0; i < take; i++)
			CHECK_INT((unsigned char)b->data[b->at + i], (read + i) % 251);
		iobuf_consume(&pool, &b, take);
		read += take;
		CHECK_INT(iobuf_len(b), written - read);
	}
	CHECK(b && iobuf_len(b) > IOBUF_LARGE_CAP);
	iobuf_consume(&pool, &b, iobuf_len(b));
	CHECK(!b);
	iobuf_pool_release(&pool);
}

TEST(room_is_made_where_it_is_asked_for)
{
	struct iobuf_pool pool = { 0 };
	struct iobuf *b = NULL, *before;

	iobuf_add(&pool, &b, "0123456789", 10);
	CHECK_INT(b->cap, IOBUF_SMALL_CAP);
	before = b;
	iobuf_consume(&pool, &b, 4);
	iobuf_reserve(&pool, &b, IOBUF_SMALL_CAP);
	CHECK(b == before && !b->at);
	CHECK(!memcmp(b->data, "456789", 6));
	iobuf_reserve(&pool, &b, IOBUF_LARGE_CAP);
	CHECK_INT(b->cap, IOBUF_LARGE_CAP);
	CHECK(iobuf_len(b) == 6 && !memcmp(b->data + b->at, "456789", 6));
	/* The small one waits for the next who asks. */
	CHECK_INT(pool.nr[IOBUF_SMALL], 1);
	iobuf_put(&pool, b);
	b = iobuf_get(&pool, 1);
	CHECK(b == before && !pool.nr[IOBUF_SMALL]);
	iobuf_put(&pool, b);
	iobuf_pool_release(&pool);
}
