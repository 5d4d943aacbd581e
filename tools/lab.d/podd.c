/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server in each pod of the lab: `podd POD NAMESPACE LABELS PORT...` (LABELS: a JSON object) listens on every port, TCP and
 * UDP, on `::` for both families. An HTTP request is answered by JSON that says which pod answered and what it saw. Any other
 * line is answered by `<pod> <line>`, a datagram the same. It trusts nothing a client sends, keeps a bound on what it holds for
 * one, and makes no connection of its own.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json.h"

#define IN_MAX 65536	  /* a line longer than this is answered in pieces, a longer request head refused */
#define OUT_MAX (8 << 20) /* above this much unsent nothing more is read */
#define READS_MAX 32	  /* of one connection before the others have their turn */
#define EVENTS 256

static const char *pod_name;
static struct str pod_namespace, pod_labels;
static int epoll_fd;

enum source_kind { SRC_LISTEN, SRC_UDP, SRC_CONN };

struct source {
	enum source_kind kind;
	int fd;
};

/* What the next bytes of a connection are. */
enum expect { EXPECT_MESSAGE, EXPECT_LINE_REST, EXPECT_BODY, EXPECT_CHUNK_SIZE, EXPECT_CHUNK_END, EXPECT_TRAILER };

struct conn {
	struct source src;
	enum expect expect;
	bool eof;
	bool closing;	  /* nothing more is answered */
	bool in_chunk;	  /* the body being skipped is one chunk of several */
	bool keep_alive;  /* of the request whose body is being read */
	uint32_t watched; /* epoll events */
	uint64_t body_left;
	struct buf in, out; /* in: unread from in_at on; out: unsent from out_at on */
	size_t in_at, out_at;
	struct buf reply; /* answer to the request whose body is being read */
};

struct request {
	struct str method, target, version;
	bool keep_alive, chunked, expects_continue;
	uint64_t content_length;
};

static void watch(struct source *src, uint32_t events, int op)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	if (epoll_ctl(epoll_fd, op, src->fd, &ev))
		err(1, "epoll_ctl");
}

static struct str address_text(const struct sockaddr_in6 *sa, char *text, size_t cap)
{
	if (IN6_IS_ADDR_V4MAPPED(&sa->sin6_addr))
		inet_ntop(AF_INET, &sa->sin6_addr.s6_addr[12], text, cap);
	else
		inet_ntop(AF_INET6, &sa->sin6_addr, text, cap);
	return str_of(text);
}

/* ---- HTTP ---- */

/* The next line of *rest without its end; false when there is none. */
static bool take_line(struct str *rest, struct str *ret)
{
	int end = str_find(*rest, '\n');

	if (end < 0)
		return false;
	*ret = str_sub(*rest, 0, end);
	if (ret->len && ret->p[ret->len - 1] == '\r')
		ret->len--;
	*rest = str_sub(*rest, end + 1, rest->len);
	return true;
}

