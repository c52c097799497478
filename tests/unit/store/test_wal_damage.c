/* The log when its bytes are not what was written: everything else is served, nothing twice. */
#include "wal_model.h"

enum { GROUPS = 40 };

/* Where a group lies. */
struct place {
	uint64_t segment, begin, end;
};

static struct wal_model model;
static struct place places[GROUPS + 1];
static char wal_folder[128];

static struct wal_options options(struct quarantine *q)
{
	return (struct wal_options){
		.folder = wal_folder, .engine = "test", .quarantine = q, .segment_bytes = 3000
	};
}

static const char *segment_path(uint64_t number)
{
	char name[32];
	snprintf(name, sizeof(name), "log/%016llx.wal", (unsigned long long)number);
	return test_path(name);
}

/* A log of some segments, all synced. */
static void write_log(void)
{
	struct wal_options o = options(NULL);
	struct wal_report report;
	struct wal *w = NULL;
	struct err e;
	uint64_t segment = 0, end = 0;
	snprintf(wal_folder, sizeof(wal_folder), "%s", test_path("log"));
	assert_int_equal(io_remove_tree(wal_folder, NULL), OK);
	memset(&model, 0, sizeof(model));
	test_ok(wal_open(&o, 0, NULL, NULL, &report, &w, &e), &e);
	for (uint64_t i = 1; i <= GROUPS; i++) {
		struct model_group g;
		struct wal_stats s;
		model_group(i * 77, &g);
		test_ok(model_append(&model, w, i * 77, &e), &e);
		test_ok(wal_sync(w, &e), &e);
		wal_stats(w, &s);
		if (s.segment_count > segment)
			end = WAL_GROUPS_BEGIN;
		segment = s.segment_count;
		places[i] = (struct place){
			segment, end, end + WAL_GROUP_HEADER + wal_payload_len(g.records, g.count)
		};
		end = places[i].end;
	}
	assert_true(segment >= 3);
	test_ok(wal_close(w, &e), &e);
}

static struct wal_report scan(struct quarantine *q)
{
	struct wal_options o = options(q);
	struct wal_report report;
	struct err e;
	model_begin(&model);
	test_ok(wal_scan(&o, 0, model_replay, &model, &report, &e), &e);
	return report;
}

static void one_bad_byte_costs_one_group(void **state)
{
	(void)state;
	write_log();
	for (uint64_t i = 1; i <= GROUPS; i++) {
		bool at_end = i == GROUPS;
		for (uint64_t at = places[i].begin; at < places[i].end; at += 5) {
			struct quarantine *q = quarantine_new();
			test_flip(segment_path(places[i].segment), at, (int)(at % 8));
			struct wal_report report = scan(q);
			test_flip(segment_path(places[i].segment), at, (int)(at % 8));
			assert_int_equal(model.seen_count, GROUPS - 1);
			assert_false(model.seen[i]);
			/* of the last one nobody can say that it was ever whole */
			assert_int_equal(report.bad_span_count, at_end ? 0 : 1);
			assert_int_equal(report.lost_count, at_end ? 0 : 1);
			assert_int_equal(quarantine_count(q), at_end ? 0 : 1);
			assert_true(report.next > GROUPS);
			quarantine_free(q);
		}
	}
	assert_int_equal(scan(NULL).group_count, GROUPS);
}

static void a_bad_header_has_a_second_copy(void **state)
{
	(void)state;
	write_log();
	for (uint64_t at = 0; at < WAL_GROUPS_BEGIN; at += 7) {
		test_flip(segment_path(2), at, 3);
		struct wal_report report = scan(NULL);
		assert_int_equal(report.group_count, GROUPS);
		assert_int_equal(report.bad_span_count, 0);
		test_flip(segment_path(2), at, 3);
	}
	/* with both bad, its name and its neighbours say enough */
	struct quarantine *q = quarantine_new();
	test_flip(segment_path(2), 40, 0);
	test_flip(segment_path(2), WAL_HEADER_COPY + 40, 0);
	assert_int_equal(scan(q).group_count, GROUPS);
	assert_int_equal(quarantine_count(q), 1);
	quarantine_free(q);
}

