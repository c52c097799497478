#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "api/exposition.h"
#include "api/feature_list.h"
#include "base/checks.h"
#include "base/log.h"
#include "os/clock.h"

enum { REFUSALS_A_MINUTE = 60 };

/* A handler's context, and what it leaves for the audit. */
struct binding {
	struct api *api;
	const struct api_route *route;
};

struct visitor {
	struct api_identity identity;
	const char *target; /* in the request's arena */
	const char *detail;
};

static void set_local_identity(const struct http_peer *peer, struct api_identity *identity)
{
	struct passwd entry, *found = NULL;
	char text[4096];
	getpwuid_r(peer->uid, &entry, text, sizeof(text), &found);
	if (found)
		snprintf(identity->actor, sizeof(identity->actor), "local:%s", found->pw_name);
	else
		snprintf(identity->actor, sizeof(identity->actor), "local:uid-%u", peer->uid);
	snprintf(identity->peer, sizeof(identity->peer), "unix:pid %d", peer->pid);
	identity->role = ROLE_ADMIN;
}

static errc identify_token(struct api *api, struct http_request *request,
			   struct api_identity *identity, struct err *e)
{
	const struct http_peer *peer = http_request_peer(request);
	str field = http_request_header(request, "authorization");
	struct token token;
	snprintf(identity->peer, sizeof(identity->peer), "%s:%d", peer->address, peer->port);
	if (!field.ptr) {
		str_copy(STR("anonymous"), identity->actor, sizeof(identity->actor));
		return OK;
	}
	if (!str_starts(field, STR("Bearer ")) && !str_starts(field, STR("bearer ")))
		FAIL(e, ERR_UNAUTHENTICATED, "the authorization must be `Bearer TOKEN`");
	str text = str_trim((str){ field.ptr + 7, field.len - 7 });
	TRY(tokens_check(api->context->catalog, text, &token, e));
	snprintf(identity->actor, sizeof(identity->actor), "token:%s", token.name);
	identity->role = token.role;
	return OK;
}

/* Anybody who reaches the port can be refused: only so many of those a minute are recorded. */
static bool may_record(struct api *api, const struct api_identity *identity)
{
	int64_t minute = clock_mono_ms() / 60000;
	if (identity->role != ROLE_NONE)
		return true;
	if (__atomic_exchange_n(&api->refusal_minute, minute, __ATOMIC_RELAXED) != minute)
		__atomic_store_n(&api->refusal_count, 0, __ATOMIC_RELAXED);
	return __atomic_fetch_add(&api->refusal_count, 1, __ATOMIC_RELAXED) < REFUSALS_A_MINUTE;
}

/* Attempts that were refused belong in the audit as much as those that were not. */
static void audit_refusal(struct api *api, const struct api_identity *identity,
			  const struct api_route *route, errc code)
{
	if (!may_record(api, identity))
		return;
	struct audit_entry entry = { .actor = identity->actor,
				     .role = access_role_text(identity->role),
				     .peer = identity->peer,
				     .action = route->action,
				     .target = "",
				     .outcome = errc_name(code) };
	struct err e;
	if (audit_add(api->context->catalog, &entry, &e) != OK)
		log_err(LOG_ERROR, "a refused action could not be recorded", &e);
}

static errc decide(struct api *api, struct http_request *request, const struct api_route *route,
		   struct api_identity *identity, struct err *e)
{
	const struct http_peer *peer = http_request_peer(request);
	if (peer->kind == HTTP_PEER_UNIX) {
		if (peer->uid != 0 && peer->uid != geteuid())
			FAIL(e, ERR_FORBIDDEN, "this socket is for user %u and root only",
			     geteuid());
		set_local_identity(peer, identity);
	} else {
		TRY(identify_token(api, request, identity, e));
	}
	if (access_role_may(identity->role, route->role))
		return OK;
	if (identity->role == ROLE_NONE)
		FAIL(e, ERR_UNAUTHENTICATED,
		     "a token is needed: `authorization: Bearer TOKEN`; an admin makes one with "
		     "`holdfast token create`");
	FAIL(e, ERR_FORBIDDEN, "this needs the role %s; %s has the role %s",
	     access_role_text(route->role), identity->actor, access_role_text(identity->role));
}

