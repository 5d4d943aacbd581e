/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Snapshots as text: what golden tests compare and `meshctl diff` prints. Files and lines are left out, so that moving text in a
 * file is no difference.
 */
#include "config/http_print.h"
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
	buf_printf(out, "/%s ", r->proto == MESH_PROTO_UDP ? "udp" : "tcp");
	if (r->l7)
		buf_printf(out, "l7 table %u%s", r->http_table, r->fail_open ? " or" : "");
	else
		buf_printf(out, "%s", r->action == MESH_ROUTE && !r->dest_nr ? "refuse" : actions[r->action & 3]);
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

/* ---- traffic policies ---- */

static void print_ms(struct buf *out, uint32_t ms)
{
	if (ms % 1000)
		buf_printf(out, "%ums", ms);
	else
		buf_printf(out, "%us", ms / 1000);
}

/* 1234 thousandths: "1.234". */
static void print_thousandths(struct buf *out, uint32_t v)
{
	buf_printf(out, "%u", v / 1000);
	if (v % 1000)
		buf_printf(out, v % 100 ? v % 10 ? ".%03u" : ".%02u" : ".%u",
			   v % 100 ? v % 10 ? v % 1000 : v % 1000 / 10 : v % 1000 / 100);
}

static void print_time(struct buf *out, const char *what, uint32_t ms)
{
	if (!ms)
		return;
	buf_printf(out, "; %s ", what);
	print_ms(out, ms);
}

static void print_lb(const struct u_traffic *t, struct buf *out)
{
	static const char *const names[] = {
		[LB_LEAST_REQUEST] = "LEAST_REQUEST", [LB_RANDOM] = "RANDOM",	 [LB_ROUND_ROBIN] = "ROUND_ROBIN",
		[LB_RING] = "hash ring of",	      [LB_MAGLEV] = "Maglev of",
	};

	buf_printf(out, "%s", names[t->lb]);
	if (t->table_size)
		buf_printf(out, " %u, by client address", t->table_size);
	if (t->affinity_s)
		buf_printf(out, "; client affinity %us", t->affinity_s);
	if (!t->warmup_ms)
		return;
	print_time(out, "warm-up", t->warmup_ms);
	buf_printf(out, " from ");
	print_thousandths(out, t->warmup_min * 100u);
	buf_printf(out, "%%, aggression ");
	print_thousandths(out, t->warmup_aggression);
}

static void print_drain(const struct u_traffic *t, struct buf *out)
{
	if (!t->drain_ms)
		buf_printf(out, "; may outlast its endpoint");
	else if (t->drain_ms != DRAIN_UNSET)
		print_time(out, "outlasts its endpoint for", t->drain_ms);
	if (t->removal != REMOVAL_UNSET)
		buf_printf(out, "; %s when its endpoint is gone", t->removal == REMOVAL_RESET ? "reset" : "kept");
}

static void print_pool(const struct u_traffic *t, struct buf *out)
{
	if (t->max_connections != UINT32_MAX)
		buf_printf(out, "; at most %u connections", t->max_connections);
	print_time(out, "connect timeout", t->connect_timeout_ms);
	print_time(out, "idle timeout", t->idle_timeout_ms);
	print_time(out, "at most open for", t->max_duration_ms);
	print_drain(t, out);
	if (!t->keepalive)
		return;
	buf_printf(out, "; keepalive");
	if (t->keepalive_time_s)
		buf_printf(out, " after %us", t->keepalive_time_s);
	if (t->keepalive_interval_s)
		buf_printf(out, " every %us", t->keepalive_interval_s);
	if (t->keepalive_probes)
		buf_printf(out, " %u times", t->keepalive_probes);
}

