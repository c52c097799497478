#include "metrics/tombstone.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/series_key.h"

enum { ARENA_BYTES_MAX = 8 << 20 };

errc tombstone_new(uint64_t number, uint64_t write, time_ms from, time_ms to,
		   const struct matcher *matchers, size_t count, struct tombstone **ret,
		   struct err *e)
{
	struct tombstone *t = must_calloc(1, sizeof(*t));
	t->refs = 1;
	t->number = number;
	t->write = write;
	t->from = from;
	t->to = to;
	t->arena = arena_init(ARENA_BYTES_MAX);
	t->matchers = must_calloc(count + 1, sizeof(t->matchers[0]));
	errc rc = OK;
	for (; rc == OK && t->matcher_count < count; t->matcher_count++) {
		struct matcher *m = &t->matchers[t->matcher_count];
		*m = (struct matcher){
			.type = matchers[t->matcher_count].type,
			.name = arena_str(&t->arena, matchers[t->matcher_count].name),
			.value = arena_str(&t->arena, matchers[t->matcher_count].value),
		};
		rc = matcher_compile(m, e);
	}
	if (rc == OK)
		rc = arena_check(&t->arena, "a deletion", e);
	if (rc != OK) {
		tombstone_unref(t);
		return rc;
	}
	*ret = t;
	return OK;
}

struct tombstone *tombstone_ref(struct tombstone *t)
{
	__atomic_fetch_add(&t->refs, 1, __ATOMIC_RELAXED);
	return t;
}

void tombstone_unref(struct tombstone *t)
{
	if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (size_t i = 0; i < t->matcher_count; i++)
		matcher_done(&t->matchers[i]);
	free(t->matchers);
	arena_done(&t->arena);
	free(t);
}

bool tombstone_selects(const struct tombstone *t, str key)
{
	for (size_t i = 0; i < t->matcher_count; i++) {
		bool matches = false;
		if (matcher_matches(&t->matchers[i], series_key_get(key, t->matchers[i].name),
				    &matches, NULL) != OK ||
		    !matches)
			return false;
	}
	return true;
}

void tombstone_apply(const struct tombstone *t, struct metrics_samples *s, size_t first)
{
	size_t kept = first;
	for (size_t i = first; i < s->count; i++) {
		if (s->times[i] >= t->from && s->times[i] <= t->to)
			continue;
		s->times[kept] = s->times[i];
		s->values[kept] = s->values[i];
		if (s->histograms)
			s->histograms[kept] = s->histograms[i];
		kept++;
	}
	if (kept != s->count)
		s->times_key = 0;
	s->count = kept;
}

void tombstone_write(const struct tombstone *t, struct buf *into)
{
	buf_add_varint(into, t->number);
	buf_add_varint(into, t->write);
	buf_add_zigzag(into, t->from);
	buf_add_zigzag(into, t->to);
	buf_add_varint(into, t->matcher_count);
	for (size_t i = 0; i < t->matcher_count; i++) {
		const struct matcher *m = &t->matchers[i];
		buf_add_byte(into, (char)m->type);
		buf_add_varint(into, m->name.len);
		buf_add(into, m->name);
		buf_add_varint(into, m->value.len);
		buf_add(into, m->value);
	}
}

errc tombstone_read(struct reader *r, struct tombstone **ret, struct err *e)
{
	struct matcher matchers[TOMBSTONE_MATCHERS_MAX] = { 0 };
	uint64_t number = reader_varint(r), write = reader_varint(r);
	time_ms from = reader_zigzag(r), to = reader_zigzag(r);
	uint64_t count = reader_varint(r);
	if (count > TOMBSTONE_MATCHERS_MAX)
		reader_fail(r);
	for (uint64_t i = 0; i < count && !r->failed; i++) {
		uint8_t type = reader_u8(r);
		matchers[i].name = reader_bytes(r, (size_t)reader_varint(r));
		matchers[i].value = reader_bytes(r, (size_t)reader_varint(r));
		matchers[i].type = (enum matcher_type)type;
		if (type > MATCH_NOT_REGEXP)
			reader_fail(r);
	}
	if (r->failed)
		FAIL(e, ERR_CORRUPT, "a deletion in the manifest is damaged");
	return tombstone_new(number, write, from, to, matchers, (size_t)count, ret, e);
}
