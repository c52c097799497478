/* What histogram_math.c, histogram_sum.c and histogram_quantile.c share. */
#pragma once

#include "query/promql/histogram_math.h"

/* Over the buckets of one side upwards, with their indices. */
struct histogram_walk {
	const struct histogram_side *side;
	uint32_t span, in_span, bucket;
	int64_t index;
};

static inline struct histogram_walk histogram_walk_init(const struct histogram_side *side)
{
	return (struct histogram_walk){ .side = side };
}

static inline bool histogram_walk_next(struct histogram_walk *w, int64_t *ret_index,
				       double *ret_count)
{
	const struct histogram_side *side = w->side;
	if (w->bucket >= side->bucket_count)
		return false;
	while (w->in_span == 0 || w->in_span == side->spans[w->span - 1].length) {
		w->index += side->spans[w->span].offset;
		w->in_span = 0;
		if (side->spans[w->span++].length > 0)
			break;
	}
	*ret_index = w->index++;
	*ret_count = side->buckets[w->bucket++];
	w->in_span++;
	return true;
}

/* Upper boundary of an exponential bucket. */
double histogram_schema_bound(int32_t schema, int64_t index);
bool histogram_bounds_equal(const struct histogram *a, const struct histogram *b);

/* An index at SCHEMA to that of the bucket around it at the coarser TO. */
static inline int64_t histogram_coarser_index(int64_t index, int32_t schema, int32_t to)
{
	return ((index - 1) >> (schema - to)) + 1;
}

/* The zero count when the threshold is at least *THRESHOLD, which is moved to the next boundary
 * where it would cut a populated bucket. *THRESHOLD is not below that of H. */
double histogram_zero_count_within(const struct histogram *h, double *threshold);
/* The boundaries both have, in COMMON, which has room for those of A; returns how many. */
uint32_t histogram_common_bounds(const double *a, uint32_t a_count, const double *b,
				 uint32_t b_count, double *common);
/* In which of the COMMON buckets bucket INDEX with BOUNDS lies. */
int64_t histogram_common_index(const double *bounds, uint32_t count, int64_t index,
			       const double *common, uint32_t common_count);
