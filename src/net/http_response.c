#include "net/http_server_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checks.h"
#include "codec/json.h"
#include "os/io.h"

void http_response_init(struct http_response *r, struct http_request *request)
{
	*r = (struct http_response){ .fd = -1, .request = request };
}

/* Forget the body; the stream stays, it is owed its done(). */
static void drop_body(struct http_response *r)
{
	buf_done(&r->body);
	io_close(&r->fd);
	r->fd = -1;
	r->kind = HTTP_RESPONSE_EMPTY;
}

static void drop_headers(struct http_response *r)
{
	for (size_t i = 0; i < r->header_count; i++) {
		free(r->headers[i].name);
		free(r->headers[i].value);
	}
	r->header_count = 0;
}

void http_response_done(struct http_response *r)
{
	drop_body(r);
	drop_headers(r);
}

void http_response_set_status(struct http_response *r, int status)
{
	must(status >= 200 && status <= 599);
	r->status = status;
}

void http_response_set_header(struct http_response *r, const char *name, const char *value)
{
	size_t i = 0;
	for (const char *c = value; *c; c++)
		r->broken = r->broken || ((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f;
	while (i < r->header_count && strcasecmp(r->headers[i].name, name) != 0)
		i++;
	if (i == HTTP_RESPONSE_HEADER_COUNT_MAX) {
		r->broken = true;
		return;
	}
	if (i == r->header_count) {
		r->headers[r->header_count++].name = must_strdup(name);
	} else {
		free(r->headers[i].value);
	}
	r->headers[i].value = must_strdup(value);
}

void http_response_set_body(struct http_response *r, const char *content_type, struct buf *body)
{
	drop_body(r);
	r->kind = HTTP_RESPONSE_BUF;
	r->broken = r->broken || body->overflow;
	r->body = *body;
	*body = buf_init(body->cap);
	http_response_set_header(r, "content-type", content_type);
}

void http_response_set_text(struct http_response *r, const char *content_type, str body)
{
	struct buf copy = buf_init(body.len);
	buf_add(&copy, body);
	http_response_set_body(r, content_type, &copy);
}

void http_response_set_static(struct http_response *r, const char *content_type, str body)
{
	drop_body(r);
	r->kind = HTTP_RESPONSE_STATIC;
	r->bytes = body;
	http_response_set_header(r, "content-type", content_type);
}

void http_response_set_file(struct http_response *r, const char *content_type, int fd,
			    uint64_t offset, uint64_t len)
{
	struct stat st;
	drop_body(r);
	r->kind = HTTP_RESPONSE_FILE;
	r->fd = fd;
	r->offset = offset;
	r->len = len;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || len > INT64_MAX - offset ||
	    offset + len > (uint64_t)st.st_size)
		r->broken = true;
	http_response_set_header(r, "content-type", content_type);
}

struct buf http_error_body(const struct err *e)
{
	struct buf b = buf_init(16 * 1024);
	struct json_writer w = json_writer_init(&b, false);
	json_begin_object(&w);
	json_key(&w, "error");
	json_begin_object(&w);
	json_put_cstr(&w, "code", errc_name(e->code));
	json_put_cstr(&w, "message", e->message[0] ? e->message : errc_meaning(e->code));
	json_end_object(&w);
	json_end_object(&w);
	buf_add_byte(&b, '\n');
	return b;
}

void http_response_set_error(struct http_response *r, const struct err *e)
{
	struct buf body = http_error_body(e);
	if (r->status < 400)
		r->status = errc_http_status(e->code);
	http_response_set_body(r, "application/json", &body);
}

void http_raw_reply(int fd, int status, const struct err *e)
{
	struct buf body = http_error_body(e);
	struct buf all = buf_init(32 * 1024);
	buf_printf(&all,
		   "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n"
		   "cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
		   "connection: close\r\n\r\n",
		   status, MHD_get_reason_phrase_for((unsigned)status), body.len);
	buf_add(&all, buf_str(&body));
	/* best effort: a full socket means that the client does not read anyway */
	ssize_t ignored = send(fd, all.ptr, all.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ignored;
	buf_done(&all);
	buf_done(&body);
}

static struct MHD_Response *build_body(struct http_response *r)
{
	struct MHD_Response *m = NULL;
	switch (r->kind) {
	case HTTP_RESPONSE_EMPTY:
		return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	case HTTP_RESPONSE_STATIC:
		return MHD_create_response_from_buffer(r->bytes.len, (void *)r->bytes.ptr,
						       MHD_RESPMEM_PERSISTENT);
	case HTTP_RESPONSE_BUF:
		if (r->body.len == 0)
			return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
		m = MHD_create_response_from_buffer(r->body.len, r->body.ptr,
						    MHD_RESPMEM_MUST_FREE);
		if (m)
			r->body = buf_init(0);
		return m;
	case HTTP_RESPONSE_FILE:
		m = MHD_create_response_from_fd_at_offset64(r->len, r->fd, r->offset);
		if (m)
			r->fd = -1;
		return m;
	case HTTP_RESPONSE_STREAM:
		return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16 * 1024,
							 http_stream_read, r->stream, NULL);
	}
	return m;
}

struct MHD_Response *http_response_build(struct http_response *r)
{
	if (r->broken) {
		struct err e;
		(void)err_fill(&e, ERR_INTERNAL, 0, __FILE__, __LINE__,
			       "the answer could not be put together; please report this");
		drop_headers(r);
		r->broken = false;
		r->status = 500;
		http_response_set_error(r, &e);
	}
	if (r->status == 0)
		r->status = 200;
	struct MHD_Response *m = build_body(r);
	if (!m)
		return NULL;
	bool cache = false;
	bool good = MHD_add_response_header(m, "x-content-type-options", "nosniff") == MHD_YES;
	for (size_t i = 0; i < r->header_count; i++) {
		cache = cache || strcasecmp(r->headers[i].name, "cache-control") == 0;
		if (strcasecmp(r->headers[i].name, "x-content-type-options") == 0)
			continue;
		good = good && MHD_add_response_header(m, r->headers[i].name,
						       r->headers[i].value) == MHD_YES;
	}
	if (!cache)
		good = good && MHD_add_response_header(m, "cache-control", "no-store") == MHD_YES;
	if (r->status == 401) /* RFC 9110, 11.6.1: it says how to authenticate */
		good = good && MHD_add_response_header(m, "www-authenticate", "Bearer") == MHD_YES;
	if (good)
		return m;
	MHD_destroy_response(m);
	return NULL;
}
