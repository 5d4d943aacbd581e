/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Load balancers of DestinationRules: how an endpoint is chosen, what is taken for the key of a hash, how new endpoints warm up, and
 * which localities go first. Checks as Istio's validation does (validateLoadBalancer, ValidateLocalityLbSetting).
 */
#include <math.h>
#include <stdio.h>

#include "config/kind_http.h"
#include "config/kind_traffic.h"

#define RING_SIZE_MAX 8388608 /* of Envoy */
#define MAGLEV_SIZE_LIMIT 5000011

struct raw_ring {
	int64_t size;
};

struct raw_cookie {
	struct str name, path;
	int64_t ttl;
	struct place ttl_at;
};

struct raw_hash {
	bool source_ip;
	struct str header, query;
	struct place header_at, query_at;
	struct raw_cookie *cookie;
	int64_t old_size;
	struct raw_ring *ring, *maglev;
};

struct raw_warmup {
	int64_t duration;
	double minimum, aggression;
	struct place duration_at, minimum_at, aggression_at;
};

struct raw_distribute {
	struct str from;
};

struct raw_failover {
	struct str from, to;
};

struct raw_locality {
	bool enabled;
	struct place enabled_at;
	struct list distribute, failover;
	struct strs priority;
};

struct raw_lb {
	uint32_t simple;
	struct raw_hash *hash;
	struct raw_locality *locality;
	struct raw_warmup *warmup;
	int64_t warmup_old;
	struct place warmup_old_at;
};

static const char *const simple_names[] = { "UNSPECIFIED", "RANDOM",	    "PASSTHROUGH", "LEAST_CONN",
					    "ROUND_ROBIN", "LEAST_REQUEST", NULL };
/* By index + 1, as the decoder has it. */
static const enum lb_policy simple_policies[] = { LB_UNSET,	    LB_UNSET,	    LB_RANDOM,	     LB_PASSTHROUGH,
						  LB_LEAST_REQUEST, LB_ROUND_ROBIN, LB_LEAST_REQUEST };

static const struct field ring_fields[] = {
	F_INT("minimumRingSize", struct raw_ring, size, 0, RING_SIZE_MAX),
	F_END,
};
static const struct schema ring_schema = { .name = "RingHash", .size = sizeof(struct raw_ring), .fields = ring_fields };

static const struct field maglev_fields[] = {
	F_INT("tableSize", struct raw_ring, size, 0, MAGLEV_SIZE_LIMIT - 1),
	F_END,
};
static const struct schema maglev_schema = { .name = "MagLev",
					     .size = sizeof(struct raw_ring),
					     .fields = maglev_fields };

static const struct field cookie_fields[] = {
	F_STR("name", struct raw_cookie, name, .flags = FIELD_REQUIRED),
	F_STR("path", struct raw_cookie, path),
	F("ttl", FIELD_DURATION, struct raw_cookie, ttl, .place_offset = offsetof(struct raw_cookie, ttl_at)),
	F_REFUSED("attributes", "attributes of a cookie that is made"),
	F_END,
};
static const struct schema cookie_schema = { .name = "HTTPCookie",
					     .size = sizeof(struct raw_cookie),
					     .fields = cookie_fields };

static const struct field hash_fields[] = {
	F_BOOL("useSourceIp", struct raw_hash, source_ip),
	F_STR("httpHeaderName", struct raw_hash, header, .place_offset = offsetof(struct raw_hash, header_at)),
	F_OBJECT_PTR("httpCookie", struct raw_hash, cookie, cookie_schema),
	F_STR("httpQueryParameterName", struct raw_hash, query, .place_offset = offsetof(struct raw_hash, query_at)),
	F_OBJECT_PTR("ringHash", struct raw_hash, ring, ring_schema),
	F_OBJECT_PTR("maglev", struct raw_hash, maglev, maglev_schema),
	F_INT("minimumRingSize", struct raw_hash, old_size, 0, RING_SIZE_MAX),
	F_END,
};
static const char *const hash_keys[] = { "httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName",
					 NULL };
static const char *const hash_algorithms[] = { "ringHash", "maglev", NULL };
static const struct oneof hash_oneofs[] = { { .names = hash_keys }, { .names = hash_algorithms }, { .names = NULL } };
static const struct schema hash_schema = {
	.name = "ConsistentHashLB",
	.size = sizeof(struct raw_hash),
	.fields = hash_fields,
	.oneofs = hash_oneofs,
};

