/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hand PORT RULES [--workers N] [--head-ms N] [--body-ms N] [--idle-ms N] [--log] [--uncounted] [--meshl7 PROGRAM]: plays meshd for the engine of meshl7, on loopback and without a
 * kernel's help: listens at PORT on every address, and has its workers answer by the rules of the file RULES (rules.h). Prints "ready". Then each
 * line of its input is a command, answered by one line: "rules FILE", "drain MS", "counts". It ends when they end, or the workers.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "l7/worker.h"
#include "process.h"
#include "rules.h"

struct hand {
	struct worker_shared shared;
	struct workers *workers; /* NULL: `process` has them */
	struct process process;
	const char *program; /* of the process */
	uint32_t nr;
	uint16_t port;
};

static int fail(const char *what)
{
	fprintf(stderr, "hand: %s: %s\n", what, strerror(errno));
	return 2;
}

static int listen_at(uint16_t port)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0;
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 4096))
		exit(fail("listen"));
	return fd;
}

/* Compiled rules of a file; false: a line of it is not understood. */
static bool compile(struct hand *h, const char *path, struct buf *ret)
{
	struct buf text = { 0 }, err = { 0 };
	FILE *f = fopen(path, "re");
	char piece[4096];
	bool ok;

	if (!f)
		exit(fail(path));
	for (size_t n; (n = fread(piece, 1, sizeof(piece), f));)
		buf_add(&text, piece, n);
	fclose(f);
	ok = rules_build((struct str){ text.data, (uint32_t)text.len }, h->port, ret, &err);
	if (!ok)
		fprintf(stderr, "hand: %s: %s\n", path, err.data);
	buf_release(&text);
	buf_release(&err);
	return ok;
}

/* For workers of its own. The bytes go with them. */
static struct http_rules *load(const struct buf *image)
{
	struct buf err = { 0 };
	struct http_rules *r = http_rules_load(image->data, image->len, free, image->data, &err);

	if (!r)
		fprintf(stderr, "hand: refused: %s\n", err.data);
	buf_release(&err);
	return r;
}

static bool change(struct hand *h, const char *path)
{
	struct buf image = { 0 };
	struct http_rules *r;
	bool ok;

	if (!compile(h, path, &image))
		return false;
	if (h->workers) {
		r = load(&image);
		if (r)
			workers_rules(h->workers, r);
		http_rules_unref(r);
		return r;
	}
	ok = process_rules(&h->process, (struct str){ image.data, (uint32_t)image.len });
	buf_release(&image);
	return ok;
}

static void print_counts(const struct hand *h)
{
	const struct mesh_l7_stats *stats = h->workers ? h->shared.stats : h->process.stats;
	struct mesh_l7_worker sum = { 0 };
	uint64_t requests = 0;

	for (uint32_t i = 0; i < h->nr; i++) {
		const struct mesh_l7_worker *w = &stats->workers[i];

		sum.accepted += __atomic_load_n(&w->accepted, __ATOMIC_RELAXED);
		sum.open += __atomic_load_n(&w->open, __ATOMIC_RELAXED);
		sum.upstream_open += __atomic_load_n(&w->upstream_open, __ATOMIC_RELAXED);
		sum.active += __atomic_load_n(&w->active, __ATOMIC_RELAXED);
		sum.refused += __atomic_load_n(&w->refused, __ATOMIC_RELAXED);
		sum.refused_tls += __atomic_load_n(&w->refused_tls, __ATOMIC_RELAXED);
		sum.tls += __atomic_load_n(&w->tls, __ATOMIC_RELAXED);
		sum.tls_unrouted += __atomic_load_n(&w->tls_unrouted, __ATOMIC_RELAXED);
		for (uint32_t s = 0; s < __atomic_load_n(&w->series_nr, __ATOMIC_ACQUIRE); s++)
			requests += __atomic_load_n(&w->series[s].requests, __ATOMIC_RELAXED);
	}
	printf("accepted=%llu open=%llu upstream_open=%llu active=%llu refused=%llu refused_tls=%llu tls=%llu "
	       "tls_unrouted=%llu requests=%llu\n",
	       (unsigned long long)sum.accepted, (unsigned long long)sum.open, (unsigned long long)sum.upstream_open,
	       (unsigned long long)sum.active, (unsigned long long)sum.refused, (unsigned long long)sum.refused_tls,
	       (unsigned long long)sum.tls, (unsigned long long)sum.tls_unrouted, (unsigned long long)requests);
}

