/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs run on the host, step for step as bpf/policy.bpf.h does, and programs as text. */
#include <stdlib.h>

#include "config/access_local.h"

/* ---- run ---- */

static bool identity_hits(const struct access *a, const struct u_program *p, const struct u_term *t, uint32_t identity)
{
	uint32_t word = identity / 64;

	return word < t->nr && a->bits[p->bit + t->arg + word] >> identity % 64 & 1;
}

struct access_verdict access_ask(const struct access *a, uint32_t program, uint32_t identity, const struct addr *source,
				 const struct addr *server, uint16_t port)
{
	const struct u_program *p;

	if (!program)
		return (struct access_verdict){ .allowed = true };
	p = &a->programs[program - 1];
	for (uint32_t at = 0; at < p->term_nr;) {
		const struct u_term *t = &a->terms[p->term + at];
		bool hit = false;

		switch (t->op) {
		case MESH_OP_ALLOW:
		case MESH_OP_DENY:
			return (struct access_verdict){ .allowed = t->op == MESH_OP_ALLOW,
							.policy = t->arg && t->rule != NO_RULE
									  ? &a->policies[t->arg - 1]
									  : NULL,
							.rule = t->rule == NO_RULE ? 0 : t->rule };
		case MESH_OP_IDENTITY:
			hit = identity_hits(a, p, t, identity);
			break;
		case MESH_OP_SOURCE:
			hit = addr_in(source, &t->addr, (uint8_t)t->nr);
			break;
		case MESH_OP_DESTINATION:
			hit = addr_in(server, &t->addr, (uint8_t)t->nr);
			break;
		case MESH_OP_PORT:
			hit = port >= t->arg && port <= t->nr;
			break;
		}
		at = hit ? t->hit : t->miss;
	}
	return (struct access_verdict){ 0 };
}

/* ---- show ---- */

static void print_policy(const struct u_policy *p, struct buf *out)
{
	buf_printf(out, "%.*s %.*s/%.*s", STR_ARG(p->kind), STR_ARG(p->ns), STR_ARG(p->name));
}

static int by_name(const void *a, const void *b)
{
	const struct u_identity *x = *(const struct u_identity *const *)a, *y = *(const struct u_identity *const *)b;
	int c = str_cmp(x->ns, y->ns);

	return c ? c : str_cmp(x->account, y->account);
}

/* By name: numbers tell in which order they came. */
static void print_identities(const struct access *a, const struct u_program *p, const struct u_term *t, struct buf *out)
{
	const struct u_identity **v = xcalloc(a->identity_nr, sizeof(*v));
	uint32_t nr = 0;

	for (uint32_t i = 0; i < a->identity_nr; i++)
		if (identity_hits(a, p, t, i))
			v[nr++] = &a->identities[i];
	qsort(v, nr, sizeof(*v), by_name);
	buf_str(out, nr ? STR("identity") : STR("identity of nobody"));
	for (uint32_t i = 0; i < nr; i++)
		if (v[i] == a->identities)
			buf_str(out, STR(" none"));
		else
			buf_printf(out, " %.*s/%.*s", STR_ARG(v[i]->ns), STR_ARG(v[i]->account));
	free(v);
}

static void print_net(const struct u_term *t, const char *what, struct buf *out)
{
	char text[ADDR_TEXT_MAX];
	bool v4 = addr_is_v4(&t->addr) && t->nr >= 96;

	buf_printf(out, "%s %s/%u", what, addr_text(&t->addr, text), v4 ? t->nr - 96 : t->nr);
}

static void print_term(const struct access *a, const struct u_program *p, uint32_t at, struct buf *out)
{
	const struct u_term *t = &a->terms[p->term + at];

	buf_printf(out, "    %u ", at);
	switch (t->op) {
	case MESH_OP_ALLOW:
	case MESH_OP_DENY:
		buf_str(out, t->op == MESH_OP_ALLOW ? STR("allow") : STR("deny"));
		if (t->arg) {
			buf_str(out, STR(" by "));
			print_policy(&a->policies[t->arg - 1], out);
			if (t->rule != NO_RULE)
				buf_printf(out, " rule %u", t->rule);
		}
		buf_str(out, STR("\n"));
		return;
	case MESH_OP_IDENTITY:
		print_identities(a, p, t, out);
		break;
	case MESH_OP_SOURCE:
		print_net(t, "source", out);
		break;
	case MESH_OP_DESTINATION:
		print_net(t, "destination", out);
		break;
	case MESH_OP_PORT:
		buf_printf(out, "port %u", t->arg);
		if (t->nr != t->arg)
			buf_printf(out, "-%u", t->nr);
		break;
	}
	buf_printf(out, ": %u, else %u\n", t->hit, t->miss);
}

void access_print(const struct access *a, struct buf *out)
{
	char text[ADDR_TEXT_MAX];

	for (uint32_t i = 0; i < a->program_nr; i++) {
		const struct u_program *p = &a->programs[i];

		buf_printf(out, "program %u\n", i + 1);
		for (uint32_t k = 0; k < p->guard_nr; k++) {
			const struct u_policy *policy = &a->policies[a->guards[p->guard + k]];

			buf_str(out, STR("  of "));
			print_policy(policy, out);
			buf_printf(out, "%s%s\n", policy->dry_run ? " dry-run" : "",
				   policy->needs_l7 ? " stricter than written" : "");
		}
		for (uint32_t k = 0; k < p->term_nr; k++)
			print_term(a, p, k, out);
	}
	for (uint32_t i = 0; i < a->policy_nr; i++)
		access_rules_print(&a->policies[i], out);
	for (uint32_t i = 0; i < a->member_nr; i++) {
		const struct u_member *m = &a->members[i];

		if (!m->program && !m->shadow)
			continue;
		buf_printf(out, "member %s %.*s", addr_text(&m->addr, text), STR_ARG(m->workload));
		if (m->program)
			buf_printf(out, " program %u", m->program);
		if (m->relayed)
			buf_printf(out, " relayed %u", m->relayed);
		if (m->shadow)
			buf_printf(out, " shadow %u", m->shadow);
		buf_str(out, STR("\n"));
	}
}
