#include "net/http_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/checks.h"
#include "net/http_server_internal.h"
#include "os/clock.h"
#include "os/io.h"
#include "os/socket.h"

enum {
	THREAD_STACK_BYTES = 256 * 1024,
	LISTEN_BACKLOG = 1024,
	HEADER_BYTES_MAX = 24 * 1024,
	HAND_OVER_MS = 1000,
};

errc http_job_begin_locked(struct http_server *s, void (*run)(void *ctx), void *ctx, struct err *e)
{
	TRY(executor_submit(s->options.executor, run, ctx, e));
	s->job_count++;
	return OK;
}

void http_job_end(struct http_server *s)
{
	pthread_mutex_lock(&s->lock);
	s->job_count--;
	pthread_cond_broadcast(&s->settled);
	pthread_mutex_unlock(&s->lock);
}

#define DEFAULT(field, value)              \
	do {                               \
		if (!(field))              \
			(field) = (value); \
	} while (0)

static void set_defaults(struct http_server_options *o)
{
	DEFAULT(o->connection_count_max, 1024);
	DEFAULT(o->connection_count_per_ip_max, 128);
	DEFAULT(o->header_bytes_max, 16 * 1024);
	DEFAULT(o->header_count_max, 100);
	DEFAULT(o->target_bytes_max, 8 * 1024);
	DEFAULT(o->query_count_max, 100);
	DEFAULT(o->header_ms_max, 10 * 1000);
	DEFAULT(o->idle_ms_max, 75 * 1000);
	DEFAULT(o->progress_grace_ms, 10 * 1000);
	DEFAULT(o->progress_bytes_per_second, 1024);
	DEFAULT(o->stream_stall_ms_max, 10 * 60 * 1000);
	DEFAULT(o->stream_keepalive_ms, 15 * 1000);
	if (o->header_bytes_max > HEADER_BYTES_MAX)
		o->header_bytes_max = HEADER_BYTES_MAX;
}

errc http_server_new(const struct http_server_options *options, struct http_server **ret_server,
		     struct err *e)
{
	struct http_server *s = must_calloc(1, sizeof(*s));
	pthread_condattr_t monotonic;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&s->settled, &monotonic);
	pthread_condattr_destroy(&monotonic);
	s->options = *options;
	set_defaults(&s->options);
	s->layout_known = strcmp(MHD_get_version(), "0.9.75") == 0;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->routes = must_calloc(options->route_count ? options->route_count : 1,
				sizeof(s->routes[0]));
	errc rc = s->wake_fd >= 0 ? OK : err_fill_errno(e, __FILE__, __LINE__, "HTTP server");
	for (; rc == OK && s->route_count < options->route_count; s->route_count++) {
		struct http_compiled_route *c = &s->routes[s->route_count];
		c->route = options->routes[s->route_count];
		rc = http_pattern_parse(c->route.pattern, &c->pattern, e);
		if (rc == OK && c->route.sink && (c->route.flags & HTTP_ROUTE_INLINE))
			rc = err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__,
				      "route '%s' cannot be inline and have a sink",
				      c->route.pattern);
	}
	if (rc != OK) {
		http_server_free(s);
		return rc;
	}
	*ret_server = s;
	return OK;
}

static errc add_listener(struct http_server *s, int fd, const char *unix_path, struct err *e)
{
	pthread_mutex_lock(&s->lock);
	bool room = s->listener_count < HTTP_LISTENER_COUNT_MAX && !s->stopping;
	if (room) {
		s->listeners[s->listener_count].fd = fd;
		s->listeners[s->listener_count].is_unix = unix_path != NULL;
		s->listeners[s->listener_count++].path = unix_path ? must_strdup(unix_path) : NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (!room) {
		close(fd);
		if (unix_path)
			unlink(unix_path);
		FAIL(e, ERR_LIMIT, "the server listens on %d sockets already or is stopping",
		     HTTP_LISTENER_COUNT_MAX);
	}
	http_watch_wake(s);
	return OK;
}

errc http_server_listen_tcp(struct http_server *s, const char *address, int *ret_port,
			    struct err *e)
{
	int fd, port;
	TRY(socket_listen_tcp(address, LISTEN_BACKLOG, &fd, &port, e));
	TRY(add_listener(s, fd, NULL, e));
	if (ret_port)
		*ret_port = port;
	return OK;
}

errc http_server_listen_unix(struct http_server *s, const char *path, struct err *e)
{
	int fd;
	TRY(socket_listen_unix(path, LISTEN_BACKLOG, &fd, e));
	return add_listener(s, fd, path, e);
}

/* Paths and queries are decoded by http_target.c; libmicrohttpd must leave them alone. */
static size_t leave_escaped(void *ctx, struct MHD_Connection *mhd, char *text)
{
	(void)ctx;
	(void)mhd;
	return strlen(text);
}

errc http_server_start(struct http_server *s, struct err *e)
{
	must(!s->mhd && !s->stopped);
	/* the buffer holds the header section, a copy of its cookies, and a descriptor per field */
	size_t memory = 2 * s->options.header_bytes_max + s->options.target_bytes_max + 8 * 1024;
	s->mhd = MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
			MHD_USE_NO_LISTEN_SOCKET,
		0, NULL, NULL, http_exchange_step, s, MHD_OPTION_URI_LOG_CALLBACK,
		http_exchange_begin, s, MHD_OPTION_NOTIFY_COMPLETED, http_exchange_end, s,
		MHD_OPTION_NOTIFY_CONNECTION, http_exchange_connection, s,
		MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_CONNECTION_LIMIT,
		s->options.connection_count_max + 64, MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory,
		MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)4096, MHD_OPTION_THREAD_STACK_SIZE,
		(size_t)THREAD_STACK_BYTES, MHD_OPTION_END);
	if (!s->mhd)
		FAIL(e, ERR_IO,
		     "cannot start the HTTP server: out of descriptors, threads or memory");
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
	int code = pthread_create(&s->watch_thread, &attr, http_watch_main, s);
	pthread_attr_destroy(&attr);
	if (code) {
		MHD_stop_daemon(s->mhd);
		s->mhd = NULL;
		errno = code;
		FAIL_ERRNO(e, "cannot start the HTTP server");
	}
	s->watching = true;
	return OK;
}

