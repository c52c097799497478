/* Arithmetic on native histograms against a plain model, and what is read off them by hand. */
#include "histogram_maker.h"

/* ---- Boundaries and the iterator. */

static void bounds_are_powers_of_two(void **state)
{
	(void)state;
	struct histogram h = { .schema = 0 };
	assert_true(histogram_bound(&h, 0) == 1);
	assert_true(histogram_bound(&h, 1) == 2);
	assert_true(histogram_bound(&h, -3) == 0.125);
	h.schema = 3;
	assert_true(histogram_bound(&h, 8) == 2);
	assert_true(fabs(histogram_bound(&h, 4) - sqrt(2)) < 1e-15);
	assert_true(histogram_bound(&h, -8) == 0.5);
	h.schema = -2;
	assert_true(histogram_bound(&h, 1) == 16);
	assert_true(histogram_bound(&h, -1) == 0.0625);
	/* the last finite bucket ends at the largest double, and infinities are beyond */
	h.schema = 0;
	assert_true(histogram_bound(&h, 1024) == 1.7976931348623157e308);
	assert_true(isinf(histogram_bound(&h, 1025)));
}

static void iterator_goes_by_value(void **state)
{
	(void)state;
	struct histogram h = { .schema = 0, .zero_threshold = 0.5, .zero_count = 7 };
	h.negative = side((const struct pair[]){ { 1, 3 }, { 4, 2 } }, 2);
	h.positive = side((const struct pair[]){ { 0, 5 }, { 1, 1 }, { 5, 4 } }, 3);
	static const double lowers[] = { -16, -2, -0.5, 0.5, 1, 16 };
	static const double uppers[] = { -8, -1, 0.5, 1, 2, 32 };
	static const double counts[] = { 2, 3, 7, 5, 1, 4 };
	for (int reverse = 0; reverse < 2; reverse++) {
		struct histogram_iterator it;
		struct histogram_bucket b;
		histogram_iterator_init(&it, &h, reverse);
		for (size_t i = 0; i < 6; i++) {
			size_t k = reverse ? 5 - i : i;
			assert_true(histogram_iterator_next(&it, &b));
			assert_true(b.lower == lowers[k] && b.upper == uppers[k]);
			assert_true(b.count == counts[k]);
		}
		assert_false(histogram_iterator_next(&it, &b));
	}
}

/* ---- Sums against a model: a dense array of counts at the coarser schema. */

enum { MODEL_HALF = 200 };

struct model {
	double counts[2][2 * MODEL_HALF];
};

static void model_add(struct model *m, const struct histogram *h, int32_t schema, double sign)
{
	const struct histogram_side *sides[] = { &h->negative, &h->positive };
	for (int k = 0; k < 2; k++) {
		int64_t index = 0;
		uint32_t bucket = 0;
		for (uint32_t i = 0; i < sides[k]->span_count; i++) {
			index += sides[k]->spans[i].offset;
			for (uint32_t n = 0; n < sides[k]->spans[i].length; n++, index++) {
				double coarse = ceil((double)index / ldexp(1, h->schema - schema));
				m->counts[k][(int)coarse + MODEL_HALF] +=
					sign * sides[k]->buckets[bucket++];
			}
		}
	}
}

static void assert_is_model(const struct histogram *h, const struct model *expected)
{
	static struct model got;
	memset(&got, 0, sizeof(got));
	model_add(&got, h, h->schema, 1);
	assert_memory_equal(&got, expected, sizeof(got));
	/* compact: no empty bucket, no two spans that touch, no empty span */
	const struct histogram_side *sides[] = { &h->negative, &h->positive };
	for (int k = 0; k < 2; k++) {
		for (uint32_t i = 0; i < sides[k]->bucket_count; i++)
			assert_true(sides[k]->buckets[i] != 0);
		for (uint32_t i = 0; i < sides[k]->span_count; i++) {
			assert_true(sides[k]->spans[i].length > 0);
			assert_true(i == 0 || sides[k]->spans[i].offset > 0);
		}
	}
}

