/*
 * A merge: parts of one day and retention class become one, and deletions are carried out. Which
 * ones: store/merge_policy.h; a day that is over is made one part, as compact as it gets.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/metrics_internal.h"
#include "metrics/samples.h"
#include "metrics/series_key.h"
#include "os/clock.h"
#include "store/merge_policy.h"

enum {
	PARTS_MAX = 64, /* of one merge */
	LOOK_EVERY = 64,
	SEGMENTS_MAX = 4, /* of a day, before they are merged */
	DAY_OVER_MS = 2 * 3600 * 1000,
	LATE_EVERY_MS = 3600 * 1000,
	LATE_WINDOW_MS = 10 * 60 * 1000,
	LATE_SHARE = 4,
	LATE_PARTS_MAX = 12,
	KEYS_BYTES_MAX = 1 << 30,
};

struct input {
	struct metrics_part *part;
	struct metrics_part_cursor *cursor;
	uint32_t id;  /* of its next series; 0: at its end */
	uint64_t bad; /* blocks of it that could not be read */
};

struct merge {
	struct view *view;
	struct input inputs[PARTS_MAX];
	size_t input_count;
	struct metrics_part_writer *writer;
	struct metrics_samples samples, run, merged;
	struct buf key;
	uint64_t purged; /* number of the last deletion that is carried out */
	size_t seen;
};

static void free_merge(struct merge *g)
{
	for (size_t i = 0; i < g->input_count; i++) {
		metrics_part_cursor_free(g->inputs[i].cursor);
		metrics_part_unref(g->inputs[i].part);
	}
	metrics_part_writer_free(g->writer);
	metrics_samples_done(&g->samples);
	metrics_samples_done(&g->run);
	metrics_samples_done(&g->merged);
	buf_done(&g->key);
	view_unref(g->view);
	free(g);
}

void merge_abort(struct metrics *m)
{
	if (m->merge)
		free_merge(m->merge);
	m->merge = NULL;
}

/* ---- Which parts. */

static bool concerns(const struct tombstone *t, const struct metrics_part_meta *p)
{
	return p->last_write <= t->write && p->purged < t->number && p->min_time <= t->to &&
	       p->max_time >= t->from;
}

static bool has_deletion(const struct view *v, const struct metrics_part_meta *p)
{
	for (size_t i = 0; i < v->tombstone_count; i++)
		if (concerns(v->tombstones[i], p))
			return true;
	return false;
}

static uint64_t group_of(const struct metrics_part_meta *p)
{
	return (uint64_t)p->day << 32 | p->retention_class << 2 | (uint64_t)p->resolution;
}

static bool day_is_over(const struct metrics *m, uint32_t day)
{
	return engine_now(m) > ((time_ms)day + 1) * DAY_MS + DAY_OVER_MS;
}

/*
 * Whether a group of a day that is over, of which a part is cold already, may wait: a few samples
 * that came late are no reason to write the whole day again with every flush. They are merged in
 * the first minutes of an hour, or when they have become many.
 */
static bool may_wait(const struct metrics *m, struct metrics_part *const *parts, size_t count)
{
	uint64_t largest = 0, sum = 0;
	bool cold = false;
	for (size_t i = 0; i < count; i++) {
		uint64_t bytes = part_file_bytes(metrics_part_file(parts[i]));
		largest = bytes > largest ? bytes : largest;
		sum += bytes;
		cold |= metrics_part_meta(parts[i])->cold;
	}
	return cold && sum - largest < largest / LATE_SHARE && count <= LATE_PARTS_MAX &&
	       engine_now(m) % LATE_EVERY_MS >= LATE_WINDOW_MS;
}

/* The parts of the first group that is to be one part and is not; how many. */
static size_t choose_whole(const struct metrics *m, struct metrics_part *const *parts, size_t count,
			   bool everything, size_t *ret_first)
{
	for (size_t i = 0, n; i < count; i += n) {
		const struct metrics_part_meta *p = metrics_part_meta(parts[i]);
		n = 1;
		while (i + n < count && group_of(metrics_part_meta(parts[i + n])) == group_of(p))
			n++;
		if ((everything || (day_is_over(m, p->day) && !may_wait(m, parts + i, n))) &&
		    (n > 1 || !p->cold)) {
			*ret_first = i;
			return n;
		}
	}
	return 0;
}

