/* SPDX-License-Identifier: BSD-2-Clause */
/* Every way to receive. */
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "side.h"

static void plain(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void pieces(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	GET(s, buf, recv(fd, buf, 4, 0));
	GET(s, buf, read(fd, buf, 4));
	GET(s, buf, recvfrom(fd, buf, 64, 0, NULL, NULL));
	CALL(s, recv(fd, buf, 64, MSG_DONTWAIT));
}

static void no_room(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	CALL(s, recv(fd, buf, 0, 0));
	CALL(s, read(fd, buf, 0));
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void dontwait_empty(struct side *s, int fd)
{
	char buf[64];

	CALL(s, recv(fd, buf, 64, MSG_DONTWAIT));
	CALL(s, recv(fd, buf, 64, MSG_DONTWAIT | MSG_PEEK));
	CALL(s, recv(fd, buf, 0, MSG_DONTWAIT));
	set_nonblocking(fd, true);
	CALL(s, read(fd, buf, 64));
	CALL(s, recv(fd, buf, 64, MSG_WAITALL));
}

static void peek(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	GET(s, buf, recv(fd, buf, 3, MSG_PEEK));
	GET(s, buf, recv(fd, buf, 64, MSG_PEEK));
	GET(s, buf, recv(fd, buf, 5, 0));
	GET(s, buf, recv(fd, buf, 64, MSG_PEEK));
	GET(s, buf, recv(fd, buf, 64, MSG_DONTWAIT));
	CALL(s, recv(fd, buf, 64, MSG_PEEK | MSG_DONTWAIT));
}

static void peek_two_messages(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	meet(s);
	GET(s, buf, recv(fd, buf, 15, MSG_PEEK));
	GET(s, buf, recv(fd, buf, 64, MSG_PEEK));
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void client_two_messages(struct side *s, int fd)
{
	client_ten(s, fd);
	CALL(s, send(fd, "KLMNOPQRST", 10, 0));
	sent(s, fd);
}

static void peek_waitall(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	meet(s);
	GET(s, buf, recv(fd, buf, 20, MSG_PEEK | MSG_WAITALL));
	GET(s, buf, recv(fd, buf, 20, MSG_WAITALL));
}

static void peek_off(struct side *s, int fd)
{
	int off = 2, on = -1;
	socklen_t len = sizeof(on);
	char buf[64];

	meet(s);
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)));
	GET(s, buf, recv(fd, buf, 3, MSG_PEEK));
	GET(s, buf, recv(fd, buf, 3, MSG_PEEK));
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &on, &len));
	say(s, "offset %d", on);
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void trunc_discards(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	CALL(s, recv(fd, NULL, 4, MSG_TRUNC));
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void trunc_peek(struct side *s, int fd)
{
	char buf[64] = "";

	meet(s);
	CALL(s, recv(fd, buf, 4, MSG_TRUNC | MSG_PEEK));
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void waitall_whole(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	GET(s, buf, recv(fd, buf, 10, MSG_WAITALL));
}

/* The second half is sent when the first has been taken and the reader sleeps on, or has come back with less. */
static void first_half(struct side *s, struct nurse *n)
{
	int left = 1, fd = s->fd;

	tell(s, 0);
	hear(s);
	for (int i = 0; i < WAIT_MS && left && !s->awake; i++)
		if (ioctl(fd, FIONREAD, &left) || left)
			usleep(1000);
	sleeps_again(n);
	tell(s, 0);
}

static void waitall_asleep(struct side *s, int fd)
{
	struct nurse *n = when_asleep(s, first_half);
	char buf[64];

	GET(s, buf, recv(fd, buf, 20, MSG_WAITALL));
	rest(s, n);
	meet(s);
}

static void client_waitall_asleep(struct side *s, int fd)
{
	hear(s);
	CALL(s, send(fd, "abcdefghij", 10, 0));
	settle(s, fd);
	tell(s, 0);
	hear(s);
	CALL(s, send(fd, "KLMNOPQRST", 10, 0));
	sent(s, fd);
}

static void waitall_end(struct side *s, int fd)
{
	char buf[64];

	GET(s, buf, recv(fd, buf, 20, MSG_WAITALL));
	CALL(s, recv(fd, buf, 20, MSG_WAITALL));
	meet(s);
}

static void waitall_timeout(struct side *s, int fd)
{
	struct timeval tv = { .tv_usec = 50000 };
	char buf[64];

	meet(s);
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	GET(s, buf, recv(fd, buf, 20, MSG_WAITALL));
	CALL(s, recv(fd, buf, 20, MSG_WAITALL));
}

static void oob_flag_without(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	CALL(s, recv(fd, buf, 1, MSG_OOB));
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void errqueue_empty(struct side *s, int fd)
{
	char control[256], buf[64];
	struct msghdr m = { .msg_control = control, .msg_controllen = sizeof(control) };

	meet(s);
	CALL(s, recvmsg(fd, &m, MSG_ERRQUEUE));
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void parts(struct side *s, int fd)
{
	char a[4], b[3], c[16];
	struct iovec iov[] = { { a, sizeof(a) }, { NULL, 0 }, { b, sizeof(b) }, { c, sizeof(c) } };

	meet(s);
	CALL(s, readv(fd, iov, 4));
	say(s, "%.4s|%.3s|%.3s", a, b, c);
}

static void msg_parts(struct side *s, int fd)
{
	char a[4], b[3], name[128], control[128];
	struct iovec iov[] = { { a, sizeof(a) }, { b, sizeof(b) } };
	struct msghdr m = { name, sizeof(name), iov, 2, control, sizeof(control), -1 };

	meet(s);
	CALL(s, recvmsg(fd, &m, 0));
	say(s, "%.4s|%.3s name %u control %zu flags %x", a, b, m.msg_namelen, m.msg_controllen, m.msg_flags);
	m.msg_iovlen = 0;
	CALL(s, recvmsg(fd, &m, 0));
	m.msg_iovlen = 2;
	CALL(s, recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_WAITFORONE));
	say(s, "%.3s flags %x", a, m.msg_flags);
}

static void from_address(struct side *s, int fd)
{
	struct sockaddr_storage sa = { .ss_family = 77 };
	socklen_t len = sizeof(sa);
	char buf[64];

	meet(s);
	GET(s, buf, recvfrom(fd, buf, 64, 0, (struct sockaddr *)&sa, &len));
	say(s, "family %d, length %u", sa.ss_family, len);
}

static void many(struct side *s, int fd)
{
	char bufs[3][4];
	struct iovec iov[3];
	struct mmsghdr m[3];

	memset(m, 0, sizeof(m));
	for (int i = 0; i < 3; i++) {
		iov[i] = (struct iovec){ bufs[i], 4 };
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
	}
	meet(s);
	CALL(s, recvmmsg(fd, m, 3, MSG_DONTWAIT, NULL));
	for (int i = 0; i < 3; i++)
		say(s, "%u: %.*s", m[i].msg_len, (int)m[i].msg_len, bufs[i]);
	CALL(s, recvmmsg(fd, m, 3, MSG_DONTWAIT, NULL));
}

static void bad_memory(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	CALL(s, recv(fd, (void *)8, 10, 0));
	GET(s, buf, recv(fd, buf, 64, MSG_DONTWAIT));
}

static void no_seeking(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	CALL(s, pread(fd, buf, 10, 0));
	CALL(s, lseek(fd, 0, SEEK_CUR));
	CALL(s, preadv(fd, &(struct iovec){ buf, 10 }, 1, 0));
	GET(s, buf, preadv2(fd, &(struct iovec){ buf, 10 }, 1, -1, RWF_NOWAIT));
	CALL(s, preadv2(fd, &(struct iovec){ buf, 10 }, 1, -1, RWF_NOWAIT));
}

/* ---- ways that change in the middle ---- */

static void client_four_times(struct side *s, int fd)
{
	for (int i = 0; i < 4; i++) {
		client_ten(s, fd);
		meet(s);
	}
}

static void client_two_times(struct side *s, int fd)
{
	client_ten(s, fd);
	meet(s);
	client_ten(s, fd);
}

static void changes_ways(struct side *s, int fd)
{
	char buf[64], a[4], b[6];
	struct iovec iov[] = { { a, 4 }, { b, 6 } };

	meet(s);
	GET(s, buf, recv(fd, buf, 5, MSG_DONTWAIT));
	GET(s, buf, recv(fd, buf, 5, MSG_WAITALL));
	meet(s);
	meet(s);
	CALL(s, readv(fd, iov, 2));
	say(s, "%.4s|%.6s", a, b);
	meet(s);
	meet(s);
	GET(s, buf, recv(fd, buf, 64, MSG_PEEK));
	set_nonblocking(fd, true);
	GET(s, buf, read(fd, buf, 64));
	set_nonblocking(fd, false);
	meet(s);
	meet(s);
	CALL(s, recv(fd, NULL, 2, MSG_TRUNC));
	GET(s, buf, recv(fd, buf, 8, MSG_WAITALL));
	meet(s);
}

/* ---- how much there is ---- */

static void client_thousand(struct side *s, int fd)
{
	uint8_t data[1000];

	stream_fill(data, sizeof(data), 0);
	CALL(s, send(fd, data, sizeof(data), 0));
	sent(s, fd);
}

static void client_fionread(struct side *s, int fd)
{
	meet(s);
	client_thousand(s, fd);
}

static void say_readable(struct side *s, int fd)
{
	int n = -1;

	CALL(s, ioctl(fd, FIONREAD, &n));
	say(s, "readable %d", n);
}

static void fionread(struct side *s, int fd)
{
	uint8_t data[1000];

	say_readable(s, fd);
	meet(s);
	meet(s);
	say_readable(s, fd);
	GET(s, data, recv(fd, data, 300, 0));
	say_readable(s, fd);
	GET(s, data, recv(fd, data, 100, MSG_PEEK));
	say_readable(s, fd);
	GET(s, data, recv(fd, data, 1000, 0));
	say_readable(s, fd);
}

static void fionread_many(struct side *s, int fd)
{
	char buf[64];

	for (int i = 0; i < 4; i++) {
		meet(s);
		say_readable(s, fd);
		meet(s);
	}
	GET(s, buf, recv(fd, buf, 64, 0));
	say_readable(s, fd);
}

static void fionread_end(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	await(s, fd, POLLRDHUP);
	say_readable(s, fd);
	GET(s, buf, recv(fd, buf, 64, 0));
	say_readable(s, fd);
	CALL(s, recv(fd, buf, 64, 0));
}

static void inq(struct side *s, int fd)
{
	char buf[4], control[128];
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	int on = 1, n = -1;

	CALL(s, setsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, sizeof(on)));
	meet(s);
	CALL(s, recvmsg(fd, &m, 0));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		memcpy(&n, CMSG_DATA(c), sizeof(n));
		say(s, "level %d type %d: %d", c->cmsg_level, c->cmsg_type, n);
	}
}

static void timestamp(struct side *s, int fd)
{
	char buf[16], control[256];
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	int on = 1;

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof(on)));
	meet(s);
	/* The first packet may have come before timestamps were taken on the whole machine. */
	GET(s, buf, recv(fd, buf, 16, 0));
	meet(s);
	meet(s);
	CALL(s, recvmsg(fd, &m, 0));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		say(s, "level %d type %d length %zu", c->cmsg_level, c->cmsg_type, c->cmsg_len);
}

