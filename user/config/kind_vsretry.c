/* SPDX-License-Identifier: BSD-2-Clause */
/* Parts of the http: rules of a VirtualService: retries, faults and CORS. Checks as Istio's validation does. */
#include <stdio.h>

#include "config/kind_http.h"
#include "config/kind_traffic.h"

/* ---- retries ---- */
static const struct field retries_fields[] = {
	F_INT("attempts", struct raw_retries, attempts, 0, I32_MAX_INT,
	      .place_offset = offsetof(struct raw_retries, attempts_at)),
	F("perTryTimeout", FIELD_DURATION, struct raw_retries, try_timeout,
	  .place_offset = offsetof(struct raw_retries, try_at)),
	F_STR("retryOn", struct raw_retries, on),
	F_BOOL("retryRemoteLocalities", struct raw_retries, remote,
	       .place_offset = offsetof(struct raw_retries, remote_at)),
	F_BOOL("retryIgnorePreviousHosts", struct raw_retries, ignore,
	       .place_offset = offsetof(struct raw_retries, ignore_at)),
	F("backoff", FIELD_DURATION, struct raw_retries, backoff,
	  .place_offset = offsetof(struct raw_retries, backoff_at)),
	F_END,
};
const struct schema retries_schema = { .name = "HTTPRetry",
				       .size = sizeof(struct raw_retries),
				       .fields = retries_fields };

/* What Istio takes, and the bits of it. gRPC's codes are answers of HTTP/2, which no request here gets. */
static const struct {
	const char *name;
	uint32_t on;
	bool refused;
} conditions[] = {
	{ "5xx", MESH_RETRY_5XX, false },
	{ "gateway-error", MESH_RETRY_GATEWAY_ERROR, false },
	{ "reset", MESH_RETRY_RESET, false },
	{ "reset-before-request", MESH_RETRY_RESET_BEFORE_REQUEST, false },
	{ "connect-failure", MESH_RETRY_CONNECT_FAILURE, false },
	{ "retriable-4xx", MESH_RETRY_4XX, false },
	{ "refused-stream", MESH_RETRY_REFUSED_STREAM, false },
	{ "retriable-status-codes", MESH_RETRY_STATUS, false },
	{ "cancelled", 0, false },
	{ "deadline-exceeded", 0, false },
	{ "internal", 0, false },
	{ "resource-exhausted", 0, false },
	{ "unavailable", 0, false },
	{ "envoy-ratelimited", 0, true },
	{ "retriable-headers", 0, true },
	{ "http3-post-connect-failure", 0, true },
};

static void fill_condition(const struct check *c, struct str word, const char *base, struct m_http_retry *r)
{
	uint64_t status;

	if (str_to_u64(word, 599, &status) && status >= 100) {
		r->statuses[r->status_nr++] = (uint16_t)status;
		r->on |= MESH_RETRY_STATUS;
		return;
	}
	for (size_t i = 0; i < sizeof(conditions) / sizeof(*conditions); i++) {
		if (!str_is(word, conditions[i].name))
			continue;
		r->on |= conditions[i].on;
		if (conditions[i].refused)
			check_fail(c, CHECK_TEXT(c, "not enforced yet: %s", conditions[i].name), NULL, "%s.retryOn",
				   base);
		return;
	}
	check_fail(c, CHECK_TEXT(c, "\"%.*s\" is no condition of retries", STR_ARG(word)), NULL, "%s.retryOn", base);
}

static void fill_conditions(const struct check *c, struct str text, const char *base, struct m_http_retry *r)
{
	r->on = 0;
	r->statuses = arena_array(c->d->arena, text.len + 1, sizeof(*r->statuses));
	for (uint32_t at = 0, end; at <= text.len; at = end + 1) {
		struct str word;

		for (end = at; end < text.len && text.p[end] != ','; end++)
			;
		word = str_sub(text, at, end - at);
		while (word.len && word.p[0] == ' ')
			word = str_sub(word, 1, word.len);
		while (word.len && word.p[word.len - 1] == ' ')
			word.len--;
		if (word.len)
			fill_condition(c, word, base, r);
	}
}

