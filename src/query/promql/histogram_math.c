#include "query/promql/histogram_math.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "query/promql/histogram_math_internal.h"

bool histogram_is_custom(const struct histogram *h)
{
	return h->schema == HISTOGRAM_SCHEMA_CUSTOM;
}

bool histogram_compatible(const struct histogram *a, const struct histogram *b)
{
	return histogram_is_custom(a) == histogram_is_custom(b);
}

/* ---- Boundaries. */

double histogram_schema_bound(int32_t schema, int64_t index)
{
	/* The bucket of the largest finite doubles ends at them, not at 2^1024, so that it differs
	 * from the one of the infinite observations. */
	if (schema <= 0) {
		double exponent = ldexp((double)index, -schema);
		if (exponent >= 1024)
			return exponent > 1024 ? (double)INFINITY : DBL_MAX;
		return ldexp(1, (int)exponent);
	}
	int64_t exponent = index >> schema;
	double fraction = ldexp((double)(index & ((1 << schema) - 1)), -schema);
	if (exponent >= 1024)
		return exponent == 1024 && fraction == 0 ? DBL_MAX : (double)INFINITY;
	return ldexp(exp2(fraction), (int)exponent);
}

double histogram_bound(const struct histogram *h, int64_t index)
{
	if (!histogram_is_custom(h))
		return histogram_schema_bound(h->schema, index);
	if (index < 0)
		return -(double)INFINITY;
	return index < h->custom_bound_count ? h->custom_bounds[index] : (double)INFINITY;
}

bool histogram_bounds_equal(const struct histogram *a, const struct histogram *b)
{
	if (a->custom_bound_count != b->custom_bound_count)
		return false;
	for (uint32_t i = 0; i < a->custom_bound_count; i++)
		if (a->custom_bounds[i] != b->custom_bounds[i])
			return false;
	return true;
}

uint32_t histogram_common_bounds(const double *a, uint32_t a_count, const double *b,
				 uint32_t b_count, double *common)
{
	uint32_t n = 0;
	for (uint32_t i = 0, j = 0; i < a_count && j < b_count;) {
		if (a[i] == b[j]) {
			common[n++] = a[i++];
			j++;
		} else if (a[i] < b[j]) {
			i++;
		} else {
			j++;
		}
	}
	return n;
}

