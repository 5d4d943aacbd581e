/* SPDX-License-Identifier: BSD-2-Clause */
/* The members of an access, and its life. */
#include <stdlib.h>

#include "config/access_local.h"

struct access *access_ref(struct access *a)
{
	a->refs++;
	return a;
}

void access_unref(struct access *a)
{
	if (!a || --a->refs)
		return;
	arena_release(&a->arena);
	free(a);
}

const struct u_member *access_member(const struct access *a, const struct addr *addr)
{
	uint32_t lo = 0, hi = a->member_nr;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = addr_cmp(&a->members[mid].addr, addr);

		if (!c)
			return &a->members[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

bool access_guards(const struct access *a, const struct u_endpoint *endpoints, uint32_t nr)
{
	for (uint32_t i = 0; i < nr && a->asks_requests; i++) {
		const struct u_member *m = access_member(a, &endpoints[i].addr);

		if (m && m->relayed)
			return true;
	}
	return false;
}

/* ---- members ---- */

/* An address that a workload claims. */
struct claim {
	struct addr addr;
	uint32_t workload; /* in the world: pods by age, then WorkloadEntries by age */
	bool pod;
};

/* By address; of one address's claims the one that counts first: a pod before a WorkloadEntry, the newer before the older. */
static int by_addr(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int c = addr_cmp(&x->addr, &y->addr);

	if (c)
		return c;
	if (x->pod != y->pod)
		return x->pod ? -1 : 1;
	return x->workload > y->workload ? -1 : x->workload < y->workload;
}

static struct claim *claims_of(const struct world *w, uint32_t *ret_nr)
{
	struct claim *claims = NULL;
	uint32_t nr = 0, cap = 0;

	for (uint32_t i = 0; i < w->workload_nr; i++) {
		const struct doc *d = w->workloads[i].doc;
		bool pod = i < w->pod_nr;
		const struct addr *ips = pod ? d->pod->ips : &d->we->address;
		uint32_t ip_nr = pod ? d->pod->ip_nr : !addr_is_zero(&d->we->address);

		if (pod && (d->pod->host_network || d->pod->finished))
			continue;
		for (uint32_t k = 0; k < ip_nr; k++) {
			GROW(claims, nr, &cap);
			claims[nr++] = (struct claim){ .addr = ips[k], .workload = i, .pod = pod };
		}
	}
	if (nr)
		qsort(claims, nr, sizeof(*claims), by_addr);
	*ret_nr = nr;
	return claims;
}

/* Numbers of service accounts: they keep those of the last access. A number that nobody had then either is given away again. */
struct numbers {
	struct access *access;
	uint32_t *slots; /* identity, 0: empty; open addressing */
	uint32_t mask, cap;
	uint32_t *spare; /* numbers that are free */
	uint32_t spare_nr;
};

static void numbers_set(struct numbers *n, uint32_t identity, struct str ns, struct str account)
{
	struct access *a = n->access;
	uint32_t at = (uint32_t)index_hash2(ns, account) & n->mask;

	a->identities[identity] = (struct u_identity){ arena_str(&a->arena, ns), arena_str(&a->arena, account) };
	while (n->slots[at])
		at = (at + 1) & n->mask;
	n->slots[at] = identity;
}

static uint32_t number_of(struct numbers *n, struct str ns, struct str account)
{
	struct access *a = n->access;
	uint32_t identity;

	for (uint32_t at = (uint32_t)index_hash2(ns, account) & n->mask; n->slots[at]; at = (at + 1) & n->mask) {
		const struct u_identity *id = &a->identities[n->slots[at]];

		if (str_eq(id->ns, ns) && str_eq(id->account, account))
			return n->slots[at];
	}
	if (n->spare_nr) {
		identity = n->spare[--n->spare_nr];
	} else {
		GROW(a->identities, a->identity_nr, &n->cap);
		identity = a->identity_nr++;
	}
	numbers_set(n, identity, ns, account);
	return identity;
}

static void numbers_init(struct numbers *n, struct access *a, const struct access *prev, uint32_t more)
{
	static const struct access none = { .identity_nr = 1 };
	uint32_t room = 16;
	bool *used;

	prev = prev ? prev : &none;
	while (room < 2 * (prev->identity_nr + more))
		room *= 2;
	used = xcalloc(prev->identity_nr, sizeof(*used));
	*n = (struct numbers){ .access = a,
			       .slots = xcalloc(room, sizeof(*n->slots)),
			       .mask = room - 1,
			       .cap = prev->identity_nr,
			       .spare = xcalloc(prev->identity_nr, sizeof(*n->spare)) };
	a->identities = xcalloc(n->cap, sizeof(*a->identities));
	a->identity_nr = n->cap;
	for (uint32_t i = 0; i < prev->member_nr; i++)
		used[prev->members[i].identity] = true;
	/* The lowest is given away first. */
	for (uint32_t i = prev->identity_nr; --i;) {
		if (used[i])
			numbers_set(n, i, prev->identities[i].ns, prev->identities[i].account);
		else
			n->spare[n->spare_nr++] = i;
	}
	free(used);
}

/* Members, in order of their addresses; *ret: of which workload each is. */
static uint32_t *add_members(struct access *a, const struct world *w, const struct access *prev)
{
	struct numbers numbers;
	uint32_t nr, *of;
	struct claim *claims = claims_of(w, &nr);
	struct u_identity *identities;

	numbers_init(&numbers, a, prev, nr);
	a->members = arena_array(&a->arena, nr, sizeof(*a->members));
	of = xcalloc((size_t)nr + 1, sizeof(*of));
	for (uint32_t i = 0; i < nr; i++) {
		const struct workload *wl = &w->workloads[claims[i].workload];
		struct str account = claims[i].pod ? wl->doc->pod->service_account : wl->doc->we->service_account;
		struct u_member *m = &a->members[a->member_nr];

		if (i && !addr_cmp(&claims[i].addr, &claims[i - 1].addr))
			continue;
		m->addr = claims[i].addr;
		m->workload = arena_str(&a->arena, wl->text);
		if (claims[i].pod)
			m->node = arena_str(&a->arena, wl->doc->pod->node);
		if (account.len)
			m->identity = number_of(&numbers, wl->doc->meta.ns, account);
		of[a->member_nr++] = claims[i].workload;
	}
	identities = arena_array(&a->arena, a->identity_nr, sizeof(*identities));
	memcpy(identities, a->identities, a->identity_nr * sizeof(*identities));
	free(a->identities);
	a->identities = identities;
	free(numbers.slots);
	free(numbers.spare);
	free(claims);
	return of;
}

/* ---- programs ---- */

static void index_identities(struct access_making *mk)
{
	const struct access *a = mk->access;

	mk->principals = arena_array(&mk->temp, a->identity_nr, sizeof(*mk->principals));
	index_init(&mk->by_account, &mk->temp, a->identity_nr);
	index_init(&mk->by_ns, &mk->temp, a->identity_nr);
	for (uint32_t i = 1; i < a->identity_nr; i++) {
		const struct u_identity *id = &a->identities[i];

		mk->principals[i] = arena_printf(&mk->temp, "%.*s/ns/%.*s/sa/%.*s", STR_ARG(mk->trust_domain),
						 STR_ARG(id->ns), STR_ARG(id->account));
		index_add(&mk->by_account, index_hash2(id->ns, id->account), i);
		index_add(&mk->by_ns, str_hash(id->ns), i);
	}
	index_seal(&mk->by_account, &mk->temp);
	index_seal(&mk->by_ns, &mk->temp);
}

/* Into the arena, from memory that grew. */
static void *keep(struct arena *arena, void *v, size_t nr, size_t size)
{
	void *kept = nr ? memcpy(arena_array(arena, nr, size), v, nr * size) : NULL;

	free(v);
	return kept;
}

static void add_programs(struct access_making *mk, const uint32_t *of)
{
	struct access *a = mk->access;
	uint32_t nr = mk->b->world->workload_nr;
	bool *members = arena_array(&mk->temp, nr, sizeof(*members));
	struct guarded *guarded = arena_array(&mk->temp, nr, sizeof(*guarded));

	mk->live = arena_array(&mk->temp, (a->identity_nr + 63) / 64, sizeof(*mk->live));
	mk->live[0] = 1;
	for (uint32_t i = 0; i < a->member_nr; i++) {
		members[of[i]] = true;
		mk->live[a->members[i].identity / 64] |= 1ull << a->members[i].identity % 64;
	}
	index_identities(mk);
	access_select(mk, members, guarded);
	for (uint32_t i = 0; i < a->member_nr; i++) {
		a->members[i].program = guarded[of[i]].program;
		a->members[i].shadow = guarded[of[i]].shadow;
		a->members[i].relayed = guarded[of[i]].relayed;
	}
	a->programs = keep(&a->arena, a->programs, a->program_nr, sizeof(*a->programs));
	a->terms = keep(&a->arena, a->terms, a->term_nr, sizeof(*a->terms));
	a->bits = keep(&a->arena, a->bits, a->bit_nr, sizeof(*a->bits));
	a->guards = keep(&a->arena, a->guards, a->guard_nr, sizeof(*a->guards));
}

/* ---- the whole ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ (h >> 29);
}

static uint64_t mix_str(uint64_t h, struct str s)
{
	return mix(h, str_hash(s));
}

static uint64_t hash_of(const struct access *a)
{
	uint64_t h = mix_str(mix(a->member_nr, a->identity_nr), a->trust_domain);
	struct buf rules = { 0 };

	for (uint32_t i = 0; i < a->identity_nr; i++)
		h = mix_str(mix_str(h, a->identities[i].ns), a->identities[i].account);
	for (uint32_t i = 0; i < a->member_nr; i++) {
		const struct u_member *m = &a->members[i];

		h = mix_str(mix_str(h, m->workload), m->node);
		h = mix_str(h, (struct str){ (const char *)m->addr.b, sizeof(m->addr.b) });
		h = mix(mix(mix(mix(h, m->identity), m->program), m->shadow), m->relayed);
	}
	for (uint32_t i = 0; i < a->policy_nr; i++) {
		const struct u_policy *p = &a->policies[i];

		h = mix_str(mix_str(mix_str(mix_str(h, p->kind), p->ns), p->name), p->file);
		h = mix(h, (uint64_t)p->line << 3 | p->deny << 2 | p->dry_run << 1 | p->needs_l7);
		buf_clear(&rules);
		access_rules_print(p, &rules);
		h = mix_str(h, (struct str){ rules.data, (uint32_t)rules.len });
	}
	buf_release(&rules);
	for (uint32_t i = 0; i < a->program_nr; i++)
		h = mix(mix(h, a->programs[i].hash), a->programs[i].guard_nr);
	for (uint32_t i = 0; i < a->guard_nr; i++)
		h = mix(h, a->guards[i]);
	return h;
}

struct access *access_build(struct build *b, const struct snapshot_options *opts, const struct access *prev)
{
	struct access *a = xcalloc(1, sizeof(*a));
	struct access_making mk = { .b = b, .access = a };
	uint32_t *of;

	a->refs = 1;
	mk.trust_domain = opts->trust_domain.len ? opts->trust_domain : STR("cluster.local");
	a->trust_domain = arena_str(&a->arena, mk.trust_domain);
	of = add_members(a, b->world, prev);
	add_programs(&mk, of);
	free(of);
	arena_release(&mk.temp);
	a->hash = hash_of(a);
	return a;
}
