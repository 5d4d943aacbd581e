/* SPDX-License-Identifier: BSD-2-Clause */
/* Random policies, compiled and run on the host, against the evaluator of their words. */
#include "compiled.h"
#include "random_policies.h"

#define ROUNDS 4000

static uint32_t ask(const struct compiled *c, const struct world_of_words *w, const char *source,
		    const struct words_pod *client, const struct words_pod *server, const char *text)
{
	const struct access *a = c->snapshot->access;
	struct addr from, to;
	const struct u_member *m, *who;
	uint32_t denied = 0;

	CHECK(addr_parse(str_of(source), &from) && addr_parse(str_of(server->ip), &to));
	m = access_member(a, &to);
	who = access_member(a, &from);
	CHECK(m && !who == !client);
	for (uint32_t i = 0; i < NR(probes); i++) {
		struct question q = { client, source, server, probes[i], NULL };

		for (int dry = 0; dry < 2; dry++) {
			struct access_verdict v = access_ask(a, dry ? m->shadow : m->program, who ? who->identity : 0,
							     &from, &to, probes[i]);
			bool want = allowed(w, &q, dry);

			CHECK_MSG(v.allowed == want, "%s -> %s:%u%s: got %d, want %d\n%s", source, server->ip,
				  probes[i], dry ? " (dry run)" : "", v.allowed, want, text);
			denied += !want;
		}
	}
	return denied;
}

/* Jumps lead forward and stay inside; the last step is a verdict. */
static void check_shape(const struct access *a)
{
	for (uint32_t i = 0; i < a->program_nr; i++) {
		const struct u_program *p = &a->programs[i];

		for (uint32_t k = 0; k < p->term_nr; k++) {
			const struct u_term *t = &a->terms[p->term + k];

			if (t->op == MESH_OP_ALLOW || t->op == MESH_OP_DENY)
				continue;
			CHECK_MSG(t->hit > k && t->miss > k && t->hit < p->term_nr && t->miss < p->term_nr,
				  "step %u leads to %u and %u of %u", k, t->hit, t->miss, p->term_nr);
			CHECK(t->op != MESH_OP_IDENTITY || t->arg + t->nr <= p->bit_nr);
		}
	}
}

TEST(random_policies)
{
	struct buf text = { 0 };
	uint64_t denied = 0, asked = 0;

	words_state = 0x9e3779b97f4a7c15ull;
	for (uint32_t round = 0; round < ROUNDS && !test_bad; round++) {
		struct world_of_words w;
		struct compiled c;

		make_words(&w, &text);
		c = compiled_from(text.data);
		CHECK_MSG(!c.rc && !c.batch.refused, "refused: %s\n%s",
			  c.batch.diags.nr ? c.batch.diags.items[0].message.p : "", text.data);
		check_shape(c.snapshot->access);
		if (test_bad) {
			compiled_release(&c);
			break;
		}
		for (uint32_t s = 0; s < 3 && !c.rc; s++) {
			const struct words_pod *server = &pods[below(NR(pods))], *client = &pods[below(NR(pods))];
			const char *stranger = strangers[below(NR(strangers))];

			denied += ask(&c, &w, client->ip, client, server, text.data);
			denied += ask(&c, &w, stranger, NULL, server, text.data);
			asked += 4 * NR(probes);
		}
		compiled_release(&c);
	}
	/* Neither answer is rare. */
	CHECK_MSG(denied * 10 > asked && denied * 2 < asked, "%llu of %llu denied", (unsigned long long)denied,
		  (unsigned long long)asked);
	buf_release(&text);
}
