/* SPDX-License-Identifier: BSD-2-Clause */
/* Options, TCP_INFO and names of sockets. */
#include <linux/filter.h>
#include <linux/in6.h>
#include <linux/tcp.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "side.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#define IP_TOS 1
#define IP_TTL 2
#define IP_RECVTOS 13
#define IP_MTU_DISCOVER 10
#define IP_FREEBIND 15

struct option {
	const char *name;
	int level, option, value; /* -1: only read */
};

#define O(level, option, value)               \
	{                                     \
#option, level, option, value \
	}

static void say_options(struct side *s, int fd, const struct option *o)
{
	for (; o->name; o++) {
		int was = -1, now = -1, rc = 0;
		socklen_t len = sizeof(int), len_now = sizeof(int);

		rc = getsockopt(fd, o->level, o->option, &was, &len);
		if (rc) {
			said(s, o->name, rc);
			continue;
		}
		if (o->value >= 0 && setsockopt(fd, o->level, o->option, &o->value, sizeof(int)))
			said(s, o->name, -1);
		getsockopt(fd, o->level, o->option, &now, &len_now);
		say(s, "%s: %d, then %d, length %u", o->name, was, now, len_now);
	}
}

static void traffic(struct side *s, int fd)
{
	char buf[64];

	if (s->client) {
		client_ten(s, fd);
		return;
	}
	meet(s);
	GET(s, buf, recv(fd, buf, 64, 0));
}

static void socket_options(struct side *s, int fd)
{
	static const struct option all[] = { O(SOL_SOCKET, SO_KEEPALIVE, 1),
					     O(SOL_SOCKET, SO_OOBINLINE, 1),
					     O(SOL_SOCKET, SO_PRIORITY, 3),
					     O(SOL_SOCKET, SO_RCVLOWAT, 1),
					     O(SOL_SOCKET, SO_SNDLOWAT, 1),
					     O(SOL_SOCKET, SO_REUSEADDR, 1),
					     O(SOL_SOCKET, SO_REUSEPORT, 1),
					     O(SOL_SOCKET, SO_DONTROUTE, 0),
					     O(SOL_SOCKET, SO_BROADCAST, 1),
					     O(SOL_SOCKET, SO_TIMESTAMP, 1),
					     O(SOL_SOCKET, SO_MARK, 0),
					     O(SOL_SOCKET, SO_BUSY_POLL, 0),
					     O(SOL_SOCKET, SO_ZEROCOPY, 1),
					     O(SOL_SOCKET, SO_RXQ_OVFL, 1),
					     O(SOL_SOCKET, SO_LOCK_FILTER, 0),
					     O(SOL_SOCKET, SO_BINDTOIFINDEX, -1),
					     O(SOL_SOCKET, SO_TYPE, -1),
					     O(SOL_SOCKET, SO_PROTOCOL, -1),
					     O(SOL_SOCKET, SO_DOMAIN, -1),
					     O(SOL_SOCKET, SO_ACCEPTCONN, -1),
					     O(SOL_SOCKET, SO_ERROR, -1),
					     O(SOL_SOCKET, SO_PASSCRED, -1),
					     { NULL, 0, 0, 0 } };

	say_options(s, fd, all);
	traffic(s, fd);
}

static void tcp_options(struct side *s, int fd)
{
	static const struct option all[] = { O(IPPROTO_TCP, TCP_NODELAY, 1),
					     O(IPPROTO_TCP, TCP_KEEPIDLE, 11),
					     O(IPPROTO_TCP, TCP_KEEPINTVL, 12),
					     O(IPPROTO_TCP, TCP_KEEPCNT, 3),
					     O(IPPROTO_TCP, TCP_SYNCNT, 4),
					     O(IPPROTO_TCP, TCP_LINGER2, 5),
					     O(IPPROTO_TCP, TCP_DEFER_ACCEPT, 0),
					     O(IPPROTO_TCP, TCP_USER_TIMEOUT, 60000),
					     O(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4096),
					     O(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1),
					     O(IPPROTO_TCP, TCP_CORK, 0),
					     O(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, -1),
					     O(IPPROTO_TCP, TCP_INQ, 1),
					     O(IPPROTO_TCP, TCP_REPAIR, -1),
					     O(IPPROTO_TCP, TCP_SAVE_SYN, -1),
					     O(IPPROTO_TCP, TCP_MAXSEG, -1),
					     { NULL, 0, 0, 0 } };

	say_options(s, fd, all);
	traffic(s, fd);
}

