/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * user/plane against a real kernel: apply and what it costs, undo on full tables, adoption, the lock, pods, names, flows, networks,
 * unload.
 */
#include "plane_place.h"

/* Against plain bytes: what is given out is free, aligned and in range, and comes back whole. */
TEST(runs_and_slots_agree_with_a_byte_map)
{
	enum { MAX = 3000, HELD = 200 };
	uint8_t *taken = xcalloc(MAX, 1);
	struct {
		uint32_t at, nr;
	} held[HELD] = { { 0 } };
	struct runs runs, again;
	struct slots slots;
	uint64_t seed = 1;
	uint32_t at, wrong = 0, given = 0, sum = 0;

	runs_init(&runs, MAX);
	for (uint32_t i = 0; i < 100000; i++) {
		uint32_t k = (uint32_t)(peer_random(&seed) % HELD), nr = 1 + (uint32_t)(peer_random(&seed) % 60);

		if (held[k].nr) {
			runs_put(&runs, held[k].at, held[k].nr);
			memset(taken + held[k].at, 0, held[k].nr);
			held[k].nr = 0;
		} else if (runs_get(&runs, nr, &at)) {
			given++;
			wrong += at + nr > MAX || memchr(taken + at, 1, nr);
			memset(taken + at, 1, nr);
			held[k].at = at;
			held[k].nr = nr;
		}
	}
	CHECK_INT(wrong, 0);
	CHECK(given > 10000);
	/* The same runs can be taken by place, once. */
	runs_init(&again, MAX);
	for (uint32_t k = 0; k < HELD; k++) {
		if (!held[k].nr)
			continue;
		CHECK(runs_take(&again, held[k].at, held[k].nr));
		CHECK(!runs_take(&again, held[k].at, held[k].nr));
		runs_put(&runs, held[k].at, held[k].nr);
	}
	CHECK_INT(runs.nr, 0);
	CHECK(runs_get(&runs, 2048, &at) && !runs_get(&runs, 2048, &at));
	slots_init(&slots, 130);
	while ((at = slots_get(&slots)))
		sum += at;
	CHECK_INT(sum, 129 * 130 / 2);
	slots_put(&slots, 77);
	slots_put(&slots, 77);
	CHECK_INT(slots.nr, 128);
	CHECK_INT(slots_get(&slots), 77);
	CHECK(!slots_take(&slots, 5) && !slots_take(&slots, 130));
	slots_release(&slots);
	runs_release(&runs);
	runs_release(&again);
	free(taken);
}

TEST(fresh_start_routes_and_unload_leaves_nothing)
{
	struct snapshot *s = two_services(false);
	struct plane *p = plane_start();
	struct plane_applied applied;
	struct buf status = { 0 };
	struct answer a;
	struct made made;
	struct json j;

	pod_start(0);
	applied = apply(p, s);
	CHECK_INT(applied.units_changed, 2);
	CHECK_INT(applied.rows_written, 2);
	CHECK_INT(applied.pods_changed, 1);
	CHECK_INT(applied.epoch, 1);
	a = dial(0, VIP(1), 80, 200);
	CHECK_INT(a.failed, 0);
	CHECK_INT(a.peer_wrong, 0);
	CHECK(a.by_port[0] > 50 && a.by_port[1] > 50 && a.by_port[0] + a.by_port[1] == 200);
	a = dial(0, VIP(2), 80, 10);
	CHECK_INT(a.by_port[2], 10);
	/* Dialled directly: untouched. */
	a = dial(0, 0x0a010001, PORT + 3, 5);
	CHECK_INT(a.by_port[3], 5);
	json_init(&j, &status);
	plane_status(p, &j);
	CHECK(strstr(status.data, "\"connect4\":{\"routed\":210,") && strstr(status.data, "\"enrolled\":1,"));
	if (getenv("PLANE_TEST_STATUS"))
		puts(status.data);
	buf_release(&status);
	applied = apply(p, s);
	CHECK_INT(applied.units_changed + applied.rows_written + applied.pods_changed, 0);
	CHECK_INT(applied.epoch, 1);
	made = made_by(p);
	unload(p);
	snapshot_unref(s);
	pod_stop(&procs[0]);
	check_nothing_left(&made);
}

