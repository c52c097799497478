#include "store_test.h"

#include "store/merge_policy.h"

enum { PARTS_MAX = 4096 };

static const struct merge_policy defaults = { 0 };

static void equal_parts_are_merged_at_four(void **state)
{
	(void)state;
	struct merge_part parts[4] = { { 1 << 20, 0, false },
				       { 1 << 20, 0, false },
				       { 1 << 20, 0, false },
				       { 1 << 20, 0, false } };
	size_t first = 99, count = 99;
	assert_false(merge_policy_choose(&defaults, parts, 3, &first, &count));
	assert_int_equal(first, 99);
	assert_true(merge_policy_choose(&defaults, parts, 4, &first, &count));
	assert_int_equal(first, 0);
	assert_int_equal(count, 4);
	/* a busy one divides its neighbours; groups never mix */
	parts[1].busy = true;
	assert_false(merge_policy_choose(&defaults, parts, 4, &first, &count));
	parts[1].busy = false;
	parts[2].group = parts[3].group = 1;
	assert_false(merge_policy_choose(&defaults, parts, 4, &first, &count));
	assert_false(merge_policy_choose(&defaults, parts, 0, &first, &count));
}

static void too_many_are_merged_anyway(void **state)
{
	(void)state;
	const struct merge_part parts[] = { { 64 << 20, 7, false },
					    { 8 << 20, 7, false },
					    { 1 << 20, 7, false } };
	struct merge_policy p = { .count_max = 2 };
	size_t first, count;
	assert_false(merge_policy_choose(&defaults, parts, 3, &first, &count));
	assert_true(merge_policy_choose(&p, parts, 3, &first, &count));
	assert_true(count >= 2 && first + count <= 3);
	p.bytes_max = 10 << 20;
	assert_true(merge_policy_choose(&p, parts, 3, &first, &count));
	assert_int_equal(first, 1);
	assert_int_equal(count, 2);
	p.bytes_max = 1;
	assert_false(merge_policy_choose(&p, parts, 3, &first, &count));
}

/* What is chosen is allowed, whatever the parts are. */
static void random_choices_keep_the_rules(void **state)
{
	(void)state;
	uint64_t seed = 1;
	for (int round = 0; round < 3000; round++) {
		struct merge_part parts[40];
		size_t n = test_below(&seed, 40), first, count;
		struct merge_policy p = { .fan_in_max = test_below(&seed, 20),
					  .bytes_max = test_below(&seed, 3) ? 0 : 1 << 22,
					  .count_max = test_below(&seed, 2) * 5 };
		for (size_t i = 0; i < n; i++)
			parts[i] = (struct merge_part){ test_random(&seed) >> test_below(&seed, 64),
							i / 8, test_below(&seed, 5) == 0 };
		if (!merge_policy_choose(&p, parts, n, &first, &count))
			continue;
		uint64_t sum = 0;
		assert_true(count >= 2 && first + count <= n);
		assert_true(count <= (p.fan_in_max < 2 ? 15 : p.fan_in_max));
		for (size_t i = first; i < first + count; i++) {
			assert_false(parts[i].busy);
			assert_int_equal(parts[i].group, parts[first].group);
			sum += parts[i].bytes;
		}
		assert_true(!p.bytes_max || sum <= p.bytes_max);
	}
}

static void parts_and_rewriting_grow_logarithmically(void **state)
{
	(void)state;
	static struct merge_part parts[PARTS_MAX];
	size_t n = 0, first, count, most = 0;
	uint64_t flushed = 0, rewritten = 0;
	for (int flush = 0; flush < PARTS_MAX; flush++) {
		parts[n++] = (struct merge_part){ .bytes = 100000 };
		flushed += 100000;
		while (merge_policy_choose(&defaults, parts, n, &first, &count)) {
			uint64_t sum = 0;
			for (size_t i = first; i < first + count; i++)
				sum += parts[i].bytes;
			rewritten += sum;
			parts[first].bytes = sum;
			memmove(&parts[first + 1], &parts[first + count],
				(n - first - count) * sizeof(parts[0]));
			n -= count - 1;
		}
		most = n > most ? n : most;
	}
	/* log4(4096) = 6 */
	assert_true(most <= 4 * 7);
	assert_true(rewritten <= 7 * flushed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_parts_are_merged_at_four),
		cmocka_unit_test(too_many_are_merged_anyway),
		cmocka_unit_test(random_choices_keep_the_rules),
		cmocka_unit_test(parts_and_rewriting_grow_logarithmically),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
