/*
 * Inside of the HTTP server: http_server.c (life cycle, routes), http_exchange.c (libmicrohttpd's
 * callbacks: one request from its first line to its last byte), http_strict.c (what is refused),
 * http_watch.c (accepting and deadlines), http_stream.c, http_request.c, http_response.c.
 *
 * Threads: `server->lock` guards what is marked (L). Order: a caller's locks, then this one, then
 *   libmicrohttpd's and the executor's. No callback of a user runs while it is held, and nothing
 *   that takes libmicrohttpd's response lock, because the stream reader runs inside of that.
 */
#pragma once

#include <microhttpd.h>
#include <pthread.h>

#include "net/http_server.h"
#include "net/http_target.h"

enum {
	HTTP_LISTENER_COUNT_MAX = 8,
	HTTP_LINGER_COUNT_MAX = 64,
	HTTP_RESPONSE_HEADER_COUNT_MAX = 32,
	HTTP_REQUEST_ARENA_BYTES_MAX = 1024 * 1024,
	HTTP_SINK_PIECE_BYTES = 64 * 1024,
};

/* Where a connection stands, for its deadline. */
enum http_phase {
	HTTP_PHASE_NEW,     /* accepted, no complete request line yet */
	HTTP_PHASE_IDLE,    /* between two requests */
	HTTP_PHASE_HEADERS, /* the first bytes of a further request came */
	HTTP_PHASE_BODY,
	HTTP_PHASE_HANDLER, /* suspended: nothing is read or written */
	HTTP_PHASE_REPLY,
};

struct http_conn {
	int fd;
	bool started; /* libmicrohttpd took it */
	struct http_peer peer;
	enum http_phase phase;   /* (L) */
	int64_t phase_ms;        /* (L) when it began */
	int64_t tick_ms;         /* (L) when debt was last counted */
	int64_t stalled_ms;      /* (L) since when a stream's reader took nothing; 0: it does */
	uint64_t moved_bytes;    /* (L) body bytes received, or bytes the peer acknowledged */
	uint64_t received_bytes; /* (L) by the kernel, when the last reply began */
	uint64_t counted_bytes;  /* (L) moved_bytes at tick_ms */
	int64_t debt_bytes;      /* (L) how far it fell behind the least rate */
	int queued_bytes;        /* (L) in the socket's send queue at tick_ms */
	bool cut;                /* (L) ended by us: nothing more of it is served */
	int64_t half_closed_ms; /* (L) since when we wait for the client to close, too; 0: we do not
				 */
	bool gone;              /* (L) the client closed its side */
	bool linger;            /* (L) drain before close, so that the last reply arrives */
	struct http_request *request; /* (L) */
};

enum http_response_kind {
	HTTP_RESPONSE_EMPTY,
	HTTP_RESPONSE_BUF,
	HTTP_RESPONSE_STATIC,
	HTTP_RESPONSE_FILE,
	HTTP_RESPONSE_STREAM,
};

struct http_response {
	int status;
	enum http_response_kind kind;
	bool broken; /* a field that cannot be sent, too many, or an overflowed body */
	struct {
		char *name;
		char *value;
	} headers[HTTP_RESPONSE_HEADER_COUNT_MAX];
	size_t header_count;
	struct buf body;
	str bytes;
	int fd;
	uint64_t offset;
	uint64_t len;
	struct http_request *request;
	struct http_stream
		*stream; /* (L) kept when an error replaced the response, for its done() */
};

struct http_stream {
	struct http_server *server;
	struct http_request *request; /* (L) valid until gone */
	struct http_stream *next;     /* (L) */
	enum http_stream_kind kind;
	const struct http_stream_ops *ops;
	void *ctx;
	struct buf out;    /* (L) filled by a pull, emptied by the reader */
	size_t sent_bytes; /* (L) of out */
	int64_t active_ms; /* (L) when bytes were last ready */
	bool pulling;      /* (L) a pull or done is queued or runs */
	bool woken;        /* (L) another pull is due */
	bool parked;       /* (L) the connection is suspended by the reader */
	bool ended;        /* (L) nothing follows out */
	bool failed;       /* (L) cut without an end */
	bool gone;         /* (L) the response is over; done() is due */
};

enum http_step {
	HTTP_STEP_BEGIN,
	HTTP_STEP_BODY,
	HTTP_STEP_SINKING,  /* suspended, a piece is with the sink */
	HTTP_STEP_HANDLING, /* suspended, the handler runs */
	HTTP_STEP_REPLY,    /* the response is filled */
	HTTP_STEP_REPLIED,
};

