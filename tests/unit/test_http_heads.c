/* SPDX-License-Identifier: BSD-2-Clause */
/* Heads as they go on: paths rewritten, fields changed, what is for one hop only, redirects, answers of the proxy's own, CORS, hashes. */
#include "test.h"

#include "http_image.h"

static struct head head;

/* One route to one destination, and where it is. */
struct bench {
	struct image im;
	struct mesh_http_match match;
	struct mesh_http_dest dest;
	struct mesh_http_route route;
	struct mesh_http_cluster cluster;
	struct mesh_http_table table;
	struct http_rules *rules;
	struct http_place place;
	struct buf out;
};

static void bench_begin(struct bench *b)
{
	*b = (struct bench){ .dest = { .weight = 1 }, .route = { .weight_sum = 1 } };
	image_begin(&b->im);
	b->cluster.host = image_text(&b->im, "svc.default.svc.cluster.local");
}

static void bench_ready(struct bench *b)
{
	struct mesh_http_host host = { .name = image_text(&b->im, "*") };

	b->route.matches = IMAGE_ONE(&b->im, &b->match);
	b->route.dests = IMAGE_ONE(&b->im, &b->dest);
	host.routes = IMAGE_ONE(&b->im, &b->route);
	b->table.hosts = IMAGE_ONE(&b->im, &host);
	image_end(&b->im, IMAGE_ONE(&b->im, &b->table), IMAGE_ONE(&b->im, &b->cluster));
	b->rules = image_load(&b->im);
	if (!b->rules)
		abort();
	b->place = image_place(b->rules);
}

static void bench_end(struct bench *b)
{
	http_rules_unref(b->rules);
	buf_release(&b->out);
}

static struct http_choice choice(struct bench *b, const struct http_request *rq)
{
	struct http_choice c;

	http_choose(&b->place, rq, 0, &c);
	if (!c.route)
		abort();
	buf_clear(&b->out);
	return c;
}

static const char *sent(struct bench *b, const char *request, struct http_forward f)
{
	struct http_request rq = image_request(&head, request);
	struct http_choice c = choice(b, &rq);

	http_request_head(&b->place, &rq, &c, &f, &b->out);
	return b->out.data;
}

static const char *answered(struct bench *b, const char *request, const char *answer, struct http_answer a)
{
	static const struct head_limits limits = { .line_max = 16384, .bytes_max = 61440, .field_max = 100 };
	static struct head response;
	struct http_request rq = image_request(&head, request);
	struct http_choice c = choice(b, &rq);

	head_begin(&response, HEAD_RESPONSE, &limits);
	if (head_scan(&response, answer, (uint32_t)strlen(answer)) <= 0)
		abort();
	head_answers(&response, HEAD_ASKED_OTHER);
	a.head = &response;
	a.p = answer;
	http_answer_head(&b->place, &rq, &c, &a, &b->out);
	return b->out.data;
}

static const char *location(struct bench *b, const char *request)
{
	struct http_request rq = image_request(&head, request);
	struct http_choice c = choice(b, &rq);

	http_location(&b->place, &rq, &c, &b->out);
	return b->out.data;
}

#define GET(target, fields) "GET " target " HTTP/1.1\r\nHost: a.b:8080\r\n" fields "\r\n"
#define KEEP                       \
	(struct http_forward)      \
	{                          \
		.keep_alive = true \
	}

