#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "query/promql/histogram_math_internal.h"

/* Neumaier's variant of Kahan's sum. */
static void compensated_add(double value, double *sum, double *compensation)
{
	double t = *sum + value;
	if (isinf(t))
		*compensation = 0;
	else if (fabs(*sum) >= fabs(value))
		*compensation += (*sum - t) + value;
	else
		*compensation += (value - t) + *sum;
	*sum = t;
}

static void add(const struct histogram_sum *s, double value, double *sum, double *compensation)
{
	if (s->compensated)
		compensated_add(value, sum, compensation);
	else
		*sum += value;
}

void histogram_sum_done(struct histogram_sum *s)
{
	free(s->positive.indices);
	free(s->positive.counts);
	free(s->positive.compensations);
	free(s->negative.indices);
	free(s->negative.counts);
	free(s->negative.compensations);
	free(s->bounds);
	*s = (struct histogram_sum){ 0 };
}

size_t histogram_sum_bytes(const struct histogram_sum *s)
{
	return (s->positive.room + s->negative.room) * (sizeof(int32_t) + 2 * sizeof(double)) +
	       s->bound_room * sizeof(double);
}

static errc reserve(struct histogram_sum_side *side, size_t count, struct err *e)
{
	if (count <= side->room)
		return OK;
	if (count > HISTOGRAM_SUM_BUCKETS_MAX)
		FAIL(e, ERR_FAILED,
		     "a histogram of more than %d buckets comes of this: add up fewer histograms, "
		     "or "
		     "coarser ones",
		     HISTOGRAM_SUM_BUCKETS_MAX);
	size_t room = count + count / 2 + 8;
	side->indices = must_realloc(side->indices, room * sizeof(*side->indices));
	side->counts = must_realloc(side->counts, room * sizeof(*side->counts));
	side->compensations = must_realloc(side->compensations, room * sizeof(double));
	side->room = (uint32_t)room;
	return OK;
}

static void set_bounds(struct histogram_sum *s, const double *bounds, uint32_t count)
{
	if (count > s->bound_room) {
		s->bounds = must_realloc(s->bounds, count * sizeof(*s->bounds));
		s->bound_room = count;
	}
	if (count)
		memcpy(s->bounds, bounds, count * sizeof(*bounds));
	s->bound_count = count;
}

static errc set_side(struct histogram_sum_side *into, const struct histogram_side *side,
		     struct err *e)
{
	TRY(reserve(into, side->bucket_count, e));
	struct histogram_walk w = histogram_walk_init(side);
	int64_t index;
	double count;
	into->count = 0;
	while (histogram_walk_next(&w, &index, &count)) {
		into->indices[into->count] = (int32_t)index;
		into->counts[into->count] = count;
		into->compensations[into->count++] = 0;
	}
	return OK;
}

errc histogram_sum_set(struct histogram_sum *s, const struct histogram *h, struct err *e)
{
	TRY(set_side(&s->positive, &h->positive, e));
	TRY(set_side(&s->negative, &h->negative, e));
	set_bounds(s, h->custom_bounds, histogram_is_custom(h) ? h->custom_bound_count : 0);
	s->set = true;
	s->schema = h->schema;
	s->reset = h->reset;
	s->zero_threshold = h->zero_threshold;
	s->zero_count = h->zero_count;
	s->count = h->count;
	s->sum = h->sum;
	s->zero_count_c = s->count_c = s->sum_c = 0;
	return OK;
}

bool histogram_sum_takes(const struct histogram_sum *s, const struct histogram *h)
{
	return (s->schema == HISTOGRAM_SCHEMA_CUSTOM) == histogram_is_custom(h);
}

/* Give bucket I the index INDEX, which is that of bucket *N - 1 or a later one. */
static void refile(const struct histogram_sum *s, struct histogram_sum_side *side, uint32_t i,
		   int64_t index, uint32_t *n)
{
	if (*n > 0 && side->indices[*n - 1] == index) {
		add(s, side->counts[i], &side->counts[*n - 1], &side->compensations[*n - 1]);
		side->compensations[*n - 1] += side->compensations[i];
		return;
	}
	side->indices[*n] = (int32_t)index;
	side->counts[*n] = side->counts[i];
	side->compensations[(*n)++] = side->compensations[i];
}

