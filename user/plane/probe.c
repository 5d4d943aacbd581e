/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Active checks. A check is one non-blocking connection with a deadline; of what a server answers to HTTP, only the status is read. Results
 * count in a row, as a kubelet counts those of its probes. What fails for want of something here says nothing of the workload, and does not
 * count.
 */
#include "plane/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/version.h"

/* So many at a time, of all; who is due then waits for a moment. */
#define RUNNING_MAX 128u
#define CROWDED_MS 10

/* "HTTP/1.1 200" */
#define STATUS_LEN 12

struct probe {
	struct probes *all;
	probe_fn fn;
	void *data;
	struct addr host;
	uint16_t port;
	bool http, healthy;
	struct str path, headers; /* owned */
	uint32_t delay_ms, timeout_ms, period_ms, success_min, failure_max;
	uint32_t row; /* results in a row against what it is held for */

	struct loop_timer *timer; /* the next check, or the end of this one's patience; NULL: none */
	struct loop_io *io;	  /* NULL: no check is under way */
	int fd;
	uint64_t began_ms;
	struct buf request;
	uint32_t sent, got;
	char answer[STATUS_LEN];
	char result[64];
};

static struct str copy(struct str s)
{
	char *p = xmalloc((size_t)s.len + 1);

	if (s.len)
		memcpy(p, s.p, s.len);
	return (struct str){ p, s.len };
}

static void check(void *data);

static void arm(struct probe *p, uint64_t after_ms, loop_fn fn)
{
	if (p->timer)
		loop_timer_del(p->timer);
	p->timer = loop_timer_add(p->all->loop, after_ms, fn, p);
	if (!p->timer)
		abort(); /* as any other want of memory */
}

/* Of what is under way. */
static void stop(struct probe *p)
{
	if (!p->io)
		return;
	loop_io_del(p->io);
	close(p->fd);
	p->io = NULL;
	p->all->running--;
}

/* The next check begins a period after this one began, and not before it has ended. */
static void again(struct probe *p)
{
	uint64_t took = loop_now_ms() - p->began_ms;

	stop(p);
	arm(p, took < p->period_ms ? p->period_ms - took : 0, check);
}

static void done(struct probe *p, bool good)
{
	again(p);
	p->row = good == p->healthy ? 0 : p->row + 1;
	if (!p->row || p->row < (good ? p->success_min : p->failure_max))
		return;
	p->row = 0;
	p->healthy = good;
	p->fn(p->data, good);
}

static void failed(struct probe *p, int error)
{
	snprintf(p->result, sizeof(p->result), "%s", strerror(error));
	done(p, false);
}

static void on_timeout(void *data)
{
	struct probe *p = data;

	p->timer = NULL;
	snprintf(p->result, sizeof(p->result), "no answer in %u ms", p->timeout_ms);
	done(p, false);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The whole status has come. */
static void judge(struct probe *p)
{
	const char *a = p->answer;
	uint32_t status;

	if (memcmp(a, "HTTP/1.", 7) || !is_digit(a[7]) || a[8] != ' ' || !is_digit(a[9]) || !is_digit(a[10]) ||
	    !is_digit(a[11])) {
		snprintf(p->result, sizeof(p->result), "answered something that is not HTTP/1");
		done(p, false);
		return;
	}
	status = (uint32_t)(a[9] - '0') * 100 + (uint32_t)(a[10] - '0') * 10 + (uint32_t)(a[11] - '0');
	snprintf(p->result, sizeof(p->result), "status %u", status);
	done(p, status >= 200 && status < 400);
}

static void receive(struct probe *p)
{
	ssize_t n = recv(p->fd, p->answer + p->got, sizeof(p->answer) - p->got, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		failed(p, errno);
		return;
	}
	if (!n) {
		snprintf(p->result, sizeof(p->result), "closed before it answered");
		done(p, false);
		return;
	}
	p->got += (uint32_t)n;
	if (p->got == sizeof(p->answer))
		judge(p);
}

static void transmit(struct probe *p)
{
	ssize_t n = send(p->fd, p->request.data + p->sent, p->request.len - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		failed(p, errno);
		return;
	}
	p->sent += n > 0 ? (uint32_t)n : 0;
	if (p->sent == p->request.len)
		loop_io_set(p->io, EPOLLIN);
}

static void on_event(void *data, int fd, uint32_t events)
{
	struct probe *p = data;
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (error) {
		failed(p, error);
	} else if (!p->http) {
		snprintf(p->result, sizeof(p->result), "connected");
		done(p, true);
	} else if (p->sent < p->request.len) {
		transmit(p);
	} else {
		receive(p);
	}
	(void)events;
}

static int dial(const struct probe *p)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(p->port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(p->port) };
	bool is_v4 = addr_is_v4(&p->host);
	int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return fd;
	memcpy(&v4.sin_addr, p->host.b + 12, 4);
	memcpy(&v6.sin6_addr, p->host.b, 16);
	rc = connect(fd, is_v4 ? (const void *)&v4 : (const void *)&v6, is_v4 ? sizeof(v4) : sizeof(v6));
	if (rc && errno != EINPROGRESS) {
		rc = errno;
		close(fd);
		errno = rc;
		return -1;
	}
	return fd;
}

