#include "metrics/histogram.h"

#include <math.h>
#include <string.h>

#include "base/checks.h"

/* Populations are sums of floats at times, so that their total may be off by rounding. */
static bool nearly(double a, double b)
{
	double scale = fabs(a) > fabs(b) ? fabs(a) : fabs(b);
	return a == b || fabs(a - b) <= 1e-6 * scale || (isinf(a) && isinf(b));
}

static errc check_side(const struct histogram_side *side, const char *which, bool custom,
		       uint32_t bound_count, double *total, struct err *e)
{
	uint64_t buckets = 0;
	int64_t index = 0;
	if (side->span_count > HISTOGRAM_BUCKETS_MAX || side->bucket_count > HISTOGRAM_BUCKETS_MAX)
		FAIL(e, ERR_INVALID, "the %s side of a histogram has more than %d buckets", which,
		     HISTOGRAM_BUCKETS_MAX);
	for (uint32_t i = 0; i < side->span_count; i++) {
		const struct histogram_span *s = &side->spans[i];
		if ((i || custom) && s->offset < 0)
			FAIL(e, ERR_INVALID,
			     "span %u of the %s side of a histogram has a negative offset", i + 1,
			     which);
		buckets += s->length;
		index += (int64_t)s->offset + s->length;
		if (index > INT32_MAX || index < INT32_MIN)
			FAIL(e, ERR_INVALID, "a span of the %s side of a histogram is out of range",
			     which);
	}
	if (buckets != side->bucket_count)
		FAIL(e, ERR_INVALID,
		     "the spans of the %s side of a histogram hold %llu buckets, but %u are there",
		     which, (unsigned long long)buckets, side->bucket_count);
	if (custom && index > (int64_t)bound_count + 1)
		FAIL(e, ERR_INVALID, "a histogram has more buckets than its %u boundaries make",
		     bound_count);
	for (uint32_t i = 0; i < side->bucket_count; i++) {
		if (side->buckets[i] < 0)
			FAIL(e, ERR_INVALID, "bucket %u of the %s side of a histogram is negative",
			     i + 1, which);
		*total += side->buckets[i];
	}
	return OK;
}

static errc check_custom(const struct histogram *h, struct err *e)
{
	if (h->custom_bound_count > HISTOGRAM_BUCKETS_MAX)
		FAIL(e, ERR_INVALID, "a histogram has more than %d boundaries",
		     HISTOGRAM_BUCKETS_MAX);
	for (uint32_t i = 0; i < h->custom_bound_count; i++)
		if (isnan(h->custom_bounds[i]) ||
		    (i && h->custom_bounds[i] <= h->custom_bounds[i - 1]) ||
		    h->custom_bounds[i] == (double)INFINITY)
			FAIL(e, ERR_INVALID, "boundary %u of a histogram does not ascend", i + 1);
	if (h->negative.span_count || h->negative.bucket_count || h->zero_count != 0 ||
	    h->zero_threshold != 0)
		FAIL(e, ERR_INVALID,
		     "a histogram with custom boundaries has a zero bucket or a negative side");
	return OK;
}

errc histogram_check(const struct histogram *h, struct err *e)
{
	bool custom = h->schema == HISTOGRAM_SCHEMA_CUSTOM;
	double total = h->zero_count;
	if (!custom && (h->schema < HISTOGRAM_SCHEMA_MIN || h->schema > HISTOGRAM_SCHEMA_MAX))
		FAIL(e, ERR_INVALID, "a histogram has the schema %d; known are -4 to 8 and -53",
		     h->schema);
	if ((unsigned)h->reset > HISTOGRAM_RESET_GAUGE)
		FAIL(e, ERR_INVALID, "a histogram has an unknown counter reset hint");
	if (custom)
		TRY(check_custom(h, e));
	else if (h->custom_bound_count)
		FAIL(e, ERR_INVALID, "a histogram with exponential buckets has custom boundaries");
	TRY(check_side(&h->positive, "positive", custom, h->custom_bound_count, &total, e));
	TRY(check_side(&h->negative, "negative", custom, h->custom_bound_count, &total, e));
	if (h->zero_count < 0 || h->count < 0 || h->zero_threshold < 0 || isnan(h->zero_threshold))
		FAIL(e, ERR_INVALID, "a histogram has a negative count or zero bucket");
	/* With observations of NaN, which are in no bucket, the count is larger. */
	if (isnan(h->sum) ? total > h->count && !nearly(total, h->count) : !nearly(total, h->count))
		FAIL(e, ERR_INVALID, "the buckets of a histogram add up to %g, but its count is %g",
		     total, h->count);
	return OK;
}

static bool doubles_eq(const double *a, const double *b, size_t count)
{
	return count == 0 || memcmp(a, b, count * sizeof(*a)) == 0;
}

static bool side_eq(const struct histogram_side *a, const struct histogram_side *b)
{
	return a->span_count == b->span_count && a->bucket_count == b->bucket_count &&
	       (a->span_count == 0 ||
		memcmp(a->spans, b->spans, a->span_count * sizeof(*a->spans)) == 0) &&
	       doubles_eq(a->buckets, b->buckets, a->bucket_count);
}

bool histogram_eq(const struct histogram *a, const struct histogram *b)
{
	return a->schema == b->schema && a->reset == b->reset &&
	       doubles_eq(&a->zero_threshold, &b->zero_threshold, 1) &&
	       doubles_eq(&a->zero_count, &b->zero_count, 1) &&
	       doubles_eq(&a->count, &b->count, 1) && doubles_eq(&a->sum, &b->sum, 1) &&
	       side_eq(&a->positive, &b->positive) && side_eq(&a->negative, &b->negative) &&
	       a->custom_bound_count == b->custom_bound_count &&
	       doubles_eq(a->custom_bounds, b->custom_bounds, a->custom_bound_count);
}

static const void *copy_array(struct arena *a, const void *items, size_t count, size_t size)
{
	void *copy = count ? arena_array(a, count, size) : NULL;
	if (copy)
		memcpy(copy, items, count * size);
	return copy;
}

static struct histogram_side copy_side(struct arena *a, const struct histogram_side *side)
{
	struct histogram_side copy = *side;
	copy.spans = copy_array(a, side->spans, side->span_count, sizeof(*side->spans));
	copy.buckets = copy_array(a, side->buckets, side->bucket_count, sizeof(*side->buckets));
	copy.span_count = copy.spans ? side->span_count : 0;
	copy.bucket_count = copy.buckets ? side->bucket_count : 0;
	return copy;
}

struct histogram *histogram_copy(struct arena *a, const struct histogram *h)
{
	struct histogram *copy = arena_alloc(a, sizeof(*copy));
	if (!copy)
		return NULL;
	*copy = *h;
	copy->positive = copy_side(a, &h->positive);
	copy->negative = copy_side(a, &h->negative);
	copy->custom_bounds = copy_array(a, h->custom_bounds, h->custom_bound_count,
					 sizeof(double));
	if (!copy->custom_bounds)
		copy->custom_bound_count = 0;
	return a->overflow ? NULL : copy;
}
