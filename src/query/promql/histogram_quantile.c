#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/checks.h"
#include "query/promql/histogram_math_internal.h"

/* ---- Native histograms. */

/* Where a bucket begins and ends for interpolation: one around zero only on the sides that have
 * observations. */
static void cut_at_zero(const struct histogram *h, struct histogram_bucket *b)
{
	if (h->negative.bucket_count == 0 && h->positive.bucket_count > 0)
		b->lower = 0;
	else if (h->positive.bucket_count == 0 && h->negative.bucket_count > 0)
		b->upper = 0;
}

/* The value at FRACTION of the way through the bucket: linear, or linear on a logarithmic scale,
 * on which all exponential buckets have one width. */
static double interpolate(const struct histogram *h, const struct histogram_bucket *b,
			  double fraction)
{
	if (histogram_is_custom(h) || (b->lower <= 0 && b->upper >= 0))
		return b->lower + (b->upper - b->lower) * fraction;
	double lower = log2(fabs(b->lower)), upper = log2(fabs(b->upper));
	if (b->lower > 0)
		return exp2(lower + (upper - lower) * fraction);
	return -exp2(upper + (lower - upper) * (1 - fraction));
}

double histogram_quantile(const struct histogram *h, double q, enum histogram_nan *ret_nan)
{
	*ret_nan = HISTOGRAM_NAN_NONE;
	if (q < 0)
		return -(double)INFINITY;
	if (q > 1)
		return (double)INFINITY;
	if (h->count == 0 || isnan(q))
		return (double)NAN;
	/* NaN observations are in the count and in no bucket: then only counting upwards is right
	 */
	bool upwards = isnan(h->sum) || q < 0.5;
	double rank = (upwards ? q : 1 - q) * h->count, count = 0;
	struct histogram_iterator it;
	struct histogram_bucket b = { 0 }, next;
	histogram_iterator_init(&it, h, !upwards);
	while (count < rank || b.count == 0) {
		if (!histogram_iterator_next(&it, &next))
			break;
		if (next.count == 0) {
			b = next;
			continue;
		}
		b = next;
		count += b.count;
	}
	if (!histogram_is_custom(h)) {
		if (b.lower < 0 && b.upper > 0)
			cut_at_zero(h, &b);
	} else if (isinf(b.lower)) {
		if (b.upper <= 0)
			return b.upper;
		b.lower = 0;
	} else if (isinf(b.upper)) {
		return b.lower;
	}
	if (count > h->count)
		count = h->count;
	if (count < rank) {
		if (!isnan(h->sum))
			return b.upper;
		*ret_nan = HISTOGRAM_NAN_RESULT;
		return (double)NAN;
	}
	rank = upwards ? rank - (count - b.count) : count - rank;
	double result = interpolate(h, &b, rank / b.count);
	if (isnan(h->sum)) {
		while (histogram_iterator_next(&it, &next))
			count += next.count;
		if (h->count - count > 0)
			*ret_nan = HISTOGRAM_NAN_SKEW;
	}
	return result;
}

/* How many observations of the bucket are below V, which lies within it. */
static double below(const struct histogram *h, const struct histogram_bucket *b, bool around_zero,
		    double v)
{
	if (histogram_is_custom(h) || around_zero) {
		if (isinf(b->lower))
			return b->count; /* nothing is known of their distribution */
		return b->count * (v - b->lower) / (b->upper - b->lower);
	}
	double lower = log2(fabs(b->lower)), upper = log2(fabs(b->upper)), at = log2(fabs(v));
	if (v > 0)
		return b->count * ((at - lower) / (upper - lower));
	return b->count * (1 - (at - upper) / (lower - upper));
}

double histogram_fraction(const struct histogram *h, double lower, double upper,
			  enum histogram_nan *ret_nan)
{
	*ret_nan = HISTOGRAM_NAN_NONE;
	if (h->count == 0 || isnan(lower) || isnan(upper))
		return (double)NAN;
	if (lower >= upper)
		return 0;
	struct histogram_iterator it;
	struct histogram_bucket b;
	double rank = 0, ranks[2] = { 0, 0 }, bounds[2] = { lower, upper };
	bool found[2] = { false, false };
	histogram_iterator_init(&it, h, false);
	while (histogram_iterator_next(&it, &b)) {
		bool around_zero = b.lower <= 0 && b.upper >= 0;
		if (around_zero)
			cut_at_zero(h, &b);
		for (int k = 0; k < 2; k++) {
			if (found[k] || !(b.lower >= bounds[k] || b.upper > bounds[k]))
				continue;
			ranks[k] = rank;
			if (b.lower < bounds[k])
				ranks[k] += below(h, &b, around_zero, bounds[k]);
			found[k] = true;
		}
		rank += b.count;
	}
	double count = h->count;
	if (isnan(h->sum) && rank < count) {
		*ret_nan = HISTOGRAM_NAN_SKEW;
		count = rank;
	}
	for (int k = 0; k < 2; k++)
		if (!found[k] || ranks[k] > count)
			ranks[k] = count;
	return (ranks[1] - ranks[0]) / h->count;
}

