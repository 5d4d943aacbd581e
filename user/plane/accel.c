/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is accelerated: which pods may be, by settings and annotations, and what the kernel says of it. The kernel decides about each
 * connection (bpf/redirect.bpf.c).
 */
#include "plane/plane_int.h"

uint32_t accel_mode(const struct plane *p, const struct client *c)
{
	static const uint32_t modes[ACCELERATE_NR] = {
		[ACCELERATE_OFF] = MESH_ACCELERATE_OFF,
		[ACCELERATE_AUTO] = MESH_ACCELERATE_AUTO,
		[ACCELERATE_ON] = MESH_ACCELERATE_ON,
	};

	return modes[c->accelerate ? c->accelerate : p->accel.mode];
}

static void workload_json(struct json *j, const struct plane *p, const struct client *c)
{
	json_object(j);
	json_kstr(j, "namespace", c->ns);
	json_kstr(j, "pod", c->name);
	json_kstr(j, "accelerate", str_of(accelerate_text(c->accelerate ? c->accelerate : p->accel.mode)));
	json_kstr(j, "by", c->accelerate ? c->accelerate_by : STR("mesh"));
	json_object_end(j);
}

void accel_json(struct json *j, const struct plane *p)
{
	json_key(j, "acceleration");
	json_object(j);
	json_kstr(j, "accelerate", str_of(accelerate_text(p->accel.mode)));
	json_kbool(j, "loopback", p->accel.loopback);
	json_key(j, "workloads");
	json_array(j);
	for (uint32_t i = 0; p->snapshot && i < p->pods.nr; i++)
		if (pod_enrols(&p->pods, i, p->snapshot))
			workload_json(j, p, &p->snapshot->clients[p->pods.items[i].client - 1]);
	json_array_end(j);
	json_object_end(j);
}
