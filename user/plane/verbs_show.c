/* SPDX-License-Identifier: BSD-2-Clause */
/* flows and status: what the data path counted, and how the daemon is. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/table.h"
#include "base/version.h"
#include "config/yaml.h"
#include "mesh_abi.h"
#include "plane/verbs_local.h"

/* ---- flows ---- */

struct listing {
	struct verbs *v;
	const struct request *q;
	struct buf *out;
	struct table table;
	uint64_t now_ns; /* CLOCK_REALTIME */
};

#define X(name, text) text,
static const char *const state_texts[] = { MESH_STATES(X) };
#undef X
#define X(name, label, text) text,
static const char *const reason_texts[] = { MESH_REASONS(X) };
#undef X

static void address_cell(struct table *t, const struct mesh_addr *a, __be16 port_be)
{
	uint16_t port = __builtin_bswap16(port_be);
	char text[ADDR_TEXT_MAX];
	struct addr addr;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	port = port_be;
#endif
	memcpy(addr.b, a, sizeof(addr.b));
	addr_text(&addr, text);
	if (addr_is_zero(&addr))
		table_cell(t, STR(""));
	else
		table_cellf(t, addr_is_v4(&addr) ? "%s:%u" : "[%s]:%u", text, port);
}

/* "namespace/pod/serviceaccount" without the account. */
static struct str workload_text(struct str s)
{
	for (uint32_t i = s.len; i--;) {
		if (s.p[i] == '/')
			return str_sub(s, 0, i);
	}
	return s;
}

/* "namespace/host" without what says nothing: reviews.default for a Service, the host alone for others. */
static struct str service_text(const struct listing *l, struct str s)
{
	struct str domain = str_of(l->v->settings->cluster_domain);
	int slash = str_find(s, '/');

	if (slash >= 0)
		s = str_sub(s, (uint32_t)slash + 1, s.len);
	if (s.len > domain.len + 5 && str_ends(s, domain) &&
	    str_eq(str_sub(s, s.len - domain.len - 5, 5), STR(".svc.")))
		s.len -= domain.len + 5;
	return s;
}

static void duration_cell(struct table *t, const struct listing *l, const struct flow_view *v)
{
	uint64_t end = v->closed_realtime_ns ? v->closed_realtime_ns : l->now_ns;
	uint64_t ns = end > v->opened_realtime_ns ? end - v->opened_realtime_ns : 0;
	char text[16];

	if (ns < 1000000000)
		table_cellf(t, "%.1fms", (double)ns / 1e6);
	else
		table_cell(t, str_of(table_age((int64_t)(ns / 1000000000), text)));
}

static bool flow_row(void *data, const struct flow_view *v)
{
	const struct mesh_flow *f = v->flow;
	struct listing *l = data;
	struct table *t = &l->table;

	table_cell(t, workload_text(v->client));
	if (l->q->output == OUTPUT_WIDE)
		address_cell(t, &f->client, f->client_port_be);
	table_cell(t, service_text(l, v->service));
	address_cell(t, &f->dialled, f->dialled_port_be);
	address_cell(t, &f->chosen, f->chosen_port_be);
	table_cell(t, workload_text(v->server));
	table_cell(t, f->proto == MESH_PROTO_UDP ? STR("udp") : STR("tcp"));
	table_cell(t, str_of(f->state < MESH_STATE_NR ? state_texts[f->state] : "unknown"));
	table_cellf(t, "%llu", (unsigned long long)f->bytes_sent);
	table_cellf(t, "%llu", (unsigned long long)f->bytes_received);
	if (l->q->output == OUTPUT_WIDE)
		table_cellf(t, "%llu", (unsigned long long)v->straight.bytes);
	duration_cell(t, l, v);
	if (l->q->output == OUTPUT_WIDE) {
		table_cellf(t, "%llu", (unsigned long long)f->bytes_redirected);
		table_cell(t, v->acceleration);
		table_cellf(t, "%.3fms", f->srtt_us / 1e3);
		table_cellf(t, "%u", f->retransmits);
		table_cellf(t, "%llu", (unsigned long long)f->epoch);
		table_cell(t, v->cluster);
	}
	table_cellf(t, "%s%s%.*s", f->reason < MESH_REASON_NR ? reason_texts[f->reason] : "unknown",
		    v->policy.len ? ": " : "", STR_ARG(v->policy));
	return true;
}

static bool flow_line(void *data, const struct flow_view *v)
{
	struct listing *l = data;
	struct json j;

	json_init(&j, l->out);
	flow_json(&j, v);
	buf_add(l->out, "\n", 1);
	/* Better a cut listing than an answer that cannot be sent. */
	return l->out->len < WIRE_BODY_MAX - (1u << 20);
}