/* The tracepoints see every socket of the host, so they come with the first UDP service, and a restart keeps them. */
TEST(udp_is_counted_from_the_first_udp_service_on)
{
	struct snapshot *s = two_services(false), *t;
	struct plane *p = plane_start();
	struct buf b = { 0 };
	struct made made;

	apply(p, s);
	CHECK(!p->traced);
	add_pods(&b);
	buf_printf(&b, "---\napiVersion: v1\nkind: Service\nmetadata: {name: dns}\nspec: {clusterIP: 10.96.0.9, ports: "
		       "[{name: a, port: 53, protocol: UDP}]}\n");
	t = compile(&b, NULL);
	apply(p, t);
	CHECK(p->traced);
	plane_close(p);
	p = plane_start();
	CHECK(p->traced);
	made = made_by(p);
	CHECK(made.links[PLANE_PROG_SEND] && made.links[PLANE_PROG_RECV]);
	unload(p);
	snapshot_unref(s);
	snapshot_unref(t);
	check_nothing_left(&made);
}

TEST(changes_touch_what_changed)
{
	struct snapshot *s = two_services(false), *t = two_services(true);
	struct plane *p = plane_start();
	struct plane_applied applied;
	uint32_t a_row;

	pod_start(0);
	apply(p, s);
	a_row = p->lowered[0]->slot[0];
	applied = apply(p, t);
	CHECK_INT(applied.units_changed, 1);
	CHECK_INT(applied.rows_written, 1);
	CHECK_INT(applied.epoch, 2);
	CHECK_INT(p->lowered[0]->slot[0], a_row);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[3], 5);
	settle(p);
	CHECK_INT(p->row_slots.nr, 2);
	CHECK_INT(p->cluster_slots.nr, 2);
	CHECK_INT(p->backend_slots.nr, 3);
	CHECK_INT(p->runs.nr, 2 + 1 + 2); /* two endpoints, one, and a row each */
	unload(p);
	snapshot_unref(s);
	snapshot_unref(t);
}

TEST(removed_services_leave_the_map)
{
	struct buf text = { 0 };
	struct snapshot *s = two_services(false), *only_a;
	struct plane *p = plane_start();
	struct plane_applied applied;
	struct mesh_key key = { .prefix_len = 128, .port_be = htons(80), .proto = MESH_PROTO_TCP };
	uint32_t row;

	add_pods(&text);
	add_service(&text, "a", 1, 0, 2);
	only_a = compile(&text, NULL);
	key.addr = (struct mesh_addr){ { 0, 0, htonl(0xffff), htonl(VIP(2)) } };
	pod_start(0);
	apply(p, s);
	CHECK_INT(bpf_map_lookup_elem(p->map_fd[PLANE_MAP_SERVICES], &key, &row), 0);
	applied = apply(p, only_a);
	CHECK_INT(applied.rows_removed, 1);
	CHECK_INT(dial(0, VIP(2), 80, 1).first_errno, ENETUNREACH);
	/* It comes back before its key was deleted. */
	applied = apply(p, s);
	CHECK_INT(applied.rows_written, 1);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[2], 5);
	settle(p);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[2], 5);
	apply(p, only_a);
	settle(p);
	CHECK(bpf_map_lookup_elem(p->map_fd[PLANE_MAP_SERVICES], &key, &row));
	CHECK_INT(p->row_slots.nr, 1);
	CHECK_INT(p->gone_nr, 0);
	apply(p, s);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[2], 5);
	unload(p);
	snapshot_unref(s);
	snapshot_unref(only_a);
}

TEST(full_tables_change_nothing_and_say_so)
{
	struct settings set = settings();
	struct snapshot *s = two_services(false), *many, *wide;
	struct buf text = { 0 }, err = { 0 };
	struct plane_applied applied;
	struct plane *p;
	uint32_t rows, runs;

	set.max_services = 8;
	set.max_endpoints = 8;
	add_pods(&text);
	for (uint32_t i = 1; i <= 9; i++) {
		char name[16];

		snprintf(name, sizeof(name), "s%u", i);
		add_service(&text, name, i, 0, 1);
	}
	many = compile(&text, NULL);
	add_pods(&text);
	add_service(&text, "a", 1, 0, 40);
	wide = compile(&text, NULL);
	p = plane_new_with(&set);
	pod_start(0);
	apply(p, s);
	rows = p->row_slots.nr;
	runs = p->runs.nr;
	CHECK_INT(plane_apply(p, many, &applied, &err), -ENOSPC);
	CHECK_MSG(strstr(err.data, "max-services"), "%s", err.data);
	buf_clear(&err);
	CHECK_INT(plane_apply(p, wide, &applied, &err), -ENOSPC);
	CHECK_MSG(strstr(err.data, "max-endpoints"), "%s", err.data);
	CHECK_INT(applied.epoch, 1);
	CHECK_INT(p->row_slots.nr, rows);
	CHECK_INT(p->runs.nr, runs);
	settle(p); /* endpoints that nobody came to know wait as well */
	CHECK_INT(p->backend_slots.nr, 3);
	CHECK_INT(dial(0, VIP(1), 80, 10).ok, 10);
	CHECK_INT(dial(0, VIP(2), 80, 10).ok, 10);
	unload(p);
	buf_release(&err);
	snapshot_unref(s);
	snapshot_unref(many);
	snapshot_unref(wide);
}

