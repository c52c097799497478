/* Parts of samples against a plain model: what was written is read, whole and by ranges; bytes that
 * are bad cost the samples in them, never others, and never the process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../base/test_random.h"
#include "base/checks.h"
#include "metrics/metrics_part.h"
#include "metrics/samples.h"
#include "os/io.h"

enum { SERIES = 60, DAY = 20000, DAY_MS = 86400000, NAME_BYTES = 64 };

struct made_series {
	uint32_t id;
	time_ms *times;
	double *values;
	const struct histogram **histograms; /* or NULL */
	size_t count;
};

struct fixture {
	char folder[64];
	struct made_series series[SERIES];
	time_ms *shared; /* scraped together */
	struct arena arena;
	struct test_random random;
};

static struct err error;

static void check(errc rc, int line)
{
	if (rc == OK)
		return;
	print_error("%s: %s (line %d)\n", errc_name(rc), error.message, line);
	fail();
}
#define assert_ok(expr) check((expr), __LINE__)

static const struct histogram *make_histogram(struct fixture *f)
{
	struct test_random *r = &f->random;
	uint32_t buckets = 1 + (uint32_t)test_random_below(r, 20);
	struct histogram_span *span = arena_array(&f->arena, 1, sizeof(*span));
	double *counts = arena_array(&f->arena, buckets, sizeof(*counts));
	struct histogram *h = arena_array(&f->arena, 1, sizeof(*h));
	*span = (struct histogram_span){ (int32_t)test_random_below(r, 40) - 20, buckets };
	*h = (struct histogram){ .schema = (int32_t)test_random_below(r, 9), .sum = 12.5 };
	for (uint32_t i = 0; i < buckets; i++)
		h->count += counts[i] = (double)test_random_below(r, 1000);
	h->positive = (struct histogram_side){ span, counts, 1, buckets };
	assert_ok(histogram_check(h, &error));
	return h;
}

static double odd_value(struct test_random *r)
{
	static const uint64_t odd[] = { 0x8000000000000000, METRICS_STALE_BITS, 0x7ff8000000000001,
					0x7ff0000000000000, 0xfff0000000000000, 1 };
	double value = (double)test_random_below(r, 1000000) / 100;
	if (test_random_below(r, 50) == 0)
		memcpy(&value, &odd[test_random_below(r, ARRAY_COUNT(odd))], sizeof(value));
	return value;
}

static void make_series(struct fixture *f, size_t index)
{
	static const size_t counts[] = { 1, 2, 500, 1024, 1025, 3000 };
	struct made_series *s = &f->series[index];
	struct test_random *r = &f->random;
	double counter = 0;
	s->id = (uint32_t)(3 * index + 1);
	s->count = counts[index % ARRAY_COUNT(counts)];
	s->times = f->shared;
	s->values = must_calloc(s->count, sizeof(s->values[0]));
	if (index % 4 == 3) { /* times of its own */
		time_ms at = (time_ms)DAY * DAY_MS;
		s->times = must_calloc(s->count, sizeof(s->times[0]));
		for (size_t i = 0; i < s->count; i++)
			s->times[i] = at += 1 + (time_ms)test_random_below(r, 20000);
	}
	if (index % 7 == 5)
		s->histograms = must_calloc(s->count, sizeof(s->histograms[0]));
	for (size_t i = 0; i < s->count; i++) {
		counter += (double)test_random_below(r, 50);
		s->values[i] = index % 3 == 0 ? counter : index % 3 == 1 ? 7 : odd_value(r);
		if (s->histograms && i / 100 % 3 != 1)
			s->histograms[i] = make_histogram(f);
	}
}

static int setup(void **state)
{
	struct fixture *f = must_calloc(1, sizeof(*f));
	snprintf(f->folder, sizeof(f->folder), "/tmp/hf-part-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	f->random.state = 7;
	f->arena = arena_init(256 << 20);
	f->shared = must_calloc(3000, sizeof(f->shared[0]));
	for (size_t i = 0; i < 3000; i++)
		f->shared[i] = (time_ms)DAY * DAY_MS + (time_ms)i * 15000 +
			       (time_ms)test_random_below(&f->random, 20);
	for (size_t i = 0; i < SERIES; i++)
		make_series(f, i);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < SERIES; i++) {
		if (f->series[i].times != f->shared)
			free(f->series[i].times);
		free(f->series[i].values);
		free(f->series[i].histograms);
	}
	free(f->shared);
	arena_done(&f->arena);
	assert_ok(io_remove_tree(f->folder, &error));
	free(f);
	return 0;
}

