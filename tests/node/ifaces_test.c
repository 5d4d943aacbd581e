/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs at interfaces against a real kernel, in a network namespace of the test's own: tcx links and filters, pods that come and
 * go, links and addresses of the node, programs of others, and what is left after --unload: nothing of ours, everything of theirs.
 */
#include <net/if.h>
#include <stdarg.h>

#include <bpf/libbpf.h>

#include "plane_place.h"

static void __attribute__((constructor)) network_make(void)
{
	if (unshare(CLONE_NEWNET) || system("ip link set lo up"))
		die("network");
}

static void __attribute__((format(printf, 1, 2))) sh(const char *fmt, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (system(command)) {
		fprintf(stderr, "failed: %s\n", command);
		exit(2);
	}
}

static bool shows(const char *command, const char *word)
{
	FILE *f = popen(command, "re");
	char line[1024];
	bool found = false;

	while (fgets(line, sizeof(line), f))
		found |= strstr(line, word) != NULL;
	pclose(f);
	return found;
}

/* A program that lets everything pass. */
static int pass_load(void)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = 0, .imm = -1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "theirs", "GPL", insns, sizeof(insns) / sizeof(*insns), NULL);

	if (fd < 0)
		die("bpf_prog_load");
	return fd;
}

static struct bpf_prog_info info_of(int fd)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	CHECK(!bpf_obj_get_info_by_fd(fd, &info, &len));
	return info;
}

/* What tc_list tells. */
struct listed {
	uint32_t ids[8], nr;
};

static void list_one(void *data, enum tc_how how, uint32_t id)
{
	struct listed *l = data;

	if (l->nr < 8)
		l->ids[l->nr++] = id;
}

static struct listed list(uint32_t ifindex, bool egress)
{
	struct listed l = { 0 };

	CHECK_INT(tc_list(ifindex, egress, list_one, &l), 0);
	return l;
}

static bool pinned(const char *fmt, const char *name, uint32_t ifindex)
{
	char path[256], file[128];

	snprintf(file, sizeof(file), fmt, name, ifindex);
	snprintf(path, sizeof(path), "%s/%s", pin, file);
	return !access(path, F_OK);
}

/* ---- one program at one interface ---- */

