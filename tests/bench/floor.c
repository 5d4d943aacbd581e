/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What memory alone costs a choice among many: programs at connect() that do nothing but read lines of 64 bytes, at random, each place
 * known only when the one before is read.
 *
 *   floor CGROUP LINES    says "ready"; for each line on standard input: prints "<nanoseconds> <runs>" so far of the program that reads none,
 *                       one, and two of LINES lines, in one line. The programs go when it ends
 */
#include <fcntl.h>

#include <bpf/bpf.h>

#include "../node/peer.h"

#define LINE 64
#define PROGRAMS 3

#define INSN(op, dst, src, o, k) \
	((struct bpf_insn){ .code = (op), .dst_reg = (dst), .src_reg = (src), .off = (o), .imm = (k) })
#define CALL(helper) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_##helper)

struct program {
	struct bpf_insn insns[64];
	uint32_t nr;
	int fd, link;
};

static void add(struct program *p, struct bpf_insn insn)
{
	p->insns[p->nr++] = insn;
}

/* r0: the element of `map` at the place in r0. */
static void add_lookup(struct program *p, int map)
{
	add(p, INSN(BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, BPF_REG_0, -4, 0));
	add(p, INSN(BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map));
	add(p, INSN(0, 0, 0, 0, 0));
	add(p, INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0));
	add(p, INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -4));
	add(p, CALL(map_lookup_elem));
	add(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_0, 0, 2, 0));
	add(p, INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1));
	add(p, INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

static int array(uint32_t nr)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "floor", sizeof(uint32_t), LINE, nr, &opts);

	if (fd < 0)
		die("BPF_MAP_CREATE");
	return fd;
}

/* What was read, always 0, is added to the next place; and to a line of everybody's, whose lock waits for all that came before. */
static void build(struct program *p, uint32_t reads, uint32_t lines)
{
	int map = array(lines), sum = array(1);

	add(p, INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_6, 0, 0, 0));
	for (uint32_t i = 0; i < reads; i++) {
		add(p, CALL(get_prandom_u32));
		add(p, INSN(BPF_ALU64 | BPF_ADD | BPF_X, BPF_REG_0, BPF_REG_6, 0, 0));
		add(p, INSN(BPF_ALU | BPF_MOD | BPF_K, BPF_REG_0, 0, 0, (int32_t)lines));
		add_lookup(p, map);
		add(p, INSN(BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_6, BPF_REG_0, 0, 0));
	}
	add(p, INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0));
	add_lookup(p, sum);
	add(p, INSN(BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_0, BPF_REG_6, 0, BPF_ADD));
	add(p, INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1));
	add(p, INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

static void attach(struct program *p, int cgroup)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);

	p->fd = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "floor", "GPL", p->insns, p->nr, &opts);
	if (p->fd < 0)
		die("BPF_PROG_LOAD");
	p->link = bpf_link_create(p->fd, cgroup, BPF_CGROUP_INET4_CONNECT, NULL);
	if (p->link < 0)
		die("BPF_LINK_CREATE");
}

int main(int argc, char **argv)
{
	struct program programs[PROGRAMS] = { 0 };
	char line[32];
	int cgroup;

	if (argc != 3) {
		fprintf(stderr, "usage: floor CGROUP LINES\n");
		return 2;
	}
	cgroup = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		die(argv[1]);
	for (uint32_t i = 0; i < PROGRAMS; i++) {
		build(&programs[i], i, (uint32_t)atoi(argv[2]));
		attach(&programs[i], cgroup);
	}
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		for (uint32_t i = 0; i < PROGRAMS; i++) {
			struct bpf_prog_info info = { 0 };
			uint32_t len = sizeof(info);

			if (bpf_obj_get_info_by_fd(programs[i].fd, &info, &len))
				die("BPF_OBJ_GET_INFO_BY_FD");
			printf("%s%llu %llu", i ? " " : "", info.run_time_ns, info.run_cnt);
		}
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
