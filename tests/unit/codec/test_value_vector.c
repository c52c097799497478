#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/value_vector.h"

enum { SHAPES = 9 };

static uint64_t seed;

static uint64_t random_bits(void)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static double of_bits(uint64_t bits)
{
	double v;
	memcpy(&v, &bits, sizeof(v));
	return v;
}

static const uint64_t odd_bits[] = {
	UINT64_C(0x7ff0000000000002), /* stale */
	UINT64_C(0x7ff8000000000001),
	UINT64_C(0x7ff8000000000000),
	UINT64_C(0xfff8000000000000),
	UINT64_C(0x7ff0000000000001), /* a signalling NaN */
	UINT64_C(0xffffffffffffffff),
	UINT64_C(0x7ff0000000000000), /* infinities */
	UINT64_C(0xfff0000000000000),
	UINT64_C(0x8000000000000000), /* -0 */
	0,
	1, /* subnormals */
	UINT64_C(0x8000000000000001),
	UINT64_C(0x000fffffffffffff),
	UINT64_C(0x0010000000000000),
	UINT64_C(0x7fefffffffffffff), /* the largest */
	UINT64_C(0xffefffffffffffff),
	UINT64_C(0x43e0000000000000), /* 2^63, -2^63, 2^52, 2^51 */
	UINT64_C(0xc3e0000000000000),
	UINT64_C(0x4330000000000000),
	UINT64_C(0x4320000000000000),
};

/* What people measure, and what nobody does. */
static void fill(double *v, size_t n, unsigned shape)
{
	double last = (double)(random_bits() % 100000);
	for (size_t i = 0; i < n; i++) {
		uint64_t r = random_bits();
		switch (shape) {
		case 0:
			v[i] = last += (double)(r % 100);
			break;
		case 1:
			v[i] = (double)(int64_t)(r % 20001 - 10000) / 100;
			break;
		case 2:
			v[i] = of_bits(r);
			break;
		case 3:
			v[i] = of_bits(odd_bits[r % (sizeof(odd_bits) / sizeof(*odd_bits))]);
			break;
		case 4:
			v[i] = r % 8 ? (double)(r % 1000) / 10
				     : of_bits(odd_bits[r / 8 %
							(sizeof(odd_bits) / sizeof(*odd_bits))]);
			break;
		case 5:
			v[i] = 0.25;
			break;
		case 6:
			v[i] = (double)(int64_t)r;
			break;
		case 7:
			v[i] = last *= 1 + (double)(r % 100) * 1e-4;
			break;
		default:
			v[i] = (double)(r % 100 ? 4096 * (r % 5000) : r);
		}
	}
}

static size_t round_trip(const double *v, size_t n, enum vector_level level,
			 struct vector_scratch *scratch)
{
	double back[VECTOR_LEN_MAX];
	struct err e;
	struct buf b = buf_init(VECTOR_BYTES_MAX), again = buf_init(VECTOR_BYTES_MAX);
	size_t size = value_vector_encode(v, n, level, scratch, &b);
	assert_true(size > 0 && size <= 1 + 8 * n);
	assert_int_equal(size, b.len);
	/* the same again whatever the scratch has seen, and the read ends where the write did */
	struct vector_scratch *fresh = vector_scratch_new();
	assert_int_equal(value_vector_encode(v, n, level, fresh, &again), size);
	assert_memory_equal(b.ptr, again.ptr, size);
	vector_scratch_free(fresh);
	uint8_t *exact = malloc(size);
	memcpy(exact, b.ptr, size);
	struct reader r = reader_init((str){ (const char *)exact, size });
	assert_int_equal(value_vector_decode(&r, n, back, scratch, &e), OK);
	assert_int_equal(reader_left(&r), 0);
	assert_memory_equal(back, v, n * sizeof(*v));
	free(exact);
	buf_done(&b);
	buf_done(&again);
	return size;
}

static void every_length_comes_back(void **state)
{
	(void)state;
	struct vector_scratch *scratch = vector_scratch_new();
	double v[VECTOR_LEN_MAX];
	seed = 1;
	for (size_t n = 1; n <= VECTOR_LEN_MAX; n++) {
		unsigned shapes = n < 80 || n % 64 < 2 ? SHAPES : 1;
		for (unsigned s = 0; s < shapes; s++) {
			fill(v, n, shapes == 1 ? (unsigned)n % SHAPES : s);
			round_trip(v, n, VECTOR_HOT, scratch);
			round_trip(v, n, VECTOR_COLD, scratch);
		}
	}
	vector_scratch_free(scratch);
}

static void each_odd_value_comes_back(void **state)
{
	(void)state;
	struct vector_scratch *scratch = vector_scratch_new();
	for (size_t i = 0; i < sizeof(odd_bits) / sizeof(*odd_bits); i++) {
		double v[40];
		for (size_t n = 1; n <= 40; n += 13) {
			for (size_t j = 0; j < n; j++)
				v[j] = of_bits(odd_bits[i]);
			round_trip(v, n, VECTOR_HOT, scratch);
			round_trip(v, n, VECTOR_COLD, scratch);
			v[n / 2] = 1.5;
			round_trip(v, n, VECTOR_COLD, scratch);
		}
	}
	vector_scratch_free(scratch);
}

/* Decode a copy that ends where its allocation does, so that a sanitizer sees a step beyond. */
static errc decode_copy(const char *bytes, size_t size, size_t n, struct vector_scratch *scratch)
{
	double back[VECTOR_LEN_MAX];
	struct err e;
	char *copy = malloc(size ? size : 1);
	memcpy(copy, bytes, size);
	struct reader r = reader_init((str){ copy, size });
	errc rc = value_vector_decode(&r, n, back, scratch, &e);
	assert_true(rc == OK || (rc == ERR_CORRUPT && r.failed));
	free(copy);
	return rc;
}

