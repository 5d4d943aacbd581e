/* SPDX-License-Identifier: BSD-2-Clause */
/* Active checks against servers on the loopback address, which are on the same event loop: what they ask, and what they make of answers. */
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plane/probe.h"

#define PATIENCE_MS 5000

static struct loop *loop;
static struct probes all;

static struct server {
	int fd; /* listening; -1: not */
	uint16_t port;
	struct loop_io *io;
	const char *answer; /* NULL: none, and it does not hang up */
	bool by_bytes;
	struct loop_io *client_io;
	int client;
	char request[4096];
	uint32_t request_len, accepted;
} server;

/* How often it became healthy, and how often it ceased to be; and what to wait for. */
static uint32_t ups, downs, ups_wanted, downs_wanted, accepted_wanted;

static void look(void)
{
	if (ups >= ups_wanted && downs >= downs_wanted && server.accepted >= accepted_wanted)
		loop_stop(loop);
}

static void on_change(void *data, bool healthy)
{
	ups += healthy;
	downs += !healthy;
	look();
}

static void hang_up(void)
{
	if (!server.client_io)
		return;
	loop_io_del(server.client_io);
	close(server.client);
	server.client_io = NULL;
}

static void on_request(void *data, int fd, uint32_t events)
{
	ssize_t n = recv(fd, server.request + server.request_len, sizeof(server.request) - 1 - server.request_len,
			 MSG_DONTWAIT);

	if (n <= 0) {
		hang_up();
		return;
	}
	server.request_len += (uint32_t)n;
	server.request[server.request_len] = 0;
	if (!server.answer || !strstr(server.request, "\r\n\r\n"))
		return;
	for (const char *a = server.answer; *a && server.by_bytes; a++) {
		ssize_t sent = send(fd, a, 1, MSG_NOSIGNAL);

		(void)sent;
	}
	if (!server.by_bytes && *server.answer)
		n = send(fd, server.answer, strlen(server.answer), MSG_NOSIGNAL);
	hang_up();
}

static void on_accept(void *data, int fd, uint32_t events)
{
	hang_up();
	server.client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	server.accepted++;
	server.request_len = 0;
	server.client_io = loop_io_add(loop, server.client, EPOLLIN, on_request, NULL);
	look();
}

static void serve(int family)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT,
				   .sin6_port = htons(server.port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = htons(server.port) };
	socklen_t len = sizeof(v6);
	int one = 1;

	server.fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(server.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	CHECK_INT(bind(server.fd, family == AF_INET ? (void *)&v4 : (void *)&v6,
		       family == AF_INET ? sizeof(v4) : sizeof(v6)),
		  0);
	CHECK_INT(listen(server.fd, 512), 0);
	getsockname(server.fd, (void *)&v6, &len);
	server.port = ntohs(v6.sin6_port); /* at the same place in both */
	server.io = loop_io_add(loop, server.fd, EPOLLIN, on_accept, NULL);
}

static void unserve(void)
{
	if (server.fd < 0)
		return;
	hang_up();
	loop_io_del(server.io);
	close(server.fd);
	server.fd = -1;
}

static void begin(void)
{
	loop = loop_new();
	all = (struct probes){ .loop = loop };
	server = (struct server){ .fd = -1 };
	ups = downs = ups_wanted = downs_wanted = accepted_wanted = 0;
}

static void end(void)
{
	unserve();
	CHECK_INT(all.running, 0);
	loop_free(loop);
}

static void on_patience(void *data)
{
	loop_stop(loop);
}

static void wait_for(uint32_t up, uint32_t down, uint32_t accepted)
{
	struct loop_timer *t = loop_timer_add(loop, PATIENCE_MS, on_patience, NULL);
	uint64_t began = loop_now_ms();

	ups_wanted = up;
	downs_wanted = down;
	accepted_wanted = accepted;
	loop_run(loop);
	CHECK(loop_now_ms() - began < PATIENCE_MS);
	loop_timer_del(t);
	CHECK_INT(ups, up);
	CHECK_INT(downs, down);
}

