/*
 * Residuals as bins and offsets: which bin, by tANS; where in it, as plain bits. The bins are cut
 * about a centre, eight of width 2^shift on each side and then one for each power of two, so that
 * within each the values are about equally likely. How likely each bin is, is told in steps of
 * half a power of two: as good as exact, and a few bits each.
 */
#include "base/checks.h"
#include "codec/vector_internal.h"

enum {
	STATES = 4,      /* take turns, so that one need not wait for the other's bits */
	WEIGHT_MAX = 21, /* 2^((21 - 1) / 2) = VECTOR_LEN_MAX */
	WEIGHT_BITS = 5,
	STEPS_UNARY = 3,
	SHIFT_CHOICES = 3,
	FINE = BINS_LINEAR << (SHIFT_CHOICES - 1),
	FINE_HALF = FINE + 64,
	/* A table, and what the values take at most. */
	TABLE_BYTES_MAX = 512,
	VALUE_BITS_MAX = 64 + TANS_LOG_MAX,
	STEP_BITS_MAX = 57, /* in one load at any bit */
};

struct bits {
	uint8_t *at;
	uint64_t word;
	unsigned fill;
};

static inline void bits_flush(struct bits *b)
{
	store64(b->at, b->word);
	b->at += b->fill / 8;
	b->word = b->fill < 64 ? b->word >> b->fill / 8 * 8 : 0;
	b->fill %= 8;
}

/* COUNT is at most 56. */
static inline void bits_add(struct bits *b, uint64_t v, unsigned count)
{
	b->word |= v << b->fill;
	b->fill += count;
	bits_flush(b);
}

static void bits_add_long(struct bits *b, uint64_t v, unsigned count)
{
	unsigned low = count < 32 ? count : 32;
	bits_add(b, v & low_bits(low), low);
	bits_add(b, count > 32 ? v >> 32 : 0, count - low);
}

/* At a bit of bytes that have enough behind them. */
struct cursor {
	const uint8_t *src;
	size_t bit;
};

/* COUNT is at most 57. */
static inline uint64_t cursor_get(struct cursor *c, unsigned count)
{
	uint64_t v = load64(c->src + c->bit / 8) >> c->bit % 8 & low_bits(count);
	c->bit += count;
	return v;
}

static uint64_t cursor_get_long(struct cursor *c, unsigned count)
{
	unsigned low = count < 32 ? count : 32;
	uint64_t v = cursor_get(c, low);
	return count > low ? v | cursor_get(c, count - low) << 32 : v;
}

/* What the table says: how often each bin comes, of 2^log. */
struct model {
	unsigned log, shift;
	size_t first, count; /* the bins told about */
	uint8_t weights[BINS];
	uint16_t frequencies[BINS];
};

static unsigned log_of(size_t n)
{
	return n > 256 ? TANS_LOG_MAX : TANS_LOG_MAX - 1;
}

unsigned log2_256(uint64_t v)
{
	unsigned whole = bit_length(v) - 1;
	uint64_t part = whole >= 16 ? v >> (whole - 16) : v << (16 - whole);
	unsigned result = whole;
	for (int i = 0; i < 8; i++) {
		part = part * part >> 16;
		result = result << 1 | (unsigned)(part >> 17);
		part >>= part >> 17;
	}
	return result;
}

/* COUNT values come in histogram H: what it takes to tell them apart, in 1/256 bits. */
static size_t entropy_256(const uint16_t *h, size_t len, size_t count)
{
	size_t sum = count * log2_256(count);
	for (size_t i = 0; i < len; i++)
		if (h[i] > 1)
			sum -= h[i] * (size_t)log2_256(h[i]);
	return sum;
}

static inline uint64_t magnitude(uint64_t d)
{
	return d ^ shift_signed(d, 63);
}

/* How many values have each length, on either side of the centre; the sum of the lengths. */
KERNEL size_t count_lengths(const uint64_t *residuals, size_t n, uint64_t center, uint16_t h[2][65])
{
	size_t sum = 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t d = residuals[i] - center;
		unsigned length = bit_length(magnitude(d));
		h[d >> 63][length]++;
		sum += length;
	}
	return sum;
}

KERNEL_AVX2 static size_t count_lengths_avx2(const uint64_t *residuals, size_t n, uint64_t center,
					     uint16_t h[2][65])
{
	return count_lengths(residuals, n, center, h);
}

