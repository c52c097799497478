/* Native histograms for tests: made of pairs of index and count, and random ones. */
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "query/promql/histogram_math.h"

static struct arena arena;
static struct err e __attribute__((unused));

static inline int set_up(void **state)
{
	(void)state;
	arena = arena_init(1 << 26);
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	arena_done(&arena);
	return 0;
}

static uint64_t seed = 88172645463325252ULL;

static inline uint64_t below(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

/* Indices ascend. */
struct pair {
	int32_t index;
	double count;
};

static inline struct histogram_side side(const struct pair *pairs, size_t count)
{
	struct histogram_span *spans = arena_array(&arena, count + 1, sizeof(*spans));
	double *buckets = arena_array(&arena, count + 1, sizeof(*buckets));
	struct histogram_side s = { spans, buckets, 0, (uint32_t)count };
	int64_t end = 0;
	for (size_t i = 0; i < count; i++) {
		if (i == 0 || pairs[i].index != end) {
			spans[s.span_count].offset = (int32_t)(pairs[i].index - end);
			s.span_count++;
		}
		spans[s.span_count - 1].length++;
		end = (int64_t)pairs[i].index + 1;
		buckets[i] = pairs[i].count;
	}
	return s;
}

static inline double total(const struct histogram_side *s)
{
	double sum = 0;
	for (uint32_t i = 0; i < s->bucket_count; i++)
		sum += s->buckets[i];
	return sum;
}

static inline struct histogram positive(int32_t schema, const struct pair *pairs, size_t count)
{
	struct histogram h = { .schema = schema, .positive = side(pairs, count) };
	h.count = total(&h.positive);
	h.sum = h.count * 3;
	return h;
}

#define POSITIVE(schema, ...)                                    \
	positive((schema), (const struct pair[]){ __VA_ARGS__ }, \
		 sizeof((const struct pair[]){ __VA_ARGS__ }) / sizeof(struct pair))

static inline struct histogram custom(const double *bounds, uint32_t bound_count,
				      const struct pair *pairs, size_t count)
{
	struct histogram h = positive(HISTOGRAM_SCHEMA_CUSTOM, pairs, count);
	h.custom_bounds = bounds;
	h.custom_bound_count = bound_count;
	return h;
}

static inline double count_at(const struct histogram *h, double lower, double upper)
{
	struct histogram_iterator it;
	struct histogram_bucket b;
	histogram_iterator_init(&it, h, false);
	while (histogram_iterator_next(&it, &b))
		if (b.lower == lower && b.upper == upper)
			return b.count;
	return -1;
}

static inline struct histogram_side random_side(void)
{
	struct pair pairs[40];
	size_t count = below(40);
	int32_t index = (int32_t)below(60) - 60;
	for (size_t i = 0; i < count; i++) {
		index += 1 + (int32_t)(below(3) ? 0 : below(6));
		pairs[i] = (struct pair){ index, (double)below(4) };
	}
	return side(pairs, count);
}

static inline struct histogram random_histogram(void)
{
	struct histogram h = { .schema = (int32_t)below(6) - 2, .zero_count = (double)below(3) };
	h.positive = random_side();
	h.negative = random_side();
	h.count = total(&h.positive) + total(&h.negative) + h.zero_count;
	h.sum = (double)below(1000);
	return h;
}
