/* The log in good health. */
#include "wal_model.h"

#include <pthread.h>

#include "codec/crc32c.h"

static struct wal_model model;

static struct wal_options options(const char *name)
{
	return (struct wal_options){ .folder = test_path(name), .engine = "test" };
}

static struct wal *open_log(const struct wal_options *o, uint64_t from,
			    struct wal_report *ret_report)
{
	struct wal *w = NULL;
	struct err e;
	model_begin(&model);
	test_ok(wal_open(o, from, model_replay, &model, ret_report, &w, &e), &e);
	return w;
}

static struct wal_stats stats_of(struct wal *w)
{
	struct wal_stats s;
	wal_stats(w, &s);
	return s;
}

/* Random appends, syncs, truncations and restarts against a list of what must be there. */
static void run_model(uint64_t seed)
{
	struct wal_options o = options("model");
	struct wal_report report;
	struct err e;
	uint64_t position = 1, next = 1;
	o.segment_bytes = 2048 + test_below(&seed, 8000);
	o.sync_always = test_below(&seed, 4) == 0;
	assert_int_equal(io_remove_tree(o.folder, NULL), OK);
	memset(&model, 0, sizeof(model));
	struct wal *w = open_log(&o, 0, &report);
	for (int step = 0; step < 600; step++) {
		uint64_t what = test_below(&seed, 100);
		if (what < 80) {
			test_ok(model_append(&model, w, test_random(&seed) | 1, &e), &e);
			next++;
		} else if (what < 90) {
			test_ok(wal_sync(w, &e), &e);
			assert_int_equal(stats_of(w).synced, next);
			assert_int_equal(stats_of(w).unsynced_bytes, 0);
		} else if (what < 95) {
			position += test_below(&seed, next - position + 1);
			test_ok(wal_truncate(w, position, &e), &e);
		} else {
			test_ok(wal_close(w, &e), &e);
			w = open_log(&o, position, &report);
			assert_int_equal(model.seen_count, next - position);
			assert_int_equal(report.group_count, next - position);
			assert_int_equal(report.lost_count + report.bad_span_count, 0);
			assert_int_equal(report.torn_bytes + report.repeated_count, 0);
			assert_int_equal(report.next, next);
		}
		assert_int_equal(wal_next(w), next);
	}
	/* nothing before the position is needed: then nothing is kept */
	test_ok(wal_sync(w, &e), &e);
	test_ok(wal_truncate(w, next, &e), &e);
	assert_int_equal(stats_of(w).segment_count, 0);
	assert_int_equal(stats_of(w).bytes, 0);
	test_ok(wal_close(w, &e), &e);
	w = open_log(&o, next, &report);
	assert_int_equal(report.segment_count, 0);
	assert_int_equal(wal_next(w), next);
	test_ok(wal_close(w, &e), &e);
}

static void groups_are_there_after_any_restart(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++)
		run_model(seed);
}

static void syncs_are_due_after_appends(void **state)
{
	(void)state;
	struct wal_options o = options("due");
	struct wal_report report;
	struct err e;
	struct wal *w = open_log(&o, 0, &report);
	assert_true(wal_sync_due_ms(w) == INT64_MAX);
	test_ok(model_append(&model, w, 1, &e), &e);
	assert_true(wal_sync_due_ms(w) <= WAL_SYNC_DUE_MS);
	test_ok(wal_sync(w, &e), &e);
	assert_true(wal_sync_due_ms(w) == INT64_MAX);
	uint64_t syncs = stats_of(w).sync_count;
	test_ok(wal_sync(w, &e), &e);
	assert_int_equal(stats_of(w).sync_count, syncs);
	test_ok(wal_close(w, &e), &e);
	test_ok(wal_close(NULL, &e), &e);
}

static void limits_are_kept(void **state)
{
	(void)state;
	struct wal_options o = options("limits");
	struct wal_report report;
	struct err e;
	char *large = must_calloc(1, WAL_GROUP_BYTES_MAX);
	o.segment_bytes = 4096;
	o.bytes_max = 20000;
	o.unsynced_bytes_max = 3000;
	struct wal *w = open_log(&o, 0, &report);
	struct wal_record record = { 1, { large, WAL_GROUP_BYTES_MAX } };
	assert_int_equal(wal_append(w, &record, 1, NULL, &e), ERR_LIMIT);
	errc rc = OK;
	record.bytes.len = 1000;
	for (int i = 0; i < 30 && rc == OK; i++) {
		rc = wal_append(w, &record, 1, NULL, &e);
		assert_true(stats_of(w).unsynced_bytes <= 3000);
	}
	assert_int_equal(rc, ERR_BUSY);
	uint64_t next = wal_next(w);
	assert_true(stats_of(w).bytes <= 20000);
	test_ok(wal_truncate(w, next, &e), &e);
	test_ok(wal_sync(w, &e), &e);
	test_ok(wal_append(w, &record, 1, NULL, &e), &e);
	assert_int_equal(wal_next(w), next + 1);
	test_ok(wal_close(w, &e), &e);
	free(large);
}

