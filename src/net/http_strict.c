/*
 * Checks of a complete header section. libmicrohttpd 0.9.75 accepts folded lines (and glues the
 * second one to the *name* of the first), bare line feeds, NUL bytes, repeated Content-Length,
 * Content-Length beside Transfer-Encoding, and unknown transfer codings; each of them lets a proxy
 * and a server disagree about where a request ends.
 */
#include "net/http_server_internal.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

struct scan {
	struct http_server *server;
	const char *next; /* where the next field must begin */
	bool layout_ok;
	bool names_ok;
	bool values_ok;
	unsigned count;
};

static bool is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
			     (c >= 'A' && c <= 'Z');
		if (!alnum && (c <= 0x20 || c >= 0x7f || !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return len > 0;
}

/*
 * libmicrohttpd parses in place: a field is `name NUL spaces value NUL NUL` in the buffer that held
 * `name: value CR LF`, and the next one follows at once. A folded line moves the field elsewhere, a
 * bare line feed leaves one NUL, a NUL of the client's ends the value early: each breaks the chain.
 */
static enum MHD_Result scan_field(void *ctx, enum MHD_ValueKind kind, const char *name,
				  size_t name_len, const char *value, size_t value_len)
{
	struct scan *s = ctx;
	(void)kind;
	s->count++;
	s->names_ok = s->names_ok && is_token(name, name_len);
	if (!value) {
		s->layout_ok = false;
		return MHD_YES;
	}
	for (size_t i = 0; i < value_len; i++) {
		unsigned char c = (unsigned char)value[i];
		s->values_ok = s->values_ok && (c >= 0x20 || c == '\t') && c != 0x7f;
	}
	s->layout_ok = s->layout_ok && name == s->next &&
		       (uintptr_t)value > (uintptr_t)name + name_len;
	s->next = value + value_len + 2;
	return MHD_YES;
}

static errc check_layout(struct http_request *r, struct scan *scan, const char *url,
			 const char *method, const char *version, struct err *e)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	if (!info ||
	    (r->server->layout_known && (url != method + strlen(method) + 1 || !scan->layout_ok ||
					 scan->next + 2 != method + info->header_size)))
		FAIL(e, ERR_INVALID,
		     "the header section is malformed: folded lines, bare line feeds and NUL bytes "
		     "are not accepted");
	(void)version;
	return OK;
}

/* One length, told in one way. */
static errc check_framing(struct http_request *r, struct err *e)
{
	unsigned length_count, coding_count, host_count;
	str coding = http_request_find_header(r->mhd, "transfer-encoding", &coding_count);
	str length = http_request_find_header(r->mhd, "content-length", &length_count);
	http_request_find_header(r->mhd, "host", &host_count);
	if (length_count > 1)
		FAIL(e, ERR_INVALID, "more than one Content-Length");
	if (coding_count && length_count)
		FAIL(e, ERR_INVALID, "both Content-Length and Transfer-Encoding");
	if (coding_count > 1 ||
	    (coding_count && (coding.len != 7 || strncasecmp(coding.ptr, "chunked", 7) != 0)))
		FAIL(e, ERR_INVALID, "the only Transfer-Encoding understood is chunked");
	if (coding_count && r->http_1_0)
		FAIL(e, ERR_INVALID, "Transfer-Encoding in an HTTP/1.0 request");
	for (size_t i = 0; i < length.len; i++)
		if (length.ptr[i] < '0' || length.ptr[i] > '9')
			FAIL(e, ERR_INVALID, "Content-Length is not a number");
	if (length_count && length.len == 0)
		FAIL(e, ERR_INVALID, "Content-Length is not a number");
	if (host_count > 1 || (!r->http_1_0 && host_count != 1))
		FAIL(e, ERR_INVALID, "a request needs exactly one Host");
	return OK;
}

errc http_strict_check(struct http_request *r, const char *url, const char *method,
		       const char *version, int *ret_status, struct err *e)
{
	const struct http_server_options *o = &r->server->options;
	struct scan scan = { .server = r->server,
			     .next = version + 8 + 2,
			     .layout_ok = true,
			     .names_ok = true,
			     .values_ok = true };
	*ret_status = 505;
	if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
		FAIL(e, ERR_INVALID, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	r->http_1_0 = version[7] == '0';
	*ret_status = 400;
	if (!is_token(method, strlen(method)) ||
	    !str_copy(str_c(method), r->method, sizeof(r->method)))
		FAIL(e, ERR_INVALID, "the method is not a word of at most 15 letters");
	if (r->target_too_long) {
		*ret_status = 414;
		FAIL(e, ERR_LIMIT, "the request target has more than %zu bytes",
		     o->target_bytes_max);
	}
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	size_t header_bytes = info ? info->header_size : 0;
	MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, scan_field, &scan);
	if (header_bytes > o->header_bytes_max || scan.count > o->header_count_max) {
		*ret_status = 431;
		FAIL(e, ERR_LIMIT, "the header section has more than %zu bytes or %u fields",
		     o->header_bytes_max, o->header_count_max);
	}
	TRY(check_layout(r, &scan, url, method, version, e));
	if (!scan.names_ok || !scan.values_ok)
		FAIL(e, ERR_INVALID, "a header field has a character that is not allowed");
	TRY(check_framing(r, e));
	unsigned expect_count;
	str expect = http_request_find_header(r->mhd, "expect", &expect_count);
	if (expect_count &&
	    (expect.len != 12 || strncasecmp(expect.ptr, "100-continue", 12) != 0)) {
		*ret_status = 417;
		FAIL(e, ERR_INVALID, "the only expectation understood is 100-continue");
	}
	*ret_status = 400;
	return http_target_parse(r->raw_target, o->query_count_max, &r->arena, &r->target, e);
}
