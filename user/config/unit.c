/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes units: rows of every scope from the views of one host, endpoints of its destinations, all packed into one block of memory
 * that fits exactly, because there are ten thousand of them.
 */
#include <stdlib.h>

#include "config/resolve.h"

/* ---- hash ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
	h *= 0xbf58476d1ce4e5b9ull;
	return h ^ (h >> 31);
}

static uint64_t mix_bytes(uint64_t h, const void *v, size_t size)
{
	return mix(h, str_hash((struct str){ v, (uint32_t)size }));
}

/* What acts of a policy; all of it lies in front of its origin. */
static uint64_t mix_traffic(uint64_t h, const struct u_traffic *t)
{
	return mix_bytes(h, t, offsetof(struct u_traffic, origin));
}

static uint64_t mix_addr(uint64_t h, const struct addr *a)
{
	uint64_t v[2];

	memcpy(v, a->b, sizeof(v));
	return mix(mix(h, v[0]), v[1]);
}

static uint64_t mix_probe(uint64_t h, const struct u_probe *p)
{
	h = mix(mix(mix(h, str_hash(p->group)), str_hash(p->path)), str_hash(p->headers));
	h = mix(mix_addr(h, &p->host), (uint32_t)p->port << 1 | p->http);
	h = mix(mix(h, ((uint64_t)p->delay_ms << 32) | p->timeout_ms), p->period_ms);
	return mix(h, ((uint64_t)p->success_min << 32) | p->failure_max);
}

/* What the kernel sees: rows, weights, endpoints, and the names that go with their ids. */
static uint64_t unit_hash(const struct unit *u)
{
	uint64_t h = mix(str_hash(u->host), str_hash(u->ns));

	for (uint32_t i = 0; i < u->row_nr; i++) {
		const struct u_row *r = &u->rows[i];

		h = mix(h, ((uint64_t)r->scope << 32) | ((uint32_t)r->port << 16) | ((uint32_t)r->proto << 8) |
				   r->prefix_len);
		h = mix_addr(mix(h, ((uint64_t)r->dest << 32) | r->dest_nr), &r->addr);
		h = mix(h, (uint64_t)r->http_table << 32 | (uint32_t)r->action << 2 | r->l7 << 1 | r->fail_open);
	}
	for (uint32_t i = 0; i < u->dest_nr; i++)
		h = mix(mix(h, u->dests[i].cluster), u->dests[i].weight);
	for (uint32_t i = 0; i < u->cluster_nr; i++) {
		const struct u_cluster *c = &u->clusters[i];

		h = mix(mix(h, str_hash(c->name)), ((uint64_t)c->endpoint << 32) | c->endpoint_nr);
		h = mix(h, (uint64_t)c->draining_nr << 2 | c->local << 1 | c->elsewhere);
		h = mix_traffic(h, &c->traffic);
	}
	for (uint32_t i = 0; i < u->endpoint_nr; i++) {
		const struct u_endpoint *e = &u->endpoints[i];

		h = mix(mix_addr(h, &e->addr), ((uint64_t)e->weight << 16) | e->port);
		h = mix(h, ((uint64_t)e->workload << 32) | e->locality);
		h = mix(h, ((uint64_t)e->probe << 32) | (uint32_t)e->level << 8 | e->draining);
	}
	for (uint32_t i = 0; i < u->workload_nr; i++)
		h = mix(h, str_hash(u->workloads[i].text));
	for (uint32_t i = 0; i < u->locality_nr; i++)
		h = mix(h, str_hash(u->localities[i]));
	for (uint32_t i = 0; i < u->probe_nr; i++)
		h = mix_probe(h, &u->probes[i]);
	return u->http ? mix_bytes(h, u->http, u->http_len) : h;
}

