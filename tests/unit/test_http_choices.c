/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which route requests take by rules as they are written: documents of the golden cases, compiled, and asked as meshl7 asks them. Read as:
 * at this table of this host, such a request takes the rule, and the first destination when the draw is 0.
 */
#include "test.h"

#include "config/snapshot.h"
#include "http_image.h"

struct compiled_case {
	struct model *model;
	struct batch batch;
	struct snapshot *snapshot;
	char text[65536];
};

static void case_begin(struct compiled_case *c, const char *name)
{
	const struct snapshot_options opts = { .cluster_domain = STR("cluster.local"),
					       .root_namespace = STR("istio-system"),
					       .trust_domain = STR("cluster.local") };
	char path[256];
	size_t len;
	FILE *f;

	memset(c, 0, sizeof(*c));
	snprintf(path, sizeof(path), "tests/cases/image/%s/in.yaml", name);
	f = fopen(path, "re");
	if (!f)
		abort();
	len = fread(c->text, 1, sizeof(c->text), f);
	fclose(f);
	c->model = model_new();
	batch_read(&c->batch, LAYER_RULES, str_of(path), (struct str){ c->text, (uint32_t)len });
	for (uint32_t i = 0; i < c->batch.nr; i++)
		if (c->batch.results[i].doc)
			doc_unref(model_put(c->model, c->batch.results[i].doc));
	CHECK_INT(snapshot_build(c->model, &opts, NULL, NULL, 0, &c->batch, &c->snapshot), 0);
}

static void case_end(struct compiled_case *c)
{
	snapshot_unref(c->snapshot);
	model_free(c->model);
	batch_release(&c->batch);
}

static struct http_rules *rules_of(const struct compiled_case *c, const char *host)
{
	struct image im = { 0 };

	for (uint32_t i = 0; i < c->snapshot->unit_nr; i++)
		if (str_is(c->snapshot->units[i]->host, host))
			buf_add(&im.b, c->snapshot->units[i]->http, c->snapshot->units[i]->http_len);
	return image_load(&im);
}

/* want: "origin -> cluster", "origin redirect", "origin answer", "nothing". */
static void ask(const struct compiled_case *c, const char *host, const char *head, const char *want)
{
	struct http_rules *r = rules_of(c, host);
	struct http_place place = image_place(r);
	struct buf got = { 0 };
	struct http_request rq;
	struct http_choice choice;
	struct head h;

	rq = image_request(&h, head);
	http_choose(&place, &rq, 0, &choice);
	if (!choice.route)
		buf_printf(&got, "nothing");
	else
		buf_printf(&got, "%.*s", STR_ARG(http_text(place.image, choice.route->origin)));
	if (choice.route && choice.redirect)
		buf_printf(&got, " redirect");
	else if (choice.route && choice.route->action == MESH_HTTP_DIRECT)
		buf_printf(&got, " answer");
	else if (choice.cluster)
		buf_printf(&got, " -> %.*s", STR_ARG(http_text(place.image, choice.cluster->name)));
	CHECK_STR(got.data, want);
	buf_release(&got);
	http_rules_unref(r);
}

#define SHOP "shop.default.svc.cluster.local"
#define AUDIT "audit.default.svc.cluster.local"
#define GET(path, more) "GET " path " HTTP/1.1\r\nHost: shop\r\n" more "\r\n"

