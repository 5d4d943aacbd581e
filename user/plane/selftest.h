/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The self-test of acceleration: what a program sees of a connection that was moved past TCP on this very kernel, measured with sockets of
 * a network namespace of their own through the programs and maps that serve the pods. A child process measures; the daemon enrols the
 * namespace, and reads the outcome when it comes.
 */
#ifndef PLANE_SELFTEST_H
#define PLANE_SELFTEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One row a semantic: X(name, label). Order, drain and back-pressure decide whether anything is accelerated. */
#define SEMANTICS(X)                       \
	X(ORDER, "order")                  \
	X(DRAIN, "drain")                  \
	X(BACK_PRESSURE, "back_pressure")  \
	X(FIONREAD_TCP, "fionread_by_tcp") \
	X(FIONREAD_PAST, "fionread_past")  \
	X(SPLICE, "splice")                \
	X(RCVLOWAT, "rcvlowat")            \
	X(WAITALL, "waitall")              \
	X(PEEK, "peek")                    \
	X(ZEROCOPY, "zerocopy")            \
	X(EPOLL_LEVEL, "epoll_level")      \
	X(EPOLL_EDGE, "epoll_edge")        \
	X(SIGNAL, "signal")                \
	X(DUPLEX, "duplex")                \
	X(RESET_ERRNO, "reset_errno")      \
	X(SHUTDOWN, "send_after_shutdown") \
	X(URGENT, "urgent")                \
	X(HALF_CLOSE, "half_close")        \
	X(RESET, "reset")                  \
	X(CLOSE_UNREAD, "close_unread")
#define X(name, label) SEMANTIC_##name,
enum semantic { SEMANTICS(X) SEMANTIC_NR };
#undef X
#define SEMANTIC_DECIDING_NR (SEMANTIC_BACK_PRESSURE + 1)

#define SELFTEST_TEXT_LEN 96

/* What the child says of a semantic; text is empty: not measured, "same", or what differs. */
struct selftest_report {
	uint32_t semantic; /* enum semantic */
	char text[SELFTEST_TEXT_LEN];
};

/* What the child is given; the fds are the plane's. */
struct selftest_job {
	int iter_fd;	 /* link of the iterator that takes ends in and out */
	int pod_ends_fd; /* mesh_pod_ends */
	int fd;		 /* says the cookie of its network namespace, hears when that is enrolled, and reports */
	uint32_t slow;	 /* times that it was too slow before: it may take twice as long each */
};

/* The child. Never returns; whatever hangs, it is over in two seconds, or as often twice that as it was too slow. */
_Noreturn void selftest_child(const struct selftest_job *job);

/* ---- between the files of the child ---- */

#define NOT_MEASURED ""

/* A connection between two sockets of the process. */
struct pair {
	int a, b; /* who dialled, who was dialled */
};

struct trial {
	const struct selftest_job *job;
	uint64_t cookie;      /* of the namespace */
	uint64_t deadline_ns; /* of the semantic that is being measured */
	struct pair p;
};

/* A semantic: NULL where it is as TCP's, NOT_MEASURED, or what differs. The pair is closed afterwards. */
typedef const char *semantic_fn(struct trial *t);
extern semantic_fn *const semantic_fns[SEMANTIC_NR];

uint64_t trial_now_ns(void);
int trial_left_ms(const struct trial *t); /* until the deadline */
bool trial_open(struct trial *t);	  /* a new pair, by TCP */
void trial_close(struct trial *t);
/* The same, which has moved past TCP in both directions, both ends used by the calling thread. */
bool trial_warm(struct trial *t);
/* How bytes were sent by one call that does not sleep; TRIAL_NO_WAY: they, or some, were not. */
enum trial_way { TRIAL_NO_WAY, TRIAL_TCP, TRIAL_PAST };
enum trial_way trial_put(int fd, const void *bytes, uint32_t nr);
/* TRIAL_MOST bytes at most; whether they went the way that is asked for. */
#define TRIAL_MOST 65536
bool trial_send(struct trial *t, int fd, uint32_t nr, enum trial_way way);
/* What comes next is sent by TCP to this socket, which stays what it is. */
void trial_by_tcp(int fd, bool on);
bool trial_await(const struct trial *t, int fd, short events);
/* The thread sleeps in that system call. */
bool trial_sleeps(pid_t tid, long call);
/* Takes ends in and out that are due. */
void trial_step(struct trial *t);

/* A second thread that owns end b from its first byte on. */
struct reader;
/* Warms up with such a thread as the reader and writer of b, which then makes the call. NULL: not past TCP. */
struct reader *reader_start(struct trial *t, long (*call)(int fd));
bool reader_sleeps(struct trial *t,
		   struct reader *r); /* waits until it sleeps in its call; false: it has come back, or does neither */
void reader_woken(struct trial *t, struct reader *r); /* waits until it was woken, and sleeps again or has come back */
void reader_signal(struct reader *r);
/* Its result, -errno where that is one; where it does not come back in time, the connection is shut down for it. */
long reader_result(struct trial *t, struct reader *r);

#endif
