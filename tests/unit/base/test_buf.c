#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/checks.h"
#include "test_random.h"

static void starts_empty(void **state)
{
	(void)state;
	struct buf b = buf_init(10);
	struct err e;
	assert_string_equal(buf_cstr(&b), "");
	assert_int_equal(buf_str(&b).len, 0);
	assert_int_equal(buf_check(&b, "it", &e), OK);
	buf_clear(&b);
	buf_consume(&b, 0);
	buf_done(&b);
	buf_done(NULL);
}

static void takes_exactly_its_cap(void **state)
{
	(void)state;
	struct buf b = buf_init(5);
	struct err e;
	buf_add_c(&b, "12345");
	assert_int_equal(buf_check(&b, "the body", &e), OK);
	buf_add_byte(&b, '6');
	assert_int_equal(buf_check(&b, "the body", &e), ERR_LIMIT);
	assert_string_equal(e.message, "the body is larger than the limit of 5 bytes");
	assert_string_equal(buf_cstr(&b), "12345");
	buf_done(&b);
}

static void overflow_is_sticky_until_cleared(void **state)
{
	(void)state;
	struct buf b = buf_init(5);
	buf_add_c(&b, "abc");
	buf_add_c(&b, "defg");
	buf_add_c(&b, "h"); /* would fit; a gap in the middle must not go unnoticed */
	assert_string_equal(buf_cstr(&b), "abc");
	assert_true(b.overflow);
	buf_clear(&b);
	assert_string_equal(buf_cstr(&b), "");
	buf_add_c(&b, "hello");
	assert_string_equal(buf_cstr(&b), "hello");
	assert_false(b.overflow);
	buf_done(&b);
}

static void printf_counts_against_the_cap(void **state)
{
	(void)state;
	struct buf b = buf_init(8);
	buf_printf(&b, "%s=%d", "a", 12);
	assert_string_equal(buf_cstr(&b), "a=12");
	buf_printf(&b, "%d", 34567);
	assert_true(b.overflow);
	assert_string_equal(buf_cstr(&b), "a=12");
	buf_done(&b);
}

static void huge_appends_are_refused(void **state)
{
	(void)state;
	struct buf b = buf_init(100);
	buf_add_c(&b, "x");
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_true(b.overflow);
	assert_string_equal(buf_cstr(&b), "x");
	buf_done(&b);
}

static void reserve_serves_a_reader(void **state)
{
	(void)state;
	struct buf b = buf_init(1000);
	char *room = buf_reserve(&b, 600);
	assert_non_null(room);
	memset(room, 'r', 600);
	b.len += 600;
	buf_add_c(&b, "!");
	assert_int_equal(b.len, 601);
	assert_int_equal(strlen(buf_cstr(&b)), 601);
	buf_done(&b);
}

/* Random appends and cuts against a plain array. */
static void agrees_with_a_plain_array(void **state)
{
	(void)state;
	enum { CAP = 500 };
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct test_random r = { seed };
		struct buf b = buf_init(CAP);
		char model[CAP + 1];
		size_t len = 0;
		bool overflow = false;
		for (int step = 0; step < 60; step++) {
			char piece[128];
			size_t n = test_random_below(&r, 100);
			switch (test_random_below(&r, 5)) {
			case 0:
				n = len ? test_random_below(&r, len + 1) : 0;
				buf_consume(&b, n);
				memmove(model, model + n, len - n);
				len -= n;
				break;
			case 1:
				if (test_random_below(&r, 8) == 0) {
					buf_clear(&b);
					len = 0;
					overflow = false;
				}
				break;
			default:
				test_random_text(&r, "abc", 4, piece, n); /* with NULs too */
				buf_add(&b, (str){ piece, n });
				overflow |= len + n > CAP;
				if (!overflow) {
					memcpy(model + len, piece, n);
					len += n;
				}
			}
			assert_int_equal(b.len, len);
			assert_int_equal(b.overflow, overflow);
			assert_memory_equal(buf_str(&b).ptr, model, len);
			if (b.ptr)
				assert_int_equal(b.ptr[b.len], 0);
		}
		buf_done(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_empty),
		cmocka_unit_test(takes_exactly_its_cap),
		cmocka_unit_test(overflow_is_sticky_until_cleared),
		cmocka_unit_test(printf_counts_against_the_cap),
		cmocka_unit_test(huge_appends_are_refused),
		cmocka_unit_test(reserve_serves_a_reader),
		cmocka_unit_test(agrees_with_a_plain_array),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
