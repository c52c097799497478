#include "http_harness.h"

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/clock.h"
#include "os/io.h"
#include "os/socket.h"

void harness_start(struct harness *h, const struct http_server_options *options,
		   const struct http_route *routes, size_t route_count)
{
	struct err e = { 0 };
	struct http_server_options o = options ? *options : (struct http_server_options){ 0 };
	h->executor = executor_new("test", 4, 256);
	o.executor = h->executor;
	o.routes = routes;
	o.route_count = route_count;
	snprintf(h->dir, sizeof(h->dir), "/tmp/holdfast-http-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	snprintf(h->unix_path, sizeof(h->unix_path), "%s/s.sock", h->dir);
	assert_int_equal(http_server_new(&o, &h->server, &e), OK);
	if (http_server_listen_tcp(h->server, "127.0.0.1:0", &h->port, &e) != OK)
		fail_msg("%s", e.message);
	if (http_server_listen_unix(h->server, h->unix_path, &e) != OK)
		fail_msg("%s", e.message);
	assert_int_equal(http_server_start(h->server, &e), OK);
	snprintf(h->address, sizeof(h->address), "127.0.0.1:%d", h->port);
}

void harness_stop(struct harness *h)
{
	struct err e;
	http_server_stop(h->server, 2000);
	assert_int_equal(access(h->unix_path, F_OK), -1);
	http_server_free(h->server);
	executor_free(h->executor);
	assert_int_equal(io_remove_tree(h->dir, &e), OK);
}

int raw_connect(const struct harness *h)
{
	struct err e;
	int fd;
	if (socket_connect_tcp(h->address, clock_mono_ms() + 20000, &fd, &e) != OK)
		fail_msg("%s", e.message);
	return fd;
}

void raw_send(int fd, const char *text)
{
	struct err e;
	/* the server may have answered and closed already */
	(void)!socket_send_all(fd, str_c(text), clock_mono_ms() + 20000, &e);
}

void raw_read_until(int fd, struct buf *into, const char *text)
{
	struct err e;
	size_t n = 1;
	int64_t deadline_ms = clock_mono_ms() + 20000;
	while (n && (!text || !into->ptr || !strstr(into->ptr, text))) {
		errc rc = socket_receive_some(fd, into, deadline_ms, &n, &e);
		if (rc == ERR_UNAVAILABLE)
			return; /* reset */
		if (rc != OK)
			fail_msg("%s; so far: %s", e.message, buf_cstr(into));
	}
}

char *raw_exchange(const struct harness *h, const char *text)
{
	struct buf b = buf_init(1 << 20);
	int fd = raw_connect(h);
	raw_send(fd, text);
	raw_read_until(fd, &b, NULL);
	close(fd);
	return b.ptr ? b.ptr : strdup("");
}
