/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two ends that send each other streams of which every byte is checked: requests and answers, bursts of small messages that wait for their
 * reader, bulk in one direction or both, stalls, all of random sizes, so that whatever carries the bytes has reasons to change its mind.
 * Half of the connections move no bulk but now and then a large message.
 *
 *   soak serve PORT                                    says "ready"; until killed
 *   soak run KIND CONNECTIONS BYTES SEED TARGET...     so many connections at a time, each at one of the targets in turn, until so many
 *                                                      bytes went either way in all; prints a JSON object
 *   soak past KIND CONNECTIONS BYTES SEED TARGET...    the same for ends of which it is known that they were moved past TCP: recv() may be
 *                                                      answered short or woken without bytes, and one thread of an end does everything
 * KIND is how both ends read: poll (and recv of 1 byte to 1 MB), block, waitall, lowat, urgent (bytes between, out of band), threads (two
 * read one socket), signals (block, with a signal each millisecond).
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "peer.h"
#include "stream.h"

#define BUF (1 << 20)
#define LOWAT_MOST 4096
#define PATIENCE_S 60
#define LARGE 65536		    /* more, one way, is bulk by default, and goes by TCP */
#define CONNECTION_BYTES (16 << 20) /* at least, then there is another one */
#define SWING 128		    /* of so many requests three are large, or their answers */
#define BURST_LEAST 144		    /* messages: more than may wait for a reader past TCP by default, and no bulk */
#define BURST_MORE 256
#define BURST_MESSAGE 128

#define KINDS         \
	X(POLL, poll) \
	X(BLOCK, block) X(WAITALL, waitall) X(LOWAT, lowat) X(URGENT, urgent) X(THREADS, threads) X(SIGNALS, signals)
#define X(name, text) name,
enum kind { KINDS KIND_NR };
#undef X
#define X(name, text) #text,
static const char *const kind_text[] = { KINDS };
#undef X

/* First thing on a connection, from the client. */
struct hello {
	uint64_t seed, bytes;
	uint32_t kind, past;
};

struct end {
	pthread_t thread;
	int fd;
	bool client;
	struct hello hello;
	struct sockaddr_storage to;
	socklen_t to_len;
	uint64_t plan, own;	/* random numbers that both ends share, and that they do not */
	uint64_t put, got, due; /* bytes of the streams; how far this end is to read in this step */
	uint64_t messages, phases, urgent, early;
	uint8_t *in, *out;
};

static uint64_t total_connections, total_bytes, total_messages, total_phases, total_urgent, total_early;

static _Noreturn void wrong(const struct end *e, const char *what, uint64_t detail)
{
	fprintf(stderr, "soak: %s, %s, seed %#lx, put %lu, got %lu, due %lu: %s (%lu): %s\n",
		e->client ? "client" : "server", kind_text[e->hello.kind], e->hello.seed, e->put, e->got, e->due, what,
		detail, strerror(errno));
	exit(1);
}

static uint64_t stream_of(const struct end *e, bool of_client)
{
	return e->hello.seed ^ (of_client ? 0x5555 : 0xaaaa);
}

/* 1 to most, uniform in the logarithm. */
static uint32_t log_random(uint64_t *rng, uint32_t most)
{
	uint32_t bits = 32 - (uint32_t)__builtin_clz(most), base = 1u << peer_random(rng) % bits;
	uint32_t n = base + (uint32_t)(peer_random(rng) % base);

	return n < most ? n : most;
}

/* No call of such an end ever sleeps. */
static bool polls(const struct end *e)
{
	return e->hello.kind == POLL || e->hello.kind == URGENT;
}

static bool is_patient(const struct end *e, short events)
{
	struct pollfd pfd = { .fd = e->fd, .events = events };
	int n;

	do {
		n = poll(&pfd, 1, PATIENCE_S * 1000);
	} while (n < 0 && errno == EINTR);
	return n == 1;
}

/* ---- reading ---- */

static void take(struct end *e, size_t n)
{
	size_t good = stream_check(stream_of(e, !e->client), e->got, e->in, n);

	if (good != n)
		wrong(e, "a byte that does not belong there", e->got + good);
	e->got += n;
}

