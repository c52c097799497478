#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/time_vector.h"

enum { SHAPES = 6 };

static uint64_t seed;

static uint64_t random_bits(void)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void fill(time_ms *t, size_t n, unsigned shape)
{
	static const int64_t odd[] = { INT64_MIN, INT64_MAX, 0, -1, 1, INT64_MIN + 1 };
	for (size_t i = 0; i < n; i++) {
		uint64_t r = random_bits();
		time_ms regular = INT64_C(1700000000123) + (time_ms)i * 15000;
		switch (shape) {
		case 0:
			t[i] = regular;
			break;
		case 1:
			t[i] = regular + (time_ms)(r % 20);
			break;
		case 2:
			t[i] = (time_ms)r;
			break;
		case 3:
			t[i] = odd[r % 6];
			break;
		case 4:
			t[i] = regular + (r % 50 ? 0 : (time_ms)(r % 100000000));
			break;
		default:
			t[i] = i % 2 ? INT64_MAX : INT64_MIN;
		}
	}
}

static size_t round_trip(const time_ms *t, size_t n, enum vector_level level,
			 struct vector_scratch *scratch)
{
	time_ms back[VECTOR_LEN_MAX];
	struct err e;
	struct buf b = buf_init(VECTOR_BYTES_MAX), again = buf_init(VECTOR_BYTES_MAX);
	size_t size = time_vector_encode(t, n, level, scratch, &b);
	assert_true(size > 0 && size == b.len);
	struct vector_scratch *fresh = vector_scratch_new();
	assert_int_equal(time_vector_encode(t, n, level, fresh, &again), size);
	assert_memory_equal(b.ptr, again.ptr, size);
	vector_scratch_free(fresh);
	uint8_t *exact = malloc(size);
	memcpy(exact, b.ptr, size);
	struct reader r = reader_init((str){ (const char *)exact, size });
	assert_int_equal(time_vector_decode(&r, n, back, scratch, &e), OK);
	assert_int_equal(reader_left(&r), 0);
	assert_memory_equal(back, t, n * sizeof(*t));
	free(exact);
	buf_done(&b);
	buf_done(&again);
	return size;
}

static void every_length_comes_back(void **state)
{
	(void)state;
	struct vector_scratch *scratch = vector_scratch_new();
	time_ms t[VECTOR_LEN_MAX];
	seed = 1;
	for (size_t n = 1; n <= VECTOR_LEN_MAX; n++) {
		unsigned shapes = n < 80 || n % 64 < 2 ? SHAPES : 1;
		for (unsigned s = 0; s < shapes; s++) {
			fill(t, n, shapes == 1 ? (unsigned)n % SHAPES : s);
			round_trip(t, n, VECTOR_HOT, scratch);
			round_trip(t, n, VECTOR_COLD, scratch);
		}
	}
	vector_scratch_free(scratch);
}

static void a_constant_step_is_small(void **state)
{
	(void)state;
	struct vector_scratch *scratch = vector_scratch_new();
	time_ms t[VECTOR_LEN_MAX];
	fill(t, VECTOR_LEN_MAX, 0);
	assert_true(round_trip(t, VECTOR_LEN_MAX, VECTOR_HOT, scratch) <= 12);
	vector_scratch_free(scratch);
}

static errc decode_copy(const char *bytes, size_t size, size_t n, struct vector_scratch *scratch)
{
	time_ms back[VECTOR_LEN_MAX];
	struct err e;
	char *copy = malloc(size ? size : 1);
	memcpy(copy, bytes, size);
	struct reader r = reader_init((str){ copy, size });
	errc rc = time_vector_decode(&r, n, back, scratch, &e);
	assert_true(rc == OK || (rc == ERR_CORRUPT && r.failed));
	free(copy);
	return rc;
}

