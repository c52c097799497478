/* The state of the engine as a whole: the view, the manifest, accounting. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/engine_state.h"
#include "metrics/metrics_internal.h"
#include "metrics/series_key.h"
#include "os/clock.h"

enum { STATE_VERSION = 1 };

/* ---- The state in the manifest. */

void engine_state_write(const struct engine_state *s, struct tombstone *const *tombstones,
			size_t count, struct buf *into)
{
	const uint64_t numbers[] = { STATE_VERSION, s->next_id,        s->next_file,
				     s->next_write, s->next_tombstone, s->log_position,
				     count };
	for (size_t i = 0; i < ARRAY_COUNT(numbers); i++)
		buf_add_varint(into, numbers[i]);
	for (size_t i = 0; i < count; i++)
		tombstone_write(tombstones[i], into);
}

errc engine_state_read(str bytes, struct engine_state *ret, struct tombstone ***ret_tombstones,
		       size_t *ret_count, struct err *e)
{
	struct reader r = reader_init(bytes);
	uint64_t version = reader_varint(&r);
	struct engine_state s = { 0 };
	if (version > STATE_VERSION)
		FAIL(e, ERR_CONFLICT,
		     "the metrics were written by a newer Holdfast; start that one");
	s.next_id = reader_varint(&r);
	s.next_file = reader_varint(&r);
	s.next_write = reader_varint(&r);
	s.next_tombstone = reader_varint(&r);
	s.log_position = reader_varint(&r);
	uint64_t count = reader_varint(&r);
	if (r.failed || count > TOMBSTONES_MAX || !s.next_id || s.next_id > UINT32_MAX)
		FAIL(e, ERR_CORRUPT, "the state in the manifest of the metrics is damaged");
	struct tombstone **tombstones = must_calloc(count + 1, sizeof(tombstones[0]));
	size_t n = 0;
	errc rc = OK;
	while (rc == OK && n < count) {
		rc = tombstone_read(&r, &tombstones[n], e);
		n += rc == OK;
	}
	if (rc != OK) {
		while (n)
			tombstone_unref(tombstones[--n]);
		free(tombstones);
		return rc;
	}
	*ret = s;
	*ret_tombstones = tombstones;
	*ret_count = n;
	return OK;
}

/* ---- The view. */

struct view *engine_view(struct metrics *m)
{
	pthread_mutex_lock(&m->state);
	struct view *v = view_ref(m->view);
	pthread_mutex_unlock(&m->state);
	return v;
}

void engine_part_name(struct metrics *m, char kind, char name[static PART_NAME_MAX + 1])
{
	snprintf(name, PART_NAME_MAX + 1, "%c-%016llx.part", kind,
		 (unsigned long long)m->next_file++);
}

bool engine_series_key(struct metrics *m, struct view *v, uint32_t id, struct buf *into)
{
	pthread_rwlock_rdlock(&m->index);
	const struct series *s = series_table_get(&m->table, id);
	bool found = s && s->key;
	if (found) {
		buf_clear(into);
		buf_add(into, series_key(s));
	}
	pthread_rwlock_unlock(&m->index);
	for (size_t i = v->segment_count; i-- > 0 && !found;)
		found = index_segment_key(v->segments[i], id, into);
	return found;
}

/* ---- Retention classes. */

static bool selects(const struct metrics_retention *r, str key)
{
	for (size_t i = 0; i < r->matcher_count; i++) {
		bool matches = false;
		if (matcher_matches(&r->matchers[i], series_key_get(key, r->matchers[i].name),
				    &matches, NULL) != OK ||
		    !matches)
			return false;
	}
	return true;
}

uint32_t retention_class_of(const struct metrics *m, str key)
{
	for (size_t i = 0; i < m->options.retention_count; i++)
		if (selects(&m->options.retentions[i], key))
			return (uint32_t)i + 1;
	return 0;
}

int64_t retention_ms_of(const struct metrics *m, enum metrics_resolution resolution,
			uint32_t retention_class)
{
	int64_t raw = m->options.retention_ms;
	if (retention_class && retention_class <= m->options.retention_count)
		raw = m->options.retentions[retention_class - 1].retention_ms;
	if (resolution == METRICS_RAW)
		return raw;
	int64_t general = resolution == METRICS_5M ? m->options.rollup_5m_retention_ms
						   : m->options.rollup_1h_retention_ms;
	/* what is to be kept shorter than others is not kept longer as a rollup */
	return raw < m->options.retention_ms ? raw : general > raw ? general : raw;
}

