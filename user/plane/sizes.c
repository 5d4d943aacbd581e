/* SPDX-License-Identifier: BSD-2-Clause */
/* How many elements each map has, out of the settings. Pure: no system calls. */
#include <errno.h>

#include "plane/plane_int.h"

#define IFACES_SPARE 64 /* links of the node, and interfaces of pods that have just gone */
#define LOCALS_MAX 4096
#define FRESH_MIN 4096 /* of connections that are not confirmed yet */
#define FRAGS_MAX 8192
#define UNTIMED_MAX 8192
#define EXES_MAX 16384
#define OFFERS_BYTES 65536 /* pages, as many as a power of two */

static uint32_t pow2(uint32_t n)
{
	uint32_t p = 1;

	while (p < n && p < 1u << 31)
		p *= 2;
	return p;
}

/*
 * How many elements each map has. An apply holds the old rules and the new ones at once, so what rules need counts twice:
 *   rows       old + new + one row for each key that goes: 3 x max-services
 *   services   old + new keys: 2 x max-services; networks the same (the trie allocates as it goes)
 *   clusters   two destinations a row: 2 x 2 x max-services
 *   choices    a column for each endpoint and one for each row, rounded up to a power of two (at most doubled), twice:
 *              4 x (max-endpoints + max-services)
 *   backends   2 x max-endpoints, and their states
 *   pools      a name for each of two destinations a row: 2 x max-services
 *   tables     max-table-entries
 *   affinities max-flows
 *   pods       old + new + going: 3 x max-pods; cookies old + new: 2 x max-pods
 *   workloads  old + new + going addresses: 3 x max-workloads; members old + new: 2 x max-workloads
 *   terms      max-policy-terms; programs that an apply leaves alone are there once. A word of identities and a policy that counts
 *              its verdicts for every four steps
 *   interfaces of pods and the node: max-pods + 64
 *   conns      max-connections; each has up to three other views in nats (dialled, and two of a masquerade); those that are not
 *              confirmed have half as much room, which nobody else's can be pushed out of
 *   relays     a client for each of max-connections at most; it allocates as it goes
 *   shortcuts  both directions of max-flows connections
 *   names      of services and clusters 4 x max-services, of workloads max-endpoints + max-pods + max-workloads, of policies as many as
 *              there may be, and 32768 of the past
 * With the defaults 75 MB of kernel memory, half of it flows; tables and names allocate as they fill.
 */
void plane_sizes(struct plane *p, const struct settings *s)
{
	uint32_t *max = p->map_max, fresh = p->max_conns / 2 > FRESH_MIN ? p->max_conns / 2 : FRESH_MIN;

	p->closed_nr = pow2(s->max_closed_flows);

	max[PLANE_MAP_CONTROL] = 1;
	max[PLANE_MAP_SERVICES] = 2 * p->max_services;
	max[PLANE_MAP_CIDRS] = 2 * p->max_services;
	max[PLANE_MAP_ROWS] = 3 * p->max_services + 1;
	max[PLANE_MAP_CLUSTERS] = 4 * p->max_services + 1;
	max[PLANE_MAP_CHOICES] = 4 * (p->max_endpoints + p->max_services);
	max[PLANE_MAP_BACKENDS] = 2 * p->max_endpoints + 1;
	max[PLANE_MAP_TABLES] = s->max_table_entries;
	max[PLANE_MAP_TALLIES] = max[PLANE_MAP_BACKENDS];
	max[PLANE_MAP_POOLS] = 2 * p->max_services + 1;
	max[PLANE_MAP_AFFINITIES] = p->max_flows;
	max[PLANE_MAP_NETNS] = 2 * p->max_pods;
	max[PLANE_MAP_PODS] = 3 * p->max_pods + 1;
	max[PLANE_MAP_MEMBERS] = 2 * p->max_workloads;
	max[PLANE_MAP_WORKLOADS] = 3 * p->max_workloads + 1;
	max[PLANE_MAP_TERMS] = s->max_policy_terms;
	max[PLANE_MAP_BITS] = s->max_policy_terms / 4;
	max[PLANE_MAP_POLICIES] = s->max_policy_terms / 4;
	max[PLANE_MAP_IFACES] = p->max_pods + IFACES_SPARE;
	max[PLANE_MAP_LOADS] = p->max_pods + IFACES_SPARE;
	max[PLANE_MAP_LOCALS] = LOCALS_MAX;
	max[PLANE_MAP_HOST_PODS] = p->max_pods;
	max[PLANE_MAP_CONNS] = p->max_conns;
	max[PLANE_MAP_CONNS_NEW] = fresh;
	max[PLANE_MAP_NATS] = 3 * p->max_conns;
	max[PLANE_MAP_NATS_NEW] = 3 * fresh;
	max[PLANE_MAP_PARSERS] = MESH_PARSERS_MAX;
	max[PLANE_MAP_RELAYS] = p->max_conns;
	max[PLANE_MAP_SHORTCUTS] = 2 * p->max_flows;
	max[PLANE_MAP_OFFERS] = OFFERS_BYTES;
	max[PLANE_MAP_LOOSENED] = p->max_flows;
	max[PLANE_MAP_UNTIMED] = UNTIMED_MAX;
	max[PLANE_MAP_FRAGS] = FRAGS_MAX;
	max[PLANE_MAP_NAMES] = 4 * p->max_services + p->max_endpoints + p->max_pods + p->max_workloads +
			       max[PLANE_MAP_POLICIES] + 32768;
	max[PLANE_MAP_COUNTERS] = MESH_HOOK_MAX * MESH_REASON_MAX;
	max[PLANE_MAP_FLOWS] = p->max_flows;
	max[PLANE_MAP_CLOSED] = p->closed_nr;
	max[PLANE_MAP_DIALS] = 0;
	max[PLANE_MAP_PEERS] = 0;
	max[PLANE_MAP_NOTES] = 0;
	max[PLANE_MAP_ENDS] = 0;
	max[PLANE_MAP_SUITORS] = 2 * s->max_accelerated;
	max[PLANE_MAP_SOCKETS] = s->max_accelerated;
	max[PLANE_MAP_POD_ENDS] = 2 * p->max_pods;
	max[PLANE_MAP_EXES] = EXES_MAX;
	max[PLANE_MAP_ASKS] = OFFERS_BYTES;
	max[PLANE_MAP_LAPSED] = MESH_LAPSED_MAX;
	max[PLANE_MAP_BARRIER] = 1;
}

int plane_check_settings(const struct settings *s, struct buf *err)
{
	const struct {
		const char *name;
		uint32_t value;
	} limits[] = { { "max-services", s->max_services },
		       { "max-endpoints", s->max_endpoints },
		       { "max-pods", s->max_pods },
		       { "max-flows", s->max_flows },
		       { "max-closed-flows", s->max_closed_flows },
		       { "max-connections", s->max_connections },
		       { "max-table-entries", s->max_table_entries },
		       { "max-workloads", s->max_workloads },
		       { "max-policy-terms", s->max_policy_terms / 4 } };

	for (uint32_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
		if (!limits[i].value || limits[i].value > 1u << 26)
			return plane_fail(err, -EINVAL, "%s must be between 1 and %u", limits[i].name, 1u << 26);
	return 0;
}
