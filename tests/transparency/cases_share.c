/* SPDX-License-Identifier: BSD-2-Clause */
/* One socket of several threads, processes and descriptors. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "side.h"

struct share {
	struct side *s;
	int fd;
	uint64_t bytes, sum;
};

#define TOTAL (4u << 20)

static void client_bytes(struct side *s, int fd)
{
	stream_send(s, fd, TOTAL, 3000);
	CALL(s, shutdown(fd, SHUT_WR));
}

static void *reads(void *data)
{
	struct share *sh = data;
	uint8_t buf[1000];
	ssize_t n;

	while ((n = recv(sh->fd, buf, sizeof(buf), 0)) > 0)
		for (ssize_t i = 0; i < n; i++, sh->bytes++)
			sh->sum += buf[i];
	return NULL;
}

static uint64_t sum_of(uint64_t total)
{
	uint8_t *data = malloc(total);
	uint64_t sum = 0;

	stream_fill(data, total, 0);
	for (uint64_t i = 0; i < total; i++)
		sum += data[i];
	free(data);
	return sum;
}

/* Who reads what is chance; that each byte is read once is not. */
static void two_readers(struct side *s, int fd)
{
	struct share a = { s, fd, 0, 0 }, b = { s, fd, 0, 0 };
	pthread_t t;

	MUST(s, !pthread_create(&t, NULL, reads, &b));
	reads(&a);
	pthread_join(t, NULL);
	say(s, "read %lu, %s", (unsigned long)(a.bytes + b.bytes), a.sum + b.sum == sum_of(TOTAL) ? "same" : "other");
}

struct record {
	uint32_t writer, number;
	uint8_t fill[56];
};

static void *writes(void *data)
{
	struct share *sh = data;
	struct record r = { .writer = (uint32_t)sh->sum };

	memset(r.fill, (int)r.writer, sizeof(r.fill));
	for (r.number = 0; r.number < 300; r.number++)
		send_all(sh->s, sh->fd, &r, sizeof(r));
	return NULL;
}

/* Each write is whole where there is room for all, and those of a writer are in order. */
static void two_writers(struct side *s, int fd)
{
	struct share a = { s, fd, 0, 1 }, b = { s, fd, 0, 2 };
	int room = 200000;
	pthread_t t;

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)));
	MUST(s, !pthread_create(&t, NULL, writes, &b));
	writes(&a);
	pthread_join(t, NULL);
	CALL(s, shutdown(fd, SHUT_WR));
}

static void reads_records(struct side *s, int fd)
{
	uint32_t next[3] = { 0 }, nr = 0;
	struct record r;

	while (recv_all(s, fd, &r, sizeof(r)) == sizeof(r)) {
		if (r.writer < 1 || r.writer > 2 || r.number != next[r.writer] || r.fill[0] != r.writer ||
		    r.fill[55] != r.writer) {
			say(s, "a record that was not written");
			return;
		}
		next[r.writer]++;
		nr++;
	}
	say(s, "records %u", nr);
}

static void *writes_much(void *data)
{
	struct share *sh = data;

	stream_send(sh->s, sh->fd, TOTAL, 500000);
	return NULL;
}

/* Large writes of two may mix; no byte may be lost. */
static void two_large_writers(struct side *s, int fd)
{
	struct share a = { s, fd, 0, 0 };
	pthread_t t;

	MUST(s, !pthread_create(&t, NULL, writes_much, &a));
	writes_much(&a);
	pthread_join(t, NULL);
	CALL(s, shutdown(fd, SHUT_WR));
}

static void reads_twice_the_sum(struct side *s, int fd)
{
	struct share a = { s, fd, 0, 0 };

	reads(&a);
	say(s, "read %lu, %s", (unsigned long)a.bytes, a.sum == 2 * sum_of(TOTAL) ? "same" : "other");
}

/* A thread that sleeps in recv() when another ends the connection. */
static void *shuts(void *data)
{
	struct share *sh = data;

	sh->bytes = (uint64_t)shutdown(sh->fd, SHUT_RDWR);
	return NULL;
}

static void shut_when_asleep(struct side *s, struct nurse *n)
{
	struct share sh = { s, s->fd, 0, 0 };

	shuts(&sh);
}

static void shutdown_wakes(struct side *s, int fd)
{
	struct nurse *n = when_asleep(s, shut_when_asleep);
	char buf[8];

	CALL(s, recv(fd, buf, 8, 0));
	rest(s, n);
	CALL(s, recv(fd, buf, 8, 0));
	meet(s);
}

static void client_sees_end(struct side *s, int fd)
{
	char buf[8];

	meet(s);
	CALL(s, recv(fd, buf, 8, 0));
}

/* ---- processes ---- */

static void wait_child(struct side *s, pid_t pid)
{
	int status = 0;

	waitpid(pid, &status, 0);
	say(s, "child: %d", status);
}

