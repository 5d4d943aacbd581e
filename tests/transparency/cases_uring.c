/* SPDX-License-Identifier: BSD-2-Clause */
/* io_uring, by its system calls; and TCP_ZEROCOPY_RECEIVE. */
#include <linux/io_uring.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "side.h"

#define ENTRIES 8

struct ring {
	int fd;
	uint32_t *sq_tail, *cq_head, *cq_tail;
	uint32_t mask, cq_mask;
	uint32_t *array;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static struct ring ring_open(struct side *s)
{
	struct io_uring_params p = { 0 };
	struct ring r = { .fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &p) };
	char *sq, *cq;

	MUST(s, r.fd >= 0);
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED,
		  r.fd, IORING_OFF_CQ_RING);
	r.sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED, r.fd,
		      IORING_OFF_SQES);
	MUST(s, sq != MAP_FAILED && cq != MAP_FAILED && r.sqes != MAP_FAILED);
	r.sq_tail = (uint32_t *)(sq + p.sq_off.tail);
	r.mask = *(uint32_t *)(sq + p.sq_off.ring_mask);
	r.array = (uint32_t *)(sq + p.sq_off.array);
	r.cq_head = (uint32_t *)(cq + p.cq_off.head);
	r.cq_tail = (uint32_t *)(cq + p.cq_off.tail);
	r.cq_mask = *(uint32_t *)(cq + p.cq_off.ring_mask);
	r.cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
	return r;
}

static void submit(struct side *s, struct ring *r, struct io_uring_sqe sqe)
{
	uint32_t at = *r->sq_tail & r->mask;

	r->sqes[at] = sqe;
	r->array[at] = at;
	__atomic_store_n(r->sq_tail, *r->sq_tail + 1, __ATOMIC_RELEASE);
	MUST(s, syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0) == 1);
}

/* The result of the next that is done. */
static ssize_t finished(struct side *s, struct ring *r)
{
	int32_t res;

	while (__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) == *r->cq_head)
		MUST(s, syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) >= 0);
	res = r->cqes[*r->cq_head & r->cq_mask].res;
	__atomic_store_n(r->cq_head, *r->cq_head + 1, __ATOMIC_RELEASE);
	if (res < 0)
		errno = -res;
	return res < 0 ? -1 : res;
}

static struct io_uring_sqe op(uint8_t opcode, int fd, void *data, uint32_t len)
{
	return (struct io_uring_sqe){ .opcode = opcode, .fd = fd, .addr = (uintptr_t)data, .len = len };
}

/* recv is under way before there is anything; no thread sleeps in it. */
static void uring_recv(struct side *s, int fd)
{
	struct ring r = ring_open(s);
	struct io_uring_sqe wait = op(IORING_OP_POLL_ADD, fd, NULL, 0);
	char buf[64];

	submit(s, &r, op(IORING_OP_RECV, fd, buf, 64));
	meet(s);
	GET(s, buf, finished(s, &r));
	meet(s);
	submit(s, &r, op(IORING_OP_READ, fd, buf, 64));
	meet(s);
	GET(s, buf, finished(s, &r));
	wait.poll32_events = POLLIN;
	submit(s, &r, wait);
	meet(s);
	CALL(s, finished(s, &r));
	meet(s);
	submit(s, &r, op(IORING_OP_RECV, fd, buf, 64));
	GET(s, buf, finished(s, &r));
	submit(s, &r, op(IORING_OP_RECV, fd, buf, 64));
	CALL(s, finished(s, &r));
}

static void client_uring_recv(struct side *s, int fd)
{
	meet(s);
	client_ten(s, fd);
	meet(s);
	client_ten(s, fd);
	client_close(s, fd);
}

static void uring_send(struct side *s, int fd)
{
	struct ring r = ring_open(s);
	static uint8_t data[200000];
	size_t put = 0;

	stream_fill(data, sizeof(data), 0);
	submit(s, &r, op(IORING_OP_SEND, fd, data, 1000));
	put += (size_t)CALL(s, finished(s, &r));
	submit(s, &r, op(IORING_OP_WRITE, fd, data + put, 1000));
	put += (size_t)CALL(s, finished(s, &r));
	while (put < sizeof(data)) {
		ssize_t n;

		submit(s, &r, op(IORING_OP_SEND, fd, data + put, (uint32_t)(sizeof(data) - put)));
		n = finished(s, &r);
		MUST(s, n > 0);
		put += (size_t)n;
	}
	submit(s, &r, op(IORING_OP_SHUTDOWN, fd, NULL, SHUT_WR));
	CALL(s, finished(s, &r));
	submit(s, &r, op(IORING_OP_SEND, fd, data, 1000));
	CALL(s, finished(s, &r));
}

static void check_200000(struct side *s, int fd)
{
	char buf[8];

	stream_check(s, fd, 200000, 3001);
	CALL(s, recv(fd, buf, 8, 0));
}

static void uring_send_zc(struct side *s, int fd)
{
	struct ring r = ring_open(s);
	static uint8_t data[20000];

	stream_fill(data, sizeof(data), 0);
	for (size_t put = 0; put < 200000; put += sizeof(data)) {
		stream_fill(data, sizeof(data), put);
		for (size_t n = 0; n < sizeof(data);) {
			ssize_t one;

			submit(s, &r, op(IORING_OP_SEND_ZC, fd, data + n, (uint32_t)(sizeof(data) - n)));
			one = finished(s, &r);
			MUST(s, one > 0);
			n += (size_t)one;
			MUST(s, !finished(s, &r)); /* that its memory is free */
		}
	}
	CALL(s, shutdown(fd, SHUT_WR));
}

/* ---- TCP_ZEROCOPY_RECEIVE ---- */

/* Bytes it maps, copies or leaves to recv(), whichever: all must come. */
static void zerocopy_receive(struct side *s, int fd)
{
	size_t room = 65536, got = 0;
	uint8_t *map = mmap(NULL, room, PROT_READ, MAP_SHARED, fd, 0), *data = malloc(room), *want = malloc(room);

	MUST(s, map != MAP_FAILED);
	meet(s);
	while (got < 40000) {
		struct tcp_zerocopy_receive z = { .address = (uintptr_t)map, .length = (uint32_t)room };
		socklen_t len = sizeof(z);

		if (getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &z, &len)) {
			CALL(s, -1);
			break;
		}
		if (!z.length && !z.recv_skip_hint) {
			say(s, "nothing to receive after %zu", got);
			break;
		}
		memcpy(data + got, map, z.length);
		got += z.length;
		got += recv_all(s, fd, data + got, z.recv_skip_hint);
	}
	stream_fill(want, 40000, 0);
	say(s, "received %zu, %s", got, memcmp(data, want, got) ? "other" : "same");
}

static void client_40000(struct side *s, int fd)
{
	stream_send(s, fd, 40000, 40000);
	sent(s, fd);
}

const struct transparency_case cases_uring[] = {
	{ "uring_recv", client_uring_recv, uring_recv, 0 },
	{ "uring_send", uring_send, check_200000, 0 },
	{ "uring_send_zc", uring_send_zc, check_200000, 0 },
	{ "tcp_zerocopy_receive", client_40000, zerocopy_receive, 0 },
	{ NULL, NULL, NULL, 0 },
};
