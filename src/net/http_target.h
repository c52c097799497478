/*
 * The request target: path segments and query parameters, decoded once and strictly; and the route
 * patterns they are matched with.
 *
 * Source: RFC 9112 section 3.2 (origin and absolute form), RFC 3986.
 */
#pragma once

#include "net/http_server.h"

enum { HTTP_SEGMENT_COUNT_MAX = 32 };

struct http_target {
	str path; /* as sent */
	str *segments;
	size_t segment_count; /* `/` has one, the empty one; only the last can be empty */
	struct http_pair *query;
	size_t query_count;
};

/* The pairs of `a=1&b=2`, decoded; `+` is a space. Errors: ERR_INVALID for a bad percent-encoding
 * or more than COUNT_MAX pairs. */
WARN_UNUSED errc http_pairs_parse(str text, size_t count_max, struct arena *request,
				  struct http_pair **ret_pairs, size_t *ret_count, struct err *e);

/* Errors: ERR_INVALID for bytes outside of printable ASCII, a bad percent-encoding, an encoded
 * slash, backslash or control character, `.` and `..` segments, empty segments before the last, too
 * many segments or parameters. */
WARN_UNUSED errc http_target_parse(str raw, size_t query_count_max, struct arena *request,
				   struct http_target *ret_target, struct err *e);

enum http_pattern_kind { HTTP_PATTERN_REST, HTTP_PATTERN_PARAM, HTTP_PATTERN_LITERAL };

struct http_pattern {
	struct http_pattern_segment {
		enum http_pattern_kind kind;
		str text; /* the literal or the name */
	} segments[HTTP_SEGMENT_COUNT_MAX];
	size_t count;
};

/* The segments of PATTERN, which must outlive it. Errors: ERR_INVALID. */
WARN_UNUSED errc http_pattern_parse(const char *pattern, struct http_pattern *ret_pattern,
				    struct err *e);
bool http_pattern_matches(const struct http_pattern *p, const struct http_target *t);
/* > 0 when A is the more specific of two that match the same target. */
int http_pattern_cmp(const struct http_pattern *a, const struct http_pattern *b);
/* The value of `:name` or `*name` (the rest as sent is decoded segments joined by `/`). */
str http_pattern_param(const struct http_pattern *p, const struct http_target *t, const char *name,
		       struct arena *request);
