/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Flow records, read out of the maps: live ones from mesh_flows, after passes of socket iterators that bring their counters up
 * to date, and closed ones from the ring. Writes nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "plane/plane_int.h"

#define FLOWS_BATCH 512u

#define X(name, text) text,
static const char *const state_labels[] = { MESH_STATES(X) };
#undef X
#define X(name, text) text,
static const char *const path_labels[] = { MESH_PATHS(X) };
#undef X
#define X(name, label, ...) label,
static const char *const reason_labels[] = { MESH_REASONS(X) };
#undef X

/* What one call of plane_flows works with. */
struct reading {
	struct plane *p;
	const struct flow_filter *filter;
	flow_fn fn;
	void *data;
	uint64_t real_minus_boot_ns;
	struct mesh_flow *live;
	uint32_t live_nr, live_cap;
	struct mesh_flow *ring;	    /* the whole map, mapped for the call */
	struct accel_ends ends;	    /* empty unless they are wanted */
	uint64_t head_before, head; /* of the ring: before and after the live ones were read */
	bool stopped;
};

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int live_read(struct reading *r)
{
	uint32_t cap = FLOWS_BATCH, in = 0, out = 0;
	uint64_t *keys = xcalloc(cap, sizeof(*keys));
	bool first = true;
	int rc;

	do {
		uint32_t nr;

		if (r->live_cap - r->live_nr < cap) {
			r->live_cap = r->live_nr + cap + r->live_nr / 2;
			r->live = xrealloc(r->live, r->live_cap * sizeof(*r->live));
		}
		nr = cap;
		rc = plane_errno(bpf_map_lookup_batch(r->p->map_fd[PLANE_MAP_FLOWS], first ? NULL : &in, &out, keys,
						      r->live + r->live_nr, &nr, NULL));
		if (rc == -ENOSPC) { /* a bucket holds more than the batch */
			cap *= 2;
			keys = xrealloc(keys, cap * sizeof(*keys));
			continue;
		}
		if (rc && rc != -ENOENT)
			break;
		r->live_nr += nr;
		in = out;
		first = false;
	} while (!rc || rc == -ENOSPC);
	free(keys);
	return rc == -ENOENT ? 0 : rc;
}

/* Values of both maps of connections: a timer, then the connection. */
struct conn_slot {
	uint8_t timer[MESH_TIMER_SIZE];
	struct mesh_conn conn;
};

struct cookies {
	uint64_t *v;
	uint32_t nr;
};

