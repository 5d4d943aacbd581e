/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The choice of endpoints by every kind of balancing, its shares (a fair choice fails less than once in a million; draws are the same in
 * each run), ejection, limits, and what outlives rules.
 */
#include "test.h"

#include <stdatomic.h>

#include "http_image.h"
#include "l7/balance.h"

#define NR_MAX 100

struct end {
	const char *addr;
	uint32_t weight;
	uint8_t level;
};

static struct lb *lb;
static struct lb_view *view;
static struct http_rules *rules;
static const struct mesh_http_image *image;
static const struct mesh_http_cluster *cluster;
static uint64_t rng;

static uint64_t draw(void)
{
	uint64_t z = rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static struct mesh_http_cluster settings(enum mesh_lb kind)
{
	return (struct mesh_http_cluster){ .lb = kind,
					   .table_size = kind == MESH_LB_MAGLEV ? 65537 : 700,
					   .max_ejection_percent = 100,
					   .max_connections = UINT32_MAX,
					   .max_pending = UINT32_MAX,
					   .max_requests = UINT32_MAX,
					   .max_retries = UINT32_MAX,
					   .interval_ms = 1000,
					   .base_ejection_ms = 3000,
					   .max_ejection_ms = 300000 };
}

static struct http_rules *load(struct mesh_http_cluster c, const struct end *ends, uint32_t nr)
{
	struct mesh_http_endpoint e[NR_MAX] = { 0 };
	struct mesh_http_table table = { .absent_status = 404 };
	struct image im;

	image_begin(&im);
	for (uint32_t i = 0; i < nr; i++)
		e[i] = (struct mesh_http_endpoint){
			.addr = image_addr(ends[i].addr), .port = 80, .level = ends[i].level, .weight = ends[i].weight
		};
	c.name = image_text(&im, "outbound|80||svc");
	c.endpoints = image_array(&im, e, nr, sizeof(*e));
	image_end(&im, IMAGE_ONE(&im, &table), IMAGE_ONE(&im, &c));
	return image_load(&im);
}

/* These rules in place of those before, if any. */
static void use(struct mesh_http_cluster c, const struct end *ends, uint32_t nr)
{
	struct http_rules *next = load(c, ends, nr);
	struct lb_view *next_view;

	if (!lb)
		lb = lb_new();
	next_view = lb_attach(lb, next);
	lb_detach(view);
	http_rules_unref(rules);
	view = next_view;
	rules = next;
	image = image_place(rules).image;
	cluster = http_ref(image, image->clusters);
}

static void done(void)
{
	lb_detach(view);
	http_rules_unref(rules);
	lb_free(lb);
	view = NULL;
	rules = NULL;
	lb = NULL;
	rng = 0;
}

static struct lb_host *pick(const uint64_t *hash, const struct lb_tried *tried, uint64_t now_ms, uint32_t *ret)
{
	static const struct lb_tried none;
	const struct mesh_http_endpoint *e = NULL;
	struct lb_host *h = lb_pick(view, image, cluster, hash, tried ? tried : &none, draw(), now_ms, &e);

	*ret = h ? (uint32_t)(e - (const struct mesh_http_endpoint *)http_ref(image, cluster->endpoints)) : UINT32_MAX;
	if (h && memcmp(&h->addr, &e->addr, sizeof(h->addr)))
		abort();
	return h;
}

/* How often each of n choices falls on each endpoint. */
static void counts(uint32_t n, uint64_t now_ms, uint32_t *ret)
{
	memset(ret, 0, NR_MAX * sizeof(*ret));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at;

		if (pick(NULL, NULL, now_ms, &at))
			ret[at]++;
	}
}

/* Five standard deviations: less than one in a million. */
static bool near(uint32_t got, double n, double share)
{
	double off = got - n * share;

	return off * off <= 25 * n * share * (1 - share) + 1;
}

static const struct end four[] = {
	{ "10.2.0.1", 1, 0 }, { "10.2.0.2", 1, 0 }, { "10.2.0.3", 1, 0 }, { "10.2.0.4", 1, 0 }
};
static const struct end unequal[] = { { "10.2.0.1", 1, 0 }, { "10.2.0.2", 2, 0 }, { "10.2.0.3", 5, 0 } };

