/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets in memory and a clock that is told the time, in place of those of the system: included before every file that is to use them
 * (-include), it renames the calls. One epoll, one thread; whoever plays the other ends does so from fake_hook, each time the thread waits.
 */
#ifndef TESTS_FUZZ_FAKE_SOCKETS_H
#define TESTS_FUZZ_FAKE_SOCKETS_H

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FAKE_FIRST 1000 /* the lowest descriptor */
#define FAKE_MAX 48
#define FAKE_LISTENER FAKE_FIRST

enum fake_kind { FAKE_FREE, FAKE_EPOLL, FAKE_EVENT, FAKE_LISTENS, FAKE_CLIENT, FAKE_SERVER, FAKE_PIPE };

struct fake_bytes {
	char *p;
	size_t len, cap;
};

/* As the far end has it. */
struct fake {
	uint8_t kind; /* enum fake_kind */
	bool asked;   /* SERVER: connect() was called, nobody answered */
	bool up;      /* connected */
	bool ended;   /* the far end says no more */
	bool reset;
	bool shut;	     /* the near end says no more */
	int error;	     /* SO_ERROR */
	uint64_t count;	     /* EVENT; LISTENS: those that wait; PIPE: number of the end that is read */
	uint32_t room;	     /* bytes that the far end takes */
	bool full;	     /* it was told that there is no room */
	bool watched, fresh; /* by epoll; there is something new to tell */
	uint32_t mask;
	void *data;
	struct fake_bytes in, out; /* all that was said, from the far end, to it */
	size_t at;		   /* of `in`, what was read */
};

extern struct fake fakes[FAKE_MAX];
extern uint64_t fake_now_ms;
extern uint32_t fake_room;    /* of new ones */
extern uint32_t fake_no_file; /* so many calls find no descriptor */
extern bool fake_connects;    /* connections are accepted at once */
extern bool fake_backwards;   /* who came last is told of first */
extern void (*fake_hook)(int timeout);
extern void (*fake_closed)(struct fake *f);
extern void *(*fake_thread)(void *arg);
extern void *fake_thread_arg;

/* Everything anew, with the one listener. */
void fake_begin(void);
/* How many are open. */
uint32_t fake_open(void);
void fake_say(struct fake *f, const void *p, size_t len);
void fake_end(struct fake *f);
void fake_reset(struct fake *f);
void fake_more_room(struct fake *f, uint32_t n);
/* Of a SERVER that was asked. 0 or an errno. */
void fake_answer(struct fake *f, int error);

int fake_socket(int family, int type, int protocol);
int fake_connect(int fd, const struct sockaddr *to, socklen_t len);
int fake_bind(int fd, const struct sockaddr *at, socklen_t len);
int fake_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags);
int fake_getsockname(int fd, struct sockaddr *at, socklen_t *len);
int fake_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int fake_shutdown(int fd, int how);
int fake_close(int fd);
ssize_t fake_recv(int fd, void *p, size_t len, int flags);
ssize_t fake_send(int fd, const void *p, size_t len, int flags);
ssize_t fake_sendmsg(int fd, const struct msghdr *m, int flags);
int fake_pipe2(int *ret, int flags);
ssize_t fake_read(int fd, void *p, size_t len);
ssize_t fake_splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned int flags);
ssize_t fake_write(int fd, const void *p, size_t len);
int fake_epoll_create1(int flags);
int fake_epoll_ctl(int epoll, int op, int fd, struct epoll_event *ev);
int fake_epoll_wait(int epoll, struct epoll_event *v, int max, int timeout);
int fake_eventfd(unsigned int count, int flags);
int fake_eventfd_read(int fd, eventfd_t *count);
int fake_eventfd_write(int fd, eventfd_t count);
int fake_clock_gettime(clockid_t clock, struct timespec *t);
ssize_t fake_getrandom(void *p, size_t len, unsigned int flags);
int fake_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int fake_pthread_join(pthread_t t, void **ret);

#define socket(...) fake_socket(__VA_ARGS__)
#define connect(...) fake_connect(__VA_ARGS__)
#define bind(...) fake_bind(__VA_ARGS__)
#define accept4(...) fake_accept4(__VA_ARGS__)
#define getsockname(...) fake_getsockname(__VA_ARGS__)
#define getsockopt(...) fake_getsockopt(__VA_ARGS__)
#define setsockopt(...) fake_setsockopt(__VA_ARGS__)
#define shutdown(...) fake_shutdown(__VA_ARGS__)
#define close(...) fake_close(__VA_ARGS__)
#define recv(...) fake_recv(__VA_ARGS__)
#define send(...) fake_send(__VA_ARGS__)
#define sendmsg(...) fake_sendmsg(__VA_ARGS__)
#define pipe2(...) fake_pipe2(__VA_ARGS__)
#define read(...) fake_read(__VA_ARGS__)
#define splice(...) fake_splice(__VA_ARGS__)
#define write(...) fake_write(__VA_ARGS__)
#define epoll_create1(...) fake_epoll_create1(__VA_ARGS__)
#define epoll_ctl(...) fake_epoll_ctl(__VA_ARGS__)
#define epoll_wait(...) fake_epoll_wait(__VA_ARGS__)
#define eventfd(...) fake_eventfd(__VA_ARGS__)
#define eventfd_read(...) fake_eventfd_read(__VA_ARGS__)
#define eventfd_write(...) fake_eventfd_write(__VA_ARGS__)
#define clock_gettime(...) fake_clock_gettime(__VA_ARGS__)
#define getrandom(...) fake_getrandom(__VA_ARGS__)
#define pthread_create(...) fake_pthread_create(__VA_ARGS__)
#define pthread_join(...) fake_pthread_join(__VA_ARGS__)

#endif
