/* SPDX-License-Identifier: BSD-2-Clause */
/* get: the documents that meshd has, as tables, as their own text, or as JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/table.h"
#include "config/kinds.h"
#include "config/yaml.h"
#include "mesh_abi.h"
#include "plane/verbs_local.h"

/* ---- columns ---- */

/* Appends the cells of one kind for a document. */
typedef void (*cells_fn)(struct table *t, const struct doc *d);

static void add_strs(struct table *t, const struct strs *s)
{
	struct buf b = { 0 };

	for (uint32_t i = 0; i < s->nr; i++)
		buf_printf(&b, "%s%.*s", i ? "," : "", STR_ARG(s->v[i]));
	table_cell(t, buf_text(&b));
	buf_release(&b);
}

static void add_addrs(struct table *t, const struct addr *a, uint32_t nr)
{
	char text[ADDR_TEXT_MAX];
	struct buf b = { 0 };

	for (uint32_t i = 0; i < nr; i++)
		buf_printf(&b, "%s%s", i ? "," : "", addr_text(&a[i], text));
	table_cell(t, buf_text(&b));
	buf_release(&b);
}

static const char *proto_text(uint8_t proto)
{
	return proto == MESH_PROTO_TCP ? "TCP" : proto == MESH_PROTO_UDP ? "UDP" : "SCTP";
}

static void service_cells(struct table *t, const struct doc *d)
{
	static const char *const types[] = {
		[SERVICE_TYPE_NONE] = "ClusterIP",	  [SERVICE_CLUSTER_IP] = "ClusterIP",
		[SERVICE_NODE_PORT] = "NodePort",	  [SERVICE_LOAD_BALANCER] = "LoadBalancer",
		[SERVICE_EXTERNAL_NAME] = "ExternalName",
	};
	const struct m_service *s = d->service;
	struct buf b = { 0 };

	table_cell(t, str_of(types[s->type]));
	if (s->headless)
		table_cell(t, STR("None"));
	else
		add_addrs(t, s->vips, s->vip_nr);
	table_cell(t, s->external_name);
	for (uint32_t i = 0; i < s->port_nr; i++)
		buf_printf(&b, "%s%" PRId64 "/%s", i ? "," : "", s->ports[i].port, proto_text(s->ports[i].proto));
	table_cell(t, buf_text(&b));
	buf_release(&b);
}

static void slice_cells(struct table *t, const struct doc *d)
{
	const uint32_t shown_max = 3;
	uint32_t nr = 0, ready = 0;
	struct buf ports = { 0 }, addrs = { 0 };
	char text[ADDR_TEXT_MAX];

	for (uint32_t i = 0; i < d->slice_nr; i++) {
		const struct m_slice *s = &d->slices[i];

		for (uint32_t k = 0; k < s->port_nr; k++)
			buf_printf(&ports, "%s%" PRId64, ports.len ? "," : "", s->ports[k].port);
		for (uint32_t k = 0; k < s->endpoint_nr; k++) {
			ready += s->endpoints[k].ready;
			for (uint32_t m = 0; m < s->endpoints[k].addr_nr; m++) {
				if (nr++ < shown_max)
					buf_printf(&addrs, "%s%s", addrs.len ? "," : "",
						   addr_text(&s->endpoints[k].addrs[m], text));
			}
		}
	}
	if (nr > shown_max)
		buf_printf(&addrs, " + %u more...", nr - shown_max);
	table_cell(t, d->slice_nr ? d->slices[0].service : STR(""));
	table_cell(t, buf_text(&ports));
	table_cell(t, buf_text(&addrs));
	table_cellf(t, "%u", ready);
	buf_release(&ports);
	buf_release(&addrs);
}

static void pod_cells(struct table *t, const struct doc *d)
{
	const struct m_pod *p = d->pod;

	table_cell(t, p->finished ? STR("Completed") : p->ready ? STR("Ready") : STR("NotReady"));
	add_addrs(t, p->ips, p->ip_nr);
	table_cell(t, p->node);
	table_cell(t, p->service_account);
}

static void node_cells(struct table *t, const struct doc *d)
{
	add_addrs(t, d->node->ips, d->node->ip_nr);
}

static void vs_cells(struct table *t, const struct doc *d)
{
	add_strs(t, &d->vs->gateways);
	add_strs(t, &d->vs->hosts);
}

static void dr_cells(struct table *t, const struct doc *d)
{
	struct buf b = { 0 };

	table_cell(t, d->dr->host);
	for (uint32_t i = 0; i < d->dr->subset_nr; i++)
		buf_printf(&b, "%s%.*s", i ? "," : "", STR_ARG(d->dr->subsets[i].name));
	table_cell(t, buf_text(&b));
	buf_release(&b);
}

