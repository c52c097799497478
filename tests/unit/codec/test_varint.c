#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/varint.h"

static void numbers_come_back(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit <= 64; bit++) {
		for (int less = -1; less <= 1; less++) {
			uint64_t v = (bit == 64 ? 0 : UINT64_C(1) << bit) + (uint64_t)(int64_t)less;
			struct buf b = buf_init(100);
			buf_add_varint(&b, v);
			assert_int_equal(b.len, varint_size(v));
			buf_add_zigzag(&b, (int64_t)v);
			buf_add_u16(&b, (uint16_t)v);
			buf_add_u32(&b, (uint32_t)v);
			buf_add_u64(&b, v);
			struct reader r = reader_init(buf_str(&b));
			assert_true(reader_varint(&r) == v);
			assert_true(reader_zigzag(&r) == (int64_t)v);
			assert_int_equal(reader_u16(&r), (uint16_t)v);
			assert_int_equal(reader_u32(&r), (uint32_t)v);
			assert_true(reader_u64(&r) == v);
			assert_true(!r.failed && reader_left(&r) == 0);
			buf_done(&b);
		}
	}
}

static void what_is_too_long_or_cut_fails(void **state)
{
	(void)state;
	static const str bad[] = {
		{ "", 0 },
		{ "\x80", 1 },
		{ "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9 },
		{ "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10 },
		{ "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11 },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct reader r = reader_init(bad[i]);
		assert_true(reader_varint(&r) == 0);
		assert_true(r.failed && reader_left(&r) == 0);
		assert_true(reader_u64(&r) == 0 && reader_u8(&r) == 0);
		assert_int_equal(reader_bytes(&r, 1).len, 0);
	}
	struct reader r = reader_init((str){ "\x80\x00", 2 });
	assert_true(reader_varint(&r) == 0 && !r.failed);
	r = reader_init((str){ "abc", 3 });
	assert_null(reader_take(&r, SIZE_MAX));
	assert_true(r.failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_come_back),
		cmocka_unit_test(what_is_too_long_or_cut_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