static struct metrics_part *write_part(struct fixture *f, const char *name, bool cold)
{
	struct metrics_part_meta meta = { .day = DAY,
					  .retention_class = 3,
					  .first_write = 4,
					  .last_write = 9,
					  .purged = 2,
					  .cold = cold },
				 done;
	struct metrics_part_writer *w = NULL;
	struct metrics_part *p = NULL;
	uint64_t bytes = 0, samples = 0;
	assert_ok(metrics_part_writer_new(f->folder, name, &meta, &w, &error));
	for (size_t i = 0; i < SERIES; i++) {
		const struct made_series *s = &f->series[i];
		struct metrics_samples all = { .times = s->times,
					       .values = s->values,
					       .histograms = s->histograms,
					       .count = s->count };
		assert_ok(metrics_part_writer_add(w, s->id, &all, &error));
		samples += s->count;
	}
	assert_ok(metrics_part_writer_finish(w, &done, &bytes, &error));
	metrics_part_writer_free(w);
	assert_ok(metrics_part_open(f->folder, name, NULL, &p, &error));
	const struct metrics_part_meta *read = metrics_part_meta(p);
	assert_int_equal(read->day, DAY);
	assert_int_equal(read->retention_class, 3);
	assert_int_equal(read->first_write, 4);
	assert_int_equal(read->last_write, 9);
	assert_int_equal(read->purged, 2);
	assert_int_equal(read->cold, cold);
	assert_int_equal(read->sample_count, samples);
	assert_int_equal(read->series_count, SERIES);
	assert_int_equal(read->min_time, done.min_time);
	assert_int_equal(read->max_time, done.max_time);
	assert_int_equal(part_file_bytes(metrics_part_file(p)), bytes);
	return p;
}

static void assert_same(const struct made_series *s, size_t at, const struct metrics_samples *got,
			size_t k)
{
	const struct histogram *want = s->histograms ? s->histograms[at] : NULL;
	const struct histogram *have = got->histograms ? got->histograms[k] : NULL;
	assert_int_equal(got->times[k], s->times[at]);
	assert_int_equal(have != NULL, want != NULL);
	if (want)
		assert_true(histogram_eq(want, have));
	else
		assert_memory_equal(&got->values[k], &s->values[at], sizeof(double));
}

/* All of S in [FROM, TO] and nothing else. */
static void assert_range(const struct made_series *s, time_ms from, time_ms to,
			 const struct metrics_samples *got)
{
	size_t k = 0;
	for (size_t i = 0; i < s->count; i++)
		if (s->times[i] >= from && s->times[i] <= to) {
			assert_true(k < got->count);
			assert_same(s, i, got, k++);
		}
	assert_int_equal(got->count, k);
}

static void read_all(struct fixture *f, struct metrics_part *p)
{
	struct metrics_samples got = { 0 };
	uint64_t bad = 0;
	for (size_t i = 0; i < SERIES; i++) {
		samples_clear(&got);
		assert_ok(metrics_part_read(p, f->series[i].id, INT64_MIN, INT64_MAX, METRICS_LAST,
					    &got, &bad, &error));
		assert_range(&f->series[i], INT64_MIN, INT64_MAX, &got);
		samples_clear(&got);
		assert_ok(metrics_part_read(p, f->series[i].id + 1, INT64_MIN, INT64_MAX,
					    METRICS_LAST, &got, &bad, &error));
		assert_int_equal(got.count, 0);
	}
	assert_int_equal(bad, 0);
	metrics_samples_done(&got);
}

