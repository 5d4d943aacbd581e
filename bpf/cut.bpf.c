// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sockets found and destroyed by iterators, which user space runs in the network namespace of each pod: those whose connection a policy
 * forbids by now, after policies have changed; and those whose time is up, which user space has named in mesh_lapsed. Of the former, first
 * those of clients, so that their flows tell why they ended, then those of servers whose client is elsewhere. TCP tells the other end by a
 * reset. Where the kernel lets no program destroy a socket, it is written out for user space to do it. Nothing here decides about new
 * connections.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "ctx.bpf.h"
#include "dial.bpf.h"
#include "flow.bpf.h"
#include "lookup.bpf.h"
#include "peers.bpf.h"
#include "policy.bpf.h"
#include "tuple.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Linux 6.5. */
extern int bpf_sock_destroy(struct sock_common *sock) __ksym __weak;
/* 1: it is not there, or not to be used. Set before loading. */
const volatile __u32 cut_names = 0;

/* A connection of a socket, as its policy sees it. */
struct cut {
	struct seq_file *out;
	struct mesh_pod *pod; /* that the socket belongs to */
	__u64 live;
	struct mesh_addr local, remote;
	__be16 local_port_be, remote_port_be;
	__u32 policy_id, server_id;
};

/* 0: not a socket of the mesh. */
static __always_inline int cut_begin(struct cut *c, const struct bpf_iter_meta *meta, const struct sock *sk)
{
	struct mesh_control *ctl = mesh_control_get();

	if (!ctl)
		return 0;
	c->out = meta->seq;
	c->live = *(volatile __u64 *)&ctl->live;
	c->pod = pod_find(sk->__sk_common.skc_net.net->net_cookie, c->live);
	sock_local(sk, &c->local, &c->local_port_be);
	sock_remote(sk, &c->remote, &c->remote_port_be);
	return c->pod && mesh_pod_owns(c->pod, &c->local);
}

/* The parser has, or has made, the connection with this tuple on the wire. */
static __always_inline int of_parser(const struct mesh_tuple *wire)
{
	struct mesh_conn_slot *slot = bpf_map_lookup_elem(&mesh_conns, wire);

	if (!slot)
		slot = bpf_map_lookup_elem(&mesh_conns_new, wire);
	return slot && tuple_from_client(wire, &slot->conn.wire) && slot->conn.flags & (MESH_CONN_L7 | MESH_CONN_LEG);
}

/* The socket's connection is the parser's: it is the client's, or its server's. */
static __noinline int relayed(const struct cut *c, int client)
{
	struct mesh_tuple wire = { .proto = MESH_PROTO_TCP, .kind = MESH_TUPLE_WIRE };

	wire.client = client ? c->local : c->remote;
	wire.client_port_be = client ? c->local_port_be : c->remote_port_be;
	wire.server = client ? c->remote : c->local;
	wire.server_port_be = client ? c->remote_port_be : c->local_port_be;
	return of_parser(&wire);
}

/* 1: the policy of the server does not allow it. */
static __always_inline int forbidden(struct cut *c, const struct mesh_addr *client, const struct mesh_addr *server,
				     __be16 port_be, int by_parser)
{
	struct mesh_workload *guard = workload_find(server, c->live), *source;
	struct policy_run run = {};

	if (!guard || !guard->policy)
		return 0;
	source = workload_find(client, c->live);
	run.subject.source = *client;
	run.subject.destination = *server;
	run.subject.identity = source ? source->identity : 0;
	run.subject.port = bpf_ntohs(port_be);
	if (policy_verdict(&run, policy_of(guard, by_parser)) == MESH_VERDICT_ALLOW)
		return 0;
	policy_count(run.policy_id, 0, MESH_VERDICT_DENY);
	c->policy_id = run.policy_id;
	c->server_id = guard->workload_id;
	return 1;
}

