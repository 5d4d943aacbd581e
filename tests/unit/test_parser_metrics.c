/* SPDX-License-Identifier: BSD-2-Clause */
/* Sums over workers and processes, their text for Prometheus, and what a process that was taken over may write into its counters. */
#include "test.h"

#include "l7/stats.h"
#include "plane/parser_metrics.h"

static struct mesh_l7_stats *stats_of(uint32_t workers)
{
	return calloc(1, sizeof(struct mesh_l7_stats) + workers * sizeof(struct mesh_l7_worker));
}

static void ask(struct mesh_l7_worker *w, const char *source, uint16_t status, uint32_t flags, uint64_t us)
{
	struct stats *s = stats_new(w);
	struct stats_request r = { .source = { source, (uint32_t)strlen(source) },
				   .server = STR("shop/web-1/web"),
				   .service = STR("shop/web.shop.svc.cluster.local"),
				   .status = status,
				   .flags = flags,
				   .duration_us = us,
				   .request_bytes = 10,
				   .response_bytes = 100 };

	stats_request(s, &r);
	stats_free(s);
}

#define LABELS                                                                                                         \
	"reporter=\"source\",source_workload=\"b\",source_workload_namespace=\"shop\","                                \
	"source_principal=\"spiffe://cluster.local/ns/shop/sa/buyer\",destination_workload=\"web-1\","                 \
	"destination_workload_namespace=\"shop\",destination_principal=\"spiffe://cluster.local/ns/shop/sa/web\","     \
	"destination_service=\"web.shop.svc.cluster.local\",destination_service_name=\"web\","                         \
	"destination_service_namespace=\"shop\",request_protocol=\"http\",response_code=\"200\",response_flags=\"-\"," \
	"connection_security_policy=\"none\""

static bool has_line(const struct buf *text, const char *line)
{
	const char *at = text->data;

	while ((at = strstr(at, line))) {
		if ((at == text->data || at[-1] == '\n') && at[strlen(line)] == '\n')
			return true;
		at++;
	}
	return false;
}

TEST(text)
{
	struct mesh_l7_stats *s = stats_of(2);
	struct metrics m = { 0 }, all = { 0 };
	struct buf text = { 0 };

	ask(&s->workers[0], "shop/b/buyer", 200, 0, 700);
	ask(&s->workers[1], "shop/b/buyer", 200, 0, 4000);
	s->workers[0].accepted = 3;
	s->workers[0].refused = 6;
	s->workers[0].refused_tls = 2;
	s->workers[0].tls = 8;
	s->workers[0].tls_unrouted = 5;
	s->workers[1].accepted = 4;
	s->workers[1].open = 2;
	s->workers[1].log_dropped = 9;
	metrics_add(&m, s, 2, true);
	CHECK_INT(m.nr, 1);
	metrics_print(&m, STR("cluster.local"), &text);
	CHECK(has_line(&text, "# TYPE istio_requests_total counter"));
	CHECK(has_line(&text, "istio_requests_total{" LABELS "} 2"));
	CHECK(has_line(&text, "# TYPE istio_request_duration_milliseconds histogram"));
	CHECK(has_line(&text, "istio_request_duration_milliseconds_bucket{" LABELS ",le=\"0.5\"} 0"));
	CHECK(has_line(&text, "istio_request_duration_milliseconds_bucket{" LABELS ",le=\"1\"} 1"));
	CHECK(has_line(&text, "istio_request_duration_milliseconds_bucket{" LABELS ",le=\"5\"} 2"));
	CHECK(has_line(&text, "istio_request_duration_milliseconds_bucket{" LABELS ",le=\"+Inf\"} 2"));
	CHECK(has_line(&text, "istio_request_duration_milliseconds_sum{" LABELS "} 4.700"));
	CHECK(has_line(&text, "istio_request_duration_milliseconds_count{" LABELS "} 2"));
	CHECK(has_line(&text, "istio_request_bytes_sum{" LABELS "} 20"));
	CHECK(has_line(&text, "istio_response_bytes_sum{" LABELS "} 200"));
	CHECK(has_line(&text, "tulle_parser_accepted_total 7"));
	CHECK(has_line(&text, "tulle_parser_connections 2"));
	CHECK(has_line(&text, "tulle_parser_access_log_dropped_total 9"));
	/* Of a process that is gone the counters stay, and nothing is open. */
	metrics_merge(&all, &m);
	metrics_add(&all, s, 2, false);
	buf_clear(&text);
	metrics_print(&all, STR("cluster.local"), &text);
	CHECK(has_line(&text, "istio_requests_total{" LABELS "} 4"));
	CHECK(has_line(&text, "tulle_parser_connections 0"));
	CHECK(has_line(&text, "tulle_parser_accepted_total 14"));
	CHECK(has_line(&text, "tulle_parser_refused_total 12"));
	CHECK(has_line(&text, "tulle_parser_refused_tls_total 4"));
	CHECK(has_line(&text, "tulle_parser_tls_total 16"));
	CHECK(has_line(&text, "tulle_parser_tls_unrouted_total 10"));
	buf_release(&text);
	metrics_release(&m);
	metrics_release(&all);
	free(s);
}