static void read_ranges(struct fixture *f, struct metrics_part *p)
{
	struct metrics_samples got = { 0 };
	uint64_t bad = 0;
	for (size_t round = 0; round < 2000; round++) {
		const struct made_series *s = &f->series[test_random_below(&f->random, SERIES)];
		time_ms a = s->times[test_random_below(&f->random, s->count)];
		time_ms from = a - (time_ms)test_random_below(&f->random, 3);
		time_ms to = from + (time_ms)test_random_below(&f->random, 40000000);
		samples_clear(&got);
		assert_ok(metrics_part_read(p, s->id, from, to, METRICS_LAST, &got, &bad, &error));
		assert_range(s, from, to, &got);
	}
	assert_int_equal(bad, 0);
	metrics_samples_done(&got);
}

static void walk(struct fixture *f, struct metrics_part *p)
{
	struct metrics_part_cursor *c = metrics_part_cursor_new(p);
	struct metrics_samples got = { 0 };
	uint64_t bad = 0;
	uint32_t id = 0;
	for (size_t i = 0; i < SERIES; i++) {
		assert_ok(metrics_part_cursor_next(c, &id, &bad, &error));
		assert_int_equal(id, f->series[i].id);
		if (i % 5 == 1) /* passed over */
			continue;
		samples_clear(&got);
		assert_ok(metrics_part_cursor_read(c, &got, &bad, &error));
		assert_range(&f->series[i], INT64_MIN, INT64_MAX, &got);
	}
	assert_ok(metrics_part_cursor_next(c, &id, &bad, &error));
	assert_int_equal(id, 0);
	assert_int_equal(bad, 0);
	metrics_samples_done(&got);
	metrics_part_cursor_free(c);
}

static void reads_what_was_written(void **state)
{
	struct fixture *f = *state;
	for (int cold = 0; cold < 2; cold++) {
		char name[NAME_BYTES];
		struct id_set ids = { 0 };
		snprintf(name, sizeof(name), "s-%d.part", cold);
		struct metrics_part *p = write_part(f, name, cold);
		read_all(f, p);
		read_ranges(f, p);
		walk(f, p);
		metrics_part_ids(p, &ids);
		assert_int_equal(ids.count, SERIES);
		for (size_t i = 0; i < SERIES; i++)
			assert_int_equal(ids.ids[i], f->series[i].id);
		id_set_done(&ids);
		metrics_part_unref(p);
	}
}

/* Series that were scraped together have one key for their times; others have not. */
static void shares_times(void **state)
{
	struct fixture *f = *state;
	struct metrics_part *p = write_part(f, "s-2.part", false);
	struct metrics_samples got = { 0 };
	uint64_t bad = 0, keys[SERIES];
	time_ms from = INT64_MIN, to = INT64_MAX;
	for (size_t i = 0; i < SERIES; i++) {
		samples_clear(&got);
		assert_ok(metrics_part_read(p, f->series[i].id, from, to, METRICS_LAST, &got, &bad,
					    &error));
		assert_range(&f->series[i], from, to, &got);
		keys[i] = got.times_key;
		for (size_t k = 0; k < i; k++)
			if (keys[i] && keys[i] == keys[k]) {
				assert_int_equal(f->series[i].count, f->series[k].count);
				assert_memory_equal(f->series[i].times, f->series[k].times,
						    f->series[i].count * sizeof(time_ms));
			}
	}
	/* 500 samples of the shared times each */
	assert_true(keys[2] != 0);
	assert_int_equal(keys[2], keys[8]);
	metrics_samples_done(&got);
	metrics_part_unref(p);
}

