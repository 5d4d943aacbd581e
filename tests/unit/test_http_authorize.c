/* SPDX-License-Identifier: BSD-2-Clause */
/* AuthorizationPolicies that need a request: each subject, order, dry runs, and paths that are spelled so that they look like others. */
#include "test.h"

#include "http_image.h"

static struct head head;
#define GUARDED "10.2.0.1"
static const char *server_at = GUARDED;

struct said {
	bool deny, dry_run;
	enum mesh_http_subject subject;
	enum mesh_http_text_kind kind;
	const char *name, *any, *none; /* networks for addresses */
};

static struct mesh_ref values(struct image *whole, const struct said *s, const char *text)
{
	struct mesh_http_text t = image_match(whole, s->kind, text);
	struct mesh_http_net net = { 0 };
	struct addr a;
	uint8_t len;

	if (s->subject != MESH_SUBJECT_SOURCE_IP && s->subject != MESH_SUBJECT_REMOTE_IP &&
	    s->subject != MESH_SUBJECT_DESTINATION_IP)
		return image_array(whole, &t, *text != 0, sizeof(t));
	if (*text && !addr_parse_cidr(str_of(text), false, &a, &len))
		abort();
	if (*text) {
		memcpy(&net.addr, &a, sizeof(a));
		net.prefix_len = len;
	}
	return image_array(whole, &net, *text != 0, sizeof(net));
}

/* What these policies, each of one condition, say of a request to server_at, port 8080, whose route removes x-gone and sets x-set to 1. */
static enum http_verdict verdict(const struct said *policies, uint32_t nr, uint32_t flags, const char *request)
{
	struct mesh_http_client client = { .addr = image_addr("10.1.0.1") };
	struct mesh_http_guard guard = { .addr = image_addr(GUARDED) };
	struct mesh_http_table table = { .absent_status = 404, .flags = (uint16_t)flags };
	struct mesh_http_policy p[4] = { 0 };
	struct mesh_http_endpoint to = { .addr = image_addr(server_at), .port = 8080 };
	struct mesh_http h = { 0 };
	struct http_request rq = image_request(&head, request);
	struct mesh_http_route route = { 0 };
	struct mesh_http_field set;
	struct mesh_ref gone;
	struct image im, whole;
	struct buf err = { 0 };
	struct http_place place;
	struct http_rules *r;
	enum http_verdict v;
	uint32_t order[4] = { 0, 1, 2, 3 };
	struct str policy;

	image_begin(&im);
	gone = image_text(&im, "x-gone");
	set = (struct mesh_http_field){ .name = image_text(&im, "x-set"), .value = image_text(&im, "1") };
	route.request.remove = IMAGE_ONE(&im, &gone);
	route.request.set = IMAGE_ONE(&im, &set);
	image_end(&im, IMAGE_ONE(&im, &table), (struct mesh_ref){ 0 });
	image_whole_begin(&whole);
	for (uint32_t i = 0; i < nr; i++) {
		const struct said *s = &policies[i];
		struct mesh_http_test test = { .subject = s->subject, .name = image_text(&whole, s->name) };
		struct mesh_http_cond cond;
		struct mesh_http_clause clause;
		struct mesh_http_rule rule;

		test.any = values(&whole, s, s->any);
		test.none = values(&whole, s, s->none);
		cond.tests = IMAGE_ONE(&whole, &test);
		clause.any = IMAGE_ONE(&whole, &cond);
		rule.clauses = IMAGE_ONE(&whole, &clause);
		p[i] = (struct mesh_http_policy){ .deny = s->deny, .dry_run = s->dry_run };
		p[i].name = image_text(&whole, "ns/p");
		p[i].rules = IMAGE_ONE(&whole, &rule);
	}
	client.workload = image_text(&whole, "ns/pod/account");
	guard.policies = image_array(&whole, order, nr, sizeof(*order));
	h.policies = image_array(&whole, p, nr, sizeof(*p));
	h.clients = IMAGE_ONE(&whole, &client);
	h.guards = IMAGE_ONE(&whole, &guard);
	image_whole_end(&whole, &im, h);
	r = http_rules_load(whole.b.data, whole.b.len, NULL, NULL, &err);
	if (!r) {
		fprintf(stderr, "%s\n", err.data);
		abort();
	}
	place = image_place(r);
	v = http_authorize(&place, &rq, &(struct http_choice){ .route = &route }, &to, &policy);
	http_rules_unref(r);
	buf_release(&im.b);
	buf_release(&whole.b);
	buf_release(&err);
	return v;
}

