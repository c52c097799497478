/* What is past its time goes, whole parts at once. */
#include <stdlib.h>

#include "base/checks.h"
#include "metrics/metrics_internal.h"

static bool is_expired(const struct metrics *m, const struct metrics_part_meta *p)
{
	int64_t kept = retention_ms_of(m, p->resolution, p->retention_class);
	return p->max_time < engine_now(m) - kept;
}

static bool day_has_parts(const struct view *v, struct metrics_part *const *removed,
			  size_t removed_count, uint32_t day)
{
	for (size_t i = 0; i < v->part_count; i++) {
		bool gone = false;
		for (size_t k = 0; k < removed_count && !gone; k++)
			gone = removed[k] == v->parts[i];
		if (!gone && metrics_part_meta(v->parts[i])->day == day)
			return true;
	}
	return false;
}

/* Deletions that every part has carried out, or that no part is concerned by. */
static uint64_t done_tombstones(const struct view *v)
{
	uint64_t done = 0;
	for (size_t i = 0; i < v->tombstone_count; i++) {
		const struct tombstone *t = v->tombstones[i];
		for (size_t k = 0; k < v->part_count; k++) {
			const struct metrics_part_meta *p = metrics_part_meta(v->parts[k]);
			if (p->last_write <= t->write && p->purged < t->number &&
			    p->min_time <= t->to && p->max_time >= t->from)
				return done;
		}
		done = t->number;
	}
	return done;
}

/* The index of DAY goes. Who was in it has to be indexed again when samples of that day come again,
 * and its labels have to be in the log again when it is written to. */
static void forget_day(struct metrics *m, uint32_t day)
{
	pthread_rwlock_rdlock(&m->index);
	size_t chunk_count = (size_t)(m->table.next_id >> SERIES_CHUNK_BITS) + 1;
	for (size_t i = 0; i < chunk_count && i < SERIES_DIRECTORY_COUNT; i++) {
		pthread_mutex_lock(&m->state);
		for (size_t k = 0; m->table.chunks[i] && k < SERIES_CHUNK_COUNT; k++) {
			struct series *s = &m->table.chunks[i][k];
			if (!s->live ||
			    (s->indexed_day != day && s->indexed_day != INDEXED_UNKNOWN))
				continue;
			s->indexed_day = INDEXED_UNKNOWN;
			__atomic_fetch_and(&m->logged[s->id >> 6], ~(UINT64_C(1) << (s->id & 63)),
					   __ATOMIC_RELAXED);
		}
		pthread_mutex_unlock(&m->state);
	}
	pthread_rwlock_unlock(&m->index);
}

errc retention_slice(struct metrics *m, bool *ret_more, struct err *e)
{
	struct view *v = engine_view(m);
	struct metrics_part **parts = must_calloc(v->part_count + 1, sizeof(parts[0]));
	struct index_segment **segments = must_calloc(v->segment_count + 1, sizeof(segments[0]));
	struct view_change change = { .parts_removed = parts, .segments_removed = segments };
	uint32_t today = day_of(engine_now(m));
	*ret_more = false;
	/* a merge under way would bring back what goes here */
	for (size_t i = 0; i < v->part_count && !m->merge; i++)
		if (is_expired(m, metrics_part_meta(v->parts[i])))
			parts[change.part_removed_count++] = v->parts[i];
	for (size_t i = 0; i < v->segment_count && !m->flush; i++) {
		uint32_t day = index_segment_day(v->segments[i]);
		if (day + 1 < today && !day_has_parts(v, parts, change.part_removed_count, day))
			segments[change.segment_removed_count++] = v->segments[i];
	}
	if (!m->merge)
		change.tombstones_up_to = done_tombstones(v);
	bool any = change.part_removed_count || change.segment_removed_count ||
		   (change.tombstones_up_to && v->tombstone_count &&
		    v->tombstones[0]->number <= change.tombstones_up_to);
	for (size_t i = 0; i < change.segment_removed_count; i++)
		forget_day(m, index_segment_day(segments[i]));
	errc rc = any ? engine_commit(m, &change, e) : OK;
	free(parts);
	free(segments);
	view_unref(v);
	return rc;
}
