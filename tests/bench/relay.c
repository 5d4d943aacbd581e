/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * relay PORT TARGET: what any proxy costs that reads each message once and writes it once: bytes of each client go to a connection of its
 * own to TARGET, and back, without a look at them. Sleeps in epoll_wait() only. Messages are to have room in one read.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include "../node/peer.h"

#define EVENTS 64

struct half {
	int fd;
	struct half *other;
};

static int epoll;
static char data[65536];

static void watch(struct half *h)
{
	struct epoll_event ev = { .events = EPOLLIN | (h->other ? EPOLLRDHUP | EPOLLET : 0), .data.ptr = h };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, h->fd, &ev))
		die("epoll_ctl");
}

static void accept_one(int listener, const struct sockaddr_storage *to, socklen_t len)
{
	struct half *pair = calloc(2, sizeof(*pair));
	int one = 1;

	pair[0] = (struct half){ .fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), .other = pair + 1 };
	pair[1] = (struct half){ .fd = socket(to->ss_family, SOCK_STREAM, 0), .other = pair };
	if (pair[0].fd < 0 || pair[1].fd < 0 || connect(pair[1].fd, (const struct sockaddr *)to, len) ||
	    fcntl(pair[1].fd, F_SETFL, O_NONBLOCK))
		die("connect");
	for (int i = 0; i < 2; i++) {
		setsockopt(pair[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		watch(pair + i);
	}
}

/* A pair that has ended stays in memory: there are few, and events at hand may tell of it. */
static void carry(struct half *h)
{
	ssize_t n = recv(h->fd, data, sizeof(data), 0);

	if (n > 0 && send(h->other->fd, data, (size_t)n, MSG_NOSIGNAL) == n)
		return;
	if (n < 0 && errno == EAGAIN)
		return;
	shutdown(h->fd, SHUT_RDWR);
	shutdown(h->other->fd, SHUT_RDWR);
	epoll_ctl(epoll, EPOLL_CTL_DEL, h->fd, NULL);
	close(h->fd);
	h->fd = -1;
}

int main(int argc, char **argv)
{
	struct sockaddr_storage to;
	struct epoll_event events[EVENTS];
	struct half listener = { 0 };
	socklen_t len;

	if (argc != 3)
		die("usage: relay PORT TARGET");
	len = peer_parse(argv[2], &to);
	epoll = epoll_create1(0);
	listener.fd = peer_listen((uint16_t)atoi(argv[1]));
	watch(&listener);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct half *h = events[i].data.ptr;

			if (h == &listener)
				accept_one(listener.fd, &to, len);
			else if (h->fd >= 0)
				carry(h);
		}
	}
}
