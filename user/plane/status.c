/* SPDX-License-Identifier: BSD-2-Clause */
/* plane_status: what runs, how full the maps are, what the hooks counted, and what this kernel cannot do. Reads only. */
#include <errno.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/arena.h"
#include "plane/plane_int.h"

#define X(name, text) text,
static const char *const hook_labels[] = { MESH_HOOKS(X) };
#undef X
#define X(name, label, ...) label,
static const char *const reason_labels[] = { MESH_REASONS(X) };
#undef X

static void map_json(struct json *j, const struct plane *p, enum plane_map_id id, int64_t used)
{
	json_key(j, plane_map_names[id]);
	json_object(j);
	json_kuint(j, "size", p->map_max[id]);
	if (used >= 0)
		json_kint(j, "used", used);
	json_object_end(j);
}

static uint32_t live_rows(const struct plane *p)
{
	uint32_t nr = p->adopted ? p->adopted->row_nr : 0;

	for (uint32_t i = 0; p->snapshot && i < p->snapshot->unit_nr; i++)
		nr += p->lowered[i]->row_nr;
	return nr;
}

static bool count_flow(void *data, const struct flow_view *v)
{
	(*(int64_t *)data)++;
	return true;
}

static int64_t live_flows(struct plane *p)
{
	int64_t nr = 0;

	return plane_flows(p, &(struct flow_filter){ .live_only = true }, count_flow, &nr) ? -1 : nr;
}

static void maps_json(struct json *j, struct plane *p, int64_t flows)
{
	uint64_t closed = __atomic_load_n(&p->control->closed_head, __ATOMIC_ACQUIRE);
	uint32_t cidrs = p->cidr_nr, gone = p->gone_nr;

	for (uint32_t i = 0; i < p->gone_nr; i++) {
		cidrs += p->gone[i].key.prefix_len < 128;
		gone -= p->gone[i].key.prefix_len < 128;
	}
	json_key(j, "maps");
	json_object(j);
	map_json(j, p, PLANE_MAP_SERVICES, (int64_t)live_rows(p) - p->cidr_nr + gone);
	map_json(j, p, PLANE_MAP_CIDRS, cidrs);
	map_json(j, p, PLANE_MAP_ROWS, p->row_slots.nr);
	map_json(j, p, PLANE_MAP_CHOICES, p->runs.nr);
	map_json(j, p, PLANE_MAP_CLUSTERS, p->cluster_slots.nr);
	map_json(j, p, PLANE_MAP_BACKENDS, p->backend_slots.nr);
	map_json(j, p, PLANE_MAP_TABLES, p->table_runs.nr);
	map_json(j, p, PLANE_MAP_POOLS, p->pool_slots.nr);
	map_json(j, p, PLANE_MAP_NETNS, p->pods.enrolled_nr);
	map_json(j, p, PLANE_MAP_PODS, p->pod_slots.nr);
	map_json(j, p, PLANE_MAP_IFACES, p->ifaces.nr);
	map_json(j, p, PLANE_MAP_LOCALS, p->ifaces.local_nr);
	map_json(j, p, PLANE_MAP_NAMES, (int64_t)p->names.by_id.nr);
	map_json(j, p, PLANE_MAP_FLOWS, flows);
	map_json(j, p, PLANE_MAP_CLOSED, (int64_t)(closed < p->closed_nr ? closed : p->closed_nr));
	json_object_end(j);
	json_key(j, "flows");
	json_object(j);
	json_kint(j, "live", flows);
	json_kuint(j, "closed", closed);
	json_kuint(j, "dropped", closed > p->closed_nr ? closed - p->closed_nr : 0);
	json_object_end(j);
}

/* Sums of one hook over all CPUs; false: nothing was counted. */
static bool hook_sums(const struct plane *p, uint32_t hook, uint64_t *per_cpu, int cpus, uint64_t *sums)
{
	bool any = false;

	for (uint32_t r = 0; r < MESH_REASON_NR; r++) {
		uint32_t at = hook * MESH_REASON_MAX + r;

		sums[r] = 0;
		if (bpf_map_lookup_elem(p->map_fd[PLANE_MAP_COUNTERS], &at, per_cpu))
			continue;
		for (int c = 0; c < cpus; c++)
			sums[r] += per_cpu[c];
		any |= sums[r] != 0;
	}
	return any;
}

static void counters_json(struct json *j, const struct plane *p)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *per_cpu = xcalloc(cpus > 0 ? (size_t)cpus : 1, sizeof(*per_cpu)), sums[MESH_REASON_NR];

	json_key(j, "counters");
	json_object(j);
	for (uint32_t h = 0; h < MESH_HOOK_NR && cpus > 0; h++) {
		if (!hook_sums(p, h, per_cpu, cpus, sums))
			continue;
		json_key(j, hook_labels[h]);
		json_object(j);
		for (uint32_t r = 0; r < MESH_REASON_NR; r++)
			if (sums[r])
				json_kuint(j, reason_labels[r], sums[r]);
		json_object_end(j);
	}
	json_object_end(j);
	free(per_cpu);
}

