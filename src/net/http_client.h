/*
 * The HTTP client, on libcurl: a blocking call, and asynchronous requests that share one thread.
 *
 * Only http and https, TLS verified, no proxy from the environment, no redirect unless asked.
 * Threads: http_fetch() in the caller's; http_client_start() from any. The shared thread begins
 * with the first asynchronous request and ends after 10 s without any. Limits: the response is
 * capped while it is received. Errors: `GET http://127.0.0.1:8080/x: connection refused`. Query
 * strings, user information, header values and bodies never get into a message.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

struct http_fetch_header {
	const char *name;
	const char *value;
};

struct http_fetch_request {
	const char *method; /* NULL: GET, or POST when there is a body */
	const char *url;
	const char *unix_path; /* connect here instead; the URL's host is only sent as Host */
	const struct http_fetch_header *headers;
	size_t header_count;
	str body;
	int body_fd; /* with body_fd_len > 0: this file from its position instead of body */
	uint64_t body_fd_len;
	int64_t connect_ms_max; /* [5 s] */
	int64_t total_ms_max;   /* [30 s], or none with LINE */
	int64_t idle_ms_max; /* give up when nothing arrives for so long; [none], [60 s] with LINE
			      */
	size_t response_bytes_max;   /* [1 MiB]; with LINE: the longest line [1 MiB] */
	unsigned redirect_count_max; /* 0: a redirect is a response like another */
	bool compressed;             /* offer gzip; the cap counts what comes out */
	/* PEM file of authorities; NULL: the system's */
	const char *tls_ca_path;
	bool tls_insecure; /* certificates are not verified */
	/*
	 * When set, a response of status 2xx is not collected: each complete line comes here while
	 * the response runs, without its end; empty lines (keep-alive) do not. False ends the
	 * request with ERR_CANCELLED. Other statuses are collected as usual.
	 */
	bool (*line)(void *ctx, str line);
	/* Asked several times a second; true ends the request with ERR_CANCELLED. May be NULL. */
	bool (*cancelled)(void *ctx);
	void *ctx;
};

struct http_fetch_response {
	int status;
	struct buf body;
	struct buf
		headers; /* `name: value\n` of the final response; read with the function below */
	int64_t elapsed_ms;
};

/* A response of any status is OK. RET_RESPONSE is filled on OK only: end with
 * http_fetch_response_done(). Errors: ERR_UNAVAILABLE (not reached, connection lost), ERR_TIMEOUT,
 * ERR_LIMIT, ERR_CANCELLED, ERR_INVALID (URL, header). */
WARN_UNUSED errc http_fetch(const struct http_fetch_request *request,
			    struct http_fetch_response *ret_response, struct err *e);
void http_fetch_response_done(struct http_fetch_response *response);
/* The last field of that name, without regard to case; ptr NULL when absent. */
str http_fetch_response_header(const struct http_fetch_response *response, const char *name);

/* ---- Asynchronous requests. */

struct http_client;

/* Costs nothing until used. Owns: end with http_client_free(). */
struct http_client *http_client_new(unsigned concurrent_count_max);
/* Cancels what is running; every DONE has been called when it returns. Accepts NULL. */
void http_client_free(struct http_client *c);
/*
 * Run REQUEST on the shared thread and call DONE(ctx, result, response, err) once from there, with
 * RESPONSE NULL unless RESULT is OK; it must be quick and may start further requests. Strings and
 * body are copied (body_fd is not taken; line and cancelled work as above).
 * Errors: ERR_BUSY when 1,024 requests wait already; DONE is not called then.
 */
WARN_UNUSED errc http_client_start(struct http_client *c, const struct http_fetch_request *request,
				   void (*done)(void *ctx, errc result,
						const struct http_fetch_response *response,
						const struct err *e),
				   void *ctx, struct err *e);
