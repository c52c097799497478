/*
 * A flush: the head is frozen, its samples become parts by day and retention class, the series that
 * are new to a day an index segment; then the log is cut.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/metrics_internal.h"
#include "metrics/samples.h"
#include "metrics/series_key.h"
#include "os/clock.h"

enum {
	WRITERS_MAX = 16, /* parts at a time; samples of many days take several passes */
	LOOK_EVERY = 64,  /* series between two looks at the clock */
};

struct day_writer {
	uint32_t day, retention_class;
	struct metrics_part_writer *writer;
};

/* An entry to be of a day's index. */
struct day_entry {
	uint32_t day, id;
	size_t offset, len; /* of its key */
};

struct flush {
	struct head *head;
	uint64_t position;
	struct id_set ids;
	size_t at;
	struct day_writer writers[WRITERS_MAX];
	size_t writer_count;
	size_t done_count; /* of the parts: those of earlier passes */
	bool left;         /* some samples wait for another pass */
	struct metrics_samples samples;
	struct metrics_part **parts;
	size_t part_count;
	struct day_entry *entries;
	size_t entry_count, entry_room;
	struct buf keys;
	struct view *view;
	uint64_t write;
	bool committing; /* a manifest may name the parts */
};

static void free_flush(struct flush *f)
{
	for (size_t i = 0; i < f->writer_count; i++)
		metrics_part_writer_free(f->writers[i].writer);
	for (size_t i = 0; i < f->part_count; i++) {
		if (!f->committing) /* or every try would leave its files behind */
			part_file_doom(metrics_part_file(f->parts[i]));
		metrics_part_unref(f->parts[i]);
	}
	free(f->parts);
	free(f->entries);
	buf_done(&f->keys);
	id_set_done(&f->ids);
	metrics_samples_done(&f->samples);
	view_unref(f->view);
	head_unref(f->head);
	free(f);
}

void flush_abort(struct metrics *m)
{
	if (m->flush)
		free_flush(m->flush);
	m->flush = NULL;
}

/* ---- Freezing. */

/* The head that is written to from now on; false when there is nothing to flush. */
static bool freeze(struct metrics *m)
{
	pthread_mutex_lock(&m->state);
	bool any = m->frozen || m->head->count;
	if (!m->frozen && any) {
		/* every group before this is in the frozen head, every later one in the new */
		struct head *fresh = head_new(m->head->generation + 1, m->applied_next);
		fresh->started_at = engine_now(m);
		m->frozen = m->head;
		m->head = fresh;
		charge_head(m);
	}
	pthread_mutex_unlock(&m->state);
	return any;
}

static void begin(struct metrics *m)
{
	struct flush *f = must_calloc(1, sizeof(*f));
	pthread_mutex_lock(&m->state);
	f->head = head_ref(m->frozen);
	f->position = m->head->position;
	pthread_mutex_unlock(&m->state);
	id_set_copy(&f->ids, f->head->touched.ids, f->head->touched.count);
	id_set_normalize(&f->ids);
	f->keys = buf_init((size_t)1 << 31);
	f->view = engine_view(m);
	f->write = m->next_write++;
	m->flush = f;
}

/* ---- One series. */

/* Whether an earlier pass wrote that part. */
static bool is_done(const struct flush *f, uint32_t day, uint32_t retention_class)
{
	for (size_t i = 0; i < f->done_count; i++) {
		const struct metrics_part_meta *p = metrics_part_meta(f->parts[i]);
		if (p->day == day && p->retention_class == retention_class)
			return true;
	}
	return false;
}

/* *RET NULL: not in this pass. */
static errc writer_of(struct metrics *m, struct flush *f, uint32_t day, uint32_t retention_class,
		      struct metrics_part_writer **ret, struct err *e)
{
	char name[PART_NAME_MAX + 1];
	for (size_t i = 0; i < f->writer_count; i++) {
		if (f->writers[i].day != day || f->writers[i].retention_class != retention_class)
			continue;
		*ret = f->writers[i].writer;
		return OK;
	}
	*ret = NULL;
	if (is_done(f, day, retention_class))
		return OK;
	if (f->writer_count == WRITERS_MAX) {
		f->left = true;
		return OK;
	}
	struct metrics_part_meta meta = { .resolution = METRICS_RAW,
					  .day = day,
					  .retention_class = retention_class,
					  .first_write = f->write,
					  .last_write = f->write };
	struct day_writer *w = &f->writers[f->writer_count];
	engine_part_name(m, 's', name);
	TRY(metrics_part_writer_new(m->parts_folder, name, &meta, &w->writer, e));
	w->day = day;
	w->retention_class = retention_class;
	f->writer_count++;
	*ret = w->writer;
	return OK;
}

