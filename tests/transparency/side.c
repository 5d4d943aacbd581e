/* SPDX-License-Identifier: BSD-2-Clause */
/* What all cases say, wait for and move. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "side.h"

/* ---- saying ---- */

void say(struct side *s, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (write(s->out_fd, line, (size_t)n) != n)
		_exit(3);
}

ssize_t said(struct side *s, const char *what, ssize_t rc)
{
	int err = errno;

	if (rc < 0)
		say(s, "%s: %s", what, strerrorname_np(err));
	else
		say(s, "%s: %zd", what, rc);
	errno = err;
	return rc;
}

ssize_t said_bytes(struct side *s, const char *what, ssize_t rc, const void *bytes)
{
	const uint8_t *b = bytes;
	uint64_t hash = 0xcbf29ce484222325ull;
	int err = errno;

	if (rc > 0 && rc <= 64) {
		say(s, "%s: %zd %.*s", what, rc, (int)rc, (const char *)bytes);
	} else if (rc > 0) {
		for (ssize_t i = 0; i < rc; i++)
			hash = (hash ^ b[i]) * 0x100000001b3ull;
		say(s, "%s: %zd, hash %016lx", what, rc, (unsigned long)hash);
	} else {
		said(s, what, rc);
	}
	errno = err;
	return rc;
}

void must(struct side *s, bool ok, const char *what)
{
	if (ok)
		return;
	say(s, "NOT: %s (%s)", what, strerrorname_np(errno));
	_exit(1);
}

void say_events(struct side *s, const char *what, unsigned events)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = { { POLLIN, "IN" },		{ POLLPRI, "PRI" },	  { POLLOUT, "OUT" },
		      { POLLERR, "ERR" },	{ POLLHUP, "HUP" },	  { POLLNVAL, "NVAL" },
		      { POLLRDNORM, "RDNORM" }, { POLLWRNORM, "WRNORM" }, { POLLRDHUP, "RDHUP" } };
	char text[128] = "";

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (events & names[i].bit)
			strcat(strcat(text, " "), names[i].name);
	say(s, "%s:%s", what, text[0] ? text : " none");
}

static bool same_ip(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr, 16);
}

void say_address(struct side *s, const char *what, const struct sockaddr_storage *sa, socklen_t len)
{
	char text[64] = "?";

	if (same_ip(sa, &s->own))
		strcpy(text, "own");
	else if (same_ip(sa, &s->dial))
		strcpy(text, s->client ? "dialled" : "peer");
	else if (sa->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, text, sizeof(text));
	else if (sa->ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)sa)->sin6_addr, text, sizeof(text));
	if (port_of(sa) == PORT || port_of(sa) == SPARE_PORT)
		say(s, "%s: family %d, %s, port %u, length %u", what, sa->ss_family, text, port_of(sa), len);
	else
		say(s, "%s: family %d, %s, length %u", what, sa->ss_family, text, len);
}

/* ---- meeting ---- */

void tell(struct side *s, uint32_t number)
{
	if (send(s->meet_fd, &number, sizeof(number), MSG_NOSIGNAL) != sizeof(number)) {
		say(s, "the other side is gone");
		_exit(1);
	}
}

/*
 * While it waits, what comes in on the connection is acknowledged at once: the other side may be in settle(), and would wait for a
 * delayed acknowledgement of up to 40 ms each time.
 */