bool unit_same(const struct unit *a, const struct unit *b)
{
	if (a->hash != b->hash || a->line != b->line || a->origin_nr != b->origin_nr || a->note_nr != b->note_nr ||
	    a->row_nr != b->row_nr || !str_eq(a->file, b->file) || !str_eq(a->source_kind, b->source_kind) ||
	    a->service_nr != b->service_nr)
		return false;
	for (uint32_t i = 0; i < a->cluster_nr; i++)
		if (a->clusters[i].traffic.origin != b->clusters[i].traffic.origin)
			return false;
	for (uint32_t i = 0; i < a->row_nr; i++)
		if (a->rows[i].origin != b->rows[i].origin ||
		    a->rows[i].http_per_connection != b->rows[i].http_per_connection)
			return false;
	for (uint32_t i = 0; i < a->origin_nr; i++) {
		const struct u_origin *x = &a->origins[i], *y = &b->origins[i];

		if (x->line != y->line || x->column != y->column || !str_eq(x->kind, y->kind) ||
		    !str_eq(x->ns, y->ns) || !str_eq(x->name, y->name) || !str_eq(x->file, y->file) ||
		    !str_eq(x->field, y->field))
			return false;
	}
	for (uint32_t i = 0; i < a->note_nr; i++)
		if (!str_eq(a->notes[i], b->notes[i]))
			return false;
	for (uint32_t i = 0; i < a->service_nr; i++)
		if (!str_eq(a->services[i], b->services[i]))
			return false;
	return true;
}

/* ---- packing ---- */

/* More localities of one host's endpoints than this are not told apart for people. */
#define LOCALITIES_MAX 256

/* One block: first everything aligned, then text. */
struct pack {
	char *at; /* of the aligned part */
	char *text;
	size_t size, text_size;
};

static size_t aligned(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

static void *pack_array(struct pack *p, size_t nr, size_t size)
{
	char *v = p->at;

	p->at += aligned(nr * size);
	return v;
}

static struct str pack_str(struct pack *p, struct str s)
{
	char *v = p->text;

	if (s.len)
		memcpy(v, s.p, s.len);
	p->text += s.len;
	return (struct str){ v, s.len };
}

/* Distinct workloads of the endpoints, in order of appearance; the endpoints' numbers are set. */
static uint32_t number_workloads(struct endpoints *e, const struct str ***ret)
{
	const struct str **list = xmalloc((e->nr + 1) * sizeof(struct str *));
	uint32_t size = 16, nr = 0, *slots;

	while (size < e->nr * 2)
		size *= 2;
	slots = xcalloc(size, sizeof(*slots));
	for (uint32_t i = 0; i < e->nr; i++) {
		uint32_t at;

		const struct str *who = e->more[i].who;

		if (!who)
			continue;
		at = (uint32_t)str_hash(*who) & (size - 1);
		while (slots[at] && !str_eq(*list[slots[at] - 1], *who))
			at = (at + 1) & (size - 1);
		if (!slots[at]) {
			list[nr++] = who;
			slots[at] = nr;
		}
		e->v[i].workload = slots[at];
	}
	free(slots);
	*ret = list;
	return nr;
}

/* The same of their localities, of which there are few. */
static uint32_t number_localities(struct endpoints *e, const struct str **list, uint32_t max)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < e->nr; i++) {
		const struct locale *at = e->more[i].at;
		uint32_t k = 0;

		while (at && k < nr && list[k] != &at->text && !str_eq(*list[k], at->text))
			k++;
		if (!at || k == max)
			continue;
		if (k == nr)
			list[nr++] = &at->text;
		e->v[i].locality = k + 1;
	}
	return nr;
}

/* The groups whose probe checks some endpoint; the endpoints' numbers are set. NULL: none. */
static const struct doc **number_probes(struct endpoints *e, uint32_t *ret_nr)
{
	const struct doc **list = NULL;
	uint32_t nr = 0, cap = 0;

	for (uint32_t i = 0; i < e->nr; i++) {
		const struct doc *group = e->more[i].group;
		uint32_t k = 0;

		if (!group || !group->group->probe)
			continue;
		while (k < nr && list[k] != group)
			k++;
		if (k == nr) {
			GROW(list, nr, &cap);
			list[nr++] = group;
		}
		e->v[i].probe = k + 1;
	}
	*ret_nr = nr;
	return list;
}

static int by_text(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* "namespace/name" of the Services among the destinations, sorted; texts are in `a`. */
static uint32_t services_of(const struct parts *p, struct arena *a, struct str *list)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < p->spec_nr; i++) {
		const struct host *h = p->specs[i].host;
		bool there = false;

		if (!h || h->kind != HOST_SERVICE)
			continue;
		for (uint32_t k = 0; k < i; k++)
			there |= p->specs[k].host == h;
		if (!there)
			list[nr++] = arena_printf(a, "%.*s/%.*s", STR_ARG(h->ns), STR_ARG(h->doc->meta.name));
	}
	qsort(list, nr, sizeof(*list), by_text);
	return nr;
}