/* Who dialled a pod's address has no flow: the record is made now. */
static __always_inline void record_direct(const struct cut *c, struct tcp_sock *tp, __u32 state)
{
	struct mesh_flow flow = {};

	flow.netns_cookie = c->pod->netns_cookie;
	flow.epoch = c->live;
	flow.opened_ns = bpf_ktime_get_boot_ns();
	flow.client = c->local;
	flow.dialled = c->remote;
	flow.chosen = c->remote;
	flow.client_port_be = c->local_port_be;
	flow.dialled_port_be = c->remote_port_be;
	flow.chosen_port_be = c->remote_port_be;
	flow.proto = MESH_PROTO_TCP;
	flow.state = MESH_STATE_CLOSED;
	flow.reason = MESH_REASON_CUT;
	flow.client_id = c->pod->workload_id;
	flow.server_id = c->server_id;
	flow.policy_id = c->policy_id;
	flow_count_tcp(&flow, tp, state);
	flow_to_ring(&flow, flow.opened_ns);
}

/* The flow of a TCP socket that dialled a service; NULL: none was recorded. */
static __always_inline struct mesh_flow *flow_of(struct tcp_sock *tp)
{
	__u64 cookie = bpf_get_socket_cookie(tp);

	return bpf_map_lookup_elem(&mesh_flows, &cookie);
}

/* Says in the client's record, before it ends, why it will. */
static __always_inline void mark(const struct cut *c, struct mesh_flow *flow, struct tcp_sock *tp, __u32 state)
{
	if (!flow) {
		record_direct(c, tp, state);
		return;
	}
	flow->policy_id = c->policy_id;
	flow->reason = MESH_REASON_CUT;
}

/* Names the socket to user space, which counts on finding the same one or none. */
static __always_inline long name(const struct cut *c, struct sock_common *skc, __u8 proto)
{
	struct mesh_victim v = {
		.cookie = bpf_get_socket_cookie(skc),
		.local = c->local,
		.remote = c->remote,
		.ifindex = (__u32)skc->skc_bound_dev_if,
		.local_port_be = c->local_port_be,
		.remote_port_be = c->remote_port_be,
		.proto = proto,
	};

	return bpf_seq_write(c->out, &v, sizeof(v));
}

static __always_inline void destroy(const struct cut *c, struct sock_common *skc, __u8 proto, __u32 reason)
{
	long rc = cut_names ? name(c, skc, proto) : bpf_sock_destroy(skc);

	mesh_count(MESH_HOOK_CUT, rc ? MESH_REASON_ERROR : reason);
}

/* Listeners, handshakes and what is over have nothing to cut. */
static __always_inline int tcp_talks(__u32 state)
{
	return state != TCP_LISTEN_ && state != TCP_CLOSE_ && state != TCP_TIME_WAIT_ && state != TCP_NEW_SYN_RECV_ &&
	       state != TCP_SYN_RECV_;
}

SEC("iter/tcp")
int mesh_cut_client(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct mesh_flow *flow;
	struct cut c = {};
	struct tcp_sock *tp;
	__u32 state;
	int dialled;

	if (!skc || !tcp_talks(skc->skc_state))
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp || !cut_begin(&c, ctx->meta, (struct sock *)tp) || mesh_addr_any(&c.remote))
		return 0;
	state = skc->skc_state;
	flow = flow_of(tp);
	dialled = flow || bpf_sk_storage_get(&mesh_dials, (struct sock *)tp, 0, 0);
	if (!dialled && state != TCP_SYN_SENT_ && !tcp_began(tp, state))
		return 0;
	/* Who dials himself by his own address never leaves the pod. */
	if ((!dialled && mesh_pod_owns(c.pod, &c.remote)) ||
	    !forbidden(&c, &c.local, &c.remote, c.remote_port_be, relayed(&c, 1)))
		return 0;
	mark(&c, flow, tp, state);
	destroy(&c, skc, MESH_PROTO_TCP, MESH_REASON_CUT);
	return 0;
}

/* Those of the node itself are not asked, as at the link; a pod that has reached itself was looked at as a client. */
static __always_inline int exempt(const struct cut *c)
{
	return mesh_addr_special(&c->remote) || mesh_addr_loop(&c->remote) || mesh_pod_owns(c->pod, &c->remote) ||
	       bpf_map_lookup_elem(&mesh_locals, &c->remote);
}

