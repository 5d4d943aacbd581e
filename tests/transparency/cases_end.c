/* SPDX-License-Identifier: BSD-2-Clause */
/* How connections end: halves, both, resets, and what calls say then. */
#include <linux/tcp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "side.h"

static void reset(struct side *s, int fd)
{
	struct linger l = { .l_onoff = 1 };

	MUST(s, !setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	CALL(s, close(fd));
	s->fd = -1;
}

/* Half-close: a request to its end, the answer after it. */
static void half_client(struct side *s, int fd)
{
	char buf[64];

	CALL(s, send(fd, "abcdefghij", 10, 0));
	CALL(s, shutdown(fd, SHUT_WR));
	GET(s, buf, recv(fd, buf, 64, MSG_WAITALL));
	CALL(s, recv(fd, buf, 64, 0));
}

static void half_server(struct side *s, int fd)
{
	char buf[64];

	GET(s, buf, recv(fd, buf, 64, MSG_WAITALL));
	CALL(s, recv(fd, buf, 64, 0));
	CALL(s, send(fd, "late ", 5, 0));
	CALL(s, send(fd, "answer", 6, 0));
	CALL(s, shutdown(fd, SHUT_WR));
}

static void half_much_client(struct side *s, int fd)
{
	stream_send(s, fd, 262144, 50000);
	CALL(s, shutdown(fd, SHUT_WR));
	stream_check(s, fd, 262144, 4096);
}

static void half_much_server(struct side *s, int fd)
{
	char buf[8];

	stream_check(s, fd, 262144, 4096);
	CALL(s, recv(fd, buf, 8, 0));
	stream_send(s, fd, 262144, 3000);
	CALL(s, close(fd));
	s->fd = -1;
}

static void shut_read(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	CALL(s, shutdown(fd, SHUT_RD));
	GET(s, buf, recv(fd, buf, 5, 0));
	GET(s, buf, recv(fd, buf, 64, 0));
	CALL(s, recv(fd, buf, 64, 0));
	meet(s);
	meet(s);
	GET(s, buf, recv(fd, buf, 64, MSG_DONTWAIT));
	CALL(s, recv(fd, buf, 64, MSG_DONTWAIT));
}

static void client_after_shut_read(struct side *s, int fd)
{
	client_ten(s, fd);
	meet(s);
	client_ten(s, fd);
}

static void shut_both(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	CALL(s, shutdown(fd, SHUT_RDWR));
	GET(s, buf, recv(fd, buf, 64, 0));
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	meet(s);
}

static void client_shut_both(struct side *s, int fd)
{
	char buf[64];

	client_ten(s, fd);
	CALL(s, recv(fd, buf, 64, 0));
	CALL(s, shutdown(fd, SHUT_RDWR));
	meet(s);
}

static void send_after_shutdown(struct side *s, int fd)
{
	CALL(s, send(fd, "abc", 3, 0));
	CALL(s, shutdown(fd, SHUT_WR));
	CALL(s, send(fd, "def", 3, MSG_NOSIGNAL));
	CALL(s, write(fd, "ghi", 3));
	CALL(s, send(fd, "jkl", 3, MSG_NOSIGNAL | MSG_DONTWAIT));
	meet(s);
}

static void to_end(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	GET(s, buf, recv(fd, buf, 64, MSG_WAITALL));
	CALL(s, recv(fd, buf, 64, MSG_DONTWAIT));
}

static volatile sig_atomic_t pipes;

static void on_pipe(int signo)
{
	pipes++;
}

static void send_sigpipe(struct side *s, int fd)
{
	signal(SIGPIPE, on_pipe);
	CALL(s, shutdown(fd, SHUT_WR));
	CALL(s, send(fd, "abc", 3, MSG_NOSIGNAL));
	say(s, "signals %d", pipes);
	CALL(s, send(fd, "abc", 3, 0));
	CALL(s, write(fd, "abc", 3));
	say(s, "signals %d", pipes);
	meet(s);
}

static void not_connected(struct side *s, int none)
{
	int fd = open_socket(s, 0), l = open_listener(s, SPARE_PORT, 1);
	char buf[8];

	CALL(s, shutdown(fd, SHUT_RD));
	CALL(s, shutdown(fd, SHUT_RDWR));
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(s, recv(fd, buf, 8, MSG_DONTWAIT));
	CALL(s, shutdown(fd, 7));
	CALL(s, send(l, "x", 1, MSG_NOSIGNAL));
	CALL(s, recv(l, buf, 8, MSG_DONTWAIT));
	CALL(s, shutdown(l, SHUT_RD));
	CALL(s, accept(l, NULL, NULL));
}

/* ---- resets ---- */

static void client_reset(struct side *s, int fd)
{
	reset(s, fd);
	meet(s);
}

static void recv_after_reset(struct side *s, int fd)
{
	char buf[8];

	meet(s);
	say_events(s, "poll", await(s, fd, POLLIN | POLLOUT | POLLRDHUP));
	CALL(s, recv(fd, buf, 8, 0));
	CALL(s, recv(fd, buf, 8, 0));
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(s, recv(fd, buf, 8, MSG_DONTWAIT));
}

static void send_after_reset(struct side *s, int fd)
{
	char buf[8];

	meet(s);
	await(s, fd, POLLHUP);
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
	CALL(s, recv(fd, buf, 8, 0));
}

static void error_after_reset(struct side *s, int fd)
{
	socklen_t len = sizeof(int);
	int err = -1;
	char buf[8];

	meet(s);
	await(s, fd, POLLHUP);
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say(s, "%s", strerrorname_np(err));
	CALL(s, getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say(s, "%d", err);
	CALL(s, recv(fd, buf, 8, 0));
	CALL(s, shutdown(fd, SHUT_WR));
	CALL(s, close(fd));
	s->fd = -1;
}

static void client_data_then_reset(struct side *s, int fd)
{
	stream_send(s, fd, 100000, 10000);
	settle(s, fd);
	reset(s, fd);
	meet(s);
}

static void data_then_reset(struct side *s, int fd)
{
	char buf[8];

	meet(s);
	await(s, fd, POLLHUP);
	stream_check(s, fd, 100000, 5000);
	CALL(s, recv(fd, buf, 8, 0));
}

static void reset_while_asleep(struct side *s, int fd)
{
	struct nurse *n = when_asleep(s, tell_asleep);
	char buf[8];

	CALL(s, recv(fd, buf, 8, 0));
	rest(s, n);
	CALL(s, recv(fd, buf, 8, 0));
}

static void client_reset_asleep(struct side *s, int fd)
{
	hear(s);
	reset(s, fd);
}

static void client_end_asleep(struct side *s, int fd)
{
	hear(s);
	CALL(s, shutdown(fd, SHUT_WR));
}

/* What was not read makes a reset of a close. */
static void close_unread(struct side *s, int fd)
{
	meet(s);
	CALL(s, close(fd));
	s->fd = -1;
	meet(s);
}

static void client_close_unread(struct side *s, int fd)
{
	char buf[8];

	client_ten(s, fd);
	meet(s);
	say_events(s, "poll", await(s, fd, POLLIN | POLLRDHUP));
	CALL(s, recv(fd, buf, 8, 0));
	CALL(s, recv(fd, buf, 8, 0));
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
}

static void close_half_read(struct side *s, int fd)
{
	char buf[64];

	meet(s);
	GET(s, buf, recv(fd, buf, 4, 0));
	CALL(s, close(fd));
	s->fd = -1;
	meet(s);
}

/* The first write to an end that closed is taken; its answer is a reset. */
static void client_send_to_closed(struct side *s, int fd)
{
	char buf[8];

	meet(s);
	await(s, fd, POLLRDHUP);
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	await(s, fd, POLLHUP);
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(s, recv(fd, buf, 8, 0));
}

static void close_at_once(struct side *s, int fd)
{
	CALL(s, close(fd));
	s->fd = -1;
	meet(s);
}

static void both_close(struct side *s, int fd)
{
	char buf[64];

	CALL(s, send(fd, "abcdefghij", 10, 0));
	CALL(s, shutdown(fd, SHUT_WR));
	GET(s, buf, recv(fd, buf, 64, MSG_WAITALL));
	CALL(s, recv(fd, buf, 64, 0));
	CALL(s, close(fd));
	s->fd = -1;
}

static void linger_time(struct side *s, int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 5 };

	stream_send(s, fd, 100000, 50000);
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	CALL(s, close(fd));
	s->fd = -1;
}

static void read_to_end(struct side *s, int fd)
{
	char buf[8];

	stream_check(s, fd, 100000, 977);
	CALL(s, recv(fd, buf, 8, 0));
}

static void close_with_data(struct side *s, int fd)
{
	stream_send(s, fd, 100000, 977);
	CALL(s, close(fd));
	s->fd = -1;
}

/* connect(AF_UNSPEC) is a reset from our end, and the socket can be used again. */
static void disconnect(struct side *s, int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	char buf[8];

	CALL(s, connect(fd, &none, sizeof(none)));
	CALL(s, send(fd, "x", 1, MSG_NOSIGNAL));
	CALL(s, recv(fd, buf, 8, MSG_DONTWAIT));
	meet(s);
}

/* ---- what TCP_INFO says of it ---- */

static void say_state(struct side *s, int fd, const char *when)
{
	struct tcp_info t = { 0 };
	socklen_t len = sizeof(t);

	MUST(s, !getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len));
	say(s, "%s: state %u ca %u retransmits %u unacked %u", when, t.tcpi_state, t.tcpi_ca_state, t.tcpi_retransmits,
	    t.tcpi_unacked);
}