static size_t text_size(const struct parts *p, const struct str *services, uint32_t service_nr)
{
	size_t size = p->ns.len + p->host.len + p->source_kind.len + p->file.len;

	for (uint32_t i = 0; i < p->spec_nr; i++)
		size += p->specs[i].name.len;
	for (uint32_t i = 0; i < p->origin_nr; i++) {
		const struct u_origin *o = &p->origins[i];

		size += o->kind.len + o->ns.len + o->name.len + o->file.len + o->field.len;
	}
	for (uint32_t i = 0; i < p->note_nr; i++)
		size += p->notes[i].len;
	for (uint32_t i = 0; i < service_nr; i++)
		size += services[i].len;
	return size;
}

static size_t probes_size(const struct doc *const *groups, uint32_t nr)
{
	size_t size = 0;

	for (uint32_t i = 0; i < nr; i++)
		size += groups[i]->meta.ns.len + 1 + groups[i]->meta.name.len + groups[i]->group->probe->path.len +
			groups[i]->group->probe->headers.len;
	return size;
}

static size_t texts_size(const struct str *const *texts, uint32_t nr)
{
	size_t size = 0;

	for (uint32_t i = 0; i < nr; i++)
		size += texts[i]->len;
	return size;
}

static void pack_probes(struct unit *u, struct pack *k, const struct doc *const *groups, uint32_t nr)
{
	u->probe_nr = nr;
	u->probes = pack_array(k, nr, sizeof(*u->probes));
	for (uint32_t i = 0; i < nr; i++) {
		const struct m_probe *p = groups[i]->group->probe;
		struct str name = pack_str(k, groups[i]->meta.ns);

		name.len += pack_str(k, STR("/")).len + pack_str(k, groups[i]->meta.name).len;
		u->probes[i] = (struct u_probe){ .group = name,
						 .http = p->http,
						 .host = p->host,
						 .port = p->port,
						 .path = pack_str(k, p->path),
						 .headers = pack_str(k, p->headers),
						 .delay_ms = p->delay_ms,
						 .timeout_ms = p->timeout_ms,
						 .period_ms = p->period_ms,
						 .success_min = p->success_min,
						 .failure_max = p->failure_max };
	}
}

static void pack_texts(struct unit *u, struct pack *k, const struct parts *p)
{
	u->ns = pack_str(k, p->ns);
	u->host = pack_str(k, p->host);
	u->source_kind = pack_str(k, p->source_kind);
	u->file = pack_str(k, p->file);
	u->line = p->line;
	u->origin_nr = p->origin_nr;
	u->origins = pack_array(k, p->origin_nr, sizeof(*u->origins));
	for (uint32_t i = 0; i < p->origin_nr; i++) {
		const struct u_origin *o = &p->origins[i];

		u->origins[i] = (struct u_origin){ pack_str(k, o->kind),
						   pack_str(k, o->ns),
						   pack_str(k, o->name),
						   pack_str(k, o->file),
						   o->line,
						   o->column,
						   pack_str(k, o->field) };
	}
	u->note_nr = p->note_nr;
	u->notes = pack_array(k, p->note_nr, sizeof(*u->notes));
	for (uint32_t i = 0; i < p->note_nr; i++)
		u->notes[i] = pack_str(k, p->notes[i]);
}

static void *pack_copy(struct pack *k, const void *v, size_t nr, size_t size)
{
	void *to = pack_array(k, nr, size);

	return nr ? memcpy(to, v, nr * size) : to;
}

/* It is made of what is packed, so it comes last, and in memory of its own. */
static void pack_image(struct unit *u, const struct parts *p)
{
	struct buf image = { 0 };

	http_image(u, p, &image);
	u->http = image.data;
	u->http_len = (uint32_t)image.len;
}

struct unit *unit_pack(const struct parts *p, const struct world *w, const struct model *m, struct endpoints *e)
{
	struct str small[16], *services = p->spec_nr <= 16 ? small : xmalloc(p->spec_nr * sizeof(*services));
	struct u_cluster few[16], *clusters = p->spec_nr <= 16 ? few : xmalloc(p->spec_nr * sizeof(*clusters));
	const struct str **workloads, *localities[LOCALITIES_MAX];
	uint32_t workload_nr, service_nr, locality_nr, probe_nr, draining_nr = 0;
	const struct doc **groups;
	struct pack k = { 0 };
	struct unit *u;
	size_t size;

