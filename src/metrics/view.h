/*
 * view: the parts as they were at one moment. A selection keeps one; a flush or merge makes the
 * next.
 *
 * Threads: a view never changes; references are atomic.
 */
#pragma once

#include "metrics/index_segment.h"
#include "metrics/metrics_part.h"
#include "metrics/tombstone.h"

struct view {
	size_t refs;                 /* atomic */
	struct metrics_part **parts; /* by day, resolution, write sequence */
	size_t part_count;
	struct index_segment **segments; /* by day, then oldest first */
	size_t segment_count;
	struct tombstone **tombstones; /* by number */
	size_t tombstone_count;
};

/* One reference each is taken of what is handed over. */
struct view *view_new(struct metrics_part *const *parts, size_t part_count,
		      struct index_segment *const *segments, size_t segment_count,
		      struct tombstone *const *tombstones, size_t tombstone_count);
struct view *view_ref(struct view *v);
/* Accepts NULL. */
void view_unref(struct view *v);
