/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of mesh_abi.h that is about acceleration: ends of connections between pods of one node. Included by that alone. */
#ifndef MESH_ENDS_H
#define MESH_ENDS_H

enum mesh_accelerate { MESH_ACCELERATE_OFF = 1, MESH_ACCELERATE_AUTO = 2, MESH_ACCELERATE_ON = 3 };

/* In mesh_control. */
struct mesh_limits {
	__u32 message;	/* bytes one way that are no bulk yet */
	__u32 held;	/* bytes of a direction that may wait for their reader */
	__u32 pod_ends; /* sockets of one pod */
	__u32 loopback; /* 1: connections inside of pods, too */
	__u32 waiting;	/* how many ends only the iterator could bring a step further, ever; written by the programs */
	__u32 pad;
	__u64 parser; /* cookie of the parser's network namespace; 0: its connections stay on TCP */
};
_Static_assert(sizeof(struct mesh_limits) == 32, "mesh_limits");

/* clang-format off */

/*
 * Why an end of a connection between pods of this node is not accelerated: X(name, label, text). The text completes "not accelerated:".
 */
#define MESH_WHYS(X)                                                                                          \
	X(NONE,      "none",      "nothing speaks against it")                                                \
	X(OFF,       "off",       "settings or annotations say so")                                           \
	X(ELSEWHERE, "elsewhere", "the other end is no pod of this node")                                     \
	X(LOOPBACK,  "loopback",  "inside one pod, and accelerate-loopback is off")                           \
	X(NAMESPACE, "namespace", "between namespaces, which takes accelerate: on at both ends")              \
	X(BLOCKING,  "blocking",  "it is read by calls that block")                                           \
	X(FLAGS,     "flags",     "it is read with MSG_WAITALL, MSG_OOB, MSG_TRUNC or MSG_ERRQUEUE")           \
	X(THREADS,   "threads",   "several threads read or write it")                                         \
	X(UNSEEN,    "unseen",    "it is read in ways that recv() does not tell of, such as splice()")         \
	X(OPTION,    "option",    "it has SO_RCVLOWAT, SO_ZEROCOPY, a filter, timestamps, TCP_INQ, a ULP or MPTCP") \
	X(BULK,      "bulk",      "it moves bulk, not requests and responses")                                \
	X(FULL,      "full",      "as many sockets are accelerated as may be")                                 \
	X(EDGES,     "edges",     "epoll tells its program of it by edges, which reads past where bytes of one way end") \
	X(ENDING,    "ending",    "one side has shut it down, or has begun to")                                \
	X(CENSUS,    "census",    "its program is still to be looked at")                                      \
	X(SPLICES,   "splices",   "its program may splice, or cannot be told not to")                           \
	X(PARSER,    "parser",    "with meshl7, which takes accelerate: on")
#define X(name, ...) MESH_WHY_##name,
enum mesh_why { MESH_WHYS(X) MESH_WHY_NR };
#undef X

/* Where such an end stands: X(name, label). */
#define MESH_END_STATES(X)                                                                \
	X(NONE,     "none")                                                               \
	X(LEFT,     "tcp")      /* on TCP, and nothing is to change about that: see why */ \
	X(WATCHED,  "watched")  /* on TCP; how it is used is observed */                   \
	X(OFFERED,  "offered")  /* fit for it, and waits for the other end */              \
	X(MATCHED,  "matched")  /* knows the other end; goes into the sockhash next */     \
	X(ENTERING, "entering") /* is being put there */                                   \
	X(ENROLLED, "enrolled") /* there, and must come back from recv() once */           \
	X(READY,    "ready")    /* takes bytes past TCP */                                 \
	X(LEAVING,  "leaving")  /* takes no more, and goes when it has read them all */
#define X(name, ...) MESH_END_##name,
enum mesh_end_state { MESH_END_STATES(X) MESH_END_STATE_NR };
#undef X

/* clang-format on */

