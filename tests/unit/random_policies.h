/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random policies in words, and an evaluator that reads nothing but these words: Istio's reference of AuthorizationPolicy and
 * PeerAuthentication, and for sources without an identity ztunnel's rule (never named, always "not" named). Both what runs on the host
 * and what runs in the kernel is held against it.
 */
#ifndef TESTS_UNIT_RANDOM_POLICIES_H
#define TESTS_UNIT_RANDOM_POLICIES_H

#include <arpa/inet.h>
#include <stdlib.h>

#include "base/str.h"
#include "test.h"

#define NR(a) (sizeof(a) / sizeof(*(a)))
#define ROOT "istio-system"

static uint64_t words_state;

static uint32_t below(uint32_t n)
{
	words_state ^= words_state << 13;
	words_state ^= words_state >> 7;
	words_state ^= words_state << 17;
	return (uint32_t)(words_state >> 33) % n;
}

static bool one_in(uint32_t n)
{
	return !below(n);
}

/* ---- the mesh ---- */

struct words_pod {
	const char *ns, *account, *app, *version, *ip;
};

static const struct words_pod pods[] = {
	{ "a", "x", "1", "1", "10.0.0.1" },    { "a", "xy", "1", "2", "10.0.0.2" },
	{ "a", "y", "2", "1", "fd00::1" },     { "ab", "x", "1", "1", "10.0.1.1" },
	{ "ab", "xy", "2", "2", "fd00:1::1" }, { "b", "y", "1", "1", "10.0.2.1" },
	{ ROOT, "x", "2", "1", "10.0.3.1" },   { "b", "default", "3", "3", "10.0.2.2" },
};

static const char *const strangers[] = { "192.0.2.1", "10.0.0.200", "2001:db8::1" };
static const char *const namespaces[] = { "a", "ab", "b", "*", "a*", "*b", "zz", "istio-system" };
static const char *const principals[] = { "cluster.local/ns/a/sa/x", "cluster.local/ns/ab/*", "*/sa/xy", "*",
					  "other/ns/a/sa/x",	     "cluster.local*",	      "*y" };
static const char *const accounts[] = { "x", "y", "a/x", "ab/xy", "zz/x", "b/default" };
static const char *const domains[] = { "cluster.local", "*", "cluster*", "other", "*.local", "cluster" };
static const char *const nets[] = { "10.0.0.0/24", "10.0.0.1", "10.0.1.0/31", "0.0.0.0/0",   "fd00::/64",
				    "fd00::1",	   "::/0",     "10.0.0.0/30", "10.0.2.0/23", "192.0.2.0/25" };
static const char *const ports[] = { "80", "81", "82", "443", "65535" };
static const char *const bytes[] = { "GET", "p*" };
static const uint16_t probes[] = { 79, 80, 81, 82, 83, 443, 65535 };

/* ---- policies, in words ---- */

enum what { PRINCIPALS, NAMESPACES, ACCOUNTS, DOMAINS, SOURCES, DESTINATIONS, PORTS, BYTES, WHAT_NR };

static const struct {
	const char *const *words;
	uint32_t nr;
	const char *source[2]; /* names as a field of `source` or `operation` */
	const char *key;       /* of `when` */
} whats[WHAT_NR] = {
	[PRINCIPALS] = { principals, NR(principals), { "principals", "notPrincipals" }, "source.principal" },
	[NAMESPACES] = { namespaces, NR(namespaces), { "namespaces", "notNamespaces" }, "source.namespace" },
	[ACCOUNTS] = { accounts, NR(accounts), { "serviceAccounts", "notServiceAccounts" }, "source.serviceAccount" },
	[DOMAINS] = { domains, NR(domains), { "trustDomains", "notTrustDomains" }, "source.trustDomain" },
	[SOURCES] = { nets, NR(nets), { "ipBlocks", "notIpBlocks" }, "source.ip" },
	[DESTINATIONS] = { nets, NR(nets), { NULL, NULL }, "destination.ip" },
	[PORTS] = { ports, NR(ports), { "ports", "notPorts" }, "destination.port" },
	[BYTES] = { bytes, NR(bytes), { "requestPrincipals", "methods" }, "request.headers[x]" },
};

