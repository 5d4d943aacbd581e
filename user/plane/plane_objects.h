/* SPDX-License-Identifier: BSD-2-Clause */
/* The objects of the kernel that meshd owns, in their order: maps, attached programs, iterators. Inside of user/plane. */
#ifndef PLANE_PLANE_OBJECTS_H
#define PLANE_PLANE_OBJECTS_H

/* Every map, in the order of pinning. */
#define PLANE_MAPS(X)                  \
	X(CONTROL, mesh_control)       \
	X(SERVICES, mesh_services)     \
	X(CIDRS, mesh_cidrs)           \
	X(ROWS, mesh_rows)             \
	X(CHOICES, mesh_choices)       \
	X(CLUSTERS, mesh_clusters)     \
	X(BACKENDS, mesh_backends)     \
	X(TABLES, mesh_tables)         \
	X(TALLIES, mesh_tallies)       \
	X(POOLS, mesh_pools)           \
	X(AFFINITIES, mesh_affinities) \
	X(NETNS, mesh_netns)           \
	X(PODS, mesh_pods)             \
	X(MEMBERS, mesh_members)       \
	X(WORKLOADS, mesh_workloads)   \
	X(TERMS, mesh_terms)           \
	X(BITS, mesh_bits)             \
	X(POLICIES, mesh_policies)     \
	X(IFACES, mesh_ifaces)         \
	X(LOADS, mesh_loads)           \
	X(LOCALS, mesh_locals)         \
	X(HOST_PODS, mesh_host_pods)   \
	X(CONNS, mesh_conns)           \
	X(CONNS_NEW, mesh_conns_new)   \
	X(NATS, mesh_nats)             \
	X(NATS_NEW, mesh_nats_new)     \
	X(PARSERS, mesh_parsers)       \
	X(RELAYS, mesh_relays)         \
	X(SHORTCUTS, mesh_shortcuts)   \
	X(OFFERS, mesh_offers)         \
	X(LOOSENED, mesh_loosened)     \
	X(UNTIMED, mesh_untimed)       \
	X(FRAGS, mesh_frags)           \
	X(NAMES, mesh_names)           \
	X(COUNTERS, mesh_counters)     \
	X(FLOWS, mesh_flows)           \
	X(CLOSED, mesh_closed)         \
	X(DIALS, mesh_dials)           \
	X(PEERS, mesh_peers)           \
	X(NOTES, mesh_notes)           \
	X(ENDS, mesh_ends)             \
	X(SUITORS, mesh_suitors)       \
	X(SOCKETS, mesh_sockets)       \
	X(POD_ENDS, mesh_pod_ends)     \
	X(EXES, mesh_exes)             \
	X(ASKS, mesh_asks)             \
	X(LAPSED, mesh_lapsed)         \
	X(BARRIER, mesh_barrier)

/* Every attached program in the order of attaching: who ends a flow before who opens it. Detached the other way round. */
#define PLANE_PROGS(X)             \
	X(RELEASE, mesh_release)   \
	X(SOCKOPS, mesh_sockops)   \
	X(GETPEER4, mesh_getpeer4) \
	X(GETPEER6, mesh_getpeer6) \
	X(RECVMSG4, mesh_recvmsg4) \
	X(RECVMSG6, mesh_recvmsg6) \
	X(SEND, mesh_send)         \
	X(RECV, mesh_recv)         \
	X(SENDMSG4, mesh_sendmsg4) \
	X(SENDMSG6, mesh_sendmsg6) \
	X(CONNECT4, mesh_connect4) \
	X(CONNECT6, mesh_connect6)

/* Programs at interfaces, in the order of attaching: who translates answers before who needs it. Detached the other way round. */
#define PLANE_TC_PROGS(X)                \
	X(TO_POD, mesh_to_pod)           \
	X(FROM_PARSER, mesh_from_parser) \
	X(FROM_POD, mesh_from_pod)       \
	X(TO_NODE, mesh_to_node)         \
	X(FROM_NODE, mesh_from_node)

#define X(id, name) PLANE_MAP_##id,
enum plane_map_id { PLANE_MAPS(X) PLANE_MAP_NR };
#undef X
#define X(id, name) PLANE_PROG_##id,
enum plane_prog_id { PLANE_PROGS(X) PLANE_PROG_NR };
#undef X

#define X(id, name) PLANE_TC_##id,
enum plane_tc_id { PLANE_TC_PROGS(X) PLANE_TC_NR };
#undef X

/* Iterators over sockets: two refresh flows; one ends connections by name; the others cut them, whoever knows more of one first. */
#define PLANE_ITERS(X)                 \
	X(FLOWS_TCP, mesh_flows_tcp)   \
	X(FLOWS_UDP, mesh_flows_udp)   \
	X(LAPSE_TCP, mesh_lapse_tcp)   \
	X(CUT_CLIENT, mesh_cut_client) \
	X(CUT_UDP, mesh_cut_udp)       \
	X(CUT_SERVER, mesh_cut_server) \
	X(STEP_ENDS, mesh_step_ends)   \
	X(SHOW_ENDS, mesh_show_ends)

#define X(id, name) PLANE_ITER_##id,
enum plane_iter_id { PLANE_ITERS(X) PLANE_ITER_NR };
#undef X

extern const char *const plane_map_names[PLANE_MAP_NR];
extern const char *const plane_prog_names[PLANE_PROG_NR];
extern const char *const plane_tc_names[PLANE_TC_NR];

#endif
