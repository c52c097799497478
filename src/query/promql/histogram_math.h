/*
 * histogram_math: arithmetic on native histograms, and what is read off them.
 *
 * Uses metrics (struct histogram only). Pure.
 * Shape: results are histograms in an arena, without empty buckets (compact). What adds up many
 *   uses a struct histogram_sum, which holds indices and populations apart and is added to in
 * place. Limits: HISTOGRAM_SUM_BUCKETS_MAX buckets a side; past it ERR_FAILED. Source:
 * Prometheus 3.14's published behaviour of float histograms.
 */
#pragma once

#include "metrics/histogram.h"

enum { HISTOGRAM_SUM_BUCKETS_MAX = 65536 };

/* What an addition or subtraction had to do, for annotations. */
struct histogram_notes {
	bool reset_collision;   /* one side was a counter reset, the other surely none */
	bool bounds_reconciled; /* custom boundaries differed: only the common ones are left */
};

/* ---- Buckets. */

struct histogram_bucket {
	double lower, upper, count;
	int32_t index;
	bool lower_inclusive, upper_inclusive;
};

/* All buckets in the order of their values, the zero bucket when it is populated; boundaries of
 * neighbours are cut at the zero threshold. */
struct histogram_iterator {
	const struct histogram *h;
	bool reverse;
	int stage; /* 0: first side, 1: the zero bucket, 2: second side, 3: over */
	const struct histogram_side *side;
	uint32_t span, in_span, bucket; /* the next, or walking backwards one behind it */
	int64_t index;
};

bool histogram_is_custom(const struct histogram *h);
/* Whether the two can be added, subtracted: both with custom boundaries, or neither. */
bool histogram_compatible(const struct histogram *a, const struct histogram *b);
/* Upper boundary of bucket INDEX on the positive side; of -1 with custom boundaries: -Inf. */
double histogram_bound(const struct histogram *h, int64_t index);
void histogram_iterator_init(struct histogram_iterator *it, const struct histogram *h,
			     bool reverse);
bool histogram_iterator_next(struct histogram_iterator *it, struct histogram_bucket *ret);

/* ---- Arithmetic. Errors: ERR_LIMIT of the arena; ERR_FAILED past the limit of buckets. */

/* A and B must be compatible. NOTES is added to, may be NULL. */
WARN_UNUSED errc histogram_add(struct arena *arena, const struct histogram *a,
			       const struct histogram *b, struct histogram_notes *notes,
			       struct histogram **ret, struct err *e);
/* The result is a gauge. */
WARN_UNUSED errc histogram_sub(struct arena *arena, const struct histogram *a,
			       const struct histogram *b, struct histogram_notes *notes,
			       struct histogram **ret, struct err *e);
/* By a negative factor it becomes a gauge; negation is multiplication by -1. */
WARN_UNUSED errc histogram_mul(struct arena *arena, const struct histogram *h, double factor,
			       struct histogram **ret, struct err *e);
/* By 0 all buckets go, and sum and count become infinite or NaN. */
WARN_UNUSED errc histogram_div(struct arena *arena, const struct histogram *h, double divisor,
			       struct histogram **ret, struct err *e);
/* To a coarser exponential schema; SCHEMA must not be finer. */
WARN_UNUSED errc histogram_to_schema(struct arena *arena, const struct histogram *h, int32_t schema,
				     struct histogram **ret, struct err *e);
/* Without empty buckets, the spans joined. */
WARN_UNUSED errc histogram_compact(struct arena *arena, const struct histogram *h,
				   struct histogram **ret, struct err *e);
/* The operators `</` (UPPER: what lies above LIMIT is cut off) and `>/`. */
WARN_UNUSED errc histogram_trim(struct arena *arena, const struct histogram *h, double limit,
				bool upper, struct histogram **ret, struct err *e);

