/* SPDX-License-Identifier: BSD-2-Clause */
/* Rules for meshl7 out of a snapshot: rows and clients in order, images whole, the same bytes for the same rules, and a memfd that nobody changes. */
#include "compiled.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "http_image.h"
#include "l7/route.h"
#include "plane/parser_rules.h"

#define SHOP                                                                                                        \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"                                   \
	"spec: {clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, 'fd00::9'], ipFamilyPolicy: PreferDualStack, ports: " \
	"[{name: http, port: 80}, {name: tcp, port: 70}]}\n"                                                        \
	"---\n"                                                                                                     \
	"apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop}\n"                                   \
	"spec: {clusterIP: 10.96.0.8, ports: [{name: http, port: 8080}]}\n"                                         \
	"---\n"                                                                                                     \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: shop}\n"                                         \
	"spec: {serviceAccountName: buyer, nodeName: n1}\n"                                                         \
	"status: {podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.2}, {ip: 'fd01::2'}]}\n"                                    \
	"---\n"                                                                                                     \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\n"                                         \
	"spec: {nodeName: n2}\nstatus: {podIP: 10.1.0.3}\n"                                                         \
	"---\n"                                                                                                     \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: h, namespace: shop}\n"                                         \
	"spec: {nodeName: n1, hostNetwork: true}\nstatus: {podIP: 192.0.2.1}\n"

/* An image without rules, of its unit's name. */
struct made {
	struct mesh_http_image image;
	struct mesh_http_table tables[1];
	char service[32];
};

static struct made made_of(const char *service)
{
	struct made m = { .image = { .size = sizeof(m) } };

	m.image.service = (struct mesh_ref){ offsetof(struct made, service), (uint32_t)strlen(service) };
	m.image.tables = (struct mesh_ref){ offsetof(struct made, tables), 1 };
	m.tables[0].absent_status = 404;
	memcpy(m.service, service, strlen(service));
	return m;
}

/* Port 80 and 8080 are HTTP, as the compiler of HTTP rules would have it. */
static void give_images(struct compiled *c, const struct made *web, const struct made *api)
{
	for (uint32_t i = 0; i < c->snapshot->unit_nr; i++) {
		struct unit *u = c->snapshot->units[i];
		struct made *m = malloc(sizeof(*m));

		*m = *(str_starts(u->host, STR("web.")) ? web : api);
		free((void *)u->http);
		u->http = m;
		u->http_len = sizeof(*m);
		for (uint32_t k = 0; k < u->row_nr; k++)
			u->rows[k].l7 = u->rows[k].port != 70;
	}
}

static struct mesh_addr addr(const char *text)
{
	struct mesh_addr ret;
	struct addr a;

	CHECK(addr_parse(str_of(text), &a));
	memcpy(&ret, a.b, sizeof(ret));
	return ret;
}

static const struct mesh_http *head_of(const struct buf *b)
{
	return (const struct mesh_http *)b->data;
}

TEST(whole)
{
	struct made web = made_of("shop/web"), api = made_of("shop/api");
	const char *const order[] = { "10.96.0.8", "10.96.0.9", "fd00::9" };
	const char *const clients[] = { "10.1.0.2", "10.1.0.3", "fd01::2" };
	struct compiled c = compiled_from(SHOP);
	const struct mesh_http_client *client;
	const struct mesh_http_row *row;
	const struct mesh_http *h;
	struct buf rules = { 0 };

	CHECK_INT(c.rc, 0);
	give_images(&c, &web, &api);
	parser_rules_make(c.snapshot, 7, &rules);
	h = head_of(&rules);
	CHECK_INT(h->size, rules.len);
	CHECK_INT(h->epoch, 7);
	CHECK_INT(h->rows.nr, 3);
	row = (const void *)(rules.data + h->rows.at);
	for (uint32_t i = 0; i < 3; i++) {
		struct mesh_addr want = addr(order[i]);
		const struct made *image = (const void *)(rules.data + row[i].image);

		CHECK(!memcmp(&row[i].addr, &want, sizeof(want)));
		CHECK_INT(row[i].port, i ? 80 : 8080);
		CHECK_INT(row[i].image % 8, 0);
		CHECK(!memcmp(image, i ? &web : &api, sizeof(web)));
	}
	/* Not the one on the node's network. */
	CHECK_INT(h->clients.nr, 3);
	client = (const void *)(rules.data + h->clients.at);
	for (uint32_t i = 0; i < 3; i++) {
		struct mesh_addr want = addr(clients[i]);
		struct str text = { rules.data + client[i].workload.at, client[i].workload.nr };

		CHECK(!memcmp(&client[i].addr, &want, sizeof(want)));
		CHECK(str_eq(text, i == 1 ? STR("shop/a/default") : STR("shop/b/buyer")));
	}
	CHECK(str_eq((struct str){ rules.data + h->domain.at, h->domain.nr }, STR("cluster.local")));
	buf_release(&rules);
	compiled_release(&c);
}