#define LISTS 4
#define WORDS 4
#define SIDES 3

struct words {
	enum what what;
	bool not ;
	uint32_t nr;
	const char *words[WORDS];
};

/* A source, an operation or a condition. */
struct side {
	uint32_t nr;
	struct words lists[LISTS];
};

struct rule {
	uint32_t from_nr, to_nr, when_nr;
	struct side from[SIDES], to[SIDES], when[SIDES];
};

struct policy {
	const char *ns, *app, *version; /* NULL: not selected by it */
	bool deny, dry_run;
	uint32_t rule_nr;
	struct rule rules[3];
};

struct peers {
	const char *ns, *app;
	uint32_t mode, created, port_nr;
	uint16_t ports[2];
	uint32_t modes[2];
};

static const char *const modes[] = { "UNSET", "DISABLE", "PERMISSIVE", "STRICT" };

struct world_of_words {
	uint32_t policy_nr, peer_nr;
	struct policy policies[5];
	struct peers peers[4];
};

/* ---- at random ---- */

static void make_list(struct side *s, enum what what, bool negative)
{
	struct words *l = &s->lists[s->nr++];

	*l = (struct words){ .what = what, .not = negative, .nr = 1 + below(WORDS) };
	for (uint32_t i = 0; i < l->nr; i++)
		l->words[i] = whats[what].words[below(whats[what].nr)];
}

static void make_source(struct side *s)
{
	static const enum what either[2][2] = { { PRINCIPALS, NAMESPACES }, { ACCOUNTS, ACCOUNTS } };
	uint32_t pick = below(2);

	*s = (struct side){ 0 };
	if (one_in(2))
		make_list(s, either[pick][0], one_in(2));
	if (one_in(2) && !pick)
		make_list(s, either[pick][1], one_in(2));
	if (one_in(3))
		make_list(s, SOURCES, one_in(2));
	if (one_in(8))
		make_list(s, BYTES, false);
	else if (!s->nr || one_in(5))
		make_list(s, DOMAINS, one_in(2));
}

static void make_operation(struct side *s)
{
	*s = (struct side){ 0 };
	if (one_in(8))
		make_list(s, BYTES, true);
	if (!s->nr || one_in(2))
		make_list(s, PORTS, false);
	if (one_in(2))
		make_list(s, PORTS, true);
}

static void make_when(struct side *s)
{
	enum what what = one_in(8) ? BYTES : (enum what)below(BYTES);
	uint32_t which = 1 + below(3);

	*s = (struct side){ 0 };
	for (uint32_t n = 0; n < 2; n++)
		if (which & (1 << n))
			make_list(s, what, n);
}

static void make_policy(struct policy *p)
{
	static const char *const spaces[] = { "a", "a", "ab", "b", ROOT };
	static const char *const apps[] = { "1", "2" };

	*p = (struct policy){ .ns = spaces[below(NR(spaces))], .deny = one_in(2), .dry_run = one_in(5) };
	if (one_in(2))
		p->app = apps[below(2)];
	if (one_in(4))
		p->version = apps[below(2)];
	p->rule_nr = below(4);
	/* A DENY policy without rules is refused. */
	p->deny = p->deny && p->rule_nr;
	for (uint32_t i = 0; i < p->rule_nr; i++) {
		struct rule *r = &p->rules[i];

		r->from_nr = below(SIDES + 1);
		r->to_nr = below(3);
		r->when_nr = one_in(2) ? below(SIDES + 1) : 0;
		for (uint32_t k = 0; k < r->from_nr; k++)
			make_source(&r->from[k]);
		for (uint32_t k = 0; k < r->to_nr; k++)
			make_operation(&r->to[k]);
		for (uint32_t k = 0; k < r->when_nr; k++)
			make_when(&r->when[k]);
	}
}