static void print_outlier(const struct u_traffic *t, struct buf *out)
{
	if (!t->outlier)
		return;
	buf_printf(out, "; ejected");
	if (t->connect_failures)
		buf_printf(out, " after %u failures", t->connect_failures);
	if (t->resets)
		buf_printf(out, "%s %u resets without an answer", t->connect_failures ? " or" : " after", t->resets);
	if (!t->connect_failures && !t->resets)
		buf_printf(out, " by nothing in a row");
	buf_printf(out, " for ");
	print_ms(out, t->base_ejection_ms);
	buf_printf(out, ", at most %u%%, interval ", t->max_ejection_percent);
	print_ms(out, t->interval_ms);
	if (t->min_health_percent)
		buf_printf(out, ", not below %u%% available", t->min_health_percent);
	if (!t->latency_factor)
		return;
	buf_printf(out, "; ejected when ");
	print_thousandths(out, t->latency_factor);
	buf_printf(out, " times as slow as the others and over ");
	print_thousandths(out, t->latency_floor_us);
	buf_printf(out, "ms");
}

bool traffic_is_default(const struct u_traffic *t)
{
	return !memcmp(t, &traffic_default, offsetof(struct u_traffic, origin));
}

void traffic_print(const struct u_traffic *t, struct buf *out)
{
	print_lb(t, out);
	print_pool(t, out);
	print_outlier(t, out);
}

static void print_traffic(const struct unit *u, const struct u_traffic *t, struct buf *out)
{
	const struct u_origin *o = t->origin ? &u->origins[t->origin - 1] : NULL;

	if (traffic_is_default(t))
		return;
	buf_printf(out, "    policy ");
	traffic_print(t, out);
	if (o)
		buf_printf(out, " by %.*s %.*s/%.*s %.*s", STR_ARG(o->kind), STR_ARG(o->ns), STR_ARG(o->name),
			   STR_ARG(o->field));
	buf_printf(out, "\n");
}

static void print_endpoint(const struct unit *u, const struct u_endpoint *e, struct buf *out)
{
	buf_printf(out, "    ");
	if (e->level)
		buf_printf(out, "level %u ", e->level);
	print_net(out, &e->addr, e->port, 128);
	if (e->weight != 1)
		buf_printf(out, " weight %u", e->weight);
	if (e->workload)
		buf_printf(out, " %.*s", STR_ARG(u->workloads[e->workload - 1].text));
	if (e->locality)
		buf_printf(out, " in %.*s", STR_ARG(u->localities[e->locality - 1]));
	if (e->probe)
		buf_printf(out, " checked by %.*s", STR_ARG(u->probes[e->probe - 1].group));
	buf_printf(out, "%s\n", e->draining ? " draining" : "");
}

static void print_probe(const struct u_probe *p, struct buf *out)
{
	char text[ADDR_TEXT_MAX];

	buf_printf(out, "  probe %.*s %s :%u%.*s", STR_ARG(p->group), p->http ? "GET" : "connect", p->port,
		   STR_ARG(p->path));
	if (!addr_is_zero(&p->host))
		buf_printf(out, " at %s", addr_text(&p->host, text));
	print_time(out, "after", p->delay_ms);
	print_time(out, "every", p->period_ms);
	print_time(out, "timeout", p->timeout_ms);
	buf_printf(out, "; healthy after %u, not after %u\n", p->success_min, p->failure_max);
	for (uint32_t at = 0; at < p->headers.len;) {
		struct str rest = str_sub(p->headers, at, p->headers.len), line = rest;

		line.len = (uint32_t)str_find(rest, '\r');
		buf_printf(out, "    %.*s\n", STR_ARG(line));
		at += line.len + 2;
	}
}

static uint32_t http_tables(const struct unit *u)
{
	return u->http ? ((const struct mesh_http_image *)u->http)->tables.nr : 0;
}

/* What holds for requests only, where it is said. */
static void print_requests(const struct unit *u, uint32_t cluster, struct buf *out)
{
	struct buf text = { 0 };

	if (u->http)
		http_cluster_print(u->http, cluster, &text);
	if (text.len)
		buf_printf(out, "    requests%s\n", text.data + 1);
	buf_release(&text);
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
		print_traffic(u, &c->traffic, out);
		print_requests(u, i, out);
		for (uint32_t k = 0; k < c->endpoint_nr + c->draining_nr; k++)
			print_endpoint(u, &u->endpoints[c->endpoint + k], out);
	}
	for (uint32_t i = 0; i < u->probe_nr; i++)
		print_probe(&u->probes[i], out);
	for (uint32_t i = 0; i < http_tables(u); i++) {
		buf_printf(out, "  table %u\n", i);
		http_table_print(u->http, i, "    ", out);
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