double histogram_variance(const struct histogram *h)
{
	double mean = h->sum / h->count, variance = 0, compensation = 0;
	struct histogram_iterator it;
	struct histogram_bucket b;
	histogram_iterator_init(&it, h, false);
	while (histogram_iterator_next(&it, &b)) {
		if (b.count == 0)
			continue;
		double middle = 0;
		if (histogram_is_custom(h))
			middle = (b.upper + b.lower) / 2;
		else if (b.lower > 0 || b.upper < 0)
			middle = copysign(sqrt(b.upper * b.lower), b.upper);
		double value = b.count * (middle - mean) * (middle - mean), t = variance + value;
		if (isinf(t))
			compensation = 0;
		else if (fabs(variance) >= fabs(value))
			compensation += (variance - t) + value;
		else
			compensation += (value - t) + variance;
		variance = t;
	}
	return (variance + compensation) / h->count;
}

/* ---- The operators that trim. */

static double middle_of(double lower, double upper, bool linear)
{
	if (isinf(lower)) {
		if (isinf(upper))
			return 0;
		return upper > 0 ? upper / 2 : upper;
	}
	if (isinf(upper))
		return lower;
	if (linear)
		return (lower + upper) / 2;
	return copysign(sqrt(fabs(lower * upper)), upper > 0 ? 1 : -1);
}

/* What is left of a bucket that LIMIT cuts, one of whose boundaries is infinite: only custom
 * boundaries and the bucket of infinities have that. */
static double trim_infinite(const struct histogram_bucket *b, double limit, bool upper,
			    double *ret_middle)
{
	*ret_middle = 0;
	bool from_zero = isinf(b->lower) && b->upper > 0 && !isinf(b->upper);
	if (upper) {
		if (from_zero && limit > 0) {
			*ret_middle = limit / 2;
			return b->count * limit / b->upper;
		}
		if (isinf(b->lower) && b->upper <= 0) {
			*ret_middle = limit;
			return b->count;
		}
		return 0; /* where in it the observations are is not known */
	}
	if (isinf(b->lower)) {
		if (!from_zero || limit < 0)
			return 0;
		*ret_middle = (limit + b->upper) / 2;
		return b->count * (1 - limit / b->upper);
	}
	*ret_middle = limit;
	return b->count;
}

static double trim_zero(const struct histogram *h, double limit, bool upper, double *ret_middle)
{
	struct histogram_bucket b = { .lower = -h->zero_threshold, .upper = h->zero_threshold };
	cut_at_zero(h, &b);
	*ret_middle = 0;
	if (upper ? limit <= b.lower : limit >= b.upper)
		return 0;
	if (upper ? limit >= b.upper : limit <= b.lower) {
		*ret_middle = (b.lower + b.upper) / 2;
		return h->zero_count;
	}
	double kept = upper ? limit - b.lower : b.upper - limit;
	*ret_middle = (limit + (upper ? b.lower : b.upper)) / 2;
	return h->zero_count * (kept / (b.upper - b.lower));
}

/* How much of a bucket stays, and around which value. */
static double trim_bucket(const struct histogram *h, const struct histogram_bucket *b, double limit,
			  bool upper, double *ret_middle)
{
	bool linear = histogram_is_custom(h);
	*ret_middle = middle_of(b->lower, b->upper, linear);
	if (upper ? b->upper <= limit : b->lower >= limit)
		return b->count;
	if (upper ? !(b->lower < limit) : !(b->upper > limit))
		return 0;
	if (isinf(b->lower) || isinf(b->upper))
		return trim_infinite(b, limit, upper, ret_middle);
	double under = below(h, b, false, limit);
	*ret_middle = upper ? middle_of(b->lower, limit, linear)
			    : middle_of(limit, b->upper, linear);
	return upper ? under : b->count - under;
}

errc histogram_trim(struct arena *arena, const struct histogram *h, double limit, bool upper,
		    struct histogram **ret, struct err *e)
{
	CLEANUP(histogram_sum_done) struct histogram_sum s = { 0 };
	TRY(histogram_sum_set(&s, h, e));
	double count = 0, sum = 0, middle;
	bool trimmed = false;
	struct histogram_sum_side *sides[] = { &s.negative, &s.positive };
	for (size_t k = 0; k < ARRAY_COUNT(sides); k++)
		for (uint32_t i = 0; i < sides[k]->count; i++) {
			int64_t index = sides[k]->indices[i];
			double high = histogram_bound(h, index),
			       low = histogram_bound(h, index - 1);
			struct histogram_bucket b = { .count = sides[k]->counts[i] };
			b.lower = k ? low : -high;
			b.upper = k ? high : -low;
			if (b.count == 0)
				continue;
			double kept = trim_bucket(h, &b, limit, upper, &middle);
			trimmed |= kept != b.count || (upper ? b.upper > limit : b.lower < limit);
			sides[k]->counts[i] = kept;
			count += kept;
			sum += kept * middle;
		}
	if (h->zero_count > 0) {
		s.zero_count = trim_zero(h, limit, upper, &middle);
		trimmed |= s.zero_count != h->zero_count;
		count += s.zero_count;
		sum += s.zero_count * middle;
	}
	/* untouched, it keeps its exact sum */
	if (trimmed) {
		s.count = count;
		s.sum = sum;
	}
	return histogram_sum_result(&s, arena, ret, e);
}

