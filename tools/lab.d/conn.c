/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client that makes many connections to one address and says who answered: `conn [options] ADDRESS PORT [LINE]`, started in a
 * pod with `tools/lab exec`. Each connection sends one line (or one HTTP request, or one datagram of connected UDP), reads the
 * answer of the lab's pod server, and checks that getpeername() shows the dialled address and that a datagram comes from there.
 * `::ffff:a.b.c.d` as ADDRESS dials IPv4 from an IPv6 socket. Exit 0: every connection was answered; 1: some were not.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"

#define ANSWER_MAX 16384
#define PODS_MAX 1024
#define ERRNO_MAX 134
#define TIMEOUT_NS 5000000000ull

static struct {
	uint64_t connections;
	unsigned int concurrency;
	double seconds;	 /* > 0: run so long instead of a number of connections */
	double interval; /* > 0: print counts so often */
	bool udp, http, json;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	struct buf request;
} opt = { .connections = 1, .concurrency = 16 };

struct attempt {
	int fd; /* -1: idle */
	bool sent;
	uint64_t deadline_ns;
	uint32_t len;
	char answer[ANSWER_MAX];
};

static struct {
	char name[128];
	uint64_t count, before;
} pods[PODS_MAX];
static unsigned int pod_nr;
static uint64_t started, answered, failed, peername_wrong, source_wrong, errors[ERRNO_MAX];
static int epoll_fd;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void count_pod(struct str name)
{
	for (unsigned int i = 0; i < pod_nr; i++)
		if (str_is(name, pods[i].name)) {
			pods[i].count++;
			return;
		}
	if (pod_nr == PODS_MAX || name.len >= sizeof(pods->name))
		errx(2, "more answers than this can count: %.*s", STR_ARG(name));
	memcpy(pods[pod_nr].name, name.p, name.len);
	pods[pod_nr++].count = 1;
}

static bool same_address(const struct sockaddr_storage *a)
{
	const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)&opt.addr;
	const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)&opt.addr;

	if (a->ss_family != opt.addr.ss_family)
		return false;
	if (a->ss_family == AF_INET)
		return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return a6->sin6_port == b6->sin6_port && !memcmp(&a6->sin6_addr, &b6->sin6_addr, 16);
}

static void check_peername(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	if (getpeername(fd, (struct sockaddr *)&sa, &len) || !same_address(&sa))
		peername_wrong++;
}

static void finish(struct attempt *a, int error)
{
	close(a->fd);
	a->fd = -1;
	if (!error) {
		answered++;
		return;
	}
	failed++;
	errors[error > 0 && error < ERRNO_MAX ? error : EPROTO]++;
}

/* The value of "pod" in the server's JSON, or the first word of a line. False: the answer is not whole yet. */
static bool answer_pod(const struct attempt *a, struct str *ret)
{
	static const char key[] = "\"pod\":\"";
	const char *at, *end;

	if (!opt.http) {
		if (!opt.udp && !memchr(a->answer, '\n', a->len))
			return false;
		end = memchr(a->answer, ' ', a->len);
		*ret = (struct str){ a->answer, end ? (uint32_t)(end - a->answer) : a->len };
		return true;
	}
	if (a->len < 3 || memcmp(a->answer + a->len - 2, "}\n", 2))
		return false;
	at = memmem(a->answer, a->len, key, sizeof(key) - 1);
	if (!at)
		return false;
	at += sizeof(key) - 1;
	end = memchr(at, '"', a->answer + a->len - at);
	*ret = (struct str){ at, end ? (uint32_t)(end - at) : 0 };
	return end;
}

static void start(struct attempt *a)
{
	struct epoll_event ev = { .events = EPOLLOUT, .data.ptr = a };

	started++;
	a->sent = false;
	a->len = 0;
	a->deadline_ns = now_ns() + TIMEOUT_NS;
	a->fd = socket(opt.addr.ss_family, (opt.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->fd < 0)
		err(2, "socket");
	if (connect(a->fd, (struct sockaddr *)&opt.addr, opt.addr_len) && errno != EINPROGRESS) {
		finish(a, errno);
		return;
	}
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, a->fd, &ev))
		err(2, "epoll_ctl");
}

