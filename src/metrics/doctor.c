/*
 * The doctor: reads everything that the manifest names, block by block and sample by sample, says
 * what is bad, and when it may, writes parts with something bad anew from what is good.
 *
 * Order of a repair: new parts, a manifest that names them, then the old ones into quarantine/. A
 * crash in between leaves the one or the other state, both whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/checks.h"
#include "metrics/engine_state.h"
#include "metrics/metrics_internal.h"
#include "metrics/metrics_part_internal.h"
#include "metrics/samples.h"
#include "metrics/series_key.h"
#include "os/io.h"

enum { MANIFEST_ARENA_MAX = 256 << 20, KEYS_BYTES_MAX = 1 << 30, LINE_MAX_BYTES = 600 };

struct doctor {
	bool repair;
	char folder[IO_PATH_MAX - 256], parts[IO_PATH_MAX - 128], log[IO_PATH_MAX - 128];
	struct buf *report;
	uint64_t bad;
	struct quarantine *quarantine;
	struct arena arena;
	struct store_manifest *manifest; /* NULL without repair */
	struct store_manifest_found found;
	struct engine_state state;
	struct tombstone **tombstones;
	size_t tombstone_count;
	/* what the next manifest names, and what goes into quarantine/ after it */
	struct store_manifest_part *kept;
	str *aside;
	size_t kept_count, aside_count;
	bool has_side;
};

__attribute__((format(printf, 2, 3))) static void finding(struct doctor *d, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	buf_add_c(d->report, line);
	buf_add_byte(d->report, '\n');
	d->bad++;
}

static void keep(struct doctor *d, str name, uint64_t bytes)
{
	d->kept[d->kept_count++] =
		(struct store_manifest_part){ .name = name, .bytes = bytes, .note = STR("") };
}

/* NAME is not in the next manifest. */
static void put_aside(struct doctor *d, const char *name)
{
	d->aside[d->aside_count++] = str_c(name);
}

static errc fresh_name(struct doctor *d, char kind, str *ret_name, struct err *e)
{
	char name[PART_NAME_MAX + 1];
	snprintf(name, sizeof(name), "%c-%016llx.part", kind,
		 (unsigned long long)d->state.next_file++);
	*ret_name = arena_str(&d->arena, str_c(name));
	return arena_check(&d->arena, "the manifest", e);
}

/* ---- Samples. */

struct walked {
	uint64_t samples, series, bad, disorder;
};

static void put_in_order(struct metrics_samples *s, struct walked *ret)
{
	for (size_t i = 1; i < s->count; i++)
		if (s->times[i - 1] >= s->times[i]) {
			ret->disorder++;
			samples_order(s, 0);
			return;
		}
}

/* Read all of a raw part, and write what is good to W, which may be NULL. */
static errc walk_raw(struct metrics_part *p, struct metrics_part_writer *w, struct walked *ret,
		     struct err *e)
{
	struct metrics_part_cursor *cursor = metrics_part_cursor_new(p);
	struct metrics_samples s = { 0 };
	uint32_t id = 0;
	errc rc = OK;
	while (rc == OK) {
		rc = metrics_part_cursor_next(cursor, &id, &ret->bad, e);
		if (rc != OK || !id)
			break;
		samples_clear(&s);
		rc = metrics_part_cursor_read(cursor, &s, &ret->bad, e);
		put_in_order(&s, ret);
		ret->series++;
		ret->samples += s.count;
		if (rc == OK && w)
			rc = metrics_part_writer_add(w, id, &s, e);
	}
	metrics_part_cursor_free(cursor);
	metrics_samples_done(&s);
	return rc;
}

