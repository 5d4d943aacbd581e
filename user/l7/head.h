/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP/1 message heads: strict, resumable, without a copy and without memory of its own. What two readers of one message could take for
 * two different messages is refused, whatever a lenient reader makes of it (RFC 9112, sections 2 to 6 and 11.2).
 *
 * Stricter than the RFC has it: one Host field and one Content-Length field; the only transfer coding is one "chunked", and only in
 * HTTP/1.1; lines end in CR LF; no HTTP/0.9, no version but 1.0 and 1.1; no fragment and no byte beyond ASCII in a target.
 */
#ifndef L7_HEAD_H
#define L7_HEAD_H

#include "base/str.h"

/* A head has no more fields than this, whatever the limits say. */
#define HEAD_FIELDS_MAX 128

struct head_limits {
	uint32_t line_max;  /* bytes of the first line without CR LF */
	uint32_t bytes_max; /* of the whole head */
	uint32_t field_max; /* number of fields, at most HEAD_FIELDS_MAX */
};

/* Istio's gateways and Envoy: 60 KiB of headers, 100 of them. */
#define HEAD_LIMITS_DEFAULT ((struct head_limits){ .line_max = 16384, .bytes_max = 61440, .field_max = 100 })

/* Fields that the proxy itself acts on, X(name, text). Others are HEAD_OTHER. */
/* clang-format off */
#define HEAD_KNOWN(X)                                   \
	X(HOST,              "host")                    \
	X(CONTENT_LENGTH,    "content-length")          \
	X(TRANSFER_ENCODING, "transfer-encoding")       \
	X(CONNECTION,        "connection")              \
	X(KEEP_ALIVE,        "keep-alive")              \
	X(PROXY_CONNECTION,  "proxy-connection")        \
	X(PROXY_AUTHENTICATE, "proxy-authenticate")     \
	X(PROXY_AUTHORIZATION, "proxy-authorization")   \
	X(TE,                "te")                      \
	X(TRAILER,           "trailer")                 \
	X(UPGRADE,           "upgrade")                 \
	X(EXPECT,            "expect")
/* clang-format on */
#define X(name, ...) HEAD_##name,
enum head_known { HEAD_OTHER = 0, HEAD_KNOWN(X) HEAD_KNOWN_NR };
#undef X

/* Offsets from the first byte that was given to head_scan(): the buffer may move between two calls. */
struct head_span {
	uint32_t at, len;
};

struct head_field {
	struct head_span name, value; /* value without white space around it */
	uint16_t known;		      /* enum head_known */
	bool nominated;		      /* a Connection field names it: it is for this hop only */
};

/* How the body's end is found. */
enum head_body {
	HEAD_BODY_NONE,
	HEAD_BODY_LENGTH,
	HEAD_BODY_CHUNKED,
	HEAD_BODY_CLOSE,  /* of a response: at the end of the connection */
	HEAD_BODY_TUNNEL, /* what follows is no message any more (CONNECT, 101) */
};

/* What a request's target is (RFC 9112, section 3.2). */
enum head_form { HEAD_ORIGIN, HEAD_ABSOLUTE, HEAD_AUTHORITY, HEAD_ASTERISK };

enum head_kind { HEAD_REQUEST, HEAD_RESPONSE };

struct head {
	const struct head_limits *limits; /* borrowed */
	uint32_t at;			  /* where the line that is not complete yet begins */
	uint32_t seen;			  /* bytes that were looked at */
	uint8_t kind;			  /* enum head_kind */
	uint8_t first;			  /* the first line is read */

	uint8_t minor;	      /* HTTP/1.minor */
	uint8_t form;	      /* enum head_form */
	uint8_t body;	      /* enum head_body */
	bool persistent;      /* the connection may be used after this message */
	bool expect_continue; /* Expect: 100-continue, and not HTTP/1.0 */
	bool upgrade;	      /* Upgrade is given and nominated */
	uint16_t status;      /* of a response */
	struct head_span method, target, reason;
	struct head_span authority; /* of the target, or Host; len 0: none */
	struct head_span path;	    /* of the target, with the query; len 0: none */
	uint64_t length;	    /* HEAD_BODY_LENGTH */
	uint32_t field_nr;
	uint8_t has[HEAD_KNOWN_NR]; /* how often a known field is there, up to 255 */
	struct head_field fields[HEAD_FIELDS_MAX];
};

/* What a response answers: its body depends on it (RFC 9112, section 6.3). */
enum head_asked { HEAD_ASKED_OTHER, HEAD_ASKED_HEAD, HEAD_ASKED_CONNECT };

void head_begin(struct head *h, enum head_kind kind, const struct head_limits *limits);

/*
 * Goes on with the head that begins at p; p[0 .. len) holds all of it that has come so far, from its first byte. Nothing is looked at
 * twice. Returns the number of bytes of the whole head, 0: there is more to come, or less than 0: it is refused, with -status the
 * status that RFC 9110 has for it (400, 414, 417, 431, 501, 505; of a response always 502).
 */
int head_scan(struct head *h, const char *p, uint32_t len);

/* After the whole head of a response: what its body is. */
void head_answers(struct head *h, enum head_asked asked);

static inline struct str head_str(const char *p, struct head_span s)
{
	return (struct str){ p + s.at, s.len };
}

/* The first field of that name (lower case), or NULL. */
const struct head_field *head_find(const struct head *h, const char *p, struct str name);
/* It is for this hop only and is not passed on. */
bool head_hop_by_hop(const struct head_field *f);

/* One field line without CR LF into *f: false when it is none. `base` is the offset of p[0]. */
bool head_field_line(const char *p, uint32_t base, uint32_t len, struct head_field *f);

/* Equal but for the case of ASCII letters. */
bool head_same(struct str a, struct str b);
/* The next element of a comma-separated list, without white space around; false: there is none any more. Empty ones are passed over. */
bool head_list_next(struct str *list, struct str *ret);
/* 1*tchar (RFC 9110, section 5.6.2). */
bool head_token(struct str s);
/* Bytes of a field's value, of a target; host [":" port]. */
bool head_value(struct str s);
bool head_target(struct str s);
bool head_host(struct str s);
/* Which of the fields above it is: the message's framing and the connection depend on them. */
enum head_known head_known_of(struct str name);

#endif