static const struct field warmup_fields[] = {
	F("duration", FIELD_DURATION, struct raw_warmup, duration, .flags = FIELD_REQUIRED,
	  .place_offset = offsetof(struct raw_warmup, duration_at)),
	F("minimumPercent", FIELD_DOUBLE, struct raw_warmup, minimum,
	  .place_offset = offsetof(struct raw_warmup, minimum_at)),
	F("aggression", FIELD_DOUBLE, struct raw_warmup, aggression,
	  .place_offset = offsetof(struct raw_warmup, aggression_at)),
	F_END,
};
static const struct schema warmup_schema = { .name = "WarmupConfiguration",
					     .size = sizeof(struct raw_warmup),
					     .fields = warmup_fields };

static const struct field distribute_fields[] = {
	F_STR("from", struct raw_distribute, from),
	/* A map of localities to numbers: read from the tree. */
	F_INERT("to", FIELD_ANY),
	F_END,
};
static const struct schema distribute_schema = { .name = "Distribute",
						 .size = sizeof(struct raw_distribute),
						 .fields = distribute_fields };

static const struct field failover_fields[] = {
	F_STR("from", struct raw_failover, from),
	F_STR("to", struct raw_failover, to),
	F_END,
};
static const struct schema failover_schema = { .name = "Failover",
					       .size = sizeof(struct raw_failover),
					       .fields = failover_fields };

static const struct field locality_fields[] = {
	F_BOOL("enabled", struct raw_locality, enabled, .place_offset = offsetof(struct raw_locality, enabled_at)),
	F_LIST("distribute", struct raw_locality, distribute, distribute_schema, .max = ITEMS_MAX),
	F_LIST("failover", struct raw_locality, failover, failover_schema, .max = ITEMS_MAX),
	F_STRS("failoverPriority", struct raw_locality, priority, .max = PRIORITIES_MAX),
	F_END,
};
static const struct schema locality_schema = {
	.name = "LocalityLoadBalancerSetting",
	.size = sizeof(struct raw_locality),
	.fields = locality_fields,
};

static const struct field lb_fields[] = {
	F_ENUM("simple", struct raw_lb, simple, simple_names),
	F_OBJECT_PTR("consistentHash", struct raw_lb, hash, hash_schema),
	F_OBJECT_PTR("localityLbSetting", struct raw_lb, locality, locality_schema),
	F_OBJECT_PTR("warmup", struct raw_lb, warmup, warmup_schema),
	F("warmupDurationSecs", FIELD_DURATION, struct raw_lb, warmup_old,
	  .place_offset = offsetof(struct raw_lb, warmup_old_at)),
	F_REFUSED("zoneAwareLbSetting", "shares of zones by their numbers of endpoints"),
	F_END,
};
static const char *const lb_policies[] = { "simple", "consistentHash", NULL };
static const struct oneof lb_oneofs[] = { { .names = lb_policies }, { .names = NULL } };
const struct schema lb_schema = {
	.name = "LoadBalancerSettings", .size = sizeof(struct raw_lb), .fields = lb_fields, .oneofs = lb_oneofs
};

/* ---- hashes ---- */

static bool is_prime(uint32_t n)
{
	for (uint32_t i = 2; (uint64_t)i * i <= n; i++)
		if (n % i == 0)
			return false;
	return n > 0;
}

/* Characters of a cookie's path that end neither it nor the header. */
static bool is_cookie_path(struct str s)
{
	for (uint32_t i = 0; i < s.len; i++)
		if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr(";,\"\\", s.p[i]))
			return false;
	return true;
}

/* What of a request is hashed, NULL: nothing of it. path: of the hash. */
static struct m_http_hash *fill_key(const struct check *c, const struct raw_hash *raw, const char *path)
{
	const char *field = raw->header_at.line ? "httpHeaderName"
			    : raw->cookie	? "httpCookie.name"
						: "httpQueryParameterName";
	struct m_http_hash *h;
	const char *bad;

