/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests counted in series: told apart, put into the right bucket, and never lost when there are too many kinds of them. */
#include "test.h"

#include "l7/stats.h"

static struct stats_request request(const char *source, uint16_t status)
{
	return (struct stats_request){ .source = { source, (uint32_t)strlen(source) },
				       .server = STR("default/reviews-v1/reviews"),
				       .service = STR("default/reviews.default.svc.cluster.local"),
				       .status = status,
				       .duration_us = 700,
				       .request_bytes = 5,
				       .response_bytes = 1000 };
}

TEST(series)
{
	struct mesh_l7_worker *w = calloc(1, sizeof(*w));
	struct stats *s = stats_new(w);
	struct stats_request r = request("default/productpage/bookinfo", 200);
	const struct mesh_series *n;

	CHECK_INT(w->series_nr, 1);
	stats_request(s, &r);
	stats_request(s, &r);
	r.flags = MESH_FLAG_UPSTREAM_TIMEOUT;
	stats_request(s, &r);
	r = request("default/productpage/bookinfo", 503);
	stats_request(s, &r);
	r = request("", 200);
	stats_request(s, &r);
	CHECK_INT(w->series_nr, 5);
	n = &w->series[1];
	CHECK_INT(n->requests, 2);
	CHECK_INT(n->duration_us, 1400);
	CHECK_INT(n->request_bytes, 10);
	CHECK_INT(n->response_bytes, 2000);
	CHECK_INT(n->buckets[1], 2);
	CHECK(n->source_len == 28 && !memcmp(n->source, "default/productpage/bookinfo", 28));
	CHECK_INT(w->series[2].flags, MESH_FLAG_UPSTREAM_TIMEOUT);
	CHECK_INT(w->series[3].status, 503);
	CHECK_INT(w->series[4].source_len, 0);
	CHECK_INT(w->series[0].requests, 0);
	stats_free(s);
	free(w);
}

TEST(buckets)
{
	struct stats *s = stats_new(NULL);
	const struct mesh_series *n = &stats_worker(s)->series[1];
	struct stats_request r = request("a/b/c", 200);
	const uint64_t us[] = { 0, 500, 501, 1000, 3600000000ull, 3600000001ull };

	for (size_t i = 0; i < sizeof(us) / sizeof(*us); i++) {
		r.duration_us = us[i];
		stats_request(s, &r);
	}
	CHECK_INT(n->buckets[0], 2);
	CHECK_INT(n->buckets[1], 2);
	CHECK_INT(n->buckets[MESH_STATS_BUCKETS - 2], 1);
	CHECK_INT(n->buckets[MESH_STATS_BUCKETS - 1], 1);
	stats_free(s);
}

TEST(no_room)
{
	struct stats *s = stats_new(NULL);
	struct mesh_l7_worker *w = stats_worker(s);
	char source[400];
	uint64_t sum = 0;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3000; i++) {
			struct stats_request r;

			snprintf(source, sizeof(source), "%d/%0*d", i, i % 300, 0);
			r = request(source, 200);
			stats_request(s, &r);
		}
	}
	CHECK_INT(w->series_nr, MESH_STATS_SERIES);
	for (uint32_t i = 0; i < w->series_nr; i++) {
		CHECK(w->series[i].source_len <= MESH_STATS_TEXT);
		CHECK(!i || w->series[i].requests == 2);
		sum += w->series[i].requests;
	}
	CHECK_INT(sum, 6000);
	CHECK_INT(w->series_dropped, w->series[0].requests);
	CHECK(w->series_dropped > 0);
	stats_free(s);
}
