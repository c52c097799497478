/* What flushes, merges, retention and rollups leave: every sample that is to be there, once, the
 * last written of equal times; nothing that was deleted or is past its time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "metrics_fixture.h"

enum { HOUR_MS = 3600000, MINUTE_MS = 60000 };

static const time_ms start = (time_ms)20000 * FIXTURE_DAY_MS;

static struct metrics_stats stats_of(struct metrics_fixture *f)
{
	struct metrics_stats s;
	metrics_stats(f->m, &s);
	return s;
}

static void flush(struct metrics_fixture *f, bool merge)
{
	assert_ok(metrics_flush(f->m, merge, &fixture_error));
}

/* Reopen with other retentions. */
static void configure(struct metrics_fixture *f)
{
	fixture_reopen(f);
}

static double value_at(struct metrics_fixture *f, const char *name, unsigned index, time_ms time)
{
	struct metrics_samples s = { 0 };
	double value = -1;
	if (fixture_read(f, name, index, time, time, &s))
		value = s.values[0];
	metrics_samples_done(&s);
	return value;
}

static size_t count_in(struct metrics_fixture *f, const char *name, unsigned index, time_ms from,
		       time_ms to)
{
	struct metrics_samples s = { 0 };
	size_t count = fixture_read(f, name, index, from, to, &s);
	for (size_t i = 1; i < count; i++)
		assert_true(s.times[i - 1] < s.times[i]);
	metrics_samples_done(&s);
	return count;
}

static void keeps_the_last_written(void **state)
{
	struct metrics_fixture f;
	(void)state;
	fixture_time = start + HOUR_MS;
	fixture_open(&f);
	for (int round = 0; round < 5; round++) {
		for (int i = round; i < 20; i++)
			fixture_put(&f, "m", 1, start + i * MINUTE_MS, round * 100 + i);
		if (round != 3)
			flush(&f, false);
	}
	for (int step = 0; step < 3; step++) {
		assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), 20);
		for (int i = 0; i < 20; i++)
			assert_true(value_at(&f, "m", 1, start + i * MINUTE_MS) ==
				    (i < 4 ? i : 4) * 100 + i);
		if (step == 0)
			flush(&f, true);
		else
			fixture_reopen(&f);
	}
	assert_int_equal(stats_of(&f).part_count, 1);
	assert_int_equal(stats_of(&f).part_samples, 20);
	fixture_close(&f);
}

/* A batch from long ago: more days than parts are written at a time. */
static void takes_many_days(void **state)
{
	struct metrics_fixture f;
	(void)state;
	fixture_time = start + 30 * (time_ms)FIXTURE_DAY_MS;
	fixture_open(&f);
	for (int day = 29; day >= 0; day--)
		for (unsigned i = 0; i < 3; i++)
			fixture_put(&f, "m", i, start + day * (time_ms)FIXTURE_DAY_MS + i, day);
	flush(&f, false);
	assert_int_equal(stats_of(&f).part_count, 30);
	assert_int_equal(stats_of(&f).part_samples, 90);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(count_in(&f, "m", i, INT64_MIN, INT64_MAX), 30);
	fixture_reopen(&f);
	for (int day = 0; day < 30; day++)
		assert_true(value_at(&f, "m", 1, start + day * (time_ms)FIXTURE_DAY_MS + 1) == day);
	fixture_close(&f);
}