static void outq(struct side *s, int fd)
{
	int n = -1;

	client_thousand(s, fd);
	CALL(s, ioctl(fd, SIOCOUTQ, &n));
	say(s, "unacknowledged %d", n);
	CALL(s, ioctl(fd, SIOCOUTQNSD, &n));
	say(s, "unsent %d", n);
}

static void at_mark(struct side *s, int fd)
{
	int n = -1;

	meet(s);
	CALL(s, ioctl(fd, SIOCATMARK, &n));
	say(s, "at mark %d", n);
}

const struct transparency_case cases_recv[] = {
	{ "recv", client_ten, plain, 0 },
	{ "recv_pieces", client_ten, pieces, 0 },
	{ "recv_no_room", client_ten, no_room, 0 },
	{ "recv_dontwait_empty", nothing, dontwait_empty, 0 },
	{ "recv_peek", client_ten, peek, 0 },
	{ "recv_peek_two_messages", client_two_messages, peek_two_messages, 0 },
	{ "recv_peek_waitall", client_two_messages, peek_waitall, 0 },
	{ "recv_peek_off", client_ten, peek_off, 0 },
	{ "recv_trunc", client_ten, trunc_discards, 0 },
	{ "recv_trunc_peek", client_ten, trunc_peek, 0 },
	{ "recv_waitall", client_ten, waitall_whole, 0 },
	{ "recv_waitall_asleep", client_waitall_asleep, waitall_asleep, 0 },
	{ "recv_waitall_end", client_close, waitall_end, 0 },
	{ "recv_waitall_timeout", client_ten, waitall_timeout, 0 },
	{ "recv_oob_without", client_ten, oob_flag_without, 0 },
	{ "recv_errqueue_empty", client_ten, errqueue_empty, 0 },
	{ "readv", client_ten, parts, 0 },
	{ "recvmsg_parts", client_ten, msg_parts, 0 },
	{ "recvfrom_address", client_ten, from_address, 0 },
	{ "recvmmsg", client_ten, many, 0 },
	{ "recv_bad_memory", client_ten, bad_memory, 0 },
	{ "recv_no_seeking", client_ten, no_seeking, 0 },
	{ "recv_changes_ways", client_four_times, changes_ways, 0 },
	{ "fionread", client_fionread, fionread, 0 },
	{ "fionread_many", client_four_times, fionread_many, 0 },
	{ "fionread_end", client_close, fionread_end, 0 },
	{ "recv_inq", client_ten, inq, 0 },
	{ "recv_timestamp", client_two_times, timestamp, 0 },
	{ "siocoutq", outq, at_mark, 0 },
	{ "siocatmark", client_ten, at_mark, 0 },
	{ NULL, NULL, NULL, 0 },
};
