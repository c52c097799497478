#include "metrics/view.h"

#include <stdlib.h>

#include "base/checks.h"

static int by_day(const void *a, const void *b)
{
	const struct metrics_part_meta *x = metrics_part_meta(*(struct metrics_part *const *)a),
				       *y = metrics_part_meta(*(struct metrics_part *const *)b);
	if (x->day != y->day)
		return x->day < y->day ? -1 : 1;
	if (x->resolution != y->resolution)
		return x->resolution < y->resolution ? -1 : 1;
	return (x->last_write > y->last_write) - (x->last_write < y->last_write);
}

static int segments_by_day(const void *a, const void *b)
{
	uint32_t x = index_segment_day(*(struct index_segment *const *)a),
		 y = index_segment_day(*(struct index_segment *const *)b);
	return (x > y) - (x < y);
}

struct view *view_new(struct metrics_part *const *parts, size_t part_count,
		      struct index_segment *const *segments, size_t segment_count,
		      struct tombstone *const *tombstones, size_t tombstone_count)
{
	struct view *v = must_calloc(1, sizeof(*v));
	v->refs = 1;
	v->parts = must_calloc(part_count + 1, sizeof(v->parts[0]));
	v->segments = must_calloc(segment_count + 1, sizeof(v->segments[0]));
	v->tombstones = must_calloc(tombstone_count + 1, sizeof(v->tombstones[0]));
	for (; v->part_count < part_count; v->part_count++)
		v->parts[v->part_count] = metrics_part_ref(parts[v->part_count]);
	for (; v->segment_count < segment_count; v->segment_count++)
		v->segments[v->segment_count] = index_segment_ref(segments[v->segment_count]);
	for (; v->tombstone_count < tombstone_count; v->tombstone_count++)
		v->tombstones[v->tombstone_count] = tombstone_ref(tombstones[v->tombstone_count]);
	if (part_count)
		qsort(v->parts, part_count, sizeof(v->parts[0]), by_day);
	/* few; a stable order of equal days is that of their making, which the names have */
	if (segment_count)
		qsort(v->segments, segment_count, sizeof(v->segments[0]), segments_by_day);
	return v;
}

struct view *view_ref(struct view *v)
{
	__atomic_fetch_add(&v->refs, 1, __ATOMIC_RELAXED);
	return v;
}

void view_unref(struct view *v)
{
	if (!v || __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (size_t i = 0; i < v->part_count; i++)
		metrics_part_unref(v->parts[i]);
	for (size_t i = 0; i < v->segment_count; i++)
		index_segment_unref(v->segments[i]);
	for (size_t i = 0; i < v->tombstone_count; i++)
		tombstone_unref(v->tombstones[i]);
	free(v->parts);
	free(v->segments);
	free(v->tombstones);
	free(v);
}
