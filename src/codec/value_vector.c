/*
 * Doubles as integers: v = d / 10^e where that division gives v again to the last bit, for one e
 * of the vector; or the bits of v in an order that follows the values'. What is neither (NaN,
 * infinities, -0, and the few that need more digits) is told apart, and its place in the integers
 * filled with the neighbour, which costs nothing.
 */
#include "codec/value_vector.h"

#include <math.h>

#include "base/checks.h"
#include "codec/vector_internal.h"

enum {
	FORM_EXPONENT_MAX = 22, /* 10^22 is the last exact one */
	FORM_BITS = 30,
	FORM_RAW = 31,
	FORM_MASK = 31,
	FORM_EXCEPTIONS = 32,
	SAMPLES = 16,
	EXCEPTION_RUN_MAX = 32, /* in its tag */
	EXCEPTION_BYTES_MAX = 14,
	RETRIES = 3,
};

#define BITS_STALE UINT64_C(0x7ff0000000000002)
#define BITS_EXPONENT UINT64_C(0x7ff0000000000000)

/* Kinds 1.. of exceptions; kind 0 has its bits told. The order is of the format. */
static const uint64_t exception_bits[] = {
	0,
	BITS_STALE,
	UINT64_C(0x7ff8000000000001), /* what Go calls NaN */
	UINT64_C(0x7ff8000000000000),
	BITS_EXPONENT, /* infinity */
	UINT64_C(0xfff0000000000000),
	UINT64_C(0x8000000000000000), /* -0 */
};

static const double powers[FORM_EXPONENT_MAX + 1] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,
						      1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
						      1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
						      1e18, 1e19, 1e20, 1e21, 1e22 };

/* Added and taken away again it rounds to an integer, which then is in the low bits. */
#define ROUNDER 0x1.8p52
#define DECIMAL_MAX 0x1p51

static inline uint64_t bits_of(double v)
{
	uint64_t bits;
	memcpy(&bits, &v, sizeof(bits));
	return bits;
}

static inline double of_bits(uint64_t bits)
{
	double v;
	memcpy(&v, &bits, sizeof(v));
	return v;
}

static inline bool is_special(uint64_t bits)
{
	return (bits & BITS_EXPONENT) == BITS_EXPONENT || bits == UINT64_C(1) << 63;
}

/* Bits to integers that order as the values do; its own inverse. */
static inline uint64_t ordered(uint64_t bits)
{
	return bits ^ (shift_signed(bits, 63) & (UINT64_MAX >> 1));
}

/* Integers of decimals, and which of them are not; how many. */
KERNEL size_t to_decimals(const double *values, size_t n, double power, uint64_t *integers,
			  uint8_t *is_exception)
{
	const uint64_t rounder = bits_of(ROUNDER);
	uint64_t count = 0;
	for (size_t i = 0; i < n; i++) {
		double shifted = values[i] * power + ROUNDER;
		double whole = shifted - ROUNDER;
		uint64_t differs = bits_of(whole / power) ^ bits_of(values[i]);
		/* the same test as !(fabs(whole) < DECIMAL_MAX), but in integers */
		uint64_t too_large = bits_of(fabs(whole)) >= bits_of(DECIMAL_MAX);
		uint64_t is = (differs != 0) | too_large;
		integers[i] = bits_of(shifted) - rounder;
		is_exception[i] = (uint8_t)is;
		count += is;
	}
	return count;
}

KERNEL_AVX2 static size_t to_decimals_avx2(const double *values, size_t n, double power,
					   uint64_t *integers, uint8_t *is_exception)
{
	return to_decimals(values, n, power, integers, is_exception);
}

/* Integers of any size to 2^63, of whole numbers. */
static size_t to_whole(const double *values, size_t n, uint64_t *integers, uint8_t *is_exception)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++) {
		bool fits = fabs(values[i]) < 0x1p63;
		int64_t whole = fits ? (int64_t)values[i] : 0;
		bool is = !fits || bits_of((double)whole) != bits_of(values[i]);
		integers[i] = (uint64_t)whole;
		is_exception[i] = is;
		count += is;
	}
	return count;
}

static size_t to_bits(const double *values, size_t n, uint64_t *integers, uint8_t *is_exception)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t bits = bits_of(values[i]);
		integers[i] = ordered(bits);
		is_exception[i] = is_special(bits);
		count += is_exception[i];
	}
	return count;
}

/* The least exponent from FROM on at which V is a decimal, or more than any. */
static unsigned exponent_of(double v, unsigned from)
{
	for (unsigned e = from; e <= FORM_EXPONENT_MAX; e++) {
		double whole = v * powers[e] + ROUNDER - ROUNDER;
		if (!(fabs(whole) < DECIMAL_MAX))
			break;
		if (bits_of(whole / powers[e]) == bits_of(v))
			return e;
	}
	return FORM_EXPONENT_MAX + 1;
}

