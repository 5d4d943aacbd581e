/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Traffic policies of DestinationRules: limits of connections, outlier detection, and the two put together with the load balancer
 * (kind_balancer.c). What is checked here Istio's validation checks (pkg/config/validation, validateTrafficPolicy), and the kernel,
 * where it takes less than upstream does.
 */
#include <stdio.h>

#include "config/kind_traffic.h"

#define NS_PER_MS 1000000ll
#define NS_PER_S 1000000000ll
/* What TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT take. */
#define KEEPALIVE_S_MAX 32767
#define KEEPALIVE_PROBES_MAX 127

/* ---- connectionPool ---- */
struct raw_keepalive {
	int64_t probes, time, interval;
	struct place time_at, interval_at;
};

struct raw_tcp {
	int64_t max_connections, connect_timeout, max_duration, idle_timeout;
	struct place connect_at, duration_at, idle_at;
	struct raw_keepalive *keepalive;
};

struct raw_http_pool {
	int64_t max_pending, max_requests, max_per_connection, max_retries, idle_timeout;
	uint32_t upgrade;
	struct place idle_at;
};

struct raw_pool {
	struct raw_tcp *tcp;
	struct raw_http_pool *http;
};

static const struct field keepalive_fields[] = {
	F_INT("probes", struct raw_keepalive, probes, 0, U32_MAX_INT),
	F("time", FIELD_DURATION, struct raw_keepalive, time, .place_offset = offsetof(struct raw_keepalive, time_at)),
	F("interval", FIELD_DURATION, struct raw_keepalive, interval,
	  .place_offset = offsetof(struct raw_keepalive, interval_at)),
	F_END,
};
static const struct schema keepalive_schema = { .name = "TcpKeepalive",
						.size = sizeof(struct raw_keepalive),
						.fields = keepalive_fields };

static const struct field tcp_fields[] = {
	F_INT("maxConnections", struct raw_tcp, max_connections, 0, I32_MAX_INT),
	F("connectTimeout", FIELD_DURATION, struct raw_tcp, connect_timeout,
	  .place_offset = offsetof(struct raw_tcp, connect_at)),
	F_OBJECT_PTR("tcpKeepalive", struct raw_tcp, keepalive, keepalive_schema),
	F("maxConnectionDuration", FIELD_DURATION, struct raw_tcp, max_duration,
	  .place_offset = offsetof(struct raw_tcp, duration_at)),
	F("idleTimeout", FIELD_DURATION, struct raw_tcp, idle_timeout,
	  .place_offset = offsetof(struct raw_tcp, idle_at)),
	F_END,
};
static const struct schema tcp_schema = { .name = "TCPSettings", .size = sizeof(struct raw_tcp), .fields = tcp_fields };

static const char *const upgrades[] = { "DEFAULT", "DO_NOT_UPGRADE", "UPGRADE", NULL };
enum { UPGRADE = 3 };

static const struct field http_fields[] = {
	F_INT("http1MaxPendingRequests", struct raw_http_pool, max_pending, 0, I32_MAX_INT),
	F_INT("http2MaxRequests", struct raw_http_pool, max_requests, 0, I32_MAX_INT),
	F_INT("maxRequestsPerConnection", struct raw_http_pool, max_per_connection, 0, I32_MAX_INT),
	F_INT("maxRetries", struct raw_http_pool, max_retries, 0, I32_MAX_INT),
	F("idleTimeout", FIELD_DURATION, struct raw_http_pool, idle_timeout,
	  .place_offset = offsetof(struct raw_http_pool, idle_at)),
	F_ENUM("h2UpgradePolicy", struct raw_http_pool, upgrade, upgrades),
	F_REFUSED("useClientProtocol", "HTTP/2 instead of HTTP/1.1"),
	F_REFUSED("maxConcurrentStreams", "streams of HTTP/2"),
	F_REFUSED("http2KeepAlive", "pings of HTTP/2"),
	F_END,
};
static const struct schema http_schema = { .name = "HTTPSettings",
					   .size = sizeof(struct raw_http_pool),
					   .fields = http_fields };

static const struct field pool_fields[] = {
	F_OBJECT_PTR("tcp", struct raw_pool, tcp, tcp_schema),
	F_OBJECT_PTR("http", struct raw_pool, http, http_schema),
	F_END,
};
const struct schema pool_schema = { .name = "ConnectionPoolSettings",
				    .size = sizeof(struct raw_pool),
				    .fields = pool_fields };

