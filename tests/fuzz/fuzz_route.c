/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes compiled HTTP rules and the heads that are written by them. An input chooses rules, may then corrupt their bytes, and brings a
 * request and a response. Laws:
 *   - rules that were not corrupted load; corrupted ones load or are refused, and what loads is safe to ask anything;
 *   - whatever the rules, a head that is written is one that our own strict reader takes whole, with the method or status and the framing
 *     that it must have, and that llhttp (strict) takes too: nobody behind us reads another message.
 * build: user/l7/rules.c user/l7/check.c user/l7/index.c user/l7/match.c user/l7/route.c user/l7/fields.c user/l7/rewrite.c
 * build: user/l7/answer.c user/l7/hash.c user/l7/authorize.c user/l7/head.c user/l7/balance.c user/l7/balance_pick.c
 * build: user/l7/balance_outlier.c -Itests/unit
 * llhttp: 1
 */
#include <stdio.h>
#include <stdlib.h>

#include "http_image.h"
#include "l7/balance.h"
#include "must.h"
#ifdef LLHTTP
#include <llhttp.h>
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct head_limits limits = { .line_max = 1 << 20, .bytes_max = 1 << 24, .field_max = HEAD_FIELDS_MAX };
static const uint8_t *choices, *choices_end;
static struct head head, response, again;

static uint32_t pick(uint32_t n)
{
	return choices < choices_end ? *choices++ % n : 0;
}

#define ONE_OF(array) ((array)[pick(sizeof(array) / sizeof(*(array)))])

/* ---- rules that are chosen ---- */

static const char *const paths[] = { "/", "/a", "/a/", "/a/b", "/ab", "", "/a//b", "/%2e", "/x/{*}/y", "/{**}" };
static const char *const names[] = { "x-a", "x-b", "cookie", "x-request-id", "x-forwarded-proto", "content-type", "a" };
static const char *const texts[] = { "", "1", "a", "a,b", "a.b", "GET", "*", "\xc3\xa4", "a b" };
static const char *const regexes[] = { ".*", "/a(/.*)?", "(a|b)*", "/([^/]+)/(.*)", "[^x]+", "a?" };
static const char *const replacements[] = { "/", "/\\1", "\\0", "x", "" };
static const char *const hosts[] = { "*", "a.b", "*.b", "a", "[::1]" };
static const char *const authorities[] = { "", "b", "b:80", "[::1]:1" };

static struct mesh_http_text some_text(struct image *im, const char *const *from, uint32_t nr)
{
	enum mesh_http_text_kind kind = (enum mesh_http_text_kind)pick(MESH_TEXT_TEMPLATE + 1);
	struct mesh_http_text t = image_match(im, kind, kind == MESH_TEXT_REGEX ? ONE_OF(regexes) : from[pick(nr)]);

	t.ignore_case = (uint8_t)pick(2);
	t.invert = pick(8) == 7;
	return t;
}
#define SOME_TEXT(im, array) some_text((im), (array), sizeof(array) / sizeof(*(array)))

static struct mesh_ref some_named(struct image *im)
{
	struct mesh_http_named v[2] = { 0 };
	uint32_t nr = pick(3);

	for (uint32_t i = 0; i < nr; i++) {
		v[i].name = image_text(im, ONE_OF(names));
		v[i].value = SOME_TEXT(im, texts);
	}
	return image_array(im, v, nr, sizeof(*v));
}

static struct mesh_http_fields some_fields(struct image *im)
{
	struct mesh_http_field v[2][2] = { 0 };
	struct mesh_ref remove[2] = { 0 };
	struct mesh_http_fields f;
	uint32_t nr[3] = { pick(3), pick(3), pick(3) };

	for (uint32_t i = 0; i < 2; i++) {
		for (int k = 0; k < 2; k++)
			v[k][i] = (struct mesh_http_field){ image_text(im, ONE_OF(names)),
							    image_text(im, ONE_OF(texts)) };
		remove[i] = image_text(im, ONE_OF(names));
	}
	f.set = image_array(im, v[0], nr[0], sizeof(v[0][0]));
	f.add = image_array(im, v[1], nr[1], sizeof(v[0][0]));
	f.remove = image_array(im, remove, nr[2], sizeof(*remove));
	return f;
}

static struct mesh_http_rewrite some_rewrite(struct image *im)
{
	struct mesh_http_rewrite w = { .change = (uint8_t)pick(MESH_PATH_REGEX + 1) };

	w.authority = image_text(im, ONE_OF(authorities));
	if (w.change == MESH_PATH_REGEX) {
		w.regex = image_text(im, "/([^/]*)");
		w.path = image_text(im, ONE_OF(replacements));
	} else {
		w.path = image_text(im, paths[pick(7)]);
	}
	return w;
}

