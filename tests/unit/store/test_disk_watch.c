#include "store_test.h"

#include <errno.h>

#include "store/disk_watch.h"

static uint64_t fake_free, fake_size;
static int fake_errno;

static int fake_statvfs(const char *path, struct statvfs *st)
{
	(void)path;
	if (fake_errno) {
		errno = fake_errno;
		return -1;
	}
	*st = (struct statvfs){ .f_frsize = 4096,
				.f_blocks = fake_size / 4096,
				.f_bavail = fake_free / 4096 };
	return 0;
}

static struct io_ops fake;
static const uint64_t GIB = UINT64_C(1) << 30;

static int set_up(void **state)
{
	(void)state;
	fake = *io;
	fake.statvfs = fake_statvfs;
	io = &fake;
	fake_errno = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	io = &io_linux;
	return 0;
}

static void the_reserve_follows_the_disk(void **state)
{
	(void)state;
	struct disk_watch d;
	struct err e;
	fake_size = fake_free = 20 * GIB;
	test_ok(disk_watch_init(&d, "/", 0, &e), &e);
	assert_true(disk_watch_reserve(&d) > (int64_t)(GIB / 100 * 99));
	assert_true(disk_watch_reserve(&d) <= (int64_t)GIB);
	fake_size = fake_free = 4000 * GIB;
	test_ok(disk_watch_check(&d, &e), &e);
	assert_int_equal(disk_watch_reserve(&d), 2 * GIB);
	test_ok(disk_watch_init(&d, "/", 12345, &e), &e);
	assert_int_equal(disk_watch_reserve(&d), 12345);
}

static void read_only_begins_and_ends_by_itself(void **state)
{
	(void)state;
	struct disk_watch d;
	struct err e;
	fake_size = 100 * GIB;
	fake_free = 10 * GIB;
	test_ok(disk_watch_init(&d, "/", (int64_t)GIB, &e), &e);
	assert_int_equal(disk_watch_writable(&d, &e), OK);
	assert_true(disk_watch_has_room(&d, 9 * GIB));
	assert_false(disk_watch_has_room(&d, 9 * GIB + 4096));
	fake_free = GIB - 4096;
	test_ok(disk_watch_check(&d, &e), &e);
	assert_true(disk_watch_is_read_only(&d));
	assert_int_equal(disk_watch_writable(&d, &e), ERR_UNAVAILABLE);
	assert_non_null(strstr(e.message, "free some space"));
	assert_false(disk_watch_has_room(&d, 0));
	/* it does not flicker around the limit */
	fake_free = GIB + GIB / 10;
	test_ok(disk_watch_check(&d, &e), &e);
	assert_true(disk_watch_is_read_only(&d));
	fake_free = GIB + GIB / 4;
	test_ok(disk_watch_check(&d, &e), &e);
	assert_false(disk_watch_is_read_only(&d));
}

static void a_failed_look_changes_nothing(void **state)
{
	(void)state;
	struct disk_watch d;
	struct err e;
	char long_path[5000];
	fake_size = fake_free = 10 * GIB;
	test_ok(disk_watch_init(&d, "/", 4096, &e), &e);
	fake_errno = EIO;
	fake_free = 0;
	assert_int_equal(disk_watch_check(&d, &e), ERR_IO);
	assert_false(disk_watch_is_read_only(&d));
	assert_int_equal(disk_watch_free(&d), 10 * GIB);
	fake_errno = ENOENT;
	assert_int_equal(disk_watch_init(&d, "/none", 0, &e), ERR_NOT_FOUND);
	memset(long_path, 'a', sizeof(long_path));
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(disk_watch_init(&d, long_path, 0, &e), ERR_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reserve_follows_the_disk),
		cmocka_unit_test(read_only_begins_and_ends_by_itself),
		cmocka_unit_test(a_failed_look_changes_nothing),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
