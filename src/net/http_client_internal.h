/* Inside of the HTTP client: one transfer, for http_fetch.c (blocking) and http_client.c (shared).
 */
#pragma once

#include <curl/curl.h>

#include "net/http_client.h"

struct http_transfer {
	CURL *easy;
	struct curl_slist *fields;
	struct http_fetch_request request;
	struct http_fetch_response response;
	struct buf line;
	str body_left;
	uint64_t fd_left;
	char *label; /* `GET http://host/path`, without anything secret */
	int64_t begin_ms;
	int64_t moved_ms; /* when something last arrived or left */
	bool too_large;
	bool cancelled;
	bool idle;
};

/* libcurl's own start, once, at the first use: an idle daemon does not pay for it. */
void http_transfer_global_init(void);
/* Prepare an easy handle; what REQUEST points to must live as long as the transfer. Ends with
 * http_transfer_done() in every case. */
WARN_UNUSED errc http_transfer_init(struct http_transfer *t,
				    const struct http_fetch_request *request, struct err *e);
void http_transfer_done(struct http_transfer *t);
/* Asked between events: is the transfer cancelled, or idle for too long? */
bool http_transfer_is_over(struct http_transfer *t, int64_t now);
/* How long to wait at most before asking again. */
int http_transfer_wait_ms(const struct http_transfer *t);
/* Judge the end of it. */
WARN_UNUSED errc http_transfer_finish(struct http_transfer *t, CURLcode code, struct err *e);
