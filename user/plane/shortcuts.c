/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shortcuts between pods of the node (bpf/shortcut.bpf.h), as far as user space has a part in them: at which links they may begin and end,
 * and what has gone over them. The programs make and end them.
 */
#include <bpf/bpf.h>

#include "plane/plane_int.h"

/* ---- who else is at a link ---- */

struct company {
	const struct plane *p;
	uint32_t others;
};

static void count_other(void *data, enum tc_how how, uint32_t id)
{
	struct company *c = data;

	for (uint32_t i = 0; i < PLANE_TC_NR; i++)
		if (id && id == c->p->tc_id[i])
			return;
	c->others++;
}

bool shortcut_alone(const struct plane *p, uint32_t ifindex)
{
	struct company c = { .p = p };

	if (!p->shortcut || tc_queues(ifindex))
		return false;
	return !tc_list(ifindex, false, count_other, &c) && !tc_list(ifindex, true, count_other, &c) && !c.others;
}

/* ---- what went over them ---- */

static bool within(const struct mesh_flow *f, uint64_t ns)
{
	return ns >= f->opened_ns && (!f->closed_ns || ns <= f->closed_ns);
}

void shortcut_counts(const struct plane *p, const struct mesh_flow *f, struct shortcut_counts *ret)
{
	struct mesh_tuple key[2] = {
		{ .client = f->client,
		  .server = f->chosen,
		  .client_port_be = f->client_port_be,
		  .server_port_be = f->chosen_port_be },
		{ .client = f->chosen,
		  .server = f->client,
		  .client_port_be = f->chosen_port_be,
		  .server_port_be = f->client_port_be },
	};

	*ret = (struct shortcut_counts){ 0 };
	if (f->proto != MESH_PROTO_TCP)
		return;
	for (uint32_t i = 0; i < 2; i++) {
		struct mesh_shortcut s;

		if (bpf_map_lookup_elem(p->map_fd[PLANE_MAP_SHORTCUTS], &key[i], &s) || !within(f, s.born_ns))
			continue;
		ret->packets += s.packets;
		ret->bytes += s.bytes;
	}
}

struct sums {
	uint64_t state[MESH_SHORTCUT_CLOSED + 1], packets, bytes;
};

static void sum_one(void *data, const void *key, const void *value)
{
	const struct mesh_shortcut *s = value;
	struct sums *sums = data;

	sums->packets += s->packets;
	sums->bytes += s->bytes;
	if (s->state <= MESH_SHORTCUT_CLOSED)
		sums->state[s->state]++;
}

void shortcuts_json(struct json *j, const struct plane *p)
{
	struct sums sums = { 0 };

	batch_each(p, PLANE_MAP_SHORTCUTS, sizeof(struct mesh_tuple), sizeof(struct mesh_shortcut), sum_one, &sums);
	json_key(j, "shortcuts");
	json_object(j);
	json_kstr(j, "setting", p->shortcut ? STR("on") : STR("off"));
	json_kuint(j, "open", sums.state[MESH_SHORTCUT_OPEN]);
	json_kuint(j, "tracked", sums.state[MESH_SHORTCUT_TRACKED]);
	json_kuint(j, "packets", sums.packets);
	json_kuint(j, "bytes", sums.bytes);
	json_object_end(j);
}