size_t tans_bits_about(const uint64_t *residuals, size_t n, uint64_t center)
{
	uint16_t h[2][65] = { 0 };
	size_t sum = HAS_AVX2() ? count_lengths_avx2(residuals, n, center, h)
				: count_lengths(residuals, n, center, h);
	/* the leading bit of an offset is known */
	size_t offset_bits = sum - (n - h[0][0] - h[1][0]);
	return (entropy_256(h[0], sizeof(h) / sizeof(h[0][0]), n) >> 8) + offset_bits;
}

/* Which of its half's bins a magnitude shifted by `shift` is in. */
static inline unsigned half_bin(uint64_t m)
{
	return m < BINS_LINEAR ? (unsigned)m : bit_length(m) + BINS_LINEAR - BINS_LINEAR_LOG - 1;
}

/* Bits of an offset in such a bin. */
static inline unsigned half_bin_bits(unsigned bin, unsigned shift)
{
	return bin < BINS_LINEAR ? shift : bin - BINS_LINEAR + BINS_LINEAR_LOG + shift;
}

static inline size_t bin_of(uint64_t d, unsigned shift)
{
	unsigned half = half_bin(magnitude(d) >> shift);
	return d >> 63 ? BINS_HALF - 1 - half : BINS_HALF + half;
}

static inline unsigned bin_half(size_t bin)
{
	return (unsigned)(bin < BINS_HALF ? BINS_HALF - 1 - bin : bin - BINS_HALF);
}

/* The smallest value of a bin, less the centre. */
static uint64_t bin_lower(size_t bin, unsigned shift)
{
	unsigned half = bin_half(bin);
	uint64_t low = half < BINS_LINEAR ? half
					  : UINT64_C(1) << (half - BINS_LINEAR + BINS_LINEAR_LOG);
	low <<= shift;
	return bin < BINS_HALF ? ~(low | low_bits(half_bin_bits(half, shift))) : low;
}

/* Bits that bins of width 2^(FINEST + MORE) would take, from the fine histogram. */
static size_t choice_bits(uint16_t fine[2][FINE_HALF], size_t n, unsigned finest, unsigned more)
{
	uint16_t h[2][BINS_HALF] = { 0 };
	size_t bits = 0, present = 0;
	for (size_t side = 0; side < 2; side++) {
		for (unsigned i = 0; i < FINE_HALF; i++) {
			if (!fine[side][i])
				continue;
			uint64_t m = i < FINE ? i : UINT64_C(1) << (i - FINE);
			unsigned half = half_bin(m >> more);
			present += h[side][half] == 0;
			h[side][half] = (uint16_t)(h[side][half] + fine[side][i]);
			bits += (size_t)fine[side][i] * half_bin_bits(half, finest + more);
		}
	}
	return bits + (entropy_256(h[0], 2 * (size_t)BINS_HALF, n) >> 8) + 3 * present;
}

KERNEL void count_fine(const uint64_t *residuals, size_t n, uint64_t center, unsigned finest,
		       uint16_t fine[2][FINE_HALF])
{
	for (size_t i = 0; i < n; i++) {
		uint64_t d = residuals[i] - center, m = magnitude(d) >> finest;
		unsigned at = m < FINE ? (unsigned)m : FINE + bit_length(m) - 1;
		fine[d >> 63][at]++;
	}
}

KERNEL_AVX2 static void count_fine_avx2(const uint64_t *residuals, size_t n, uint64_t center,
					unsigned finest, uint16_t fine[2][FINE_HALF])
{
	count_fine(residuals, n, center, finest, fine);
}

/* The width that takes fewest bits; it is near the typical distance from the centre. */
static unsigned choose_shift(const uint64_t *residuals, size_t n, uint64_t center)
{
	uint16_t lengths[2][65] = { 0 };
	if (HAS_AVX2())
		count_lengths_avx2(residuals, n, center, lengths);
	else
		count_lengths(residuals, n, center, lengths);
	unsigned median = 0;
	for (size_t below = 0; median < 64; median++) {
		below += (size_t)lengths[0][median] + lengths[1][median];
		if (below * 2 >= n)
			break;
	}
	unsigned finest = median > BINS_LINEAR_LOG ? median - BINS_LINEAR_LOG : 0;
	uint16_t fine[2][FINE_HALF] = { 0 };
	if (HAS_AVX2())
		count_fine_avx2(residuals, n, center, finest, fine);
	else
		count_fine(residuals, n, center, finest, fine);
	unsigned best = 0;
	size_t best_bits = SIZE_MAX;
	for (unsigned more = 0; more < SHIFT_CHOICES; more++) {
		size_t bits = choice_bits(fine, n, finest, more);
		if (bits < best_bits) {
			best_bits = bits;
			best = more;
		}
	}
	return finest + best;
}