static int cookie_cmp(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static bool has_flows(void *data, uint64_t netns_cookie)
{
	const struct cookies *c = data;

	return netns_cookie && bsearch(&netns_cookie, c->v, c->nr, sizeof(*c->v), cookie_cmp);
}

/* Live flows as they are now: those of mesh_flows are read twice, first for who has any that `fresh` (NULL: all) picks. */
static int live_fresh(struct reading *r, flow_is fresh, void *data)
{
	static const enum plane_iter_id ids[] = { PLANE_ITER_FLOWS_TCP, PLANE_ITER_FLOWS_UDP };
	struct cookies c = { 0 };
	int rc = live_read(r);

	if (rc || !r->live_nr)
		return rc;
	c.v = xcalloc(r->live_nr, sizeof(*c.v));
	for (uint32_t i = 0; i < r->live_nr; i++)
		if (!fresh || fresh(data, &r->live[i]))
			c.v[c.nr++] = r->live[i].netns_cookie;
	if (c.nr) {
		qsort(c.v, c.nr, sizeof(*c.v), cookie_cmp);
		podsocks_run(r->p,
			     &(struct podsocks){
				     .ids = ids, .id_nr = sizeof(ids) / sizeof(*ids), .wants = has_flows, .data = &c });
		r->live_nr = 0;
		rc = live_read(r);
	}
	free(c.v);
	return rc;
}

/* Of the tc path, for flows_live. */
struct conn_reading {
	void (*fn)(void *data, const struct mesh_flow *flow, const struct mesh_tuple *wire);
	void *data;
};

static void each_conn(void *data, const void *key, const void *value)
{
	const struct conn_slot *slot = value;
	const struct conn_reading *r = data;

	if (slot->conn.flags & MESH_CONN_RECORD)
		r->fn(r->data, &slot->conn.flow, key);
}

int flows_live(struct plane *p, flow_is fresh,
	       void (*fn)(void *data, const struct mesh_flow *flow, const struct mesh_tuple *wire), void *data)
{
	struct conn_reading conns = { .fn = fn, .data = data };
	struct reading r = { .p = p };
	int rc = live_fresh(&r, fresh, data);

	for (uint32_t i = 0; i < r.live_nr && !rc; i++)
		fn(data, &r.live[i], NULL);
	free(r.live);
	if (!rc)
		rc = batch_each(p, PLANE_MAP_CONNS, sizeof(struct mesh_tuple), sizeof(struct conn_slot), each_conn,
				&conns);
	return rc;
}

static void live_conn(void *data, const void *key, const void *value)
{
	const struct conn_slot *slot = value;
	struct reading *r = data;

	(void)key;
	if (!(slot->conn.flags & MESH_CONN_RECORD))
		return;
	r->live = plane_grow(r->live, r->live_nr, &r->live_cap, sizeof(*r->live));
	r->live[r->live_nr++] = slot->conn.flow;
}

/* Connections of the tc path. One that is just being confirmed is in both maps. */
static int conns_read(struct reading *r)
{
	int rc = batch_each(r->p, PLANE_MAP_CONNS, sizeof(struct mesh_tuple), sizeof(struct conn_slot), live_conn, r);

	if (!rc)
		rc = batch_each(r->p, PLANE_MAP_CONNS_NEW, sizeof(struct mesh_tuple), sizeof(struct conn_slot),
				live_conn, r);
	return rc;
}

/* "name" or "namespace/name" against "namespace/name/...". */
static bool workload_is(struct str text, struct str want)
{
	int slash = str_find(text, '/'), end;
	struct str rest;

	if (slash < 0)
		return false;
	if (str_find(want, '/') >= 0)
		return text.len > want.len && str_starts(text, want) && text.p[want.len] == '/';
	rest = str_sub(text, (uint32_t)slash + 1, text.len);
	end = str_find(rest, '/');
	return str_eq(end < 0 ? rest : str_sub(rest, 0, (uint32_t)end), want);
}

struct service_name {
	struct str ns, host;
	struct str name; /* "reviews" of "reviews.default.svc.cluster.local", else the host */
};

static struct service_name service_name(struct str text)
{
	struct service_name s = { 0 };
	int slash = str_find(text, '/'), dot;
	struct str rest;

	if (slash < 0)
		return s;
	s.ns = str_sub(text, 0, (uint32_t)slash);
	s.name = s.host = str_sub(text, (uint32_t)slash + 1, text.len);
	dot = str_find(s.host, '.');
	if (dot < 0)
		return s;
	rest = str_sub(s.host, (uint32_t)dot + 1, s.host.len);
	if (str_starts(rest, s.ns) && str_starts(str_sub(rest, s.ns.len, rest.len), STR(".svc.")))
		s.name = str_sub(s.host, 0, (uint32_t)dot);
	return s;
}

static bool service_is(struct str text, struct str want)
{
	struct service_name s = service_name(text);
	int slash = str_find(want, '/');

	if (slash >= 0) {
		if (!str_eq(s.ns, str_sub(want, 0, (uint32_t)slash)))
			return false;
		want = str_sub(want, (uint32_t)slash + 1, want.len);
	}
	return text.len && (str_eq(s.name, want) || str_eq(s.host, want));
}

static const char *label(const char *const *labels, uint32_t nr, uint32_t i)
{
	return i < nr ? labels[i] : "unknown";
}

static const char *state_label(uint32_t state)
{
	return label(state_labels, MESH_STATE_NR, state);
}

static bool wanted(const struct flow_filter *f, const struct flow_view *v)
{
	if (f->workload.len && !workload_is(v->client, f->workload) && !workload_is(v->server, f->workload))
		return false;
	if (f->service.len && !service_is(v->service, f->service))
		return false;
	if (!f->state.len)
		return true;
	if (str_is(f->state, "open"))
		return !v->flow->closed_ns;
	/* "closed" is also a state: every flow that ended. */
	return str_is(f->state, "closed") ? v->flow->closed_ns != 0 : str_is(f->state, state_label(v->flow->state));
}

static void show(struct reading *r, const struct mesh_flow *flow)
{
	const struct accel_end *end = flow->closed_ns ? NULL : accel_ends_find(&r->ends, flow->cookie);
	struct flow_view v = {
		.flow = flow,
		.opened_realtime_ns = flow->opened_ns + r->real_minus_boot_ns,
		.closed_realtime_ns = flow->closed_ns ? flow->closed_ns + r->real_minus_boot_ns : 0,
		.client = name_text(r->p, flow->client_id),
		.server = name_text(r->p, flow->server_id),
		.service = name_text(r->p, flow->service_id),
		.cluster = name_text(r->p, flow->cluster_id),
		.policy = name_text(r->p, flow->policy_id),
	};
	struct buf text = { 0 };

	if (r->stopped || !wanted(r->filter, &v))
		return;
	if (end) {
		buf_printf(&text, "%s%s%s", end->state, end->why ? ": " : "", end->why ? end->why : "");
		v.acceleration = (struct str){ text.data, (uint32_t)text.len };
	}
	shortcut_counts(r->p, flow, &v.straight);
	r->stopped = !r->fn(r->data, &v);
	buf_release(&text);
}

/* Copies the record of one sequence number; false: it is being written, or was overwritten. */
static bool ring_get(const struct reading *r, uint64_t seq, struct mesh_flow *ret)
{
	const struct mesh_flow *slot = &r->ring[(seq - 1) & (r->p->closed_nr - 1)];

	if (__atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE) != seq)
		return false;
	memcpy(ret, slot, sizeof(*ret));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return ret->seq_end == seq && __atomic_load_n(&slot->seq, __ATOMIC_RELAXED) == seq;
}