uint32_t hear(struct side *s)
{
	struct pollfd p = { .fd = s->meet_fd, .events = POLLIN };
	uint32_t number;
	int on = 1;

	do {
		if (s->fd >= 0)
			setsockopt(s->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
	} while (poll(&p, 1, s->fd >= 0 ? 1 : WAIT_MS) <= 0);
	if (recv(s->meet_fd, &number, sizeof(number), MSG_WAITALL) != sizeof(number)) {
		say(s, "the other side is gone");
		_exit(1);
	}
	return number;
}

void meet(struct side *s)
{
	tell(s, 0);
	hear(s);
}

void settle(struct side *s, int fd)
{
	int left = 1;

	for (int i = 0; i < WAIT_MS * 10 && left; i++) {
		if (ioctl(fd, SIOCOUTQ, &left) || !left)
			break;
		usleep(100);
	}
	if (left)
		say(s, "not acknowledged: %d", left);
}

void sent(struct side *s, int fd)
{
	settle(s, fd);
	meet(s);
}

unsigned await(struct side *s, int fd, unsigned events)
{
	struct pollfd p = { .fd = fd, .events = (short)events };

	if (poll(&p, 1, WAIT_MS) <= 0)
		say_events(s, "no such event", events);
	return (unsigned)p.revents;
}

/* ---- sockets ---- */

static int domain(const struct side *s)
{
	return s->family == FOUR ? AF_INET : AF_INET6;
}

uint16_t port_of(const struct sockaddr_storage *sa)
{
	return ntohs(sa->ss_family == AF_INET ? ((const struct sockaddr_in *)sa)->sin_port
					      : ((const struct sockaddr_in6 *)sa)->sin6_port);
}

struct sockaddr_storage at_port(const struct sockaddr_storage *sa, uint16_t port)
{
	struct sockaddr_storage at = *sa;

	if (at.ss_family == AF_INET)
		((struct sockaddr_in *)&at)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)&at)->sin6_port = htons(port);
	return at;
}

int open_socket(struct side *s, int flags)
{
	int fd = socket(domain(s), SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	MUST(s, fd >= 0);
	return fd;
}

int open_listener(struct side *s, uint16_t port, int backlog)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = open_socket(s, 0), on = 1, only = s->family == SIX;

	MUST(s, !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	if (domain(s) == AF_INET6)
		MUST(s, !setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)));
	MUST(s, !bind(fd, domain(s) == AF_INET ? (void *)&four : (void *)&six, s->len));
	MUST(s, !listen(fd, backlog));
	return fd;
}

void set_nonblocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

static void warm_recv(struct side *s, int fd, uint8_t *data, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n;

		must(s, await(s, fd, POLLIN) & POLLIN, "warm-up: readable");
		n = recv(fd, data + got, len - got, 0);
		if (n < 0 && errno == EAGAIN)
			continue;
		must(s, n > 0, "warm-up: recv");
		got += (size_t)n;
	}
}

void warm_up(struct side *s, int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	uint8_t data[64], want[64];

	MUST(s, !getsockname(fd, (struct sockaddr *)&sa, &len));
	if (s->client)
		say(s, "@%u", port_of(&sa));
	set_nonblocking(fd, true);
	for (uint64_t i = 0; i < WARM_NR; i++) {
		stream_fill(want, sizeof(want), i * sizeof(want));
		if (s->client)
			must(s, send(fd, want, sizeof(want), 0) == sizeof(want), "warm-up: send");
		warm_recv(s, fd, data, sizeof(data));
		must(s, !memcmp(data, want, sizeof(want)), "warm-up: the bytes that were sent");
		if (!s->client)
			must(s, send(fd, data, sizeof(data), 0) == sizeof(data), "warm-up: send");
	}
	if (!s->events)
		set_nonblocking(fd, false);
	s->fd = fd;
	meet(s);
}

int connect_to(struct side *s)
{
	int fd = open_socket(s, 0);

	MUST(s, !connect(fd, (struct sockaddr *)&s->dial, s->len));
	s->fd = fd;
	if (s->warm)
		warm_up(s, fd);
	return fd;
}

int accept_from(struct side *s, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	MUST(s, fd >= 0);
	s->fd = fd;
	if (s->warm)
		warm_up(s, fd);
	return fd;
}

/* ---- streams ---- */

void send_all(struct side *s, int fd, const void *data, size_t len)
{
	for (size_t put = 0; put < len;) {
		ssize_t n = send(fd, (const char *)data + put, len - put, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			await(s, fd, POLLOUT);
			continue;
		}
		if (n < 0) {
			said(s, "send of the rest", n);
			return;
		}
		put += (size_t)n;
	}
}

