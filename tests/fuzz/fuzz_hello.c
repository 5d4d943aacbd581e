/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes the reader of the first message of TLS. The first byte of an input says how the bytes are cut, and into records of which size the
 * message is put once more. Laws:
 *   - cutting the bytes anywhere changes nothing, nor does how a message is put into records;
 *   - a second reader, which first puts the records together and then goes through the message by its lengths, finds the same.
 * build: user/l7/hello.c
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "l7/hello.h"
#include "must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is left of a message, or of a part of it. */
struct rest {
	const uint8_t *p;
	size_t len;
};

static bool take(struct rest *r, size_t len, struct rest *ret)
{
	if (len > r->len)
		return false;
	*ret = (struct rest){ r->p, len };
	r->p += len;
	r->len -= len;
	return true;
}

static bool number(struct rest *r, size_t bytes, size_t *ret)
{
	struct rest v;

	*ret = 0;
	if (!take(r, bytes, &v))
		return false;
	for (size_t i = 0; i < bytes; i++)
		*ret = *ret << 8 | v.p[i];
	return true;
}

static bool list(struct rest *r, size_t bytes, struct rest *ret)
{
	size_t len;

	return number(r, bytes, &len) && take(r, len, ret);
}

static bool name_ok(struct rest name)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";

	for (size_t i = 0; i < name.len; i++)
		if (!name.p[i] || !strchr(plain, name.p[i]))
			return false;
	return name.len >= 1 && name.len <= 255;
}

static bool read_extensions(struct rest all, struct rest *ret_name)
{
	while (all.len) {
		struct rest body, names;
		size_t type, kind;

		if (!number(&all, 2, &type) || !list(&all, 2, &body))
			return false;
		if (type)
			continue;
		if (ret_name->len || !list(&body, 2, &names) || body.len || !number(&names, 1, &kind) || kind ||
		    !list(&names, 2, ret_name) || names.len || !name_ok(*ret_name))
			return false;
	}
	return true;
}

static bool read_message(struct rest m, struct rest *ret_name)
{
	struct rest part, ciphers, compressions, extensions = { 0 };
	size_t version;

	*ret_name = (struct rest){ 0 };
	if (!number(&m, 2, &version) || version < 0x301 || version > 0x3ff || !take(&m, 32, &part) ||
	    !list(&m, 1, &part) || part.len > 32 || !list(&m, 2, &ciphers) || !ciphers.len || ciphers.len % 2 ||
	    !list(&m, 1, &compressions) || !compressions.len)
		return false;
	if (m.len && (!list(&m, 2, &extensions) || m.len))
		return false;
	return read_extensions(extensions, ret_name);
}

/* Records put together: HELLO_WHOLE when the message is there, which begins behind its type and length in `out`. */
static enum hello_result gather(struct rest all, uint8_t *out, size_t *ret_len)
{
	size_t len = 0;

	for (;;) {
		size_t want = len >= 4 ? 4 + ((size_t)out[1] << 16 | (size_t)out[2] << 8 | out[3]) : SIZE_MAX;
		size_t type, major, minor, bytes;
		struct rest body;

		if (len && out[0] != 1)
			return HELLO_BAD;
		if (len >= 4 && (want > 4 + HELLO_MAX || len > want))
			return HELLO_BAD;
		if (len == want) {
			*ret_len = len;
			return HELLO_WHOLE;
		}
		if (!number(&all, 1, &type))
			return HELLO_MORE;
		if (type != TLS_HANDSHAKE)
			return HELLO_BAD;
		if (!number(&all, 1, &major))
			return HELLO_MORE;
		if (major != 3)
			return HELLO_BAD;
		if (!number(&all, 1, &minor) || !number(&all, 2, &bytes))
			return HELLO_MORE;
		if (!bytes || bytes > 16384)
			return HELLO_BAD;
		body = (struct rest){ all.p, bytes < all.len ? bytes : all.len };
		memcpy(out + len, body.p, body.len);
		len += body.len;
		all.p += body.len;
		all.len -= body.len;
		if (body.len < bytes)
			return HELLO_MORE;
	}
}

static enum hello_result read_by(struct hello *h, const uint8_t *p, size_t len, size_t step)
{
	enum hello_result r = HELLO_MORE;

	hello_begin(h);
	for (size_t have = 0; have < len && r == HELLO_MORE;) {
		char *piece;

		have = len - have < step ? len : have + step;
		piece = malloc(have);
		MUST(piece);
		memcpy(piece, p, have);
		r = hello_scan(h, piece, (uint32_t)have);
		MUST(h->at <= have && (r != HELLO_MORE || h->at == have));
		free(piece);
	}
	return r;
}

static size_t put_records(const uint8_t *message, size_t len, size_t max, uint8_t *out)
{
	size_t n = 0;

	for (size_t at = 0; at < len; at += max) {
		size_t part = len - at < max ? len - at : max;
		const uint8_t head[] = { TLS_HANDSHAKE, 3, 1, (uint8_t)(part >> 8), (uint8_t)part };

		memcpy(out + n, head, sizeof(head));
		memcpy(out + n + sizeof(head), message + at, part);
		n += sizeof(head) + part;
	}
	return n;
}

static bool same_name(const struct hello *a, const struct hello *b)
{
	return a->name_len == b->name_len && !memcmp(a->name, b->name, a->name_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t message[1 << 17], records[6 << 17];
	static struct hello whole, cut;
	enum hello_result r, other;
	struct rest name = { 0 };
	size_t len = 0, n;

	if (size < 2 || size > 1 << 16)
		return 0;
	r = read_by(&whole, data + 1, size - 1, size);
	MUST(read_by(&cut, data + 1, size - 1, 1u + data[0] % 32) == r);
	MUST(r != HELLO_WHOLE || (same_name(&whole, &cut) && whole.at == cut.at));
	/* What stands behind the message is for the server. */
	other = gather((struct rest){ data + 1, r == HELLO_WHOLE ? whole.at : size - 1 }, message, &len);
	/* The one that looks at each byte refuses before the whole is there. */
	if (r == HELLO_MORE)
		MUST(other == HELLO_MORE);
	if (other == HELLO_WHOLE)
		MUST(read_message((struct rest){ message + 4, len - 4 }, &name) == (r == HELLO_WHOLE));
	else
		MUST(r != HELLO_WHOLE);
	if (r != HELLO_WHOLE)
		return 0;
	MUST(name.len == whole.name_len);
	for (size_t i = 0; i < name.len; i++)
		MUST((name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] | 0x20 : name.p[i]) == (uint8_t)whole.name[i]);
	n = put_records(message, len, 1u + data[0], records);
	MUST(read_by(&cut, records, n, 64) == HELLO_WHOLE && same_name(&whole, &cut));
	return 0;
}
