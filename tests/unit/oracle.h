/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Istio's own translation of a policy for ztunnel, as its test data has it: typed lists in matches in rules in groups, and ztunnel's
 * reading of them (src/rbac.rs): a group holds when all its rules do, a rule when one of its matches does or it has none, a match when
 * all its lists do. A match without any list never does: it stood for what needs bytes. Sources without an identity are in no list.
 */
#ifndef TESTS_UNIT_ORACLE_H
#define TESTS_UNIT_ORACLE_H

#include "base/addr.h"
#include "config/yaml.h"

struct oracle_source {
	bool known; /* has an identity */
	struct str trust_domain, ns, account;
	struct addr addr;
};

struct oracle_question {
	struct oracle_source source;
	struct addr server;
	uint16_t port;
	struct str principal; /* of the source */
	bool empty_holds;     /* a match without any list does hold: what a policy says without what needs bytes */
};

struct oracle_text {
	enum { ORACLE_EXACT, ORACLE_PREFIX, ORACLE_SUFFIX, ORACLE_PRESENCE } form;
	struct str text;
};

static struct str oracle_str(const struct ynode *map, const char *key)
{
	const struct ynode *n = ynode_get(map, key);

	return n && n->kind == YNODE_SCALAR ? n->scalar : (struct str){ 0 };
}

static uint32_t oracle_nr(const struct ynode *list)
{
	return list && list->kind == YNODE_SEQ ? list->nr : 0;
}

/* One entry of a list of texts. */
static struct oracle_text oracle_text(const struct ynode *n)
{
	struct oracle_text t = { ORACLE_PRESENCE, { 0 } };

	if (ynode_get(n, "exact"))
		t = (struct oracle_text){ ORACLE_EXACT, oracle_str(n, "exact") };
	else if (ynode_get(n, "prefix"))
		t = (struct oracle_text){ ORACLE_PREFIX, oracle_str(n, "prefix") };
	else if (ynode_get(n, "suffix"))
		t = (struct oracle_text){ ORACLE_SUFFIX, oracle_str(n, "suffix") };
	return t;
}

static bool oracle_text_is(const struct ynode *n, struct str s)
{
	struct oracle_text t = oracle_text(n);

	switch (t.form) {
	case ORACLE_EXACT:
		return str_eq(t.text, s);
	case ORACLE_PREFIX:
		return str_starts(s, t.text);
	case ORACLE_SUFFIX:
		return str_ends(s, t.text);
	default:
		return s.len != 0;
	}
}

static int oracle_digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* {address: base64 of 4 or 16 bytes, length: n}; IPv4 comes back as ::ffff:a.b.c.d/96+n. */
static bool oracle_net(const struct ynode *n, struct addr *ret, uint8_t *ret_len, bool *ret_v4)
{
	struct str text = oracle_str(n, "address");
	uint8_t bytes[18];
	uint32_t nr = 0, bits = 0, value = 0;
	int64_t len = 0;

	for (uint32_t i = 0; i < text.len && text.p[i] != '=' && nr < sizeof(bytes); i++) {
		int d = oracle_digit(text.p[i]);

		if (d < 0)
			return false;
		value = value << 6 | (uint32_t)d;
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		bytes[nr++] = (uint8_t)(value >> bits);
	}
	if ((nr != 4 && nr != 16) || (ynode_get(n, "length") && !ynode_int(ynode_get(n, "length"), &len)))
		return false;
	*ret_v4 = nr == 4;
	*ret = (struct addr){ { 0 } };
	if (nr == 4)
		ret->b[10] = ret->b[11] = 0xff;
	memcpy(ret->b + 16 - nr, bytes, nr);
	*ret_len = (uint8_t)(len + (nr == 4 ? 96 : 0));
	return true;
}

static bool oracle_net_has(const struct ynode *n, const struct addr *a)
{
	struct addr net;
	uint8_t len;
	bool v4;

	if (!oracle_net(n, &net, &len, &v4) || v4 != addr_is_v4(a))
		return false;
	for (uint32_t i = 0; i < len; i++)
		if ((net.b[i / 8] ^ a->b[i / 8]) >> (7 - i % 8) & 1)
			return false;
	return true;
}

static bool oracle_source_ip(const struct ynode *n, const struct oracle_question *q)
{
	return oracle_net_has(n, &q->source.addr);
}

static bool oracle_server_ip(const struct ynode *n, const struct oracle_question *q)
{
	return oracle_net_has(n, &q->server);
}

static bool oracle_port(const struct ynode *n, const struct oracle_question *q)
{
	int64_t port;

	return ynode_int(n, &port) && port == q->port;
}

static bool oracle_principal(const struct ynode *n, const struct oracle_question *q)
{
	return q->source.known && oracle_text_is(n, q->principal);
}

static bool oracle_namespace(const struct ynode *n, const struct oracle_question *q)
{
	return oracle_text_is(n, q->source.known ? q->source.ns : (struct str){ 0 });
}

static bool oracle_account(const struct ynode *n, const struct oracle_question *q)
{
	return q->source.known && str_eq(oracle_str(n, "namespace"), q->source.ns) &&
	       str_eq(oracle_str(n, "serviceAccount"), q->source.account);
}

/* Every list of a match: its name, and that of its opposite. */
static const struct {
	const char *name, *opposite;
	bool (*is)(const struct ynode *n, const struct oracle_question *q);
} oracle_lists[] = {
	{ "namespaces", "notNamespaces", oracle_namespace },
	{ "principals", "notPrincipals", oracle_principal },
	{ "serviceAccounts", "notServiceAccounts", oracle_account },
	{ "sourceIps", "notSourceIps", oracle_source_ip },
	{ "destinationIps", "notDestinationIps", oracle_server_ip },
	{ "destinationPorts", "notDestinationPorts", oracle_port },
};
#define ORACLE_LIST_NR (sizeof(oracle_lists) / sizeof(*oracle_lists))

static bool oracle_any(const struct ynode *list, size_t which, const struct oracle_question *q)
{
	for (uint32_t i = 0; i < oracle_nr(list); i++)
		if (oracle_lists[which].is(list->items[i], q))
			return true;
	return false;
}

static bool oracle_match(const struct ynode *match, const struct oracle_question *q)
{
	bool empty = true;

	for (size_t i = 0; i < ORACLE_LIST_NR; i++) {
		const struct ynode *some = ynode_get(match, oracle_lists[i].name);
		const struct ynode *none = ynode_get(match, oracle_lists[i].opposite);

		empty &= !oracle_nr(some) && !oracle_nr(none);
		if ((oracle_nr(some) && !oracle_any(some, i, q)) || oracle_any(none, i, q))
			return false;
	}
	return !empty || q->empty_holds;
}

static bool oracle_rule(const struct ynode *rule, const struct oracle_question *q)
{
	const struct ynode *matches = ynode_get(rule, "matches");

	for (uint32_t i = 0; i < oracle_nr(matches); i++)
		if (oracle_match(matches->items[i], q))
			return true;
	return !oracle_nr(matches);
}

/* Does the policy hold for the connection? */
static bool oracle_holds(const struct ynode *policy, const struct oracle_question *q)
{
	const struct ynode *groups = ynode_get(policy, "groups");

	for (uint32_t i = 0; i < oracle_nr(groups); i++) {
		const struct ynode *rules = ynode_get(groups->items[i], "rules");
		bool all = true;

		for (uint32_t k = 0; k < oracle_nr(rules); k++)
			all &= oracle_rule(rules->items[k], q);
		if (all)
			return true;
	}
	return false;
}

#endif