static void make_peers(struct peers *p, uint32_t created)
{
	static const char *const spaces[] = { ROOT, "a", "a", "ab" };

	*p = (struct peers){ .ns = spaces[below(NR(spaces))], .mode = below(4), .created = created };
	if (one_in(2))
		p->app = "1";
	p->port_nr = p->app ? below(3) : 0;
	for (uint32_t i = 0; i < p->port_nr; i++) {
		p->ports[i] = (uint16_t)(80 + i);
		p->modes[i] = below(4);
	}
}

/* ---- as documents ---- */

static void write_list(struct buf *out, const char *name, const struct words *l)
{
	buf_printf(out, "\"%s\": [", name);
	for (uint32_t i = 0; i < l->nr; i++)
		buf_printf(out, "%s\"%s\"", i ? ", " : "", l->words[i]);
	buf_printf(out, "]");
}

static void write_sides(struct buf *out, const char *name, const char *inner, const struct side *sides, uint32_t nr)
{
	if (!nr)
		return;
	buf_printf(out, "\"%s\": [", name);
	for (uint32_t i = 0; i < nr; i++) {
		buf_printf(out, "%s{", i ? ", " : "");
		if (inner)
			buf_printf(out, "\"%s\": {", inner);
		else
			buf_printf(out, "\"key\": \"%s\", ", whats[sides[i].lists[0].what].key);
		for (uint32_t k = 0; k < sides[i].nr; k++) {
			const struct words *l = &sides[i].lists[k];

			buf_printf(out, "%s", k ? ", " : "");
			write_list(out, inner ? whats[l->what].source[l->not ] : l->not ? "notValues" : "values", l);
		}
		buf_printf(out, inner ? "}}" : "}");
	}
	buf_printf(out, "], ");
}

static void write_policy(struct buf *out, const struct policy *p, uint32_t number)
{
	buf_printf(out,
		   "{\"apiVersion\": \"security.istio.io/v1\", \"kind\": \"AuthorizationPolicy\", \"metadata\": "
		   "{\"name\": "
		   "\"p%u\", \"namespace\": \"%s\", \"annotations\": {\"istio.io/dry-run\": \"%s\"}}, \"spec\": {",
		   number, p->ns, p->dry_run ? "true" : "false");
	if (p->app || p->version) {
		buf_printf(out, "\"selector\": {\"matchLabels\": {");
		if (p->app)
			buf_printf(out, "\"app\": \"%s\"%s", p->app, p->version ? ", " : "");
		if (p->version)
			buf_printf(out, "\"version\": \"%s\"", p->version);
		buf_printf(out, "}}, ");
	}
	buf_printf(out, "\"action\": \"%s\", \"rules\": [", p->deny ? "DENY" : "ALLOW");
	for (uint32_t i = 0; i < p->rule_nr; i++) {
		buf_printf(out, "{");
		write_sides(out, "from", "source", p->rules[i].from, p->rules[i].from_nr);
		write_sides(out, "to", "operation", p->rules[i].to, p->rules[i].to_nr);
		write_sides(out, "when", NULL, p->rules[i].when, p->rules[i].when_nr);
		buf_printf(out, "}, ");
	}
	buf_printf(out, "]}}\n---\n");
}

static void write_peers(struct buf *out, const struct peers *p, uint32_t number)
{
	buf_printf(
		out,
		"{\"apiVersion\": \"security.istio.io/v1\", \"kind\": \"PeerAuthentication\", \"metadata\": {\"name\": "
		"\"q%u\", \"namespace\": \"%s\", \"creationTimestamp\": \"2026-01-01T00:00:%02uZ\"}, \"spec\": {",
		number, p->ns, p->created);
	if (p->app)
		buf_printf(out, "\"selector\": {\"matchLabels\": {\"app\": \"%s\"}}, ", p->app);
	if (p->port_nr) {
		buf_printf(out, "\"portLevelMtls\": {");
		for (uint32_t i = 0; i < p->port_nr; i++)
			buf_printf(out, "%s\"%u\": {\"mode\": \"%s\"}", i ? ", " : "", p->ports[i], modes[p->modes[i]]);
		buf_printf(out, "}, ");
	}
	buf_printf(out, "\"mtls\": {\"mode\": \"%s\"}}}\n---\n", modes[p->mode]);
}

