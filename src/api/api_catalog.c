/* Releases, status and secrets. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "api/api_json.h"
#include "base/checks.h"
#include "catalog/operations.h"
#include "catalog/releases.h"
#include "catalog/secrets.h"
#include "os/clock.h"

enum { STATUS_ENVIRONMENTS_MAX = 256 };

static errc list_releases(struct api *api, struct http_request *request,
			  struct http_response *response, struct err *e)
{
	struct release *items = NULL;
	size_t count = 0;
	uint64_t limit = 50;
	struct arena scratch CLEANUP(arena_done) = arena_init(API_TEXT_MAX);
	str limit_text = http_request_query(request, "limit");
	if (limit_text.ptr && (!str_to_u64(limit_text, &limit) || limit < 1 || limit > 1000))
		FAIL(e, ERR_INVALID, "\"limit\" must be 1 to 1000");
	TRY(releases_list(api->context->catalog, api_query(request, "app"),
			  api_query(request, "environment"), (int)limit, &scratch, &items, &count,
			  e));
	struct buf text = buf_init(API_TEXT_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_key(&w, "releases");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		api_write_release(&w, &items[i]);
	json_end_array(&w);
	json_end_object(&w);
	http_response_set_body(response, "application/json", &text);
	return OK;
}

/* What is served, by environment: its current and warm releases, their instances, who changes it.
 */
static errc write_environment(struct api *api, struct json_writer *w, const struct release *newest,
			      struct arena *scratch, struct err *e)
{
	struct catalog *catalog = api->context->catalog;
	struct instance_filter filter = { .app = newest->app, .environment = newest->environment };
	struct instance *instances = NULL;
	size_t instance_count = 0;
	struct release current;
	struct lease lease;
	char place[2 * NAME_MAX_BYTES + 2];
	json_begin_object(w);
	json_put_cstr(w, "app", newest->app);
	json_put_cstr(w, "environment", newest->environment);
	json_key(w, "current");
	if (releases_current(catalog, newest->app, newest->environment, scratch, &current, NULL) ==
	    OK)
		api_write_release(w, &current);
	else
		json_add_null(w);
	TRY(instances_list(catalog, &filter, scratch, &instances, &instance_count, e));
	json_key(w, "instances");
	json_begin_array(w);
	for (size_t i = 0; i < instance_count; i++)
		api_write_instance(w, &instances[i]);
	json_end_array(w);
	snprintf(place, sizeof(place), "%s/%s", newest->app, newest->environment);
	json_key(w, "lease");
	if (leases_get(catalog, place, &lease, NULL) == OK) {
		json_begin_object(w);
		json_put_cstr(w, "operation", lease.operation);
		json_put_cstr(w, "holder", lease.holder);
		api_put_time(w, "acquired", lease.acquired);
		json_end_object(w);
	} else {
		json_add_null(w);
	}
	json_end_object(w);
	return OK;
}

static bool seen_before(const struct release *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(items[i].app, items[count].app) == 0 &&
		    strcmp(items[i].environment, items[count].environment) == 0)
			return true;
	return false;
}