static void released(void *data)
{
	*(bool *)data = true;
}

TEST(meshl7_takes_them)
{
	struct made web = made_of("shop/web"), api = made_of("shop/api");
	struct compiled c = compiled_from(SHOP);
	struct buf rules = { 0 }, err = { 0 };
	struct mesh_addr client = addr("10.1.0.2"), dialled = addr("10.96.0.9");
	struct http_place place;
	bool gone = false;
	struct http_rules *r;

	give_images(&c, &web, &api);
	parser_rules_make(c.snapshot, 7, &rules);
	r = http_rules_load(rules.data, rules.len, released, &gone, &err);
	CHECK_MSG(r, "%s", err.data);
	if (r) {
		http_place_find(r, &client, &dialled, 80, &place);
		CHECK(place.table && place.client);
		CHECK(place.image && str_eq(http_text(place.image, place.image->service), STR("shop/web")));
		http_place_find(r, &client, &dialled, 70, &place);
		CHECK(!place.table);
		http_rules_unref(r);
		CHECK(gone);
	}
	buf_release(&rules);
	buf_release(&err);
	compiled_release(&c);
}

TEST(equal)
{
	struct made web = made_of("shop/web"), api = made_of("shop/api");
	struct compiled c = compiled_from(SHOP);
	struct buf first = { 0 }, second = { 0 }, none = { 0 };

	give_images(&c, &web, &api);
	parser_rules_make(c.snapshot, 7, &first);
	parser_rules_make(c.snapshot, 8, &second);
	CHECK(parser_rules_equal(&first, &second));
	CHECK(!parser_rules_equal(&first, &none));
	CHECK(!parser_rules_equal(&none, &none));
	web.tables[0].absent_status = 503;
	give_images(&c, &web, &api);
	buf_clear(&second);
	parser_rules_make(c.snapshot, 8, &second);
	CHECK(!parser_rules_equal(&first, &second));
	buf_release(&first);
	buf_release(&second);
	compiled_release(&c);
}

TEST(nothing_to_route)
{
	struct compiled c = compiled_from(SHOP);
	struct buf rules = { 0 };

	parser_rules_make(c.snapshot, 1, &rules);
	CHECK_INT(head_of(&rules)->rows.nr, 0);
	CHECK_INT(head_of(&rules)->clients.nr, 0);
	CHECK(rules.len < 128);
	buf_release(&rules);
	compiled_release(&c);
}

/* ---- policies ---- */

#define WITH_ACCOUNT(name, ns, ip)                                                                            \
	"apiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: " ns ", labels: {app: " name "}}\n" \
	"spec: {serviceAccountName: " name "}\nstatus: {podIP: " ip "}\n---\n"
#define GUARDED                                          \
	SERVICE("srv", "one", "10.96.0.1", "http", "80") \
	WITH_ACCOUNT("srv", "one", "10.1.0.1") WITH_ACCOUNT("a", "one", "10.1.0.2") WITH_ACCOUNT("c", "two", "10.1.0.3")
