#include "metrics/recovery.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checks.h"
#include "metrics/engine_state.h"
#include "metrics/series_key.h"
#include "os/io.h"

#define BITS_BYTES ((size_t)1 << 29)

enum { MANIFEST_ARENA_MAX = 256 << 20, RESOLVE_SHARE = 64 };

uint64_t *bits_new(void)
{
	void *p = mmap(NULL, BITS_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(p != MAP_FAILED);
	return p;
}

void bits_free(uint64_t *bits)
{
	if (bits)
		munmap(bits, BITS_BYTES);
}

/* What the manifest names, as far as it can be opened. */
struct opened {
	struct metrics_part **parts;
	struct index_segment **segments;
	size_t part_count, segment_count;
	uint64_t highest_file;
};

static void opened_done(struct opened *o)
{
	for (size_t i = 0; i < o->part_count; i++)
		metrics_part_unref(o->parts[i]);
	for (size_t i = 0; i < o->segment_count; i++)
		index_segment_unref(o->segments[i]);
	free(o->parts);
	free(o->segments);
}

/* A part that cannot be used is kept where a person finds it. */
static errc set_aside(struct metrics *m, const char *name, struct err *e)
{
	char path[IO_PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", m->parts_folder, name);
	quarantine_add(m->quarantine, path, 0, 0, "the part cannot be opened");
	errc rc = quarantine_move(path, e);
	return rc == ERR_NOT_FOUND ? OK : rc;
}

static void note_file(struct opened *o, const char *name)
{
	unsigned long long number = 0;
	if (sscanf(name + 1, "-%16llx.part", &number) == 1 && number > o->highest_file)
		o->highest_file = number;
}

static errc open_one(struct metrics *m, struct opened *o, const char *name, struct err *e)
{
	struct err why = { 0 };
	errc rc = OK;
	note_file(o, name);
	switch (name[0]) {
	case 's':
		rc = metrics_part_open(m->parts_folder, name, m->quarantine,
				       &o->parts[o->part_count], &why);
		o->part_count += rc == OK;
		break;
	case 'i':
		rc = index_segment_open(m->parts_folder, name, m->quarantine,
					&o->segments[o->segment_count], &why);
		o->segment_count += rc == OK;
		break;
	case 'x':
		rc = m->side ? OK
			     : part_file_open(m->parts_folder, name, "metrics.side", m->quarantine,
					      &m->side, &why);
		if (rc == OK && m->side)
			side_file_read(m, m->side);
		break;
	default:
		rc = ERR_CORRUPT;
	}
	if (rc == OK)
		return OK;
	if (rc == ERR_CORRUPT || rc == ERR_NOT_FOUND)
		return set_aside(m, name, e);
	if (e)
		*e = why;
	return rc;
}

static errc open_parts(struct metrics *m, const struct store_manifest_found *f, struct opened *o,
		       struct err *e)
{
	size_t count = f->content.part_count + f->orphan_count + 1;
	o->parts = must_calloc(count, sizeof(o->parts[0]));
	o->segments = must_calloc(count, sizeof(o->segments[0]));
	for (size_t i = 0; i < f->content.part_count; i++) {
		if (f->missing[i])
			note_file(o, f->content.parts[i].name.ptr);
		else
			TRY(open_one(m, o, f->content.parts[i].name.ptr, e));
	}
	/* the newest manifest was bad: what it named is here, and what it had replaced as well; the
	 * same samples twice do no harm */
	for (size_t i = 0; i < f->orphan_count; i++)
		TRY(open_one(m, o, f->orphans[i].ptr, e));
	return OK;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What an older manifest cannot know: ids that the parts it does not name have given away. */
static uint64_t id_after(const struct opened *o)
{
	uint64_t after = 1;
	for (size_t i = 0; i < o->segment_count; i++) {
		struct id_set ids CLEANUP(id_set_done) = { 0 };
		struct index_source source = index_segment_source(o->segments[i]);
		if (source.all(source.ctx, &ids, NULL) != OK)
			continue;
		for (size_t k = 0; k < ids.count; k++)
			after = larger(after, (uint64_t)ids.ids[k] + 1);
	}
	for (size_t i = 0; i < o->part_count; i++) {
		struct id_set ids CLEANUP(id_set_done) = { 0 };
		metrics_part_ids(o->parts[i], &ids);
		after = larger(after, ids.count ? (uint64_t)ids.ids[ids.count - 1] + 1 : 1);
	}
	return after;
}

static errc take_manifest(struct metrics *m, const struct store_manifest_found *f, struct err *e)
{
	struct opened o = { 0 };
	struct engine_state s = { .next_id = 1,
				  .next_file = 1,
				  .next_write = 1,
				  .next_tombstone = 1,
				  .log_position = 1 };
	struct tombstone **tombstones = NULL;
	size_t tombstone_count = 0;
	errc rc = OK;
	if (f->generation)
		rc = engine_state_read(f->content.state, &s, &tombstones, &tombstone_count, e);
	if (rc == OK)
		rc = open_parts(m, f, &o, e);
	if (rc == OK) {
		m->next_file = larger(s.next_file, o.highest_file + 1);
		m->next_write = s.next_write;
		m->next_tombstone = s.next_tombstone;
		m->log_position = s.log_position;
		m->table.next_id = f->fell_back ? larger(s.next_id, id_after(&o)) : s.next_id;
		for (size_t i = 0; i < o.part_count; i++)
			m->next_write = larger(m->next_write,
					       metrics_part_meta(o.parts[i])->last_write + 1);
		view_unref(m->view);
		m->view = view_new(o.parts, o.part_count, o.segments, o.segment_count, tombstones,
				   tombstone_count);
	}
	for (size_t i = 0; i < tombstone_count; i++)
		tombstone_unref(tombstones[i]);
	free(tombstones);
	opened_done(&o);
	return rc;
}

/* ---- The log. */

static errc replay(void *ctx, struct wal_group *group, struct err *e)
{
	struct metrics *m = ctx;
	struct wal_record record;
	(void)e;
	while (wal_group_record(group, &record)) {
		struct err why = { 0 };
		/* its checksum was right: written by a bug, or a newer version; the rest counts */
		if (log_apply(m, &record, &why) != OK)
			quarantine_add(m->quarantine, m->log_folder, group->sequence, 0,
				       why.message);
	}
	return OK;
}

/* Live series as they are after the replay; the ids of those without labels into UNRESOLVED. */
static void look_at_series(struct metrics *m, struct id_set *unresolved)
{
	uint32_t now_s = (uint32_t)(engine_now(m) / 1000);
	size_t chunk_count = (size_t)(m->table.next_id >> SERIES_CHUNK_BITS) + 1;
	for (size_t i = 0; i < chunk_count && i < SERIES_DIRECTORY_COUNT; i++) {
		for (size_t k = 0; m->table.chunks[i] && k < SERIES_CHUNK_COUNT; k++) {
			struct series *s = &m->table.chunks[i][k];
			if (!s->live)
				continue;
			s->used_at = now_s;
			s->source = UINT32_MAX;
			if (!s->key) {
				id_set_push(unresolved, s->id);
				continue;
			}
			s->retention = (uint8_t)retention_class_of(m, series_key(s));
			m->unranked_count++;
		}
	}
}

static errc resolve(void *ctx, uint32_t id, str key, struct err *e)
{
	struct metrics *m = ctx;
	struct series *s = series_table_get(&m->table, id);
	(void)e;
	if (!s || s->key)
		return OK;
	series_table_resolve(&m->table, s, key, series_key_hash(key));
	s->retention = (uint8_t)retention_class_of(m, key);
	__atomic_fetch_or(&m->logged[id >> 6], UINT64_C(1) << (id & 63), __ATOMIC_RELAXED);
	m->unranked_count++;
	return OK;
}

/* All of its series at once when many are wanted: one after another costs more each. */
static errc resolve_by(struct metrics *m, struct index_segment *segment, struct id_set *unresolved,
		       struct err *e)
{
	struct buf key CLEANUP(buf_done) = buf_init(SERIES_KEY_BYTES_MAX);
	size_t kept = 0;
	if (unresolved->count > index_segment_count(segment) / RESOLVE_SHARE)
		TRY(index_segment_each(segment, resolve, m, e));
	for (size_t i = 0; i < unresolved->count; i++) {
		uint32_t id = unresolved->ids[i];
		if (series_table_get(&m->table, id)->key)
			continue;
		if (index_segment_key(segment, id, &key))
			TRY(resolve(m, id, buf_str(&key), e));
		else
			unresolved->ids[kept++] = id;
	}
	unresolved->count = kept;
	return OK;
}

/* Series whose labels the log no longer has: the indexes of their days have them. */
static errc resolve_series(struct metrics *m, struct err *e)
{
	struct id_set unresolved CLEANUP(id_set_done) = { 0 };
	bool unreadable = false;
	look_at_series(m, &unresolved);
	for (size_t n = m->view->segment_count; n-- > 0 && unresolved.count;) {
		struct index_segment *segment = m->view->segments[n];
		TRY(resolve_by(m, segment, &unresolved, e));
		unreadable |= part_file_is_unreadable(index_segment_file(segment));
	}
	if (unresolved.count && unreadable)
		FAIL(e, ERR_IO,
		     "the labels of %zu series cannot be read; look after the disk of %s, or let "
		     "`holdfast doctor --data --repair` put aside what is bad",
		     unresolved.count, m->folder);
	for (size_t i = 0; i < unresolved.count; i++)
		series_table_drop(&m->table, series_table_get(&m->table, unresolved.ids[i]));
	count_up(&m->counters.unresolved, unresolved.count);
	return OK;
}

static errc open_log(struct metrics *m, struct err *e)
{
	struct wal_options options = { .folder = m->log_folder,
				       .engine = METRICS_ENGINE,
				       .quarantine = m->quarantine,
				       .sync_always = m->options.sync_always };
	struct wal_report report;
	m->head = head_new(1, m->log_position);
	m->head->started_at = engine_now(m);
	TRY(wal_open(&options, m->log_position, replay, m, &report, &m->wal, e));
	m->applied_next = report.next;
	TRY(resolve_series(m, e));
	charge_index(m);
	charge_head(m);
	return OK;
}

errc recovery_run(struct metrics *m, struct err *e)
{
	struct arena arena CLEANUP(arena_done) = arena_init(MANIFEST_ARENA_MAX);
	struct store_manifest_found found;
	TRY(store_manifest_open(m->parts_folder, METRICS_ENGINE, m->quarantine, &arena, &found,
				&m->manifest, e));
	TRY(take_manifest(m, &found, e));
	return open_log(m, e);
}