static void se_cells(struct table *t, const struct doc *d)
{
	add_strs(t, &d->se->hosts);
	table_cell(t, d->se->internal ? STR("MESH_INTERNAL") : STR("MESH_EXTERNAL"));
	table_cell(t, d->se->resolution == RESOLUTION_STATIC ? STR("STATIC") : STR("NONE"));
}

static void we_cells(struct table *t, const struct doc *d)
{
	table_cell(t, d->we->address_text);
}

static void group_cells(struct table *t, const struct doc *d)
{
	const struct m_probe *p = d->group->probe;

	table_cell(t, !p ? STR("<none>") : p->http ? STR("httpGet") : STR("tcpSocket"));
}

static void gateway_cells(struct table *t, const struct doc *d)
{
	struct buf b = { 0 };

	for (uint32_t i = 0; i < d->gateway->server_nr; i++)
		buf_printf(&b, "%s%" PRId64, i ? "," : "", d->gateway->servers[i].port);
	table_cell(t, buf_text(&b));
	buf_release(&b);
}

static void gwapi_cells(struct table *t, const struct doc *d)
{
	struct buf b = { 0 };

	table_cell(t, d->gw->class);
	add_addrs(t, d->gw->addrs, d->gw->addr_nr);
	for (uint32_t i = 0; i < d->gw->listener_nr; i++)
		buf_printf(&b, "%s%u", i ? "," : "", d->gw->listeners[i].port);
	table_cell(t, buf_text(&b));
	buf_release(&b);
}

static void route_cells(struct table *t, const struct doc *d)
{
	struct buf b = { 0 };

	for (uint32_t i = 0; i < d->route->parent_nr; i++)
		buf_printf(&b, "%s%.*s", i ? "," : "", STR_ARG(d->route->parents[i].name));
	table_cell(t, buf_text(&b));
	table_cellf(t, "%u", d->route->rule_nr);
	buf_release(&b);
}

#define COLUMNS_MAX 5

static const struct {
	cells_fn cells;
	const char *names[COLUMNS_MAX + 1];
} columns[KIND_NR] = {
	[KIND_SERVICE] = { service_cells, { "TYPE", "CLUSTER-IP", "EXTERNAL-NAME", "PORT(S)" } },
	[KIND_SLICE] = { slice_cells, { "SERVICE", "PORTS", "ENDPOINTS", "READY" } },
	[KIND_POD] = { pod_cells, { "STATUS", "IP", "NODE", "SERVICE-ACCOUNT" } },
	[KIND_NODE] = { node_cells, { "IP" } },
	[KIND_VIRTUAL_SERVICE] = { vs_cells, { "GATEWAYS", "HOSTS" } },
	[KIND_DESTINATION_RULE] = { dr_cells, { "HOST", "SUBSETS" } },
	[KIND_SERVICE_ENTRY] = { se_cells, { "HOSTS", "LOCATION", "RESOLUTION" } },
	[KIND_WORKLOAD_ENTRY] = { we_cells, { "ADDRESS" } },
	[KIND_WORKLOAD_GROUP] = { group_cells, { "PROBE" } },
	[KIND_ISTIO_GATEWAY] = { gateway_cells, { "PORTS" } },
	[KIND_GATEWAY] = { gwapi_cells, { "CLASS", "ADDRESS", "PORTS" } },
	[KIND_ROUTE] = { route_cells, { "PARENTS", "RULES" } },
};

/* ---- which documents ---- */

struct found {
	const struct doc **v; /* borrowed from the model */
	uint32_t nr, cap;
};

static bool is_wanted(const struct request *q, const struct kind_entry *e, const struct doc *d)
{
	if (!str_is(d->kind_name, e->kind))
		return false;
	if (!e->cluster_scoped && q->ns.len && !str_eq(d->meta.ns, q->ns))
		return false;
	for (uint32_t i = 0; i < q->name_nr; i++) {
		if (str_eq(d->meta.name, q->names[i]))
			return true;
	}
	return !q->name_nr;
}

static void collect(const struct verbs *v, const struct request *q, const struct kind_entry *e, struct found *f)
{
	uint32_t nr;
	struct doc *const *docs = model_list(rules_model(v->rules), e->id, &nr);

	for (uint32_t i = 0; i < nr; i++) {
		if (!is_wanted(q, e, docs[i]))
			continue;
		if (f->nr == f->cap) {
			f->cap = f->cap ? f->cap * 2 : 64;
			f->v = xrealloc(f->v, f->cap * sizeof(*f->v));
		}
		f->v[f->nr++] = docs[i];
	}
}

