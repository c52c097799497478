#include "net/http_server_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FORM_COUNT_MAX = 1000 };

struct find {
	const char *name;
	size_t name_len;
	str value;
	unsigned count;
};

static enum MHD_Result match_field(void *ctx, enum MHD_ValueKind kind, const char *name,
				   size_t name_len, const char *value, size_t value_len)
{
	struct find *f = ctx;
	(void)kind;
	if (name_len == f->name_len && strncasecmp(name, f->name, name_len) == 0 && f->count++ == 0)
		f->value = str_trim((str){ value ? value : "", value_len });
	return MHD_YES;
}

str http_request_find_header(struct MHD_Connection *mhd, const char *name, unsigned *ret_count)
{
	struct find f = { .name = name, .name_len = strlen(name) };
	MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, match_field, &f);
	*ret_count = f.count;
	return f.value;
}

const char *http_request_method(const struct http_request *r)
{
	return r->method;
}

str http_request_path(const struct http_request *r)
{
	return r->target.path;
}

const struct http_peer *http_request_peer(const struct http_request *r)
{
	return &r->conn->peer;
}

const struct http_route *http_request_route(const struct http_request *r)
{
	return r->route ? &r->route->route : NULL;
}

str http_request_header(const struct http_request *r, const char *name)
{
	unsigned count;
	return http_request_find_header(r->mhd, name, &count);
}

str http_request_param(const struct http_request *r, const char *name)
{
	if (!r->route)
		return (str){ 0 };
	/* the arena is the request's scratch memory: joining a rest does not change the request */
	return http_pattern_param(&r->route->pattern, &r->target, name, (struct arena *)&r->arena);
}

str http_request_query(const struct http_request *r, const char *name)
{
	for (size_t i = 0; i < r->target.query_count; i++)
		if (str_eq_c(r->target.query[i].name, name))
			return r->target.query[i].value;
	return (str){ 0 };
}

bool http_request_query_at(const struct http_request *r, size_t index, str *ret_name,
			   str *ret_value)
{
	if (index >= r->target.query_count)
		return false;
	*ret_name = r->target.query[index].name;
	*ret_value = r->target.query[index].value;
	return true;
}

str http_request_body(const struct http_request *r)
{
	return r->route && r->route->route.sink ? STR("") : buf_str(&r->body);
}

struct arena *http_request_arena(struct http_request *r)
{
	return &r->arena;
}

void http_request_set_user(struct http_request *r, void *owned)
{
	free(r->user);
	r->user = owned;
}

void *http_request_user(const struct http_request *r)
{
	return r->user;
}

bool http_request_cancelled(const struct http_request *r)
{
	struct http_server *s = r->server;
	pthread_mutex_lock(&s->lock);
	bool cancelled = r->conn->gone || r->conn->cut || s->cutting;
	pthread_mutex_unlock(&s->lock);
	return cancelled;
}

static bool has_type(const struct http_request *r, const char *type)
{
	str all = http_request_header(r, "content-type");
	const char *semicolon = all.len ? memchr(all.ptr, ';', all.len) : NULL;
	str mine = str_trim((str){ all.ptr, semicolon ? (size_t)(semicolon - all.ptr) : all.len });
	return mine.len == strlen(type) && strncasecmp(mine.ptr, type, mine.len) == 0;
}

errc http_request_form(struct http_request *r, const struct http_pair **ret_pairs,
		       size_t *ret_count, struct err *e)
{
	struct http_pair *form = NULL;
	size_t form_count = 0, query_count = r->target.query_count;
	if (has_type(r, "application/x-www-form-urlencoded"))
		TRY(http_pairs_parse(http_request_body(r), FORM_COUNT_MAX, &r->arena, &form,
				     &form_count, e));
	struct http_pair *pairs = arena_array(&r->arena, form_count + query_count + 1,
					      sizeof(pairs[0]));
	if (!pairs)
		FAIL(e, ERR_LIMIT, "the request is too large");
	if (form_count)
		memcpy(pairs, form, form_count * sizeof(pairs[0]));
	if (query_count)
		memcpy(pairs + form_count, r->target.query, query_count * sizeof(pairs[0]));
	*ret_pairs = pairs;
	*ret_count = form_count + query_count;
	return OK;
}

errc http_request_expect_type(const struct http_request *r, const char *type,
			      struct http_response *response, struct err *e)
{
	if (has_type(r, type))
		return OK;
	http_response_set_status(response, 415);
	FAIL(e, ERR_INVALID, "the body must be sent with content-type: %s", type);
}

void http_request_free(struct http_request *r)
{
	if (!r)
		return;
	http_response_done(&r->response);
	buf_done(&r->body);
	arena_done(&r->arena);
	free(r->user);
	free((char *)r->raw_target.ptr);
	free(r);
}