/* Runs of the program while datagrams go out of `out` to nobody. */
static uint64_t runs_of(int fd, const char *out)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0xc0000263) };
	uint64_t before = info_of(fd).run_cnt;
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, out, (socklen_t)strlen(out)))
		die("SO_BINDTODEVICE");
	for (uint32_t i = 0; i < 5; i++)
		CHECK_INT(sendto(s, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
	close(s);
	return info_of(fd).run_cnt - before;
}

/* A pair va-vb whose other end has a fixed neighbour 192.0.2.99. */
static uint32_t pair_make(void)
{
	sh("ip link add va type veth peer name vb && ip addr add 192.0.2.1/24 dev va && ip link set va up && "
	   "ip link set vb up && ip neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev va");
	return if_nametoindex("va");
}

static void one_program(enum tc_how how)
{
	uint32_t ifindex = pair_make();
	const struct tc_place out = { .pin = pin, .name = "mesh_to_pod", .ifindex = ifindex, .egress = true };
	const struct tc_place in = { .pin = pin, .name = "mesh_from_pod", .ifindex = ifindex };
	const struct tc_place none = { .pin = pin, .name = "mesh_to_pod", .ifindex = 99999, .egress = true };
	int a = pass_load(), b = pass_load(), stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	enum tc_how got;

	CHECK(stats >= 0 && !mkdir(pin, 0700));
	CHECK_INT(tc_attach(&none, a, how, &got), -ENODEV);
	tc_detach(&none);
	tc_release(pin, none.ifindex);
	CHECK_INT(tc_attach(&out, a, how, &got), 0);
	CHECK_INT(got, how);
	CHECK_INT(tc_attach(&in, a, how, &got), 0);
	CHECK_INT(list(ifindex, true).nr, 1);
	CHECK_INT(list(ifindex, false).nr, 1);
	CHECK(runs_of(a, "va") >= 5);
	/* Another program takes the place, and the first sees nothing any more. */
	CHECK_INT(tc_attach(&out, b, TC_NONE, &got), 0);
	CHECK_INT(got, how);
	CHECK_INT(list(ifindex, true).nr, 1);
	CHECK_INT(list(ifindex, true).ids[0], info_of(b).id);
	CHECK_INT(runs_of(a, "va"), 0);
	CHECK(runs_of(b, "va") >= 5);
	tc_detach(&in);
	CHECK_INT(list(ifindex, false).nr, 0);
	CHECK_INT(list(ifindex, true).nr, 1);
	tc_detach(&out);
	tc_release(pin, ifindex);
	CHECK_INT(list(ifindex, true).nr, 0);
	CHECK(!shows("tc qdisc show dev va", "clsact"));
	/* Nothing is pinned: the directory goes. */
	CHECK(!rmdir(pin));
	sh("ip link del va");
	close(stats);
	close(a);
	close(b);
}

TEST(a_link_is_put_on_replaced_and_taken_off)
{
	one_program(TC_TCX);
}

TEST(a_filter_stands_in_for_a_link)
{
	one_program(TC_CLSACT);
}

/* A qdisc that was there before, a filter of others in ours, and one of others at our place. */
TEST(qdiscs_and_filters_of_others_stay)
{
	uint32_t ifindex = pair_make();
	const struct tc_place at = { .pin = pin, .name = "mesh_from_pod", .ifindex = ifindex };
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, theirs, .priority = 7, .handle = 1);
	LIBBPF_OPTS(bpf_tc_opts, same, .priority = 1000, .handle = 0x7e55);
	int ours = pass_load(), other = pass_load();
	enum tc_how got;

	CHECK(!mkdir(pin, 0700));
	sh("tc qdisc add dev va clsact");
	CHECK_INT(tc_attach(&at, ours, TC_CLSACT, &got), 0);
	tc_detach(&at);
	tc_release(pin, ifindex);
	CHECK(shows("tc qdisc show dev va", "clsact"));
	sh("tc qdisc del dev va clsact");
	CHECK_INT(tc_attach(&at, ours, TC_CLSACT, &got), 0);
	theirs.prog_fd = same.prog_fd = other;
	CHECK_INT(bpf_tc_attach(&hook, &theirs), 0);
	CHECK_INT(list(ifindex, false).nr, 2);
	tc_detach(&at);
	tc_release(pin, ifindex);
	CHECK_INT(list(ifindex, false).nr, 1);
	CHECK_INT(list(ifindex, false).ids[0], info_of(other).id);
	CHECK_INT(bpf_tc_attach(&hook, &same), 0);
	CHECK_INT(tc_attach(&at, ours, TC_CLSACT, &got), -EEXIST);
	tc_detach(&at);
	tc_release(pin, ifindex);
	CHECK_INT(list(ifindex, false).nr, 2);
	CHECK(!rmdir(pin));
	sh("ip link del va");
	close(ours);
	close(other);
}

/* ---- pods ---- */

/* Gives a pod a link vp<i>, and its address to the other end. */
static void pod_link(uint32_t i)
{
	sh("ip link add vp%u type veth peer name eth0 netns %d && ip link set vp%u up", i, procs[i].pid, i);
	sh("nsenter -t %d -n sh -c 'ip addr del 10.1.0.%u/32 dev lo && ip link set eth0 up && ip addr add 10.1.0.%u/24 "
	   "dev eth0'",
	   procs[i].pid, i + 1, i + 1);
}

static uint32_t link_of(uint32_t i)
{
	char name[16];

	snprintf(name, sizeof(name), "vp%u", i);
	return if_nametoindex(name);
}

static struct mesh_iface row_of(struct plane *p, uint32_t ifindex)
{
	struct mesh_iface row = { 0 };
	struct mesh_load load = { .established = 77 };

	CHECK(!bpf_map_lookup_elem(p->map_fd[PLANE_MAP_IFACES], &ifindex, &row));
	CHECK(!bpf_map_lookup_elem(p->map_fd[PLANE_MAP_LOADS], &ifindex, &load));
	CHECK_INT(load.established, 0);
	return row;
}