static errc walk_rollup_series(struct metrics_part *p, uint32_t id, struct metrics_part_writer *w,
			       struct metrics_samples columns[static PART_COLUMNS_MAX],
			       struct walked *ret, struct err *e)
{
	const double *values[PART_COLUMNS_MAX];
	uint64_t bad = 0;
	for (size_t c = 0; c < PART_COLUMNS_MAX; c++) {
		samples_clear(&columns[c]);
		TRY(metrics_part_read(p, id, INT64_MIN, INT64_MAX, (enum metrics_rollup)c,
				      &columns[c], &bad, e));
		put_in_order(&columns[c], ret);
		values[c] = columns[c].values;
	}
	ret->bad += bad;
	for (size_t c = 1; c < PART_COLUMNS_MAX; c++) {
		if (columns[c].count == columns[0].count)
			continue;
		/* half a series is none: which minimum belongs to which sum? */
		ret->bad += bad == 0;
		return OK;
	}
	if (columns[0].count > SERIES_VECTORS_MAX) {
		ret->bad++;
		return OK;
	}
	ret->series += columns[0].count > 0;
	ret->samples += columns[0].count;
	return w ? metrics_part_writer_rollup(w, id, columns[0].times, values, columns[0].count, e)
		 : OK;
}

static errc walk_rollup(struct metrics_part *p, struct metrics_part_writer *w, struct walked *ret,
			struct err *e)
{
	struct metrics_samples columns[PART_COLUMNS_MAX] = { 0 };
	struct id_set ids CLEANUP(id_set_done) = { 0 };
	errc rc = OK;
	metrics_part_ids(p, &ids);
	for (size_t i = 0; i < ids.count && rc == OK; i++)
		if (ids.ids[i])
			rc = walk_rollup_series(p, ids.ids[i], w, columns, ret, e);
	for (size_t c = 0; c < PART_COLUMNS_MAX; c++)
		metrics_samples_done(&columns[c]);
	return rc;
}

static errc walk_part(struct metrics_part *p, struct metrics_part_writer *w, struct walked *ret,
		      struct err *e)
{
	*ret = (struct walked){ 0 };
	return metrics_part_meta(p)->resolution == METRICS_RAW ? walk_raw(p, w, ret, e)
							       : walk_rollup(p, w, ret, e);
}

static errc rewrite_part(struct doctor *d, const char *old, struct metrics_part *p, struct err *e)
{
	struct metrics_part_writer *w = NULL;
	struct metrics_part_meta meta;
	struct walked walked;
	uint64_t bytes = 0;
	str name;
	TRY(fresh_name(d, 's', &name, e));
	TRY(metrics_part_writer_new(d->parts, name.ptr, metrics_part_meta(p), &w, e));
	errc rc = walk_part(p, w, &walked, e);
	bool any = metrics_part_writer_samples(w) > 0;
	if (rc == OK && any)
		rc = metrics_part_writer_finish(w, &meta, &bytes, e);
	metrics_part_writer_free(w);
	if (rc == OK && any)
		keep(d, name, bytes);
	if (rc == OK)
		put_aside(d, old);
	return rc;
}

/* What an older manifest cannot know: ids and writes that other parts have used. */
static void note_numbers(struct doctor *d, struct metrics_part *p)
{
	struct id_set ids CLEANUP(id_set_done) = { 0 };
	uint64_t write = metrics_part_meta(p)->last_write + 1;
	metrics_part_ids(p, &ids);
	if (ids.count && d->state.next_id <= ids.ids[ids.count - 1])
		d->state.next_id = (uint64_t)ids.ids[ids.count - 1] + 1;
	d->state.next_write = write > d->state.next_write ? write : d->state.next_write;
}

