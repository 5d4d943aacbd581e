/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first message of TLS, as it comes: whose name the client asks for. No memory of its own, no I/O; it reads each byte once, however the
 * bytes are cut into segments and records.
 *
 * It is strict: what it takes, every server reads the same way (RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3, RFC 5246). Lengths
 * must fill what they are in, records must not be empty, nothing may follow the message in its last record, and there is at most one name.
 * Versions, cipher suites and other extensions are the server's business, so a later TLS, GREASE and an encrypted inner hello pass: of the
 * last, the name is that of the outer one, which is all that anybody but the server can see.
 */
#ifndef L7_HELLO_H
#define L7_HELLO_H

#include "base/str.h"

#define HELLO_NAME_MAX 255
#define HELLO_MAX 16384u /* of the message, without the heads of records */
#define TLS_HANDSHAKE 0x16

struct hello {
	uint32_t at;	 /* bytes that were read */
	uint32_t record; /* of the record at hand, to come */
	uint32_t left;	 /* of the message, to come; once its length is known */
	uint32_t value;	 /* of the field at hand, as far as it came */
	uint32_t need;	 /* of the field, to come */
	uint32_t inner;	 /* of the extension with the name */
	uint16_t extension;
	uint8_t head;  /* bytes of the record's head that came */
	uint8_t field; /* enum hello_field */
	bool named;
	uint8_t name_len;	   /* 0: it asks for no name */
	char name[HELLO_NAME_MAX]; /* in lower case */
};

enum hello_result { HELLO_MORE, HELLO_WHOLE, HELLO_BAD };

void hello_begin(struct hello *h);
/* p has all bytes from the first on: goes on behind those that it has read. */
enum hello_result hello_scan(struct hello *h, const char *p, uint32_t len);

static inline struct str hello_name(const struct hello *h)
{
	return (struct str){ h->name, h->name_len };
}

#endif
