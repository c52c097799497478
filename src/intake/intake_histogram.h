/*
 * intake_histogram: room in which a native histogram is put together from the wire.
 *
 * Shape: `h` points into the arrays beside it once intake_histogram_finish() said OK.
 */
#pragma once

#include "codec/wire.h"
#include "metrics/histogram.h"

enum { INTAKE_POSITIVE, INTAKE_NEGATIVE, INTAKE_SIDES };

struct intake_histogram_side {
	uint32_t span_count, bucket_count;
	/* integer histograms send each bucket as the difference to the one before */
	int64_t last;
	struct histogram_span spans[HISTOGRAM_BUCKETS_MAX];
	double buckets[HISTOGRAM_BUCKETS_MAX];
};

struct intake_histogram {
	struct histogram h;
	struct intake_histogram_side sides[INTAKE_SIDES];
	uint32_t bound_count;
	double bounds[HISTOGRAM_BUCKETS_MAX];
	bool too_many; /* past a limit, or a sum of deltas past 64 bits */
};

struct intake_histogram *intake_histogram_new(void);
void intake_histogram_free(struct intake_histogram *h);
/* Empty, to be filled again. */
void intake_histogram_reset(struct intake_histogram *h);

/* A BucketSpan message. */
void intake_histogram_span(struct intake_histogram *h, int side, str message);
/* What the field F of R holds: packed or single deltas, populations, boundaries. */
void intake_histogram_deltas(struct intake_histogram *h, int side, struct reader *r,
			     struct wire_field *f);
void intake_histogram_counts(struct intake_histogram *h, int side, struct reader *r,
			     struct wire_field *f);
void intake_histogram_bounds(struct intake_histogram *h, struct reader *r, struct wire_field *f);
/* The population of bucket INDEX, indices ascending; empty ones may be left out. */
void intake_histogram_bucket(struct intake_histogram *h, int side, int64_t index, double count);

/* Check it, and bring a schema above HISTOGRAM_SCHEMA_MAX down to that by merging buckets. Errors:
 * ERR_INVALID. */
WARN_UNUSED errc intake_histogram_finish(struct intake_histogram *h, struct err *e);