/* Not the workload's fault. */
static bool own_fault(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == EADDRNOTAVAIL ||
	       error == EPERM || error == EACCES;
}

static void check(void *data)
{
	struct probe *p = data;

	p->timer = NULL;
	if (p->all->running >= RUNNING_MAX) {
		arm(p, CROWDED_MS, check);
		return;
	}
	p->began_ms = loop_now_ms();
	p->sent = p->got = 0;
	p->fd = dial(p);
	p->io = p->fd < 0 ? NULL : loop_io_add(p->all->loop, p->fd, EPOLLOUT, on_event, p);
	if (p->io) {
		p->all->running++;
		arm(p, p->timeout_ms, on_timeout);
		return;
	}
	if (p->fd < 0 && !own_fault(errno)) {
		failed(p, errno);
		return;
	}
	snprintf(p->result, sizeof(p->result), "not checked: %s", strerror(errno));
	if (p->fd >= 0)
		close(p->fd);
	again(p);
}

/* One of the lines is of this header. */
static bool has_header(struct str lines, const char *name)
{
	size_t len = strlen(name);

	while (lines.len) {
		int end = str_find(lines, '\n');

		if (lines.len > len && !strncasecmp(lines.p, name, len) && lines.p[len] == ':')
			return true;
		lines = end < 0 ? (struct str){ 0 } : str_sub(lines, (uint32_t)end + 1, lines.len);
	}
	return false;
}

static void write_request(struct probe *p)
{
	char text[ADDR_TEXT_MAX];

	addr_text(&p->host, text);
	buf_printf(&p->request, "GET %.*s HTTP/1.1\r\n", STR_ARG(p->path));
	if (!has_header(p->headers, "Host"))
		buf_printf(&p->request, addr_is_v4(&p->host) ? "Host: %s:%u\r\n" : "Host: [%s]:%u\r\n", text, p->port);
	if (!has_header(p->headers, "User-Agent"))
		buf_printf(&p->request, "User-Agent: tulle/%s\r\n", tulle_version.p);
	if (!has_header(p->headers, "Accept"))
		buf_printf(&p->request, "Accept: */*\r\n");
	buf_str(&p->request, p->headers);
	buf_printf(&p->request, has_header(p->headers, "Connection") ? "\r\n" : "Connection: close\r\n\r\n");
}

static struct addr host_of(const struct u_probe *what, const struct addr *where)
{
	return addr_is_zero(&what->host) ? *where : what->host;
}

struct probe *probe_new(struct probes *all, const struct u_probe *what, const struct addr *where, bool healthy,
			probe_fn fn, void *data)
{
	struct probe *p = xcalloc(1, sizeof(*p));

	*p = (struct probe){
		.all = all,
		.fn = fn,
		.data = data,
		.host = host_of(what, where),
		.port = what->port,
		.http = what->http,
		.healthy = healthy,
		.path = copy(what->path),
		.headers = copy(what->headers),
		.delay_ms = what->delay_ms,
		.timeout_ms = what->timeout_ms,
		.period_ms = what->period_ms,
		.success_min = what->success_min,
		.failure_max = what->failure_max,
		.result = "not checked yet",
	};
	if (p->http)
		write_request(p);
	arm(p, p->delay_ms, check);
	return p;
}

void probe_free(struct probe *p)
{
	if (!p)
		return;
	stop(p);
	if (p->timer)
		loop_timer_del(p->timer);
	buf_release(&p->request);
	free((char *)p->path.p);
	free((char *)p->headers.p);
	free(p);
}

bool probe_is(const struct probe *p, const struct u_probe *what, const struct addr *where)
{
	struct addr host = host_of(what, where);

	return !addr_cmp(&p->host, &host) && p->port == what->port && p->http == what->http &&
	       str_eq(p->path, what->path) && str_eq(p->headers, what->headers) && p->delay_ms == what->delay_ms &&
	       p->timeout_ms == what->timeout_ms && p->period_ms == what->period_ms &&
	       p->success_min == what->success_min && p->failure_max == what->failure_max;
}

bool probe_healthy(const struct probe *p)
{
	return p->healthy;
}

const char *probe_result(const struct probe *p)
{
	return p->result;
}