/* Bytes read, all of what is due for WAITALL. */
static size_t read_some(struct end *e)
{
	uint64_t left = e->due - e->got;
	uint32_t most = log_random(&e->own, BUF), lowat = 1;
	ssize_t n;

	if (e->hello.kind == WAITALL || e->hello.kind == LOWAT)
		most = most < left ? most : (uint32_t)left;
	if (e->hello.kind == LOWAT) {
		lowat = most < LOWAT_MOST ? most : LOWAT_MOST;
		if (setsockopt(e->fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof(lowat)))
			wrong(e, "SO_RCVLOWAT", lowat);
	}
	if (polls(e) || e->hello.kind == LOWAT) {
		if (!is_patient(e, POLLIN))
			wrong(e, "nothing to read came", left);
		n = recv(e->fd, e->in, most, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN && e->hello.kind != LOWAT)
			return 0;
	} else {
		n = recv(e->fd, e->in, most, e->hello.kind == WAITALL ? MSG_WAITALL : 0);
		if (n < 0 && errno == EAGAIN && e->hello.past)
			return 0;
	}
	if (n <= 0)
		wrong(e, "recv", (uint64_t)n);
	if (!e->hello.past && e->hello.kind == WAITALL && n != most)
		wrong(e, "recv returned too early", (uint64_t)n);
	/* TCP itself says so now and then, when its window is nearly closed. */
	e->early += n < lowat;
	return (size_t)n;
}

/* What two readers of a socket got, in any order. */
struct pieces {
	struct end *e;
	pthread_mutex_t lock;
	uint64_t taken, sum; /* bytes that somebody asked for; sum of the offsets of bytes that could be placed */
	uint64_t small;	     /* bytes too few to tell whose they are */
};

/* Each asks for a part of what is due that is its own, so that neither waits for bytes that the other took. */
static void *read_pieces(void *data)
{
	struct pieces *p = data;
	struct end *e = p->e;
	uint8_t *in = malloc(BUF);
	uint64_t rng = e->own ^ (uintptr_t)in, at;

	for (;;) {
		uint32_t want = log_random(&rng, BUF), got = 0;
		ssize_t n;

		pthread_mutex_lock(&p->lock);
		want = want < e->due - e->got - p->taken ? want : (uint32_t)(e->due - e->got - p->taken);
		p->taken += want;
		pthread_mutex_unlock(&p->lock);
		for (; got < want; got += (uint32_t)n) {
			n = recv(e->fd, in, want - got, 0);
			if (n <= 0)
				wrong(e, "recv of one of two readers", (uint64_t)n);
			at = n < 16 ? 0 : stream_place(stream_of(e, !e->client), in, (size_t)n, e->due);
			if (at == UINT64_MAX)
				wrong(e, "a piece that belongs nowhere", (uint64_t)n);
			pthread_mutex_lock(&p->lock);
			if (n < 16)
				p->small += (uint64_t)n;
			else
				p->sum += (uint64_t)n * at + (uint64_t)n * ((uint64_t)n - 1) / 2;
			pthread_mutex_unlock(&p->lock);
		}
		if (!want)
			break;
	}
	free(in);
	return NULL;
}

/* All offsets are there once: their sum is known where no piece was too small to place, else it is bounded by what may be missing. */
static void read_with_threads(struct end *e)
{
	struct pieces p = { .e = e, .lock = PTHREAD_MUTEX_INITIALIZER };
	uint64_t n = e->due - e->got, sum = n * e->got + n * (n - 1) / 2;
	pthread_t second;

	if (pthread_create(&second, NULL, read_pieces, &p))
		die("pthread_create");
	read_pieces(&p);
	pthread_join(second, NULL);
	if (p.sum > sum || sum - p.sum < p.small * e->got || sum - p.sum > p.small * e->due)
		wrong(e, "two readers got bytes twice or not at all", p.small);
	e->got = e->due;
	e->own++;
}

static void read_due(struct end *e)
{
	if (e->hello.kind == THREADS && e->due > e->got)
		read_with_threads(e);
	while (e->got < e->due)
		take(e, read_some(e));
}

/* ---- writing ---- */

/* Sends up to n bytes of the stream; how many. */
static size_t write_some(struct end *e, uint64_t n, int flags)
{
	uint32_t most = log_random(&e->own, BUF);
	ssize_t sent;

	n = n < most ? n : most;
	stream_fill(stream_of(e, e->client), e->put, e->out, n);
	sent = send(e->fd, e->out, n, flags | MSG_NOSIGNAL);
	if (sent < 0 && (errno == EAGAIN || errno == EINTR) && flags)
		return 0;
	if (sent <= 0)
		wrong(e, "send", n);
	e->put += (uint64_t)sent;
	return (size_t)sent;
}

