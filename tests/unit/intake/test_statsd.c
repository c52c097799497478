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
	assert_string_equal(flush(l, -1), "u 2@-1\n");
	add(l, "u:10.0.0.1:80|s\nu:10.0.0.1:81|s\nu:10.0.0.1:80|s\nu:b|s");
	assert_string_equal(flush(l, 0), "u 2@-1\nu 3@0\n");
}

static void bad_lines_do_not_harm_the_others(void **state)
{
	struct listener *l = *state;
	add(l, "nothing\n:1|c\na:x|c\na:1|zz\na:1|c|@0\nok:1|c");
	assert_int_equal(l->f.result.rejected_count, 5);
	assert_non_null(strstr(flush(l, 0), "ok 1@0\n"));
}

/* A line counts whole or not at all, and a bad one makes no series. */
static void bad_lines_leave_nothing(void **state)
{
	struct listener *l = *state;
	static const char *const bad[] = {
		"t:x|ms",         "t:|ms",    "c:1:2:x|c",         "c:-1|c",
		"g:1e999|g",      "c:1|c|@2", "c:1|c|@5e-324",     "c:1e300|c|@1e-20",
		"t:1|ms|#le:0.1", "c:+|c",    "c:1|c|#__name__:x", "c:nan|c",
	};
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		l->f.result = (struct intake_result){ 0 };
		add(l, bad[i]);
		if (l->f.result.rejected_count != 1)
			fail_msg("%s is not rejected", bad[i]);
	}
	assert_int_equal(statsd_series_count(l->s), 0);
	assert_string_equal(flush(l, 0), "");
}

/* Every prefix and many flipped bits of good lines: taken or rejected, never a crash. */
static void damaged_lines(void **state)
{
	struct listener *l = *state;
	static const char good[] = "web.hits:1:2|c|@0.5|#env:prod,le:x\nload:-1|g\nu:a|s\nt:5|ms";
	for (size_t i = 0; i < sizeof(good) - 1; i++) {
		for (int bit = 0; bit < 8; bit++) {
			char line[sizeof(good)];
			memcpy(line, good, sizeof(good));
			line[i] = (char)((unsigned char)line[i] ^ (1u << bit));
			statsd_add(l->s, (str){ line, sizeof(good) - 1 }, FIXTURE_NOW,
				   &l->f.result);
		}
		statsd_add(l->s, (str){ good, i }, FIXTURE_NOW, &l->f.result);
	}
	assert_true(statsd_series_count(l->s) <= 8);
	(void)flush(l, 0);
}

static void idle_series_end(void **state)
{
	struct listener *l = *state;
	add(l, "a:1|c\nu:x|s");
	(void)flush(l, -10);
	statsd_flush(l->s, l->f.batch, FIXTURE_NOW + 3600001, &l->f.result);
	metrics_batch_abort(l->f.batch);
	assert_int_equal(statsd_series_count(l->s), 0);
	add(l, "a:1|c");
	assert_string_equal(flush(l, 0), "a 1@-10\na 1@0\nu 1@-10\n");
}

static void native_histograms(void **state)
{
	struct listener *l = *state;
	struct statsd_options options = { .native_histograms = true };
	statsd_free(l->s);
	l->s = statsd_new(&options);
	add(l, "t:0:1:-1|h\nt:1|h|@0.25");
	assert_string_equal(flush(l, 0), "t h[schema 3 count 7 sum 4 zero 1/1e-128 reset 0 "
					 "+(0,1) 5 -(0,1) 1]@0\n");
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
		cmocka_unit_test_setup_teardown(bad_lines_leave_nothing, open_listener,
						close_listener),
		cmocka_unit_test_setup_teardown(damaged_lines, open_listener, close_listener),
		cmocka_unit_test_setup_teardown(idle_series_end, open_listener, close_listener),
		cmocka_unit_test_setup_teardown(native_histograms, open_listener, close_listener),
		cmocka_unit_test_setup_teardown(series_are_limited, open_listener, close_listener),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
