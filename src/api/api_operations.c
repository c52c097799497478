/* Builds, deploys, rollbacks: asking for them, following them, cancelling them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/api_json.h"
#include "base/checks.h"
#include "catalog/operations.h"
#include "catalog/releases.h"
#include "codec/json.h"
#include "os/clock.h"
#include "spec/spec.h"

enum {
	EVENTS_PER_PULL = 64,
	PULL_BYTES = HTTP_STREAM_BYTES_MAX / 4, /* then the next pull goes on */
	WAIT_MS_MAX = 3600000
};

/* The body of a build or deploy: checked, and brought into the form that the operation keeps. */
struct wish {
	struct arena *request;
	const struct json *body;
	str specification;
	const char *file;
	const char *environment;
	const char *source; /* "" when there is none */
	const char *artifact;
	const struct spec *spec;
};

static errc read_wish(struct http_request *request, struct http_response *response, struct wish *w,
		      struct err *e)
{
	w->request = http_request_arena(request);
	TRY(http_request_expect_type(request, "application/json", response, e));
	TRY(json_parse(w->request, http_request_body(request), API_BODY_MAX, &w->body, e));
	str environment;
	TRY(json_need_str(w->body, "specification", &w->specification, e));
	TRY(json_need_str(w->body, "environment", &environment, e));
	w->environment = environment.ptr;
	w->file = json_cstr(json_get(w->body, "file"));
	w->source = json_cstr(json_get(w->body, "source"));
	w->artifact = json_cstr(json_get(w->body, "artifact"));
	if (!w->file[0])
		w->file = "holdfast.yml";
	if (w->source[0] && w->source[0] != '/')
		FAIL(e, ERR_INVALID, "\"source\" must be an absolute path");
	struct spec_problems problems = { 0 };
	TRY(spec_parse(w->request, w->specification, w->file, &w->spec, &problems, e));
	const struct spec_environment *found = NULL;
	return spec_environment_find(w->spec, w->environment, &found, e);
}

/* Paths of other folders of this machine are for those who are on it. */
static errc check_source(const struct http_request *request, const struct wish *w, struct err *e)
{
	if (w->source[0] && http_request_peer(request)->kind != HTTP_PEER_UNIX)
		FAIL(e, ERR_FORBIDDEN,
		     "a source folder can only be named over the daemon's own socket; build there, "
		     "and "
		     "deploy here with --artifact");
	return OK;
}

static errc submit(struct api *api, struct http_request *request, struct http_response *response,
		   struct operation *o, struct err *e)
{
	const struct api_identity *identity = api_identity_of(request);
	struct arena *scratch = http_request_arena(request);
	str_copy(str_c(identity->actor), o->actor, sizeof(o->actor));
	TRY(arena_check(scratch, "the request", e));
	TRY(operations_put(api->context->catalog, o, e));
	api_audit_detail(request, arena_printf(scratch, "%s/%s", o->app, o->environment),
			 arena_printf(scratch, "{\"operation\":\"%s\"}", o->id));
	struct buf text = buf_init(API_TEXT_MAX);
	struct json_writer w = json_writer_init(&text, false);
	api_write_operation(&w, o);
	http_response_set_status(response, 202);
	http_response_set_body(response, "application/json", &text);
	return OK;
}

static int64_t wait_of(const struct json *body)
{
	int64_t ms = json_i64(json_get(body, "wait_ms"), 0);
	return ms < 0 ? 0 : ms > WAIT_MS_MAX ? WAIT_MS_MAX : ms;
}

static const char *write_request(const struct wish *w)
{
	struct buf text CLEANUP(buf_done) = buf_init(API_BODY_MAX + 65536);
	struct json_writer out = json_writer_init(&text, false);
	json_begin_object(&out);
	json_put_str(&out, "specification", w->specification);
	json_put_cstr(&out, "file", w->file);
	json_put_cstr(&out, "source", w->source);
	json_put_cstr(&out, "artifact", w->artifact);
	json_put_i64(&out, "wait_ms", wait_of(w->body));
	json_put_bool(&out, "dry_run", json_bool(json_get(w->body, "dry_run"), false));
	json_end_object(&out);
	return arena_cstr(w->request, buf_str(&text));
}

