/* Kernels of range functions against their bodies, window by window, on seeded random series. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "query/promql/promql_eval_internal.h"

enum { SAMPLES_MAX = 700, STEPS_MAX_HERE = 400, CACHE_MAX = 16 };

static uint64_t seed;

static uint64_t next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t below(uint64_t n)
{
	return next() % n;
}

static double fraction(void)
{
	return (double)(next() >> 11) * 0x1p-53;
}

struct fixture {
	time_ms times[SAMPLES_MAX];
	double values[SAMPLES_MAX];
	uint32_t begins[STEPS_MAX_HERE], ends[STEPS_MAX_HERE];
	double cache[CACHE_MAX * STEPS_MAX_HERE];
	bool cached;
	struct promql_windows w;
};

enum shape { COUNTER, GAUGE, INTEGERS, WIDE, WILD, SHAPES };

static double wild_value(void)
{
	static const double values[] = { 0,        -0.0,      1,   1e308,  -1e308, 1e300,
					 INFINITY, -INFINITY, NAN, 5e-324, 3,      1e16 };
	return values[below(ARRAY_COUNT(values))];
}

static double value_after(enum shape shape, double before)
{
	switch (shape) {
	case COUNTER:
		return below(40) == 0 ? fraction() : before + fraction() * 10;
	case GAUGE:
		return fraction() * 200 - 100;
	case INTEGERS:
		return (double)below(5);
	case WIDE:
		return ldexp(fraction() - 0.5, (int)below(120) - 60);
	case WILD:
	case SHAPES:
		break;
	}
	return wild_value();
}

static void make_series(struct fixture *f, enum shape shape)
{
	size_t count = 1 + below(SAMPLES_MAX);
	time_ms t = (time_ms)below(100000) + 1000000;
	double v = 0;
	for (size_t i = 0; i < count; i++) {
		t += below(10) ? 15000 : 1 + (time_ms)below(120000);
		v = value_after(shape, v);
		f->times[i] = t;
		f->values[i] = v;
	}
	f->w = (struct promql_windows){ .times = f->times, .values = f->values, .count = count };
}

static void make_windows(struct fixture *f)
{
	static const int64_t ranges[] = { 1, 15000, 60000, 300000, 3600000, 20000000 };
	static const int64_t steps[] = { 0, 1000, 15000, 60000, 600000 };
	struct promql_windows *w = &f->w;
	w->range_ms = ranges[below(ARRAY_COUNT(ranges))];
	w->end_step = steps[below(ARRAY_COUNT(steps))];
	w->step_count = 1 + below(STEPS_MAX_HERE);
	w->first_end = f->times[0] - 300000 +
		       (time_ms)below((uint64_t)(f->times[w->count - 1] - f->times[0]) + 300000);
	uint32_t begin = 0, end = 0;
	for (size_t step = 0; step < w->step_count; step++) {
		time_ms when = w->first_end + (int64_t)step * w->end_step;
		while (end < w->count && f->times[end] <= when)
			end++;
		while (begin < end && f->times[begin] <= when - w->range_ms)
			begin++;
		f->begins[step] = begin;
		f->ends[step] = end;
	}
	w->begins = f->begins;
	w->ends = f->ends;
	w->cache = f->cache;
	w->cached = &f->cached;
}

/* Equal to the bit, or with SUMS but for what another order of additions leaves: measured by the
 * size of what was added, for the sum itself may be near zero. */
static void assert_same(double got, double expected, bool sums, const struct promql_window *w)
{
	if (isnan(expected)) {
		assert_true(isnan(got));
		return;
	}
	if (memcmp(&got, &expected, sizeof(got)) == 0)
		return;
	double size = 0;
	for (size_t i = 0; sums && i < w->count; i++)
		size += fabs(w->values[i]) / (double)w->count;
	if (fabs(got - expected) <= 1e-15 * size)
		return;
	fail_msg("got %.17g, expected %.17g, in a window of %zu samples", got, expected, w->count);
}

