/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What requests meet by the rules of a file, for tests/run-rows: `rows FILE`. Compiles the documents as meshd does, loads them as meshl7 does, and
 * then answers each line of stdin with a line of JSON. A line is, with tabs between: client, address and port that it dials, draw, and the
 * lines of the request's head. Where no row leads to meshl7 the answer is what the kernel has there, without a look at the request.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "config/snapshot.h"
#include "l7/route.h"
#include "plane/parser_rules.h"

#define DOMAIN STR("cluster.local")
#define WORDS_MAX 4 /* in front of the head */

struct rows {
	struct model *model;
	struct batch batch;
	struct snapshot *snapshot;
	struct buf text, compiled;
	struct http_rules *rules;
};

struct question {
	struct addr client, dialled;
	uint16_t port;
	uint64_t draw;
	struct buf head;
};

static void die(const char *what, const char *which)
{
	fprintf(stderr, "rows: %s: %s\n", what, which);
	exit(2);
}

static void compile(struct rows *r, const char *path)
{
	const struct snapshot_options opts = { .cluster_domain = DOMAIN,
					       .root_namespace = STR("istio-system"),
					       .trust_domain = DOMAIN };
	struct batch later = { 0 };
	struct buf err = { 0 };
	char bytes[65536];
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		die("cannot open", path);
	while ((n = fread(bytes, 1, sizeof(bytes), f)))
		buf_add(&r->text, bytes, n);
	fclose(f);
	r->model = model_new();
	batch_read(&r->batch, LAYER_RULES, str_of(path), (struct str){ r->text.data, (uint32_t)r->text.len });
	for (uint32_t i = 0; i < r->batch.nr; i++)
		if (r->batch.results[i].doc)
			doc_unref(model_put(r->model, r->batch.results[i].doc));
	/* With a later batch: what refers to nothing is there all the same, as it is once its Service is deleted. */
	if (snapshot_build(r->model, &opts, NULL, NULL, 0, &later, &r->snapshot))
		die("no snapshot", path);
	batch_release(&later);
	parser_rules_make(r->snapshot, 1, &r->compiled);
	r->rules = http_rules_load(r->compiled.data, r->compiled.len, NULL, NULL, &err);
	if (!r->rules)
		die("meshl7 refuses the rules", err.data);
}

static void rows_release(struct rows *r)
{
	http_rules_unref(r->rules);
	buf_release(&r->compiled);
	snapshot_unref(r->snapshot);
	model_free(r->model);
	batch_release(&r->batch);
	buf_release(&r->text);
}

/* ---- the kernel's answer ---- */

static uint32_t scope_of(const struct snapshot *s, const struct addr *a)
{
	for (uint32_t i = 0; i < s->client_nr; i++)
		for (uint32_t k = 0; k < s->clients[i].ip_nr; k++)
			if (!addr_cmp(&s->clients[i].ips[k], a))
				return s->clients[i].scope;
	return MESH_SCOPE_OUTSIDE;
}

static void json_kernel(const struct rows *r, const struct question *q, struct json *j)
{
	const struct unit *u = NULL;
	const struct u_row *row =
		snapshot_find(r->snapshot, scope_of(r->snapshot, &q->client), &q->dialled, q->port, MESH_PROTO_TCP, &u);

	json_kbool(j, "by_request", false);
	json_key(j, "endpoints");
	json_array(j);
	for (uint32_t i = 0; row && row->action == MESH_ROUTE && i < row->dest_nr; i++) {
		const struct u_cluster *c = &u->clusters[u->dests[row->dest + i].cluster];

		for (uint32_t k = 0; k < c->endpoint_nr; k++) {
			uint32_t workload = u->endpoints[c->endpoint + k].workload;

			json_str(j, workload ? u->workloads[workload - 1].text : STR(""));
		}
	}
	json_array_end(j);
}

/* ---- meshl7's ---- */

/* As exchange.c decides; 0: it is forwarded. */
static uint16_t own_status(const struct http_place *place, const struct http_request *rq, const struct http_choice *c)
{
	struct buf preflight = { 0 };
	bool is;

	if (!c->route)
		return place->table->absent_status ? place->table->absent_status : 404;
	is = http_preflight(place, rq, c, true, &preflight);
	buf_release(&preflight);
	if (is)
		return 200;
	if (http_share(c->route->fault.abort_share, 0))
		return c->route->fault.abort_status;
	if (c->redirect)
		return c->redirect->status;
	if (c->route->action == MESH_HTTP_DIRECT)
		return c->route->direct_status;
	if (!c->cluster)
		return 500;
	return c->cluster->broken ? c->cluster->broken_status : c->cluster->endpoints.nr ? 0 : 503;
}

