/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sandbox of meshl7: see sandbox.h. A call that is not listed fails with EPERM; those that only somebody calls who has taken the process
 * over end it. Adding one needs a reason here, and a line in tests/unit/test_sandbox.c.
 */
#include "l7/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mesh_l7.h"

static int fail(struct buf *err, const char *what)
{
	int rc = -errno;

	buf_printf(err, "cannot %s: %s", what, strerror(-rc));
	return rc;
}

/* ---- file system ---- */

/* A tmpfs with nothing in it, and no other mount, for this process alone. */
static int empty_root(struct buf *err)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC))
		return fail(err, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return fail(err, "keep mounts apart");
	if (mount("none", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
		  "size=4k,nr_inodes=2,mode=0555"))
		return fail(err, "mount an empty root directory at /tmp");
	if (chdir("/tmp") || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return fail(err, "change into an empty root directory");
	return 0;
}

/* ---- ids and capabilities ---- */

static int drop_ids(uid_t uid, gid_t gid, struct buf *err)
{
	/* Reading fails with the first that this kernel has not. */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return fail(err, "drop capabilities for good");
	if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return fail(err, "become another user");
	return 0;
}

static int drop_capabilities(struct buf *err)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) || syscall(SYS_capset, &header, none))
		return fail(err, "drop capabilities");
	return 0;
}

static int set_limits(uint64_t memory, struct buf *err)
{
	struct rlimit none = { 0, 0 }, data = { memory, memory }, files;

	if (setrlimit(RLIMIT_CORE, &none) || getrlimit(RLIMIT_NOFILE, &files))
		return fail(err, "set limits");
	if (memory && setrlimit(RLIMIT_DATA, &data))
		return fail(err, "limit memory");
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return fail(err, "set limits");
	return 0;
}

/* ---- system calls ---- */

static const int allowed[] = {
	/* connections */
	SCMP_SYS(accept4),
	SCMP_SYS(bind),
	SCMP_SYS(connect),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown),
	SCMP_SYS(close),
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(splice),
	SCMP_SYS(pipe2),
	/* waiting */
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(eventfd2),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(signalfd4),
	SCMP_SYS(futex),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(sched_yield),
	SCMP_SYS(restart_syscall),
	/* threads and memory, and their ends */
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(sysinfo),
	SCMP_SYS(getrandom),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/* the size of what meshd hands over, and a new file for the log in place of the old one */
	SCMP_SYS(lseek),
	SCMP_SYS(dup3),
};

static const int fatal[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(ptrace),
	SCMP_SYS(bpf),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(add_key),
	SCMP_SYS(keyctl),
};

/* Calls that are fine with some arguments only. */
static int allow_some(scmp_filter_ctx f)
{
	static const int families[] = { AF_INET, AF_INET6 }, protocols[] = { 0, IPPROTO_TCP };
	static const int fcntls[] = { F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC, F_GET_SEALS };
	static const int maps[] = { SCMP_SYS(mmap), SCMP_SYS(mprotect) };
	const unsigned long thread = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND;
	int rc = 0;

	for (size_t i = 0; i < 4; i++)
		rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(socket), 3,
				       SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i / 2]),
				       SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, SOCK_STREAM),
				       SCMP_A2(SCMP_CMP_EQ, (scmp_datum_t)protocols[i % 2]));
	for (size_t i = 0; i < sizeof(fcntls) / sizeof(*fcntls); i++)
		rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				       SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)fcntls[i]));
	/* Nothing is both written and executed, and nothing new is executed at all. */
	for (size_t i = 0; i < sizeof(maps) / sizeof(*maps); i++)
		rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, maps[i], 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, FIONREAD));
	rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	rc |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
	/* What it is asked for stands in memory, where no filter sees it; the C library then calls clone. */
	rc |= seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return rc;
}

static int filter_calls(struct buf *err)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int rc = 0;

	if (!f) {
		errno = ENOMEM;
		return fail(err, "make a filter of system calls");
	}
	for (size_t i = 0; !rc && i < sizeof(allowed) / sizeof(*allowed); i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; !rc && i < sizeof(fatal) / sizeof(*fatal); i++)
		rc = seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, fatal[i], 0);
	if (!rc)
		rc = allow_some(f);
	if (!rc)
		rc = seccomp_load(f);
	seccomp_release(f);
	if (!rc)
		return 0;
	errno = rc < 0 ? -rc : EINVAL;
	return fail(err, "load a filter of system calls");
}

int sandbox_enter(const struct sandbox *s, bool *ret_partly, struct buf *err)
{
	int rc = 0;

	*ret_partly = geteuid() != 0;
	if (close_range(MESH_L7_FD + 1, ~0u, 0))
		return fail(err, "close what was left open");
	if (!*ret_partly) {
		rc = empty_root(err);
		if (!rc)
			rc = drop_ids(s->uid, s->gid, err);
	}
	if (!rc)
		rc = drop_capabilities(err);
	if (!rc)
		rc = set_limits(s->memory, err);
	if (!rc && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		rc = fail(err, "give up new privileges");
	return rc ? rc : filter_calls(err);
}
