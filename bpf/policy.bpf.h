/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs policy programs (struct mesh_term). The programs come from user/config/access.c, which also runs them on the host.
 */
#ifndef BPF_POLICY_H
#define BPF_POLICY_H

#include "decide.bpf.h"
#include "maps.bpf.h"

/* A run of one program. */
struct policy_run {
	struct mesh_subject subject;
	__u32 first;   /* term of the program */
	__u32 at;      /* next step */
	__u32 verdict; /* enum mesh_verdict */
	__u32 policy_id;
};

static __always_inline int identity_hits(const struct mesh_term *t, __u32 identity)
{
	__u32 word = identity / 64, at;
	__u64 *bits;

	if (word >= t->nr)
		return 0;
	at = t->arg + word;
	bits = bpf_map_lookup_elem(&mesh_bits, &at);
	return bits && *bits >> (identity % 64) & 1;
}

/* One step; 1 ends the loop. */
static long policy_step(__u32 i, struct policy_run *run)
{
	__u32 at = run->first + run->at;
	struct mesh_term *t = bpf_map_lookup_elem(&mesh_terms, &at);
	int hit;

	(void)i;
	if (!t)
		return 1;
	if (t->op == MESH_OP_ALLOW || t->op == MESH_OP_DENY) {
		run->verdict = t->op;
		run->policy_id = t->arg;
		return 1;
	}
	hit = t->op == MESH_OP_IDENTITY ? identity_hits(t, run->subject.identity) : mesh_term_hits(t, &run->subject);
	run->at = hit ? t->hit : t->miss;
	return 0;
}

/* The verdict of the program at `first`. A program without an end, which user space never writes, denies. */
static __always_inline __u32 policy_verdict(struct policy_run *run, __u32 first)
{
	run->first = first;
	run->at = 0;
	run->verdict = MESH_VERDICT_NONE;
	run->policy_id = 0;
	bpf_loop(MESH_TERMS_MAX, policy_step, run, 0);
	return run->verdict == MESH_VERDICT_ALLOW ? MESH_VERDICT_ALLOW : MESH_VERDICT_DENY;
}

static __always_inline void policy_count(__u32 policy_id, int shadow, __u32 verdict)
{
	struct mesh_policy_hits *hits = policy_id ? bpf_map_lookup_elem(&mesh_policies, &policy_id) : NULL;

	if (!hits)
		return;
	if (shadow)
		__sync_fetch_and_add(verdict == MESH_VERDICT_ALLOW ? &hits->would_allow : &hits->would_deny, 1);
	else
		__sync_fetch_and_add(verdict == MESH_VERDICT_ALLOW ? &hits->allowed : &hits->denied, 1);
}

/* The program for connections to `server`, of the parser or of others. */
static __always_inline __u32 policy_of(const struct mesh_workload *server, int relayed)
{
	return relayed && server->relayed ? server->relayed : server->policy;
}

/*
 * May this connection reach `server`? run->subject is filled by the caller. MESH_REASON_NONE: yes; otherwise the reason why not. The
 * policy that said so is in run->policy_id.
 */
static __always_inline __u16 policy_check(struct policy_run *run, const struct mesh_workload *server, int relayed)
{
	__u32 verdict;

	if (server->shadow) {
		verdict = policy_verdict(run, server->shadow);
		policy_count(run->policy_id, 1, verdict);
	}
	run->policy_id = 0;
	if (!server->policy)
		return MESH_REASON_NONE;
	verdict = policy_verdict(run, policy_of(server, relayed));
	policy_count(run->policy_id, 0, verdict);
	if (verdict == MESH_VERDICT_ALLOW)
		return MESH_REASON_NONE;
	return run->policy_id ? MESH_REASON_DENIED : MESH_REASON_DENIED_DEFAULT;
}

#endif