/* More retention classes on a day than parts are written at a time. */
static void takes_many_classes(void **state)
{
	enum { CLASSES = 40 };
	struct metrics_fixture f;
	struct matcher matchers[CLASSES];
	struct metrics_retention retentions[CLASSES];
	char texts[CLASSES][8];
	(void)state;
	fixture_time = start + 3 * (time_ms)FIXTURE_DAY_MS;
	fixture_open(&f);
	for (unsigned i = 0; i < CLASSES; i++) {
		snprintf(texts[i], sizeof(texts[i]), "%u", i);
		matchers[i] = (struct matcher){ .type = MATCH_EQUAL,
						.name = STR("i"),
						.value = str_c(texts[i]) };
		retentions[i] = (struct metrics_retention){ &matchers[i], 1,
							    (5 + i) * (time_ms)FIXTURE_DAY_MS };
	}
	f.options.retentions = retentions;
	f.options.retention_count = CLASSES;
	configure(&f);
	for (int day = 0; day < 2; day++)
		for (unsigned i = 0; i < CLASSES + 5; i++)
			fixture_put(&f, "m", i, start + day * (time_ms)FIXTURE_DAY_MS + i, i);
	flush(&f, false);
	assert_int_equal(stats_of(&f).part_count, 2 * (CLASSES + 1));
	assert_int_equal(stats_of(&f).part_samples, 2 * (CLASSES + 5));
	flush(&f, true);
	for (unsigned i = 0; i < CLASSES + 5; i++)
		assert_int_equal(count_in(&f, "m", i, INT64_MIN, INT64_MAX), 2);
	fixture_close(&f);
}

/* Each class goes at its own time, and the rest stays. */
static void drops_by_class(void **state)
{
	struct metrics_fixture f;
	struct matcher matcher = { .type = MATCH_EQUAL, .name = STR("i"), .value = STR("1") };
	struct metrics_retention retention = { &matcher, 1, 2 * (time_ms)FIXTURE_DAY_MS };
	(void)state;
	fixture_time = start + HOUR_MS;
	fixture_open(&f);
	f.options.retentions = &retention;
	f.options.retention_count = 1;
	f.options.retention_ms = 10 * (time_ms)FIXTURE_DAY_MS;
	f.options.rollup_5m_retention_ms = f.options.rollup_1h_retention_ms =
		f.options.retention_ms;
	configure(&f);
	for (unsigned i = 0; i < 3; i++)
		fixture_put(&f, "m", i, start + i, i);
	flush(&f, false);
	fixture_time = start + 4 * (time_ms)FIXTURE_DAY_MS;
	fixture_tick(&f);
	assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), 0);
	assert_int_equal(count_in(&f, "m", 0, INT64_MIN, INT64_MAX), 1);
	assert_int_equal(count_in(&f, "m", 2, INT64_MIN, INT64_MAX), 1);
	fixture_time = start + 12 * (time_ms)FIXTURE_DAY_MS;
	fixture_tick(&f);
	assert_int_equal(count_in(&f, "m", 0, INT64_MIN, INT64_MAX), 0);
	assert_int_equal(stats_of(&f).part_count, 0);
	fixture_close(&f);
}

/* ---- Deletions. */

static void delete (struct metrics_fixture *f, const char *index, time_ms from, time_ms to)
{
	struct matcher matcher = { .type = MATCH_EQUAL, .name = STR("i"), .value = str_c(index) };
	uint64_t count = 0;
	assert_ok(metrics_delete(f->m, &matcher, 1, from, to, &count, &fixture_error));
}

static void purges_what_was_deleted(void **state)
{
	struct metrics_fixture f;
	(void)state;
	fixture_time = start + HOUR_MS;
	fixture_open(&f);
	for (int i = 0; i < 10; i++)
		for (unsigned k = 0; k < 2; k++)
			fixture_put(&f, "m", k, start + i * MINUTE_MS, i);
	delete (&f, "1", start + 3 * MINUTE_MS, start + 5 * MINUTE_MS);
	assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), 7);
	/* what is written after it is there */
	fixture_put(&f, "m", 1, start + 4 * MINUTE_MS, 44);
	assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), 8);
	flush(&f, false);
	assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), 8);
	fixture_tick(&f);
	assert_int_equal(stats_of(&f).part_samples, 18);
	fixture_reopen(&f);
	flush(&f, true);
	assert_int_equal(stats_of(&f).part_samples, 18);
	assert_int_equal(count_in(&f, "m", 0, INT64_MIN, INT64_MAX), 10);
	assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), 8);
	assert_true(value_at(&f, "m", 1, start + 4 * MINUTE_MS) == 44);
	assert_true(value_at(&f, "m", 1, start + 3 * MINUTE_MS) == -1);
	delete (&f, "0", INT64_MIN, INT64_MAX);
	delete (&f, "1", INT64_MIN, INT64_MAX);
	fixture_tick(&f);
	assert_int_equal(stats_of(&f).part_count, 0);
	fixture_close(&f);
}