static void damage_is_refused_or_garbage(void **state)
{
	(void)state;
	static const size_t lens[] = { 1, 2, 30, 300 };
	struct vector_scratch *scratch = vector_scratch_new();
	time_ms t[VECTOR_LEN_MAX];
	seed = 2;
	for (unsigned k = 0; k < SHAPES * 4 * 2; k++) {
		size_t n = lens[k / 2 % 4];
		struct buf b = buf_init(VECTOR_BYTES_MAX);
		fill(t, n, k / 8);
		assert_true(
			time_vector_encode(t, n, k % 2 ? VECTOR_COLD : VECTOR_HOT, scratch, &b));
		for (size_t cut = 0; cut < b.len; cut++)
			assert_int_equal(decode_copy(b.ptr, cut, n, scratch), ERR_CORRUPT);
		size_t flipped = b.len < 200 ? b.len : 200;
		for (size_t bit = 0; bit < 8 * flipped; bit++) {
			b.ptr[bit / 8] = (char)(b.ptr[bit / 8] ^ 1 << bit % 8);
			decode_copy(b.ptr, b.len, n, scratch);
			b.ptr[bit / 8] = (char)(b.ptr[bit / 8] ^ 1 << bit % 8);
		}
		buf_done(&b);
	}
	vector_scratch_free(scratch);
}

static void a_full_buf_is_told(void **state)
{
	(void)state;
	struct vector_scratch *scratch = vector_scratch_new();
	time_ms t[100];
	seed = 4;
	fill(t, 100, 2);
	struct buf b = buf_init(50);
	assert_int_equal(time_vector_encode(t, 100, VECTOR_COLD, scratch, &b), 0);
	assert_true(b.overflow);
	buf_done(&b);
	vector_scratch_free(scratch);
}

/* What tempts an encoder to tell many values apart: SHARE of 100 take WIDTH bits, the rest none. */
static void fill_adversarial(time_ms *out, size_t n, unsigned width, unsigned share)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t r = random_bits();
		uint64_t wide = r >> (64 - width) | UINT64_C(1) << (width - 1);
		uint64_t v = r % 100 < share ? wide : 0;
		v = r & 128 ? 0 - v : v;
		out[i] = (time_ms)v;
	}
}

static void no_vector_is_longer_than_the_limit(void **state)
{
	(void)state;
	static const size_t lens[] = { VECTOR_LEN_MAX, VECTOR_LEN_MAX - 1, 300 };
	struct vector_scratch *scratch = vector_scratch_new();
	time_ms v[VECTOR_LEN_MAX];
	seed = 77;
	for (unsigned width = 1; width <= 64; width += width < 40 ? 6 : 1) {
		/* shares about which telling apart starts to cost more than packing all */
		unsigned share = 100 * width / (width + 20);
		share -= share < 10 ? share : 10;
		for (unsigned k = 0; k < 3 * 14; k++) {
			size_t n = lens[k % 3];
			fill_adversarial(v, n, width, share + k / 3);
			/* the buf's cap is the limit */
			assert_true(round_trip(v, n, VECTOR_HOT, scratch) <= VECTOR_BYTES_MAX);
			assert_true(round_trip(v, n, VECTOR_COLD, scratch) <= VECTOR_BYTES_MAX);
			assert_true(round_trip(v, n, VECTOR_HOT, scratch) <= 8 * n + 64);
		}
	}
	vector_scratch_free(scratch);
}

/* The example of docs/format/vectors.md: what was written by any version stays readable. */
static void bytes_of_format_1_are_read(void **state)
{
	(void)state;
	struct vector_scratch *scratch = vector_scratch_new();
	struct reader r = reader_init(STR("\x02\xf6\xa1\xab\xfe\xf9\x62\xb0\xea\x01"));
	time_ms back[4];
	struct err e;
	assert_int_equal(time_vector_decode(&r, 4, back, scratch, &e), OK);
	assert_int_equal(reader_left(&r), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(back[i], INT64_C(1700000000123) + 15000 * i);
	vector_scratch_free(scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_length_comes_back),
		cmocka_unit_test(a_constant_step_is_small),
		cmocka_unit_test(damage_is_refused_or_garbage),
		cmocka_unit_test(a_full_buf_is_told),
		cmocka_unit_test(bytes_of_format_1_are_read),
		cmocka_unit_test(no_vector_is_longer_than_the_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