static size_t choose_some(struct metrics_part *const *parts, size_t count, size_t *ret_first)
{
	static const struct merge_policy policy = { .count_max = 24, .ratio_min_percent = 800 };
	struct merge_part *sizes = must_calloc(count + 1, sizeof(sizes[0]));
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		sizes[i] = (struct merge_part){
			.bytes = part_file_bytes(metrics_part_file(parts[i])),
			.group = group_of(metrics_part_meta(parts[i])),
		};
	if (!merge_policy_choose(&policy, sizes, count, ret_first, &n))
		n = 0;
	free(sizes);
	return n;
}

static int by_group(const void *a, const void *b)
{
	const struct metrics_part_meta *x = metrics_part_meta(*(struct metrics_part *const *)a),
				       *y = metrics_part_meta(*(struct metrics_part *const *)b);
	uint64_t g = group_of(x), h = group_of(y);
	if (g != h)
		return g < h ? -1 : 1;
	return (x->last_write > y->last_write) - (x->last_write < y->last_write);
}

/* Without the days and classes that have a damaged part: what is merged must be next to each other
 * in the order of writing. */
static size_t drop_damaged(struct metrics_part **parts, size_t count)
{
	size_t kept = 0;
	for (size_t i = 0, n; i < count; i += n) {
		bool damaged = metrics_part_is_damaged(parts[i]);
		for (n = 1; i + n < count && group_of(metrics_part_meta(parts[i + n])) ==
						     group_of(metrics_part_meta(parts[i]));
		     n++)
			damaged |= metrics_part_is_damaged(parts[i + n]);
		for (size_t k = 0; k < n && !damaged; k++)
			parts[kept++] = parts[i + k];
	}
	return kept;
}

/* The raw parts that are to become one, into CHOSEN; how many. */
static size_t choose(const struct metrics *m, const struct view *v, bool everything,
		     struct metrics_part *chosen[static PARTS_MAX])
{
	struct metrics_part **raw = must_calloc(v->part_count + 1, sizeof(raw[0]));
	size_t count = 0, first = 0, n = 0;
	for (size_t i = 0; i < v->part_count; i++)
		if (metrics_part_meta(v->parts[i])->resolution == METRICS_RAW)
			raw[count++] = v->parts[i];
	if (count)
		qsort(raw, count, sizeof(raw[0]), by_group);
	count = drop_damaged(raw, count);
	for (size_t i = 0; i < count && !n; i++)
		if (has_deletion(v, metrics_part_meta(raw[i]))) {
			first = i;
			n = 1;
		}
	if (!n)
		n = choose_whole(m, raw, count, everything, &first);
	if (!n)
		n = choose_some(raw, count, &first);
	if (n > PARTS_MAX)
		n = PARTS_MAX;
	memcpy(chosen, raw + first, n * sizeof(raw[0]));
	free(raw);
	return n;
}

/* Whether a merge's output fits on the disk beside its input. */
static bool has_room(const struct metrics *m, struct metrics_part *const *parts, size_t count)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < count; i++)
		bytes += part_file_bytes(metrics_part_file(parts[i]));
	return disk_watch_has_room(&m->disk, bytes);
}

/* ---- Beginning. */

static errc begin(struct metrics *m, struct view *v, struct metrics_part *const *parts,
		  size_t count, bool everything, struct err *e)
{
	struct merge *g = must_calloc(1, sizeof(*g));
	const struct metrics_part_meta *first = metrics_part_meta(parts[0]);
	struct metrics_part_meta meta = *first;
	bool merged = false;
	char name[PART_NAME_MAX + 1];
	m->merge = g;
	g->view = view_ref(v);
	g->key = buf_init(SERIES_KEY_BYTES_MAX);
	for (size_t i = 0; i < count; i++) {
		const struct metrics_part_meta *p = metrics_part_meta(parts[i]);
		struct input *in = &g->inputs[g->input_count++];
		in->part = metrics_part_ref(parts[i]);
		in->cursor = metrics_part_cursor_new(in->part);
		meta.first_write = p->first_write < meta.first_write ? p->first_write
								     : meta.first_write;
		meta.last_write = p->last_write > meta.last_write ? p->last_write : meta.last_write;
		merged |= p->cold || p->first_write != p->last_write;
	}
	/* those made later are not in this view, and find what is written here */
	g->purged = v->tombstone_count ? v->tombstones[v->tombstone_count - 1]->number : 0;
	meta.purged = g->purged > meta.purged ? g->purged : meta.purged;
	/* what comes from flushes only is merged again soon: not worth the slower coding */
	meta.cold = everything || merged || day_is_over(m, meta.day);
	engine_part_name(m, 's', name);
	TRY(metrics_part_writer_new(m->parts_folder, name, &meta, &g->writer, e));
	for (size_t i = 0; i < count; i++)
		TRY(metrics_part_cursor_next(g->inputs[i].cursor, &g->inputs[i].id,
					     &g->inputs[i].bad, e));
	return OK;
}

