/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Annotations of DestinationRules: what upstream has no field for. Ejection of endpoints that are slow, or that reset connections; and how
 * long connections of endpoints that leave may last.
 */
#include <math.h>

#include "config/kind_traffic.h"

#define LATENCY "tulle.dev/latency-ejection"
#define LATENCY_FLOOR "tulle.dev/latency-ejection-floor"
#define LATENCY_FLOOR_US 10000
#define RESETS "tulle.dev/reset-ejection"
#define DRAIN "tulle.dev/drain-timeout"
#define REMOVAL "tulle.dev/on-endpoint-removal"
#define DRAIN_NS_MAX (49 * 86400ll * 1000000000)

static void fail(const struct check *c, const char *what, const char *key)
{
	check_fail_key(c, str_of(what), NULL, str_of(key), "metadata.annotations");
}

static void fill_latency(struct filling *f, const struct kvs *annotations)
{
	const struct str *factor = kvs_get(annotations, STR(LATENCY));
	const struct str *floor = kvs_get(annotations, STR(LATENCY_FLOOR));
	struct ynode number = { .kind = YNODE_SCALAR };
	double times = 0;
	int64_t ns = 0;

	if (factor)
		number.scalar = *factor;
	if (factor && (!ynode_double(&number, &times) || !(times > 1 && times <= 1000)))
		fail(f->c, "must be a number over 1, up to 1000", LATENCY);
	else if (factor)
		f->latency_factor = (uint32_t)lround(times * 1000);
	if (!floor) {
		f->latency_floor_us = factor ? LATENCY_FLOOR_US : 0;
		return;
	}
	if (!factor)
		fail(f->c, "means nothing without " LATENCY, LATENCY_FLOOR);
	if (!duration_parse(*floor, false, &ns) || ns < 1000 || ns > 60000000000ll)
		fail(f->c, "must be a duration from 1us to 60s", LATENCY_FLOOR);
	f->latency_floor_us = (uint32_t)(ns / 1000);
}

static void fill_resets(struct filling *f, const struct kvs *annotations)
{
	const struct str *text = kvs_get(annotations, STR(RESETS));
	struct ynode number = { .kind = YNODE_SCALAR };
	int64_t nr = 0;

	if (!text)
		return;
	number.scalar = *text;
	if (!ynode_int(&number, &nr) || nr < 1 || nr > UINT32_MAX)
		fail(f->c, "must be a number from 1 to 4294967295", RESETS);
	f->resets = (uint32_t)nr;
}

static void fill_drain(struct filling *f, const struct kvs *annotations)
{
	const struct str *timeout = kvs_get(annotations, STR(DRAIN));
	const struct str *removal = kvs_get(annotations, STR(REMOVAL));
	int64_t ns = 0;

	f->drain_ms = DRAIN_UNSET;
	if (timeout && (!duration_parse(*timeout, false, &ns) || ns < 0 || ns > DRAIN_NS_MAX || ns % 1000000))
		fail(f->c, "must be a duration of whole milliseconds, up to 49 days", DRAIN);
	else if (timeout)
		f->drain_ms = (uint32_t)(ns / 1000000);
	if (!removal)
		return;
	f->removal = str_is(*removal, "reset") ? REMOVAL_RESET : REMOVAL_KEEP;
	if (f->removal == REMOVAL_KEEP && !str_is(*removal, "keep"))
		fail(f->c, "must be keep or reset", REMOVAL);
}

void annotations_fill(struct filling *f, const struct kvs *annotations)
{
	fill_latency(f, annotations);
	fill_resets(f, annotations);
	fill_drain(f, annotations);
}

void annotations_check(const struct filling *f)
{
	if (f->latency_factor && !f->outlier)
		fail(f->c, "needs an outlierDetection, whose times and shares it goes by", LATENCY);
	if (f->resets && !f->outlier)
		fail(f->c, "needs an outlierDetection, whose times and shares it goes by", RESETS);
}

bool annotations_drain(const struct filling *f)
{
	return f->drain_ms != DRAIN_UNSET || f->removal != REMOVAL_UNSET;
}
