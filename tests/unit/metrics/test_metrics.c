/* What a user of the engine relies on: refusals that name the series, limits, names, exemplars,
 * metadata, deletion, retention, a clock that jumps, one process a folder. */
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

enum { HOUR_MS = 3600000 };

static int set_up(void **state)
{
	struct metrics_fixture *f = must_calloc(1, sizeof(*f));
	fixture_open(f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	fixture_close(*state);
	free(*state);
	return 0;
}

static metrics_ref series(struct metrics_batch *b, const char *name, unsigned index)
{
	struct label items[2];
	char text[16];
	struct labels labels = fixture_labels(name, index, items, text);
	metrics_ref ref = 0;
	assert_ok(metrics_batch_series(b, &labels, &ref, &fixture_error));
	return ref;
}

static void too_old_and_too_new_are_left_out_and_named(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics_batch *b = metrics_batch_new(f->m, STR("test"), 0);
	struct metrics_batch_result result;
	struct metrics_stats stats;
	metrics_ref ref = series(b, "up", 7);
	assert_true(metrics_batch_sample(b, ref, fixture_time - 32LL * FIXTURE_DAY_MS, 1));
	assert_true(metrics_batch_sample(b, ref, fixture_time + 11 * 60000, 1));
	assert_true(metrics_batch_sample(b, ref, fixture_time + 9 * 60000, 1));
	assert_ok(metrics_batch_commit(b, &result, &fixture_error));
	assert_int_equal(result.sample_count, 1);
	assert_int_equal(result.too_old_count, 1);
	assert_int_equal(result.too_new_count, 1);
	assert_non_null(strstr(result.refusal, "up{i=\"7\"}"));
	assert_non_null(strstr(result.refusal, "too old"));
	metrics_stats(f->m, &stats);
	assert_int_equal(stats.samples_taken_count, 1);
	assert_int_equal(stats.samples_old_count, 1);
	assert_int_equal(stats.samples_future_count, 1);
	/* a batch is used again: what was left out before is forgotten */
	assert_true(metrics_batch_sample(b, ref, fixture_time, 1));
	assert_ok(metrics_batch_commit(b, &result, &fixture_error));
	assert_string_equal(result.refusal, "");
	metrics_batch_free(b);
}

static void a_source_has_as_many_series_as_it_may(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics_batch *b = metrics_batch_new(f->m, STR("scrape:api"), 2);
	struct label items[2];
	char text[16];
	metrics_ref ref;
	series(b, "a", 0);
	series(b, "a", 1);
	struct labels third = fixture_labels("a", 2, items, text);
	assert_int_equal(metrics_batch_series(b, &third, &ref, &fixture_error), ERR_BUSY);
	assert_non_null(strstr(fixture_error.message, "scrape:api"));
	/* the known ones go on, and so do others */
	series(b, "a", 1);
	struct metrics_batch *other = metrics_batch_new(f->m, STR("scrape:web"), 2);
	series(other, "a", 2);
	metrics_batch_free(other);
	metrics_batch_free(b);
}

static void a_limit_counts_after_a_restart_as_well(void **state)
{
	struct metrics_fixture *f = *state;
	fixture_put(f, "a", 0, fixture_time, 1);
	fixture_put(f, "a", 1, fixture_time, 1);
	fixture_reopen(f);
	struct metrics_batch *b = metrics_batch_new(f->m, STR("test"), 2);
	struct label items[2];
	char text[16];
	metrics_ref ref;
	series(b, "a", 0);
	series(b, "a", 1);
	struct labels third = fixture_labels("a", 2, items, text);
	assert_int_equal(metrics_batch_series(b, &third, &ref, &fixture_error), ERR_BUSY);
	metrics_batch_free(b);
}

static void the_engine_has_as_many_series_as_it_may(void **state)
{
	struct metrics_fixture *f = *state;
	struct label items[2];
	char text[16];
	metrics_ref ref;
	f->options.series_count_max = 3;
	fixture_reopen(f);
	struct metrics_batch *b = metrics_batch_new(f->m, STR("test"), 0);
	for (unsigned i = 0; i < 3; i++)
		series(b, "a", i);
	struct labels fourth = fixture_labels("a", 3, items, text);
	assert_int_equal(metrics_batch_series(b, &fourth, &ref, &fixture_error), ERR_BUSY);
	metrics_batch_free(b);
}

static void past_the_memory_budget_a_commit_is_refused_until_a_flush(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics_batch_result result;
	errc rc = OK;
	f->options.memory_bytes_max = (size_t)12 << 20;
	fixture_reopen(f);
	struct metrics_batch *b = metrics_batch_new(f->m, STR("test"), 0);
	metrics_ref ref = series(b, "a", 0);
	uint64_t taken = 0;
	for (time_ms t = 0; t < 2000 && rc == OK; t++) {
		for (time_ms i = 0; i < 1000; i++)
			assert_true(metrics_batch_sample(b, ref,
							 fixture_time - 5000000 + t * 1000 + i, 1));
		rc = metrics_batch_commit(b, &result, &fixture_error);
		taken += rc == OK ? result.sample_count : 0;
	}
	assert_int_equal(rc, ERR_BUSY);
	struct metrics_stats stats;
	metrics_stats(f->m, &stats);
	assert_true(stats.memory_bytes <= stats.memory_bytes_max);
	assert_int_equal(stats.head_samples, taken);
	assert_int_equal(stats.commit_refused_count, 1);
	/* the next tick makes room, and the batch is still there to be tried again */
	fixture_tick(f);
	assert_ok(metrics_batch_commit(b, &result, &fixture_error));
	assert_int_equal(result.sample_count, 1000);
	metrics_batch_free(b);
}

static void below_the_disk_reserve_it_is_read_only(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics_batch_result result;
	struct metrics_samples samples = { 0 };
	struct metrics_stats stats;
	fixture_put(f, "a", 0, fixture_time, 5);
	f->options.disk_reserve_bytes = INT64_MAX / 4;
	fixture_reopen(f);
	struct metrics_batch *b = metrics_batch_new(f->m, STR("test"), 0);
	metrics_ref ref = series(b, "a", 0);
	assert_true(metrics_batch_sample(b, ref, fixture_time + 1, 1));
	assert_int_equal(metrics_batch_commit(b, &result, &fixture_error), ERR_UNAVAILABLE);
	metrics_stats(f->m, &stats);
	assert_true(stats.read_only);
	assert_int_equal(fixture_read(f, "a", 0, INT64_MIN, INT64_MAX, &samples), 1);
	metrics_batch_free(b);
	f->options.disk_reserve_bytes = 1;
	fixture_reopen(f);
	fixture_put(f, "a", 0, fixture_time + 1, 6);
	assert_int_equal(fixture_read(f, "a", 0, INT64_MIN, INT64_MAX, &samples), 2);
	metrics_samples_done(&samples);
}

static void one_process_has_the_folder(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics *second = NULL;
	assert_int_equal(metrics_open(&f->options, &second, &fixture_error), ERR_BUSY);
	assert_null(second);
}

/* ---- Names. */

static void expect_names(const struct metrics_names *names, const char *joined)
{
	struct buf text CLEANUP(buf_done) = buf_init(1000);
	for (size_t i = 0; i < names->count; i++) {
		buf_add(&text, names->items[i]);
		buf_add_byte(&text, ' ');
	}
	assert_string_equal(buf_cstr(&text), joined);
}

static void names_values_and_series_are_those_of_the_range(void **state)
{
	struct metrics_fixture *f = *state;
	struct arena arena CLEANUP(arena_done) = arena_init(1 << 20);
	struct metrics_names names;
	struct labels *found;
	size_t count;
	bool truncated;
	time_ms old = fixture_time - 10LL * FIXTURE_DAY_MS;
	fixture_put(f, "old", 1, old, 1);
	fixture_put(f, "up", 2, fixture_time, 1);
	fixture_put(f, "up", 10, fixture_time, 1);
	for (int flushed = 0; flushed < 2; flushed++) {
		assert_ok(metrics_label_names(f->m, NULL, 0, INT64_MIN, INT64_MAX, 0, NULL, &arena,
					      &names, &fixture_error));
		expect_names(&names, "__name__ i ");
		assert_ok(metrics_label_values(f->m, STR("i"), NULL, 0, INT64_MIN, INT64_MAX, 0,
					       NULL, &arena, &names, &fixture_error));
		expect_names(&names, "1 10 2 ");
		assert_ok(metrics_label_values(f->m, STR("i"), NULL, 0, INT64_MIN, INT64_MAX, 2,
					       NULL, &arena, &names, &fixture_error));
		expect_names(&names, "1 10 ");
		assert_true(names.truncated);
		const struct matcher up = { .type = MATCH_EQUAL,
					    .name = STR(LABEL_METRIC_NAME),
					    .value = STR("up") };
		const struct metrics_matchers set = { &up, 1 };
		assert_ok(metrics_label_values(f->m, STR("i"), &set, 1, INT64_MIN, INT64_MAX, 0,
					       NULL, &arena, &names, &fixture_error));
		expect_names(&names, "10 2 ");
		/* a day in between has nothing, live or not */
		assert_ok(metrics_series(f->m, NULL, 0, old + 2LL * FIXTURE_DAY_MS,
					 old + 3LL * FIXTURE_DAY_MS, 0, NULL, &arena, &found,
					 &count, &truncated, &fixture_error));
		assert_int_equal(count, flushed ? 0 : 3); /* a head is one range */
		assert_ok(metrics_series(f->m, &set, 1, fixture_time - HOUR_MS, fixture_time, 1,
					 NULL, &arena, &found, &count, &truncated, &fixture_error));
		assert_int_equal(count, 1);
		assert_true(truncated);
		assert_true(str_eq_c(labels_get(&found[0], STR("i")), "10"));
		assert_ok(metrics_flush(f->m, false, &fixture_error));
	}
}

static void cardinality_shows_what_there_is_most_of(void **state)
{
	struct metrics_fixture *f = *state;
	struct arena arena CLEANUP(arena_done) = arena_init(1 << 20);
	struct metrics_cardinality *rows;
	size_t count;
	for (unsigned i = 0; i < 5; i++)
		fixture_put(f, "many", i, fixture_time, 1);
	fixture_put(f, "few", 0, fixture_time, 1);
	assert_ok(metrics_cardinality(f->m, METRICS_BY_METRIC, fixture_time, 10, &arena, &rows,
				      &count, &fixture_error));
	assert_int_equal(count, 2);
	assert_true(str_eq_c(rows[0].name, "many"));
	assert_int_equal(rows[0].series_count, 5);
	assert_int_equal(rows[0].created_count, 5);
	assert_ok(metrics_cardinality(f->m, METRICS_BY_LABEL, fixture_time, 1, &arena, &rows,
				      &count, &fixture_error));
	assert_int_equal(count, 1);
	assert_int_equal(rows[0].series_count, 6);
	assert_ok(metrics_cardinality(f->m, METRICS_BY_PAIR, fixture_time, 1, &arena, &rows, &count,
				      &fixture_error));
	assert_true(str_eq_c(rows[0].name, "__name__=many"));
}

/* ---- Exemplars and metadata. */

static void put_exemplar(struct metrics_fixture *f, time_ms time, double value)
{
	struct metrics_batch *b = metrics_batch_new(f->m, STR("test"), 0);
	struct metrics_batch_result result;
	struct label items[] = { { STR("trace_id"), STR("abc") } };
	const struct metrics_exemplar x = { { items, 1 }, time, value };
	metrics_ref ref = series(b, "latency", 1);
	assert_true(metrics_batch_sample(b, ref, time, value));
	assert_true(metrics_batch_exemplar(b, ref, &x));
	const struct metrics_metadata about = { STR("latency"), METRICS_TYPE_GAUGE,
						STR("How long."), STR("seconds") };
	metrics_batch_metadata(b, &about);
	assert_ok(metrics_batch_commit(b, &result, &fixture_error));
	assert_int_equal(result.exemplar_count, 1);
	metrics_batch_free(b);
}

static void check_exemplars(struct metrics_fixture *f)
{
	struct arena arena CLEANUP(arena_done) = arena_init(1 << 20);
	struct metrics_exemplars *found;
	struct metrics_metadata *about;
	size_t count;
	assert_ok(metrics_exemplars_query(f->m, NULL, 0, fixture_time - 1500, fixture_time, &arena,
					  &found, &count, &fixture_error));
	assert_int_equal(count, 1);
	assert_int_equal(found[0].count, 2);
	assert_int_equal(found[0].items[0].time, fixture_time - 1000);
	assert_true(found[0].items[1].value == 3);
	assert_true(str_eq_c(labels_get(&found[0].items[0].labels, STR("trace_id")), "abc"));
	assert_true(str_eq_c(labels_get(&found[0].series, STR("i")), "1"));
	assert_ok(metrics_metadata_list(f->m, STR("latency"), 0, &arena, &about, &count,
					&fixture_error));
	assert_int_equal(count, 1);
	assert_int_equal(about[0].type, METRICS_TYPE_GAUGE);
	assert_true(str_eq_c(about[0].help, "How long."));
}

static void exemplars_and_metadata_outlive_restart_and_flush(void **state)
{
	struct metrics_fixture *f = *state;
	for (int i = 0; i < 3; i++)
		put_exemplar(f, fixture_time - 2000 + i * 1000, i + 1);
	check_exemplars(f);
	fixture_reopen(f);
	check_exemplars(f);
	assert_ok(metrics_flush(f->m, true, &fixture_error));
	check_exemplars(f);
	fixture_reopen(f);
	check_exemplars(f);
}

/* ---- Time. */

static void what_is_past_its_retention_goes(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics_samples samples = { 0 };
	time_ms first = fixture_time;
	const struct matcher brief_matcher = { .type = MATCH_EQUAL,
					       .name = STR(LABEL_METRIC_NAME),
					       .value = STR("brief") };
	const struct metrics_retention brief = { &brief_matcher, 1, 2LL * FIXTURE_DAY_MS };
	f->options.retentions = &brief;
	f->options.retention_count = 1;
	f->options.retention_ms = 10LL * FIXTURE_DAY_MS;
	f->options.rollup_5m_retention_ms = f->options.rollup_1h_retention_ms = 10LL *
										FIXTURE_DAY_MS;
	fixture_reopen(f);
	fixture_put(f, "brief", 0, first, 1);
	fixture_put(f, "long", 0, first, 1);
	assert_ok(metrics_flush(f->m, true, &fixture_error));
	fixture_time += 4LL * FIXTURE_DAY_MS;
	fixture_tick(f);
	assert_int_equal(fixture_read(f, "brief", 0, INT64_MIN, INT64_MAX, &samples), 0);
	assert_int_equal(fixture_read(f, "long", 0, INT64_MIN, INT64_MAX, &samples), 1);
	fixture_time += 10LL * FIXTURE_DAY_MS;
	fixture_tick(f);
	assert_int_equal(fixture_read(f, "long", 0, INT64_MIN, INT64_MAX, &samples), 0);
	struct metrics_stats stats;
	metrics_stats(f->m, &stats);
	assert_int_equal(stats.part_count, 0);
	metrics_samples_done(&samples);
	/* the options point into this function */
	f->options.retention_count = 0;
	fixture_reopen(f);
}

static void a_clock_that_jumps_back_loses_nothing(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics_samples samples = { 0 };
	time_ms right = fixture_time;
	fixture_put(f, "a", 0, right, 1);
	fixture_time = right - 3LL * FIXTURE_DAY_MS;
	fixture_tick(f);
	fixture_put(f, "a", 0, fixture_time, 2);
	fixture_reopen(f);
	fixture_tick(f);
	fixture_time = right;
	fixture_tick(f);
	assert_int_equal(fixture_read(f, "a", 0, INT64_MIN, INT64_MAX, &samples), 2);
	assert_true(samples.values[0] == 2 && samples.values[1] == 1);
	metrics_samples_done(&samples);
}

static void an_idle_series_is_dropped_and_comes_back(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics_samples samples = { 0 };
	struct metrics_stats stats;
	time_ms first = fixture_time;
	struct metrics_batch *b = metrics_batch_new(f->m, STR("test"), 0);
	metrics_ref ref = series(b, "a", 0);
	fixture_put(f, "a", 0, first, 1);
	assert_ok(metrics_flush(f->m, false, &fixture_error));
	fixture_time += 4 * HOUR_MS;
	fixture_tick(f);
	metrics_stats(f->m, &stats);
	assert_int_equal(stats.series_count, 0);
	assert_false(metrics_batch_sample(b, ref, fixture_time, 2)); /* ask by labels again */
	metrics_batch_free(b);
	assert_int_equal(fixture_read(f, "a", 0, INT64_MIN, INT64_MAX, &samples), 1);
	fixture_put(f, "a", 0, fixture_time, 2);
	assert_int_equal(fixture_read(f, "a", 0, INT64_MIN, INT64_MAX, &samples), 2);
	fixture_reopen(f);
	assert_int_equal(fixture_read(f, "a", 0, INT64_MIN, INT64_MAX, &samples), 2);
	metrics_samples_done(&samples);
}

static void a_deletion_holds_and_spares_what_comes_later(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics_samples samples = { 0 };
	const struct matcher a = { .type = MATCH_EQUAL,
				   .name = STR(LABEL_METRIC_NAME),
				   .value = STR("a") };
	uint64_t count = 0;
	fixture_put(f, "a", 0, fixture_time - 10, 1);
	fixture_put(f, "a", 0, fixture_time - 5, 2);
	fixture_put(f, "b", 0, fixture_time - 10, 3);
	assert_ok(metrics_delete(f->m, &a, 1, INT64_MIN, fixture_time - 6, &count, &fixture_error));
	assert_int_equal(count, 1);
	for (int merged = 0; merged < 2; merged++) {
		assert_int_equal(fixture_read(f, "a", 0, INT64_MIN, INT64_MAX, &samples),
				 1 + merged);
		assert_int_equal(fixture_read(f, "b", 0, INT64_MIN, INT64_MAX, &samples), 1);
		fixture_put(f, "a", 0, fixture_time - 9, 4); /* in the deleted range, but later */
		assert_int_equal(fixture_read(f, "a", 0, INT64_MIN, INT64_MAX, &samples), 2);
		assert_ok(metrics_flush(f->m, true, &fixture_error));
		fixture_reopen(f);
	}
	metrics_samples_done(&samples);
}

static void a_query_stays_within_its_limits(void **state)
{
	struct metrics_fixture *f = *state;
	struct metrics_selection *s = NULL;
	struct metrics_samples samples = { 0 };
	const struct matcher all = { .type = MATCH_EQUAL,
				     .name = STR(LABEL_METRIC_NAME),
				     .value = STR("a") };
	for (unsigned i = 0; i < 10; i++)
		for (int k = 0; k < 10; k++)
			fixture_put(f, "a", i, fixture_time - k, 1);
	struct metrics_budget budget = { .samples_max = 15 };
	struct metrics_query query = { .matchers = &all,
				       .matcher_count = 1,
				       .from = fixture_time - 100,
				       .to = fixture_time,
				       .series_count_max = 9,
				       .budget = &budget };
	assert_int_equal(metrics_select(f->m, &query, &s, &fixture_error), ERR_FAILED);
	query.series_count_max = 10;
	assert_ok(metrics_select(f->m, &query, &s, &fixture_error));
	assert_ok(metrics_selection_read(s, 0, query.from, query.to, &samples, &fixture_error));
	assert_int_equal(
		metrics_selection_read(s, 1, query.from, query.to, &samples, &fixture_error),
		ERR_FAILED);
	metrics_selection_free(s);
	assert_int_equal(budget.bytes, 0);
	budget = (struct metrics_budget){ .bytes_max = 10 };
	assert_int_equal(metrics_select(f->m, &query, &s, &fixture_error), ERR_FAILED);
	assert_int_equal(budget.bytes, 0);
	budget = (struct metrics_budget){ .deadline_mono_ms = 1 };
	assert_int_equal(metrics_select(f->m, &query, &s, &fixture_error), ERR_TIMEOUT);
	metrics_samples_done(&samples);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(too_old_and_too_new_are_left_out_and_named),
		TEST(a_source_has_as_many_series_as_it_may),
		TEST(a_limit_counts_after_a_restart_as_well),
		TEST(the_engine_has_as_many_series_as_it_may),
		TEST(past_the_memory_budget_a_commit_is_refused_until_a_flush),
		TEST(below_the_disk_reserve_it_is_read_only),
		TEST(one_process_has_the_folder),
		TEST(names_values_and_series_are_those_of_the_range),
		TEST(cardinality_shows_what_there_is_most_of),
		TEST(exemplars_and_metadata_outlive_restart_and_flush),
		TEST(what_is_past_its_retention_goes),
		TEST(a_clock_that_jumps_back_loses_nothing),
		TEST(an_idle_series_is_dropped_and_comes_back),
		TEST(a_deletion_holds_and_spares_what_comes_later),
		TEST(a_query_stays_within_its_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