static void json_forward(const struct http_place *place, const struct http_request *rq, const struct http_choice *c,
			 struct json *j)
{
	const struct http_forward f = { .keep_alive = true, .attempt = 1 };
	const struct mesh_http_endpoint *e = http_ref(place->image, c->cluster->endpoints);
	struct buf head = { 0 };

	http_request_head(place, rq, c, &f, &head);
	json_kstr(j, "head", (struct str){ head.data, (uint32_t)head.len });
	buf_release(&head);
	json_kstr(j, "cluster", http_text(place->image, c->cluster->name));
	json_kuint(j, "timeout_ms", c->route->timeout_ms);
	json_kuint(j, "try_timeout_ms", c->route->retry.try_timeout_ms);
	json_kuint(j, "mirrors", c->route->mirrors.nr + c->dest->mirrors.nr);
	json_key(j, "endpoints");
	json_array(j);
	for (uint32_t i = 0; i < c->cluster->endpoints.nr; i++)
		json_str(j, http_text(place->image, e[i].workload));
	json_array_end(j);
}

static void json_request(const struct http_place *place, const struct question *q, struct json *j)
{
	const struct head_limits limits = HEAD_LIMITS_DEFAULT;
	struct http_request rq = { .p = q->head.data, .scheme = STR("http") };
	struct buf location = { 0 };
	struct http_choice choice;
	struct head head;
	uint16_t status;

	head_begin(&head, HEAD_REQUEST, &limits);
	rq.head = &head;
	if (head_scan(&head, q->head.data, (uint32_t)q->head.len) != (int)q->head.len)
		die("no head of a request", q->head.data);
	http_choose(place, &rq, q->draw, &choice);
	json_kbool(j, "by_request", true);
	json_kstr(j, "origin", choice.route ? http_text(place->image, choice.route->origin) : STR(""));
	status = own_status(place, &rq, &choice);
	json_kuint(j, "status", status);
	if (choice.redirect && status == choice.redirect->status) {
		http_location(place, &rq, &choice, &location);
		json_kstr(j, "location", (struct str){ location.data, (uint32_t)location.len });
		buf_release(&location);
	}
	if (!status)
		json_forward(place, &rq, &choice, j);
}

/* ---- lines ---- */

static void read_question(char *line, struct question *q)
{
	char *words[WORDS_MAX], *rest = line, *one;

	*q = (struct question){ 0 };
	for (int i = 0; i < WORDS_MAX; i++)
		if (!(words[i] = strsep(&rest, "\t")))
			die("too short a line", line);
	if (!addr_parse(str_of(words[0]), &q->client) || !addr_parse(str_of(words[1]), &q->dialled))
		die("no address", words[1]);
	q->port = (uint16_t)strtoul(words[2], NULL, 10);
	q->draw = strtoull(words[3], NULL, 10);
	while ((one = strsep(&rest, "\t")))
		buf_printf(&q->head, "%s\r\n", one);
	buf_str(&q->head, STR("\r\n"));
}

static void answer(const struct rows *r, const struct question *q)
{
	struct mesh_addr client, dialled;
	struct http_place place;
	struct buf out = { 0 };
	struct json j;

	memcpy(&client, &q->client, sizeof(client));
	memcpy(&dialled, &q->dialled, sizeof(dialled));
	http_place_find(r->rules, &client, &dialled, q->port, &place);
	json_init(&j, &out);
	json_object(&j);
	if (place.table)
		json_request(&place, q, &j);
	else
		json_kernel(r, q, &j);
	json_object_end(&j);
	puts(out.data);
	buf_release(&out);
}

int main(int argc, char **argv)
{
	struct rows r = { 0 };
	struct question q;
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	if (argc != 2)
		die("usage", "rows FILE < REQUESTS");
	compile(&r, argv[1]);
	while ((len = getline(&line, &cap, stdin)) > 0) {
		line[len - (line[len - 1] == '\n')] = 0;
		read_question(line, &q);
		answer(&r, &q);
		buf_release(&q.head);
	}
	free(line);
	rows_release(&r);
	return 0;
}
