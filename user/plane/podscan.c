/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What pods are on this node: their cgroups below the mesh cgroup, by kubelet's names, and the network namespaces of the processes in
 * them. A namespace is a pod's only if it carries one of the pod's addresses and belongs to our own user namespace, so that nobody
 * can pass for a pod by making a namespace of his own. The first one stays while a process of the pod lives in it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/loop.h"
#include "plane/census.h"
#include "plane/netns.h"
#include "plane/plane_int.h"

#define PATH_LEN 4096
#define BURST_MS 20	 /* scans are at least this far apart */
#define RETRY_MIN_MS 100 /* a pod has processes, but no address yet */
#define RETRY_MAX_MS 10000
#define TREE_DEPTH_MAX 24

static uint64_t hash_by_uid(const void *owner, uint32_t value)
{
	return slotset_mix(str_hash(str_of(((const struct podset *)owner)->items[value - 1].uid)));
}

static bool eq_by_uid(const void *owner, uint32_t value, const void *key)
{
	return str_eq(*(const struct str *)key, str_of(((const struct podset *)owner)->items[value - 1].uid));
}

static struct pod *pod_by_uid(struct podset *s, struct str uid)
{
	uint32_t at = slotset_find(&s->by_uid, slotset_mix(str_hash(uid)), eq_by_uid, &uid);

	return at ? &s->items[at - 1] : NULL;
}

static struct pod *pod_by_cgroup(struct podset *s, struct str cgroup)
{
	for (uint32_t i = 0; i < s->nr; i++)
		if (str_is(cgroup, s->items[i].cgroup))
			return &s->items[i];
	return NULL;
}

char *podscan_uid(const char *dir_name)
{
	static const char slice[] = ".slice";
	size_t len = strlen(dir_name), tail = sizeof(slice) - 1;
	const char *at = NULL;
	char *uid;

	if (len > tail && !strcmp(dir_name + len - tail, slice)) {
		for (const char *c = strstr(dir_name, "-pod"); c; c = strstr(c + 1, "-pod"))
			at = c + 4;
		if (!at || at >= dir_name + len - tail)
			return NULL;
		uid = xstrdup(at);
		uid[strlen(uid) - tail] = 0;
		for (char *c = uid; *c; c++)
			if (*c == '_')
				*c = '-';
		return uid;
	}
	return len > 3 && !strncmp(dir_name, "pod", 3) ? xstrdup(dir_name + 3) : NULL;
}

static const char *full_path(const struct plane *p, const char *below, const char *file, char *out)
{
	snprintf(out, PATH_LEN, "%s%s%s%s%s", p->cgroup, *below ? "/" : "", below, *file ? "/" : "", file);
	return out;
}

/* Watching again what is watched already costs nothing and changes nothing; what is deleted forgets its watch by itself. */
static void watch_dir(struct plane *p, const char *below)
{
	char path[PATH_LEN];

	if (inotify_add_watch(p->pods.inotify_fd, full_path(p, below, "", path),
			      IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR) < 0 &&
	    errno == ENOSPC)
		log_warn("cannot watch a cgroup: raise fs.inotify.max_user_watches path=%s", path);
}

static void watch_pod(struct plane *p, const char *below)
{
	char path[PATH_LEN];

	if (inotify_add_watch(p->pods.inotify_fd, full_path(p, below, "cgroup.events", path), IN_MODIFY) < 0 &&
	    errno == ENOSPC)
		log_warn("cannot watch a cgroup: raise fs.inotify.max_user_watches path=%s", path);
}

static struct pod *pod_add(struct podset *s, char *uid, const char *cgroup)
{
	s->items = plane_grow(s->items, s->nr, &s->cap, sizeof(*s->items));
	s->items[s->nr] = (struct pod){ .uid = uid, .cgroup = xstrdup(cgroup), .seen = true };
	slotset_add(&s->by_uid, ++s->nr);
	return &s->items[s->nr - 1];
}

/* Takes uid. */
static void pod_found(struct plane *p, char *uid, const char *cgroup)
{
	struct pod *pod = pod_by_uid(&p->pods, str_of(uid));

	watch_pod(p, cgroup);
	if (!pod) {
		pod_add(&p->pods, uid, cgroup);
		return;
	}
	if (strcmp(pod->cgroup, cgroup) && !pod->seen) {
		free(pod->cgroup);
		pod->cgroup = xstrdup(cgroup);
	}
	pod->seen = true;
	free(uid);
}

static void pod_release(struct pod *pod)
{
	free(pod->uid);
	free(pod->cgroup);
	free(pod->addrs);
}

