/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clients that treat their connections badly, for tests of what the mesh counts. It knows nothing of the mesh.
 *
 *   churn run SHARED SLOT THREADS SEED PAUSE_US KIND=WEIGHT=ADDR:PORT...
 *       Says "ready". Threads that take one try after the other from SHARED until none is left, up to PAUSE_US apart; each is of
 *       a kind drawn by weight:
 *         good      connects and is answered; held for a while, then ended in one of six ways
 *         limited   the same, and counted in SHARED while it is held: of all processes together, how many at most?
 *         refused, nowhere   a connect() that fails at once
 *         hole      a connect() that nobody answers, left until the kernel gives it up
 *         taken     a connect() from a port that an open connection to the same place has: no address is free
 *         deferred  TCP_FASTOPEN_CONNECT: connect() works without a SYN; closed, or killed, before there is one
 *   churn stop SHARED SLOT PID     stops that process and takes what it holds out of the count, so that it can be killed
 *   churn more SHARED TRIES        adds tries, and makes SHARED where there is none
 *   churn show SHARED              JSON
 *   churn fill ADDR:PORT           connects until it is refused, says how many worked, lets go when standard input ends
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "peer.h"

#define HELD 12	  /* connections that a thread has open at a time */
#define HOLES 32  /* of its kind hole, besides */
#define TARGETS 8 /* of a kind */
#define ERRNOS 134
#define FILL_MAX 1000

/* clang-format off */
#define KINDS(X) X(GOOD, "good") X(LIMITED, "limited") X(REFUSED, "refused") X(NOWHERE, "nowhere") X(HOLE, "hole") X(TAKEN, "taken") \
	X(DEFERRED, "deferred")
/* clang-format on */
#define X(name, text) KIND_##name,
enum kind { KINDS(X) KIND_NR };
#undef X
#define X(name, text) text,
static const char *const kind_names[] = { KINDS(X) };
#undef X

/* Of all processes. They are killed at any instruction: everything is one atomic word. */
struct shared {
	/* Limited connections that are open: a byte for each process, so that one word has the sum and each one's part. */
	_Atomic uint64_t held;
	_Atomic uint64_t held_max;
	_Atomic int64_t left;
	_Atomic uint64_t ended[KIND_NR][ERRNOS];
};
static struct shared *shared;

static struct {
	uint32_t weight, target_nr;
	struct sockaddr_storage target[TARGETS];
} kinds[KIND_NR];
static uint32_t weight_sum, slot, pause_us;

struct held {
	int fd; /* -1: none */
	bool limited;
};

struct worker {
	pthread_t thread;
	uint64_t random;
	uint32_t nr;
	int holders[TARGETS]; /* have the ports that `taken` wants of its targets; -1: nobody yet */
	struct held held[HELD];
	int holes[HOLES];
	uint32_t hole_at;
};

static uint32_t draw(struct worker *w, uint32_t below)
{
	return (uint32_t)(peer_random(&w->random) % below);
}

static uint32_t held_sum(uint64_t held)
{
	uint32_t sum = 0;

	for (; held; held >>= 8)
		sum += held & 255;
	return sum;
}

static void limited_begins(void)
{
	uint64_t one = 1ull << 8 * slot, sum = held_sum(atomic_fetch_add(&shared->held, one) + one),
		 most = atomic_load(&shared->held_max);

	while (sum > most && !atomic_compare_exchange_weak(&shared->held_max, &most, sum))
		;
}

static void ended(enum kind kind, int error)
{
	atomic_fetch_add(&shared->ended[kind][error], 1);
}

static socklen_t length(const struct sockaddr_storage *sa)
{
	return sa->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int new_socket(const struct sockaddr_storage *to, int flags)
{
	struct timeval wait = { .tv_sec = 5 };
	int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	return fd;
}

static int dial(int fd, const struct sockaddr_storage *to)
{
	return connect(fd, (const struct sockaddr *)to, length(to)) ? errno : 0;
}

/* 0 or an errno. */
static int converse(int fd)
{
	char answer[80];
	ssize_t n;

	if (send(fd, "?\n", 2, MSG_NOSIGNAL) != 2)
		return errno;
	n = recv(fd, answer, sizeof(answer), 0);
	return n > 0 ? 0 : n ? errno : EPIPE;
}

static void disconnect(int fd)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	connect(fd, &none, sizeof(none));
}

