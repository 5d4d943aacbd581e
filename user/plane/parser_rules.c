/* SPDX-License-Identifier: BSD-2-Clause */
/* Assembly of the rules for meshl7: see parser_rules.h. Images of units are copied as they are. */
#include "plane/parser_rules_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "mesh_http.h"

static int addr_order(const struct mesh_addr *a, const struct mesh_addr *b)
{
	return memcmp(a, b, sizeof(*a));
}

static int row_order(const void *a, const void *b)
{
	const struct mesh_http_row *x = a, *y = b;
	int d;

	if (x->scope != y->scope)
		return x->scope < y->scope ? -1 : 1;
	d = addr_order(&x->addr, &y->addr);
	return d ? d : x->port < y->port ? -1 : x->port > y->port;
}

static int client_order(const void *a, const void *b)
{
	const struct mesh_http_client *x = a, *y = b;
	int d = addr_order(&x->addr, &y->addr);

	/* Of two pods that claim one address, always the same. */
	return d ? d : x->workload.at < y->workload.at ? -1 : x->workload.at > y->workload.at;
}

static int client_addr_order(const void *a, const void *b)
{
	return addr_order(&((const struct mesh_http_client *)a)->addr, &((const struct mesh_http_client *)b)->addr);
}

/* Where the next thing goes, aligned. */
static uint32_t align(struct buf *out)
{
	static const char zeros[8];

	buf_add(out, zeros, -out->len & 7);
	return (uint32_t)out->len;
}

struct mesh_ref rules_array(struct buf *out, const void *items, uint32_t nr, size_t size)
{
	struct mesh_ref ref = { .at = align(out), .nr = nr };

	if (!nr)
		return (struct mesh_ref){ 0 };
	buf_add(out, items, nr * size);
	return ref;
}

struct mesh_ref rules_text(struct buf *out, struct str s)
{
	struct mesh_ref ref = { .at = (uint32_t)out->len, .nr = s.len };

	buf_str(out, s);
	return s.len ? ref : (struct mesh_ref){ 0 };
}

/* Images, and the rows that lead to them. */
static struct mesh_ref add_rows(struct buf *out, const struct snapshot *s)
{
	struct mesh_http_row *rows = xcalloc(s->row_nr + 1, sizeof(*rows));
	struct mesh_ref ref;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < s->unit_nr; i++) {
		const struct unit *u = s->units[i];
		uint32_t image;

		if (!u->http)
			continue;
		image = align(out);
		buf_add(out, u->http, u->http_len);
		for (uint32_t k = 0; k < u->row_nr; k++) {
			const struct u_row *row = &u->rows[k];

			if (!row->l7)
				continue;
			rows[nr] = (struct mesh_http_row){
				.scope = row->scope, .port = row->port, .image = image, .table = row->http_table
			};
			memcpy(&rows[nr++].addr, &row->addr, sizeof(rows->addr));
		}
	}
	qsort(rows, nr, sizeof(*rows), row_order);
	ref = rules_array(out, rows, nr, sizeof(*rows));
	free(rows);
	return ref;
}

/* Who is no pod, and known to policies all the same. Returns how many there are then, all in order. */
static uint32_t add_others(struct buf *out, const struct access *a, struct mesh_http_client *clients, uint32_t nr)
{
	uint32_t known = nr;

	for (uint32_t i = 0; i < a->member_nr && a->asks_requests; i++) {
		struct mesh_http_client *c = &clients[nr];

		memset(c, 0, sizeof(*c));
		memcpy(&c->addr, &a->members[i].addr, sizeof(c->addr));
		c->scope = MESH_SCOPE_OUTSIDE;
		if (!a->members[i].identity || bsearch(c, clients, known, sizeof(*clients), client_addr_order))
			continue;
		c->workload = rules_text(out, a->members[i].workload);
		nr++;
	}
	if (nr > known)
		qsort(clients, nr, sizeof(*clients), client_order);
	return nr;
}

