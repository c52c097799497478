/*
 * Integers as bytes: little-endian fixed widths, LEB128 varints, zigzag; and the bounded reader
 * that every decoder of outside or stored bytes is built on.
 *
 * A reader never looks past its end. The first thing that does not fit sets `failed` and leaves it
 * empty, so that everything read after gives zeros; the decoder checks `failed` where it matters.
 */
#pragma once

#include <assert.h>
#include <string.h>

#include "base/buf.h"

enum { VARINT_BYTES_MAX = 10 };

struct reader {
	const uint8_t *at, *end;
	bool failed;
};

static inline struct reader reader_init(str s)
{
	const uint8_t *at = (const uint8_t *)s.ptr;
	return (struct reader){ .at = at, .end = s.len ? at + s.len : at };
}

static inline size_t reader_left(const struct reader *r)
{
	return (size_t)(r->end - r->at);
}

/* Everything read after this is zeros and empty strings. */
static inline void reader_fail(struct reader *r)
{
	r->failed = true;
	r->at = r->end;
}

/* The next SIZE bytes, in place; NULL when there are fewer. */
static inline const uint8_t *reader_take(struct reader *r, size_t size)
{
	if (__builtin_expect(size > reader_left(r), 0)) {
		reader_fail(r);
		return NULL;
	}
	const uint8_t *taken = r->at;
	r->at += size;
	return taken;
}

static inline str reader_bytes(struct reader *r, size_t size)
{
	const uint8_t *taken = reader_take(r, size);
	return taken ? (str){ (const char *)taken, size } : (str){ "", 0 };
}

static inline uint8_t reader_u8(struct reader *r)
{
	const uint8_t *taken = reader_take(r, 1);
	return taken ? *taken : 0;
}

/* Little-endian, as the machines are that this is built for. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "stored integers are little-endian");

static inline uint16_t reader_u16(struct reader *r)
{
	uint16_t value = 0;
	const uint8_t *taken = reader_take(r, sizeof(value));
	if (taken)
		memcpy(&value, taken, sizeof(value));
	return value;
}

static inline uint32_t reader_u32(struct reader *r)
{
	uint32_t value = 0;
	const uint8_t *taken = reader_take(r, sizeof(value));
	if (taken)
		memcpy(&value, taken, sizeof(value));
	return value;
}

static inline uint64_t reader_u64(struct reader *r)
{
	uint64_t value = 0;
	const uint8_t *taken = reader_take(r, sizeof(value));
	if (taken)
		memcpy(&value, taken, sizeof(value));
	return value;
}

/* reader_varint() for what is longer than a byte. */
uint64_t reader_varint_long(struct reader *r);

/* LEB128 of at most 10 bytes and 64 bits; longer ones fail, a padded one (`80 00`) is taken. */
static inline uint64_t reader_varint(struct reader *r)
{
	if (__builtin_expect(r->at < r->end && *r->at < 0x80, 1))
		return *r->at++;
	return reader_varint_long(r);
}

/* Small numbers of both signs to small numbers: 0, -1, 1, -2, … */
static inline uint64_t zigzag(int64_t value)
{
	return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static inline int64_t unzigzag(uint64_t value)
{
	return (int64_t)((value >> 1) ^ (0 - (value & 1)));
}

static inline int64_t reader_zigzag(struct reader *r)
{
	return unzigzag(reader_varint(r));
}

/* Write VALUE to DST, which has room for VARINT_BYTES_MAX; how many bytes it took. */
static inline size_t varint_put(uint8_t *dst, uint64_t value)
{
	size_t n = 0;
	for (; value >= 0x80; value >>= 7)
		dst[n++] = (uint8_t)(value | 0x80);
	dst[n++] = (uint8_t)value;
	return n;
}

/* How many bytes varint_put() takes. */
static inline size_t varint_size(uint64_t value)
{
	return ((size_t)(63 - __builtin_clzll(value | 1)) * 9 + 73) / 64;
}

void buf_add_u16(struct buf *b, uint16_t value);
void buf_add_u32(struct buf *b, uint32_t value);
void buf_add_u64(struct buf *b, uint64_t value);
void buf_add_varint(struct buf *b, uint64_t value);
void buf_add_zigzag(struct buf *b, int64_t value);
