#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/compress.h"

static const enum compress_format formats[] = { COMPRESS_GZIP, COMPRESS_BROTLI, COMPRESS_ZSTD,
						COMPRESS_DEFLATE, COMPRESS_SNAPPY };

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

/* A compressor is used for all formats in turn, after failures too, as if it were new each time. */
static void a_compressor_remembers_nothing(void **state)
{
	(void)state;
	static const size_t lens[] = { 300000, 0, 17, 70000 };
	struct compressor *c = compressor_new();
	char *bytes = must_calloc(300000, 1);
	struct err e;
	fill(bytes, 300000);
	for (size_t i = 0; i < ARRAY_COUNT(lens) * ARRAY_COUNT(formats) * 2; i++) {
		enum compress_format format = formats[i % ARRAY_COUNT(formats)];
		int level = i % 3 ? 4 : 1;
		str text = { bytes, lens[i / ARRAY_COUNT(formats) % ARRAY_COUNT(lens)] };
		struct buf once = buf_init(1 << 20), again = buf_init(1 << 20);
		struct buf back = buf_init(1 << 20), none = buf_init(1 << 20);
		buf_add(&again, STR("before"));
		assert_int_equal(compress_bytes(format, level, text, &once, &e), OK);
		assert_int_equal(compressor_compress(c, format, level, text, &again, &e), OK);
		str added = { again.ptr + 6, again.len - 6 };
		assert_true(str_eq(added, buf_str(&once)));
		added.len--;
		assert_int_equal(compressor_decompress(c, format, added, &none, &e), ERR_INVALID);
		assert_int_equal(compressor_decompress(c, format, buf_str(&once), &back, &e), OK);
		assert_true(str_eq(buf_str(&back), text));
		buf_done(&none);
		buf_done(&back);
		buf_done(&again);
		buf_done(&once);
	}
	free(bytes);
	compressor_free(c);
	compressor_free(NULL);
}

/* A flipped bit anywhere: refused, or some bytes within the cap; nothing worse. */
static void flipped_bits_do_no_harm(void **state)
{
	(void)state;
	char text[700];
	struct err e;
	fill(text, sizeof(text));
	for (size_t f = 0; f < ARRAY_COUNT(formats); f++) {
		struct compressor *c = compressor_new();
		struct buf b = buf_init(10000);
		assert_int_equal(compress_bytes(formats[f], 5, (str){ text, sizeof(text) }, &b, &e),
				 OK);
		for (size_t bit = 0; bit < 8 * b.len; bit++) {
			struct buf back = buf_init(4000);
			b.ptr[bit / 8] = (char)(b.ptr[bit / 8] ^ 1 << bit % 8);
			errc rc = compressor_decompress(c, formats[f], buf_str(&b), &back, &e);
			assert_true(rc == OK || rc == ERR_INVALID || rc == ERR_LIMIT);
			assert_true(back.len <= 4000);
			b.ptr[bit / 8] = (char)(b.ptr[bit / 8] ^ 1 << bit % 8);
			buf_done(&back);
		}
		buf_done(&b);
		compressor_free(c);
	}
}

/* A size that the input cannot hold is not believed: no memory is taken for it. */
static void a_claimed_size_is_checked(void **state)
{
	(void)state;
	/* 1 GiB less one, claimed by 5 and by a dozen bytes; and 4 GiB less one */
	str snappy = STR("\xff\xff\xff\xff\x03\x00z");
	str snappy_most = STR("\xff\xff\xff\xff\x0f\x00z");
	/* single segment, size in 4 bytes, one last block: raw, one byte */
	str zstd = STR("\x28\xb5\x2f\xfd\xa0\xff\xff\xff\x3f\x09\x00\x00z");
	str zstd_most = STR("\x28\xb5\x2f\xfd\xa0\xff\xff\xff\xff\x09\x00\x00z");
	const struct {
		enum compress_format format;
		str bytes;
	} claims[] = { { COMPRESS_SNAPPY, snappy },
		       { COMPRESS_SNAPPY, snappy_most },
		       { COMPRESS_ZSTD, zstd },
		       { COMPRESS_ZSTD, zstd_most } };
	struct err e;
	for (size_t i = 0; i < ARRAY_COUNT(claims); i++) {
		struct buf back = buf_init(SIZE_MAX / 4), small = buf_init(1000);
		assert_int_equal(decompress_bytes(claims[i].format, claims[i].bytes, &back, &e),
				 ERR_INVALID);
		assert_true(back.size < 1 << 20);
		assert_int_equal(decompress_bytes(claims[i].format, claims[i].bytes, &small, &e),
				 ERR_LIMIT);
		assert_true(small.size < 1 << 20);
		buf_done(&small);
		buf_done(&back);
	}
}

/* The most that a zstd frame can hold a byte is still believed. */
static void the_densest_zstd_comes_back(void **state)
{
	(void)state;
	struct buf frame = buf_init(1000), back = buf_init(8 << 20);
	struct err e;
	/* single segment of 8 MiB: 64 blocks of one byte, 128 KiB times */
	buf_add(&frame, STR("\x28\xb5\x2f\xfd\xa0\x00\x00\x80\x00"));
	for (int i = 0; i < 64; i++)
		buf_add(&frame, i < 63 ? STR("\x02\x00\x10z") : STR("\x03\x00\x10z"));
	assert_int_equal(decompress_bytes(COMPRESS_ZSTD, buf_str(&frame), &back, &e), OK);
	assert_int_equal(back.len, 8 << 20);
	assert_true(back.ptr[0] == 'z' && back.ptr[back.len - 1] == 'z');
	buf_done(&back);
	buf_done(&frame);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_back),
		cmocka_unit_test(a_bomb_stops_at_the_cap),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(the_cap_is_of_the_result),
		cmocka_unit_test(gzip_names_no_time_nor_system),
		cmocka_unit_test(a_compressor_remembers_nothing),
		cmocka_unit_test(flipped_bits_do_no_harm),
		cmocka_unit_test(a_claimed_size_is_checked),
		cmocka_unit_test(the_densest_zstd_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