/* Ends a held connection in one of the ways there are. */
static void let_go(struct worker *w, struct held *h)
{
	char c;

	if (h->fd < 0)
		return;
	if (h->limited)
		atomic_fetch_sub(&shared->held, 1ull << 8 * slot);
	switch (draw(w, 6)) {
	case 0:
		peer_linger0(h->fd);
		break;
	case 1:
		shutdown(h->fd, SHUT_WR);
		(void)!recv(h->fd, &c, 1, 0);
		break;
	case 2:
		disconnect(h->fd);
		break;
	case 3: /* a second connect() of the same socket, and a third that fails */
		disconnect(h->fd);
		if (!dial(h->fd, &kinds[KIND_GOOD].target[draw(w, kinds[KIND_GOOD].target_nr)]))
			converse(h->fd);
		disconnect(h->fd);
		dial(h->fd, &kinds[KIND_REFUSED].target[0]);
		break;
	case 4: /* with an answer unread: the kernel resets it */
		(void)!send(h->fd, "?\n", 2, MSG_NOSIGNAL);
		break;
	}
	close(h->fd);
	h->fd = -1;
}

static void try_open(struct worker *w, enum kind kind, const struct sockaddr_storage *to)
{
	struct held *h = &w->held[draw(w, HELD)];
	int fd, error;

	let_go(w, h);
	fd = new_socket(to, 0);
	error = dial(fd, to);
	if (!error && kind == KIND_LIMITED)
		limited_begins();
	*h = (struct held){ error ? -1 : fd, kind == KIND_LIMITED };
	ended(kind, error ? error : converse(fd));
	if (error)
		close(fd);
}

static void try_deferred(struct worker *w, const struct sockaddr_storage *to)
{
	struct held *h = &w->held[draw(w, HELD)];
	int on = 1;

	let_go(w, h);
	*h = (struct held){ new_socket(to, 0), false };
	setsockopt(h->fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on));
	ended(KIND_DEFERRED, dial(h->fd, to));
}

static void try_once(enum kind kind, const struct sockaddr_storage *to)
{
	int fd = new_socket(to, 0);

	ended(kind, dial(fd, to));
	close(fd);
}

static void hole_ends(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int error = EINPROGRESS;

	if (fd < 0)
		return;
	if (poll(&p, 1, 10000) > 0)
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	ended(KIND_HOLE, error);
	close(fd);
}

static void try_hole(struct worker *w, const struct sockaddr_storage *to)
{
	int *hole = &w->holes[w->hole_at++ % HOLES];
	unsigned int soon_ms = 1; /* at the first timer that expires */

	hole_ends(*hole);
	*hole = new_socket(to, SOCK_NONBLOCK);
	setsockopt(*hole, IPPROTO_TCP, TCP_USER_TIMEOUT, &soon_ms, sizeof(soon_ms));
	dial(*hole, to);
}

