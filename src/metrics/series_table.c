#include "metrics/series_table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checks.h"
#include "metrics/series_key.h"

enum { SLOTS_MIN = 1024 };
#define SLOT_DELETED UINT32_MAX

/* Address space that becomes memory where it is written to. */
static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(p != MAP_FAILED);
	return p;
}

#define CHUNKS_BYTES (SERIES_DIRECTORY_COUNT * sizeof(struct series *))
#define COUNTS_BYTES (SERIES_DIRECTORY_COUNT * sizeof(uint16_t))
#define LIVE_BYTES ((size_t)1 << 29)

void series_table_init(struct series_table *t)
{
	*t = (struct series_table){ .next_id = 1,
				    .slot_count = SLOTS_MIN,
				    .pair_slots = SLOTS_MIN };
	t->chunks = reserve(CHUNKS_BYTES);
	t->chunk_counts = reserve(COUNTS_BYTES);
	t->live = reserve(LIVE_BYTES);
	t->slots = must_calloc(t->slot_count, sizeof(*t->slots));
	t->pairs = must_calloc(t->pair_slots, sizeof(struct posting *));
	t->name_slot_count = SLOTS_MIN;
	t->name_slots = must_calloc(t->name_slot_count, sizeof(*t->name_slots));
}

static void posting_free(struct posting *p)
{
	if (p && p->room)
		free(p->ids);
	free(p);
}

void series_table_done(struct series_table *t)
{
	if (!t->chunks)
		return;
	size_t chunk_count = (size_t)(t->next_id >> SERIES_CHUNK_BITS) + 1;
	for (size_t i = 0; i < chunk_count && i < SERIES_DIRECTORY_COUNT; i++) {
		for (size_t k = 0; t->chunks[i] && k < SERIES_CHUNK_COUNT; k++)
			free(t->chunks[i][k].key);
		free(t->chunks[i]);
	}
	for (size_t i = 0; i < t->name_count; i++) {
		for (size_t k = 0; k < t->names[i].count; k++)
			posting_free(t->names[i].items[k]);
		free(t->names[i].items);
		free((char *)t->names[i].name.ptr);
	}
	munmap(t->chunks, CHUNKS_BYTES);
	munmap(t->chunk_counts, COUNTS_BYTES);
	munmap(t->live, LIVE_BYTES);
	free(t->names);
	free(t->name_slots);
	free(t->pairs);
	free(t->slots);
	free(t->ranked);
	*t = (struct series_table){ 0 };
}

/* ---- By key. A slot holds the upper half of the hash, which also says where it is looked for, and
 * the id; id 0 is empty. */

struct series *series_table_find(const struct series_table *t, str key, uint64_t hash)
{
	size_t mask = t->slot_count - 1;
	for (size_t i = (size_t)(hash >> 32) & mask;; i = (i + 1) & mask) {
		uint64_t slot = t->slots[i];
		if ((uint32_t)slot == 0)
			return NULL;
		if (slot >> 32 != hash >> 32 || (uint32_t)slot == SLOT_DELETED)
			continue;
		struct series *s = series_table_get(t, (uint32_t)slot);
		if (s && s->key && str_eq(series_key(s), key))
			return s;
	}
}

static void put_slot(uint64_t *slots, size_t slot_count, uint64_t hash, uint32_t id)
{
	size_t mask = slot_count - 1, i = (size_t)(hash >> 32) & mask;
	while ((uint32_t)slots[i] != 0)
		i = (i + 1) & mask;
	slots[i] = (hash >> 32) << 32 | id;
}

static void grow_slots(struct series_table *t)
{
	size_t slot_count = SLOTS_MIN;
	while (slot_count < t->count * 2 + 2)
		slot_count *= 2;
	uint64_t *slots = must_calloc(slot_count, sizeof(*slots));
	for (size_t i = 0; i < t->slot_count; i++) {
		uint32_t id = (uint32_t)t->slots[i];
		if (id && id != SLOT_DELETED)
			put_slot(slots, slot_count, t->slots[i], id);
	}
	t->memory_bytes += (slot_count - t->slot_count) * sizeof(*slots);
	free(t->slots);
	t->slots = slots;
	t->slot_count = slot_count;
	t->used_count = t->count;
}

/* ---- Postings. */

static uint32_t pair_hash(uint32_t name, str value)
{
	uint64_t hash = series_key_hash(value) ^ (name * 0x9e3779b97f4a7c15ULL);
	return (uint32_t)(hash ^ hash >> 32);
}

