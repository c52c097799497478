/* The server as a client sees it, mostly over raw sockets: what is answered, refused and cut. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checks.h"
#include "http_harness.h"
#include "os/clock.h"
#include "os/socket.h"

/* ---- Routes. */

static errc say_hello(void *ctx, struct http_request *r, struct http_response *response,
		      struct err *e)
{
	(void)ctx;
	(void)r;
	(void)e;
	http_response_set_text(response, "text/plain", STR("hello\n"));
	return OK;
}

static errc say_params(void *ctx, struct http_request *r, struct http_response *response,
		       struct err *e)
{
	struct buf b = buf_init(4096);
	(void)ctx;
	(void)e;
	str app = http_request_param(r, "app"), id = http_request_param(r, "id");
	str q = http_request_query(r, "q"), name, value;
	buf_printf(&b, "app=%.*s id=%.*s q=%.*s n=", STR_ARG(app), STR_ARG(id), (int)q.len,
		   q.ptr ? q.ptr : "-");
	for (size_t i = 0; http_request_query_at(r, i, &name, &value); i++)
		buf_printf(&b, "[%.*s:%.*s]", STR_ARG(name), STR_ARG(value));
	http_response_set_body(response, "text/plain", &b);
	return OK;
}

static errc echo(void *ctx, struct http_request *r, struct http_response *response, struct err *e)
{
	(void)ctx;
	(void)e;
	http_response_set_text(response, "application/octet-stream", http_request_body(r));
	return OK;
}

static errc refuse(void *ctx, struct http_request *r, struct http_response *response, struct err *e)
{
	(void)ctx;
	(void)r;
	(void)response;
	FAIL(e, ERR_CONFLICT, "a \"deploy\" runs already");
}

static errc want_json(void *ctx, struct http_request *r, struct http_response *response,
		      struct err *e)
{
	(void)ctx;
	TRY(http_request_expect_type(r, "application/json", response, e));
	return OK;
}

static errc peer(void *ctx, struct http_request *r, struct http_response *response, struct err *e)
{
	const struct http_peer *p = http_request_peer(r);
	struct buf b = buf_init(256);
	(void)ctx;
	(void)e;
	buf_printf(&b, "%s %s uid=%d pid=%d", p->kind == HTTP_PEER_UNIX ? "unix" : "tcp",
		   p->address, (int)p->uid, (int)p->pid);
	http_response_set_body(response, "text/plain", &b);
	return OK;
}

/* A handler that waits until the test lets it go. */
static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static int gate_entered, gate_left;
static bool gate_open;

static errc wait_at_gate(void *ctx, struct http_request *r, struct http_response *response,
			 struct err *e)
{
	(void)ctx;
	(void)r;
	(void)e;
	pthread_mutex_lock(&gate_lock);
	gate_entered++;
	pthread_cond_broadcast(&gate_changed);
	while (!gate_open)
		pthread_cond_wait(&gate_changed, &gate_lock);
	gate_left++;
	pthread_cond_broadcast(&gate_changed);
	pthread_mutex_unlock(&gate_lock);
	http_response_set_text(response, "text/plain", STR("through\n"));
	return OK;
}

static errc big_file(void *ctx, struct http_request *r, struct http_response *response,
		     struct err *e)
{
	(void)ctx;
	(void)r;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		FAIL_ERRNO(e, "exe");
	http_response_set_file(response, "application/octet-stream", fd, 4, 16);
	return OK;
}

static errc big_body(void *ctx, struct http_request *r, struct http_response *response,
		     struct err *e)
{
	enum { BIG = 32 * 1024 * 1024 };
	struct buf b = buf_init(BIG);
	(void)ctx;
	(void)r;
	(void)e;
	memset(buf_reserve(&b, BIG), 'x', BIG);
	b.len = BIG;
	http_response_set_body(response, "text/plain", &b);
	return OK;
}

/* A sink that counts. */
static _Atomic uint64_t sunk_bytes;
static _Atomic int sunk_ends, sunk_aborts, sunk_piece_max;

