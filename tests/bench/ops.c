/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Measures what is not a connection; prints one JSON object.
 *
 *   ops syscall               nanoseconds of a system call (getppid)
 *   ops parse FILE            text to documents, documents to snapshot
 *   ops change SOCKET NR      NR requests to meshd, each one endpoint of one EndpointSlice; from request to reply, when it is live
 *   ops programs PINNED_MAP   verified instructions, runs and nanoseconds of the programs that use this map
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <bpf/bpf.h>

#include "../node/peer.h"
#include "base/wire.h"
#include "config/snapshot.h"

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int measure_syscall(void)
{
	enum { NR = 1000000 };
	uint64_t best = UINT64_MAX;

	for (int round = 0; round < 5; round++) {
		uint64_t start = peer_now_ns(), took;

		for (int i = 0; i < NR; i++)
			syscall(SYS_getppid);
		took = peer_now_ns() - start;
		best = took < best ? took : best;
	}
	printf("{\"ns\":%.1f}\n", (double)best / NR);
	return 0;
}

static struct str read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text;

	if (fd < 0 || fstat(fd, &st))
		die(path);
	text = malloc((size_t)st.st_size);
	if (read(fd, text, (size_t)st.st_size) != st.st_size)
		die(path);
	close(fd);
	return (struct str){ text, (uint32_t)st.st_size };
}

static int measure_parse(const char *path)
{
	const struct snapshot_options options = { .cluster_domain = STR("cluster.local"),
						  .root_namespace = STR("istio-system"),
						  .trust_domain = STR("cluster.local") };
	struct str text = read_file(path);
	uint64_t read_ns[5], build_ns[5], rows = 0;

	for (int round = 0; round < 5; round++) {
		struct model *model = model_new();
		struct snapshot *s = NULL;
		struct batch b = { 0 };
		uint64_t start = peer_now_ns(), middle;

		batch_read(&b, LAYER_RULES, str_of(path), text);
		middle = peer_now_ns();
		for (uint32_t i = 0; i < b.nr; i++)
			if (b.results[i].doc)
				doc_unref(model_put(model, b.results[i].doc));
		if (snapshot_build(model, &options, NULL, NULL, 0, &b, &s)) {
			fprintf(stderr, "ops: %s does not compile\n", path);
			return 1;
		}
		read_ns[round] = middle - start;
		build_ns[round] = peer_now_ns() - middle;
		rows = s->row_nr;
		snapshot_unref(s);
		model_free(model);
		batch_release(&b);
	}
	qsort(read_ns, 5, sizeof(*read_ns), by_value);
	qsort(build_ns, 5, sizeof(*build_ns), by_value);
	printf("{\"bytes\":%u,\"rows\":%lu,\"read_ns\":%lu,\"read_min_ns\":%lu,\"read_max_ns\":%lu,\"build_ns\":%lu,"
	       "\"build_min_ns\":%lu,"
	       "\"build_max_ns\":%lu}\n",
	       text.len, rows, read_ns[2], read_ns[0], read_ns[4], build_ns[2], build_ns[0], build_ns[4]);
	return 0;
}

/* The IPv4 slice of service 1 of tests/bench/gen.py with one endpoint that the last request did not have. */
static void request(struct buf *frame, uint32_t i)
{
	struct buf text = { 0 };

	buf_printf(&text, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
			  "metadata: {name: s1-ipv4, namespace: bench, labels: {kubernetes.io/service-name: "
			  "s1}}\naddressType: IPv4\n"
			  "ports: [{name: tcp, port: 8080, protocol: TCP}]\nendpoints:\n");
	for (uint32_t j = 0; j < 9; j++)
		buf_printf(&text, "- {addresses: [\"172.16.0.%u\"], conditions: {ready: true}}\n", 11 + j);
	buf_printf(&text, "- {addresses: [\"172.31.%u.%u\"], conditions: {ready: true}}\n", i >> 8 & 255, i & 255);
	buf_clear(frame);
	wire_begin(frame, WIRE_APPLY);
	wire_add(frame, STR("file:-"), (struct str){ text.data, (uint32_t)text.len });
	wire_end(frame);
	buf_release(&text);
}

static void ask(const char *path, const struct buf *frame)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static uint8_t reply[1 << 20];
	struct wire_header header;
	struct wire_part part;
	uint32_t at = 0;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) ||
	    send(fd, frame->data, frame->len, MSG_NOSIGNAL) != (ssize_t)frame->len ||
	    recv(fd, reply, WIRE_HEADER_LEN, MSG_WAITALL) != WIRE_HEADER_LEN || wire_header_decode(reply, &header) ||
	    header.body_len > sizeof(reply) ||
	    recv(fd, reply, header.body_len, MSG_WAITALL) != (ssize_t)header.body_len)
		die(path);
	close(fd);
	while (wire_part_next((struct str){ (char *)reply, header.body_len }, &at, &part) == 1) {
		if (str_is(part.name, "err") && part.data.len)
			fprintf(stderr, "%.*s", STR_ARG(part.data));
		if (str_is(part.name, "exit") && !str_is(part.data, "0"))
			exit(1);
	}
}

static int measure_change(const char *path, uint32_t nr)
{
	uint64_t *took = calloc(nr, sizeof(*took));
	struct buf frame = { 0 };

	for (uint32_t i = 0; i < nr + 20; i++) {
		uint64_t start;

		request(&frame, i);
		start = peer_now_ns();
		ask(path, &frame);
		/* The first ones warm caches. */
		if (i >= 20)
			took[i - 20] = peer_now_ns() - start;
	}
	qsort(took, nr, sizeof(*took), by_value);
	printf("{\"requests\":%u,\"p50_ns\":%lu,\"p99_ns\":%lu,\"min_ns\":%lu,\"max_ns\":%lu}\n", nr, took[nr / 2],
	       took[nr * 99 / 100], took[0], took[nr - 1]);
	return 0;
}

static int show_programs(const char *pinned_map)
{
	struct bpf_map_info map = { 0 };
	uint32_t len = sizeof(map), id = 0;
	const char *comma = "";
	int fd = bpf_obj_get(pinned_map);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &map, &len))
		die(pinned_map);
	printf("[");
	while (!bpf_prog_get_next_id(id, &id)) {
		struct bpf_prog_info prog = { 0 };
		uint32_t maps[64];
		bool uses = false;

		fd = bpf_prog_get_fd_by_id(id);
		prog.nr_map_ids = 64;
		prog.map_ids = (uintptr_t)maps;
		len = sizeof(prog);
		if (fd < 0)
			continue;
		if (!bpf_obj_get_info_by_fd(fd, &prog, &len))
			for (uint32_t i = 0; i < prog.nr_map_ids && i < 64; i++)
				uses |= maps[i] == map.id;
		close(fd);
		if (!uses)
			continue;
		printf("%s{\"name\":\"%s\",\"verified_insns\":%u,\"runs\":%llu,\"ns\":%llu}", comma, prog.name,
		       prog.verified_insns, prog.run_cnt, prog.run_time_ns);
		comma = ",";
	}
	printf("]\n");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "syscall"))
		return measure_syscall();
	if (argc == 3 && !strcmp(argv[1], "parse"))
		return measure_parse(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "change"))
		return measure_change(argv[2], (uint32_t)atoi(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "programs"))
		return show_programs(argv[2]);
	fprintf(stderr, "usage: ops syscall | parse FILE | change SOCKET NR | programs PINNED_MAP\n");
	return 2;
}
