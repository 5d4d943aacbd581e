/* SPDX-License-Identifier: BSD-2-Clause */
/* Names, addresses and ports that policies and their translation mention, and those beside them: what to ask about. */
#ifndef TESTS_UNIT_MENTIONS_H
#define TESTS_UNIT_MENTIONS_H

#include "oracle.h"

#define NAMES_MAX 2000

/* What the texts mention, and its neighbours. */
struct mentions {
	struct arena arena;
	struct str domains[NAMES_MAX], spaces[NAMES_MAX], accounts[NAMES_MAX];
	struct addr addrs[NAMES_MAX];
	uint16_t ports[NAMES_MAX];
	struct {
		struct str ns, account;
	} pairs[NAMES_MAX];
	uint32_t domain_nr, space_nr, account_nr, addr_nr, port_nr, pair_nr;
	bool lost; /* there was more than fits */
};

static void mention(struct mentions *m, struct str *list, uint32_t *nr, struct str s)
{
	for (uint32_t i = 0; i < *nr; i++)
		if (str_eq(list[i], s))
			return;
	if (*nr < NAMES_MAX && s.len)
		list[(*nr)++] = arena_str(&m->arena, s);
	m->lost |= *nr == NAMES_MAX;
}

/* A name that a document may have. */
static bool is_label(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++) {
		char c = s.p[i];
		bool end = !i || i + 1 == s.len;

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && !end)))
			return false;
	}
	return s.len && s.len < 60;
}

static void mention_name(struct mentions *m, struct str s)
{
	const struct str near[] = {
		s,
		arena_printf(&m->arena, "x%.*s", STR_ARG(s)),
		arena_printf(&m->arena, "%.*sx", STR_ARG(s)),
		str_sub(s, 1, s.len),
		str_sub(s, 0, s.len ? s.len - 1 : 0),
	};

	for (size_t i = 0; i < sizeof(near) / sizeof(*near); i++) {
		mention(m, m->domains, &m->domain_nr, near[i]);
		if (!is_label(near[i]))
			continue;
		mention(m, m->spaces, &m->space_nr, near[i]);
		mention(m, m->accounts, &m->account_nr, near[i]);
	}
}

/* "namespace/account", "... /ns/<namespace>/sa/<account>": both as one source, and one that is nearly it. */
static void mention_pair(struct mentions *m, struct str s)
{
	struct str part[8];
	uint32_t nr = 0;

	for (int slash = 0; slash >= 0 && nr < 8; nr++) {
		slash = str_find(s, '/');
		part[nr] = slash < 0 ? s : str_sub(s, 0, (uint32_t)slash);
		s = slash < 0 ? s : str_sub(s, (uint32_t)slash + 1, s.len);
	}
	if (nr < 2 || m->pair_nr + 2 > NAMES_MAX)
		return;
	for (uint32_t near = 0; near < 2; near++) {
		struct str ns = part[nr >= 4 ? nr - 3 : nr - 2];
		struct str account = near ? arena_printf(&m->arena, "%.*sx", STR_ARG(part[nr - 1])) : part[nr - 1];

		if (!is_label(ns) || !is_label(account))
			continue;
		m->pairs[m->pair_nr].ns = arena_str(&m->arena, ns);
		m->pairs[m->pair_nr++].account = arena_str(&m->arena, account);
	}
}

/* A principal, namespace, service account or trust domain, in any of its forms: the whole and its parts. */
static void mention_text(struct mentions *m, struct str s)
{
	while (s.len && s.p[0] == '*')
		s = str_sub(s, 1, s.len);
	while (s.len && s.p[s.len - 1] == '*')
		s = str_sub(s, 0, s.len - 1);
	mention_pair(m, s);
	mention_name(m, s);
	for (int slash; (slash = str_find(s, '/')) >= 0; s = str_sub(s, (uint32_t)slash + 1, s.len))
		mention_name(m, str_sub(s, 0, (uint32_t)slash));
	mention_name(m, s);
}

static void mention_port(struct mentions *m, int64_t port)
{
	for (int64_t p = port - 1; p <= port + 1; p++) {
		bool known = p < 1 || p > 65535;

		for (uint32_t i = 0; i < m->port_nr; i++)
			known |= m->ports[i] == p;
		if (!known && m->port_nr < NAMES_MAX)
			m->ports[m->port_nr++] = (uint16_t)p;
	}
}

static void mention_addr(struct mentions *m, const struct addr *a)
{
	for (uint32_t i = 0; i < m->addr_nr; i++)
		if (!addr_cmp(&m->addrs[i], a))
			return;
	if (m->addr_nr < NAMES_MAX)
		m->addrs[m->addr_nr++] = *a;
}

static struct addr addr_plus(struct addr a, int by)
{
	for (int i = 15; i >= 0; i--) {
		int sum = a.b[i] + by;

		a.b[i] = (uint8_t)sum;
		if (sum >= 0 && sum <= 255)
			break;
		by = sum < 0 ? -1 : 1;
	}
	return a;
}

/* First and last address, and those beside them. */
static void mention_net(struct mentions *m, const struct addr *net, uint8_t len)
{
	struct addr first = *net, last = *net;
	struct addr near[4];

	for (uint32_t i = len; i < 128; i++) {
		first.b[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
		last.b[i / 8] |= (uint8_t)(0x80 >> i % 8);
	}
	near[0] = first;
	near[1] = last;
	near[2] = addr_plus(first, -1);
	near[3] = addr_plus(last, 1);
	for (int i = 0; i < 4; i++)
		mention_addr(m, &near[i]);
}

/* Every value of ours: texts that are addresses, ports or names. Keys of maps too: ports of portLevelMtls are. */
static void mention_scalar(struct mentions *m, struct str s)
{
	struct addr net;
	uint8_t len;
	uint64_t port;

	if (str_to_u64(s, 65535, &port))
		mention_port(m, (int64_t)port);
	else if (addr_parse_cidr(s, true, &net, &len))
		mention_net(m, &net, len);
	else if (s.len < 60)
		mention_text(m, s);
}

static void mention_tree(struct mentions *m, const struct ynode *n)
{
	uint32_t nr = n->kind == YNODE_MAP ? 2 * n->nr : n->nr;
	struct addr net;
	uint8_t len;
	bool v4;

	if (n->kind == YNODE_SCALAR) {
		mention_scalar(m, n->scalar);
		return;
	}
	if (n->kind != YNODE_MAP && n->kind != YNODE_SEQ)
		return;
	if (n->kind == YNODE_MAP && oracle_net(n, &net, &len, &v4)) {
		mention_net(m, &net, len);
		return;
	}
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t port;

		/* Names of fields are no names of anything else. */
		if (n->kind == YNODE_MAP && !(i % 2) && !str_to_u64(n->items[i]->scalar, 65535, &port))
			continue;
		mention_tree(m, n->items[i]);
	}
}

static void mention_always(struct mentions *m)
{
	static const char *const addrs[] = { "10.77.0.1", "2001:db8::77" };
	struct addr a;

	mention(m, m->domains, &m->domain_nr, STR("cluster.local"));
	mention(m, m->spaces, &m->space_nr, STR("elsewhere"));
	mention(m, m->accounts, &m->account_nr, STR("default"));
	for (size_t i = 0; i < sizeof(addrs) / sizeof(*addrs); i++)
		if (addr_parse(str_of(addrs[i]), &a))
			mention_addr(m, &a);
	mention_port(m, 7777);
}

#endif
