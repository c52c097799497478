#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <inttypes.h>

#include "base/checks.h"
#include "base/str.h"
#include "test_random.h"

static void comparing(void **state)
{
	(void)state;
	assert_true(str_eq(STR("ab"), str_c("ab")));
	assert_false(str_eq(STR("ab"), STR("abc")));
	assert_true(str_eq((str){ NULL, 0 }, STR("")));
	assert_true(str_eq_c((str){ "abc", 2 }, "ab"));
	assert_true(str_eq(str_c(NULL), STR("")));
	assert_true(str_cmp(STR("a"), STR("b")) < 0);
	assert_true(str_cmp(STR("ab"), STR("a")) > 0);
	assert_true(str_cmp(STR("a"), STR("ab")) < 0);
	assert_true(str_cmp(STR("\xff"), STR("a")) > 0);
	assert_int_equal(str_cmp((str){ NULL, 0 }, STR("")), 0);
}

static void beginnings_and_ends(void **state)
{
	(void)state;
	assert_true(str_starts(STR("blue-green"), STR("blue")));
	assert_true(str_starts(STR("x"), STR("")));
	assert_true(str_starts((str){ NULL, 0 }, (str){ NULL, 0 }));
	assert_false(str_starts(STR("bl"), STR("blue")));
	assert_true(str_ends(STR("main.js"), STR(".js")));
	assert_true(str_ends((str){ NULL, 0 }, (str){ NULL, 0 }));
	assert_false(str_ends(STR("js"), STR(".js")));
}

static void finding(void **state)
{
	(void)state;
	assert_int_equal(str_find(STR("blue-green"), STR("green")), 5);
	assert_int_equal(str_find(STR("blue"), STR("x")), -1);
	assert_int_equal(str_find(STR("blue"), STR("")), 0);
	assert_int_equal(str_find((str){ NULL, 0 }, STR("x")), -1);
	assert_int_equal(str_find((str){ "abc", 2 }, STR("c")), -1);
}

static void trimming(void **state)
{
	(void)state;
	assert_true(str_eq_c(str_trim(STR(" \t\r\n a b \v\f")), "a b"));
	assert_int_equal(str_trim(STR(" \n ")).len, 0);
	assert_int_equal(str_trim((str){ NULL, 0 }).len, 0);
	assert_int_equal(str_trim(STR("\xa0")).len, 1);
}

static void splitting(void **state)
{
	(void)state;
	str rest = STR("a,,b,"), field;
	static const char *const fields[] = { "a", "", "b", "" };
	for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
		assert_true(str_split(&rest, ',', &field));
		assert_true(str_eq_c(field, fields[i]));
	}
	assert_false(str_split(&rest, ',', &field));
	rest = STR("");
	assert_true(str_split(&rest, ',', &field));
	assert_int_equal(field.len, 0);
	assert_false(str_split(&rest, ',', &field));
	rest = (str){ NULL, 0 };
	assert_false(str_split(&rest, ',', &field));
}

/* What was split, joined again, is what it was. */
static void splitting_loses_nothing(void **state)
{
	(void)state;
	struct test_random r = { 21 };
	for (int round = 0; round < 5000; round++) {
		char text[20], joined[24] = "";
		size_t used = 0;
		test_random_text(&r, "a,b", 3, text, test_random_below(&r, 19));
		str rest = str_c(text), field;
		while (str_split(&rest, ',', &field)) {
			assert_int_equal(str_find(field, STR(",")), -1);
			used += (size_t)snprintf(joined + used, sizeof(joined) - used, "%s%.*s",
						 field.ptr == text ? "" : ",", STR_ARG(field));
		}
		assert_string_equal(joined, text);
	}
}

static void whole_numbers(void **state)
{
	(void)state;
	static const char *const wrong[] = { "",
					     " 1",
					     "1 ",
					     "+1",
					     "-",
					     "--1",
					     "0x1",
					     "1.0",
					     "1e3",
					     "18446744073709551616",
					     "99999999999999999999999" };
	uint64_t u = 5;
	int64_t i = 5;
	for (size_t k = 0; k < ARRAY_COUNT(wrong); k++) {
		assert_false(str_to_u64(str_c(wrong[k]), &u));
		assert_false(str_to_i64(str_c(wrong[k]), &i));
	}
	assert_false(str_to_u64(STR("-1"), &u));
	assert_false(str_to_i64(STR("9223372036854775808"), &i));
	assert_false(str_to_i64(STR("-9223372036854775809"), &i));
	assert_int_equal(u, 5);
	assert_int_equal(i, 5);
	assert_true(str_to_u64(STR("18446744073709551615"), &u));
	assert_true(u == UINT64_MAX);
	assert_true(str_to_i64(STR("-9223372036854775808"), &i));
	assert_true(i == INT64_MIN);
	assert_true(str_to_i64(STR("9223372036854775807"), &i));
	assert_true(i == INT64_MAX);
	assert_true(str_to_i64(STR("-0"), &i));
	assert_int_equal(i, 0);
	assert_true(str_to_u64((str){ "12345", 3 }, &u));
	assert_int_equal(u, 123);
}

static void numbers_come_back(void **state)
{
	(void)state;
	struct test_random r = { 22 };
	for (int round = 0; round < 20000; round++) {
		char text[32];
		uint64_t u = test_random_u64(&r) >> test_random_below(&r, 64), u_back = 0;
		int64_t i = (int64_t)test_random_u64(&r) >> test_random_below(&r, 64), i_back = 0;
		snprintf(text, sizeof(text), "%" PRIu64, u);
		assert_true(str_to_u64(str_c(text), &u_back) && u_back == u);
		snprintf(text, sizeof(text), "%" PRId64, i);
		assert_true(str_to_i64(str_c(text), &i_back) && i_back == i);
	}
}

static void copying(void **state)
{
	(void)state;
	char dst[4] = "zzz";
	assert_true(str_copy(STR("abc"), dst, sizeof(dst)));
	assert_string_equal(dst, "abc");
	assert_false(str_copy(STR("abcd"), dst, sizeof(dst)));
	assert_string_equal(dst, "");
	assert_false(str_copy((str){ "a\0b", 3 }, dst, sizeof(dst)));
	assert_string_equal(dst, "");
	assert_true(str_copy((str){ NULL, 0 }, dst, 1));
	char *copy = str_dup((str){ "blue-green", 4 });
	assert_string_equal(copy, "blue");
	free(copy);
	copy = str_dup((str){ NULL, 0 });
	assert_string_equal(copy, "");
	free(copy);
}

static void names(void **state)
{
	(void)state;
	static const char *const good[] = { "a", "9", "market-pulse", "a-", "0-1" };
	static const char *const bad[] = { "", "-a", "A", "a_b", "a.b", "a b", "a/b", "\xc3\xa9" };
	for (size_t i = 0; i < ARRAY_COUNT(good); i++)
		assert_true(str_is_name(str_c(good[i]), 12));
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_false(str_is_name(str_c(bad[i]), 12));
	assert_false(str_is_name(STR("market-pulses"), 12));
	assert_false(str_is_name((str){ "a\0b", 3 }, 12));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comparing),     cmocka_unit_test(beginnings_and_ends),
		cmocka_unit_test(finding),       cmocka_unit_test(trimming),
		cmocka_unit_test(splitting),     cmocka_unit_test(splitting_loses_nothing),
		cmocka_unit_test(whole_numbers), cmocka_unit_test(numbers_come_back),
		cmocka_unit_test(copying),       cmocka_unit_test(names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