SEC("iter/tcp")
int mesh_cut_server(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct cut c = {};
	struct tcp_sock *tp;
	__u32 state;

	if (!skc || !tcp_talks(skc->skc_state) || skc->skc_state == TCP_SYN_SENT_)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp || !cut_begin(&c, ctx->meta, (struct sock *)tp) || exempt(&c))
		return 0;
	state = skc->skc_state;
	if (flow_of(tp) || bpf_sk_storage_get(&mesh_dials, (struct sock *)tp, 0, 0) || tcp_began(tp, state) ||
	    !forbidden(&c, &c.remote, &c.local, c.local_port_be, relayed(&c, 0)))
		return 0;
	destroy(&c, skc, MESH_PROTO_TCP, MESH_REASON_CUT);
	return 0;
}

/* The socket goes on, as do its other flows; its next datagram to there is asked about as a first one. */
static __noinline int cut_peer(struct cut *c, struct mesh_peer *e)
{
	__u64 cookie = e->cookie;
	struct mesh_flow *flow;
	struct mesh_addr client;

	if (!e->dialled_port_be)
		return 0;
	pod_addr(c->pod, &c->local, &e->chosen, &client);
	if (!forbidden(c, &client, &e->chosen, e->chosen_port_be, 0))
		return 0;
	flow = bpf_map_lookup_elem(&mesh_flows, &cookie);
	if (flow)
		flow->policy_id = c->policy_id;
	peer_end(e, MESH_REASON_CUT);
	e->dialled_port_be = 0;
	mesh_count(MESH_HOOK_CUT, MESH_REASON_CUT);
	return 0;
}

static __always_inline void cut_dial(struct cut *c, struct mesh_dial *dial, struct sock *sk)
{
	__u64 cookie = dial->cookie;
	struct mesh_flow *flow;

	if (!cookie || mesh_addr_any(&c->remote) || !forbidden(c, &c->local, &c->remote, c->remote_port_be, 0))
		return;
	flow = bpf_map_lookup_elem(&mesh_flows, &cookie);
	if (flow)
		flow->policy_id = c->policy_id;
	flow_end(dial, MESH_STATE_CLOSED, MESH_REASON_CUT);
	destroy(c, (struct sock_common *)sk, MESH_PROTO_UDP, MESH_REASON_CUT);
}

/* Of datagrams only whoever has dialled a service is known to be the client; the rest is left to the links. The iterator holds the
 * socket's lock, as the hooks do; before Linux 6.5 it does not, and the record of a flow that a hook replaces at that moment may end as if it
 * were the one before. */
SEC("iter/udp")
int mesh_cut_udp(struct bpf_iter__udp *ctx)
{
	struct sock *sk = (struct sock *)ctx->udp_sk;
	struct mesh_peers *peers;
	struct mesh_dial *dial;
	struct cut c = {};
	__u32 i;

	if (!sk || !cut_begin(&c, ctx->meta, sk))
		return 0;
	peers = bpf_sk_storage_get(&mesh_peers, sk, 0, 0);
	for (i = 0; peers && i < MESH_PEERS && i < peers->nr; i++)
		cut_peer(&c, &peers->peer[i]);
	dial = bpf_sk_storage_get(&mesh_dials, sk, 0, 0);
	if (dial)
		cut_dial(&c, dial, sk);
	return 0;
}

/* The record says why before the socket ends. A cookie is never another socket's. */
SEC("iter/tcp")
int mesh_lapse_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct mesh_flow *flow;
	struct cut c = {};
	struct tcp_sock *tp;
	__u32 *reason;
	__u64 cookie;

	if (!skc || !tcp_talks(skc->skc_state))
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	cookie = tp ? bpf_get_socket_cookie(tp) : 0;
	reason = bpf_map_lookup_elem(&mesh_lapsed, &cookie);
	if (!tp || !reason || !cut_begin(&c, ctx->meta, (struct sock *)tp))
		return 0;
	flow = bpf_map_lookup_elem(&mesh_flows, &cookie);
	if (flow)
		flow->reason = (__u16)*reason;
	destroy(&c, skc, MESH_PROTO_TCP, *reason);
	return 0;
}