int64_t histogram_common_index(const double *bounds, uint32_t count, int64_t index,
			       const double *common, uint32_t common_count)
{
	if (index >= count)
		return common_count;
	uint32_t low = 0, high = common_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (common[middle] >= bounds[index])
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* ---- The iterator. */

static void begin_side(struct histogram_iterator *it, const struct histogram_side *side,
		       bool downwards)
{
	it->side = side;
	it->span = downwards ? side->span_count : 0;
	it->in_span = 0;
	it->bucket = downwards ? side->bucket_count : 0;
	it->index = 0;
	if (downwards)
		for (uint32_t i = 0; i < side->span_count; i++)
			it->index += side->spans[i].offset + (int64_t)side->spans[i].length;
}

void histogram_iterator_init(struct histogram_iterator *it, const struct histogram *h, bool reverse)
{
	*it = (struct histogram_iterator){ .h = h, .reverse = reverse };
	/* values ascend with the indices of the positive side, descend with the negative one's */
	begin_side(it, reverse ? &h->positive : &h->negative, true);
}

static bool step_down(struct histogram_iterator *it, int64_t *ret_index, double *ret_count)
{
	if (it->bucket == 0)
		return false;
	while (it->in_span == 0) {
		/* in_span counts what is left of the span that was entered last */
		if (it->span < it->side->span_count)
			it->index -= it->side->spans[it->span].offset;
		it->in_span = it->side->spans[--it->span].length;
	}
	it->in_span--;
	*ret_index = --it->index;
	*ret_count = it->side->buckets[--it->bucket];
	return true;
}

static bool step_up(struct histogram_iterator *it, int64_t *ret_index, double *ret_count)
{
	struct histogram_walk w = { it->side, it->span, it->in_span, it->bucket, it->index };
	bool more = histogram_walk_next(&w, ret_index, ret_count);
	it->span = w.span;
	it->in_span = w.in_span;
	it->bucket = w.bucket;
	it->index = w.index;
	return more;
}

static struct histogram_bucket bucket_at(const struct histogram *h, bool positive, int64_t index,
					 double count)
{
	double upper = histogram_bound(h, index), lower = histogram_bound(h, index - 1);
	struct histogram_bucket b = { .count = count, .index = (int32_t)index };
	b.lower = positive ? lower : -upper;
	b.upper = positive ? upper : -lower;
	if (histogram_is_custom(h)) {
		b.lower_inclusive = index == 0;
		b.upper_inclusive = true;
		return b;
	}
	b.lower_inclusive = b.lower < 0;
	b.upper_inclusive = b.upper > 0;
	if (b.upper < 0 && b.upper > -h->zero_threshold)
		b.upper = -h->zero_threshold;
	else if (b.lower > 0 && b.lower < h->zero_threshold)
		b.lower = h->zero_threshold;
	return b;
}

bool histogram_iterator_next(struct histogram_iterator *it, struct histogram_bucket *ret)
{
	const struct histogram *h = it->h;
	int64_t index;
	double count;
	if (it->stage == 0) {
		if (step_down(it, &index, &count)) {
			*ret = bucket_at(h, it->reverse, index, count);
			return true;
		}
		it->stage = 1;
	}
	if (it->stage == 1) {
		begin_side(it, it->reverse ? &h->negative : &h->positive, false);
		it->stage = 2;
		if (h->zero_count > 0) {
			*ret = (struct histogram_bucket){
				-h->zero_threshold, h->zero_threshold, h->zero_count, 0, true, true
			};
			return true;
		}
	}
	if (it->stage == 2 && step_up(it, &index, &count)) {
		*ret = bucket_at(h, !it->reverse, index, count);
		return true;
	}
	it->stage = 3;
	return false;
}

/* ---- One operation on two. */

static errc combine(struct arena *arena, const struct histogram *a, const struct histogram *b,
		    bool subtract, struct histogram_notes *notes, struct histogram **ret,
		    struct err *e)
{
	CLEANUP(histogram_sum_done) struct histogram_sum s = { 0 };
	TRY(histogram_sum_set(&s, a, e));
	if (!subtract) {
		TRY(histogram_sum_add(&s, b, notes, e));
	} else {
		TRY(histogram_sum_sub(&s, b, notes, e));
		s.reset = HISTOGRAM_RESET_GAUGE;
	}
	return histogram_sum_result(&s, arena, ret, e);
}

errc histogram_add(struct arena *arena, const struct histogram *a, const struct histogram *b,
		   struct histogram_notes *notes, struct histogram **ret, struct err *e)
{
	return combine(arena, a, b, false, notes, ret, e);
}

errc histogram_sub(struct arena *arena, const struct histogram *a, const struct histogram *b,
		   struct histogram_notes *notes, struct histogram **ret, struct err *e)
{
	return combine(arena, a, b, true, notes, ret, e);
}

errc histogram_mul(struct arena *arena, const struct histogram *h, double factor,
		   struct histogram **ret, struct err *e)
{
	CLEANUP(histogram_sum_done) struct histogram_sum s = { 0 };
	TRY(histogram_sum_set(&s, h, e));
	histogram_sum_mul(&s, factor);
	return histogram_sum_result(&s, arena, ret, e);
}

errc histogram_div(struct arena *arena, const struct histogram *h, double divisor,
		   struct histogram **ret, struct err *e)
{
	CLEANUP(histogram_sum_done) struct histogram_sum s = { 0 };
	TRY(histogram_sum_set(&s, h, e));
	histogram_sum_div(&s, divisor);
	return histogram_sum_result(&s, arena, ret, e);
}

errc histogram_to_schema(struct arena *arena, const struct histogram *h, int32_t schema,
			 struct histogram **ret, struct err *e)
{
	CLEANUP(histogram_sum_done) struct histogram_sum s = { 0 };
	must(!histogram_is_custom(h) && schema <= h->schema);
	TRY(histogram_sum_set(&s, h, e));
	histogram_sum_to_schema(&s, schema);
	return histogram_sum_result(&s, arena, ret, e);
}

errc histogram_compact(struct arena *arena, const struct histogram *h, struct histogram **ret,
		       struct err *e)
{
	CLEANUP(histogram_sum_done) struct histogram_sum s = { 0 };
	TRY(histogram_sum_set(&s, h, e));
	return histogram_sum_result(&s, arena, ret, e);
}

/* ---- Comparisons. */

static bool same_bits(double a, double b)
{
	return memcmp(&a, &b, sizeof(a)) == 0;
}

static bool side_equals(const struct histogram_side *a, const struct histogram_side *b)
{
	if (a->bucket_count != b->bucket_count)
		return false;
	struct histogram_walk wa = histogram_walk_init(a), wb = histogram_walk_init(b);
	int64_t ia, ib;
	double ca, cb;
	while (histogram_walk_next(&wa, &ia, &ca) && histogram_walk_next(&wb, &ib, &cb))
		if (ia != ib || !same_bits(ca, cb))
			return false;
	return true;
}

bool histogram_equals(const struct histogram *a, const struct histogram *b)
{
	return a->schema == b->schema && same_bits(a->count, b->count) &&
	       same_bits(a->sum, b->sum) &&
	       (!histogram_is_custom(a) || histogram_bounds_equal(a, b)) &&
	       a->zero_threshold == b->zero_threshold && same_bits(a->zero_count, b->zero_count) &&
	       side_equals(&a->negative, &b->negative) && side_equals(&a->positive, &b->positive);
}

/* What of SIDE lies within THRESHOLD; false when that cuts a populated bucket, whose upper boundary
 * *THRESHOLD becomes. */
static bool side_within(const struct histogram *h, const struct histogram_side *side,
			double *threshold, double *count)
{
	struct histogram_walk w = histogram_walk_init(side);
	int64_t index;
	double c;
	while (histogram_walk_next(&w, &index, &c)) {
		if (histogram_schema_bound(h->schema, index - 1) >= *threshold)
			break;
		*count += c;
		double upper = histogram_schema_bound(h->schema, index);
		if (upper > *threshold) {
			if (c != 0) {
				*threshold = upper;
				return false;
			}
			break;
		}
	}
	return true;
}

double histogram_zero_count_within(const struct histogram *h, double *threshold)
{
	if (*threshold == h->zero_threshold)
		return h->zero_count;
	for (;;) {
		double count = h->zero_count;
		/* the bucket that the threshold was moved over is in the count already */
		side_within(h, &h->positive, threshold, &count);
		if (side_within(h, &h->negative, threshold, &count))
			return count;
	}
}

/* The buckets of one side as the coarser histogram of the two has them, the ones within the zero
 * bucket left out. */
struct coarse_walk {
	const struct histogram *h;
	struct histogram_walk walk;
	int32_t schema;
	double threshold;
	const double *common; /* custom boundaries to map to; NULL when they are the same */
	uint32_t common_count;
	bool pending;
	int64_t next_index;
	double next_count;
};

static bool coarse_raw(struct coarse_walk *c)
{
	int64_t index;
	while (histogram_walk_next(&c->walk, &index, &c->next_count)) {
		c->next_index = index;
		if (histogram_is_custom(c->h)) {
			if (c->common)
				c->next_index = histogram_common_index(
					c->h->custom_bounds, c->h->custom_bound_count, index,
					c->common, c->common_count);
			return true;
		}
		if (c->threshold > 0 && histogram_schema_bound(c->h->schema, index) <= c->threshold)
			continue;
		c->next_index = histogram_coarser_index(index, c->h->schema, c->schema);
		return true;
	}
	return false;
}

static bool coarse_next(struct coarse_walk *c, int64_t *ret_index, double *ret_count)
{
	if (!c->pending && !coarse_raw(c))
		return false;
	*ret_index = c->next_index;
	*ret_count = c->next_count;
	while ((c->pending = coarse_raw(c)) && c->next_index == *ret_index)
		*ret_count += c->next_count;
	return true;
}

/* Whether both have the same buckets and all of them count, as is usual. */
static bool same_buckets(const struct coarse_walk *a, const struct coarse_walk *b)
{
	const struct histogram_side *x = a->walk.side, *y = b->walk.side;
	if (a->h->schema != b->h->schema || a->common || x->bucket_count != y->bucket_count ||
	    x->span_count != y->span_count || !x->span_count ||
	    memcmp(x->spans, y->spans, x->span_count * sizeof(*x->spans)) != 0)
		return false;
	return histogram_is_custom(a->h) || a->threshold == 0 ||
	       histogram_schema_bound(a->h->schema, x->spans[0].offset) > a->threshold;
}

static bool side_reset(struct coarse_walk *now, struct coarse_walk *before)
{
	if (same_buckets(now, before)) {
		const double *a = now->walk.side->buckets, *b = before->walk.side->buckets;
		for (uint32_t i = 0; i < now->walk.side->bucket_count; i++)
			if (a[i] < b[i])
				return true;
		return false;
	}
	int64_t now_index = 0, before_index;
	double now_count = 0, before_count;
	bool more = coarse_next(now, &now_index, &now_count);
	while (coarse_next(before, &before_index, &before_count)) {
		while (more && now_index < before_index)
			more = coarse_next(now, &now_index, &now_count);
		if (!more || now_index != before_index) {
			if (before_count != 0)
				return true;
		} else if (now_count < before_count) {
			return true;
		}
	}
	return false;
}

static struct coarse_walk coarse_walk(const struct histogram *h, const struct histogram_side *side,
				      int32_t schema, double threshold)
{
	return (struct coarse_walk){
		.h = h, .walk = histogram_walk_init(side), .schema = schema, .threshold = threshold
	};
}

static bool custom_reset(const struct histogram *h, const struct histogram *previous)
{
	/* the common ones are among those of either; both are within the limit of input */
	double common[256], *bounds = common;
	if (h->custom_bound_count > ARRAY_COUNT(common))
		bounds = must_calloc(h->custom_bound_count, sizeof(*bounds));
	uint32_t count = histogram_common_bounds(h->custom_bounds, h->custom_bound_count,
						 previous->custom_bounds,
						 previous->custom_bound_count, bounds);
	struct coarse_walk now = coarse_walk(h, &h->positive, h->schema, 0);
	struct coarse_walk before = coarse_walk(previous, &previous->positive, h->schema, 0);
	if (!histogram_bounds_equal(h, previous)) {
		now.common = before.common = bounds;
		now.common_count = before.common_count = count;
	}
	bool reset = side_reset(&now, &before);
	if (bounds != common)
		free(bounds);
	return reset;
}

bool histogram_detect_reset(const struct histogram *h, const struct histogram *previous)
{
	if (h->reset == HISTOGRAM_RESET_YES || h->reset == HISTOGRAM_RESET_NO)
		return h->reset == HISTOGRAM_RESET_YES;
	if (h->count < previous->count || !histogram_compatible(h, previous))
		return true;
	if (histogram_is_custom(h))
		return custom_reset(h, previous);
	if (h->schema > previous->schema || h->zero_threshold < previous->zero_threshold)
		return true;
	double threshold = h->zero_threshold;
	double zero_count = histogram_zero_count_within(previous, &threshold);
	if (threshold != h->zero_threshold || h->zero_count < zero_count)
		return true;
	struct coarse_walk now = coarse_walk(h, &h->positive, h->schema, threshold);
	struct coarse_walk before = coarse_walk(previous, &previous->positive, h->schema,
						threshold);
	if (side_reset(&now, &before))
		return true;
	now = coarse_walk(h, &h->negative, h->schema, threshold);
	before = coarse_walk(previous, &previous->negative, h->schema, threshold);
	return side_reset(&now, &before);
}