/* Frequencies from weights: 2^(weight/2) each, at least 1, 2^log together. */
static void scale_weights(struct model *m)
{
	uint64_t sum = 0;
	uint32_t shares[BINS];
	for (size_t i = 0; i < m->count; i++) {
		unsigned w = m->weights[i];
		shares[i] = w ? ((w - 1) % 2 ? 23170U : 16384U) << (w - 1) / 2 : 0;
		sum += shares[i];
	}
	uint32_t size = 1U << m->log, total = 0;
	size_t largest = 0;
	for (size_t i = 0; i < m->count; i++) {
		uint64_t f = (shares[i] * (uint64_t)size + sum / 2) / sum;
		m->frequencies[i] = (uint16_t)(shares[i] && !f ? 1 : f);
		total += m->frequencies[i];
		if (m->frequencies[i] > m->frequencies[largest])
			largest = i;
	}
	if (total <= size) {
		m->frequencies[largest] = (uint16_t)(m->frequencies[largest] + size - total);
		return;
	}
	for (uint32_t over = total - size; over; over--) {
		m->frequencies[largest]--;
		for (size_t i = 0; i < m->count; i++)
			if (m->frequencies[i] > m->frequencies[largest])
				largest = i;
	}
}

/* A positive number in Elias's gamma code, its zeros as ones. */
static void gamma_add(struct bits *b, unsigned v)
{
	unsigned more = bit_length(v) - 1;
	bits_add(b, low_bits(more), more + 1);
	bits_add(b, v & low_bits(more), more);
}

static bool gamma_get(struct cursor *c, size_t *ret_v)
{
	unsigned more = 0;
	while (cursor_get(c, 1))
		if (++more > 7)
			return false;
	*ret_v = (size_t)1 << more | cursor_get(c, more);
	return true;
}

/*
 * Each weight as its step from the one before: 0; 10 and a sign for one up or down; 110 for two.
 * 1110 and the weight itself; 1111 and how many bins are not there.
 */
static void model_write(const struct model *m, struct bits *b)
{
	unsigned last = m->weights[0];
	bits_add(b, m->shift, 6);
	bits_add(b, m->first, 8);
	bits_add(b, m->count - 1, 8);
	bits_add(b, last, WEIGHT_BITS);
	for (size_t i = 1; i < m->count; i++) {
		unsigned w = m->weights[i];
		if (!w) {
			unsigned run = 1;
			while (!m->weights[i + run])
				run++;
			bits_add(b, 15, 4);
			gamma_add(b, run);
			i += run - 1;
			continue;
		}
		unsigned step = w > last ? w - last : last - w;
		if (step < STEPS_UNARY) {
			bits_add(b, low_bits(step), step + 1);
			bits_add(b, w > last, step != 0);
		} else {
			bits_add(b, 7, 4);
			bits_add(b, w, WEIGHT_BITS);
		}
		last = w;
	}
}

static bool weights_read(struct model *m, struct cursor *c)
{
	unsigned last = m->weights[0] = (uint8_t)cursor_get(c, WEIGHT_BITS);
	for (size_t i = 1; i < m->count;) {
		if (last < 1 || last > WEIGHT_MAX)
			return false;
		unsigned ones = 0;
		while (ones < 4 && cursor_get(c, 1))
			ones++;
		if (ones == 4) {
			size_t run;
			/* the last bin told about is there */
			if (!gamma_get(c, &run) || run >= m->count - i)
				return false;
			memset(m->weights + i, 0, run);
			i += run;
			continue;
		}
		if (ones == 3)
			last = (unsigned)cursor_get(c, WEIGHT_BITS);
		else if (ones)
			last = cursor_get(c, 1) ? last + ones : last - ones;
		m->weights[i++] = (uint8_t)last;
	}
	return last >= 1 && last <= WEIGHT_MAX;
}

static bool model_read(struct model *m, size_t n, struct cursor *c)
{
	m->log = log_of(n);
	m->shift = (unsigned)cursor_get(c, 6);
	m->first = cursor_get(c, 8);
	m->count = cursor_get(c, 8) + 1;
	if (m->first + m->count > BINS || !weights_read(m, c))
		return false;
	/* the outermost bins tell of all: none may be wider than the numbers */
	unsigned low = half_bin_bits(bin_half(m->first), m->shift);
	unsigned high = half_bin_bits(bin_half(m->first + m->count - 1), m->shift);
	if (low > 63 || high > 63)
		return false;
	scale_weights(m);
	return true;
}