static errc sink(void *ctx, struct http_request *r, str piece, bool end, struct err *e)
{
	(void)ctx;
	sunk_bytes += piece.len;
	sunk_ends += end;
	if ((int)piece.len > sunk_piece_max)
		sunk_piece_max = (int)piece.len;
	if (http_request_header(r, "x-refuse").len && sunk_bytes > 100000)
		FAIL(e, ERR_FAILED, "not this");
	return OK;
}

static void sink_abort(void *ctx, struct http_request *r)
{
	(void)ctx;
	(void)r;
	sunk_aborts++;
}

static errc sunk(void *ctx, struct http_request *r, struct http_response *response, struct err *e)
{
	struct buf b = buf_init(100);
	(void)ctx;
	(void)r;
	(void)e;
	buf_printf(&b, "sunk %llu\n", (unsigned long long)sunk_bytes);
	http_response_set_body(response, "text/plain", &b);
	return OK;
}

static errc authorize(void *ctx, struct http_request *r, struct err *e)
{
	(void)ctx;
	if (http_request_route(r)->access &&
	    !str_eq_c(http_request_header(r, "authorization"), "t"))
		FAIL(e, ERR_UNAUTHENTICATED, "a token is needed");
	return OK;
}

static const struct http_route routes[] = {
	{ .method = "GET", .pattern = "/hello", .handler = say_hello },
	{ .method = "GET", .pattern = "/inline", .handler = say_hello, .flags = HTTP_ROUTE_INLINE },
	{ .method = "GET", .pattern = "/apps/:app/releases/:id", .handler = say_params },
	{ .method = "GET", .pattern = "/apps/:app/releases/latest", .handler = say_hello },
	{ .method = "GET", .pattern = "/files/*id", .handler = say_params },
	{ .method = "POST", .pattern = "/echo", .body_bytes_max = 100000, .handler = echo },
	{ .method = "PUT", .pattern = "/echo", .body_bytes_max = 100000, .handler = echo },
	{ .method = "POST", .pattern = "/conflict", .handler = refuse },
	{ .method = "POST", .pattern = "/json", .body_bytes_max = 100, .handler = want_json },
	{ .method = "POST",
	  .pattern = "/secret",
	  .body_bytes_max = 100,
	  .handler = echo,
	  .access = 1 },
	{ .method = "GET", .pattern = "/peer", .handler = peer },
	{ .method = "GET", .pattern = "/gate", .handler = wait_at_gate },
	{ .method = "GET", .pattern = "/file", .handler = big_file },
	{ .method = "GET", .pattern = "/big", .handler = big_body },
	{ .method = "POST",
	  .pattern = "/sink",
	  .body_bytes_max = 8000000,
	  .handler = sunk,
	  .sink = sink,
	  .sink_abort = sink_abort },
};

static struct harness h;

static int setup(void **state)
{
	struct http_server_options o = { .authorize = authorize };
	(void)state;
	harness_start(&h, &o, routes, ARRAY_COUNT(routes));
	gate_open = false;
	gate_entered = gate_left = 0;
	sunk_bytes = 0;
	sunk_ends = sunk_aborts = sunk_piece_max = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	harness_stop(&h);
	return 0;
}

#define CLOSE "Host: x\r\nConnection: close\r\n\r\n"

static void expect(const char *request, const char *status, const char *contains)
{
	char *got = raw_exchange(&h, request);
	char line[64];
	snprintf(line, sizeof(line), "HTTP/1.1 %s ", status);
	if (strncmp(got, line, strlen(line)) != 0 || (contains && !strcasestr(got, contains)))
		fail_msg("asked:\n%s\nwanted %s with %s, got:\n%s", request, status,
			 contains ? contains : "anything", got);
	free(got);
}

