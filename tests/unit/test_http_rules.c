/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loading compiled HTTP rules: each thing that does not hold together is refused by name, and whatever single bit or length is wrong, it is
 * refused or loaded and never more than read (the sanitizers look on).
 */
#include "test.h"

#include "http_image.h"

/* Where things of the rules below are in the whole. */
struct places {
	uint32_t row, route, dest, cluster, endpoint, match, field, client, guard;
};

static struct image made(struct places *ret)
{
	struct mesh_http_endpoint e = { .addr = image_addr("10.2.0.1"), .port = 80, .weight = 1 };
	struct mesh_http_client clients[2] = { { .addr = image_addr("10.1.0.1") }, { .addr = image_addr("10.1.0.2") } };
	struct mesh_http_guard guard = { .addr = image_addr("10.2.0.1") };
	struct mesh_http_policy policy = { .deny = 1 };
	struct mesh_http_row row = { .addr = image_addr("10.0.0.1"), .port = 80 };
	struct mesh_http_table table = { .absent_status = 404 };
	struct mesh_http_cluster cluster = { .lb = MESH_LB_LEAST_REQUEST };
	struct mesh_http_dest dest = { .weight = 1 };
	struct mesh_http_route route = { .weight_sum = 1 };
	struct mesh_http_match match = { 0 };
	struct mesh_http_host host = { 0 };
	struct mesh_http_field field;
	struct mesh_http h = { 0 };
	struct image im, whole;
	uint32_t first = 0;

	image_begin(&im);
	match.path = image_match(&im, MESH_TEXT_REGEX, "/a.*");
	field = (struct mesh_http_field){ image_text(&im, "x-a"), image_text(&im, "1") };
	route.request.set = IMAGE_ONE(&im, &field);
	route.matches = IMAGE_ONE(&im, &match);
	route.dests = IMAGE_ONE(&im, &dest);
	host.name = image_text(&im, "a.b");
	host.routes = IMAGE_ONE(&im, &route);
	table.hosts = IMAGE_ONE(&im, &host);
	cluster.name = image_text(&im, "outbound|80||a.b");
	cluster.endpoints = IMAGE_ONE(&im, &e);
	*ret = (struct places){ .route = host.routes.at,
				.dest = route.dests.at,
				.endpoint = cluster.endpoints.at,
				.match = route.matches.at,
				.field = route.request.set.at };
	table.hosts = IMAGE_ONE(&im, &host);
	first = IMAGE_ONE(&im, &cluster).at;
	ret->cluster = first;
	image_end(&im, IMAGE_ONE(&im, &table), (struct mesh_ref){ first, 1 });
	image_whole_begin(&whole);
	policy.name = image_text(&whole, "ns/p");
	first = 0;
	guard.policies = IMAGE_ONE(&whole, &first);
	h.policies = IMAGE_ONE(&whole, &policy);
	h.guards = IMAGE_ONE(&whole, &guard);
	h.clients = IMAGE_ARRAY(&whole, clients);
	row.image = image_array(&whole, im.b.data, (uint32_t)im.b.len, 1).at;
	h.rows = IMAGE_ONE(&whole, &row);
	ret->row = h.rows.at;
	ret->client = h.clients.at;
	ret->guard = h.guards.at;
	ret->route += row.image;
	ret->dest += row.image;
	ret->cluster += row.image;
	ret->endpoint += row.image;
	ret->match += row.image;
	ret->field += row.image;
	/* The image is in it already: the one that is put behind it is nobody's. */
	image_whole_end(&whole, &im, h);
	buf_release(&im.b);
	return whole;
}

/* Why it is refused; "" when it is not. The text holds until the next call. */
static const char *why(const void *p, size_t len)
{
	static char text[256];
	struct buf err = { 0 };
	struct http_rules *r = http_rules_load(p, len, NULL, NULL, &err);

	snprintf(text, sizeof(text), "%s", r ? "" : err.data);
	http_rules_unref(r);
	buf_release(&err);
	return text;
}

#define AT(type, at) ((type *)(whole.b.data + (at)))

