/* SPDX-License-Identifier: BSD-2-Clause */
/* The way to meshd: one connection, one request, one reply. Carries texts; what they say is meshd's business. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "meshctl.h"

void request_begin(struct buf *b, const struct args *a, enum wire_type type)
{
	wire_begin(b, (uint16_t)type);
	request_text(b, "output", a->value[FLAG_OUTPUT] ? a->value[FLAG_OUTPUT] : "table");
	if (a->colour)
		request_text(b, "colour", "1");
}

void request_text(struct buf *b, const char *name, const char *value)
{
	if (value)
		wire_add(b, str_of(name), str_of(value));
}

void request_flag(struct buf *b, const struct args *a, enum flag_id flag)
{
	if (!(a->given & 1u << flag))
		return;
	request_text(b, flags[flag].name, flags[flag].value ? a->value[flag] : "1");
}

void request_inputs(struct buf *b, const struct inputs *in)
{
	struct buf name = { 0 };

	for (uint32_t i = 0; i < in->nr; i++) {
		const struct input *f = &in->v[i];

		buf_clear(&name);
		buf_printf(&name, "file:%.*s", STR_ARG(f->name));
		wire_add(b, (struct str){ name.data, (uint32_t)name.len },
			 (struct str){ f->text.data ? f->text.data : "", (uint32_t)f->text.len });
	}
	buf_release(&name);
}

/* Why connect() failed, and what to do about it. */
static void explain_connect(struct buf *err, const char *path, int error)
{
	struct stat st;
	struct group *g;

	buf_printf(err, "error: cannot reach meshd at %s: ", path);
	if (error == ENOENT) {
		buf_printf(err, "there is no such socket; is meshd running?\n");
	} else if (error == ECONNREFUSED) {
		buf_printf(err, "nobody listens there; is meshd running?\n");
	} else if (error == EACCES && !stat(path, &st)) {
		g = getgrgid(st.st_gid);
		buf_printf(err, "permission denied; only root and the group ");
		if (g)
			buf_printf(err, "`%s`", g->gr_name);
		else
			buf_printf(err, "with id %u", st.st_gid);
		buf_printf(err, " may use it\n");
	} else if (error == EACCES) {
		buf_printf(err, "permission denied; only root and the group of its directory may look there\n");
	} else {
		buf_printf(err, "%s\n", strerror(error));
	}
}

/* A connected non-blocking socket, or -1 with a message. */
static int connect_socket(const char *path, struct buf *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	int fd;

	if (!len || len >= sizeof(sa.sun_path)) {
		buf_printf(err, "error: %s: the path of a socket has 1 to %zu characters\n", path,
			   sizeof(sa.sun_path) - 1);
		return -1;
	}
	memcpy(sa.sun_path, path, len);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) || fcntl(fd, F_SETFL, O_NONBLOCK)) {
		explain_connect(err, path, errno);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/* Length of the frame that `in` begins with; 0: not known yet; -EPROTO, -EPROTONOSUPPORT: not a reply. */
static int64_t frame_len(const struct buf *in, struct wire_header *ret)
{
	int rc;

	if (in->len < WIRE_HEADER_LEN)
		return 0;
	rc = wire_header_decode((const uint8_t *)in->data, ret);
	if (rc)
		return rc;
	return ret->type == WIRE_REPLY ? (int64_t)WIRE_HEADER_LEN + ret->body_len : -EPROTO;
}

/*
 * Writes the request and reads the reply at once: meshd may refuse a request before it has read all of it. 0; -errno: the
 * connection broke; -EPIPE: it ended early.
 */
static int exchange(int fd, const struct buf *out, struct buf *in, struct wire_header *ret)
{
	char chunk[1 << 16];
	size_t sent = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = (short)(POLLIN | (sent < out->len ? POLLOUT : 0)) };
		int64_t want = frame_len(in, ret);
		ssize_t n;

		if (want < 0 || (want && in->len >= (size_t)want))
			return want < 0 ? (int)want : in->len == (size_t)want ? 0 : -EPROTO;
		if (poll(&p, 1, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (p.revents & (POLLIN | POLLHUP | POLLERR)) {
			n = recv(fd, chunk, sizeof(chunk), 0);
			if (!n)
				return -EPIPE;
			if (n > 0)
				buf_add(in, chunk, (size_t)n);
			else if (errno != EAGAIN && errno != EINTR)
				return -errno;
		}
		if (p.revents & POLLOUT) {
			n = send(fd, out->data + sent, out->len - sent, MSG_NOSIGNAL);
			if (n > 0)
				sent += (size_t)n;
			else if (errno == EPIPE)
				sent = out->len; /* there may be a reply that says why */
			else if (errno != EAGAIN && errno != EINTR)
				return -errno;
		}
	}
}

/* Takes a reply apart. Its exit code, or EXIT_NR when there is none. */
static int take_reply(struct str body, struct buf *out, struct buf *err)
{
	struct wire_part part;
	int exit_code = EXIT_NR, rc;
	uint32_t at = 0;
	uint64_t number;

	while ((rc = wire_part_next(body, &at, &part)) > 0) {
		if (str_is(part.name, "out"))
			buf_str(out, part.data);
		else if (str_is(part.name, "err"))
			buf_str(err, part.data);
		else if (str_is(part.name, "exit") && str_to_u64(part.data, EXIT_NR - 1, &number))
			exit_code = (int)number;
	}
	return rc ? EXIT_NR : exit_code;
}

int request_send(const struct args *a, struct buf *request, struct buf *out, struct buf *err)
{
	const char *path = a->value[FLAG_SOCKET] ? a->value[FLAG_SOCKET] : DEFAULT_SOCKET;
	struct wire_header header = { 0 };
	struct buf in = { 0 };
	int fd, rc;

	wire_end(request);
	if (request->len - WIRE_HEADER_LEN > WIRE_BODY_MAX) {
		buf_printf(err, "error: more than %u MiB of rules in one request\n", WIRE_BODY_MAX >> 20);
		return EXIT_USAGE;
	}
	fd = connect_socket(path, err);
	if (fd < 0)
		return EXIT_USAGE;
	progress_start("waiting for meshd");
	rc = exchange(fd, request, &in, &header);
	progress_stop();
	close(fd);
	if (!rc) {
		rc = take_reply((struct str){ in.data + WIRE_HEADER_LEN, header.body_len }, out, err);
		if (rc != EXIT_NR)
			goto out;
		rc = -EPROTO;
	}
	if (rc == -EPIPE)
		buf_printf(err, "error: meshd ended the connection without an answer; its log says why\n");
	else if (rc == -EPROTONOSUPPORT)
		buf_printf(err, "error: meshd speaks another version of the protocol; meshctl and meshd must be of one "
				"release\n");
	else if (rc == -EPROTO)
		buf_printf(err, "error: the answer from %s is not one of meshd\n", path);
	else
		buf_printf(err, "error: connection to meshd: %s\n", strerror(-rc));
	rc = EXIT_DAEMON;
out:
	buf_release(&in);
	return rc;
}

int request_run(const struct args *a, struct buf *request)
{
	struct buf out = { 0 }, err = { 0 };
	int rc = request_send(a, request, &out, &err);

	buf_release(request);
	if (print_out((struct str){ out.data, (uint32_t)out.len }) && !rc)
		rc = EXIT_USAGE;
	if (err.len)
		fwrite(err.data, 1, err.len, stderr);
	buf_release(&out);
	buf_release(&err);
	return rc;
}
