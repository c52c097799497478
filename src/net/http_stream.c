/*
 * Streams. The bytes of one pull are handed to the network until none is left; only then the next
 * pull may run, so that there is one buffer and a slow reader holds it still. When there is nothing
 * to send, the reader suspends ("parks") the connection; a pull that brought something resumes it.
 */
#include "net/http_server_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "os/clock.h"

struct http_stream *http_response_stream(struct http_response *r, enum http_stream_kind kind,
					 const struct http_stream_ops *ops, void *ctx)
{
	static const char *const content_types[] = {
		[HTTP_STREAM_BYTES] = "application/octet-stream",
		[HTTP_STREAM_NDJSON] = "application/x-ndjson",
		[HTTP_STREAM_EVENTS] = "text/event-stream",
	};
	must(!r->stream);
	struct http_stream *st = must_calloc(1, sizeof(*st));
	struct http_server *s = r->request->server;
	st->server = s;
	st->request = r->request;
	st->kind = kind;
	st->ops = ops;
	st->ctx = ctx;
	st->out = buf_init(HTTP_STREAM_BYTES_MAX);
	st->pulling = true; /* nothing is pulled before the handler returned */
	http_response_set_header(r, "content-type", content_types[kind]);
	if (kind == HTTP_STREAM_EVENTS)
		http_response_set_header(r, "x-accel-buffering", "no");
	r->kind = HTTP_RESPONSE_STREAM;
	pthread_mutex_lock(&s->lock);
	r->stream = st; /* the watch thread looks at it */
	st->active_ms = clock_mono_ms();
	st->next = s->streams;
	s->streams = st;
	s->stream_count++;
	pthread_mutex_unlock(&s->lock);
	return st;
}

void http_stream_add_event(struct buf *into, str event, str id, str data)
{
	str line;
	if (event.len)
		buf_printf(into, "event: %.*s\n", STR_ARG(event));
	if (id.len)
		buf_printf(into, "id: %.*s\n", STR_ARG(id));
	while (str_split(&data, '\n', &line)) {
		buf_add_c(into, "data: ");
		/* a carriage return would end the line as well */
		for (size_t i = 0; i < line.len; i++)
			buf_add_byte(into, line.ptr[i] == '\r' ? ' ' : line.ptr[i]);
		buf_add_byte(into, '\n');
	}
	buf_add_byte(into, '\n');
}

void http_stream_resume_locked(struct http_stream *st)
{
	if (!st->parked || st->gone)
		return;
	st->parked = false;
	st->request->conn->phase_ms = clock_mono_ms();
	MHD_resume_connection(st->request->mhd);
}

static void unlink_stream(struct http_stream *st)
{
	struct http_server *s = st->server;
	struct http_stream **at = &s->streams;
	while (*at != st)
		at = &(*at)->next;
	*at = st->next;
	s->stream_count--;
}

static void run_done(void *ctx)
{
	struct http_stream *st = ctx;
	struct http_server *s = st->server;
	st->ops->done(st->ctx);
	pthread_mutex_lock(&s->lock);
	unlink_stream(st);
	pthread_mutex_unlock(&s->lock);
	buf_done(&st->out);
	free(st);
	http_job_end(s);
}

static void run_pull(void *ctx)
{
	struct http_stream *st = ctx;
	struct http_server *s = st->server;
	struct buf bytes = buf_init(HTTP_STREAM_BYTES_MAX);
	struct err e;
	bool end = false;
	errc rc = st->ops->pull(st->ctx, &bytes, &end, &e);
	pthread_mutex_lock(&s->lock);
	st->pulling = false;
	if (rc != OK || bytes.overflow)
		st->failed = true;
	st->ended = st->ended || end;
	if (bytes.len && !st->gone) {
		st->out = bytes;
		st->sent_bytes = 0;
		st->woken = true; /* there may be more */
		st->active_ms = clock_mono_ms();
	} else {
		buf_done(&bytes);
	}
	if (st->out.len || st->ended || st->failed)
		http_stream_resume_locked(st);
	http_stream_kick_locked(st);
	pthread_mutex_unlock(&s->lock);
	http_job_end(s);
}

void http_stream_kick_locked(struct http_stream *st)
{
	if (st->pulling)
		return;
	bool due = st->woken && st->out.len == 0 && !st->ended && !st->failed;
	if (!st->gone && !due)
		return;
	st->pulling = true;
	if (!st->gone)
		st->woken = false;
	if (http_job_begin_locked(st->server, st->gone ? run_done : run_pull, st, NULL) != OK) {
		/* the pool is full: the watch thread tries again */
		st->pulling = false;
		st->woken = true;
		http_watch_wake(st->server);
	}
}

void http_stream_wake(struct http_stream *st)
{
	struct http_server *s = st->server;
	pthread_mutex_lock(&s->lock);
	st->woken = true;
	http_stream_kick_locked(st);
	pthread_mutex_unlock(&s->lock);
}

void http_stream_gone_locked(struct http_stream *st)
{
	st->gone = true;
	st->parked = false;
	http_stream_kick_locked(st);
}

void http_stream_keepalive_locked(struct http_stream *st, int64_t now)
{
	if (!st->parked || st->pulling || st->out.len || st->kind == HTTP_STREAM_BYTES ||
	    now - st->active_ms < st->server->options.stream_keepalive_ms)
		return;
	buf_add_c(&st->out, st->kind == HTTP_STREAM_EVENTS ? ":\n\n" : "\n");
	st->active_ms = now;
	http_stream_resume_locked(st);
}

ssize_t http_stream_read(void *ctx, uint64_t pos, char *out, size_t max)
{
	struct http_stream *st = ctx;
	struct http_server *s = st->server;
	ssize_t n = 0;
	(void)pos;
	pthread_mutex_lock(&s->lock);
	if (st->out.len) {
		size_t left = st->out.len - st->sent_bytes;
		size_t part = left < max ? left : max;
		memcpy(out, st->out.ptr + st->sent_bytes, part);
		st->sent_bytes += part;
		n = (ssize_t)part;
		if (part == left) {
			buf_done(&st->out);
			st->out = buf_init(HTTP_STREAM_BYTES_MAX);
			st->sent_bytes = 0;
			http_stream_kick_locked(st);
		}
	} else if (st->failed) {
		n = MHD_CONTENT_READER_END_WITH_ERROR;
	} else if (st->ended) {
		n = MHD_CONTENT_READER_END_OF_STREAM;
	} else {
		st->parked = true;
		MHD_suspend_connection(st->request->mhd);
		http_stream_kick_locked(st);
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}
