/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ends connections that the live policies forbid. Those that are tracked at links are asked about again when their next packet comes, by
 * the epoch in mesh_control; sockets of pods are found and destroyed at once, by the program that finds them or, where the kernel does not
 * let it, by sock_diag. Decides nothing: the verdicts are the kernel's.
 */
#include <errno.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "base/log.h"
#include "plane/plane_int.h"

void cut_choose(struct plane *p)
{
	p->cut_by = CUT_BY_LINKS;
	if (!p->sock_diag && libbpf_find_vmlinux_btf_id("bpf_sock_destroy", BPF_TRACE_FENTRY) > 0)
		p->cut_by = CUT_BY_PROGRAM;
	else if (sockdiag_destroys())
		p->cut_by = CUT_BY_SOCK_DIAG;
}

const char *cut_text(const struct plane *p)
{
	if (!p->cut)
		return NULL;
	if (p->iter_fd[PLANE_ITER_CUT_CLIENT] < 0)
		return "links";
	return p->cut_by == CUT_BY_PROGRAM ? "bpf_sock_destroy" : "sock_diag";
}

void cut_init(struct plane *p)
{
	uint32_t flags = p->control->flags & ~(uint32_t)MESH_CONTROL_CUT;

	__atomic_store_n(&p->control->cut_epoch, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&p->control->flags, flags | (p->cut ? MESH_CONTROL_CUT : 0), __ATOMIC_RELAXED);
}

static int destroy(void *data, int netns_fd, const char *out, size_t len)
{
	const struct plane *p = data;

	return sockdiag_destroy(p->pods.own_netns_fd, netns_fd, (const void *)out, len / sizeof(struct mesh_victim));
}

static void cut_sockets(struct plane *p)
{
	static const enum plane_iter_id ids[] = { PLANE_ITER_CUT_CLIENT, PLANE_ITER_CUT_UDP, PLANE_ITER_CUT_SERVER };
	const struct podsocks what = { .ids = ids, .id_nr = sizeof(ids) / sizeof(*ids), .wrote = destroy, .data = p };
	int rc;

	/* Whoever asked the policies before they changed has answered by now. */
	barrier_wait(p);
	rc = podsocks_run(p, &what);
	if (rc)
		log_warn("cannot cut all connections of a pod that policies forbid error=%s", strerror(-rc));
}

void cut_forbidden(struct plane *p, uint64_t epoch)
{
	if (!p->cut)
		return;
	__atomic_store_n(&p->control->cut_epoch, epoch, __ATOMIC_RELEASE);
	if (p->iter_fd[PLANE_ITER_CUT_CLIENT] >= 0)
		cut_sockets(p);
}
