#include "base/checks.h"
#include "codec/vector_internal.h"

/* Moving averages are kept in 1/256. All arithmetic wraps, so any values come back. */
enum { FRACTION = 8, HALF = 1 << (FRACTION - 1), SAMPLES = 15 };

size_t predict_skipped(enum predictor p)
{
	return p == PREDICT_NONE ? 0 : p == PREDICT_DELTA2 ? 2 : 1;
}

bool predict_has_slope(enum predictor p)
{
	return p == PREDICT_LINE || p == PREDICT_DELTA2 || p >= PREDICT_DRIFT;
}

/* 2^-n is the weight of the newest. */
static unsigned weight_of(enum predictor p)
{
	return (unsigned)(p >= PREDICT_DRIFT ? p - PREDICT_DRIFT : p - PREDICT_LEVEL) + 1;
}

static inline uint64_t guess(uint64_t mean)
{
	return shift_signed(mean + HALF, FRACTION);
}

static inline uint64_t moved(uint64_t mean, uint64_t newest, unsigned weight)
{
	return mean + shift_signed((newest << FRACTION) - mean, weight);
}

/* The mean delta, as signed integers; 0 when their difference does not fit. */
static uint64_t slope_of(const uint64_t *values, size_t n)
{
	int64_t rise;
	if (__builtin_sub_overflow((int64_t)values[n - 1], (int64_t)values[0], &rise))
		return 0;
	int64_t steps = (int64_t)n - 1, half = rise < 0 ? -steps / 2 : steps / 2;
	if (__builtin_add_overflow(rise, half, &rise))
		return 0;
	return (uint64_t)(rise / steps);
}

KERNEL void line_residuals(const uint64_t *x, size_t n, uint64_t slope, uint64_t *out)
{
	uint64_t first = x[0];
	for (size_t i = 1; i < n; i++)
		out[i - 1] = x[i] - first - slope * i;
}

KERNEL void delta_residuals(const uint64_t *x, size_t n, uint64_t *out)
{
	for (size_t i = 1; i < n; i++)
		out[i - 1] = x[i] - x[i - 1];
}

KERNEL void delta2_residuals(const uint64_t *x, size_t n, uint64_t *out)
{
	for (size_t i = 2; i < n; i++)
		out[i - 2] = x[i] - 2 * x[i - 1] + x[i - 2];
}

static void level_residuals(const uint64_t *x, size_t n, unsigned weight, uint64_t *out)
{
	uint64_t mean = x[0] << FRACTION;
	for (size_t i = 1; i < n; i++) {
		out[i - 1] = x[i] - guess(mean);
		mean = moved(mean, x[i], weight);
	}
}

static void drift_residuals(const uint64_t *x, size_t n, unsigned weight, uint64_t slope,
			    uint64_t *out)
{
	uint64_t mean = slope << FRACTION;
	for (size_t i = 1; i < n; i++) {
		uint64_t delta = x[i] - x[i - 1];
		out[i - 1] = delta - guess(mean);
		mean = moved(mean, delta, weight);
	}
}

size_t predict_residuals(enum predictor p, const uint64_t *values, size_t n,
			 struct predict_start *ret_start, uint64_t *residuals)
{
	must_slow(p == PREDICT_NONE || n >= 2);
	struct predict_start start = { .first = values[0] };
	switch (p) {
	case PREDICT_NONE:
		memcpy(residuals, values, n * sizeof(*values));
		break;
	case PREDICT_LINE:
		start.slope = slope_of(values, n);
		line_residuals(values, n, start.slope, residuals);
		break;
	case PREDICT_DELTA:
		delta_residuals(values, n, residuals);
		break;
	case PREDICT_DELTA2:
		start.slope = values[1] - values[0];
		delta2_residuals(values, n, residuals);
		break;
	default:
		if (p < PREDICT_DRIFT) {
			level_residuals(values, n, weight_of(p), residuals);
			break;
		}
		start.slope = slope_of(values, n);
		drift_residuals(values, n, weight_of(p), start.slope, residuals);
	}
	*ret_start = start;
	return n - predict_skipped(p);
}

KERNEL void restore_line(const uint64_t *in, size_t n, uint64_t first, uint64_t slope,
			 uint64_t *out)
{
	out[0] = first;
	for (size_t i = 1; i < n; i++)
		out[i] = in[i - 1] + first + slope * i;
}

static void restore_delta(const uint64_t *in, size_t n, uint64_t first, uint64_t *out)
{
	uint64_t value = out[0] = first;
	for (size_t i = 1; i < n; i++)
		out[i] = value += in[i - 1];
}

static void restore_delta2(const uint64_t *in, size_t n, uint64_t first, uint64_t slope,
			   uint64_t *out)
{
	out[0] = first;
	uint64_t value = out[1] = first + slope;
	for (size_t i = 2; i < n; i++)
		out[i] = value += slope += in[i - 2];
}

static void restore_level(const uint64_t *in, size_t n, uint64_t first, unsigned weight,
			  uint64_t *out)
{
	out[0] = first;
	uint64_t mean = first << FRACTION;
	for (size_t i = 1; i < n; i++) {
		out[i] = in[i - 1] + guess(mean);
		mean = moved(mean, out[i], weight);
	}
}

static void restore_drift(const uint64_t *in, size_t n, uint64_t first, uint64_t slope,
			  unsigned weight, uint64_t *out)
{
	uint64_t value = out[0] = first;
	uint64_t mean = slope << FRACTION;
	for (size_t i = 1; i < n; i++) {
		uint64_t delta = in[i - 1] + guess(mean);
		out[i] = value += delta;
		mean = moved(mean, delta, weight);
	}
}

void predict_restore(enum predictor p, const struct predict_start *start, const uint64_t *residuals,
		     size_t n, uint64_t *values)
{
	uint64_t first = start->first, slope = start->slope;
	switch (p) {
	case PREDICT_NONE:
		memcpy(values, residuals, n * sizeof(*values));
		return;
	case PREDICT_LINE:
		restore_line(residuals, n, first, slope, values);
		return;
	case PREDICT_DELTA:
		restore_delta(residuals, n, first, values);
		return;
	case PREDICT_DELTA2:
		restore_delta2(residuals, n, first, slope, values);
		return;
	default:
		if (p < PREDICT_DRIFT)
			restore_level(residuals, n, first, weight_of(p), values);
		else
			restore_drift(residuals, n, first, slope, weight_of(p), values);
	}
}

KERNEL struct bounds bounds_kernel(const uint64_t *values, size_t n)
{
	int64_t min = (int64_t)values[0], max = min;
	for (size_t i = 0; i < n; i++) {
		int64_t v = (int64_t)values[i];
		min = v < min ? v : min;
		max = v > max ? v : max;
	}
	return (struct bounds){ min, max };
}

KERNEL_AVX2 static struct bounds bounds_avx2(const uint64_t *values, size_t n)
{
	return bounds_kernel(values, n);
}

struct bounds bounds_of(const uint64_t *values, size_t n)
{
	return HAS_AVX2() ? bounds_avx2(values, n) : bounds_kernel(values, n);
}

uint64_t median_about(const uint64_t *values, size_t n)
{
	int64_t sample[SAMPLES];
	size_t count = n < SAMPLES ? n : SAMPLES;
	for (size_t i = 0; i < count; i++) {
		int64_t v = (int64_t)values[i * n / count];
		size_t at = i;
		for (; at > 0 && sample[at - 1] > v; at--)
			sample[at] = sample[at - 1];
		sample[at] = v;
	}
	return (uint64_t)sample[count / 2];
}