static struct u_probe ask(bool http)
{
	return (struct u_probe){
		.http = http,
		.port = server.port,
		.path = STR("/health?a=b"),
		.timeout_ms = 100,
		.period_ms = 5,
		.success_min = 1,
		.failure_max = 1,
	};
}

static struct addr loopback(const char *text)
{
	struct addr a;

	addr_parse(str_of(text), &a);
	return a;
}

TEST(a_port_that_opens_and_closes)
{
	struct addr where = loopback("127.0.0.1");
	struct u_probe what;
	struct probe *p;

	begin();
	serve(AF_INET);
	unserve();
	what = ask(false);
	what.success_min = 3;
	what.failure_max = 2;
	p = probe_new(&all, &what, &where, true, on_change, NULL);
	CHECK_STR(probe_result(p), "not checked yet");
	wait_for(0, 1, 0);
	CHECK(!probe_healthy(p));
	CHECK_STR(probe_result(p), "Connection refused");
	serve(AF_INET);
	wait_for(1, 1, 0);
	CHECK(probe_healthy(p));
	CHECK_STR(probe_result(p), "connected");
	CHECK(server.accepted >= 2); /* the third may not be accepted yet */
	probe_free(p);
	end();
}

/* One failure of two changes nothing, and neither does it count on behind a success. */
TEST(failures_count_in_a_row)
{
	struct addr where = loopback("127.0.0.1");
	struct u_probe what;
	struct probe *p;

	begin();
	serve(AF_INET);
	what = ask(true);
	what.failure_max = 2;
	server.answer = "HTTP/1.1 200 OK\r\n\r\n";
	p = probe_new(&all, &what, &where, true, on_change, NULL);
	for (uint32_t i = 0; i < 10; i++) {
		wait_for(0, 0, server.accepted + 1);
		server.answer = i & 1 ? "HTTP/1.1 200 OK\r\n\r\n" : "HTTP/1.1 500 No\r\n\r\n";
	}
	CHECK(probe_healthy(p));
	server.answer = "HTTP/1.1 500 No\r\n\r\n";
	wait_for(0, 1, 0);
	CHECK(!probe_healthy(p));
	probe_free(p);
	end();
}

static void answers(const char *answer, bool by_bytes, bool healthy, const char *result)
{
	struct addr where = loopback("127.0.0.1");
	struct u_probe what;
	struct probe *p;

	begin();
	serve(AF_INET);
	server.answer = answer;
	server.by_bytes = by_bytes;
	what = ask(true);
	p = probe_new(&all, &what, &where, !healthy, on_change, NULL);
	wait_for(healthy, !healthy, 0);
	CHECK_STR(probe_result(p), result);
	probe_free(p);
	end();
}

TEST(what_is_healthy_of_http)
{
	answers("HTTP/1.1 200 OK\r\n\r\n", false, true, "status 200");
	answers("HTTP/1.0 399 Strange\r\n\r\n", true, true, "status 399");
	answers("HTTP/1.1 400 Bad\r\n\r\n", false, false, "status 400");
	answers("HTTP/1.1 199 Early\r\n\r\n", false, false, "status 199");
	answers("HTTP/1.1 503\r\n\r\n", true, false, "status 503");
	answers("SSH-2.0-OpenSSH\r\n", false, false, "answered something that is not HTTP/1");
	answers("HTTP/1.1 2x0 OK\r\n", false, false, "answered something that is not HTTP/1");
	answers("", false, false, "closed before it answered");
	answers("HTTP/1.1 20", false, false, "closed before it answered");
	answers(NULL, false, false, "no answer in 100 ms");
}

