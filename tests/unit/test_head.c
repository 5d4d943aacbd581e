/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP/1 heads: what is taken, what is refused and with which status, at every way of cutting the input in two, with the byte behind
 * what has come out of reach.
 */
#include "test.h"

#include "guard.h"
#include "l7/head.h"

static struct guard guard;

/* The head of a message, given in one piece: what head_scan() says, the head in *h. */
static int whole(struct head *h, enum head_kind kind, const struct head_limits *limits, struct str text)
{
	struct str at = guard_end(&guard, text.p, text.len);

	head_begin(h, kind, limits);
	return head_scan(h, at.p, at.len);
}

/* The same in pieces that end at every byte; all ways must agree. */
static int scan(struct head *h, enum head_kind kind, struct str text)
{
	static const struct head_limits limits = { .line_max = 16384, .bytes_max = 61440, .field_max = 100 };
	int want = whole(h, kind, &limits, text), got = 0;
	struct head cut;

	for (uint32_t first = 0; first < text.len; first++) {
		struct str at = guard_end(&guard, text.p, first);

		head_begin(&cut, kind, &limits);
		got = head_scan(&cut, at.p, at.len);
		if (!got) {
			at = guard_end(&guard, text.p, text.len);
			got = head_scan(&cut, at.p, at.len);
		}
		if (got != want) {
			CHECK_MSG(got == want, "cut at %u: %d, whole: %d: %.*s", first, got, want, STR_ARG(text));
			break;
		}
	}
	head_begin(&cut, kind, &limits);
	for (uint32_t n = 1, rc = 0; n <= text.len && !rc; n++) {
		struct str at = guard_end(&guard, text.p, n);

		got = head_scan(&cut, at.p, at.len);
		rc = got != 0;
	}
	CHECK_MSG(got == want, "byte by byte: %d, whole: %d: %.*s", got, want, STR_ARG(text));
	return want;
}

struct row {
	const char *name, *text;
	int want; /* 0: taken whole, else -status */
};

#define GET "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

