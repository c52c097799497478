#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "intake/statsd.h"
#include "intake_fixture.h"

struct listener {
	struct intake_fixture f;
	struct statsd *s;
};

static int open_listener(void **state)
{
	struct listener *l = must_calloc(1, sizeof(*l));
	static const double bounds[] = { 0.1, 1 };
	struct statsd_options options = { .bounds = bounds, .bound_count = 2, .series_max = 8 };
	fixture_open(&l->f, 0);
	l->s = statsd_new(&options);
	*state = l;
	return 0;
}

static int close_listener(void **state)
{
	struct listener *l = *state;
	statsd_free(l->s);
	fixture_close(&l->f);
	free(l);
	return 0;
}

static void add(struct listener *l, const char *datagram)
{
	statsd_add(l->s, str_c(datagram), FIXTURE_NOW, &l->f.result);
}

static const char *flush(struct listener *l, time_ms at)
{
	statsd_flush(l->s, l->f.batch, FIXTURE_NOW + at, &l->f.result);
	fixture_commit(&l->f);
	return fixture_dump(&l->f);
}

static void counters_and_gauges(void **state)
{
	struct listener *l = *state;
	add(l, "web.hits:1|c\nweb.hits:2|c|@0.5\nload:3.5|g");
	add(l, "load:-1|g\nweb.hits:1|c|#env:prod");
	assert_string_equal(flush(l, -100), "load 2.5@-100\nweb_hits 5@-100\n"
					    "web_hits{env=\"prod\"} 1@-100\n");
	add(l, "web.hits:1|c"); /* cumulative */
	assert_non_null(strstr(flush(l, -50), "web_hits 6@-50\n"));
	assert_int_equal(l->f.result.rejected_count, 0);
}

static void timers_are_in_seconds(void **state)
{
	struct listener *l = *state;
	add(l, "t:50:500:5000|ms");
	assert_string_equal(flush(l, 0), "t_bucket{le=\"+Inf\"} 3@0\nt_bucket{le=\"0.1\"} 1@0\n"
					 "t_bucket{le=\"1.0\"} 2@0\nt_count 3@0\nt_sum 5.55@0\n");
}

static void sets_count_what_differs(void **state)
{
	struct listener *l = *state;
	add(l, "u:a|s\nu:b|s\nu:a|s");
	assert_string_equal(flush(l, 0), "u 2@0\n");
}

static void bad_lines_do_not_harm_the_others(void **state)
{
	struct listener *l = *state;
	add(l, "nothing\n:1|c\na:x|c\na:1|zz\na:1|c|@0\nok:1|c");
	assert_int_equal(l->f.result.rejected_count, 5);
	assert_non_null(strstr(flush(l, 0), "ok 1@0\n"));
}

static void series_are_limited(void **state)
{
	struct listener *l = *state;
	char line[32];
	for (int i = 0; i < 20; i++) {
		snprintf(line, sizeof(line), "m%d:1|c", i);
		add(l, line);
	}
	assert_int_equal(statsd_series_count(l->s), 8);
	assert_int_equal(l->f.result.rejected_count, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(counters_and_gauges, open_listener, close_listener),
		cmocka_unit_test_setup_teardown(timers_are_in_seconds, open_listener,
						close_listener),
		cmocka_unit_test_setup_teardown(sets_count_what_differs, open_listener,
						close_listener),
		cmocka_unit_test_setup_teardown(bad_lines_do_not_harm_the_others, open_listener,
						close_listener),
		cmocka_unit_test_setup_teardown(series_are_limited, open_listener, close_listener),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