const struct label_postings *series_table_name(const struct series_table *t, str name)
{
	size_t mask = t->name_slot_count - 1;
	size_t i = (size_t)series_key_hash(name) & mask;
	for (; t->name_slots[i]; i = (i + 1) & mask)
		if (str_eq(t->names[t->name_slots[i] - 1].name, name))
			return &t->names[t->name_slots[i] - 1];
	return NULL;
}

static void put_name_slot(struct series_table *t, uint32_t index)
{
	size_t mask = t->name_slot_count - 1;
	size_t i = (size_t)series_key_hash(t->names[index].name) & mask;
	while (t->name_slots[i])
		i = (i + 1) & mask;
	t->name_slots[i] = index + 1;
}

static struct posting **find_pair(const struct series_table *t, uint32_t name, str value)
{
	uint32_t hash = pair_hash(name, value);
	size_t mask = t->pair_slots - 1, i = hash & mask;
	for (; t->pairs[i]; i = (i + 1) & mask)
		if (t->pairs[i]->hash == hash && t->pairs[i]->name == name &&
		    str_eq(posting_value(t->pairs[i]), value))
			break;
	return &t->pairs[i];
}

/* Where one that is not there yet belongs. */
static struct posting **free_pair(const struct series_table *t, uint32_t hash)
{
	size_t mask = t->pair_slots - 1, i = hash & mask;
	while (t->pairs[i])
		i = (i + 1) & mask;
	return &t->pairs[i];
}

const struct posting *series_table_posting(const struct series_table *t, str name, str value)
{
	const struct label_postings *n = series_table_name(t, name);
	return n ? *find_pair(t, (uint32_t)(n - t->names), value) : NULL;
}

static void grow_pairs(struct series_table *t)
{
	struct posting **before = t->pairs;
	size_t before_count = t->pair_slots;
	t->pair_slots *= 2;
	t->pairs = must_calloc(t->pair_slots, sizeof(struct posting *));
	for (size_t i = 0; i < before_count; i++)
		if (before[i])
			*free_pair(t, before[i]->hash) = before[i];
	t->memory_bytes += before_count * sizeof(struct posting *);
	free(before);
}

static uint32_t name_index(struct series_table *t, str name)
{
	const struct label_postings *n = series_table_name(t, name);
	if (n)
		return (uint32_t)(n - t->names);
	if (t->name_count == t->name_room) {
		t->name_room = t->name_room ? t->name_room * 2 : 64;
		t->names = must_realloc(t->names, t->name_room * sizeof(*t->names));
	}
	t->names[t->name_count] = (struct label_postings){ .name = { str_dup(name), name.len } };
	t->memory_bytes += sizeof(struct label_postings) + name.len;
	uint32_t index = (uint32_t)t->name_count++;
	if (t->name_count * 2 <= t->name_slot_count) {
		put_name_slot(t, index);
		return index;
	}
	free(t->name_slots);
	t->name_slot_count *= 2;
	t->name_slots = must_calloc(t->name_slot_count, sizeof(*t->name_slots));
	for (uint32_t i = 0; i <= index; i++)
		put_name_slot(t, i);
	return index;
}

static struct posting *pair_posting(struct series_table *t, const struct label *l)
{
	uint32_t name = name_index(t, l->name);
	struct posting **place = find_pair(t, name, l->value);
	if (*place)
		return *place;
	struct posting *p = must_realloc(NULL, sizeof(*p) + l->value.len);
	*p = (struct posting){ .name = name,
			       .hash = pair_hash(name, l->value),
			       .value_len = (uint32_t)l->value.len };
	memcpy(p->value, l->value.ptr, l->value.len);
	*place = p;
	struct label_postings *n = &t->names[name];
	if (n->count == n->room) {
		n->room = n->room ? n->room * 2 : 4;
		n->items = must_realloc(n->items, n->room * sizeof(struct posting *));
	}
	n->items[n->count++] = p;
	t->memory_bytes += sizeof(*p) + l->value.len + 16 + sizeof(void *) * 2;
	if (++t->pair_count * 10 > t->pair_slots * 7)
		grow_pairs(t);
	return p;
}