static errc name_operation(struct operation *o, const char *kind, const char *app,
			   const char *environment, struct err *e)
{
	if (!str_is_name(str_c(app), NAME_MAX_BYTES) ||
	    !str_is_name(str_c(environment), NAME_MAX_BYTES))
		FAIL(e, ERR_INVALID,
		     "names of applications and environments are a-z, 0-9 and -, at most %d",
		     NAME_MAX_BYTES);
	str_copy(str_c(kind), o->kind, sizeof(o->kind));
	str_copy(str_c(app), o->app, sizeof(o->app));
	str_copy(str_c(environment), o->environment, sizeof(o->environment));
	return OK;
}

static errc post_build(struct api *api, struct http_request *request,
		       struct http_response *response, struct err *e)
{
	struct wish w = { 0 };
	struct operation o = { 0 };
	TRY(read_wish(request, response, &w, e));
	TRY(check_source(request, &w, e));
	if (!w.source[0])
		FAIL(e, ERR_INVALID, "\"source\" is missing: the folder to build");
	TRY(name_operation(&o, "build", w.spec->app, w.environment, e));
	o.request = write_request(&w);
	return submit(api, request, response, &o, e);
}

static errc post_deploy(struct api *api, struct http_request *request,
			struct http_response *response, struct err *e)
{
	struct wish w = { 0 };
	struct operation o = { 0 };
	TRY(read_wish(request, response, &w, e));
	TRY(check_source(request, &w, e));
	if (!w.source[0] && !w.artifact[0])
		FAIL(e, ERR_INVALID, "either \"source\" or \"artifact\" must say what to deploy");
	TRY(name_operation(&o, "deploy", w.spec->app, w.environment, e));
	o.request = write_request(&w);
	return submit(api, request, response, &o, e);
}

static errc post_rollback(struct api *api, struct http_request *request,
			  struct http_response *response, struct err *e)
{
	struct arena *scratch = http_request_arena(request);
	struct operation o = { 0 };
	const struct json *body = NULL;
	str app, environment;
	TRY(http_request_expect_type(request, "application/json", response, e));
	TRY(json_parse(scratch, http_request_body(request), API_BODY_MAX, &body, e));
	TRY(json_need_str(body, "app", &app, e));
	TRY(json_need_str(body, "environment", &environment, e));
	int64_t to = json_i64(json_get(body, "to"), 0);
	if (to < 0)
		FAIL(e, ERR_INVALID, "\"to\" must be the number of a release");
	TRY(name_operation(&o, "rollback", app.ptr, environment.ptr, e));
	o.request = arena_printf(scratch, "{\"to\":%lld,\"wait_ms\":%lld,\"dry_run\":%s}",
				 (long long)to, (long long)wait_of(body),
				 json_bool(json_get(body, "dry_run"), false) ? "true" : "false");
	return submit(api, request, response, &o, e);
}

static errc get_operation(struct api *api, struct http_request *request,
			  struct http_response *response, struct err *e)
{
	struct operation o;
	TRY(operations_get(api->context->catalog, api_param(request, "id"),
			   http_request_arena(request), &o, e));
	struct buf text = buf_init(API_TEXT_MAX);
	struct json_writer w = json_writer_init(&text, false);
	api_write_operation(&w, &o);
	http_response_set_body(response, "application/json", &text);
	return OK;
}

static errc list_operations(struct api *api, struct http_request *request,
			    struct http_response *response, struct err *e)
{
	struct operation *items = NULL;
	size_t count = 0;
	struct arena scratch CLEANUP(arena_done) = arena_init(API_TEXT_MAX);
	struct operation_filter filter = { .kind = api_query(request, "kind"),
					   .app = api_query(request, "app"),
					   .environment = api_query(request, "environment"),
					   .unfinished = api_query(request, "unfinished") != NULL,
					   .limit = 100 };
	TRY(operations_list(api->context->catalog, &filter, &scratch, &items, &count, e));
	struct buf text = buf_init(API_TEXT_MAX);
	struct json_writer w = json_writer_init(&text, false);
	json_begin_object(&w);
	json_key(&w, "operations");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		api_write_operation(&w, &items[i]);
	json_end_array(&w);
	json_end_object(&w);
	http_response_set_body(response, "application/json", &text);
	return OK;
}

static errc post_cancel(struct api *api, struct http_request *request,
			struct http_response *response, struct err *e)
{
	const char *id = api_param(request, "id");
	struct operation o;
	TRY(operations_get(api->context->catalog, id, http_request_arena(request), &o, e));
	TRY(operations_cancel(api->context->catalog, id, e));
	api_audit_detail(request, id, NULL);
	http_response_set_status(response, 202);
	http_response_set_text(response, "application/json", STR("{}"));
	return OK;
}