const struct m_http_retry *http_retries_fill(const struct check *c, const struct raw_retries *raw, const char *base)
{
	struct m_http_retry *r;

	if (!raw)
		return NULL;
	r = arena_new(c->d->arena, struct m_http_retry);
	*r = http_retry_default;
	r->attempts = (uint32_t)raw->attempts;
	r->try_timeout_ms = traffic_ms(c, raw->try_timeout, raw->try_at, base, "perTryTimeout");
	if (raw->backoff_at.line)
		r->backoff_ms = traffic_ms(c, raw->backoff, raw->backoff_at, base, "backoff");
	if (raw->on.len)
		fill_conditions(c, raw->on, base, r);
	if (raw->ignore_at.line)
		r->other_endpoints = raw->ignore;
	if (!raw->attempts && (raw->try_at.line || raw->on.len || raw->remote_at.line))
		check_fail(c, STR("retries are off with 0 attempts: nothing else may be given"), NULL, "%s", base);
	if (raw->remote)
		check_fail(c, STR("not enforced yet: retries in other localities than the first"), NULL,
			   "%s.retryRemoteLocalities", base);
	return r;
}

/* ---- fault ---- */
static const struct field delay_fields[] = {
	F("fixedDelay", FIELD_DURATION, struct raw_delay, fixed, .place_offset = offsetof(struct raw_delay, fixed_at)),
	F_REFUSED("exponentialDelay", "neither is it by Istio"),
	F_INT("percent", struct raw_delay, percent, 0, 100),
	F_OBJECT_PTR("percentage", struct raw_delay, percentage, percent_schema),
	F_END,
};
static const char *const delay_kinds[] = { "fixedDelay", "exponentialDelay", NULL };
static const struct oneof delay_oneofs[] = { { .names = delay_kinds }, { .names = NULL } };
static const struct schema delay_schema = {
	.name = "Delay", .size = sizeof(struct raw_delay), .fields = delay_fields, .oneofs = delay_oneofs
};
static const struct field abort_fields[] = {
	F_INT("httpStatus", struct raw_abort, status, -2147483648ll, I32_MAX_INT,
	      .place_offset = offsetof(struct raw_abort, status_at)),
	F_REFUSED("grpcStatus", "answers of gRPC are HTTP/2"),
	F_REFUSED("http2Error", "neither is it by Istio"),
	F_OBJECT_PTR("percentage", struct raw_abort, percentage, percent_schema),
	F_END,
};
static const char *const abort_kinds[] = { "httpStatus", "grpcStatus", "http2Error", NULL };
static const struct oneof abort_oneofs[] = { { .names = abort_kinds }, { .names = NULL } };
static const struct schema abort_schema = {
	.name = "Abort", .size = sizeof(struct raw_abort), .fields = abort_fields, .oneofs = abort_oneofs
};
static const struct field fault_fields[] = {
	F_OBJECT_PTR("delay", struct raw_fault, delay, delay_schema),
	F_OBJECT_PTR("abort", struct raw_fault, abort, abort_schema),
	F_END,
};
const struct schema fault_schema = { .name = "HTTPFaultInjection",
				     .size = sizeof(struct raw_fault),
				     .fields = fault_fields };

/* Without a percentage no request is meant, as Istio says. */
static void warn_nobody(const struct check *c, const char *base)
{
	check_warn(c, STR("without a percentage this holds for no request"), NULL, "%s", base);
}

void http_fault_fill(const struct check *c, const struct raw_fault *raw, const char *base, struct m_http_fault *f)
{
	const struct raw_delay *delay = raw->delay;
	const struct raw_abort *stop = raw->abort;
	char path[128];

	if (!delay && !stop)
		check_fail(c, STR("delay or abort is required"), NULL, "%s", base);
	if (delay) {
		snprintf(path, sizeof(path), "%s.delay", base);
		if (!delay->fixed_at.line && !check_has(c, "%s.exponentialDelay", path))
			check_fail(c, STR("fixedDelay is required"), NULL, "%s", path);
		f->delay_ms = traffic_ms(c, delay->fixed, delay->fixed_at, path, "fixedDelay");
		snprintf(path, sizeof(path), "%s.delay.percentage", base);
		f->delay_share =
			http_share_fill(c, delay->percentage, (uint32_t)delay->percent * (MESH_HTTP_WHOLE / 100), path);
		if (!delay->percentage && !delay->percent)
			warn_nobody(c, path);
	}
	if (stop) {
		snprintf(path, sizeof(path), "%s.abort", base);
		if (stop->status_at.line && (stop->status < 200 || stop->status > 599))
			check_fail(c, STR("must be between 200 and 599"), NULL, "%s.httpStatus", path);
		else if (!stop->status_at.line && !check_has(c, "%s.grpcStatus", path) &&
			 !check_has(c, "%s.http2Error", path))
			check_fail(c, STR("httpStatus is required"), NULL, "%s", path);
		f->abort_status = (uint16_t)stop->status;
		snprintf(path, sizeof(path), "%s.abort.percentage", base);
		f->abort_share = http_share_fill(c, stop->percentage, 0, path);
		if (!stop->percentage)
			warn_nobody(c, path);
	}
}

