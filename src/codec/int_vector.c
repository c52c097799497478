/*
 * Integers: a plan (predictor, coding, scale) chosen by the bits it takes, then the residuals.
 */
#include "base/checks.h"
#include "codec/vector_internal.h"

enum coding {
	CODING_EQUAL = 0,   /* all residuals are the base */
	CODING_PACKED = 1,  /* bits above the smallest */
	CODING_PATCHED = 2, /* zigzag about the centre, the high bits of few apart */
	CODING_TANS = 3,
};

enum {
	PLAN_CODING_SHIFT = 4,
	PLAN_SCALED = 0x40,
	PLAN_UNKNOWN = 0x80,
	PATCH_BITS = 20, /* that one takes, about */
	/* Below this tANS does not pay for its table. */
	TANS_LEN_MIN = 24,
	TANS_BITS = 96,   /* of its table, about */
	NARROW_BITS = 12, /* of residuals that are packed without more ado */
	WINDOW = 512,     /* of values on which moving averages are tried */
	LENGTHS = 65,     /* of a number, in bits */
	COUNTERS = 4,
};

/* One predictor tried. */
struct trial {
	enum predictor predictor;
	struct predict_start start;
	size_t count; /* of residuals */
	uint64_t center;
	struct bounds bounds;
	unsigned width, patched_width;
	size_t packed_bits, patched_bits, bits; /* the last is the least, with its header */
};

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t zigzag_bits(uint64_t v)
{
	return 8 * varint_size(zigzag((int64_t)v));
}

/* Neighbours are counted apart: equal ones would wait for each other. */
KERNEL void count_lengths(const uint64_t *residuals, size_t n, uint64_t center,
			  uint16_t h[COUNTERS][LENGTHS])
{
	size_t i = 0;
	for (; i + COUNTERS <= n; i += COUNTERS)
		for (size_t k = 0; k < COUNTERS; k++)
			h[k][bit_length(zigzag((int64_t)(residuals[i + k] - center)))]++;
	for (; i < n; i++)
		h[0][bit_length(zigzag((int64_t)(residuals[i] - center)))]++;
	for (size_t length = 0; length < LENGTHS; length++)
		for (size_t k = 1; k < COUNTERS; k++)
			h[0][length] = (uint16_t)(h[0][length] + h[k][length]);
}

KERNEL_AVX2 static void count_lengths_avx2(const uint64_t *residuals, size_t n, uint64_t center,
					   uint16_t h[COUNTERS][LENGTHS])
{
	count_lengths(residuals, n, center, h);
}

/* The width at which N residuals and their patches take fewest bits. */
static void weigh_patches(struct trial *t, const uint64_t *residuals)
{
	uint16_t counters[COUNTERS][LENGTHS] = { 0 }, *lengths = counters[0];
	if (HAS_AVX2())
		count_lengths_avx2(residuals, t->count, t->center, counters);
	else
		count_lengths(residuals, t->count, t->center, counters);
	size_t patches = 0, high_bits = 0;
	t->patched_bits = SIZE_MAX;
	for (unsigned width = 65; width-- > 0;) {
		size_t bits = t->count * width + patches * PATCH_BITS + high_bits;
		if (bits < t->patched_bits && width < 64) {
			t->patched_bits = bits;
			t->patched_width = width;
		}
		patches += lengths[width];
		high_bits += patches; /* each is one bit longer at the next width */
	}
}

/* What the plan tells of a start, in bits. */
static size_t start_bits(const struct trial *t)
{
	size_t bits = zigzag_bits(t->center);
	if (t->predictor != PREDICT_NONE)
		bits += zigzag_bits(t->start.first);
	return predict_has_slope(t->predictor) ? bits + zigzag_bits(t->start.slope) : bits;
}

static void weigh_packing(struct trial *t, const uint64_t *residuals)
{
	t->bounds = bounds_of(residuals, t->count);
	t->width = bit_length((uint64_t)t->bounds.max - (uint64_t)t->bounds.min);
	t->packed_bits = t->count * t->width;
	weigh_patches(t, residuals);
}