static void asks(const char *address, int family, const char *headers, const char *want)
{
	struct addr where = loopback(address);
	char text[1024], port[8];
	struct u_probe what;
	struct probe *p;
	const char *at;

	begin();
	serve(family);
	server.answer = "HTTP/1.1 200 OK\r\n\r\n";
	what = ask(true);
	what.headers = str_of(headers);
	p = probe_new(&all, &what, &where, false, on_change, NULL);
	wait_for(1, 0, 0);
	snprintf(port, sizeof(port), "%u", server.port);
	at = strstr(want, "PORT");
	if (at)
		snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - want), want, port, at + 4);
	else
		snprintf(text, sizeof(text), "%s", want);
	CHECK_MSG(!strncmp(server.request, "GET /health?a=b HTTP/1.1\r\n", 26), "%s", server.request);
	CHECK_MSG(strstr(server.request, text) != NULL, "%s", server.request);
	CHECK_MSG(strstr(server.request, "Connection: close\r\n\r\n") != NULL, "%s", server.request);
	for (const char *h = server.request; (h = strcasestr(h, "\nhost:")); h++)
		CHECK(!strcasestr(h + 1, "\nhost:"));
	probe_free(p);
	end();
}

TEST(what_it_asks)
{
	asks("127.0.0.1", AF_INET, "", "\r\nHost: 127.0.0.1:PORT\r\nUser-Agent: tulle/");
	asks("::1", AF_INET6, "", "\r\nHost: [::1]:PORT\r\n");
	asks("127.0.0.1", AF_INET, "X-A: 1\r\nhost: shop.example\r\n", "X-A: 1\r\nhost: shop.example\r\n");
	asks("127.0.0.1", AF_INET, "user-agent: me\r\n", "Accept: */*\r\nuser-agent: me\r\n");
}

/* At the address that the check names, not at the workload's. */
TEST(a_host_of_its_own)
{
	struct addr where = loopback("192.0.2.1");
	struct u_probe what, other;
	struct probe *p;

	begin();
	serve(AF_INET);
	what = ask(false);
	what.host = loopback("127.0.0.1");
	p = probe_new(&all, &what, &where, false, on_change, NULL);
	wait_for(1, 0, 0);
	CHECK(probe_is(p, &what, &where));
	other = what;
	other.failure_max++;
	CHECK(!probe_is(p, &other, &where));
	other = what;
	other.host = where;
	CHECK(!probe_is(p, &other, &where));
	probe_free(p);
	end();
}

TEST(it_waits_before_the_first_and_between)
{
	struct addr where = loopback("127.0.0.1");
	uint64_t began;
	struct u_probe what;
	struct probe *p;

	begin();
	serve(AF_INET);
	what = ask(false);
	what.delay_ms = 60;
	what.period_ms = 40;
	began = loop_now_ms();
	p = probe_new(&all, &what, &where, false, on_change, NULL);
	wait_for(1, 0, 1);
	CHECK(loop_now_ms() - began >= 60);
	wait_for(1, 0, 3);
	CHECK(loop_now_ms() - began >= 60 + 2 * 40);
	probe_free(p);
	end();
}

/* More than are checked at a time, and some ended in the middle. */
TEST(a_crowd)
{
	static struct probe *crowd[400];
	struct addr where = loopback("127.0.0.1");
	struct u_probe what;

	begin();
	serve(AF_INET);
	what = ask(false);
	what.timeout_ms = 3000;
	what.period_ms = 100000;
	for (uint32_t i = 0; i < 400; i++)
		crowd[i] = probe_new(&all, &what, &where, false, on_change, NULL);
	loop_timer_add(loop, 0, on_patience, NULL);
	loop_run(loop); /* one round: the first are under way */
	CHECK(all.running > 0 && all.running <= 128);
	for (uint32_t i = 0; i < 50; i++)
		probe_free(crowd[i]);
	wait_for(350, 0, 0);
	for (uint32_t i = 50; i < 400; i++) {
		CHECK(probe_healthy(crowd[i]));
		probe_free(crowd[i]);
	}
	end();
}