errc api_authorize(void *ctx, struct http_request *request, struct err *e)
{
	struct api *api = ctx;
	const struct http_route *http_route = http_request_route(request);
	const struct binding *binding = http_route ? http_route->ctx : NULL;
	struct visitor *visitor = must_calloc(1, sizeof(*visitor));
	http_request_set_user(request, visitor);
	if (!binding)
		return OK;
	errc rc = decide(api, request, binding->route, &visitor->identity, e);
	if (rc != OK && binding->route->action)
		audit_refusal(api, &visitor->identity, binding->route, rc);
	return rc;
}

const struct api_identity *api_identity_of(const struct http_request *request)
{
	const struct visitor *visitor = http_request_user(request);
	must(visitor != NULL);
	return &visitor->identity;
}

void api_audit_detail(struct http_request *request, const char *target, const char *detail)
{
	struct visitor *visitor = http_request_user(request);
	visitor->target = target;
	visitor->detail = detail;
}

/* Record, then answer: an action that cannot be recorded is reported as failed. */
static errc audit_outcome(struct api *api, struct http_request *request,
			  const struct api_route *route, errc rc, struct err *e)
{
	const struct visitor *visitor = http_request_user(request);
	struct audit_entry entry = { .actor = visitor->identity.actor,
				     .role = access_role_text(visitor->identity.role),
				     .peer = visitor->identity.peer,
				     .action = route->action,
				     .target = visitor->target ? visitor->target : "",
				     .detail = visitor->detail,
				     .outcome = errc_name(rc) };
	struct err audit_error;
	if (audit_add(api->context->catalog, &entry, &audit_error) == OK)
		return rc;
	log_err(LOG_ERROR, "an action could not be recorded", &audit_error);
	if (rc == OK && e)
		*e = audit_error;
	return rc == OK ? audit_error.code : rc;
}

static errc handle(void *ctx, struct http_request *request, struct http_response *response,
		   struct err *e)
{
	const struct binding *binding = ctx;
	errc rc = binding->route->handler(binding->api, request, response, e);
	if (binding->route->action)
		rc = audit_outcome(binding->api, request, binding->route, rc, e);
	return rc;
}

struct route_table {
	const struct api_route *routes;
	const size_t *count;
};

static const struct route_table tables[] = {
	{ api_operation_routes, &api_operation_route_count },
	{ api_catalog_routes, &api_catalog_route_count },
	{ api_access_routes, &api_access_route_count },
	{ prometheus_query_routes, &prometheus_query_route_count },
	{ prometheus_name_routes, &prometheus_name_route_count },
	{ prometheus_status_routes, &prometheus_status_route_count },
	{ prometheus_target_routes, &prometheus_target_route_count },
	{ prometheus_read_routes, &prometheus_read_route_count },
	{ prometheus_write_routes, &prometheus_write_route_count },
	{ exposition_routes, &exposition_route_count },
	{ api_health_routes, &api_health_route_count },
};

struct http_route *api_routes_new(struct api *api, size_t *ret_count)
{
	size_t count = 0, n = 0;
	for (size_t t = 0; t < ARRAY_COUNT(tables); t++)
		count += *tables[t].count;
	struct http_route *routes = must_calloc(count, sizeof(*routes));
	struct binding *bindings = must_calloc(count, sizeof(*bindings));
	for (size_t t = 0; t < ARRAY_COUNT(tables); t++) {
		for (size_t i = 0; i < *tables[t].count; i++, n++) {
			const struct api_route *route = &tables[t].routes[i];
			bindings[n] = (struct binding){ api, route };
			routes[n] = (struct http_route){ .method = route->method,
							 .pattern = route->pattern,
							 .body_bytes_max = route->body_bytes_max,
							 .access = route->role,
							 .handler = handle,
							 .ctx = &bindings[n] };
		}
	}
	*ret_count = count;
	return routes;
}

void api_routes_free(struct http_route *routes, size_t count)
{
	if (routes && count)
		free(routes[0].ctx); /* the first binding is the block of all */
	free(routes);
}

void *api_feature_state(const struct api *api, const struct feature *feature)
{
	for (size_t i = 0; i < feature_count; i++)
		if (feature_list[i] == feature)
			return __atomic_load_n(&api->feature_states[i], __ATOMIC_ACQUIRE);
	return NULL;
}

const char *api_param(struct http_request *request, const char *name)
{
	return arena_cstr(http_request_arena(request), http_request_param(request, name));
}

const char *api_query(struct http_request *request, const char *name)
{
	str value = http_request_query(request, name);
	return value.ptr ? arena_cstr(http_request_arena(request), value) : NULL;
}