static struct str trim(struct str s)
{
	while (s.len && (*s.p == ' ' || *s.p == '\t'))
		s = str_sub(s, 1, s.len);
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* METHOD SP target SP HTTP/1.x is what makes a line HTTP. */
static bool request_line(struct str line, struct request *r)
{
	int first = str_find(line, ' '), second;

	if (first <= 0)
		return false;
	r->method = str_sub(line, 0, first);
	for (uint32_t i = 0; i < r->method.len; i++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", r->method.p[i]))
			return false;
	line = str_sub(line, first + 1, line.len);
	second = str_find(line, ' ');
	if (second <= 0)
		return false;
	r->target = str_sub(line, 0, second);
	r->version = str_sub(line, second + 1, line.len);
	return r->version.len == 8 && str_starts(r->version, STR("HTTP/1.")) && r->version.p[7] >= '0' &&
	       r->version.p[7] <= '9';
}

static bool same_word(struct str a, const char *b)
{
	return a.len == strlen(b) && !strncasecmp(a.p, b, a.len);
}

/* Does a comma-separated list hold the word? */
static bool list_has(struct str list, const char *word)
{
	while (list.len) {
		int comma = str_find(list, ',');
		struct str item = comma < 0 ? list : str_sub(list, 0, comma);

		if (same_word(trim(item), word))
			return true;
		list = comma < 0 ? STR("") : str_sub(list, comma + 1, list.len);
	}
	return false;
}

static bool header_split(struct str line, struct str *name, struct str *value)
{
	int colon = str_find(line, ':');

	if (colon <= 0)
		return false;
	*name = str_sub(line, 0, colon);
	*value = trim(str_sub(line, colon + 1, line.len));
	return true;
}

/* Reads what framing needs from the headers. False: they cannot be trusted to say where the body ends. */
static bool read_framing(struct str headers, struct request *r)
{
	struct str line, name, value;
	bool has_length = false;

	r->keep_alive = r->version.p[7] != '0';
	while (take_line(&headers, &line) && line.len) {
		uint64_t length;

		if (!header_split(line, &name, &value))
			return false;
		if (same_word(name, "content-length")) {
			if (!str_to_u64(value, INT64_MAX, &length) || (has_length && length != r->content_length))
				return false;
			r->content_length = length;
			has_length = true;
		} else if (same_word(name, "transfer-encoding")) {
			r->chunked = list_has(value, "chunked");
		} else if (same_word(name, "connection")) {
			if (list_has(value, "close"))
				r->keep_alive = false;
			else if (list_has(value, "keep-alive"))
				r->keep_alive = true;
		} else if (same_word(name, "expect")) {
			r->expects_continue = same_word(value, "100-continue");
		}
	}
	return !(r->chunked && has_length);
}

/* All values of the field `wanted` points at, joined by commas, which means the same as a repeated field (RFC 9110, 5.3);
 * *ret_before: the field came before, too. */
static void header_values(struct str headers, struct str wanted, struct buf *ret, bool *ret_before)
{
	struct str line, name, value;

	buf_clear(ret);
	*ret_before = false;
	while (take_line(&headers, &line) && line.len) {
		if (!header_split(line, &name, &value) || name.len != wanted.len ||
		    strncasecmp(name.p, wanted.p, name.len))
			continue;
		if (name.p < wanted.p)
			*ret_before = true;
		if (ret->len)
			buf_str(ret, STR(", "));
		buf_str(ret, value);
	}
}

static void answer_headers(struct json *j, struct str headers)
{
	struct str rest = headers, line, name, value;
	struct buf joined = { 0 };
	bool before;

	json_key(j, "headers");
	json_object(j);
	while (take_line(&rest, &line) && line.len) {
		char key[256];

		header_split(line, &name, &value);
		header_values(headers, name, &joined, &before);
		if (before)
			continue;
		snprintf(key, sizeof(key), "%.*s", STR_ARG(name));
		json_kstr(j, key, (struct str){ joined.data ? joined.data : "", joined.len });
	}
	json_object_end(j);
	buf_release(&joined);
}

static void answer_body(struct conn *c, const struct request *r, struct str headers, struct buf *body)
{
	struct sockaddr_in6 peer = { 0 }, local = { 0 };
	socklen_t peer_len = sizeof(peer), local_len = sizeof(local);
	char text[INET6_ADDRSTRLEN];
	struct json j;

	getpeername(c->src.fd, (struct sockaddr *)&peer, &peer_len);
	getsockname(c->src.fd, (struct sockaddr *)&local, &local_len);
	json_init(&j, body);
	json_object(&j);
	json_kstr(&j, "pod", str_of(pod_name));
	json_kstr(&j, "namespace", pod_namespace);
	json_key(&j, "labels");
	json_raw(&j, pod_labels);
	json_kstr(&j, "peer", address_text(&peer, text, sizeof(text)));
	json_kuint(&j, "peer_port", ntohs(peer.sin6_port));
	json_kstr(&j, "local", address_text(&local, text, sizeof(text)));
	json_kuint(&j, "local_port", ntohs(local.sin6_port));
	json_kstr(&j, "method", r->method);
	json_kstr(&j, "path", r->target);
	answer_headers(&j, headers);
	json_object_end(&j);
	buf_str(body, STR("\n"));
}

static void answer_http(struct conn *c, const struct request *r, struct str headers)
{
	struct buf body = { 0 };

	answer_body(c, r, headers, &body);
	buf_printf(&c->reply,
		   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
		   "Server: podd\r\nConnection: %s\r\n\r\n",
		   body.len, r->keep_alive ? "keep-alive" : "close");
	if (!str_is(r->method, "HEAD"))
		buf_add(&c->reply, body.data, body.len);
	buf_release(&body);
}

static void refuse_http(struct conn *c, const char *status)
{
	buf_printf(&c->out, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
	c->closing = true;
}

/* ---- a connection's bytes ---- */

static struct str unread(const struct conn *c)
{
	return (struct str){ c->in.data ? c->in.data + c->in_at : "", c->in.len - c->in_at };
}

static void request_done(struct conn *c)
{
	buf_add(&c->out, c->reply.data, c->reply.len);
	buf_clear(&c->reply);
	c->expect = EXPECT_MESSAGE;
	if (!c->keep_alive)
		c->closing = true;
}

/* A whole request head at the start of what is unread. True: it was there, and was used up. */
static bool step_request(struct conn *c, struct request *r)
{
	struct str in = unread(c), rest = in, line, headers;

	take_line(&rest, &line);
	headers = rest;
	do {
		if (!take_line(&rest, &line)) {
			if (in.len >= IN_MAX)
				refuse_http(c, "431 Request Header Fields Too Large");
			return false;
		}
	} while (line.len);
	if (!read_framing(headers, r)) {
		refuse_http(c, "400 Bad Request");
		return false;
	}
	headers.len -= rest.len;
	answer_http(c, r, headers);
	c->in_at += in.len - rest.len;
	c->keep_alive = r->keep_alive;
	c->in_chunk = false;
	c->body_left = r->content_length;
	if (r->expects_continue && (r->chunked || r->content_length))
		buf_str(&c->out, STR("HTTP/1.1 100 Continue\r\n\r\n"));
	c->expect = r->chunked ? EXPECT_CHUNK_SIZE : EXPECT_BODY;
	return true;
}

/* A new message: HTTP when its first line is a request line, otherwise a line to be echoed. */
static bool step_message(struct conn *c)
{
	struct request r = { 0 };
	struct str in = unread(c), rest = in, line;

	if (!in.len)
		return false;
	if (!take_line(&rest, &line)) {
		if (in.len < IN_MAX && !c->eof)
			return false;
		rest = STR("");
	} else if (request_line(line, &r)) {
		return step_request(c, &r);
	}
	buf_printf(&c->out, "%s ", pod_name);
	c->expect = EXPECT_LINE_REST;
	return true;
}

static bool step_line(struct conn *c)
{
	struct str in = unread(c);
	int end = str_find(in, '\n');

	if (end < 0 && !in.len && !c->eof)
		return false;
	buf_add(&c->out, in.p, end < 0 ? in.len : (size_t)end + 1);
	c->in_at += end < 0 ? in.len : (size_t)end + 1;
	if (end >= 0) {
		c->expect = EXPECT_MESSAGE;
	} else if (c->eof) {
		buf_str(&c->out, STR("\n"));
		c->expect = EXPECT_MESSAGE;
	}
	return end >= 0 || c->eof;
}

static bool step_body(struct conn *c)
{
	struct str in = unread(c);
	size_t take = in.len < c->body_left ? in.len : c->body_left;

	c->in_at += take;
	c->body_left -= take;
	if (c->body_left)
		return false;
	if (c->in_chunk)
		c->expect = EXPECT_CHUNK_END;
	else
		request_done(c);
	return true;
}

/* The lines between chunks: a size, the end of a chunk, or a trailer. */
static bool step_chunk_line(struct conn *c)
{
	struct str in = unread(c), rest = in, line;
	char digits[17] = "", *end;

	if (!take_line(&rest, &line)) {
		if (in.len >= IN_MAX)
			refuse_http(c, "400 Bad Request");
		return false;
	}
	c->in_at += in.len - rest.len;
	if (c->expect == EXPECT_TRAILER) {
		if (!line.len)
			request_done(c);
		return true;
	}
	if (c->expect == EXPECT_CHUNK_END) {
		c->expect = EXPECT_CHUNK_SIZE;
		if (line.len)
			refuse_http(c, "400 Bad Request");
		return !c->closing;
	}
	memcpy(digits, line.p, line.len < 16 ? line.len : 16);
	c->body_left = strtoull(digits, &end, 16);
	if (end == digits || c->body_left > INT64_MAX || *digits == '-' || *digits == '+') {
		refuse_http(c, "400 Bad Request");
		return false;
	}
	c->in_chunk = c->body_left;
	c->expect = c->body_left ? EXPECT_BODY : EXPECT_TRAILER;
	return true;
}

static bool step(struct conn *c)
{
	switch (c->expect) {
	case EXPECT_MESSAGE:
		return step_message(c);
	case EXPECT_LINE_REST:
		return step_line(c);
	case EXPECT_BODY:
		return step_body(c);
	default:
		return step_chunk_line(c);
	}
}

static void process(struct conn *c)
{
	while (!c->closing && step(c))
		;
	if (c->in_at == c->in.len) {
		buf_clear(&c->in);
		c->in_at = 0;
	} else if (c->in_at) {
		memmove(c->in.data, c->in.data + c->in_at, c->in.len - c->in_at);
		c->in.len -= c->in_at;
		c->in_at = 0;
	}
}

/* ---- sockets ---- */

static void conn_free(struct conn *c)
{
	close(c->src.fd);
	buf_release(&c->in);
	buf_release(&c->out);
	buf_release(&c->reply);
	free(c);
}

/* Sends what there is. False: the connection is broken. */
static bool flush(struct conn *c)
{
	while (c->out_at < c->out.len) {
		ssize_t n = send(c->src.fd, c->out.data + c->out_at, c->out.len - c->out_at, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		c->out_at += n;
	}
	buf_clear(&c->out);
	c->out_at = 0;
	return true;
}

/* Reads and answers until nothing is there. False: the connection is over. */
static bool exchange(struct conn *c)
{
	static char bytes[IN_MAX];

	for (int reads = 0; reads < READS_MAX; reads++) {
		ssize_t n;

		if (!flush(c))
			return false;
		if (c->out.len - c->out_at > OUT_MAX || c->eof)
			break;
		n = recv(c->src.fd, bytes, sizeof(bytes), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->eof = !n;
		if (c->closing)
			continue;
		buf_add(&c->in, bytes, n);
		process(c);
	}
	return flush(c);
}

static void conn_event(struct conn *c)
{
	uint32_t watched;

	if (!exchange(c) || (c->eof && !c->out.len)) {
		conn_free(c);
		return;
	}
	/* An answer must not be lost to the reset that close() sends while bytes are unread: say the end, then read to theirs. */
	if (c->closing && !c->out.len)
		shutdown(c->src.fd, SHUT_WR);
	watched = (c->out.len ? EPOLLOUT : 0) | (!c->eof && c->out.len - c->out_at <= OUT_MAX ? EPOLLIN : 0);
	if (watched != c->watched) {
		c->watched = watched;
		watch(&c->src, watched, EPOLL_CTL_MOD);
	}
}

static void accept_all(int listen_fd)
{
	for (;;) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
		struct conn *c;

		if (fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno != EAGAIN)
				warn("accept");
			return;
		}
		c = calloc(1, sizeof(*c));
		if (!c)
			err(1, "connection");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c->src = (struct source){ SRC_CONN, fd };
		c->watched = EPOLLIN;
		watch(&c->src, EPOLLIN, EPOLL_CTL_ADD);
	}
}

/* Answers from the address that was asked, which is not always the one that routing would choose. */
static void answer_datagrams(int fd)
{
	static char data[65536];

	for (;;) {
		union {
			char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
			struct cmsghdr align;
		} control;
		struct sockaddr_in6 peer;
		struct iovec in = { data, sizeof(data) };
		struct msghdr msg = { .msg_name = &peer,
				      .msg_namelen = sizeof(peer),
				      .msg_iov = &in,
				      .msg_iovlen = 1,
				      .msg_control = &control,
				      .msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(fd, &msg, 0);
		struct iovec out[3] = { { (char *)pod_name, strlen(pod_name) }, { " ", 1 }, { data, 0 } };

		if (n < 0) {
			if (errno == EAGAIN)
				return;
			continue; /* a queued ICMP error of an earlier answer */
		}
		for (struct cmsghdr *cm = CMSG_FIRSTHDR(&msg); cm; cm = CMSG_NXTHDR(&msg, cm))
			if (cm->cmsg_level == IPPROTO_IPV6 && cm->cmsg_type == IPV6_PKTINFO)
				((struct in6_pktinfo *)CMSG_DATA(cm))->ipi6_ifindex = 0;
		out[2].iov_len = n;
		msg.msg_iov = out;
		msg.msg_iovlen = 3;
		sendmsg(fd, &msg, MSG_NOSIGNAL);
	}
}

static void open_port(uint16_t port, int type, enum source_kind kind)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct source *src = malloc(sizeof(*src));
	int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, zero = 0;

	if (!src || fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) ||
	    (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one))) ||
	    (type == SOCK_DGRAM && setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one))) ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) || (type == SOCK_STREAM && listen(fd, 4096)))
		err(1, "%s: port %u", pod_name, port);
	*src = (struct source){ kind, fd };
	watch(src, EPOLLIN, EPOLL_CTL_ADD);
}

