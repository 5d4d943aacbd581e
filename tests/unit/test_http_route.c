/* SPDX-License-Identifier: BSD-2-Clause */
/* Which route a request takes: each kind of match, precedence, hosts, weights; and that the indexes find what going through all finds. */
#include "test.h"

#include "http_image.h"

static struct head head;

/* Rules of one host "*" and these routes, each with its number as name. */
static struct http_rules *rules_of(struct image *im, struct mesh_http_route *routes, uint32_t nr)
{
	struct mesh_http_host host = { .name = image_text(im, "*") };
	struct mesh_http_table table = { .absent_status = 404 };

	host.routes = image_array(im, routes, nr, sizeof(*routes));
	table.hosts = IMAGE_ONE(im, &host);
	image_end(im, IMAGE_ONE(im, &table), (struct mesh_ref){ 0 });
	return image_load(im);
}

static struct mesh_http_route direct(struct mesh_ref matches)
{
	return (struct mesh_http_route){ .matches = matches, .action = MESH_HTTP_DIRECT, .direct_status = 200 };
}

static bool takes(const struct http_rules *r, const char *request, uint32_t *ret_nr)
{
	struct http_place place = image_place(r);
	struct http_request rq = image_request(&head, request);
	struct http_choice c;

	http_choose(&place, &rq, 0, &c);
	if (ret_nr && c.route) {
		const struct mesh_http_host *hosts = http_ref(place.image, place.table->hosts);

		*ret_nr = (uint32_t)(c.route - (const struct mesh_http_route *)http_ref(place.image, hosts[0].routes));
	}
	return c.route != NULL;
}

struct row {
	enum mesh_http_text_kind kind;
	const char *text;
	const char *value;
	bool ignore_case, invert, want;
};

static bool path_row(const struct row *row)
{
	struct mesh_http_match m = { 0 };
	struct mesh_http_route route;
	struct http_rules *r;
	struct image im;
	char request[512];
	bool got;

	image_begin(&im);
	m.path = image_match(&im, row->kind, row->text);
	m.path.ignore_case = row->ignore_case;
	m.path.invert = row->invert;
	route = direct(IMAGE_ONE(&im, &m));
	r = rules_of(&im, &route, 1);
	if (!r)
		abort();
	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", row->value);
	got = takes(r, request, NULL);
	http_rules_unref(r);
	return got;
}