/* As many rows as the settings allow, and none of the next set's keys in common but one: slots run dry each time. */
TEST(full_rule_sets_replace_each_other)
{
	struct settings set = settings();
	struct snapshot *s[2];
	struct buf text = { 0 };
	struct plane *p;
	struct answer a;

	set.max_services = 64;
	set.max_endpoints = 64; /* each service has one of its own */
	for (uint32_t k = 0; k < 2; k++) {
		add_pods(&text);
		add_service(&text, "a", 1, k, 1);
		for (uint32_t i = 2; i <= 64; i++) {
			char name[16];

			snprintf(name, sizeof(name), "s%u", i);
			add_service(&text, name, k * 100 + i, k, 1);
		}
		s[k] = compile(&text, NULL);
	}
	p = plane_new_with(&set);
	pod_start(0);
	apply(p, s[0]);
	dial_begin(0, VIP(1), 80, 10000);
	for (uint32_t i = 1; i < 30; i++)
		CHECK_INT(apply(p, s[i & 1]).rows_written, 64);
	a = dial_end(0);
	CHECK_INT(a.failed, 0);
	CHECK_INT(dial(0, VIP(150), 80, 5).by_port[1], 5);
	CHECK_INT(dial(0, VIP(50), 80, 1).first_errno, ENETUNREACH);
	settle(p);
	CHECK_INT(p->row_slots.nr, 64);
	CHECK_INT(p->backend_slots.nr, 64);
	unload(p);
	snapshot_unref(s[0]);
	snapshot_unref(s[1]);
}

/* Every write of rows fails at some point; all of it is taken back. */
TEST(a_failed_write_is_taken_back)
{
	struct snapshot *s = two_services(false), *t = two_services(true);
	struct plane *p = plane_start();
	struct plane_applied applied;
	struct buf err = { 0 };
	int names, fd;

	pod_start(0);
	apply(p, s);
	/* A map of another kind in place of mesh_netns: the rules are written by then. */
	fd = p->map_fd[PLANE_MAP_NETNS];
	names = open("/dev/null", O_RDONLY);
	p->map_fd[PLANE_MAP_NETNS] = names;
	pod_start(1);
	podscan_tree(p);
	CHECK(plane_apply(p, t, &applied, &err) < 0);
	CHECK_MSG(err.data && strstr(err.data, "mesh_netns"), "%s", err.data ? err.data : "no error");
	p->map_fd[PLANE_MAP_NETNS] = fd;
	close(names);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[2], 5);
	settle(p);
	CHECK_INT(p->row_slots.nr, 2);
	CHECK_INT(p->pod_slots.nr, 1);
	apply(p, t);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[3], 5);
	/* Pod 1 has no servers at 10.1.0.1, but it is routed there. */
	CHECK_INT(dial(1, VIP(2), 80, 1).first_errno, ENETUNREACH);
	CHECK_INT(p->pods.enrolled_nr, 2);
	unload(p);
	buf_release(&err);
	snapshot_unref(s);
	snapshot_unref(t);
	pod_stop(&procs[1]);
}

struct seen {
	uint32_t nr, service_id, closed;
	char json[2048];
};

static bool see(void *data, const struct flow_view *v)
{
	struct seen *s = data;
	struct buf b = { 0 };
	struct json j;

	s->nr++;
	s->closed += v->closed_realtime_ns != 0;
	s->service_id = v->flow->service_id;
	json_init(&j, &b);
	flow_json(&j, v);
	snprintf(s->json, sizeof(s->json), "%s", b.data);
	buf_release(&b);
	return true;
}