static bool is_indexed(struct flush *f, uint32_t day, uint32_t id, struct buf *scratch)
{
	for (size_t i = f->view->segment_count; i-- > 0;)
		if (index_segment_day(f->view->segments[i]) == day &&
		    index_segment_key(f->view->segments[i], id, scratch))
			return true;
	return false;
}

static void add_entry(struct flush *f, uint32_t day, uint32_t id, str key)
{
	if (f->entry_count == f->entry_room) {
		f->entry_room = f->entry_room ? f->entry_room * 2 : 1024;
		f->entries = must_realloc(f->entries, f->entry_room * sizeof(f->entries[0]));
	}
	f->entries[f->entry_count++] = (struct day_entry){ day, id, f->keys.len, key.len };
	buf_add(&f->keys, key);
}

/* What of a series is needed without the lock. */
struct taken {
	uint32_t chain, indexed_day, retention_class;
	bool in_order;
};

static bool take(struct metrics *m, struct flush *f, uint32_t id, struct taken *ret)
{
	pthread_mutex_lock(&m->state);
	const struct series *s = series_table_get(&m->table, id);
	if (s)
		*ret = (struct taken){ .chain = head_chain(f->head, s),
				       .indexed_day = s->indexed_day,
				       .retention_class = s->retention,
				       .in_order = head_in_order(s, f->head) };
	pthread_mutex_unlock(&m->state);
	return s && ret->chain;
}

static void index_series(struct metrics *m, struct flush *f, uint32_t id, uint32_t day,
			 uint32_t indexed_day)
{
	struct buf scratch CLEANUP(buf_done) = buf_init(SERIES_KEY_BYTES_MAX);
	if (day == indexed_day ||
	    (indexed_day && day < indexed_day && is_indexed(f, day, id, &scratch)) ||
	    (!indexed_day && f->view->segment_count && is_indexed(f, day, id, &scratch)))
		return;
	pthread_rwlock_rdlock(&m->index);
	const struct series *s = series_table_get(&m->table, id);
	if (s && s->key)
		add_entry(f, day, id, series_key(s));
	pthread_rwlock_unlock(&m->index);
}

/* The samples of one day: a view on [begin, end) of ALL. */
static struct metrics_samples part_of(const struct metrics_samples *all, size_t begin, size_t end)
{
	return (struct metrics_samples){
		.times = all->times + begin,
		.values = all->values + begin,
		.histograms = all->histograms ? all->histograms + begin : NULL,
		.count = end - begin,
	};
}

static errc flush_series(struct metrics *m, struct flush *f, uint32_t id, struct err *e)
{
	struct taken t;
	struct metrics_samples *s = &f->samples;
	if (!take(m, f, id, &t))
		return OK;
	samples_clear(s);
	TRY(head_read(f->head, t.chain, t.in_order, INT64_MIN, INT64_MAX, s, e));
	for (size_t begin = 0, end; begin < s->count; begin = end) {
		struct metrics_part_writer *w = NULL;
		uint32_t day = day_of(s->times[begin]);
		end = begin + 1;
		while (end < s->count && day_of(s->times[end]) == day)
			end++;
		TRY(writer_of(m, f, day, t.retention_class, &w, e));
		if (!w)
			continue;
		struct metrics_samples part = part_of(s, begin, end);
		TRY(metrics_part_writer_add(w, id, &part, e));
		index_series(m, f, id, day, t.indexed_day);
	}
	return OK;
}

/* ---- The end. */

static errc finish_parts(struct metrics *m, struct flush *f, struct err *e)
{
	f->parts = must_realloc(f->parts,
				(f->part_count + f->writer_count + 1) * sizeof(f->parts[0]));
	while (f->writer_count) {
		struct metrics_part_writer *w = f->writers[f->writer_count - 1].writer;
		struct metrics_part_meta meta;
		char name[PART_NAME_MAX + 1];
		errc rc = metrics_part_writer_finish(w, &meta, NULL, e);
		if (rc == OK)
			must(str_copy(str_c(metrics_part_writer_name(w)), name, sizeof(name)));
		metrics_part_writer_free(w);
		f->writer_count--;
		TRY(rc);
		TRY(metrics_part_open(m->parts_folder, name, m->quarantine,
				      &f->parts[f->part_count], e));
		f->part_count++;
	}
	return OK;
}