uint32_t traffic_ms(const struct check *c, int64_t ns, struct place at, const char *base, const char *field)
{
	if (!at.line)
		return 0;
	if (ns < NS_PER_MS)
		check_fail(c, STR("must be at least 1ms"), NULL, "%s.%s", base, field);
	else if (ns % NS_PER_MS)
		check_fail(c, STR("must be a whole number of milliseconds"), NULL, "%s.%s", base, field);
	else if (ns / NS_PER_MS > U32_MAX_INT)
		check_fail(c, STR("more than 49 days are not enforced"), NULL, "%s.%s", base, field);
	else
		return (uint32_t)(ns / NS_PER_MS);
	return 0;
}

/* The kernel counts keepalives in seconds. */
static uint32_t keepalive_s(const struct check *c, int64_t ns, struct place at, const char *base, const char *field)
{
	uint32_t ms = traffic_ms(c, ns, at, base, field), s = ms / 1000 + (ms % 1000 != 0);

	if (s <= KEEPALIVE_S_MAX)
		return s;
	check_fail(c, STR("the kernel takes at most 32767s"), NULL, "%s.%s", base, field);
	return 0;
}

static void fill_keepalive(const struct check *c, const struct raw_keepalive *raw, const char *base, struct m_pool *p)
{
	char path[160];

	if (!raw)
		return;
	snprintf(path, sizeof(path), "%s.tcp.tcpKeepalive", base);
	if (raw->probes > KEEPALIVE_PROBES_MAX)
		check_fail(c, STR("the kernel takes at most 127"), NULL, "%s.probes", path);
	p->keepalive = true;
	p->keepalive_probes = (uint32_t)raw->probes;
	p->keepalive_time_s = keepalive_s(c, raw->time, raw->time_at, path, "time");
	p->keepalive_interval_s = keepalive_s(c, raw->interval, raw->interval_at, path, "interval");
}

/* NULL: it limits nothing. */
static const struct m_http_pool *fill_http(const struct check *c, const struct raw_http_pool *raw, const char *base)
{
	struct m_http_pool *p;

	if (!raw)
		return NULL;
	if (raw->upgrade == UPGRADE)
		check_fail(c, STR("not enforced yet: HTTP/2 instead of HTTP/1.1"), NULL, "%s.http.h2UpgradePolicy",
			   base);
	p = arena_new(c->d->arena, struct m_http_pool);
	*p = (struct m_http_pool){ .max_pending = (uint32_t)raw->max_pending,
				   .max_requests = (uint32_t)raw->max_requests,
				   .max_retries = (uint32_t)raw->max_retries,
				   .max_per_connection = (uint32_t)raw->max_per_connection };
	p->idle_timeout_ms = traffic_ms(c, raw->idle_timeout, raw->idle_at, base, "http.idleTimeout");
	return p->max_pending || p->max_requests || p->max_retries || p->max_per_connection || p->idle_timeout_ms
		       ? p
		       : NULL;
}

const struct m_pool *pool_fill(struct filling *f, const struct raw_pool *raw, const char *base)
{
	const struct check *c = f->c;
	const struct raw_tcp *tcp;
	struct m_pool *p;
	char path[128];

	if (!raw && !annotations_drain(f))
		return NULL;
	p = arena_new(c->d->arena, struct m_pool);
	p->drain_ms = f->drain_ms;
	p->removal = f->removal;
	if (!raw)
		return p;
	snprintf(path, sizeof(path), "%s.connectionPool", base);
	if (!raw->tcp && !check_has(c, "%s.http", path))
		check_fail(c, STR("must have at least one field"), NULL, "%s", path);
	p->http = fill_http(c, raw->http, path);
	tcp = raw->tcp;
	if (!tcp)
		return p;
	p->max_connections = (uint32_t)tcp->max_connections;
	p->connect_timeout_ms = traffic_ms(c, tcp->connect_timeout, tcp->connect_at, path, "tcp.connectTimeout");
	p->max_duration_ms = traffic_ms(c, tcp->max_duration, tcp->duration_at, path, "tcp.maxConnectionDuration");
	/* 0s is off. */
	if (tcp->idle_timeout)
		p->idle_timeout_ms = traffic_ms(c, tcp->idle_timeout, tcp->idle_at, path, "tcp.idleTimeout");
	fill_keepalive(c, tcp->keepalive, path, p);
	return p;
}

/* ---- outlierDetection ---- */
struct raw_outlier {
	int64_t old_errors, errors_5xx, gateway_errors, local_failures;
	int64_t interval, base_time, max_percent, min_percent;
	bool split;
	struct place old_at, errors_5xx_at, gateway_at, interval_at, base_at;
};

