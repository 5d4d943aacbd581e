/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes what a member of the socket's group can send, and what a journal can hold. The first byte of an input says what the rest is:
 *   'S'  the bytes of a client of the control socket: real socket, real event loop, the real handler behind it
 *   'J'  a journal file that meshd opens at its start
 *   else frames, one after the other, given to the handler without a socket (the fast way)
 * The rule store is the real one with its journal on a memory file system; only the kernel's side (struct plane) is a stand-in that
 * accepts everything. Every reply must be a whole frame with an exit code.
 * build: user/plane/verbs*.c user/plane/rules*.c user/plane/journal.c user/plane/control.c
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "config/explain.h"
#include "mesh_abi.h"
#include "must.h"
#include "mutate.h"
#include "plane/control.h"
#include "plane/verbs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define INPUT_MAX 16384
#define FRAMES_MAX 8

/* ---- the kernel's side ---- */

struct plane {
	struct snapshot *live;
	uint64_t epoch;
};

int plane_apply(struct plane *p, struct snapshot *s, struct plane_applied *ret, struct buf *err)
{
	snapshot_unref(p->live);
	p->live = snapshot_ref(s);
	*ret = (struct plane_applied){ .epoch = ++p->epoch };
	return 0;
}

int plane_flows(struct plane *p, const struct flow_filter *f, flow_fn fn, void *data)
{
	static const struct mesh_flow open = { .cookie = 1, .proto = MESH_PROTO_TCP, .state = MESH_STATE_ESTABLISHED };
	static const struct mesh_flow closed = {
		.seq = 1, .seq_end = 1, .closed_ns = 2, .proto = 255, .state = 255, .reason = 65535
	};
	struct flow_view v = { .flow = &open,
			       .opened_realtime_ns = 1,
			       .client = STR("a/b/c"),
			       .server = STR("d/e/f"),
			       .service = STR("a/s.example.com"),
			       .cluster = STR("outbound|80||s.example.com") };

	if (!fn(data, &v))
		return 0;
	v = (struct flow_view){ .flow = &closed, .opened_realtime_ns = 1, .closed_realtime_ns = UINT64_MAX };
	fn(data, &v);
	return 0;
}

void plane_endpoints(struct plane *p, struct str host, endpoint_fn fn, void *data)
{
	struct endpoint_view v = { .cluster = STR("outbound|80|v1|s.example.com|why"),
				   .why = STR("check: status 503") };

	if (!fn(data, &v))
		return;
	v = (struct endpoint_view){ .cluster = host, .state = ENDPOINT_HEALTHY, .until_realtime_ns = UINT64_MAX };
	v.backend.proto = 255;
	fn(data, &v);
}

void flow_json(struct json *j, const struct flow_view *v)
{
	json_object(j);
	json_kstr(j, "client", v->client);
	json_object_end(j);
}

void plane_status(struct plane *p, struct json *j)
{
	json_object(j);
	json_kuint(j, "epoch", p->epoch);
	json_object_end(j);
}

static void explain_pod(void *data, const struct client *c, struct explain_pod *ret)
{
	*ret = (struct explain_pod){ .here = c->host_network };
}

void plane_explain(struct plane *p, struct explain_node *ret, struct buf *text)
{
	*ret = (struct explain_node){ .accelerate = ACCELERATE_AUTO,
				      .no_shortcut = "shortcut: off",
				      .pod = explain_pod };
}

void plane_idle(struct plane *p)
{
}

int plane_rescan(struct plane *p)
{
	return 0;
}

/* ---- meshl7, which starts again each second time ---- */

struct parser {
	uint32_t restarts;
};

int parser_restart(struct parser *p, struct buf *err)
{
	if (p->restarts++ % 2)
		return 0;
	buf_printf(err, "no rule needs meshl7");
	return -EAGAIN;
}

void parser_json(const struct parser *p, struct json *j)
{
	json_uint(j, p->restarts);
}

void parser_metrics(const struct parser *p, struct buf *out)
{
	buf_printf(out, "tulle_parser_restarts_total %u\n", p->restarts);
}

/* ---- meshd without it ---- */

static struct {
	char dir[64], journal[96], socket[96];
	struct settings settings;
	struct plane plane;
	struct parser parser;
	struct verbs verbs;
	struct buf reply;
	bool dirty; /* the store may hold what this input gave it: the next one gets a new store */
} m;

/* False: the journal is refused, which a sentence must say. */
static bool store_open(bool start)
{
	struct buf err = { 0 };
	int rc;

	m.plane.epoch = 0;
	rc = rules_new(&m.settings, &m.plane, &m.verbs.rules, &err);
	MUST(!rc || err.len);
	buf_release(&err);
	if (rc)
		m.verbs.rules = NULL;
	else if (start)
		rules_start(m.verbs.rules);
	return !rc;
}

