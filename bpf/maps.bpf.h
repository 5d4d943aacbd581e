/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map once, with key, value, writer, reader and lifetime. All are pinned by user/plane. Sizes of 1 are placeholders that
 * user/plane replaces before loading. Rows of the MMAPABLE arrays are immutable while a reader can reach them (mesh_abi.h).
 */
#ifndef BPF_MAPS_H
#define BPF_MAPS_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "mesh_abi.h"
#include "mesh_shortcut.h"

/* Number of elements of mesh_closed, a power of two, less one. Set before loading. */
extern const volatile __u32 closed_mask;

/* mesh_control: the live epoch, the head of the ring of closed flows. Writer: user/plane (live, cidr_nr), flow.bpf.h (closed_head).
 * Reader: every hook. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_control);
} mesh_control __weak SEC(".maps");

/* mesh_services: which row answers at the address a client dials. Value: index in mesh_rows.
 * Writer: user/plane. Reader: connect. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct mesh_key);
	__type(value, __u32);
} mesh_services __weak SEC(".maps");

/* mesh_cidrs: the same for networks. Asked only after mesh_services missed and only when control.cidr_nr is not 0. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct mesh_cidr_key);
	__type(value, __u32);
} mesh_cidrs __weak SEC(".maps");

/* mesh_rows: what a service means. Index: slot given by user/plane. Writer: user/plane. Reader: connect. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_row);
} mesh_rows __weak SEC(".maps");

/* mesh_choices: alias tables, each a run of columns; of rows over clusters, of clusters over backends.
 * Writer: user/plane. Reader: connect. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_choice);
} mesh_choices __weak SEC(".maps");

/* mesh_clusters: destinations. Writer: user/plane. Reader: connect. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_cluster);
} mesh_clusters __weak SEC(".maps");

/* mesh_backends: endpoints and how they fare; the index is the backend's stable id. Writer: user/plane (who it is, flags), connect, sockops,
 * tc. Reader: the same. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_backend);
} mesh_backends __weak SEC(".maps");

/* mesh_tables: of lb kinds that need more than columns, and which columns are strays, each a run. Writer: user/plane. Reader: connect, tc. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} mesh_tables __weak SEC(".maps");

/* mesh_tallies: what became of their connections. Index: that of mesh_backends. Writer: sockops, tc, user/plane. Reader: user/plane. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_tally);
} mesh_tallies __weak SEC(".maps");

/* mesh_pools: policy and counts of clusters. Index: slot given by user/plane. Writer: user/plane (policy), connect, sockops, tc (counts).
 * Reader: the same. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_pool);
} mesh_pools __weak SEC(".maps");

/* mesh_affinities: where clients of services with session affinity went last. Writer, reader: connect, tc. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct mesh_affinity_key);
	__type(value, struct mesh_affinity);
} mesh_affinities __weak SEC(".maps");

/* mesh_netns: which pod a network namespace is. Key: netns cookie; value: index in mesh_pods.
 * Writer: user/plane. Reader: connect, sockops. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u32);
} mesh_netns __weak SEC(".maps");

/* mesh_pods: who a pod of this node is. Writer: user/plane. Reader: connect, sockops. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_pod);
} mesh_pods __weak SEC(".maps");

/* mesh_members: which workload has an address. Key: address; value: index in mesh_workloads. Writer: user/plane. Reader: connect, tc. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct mesh_addr);
	__type(value, __u32);
} mesh_members __weak SEC(".maps");

/* mesh_workloads: who an address is. Index: slot given by user/plane. Writer: user/plane. Reader: connect, tc. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_workload);
} mesh_workloads __weak SEC(".maps");

/* mesh_terms: policy programs, each a run. Writer: user/plane. Reader: connect, tc. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_term);
} mesh_terms __weak SEC(".maps");

/* mesh_bits: sets of identities, each a run of words. Writer: user/plane. Reader: connect, tc. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} mesh_bits __weak SEC(".maps");

/* mesh_policies: how often each policy gave a verdict. Key: the policy in mesh_names. Writer: user/plane (elements), connect and tc
 * (counts). Reader: user/plane. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_policy_hits);
} mesh_policies __weak SEC(".maps");

/* mesh_ifaces: what is behind an interface of this node. Key: ifindex. Writer: user/plane. Reader: tc. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_iface);
} mesh_ifaces __weak SEC(".maps");

/* mesh_loads: connections of an interface's pod. Key: ifindex. Writer: user/plane (elements), tc. Reader: the same. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_load);
} mesh_loads __weak SEC(".maps");

/* mesh_locals: addresses of the node itself; the value says nothing. Writer: user/plane. Reader: connect, tc. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct mesh_addr);
	__type(value, __u32);
} mesh_locals __weak SEC(".maps");

/* mesh_host_pods: cgroups of the pods that are on the node's own network. Key: cgroup id. Writer: user/plane. Reader: tc. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u32);
} mesh_host_pods __weak SEC(".maps");

/* Value of the two maps of connections. The timer ends the connection when nothing was seen of it for as long as its state allows. */
struct mesh_conn_slot {
	struct bpf_timer timer;
	struct mesh_conn conn;
};