static void forked_reader(struct side *s, int fd)
{
	char buf[64];
	pid_t pid;

	meet(s);
	GET(s, buf, recv(fd, buf, 3, 0));
	pid = fork();
	if (!pid) {
		GET(s, buf, recv(fd, buf, 3, 0));
		_exit(0);
	}
	wait_child(s, pid);
	GET(s, buf, recv(fd, buf, 64, 0));
}

/* The connection ends when the last process has closed it. */
static void forked_holder(struct side *s, int fd)
{
	int gate[2];
	char buf[8];
	pid_t pid;

	MUST(s, !pipe(gate));
	pid = fork();
	if (!pid) {
		close(gate[1]);
		if (read(gate[0], buf, 8) != 0)
			_exit(1);
		_exit(send(fd, "from the child", 14, 0) != 14);
	}
	CALL(s, close(fd));
	s->fd = -1;
	close(gate[0]);
	meet(s);
	meet(s);
	close(gate[1]);
	wait_child(s, pid);
}

static void client_forked_holder(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	CALL(s, recv(fd, buf, 64, MSG_DONTWAIT));
	meet(s);
	GET(s, buf, recv(fd, buf, 64, MSG_WAITALL));
}

static void send_fd(struct side *s, int over, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte = 'f';
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(fd)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	CALL(s, sendmsg(over, &m, 0));
}

static int recv_fd(struct side *s, int over)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	int fd;

	MUST(s, recvmsg(over, &m, 0) == 1 && CMSG_FIRSTHDR(&m));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/* Handed to another process with data queued, and closed here. */
static void passed_on(struct side *s, int fd)
{
	int pair[2];
	char buf[64];
	pid_t pid;

	MUST(s, !socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid = fork();
	if (!pid) {
		close(fd);
		fd = recv_fd(s, pair[1]);
		MUST(s, read(pair[1], buf, 1) == 1);
		GET(s, buf, recv(fd, buf, 5, 0));
		GET(s, buf, recv(fd, buf, 64, 0));
		CALL(s, send(fd, "from the child", 14, 0));
		_exit(0);
	}
	meet(s);
	send_fd(s, pair[0], fd);
	CALL(s, close(fd));
	s->fd = -1;
	MUST(s, write(pair[0], "x", 1) == 1);
	wait_child(s, pid);
}

static void client_passed_on(struct side *s, int fd)
{
	char buf[64];

	client_ten(s, fd);
	GET(s, buf, recv(fd, buf, 64, MSG_WAITALL));
}

/* A program that knows nothing of sockets. */
static void as_stdio(struct side *s, int fd)
{
	pid_t pid = fork();

	if (!pid) {
		dup2(fd, 0);
		dup2(fd, 1);
		execlp("cat", "cat", (char *)NULL);
		_exit(127);
	}
	CALL(s, close(fd));
	s->fd = -1;
	wait_child(s, pid);
}

static void client_as_stdio(struct side *s, int fd)
{
	char buf[64];

	CALL(s, send(fd, "hello cat", 9, 0));
	GET(s, buf, recv(fd, buf, 9, MSG_WAITALL));
	CALL(s, shutdown(fd, SHUT_WR));
	CALL(s, recv(fd, buf, 64, 0));
}

static void duplicated(struct side *s, int fd)
{
	int other = dup(fd), ep = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN };
	char buf[64];

	MUST(s, other >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	meet(s);
	GET(s, buf, recv(fd, buf, 3, 0));
	GET(s, buf, recv(other, buf, 3, 0));
	CALL(s, close(fd));
	s->fd = other;
	CALL(s, epoll_wait(ep, &e, 1, 0));
	GET(s, buf, recv(other, buf, 64, 0));
	CALL(s, send(other, "x", 1, 0));
	CALL(s, close(other));
	s->fd = -1;
}

static void client_duplicated(struct side *s, int fd)
{
	char buf[64];

	client_ten(s, fd);
	GET(s, buf, recv(fd, buf, 64, MSG_WAITALL));
}

const struct transparency_case cases_share[] = {
	{ "two_readers", client_bytes, two_readers, SLOW },
	{ "two_writers", two_writers, reads_records, SLOW },
	{ "two_large_writers", two_large_writers, reads_twice_the_sum, SLOW },
	{ "shutdown_wakes", client_sees_end, shutdown_wakes, 0 },
	{ "fork_reader", client_ten, forked_reader, 0 },
	{ "fork_holder", client_forked_holder, forked_holder, 0 },
	{ "passed_descriptor", client_passed_on, passed_on, 0 },
	{ "stdio", client_as_stdio, as_stdio, 0 },
	{ "duplicated", client_duplicated, duplicated, 0 },
	{ NULL, NULL, NULL, 0 },
};