/* A series as long as it gets, over many vectors and, with histograms, several blocks. */
static void keeps_long_series(void **state)
{
	struct fixture *f = *state;
	struct metrics_part_meta meta = { .day = DAY }, done;
	struct metrics_part_writer *w = NULL;
	struct metrics_part *p = NULL;
	struct metrics_samples got = { 0 };
	struct made_series s = { .id = 9, .count = 300000 };
	uint64_t bad = 0, bytes;
	s.times = must_calloc(s.count, sizeof(s.times[0]));
	s.values = must_calloc(s.count, sizeof(s.values[0]));
	for (size_t i = 0; i < s.count; i++) {
		uint64_t bits = test_random_u64(&f->random); /* as large as they get */
		s.times[i] = (time_ms)DAY * DAY_MS + (time_ms)i * 250 +
			     (time_ms)test_random_below(&f->random, 200);
		memcpy(&s.values[i], &bits, sizeof(bits));
	}
	struct metrics_samples all = { .times = s.times, .values = s.values, .count = s.count };
	struct metrics_samples one = { .times = s.times, .values = s.values, .count = 1 };
	assert_ok(metrics_part_writer_new(f->folder, "s-3.part", &meta, &w, &error));
	assert_ok(metrics_part_writer_add(w, 8, &one, &error));
	for (s.id = 9; s.id < 16; s.id++)
		assert_ok(metrics_part_writer_add(w, s.id, &all, &error));
	assert_ok(metrics_part_writer_finish(w, &done, &bytes, &error));
	metrics_part_writer_free(w);
	assert_ok(metrics_part_open(f->folder, "s-3.part", NULL, &p, &error));
	for (s.id = 9; s.id < 16; s.id++) {
		samples_clear(&got);
		assert_ok(metrics_part_read(p, s.id, INT64_MIN, INT64_MAX, METRICS_LAST, &got, &bad,
					    &error));
		assert_range(&s, INT64_MIN, INT64_MAX, &got);
		samples_clear(&got);
		assert_ok(metrics_part_read(p, s.id, s.times[100000], s.times[199999], METRICS_LAST,
					    &got, &bad, &error));
		assert_int_equal(got.count, 100000);
		assert_same(&s, 100000, &got, 0);
		assert_same(&s, 199999, &got, 99999);
	}
	assert_int_equal(bad, 0);
	metrics_samples_done(&got);
	metrics_part_unref(p);
	free(s.times);
	free(s.values);
}

/* As many buckets as are taken, populations that do not compress. */
static void keeps_large_histograms(void **state)
{
	enum { COUNT = 150 };
	struct fixture *f = *state;
	struct metrics_part_meta meta = { .day = DAY }, done;
	struct metrics_part_writer *w = NULL;
	struct metrics_part *p = NULL;
	struct metrics_samples got = { 0 };
	struct made_series s = { .id = 1, .times = f->shared, .count = COUNT };
	uint64_t bad = 0, bytes;
	s.histograms = must_calloc(COUNT, sizeof(s.histograms[0]));
	s.values = must_calloc(COUNT, sizeof(s.values[0]));
	for (size_t i = 0; i < COUNT; i++) {
		struct histogram *h = arena_array(&f->arena, 1, sizeof(*h));
		struct histogram_span *span = arena_array(&f->arena, 1, sizeof(*span));
		double *counts = arena_array(&f->arena, HISTOGRAM_BUCKETS_MAX, sizeof(*counts));
		*span = (struct histogram_span){ 0, HISTOGRAM_BUCKETS_MAX };
		for (size_t k = 0; k < HISTOGRAM_BUCKETS_MAX; k++)
			h->count += counts[k] = (double)(test_random_u64(&f->random) >> 11) /
						9007199254740992.0;
		h->count *= 2;
		h->positive = h->negative = (struct histogram_side){ span, counts, 1,
								     HISTOGRAM_BUCKETS_MAX };
		assert_ok(histogram_check(h, &error));
		s.histograms[i] = h;
	}
	assert_ok(arena_check(&f->arena, "histograms", &error));
	struct metrics_samples all = {
		.times = s.times, .values = s.values, .histograms = s.histograms, .count = COUNT
	};
	assert_ok(metrics_part_writer_new(f->folder, "s-4.part", &meta, &w, &error));
	assert_ok(metrics_part_writer_add(w, 1, &all, &error));
	assert_ok(metrics_part_writer_finish(w, &done, &bytes, &error));
	metrics_part_writer_free(w);
	assert_ok(metrics_part_open(f->folder, "s-4.part", NULL, &p, &error));
	assert_ok(metrics_part_read(p, 1, INT64_MIN, INT64_MAX, METRICS_LAST, &got, &bad, &error));
	assert_range(&s, INT64_MIN, INT64_MAX, &got);
	assert_int_equal(bad, 0);
	metrics_samples_done(&got);
	metrics_part_unref(p);
	free(s.values);
	free(s.histograms);
}