static struct mesh_ref add_clients(struct buf *out, const struct snapshot *s)
{
	struct mesh_http_client *clients;
	uint32_t nr = 0, kept = 0;
	struct buf text = { 0 };
	struct mesh_ref ref;

	for (uint32_t i = 0; i < s->client_nr; i++)
		nr += s->clients[i].ip_nr;
	clients = xcalloc((size_t)nr + s->access->member_nr + 1, sizeof(*clients));
	nr = 0;
	for (uint32_t i = 0; i < s->client_nr; i++) {
		const struct client *c = &s->clients[i];
		struct mesh_ref workload;

		/* Its address is the node's, and not its own. */
		if (c->host_network || !c->ip_nr)
			continue;
		buf_clear(&text);
		buf_printf(&text, "%.*s/%.*s/%.*s", STR_ARG(c->ns), STR_ARG(c->name), STR_ARG(c->service_account));
		workload = rules_text(out, (struct str){ text.data, (uint32_t)text.len });
		for (uint32_t k = 0; k < c->ip_nr; k++) {
			const struct u_member *m = access_member(s->access, &c->ips[k]);

			/* Of two that claim it, the one that the kernel takes it for. */
			if (m && !str_eq(m->workload, (struct str){ text.data, (uint32_t)text.len }))
				continue;
			clients[nr] = (struct mesh_http_client){ .scope = c->scope, .workload = workload };
			memcpy(&clients[nr++].addr, &c->ips[k], sizeof(clients->addr));
		}
	}
	qsort(clients, nr, sizeof(*clients), client_order);
	nr = add_others(out, s->access, clients, nr);
	for (uint32_t i = 0; i < nr; i++)
		if (!kept || addr_order(&clients[kept - 1].addr, &clients[i].addr))
			clients[kept++] = clients[i];
	ref = rules_array(out, clients, kept, sizeof(*clients));
	buf_release(&text);
	free(clients);
	return ref;
}

void parser_rules_make(const struct snapshot *s, uint64_t epoch, struct buf *out)
{
	struct mesh_http h = { .magic = MESH_HTTP_MAGIC, .version = MESH_HTTP_VERSION, .epoch = epoch };

	buf_add(out, &h, sizeof(h));
	h.rows = add_rows(out, s);
	/* Who dials is of no interest where nobody can, nor whom. */
	if (h.rows.nr) {
		h.clients = add_clients(out, s);
		rules_add_guards(out, s->access, &h);
	}
	h.domain = rules_text(out, s->access->trust_domain);
	align(out);
	h.size = out->len;
	memcpy(out->data, &h, sizeof(h));
}

bool parser_rules_needed(const struct buf *rules)
{
	struct mesh_http h;

	memcpy(&h, rules->data, sizeof(h));
	return h.rows.nr;
}

bool parser_rules_equal(const struct buf *a, const struct buf *b)
{
	struct mesh_http x, y;

	if (a->len != b->len || a->len < sizeof(x))
		return false;
	memcpy(&x, a->data, sizeof(x));
	memcpy(&y, b->data, sizeof(y));
	x.epoch = y.epoch;
	return !memcmp(&x, &y, sizeof(x)) && !memcmp(a->data + sizeof(x), b->data + sizeof(y), a->len - sizeof(x));
}

int parser_rules_memfd(const struct buf *rules)
{
	int fd = memfd_create("mesh_http", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc = 0;
	size_t done = 0;

	if (fd < 0)
		return -errno;
	while (!rc && done < rules->len) {
		ssize_t n = write(fd, rules->data + done, rules->len - done);

		if (n > 0)
			done += (size_t)n;
		else if (errno != EINTR)
			rc = n ? -errno : -ENOSPC;
	}
	if (!rc && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		rc = -errno;
	if (!rc)
		return fd;
	close(fd);
	return rc;
}