/* ---- corsPolicy ---- */
static const char *const preflight_names[] = { "UNSPECIFIED", "FORWARD", "IGNORE", NULL };
static const struct field cors_fields[] = {
	F_STRS("allowOrigin", struct raw_cors, old_origins),
	F_LIST("allowOrigins", struct raw_cors, origins, text_schema, .max = ITEMS_MAX),
	F_STRS("allowMethods", struct raw_cors, methods),
	F_STRS("allowHeaders", struct raw_cors, headers),
	F_STRS("exposeHeaders", struct raw_cors, exposed),
	F("maxAge", FIELD_DURATION, struct raw_cors, max_age, .place_offset = offsetof(struct raw_cors, max_age_at)),
	F_BOOL("allowCredentials", struct raw_cors, credentials),
	F_ENUM("unmatchedPreflights", struct raw_cors, preflights, preflight_names),
	F_END,
};
const struct schema cors_schema = { .name = "CorsPolicy", .size = sizeof(struct raw_cors), .fields = cors_fields };

/* A text that takes "*" takes every origin, as Envoy has it. */
static void fill_origins(const struct check *c, const struct raw_cors *raw, const char *base, struct m_http_cors *cors)
{
	cors->origins = arena_array(c->d->arena, (size_t)raw->origins.nr + raw->old_origins.nr, sizeof(*cors->origins));
	for (uint32_t i = 0; i < raw->origins.nr; i++) {
		struct m_http_text *t = &cors->origins[cors->origin_nr++];
		char path[160];

		snprintf(path, sizeof(path), "%s.allowOrigins[%u]", base, i);
		http_text_fill(c, LIST_AT(raw->origins, struct raw_text, i), true, path, t);
		if (t->kind == MESH_TEXT_EXACT && str_is(t->text, "*"))
			*t = (struct m_http_text){ .kind = MESH_TEXT_PRESENT };
	}
	for (uint32_t i = 0; i < raw->old_origins.nr; i++)
		cors->origins[cors->origin_nr++] = (struct m_http_text){
			.kind = str_is(raw->old_origins.v[i], "*") ? MESH_TEXT_PRESENT : MESH_TEXT_EXACT,
			.text = raw->old_origins.v[i],
		};
}

const struct m_http_cors *http_cors_fill(const struct check *c, const struct raw_cors *raw, const char *base)
{
	struct m_http_cors *cors;
	char path[128];

	if (!raw)
		return NULL;
	cors = arena_new(c->d->arena, struct m_http_cors);
	fill_origins(c, raw, base, cors);
	snprintf(path, sizeof(path), "%s.allowMethods", base);
	cors->methods = http_joined(c, &raw->methods, http_method_bad, path);
	snprintf(path, sizeof(path), "%s.allowHeaders", base);
	cors->headers = http_joined(c, &raw->headers, http_name_bad, path);
	snprintf(path, sizeof(path), "%s.exposeHeaders", base);
	cors->exposed = http_joined(c, &raw->exposed, http_name_bad, path);
	cors->credentials = raw->credentials;
	cors->forward_unmatched = raw->preflights != 3;
	cors->has_max_age = raw->max_age_at.line;
	cors->max_age_s = traffic_ms(c, raw->max_age, raw->max_age_at, base, "maxAge") / 1000;
	if (raw->max_age_at.line && raw->max_age % 1000000000)
		check_fail(c, STR("must be a whole number of seconds"), NULL, "%s.maxAge", base);
	return cors;
}