static void write_pods(struct buf *out)
{
	for (uint32_t i = 0; i < NR(pods); i++)
		buf_printf(out,
			   "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"pod%u\", "
			   "\"namespace\": "
			   "\"%s\", \"labels\": {\"app\": \"%s\", \"version\": \"%s\"}}, \"spec\": "
			   "{\"serviceAccountName\": \"%s\", \"containers\": [{\"name\": \"c\"}]}, \"status\": "
			   "{\"podIP\": "
			   "\"%s\"}}\n---\n",
			   i, pods[i].ns, pods[i].app, pods[i].version, pods[i].account, pods[i].ip);
}

/* Random policies, and the documents that say the same. */
static void make_words(struct world_of_words *w, struct buf *out)
{
	*w = (struct world_of_words){ .policy_nr = below(6), .peer_nr = below(5) };
	buf_clear(out);
	for (uint32_t i = 0; i < w->policy_nr; i++) {
		make_policy(&w->policies[i]);
		write_policy(out, &w->policies[i], i);
	}
	for (uint32_t i = 0; i < w->peer_nr; i++) {
		make_peers(&w->peers[i], i * 7 % 5);
		write_peers(out, &w->peers[i], i);
	}
	write_pods(out);
}

/* ---- the evaluator ---- */

struct question {
	const struct words_pod *client; /* NULL: without an identity */
	const char *source;
	const struct words_pod *server;
	uint16_t port;
	const char *policy_ns;
};

static bool word_is(const char *word, const char *text)
{
	size_t w = strlen(word), t = strlen(text);

	if (!strcmp(word, "*"))
		return t > 0;
	if (word[0] == '*')
		return t >= w - 1 && !strcmp(text + t - (w - 1), word + 1);
	if (word[w - 1] == '*')
		return !strncmp(text, word, w - 1);
	return !strcmp(word, text);
}

static bool net_has(const char *net, const char *ip)
{
	uint8_t n[16], a[16];
	char head[64];
	int family = strchr(net, ':') ? AF_INET6 : AF_INET;
	const char *slash = strchr(net, '/');
	unsigned int len = slash ? (unsigned int)atoi(slash + 1) : family == AF_INET ? 32 : 128;

	snprintf(head, sizeof(head), "%.*s", slash ? (int)(slash - net) : 63, net);
	if (family != (strchr(ip, ':') ? AF_INET6 : AF_INET) || inet_pton(family, head, n) != 1 ||
	    inet_pton(family, ip, a) != 1)
		return false;
	for (unsigned int i = 0; i < len; i++)
		if ((n[i / 8] ^ a[i / 8]) >> (7 - i % 8) & 1)
			return false;
	return true;
}

static bool names(const struct question *q, enum what what, const char *word)
{
	char text[128] = "";

	switch (what) {
	case SOURCES:
		return net_has(word, q->source);
	case DESTINATIONS:
		return net_has(word, q->server->ip);
	case PORTS:
		return atoi(word) == q->port;
	case PRINCIPALS:
		if (q->client)
			snprintf(text, sizeof(text), "cluster.local/ns/%s/sa/%s", q->client->ns, q->client->account);
		return q->client && word_is(word, text);
	case NAMESPACES:
		return q->client && word_is(word, q->client->ns);
	case DOMAINS:
		return q->client && word_is(word, "cluster.local");
	case ACCOUNTS:
		if (q->client)
			snprintf(text, sizeof(text), "%s/%s", strchr(word, '/') ? q->client->ns : q->policy_ns,
				 q->client->account);
		if (q->client && !strchr(word, '/'))
			return !strcmp(q->client->ns, q->policy_ns) && !strcmp(word, q->client->account);
		return q->client && !strcmp(word, text);
	default:
		return false;
	}
}