static void send_request(struct attempt *a)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = a };
	socklen_t len = sizeof(int);
	int error = 0;

	getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		finish(a, error);
		return;
	}
	check_peername(a->fd);
	if (send(a->fd, opt.request.data, opt.request.len, MSG_NOSIGNAL) != (ssize_t)opt.request.len) {
		finish(a, errno);
		return;
	}
	a->sent = true;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, a->fd, &ev))
		err(2, "epoll_ctl");
}

static void read_answer(struct attempt *a)
{
	struct sockaddr_storage from = { 0 };
	socklen_t len = sizeof(from);
	struct str pod;
	ssize_t n = recvfrom(a->fd, a->answer + a->len, sizeof(a->answer) - a->len, 0, (struct sockaddr *)&from, &len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		finish(a, n ? errno : EPIPE);
		return;
	}
	a->len += n;
	if (!answer_pod(a, &pod)) {
		if (a->len == sizeof(a->answer))
			finish(a, EMSGSIZE);
		return;
	}
	if (opt.udp && !same_address(&from))
		source_wrong++;
	count_pod(pod);
	finish(a, 0);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b); /* the name is the first member */
}

static void print_interval(double at)
{
	printf("%5.1fs", at);
	qsort(pods, pod_nr, sizeof(*pods), by_name);
	for (unsigned int i = 0; i < pod_nr; i++) {
		printf("  %s %llu", pods[i].name, (unsigned long long)(pods[i].count - pods[i].before));
		pods[i].before = pods[i].count;
	}
	printf("  failed %llu\n", (unsigned long long)failed);
	fflush(stdout);
}

static void print_json(double seconds)
{
	struct buf out = { 0 };
	struct json j;

	json_init(&j, &out);
	json_object(&j);
	json_kuint(&j, "connections", started);
	json_kuint(&j, "answered", answered);
	json_kuint(&j, "failed", failed);
	json_kuint(&j, "peername_wrong", peername_wrong);
	json_kuint(&j, "source_wrong", source_wrong);
	json_key(&j, "seconds");
	json_double(&j, seconds);
	json_key(&j, "pods");
	json_object(&j);
	for (unsigned int i = 0; i < pod_nr; i++)
		json_kuint(&j, pods[i].name, pods[i].count);
	json_object_end(&j);
	json_key(&j, "errors");
	json_object(&j);
	for (int e = 0; e < ERRNO_MAX; e++)
		if (errors[e])
			json_kuint(&j, strerrorname_np(e), errors[e]);
	json_object_end(&j);
	json_object_end(&j);
	puts(out.data);
	buf_release(&out);
}

static void print_table(double seconds)
{
	qsort(pods, pod_nr, sizeof(*pods), by_name);
	for (unsigned int i = 0; i < pod_nr; i++)
		printf("%-32s %8llu  %6.2f %%\n", pods[i].name, (unsigned long long)pods[i].count,
		       100.0 * pods[i].count / answered);
	for (int e = 0; e < ERRNO_MAX; e++)
		if (errors[e])
			printf("%-32s %8llu\n", strerrorname_np(e), (unsigned long long)errors[e]);
	printf("%llu connections in %.2f s, %llu failed", (unsigned long long)started, seconds,
	       (unsigned long long)failed);
	if (peername_wrong || source_wrong)
		printf(", %llu peer names and %llu sources not as dialled", (unsigned long long)peername_wrong,
		       (unsigned long long)source_wrong);
	putchar('\n');
}