TEST(flags_and_unknown)
{
	struct mesh_l7_stats *s = stats_of(1);
	struct metrics m = { 0 };
	struct buf text = { 0 };

	ask(&s->workers[0], "", 503, MESH_FLAG_UPSTREAM_CONNECT_FAILURE | MESH_FLAG_RETRY_LIMIT, 1);
	metrics_add(&m, s, 1, true);
	metrics_print(&m, STR("cluster.local"), &text);
	CHECK(strstr(text.data, "source_workload=\"unknown\",source_workload_namespace=\"unknown\","
				"source_principal=\"unknown\","));
	CHECK(strstr(text.data, "response_code=\"503\",response_flags=\"UF,URX\","));
	buf_release(&text);
	metrics_release(&m);
	free(s);
}

TEST(hostile_counters)
{
	struct mesh_l7_stats *s = stats_of(1);
	struct mesh_l7_worker *w = &s->workers[0];
	struct metrics m = { 0 };
	struct buf text = { 0 };

	w->series_nr = 0xffffffff;
	for (uint32_t i = 0; i < MESH_STATS_SERIES; i++) {
		struct mesh_series *n = &w->series[i];

		memset(n, 0xff, sizeof(*n));
		memcpy(n->source, "a/\"\n\\", 5);
		n->requests = 1;
		n->status = (uint16_t)i;
	}
	metrics_add(&m, s, 1, true);
	CHECK_INT(m.nr, MESH_STATS_SERIES);
	metrics_print(&m, STR("cluster.local"), &text);
	for (size_t i = 0; i < text.len; i++)
		CHECK(text.data[i] == '\n' || (text.data[i] >= ' ' && text.data[i] <= '~'));
	CHECK(strstr(text.data, "source_workload=\"\\\"?\\\\????"));
	buf_release(&text);
	metrics_release(&m);
	free(s);
}

TEST(more_than_there_is_room_for)
{
	struct mesh_l7_stats *s = stats_of(1);
	struct mesh_l7_worker *w = &s->workers[0];
	struct metrics m = { 0 };

	w->series_nr = 1000;
	for (uint32_t round = 0; round < 70; round++) {
		for (uint32_t i = 0; i < 1000; i++) {
			w->series[i].requests = 1;
			w->series[i].service_len = 8;
			memcpy(w->series[i].service, &(uint32_t[]){ round, i }, 8);
		}
		metrics_add(&m, s, 1, true);
	}
	CHECK_INT(m.nr, METRICS_MAX);
	CHECK_INT(m.series_dropped, 70000 - METRICS_MAX);
	metrics_release(&m);
	free(s);
}