KERNEL void count_bins(const uint64_t *residuals, size_t n, uint64_t center, unsigned shift,
		       uint8_t *bins, uint16_t *h)
{
	for (size_t i = 0; i < n; i++) {
		size_t bin = bin_of(residuals[i] - center, shift);
		bins[i] = (uint8_t)bin;
		h[bin]++;
	}
}

KERNEL_AVX2 static void count_bins_avx2(const uint64_t *residuals, size_t n, uint64_t center,
					unsigned shift, uint8_t *bins, uint16_t *h)
{
	count_bins(residuals, n, center, shift, bins, h);
}

/* The bins of the values, and the model that fits them. */
static void model_make(struct model *m, const uint64_t *residuals, size_t n, uint64_t center,
		       uint8_t *bins)
{
	uint16_t h[BINS] = { 0 };
	m->log = log_of(n);
	m->shift = choose_shift(residuals, n, center);
	if (HAS_AVX2())
		count_bins_avx2(residuals, n, center, m->shift, bins, h);
	else
		count_bins(residuals, n, center, m->shift, bins, h);
	size_t last = BINS - 1;
	while (!h[last])
		last--;
	for (m->first = 0; !h[m->first];)
		m->first++;
	m->count = last - m->first + 1;
	for (size_t i = 0; i < m->count; i++) {
		unsigned count = h[m->first + i];
		m->weights[i] = count ? (uint8_t)((2 * log2_256(count) + 128) / 256 + 1) : 0;
	}
	scale_weights(m);
}

/* Calls for each state, in the order of the table, the bin that it stands for: FSE's spread. */
#define FOR_SPREAD(m, bin, state)                                                           \
	for (size_t size_ = (size_t)1 << (m)->log, step_ = (size_ >> 1) + (size_ >> 3) + 3, \
		    state = 0, bin = 0;                                                     \
	     bin < (m)->count; bin++)                                                       \
		for (size_t i_ = 0; i_ < (m)->frequencies[bin];                             \
		     i_++, state = (state + step_) & (size_ - 1))

struct tans_encoder {
	unsigned log;
	uint16_t starts[BINS];
	uint16_t frequencies[BINS];
	const uint16_t *states;
};

static void encoder_make(struct tans_encoder *t, const struct model *m, uint16_t *states)
{
	uint8_t spread[TANS_SIZE_MAX];
	uint16_t at[BINS];
	size_t start = 0, size = (size_t)1 << m->log;
	FOR_SPREAD(m, bin, state)
	spread[state] = (uint8_t)bin;
	t->log = m->log;
	t->states = states;
	memset(t->frequencies, 0, sizeof(t->frequencies));
	for (size_t i = 0; i < m->count; i++) {
		t->starts[m->first + i] = at[i] = (uint16_t)start;
		t->frequencies[m->first + i] = m->frequencies[i];
		start += m->frequencies[i];
	}
	for (size_t state = 0; state < size; state++)
		states[at[spread[state]]++] = (uint16_t)(size + state);
}

/* Values from the last to the first; the bits of each go where the decoder wants them. */
static void encode_states(const struct tans_encoder *t, size_t n, struct vector_scratch *scratch,
			  unsigned states[STATES])
{
	for (size_t i = n; i-- > 0;) {
		size_t bin = scratch->bins[i];
		unsigned f = t->frequencies[bin], bits = 0, *state = &states[i % STATES];
		unsigned slot = 0;
		scratch->state_values[i] = 0;
		if (i + STATES < n) {
			bits = t->log + 1 - bit_length(f);
			if (*state >> bits < f)
				bits--;
			scratch->state_values[i] = (uint16_t)(*state & low_bits(bits));
			slot = (*state >> bits) - f;
		}
		scratch->state_bits[i] = (uint8_t)bits;
		*state = t->states[t->starts[bin] + slot];
	}
}

size_t tans_encode(const uint64_t *residuals, size_t n, uint64_t center,
		   struct vector_scratch *scratch)
{
	struct model m;
	struct tans_encoder t;
	struct bits b = { .at = scratch->coded };
	unsigned states[STATES] = { 0 };
	model_make(&m, residuals, n, center, scratch->bins);
	encoder_make(&t, &m, scratch->encode_states);
	encode_states(&t, n, scratch, states);
	model_write(&m, &b);
	uint64_t lowers[BINS];
	uint8_t offset_bits[BINS];
	for (size_t i = m.first; i < m.first + m.count; i++) {
		lowers[i] = bin_lower(i, m.shift) + center;
		offset_bits[i] = (uint8_t)half_bin_bits(bin_half(i), m.shift);
	}
	for (size_t i = 0; i < STATES && i < n; i++)
		bits_add(&b, states[i] - (1U << m.log), m.log);
	for (size_t i = 0; i < n; i++) {
		size_t bin = scratch->bins[i];
		bits_add_long(&b, residuals[i] - lowers[bin], offset_bits[bin]);
		bits_add(&b, scratch->state_values[i], scratch->state_bits[i]);
	}
	return (size_t)(b.at - scratch->coded) + (b.fill != 0);
}