static void foreign_logs_are_refused(void **state)
{
	(void)state;
	struct wal_options o = options("foreign");
	struct wal_report report;
	struct wal *w = open_log(&o, 0, &report);
	struct err e;
	test_ok(model_append(&model, w, 1, &e), &e);
	test_ok(wal_close(w, &e), &e);
	o.engine = "other";
	assert_int_equal(wal_open(&o, 0, NULL, NULL, &report, &w, &e), ERR_CONFLICT);
	assert_non_null(strstr(e.message, "belongs to test"));
	o.engine = "test";
	/* a newer format */
	struct buf bytes = test_read(test_path("foreign/0000000000000001.wal"));
	for (size_t at = 0; at <= WAL_HEADER_COPY; at += WAL_HEADER_COPY) {
		put_u32(bytes.ptr + at + 8, WAL_VERSION + 1);
		put_u32(bytes.ptr + at + 12, 0);
		put_u32(bytes.ptr + at + 12, crc32c(0, (str){ bytes.ptr + at, WAL_HEADER_BYTES }));
	}
	test_write(test_path("foreign/0000000000000001.wal"), bytes.ptr, bytes.len);
	buf_done(&bytes);
	assert_int_equal(wal_open(&o, 0, NULL, NULL, &report, &w, &e), ERR_CONFLICT);
	assert_non_null(strstr(e.message, "newer"));
}

static errc refuse(void *ctx, struct wal_group *group, struct err *e)
{
	uint64_t *count = ctx;
	if (group->sequence == 3)
		FAIL(e, ERR_INVALID, "not this one");
	(*count)++;
	return OK;
}

static void what_replay_says_ends_it(void **state)
{
	(void)state;
	struct wal_options o = options("refuse");
	struct wal_report report;
	struct err e;
	uint64_t count = 0;
	struct wal *w = open_log(&o, 0, &report);
	for (uint64_t i = 1; i <= 5; i++)
		test_ok(model_append(&model, w, i, &e), &e);
	test_ok(wal_close(w, &e), &e);
	assert_int_equal(wal_open(&o, 0, refuse, &count, &report, &w, &e), ERR_INVALID);
	assert_string_equal(e.message, "not this one");
	assert_int_equal(count, 2);
	/* a scan reads the same, and from where it is told */
	assert_int_equal(wal_scan(&o, 4, refuse, &count, &report, &e), OK);
	assert_int_equal(count, 4);
	assert_int_equal(report.skipped_count, 3);
	assert_int_equal(report.next, 6);
	o.folder = test_path("none");
	assert_int_equal(wal_scan(&o, 7, refuse, &count, &report, &e), OK);
	assert_int_equal(report.next, 7);
	assert_false(test_exists(o.folder));
}

static void a_group_larger_than_all_buffers_is_read(void **state)
{
	(void)state;
	struct wal_options o = options("large");
	struct wal_report report;
	struct err e;
	size_t len = 5 << 20;
	char *bytes = must_calloc(1, len);
	test_fill(5, bytes, len);
	struct wal_record record = { 9, { bytes, len } }, got = { 0 };
	struct wal *w = open_log(&o, 0, &report);
	for (uint64_t i = 1; i <= 3; i++)
		test_ok(wal_append(w, &record, 1, NULL, &e), &e);
	test_ok(wal_close(w, &e), &e);
	assert_int_equal(wal_scan(&o, 0, NULL, &got, &report, &e), OK);
	assert_int_equal(report.group_count, 3);
	assert_int_equal(report.bad_span_count + report.torn_bytes, 0);
	free(bytes);
}

enum { THREADS = 4, APPENDS = 150 };

static struct wal *shared;
static struct wal_model shared_models[THREADS];

static void *append_many(void *arg)
{
	struct wal_model *m = arg;
	struct err e;
	for (uint64_t i = 1; i <= APPENDS; i++)
		must(model_append(m, shared, (uint64_t)(m - shared_models) * 1000 + i, &e) == OK);
	return NULL;
}

static void threads_share_the_log(void **state)
{
	for (int always = 0; always <= 1; always++) {
		struct wal_options o = options(always ? "threads_always" : "threads");
		struct wal_report report;
		struct err e;
		pthread_t threads[THREADS];
		o.segment_bytes = 8192;
		o.sync_always = always;
		o.unsynced_bytes_max = 10000;
		memset(&model, 0, sizeof(model));
		memset(shared_models, 0, sizeof(shared_models));
		shared = open_log(&o, 0, &report);
		for (size_t i = 0; i < THREADS; i++)
			must(pthread_create(&threads[i], NULL, append_many, &shared_models[i]) ==
			     0);
		/* meanwhile what is durable is let go of now and then */
		for (uint64_t at = 0; at < THREADS * APPENDS / 2; at = wal_next(shared))
			test_ok(wal_sync(shared, &e), &e);
		for (size_t i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		if (always)
			assert_int_equal(stats_of(shared).unsynced_bytes, 0);
		assert_true(stats_of(shared).append_count == THREADS * APPENDS);
		test_ok(wal_close(shared, &e), &e);
		for (size_t i = 1; i <= THREADS * APPENDS; i++)
			for (size_t t = 0; t < THREADS; t++)
				if (shared_models[t].keys[i]) {
					assert_int_equal(model.keys[i], 0);
					model.keys[i] = shared_models[t].keys[i];
				}
		shared = open_log(&o, 0, &report);
		assert_int_equal(model.seen_count, THREADS * APPENDS);
		test_ok(wal_close(shared, &e), &e);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(groups_are_there_after_any_restart),
		cmocka_unit_test(syncs_are_due_after_appends),
		cmocka_unit_test(limits_are_kept),
		cmocka_unit_test(foreign_logs_are_refused),
		cmocka_unit_test(what_replay_says_ends_it),
		cmocka_unit_test(a_group_larger_than_all_buffers_is_read),
		cmocka_unit_test(threads_share_the_log),
	};
	return cmocka_run_group_tests(tests, test_root_make, test_root_remove);
}
