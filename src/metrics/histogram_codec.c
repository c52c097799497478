#include "metrics/histogram_codec.h"

#include <math.h>
#include <string.h>

/*
 * version byte; zigzag schema; reset; zero threshold, sum (8 bytes each); count, zero count as
 * numbers; the custom boundaries; then each side: spans, and populations as differences.
 * A number is varint (2 * whole) where it is a whole one below 2^52, else varint 1 and 8 bytes.
 */
enum { HISTOGRAM_CODEC_VERSION = 1 };
#define WHOLE_MAX 4503599627370496.0

static uint64_t bits_of(double v)
{
	uint64_t bits;
	memcpy(&bits, &v, sizeof(bits));
	return bits;
}

static double of_bits(uint64_t bits)
{
	double v;
	memcpy(&v, &bits, sizeof(v));
	return v;
}

static bool is_whole(double v)
{
	return v >= 0 && v < WHOLE_MAX && bits_of((double)(uint64_t)v) == bits_of(v);
}

static void add_number(struct buf *b, double v)
{
	if (is_whole(v)) {
		buf_add_varint(b, (uint64_t)v << 1);
		return;
	}
	buf_add_varint(b, 1);
	buf_add_u64(b, bits_of(v));
}

static double read_number(struct reader *r)
{
	uint64_t v = reader_varint(r);
	return v & 1 ? of_bits(reader_u64(r)) : (double)(v >> 1);
}

static void add_side(struct buf *b, const struct histogram_side *side)
{
	bool whole = true;
	int64_t before = 0;
	buf_add_varint(b, side->span_count);
	for (uint32_t i = 0; i < side->span_count; i++) {
		buf_add_zigzag(b, side->spans[i].offset);
		buf_add_varint(b, side->spans[i].length);
	}
	for (uint32_t i = 0; i < side->bucket_count; i++)
		whole = whole && is_whole(side->buckets[i]);
	buf_add_varint(b, (uint64_t)side->bucket_count << 1 | whole);
	for (uint32_t i = 0; i < side->bucket_count; i++) {
		if (!whole) {
			buf_add_u64(b, bits_of(side->buckets[i]));
			continue;
		}
		buf_add_zigzag(b, (int64_t)side->buckets[i] - before);
		before = (int64_t)side->buckets[i];
	}
}

void histogram_encode(const struct histogram *h, struct buf *into)
{
	buf_add_byte(into, HISTOGRAM_CODEC_VERSION);
	buf_add_zigzag(into, h->schema);
	buf_add_byte(into, (char)h->reset);
	buf_add_u64(into, bits_of(h->zero_threshold));
	buf_add_u64(into, bits_of(h->sum));
	add_number(into, h->count);
	add_number(into, h->zero_count);
	buf_add_varint(into, h->custom_bound_count);
	for (uint32_t i = 0; i < h->custom_bound_count; i++)
		buf_add_u64(into, bits_of(h->custom_bounds[i]));
	add_side(into, &h->positive);
	add_side(into, &h->negative);
}

static double *read_doubles(struct reader *r, size_t count, struct arena *arena)
{
	double *values = NULL;
	if (count > HISTOGRAM_BUCKETS_MAX || count * 8 > reader_left(r))
		reader_fail(r);
	else if (count)
		values = arena_array(arena, count, sizeof(*values));
	for (size_t i = 0; values && i < count; i++)
		values[i] = of_bits(reader_u64(r));
	return values;
}

static double *read_deltas(struct reader *r, size_t count, struct arena *arena)
{
	double *values = NULL;
	uint64_t value = 0;
	if (count > HISTOGRAM_BUCKETS_MAX || count > reader_left(r))
		reader_fail(r);
	else if (count)
		values = arena_array(arena, count, sizeof(*values));
	for (size_t i = 0; values && i < count; i++) {
		value += (uint64_t)reader_zigzag(r);
		values[i] = (double)(int64_t)value;
	}
	return values;
}

static void read_side(struct reader *r, struct arena *arena, struct histogram_side *side)
{
	uint64_t span_count = reader_varint(r), buckets = 0;
	struct histogram_span *spans = NULL;
	if (span_count > HISTOGRAM_BUCKETS_MAX || span_count * 2 > reader_left(r))
		reader_fail(r);
	else if (span_count)
		spans = arena_array(arena, (size_t)span_count, sizeof(*spans));
	for (size_t i = 0; spans && i < span_count; i++) {
		spans[i].offset = (int32_t)reader_zigzag(r);
		spans[i].length = (uint32_t)reader_varint(r);
		buckets += spans[i].length;
	}
	uint64_t coded = reader_varint(r);
	if (coded >> 1 != buckets)
		reader_fail(r);
	side->buckets = coded & 1 ? read_deltas(r, (size_t)(coded >> 1), arena)
				  : read_doubles(r, (size_t)(coded >> 1), arena);
	side->spans = spans;
	side->span_count = spans ? (uint32_t)span_count : 0;
	side->bucket_count = side->buckets ? (uint32_t)(coded >> 1) : 0;
}

errc histogram_decode(str bytes, struct arena *arena, struct histogram **ret, struct err *e)
{
	struct reader r = reader_init(bytes);
	struct histogram *h = arena_alloc(arena, sizeof(*h));
	TRY(arena_check(arena, "reading histograms", e));
	if (reader_u8(&r) != HISTOGRAM_CODEC_VERSION)
		FAIL(e, ERR_CORRUPT, "a stored histogram is of an unknown version");
	h->schema = (int32_t)reader_zigzag(&r);
	h->reset = (enum histogram_reset)(reader_u8(&r) & 3);
	h->zero_threshold = of_bits(reader_u64(&r));
	h->sum = of_bits(reader_u64(&r));
	h->count = read_number(&r);
	h->zero_count = read_number(&r);
	uint64_t bound_count = reader_varint(&r);
	h->custom_bounds = read_doubles(&r, (size_t)bound_count, arena);
	h->custom_bound_count = h->custom_bounds ? (uint32_t)bound_count : 0;
	read_side(&r, arena, &h->positive);
	read_side(&r, arena, &h->negative);
	TRY(arena_check(arena, "reading histograms", e));
	if (r.failed || reader_left(&r))
		FAIL(e, ERR_CORRUPT, "a stored histogram is malformed");
	*ret = h;
	return OK;
}
