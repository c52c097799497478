/*
 * Rollups: of a day that is over, and whose raw samples are one part, minimum, maximum, sum, count
 * and last of every 5 minutes and of every hour. Their time is that of the last sample, so that
 * series that were scraped together still share their times. Histograms are not rolled up.
 *
 * A part of late samples makes the day's rollups again, and so does a deletion. Where the raw
 * samples are gone already, what was deleted is taken out of the rollup itself.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/metrics_internal.h"
#include "metrics/samples.h"
#include "metrics/series_key.h"
#include "os/clock.h"

enum {
	DAY_OVER_MS = 2 * 3600 * 1000,
	SYNC_EVERY = 64,       /* series between two looks */
	BUCKETS_MAX = 288 + 1, /* of 5 minutes in a day */
};

struct rolling {
	time_ms times[BUCKETS_MAX];
	double columns[PART_COLUMNS_MAX][BUCKETS_MAX];
	size_t count;
};

static int64_t bucket_ms(enum metrics_resolution resolution)
{
	return resolution == METRICS_5M ? 5 * 60 * 1000 : 3600 * 1000;
}

static void add_sample(struct rolling *r, bool fresh, time_ms time, double value)
{
	size_t at = fresh ? r->count++ : r->count - 1;
	if (fresh) {
		r->columns[METRICS_MIN][at] = r->columns[METRICS_MAX][at] = value;
		r->columns[METRICS_SUM][at] = r->columns[METRICS_COUNT][at] = 0;
	}
	r->times[at] = time;
	r->columns[METRICS_LAST][at] = value;
	if (!(value >= r->columns[METRICS_MIN][at]))
		r->columns[METRICS_MIN][at] = isnan(value) ? r->columns[METRICS_MIN][at] : value;
	if (!(value <= r->columns[METRICS_MAX][at]))
		r->columns[METRICS_MAX][at] = isnan(value) ? r->columns[METRICS_MAX][at] : value;
	r->columns[METRICS_SUM][at] += value;
	r->columns[METRICS_COUNT][at] += 1;
}

static void roll(struct rolling *r, const struct metrics_samples *s, int64_t step)
{
	time_ms bucket = INT64_MIN;
	r->count = 0;
	for (size_t i = 0; i < s->count; i++) {
		time_ms at = s->times[i] - s->times[i] % step;
		if ((s->histograms && s->histograms[i]) || metrics_is_stale(s->values[i]))
			continue;
		if (at != bucket && r->count == BUCKETS_MAX)
			return;
		add_sample(r, at != bucket, s->times[i], s->values[i]);
		bucket = at;
	}
}

/* A day takes seconds: what is written meanwhile is not to wait that long for its sync. */
static errc keep_log_synced(struct metrics *m, uint64_t seen, struct err *e)
{
	return seen % SYNC_EVERY == 0 && wal_sync_due_ms(m->wal) == 0 ? wal_sync(m->wal, e) : OK;
}

static errc write_rollup(struct metrics *m, struct metrics_part *raw,
			 enum metrics_resolution resolution, struct metrics_part **ret,
			 struct err *e)
{
	struct metrics_part_meta meta = *metrics_part_meta(raw), done;
	struct metrics_part_writer *w = NULL;
	struct metrics_samples samples = { 0 };
	struct rolling *r = must_calloc(1, sizeof(*r));
	struct metrics_part_cursor *cursor = metrics_part_cursor_new(raw);
	const double *columns[PART_COLUMNS_MAX];
	char name[PART_NAME_MAX + 1];
	uint64_t bad = 0, seen = 0;
	uint32_t id = 0;
	for (size_t i = 0; i < PART_COLUMNS_MAX; i++)
		columns[i] = r->columns[i];
	meta.resolution = resolution;
	meta.cold = true;
	engine_part_name(m, 's', name);
	errc rc = metrics_part_writer_new(m->parts_folder, name, &meta, &w, e);
	while (rc == OK) {
		rc = metrics_part_cursor_next(cursor, &id, &bad, e);
		if (rc != OK || !id)
			break;
		samples_clear(&samples);
		rc = metrics_part_cursor_read(cursor, &samples, &bad, e);
		roll(r, &samples, bucket_ms(resolution));
		if (rc == OK)
			rc = metrics_part_writer_rollup(w, id, r->times, columns, r->count, e);
		if (rc == OK)
			rc = keep_log_synced(m, ++seen, e);
	}
	if (rc == OK)
		rc = metrics_part_writer_finish(w, &done, NULL, e);
	if (rc == OK)
		rc = metrics_part_open(m->parts_folder, name, m->quarantine, ret, e);
	count_up(&m->counters.bad_blocks, bad);
	metrics_part_writer_free(w);
	metrics_part_cursor_free(cursor);
	metrics_samples_done(&samples);
	free(r);
	return rc;
}

