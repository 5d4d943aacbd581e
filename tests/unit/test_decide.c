/* SPDX-License-Identifier: BSD-2-Clause */
/* The decision as the kernel takes it, compiled on the host: uniform draws, key and network matches, payload arithmetic. */
#include "test.h"

#include "config/alias.h"
#include "decide.bpf.h"

static struct mesh_addr v4(unsigned int a, unsigned int b, unsigned int c, unsigned int d)
{
	return (struct mesh_addr){ .w_be = { 0, 0, MESH_BE32(0xffff), MESH_BE32(a << 24 | b << 16 | c << 8 | d) } };
}

/*
 * Pearson's statistic of n draws against expected counts. For k - 1 degrees of freedom the bound mean + 8 sigma + 40 is beyond
 * the 1 - 1e-9 quantile for every k used here, so a false alarm has p < 1e-6.
 */
static bool fits(const uint64_t *seen, const double *expected, unsigned int k)
{
	double x = 0;

	for (unsigned int i = 0; i < k; i++) {
		if (expected[i] == 0) {
			if (seen[i])
				return false;
			continue;
		}
		x += ((double)seen[i] - expected[i]) * ((double)seen[i] - expected[i]) / expected[i];
	}
	return x < (k - 1) + 8 * __builtin_sqrt(2.0 * k) + 40;
}

TEST(below_is_uniform)
{
	static const uint64_t bounds[] = { 1, 2, 3, 7, 10, 100, 1000 };
	__u64 rng = 12345;

	for (unsigned int b = 0; b < sizeof(bounds) / sizeof(*bounds); b++) {
		uint64_t seen[1000] = { 0 };
		__u64 r = 0;
		double expected[1000];
		bool drawn = true;

		for (unsigned int i = 0; i < 1000000 && drawn; i++) {
			drawn = mesh_below(&rng, bounds[b], &r) && r < bounds[b];
			seen[r]++;
		}
		CHECK(drawn);
		for (unsigned int i = 0; i < bounds[b]; i++)
			expected[i] = 1e6 / (double)bounds[b];
		CHECK(fits(seen, expected, (unsigned int)bounds[b]));
	}
}

TEST(below_reaches_the_ends_of_large_bounds)
{
	__u64 rng = 7, r = 0, high = 0, low = UINT64_MAX, bound = (1ull << 62) - 3;

	for (unsigned int i = 0; i < 100000; i++) {
		CHECK(mesh_below(&rng, bound, &r));
		high = r > high ? r : high;
		low = r < low ? r : low;
	}
	CHECK(high < bound);
	CHECK(high > bound / 10000 * 9990);
	CHECK(low < bound / 1000);
}

/* The whole choice: table built as the control plane does, drawn from as the kernel does. */
static bool choice_fits(const uint64_t *weights, uint32_t nr)
{
	struct mesh_choice columns[128];
	uint64_t scratch[256], sum, seen[128] = { 0 }, total = 0;
	__u64 part, rng = 99;
	uint32_t ids[128], column;
	double expected[128];

	for (uint32_t i = 0; i < nr; i++) {
		ids[i] = i;
		total += weights[i];
	}
	if (alias_build(weights, ids, nr, columns, &sum, scratch))
		return false;
	for (unsigned int i = 0; i < 1000000; i++) {
		if (!mesh_draw(&rng, nr, sum, &column, &part) || column >= nr || part >= sum)
			return false;
		seen[mesh_take(&columns[column], part)]++;
	}
	for (uint32_t i = 0; i < nr; i++)
		expected[i] = 1e6 * (double)weights[i] / (double)total;
	return fits(seen, expected, nr);
}

TEST(choices_follow_weights)
{
	uint64_t hundred[100];

	for (unsigned int i = 0; i < 100; i++)
		hundred[i] = i * i + 1;
	CHECK(choice_fits((uint64_t[]){ 1, 1 }, 2));
	CHECK(choice_fits((uint64_t[]){ 1, 2, 3 }, 3));
	CHECK(choice_fits((uint64_t[]){ 0, 1 }, 2));
	CHECK(choice_fits((uint64_t[]){ 7, 993 }, 2));
	CHECK(choice_fits((uint64_t[]){ 80, 20 }, 2));
	CHECK(choice_fits(hundred, 100));
}

TEST(one_in_two_billion)
{
	struct mesh_choice columns[2];
	uint64_t scratch[4], sum;
	__u64 part, rng = 5;
	uint32_t ids[2] = { 0, 1 }, column;
	unsigned int drawn = 0, other = 0;

	CHECK_INT(alias_build((uint64_t[]){ 2147483647, 1 }, ids, 2, columns, &sum, scratch), 0);
	CHECK_INT(sum, 2147483648);
	for (unsigned int i = 0; i < 1000000; i++) {
		if (!mesh_draw(&rng, 2, sum, &column, &part))
			break;
		drawn++;
		other += mesh_take(&columns[column], part);
	}
	CHECK_INT(drawn, 1000000);
	CHECK(other <= 2); /* expected 0.0005; three or more has p < 1e-10 */
}

