/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shortcuts between pods of the node (bpf/shortcut.bpf.h), as far as user space has a part in them: at which links they may begin and end,
 * netfilter's entries, which are not to mind what they miss, and what has gone over them. The programs make and end them.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/log.h"
#include "plane/conntrack.h"
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

/* ---- netfilter's entries ---- */

/* Without an answer the connection goes on taking the long way. */
static int loosen(void *data, void *message, size_t len)
{
	struct plane *p = data;
	const struct mesh_offer *offer = message;
	const struct mesh_tuple *key = &offer->key;
	struct conntrack_tuple t = { .client_port_be = key->client_port_be, .server_port_be = key->server_port_be };
	uint64_t ms = conntrack_timeout_s() * 1000ull;
	struct mesh_loosened is = { .born_ns = offer->born_ns,
				    .timeout_ms = ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX };
	int rc;

	memcpy(&t.client, &key->client, sizeof(t.client));
	memcpy(&t.server, &key->server, sizeof(t.server));
	rc = ms ? conntrack_loosen(p->conntrack_fd, &t) : -ENOENT;
	if (!rc && bpf_map_update_elem(p->map_fd[PLANE_MAP_LOOSENED], key, &is, BPF_ANY))
		rc = -errno;
	if (rc && rc != -ENOENT)
		log_warn("cannot loosen an entry of netfilter error=%s", strerror(-rc));
	return 0;
}

static bool kernel_has(const char *function)
{
	return libbpf_find_vmlinux_btf_id(function, BPF_TRACE_FENTRY) > 0;
}

/* Connection tracking may be a module, whose functions programs find by its own types. */
bool shortcuts_keep(void)
{
	return kernel_has("bpf_cast_to_kern_ctx") &&
	       (kernel_has("bpf_ct_change_timeout") || !access("/sys/kernel/btf/nf_conntrack", F_OK));
}

int shortcuts_init(struct plane *p)
{
	struct epoll_event e = { .events = EPOLLIN };

	if (!p->shortcut)
		return 0;
	p->conntrack_fd = conntrack_open();
	if (p->conntrack_fd < 0)
		return p->conntrack_fd;
	p->offers = ring_buffer__new(p->map_fd[PLANE_MAP_OFFERS], loosen, p, NULL);
	if (!p->offers)
		return -errno;
	e.data.fd = ring_buffer__epoll_fd(p->offers);
	return epoll_ctl(p->pods.poll_fd, EPOLL_CTL_ADD, e.data.fd, &e) ? -errno : 0;
}

void shortcuts_event(struct plane *p)
{
	if (p->offers)
		ring_buffer__consume(p->offers);
}

void shortcuts_release(struct plane *p)
{
	ring_buffer__free(p->offers);
	if (p->conntrack_fd >= 0)
		close(p->conntrack_fd);
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