/* Fills the decoder's table; the most bits that a value may take. */
static unsigned steps_make(struct tans_step *steps, const struct model *m, uint64_t center)
{
	struct tans_step of[BINS];
	uint16_t at[BINS];
	uint8_t spread[TANS_SIZE_MAX];
	size_t size = (size_t)1 << m->log;
	unsigned most = 0;
	for (size_t i = 0; i < m->count; i++) {
		if (!m->frequencies[i])
			continue;
		unsigned bits = half_bin_bits(bin_half(m->first + i), m->shift);
		of[i].lower = bin_lower(m->first + i, m->shift) + center;
		of[i].offset_bits = (uint8_t)bits;
		at[i] = m->frequencies[i];
		most = bits > most ? bits : most;
	}
	FOR_SPREAD(m, bin, state)
	spread[state] = (uint8_t)bin;
	for (size_t state = 0; state < size; state++) {
		size_t bin = spread[state];
		unsigned x = at[bin]++;
		unsigned bits = m->log + 1 - bit_length(x);
		steps[state] = of[bin];
		steps[state].state_bits = (uint8_t)bits;
		steps[state].next = (uint16_t)((x << bits) - size);
	}
	return most + m->log;
}

KERNEL void decode_fast(struct cursor *c, const struct tans_step *steps, uint16_t *states,
			uint64_t *out, size_t n)
{
	const uint8_t *src = c->src;
	size_t bit = c->bit, state[STATES];
	for (size_t i = 0; i < STATES; i++)
		state[i] = states[i];
	for (size_t i = 0; i + STATES <= n; i += STATES) {
		for (size_t s = 0; s < STATES; s++) {
			const struct tans_step *step = &steps[state[s]];
			uint64_t word = load64(src + (bit >> 3)) >> (bit & 7);
			unsigned offset_bits = step->offset_bits, state_bits = step->state_bits;
			out[i + s] = step->lower + (word & ((UINT64_C(1) << offset_bits) - 1));
			state[s] = step->next +
				   (word >> offset_bits & ((UINT64_C(1) << state_bits) - 1));
			bit += offset_bits + state_bits;
		}
	}
	for (size_t i = 0; i < STATES; i++)
		states[i] = (uint16_t)state[i];
	c->bit = bit;
}

KERNEL_AVX2 static void decode_fast_avx2(struct cursor *c, const struct tans_step *steps,
					 uint16_t *states, uint64_t *out, size_t n)
{
	decode_fast(c, steps, states, out, n);
}

static void decode_values(struct cursor *c, const struct tans_step *steps, unsigned log,
			  bool is_narrow, uint64_t *out, size_t n)
{
	uint16_t states[STATES];
	for (size_t i = 0; i < STATES && i < n; i++)
		states[i] = (uint16_t)cursor_get(c, log);
	size_t i = 0;
	if (is_narrow && n > STATES) {
		i = (n - STATES) / STATES * STATES;
		if (HAS_AVX2())
			decode_fast_avx2(c, steps, states, out, i);
		else
			decode_fast(c, steps, states, out, i);
	}
	for (; i < n; i++) {
		const struct tans_step *step = &steps[states[i % STATES]];
		out[i] = step->lower + cursor_get_long(c, step->offset_bits);
		if (i + STATES < n)
			states[i % STATES] =
				(uint16_t)(step->next + cursor_get(c, step->state_bits));
	}
}

bool tans_decode(struct reader *r, uint64_t center, size_t n, uint64_t *residuals,
		 struct vector_scratch *scratch)
{
	size_t left = reader_left(r);
	size_t most = TABLE_BYTES_MAX + (n * VALUE_BITS_MAX + 7) / 8 + VECTOR_SLACK;
	struct cursor c = { .src = r->at };
	if (left < most) {
		must_slow(most <= sizeof(scratch->coded));
		if (left)
			memcpy(scratch->coded, r->at, left);
		memset(scratch->coded + left, 0, most - left);
		c.src = scratch->coded;
	}
	struct model m;
	if (!model_read(&m, n, &c))
		return false;
	unsigned widest = steps_make(scratch->steps, &m, center);
	decode_values(&c, scratch->steps, m.log, widest <= STEP_BITS_MAX, residuals, n);
	return reader_take(r, (c.bit + 7) / 8) != NULL;
}
