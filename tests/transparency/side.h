/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One side of a case: a process that does socket calls and says what came of each. What it says must be the same in every run that
 * works, so it never says times, ports that the kernel chose, or how many bytes one call took of a stream; and what it needs from the other
 * side it waits for (meet, hear, arrived), never for time to pass. A bound of time only ends a case that has already failed.
 */
#ifndef TRANSPARENCY_SIDE_H
#define TRANSPARENCY_SIDE_H

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define PORT 7000
#define SPARE_PORT 8000 /* nobody listens there unless a case does */
#define WAIT_MS 8000
#define WARM_NR 200

enum family { FOUR, SIX, MAPPED, FAMILY_NR };

struct side {
	bool client, warm, events;
	enum family family;
	int meet_fd, out_fd;
	int fd;				   /* the connection, which meet() has acknowledge at once */
	struct sockaddr_storage dial, own; /* where the server is dialled; the address of this side's pod */
	socklen_t len;			   /* of addresses of the family */
	volatile bool awake;		   /* see when_asleep() */
};

typedef void side_fn(struct side *s, int fd);

/* RAW: the case connects by itself, fd is -1. SLOW: moves much. FOUR_ONLY: the family makes no difference to it. COLD_ONLY: nor what went before. */
enum { RAW = 1, SLOW = 2, FOUR_ONLY = 4, COLD_ONLY = 8 };

struct transparency_case {
	const char *name;
	side_fn *client, *server;
	unsigned flags;
};

extern const struct transparency_case cases_recv[], cases_send[], cases_stream[], cases_poll[], cases_end[],
	cases_signal[], cases_option[], cases_connect[], cases_share[], cases_uring[];

/* Says a line. */
void say(struct side *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Says what a call returned, or its errno by name; returns it, errno kept. */
ssize_t said(struct side *s, const char *what, ssize_t rc);
#define CALL(s, call) said(s, #call, (ssize_t)(call))
/* The same, and the bytes that came. */
ssize_t said_bytes(struct side *s, const char *what, ssize_t rc, const void *bytes);
#define GET(s, buf, call) said_bytes(s, #call, (ssize_t)(call), buf)
/* What must work for the case to mean anything; if not, says so and ends this side. */
void must(struct side *s, bool ok, const char *what);
#define MUST(s, condition) must(s, condition, #condition)
void say_events(struct side *s, const char *what, unsigned events);
/* Says an address as "dialled", "own", "peer" or as it is; `port` where the case knows it. */
void say_address(struct side *s, const char *what, const struct sockaddr_storage *sa, socklen_t len);

/*
 * Both sides are here; what the other does next happens beside what this one does next, so that what may not be seen yet needs another.
 * tell() and hear() are its halves. A number may go along.
 */
void meet(struct side *s);
void tell(struct side *s, uint32_t number);
uint32_t hear(struct side *s);
/* All bytes of the connection have been acknowledged by the other end. */
void settle(struct side *s, int fd);
/* For the sender: they have, and the other side, which is in meet(), may know. */
void sent(struct side *s, int fd);
/* Waits for one of the events; returns what poll() found. */
unsigned await(struct side *s, int fd, unsigned events);

int open_socket(struct side *s, int flags);
/* A listener at the port, of the family. */
int open_listener(struct side *s, uint16_t port, int backlog);
struct sockaddr_storage at_port(const struct sockaddr_storage *sa, uint16_t port);
uint16_t port_of(const struct sockaddr_storage *sa);
void set_nonblocking(int fd, bool on);
/* WARM_NR requests and answers of 64 bytes between two event loops; both must do it. */
void warm_up(struct side *s, int fd);
/* Connects, or accepts, and warms up where the variant says so. */
int connect_to(struct side *s);
int accept_from(struct side *s, int listener);

void send_all(struct side *s, int fd, const void *data, size_t len);
/* Up to `want` bytes, or the end; returns how many. */
size_t recv_all(struct side *s, int fd, void *data, size_t want);
/* A stream whose byte at any place is known: writes, or checks and says whether all of it came as it went. */
void stream_fill(uint8_t *data, size_t len, uint64_t at);
void stream_send(struct side *s, int fd, uint64_t total, size_t chunk);
uint64_t stream_check(struct side *s, int fd, uint64_t total, size_t chunk);

/* Runs `fn` in a thread as soon as the calling thread sleeps in a system call, or has set s->awake. Joined by rest(). */
struct nurse;
struct nurse *when_asleep(struct side *s, void (*fn)(struct side *s, struct nurse *n));
bool sleeps_again(struct nurse *n);
void wake(struct nurse *n, int signo);
void rest(struct side *s, struct nurse *n);
/* The commonest: the other side hears once this one sleeps. */
void tell_asleep(struct side *s, struct nurse *n);

/* Shared by many cases. */
void client_ten(struct side *s, int fd);   /* sends "abcdefghij", which arrive; meets */
void client_close(struct side *s, int fd); /* the same, and closes */
void nothing(struct side *s, int fd);

#endif