static void try_predictor(struct trial *t, enum predictor p, size_t n, const uint64_t *values,
			  bool is_tans, uint64_t *residuals)
{
	*t = (struct trial){ .predictor = p };
	t->count = predict_residuals(p, values, n, &t->start, residuals);
	t->center = median_about(residuals, t->count);
	if (is_tans) {
		t->bits = TANS_BITS + tans_bits_about(residuals, t->count, t->center);
	} else {
		weigh_packing(t, residuals);
		t->bits = least(t->packed_bits, t->patched_bits);
	}
	t->bits += start_bits(t);
}

static void try_better(struct trial *best, enum predictor p, size_t n, const uint64_t *values,
		       bool is_tans, uint64_t *residuals)
{
	struct trial t;
	try_predictor(&t, p, n, values, is_tans, residuals);
	if (t.bits < best->bits)
		*best = t;
}

/*
 * The moving averages, tried on a part of the values. They cost time to decode: they must save
 * something.
 */
static enum predictor choose_average(const struct trial *best, size_t n, const uint64_t *values,
				     uint64_t *residuals)
{
	size_t part = n < WINDOW ? n : WINDOW;
	const uint64_t *from = values + (n - part) / 2;
	struct trial average;
	try_predictor(&average, best->predictor, part, from, true, residuals);
	size_t table_bits = TANS_BITS + start_bits(&average);
	average.bits -= (average.bits - table_bits) / 50;
	for (unsigned weight = 1; weight < 5; weight++) {
		if (best->predictor != PREDICT_DELTA2)
			try_better(&average, PREDICT_LEVEL + weight, part, from, true, residuals);
		if (best->predictor != PREDICT_NONE)
			try_better(&average, PREDICT_DRIFT + weight, part, from, true, residuals);
	}
	return average.predictor;
}

/* The predictor with the narrowest residuals, when they are so narrow that patches save little:
 * most vectors, at a fraction of what weighing all of them takes. */
static bool choose_narrow(size_t n, const uint64_t *values, uint64_t *residuals,
			  enum predictor *ret_best)
{
	unsigned least_width = 65;
	for (enum predictor p = PREDICT_NONE; p <= PREDICT_DELTA2; p++) {
		struct predict_start start;
		size_t count = predict_residuals(p, values, n, &start, residuals);
		struct bounds b = bounds_of(residuals, count);
		unsigned width = bit_length((uint64_t)b.max - (uint64_t)b.min);
		if (width < least_width) {
			least_width = width;
			*ret_best = p;
		}
	}
	return least_width <= NARROW_BITS;
}

static struct trial choose(size_t n, const uint64_t *values, enum vector_level level,
			   uint64_t *residuals)
{
	struct trial best;
	bool is_tans = level == VECTOR_COLD && n >= TANS_LEN_MIN + 2;
	enum predictor narrow;
	if (level == VECTOR_HOT && n >= 3 && choose_narrow(n, values, residuals, &narrow)) {
		try_predictor(&best, narrow, n, values, false, residuals);
		return best;
	}
	try_predictor(&best, PREDICT_NONE, n, values, is_tans, residuals);
	if (n < 3)
		return best;
	for (enum predictor p = PREDICT_LINE; p <= PREDICT_DELTA2; p++)
		try_better(&best, p, n, values, is_tans, residuals);
	if (is_tans && best.predictor != PREDICT_LINE)
		best.predictor = choose_average(&best, n, values, residuals);
	return best;
}

/* Writes at `at`; nothing here checks room: the caller has for the longest. */
static uint8_t *put(uint8_t *at, uint64_t v)
{
	return at + varint_put(at, v);
}

static uint8_t *put_signed(uint8_t *at, uint64_t v)
{
	return put(at, zigzag((int64_t)v));
}

