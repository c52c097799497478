#include "metrics/id_set.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"

void id_set_done(struct id_set *s)
{
	free(s->ids);
	*s = (struct id_set){ 0 };
}

void id_set_reserve(struct id_set *s, size_t count)
{
	size_t need = s->count + count;
	if (need <= s->room)
		return;
	size_t room = s->room + s->room / 2;
	s->room = room < need ? need : room;
	s->ids = must_realloc(s->ids, s->room * sizeof(*s->ids));
}

void id_set_push(struct id_set *s, uint32_t id)
{
	must_slow(s->count == 0 || s->ids[s->count - 1] < id);
	if (s->count == s->room)
		id_set_reserve(s, 1);
	s->ids[s->count++] = id;
}

/* The first place at or after FROM whose id is not below ID, looked for in growing steps. */
static size_t gallop(const uint32_t *ids, size_t count, size_t from, uint32_t id)
{
	size_t step = 1, low = from;
	while (from < count && ids[from] < id) {
		low = from + 1;
		from += step;
		step *= 2;
	}
	size_t high = from < count ? from : count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (ids[middle] < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void id_set_insert(struct id_set *s, uint32_t id)
{
	size_t at = s->count;
	if (at && s->ids[at - 1] >= id) {
		at = gallop(s->ids, s->count, 0, id);
		if (s->ids[at] == id)
			return;
	}
	id_set_reserve(s, 1);
	memmove(s->ids + at + 1, s->ids + at, (s->count - at) * sizeof(*s->ids));
	s->ids[at] = id;
	s->count++;
}

void id_set_copy(struct id_set *into, const uint32_t *ids, size_t count)
{
	into->count = 0;
	id_set_reserve(into, count);
	if (count)
		memcpy(into->ids, ids, count * sizeof(*ids));
	into->count = count;
}

bool id_set_has(const struct id_set *s, uint32_t id)
{
	size_t at = gallop(s->ids, s->count, 0, id);
	return at < s->count && s->ids[at] == id;
}

void id_set_intersect(struct id_set *a, const uint32_t *ids, size_t count)
{
	size_t kept = 0, at = 0;
	if (count && a->count / count >= 8) { /* few against many: look the few up */
		size_t in_a = 0;
		for (size_t i = 0; i < count && in_a < a->count; i++) {
			in_a = gallop(a->ids, a->count, in_a, ids[i]);
			if (in_a < a->count && a->ids[in_a] == ids[i])
				a->ids[kept++] = ids[i];
		}
		a->count = kept;
		return;
	}
	for (size_t i = 0; i < a->count && at < count; i++) {
		at = gallop(ids, count, at, a->ids[i]);
		if (at < count && ids[at] == a->ids[i])
			a->ids[kept++] = a->ids[i];
	}
	a->count = kept;
}

void id_set_subtract(struct id_set *a, const uint32_t *ids, size_t count)
{
	size_t kept = 0, at = 0;
	for (size_t i = 0; i < a->count; i++) {
		at = gallop(ids, count, at, a->ids[i]);
		if (at == count || ids[at] != a->ids[i])
			a->ids[kept++] = a->ids[i];
	}
	a->count = kept;
}

void id_set_unite(struct id_set *a, const uint32_t *ids, size_t count)
{
	if (count == 0)
		return;
	if (a->count == 0 || a->ids[a->count - 1] < ids[0]) {
		id_set_reserve(a, count);
		memcpy(a->ids + a->count, ids, count * sizeof(*ids));
		a->count += count;
		return;
	}
	struct id_set both = { 0 };
	id_set_reserve(&both, a->count + count);
	size_t i = 0, k = 0;
	while (i < a->count && k < count) {
		uint32_t x = a->ids[i], y = ids[k];
		both.ids[both.count++] = x < y ? x : y;
		i += x <= y;
		k += y <= x;
	}
	for (; i < a->count; i++)
		both.ids[both.count++] = a->ids[i];
	for (; k < count; k++)
		both.ids[both.count++] = ids[k];
	free(a->ids);
	*a = both;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* Where ids lie close together, marking them is much cheaper than sorting. */
static bool by_bitmap(struct id_set *s)
{
	uint32_t low = UINT32_MAX, high = 0;
	for (size_t i = 0; i < s->count; i++) {
		low = s->ids[i] < low ? s->ids[i] : low;
		high = s->ids[i] > high ? s->ids[i] : high;
	}
	size_t words = ((high - low) >> 6) + 1, kept = 0;
	if (s->count < 256 || words > s->count)
		return false;
	uint64_t *bits = must_calloc(words, sizeof(*bits));
	for (size_t i = 0; i < s->count; i++)
		bits[(s->ids[i] - low) >> 6] |= 1ULL << ((s->ids[i] - low) & 63);
	for (size_t i = 0; i < words; i++)
		for (uint64_t word = bits[i]; word; word &= word - 1)
			s->ids[kept++] = low + (uint32_t)(i << 6) + (uint32_t)__builtin_ctzll(word);
	s->count = kept;
	free(bits);
	return true;
}

void id_set_normalize(struct id_set *s)
{
	size_t kept = 0;
	bool sorted = true;
	for (size_t i = 1; i < s->count && sorted; i++)
		sorted = s->ids[i - 1] < s->ids[i];
	if (sorted || by_bitmap(s))
		return;
	qsort(s->ids, s->count, sizeof(*s->ids), by_id);
	for (size_t i = 0; i < s->count; i++)
		if (i == 0 || s->ids[i] != s->ids[kept - 1])
			s->ids[kept++] = s->ids[i];
	s->count = kept;
}