static errc look_at_samples(struct doctor *d, const char *name, struct err *e)
{
	struct metrics_part *p = NULL;
	struct walked walked;
	uint64_t bad = 0, before = d->bad;
	TRY(metrics_part_open(d->parts, name, d->quarantine, &p, e));
	const struct metrics_part_meta *meta = metrics_part_meta(p);
	struct part_file *file = metrics_part_file(p);
	errc rc = part_file_verify(file, &bad, e);
	if (rc == OK)
		rc = walk_part(p, NULL, &walked, e);
	if (rc == OK) {
		note_numbers(d, p);
		if (part_file_is_damaged(file))
			finding(d, "%s: one of its two tables of blocks is bad", name);
		if (bad)
			finding(d, "%s: %llu of its %u blocks are bad", name,
				(unsigned long long)bad, part_block_count(file));
		else if (walked.bad)
			finding(d, "%s: %llu vectors of samples cannot be decoded", name,
				(unsigned long long)walked.bad);
		if (walked.disorder)
			finding(d, "%s: the samples of %llu series are not in order", name,
				(unsigned long long)walked.disorder);
		if (walked.samples != meta->sample_count)
			finding(d, "%s: %llu of its %llu samples can be read", name,
				(unsigned long long)walked.samples,
				(unsigned long long)meta->sample_count);
		if (d->bad == before)
			keep(d, str_c(name), part_file_bytes(file));
		else if (d->repair)
			rc = rewrite_part(d, name, p, e);
	}
	metrics_part_unref(p);
	return rc;
}

/* ---- Indexes. */

struct gathered {
	struct index_entry *entries;
	size_t *offsets;
	size_t count, room;
	uint32_t id_max;
	struct buf keys;
};

static errc gather(void *ctx, uint32_t id, str key, struct err *e)
{
	struct gathered *g = ctx;
	if (g->count == g->room) {
		g->room = g->room ? g->room * 2 : 1024;
		g->entries = must_realloc(g->entries, g->room * sizeof(g->entries[0]));
		g->offsets = must_realloc(g->offsets, g->room * sizeof(g->offsets[0]));
	}
	g->id_max = id > g->id_max ? id : g->id_max;
	g->offsets[g->count] = g->keys.len;
	g->entries[g->count++] = (struct index_entry){ id, { NULL, key.len } };
	buf_add(&g->keys, key);
	return buf_check(&g->keys, "the labels of a day", e);
}

static errc rewrite_index(struct doctor *d, const char *old, struct index_segment *s,
			  struct gathered *g, struct err *e)
{
	uint64_t bytes = 0;
	str name;
	put_aside(d, old);
	if (!g->count)
		return OK;
	for (size_t i = 0; i < g->count; i++)
		g->entries[i].key.ptr = g->keys.ptr + g->offsets[i];
	TRY(fresh_name(d, 'i', &name, e));
	TRY(index_segment_write(d->parts, name.ptr, index_segment_day(s), g->entries, g->count,
				&bytes, e));
	keep(d, name, bytes);
	return OK;
}

static errc look_at_index(struct doctor *d, const char *name, struct err *e)
{
	struct index_segment *s = NULL;
	struct gathered g = { .keys = buf_init(KEYS_BYTES_MAX) };
	uint64_t bad = 0, before = d->bad;
	TRY(index_segment_open(d->parts, name, d->quarantine, &s, e));
	struct part_file *file = index_segment_file(s);
	errc rc = part_file_verify(file, &bad, e);
	if (rc == OK)
		rc = index_segment_each(s, gather, &g, e);
	if (rc == OK) {
		if (d->state.next_id <= g.id_max)
			d->state.next_id = (uint64_t)g.id_max + 1;
		if (part_file_is_damaged(file))
			finding(d, "%s: one of its two tables of blocks is bad", name);
		if (bad)
			finding(d, "%s: %llu of its %u blocks are bad", name,
				(unsigned long long)bad, part_block_count(file));
		if (g.count != index_segment_count(s))
			finding(d, "%s: the labels of %zu of its %zu series can be read", name,
				g.count, index_segment_count(s));
		if (d->bad == before)
			keep(d, str_c(name), part_file_bytes(file));
		else if (d->repair)
			rc = rewrite_index(d, name, s, &g, e);
	}
	index_segment_unref(s);
	buf_done(&g.keys);
	free(g.entries);
	free(g.offsets);
	return rc;
}

/* ---- Metadata and exemplars. */