static void flow_heads(struct listing *l)
{
	static const char *const narrow[] = { "CLIENT", "SERVICE", "DIALLED",  "ENDPOINT", "SERVER", "PROTO",
					      "STATE",	"SENT",	   "RECEIVED", "DURATION", "REASON" };
	static const char *const wide[] = { "CLIENT",	   "CLIENT-ADDRESS", "SERVICE",	   "DIALLED",	   "ENDPOINT",
					    "SERVER",	   "PROTO",	     "STATE",	   "SENT",	   "RECEIVED",
					    "SHORTCUT",	   "DURATION",	     "REDIRECTED", "ACCELERATION", "SRTT",
					    "RETRANSMITS", "EPOCH",	     "CLUSTER",	   "REASON" };

	if (l->q->output == OUTPUT_WIDE)
		table_head(&l->table, wide, sizeof(wide) / sizeof(*wide));
	else
		table_head(&l->table, narrow, sizeof(narrow) / sizeof(*narrow));
}

static bool is_state(struct str s)
{
	if (!s.len || str_is(s, "open") || str_is(s, "closed"))
		return true;
	for (size_t i = 0; i < MESH_STATE_NR; i++) {
		if (str_is(s, state_texts[i]))
			return true;
	}
	return false;
}

int verb_flows(struct verbs *v, const struct request *q, struct reply *r)
{
	struct listing l = { .v = v, .q = q, .out = &r->out };
	bool json = q->output == OUTPUT_JSON;
	struct flow_filter filter = { .workload = q->workload,
				      .service = q->service,
				      .state = q->state,
				      .live_only = q->live,
				      .ends = json || q->output == OUTPUT_WIDE };
	struct timespec now;
	int rc;

	if (!is_state(q->state))
		return reply_error(r, EXIT_USAGE, "unknown state `%.*s`", STR_ARG(q->state));
	clock_gettime(CLOCK_REALTIME, &now);
	l.now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	if (!json)
		flow_heads(&l);
	rc = plane_flows(v->plane, &filter, json ? flow_line : flow_row, &l);
	if (rc < 0) {
		rc = reply_error(r, EXIT_FAILED, "flows: %s", strerror(-rc));
	} else {
		rc = EXIT_DONE;
		if (!json && table_rows(&l.table))
			table_print(&l.table, &r->out);
		else if (!json)
			buf_printf(&r->err, "No flows found.\n");
	}
	table_release(&l.table);
	return rc;
}

/* ---- status ---- */

