/* The client against our own server: TCP, unix socket, lines, caps, deadlines, cancelling. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "http_harness.h"
#include "net/http_client.h"
#include "os/clock.h"

static errc echo(void *ctx, struct http_request *r, struct http_response *response, struct err *e)
{
	(void)ctx;
	(void)e;
	http_response_set_header(response, "x-method", http_request_method(r));
	http_response_set_text(response, "text/plain", http_request_body(r));
	return OK;
}

static errc big(void *ctx, struct http_request *r, struct http_response *response, struct err *e)
{
	enum { BIG = 100000 };
	struct buf b = buf_init(BIG);
	(void)ctx;
	(void)r;
	(void)e;
	memset(buf_reserve(&b, BIG), 'x', BIG);
	b.len = BIG;
	http_response_set_body(response, "text/plain", &b);
	return OK;
}

static errc redirect(void *ctx, struct http_request *r, struct http_response *response,
		     struct err *e)
{
	(void)ctx;
	(void)r;
	(void)e;
	http_response_set_status(response, 302);
	http_response_set_header(response, "location", "/big");
	return OK;
}

/* Three lines, an empty one, then silence; or an end. */
static errc pull(void *ctx, struct buf *into, bool *ret_end, struct err *e)
{
	(void)e;
	int *state = ctx;
	if (*state == 2)
		return OK;
	buf_add_c(into, "{\"n\":1}\n\n{\"n\":2}\n{\"n\":3}");
	*ret_end = *state == 1;
	if (*state == 0) {
		buf_add_c(into, "\n");
		*state = 2;
	}
	return OK;
}

static void done(void *ctx)
{
	free(ctx);
}

static errc lines(void *ctx, struct http_request *r, struct http_response *response, struct err *e)
{
	static const struct http_stream_ops ops = { .pull = pull, .done = done };
	(void)ctx;
	(void)e;
	int *state = must_calloc(1, sizeof(*state));
	*state = http_request_query(r, "end").ptr != NULL;
	http_response_stream(response, HTTP_STREAM_NDJSON, &ops, state);
	return OK;
}

static const struct http_route routes[] = {
	{ .method = "GET", .pattern = "/echo", .handler = echo },
	{ .method = "POST", .pattern = "/echo", .body_bytes_max = 1 << 20, .handler = echo },
	{ .method = "PUT", .pattern = "/echo", .body_bytes_max = 1 << 20, .handler = echo },
	{ .method = "GET", .pattern = "/big", .handler = big },
	{ .method = "GET", .pattern = "/redirect", .handler = redirect },
	{ .method = "GET", .pattern = "/lines", .handler = lines },
};

static struct harness h;
static char url[256];

static int setup(void **state)
{
	(void)state;
	harness_start(&h, NULL, routes, ARRAY_COUNT(routes));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	harness_stop(&h);
	return 0;
}

static const char *at(const char *path)
{
	snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", h.port, path);
	return url;
}

static void expect(struct http_fetch_request *q, int status, const char *body)
{
	struct http_fetch_response r;
	struct err e = { 0 };
	if (http_fetch(q, &r, &e) != OK)
		fail_msg("%s", e.message);
	assert_int_equal(r.status, status);
	if (body)
		assert_string_equal(buf_cstr(&r.body), body);
	http_fetch_response_done(&r);
}

static errc failure(struct http_fetch_request *q, const char *contains)
{
	struct http_fetch_response r;
	struct err e = { 0 };
	errc rc = http_fetch(q, &r, &e);
	assert_int_not_equal(rc, OK);
	if (!strstr(e.message, contains))
		fail_msg("wanted '%s' in: %s", contains, e.message);
	assert_null(strstr(e.message, "hunter2"));
	return rc;
}

static void test_fetch(void **state)
{
	(void)state;
	struct http_fetch_response r;
	struct err e;
	expect(&(struct http_fetch_request){ .url = at("/echo") }, 200, "");
	expect(&(struct http_fetch_request){ .url = at("/echo"), .body = STR("hello") }, 200,
	       "hello");
	expect(&(struct http_fetch_request){ .url = at("/echo"),
					     .method = "PUT",
					     .body = STR("hello") },
	       200, "hello");
	expect(&(struct http_fetch_request){ .url = at("/nothing") }, 404, NULL);
	expect(&(struct http_fetch_request){ .url = "http://localhost/echo",
					     .unix_path = h.unix_path,
					     .body = STR("over unix") },
	       200, "over unix");
	expect(&(struct http_fetch_request){ .url = at("/redirect") }, 302, NULL);
	struct http_fetch_request q = { .url = at("/redirect"), .redirect_count_max = 1 };
	assert_int_equal(http_fetch(&q, &r, &e), OK);
	assert_int_equal(r.status, 200);
	assert_int_equal(r.body.len, 100000);
	assert_true(str_eq_c(http_fetch_response_header(&r, "CONTENT-type"), "text/plain"));
	assert_null(http_fetch_response_header(&r, "location").ptr);
	http_fetch_response_done(&r);
	/* the server's own HEAD and a file as the body */
	expect(&(struct http_fetch_request){ .url = at("/big"), .method = "HEAD" }, 200, "");
	FILE *f = tmpfile();
	fputs("from a file", f);
	fflush(f);
	assert_int_equal(lseek(fileno(f), 5, SEEK_SET), 5);
	expect(&(struct http_fetch_request){ .url = at("/echo"),
					     .body_fd = fileno(f),
					     .body_fd_len = 6 },
	       200, "a file");
	fclose(f);
}

static void test_no_proxy_from_the_environment(void **state)
{
	(void)state;
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
	expect(&(struct http_fetch_request){ .url = at("/echo") }, 200, "");
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
}