/* mesh_conns: connections of the tc path that both ends have confirmed. Key: tuple on the wire. Nothing evicts them. Writer: tc.
 * Reader: tc, connect, user/plane. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct mesh_tuple);
	__type(value, struct mesh_conn_slot);
} mesh_conns __weak SEC(".maps");

/* mesh_conns_new: those that are not confirmed yet. A flood of them evicts only them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct mesh_tuple);
	__type(value, struct mesh_conn_slot);
} mesh_conns_new __weak SEC(".maps");

/* mesh_nats: every view of a connection, whichever way a packet goes, to its tuple on the wire (struct mesh_tuple). Lives as long as the
 * connection; in mesh_nats_new until that is confirmed. Writer, reader: tc. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct mesh_tuple);
	__type(value, struct mesh_tuple);
} mesh_nats __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct mesh_tuple);
	__type(value, struct mesh_tuple);
} mesh_nats_new __weak SEC(".maps");

/* mesh_parsers: listeners of the parser; empty while it is down. Index: any. Writer: user/plane. Reader: the lookup of sockets in its network
 * namespace, tc. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, MESH_PARSERS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} mesh_parsers __weak SEC(".maps");

/* mesh_relays: clients that the parser may speak for. Key: address. Writer: tc. Reader: tc. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct mesh_addr);
	__type(value, struct mesh_relay);
} mesh_relays __weak SEC(".maps");

/* mesh_shortcuts: directions of connections between pods of the node whose packets may go straight from link to link. One that is pushed out
 * takes the long way. Key: source as client, destination as server. Writer: tc. Reader: tc, user/plane. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct mesh_tuple);
	__type(value, struct mesh_shortcut);
} mesh_shortcuts __weak SEC(".maps");

/* mesh_offers: connections that user space is to loosen netfilter's entries of. Writer: tc. Reader: user/plane. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} mesh_offers __weak SEC(".maps");

/* mesh_loosened: those that it has. Key: the client's direction, as in mesh_shortcuts. Writer: user/plane. Reader: tc. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct mesh_tuple);
	__type(value, struct mesh_loosened);
} mesh_loosened __weak SEC(".maps");

/* mesh_untimed: connections of mesh_conns whose timer is still to be had: bpf_timer_init() allocates where it may not sleep, and fails now
 * and then. The next to be confirmed or to end tries again for one of them. Writer, reader: tc. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, struct mesh_tuple);
} mesh_untimed __weak SEC(".maps");

/* mesh_frags: ports of datagrams that come in fragments. Writer, reader: tc. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct mesh_frag_key);
	__type(value, struct mesh_frag);
} mesh_frags __weak SEC(".maps");

/* mesh_names: text of ids, for people. Writer: user/plane. Reader: user space only. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_name);
} mesh_names __weak SEC(".maps");

/* mesh_counters: exits of programs. Index: hook * MESH_REASON_MAX + reason. Writer: every program. Reader: user/plane. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MESH_HOOK_MAX *MESH_REASON_MAX);
	__type(key, __u32);
	__type(value, __u64);
} mesh_counters __weak SEC(".maps");

/* mesh_flows: connections that are open. Key: the client's socket cookie; a number of its own where one socket has several. Writer:
 * connect, sendmsg (open), sockops (updates, closes), the iterator (refreshes). Reader: user/plane. Full: the connection goes on
 * unrecorded, and is counted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct mesh_flow);
} mesh_flows __weak SEC(".maps");

/* mesh_closed: connections that ended, a ring; control.closed_head says how many were ever written.
 * Writer: connect, sockops, sock_release. Reader: user/plane. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_flow);
} mesh_closed __weak SEC(".maps");

/* mesh_dials: what a socket dialled. Lives and dies with the socket. Writer: connect. Reader: every other hook. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_dial);
} mesh_dials __weak SEC(".maps");

/* mesh_peers: what a socket dials without connect(). Lives and dies with the socket, so that nobody can fill it up for others. Writer:
 * sendmsg, recvmsg, udp (counts). Reader: the same, sock_release, the iterator. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_peers);
} mesh_peers __weak SEC(".maps");

/* mesh_notes: the flow whose datagram a thread is sending or receiving at this moment: the hooks know the address and not the length, the
 * tracepoints after them the length and not the address. Writer: sendmsg, recvmsg. Reader: udp. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} mesh_notes __weak SEC(".maps");

/* mesh_ends: ends of TCP connections between pods of this node that have seen some messages. Lives and dies with the socket. Writer: the
 * tracepoints, sk_msg, tc. Reader: the same, sock_release, iterators, sockops. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_end);
} mesh_ends __weak SEC(".maps");

/* mesh_suitors: ends that look for each other. Writer, reader: the tracepoints, sock_release. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct mesh_suitor_key);
	__type(value, struct mesh_suitor);
} mesh_suitors __weak SEC(".maps");

/* mesh_sockets: sockets that are accelerated, by their cookies, which the kernel never uses twice: neither another namespace nor a later
 * connection can have the same. Writer: tc, the iterator. Reader: sk_msg. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u64);
} mesh_sockets __weak SEC(".maps");

/* mesh_pod_ends: how many sockets of a pod are in mesh_sockets. Key: netns cookie. Writer, reader: tc, the iterator, sock_release. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u32);
} mesh_pod_ends __weak SEC(".maps");

/* mesh_exes: programs of pods, and whether they may splice. Writer: the tracepoints, user/plane. Reader: the tracepoints. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct mesh_exe_key);
	__type(value, __u32);
} mesh_exes __weak SEC(".maps");

/* mesh_asks: those that user space is to look at. Writer: the tracepoints. Reader: user/plane. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} mesh_asks __weak SEC(".maps");

/* mesh_lapsed: sockets whose connection is to end, each with its enum mesh_reason, while user/plane runs the iterator that ends them. Key:
 * socket cookie. Writer: user/plane. Reader: the iterator. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MESH_LAPSED_MAX);
	__type(key, __u64);
	__type(value, __u32);
} mesh_lapsed __weak SEC(".maps");

/* mesh_barrier: never read. Updating its element makes the kernel wait until no program that started earlier still runs, which is
 * the grace period that freed slots need. */
struct mesh_barrier_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct mesh_barrier_inner);
} mesh_barrier __weak SEC(".maps");

static __always_inline void mesh_count(__u32 hook, __u32 reason)
{
	__u32 at = hook * MESH_REASON_MAX + reason;
	__u64 *n = bpf_map_lookup_elem(&mesh_counters, &at);

	/* Atomic: these hooks run in process context and can be preempted on their own CPU. */
	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline struct mesh_control *mesh_control_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&mesh_control, &zero);
}

#endif
