/* SPDX-License-Identifier: BSD-2-Clause */
/* Every way to send; urgent data; files and pipes into sockets and out of them. */
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "side.h"

/* Without the functions of libc, whose import would have the census leave the whole program to TCP. */
static ssize_t splice_by_number(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags)
{
	return syscall(SYS_splice, in, in_at, out, out_at, len, flags);
}

static ssize_t vmsplice_by_number(int fd, const struct iovec *iov, size_t nr, unsigned flags)
{
	return syscall(SYS_vmsplice, fd, iov, nr, flags);
}

static ssize_t tee_by_number(int in, int out, size_t len, unsigned flags)
{
	return syscall(SYS_tee, in, out, len, flags);
}

/* Says all that comes until the end. */
static void to_end(struct side *s, int fd)
{
	static uint8_t buf[1 << 23];
	size_t n = recv_all(s, fd, buf, sizeof(buf));

	said_bytes(s, "all", (ssize_t)n, buf);
}

static void end(struct side *s, int fd)
{
	CALL(s, shutdown(fd, SHUT_WR));
}

static void zero_length(struct side *s, int fd)
{
	CALL(s, send(fd, NULL, 0, 0));
	CALL(s, send(fd, "x", 0, MSG_MORE));
	CALL(s, write(fd, "x", 0));
	CALL(s, send(fd, "end", 3, 0));
	end(s, fd);
}

static void flags(struct side *s, int fd)
{
	CALL(s, send(fd, "a", 1, MSG_DONTWAIT));
	CALL(s, send(fd, "b", 1, MSG_NOSIGNAL));
	CALL(s, send(fd, "c", 1, MSG_DONTROUTE));
	CALL(s, send(fd, "d", 1, MSG_EOR));
	CALL(s, send(fd, "e", 1, MSG_CONFIRM));
	CALL(s, send(fd, "f", 1, MSG_TRUNC));
	CALL(s, send(fd, "g", 1, MSG_WAITALL));
	CALL(s, send(fd, "h", 1, MSG_PEEK));
	CALL(s, write(fd, "i", 1));
	end(s, fd);
}

static void more(struct side *s, int fd)
{
	CALL(s, send(fd, "abc", 3, MSG_MORE));
	CALL(s, send(fd, "def", 3, MSG_MORE));
	CALL(s, send(fd, "ghi", 3, 0));
	end(s, fd);
}

static void cork(struct side *s, int fd)
{
	int on = 1, off = 0;

	CALL(s, setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)));
	CALL(s, write(fd, "abc", 3));
	CALL(s, write(fd, "def", 3));
	CALL(s, setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off)));
	settle(s, fd);
	end(s, fd);
}

static void parts(struct side *s, int fd)
{
	struct iovec iov[] = { { (char *)"ab", 2 }, { NULL, 0 }, { (char *)"cde", 3 }, { (char *)"f", 1 } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 4 };

	CALL(s, writev(fd, iov, 4));
	CALL(s, sendmsg(fd, &m, 0));
	m.msg_iovlen = 0;
	CALL(s, sendmsg(fd, &m, 0));
	CALL(s, pwritev2(fd, iov, 4, -1, 0));
	CALL(s, writev(fd, iov, 0));
	end(s, fd);
}

static void many_parts(struct side *s, int fd)
{
	static struct iovec iov[1025];
	static char bytes[1025];

	for (int i = 0; i < 1025; i++) {
		bytes[i] = (char)('a' + i % 26);
		iov[i] = (struct iovec){ &bytes[i], 1 };
	}
	CALL(s, writev(fd, iov, 1025));
	CALL(s, writev(fd, iov, 1024));
	end(s, fd);
}

static void several(struct side *s, int fd)
{
	struct iovec iov[] = { { (char *)"ab", 2 }, { (char *)"cde", 3 } };
	struct mmsghdr m[2];

	memset(m, 0, sizeof(m));
	m[0].msg_hdr = (struct msghdr){ .msg_iov = &iov[0], .msg_iovlen = 1 };
	m[1].msg_hdr = (struct msghdr){ .msg_iov = &iov[1], .msg_iovlen = 1 };
	CALL(s, sendmmsg(fd, m, 2, 0));
	say(s, "%u %u", m[0].msg_len, m[1].msg_len);
	end(s, fd);
}