/* One thread, as event loops do it. */
static void duplex_polling(struct end *e, uint64_t n)
{
	while (n || e->got < e->due) {
		if (!is_patient(e, (short)((n ? POLLOUT : 0) | (e->got < e->due ? POLLIN : 0))))
			wrong(e, "neither room nor bytes came", n);
		if (n)
			n -= write_some(e, n, MSG_DONTWAIT);
		if (e->got < e->due) {
			ssize_t got = recv(e->fd, e->in, log_random(&e->own, BUF), MSG_DONTWAIT);

			if (got > 0)
				take(e, (size_t)got);
			else if (got == 0 || errno != EAGAIN)
				wrong(e, "recv", (uint64_t)got);
		}
	}
}

struct job {
	struct end *e;
	uint64_t n;
};

static void *write_all(void *data)
{
	struct job *job = data;

	if (polls(job->e)) {
		duplex_polling(job->e, job->n);
		return NULL;
	}
	for (uint64_t n = job->n; n;)
		n -= write_some(job->e, n, 0);
	return NULL;
}

/* One thread that may sleep in a call: what the client writes first, then what it reads. */
static void duplex_in_turn(struct end *e, struct job *job)
{
	if (e->client)
		write_all(job);
	read_due(e);
	if (!e->client)
		write_all(job);
}

/* Writes n bytes and reads `m`, at once. */
static void duplex(struct end *e, uint64_t n, uint64_t m)
{
	struct job job = { e, n };
	pthread_t writer;

	e->due += m;
	if (polls(e)) {
		duplex_polling(e, n);
		return;
	}
	if (e->hello.past) {
		duplex_in_turn(e, &job);
		return;
	}
	if (pthread_create(&writer, NULL, write_all, &job))
		die("pthread_create");
	read_due(e);
	pthread_join(writer, NULL);
}

/* ---- what the ends do ---- */