/* ---- Classic histograms. */

static int by_upper(const void *a, const void *b)
{
	double x = ((const struct histogram_classic_bucket *)a)->upper;
	double y = ((const struct histogram_classic_bucket *)b)->upper;
	return x < y ? -1 : x > y;
}

/* Sort by boundary and add up what has the same one; returns how many are left. */
static size_t join_classic(struct histogram_classic_bucket *b, size_t count)
{
	size_t n = 0;
	bool sorted = true;
	for (size_t i = 1; i < count; i++)
		sorted &= b[i - 1].upper <= b[i].upper;
	if (!sorted)
		qsort(b, count, sizeof(*b), by_upper);
	for (size_t i = 0; i < count; i++) {
		if (n > 0 && b[n - 1].upper == b[i].upper)
			b[n - 1].count += b[i].count;
		else
			b[n++] = b[i];
	}
	return n;
}

/* Equal but for what floating-point sums leave. */
static bool almost_equal(double a, double b)
{
	const double tolerance = 1e-12;
	if ((isnan(a) && isnan(b)) || a == b)
		return true;
	double sum = fabs(a) + fabs(b), difference = fabs(a - b);
	if (a == 0 || b == 0 || sum < DBL_MIN)
		return difference < tolerance * DBL_MIN;
	return difference / fmin(sum, DBL_MAX) < tolerance;
}

static void mend(struct histogram_classic_bucket *b, size_t count, struct histogram_mended *mended)
{
	double before = b[0].count;
	for (size_t i = 1; i < count; i++) {
		if (b[i].count == before)
			continue;
		if (almost_equal(before, b[i].count)) {
			b[i].count = before;
			mended->precision = true;
		} else if (b[i].count < before) {
			if (!mended->monotonicity)
				mended->lowest = b[i].upper;
			mended->monotonicity = true;
			mended->highest = b[i].upper;
			mended->difference = fmax(mended->difference, before - b[i].count);
			b[i].count = before;
		} else {
			before = b[i].count;
		}
	}
}

double histogram_classic_quantile(struct histogram_classic_bucket *buckets, size_t count, double q,
				  struct histogram_mended *ret_mended)
{
	*ret_mended = (struct histogram_mended){ 0 };
	if (isnan(q))
		return (double)NAN;
	if (q < 0)
		return -(double)INFINITY;
	if (q > 1)
		return (double)INFINITY;
	size_t n = join_classic(buckets, count);
	if (n == 0 || !(isinf(buckets[n - 1].upper) && buckets[n - 1].upper > 0))
		return (double)NAN;
	mend(buckets, n, ret_mended);
	double observations = buckets[n - 1].count;
	if (n < 2 || observations == 0)
		return (double)NAN;
	double rank = q * observations;
	size_t low = 0, high = n - 1;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (buckets[middle].count >= rank)
			high = middle;
		else
			low = middle + 1;
	}
	if (low == n - 1)
		return buckets[n - 2].upper;
	if (low == 0 && buckets[0].upper <= 0)
		return buckets[0].upper;
	double start = 0, within = buckets[low].count;
	if (low > 0) {
		start = buckets[low - 1].upper;
		within -= buckets[low - 1].count;
		rank -= buckets[low - 1].count;
	}
	return start + (buckets[low].upper - start) * (rank / within);
}

double histogram_classic_fraction(struct histogram_classic_bucket *buckets, size_t count,
				  double lower, double upper)
{
	size_t n = join_classic(buckets, count);
	if (n == 0 || !(isinf(buckets[n - 1].upper) && buckets[n - 1].upper > 0))
		return (double)NAN;
	double observations = buckets[n - 1].count;
	if (observations == 0 || isnan(lower) || isnan(upper))
		return (double)NAN;
	if (lower >= upper)
		return 0;
	double rank = 0, ranks[2] = { 0, 0 }, bounds[2] = { lower, upper };
	bool found[2] = { false, false };
	for (size_t i = 0; i < n; i++) {
		/* as in quantiles, a first bucket with a positive boundary begins at 0 */
		double start = i > 0 ? buckets[i - 1].upper : -(double)INFINITY;
		if (i == 0 && buckets[0].upper > 0)
			start = 0;
		for (int k = 0; k < 2; k++) {
			if (found[k] || !(start >= bounds[k] || buckets[i].upper > bounds[k]))
				continue;
			ranks[k] = rank;
			if (start < bounds[k])
				ranks[k] = isinf(start)
						   ? buckets[i].count
						   : rank + (buckets[i].count - rank) *
								     (bounds[k] - start) /
								     (buckets[i].upper - start);
			found[k] = true;
		}
		rank = buckets[i].count;
	}
	for (int k = 0; k < 2; k++)
		if (!found[k] || ranks[k] > observations)
			ranks[k] = observations;
	return (ranks[1] - ranks[0]) / observations;
}