TEST(virtual_service)
{
	struct compiled_case c;

	case_begin(&c, "091-vs-http-matches");
	ask(&c, SHOP, GET("/", ""), "VirtualService default/shop spec.http[2] -> outbound|80|v1|" SHOP);
	ask(&c, SHOP, GET("/audit/x", ""), "VirtualService default/shop spec.http[1] -> outbound|80||" AUDIT);
	ask(&c, SHOP, GET("/", "X-Audit: yes\r\n"), "VirtualService default/shop spec.http[1] -> outbound|80||" AUDIT);
	ask(&c, SHOP, "POST /LOGIN HTTP/1.1\r\nHost: shop\r\nend-user: jason\r\nx-any: \r\n\r\n",
	    "VirtualService default/shop spec.http[0] -> outbound|80|v2|" SHOP);
	ask(&c, SHOP, "POST /LOGIN HTTP/1.1\r\nHost: shop\r\nend-user: jason\r\nx-any: \r\nx-bot: crawler\r\n\r\n",
	    "VirtualService default/shop spec.http[2] -> outbound|80|v1|" SHOP);
	ask(&c, SHOP, GET("/v2/x?page=12&q=", ""), "VirtualService default/shop spec.http[0] -> outbound|80|v2|" SHOP);
	ask(&c, SHOP, GET("/v2/x?page=a&q=", ""), "VirtualService default/shop spec.http[2] -> outbound|80|v1|" SHOP);
	case_end(&c);
	case_begin(&c, "092-vs-http-actions");
	ask(&c, SHOP, GET("/old/x", ""), "VirtualService default/shop spec.http[0] redirect");
	ask(&c, SHOP, GET("/teapot", ""), "VirtualService default/shop spec.http[3] answer");
	ask(&c, SHOP, GET("/elsewhere", ""), "nothing");
	case_end(&c);
}

TEST(http_routes)
{
	struct compiled_case c;

	case_begin(&c, "096-httproute-precedence");
	ask(&c, SHOP, GET("/a", ""), "HTTPRoute default/b spec.rules[1] -> outbound|80||" AUDIT);
	ask(&c, SHOP, GET("/a/b/c", ""), "HTTPRoute default/b spec.rules[1] -> outbound|80||" AUDIT);
	ask(&c, SHOP, GET("/ab", ""), "HTTPRoute default/b spec.rules[0] -> outbound|80||" SHOP);
	ask(&c, SHOP, GET("/r12", ""), "HTTPRoute default/b spec.rules[0] -> outbound|80||" SHOP);
	ask(&c, SHOP, GET("/?q=xx", ""), "HTTPRoute default/b spec.rules[1] -> outbound|80||" AUDIT);
	ask(&c, SHOP, "DELETE / HTTP/1.1\r\nHost: shop\r\n\r\n",
	    "HTTPRoute default/b spec.rules[1] -> outbound|80||" AUDIT);
	case_end(&c);
	case_begin(&c, "097-httproute-filters");
	ask(&c, SHOP, GET("/redirect", ""), "HTTPRoute default/a spec.rules[1] redirect");
	ask(&c, SHOP, GET("/nobody", ""), "HTTPRoute default/a spec.rules[4]");
	ask(&c, AUDIT, GET("/", ""), "HTTPRoute default/empty spec.rules[0]");
	case_end(&c);
}

TEST(gateways)
{
	struct compiled_case c;

	case_begin(&c, "098-gateway-http-listeners");
	ask(&c, "listener:front:any", "GET /c HTTP/1.1\r\nHost: x.shop.example.com\r\n\r\n",
	    "HTTPRoute default/c spec.rules[0] -> outbound|80||" AUDIT);
	ask(&c, "listener:front:any", "GET /c HTTP/1.1\r\nHost: two.example.com\r\n\r\n",
	    "HTTPRoute default/a spec.rules[0] -> outbound|80||" SHOP);
	ask(&c, "listener:front:any", "GET /b HTTP/1.1\r\nHost: nobody.test\r\n\r\n",
	    "HTTPRoute default/a spec.rules[0] -> outbound|80||" SHOP);
	ask(&c, "listener:front:other", "GET / HTTP/1.1\r\nHost: else.example.com\r\n\r\n", "nothing");
	case_end(&c);
	case_begin(&c, "099-gateway-http-servers");
	ask(&c, "gateway:gw:80", "GET /audit HTTP/1.1\r\nHost: shop.example.com\r\n\r\n",
	    "VirtualService default/one spec.http[0] -> outbound|80||" AUDIT);
	ask(&c, "gateway:gw:80", "GET / HTTP/1.1\r\nHost: shop.example.com:80\r\n\r\n",
	    "VirtualService default/two spec.http[1] -> outbound|80||" SHOP);
	ask(&c, "gateway:gw:80", "GET / HTTP/1.1\r\nHost: more.example.com\r\n\r\n",
	    "VirtualService default/three spec.http[0] redirect");
	ask(&c, "gateway:gw:80", "GET / HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n", "nothing");
	case_end(&c);
}
