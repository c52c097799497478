#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/crc32c.h"

/* RFC 3720, B.4; the check value of the CRC. */
static void known_sums(void **state)
{
	(void)state;
	char b[32];
	str s = { b, sizeof(b) };
	memset(b, 0, sizeof(b));
	assert_int_equal(crc32c(0, s), 0x8a9136aa);
	assert_int_equal(crc32c_portable(0, s), 0x8a9136aa);
	memset(b, 0xff, sizeof(b));
	assert_int_equal(crc32c(0, s), 0x62a8ab43);
	assert_int_equal(crc32c_portable(0, s), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		b[i] = (char)i;
	assert_int_equal(crc32c(0, s), 0x46dd794e);
	for (int i = 0; i < 32; i++)
		b[i] = (char)(31 - i);
	assert_int_equal(crc32c(0, s), 0x113fdb5c);
	assert_int_equal(crc32c(0, (str){ "123456789", 9 }), 0xe3069283);
	assert_int_equal(crc32c(0, (str){ "", 0 }), 0);
}

static void both_ways_agree_and_chain(void **state)
{
	(void)state;
	static char b[10000];
	uint32_t x = 1;
	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
	for (size_t len = 0; len + 8 < sizeof(b); len += len < 100 ? 1 : 97) {
		str s = { b + len % 8, len };
		uint32_t whole = crc32c(0, s);
		assert_int_equal(whole, crc32c_portable(0, s));
		size_t cut = len / 3;
		uint32_t front = crc32c(0, (str){ s.ptr, cut });
		assert_int_equal(crc32c(front, (str){ s.ptr + cut, len - cut }), whole);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_sums),
		cmocka_unit_test(both_ways_agree_and_chain),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