#define RULES_OF(name, action, rules)                                                                       \
	"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " name               \
	", namespace: one}\nspec: {selector: {matchLabels: {app: srv}}, action: " action ", rules: [" rules \
	"]}\n---\n"
#define GET(path, fields) "GET " path " HTTP/1.1\r\nHost: srv.one\r\n" fields "\r\n"
#define OTHER "192.0.2.9"

/* What becomes of a request that meshl7 has of this client: "allowed", "403", or "denied" where the kernel does not even let it connect;
 * "-": the service's row does not lead to meshl7. */
static const char *said(const char *policies, const char *client, const char *request)
{
	struct compiled c = compiled_from(policies);
	struct mesh_addr from = addr(client), vip = addr("10.96.0.1");
	const struct mesh_http_endpoint to = { .addr = addr("10.1.0.1"), .port = 80 };
	const struct access *a = c.snapshot->access;
	const struct u_member *server, *source;
	struct buf rules = { 0 }, err = { 0 };
	struct http_choice choice;
	struct http_place place;
	struct http_request rq;
	static struct head head;
	struct http_rules *r;
	const char *ret = "-";
	struct str policy;
	bool kernel, asked;

	parser_rules_make(c.snapshot, 1, &rules);
	r = http_rules_load(rules.data, rules.len, NULL, NULL, &err);
	CHECK_MSG(r, "%s", err.data);
	http_place_find(r, &from, &vip, 80, &place);
	if (place.table) {
		server = access_member(a, (const struct addr *)&to.addr);
		source = access_member(a, (const struct addr *)&from);
		kernel = access_ask(a, server->relayed, source ? source->identity : 0, (const struct addr *)&from,
				    &server->addr, 80)
				 .allowed;
		rq = image_request(&head, request);
		http_choose(&place, &rq, 0, &choice);
		CHECK(choice.cluster);
		asked = http_authorize(&place, &rq, &choice, &to, &policy) == HTTP_ALLOWED;
		/* What the kernel denies is denied whatever the request is. */
		CHECK(kernel || !asked);
		ret = !kernel ? "denied" : asked ? "allowed" : "403";
	}
	http_rules_unref(r);
	buf_release(&rules);
	buf_release(&err);
	compiled_release(&c);
	return ret;
}

static const char *said_with(const char *rules, const char *client, const char *request)
{
	char text[4096];

	snprintf(text, sizeof(text), GUARDED "%s", rules);
	return said(text, client, request);
}