/* ---- Changing the view. */

static bool is_among(const void *item, const void *const *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (items[i] == item)
			return true;
	return false;
}

/* The parts, segments and tombstones that are to be. */
struct next_view {
	struct metrics_part **parts;
	struct index_segment **segments;
	struct tombstone **tombstones;
	size_t part_count, segment_count, tombstone_count;
};

static struct next_view next_of(const struct view *v, const struct view_change *c)
{
	struct next_view n = {
		.parts = must_calloc(v->part_count + c->part_added_count + 1, sizeof(void *)),
		.segments = must_calloc(v->segment_count + c->segment_added_count + 1,
					sizeof(void *)),
		.tombstones = must_calloc(v->tombstone_count + 2, sizeof(void *)),
	};
	for (size_t i = 0; i < v->part_count; i++)
		if (!is_among(v->parts[i], (const void *const *)c->parts_removed,
			      c->part_removed_count))
			n.parts[n.part_count++] = v->parts[i];
	for (size_t i = 0; i < c->part_added_count; i++)
		n.parts[n.part_count++] = c->parts_added[i];
	for (size_t i = 0; i < v->segment_count; i++)
		if (!is_among(v->segments[i], (const void *const *)c->segments_removed,
			      c->segment_removed_count))
			n.segments[n.segment_count++] = v->segments[i];
	for (size_t i = 0; i < c->segment_added_count; i++)
		n.segments[n.segment_count++] = c->segments_added[i];
	for (size_t i = 0; i < v->tombstone_count; i++)
		if (v->tombstones[i]->number > c->tombstones_up_to)
			n.tombstones[n.tombstone_count++] = v->tombstones[i];
	if (c->tombstone_added)
		n.tombstones[n.tombstone_count++] = c->tombstone_added;
	return n;
}

static void next_done(struct next_view *n)
{
	free(n->parts);
	free(n->segments);
	free(n->tombstones);
}

static struct store_manifest_part manifest_part(const struct part_file *p)
{
	return (struct store_manifest_part){ .name = str_c(part_file_name(p)),
					     .bytes = part_file_bytes(p),
					     .note = STR("") };
}

static errc write_manifest(struct metrics *m, const struct next_view *n, struct part_file *side,
			   uint64_t log_position, struct err *e)
{
	struct buf state CLEANUP(buf_done) = buf_init(STORE_MANIFEST_STATE_MAX);
	struct engine_state s = { .next_id = __atomic_load_n(&m->table.next_id, __ATOMIC_RELAXED),
				  .next_file = m->next_file,
				  .next_write = m->next_write,
				  .next_tombstone = m->next_tombstone,
				  .log_position = log_position };
	size_t count = 0;
	struct store_manifest_part *parts = must_calloc(n->part_count + n->segment_count + 1,
							sizeof(parts[0]));
	for (size_t i = 0; i < n->part_count; i++)
		parts[count++] = manifest_part(metrics_part_file(n->parts[i]));
	for (size_t i = 0; i < n->segment_count; i++)
		parts[count++] = manifest_part(index_segment_file(n->segments[i]));
	if (side)
		parts[count++] = manifest_part(side);
	engine_state_write(&s, n->tombstones, n->tombstone_count, &state);
	struct store_manifest_content content = { .state = buf_str(&state),
						  .parts = parts,
						  .part_count = count };
	errc rc = buf_check(&state, "the deletions", e);
	if (rc == OK)
		rc = store_manifest_commit(m->manifest, &content, e);
	free(parts);
	return rc;
}

static void charge_parts(struct metrics *m, const struct view *v)
{
	size_t bytes = 0;
	for (size_t i = 0; i < v->part_count; i++)
		bytes += metrics_part_memory_bytes(v->parts[i]);
	for (size_t i = 0; i < v->segment_count; i++)
		bytes += index_segment_memory_bytes(v->segments[i]);
	budget_force(&m->budget_index, (int64_t)bytes);
	budget_return(&m->budget_index, (int64_t)m->parts_charged);
	m->parts_charged = bytes;
}