	e->nr = 0;
	arena_clear(&e->texts);
	for (uint32_t i = 0; i < p->spec_nr; i++) {
		clusters[i] = (struct u_cluster){
			.v6 = p->specs[i].v6, .local = p->specs[i].local, .endpoint = e->nr, .traffic = traffic_default
		};
		if (p->specs[i].balance)
			clusters[i].traffic = p->specs[i].balance->traffic;
		clusters[i].traffic.origin = p->specs[i].origin;
		endpoints_add(e, w, m, &p->specs[i]);
		clusters[i].draining_nr = e->draining_nr;
		clusters[i].endpoint_nr = e->nr - clusters[i].endpoint - e->draining_nr;
		draining_nr += e->draining_nr;
		clusters[i].elsewhere = e->elsewhere && !clusters[i].endpoint_nr;
	}
	workload_nr = number_workloads(e, &workloads);
	locality_nr = number_localities(e, localities, LOCALITIES_MAX);
	groups = number_probes(e, &probe_nr);
	service_nr = services_of(p, &e->texts, services);

	size = aligned(sizeof(*u)) + aligned(p->row_nr * sizeof(*u->rows)) + aligned(p->dest_nr * sizeof(*u->dests)) +
	       aligned(p->spec_nr * sizeof(*u->clusters)) + aligned(e->nr * sizeof(*u->endpoints)) +
	       aligned(workload_nr * sizeof(*u->workloads)) + aligned(locality_nr * sizeof(*u->localities)) +
	       aligned(probe_nr * sizeof(*u->probes)) + aligned(p->origin_nr * sizeof(*u->origins)) +
	       aligned(service_nr * sizeof(*u->services)) + aligned(p->note_nr * sizeof(*u->notes));
	u = xmalloc(size + text_size(p, services, service_nr) + texts_size(workloads, workload_nr) +
		    texts_size(localities, locality_nr) + probes_size(groups, probe_nr));
	k.at = (char *)u + aligned(sizeof(*u));
	k.text = (char *)u + size;
	*u = (struct unit){ .refs = 1,
			    .row_nr = p->row_nr,
			    .dest_nr = p->dest_nr,
			    .cluster_nr = p->spec_nr,
			    .endpoint_nr = e->nr,
			    .draining_nr = draining_nr,
			    .workload_nr = workload_nr,
			    .locality_nr = locality_nr,
			    .service_nr = service_nr };
	u->rows = pack_copy(&k, p->rows, p->row_nr, sizeof(*u->rows));
	u->dests = pack_copy(&k, p->dests, p->dest_nr, sizeof(*u->dests));
	u->clusters = pack_copy(&k, clusters, p->spec_nr, sizeof(*u->clusters));
	for (uint32_t i = 0; i < p->spec_nr; i++)
		u->clusters[i].name = pack_str(&k, p->specs[i].name);
	u->endpoints = pack_copy(&k, e->v, e->nr, sizeof(*u->endpoints));
	u->workloads = pack_array(&k, workload_nr, sizeof(*u->workloads));
	for (uint32_t i = 0; i < workload_nr; i++)
		u->workloads[i].text = pack_str(&k, *workloads[i]);
	u->localities = pack_array(&k, locality_nr, sizeof(*u->localities));
	for (uint32_t i = 0; i < locality_nr; i++)
		u->localities[i] = pack_str(&k, *localities[i]);
	pack_texts(u, &k, p);
	u->services = pack_array(&k, service_nr, sizeof(*u->services));
	for (uint32_t i = 0; i < service_nr; i++)
		u->services[i] = pack_str(&k, services[i]);
	pack_probes(u, &k, groups, probe_nr);
	if (p->table_nr)
		pack_image(u, p);
	u->hash = unit_hash(u);
	free(groups);
	free(workloads);
	if (services != small)
		free(services);
	if (clusters != few)
		free(clusters);
	return u;
}

struct unit *unit_ref(struct unit *u)
{
	u->refs++;
	return u;
}

void unit_unref(struct unit *u)
{
	if (!u || --u->refs)
		return;
	free((void *)u->http);
	free(u);
}

/* ---- rows ---- */

struct rows {
	struct u_row *v;
	uint32_t nr, cap;
	struct u_dest *dests;
	uint32_t dest_nr, dest_cap;
	uint32_t *cluster; /* of each spec of the making, + 1 */
	struct spec *specs;
	uint32_t spec_nr;
	uint32_t *tables; /* in the making */
	uint32_t table_nr, table_cap;
};