static void test_failures(void **state)
{
	(void)state;
	const struct http_fetch_header split = { "x", "a\r\nb: hunter2" };
	const struct http_fetch_header secret = { "authorization", "Bearer hunter2" };
	assert_int_equal(
		failure(&(struct http_fetch_request){ .url = "http://u:hunter2@127.0.0.1:1/x"
							     "?token=hunter2",
						      .headers = &secret,
						      .header_count = 1 },
			"GET http://127.0.0.1:1/x: connection refused"),
		ERR_UNAVAILABLE);
	assert_int_equal(failure(&(struct http_fetch_request){ .url = "http://x/y",
							       .unix_path = "/tmp/no-such-socket" },
				 "nobody listens there"),
			 ERR_UNAVAILABLE);
	assert_int_equal(failure(&(struct http_fetch_request){ .url = "file:///etc/passwd" },
				 "not an http:// or https:// URL"),
			 ERR_INVALID);
	assert_int_equal(failure(&(struct http_fetch_request){ .url = at("/echo"),
							       .headers = &split,
							       .header_count = 1 },
				 "cannot be sent"),
			 ERR_INVALID);
	assert_int_equal(failure(&(struct http_fetch_request){ .url = at("/big"),
							       .response_bytes_max = 99999 },
				 "has more than"),
			 ERR_LIMIT);
	expect(&(struct http_fetch_request){ .url = at("/big"), .response_bytes_max = 100000 }, 200,
	       NULL);
	assert_int_equal(
		failure(&(struct http_fetch_request){ .url = at("/lines"), .total_ms_max = 100 },
			"no complete answer within 100ms"),
		ERR_TIMEOUT);
	assert_int_equal(
		failure(&(struct http_fetch_request){ .url = at("/lines"), .idle_ms_max = 100 },
			"nothing arrived for 100ms"),
		ERR_TIMEOUT);
}

struct lines {
	struct buf seen;
	int stop_after;
};

static bool line(void *ctx, str text)
{
	struct lines *l = ctx;
	buf_printf(&l->seen, "%.*s;", STR_ARG(text));
	return --l->stop_after != 0;
}

static bool always(void *ctx)
{
	(void)ctx;
	return true;
}

static void test_lines(void **state)
{
	(void)state;
	struct lines l = { .seen = buf_init(1000), .stop_after = -1 };
	struct http_fetch_request q = { .url = at("/lines?end"), .line = line, .ctx = &l };
	expect(&q, 200, "");
	assert_string_equal(buf_cstr(&l.seen), "{\"n\":1};{\"n\":2};{\"n\":3};");
	buf_clear(&l.seen);
	l.stop_after = 2;
	q.url = at("/lines");
	assert_int_equal(failure(&q, "cancelled"), ERR_CANCELLED);
	assert_string_equal(buf_cstr(&l.seen), "{\"n\":1};{\"n\":2};");
	q.url = at("/nothing"); /* an error is collected */
	struct http_fetch_response r;
	struct err e;
	assert_int_equal(http_fetch(&q, &r, &e), OK);
	assert_non_null(strstr(buf_cstr(&r.body), "not_found"));
	http_fetch_response_done(&r);
	q = (struct http_fetch_request){
		.url = at("/lines"), .line = line, .ctx = &l, .response_bytes_max = 4
	};
	assert_int_equal(failure(&q, "line has more than"), ERR_LIMIT);
	q = (struct http_fetch_request){ .url = at("/lines"), .cancelled = always };
	assert_int_equal(failure(&q, "cancelled"), ERR_CANCELLED);
	buf_done(&l.seen);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int ok_count, other_count;
static errc last_result;

static void on_done(void *ctx, errc result, const struct http_fetch_response *r,
		    const struct err *e)
{
	(void)ctx;
	pthread_mutex_lock(&lock);
	if (result == OK && r->status == 200 && str_eq_c(buf_str(&r->body), "hello"))
		ok_count++;
	else
		other_count++;
	assert_true(result == OK || e->message[0]);
	last_result = result;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void wait_for(int count)
{
	pthread_mutex_lock(&lock);
	while (ok_count + other_count < count)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static void test_asynchronous(void **state)
{
	enum { COUNT = 200 };
	(void)state;
	struct err e;
	struct http_client *c = http_client_new(16);
	ok_count = other_count = 0;
	for (int i = 0; i < COUNT; i++) {
		char text[] = "hello";
		char *address = strdup(at("/echo"));
		struct http_fetch_request q = { .url = address, .body = str_c(text) };
		assert_int_equal(http_client_start(c, &q, on_done, NULL, &e), OK);
		memset(text, 'x', 5); /* everything was copied */
		free(address);
	}
	wait_for(COUNT);
	assert_int_equal(ok_count, COUNT);
	struct http_fetch_request refused = { .url = "http://127.0.0.1:1/" };
	assert_int_equal(http_client_start(c, &refused, on_done, NULL, &e), OK);
	wait_for(COUNT + 1);
	assert_int_equal(last_result, ERR_UNAVAILABLE);
	/* what runs when the client is freed is cancelled, and done is called */
	struct http_fetch_request endless = { .url = at("/lines") };
	for (int i = 0; i < 20; i++)
		assert_int_equal(http_client_start(c, &endless, on_done, NULL, &e), OK);
	http_client_free(c);
	assert_int_equal(ok_count + other_count, COUNT + 21);
	assert_int_equal(last_result, ERR_CANCELLED);
	http_client_free(http_client_new(1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_no_proxy_from_the_environment),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_asynchronous),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
