/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ends connections that the live policies forbid. Those that are tracked at links are asked about again when their next packet comes, by
 * the epoch in mesh_control; sockets of pods are found and destroyed at once. Decides nothing: the verdicts are the kernel's.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "plane/plane_int.h"

void cut_init(struct plane *p)
{
	uint32_t flags = p->control->flags & ~(uint32_t)MESH_CONTROL_CUT;

	__atomic_store_n(&p->control->cut_epoch, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&p->control->flags, flags | (p->cut ? MESH_CONTROL_CUT : 0), __ATOMIC_RELAXED);
}

static void cut_sockets(struct plane *p)
{
	static const enum plane_iter_id ids[] = { PLANE_ITER_CUT_CLIENT, PLANE_ITER_CUT_UDP, PLANE_ITER_CUT_SERVER };
	int rc;

	/* Whoever asked the policies before they changed has answered by now. */
	barrier_wait(p);
	rc = podsocks_run(p, ids, sizeof(ids) / sizeof(*ids), NULL, NULL);
	if (rc)
		log_warn("cannot look through the sockets of a pod for connections to be cut error=%s", strerror(-rc));
}

void cut_forbidden(struct plane *p, uint64_t epoch)
{
	if (!p->cut)
		return;
	__atomic_store_n(&p->control->cut_epoch, epoch, __ATOMIC_RELEASE);
	if (p->iter_fd[PLANE_ITER_CUT_CLIENT] >= 0)
		cut_sockets(p);
}