TEST(policies_of_requests)
{
#define A "10.1.0.2"
#define C "10.1.0.3"
	static const char read[] = RULES_OF("p", "ALLOW",
					    "{from: [{source: {namespaces: [one]}}], to: [{operation: "
					    "{methods: [GET], paths: ['/x/{*}', '*.js']}}]}");
	static const char deny[] = RULES_OF("d", "DENY",
					    "{from: [{source: {namespaces: [one]}}], to: [{operation: "
					    "{notPaths: ['/x*'], ports: ['80']}}]}");
	static const char field[] = RULES_OF("p", "ALLOW",
					     "{when: [{key: 'request.headers[X-Who]', values: ['a*'], "
					     "notValues: [abc]}]}");
	static const char host[] = RULES_OF("p", "ALLOW", "{to: [{operation: {hosts: ['SRV.*']}}]}");
	static const char mixed[] = RULES_OF("p", "ALLOW",
					     "{from: [{source: {requestPrincipals: ['*']}}, {source: "
					     "{remoteIpBlocks: [10.9.0.0/16, '::/0']}}]}");
	static const char unknown[] = RULES_OF("d", "DENY",
					       "{from: [{source: {requestPrincipals: ['*']}}], to: "
					       "[{operation: {methods: [PUT]}}]}");
	static const char both[] = RULES_OF("d", "DENY", "{to: [{operation: {paths: [/no]}}]}")
		RULES_OF("p", "ALLOW", "{from: [{source: {namespaces: [two]}}]}");
	static const struct {
		const char *rules, *client, *request, *want;
	} rows[] = {
		{ read, A, GET("/x/1", ""), "allowed" },
		{ read, A, GET("/b.js?x", ""), "allowed" },
		{ read, A, GET("/x/1/2", ""), "403" },
		{ read, A, "HEAD /x/1 HTTP/1.1\r\nHost: a\r\n\r\n", "403" },
		{ read, C, GET("/x/1", ""), "denied" },
		{ read, OTHER, GET("/x/1", ""), "denied" },
		{ deny, A, GET("/x", ""), "allowed" },
		{ deny, A, GET("/y", ""), "403" },
		{ deny, C, GET("/y", ""), "allowed" },
		{ field, C, GET("/", "x-who: ab\r\n"), "allowed" },
		{ field, C, GET("/", "x-who: abc\r\n"), "403" },
		{ field, C, GET("/", ""), "403" },
		{ host, C, GET("/", ""), "allowed" },
		{ host, C, "GET / HTTP/1.1\r\nHost: web\r\n\r\n", "403" },
		{ mixed, A, GET("/", "x-forwarded-for: 10.9.1.1\r\n"), "allowed" },
		{ mixed, A, GET("/", "x-forwarded-for: 10.8.1.1\r\n"), "403" },
		{ mixed, A, GET("/", "x-forwarded-for: fd00::1\r\n"), "allowed" },
		{ unknown, A, "PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "403" },
		{ both, C, GET("/", ""), "allowed" },
		{ both, C, GET("/no", ""), "403" },
		{ both, A, GET("/", ""), "denied" },
		/* Nothing is asked of requests. */
		{ RULES_OF("p", "ALLOW", "{from: [{source: {namespaces: [two]}}]}"), A, GET("/", ""), "-" },
		{ RULES_OF("p", "ALLOW", "{from: [{source: {requestPrincipals: ['*']}}]}"), A, GET("/", ""), "-" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const char *got = said_with(rows[i].rules, rows[i].client, rows[i].request);

		CHECK_MSG(!strcmp(got, rows[i].want), "row %zu: %s", i, got);
	}
}

/* Endpoints that come by slices alone bring meshl7 into the way when they are guarded, and out again. */
TEST(slices_lead_there)
{
	struct compiled c = compiled_from(
		"apiVersion: v1\nkind: Service\nmetadata: {name: ext, namespace: one}\nspec: {clusterIP: 10.96.0.2, "
		"ports: [{name: tcp, appProtocol: http, port: 80}]}\n---\n" GUARDED RULES_OF(
			"p", "ALLOW",
			"{to: [{operation: {methods: "
			"[GET]}}]}") SLICE("ext", "ext", "one", "10.1.0.3", "80"));
	const struct unit *u;
	struct addr vip;

	CHECK(addr_parse(STR("10.96.0.2"), &vip));
	CHECK(!snapshot_find(c.snapshot, 0, &vip, 80, MESH_PROTO_TCP, &u)->l7);
	compiled_apply(&c, SLICE("ext", "ext", "one", "10.1.0.1", "80"), true);
	CHECK(snapshot_find(c.snapshot, 0, &vip, 80, MESH_PROTO_TCP, &u)->l7);
	compiled_apply(&c, SLICE("ext", "ext", "one", "10.1.0.2", "80"), true);
	CHECK(!snapshot_find(c.snapshot, 0, &vip, 80, MESH_PROTO_TCP, &u)->l7);
	compiled_release(&c);
}

TEST(sealed)
{
	struct buf rules = { 0 };
	char back[5];
	int fd;

	buf_str(&rules, STR("rules"));
	fd = parser_rules_memfd(&rules);
	CHECK(fd >= 0);
	CHECK(pread(fd, back, 5, 0) == 5 && !memcmp(back, "rules", 5));
	CHECK(pwrite(fd, "x", 1, 0) < 0);
	CHECK(ftruncate(fd, 1) && ftruncate(fd, 4096));
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) && (fcntl(fd, F_GET_SEALS) & F_SEAL_SEAL));
	close(fd);
	buf_release(&rules);
}
