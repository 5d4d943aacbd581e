/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small cases of the socket interface, each run by two processes, which say what every call returned. The same cases say the same
 * wherever nothing shows; tests/node/transparency.py compares.
 *
 *   transparency list                               names, a line each, with the variants that there are
 *   transparency serve SOCKET IP4 IP6 PEER4 PEER6   the server's half: its pod's addresses and the client's; SOCKET is where both
 *                                                   meet. Says "ready"
 *   transparency run SOCKET IP4 IP6 TO4 TO6 [CASE[/FAMILY[/cold|warm]]...]
 *                                                   the client's half, which leads. For each case a line "= CASE/FAMILY/VARIANT",
 *                                                   "client" and what that said, "server" and what that said; lines that
 *                                                   begin with @ tell the local port of a connection that was warmed up
 * A warm case goes over a connection that two event loops had WARM_NR requests and answers on.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "side.h"

#define CASE_SECONDS 12
#define SLOW_SECONDS 100
#define TEXT_MAX (1 << 16)

enum use { COLD, WARM, EVENTS, USE_NR };
static const char *const use_text[USE_NR] = { "cold", "warm", "events" };
static const char *const family_text[FAMILY_NR] = { "v4", "v6", "mapped" };
static const struct transparency_case *const tables[] = { cases_recv,  cases_send,   cases_stream, cases_poll,
							  cases_end,   cases_signal, cases_option, cases_connect,
							  cases_share, cases_uring };

/* What one pod knows: its own addresses, and those it dials. */
struct place {
	struct in_addr own4, to4;
	struct in6_addr own6, to6;
};

/* What the client's half asks of the server's; the socket where the two sides meet goes along. */
struct order {
	uint32_t table, index, family, use;
};

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static struct sockaddr_storage address(enum family family, struct in_addr four, const struct in6_addr *six)
{
	struct sockaddr_storage sa = { 0 };
	struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)&sa;

	if (family == FOUR) {
		*(struct sockaddr_in *)&sa =
			(struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = four };
		return sa;
	}
	*a6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(PORT), .sin6_addr = *six };
	if (family == MAPPED) {
		memset(&a6->sin6_addr, 0, 10);
		memset(a6->sin6_addr.s6_addr + 10, 0xff, 2);
		memcpy(a6->sin6_addr.s6_addr + 12, &four, 4);
	}
	return sa;
}

/* The whole of one side of a case, in a process of its own. */
static _Noreturn void play(struct side *s, const struct transparency_case *c)
{
	int fd = -1, listener = -1;

	alarm(c->flags & SLOW ? SLOW_SECONDS : CASE_SECONDS);
	if (!(c->flags & RAW)) {
		if (!s->client)
			listener = open_listener(s, PORT, 16);
		meet(s);
		fd = s->client ? connect_to(s) : accept_from(s, listener);
		if (listener >= 0)
			close(listener);
	}
	(s->client ? c->client : c->server)(s, fd);
	meet(s);
	_exit(0);
}

/* Plays a side in a child; what it said comes back in text. */
static size_t play_apart(const struct place *p, const struct order *o, bool client, int meet_fd, char *text)
{
	const struct transparency_case *c = &tables[o->table][o->index];
	struct side s = { .client = client,
			  .warm = o->use != COLD,
			  .events = o->use == EVENTS,
			  .family = o->family,
			  .meet_fd = meet_fd,
			  .fd = -1 };
	int out[2], status = 0;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	s.dial = address(o->family, p->to4, &p->to6);
	s.own = address(o->family, p->own4, &p->own6);
	s.len = o->family == FOUR ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	if (pipe(out))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(out[0]);
		s.out_fd = out[1];
		play(&s, c);
	}
	close(out[1]);
	close(meet_fd);
	while ((n = read(out[0], text + len, TEXT_MAX - 64 - len)) > 0)
		len += (size_t)n;
	close(out[0]);
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		len += (size_t)sprintf(text + len, "ended by %s\n", sigabbrev_np(WTERMSIG(status)));
	return len;
}

/* ---- the two halves, and what they exchange ---- */

static struct sockaddr_un socket_at(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	return sun;
}

