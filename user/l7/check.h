/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks that loading is made of. Each says what is wrong in `err`, once, and returns false or NULL. */
#ifndef L7_CHECK_H
#define L7_CHECK_H

#include "l7/rules.h"

struct check {
	struct http_rules *rules;
	const struct mesh_http_image *image; /* NULL: outside of images */
	const char *base;		     /* what references count from, and its size */
	size_t size;
	struct buf *err;
	uint64_t budget; /* bytes that may still be looked at: references that overlap cannot make it last */
	bool failed;
};

enum check_class {
	CHECK_BYTES,
	CHECK_ANY,	   /* bytes that can be shown: no control bytes */
	CHECK_LOWER,	   /* the same without capitals */
	CHECK_VALUE,	   /* of a field */
	CHECK_TARGET,	   /* part of a request's target */
	CHECK_REPLACEMENT, /* the same with backslashes */
	CHECK_HOST,	   /* host [":" port], or nothing */
	CHECK_SCHEME,	   /* "http", "https", or nothing */
	CHECK_TOKEN,
	CHECK_LOWER_TOKEN,
	CHECK_FIELD, /* name of a field that rules may change: not one that framing or connection depend on */
};

bool check_refuse(struct check *k, const char *what, uint32_t at);
/* The array, or NULL; also NULL when it is empty and then not failed. */
const void *check_array(struct check *k, struct mesh_ref ref, size_t size, size_t align, const char *what);
bool check_text(struct check *k, struct mesh_ref ref, enum check_class class, const char *what);
/* Of an array of texts. */
bool check_texts(struct check *k, struct mesh_ref ref, enum check_class class, const char *what);
bool check_match_text(struct check *k, const struct mesh_http_text *t);
/* Compiles the expression that belongs to `owner`. */
struct regex *check_regex(struct check *k, const void *owner, struct str pattern, bool ignore_case);
static inline struct str http_check_text(const struct check *k, struct mesh_ref ref)
{
	return (struct str){ k->base + ref.at, ref.nr };
}

/* Order of rows. */
int http_row_cmp(const struct mesh_http_row *row, uint32_t scope, const struct mesh_addr *addr, uint16_t port);
/* L7 policies and the servers that they are about. */
bool check_policies(struct check *k);

#endif