static void expire(struct attempt *attempts)
{
	uint64_t now = now_ns();

	for (unsigned int i = 0; i < opt.concurrency; i++)
		if (attempts[i].fd >= 0 && attempts[i].deadline_ns < now)
			finish(&attempts[i], ETIMEDOUT);
}

static void run(struct attempt *attempts)
{
	uint64_t begin = now_ns(), next_print = begin + opt.interval * 1e9, next_expire = begin;
	struct epoll_event events[64];

	for (;;) {
		uint64_t now = now_ns();
		bool more = opt.seconds > 0 ? now - begin < opt.seconds * 1e9 : started < opt.connections;
		unsigned int busy = 0;
		int n;

		if (now >= next_expire) {
			expire(attempts);
			next_expire = now + 100000000;
		}
		if (opt.interval > 0 && now >= next_print) {
			print_interval((now - begin) / 1e9);
			next_print += opt.interval * 1e9;
		}
		for (unsigned int i = 0; i < opt.concurrency; i++) {
			if (attempts[i].fd < 0 && more && (opt.seconds > 0 || started < opt.connections))
				start(&attempts[i]);
			busy += attempts[i].fd >= 0;
		}
		if (!busy && !more)
			break;
		n = epoll_wait(epoll_fd, events, 64, busy ? 100 : 0);
		for (int i = 0; i < n; i++) {
			struct attempt *a = events[i].data.ptr;

			if (a->sent)
				read_answer(a);
			else
				send_request(a);
		}
	}
	if (opt.json)
		print_json((now_ns() - begin) / 1e9);
	else
		print_table((now_ns() - begin) / 1e9);
}

static void usage(void)
{
	fputs("usage: conn [-n CONNECTIONS] [-c CONCURRENCY] [-t SECONDS] [--every SECONDS] [--udp|--http] [--json] "
	      "ADDRESS PORT [LINE]\n",
	      stderr);
	exit(2);
}

static void target(const char *address, const char *port, const char *line)
{
	struct sockaddr_in *in4 = (void *)&opt.addr;
	struct sockaddr_in6 *in6 = (void *)&opt.addr;
	uint64_t number;

	if (!str_to_u64(str_of(port), UINT16_MAX, &number))
		usage();
	if (inet_pton(AF_INET, address, &in4->sin_addr) == 1) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons(number);
		opt.addr_len = sizeof(*in4);
	} else if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(number);
		opt.addr_len = sizeof(*in6);
	} else {
		errx(2, "%s: not an address", address);
	}
	if (opt.http)
		buf_printf(&opt.request, "GET %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n",
			   line ? line : "/", address, port);
	else
		buf_printf(&opt.request, "%s\n", line ? line : "hello");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "udp", no_argument, NULL, 'u' },
		{ "http", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ "every", required_argument, NULL, 'e' },
		{ NULL, 0, NULL, 0 },
	};
	struct attempt *attempts;
	struct rlimit files;
	int c;

	while ((c = getopt_long(argc, argv, "n:c:t:", options, NULL)) != -1) {
		if (c == 'n')
			opt.connections = strtoull(optarg, NULL, 10);
		else if (c == 'c')
			opt.concurrency = strtoul(optarg, NULL, 10);
		else if (c == 't')
			opt.seconds = strtod(optarg, NULL);
		else if (c == 'e')
			opt.interval = strtod(optarg, NULL);
		else if (c == 'u')
			opt.udp = true;
		else if (c == 'h')
			opt.http = true;
		else if (c == 'j')
			opt.json = true;
		else
			usage();
	}
	if (argc - optind < 2 || argc - optind > 3 || !opt.concurrency)
		usage();
	target(argv[optind], argv[optind + 1], argv[optind + 2]);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	attempts = calloc(opt.concurrency, sizeof(*attempts));
	if (epoll_fd < 0 || !attempts)
		err(2, "set-up");
	for (unsigned int i = 0; i < opt.concurrency; i++)
		attempts[i].fd = -1;
	run(attempts);
	return failed ? 1 : 0;
}
