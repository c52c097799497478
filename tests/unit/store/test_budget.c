#include "store_test.h"

#include <pthread.h>

#include "store/budget.h"

static void both_levels_limit(void **state)
{
	(void)state;
	struct budget total, head, cache;
	struct err e;
	budget_init(&total, "memory of the test", NULL, 1000);
	budget_init(&head, "head", &total, 600);
	budget_init(&cache, "cache", &total, 0);
	assert_int_equal(budget_charge(&head, 600, &e), OK);
	assert_int_equal(budget_charge(&head, 1, &e), ERR_BUSY);
	assert_non_null(strstr(e.message, "head"));
	assert_int_equal(budget_charge(&cache, 400, &e), OK);
	assert_int_equal(budget_charge(&cache, 1, &e), ERR_BUSY);
	assert_non_null(strstr(e.message, "memory of the test"));
	/* a refusal takes nothing, on either level */
	assert_int_equal(budget_bytes(&cache), 400);
	assert_int_equal(budget_bytes(&total), 1000);
	assert_int_equal(budget_refused(&head), 1);
	assert_int_equal(budget_refused(&total), 1);
	budget_return(&head, 600);
	assert_true(budget_try(&cache, 600));
	assert_int_equal(budget_peak(&total), 1000);
	budget_force(&head, 50);
	assert_int_equal(budget_bytes(&total), 1050);
	assert_int_equal(budget_peak(&total), 1050);
	assert_false(budget_try(&head, 0));
	budget_set_max(&total, 0);
	assert_true(budget_try(&cache, 1 << 20));
}

static void percent_is_of_the_nearest_limit(void **state)
{
	(void)state;
	struct budget total, head;
	budget_init(&total, "total", NULL, 1000);
	budget_init(&head, "head", &total, 0);
	assert_int_equal(budget_percent(&head), 0);
	budget_force(&head, 500);
	assert_int_equal(budget_percent(&head), 50);
	budget_set_max(&head, 625);
	assert_int_equal(budget_percent(&head), 80);
	assert_int_equal(budget_percent(&total), 50);
}

enum { THREADS = 4, ROUNDS = 20000 };

static struct budget shared_total, shared;

static void *take_and_return(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;
	for (int i = 0; i < ROUNDS; i++) {
		int64_t bytes = (int64_t)test_below(&seed, 40);
		if (budget_try(&shared, bytes)) {
			/* others' refused attempts may show for a moment, their success never */
			assert_true(budget_bytes(&shared) >= bytes);
			budget_return(&shared, bytes);
		}
	}
	return NULL;
}

static void nothing_is_lost_between_threads(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	budget_init(&shared_total, "total", NULL, 90);
	budget_init(&shared, "shared", &shared_total, 100);
	for (uintptr_t i = 0; i < THREADS; i++)
		must(pthread_create(&threads[i], NULL, take_and_return, (void *)(i + 1)) == 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(budget_bytes(&shared), 0);
	assert_int_equal(budget_bytes(&shared_total), 0);
	assert_true(budget_peak(&shared_total) <= 90);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_levels_limit),
		cmocka_unit_test(percent_is_of_the_nearest_limit),
		cmocka_unit_test(nothing_is_lost_between_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