static uint64_t ring_first(const struct reading *r)
{
	return r->head > r->p->closed_nr ? r->head - r->p->closed_nr + 1 : 1;
}

/* The flow ended while the live ones were being read, and was shown from the ring. */
static bool ended(const struct reading *r, const struct mesh_flow *live)
{
	struct mesh_flow flow;
	uint64_t from = r->head_before + 1;

	for (uint64_t seq = from > ring_first(r) ? from : ring_first(r); seq <= r->head; seq++)
		if (ring_get(r, seq, &flow) && flow.cookie == live->cookie && flow.opened_ns == live->opened_ns)
			return true;
	return false;
}

static int older(const void *a, const void *b)
{
	const struct mesh_flow *x = a, *y = b;

	if (x->opened_ns != y->opened_ns)
		return x->opened_ns < y->opened_ns ? -1 : 1;
	return x->cookie < y->cookie ? -1 : x->cookie > y->cookie;
}

int plane_flows(struct plane *p, const struct flow_filter *f, flow_fn fn, void *data)
{
	struct reading r = { .p = p, .filter = f, .fn = fn, .data = data };
	size_t len = (size_t)p->closed_nr * sizeof(struct mesh_flow);
	struct mesh_flow flow;
	int rc;

	r.ring = mmap(NULL, len, PROT_READ, MAP_SHARED, p->map_fd[PLANE_MAP_CLOSED], 0);
	if (r.ring == MAP_FAILED)
		return -errno;
	r.real_minus_boot_ns = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME);
	r.head_before = __atomic_load_n(&p->control->closed_head, __ATOMIC_ACQUIRE);
	rc = live_fresh(&r, NULL, NULL);
	if (!rc)
		rc = conns_read(&r);
	r.head = __atomic_load_n(&p->control->closed_head, __ATOMIC_ACQUIRE);
	if (!rc && f->ends)
		accel_ends_read(p, &r.ends);
	for (uint64_t seq = ring_first(&r); !rc && !f->live_only && seq <= r.head && !r.stopped; seq++)
		if (ring_get(&r, seq, &flow))
			show(&r, &flow);
	if (!rc && r.live_nr)
		qsort(r.live, r.live_nr, sizeof(*r.live), older);
	for (uint32_t i = 0; !rc && i < r.live_nr && !r.stopped; i++)
		if (!ended(&r, &r.live[i]) && !(i && r.live[i].cookie == r.live[i - 1].cookie))
			show(&r, &r.live[i]);
	munmap(r.ring, len);
	free(r.live);
	free(r.ends.items);
	return rc;
}