static errc get_status(struct api *api, struct http_request *request,
		       struct http_response *response, struct err *e)
{
	struct release *items = NULL;
	size_t count = 0, environments = 0;
	struct arena scratch CLEANUP(arena_done) = arena_init(API_TEXT_MAX);
	TRY(releases_list(api->context->catalog, api_query(request, "app"),
			  api_query(request, "environment"), 1000, &scratch, &items, &count, e));
	struct buf text CLEANUP(buf_done) = buf_init(API_TEXT_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_put_cstr(&w, "version", HOLDFAST_VERSION);
	api_put_time(&w, "started", api->started);
	json_key(&w, "environments");
	json_begin_array(&w);
	for (size_t i = 0; i < count && environments < STATUS_ENVIRONMENTS_MAX; i++) {
		if (seen_before(items, i))
			continue;
		environments++;
		TRY(write_environment(api, &w, &items[i], &scratch, e));
	}
	json_end_array(&w);
	json_end_object(&w);
	http_response_set_body(response, "application/json", &text);
	return OK;
}

static errc set_secret(struct api *api, struct http_request *request,
		       struct http_response *response, str value, struct err *e)
{
	struct arena *scratch = http_request_arena(request);
	const char *app = api_param(request, "app"),
		   *environment = api_param(request, "environment");
	const char *name = api_param(request, "name");
	int64_t version = 0;
	TRY(arena_check(scratch, "the request", e));
	api_audit_detail(request, arena_printf(scratch, "%s/%s/%s", app, environment, name), NULL);
	if (!str_is_name(str_c(app), NAME_MAX_BYTES) ||
	    !str_is_name(str_c(environment), NAME_MAX_BYTES))
		FAIL(e, ERR_INVALID,
		     "names of applications and environments are a-z, 0-9 and -, at most %d",
		     NAME_MAX_BYTES);
	TRY(secrets_set(api->context->catalog, app, environment, name, value,
			api_identity_of(request)->actor, &version, e));
	char *text = arena_printf(scratch, "{\"version\":%lld}", (long long)version);
	http_response_set_text(response, "application/json", str_c(text));
	return OK;
}

static errc put_secret(struct api *api, struct http_request *request,
		       struct http_response *response, struct err *e)
{
	str value = http_request_body(request);
	if (value.len == 0)
		FAIL(e, ERR_INVALID,
		     "the value is empty; `holdfast secret remove` removes a secret");
	return set_secret(api, request, response, value, e);
}

static errc remove_secret(struct api *api, struct http_request *request,
			  struct http_response *response, struct err *e)
{
	return set_secret(api, request, response, (str){ NULL, 0 }, e);
}

static errc list_secrets(struct api *api, struct http_request *request,
			 struct http_response *response, struct err *e)
{
	struct secret *items = NULL;
	size_t count = 0;
	struct arena scratch CLEANUP(arena_done) = arena_init(API_TEXT_MAX);
	TRY(secrets_names(api->context->catalog, api_param(request, "app"),
			  api_param(request, "environment"), &scratch, &items, &count, e));
	struct buf text = buf_init(API_TEXT_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_key(&w, "secrets");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++) {
		json_begin_object(&w);
		json_put_cstr(&w, "name", items[i].name);
		json_put_i64(&w, "version", items[i].version);
		api_put_time(&w, "created", items[i].created);
		json_put_cstr(&w, "actor", items[i].actor);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_end_object(&w);
	http_response_set_body(response, "application/json", &text);
	return OK;
}

/* An artifact's documents: manifest, bill of materials, provenance. */
static errc get_artifact(struct api *api, struct http_request *request,
			 struct http_response *response, struct err *e)
{
	struct digest digest;
	const char *which = api_param(request, "document");
	struct buf text CLEANUP(buf_done) = buf_init(API_TEXT_MAX);
	TRY(artifact_find(api->context->artifacts, http_request_param(request, "digest"), &digest,
			  e));
	bool sbom = strcmp(which, "sbom") == 0;
	if (!sbom && strcmp(which, "provenance") != 0)
		FAIL(e, ERR_NOT_FOUND, "an artifact has the documents sbom and provenance");
	TRY(artifact_document(api->context->artifacts, &digest,
			      sbom ? ARTIFACT_SBOM : ARTIFACT_PROVENANCE, &text, e));
	http_response_set_body(response, "application/json", &text);
	return OK;
}

const struct api_route api_catalog_routes[] = {
	{ "GET", "/holdfast/v1/releases", 0, ROLE_VIEWER, NULL, list_releases },
	{ "GET", "/holdfast/v1/status", 0, ROLE_VIEWER, NULL, get_status },
	{ "GET", "/holdfast/v1/secrets/:app/:environment", 0, ROLE_OPERATOR, NULL, list_secrets },
	{ "PUT", "/holdfast/v1/secrets/:app/:environment/:name", SECRET_BYTES_MAX, ROLE_ADMIN,
	  "secret.set", put_secret },
	{ "DELETE", "/holdfast/v1/secrets/:app/:environment/:name", 0, ROLE_ADMIN, "secret.remove",
	  remove_secret },
	{ "GET", "/holdfast/v1/artifacts/:digest/:document", 0, ROLE_VIEWER, NULL, get_artifact },
};
const size_t api_catalog_route_count = ARRAY_COUNT(api_catalog_routes);