static void walk(struct plane *p, const char *below, unsigned int depth)
{
	char path[PATH_LEN], child[PATH_LEN];
	struct dirent *d;
	DIR *dir;

	/* The watch comes first: what appears behind the reader is an event. */
	watch_dir(p, below);
	dir = opendir(full_path(p, below, "", path));
	if (!dir)
		return;
	while ((d = readdir(dir))) {
		char *uid;

		if (d->d_type != DT_DIR || d->d_name[0] == '.')
			continue;
		if (snprintf(child, sizeof(child), "%s%s%s", below, *below ? "/" : "", d->d_name) >= PATH_LEN - 256)
			continue;
		uid = podscan_uid(d->d_name);
		if (uid)
			pod_found(p, uid, child);
		else if (depth < TREE_DEPTH_MAX)
			walk(p, child, depth + 1);
	}
	closedir(dir);
}

static bool dir_exists(const struct plane *p, const char *below)
{
	char path[PATH_LEN];
	struct stat st;

	return !stat(full_path(p, below, "", path), &st) && S_ISDIR(st.st_mode);
}

void podscan_tree(struct plane *p)
{
	struct podset *s = &p->pods;
	uint32_t left = 0;

	for (uint32_t i = 0; i < s->nr; i++)
		s->items[i].seen = s->items[i].annotated && dir_exists(p, s->items[i].cgroup);
	walk(p, "", 0);
	slotset_release(&s->by_uid);
	for (uint32_t i = 0; i < s->nr; i++) {
		if (!s->items[i].seen) {
			pod_release(&s->items[i]);
			continue;
		}
		s->items[left++] = s->items[i];
	}
	s->nr = left;
	for (uint32_t i = 1; i <= left; i++)
		slotset_add(&s->by_uid, i);
	s->scanned_ms = loop_now_ms();
}

/* ---- processes ---- */

/* Looking for a pod's namespace: calls back for each process of the subtree. */
struct look {
	struct plane *p;
	struct pod *pod;
	const struct client *client;
	struct {
		uint64_t dev, ino;
	} seen[16]; /* namespaces that were judged already */
	uint32_t seen_nr;
	bool processes, done;
	bool keep; /* only looks for the namespace that the pod has, and keeps it open */
	int fd;	   /* -1: not found */
};

static bool carries(const struct netns_facts *f, uint32_t ifindex, const struct client *c)
{
	for (uint32_t i = 0; i < f->addr_nr; i++)
		if (f->addr_links[i] == ifindex && pod_carries(&f->addrs[i], 1, c))
			return true;
	return false;
}

/*
 * The link that the mesh watches. One that programs are at stays, so that a pod which may move its address to another link of its
 * own does not get away from them.
 */
static void take_link(const struct plane *p, struct pod *pod, const struct netns_facts *f, const struct client *c)
{
	uint32_t host = iface_of(p, f->cookie);
	bool kept = false;

	pod->link = (struct netns_link){ 0 };
	for (uint32_t i = 0; i < f->link_nr && !kept; i++) {
		kept = host && f->links[i].host == host;
		if (kept || (!pod->link.ifindex && carries(f, f->links[i].ifindex, c)))
			pod->link = f->links[i];
	}
}

static void take(struct pod *pod, uint64_t dev, uint64_t ino, struct netns_facts *f)
{
	free(pod->addrs);
	pod->addrs = f->addrs;
	pod->addr_nr = f->addr_nr;
	pod->cookie = f->cookie;
	pod->netns_dev = dev;
	pod->netns_ino = ino;
	f->addrs = NULL;
}

/* Judges one namespace. `known`: it is the one the pod has already, and must only be the same still. */
static void judge(struct look *l, int fd, uint64_t dev, uint64_t ino, bool known)
{
	struct netns_facts f = { 0 };
	struct pod *pod = l->pod;

	if (netns_query(l->p->pods.own_netns_fd, fd, &f)) {
		netns_facts_release(&f);
		return;
	}
	if (known ? f.cookie == pod->cookie : pod_carries(f.addrs, f.addr_nr, l->client)) {
		take_link(l->p, pod, &f, l->client);
		take(pod, dev, ino, &f);
		l->done = true;
	}
	netns_facts_release(&f);
}

