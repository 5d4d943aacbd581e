/* SPDX-License-Identifier: BSD-2-Clause */
/* user/base/addr.c */
#include "base/addr.h"

#include "guard.h"
#include "test.h"

static const char *round_trip(const char *text)
{
	static char out[ADDR_TEXT_MAX];
	struct addr a;

	return addr_parse(str_of(text), &a) ? addr_text(&a, out) : "refused";
}

TEST(literals_of_both_families)
{
	CHECK_STR(round_trip("10.0.0.1"), "10.0.0.1");
	CHECK_STR(round_trip("255.255.255.255"), "255.255.255.255");
	CHECK_STR(round_trip("2001:DB8:0:0::1"), "2001:db8::1");
	CHECK_STR(round_trip("::"), "::");
	CHECK_STR(round_trip("::ffff:10.0.0.1"), "10.0.0.1");
	CHECK_STR(round_trip("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"),
		  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	CHECK_STR(round_trip(""), "refused");
	CHECK_STR(round_trip("10.0.0"), "refused");
	CHECK_STR(round_trip("10.0.0.01"), "refused");
	CHECK_STR(round_trip("10.0.0.256"), "refused");
	CHECK_STR(round_trip(" 10.0.0.1"), "refused");
	CHECK_STR(round_trip("10.0.0.1 "), "refused");
	CHECK_STR(round_trip("fe80::1%eth0"), "refused");
	CHECK_STR(round_trip("1:2:3:4:5:6:7:8:9"), "refused");
	CHECK_STR(round_trip("reviews"), "refused");
	CHECK_STR(round_trip("[::1]"), "refused");
	CHECK(!addr_parse((struct str){ "1.2.3.4\0", 8 }, &(struct addr){ 0 }));
}

TEST(every_number_of_an_ipv4_address_is_written)
{
	char want[ADDR_TEXT_MAX], got[ADDR_TEXT_MAX];

	for (unsigned i = 0; i < 256; i++) {
		struct addr a = {
			.b = { [10] = 0xff, 0xff, (uint8_t)i, (uint8_t)(255 - i), (uint8_t)(i ^ 0x55), (uint8_t)i }
		};

		snprintf(want, sizeof(want), "%u.%u.%u.%u", i, 255 - i, i ^ 0x55, i);
		CHECK_STR(addr_text(&a, got), want);
	}
}

static const char *cidr(const char *text, bool host_bits)
{
	static char out[ADDR_TEXT_MAX + 5];
	char addr[ADDR_TEXT_MAX];
	struct addr a;
	uint8_t len;

	if (!addr_parse_cidr(str_of(text), host_bits, &a, &len))
		return "refused";
	snprintf(out, sizeof(out), "%s/%u", addr_text(&a, addr), len);
	return out;
}

TEST(prefixes_count_in_128_bits)
{
	CHECK_STR(cidr("10.0.0.0/8", false), "10.0.0.0/104");
	CHECK_STR(cidr("10.0.0.1", false), "10.0.0.1/128");
	CHECK_STR(cidr("0.0.0.0/0", false), "0.0.0.0/96");
	CHECK_STR(cidr("2001:db8::/32", false), "2001:db8::/32");
	CHECK_STR(cidr("::1", false), "::1/128");
	CHECK_STR(cidr("::/0", false), "::/0");
	CHECK_STR(cidr("10.1.2.3/8", false), "refused");
	CHECK_STR(cidr("10.1.2.3/8", true), "10.0.0.0/104");
	CHECK_STR(cidr("10.1.2.255/25", true), "10.1.2.128/121");
	CHECK_STR(cidr("2001:db8::1/64", true), "2001:db8::/64");
	CHECK_STR(cidr("10.0.0.0/33", false), "refused");
	CHECK_STR(cidr("::/129", false), "refused");
	CHECK_STR(cidr("10.0.0.0/", false), "refused");
	CHECK_STR(cidr("10.0.0.0/08", false), "refused");
	CHECK_STR(cidr("10.0.0.0/+8", false), "refused");
	CHECK_STR(cidr("/8", false), "refused");
}

TEST(membership)
{
	struct addr net, in, out;

	CHECK(addr_parse(STR("10.1.0.0"), &net) && addr_parse(STR("10.1.255.3"), &in) &&
	      addr_parse(STR("10.2.0.0"), &out));
	CHECK(addr_in(&in, &net, 96 + 16));
	CHECK(!addr_in(&out, &net, 96 + 16));
	CHECK(addr_in(&in, &in, 128));
	CHECK(!addr_in(&in, &net, 128));
	CHECK(addr_in(&out, &(struct addr){ 0 }, 0));
	CHECK(addr_is_v4(&in) && !addr_is_v4(&(struct addr){ 0 }));
	CHECK(addr_is_zero(&(struct addr){ 0 }) && !addr_is_zero(&in));
	CHECK(addr_cmp(&in, &out) < 0 && addr_cmp(&out, &in) > 0 && !addr_cmp(&in, &in));
}

TEST(reads_no_byte_too_many)
{
	static const char *const texts[] = { "255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128",
					     "::", "1.2.3.4" };
	struct guard g = guard_new(64);
	unsigned int parsed = 0;

	for (size_t t = 0; t < sizeof(texts) / sizeof(*texts); t++)
		for (size_t len = 0; len <= strlen(texts[t]); len++) {
			struct addr a;
			uint8_t prefix;

			parsed += addr_parse(guard_end(&g, texts[t], len), &a);
			parsed += addr_parse_cidr(guard_begin(&g, texts[t], len), true, &a, &prefix);
		}
	CHECK(parsed > 10);
	guard_free(&g);
}