/* A day that was deleted and comes back is found, also after everybody has forgotten it. */
static void takes_a_day_back(void **state)
{
	struct metrics_fixture f;
	(void)state;
	fixture_time = start + 5 * (time_ms)FIXTURE_DAY_MS;
	fixture_open(&f);
	fixture_put(&f, "m", 1, start + 1, 1);
	flush(&f, false);
	delete (&f, "1", INT64_MIN, INT64_MAX);
	fixture_time += HOUR_MS;
	fixture_tick(&f);
	assert_int_equal(stats_of(&f).part_count, 0);
	/* its labels are in no index now: they have to be in the log */
	fixture_put(&f, "m", 1, start + 2, 2);
	fixture_reopen(&f);
	assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), 1);
	flush(&f, false);
	delete (&f, "1", INT64_MIN, INT64_MAX);
	fixture_time += HOUR_MS;
	fixture_tick(&f);
	fixture_put(&f, "m", 1, start + 3, 3);
	flush(&f, false);
	fixture_reopen(&f);
	assert_true(value_at(&f, "m", 1, start + 3) == 3);
	assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), 1);
	fixture_close(&f);
}

/* ---- Rollups. */

enum { PER_HOUR = 240, HOURS = 6 };

static double made_value(int i)
{
	return (i * 7919) % 1000;
}

/* Six hours of a day at 15 s, then the day after next. */
static void fill_day(struct metrics_fixture *f)
{
	fixture_time = start + 7 * HOUR_MS;
	fixture_open(f);
	f->options.retention_ms = 5 * (time_ms)FIXTURE_DAY_MS;
	configure(f);
	for (unsigned k = 0; k < 2; k++)
		for (int i = 0; i < HOURS * PER_HOUR; i++)
			fixture_put(f, "m", k, start + i * 15000, made_value(i));
	flush(f, false);
	fixture_time = start + FIXTURE_DAY_MS + 3 * HOUR_MS;
	fixture_tick(f);
}

static size_t read_rollup(struct metrics_fixture *f, enum metrics_resolution resolution,
			  enum metrics_rollup rollup, struct metrics_samples *into)
{
	const struct matcher matcher = { .type = MATCH_EQUAL, .name = STR("i"), .value = STR("1") };
	struct metrics_query query = { .matchers = &matcher,
				       .matcher_count = 1,
				       .from = start,
				       .to = start + FIXTURE_DAY_MS - 1,
				       .resolution = resolution,
				       .rollup = rollup };
	struct metrics_selection *s = NULL;
	assert_ok(metrics_select(f->m, &query, &s, &fixture_error));
	into->count = 0;
	if (metrics_selection_count(s))
		assert_ok(metrics_selection_read(s, 0, query.from, query.to, into, &fixture_error));
	metrics_selection_free(s);
	return into->count;
}

static double model_bucket(int first, int count, enum metrics_rollup rollup)
{
	double result = made_value(first);
	if (rollup == METRICS_LAST)
		return made_value(first + count - 1);
	if (rollup == METRICS_COUNT)
		return count;
	for (int i = 1; i < count; i++) {
		double v = made_value(first + i);
		if (rollup == METRICS_SUM)
			result += v;
		else if (rollup == METRICS_MIN ? v < result : v > result)
			result = v;
	}
	return result;
}

