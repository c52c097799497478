#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/compress.h"

static const enum compress_format formats[] = { COMPRESS_GZIP, COMPRESS_BROTLI, COMPRESS_ZSTD };

/* Half noise, half repetition. */
static void fill(char *bytes, size_t len)
{
	uint32_t x = 12345;
	for (size_t i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		bytes[i] = (char)(i & 4096 ? x >> 24 : 'a' + i % 7);
	}
}

static void bytes_come_back(void **state)
{
	(void)state;
	static const size_t lens[] = { 0, 1, 65535, 65536, 65537, 300000 };
	char *bytes = must_calloc(300000, 1);
	struct err e;
	fill(bytes, 300000);
	for (size_t f = 0; f < ARRAY_COUNT(formats); f++) {
		for (size_t i = 0; i < ARRAY_COUNT(lens); i++) {
			struct buf once = buf_init(1 << 20), twice = buf_init(1 << 20);
			struct buf back = buf_init(lens[i]); /* the cap is reached exactly */
			str text = { bytes, lens[i] };
			assert_int_equal(compress_bytes(formats[f], 5, text, &once, &e), OK);
			assert_int_equal(compress_bytes(formats[f], 5, text, &twice, &e), OK);
			assert_true(str_eq(buf_str(&once), buf_str(&twice)));
			assert_int_equal(decompress_bytes(formats[f], buf_str(&once), &back, &e),
					 OK);
			assert_true(str_eq(buf_str(&back), text));
			buf_done(&back);
			buf_done(&twice);
			buf_done(&once);
		}
	}
	free(bytes);
}

static void a_bomb_stops_at_the_cap(void **state)
{
	(void)state;
	size_t len = 8 << 20;
	char *zeros = must_calloc(len, 1);
	struct err e;
	for (size_t f = 0; f < ARRAY_COUNT(formats); f++) {
		struct buf bomb = buf_init(16 << 20), back = buf_init(100000);
		assert_int_equal(compress_bytes(formats[f], 3, (str){ zeros, len }, &bomb, &e), OK);
		assert_int_equal(decompress_bytes(formats[f], buf_str(&bomb), &back, &e),
				 ERR_LIMIT);
		assert_true(back.len <= 100000 && back.size <= 1 << 18);
		buf_done(&back);
		buf_done(&bomb);
	}
	free(zeros);
}

/* Every proper prefix and every text with a byte behind it is refused. */
static void damage_is_refused(void **state)
{
	(void)state;
	struct err e;
	for (size_t f = 0; f < ARRAY_COUNT(formats); f++) {
		struct buf b = buf_init(10000);
		assert_int_equal(
			compress_bytes(formats[f], 5, STR("some text, some text, more"), &b, &e),
			OK);
		for (size_t n = 0; n < b.len; n++) {
			struct buf back = buf_init(10000);
			assert_int_equal(decompress_bytes(formats[f], (str){ b.ptr, n }, &back, &e),
					 ERR_INVALID);
			buf_done(&back);
		}
		struct buf back = buf_init(10000);
		buf_add_byte(&b, 'x');
		assert_int_equal(decompress_bytes(formats[f], buf_str(&b), &back, &e), ERR_INVALID);
		buf_done(&back);
		buf_done(&b);
	}
}

/* A cap that the result just fits, and one byte less. */
static void the_cap_is_of_the_result(void **state)
{
	(void)state;
	struct err e;
	str text = STR("some text, some text, some text, some text, more text, more text");
	for (size_t f = 0; f < ARRAY_COUNT(formats); f++) {
		struct buf b = buf_init(1 << 20);
		assert_int_equal(compress_bytes(formats[f], 5, text, &b, &e), OK);
		struct buf fits = buf_init(b.len), small = buf_init(b.len - 1);
		struct buf none = buf_init(0);
		assert_int_equal(compress_bytes(formats[f], 5, text, &fits, &e), OK);
		assert_true(str_eq(buf_str(&fits), buf_str(&b)));
		assert_int_equal(compress_bytes(formats[f], 5, text, &small, &e), ERR_LIMIT);
		assert_int_equal(compress_bytes(formats[f], 5, text, &none, &e), ERR_LIMIT);
		buf_done(&none);
		buf_done(&small);
		buf_done(&fits);
		buf_done(&b);
	}
}

static void gzip_names_no_time_nor_system(void **state)
{
	(void)state;
	struct buf b = buf_init(1000);
	struct err e;
	assert_int_equal(compress_bytes(COMPRESS_GZIP, 6, STR("text"), &b, &e), OK);
	assert_memory_equal(b.ptr, "\x1f\x8b\x08\x00\x00\x00\x00\x00", 8);
	assert_int_equal((unsigned char)b.ptr[9], 255);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_back),
		cmocka_unit_test(a_bomb_stops_at_the_cap),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(the_cap_is_of_the_result),
		cmocka_unit_test(gzip_names_no_time_nor_system),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
