/* What is read off histograms, native and classic: quantiles, fractions, variance; trimming. */
#include "histogram_maker.h"

static double quantile(const struct histogram *h, double q)
{
	enum histogram_nan nan;
	return histogram_quantile(h, q, &nan);
}

static double fraction(const struct histogram *h, double lower, double upper)
{
	enum histogram_nan nan;
	return histogram_fraction(h, lower, upper, &nan);
}

static void assert_near(double a, double b)
{
	if (!(fabs(a - b) <= 1e-12 * fmax(1, fabs(b))))
		fail_msg("%.17g is not %.17g", a, b);
}

static void quantiles_of_exponential_buckets(void **state)
{
	(void)state;
	struct histogram h = POSITIVE(0, { 1, 4 }, { 2, 4 }); /* (1, 2] and (2, 4] */
	assert_near(quantile(&h, 0.5), 2);
	assert_near(quantile(&h, 0.25), sqrt(2));
	assert_near(quantile(&h, 0.75), 2 * sqrt(2));
	assert_near(quantile(&h, 0), 1);
	assert_near(quantile(&h, 1), 4);
	assert_true(quantile(&h, -0.1) == -(double)INFINITY);
	assert_true(quantile(&h, 1.1) == (double)INFINITY);
	assert_true(isnan(quantile(&h, (double)NAN)));
	struct histogram empty = { 0 };
	assert_true(isnan(quantile(&empty, 0.5)));
	/* all in the zero bucket: linear, from 0 where only one side has buckets */
	h.zero_threshold = 0.5;
	h.zero_count = 8;
	h.count = 16;
	assert_near(quantile(&h, 0.25), 0.25);
	struct histogram n = { .zero_threshold = 0.5, .zero_count = 8, .count = 12 };
	n.negative = side((const struct pair[]){ { 1, 4 } }, 1);
	assert_near(quantile(&n, 0.25), -sqrt(2) * 1 / sqrt(pow(2, 0.5)));
	assert_near(quantile(&n, 2.0 / 3), -0.25);
}

static void quantiles_of_custom_buckets(void **state)
{
	(void)state;
	static const double bounds[] = { 1, 2 }, below_zero[] = { -1, 2 };
	struct histogram h = custom(bounds, 2,
				    (const struct pair[]){ { 0, 2 }, { 1, 2 }, { 2, 4 } }, 3);
	assert_near(quantile(&h, 0.125), 0.5); /* the first bucket begins at 0 */
	assert_near(quantile(&h, 0.375), 1.5);
	assert_near(quantile(&h, 0.9), 2); /* nothing is known beyond the last boundary */
	struct histogram n = custom(below_zero, 2, (const struct pair[]){ { 0, 2 }, { 1, 2 } }, 2);
	assert_near(quantile(&n, 0.1), -1);
}

static void nan_observations_are_told(void **state)
{
	(void)state;
	struct histogram h = POSITIVE(0, { 1, 4 });
	enum histogram_nan nan;
	h.count = 8; /* four of them were NaN */
	h.sum = (double)NAN;
	assert_near(histogram_quantile(&h, 0.25, &nan), sqrt(2));
	assert_int_equal(nan, HISTOGRAM_NAN_SKEW);
	assert_true(isnan(histogram_quantile(&h, 0.75, &nan)));
	assert_int_equal(nan, HISTOGRAM_NAN_RESULT);
	assert_near(histogram_fraction(&h, 0, 100, &nan), 0.5);
	assert_int_equal(nan, HISTOGRAM_NAN_SKEW);
}

static void fractions(void **state)
{
	(void)state;
	struct histogram h = POSITIVE(0, { 1, 4 }, { 2, 4 });
	assert_near(fraction(&h, 1, 2), 0.5);
	assert_near(fraction(&h, sqrt(2), 4), 0.75);
	assert_near(fraction(&h, -(double)INFINITY, (double)INFINITY), 1);
	assert_near(fraction(&h, 2, 1), 0);
	assert_true(isnan(fraction(&h, (double)NAN, 1)));
	struct histogram empty = { 0 };
	assert_true(isnan(fraction(&empty, 0, 1)));
}

static void fraction_undoes_quantile(void **state)
{
	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct histogram h = random_histogram();
		if (!h.count || h.zero_count)
			continue;
		double q = (double)(1 + below(998)) / 1000;
		double at = quantile(&h, q);
		if (fabs(fraction(&h, -(double)INFINITY, at) - q) > 1e-9)
			fail_msg("quantile %g is %g, below which are %g", q, at,
				 fraction(&h, -(double)INFINITY, at));
	}
}