static void test_routes(void **state)
{
	(void)state;
	expect("GET /hello HTTP/1.1\r\n" CLOSE, "200", "\r\n\r\nhello\n");
	expect("GET /inline HTTP/1.1\r\n" CLOSE, "200", "\r\n\r\nhello\n");
	expect("GET http://x/hello HTTP/1.1\r\n" CLOSE, "200", "\r\n\r\nhello\n");
	expect("GET /hello HTTP/1.1\r\n" CLOSE, "200", "Cache-Control: no-store");
	expect("GET /apps/a%20b/releases/7?q=x+y%26&q=2&z HTTP/1.1\r\n" CLOSE, "200",
	       "app=a b id=7 q=x y& n=[q:x y&][q:2][z:]");
	expect("GET /apps/a/releases/latest HTTP/1.1\r\n" CLOSE, "200", "hello");
	expect("GET /files/a/b%20c HTTP/1.1\r\n" CLOSE, "200", "id=a/b c");
	expect("GET /files/ HTTP/1.1\r\n" CLOSE, "200", "id= ");
	expect("GET /nothing HTTP/1.1\r\n" CLOSE, "404", "{\"error\":{\"code\":\"not_found\"");
	expect("DELETE /echo HTTP/1.1\r\n" CLOSE, "405", "Allow: POST, PUT");
	expect("POST /hello HTTP/1.1\r\n" CLOSE, "405", "Allow: GET, HEAD");
	expect("POST /conflict HTTP/1.1\r\n" CLOSE, "409",
	       "{\"error\":{\"code\":\"conflict\",\"message\":\"a \\\"deploy\\\" runs already\"}}");
	expect("POST /json HTTP/1.1\r\nContent-Type: text/plain\r\n" CLOSE, "415",
	       "application/json");
	expect("POST /json HTTP/1.1\r\nContent-Type: Application/json; charset=utf-8\r\n" CLOSE,
	       "200", NULL);
	expect("GET /file HTTP/1.1\r\n" CLOSE, "200", "Content-Length: 16");
	char *head = raw_exchange(&h, "HEAD /hello HTTP/1.1\r\n" CLOSE);
	assert_non_null(strcasestr(head, "content-length: 6"));
	assert_null(strstr(head, "hello"));
	assert_null(strcasestr(head, "server:"));
	assert_non_null(strstr(head, "Date: "));
	free(head);
}

static void test_paths_that_are_refused(void **state)
{
	(void)state;
	const char *const paths[] = { "/a/../b", "/a/%2e%2e/b", "/a/./b",       "/a%2fb",
				      "/a%5cb",  "/a%00b",      "/a%0ab",       "//a",
				      "/a%zz",   "/a%2",        "/hello?a=%00", "/hello?a=%4",
				      "hello",   "*",           "/a#b",         "/\x80" };
	for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
		char request[200];
		snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" CLOSE, paths[i]);
		expect(request, "400", "\"invalid\"");
	}
}

/* What lets two programs disagree about where a request ends. */
static void test_smuggling(void **state)
{
	(void)state;
	const char *const all[] = {
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: "
		"chunked\r\n\r\n0\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: "
		"5\r\n\r\n0\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: "
		"5\r\n\r\nhello",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: "
		"6\r\n\r\nhello",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\nhello",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\nhello",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, "
		"chunked\r\n\r\n0\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
		"chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0b"
		"chunked\r\n\r\n0\r\n\r\n",
		"POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\nA:\r\n\tc\r\n\r\n",
		"GET /hello HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n",
		"GET /hello HTTP/1.1\nHost: x\n\n",
		"GET /hello HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\nA: b\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\nA: b\rB: c\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\n\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\nA\x7f: b\r\n\r\n",
		"GET /hello HTTP/1.1\r\n\r\n",
		"GET /hello HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"GET  /hello HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /hello  HTTP/1.1\r\nHost: x\r\n\r\n",
		"G<T /hello HTTP/1.1\r\nHost: x\r\n\r\n",
	};
	for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
		char *got = raw_exchange(&h, all[i]);
		/* a request line that cannot be read at all is closed without an answer */
		if (strncmp(got, "HTTP/1.1 400 ", 13) != 0 && got[0])
			fail_msg("asked:\n%s\ngot:\n%s", all[i], got);
		free(got);
	}
	const char *const chunks[] = {
		"zz\r\nhello\r\n0\r\n\r\n",  "5\r\nhelloX\r\n0\r\n\r\n",
		"-5\r\nhello\r\n0\r\n\r\n",  " 5\r\nhello\r\n0\r\n\r\n",
		"0x5\r\nhello\r\n0\r\n\r\n", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"
	};
	for (size_t i = 0; i < ARRAY_COUNT(chunks); i++) {
		char request[300];
		snprintf(request, sizeof(request),
			 "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%s",
			 chunks[i]);
		char *got = raw_exchange(&h, request);
		if (strncmp(got, "HTTP/1.1 4", 10) != 0)
			fail_msg("asked:\n%s\ngot:\n%s", request, got);
		free(got);
	}
}

