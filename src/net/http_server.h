/*
 * The HTTP/1.1 server, on libmicrohttpd: TCP and unix sockets, a route table, bodies capped before
 * they are read, handlers on a bounded worker pool, streams without a thread of their own.
 *
 * Threads: one network thread decodes requests and writes responses; one more accepts connections
 *   and enforces the deadlines; handlers, sinks and pulls run on the executor that was given. The
 *   connection rests meanwhile, so a client that leaves never disturbs a running handler.
 * Limits: see struct http_server_options; everything a client sends is capped before it is kept.
 * Source: RFC 9110, RFC 9112 (what it only permits is refused: line folding, bare LF, ambiguous
 *   lengths); the WHATWG text for server-sent events.
 */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "os/executor.h"

struct http_server;
struct http_request;
struct http_response;
struct http_stream;

/* ---- Requests. Valid until: the handler (or sink, or authorize hook) that got it returns. */

enum http_peer_kind { HTTP_PEER_TCP, HTTP_PEER_UNIX };

struct http_peer {
	enum http_peer_kind kind;
	char address[46]; /* TCP: IPv4 or IPv6 as text; unix: "" */
	int port;         /* TCP */
	uid_t uid;        /* unix: who connected */
	gid_t gid;
	pid_t pid;
};

/* `GET`, `POST`, … as sent; a HEAD answered by a GET route says HEAD. */
const char *http_request_method(const struct http_request *r);
/* The path as sent, still percent-encoded, without the query. */
str http_request_path(const struct http_request *r);
const struct http_peer *http_request_peer(const struct http_request *r);
const struct http_route *http_request_route(const struct http_request *r);
/* A field value, name without regard to case; the empty str with ptr NULL when absent. */
str http_request_header(const struct http_request *r, const char *name);
/* The decoded path segment `:name`; ptr NULL when the route has none of that name. */
str http_request_param(const struct http_request *r, const char *name);
/* The first query parameter of that name, decoded (`+` is a space); ptr NULL when absent. */
str http_request_query(const struct http_request *r, const char *name);
/* All of them in order, repeats included; false past the last. */
bool http_request_query_at(const struct http_request *r, size_t index, str *ret_name,
			   str *ret_value);
struct http_pair {
	str name;
	str value;
};
/* The parameters of a form (application/x-www-form-urlencoded) before those of the query, decoded,
 * in order, repeats included. Errors: ERR_INVALID for a bad encoding or more than 1,000. */
WARN_UNUSED errc http_request_form(struct http_request *r, const struct http_pair **ret_pairs,
				   size_t *ret_count, struct err *e);
/* The whole body; empty on a route with a sink. */
str http_request_body(const struct http_request *r);
/* Memory that lives as long as the request, capped at 1 MiB. */
struct arena *http_request_arena(struct http_request *r);
/* A pointer that authorize() leaves for the handler (who asks). OWNED is freed with free(). */
void http_request_set_user(struct http_request *r, void *owned);
void *http_request_user(const struct http_request *r);
/* The client left or the server is stopping: a long handler may ask and give up. Any thread. */
bool http_request_cancelled(const struct http_request *r);
/* OK when the body's content-type is TYPE (parameters such as charset are ignored), else the 415
 * that the handler returns. */
WARN_UNUSED errc http_request_expect_type(const struct http_request *r, const char *type,
					  struct http_response *response, struct err *e);

/* ---- Responses. What a handler fills; 200 with an empty body unless told otherwise. */

void http_response_set_status(struct http_response *r, int status);
/* Replaces a field of that name. NAME and VALUE are copied; a value with CR, LF or NUL, or more
 * than 32 fields, turns the response into a 500. */
void http_response_set_header(struct http_response *r, const char *name, const char *value);
/* Owns: takes the memory of BODY and leaves it empty; an overflowed buf makes a 500. */
void http_response_set_body(struct http_response *r, const char *content_type, struct buf *body);
/* A copy of BODY. */
void http_response_set_text(struct http_response *r, const char *content_type, str body);
/* Bytes that outlive the server (embedded files); not copied. */
void http_response_set_static(struct http_response *r, const char *content_type, str body);
/* LEN bytes of a regular file from OFFSET. Owns: FD is closed in every case. */
void http_response_set_file(struct http_response *r, const char *content_type, int fd,
			    uint64_t offset, uint64_t len);
/* `{"error":{"code":…,"message":…}}` with the code's HTTP status; a handler that returns an error
 * gets this done for it. */
void http_response_set_error(struct http_response *r, const struct err *e);

/* ---- Streams: a response whose end is not known yet. */

enum http_stream_kind {
	HTTP_STREAM_BYTES,  /* as they come; no keep-alive */
	HTTP_STREAM_NDJSON, /* application/x-ndjson; keep-alive is an empty line */
	HTTP_STREAM_EVENTS, /* text/event-stream; keep-alive is a comment */
};

enum {
	HTTP_STREAM_FILL_BYTES = 32 * 1024, /* a pull should stop at about this many */
	HTTP_STREAM_BYTES_MAX = 1024 * 1024 /* cap of one pull, so of one line or event */
};