	if (!raw->header_at.line && !raw->cookie && !raw->query_at.line)
		return NULL;
	h = arena_new(c->d->arena, struct m_http_hash);
	if (raw->header_at.line) {
		*h = (struct m_http_hash){ .kind = MESH_HASH_HEADER, .name = http_lower(c->d->arena, raw->header) };
	} else if (raw->cookie) {
		*h = (struct m_http_hash){ .kind = MESH_HASH_COOKIE,
					   .name = raw->cookie->name,
					   .path = raw->cookie->path,
					   .has_ttl = raw->cookie->ttl_at.line };
		h->ttl_s = traffic_ms(c, raw->cookie->ttl, raw->cookie->ttl ? raw->cookie->ttl_at : (struct place){ 0 },
				      path, "httpCookie.ttl") /
			   1000;
		if (raw->cookie->ttl % 1000000000)
			check_fail(c, STR("must be a whole number of seconds"), NULL, "%s.httpCookie.ttl", path);
		if (!is_cookie_path(raw->cookie->path))
			check_fail(c, STR("has a character that the path of a cookie cannot have"), NULL,
				   "%s.httpCookie.path", path);
	} else {
		*h = (struct m_http_hash){ .kind = MESH_HASH_QUERY, .name = raw->query };
	}
	bad = h->kind == MESH_HASH_QUERY ? h->name.len ? NULL : "must not be empty" : http_name_bad(h->name);
	if (bad)
		check_fail(c, CHECK_TEXT(c, "\"%.*s\" %s", STR_ARG(h->name), bad), NULL, "%s.%s", path, field);
	return h;
}

static void fill_hash(const struct check *c, const struct raw_hash *raw, const char *base, struct m_lb *lb)
{
	struct m_http_hash *key;

	char path[128];

	snprintf(path, sizeof(path), "%s.loadBalancer.consistentHash", base);
	lb->policy = LB_RING;
	lb->table_size = 1024;
	if (raw->old_size) {
		check_warn(c, STR("is deprecated: use ringHash.minimumRingSize"), NULL, "%s.minimumRingSize", path);
		if (raw->ring || raw->maglev)
			check_fail(c, STR("only one of minimumRingSize, ringHash and maglev may be given"), NULL,
				   "%s.minimumRingSize", path);
		lb->table_size = (uint32_t)raw->old_size;
	}
	if (raw->ring && raw->ring->size)
		lb->table_size = (uint32_t)raw->ring->size;
	if (raw->maglev) {
		lb->policy = LB_MAGLEV;
		lb->table_size = (uint32_t)raw->maglev->size;
		if (!lb->table_size)
			check_fail(c, STR("is required"), NULL, "%s.maglev.tableSize", path);
		else if (!is_prime(lb->table_size))
			check_fail(c, CHECK_TEXT(c, "%u is not a prime number", lb->table_size), NULL,
				   "%s.maglev.tableSize", path);
	}
	if (raw->source_ip)
		return;
	key = fill_key(c, raw, path);
	if (key) {
		key->policy = lb->policy;
		key->table_size = lb->table_size;
	}
	lb->hash = key;
	lb->policy = LB_RANDOM;
	lb->table_size = 0;
	if (key)
		return;
	/* Every connection has a key of its own, as in Envoy. */
	check_warn(c, STR("without useSourceIp there is no key to be hashed: endpoints are chosen at random"), NULL,
		   "%s", path);
}

/* ---- warm-up ---- */

static void fill_warmup(const struct check *c, const struct raw_lb *raw, const char *base, struct m_lb *lb)
{
	const struct raw_warmup *w = raw->warmup;
	const char *name = w ? "warmup" : "warmupDurationSecs";
	char path[128];

	if (!w && !raw->warmup_old_at.line)
		return;
	snprintf(path, sizeof(path), "%s.loadBalancer", base);
	lb->warmup_ms = w ? traffic_ms(c, w->duration, w->duration_at, path, "warmup.duration")
			  : traffic_ms(c, raw->warmup_old, raw->warmup_old_at, path, "warmupDurationSecs");
	lb->warmup_min = 100;
	lb->warmup_aggression = 1000;
	if (w && w->minimum_at.line) {
		if (!(w->minimum >= 0 && w->minimum <= 100))
			check_fail(c, STR("must be between 0 and 100"), NULL, "%s.warmup.minimumPercent", path);
		else
			lb->warmup_min = (uint16_t)lround(w->minimum * 10);
	}
	if (w && w->aggression_at.line) {
		if (!(w->aggression >= 1 && w->aggression <= 1000000))
			check_fail(c, STR("must be between 1 and 1000000"), NULL, "%s.warmup.aggression", path);
		else
			lb->warmup_aggression = (uint32_t)lround(w->aggression * 1000);
	}
	if (lb->policy == LB_UNSET || lb->policy == LB_LEAST_REQUEST || lb->policy == LB_ROUND_ROBIN)
		return;
	check_warn(c, STR("acts with LEAST_REQUEST and ROUND_ROBIN only, as upstream"), NULL, "%s.%s", path, name);
	lb->warmup_ms = lb->warmup_min = lb->warmup_aggression = 0;
}