/* Equal in the sense of `==`: same bits and same layout; the reset hint does not count. */
bool histogram_equals(const struct histogram *a, const struct histogram *b);
/* Whether the counter was reset between PREVIOUS and H, the hint of H first. */
bool histogram_detect_reset(const struct histogram *h, const struct histogram *previous);

/* ---- Sums. */

struct histogram_sum_side {
	int32_t *indices; /* ascending */
	double *counts, *compensations;
	uint32_t count, room;
};

/* Zero-initialised it is unset; heap memory, which is kept from one use to the next. */
struct histogram_sum {
	bool set;
	bool compensated; /* Kahan's summation; to be chosen before the first value */
	int32_t schema;
	enum histogram_reset reset;
	double zero_threshold, zero_count, count, sum;
	double zero_count_c, count_c, sum_c; /* compensations */
	struct histogram_sum_side positive, negative;
	double *bounds;
	uint32_t bound_count, bound_room;
};

/* Accepts a sum that was never set. */
void histogram_sum_done(struct histogram_sum *s);
/* Begin anew with H. */
WARN_UNUSED errc histogram_sum_set(struct histogram_sum *s, const struct histogram *h,
				   struct err *e);
/* Whether H can be added: both with custom boundaries, or neither. */
bool histogram_sum_takes(const struct histogram_sum *s, const struct histogram *h);
/* S must be set and take H. NOTES is added to, may be NULL. */
WARN_UNUSED errc histogram_sum_add(struct histogram_sum *s, const struct histogram *h,
				   struct histogram_notes *notes, struct err *e);
/* The hint is joined as in an addition; callers that subtract in the end make it a gauge. */
WARN_UNUSED errc histogram_sum_sub(struct histogram_sum *s, const struct histogram *h,
				   struct histogram_notes *notes, struct err *e);
void histogram_sum_mul(struct histogram_sum *s, double factor);
void histogram_sum_div(struct histogram_sum *s, double divisor);
/* To a coarser exponential schema; no effect when it is that coarse already. */
void histogram_sum_to_schema(struct histogram_sum *s, int32_t schema);
WARN_UNUSED errc histogram_sum_result(const struct histogram_sum *s, struct arena *arena,
				      struct histogram **ret, struct err *e);
/* Heap bytes it holds, to be charged by who keeps many. */
size_t histogram_sum_bytes(const struct histogram_sum *s);

/* ---- What is read off. */

/* What a quantile or fraction has met, for annotations. */
enum histogram_nan {
	HISTOGRAM_NAN_NONE,
	HISTOGRAM_NAN_RESULT, /* NaN observations: the result is NaN */
	HISTOGRAM_NAN_SKEW,   /* NaN observations: the quantile is skewed higher, the fraction
			       * leaves them out */
};

/* Interpolated, linearly in the zero bucket and with custom boundaries, else exponentially. */
double histogram_quantile(const struct histogram *h, double q, enum histogram_nan *ret_nan);
/* Of the observations in [LOWER, UPPER]. */
double histogram_fraction(const struct histogram *h, double lower, double upper,
			  enum histogram_nan *ret_nan);
/* The estimated variance, with the middle of each bucket. */
double histogram_variance(const struct histogram *h);

/* ---- Classic histograms: cumulative counters by upper boundary. */

struct histogram_classic_bucket {
	double upper, count;
};

/* What had to be mended in the input of a quantile. */
struct histogram_mended {
	bool monotonicity;                  /* a count decreased by more than rounding */
	bool precision;                     /* counts differed by rounding only */
	double lowest, highest, difference; /* with monotonicity: between which boundaries, and by
					     * how much at most */
};

/* BUCKETS are sorted, joined and made monotonic in place. NaN without a +Inf bucket. */
double histogram_classic_quantile(struct histogram_classic_bucket *buckets, size_t count, double q,
				  struct histogram_mended *ret_mended);
double histogram_classic_fraction(struct histogram_classic_bucket *buckets, size_t count,
				  double lower, double upper);
