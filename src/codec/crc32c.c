#include "codec/crc32c.h"

#include <pthread.h>
#include <string.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#include "base/checks.h"

enum { POLYNOMIAL = 0x82f63b78, SLICES = 8 };

static uint32_t tables[SLICES][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t crc = byte;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? (uint32_t)POLYNOMIAL : 0);
		tables[0][byte] = crc;
	}
	for (size_t slice = 1; slice < SLICES; slice++) {
		for (size_t byte = 0; byte < 256; byte++) {
			uint32_t crc = tables[slice - 1][byte];
			tables[slice][byte] = crc >> 8 ^ tables[0][crc & 0xff];
		}
	}
}

uint32_t crc32c_portable(uint32_t seed, str bytes)
{
	must(pthread_once(&tables_once, make_tables) == 0);
	const uint8_t *at = (const uint8_t *)bytes.ptr;
	size_t left = bytes.len;
	uint32_t crc = ~seed;
	for (; left >= 8; left -= 8, at += 8) {
		uint64_t word;
		memcpy(&word, at, sizeof(word));
		word ^= crc;
		crc = 0;
		for (size_t i = 0; i < 8; i++)
			crc ^= tables[7 - i][word >> 8 * i & 0xff];
	}
	for (; left; left--)
		crc = crc >> 8 ^ tables[0][(crc ^ *at++) & 0xff];
	return ~crc;
}

#if defined(__x86_64__)

/* Bytes of each of three streams, whose instructions overlap; a power of two times 8. */
enum { STREAM_BYTES = 1024 };

/* shift_table[i][b]: the register after STREAM_BYTES zero bytes, of byte i being b. */
static uint32_t shift_table[4][256];
static pthread_once_t shift_once = PTHREAD_ONCE_INIT;

__attribute__((target("sse4.2"))) static uint32_t run(uint32_t crc, const uint8_t *at, size_t len)
{
	uint64_t wide = crc;
	for (; len >= 8; len -= 8, at += 8) {
		uint64_t word;
		memcpy(&word, at, sizeof(word));
		wide = _mm_crc32_u64(wide, word);
	}
	crc = (uint32_t)wide;
	for (; len; len--)
		crc = _mm_crc32_u8(crc, *at++);
	return crc;
}

static void make_shift_table(void)
{
	static const uint8_t zeros[STREAM_BYTES];
	for (uint32_t i = 0; i < 4; i++)
		for (uint32_t byte = 0; byte < 256; byte++)
			shift_table[i][byte] = run(byte << 8 * i, zeros, STREAM_BYTES);
}

static uint32_t shift(uint32_t crc)
{
	return shift_table[0][crc & 0xff] ^ shift_table[1][crc >> 8 & 0xff] ^
	       shift_table[2][crc >> 16 & 0xff] ^ shift_table[3][crc >> 24];
}

/* The instruction takes three cycles but one can begin each cycle: three streams at once. */
__attribute__((target("sse4.2"))) static uint32_t run_three(uint32_t crc, const uint8_t *at)
{
	uint64_t a = crc, b = 0, c = 0;
	for (size_t i = 0; i < STREAM_BYTES; i += 8) {
		uint64_t word;
		memcpy(&word, at + i, sizeof(word));
		a = _mm_crc32_u64(a, word);
		memcpy(&word, at + STREAM_BYTES + i, sizeof(word));
		b = _mm_crc32_u64(b, word);
		memcpy(&word, at + 2 * (size_t)STREAM_BYTES + i, sizeof(word));
		c = _mm_crc32_u64(c, word);
	}
	return shift(shift((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
}

static uint32_t crc32c_sse42(uint32_t seed, str bytes)
{
	const uint8_t *at = (const uint8_t *)bytes.ptr;
	size_t left = bytes.len;
	uint32_t crc = ~seed;
	if (left >= 3 * (size_t)STREAM_BYTES)
		must(pthread_once(&shift_once, make_shift_table) == 0);
	for (; left >= 3 * (size_t)STREAM_BYTES; left -= 3 * (size_t)STREAM_BYTES) {
		crc = run_three(crc, at);
		at += 3 * (size_t)STREAM_BYTES;
	}
	return ~run(crc, at, left);
}

#endif

uint32_t crc32c(uint32_t seed, str bytes)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return crc32c_sse42(seed, bytes);
#endif
	return crc32c_portable(seed, bytes);
}
