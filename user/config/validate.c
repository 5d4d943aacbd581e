/* SPDX-License-Identifier: BSD-2-Clause */
/* What a name, host or label may look like. Pure text; reports nothing. */
#include "config/validate.h"

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Alphanumeric at both ends, `inner` or alphanumeric between. */
static bool shaped(struct str s, bool upper, const char *inner)
{
	for (uint32_t i = 0; i < s.len; i++) {
		char c = s.p[i];
		bool end = i == 0 || i + 1 == s.len;

		if (is_lower(c) || is_digit(c) || (upper && is_upper(c)))
			continue;
		if (end || !c || !strchr(inner, c))
			return false;
	}
	return s.len != 0;
}

/* Next part of s up to `sep`; false at the end. An empty s has one empty part. */
static bool next_part(struct str s, char sep, uint32_t *at, struct str *ret)
{
	if (*at > s.len)
		return false;
	struct str rest = str_sub(s, *at, s.len - *at);
	int end = str_find(rest, sep);

	*ret = end < 0 ? rest : str_sub(rest, 0, (uint32_t)end);
	*at += ret->len + 1;
	return true;
}

const char *dns_label_bad(struct str s)
{
	if (s.len > 63)
		return "must have at most 63 characters";
	if (!shaped(s, false, "-"))
		return "must be a DNS label: a-z, 0-9 and \"-\", with a letter or digit at both ends";
	return NULL;
}

const char *dns_subdomain_bad(struct str s)
{
	struct str part;

	if (s.len > 253)
		return "must have at most 253 characters";
	for (uint32_t at = 0; next_part(s, '.', &at, &part);)
		if (!shaped(part, false, "-"))
			return "must be a DNS name: labels of a-z, 0-9 and \"-\" with dots between";
	return NULL;
}

const char *istio_label_bad(struct str s)
{
	if (s.len > 63)
		return "must have at most 63 characters";
	if (!shaped(s, true, "-"))
		return "must be a DNS label: letters, digits and \"-\", with a letter or digit at both ends";
	return NULL;
}

const char *port_name_bad(struct str s)
{
	bool letter = false;

	if (s.len > 15)
		return "must have at most 15 characters";
	if (!shaped(s, false, "-"))
		return "must be a port name: a-z, 0-9 and \"-\", with a letter or digit at both ends";
	for (uint32_t i = 0; i < s.len; i++) {
		letter |= is_lower(s.p[i]);
		if (i && s.p[i] == '-' && s.p[i - 1] == '-')
			return "must not have \"--\"";
	}
	return letter ? NULL : "must have at least one letter";
}

const char *kind_name_bad(struct str s)
{
	if (s.len > 63)
		return "must have at most 63 characters";
	if (!shaped(s, true, "-") || is_digit(s.p[0]))
		return "must be the name of a kind";
	return NULL;
}

const char *group_name_bad(struct str s)
{
	return s.len ? dns_subdomain_bad(s) : NULL;
}

static bool all_digits(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (!is_digit(s.p[i]))
			return false;
	return s.len != 0;
}

static const char *labels_bad(struct str s)
{
	struct str part, last = s;

	for (uint32_t at = 0; next_part(s, '.', &at, &part);)
		last = part;
	if (all_digits(last))
		return "must not end in a number";
	for (uint32_t at = 0; next_part(s, '.', &at, &part);) {
		/* "istio.io." is an unambiguous name. */
		if (!part.len && at > s.len)
			return NULL;
		if (istio_label_bad(part))
			return "must be a domain name: labels of letters, digits and \"-\" with dots between";
	}
	return NULL;
}

static const char *domain_length_bad(struct str s)
{
	if (!s.len)
		return "must not be empty";
	return s.len > 255 ? "must have at most 255 characters" : NULL;
}

const char *fqdn_bad(struct str s)
{
	const char *bad = domain_length_bad(s);

	return bad ? bad : labels_bad(s);
}

static bool wildcard_label_ok(struct str s)
{
	if (s.len > 63)
		return false;
	if (str_is(s, "*"))
		return true;
	if (s.len && s.p[0] == '*')
		s = str_sub(s, s.len > 1 && s.p[1] == '-' ? 2 : 1, s.len);
	return !istio_label_bad(s);
}

const char *wildcard_domain_bad(struct str s)
{
	const char *bad = domain_length_bad(s);
	int dot = str_find(s, '.');

	if (bad)
		return bad;
	if (!wildcard_label_ok(dot < 0 ? s : str_sub(s, 0, (uint32_t)dot)))
		return "must be a domain name; only its first label may be \"*\"";
	return dot < 0 ? NULL : labels_bad(str_sub(s, (uint32_t)dot + 1, s.len));
}

bool host_is_partial_wildcard(struct str s)
{
	return str_find(s, '*') >= 0 && s.len != 1 && !str_starts(s, STR("*."));
}