/* false: its input has ended. */
static bool command(struct hand *h)
{
	char line[512];

	if (!fgets(line, sizeof(line), stdin))
		return false;
	line[strcspn(line, "\n")] = 0;
	if (!strncmp(line, "rules ", 6)) {
		puts(change(h, line + 6) ? "applied" : "refused");
	} else if (!strncmp(line, "drain ", 6)) {
		if (h->workers)
			workers_drain(h->workers, (uint32_t)atoi(line + 6));
		else
			process_drain(&h->process, (uint32_t)atoi(line + 6));
		puts("draining");
	} else if (!strcmp(line, "counts")) {
		print_counts(h);
	} else {
		puts("what?");
	}
	return true;
}

static void serve(struct hand *h)
{
	struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN },
				{ .fd = h->workers ? workers_ended_fd(h->workers) : h->process.pidfd,
				  .events = POLLIN } };

	while (poll(fds, 2, -1) > 0 && !fds[1].revents)
		if (fds[0].revents && !command(h))
			return;
	puts("ended");
}

static void options(struct hand *h, int argc, char **argv)
{
	for (int i = 3; i < argc; i++) {
		uint32_t n = i + 1 < argc ? (uint32_t)atoi(argv[i + 1]) : 0;

		if (!strcmp(argv[i], "--workers"))
			h->nr = n;
		else if (!strcmp(argv[i], "--head-ms"))
			h->shared.head_ms = n;
		else if (!strcmp(argv[i], "--body-ms"))
			h->shared.body_ms = n;
		else if (!strcmp(argv[i], "--idle-ms"))
			h->shared.idle_ms = n;
		else if (!strcmp(argv[i], "--meshl7"))
			h->program = argv[i + 1];
		else if (!strcmp(argv[i], "--log"))
			h->shared.log.fd = STDERR_FILENO;
		else if (!strcmp(argv[i], "--uncounted"))
			h->shared.stats = NULL;
	}
}

/* By workers of its own; the exit status. */
static int inside(struct hand *h, const int *listeners, const struct buf *image)
{
	struct http_rules *r = load(image);

	if (!r)
		return 2;
	h->shared.lb = lb_new();
	errno = -workers_start(listeners, h->nr, &h->shared, r, &h->workers);
	if (errno)
		return fail("workers");
	http_rules_unref(r);
	puts("ready");
	serve(h);
	workers_free(h->workers);
	lb_free(h->shared.lb);
	return 0;
}

static int outside(struct hand *h, const int *listeners, struct buf *image)
{
	process_start(&h->process, h->program, listeners, h->nr, (struct str){ image->data, (uint32_t)image->len });
	buf_release(image);
	for (uint32_t i = 0; i < h->nr; i++)
		close(listeners[i]);
	puts("ready");
	serve(h);
	return process_end(&h->process);
}

int main(int argc, char **argv)
{
	struct hand h = { .nr = 1, .shared.log = { .fd = -1 } };
	int listeners[MESH_L7_WORKERS_MAX];
	struct buf image = { 0 };

	if (argc < 3) {
		fputs("usage: hand PORT RULES [OPTION...]; see hand.c\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdin, NULL, _IONBF, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	h.port = (uint16_t)atoi(argv[1]);
	h.shared.stats = mmap(NULL, sizeof(struct mesh_l7_stats) + MESH_L7_WORKERS_MAX * sizeof(struct mesh_l7_worker),
			      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	options(&h, argc, argv);
	if (!compile(&h, argv[2], &image))
		return 2;
	for (uint32_t i = 0; i < h.nr; i++)
		listeners[i] = listen_at(h.port);
	return h.program ? outside(&h, listeners, &image) : inside(&h, listeners, &image);
}
