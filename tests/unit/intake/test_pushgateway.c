#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "intake/pushgateway.h"
#include "intake_fixture.h"

struct gateway {
	struct intake_fixture f;
	struct pushgateway *g;
};

static int open_gateway(void **state)
{
	struct gateway *w = must_calloc(1, sizeof(*w));
	fixture_open(&w->f, 0);
	w->g = pushgateway_new();
	*state = w;
	return 0;
}

static int close_gateway(void **state)
{
	struct gateway *w = *state;
	pushgateway_free(w->g);
	fixture_close(&w->f);
	free(w);
	return 0;
}

static errc push(struct gateway *w, enum pushgateway_method method, const char *path,
		 const char *body)
{
	fixture_error = (struct err){ 0 };
	return pushgateway_push(w->g, method, str_c(path), SCRAPE_TEXT, str_c(body),
				FIXTURE_NOW - 5000, &fixture_error);
}

static const char *expose(struct gateway *w, time_ms before)
{
	assert_ok(pushgateway_expose(w->g, w->f.batch, FIXTURE_NOW - before, &w->f.result,
				     &fixture_error));
	fixture_commit(&w->f);
	return fixture_dump(&w->f);
}

#define TIMES(labels, at)                                  \
	"push_failure_time_seconds{" labels "} 0@" at "\n" \
	"push_time_seconds{" labels "} 1789999995@" at "\n"

static void put_replaces_the_group(void **state)
{
	struct gateway *w = *state;
	assert_ok(
		push(w, PUSHGATEWAY_PUT, "/job/nightly/db/main", "a 1\nb{job=\"x\",c=\"d\"} 2\n"));
	assert_string_equal(expose(w, 100), "a{db=\"main\",job=\"nightly\"} 1@-100\n"
					    "b{c=\"d\",db=\"main\",job=\"nightly\"} 2@-100\n" TIMES(
						    "db=\"main\",job=\"nightly\"", "-100"));
	assert_ok(push(w, PUSHGATEWAY_PUT, "/job/nightly/db/main", "a 3\n"));
	const char *all = expose(w, 50);
	assert_non_null(strstr(all, "a{db=\"main\",job=\"nightly\"} 3@-50\n"));
	assert_non_null(strstr(all, "b{c=\"d\",db=\"main\",job=\"nightly\"} stale@-50\n"));
}

static void post_replaces_families(void **state)
{
	struct gateway *w = *state;
	assert_ok(push(w, PUSHGATEWAY_POST, "/job/j", "# TYPE a counter\na 1\nb 1\n"));
	assert_ok(push(w, PUSHGATEWAY_POST, "/job/j", "b 2\nc 2\n"));
	assert_ok(push(w, PUSHGATEWAY_POST, "/job/j", "# TYPE a counter\na 9\n"));
	const char *all = expose(w, 0);
	assert_non_null(strstr(all, "a{job=\"j\"} 9@0\n"));
	assert_non_null(strstr(all, "b{job=\"j\"} 2@0\n"));
	assert_non_null(strstr(all, "c{job=\"j\"} 2@0\n"));
	assert_null(strstr(all, "} 1@0\n"));
}

static void delete_removes_the_group(void **state)
{
	struct gateway *w = *state;
	struct buf list = buf_init(10000);
	assert_ok(push(w, PUSHGATEWAY_PUT, "/job/j", "a 1\n"));
	(void)expose(w, 100);
	assert_ok(push(w, PUSHGATEWAY_DELETE, "/job/j", ""));
	assert_ok(push(w, PUSHGATEWAY_DELETE, "/job/none", ""));
	assert_non_null(strstr(expose(w, 50), "a{job=\"j\"} stale@-50\n"));
	pushgateway_print(w->g, &list);
	assert_string_equal(buf_cstr(&list), "[]");
	buf_done(&list);
}

static void encoded_paths(void **state)
{
	struct gateway *w = *state;
	assert_ok(push(w, PUSHGATEWAY_PUT, "/job@base64/YS9i/path@base64/=/x/%C3%A9", "a 1\n"));
	assert_non_null(strstr(expose(w, 0), "a{job=\"a/b\",x=\"é\"} 1@0\n"));
}

static void what_is_refused(void **state)
{
	struct gateway *w = *state;
	static const struct {
		const char *path, *body, *said;
	} rows[] = {
		{ "/job/j", "a 1 1000\n", "timestamps" },
		{ "/job/j", "a 1\na 2\n", "twice" },
		{ "/job/j", "a{job=\"1\"} 1\na{job=\"2\"} 2\n", "twice" },
		{ "/job/j", "a one\n", "" },
		{ "/job/j", "# TYPE typed counter\ntyped 1\n", "another group" },
		{ "/job/", "a 1\n", "" },
		{ "/instance/x", "a 1\n", "/metrics/job/NAME" },
		{ "/job/j/0x/y", "a 1\n", "label" },
		{ "/job/j/x", "a 1\n", "without a value" },
		{ "/job@base64/!!", "a 1\n", "base64" },
		{ "/job/%zz", "a 1\n", "hexadecimal" },
		{ "", "a 1\n", "" },
	};
	assert_ok(push(w, PUSHGATEWAY_PUT, "/job/other", "# TYPE typed gauge\ntyped 1\n"));
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		assert_int_equal(push(w, PUSHGATEWAY_PUT, rows[i].path, rows[i].body), ERR_INVALID);
		if (!strstr(fixture_error.message, rows[i].said))
			fail_msg("\"%s\" does not say \"%s\"", fixture_error.message, rows[i].said);
	}
	assert_non_null(
		strstr(expose(w, 0), "push_failure_time_seconds{job=\"j\"} 1789999995@0\n"));
}

