#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/checks.h"
#include "intake/series_cache.h"

static struct series_hash hash_of(uint64_t n)
{
	return series_hash_of(&n, sizeof(n));
}

/* What is found is what was put, however full the cache is. */
static void never_another_series(void **state)
{
	(void)state;
	enum { COUNT = 100000 };
	struct series_cache *c = series_cache_new(NULL, 1 << 20);
	size_t found = 0;
	for (uint64_t i = 1; i <= COUNT; i++) {
		series_cache_enter(c);
		assert_int_equal(series_cache_get(c, hash_of(i)), 0);
		series_cache_put(c, hash_of(i), i);
		assert_int_equal(series_cache_get(c, hash_of(i)), i);
		series_cache_leave(c);
		assert_true(series_cache_bytes(c) <= 1 << 20);
	}
	series_cache_enter(c);
	for (uint64_t i = 1; i <= COUNT; i++) {
		metrics_ref ref = series_cache_get(c, hash_of(i));
		assert_true(ref == 0 || ref == i);
		found += ref != 0;
	}
	series_cache_leave(c);
	/* 40,960 entries fit into a MiB */
	assert_true(found > 25000);
	assert_true(series_cache_count(c) <= 40960);
	series_cache_free(c);
}

static void grows_and_keeps(void **state)
{
	(void)state;
	enum { COUNT = 20000 };
	struct series_cache *c = series_cache_new(NULL, 64 << 20);
	size_t found = 0;
	for (uint64_t i = 1; i <= COUNT; i++) {
		series_cache_enter(c);
		series_cache_put(c, hash_of(i), i);
		series_cache_put(c, hash_of(i), i + COUNT); /* replaced, not added */
		series_cache_leave(c);
	}
	for (uint64_t i = 1; i <= COUNT; i++)
		found += series_cache_get(c, hash_of(i)) == i + COUNT;
	/* a few may be pushed out by collisions before it grows */
	assert_true(found > COUNT * 98 / 100);
	assert_true(series_cache_count(c) <= COUNT);
	series_cache_free(c);
	series_cache_free(NULL);
}

enum { THREADS = 4, ROUNDS = 30000, KEYS = 5000 };

static void *work(void *ctx)
{
	struct series_cache *c = ctx;
	uint64_t seed = (uint64_t)pthread_self();
	for (int i = 0; i < ROUNDS; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		uint64_t key = (seed >> 33) % KEYS + 1;
		if (i % 16 == 0)
			series_cache_enter(c);
		metrics_ref ref = series_cache_get(c, hash_of(key));
		must(ref == 0 || ref == key);
		if (!ref)
			series_cache_put(c, hash_of(key), key);
		if (i % 16 == 15)
			series_cache_leave(c);
	}
	return NULL;
}

static void many_threads(void **state)
{
	(void)state;
	struct series_cache *c = series_cache_new(NULL, 8 << 20);
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, c), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	series_cache_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(never_another_series),
		cmocka_unit_test(grows_and_keeps),
		cmocka_unit_test(many_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
