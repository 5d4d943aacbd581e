/* SPDX-License-Identifier: BSD-2-Clause */
/* endpoints: how each endpoint of a service fares, and why. */
#include <arpa/inet.h>

#include "base/table.h"
#include "mesh_abi.h"
#include "plane/verbs_local.h"

struct listing {
	const struct request *q;
	struct buf *out;
	struct table table;
};

#define X(name, text) text,
static const char *const states[] = { ENDPOINT_STATES(X) };
#undef X

/* "outbound|port|subset|host", and where there are several of one name, what tells them apart. */
struct cluster_name {
	struct str port, subset, host, variant;
};

static struct str part(struct str *rest)
{
	int bar = str_find(*rest, '|');
	struct str s = bar < 0 ? *rest : str_sub(*rest, 0, (uint32_t)bar);

	*rest = bar < 0 ? (struct str){ 0 } : str_sub(*rest, (uint32_t)bar + 1, rest->len);
	return s;
}

static struct cluster_name cluster_name(struct str text)
{
	struct cluster_name n;

	part(&text);
	n.port = part(&text);
	n.subset = part(&text);
	n.host = part(&text);
	n.variant = text;
	return n;
}

static const char *address(const struct endpoint_view *v, char *out)
{
	struct addr a;

	memcpy(a.b, &v->backend.addr, sizeof(a.b));
	return addr_text(&a, out);
}

static bool row(void *data, const struct endpoint_view *v)
{
	const struct mesh_tally *tally = &v->tally;
	struct listing *l = data;
	struct table *t = &l->table;
	char text[ADDR_TEXT_MAX];

	table_cell(t, v->cluster);
	address(v, text);
	table_cellf(t, strchr(text, ':') ? "[%s]:%u" : "%s:%u", text, ntohs(v->backend.port_be));
	if (l->q->output == OUTPUT_WIDE)
		table_cell(t, v->backend.proto == MESH_PROTO_UDP ? STR("udp") : STR("tcp"));
	table_cell(t, v->workload);
	table_cell(t, str_of(states[v->state]));
	table_cellf(t, "%u", v->backend.active);
	table_cellf(t, "%u", tally->failed);
	table_cellf(t, "%u", tally->reset);
	table_cellf(t, "%u", v->weight);
	if (l->q->output == OUTPUT_WIDE) {
		table_cellf(t, "%u", v->level);
		table_cell(t, v->locality);
		table_cellf(t, "%llu", (unsigned long long)tally->opened);
		table_cellf(t, "%.3fms", tally->latency_us / 1e3);
		table_cellf(t, "%u", tally->ejections);
		table_cell(t, v->check);
	}
	table_cell(t, v->why);
	return true;
}

static void json_text(struct json *j, const char *key, struct str s)
{
	json_key(j, key);
	if (s.len)
		json_str(j, s);
	else
		json_null(j);
}

#define X(name, label, text) label,
static const char *const causes[MESH_CAUSE_NR] = { MESH_CAUSES(X) };
#undef X

/* Why it gets no connections, in a word; empty: something else, or nothing. */
static const char *cause(const struct endpoint_view *v)
{
	if (v->state == ENDPOINT_UNHEALTHY)
		return "failed_check";
	return v->state == ENDPOINT_EJECTED && v->backend.cause < MESH_CAUSE_NR ? causes[v->backend.cause] : "";
}

static void health_json(struct json *j, const struct endpoint_view *v)
{
	const struct mesh_backend *b = &v->backend;
	const struct mesh_tally *tally = &v->tally;

	json_kuint(j, "active", b->active);
	json_kuint(j, "opened", tally->opened);
	json_kuint(j, "failed", tally->failed);
	json_kuint(j, "reset", tally->reset);
	json_kuint(j, "failed_in_a_row", b->connect_failures);
	json_kuint(j, "reset_in_a_row", b->resets);
	json_kuint(j, "ejections", tally->ejections);
	json_text(j, "cause", str_of(cause(v)));
	json_ktime(j, "ejected_at", v->from_realtime_ns);
	json_ktime(j, "ejected_until", v->until_realtime_ns);
	json_ktime(j, "since", v->since_realtime_ns);
	json_kuint(j, "latency_us", tally->latency_us);
	json_text(j, "check", v->check);
}

static void cluster_json(struct json *j, const struct endpoint_view *v)
{
	json_key(j, "cluster");
	json_object(j);
	json_kstr(j, "name", v->cluster);
	json_kuint(j, "active", v->pool.active);
	json_key(j, "max_connections");
	if (v->pool.max_connections == UINT32_MAX)
		json_null(j);
	else
		json_uint(j, v->pool.max_connections);
	json_kuint(j, "overflow", v->pool.overflow);
	json_kuint(j, "ejected", v->pool.ejected);
	json_object_end(j);
}

static bool line(void *data, const struct endpoint_view *v)
{
	struct cluster_name name = cluster_name(v->cluster);
	struct listing *l = data;
	char text[ADDR_TEXT_MAX];
	struct json j;

	json_init(&j, l->out);
	json_object(&j);
	json_kstr(&j, "host", name.host);
	json_text(&j, "subset", name.subset);
	json_text(&j, "variant", name.variant);
	json_kstr(&j, "ip", str_of(address(v, text)));
	json_kuint(&j, "port", ntohs(v->backend.port_be));
	json_kstr(&j, "protocol", v->backend.proto == MESH_PROTO_UDP ? STR("udp") : STR("tcp"));
	json_text(&j, "workload", v->workload);
	json_text(&j, "locality", v->locality);
	json_kuint(&j, "priority", v->level);
	json_kuint(&j, "weight", v->weight);
	json_kstr(&j, "state", str_of(states[v->state]));
	json_text(&j, "why", v->why);
	health_json(&j, v);
	cluster_json(&j, v);
	json_object_end(&j);
	buf_add(l->out, "\n", 1);
	/* Better a cut listing than an answer that cannot be sent. */
	return l->out->len < WIRE_BODY_MAX - (1u << 20);
}

static void heads(struct listing *l)
{
	static const char *const narrow[] = { "CLUSTER", "ENDPOINT", "WORKLOAD", "STATE", "ACTIVE",
					      "FAILED",	 "RESET",    "WEIGHT",	 "WHY" };
	static const char *const wide[] = { "CLUSTER", "ENDPOINT",  "PROTO",  "WORKLOAD", "STATE",    "ACTIVE",
					    "FAILED",  "RESET",	    "WEIGHT", "PRIORITY", "LOCALITY", "OPENED",
					    "LATENCY", "EJECTIONS", "CHECK",  "WHY" };

	if (l->q->output == OUTPUT_WIDE)
		table_head(&l->table, wide, sizeof(wide) / sizeof(*wide));
	else
		table_head(&l->table, narrow, sizeof(narrow) / sizeof(*narrow));
}

int verb_endpoints(struct verbs *v, const struct request *q, struct reply *r)
{
	struct listing l = { .q = q, .out = &r->out };
	bool json = q->output == OUTPUT_JSON;
	struct str host = q->name_nr ? q->names[0] : (struct str){ 0 };

	if (q->name_nr > 1)
		return reply_error(r, EXIT_USAGE, "endpoints of one host at a time");
	if (!json)
		heads(&l);
	plane_endpoints(v->plane, host, json ? line : row, &l);
	if (!json && table_rows(&l.table))
		table_print(&l.table, &r->out);
	else if (!json)
		buf_printf(&r->err, "No endpoints found.\n");
	table_release(&l.table);
	return EXIT_DONE;
}