static void saved_and_loaded(void **state)
{
	struct gateway *w = *state;
	char path[128];
	snprintf(path, sizeof(path), "%s/pushed", w->f.folder);
	assert_ok(push(w, PUSHGATEWAY_POST, "/job/j", "a 1\nb 1\n"));
	assert_ok(push(w, PUSHGATEWAY_POST, "/job/j", "b 2\n"));
	assert_true(pushgateway_is_dirty(w->g));
	assert_ok(pushgateway_save(w->g, path, &fixture_error));
	assert_false(pushgateway_is_dirty(w->g));
	pushgateway_free(w->g);
	w->g = pushgateway_new();
	assert_ok(pushgateway_load(w->g, path, &fixture_error));
	assert_string_equal(expose(w, 0),
			    "a{job=\"j\"} 1@0\nb{job=\"j\"} 2@0\n" TIMES("job=\"j\"", "0"));
	/* a missing file is none, a damaged one is told */
	FILE *file = fopen(path, "r+");
	assert_non_null(file);
	fseek(file, 20, SEEK_SET);
	fputc('!', file);
	fclose(file);
	assert_int_equal(pushgateway_load(w->g, path, &fixture_error), ERR_CORRUPT);
	assert_ok(pushgateway_load(w->g, "/nonexistent/pushed", &fixture_error));
}

/* What was accepted one after the other is accepted again when it is loaded, in whatever order the
 * groups are: the daemon starts with this file. */
static void changed_types_are_loaded(void **state)
{
	struct gateway *w = *state;
	char path[128];
	snprintf(path, sizeof(path), "%s/pushed", w->f.folder);
	assert_ok(push(w, PUSHGATEWAY_POST, "/job/b", "z 1\n"));
	assert_ok(push(w, PUSHGATEWAY_POST, "/job/a", "# TYPE x counter\nx 1\ny 1\n"));
	assert_ok(push(w, PUSHGATEWAY_POST, "/job/a", "# TYPE x gauge\nx 2\n"));
	assert_ok(push(w, PUSHGATEWAY_POST, "/job/b", "# TYPE x gauge\nx 3\n"));
	assert_ok(pushgateway_save(w->g, path, &fixture_error));
	pushgateway_free(w->g);
	w->g = pushgateway_new();
	assert_ok(pushgateway_load(w->g, path, &fixture_error));
	const char *all = expose(w, 0);
	assert_non_null(strstr(all, "x{job=\"a\"} 2@0\nx{job=\"b\"} 3@0\ny{job=\"a\"} 1@0\n"
				    "z{job=\"b\"} 1@0\n"));
}

static void a_large_group_can_be_replaced(void **state)
{
	struct gateway *w = *state;
	struct buf body = buf_init(PUSHGATEWAY_BYTES_MAX);
	while (body.len < PUSHGATEWAY_BYTES_MAX / 8 * 5) /* a remark, which is read in no time */
		buf_printf(&body, "# %*s\n", 60000, "");
	buf_add_c(&body, "a 1\n");
	assert_ok(push(w, PUSHGATEWAY_PUT, "/job/j", buf_cstr(&body)));
	assert_ok(push(w, PUSHGATEWAY_PUT, "/job/j", buf_cstr(&body)));
	assert_int_equal(push(w, PUSHGATEWAY_PUT, "/job/k", buf_cstr(&body)), ERR_LIMIT);
	assert_int_equal(push(w, PUSHGATEWAY_POST, "/job/j", buf_cstr(&body)), ERR_LIMIT);
	buf_done(&body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(put_replaces_the_group, open_gateway,
						close_gateway),
		cmocka_unit_test_setup_teardown(post_replaces_families, open_gateway,
						close_gateway),
		cmocka_unit_test_setup_teardown(delete_removes_the_group, open_gateway,
						close_gateway),
		cmocka_unit_test_setup_teardown(encoded_paths, open_gateway, close_gateway),
		cmocka_unit_test_setup_teardown(what_is_refused, open_gateway, close_gateway),
		cmocka_unit_test_setup_teardown(saved_and_loaded, open_gateway, close_gateway),
		cmocka_unit_test_setup_teardown(changed_types_are_loaded, open_gateway,
						close_gateway),
		cmocka_unit_test_setup_teardown(a_large_group_can_be_replaced, open_gateway,
						close_gateway),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
