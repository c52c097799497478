/* What a batch is in the log, and how it comes back. */
#include <string.h>

#include "base/checks.h"
#include "metrics/histogram_codec.h"
#include "metrics/metrics_internal.h"
#include "metrics/series_key.h"

enum { TIMES_AS_OFFSETS = 1 };

void log_add_series(struct buf *into, uint32_t id, str key)
{
	buf_add_u32(into, id);
	buf_add_u32(into, (uint32_t)key.len);
	buf_add(into, key);
}

static bool fit_offsets(const time_ms *times, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		int64_t offset = (int64_t)((uint64_t)times[i] - (uint64_t)times[0]);
		if (offset != (int32_t)offset)
			return false;
	}
	return true;
}

/* count, form, base; ids; times as 32-bit offsets or whole; values */
void log_add_samples(struct buf *into, const uint32_t *ids, const time_ms *times,
		     const double *values, size_t count)
{
	bool offsets = fit_offsets(times, count);
	buf_add_u32(into, (uint32_t)count);
	buf_add_u32(into, offsets ? TIMES_AS_OFFSETS : 0);
	buf_add_u64(into, (uint64_t)times[0]);
	buf_add(into, (str){ (const char *)values, count * sizeof(values[0]) });
	buf_add(into, (str){ (const char *)ids, count * sizeof(ids[0]) });
	if (!offsets) {
		buf_add(into, (str){ (const char *)times, count * sizeof(times[0]) });
		return;
	}
	char *room = buf_reserve(into, count * sizeof(int32_t));
	if (!room)
		return;
	for (size_t i = 0; i < count; i++) {
		int32_t offset = (int32_t)((uint64_t)times[i] - (uint64_t)times[0]);
		memcpy(room + i * sizeof(offset), &offset, sizeof(offset));
	}
	into->len += count * sizeof(int32_t);
}

void log_add_histogram(struct buf *into, uint32_t id, time_ms time, const struct histogram *h)
{
	size_t head = into->len;
	buf_add_u32(into, id);
	buf_add_u32(into, 0);
	buf_add_u64(into, (uint64_t)time);
	histogram_encode(h, into);
	if (into->overflow)
		return;
	uint32_t len = (uint32_t)(into->len - head - 16);
	memcpy(into->ptr + head + 4, &len, sizeof(len));
}

/* ---- Back. */

static errc malformed(struct err *e)
{
	FAIL(e, ERR_CORRUPT, "a record of the log makes no sense");
}

/* A series that samples name; its labels may be unknown yet (recovery looks for them). */
static struct series *series_of(struct metrics *m, uint32_t id)
{
	if (!id || id > SERIES_ID_MAX)
		return NULL;
	struct series *s = series_table_get(&m->table, id);
	return s ? s : series_table_add(&m->table, id, STR(""), 0);
}

static errc apply_series(struct metrics *m, str bytes, struct err *e)
{
	struct reader r = reader_init(bytes);
	while (reader_left(&r)) {
		struct label items[LABELS_COUNT_MAX];
		uint32_t id = reader_u32(&r);
		str key = reader_bytes(&r, reader_u32(&r));
		if (r.failed || !id || id > SERIES_ID_MAX ||
		    series_key_labels(key, items) == SIZE_MAX)
			return malformed(e);
		struct series *s = series_table_get(&m->table, id);
		uint64_t hash = series_key_hash(key);
		if (!s)
			s = series_table_add(&m->table, id, key, hash);
		else if (!s->key)
			series_table_resolve(&m->table, s, key, hash);
		__atomic_fetch_or(&m->logged[id >> 6], UINT64_C(1) << (id & 63), __ATOMIC_RELAXED);
	}
	return OK;
}

void log_apply_samples(struct metrics *m, const uint32_t *ids, const time_ms *times,
		       const double *values, size_t count)
{
	struct head *h = m->head;
	uint32_t used_at = (uint32_t)(engine_now(m) / 1000);
	for (size_t i = 0; i < count; i++) {
		if (i + 8 < count) {
			struct series *chunk = m->table.chunks[ids[i + 8] >> SERIES_CHUNK_BITS];
			if (chunk)
				__builtin_prefetch(&chunk[ids[i + 8] & (SERIES_CHUNK_COUNT - 1)],
						   1);
		}
		struct series *s = series_table_get(&m->table, ids[i]);
		if (__builtin_expect(!s, 0))
			continue; /* dropped between sample and commit */
		s->used_at = used_at;
		head_append(h, s, times[i], values[i]);
	}
}

static errc apply_samples(struct metrics *m, str bytes, struct err *e)
{
	struct reader r = reader_init(bytes);
	uint32_t count = reader_u32(&r), form = reader_u32(&r);
	time_ms base = (time_ms)reader_u64(&r);
	size_t width = form == TIMES_AS_OFFSETS ? sizeof(int32_t) : sizeof(time_ms);
	if (r.failed || reader_left(&r) != (uint64_t)count * (8 + 4 + width))
		return malformed(e);
	const uint8_t *values = reader_take(&r, (size_t)count * 8),
		      *ids = reader_take(&r, (size_t)count * 4),
		      *times = reader_take(&r, (size_t)count * width);
	if (!head_has_room(m->head, count))
		FAIL(e, ERR_LIMIT, "the log holds more samples than memory may");
	for (uint32_t i = 0; i < count; i++) {
		double value;
		uint32_t id;
		time_ms time = base;
		memcpy(&value, values + (size_t)i * 8, sizeof(value));
		memcpy(&id, ids + (size_t)i * 4, sizeof(id));
		if (form == TIMES_AS_OFFSETS) {
			int32_t offset;
			memcpy(&offset, times + (size_t)i * 4, sizeof(offset));
			time = (time_ms)((uint64_t)base + (uint64_t)(int64_t)offset);
		} else {
			memcpy(&time, times + (size_t)i * 8, sizeof(time));
		}
		struct series *s = series_of(m, id);
		if (!s)
			return malformed(e);
		head_append(m->head, s, time, value);
	}
	return OK;
}

errc log_apply_histograms(struct metrics *m, str bytes, struct err *e)
{
	struct reader r = reader_init(bytes);
	while (reader_left(&r)) {
		uint32_t id = reader_u32(&r), len = reader_u32(&r);
		time_ms time = (time_ms)reader_u64(&r);
		str blob = reader_bytes(&r, len);
		struct series *s = r.failed ? NULL : series_of(m, id);
		if (!s)
			return malformed(e);
		if (!head_has_room(m->head, 1))
			FAIL(e, ERR_LIMIT, "the log holds more samples than memory may");
		head_append_histogram(m->head, s, time, blob);
	}
	return OK;
}

errc log_apply(struct metrics *m, const struct wal_record *record, struct err *e)
{
	struct reader r = reader_init(record->bytes);
	switch (record->type) {
	case LOG_SERIES:
		return apply_series(m, record->bytes, e);
	case LOG_SAMPLES:
		return apply_samples(m, record->bytes, e);
	case LOG_HISTOGRAMS:
		return log_apply_histograms(m, record->bytes, e);
	case LOG_EXEMPLARS:
		while (exemplar_read_bytes(&r, &m->exemplars))
			;
		return r.failed ? malformed(e) : OK;
	case LOG_METADATA:
		while (metadata_read_bytes(&r, &m->metadata))
			;
		return r.failed ? malformed(e) : OK;
	default:
		return OK; /* of a newer version: it knows what may be left out */
	}
}