TEST(paths)
{
	static const struct {
		enum mesh_http_text_kind kind;
		const char *match;
		enum mesh_http_path_change change;
		const char *path, *regex, *asked, *want;
	} rows[] = {
		/* The table of HTTPPathModifier in Gateway API's documentation. */
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "/xyz", "", "/foo/bar", "/xyz/bar" },
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "/xyz/", "", "/foo/bar", "/xyz/bar" },
		{ MESH_TEXT_PATH_PREFIX, "/foo/", MESH_PATH_PREFIX, "/xyz", "", "/foo/bar", "/xyz/bar" },
		{ MESH_TEXT_PATH_PREFIX, "/foo/", MESH_PATH_PREFIX, "/xyz/", "", "/foo/bar", "/xyz/bar" },
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "/xyz", "", "/foo", "/xyz" },
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "/xyz", "", "/foo/", "/xyz/" },
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "", "", "/foo/bar", "/bar" },
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "", "", "/foo/", "/" },
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "", "", "/foo", "/" },
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "/", "", "/foo/", "/" },
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "/", "", "/foo", "/" },
		{ MESH_TEXT_PATH_PREFIX, "/foo", MESH_PATH_PREFIX, "/xyz", "", "/foo?q=1", "/xyz?q=1" },
		{ MESH_TEXT_PATH_PREFIX, "/", MESH_PATH_PREFIX, "/xyz", "", "/foo", "/xyz/foo" },
		{ MESH_TEXT_ANY, "", MESH_PATH_PREFIX, "/xyz", "", "/foo", "/xyz/foo" },
		{ MESH_TEXT_PREFIX, "/foo", MESH_PATH_PREFIX_TEXT, "/", "", "/foo/bar", "//bar" },
		{ MESH_TEXT_PREFIX, "/foo/", MESH_PATH_PREFIX_TEXT, "/", "", "/foo/bar?q", "/bar?q" },
		{ MESH_TEXT_PREFIX, "/foo", MESH_PATH_PREFIX_TEXT, "/x", "", "/foobar", "/xbar" },
		{ MESH_TEXT_PREFIX, "/foo/", MESH_PATH_PREFIX_TEXT, "", "", "/foo/bar", "/bar" },
		{ MESH_TEXT_EXACT, "/foo", MESH_PATH_PREFIX_TEXT, "/x", "", "/foo?q", "/x?q" },
		{ MESH_TEXT_ANY, "", MESH_PATH_PREFIX_TEXT, "/x/", "", "/foo", "/x/foo" },
		{ MESH_TEXT_REGEX, "/f.*", MESH_PATH_PREFIX_TEXT, "/x", "", "/foo/bar", "/x" },
		{ MESH_TEXT_ANY, "", MESH_PATH_FULL, "/x", "", "/foo/bar?q=1", "/x?q=1" },
		{ MESH_TEXT_ANY, "", MESH_PATH_REGEX, "/\\2/\\1", "^/([^/]+)/([^/]+)$", "/a/b?c", "/b/a?c" },
		{ MESH_TEXT_ANY, "", MESH_PATH_REGEX, "x", "^/", "/a", "/xa" },
		{ MESH_TEXT_ANY, "", MESH_PATH_KEEP, "", "", "/a//b/../c?d", "/a//b/../c?d" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char request[128], want[128];
		const char *got;
		struct bench b;

		bench_begin(&b);
		b.match.path = image_match(&b.im, rows[i].kind, rows[i].match);
		b.route.rewrite = (struct mesh_http_rewrite){ .change = (uint8_t)rows[i].change,
							      .path = image_text(&b.im, rows[i].path),
							      .regex = image_text(&b.im, rows[i].regex) };
		bench_ready(&b);
		snprintf(request, sizeof(request), GET("%s", ""), rows[i].asked);
		snprintf(want, sizeof(want), "GET %s HTTP/1.1\r\n", rows[i].want);
		got = sent(&b, request, KEEP);
		CHECK_MSG(!strncmp(got, want, strlen(want)), "%zu: got %.40s, want %s", i, got, rows[i].want);
		bench_end(&b);
	}
}

