#include "metrics/exemplar_store.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/varint.h"
#include "metrics/series_key.h"

void exemplar_store_done(struct exemplar_store *s)
{
	for (size_t i = 0; i < s->room; i++)
		free(s->ring[i].key);
	free(s->ring);
	free(s->lasts);
	*s = (struct exemplar_store){ 0 };
}

static struct exemplar_last *last_of(const struct exemplar_store *s, uint32_t id)
{
	size_t mask = s->last_slots - 1, i = (id * 2654435769U) & mask;
	while (s->lasts[i].id && s->lasts[i].id != id)
		i = (i + 1) & mask;
	return &s->lasts[i];
}

/* Series whose exemplars were all overwritten are left behind. */
static void grow_lasts(struct exemplar_store *s)
{
	struct exemplar_last *before = s->lasts;
	size_t before_slots = s->last_slots;
	s->last_slots = s->last_slots ? s->last_slots * 2 : 256;
	while (before_slots && s->last_slots > 4 * EXEMPLARS_COUNT_MAX)
		s->last_slots /= 2;
	s->lasts = must_calloc(s->last_slots, sizeof(*s->lasts));
	s->last_count = 0;
	for (size_t i = 0; i < before_slots; i++)
		if (before[i].id && s->ring[before[i].last - 1].id == before[i].id) {
			*last_of(s, before[i].id) = before[i];
			s->last_count++;
		}
	free(before);
}

static bool is_newest(const struct exemplar_store *s, const struct exemplar_last *last,
		      time_ms time, double value, str key)
{
	if (!last->id)
		return false;
	const struct stored_exemplar *x = &s->ring[last->last - 1];
	uint32_t len;
	if (x->id != last->id)
		return false;
	memcpy(&len, x->key, sizeof(len));
	return x->time == time && memcmp(&x->value, &value, sizeof(value)) == 0 &&
	       str_eq((str){ (const char *)x->key + sizeof(len), len }, key);
}

void exemplar_store_add(struct exemplar_store *s, uint32_t id, time_ms time, double value, str key)
{
	if ((s->last_count + 1) * 2 > s->last_slots)
		grow_lasts(s);
	struct exemplar_last *last = last_of(s, id);
	if (is_newest(s, last, time, value, key))
		return;
	size_t at = (size_t)(s->serial % EXEMPLARS_COUNT_MAX);
	if (at >= s->room) {
		size_t room = s->room ? s->room * 2 : 64;
		room = room > EXEMPLARS_COUNT_MAX ? EXEMPLARS_COUNT_MAX : room;
		s->ring = must_realloc(s->ring, room * sizeof(*s->ring));
		memset(s->ring + s->room, 0, (room - s->room) * sizeof(*s->ring));
		s->room = room;
	}
	struct stored_exemplar *x = &s->ring[at];
	uint32_t len = (uint32_t)key.len;
	free(x->key);
	*x = (struct stored_exemplar){
		.id = id, .serial = ++s->serial, .time = time, .value = value
	};
	x->key = must_realloc(NULL, sizeof(len) + key.len);
	memcpy(x->key, &len, sizeof(len));
	memcpy(x->key + sizeof(len), key.ptr, key.len);
	if (last->id)
		x->older = last->last;
	else
		s->last_count++;
	*last = (struct exemplar_last){ id, (uint32_t)at + 1 };
	s->changed = true;
}

size_t exemplar_store_get(const struct exemplar_store *s, uint32_t id, time_ms from, time_ms to,
			  const struct stored_exemplar *ret[static EXEMPLARS_PER_SERIES])
{
	size_t count = 0;
	if (!s->last_slots)
		return 0;
	const struct exemplar_last *last = last_of(s, id);
	uint32_t at = last->id ? last->last : 0;
	uint64_t serial = UINT64_MAX;
	for (size_t i = 0; at && i < EXEMPLARS_PER_SERIES; i++) {
		const struct stored_exemplar *x = &s->ring[at - 1];
		if (x->id != id || x->serial >= serial) /* overwritten since */
			break;
		if (x->time >= from && x->time <= to)
			ret[count++] = x;
		serial = x->serial;
		at = x->older;
	}
	return count;
}

void exemplar_add_bytes(struct buf *into, uint32_t id, time_ms time, double value, str key)
{
	uint64_t bits;
	memcpy(&bits, &value, sizeof(bits));
	buf_add_varint(into, id);
	buf_add_zigzag(into, time);
	buf_add_u64(into, bits);
	buf_add_varint(into, key.len);
	buf_add(into, key);
}

bool exemplar_read_bytes(struct reader *r, struct exemplar_store *s)
{
	struct label items[LABELS_COUNT_MAX];
	if (reader_left(r) == 0)
		return false;
	uint64_t id = reader_varint(r);
	time_ms time = reader_zigzag(r);
	uint64_t bits = reader_u64(r);
	str key = reader_bytes(r, (size_t)reader_varint(r));
	double value;
	memcpy(&value, &bits, sizeof(value));
	if (r->failed || id == 0 || id >= UINT32_MAX || series_key_labels(key, items) == SIZE_MAX) {
		reader_fail(r);
		return false;
	}
	exemplar_store_add(s, (uint32_t)id, time, value, key);
	return true;
}

void exemplar_store_write(const struct exemplar_store *s, struct buf *into)
{
	uint64_t first = s->serial > EXEMPLARS_COUNT_MAX ? s->serial - EXEMPLARS_COUNT_MAX : 0;
	for (uint64_t i = first; i < s->serial; i++) {
		const struct stored_exemplar *x = &s->ring[i % EXEMPLARS_COUNT_MAX];
		uint32_t len;
		memcpy(&len, x->key, sizeof(len));
		exemplar_add_bytes(into, x->id, x->time, x->value,
				   (str){ (const char *)x->key + sizeof(len), len });
	}
}