static void keeps_rollups(void **state)
{
	enum { COUNT = 288 };
	struct fixture *f = *state;
	struct metrics_part_meta meta = { .resolution = METRICS_5M, .day = DAY, .cold = true },
				 done;
	struct metrics_part_writer *w = NULL;
	struct metrics_part *p = NULL;
	struct metrics_samples got = { 0 };
	double columns[PART_COLUMNS_MAX][COUNT];
	const double *pointers[PART_COLUMNS_MAX];
	uint64_t bad = 0, bytes;
	for (size_t c = 0; c < PART_COLUMNS_MAX; c++) {
		pointers[c] = columns[c];
		for (size_t i = 0; i < COUNT; i++)
			columns[c][i] = odd_value(&f->random);
	}
	assert_ok(metrics_part_writer_new(f->folder, "s-5.part", &meta, &w, &error));
	for (uint32_t id = 1; id < 200; id++)
		assert_ok(metrics_part_writer_rollup(w, id, f->shared, pointers, COUNT - id % 3,
						     &error));
	assert_ok(metrics_part_writer_finish(w, &done, &bytes, &error));
	metrics_part_writer_free(w);
	assert_ok(metrics_part_open(f->folder, "s-5.part", NULL, &p, &error));
	for (uint32_t id = 1; id < 200; id++)
		for (size_t c = 0; c < PART_COLUMNS_MAX; c++) {
			struct made_series s = { id, f->shared, columns[c], NULL, COUNT - id % 3 };
			samples_clear(&got);
			assert_ok(metrics_part_read(p, id, f->shared[5], f->shared[280],
						    (enum metrics_rollup)c, &got, &bad, &error));
			assert_range(&s, f->shared[5], f->shared[280], &got);
		}
	assert_int_equal(bad, 0);
	metrics_samples_done(&got);
	metrics_part_unref(p);
}

/* ---- Bad bytes. */

static void put_bytes(struct fixture *f, const char *name, str bytes)
{
	char path[NAME_BYTES * 2];
	snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	assert_ok(io_write_file(path, bytes, 0600, &error));
}

/* Nothing that is read is wrong, and what is missing was counted. */
static void read_damaged(struct fixture *f, const char *name)
{
	struct metrics_samples got = { 0 };
	struct metrics_part *p = NULL;
	if (metrics_part_open(f->folder, name, NULL, &p, &error) != OK)
		return;
	for (size_t i = 0; i < SERIES; i += 7) {
		const struct made_series *s = &f->series[i];
		uint64_t bad = 0;
		size_t at = 0;
		samples_clear(&got);
		assert_ok(metrics_part_read(p, s->id, INT64_MIN, INT64_MAX, METRICS_LAST, &got,
					    &bad, &error));
		assert_true(got.count == s->count || bad);
		for (size_t k = 0; k < got.count; k++) {
			while (at < s->count && s->times[at] != got.times[k])
				at++;
			assert_true(at < s->count);
			assert_same(s, at, &got, k);
		}
	}
	metrics_samples_done(&got);
	metrics_part_unref(p);
}

static void survives_bad_bytes(void **state)
{
	struct fixture *f = *state;
	struct buf bytes = buf_init(64 << 20);
	char path[NAME_BYTES * 2];
	metrics_part_unref(write_part(f, "s-6.part", true));
	snprintf(path, sizeof(path), "%s/s-6.part", f->folder);
	assert_ok(io_read_file(path, &bytes, &error));
	for (size_t round = 0; round < 150; round++) {
		size_t at = test_random_below(&f->random, bytes.len);
		/* the tables at the end are the smaller part of it: look there as often */
		if (round % 2)
			at = bytes.len - 1 - test_random_below(&f->random, 2048);
		char before = bytes.ptr[at];
		bytes.ptr[at] = (char)(before ^ (1 << test_random_below(&f->random, 8)));
		put_bytes(f, "s-7.part", buf_str(&bytes));
		read_damaged(f, "s-7.part");
		bytes.ptr[at] = before;
	}
	for (size_t round = 0; round < 30; round++) {
		put_bytes(f, "s-7.part",
			  (str){ bytes.ptr, test_random_below(&f->random, bytes.len) });
		read_damaged(f, "s-7.part");
	}
	buf_done(&bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_was_written), cmocka_unit_test(shares_times),
		cmocka_unit_test(keeps_long_series),      cmocka_unit_test(keeps_large_histograms),
		cmocka_unit_test(keeps_rollups),          cmocka_unit_test(survives_bad_bytes),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