static void any_cut_leaves_what_comes_before(void **state)
{
	(void)state;
	write_log();
	uint64_t last = places[GROUPS].segment;
	struct buf bytes = test_read(segment_path(last));
	for (size_t len = 0; len < bytes.len; len += 3) {
		uint64_t whole = 0;
		for (uint64_t i = 1; i <= GROUPS; i++)
			whole += places[i].segment < last || places[i].end <= len;
		test_write(segment_path(last), bytes.ptr, len);
		struct wal_report report = scan(NULL);
		assert_int_equal(report.group_count, whole);
		assert_int_equal(model.last, whole);
		assert_int_equal(report.bad_span_count + report.lost_count, 0);
	}
	buf_done(&bytes);
}

/* Bytes of any kind, many at once. */
static void no_damage_makes_recovery_fail(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 150; seed++) {
		uint64_t random = seed;
		write_log();
		for (uint64_t n = 1 + test_below(&random, 12); n; n--) {
			uint64_t number = 1 + test_below(&random, places[GROUPS].segment);
			struct buf bytes = test_read(segment_path(number));
			size_t at = test_below(&random, bytes.len);
			size_t len = test_below(&random, bytes.len - at) / 4;
			if (test_below(&random, 3) == 0)
				memset(bytes.ptr + at, 0, len);
			else if (test_below(&random, 2))
				test_fill(random, bytes.ptr + at, len);
			else
				memmove(bytes.ptr + at, bytes.ptr, len);
			if (test_below(&random, 8) == 0)
				bytes.len = at + 1;
			test_write(segment_path(number), bytes.ptr, bytes.len);
			buf_done(&bytes);
		}
		struct quarantine *q = quarantine_new();
		struct wal_options o = options(q);
		struct wal_report report;
		struct wal *w = NULL;
		struct err e;
		model_begin(&model);
		test_ok(wal_open(&o, 0, model_replay, &model, &report, &w, &e), &e);
		size_t before = model.seen_count;
		/* and it goes on: new groups are there, old ones too */
		test_ok(model_append(&model, w, 12345, &e), &e);
		test_ok(wal_close(w, &e), &e);
		struct wal_report again = scan(q);
		assert_int_equal(model.seen_count, before + 1);
		assert_true(again.lost_count <= report.lost_count);
		quarantine_free(q);
	}
}

static void a_bad_segment_is_kept_for_a_person(void **state)
{
	(void)state;
	struct wal_options o = options(NULL);
	struct wal_report report;
	struct wal *w = NULL;
	struct err e;
	write_log();
	test_flip(segment_path(2), WAL_GROUPS_BEGIN + 40, 1);
	test_ok(wal_open(&o, 0, model_replay, &model, &report, &w, &e), &e);
	test_ok(wal_truncate(w, wal_next(w), &e), &e);
	test_ok(wal_close(w, &e), &e);
	assert_false(test_exists(segment_path(1)));
	assert_false(test_exists(segment_path(2)));
	assert_true(test_exists(test_path("log/quarantine/0000000000000002.wal")));
	assert_false(test_exists(test_path("log/quarantine/0000000000000001.wal")));
}

static void other_files_are_left_alone(void **state)
{
	(void)state;
	write_log();
	const char *names[] = { "log/notes.txt", "log/1.wal", "log/000000000000000G.wal",
				"log/0000000000000000.wal" };
	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		test_write(test_path(names[i]), "x", 1);
	assert_int_equal(scan(NULL).group_count, GROUPS);
	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		assert_true(test_exists(test_path(names[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_bad_byte_costs_one_group),
		cmocka_unit_test(a_bad_header_has_a_second_copy),
		cmocka_unit_test(any_cut_leaves_what_comes_before),
		cmocka_unit_test(no_damage_makes_recovery_fail),
		cmocka_unit_test(a_bad_segment_is_kept_for_a_person),
		cmocka_unit_test(other_files_are_left_alone),
	};
	return cmocka_run_group_tests(tests, test_root_make, test_root_remove);
}
