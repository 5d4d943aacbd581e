/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON writer. Emits no white space; reads nothing. */
#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

void json_init(struct json *j, struct buf *out)
{
	*j = (struct json){ .out = out };
}

/* Before each value: the comma that separates it from the one in front. */
static void value(struct json *j)
{
	if (j->after_key) {
		j->after_key = false;
		return;
	}
	if (j->some[j->depth])
		buf_add(j->out, ",", 1);
	j->some[j->depth] = true;
}

static void open_level(struct json *j, const char *bracket)
{
	value(j);
	if (++j->depth == JSON_DEPTH_MAX)
		abort();
	j->some[j->depth] = false;
	buf_add(j->out, bracket, 1);
}

static void close_level(struct json *j, const char *bracket)
{
	j->depth--;
	buf_add(j->out, bracket, 1);
}

void json_object(struct json *j)
{
	open_level(j, "{");
}

void json_object_end(struct json *j)
{
	close_level(j, "}");
}

void json_array(struct json *j)
{
	open_level(j, "[");
}

void json_array_end(struct json *j)
{
	close_level(j, "]");
}

/* Length of the valid UTF-8 sequence at p (RFC 3629: shortest form, no surrogates), 0 when there is
 * none. */
static uint32_t utf8_len(const unsigned char *p, uint32_t left)
{
	unsigned char low = 0x80, high = 0xbf;
	uint32_t len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (left < len)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (uint32_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* The escape for one ASCII byte, or NULL when it stands for itself. */
static const char *escape(unsigned char c, char out[8])
{
	static const char hex[] = "0123456789abcdef";

	switch (c) {
	case '"':
		return "\\\"";
	case '\\':
		return "\\\\";
	case '\n':
		return "\\n";
	case '\t':
		return "\\t";
	case '\r':
		return "\\r";
	}
	if (c >= 0x20 && c != 0x7f)
		return NULL;
	memcpy(out, "\\u00", 4);
	out[4] = hex[c >> 4];
	out[5] = hex[c & 15];
	out[6] = '\0';
	return out;
}

static void quoted(struct buf *out, struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	uint32_t plain = 0;

	buf_add(out, "\"", 1);
	for (uint32_t i = 0; i < s.len;) {
		uint32_t len = utf8_len(p + i, s.len - i);
		char tmp[8];
		const char *instead = len == 1 ? escape(p[i], tmp) : len ? NULL : "\xef\xbf\xbd";

		if (!instead) {
			i += len;
			continue;
		}
		buf_add(out, s.p + plain, i - plain);
		buf_str(out, str_of(instead));
		plain = ++i;
	}
	if (s.len > plain)
		buf_add(out, s.p + plain, s.len - plain);
	buf_add(out, "\"", 1);
}

void json_key(struct json *j, const char *key)
{
	value(j);
	quoted(j->out, str_of(key));
	buf_add(j->out, ":", 1);
	j->after_key = true;
}

void json_str(struct json *j, struct str s)
{
	value(j);
	quoted(j->out, s);
}

void json_int(struct json *j, int64_t v)
{
	value(j);
	buf_printf(j->out, "%" PRId64, v);
}

void json_uint(struct json *j, uint64_t v)
{
	value(j);
	buf_printf(j->out, "%" PRIu64, v);
}

void json_double(struct json *j, double v)
{
	value(j);
	if (isfinite(v))
		buf_printf(j->out, "%.6g", v);
	else
		buf_str(j->out, STR("null"));
}

void json_bool(struct json *j, bool v)
{
	value(j);
	buf_str(j->out, v ? STR("true") : STR("false"));
}

void json_null(struct json *j)
{
	value(j);
	buf_str(j->out, STR("null"));
}

void json_raw(struct json *j, struct str text)
{
	value(j);
	buf_str(j->out, text);
}

void json_kstr(struct json *j, const char *key, struct str s)
{
	json_key(j, key);
	json_str(j, s);
}

void json_kuint(struct json *j, const char *key, uint64_t v)
{
	json_key(j, key);
	json_uint(j, v);
}

void json_kint(struct json *j, const char *key, int64_t v)
{
	json_key(j, key);
	json_int(j, v);
}

void json_kbool(struct json *j, const char *key, bool v)
{
	json_key(j, key);
	json_bool(j, v);
}

void json_ktime(struct json *j, const char *key, uint64_t realtime_ns)
{
	time_t seconds = (time_t)(realtime_ns / 1000000000u);
	char text[32];
	struct tm tm;

	json_key(j, key);
	if (!realtime_ns || !gmtime_r(&seconds, &tm)) {
		json_null(j);
		return;
	}
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	value(j);
	buf_printf(j->out, "\"%s.%06uZ\"", text, (unsigned int)(realtime_ns % 1000000000u / 1000u));
}
