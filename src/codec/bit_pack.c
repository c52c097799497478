/*
 * Groups of 256 values lie in four lanes of 64-bit words, value i in lane i mod 4, so that the same
 * shift serves four neighbours and a group takes whole words whatever the width. What is left over
 * follows as one string of bits.
 */
#include "codec/vector_internal.h"

enum { LANES = 4, ROWS = 64, GROUP = LANES * ROWS };

size_t bit_pack_size(size_t n, unsigned width)
{
	return n / GROUP * GROUP / 8 * width + (n % GROUP * width + 7) / 8;
}

KERNEL void pack_group(const uint64_t *in, uint64_t base, unsigned width, uint8_t *dst)
{
	uint64_t word[LANES] = { 0 };
	unsigned shift = 0;
	for (size_t row = 0; row < ROWS; row++, in += LANES) {
		for (size_t lane = 0; lane < LANES; lane++)
			word[lane] |= (in[lane] - base) << shift;
		shift += width;
		if (shift < 64)
			continue;
		memcpy(dst, word, sizeof(word));
		dst += sizeof(word);
		shift -= 64;
		for (size_t lane = 0; lane < LANES; lane++)
			word[lane] = shift ? (in[lane] - base) >> (width - shift) : 0;
	}
}

KERNEL void unpack_group(const uint8_t *src, uint64_t base, unsigned width, uint64_t *out)
{
	uint64_t mask = low_bits(width);
	uint64_t word[LANES], next[LANES];
	unsigned shift = 0;
	memcpy(word, src, sizeof(word));
	for (size_t row = 0; row < ROWS; row++, out += LANES) {
		if (shift + width < 64) {
			for (size_t lane = 0; lane < LANES; lane++)
				out[lane] = (word[lane] >> shift & mask) + base;
			shift += width;
			continue;
		}
		/* the row ends the word; the last row ends the last one */
		unsigned rest = shift + width - 64;
		src += sizeof(word);
		if (row + 1 < ROWS)
			memcpy(next, src, sizeof(next));
		for (size_t lane = 0; lane < LANES; lane++) {
			uint64_t high = rest ? next[lane] << (width - rest) : 0;
			out[lane] = ((word[lane] >> shift | high) & mask) + base;
			word[lane] = next[lane];
		}
		shift = rest;
	}
}

KERNEL void pack_tail(const uint64_t *in, size_t n, uint64_t base, unsigned width, uint8_t *dst)
{
	uint64_t word = 0;
	unsigned fill = 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t v = in[i] - base;
		word |= v << fill;
		fill += width;
		if (fill < 64)
			continue;
		store64(dst, word);
		dst += 8;
		fill -= 64;
		word = fill ? v >> (width - fill) : 0;
	}
	store64(dst, word);
}

/* SRC has VECTOR_SLACK bytes behind it. */
KERNEL void unpack_tail(const uint8_t *src, size_t n, uint64_t base, unsigned width, uint64_t *out)
{
	uint64_t mask = low_bits(width);
	size_t bit = 0;
	if (width <= 56) {
		for (size_t i = 0; i < n; i++, bit += width)
			out[i] = (load64(src + bit / 8) >> bit % 8 & mask) + base;
		return;
	}
	for (size_t i = 0; i < n; i++, bit += width) {
		uint64_t high = (uint64_t)src[bit / 8 + 8] << 1 << (63 - bit % 8);
		out[i] = ((load64(src + bit / 8) >> bit % 8 | high) & mask) + base;
	}
}

KERNEL void pack_all(const uint64_t *in, size_t n, uint64_t base, unsigned width, uint8_t *dst)
{
	size_t left = n;
	for (; left >= GROUP; left -= GROUP, in += GROUP, dst += (size_t)width * GROUP / 8)
		pack_group(in, base, width, dst);
	if (left)
		pack_tail(in, left, base, width, dst);
}

KERNEL void unpack_groups(const uint8_t *src, size_t n, uint64_t base, unsigned width,
			  uint64_t *out)
{
	for (; n >= GROUP; n -= GROUP, out += GROUP, src += (size_t)width * GROUP / 8)
		unpack_group(src, base, width, out);
}

KERNEL_AVX2 static void pack_avx2(const uint64_t *in, size_t n, uint64_t base, unsigned width,
				  uint8_t *dst)
{
	pack_all(in, n, base, width, dst);
}

KERNEL_AVX2 static void unpack_groups_avx2(const uint8_t *src, size_t n, uint64_t base,
					   unsigned width, uint64_t *out)
{
	unpack_groups(src, n, base, width, out);
}

KERNEL_AVX2 static void unpack_tail_avx2(const uint8_t *src, size_t n, uint64_t base,
					 unsigned width, uint64_t *out)
{
	unpack_tail(src, n, base, width, out);
}

size_t bit_pack(const uint64_t *values, size_t n, uint64_t base, unsigned width, uint8_t *dst)
{
	if (width == 0)
		return 0;
	if (HAS_AVX2())
		pack_avx2(values, n, base, width, dst);
	else
		pack_all(values, n, base, width, dst);
	return bit_pack_size(n, width);
}

bool bit_unpack(struct reader *r, uint64_t *values, size_t n, uint64_t base, unsigned width)
{
	if (width > 64)
		return false;
	const uint8_t *src = reader_take(r, bit_pack_size(n, width));
	if (!src)
		return false;
	if (width == 0) {
		for (size_t i = 0; i < n; i++)
			values[i] = base;
		return true;
	}
	size_t grouped = n / GROUP * GROUP;
	if (HAS_AVX2())
		unpack_groups_avx2(src, grouped, base, width, values);
	else
		unpack_groups(src, grouped, base, width, values);
	if (grouped == n)
		return true;
	uint8_t tail[GROUP * 8 + VECTOR_SLACK];
	size_t tail_size = bit_pack_size(n - grouped, width);
	const uint8_t *tail_src = src + grouped / 8 * width;
	if (reader_left(r) < VECTOR_SLACK) {
		memcpy(tail, tail_src, tail_size);
		memset(tail + tail_size, 0, VECTOR_SLACK);
		tail_src = tail;
	}
	if (HAS_AVX2())
		unpack_tail_avx2(tail_src, n - grouped, base, width, values + grouped);
	else
		unpack_tail(tail_src, n - grouped, base, width, values + grouped);
	return true;
}