static void assert_rollups(struct metrics_fixture *f)
{
	static const int per_bucket[] = { [METRICS_5M] = 20, [METRICS_1H] = PER_HOUR };
	struct metrics_samples s = { 0 };
	for (int r = METRICS_5M; r <= METRICS_1H; r++)
		for (int c = METRICS_LAST; c <= METRICS_COUNT; c++) {
			int n = per_bucket[r];
			read_rollup(f, (enum metrics_resolution)r, (enum metrics_rollup)c, &s);
			assert_int_equal(s.count, HOURS * PER_HOUR / n);
			for (int i = 0; i < (int)s.count; i++) {
				assert_true(s.values[i] ==
					    model_bucket(i * n, n, (enum metrics_rollup)c));
				assert_int_equal(s.times[i], start + (i * n + n - 1) * 15000);
			}
		}
	metrics_samples_done(&s);
}

static void rolls_up_a_day(void **state)
{
	struct metrics_fixture f;
	(void)state;
	fill_day(&f);
	assert_rollups(&f);
	assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), HOURS * PER_HOUR);
	fixture_reopen(&f);
	assert_rollups(&f);
	/* the raw samples go, their rollups stay, and stand in for them */
	fixture_time = start + 8 * (time_ms)FIXTURE_DAY_MS;
	fixture_tick(&f);
	assert_int_equal(stats_of(&f).part_count, 2);
	assert_rollups(&f);
	assert_int_equal(count_in(&f, "m", 1, INT64_MIN, INT64_MAX), HOURS * PER_HOUR / 20);
	fixture_close(&f);
}

/* A sample that comes late is in the rollup in the end. */
static void rolls_up_late_samples(void **state)
{
	struct metrics_fixture f;
	struct metrics_samples s = { 0 };
	(void)state;
	fill_day(&f);
	fixture_put(&f, "m", 1, start + 7 * HOUR_MS + 1, 5000);
	flush(&f, false);
	fixture_time += 2 * HOUR_MS;
	fixture_tick(&f);
	assert_int_equal(read_rollup(&f, METRICS_1H, METRICS_MAX, &s), HOURS + 1);
	assert_true(s.values[HOURS] == 5000);
	metrics_samples_done(&s);
	fixture_close(&f);
}

/* A deletion reaches rollups, too: those whose raw samples are there, and those that are alone. */
static void purges_rollups(void **state)
{
	struct metrics_fixture f;
	struct metrics_samples s = { 0 };
	(void)state;
	fill_day(&f);
	delete (&f, "1", start, start + 2 * HOUR_MS - 1);
	fixture_tick(&f);
	assert_int_equal(read_rollup(&f, METRICS_1H, METRICS_COUNT, &s), HOURS - 2);
	fixture_time = start + 8 * (time_ms)FIXTURE_DAY_MS;
	fixture_tick(&f);
	assert_int_equal(stats_of(&f).part_count, 2);
	uint64_t before = stats_of(&f).part_samples;
	delete (&f, "1", start, start + 3 * HOUR_MS - 1);
	assert_int_equal(read_rollup(&f, METRICS_1H, METRICS_COUNT, &s), HOURS - 3);
	fixture_tick(&f);
	assert_int_equal(read_rollup(&f, METRICS_1H, METRICS_COUNT, &s), HOURS - 3);
	assert_int_equal(read_rollup(&f, METRICS_5M, METRICS_COUNT, &s), (HOURS - 3) * 12);
	assert_int_equal(stats_of(&f).part_samples, before - 1 - 12);
	metrics_samples_done(&s);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_the_last_written),  cmocka_unit_test(takes_many_days),
		cmocka_unit_test(takes_many_classes),      cmocka_unit_test(drops_by_class),
		cmocka_unit_test(purges_what_was_deleted), cmocka_unit_test(takes_a_day_back),
		cmocka_unit_test(rolls_up_a_day),          cmocka_unit_test(rolls_up_late_samples),
		cmocka_unit_test(purges_rollups),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
