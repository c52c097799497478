/* The API over a real server: who may do what, what is recorded, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/api.h"
#include "base/checks.h"
#include "catalog/operations.h"
#include "catalog/releases.h"
#include "catalog/secrets.h"
#include "codec/json.h"
#include "net/http_client.h"
#include "os/io.h"

struct fixture {
	char root[64];
	char socket[100];
	int port;
	struct feature_context context;
	struct api api;
	struct http_route *routes;
	size_t route_count;
	struct http_server *server;
	char tokens[ROLE_ADMIN + 1][TOKEN_TEXT_SIZE]; /* by role; that of ROLE_NONE is revoked */
	struct arena scratch;
};

static errc open_all(struct fixture *f, struct err *e)
{
	char path[128];
	struct token token;
	TRY(catalog_open(f->root, &f->context.catalog, e));
	snprintf(path, sizeof(path), "%s/keys", f->root);
	TRY(signing_open(path, &f->context.signing, e));
	snprintf(path, sizeof(path), "%s/artifacts", f->root);
	TRY(artifact_store_open(path, f->context.signing, &f->context.artifacts, e));
	for (enum access_role r = ROLE_NONE; r <= ROLE_ADMIN; r++)
		TRY(tokens_create(f->context.catalog, "bot", r ? r : ROLE_ADMIN, 1, f->tokens[r],
				  &token, e));
	TRY(tokens_check(f->context.catalog, str_c(f->tokens[ROLE_NONE]), &token, e));
	TRY(tokens_revoke(f->context.catalog, token.id, e));
	f->context.executor = executor_new("worker", 4, 64);
	f->routes = api_routes_new(&f->api, &f->route_count);
	struct http_server_options options = { .executor = f->context.executor,
					       .routes = f->routes,
					       .route_count = f->route_count,
					       .authorize = api_authorize,
					       .authorize_ctx = &f->api };
	TRY(http_server_new(&options, &f->server, e));
	TRY(http_server_listen_unix(f->server, f->socket, e));
	TRY(http_server_listen_tcp(f->server, "127.0.0.1:0", &f->port, e));
	return http_server_start(f->server, e);
}

static int set_up(void **state)
{
	struct fixture *f = must_calloc(1, sizeof(*f));
	struct err e = { 0 };
	snprintf(f->root, sizeof(f->root), "/tmp/holdfast-api-XXXXXX");
	if (!mkdtemp(f->root))
		return -1;
	snprintf(f->socket, sizeof(f->socket), "%s/s.sock", f->root);
	f->context.data = f->root;
	f->api.context = &f->context;
	f->scratch = arena_init(64 << 20);
	if (open_all(f, &e) != OK) {
		print_error("%s\n", e.message);
		return -1;
	}
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	http_server_stop(f->server, 1000);
	http_server_free(f->server);
	api_routes_free(f->routes, f->route_count);
	executor_free(f->context.executor);
	artifact_store_close(f->context.artifacts);
	signing_close(f->context.signing);
	catalog_close(f->context.catalog);
	arena_done(&f->scratch);
	errc rc = io_remove_tree(f->root, NULL);
	free(f);
	return rc == OK ? 0 : -1;
}

struct reply {
	int status;
	const char *text;
	const struct json *json; /* NULL when it is none */
};

/* TOKEN NULL: over the unix socket; "": over TCP without one. */
static struct reply ask(struct fixture *f, const char *token, const char *method, const char *path,
			const char *body)
{
	char *url = arena_printf(&f->scratch, "http://127.0.0.1:%d%s", f->port, path);
	struct http_fetch_header headers[2] = { { "content-type", "application/json" } };
	struct http_fetch_request request = { .method = method,
					      .url = url,
					      .headers = headers,
					      .header_count = 1,
					      .body = str_c(body),
					      .unix_path = token ? NULL : f->socket,
					      .response_bytes_max = 16 << 20 };
	struct http_fetch_response response;
	struct reply reply = { 0 };
	struct err e = { 0 };
	if (token && token[0])
		headers[request.header_count++] = (struct http_fetch_header){
			"authorization", arena_printf(&f->scratch, "Bearer %s", token)
		};
	if (http_fetch(&request, &response, &e) != OK)
		fail_msg("%s %s: %s", method, path, e.message);
	reply.status = response.status;
	reply.text = arena_cstr(&f->scratch, buf_str(&response.body));
	if (json_parse(&f->scratch, str_c(reply.text), 16 << 20, &reply.json, NULL) != OK)
		reply.json = NULL;
	http_fetch_response_done(&response);
	return reply;
}