/* The exponent that most of a sample needs; more than any when they are no decimals. */
static unsigned sample_exponent(const double *values, size_t n)
{
	size_t seen = 0, refused = 0, count = n < SAMPLES ? n : SAMPLES;
	unsigned exponent = 0;
	for (size_t i = 0; i < count; i++) {
		double v = values[i * n / count];
		if (is_special(bits_of(v)))
			continue;
		unsigned e = exponent_of(v, exponent);
		seen++;
		if (e > FORM_EXPONENT_MAX)
			refused++;
		else
			exponent = e;
	}
	return refused * 2 > seen ? FORM_EXPONENT_MAX + 1 : exponent;
}

static size_t specials_of(const double *values, size_t n)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++)
		count += is_special(bits_of(values[i]));
	return count;
}

/* The largest exponent that some of the exceptions need. */
static unsigned exception_exponent(const double *values, size_t n, unsigned exponent,
				   const uint8_t *is_exception)
{
	unsigned largest = exponent;
	for (size_t i = 0; i < n; i++) {
		if (!is_exception[i] || is_special(bits_of(values[i])))
			continue;
		unsigned e = exponent_of(values[i], largest);
		if (e <= FORM_EXPONENT_MAX)
			largest = e;
	}
	return largest;
}

/* Fills the integers and exceptions of the form that suits the values; *RET_COUNT exceptions. */
static unsigned choose_form(const double *values, size_t n, struct vector_scratch *scratch,
			    size_t *ret_count)
{
	uint64_t *integers = scratch->integers;
	uint8_t *is_exception = scratch->is_exception;
	unsigned exponent = sample_exponent(values, n);
	size_t bearable = n / 32 + 1;
	for (int i = 0; i < RETRIES && exponent <= FORM_EXPONENT_MAX; i++) {
		double power = powers[exponent];
		size_t count = HAS_AVX2()
				       ? to_decimals_avx2(values, n, power, integers, is_exception)
				       : to_decimals(values, n, power, integers, is_exception);
		*ret_count = count;
		if (count <= bearable || count - specials_of(values, n) <= bearable)
			return exponent;
		unsigned next = exception_exponent(values, n, exponent, is_exception);
		if (next == exponent)
			break;
		exponent = next;
	}
	size_t specials = specials_of(values, n);
	*ret_count = to_whole(values, n, integers, is_exception);
	if (*ret_count - specials <= bearable)
		return 0;
	*ret_count = to_bits(values, n, integers, is_exception);
	return FORM_BITS;
}

/* Where there is an exception, the integer before it, or at the front the first that is one. */
static void fill_exceptions(uint64_t *integers, const uint8_t *is_exception, size_t n)
{
	size_t first = 0;
	while (first < n && is_exception[first])
		first++;
	uint64_t last = first < n ? integers[first] : 0;
	for (size_t i = 0; i < n; i++) {
		integers[i] = is_exception[i] ? last : integers[i];
		last = integers[i];
	}
}

static unsigned exception_kind(uint64_t bits)
{
	unsigned kind = ARRAY_COUNT(exception_bits) - 1;
	while (kind && exception_bits[kind] != bits)
		kind--;
	return kind;
}

/*
 * Each run of equal exceptions: how far from the last, kind and length, then a long length, then
 * unknown bits. Stops, with the size that is too large, where no vector may be longer.
 */
static size_t put_exceptions(const double *values, size_t n, const uint8_t *is_exception,
			     size_t run_count, uint8_t *dst, size_t room)
{
	uint8_t *at = dst;
	size_t last = 0;
	at += varint_put(at, run_count);
	for (size_t i = 0; i < n;) {
		if (!is_exception[i]) {
			i++;
			continue;
		}
		if ((size_t)(at - dst) + EXCEPTION_BYTES_MAX + 2 > room)
			return room;
		uint64_t bits = bits_of(values[i]);
		size_t run = 1;
		while (i + run < n && is_exception[i + run] && bits_of(values[i + run]) == bits)
			run++;
		unsigned kind = exception_kind(bits);
		bool is_long = run >= EXCEPTION_RUN_MAX;
		at += varint_put(at, i - last);
		*at++ = (uint8_t)(kind | (is_long ? EXCEPTION_RUN_MAX - 1 : run - 1) << 3);
		if (is_long)
			at += varint_put(at, run);
		if (kind == 0) {
			store64(at, bits);
			at += sizeof(bits);
		}
		i += run;
		last = i;
	}
	return (size_t)(at - dst);
}

static size_t exception_runs(const double *values, size_t n, const uint8_t *is_exception)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++)
		count += is_exception[i] && (i == 0 || !is_exception[i - 1] ||
					     bits_of(values[i]) != bits_of(values[i - 1]));
	return count;
}