static void ip_options(struct side *s, int fd)
{
	static const struct option four[] = { O(IPPROTO_IP, IP_TOS, 8),
					      O(IPPROTO_IP, IP_TTL, 33),
					      O(IPPROTO_IP, IP_RECVTOS, 1),
					      O(IPPROTO_IP, IP_MTU_DISCOVER, 1),
					      O(IPPROTO_IP, IP_FREEBIND, 1),
					      O(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1),
					      { NULL, 0, 0, 0 } };
	static const struct option six[] = {
		O(IPPROTO_IPV6, IPV6_V6ONLY, -1),    O(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33),
		O(IPPROTO_IPV6, IPV6_RECVTCLASS, 1), O(IPPROTO_IPV6, IPV6_TCLASS, 8),
		O(IPPROTO_IPV6, IPV6_DONTFRAG, 1),   { NULL, 0, 0, 0 }
	};

	say_options(s, fd, s->family == FOUR ? four : six);
	traffic(s, fd);
}

static void structs(struct side *s, int fd)
{
	struct timeval tv = { 3, 500000 };
	struct linger l = { 1, 7 };
	socklen_t len = sizeof(tv), llen = sizeof(l);
	char text[64] = "";
	socklen_t tlen = sizeof(text);

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	memset(&tv, 0, sizeof(tv));
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	say(s, "%ld.%06ld length %u", (long)tv.tv_sec, (long)tv.tv_usec, len);
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	memset(&l, 0, sizeof(l));
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &llen));
	say(s, "%d %d length %u", l.l_onoff, l.l_linger, llen);
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, text, &tlen));
	say(s, "device '%s' length %u", text, tlen);
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &tv, 1));
	CALL(s, getsockopt(fd, SOL_SOCKET, 9999, &tv, &len));
	traffic(s, fd);
}

static void congestion(struct side *s, int fd)
{
	char text[16] = "";
	socklen_t len = sizeof(text);

	CALL(s, setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	CALL(s, getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, text, &len));
	say(s, "'%s' length %u", text, len);
	CALL(s, setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "no such", 7));
	traffic(s, fd);
}

static void ulp(struct side *s, int fd)
{
	char text[16] = "";
	socklen_t len = sizeof(text);

	CALL(s, getsockopt(fd, IPPROTO_TCP, TCP_ULP, text, &len));
	say(s, "length %u", len);
	CALL(s, setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3));
	traffic(s, fd);
}

static void filter(struct side *s, int fd)
{
	struct sock_filter pass[] = { { BPF_RET | BPF_K, 0, 0, 0xffffffff } };
	struct sock_fprog prog = { 1, pass };
	int on = 1;

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
	traffic(s, fd);
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof(on)));
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof(on)));
}

static void buffers(struct side *s, int fd)
{
	int size = 8192, got = 0;
	socklen_t len = sizeof(got);

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &len));
	say(s, "SO_RCVBUF %d", got);
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &got, &len));
	say(s, "SO_SNDBUF %d", got);
	meet(s);
	if (s->client)
		stream_send(s, fd, 300000, 100000);
	else
		stream_check(s, fd, 300000, 10000);
}

/* Whether an option that was set before connect() or accept() is there after it. */
static void inherited_client(struct side *s, int none)
{
	int fd = open_socket(s, 0), on = 1, idle = 77, got = 0;
	socklen_t len = sizeof(got);

	meet(s);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	CALL(s, connect(fd, (struct sockaddr *)&s->dial, s->len));
	getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &got, &len);
	say(s, "TCP_NODELAY %d", got);
	getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &got, &len);
	say(s, "TCP_KEEPIDLE %d", got);
}

static void inherited_server(struct side *s, int none)
{
	int l = open_listener(s, PORT, 4), fd, on = 1, idle = 78, got = 0, size = 50000;
	socklen_t len = sizeof(got);

	setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(l, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(l, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	meet(s);
	fd = accept_from(s, l);
	getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &got, &len);
	say(s, "TCP_NODELAY %d", got);
	getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &got, &len);
	say(s, "TCP_KEEPIDLE %d", got);
	getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &len);
	say(s, "SO_RCVBUF %d", got);
}

/* ---- TCP_INFO ---- */

static struct tcp_info info(struct side *s, int fd)
{
	struct tcp_info t = { 0 };
	socklen_t len = sizeof(t);

	MUST(s, !getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len));
	return t;
}

static void info_fields(struct side *s, int fd)
{
	struct tcp_info t;

	traffic(s, fd);
	settle(s, fd);
	t = info(s, fd);
	say(s, "state %u ca %u retransmits %u probes %u backoff %u options %x", t.tcpi_state, t.tcpi_ca_state,
	    t.tcpi_retransmits, t.tcpi_probes, t.tcpi_backoff, t.tcpi_options);
	say(s, "snd_mss %u advmss %u pmtu %u unacked %u sacked %u lost %u retrans %u total_retrans %u notsent %u",
	    t.tcpi_snd_mss, t.tcpi_advmss, t.tcpi_pmtu, t.tcpi_unacked, t.tcpi_sacked, t.tcpi_lost, t.tcpi_retrans,
	    t.tcpi_total_retrans, t.tcpi_notsent_bytes);
	say(s, "rtt %s, rto %s, cwnd %s, min_rtt %s", t.tcpi_rtt ? "yes" : "no", t.tcpi_rto ? "yes" : "no",
	    t.tcpi_snd_cwnd ? "yes" : "no", t.tcpi_min_rtt ? "yes" : "no");
}