static void posting_add(struct series_table *t, struct posting *p, uint32_t id)
{
	if (p->count == 0 && p->room == 0) {
		p->one = id;
		p->count = 1;
		return;
	}
	struct id_set set = { p->room ? p->ids : NULL, p->room ? p->count : 0, p->room };
	if (!p->room)
		id_set_push(&set, p->one);
	size_t room = p->room;
	id_set_insert(&set, id);
	p->ids = set.ids;
	p->count = (uint32_t)set.count;
	p->room = (uint32_t)set.room;
	t->memory_bytes += (set.room - room) * sizeof(uint32_t);
}

/* ---- Series. */

static void set_live(struct series_table *t, uint32_t id, bool live)
{
	uint64_t bit = 1ULL << (id & 63);
	if (live)
		__atomic_fetch_or(&t->live[id >> 6], bit, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&t->live[id >> 6], ~bit, __ATOMIC_RELAXED);
}

struct series *series_table_add(struct series_table *t, uint32_t id, str key, uint64_t hash)
{
	size_t at = id >> SERIES_CHUNK_BITS;
	must(id && id <= SERIES_ID_MAX && !series_table_get(t, id));
	if (!t->chunks[at]) {
		t->chunks[at] = must_calloc(SERIES_CHUNK_COUNT, sizeof(struct series));
		t->memory_bytes += SERIES_CHUNK_COUNT * sizeof(struct series);
	}
	struct series *s = &t->chunks[at][id & (SERIES_CHUNK_COUNT - 1)];
	*s = (struct series){ .id = id, .live = true, .last_time = INT64_MIN };
	t->chunk_counts[at]++;
	t->count++;
	if (id >= t->next_id)
		__atomic_store_n(&t->next_id, (uint64_t)id + 1, __ATOMIC_RELAXED);
	if (key.len)
		series_table_resolve(t, s, key, hash);
	set_live(t, id, true);
	return s;
}

void series_table_resolve(struct series_table *t, struct series *s, str key, uint64_t hash)
{
	struct label items[LABELS_COUNT_MAX];
	uint32_t len = (uint32_t)key.len;
	s->key = must_realloc(NULL, sizeof(len) + key.len);
	memcpy(s->key, &len, sizeof(len));
	memcpy(s->key + sizeof(len), key.ptr, key.len);
	t->memory_bytes += sizeof(len) + key.len + 16;
	size_t count = series_key_labels(series_key(s), items);
	must(count != SIZE_MAX);
	for (size_t i = 0; i < count; i++)
		posting_add(t, pair_posting(t, &items[i]), s->id);
	if (++t->used_count * 10 > t->slot_count * 7)
		grow_slots(t);
	put_slot(t->slots, t->slot_count, hash, s->id);
}

void series_table_drop(struct series_table *t, struct series *s)
{
	size_t at = s->id >> SERIES_CHUNK_BITS, mask = t->slot_count - 1;
	uint32_t id = s->id;
	if (s->key) {
		size_t i = (size_t)(series_key_hash(series_key(s)) >> 32) & mask;
		while ((uint32_t)t->slots[i] != id)
			i = (i + 1) & mask;
		t->slots[i] = SLOT_DELETED;
		t->memory_bytes -= sizeof(uint32_t) + series_key(s).len + 16;
	}
	set_live(t, id, false);
	free(s->key);
	*s = (struct series){ 0 };
	t->count--;
	t->dead_count++;
	if (--t->chunk_counts[at] == 0) {
		free(t->chunks[at]);
		t->chunks[at] = NULL;
		t->memory_bytes -= SERIES_CHUNK_COUNT * sizeof(struct series);
	}
}

/* Dead ids out of one posting; what becomes empty stays, for its value may come again. */
static void sweep_posting(const struct series_table *t, struct posting *p)
{
	uint32_t kept = 0;
	if (!p->room) {
		p->count = p->count && series_table_get(t, p->one) ? 1 : 0;
		return;
	}
	for (uint32_t i = 0; i < p->count; i++)
		if (series_table_get(t, p->ids[i]))
			p->ids[kept++] = p->ids[i];
	p->count = kept;
}

/* Empty postings go when whole names are looked at, and with them their place among the pairs. */
static void remove_empty(struct series_table *t)
{
	size_t left = 0;
	memset(t->pairs, 0, t->pair_slots * sizeof(struct posting *));
	for (size_t i = 0; i < t->name_count; i++) {
		struct label_postings *n = &t->names[i];
		size_t kept = 0;
		for (size_t k = 0; k < n->count; k++) {
			struct posting *p = n->items[k];
			if (p->count) {
				n->items[kept++] = p;
				*free_pair(t, p->hash) = p;
				left++;
				continue;
			}
			t->memory_bytes -= sizeof(*p) + p->value_len + 16 +
					   p->room * sizeof(uint32_t);
			posting_free(p);
		}
		n->count = kept;
		n->sorted_count = 0;
	}
	t->pair_count = left;
}

