/* SPDX-License-Identifier: BSD-2-Clause */
/* Lines of the access log in both formats, and what becomes of them when nobody reads. */
#include "test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "l7/access_log.h"

struct logged {
	struct access_sink sink;
	struct stats *counts;
	struct access_log *log;
	int out[2];
};

static void open_log(struct logged *t, int format)
{
	CHECK(!pipe2(t->out, O_NONBLOCK));
	atomic_init(&t->sink.fd, t->out[1]);
	atomic_init(&t->sink.format, format);
	t->counts = stats_new(NULL);
	t->log = access_log_new(&t->sink, t->counts);
}

static void close_log(struct logged *t)
{
	access_log_free(t->log);
	stats_free(t->counts);
	close(t->out[0]);
	close(t->out[1]);
}

static const char *read_log(struct logged *t)
{
	static char text[1 << 17];
	ssize_t n = read(t->out[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static struct mesh_addr addr(const char *text)
{
	struct mesh_addr a = { 0 };

	if (strchr(text, ':')) {
		inet_pton(AF_INET6, text, &a);
	} else {
		a.w_be[2] = htonl(0xffff);
		inet_pton(AF_INET, text, &a.w_be[3]);
	}
	return a;
}

static struct access_entry entry(void)
{
	return (struct access_entry){
		.start_ns = 1767323045678901234ull,
		.method = STR("GET"),
		.path = STR("/a?b=1"),
		.authority = STR("reviews:9080"),
		.forwarded_for = STR("10.0.0.1"),
		.user_agent = STR("curl/8"),
		.request_id = STR("6d6e"),
		.minor = 1,
		.status = 200,
		.details = STR("via_upstream"),
		.bytes_received = 3,
		.bytes_sent = 1024,
		.duration_ms = 12,
		.upstream_ms = 11,
		.cluster = STR("outbound|9080||reviews.default.svc.cluster.local"),
		.route = STR("first"),
		.server = addr("10.0.0.2"),
		.server_port = 9080,
		.server_local = addr("10.0.0.1"),
		.server_local_port = 40001,
		.dialled = addr("fd00::1"),
		.dialled_port = 80,
		.client = addr("10.0.0.1"),
		.client_port = 50001,
	};
}

TEST(text_of_an_answer)
{
	struct access_entry e = entry();
	struct logged t;

	open_log(&t, MESH_L7_LOG_TEXT);
	access_log(t.log, &e);
	CHECK_STR(read_log(&t), "");
	CHECK(!access_log_flush(t.log));
	CHECK_STR(read_log(&t),
		  "[2026-01-02T03:04:05.678Z] \"GET /a?b=1 HTTP/1.1\" 200 - via_upstream - \"-\" 3 1024 12 11 "
		  "\"10.0.0.1\" \"curl/8\" \"6d6e\" \"reviews:9080\" \"10.0.0.2:9080\" "
		  "outbound|9080||reviews.default.svc.cluster.local 10.0.0.1:40001 [fd00::1]:80 10.0.0.1:50001 - "
		  "first\n");
	close_log(&t);
}

TEST(text_of_a_failure)
{
	struct access_entry e = { .start_ns = 1767323045000000000ull,
				  .method = STR("PUT"),
				  .path = STR("/\"\\\xc3\x1f"),
				  .status = 503,
				  .upstream_ms = -1,
				  .flags = MESH_FLAG_UPSTREAM_CONNECT_FAILURE | MESH_FLAG_RETRY_LIMIT,
				  .failure = STR("refused \"so\"") };
	struct logged t;

	open_log(&t, MESH_L7_LOG_TEXT);
	access_log(t.log, &e);
	access_log_flush(t.log);
	CHECK_STR(read_log(&t), "[2026-01-02T03:04:05.000Z] \"PUT /\\x22\\x5C\\xC3\\x1F HTTP/1.0\" 503 UF,URX - - "
				"\"refused \\x22so\\x22\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" - - - - - -\n");
	close_log(&t);
}

TEST(json)
{
	struct access_entry e = entry();
	struct logged t;

	open_log(&t, MESH_L7_LOG_JSON);
	e.user_agent = STR("a\"b\xff");
	access_log(t.log, &e);
	access_log_flush(t.log);
	CHECK_STR(read_log(&t),
		  "{\"start_time\":\"2026-01-02T03:04:05.678Z\",\"method\":\"GET\",\"path\":\"/a?b=1\","
		  "\"protocol\":\"HTTP/1.1\",\"response_code\":200,\"response_flags\":\"-\","
		  "\"response_code_details\":\"via_upstream\",\"connection_termination_details\":null,"
		  "\"upstream_transport_failure_reason\":null,\"bytes_received\":3,\"bytes_sent\":1024,\"duration\":12,"
		  "\"upstream_service_time\":\"11\",\"x_forwarded_for\":\"10.0.0.1\",\"user_agent\":"
		  "\"a\\\"b\xef\xbf\xbd\","
		  "\"request_id\":\"6d6e\",\"authority\":\"reviews:9080\",\"upstream_host\":\"10.0.0.2:9080\","
		  "\"upstream_cluster\":\"outbound|9080||reviews.default.svc.cluster.local\","
		  "\"upstream_local_address\":\"10.0.0.1:40001\",\"downstream_local_address\":\"[fd00::1]:80\","
		  "\"downstream_remote_address\":\"10.0.0.1:50001\",\"requested_server_name\":null,"
		  "\"route_name\":\"first\"}\n");
	close_log(&t);
}

TEST(nobody_wants_it)
{
	struct access_entry e = entry();
	struct logged t;

	open_log(&t, MESH_L7_LOG_TEXT);
	atomic_store(&t.sink.fd, -1);
	access_log(t.log, &e);
	CHECK(!access_log_flush(t.log));
	atomic_store(&t.sink.fd, t.out[1]);
	CHECK(!access_log_flush(t.log));
	CHECK_STR(read_log(&t), "");
	close_log(&t);
}

/* A pipe that is full takes no line, and none in part; what finds no room is counted, and later ones come through again. */
TEST(nobody_reads)
{
	struct access_entry e = entry();
	uint64_t dropped, read_nr = 0;
	struct logged t;

	open_log(&t, MESH_L7_LOG_TEXT);
	CHECK(fcntl(t.out[1], F_SETPIPE_SZ, PIPE_BUF) >= PIPE_BUF);
	for (int i = 0; i < 1000; i++)
		access_log(t.log, &e);
	CHECK(access_log_flush(t.log));
	dropped = stats_worker(t.counts)->log_dropped;
	CHECK(dropped > 0 && dropped < 1000);
	while (true) {
		const char *text = read_log(&t), *line;

		if (!text[0])
			break;
		for (; (line = strchr(text, '\n')); text = line + 1, read_nr++)
			CHECK(!strncmp(text, "[2026-", 6) && !strncmp(line - 6, " first", 6));
		CHECK(!text[0]);
		access_log_flush(t.log);
	}
	CHECK_INT(read_nr + dropped, 1000);
	close_log(&t);
}