struct http_request {
	struct http_server *server;
	struct MHD_Connection *mhd;
	struct http_conn *conn;
	enum http_step step; /* written by the thread that the request is with */
	struct arena arena;
	str raw_target; /* a heap copy */
	bool target_too_long;
	struct http_target target;
	char method[16];
	bool http_1_0;
	const struct http_compiled_route *route;
	void *user;
	struct buf body;
	uint64_t body_bytes; /* received */
	bool sink_begun;     /* sink_abort() is due unless the sink saw the end */
	bool sink_ended;
	errc sink_result;
	struct err sink_err;
	struct http_response response;
};

struct http_compiled_route {
	struct http_route route;
	struct http_pattern pattern;
};

struct http_server {
	struct http_server_options options;
	struct http_compiled_route *routes;
	size_t route_count;
	struct MHD_Daemon *mhd;
	bool layout_known; /* of libmicrohttpd's header buffer; see http_strict.c */
	pthread_t watch_thread;
	bool watching;
	int wake_fd;

	pthread_mutex_t lock;
	pthread_cond_t settled; /* (L) a count below went down */
	struct {
		int fd;
		bool is_unix;
		char *path;
	} listeners[HTTP_LISTENER_COUNT_MAX]; /* (L) */
	size_t listener_count;                /* (L) */
	struct http_conn **conns;             /* (L) by descriptor */
	size_t conn_size;                     /* (L) */
	unsigned conn_count;                  /* (L) */
	unsigned request_count;               /* (L) */
	unsigned job_count;                   /* (L) submitted and not ended */
	unsigned stream_count;                /* (L) */
	struct http_stream *streams;          /* (L) */
	bool stopping;                        /* (L) */
	bool cutting;                         /* (L) the deadline of stop passed */
	bool stopped;
	bool watch_end;                                         /* (L) */
	uint64_t accepted_count, refused_count, deadline_count; /* (L) */
	struct {
		int fd;
		int64_t until_ms;
	} lingers[HTTP_LINGER_COUNT_MAX]; /* (L) */
	size_t linger_count;              /* (L) */
};

/* Run RUN(ctx) on the executor; it must end with http_job_end(). With or without the lock. */
WARN_UNUSED errc http_job_begin_locked(struct http_server *s, void (*run)(void *ctx), void *ctx,
				       struct err *e);
void http_job_end(struct http_server *s);

/* http_exchange.c: libmicrohttpd's callbacks. */
void *http_exchange_begin(void *server, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result http_exchange_step(void *server, struct MHD_Connection *mhd, const char *url,
				   const char *method, const char *version, const char *data,
				   size_t *data_len, void **request);
void http_exchange_end(void *server, struct MHD_Connection *mhd, void **request,
		       enum MHD_RequestTerminationCode why);
void http_exchange_connection(void *server, struct MHD_Connection *mhd, void **conn,
			      enum MHD_ConnectionNotificationCode what);

/* http_strict.c: what libmicrohttpd lets pass and we do not. RET_STATUS is what to answer. */
WARN_UNUSED errc http_strict_check(struct http_request *r, const char *url, const char *method,
				   const char *version, int *ret_status, struct err *e);

/* http_request.c */
str http_request_find_header(struct MHD_Connection *mhd, const char *name, unsigned *ret_count);
void http_request_free(struct http_request *r);

/* http_response.c */
void http_response_init(struct http_response *r, struct http_request *request);
void http_response_done(struct http_response *r);
/* NULL when there is no memory for it. */
struct MHD_Response *http_response_build(struct http_response *r);
/* The JSON body of an error. */
struct buf http_error_body(const struct err *e);
/* A whole response as text, for a connection that libmicrohttpd does not answer any more. */
void http_raw_reply(int fd, int status, const struct err *e);

/* http_stream.c */
ssize_t http_stream_read(void *stream, uint64_t pos, char *out, size_t max);
/* Submit what is due: a pull, or done. */
void http_stream_kick_locked(struct http_stream *st);
void http_stream_resume_locked(struct http_stream *st);
void http_stream_gone_locked(struct http_stream *st);
void http_stream_keepalive_locked(struct http_stream *st, int64_t now);

/* http_watch.c */
void *http_watch_main(void *server);
void http_watch_wake(struct http_server *s);
/* Bytes that a TCP peer sent and acknowledged; false on other sockets. */
bool http_watch_tcp_bytes(int fd, uint64_t *ret_received, uint64_t *ret_acknowledged);
