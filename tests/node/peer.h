/* SPDX-License-Identifier: BSD-2-Clause */
/* Sockets for the node tests: addresses as text, blocking whole reads and writes. Errors end the process with a message. */
#ifndef TESTS_NODE_PEER_H
#define TESTS_NODE_PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

/* "10.0.0.1:80" or "[fd00::1]:80". */
static inline socklen_t peer_parse(const char *text, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *four = (struct sockaddr_in *)ret;
	const char *colon = strrchr(text, ':');
	char host[64];
	size_t len;

	memset(ret, 0, sizeof(*ret));
	if (!colon || (len = (size_t)(colon - text)) >= sizeof(host)) {
		errno = EINVAL;
		die(text);
	}
	memcpy(host, text, len);
	host[len] = 0;
	if (host[0] == '[') {
		host[len - 1] = 0;
		six->sin6_family = AF_INET6;
		six->sin6_port = htons((uint16_t)atoi(colon + 1));
		if (inet_pton(AF_INET6, host + 1, &six->sin6_addr) != 1)
			die(text);
		return sizeof(*six);
	}
	four->sin_family = AF_INET;
	four->sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, host, &four->sin_addr) != 1)
		die(text);
	return sizeof(*four);
}

/* Text of an address, a v4-mapped one dotted. */
static inline const char *peer_text(const struct sockaddr_storage *sa, char *out, size_t len)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)sa;
	const struct sockaddr_in *four = (const struct sockaddr_in *)sa;

	if (sa->ss_family == AF_INET)
		return inet_ntop(AF_INET, &four->sin_addr, out, (socklen_t)len);
	if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
		return inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, out, (socklen_t)len);
	return inet_ntop(AF_INET6, &six->sin6_addr, out, (socklen_t)len);
}

static inline uint16_t peer_port(const struct sockaddr_storage *sa)
{
	return ntohs(sa->ss_family == AF_INET ? ((const struct sockaddr_in *)sa)->sin_port
					      : ((const struct sockaddr_in6 *)sa)->sin6_port);
}

/* A dual-stack listener on every address. */
static inline int peer_listen(uint16_t port)
{
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, off = 0;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 4096))
		die("listen");
	return fd;
}

/* close() sends a reset, so that no port stays in TIME_WAIT. */
static inline void peer_linger0(int fd)
{
	struct linger l = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

static inline uint64_t peer_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t peer_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

#endif