static void serve(void)
{
	struct epoll_event events[EVENTS];

	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);

		if (n < 0 && errno != EINTR)
			err(1, "epoll_wait");
		for (int i = 0; i < n; i++) {
			struct source *src = events[i].data.ptr;

			if (src->kind == SRC_LISTEN)
				accept_all(src->fd);
			else if (src->kind == SRC_UDP)
				answer_datagrams(src->fd);
			else
				conn_event((struct conn *)src);
		}
	}
}

int main(int argc, char **argv)
{
	struct rlimit files;
	int null;

	if (argc < 5)
		errx(2, "usage: podd POD NAMESPACE LABELS PORT...");
	pod_name = argv[1];
	pod_namespace = str_of(argv[2]);
	pod_labels = str_of(argv[3]);
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		err(1, "epoll");
	for (int i = 4; i < argc; i++) {
		uint64_t port;

		if (!str_to_u64(str_of(argv[i]), UINT16_MAX, &port) || !port)
			errx(2, "%s: not a port", argv[i]);
		open_port(port, SOCK_STREAM, SRC_LISTEN);
		open_port(port, SOCK_DGRAM, SRC_UDP);
	}
	/* Standard output is closed to say that every port is open. */
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		err(1, "/dev/null");
	close(null);
	serve();
}