static void with_name(struct side *s, int fd)
{
	struct sockaddr_storage other = at_port(&s->own, SPARE_PORT);

	CALL(s, sendto(fd, "abc", 3, 0, (struct sockaddr *)&s->dial, s->len));
	CALL(s, sendto(fd, "def", 3, 0, (struct sockaddr *)&other, s->len));
	CALL(s, sendto(fd, "ghi", 3, MSG_FASTOPEN, (struct sockaddr *)&s->dial, s->len));
	end(s, fd);
}

static void bad_memory(struct side *s, int fd)
{
	struct iovec iov[] = { { (char *)"abc", 3 }, { (void *)8, 10 } };

	CALL(s, send(fd, (void *)8, 10, 0));
	CALL(s, writev(fd, iov, 2));
	CALL(s, send(fd, "end", 3, 0));
	end(s, fd);
}

static void no_seeking(struct side *s, int fd)
{
	CALL(s, pwrite(fd, "abc", 3, 0));
	CALL(s, write(fd, "end", 3));
	end(s, fd);
}

static void bad_control(struct side *s, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec iov = { (char *)"abc", 3 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = 9999 };
	CALL(s, sendmsg(fd, &m, 0));
	c->cmsg_level = IPPROTO_IP;
	CALL(s, sendmsg(fd, &m, 0));
	end(s, fd);
}

static void zero_copy(struct side *s, int fd)
{
	struct sock_extended_err e = { 0 };
	static uint8_t data[65536];
	char control[256];
	struct msghdr m = { .msg_control = control, .msg_controllen = sizeof(control) };
	int on = 1;

	stream_fill(data, sizeof(data), 0);
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)));
	for (size_t put = 0; put < sizeof(data);) {
		ssize_t n = send(fd, data + put, sizeof(data) - put, MSG_ZEROCOPY);

		MUST(s, n > 0);
		put += (size_t)n;
	}
	end(s, fd);
	say_events(s, "completion", await(s, fd, 0) & POLLERR);
	CALL(s, recvmsg(fd, &m, MSG_ERRQUEUE));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		memcpy(&e, CMSG_DATA(c), sizeof(e));
	say(s, "origin %u, errno %u, first %u", e.ee_origin, e.ee_errno, e.ee_info);
}

/* ---- urgent data ---- */

static void urgent(struct side *s, int fd)
{
	CALL(s, send(fd, "abc", 3, 0));
	CALL(s, send(fd, "dX", 2, MSG_OOB));
	CALL(s, send(fd, "efg", 3, 0));
	sent(s, fd);
	end(s, fd);
}

