#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <inttypes.h>
#include <time.h>

#include "base/checks.h"
#include "base/units.h"
#include "test_random.h"

struct example {
	const char *text;
	int64_t value;
};

static void durations_read(void **state)
{
	(void)state;
	static const struct example good[] = {
		{ "0", 0 },
		{ "0s", 0 },
		{ "500ms", 500 },
		{ "3s", 3000 },
		{ "10m", 600000 },
		{ "2h", 7200000 },
		{ "7d", 604800000 },
		{ "1h30m", 5400000 },
		{ "1.5s", 1500 },
		{ "0.25s", 250 },
		{ "1d2h3m4s5ms", 93784005 },
		{ "365d", 31536000000 },
		{ "1m1m", 120000 },
	};
	static const char *const bad[] = { "",
					   "5",
					   "s",
					   "-1s",
					   "1 s",
					   " 1s",
					   "1s ",
					   "1.s",
					   ".5s",
					   "1..5s",
					   "1.5.5s",
					   "1S",
					   "1y",
					   "1e3s",
					   "+1s",
					   "1sm",
					   "99999999999999999d",
					   "9999999999999d",
					   "1h30",
					   "0x1s" };
	int64_t ms = 77;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		if (!duration_parse(str_c(good[i].text), &ms) || ms != good[i].value)
			fail_msg("%s gave %" PRId64, good[i].text, ms);
	}
	ms = 77;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		if (duration_parse(str_c(bad[i]), &ms) || ms != 77)
			fail_msg("\"%s\" was taken for %" PRId64, bad[i], ms);
	assert_true(duration_parse((str){ "10m59", 3 }, &ms));
	assert_int_equal(ms, 600000);
}

static void sizes_read(void **state)
{
	(void)state;
	static const struct example good[] = {
		{ "0", 0 },
		{ "512", 512 },
		{ "512B", 512 },
		{ "64KiB", 65536 },
		{ "1.5GiB", 1610612736 },
		{ "2MiB", 2097152 },
		{ "1TiB", 1099511627776 },
		{ "3kB", 3000 },
		{ "3MB", 3000000 },
		{ "3GB", 3000000000 },
		{ "9223372036854775807", INT64_MAX },
	};
	static const char *const bad[] = { "",
					   "KiB",
					   "-1",
					   "1 KiB",
					   "1K",
					   "1kb",
					   "1KB",
					   "1.5.",
					   "1KiB2",
					   "1.",
					   "9223372036854775808",
					   "99999999999TiB",
					   "10000TiB10000TiB" };
	int64_t bytes = 77;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		if (!size_parse(str_c(good[i].text), &bytes) || bytes != good[i].value)
			fail_msg("%s gave %" PRId64, good[i].text, bytes);
	}
	bytes = 77;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		if (size_parse(str_c(bad[i]), &bytes) || bytes != 77)
			fail_msg("\"%s\" was taken for %" PRId64, bad[i], bytes);
}

static void durations_written(void **state)
{
	(void)state;
	static const struct example cases[] = {
		{ "0ms", 0 },
		{ "1ms", 1 },
		{ "850ms", 850 },
		{ "999ms", 999 },
		{ "1s", 1000 },
		{ "2.4s", 2400 },
		{ "2.35s", 2345 },
		{ "59.9s", 59900 },
		{ "10m", 600000 },
		{ "1.5h", 5400000 },
		{ "7d", 604800000 },
		{ "1m", 60000 },
		/* rounding up reaches the next unit */
		{ "1m", 59999 },
		{ "1h", 3599999 },
		{ "1d", 86399999 },
		{ "-5ms", -5 },
		{ "-1.5s", -1500 },
	};
	char text[UNIT_TEXT_SIZE];
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		assert_string_equal(duration_format(cases[i].value, text), cases[i].text);
	duration_format(INT64_MAX, text);
	duration_format(INT64_MIN, text);
}

static void sizes_written(void **state)
{
	(void)state;
	static const struct example cases[] = {
		{ "0 B", 0 },
		{ "1023 B", 1023 },
		{ "1 KiB", 1024 },
		{ "1.5 KiB", 1536 },
		{ "64 KiB", 65536 },
		{ "1 MiB", 1048576 },
		{ "1.5 GiB", 1610612736 },
		{ "2 TiB", 2199023255552 },
		{ "1 MiB", 1048575 },
		{ "1 GiB", 1073741823 },
	};
	char text[UNIT_TEXT_SIZE];
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		assert_string_equal(size_format(cases[i].value, text), cases[i].text);
	size_format(INT64_MAX, text);
}