static void sums_are_those_of_the_model(void **state)
{
	(void)state;
	for (int round = 0; round < 3000; round++) {
		static struct model added, subtracted;
		struct histogram a = random_histogram(), b = random_histogram(), *r;
		int32_t schema = a.schema < b.schema ? a.schema : b.schema;
		memset(&added, 0, sizeof(added));
		model_add(&added, &a, schema, 1);
		subtracted = added;
		model_add(&added, &b, schema, 1);
		model_add(&subtracted, &b, schema, -1);
		assert_int_equal(histogram_add(&arena, &a, &b, NULL, &r, &e), OK);
		assert_int_equal(r->schema, schema);
		assert_true(r->count == a.count + b.count && r->sum == a.sum + b.sum);
		assert_true(r->zero_count == a.zero_count + b.zero_count);
		assert_is_model(r, &added);
		assert_int_equal(histogram_sub(&arena, &a, &b, NULL, &r, &e), OK);
		assert_true(r->count == a.count - b.count && r->sum == a.sum - b.sum);
		assert_int_equal(r->reset, HISTOGRAM_RESET_GAUGE);
		assert_is_model(r, &subtracted);
		if (round % 64 == 63) {
			arena_done(&arena);
			arena = arena_init(1 << 26);
		}
	}
}

static void many_sums_are_those_of_the_model(void **state)
{
	(void)state;
	for (int round = 0; round < 100; round++) {
		static struct model model;
		struct histogram_sum s = { .compensated = round % 2 };
		struct histogram *r;
		int32_t schema = 100;
		struct histogram parts[12];
		for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
			parts[i] = random_histogram();
			schema = parts[i].schema < schema ? parts[i].schema : schema;
		}
		memset(&model, 0, sizeof(model));
		assert_int_equal(histogram_sum_set(&s, &parts[0], &e), OK);
		for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
			if (i)
				assert_int_equal(histogram_sum_add(&s, &parts[i], NULL, &e), OK);
			model_add(&model, &parts[i], schema, 1);
		}
		assert_int_equal(histogram_sum_result(&s, &arena, &r, &e), OK);
		assert_int_equal(r->schema, schema);
		assert_is_model(r, &model);
		assert_true(histogram_sum_bytes(&s) > 0);
		histogram_sum_done(&s);
	}
}

static void compensated_sums_keep_small_counts(void **state)
{
	(void)state;
	struct histogram big = POSITIVE(0, { 1, 1e16 }), one = POSITIVE(0, { 1, 1 }), *r;
	struct histogram_sum s = { .compensated = true };
	big.sum = 1e16;
	one.sum = 1;
	assert_int_equal(histogram_sum_set(&s, &big, &e), OK);
	for (int i = 0; i < 10; i++)
		assert_int_equal(histogram_sum_add(&s, &one, NULL, &e), OK);
	assert_int_equal(histogram_sum_sub(&s, &big, NULL, &e), OK);
	assert_int_equal(histogram_sum_result(&s, &arena, &r, &e), OK);
	assert_true(r->count == 10 && r->sum == 10 && r->positive.buckets[0] == 10);
	histogram_sum_done(&s);
}

/* ---- The zero bucket. */

static void zero_bucket_takes_in_what_it_covers(void **state)
{
	(void)state;
	struct histogram a = { .schema = 0, .zero_threshold = 0.5, .zero_count = 1, .count = 1 };
	/* (0.25, 0.5] and (0.5, 1] */
	struct histogram b = POSITIVE(0, { -1, 2 }, { 0, 3 }), *r;
	for (int turn = 0; turn < 2; turn++) {
		assert_int_equal(
			histogram_add(&arena, turn ? &a : &b, turn ? &b : &a, NULL, &r, &e), OK);
		assert_true(r->zero_threshold == 0.5 && r->zero_count == 3);
		assert_int_equal(r->positive.bucket_count, 1);
		assert_true(count_at(r, 0.5, 1) == 3);
	}
}

static void zero_bucket_does_not_cut_a_bucket(void **state)
{
	(void)state;
	struct histogram a = { .schema = 0, .zero_threshold = 0.75, .zero_count = 1, .count = 1 };
	struct histogram b = POSITIVE(0, { 0, 3 }, { 1, 4 }), *r;
	b.negative = side((const struct pair[]){ { -1, 5 }, { 2, 1 } }, 2);
	for (int turn = 0; turn < 2; turn++) {
		assert_int_equal(
			histogram_add(&arena, turn ? &a : &b, turn ? &b : &a, NULL, &r, &e), OK);
		assert_true(r->zero_threshold == 1);
		assert_true(r->zero_count == 1 + 3 + 5);
		assert_true(count_at(r, 1, 2) == 4 && count_at(r, -4, -2) == 1);
	}
}