static void urgent_apart(struct side *s, int fd)
{
	char buf[64];
	int mark = -1;

	meet(s);
	say_events(s, "poll", await(s, fd, POLLPRI | POLLIN));
	GET(s, buf, recv(fd, buf, 1, MSG_OOB));
	CALL(s, recv(fd, buf, 1, MSG_OOB));
	GET(s, buf, recv(fd, buf, 64, 0));
	CALL(s, ioctl(fd, SIOCATMARK, &mark));
	say(s, "at mark %d", mark);
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void urgent_inline(struct side *s, int fd)
{
	int on = 1, mark = -1;
	char buf[64];

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
	meet(s);
	CALL(s, recv(fd, buf, 1, MSG_OOB));
	GET(s, buf, recv(fd, buf, 64, 0));
	CALL(s, ioctl(fd, SIOCATMARK, &mark));
	say(s, "at mark %d", mark);
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void urgent_peek(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	GET(s, buf, recv(fd, buf, 1, MSG_OOB | MSG_PEEK));
	GET(s, buf, recv(fd, buf, 1, MSG_OOB));
	GET(s, buf, recv(fd, buf, 64, MSG_PEEK));
	GET(s, buf, recv(fd, buf, 64, 0));
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void urgent_first(struct side *s, int fd)
{
	CALL(s, send(fd, "Y", 1, MSG_OOB));
	sent(s, fd);
	meet(s);
	CALL(s, send(fd, "Z", 1, MSG_OOB));
	sent(s, fd);
	end(s, fd);
}

static void urgent_alone(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	CALL(s, recv(fd, buf, 64, MSG_DONTWAIT));
	GET(s, buf, recv(fd, buf, 1, MSG_OOB));
	meet(s);
	meet(s);
	GET(s, buf, recv(fd, buf, 1, MSG_OOB));
	CALL(s, recv(fd, buf, 64, 0));
}

static volatile sig_atomic_t urgs;

static void on_urg(int signo)
{
	urgs++;
}

static void urgent_signal(struct side *s, int fd)
{
	char buf[64];

	signal(SIGURG, on_urg);
	CALL(s, fcntl(fd, F_SETOWN, getpid()));
	meet(s);
	meet(s);
	say(s, "signals %d", urgs);
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void client_urgent_signal(struct side *s, int fd)
{
	meet(s);
	CALL(s, send(fd, "abX", 3, MSG_OOB));
	sent(s, fd);
	end(s, fd);
}

/* ---- files and pipes ---- */

static int file_of(struct side *s, size_t len)
{
	int fd = memfd_create("data", MFD_CLOEXEC);
	uint8_t *p;

	MUST(s, fd >= 0 && !ftruncate(fd, (off_t)len));
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(s, p != MAP_FAILED);
	stream_fill(p, len, 0);
	munmap(p, len);
	return fd;
}

static void send_file(struct side *s, int fd)
{
	int file = file_of(s, 1000);
	off_t at = 100;

	CALL(s, sendfile(fd, file, NULL, 300));
	CALL(s, sendfile(fd, file, &at, 300));
	say(s, "offset %ld, position %ld", (long)at, (long)lseek(file, 0, SEEK_CUR));
	CALL(s, sendfile(fd, file, &at, 10000));
	CALL(s, sendfile(fd, file, &at, 100));
	end(s, fd);
}

static void send_big_file(struct side *s, int fd)
{
	int file = file_of(s, 4 << 20);
	size_t put = 0;

	while (put < 4 << 20) {
		ssize_t n = sendfile(fd, file, NULL, 4 << 20);

		MUST(s, n > 0);
		put += (size_t)n;
	}
	say(s, "sent %zu", put);
	end(s, fd);
}

static void splice_in(struct side *s, int fd)
{
	int p[2];

	MUST(s, !pipe(p));
	MUST(s, write(p[1], "abcdefghij", 10) == 10);
	CALL(s, splice_by_number(p[0], NULL, fd, NULL, 4, SPLICE_F_MORE));
	CALL(s, splice_by_number(p[0], NULL, fd, NULL, 64, 0));
	CALL(s, splice_by_number(p[0], NULL, fd, NULL, 64, SPLICE_F_NONBLOCK));
	end(s, fd);
}

static void vmsplice_in(struct side *s, int fd)
{
	static char page[4096];
	struct iovec iov = { page, sizeof(page) };
	int p[2];

	memset(page, 'v', sizeof(page));
	MUST(s, !pipe(p));
	CALL(s, vmsplice_by_number(p[1], &iov, 1, 0));
	CALL(s, splice_by_number(p[0], NULL, fd, NULL, sizeof(page), 0));
	end(s, fd);
}

static void splice_out(struct side *s, int fd)
{
	char buf[64];
	int p[2];

	MUST(s, !pipe(p));
	set_nonblocking(fd, true);
	CALL(s, splice_by_number(fd, NULL, p[1], NULL, 64, 0));
	set_nonblocking(fd, false);
	meet(s);
	meet(s);
	CALL(s, splice_by_number(fd, NULL, p[1], NULL, 4, 0));
	CALL(s, splice_by_number(fd, NULL, p[1], NULL, 64, 0));
	GET(s, buf, read(p[0], buf, 64));
	set_nonblocking(fd, true);
	CALL(s, splice_by_number(fd, NULL, p[1], NULL, 64, SPLICE_F_NONBLOCK));
	set_nonblocking(fd, false);
	meet(s);
	meet(s);
	CALL(s, splice_by_number(fd, NULL, p[1], NULL, 64, 0));
}

static void client_splice_out(struct side *s, int fd)
{
	meet(s);
	client_ten(s, fd);
	meet(s);
	CALL(s, shutdown(fd, SHUT_WR));
	meet(s);
}

static void tee_out(struct side *s, int fd)
{
	int p[2], q[2];
	char buf[64];

	MUST(s, !pipe(p) && !pipe(q));
	meet(s);
	CALL(s, splice_by_number(fd, NULL, p[1], NULL, 64, 0));
	CALL(s, tee_by_number(p[0], q[1], 64, 0));
	GET(s, buf, read(p[0], buf, 64));
	GET(s, buf, read(q[0], buf, 64));
	CALL(s, tee_by_number(fd, q[1], 64, 0));
}

/* A proxy that never has the bytes: out of the socket and into it again. */
static void splice_echo(struct side *s, int fd)
{
	size_t all = 0;
	ssize_t n;
	int p[2];

	MUST(s, !pipe(p));
	while ((n = splice_by_number(fd, NULL, p[1], NULL, 65536, 0)) > 0)
		for (all += (size_t)n; n > 0;) {
			ssize_t put = splice_by_number(p[0], NULL, fd, NULL, (size_t)n, 0);

			MUST(s, put > 0);
			n -= put;
		}
	said(s, "the end", n);
	say(s, "spliced %zu", all);
	end(s, fd);
}

static void client_splice_echo(struct side *s, int fd)
{
	stream_send(s, fd, 50000, 5000);
	end(s, fd);
	stream_check(s, fd, 50000, 4096);
	to_end(s, fd);
}

static void copy_range(struct side *s, int fd)
{
	int file = file_of(s, 100);

	CALL(s, copy_file_range(file, NULL, fd, NULL, 100, 0));
	CALL(s, sendfile(file, fd, NULL, 100));
	CALL(s, send(fd, "end", 3, 0));
	end(s, fd);
}

const struct transparency_case cases_send[] = {
	{ "send_zero_length", zero_length, to_end, 0 },
	{ "send_flags", flags, to_end, 0 },
	{ "send_more", more, to_end, 0 },
	{ "send_cork", cork, to_end, 0 },
	{ "send_parts", parts, to_end, 0 },
	{ "send_many_parts", many_parts, to_end, 0 },
	{ "sendmmsg", several, to_end, 0 },
	{ "send_with_name", with_name, to_end, 0 },
	{ "send_bad_memory", bad_memory, to_end, 0 },
	{ "send_no_seeking", no_seeking, to_end, 0 },
	{ "send_bad_control", bad_control, to_end, 0 },
	{ "send_zerocopy", zero_copy, to_end, 0 },
	{ "urgent", urgent, urgent_apart, 0 },
	{ "urgent_inline", urgent, urgent_inline, 0 },
	{ "urgent_peek", urgent, urgent_peek, 0 },
	{ "urgent_alone", urgent_first, urgent_alone, 0 },
	{ "urgent_signal", client_urgent_signal, urgent_signal, 0 },
	{ "sendfile", send_file, to_end, 0 },
	{ "sendfile_big", send_big_file, to_end, 0 },
	{ "splice_in", splice_in, to_end, 0 },
	{ "vmsplice_in", vmsplice_in, to_end, 0 },
	{ "splice_out", client_splice_out, splice_out, 0 },
	{ "splice_echo", client_splice_echo, splice_echo, 0 },
	{ "tee", client_ten, tee_out, 0 },
	{ "copy_file_range", copy_range, to_end, 0 },
	{ NULL, NULL, NULL, 0 },
};
