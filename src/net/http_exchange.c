/*
 * One request from its first line to the last byte of its response: what libmicrohttpd calls, on
 * the network thread, and the jobs that it starts on the worker pool. A request belongs to one side
 * at a time: while a job has it the connection is suspended and libmicrohttpd leaves both alone.
 */
#include "net/http_server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "os/clock.h"

void *http_exchange_begin(void *server, const char *uri, struct MHD_Connection *mhd)
{
	struct http_server *s = server;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct http_conn *conn = info ? info->socket_context : NULL;
	if (!conn || !uri)
		return NULL; /* http_exchange_step() closes the connection */
	struct http_request *r = must_calloc(1, sizeof(*r));
	r->server = s;
	r->mhd = mhd;
	r->conn = conn;
	r->arena = arena_init(HTTP_REQUEST_ARENA_BYTES_MAX);
	http_response_init(&r->response, r);
	r->target_too_long = strlen(uri) > s->options.target_bytes_max;
	r->raw_target = str_c(must_strdup(r->target_too_long ? "/" : uri));
	pthread_mutex_lock(&s->lock);
	s->request_count++;
	conn->request = r;
	if (conn->phase == HTTP_PHASE_IDLE) {
		conn->phase = HTTP_PHASE_HEADERS;
		conn->phase_ms = clock_mono_ms();
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

static void set_phase(struct http_request *r, enum http_phase phase)
{
	struct http_conn *c = r->conn;
	pthread_mutex_lock(&r->server->lock);
	c->phase = phase;
	c->phase_ms = c->tick_ms = clock_mono_ms();
	c->debt_bytes = 0;
	c->stalled_ms = 0;
	c->queued_bytes = 0;
	c->moved_bytes = 0;
	/* what comes after this belongs to the next request */
	if (phase == HTTP_PHASE_REPLY)
		http_watch_tcp_bytes(c->fd, &c->received_bytes, &c->moved_bytes);
	c->counted_bytes = c->moved_bytes;
	pthread_mutex_unlock(&r->server->lock);
}

/* Hand the response to libmicrohttpd. */
static enum MHD_Result reply(struct http_request *r)
{
	struct http_server *s = r->server;
	struct MHD_Response *m = http_response_build(&r->response);
	if (!m)
		return MHD_NO;
	pthread_mutex_lock(&s->lock);
	bool closing = s->stopping || r->conn->linger;
	pthread_mutex_unlock(&s->lock);
	if (closing && MHD_add_response_header(m, "connection", "close") != MHD_YES) {
		MHD_destroy_response(m);
		return MHD_NO;
	}
	r->step = HTTP_STEP_REPLIED;
	set_phase(r, HTTP_PHASE_REPLY);
	enum MHD_Result result = MHD_queue_response(r->mhd, (unsigned)r->response.status, m);
	MHD_destroy_response(m);
	return result;
}

/* Answer before the body was read; the connection ends, drained so that the answer arrives. */
static enum MHD_Result refuse(struct http_request *r, int status, const struct err *e)
{
	if (status)
		r->response.status = status;
	http_response_set_error(&r->response, e);
	pthread_mutex_lock(&r->server->lock);
	r->conn->linger = true;
	pthread_mutex_unlock(&r->server->lock);
	return reply(r);
}

/* Answer in the middle of a body, where libmicrohttpd takes no response any more. */
static enum MHD_Result refuse_body(struct http_request *r, int status, const struct err *e)
{
	struct http_conn *c = r->conn;
	pthread_mutex_lock(&r->server->lock);
	if (!c->cut) {
		c->cut = true;
		c->linger = true;
		http_raw_reply(c->fd, status ? status : errc_http_status(e->code), e);
	}
	pthread_mutex_unlock(&r->server->lock);
	return MHD_NO;
}

/* The best route, or 404, or 405 with Allow. HEAD is served by GET. */
static errc find_route(struct http_request *r, struct err *e)
{
	const struct http_server *s = r->server;
	const char *method = strcmp(r->method, "HEAD") == 0 ? "GET" : r->method;
	struct buf allow = buf_init(256);
	for (size_t i = 0; i < s->route_count; i++) {
		const struct http_compiled_route *c = &s->routes[i];
		if (!http_pattern_matches(&c->pattern, &r->target))
			continue;
		bool head = strcmp(c->route.method, "GET") == 0;
		if (str_find(buf_str(&allow), str_c(c->route.method)) < 0)
			buf_printf(&allow, "%s%s%s", allow.len ? ", " : "", c->route.method,
				   head ? ", HEAD" : "");
		if (strcmp(c->route.method, method) == 0 &&
		    (!r->route || http_pattern_cmp(&c->pattern, &r->route->pattern) > 0))
			r->route = c;
	}
	if (!r->route && allow.len)
		http_response_set_header(&r->response, "allow", buf_cstr(&allow));
	bool other_method = allow.len > 0;
	buf_done(&allow);
	if (r->route)
		return OK;
	if (other_method)
		FAIL(e, ERR_METHOD, "%s is not possible here; see the Allow header", r->method);
	FAIL(e, ERR_NOT_FOUND, "there is nothing at %.*s",
	     (int)(r->target.path.len < 200 ? r->target.path.len : 200), r->target.path.ptr);
}

/* The headers are complete: is this request acceptable, and will there be a body? */
static enum MHD_Result begin(struct http_request *r, const char *url, const char *method,
			     const char *version)
{
	struct http_server *s = r->server;
	struct err e;
	int status = 0;
	if (http_strict_check(r, url, method, version, &status, &e) != OK)
		return refuse(r, status, &e);
	pthread_mutex_lock(&s->lock);
	bool stopping = s->stopping;
	pthread_mutex_unlock(&s->lock);
	if (stopping) {
		(void)err_fill(&e, ERR_UNAVAILABLE, 0, __FILE__, __LINE__,
			       "the server is stopping");
		return refuse(r, 0, &e);
	}
	unsigned chunked, sized;
	uint64_t length = 0;
	http_request_find_header(r->mhd, "transfer-encoding", &chunked);
	str length_text = http_request_find_header(r->mhd, "content-length", &sized);
	bool fits = !sized || str_to_u64(length_text, &length);
	bool has_body = chunked || !fits || length > 0;
	errc rc = find_route(r, &e);
	if (rc == OK && s->options.authorize)
		rc = s->options.authorize(s->options.authorize_ctx, r, &e);
	size_t cap = rc == OK ? r->route->route.body_bytes_max : 0;
	if (rc == OK && (!fits || length > cap || (chunked && cap == 0))) {
		if (cap)
			rc = err_fill(&e, ERR_LIMIT, 0, __FILE__, __LINE__,
				      "the body has more than the %zu bytes allowed here", cap);
		else
			rc = err_fill(&e, ERR_LIMIT, 0, __FILE__, __LINE__,
				      "this request takes no body");
	}
	if (rc != OK) {
		if (has_body)
			return refuse(r, 0, &e);
		http_response_set_error(&r->response, &e);
		return reply(r);
	}
	r->body = buf_init(r->route->route.sink ? HTTP_SINK_PIECE_BYTES : cap);
	r->sink_begun = r->route->route.sink != NULL;
	r->step = HTTP_STEP_BODY;
	set_phase(r, HTTP_PHASE_BODY);
	return MHD_YES;
}

/* Give the request back to libmicrohttpd, which calls http_exchange_step() again. */
static void resume(struct http_request *r, enum http_step step)
{
	struct http_server *s = r->server;
	pthread_mutex_lock(&s->lock);
	r->step = step;
	if (step == HTTP_STEP_BODY) {
		r->conn->phase = HTTP_PHASE_BODY;
		r->conn->phase_ms = r->conn->tick_ms = clock_mono_ms();
	}
	MHD_resume_connection(r->mhd);
	pthread_mutex_unlock(&s->lock);
}

static void feed_sink(struct http_request *r, bool end)
{
	const struct http_route *route = &r->route->route;
	if (r->sink_result != OK)
		return;
	r->sink_result = route->sink(route->ctx, r, buf_str(&r->body), end, &r->sink_err);
	r->sink_ended = end && r->sink_result == OK;
	buf_clear(&r->body);
}

static void run_sink(void *ctx)
{
	struct http_request *r = ctx;
	struct http_server *s = r->server;
	feed_sink(r, false);
	resume(r, HTTP_STEP_BODY);
	http_job_end(s);
}

static void handle(struct http_request *r)
{
	const struct http_route *route = &r->route->route;
	errc rc = OK;
	struct err e;
	if (route->sink) {
		feed_sink(r, true);
		rc = r->sink_result;
		e = r->sink_err;
	}
	if (rc == OK) {
		e = (struct err){ 0 };
		rc = route->handler(route->ctx, r, &r->response, &e);
		e.code = rc;
	}
	if (rc != OK)
		http_response_set_error(&r->response, &e);
	struct http_stream *st = r->response.stream;
	if (!st)
		return;
	pthread_mutex_lock(&r->server->lock);
	st->pulling = false;
	st->woken = true;
	if (r->server->stopping)
		st->ended = true;
	if (r->response.kind == HTTP_RESPONSE_STREAM)
		http_stream_kick_locked(st);
	pthread_mutex_unlock(&r->server->lock);
}

static void run_handler(void *ctx)
{
	struct http_request *r = ctx;
	struct http_server *s = r->server;
	handle(r);
	resume(r, HTTP_STEP_REPLY);
	http_job_end(s);
}

/* Suspend the connection and give the request to the pool. */
static bool submit(struct http_request *r, enum http_step step, void (*run)(void *ctx),
		   struct err *e)
{
	struct http_server *s = r->server;
	pthread_mutex_lock(&s->lock);
	enum http_step before = r->step;
	r->step = step;
	bool good = http_job_begin_locked(s, run, r, e) == OK;
	if (good) {
		r->conn->phase = HTTP_PHASE_HANDLER;
		MHD_suspend_connection(r->mhd); /* resume() waits for the lock */
	} else {
		r->step = before;
	}
	pthread_mutex_unlock(&s->lock);
	return good;
}

static enum MHD_Result take_body(struct http_request *r, const char *data, size_t *data_len)
{
	const struct http_route *route = &r->route->route;
	struct err e;
	if (r->sink_result != OK)
		return refuse_body(r, 0, &r->sink_err);
	size_t n = *data_len;
	if (n > route->body_bytes_max - r->body_bytes) {
		(void)err_fill(&e, ERR_LIMIT, 0, __FILE__, __LINE__,
			       "the body has more than the %zu bytes allowed here",
			       route->body_bytes_max);
		return refuse_body(r, 0, &e);
	}
	if (route->sink && n > r->body.cap - r->body.len)
		n = r->body.cap - r->body.len;
	buf_add(&r->body, (str){ data, n });
	r->body_bytes += n;
	*data_len -= n;
	pthread_mutex_lock(&r->server->lock);
	r->conn->moved_bytes = r->body_bytes;
	pthread_mutex_unlock(&r->server->lock);
	if (route->sink && r->body.len == r->body.cap &&
	    !submit(r, HTTP_STEP_SINKING, run_sink, &e))
		return refuse_body(r, 0, &e);
	return MHD_YES;
}

enum MHD_Result http_exchange_step(void *server, struct MHD_Connection *mhd, const char *url,
				   const char *method, const char *version, const char *data,
				   size_t *data_len, void **request)
{
	struct http_server *s = server;
	struct http_request *r = *request;
	struct err e;
	(void)mhd;
	if (!r)
		return MHD_NO;
	pthread_mutex_lock(&s->lock);
	bool cut = r->conn->cut;
	enum http_step step = r->step;
	pthread_mutex_unlock(&s->lock);
	if (cut && step != HTTP_STEP_SINKING && step != HTTP_STEP_HANDLING)
		return MHD_NO;
	switch (step) {
	case HTTP_STEP_BEGIN:
		return begin(r, url, method, version);
	case HTTP_STEP_BODY:
		if (*data_len)
			return take_body(r, data, data_len);
		if (r->route->route.flags & HTTP_ROUTE_INLINE) {
			handle(r);
			return reply(r);
		}
		if (submit(r, HTTP_STEP_HANDLING, run_handler, &e))
			return MHD_YES;
		http_response_set_header(&r->response, "retry-after", "1");
		http_response_set_error(&r->response, &e);
		return reply(r);
	case HTTP_STEP_SINKING:
	case HTTP_STEP_HANDLING:
		return MHD_YES; /* libmicrohttpd offers a next chunk once more; it stays there */
	case HTTP_STEP_REPLY:
		return reply(r);
	case HTTP_STEP_REPLIED:
		break;
	}
	*data_len = 0; /* the rest of a refused body */
	return MHD_YES;
}

static void run_abort(void *ctx)
{
	struct http_request *r = ctx;
	struct http_server *s = r->server;
	const struct http_route *route = &r->route->route;
	route->sink_abort(route->ctx, r);
	http_request_free(r);
	http_job_end(s);
}

void http_exchange_end(void *server, struct MHD_Connection *mhd, void **request,
		       enum MHD_RequestTerminationCode why)
{
	struct http_server *s = server;
	struct http_request *r = *request;
	(void)mhd;
	(void)why;
	*request = NULL;
	if (!r)
		return;
	bool abort = r->sink_begun && !r->sink_ended && r->route->route.sink_abort;
	pthread_mutex_lock(&s->lock);
	struct http_conn *c = r->conn;
	c->request = NULL;
	c->phase = HTTP_PHASE_IDLE;
	c->phase_ms = clock_mono_ms();
	if (r->response.stream)
		http_stream_gone_locked(r->response.stream);
	s->request_count--;
	if (abort)
		s->job_count++;
	pthread_cond_broadcast(&s->settled);
	pthread_mutex_unlock(&s->lock);
	r->response.stream = NULL;
	if (abort)
		run_abort(r);
	else
		http_request_free(r);
}

void http_exchange_connection(void *server, struct MHD_Connection *mhd, void **context,
			      enum MHD_ConnectionNotificationCode what)
{
	struct http_server *s = server;
	pthread_mutex_lock(&s->lock);
	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
		size_t fd = info ? (size_t)info->connect_fd : s->conn_size;
		struct http_conn *c = fd < s->conn_size ? s->conns[fd] : NULL;
		if (c)
			c->started = true;
		*context = c;
	} else if (*context) {
		struct http_conn *c = *context;
		int copy = -1;
		if (c->linger && s->linger_count < HTTP_LINGER_COUNT_MAX)
			copy = dup(c->fd);
		if (copy >= 0) {
			s->lingers[s->linger_count].fd = copy;
			s->lingers[s->linger_count++].until_ms = clock_mono_ms() + 2000;
			http_watch_wake(s);
		}
		s->conns[c->fd] = NULL;
		s->conn_count--;
		free(c);
		*context = NULL;
		pthread_cond_broadcast(&s->settled);
	}
	pthread_mutex_unlock(&s->lock);
}
