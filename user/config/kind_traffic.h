/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of DestinationRules' traffic policies share. */
#ifndef CONFIG_KIND_TRAFFIC_H
#define CONFIG_KIND_TRAFFIC_H

#include "config/kind_local.h"

struct raw_lb;
struct raw_pool;
struct raw_outlier;

struct raw_tls {
	uint32_t mode;
};
enum { TLS_DISABLE = 1 };

/* Of a rule, a subset or a port. NULL: not given. */
struct raw_policy {
	struct raw_lb *lb;
	struct raw_pool *pool;
	struct raw_outlier *outlier;
	struct raw_tls tls;
};

extern const struct schema lb_schema, pool_schema, outlier_schema;

/* What all policies of one DestinationRule share. */
struct filling {
	const struct check *c;
	uint32_t latency_factor, latency_floor_us, resets; /* of its annotations, as are the next two */
	uint32_t drain_ms;				   /* DRAIN_UNSET: not given */
	enum removal removal;
	bool outlier; /* some policy has outlierDetection */
};

/* Milliseconds of a duration as Istio takes them; 0: not given, or reported at base.field. */
uint32_t traffic_ms(const struct check *c, int64_t ns, struct place at, const char *base, const char *field);
/* outlier: the same policy has outlierDetection. NULL: not given. */
const struct m_lb *balancer_fill(const struct check *c, const struct raw_lb *raw, bool outlier, const char *base);
/* Reads the annotations, before the policies; and reports what they lack, behind these. */
void annotations_fill(struct filling *f, const struct kvs *annotations);
void annotations_check(const struct filling *f);
/* They say something of connections whose endpoint leaves. */
bool annotations_drain(const struct filling *f);
/* raw NULL: not given, and what the annotations say alone. */
const struct m_pool *pool_fill(struct filling *f, const struct raw_pool *raw, const char *base);
/* takes_over: what this policy does not give, another does. */
void policy_fill(struct filling *f, const struct raw_policy *raw, bool takes_over, const char *base,
		 struct m_policy *p);

#endif
