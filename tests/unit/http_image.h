/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small compiled HTTP rules for tests: texts and arrays are put into an image one after the other, and the image into a whole with its rows.
 * References are made before the structs that have them.
 */
#ifndef TESTS_UNIT_HTTP_IMAGE_H
#define TESTS_UNIT_HTTP_IMAGE_H

#include <stdlib.h>

#include "base/addr.h"
#include "l7/route.h"

/* Begins with the bytes of a struct mesh_http_image, or of a struct mesh_http. */
struct image {
	struct buf b;
};

static struct mesh_ref __attribute__((unused)) image_array(struct image *im, const void *p, uint32_t nr, size_t size)
{
	static const char zeros[8];
	struct mesh_ref ref;

	buf_add(&im->b, zeros, -im->b.len % 8);
	ref = (struct mesh_ref){ (uint32_t)im->b.len, nr };
	buf_add(&im->b, p, nr * size);
	return nr ? ref : (struct mesh_ref){ 0 };
}
#define IMAGE_ARRAY(im, array) image_array((im), (array), sizeof(array) / sizeof(*(array)), sizeof(*(array)))
#define IMAGE_ONE(im, one) image_array((im), (one), 1, sizeof(*(one)))

static struct mesh_ref __attribute__((unused)) image_text(struct image *im, const char *text)
{
	struct mesh_ref ref = { (uint32_t)im->b.len, (uint32_t)strlen(text) };

	buf_str(&im->b, str_of(text));
	return ref.nr ? ref : (struct mesh_ref){ 0 };
}

static struct mesh_http_text __attribute__((unused))
image_match(struct image *im, enum mesh_http_text_kind kind, const char *text)
{
	return (struct mesh_http_text){ .kind = (uint8_t)kind, .text = image_text(im, text) };
}

static void __attribute__((unused)) image_begin(struct image *im)
{
	struct mesh_http_image head = { 0 };

	*im = (struct image){ 0 };
	buf_add(&im->b, &head, sizeof(head));
}

/* After everything was put into it. */
static void __attribute__((unused)) image_end(struct image *im, struct mesh_ref tables, struct mesh_ref clusters)
{
	struct mesh_http_image head = { .tables = tables, .clusters = clusters };

	head.service = image_text(im, "default/svc.default.svc.cluster.local");
	image_array(im, NULL, 0, 1);
	head.size = (uint32_t)im->b.len;
	memcpy(im->b.data, &head, sizeof(head));
}

static struct mesh_addr __attribute__((unused)) image_addr(const char *text)
{
	struct mesh_addr ret;
	struct addr a;

	if (!addr_parse(str_of(text), &a))
		abort();
	memcpy(&ret, &a, sizeof(ret));
	return ret;
}

/* A whole with one image, whose first table is what everybody meets at 10.0.0.1:80. `h`: what else is in it, made with `whole`. */
static void __attribute__((unused)) image_whole_begin(struct image *whole)
{
	struct mesh_http head = { 0 };

	*whole = (struct image){ 0 };
	buf_add(&whole->b, &head, sizeof(head));
}

static void __attribute__((unused)) image_whole_end(struct image *whole, const struct image *im, struct mesh_http h)
{
	struct mesh_http_row row = { .addr = image_addr("10.0.0.1"), .port = 80 };

	if (!h.domain.nr)
		h.domain = image_text(whole, "cluster.local");
	row.image = image_array(whole, im->b.data, (uint32_t)im->b.len, 1).at;
	if (!h.rows.nr)
		h.rows = IMAGE_ONE(whole, &row);
	h.magic = MESH_HTTP_MAGIC;
	h.version = MESH_HTTP_VERSION;
	h.size = whole->b.len;
	memcpy(whole->b.data, &h, sizeof(h));
}

/* Both are freed with the rules. */
static __attribute__((unused)) struct http_rules *image_load(struct image *im)
{
	struct image *whole = calloc(1, sizeof(*whole));
	struct buf err = { 0 };
	struct http_rules *r;

	image_whole_begin(whole);
	image_whole_end(whole, im, (struct mesh_http){ .epoch = 1 });
	buf_release(&im->b);
	r = http_rules_load(whole->b.data, whole->b.len, free, whole->b.data, &err);
	if (!r)
		fprintf(stderr, "%s\n", err.data);
	free(whole);
	buf_release(&err);
	return r;
}

/* Of the client 10.1.0.1 at 10.0.0.1:80. */
static struct http_place __attribute__((unused)) image_place(const struct http_rules *r)
{
	struct mesh_addr client = image_addr("10.1.0.1"), dialled = image_addr("10.0.0.1");
	struct http_place place;

	http_place_find(r, &client, &dialled, 80, &place);
	return place;
}

/* A whole head that is taken; the text stays the caller's. */
static struct http_request __attribute__((unused)) image_request(struct head *h, const char *text)
{
	static const struct head_limits limits = { .line_max = 16384, .bytes_max = 61440, .field_max = 100 };

	head_begin(h, HEAD_REQUEST, &limits);
	if (head_scan(h, text, (uint32_t)strlen(text)) != (int)strlen(text))
		abort();
	return (struct http_request){ .head = h, .p = text, .scheme = STR("http") };
}

#endif