/* ---- localities ---- */

/* Splits, and reports what Istio does: a part that is empty, and "*" elsewhere than at the end. */
static struct m_locality parse_locality(const struct check *c, struct str text, const char *path)
{
	struct str parts[3] = { 0 };
	const char *bad = NULL;
	uint32_t at = 0;

	for (uint32_t i = 0; i < text.len && !bad; i++)
		if (text.p[i] == '*' && i + 1 < text.len)
			bad = "may have one \"*\", at its end";
	for (int i = 0; i < 3 && at <= text.len; i++) {
		uint32_t end = at;

		while (end < text.len && text.p[end] != '/')
			end++;
		parts[i] = str_sub(text, at, end - at);
		if (!parts[i].len && !bad)
			bad = "must not have an empty region, zone or subzone";
		at = end + 1;
	}
	if (bad)
		check_fail(c, CHECK_TEXT(c, "the locality \"%.*s\" %s", STR_ARG(text), bad), NULL, "%s", path);
	return (struct m_locality){ parts[0], parts[1], parts[2] };
}

/* `a`, given first, leaves nothing of `b`; or `b` is wider than it. */
static bool localities_overlap(const struct m_locality *a, const struct m_locality *b)
{
	if (str_is(a->region, "*"))
		return true;
	if (!str_eq(a->region, b->region))
		return false;
	if (!a->zone.len || !b->zone.len || str_is(a->zone, "*"))
		return true;
	if (!str_eq(a->zone, b->zone))
		return false;
	return !a->subzone.len || !b->subzone.len || str_is(a->subzone, "*") || str_eq(a->subzone, b->subzone);
}

static void check_overlap(const struct check *c, const struct m_locality *v, uint32_t nr, const char *path)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (!localities_overlap(&v[i], &v[nr]))
			continue;
		check_fail(c, STR("overlaps with a locality before it"), NULL, "%s", path);
		return;
	}
}

static void fill_shares(const struct check *c, struct m_distribute *d, const char *path)
{
	const struct ynode *map = check_node(c, path);
	struct m_locality *seen;
	int64_t sum = 0;

	if (!map || map->kind == YNODE_NULL || map->kind != YNODE_MAP || map->nr > ITEMS_MAX) {
		check_fail(c, STR("must be a map of localities to percentages, whose sum is 100"), NULL, "%s", path);
		return;
	}
	d->to = arena_array(c->d->arena, map->nr, sizeof(*d->to));
	seen = arena_array(c->d->arena, map->nr, sizeof(*seen));
	for (uint32_t i = 0; i < map->nr; i++) {
		struct str key = arena_str(c->d->arena, map->items[2 * i]->scalar);
		int64_t percent = 0;

		if (!ynode_int(map->items[2 * i + 1], &percent) || percent < 1 || percent > 100)
			check_fail_key(c, STR("must be a number from 1 to 100"), NULL, key, "%s", path);
		seen[i] = parse_locality(c, key, path);
		check_overlap(c, seen, i, path);
		d->to[d->to_nr++] = (struct m_locality_share){ seen[i], (uint32_t)percent };
		sum += percent;
	}
	if (sum != 100)
		check_fail(c, CHECK_TEXT(c, "the percentages make %lld, not 100", (long long)sum), NULL, "%s", path);
}