static void test_nul_in_a_header(void **state)
{
	(void)state;
	static const char request[] = "GET /hello HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n";
	struct buf b = buf_init(1 << 16);
	struct err e;
	int fd = raw_connect(&h);
	assert_int_equal(socket_send_all(fd, (str){ request, sizeof(request) - 1 },
					 clock_mono_ms() + 1000, &e),
			 OK);
	raw_read_until(fd, &b, NULL);
	assert_non_null(strstr(buf_cstr(&b), "HTTP/1.1 400 "));
	buf_done(&b);
	close(fd);
}

static void test_versions_and_caps(void **state)
{
	(void)state;
	expect("GET /hello HTTP/1.0\r\n\r\n", "200", "hello");
	expect("GET /hello HTTP/1.2\r\nHost: x\r\n\r\n", "505", NULL);
	expect("GET /hello HTTP/2.0\r\nHost: x\r\n\r\n", "505", NULL);
	expect("GET /hello HTTP/1.1\r\nExpect: more\r\n" CLOSE, "417", NULL);
	struct buf b = buf_init(200000);
	buf_add_c(&b, "GET /hello HTTP/1.1\r\nA: ");
	for (int i = 0; i < 17 * 1024; i++)
		buf_add_byte(&b, 'a');
	buf_add_c(&b, "\r\n" CLOSE);
	expect(buf_cstr(&b), "431", "\"limit\"");
	buf_clear(&b);
	buf_add_c(&b, "GET /hello HTTP/1.1\r\nA: ");
	for (int i = 0; i < 100 * 1024; i++)
		buf_add_byte(&b, 'a');
	char *got = raw_exchange(&h, buf_cstr(&b));
	assert_true(strncmp(got, "HTTP/1.1 431 ", 13) == 0 || !got[0]);
	free(got);
	buf_clear(&b);
	buf_add_c(&b, "GET /hello HTTP/1.1\r\n");
	for (int i = 0; i < 101; i++)
		buf_printf(&b, "A%d: b\r\n", i);
	buf_add_c(&b, CLOSE);
	expect(buf_cstr(&b), "431", "\"limit\"");
	buf_clear(&b);
	buf_add_c(&b, "GET /hello?");
	for (int i = 0; i < 8 * 1024; i++)
		buf_add_byte(&b, 'a');
	buf_add_c(&b, " HTTP/1.1\r\n" CLOSE);
	expect(buf_cstr(&b), "414", NULL);
	buf_clear(&b);
	buf_add_c(&b, "GET /hello?a");
	for (int i = 0; i < 100; i++)
		buf_add_c(&b, "&a");
	buf_add_c(&b, " HTTP/1.1\r\n" CLOSE);
	expect(buf_cstr(&b), "400", "more than 100 parameters");
	buf_done(&b);
}

