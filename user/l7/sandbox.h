/* SPDX-License-Identifier: BSD-2-Clause */
/* What meshl7 gives up before it reads the first byte of anybody. */
#ifndef L7_SANDBOX_H
#define L7_SANDBOX_H

#include <sys/types.h>

#include "base/str.h"

struct sandbox {
	uid_t uid;
	gid_t gid;
	uint64_t memory; /* bytes of its own that the process may have; 0: any number */
};

/*
 * As root: a root directory that is empty and cannot be written, the ids of `s` without further groups, no capability, none to be had.
 * Always: no new privileges, no core dump, every descriptor above the link closed, and a filter of system calls: sockets of TCP alone, nothing
 * that opens, executes, traces or listens. Threads that are started later are in it too. 0 or -errno with a sentence in err. Who is not
 * root keeps its root directory and its ids: *ret_partly says so.
 */
int sandbox_enter(const struct sandbox *s, bool *ret_partly, struct buf *err);

#endif
