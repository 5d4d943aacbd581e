/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes the readers of HTTP/1 messages. The first byte of an input says whether a request or a response follows, what the response
 * answers, and how the bytes are cut. Laws:
 *   - cutting the bytes anywhere changes nothing;
 *   - what is taken, llhttp (strict) takes too, and both find its end at the same byte, or that it has none: nobody behind us reads another
 *     message.
 * Where llhttp is not there (LLHTTP is not defined), only the first is held.
 * build: user/l7/head.c user/l7/chunk.c
 * llhttp: 1
 */
#include <stdio.h>
#include <stdlib.h>

#include "l7/chunk.h"
#include "l7/head.h"
#include "must.h"
#ifdef LLHTTP
#include <llhttp.h>
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum outcome { REFUSED, UNFINISHED, TAKEN, TUNNELLED, UNTIL_CLOSE };

struct message {
	enum outcome outcome;
	uint32_t len;  /* of the whole message, when TAKEN; of the head, when TUNNELLED or UNTIL_CLOSE */
	uint64_t body; /* bytes of payload that are there */
	struct head head;
};

static struct message whole, cut;
static struct chunk chunk;

/* The bytes are in memory of their own, so that the sanitizer sees a step past their end. */
static char *copy(const char *p, size_t len)
{
	char *c = malloc(len ? len : 1);

	if (!c)
		abort();
	if (len)
		memcpy(c, p, len);
	return c;
}

static int read_head(struct message *m, enum head_kind kind, const char *p, uint32_t len, uint32_t step)
{
	static const struct head_limits limits = { .line_max = 512, .bytes_max = 2048, .field_max = 24 };
	int rc = 0;

	head_begin(&m->head, kind, &limits);
	for (uint32_t have = 0; have < len && !rc;) {
		char *piece;

		have = len - have < step ? len : have + step;
		piece = copy(p, have);
		rc = head_scan(&m->head, piece, have);
		free(piece);
	}
	return rc;
}

static void read_chunked(struct message *m, const char *p, uint32_t len, uint32_t step)
{
	enum chunk_result r = CHUNK_MORE;
	uint32_t at = 0;

	chunk_begin(&chunk);
	while (at < len && (r == CHUNK_MORE || r == CHUNK_DATA)) {
		uint32_t n = len - at < step ? len - at : step, used = 0;
		char *piece = copy(p + at, n);
		struct str body;

		r = chunk_read(&chunk, piece, n, &used, &body);
		MUST(used <= n && (r == CHUNK_END || r == CHUNK_BAD || used > 0));
		m->body += body.len;
		at += used;
		free(piece);
	}
	m->outcome = r == CHUNK_END ? TAKEN : r == CHUNK_BAD ? REFUSED : UNFINISHED;
	m->len += at;
}

static void read_message(struct message *m, enum head_kind kind, enum head_asked asked, const char *p, uint32_t len,
			 uint32_t step)
{
	int rc = read_head(m, kind, p, len, step);

	m->outcome = rc < 0 ? REFUSED : UNFINISHED;
	m->len = rc > 0 ? (uint32_t)rc : 0;
	m->body = 0;
	if (rc <= 0)
		return;
	MUST((uint32_t)rc <= len);
	if (kind == HEAD_RESPONSE)
		head_answers(&m->head, asked);
	switch (m->head.body) {
	case HEAD_BODY_NONE:
		m->outcome = TAKEN;
		break;
	case HEAD_BODY_LENGTH:
		m->body = m->head.length;
		if (m->head.length <= len - m->len) {
			m->outcome = TAKEN;
			m->len += (uint32_t)m->head.length;
		}
		break;
	case HEAD_BODY_CHUNKED:
		read_chunked(m, p + m->len, len - m->len, step);
		break;
	case HEAD_BODY_TUNNEL:
		m->outcome = TUNNELLED;
		break;
	default:
		m->outcome = UNTIL_CLOSE;
	}
}