static void program_json(struct json *j, const char *name, int fd)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	json_key(j, name);
	json_object(j);
	if (!bpf_obj_get_info_by_fd(fd, &info, &len)) {
		json_kuint(j, "id", info.id);
		json_kuint(j, "verified_insns", info.verified_insns);
		json_kuint(j, "jited_bytes", info.jited_prog_len);
		if (info.run_cnt) {
			json_kuint(j, "runs", info.run_cnt);
			json_kuint(j, "run_ns", info.run_time_ns);
		}
	}
	json_object_end(j);
}

static void programs_json(struct json *j, const struct plane *p)
{
	json_key(j, "programs");
	json_object(j);
	for (uint32_t i = 0; i < PLANE_PROG_NR; i++)
		program_json(j, plane_prog_names[i], p->prog_fd[i]);
	for (uint32_t i = 0; i < PLANE_TC_NR && p->tc; i++)
		program_json(j, plane_tc_names[i], p->tc_fd[i]);
	program_json(j, PARSER_NET_PROG, p->parser_fd);
	json_object_end(j);
}

static void limits_json(struct json *j, struct plane *p)
{
	struct buf text = { 0 };
	int others = links_foreign(p);

	json_key(j, "limits");
	json_array(j);
	if (libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_set_retval, NULL) != 1)
		json_str(
			j,
			STR("this kernel has no bpf_set_retval (5.18): a refused connect() fails with EPERM instead of "
			    "ECONNREFUSED"));
	if (p->iter_fd[PLANE_ITER_FLOWS_TCP] < 0)
		json_str(j,
			 STR("this kernel has no iterator over TCP sockets: bytes of open flows are those of the last "
			     "round trip"));
	if (p->cut && p->iter_fd[PLANE_ITER_CUT_CLIENT] < 0)
		json_str(j, STR("this kernel has neither bpf_sock_destroy (6.5) nor CONFIG_INET_DIAG_DESTROY: what a "
				"policy comes to forbid is cut at its next packet, where it is tracked at a link"));
	if (p->prog_fd[PLANE_PROG_SEND] < 0)
		json_str(j, STR("this kernel has no tracepoint sock_send_length (6.3): bytes of UDP flows are not "
				"counted"));
	if (p->shortcut && !shortcuts_keep())
		json_str(j,
			 STR("this kernel has no bpf_ct_change_timeout and bpf_cast_to_kern_ctx (6.2): what the node's "
			     "netfilter tracks does not go straight from pod to pod"));
	if (p->sockets && !accel_can(p))
		json_str(j, STR("this kernel has not both tracepoint sock_send_length (6.3) and bpf_sock_destroy "
				"(6.5): nothing "
				"is accelerated"));
	if (selftest_refusal(p)) {
		buf_printf(&text, "nothing is accelerated on this kernel: the self-test failed at %s",
			   selftest_refusal(p));
		json_str(j, (struct str){ text.data, (uint32_t)text.len });
		buf_clear(&text);
	}
	for (uint32_t i = 0; i < p->ifaces.nr; i++)
		if (p->ifaces.items[i].how == TC_CLSACT) {
			json_str(j, STR("this kernel has no tcx links (6.6): programs at interfaces are filters, which "
					"others may "
					"remove"));
			break;
		}
	if (others > 0) {
		buf_printf(&text, "%d other programs run at the connect hooks of this cgroup", others);
		json_str(j, (struct str){ text.data, (uint32_t)text.len });
	}
	json_array_end(j);
	buf_release(&text);
}

void plane_status(struct plane *p, struct json *j)
{
	int64_t flows = live_flows(p);
	uint32_t enrolled = 0;
	struct utsname u;

	for (uint32_t i = 0; i < p->pods.enrolled_nr; i++)
		enrolled += !p->pods.enrolled[i].gone;
	json_object(j);
	json_kuint(j, "layout", MESH_LAYOUT);
	json_kuint(j, "epoch", p->control->live);
	json_kstr(j, "kernel", uname(&u) ? (struct str){ 0 } : str_of(u.release));
	json_kstr(j, "cgroup", str_of(p->cgroup));
	json_kstr(j, "pin", str_of(p->pin));
	json_kbool(j, "adopted", p->adopted_pins);
	json_key(j, "pods");
	json_object(j);
	json_kuint(j, "enrolled", enrolled);
	json_kuint(j, "expected", p->pods.expected);
	json_kuint(j, "waiting", p->pods.waiting);
	json_object_end(j);
	json_key(j, "cut");
	if (cut_text(p))
		json_str(j, str_of(cut_text(p)));
	else
		json_null(j);
	accel_json(j, p);
	ifaces_json(j, p);
	json_kuint(j, "services", p->snapshot ? p->snapshot->unit_nr : 0);
	json_kuint(j, "rows", live_rows(p));
	endpoints_json(j, p);
	maps_json(j, p, flows);
	counters_json(j, p);
	programs_json(j, p);
	limits_json(j, p);
	json_object_end(j);
}