static void damage_is_refused_or_garbage(void **state)
{
	(void)state;
	static const size_t lens[] = { 1, 3, 26, 100, 300 };
	struct vector_scratch *scratch = vector_scratch_new();
	double v[VECTOR_LEN_MAX];
	seed = 2;
	for (unsigned k = 0; k < SHAPES * 5 * 2; k++) {
		size_t n = lens[k / 2 % 5];
		struct buf b = buf_init(VECTOR_BYTES_MAX);
		fill(v, n, k / 10);
		assert_true(
			value_vector_encode(v, n, k % 2 ? VECTOR_COLD : VECTOR_HOT, scratch, &b));
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

static void random_bytes_are_refused_or_garbage(void **state)
{
	(void)state;
	struct vector_scratch *scratch = vector_scratch_new();
	char bytes[256];
	seed = 3;
	for (size_t k = 0; k < 40000; k++) {
		size_t size = random_bits() % sizeof(bytes);
		for (size_t i = 0; i < size; i++)
			bytes[i] = (char)random_bits();
		if (size > 1 && k % 2) { /* past the heads, into the coders */
			bytes[0] = (char)(random_bits() % 64);
			bytes[1] = (char)(random_bits() % 128);
		}
		decode_copy(bytes, size, 1 + random_bits() % VECTOR_LEN_MAX, scratch);
	}
	vector_scratch_free(scratch);
}

static void a_full_buf_is_told(void **state)
{
	(void)state;
	struct vector_scratch *scratch = vector_scratch_new();
	double v[100];
	seed = 4;
	fill(v, 100, 2);
	struct buf b = buf_init(50);
	assert_int_equal(value_vector_encode(v, 100, VECTOR_HOT, scratch, &b), 0);
	assert_true(b.overflow);
	buf_done(&b);
	vector_scratch_free(scratch);
}

static void stats_ignore_nan(void **state)
{
	(void)state;
	double v[] = { NAN, 3, -2, NAN, INFINITY, 7 };
	struct value_stats s = value_stats_of(v, 6);
	assert_int_equal(s.count, 4);
	assert_true(s.min == -2 && isinf(s.max) && isnan(s.first) && s.last == 7);
	s = value_stats_of(v, 1);
	assert_int_equal(s.count, 0);
	assert_true(isnan(s.min) && isnan(s.max));
}

/* What tempts an encoder to tell many values apart: SHARE of 100 take WIDTH bits, the rest none. */
static void fill_adversarial(double *out, size_t n, unsigned width, unsigned share)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t r = random_bits();
		uint64_t wide = r >> (64 - width) | UINT64_C(1) << (width - 1);
		uint64_t v = r % 100 < share ? wide : 0;
		v = r & 128 ? 0 - v : v;
		out[i] = width % 2 ? of_bits(v) : (double)(int64_t)v;
	}
}

static void no_vector_is_longer_than_the_limit(void **state)
{
	(void)state;
	static const size_t lens[] = { VECTOR_LEN_MAX, VECTOR_LEN_MAX - 1, 300 };
	struct vector_scratch *scratch = vector_scratch_new();
	double v[VECTOR_LEN_MAX];
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

/* The examples of docs/format/vectors.md: what was written by any version stays readable. */
static void bytes_of_format_1_are_read(void **state)
{
	(void)state;
	static const struct {
		size_t n;
		str bytes;
	} examples[] = {
		{ 6, { "\x21\x10\x18\x03\x2b\x2e\x01\x01\x05\x01", 10 } },
		{ 64,
		  { "\x00\x20\x0e\x03\x0b\x01\x66\x21\xc0\x2c\x04\x98\x85\x00\xb3\x10"
		    "\x60\x16\x02\xcc\x42\x80\x59\x08\x30\x0b\x01\x66\x01\x28\xfa\x01",
		    32 } },
		{ 64,
		  { "\x00\x33\x0a\x02\x04\x40\x0d\x4b\xf8\xfb\xa5\x9f\xc7\xfe\xd1\x0d"
		    "\x87\x8c\xd5\x71\x5a\x7c\x98\xce\xa3\x6f\x29\xe4\xe8\x65\x1f\x1d",
		    32 } },
	};
	struct vector_scratch *scratch = vector_scratch_new();
	double back[VECTOR_LEN_MAX], few[] = { 1.5, 1.7, 1.2, 1.9, 1.4, of_bits(odd_bits[0]) };
	double squares[64];
	struct err e;
	for (size_t i = 0; i < 64; i++)
		squares[i] = 5 + (double)(i * i % 7) + (i == 40 ? 1000 : 0);
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		struct reader r = reader_init(examples[i].bytes);
		size_t n = examples[i].n;
		assert_int_equal(value_vector_decode(&r, n, back, scratch, &e), OK);
		assert_int_equal(reader_left(&r), 0);
		assert_memory_equal(back, n == 6 ? few : squares, n * sizeof(double));
	}
	vector_scratch_free(scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_length_comes_back),
		cmocka_unit_test(each_odd_value_comes_back),
		cmocka_unit_test(damage_is_refused_or_garbage),
		cmocka_unit_test(random_bytes_are_refused_or_garbage),
		cmocka_unit_test(a_full_buf_is_told),
		cmocka_unit_test(no_vector_is_longer_than_the_limit),
		cmocka_unit_test(stats_ignore_nan),
		cmocka_unit_test(bytes_of_format_1_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
