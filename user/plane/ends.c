/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ends connections by name: those of sockets by an iterator that finds them in mesh_lapsed, in the pods that they are of; those of the tc
 * path by a program that is run for each. Both write down why. Decides nothing: whoever calls it knows whose time is up.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "base/arena.h"
#include "plane/plane_int.h"

struct ending {
	struct plane *p;
	uint64_t *netns; /* cookies, sorted */
	uint32_t nr;
};

static int cookie_order(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static bool is_concerned(void *data, uint64_t netns_cookie)
{
	const struct ending *e = data;

	return netns_cookie && bsearch(&netns_cookie, e->netns, e->nr, sizeof(*e->netns), cookie_order);
}

static int destroy(void *data, int netns_fd, const char *out, size_t len)
{
	const struct ending *e = data;

	return sockdiag_destroy(e->p->pods.own_netns_fd, netns_fd, (const void *)out, len / sizeof(struct mesh_victim));
}

static int end_sockets(struct plane *p, const struct end *ends, uint32_t nr)
{
	static const enum plane_iter_id ids[] = { PLANE_ITER_LAPSE_TCP };
	uint64_t *cookies = xcalloc((size_t)nr + 1, sizeof(*cookies));
	uint32_t *reasons = xcalloc((size_t)nr + 1, sizeof(*reasons)), written;
	struct ending e = { .p = p, .netns = xcalloc((size_t)nr + 1, sizeof(*e.netns)) };
	int rc;

	for (uint32_t i = 0; i < nr && e.nr < MESH_LAPSED_MAX; i++) {
		if (ends[i].conn)
			continue;
		cookies[e.nr] = ends[i].cookie;
		reasons[e.nr] = ends[i].reason;
		e.netns[e.nr++] = ends[i].netns_cookie;
	}
	qsort(e.netns, e.nr, sizeof(*e.netns), cookie_order);
	rc = batch_write(p, PLANE_MAP_LAPSED, cookies, reasons, e.nr, &written);
	if (!rc && e.nr)
		rc = podsocks_run(
			p, &(struct podsocks){
				   .ids = ids, .id_nr = 1, .wants = is_concerned, .wrote = destroy, .data = &e });
	batch_delete(p, PLANE_MAP_LAPSED, cookies, sizeof(*cookies), e.nr);
	free(cookies);
	free(reasons);
	free(e.netns);
	return rc;
}

static int end_conn(struct plane *p, const struct end *end)
{
	struct {
		uint8_t link[ETH_HLEN];
		struct mesh_conn_lapse end;
	} __attribute__((packed)) packet = {
		.end = { .wire = end->wire, .cookie = end->cookie, .reason = end->reason },
	};
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &packet, .data_size_in = sizeof(packet), .repeat = 1);

	return bpf_prog_test_run_opts(p->lapse_conn_fd, &run) ? -errno : 0;
}

int ends_run(struct plane *p, const struct end *ends, uint32_t nr)
{
	int rc = p->iter_fd[PLANE_ITER_LAPSE_TCP] >= 0 ? end_sockets(p, ends, nr) : 0;

	for (uint32_t i = 0; i < nr && p->lapse_conn_fd >= 0; i++) {
		int one = ends[i].conn ? end_conn(p, &ends[i]) : 0;

		rc = one ? one : rc;
	}
	return rc;
}