/* ---- Custom boundaries. */

static void custom_bounds_are_reconciled(void **state)
{
	(void)state;
	static const double few[] = { 1, 4 }, many[] = { 1, 2, 4, 8 };
	struct histogram a = custom(few, 2, (const struct pair[]){ { 0, 1 }, { 1, 2 }, { 2, 3 } },
				    3);
	struct histogram b = custom(
		many, 4,
		(const struct pair[]){ { 0, 10 }, { 1, 20 }, { 2, 30 }, { 3, 40 }, { 4, 50 } }, 5);
	struct histogram_notes notes = { 0 };
	struct histogram *r;
	assert_int_equal(histogram_add(&arena, &a, &b, &notes, &r, &e), OK);
	assert_true(notes.bounds_reconciled);
	assert_int_equal(r->custom_bound_count, 2);
	assert_true(count_at(r, -(double)INFINITY, 1) == 11);
	assert_true(count_at(r, 1, 4) == 52);
	assert_true(count_at(r, 4, (double)INFINITY) == 93);
	notes = (struct histogram_notes){ 0 };
	assert_int_equal(histogram_add(&arena, &a, &a, &notes, &r, &e), OK);
	assert_false(notes.bounds_reconciled);
	assert_true(count_at(r, 1, 4) == 4);
	struct histogram exponential = POSITIVE(0, { 1, 1 });
	assert_false(histogram_compatible(&a, &exponential));
	assert_true(histogram_compatible(&a, &b));
}

/* ---- Multiplication, schemas, limits. */

static void scaling(void **state)
{
	(void)state;
	struct histogram h = POSITIVE(0, { 1, 4 }, { 3, 2 }), *r;
	h.reset = HISTOGRAM_RESET_NO;
	assert_int_equal(histogram_mul(&arena, &h, 0.5, &r, &e), OK);
	assert_true(r->count == 3 && r->sum == 9 && count_at(r, 1, 2) == 2);
	assert_int_equal(r->reset, HISTOGRAM_RESET_NO);
	assert_int_equal(histogram_mul(&arena, &h, -1, &r, &e), OK);
	assert_true(r->count == -6 && count_at(r, 4, 8) == -2);
	assert_int_equal(r->reset, HISTOGRAM_RESET_GAUGE);
	assert_int_equal(histogram_div(&arena, &h, 2, &r, &e), OK);
	assert_true(r->count == 3 && count_at(r, 4, 8) == 1);
	assert_int_equal(histogram_div(&arena, &h, 0, &r, &e), OK);
	assert_true(isinf(r->count) && r->positive.bucket_count == 0);
	assert_int_equal(histogram_to_schema(&arena, &h, -1, &r, &e), OK);
	/* (1, 4] and (4, 16] */
	assert_true(count_at(r, 1, 4) == 4 && count_at(r, 4, 16) == 2);
}

static void too_many_buckets_are_an_error(void **state)
{
	(void)state;
	struct histogram_sum s = { 0 };
	struct pair pairs[4096];
	errc rc = OK;
	for (int32_t part = 0; part < 17 && rc == OK; part++) {
		for (int32_t i = 0; i < 4096; i++)
			pairs[i] = (struct pair){ part * 4096 + i, 1 };
		struct histogram h = positive(8, pairs, 4096);
		rc = part ? histogram_sum_add(&s, &h, NULL, &e) : histogram_sum_set(&s, &h, &e);
	}
	assert_int_equal(rc, ERR_FAILED);
	assert_non_null(strstr(e.message, "65536"));
	histogram_sum_done(&s);
}

/* ---- Resets and equality. */