/* The part of RAW's day and class with that resolution; NULL when there is none. */
static struct metrics_part *find_rollup(const struct view *v, const struct metrics_part_meta *raw,
					enum metrics_resolution resolution)
{
	for (size_t i = 0; i < v->part_count; i++) {
		const struct metrics_part_meta *p = metrics_part_meta(v->parts[i]);
		if (p->resolution == resolution && p->day == raw->day &&
		    p->retention_class == raw->retention_class)
			return v->parts[i];
	}
	return NULL;
}

static errc make_rollup(struct metrics *m, const struct view *v, struct metrics_part *raw,
			enum metrics_resolution resolution, bool *ret_did, struct err *e)
{
	const struct metrics_part_meta *p = metrics_part_meta(raw);
	struct metrics_part *old = find_rollup(v, p, resolution), *fresh = NULL;
	if (old && metrics_part_meta(old)->last_write >= p->last_write &&
	    metrics_part_meta(old)->purged >= p->purged)
		return OK;
	TRY(write_rollup(m, raw, resolution, &fresh, e));
	struct view_change change = { .parts_added = &fresh,
				      .part_added_count = 1,
				      .parts_removed = &old,
				      .part_removed_count = old != NULL };
	errc rc = engine_commit(m, &change, e);
	metrics_part_unref(fresh);
	*ret_did = rc == OK;
	return rc;
}

/* Whether another raw part has samples of that day and class, too. */
static bool has_sibling(const struct view *v, const struct metrics_part_meta *raw)
{
	size_t count = 0;
	for (size_t i = 0; i < v->part_count; i++) {
		const struct metrics_part_meta *p = metrics_part_meta(v->parts[i]);
		count += p->resolution == METRICS_RAW && p->day == raw->day &&
			 p->retention_class == raw->retention_class;
	}
	return count > 1;
}

/* ---- Deletions from rollups that have outlived their samples. */

static bool concerns(const struct tombstone *t, const struct metrics_part_meta *p)
{
	return p->last_write <= t->write && p->purged < t->number && p->min_time <= t->to &&
	       p->max_time >= t->from;
}

static void purge_series(struct metrics *m, struct view *v, const struct metrics_part_meta *p,
			 uint32_t id, struct metrics_samples *column)
{
	struct buf key CLEANUP(buf_done) = buf_init(SERIES_KEY_BYTES_MAX);
	bool have_key = false;
	for (size_t i = 0; i < v->tombstone_count && column->count; i++) {
		const struct tombstone *t = v->tombstones[i];
		if (!concerns(t, p))
			continue;
		if (!have_key && !engine_series_key(m, v, id, &key))
			return;
		have_key = true;
		if (tombstone_selects(t, buf_str(&key)))
			tombstone_apply(t, column, 0);
	}
}

/* What is left of series ID into W. */
static errc copy_series(struct metrics *m, struct view *v, struct metrics_part *p, uint32_t id,
			struct metrics_samples columns[static PART_COLUMNS_MAX],
			struct metrics_part_writer *w, uint64_t *ret_bad, struct err *e)
{
	const double *values[PART_COLUMNS_MAX];
	uint64_t bad = 0;
	for (size_t c = 0; c < PART_COLUMNS_MAX; c++) {
		samples_clear(&columns[c]);
		TRY(metrics_part_read(p, id, INT64_MIN, INT64_MAX, (enum metrics_rollup)c,
				      &columns[c], &bad, e));
		purge_series(m, v, metrics_part_meta(p), id, &columns[c]);
		values[c] = columns[c].values;
		bad += columns[c].count != columns[0].count;
	}
	if (bad || columns[0].count > BUCKETS_MAX) {
		*ret_bad += bad + 1;
		return OK;
	}
	return metrics_part_writer_rollup(w, id, columns[0].times, values, columns[0].count, e);
}

