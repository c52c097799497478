/* Tokens, the audit, and the daemon's own health. */
#include <sodium.h>
#include <string.h>

#include "api/api.h"
#include "api/api_json.h"
#include "base/checks.h"
#include "codec/json.h"

static errc post_token(struct api *api, struct http_request *request,
		       struct http_response *response, struct err *e)
{
	struct arena *scratch = http_request_arena(request);
	const struct json *body = NULL;
	str name, role_text;
	enum access_role role = ROLE_NONE;
	struct token token;
	char secret[TOKEN_TEXT_SIZE];
	TRY(http_request_expect_type(request, "application/json", response, e));
	TRY(json_parse(scratch, http_request_body(request), 65536, &body, e));
	TRY(json_need_str(body, "name", &name, e));
	TRY(json_need_str(body, "role", &role_text, e));
	if (!access_role_parse(role_text, &role))
		FAIL(e, ERR_INVALID, "\"role\" must be viewer, operator or admin");
	int64_t days = json_i64(json_get(body, "days"), TOKEN_DAYS_DEFAULT);
	TRY(tokens_create(api->context->catalog, name.ptr, role, days, secret, &token, e));
	api_audit_detail(request, arena_printf(scratch, "%s (%s)", token.id, token.name), NULL);
	struct buf text = buf_init(65536);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_put_cstr(&w, "text", secret);
	json_key(&w, "token");
	api_write_token(&w, &token);
	json_end_object(&w);
	sodium_memzero(secret, sizeof(secret));
	http_response_set_status(response, 201);
	http_response_set_body(response, "application/json", &text);
	return OK;
}

static errc list_tokens(struct api *api, struct http_request *request,
			struct http_response *response, struct err *e)
{
	struct token *items = NULL;
	size_t count = 0;
	(void)request;
	struct arena scratch CLEANUP(arena_done) = arena_init(API_TEXT_MAX);
	TRY(tokens_list(api->context->catalog, &scratch, &items, &count, e));
	struct buf text = buf_init(API_TEXT_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_key(&w, "tokens");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		api_write_token(&w, &items[i]);
	json_end_array(&w);
	json_end_object(&w);
	http_response_set_body(response, "application/json", &text);
	return OK;
}

static errc revoke_token(struct api *api, struct http_request *request,
			 struct http_response *response, struct err *e)
{
	const char *id = api_param(request, "id");
	api_audit_detail(request, id, NULL);
	TRY(tokens_revoke(api->context->catalog, id, e));
	http_response_set_text(response, "application/json", STR("{}"));
	return OK;
}

static errc list_audit(struct api *api, struct http_request *request,
		       struct http_response *response, struct err *e)
{
	struct audit_entry *items = NULL;
	size_t count = 0;
	uint64_t before = 0, limit = 100;
	str before_text = http_request_query(request, "before"),
	    limit_text = http_request_query(request, "limit");
	if (before_text.ptr && !str_to_u64(before_text, &before))
		FAIL(e, ERR_INVALID, "\"before\" must be a sequence number");
	if (limit_text.ptr && (!str_to_u64(limit_text, &limit) || limit < 1 || limit > 10000))
		FAIL(e, ERR_INVALID, "\"limit\" must be 1 to 10000");
	struct arena scratch CLEANUP(arena_done) = arena_init(API_TEXT_MAX);
	TRY(audit_list(api->context->catalog, (int64_t)before, (int)limit, &scratch, &items, &count,
		       e));
	struct buf text = buf_init(API_TEXT_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_key(&w, "audit");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		api_write_audit(&w, &items[i]);
	json_end_array(&w);
	json_end_object(&w);
	http_response_set_body(response, "application/json", &text);
	return OK;
}

const struct api_route api_access_routes[] = {
	{ "GET", "/holdfast/v1/tokens", 0, ROLE_ADMIN, NULL, list_tokens },
	{ "POST", "/holdfast/v1/tokens", 65536, ROLE_ADMIN, "token.create", post_token },
	{ "DELETE", "/holdfast/v1/tokens/:id", 0, ROLE_ADMIN, "token.revoke", revoke_token },
	{ "GET", "/holdfast/v1/audit", 0, ROLE_ADMIN, NULL, list_audit },
};
const size_t api_access_route_count = ARRAY_COUNT(api_access_routes);

static errc get_livez(struct api *api, struct http_request *request, struct http_response *response,
		      struct err *e)
{
	(void)api, (void)request, (void)e;
	http_response_set_text(response, "text/plain; charset=utf-8", STR("ok\n"));
	return OK;
}

/* Ready: every feature has started and the catalog answers. */
static errc get_readyz(struct api *api, struct http_request *request,
		       struct http_response *response, struct err *e)
{
	struct token *items = NULL;
	size_t count = 0;
	struct arena scratch CLEANUP(arena_done) = arena_init(API_TEXT_MAX);
	(void)request;
	if (!__atomic_load_n(&api->ready, __ATOMIC_ACQUIRE))
		FAIL(e, ERR_UNAVAILABLE, "starting");
	TRY(tokens_list(api->context->catalog, &scratch, &items, &count, e));
	http_response_set_text(response, "text/plain; charset=utf-8", STR("ok\n"));
	return OK;
}

const struct api_route api_health_routes[] = {
	{ "GET", "/livez", 0, ROLE_NONE, NULL, get_livez },
	{ "GET", "/readyz", 0, ROLE_NONE, NULL, get_readyz },
	{ "GET", "/healthz", 0, ROLE_NONE, NULL, get_readyz },
};
const size_t api_health_route_count = ARRAY_COUNT(api_health_routes);