static void coarsen_side(const struct histogram_sum *s, struct histogram_sum_side *side,
			 int32_t schema)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < side->count; i++)
		refile(s, side, i, histogram_coarser_index(side->indices[i], s->schema, schema),
		       &n);
	side->count = n;
}

void histogram_sum_to_schema(struct histogram_sum *s, int32_t schema)
{
	if (s->schema == HISTOGRAM_SCHEMA_CUSTOM || schema >= s->schema)
		return;
	coarsen_side(s, &s->positive, schema);
	coarsen_side(s, &s->negative, schema);
	s->schema = schema;
}

/* ---- The zero bucket. */

static void trim_side(struct histogram_sum_side *side, int32_t schema, double threshold)
{
	uint32_t first = 0;
	while (first < side->count &&
	       histogram_schema_bound(schema, side->indices[first] - 1) < threshold)
		first++;
	if (first == 0)
		return;
	side->count -= first;
	memmove(side->indices, side->indices + first, side->count * sizeof(*side->indices));
	memmove(side->counts, side->counts + first, side->count * sizeof(*side->counts));
	memmove(side->compensations, side->compensations + first, side->count * sizeof(double));
}

/* As side_within() of histogram_math.c. */
static bool sum_side_within(const struct histogram_sum *s, const struct histogram_sum_side *side,
			    double *threshold, double *count)
{
	for (uint32_t i = 0; i < side->count; i++) {
		if (histogram_schema_bound(s->schema, side->indices[i] - 1) >= *threshold)
			break;
		double c = side->counts[i] + side->compensations[i];
		double upper = histogram_schema_bound(s->schema, side->indices[i]);
		*count += c;
		if (upper > *threshold && c != 0) {
			*threshold = upper;
			return false;
		}
	}
	return true;
}

static void widen_zero(struct histogram_sum *s, double *threshold)
{
	double more;
	do {
		more = 0;
		sum_side_within(s, &s->positive, threshold, &more);
	} while (!sum_side_within(s, &s->negative, threshold, &more));
	add(s, more, &s->zero_count, &s->zero_count_c);
	s->zero_threshold = *threshold;
	trim_side(&s->positive, s->schema, *threshold);
	trim_side(&s->negative, s->schema, *threshold);
}

/* Both with the same zero threshold: the larger one, or a boundary beyond where it would cut a
 * populated bucket of either. Returns the zero count of H. */
static double join_zero(struct histogram_sum *s, const struct histogram *h)
{
	double threshold = h->zero_threshold, count = h->zero_count;
	while (threshold < s->zero_threshold || threshold > s->zero_threshold) {
		if (threshold < s->zero_threshold) {
			threshold = s->zero_threshold;
			count = histogram_zero_count_within(h, &threshold);
		}
		if (threshold > s->zero_threshold) {
			double wanted = threshold;
			widen_zero(s, &wanted);
		}
	}
	return count;
}

/* ---- Adding. */

/* What is added: buckets of one side by the indices that the sum will have. */
struct addend {
	const int32_t *indices;
	const double *counts;
	uint32_t count;
	double sign;
};

static uint32_t union_count(const struct histogram_sum_side *side, const struct addend *b)
{
	uint32_t n = side->count;
	for (uint32_t i = 0, j = 0; j < b->count; j++) {
		if (j > 0 && b->indices[j] == b->indices[j - 1])
			continue;
		while (i < side->count && side->indices[i] < b->indices[j])
			i++;
		if (i == side->count || side->indices[i] != b->indices[j])
			n++;
	}
	return n;
}