size_t recv_all(struct side *s, int fd, void *data, size_t want)
{
	size_t got = 0;

	while (got < want) {
		ssize_t n = recv(fd, (char *)data + got, want - got, 0);

		if (n < 0 && errno == EAGAIN) {
			await(s, fd, POLLIN);
			continue;
		}
		if (n < 0)
			said(s, "recv of the rest", n);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

/* Every eight bytes hold a mix of their place, so that nothing can be lost, doubled or moved unseen. */
static uint64_t stream_word(uint64_t place)
{
	uint64_t z = place * 0x9e3779b97f4a7c15ull;

	return z ^ z >> 29;
}

void stream_fill(uint8_t *data, size_t len, uint64_t at)
{
	for (size_t i = 0; i < len;) {
		uint64_t word = stream_word((at + i) / 8), from = (at + i) % 8, n = 8 - from;

		if (n > len - i)
			n = len - i;
		memcpy(data + i, (uint8_t *)&word + from, n);
		i += n;
	}
}

void stream_send(struct side *s, int fd, uint64_t total, size_t chunk)
{
	uint8_t *data = malloc(chunk);

	for (uint64_t put = 0; put < total; put += chunk) {
		size_t n = total - put < chunk ? total - put : chunk;

		stream_fill(data, n, put);
		send_all(s, fd, data, n);
	}
	free(data);
}

uint64_t stream_check(struct side *s, int fd, uint64_t total, size_t chunk)
{
	uint8_t *data = malloc(chunk), *want = malloc(chunk);
	uint64_t got = 0;

	while (got < total) {
		size_t n = recv_all(s, fd, data, total - got < chunk ? total - got : chunk);

		if (!n)
			break;
		stream_fill(want, n, got);
		if (memcmp(data, want, n)) {
			say(s, "other bytes came than were sent, after %lu", (unsigned long)got);
			break;
		}
		got += n;
	}
	say(s, "came as they went: %lu", (unsigned long)got);
	free(data);
	free(want);
	return got;
}

/* ---- sleepers ---- */

struct nurse {
	struct side *side;
	pthread_t thread, patient;
	pid_t tid;
	void (*fn)(struct side *s, struct nurse *n);
};

static bool asleep(pid_t tid)
{
	char path[64], text[64] = "", state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (f) {
		if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = 0;
		fclose(f);
	}
	if (state != 'S')
		return false;
	/* "running", or the number of the system call and its arguments */
	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	f = fopen(path, "r");
	if (f) {
		if (!fgets(text, sizeof(text), f))
			text[0] = 0;
		fclose(f);
	}
	return text[0] >= '0' && text[0] <= '9';
}

bool sleeps_again(struct nurse *n)
{
	for (int i = 0; i < WAIT_MS * 10; i++) {
		if (n->side->awake)
			return false;
		if (asleep(n->tid))
			return true;
		usleep(100);
	}
	return false;
}

static void *nurse_main(void *data)
{
	struct nurse *n = data;

	sleeps_again(n);
	n->fn(n->side, n);
	return NULL;
}

struct nurse *when_asleep(struct side *s, void (*fn)(struct side *s, struct nurse *n))
{
	struct nurse *n = calloc(1, sizeof(*n));

	*n = (struct nurse){ .side = s, .patient = pthread_self(), .tid = (pid_t)syscall(SYS_gettid), .fn = fn };
	s->awake = false;
	MUST(s, !pthread_create(&n->thread, NULL, nurse_main, n));
	return n;
}

void wake(struct nurse *n, int signo)
{
	pthread_kill(n->patient, signo);
}

void rest(struct side *s, struct nurse *n)
{
	s->awake = true;
	pthread_join(n->thread, NULL);
	free(n);
}

void tell_asleep(struct side *s, struct nurse *n)
{
	tell(s, 0);
}

/* ---- shared by many cases ---- */

void client_ten(struct side *s, int fd)
{
	CALL(s, send(fd, "abcdefghij", 10, 0));
	sent(s, fd);
}

void client_close(struct side *s, int fd)
{
	CALL(s, send(fd, "abcdefghij", 10, 0));
	settle(s, fd);
	CALL(s, shutdown(fd, SHUT_WR));
	meet(s);
}

void nothing(struct side *s, int fd)
{
}
