/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What meshd and meshl7 say to each other: messages over a SOCK_SEQPACKET pair, file descriptors beside them (SCM_RIGHTS). meshl7 is
 * started with its end as descriptor 3 and knows nothing else. Whoever reads checks the length.
 */
#ifndef MESH_L7_H
#define MESH_L7_H

#include <linux/types.h>

#define MESH_L7_FD 3
#define MESH_L7_PROTOCOL 1
#define MESH_L7_WORKERS_MAX 64
#define MESH_L7_DRAIN_MS 30000

enum mesh_l7_type {
	/* meshd -> meshl7 */
	MESH_L7_LISTENERS = 1, /* fds: one listening socket for each worker, non-blocking; `arg`: MESH_L7_PROTOCOL, and
				  enum mesh_l7_listen. First message, once */
	/* fd: sealed memfd, struct mesh_http; `arg`: its epoch. Holds for requests that begin from now on; the first lets it serve */
	MESH_L7_RULES,
	MESH_L7_STATS, /* fd: shared memory of struct mesh_l7_stats, writable */
	MESH_L7_LOG,   /* fd: where access logs go, a pipe or file; `arg`: enum mesh_l7_log */
	MESH_L7_DRAIN, /* accept nothing more, end after the last request or `arg` milliseconds. SIGTERM: MESH_L7_DRAIN_MS */
	/* meshl7 -> meshd */
	MESH_L7_READY,	 /* it is in its sandbox and serves; `arg`: number of workers */
	MESH_L7_APPLIED, /* `arg`: epoch of the rules that hold now */
	MESH_L7_REFUSED, /* rules that do not hold together; the ones before stay. text: why */
	MESH_L7_EJECTED, /* text: "cluster address:port", `arg`: milliseconds; for people and `meshctl endpoints` */
};

enum mesh_l7_listen {
	MESH_L7_BIND_CLIENT = 1 << 16, /* sockets to endpoints get the client's address */
	MESH_L7_PAST_TCP =
		1 << 17, /* what comes may do so past TCP: a read may give less than there is, and splice() nothing */
};

enum mesh_l7_log { MESH_L7_LOG_TEXT, MESH_L7_LOG_JSON };

struct mesh_l7_msg {
	__u32 type; /* enum mesh_l7_type */
	__u32 len;  /* of text */
	__u64 arg;
	char text[240];
};

#endif