/* Three digits are kept: what was written reads back within half a per cent. */
static void durations_come_back(void **state)
{
	(void)state;
	struct test_random r = { 41 };
	for (int round = 0; round < 20000; round++) {
		int64_t ms = (int64_t)(test_random_u64(&r) >> (24 + test_random_below(&r, 40))),
			back;
		char text[UNIT_TEXT_SIZE];
		duration_format(ms, text);
		if (!duration_parse(str_c(text), &back))
			fail_msg("%s, of %" PRId64 " ms, cannot be read", text, ms);
		int64_t off = back > ms ? back - ms : ms - back;
		if (off * 200 > ms)
			fail_msg("%" PRId64 " ms was written as %s", ms, text);
		if (ms < 1000)
			assert_int_equal(back, ms);
	}
}

static void sums_are_sums(void **state)
{
	(void)state;
	static const struct example units[] = {
		{ "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 }
	};
	struct test_random r = { 42 };
	for (int round = 0; round < 5000; round++) {
		char text[128];
		size_t used = 0;
		int64_t sum = 0, got = 0;
		for (size_t n = 1 + test_random_below(&r, 5); n; n--) {
			const struct example *u = &units[test_random_below(&r, ARRAY_COUNT(units))];
			int64_t count = (int64_t)test_random_below(&r, 10000);
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%" PRId64 "%s",
						 count, u->text);
			sum += count * u->value;
		}
		assert_true(duration_parse(str_c(text), &got));
		assert_true(got == sum);
	}
}

static void times_written(void **state)
{
	(void)state;
	char text[UNIT_TEXT_SIZE];
	assert_string_equal(time_format(0, text), "1970-01-01T00:00:00.000Z");
	assert_string_equal(time_format(1764034860123, text), "2025-11-25T01:41:00.123Z");
	assert_string_equal(time_format(951782400000, text), "2000-02-29T00:00:00.000Z");
	assert_string_equal(time_format(-1, text), "1969-12-31T23:59:59.999Z");
	assert_string_equal(time_format(-1000, text), "1969-12-31T23:59:59.000Z");
	time_format(INT64_MAX, text);
	time_format(INT64_MIN, text);
	struct test_random r = { 43 };
	for (int round = 0; round < 2000; round++) {
		time_ms t = (time_ms)(test_random_u64(&r) % 253402300800000u);
		struct tm tm = { 0 };
		int ms = 0;
		time_format(t, text);
		assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &tm.tm_year,
					&tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
					&tm.tm_sec, &ms),
				 7);
		tm.tm_year -= 1900;
		tm.tm_mon--;
		assert_true((time_ms)timegm(&tm) * 1000 + ms == t);
	}
}

static void how_long_ago(void **state)
{
	(void)state;
	static const struct example cases[] = {
		{ "just now", 0 },         { "just now", 999 },
		{ "1 second ago", 1000 },  { "59 seconds ago", 59999 },
		{ "1 minute ago", 60000 }, { "3 minutes ago", 200000 },
		{ "1 hour ago", 3600000 }, { "23 hours ago", 86399999 },
		{ "1 day ago", 86400000 }, { "400 days ago", 34560000000 },
	};
	char text[UNIT_TEXT_SIZE];
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		assert_string_equal(time_ago(1000000, 1000000 + cases[i].value, text),
				    cases[i].text);
	/* clocks differ */
	assert_string_equal(time_ago(5000, 1000, text), "just now");
}

static void times_read_back(void **state)
{
	static const struct {
		const char *text;
		time_ms t;
	} good[] = { { "1970-01-01T00:00:00Z", 0 },
		     { "2000-02-29T00:00:00.000Z", 951782400000 },
		     { "2025-11-25T03:41:00.123456789+02:00", 1764034860123 },
		     { "2025-11-24t22:11:00.5-03:30", 1764034860500 },
		     { "1969-12-31T23:59:59.999Z", -1 } };
	static const char *const bad[] = { "",
					   "2025",
					   "2025-13-01T00:00:00Z",
					   "2025-02-29T00:00:00Z",
					   "2025-01-01T24:00:00Z",
					   "2025-01-01T00:00:00",
					   "2025-01-01T00:00:00.Z",
					   "2025-01-01T00:00:00+0200",
					   "2025-01-01T00:00:00Zx",
					   "2025-01-01" };
	uint64_t seed = 4711;
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		time_ms t;
		assert_true(time_parse(str_c(good[i].text), &t));
		assert_int_equal(t, good[i].t);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		time_ms t;
		if (time_parse(str_c(bad[i]), &t))
			fail_msg("%s was taken", bad[i]);
	}
	for (int i = 0; i < 20000; i++) {
		char text[UNIT_TEXT_SIZE];
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		time_ms t = (time_ms)(seed >> 17) - 30000000000000, again;
		assert_true(time_parse(str_c(time_format(t, text)), &again));
		assert_int_equal(t, again);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations_read),      cmocka_unit_test(sizes_read),
		cmocka_unit_test(durations_written),   cmocka_unit_test(sizes_written),
		cmocka_unit_test(durations_come_back), cmocka_unit_test(sums_are_sums),
		cmocka_unit_test(times_written),       cmocka_unit_test(how_long_ago),
		cmocka_unit_test(times_read_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
