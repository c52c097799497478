/* Streams: order, back pressure, wake-ups from other threads, and done() exactly once. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "http_harness.h"
#include "os/clock.h"

/* Counts up to a limit that the test raises; one is alive at a time per slot. */
struct counter {
	pthread_mutex_t lock;
	struct http_stream *stream; /* NULL once done */
	long next;
	long limit;
	bool end_at_limit;
	bool fail_at_limit;
	int pull_count;
	size_t appended_bytes;
	int done_count;
	bool pulling;
};

static struct counter counter;

static errc pull(void *ctx, struct buf *into, bool *ret_end, struct err *e)
{
	struct counter *c = ctx;
	pthread_mutex_lock(&c->lock);
	must(!c->pulling && c->done_count == 0);
	c->pulling = true;
	c->pull_count++;
	while (c->next < c->limit && into->len < HTTP_STREAM_FILL_BYTES)
		buf_printf(into, "{\"n\":%ld}\n", c->next++);
	c->appended_bytes += into->len;
	bool at_limit = c->next == c->limit;
	*ret_end = at_limit && c->end_at_limit;
	bool fail = at_limit && c->fail_at_limit;
	c->pulling = false;
	pthread_mutex_unlock(&c->lock);
	if (fail)
		FAIL(e, ERR_FAILED, "the producer broke");
	return OK;
}

static void done(void *ctx)
{
	struct counter *c = ctx;
	pthread_mutex_lock(&c->lock);
	c->done_count++;
	c->stream = NULL;
	pthread_mutex_unlock(&c->lock);
}

static const struct http_stream_ops ops = { .pull = pull, .done = done };

static errc count(void *ctx, struct http_request *r, struct http_response *response, struct err *e)
{
	enum http_stream_kind kind = http_request_query(r, "events").ptr ? HTTP_STREAM_EVENTS
									 : HTTP_STREAM_NDJSON;
	(void)ctx;
	struct http_stream *s = http_response_stream(response, kind, &ops, &counter);
	pthread_mutex_lock(&counter.lock);
	counter.stream = s;
	pthread_mutex_unlock(&counter.lock);
	if (http_request_query(r, "fail").ptr)
		FAIL(e, ERR_CONFLICT, "after the stream was made");
	return OK;
}

static const struct http_route routes[] = {
	{ .method = "GET", .pattern = "/count", .handler = count },
};

static struct harness h;

static void start(long limit, int64_t keepalive_ms)
{
	struct http_server_options o = { .stream_keepalive_ms = keepalive_ms };
	memset(&counter, 0, sizeof(counter));
	pthread_mutex_init(&counter.lock, NULL);
	counter.limit = limit;
	harness_start(&h, &o, routes, ARRAY_COUNT(routes));
}

static void raise_limit(long limit, bool end)
{
	pthread_mutex_lock(&counter.lock);
	counter.limit = limit;
	counter.end_at_limit = end;
	if (counter.stream)
		http_stream_wake(counter.stream);
	pthread_mutex_unlock(&counter.lock);
}

static void wait_done(void)
{
	int n;
	do {
		clock_sleep_ms(1);
		pthread_mutex_lock(&counter.lock);
		n = counter.done_count;
		pthread_mutex_unlock(&counter.lock);
	} while (n == 0);
	assert_int_equal(n, 1);
}

/* The body of a chunked response, decoded in place. */
static str unchunk(char *response)
{
	char *at = strstr(response, "\r\n\r\n");
	assert_non_null(at);
	char *body = at + 4, *to = body;
	at = body;
	for (;;) {
		char *end;
		size_t n = strtoul(at, &end, 16);
		assert_true(end > at);
		at = end + 2;
		if (n == 0)
			break;
		memmove(to, at, n);
		to += n;
		at += n + 2;
	}
	*to = 0;
	return (str){ body, (size_t)(to - body) };
}

static void expect_numbers(char *response, long limit)
{
	str body = unchunk(response), line;
	long n = 0;
	while (str_split(&body, '\n', &line)) {
		char wanted[40];
		snprintf(wanted, sizeof(wanted), "{\"n\":%ld}", n++);
		if (line.len)
			assert_true(str_eq_c(line, wanted));
		else
			n--;
	}
	assert_int_equal(n, limit);
}