/* From the back, so that it needs no second array. */
static void spread(struct histogram_sum_side *side, const struct addend *b, uint32_t count)
{
	uint32_t i = side->count, j = b->count, k = count;
	while (k > i || (k > 0 && j > 0)) {
		int32_t index;
		bool own = i > 0 && (j == 0 || side->indices[i - 1] >= b->indices[j - 1]);
		index = own ? side->indices[i - 1] : b->indices[j - 1];
		k--;
		side->indices[k] = index;
		side->counts[k] = own ? side->counts[i - 1] : 0;
		side->compensations[k] = own ? side->compensations[i - 1] : 0;
		i -= own;
		while (j > 0 && b->indices[j - 1] == index)
			j--;
	}
	side->count = count;
}

/* To the same buckets, without a branch: what rounding loses is exact whichever is larger. */
static void add_same(const struct histogram_sum *s, struct histogram_sum_side *side,
		     const struct addend *b)
{
	double *counts = side->counts, *compensations = side->compensations;
	if (!s->compensated) {
		for (uint32_t i = 0; i < b->count; i++)
			counts[i] += b->sign * b->counts[i];
		return;
	}
	for (uint32_t i = 0; i < b->count; i++) {
		double a = counts[i], value = b->sign * b->counts[i], t = a + value, part = t - a;
		double lost = (a - (t - part)) + (value - part);
		counts[i] = t;
		compensations[i] = isinf(t) ? 0 : compensations[i] + lost;
	}
}

static errc add_side(struct histogram_sum *s, struct histogram_sum_side *side,
		     const struct addend *b, struct err *e)
{
	bool same = side->count == b->count && b->count > 0 &&
		    memcmp(side->indices, b->indices, b->count * sizeof(*b->indices)) == 0;
	if (!same) {
		uint32_t count = union_count(side, b);
		if (count > side->count) {
			TRY(reserve(side, count, e));
			spread(side, b, count);
		}
	}
	if (same) {
		add_same(s, side, b);
		return OK;
	}
	for (uint32_t i = 0, j = 0; j < b->count; j++) {
		while (side->indices[i] != b->indices[j])
			i++;
		add(s, b->sign * b->counts[j], &side->counts[i], &side->compensations[i]);
	}
	return OK;
}

/* How indices of H become those of the sum. */
struct mapping {
	const struct histogram *h;
	const double *common; /* custom boundaries; NULL when they are the same */
	uint32_t common_count;
	int32_t schema;
	double threshold; /* buckets up to it are in the zero bucket */
	double sign;
};

/* Whether indices stay as they are and no bucket is within the zero bucket. */
static bool is_plain(const struct mapping *m, const struct histogram_side *side)
{
	if (m->common || m->schema != m->h->schema)
		return false;
	return !(m->threshold > 0) ||
	       histogram_schema_bound(m->schema, side->spans[0].offset) > m->threshold;
}

static void list_indices(const struct histogram_side *side, int32_t *indices)
{
	int64_t index = 0;
	uint32_t n = 0;
	for (uint32_t i = 0; i < side->span_count; i++) {
		index += side->spans[i].offset;
		for (uint32_t k = 0; k < side->spans[i].length && n < side->bucket_count; k++)
			indices[n++] = (int32_t)index++;
	}
}

/* As it is mapped; returns how many buckets were left out at the front. */
static uint32_t map_indices(const struct mapping *m, const struct histogram_side *side,
			    int32_t *indices)
{
	const struct histogram *h = m->h;
	struct histogram_walk w = histogram_walk_init(side);
	int64_t index;
	double count;
	uint32_t n = 0, skipped = 0;
	while (histogram_walk_next(&w, &index, &count)) {
		if (m->common)
			index = histogram_common_index(h->custom_bounds, h->custom_bound_count,
						       index, m->common, m->common_count);
		else if (m->threshold > 0 && n == 0 &&
			 histogram_schema_bound(h->schema, index) <= m->threshold) {
			skipped++;
			continue;
		} else if (m->schema != h->schema)
			index = histogram_coarser_index(index, h->schema, m->schema);
		indices[n++] = (int32_t)index;
	}
	return skipped;
}