/* The path of PATTERN with something for each parameter. */
static const char *fill(struct fixture *f, const char *pattern)
{
	struct buf b = buf_init(1000);
	for (const char *p = pattern; *p; p++) {
		buf_add_byte(&b, *p);
		if (*p != ':')
			continue;
		b.len--;
		buf_add_c(&b, "nothing");
		while (p[1] && p[1] != '/')
			p++;
	}
	const char *path = arena_cstr(&f->scratch, buf_str(&b));
	buf_done(&b);
	return path;
}

static void each_route_asks_for_its_role(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const struct api_route *routes;
		const size_t *count;
	} tables[] = { { api_operation_routes, &api_operation_route_count },
		       { api_catalog_routes, &api_catalog_route_count },
		       { api_access_routes, &api_access_route_count },
		       { api_health_routes, &api_health_route_count } };
	for (size_t t = 0; t < ARRAY_COUNT(tables); t++) {
		for (size_t i = 0; i < *tables[t].count; i++) {
			const struct api_route *route = &tables[t].routes[i];
			const char *path = fill(f, route->pattern);
			const char *body = route->body_bytes_max ? "{}" : "";
			/* what changes something needs more than looking does */
			assert_true(!route->action || route->role >= ROLE_OPERATOR);
			for (enum access_role r = ROLE_VIEWER; r <= ROLE_ADMIN; r++) {
				int status = ask(f, f->tokens[r], route->method, path, body).status;
				if ((status == 403) != (r < route->role) || status == 401)
					fail_msg("%s %s as %s: %d", route->method, path,
						 access_role_text(r), status);
			}
			int nobody = ask(f, "", route->method, path, body).status;
			int revoked =
				ask(f, f->tokens[ROLE_NONE], route->method, path, body).status;
			if ((nobody == 401) != (route->role > ROLE_NONE) || revoked != 401)
				fail_msg("%s %s: %d %d", route->method, path, nobody, revoked);
			int local = ask(f, NULL, route->method, path, body).status;
			assert_true(local != 401 && local != 403);
		}
	}
}

static void wrong_authorizations_are_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const wrong[] = { "x", "hf_", "hf_000000000000_0", " ", "hf hf" };
	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
		struct reply r = ask(f, wrong[i], "GET", "/holdfast/v1/releases", "");
		assert_int_equal(r.status, 401);
		assert_non_null(r.json);
	}
}

static const char *audited(struct fixture *f, size_t at, const char *key)
{
	const struct json *list = json_get(ask(f, NULL, "GET", "/holdfast/v1/audit", "").json,
					   "audit");
	assert_true(list && at < list->count);
	return json_cstr(json_get(&list->items[at], key));
}

static void actions_are_recorded_with_their_outcome(void **state)
{
	struct fixture *f = *state;
	const char *put = "/holdfast/v1/secrets/shop/production/KEY";
	assert_int_equal(ask(f, f->tokens[ROLE_ADMIN], "PUT", put, "the value").status, 200);
	assert_string_equal(audited(f, 0, "outcome"), "ok");
	assert_string_equal(audited(f, 0, "target"), "shop/production/KEY");
	assert_string_equal(audited(f, 0, "actor"), "token:bot");
	assert_int_equal(ask(f, f->tokens[ROLE_VIEWER], "PUT", put, "the value").status, 403);
	assert_string_equal(audited(f, 0, "outcome"), "forbidden");
	assert_string_equal(audited(f, 0, "role"), "viewer");
	assert_int_equal(
		ask(f, NULL, "PUT", "/holdfast/v1/secrets/shop/production/1BAD", "v").status, 400);
	assert_string_equal(audited(f, 0, "outcome"), "invalid");
	assert_int_equal(strncmp(audited(f, 0, "peer"), "unix:pid ", 9), 0);
	struct reply all = ask(f, NULL, "GET", "/holdfast/v1/audit", "");
	assert_null(strstr(all.text, "the value"));
	assert_null(strstr(all.text, f->tokens[ROLE_ADMIN]));
	/* looking is not recorded */
	size_t count = json_get(all.json, "audit")->count;
	ask(f, NULL, "GET", "/holdfast/v1/releases", "");
	all = ask(f, NULL, "GET", "/holdfast/v1/audit", "");
	assert_int_equal(json_get(all.json, "audit")->count, count);
}