static errc look_at_side(struct doctor *d, const char *name, struct err *e)
{
	struct part_file *file = NULL;
	uint64_t bad = 0;
	TRY(part_file_open(d->parts, name, "metrics.side", d->quarantine, &file, e));
	errc rc = part_file_verify(file, &bad, e);
	if (rc == OK && (bad || part_file_is_damaged(file)))
		/* the next flush writes it anew, from what can be read */
		finding(d, "%s: some metadata or exemplars cannot be read", name);
	if (rc == OK && !d->has_side)
		keep(d, str_c(name), part_file_bytes(file));
	else if (rc == OK)
		put_aside(d, name);
	d->has_side |= rc == OK;
	part_file_unref(file);
	return rc;
}

/* ---- All of it. */

static void note_file(struct doctor *d, const char *name)
{
	unsigned long long number = 0;
	if (name[0] && sscanf(name + 1, "-%16llx.part", &number) == 1 &&
	    number >= d->state.next_file)
		d->state.next_file = number + 1;
}

static errc look_at(struct doctor *d, const char *name, struct err *e)
{
	struct err why = { 0 };
	errc rc = ERR_CORRUPT;
	snprintf(why.message, sizeof(why.message), "%s: no part of metrics has such a name", name);
	if (name[0] == 's')
		rc = look_at_samples(d, name, &why);
	else if (name[0] == 'i')
		rc = look_at_index(d, name, &why);
	else if (name[0] == 'x')
		rc = look_at_side(d, name, &why);
	if (rc == OK)
		return OK;
	if (rc != ERR_CORRUPT && rc != ERR_NOT_FOUND) {
		if (e)
			*e = why;
		return rc;
	}
	finding(d, "%s", why.message);
	put_aside(d, name);
	return OK;
}

static errc look_at_parts(struct doctor *d, struct err *e)
{
	const struct store_manifest_found *f = &d->found;
	size_t count = f->content.part_count + f->orphan_count;
	d->kept = must_calloc(count + 1, sizeof(d->kept[0]));
	d->aside = must_calloc(count + 1, sizeof(d->aside[0]));
	for (size_t i = 0; i < f->content.part_count; i++)
		note_file(d, f->content.parts[i].name.ptr);
	for (size_t i = 0; i < f->orphan_count; i++)
		note_file(d, f->orphans[i].ptr);
	if (f->fell_back)
		finding(d, "the newest manifest is bad; the one before it counts");
	for (size_t i = 0; i < f->content.part_count; i++) {
		const char *name = f->content.parts[i].name.ptr;
		if (f->missing[i])
			finding(d, "%s: it is missing, or not of its size", name);
		else
			TRY(look_at(d, name, e));
	}
	for (size_t i = 0; i < f->orphan_count; i++)
		TRY(look_at(d, f->orphans[i].ptr, e));
	return OK;
}

static errc look_at_log(struct doctor *d, struct err *e)
{
	struct wal_options options = { .folder = d->log,
				       .engine = METRICS_ENGINE,
				       .quarantine = d->quarantine };
	struct wal_report r = { 0 };
	if (access(d->log, F_OK) < 0 && errno == ENOENT)
		return OK;
	TRY(wal_scan(&options, d->state.log_position, NULL, NULL, &r, e));
	if (r.bad_span_count)
		finding(d, "the log has %llu bad spans, %llu bytes; they are passed over",
			(unsigned long long)r.bad_span_count, (unsigned long long)r.bad_bytes);
	/* an older manifest wants groups that were rightly cut off */
	if (r.lost_count && !d->found.fell_back)
		finding(d, "%llu batches are missing in the log", (unsigned long long)r.lost_count);
	return OK;
}