TEST(targets)
{
	struct bench b;

	bench_begin(&b);
	bench_ready(&b);
	CHECK_STR(sent(&b, "GET http://x.y:1/p?q HTTP/1.1\r\nHost: z\r\n\r\n", KEEP),
		  "GET /p?q HTTP/1.1\r\nHost: x.y:1\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: http\r\n\r\n");
	CHECK_STR(sent(&b, "GET http://x?q HTTP/1.1\r\nHost: z\r\n\r\n", KEEP),
		  "GET /?q HTTP/1.1\r\nHost: x\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: http\r\n\r\n");
	CHECK_STR(sent(&b, "OPTIONS http://x HTTP/1.1\r\nHost: z\r\n\r\n", KEEP),
		  "OPTIONS * HTTP/1.1\r\nHost: x\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: http\r\n\r\n");
	CHECK_STR(sent(&b, "OPTIONS * HTTP/1.1\r\nHost: z\r\n\r\n", KEEP),
		  "OPTIONS * HTTP/1.1\r\nHost: z\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: http\r\n\r\n");
	CHECK_STR(sent(&b, "CONNECT x:1 HTTP/1.1\r\nHost: z\r\n\r\n", KEEP),
		  "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: http\r\n\r\n");
	/* HTTP/1.0 need not say whom it speaks to; HTTP/1.1 must. */
	CHECK_STR(sent(&b, "GET / HTTP/1.0\r\n\r\n", KEEP),
		  "GET / HTTP/1.1\r\nHost: svc.default.svc.cluster.local\r\nx-forwarded-for: "
		  "10.1.0.1\r\nx-forwarded-proto: http\r\n\r\n");
	CHECK_STR(sent(&b, "GET / HTTP/1.1\r\nHost: a:80\r\n\r\n", (struct http_forward){ .mirrored = true }),
		  "GET / HTTP/1.1\r\nHost: a-shadow:80\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: "
		  "http\r\nConnection: close\r\n\r\n");
	CHECK_STR(sent(&b, "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", (struct http_forward){ .mirrored = true }),
		  "GET / HTTP/1.1\r\nHost: [::1]:80\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: "
		  "http\r\nConnection: close\r\n\r\n");
	bench_end(&b);
}