static void fill_distribute(const struct check *c, const struct list *raw, const char *base, struct m_locality_lb *l)
{
	struct m_locality *seen = arena_array(c->d->arena, raw->nr, sizeof(*seen));
	char path[192];

	l->distribute = arena_array(c->d->arena, raw->nr, sizeof(*l->distribute));
	for (uint32_t i = 0; i < raw->nr; i++) {
		struct m_distribute *d = &l->distribute[l->distribute_nr++];

		snprintf(path, sizeof(path), "%s.distribute[%u].from", base, i);
		d->from = seen[i] = parse_locality(c, LIST_AT(*raw, struct raw_distribute, i)->from, path);
		check_overlap(c, seen, i, path);
		snprintf(path, sizeof(path), "%s.distribute[%u].to", base, i);
		fill_shares(c, d, path);
	}
}

static void fill_failover(const struct check *c, const struct list *raw, const char *base, struct m_locality_lb *l)
{
	l->failover = arena_array(c->d->arena, raw->nr, sizeof(*l->failover));
	for (uint32_t i = 0; i < raw->nr; i++) {
		const struct raw_failover *r = LIST_AT(*raw, struct raw_failover, i);

		if (str_eq(r->from, r->to))
			check_fail(c, STR("must lead to another region"), NULL, "%s.failover[%u]", base, i);
		if (str_find(r->from, '/') >= 0 || str_find(r->to, '/') >= 0 || str_find(r->from, '*') >= 0 ||
		    str_find(r->to, '*') >= 0)
			check_fail(c, STR("names regions only, without \"/\" and \"*\""), NULL, "%s.failover[%u]", base,
				   i);
		l->failover[l->failover_nr++] = (struct m_failover){ r->from, r->to };
	}
}

/* "label", or "label=value". */
static void fill_priority(const struct check *c, const struct strs *raw, bool failover, const char *base,
			  struct m_locality_lb *l)
{
	struct kv *v = arena_array(c->d->arena, raw->nr, sizeof(*v));

	l->priority = v;
	for (uint32_t i = 0; i < raw->nr; i++) {
		struct str text = raw->v[i], value = { 0 };
		int at = str_find(text, '=');

		if (failover && (str_is(text, LABEL_REGION) || str_is(text, LABEL_ZONE) || str_is(text, LABEL_SUBZONE)))
			check_fail(c, STR("must not be given beside failover"), NULL, "%s.failoverPriority[%u]", base,
				   i);
		if (at >= 0) {
			value = str_sub(text, (uint32_t)at + 1, text.len);
			text = str_sub(text, 0, (uint32_t)at);
			/* Istio takes only what has one "=" for a value. */
			if (str_find(value, '=') >= 0)
				value = (struct str){ 0 };
		}
		v[l->priority_nr++] = (struct kv){ text, value };
	}
}

static const struct m_locality_lb *fill_locality(const struct check *c, const struct raw_locality *raw, bool outlier,
						 const char *base)
{
	struct m_locality_lb *l;
	char path[128];

	if (!raw)
		return NULL;
	snprintf(path, sizeof(path), "%s.loadBalancer.localityLbSetting", base);
	l = arena_new(c->d->arena, struct m_locality_lb);
	l->off = raw->enabled_at.line && !raw->enabled;
	if (raw->distribute.nr && raw->failover.nr)
		check_fail(c, STR("only one of distribute and failover may be given"), NULL, "%s.failover", path);
	fill_distribute(c, &raw->distribute, path, l);
	fill_failover(c, &raw->failover, path, l);
	fill_priority(c, &raw->priority, raw->failover.nr != 0, path, l);
	if ((raw->failover.nr || raw->priority.nr) && !outlier)
		check_warn(c, STR("without outlierDetection there is no failover"), NULL, "%s.%s", path,
			   raw->failover.nr ? "failover" : "failoverPriority");
	return l;
}

const struct m_lb *balancer_fill(const struct check *c, const struct raw_lb *raw, bool outlier, const char *base)
{
	struct m_lb *lb;

	if (!raw)
		return NULL;
	lb = arena_new(c->d->arena, struct m_lb);
	lb->policy = simple_policies[raw->simple];
	if (raw->hash)
		fill_hash(c, raw->hash, base, lb);
	fill_warmup(c, raw, base, lb);
	lb->locality = fill_locality(c, raw->locality, outlier, base);
	return lb;
}
