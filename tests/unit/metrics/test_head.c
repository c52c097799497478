/* The head, and building samples: chains keep what was written, in any order of times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../base/test_random.h"
#include "base/checks.h"
#include "metrics/head.h"
#include "metrics/histogram_codec.h"
#include "metrics/samples.h"

enum { SERIES = 7, POINTS = 400, ROUNDS = 60 };

struct plain {
	time_ms times[POINTS];
	double values[POINTS];
	size_t count;
};

static void plain_put(struct plain *p, time_ms time, double value)
{
	size_t at = 0;
	while (at < p->count && p->times[at] < time)
		at++;
	if (at < p->count && p->times[at] == time) {
		p->values[at] = value;
		return;
	}
	memmove(p->times + at + 1, p->times + at, (p->count - at) * sizeof(p->times[0]));
	memmove(p->values + at + 1, p->values + at, (p->count - at) * sizeof(p->values[0]));
	p->times[at] = time;
	p->values[at] = value;
	p->count++;
}

static void compare(const struct head *h, const struct series *s, const struct plain *p,
		    struct metrics_samples *into, time_ms from, time_ms to)
{
	size_t n = 0;
	samples_clear(into);
	assert_int_equal(head_read(h, head_chain(h, s), head_in_order(s, h), from, to, into, NULL),
			 OK);
	for (size_t i = 0; i < p->count; i++) {
		if (p->times[i] < from || p->times[i] > to)
			continue;
		assert_true(n < into->count);
		assert_int_equal(into->times[n], p->times[i]);
		assert_true(into->values[n] == p->values[i]);
		n++;
	}
	assert_int_equal(into->count, n);
}

static time_ms random_time(struct test_random *r, size_t i)
{
	switch (test_random_below(r, 20)) {
	case 0:
		return (time_ms)(i * 1000) - 500 * (time_ms)test_random_below(r, 10);
	case 1: /* further than an offset reaches */
		return (time_ms)(i * 1000) - 30LL * 86400000;
	default:
		return (time_ms)i * 1000;
	}
}

static void a_head_gives_back_what_was_written(void **state)
{
	struct test_random r = { 5 };
	struct metrics_samples samples = { 0 };
	(void)state;
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		struct series series[SERIES] = { 0 };
		static struct plain plain[SERIES];
		struct head *h = head_new(round, 1);
		bool wild = test_random_below(&r, 2);
		memset(plain, 0, sizeof(plain));
		for (size_t i = 0; i < SERIES; i++)
			series[i] = (struct series){ .id = (uint32_t)i + 1,
						     .last_time = INT64_MIN };
		for (size_t i = 0; i < POINTS; i++) {
			size_t at = test_random_below(&r, SERIES);
			time_ms time = wild ? random_time(&r, i) : (time_ms)i * 1000;
			head_append(h, &series[at], time, (double)i);
			plain_put(&plain[at], time, (double)i);
		}
		for (size_t i = 0; i < SERIES; i++) {
			time_ms from = (time_ms)test_random_below(&r, POINTS) * 1000;
			compare(h, &series[i], &plain[i], &samples, INT64_MIN, INT64_MAX);
			compare(h, &series[i], &plain[i], &samples, from, from + 100000);
		}
		head_unref(h);
	}
	metrics_samples_done(&samples);
}

static void two_heads_have_a_chain_each(void **state)
{
	struct metrics_samples samples = { 0 };
	struct series s = { .id = 1, .last_time = INT64_MIN };
	struct head *first = head_new(1, 1), *second = head_new(2, 1), *third = head_new(3, 1);
	(void)state;
	head_append(first, &s, 10, 1);
	head_append(second, &s, 20, 2);
	assert_true(head_chain(first, &s) && head_chain(second, &s));
	assert_int_equal(head_chain(third, &s), 0);
	head_append(third, &s, 30, 3); /* takes the place of the first */
	assert_int_equal(head_chain(first, &s), 0);
	assert_int_equal(head_read(third, head_chain(third, &s), true, 0, 100, &samples, NULL), OK);
	assert_int_equal(samples.count, 1);
	assert_int_equal(samples.times[0], 30);
	assert_int_equal(first->touched.count, 1);
	head_unref(first);
	head_unref(second);
	head_unref(third);
	metrics_samples_done(&samples);
}