static void look_process(struct look *l, const char *pid, bool known)
{
	const struct podset *s = &l->p->pods;
	struct netns_id id;
	char path[64];
	int fd;

	l->processes = true;
	snprintf(path, sizeof(path), "/proc/%.20s/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (netns_id(fd, &id))
		goto out_close;
	if (known) {
		if (id.dev != l->pod->netns_dev || id.ino != l->pod->netns_ino)
			goto out_close;
		if (l->keep) {
			l->fd = fd;
			l->done = true;
			return;
		}
		judge(l, fd, id.dev, id.ino, true);
		goto out_close;
	}
	if (id.dev == s->host_dev && id.ino == s->host_ino)
		goto out_close;
	for (uint32_t i = 0; i < l->seen_nr; i++)
		if (id.dev == l->seen[i].dev && id.ino == l->seen[i].ino)
			goto out_close;
	if (l->seen_nr < sizeof(l->seen) / sizeof(*l->seen)) {
		l->seen[l->seen_nr].dev = id.dev;
		l->seen[l->seen_nr++].ino = id.ino;
	}
	if (netns_is_ours(fd, s->userns_dev, s->userns_ino))
		judge(l, fd, id.dev, id.ino, false);
out_close:
	close(fd);
}

static void look_procs(struct look *l, const char *below, bool known)
{
	char path[PATH_LEN], line[32];
	FILE *f = fopen(full_path(l->p, below, "cgroup.procs", path), "re");

	if (!f)
		return;
	while (!l->done && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (strcmp(line, "0")) /* 0: a process of another pid namespace */
			look_process(l, line, known);
	}
	fclose(f);
}

static void look_tree(struct look *l, const char *below, bool known, unsigned int depth)
{
	char path[PATH_LEN], child[PATH_LEN];
	struct dirent *d;
	DIR *dir;

	look_procs(l, below, known);
	if (l->done || depth > TREE_DEPTH_MAX)
		return;
	dir = opendir(full_path(l->p, below, "", path));
	if (!dir)
		return;
	while (!l->done && (d = readdir(dir)))
		if (d->d_type == DT_DIR && d->d_name[0] != '.' &&
		    snprintf(child, sizeof(child), "%s/%s", below, d->d_name) < PATH_LEN - 256)
			look_tree(l, child, known, depth + 1);
	closedir(dir);
}

/* Finds the pod's namespace again, or another one when the first is gone. */
static void inspect(struct plane *p, struct pod *pod, const struct client *c)
{
	struct look l = { .p = p, .pod = pod, .client = c };

	if (pod->cookie) {
		look_tree(&l, pod->cgroup, true, 0);
		if (l.done)
			return;
		pod->cookie = pod->netns_dev = pod->netns_ino = 0;
		pod->addr_nr = 0;
		pod->link = (struct netns_link){ 0 };
	}
	look_tree(&l, pod->cgroup, false, 0);
	if (!l.done && l.processes)
		p->pods.waiting++;
}

int podscan_netns(struct plane *p, uint32_t at)
{
	struct pod *pod = &p->pods.items[at];
	struct look l = { .p = p, .pod = pod, .keep = true, .fd = -1 };

	if (pod->cookie)
		look_tree(&l, pod->cgroup, true, 0);
	return l.fd;
}

static bool path_is_below(struct str path)
{
	if (!path.len || path.p[0] == '/' || path.len > PATH_LEN - 512)
		return false;
	for (uint32_t i = 0, from = 0; i <= path.len; i++) {
		if (i < path.len && path.p[i] != '/')
			continue;
		if (str_eq(str_sub(path, from, i - from), STR("..")))
			return false;
		from = i + 1;
	}
	return true;
}

static struct pod *pod_of(struct plane *p, const struct client *c)
{
	struct pod *pod;
	char *text;

	if (!c->cgroup.len)
		return c->uid.len ? pod_by_uid(&p->pods, c->uid) : NULL;
	if (!path_is_below(c->cgroup))
		return NULL;
	pod = pod_by_cgroup(&p->pods, c->cgroup);
	if (pod)
		return pod;
	text = xmalloc(c->cgroup.len + 1);
	memcpy(text, c->cgroup.p, c->cgroup.len);
	text[c->cgroup.len] = 0;
	if (dir_exists(p, text)) {
		/* No pod has a uid with a slash in it. */
		char uid[PATH_LEN];

		snprintf(uid, sizeof(uid), "/%s", text);
		watch_pod(p, text);
		pod = pod_add(&p->pods, xstrdup(uid), text);
		pod->annotated = true;
	}
	free(text);
	return pod;
}

uint64_t podscan_cgroup(struct plane *p, const struct client *c)
{
	const struct pod *pod = pod_of(p, c);
	char path[PATH_LEN];
	struct stat st;

	/* In cgroup2 the number of the directory is the cgroup's id. */
	return pod && !stat(full_path(p, pod->cgroup, "", path), &st) ? st.st_ino : 0;
}

static void retry_arm(struct podset *s)
{
	struct itimerspec t = { 0 };

	s->retry_ms = !s->waiting ? 0 : !s->retry_ms ? RETRY_MIN_MS : s->retry_ms * 2;
	if (s->retry_ms > RETRY_MAX_MS)
		s->retry_ms = RETRY_MAX_MS;
	t.it_value.tv_sec = s->retry_ms / 1000;
	t.it_value.tv_nsec = (long)(s->retry_ms % 1000) * 1000000;
	timerfd_settime(s->timer_fd, 0, &t, NULL);
}

void podscan_match(struct plane *p, const struct snapshot *snap, bool all)
{
	struct podset *s = &p->pods;

	/* Snapshots that differ in endpoints only share their clients. */
	if (!all && s->scanned_ms && snap && snap->clients == s->matched && snap->client_nr == s->matched_nr)
		return;
	s->dirty = p->ifaces.pods_due = true;
	if (!s->scanned_ms)
		podscan_tree(p);
	for (uint32_t i = 0; i < s->nr; i++)
		s->items[i].client = 0;
	s->expected = 0;
	s->matched = snap ? snap->clients : NULL;
	s->matched_nr = snap ? snap->client_nr : 0;
	for (uint32_t i = 0; snap && i < snap->client_nr; i++) {
		const struct client *c = &snap->clients[i];
		struct pod *pod;

		if (c->host_network)
			continue;
		s->expected += !c->node.len || str_is(c->node, p->node_name);
		pod = pod_of(p, c);
		if (pod && !pod->client)
			pod->client = i + 1;
	}
	s->waiting = 0;
	for (uint32_t i = 0; i < s->nr; i++) {
		struct pod *pod = &s->items[i];

		const struct client *c = pod->client ? &snap->clients[pod->client - 1] : NULL;

		if (c && (all || !pod->cookie))
			inspect(p, pod, c);
		/* The address may come later than the process; no event tells. */
		if (c && pod->cookie && !pod_carries(pod->addrs, pod->addr_nr, c))
			s->waiting++;
	}
	retry_arm(s);
	hostpods_sync(p, snap);
}

/* ---- events ---- */

static int poll_add(struct plane *p, int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(p->pods.poll_fd, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

/* The host's own namespace is init's; ours when init's cannot be seen. */
static int host_netns(struct podset *s)
{
	struct netns_id id;
	struct stat st;
	int fd, rc;

	s->own_netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (s->own_netns_fd < 0)
		return -errno;
	fd = open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
	rc = netns_id(fd >= 0 ? fd : s->own_netns_fd, &id);
	if (fd >= 0)
		close(fd);
	if (rc)
		return rc;
	s->host_dev = id.dev;
	s->host_ino = id.ino;
	if (stat("/proc/self/ns/user", &st))
		return -errno;
	s->userns_dev = st.st_dev;
	s->userns_ino = st.st_ino;
	return 0;
}

int podscan_init(struct plane *p)
{
	struct podset *s = &p->pods;
	int rc;

	slotset_init(&s->by_uid, hash_by_uid, s);
	rc = host_netns(s);
	if (rc)
		return rc;
	s->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	s->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->inotify_fd < 0 || s->timer_fd < 0 || s->poll_fd < 0)
		return -errno;
	rc = poll_add(p, s->inotify_fd);
	if (!rc)
		rc = poll_add(p, s->timer_fd);
	if (!rc)
		rc = poll_add(p, p->barrier.event_fd);
	return rc;
}

void podscan_release(struct plane *p)
{
	struct podset *s = &p->pods;
	const int fds[] = { s->inotify_fd, s->timer_fd, s->poll_fd, s->own_netns_fd };

	for (uint32_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (uint32_t i = 0; i < s->nr; i++)
		pod_release(&s->items[i]);
	free(s->items);
	free(s->enrolled);
	slotset_release(&s->by_uid);
}

int plane_pods_fd(struct plane *p)
{
	return p->pods.poll_fd;
}

static bool drain(int fd)
{
	char buf[4096] __attribute__((aligned(8)));
	bool any = false;

	while (read(fd, buf, sizeof(buf)) > 0)
		any = true;
	return any;
}

void plane_pods_event(struct plane *p)
{
	struct podset *s = &p->pods;
	struct itimerspec soon = { .it_value.tv_nsec = BURST_MS * 1000000 };
	bool due = drain(s->timer_fd), events = drain(s->inotify_fd);

	events |= nodelinks_event(p);
	shortcuts_event(p);
	selftest_event(p);
	census_event(p);
	if (drain(p->barrier.event_fd)) {
		reap(p);
		barrier_kick(p);
	}
	if (!due && !events)
		return;
	if (!due && loop_now_ms() - s->scanned_ms < BURST_MS) {
		timerfd_settime(s->timer_fd, 0, &soon, NULL);
		return;
	}
	if (events)
		s->retry_ms = 0;
	plane_rescan(p);
}