struct http_stream_ops {
	/*
	 * Append what is ready to INTO and say whether that was all there will ever be. Runs on the
	 * worker pool, never twice at once, and only when everything appended before was handed to
	 * the network: a slow reader delays pulls, memory does not grow. Asked again at once while
	 * it appends something; when it appends nothing, after the next http_stream_wake(). A
	 * failure (or more than HTTP_STREAM_BYTES_MAX) cuts the connection.
	 */
	errc (*pull)(void *ctx, struct buf *into, bool *ret_end, struct err *e);
	/* Once, after the last pull, whatever ended the stream: free CTX. The stream is gone when
	 * it returns. Runs on the worker pool or in http_server_free(). */
	void (*done)(void *ctx);
};

/* Answer with a stream; pull is first called right after the handler returned OK. When the handler
 * fails after this, done(ctx) is called all the same.
 * Valid until: done(ctx) returns; a producer that wakes from another thread must forget the stream
 * under its own lock in done(). */
struct http_stream *http_response_stream(struct http_response *r, enum http_stream_kind kind,
					 const struct http_stream_ops *ops, void *ctx);
/* There is something to pull. Threads: any, cheap, coalesced; calls neither pull nor done, so the
 * caller may hold its own locks. */
void http_stream_wake(struct http_stream *s);
/* Append one server-sent event; EVENT and ID may be empty; DATA may hold several lines. */
void http_stream_add_event(struct buf *into, str event, str id, str data);

/* ---- Routes. */

enum http_route_flags {
	HTTP_ROUTE_INLINE = 1, /* quick and never blocks: runs on the network thread */
};

struct http_route {
	const char *method;
	/* `/holdfast/v1/apps/:app/releases/:id`: literal segments win over `:name`; a last segment
	 * `*name` takes the rest of the path, slashes included, and may be empty. */
	const char *pattern;
	size_t body_bytes_max; /* 0: no body is accepted */
	unsigned access;       /* for authorize(); the server does not look at it */
	unsigned flags;        /* enum http_route_flags */
	/* A failure becomes the error response. */
	errc (*handler)(void *ctx, struct http_request *request, struct http_response *response,
			struct err *e);
	/* When set, the body comes here in pieces, in order, on the worker pool, before the handler
	 * runs; body_bytes_max still counts. The piece with END set is the last and may be empty.
	 * On a failure, of the sink or of the client, neither comes again:
	 * sink_abort() instead, once, on the network thread, so it must be quick. */
	errc (*sink)(void *ctx, struct http_request *request, str piece, bool end, struct err *e);
	void (*sink_abort)(void *ctx, struct http_request *request);
	void *ctx;
};

/* ---- The server. */

struct http_server_options {
	struct executor *executor; /* where handlers run; outlives the server */
	const struct http_route *routes;
	size_t route_count;
	/* Asked when the header section is complete and before any of the body is read, on the
	 * network thread: must be quick. A failure is the response. May be NULL. */
	errc (*authorize)(void *ctx, struct http_request *request, struct err *e);
	void *authorize_ctx;

	/* 0 takes the default in brackets */
	unsigned connection_count_max;        /* [1024] */
	unsigned connection_count_per_ip_max; /* [128], TCP only */
	size_t header_bytes_max;              /* [16 KiB]; at most 24 KiB */
	unsigned header_count_max;            /* [100] */
	size_t target_bytes_max;              /* [8 KiB] path and query */
	unsigned query_count_max;             /* [100] */
	int64_t header_ms_max;                /* [10 s] first byte until headers are complete */
	int64_t idle_ms_max;                  /* [75 s] between requests of one connection */
	int64_t progress_grace_ms;            /* [10 s] of debt a slow body or reader may run up */
	unsigned progress_bytes_per_second;   /* [1024] below this the debt grows */
	int64_t stream_stall_ms_max;          /* [10 min] a stream's reader may take nothing */
	int64_t stream_keepalive_ms;          /* [15 s] */
};

/* A server that listens nowhere yet. Owns: end with http_server_free(). Routes are copied, what
 * they point to is not. Errors: ERR_INVALID for a pattern that cannot work. */
WARN_UNUSED errc http_server_new(const struct http_server_options *options,
				 struct http_server **ret_server, struct err *e);
/* Listen on `127.0.0.1:7070` or `[::1]:7070`; port 0 takes a free one. RET_PORT may be NULL. */
WARN_UNUSED errc http_server_listen_tcp(struct http_server *s, const char *address, int *ret_port,
					struct err *e);
/* Listen on a unix socket of mode 0600. A socket file that nobody answers on is replaced; ERR_BUSY
 * when somebody does. Removed by http_server_stop(). */
WARN_UNUSED errc http_server_listen_unix(struct http_server *s, const char *path, struct err *e);
/* Begin to accept. Listening after this is fine too. */
WARN_UNUSED errc http_server_start(struct http_server *s, struct err *e);
/*
 * Stop accepting, end streams, let handlers and their responses finish; what is left after
 * DEADLINE_MS is cut. A handler cannot be cut: it sees http_request_cancelled() and is waited for.
 */
void http_server_stop(struct http_server *s, int64_t deadline_ms);
/* Stops at once when that was not done. Accepts NULL. */
void http_server_free(struct http_server *s);

struct http_server_stats {
	unsigned connection_count;
	unsigned request_count; /* begun and not answered completely, streams included */
	unsigned stream_count;
	uint64_t accepted_count;
	uint64_t refused_count;  /* over a connection cap */
	uint64_t deadline_count; /* cut for being slow */
};
void http_server_stats(struct http_server *s, struct http_server_stats *ret_stats);
