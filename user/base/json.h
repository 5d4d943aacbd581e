/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON writer (RFC 8259): commas, nesting and escapes are its business. Invalid UTF-8 becomes U+FFFD. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* Deeper than any document that the YAML reader takes, with some levels around it. */
#define JSON_DEPTH_MAX 96

struct json {
	struct buf *out; /* borrowed */
	uint32_t depth;
	bool some[JSON_DEPTH_MAX]; /* something was already written at this depth */
	bool after_key;
};

void json_init(struct json *j, struct buf *out);
void json_object(struct json *j);     /* { */
void json_object_end(struct json *j); /* } */
void json_array(struct json *j);
void json_array_end(struct json *j);
void json_key(struct json *j, const char *key);
void json_str(struct json *j, struct str s);
void json_int(struct json *j, int64_t v);
void json_uint(struct json *j, uint64_t v);
void json_double(struct json *j, double v); /* %.6g; not finite: null */
void json_bool(struct json *j, bool v);
void json_null(struct json *j);
void json_raw(struct json *j, struct str text); /* a value that is JSON already */

/* key and value in one call. */
void json_kstr(struct json *j, const char *key, struct str s);
void json_kuint(struct json *j, const char *key, uint64_t v);
void json_kint(struct json *j, const char *key, int64_t v);
void json_kbool(struct json *j, const char *key, bool v);
/* CLOCK_REALTIME nanoseconds as RFC 3339 with microseconds in UTC; 0: null. */
void json_ktime(struct json *j, const char *key, uint64_t realtime_ns);

#endif
