/* The newest exemplars of each series, bounded; and as bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../base/test_random.h"
#include "base/checks.h"
#include "metrics/exemplar_store.h"
#include "metrics/series_key.h"

static str key_of(const char *trace, uint8_t room[static 64])
{
	struct label items[] = { { STR("trace_id"), str_c(trace) } };
	const struct labels l = { items, 1 };
	return (str){ (const char *)room, series_key_put(room, &l) };
}

static void the_newest_of_each_series_stay(void **state)
{
	struct exemplar_store s CLEANUP(exemplar_store_done) = { 0 };
	const struct stored_exemplar *found[EXEMPLARS_PER_SERIES];
	uint8_t room[64];
	str key = key_of("a", room);
	(void)state;
	assert_int_equal(exemplar_store_get(&s, 1, 0, 100, found), 0);
	for (time_ms t = 0; t < 25; t++)
		for (uint32_t id = 1; id <= 3; id++)
			exemplar_store_add(&s, id, t, (double)id, key);
	assert_int_equal(exemplar_store_get(&s, 2, 0, 100, found), EXEMPLARS_PER_SERIES);
	assert_int_equal(found[0]->time, 24);
	assert_int_equal(found[EXEMPLARS_PER_SERIES - 1]->time, 15);
	assert_int_equal(exemplar_store_get(&s, 2, 20, 22, found), 3);
	assert_int_equal(exemplar_store_get(&s, 4, 0, 100, found), 0);
	/* the same again is no other */
	uint64_t serial = s.serial;
	exemplar_store_add(&s, 3, 24, 3, key);
	assert_true(s.serial == serial);
}

static void the_oldest_goes_when_there_are_too_many(void **state)
{
	struct exemplar_store s CLEANUP(exemplar_store_done) = { 0 };
	const struct stored_exemplar *found[EXEMPLARS_PER_SERIES];
	uint8_t room[64];
	str key = key_of("a", room);
	(void)state;
	for (uint32_t id = 1; id <= EXEMPLARS_COUNT_MAX + 50; id++)
		exemplar_store_add(&s, id, id, 1, key);
	assert_int_equal(exemplar_store_get(&s, 50, 0, INT64_MAX, found), 0);
	assert_int_equal(exemplar_store_get(&s, 51, 0, INT64_MAX, found), 1);
	assert_int_equal(exemplar_store_get(&s, EXEMPLARS_COUNT_MAX + 50, 0, INT64_MAX, found), 1);
	assert_int_equal(s.room, EXEMPLARS_COUNT_MAX);
}

static void bytes_bring_all_back(void **state)
{
	struct exemplar_store s CLEANUP(exemplar_store_done) = { 0 };
	struct exemplar_store back CLEANUP(exemplar_store_done) = { 0 };
	struct buf bytes CLEANUP(buf_done) = buf_init(1 << 20);
	const struct stored_exemplar *a[EXEMPLARS_PER_SERIES], *b[EXEMPLARS_PER_SERIES];
	struct test_random r = { 8 };
	(void)state;
	for (int i = 0; i < 3000; i++) {
		uint8_t room[64];
		char trace[8];
		test_random_text(&r, "0123456789abcdef", 16, trace, 6);
		exemplar_store_add(&s, 1 + (uint32_t)test_random_below(&r, 100),
				   (time_ms)test_random_u64(&r), (double)i, key_of(trace, room));
	}
	exemplar_store_write(&s, &bytes);
	struct reader reader = reader_init(buf_str(&bytes));
	while (exemplar_read_bytes(&reader, &back))
		;
	assert_false(reader.failed);
	for (uint32_t id = 1; id <= 100; id++) {
		size_t n = exemplar_store_get(&s, id, INT64_MIN, INT64_MAX, a);
		assert_int_equal(exemplar_store_get(&back, id, INT64_MIN, INT64_MAX, b), n);
		for (size_t i = 0; i < n; i++)
			assert_true(a[i]->time == b[i]->time && a[i]->value == b[i]->value);
	}
	/* cut anywhere it is malformed, or ends between two */
	for (size_t len = 0; len < bytes.len && len < 2000; len++) {
		struct exemplar_store some CLEANUP(exemplar_store_done) = { 0 };
		reader = reader_init((str){ bytes.ptr, len });
		while (exemplar_read_bytes(&reader, &some))
			;
		assert_int_equal(reader_left(&reader), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_newest_of_each_series_stay),
		cmocka_unit_test(the_oldest_goes_when_there_are_too_many),
		cmocka_unit_test(bytes_bring_all_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