static void store_close(void)
{
	rules_free(m.verbs.rules);
	m.verbs.rules = NULL;
	m.dirty = false;
	snapshot_unref(m.plane.live);
	m.plane.live = NULL;
	unlink(m.journal);
}

static void check_reply(struct str frame)
{
	struct wire_header h;
	struct wire_part part;
	bool has_exit = false;
	uint32_t at = 0, nr = 0;
	int rc;

	MUST(frame.len >= WIRE_HEADER_LEN && !wire_header_decode((const uint8_t *)frame.p, &h));
	MUST(h.type == WIRE_REPLY && h.body_len == frame.len - WIRE_HEADER_LEN);
	while ((rc = wire_part_next(str_sub(frame, WIRE_HEADER_LEN, h.body_len), &at, &part)) == 1) {
		nr++;
		has_exit |= str_is(part.name, "exit") && part.data.len == 1 && part.data.p[0] >= '0' &&
			    part.data.p[0] <= '3';
	}
	MUST(!rc && has_exit && nr == h.part_nr);
}

/* One frame to the handler; how much of the input it was, 0: the end. */
static uint32_t answer_frame(struct str in)
{
	struct wire_header h;

	if (in.len < WIRE_HEADER_LEN || wire_header_decode((const uint8_t *)in.p, &h) ||
	    h.body_len > in.len - WIRE_HEADER_LEN)
		return 0;
	m.dirty |= h.type == WIRE_APPLY || h.type == WIRE_DELETE;
	buf_clear(&m.reply);
	verbs_answer(&m.verbs, &h, str_sub(in, WIRE_HEADER_LEN, h.body_len), &m.reply);
	check_reply((struct str){ m.reply.data, (uint32_t)m.reply.len });
	return WIRE_HEADER_LEN + h.body_len;
}

static void run_frames(struct str in)
{
	uint32_t used;

	for (uint32_t i = 0; i < FRAMES_MAX && (used = answer_frame(in)); i++)
		in = str_sub(in, used, in.len - used);
}

static void run_journal(struct str in)
{
	int fd = open(m.journal, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, in.p, in.len) != (ssize_t)in.len)
		abort();
	close(fd);
	if (!store_open(true))
		return;
	rules_free(m.verbs.rules);
	/* What it wrote it reads. */
	MUST(store_open(true));
}

struct session {
	struct loop *loop;
	struct loop_io *io;
	struct str left;
	struct buf reply;
};