#define GET(target, fields) "GET " target " HTTP/1.1\r\nHost: a.b\r\n" fields "\r\n"

/* A policy of that condition allows, or denies, the request `yes`, and does not `no`; NULL: there is none such. */
static void check_both(size_t i, struct said s, const char *yes, const char *no, uint32_t flags)
{
	for (int deny = 0; deny < 2; deny++) {
		s.deny = deny;
		if (yes)
			CHECK_MSG(verdict(&s, 1, flags, yes) == (deny ? HTTP_DENIED : HTTP_ALLOWED), "%zu, deny %d", i,
				  deny);
		if (no)
			CHECK_MSG(verdict(&s, 1, flags, no) == (deny ? HTTP_ALLOWED : HTTP_DENIED), "%zu, deny %d", i,
				  deny);
	}
}

TEST(subjects)
{
	static const struct {
		struct said said;
		const char *yes, *no; /* NULL: there is none such */
	} rows[] = {
		{ { .subject = MESH_SUBJECT_PRINCIPAL,
		    .kind = MESH_TEXT_EXACT,
		    .any = "cluster.local/ns/ns/sa/account" },
		  GET("/", ""),
		  NULL },
		{ { .subject = MESH_SUBJECT_PRINCIPAL,
		    .kind = MESH_TEXT_EXACT,
		    .any = "cluster.local/ns/x/sa/account" },
		  NULL,
		  GET("/", "") },
		{ { .subject = MESH_SUBJECT_PRINCIPAL, .kind = MESH_TEXT_PRESENT, .any = "*" }, GET("/", ""), NULL },
		{ { .subject = MESH_SUBJECT_NAMESPACE, .kind = MESH_TEXT_PREFIX, .any = "n" }, GET("/", ""), NULL },
		{ { .subject = MESH_SUBJECT_ACCOUNT, .kind = MESH_TEXT_EXACT, .any = "ns/account" },
		  GET("/", ""),
		  NULL },
		{ { .subject = MESH_SUBJECT_TRUST_DOMAIN, .kind = MESH_TEXT_EXACT, .any = "cluster.local" },
		  GET("/", ""),
		  NULL },
		{ { .subject = MESH_SUBJECT_SOURCE_IP, .any = "10.1.0.0/24" }, GET("/", ""), NULL },
		{ { .subject = MESH_SUBJECT_SOURCE_IP, .none = "10.1.0.0/24" }, NULL, GET("/", "") },
		{ { .subject = MESH_SUBJECT_DESTINATION_IP, .any = "10.2.0.1/32" }, GET("/", ""), NULL },
		{ { .subject = MESH_SUBJECT_REMOTE_IP, .any = "192.0.2.0/24" },
		  GET("/", "X-Forwarded-For: 10.0.0.9, 192.0.2.7\r\n"),
		  GET("/", "X-Forwarded-For: 192.0.2.7, x\r\n") },
		{ { .subject = MESH_SUBJECT_PORT, .kind = MESH_TEXT_EXACT, .any = "8080" }, GET("/", ""), NULL },
		{ { .subject = MESH_SUBJECT_HOST, .kind = MESH_TEXT_EXACT, .any = "a.b" },
		  "GET / HTTP/1.1\r\nHost: a.b:80\r\n\r\n",
		  "GET / HTTP/1.1\r\nHost: a.c\r\n\r\n" },
		{ { .subject = MESH_SUBJECT_METHOD, .kind = MESH_TEXT_EXACT, .any = "GET" },
		  GET("/", ""),
		  "get / HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ { .subject = MESH_SUBJECT_METHOD, .kind = MESH_TEXT_EXACT, .none = "GET" },
		  "PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
		  GET("/", "") },
		{ { .subject = MESH_SUBJECT_PATH, .kind = MESH_TEXT_TEMPLATE, .any = "/a/{*}/c" },
		  GET("/a/b/c?d", ""),
		  GET("/a/b/b/c", "") },
		{ { .subject = MESH_SUBJECT_HEADER, .name = "x-h", .kind = MESH_TEXT_EXACT, .any = "1" },
		  GET("/", "X-H: 1\r\n"),
		  GET("/", "X-H: 1\r\nX-H: 1\r\n") },
		{ { .subject = MESH_SUBJECT_HEADER, .name = "x-h", .kind = MESH_TEXT_EXACT, .none = "1" },
		  GET("/", ""),
		  GET("/", "X-H: 1\r\n") },
		{ { .subject = MESH_SUBJECT_HEADER, .name = "x-gone", .kind = MESH_TEXT_EXACT, .any = "1" },
		  NULL,
		  GET("/", "X-Gone: 1\r\n") },
		{ { .subject = MESH_SUBJECT_HEADER, .name = "x-set", .kind = MESH_TEXT_EXACT, .any = "1" },
		  GET("/", "X-Set: 2\r\n"),
		  NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct said s = rows[i].said;

		s.name = s.name ? s.name : "";
		s.any = s.any ? s.any : "";
		s.none = s.none ? s.none : "";
		check_both(i, s, rows[i].yes, rows[i].no, 0);
	}
}

/* Fields that the server does not get, or not so, count for nothing. */
TEST(fields_of_the_server)
{
	static const struct {
		const char *name, *value, *yes, *no;
		uint32_t flags;
	} rows[] = {
		{ "x-h", "1", NULL, GET("/", "X-H: 1\r\nConnection: x-h\r\n"), 0 },
		{ "proxy-authorization", "1", GET("/", "Proxy-Authorization: 1\r\n"),
		  GET("/", "Proxy-Authorization: 1\r\nConnection: proxy-authorization\r\n"), 0 },
		{ "upgrade", "x", GET("/", "Upgrade: x\r\nConnection: upgrade\r\n"), GET("/", ""), 0 },
		{ "host", "a.b", "GET http://a.b/ HTTP/1.1\r\nHost: a.c\r\n\r\n",
		  "GET http://a.c/ HTTP/1.1\r\nHost: a.b\r\n\r\n", 0 },
		{ "x-envoy-attempt-count", "1", NULL, GET("/", "X-Envoy-Attempt-Count: 1\r\n"), 0 },
		{ "x-envoy-a", "1", GET("/", "X-Envoy-A: 1\r\n"), GET("/", ""), 0 },
		{ "x-envoy-a", "1", NULL, GET("/", "X-Envoy-A: 1\r\n"), MESH_HTTP_EDGE },
		{ "x-forwarded-proto", "https", GET("/", "X-Forwarded-Proto: https\r\n"), GET("/", ""), 0 },
		{ "x-forwarded-proto", "http", GET("/", ""), GET("/", "X-Forwarded-Proto: https\r\n"), 0 },
		{ "x-forwarded-proto", "https", NULL, GET("/", "X-Forwarded-Proto: https\r\n"), MESH_HTTP_EDGE },
		{ "x-forwarded-proto", "http", GET("/", "X-Forwarded-Proto: https\r\n"), NULL, MESH_HTTP_EDGE },
		{ "x-forwarded-for", "192.0.2.7, 10.1.0.1", GET("/", "X-Forwarded-For: 192.0.2.7\r\n"),
		  GET("/", "X-Forwarded-For: 192.0.2.7, 10.1.0.1\r\n"), 0 },
		{ "x-forwarded-for", "10.1.0.1", GET("/", "X-Forwarded-For: 192.0.2.7\r\n"), NULL, MESH_HTTP_EDGE },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct said s = { .subject = MESH_SUBJECT_HEADER, .kind = MESH_TEXT_EXACT, .none = "" };

		s.name = rows[i].name;
		s.any = rows[i].value;
		check_both(i, s, rows[i].yes, rows[i].no, rows[i].flags);
	}
}

TEST(spellings_of_paths)
{
	static const struct said admin = { .deny = true,
					   .subject = MESH_SUBJECT_PATH,
					   .kind = MESH_TEXT_PREFIX,
					   .name = "",
					   .any = "/admin",
					   .none = "" };
	static const char *const denied[] = { "/admin", "/admin/x", "/x/../admin", "/./admin", "/x/%2e%2E/admin",
					      "/x/.%2e/admin", "/../admin", "/x/y/../../admin", "/%2e/admin",
					      "/admin/..x", "/admin?x", "/%61dmi%6E", "/a/%2e./admin",
					      /* The server may not resolve them. */
					      "/admin/..", "/admin/../x", "/%61dmin/x/%2e%2e/../public", "/admin/." };
	static const char *const allowed[] = { "/",	    "/x/admin",	 "/x/../y", "/x/.", "/x?/admin",
					       "/a/..../b", "/%2fadmin", "/%",	    "/%2" };
	static const struct said public = {
		.subject = MESH_SUBJECT_PATH, .kind = MESH_TEXT_PREFIX, .name = "", .any = "/public/", .none = ""
	};
	char request[128];

	for (size_t i = 0; i < sizeof(denied) / sizeof(*denied); i++) {
		snprintf(request, sizeof(request), GET("%s", ""), denied[i]);
		CHECK_MSG(verdict(&admin, 1, 0, request) == HTTP_DENIED, "%s", denied[i]);
	}
	for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++) {
		snprintf(request, sizeof(request), GET("%s", ""), allowed[i]);
		CHECK_MSG(verdict(&admin, 1, 0, request) == HTTP_ALLOWED, "%s", allowed[i]);
	}
	CHECK(verdict(&public, 1, 0, GET("/public/x/../y", "")) == HTTP_ALLOWED);
	CHECK(verdict(&public, 1, 0, GET("/x/../public/y", "")) == HTTP_DENIED);
}