/* Names that were asked for and are not there. */
static int report_missing(const struct request *q, const struct kind_entry *e, const struct found *f, struct reply *r)
{
	int code = EXIT_DONE;

	for (uint32_t i = 0; i < q->name_nr; i++) {
		bool there = false;

		for (uint32_t k = 0; k < f->nr && !there; k++)
			there = str_eq(f->v[k]->meta.name, q->names[i]);
		if (there)
			continue;
		if (q->ns.len && !e->cluster_scoped)
			code = reply_error(r, EXIT_REFUSED, "%s \"%.*s\" not found in namespace %.*s", e->kind,
					   STR_ARG(q->names[i]), STR_ARG(q->ns));
		else
			code = reply_error(r, EXIT_REFUSED, "%s \"%.*s\" not found", e->kind, STR_ARG(q->names[i]));
	}
	return code;
}

/* ---- tables ---- */

static void table_line(struct table *t, const struct request *q, const struct doc *d, bool with_ns, bool with_kind,
		       int64_t now)
{
	char age[16] = "";
	struct buf b = { 0 };

	if (with_ns)
		table_cell(t, d->meta.ns);
	if (with_kind) {
		add_lower(&b, d->kind_name);
		buf_add(&b, "/", 1);
	}
	buf_str(&b, d->meta.name);
	table_cell(t, buf_text(&b));
	if (columns[d->kind].cells)
		columns[d->kind].cells(t, d);
	if (d->meta.created_s)
		table_age(now - d->meta.created_s, age);
	table_cell(t, str_of(age));
	buf_clear(&b);
	if (d->layer == LAYER_APPLIED && q->output != OUTPUT_WIDE)
		buf_printf(&b, "applied");
	else
		buf_printf(&b, "%.*s:%u", STR_ARG(d->at.file), d->at.line);
	table_cell(t, buf_text(&b));
	if (q->output == OUTPUT_WIDE)
		table_cell(t, d->layer == LAYER_APPLIED ? STR("applied") : STR("rules"));
	buf_release(&b);
}

static void print_table(const struct request *q, const struct kind_entry *e, const struct found *f, uint32_t from,
			bool with_kind, struct buf *out)
{
	bool with_ns = !q->ns.len && !e->cluster_scoped;
	const char *heads[TABLE_COLUMNS_MAX];
	int64_t now = time(NULL);
	struct table t = { 0 };
	uint32_t nr = 0;

	if (with_ns)
		heads[nr++] = "NAMESPACE";
	heads[nr++] = "NAME";
	for (const char *const *name = columns[e->id].names; *name; name++)
		heads[nr++] = *name;
	heads[nr++] = "AGE";
	heads[nr++] = "SOURCE";
	if (q->output == OUTPUT_WIDE)
		heads[nr++] = "LAYER";
	table_head(&t, heads, nr);
	for (uint32_t i = from; i < f->nr; i++)
		table_line(&t, q, f->v[i], with_ns, with_kind, now);
	if (out->len)
		buf_add(out, "\n", 1);
	table_print(&t, out);
	table_release(&t);
}

/* ---- JSON ---- */

/* Is it a number as RFC 8259 writes one? Then its digits are kept as they are, whatever their size. */
static bool is_json_number(struct str s)
{
	uint32_t i = s.len && s.p[0] == '-', digits = i;

	while (i < s.len && s.p[i] >= '0' && s.p[i] <= '9')
		i++;
	if (i == digits || (s.p[digits] == '0' && i > digits + 1))
		return false;
	if (i < s.len && s.p[i] == '.') {
		digits = ++i;
		while (i < s.len && s.p[i] >= '0' && s.p[i] <= '9')
			i++;
		if (i == digits)
			return false;
	}
	if (i < s.len && (s.p[i] == 'e' || s.p[i] == 'E')) {
		i++;
		i += i < s.len && (s.p[i] == '+' || s.p[i] == '-');
		digits = i;
		while (i < s.len && s.p[i] >= '0' && s.p[i] <= '9')
			i++;
		if (i == digits)
			return false;
	}
	return i == s.len;
}

static void json_number(struct json *j, const struct ynode *n)
{
	char text[32];
	int64_t whole;
	double d;

	if (is_json_number(n->scalar)) {
		json_raw(j, n->scalar);
	} else if (ynode_int(n, &whole)) {
		json_int(j, whole);
	} else if (ynode_double(n, &d) && d - d == 0) {
		snprintf(text, sizeof(text), "%.17g", d);
		json_raw(j, str_of(text));
	} else {
		json_null(j);
	}
}

