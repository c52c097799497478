#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/checks.h"
#include "test_random.h"

static void gives_zeroed_aligned_bytes(void **state)
{
	(void)state;
	struct arena a = arena_init(1 << 20);
	struct test_random r = { 1 };
	static const char zeros[9000];
	for (int i = 0; i < 100; i++) {
		size_t size = test_random_below(&r, i % 10 ? 200 : sizeof(zeros));
		char *p = arena_alloc(&a, size);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
		assert_memory_equal(p, zeros, size);
		memset(p, 0xff, size);
	}
	struct err e;
	assert_int_equal(arena_check(&a, "a test", &e), OK);
	arena_done(&a);
}

static void blocks_do_not_overlap(void **state)
{
	(void)state;
	enum { COUNT = 500 };
	struct arena a = arena_init(1 << 20);
	struct test_random r = { 2 };
	unsigned char *blocks[COUNT];
	size_t sizes[COUNT];
	for (size_t i = 0; i < COUNT; i++) {
		sizes[i] = 1 + test_random_below(&r, 300);
		blocks[i] = arena_alloc(&a, sizes[i]);
		memset(blocks[i], (int)(i % 251), sizes[i]);
	}
	for (size_t i = 0; i < COUNT; i++)
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(blocks[i][k], i % 251);
	arena_done(&a);
}

static void cap_is_exact_and_sticky(void **state)
{
	(void)state;
	struct arena a = arena_init(100);
	struct err e;
	assert_non_null(arena_alloc(&a, 60));
	assert_non_null(arena_alloc(&a, 40));
	assert_int_equal(arena_check(&a, "the request", &e), OK);
	assert_null(arena_alloc(&a, 1));
	assert_int_equal(arena_check(&a, "the request", &e), ERR_LIMIT);
	assert_non_null(strstr(e.message, "the request"));
	assert_non_null(strstr(e.message, "100"));
	arena_done(&a);
	/* after its end it serves again, empty and with the same cap */
	assert_int_equal(arena_check(&a, "the request", &e), OK);
	assert_non_null(arena_alloc(&a, 100));
	arena_done(&a);
}

static void huge_sizes_are_refused(void **state)
{
	(void)state;
	struct arena a = arena_init(SIZE_MAX);
	assert_null(arena_array(&a, SIZE_MAX / 2, 3));
	assert_true(a.overflow);
	arena_done(&a);
	a = arena_init(1000);
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 8));
	assert_string_equal(arena_cstr(&a, (str){ "x", SIZE_MAX }), "");
	arena_done(&a);
	/* with no cap to speak of, the rounding up must not wrap to a small block */
	a = arena_init(100);
	assert_null(arena_array(&a, 0x100000001u, 0x100000000u));
	arena_done(&a);
}

static void strings_are_copies(void **state)
{
	(void)state;
	struct arena a = arena_init(1000);
	char text[] = "blue";
	str copy = arena_str(&a, str_c(text));
	char *c = arena_cstr(&a, (str){ text, 2 });
	memset(text, 'x', 4);
	assert_true(str_eq_c(copy, "blue"));
	assert_int_equal(copy.ptr[copy.len], 0);
	assert_string_equal(c, "bl");
	assert_string_equal(arena_printf(&a, "%s-%d", "green", 7), "green-7");
	assert_true(str_eq_c(arena_str(&a, (str){ NULL, 0 }), ""));
	arena_done(&a);
}

static void strings_past_the_cap_are_empty(void **state)
{
	(void)state;
	struct arena a = arena_init(8);
	assert_string_equal(arena_printf(&a, "%s", "12345678"), "");
	assert_true(a.overflow);
	assert_int_equal(arena_str(&a, STR("123456789")).len, 0);
	arena_done(&a);
}

static void a_copy_that_fits_is_whole_after_an_overflow(void **state)
{
	(void)state;
	struct arena a = arena_init(8);
	assert_null(arena_alloc(&a, 9));
	str s = arena_str(&a, STR("abc"));
	/* either form is allowed, a length without its bytes is not */
	assert_true(s.len == 0 || memcmp(s.ptr, "abc", 3) == 0);
	arena_done(&a);
	arena_done(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_zeroed_aligned_bytes),
		cmocka_unit_test(blocks_do_not_overlap),
		cmocka_unit_test(cap_is_exact_and_sticky),
		cmocka_unit_test(huge_sizes_are_refused),
		cmocka_unit_test(strings_are_copies),
		cmocka_unit_test(strings_past_the_cap_are_empty),
		cmocka_unit_test(a_copy_that_fits_is_whole_after_an_overflow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
