/* SPDX-License-Identifier: BSD-2-Clause */
/* Address literals to 16 bytes and back. Resolves no names. */
#include "base/addr.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

bool addr_parse(struct str s, struct addr *ret)
{
	char z[ADDR_TEXT_MAX];
	struct addr a;

	if (!s.len || s.len >= sizeof(z) || str_find(s, '\0') >= 0)
		return false;
	memcpy(z, s.p, s.len);
	z[s.len] = '\0';
	if (str_find(s, ':') >= 0) {
		if (inet_pton(AF_INET6, z, a.b) != 1)
			return false;
	} else {
		memcpy(a.b, v4_prefix, sizeof(v4_prefix));
		if (inet_pton(AF_INET, z, a.b + 12) != 1)
			return false;
	}
	*ret = a;
	return true;
}

/* Clears all bits behind the prefix; true when some were set. */
static bool clear_host_bits(struct addr *a, uint8_t prefix_len)
{
	bool some = false;

	for (unsigned int i = 0; i < 16; i++) {
		unsigned int bits = prefix_len > i * 8 ? prefix_len - i * 8 : 0;
		uint8_t mask = bits >= 8 ? 0xff : (uint8_t)(0xff00 >> bits);

		some |= (a->b[i] & ~mask) != 0;
		a->b[i] &= mask;
	}
	return some;
}

bool addr_parse_cidr(struct str s, bool host_bits, struct addr *ret, uint8_t *ret_prefix_len)
{
	int slash = str_find(s, '/');
	struct str host = slash < 0 ? s : str_sub(s, 0, (uint32_t)slash);
	bool v6 = str_find(host, ':') >= 0;
	uint64_t len = v6 ? 128 : 32;
	struct addr a;

	if (!addr_parse(host, &a))
		return false;
	if (slash >= 0) {
		struct str digits = str_sub(s, (uint32_t)slash + 1, UINT32_MAX);

		if ((digits.len > 1 && digits.p[0] == '0') || !str_to_u64(digits, len, &len))
			return false;
	}
	if (!v6)
		len += 96;
	if (clear_host_bits(&a, (uint8_t)len) && !host_bits)
		return false;
	*ret = a;
	*ret_prefix_len = (uint8_t)len;
	return true;
}

bool addr_is_v4(const struct addr *a)
{
	return !memcmp(a->b, v4_prefix, sizeof(v4_prefix));
}

bool addr_is_zero(const struct addr *a)
{
	static const struct addr zero;

	return !memcmp(a, &zero, sizeof(zero));
}

int addr_cmp(const struct addr *a, const struct addr *b)
{
	return memcmp(a->b, b->b, sizeof(a->b));
}

bool addr_in(const struct addr *a, const struct addr *net, uint8_t prefix_len)
{
	struct addr masked = *a;

	clear_host_bits(&masked, prefix_len);
	return !addr_cmp(&masked, net);
}

bool addr_split_port(struct str s, struct str *ret_host, uint16_t *ret_port)
{
	struct str host;
	struct addr addr;
	uint64_t port;
	uint32_t colon;

	for (colon = s.len; colon && s.p[colon - 1] != ':'; colon--)
		;
	if (colon < 2 || !str_to_u64(str_sub(s, colon, s.len), 65535, &port) || !port)
		return false;
	host = str_sub(s, 0, colon - 1);
	if (host.p[0] == '[') {
		if (host.len < 3 || host.p[host.len - 1] != ']')
			return false;
		host = str_sub(host, 1, host.len - 2);
		if (!addr_parse(host, &addr) || str_find(host, ':') < 0)
			return false;
	} else if (str_find(host, ':') >= 0) {
		return false;
	}
	*ret_host = host;
	*ret_port = (uint16_t)port;
	return true;
}

const char *addr_text(const struct addr *a, char *out)
{
	if (addr_is_v4(a))
		inet_ntop(AF_INET, a->b + 12, out, ADDR_TEXT_MAX);
	else
		inet_ntop(AF_INET6, a->b, out, ADDR_TEXT_MAX);
	return out;
}