TEST(refused_by_name)
{
	struct places at;
	struct image whole = made(&at);

	CHECK_STR(why(whole.b.data, whole.b.len), "");
/* What is wrong while `change` holds, and right again after `back`. */
#define REFUSED(change, back, name)                                                     \
	do {                                                                            \
		change;                                                                 \
		CHECK_MSG(strstr(why(whole.b.data, whole.b.len), name), "%s: %s", name, \
			  why(whole.b.data, whole.b.len));                              \
		back;                                                                   \
		CHECK_STR(why(whole.b.data, whole.b.len), "");                          \
	} while (0)
	REFUSED(AT(struct mesh_http, 0)->magic++, AT(struct mesh_http, 0)->magic--, "of this version");
	REFUSED(AT(struct mesh_http, 0)->version++, AT(struct mesh_http, 0)->version--, "of this version");
	REFUSED(AT(struct mesh_http, 0)->size++, AT(struct mesh_http, 0)->size--, "of this version");
	REFUSED(AT(struct mesh_http, 0)->rows.at += 4, AT(struct mesh_http, 0)->rows.at -= 4, "rows");
	REFUSED(AT(struct mesh_http, 0)->rows.nr = 1u << 31, AT(struct mesh_http, 0)->rows.nr = 1, "rows");
	REFUSED(AT(struct mesh_http_row, at.row)->image += 4, AT(struct mesh_http_row, at.row)->image -= 4, "image");
	REFUSED(AT(struct mesh_http_row, at.row)->table = 1, AT(struct mesh_http_row, at.row)->table = 0, "table");
	REFUSED(AT(struct mesh_http_client, at.client)[1].addr.w_be[3] = 0,
		AT(struct mesh_http_client, at.client)[1].addr = image_addr("10.1.0.2"), "client");
	REFUSED(AT(struct mesh_http_guard, at.guard)->policies.at = (uint32_t)whole.b.len,
		AT(struct mesh_http_guard, at.guard)->policies.at = sizeof(struct mesh_http) + 8, "guard");
	REFUSED(AT(struct mesh_http_route, at.route)->weight_sum = 2,
		AT(struct mesh_http_route, at.route)->weight_sum = 1, "sum of weights");
	REFUSED(AT(struct mesh_http_route, at.route)->action = 3, AT(struct mesh_http_route, at.route)->action = 0,
		"route");
	REFUSED(AT(struct mesh_http_dest, at.dest)->cluster = 1, AT(struct mesh_http_dest, at.dest)->cluster = 0,
		"destination");
	REFUSED(AT(struct mesh_http_dest, at.dest)->weight = 0, AT(struct mesh_http_dest, at.dest)->weight = 1,
		"destination");
	REFUSED(AT(struct mesh_http_cluster, at.cluster)->lb = 5,
		AT(struct mesh_http_cluster, at.cluster)->lb = MESH_LB_LEAST_REQUEST, "cluster");
	REFUSED((AT(struct mesh_http_cluster, at.cluster)->lb = MESH_LB_MAGLEV,
		 AT(struct mesh_http_cluster, at.cluster)->table_size = UINT32_MAX),
		AT(struct mesh_http_cluster, at.cluster)->lb = MESH_LB_LEAST_REQUEST, "size of a table");
	REFUSED(AT(struct mesh_http_endpoint, at.endpoint)->port = 0,
		AT(struct mesh_http_endpoint, at.endpoint)->port = 80, "endpoint");
	REFUSED(AT(struct mesh_http_match, at.match)->path.kind = 8,
		AT(struct mesh_http_match, at.match)->path.kind = MESH_TEXT_REGEX, "text to match");
	REFUSED(AT(struct mesh_http_match, at.match)->path.text.nr = 1u << 20,
		AT(struct mesh_http_match, at.match)->path.text.nr = 4, "text to match");
	buf_release(&whole.b);
}

/* What is written into heads is no way to write another head. */
TEST(texts_of_fields)
{
	static const struct {
		const char *name, *value;
		bool want;
	} rows[] = {
		{ "x-a", "1", true },	     { "X-A", "1", false },	  { "x a", "1", false },
		{ "te", "1", false },	     { "host", "a", false },	  { "x-a", "1\r\n", false },
		{ "x-a", "a\tb", true },     { ":path", "/", false },	  { "x-a", "\n", false },
		{ "connection", "", false }, { "x-a", "\xc3\xa4", true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct mesh_http_route route = { .action = MESH_HTTP_DIRECT, .direct_status = 200 };
		struct mesh_http_table table = { .absent_status = 404 };
		struct mesh_http_host host = { 0 };
		struct mesh_http_field field;
		struct image im, whole;

		image_begin(&im);
		field = (struct mesh_http_field){ image_text(&im, rows[i].name), image_text(&im, rows[i].value) };
		route.response.add = IMAGE_ONE(&im, &field);
		host.name = image_text(&im, "*");
		host.routes = IMAGE_ONE(&im, &route);
		table.hosts = IMAGE_ONE(&im, &host);
		image_end(&im, IMAGE_ONE(&im, &table), (struct mesh_ref){ 0 });
		image_whole_begin(&whole);
		image_whole_end(&whole, &im, (struct mesh_http){ 0 });
		CHECK_MSG(!*why(whole.b.data, whole.b.len) == rows[i].want, "%s: %s", rows[i].name,
			  why(whole.b.data, whole.b.len));
		buf_release(&im.b);
		buf_release(&whole.b);
	}
}

TEST(no_bit_is_trusted)
{
	struct places at;
	struct image whole = made(&at);
	uint32_t refused = 0, taken = 0;

	for (size_t i = 0; i < whole.b.len * 8; i++) {
		whole.b.data[i / 8] ^= (char)(1 << i % 8);
		*(*why(whole.b.data, whole.b.len) ? &refused : &taken) += 1;
		whole.b.data[i / 8] ^= (char)(1 << i % 8);
	}
	CHECK_MSG(refused > 500 && taken > 500, "%u refused, %u taken", refused, taken);
	for (size_t len = 0; len < whole.b.len; len++) {
		void *copy = malloc(len ? len : 1);

		memcpy(copy, whole.b.data, len);
		if (len >= sizeof(struct mesh_http))
			((struct mesh_http *)copy)->size = len;
		/* Of the image that is nobody's everything may be missing. */
		CHECK(len > at.row || *why(copy, len));
		free(copy);
	}
	buf_release(&whole.b);
}