static errc add_mapped(struct histogram_sum *s, struct histogram_sum_side *into,
		       const struct histogram_side *side, const struct mapping *m, struct err *e)
{
	int32_t few[256], *indices = few;
	if (side->bucket_count == 0)
		return OK;
	if (side->bucket_count > ARRAY_COUNT(few))
		indices = must_calloc(side->bucket_count, sizeof(*indices));
	uint32_t skipped = 0;
	if (is_plain(m, side))
		list_indices(side, indices);
	else
		skipped = map_indices(m, side, indices);
	struct addend b = { indices, side->buckets + skipped, side->bucket_count - skipped,
			    m->sign };
	errc rc = add_side(s, into, &b, e);
	if (indices != few)
		free(indices);
	return rc;
}

static void reconcile_side(struct histogram_sum *s, const double *common, uint32_t common_count)
{
	struct histogram_sum_side *side = &s->positive;
	uint32_t n = 0;
	for (uint32_t i = 0; i < side->count; i++)
		refile(s, side, i,
		       histogram_common_index(s->bounds, s->bound_count, side->indices[i], common,
					      common_count),
		       &n);
	side->count = n;
}

static errc add_custom(struct histogram_sum *s, const struct histogram *h, double sign,
		       struct histogram_notes *notes, struct err *e)
{
	struct mapping m = { .h = h, .schema = s->schema, .sign = sign };
	bool same = s->bound_count == h->custom_bound_count;
	for (uint32_t i = 0; same && i < s->bound_count; i++)
		same = s->bounds[i] == h->custom_bounds[i];
	if (same)
		return add_mapped(s, &s->positive, &h->positive, &m, e);
	if (notes)
		notes->bounds_reconciled = true;
	double *common = must_calloc((size_t)s->bound_count + 1, sizeof(*common));
	m.common_count = histogram_common_bounds(s->bounds, s->bound_count, h->custom_bounds,
						 h->custom_bound_count, common);
	m.common = common;
	reconcile_side(s, common, m.common_count);
	errc rc = add_mapped(s, &s->positive, &h->positive, &m, e);
	set_bounds(s, common, m.common_count);
	free(common);
	return rc;
}

static void join_reset(struct histogram_sum *s, enum histogram_reset reset,
		       struct histogram_notes *notes)
{
	if (reset == s->reset || s->reset == HISTOGRAM_RESET_GAUGE)
		return;
	if (reset == HISTOGRAM_RESET_GAUGE) {
		s->reset = HISTOGRAM_RESET_GAUGE;
		return;
	}
	if (s->reset != HISTOGRAM_RESET_UNKNOWN && reset != HISTOGRAM_RESET_UNKNOWN && notes)
		notes->reset_collision = true;
	s->reset = HISTOGRAM_RESET_UNKNOWN;
}

static errc add_signed(struct histogram_sum *s, const struct histogram *h, double sign,
		       struct histogram_notes *notes, struct err *e)
{
	must(s->set && histogram_sum_takes(s, h));
	join_reset(s, h->reset, notes);
	if (histogram_is_custom(h)) {
		TRY(add_custom(s, h, sign, notes, e));
	} else {
		double zero_count = join_zero(s, h);
		add(s, sign * zero_count, &s->zero_count, &s->zero_count_c);
		if (h->schema < s->schema)
			histogram_sum_to_schema(s, h->schema);
		struct mapping m = { .h = h, .schema = s->schema, .sign = sign };
		m.threshold = s->zero_threshold;
		TRY(add_mapped(s, &s->positive, &h->positive, &m, e));
		TRY(add_mapped(s, &s->negative, &h->negative, &m, e));
	}
	add(s, sign * h->count, &s->count, &s->count_c);
	add(s, sign * h->sum, &s->sum, &s->sum_c);
	return OK;
}

errc histogram_sum_add(struct histogram_sum *s, const struct histogram *h,
		       struct histogram_notes *notes, struct err *e)
{
	return add_signed(s, h, 1, notes, e);
}

errc histogram_sum_sub(struct histogram_sum *s, const struct histogram *h,
		       struct histogram_notes *notes, struct err *e)
{
	return add_signed(s, h, -1, notes, e);
}