bool hosts_overlap(struct str a, struct str b)
{
	bool wild_a = a.len && a.p[0] == '*', wild_b = b.len && b.p[0] == '*';
	struct str tail_a = str_sub(a, 1, a.len), tail_b = str_sub(b, 1, b.len);

	if (wild_a && wild_b)
		return a.len < b.len ? str_ends(tail_b, tail_a) : str_ends(tail_a, tail_b);
	if (wild_a)
		return str_ends(b, tail_a);
	if (wild_b)
		return str_ends(a, tail_b);
	return str_eq(a, b);
}

bool text_is_ip(struct str s)
{
	struct addr a;

	return addr_parse(s, &a);
}

const char *special_addr_bad(const struct addr *a)
{
	static const struct addr loopback6 = { { [15] = 1 } };

	if (addr_is_zero(a) || (addr_is_v4(a) && !memcmp(a->b + 12, "\0\0\0\0", 4)))
		return "is the unspecified address";
	if ((addr_is_v4(a) && a->b[12] == 127) || !addr_cmp(a, &loopback6))
		return "is a loopback address";
	if ((addr_is_v4(a) && a->b[12] == 169 && a->b[13] == 254) || (a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80))
		return "is a link-local address";
	if ((addr_is_v4(a) && a->b[12] >= 224 && a->b[12] < 240) || a->b[0] == 0xff)
		return "is a multicast address";
	return NULL;
}

const char *label_key_bad(struct str s)
{
	int slash = str_find(s, '/');
	struct str name = slash < 0 ? s : str_sub(s, (uint32_t)slash + 1, s.len);

	if (slash >= 0) {
		struct str prefix = str_sub(s, 0, (uint32_t)slash), part;

		if (prefix.len > 253)
			return "must have a prefix of at most 253 characters";
		for (uint32_t at = 0; next_part(prefix, '.', &at, &part);)
			if (!shaped(part, true, "-"))
				return "must have a DNS name before \"/\"";
	}
	if (name.len > 63)
		return "must have at most 63 characters behind its prefix";
	if (!shaped(name, true, "-_."))
		return "must be letters, digits, \"-\", \"_\" and \".\", with a letter or digit at both ends";
	return NULL;
}

const char *label_value_bad(struct str s)
{
	if (s.len > 63)
		return "must have at most 63 characters";
	if (s.len && !shaped(s, true, "-_."))
		return "must be letters, digits, \"-\", \"_\" and \".\", with a letter or digit at both ends";
	return NULL;
}

/* A character of a path's segment as RFC 3986 has it, but for "*". */
static bool is_literal(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!is_lower(c) && !is_upper(c) && !is_digit(c) && (!c || !strchr("-._~!$&'()+,;:@%=", c)))
			return false;
	}
	return s.len != 0;
}

static bool has_text(struct str s, struct str part)
{
	for (uint32_t i = 0; i + part.len <= s.len; i++)
		if (str_starts(str_sub(s, i, part.len), part))
			return true;
	return false;
}

const char *path_template_bad(struct str path)
{
	bool template = has_text(path, STR("{*}")) || has_text(path, STR("{**}"));
	bool rest = false;

	while (path.len && path.p[0] == '/')
		path = str_sub(path, 1, path.len);
	while (path.len && path.p[path.len - 1] == '/')
		path.len--;
	for (;;) {
		int slash = str_find(path, '/');
		struct str segment = slash < 0 ? path : str_sub(path, 0, (uint32_t)slash);

		if (str_is(segment, "{*}") || str_is(segment, "{**}")) {
			if (rest)
				return "must have nothing like it behind \"{**}\"";
			rest = str_is(segment, "{**}");
		} else if (str_find(segment, '{') >= 0 || str_find(segment, '}') >= 0) {
			return "must have braces only as \"{*}\" and \"{**}\", each a segment of its own";
		} else if (template && !is_literal(segment)) {
			return "has a character that a path with \"{*}\" or \"{**}\" must not have";
		}
		if (slash < 0)
			return NULL;
		path = str_sub(path, (uint32_t)slash + 1, path.len);
	}
}

static bool same_text(struct str s, const char *z)
{
	if (s.len != strlen(z))
		return false;
	for (uint32_t i = 0; i < s.len; i++) {
		char c = is_upper(s.p[i]) ? (char)(s.p[i] - 'A' + 'a') : s.p[i];

		if (c != z[i])
			return false;
	}
	return true;
}

enum app_protocol app_protocol_parse(struct str s)
{
	static const struct {
		const char *name;
		enum app_protocol protocol;
	} names[] = {
		{ "tcp", APP_TCP },	    { "udp", APP_UDP },		{ "http", APP_HTTP },
		{ "http2", APP_HTTP },	    { "grpc", APP_HTTP },	{ "grpc-web", APP_HTTP },
		{ "http_proxy", APP_HTTP }, { "https", APP_TLS },	{ "tls", APP_TLS },
		{ "mongo", APP_OTHER_TCP }, { "redis", APP_OTHER_TCP }, { "mysql", APP_OTHER_TCP },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (same_text(s, names[i].name))
			return names[i].protocol;
	return APP_UNKNOWN;
}

bool port_ok(int64_t port)
{
	return port >= 1 && port <= 65535;
}
