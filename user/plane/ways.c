/* SPDX-License-Identifier: BSD-2-Clause */
/* What this node knows, for explain, of how connections between its pods are carried: settings, links, programs, the self-test. Reads only. */
#include "config/explain.h"
#include "plane/census.h"
#include "plane/plane_int.h"

static const char *no_acceleration(const struct plane *p, struct buf *text)
{
	if (!p->sockets)
		return "socket-hooks is off";
	if (!accel_can(p))
		return "this kernel has not what it takes; `meshctl status` says what";
	if (selftest_refusal(p)) {
		buf_printf(text, "the self-test failed at %s", selftest_refusal(p));
		return text->data;
	}
	return selftest_over(p) ? NULL : "the self-test is not over";
}

static const char *no_shortcut(struct plane *p, uint64_t cookie)
{
	const struct iface *f = iface_find(p, iface_of(p, cookie));

	if (!f)
		return "no program is at the link of one of the pods";
	return f->row.flags & MESH_IFACE_ALONE ? NULL
					       : "others have programs or a queue at the link of one of the pods";
}

/* The pod that the snapshot in use has as this client. */
static void find_pod(void *data, const struct client *c, struct explain_pod *ret)
{
	struct plane *p = data;
	const struct snapshot *s = p->snapshot;

	*ret = (struct explain_pod){ 0 };
	for (uint32_t i = 0; s && i < p->pods.nr; i++) {
		const struct pod *pod = &p->pods.items[i];
		const struct client *known =
			pod->client && pod->client <= s->client_nr ? &s->clients[pod->client - 1] : NULL;

		if (!known || !str_eq(known->name, c->name) || !str_eq(known->ns, c->ns) || !pod_enrols(&p->pods, i, s))
			continue;
		ret->here = true;
		ret->no_shortcut = no_shortcut(p, pod->cookie);
		census_count(p, pod->cookie, ret);
		return;
	}
}

void plane_explain(struct plane *p, struct explain_node *ret, struct buf *text)
{
	*ret = (struct explain_node){
		.accelerate = p->accel.mode,
		.loopback = p->accel.loopback,
		.parser = p->accel.parser,
		.no_acceleration = no_acceleration(p, text),
		.no_shortcut = p->shortcut ? NULL : "shortcut, tc or socket-hooks is off",
		.pod = find_pod,
		.data = p,
	};
}
