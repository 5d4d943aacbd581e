/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Istio WorkloadGroup: how the health of its workloads is checked. Workloads are not registered here, so its template has no meaning;
 * the WorkloadEntries that were registered by it carry the group's name as an annotation.
 */
#include <stdio.h>

#include "config/kind_local.h"

struct raw_header {
	struct str name, value;
};

struct raw_http {
	struct str path, host, scheme;
	int64_t port;
	struct list headers;
};

struct raw_tcp {
	struct str host;
	int64_t port;
};

struct raw_probe {
	struct raw_http *http;
	struct raw_tcp *tcp;
	int64_t delay_s, timeout_s, period_s, success, failure;
};

struct raw_group_meta {
	struct kvs labels, annotations;
};

struct raw_group_spec {
	struct raw_group_meta meta;
	struct raw_workload template;
	struct raw_probe *probe;
};

struct raw_group {
	struct raw_meta meta;
	struct raw_group_spec spec;
};

static const struct field header_fields[] = {
	F_STR("name", struct raw_header, name),
	F_STR("value", struct raw_header, value),
	F_END,
};
static const struct schema header_schema = { .name = "HTTPHeader",
					     .size = sizeof(struct raw_header),
					     .fields = header_fields };

static const struct field http_fields[] = {
	F_STR("path", struct raw_http, path),
	F_INT("port", struct raw_http, port, 1, 65535, .flags = FIELD_REQUIRED),
	F_STR("host", struct raw_http, host),
	F_STR("scheme", struct raw_http, scheme),
	F_LIST("httpHeaders", struct raw_http, headers, header_schema, .max = 64),
	F_END,
};
static const struct schema http_schema = { .name = "HTTPHealthCheckConfig",
					   .size = sizeof(struct raw_http),
					   .fields = http_fields };

static const struct field tcp_fields[] = {
	F_STR("host", struct raw_tcp, host),
	F_INT("port", struct raw_tcp, port, 1, 65535, .flags = FIELD_REQUIRED),
	F_END,
};
static const struct schema tcp_schema = { .name = "TCPHealthCheckConfig",
					  .size = sizeof(struct raw_tcp),
					  .fields = tcp_fields };

static const struct field probe_fields[] = {
	F_OBJECT_PTR("httpGet", struct raw_probe, http, http_schema),
	F_OBJECT_PTR("tcpSocket", struct raw_probe, tcp, tcp_schema),
	F_REFUSED("exec", "a command runs where the workload is, not here"),
	F_REFUSED("grpc", "checks by gRPC"),
	F_INT("initialDelaySeconds", struct raw_probe, delay_s, 0, I32_MAX_INT),
	F_INT("timeoutSeconds", struct raw_probe, timeout_s, 0, I32_MAX_INT),
	F_INT("periodSeconds", struct raw_probe, period_s, 0, I32_MAX_INT),
	F_INT("successThreshold", struct raw_probe, success, 0, I32_MAX_INT),
	F_INT("failureThreshold", struct raw_probe, failure, 0, I32_MAX_INT),
	F_END,
};
static const char *const methods[] = { "httpGet", "tcpSocket", "exec", "grpc", NULL };
static const struct oneof probe_oneofs[] = { { .names = methods, .required = true }, { .names = NULL } };
static const struct schema probe_schema = {
	.name = "ReadinessProbe",
	.size = sizeof(struct raw_probe),
	.fields = probe_fields,
	.oneofs = probe_oneofs,
};

static const struct field group_meta_fields[] = {
	F_KVS("labels", struct raw_group_meta, labels),
	F_KVS("annotations", struct raw_group_meta, annotations),
	F_END,
};
static const struct schema group_meta_schema = { .name = "ObjectMeta",
						 .size = sizeof(struct raw_group_meta),
						 .fields = group_meta_fields };

static const struct field spec_fields[] = {
	F_OBJECT("metadata", struct raw_group_spec, meta, group_meta_schema),
	F_OBJECT("template", struct raw_group_spec, template, workload_schema, .flags = FIELD_REQUIRED),
	F_OBJECT_PTR("probe", struct raw_group_spec, probe, probe_schema),
	F_END,
};
static const struct schema spec_schema = { .name = "WorkloadGroup",
					   .size = sizeof(struct raw_group_spec),
					   .fields = spec_fields };

static const struct field group_fields[] = {
	F_HEADER,
	F_OBJECT("metadata", struct raw_group, meta, meta_schema, .flags = FIELD_REQUIRED),
	F_OBJECT("spec", struct raw_group, spec, spec_schema, .flags = FIELD_REQUIRED),
	F_INERT("status", FIELD_OBJECT),
	F_END,
};
static const struct schema group_schema = { .name = "WorkloadGroup",
					    .size = sizeof(struct raw_group),
					    .fields = group_fields };