static uint8_t *put_patched(uint8_t *at, const struct trial *t, const uint64_t *residuals,
			    uint64_t *low)
{
	unsigned width = t->patched_width;
	size_t patches = 0, last = 0;
	for (size_t i = 0; i < t->count; i++) {
		uint64_t v = zigzag((int64_t)(residuals[i] - t->center));
		patches += v >> width != 0;
		low[i] = v & low_bits(width);
	}
	at = put_signed(at, t->center);
	*at++ = (uint8_t)width;
	at += bit_pack(low, t->count, 0, width, at);
	at = put(at, patches);
	for (size_t i = 0; i < t->count; i++) {
		uint64_t high = zigzag((int64_t)(residuals[i] - t->center)) >> width;
		if (!high)
			continue;
		at = put(put(at, i - last), high);
		last = i;
	}
	return at;
}

/* Patches estimated to save something may, of a few values, take more. */
static size_t patched_size_max(const struct trial *t)
{
	return (t->patched_bits + 7) / 8 + VARINT_BYTES_MAX + 4;
}

static uint8_t *put_plan(uint8_t *at, const struct trial *t, enum coding coding, uint64_t scale,
			 uint64_t origin)
{
	*at++ = (uint8_t)(t->predictor | (unsigned)coding << PLAN_CODING_SHIFT |
			  (scale > 1 ? PLAN_SCALED : 0));
	if (scale > 1)
		at = put_signed(put(at, scale), origin);
	else if (t->predictor != PREDICT_NONE)
		at = put_signed(at, t->start.first);
	return predict_has_slope(t->predictor) ? put_signed(at, t->start.slope) : at;
}

static size_t encode_best(const struct trial *t, enum vector_level level, uint64_t scale,
			  uint64_t origin, struct vector_scratch *scratch, uint8_t *dst)
{
	const uint64_t *residuals = scratch->residuals;
	uint64_t min = (uint64_t)t->bounds.min;
	if (t->width == 0)
		return (size_t)(put_signed(put_plan(dst, t, CODING_EQUAL, scale, origin), min) -
				dst);
	size_t packed = varint_size(zigzag(t->bounds.min)) + 1 + bit_pack_size(t->count, t->width);
	size_t smallest = least(packed, patched_size_max(t));
	if (level == VECTOR_COLD && t->count >= TANS_LEN_MIN) {
		size_t size = tans_encode(residuals, t->count, t->center, scratch);
		size_t centered = size + varint_size(zigzag((int64_t)t->center));
		if (centered + centered / 64 < smallest) {
			uint8_t *at = put_plan(dst, t, CODING_TANS, scale, origin);
			at = put_signed(at, t->center);
			memcpy(at, scratch->coded, size);
			return (size_t)(at + size - dst);
		}
	}
	if (smallest < packed) {
		uint8_t *from = put_plan(dst, t, CODING_PATCHED, scale, origin);
		uint8_t *end = put_patched(from, t, residuals, scratch->trial);
		/* the size was an estimate: never more than packing takes */
		if ((size_t)(end - from) <= packed)
			return (size_t)(end - dst);
	}
	uint8_t *at = put_signed(put_plan(dst, t, CODING_PACKED, scale, origin), min);
	*at++ = (uint8_t)t->width;
	at += bit_pack(residuals, t->count, min, t->width, at);
	return (size_t)(at - dst);
}

static uint64_t greatest_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

/* What all distances from the first have in common; 1 when that is nothing. */
static uint64_t scale_of(const uint64_t *values, size_t n)
{
	uint64_t scale = 0;
	for (size_t i = 1; i < n && scale != 1; i++) {
		int64_t d = (int64_t)(values[i] - values[0]);
		uint64_t distance = d < 0 ? 0 - (uint64_t)d : (uint64_t)d;
		if (scale == 0 || distance % scale)
			scale = greatest_divisor(distance, scale);
	}
	/* 2^63 would be negative */
	return scale < 2 || scale >> 63 ? 1 : scale;
}

static void unscale(const uint64_t *values, size_t n, uint64_t scale, uint64_t *scaled)
{
	bool is_power = (scale & (scale - 1)) == 0;
	unsigned shift = bit_length(scale) - 1;
	for (size_t i = 0; i < n; i++) {
		uint64_t d = values[i] - values[0];
		scaled[i] = is_power ? shift_signed(d, shift)
				     : (uint64_t)((int64_t)d / (int64_t)scale);
	}
}

