#define XXH_INLINE_ALL
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/checks.h"
#include "query/promql/promql_eval_core.h"

struct labels promql_labels_without_name(struct arena *a, const struct labels *labels)
{
	const str name = STR(LABEL_METRIC_NAME);
	size_t at = 0;
	while (at < labels->count && !str_eq(labels->items[at].name, name))
		at++;
	if (at == labels->count)
		return *labels;
	size_t rest = labels->count - 1;
	if (at == 0)
		return (struct labels){ rest ? labels->items + 1 : NULL, rest };
	struct label *items = arena_array(a, rest, sizeof(*items));
	if (!items)
		return *labels;
	memcpy(items, labels->items, at * sizeof(*items));
	memcpy(items + at, labels->items + at + 1, (rest - at) * sizeof(*items));
	return (struct labels){ items, rest };
}

struct labels promql_labels_with(struct arena *a, const struct labels *labels, str name, str value)
{
	struct label *items = arena_array(a, labels->count + 1, sizeof(*items));
	if (!items)
		return *labels;
	size_t count = 0;
	bool placed = value.len == 0;
	for (size_t i = 0; i < labels->count; i++) {
		int order = str_cmp(labels->items[i].name, name);
		if (order >= 0 && !placed) {
			items[count++] = (struct label){ name, value };
			placed = true;
		}
		if (order != 0)
			items[count++] = labels->items[i];
	}
	if (!placed)
		items[count++] = (struct label){ name, value };
	return (struct labels){ items, count };
}

static int by_name(const void *a, const void *b)
{
	return str_cmp(*(const str *)a, *(const str *)b);
}

errc promql_choice_init(struct arena *arena, const struct promql_labels *names, bool keep,
			struct promql_label_choice *ret, struct err *e)
{
	str *sorted = arena_array(arena, names->count + 1, sizeof(*sorted));
	TRY(arena_check(arena, "the labels of the query", e));
	if (names->count) {
		memcpy(sorted, names->items, names->count * sizeof(*sorted));
		qsort(sorted, names->count, sizeof(*sorted), by_name);
	}
	size_t count = 0;
	for (size_t i = 0; i < names->count; i++)
		if (!count || !str_eq(sorted[count - 1], sorted[i]))
			sorted[count++] = sorted[i];
	*ret = (struct promql_label_choice){ .names = sorted, .count = count, .keep = keep };
	return OK;
}

/* Whether CHOICE takes NAME. *AT walks along its names, since labels come sorted too. */
static bool chosen(const struct promql_label_choice *choice, str name, size_t *at)
{
	int order = 1;
	while (*at < choice->count && (order = str_cmp(choice->names[*at], name)) < 0)
		++*at;
	bool named = *at < choice->count && order == 0;
	if (choice->keep)
		return named;
	return !named && (choice->keep_name || !str_eq(name, STR(LABEL_METRIC_NAME)));
}

struct labels promql_choice_labels(struct arena *arena, const struct promql_label_choice *choice,
				   const struct labels *labels)
{
	size_t at = 0, count = 0, kept = 0;
	for (size_t i = 0; i < labels->count; i++)
		count += chosen(choice, labels->items[i].name, &at);
	if (count == labels->count)
		return *labels;
	struct label *items = arena_array(arena, count + 1, sizeof(*items));
	if (!items)
		return (struct labels){ 0 };
	at = 0;
	for (size_t i = 0; i < labels->count; i++)
		if (chosen(choice, labels->items[i].name, &at))
			items[kept++] = labels->items[i];
	return (struct labels){ items, kept };
}

struct promql_index {
	struct promql_run *run;
	XXH128_hash_t *keys; /* of each number */
	uint32_t *slots;     /* number + 1, or 0 */
	size_t slot_mask, count, room;
	char *text; /* what is hashed */
};

/* A label is its two lengths and its bytes; lengths fit 32 bits by the limits of labels. */
enum { INDEX_TEXT_BYTES = LABELS_BYTES_MAX + LABELS_COUNT_MAX * 8 };

errc promql_index_new(struct promql_run *run, size_t room, struct promql_index **ret_index,
		      struct err *e)
{
	struct promql_index *x;
	size_t slots = 16;
	while (slots < room * 2)
		slots *= 2;
	TRY(promql_alloc(run, 1, sizeof(*x), (void **)&x, e));
	x->run = run;
	x->room = room;
	x->slot_mask = slots - 1;
	TRY(promql_alloc(run, slots, sizeof(*x->slots), (void **)&x->slots, e));
	TRY(promql_alloc(run, room + 1, sizeof(*x->keys), (void **)&x->keys, e));
	TRY(promql_alloc(run, INDEX_TEXT_BYTES, 1, (void **)&x->text, e));
	*ret_index = x;
	return OK;
}