static void resets_are_detected(void **state)
{
	(void)state;
	struct histogram a = POSITIVE(1, { 1, 4 }, { 2, 2 });
	struct histogram b = POSITIVE(1, { 1, 4 }, { 2, 3 });
	assert_false(histogram_detect_reset(&b, &a));
	assert_true(histogram_detect_reset(&a, &b)); /* fewer observations */
	/* one bucket has lost some though there are more in all */
	struct histogram c = POSITIVE(1, { 1, 3 }, { 2, 9 });
	assert_true(histogram_detect_reset(&c, &a));
	/* a bucket is gone */
	struct histogram d = POSITIVE(1, { 2, 9 });
	assert_true(histogram_detect_reset(&d, &a));
	/* coarser: looked at with the coarser buckets; finer: always a reset */
	struct histogram coarse = POSITIVE(0, { 1, 6 });
	assert_false(histogram_detect_reset(&coarse, &a));
	assert_true(histogram_detect_reset(&a, &coarse));
	/* the hint is believed */
	b.reset = HISTOGRAM_RESET_YES;
	assert_true(histogram_detect_reset(&b, &a));
	a.reset = HISTOGRAM_RESET_NO;
	assert_false(histogram_detect_reset(&a, &b));
	/* a smaller zero bucket is a reset, a larger one is not when it cuts no bucket */
	struct histogram z = { .zero_threshold = 1, .zero_count = 2, .count = 2 };
	struct histogram y = { .zero_threshold = 0.5, .zero_count = 3, .count = 3 };
	assert_true(histogram_detect_reset(&y, &z));
	y.zero_count = y.count = 2;
	assert_false(histogram_detect_reset(&z, &y));
}

static void custom_resets_are_detected(void **state)
{
	(void)state;
	static const double few[] = { 1, 4 }, many[] = { 1, 2, 4 };
	struct histogram a = custom(many, 3, (const struct pair[]){ { 0, 1 }, { 1, 2 }, { 2, 3 } },
				    3);
	struct histogram b = custom(few, 2, (const struct pair[]){ { 0, 1 }, { 1, 5 } }, 2);
	assert_false(histogram_detect_reset(&b, &a));
	struct histogram c = custom(few, 2, (const struct pair[]){ { 0, 3 }, { 1, 4 } }, 2);
	assert_true(histogram_detect_reset(&c, &a));
}

static void equality_is_of_layout_and_bits(void **state)
{
	(void)state;
	struct histogram a = POSITIVE(0, { 1, 4 }, { 3, 2 }), b = a;
	b.reset = HISTOGRAM_RESET_GAUGE;
	assert_true(histogram_equals(&a, &b));
	b.sum += 1;
	assert_false(histogram_equals(&a, &b));
	b = POSITIVE(0, { 1, 4 }, { 2, 2 });
	assert_false(histogram_equals(&a, &b));
}

static void hints_are_joined(void **state)
{
	(void)state;
	struct histogram a = POSITIVE(0, { 1, 4 }), b = a, *r;
	struct histogram_notes notes = { 0 };
	a.reset = HISTOGRAM_RESET_YES;
	b.reset = HISTOGRAM_RESET_NO;
	assert_int_equal(histogram_add(&arena, &a, &b, &notes, &r, &e), OK);
	assert_true(notes.reset_collision);
	assert_int_equal(r->reset, HISTOGRAM_RESET_UNKNOWN);
	b.reset = HISTOGRAM_RESET_GAUGE;
	notes = (struct histogram_notes){ 0 };
	assert_int_equal(histogram_add(&arena, &a, &b, &notes, &r, &e), OK);
	assert_false(notes.reset_collision);
	assert_int_equal(r->reset, HISTOGRAM_RESET_GAUGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bounds_are_powers_of_two),
		cmocka_unit_test(iterator_goes_by_value),
		cmocka_unit_test(sums_are_those_of_the_model),
		cmocka_unit_test(many_sums_are_those_of_the_model),
		cmocka_unit_test(compensated_sums_keep_small_counts),
		cmocka_unit_test(zero_bucket_takes_in_what_it_covers),
		cmocka_unit_test(zero_bucket_does_not_cut_a_bucket),
		cmocka_unit_test(custom_bounds_are_reconciled),
		cmocka_unit_test(scaling),
		cmocka_unit_test(too_many_buckets_are_an_error),
		cmocka_unit_test(resets_are_detected),
		cmocka_unit_test(custom_resets_are_detected),
		cmocka_unit_test(equality_is_of_layout_and_bits),
		cmocka_unit_test(hints_are_joined),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