static bool is_absent(struct plane *p, uint32_t ifindex)
{
	struct mesh_iface row;
	struct mesh_load load;

	return bpf_map_lookup_elem(p->map_fd[PLANE_MAP_IFACES], &ifindex, &row) &&
	       bpf_map_lookup_elem(p->map_fd[PLANE_MAP_LOADS], &ifindex, &load) &&
	       !pinned("link_%s_%u", "mesh_from_pod", ifindex) && !pinned("link_%s_%u", "mesh_to_pod", ifindex) &&
	       !pinned("filter_%s_%u", "mesh_from_pod", ifindex) && !pinned("filter_%s_%u", "mesh_to_pod", ifindex) &&
	       !pinned("qdisc_%.0s%u", "", ifindex);
}

static void check_at(struct plane *p, uint32_t ifindex)
{
	CHECK_INT(list(ifindex, true).nr, 1);
	CHECK_INT(list(ifindex, false).nr, 1);
	CHECK_INT(list(ifindex, true).ids[0], info_of(p->tc_fd[PLANE_TC_TO_POD]).id);
	CHECK_INT(list(ifindex, false).ids[0], info_of(p->tc_fd[PLANE_TC_FROM_POD]).id);
}

/* Waits until events alone have taken the programs off. */
static bool events_remove(struct plane *p, uint32_t ifindex)
{
	for (uint32_t i = 0; i < 300; i++) {
		plane_pods_event(p);
		if (!iface_find(p, ifindex))
			return true;
		usleep(10000);
	}
	return false;
}

static bool status_has(struct plane *p, const char *text)
{
	struct buf status = { 0 };
	struct json j;
	bool has;

	json_init(&j, &status);
	plane_status(p, &j);
	has = strstr(status.data, text);
	if (!has)
		fprintf(stderr, "%s\n", status.data);
	buf_release(&status);
	return has;
}

static void pods_come_and_go(enum tc_how how)
{
	struct snapshot *s = two_services(false);
	struct plane *p = plane_start();
	uint32_t at[PODS], id = 0;
	struct mesh_iface row;
	uint8_t mac[6];

	p->ifaces.how = how;
	for (uint32_t i = 0; i < 2; i++) {
		pod_start(i);
		pod_link(i);
		at[i] = link_of(i);
	}
	pod_start(2); /* its address is on no link */
	apply(p, s);
	for (uint32_t i = 0; i < 2; i++) {
		check_at(p, at[i]);
		row = row_of(p, at[i]);
		CHECK_INT(row.kind, MESH_IFACE_POD);
		CHECK(row.netns_cookie == p->pods.items[0].cookie || row.netns_cookie == p->pods.items[1].cookie ||
		      row.netns_cookie == p->pods.items[2].cookie);
	}
	for (uint32_t i = 0; i < p->pods.enrolled_nr; i++) {
		const struct mesh_pod *pod = pod_row_at(p, p->pods.enrolled[i].slot);

		CHECK_INT(pod->ifindex, iface_of(p, pod->netns_cookie));
		CHECK(pod->ifindex || !memcmp(&pod->addr[0].w_be[3], (uint8_t[]){ 10, 1, 0, 3 }, 4));
	}
	CHECK(status_has(p, how == TC_CLSACT ? "\"kind\":\"pod\",\"pod\":\"default/p0\",\"programs\":\"clsact\""
					     : "\"kind\":\"pod\",\"pod\":\"default/p0\",\"programs\":\"tcx\""));
	CHECK(status_has(p, "{\"pod\":\"default/p2\",\"why\":\"its address is on no link\"}"));
	CHECK(status_has(p, "\"foreign_programs\":[]"));
	/* What a link may claim is fixed: another address of the pod's own making changes nothing. */
	row = row_of(p, at[0]);
	memcpy(mac, row.mac, sizeof(mac));
	sh("nsenter -t %d -n sh -c 'ip link set eth0 address 02:00:00:00:00:77'", procs[0].pid);
	CHECK_INT(plane_rescan(p), 3);
	row = row_of(p, at[0]);
	CHECK(!memcmp(mac, row.mac, sizeof(mac)));
	if (how == TC_TCX) {
		char name[64];

		snprintf(name, sizeof(name), "mesh_from_pod_%u", at[0]);
		id = link_id(name);
	}
	/* A restart puts its own programs in place of the old ones. */
	plane_close(p);
	p = plane_start();
	check_at(p, at[0]);
	check_at(p, at[1]);
	apply(p, s);
	check_at(p, at[0]);
	check_at(p, at[1]);
	if (how == TC_TCX) {
		char name[64];

		snprintf(name, sizeof(name), "mesh_from_pod_%u", at[0]);
		CHECK_INT(link_id(name), id);
	}
	/* Moving the address to a link of its own does not get a pod away from the programs. */
	sh("nsenter -t %d -n sh -c 'ip link add d0 type veth peer name d1 && ip link set d0 up && ip addr del "
	   "10.1.0.1/24 dev eth0 "
	   "&& "
	   "ip addr add 10.1.0.1/24 dev d0'",
	   procs[0].pid);
	CHECK_INT(plane_rescan(p), 3);
	check_at(p, at[0]);
	sh("ip link del vp0");
	CHECK(events_remove(p, at[0]) && is_absent(p, at[0]));
	pod_stop(&procs[1]);
	CHECK(events_remove(p, at[1]) && is_absent(p, at[1]));
	unload(p);
	pod_stop(&procs[0]);
	pod_stop(&procs[2]);
	snapshot_unref(s);
}

