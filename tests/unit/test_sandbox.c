/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sandbox of meshl7, each time in a process of its own that enters it and then tries something. As root all of it; otherwise without what
 * only root can give up.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "l7/sandbox.h"
#include "mesh_l7.h"

enum { DIED = 255, NO_SANDBOX = 254 };

static const struct sandbox sandbox = { .uid = 64999, .gid = 64998, .memory = 32 << 20 };

/* Its sanitizer maps terabytes and asks for its own files: neither is allowed inside. */
#ifdef __SANITIZE_ADDRESS__
#define NEEDS_SANDBOX() SKIP("AddressSanitizer cannot live in the sandbox")
#else
#define NEEDS_SANDBOX()
#endif

/* What `fn` returned inside: 0, an errno, or DIED. */
static int inside(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct buf err = { 0 };
		bool partly;

		if (sandbox_enter(&sandbox, &partly, &err)) {
			fprintf(stderr, "%s\n", err.data);
			_exit(NO_SANDBOX);
		}
		_exit(fn());
	}
	if (waitpid(pid, &status, 0) != pid)
		return NO_SANDBOX;
	return WIFSIGNALED(status) ? (WTERMSIG(status) == SIGSYS ? DIED : NO_SANDBOX) : WEXITSTATUS(status);
}

static int result(long rc)
{
	return rc < 0 ? errno : 0;
}

/* ---- what it must be able to do ---- */

static int talk(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int six = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);

	if (s < 0 || six < 0 || bind(s, (struct sockaddr *)&at, sizeof(at)))
		return errno;
	at.sin_port = htons(9);
	if (!connect(s, (struct sockaddr *)&at, sizeof(at)) || (errno != EINPROGRESS && errno != ECONNREFUSED))
		return errno;
	return eventfd(0, EFD_CLOEXEC) < 0 ? errno : 0;
}

static void *thread(void *data)
{
	void *p = malloc(8 << 20);

	if (p)
		memset(p, 1, 8 << 20);
	free(p);
	*(int *)data = p != NULL;
	return NULL;
}

static int threads(void)
{
	int done = 0, rc;
	pthread_t t;

	rc = pthread_create(&t, NULL, thread, &done);
	if (rc)
		return rc;
	pthread_join(t, NULL);
	return done ? 0 : ENOMEM;
}

static int fills_memory(void)
{
	return malloc(40 << 20) ? 0 : errno;
}

TEST(memory)
{
	NEEDS_SANDBOX();
	CHECK_INT(inside(fills_memory), ENOMEM);
}

TEST(what_it_needs)
{
	NEEDS_SANDBOX();
	CHECK_INT(inside(talk), 0);
	CHECK_INT(inside(threads), 0);
}

/* ---- what it gave up ---- */

static int opens(void)
{
	return result(open("/", O_RDONLY | O_DIRECTORY));
}

static int opens_proc(void)
{
	return result(syscall(SYS_openat2, AT_FDCWD, "/proc/self/status", NULL, 0));
}

static int looks(void)
{
	struct stat st;

	return result(stat("/etc/passwd", &st));
}

static int writes_a_file(void)
{
	return result(syscall(SYS_creat, "/tmp/x", 0600));
}

