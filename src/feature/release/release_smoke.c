/* Smoke tests: requests to each new instance, before it gets any other. */
#include <stdio.h>
#include <string.h>

#include "base/checks.h"
#include "feature/release/release_internal.h"
#include "net/http_client.h"
#include "os/clock.h"

enum {
	SCRATCH_BYTES = 32 * 1024 * 1024,
	BODY_MAX = 4 * 1024 * 1024,
	HEADERS_MAX = 64,
	RETRY_MS = 300
};

static errc check_headers(const struct spec_smoke *test, const struct http_fetch_response *response,
			  struct err *e)
{
	for (size_t i = 0; i < test->header_contains.count; i++) {
		const struct spec_variable *wanted = &test->header_contains.items[i];
		str value = http_fetch_response_header(response, wanted->name);
		if (!value.ptr || str_find(value, str_c(wanted->value)) < 0)
			FAIL(e, ERR_FAILED, "the header %s is \"%.*s\", which has no \"%s\"",
			     wanted->name, STR_ARG(value), wanted->value);
	}
	return OK;
}

static errc check_response(const struct spec_smoke *test,
			   const struct http_fetch_response *response, struct err *e)
{
	str body = buf_str(&response->body);
	int shown = body.len < 200 ? (int)body.len : 200;
	if (response->status != test->status)
		FAIL(e, ERR_FAILED, "the status is %d, not %d; the body begins: %.*s",
		     response->status, test->status, shown, body.ptr);
	if (test->contains && str_find(body, str_c(test->contains)) < 0)
		FAIL(e, ERR_FAILED, "the body has no \"%s\"; it begins: %.*s", test->contains,
		     shown, body.ptr);
	return check_headers(test, response, e);
}

static errc ask(const struct release_run *run, const struct spec_smoke *test, int port,
		struct err *e)
{
	char url[2048], host[300];
	struct http_fetch_header headers[HEADERS_MAX + 1];
	size_t count = 0;
	int n = snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", port, test->path);
	if (n < 0 || n >= (int)sizeof(url))
		FAIL(e, ERR_LIMIT, "the path is too long");
	snprintf(host, sizeof(host), "%s:%d", run->environment->listen_host,
		 run->environment->listen_port);
	headers[count++] = (struct http_fetch_header){ "host", host };
	for (size_t i = 0; i < test->headers.count && count < HEADERS_MAX; i++)
		headers[count++] = (struct http_fetch_header){ test->headers.items[i].name,
							       test->headers.items[i].value };
	struct http_fetch_request request = { .method = test->method,
					      .url = url,
					      .headers = headers,
					      .header_count = count,
					      .body = str_c(test->body),
					      .total_ms_max = test->timeout_ms,
					      .response_bytes_max = BODY_MAX };
	struct http_fetch_response response;
	TRY(http_fetch(&request, &response, e));
	errc rc = check_response(test, &response, e);
	http_fetch_response_done(&response);
	return rc;
}

static errc run_test(struct release_run *run, const struct spec_smoke *test,
		     const struct instance *i, struct err *e)
{
	errc rc = OK;
	for (int64_t attempt = 1; attempt <= test->attempts; attempt++) {
		rc = ask(run, test, i->port, e);
		if (rc == OK)
			return OK;
		if (attempt < test->attempts)
			TRY(release_pause(run, release_sequence(run), RETRY_MS, e));
	}
	err_prepend(e, "the smoke test \"%s\" (%s %s) failed at %s", test->name, test->method,
		    test->path, i->id);
	release_add_output(run, i, e);
	return rc;
}

errc release_step_smoke(struct release_run *run, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(SCRATCH_BYTES);
	const struct spec_deploy *deploy = &run->environment->deploy;
	struct instance *items = NULL;
	size_t count = 0, done = 0;
	TRY(release_instances(run, run->next.number, &scratch, &items, &count, e));
	for (size_t k = 0; k < count; k++) {
		if (!items[k].in_proxy)
			continue;
		for (size_t i = 0; i < deploy->smoke_count; i++, done++)
			TRY(run_test(run, &deploy->smoke[i], &items[k], e));
	}
	if (done)
		release_say(run, EVENT_PROGRESS, "%zu smoke tests passed", done);
	return OK;
}