static bool is_constant_step(const uint64_t *values, size_t n)
{
	for (size_t i = 2; i < n; i++)
		if (values[i] - values[i - 1] != values[1] - values[0])
			return false;
	return true;
}

size_t int_vector_encode(size_t n, enum vector_level level, struct vector_scratch *scratch,
			 uint8_t *dst)
{
	const uint64_t *values = scratch->integers;
	uint64_t scale = 1, origin = values[0];
	struct trial best;
	if (n >= 2 && is_constant_step(values, n)) {
		enum predictor p = values[0] == values[1] ? PREDICT_NONE : PREDICT_DELTA;
		try_predictor(&best, p, n, values, false, scratch->residuals);
		return encode_best(&best, VECTOR_HOT, 1, 0, scratch, dst);
	}
	scale = scale_of(values, n);
	if (scale > 1 && (n - 1) * (bit_length(scale) - 1) < 8 * varint_size(scale) + 16)
		scale = 1;
	if (scale > 1) {
		unscale(values, n, scale, scratch->scaled);
		values = scratch->scaled;
	}
	best = choose(n, values, level, scratch->trial);
	best.count = predict_residuals(best.predictor, values, n, &best.start, scratch->residuals);
	if (!best.patched_bits) {
		/* a trial of tANS does not weigh packing, and one of an average saw a part only */
		best.center = median_about(scratch->residuals, best.count);
		weigh_packing(&best, scratch->residuals);
	}
	return encode_best(&best, level, scale, origin, scratch, dst);
}

static bool unpatch(struct reader *r, size_t n, uint64_t center, uint64_t *residuals)
{
	unsigned width = reader_u8(r);
	if (width >= 64 || !bit_unpack(r, residuals, n, 0, width))
		return false;
	uint64_t patches = reader_varint(r);
	if (patches > n)
		return false;
	size_t at = 0;
	for (size_t i = 0; i < patches; i++) {
		uint64_t gap = reader_varint(r), high = reader_varint(r);
		if (gap >= n - at)
			return false;
		at += gap;
		residuals[at] |= high << width;
	}
	for (size_t i = 0; i < n; i++)
		residuals[i] = (uint64_t)unzigzag(residuals[i]) + center;
	return true;
}

static bool decode_residuals(struct reader *r, enum coding coding, size_t n,
			     struct vector_scratch *scratch)
{
	uint64_t *residuals = scratch->residuals;
	uint64_t base = (uint64_t)reader_zigzag(r);
	switch (coding) {
	case CODING_EQUAL:
		for (size_t i = 0; i < n; i++)
			residuals[i] = base;
		return true;
	case CODING_PACKED:
		return bit_unpack(r, residuals, n, base, reader_u8(r));
	case CODING_PATCHED:
		return unpatch(r, n, base, residuals);
	case CODING_TANS:
		return n > 0 && tans_decode(r, base, n, residuals, scratch);
	}
	return false;
}

bool int_vector_decode(struct reader *r, size_t n, struct vector_scratch *scratch)
{
	uint64_t *values = scratch->integers;
	unsigned plan = reader_u8(r);
	enum predictor p = plan % PREDICTORS;
	enum coding coding = plan >> PLAN_CODING_SHIFT & 3;
	struct predict_start start = { 0 };
	uint64_t scale = 1, origin = 0;
	if (plan & PLAN_UNKNOWN || n < predict_skipped(p) || (p != PREDICT_NONE && n < 2))
		return false;
	if (plan & PLAN_SCALED) {
		scale = reader_varint(r);
		origin = (uint64_t)reader_zigzag(r);
	} else if (p != PREDICT_NONE) {
		start.first = (uint64_t)reader_zigzag(r);
	}
	if (predict_has_slope(p))
		start.slope = (uint64_t)reader_zigzag(r);
	if (!decode_residuals(r, coding, n - predict_skipped(p), scratch) || r->failed)
		return false;
	predict_restore(p, &start, scratch->residuals, n, values);
	if (plan & PLAN_SCALED)
		for (size_t i = 0; i < n; i++)
			values[i] = values[i] * scale + origin;
	return true;
}