/* ---- The events of one operation as NDJSON, from after a sequence number to the end. */

struct follower {
	struct catalog *catalog;
	struct http_stream *stream; /* NULL once the stream is done */
	pthread_mutex_t lock;
	char id[OPERATION_ID_SIZE];
	int64_t after;
};

static void note_operation(void *ctx, enum bus_topic topic, str subject)
{
	struct follower *f = ctx;
	(void)topic;
	if (!str_eq_c(subject, f->id))
		return;
	pthread_mutex_lock(&f->lock);
	if (f->stream)
		http_stream_wake(f->stream);
	pthread_mutex_unlock(&f->lock);
}

static errc pull_events(void *ctx, struct buf *into, bool *ret_end, struct err *e)
{
	struct follower *f = ctx;
	struct arena scratch CLEANUP(arena_done) = arena_init(API_TEXT_MAX);
	struct operation o;
	struct operation_event *events = NULL;
	size_t count = 0;
	/* the state first: once it is final, no event comes after those read next */
	TRY(operations_get(f->catalog, f->id, &scratch, &o, e));
	TRY(operations_events(f->catalog, f->id, f->after, EVENTS_PER_PULL, &scratch, &events,
			      &count, e));
	size_t written = 0;
	for (; written < count && into->len < PULL_BYTES; written++) {
		struct json_writer w = json_writer_init(into, false);
		api_write_event(&w, &events[written]);
		buf_add_byte(into, '\n');
		f->after = events[written].sequence;
	}
	if (o.state < OPERATION_SUCCEEDED || written < count || count == EVENTS_PER_PULL)
		return OK;
	struct json_writer w = json_writer_init(into, false);
	json_begin_object(&w);
	json_key(&w, "operation");
	api_write_operation(&w, &o);
	json_end_object(&w);
	buf_add_byte(into, '\n');
	*ret_end = true;
	return OK;
}

static void done_following(void *ctx)
{
	struct follower *f = ctx;
	pthread_mutex_lock(&f->lock);
	f->stream = NULL;
	pthread_mutex_unlock(&f->lock);
	bus_unsubscribe(catalog_bus(f->catalog), note_operation, f);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static const struct http_stream_ops follow_ops = { .pull = pull_events, .done = done_following };

static errc follow_operation(struct api *api, struct http_request *request,
			     struct http_response *response, struct err *e)
{
	struct operation o;
	uint64_t after = 0;
	str after_text = http_request_query(request, "after");
	if (after_text.ptr && !str_to_u64(after_text, &after))
		FAIL(e, ERR_INVALID, "\"after\" must be the sequence number of an event");
	TRY(operations_get(api->context->catalog, api_param(request, "id"),
			   http_request_arena(request), &o, e));
	struct follower *f = must_calloc(1, sizeof(*f));
	f->catalog = api->context->catalog;
	f->after = (int64_t)after;
	memcpy(f->id, o.id, sizeof(f->id));
	pthread_mutex_init(&f->lock, NULL);
	f->stream = http_response_stream(response, HTTP_STREAM_NDJSON, &follow_ops, f);
	/* on failure the server calls done_following() */
	if (!bus_subscribe(catalog_bus(f->catalog), BUS_OPERATION, note_operation, f))
		FAIL(e, ERR_BUSY, "too many clients follow operations; try again shortly");
	return OK;
}

const struct api_route api_operation_routes[] = {
	{ "POST", "/holdfast/v1/builds", API_BODY_MAX, ROLE_OPERATOR, "build", post_build },
	{ "POST", "/holdfast/v1/deploys", API_BODY_MAX, ROLE_OPERATOR, "deploy", post_deploy },
	{ "POST", "/holdfast/v1/rollbacks", 65536, ROLE_OPERATOR, "rollback", post_rollback },
	{ "GET", "/holdfast/v1/operations", 0, ROLE_VIEWER, NULL, list_operations },
	{ "GET", "/holdfast/v1/operations/:id", 0, ROLE_VIEWER, NULL, get_operation },
	{ "GET", "/holdfast/v1/operations/:id/events", 0, ROLE_VIEWER, NULL, follow_operation },
	{ "POST", "/holdfast/v1/operations/:id/cancel", 1024, ROLE_OPERATOR, "cancel",
	  post_cancel },
};
const size_t api_operation_route_count = ARRAY_COUNT(api_operation_routes);