static bool serves(const struct view_row *r)
{
	return r->state == VIEW_ROUTE || r->state == VIEW_PASS;
}

static void emit_spec(struct rows *out, const struct making *mk, uint32_t spec)
{
	if (out->cluster[spec])
		return;
	out->specs[out->spec_nr++] = mk->specs[spec];
	out->cluster[spec] = out->spec_nr;
}

static void emit_mirrors(struct rows *out, const struct making *mk, const struct h_mirror *v, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		emit_spec(out, mk, v[i].spec);
}

/* The table's number in the unit. */
static uint32_t emit_table(struct rows *out, const struct making *mk, uint32_t table)
{
	const struct h_table *t = &mk->tables[table];

	for (uint32_t i = 0; i < out->table_nr; i++)
		if (out->tables[i] == table)
			return i;
	for (uint32_t i = 0; i < t->host_nr; i++) {
		for (uint32_t k = 0; k < t->hosts[i].route_nr; k++) {
			const struct h_route *r = &t->hosts[i].routes[k];

			emit_mirrors(out, mk, r->mirrors, r->mirror_nr);
			for (uint32_t d = 0; d < r->dest_nr; d++) {
				emit_spec(out, mk, r->dests[d].spec);
				emit_mirrors(out, mk, r->dests[d].mirrors, r->dests[d].mirror_nr);
			}
		}
	}
	GROW(out->tables, out->table_nr, &out->table_cap);
	out->tables[out->table_nr] = table;
	return out->table_nr++;
}

static void emit(struct rows *out, const struct making *mk, const struct view_row *r, uint32_t scope, uint8_t action)
{
	struct u_row row = { .scope = scope,
			     .addr = r->net.addr,
			     .port = r->port,
			     .proto = r->proto,
			     .prefix_len = r->net.prefix_len,
			     .action = action,
			     .dest = out->dest_nr };

	if (action != MESH_ABSENT) {
		row.http_per_connection = r->per_connection;
		row.origin = r->origin;
	}
	if (action == MESH_ROUTE && r->http) {
		row.l7 = true;
		row.fail_open = r->fail_open;
		row.http_table = emit_table(out, mk, r->http - 1);
	}
	for (uint32_t i = 0; i < r->dest_nr && action == MESH_ROUTE; i++) {
		const struct view_dest *d = &mk->dests[r->dest + i];

		emit_spec(out, mk, d->spec);
		GROW(out->dests, out->dest_nr, &out->dest_cap);
		out->dests[out->dest_nr++] = (struct u_dest){ out->cluster[d->spec] - 1, d->weight };
		row.dest_nr++;
	}
	if (!row.dest_nr)
		row.dest = 0;
	GROW(out->v, out->nr, &out->cap);
	out->v[out->nr++] = row;
}

static uint8_t action_of(const struct view_row *r)
{
	return r->state == VIEW_PASS ? MESH_PASS : MESH_ROUTE;
}

static int by_key(const void *a, const void *b)
{
	const struct u_row *x = a, *y = b;
	int c = addr_cmp(&x->addr, &y->addr);

	if (x->scope != y->scope)
		return x->scope < y->scope ? -1 : 1;
	if (c)
		return c;
	if (x->prefix_len != y->prefix_len)
		return x->prefix_len - y->prefix_len;
	return x->port != y->port ? x->port - y->port : x->proto - y->proto;
}

static void emit_all(struct rows *out, const struct making *mk)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < mk->row_nr; i++)
		if (serves(&mk->rows[i]))
			emit(out, mk, &mk->rows[i], 0, action_of(&mk->rows[i]));
	for (uint32_t s = 0; s < mk->scoped_nr; s++) {
		for (uint32_t i = 0; i < mk->row_nr; i++) {
			const struct view_row *common = &mk->rows[i];
			const struct view_row *own = &mk->rows[mk->scoped[s].view * mk->row_nr + i];

			bool closed = mk->scoped[s].scope & MESH_SCOPE_CLOSED;

			if (serves(own) && (closed || !view_row_equal(mk, common, own)))
				emit(out, mk, own, mk->scoped[s].scope, action_of(own));
			else if (!closed && own->state == VIEW_NONE && serves(common))
				emit(out, mk, own, mk->scoped[s].scope, MESH_ABSENT);
		}
	}
	if (out->nr)
		qsort(out->v, out->nr, sizeof(*out->v), by_key);
	/* A document that names one port twice is refused before; this keeps the map's keys unique whatever comes. */
	for (uint32_t i = 0; i < out->nr; i++)
		if (!nr || by_key(&out->v[nr - 1], &out->v[i]))
			out->v[nr++] = out->v[i];
	out->nr = nr;
}

