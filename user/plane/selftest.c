/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The daemon's side of the self-test: begins it when the mesh is live and something is to be accelerated, lets the child's network namespace
 * in as if it were a pod, and holds the outcome. Waits for nothing: what comes from the child comes as an event.
 */
#include "plane/selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "base/loop.h"
#include "plane/plane_int.h"

#define SLOW_MAX 6   /* attempts after which the next is no later, and none is given more time */
#define PARTLY_MAX 3 /* attempts for the sake of what decides nothing */
#define PAUSE_MS 1000
/* A pod of this name can be nobody else's. */
#define WORKLOAD "tulle.dev/self-test/"

#define X(name, label) label,
static const char *const labels[] = { SEMANTICS(X) };
#undef X

static const char *const state_texts[] = { [SELFTEST_WAITS] = "waits",
					   [SELFTEST_RUNS] = "runs",
					   [SELFTEST_PASSED] = "passed",
					   [SELFTEST_REFUSED] = "refused" };

bool selftest_over(const struct plane *p)
{
	return p->selftest.state == SELFTEST_PASSED || p->selftest.state == SELFTEST_REFUSED;
}

const char *selftest_refusal(const struct plane *p)
{
	return p->selftest.state == SELFTEST_REFUSED ? p->selftest.why : NULL;
}

/* The child's network namespace is a pod, with rows of its own that no apply knows of. */
static int enrol(struct plane *p, uint64_t cookie)
{
	struct selftest *t = &p->selftest;
	struct mesh_pod row = { .netns_cookie = cookie,
				.epoch = p->control->live,
				.flags = MESH_POD_TRIAL,
				.accelerate = MESH_ACCELERATE_ON };
	uint32_t slot = slots_get(&p->pod_slots);

	if (!slot)
		return -ENOSPC;
	row.workload_id = name_ref(p, MESH_NAME_WORKLOAD, STR(WORKLOAD));
	row.ns_id = name_ref(p, MESH_NAME_NAMESPACE, STR("tulle.dev"));
	*pod_row_at(p, slot) = row;
	if (bpf_map_update_elem(p->map_fd[PLANE_MAP_NETNS], &cookie, &slot, BPF_NOEXIST)) {
		int rc = -errno;

		pod_row_free(p, slot);
		return rc;
	}
	t->slot = slot;
	t->cookie = cookie;
	return 0;
}

static void end_child(struct plane *p)
{
	struct selftest *t = &p->selftest;

	if (t->slot) {
		bpf_map_delete_elem(p->map_fd[PLANE_MAP_NETNS], &t->cookie);
		bpf_map_delete_elem(p->map_fd[PLANE_MAP_POD_ENDS], &t->cookie);
		retire(p, RETIRED_POD, t->slot, NULL);
		t->slot = 0;
	}
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

/* Said in the log once, where it is something to know. */
static void decide(struct plane *p)
{
	struct selftest *t = &p->selftest;
	uint32_t measured = 0;
	int bad = -1;
	bool again;

	for (int i = 0; i < SEMANTIC_NR; i++) {
		measured += t->text[i][0] != 0;
		if (i < SEMANTIC_DECIDING_NR && bad < 0 && strcmp(t->text[i], "same"))
			bad = i;
	}
	if (bad >= 0)
		snprintf(t->why, sizeof(t->why), "%s: %s", labels[bad],
			 t->text[bad][0] ? t->text[bad] : "could not be measured");
	else
		t->why[0] = 0;
	/* The machine may just be busy. */
	again = bad >= 0 ? !t->text[bad][0] : measured < SEMANTIC_NR && t->slow < PARTLY_MAX;
	if (again) {
		t->state = SELFTEST_WAITS;
		t->next_ms = loop_now_ms() + (PAUSE_MS << t->slow);
		t->slow += t->slow < SLOW_MAX;
		if (bad >= 0)
			log_warn("nothing more is accelerated until the self-test can be run: %s", t->why);
	} else if (bad >= 0) {
		t->state = SELFTEST_REFUSED;
		log_warn("nothing is accelerated, the self-test failed at %s", t->why);
	} else {
		t->state = SELFTEST_PASSED;
		log_info("self-test of acceleration passed semantics=%u of=%u ms=%lu", measured, SEMANTIC_NR, t->ms);
	}
}

static _Noreturn void run_child(const struct plane *p, int fd)
{
	selftest_child(&(struct selftest_job){
		.iter_fd = p->iter_fd[PLANE_ITER_STEP_ENDS],
		.pod_ends_fd = p->map_fd[PLANE_MAP_POD_ENDS],
		.fd = fd,
		.slow = p->selftest.slow,
	});
}

void selftest_idle(struct plane *p)
{
	struct selftest *t = &p->selftest;
	struct epoll_event e = { .events = EPOLLIN };
	int fds[2];
	pid_t pid;

	if (t->state != SELFTEST_WAITS || loop_now_ms() < t->next_ms || !(p->control->flags & MESH_CONTROL_ACCELERATE))
		return;
	t->began_ms = loop_now_ms();
	memset(t->text, 0, sizeof(t->text));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		goto out;
	pid = fork();
	if (!pid)
		run_child(p, fds[1]);
	close(fds[1]);
	t->fd = e.data.fd = fds[0];
	if (pid > 0 && !epoll_ctl(p->pods.poll_fd, EPOLL_CTL_ADD, t->fd, &e)) {
		t->state = SELFTEST_RUNS;
		return;
	}
	end_child(p);
out:
	log_warn("the self-test of acceleration does not begin error=%s", strerror(errno));
	decide(p);
	accel_sync(p);
}

/* Something was said, or the child is gone, which is how it ends: true until then. */
static bool heard(struct plane *p, const struct selftest_report *said, ssize_t len)
{
	struct selftest *t = &p->selftest;
	uint64_t cookie;

	if (len == sizeof(cookie) && !t->slot) {
		memcpy(&cookie, said, sizeof(cookie));
		return !enrol(p, cookie) && send(t->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
	}
	if (len != sizeof(*said) || said->semantic >= SEMANTIC_NR)
		return false;
	memcpy(t->text[said->semantic], said->text, sizeof(said->text));
	return true;
}

void selftest_event(struct plane *p)
{
	struct selftest *t = &p->selftest;

	while (t->state == SELFTEST_RUNS) {
		struct selftest_report said;
		ssize_t n = recv(t->fd, &said, sizeof(said), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (heard(p, &said, n))
			continue;
		t->ms = loop_now_ms() - t->began_ms;
		end_child(p);
		decide(p);
		accel_sync(p);
	}
}

void selftest_release(struct plane *p)
{
	end_child(p);
}

void selftest_json(struct json *j, const struct plane *p)
{
	const struct selftest *t = &p->selftest;

	json_key(j, "self_test");
	json_object(j);
	json_kstr(j, "state", str_of(state_texts[t->state]));
	json_kstr(j, "why", str_of(t->why));
	json_kuint(j, "ms", t->ms);
	json_key(j, "semantics");
	json_array(j);
	for (uint32_t i = 0; i < SEMANTIC_NR && selftest_over(p); i++) {
		json_object(j);
		json_kstr(j, "semantic", str_of(labels[i]));
		json_kstr(j, "past_tcp", str_of(t->text[i][0] ? t->text[i] : "not measured"));
		json_object_end(j);
	}
	json_array_end(j);
	json_object_end(j);
}
