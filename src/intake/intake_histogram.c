#include "intake/intake_histogram.h"

#include <stdlib.h>

#include "base/checks.h"

enum {
	/* the finest schema that makes sense in a double */
	SCHEMA_FINEST = 52,
	/* a gap of so many empty buckets is cheaper as buckets than as a span */
	GAP_FILLED_MAX = 2,
};

struct intake_histogram *intake_histogram_new(void)
{
	return must_calloc(1, sizeof(struct intake_histogram));
}

void intake_histogram_free(struct intake_histogram *h)
{
	free(h);
}

void intake_histogram_reset(struct intake_histogram *h)
{
	h->h = (struct histogram){ 0 };
	h->bound_count = 0;
	h->too_many = false;
	for (int i = 0; i < INTAKE_SIDES; i++) {
		h->sides[i].span_count = 0;
		h->sides[i].bucket_count = 0;
		h->sides[i].last = 0;
	}
}

static void add_span(struct intake_histogram *h, int side, int32_t offset, uint32_t length)
{
	struct intake_histogram_side *s = &h->sides[side];
	if (s->span_count == HISTOGRAM_BUCKETS_MAX)
		h->too_many = true;
	else
		s->spans[s->span_count++] = (struct histogram_span){ offset, length };
}

static void add_bucket(struct intake_histogram *h, int side, double count)
{
	struct intake_histogram_side *s = &h->sides[side];
	if (s->bucket_count == HISTOGRAM_BUCKETS_MAX)
		h->too_many = true;
	else
		s->buckets[s->bucket_count++] = count;
}

void intake_histogram_span(struct intake_histogram *h, int side, str message)
{
	struct reader r = reader_init(message);
	struct wire_field f;
	int64_t offset = 0;
	uint64_t length = 0;
	while (wire_next(&r, &f)) {
		if (f.key == WIRE_KEY(1, WIRE_VARINT))
			offset = wire_sint(&f);
		else if (f.key == WIRE_KEY(2, WIRE_VARINT))
			length = f.value;
	}
	if (r.failed || offset < INT32_MIN || offset > INT32_MAX || length > HISTOGRAM_BUCKETS_MAX)
		h->too_many = true;
	else
		add_span(h, side, (int32_t)offset, (uint32_t)length);
}

void intake_histogram_deltas(struct intake_histogram *h, int side, struct reader *r,
			     struct wire_field *f)
{
	struct intake_histogram_side *s = &h->sides[side];
	uint64_t v;
	while (wire_next_varint(r, f, &v)) {
		if (__builtin_add_overflow(s->last, unzigzag(v), &s->last))
			h->too_many = true;
		add_bucket(h, side, (double)s->last);
	}
}

void intake_histogram_counts(struct intake_histogram *h, int side, struct reader *r,
			     struct wire_field *f)
{
	double v;
	while (wire_next_double(r, f, &v))
		add_bucket(h, side, v);
}

void intake_histogram_bounds(struct intake_histogram *h, struct reader *r, struct wire_field *f)
{
	double v;
	while (wire_next_double(r, f, &v)) {
		if (h->bound_count == HISTOGRAM_BUCKETS_MAX)
			h->too_many = true;
		else
			h->bounds[h->bound_count++] = v;
	}
}

/* The index behind the last bucket. */
static int64_t end_of(const struct intake_histogram_side *s)
{
	int64_t at = 0;
	for (uint32_t i = 0; i < s->span_count; i++)
		at += (int64_t)s->spans[i].offset + s->spans[i].length;
	return at;
}

void intake_histogram_bucket(struct intake_histogram *h, int side, int64_t index, double count)
{
	struct intake_histogram_side *s = &h->sides[side];
	/* `last` is the index behind the last bucket here: no deltas come this way */
	int64_t gap = index - (s->span_count ? s->last : 0);
	if (gap < INT32_MIN || gap > INT32_MAX) {
		h->too_many = true;
		return;
	}
	if (s->span_count == 0 || gap > GAP_FILLED_MAX) {
		add_span(h, side, (int32_t)gap, 0);
	} else {
		for (; gap > 0; gap--) {
			add_bucket(h, side, 0);
			s->spans[s->span_count - 1].length++;
		}
	}
	add_bucket(h, side, count);
	if (s->span_count)
		s->spans[s->span_count - 1].length++;
	s->last = index + 1;
}

/* Merge 2^SHIFT neighbours into one, in place: the result never has more. */
static void merge_buckets(struct intake_histogram *h, int side, int shift)
{
	struct intake_histogram_side *s = &h->sides[side];
	struct intake_histogram_side *from = must_calloc(1, sizeof(*from));
	*from = *s;
	s->span_count = s->bucket_count = 0;
	s->last = 0;
	int64_t index = 0, merged = 0;
	double sum = 0;
	bool any = false;
	uint32_t bucket = 0;
	for (uint32_t i = 0; i < from->span_count; i++) {
		index += from->spans[i].offset;
		for (uint32_t k = 0; k < from->spans[i].length; k++, index++, bucket++) {
			/* bucket i ends at base^i, so 1..2^shift fall together */
			int64_t to = ((index - 1) >> shift) + 1;
			if (any && to != merged) {
				intake_histogram_bucket(h, side, merged, sum);
				sum = 0;
			}
			any = true;
			merged = to;
			sum += from->buckets[bucket];
		}
	}
	if (any)
		intake_histogram_bucket(h, side, merged, sum);
	free(from);
}

/* The sizes that merge_buckets() relies on; the rest is histogram_check()'s. */
static bool spans_fit(const struct intake_histogram_side *s)
{
	uint64_t length = 0;
	for (uint32_t i = 0; i < s->span_count; i++)
		length += s->spans[i].length;
	return length == s->bucket_count && end_of(s) < INT32_MAX && end_of(s) > INT32_MIN;
}

static errc coarsen(struct intake_histogram *h, struct err *e)
{
	int shift = h->h.schema - HISTOGRAM_SCHEMA_MAX;
	for (int side = 0; side < INTAKE_SIDES; side++) {
		if (!spans_fit(&h->sides[side]))
			FAIL(e, ERR_INVALID, "its spans and buckets disagree");
		merge_buckets(h, side, shift);
	}
	h->h.schema = HISTOGRAM_SCHEMA_MAX;
	return OK;
}

static struct histogram_side side_of(const struct intake_histogram_side *s)
{
	return (struct histogram_side){
		.spans = s->spans,
		.buckets = s->buckets,
		.span_count = s->span_count,
		.bucket_count = s->bucket_count,
	};
}

errc intake_histogram_finish(struct intake_histogram *h, struct err *e)
{
	if (h->too_many)
		FAIL(e, ERR_INVALID,
		     "its histogram is malformed or has more than %d buckets: use a lower "
		     "resolution",
		     HISTOGRAM_BUCKETS_MAX);
	if (h->h.schema > HISTOGRAM_SCHEMA_MAX && h->h.schema <= SCHEMA_FINEST)
		TRY(coarsen(h, e));
	if (h->too_many)
		FAIL(e, ERR_INVALID, "its histogram has buckets out of range");
	h->h.positive = side_of(&h->sides[INTAKE_POSITIVE]);
	h->h.negative = side_of(&h->sides[INTAKE_NEGATIVE]);
	h->h.custom_bounds = h->bound_count ? h->bounds : NULL;
	h->h.custom_bound_count = h->bound_count;
	return histogram_check(&h->h, e);
}