static void test_bodies(void **state)
{
	(void)state;
	expect("POST /echo HTTP/1.1\r\nContent-Length: 5\r\nConnection: close\r\nHost: "
	       "x\r\n\r\nhello",
	       "200", "\r\n\r\nhello");
	expect("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nHost: "
	       "x\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: t\r\n\r\n",
	       "200", "\r\n\r\nhello");
	expect("POST /echo HTTP/1.1\r\nContent-Length: 100001\r\nHost: x\r\n\r\nhello", "413",
	       "\"limit\"");
	expect("POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\nHost: "
	       "x\r\n\r\nhello",
	       "413", NULL);
	expect("GET /hello HTTP/1.1\r\nContent-Length: 5\r\nHost: x\r\n\r\nhello", "413",
	       "takes no body");
	/* one byte more than allowed, in chunks: noticed on the way, answered all the same */
	struct buf b = buf_init(200000);
	buf_add_c(&b,
		  "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n186A1\r\n");
	for (int i = 0; i < 100001; i++)
		buf_add_byte(&b, 'a');
	expect(buf_cstr(&b), "413", "\"limit\"");
	buf_done(&b);
}

static void test_authorize_before_the_body(void **state)
{
	(void)state;
	struct buf b = buf_init(1 << 16);
	int fd = raw_connect(&h);
	/* the body is never sent, and 100-continue is not given */
	raw_send(fd, "POST /secret HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\nExpect: "
		     "100-continue\r\n\r\n");
	raw_read_until(fd, &b, NULL);
	assert_non_null(strstr(buf_cstr(&b), "HTTP/1.1 401 "));
	assert_null(strstr(buf_cstr(&b), "100 Continue"));
	close(fd);
	buf_clear(&b);
	fd = raw_connect(&h);
	raw_send(fd, "POST /secret HTTP/1.1\r\nHost: x\r\nAuthorization: t\r\nContent-Length: "
		     "2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
	raw_read_until(fd, &b, "100 Continue");
	raw_send(fd, "ok");
	raw_read_until(fd, &b, NULL);
	assert_non_null(strstr(buf_cstr(&b), "HTTP/1.1 200 "));
	assert_non_null(strstr(buf_cstr(&b), "\r\n\r\nok"));
	close(fd);
	buf_done(&b);
}

static void test_pipelining(void **state)
{
	(void)state;
	char *got = raw_exchange(&h,
				 "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
				 "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
				 "GET /inline HTTP/1.1\r\n" CLOSE);
	int replies = 0;
	for (const char *at = got; (at = strstr(at, "HTTP/1.1 200 ")); at++)
		replies++;
	assert_int_equal(replies, 3);
	assert_non_null(strstr(got, "one"));
	free(got);
}

static void test_sink(void **state)
{
	(void)state;
	enum { SIZE = 1000000 };
	struct buf b = buf_init(SIZE + 1000);
	buf_printf(&b,
		   "POST /sink HTTP/1.1\r\nConnection: close\r\nHost: x\r\nContent-Length: "
		   "%d\r\n\r\n",
		   SIZE);
	for (int i = 0; i < SIZE; i++)
		buf_add_byte(&b, 'a');
	expect(buf_cstr(&b), "200", "sunk 1000000");
	assert_int_equal(sunk_ends, 1);
	assert_int_equal(sunk_aborts, 0);
	assert_true(sunk_piece_max <= 64 * 1024);
	sunk_bytes = 0;
	struct buf c = buf_init(SIZE + 100000);
	buf_add_c(&c, "POST /sink HTTP/1.1\r\nConnection: close\r\nHost: x\r\nTransfer-Encoding: "
		      "chunked\r\n\r\n");
	for (int i = 0; i < 100; i++) {
		buf_add_c(&c, "2710\r\n");
		buf_add(&c, (str){ b.ptr + b.len - 10000, 10000 });
		buf_add_c(&c, "\r\n");
	}
	buf_add_c(&c, "0\r\n\r\n");
	expect(buf_cstr(&c), "200", "sunk 1000000");
	/* a sink that refuses half-way */
	sunk_bytes = 0;
	buf_clear(&c);
	buf_printf(&c,
		   "POST /sink HTTP/1.1\r\nX-Refuse: 1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
		   SIZE);
	buf_add(&c, (str){ b.ptr + b.len - SIZE, SIZE });
	expect(buf_cstr(&c), "422", "not this");
	assert_int_equal(sunk_aborts, 1);
	assert_int_equal(sunk_ends, 2);
	buf_done(&b);
	buf_done(&c);
}

static void test_client_leaves_during_upload(void **state)
{
	(void)state;
	struct http_server_stats stats;
	int fd = raw_connect(&h);
	raw_send(fd, "POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
	close(fd);
	do {
		clock_sleep_ms(1);
		http_server_stats(h.server, &stats);
	} while (stats.connection_count || !sunk_aborts);
	assert_int_equal(sunk_ends, 0);
	assert_int_equal(sunk_aborts, 1);
}

static void open_gate(int wait_for_entered)
{
	pthread_mutex_lock(&gate_lock);
	while (gate_entered < wait_for_entered)
		pthread_cond_wait(&gate_changed, &gate_lock);
	gate_open = true;
	pthread_cond_broadcast(&gate_changed);
	pthread_mutex_unlock(&gate_lock);
}

static void test_client_leaves_while_handler_runs(void **state)
{
	(void)state;
	struct http_server_stats stats;
	int fd[4];
	for (int i = 0; i < 4; i++) {
		struct linger now = { .l_onoff = i & 1 };
		fd[i] = raw_connect(&h);
		raw_send(fd[i], "GET /gate HTTP/1.1\r\nHost: x\r\n\r\n");
		setsockopt(fd[i], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	}
	pthread_mutex_lock(&gate_lock);
	while (gate_entered < 4)
		pthread_cond_wait(&gate_changed, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	open_gate(4);
	do {
		clock_sleep_ms(1);
		http_server_stats(h.server, &stats);
	} while (stats.connection_count || stats.request_count);
	expect("GET /hello HTTP/1.1\r\n" CLOSE, "200", "hello");
}

static void test_stop_finishes_handlers(void **state)
{
	(void)state;
	struct buf b = buf_init(1 << 16);
	int fd = raw_connect(&h), idle = raw_connect(&h);
	raw_send(fd, "GET /gate HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_send(idle, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_read_until(idle, &b, "hello\n");
	buf_clear(&b);
	open_gate(1);
	http_server_stop(h.server, 10000);
	raw_read_until(fd, &b, NULL);
	assert_non_null(strstr(buf_cstr(&b), "through"));
	close(fd);
	close(idle);
	buf_done(&b);
	struct err e;
	assert_int_equal(socket_connect_tcp(h.address, clock_mono_ms() + 1000, &fd, &e),
			 ERR_UNAVAILABLE);
}

static void test_unix_peer(void **state)
{
	(void)state;
	struct buf b = buf_init(1 << 16);
	struct err e;
	struct stat st;
	int fd;
	char wanted[100];
	assert_int_equal(stat(h.unix_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(socket_connect_unix(h.unix_path, clock_mono_ms() + 1000, &fd, &e), OK);
	raw_send(fd, "GET /peer HTTP/1.1\r\n" CLOSE);
	raw_read_until(fd, &b, NULL);
	snprintf(wanted, sizeof(wanted), "unix  uid=%d pid=%d", (int)getuid(), (int)getpid());
	assert_non_null(strstr(buf_cstr(&b), wanted));
	close(fd);
	buf_done(&b);
	expect("GET /peer HTTP/1.1\r\n" CLOSE, "200", "tcp 127.0.0.1");
	/* somebody answers there: a second server must not take it away */
	assert_int_equal(http_server_listen_unix(h.server, h.unix_path, &e), ERR_BUSY);
}

static void test_500_connections(void **state)
{
	(void)state;
	enum { COUNT = 500 };
	static int fd[COUNT];
	struct http_server_options o = { .connection_count_per_ip_max = COUNT };
	struct harness many;
	harness_start(&many, &o, routes, ARRAY_COUNT(routes));
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < COUNT; i++) {
			struct buf b = buf_init(1 << 16);
			if (round == 0)
				fd[i] = raw_connect(&many);
			raw_send(fd[i], "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: "
					"4\r\n\r\nbody");
			if (round == 1) {
				raw_read_until(fd[i], &b, "body");
				raw_read_until(fd[i], &b, "bodyHTTP/1.1 200");
				close(fd[i]);
			}
			buf_done(&b);
		}
	harness_stop(&many);
}

static void test_caps(void **state)
{
	(void)state;
	struct http_server_options o = { .connection_count_per_ip_max = 2 };
	struct harness few;
	struct buf b = buf_init(1 << 16);
	harness_start(&few, &o, routes, ARRAY_COUNT(routes));
	int one = raw_connect(&few), two = raw_connect(&few);
	char *got = raw_exchange(&few, "");
	assert_true(strncmp(got, "HTTP/1.1 503 ", 13) == 0);
	free(got);
	close(one);
	raw_send(two, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_read_until(two, &b, "hello\n");
	close(two);
	buf_done(&b);
	harness_stop(&few);
}

/* Short deadlines; each case ends because the server ends it. */
static void test_slow_clients(void **state)
{
	(void)state;
	struct http_server_options o = { .header_ms_max = 150,
					 .idle_ms_max = 300,
					 .progress_grace_ms = 200 };
	struct harness slow;
	struct buf b = buf_init(1 << 20);
	harness_start(&slow, &o, routes, ARRAY_COUNT(routes));
	/* never a complete header section, byte after byte */
	int fd = raw_connect(&slow);
	size_t n = 1;
	struct err e;
	raw_send(fd, "GET /hello HTTP/1.1\r\nHost: x\r\nA: ");
	while (n) {
		raw_send(fd, "b");
		errc rc = socket_receive_some(fd, &b, clock_mono_ms() + 20, &n, &e);
		if (rc == ERR_UNAVAILABLE)
			break;
	}
	if (!strstr(buf_cstr(&b), "HTTP/1.1 408 "))
		fail_msg("no 408 but: %s", buf_cstr(&b));
	close(fd);
	/* a first byte after a served request */
	buf_clear(&b);
	fd = raw_connect(&slow);
	raw_send(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_read_until(fd, &b, "hello\n");
	raw_send(fd, "G");
	raw_read_until(fd, &b, NULL);
	if (!strstr(buf_cstr(&b), "HTTP/1.1 408 "))
		fail_msg("no 408 but: %s", buf_cstr(&b));
	close(fd);
	/* a body that trickles */
	buf_clear(&b);
	fd = raw_connect(&slow);
	n = 1;
	raw_send(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n");
	while (n) {
		raw_send(fd, "b");
		if (socket_receive_some(fd, &b, clock_mono_ms() + 20, &n, &e) == ERR_UNAVAILABLE)
			break;
	}
	if (!strstr(buf_cstr(&b), "HTTP/1.1 408 "))
		fail_msg("no 408 but: %s", buf_cstr(&b));
	close(fd);
	/* idle: closed without a word */
	buf_clear(&b);
	fd = raw_connect(&slow);
	raw_send(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_read_until(fd, &b, "hello\n");
	buf_clear(&b);
	raw_read_until(fd, &b, NULL);
	assert_int_equal(b.len, 0);
	close(fd);
	/* a reader that takes nothing */
	struct http_server_stats stats;
	fd = raw_connect(&slow);
	raw_send(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
	do {
		clock_sleep_ms(5);
		http_server_stats(slow.server, &stats);
	} while (stats.connection_count);
	close(fd);
	buf_done(&b);
	harness_stop(&slow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(test_routes),
		T(test_paths_that_are_refused),
		T(test_smuggling),
		T(test_nul_in_a_header),
		T(test_versions_and_caps),
		T(test_bodies),
		T(test_authorize_before_the_body),
		T(test_pipelining),
		T(test_sink),
		T(test_client_leaves_during_upload),
		T(test_client_leaves_while_handler_runs),
		T(test_stop_finishes_handlers),
		T(test_unix_peer),
		T(test_500_connections),
		T(test_caps),
		T(test_slow_clients),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
