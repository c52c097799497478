/*
 * histogram: one native histogram sample, with exponential buckets (schema -4…8) or custom
 * boundaries (schema -53). Populations are absolute here, not deltas, and always doubles: integer
 * histograms are exact up to 2^53.
 *
 * Shape: spans say which bucket indices are present, `offset` being the gap to the end of the one
 *   before (of the first: its index); buckets holds their populations one after another.
 * Limits: HISTOGRAM_BUCKETS_MAX buckets a side, as many spans.
 * Source: Prometheus's specification of native histograms.
 */
#pragma once

#include "base/arena.h"

enum {
	HISTOGRAM_SCHEMA_MIN = -4,
	HISTOGRAM_SCHEMA_MAX = 8,
	HISTOGRAM_SCHEMA_CUSTOM = -53,
	HISTOGRAM_BUCKETS_MAX = 4096,
};

enum histogram_reset {
	HISTOGRAM_RESET_UNKNOWN,
	HISTOGRAM_RESET_YES,
	HISTOGRAM_RESET_NO,
	HISTOGRAM_RESET_GAUGE,
};

struct histogram_span {
	int32_t offset;
	uint32_t length;
};

struct histogram_side {
	const struct histogram_span *spans;
	const double *buckets;
	uint32_t span_count, bucket_count;
};

struct histogram {
	int32_t schema;
	enum histogram_reset reset;
	double zero_threshold, zero_count;
	double count, sum; /* a stale marker is a sum with the stale NaN */
	struct histogram_side positive, negative;
	const double *custom_bounds; /* upper boundaries, ascending, without +Inf */
	uint32_t custom_bound_count;
};

/* Errors: ERR_INVALID when spans and buckets disagree, populations are negative or do not add up
 * (NaN sums excepted), boundaries do not ascend, or a limit is passed. */
WARN_UNUSED errc histogram_check(const struct histogram *h, struct err *e);
bool histogram_eq(const struct histogram *a, const struct histogram *b);
struct histogram *histogram_copy(struct arena *a, const struct histogram *h);