TEST(shares)
{
	static const enum mesh_lb kinds[] = { MESH_LB_RANDOM, MESH_LB_LEAST_REQUEST, MESH_LB_RING, MESH_LB_MAGLEV };
	uint32_t got[NR_MAX];

	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		use(settings(kinds[k]), four, 4);
		counts(40000, 1, got);
		for (int i = 0; i < 4; i++)
			CHECK_MSG(near(got[i], 40000, 0.25), "kind %d, endpoint %d: %u", kinds[k], i, got[i]);
		use(settings(kinds[k]), unequal, 3);
		counts(40000, 1, got);
		for (int i = 0; i < 3; i++)
			CHECK_MSG(near(got[i], 40000, unequal[i].weight / 8.0), "kind %d, unequal %d: %u", kinds[k], i,
				  got[i]);
	}
	done();
}

TEST(round_robin)
{
	uint32_t got[NR_MAX], last = UINT32_MAX, at;

	use(settings(MESH_LB_ROUND_ROBIN), four, 4);
	for (int i = 0; i < 12; i++) {
		pick(NULL, NULL, 1, &at);
		CHECK_MSG(last == UINT32_MAX || at == (last + 1) % 4, "%u behind %u", at, last);
		last = at;
	}
	use(settings(MESH_LB_ROUND_ROBIN), unequal, 3);
	counts(80, 1, got);
	CHECK(got[0] == 10 && got[1] == 20 && got[2] == 50);
	done();
}

/* Of two that are drawn the idle one: the busy one of four is chosen only when it is drawn twice. */
TEST(least_request)
{
	uint32_t got[NR_MAX], at;
	struct lb_host *h;

	use(settings(MESH_LB_LEAST_REQUEST), four, 4);
	h = pick(NULL, NULL, 1, &at);
	atomic_fetch_add(&h->active, 3);
	counts(40000, 1, got);
	CHECK_MSG(near(got[at], 40000, 1.0 / 16), "%u", got[at]);
	atomic_fetch_sub(&h->active, 3);
	/* By weight / (active + 1) as it is resampled from four: far below its share. */
	use(settings(MESH_LB_LEAST_REQUEST), unequal, 3);
	do
		h = pick(NULL, NULL, 1, &at);
	while (at != 2);
	atomic_fetch_add(&h->active, 9);
	counts(40000, 1, got);
	CHECK_MSG(got[2] < 40000 * 0.40 && got[2] > 40000 * 0.15, "%u", got[2]);
	atomic_fetch_sub(&h->active, 9);
	done();
}

/* Connections on the fullest of 100 endpoints, when 3000 came and none has gone. */
static uint32_t fullest(enum mesh_lb kind)
{
	struct lb_host *held[3000];
	uint32_t got[NR_MAX] = { 0 }, most = 0, at;
	struct end ends[NR_MAX];
	char texts[NR_MAX][16];

	for (uint32_t i = 0; i < NR_MAX; i++) {
		snprintf(texts[i], sizeof(texts[i]), "10.2.0.%u", i + 1);
		ends[i] = (struct end){ texts[i], 1, 0 };
	}
	use(settings(kind), ends, NR_MAX);
	for (uint32_t i = 0; i < 3000; i++) {
		held[i] = pick(NULL, NULL, 1, &at);
		atomic_fetch_add(&held[i]->active, 1);
		got[at]++;
		most = got[at] > most ? got[at] : most;
	}
	for (uint32_t i = 0; i < 3000; i++)
		atomic_fetch_sub(&held[i]->active, 1);
	done();
	return most;
}

/*
 * m balls into n bins, each the emptier of two: the fullest has m/n + ln ln n / ln 2 + O(1) (Berenbrink, Czumaj, Steger and Voecking 2000);
 * one at random: m/n + sqrt(2 m/n ln n), about. The draws are the same in each run.
 */
TEST(two_choices_fill_evenly)
{
	uint32_t two = fullest(MESH_LB_LEAST_REQUEST), one = fullest(MESH_LB_RANDOM);

	CHECK_MSG(two <= 30 + 3 + 3, "fullest of two choices: %u", two);
	CHECK_MSG(one >= 40 && one <= 30 + 17 + 8, "fullest at random: %u", one);
}

/* The same key leads to the same endpoint; when one goes, its keys alone move (ring), and few others (Maglev). */
TEST(consistent)
{
	static const enum mesh_lb kinds[] = { MESH_LB_RING, MESH_LB_MAGLEV };

	for (int k = 0; k < 2; k++) {
		static uint32_t before[4000];
		uint32_t at, moved = 0, gone = 0;

		use(settings(kinds[k]), four, 4);
		for (uint64_t i = 0; i < 4000; i++) {
			uint64_t key = i * 0x9e3779b97f4a7c15ull;

			pick(&key, NULL, 1, &before[i]);
			pick(&key, NULL, 1, &at);
			CHECK(at == before[i]);
		}
		use(settings(kinds[k]), four, 3);
		for (uint64_t i = 0; i < 4000; i++) {
			uint64_t key = i * 0x9e3779b97f4a7c15ull;

			pick(&key, NULL, 1, &at);
			gone += before[i] == 3;
			moved += before[i] != 3 && at != before[i];
		}
		CHECK_MSG(near(gone, 4000, 0.25) || (kinds[k] == MESH_LB_RING && gone > 600 && gone < 1500), "%u",
			  gone);
		CHECK_MSG(kinds[k] == MESH_LB_RING ? !moved : moved < 300, "kind %d: %u moved", kinds[k], moved);
	}
	done();
}