static void compare(struct fixture *f, enum promql_function_id id, bool sums)
{
	const struct promql_function_body *body = promql_function_body(id);
	struct arena scratch = arena_init(1 << 24);
	struct promql_eval_scope scope = { .scratch = &scratch };
	static double values[STEPS_MAX_HERE];
	static uint64_t present[PROMQL_WORDS(STEPS_MAX_HERE)];
	struct promql_column column = { values, present, NULL };
	struct err e = { 0 };
	assert_non_null(body->kernel);
	assert_true(body->cache <= CACHE_MAX);
	f->cached = false;
	/* twice, for the second time it goes by what it kept */
	for (int k = 0; k < 2; k++) {
		memset(present, 0, sizeof(present));
		assert_int_equal(body->kernel(&scope, &f->w, &column, &e), OK);
	}
	for (size_t step = 0; step < f->w.step_count; step++) {
		size_t begin = f->begins[step], end = f->ends[step];
		struct promql_sample expected = { 0 };
		struct promql_window w = { .times = f->times + begin,
					   .values = f->values + begin,
					   .count = end - begin,
					   .end = f->w.first_end + (int64_t)step * f->w.end_step,
					   .step = step };
		w.start = w.end - f->w.range_ms;
		if (end > begin)
			assert_int_equal(body->range(&scope, &w, &expected, &e), OK);
		assert_int_equal(promql_has(&column, step), expected.present);
		if (expected.present)
			assert_same(values[step], expected.value, sums, &w);
	}
	arena_done(&scratch);
}

static const struct {
	enum promql_function_id id;
	bool sums;
} kernels[] = {
	{ PROMQL_FN_RATE, false },
	{ PROMQL_FN_INCREASE, false },
	{ PROMQL_FN_DELTA, false },
	{ PROMQL_FN_IRATE, false },
	{ PROMQL_FN_IDELTA, false },
	{ PROMQL_FN_CHANGES, false },
	{ PROMQL_FN_RESETS, false },
	{ PROMQL_FN_SUM_OVER_TIME, true },
	{ PROMQL_FN_AVG_OVER_TIME, true },
	{ PROMQL_FN_MIN_OVER_TIME, false },
	{ PROMQL_FN_MAX_OVER_TIME, false },
	{ PROMQL_FN_COUNT_OVER_TIME, false },
	{ PROMQL_FN_PRESENT_OVER_TIME, false },
	{ PROMQL_FN_FIRST_OVER_TIME, false },
	{ PROMQL_FN_LAST_OVER_TIME, false },
};

static void kernels_give_what_bodies_give(void **state)
{
	static struct fixture f;
	(void)state;
	seed = 0x9e3779b97f4a7c15ULL;
	for (int round = 0; round < 400; round++) {
		make_series(&f, (enum shape)(round % SHAPES));
		for (int k = 0; k < 4; k++) {
			make_windows(&f);
			for (size_t i = 0; i < ARRAY_COUNT(kernels); i++)
				compare(&f, kernels[i].id, kernels[i].sums);
		}
	}
}

static void every_kernel_is_compared(void **state)
{
	(void)state;
	size_t count = 0;
	for (int id = 0; id < PROMQL_FUNCTION_COUNT; id++)
		count += promql_function_body((enum promql_function_id)id)->kernel != NULL;
	assert_int_equal(count, ARRAY_COUNT(kernels));
}

static void every_function_has_a_body(void **state)
{
	(void)state;
	for (int id = 0; id < PROMQL_FUNCTION_COUNT; id++) {
		const struct promql_function_body *b =
			promql_function_body((enum promql_function_id)id);
		assert_true(b->range || b->sample || b->map || b->whole);
		assert_true(!b->kernel || b->range);
	}
}

/* A sum of 1 and what 1e16 swallows is right to the last digit, wherever the window stands. */
static void sums_are_compensated(void **state)
{
	static struct fixture f;
	(void)state;
	size_t count = 300;
	for (size_t i = 0; i < count; i++) {
		static const double cycle[] = { 1e16, 1, 1, -1e16 };
		f.times[i] = (time_ms)(i + 1) * 1000;
		f.values[i] = cycle[i % 4];
		f.begins[i] = i < 100 ? 0 : (uint32_t)(i - 99) / 4 * 4;
		f.ends[i] = (uint32_t)(i + 1) / 4 * 4;
	}
	f.w = (struct promql_windows){ .times = f.times,
				       .values = f.values,
				       .count = count,
				       .begins = f.begins,
				       .ends = f.ends,
				       .cache = f.cache,
				       .cached = &f.cached,
				       .step_count = count };
	static double values[STEPS_MAX_HERE];
	static uint64_t present[PROMQL_WORDS(STEPS_MAX_HERE)];
	struct promql_column column = { values, present, NULL };
	struct arena scratch = arena_init(1 << 20);
	struct promql_eval_scope scope = { .scratch = &scratch };
	struct err e = { 0 };
	assert_int_equal(promql_kernel_sum_over_time(&scope, &f.w, &column, &e), OK);
	for (size_t i = 0; i < count; i++)
		if (promql_has(&column, i))
			assert_true(values[i] == (double)(f.ends[i] - f.begins[i]) / 2);
	arena_done(&scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_function_has_a_body),
		cmocka_unit_test(every_kernel_is_compared),
		cmocka_unit_test(kernels_give_what_bodies_give),
		cmocka_unit_test(sums_are_compensated),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
