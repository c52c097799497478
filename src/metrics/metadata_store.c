#include "metrics/metadata_store.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/text.h"

static const char *const type_names[] = { "unknown",        "counter", "gauge", "histogram",
					  "gaugehistogram", "summary", "info",  "stateset" };

const char *metrics_type_name(enum metrics_type type)
{
	return (size_t)type < ARRAY_COUNT(type_names) ? type_names[type] : type_names[0];
}

enum metrics_type metrics_type_of_name(str name)
{
	for (size_t i = 0; i < ARRAY_COUNT(type_names); i++)
		if (str_eq_c(name, type_names[i]))
			return (enum metrics_type)i;
	return METRICS_TYPE_UNKNOWN;
}

void metadata_store_done(struct metadata_store *s)
{
	for (size_t i = 0; i < s->count; i++)
		free((char *)s->items[i].name.ptr);
	free(s->items);
	*s = (struct metadata_store){ 0 };
}

static size_t place_of(const struct metadata_store *s, str name)
{
	size_t low = 0, high = s->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (str_cmp(s->items[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static str cut(str s, size_t max)
{
	if (s.len <= max)
		return s;
	while (max && ((unsigned char)s.ptr[max] & 0xc0) == 0x80)
		max--;
	return (str){ s.ptr, max };
}

static struct metrics_metadata owned(const struct metrics_metadata *x)
{
	struct metrics_metadata copy = *x;
	char *bytes = must_realloc(NULL, x->name.len + x->help.len + x->unit.len + 1);
	str *const parts[] = { &copy.name, &copy.help, &copy.unit };
	for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
		if (parts[i]->len)
			memcpy(bytes, parts[i]->ptr, parts[i]->len);
		parts[i]->ptr = bytes;
		bytes += parts[i]->len;
	}
	return copy;
}

void metadata_store_put(struct metadata_store *s, const struct metrics_metadata *metadata)
{
	struct metrics_metadata x = *metadata;
	x.help = cut(x.help, METADATA_TEXT_MAX);
	x.unit = cut(x.unit, METADATA_TEXT_MAX);
	size_t at = place_of(s, x.name);
	bool known = at < s->count && str_eq(s->items[at].name, x.name);
	if (known) {
		struct metrics_metadata *old = &s->items[at];
		if (old->type == x.type && str_eq(old->help, x.help) && str_eq(old->unit, x.unit))
			return;
		char *before = (char *)old->name.ptr;
		*old = owned(&x);
		free(before);
		s->changed = true;
		return;
	}
	if (x.name.len == 0 || x.name.len > METADATA_TEXT_MAX || s->count >= METADATA_COUNT_MAX)
		return;
	if (s->count == s->room) {
		s->room = s->room ? s->room * 2 : 64;
		s->items = must_realloc(s->items, s->room * sizeof(*s->items));
	}
	memmove(s->items + at + 1, s->items + at, (s->count - at) * sizeof(*s->items));
	s->items[at] = owned(&x);
	s->count++;
	s->changed = true;
}

void metadata_add_bytes(struct buf *into, const struct metrics_metadata *x)
{
	const str parts[] = { x->name, cut(x->help, METADATA_TEXT_MAX),
			      cut(x->unit, METADATA_TEXT_MAX) };
	buf_add_varint(into, (uint64_t)x->type);
	for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
		buf_add_varint(into, parts[i].len);
		buf_add(into, parts[i]);
	}
}

bool metadata_read_bytes(struct reader *r, struct metadata_store *s)
{
	struct metrics_metadata x = { 0 };
	if (reader_left(r) == 0)
		return false;
	uint64_t type = reader_varint(r);
	x.type = type < ARRAY_COUNT(type_names) ? (enum metrics_type)type : METRICS_TYPE_UNKNOWN;
	x.name = reader_bytes(r, (size_t)reader_varint(r));
	x.help = reader_bytes(r, (size_t)reader_varint(r));
	x.unit = reader_bytes(r, (size_t)reader_varint(r));
	if (r->failed)
		return false;
	metadata_store_put(s, &x);
	return true;
}