static int from_port(const struct worker *w, const struct sockaddr_storage *to, int *ret_fd)
{
	struct sockaddr_storage from = { .ss_family = to->ss_family };
	int on = 1;

	((struct sockaddr_in *)&from)->sin_port = htons((uint16_t)(10000 + w->nr));
	*ret_fd = new_socket(to, 0);
	setsockopt(*ret_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	peer_linger0(*ret_fd);
	if (bind(*ret_fd, (struct sockaddr *)&from, length(to)))
		return errno;
	return dial(*ret_fd, to);
}

static void try_taken(struct worker *w, const struct sockaddr_storage *to)
{
	int *holder = &w->holders[to - kinds[KIND_TAKEN].target], fd, error;

	if (*holder < 0) {
		error = from_port(w, to, &fd);
		if (error)
			close(fd);
		else
			*holder = fd;
	}
	error = from_port(w, to, &fd);
	ended(KIND_TAKEN, error);
	close(fd);
}

static void try_kind(struct worker *w, enum kind kind)
{
	const struct sockaddr_storage *to = &kinds[kind].target[draw(w, kinds[kind].target_nr)];

	switch (kind) {
	case KIND_GOOD:
	case KIND_LIMITED:
		try_open(w, kind, to);
		break;
	case KIND_HOLE:
		try_hole(w, to);
		break;
	case KIND_TAKEN:
		try_taken(w, to);
		break;
	case KIND_DEFERRED:
		try_deferred(w, to);
		break;
	default:
		try_once(kind, to);
	}
}

static void *work(void *data)
{
	struct worker *w = data;

	while (atomic_fetch_sub(&shared->left, 1) > 0) {
		uint32_t at = draw(w, weight_sum), kind = 0;

		while (at >= kinds[kind].weight)
			at -= kinds[kind++].weight;
		try_kind(w, kind);
		if (pause_us)
			usleep(draw(w, pause_us));
	}
	for (int i = 0; i < HELD; i++)
		let_go(w, &w->held[i]);
	for (int i = 0; i < HOLES; i++)
		hole_ends(w->holes[i]);
	for (int i = 0; i < TARGETS; i++)
		if (w->holders[i] >= 0)
			close(w->holders[i]);
	return NULL;
}

static void add_kind(char *text)
{
	char *weight = strchr(text, '='), *to = weight ? strchr(weight + 1, '=') : NULL;

	if (!to)
		die(text);
	*weight = *to = 0;
	for (int i = 0; i < KIND_NR; i++)
		if (!strcmp(kind_names[i], text) && kinds[i].target_nr < TARGETS) {
			/* Where a kind has several targets, its weight is the sum. */
			kinds[i].weight += (uint32_t)atoi(weight + 1);
			peer_parse(to + 1, &kinds[i].target[kinds[i].target_nr++]);
			weight_sum += (uint32_t)atoi(weight + 1);
			return;
		}
	die(text);
}

static int run(uint32_t threads, uint64_t seed, char **args, int nr)
{
	struct worker *workers = calloc(threads, sizeof(*workers));
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	for (int i = 0; i < nr; i++)
		add_kind(args[i]);
	printf("ready\n");
	fflush(stdout);
	for (uint32_t i = 0; i < threads; i++) {
		struct worker *w = &workers[i];

		*w = (struct worker){ .random = seed * 1000 + i, .nr = slot * threads + i };
		for (int j = 0; j < HELD; j++)
			w->held[j].fd = -1;
		for (int j = 0; j < HOLES; j++)
			w->holes[j] = -1;
		for (int j = 0; j < TARGETS; j++)
			w->holders[j] = -1;
		if (pthread_create(&w->thread, NULL, work, w))
			die("pthread_create");
	}
	for (uint32_t i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	return 0;
}

/* Whether every thread of the process stands still. */
static bool is_stopped(int pid)
{
	char path[64];
	struct dirent *e;
	bool all = true;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && all && (e = readdir(dir))) {
		char file[128], text[512] = "", *end;
		int fd;

		if (e->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "/proc/%d/task/%.20s/stat", pid, e->d_name);
		fd = open(file, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		(void)!read(fd, text, sizeof(text) - 1);
		close(fd);
		end = strrchr(text, ')');
		all = end && strchr("TtZX", end[2]);
	}
	if (dir)
		closedir(dir);
	return all;
}

static int stop(int pid)
{
	if (kill(pid, SIGSTOP))
		die("kill");
	while (!is_stopped(pid))
		usleep(100);
	atomic_fetch_and(&shared->held, ~(255ull << 8 * slot));
	return 0;
}

static int show(void)
{
	printf("{\"left\":%ld,\"held\":%u,\"held_max\":%lu", (long)atomic_load(&shared->left),
	       held_sum(atomic_load(&shared->held)), (unsigned long)atomic_load(&shared->held_max));
	for (int i = 0; i < KIND_NR; i++) {
		const char *comma = "";

		printf(",\"%s\":{", kind_names[i]);
		for (int e = 0; e < ERRNOS; e++) {
			uint64_t nr = atomic_load(&shared->ended[i][e]);

			if (nr) {
				printf("%s\"%s\":%lu", comma, e ? strerrorname_np(e) : "0", (unsigned long)nr);
				comma = ",";
			}
		}
		printf("}");
	}
	printf("}\n");
	return 0;
}

static int fill(const char *target)
{
	struct sockaddr_storage to;
	int nr = 0, error = 0;
	char c;

	peer_parse(target, &to);
	while (nr < FILL_MAX && !error) {
		int fd = new_socket(&to, 0);

		error = dial(fd, &to);
		nr += !error;
	}
	printf("%d %s\n", nr, error ? strerrorname_np(error) : "0");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}

static struct shared *map_shared(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct shared *s;

	if (fd < 0 || ftruncate(fd, sizeof(*s)))
		die(path);
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (s == MAP_FAILED)
		die(path);
	close(fd);
	return s;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "fill"))
		return fill(argv[2]);
	if (argc < 3) {
		fprintf(stderr, "usage: churn run SHARED SLOT THREADS SEED PAUSE_US KIND=WEIGHT=ADDR:PORT... | stop "
				"SHARED SLOT PID | "
				"more SHARED TRIES | show SHARED | fill ADDR:PORT\n");
		return 2;
	}
	shared = map_shared(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "more")) {
		atomic_fetch_add(&shared->left, atol(argv[3]));
		return 0;
	}
	if (!strcmp(argv[1], "show"))
		return show();
	slot = argc > 4 ? (uint32_t)atoi(argv[3]) & 7 : 0;
	if (argc == 5 && !strcmp(argv[1], "stop"))
		return stop(atoi(argv[4]));
	if (argc > 7 && !strcmp(argv[1], "run")) {
		pause_us = (uint32_t)atoi(argv[6]);
		return run((uint32_t)atoi(argv[4]), strtoull(argv[5], NULL, 10), argv + 7, argc - 7);
	}
	return 2;
}
