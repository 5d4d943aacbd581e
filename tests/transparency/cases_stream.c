/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams of every shape, readers that are slow, and connections that nobody has accepted yet. */
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "side.h"

#define MB (1u << 20)

/* One way: so many bytes, in writes and reads of so many. */
static void stream_out(struct side *s, int fd, uint64_t total, size_t chunk)
{
	stream_send(s, fd, total, chunk);
	CALL(s, shutdown(fd, SHUT_WR));
}

static void stream_in(struct side *s, int fd, uint64_t total, size_t chunk)
{
	char rest[16];

	stream_check(s, fd, total, chunk);
	CALL(s, recv(fd, rest, sizeof(rest), 0));
}

#define STREAM(name, total, out, in)                      \
	static void name##_client(struct side *s, int fd) \
	{                                                 \
		stream_out(s, fd, total, out);            \
	}                                                 \
	static void name##_server(struct side *s, int fd) \
	{                                                 \
		stream_in(s, fd, total, in);              \
	}

STREAM(bytes_to_bytes, 20000, 1, 1)
STREAM(bytes_to_blocks, 20000, 1, 4096)
STREAM(blocks_to_bytes, 65536, 65536, 1)
STREAM(odd, 3 * MB + 17, 1447, 977)
STREAM(blocks, 64 * MB, 65536, 65536)
STREAM(big_writes, 64 * MB, 4 * MB, 10000)
STREAM(gigabyte, 1024ull * MB, MB, MB)

/* Sizes that follow from the place alone, so that both ends have the same. */
static size_t size_at(uint64_t at)
{
	uint64_t z = (at + 1) * 0xbf58476d1ce4e5b9ull;

	return 1 + (z ^ z >> 31) % 9000;
}

static void mixed_client(struct side *s, int fd)
{
	uint8_t data[9001];

	for (uint64_t at = 0; at < 4 * MB;) {
		size_t n = size_at(at);

		stream_fill(data, n, at);
		send_all(s, fd, data, n);
		at += n;
	}
	CALL(s, shutdown(fd, SHUT_WR));
}

static void mixed_server(struct side *s, int fd)
{
	uint8_t data[9001], want[9001];
	uint64_t at = 0;
	bool same = true;

	for (;;) {
		size_t n = recv_all(s, fd, data, size_at(at ^ 5));

		if (!n)
			break;
		stream_fill(want, n, at);
		same &= !memcmp(data, want, n);
		at += n;
	}
	say(s, "%s: %lu", same ? "same" : "other", (unsigned long)at);
}

static void echo_client(struct side *s, int fd)
{
	static uint8_t data[65536], back[65536];
	bool same = true;

	for (uint64_t i = 0, at = 0; i < 300; i++) {
		size_t n = 1 + (i * 977) % sizeof(data);

		stream_fill(data, n, at);
		send_all(s, fd, data, n);
		same &= recv_all(s, fd, back, n) == n && !memcmp(data, back, n);
		at += n;
	}
	say(s, "echoes %s", same ? "same" : "other");
	CALL(s, shutdown(fd, SHUT_WR));
}

static void echo_server(struct side *s, int fd)
{
	static uint8_t data[65536];
	uint64_t all = 0;
	ssize_t n;

	while ((n = recv(fd, data, sizeof(data), 0)) > 0) {
		send_all(s, fd, data, (size_t)n);
		all += (uint64_t)n;
	}
	said(s, "the end", n);
	say(s, "echoed %lu", (unsigned long)all);
}

/* Several requests before the first answer is read. */
static void pipelined_client(struct side *s, int fd)
{
	static uint8_t back[100 * 100], want[100 * 100];
	uint8_t data[100];
	size_t n;

	for (uint64_t i = 0; i < 100; i++) {
		stream_fill(data, sizeof(data), i * sizeof(data));
		send_all(s, fd, data, sizeof(data));
	}
	stream_fill(want, sizeof(want), 0);
	n = recv_all(s, fd, back, sizeof(back));
	say(s, "answers %zu, %s", n, memcmp(back, want, sizeof(want)) ? "other" : "same");
	CALL(s, shutdown(fd, SHUT_WR));
}

/* ---- readers that are slow ---- */

static uint64_t fill_up(struct side *s, int fd, uint64_t most)
{
	static uint8_t data[65536];
	uint64_t put = 0;
	ssize_t n = 1;

	set_nonblocking(fd, true);
	/* What a buffer holds comes in time, so it is full when it stays full until all is acknowledged that can be. */
	while (put < most && n > 0) {
		stream_fill(data, sizeof(data), put);
		n = send(fd, data, sizeof(data), MSG_NOSIGNAL);
		if (n > 0)
			put += (uint64_t)n;
	}
	set_nonblocking(fd, false);
	say(s, "full: %s", n < 0 && errno == EAGAIN ? "EAGAIN" : "no end");
	return put;
}

/* Nobody reads: the sender is stopped, well below what memory there is, and all that was taken arrives. */
static void full_client(struct side *s, int fd)
{
	uint64_t put = fill_up(s, fd, 64ull * MB);

	tell(s, (uint32_t)put);
	CALL(s, shutdown(fd, SHUT_WR));
}

static void full_server(struct side *s, int fd)
{
	uint64_t put = hear(s), got = 0;
	static uint8_t data[65536], want[65536];
	bool same = true;
	size_t n;

	while ((n = recv_all(s, fd, data, sizeof(data))) > 0) {
		stream_fill(want, n, got);
		same &= !memcmp(data, want, n);
		got += n;
	}
	say(s, "all that was taken: %s, %s", got == put ? "yes" : "no", same ? "same" : "other");
}