TEST(links_follow_pods)
{
	pods_come_and_go(TC_TCX);
}

TEST(filters_follow_pods)
{
	pods_come_and_go(TC_CLSACT);
}

/* A rule set without the pod, its link still there; then unload with programs of others beside ours. */
static void others_stay(enum tc_how how)
{
	struct buf text = { 0 };
	struct snapshot *s = two_services(false), *without;
	struct plane *p = plane_start();
	int theirs = pass_load(), link;
	struct made made;
	uint32_t at;

	add_service(&text, "a", 1, 0, 2);
	without = compile(&text, NULL);
	p->ifaces.how = how;
	pod_start(0);
	pod_link(0);
	at = link_of(0);
	link = bpf_link_create(theirs, (int)at, (enum bpf_attach_type)46, NULL);
	CHECK(link >= 0);
	apply(p, s);
	CHECK_INT(list(at, false).nr, 2);
	CHECK(status_has(p, "\"foreign_programs\":[{\"name\":\"vp0\",\"direction\":\"ingress\",\"by\":\"tcx\""));
	apply(p, without);
	CHECK(is_absent(p, at));
	CHECK_INT(list(at, false).nr, 1);
	apply(p, s);
	CHECK_INT(list(at, false).nr, 2);
	made = made_by(p);
	unload(p);
	CHECK_INT(list(at, false).nr, 1);
	CHECK_INT(list(at, false).ids[0], info_of(theirs).id);
	CHECK_INT(list(at, true).nr, 0);
	CHECK(!shows("tc qdisc show dev vp0", "clsact"));
	close(link);
	close(theirs);
	pod_stop(&procs[0]);
	check_nothing_left(&made);
	snapshot_unref(s);
	snapshot_unref(without);
}

TEST(unload_leaves_programs_of_others)
{
	others_stay(TC_TCX);
	others_stay(TC_CLSACT);
}

/* ---- the node ---- */

static struct mesh_addr mapped(const char *text)
{
	struct mesh_addr ret;
	struct addr a;

	CHECK(addr_parse(str_of(text), &a));
	memcpy(&ret, &a, sizeof(ret));
	return ret;
}

static bool is_local(struct plane *p, const char *text)
{
	struct mesh_addr a = mapped(text);
	uint32_t value;

	return !bpf_map_lookup_elem(p->map_fd[PLANE_MAP_LOCALS], &a, &value);
}

static bool events_local(struct plane *p, const char *text, bool want)
{
	for (uint32_t i = 0; i < 300; i++) {
		plane_pods_event(p);
		if (is_local(p, text) == want)
			return true;
		usleep(10000);
	}
	return false;
}