static void test_all_in_order(void **state)
{
	(void)state;
	start(100000, 0);
	counter.end_at_limit = true;
	struct buf b = buf_init(1 << 22);
	int fd = raw_connect(&h);
	raw_send(fd, "GET /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	raw_read_until(fd, &b, NULL);
	assert_non_null(strstr(buf_cstr(&b), "application/x-ndjson"));
	expect_numbers(b.ptr, 100000);
	close(fd);
	buf_done(&b);
	wait_done();
	harness_stop(&h);
}

static void *waker(void *arg)
{
	(void)arg;
	for (long n = 1; n <= 20000; n++)
		raise_limit(n, n == 20000);
	return NULL;
}

static void test_wake_from_another_thread(void **state)
{
	(void)state;
	struct buf b = buf_init(1 << 22);
	pthread_t thread;
	start(0, 0);
	int fd = raw_connect(&h);
	raw_send(fd, "GET /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	raw_read_until(fd, &b, "\r\n\r\n");
	pthread_create(&thread, NULL, waker, NULL);
	raw_read_until(fd, &b, NULL);
	pthread_join(thread, NULL);
	expect_numbers(b.ptr, 20000);
	wait_done();
	close(fd);
	buf_done(&b);
	harness_stop(&h);
}

static void test_slow_reader_holds_the_producer(void **state)
{
	(void)state;
	struct buf b = buf_init(1 << 16);
	start(100000000, 0);
	int fd = raw_connect(&h);
	raw_send(fd, "GET /count HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_read_until(fd, &b, "\"n\":0");
	/* the kernel's buffers fill, then the pulls stop: nothing moves for a while */
	size_t before, after = 0;
	do {
		before = after;
		clock_sleep_ms(100);
		pthread_mutex_lock(&counter.lock);
		after = counter.appended_bytes;
		pthread_mutex_unlock(&counter.lock);
	} while (after != before);
	assert_true(after < 64u * 1024 * 1024);
	close(fd);
	wait_done();
	buf_done(&b);
	harness_stop(&h);
}

static void test_client_leaves_a_quiet_stream(void **state)
{
	(void)state;
	struct buf b = buf_init(1 << 16);
	start(1, 0);
	int fd = raw_connect(&h);
	raw_send(fd, "GET /count HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_read_until(fd, &b, "\"n\":0");
	close(fd);
	wait_done();
	buf_done(&b);
	harness_stop(&h);
}

static void test_keepalive(void **state)
{
	(void)state;
	struct buf b = buf_init(1 << 16);
	start(0, 50);
	int fd = raw_connect(&h);
	raw_send(fd, "GET /count?events HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_read_until(fd, &b, "3\r\n:\n\n\r\n3\r\n:\n\n\r\n");
	assert_non_null(strstr(buf_cstr(&b), "text/event-stream"));
	raise_limit(1, true);
	raw_read_until(fd, &b, "\r\n0\r\n\r\n");
	assert_non_null(strstr(buf_cstr(&b), "{\"n\":0}\n"));
	wait_done();
	close(fd);
	buf_done(&b);
	harness_stop(&h);
}

static void test_failures(void **state)
{
	(void)state;
	start(5, 0);
	counter.fail_at_limit = true;
	char *got = raw_exchange(&h, "GET /count HTTP/1.1\r\nHost: x\r\n\r\n");
	/* cut without the last chunk, so that the client knows */
	assert_null(strstr(got, "\r\n0\r\n\r\n"));
	free(got);
	wait_done();
	harness_stop(&h);
	start(5, 0);
	got = raw_exchange(&h, "GET /count?fail HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	assert_non_null(strstr(got, "HTTP/1.1 409 "));
	assert_non_null(strstr(got, "after the stream was made"));
	free(got);
	wait_done();
	assert_int_equal(counter.pull_count, 0);
	harness_stop(&h);
	start(5, 0);
	got = raw_exchange(&h, "HEAD /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	assert_non_null(strstr(got, "HTTP/1.1 200 "));
	free(got);
	wait_done();
	harness_stop(&h);
}

static void test_stop_ends_streams(void **state)
{
	(void)state;
	struct buf b = buf_init(1 << 16);
	start(1, 0);
	int fd = raw_connect(&h);
	raw_send(fd, "GET /count HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_read_until(fd, &b, "\"n\":0");
	http_server_stop(h.server, 5000);
	assert_int_equal(counter.done_count, 1);
	raw_read_until(fd, &b, NULL);
	assert_non_null(strstr(buf_cstr(&b), "\r\n0\r\n\r\n"));
	close(fd);
	buf_done(&b);
	harness_stop(&h);
}

static void test_event_format(void **state)
{
	struct buf b = buf_init(1000);
	(void)state;
	http_stream_add_event(&b, STR("deploy"), STR("7"), STR("a\nb\rc"));
	http_stream_add_event(&b, STR(""), STR(""), STR(""));
	assert_string_equal(buf_cstr(&b), "event: deploy\nid: 7\ndata: a\ndata: b c\n\ndata: \n\n");
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_in_order),
		cmocka_unit_test(test_wake_from_another_thread),
		cmocka_unit_test(test_slow_reader_holds_the_producer),
		cmocka_unit_test(test_client_leaves_a_quiet_stream),
		cmocka_unit_test(test_keepalive),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_stop_ends_streams),
		cmocka_unit_test(test_event_format),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