static void full_then_room_client(struct side *s, int fd)
{
	uint64_t put = fill_up(s, fd, 64ull * MB);

	tell(s, (uint32_t)put);
	say_events(s, "room again", await(s, fd, POLLOUT));
	CALL(s, shutdown(fd, SHUT_WR));
}

static void timeout_client(struct side *s, int fd)
{
	struct timeval tv = { .tv_usec = 100000 };
	static uint8_t data[MB];
	uint64_t put = 0;
	ssize_t n;

	CALL(s, setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	do {
		stream_fill(data, sizeof(data), put);
		n = send(fd, data, sizeof(data), 0);
		if (n > 0)
			put += (uint64_t)n;
	} while (n > 0 && put < 64ull * MB);
	said(s, "blocked for longer than the timeout", n < 0 ? n : 0);
	tell(s, (uint32_t)put);
	CALL(s, shutdown(fd, SHUT_WR));
}

/* 100 bytes at a time, each when the one before was read. */
static void slow_server(struct side *s, int fd)
{
	uint8_t data[100], want[100];
	bool same = true;
	uint64_t at = 0;

	for (int i = 0; i < 300; i++) {
		size_t n = recv_all(s, fd, data, sizeof(data));

		stream_fill(want, n, at);
		same &= !memcmp(data, want, n);
		at += n;
		sched_yield();
	}
	say(s, "read %lu, %s", (unsigned long)at, same ? "same" : "other");
}

static void slow_client(struct side *s, int fd)
{
	stream_send(s, fd, 30000, 10000);
}

/* ---- before accept() ---- */

static int dial(struct side *s)
{
	int fd = open_socket(s, 0);

	CALL(s, connect(fd, (struct sockaddr *)&s->dial, s->len));
	s->fd = fd;
	return fd;
}

static void early_client(struct side *s, int none)
{
	int fd;

	meet(s);
	fd = dial(s);
	stream_send(s, fd, 20000, 1000);
	settle(s, fd);
	tell(s, 0);
	CALL(s, shutdown(fd, SHUT_WR));
	stream_check(s, fd, 5000, 5000);
	meet(s);
}

static void late_server(struct side *s, int none)
{
	int l = open_listener(s, PORT, 16), fd;

	meet(s);
	hear(s);
	fd = accept_from(s, l);
	stream_in(s, fd, 20000, 977);
	stream_send(s, fd, 5000, 1000);
	meet(s);
}

static void early_end_client(struct side *s, int none)
{
	int fd;

	meet(s);
	fd = dial(s);
	stream_send(s, fd, 5000, 1000);
	settle(s, fd);
	CALL(s, close(fd));
	s->fd = -1;
	tell(s, 0);
}

static void late_end_server(struct side *s, int none)
{
	int l = open_listener(s, PORT, 16);

	meet(s);
	hear(s);
	stream_in(s, accept_from(s, l), 5000, 977);
}

static void early_reset_client(struct side *s, int none)
{
	struct linger lg = { .l_onoff = 1 };
	int fd;

	meet(s);
	fd = dial(s);
	CALL(s, setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg)));
	CALL(s, send(fd, "abcdefghij", 10, 0));
	settle(s, fd);
	CALL(s, close(fd));
	s->fd = -1;
	tell(s, 0);
}

static void late_reset_server(struct side *s, int none)
{
	int l = open_listener(s, PORT, 16), fd;
	char buf[64];

	meet(s);
	hear(s);
	fd = accept_from(s, l);
	await(s, fd, POLLHUP);
	GET(s, buf, recv(fd, buf, 64, 0));
	CALL(s, recv(fd, buf, 64, 0));
	CALL(s, recv(fd, buf, 64, 0));
}

const struct transparency_case cases_stream[] = {
	{ "stream_bytes_to_bytes", bytes_to_bytes_client, bytes_to_bytes_server, 0 },
	{ "stream_bytes_to_blocks", bytes_to_blocks_client, bytes_to_blocks_server, 0 },
	{ "stream_blocks_to_bytes", blocks_to_bytes_client, blocks_to_bytes_server, 0 },
	{ "stream_odd", odd_client, odd_server, SLOW },
	{ "stream_blocks", blocks_client, blocks_server, SLOW | FOUR_ONLY },
	{ "stream_big_writes", big_writes_client, big_writes_server, SLOW | FOUR_ONLY },
	{ "stream_gigabyte", gigabyte_client, gigabyte_server, SLOW | FOUR_ONLY },
	{ "stream_mixed", mixed_client, mixed_server, SLOW },
	{ "stream_echo", echo_client, echo_server, SLOW | FOUR_ONLY },
	{ "stream_pipelined", pipelined_client, echo_server, 0 },
	{ "reader_stops", full_client, full_server, SLOW | FOUR_ONLY },
	{ "reader_stops_and_goes_on", full_then_room_client, full_server, SLOW | FOUR_ONLY },
	{ "send_timeout", timeout_client, full_server, SLOW | FOUR_ONLY },
	{ "reader_slow", slow_client, slow_server, 0 },
	{ "accept_after_data", early_client, late_server, RAW | COLD_ONLY },
	{ "accept_after_end", early_end_client, late_end_server, RAW | COLD_ONLY },
	{ "accept_after_reset", early_reset_client, late_reset_server, RAW | COLD_ONLY },
	{ NULL, NULL, NULL, 0 },
};