TEST(the_node_s_links_and_addresses_are_followed)
{
	struct settings set = settings();
	struct mesh_addr four = mapped("203.0.113.1"), six = mapped("2001:db8::1");
	uint32_t up, side;
	struct plane *p;
	struct mesh_iface row;

	set.node_interfaces = (char *)"auto,side0";
	sh("ip link add out0 type veth peer name out1 && ip link add side0 type veth peer name side1 && ip link set "
	   "out1 up "
	   "&& "
	   "ip link set side1 up && ip link set out0 up && ip link set side0 up && "
	   "ip addr add 203.0.113.1/24 dev out0 && ip addr add 203.0.113.2/24 dev out0 && ip addr add 2001:db8::1/64 "
	   "dev "
	   "out0 nodad && "
	   "ip addr add 169.254.7.7/16 dev side0 && ip route add default via 203.0.113.254");
	up = if_nametoindex("out0");
	side = if_nametoindex("side0");
	p = plane_new_with(&set);
	CHECK_INT(p->ifaces.nr, 2);
	row = row_of(p, up);
	CHECK_INT(row.kind, MESH_IFACE_NODE);
	CHECK(!memcmp(&row.addr[0], &four, sizeof(four)) && !memcmp(&row.addr[1], &six, sizeof(six)));
	CHECK_INT(list(up, true).ids[0], info_of(p->tc_fd[PLANE_TC_TO_NODE]).id);
	CHECK_INT(list(up, false).ids[0], info_of(p->tc_fd[PLANE_TC_FROM_NODE]).id);
	CHECK_INT(list(side, true).nr, 1);
	CHECK(is_local(p, "203.0.113.1") && is_local(p, "203.0.113.2") && is_local(p, "2001:db8::1"));
	CHECK(!is_local(p, "127.0.0.1") && !is_local(p, "::1") && !is_local(p, "169.254.7.7"));
	sh("ip addr add 198.51.100.9/24 dev side0");
	CHECK(events_local(p, "198.51.100.9", true));
	four = mapped("198.51.100.9");
	row = row_of(p, side);
	CHECK(!memcmp(&row.addr[0], &four, sizeof(four)));
	sh("ip addr del 198.51.100.9/24 dev side0");
	CHECK(events_local(p, "198.51.100.9", false));
	/* A restart finds what went meanwhile. */
	plane_close(p);
	sh("ip addr del 203.0.113.2/24 dev out0");
	p = plane_new_with(&set);
	CHECK(!is_local(p, "203.0.113.2") && is_local(p, "203.0.113.1"));
	sh("ip route del default");
	CHECK(events_remove(p, up) && list(up, true).nr == 0 && iface_find(p, side));
	sh("ip link del side0");
	CHECK(events_remove(p, side) && is_absent(p, side));
	sh("ip route add default via 203.0.113.254");
	for (uint32_t i = 0; i < 300 && !iface_find(p, up); i++) {
		plane_pods_event(p);
		usleep(10000);
	}
	CHECK_INT(list(up, true).nr, 1);
	unload(p);
	CHECK_INT(list(up, true).nr + list(up, false).nr, 0);
	sh("ip link del out0");
}

/* ---- switches ---- */

TEST(a_restart_reconciles_what_is_switched_on)
{
	struct snapshot *s = two_services(false);
	struct settings set = settings();
	struct plane *p = plane_start();
	uint32_t at;

	pod_start(0);
	pod_link(0);
	at = link_of(0);
	apply(p, s);
	CHECK(p->control->flags & MESH_CONTROL_SOCKETS);
	CHECK_INT(p->control->pod_conns, 256);
	plane_close(p);
	set.socket_hooks = false;
	set.max_pod_connections = 5;
	p = plane_new_with(&set);
	CHECK(!(p->control->flags & MESH_CONTROL_SOCKETS));
	CHECK_INT(p->control->pod_conns, 5);
	CHECK(!pinned("link_%s%.0u", "mesh_connect4", 0) && !pinned("link_%s%.0u", "mesh_release", 0));
	apply(p, s);
	check_at(p, at);
	plane_close(p);
	set.socket_hooks = true;
	set.tc = false;
	p = plane_new_with(&set);
	CHECK(p->adopted_pins);
	CHECK(p->control->flags & MESH_CONTROL_SOCKETS);
	CHECK(pinned("link_%s%.0u", "mesh_connect4", 0));
	CHECK(is_absent(p, at));
	apply(p, s);
	CHECK(is_absent(p, at));
	CHECK_INT(list(at, true).nr + list(at, false).nr, 0);
	CHECK(status_has(p, "\"tc\":\"off\",\"interfaces\":[]"));
	unload(p);
	pod_stop(&procs[0]);
	snapshot_unref(s);
}