/* Messages that readers disagree about, and others that are no messages. */
static const struct row requests[] = {
	{ "plain", GET HOST "\r\n", 0 },
	{ "no host", GET "\r\n", -400 },
	{ "no host in 1.0", "GET / HTTP/1.0\r\n\r\n", 0 },
	{ "two hosts", GET HOST HOST "\r\n", -400 },
	{ "two hosts in 1.0", "GET / HTTP/1.0\r\n" HOST HOST "\r\n", -400 },
	{ "host with a path", GET "Host: a/b\r\n\r\n", -400 },
	{ "host with a user", GET "Host: u@a\r\n\r\n", -400 },
	{ "host list", GET "Host: a, b\r\n\r\n", -400 },
	{ "host with a bad port", GET "Host: a:8x\r\n\r\n", -400 },
	{ "host in brackets", GET "Host: [::1]:80\r\n\r\n", 0 },
	{ "host in half a bracket", GET "Host: [::1\r\n\r\n", -400 },
	{ "empty host", GET "Host:\r\n\r\n", 0 },
	{ "absolute target", "GET http://b:80/x HTTP/1.1\r\n" HOST "\r\n", 0 },
	{ "absolute target with a user", "GET http://u@b/ HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "absolute target without host", "GET http:///x HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "asterisk", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 0 },
	{ "asterisk of another", "GET * HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "connect", "CONNECT a:443 HTTP/1.1\r\n" HOST "\r\n", 0 },
	{ "connect without a port", "CONNECT a HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "connect with a body", "CONNECT a:443 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n", -400 },
	{ "target without a slash", "GET x HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "fragment", "GET /x#y HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "byte beyond ASCII in a target", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "control byte in a target", "GET /\x01 HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "two spaces", "GET  / HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "two spaces before the version", "GET /  HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "tab for a space", "GET\t/ HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "space behind the version", "GET / HTTP/1.1 \r\n" HOST "\r\n", -400 },
	{ "0.9", "GET /\r\n\r\n", -400 },
	{ "0.9 with a line feed", "GET /\n", -400 },
	{ "2.0", "GET / HTTP/2.0\r\n" HOST "\r\n", -505 },
	{ "1.2", "GET / HTTP/1.2\r\n" HOST "\r\n", -505 },
	{ "lower-case version", "GET / http/1.1\r\n" HOST "\r\n", -400 },
	{ "method that is no token", "G(T / HTTP/1.1\r\n" HOST "\r\n", -400 },
	{ "TLS", "\x16\x03\x01\x02\r\n", -400 },
	{ "empty line in front", "\r\n" GET HOST "\r\n", 0 },
	{ "two empty lines in front", "\r\n\r\n" GET HOST "\r\n", -400 },
	{ "bare line feed", "GET / HTTP/1.1\n" HOST "\r\n", -400 },
	{ "bare line feed in a field", GET "Host: a\nX: y\r\n\r\n", -400 },
	{ "bare line feed at the end", GET HOST "\n", -400 },
	{ "bare carriage return", GET "Host: a\rX: y\r\n\r\n", -400 },
	{ "folded field", GET HOST "X: a\r\n b\r\n\r\n", -400 },
	{ "folded first field", GET " X: a\r\n" HOST "\r\n", -400 },
	{ "folded coding", POST "Transfer-Encoding:\r\n chunked\r\n\r\n", -400 },
	{ "field without a colon", GET HOST "X\r\n\r\n", -400 },
	{ "field without a name", GET HOST ": x\r\n\r\n", -400 },
	{ "space before the colon", GET HOST "X : y\r\n\r\n", -400 },
	{ "space in a name", GET HOST "X y: z\r\n\r\n", -400 },
	{ "control byte in a value", GET HOST "X: a\x01\r\n\r\n", -400 },
	{ "DEL in a value", GET HOST "X: a\x7f\r\n\r\n", -400 },
	{ "bytes beyond ASCII in a value", GET HOST "X: \xc3\xa4\r\n\r\n", 0 },
	{ "tab in a value", GET HOST "X: a\tb\r\n\r\n", 0 },
	{ "length", POST "Content-Length: 5\r\n\r\n", 0 },
	{ "length twice, the same", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", -400 },
	{ "length twice, different", POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", -400 },
	{ "length list", POST "Content-Length: 5, 5\r\n\r\n", -400 },
	{ "length with a sign", POST "Content-Length: +5\r\n\r\n", -400 },
	{ "length below zero", POST "Content-Length: -5\r\n\r\n", -400 },
	{ "length in hexadecimal", POST "Content-Length: 0x5\r\n\r\n", -400 },
	{ "length of nothing", POST "Content-Length:\r\n\r\n", -400 },
	{ "length with a space within", POST "Content-Length: 5 6\r\n\r\n", -400 },
	{ "length too long", POST "Content-Length: 9223372036854775808\r\n\r\n", -400 },
	{ "length around 2^64", POST "Content-Length: 18446744073709551621\r\n\r\n", -400 },
	{ "chunked", POST "Transfer-Encoding: chunked\r\n\r\n", 0 },
	{ "chunked in capitals", POST "TRANSFER-ENCODING: CHUNKED\r\n\r\n", 0 },
	{ "length and chunked", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", -400 },
	{ "chunked and length", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", -400 },
	{ "chunked twice", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", -400 },
	{ "chunked list", POST "Transfer-Encoding: chunked, chunked\r\n\r\n", -400 },
	{ "identity", POST "Transfer-Encoding: identity\r\n\r\n", -501 },
	{ "gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", -400 },
	{ "almost chunked", POST "Transfer-Encoding: xchunked\r\n\r\n", -501 },
	{ "chunked in quotes", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", -400 },
	{ "chunked behind a vertical tab",
	  POST "Transfer-Encoding: \x0b"
	       "chunked\r\n\r\n",
	  -400 },
	{ "space before the colon of a coding", POST "Transfer-Encoding : chunked\r\n\r\n", -400 },
	{ "coding of nothing", POST "Transfer-Encoding:\r\n\r\n", -400 },
	{ "chunked in 1.0", "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", -400 },
	{ "Connection: Host", GET HOST "Connection: host\r\n\r\n", -400 },
	{ "Connection: Content-Length", POST "Content-Length: 5\r\nConnection: content-length\r\n\r\n", -400 },
	{ "Connection that is no list", GET HOST "Connection: a b\r\n\r\n", -400 },
	{ "Expect", POST "Expect: 100-Continue\r\n\r\n", 0 },
	{ "Expect of something else", POST "Expect: 200-ok\r\n\r\n", -417 },
	{ "Expect in 1.0", "GET / HTTP/1.0\r\nExpect: 200-ok\r\n\r\n", 0 },
	{ "zero byte", "GET / HTTP/1.1\r\nX: \0y\r\n\r\n", -400 },
};

static struct str text_of(const struct row *r)
{
	/* One of the texts has a zero byte within. */
	return !strcmp(r->name, "zero byte") ? STR("GET / HTTP/1.1\r\nX: \0y\r\n\r\n") : str_of(r->text);
}

TEST(requests)
{
	static struct head h;

	guard = guard_new(65536);
	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		const struct row *r = &requests[i];
		struct str text = text_of(r);
		int got = scan(&h, HEAD_REQUEST, text), want = r->want ? r->want : (int)text.len;

		CHECK_MSG(got == want, "%s: got %d, want %d", r->name, got, want);
	}
	guard_free(&guard);
}

static const struct row responses[] = {
	{ "plain", "HTTP/1.1 200 OK\r\n\r\n", 0 },
	{ "no reason", "HTTP/1.1 200 \r\n\r\n", 0 },
	{ "nor a space", "HTTP/1.1 200\r\n\r\n", 0 },
	{ "reason with bytes beyond ASCII", "HTTP/1.0 404 \xc3\xa4\r\n\r\n", 0 },
	{ "status of two digits", "HTTP/1.1 20 OK\r\n\r\n", -502 },
	{ "status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", -502 },
	{ "status below 100", "HTTP/1.1 099 OK\r\n\r\n", -502 },
	{ "2.0", "HTTP/2.0 200 OK\r\n\r\n", -502 },
	{ "ICY", "ICY 200 OK\r\n\r\n", -502 },
	{ "empty line in front", "\r\nHTTP/1.1 200 OK\r\n\r\n", -502 },
	{ "length and chunked", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", -502 },
	{ "length twice", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", -502 },
	{ "gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", -502 },
	{ "bare line feed", "HTTP/1.1 200 OK\n\r\n", -502 },
	{ "no body, and a length", "HTTP/1.1 204 N\r\nContent-Length: 1\r\n\r\n", -502 },
	{ "interim, and chunked", "HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n", -502 },
	{ "folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", -502 },
};

TEST(responses)
{
	static struct head h;

	guard = guard_new(65536);
	for (size_t i = 0; i < sizeof(responses) / sizeof(*responses); i++) {
		const struct row *r = &responses[i];
		struct str text = str_of(r->text);
		int got = scan(&h, HEAD_RESPONSE, text), want = r->want ? r->want : (int)text.len;

		CHECK_MSG(got == want, "%s: got %d, want %d", r->name, got, want);
	}
	guard_free(&guard);
}

static struct head taken(enum head_kind kind, const char *text)
{
	static const struct head_limits limits = { .line_max = 16384, .bytes_max = 61440, .field_max = 100 };
	struct head h;

	head_begin(&h, kind, &limits);
	CHECK_INT(head_scan(&h, text, (uint32_t)strlen(text)), strlen(text));
	return h;
}

TEST(parts)
{
	static const char text[] =
		"PUT http://b:81/p?q HTTP/1.1\r\nhost: a\r\nX-One:\t 1 \t\r\nConnection: x-one, Upgrade\r\n"
		"Upgrade: websocket\r\nCookie: c\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n";
	struct head h = taken(HEAD_REQUEST, text);
	const struct head_field *f = head_find(&h, text, STR("x-one"));

	CHECK(str_is(head_str(text, h.method), "PUT"));
	CHECK(str_is(head_str(text, h.authority), "b:81"));
	CHECK(str_is(head_str(text, h.path), "/p?q"));
	CHECK_INT(h.form, HEAD_ABSOLUTE);
	CHECK_INT(h.minor, 1);
	CHECK_INT(h.field_nr, 7);
	CHECK(f && str_is(head_str(text, f->value), "1") && head_hop_by_hop(f));
	f = head_find(&h, text, STR("cookie"));
	CHECK(f && !head_hop_by_hop(f));
	CHECK(h.upgrade && h.persistent && h.expect_continue);
	CHECK_INT(h.body, HEAD_BODY_LENGTH);
	CHECK_INT(h.length, 12);
	CHECK(!head_find(&h, text, STR("x-two")));
}

TEST(persistence)
{
	CHECK(taken(HEAD_REQUEST, GET HOST "\r\n").persistent);
	CHECK(!taken(HEAD_REQUEST, GET HOST "Connection: Close\r\n\r\n").persistent);
	CHECK(!taken(HEAD_REQUEST, "GET / HTTP/1.0\r\n\r\n").persistent);
	CHECK(taken(HEAD_REQUEST, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").persistent);
	CHECK(!taken(HEAD_REQUEST, "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n").persistent);
}

static struct head answered(const char *text, enum head_asked asked)
{
	struct head h = taken(HEAD_RESPONSE, text);

	head_answers(&h, asked);
	return h;
}

TEST(bodies_of_responses)
{
	static const char length[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";

	CHECK_INT(answered(length, HEAD_ASKED_OTHER).body, HEAD_BODY_LENGTH);
	CHECK_INT(answered(length, HEAD_ASKED_HEAD).body, HEAD_BODY_NONE);
	CHECK_INT(answered(length, HEAD_ASKED_CONNECT).body, HEAD_BODY_TUNNEL);
	CHECK_INT(answered("HTTP/1.1 101 S\r\n\r\n", HEAD_ASKED_OTHER).body, HEAD_BODY_TUNNEL);
	CHECK_INT(answered("HTTP/1.1 100 C\r\n\r\n", HEAD_ASKED_OTHER).body, HEAD_BODY_NONE);
	CHECK_INT(answered("HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n", HEAD_ASKED_OTHER).body, HEAD_BODY_NONE);
	CHECK_INT(answered("HTTP/1.1 304 N\r\nContent-Length: 3\r\n\r\n", HEAD_ASKED_OTHER).body, HEAD_BODY_NONE);
	CHECK_INT(answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HEAD_ASKED_OTHER).body,
		  HEAD_BODY_CHUNKED);
	CHECK_INT(answered("HTTP/1.1 200 OK\r\n\r\n", HEAD_ASKED_OTHER).body, HEAD_BODY_CLOSE);
	CHECK(!answered("HTTP/1.1 200 OK\r\n\r\n", HEAD_ASKED_OTHER).persistent);
}

TEST(limits)
{
	static struct head h;
	static const struct head_limits tight = { .line_max = 20, .bytes_max = 64, .field_max = 2 };

	guard = guard_new(65536);
	CHECK_INT(whole(&h, HEAD_REQUEST, &tight, STR("GET /1234 HTTP/1.1\r\n" HOST "\r\n")), 31);
	CHECK_INT(whole(&h, HEAD_REQUEST, &tight, STR("GET /1234567 HTTP/1.1\r\n")), -414);
	CHECK_INT(whole(&h, HEAD_REQUEST, &tight, STR("GET /123456789012345678")), -414);
	CHECK_INT(whole(&h, HEAD_REQUEST, &tight, STR(GET HOST "A: b\r\n\r\n")), 33);
	CHECK_INT(whole(&h, HEAD_REQUEST, &tight, STR(GET HOST "A: b\r\nC: d\r\n\r\n")), -431);
	CHECK_INT(whole(&h, HEAD_REQUEST, &tight, STR(GET HOST "A: 6789012345678901234567890123456789012345")), -431);
	CHECK_INT(whole(&h, HEAD_RESPONSE, &tight, STR("HTTP/1.1 200 123456789")), -502);
	guard_free(&guard);
}

TEST(lists)
{
	struct str list = STR(" a ,, b\t, ,c"), one;

	CHECK(head_list_next(&list, &one) && str_is(one, "a"));
	CHECK(head_list_next(&list, &one) && str_is(one, "b"));
	CHECK(head_list_next(&list, &one) && str_is(one, "c"));
	CHECK(!head_list_next(&list, &one));
}