static struct mesh_http_redirect some_redirect(struct image *im)
{
	struct mesh_http_redirect d = { .to = some_rewrite(im), .status = 302 };

	d.scheme = image_text(im, pick(2) ? "https" : "");
	d.port_kind = (uint8_t)pick(MESH_PORT_REQUEST + 1);
	d.port = 8443;
	return d;
}

static struct mesh_http_cors some_cors(struct image *im)
{
	struct mesh_http_cors c = { .given = 1,
				    .credentials = (uint8_t)pick(2),
				    .forward_unmatched = (uint8_t)pick(2) };
	struct mesh_http_text origin = SOME_TEXT(im, texts);
	struct mesh_ref text = image_text(im, "GET");

	c.origins = IMAGE_ONE(im, &origin);
	c.methods = image_array(im, &text, pick(2), sizeof(text));
	c.exposed = image_array(im, &text, pick(2), sizeof(text));
	return c;
}

static struct mesh_http_route some_route(struct image *im)
{
	struct mesh_http_match m[2] = { 0 };
	struct mesh_http_dest d[2] = { 0 };
	struct mesh_http_redirect own = some_redirect(im);
	struct mesh_http_route r = { .action = (uint8_t)pick(MESH_HTTP_DIRECT + 1), .direct_status = 418 };
	uint32_t nr = pick(3);

	for (uint32_t i = 0; i < nr; i++) {
		m[i].path = SOME_TEXT(im, paths);
		if (pick(4) == 3)
			m[i].method = SOME_TEXT(im, texts);
		if (pick(4) == 3)
			m[i].authority = SOME_TEXT(im, hosts);
		m[i].headers = some_named(im);
		m[i].queries = some_named(im);
	}
	r.matches = image_array(im, m, nr, sizeof(*m));
	nr = pick(3);
	for (uint32_t i = 0; i < nr; i++) {
		d[i].weight = 1 + pick(3);
		d[i].request = some_fields(im);
		d[i].rewrite = some_rewrite(im);
		d[i].redirect = image_array(im, &own, pick(4) == 3, sizeof(own));
		r.weight_sum += d[i].weight;
	}
	r.dests = image_array(im, d, nr, sizeof(*d));
	r.rewrite = some_rewrite(im);
	r.redirect = own;
	r.request = some_fields(im);
	r.response = some_fields(im);
	if (pick(2))
		r.cors = some_cors(im);
	return r;
}

static struct mesh_ref some_clusters(struct image *im)
{
	struct mesh_http_endpoint e[3] = { { .addr = image_addr("10.2.0.1"), .port = 1, .weight = 1 },
					   { .addr = image_addr("10.2.0.2"), .port = 2, .weight = 2 },
					   { .addr = image_addr("10.2.0.3"), .port = 3, .weight = 3, .level = 1 } };
	struct mesh_http_cluster c = { .lb = pick(MESH_LB_MAGLEV + 1),
				       .table_size = 7,
				       .hash = pick(MESH_HASH_QUERY + 1) };

	c.name = image_text(im, "outbound|80||a.b");
	c.host = image_text(im, "a.b");
	c.hash_name = image_text(im, ONE_OF(names));
	c.endpoints = image_array(im, e, pick(4), sizeof(*e));
	return IMAGE_ONE(im, &c);
}

static void some_policies(struct image *whole, struct mesh_http *h)
{
	struct mesh_http_guard guard = { .addr = image_addr("10.2.0.1") };
	struct mesh_http_policy p = { .deny = (uint8_t)pick(2) };
	struct mesh_http_test test = { .subject = pick(MESH_SUBJECT_HEADER + 1) };
	struct mesh_http_net net = { .addr = image_addr("10.1.0.1"), .prefix_len = 96 + pick(33) };
	struct mesh_http_text t = SOME_TEXT(whole, paths);
	struct mesh_http_cond cond = { 0 };
	struct mesh_http_clause clause;
	struct mesh_http_rule rule;
	uint32_t first = 0;

	test.name = image_text(whole, "x-a");
	test.any = test.subject == MESH_SUBJECT_SOURCE_IP || test.subject == MESH_SUBJECT_REMOTE_IP ||
				   test.subject == MESH_SUBJECT_DESTINATION_IP
			   ? IMAGE_ONE(whole, &net)
			   : IMAGE_ONE(whole, &t);
	if (pick(2))
		test.none = test.any;
	cond.tests = IMAGE_ONE(whole, &test);
	clause.any = IMAGE_ONE(whole, &cond);
	rule.clauses = IMAGE_ONE(whole, &clause);
	p.rules = IMAGE_ONE(whole, &rule);
	guard.policies = IMAGE_ONE(whole, &first);
	h->policies = IMAGE_ONE(whole, &p);
	h->guards = IMAGE_ONE(whole, &guard);
}

