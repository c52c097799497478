/* samples: building struct metrics_samples: room, order, merging of runs. */
#pragma once

#include "codec/value_vector.h"
#include "metrics/metrics.h"

enum {
	SAMPLES_HISTOGRAM_BYTES_MAX = 1 << 30,
	SAMPLES_VECTOR_BYTES_MAX = 16
				   << 20, /* of the histograms of a vector, as large as they get */
};

/* What the decoder keeps in metrics_samples.scratch. */
struct samples_scratch {
	struct vector_scratch *vectors;
	struct samples_vector *plan; /* of the read at hand */
	size_t plan_count, plan_room;
	struct metrics_samples run, merged; /* of the slow path */
	struct compressor *compressor;
	struct buf bytes;
};

/* Room for COUNT more. */
void samples_reserve(struct metrics_samples *s, size_t count);
/* Have the array of histograms, NULL for what is there. */
void samples_need_histograms(struct metrics_samples *s);
static inline void samples_push(struct metrics_samples *s, time_ms time, double value)
{
	if (s->count == s->room)
		samples_reserve(s, 1);
	s->times[s->count] = time;
	s->values[s->count] = value;
	if (s->histograms)
		s->histograms[s->count] = NULL;
	s->count++;
}
/* Decode BLOB and push it. */
errc samples_push_histogram(struct metrics_samples *s, time_ms time, str blob, struct err *e);
struct arena *samples_arena(struct metrics_samples *s);
struct samples_scratch *samples_scratch(struct metrics_samples *s);
void samples_clear(struct metrics_samples *s);
/* Sort what stands from FIRST on by time, stably, and keep the last of equal times. */
void samples_order(struct metrics_samples *s, size_t first);
/* INTO = A and B by time; B's win. All distinct; A and B are ordered. Histograms stay where they
 * live. */
void samples_merge(struct metrics_samples *into, const struct metrics_samples *a,
		   const struct metrics_samples *b);
/* Append samples [first, first + count) of FROM, histograms by reference. */
void samples_append(struct metrics_samples *s, const struct metrics_samples *from, size_t first,
		    size_t count);
/* Drop the first N. */
void samples_drop_front(struct metrics_samples *s, size_t n);