static struct u_origin *origins_of(struct build *b, const struct making *mk)
{
	struct u_origin *v = arena_array(&b->temp, mk->origin_nr, sizeof(*v));

	for (uint32_t i = 0; i < mk->origin_nr; i++) {
		const struct origin *o = &mk->origins[i];

		v[i] = (struct u_origin){ .kind = o->doc->kind_name,
					  .ns = o->doc->meta.ns,
					  .name = o->doc->meta.name,
					  .file = o->doc->at.file,
					  .line = o->at.line ? o->at.line : o->doc->at.line,
					  .column = o->at.column,
					  .field = o->field };
	}
	return v;
}

static struct str host_kind_text(const struct host *h)
{
	return h->kind == HOST_SERVICE ? STR("Service") : h->kind == HOST_ENTRY ? STR("ServiceEntry") : STR("Gateway");
}

static void host_notes(struct build *b, struct making *mk)
{
	const struct host *h = mk->host;
	const struct m_service *s = h->doc->service;
	bool outer = false;

	if (h->kind == HOST_ENTRY && !h->front_nr)
		making_note(b, mk, "no addresses: known as a destination, not reachable by an address of its own");
	if (h->kind != HOST_SERVICE)
		return;
	if (s->type == SERVICE_EXTERNAL_NAME)
		making_note(b, mk, "ExternalName: an alias in DNS, its name is not a destination of rules yet");
	else if (s->headless)
		making_note(b, mk, "headless: clients dial pod addresses, which are not touched");
	else if (!s->vip_nr)
		making_note(b, mk, "no clusterIP: not reachable by an address of its own");
	for (uint32_t i = 0; i < s->port_nr; i++)
		outer |= s->ports[i].node_port != 0;
	if ((s->type == SERVICE_NODE_PORT || s->type == SERVICE_LOAD_BALANCER) && !outer)
		making_note(b, mk,
			    "no nodePort is given, and nobody here chooses one: not reachable at the nodes' addresses");
	for (uint32_t i = 0; i < h->port_nr; i++)
		if (h->ports[i].class == PORT_OTHER)
			making_note(b, mk, "port %u: SCTP is not handled", h->ports[i].number);
}

struct unit *unit_make(struct build *b, struct making *mk, struct endpoints *e, struct arena *keep,
		       struct unit_plan *ret_plan)
{
	const struct host *h = mk->host;
	struct rows rows = { .cluster = xcalloc(mk->spec_nr + 1, sizeof(uint32_t)),
			     .specs = arena_array(&b->temp, mk->spec_nr, sizeof(struct spec)) };
	struct parts p = { .ns = h->ns,
			   .host = h->name,
			   .source_kind = host_kind_text(h),
			   .file = h->doc->at.file,
			   .line = h->doc->at.line };
	struct unit *u;

	emit_all(&rows, mk);
	host_notes(b, mk);
	*ret_plan = (struct unit_plan){ .table_nr = rows.table_nr };
	ret_plan->specs = arena_array(keep, rows.spec_nr, sizeof(struct spec));
	for (uint32_t i = 0; i < rows.spec_nr; i++) {
		ret_plan->specs[i] = rows.specs[i];
		ret_plan->specs[i].name = arena_str(keep, rows.specs[i].name);
	}
	ret_plan->tables = arena_array(keep, rows.table_nr, sizeof(struct h_table));
	for (uint32_t i = 0; i < rows.table_nr; i++)
		http_table_copy(keep, &mk->tables[rows.tables[i]], rows.cluster, &ret_plan->tables[i]);
	p.rows = rows.v;
	p.row_nr = rows.nr;
	p.dests = rows.dests;
	p.dest_nr = rows.dest_nr;
	p.specs = ret_plan->specs;
	p.spec_nr = rows.spec_nr;
	p.tables = ret_plan->tables;
	p.table_nr = rows.table_nr;
	p.origins = origins_of(b, mk);
	p.origin_nr = mk->origin_nr;
	p.notes = mk->notes;
	p.note_nr = mk->note_nr;
	u = unit_pack(&p, b->world, b->model, e);
	free(rows.v);
	free(rows.dests);
	free(rows.cluster);
	free(rows.tables);
	return u;
}