static void some_rules(struct image *whole)
{
	struct mesh_http_table table = { .absent_status = 404, .flags = (uint16_t)pick(2) };
	struct mesh_http_route routes[4];
	struct mesh_http_host host[2] = { 0 };
	struct mesh_http h = { 0 };
	uint32_t nr = 1 + pick(4);
	struct image im;

	image_begin(&im);
	for (uint32_t i = 0; i < nr; i++)
		routes[i] = some_route(&im);
	host[0].name = image_text(&im, ONE_OF(hosts));
	host[1].name = image_text(&im, "*");
	host[0].routes = host[1].routes = image_array(&im, routes, nr, sizeof(*routes));
	table.hosts = IMAGE_ARRAY(&im, host);
	image_end(&im, IMAGE_ONE(&im, &table), some_clusters(&im));
	image_whole_begin(whole);
	some_policies(whole, &h);
	image_whole_end(whole, &im, h);
	buf_release(&im.b);
}

/* ---- what is written ---- */

#ifdef LLHTTP
static int complete(llhttp_t *parser)
{
	return HPE_PAUSED;
}

/* It takes the whole head, and knows the same method, status and framing. */
static void oracle(enum head_kind kind, const struct buf *out)
{
	static llhttp_settings_t settings;
	static llhttp_t parser;

	if (kind == HEAD_REQUEST) {
		static const char *const known[] = {
			"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH "
		};
		size_t i;

		for (i = 0; i < sizeof(known) / sizeof(*known); i++)
			if (!strncmp(out->data, known[i], strlen(known[i])))
				break;
		if (i == sizeof(known) / sizeof(*known))
			return;
	}
	llhttp_settings_init(&settings);
	settings.on_headers_complete = complete;
	llhttp_init(&parser, kind == HEAD_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
	MUST(llhttp_execute(&parser, out->data, out->len) == HPE_PAUSED);
	MUST(parser.http_major == 1 && parser.http_minor == 1);
	MUST(!!(parser.flags & F_CHUNKED) == (again.has[HEAD_TRANSFER_ENCODING] > 0));
	if (again.has[HEAD_CONTENT_LENGTH])
		MUST(parser.content_length == again.length);
	if (kind == HEAD_RESPONSE)
		MUST(parser.status_code == again.status);
}
#endif

/* Reads what was written: all of it is one head. False: it has more fields than can be read. */
static bool reads(enum head_kind kind, const struct buf *out, uint32_t body)
{
	uint32_t lines = 0;
	int rc;

	for (size_t i = 0; i < out->len - body; i++)
		lines += out->data[i] == '\n';
	if (lines > HEAD_FIELDS_MAX)
		return false;
	head_begin(&again, kind, &limits);
	rc = head_scan(&again, out->data, (uint32_t)out->len);
	if (rc <= 0)
		fprintf(stderr, "%d for\n%s\n", rc, out->data);
	MUST(rc > 0 && (size_t)rc == out->len - body);
	MUST(again.minor == 1);
#ifdef LLHTTP
	oracle(kind, out);
#endif
	return true;
}

static void request_laws(const struct http_place *place, const struct http_request *rq, const struct http_choice *c)
{
	struct http_forward f = {
		.keep_alive = pick(2), .upgrade = pick(2), .mirrored = pick(4) == 3, .attempt = pick(3)
	};
	struct buf out = { 0 };

	f.request_id = STR("0123");
	http_request_head(place, rq, c, &f, &out);
	if (reads(HEAD_REQUEST, &out, 0)) {
		MUST(str_eq(head_str(out.data, again.method), head_str(rq->p, rq->head->method)));
		MUST(again.body == rq->head->body && again.length == rq->head->length);
		MUST(again.form != HEAD_ABSOLUTE && again.has[HEAD_HOST] == 1);
		MUST(!again.has[HEAD_KEEP_ALIVE] && !again.has[HEAD_TE] && !again.has[HEAD_TRAILER]);
		MUST(again.upgrade == (f.upgrade && rq->head->upgrade));
	}
	buf_release(&out);
}

static void answer_laws(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
			const char *p)
{
	struct http_answer a = { .head = &response, .p = p, .keep_alive = pick(2), .http10 = pick(4) == 3 };
	struct buf out = { 0 };
	uint8_t want = response.body;

	a.chunked = response.body == HEAD_BODY_CLOSE && !a.http10;
	if (a.chunked || response.body == HEAD_BODY_CHUNKED)
		want = a.http10 ? HEAD_BODY_CLOSE : HEAD_BODY_CHUNKED;
	http_answer_head(place, rq, c, &a, &out);
	if (reads(HEAD_RESPONSE, &out, 0)) {
		head_answers(&again, HEAD_ASKED_OTHER);
		MUST(again.status == response.status && again.body == want);
		MUST(want != HEAD_BODY_LENGTH || again.length == response.length);
	}
	buf_release(&out);
}

static void own_laws(const struct http_place *place, const struct http_request *rq, const struct http_choice *c)
{
	struct http_own o = { .status = 503, .body = STR("no"), .flags = "UH", .keep_alive = pick(2) };
	struct buf out = { 0 }, to = { 0 };

	if (c->redirect) {
		http_location(place, rq, c, &to);
		o = (struct http_own){ .status = c->redirect->status, .location = { to.data, (uint32_t)to.len } };
	}
	http_own_answer(place, rq, c, &o, &out);
	if (reads(HEAD_RESPONSE, &out, o.status == 304 ? 0 : o.body.len))
		MUST(again.status == o.status);
	buf_clear(&out);
	if (http_preflight(place, rq, c, pick(2), &out))
		reads(HEAD_RESPONSE, &out, 0);
	buf_release(&out);
	buf_release(&to);
}

static void endpoint_laws(struct http_rules *r, const struct http_place *place, const struct http_request *rq,
			  const struct http_choice *c)
{
	const struct mesh_http_endpoint *to = NULL;
	struct lb *lb = lb_new();
	struct lb_view *view = lb_attach(lb, r);
	struct lb_tried tried = { 0 };
	struct lb_host *h;
	struct str policy;
	uint64_t hash;
	bool hashed = http_hash(place, rq, c->cluster, &hash);

	for (uint32_t i = 0; i < 3; i++) {
		h = lb_pick(view, place->image, c->cluster, hashed ? &hash : NULL, &tried, pick(256) << 24, 1000, &to);
		if (!h)
			break;
		MUST(h->port == to->port);
		http_authorize(place, rq, c, to, &policy);
		lb_result(lb_of(view, place->image, c->cluster), h, pick(2) ? 500 : 200, false, 1000);
		tried.v[tried.nr++] = h;
	}
	lb_detach(view);
	lb_free(lb);
}

static void ask(struct http_rules *r, const char *request, const char *answer)
{
	struct http_place place = image_place(r);
	struct http_request rq = { .head = &head, .p = request, .scheme = STR("http") };
	struct http_choice c;

	if (!place.table)
		return;
	http_choose(&place, &rq, (uint64_t)pick(256) << 56, &c);
	request_laws(&place, &rq, &c);
	answer_laws(&place, &rq, &c, answer);
	own_laws(&place, &rq, &c);
	if (c.cluster)
		endpoint_laws(r, &place, &rq, &c);
}

/* The bytes as a whole head; the default where they are none. */
static char *read_or(struct head *h, enum head_kind kind, const uint8_t *p, size_t len, const char *otherwise)
{
	char *text = malloc(len + 1);

	if (len)
		memcpy(text, p, len);
	head_begin(h, kind, &limits);
	if (len && head_scan(h, text, (uint32_t)len) > 0)
		return text;
	free(text);
	text = strdup(otherwise);
	head_begin(h, kind, &limits);
	MUST(head_scan(h, text, (uint32_t)strlen(text)) > 0);
	return text;
}

/* [number of bytes that are corrupted] [number of choices] choices, request, "\0", response */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image whole;
	struct buf err = { 0 };
	struct http_rules *r;
	char *request, *answer;
	const uint8_t *rest, *cut;
	uint32_t corrupt;

	if (size < 2)
		return 0;
	corrupt = data[0] % 16;
	choices = data + 2;
	choices_end = data + 2 + (data[1] < size - 2 ? data[1] : size - 2);
	rest = choices_end;
	cut = memchr(rest, 0, (size_t)(data + size - rest));
	request = read_or(&head, HEAD_REQUEST, rest, (size_t)((cut ? cut : data + size) - rest),
			  "GET /a/b?q=1 HTTP/1.1\r\nHost: a.b:80\r\nx-a: 1\r\nOrigin: a\r\n\r\n");
	answer = read_or(&response, HEAD_RESPONSE, cut ? cut + 1 : rest, cut ? (size_t)(data + size - cut - 1) : 0,
			 "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx-b: 1\r\n\r\n");
	head_answers(&response, HEAD_ASKED_OTHER);
	some_rules(&whole);
	for (uint32_t i = 0; i < corrupt; i++) {
		uint32_t at = pick(256) << 8 | pick(256);

		whole.b.data[at % whole.b.len] ^= (char)(1 + pick(255));
	}
	r = http_rules_load(whole.b.data, whole.b.len, NULL, NULL, &err);
	if (!r && !corrupt)
		fprintf(stderr, "%s\n", err.data);
	MUST(r || (corrupt && err.len));
	if (r)
		ask(r, request, answer);
	http_rules_unref(r);
	buf_release(&err);
	buf_release(&whole.b);
	free(request);
	free(answer);
	return 0;
}