size_t value_vector_encode(const double *values, size_t n, enum vector_level level,
			   struct vector_scratch *scratch, struct buf *into)
{
	must(n >= 1 && n <= VECTOR_LEN_MAX);
	size_t count = 0, size = 1, raw_size = 1 + n * sizeof(*values);
	unsigned form = choose_form(values, n, scratch, &count);
	uint8_t *out = scratch->out;
	if (count)
		fill_exceptions(scratch->integers, scratch->is_exception, n);
	out[0] = (uint8_t)(form | (count ? FORM_EXCEPTIONS : 0));
	size += int_vector_encode(n, level, scratch, out + 1);
	if (count && size <= raw_size)
		size += put_exceptions(values, n, scratch->is_exception,
				       exception_runs(values, n, scratch->is_exception), out + size,
				       VECTOR_BYTES_MAX - size);
	if (size > raw_size) {
		out[0] = FORM_RAW;
		memcpy(out + 1, values, n * sizeof(*values));
		size = raw_size;
	}
	buf_add(into, (str){ (const char *)out, size });
	return into->overflow ? 0 : size;
}

static bool read_exceptions(struct reader *r, size_t n, double *values)
{
	uint64_t run_count = reader_varint(r);
	size_t at = 0;
	if (run_count > n)
		return false;
	for (uint64_t i = 0; i < run_count; i++) {
		uint64_t gap = reader_varint(r);
		unsigned tag = reader_u8(r), kind = tag & 7;
		uint64_t run = (tag >> 3) + 1;
		if (run == EXCEPTION_RUN_MAX)
			run = reader_varint(r);
		if (r->failed || kind >= ARRAY_COUNT(exception_bits) || gap > n - at ||
		    run > n - at - gap)
			return false;
		double v = of_bits(kind ? exception_bits[kind] : reader_u64(r));
		for (at += gap; run; run--)
			values[at++] = v;
	}
	return !r->failed;
}

KERNEL void of_decimals(const uint64_t *integers, size_t n, double power, double *values)
{
	const uint64_t rounder = bits_of(ROUNDER);
	for (size_t i = 0; i < n; i++)
		values[i] = (of_bits(integers[i] + rounder) - ROUNDER) / power;
}

KERNEL_AVX2 static void of_decimals_avx2(const uint64_t *integers, size_t n, double power,
					 double *values)
{
	of_decimals(integers, n, power, values);
}

static void of_whole(const uint64_t *integers, size_t n, double *values)
{
	for (size_t i = 0; i < n; i++)
		values[i] = (double)(int64_t)integers[i];
}

static void of_ordered(const uint64_t *integers, size_t n, double *values)
{
	for (size_t i = 0; i < n; i++)
		values[i] = of_bits(ordered(integers[i]));
}

static bool decode(struct reader *r, size_t n, double *values, struct vector_scratch *scratch)
{
	unsigned head = reader_u8(r), form = head & FORM_MASK;
	if (head == FORM_RAW) {
		const uint8_t *raw = reader_take(r, n * sizeof(*values));
		if (raw)
			memcpy(values, raw, n * sizeof(*values));
		return raw != NULL;
	}
	if (head > (FORM_MASK | FORM_EXCEPTIONS) || !int_vector_decode(r, n, scratch))
		return false;
	if (form == 0)
		of_whole(scratch->integers, n, values);
	else if (form == FORM_BITS)
		of_ordered(scratch->integers, n, values);
	else if (form > FORM_EXPONENT_MAX)
		return false;
	else if (HAS_AVX2())
		of_decimals_avx2(scratch->integers, n, powers[form], values);
	else
		of_decimals(scratch->integers, n, powers[form], values);
	return !(head & FORM_EXCEPTIONS) || read_exceptions(r, n, values);
}

errc value_vector_decode(struct reader *r, size_t n, double *values, struct vector_scratch *scratch,
			 struct err *e)
{
	must(n >= 1 && n <= VECTOR_LEN_MAX);
	if (!decode(r, n, values, scratch)) {
		reader_fail(r);
		FAIL(e, ERR_CORRUPT, "a vector of %zu values is damaged", n);
	}
	return OK;
}

KERNEL struct value_stats stats(const double *values, size_t n)
{
	double min = INFINITY, max = -INFINITY;
	uint64_t count = 0;
	for (size_t i = 0; i < n; i++) {
		double v = values[i];
		min = v < min ? v : min;
		max = v > max ? v : max;
		count += v == v;
	}
	if (!count)
		min = max = NAN;
	return (struct value_stats){ count, min, max, values[0], values[n - 1] };
}

KERNEL_AVX2 static struct value_stats stats_avx2(const double *values, size_t n)
{
	return stats(values, n);
}

struct value_stats value_stats_of(const double *values, size_t n)
{
	must(n >= 1);
	return HAS_AVX2() ? stats_avx2(values, n) : stats(values, n);
}