static void json_key_text(struct json *j, struct str key)
{
	struct buf b = { 0 };

	buf_str(&b, key);
	json_key(j, b.data ? b.data : "");
	buf_release(&b);
}

/* The tree as sigs.k8s.io/yaml turns it into JSON. Depth is bounded by the reader. */
static void json_node(struct json *j, const struct ynode *n)
{
	bool yes = false;

	switch (ynode_type(n)) {
	case YTYPE_NULL:
		json_null(j);
		break;
	case YTYPE_BOOL:
		ynode_bool(n, &yes);
		json_bool(j, yes);
		break;
	case YTYPE_INT:
	case YTYPE_FLOAT:
		json_number(j, n);
		break;
	case YTYPE_STR:
		json_str(j, n->scalar);
		break;
	case YTYPE_SEQ:
		json_array(j);
		for (uint32_t i = 0; i < n->nr; i++)
			json_node(j, n->items[i]);
		json_array_end(j);
		break;
	case YTYPE_MAP:
		json_object(j);
		for (uint32_t i = 0; i < n->nr; i++) {
			json_key_text(j, n->items[2 * i]->scalar);
			json_node(j, n->items[2 * i + 1]);
		}
		json_object_end(j);
		break;
	}
}

static void json_doc(struct json *j, const struct doc *d)
{
	struct yaml *y = yaml_open(d->at.file, d->text);
	struct arena arena = { 0 };
	struct diags diags = { 0 };
	struct ynode *root = NULL;
	struct str slice;
	uint32_t document;

	/* It was read once, so it reads again. */
	if (yaml_next(y, &arena, &diags, &root, &document, &slice) > 0 && root)
		json_node(j, root);
	else
		json_null(j);
	yaml_close(y);
	diags_release(&diags);
	arena_release(&arena);
}

static void print_json(const struct found *f, bool single, struct buf *out)
{
	struct json j;

	json_init(&j, out);
	if (single && f->nr == 1) {
		json_doc(&j, f->v[0]);
	} else {
		json_object(&j);
		json_kstr(&j, "apiVersion", STR("v1"));
		json_kstr(&j, "kind", STR("List"));
		json_key(&j, "items");
		json_array(&j);
		for (uint32_t i = 0; i < f->nr; i++)
			json_doc(&j, f->v[i]);
		json_array_end(&j);
		json_object_end(&j);
	}
	buf_add(out, "\n", 1);
}

/* ---- the rest ---- */

static void print_yaml(const struct found *f, struct buf *out)
{
	for (uint32_t i = 0; i < f->nr; i++) {
		if (i)
			buf_printf(out, "---\n");
		buf_str(out, f->v[i]->text);
		if (out->len && out->data[out->len - 1] != '\n')
			buf_add(out, "\n", 1);
	}
}

static void print_names(const struct found *f, struct buf *out)
{
	for (uint32_t i = 0; i < f->nr; i++) {
		add_lower(out, f->v[i]->kind_name);
		buf_printf(out, "/%.*s\n", STR_ARG(f->v[i]->meta.name));
	}
}

static void get_kind(const struct verbs *v, const struct request *q, const struct kind_entry *e, bool all,
		     struct found *f, struct reply *r)
{
	uint32_t from = f->nr;

	collect(v, q, e, f);
	if (q->output <= OUTPUT_WIDE && f->nr > from)
		print_table(q, e, f, from, all, &r->out);
}

int verb_get(struct verbs *v, const struct request *q, struct reply *r)
{
	bool all = str_is(q->kind, "all");
	const struct kind_entry *e = NULL;
	struct found f = { 0 };
	int code = EXIT_DONE;

	if (!all) {
		e = resource_find(q->kind, r);
		if (!e)
			return EXIT_USAGE;
		get_kind(v, q, e, false, &f, r);
		code = report_missing(q, e, &f, r);
	} else if (q->name_nr) {
		return reply_error(r, EXIT_USAGE, "get all takes no names");
	}
	for (unsigned int i = 0; all && i < kind_entry_nr; i++) {
		if (kind_entries[i].class == KIND_DECODED)
			get_kind(v, q, &kind_entries[i], true, &f, r);
	}
	if (q->output == OUTPUT_JSON && (f.nr || !q->name_nr))
		print_json(&f, q->name_nr == 1, &r->out);
	else if (q->output == OUTPUT_YAML)
		print_yaml(&f, &r->out);
	else if (q->output == OUTPUT_NAME)
		print_names(&f, &r->out);
	else if (!f.nr && !q->name_nr)
		buf_printf(&r->err, "No documents found%s%.*s.\n", q->ns.len ? " in namespace " : "", STR_ARG(q->ns));
	free(f.v);
	return code;
}