TEST(a_restart_adopts_what_runs)
{
	struct snapshot *s = two_services(false), *t = two_services(true);
	struct plane *p = plane_start();
	struct seen before = { 0 }, after = { 0 };
	struct plane_applied applied;
	uint32_t first_id;

	pod_start(0);
	apply(p, s);
	first_id = row_at(p, p->lowered[0]->slot[0])->service_id;
	CHECK_INT(dial(0, VIP(1), 80, 5).ok, 5);
	plane_close(p);
	CHECK_INT(dial(0, VIP(1), 80, 5).ok, 5);
	p = plane_start();
	CHECK(p->adopted_pins);
	CHECK_INT(dial(0, VIP(1), 80, 5).ok, 5);
	CHECK_INT(p->row_slots.nr, 2);
	CHECK_INT(p->backend_slots.nr, 3);
	/* The last one may still be closing. */
	for (uint32_t i = 0; i < 100 && before.closed < 15; i++) {
		usleep(10000);
		before = (struct seen){ 0 };
		CHECK_INT(plane_flows(p, &(struct flow_filter){ 0 }, see, &before), 0);
	}
	CHECK_INT(before.nr, 15);
	CHECK_INT(before.closed, 15);
	CHECK_MSG(strstr(before.json, "\"service\":\"a\"") && strstr(before.json, "\"pod\":\"p0\""), "%s", before.json);
	applied = apply(p, t);
	CHECK_INT(applied.epoch, 2);
	CHECK_INT(row_at(p, p->lowered[0]->slot[0])->service_id, first_id);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[3], 5);
	settle(p);
	CHECK_INT(p->row_slots.nr, 2);
	CHECK_INT(p->cluster_slots.nr, 2);
	CHECK_INT(p->backend_slots.nr, 3);
	CHECK_INT(p->runs.nr, 5);
	CHECK_INT(p->pod_slots.nr, 1);
	CHECK_INT(plane_flows(p, &(struct flow_filter){ .service = STR("default/b") }, see, &after), 0);
	CHECK_INT(after.nr, 5);
	unload(p);
	snapshot_unref(s);
	snapshot_unref(t);
}

TEST(an_apply_that_was_never_committed_is_rolled_back)
{
	struct snapshot *s = two_services(false), *t = two_services(true);
	struct rowset rows = { 0 };
	struct plane *p = plane_start();
	struct lowered *l = NULL;
	struct buf err = { 0 };

	pod_start(0);
	apply(p, s);
	/* What plane_apply does, up to the store that commits. */
	CHECK_INT(lower_unit(p, t->units[1], p->next_epoch, &l, &err), 0);
	rowset_new(p, &rows, l);
	rowset_old(p, &rows, p->lowered[1]);
	CHECK_INT(rowset_prepare(p, &rows, p->next_epoch, &err), 0);
	CHECK_INT(rowset_write(p, &rows, &err), 0);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[2], 5);
	rowset_release(&rows);
	free(l);
	plane_close(p);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[2], 5);
	p = plane_start();
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[2], 5);
	CHECK_INT(p->row_slots.nr, 2);
	apply(p, t);
	CHECK_INT(dial(0, VIP(2), 80, 5).by_port[3], 5);
	unload(p);
	snapshot_unref(s);
	snapshot_unref(t);
}

TEST(one_meshd_a_pin_directory)
{
	struct settings s = settings(), other = settings();
	struct plane *p = plane_start(), *q = NULL;
	struct buf err = { 0 };

	CHECK_INT(plane_open(&s, &q, &err), -EBUSY);
	CHECK_MSG(strstr(err.data, "another meshd"), "%s", err.data);
	buf_clear(&err);
	CHECK_INT(plane_unload(&s, &err), -EBUSY);
	plane_close(p);
	other.max_services *= 2;
	buf_clear(&err);
	CHECK_INT(plane_open(&other, &q, &err), -EEXIST);
	CHECK_MSG(strstr(err.data, "max-"), "%s", err.data);
	unload(plane_start());
	/* Without a link nobody uses the maps: other sizes are no reason to refuse. */
	unload(plane_new_with(&other));
	buf_release(&err);
}

