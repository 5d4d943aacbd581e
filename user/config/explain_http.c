/* SPDX-License-Identifier: BSD-2-Clause */
/* What happens to the requests of a connection that meshl7 looks into. */
#include "config/explain_local.h"
#include "config/http_print.h"

/* `text`, without the "; " that it begins with, under a key. */
static void json_changes(struct asking *q, const char *key, const struct buf *text)
{
	json_kstr(q->json, key, text->len > 2 ? (struct str){ text->data + 2, (uint32_t)text->len - 2 } : STR(""));
}

static void say_route(struct asking *q, const struct unit *u, const struct mesh_http_route *r, bool tls)
{
	const char *image = u->http;
	const struct mesh_http_dest *dests = (const void *)(image + r->dests.at);
	struct str origin = { image + r->origin.at, r->origin.nr }, name = { image + r->name.at, r->name.nr };
	struct buf match = { 0 }, changes = { 0 };

	http_match_print(image, r, &match);
	http_action_print(image, r, &changes);
	buf_printf(q->text, "    %s%s\n      by %.*s%s%.*s\n", match.data, changes.len ? changes.data : "",
		   STR_ARG(origin), name.len ? ", " : "", STR_ARG(name));
	if (q->json) {
		json_object(q->json);
		json_kstr(q->json, "match", (struct str){ match.data, (uint32_t)match.len });
		json_changes(q, "changes", &changes);
		json_kstr(q->json, "rule", origin);
		json_kstr(q->json, "name", name);
		json_key(q->json, "destinations");
		json_array(q->json);
	}
	for (uint32_t i = 0; i < r->dests.nr; i++)
		say_dest(q, u, &(struct u_dest){ dests[i].cluster, dests[i].weight }, r->weight_sum);
	if (!r->dests.nr && r->action == MESH_HTTP_FORWARD)
		buf_printf(q->text, "      no destination: %s\n",
			   tls ? "connections are closed" : "requests are answered with 500");
	if (q->json) {
		json_array_end(q->json);
		json_object_end(q->json);
	}
	buf_release(&match);
	buf_release(&changes);
}

static void say_host(struct asking *q, const struct unit *u, const struct mesh_http_host *h, bool tls)
{
	const char *image = u->http;
	const struct mesh_http_route *routes = (const void *)(image + h->routes.at);
	struct str name = { image + h->name.at, h->name.nr };

	if (tls)
		buf_printf(q->text, "  connections of TLS that ask for the name %.*s:\n", STR_ARG(name));
	else
		buf_printf(q->text, "  requests to host %.*s, the first that holds:\n", STR_ARG(name));
	if (q->json) {
		json_object(q->json);
		json_kstr(q->json, "host", name);
		json_key(q->json, "routes");
		json_array(q->json);
	}
	for (uint32_t i = 0; i < h->routes.nr; i++)
		say_route(q, u, &routes[i], tls);
	if (q->json) {
		json_array_end(q->json);
		json_object_end(q->json);
	}
}

void say_requests(struct asking *q, const struct unit *u, const struct u_row *r)
{
	bool looks = r && r->l7 && !q->client->host_network;
	const struct mesh_http_table *t = looks ? http_table_at(u->http, r->http_table) : NULL;
	const struct mesh_http_host *hosts = looks ? (const void *)((const char *)u->http + t->hosts.at) : NULL;
	bool tls = looks && t->flags & MESH_HTTP_TLS;

	if (q->json) {
		json_key(q->json, tls ? "tls" : "http");
		json_array(q->json);
	}
	for (uint32_t i = 0; looks && i < t->hosts.nr; i++)
		say_host(q, u, &hosts[i], tls);
	if (tls)
		buf_printf(q->text, "  every other connection is closed\n");
	else if (looks)
		buf_printf(q->text, "  every other request is answered with %u\n", t->absent_status);
	if (looks && r->fail_open)
		buf_printf(q->text, "  while meshl7 is down, connections are balanced in the kernel:\n");
	else if (looks)
		buf_printf(q->text, "  while meshl7 is down, connections are refused\n");
	if (q->json)
		json_array_end(q->json);
}