/* Nothing that would end a line of the request. */
static bool is_printable(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
			return false;
	return true;
}

static bool is_token(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (!strchr("-_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", s.p[i]) || !s.p[i])
			return false;
	return s.len;
}

static void fill_host(const struct check *c, struct str host, const char *method, struct m_probe *p)
{
	if (host.len && !addr_parse(host, &p->host))
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" is not an IP address, and names are not resolved", STR_ARG(host)),
			   "without it, the workload's own address is asked", "spec.probe.%s.host", method);
}

static void fill_headers(const struct check *c, const struct list *raw, struct m_probe *p)
{
	struct buf text = { 0 };

	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_header *h = LIST_AT(*raw, struct raw_header, i);

		if (!h->name.len)
			check_fail(c, STR("must have a name"), NULL, "spec.probe.httpGet.httpHeaders[%u]", i);
		else if (!is_token(h->name))
			check_fail(c, STR("must be letters, digits, \"-\" and \"_\""), NULL,
				   "spec.probe.httpGet.httpHeaders[%u].name", i);
		if (!is_printable(h->value))
			check_fail(c, STR("must not have control characters"), NULL,
				   "spec.probe.httpGet.httpHeaders[%u].value", i);
		buf_printf(&text, "%.*s: %.*s\r\n", STR_ARG(h->name), STR_ARG(h->value));
	}
	p->headers = arena_str(c->d->arena, (struct str){ text.data, (uint32_t)text.len });
	buf_release(&text);
}

static void fill_http(const struct check *c, const struct raw_http *raw, struct m_probe *p)
{
	p->http = true;
	p->port = (uint16_t)raw->port;
	p->path = raw->path.len && raw->path.p[0] == '/' ? raw->path
							 : arena_printf(c->d->arena, "/%.*s", STR_ARG(raw->path));
	fill_host(c, raw->host, "httpGet", p);
	fill_headers(c, &raw->headers, p);
	if (!is_printable(raw->path) || str_find(raw->path, ' ') >= 0 || raw->path.len > 2048)
		check_fail(c, STR("must have no blanks and control characters, and at most 2048 characters"), NULL,
			   "spec.probe.httpGet.path");
	if (str_is(raw->scheme, "HTTPS"))
		check_fail(c, STR("TLS is not enforced yet"), NULL, "spec.probe.httpGet.scheme");
	else if (raw->scheme.len && !str_is(raw->scheme, "HTTP"))
		check_fail(c, STR("must be HTTP or HTTPS"), NULL, "spec.probe.httpGet.scheme");
}

/* 0 counts as not given. */
static uint32_t given_or(int64_t given, uint32_t other)
{
	return given > 0 ? (uint32_t)given : other;
}

static uint32_t seconds(const struct check *c, int64_t given, uint32_t other, const char *field)
{
	uint64_t ms = given_or(given, other) * 1000ull;

	if (ms <= UINT32_MAX)
		return (uint32_t)ms;
	check_fail(c, STR("more than 49 days are not enforced"), NULL, "spec.probe.%s", field);
	return 1000;
}

static void fill_probe(const struct check *c, const struct raw_probe *raw, struct m_probe *p)
{
	p->delay_ms = seconds(c, raw->delay_s, 0, "initialDelaySeconds");
	p->timeout_ms = seconds(c, raw->timeout_s, 1, "timeoutSeconds");
	p->period_ms = seconds(c, raw->period_s, 10, "periodSeconds");
	p->success_min = given_or(raw->success, 1);
	p->failure_max = given_or(raw->failure, 3);
	if (raw->http) {
		fill_http(c, raw->http, p);
	} else if (raw->tcp) {
		p->port = (uint16_t)raw->tcp->port;
		fill_host(c, raw->tcp->host, "tcpSocket", p);
	}
}

bool decode_workload_group(struct decode *d, const struct ynode *root, struct doc *doc)
{
	struct raw_group raw = { 0 };
	struct m_workload_group *g = arena_new(d->arena, struct m_workload_group);
	uint32_t before = d->errors;
	struct check c;

	schema_decode(d, &group_schema, root, &raw);
	meta_fill(d, root, &raw.meta, false, NAME_ISTIO, doc, &c);
	doc->group = g;
	check_labels(&c, &raw.spec.meta.labels, "spec.metadata.labels");
	if (raw.spec.meta.labels.nr > 256)
		check_fail(&c, STR("must have at most 256 entries"), NULL, "spec.metadata.labels");
	if (raw.spec.meta.annotations.nr > 256)
		check_fail(&c, STR("must have at most 256 entries"), NULL, "spec.metadata.annotations");
	workload_check(&c, "spec.template", &raw.spec.template);
	if (raw.spec.probe) {
		g->probe = arena_new(d->arena, struct m_probe);
		fill_probe(&c, raw.spec.probe, g->probe);
	}
	return d->errors == before;
}
