/* An index segment as it is written: keys, ids, ids in order, postings, directories. */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/varint.h"
#include "metrics/index_segment_internal.h"
#include "metrics/series_key.h"

enum {
	DIRECTORY_BYTES_MAX = 16 << 20,
	NAMES_MIN = 256,
	PAIRS_MIN = 1 << 18, /* gathered in one walk over the series */
};

struct writing {
	struct part_writer *file;
	struct index_entry *entries;
	size_t count;
	uint64_t key_blocks, posting_blocks;
	struct buf keys;     /* directory: how many keys each block has */
	struct buf postings; /* directory: name and first value of each block */
};

static int by_labels(const void *a, const void *b)
{
	const struct index_entry *x = a, *y = b;
	int order = series_key_cmp(x->key, y->key);
	return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* Equal labels with several ids stay: the samples of each are found by its own. */
static size_t drop_doubles(struct index_entry *entries, size_t count)
{
	size_t kept = 0;
	for (size_t i = 0; i < count; i++)
		if (i + 1 == count || entries[i].id != entries[i + 1].id ||
		    !str_eq(entries[i].key, entries[i + 1].key))
			entries[kept++] = entries[i];
	return kept;
}

static size_t shared_len(str a, str b)
{
	size_t most = a.len < b.len ? a.len : b.len, n = 0;
	while (n < most && a.ptr[n] == b.ptr[n])
		n++;
	return n;
}

static void add_front_coded(struct buf *into, str before, str s)
{
	size_t shared = shared_len(before, s);
	buf_add_varint(into, shared);
	buf_add_varint(into, s.len - shared);
	buf_add(into, (str){ s.ptr + shared, s.len - shared });
}

/* ---- Keys: front-coded, each block from nothing. */

static errc end_keys(struct writing *w, struct buf *block, size_t in_block, struct err *e)
{
	if (!in_block)
		return OK;
	TRY(buf_check(block, "a block of an index", e));
	TRY(part_writer_block(w->file, buf_str(block), NULL, e));
	buf_add_varint(&w->keys, in_block);
	buf_clear(block);
	w->key_blocks++;
	return OK;
}

static errc put_keys(struct writing *w, struct err *e)
{
	struct buf block CLEANUP(buf_done) = buf_init(PART_BLOCK_BYTES_MAX);
	size_t in_block = 0;
	for (size_t i = 0; i < w->count; i++) {
		add_front_coded(&block, in_block ? w->entries[i - 1].key : STR(""),
				w->entries[i].key);
		in_block++;
		if (block.len < INDEX_BLOCK_BYTES)
			continue;
		TRY(end_keys(w, &block, in_block, e));
		in_block = 0;
	}
	return end_keys(w, &block, in_block, e);
}

/* ---- Ids by place, and places by id. */

static errc put_numbers(struct writing *w, const uint32_t *numbers, struct err *e)
{
	for (size_t i = 0; i < w->count; i += INDEX_IDS_IN_BLOCK) {
		size_t n = w->count - i < INDEX_IDS_IN_BLOCK ? w->count - i : INDEX_IDS_IN_BLOCK;
		str bytes = { (const char *)(numbers + i), n * sizeof(numbers[0]) };
		TRY(part_writer_block(w->file, bytes, NULL, e));
	}
	return OK;
}

struct place {
	uint32_t id, at;
};

static int by_id(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	return (x->id > y->id) - (x->id < y->id);
}

static errc put_ids(struct writing *w, struct err *e)
{
	uint32_t *numbers = must_calloc(w->count, sizeof(numbers[0]));
	struct place *places = must_calloc(w->count, sizeof(places[0]));
	for (size_t i = 0; i < w->count; i++) {
		numbers[i] = w->entries[i].id;
		places[i] = (struct place){ w->entries[i].id, (uint32_t)i };
	}
	errc rc = put_numbers(w, numbers, e);
	qsort(places, w->count, sizeof(places[0]), by_id);
	for (size_t i = 0; i < w->count; i++)
		numbers[i] = places[i].at;
	if (rc == OK)
		rc = put_numbers(w, numbers, e);
	free(numbers);
	free(places);
	return rc;
}

/* ---- Postings. */

struct pair {
	str value;
	uint32_t at;
};

static int by_value(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	int order = str_cmp(x->value, y->value);
	return order ? order : (x->at > y->at) - (x->at < y->at);
}

/* A label name, and how many series have it. */
struct name_count {
	str name;
	size_t count;
};

struct names {
	struct name_count *items; /* by hash until they are sorted; count 0: empty */
	size_t count, size;
};

static struct name_count *find_name(struct names *n, str name)
{
	size_t at = series_key_hash(name) & (n->size - 1);
	while (n->items[at].count && !str_eq(n->items[at].name, name))
		at = (at + 1) & (n->size - 1);
	return &n->items[at];
}

static void grow_names(struct names *n)
{
	struct names before = *n;
	n->size *= 2;
	n->items = must_calloc(n->size, sizeof(n->items[0]));
	for (size_t i = 0; i < before.size; i++)
		if (before.items[i].count)
			*find_name(n, before.items[i].name) = before.items[i];
	free(before.items);
}

static int by_name(const void *a, const void *b)
{
	const struct name_count *x = a, *y = b;
	return str_cmp(x->name, y->name);
}

/* Every label name there is, in order. */
static struct names list_names(const struct writing *w)
{
	struct names n = { must_calloc(NAMES_MIN, sizeof(n.items[0])), 0, NAMES_MIN };
	size_t kept = 0;
	for (size_t i = 0; i < w->count; i++) {
		struct label items[LABELS_COUNT_MAX];
		size_t count = series_key_labels(w->entries[i].key, items);
		must(count != SIZE_MAX);
		for (size_t k = 0; k < count; k++) {
			struct name_count *found = find_name(&n, items[k].name);
			found->name = items[k].name;
			if (!found->count++ && ++n.count * 2 > n.size)
				grow_names(&n);
		}
	}
	for (size_t i = 0; i < n.size; i++)
		if (n.items[i].count)
			n.items[kept++] = n.items[i];
	qsort(n.items, n.count, sizeof(n.items[0]), by_name);
	return n;
}

static errc end_postings(struct writing *w, struct buf *block, struct err *e)
{
	if (!block->len)
		return OK;
	TRY(buf_check(block, "a block of an index", e));
	TRY(part_writer_block(w->file, buf_str(block), NULL, e));
	buf_clear(block);
	w->posting_blocks++;
	return OK;
}

/* A value: front-coded text, how many, length of the places, places by distance. */
static errc put_value(struct writing *w, struct buf *block, str name, str before,
		      const struct pair *pairs, size_t count, struct err *e)
{
	struct buf places CLEANUP(buf_done) = buf_init(PART_BLOCK_BYTES_MAX);
	uint32_t last = 0;
	for (size_t i = 0; i < count; i++) {
		buf_add_varint(&places, pairs[i].at - last);
		last = pairs[i].at;
	}
	TRY(buf_check(&places, "the series of a label", e));
	if (!block->len) {
		/* as much of the value as tells it from the one before it */
		size_t len = shared_len(before, pairs[0].value) + 1;
		buf_add_varint(&w->postings, name.len);
		buf_add(&w->postings, name);
		buf_add_varint(&w->postings, len);
		buf_add(&w->postings, (str){ pairs[0].value.ptr, len });
		before = STR("");
	}
	add_front_coded(block, before, pairs[0].value);
	buf_add_varint(block, count);
	buf_add_varint(block, places.len);
	buf_add(block, buf_str(&places));
	return block->len >= INDEX_BLOCK_BYTES ? end_postings(w, block, e) : OK;
}

static errc put_name(struct writing *w, str name, struct pair *pairs, size_t count, struct err *e)
{
	struct buf block CLEANUP(buf_done) = buf_init(2 * PART_BLOCK_BYTES_MAX);
	str before = STR("");
	qsort(pairs, count, sizeof(pairs[0]), by_value);
	for (size_t i = 0, n; i < count; i += n) {
		n = 1;
		while (i + n < count && str_eq(pairs[i + n].value, pairs[i].value))
			n++;
		TRY(put_value(w, &block, name, before, pairs + i, n, e));
		before = pairs[i].value;
	}
	return end_postings(w, &block, e);
}

/* The postings of COUNT names next to each other, gathered in one walk over the series. */
static errc put_names(struct writing *w, struct name_count *names, size_t count, size_t pair_count,
		      struct err *e)
{
	struct pair *pairs = must_calloc(pair_count, sizeof(pairs[0]));
	size_t *ends = must_calloc(count, sizeof(ends[0])), from = 0;
	errc rc = OK;
	for (size_t k = 0; k < count; k++, from += names[k - 1].count)
		ends[k] = from;
	for (size_t i = 0; i < w->count; i++) {
		struct label items[LABELS_COUNT_MAX];
		size_t n = series_key_labels(w->entries[i].key, items);
		for (size_t k = 0; k < n && count; k++) {
			const struct name_count key = { items[k].name, 0 };
			const struct name_count *found = bsearch(&key, names, count,
								 sizeof(names[0]), by_name);
			if (found)
				pairs[ends[found - names]++] = (struct pair){ items[k].value,
									      (uint32_t)i };
		}
	}
	for (size_t k = 0; k < count && rc == OK; k++)
		rc = put_name(w, names[k].name, pairs + ends[k] - names[k].count, names[k].count,
			      e);
	free(pairs);
	free(ends);
	return rc;
}

static errc put_postings(struct writing *w, struct err *e)
{
	struct names names = list_names(w);
	size_t most = w->count > PAIRS_MIN ? w->count : PAIRS_MIN;
	errc rc = OK;
	for (size_t i = 0, n; i < names.count && rc == OK; i += n) {
		size_t pairs = names.items[i].count;
		n = 1;
		while (i + n < names.count && pairs + names.items[i + n].count <= most)
			pairs += names.items[i + n++].count;
		rc = put_names(w, names.items + i, n, pairs, e);
	}
	free(names.items);
	return rc;
}

static errc write_all(struct writing *w, uint32_t day, uint64_t *ret_bytes, struct err *e)
{
	struct buf meta CLEANUP(buf_done) = buf_init(4096);
	TRY(put_keys(w, e));
	TRY(put_ids(w, e));
	TRY(put_postings(w, e));
	TRY(buf_check(&w->keys, "the directory of an index", e));
	TRY(buf_check(&w->postings, "the directory of an index", e));
	TRY(part_writer_block(w->file, buf_str(&w->keys), NULL, e));
	TRY(part_writer_block(w->file, buf_str(&w->postings), NULL, e));
	buf_add_varint(&meta, day);
	buf_add_varint(&meta, w->count);
	buf_add_varint(&meta, w->key_blocks);
	buf_add_varint(&meta, w->posting_blocks);
	return part_writer_finish(w->file, buf_str(&meta), ret_bytes, e);
}

errc index_segment_write(const char *folder, const char *name, uint32_t day,
			 struct index_entry *entries, size_t count, uint64_t *ret_bytes,
			 struct err *e)
{
	struct part_writer_options options = {
		.folder = folder, .name = name, .kind = INDEX_KIND, .kind_version = INDEX_VERSION
	};
	struct writing w = { .entries = entries,
			     .keys = buf_init(DIRECTORY_BYTES_MAX),
			     .postings = buf_init(DIRECTORY_BYTES_MAX) };
	must(count > 0);
	qsort(entries, count, sizeof(entries[0]), by_labels);
	w.count = drop_doubles(entries, count);
	errc rc = part_writer_new(&options, &w.file, e);
	if (rc == OK)
		rc = write_all(&w, day, ret_bytes, e);
	part_writer_free(w.file);
	buf_done(&w.keys);
	buf_done(&w.postings);
	return rc;
}