TEST(empty_tables_choose_nothing)
{
	__u64 rng = 1, part;
	uint32_t column;

	CHECK(!mesh_draw(&rng, 0, 10, &column, &part));
	CHECK(!mesh_draw(&rng, 10, 0, &column, &part));
}

TEST(rows_match_their_key)
{
	struct mesh_key key = { .scope = 3, .port_be = 80, .proto = 6, .prefix_len = 128, .addr = v4(10, 96, 0, 1) };
	struct mesh_row row = { .key = key };

	CHECK(mesh_row_is(&row, &key));
	row.key.scope = 2;
	CHECK(!mesh_row_is(&row, &key));
	row.key = key;
	row.key.port_be = 81;
	CHECK(!mesh_row_is(&row, &key));
	row.key = key;
	row.key.proto = 17;
	CHECK(!mesh_row_is(&row, &key));
	row.key = key;
	row.key.addr = v4(10, 96, 0, 2);
	CHECK(!mesh_row_is(&row, &key));
}

TEST(networks_match_by_prefix)
{
	struct mesh_key key = { .port_be = 80, .proto = 6, .prefix_len = 128, .addr = v4(10, 97, 3, 4) };
	struct mesh_row row = { .key = key };

	row.key.addr = v4(10, 96, 0, 0);
	row.key.prefix_len = 96 + 15;
	CHECK(mesh_row_is(&row, &key));
	row.key.prefix_len = 96 + 16;
	CHECK(!mesh_row_is(&row, &key));
	row.key.prefix_len = 96;
	CHECK(mesh_row_is(&row, &key));
	row.key.prefix_len = 0;
	CHECK(mesh_row_is(&row, &key));
	row.key.addr = key.addr;
	for (unsigned int len = 0; len <= 128; len++) {
		row.key.prefix_len = (__u8)len;
		CHECK(mesh_row_is(&row, &key));
	}
}

TEST(pods_own_their_addresses)
{
	struct mesh_pod pod = { .addr = { v4(10, 244, 0, 2), { .w_be = { 1, 2, 3, 4 } } } };
	struct mesh_addr any4 = v4(0, 0, 0, 0), any6 = { .w_be = { 0 } }, loopback = v4(127, 0, 0, 1);

	CHECK(mesh_pod_owns(&pod, &any4));
	CHECK(mesh_pod_owns(&pod, &any6));
	CHECK(mesh_pod_owns(&pod, &pod.addr[0]));
	CHECK(mesh_pod_owns(&pod, &pod.addr[1]));
	CHECK(!mesh_pod_owns(&pod, &loopback));
}

TEST(payload_without_syn_and_fin)
{
	struct mesh_tcp_seen t = { .bytes_acked = 1001, .bytes_received = 500 };

	CHECK_INT(mesh_payload_sent(&t), 1000);
	CHECK_INT(mesh_payload_received(&t), 500);
	t.fin_received = 1;
	CHECK_INT(mesh_payload_received(&t), 499);
	t.fin_sent = 1;
	t.snd_una = 9;
	t.write_seq = 10; /* FIN sent, not acknowledged */
	CHECK_INT(mesh_payload_sent(&t), 1000);
	t.snd_una = 10;
	t.bytes_acked = 1002;
	CHECK_INT(mesh_payload_sent(&t), 1000);
	t = (struct mesh_tcp_seen){ .fin_received = 1, .fin_sent = 1 }; /* nothing ever acknowledged */
	CHECK_INT(mesh_payload_sent(&t), 0);
	CHECK_INT(mesh_payload_received(&t), 0);
}

TEST(who_began_is_told_from_the_syn)
{
	/* 1000 bytes sent, 100 of them twice; 300 are on their way. */
	struct mesh_tcp_seen t = { .bytes_sent = 1100,
				   .bytes_retrans = 100,
				   .bytes_acked = 701,
				   .snd_una = 0xfffffff0,
				   .snd_nxt = 0xfffffff0 + 300,
				   .write_seq = 0xfffffff0 + 400 };

	CHECK(mesh_tcp_began(&t));
	t.bytes_acked = 700;
	CHECK(!mesh_tcp_began(&t));
	/* Closing, with data before the FIN that is not sent yet; then the FIN on its way, and acknowledged. */
	t.fin_sent = 1;
	CHECK(!mesh_tcp_began(&t));
	t.write_seq = t.snd_nxt = t.snd_una + 301;
	CHECK(!mesh_tcp_began(&t));
	t.bytes_acked = 701;
	CHECK(mesh_tcp_began(&t));
	t.snd_una = t.snd_nxt;
	t.bytes_acked = 1002;
	CHECK(mesh_tcp_began(&t));
	t.bytes_acked = 1001;
	CHECK(!mesh_tcp_began(&t));
	/* Restored by TCP_REPAIR: nothing is known of it. */
	t = (struct mesh_tcp_seen){ .snd_una = 5, .snd_nxt = 5, .write_seq = 5 };
	CHECK(!mesh_tcp_began(&t));
}