TEST(paths)
{
	static const struct row rows[] = {
		{ MESH_TEXT_ANY, "", "/x", false, false, true },
		{ MESH_TEXT_EXACT, "/a", "/a", false, false, true },
		{ MESH_TEXT_EXACT, "/a", "/a?b=c", false, false, true },
		{ MESH_TEXT_EXACT, "/a", "/a/", false, false, false },
		{ MESH_TEXT_EXACT, "/a", "/A", false, false, false },
		{ MESH_TEXT_EXACT, "/a", "/A", true, false, true },
		{ MESH_TEXT_EXACT, "/a", "/b", false, true, true },
		{ MESH_TEXT_EXACT, "/a", "/a", false, true, false },
		{ MESH_TEXT_EXACT, "/a b", "/a%20b", false, false, false },
		{ MESH_TEXT_PREFIX, "/a", "/ab", false, false, true },
		{ MESH_TEXT_PREFIX, "/a/", "/a", false, false, false },
		{ MESH_TEXT_PREFIX, "", "/a", false, false, true },
		{ MESH_TEXT_PREFIX, "/A", "/ab", true, false, true },
		{ MESH_TEXT_PATH_PREFIX, "/a", "/a", false, false, true },
		{ MESH_TEXT_PATH_PREFIX, "/a", "/a/", false, false, true },
		{ MESH_TEXT_PATH_PREFIX, "/a", "/a/b?c", false, false, true },
		{ MESH_TEXT_PATH_PREFIX, "/a", "/ab", false, false, false },
		{ MESH_TEXT_PATH_PREFIX, "/a/", "/a", false, false, true },
		{ MESH_TEXT_PATH_PREFIX, "/a/", "/ab", false, false, false },
		{ MESH_TEXT_PATH_PREFIX, "/", "/", false, false, true },
		{ MESH_TEXT_PATH_PREFIX, "/", "/x", false, false, true },
		{ MESH_TEXT_SUFFIX, ".html", "/a.html?x", false, false, true },
		{ MESH_TEXT_SUFFIX, ".html", "/a.htm", false, false, false },
		{ MESH_TEXT_REGEX, "/v[0-9]+/.*", "/v12/x", false, false, true },
		{ MESH_TEXT_REGEX, "/v[0-9]+", "/v12/x", false, false, false },
		{ MESH_TEXT_REGEX, "/V[0-9]+", "/v12", true, false, true },
		{ MESH_TEXT_TEMPLATE, "/a/{*}/c", "/a/b/c", false, false, true },
		{ MESH_TEXT_TEMPLATE, "/a/{*}/c", "/a/b/b/c", false, false, false },
		{ MESH_TEXT_TEMPLATE, "/a/{*}", "/a/", false, false, false },
		{ MESH_TEXT_TEMPLATE, "/a/{**}/c", "/a/b/b/c", false, false, true },
		{ MESH_TEXT_TEMPLATE, "/a/{**}", "/a/b/c", false, false, true },
		{ MESH_TEXT_TEMPLATE, "/{*}/x/{**}", "/a/x/y/z", false, false, true },
		{ MESH_TEXT_TEMPLATE, "/{*}/x/{**}", "/a/y/x/z", false, false, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		CHECK_MSG(path_row(&rows[i]) == rows[i].want, "%zu: \"%s\" and %s", i, rows[i].text, rows[i].value);
}

/* One match with a named value of the header x-h, or of the parameter q. */
static bool named_holds(bool query, struct row row, const char *request)
{
	struct mesh_http_named n = { 0 };
	struct mesh_http_match m = { 0 };
	struct mesh_http_route route;
	struct http_rules *r;
	struct image im;
	bool got;

	image_begin(&im);
	n.name = image_text(&im, query ? "q" : "x-h");
	n.value = image_match(&im, row.kind, row.text);
	n.value.invert = row.invert;
	*(query ? &m.queries : &m.headers) = IMAGE_ONE(&im, &n);
	route = direct(IMAGE_ONE(&im, &m));
	r = rules_of(&im, &route, 1);
	if (!r)
		abort();
	got = takes(r, request, NULL);
	http_rules_unref(r);
	return got;
}

#define GET(target, fields) "GET " target " HTTP/1.1\r\nHost: a\r\n" fields "\r\n"

TEST(fields)
{
	struct row exact = { MESH_TEXT_EXACT, "v", NULL, false, false, true };
	struct row present = { MESH_TEXT_PRESENT, "", NULL, false, false, true };
	struct row without = { MESH_TEXT_EXACT, "v", NULL, false, true, true };

	CHECK(named_holds(false, exact, GET("/", "X-H: v\r\n")));
	CHECK(!named_holds(false, exact, GET("/", "X-H: V\r\n")));
	CHECK(!named_holds(false, exact, GET("/", "")));
	CHECK(!named_holds(false, exact, GET("/", "X-H: v\r\nX-H: w\r\n")));
	/* Of this hop alone. */
	CHECK(!named_holds(false, exact, GET("/", "X-H: v\r\nConnection: x-h\r\n")));
	exact.text = "v,w,v";
	CHECK(named_holds(false, exact, GET("/", "X-H: v\r\nA: b\r\nx-h: w\r\nX-h:  v \r\n")));
	CHECK(named_holds(false, present, GET("/", "X-H:\r\n")));
	CHECK(!named_holds(false, present, GET("/", "X-H2: v\r\n")));
	present.invert = true;
	CHECK(named_holds(false, present, GET("/", "X-H2: v\r\n")));
	CHECK(named_holds(false, without, GET("/", "")));
	CHECK(named_holds(false, without, GET("/", "X-H: w\r\n")));
	CHECK(!named_holds(false, without, GET("/", "X-H: v\r\n")));
}

TEST(parameters)
{
	struct row exact = { MESH_TEXT_EXACT, "v", NULL, false, false, true };
	struct row present = { MESH_TEXT_PRESENT, "", NULL, false, false, true };

	CHECK(named_holds(true, exact, GET("/?q=v", "")));
	CHECK(named_holds(true, exact, GET("/?a&q=v&q=w", "")));
	CHECK(!named_holds(true, exact, GET("/?q=w&q=v", "")));
	CHECK(!named_holds(true, exact, GET("/?qq=v", "")));
	CHECK(!named_holds(true, exact, GET("/q=v", "")));
	CHECK(named_holds(true, present, GET("/?q", "")));
	CHECK(!named_holds(true, present, GET("/?Q", "")));
}

TEST(method_and_authority)
{
	struct mesh_http_match m = { 0 };
	struct mesh_http_route route;
	struct http_rules *r;
	struct image im;

	image_begin(&im);
	m.method = image_match(&im, MESH_TEXT_EXACT, "POST");
	m.authority = image_match(&im, MESH_TEXT_PREFIX, "a.");
	m.scheme = image_match(&im, MESH_TEXT_EXACT, "http");
	route = direct(IMAGE_ONE(&im, &m));
	r = rules_of(&im, &route, 1);
	CHECK(takes(r, "POST / HTTP/1.1\r\nHost: a.b:80\r\n\r\n", NULL));
	CHECK(!takes(r, "post / HTTP/1.1\r\nHost: a.b:80\r\n\r\n", NULL));
	CHECK(!takes(r, "POST / HTTP/1.1\r\nHost: b.a\r\n\r\n", NULL));
	/* The target's own wins over Host. */
	CHECK(takes(r, "POST http://a.x/ HTTP/1.1\r\nHost: b\r\n\r\n", NULL));
	http_rules_unref(r);
}

static int host_of(const struct http_rules *r, const char *authority)
{
	struct http_place place = image_place(r);
	struct http_request rq;
	struct http_choice c;
	char text[512];

	snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", authority);
	rq = image_request(&head, text);
	http_choose(&place, &rq, 0, &c);
	return c.route ? c.route->direct_status - 200 : -1;
}

TEST(hosts)
{
	static const char *const names[] = { "a.b", "b", "[::1]", "*.x.b", "*.b", "*" };
	enum { NR = sizeof(names) / sizeof(*names) };
	struct mesh_http_host hosts[NR] = { 0 };
	struct mesh_http_table table = { .absent_status = 404 };
	struct http_rules *r;
	struct image im;

	image_begin(&im);
	for (uint32_t i = 0; i < NR; i++) {
		struct mesh_http_route route = direct((struct mesh_ref){ 0 });

		route.direct_status = (uint16_t)(200 + i);
		hosts[i].name = image_text(&im, names[i]);
		hosts[i].routes = IMAGE_ONE(&im, &route);
	}
	table.hosts = IMAGE_ARRAY(&im, hosts);
	image_end(&im, IMAGE_ONE(&im, &table), (struct mesh_ref){ 0 });
	r = image_load(&im);
	CHECK_INT(host_of(r, "a.b"), 0);
	CHECK_INT(host_of(r, "A.B:8080"), 0);
	CHECK_INT(host_of(r, "a.b."), 0);
	CHECK_INT(host_of(r, "b"), 1);
	CHECK_INT(host_of(r, "[::1]:80"), 2);
	CHECK_INT(host_of(r, "y.x.b"), 3);
	CHECK_INT(host_of(r, "z.y.x.b"), 3);
	CHECK_INT(host_of(r, "x.b"), 4);
	CHECK_INT(host_of(r, "c.b"), 4);
	CHECK_INT(host_of(r, ".b"), 5);
	CHECK_INT(host_of(r, "bb"), 5);
	CHECK_INT(host_of(r, ""), 5);
	http_rules_unref(r);
}

/* Of many routes with random literals the index must choose what asking one after the other chooses. */
TEST(index_is_first_match)
{
	enum { NR = 300 };
	static struct mesh_http_route routes[NR];
	static struct row said[NR];
	static char texts[NR][16];
	uint64_t rng = 1;
	struct http_rules *r;
	struct image im;
	uint32_t found = 0;

	memset(routes, 0, sizeof(routes));
	image_begin(&im);
	for (uint32_t i = 0; i < NR; i++) {
		static const enum mesh_http_text_kind kinds[] = { MESH_TEXT_EXACT, MESH_TEXT_PREFIX,
								  MESH_TEXT_PATH_PREFIX, MESH_TEXT_SUFFIX };
		struct mesh_http_match m = { 0 };
		uint32_t len;

		rng = rng * 6364136223846793005ull + 1442695040888963407ull;
		len = 2 + (uint32_t)(rng >> 60) % 7;
		for (uint32_t k = 0; k < len; k++)
			texts[i][k] = k % 3 ? (char)('a' + (rng >> (20 + 2 * k)) % 3) : '/';
		said[i] = (struct row){ .kind = kinds[i % 11 == 10 ? 3 : (rng >> 40) % 3], .text = texts[i] };
		m.path = image_match(&im, said[i].kind, texts[i]);
		m.path.ignore_case = said[i].ignore_case = i % 17 == 3;
		routes[i] = direct(IMAGE_ONE(&im, &m));
	}
	r = rules_of(&im, routes, NR);
	for (uint32_t i = 0; i < 2000; i++) {
		char path[16] = "/", request[64];
		uint32_t want = UINT32_MAX, got = UINT32_MAX, len;

		rng = rng * 6364136223846793005ull + 1442695040888963407ull;
		len = 1 + (uint32_t)(rng >> 60) % 9;
		for (uint32_t k = 1; k < len; k++)
			path[k] = k % 3 ? (char)('a' + (rng >> (20 + 2 * k)) % 3) : '/';
		for (uint32_t k = 0; k < NR && want == UINT32_MAX; k++) {
			size_t n = strlen(said[k].text), have = strlen(path), cut = n;

			if (said[k].kind == MESH_TEXT_PATH_PREFIX)
				while (cut && said[k].text[cut - 1] == '/')
					cut--;
			if (said[k].kind == MESH_TEXT_EXACT ? !strcmp(path, said[k].text)
			    : said[k].kind == MESH_TEXT_SUFFIX
				    ? have >= n && !strcmp(path + have - n, said[k].text)
				    : !strncmp(path, said[k].text, cut) &&
					      (said[k].kind == MESH_TEXT_PREFIX || !path[cut] || path[cut] == '/'))
				want = k;
		}
		snprintf(request, sizeof(request), GET("%s", ""), path);
		takes(r, request, &got);
		CHECK_MSG(got == want, "%s: got %u, want %u", path, got, want);
		found += want != UINT32_MAX;
	}
	CHECK(found > 200 && found < 2000);
	http_rules_unref(r);
}

TEST(weights)
{
	struct mesh_http_cluster clusters[3] = { 0 };
	struct mesh_http_dest dests[3] = { 0 };
	struct mesh_http_route route = { .weight_sum = 10 };
	static const uint32_t weights[] = { 1, 7, 2 };
	uint32_t counts[3] = { 0 };
	struct http_place place;
	struct http_request rq = image_request(&head, GET("/", ""));
	struct mesh_http_host host = { 0 };
	struct mesh_http_table table = { 0 };
	struct http_rules *r;
	struct image im;

	image_begin(&im);
	for (uint32_t i = 0; i < 3; i++) {
		clusters[i].name = image_text(&im, "outbound|80||x");
		dests[i] = (struct mesh_http_dest){ .cluster = i, .weight = weights[i] };
	}
	route.dests = IMAGE_ARRAY(&im, dests);
	host.name = image_text(&im, "*");
	host.routes = IMAGE_ONE(&im, &route);
	table.hosts = IMAGE_ONE(&im, &host);
	image_end(&im, IMAGE_ONE(&im, &table), IMAGE_ARRAY(&im, clusters));
	r = image_load(&im);
	place = image_place(r);
	/* Every thousandth of the draws there are: shares are exact but for one at each border. */
	for (uint64_t i = 0; i < 1000; i++) {
		struct http_choice c;

		http_choose(&place, &rq, i * (UINT64_MAX / 1000) + UINT64_MAX / 2000, &c);
		counts[c.dest - (const struct mesh_http_dest *)http_ref(place.image, c.route->dests)]++;
	}
	CHECK_INT(counts[0], 100);
	CHECK_INT(counts[1], 700);
	CHECK_INT(counts[2], 200);
	CHECK(http_share(MESH_HTTP_WHOLE, UINT64_MAX) && !http_share(0, 0));
	CHECK(http_share(500000, UINT64_MAX / 2 - (1ull << 45)) && !http_share(500000, UINT64_MAX / 2 + (1ull << 45)));
	http_rules_unref(r);
}

/* Rows of the client's own scope, then the common ones, then those of any address. */
TEST(places)
{
	struct mesh_http_row rows[4] = {
		{ .addr = { { 0 } }, .port = 81 },
		{ .addr = image_addr("10.0.0.1"), .port = 80 },
		{ .scope = 5, .addr = image_addr("10.0.0.1"), .port = 80, .table = 1 },
		{ .scope = MESH_SCOPE_CLOSED | 6, .addr = image_addr("10.0.0.2"), .port = 80 },
	};
	struct mesh_http_client clients[3] = { { .addr = image_addr("10.1.0.1"), .scope = 5 },
					       { .addr = image_addr("10.1.0.2") },
					       { .addr = image_addr("10.1.0.3"), .scope = MESH_SCOPE_CLOSED | 6 } };
	static const struct {
		const char *client, *dialled;
		uint16_t port;
		int want; /* table, -1: none */
	} asked[] = {
		{ "10.1.0.1", "10.0.0.1", 80, 1 },    { "10.1.0.2", "10.0.0.1", 80, 0 },
		{ "10.1.0.3", "10.0.0.1", 80, -1 },   { "10.1.0.3", "10.0.0.2", 80, 0 },
		{ "10.1.0.2", "10.0.0.2", 80, -1 },   { "192.0.2.1", "10.0.0.1", 80, 0 },
		{ "192.0.2.1", "192.0.2.9", 81, 0 },  { "10.1.0.3", "192.0.2.9", 81, -1 },
		{ "192.0.2.1", "192.0.2.9", 82, -1 },
	};
	struct mesh_http_table tables[2] = { { .absent_status = 404 }, { .absent_status = 404 } };
	struct mesh_http h = { .epoch = 7 };
	struct buf err = { 0 };
	struct image im, whole;
	struct http_rules *r;

	image_begin(&im);
	image_end(&im, IMAGE_ARRAY(&im, tables), (struct mesh_ref){ 0 });
	image_whole_begin(&whole);
	for (int i = 0; i < 4; i++)
		rows[i].image = sizeof(struct mesh_http);
	image_array(&whole, im.b.data, (uint32_t)im.b.len, 1);
	h.rows = IMAGE_ARRAY(&whole, rows);
	h.clients = IMAGE_ARRAY(&whole, clients);
	image_whole_end(&whole, &im, h);
	r = http_rules_load(whole.b.data, whole.b.len, NULL, NULL, &err);
	CHECK_MSG(r, "%s", err.data);
	for (size_t i = 0; r && i < sizeof(asked) / sizeof(*asked); i++) {
		struct mesh_addr client = image_addr(asked[i].client), dialled = image_addr(asked[i].dialled);
		struct http_place p;
		int got = -1;

		http_place_find(r, &client, &dialled, asked[i].port, &p);
		if (p.table)
			got = (int)(p.table - (const struct mesh_http_table *)http_ref(p.image, p.image->tables));
		CHECK_MSG(got == asked[i].want, "%zu: got %d, want %d", i, got, asked[i].want);
	}
	CHECK_INT(r ? http_rules_epoch(r) : 0, 7);
	http_rules_unref(r);
	buf_release(&im.b);
	buf_release(&whole.b);
	buf_release(&err);
}