TEST(pods_are_found_and_impostors_are_not)
{
	struct buf text = { 0 };
	struct snapshot *s;
	struct plane *p = plane_start();

	pod_stop(&procs[0]);
	add_pods(&text);
	add_service(&text, "a", 1, 0, 2);
	buf_printf(&text, "---\napiVersion: v1\nkind: Pod\nmetadata: {name: noted, uid: u9, annotations: "
			  "{tulle.dev/cgroup: some/where}}\n"
			  "spec: {nodeName: node, containers: []}\nstatus: {podIP: 10.1.0.9}\n");
	s = compile(&text, NULL);
	apply(p, s);
	CHECK_INT(plane_rescan(p), 0);
	pod_start(0);
	CHECK_INT(plane_rescan(p), 1);
	/* Right cgroup, right address, own user namespace. */
	pod_start_as(1, "poduid-1", "10.1.0.2", true);
	CHECK_INT(plane_rescan(p), 1);
	/* Right cgroup, another address. */
	pod_start_as(1, "poduid-1", "10.1.0.77", false);
	CHECK_INT(plane_rescan(p), 1);
	/* As systemd names it. */
	pod_start_as(1, "kubepods-besteffort-poduid_1.slice", "10.1.0.2", false);
	CHECK_INT(plane_rescan(p), 2);
	pod_stop(&procs[1]);
	CHECK_INT(plane_rescan(p), 1);
	snprintf(procs[1].cgroup, sizeof(procs[1].cgroup), "%s/some", cgroup);
	CHECK(!mkdir(procs[1].cgroup, 0755));
	pod_start_as(1, "some/where", "10.1.0.9", false);
	CHECK_INT(plane_rescan(p), 2);
	pod_stop(&procs[1]);
	CHECK_INT(plane_rescan(p), 1);
	snprintf(procs[1].cgroup, sizeof(procs[1].cgroup), "%s/some", cgroup);
	CHECK(!rmdir(procs[1].cgroup));
	settle(p);
	CHECK_INT(p->pod_slots.nr, 1);
	unload(p);
	snapshot_unref(s);
}

/* Waits until `nr` pods are enrolled by events alone. */
static bool events_enroll(struct plane *p, uint32_t nr)
{
	for (uint32_t i = 0; i < 300; i++) {
		uint32_t got = 0;

		plane_pods_event(p);
		for (uint32_t k = 0; k < p->pods.enrolled_nr; k++)
			got += !p->pods.enrolled[k].gone;
		if (got == nr)
			return true;
		usleep(10000);
	}
	return false;
}

TEST(events_enroll_pods)
{
	struct snapshot *s = two_services(false);
	struct plane *p = plane_start();

	pod_stop(&procs[0]);
	apply(p, s);
	pod_start(0);
	CHECK(events_enroll(p, 1));
	pod_start(1);
	CHECK(events_enroll(p, 2));
	pod_stop(&procs[0]);
	CHECK(events_enroll(p, 1));
	pod_stop(&procs[1]);
	CHECK(events_enroll(p, 0));
	unload(p);
	snapshot_unref(s);
}

/* Old and new share nothing but the address dialled; after 500 flips they are without idle time. They go on for as long as the pod
 * dials, which on a busy machine may begin after the first thousand. */
TEST(flips_under_load_lose_nothing)
{
	struct snapshot *s = two_services(false), *t = two_services(true);
	struct plane *p = plane_start();
	struct answer a;
	uint64_t most = 0;
	uint32_t rows = 0;

	pod_start(0);
	apply(p, s);
	dial_begin(0, VIP(2), 80, 20000);
	for (uint32_t i = 0; i < 1000 || !dial_ended(0); i++) {
		uint64_t ns = apply(p, i & 1 ? s : t).ns;

		most = ns > most ? ns : most;
		if (i < 500) {
			plane_idle(p);
			rows = p->row_slots.nr > rows ? p->row_slots.nr : rows;
		}
	}
	CHECK_MSG(rows < 1000, "%u rows in use", rows);
	printf("slowest flip %.3f ms\n", (double)most / 1e6);
	a = dial_end(0);
	CHECK_INT(a.failed, 0);
	CHECK_INT(a.ok, 20000);
	CHECK(a.by_port[2] && a.by_port[3]);
	settle(p);
	CHECK_INT(p->row_slots.nr, 2);
	CHECK_INT(p->runs.nr, 5);
	unload(p);
	snapshot_unref(s);
	snapshot_unref(t);
}

static struct snapshot *networks(bool narrow, uint32_t wide_port)
{
	struct buf b = { 0 };

	add_pods(&b);
	buf_printf(&b,
		   "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: wide}\n"
		   "spec: {hosts: [wide.example], addresses: [10.50.0.0/16], resolution: STATIC, "
		   "ports: [{number: 80, name: tcp, protocol: TCP}], endpoints: [{address: 10.1.0.1, ports: {tcp: "
		   "%u}}]}\n",
		   PORT + wide_port);
	if (narrow)
		buf_printf(&b,
			   "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: narrow}\n"
			   "spec: {hosts: [narrow.example], addresses: [10.50.1.0/24], resolution: STATIC, "
			   "ports: [{number: 80, name: tcp, protocol: TCP}], endpoints: [{address: 10.1.0.1, ports: "
			   "{tcp: %u}}]}\n",
			   PORT + 3);
	return compile(&b, NULL);
}

