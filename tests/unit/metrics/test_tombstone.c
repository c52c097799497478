/* Deletions: what they select, what they hide, and their way through the manifest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../base/test_random.h"
#include "base/checks.h"
#include "metrics/samples.h"
#include "metrics/series_key.h"
#include "metrics/tombstone.h"

static struct err error;

static const struct matcher matchers[] = {
	{ .type = MATCH_EQUAL, .name = STR("__name__"), .value = STR("up") },
	{ .type = MATCH_NOT_REGEXP, .name = STR("host"), .value = STR("a.*") },
	{ .type = MATCH_NOT_EQUAL, .name = STR("zone"), .value = STR("") },
};

static bool selects(const struct tombstone *t, const char *name, const char *host, const char *zone)
{
	struct label items[3];
	uint8_t key[256];
	size_t n = 0;
	items[n++] = (struct label){ STR("__name__"), str_c(name) };
	if (host)
		items[n++] = (struct label){ STR("host"), str_c(host) };
	if (zone)
		items[n++] = (struct label){ STR("zone"), str_c(zone) };
	const struct labels labels = { items, n };
	return tombstone_selects(t, (str){ (char *)key, series_key_put(key, &labels) });
}

static void assert_selects(const struct tombstone *t)
{
	assert_true(selects(t, "up", "b", "1"));
	assert_true(selects(t, "up", NULL, "1"));
	assert_false(selects(t, "up", "ab", "1"));
	assert_false(selects(t, "up", "b", NULL));
	assert_false(selects(t, "down", "b", "1"));
}

static struct tombstone *make(void)
{
	struct tombstone *t = NULL;
	assert_int_equal(
		tombstone_new(7, 12, -100, 2000, matchers, ARRAY_COUNT(matchers), &t, &error), OK);
	return t;
}

static void selects_by_labels(void **state)
{
	struct tombstone *t = make();
	(void)state;
	assert_selects(t);
	tombstone_unref(t);
	tombstone_unref(NULL);
}

static void refuses_bad_expressions(void **state)
{
	struct tombstone *t = NULL;
	const struct matcher bad = { .type = MATCH_REGEXP, .name = STR("x"), .value = STR("(") };
	(void)state;
	assert_int_not_equal(tombstone_new(1, 1, 0, 1, &bad, 1, &t, &error), OK);
	assert_null(t);
}

static void comes_back_from_bytes(void **state)
{
	struct tombstone *t = make(), *back = NULL;
	struct buf b = buf_init(4096);
	(void)state;
	tombstone_write(t, &b);
	struct reader r = reader_init(buf_str(&b));
	assert_int_equal(tombstone_read(&r, &back, &error), OK);
	assert_int_equal(reader_left(&r), 0);
	assert_int_equal(back->number, 7);
	assert_int_equal(back->write, 12);
	assert_int_equal(back->from, -100);
	assert_int_equal(back->to, 2000);
	assert_selects(back);
	tombstone_unref(back);
	for (size_t len = 0; len < b.len; len++) {
		r = reader_init((str){ b.ptr, len });
		assert_int_equal(tombstone_read(&r, &back, &error), ERR_CORRUPT);
	}
	struct test_random random = { 1 };
	for (size_t i = 0; i < 20000; i++) {
		char *copy = must_calloc(b.len, 1);
		memcpy(copy, b.ptr, b.len);
		copy[test_random_below(&random, b.len)] = (char)test_random_below(&random, 256);
		r = reader_init((str){ copy, b.len });
		if (tombstone_read(&r, &back, &error) == OK)
			tombstone_unref(back);
		free(copy);
	}
	buf_done(&b);
	tombstone_unref(t);
}

/* Samples in [from, to] go, from the place that is said on. */
static void hides_the_range(void **state)
{
	struct tombstone *t = make();
	struct metrics_samples s = { 0 };
	(void)state;
	for (time_ms at = -500; at <= 2500; at += 100)
		samples_push(&s, at, (double)at);
	s.times_key = 5;
	size_t kept = 3;
	tombstone_apply(t, &s, 3); /* -500, -400, -300 were there before */
	for (time_ms at = -200; at <= 2500; at += 100)
		if (at < -100 || at > 2000) {
			assert_int_equal(s.times[kept], at);
			assert_true(s.values[kept] == (double)at);
			kept++;
		}
	assert_int_equal(s.count, kept);
	assert_int_equal(s.times_key, 0);
	s.times_key = 6;
	tombstone_apply(t, &s, 0);
	assert_int_equal(s.times_key, 6);
	metrics_samples_done(&s);
	tombstone_unref(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(selects_by_labels),
		cmocka_unit_test(refuses_bad_expressions),
		cmocka_unit_test(comes_back_from_bytes),
		cmocka_unit_test(hides_the_range),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
