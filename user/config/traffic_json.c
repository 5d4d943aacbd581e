/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A traffic policy as JSON: named as in a DestinationRule, so that what explain says can be compared with what was written. What only
 * annotations or a Service can say stands beside these.
 */
#include <stdio.h>

#include "base/json.h"
#include "config/snapshot.h"

static void text(struct json *j, const char *key, const char *value)
{
	json_kstr(j, key, str_of(value));
}

/* A duration, when there is one. */
static void time_ms(struct json *j, const char *key, uint32_t ms)
{
	char value[32];

	if (!ms)
		return;
	snprintf(value, sizeof(value), ms % 1000 ? "%ums" : "%us", ms % 1000 ? ms : ms / 1000);
	text(j, key, value);
}

static void number(struct json *j, const char *key, uint32_t value)
{
	if (value)
		json_kuint(j, key, value);
}

static void begin(struct json *j, const char *key)
{
	json_key(j, key);
	json_object(j);
}

static void hash(const struct u_traffic *t, struct json *j)
{
	bool maglev = t->lb == LB_MAGLEV;

	begin(j, "consistentHash");
	json_kbool(j, "useSourceIp", true);
	begin(j, maglev ? "maglev" : "ringHash");
	json_kuint(j, maglev ? "tableSize" : "minimumRingSize", t->table_size);
	json_object_end(j);
	json_object_end(j);
}

static void balancer(const struct u_traffic *t, struct json *j)
{
	static const char *const simple[] = {
		[LB_LEAST_REQUEST] = "LEAST_REQUEST", [LB_RANDOM] = "RANDOM", [LB_ROUND_ROBIN] = "ROUND_ROBIN"
	};

	begin(j, "loadBalancer");
	if (t->lb == LB_RING || t->lb == LB_MAGLEV)
		hash(t, j);
	else
		text(j, "simple", simple[t->lb]);
	if (t->warmup_ms) {
		begin(j, "warmup");
		time_ms(j, "duration", t->warmup_ms);
		json_key(j, "minimumPercent");
		json_double(j, t->warmup_min / 10.0);
		json_key(j, "aggression");
		json_double(j, t->warmup_aggression / 1000.0);
		json_object_end(j);
	}
	json_object_end(j);
}

static void keepalive(const struct u_traffic *t, struct json *j)
{
	begin(j, "tcpKeepalive");
	number(j, "probes", t->keepalive_probes);
	time_ms(j, "time", t->keepalive_time_s * 1000);
	time_ms(j, "interval", t->keepalive_interval_s * 1000);
	json_object_end(j);
}

static void pool(const struct u_traffic *t, struct json *j)
{
	begin(j, "connectionPool");
	begin(j, "tcp");
	if (t->max_connections != UINT32_MAX)
		json_kuint(j, "maxConnections", t->max_connections);
	time_ms(j, "connectTimeout", t->connect_timeout_ms);
	time_ms(j, "idleTimeout", t->idle_timeout_ms);
	time_ms(j, "maxConnectionDuration", t->max_duration_ms);
	if (t->keepalive)
		keepalive(t, j);
	json_object_end(j);
	json_object_end(j);
}

static void outlier(const struct u_traffic *t, struct json *j)
{
	json_key(j, "outlierDetection");
	if (!t->outlier) {
		json_null(j);
		return;
	}
	json_object(j);
	json_kuint(j, "consecutiveLocalOriginFailures", t->connect_failures);
	time_ms(j, "interval", t->interval_ms);
	time_ms(j, "baseEjectionTime", t->base_ejection_ms);
	json_kuint(j, "maxEjectionPercent", t->max_ejection_percent);
	json_kuint(j, "minHealthPercent", t->min_health_percent);
	number(j, "resetEjection", t->resets);
	if (t->latency_factor) {
		begin(j, "latencyEjection");
		json_key(j, "factor");
		json_double(j, t->latency_factor / 1000.0);
		json_kuint(j, "floor_us", t->latency_floor_us);
		json_object_end(j);
	}
	json_object_end(j);
}

void traffic_json(const struct u_traffic *t, struct json *j)
{
	json_object(j);
	balancer(t, j);
	pool(t, j);
	outlier(t, j);
	number(j, "sessionAffinityTimeoutSeconds", t->affinity_s);
	if (!t->drain_ms)
		text(j, "drainTimeout", "0s");
	else if (t->drain_ms != DRAIN_UNSET)
		time_ms(j, "drainTimeout", t->drain_ms);
	if (t->removal != REMOVAL_UNSET)
		text(j, "onEndpointRemoval", t->removal == REMOVAL_RESET ? "reset" : "keep");
	json_object_end(j);
}