/* ---- One series. */

/* Hide from RUN what was deleted from the part IN. */
static void purge(struct metrics *m, struct merge *g, const struct input *in)
{
	const struct metrics_part_meta *p = metrics_part_meta(in->part);
	bool have_key = false;
	for (size_t i = 0; i < g->view->tombstone_count; i++) {
		const struct tombstone *t = g->view->tombstones[i];
		if (!concerns(t, p))
			continue;
		if (!have_key && !engine_series_key(m, g->view, in->id, &g->key))
			return;
		have_key = true;
		if (tombstone_selects(t, buf_str(&g->key)))
			tombstone_apply(t, &g->run, 0);
	}
}

/* Behind what is there, or into it: of equal times the later written stays. */
static void add_run(struct merge *g)
{
	struct metrics_samples *s = &g->samples;
	if (!g->run.count)
		return;
	if (!s->count || s->times[s->count - 1] < g->run.times[0]) {
		samples_append(s, &g->run, 0, g->run.count);
		return;
	}
	samples_clear(&g->merged);
	samples_merge(&g->merged, s, &g->run);
	struct metrics_samples swap = *s;
	*s = g->merged;
	g->merged = swap;
	/* histograms stay where they live: the arenas stay with their owners */
	struct arena *arena = s->arena;
	s->arena = g->merged.arena;
	g->merged.arena = arena;
}

static errc merge_series(struct metrics *m, struct merge *g, uint32_t id, struct err *e)
{
	bool one = true;
	samples_clear(&g->samples);
	for (size_t i = 0, count = 0; i < g->input_count; i++)
		one = (count += g->inputs[i].id == id) < 2;
	for (size_t i = 0; i < g->input_count; i++) {
		struct input *in = &g->inputs[i];
		if (in->id != id)
			continue;
		/* histograms of several parts must live until the series is written */
		struct metrics_samples *into = &g->run;
		into->count = 0;
		if (one)
			samples_clear(into);
		else if (into->histograms)
			memset(into->histograms, 0, into->room * sizeof(into->histograms[0]));
		TRY(metrics_part_cursor_read(in->cursor, into, &in->bad, e));
		purge(m, g, in);
		add_run(g);
		TRY(metrics_part_cursor_next(in->cursor, &in->id, &in->bad, e));
	}
	TRY(metrics_part_writer_add(g->writer, id, &g->samples, e));
	samples_clear(&g->run);
	return OK;
}

static uint32_t lowest_id(const struct merge *g)
{
	uint32_t id = 0;
	for (size_t i = 0; i < g->input_count; i++)
		if (g->inputs[i].id && (!id || g->inputs[i].id < id))
			id = g->inputs[i].id;
	return id;
}

/* ---- The end. */

/* Parts of which something could not be read stay as they are: it may be readable another day. */
static bool is_whole(struct metrics *m, struct merge *g)
{
	bool whole = true;
	for (size_t i = 0; i < g->input_count; i++) {
		if (!g->inputs[i].bad)
			continue;
		count_up(&m->counters.bad_blocks, g->inputs[i].bad);
		metrics_part_set_damaged(g->inputs[i].part);
		whole = false;
	}
	return whole;
}

static errc finish(struct metrics *m, struct merge *g, struct err *e)
{
	struct metrics_part *removed[PARTS_MAX], *added = NULL;
	struct metrics_part_meta meta;
	bool empty = metrics_part_writer_samples(g->writer) == 0;
	for (size_t i = 0; i < g->input_count; i++)
		removed[i] = g->inputs[i].part;
	struct view_change change = { .parts_removed = removed,
				      .part_removed_count = g->input_count };
	if (!empty) {
		TRY(metrics_part_writer_finish(g->writer, &meta, NULL, e));
		TRY(metrics_part_open(m->parts_folder, metrics_part_writer_name(g->writer),
				      m->quarantine, &added, e));
		change.parts_added = &added;
		change.part_added_count = 1;
	}
	errc rc = engine_commit(m, &change, e);
	metrics_part_unref(added);
	if (rc == OK)
		count_up(&m->counters.merges, 1);
	return rc;
}

static errc advance(struct metrics *m, struct merge *g, int64_t deadline, bool *ret_done,
		    struct err *e)
{
	*ret_done = false;
	for (uint32_t id; (id = lowest_id(g));) {
		TRY(merge_series(m, g, id, e));
		if (++g->seen % LOOK_EVERY == 0 && clock_mono_ms() >= deadline)
			return OK;
	}
	*ret_done = true;
	return OK;
}