void promql_index_free(struct promql_index *x)
{
	if (!x)
		return;
	promql_free(x->run, x->slots);
	promql_free(x->run, x->keys);
	promql_free(x->run, x->text);
	promql_free(x->run, x);
}

static size_t put_bytes(char *into, str s)
{
	memcpy(into, s.ptr, s.len);
	return s.len;
}

/* False when the labels are longer than labels may be (label_join() can make such). */
static bool index_key(struct promql_index *x, const struct promql_label_choice *choice,
		      const struct labels *labels, XXH128_hash_t *ret)
{
	size_t len = 0, at = 0;
	for (size_t i = 0; i < labels->count; i++) {
		const struct label *l = &labels->items[i];
		if (choice && !chosen(choice, l->name, &at))
			continue;
		uint32_t lengths[2] = { (uint32_t)l->name.len, (uint32_t)l->value.len };
		if (l->name.len + l->value.len + sizeof(lengths) > INDEX_TEXT_BYTES - len)
			return false;
		memcpy(x->text + len, lengths, sizeof(lengths));
		len += sizeof(lengths);
		len += put_bytes(x->text + len, l->name);
		len += put_bytes(x->text + len, l->value);
	}
	*ret = XXH3_128bits(x->text, len);
	return true;
}

static uint32_t *slot_of(struct promql_index *x, XXH128_hash_t key)
{
	size_t at = key.low64 & x->slot_mask;
	while (x->slots[at] && !XXH128_isEqual(x->keys[x->slots[at] - 1], key))
		at = (at + 1) & x->slot_mask;
	return &x->slots[at];
}

/* Room for twice as many. */
static errc index_grow(struct promql_index *x, struct err *e)
{
	size_t room = x->room * 2 + 16, slots = x->slot_mask + 1;
	XXH128_hash_t *keys;
	uint32_t *table;
	while (slots < room * 2)
		slots *= 2;
	TRY(promql_alloc(x->run, room + 1, sizeof(*keys), (void **)&keys, e));
	TRY(promql_alloc(x->run, slots, sizeof(*table), (void **)&table, e));
	memcpy(keys, x->keys, x->count * sizeof(*keys));
	promql_free(x->run, x->keys);
	promql_free(x->run, x->slots);
	x->keys = keys;
	x->slots = table;
	x->slot_mask = slots - 1;
	x->room = room;
	for (size_t i = 0; i < x->count; i++)
		*slot_of(x, keys[i]) = (uint32_t)i + 1;
	return OK;
}

errc promql_index_put(struct promql_index *x, const struct promql_label_choice *choice,
		      const struct labels *labels, uint32_t *ret_number, struct err *e)
{
	XXH128_hash_t key;
	if (!index_key(x, choice, labels, &key))
		FAIL(e, ERR_FAILED,
		     "a series of the query has more than %d bytes of labels; shorten what "
		     "label_replace() or label_join() make",
		     (int)LABELS_BYTES_MAX);
	uint32_t *slot = slot_of(x, key);
	if (!*slot && x->count == x->room) {
		TRY(index_grow(x, e));
		slot = slot_of(x, key);
	}
	if (!*slot) {
		x->keys[x->count++] = key;
		*slot = (uint32_t)x->count;
	}
	*ret_number = *slot - 1;
	return OK;
}

uint32_t promql_index_find(struct promql_index *x, const struct promql_label_choice *choice,
			   const struct labels *labels)
{
	XXH128_hash_t key;
	if (!index_key(x, choice, labels, &key))
		return UINT32_MAX;
	return *slot_of(x, key) - 1;
}

size_t promql_index_count(const struct promql_index *x)
{
	return x->count;
}

errc promql_labels_have_equal(struct promql_run *run, const struct labels *labels, size_t count,
			      bool *ret_equal, struct err *e)
{
	struct promql_index *x;
	TRY(promql_index_new(run, count, &x, e));
	for (size_t i = 0; i < count; i++) {
		uint32_t number;
		TRY(promql_index_put(x, NULL, &labels[i], &number, e));
	}
	*ret_equal = x->count != count;
	promql_index_free(x);
	return OK;
}