static void states_client(struct side *s, int fd)
{
	char buf[8];

	settle(s, fd);
	say_state(s, fd, "open");
	client_ten(s, fd);
	say_state(s, fd, "sent");
	CALL(s, shutdown(fd, SHUT_WR));
	settle(s, fd);
	meet(s);
	say_state(s, fd, "ended");
	meet(s);
	await(s, fd, POLLIN);
	CALL(s, recv(fd, buf, 8, 0));
}

static void states_server(struct side *s, int fd)
{
	char buf[64];

	settle(s, fd);
	say_state(s, fd, "open");
	meet(s);
	GET(s, buf, recv(fd, buf, 64, 0));
	meet(s);
	await(s, fd, POLLRDHUP);
	say_state(s, fd, "other ended");
	meet(s);
	CALL(s, shutdown(fd, SHUT_WR));
	settle(s, fd);
	say_state(s, fd, "both ended");
}

const struct transparency_case cases_end[] = {
	{ "half_close", half_client, half_server, 0 },
	{ "half_close_much", half_much_client, half_much_server, 0 },
	{ "shutdown_read", client_after_shut_read, shut_read, 0 },
	{ "shutdown_both", client_shut_both, shut_both, 0 },
	{ "send_after_shutdown", send_after_shutdown, to_end, 0 },
	{ "send_sigpipe", send_sigpipe, to_end, 0 },
	{ "not_connected", not_connected, nothing, RAW | COLD_ONLY },
	{ "reset_recv", client_reset, recv_after_reset, 0 },
	{ "reset_send", client_reset, send_after_reset, 0 },
	{ "reset_so_error", client_reset, error_after_reset, 0 },
	{ "reset_after_data", client_data_then_reset, data_then_reset, 0 },
	{ "reset_asleep", client_reset_asleep, reset_while_asleep, 0 },
	{ "end_asleep", client_end_asleep, reset_while_asleep, 0 },
	{ "close_unread", client_close_unread, close_unread, 0 },
	{ "close_half_read", client_close_unread, close_half_read, 0 },
	{ "send_to_closed", client_send_to_closed, close_at_once, 0 },
	{ "both_close", both_close, both_close, 0 },
	{ "linger_time", linger_time, read_to_end, 0 },
	{ "close_with_data", close_with_data, read_to_end, 0 },
	{ "disconnect", disconnect, recv_after_reset, 0 },
	{ "tcp_info_states", states_client, states_server, 0 },
	{ NULL, NULL, NULL, 0 },
};