static void variance(void **state)
{
	(void)state;
	/* middles sqrt(2) and 2 sqrt(2), mean 2 */
	struct histogram h = POSITIVE(0, { 1, 1 }, { 2, 1 });
	h.sum = 4;
	double a = sqrt(2) - 2, b = 2 * sqrt(2) - 2;
	assert_near(histogram_variance(&h), (a * a + b * b) / 2);
}

static void trimming(void **state)
{
	(void)state;
	struct histogram h = POSITIVE(0, { 1, 4 }, { 2, 4 }), *r;
	assert_int_equal(histogram_trim(&arena, &h, 2, true, &r, &e), OK);
	assert_true(r->count == 4 && count_at(r, 1, 2) == 4 && count_at(r, 2, 4) == -1);
	assert_int_equal(histogram_trim(&arena, &h, 2, false, &r, &e), OK);
	assert_true(r->count == 4 && count_at(r, 2, 4) == 4 && count_at(r, 1, 2) == -1);
	assert_int_equal(histogram_trim(&arena, &h, sqrt(2), true, &r, &e), OK);
	assert_near(r->count, 2);
	/* nothing is cut: the sum stays exact */
	assert_int_equal(histogram_trim(&arena, &h, 100, true, &r, &e), OK);
	assert_true(r->sum == h.sum && r->count == h.count);
}

/* ---- Classic histograms. */

#define INF ((double)INFINITY)

static double classic(double q, struct histogram_mended *mended, size_t count,
		      const struct histogram_classic_bucket *in)
{
	struct histogram_classic_bucket b[16];
	memcpy(b, in, count * sizeof(*b));
	return histogram_classic_quantile(b, count, q, mended);
}

static void classic_quantiles(void **state)
{
	(void)state;
	struct histogram_mended m;
	/* out of order on purpose */
	static const struct histogram_classic_bucket b[] = {
		{ INFINITY, 10 }, { 1, 2 }, { 4, 8 }, { 2, 4 }
	};
	assert_near(classic(0.1, &m, 4, b), 0.5);
	assert_near(classic(0.6, &m, 4, b), 3);
	assert_near(classic(0.95, &m, 4, b), 4);
	assert_false(m.monotonicity);
	assert_true(isnan(classic(0.5, &m, 3, b + 1))); /* no +Inf */
	assert_true(classic(-1, &m, 4, b) == -INF && classic(2, &m, 4, b) == INF);
	static const struct histogram_classic_bucket negative[] = { { -1, 2 }, { INFINITY, 2 } };
	assert_near(classic(0.5, &m, 2, negative), -1);
	static const struct histogram_classic_bucket none[] = { { 1, 0 }, { INFINITY, 0 } };
	assert_true(isnan(classic(0.5, &m, 2, none)));
	/* the same boundary twice (`1` and `1.0`) is added up */
	static const struct histogram_classic_bucket twice[] = { { 1, 1 },
								 { 1, 1 },
								 { INFINITY, 4 } };
	assert_near(classic(0.25, &m, 3, twice), 0.5);
}

static void classic_counts_are_mended(void **state)
{
	(void)state;
	struct histogram_mended m;
	static const struct histogram_classic_bucket b[] = {
		{ 1, 2 }, { 2, 6 }, { 3, 5 }, { 4, 4 }, { INFINITY, 10 }
	};
	assert_near(classic(0.5, &m, 5, b), 1.75);
	assert_true(m.monotonicity);
	assert_true(m.lowest == 3 && m.highest == 4 && m.difference == 2);
	static const struct histogram_classic_bucket rounded[] = { { 1, 2 },
								   { 2, 2 - 1e-15 },
								   { INFINITY, 4 } };
	classic(0.9, &m, 3, rounded);
	assert_false(m.monotonicity);
	assert_true(m.precision);
}

static void classic_fractions(void **state)
{
	(void)state;
	struct histogram_classic_bucket b[] = { { 1, 2 }, { 2, 4 }, { 4, 8 }, { INFINITY, 10 } };
	assert_near(histogram_classic_fraction(b, 4, 0, 2), 0.4);
	assert_near(histogram_classic_fraction(b, 4, 1.5, 3), 0.3);
	assert_near(histogram_classic_fraction(b, 4, -INF, INF), 1);
	assert_true(isnan(histogram_classic_fraction(b, 3, 0, 1)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantiles_of_exponential_buckets),
		cmocka_unit_test(quantiles_of_custom_buckets),
		cmocka_unit_test(nan_observations_are_told),
		cmocka_unit_test(fractions),
		cmocka_unit_test(fraction_undoes_quantile),
		cmocka_unit_test(variance),
		cmocka_unit_test(trimming),
		cmocka_unit_test(classic_quantiles),
		cmocka_unit_test(classic_counts_are_mended),
		cmocka_unit_test(classic_fractions),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
