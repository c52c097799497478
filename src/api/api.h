/*
 * The HTTP API below /holdfast/v1/: what the command line and the web page use.
 *
 * Every route names the role it needs; every mutating one is recorded in the audit with its
 * outcome (of unknown visitors 60 refusals a minute). Used by: cli (through daemon.h). Uses:
 * everything below.
 */
#pragma once

#include "catalog/access.h"
#include "feature/feature.h"
#include "net/http_server.h"

enum { API_BODY_MAX = 2 * 1024 * 1024, API_TEXT_MAX = 16 * 1024 * 1024 };

struct api {
	void *const *feature_states; /* in the order of feature_list; NULL before it started */
	const struct feature_context *context;
	time_ms started;
	bool ready; /* every feature has started */
	/* refusals of unknown visitors in the present minute, so that they cannot fill the disk */
	int64_t refusal_minute;
	int refusal_count;
};

/* Who asks: left on the request by api_authorize(). */
struct api_identity {
	enum access_role role;
	char actor[96]; /* `token:deploy-bot`, `local:root` */
	char peer[64];  /* `unix:pid 123`, `127.0.0.1:4711` */
};

struct api_route {
	const char *method;
	const char *pattern;
	size_t body_bytes_max;
	enum access_role role;
	const char *action; /* in the audit; NULL for what changes nothing */
	errc (*handler)(struct api *api, struct http_request *request,
			struct http_response *response, struct err *e);
};

/* The hook of the server: a request on the unix socket is its own user's (or root's) and may do
 * all; one over TCP shows a bearer token. ctx: struct api. */
errc api_authorize(void *ctx, struct http_request *request, struct err *e);
const struct api_identity *api_identity_of(const struct http_request *request);

/* All routes of the API as the server takes them. Valid until: api_routes_free(). */
struct http_route *api_routes_new(struct api *api, size_t *ret_count);
void api_routes_free(struct http_route *routes, size_t count);

extern const struct api_route api_operation_routes[];
extern const size_t api_operation_route_count;
extern const struct api_route api_catalog_routes[];
extern const size_t api_catalog_route_count;
extern const struct api_route api_access_routes[];
extern const size_t api_access_route_count;
extern const struct api_route prometheus_query_routes[];
extern const size_t prometheus_query_route_count;
extern const struct api_route prometheus_name_routes[];
extern const size_t prometheus_name_route_count;
extern const struct api_route prometheus_status_routes[];
extern const size_t prometheus_status_route_count;
extern const struct api_route prometheus_target_routes[];
extern const size_t prometheus_target_route_count;
extern const struct api_route prometheus_read_routes[];
extern const size_t prometheus_read_route_count;
extern const struct api_route prometheus_write_routes[];
extern const size_t prometheus_write_route_count;
extern const struct api_route api_health_routes[];
extern const size_t api_health_route_count;

/* The state of a feature, for what its header offers; NULL before it has started. */
void *api_feature_state(const struct api *api, const struct feature *feature);

/* The application/environment/… parameters as NUL-terminated text in the request's arena. */
const char *api_param(struct http_request *request, const char *name);
/* A query parameter, or NULL. */
const char *api_query(struct http_request *request, const char *name);
/* Add a detail to the audit entry of a mutating request: a JSON object without secrets. */
void api_audit_detail(struct http_request *request, const char *target, const char *detail);