TEST(networks_come_and_go_inside_networks)
{
	struct snapshot *wide = networks(false, 0), *both = networks(true, 0), *other = networks(false, 1);
	struct plane *p = plane_start();
	struct answer a;

	pod_start(0);
	apply(p, wide);
	CHECK_INT(dial(0, 0x0a320105, 80, 5).by_port[0], 5);
	apply(p, both);
	CHECK_INT(dial(0, 0x0a320105, 80, 5).by_port[3], 5);
	CHECK_INT(dial(0, 0x0a320205, 80, 5).by_port[0], 5);
	/* The narrow one goes and the wide one changes in one apply. */
	apply(p, other);
	CHECK_INT(dial(0, 0x0a320105, 80, 5).by_port[1], 5);
	dial_begin(0, 0x0a320105, 80, 5000);
	for (uint32_t i = 0; i < 60; i++)
		apply(p, i % 3 == 0 ? both : i % 3 == 1 ? wide : other);
	a = dial_end(0);
	CHECK_INT(a.failed, 0);
	settle(p);
	CHECK_INT(p->row_slots.nr, 1);
	/* A restart finds the copy of a row around where a network went. */
	apply(p, both);
	apply(p, other);
	plane_close(p);
	p = plane_start();
	CHECK_INT(dial(0, 0x0a320105, 80, 5).by_port[1], 5);
	apply(p, both);
	CHECK_INT(dial(0, 0x0a320105, 80, 5).by_port[3], 5);
	unload(p);
	snapshot_unref(wide);
	snapshot_unref(both);
	snapshot_unref(other);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

TEST(big_rule_sets_are_fast_and_small)
{
	struct settings set = settings();
	struct buf text = { 0 };
	struct snapshot *s[2];
	struct plane_applied full, one[20];
	struct plane *p;
	uint64_t cpu;

	set.max_services = 65536;
	set.max_endpoints = 131072;
	set.max_flows = set.max_closed_flows = 65536;
	for (uint32_t k = 0; k < 2; k++) {
		add_pods(&text);
		for (uint32_t i = 0; i < 10000; i++) {
			char name[16];

			snprintf(name, sizeof(name), "s%u", i);
			buf_printf(&text,
				   "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {clusterIP: "
				   "10.96.%u.%u, ports: [{name: a, port: 80}]}\n",
				   name, i >> 8, i & 255);
			buf_printf(&text,
				   "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s, "
				   "labels: {kubernetes.io/service-name: %s}}\n"
				   "addressType: IPv4\nports: [{name: a, port: 8000}]\nendpoints:\n",
				   name, name);
			for (uint32_t e = 0; e < 10; e++)
				buf_printf(&text, "- addresses: [10.%u.%u.%u]\n", 128 + (i * 10 + e) / 65536,
					   (i * 10 + e) / 256 % 256,
					   (i * 10 + e + (k && i == 5000 && e == 5 ? 77 : 0)) % 256);
		}
		s[k] = compile(&text, k ? s[0] : NULL);
	}
	p = plane_new_with(&set);
	cpu = cpu_ns();
	full = apply(p, s[0]);
	cpu = cpu_ns() - cpu;
	plane_idle(p);
	CHECK_INT(full.units_changed, 10000);
	printf("full apply %.1f ms, %.1f ms of CPU\n", (double)full.ns / 1e6, (double)cpu / 1e6);
	for (uint32_t i = 0; i < 20; i++) {
		one[i] = apply(p, s[(i + 1) & 1]);
		CHECK_INT(one[i].units_changed, 1);
		plane_idle(p);
		usleep(30000);
	}
	for (uint32_t i = 0; i < 20; i += 5)
		printf("one endpoint %.1f us\n", (double)one[i].ns / 1e3);
	settle(p);
	CHECK_INT(p->row_slots.nr, 10000);
	plane_close(p);
	p = plane_new_with(&set);
	CHECK_INT(p->row_slots.nr, 10000);
	full = apply(p, s[0]);
	settle(p);
	CHECK_INT(p->row_slots.nr, 10000);
	printf("apply after a restart %.1f ms\n", (double)full.ns / 1e6);
	unload(p);
	snapshot_unref(s[0]);
	snapshot_unref(s[1]);
}
