/* SPDX-License-Identifier: BSD-2-Clause */
/* One message of mesh_l7.h and the file descriptors beside it. Neither call waits. */
#ifndef BASE_L7LINK_H
#define BASE_L7LINK_H

#include "base/str.h"
#include "mesh_l7.h"

/* Text beyond the message's room is cut. fds stay the caller's. 0; -EAGAIN: the other side is not reading; or -errno. */
int l7link_send(int fd, enum mesh_l7_type type, uint64_t arg, struct str text, const int *fds, uint32_t nr);

/*
 * 1: a message, its descriptors (close-on-exec, owned by the caller, at most MESH_L7_WORKERS_MAX) in ret_fds; 0: the other side is gone;
 * -EAGAIN: there is none; -EPROTO: not one of ours; or -errno.
 */
int l7link_recv(int fd, struct mesh_l7_msg *ret, int *ret_fds, uint32_t *ret_nr);

#endif