/* Whoever reaches the port can be refused as often as they like: that fills no disk. */
static void refusals_of_strangers_are_recorded_a_few_times(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 150; i++)
		assert_int_equal(ask(f, "", "POST", "/holdfast/v1/rollbacks", "{}").status, 401);
	struct reply all = ask(f, NULL, "GET", "/holdfast/v1/audit?limit=1000", "");
	/* the minute may have changed in between */
	assert_in_range(json_get(all.json, "audit")->count, 60, 120);
	/* those of somebody known are, each */
	size_t count = json_get(all.json, "audit")->count;
	for (int i = 0; i < 70; i++)
		assert_int_equal(
			ask(f, f->tokens[ROLE_VIEWER], "POST", "/holdfast/v1/rollbacks", "{}")
				.status,
			403);
	all = ask(f, NULL, "GET", "/holdfast/v1/audit?limit=1000", "");
	assert_int_equal(json_get(all.json, "audit")->count, count + 70);
}

static const char spec[] = "app: shop\\nservices: { web: { command: a, traffic: true, ready: / } }"
			   "\\nenvironments: { production: { listen: 127.0.0.1:8080 } }\\n";

static void a_source_is_for_those_on_the_machine(void **state)
{
	struct fixture *f = *state;
	static const char *const paths[] = { "/holdfast/v1/builds", "/holdfast/v1/deploys" };
	char *body = arena_printf(&f->scratch,
				  "{\"specification\":\"%s\",\"environment\":\"production\","
				  "\"source\":\"/etc\"}",
				  spec);
	char *relative = arena_printf(&f->scratch,
				      "{\"specification\":\"%s\",\"environment\":\"production\","
				      "\"source\":\"../etc\"}",
				      spec);
	for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
		assert_int_equal(ask(f, f->tokens[ROLE_ADMIN], "POST", paths[i], body).status, 403);
		assert_int_equal(ask(f, NULL, "POST", paths[i], relative).status, 400);
		assert_int_equal(ask(f, NULL, "POST", paths[i], body).status, 202);
	}
	struct operation_filter all = { 0 };
	struct operation *items = NULL;
	size_t count = 0;
	assert_int_equal(
		operations_list(f->context.catalog, &all, &f->scratch, &items, &count, NULL), OK);
	assert_int_equal(count, 2);
}

static void names_cannot_leave_their_folder(void **state)
{
	struct fixture *f = *state;
	static const char *const bodies[] = {
		"{\"app\":\"../x\",\"environment\":\"production\"}",
		"{\"app\":\"shop\",\"environment\":\"a/b\"}",
		"{\"app\":\"\",\"environment\":\"production\"}",
		"{\"app\":\"shop\",\"environment\":\".\"}",
		"{\"app\":\"a\\u0000b\",\"environment\":\"production\"}",
		"{\"app\":\"shop\",\"environment\":\"production\",\"to\":-1}",
		"{\"app\":\"shop\"}",
		"[]",
		"null",
		"{",
		"",
	};
	for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
		int status = ask(f, NULL, "POST", "/holdfast/v1/rollbacks", bodies[i]).status;
		if (status < 400 || status > 499)
			fail_msg("%s: %d", bodies[i], status);
	}
	static const char *const secrets[] = { "/holdfast/v1/secrets/%2e%2e/production/KEY",
					       "/holdfast/v1/secrets/shop/a%2fb/KEY",
					       "/holdfast/v1/secrets/shop/production/A%00B",
					       "/holdfast/v1/secrets/shop/production/A=B" };
	for (size_t i = 0; i < ARRAY_COUNT(secrets); i++)
		assert_in_range(ask(f, NULL, "PUT", secrets[i], "x").status, 400, 499);
}