static int by_day(const void *a, const void *b)
{
	const struct day_entry *x = a, *y = b;
	if (x->day != y->day)
		return x->day < y->day ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

static errc write_segment(struct metrics *m, const struct flush *f, size_t first, size_t count,
			  struct index_segment **ret, struct err *e)
{
	char name[PART_NAME_MAX + 1];
	struct index_entry *entries = must_calloc(count, sizeof(entries[0]));
	for (size_t i = 0; i < count; i++) {
		const struct day_entry *d = &f->entries[first + i];
		entries[i] = (struct index_entry){ d->id, { f->keys.ptr + d->offset, d->len } };
	}
	engine_part_name(m, 'i', name);
	errc rc = index_segment_write(m->parts_folder, name, f->entries[first].day, entries, count,
				      NULL, e);
	free(entries);
	TRY(rc);
	return index_segment_open(m->parts_folder, name, m->quarantine, ret, e);
}

/* Series that are in an index of DAY or a later one now. Holds: state. */
static void note_indexed(struct metrics *m, const struct flush *f)
{
	for (size_t i = 0; i < f->entry_count; i++) {
		struct series *s = series_table_get(&m->table, f->entries[i].id);
		if (s && s->indexed_day < f->entries[i].day)
			s->indexed_day = f->entries[i].day;
	}
}

static errc commit_flush(struct metrics *m, struct flush *f, struct index_segment **segments,
			 size_t segment_count, struct err *e)
{
	struct part_file *side = NULL;
	TRY(side_file_write(m, &side, e));
	struct view_change change = { .parts_added = f->parts,
				      .part_added_count = f->part_count,
				      .segments_added = segments,
				      .segment_added_count = segment_count,
				      .side = side,
				      .log_position = f->position,
				      .frozen_done = true };
	f->committing = true;
	errc rc = engine_commit(m, &change, e);
	part_file_unref(side);
	TRY(rc);
	pthread_mutex_lock(&m->state);
	note_indexed(m, f);
	pthread_mutex_unlock(&m->state);
	count_up(&m->counters.flushes, 1);
	return wal_truncate(m->wal, f->position, e);
}

static errc finish(struct metrics *m, struct flush *f, struct err *e)
{
	TRY(finish_parts(m, f, e));
	TRY(buf_check(&f->keys, "the labels of new series", e));
	if (f->entry_count)
		qsort(f->entries, f->entry_count, sizeof(f->entries[0]), by_day);
	struct index_segment **segments = must_calloc(f->entry_count + 1, sizeof(segments[0]));
	size_t segment_count = 0;
	errc rc = OK;
	for (size_t first = 0, n; first < f->entry_count && rc == OK; first += n) {
		n = 1;
		while (first + n < f->entry_count &&
		       f->entries[first + n].day == f->entries[first].day)
			n++;
		rc = write_segment(m, f, first, n, &segments[segment_count], e);
		segment_count += rc == OK;
	}
	if (rc == OK)
		rc = commit_flush(m, f, segments, segment_count, e);
	for (size_t i = 0; i < segment_count; i++)
		index_segment_unref(segments[i]);
	free(segments);
	return rc;
}

/* One pass over the series; what it has no writer for waits for the next. */
static errc advance(struct metrics *m, struct flush *f, int64_t deadline, bool *ret_done,
		    struct err *e)
{
	*ret_done = false;
	for (;;) {
		while (f->at < f->ids.count) {
			TRY(flush_series(m, f, f->ids.ids[f->at], e));
			f->at++;
			if (f->at % LOOK_EVERY == 0 && clock_mono_ms() >= deadline)
				return OK;
		}
		if (!f->left)
			break;
		TRY(finish_parts(m, f, e));
		f->done_count = f->part_count;
		f->left = false;
		f->at = 0;
	}
	*ret_done = true;
	return OK;
}

errc flush_slice(struct metrics *m, bool force, int64_t deadline, bool *ret_more, struct err *e)
{
	bool done = false;
	(void)force;
	*ret_more = false;
	if (!m->flush) {
		if (!freeze(m))
			return OK;
		begin(m);
	}
	errc rc = advance(m, m->flush, deadline, &done, e);
	if (rc == OK && done)
		rc = finish(m, m->flush, e);
	if (rc != OK || done)
		flush_abort(m); /* what failed is begun anew, from the frozen head */
	*ret_more = rc == OK && !done;
	return rc;
}