static int unix_socket(void)
{
	return result(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int unix_pair(void)
{
	int pair[2];

	return result(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

static int datagrams(void)
{
	return result(socket(AF_INET, SOCK_DGRAM, 0));
}

static int raw(void)
{
	return result(socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
}

static int multipath(void)
{
	return result(socket(AF_INET, SOCK_STREAM, 262));
}

static int netlink(void)
{
	return result(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int listens(void)
{
	return result(listen(socket(AF_INET, SOCK_STREAM, 0), 1));
}

static int forks(void)
{
	return result(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

static int kills(void)
{
	return result(kill(getpid(), 0));
}

static int executable_memory(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
}

static int memory_made_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return result(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int becomes_root(void)
{
	return result(setuid(0));
}

static int namespace_of_user(void)
{
	return result(unshare(CLONE_NEWUSER));
}

static int loads_bpf(void)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };

	return result(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)));
}

static int executes(void)
{
	return result(execl("/bin/true", "true", NULL));
}

static int traces(void)
{
	return result(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int rings(void)
{
	char params[120] = { 0 };

	return result(syscall(SYS_io_uring_setup, 1, params));
}

TEST(what_is_refused)
{
	NEEDS_SANDBOX();
	const struct {
		const char *name;
		int (*fn)(void);
		int want;
	} cases[] = {
		{ "open", opens, EPERM },
		{ "openat2", opens_proc, EPERM },
		{ "stat", looks, EPERM },
		{ "creat", writes_a_file, EPERM },
		{ "unix socket", unix_socket, EPERM },
		{ "unix pair", unix_pair, EPERM },
		{ "udp", datagrams, EPERM },
		{ "raw", raw, EPERM },
		{ "mptcp", multipath, EPERM },
		{ "netlink", netlink, EPERM },
		{ "listen", listens, EPERM },
		{ "fork", forks, EPERM },
		{ "kill", kills, EPERM },
		{ "mmap exec", executable_memory, EPERM },
		{ "mprotect exec", memory_made_executable, EPERM },
		{ "setuid", becomes_root, EPERM },
		{ "unshare", namespace_of_user, DIED },
		{ "bpf", loads_bpf, DIED },
		{ "execve", executes, DIED },
		{ "ptrace", traces, DIED },
		{ "io_uring", rings, DIED },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int got = inside(cases[i].fn);

		CHECK_MSG(got == cases[i].want, "%s: got %d, want %d", cases[i].name, got, cases[i].want);
	}
}

static int descriptors(void)
{
	/* That of the link is kept. */
	return fcntl(MESH_L7_FD, F_GETFD) < 0 || fcntl(MESH_L7_FD + 1, F_GETFD) >= 0;
}

TEST(descriptors_are_closed)
{
	NEEDS_SANDBOX();
	for (int i = 0; i < 8; i++)
		dup2(2, MESH_L7_FD + i);
	CHECK_INT(inside(descriptors), 0);
}

/* As others see it. */
static void status_line(pid_t pid, const char *key, char *out, size_t len)
{
	char path[64], line[256];
	FILE *f;

	out[0] = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)))
			continue;
		line[strcspn(line, "\n")] = 0;
		snprintf(out, len, "%s", line + strlen(key));
	}
	if (f)
		fclose(f);
}

TEST(seen_from_outside)
{
	NEEDS_SANDBOX();
	const char *const want[][2] = {
		{ "CapInh:\t", "0000000000000000" },
		{ "CapPrm:\t", "0000000000000000" },
		{ "CapEff:\t", "0000000000000000" },
		{ "CapAmb:\t", "0000000000000000" },
		{ "NoNewPrivs:\t", "1" },
		{ "Seccomp:\t", "2" },
		{ "CapBnd:\t", "0000000000000000" },
		{ "Uid:\t", "64999\t64999\t64999\t64999" },
		{ "Gid:\t", "64998\t64998\t64998\t64998" },
		{ "Groups:\t", " " },
	};
	const size_t nr = sizeof(want) / sizeof(*want), always = 6;
	bool root = geteuid() == 0;
	int ready[2], end[2];
	char got[256], c;
	pid_t pid;

	CHECK(!pipe(ready) && !pipe(end));
	pid = fork();
	if (!pid) {
		struct buf err = { 0 };
		bool partly;

		dup2(ready[1], 2);
		dup2(end[0], 0);
		if (sandbox_enter(&sandbox, &partly, &err) || partly == root || write(2, "x", 1) < 0)
			_exit(1);
		_exit(read(0, &c, 1) < 0);
	}
	close(ready[1]);
	close(end[0]);
	CHECK_INT(read(ready[0], &c, 1), 1);
	for (size_t i = 0; i < (root ? nr : always); i++) {
		status_line(pid, want[i][0], got, sizeof(got));
		CHECK_MSG(!strcmp(got, want[i][1]), "%s got \"%s\", want \"%s\"", want[i][0], got, want[i][1]);
	}
	if (root) {
		char path[64];
		struct stat st, own;

		snprintf(path, sizeof(path), "/proc/%d/root/etc", pid);
		CHECK(stat(path, &st) && errno == ENOENT);
		snprintf(path, sizeof(path), "/proc/%d/root", pid);
		CHECK(!stat(path, &st) && !stat("/", &own) && st.st_dev != own.st_dev);
	}
	close(end[1]);
	CHECK_INT(waitpid(pid, NULL, 0), pid);
}