static bool side_holds(const struct question *q, const struct side *s)
{
	for (uint32_t i = 0; i < s->nr; i++) {
		const struct words *l = &s->lists[i];
		bool any = false;

		/* Of a DENY rule: it counts as if it held. */
		if (l->what == BYTES)
			continue;
		for (uint32_t k = 0; k < l->nr; k++)
			any |= names(q, l->what, l->words[k]);
		if (any == l->not )
			return false;
	}
	return true;
}

static bool any_holds(const struct question *q, const struct side *sides, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		if (side_holds(q, &sides[i]))
			return true;
	return !nr;
}

static bool has_bytes(const struct side *sides, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		for (uint32_t k = 0; k < sides[i].nr; k++)
			if (sides[i].lists[k].what == BYTES)
				return true;
	return false;
}

static bool rule_holds(const struct question *q, const struct rule *r, bool deny)
{
	if (!deny && (has_bytes(r->from, r->from_nr) || has_bytes(r->to, r->to_nr) || has_bytes(r->when, r->when_nr)))
		return false;
	for (uint32_t i = 0; i < r->when_nr; i++)
		if (!side_holds(q, &r->when[i]))
			return false;
	return any_holds(q, r->from, r->from_nr) && any_holds(q, r->to, r->to_nr);
}

static bool policy_holds(struct question *q, const struct policy *p)
{
	q->policy_ns = p->ns;
	for (uint32_t i = 0; i < p->rule_nr; i++)
		if (rule_holds(q, &p->rules[i], p->deny))
			return true;
	return false;
}

static bool guards(const struct policy *p, const struct words_pod *server)
{
	return (!strcmp(p->ns, server->ns) || !strcmp(p->ns, ROOT)) && (!p->app || !strcmp(p->app, server->app)) &&
	       (!p->version || !strcmp(p->version, server->version));
}

/* The oldest of a level: 0 mesh, 1 namespace, 2 workload. */
static const struct peers *peers_of(const struct world_of_words *w, const struct words_pod *server, int level)
{
	const struct peers *oldest = NULL;

	for (uint32_t i = 0; i < w->peer_nr; i++) {
		const struct peers *p = &w->peers[i];
		bool root = !strcmp(p->ns, ROOT), fits;

		if (level == 0)
			fits = root && !p->app;
		else if (level == 1)
			fits = !root && !strcmp(p->ns, server->ns) && !p->app;
		else
			fits = !root && !strcmp(p->ns, server->ns) && p->app && !strcmp(p->app, server->app);
		if (fits && (!oldest || p->created < oldest->created))
			oldest = p;
	}
	return oldest;
}

static bool strict(const struct world_of_words *w, const struct question *q)
{
	uint32_t mode = 2;
	const struct peers *own = peers_of(w, q->server, 2);

	for (int level = 0; level < 3; level++) {
		const struct peers *p = peers_of(w, q->server, level);

		if (p && p->mode)
			mode = p->mode;
	}
	for (uint32_t i = 0; own && i < own->port_nr; i++)
		if (own->ports[i] == q->port && own->modes[i])
			mode = own->modes[i];
	return mode == 3;
}

static bool allowed(const struct world_of_words *w, struct question *q, bool dry_run)
{
	bool some = false;

	if (!dry_run && !q->client && strict(w, q))
		return false;
	for (uint32_t i = 0; i < w->policy_nr; i++) {
		const struct policy *p = &w->policies[i];

		if (p->dry_run == dry_run && p->deny && guards(p, q->server) && policy_holds(q, p))
			return false;
	}
	for (uint32_t i = 0; i < w->policy_nr; i++) {
		const struct policy *p = &w->policies[i];

		if (p->dry_run != dry_run || p->deny || !guards(p, q->server))
			continue;
		some = true;
		if (policy_holds(q, p))
			return true;
	}
	return !some;
}

#endif