/* Nothing of ours holds a connection suspended any more. */
static bool settled_locked(const struct http_server *s)
{
	return s->request_count == 0 && s->job_count == 0 && s->stream_count == 0;
}

static void settle(struct http_server *s, int64_t deadline_ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += deadline_ms / 1000;
	until.tv_nsec += deadline_ms % 1000 * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&s->lock);
	while (!settled_locked(s))
		if (pthread_cond_timedwait(&s->settled, &s->lock, &until) == ETIMEDOUT)
			break;
	s->cutting = true;
	pthread_mutex_unlock(&s->lock);
	http_watch_wake(s);
	pthread_mutex_lock(&s->lock);
	while (!settled_locked(s))
		pthread_cond_wait(&s->settled, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static bool handed_over_locked(const struct http_server *s)
{
	for (size_t i = 0; i < s->conn_size; i++)
		if (s->conns[i] && !s->conns[i]->started)
			return false;
	return true;
}

/* libmicrohttpd forgets, and leaks, a connection that it was given and has not begun when it is
 * stopped. It begins at once; one that it closed without a word never does. */
static void settle_handed_over(struct http_server *s)
{
	int64_t end = clock_mono_ms() + HAND_OVER_MS;
	bool done = false;
	while (!done && clock_mono_ms() < end) {
		struct timespec pause = { .tv_nsec = 1000000 };
		pthread_mutex_lock(&s->lock);
		done = handed_over_locked(s);
		pthread_mutex_unlock(&s->lock);
		if (!done)
			nanosleep(&pause, NULL);
	}
}

void http_server_stop(struct http_server *s, int64_t deadline_ms)
{
	if (s->stopped)
		return;
	s->stopped = true;
	pthread_mutex_lock(&s->lock);
	size_t listener_count = s->listener_count;
	s->stopping = true;
	s->listener_count = 0;
	for (size_t i = 0; i < listener_count; i++) {
		if (s->listeners[i].is_unix)
			unlink(s->listeners[i].path);
		/* clients are refused now; closed when the watch thread cannot poll it any more */
		shutdown(s->listeners[i].fd, SHUT_RD);
	}
	pthread_mutex_unlock(&s->lock);
	http_watch_wake(s);
	if (s->watching) {
		settle(s, deadline_ms);
		settle_handed_over(s);
		MHD_stop_daemon(s->mhd);
		pthread_mutex_lock(&s->lock);
		s->watch_end = true;
		pthread_mutex_unlock(&s->lock);
		http_watch_wake(s);
		pthread_join(s->watch_thread, NULL);
	}
	for (size_t i = 0; i < listener_count; i++) {
		close(s->listeners[i].fd);
		free(s->listeners[i].path);
	}
	for (size_t i = 0; i < s->linger_count; i++)
		close(s->lingers[i].fd);
}

void http_server_free(struct http_server *s)
{
	if (!s)
		return;
	http_server_stop(s, 0);
	for (size_t i = 0; i < s->conn_size; i++)
		free(s->conns[i]);
	free(s->conns);
	free(s->routes);
	io_close(&s->wake_fd);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->settled);
	free(s);
}

void http_server_stats(struct http_server *s, struct http_server_stats *ret_stats)
{
	pthread_mutex_lock(&s->lock);
	*ret_stats = (struct http_server_stats){
		.connection_count = s->conn_count,
		.request_count = s->request_count,
		.stream_count = s->stream_count,
		.accepted_count = s->accepted_count,
		.refused_count = s->refused_count,
		.deadline_count = s->deadline_count,
	};
	pthread_mutex_unlock(&s->lock);
}