static struct histogram simple_histogram(struct histogram_span *span, double *buckets)
{
	*span = (struct histogram_span){ -2, 3 };
	buckets[0] = 1;
	buckets[1] = 2.5;
	buckets[2] = 0;
	return (struct histogram){ .schema = 3,
				   .zero_threshold = 0.001,
				   .zero_count = 2,
				   .count = 5.5,
				   .sum = -3,
				   .positive = { span, buckets, 1, 3 } };
}

static void histograms_come_back_among_floats(void **state)
{
	struct metrics_samples samples = { 0 };
	struct buf blob CLEANUP(buf_done) = buf_init(1000);
	struct histogram_span span;
	double buckets[3];
	struct histogram h = simple_histogram(&span, buckets);
	struct series s = { .id = 1, .last_time = INT64_MIN };
	struct head *head = head_new(1, 1);
	(void)state;
	histogram_encode(&h, &blob);
	head_append(head, &s, 1, 1);
	head_append_histogram(head, &s, 3, buf_str(&blob));
	head_append(head, &s, 2, 2);
	head_append_histogram(head, &s, -40LL * 86400000, buf_str(&blob));
	assert_int_equal(head_read(head, head_chain(head, &s), head_in_order(&s, head), INT64_MIN,
				   INT64_MAX, &samples, NULL),
			 OK);
	assert_int_equal(samples.count, 4);
	assert_true(histogram_eq(samples.histograms[0], &h));
	assert_null(samples.histograms[1]);
	assert_true(samples.values[2] == 2);
	assert_true(histogram_eq(samples.histograms[3], &h));
	head_unref(head);
	metrics_samples_done(&samples);
}

static void damaged_histograms_are_refused(void **state)
{
	struct buf blob CLEANUP(buf_done) = buf_init(1000);
	struct histogram_span span;
	double buckets[3];
	struct histogram h = simple_histogram(&span, buckets), *back;
	struct test_random r = { 6 };
	(void)state;
	histogram_encode(&h, &blob);
	for (size_t len = 0; len <= blob.len; len++) {
		struct arena arena CLEANUP(arena_done) = arena_init(1 << 20);
		errc rc = histogram_decode((str){ blob.ptr, len }, &arena, &back, NULL);
		assert_int_equal(rc, len == blob.len ? OK : ERR_CORRUPT);
	}
	for (int i = 0; i < 5000; i++) {
		struct arena arena CLEANUP(arena_done) = arena_init(1 << 20);
		char copy[1000];
		memcpy(copy, blob.ptr, blob.len);
		copy[test_random_below(&r, blob.len)] ^= (char)(1 + test_random_below(&r, 255));
		(void)!histogram_decode((str){ copy, blob.len }, &arena, &back, NULL);
	}
}

static void merging_keeps_the_later_of_equal_times(void **state)
{
	struct metrics_samples a = { 0 }, b = { 0 }, into = { 0 };
	(void)state;
	for (time_ms t = 0; t < 10; t++)
		samples_push(&a, t * 2, 1);
	for (time_ms t = 0; t < 10; t++)
		samples_push(&b, t * 3, 2);
	samples_merge(&into, &a, &b);
	assert_int_equal(into.count, 16);
	for (size_t i = 0; i < into.count; i++) {
		assert_true(!i || into.times[i - 1] < into.times[i]);
		assert_true(into.values[i] == (into.times[i] % 3 ? 1 : 2));
	}
	samples_drop_front(&into, 4);
	assert_int_equal(into.count, 12);
	assert_int_equal(into.times[0], 6);
	metrics_samples_done(&a);
	metrics_samples_done(&b);
	metrics_samples_done(&into);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_head_gives_back_what_was_written),
		cmocka_unit_test(two_heads_have_a_chain_each),
		cmocka_unit_test(histograms_come_back_among_floats),
		cmocka_unit_test(damaged_histograms_are_refused),
		cmocka_unit_test(merging_keeps_the_later_of_equal_times),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