TEST(tried_ones_are_passed_over)
{
	static const enum mesh_lb kinds[] = { MESH_LB_RANDOM, MESH_LB_LEAST_REQUEST, MESH_LB_ROUND_ROBIN, MESH_LB_RING,
					      MESH_LB_MAGLEV };

	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		use(settings(kinds[k]), four, 4);
		for (int i = 0; i < 200; i++) {
			struct lb_tried tried = { .nr = 0 };
			uint32_t at, seen = 0;
			uint64_t key = draw();

			for (int t = 0; t < 4; t++) {
				tried.v[t] = pick(&key, &tried, 1, &at);
				tried.nr++;
				seen |= 1u << at;
			}
			CHECK_MSG(seen == 15, "kind %d: %x", kinds[k], seen);
			CHECK(pick(&key, &tried, 1, &at));
		}
	}
	done();
}

/* ---- ejection ---- */

static struct mesh_http_cluster outlier(enum mesh_lb kind)
{
	struct mesh_http_cluster c = settings(kind);

	c.outlier = 1;
	c.consecutive_5xx = 3;
	return c;
}

static struct lb_host *the(uint32_t nr, uint64_t now_ms)
{
	struct lb_host *h;
	uint32_t at;

	for (int i = 0; i < 1000; i++) {
		h = pick(NULL, NULL, now_ms, &at);
		if (at == nr)
			return h;
	}
	return NULL;
}

static uint64_t results(struct lb_host *h, uint16_t status, bool local, uint32_t n, uint64_t now_ms)
{
	uint64_t ms = 0;

	for (uint32_t i = 0; i < n; i++)
		ms = lb_result(lb_of(view, image, cluster), h, status, local, now_ms);
	return ms;
}

TEST(ejected_for_failures_in_a_row)
{
	static const enum mesh_lb kinds[] = { MESH_LB_RANDOM, MESH_LB_LEAST_REQUEST, MESH_LB_ROUND_ROBIN, MESH_LB_RING,
					      MESH_LB_MAGLEV };
	uint32_t got[NR_MAX];

	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		struct lb_host *h;

		use(outlier(kinds[k]), four, 4);
		h = the(1, 1000);
		CHECK_INT(results(h, 500, false, 2, 1000), 0);
		CHECK_INT(results(h, 200, false, 1, 1000), 0);
		CHECK_INT(results(h, 500, false, 2, 1000), 0);
		CHECK_INT(results(h, 0, true, 1, 1000), 3000);
		counts(1000, 3999, got);
		CHECK_MSG(!got[1] && got[0] && got[2] && got[3], "kind %d: %u", kinds[k], got[1]);
		counts(1000, 4000, got);
		CHECK_MSG(got[1], "kind %d", kinds[k]);
		/* Longer the second time; an interval in which it was well takes that back. */
		CHECK_INT(results(h, 503, false, 3, 4500), 6000);
		CHECK_INT(results(h, 503, false, 3, 11600), 6000);
		CHECK_INT(results(h, 503, false, 3, 30000), 3000);
		done();
	}
}

TEST(what_counts_as_a_failure)
{
	struct mesh_http_cluster c = outlier(MESH_LB_RANDOM);
	struct lb_host *h;

	c.consecutive_5xx = 0;
	c.consecutive_gateway = 2;
	use(c, four, 4);
	h = the(0, 1);
	CHECK_INT(results(h, 500, false, 10, 1), 0);
	CHECK_INT(results(h, 501, false, 10, 1), 0);
	CHECK_INT(results(h, 502, false, 1, 1), 0);
	CHECK_INT(results(h, 504, false, 1, 1), 3000);
	h = the(1, 1);
	CHECK_INT(results(h, 0, true, 2, 1), 3000);
	/* Counted apart, they are no answers of a gateway. */
	c.consecutive_local = 4;
	use(c, four, 4);
	h = the(2, 1);
	CHECK_INT(results(h, 0, true, 3, 1), 0);
	CHECK_INT(results(h, 0, true, 1, 1), 3000);
	h = the(3, 1);
	CHECK_INT(results(h, 0, true, 3, 1), 0);
	CHECK_INT(results(h, 200, false, 1, 1), 0);
	CHECK_INT(results(h, 0, true, 3, 1), 0);
	done();
}