bool series_table_sweep(struct series_table *t, size_t posting_count_max)
{
	size_t seen = 0, skipped = 0;
	for (size_t i = 0; i < t->name_count; i++) {
		struct label_postings *n = &t->names[i];
		if (skipped + n->count <= t->sweep_at) {
			skipped += n->count;
			continue;
		}
		for (size_t k = t->sweep_at - skipped; k < n->count; k++) {
			if (seen++ == posting_count_max)
				return true;
			sweep_posting(t, n->items[k]);
			t->sweep_at++;
		}
		skipped += n->count;
	}
	remove_empty(t);
	t->sweep_at = 0;
	return false;
}

/* ---- Ranks: comparing two numbers instead of two sets of labels. */

struct keyed {
	str key;
	uint32_t id;
};

static int by_labels(const void *a, const void *b)
{
	const struct keyed *x = a, *y = b;
	int c = series_key_cmp(x->key, y->key);
	return c ? c : (x->id > y->id) - (x->id < y->id);
}

/* Holds: index, shared. */
static struct keyed *list_unranked(const struct series_table *t, size_t *ret_count)
{
	struct keyed *items = must_calloc(t->count + 1, sizeof(items[0]));
	size_t chunk_count = (size_t)(t->next_id >> SERIES_CHUNK_BITS) + 1, n = 0;
	for (size_t i = 0; i < chunk_count && i < SERIES_DIRECTORY_COUNT; i++)
		for (size_t k = 0; t->chunks[i] && k < SERIES_CHUNK_COUNT; k++) {
			const struct series *s = &t->chunks[i][k];
			if (s->live && s->key && s->rank == 0)
				items[n++] = (struct keyed){ series_key(s), s->id };
		}
	*ret_count = n;
	return items;
}

/* In their order. Holds: index, shared. */
static struct keyed *list_ranked(const struct series_table *t, size_t *ret_count)
{
	struct keyed *items = must_calloc(t->ranked_count + 1, sizeof(items[0]));
	size_t n = 0;
	for (size_t i = 0; i < t->ranked_count; i++) {
		const struct series *s = series_table_get(t, t->ranked[i]);
		if (s && s->rank) /* 0: dropped, and it came back since */
			items[n++] = (struct keyed){ series_key(s), s->id };
	}
	*ret_count = n;
	return items;
}

/* How many of ITEMS come before X. */
static size_t place_among(const struct keyed *items, size_t count, const struct keyed *x)
{
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (by_labels(&items[middle], x) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Both are in order. The fewer are looked up among the others. */
static void merge_ranks(const struct keyed *ranked, size_t ranked_count, const struct keyed *fresh,
			size_t fresh_count, struct id_set *into)
{
	size_t at = 0;
	id_set_reserve(into, ranked_count + fresh_count);
	for (size_t i = 0; i < fresh_count; i++) {
		size_t before = place_among(ranked + at, ranked_count - at, &fresh[i]);
		for (; before; before--)
			into->ids[into->count++] = ranked[at++].id;
		into->ids[into->count++] = fresh[i].id;
	}
	while (at < ranked_count)
		into->ids[into->count++] = ranked[at++].id;
}

void series_table_rank(struct series_table *t, pthread_rwlock_t *index)
{
	struct id_set all = { 0 };
	size_t fresh_count = 0, ranked_count = 0;
	pthread_rwlock_rdlock(index);
	struct keyed *fresh = list_unranked(t, &fresh_count);
	struct keyed *ranked = list_ranked(t, &ranked_count);
	pthread_rwlock_unlock(index);
	/* keys of live series stay where they are: this needs no lock */
	if (fresh_count)
		qsort(fresh, fresh_count, sizeof(fresh[0]), by_labels);
	merge_ranks(ranked, ranked_count, fresh, fresh_count, &all);
	free(fresh);
	free(ranked);
	pthread_rwlock_wrlock(index);
	for (size_t i = 0; i < all.count; i++)
		series_table_get(t, all.ids[i])->rank = (uint32_t)i + 1;
	t->memory_bytes += (all.count - t->ranked_count) * sizeof(uint32_t);
	free(t->ranked);
	t->ranked = all.ids;
	t->ranked_count = all.count;
	pthread_rwlock_unlock(index);
}
