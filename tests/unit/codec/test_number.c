/* Numbers as text, against printf, strtod and what Go prints. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/number.h"

static void it_prints_as_go_does(void **state)
{
	static const struct {
		double v;
		const char *text;
	} cases[] = { { 0, "0" },
		      { -0.0, "-0" },
		      { 0.1, "0.1" },
		      { 1, "1" },
		      { 123456789, "123456789" },
		      { 1e20, "100000000000000000000" },
		      { 1e21, "1e+21" },
		      { 1.5e300, "1.5e+300" },
		      { 1e-6, "0.000001" },
		      { 9.9e-7, "9.9e-07" },
		      { -1e-7, "-1e-07" },
		      { 5e-324, "5e-324" },
		      { 1.7976931348623157e308, "1.7976931348623157e+308" },
		      { HUGE_VAL, "+Inf" },
		      { -HUGE_VAL, "-Inf" },
		      { (double)NAN, "NaN" } };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		char text[NUMBER_TEXT_SIZE];
		assert_int_equal(number_format(cases[i].v, text), strlen(cases[i].text));
		assert_string_equal(text, cases[i].text);
	}
}

static void what_is_printed_reads_back(void **state)
{
	uint64_t seed = 0x9e3779b97f4a7c15ULL;
	(void)state;
	for (int i = 0; i < 300000; i++) {
		char text[NUMBER_TEXT_SIZE];
		double v, again;
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		uint64_t bits = i % 3 ? seed ^ (seed >> 29) : 0;
		memcpy(&v, &bits, sizeof(v));
		if (i % 3 == 0)
			v = (double)(int64_t)(seed >> 30) / 1000;
		size_t len = number_format(v, text);
		assert_true(len < sizeof(text));
		assert_true(number_parse((str){ text, len }, &again));
		if (isnan(v))
			assert_true(isnan(again));
		else
			assert_memory_equal(&v, &again, sizeof(v));
		if (!isnan(v))
			assert_true(strtod(text, NULL) == v);
	}
}

static void it_reads_what_strtod_reads(void **state)
{
	static const char *const good[] = { "1",
					    "+1",
					    "-1.5",
					    "1e5",
					    "1E-5",
					    ".5",
					    "5.",
					    "1e400",
					    "1e-400",
					    "-1e400",
					    "0.00001e-330",
					    "123456789012345678901234567890",
					    "0e999",
					    "1000e307",
					    "00.5",
					    "Inf",
					    "-inf",
					    "+Infinity",
					    "0.0000000000000000000000001e330" };
	static const char *const bad[] = { "",   "+",    "-",  "--1", "+-1", "1e",
					   "e5", "1 ",   " 1", "0x1", "1_0", "1..2",
					   ".",  "nanx", "in", "1e+", "1,5", "/" };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		double v = 7, want = strtod(good[i], NULL);
		if (!number_parse(str_c(good[i]), &v) || v != want)
			fail_msg("%s: %.17g, wanted %.17g", good[i], v, want);
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		double v;
		if (number_parse(str_c(bad[i]), &v))
			fail_msg("'%s' was taken", bad[i]);
	}
	double v;
	assert_true(number_parse(STR("NaN"), &v) && isnan(v));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_prints_as_go_does),
		cmocka_unit_test(what_is_printed_reads_back),
		cmocka_unit_test(it_reads_what_strtod_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