static errc commit(struct doctor *d, struct err *e)
{
	struct buf state CLEANUP(buf_done) = buf_init(STORE_MANIFEST_STATE_MAX);
	engine_state_write(&d->state, d->tombstones, d->tombstone_count, &state);
	TRY(buf_check(&state, "the deletions", e));
	struct store_manifest_content content = { .state = buf_str(&state),
						  .parts = d->kept,
						  .part_count = d->kept_count };
	TRY(store_manifest_commit(d->manifest, &content, e));
	for (size_t i = 0; i < d->aside_count; i++) {
		char path[IO_PATH_MAX];
		snprintf(path, sizeof(path), "%s/%.*s", d->parts, STR_ARG(d->aside[i]));
		errc rc = quarantine_move(path, e);
		if (rc != OK && rc != ERR_NOT_FOUND)
			return rc;
	}
	return OK;
}

static errc examine(struct doctor *d, struct err *e)
{
	struct store_manifest_found *f = &d->found;
	d->state = (struct engine_state){ 1, 1, 1, 1, 1 };
	if (d->repair)
		TRY(store_manifest_open(d->parts, METRICS_ENGINE, d->quarantine, &d->arena, f,
					&d->manifest, e));
	else
		TRY(store_manifest_scan(d->parts, METRICS_ENGINE, d->quarantine, &d->arena, f, e));
	if (f->generation)
		TRY(engine_state_read(f->content.state, &d->state, &d->tombstones,
				      &d->tombstone_count, e));
	TRY(look_at_parts(d, e));
	uint64_t in_parts = d->bad;
	TRY(look_at_log(d, e));
	/* a log is never changed: its bad spans are passed over, and it is cut by the next flush */
	return d->repair && in_parts ? commit(d, e) : OK;
}

/* Errors: ERR_NOT_FOUND when nothing is there, ERR_BUSY when the engine is open. */
static errc lock(const struct doctor *d, int *ret_fd, struct err *e)
{
	char path[IO_PATH_MAX];
	if (access(d->parts, F_OK) < 0)
		FAIL(e, ERR_NOT_FOUND, "%s holds no metrics", d->folder);
	snprintf(path, sizeof(path), "%s/lock", d->folder);
	*ret_fd = open(path, O_RDWR | O_CLOEXEC | (d->repair ? O_CREAT : 0), 0600);
	if (*ret_fd < 0 && errno == ENOENT)
		return OK; /* nobody ever opened it, and to look changes nothing */
	if (*ret_fd < 0)
		FAIL_ERRNO(e, "cannot open %s", path);
	if (flock(*ret_fd, LOCK_EX | LOCK_NB) < 0)
		FAIL(e, ERR_BUSY, "another process has the metrics in %s open; stop it first",
		     d->folder);
	return OK;
}

errc metrics_doctor(const char *folder, bool repair, struct buf *report, uint64_t *ret_bad_count,
		    struct err *e)
{
	struct doctor *d = must_calloc(1, sizeof(*d));
	int fd = -1;
	errc rc = OK;
	d->repair = repair;
	d->report = report;
	d->quarantine = quarantine_new();
	d->arena = arena_init(MANIFEST_ARENA_MAX);
	if (!str_copy(str_c(folder), d->folder, sizeof(d->folder)))
		rc = err_fill(e, ERR_LIMIT, 0, __FILE__, __LINE__, "the path %.60s… is too long",
			      folder);
	snprintf(d->parts, sizeof(d->parts), "%s/parts", d->folder);
	snprintf(d->log, sizeof(d->log), "%s/log", d->folder);
	if (rc == OK)
		rc = lock(d, &fd, e);
	if (rc == OK)
		rc = examine(d, e);
	if (rc == OK)
		rc = buf_check(report, "the report", e);
	if (rc == OK)
		*ret_bad_count = d->bad;
	for (size_t i = 0; i < d->tombstone_count; i++)
		tombstone_unref(d->tombstones[i]);
	free(d->tombstones);
	free(d->kept);
	free(d->aside);
	store_manifest_close(d->manifest);
	arena_done(&d->arena);
	quarantine_free(d->quarantine);
	io_close(&fd);
	free(d);
	return rc;
}