static void on_session(void *data, int fd, uint32_t events)
{
	struct session *s = data;
	char text[65536];
	ssize_t n;

	if (s->left.len) {
		/* In two writes, so that frames come in pieces. */
		uint32_t part = s->left.len > 20 ? s->left.len / 2 : s->left.len;

		n = send(fd, s->left.p, part, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			n = s->left.len;
		s->left = str_sub(s->left, (uint32_t)n, s->left.len - (uint32_t)n);
		if (!s->left.len) {
			shutdown(fd, SHUT_WR);
			loop_io_set(s->io, EPOLLIN);
		}
		return;
	}
	n = recv(fd, text, sizeof(text), MSG_DONTWAIT);
	if (n > 0)
		buf_add(&s->reply, text, (size_t)n);
	else if (n == 0 || errno != EAGAIN)
		loop_stop(s->loop);
}

static void run_socket(struct str in)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct session s = { .loop = loop_new(), .left = in };
	struct control *control;
	struct buf err = { 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!in.len || control_new(s.loop, m.socket, "", verbs_answer, &m.verbs, &control, &err)) {
		close(fd);
		loop_free(s.loop);
		MUST(!in.len);
		return;
	}
	memcpy(sa.sun_path, m.socket, strlen(m.socket) + 1);
	MUST(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	s.io = loop_io_add(s.loop, fd, EPOLLOUT, on_session, &s);
	loop_run(s.loop);
	if (s.reply.len)
		check_reply((struct str){ s.reply.data, (uint32_t)s.reply.len });
	loop_io_del(s.io);
	close(fd);
	control_free(control);
	loop_free(s.loop);
	buf_release(&s.reply);
	buf_release(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = { (const char *)data, (uint32_t)size };

	if (size > INPUT_MAX || !size)
		return 0;
	if (data[0] == 'J') {
		store_close();
		run_journal(str_sub(in, 1, in.len - 1));
		m.dirty = true;
	} else {
		MUST(m.verbs.rules || store_open(false));
		m.dirty |= data[0] == 'S';
		if (data[0] == 'S')
			run_socket(str_sub(in, 1, in.len - 1));
		else
			run_frames(in);
	}
	if (m.dirty)
		store_close();
	return 0;
}

static void remove_dir(void)
{
	unlink(m.journal);
	unlink(m.socket);
	rmdir(m.dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	mutate_init();
	log_set_level(LOG_LEVEL_ERR);
	snprintf(m.dir, sizeof(m.dir), "/dev/shm/tulle-fuzz-%d", getpid());
	snprintf(m.journal, sizeof(m.journal), "%s/applied.log", m.dir);
	snprintf(m.socket, sizeof(m.socket), "%s/s", m.dir);
	if (mkdir(m.dir, 0700))
		abort();
	atexit(remove_dir);
	m.settings = (struct settings){ .config = "",
					.cgroup = "",
					.pin = "",
					.rules = "",
					.state = m.dir,
					.socket = m.socket,
					.socket_group = "",
					.node_name = "n1",
					.cluster_domain = "cluster.local",
					.root_namespace = "istio-system",
					.log_level = "err",
					.max_services = 1024,
					.max_endpoints = 1024,
					.max_pods = 16,
					.max_flows = 16,
					.max_closed_flows = 16,
					.max_connections = 64,
					.max_workloads = 64,
					.max_policy_terms = 64,
					.max_table_entries = 64 };
	m.verbs = (struct verbs){ .settings = &m.settings, .plane = &m.plane, .parser = &m.parser };
	return 0;
}

/* ---- mutation: parts of a frame, the lengths put right again ---- */

static const char *const part_names[] = { "file:a.yaml",
					  "file:-",
					  "dry-run",
					  "output",
					  "colour",
					  "kind",
					  "namespace",
					  "name",
					  "source",
					  "destination",
					  "protocol",
					  "workload",
					  "service",
					  "state",
					  "live",
					  "put:Service/default/s",
					  "del:Service/default/s" };
static const char *const part_values[] = { "1",	   "0",	     "table",	  "wide",     "json",		"yaml", "name",
					   "all",  "svc",    "service/s", "vs",	      "endpointslices", "tcp",	"udp",
					   "open", "closed", "s:80",	  "[::1]:80", "default",	"" };

#define PICK(list, rng) str_of((list)[mutate_next(rng) % (sizeof(list) / sizeof(*(list)))])

static size_t mutate_frame(uint8_t *data, size_t size, size_t max, uint64_t *rng)
{
	size_t prefix = size && (data[0] == 'S' || data[0] == 'J');
	struct str body = { (char *)data + prefix + WIRE_HEADER_LEN, 0 };
	static uint8_t scratch[INPUT_MAX];
	uint32_t at = 0, target, i = 0;
	struct wire_header h;
	struct wire_part part;
	struct buf out = { 0 };

	if (size < prefix + WIRE_HEADER_LEN || wire_header_decode(data + prefix, &h) ||
	    h.body_len > size - prefix - WIRE_HEADER_LEN)
		return LLVMFuzzerMutate(data, size, max);
	body.len = h.body_len;
	target = mutate_next(rng) % (h.part_nr + 2);
	wire_begin(&out, mutate_next(rng) % 8 ? h.type : (uint16_t)(mutate_next(rng) % 10));
	for (; wire_part_next(body, &at, &part) == 1; i++) {
		size_t len = part.data.len < sizeof(scratch) ? part.data.len : sizeof(scratch);

		if (i == target) {
			memcpy(scratch, part.data.p, len);
			len = mutate(scratch, len, sizeof(scratch), mutate_next(rng));
			part.data = (struct str){ (char *)scratch, (uint32_t)len };
		}
		wire_add(&out, part.name, part.data);
	}
	if (target > h.part_nr)
		wire_add(&out, PICK(part_names, rng), PICK(part_values, rng));
	wire_end(&out);
	if (prefix + out.len <= max) {
		size_t rest = size - prefix - WIRE_HEADER_LEN - h.body_len, from = size - rest;

		rest = prefix + out.len + rest <= max ? rest : 0;
		memmove(data + prefix + out.len, data + from, rest);
		memcpy(data + prefix, out.data, out.len);
		size = prefix + out.len + rest;
	}
	buf_release(&out);
	return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	uint64_t rng = seed * 0x9e3779b97f4a7c15ull + 1;

	if (size && size < max && mutate_next(&rng) % 32 == 0) {
		/* From one of the three ways in to another. */
		bool prefix = data[0] == 'S' || data[0] == 'J';

		memmove(data + !prefix, data + prefix, size - prefix);
		if (!prefix)
			data[0] = "SJ"[mutate_next(&rng) % 2];
		return size - prefix + !prefix;
	}
	if (mutate_next(&rng) % 4 == 0)
		return LLVMFuzzerMutate(data, size, max);
	return mutate_frame(data, size, max, &rng);
}