static void doom_removed(const struct view_change *c)
{
	for (size_t i = 0; i < c->part_removed_count; i++)
		part_file_doom(metrics_part_file(c->parts_removed[i]));
	for (size_t i = 0; i < c->segment_removed_count; i++)
		part_file_doom(index_segment_file(c->segments_removed[i]));
}

errc engine_commit(struct metrics *m, const struct view_change *c, struct err *e)
{
	struct view *before = engine_view(m);
	struct next_view n = next_of(before, c);
	struct part_file *side = c->side ? c->side : m->side;
	uint64_t position = c->log_position ? c->log_position : m->log_position;
	errc rc = write_manifest(m, &n, side, position, e);
	if (rc != OK) {
		next_done(&n);
		view_unref(before);
		return rc;
	}
	struct view *after = view_new(n.parts, n.part_count, n.segments, n.segment_count,
				      n.tombstones, n.tombstone_count);
	struct head *frozen = NULL;
	next_done(&n);
	charge_parts(m, after);
	pthread_mutex_lock(&m->state);
	struct view *old = m->view;
	m->view = after;
	if (c->frozen_done) {
		frozen = m->frozen;
		m->frozen = NULL;
		charge_head(m);
	}
	pthread_mutex_unlock(&m->state);
	doom_removed(c);
	if (c->side) {
		if (m->side)
			part_file_doom(m->side);
		part_file_unref(m->side);
		m->side = part_file_ref(c->side);
	}
	m->log_position = position;
	head_unref(frozen);
	view_unref(old);
	view_unref(before);
	return OK;
}

/* ---- Accounting. */

void charge_index(struct metrics *m)
{
	size_t bytes = m->table.memory_bytes;
	budget_force(&m->budget_index, (int64_t)bytes);
	budget_return(&m->budget_index, (int64_t)m->table_charged);
	m->table_charged = bytes;
}

void charge_head(struct metrics *m)
{
	size_t bytes = m->head->bytes + (m->frozen ? m->frozen->bytes : 0);
	if (bytes == m->head_charged)
		return;
	budget_force(&m->budget_head, (int64_t)bytes);
	budget_return(&m->budget_head, (int64_t)m->head_charged);
	m->head_charged = bytes;
}

errc metrics_charge(struct metrics *m, struct metrics_budget *budget, int64_t bytes, struct err *e)
{
	if (bytes < 0) {
		budget_return(&m->budget_queries, -bytes);
		if (budget)
			__atomic_fetch_sub(&budget->bytes, (size_t)-bytes, __ATOMIC_RELAXED);
		return OK;
	}
	TRY(budget_charge(&m->budget_queries, bytes, e));
	if (!budget)
		return OK;
	size_t after = __atomic_add_fetch(&budget->bytes, (size_t)bytes, __ATOMIC_RELAXED);
	size_t most = budget->bytes_max ? budget->bytes_max : m->options.query_bytes_max;
	if (after <= most)
		return OK;
	__atomic_fetch_sub(&budget->bytes, (size_t)bytes, __ATOMIC_RELAXED);
	budget_return(&m->budget_queries, bytes);
	FAIL(e, ERR_FAILED,
	     "the query needs more than %zu MiB of memory; select fewer series, a shorter time, or "
	     "a longer step",
	     most >> 20);
}

errc metrics_charge_samples(struct metrics_budget *budget, uint64_t count, struct err *e)
{
	if (!budget)
		return OK;
	uint64_t after = __atomic_add_fetch(&budget->samples, count, __ATOMIC_RELAXED);
	if (budget->samples_max && after > budget->samples_max)
		FAIL(e, ERR_FAILED,
		     "query processing would load too many samples into memory in query execution "
		     "(more than %llu)",
		     (unsigned long long)budget->samples_max);
	if (budget->deadline_mono_ms && clock_mono_ms() > budget->deadline_mono_ms)
		FAIL(e, ERR_TIMEOUT, "query timed out in expression evaluation");
	if (budget->cancelled && budget->cancelled(budget->cancelled_ctx))
		FAIL(e, ERR_CANCELLED, "query was canceled in expression evaluation");
	return OK;
}
