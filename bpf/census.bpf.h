/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether the program that is at a socket just now may splice: user space looks at its files, once for each program of a pod, and until it
 * has answered nothing is known. What the calling thread does is no matter here, what its program could do is.
 */
#ifndef BPF_CENSUS_H
#define BPF_CENSUS_H

#include "maps.bpf.h"

/* The program of the calling thread. 0: it has none. */
static __always_inline int census_key(const struct task_struct *task, __u64 netns_cookie, struct mesh_exe_key *ret)
{
	const struct inode *inode;

	__builtin_memset(ret, 0, sizeof(*ret));
	if (!task->mm)
		return 0;
	inode = task->mm->exe_file->f_inode;
	ret->netns_cookie = netns_cookie;
	ret->ino = inode->i_ino;
	ret->size = inode->i_size;
	ret->dev = inode->i_sb->s_dev;
	ret->generation = inode->i_generation;
	return ret->ino != 0;
}

static __always_inline void census_ask(const struct task_struct *task, const struct mesh_exe_key *key)
{
	struct mesh_ask *ask = bpf_ringbuf_reserve(&mesh_asks, sizeof(*ask), 0);
	__u32 asked = MESH_CENSUS_ASKED;

	if (!ask)
		return;
	if (bpf_map_update_elem(&mesh_exes, key, &asked, BPF_NOEXIST)) {
		bpf_ringbuf_discard(ask, 0);
		return;
	}
	ask->key = *key;
	ask->pid = bpf_get_current_pid_tgid() >> 32;
	ask->started_ns = task->group_leader->start_boottime;
	ask->pad = 0;
	bpf_ringbuf_submit(ask, 0);
}

/* enum mesh_why: what speaks against whatever the calling thread's program reads, in that pod. */
static __always_inline __u8 census_bars(__u64 netns_cookie)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mesh_exe_key key;
	__u32 *verdict;

	if (!census_key(task, netns_cookie, &key))
		return MESH_WHY_SPLICES;
	verdict = bpf_map_lookup_elem(&mesh_exes, &key);
	if (!verdict)
		census_ask(task, &key);
	if (!verdict || *verdict == MESH_CENSUS_ASKED)
		return MESH_WHY_CENSUS;
	return *verdict == MESH_CENSUS_CLEAR ? MESH_WHY_NONE : MESH_WHY_SPLICES;
}

#endif