static void a_wait_has_its_bounds(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *wait;
		const char *kept;
	} cases[] = { { "9223372036854775807", "\"wait_ms\":3600000" },
		      { "-9223372036854775808", "\"wait_ms\":0" },
		      { "5000", "\"wait_ms\":5000" },
		      { "\"x\"", "\"wait_ms\":0" } };
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct operation o;
		char *body = arena_printf(&f->scratch,
					  "{\"app\":\"shop\",\"environment\":\"production\","
					  "\"wait_ms\":%s}",
					  cases[i].wait);
		struct reply r = ask(f, NULL, "POST", "/holdfast/v1/rollbacks", body);
		assert_int_equal(r.status, 202);
		assert_int_equal(operations_get(f->context.catalog,
						json_cstr(json_get(r.json, "id")), &f->scratch, &o,
						NULL),
				 OK);
		assert_non_null(strstr(o.request, cases[i].kept));
	}
}

static void secrets_are_never_given_back(void **state)
{
	struct fixture *f = *state;
	const char *put = "/holdfast/v1/secrets/shop/production/KEY";
	assert_int_equal(ask(f, NULL, "PUT", put, "correct horse").status, 200);
	struct reply r = ask(f, NULL, "GET", "/holdfast/v1/secrets/shop/production", "");
	assert_int_equal(r.status, 200);
	assert_non_null(strstr(r.text, "KEY"));
	assert_null(strstr(r.text, "horse"));
	struct secret *items = NULL;
	size_t count = 0;
	assert_int_equal(secrets_open(f->context.catalog, "shop", "production", INT64_MAX,
				      &f->scratch, &items, &count, NULL),
			 OK);
	assert_int_equal(count, 1);
	assert_string_equal(items[0].value.ptr, "correct horse");
	assert_int_equal(ask(f, NULL, "DELETE", put, "").status, 200);
	assert_int_equal(ask(f, NULL, "PUT", put, "").status, 400);
}

/* ---- Following. */

struct follow {
	struct fixture *fixture;
	const char *id;
	int64_t last;
	int lines;
	bool ended;
};

static bool take_line(void *ctx, str line)
{
	struct follow *w = ctx;
	struct arena a = arena_init(1 << 20);
	const struct json *v = NULL;
	assert_int_equal(json_parse(&a, line, 1 << 20, &v, NULL), OK);
	int64_t sequence = json_i64(json_get(v, "sequence"), 0);
	if (sequence) {
		assert_true(sequence > w->last);
		w->last = sequence;
		w->lines++;
	}
	w->ended |= json_get(v, "operation") != NULL;
	/* the operation goes on while it is followed */
	struct catalog *c = w->fixture->context.catalog;
	if (w->lines == 150)
		assert_int_equal(operations_finish(c, w->id, OPERATION_SUCCEEDED, NULL, "{}", NULL),
				 OK);
	else if (w->lines >= 100 && w->lines < 150 && sequence)
		operations_event(c, w->id, EVENT_PROGRESS, "x", NULL, "more");
	arena_done(&a);
	return true;
}

static void a_follower_gets_every_event_once(void **state)
{
	struct fixture *f = *state;
	struct operation o = { .kind = "deploy",
			       .app = "shop",
			       .environment = "production",
			       .actor = "me",
			       .request = "{}" };
	char message[4000];
	struct err e = { 0 };
	assert_int_equal(operations_put(f->context.catalog, &o, &e), OK);
	memset(message, 1, sizeof(message) - 1); /* six bytes of JSON each */
	message[sizeof(message) - 1] = '\0';
	for (int i = 0; i < 100; i++)
		operations_event(f->context.catalog, o.id, EVENT_OUTPUT, "x", NULL, "%s", message);
	struct follow w = { .fixture = f, .id = o.id };
	struct http_fetch_request request = {
		.url = arena_printf(&f->scratch,
				    "http://127.0.0.1:%d/holdfast/v1/operations/%s/events", f->port,
				    o.id),
		.unix_path = f->socket,
		.line = take_line,
		.ctx = &w
	};
	struct http_fetch_response response;
	if (http_fetch(&request, &response, &e) != OK)
		fail_msg("%s", e.message);
	http_fetch_response_done(&response);
	assert_int_equal(w.lines, 150);
	assert_true(w.ended);
}

#define API_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(each_route_asks_for_its_role),
		API_TEST(wrong_authorizations_are_refused),
		API_TEST(actions_are_recorded_with_their_outcome),
		API_TEST(refusals_of_strangers_are_recorded_a_few_times),
		API_TEST(a_source_is_for_those_on_the_machine),
		API_TEST(names_cannot_leave_their_folder),
		API_TEST(a_wait_has_its_bounds),
		API_TEST(secrets_are_never_given_back),
		API_TEST(a_follower_gets_every_event_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