static void json_text(struct json *j, const char *key, struct str s)
{
	json_key(j, key);
	if (s.len)
		json_str(j, s);
	else
		json_null(j);
}

static void json_address(struct json *j, const struct mesh_addr *addr, uint16_t port_be)
{
	char text[ADDR_TEXT_MAX];
	struct addr a;

	memcpy(&a, addr, sizeof(a));
	json_text(j, "ip", addr_is_zero(&a) ? (struct str){ 0 } : str_of(addr_text(&a, text)));
	json_key(j, "port");
	if (port_be)
		json_uint(j, ntohs(port_be));
	else
		json_null(j);
}

/* "namespace/pod/serviceaccount" */
static void json_workload(struct json *j, const char *key, struct str text, const struct mesh_addr *addr,
			  uint16_t port_be)
{
	struct str part[3] = { { 0 } };

	for (uint32_t i = 0; i < 3 && text.len; i++) {
		int slash = i < 2 ? str_find(text, '/') : -1;

		part[i] = slash < 0 ? text : str_sub(text, 0, (uint32_t)slash);
		text = slash < 0 ? (struct str){ 0 } : str_sub(text, (uint32_t)slash + 1, text.len);
	}
	json_key(j, key);
	json_object(j);
	json_text(j, "pod", part[1]);
	json_text(j, "namespace", part[0]);
	json_text(j, "service_account", part[2]);
	json_address(j, addr, port_be);
	json_object_end(j);
}

void flow_json(struct json *j, const struct flow_view *v)
{
	const struct mesh_flow *f = v->flow;
	struct service_name s = service_name(v->service);

	json_object(j);
	json_workload(j, "client", v->client, &f->client, f->client_port_be);
	json_workload(j, "server", v->server, &f->chosen, f->chosen_port_be);
	json_key(j, "dialled");
	json_object(j);
	json_text(j, "service", s.name);
	json_text(j, "namespace", s.ns);
	json_address(j, &f->dialled, f->dialled_port_be);
	json_object_end(j);
	json_kstr(j, "protocol", f->proto == MESH_PROTO_UDP ? STR("udp") : STR("tcp"));
	json_kstr(j, "path", str_of(label(path_labels, MESH_PATH_NR, f->path)));
	json_kstr(j, "reporter", f->server_side ? STR("destination") : STR("source"));
	json_kuint(j, "bytes_sent", f->bytes_sent);
	json_kuint(j, "bytes_received", f->bytes_received);
	json_kuint(j, "bytes_redirected", f->bytes_redirected);
	json_text(j, "acceleration", v->acceleration);
	json_kuint(j, "bytes_shortcut", v->straight.bytes);
	json_kuint(j, "packets_shortcut", v->straight.packets);
	json_ktime(j, "opened", v->opened_realtime_ns);
	json_ktime(j, "closed", v->closed_realtime_ns);
	json_kstr(j, "state", str_of(state_label(f->state)));
	json_kstr(j, "reason", str_of(label(reason_labels, MESH_REASON_NR, f->reason)));
	json_text(j, "policy", v->policy);
	json_kuint(j, "epoch", f->epoch);
	json_text(j, "cluster", v->cluster);
	json_kuint(j, "srtt_us", f->srtt_us);
	json_kuint(j, "retransmits", f->retransmits);
	json_object_end(j);
}
