/* SPDX-License-Identifier: BSD-2-Clause */
/* What plane_status says of interfaces: where the tc programs are, whom they do not see, who else is there. Reads only. */
#include <bpf/bpf.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "plane/ifaces.h"
#include "plane/plane_int.h"

/* Elements of a map that others write to meanwhile. */
static uint64_t count(const struct plane *p, enum plane_map_id map)
{
	struct mesh_tuple key, *at = NULL;
	uint64_t nr = 0;

	_Static_assert(sizeof(key) >= sizeof(struct mesh_addr), "the largest key");
	while (nr < p->map_max[map] && !bpf_map_get_next_key(p->map_fd[map], at, &key)) {
		at = &key;
		nr++;
	}
	return nr;
}

/* "namespace/pod" of the pod in that namespace; empty: none is enrolled. */
static struct str pod_of(struct plane *p, uint64_t cookie)
{
	struct str text = { 0 };
	uint32_t slashes = 0, len = 0;

	for (uint32_t i = 0; i < p->pods.enrolled_nr; i++)
		if (p->pods.enrolled[i].cookie == cookie)
			text = name_text(p, pod_row_at(p, p->pods.enrolled[i].slot)->workload_id);
	while (len < text.len && (slashes += text.p[len] == '/') < 2)
		len++;
	return str_sub(text, 0, len);
}

static const char *name_of(uint32_t ifindex, char *out)
{
	if (!if_indextoname(ifindex, out))
		snprintf(out, IF_NAMESIZE, "%u", ifindex);
	return out;
}

static const char *how_text(enum tc_how how)
{
	return how == TC_TCX ? "tcx" : how == TC_CLSACT ? "clsact" : "none";
}

static struct str iface_kind_text(uint8_t kind)
{
	switch (kind) {
	case MESH_IFACE_POD:
		return STR("pod");
	case MESH_IFACE_PARSER:
		return STR("parser");
	default:
		return STR("node");
	}
}

static void iface_json(struct json *j, struct plane *p, const struct iface *f)
{
	char name[IF_NAMESIZE];
	struct mesh_load load = { 0 };

	bpf_map_lookup_elem(p->map_fd[PLANE_MAP_LOADS], &f->ifindex, &load);
	json_object(j);
	json_kstr(j, "name", str_of(name_of(f->ifindex, name)));
	json_kuint(j, "ifindex", f->ifindex);
	json_kstr(j, "kind", iface_kind_text(f->row.kind));
	json_kstr(j, "pod", f->row.kind == MESH_IFACE_POD ? pod_of(p, f->row.netns_cookie) : (struct str){ 0 });
	json_kstr(j, "programs", str_of(how_text(f->how)));
	json_kuint(j, "connections", load.established);
	json_kbool(j, "shortcuts", f->row.flags & MESH_IFACE_ALONE);
	json_object_end(j);
}

static void apart(struct json *j, const struct client *c, const char *why)
{
	char text[512];

	snprintf(text, sizeof(text), "%.*s/%.*s", STR_ARG(c->ns), STR_ARG(c->name));
	json_object(j);
	json_kstr(j, "pod", str_of(text));
	json_kstr(j, "why", str_of(why));
	json_object_end(j);
}

/* Pods of this node whose packets no program at a link sees. */
static void apart_json(struct json *j, const struct plane *p)
{
	const struct snapshot *s = p->snapshot;
	char why[64];

	json_key(j, "without_link");
	json_array(j);
	for (uint32_t i = 0; s && i < s->client_nr; i++)
		if (s->clients[i].host_network && str_is(s->clients[i].node, p->node_name))
			apart(j, &s->clients[i], "host network");
	for (uint32_t i = 0; s && i < p->pods.nr; i++) {
		const struct pod *pod = &p->pods.items[i];

		if (!pod_enrols(&p->pods, i, s) || iface_of(p, pod->cookie))
			continue;
		if (pod->link.host)
			snprintf(why, sizeof(why), "programs cannot be attached to its link");
		else if (pod->link.ifindex && pod->link.kind[0])
			snprintf(why, sizeof(why), "its link is no pair that ends here: %s", pod->link.kind);
		else
			snprintf(why, sizeof(why), "its address is on no link");
		apart(j, &s->clients[pod->client - 1], why);
	}
	json_array_end(j);
}

/* Programs of others. */
struct foreign {
	struct json *j;
	struct plane *p;
	uint32_t ifindex;
	bool egress;
};

static void foreign_one(void *data, enum tc_how how, uint32_t id)
{
	struct foreign *f = data;
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	char name[IF_NAMESIZE];
	int fd;

	for (uint32_t i = 0; i < PLANE_TC_NR; i++)
		if (id && f->p->tc_id[i] == id)
			return;
	fd = id ? bpf_prog_get_fd_by_id(id) : -1;
	if (fd >= 0) {
		bpf_obj_get_info_by_fd(fd, &info, &len);
		close(fd);
	}
	json_object(f->j);
	json_kstr(f->j, "name", str_of(name_of(f->ifindex, name)));
	json_kstr(f->j, "direction", f->egress ? STR("egress") : STR("ingress"));
	json_kstr(f->j, "by", str_of(how_text(how)));
	json_kuint(f->j, "id", id);
	json_kstr(f->j, "program", str_of(info.name));
	json_object_end(f->j);
}

static void foreign_json(struct json *j, struct plane *p)
{
	struct foreign f = { .j = j, .p = p };

	json_key(j, "foreign_programs");
	json_array(j);
	for (uint32_t i = 0; i < p->ifaces.nr; i++) {
		f.ifindex = p->ifaces.items[i].ifindex;
		for (uint32_t k = 0; k < 2; k++) {
			f.egress = k;
			tc_list(f.ifindex, k, foreign_one, &f);
		}
	}
	json_array_end(j);
}

void ifaces_json(struct json *j, struct plane *p)
{
	json_kstr(j, "socket_hooks", p->sockets ? STR("on") : STR("off"));
	json_kstr(j, "tc", p->tc ? STR("on") : STR("off"));
	json_key(j, "interfaces");
	json_array(j);
	for (uint32_t i = 0; i < p->ifaces.nr; i++)
		iface_json(j, p, &p->ifaces.items[i]);
	json_array_end(j);
	apart_json(j, p);
	foreign_json(j, p);
	shortcuts_json(j, p);
	json_key(j, "connections");
	json_object(j);
	json_kuint(j, "established", count(p, PLANE_MAP_CONNS));
	json_kuint(j, "unconfirmed", count(p, PLANE_MAP_CONNS_NEW));
	json_kuint(j, "max", p->max_conns);
	json_kuint(j, "max_per_pod", p->max_pod_conns);
	json_object_end(j);
}