TEST(one_hop_only)
{
	struct bench b;

	bench_begin(&b);
	bench_ready(&b);
	CHECK_STR(sent(&b,
		       GET("/",
			   "Connection: close, X-Mine\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers\r\n"
			   "Trailer: x\r\nUpgrade: h2c\r\nx-mine: 1\r\nX-Yours: 2\r\nTransfer-Encoding: chunked\r\n"),
		       KEEP),
		  "GET / HTTP/1.1\r\nHost: a.b:8080\r\nX-Yours: 2\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: "
		  "http\r\n"
		  "Transfer-Encoding: chunked\r\n\r\n");
	CHECK_STR(sent(&b, GET("/", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"),
		       (struct http_forward){ .keep_alive = true, .upgrade = true }),
		  "GET / HTTP/1.1\r\nHost: a.b:8080\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"
		  "x-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: http\r\nConnection: upgrade\r\n\r\n");
	CHECK_STR(answered(&b, GET("/", ""),
			   "HTTP/1.1 200 Fine\r\nConnection: x-a\r\nX-A: 1\r\nX-B: 2\r\nKeep-Alive: 1\r\n\r\n",
			   (struct http_answer){ .keep_alive = true, .chunked = true }),
		  "HTTP/1.1 200 Fine\r\nX-B: 2\r\nTransfer-Encoding: chunked\r\n\r\n");
	CHECK_STR(answered(&b, GET("/", ""), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
			   (struct http_answer){ .keep_alive = true, .http10 = true }),
		  "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\n");
	CHECK_STR(answered(&b, GET("/", ""), "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
			   (struct http_answer){ .keep_alive = true }),
		  "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
	CHECK_STR(answered(&b, GET("/", ""), "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", (struct http_answer){ 0 }),
		  "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n");
	bench_end(&b);
}

/* Fields of one side: what is set, added and removed, each "name value" or a name. */
static struct mesh_http_fields fields(struct image *im, const char *set, const char *value, const char *add,
				      const char *more, const char *remove)
{
	struct mesh_http_field s = { image_text(im, set), image_text(im, value) };
	struct mesh_http_field a = { image_text(im, add), image_text(im, more) };
	struct mesh_ref r = image_text(im, remove);

	return (struct mesh_http_fields){ .remove = image_array(im, &r, r.nr > 0, sizeof(r)),
					  .set = image_array(im, &s, s.name.nr > 0, sizeof(s)),
					  .add = image_array(im, &a, a.name.nr > 0, sizeof(a)) };
}

TEST(changes)
{
	struct bench b;

	bench_begin(&b);
	b.dest.request = fields(&b.im, "x-set", "dest", "x-add", "dest", "x-gone");
	b.route.request = fields(&b.im, "x-set", "route", "x-add", "route", "x-late");
	b.dest.response = fields(&b.im, "x-late", "dest", "", "", "server");
	b.route.response = fields(&b.im, "", "", "x-more", "1", "x-late");
	bench_ready(&b);
	CHECK_STR(sent(&b, GET("/", "X-Set: mine\r\nx-set: again\r\nX-Add: mine\r\nX-Gone: 1\r\nx-late: 1\r\n"), KEEP),
		  "GET / HTTP/1.1\r\nHost: a.b:8080\r\nX-Add: mine\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: "
		  "http\r\nx-add: dest\r\n"
		  "x-set: route\r\nx-add: route\r\n\r\n");
	CHECK_STR(answered(&b, GET("/", ""), "HTTP/1.1 200 OK\r\nServer: s\r\nX-More: 0\r\n\r\n",
			   (struct http_answer){ .set_cookie = STR("a=b") }),
		  "HTTP/1.1 200 OK\r\nX-More: 0\r\nset-cookie: a=b\r\nx-more: 1\r\nConnection: close\r\n\r\n");
	bench_end(&b);
}

TEST(forwarding)
{
	struct http_forward f = { .keep_alive = true, .request_id = STR("id"), .attempt = 2, .timeout_ms = 1500 };
	struct bench b;

	bench_begin(&b);
	b.route.rewrite = (struct mesh_http_rewrite){ .change = MESH_PATH_FULL,
						      .path = image_text(&b.im, "/new"),
						      .authority = image_text(&b.im, "other:1") };
	bench_ready(&b);
	CHECK_STR(sent(&b,
		       GET("/old?q", "X-Forwarded-For: 1.2.3.4\r\nX-Request-Id: mine\r\nX-Forwarded-Proto: https\r\n"
				     "X-Envoy-Attempt-Count: 9\r\nX-Envoy-Other: 1\r\n"),
		       f),
		  "GET /new?q HTTP/1.1\r\nHost: other:1\r\nX-Request-Id: mine\r\n"
		  "X-Forwarded-Proto: https\r\nX-Envoy-Other: 1\r\nx-envoy-original-path: /old?q\r\n"
		  "x-forwarded-for: 1.2.3.4, 10.1.0.1\r\n"
		  "x-envoy-attempt-count: 2\r\nx-envoy-expected-rq-timeout-ms: 1500\r\n\r\n");
	bench_end(&b);
	/* From outside, what says who speaks and how is not believed. */
	bench_begin(&b);
	b.table.flags = MESH_HTTP_EDGE;
	bench_ready(&b);
	CHECK_STR(sent(&b, GET("/", "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Envoy-Other: 1\r\n"),
		       (struct http_forward){ .keep_alive = true, .request_id = STR("id") }),
		  "GET / HTTP/1.1\r\nHost: a.b:8080\r\nx-forwarded-for: 10.1.0.1\r\nx-forwarded-proto: http\r\n"
		  "x-request-id: id\r\n\r\n");
	bench_end(&b);
}

TEST(redirects)
{
	static const struct {
		const char *scheme, *authority, *path;
		enum mesh_http_port kind;
		uint16_t port;
		const char *host, *want;
	} rows[] = {
		{ "", "", "", MESH_PORT_KEEP, 0, "a:8080", "http://a:8080/x?q" },
		{ "https", "", "", MESH_PORT_KEEP, 0, "a:8080", "https://a:8080/x?q" },
		{ "https", "", "", MESH_PORT_KEEP, 0, "a:80", "https://a/x?q" },
		{ "", "b", "/y", MESH_PORT_KEEP, 0, "a:8080", "http://b/y?q" },
		{ "", "b", "/y?z", MESH_PORT_KEEP, 0, "a", "http://b/y?z" },
		{ "https", "b:1", "", MESH_PORT_DEFAULT, 0, "a", "https://b/x?q" },
		{ "https", "", "", MESH_PORT_GIVEN, 443, "a:80", "https://a/x?q" },
		{ "https", "", "", MESH_PORT_GIVEN, 8443, "[::1]:80", "https://[::1]:8443/x?q" },
		{ "", "", "", MESH_PORT_REQUEST, 0, "a:8080", "http://a/x?q" },
		{ "https", "", "", MESH_PORT_REQUEST, 0, "a", "https://a:80/x?q" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct bench b;
		char request[128];

		bench_begin(&b);
		b.route.action = MESH_HTTP_REDIRECT;
		b.route.redirect =
			(struct mesh_http_redirect){ .scheme = image_text(&b.im, rows[i].scheme),
						     .status = 301,
						     .port_kind = (uint8_t)rows[i].kind,
						     .port = rows[i].port,
						     .to = { .authority = image_text(&b.im, rows[i].authority),
							     .change = *rows[i].path ? MESH_PATH_FULL : MESH_PATH_KEEP,
							     .path = image_text(&b.im, rows[i].path) } };
		bench_ready(&b);
		snprintf(request, sizeof(request), "GET /x?q HTTP/1.1\r\nHost: %s\r\n\r\n", rows[i].host);
		CHECK_STR(location(&b, request), rows[i].want);
		bench_end(&b);
	}
}

TEST(own_answers)
{
	struct http_own o = { .status = 503, .body = STR("no healthy upstream"), .overloaded = true, .flags = "UO" };
	struct http_request rq;
	struct http_choice c;
	struct bench b;

	bench_begin(&b);
	b.route.response = fields(&b.im, "content-type", "a/b", "", "", "");
	b.route.action = MESH_HTTP_DIRECT;
	b.route.direct_status = 418;
	bench_ready(&b);
	rq = image_request(&head, GET("/", ""));
	c = choice(&b, &rq);
	http_own_answer(NULL, NULL, NULL, &o, &b.out);
	CHECK_STR(b.out.data, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 19\r\ncontent-type: text/plain\r\n"
			      "x-envoy-overloaded: true\r\nx-tulle-flags: UO\r\nConnection: close\r\n\r\n"
			      "no healthy upstream");
	o = (struct http_own){ .status = 418, .body = STR("tea"), .keep_alive = true, .head_only = true };
	buf_clear(&b.out);
	http_own_answer(&b.place, &rq, &c, &o, &b.out);
	CHECK_STR(b.out.data, "HTTP/1.1 418 I'm a teapot\r\ncontent-length: 3\r\ncontent-type: a/b\r\n\r\n");
	o = (struct http_own){ .status = 302, .location = STR("http://b/"), .keep_alive = true, .http10 = true };
	buf_clear(&b.out);
	http_own_answer(&b.place, &rq, NULL, &o, &b.out);
	CHECK_STR(b.out.data, "HTTP/1.1 302 Found\r\nlocation: http://b/\r\ncontent-length: 0\r\n"
			      "Connection: keep-alive\r\n\r\n");
	o = (struct http_own){ .status = 204, .keep_alive = true };
	buf_clear(&b.out);
	http_own_answer(&b.place, &rq, NULL, &o, &b.out);
	CHECK_STR(b.out.data, "HTTP/1.1 204 No Content\r\n\r\n");
	bench_end(&b);
}

static bool preflight(struct bench *b, const char *request)
{
	struct http_request rq = image_request(&head, request);
	struct http_choice c = choice(b, &rq);

	return http_preflight(&b->place, &rq, &c, true, &b->out);
}

#define PREFLIGHT(origin) \
	"OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: " origin "\r\nAccess-Control-Request-Method: PUT\r\n\r\n"

TEST(cors)
{
	struct mesh_http_text origins[2];
	struct mesh_ref methods, exposed;
	struct bench b;

	for (int forward = 0; forward < 2; forward++) {
		bench_begin(&b);
		origins[0] = image_match(&b.im, MESH_TEXT_EXACT, "https://a");
		origins[1] = image_match(&b.im, MESH_TEXT_REGEX, "https://.*\\.b");
		methods = image_text(&b.im, "GET,PUT");
		exposed = image_text(&b.im, "x-e");
		b.route.cors = (struct mesh_http_cors){ .given = 1,
							.credentials = 1,
							.has_max_age = 1,
							.max_age_s = 60,
							.forward_unmatched = (uint8_t)forward,
							.origins = IMAGE_ARRAY(&b.im, origins),
							.methods = IMAGE_ONE(&b.im, &methods),
							.exposed = IMAGE_ONE(&b.im, &exposed) };
		bench_ready(&b);
		CHECK(preflight(&b, PREFLIGHT("https://x.b")));
		CHECK_STR(b.out.data,
			  "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://x.b\r\n"
			  "access-control-allow-credentials: true\r\naccess-control-allow-methods: GET,PUT\r\n"
			  "access-control-max-age: 60\r\ncontent-length: 0\r\n\r\n");
		CHECK(preflight(&b, PREFLIGHT("https://c")) == !forward);
		if (!forward)
			CHECK_STR(b.out.data, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
		CHECK(!preflight(&b, "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://a\r\n\r\n"));
		CHECK_STR(answered(&b, GET("/", "Origin: https://a\r\n"),
				   "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n",
				   (struct http_answer){ .keep_alive = true }),
			  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\naccess-control-allow-origin: https://a\r\n"
			  "access-control-allow-credentials: true\r\naccess-control-expose-headers: x-e\r\n\r\n");
		CHECK_STR(answered(&b, GET("/", "Origin: https://c\r\n"),
				   "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
				   (struct http_answer){ .keep_alive = true }),
			  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
		bench_end(&b);
	}
}

static bool hash_of(enum mesh_http_hash kind, const char *request, uint64_t *ret)
{
	struct http_request rq = image_request(&head, request);
	struct bench b;
	bool there;

	bench_begin(&b);
	b.cluster.hash = kind;
	b.cluster.hash_name = image_text(&b.im, "key");
	bench_ready(&b);
	there = http_hash(&b.place, &rq, http_ref(b.place.image, b.place.image->clusters), ret);
	bench_end(&b);
	return there;
}

TEST(hashes)
{
	static const struct {
		enum mesh_http_hash kind;
		const char *one, *same, *other, *none;
	} rows[] = {
		{ MESH_HASH_HEADER, GET("/", "Key: 1\r\n"), GET("/x", "a: b\r\nKEY:  1\r\n"), GET("/", "Key: 2\r\n"),
		  GET("/", "") },
		{ MESH_HASH_COOKIE, GET("/", "Cookie: key=1\r\n"), GET("/", "Cookie: a=b; key=\"1\" ;c=d\r\n"),
		  GET("/", "Cookie: key=2; key=1\r\n"), GET("/", "Cookie: xkey=1; key\r\n") },
		{ MESH_HASH_QUERY, GET("/?key=1", ""), GET("/x?a&key=1&b", ""), GET("/?key=2&key=1", ""),
		  GET("/?Key=1", "") },
	};
	uint64_t one, same, other, none;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		CHECK(hash_of(rows[i].kind, rows[i].one, &one) && hash_of(rows[i].kind, rows[i].same, &same) &&
		      hash_of(rows[i].kind, rows[i].other, &other));
		CHECK(one == same && one != other);
		CHECK(!hash_of(rows[i].kind, rows[i].none, &none));
	}
	CHECK(hash_of(MESH_HASH_SOURCE, GET("/", ""), &one) && !hash_of(MESH_HASH_NONE, GET("/", ""), &one));
}