/* A message, with an urgent byte in its middle for those who want one; its reader has it before it answers, so there is one at a time. */
static void send_message(struct end *e, uint32_t n)
{
	uint32_t first = e->hello.kind == URGENT ? n / 2 : 0;
	struct job job = { e, first };
	uint8_t byte = (uint8_t)e->messages;

	if (first) {
		write_all(&job);
		if (send(e->fd, &byte, 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
			wrong(e, "send of an urgent byte", first);
	}
	job.n = n - first;
	write_all(&job);
}

/* The urgent byte is there until something behind it is read. */
static void read_urgent(struct end *e)
{
	uint8_t byte;

	if (!is_patient(e, POLLPRI))
		wrong(e, "no urgent byte came", e->messages);
	if (recv(e->fd, &byte, 1, MSG_OOB) != 1 || byte != (uint8_t)e->messages)
		wrong(e, "another urgent byte", byte);
	e->urgent++;
}

static void read_message(struct end *e, uint32_t n)
{
	uint32_t first = e->hello.kind == URGENT ? n / 2 : 0;

	e->due += first;
	read_due(e);
	if (first)
		read_urgent(e);
	e->due += n - first;
	read_due(e);
}

static void stall(struct end *e)
{
	struct timespec ts = { .tv_nsec = (long)log_random(&e->own, 8000000) };

	clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

static void ask_and_answer(struct end *e, uint32_t nr)
{
	/* An urgent byte needs a message of two, to be in its middle; each has one, so that its reader is known by the first. */
	uint32_t least = e->hello.kind == URGENT, most = 1u << peer_random(&e->plan) % 14;
	bool stalls = peer_random(&e->plan) % 8 == 0, swings = peer_random(&e->plan) % 2;

	for (uint32_t i = 0; i < nr; i++) {
		uint32_t up = least + log_random(&e->plan, most), down = least + log_random(&e->plan, most);
		uint64_t large = swings ? peer_random(&e->plan) % SWING : 0;

		/* Neither small, nor so large that it is not thought to be over soon; and seldom enough to be past TCP again before
		 * the next. */
		up += large == 1 || large == 3 ? LARGE + log_random(&e->plan, LARGE) : 0;
		down += large == 2 || large == 3 ? LARGE + log_random(&e->plan, LARGE) : 0;
		if (e->client)
			send_message(e, up);
		if (stalls && i % 16 == 0)
			stall(e);
		read_message(e, e->client ? down : up);
		if (!e->client)
			send_message(e, down);
		e->messages++;
	}
}

/* One end sends many small messages while the other looks away, which then reads them and answers. */
static void burst(struct end *e, bool up)
{
	uint32_t nr = BURST_LEAST + (uint32_t)(peer_random(&e->plan) % BURST_MORE), sum = 0;

	for (uint32_t i = 0; i < nr; i++) {
		struct job job = { e, log_random(&e->plan, BURST_MESSAGE) };

		sum += (uint32_t)job.n;
		if (e->client == up)
			write_all(&job);
	}
	if (e->client == up) {
		e->due++;
		read_due(e);
		return;
	}
	stall(e);
	e->due += sum;
	read_due(e);
	write_all(&(struct job){ e, 1 });
}

static void bulk(struct end *e, bool up, bool down)
{
	uint32_t n = up ? log_random(&e->plan, 8 << 20) : 0, m = down ? log_random(&e->plan, 8 << 20) : 0;

	if (peer_random(&e->own) % 2)
		stall(e);
	duplex(e, e->client ? n : m, e->client ? m : n);
}

static void talk(struct end *e)
{
	bool moves_bulk;

	e->in = malloc(BUF);
	e->out = malloc(BUF);
	e->plan = e->hello.seed;
	e->own = e->hello.seed + 1 + e->client;
	moves_bulk = peer_random(&e->plan) % 2;
	while (e->put + e->due < e->hello.bytes) { /* got may be ahead of due: of the next step */
		uint64_t what = peer_random(&e->plan) % 8;

		if (what < 4)
			ask_and_answer(e, 1 + log_random(&e->plan, 400));
		else if (moves_bulk)
			bulk(e, what != 4, what != 5);
		else
			burst(e, what % 2);
		e->phases++;
	}
	free(e->in);
	free(e->out);
}

static void on_signal(int sig)
{
}

/* A signal each millisecond for this thread, whose calls are restarted. */
static timer_t tick(void)
{
	struct itimerspec each = { { .tv_nsec = 1000000 }, { .tv_nsec = 1000000 } };
	struct sigevent se = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	timer_t timer;

	se._sigev_un._tid = gettid();
	if (sigaction(SIGUSR1, &sa, NULL) || timer_create(CLOCK_MONOTONIC, &se, &timer) ||
	    timer_settime(timer, 0, &each, NULL))
		die("timer");
	return timer;
}

/* So that a test that hangs says where. A timeout of this kind turns EINTR on for good: not where signals come. */
static void be_patient(const struct end *e)
{
	struct timeval tv = { .tv_sec = PATIENCE_S };

	if (e->hello.kind != SIGNALS) {
		setsockopt(e->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		setsockopt(e->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	}
}

static void talk_and_end(struct end *e)
{
	int on = 1, kept = 0;
	timer_t timer = NULL;
	ssize_t n;
	char c;

	setsockopt(e->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (polls(e) && fcntl(e->fd, F_SETFL, O_NONBLOCK))
		wrong(e, "O_NONBLOCK", 0);
	be_patient(e);
	/* Before the first message, which may be of one byte. */
	if (e->hello.kind == LOWAT)
		setsockopt(e->fd, SOL_SOCKET, SO_RCVLOWAT, &(int){ LOWAT_MOST }, sizeof(int));
	if (e->hello.kind == SIGNALS)
		timer = tick();
	talk(e);
	if (e->hello.kind == SIGNALS)
		timer_delete(timer);
	setsockopt(e->fd, SOL_SOCKET, SO_RCVLOWAT, &(int){ 1 }, sizeof(int));
	if (e->client && shutdown(e->fd, SHUT_WR))
		wrong(e, "shutdown", 0);
	do {
		if (!is_patient(e, POLLIN))
			wrong(e, "no end came", 0);
		n = recv(e->fd, &c, 1, MSG_DONTWAIT);
	} while (n < 0 && errno == EAGAIN); /* an urgent byte that was read shows as POLLIN, too */
	if (n || ioctl(e->fd, FIONREAD, &kept) || kept)
		wrong(e, "bytes after the last", (uint64_t)kept);
	close(e->fd);
}

/* ---- programs ---- */

static void *serve_one(void *data)
{
	struct end *e = data;
	size_t n = 0;

	while (n < sizeof(e->hello)) {
		ssize_t got;

		if (!is_patient(e, POLLIN))
			return NULL;
		got = recv(e->fd, (uint8_t *)&e->hello + n, sizeof(e->hello) - n, MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN))
			return NULL;
		n += got > 0 ? (size_t)got : 0;
	}
	talk_and_end(e);
	free(e);
	return NULL;
}

static _Noreturn void serve(uint16_t port)
{
	int l = peer_listen(port);
	struct pollfd pfd = { .fd = l, .events = POLLIN };

	printf("ready\n");
	fflush(stdout);
	for (;;) {
		struct end *e = calloc(1, sizeof(*e));

		poll(&pfd, 1, -1);
		e->fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		if (e->fd < 0 || pthread_create(&e->thread, NULL, serve_one, e))
			die("accept");
		pthread_detach(e->thread);
	}
}

static uint64_t run_connection(struct end *e)
{
	e->fd = socket(e->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (e->fd < 0 || connect(e->fd, (struct sockaddr *)&e->to, e->to_len))
		die("connect");
	if (send(e->fd, &e->hello, sizeof(e->hello), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(e->hello))
		die("hello");
	talk_and_end(e);
	__sync_fetch_and_add(&total_connections, 1);
	__sync_fetch_and_add(&total_bytes, e->put + e->got);
	__sync_fetch_and_add(&total_messages, e->messages);
	__sync_fetch_and_add(&total_phases, e->phases);
	__sync_fetch_and_add(&total_urgent, e->urgent);
	__sync_fetch_and_add(&total_early, e->early);
	return e->put + e->got;
}

/* One connection after the other, for the bytes in its hello. */
static void *run_one(void *data)
{
	const struct end *all = data;
	uint64_t rng = all->hello.seed, done = 0;

	while (done < all->hello.bytes) {
		uint64_t most = CONNECTION_BYTES + peer_random(&rng) % CONNECTION_BYTES;
		struct end e = *all;

		e.hello.seed = peer_random(&rng);
		e.hello.bytes = most < all->hello.bytes - done ? most : all->hello.bytes - done;
		done += run_connection(&e);
	}
	return NULL;
}

static enum kind kind_of(const char *text)
{
	for (uint32_t k = 0; k < KIND_NR; k++)
		if (!strcmp(kind_text[k], text))
			return k;
	fprintf(stderr, "soak: no kind %s\n", text);
	exit(2);
}

static int run(char **args, int nr, bool past)
{
	uint32_t connections = (uint32_t)atoi(args[1]);
	uint64_t bytes = strtoull(args[2], NULL, 10), seed = strtoull(args[3], NULL, 10), start = peer_now_ns();
	struct end *ends = calloc(connections, sizeof(*ends));

	for (uint32_t i = 0; i < connections; i++) {
		ends[i] = (struct end){ .client = true,
					.hello = { peer_random(&seed), bytes / connections, kind_of(args[0]), past } };
		ends[i].to_len = peer_parse(args[4 + i % (uint32_t)(nr - 4)], &ends[i].to);
		if (pthread_create(&ends[i].thread, NULL, run_one, &ends[i]))
			die("pthread_create");
	}
	for (uint32_t i = 0; i < connections; i++)
		pthread_join(ends[i].thread, NULL);
	printf("{\"connections\":%lu,\"bytes\":%lu,\"messages\":%lu,\"phases\":%lu,\"urgent\":%lu,\"early\":%lu,"
	       "\"seconds\":%.3f}\n",
	       total_connections, total_bytes, total_messages, total_phases, total_urgent, total_early,
	       (double)(peer_now_ns() - start) / 1e9);
	return 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve((uint16_t)atoi(argv[2]));
	if (argc > 6 && (!strcmp(argv[1], "run") || !strcmp(argv[1], "past")))
		return run(argv + 2, argc - 2, argv[1][0] == 'p');
	fprintf(stderr, "usage: soak serve PORT | soak run|past KIND CONNECTIONS BYTES SEED TARGET...\n");
	return 2;
}