static int serve(const char *path, const struct place *p)
{
	struct sockaddr_un sun = socket_at(path);
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), leader;
	char *text = malloc(TEXT_MAX), control[CMSG_SPACE(sizeof(int))];
	struct order o;
	struct iovec iov = { &o, sizeof(o) };

	if (listener < 0 || bind(listener, (struct sockaddr *)&sun, sizeof(sun)) || listen(listener, 1))
		die(path);
	puts("ready");
	fflush(stdout);
	while ((leader = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		for (;;) {
			struct msghdr m = { .msg_iov = &iov,
					    .msg_iovlen = 1,
					    .msg_control = control,
					    .msg_controllen = sizeof(control) };
			size_t len;
			int fd;

			if (recvmsg(leader, &m, MSG_CMSG_CLOEXEC) != sizeof(o) || !CMSG_FIRSTHDR(&m))
				break;
			memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
			len = play_apart(p, &o, false, fd, text);
			/* An empty record would look like the end. */
			if (send(leader, len ? text : "nothing\n", len ? len : 8, 0) < 0)
				break;
		}
		close(leader);
	}
	return 0;
}

static void order(int server, const struct order *o, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec iov = { (void *)o, sizeof(*o) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(fd)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(server, &m, 0) != sizeof(*o))
		die("the server's half");
}

static void run_one(int server, const struct place *p, const struct order *o, char *text)
{
	int pair[2];
	size_t len;
	ssize_t n;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	order(server, o, pair[1]);
	close(pair[1]);
	len = play_apart(p, o, true, pair[0], text);
	printf("= %s/%s/%s\n", tables[o->table][o->index].name, family_text[o->family], use_text[o->use]);
	printf("client\n%.*s", (int)len, text);
	n = recv(server, text, TEXT_MAX, 0);
	if (n <= 0)
		die("the server's half");
	printf("server\n%.*s", (int)n, text);
	fflush(stdout);
}

static bool has_variant(const struct transparency_case *c, const struct order *o)
{
	if (o->use != COLD && c->flags & COLD_ONLY)
		return false;
	return o->family == FOUR || !(c->flags & FOUR_ONLY);
}

/* "case", "case/v4" or "case/v4/warm"; a word that is a beginning of a whole part chooses. */
static bool is_chosen(const char *name, char **words, int nr)
{
	for (int i = 0; i < nr; i++) {
		size_t len = strlen(words[i]);

		if (!strncmp(name, words[i], len) && (name[len] == '/' || !name[len]))
			return true;
	}
	return !nr;
}

static void for_all(char **words, int nr, void (*fn)(void *data, const struct order *o, const char *name), void *data)
{
	char name[128];

	for (uint32_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (uint32_t i = 0; tables[t][i].name; i++)
			for (uint32_t v = 0; v < USE_NR * FAMILY_NR; v++) {
				struct order o = { t, i, v / USE_NR, v % USE_NR };

				if (!has_variant(&tables[t][i], &o))
					continue;
				snprintf(name, sizeof(name), "%s/%s/%s", tables[t][i].name, family_text[o.family],
					 use_text[o.use]);
				if (is_chosen(name, words, nr))
					fn(data, &o, name);
			}
}

static void list_one(void *data, const struct order *o, const char *name)
{
	puts(name);
}

struct leader {
	struct place place;
	int server;
	char *text;
};

static void lead_one(void *data, const struct order *o, const char *name)
{
	struct leader *l = data;

	run_one(l->server, &l->place, o, l->text);
}

static int lead(const char *path, const struct place *p, char **words, int nr)
{
	struct leader l = { *p, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), malloc(TEXT_MAX) };
	struct sockaddr_un sun = socket_at(path);

	if (l.server < 0 || connect(l.server, (struct sockaddr *)&sun, sizeof(sun)))
		die(path);
	for_all(words, nr, lead_one, &l);
	return 0;
}

static void parse(int family, const char *text, void *ret)
{
	if (inet_pton(family, text, ret) != 1) {
		fprintf(stderr, "%s is no address\n", text);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	int stamped = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
	struct rlimit files = { 16384, 16384 };
	struct place p = { 0 };

	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &files);
	/* From when on packets get times is up to the kernel, so this is asked for long before a case looks. */
	setsockopt(stamped, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof(on));
	if (argc == 2 && !strcmp(argv[1], "list")) {
		for_all(NULL, 0, list_one, NULL);
		return 0;
	}
	if (argc >= 7) {
		parse(AF_INET, argv[3], &p.own4);
		parse(AF_INET6, argv[4], &p.own6);
		parse(AF_INET, argv[5], &p.to4);
		parse(AF_INET6, argv[6], &p.to6);
		if (!strcmp(argv[1], "serve"))
			return serve(argv[2], &p);
		if (!strcmp(argv[1], "run"))
			return lead(argv[2], &p, argv + 7, argc - 7);
	}
	fputs("usage: transparency list | serve SOCKET IP4 IP6 PEER4 PEER6 | run SOCKET IP4 IP6 TO4 TO6 [CASE...]\n",
	      stderr);
	return 2;
}