static errc write_purged(struct metrics *m, struct view *v, struct metrics_part *p,
			 struct metrics_part **ret, uint64_t *ret_bad, struct err *e)
{
	struct metrics_part_meta meta = *metrics_part_meta(p), done;
	struct metrics_samples columns[PART_COLUMNS_MAX] = { 0 };
	struct metrics_part_writer *w = NULL;
	struct id_set ids CLEANUP(id_set_done) = { 0 };
	char name[PART_NAME_MAX + 1];
	meta.purged = v->tombstones[v->tombstone_count - 1]->number;
	metrics_part_ids(p, &ids);
	engine_part_name(m, 's', name);
	errc rc = metrics_part_writer_new(m->parts_folder, name, &meta, &w, e);
	for (size_t i = 0; i < ids.count && rc == OK; i++) {
		rc = copy_series(m, v, p, ids.ids[i], columns, w, ret_bad, e);
		if (rc == OK)
			rc = keep_log_synced(m, i, e);
	}
	if (rc == OK && !*ret_bad && metrics_part_writer_samples(w)) {
		rc = metrics_part_writer_finish(w, &done, NULL, e);
		if (rc == OK)
			rc = metrics_part_open(m->parts_folder, name, m->quarantine, ret, e);
	}
	metrics_part_writer_free(w);
	for (size_t c = 0; c < PART_COLUMNS_MAX; c++)
		metrics_samples_done(&columns[c]);
	return rc;
}

static errc purge_rollup(struct metrics *m, struct view *v, struct metrics_part *p, bool *ret_did,
			 struct err *e)
{
	struct metrics_part *fresh = NULL;
	uint64_t bad = 0;
	TRY(write_purged(m, v, p, &fresh, &bad, e));
	if (bad) { /* it stays as it is: it may be readable another day */
		count_up(&m->counters.bad_blocks, bad);
		metrics_part_set_damaged(p);
		return OK;
	}
	struct view_change change = { .parts_added = &fresh,
				      .part_added_count = fresh != NULL,
				      .parts_removed = &p,
				      .part_removed_count = 1 };
	errc rc = engine_commit(m, &change, e);
	metrics_part_unref(fresh);
	*ret_did = rc == OK;
	return rc;
}

static bool wants_purge(const struct view *v, const struct metrics_part *part)
{
	const struct metrics_part_meta *p = metrics_part_meta(part);
	if (p->resolution == METRICS_RAW || metrics_part_is_damaged(part) ||
	    find_rollup(v, p, METRICS_RAW))
		return false;
	for (size_t i = 0; i < v->tombstone_count; i++)
		if (concerns(v->tombstones[i], p))
			return true;
	return false;
}

errc rollup_one(struct metrics *m, bool *ret_did, struct err *e)
{
	struct view *v = engine_view(m);
	errc rc = OK;
	*ret_did = false;
	for (size_t i = 0; i < v->part_count && rc == OK && !*ret_did; i++)
		if (wants_purge(v, v->parts[i]))
			rc = purge_rollup(m, v, v->parts[i], ret_did, e);
	for (size_t i = 0; i < v->part_count && rc == OK && !*ret_did; i++) {
		const struct metrics_part_meta *p = metrics_part_meta(v->parts[i]);
		bool over = engine_now(m) > ((time_ms)p->day + 1) * DAY_MS + DAY_OVER_MS;
		if (p->resolution != METRICS_RAW || !p->cold || !over || !p->sample_count ||
		    has_sibling(v, p) ||
		    p->max_time <
			    engine_now(m) - retention_ms_of(m, METRICS_RAW, p->retention_class))
			continue;
		rc = make_rollup(m, v, v->parts[i], METRICS_5M, ret_did, e);
		if (rc == OK && !*ret_did)
			rc = make_rollup(m, v, v->parts[i], METRICS_1H, ret_did, e);
	}
	view_unref(v);
	return rc;
}