/* ---- Index segments. */

struct gathering {
	struct index_entry *entries;
	size_t *offsets;
	size_t count, room;
	struct buf keys;
};

static errc gather(void *ctx, uint32_t id, str key, struct err *e)
{
	struct gathering *g = ctx;
	(void)e;
	if (g->count == g->room) {
		g->room = g->room ? g->room * 2 : 1024;
		g->entries = must_realloc(g->entries, g->room * sizeof(g->entries[0]));
		g->offsets = must_realloc(g->offsets, g->room * sizeof(g->offsets[0]));
	}
	g->offsets[g->count] = g->keys.len;
	g->entries[g->count++] = (struct index_entry){ id, { NULL, key.len } };
	buf_add(&g->keys, key);
	return OK;
}

/* The segments of one day as one. */
static errc merge_segments(struct metrics *m, struct index_segment *const *segments, size_t count,
			   bool *ret_did, struct err *e)
{
	struct gathering g = { .keys = buf_init(KEYS_BYTES_MAX) };
	struct index_segment *added = NULL;
	char name[PART_NAME_MAX + 1];
	errc rc = OK;
	size_t expected = 0;
	for (size_t i = 0; i < count && rc == OK; i++) {
		expected += index_segment_count(segments[i]);
		rc = index_segment_each(segments[i], gather, &g, e);
	}
	/* labels that could not be read are not to be lost for good */
	*ret_did = g.count == expected;
	if (rc == OK)
		rc = buf_check(&g.keys, "the labels of a day", e);
	for (size_t i = 0; i < g.count; i++)
		g.entries[i].key.ptr = g.keys.ptr + g.offsets[i];
	engine_part_name(m, 'i', name);
	if (rc == OK && *ret_did)
		rc = index_segment_write(m->parts_folder, name, index_segment_day(segments[0]),
					 g.entries, g.count, NULL, e);
	if (rc == OK && *ret_did)
		rc = index_segment_open(m->parts_folder, name, m->quarantine, &added, e);
	struct view_change change = { .segments_added = &added,
				      .segment_added_count = added != NULL,
				      .segments_removed = segments,
				      .segment_removed_count = count };
	if (rc == OK && *ret_did)
		rc = engine_commit(m, &change, e);
	index_segment_unref(added);
	buf_done(&g.keys);
	free(g.entries);
	free(g.offsets);
	return rc;
}

static errc merge_indexes(struct metrics *m, struct view *v, bool everything, bool *ret_did,
			  struct err *e)
{
	for (size_t i = 0, n; i < v->segment_count; i += n) {
		uint32_t day = index_segment_day(v->segments[i]);
		n = 1;
		while (i + n < v->segment_count && index_segment_day(v->segments[i + n]) == day)
			n++;
		if (n <= (everything || day_is_over(m, day) ? 1 : SEGMENTS_MAX))
			continue;
		bool damaged = false;
		for (size_t k = 0; k < n; k++)
			damaged |= index_segment_is_damaged(v->segments[i + k]);
		if (damaged)
			continue;
		TRY(merge_segments(m, v->segments + i, n, ret_did, e));
		if (*ret_did)
			return OK;
	}
	return OK;
}

/* ---- */

static errc start_some(struct metrics *m, bool everything, bool *ret_more, struct err *e)
{
	struct metrics_part *chosen[PARTS_MAX];
	struct view *v = engine_view(m);
	size_t n = choose(m, v, everything, chosen);
	errc rc = OK;
	if (n && has_room(m, chosen, n)) {
		rc = begin(m, v, chosen, n, everything, e);
		*ret_more = rc == OK;
	} else {
		rc = merge_indexes(m, v, everything, ret_more, e);
		if (rc == OK && !*ret_more)
			rc = rollup_one(m, ret_more, e);
	}
	view_unref(v);
	return rc;
}

errc merge_slice(struct metrics *m, bool everything, int64_t deadline, bool *ret_more,
		 struct err *e)
{
	bool done = false;
	*ret_more = false;
	errc rc = OK;
	if (!m->merge)
		rc = start_some(m, everything, ret_more, e);
	if (rc == OK && m->merge) {
		*ret_more = true;
		rc = advance(m, m->merge, deadline, &done, e);
		if (rc == OK && done && is_whole(m, m->merge))
			rc = finish(m, m->merge, e);
	}
	if (rc != OK || done)
		merge_abort(m);
	if (rc != OK)
		*ret_more = false;
	return rc;
}