static uint64_t resident_bytes(void)
{
	unsigned long long total, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu", &total, &resident) != 2)
		resident = 0;
	fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void daemon_json(const struct verbs *v, struct json *j)
{
	const struct settings *s = v->settings;

	json_object(j);
	json_kstr(j, "version", tulle_version);
	json_kuint(j, "pid", (uint64_t)getpid());
	json_kuint(j, "uptime_s", (loop_now_ms() - v->started_ms) / 1000);
	json_kuint(j, "resident_bytes", resident_bytes());
	json_kstr(j, "node", str_of(s->node_name));
	json_kstr(j, "cgroup", str_of(s->cgroup));
	json_kstr(j, "pin", str_of(s->pin));
	json_kstr(j, "state", str_of(s->state));
	json_kstr(j, "socket", str_of(s->socket));
	json_object_end(j);
}

static void status_json(struct verbs *v, struct buf *out)
{
	struct json j;

	json_init(&j, out);
	json_object(&j);
	json_key(&j, "daemon");
	daemon_json(v, &j);
	json_key(&j, "rules");
	rules_status(v->rules, &j);
	json_key(&j, "plane");
	plane_status(v->plane, &j);
	json_key(&j, "parser");
	parser_json(v->parser, &j);
	json_object_end(&j);
	buf_add(out, "\n", 1);
}

static bool is_flat(const struct ynode *n)
{
	return n->kind == YNODE_SCALAR || n->kind == YNODE_NULL;
}

static void print_scalar(struct buf *out, const struct ynode *n, uint32_t indent)
{
	struct str s = n->kind == YNODE_NULL ? STR("none") : n->scalar;
	int end;

	if (!s.len)
		s = STR("none");
	while (s.len && s.p[s.len - 1] == '\n')
		s.len--;
	/* Texts of several lines begin on a line of their own. */
	while ((end = str_find(s, '\n')) >= 0) {
		buf_printf(out, "\n%*s%.*s", indent + 2, "", end, s.p);
		s = str_sub(s, (uint32_t)end + 1, s.len);
		if (str_find(s, '\n') < 0)
			buf_printf(out, "\n%*s", indent + 2, "");
	}
	buf_str(out, s);
	buf_add(out, "\n", 1);
}

static void print_indented(struct buf *out, struct str text, uint32_t indent)
{
	while (text.len) {
		int end = str_find(text, '\n');
		uint32_t len = end < 0 ? text.len : (uint32_t)end + 1;

		buf_printf(out, "%*s%.*s", indent, "", (int)len, text.p);
		text = str_sub(text, len, text.len);
	}
}

/* A key in the way of a column's head: "verified_insns" is VERIFIED-INSNS. */
static const char *head_of(struct arena *arena, struct str key)
{
	struct str head = arena_str(arena, key);

	for (char *c = (char *)head.p; *c; c++)
		*c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c == '_' ? '-' : *c;
	return head.p;
}

/* Objects of one shape as a table, its columns named by the keys of the first; `list` is a list of them, or a map by name. */
static void print_rows(struct buf *out, const struct ynode *list, uint32_t indent)
{
	uint32_t named = list->kind == YNODE_MAP, nr = named;
	const struct ynode *first = list->items[named];
	const char *heads[TABLE_COLUMNS_MAX] = { "NAME" };
	struct arena arena = { 0 };
	struct table t = { 0 };
	struct buf text = { 0 };

	for (uint32_t i = 0; i < first->nr && nr < TABLE_COLUMNS_MAX; i++)
		heads[nr++] = head_of(&arena, first->items[2 * i]->scalar);
	table_head(&t, heads, nr);
	for (uint32_t i = 0; i < list->nr; i++) {
		const struct ynode *row = list->items[named ? 2 * i + 1 : i];

		if (named)
			table_cell(&t, list->items[2 * i]->scalar);
		for (uint32_t k = 0; k + named < nr; k++) {
			bool there =
				row->kind == YNODE_MAP && k < row->nr && row->items[2 * k + 1]->kind == YNODE_SCALAR;

			table_cell(&t, there ? row->items[2 * k + 1]->scalar : (struct str){ 0 });
		}
	}
	table_print(&t, &text);
	print_indented(out, buf_text(&text), indent);
	buf_release(&text);
	table_release(&t);
	arena_release(&arena);
}

/* Is it a list, or a map by name, of objects with the same keys and plain values? */
static bool is_rows(const struct ynode *n)
{
	uint32_t step = n->kind == YNODE_MAP ? 2 : 1;
	const struct ynode *first;

	if (is_flat(n) || !n->nr)
		return false;
	first = n->items[step - 1];
	for (uint32_t i = 0; i < n->nr; i++) {
		const struct ynode *row = n->items[step * i + step - 1];

		if (row->kind != YNODE_MAP || row->nr != first->nr || !row->nr)
			return false;
		for (uint32_t k = 0; k < row->nr; k++) {
			if (!is_flat(row->items[2 * k + 1]) ||
			    !str_eq(row->items[2 * k]->scalar, first->items[2 * k]->scalar))
				return false;
		}
	}
	return true;
}

static void print_tree(struct buf *out, const struct ynode *map, uint32_t indent, bool wide);

static void print_value(struct buf *out, const struct ynode *value, uint32_t indent, bool wide)
{
	if (is_flat(value)) {
		buf_add(out, " ", 1);
		print_scalar(out, value, indent);
		return;
	}
	buf_printf(out, "%s\n", value->nr ? "" : " none");
	if (is_rows(value)) {
		print_rows(out, value, indent + 2);
	} else if (value->kind == YNODE_MAP) {
		print_tree(out, value, indent + 2, wide);
	} else {
		for (uint32_t k = 0; k < value->nr; k++) {
			buf_printf(out, "%*s-", indent + 2, "");
			print_value(out, value->items[k], indent + 2, wide);
		}
	}
}

/* An object as "key: value" lines, what is in it indented. */
static void print_tree(struct buf *out, const struct ynode *map, uint32_t indent, bool wide)
{
	/* The programs of a workload are a list, and few. */
	static const struct {
		const char *key;
		enum ynode_kind kind;
	} wide_only[] = { { "counters", YNODE_MAP },
			  { "limits", YNODE_SEQ },
			  { "programs", YNODE_MAP },
			  { "semantics", YNODE_SEQ } };

	for (uint32_t i = 0; i < map->nr; i++) {
		const struct ynode *value = map->items[2 * i + 1];
		struct str key = map->items[2 * i]->scalar;
		bool skip = false;

		for (size_t k = 0; k < sizeof(wide_only) / sizeof(*wide_only); k++)
			skip |= !wide && str_is(key, wide_only[k].key) && value->kind == wide_only[k].kind;
		if (skip)
			continue;
		buf_printf(out, "%*s%.*s:", indent, "", STR_ARG(key));
		print_value(out, value, indent, wide);
	}
}

/* The text is made from the JSON, so that neither can say what the other does not. */
static void status_text(struct verbs *v, bool wide, struct buf *out)
{
	struct buf object = { 0 };
	struct arena arena = { 0 };
	struct diags diags = { 0 };
	struct ynode *root = NULL;
	struct str slice;
	uint32_t document;
	struct yaml *y;

	status_json(v, &object);
	y = yaml_open(STR("status"), buf_text(&object));
	if (yaml_next(y, &arena, &diags, &root, &document, &slice) > 0 && root)
		print_tree(out, root, 0, wide);
	yaml_close(y);
	diags_release(&diags);
	arena_release(&arena);
	buf_release(&object);
}

int verb_status(struct verbs *v, const struct request *q, struct reply *r)
{
	if (q->output == OUTPUT_JSON)
		status_json(v, &r->out);
	else
		status_text(v, q->output == OUTPUT_WIDE, &r->out);
	return EXIT_DONE;
}
