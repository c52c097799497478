#include "store_test.h"

#include "store/quarantine.h"

static void spans_are_listed_once(void **state)
{
	(void)state;
	struct quarantine *q = quarantine_new();
	struct quarantine_entry entry;
	char path[600];
	quarantine_add(NULL, "a", 0, 1, "nothing happens");
	quarantine_add(q, "a", 0, 10, "why");
	quarantine_add(q, "a", 0, 10, "again");
	quarantine_add(q, "a", 10, 10, "why");
	quarantine_add(q, "b", 0, 10, "why");
	assert_int_equal(quarantine_count(q), 3);
	assert_true(quarantine_get(q, 0, &entry));
	assert_string_equal(entry.file, "a");
	assert_string_equal(entry.why, "why");
	assert_int_equal(entry.len, 10);
	assert_false(quarantine_get(q, 3, &entry));
	/* of a long path its end, which says which file it is */
	memset(path, 'x', sizeof(path));
	memcpy(path + sizeof(path) - 7, "/1.wal", 7);
	quarantine_add(q, path, 0, 0, path);
	assert_true(quarantine_get(q, 3, &entry));
	assert_string_equal(entry.file + strlen(entry.file) - 6, "/1.wal");
	quarantine_free(q);
	quarantine_free(NULL);
}

static void beyond_the_limit_they_are_counted(void **state)
{
	(void)state;
	struct quarantine *q = quarantine_new();
	struct quarantine_entry entry;
	for (uint64_t i = 0; i < QUARANTINE_ENTRIES_MAX + 5; i++)
		quarantine_add(q, "a", i, 1, "why");
	assert_int_equal(quarantine_count(q), QUARANTINE_ENTRIES_MAX + 5);
	assert_true(quarantine_get(q, QUARANTINE_ENTRIES_MAX - 1, &entry));
	assert_false(quarantine_get(q, QUARANTINE_ENTRIES_MAX, &entry));
	quarantine_free(q);
}

static void files_are_moved_beside(void **state)
{
	(void)state;
	struct err e;
	test_write(test_path("bad"), "first", 5);
	test_ok(quarantine_move(test_path("bad"), &e), &e);
	assert_false(test_exists(test_path("bad")));
	test_write(test_path("bad"), "second", 6);
	test_ok(quarantine_move(test_path("bad"), &e), &e);
	struct buf first = test_read(test_path("quarantine/bad"));
	struct buf second = test_read(test_path("quarantine/bad.1"));
	assert_string_equal(buf_cstr(&first), "first");
	assert_string_equal(buf_cstr(&second), "second");
	buf_done(&first);
	buf_done(&second);
	assert_int_equal(quarantine_move(test_path("bad"), &e), ERR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spans_are_listed_once),
		cmocka_unit_test(beyond_the_limit_they_are_counted),
		cmocka_unit_test(files_are_moved_beside),
	};
	return cmocka_run_group_tests(tests, test_root_make, test_root_remove);
}