/* Nobody would be asked about what goes through a tunnel. */
TEST(tunnels)
{
	static const char connect[] = "CONNECT a.b:80 HTTP/1.1\r\nHost: a.b:80\r\n\r\n";
	static const struct said any = {
		.subject = MESH_SUBJECT_METHOD, .kind = MESH_TEXT_PRESENT, .name = "", .any = "*", .none = ""
	};

	CHECK(verdict(&any, 1, 0, GET("/", "")) == HTTP_ALLOWED);
	CHECK(verdict(&any, 1, 0, connect) == HTTP_DENIED);
	server_at = "10.2.0.2";
	CHECK(verdict(&any, 1, 0, connect) == HTTP_ALLOWED);
	server_at = GUARDED;
}

TEST(order)
{
	struct said deny = { .deny = true,
			     .subject = MESH_SUBJECT_METHOD,
			     .kind = MESH_TEXT_EXACT,
			     .name = "",
			     .any = "PUT",
			     .none = "" };
	struct said allow = {
		.subject = MESH_SUBJECT_PATH, .kind = MESH_TEXT_PREFIX, .name = "", .any = "/a", .none = ""
	};
	struct said other = allow;
	struct said both[] = { deny, allow }, dry[] = { deny, allow }, many[3];
	struct said remote = { .subject = MESH_SUBJECT_REMOTE_IP, .name = "", .any = "192.0.2.0/24", .none = "" };

	other.any = "/b";
	CHECK(verdict(both, 0, 0, GET("/b", "")) == HTTP_ALLOWED);
	CHECK(verdict(both, 2, 0, GET("/a", "")) == HTTP_ALLOWED);
	CHECK(verdict(both, 2, 0, GET("/b", "")) == HTTP_DENIED);
	CHECK(verdict(both, 2, 0, "PUT /a HTTP/1.1\r\nHost: a\r\n\r\n") == HTTP_DENIED);
	many[0] = deny;
	many[1] = allow;
	many[2] = other;
	CHECK(verdict(many, 3, 0, GET("/b", "")) == HTTP_ALLOWED && verdict(many, 3, 0, GET("/c", "")) == HTTP_DENIED);
	dry[0].dry_run = dry[1].dry_run = true;
	CHECK(verdict(dry, 2, 0, "PUT /b HTTP/1.1\r\nHost: a\r\n\r\n") == HTTP_ALLOWED);
	/* From outside X-Forwarded-For is anybody's. */
	CHECK(verdict(&remote, 1, 0, GET("/", "X-Forwarded-For: 192.0.2.1\r\n")) == HTTP_ALLOWED);
	CHECK(verdict(&remote, 1, MESH_HTTP_EDGE, GET("/", "X-Forwarded-For: 192.0.2.1\r\n")) == HTTP_DENIED);
}