#ifdef LLHTTP
static const llhttp_settings_t *settings_of(enum head_asked asked);
static enum head_asked oracle_asked;
static uint64_t oracle_body;
static int oracle_complete, oracle_headers;

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
	oracle_body += len;
	return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
	oracle_headers = 1;
	/* 1: no body, whatever the fields say. Of 304 it wants to be told. */
	return oracle_asked == HEAD_ASKED_HEAD || parser->status_code == 304 ? 1 : 0;
}

static int on_complete(llhttp_t *parser)
{
	oracle_complete = 1;
	return HPE_PAUSED;
}

static const llhttp_settings_t *settings_of(enum head_asked asked)
{
	static llhttp_settings_t s;

	llhttp_settings_init(&s);
	s.on_body = on_body;
	s.on_headers_complete = on_headers_complete;
	s.on_message_complete = on_complete;
	oracle_asked = asked;
	oracle_complete = oracle_headers = 0;
	oracle_body = 0;
	return &s;
}

/* llhttp knows a list of methods, and of some a form of its own. */
static bool known_method(const struct message *m, const char *p)
{
	static const char *const names[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH" };
	struct str method = head_str(p, m->head.method);

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (str_is(method, names[i]))
			return true;
	return false;
}

/* A tab behind what says where the body ends: white space as any, but not for llhttp 8. */
static bool tab_behind_framing(const struct message *m, const char *p)
{
	for (uint32_t i = 0; i < m->head.field_nr; i++) {
		struct str v = head_str(p, m->head.fields[i].value);

		if (m->head.fields[i].known != HEAD_CONTENT_LENGTH && m->head.fields[i].known != HEAD_TRANSFER_ENCODING)
			continue;
		for (const char *c = v.p + v.len; *c != '\r'; c++)
			if (*c == '\t')
				return true;
	}
	return false;
}

static void hold_against_oracle(const struct message *m, enum head_kind kind, enum head_asked asked, const char *p,
				uint32_t len)
{
	static llhttp_t parser;
	llhttp_errno_t rc;
	uint32_t used;

	/* Where bytes follow that are no message any more, each has its own way of stopping. */
	if ((m->outcome != TAKEN && m->outcome != UNTIL_CLOSE) || m->head.upgrade ||
	    (kind == HEAD_REQUEST && !known_method(m, p)))
		return;
	if (kind == HEAD_RESPONSE && m->head.has[HEAD_UPGRADE])
		return;
	if (tab_behind_framing(m, p))
		return;
	/* llhttp 8 refuses extensions of chunks that RFC 9112 has: values, quoted strings. */
	if (m->head.body == HEAD_BODY_CHUNKED && memchr(p, ';', len))
		return;
	llhttp_init(&parser, kind == HEAD_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, settings_of(asked));
	rc = llhttp_execute(&parser, p, len);
	if (m->outcome == UNTIL_CLOSE) {
		MUST(rc == HPE_OK && oracle_headers && !oracle_complete && oracle_body == len - m->len);
		return;
	}
	MUST(rc == HPE_PAUSED && oracle_complete);
	used = (uint32_t)(llhttp_get_error_pos(&parser) - p);
	MUST(used == m->len);
	if (asked != HEAD_ASKED_HEAD && m->head.body != HEAD_BODY_NONE)
		MUST(oracle_body == m->body);
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum head_kind kind;
	enum head_asked asked;
	const char *p = (const char *)data + 1;
	uint32_t len, step;

	if (size < 2 || size > 8192)
		return 0;
	kind = data[0] & 1 ? HEAD_RESPONSE : HEAD_REQUEST;
	asked = kind == HEAD_RESPONSE ? (enum head_asked)((data[0] >> 1 & 3) % 3) : HEAD_ASKED_OTHER;
	step = (data[0] >> 3) + 1u;
	len = (uint32_t)size - 1;
	read_message(&whole, kind, asked, p, len, len);
	read_message(&cut, kind, asked, p, len, step);
	MUST(whole.outcome == cut.outcome);
	if (whole.outcome == TAKEN) {
		MUST(whole.len == cut.len && whole.body == cut.body);
		MUST(whole.head.field_nr == cut.head.field_nr && whole.head.body == cut.head.body);
	}
#ifdef LLHTTP
	hold_against_oracle(&whole, kind, asked, p, len);
#endif
	return 0;
}