/*
 * One end of a TCP connection between two pods of this node: socket storage. Its own socket's system calls write it; the other end's read
 * it, by its address in the kernel. Whether it is still there, and still the same socket's, the cookies tell.
 */
struct mesh_end {
	__u32 state;  /* enum mesh_end_state */
	__u32 copied; /* copied_seq when recv() last returned */
	__u64 cookie; /* of the socket, */
	__u64 sk;     /* its address in the kernel, and this record's */
	__u64 self;
	__u64 netns_cookie;
	__u64 epoch;	   /* in which it was judged */
	__u64 peer_cookie; /* of the other end; 0: not matched */
	__u64 peer_sk, peer_self;
	__u64 redirected;     /* bytes that this end sent past TCP, */
	__u64 past;	      /* and that recv() has returned more than TCP had for it */
	__u64 reader, writer; /* threads, 0: none yet */
	__u32 redirect_seq;   /* write_seq when the last bytes went past TCP */
	__u32 run;	      /* bytes sent since the other side was last heard */
	__u32 held;	      /* what went past TCP and may not have been read; small messages count more */
	__u32 turns;	      /* requests and responses seen */
	__u32 ns_id;
	__u8 redirecting; /* nothing has gone by TCP since redirect_seq */
	__u8 last_sent;	  /* the last call that moved bytes was a send */
	__u8 mode;	  /* enum mesh_accelerate: the more careful of both ends' once they are matched */
	__u8 why;	  /* enum mesh_why */
	__u8 seen;	  /* enum mesh_why, 0: what would speak against it in `auto` */
	__u8 times;	  /* that it was taken out for bulk */
	__u8 loopback;
	__u8 bulk;	/* what goes by TCP takes both ends out: it is too much, or netfilter is to see it */
	__u32 counted;	/* 1: in mesh_pod_ends */
	__u8 no_splice; /* its pod's programs are known not to */
	__u8 parser;	/* it is, or speaks with, the parser */
	__u16 by_tcp; /* when it last sent something by TCP, in MESH_END_TICKs; 0: not since it was put among those that go past it */
	__u64 told_redirected, told_past; /* of a client of the parser: what the record of its connection has of them */
};
_Static_assert(sizeof(struct mesh_end) == 160, "mesh_end");
#define MESH_END_TICK(ns) ((__u16)((ns) >> 30))
/* For so long it goes past TCP alone: longer than packets take shortcuts, so that what it sends then takes the node's own way. */
#define MESH_END_LEASE (MESH_SHORTCUT_LEASE_S + 1)

/*
 * A program that a pod runs, whatever its processes: its file as the kernel has it. Key of mesh_exes; value: enum mesh_census. Asked about
 * by a struct mesh_ask in mesh_asks.
 */
enum mesh_census { MESH_CENSUS_ASKED, MESH_CENSUS_CLEAR, MESH_CENSUS_SPLICES };
struct mesh_exe_key {
	__u64 netns_cookie;
	__u64 ino;
	__u64 size;
	__u32 dev;
	__u32 generation;
};
_Static_assert(sizeof(struct mesh_exe_key) == 32, "mesh_exe_key");
struct mesh_ask {
	struct mesh_exe_key key;
	__u64 started_ns; /* since boot */
	__u32 pid;	  /* of a process that runs it */
	__u32 pad;
};
_Static_assert(sizeof(struct mesh_ask) == 48, "mesh_ask");

/* An end that looks for the other one. Key and value of mesh_suitors. */
struct mesh_suitor_key {
	struct mesh_addr local, remote;
	__be16 local_port_be, remote_port_be;
	__u32 parser;	    /* 1: one of them is the parser */
	__u64 netns_cookie; /* of connections inside a pod; 0 otherwise */
};
_Static_assert(sizeof(struct mesh_suitor_key) == 48, "mesh_suitor_key");
struct mesh_suitor {
	__u64 cookie, sk, self;
	__u32 ns_id;
	__u32 mode;
};
_Static_assert(sizeof(struct mesh_suitor) == 32, "mesh_suitor");

#endif
