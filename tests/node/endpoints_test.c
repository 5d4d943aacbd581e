/* SPDX-License-Identifier: BSD-2-Clause */
/* Endpoints as user/plane has them in the kernel: their numbers, and who is out of service. */
#include "plane_place.h"

/* A service of the endpoints 10.2.0.n, but each n that is a multiple of `left_out`. */
static struct snapshot *many_alike(uint32_t left_out)
{
	struct buf b = { 0 };

	add_pods(&b);
	buf_printf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.0.1, ports: "
		       "[{name: a, port: 80}]}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: "
		       "{name: a, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\n"
		       "ports: [{name: a, port: 80}]\nendpoints:\n");
	for (uint32_t n = 1; n <= 100; n++)
		if (n % left_out)
			buf_printf(&b, "- addresses: [10.2.0.%u]\n", n);
	return compile(&b, NULL);
}

/* How many columns of the one cluster have to be read; its columns name all endpoints once, as they do for those that are not read. */
static uint32_t columns_read(struct plane *p, uint32_t nr)
{
	const uint32_t *slot = p->lowered[0]->slot + p->lowered[0]->row_nr;
	const struct mesh_cluster *c = marray_at(&p->clusters, *slot, 1);
	const struct mesh_choice *columns = marray_at(&p->choices, c->choice, nr);
	const uint64_t *bits = marray_at(&p->tables, c->table, 2);
	uint32_t strays = 0, seen[256] = { 0 };

	CHECK_INT(c->choice_nr, nr);
	CHECK(c->first);
	for (uint32_t i = 0; i < nr; i++) {
		bool stray = c->flags & MESH_CLUSTER_STRAYS && bits[i / 64] >> i % 64 & 1;

		CHECK(stray || columns[i].primary == c->first + i);
		CHECK_INT(seen[ntohl(backend_at(p, columns[i].primary)->addr.w_be[3]) & 255]++, 0);
		strays += stray;
	}
	return strays;
}

TEST(columns_of_endpoints_that_follow_each_other_need_no_reading)
{
	struct snapshot *s = many_alike(10), *t = many_alike(25);
	struct settings set = settings();
	struct plane *p = plane_start();
	struct buf err = { 0 };

	apply(p, s);
	CHECK_INT(columns_read(p, 90), 0);
	/* Two of them go, and eight come. */
	apply(p, t);
	CHECK_INT(columns_read(p, 96), 2);
	plane_close(p);
	p = plane_start();
	apply(p, t);
	CHECK_INT(columns_read(p, 96), 2);
	/* One that is not what its columns say is not adopted. */
	((struct mesh_cluster *)marray_at(&p->clusters, p->lowered[0]->slot[p->lowered[0]->row_nr], 1))->first++;
	plane_close(p);
	CHECK_INT(plane_open(&set, &p, &err), -EUCLEAN);
	CHECK_MSG(strstr(err.data, "than its columns"), "%s", err.data);
	CHECK_INT(plane_unload(&set, &err), 0);
	buf_release(&err);
	snapshot_unref(s);
	snapshot_unref(t);
}

/* Service a with so many endpoints, which are ejected when they fail, or not. */
static struct snapshot *judged(uint32_t nr, bool outlier)
{
	struct buf b = { 0 };

	add_pods(&b);
	add_service(&b, "a", 1, 0, nr);
	if (outlier)
		buf_printf(&b, "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\n"
			       "spec: {host: a, trafficPolicy: {outlierDetection: {baseEjectionTime: 1h}}}\n");
	return compile(&b, NULL);
}

/* The endpoint at PORT + n. */
static struct mesh_backend *backend_n(struct plane *p, uint32_t n)
{
	for (uint32_t i = 1; i < p->map_max[PLANE_MAP_BACKENDS]; i++)
		if (slots_used(&p->backend_slots, i) && backend_at(p, i)->port_be == htons((uint16_t)(PORT + n)))
			return backend_at(p, i);
	die("no such endpoint");
	return NULL;
}

/* As the kernel does. */
static struct mesh_pool *eject_n(struct plane *p, uint32_t n)
{
	struct mesh_backend *b = backend_n(p, n);

	b->ejected_until_ns = UINT64_MAX;
	pool_at(p, b->pool)->ejected++;
	return pool_at(p, b->pool);
}

TEST(ejections_end_with_the_rule_that_asked_for_them)
{
	struct snapshot *s = judged(2, true), *t = judged(2, false);
	struct plane *p = plane_start();
	struct mesh_pool *pool;

	apply(p, s);
	pool = eject_n(p, 0);
	CHECK_INT(pool->ejected, 1);
	apply(p, t);
	CHECK_INT(pool->ejected, 0);
	CHECK_INT(backend_n(p, 0)->ejected_until_ns, 0);
	unload(p);
	snapshot_unref(s);
	snapshot_unref(t);
}

TEST(who_was_ejected_and_left_is_not_counted_after_a_kill)
{
	struct snapshot *s = judged(2, true), *t = judged(1, true);
	struct plane *p = plane_start();
	struct mesh_backend *b;

	apply(p, s);
	eject_n(p, 1);
	apply(p, t);
	/* Its grace period is not over. */
	plane_close(p);
	p = plane_start();
	apply(p, t);
	b = backend_n(p, 0);
	CHECK_INT(pool_at(p, b->pool)->endpoint_nr, 1);
	CHECK_INT(pool_at(p, b->pool)->ejected, 0);
	unload(p);
	snapshot_unref(s);
	snapshot_unref(t);
}
