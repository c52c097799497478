/* Shared by the sources of the vectors only. */
#pragma once

#include "codec/varint.h"
#include "codec/vector.h"

/* What a residual coder may read or write in a step beyond what it uses. */
enum { VECTOR_SLACK = 16 };

/*
 * A kernel is written once as a plain loop in an always-inlined function, and compiled twice: as
 * the build's baseline and for AVX2. Chosen at run time without ifunc, whose resolvers run before
 * a sanitizer does.
 */
#define KERNEL static inline __attribute__((always_inline))
#if defined(__x86_64__)
#define KERNEL_AVX2 __attribute__((target("avx2,bmi,bmi2,lzcnt"), noinline))
#define HAS_AVX2() (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"))
#else
#define KERNEL_AVX2
#define HAS_AVX2() false
#endif

/* A state of the tANS decoder: what it stands for, and where it goes. */
struct tans_step {
	uint64_t lower; /* of its bin */
	uint16_t next;  /* plus the next `state_bits` bits */
	uint8_t state_bits;
	uint8_t offset_bits;
};

enum {
	TANS_LOG_MAX = 9,
	TANS_SIZE_MAX = 1 << TANS_LOG_MAX,
	/* Bins below and above the centre: some of equal width, then one for each power of two. */
	BINS_LINEAR_LOG = 4,
	BINS_LINEAR = 1 << BINS_LINEAR_LOG,
	BINS_HALF = BINS_LINEAR + 64 - BINS_LINEAR_LOG,
	BINS = 2 * BINS_HALF,
};

struct vector_scratch {
	uint64_t integers[VECTOR_LEN_MAX]; /* what the int vector is of */
	uint64_t scaled[VECTOR_LEN_MAX];
	uint64_t residuals[VECTOR_LEN_MAX];
	uint64_t trial[VECTOR_LEN_MAX];
	uint8_t is_exception[VECTOR_LEN_MAX];
	uint8_t bins[VECTOR_LEN_MAX];
	uint8_t state_bits[VECTOR_LEN_MAX];
	uint16_t state_values[VECTOR_LEN_MAX];
	uint16_t encode_states[TANS_SIZE_MAX];
	struct tans_step steps[TANS_SIZE_MAX];
	uint8_t out[VECTOR_BYTES_MAX + 4096]; /* what the encoders make */
	uint8_t coded[2 * VECTOR_BYTES_MAX];
};

static inline uint64_t load64(const uint8_t *at)
{
	uint64_t word;
	memcpy(&word, at, sizeof(word));
	return word;
}

static inline void store64(uint8_t *at, uint64_t word)
{
	memcpy(at, &word, sizeof(word));
}

/* How many bits V takes; 0 for 0. */
static inline unsigned bit_length(uint64_t v)
{
	return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

static inline uint64_t low_bits(unsigned n)
{
	return n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

/* Shift right and keep the sign. */
static inline uint64_t shift_signed(uint64_t v, unsigned n)
{
	return (uint64_t)((int64_t)v >> n);
}

/* Bit packing: N values of WIDTH 0..64 bits each, plus BASE. */
size_t bit_pack_size(size_t n, unsigned width);
/* DST has room for bit_pack_size() and VECTOR_SLACK; returns bit_pack_size(). */
size_t bit_pack(const uint64_t *values, size_t n, uint64_t base, unsigned width, uint8_t *dst);
bool bit_unpack(struct reader *r, uint64_t *values, size_t n, uint64_t base, unsigned width);

/* Predictors: how a value is guessed from those before it. The numbers are of the format. */
enum predictor {
	PREDICT_NONE = 0,
	PREDICT_LINE = 1,
	PREDICT_DELTA = 2,
	PREDICT_DELTA2 = 3,
	PREDICT_LEVEL = 4,  /* 4..9: the moving average of values with weight 2^-1..2^-6 */
	PREDICT_DRIFT = 10, /* 10..15: the same of deltas */
	PREDICTORS = 16,
};

/* What a predictor starts from. */
struct predict_start {
	uint64_t first; /* not of PREDICT_NONE */
	uint64_t slope; /* of line, delta of delta and drift */
};

/* How many values of a vector of N have no residual. */
size_t predict_skipped(enum predictor p);
bool predict_has_slope(enum predictor p);
/* N at least 2, unless P is PREDICT_NONE. Returns the number of residuals. */
size_t predict_residuals(enum predictor p, const uint64_t *values, size_t n,
			 struct predict_start *ret_start, uint64_t *residuals);
/* The N values of predict_residuals(). VALUES and RESIDUALS are not the same array. */
void predict_restore(enum predictor p, const struct predict_start *start, const uint64_t *residuals,
		     size_t n, uint64_t *values);

/* Lower and upper bound, as signed integers. */
struct bounds {
	int64_t min, max;
};
struct bounds bounds_of(const uint64_t *values, size_t n);
/* About the median, of a sample. */
uint64_t median_about(const uint64_t *values, size_t n);

/* log2(v) in 1/256, V at least 1. */
unsigned log2_256(uint64_t v);
/* About how many bits tANS will take for N residuals: the entropy of their classes, and offsets. */
size_t tans_bits_about(const uint64_t *residuals, size_t n, uint64_t center);
/* Write N residuals to scratch->coded; the size. SCRATCH->trial is overwritten. */
size_t tans_encode(const uint64_t *residuals, size_t n, uint64_t center,
		   struct vector_scratch *scratch);
bool tans_decode(struct reader *r, uint64_t center, size_t n, uint64_t *residuals,
		 struct vector_scratch *scratch);

/* Integers as bytes. Writes scratch->integers to DST, which has room for VECTOR_BYTES_MAX and
 * VECTOR_SLACK; returns how many bytes. */
size_t int_vector_encode(size_t n, enum vector_level level, struct vector_scratch *scratch,
			 uint8_t *dst);
/* Reads them to scratch->integers; false when they are not what an encoder writes. */
bool int_vector_decode(struct reader *r, size_t n, struct vector_scratch *scratch);