TEST(limits_of_ejection)
{
	struct mesh_http_cluster c = outlier(MESH_LB_RANDOM);
	struct lb_host *h[4];
	uint32_t got[NR_MAX], at;

	c.max_ejection_percent = 50;
	use(c, four, 4);
	for (uint32_t i = 0; i < 4; i++)
		h[i] = the(i, 1);
	CHECK(results(h[0], 500, false, 3, 1) && results(h[1], 500, false, 3, 1));
	CHECK_INT(results(h[2], 500, false, 3, 1), 0);
	/* With fewer than that left nobody is passed over. */
	c.min_health_percent = 50;
	use(c, four, 4);
	counts(1000, 2, got);
	CHECK(!got[0] && !got[1]);
	c.min_health_percent = 51;
	use(c, four, 4);
	counts(1000, 2, got);
	CHECK(got[0] && got[1] && got[2] && got[3]);
	done();

	/* One may be, whatever the share: and then there is nobody. */
	c = outlier(MESH_LB_RANDOM);
	c.max_ejection_percent = 10;
	use(c, four, 1);
	h[0] = the(0, 1);
	CHECK_INT(results(h[0], 500, false, 3, 1), 3000);
	CHECK(!pick(NULL, NULL, 2, &at));
	CHECK(pick(NULL, NULL, 3001, &at));
	done();
}

TEST(levels)
{
	static const struct end ends[] = {
		{ "10.2.0.1", 1, 0 }, { "10.2.0.2", 1, 0 }, { "10.2.0.3", 1, 1 }, { "10.2.0.4", 1, 3 }
	};
	struct lb_host *h[2];
	uint32_t got[NR_MAX];

	use(outlier(MESH_LB_LEAST_REQUEST), ends, 4);
	counts(1000, 1, got);
	CHECK(got[0] && got[1] && !got[2] && !got[3]);
	h[0] = the(0, 1);
	h[1] = the(1, 1);
	/* Half of the level is left: it takes 70 of a hundred. */
	results(h[0], 500, false, 3, 1);
	counts(40000, 2, got);
	CHECK_MSG(!got[0] && near(got[1], 40000, 0.7) && near(got[2], 40000, 0.3) && !got[3], "%u %u", got[1], got[2]);
	results(h[1], 500, false, 3, 1);
	counts(1000, 2, got);
	CHECK(!got[0] && !got[1] && got[2] && !got[3]);
	done();
}

/* ---- what outlives rules ---- */

TEST(state_outlives_rules)
{
	struct mesh_http_cluster c = outlier(MESH_LB_RANDOM);
	struct lb_cluster *state;
	struct lb_host *h, *gone;
	uint32_t got[NR_MAX];

	c.max_connections = 2;
	use(c, four, 4);
	state = lb_of(view, image, cluster);
	h = the(1, 1);
	gone = the(3, 1);
	CHECK(lb_take(state, LB_CONNECTIONS) && lb_take(state, LB_CONNECTIONS));
	CHECK(!lb_take(state, LB_CONNECTIONS) && lb_take(state, LB_PENDING));
	lb_give(state, LB_PENDING);
	atomic_fetch_add(&gone->conns, 1);
	results(h, 500, false, 3, 1);
	c.max_connections = 3;
	use(c, four, 3);
	CHECK(lb_of(view, image, cluster) == state && atomic_load(&h->ejected_until_ms) == 3001);
	counts(1000, 2, got);
	CHECK(got[0] && !got[1] && got[2]);
	CHECK(lb_take(state, LB_CONNECTIONS) && !lb_take(state, LB_CONNECTIONS));
	/* It is in no rules any more, and still counted on. */
	CHECK_INT(atomic_load(&gone->conns), 1);
	use(c, four, 4);
	CHECK(the(3, 2) == gone);
	atomic_fetch_sub(&gone->conns, 1);
	for (int i = 0; i < 3; i++)
		lb_give(state, LB_CONNECTIONS);
	done();
}

TEST(workers_share_a_view)
{
	struct lb_view *second;

	use(settings(MESH_LB_RANDOM), four, 4);
	second = lb_attach(lb, rules);
	CHECK(second == view);
	lb_detach(second);
	use(settings(MESH_LB_RANDOM), four, 0);
	CHECK(!the(0, 1));
	done();
}
