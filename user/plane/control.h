/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket: unix stream, one request (base/wire.h), one reply, then close. Knows frames, clients, limits and deadlines; what
 * a request means is the handler's business. Nothing a client does blocks the loop or makes memory grow without bound.
 */
#ifndef PLANE_CONTROL_H
#define PLANE_CONTROL_H

#include "base/loop.h"
#include "base/wire.h"

#define CONTROL_CLIENTS_MAX 64

struct control;

/* Answers a whole frame: `reply` is empty and gets a frame. */
typedef void (*control_fn)(void *data, const struct wire_header *h, struct str body, struct buf *reply);

/*
 * Listens on `path`: mode 0660, owner root, group `group` ("" for root's). What another meshd left there is replaced, one that still
 * listens is -EADDRINUSE. 0 or -errno with a sentence in err.
 */
int control_new(struct loop *l, const char *path, const char *group, control_fn fn, void *data, struct control **ret,
		struct buf *err);
/* Closes all clients and removes the socket. NULL is fine. */
void control_free(struct control *c);

#endif