static double scaled(double v, double factor, bool divide)
{
	return divide ? v / factor : v * factor;
}

static void scale(struct histogram_sum *s, double factor, bool divide)
{
	/* a compensation of 0 must not become NaN by an infinite factor */
	bool exact = isfinite(scaled(0, factor, divide));
	bool rest = s->compensated && exact;
	s->zero_count = scaled(s->zero_count, factor, divide);
	s->count = scaled(s->count, factor, divide);
	s->sum = scaled(s->sum, factor, divide);
	s->zero_count_c = rest ? scaled(s->zero_count_c, factor, divide) : 0;
	s->count_c = rest ? scaled(s->count_c, factor, divide) : 0;
	s->sum_c = rest ? scaled(s->sum_c, factor, divide) : 0;
	struct histogram_sum_side *sides[] = { &s->positive, &s->negative };
	for (size_t k = 0; k < ARRAY_COUNT(sides); k++)
		for (uint32_t i = 0; i < sides[k]->count; i++) {
			double *c = &sides[k]->compensations[i];
			sides[k]->counts[i] = scaled(sides[k]->counts[i], factor, divide);
			*c = rest ? scaled(*c, factor, divide) : 0;
		}
	if (factor < 0)
		s->reset = HISTOGRAM_RESET_GAUGE;
}

void histogram_sum_mul(struct histogram_sum *s, double factor)
{
	scale(s, factor, false);
}

void histogram_sum_div(struct histogram_sum *s, double divisor)
{
	scale(s, divisor, true);
	if (divisor == 0)
		s->positive.count = s->negative.count = 0;
}

/* ---- The result. */

static void result_side(const struct histogram_sum_side *side, struct histogram_side *ret,
			struct arena *arena)
{
	uint32_t bucket_count = 0, span_count = 0;
	int64_t end = INT64_MIN;
	for (uint32_t i = 0; i < side->count; i++) {
		if (side->counts[i] + side->compensations[i] == 0)
			continue;
		bucket_count++;
		span_count += side->indices[i] != end;
		end = (int64_t)side->indices[i] + 1;
	}
	double *buckets = arena_array(arena, bucket_count, sizeof(*buckets));
	struct histogram_span *spans = arena_array(arena, span_count, sizeof(*spans));
	if (bucket_count == 0 || !buckets || !spans)
		return;
	uint32_t n = 0;
	struct histogram_span *span = spans - 1;
	end = 0;
	for (uint32_t i = 0; i < side->count; i++) {
		double count = side->counts[i] + side->compensations[i];
		if (count == 0)
			continue;
		if (n == 0 || side->indices[i] != end)
			*++span = (struct histogram_span){ (int32_t)(side->indices[i] - end), 0 };
		span->length++;
		end = (int64_t)side->indices[i] + 1;
		buckets[n++] = count;
	}
	*ret = (struct histogram_side){ spans, buckets, span_count, bucket_count };
}

errc histogram_sum_result(const struct histogram_sum *s, struct arena *arena,
			  struct histogram **ret, struct err *e)
{
	must(s->set);
	struct histogram *h = arena_alloc(arena, sizeof(*h));
	double *bounds = NULL;
	if (h && s->bound_count)
		bounds = arena_array(arena, s->bound_count, sizeof(*bounds));
	if (h) {
		h->schema = s->schema;
		h->reset = s->reset;
		h->zero_threshold = s->zero_threshold;
		h->zero_count = s->zero_count + s->zero_count_c;
		h->count = s->count + s->count_c;
		h->sum = s->sum + s->sum_c;
		result_side(&s->positive, &h->positive, arena);
		result_side(&s->negative, &h->negative, arena);
	}
	if (bounds) {
		memcpy(bounds, s->bounds, s->bound_count * sizeof(*bounds));
		h->custom_bounds = bounds;
		h->custom_bound_count = s->bound_count;
	}
	TRY(arena_check(arena, "the histograms of the query", e));
	*ret = h;
	return OK;
}