static void info_bytes(struct side *s, int fd)
{
	struct tcp_info was, now;

	settle(s, fd);
	was = info(s, fd);
	meet(s);
	traffic(s, fd);
	settle(s, fd);
	now = info(s, fd);
	say(s, "acked %lu received %lu sent %lu retransmitted %lu",
	    (unsigned long)(now.tcpi_bytes_acked - was.tcpi_bytes_acked),
	    (unsigned long)(now.tcpi_bytes_received - was.tcpi_bytes_received),
	    (unsigned long)(now.tcpi_bytes_sent - was.tcpi_bytes_sent), (unsigned long)now.tcpi_bytes_retrans);
	say(s, "data segments out %u in %u", now.tcpi_data_segs_out - was.tcpi_data_segs_out,
	    now.tcpi_data_segs_in - was.tcpi_data_segs_in);
}

/* ---- names ---- */

static void names(struct side *s, int fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);

	CALL(s, getpeername(fd, (struct sockaddr *)&sa, &len));
	say_address(s, "peer", &sa, len);
	len = sizeof(sa);
	CALL(s, getsockname(fd, (struct sockaddr *)&sa, &len));
	say_address(s, "name", &sa, len);
	len = 4;
	CALL(s, getpeername(fd, (struct sockaddr *)&sa, &len));
	say(s, "length %u", len);
	len = (socklen_t)-1;
	CALL(s, getpeername(fd, (struct sockaddr *)&sa, &len));
	CALL(s, getpeername(fd, NULL, &len));
	traffic(s, fd);
}

static void names_after_end(struct side *s, int fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);

	CALL(s, shutdown(fd, SHUT_WR));
	await(s, fd, POLLHUP);
	settle(s, fd);
	meet(s);
	CALL(s, getpeername(fd, (struct sockaddr *)&sa, &len));
	len = sizeof(sa);
	CALL(s, getsockname(fd, (struct sockaddr *)&sa, &len));
	say_address(s, "name", &sa, len);
}

static void names_before(struct side *s, int none)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	int fd = open_socket(s, 0);

	CALL(s, getpeername(fd, (struct sockaddr *)&sa, &len));
	CALL(s, getsockname(fd, (struct sockaddr *)&sa, &len));
	say(s, "family %d port %u length %u", sa.ss_family, port_of(&sa), len);
}

static void original_dst(struct side *s, int fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);

	CALL(s, getsockopt(fd, IPPROTO_IP, 80 /* SO_ORIGINAL_DST */, &sa, &len));
	traffic(s, fd);
}

static void descriptor(struct side *s, int fd)
{
	int n = 1;

	CALL(s, fcntl(fd, F_GETFL) & O_ACCMODE);
	CALL(s, fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC));
	CALL(s, fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ASYNC));
	CALL(s, fcntl(fd, F_SETFL, 0));
	CALL(s, ioctl(fd, FIONBIO, &n));
	CALL(s, fcntl(fd, F_GETFL) & O_NONBLOCK);
	CALL(s, fsync(fd));
	CALL(s, ftruncate(fd, 0));
	CALL(s, isatty(fd));
	n = 0;
	CALL(s, ioctl(fd, FIONBIO, &n));
	traffic(s, fd);
}

const struct transparency_case cases_option[] = {
	{ "options_socket", socket_options, socket_options, 0 },
	{ "options_tcp", tcp_options, tcp_options, 0 },
	{ "options_ip", ip_options, ip_options, 0 },
	{ "options_structs", structs, structs, 0 },
	{ "options_congestion", congestion, congestion, 0 },
	{ "options_ulp", ulp, ulp, 0 },
	{ "options_filter", filter, filter, 0 },
	{ "options_buffers", buffers, buffers, 0 },
	{ "options_inherited", inherited_client, inherited_server, RAW | COLD_ONLY },
	{ "tcp_info_fields", info_fields, info_fields, 0 },
	{ "tcp_info_bytes", info_bytes, info_bytes, 0 },
	{ "names", names, names, 0 },
	{ "names_after_end", names_after_end, names_after_end, 0 },
	{ "names_before", names_before, nothing, RAW | COLD_ONLY },
	{ "original_dst", original_dst, original_dst, 0 },
	{ "descriptor", descriptor, descriptor, 0 },
	{ NULL, NULL, NULL, 0 },
};
