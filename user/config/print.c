/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Snapshots as text: what golden tests compare and `meshctl diff` prints. Files and lines are left out, so that moving text in a
 * file is no difference.
 */
#include "config/snapshot.h"
#include "mesh_abi.h"

static const char *const actions[] = { "gone", "route", "pass", "absent" };

static void print_net(struct buf *out, const struct addr *a, uint16_t port, uint8_t prefix_len)
{
	char text[ADDR_TEXT_MAX];
	bool v4 = addr_is_v4(a);

	buf_printf(out, v4 ? "%s" : "[%s]", addr_text(a, text));
	if (prefix_len < 128)
		buf_printf(out, "/%u", v4 ? prefix_len - 96u : prefix_len);
	buf_printf(out, ":%u", port);
}

static void print_row(const struct unit *u, const struct u_row *r, struct buf *out)
{
	buf_printf(out, "  ");
	if (r->scope == MESH_SCOPE_OUTSIDE)
		buf_printf(out, "outside ");
	else if (r->scope)
		buf_printf(out, "%sscope %u ", r->scope & MESH_SCOPE_CLOSED ? "closed " : "",
			   r->scope & ~MESH_SCOPE_CLOSED);
	print_net(out, &r->addr, r->port, r->prefix_len);
	buf_printf(out, "/%s %s", r->proto == MESH_PROTO_UDP ? "udp" : "tcp",
		   r->action == MESH_ROUTE && !r->dest_nr ? "refuse" : actions[r->action & 3]);
	if (r->origin) {
		const struct u_origin *o = &u->origins[r->origin - 1];

		buf_printf(out, " by %.*s %.*s/%.*s %.*s", STR_ARG(o->kind), STR_ARG(o->ns), STR_ARG(o->name),
			   STR_ARG(o->field));
	}
	if (r->http_per_connection)
		buf_printf(out, " per connection");
	buf_printf(out, "\n");
	for (uint32_t i = 0; i < r->dest_nr; i++) {
		const struct u_dest *d = &u->dests[r->dest + i];

		buf_printf(out, "    %llu %.*s%s%s\n", (unsigned long long)d->weight,
			   STR_ARG(u->clusters[d->cluster].name), u->clusters[d->cluster].v6 ? " v6" : "",
			   u->clusters[d->cluster].local ? " local" : "");
	}
}

void unit_print(const struct unit *u, struct buf *out)
{
	buf_printf(out, "%.*s %.*s/%.*s\n", STR_ARG(u->source_kind), STR_ARG(u->ns), STR_ARG(u->host));
	for (uint32_t i = 0; i < u->row_nr; i++)
		print_row(u, &u->rows[i], out);
	for (uint32_t i = 0; i < u->cluster_nr; i++) {
		const struct u_cluster *c = &u->clusters[i];

		buf_printf(out, "  cluster %.*s%s%s%s\n", STR_ARG(c->name), c->v6 ? " v6" : "",
			   c->local ? " local" : "",
			   c->endpoint_nr ? ""
			   : c->elsewhere ? " with endpoints of other nodes only"
					  : " without endpoints");
		for (uint32_t k = 0; k < c->endpoint_nr; k++) {
			const struct u_endpoint *e = &u->endpoints[c->endpoint + k];

			buf_printf(out, "    ");
			print_net(out, &e->addr, e->port, 128);
			if (e->weight != 1)
				buf_printf(out, " weight %u", e->weight);
			if (e->workload)
				buf_printf(out, " %.*s", STR_ARG(u->workloads[e->workload - 1].text));
			buf_printf(out, "\n");
		}
	}
	for (uint32_t i = 0; i < u->note_nr; i++)
		buf_printf(out, "  note %.*s\n", STR_ARG(u->notes[i]));
}

void snapshot_print(const struct snapshot *s, struct buf *out)
{
	for (uint32_t i = 0; i < s->client_nr; i++) {
		const struct client *c = &s->clients[i];

		if (!c->scope && !c->sidecar && !c->registry_only)
			continue;
		buf_printf(out, "client %.*s/%.*s %sscope %u", STR_ARG(c->ns), STR_ARG(c->name),
			   c->scope & MESH_SCOPE_CLOSED ? "closed " : "", c->scope & ~MESH_SCOPE_CLOSED);
		if (c->sidecar)
			buf_printf(out, " by Sidecar %.*s/%.*s", STR_ARG(c->sidecar->ns), STR_ARG(c->sidecar->name));
		buf_printf(out, "%s\n", c->registry_only ? " registry-only" : "");
	}
	for (uint32_t i = 0; i < s->unit_nr; i++)
		unit_print(s->units[i], out);
	access_print(s->access, out);
}