static const struct field outlier_fields[] = {
	F_INT("consecutiveErrors", struct raw_outlier, old_errors, 0, I32_MAX_INT,
	      .place_offset = offsetof(struct raw_outlier, old_at)),
	F_INT("consecutive5xxErrors", struct raw_outlier, errors_5xx, 0, U32_MAX_INT,
	      .place_offset = offsetof(struct raw_outlier, errors_5xx_at)),
	F_INT("consecutiveGatewayErrors", struct raw_outlier, gateway_errors, 0, U32_MAX_INT,
	      .place_offset = offsetof(struct raw_outlier, gateway_at)),
	F_BOOL("splitExternalLocalOriginErrors", struct raw_outlier, split),
	F_INT("consecutiveLocalOriginFailures", struct raw_outlier, local_failures, 0, U32_MAX_INT),
	F("interval", FIELD_DURATION, struct raw_outlier, interval,
	  .place_offset = offsetof(struct raw_outlier, interval_at)),
	F("baseEjectionTime", FIELD_DURATION, struct raw_outlier, base_time,
	  .place_offset = offsetof(struct raw_outlier, base_at)),
	F_INT("maxEjectionPercent", struct raw_outlier, max_percent, 0, 100),
	F_INT("minHealthPercent", struct raw_outlier, min_percent, 0, 100),
	F_REFUSED("outlierDetectionHttpErrorCodes", "codes of answers need their bytes"),
	F_END,
};
const struct schema outlier_schema = { .name = "OutlierDetection",
				       .size = sizeof(struct raw_outlier),
				       .fields = outlier_fields };

static uint32_t least(uint32_t a, uint32_t b)
{
	return !a ? b : !b || a < b ? a : b;
}

/*
 * A connection that is refused, times out or finds no way counts as a 503 or 504 in Envoy: a 5xx and a gateway error, and a
 * failure of local origin alone where these are split off. What becomes of one later, its TCP proxy does not count.
 */
static void fill_thresholds(const struct raw_outlier *raw, struct m_outlier *o)
{
	uint32_t errors_5xx = raw->errors_5xx_at.line ? (uint32_t)raw->errors_5xx : 5;

	if (raw->old_at.line && raw->old_errors && !raw->errors_5xx_at.line && !raw->gateway_at.line)
		errors_5xx = (uint32_t)raw->old_errors;
	o->errors_5xx = errors_5xx;
	o->gateway_errors = (uint32_t)raw->gateway_errors;
	o->connect_failures = least(errors_5xx, (uint32_t)raw->gateway_errors);
	if (raw->split)
		o->connect_failures = o->local_failures = raw->local_failures ? (uint32_t)raw->local_failures : 5;
}

static const struct m_outlier *fill_outlier(struct filling *f, const struct raw_outlier *raw, const char *base)
{
	const struct check *c = f->c;
	struct m_outlier *o;
	char path[128];

	if (!raw)
		return NULL;
	f->outlier = true;
	snprintf(path, sizeof(path), "%s.outlierDetection", base);
	if (raw->old_errors)
		check_warn(c, STR("is deprecated: consecutive5xxErrors and consecutiveGatewayErrors go before it"),
			   NULL, "%s.consecutiveErrors", path);
	if (raw->local_failures && !raw->split)
		check_fail(c, STR("means nothing unless splitExternalLocalOriginErrors is true"), NULL,
			   "%s.consecutiveLocalOriginFailures", path);
	o = arena_new(c->d->arena, struct m_outlier);
	fill_thresholds(raw, o);
	o->interval_ms = traffic_ms(c, raw->interval, raw->interval_at, path, "interval");
	o->base_ejection_ms = traffic_ms(c, raw->base_time, raw->base_at, path, "baseEjectionTime");
	if (!o->interval_ms)
		o->interval_ms = 10000;
	if (!o->base_ejection_ms)
		o->base_ejection_ms = 30000;
	o->max_ejection_percent = raw->max_percent ? (uint8_t)raw->max_percent : 10;
	o->min_health_percent = (uint8_t)raw->min_percent;
	o->latency_factor = f->latency_factor;
	o->latency_floor_us = f->latency_floor_us;
	o->resets = f->resets;
	return o;
}

/* ---- both, and the load balancer ---- */
void policy_fill(struct filling *f, const struct raw_policy *raw, bool takes_over, const char *base, struct m_policy *p)
{
	static const char *const modes[] = { "DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL" };

	p->lb = balancer_fill(f->c, raw->lb, raw->outlier != NULL, base);
	p->pool = raw->pool || !takes_over ? pool_fill(f, raw->pool, base) : NULL;
	p->outlier = fill_outlier(f, raw->outlier, base);
	if (raw->tls.mode > TLS_DISABLE)
		check_fail(f->c, CHECK_TEXT(f->c, "TLS (mode %s) is not enforced yet", modes[raw->tls.mode - 1]), NULL,
			   "%s.tls.mode", base);
}
