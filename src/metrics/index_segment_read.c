/* An index segment as it is read. What is bad is passed over: its series are then not found. */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/varint.h"
#include "metrics/index_segment_internal.h"
#include "metrics/series_key.h"

enum { KEY_BYTES_MAX = SERIES_KEY_BYTES_MAX };

struct posting_block {
	str name, value; /* of its first entry; in the mapping */
};

struct index_segment {
	size_t refs; /* atomic */
	struct part_file *file;
	uint32_t day, count;
	uint32_t key_blocks, number_blocks, posting_blocks;
	uint32_t *key_ends; /* places up to and with each block of keys */
	struct posting_block *blocks;
};

static errc damaged(const struct index_segment *s, struct err *e)
{
	FAIL(e, ERR_CORRUPT, "%s: its directory makes no sense", part_file_name(s->file));
}

/* ---- Opening. */

static errc read_meta(struct index_segment *s, struct err *e)
{
	struct reader r = reader_init(part_file_meta(s->file));
	uint64_t day = reader_varint(&r), count = reader_varint(&r), keys = reader_varint(&r),
		 postings = reader_varint(&r), blocks = part_block_count(s->file);
	if (r.failed || day > UINT32_MAX || !count || count >= UINT32_MAX || keys > blocks ||
	    postings > blocks)
		return damaged(s, e);
	uint64_t numbers = (count + INDEX_IDS_IN_BLOCK - 1) / INDEX_IDS_IN_BLOCK;
	if (keys + 2 * numbers + postings + 2 != blocks || !keys)
		return damaged(s, e);
	s->day = (uint32_t)day;
	s->count = (uint32_t)count;
	s->key_blocks = (uint32_t)keys;
	s->number_blocks = (uint32_t)numbers;
	s->posting_blocks = (uint32_t)postings;
	return OK;
}

static errc read_directories(struct index_segment *s, struct err *e)
{
	uint32_t last = part_block_count(s->file) - 1;
	str bytes;
	uint64_t end = 0;
	TRY(part_block(s->file, last - 1, &bytes, e));
	struct reader r = reader_init(bytes);
	s->key_ends = must_calloc(s->key_blocks, sizeof(s->key_ends[0]));
	for (uint32_t i = 0; i < s->key_blocks; i++) {
		end += reader_varint(&r);
		if (end > s->count)
			return damaged(s, e);
		s->key_ends[i] = (uint32_t)end;
	}
	if (r.failed || reader_left(&r) || end != s->count)
		return damaged(s, e);
	TRY(part_block(s->file, last, &bytes, e));
	r = reader_init(bytes);
	s->blocks = must_calloc(s->posting_blocks + 1, sizeof(s->blocks[0]));
	for (uint32_t i = 0; i < s->posting_blocks; i++) {
		s->blocks[i].name = reader_bytes(&r, (size_t)reader_varint(&r));
		s->blocks[i].value = reader_bytes(&r, (size_t)reader_varint(&r));
	}
	return r.failed || reader_left(&r) ? damaged(s, e) : OK;
}

static void close_segment(struct index_segment *s)
{
	part_file_unref(s->file);
	free(s->key_ends);
	free(s->blocks);
	free(s);
}

errc index_segment_open(const char *folder, const char *name, struct quarantine *quarantine,
			struct index_segment **ret_segment, struct err *e)
{
	struct index_segment *s = must_calloc(1, sizeof(*s));
	s->refs = 1;
	errc rc = part_file_open(folder, name, INDEX_KIND, quarantine, &s->file, e);
	if (rc == OK && part_file_kind_version(s->file) > INDEX_VERSION)
		rc = err_fill(e, ERR_CONFLICT, 0, __FILE__, __LINE__,
			      "%s was written by a newer Holdfast; start that one", name);
	if (rc == OK && part_block_count(s->file) < 2)
		rc = damaged(s, e);
	if (rc == OK)
		rc = read_meta(s, e);
	if (rc == OK)
		rc = read_directories(s, e);
	if (rc == ERR_CORRUPT && s->file && part_file_is_unreadable(s->file))
		rc = ERR_IO;
	if (rc != OK) {
		close_segment(s);
		return rc;
	}
	*ret_segment = s;
	return OK;
}

struct index_segment *index_segment_ref(struct index_segment *s)
{
	__atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
	return s;
}

void index_segment_unref(struct index_segment *s)
{
	if (s && !__atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL))
		close_segment(s);
}

uint32_t index_segment_day(const struct index_segment *s)
{
	return s->day;
}

size_t index_segment_count(const struct index_segment *s)
{
	return s->count;
}

struct part_file *index_segment_file(const struct index_segment *s)
{
	return s->file;
}

size_t index_segment_memory_bytes(const struct index_segment *s)
{
	return sizeof(*s) + part_file_memory_bytes(s->file) +
	       s->key_blocks * sizeof(s->key_ends[0]) + s->posting_blocks * sizeof(s->blocks[0]);
}

bool index_segment_is_damaged(const struct index_segment *s)
{
	for (uint32_t i = 0; i < part_block_count(s->file); i++)
		if (part_block_is_bad(s->file, i))
			return true;
	return false;
}

/* ---- Numbers. */

/* The number at place AT of the ids (SET 0) or of the places in order of ids (SET 1). */
static bool number_at(struct index_segment *s, uint32_t set, uint32_t at, uint32_t *ret)
{
	uint32_t block = s->key_blocks + set * s->number_blocks + at / INDEX_IDS_IN_BLOCK;
	size_t offset = (size_t)(at % INDEX_IDS_IN_BLOCK) * sizeof(*ret);
	str bytes;
	if (at >= s->count || part_block(s->file, block, &bytes, NULL) != OK ||
	    offset + sizeof(*ret) > bytes.len)
		return false;
	memcpy(ret, bytes.ptr + offset, sizeof(*ret));
	return true;
}

/* The place of series ID. */
static bool place_of(struct index_segment *s, uint32_t id, uint32_t *ret_at)
{
	uint32_t low = 0, high = s->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2, at, found;
		if (!number_at(s, 1, middle, &at) || !number_at(s, 0, at, &found))
			return false;
		if (found < id)
			low = middle + 1;
		else
			high = middle;
	}
	uint32_t at, found;
	if (!number_at(s, 1, low, &at) || !number_at(s, 0, at, &found) || found != id)
		return false;
	*ret_at = at;
	return true;
}

/* ---- Keys. */

/* The next front-coded text after what is in TEXT. */
static bool next_text(struct reader *r, struct buf *text)
{
	uint64_t shared = reader_varint(r), rest = reader_varint(r);
	str more = reader_bytes(r, (size_t)rest);
	if (r->failed || shared > text->len)
		return false;
	text->len = (size_t)shared;
	buf_add(text, more);
	return !text->overflow;
}

static uint32_t block_of(const struct index_segment *s, uint32_t at)
{
	uint32_t low = 0, high = s->key_blocks;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (s->key_ends[middle] <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool key_at(struct index_segment *s, uint32_t at, struct buf *into)
{
	uint32_t block = block_of(s, at);
	uint32_t first = block ? s->key_ends[block - 1] : 0;
	str bytes;
	if (part_block(s->file, block, &bytes, NULL) != OK)
		return false;
	struct reader r = reader_init(bytes);
	buf_clear(into);
	for (uint32_t i = first; i <= at; i++)
		if (!next_text(&r, into))
			return false;
	return true;
}

bool index_segment_key(struct index_segment *s, uint32_t id, struct buf *into)
{
	struct label items[LABELS_COUNT_MAX];
	uint32_t at;
	return place_of(s, id, &at) && key_at(s, at, into) &&
	       series_key_labels(buf_str(into), items) != SIZE_MAX;
}

uint32_t index_segment_find(struct index_segment *s, str key)
{
	struct buf text CLEANUP(buf_done) = buf_init(KEY_BYTES_MAX);
	uint32_t low = 0, high = s->key_blocks, id;
	str bytes;
	/* the last block whose first key is not larger */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (!key_at(s, middle ? s->key_ends[middle - 1] : 0, &text))
			return 0;
		if (series_key_cmp(buf_str(&text), key) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || part_block(s->file, low - 1, &bytes, NULL) != OK)
		return 0;
	struct reader r = reader_init(bytes);
	uint32_t at = low > 1 ? s->key_ends[low - 2] : 0;
	buf_clear(&text);
	for (; at < s->key_ends[low - 1] && next_text(&r, &text); at++)
		if (str_eq(buf_str(&text), key))
			return number_at(s, 0, at, &id) ? id : 0;
	return 0;
}

errc index_segment_each(struct index_segment *s,
			errc (*see)(void *ctx, uint32_t id, str key, struct err *e), void *ctx,
			struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(KEY_BYTES_MAX);
	struct label items[LABELS_COUNT_MAX];
	for (uint32_t b = 0, at = 0; b < s->key_blocks; at = s->key_ends[b], b++) {
		str bytes;
		if (part_block(s->file, b, &bytes, NULL) != OK)
			continue;
		struct reader r = reader_init(bytes);
		buf_clear(&text);
		for (uint32_t i = at; i < s->key_ends[b] && next_text(&r, &text); i++) {
			uint32_t id;
			if (number_at(s, 0, i, &id) && id &&
			    series_key_labels(buf_str(&text), items) != SIZE_MAX)
				TRY(see(ctx, id, buf_str(&text), e));
		}
	}
	return OK;
}

/* ---- Postings. */

/* One value of a label. */
struct value_entry {
	uint64_t count;
	str places;
};

static bool next_value(struct reader *r, struct buf *text, struct value_entry *ret)
{
	if (!reader_left(r) || !next_text(r, text))
		return false;
	ret->count = reader_varint(r);
	ret->places = reader_bytes(r, (size_t)reader_varint(r));
	return !r->failed;
}

static void add_places(struct index_segment *s, const struct value_entry *v, struct id_set *into)
{
	struct reader r = reader_init(v->places);
	uint64_t at = 0;
	/* a place takes a byte at least */
	if (v->count > v->places.len)
		return;
	id_set_reserve(into, v->count);
	for (uint64_t i = 0; i < v->count; i++) {
		uint32_t id;
		at += reader_varint(&r);
		if (r.failed || at >= s->count)
			return;
		if (number_at(s, 0, (uint32_t)at, &id) && id)
			into->ids[into->count++] = id;
	}
}

static uint32_t posting_block_index(const struct index_segment *s, uint32_t block)
{
	return s->key_blocks + 2 * s->number_blocks + block;
}

/* The blocks of NAME: [*ret_begin, *ret_end). */
static void blocks_of(const struct index_segment *s, str name, uint32_t *ret_begin,
		      uint32_t *ret_end)
{
	uint32_t low = 0, high = s->posting_blocks;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (str_cmp(s->blocks[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_begin = low;
	while (low < s->posting_blocks && str_eq(s->blocks[low].name, name))
		low++;
	*ret_end = low;
}

static errc source_value(const void *ctx, str name, str value, struct id_set *into, struct err *e)
{
	struct index_segment *s = (struct index_segment *)ctx;
	struct buf text CLEANUP(buf_done) = buf_init(LABEL_VALUE_BYTES_MAX + 64);
	struct value_entry v;
	uint32_t begin, end, at;
	str bytes;
	(void)e;
	blocks_of(s, name, &begin, &end);
	for (at = end; at > begin; at--)
		if (str_cmp(s->blocks[at - 1].value, value) <= 0)
			break;
	if (at == begin || part_block(s->file, posting_block_index(s, at - 1), &bytes, NULL) != OK)
		return OK;
	struct reader r = reader_init(bytes);
	while (next_value(&r, &text, &v))
		if (str_eq(buf_str(&text), value)) {
			add_places(s, &v, into);
			break;
		}
	return OK;
}

static errc source_scan(const void *ctx, str name, const struct matcher *m, bool wanted,
			struct id_set *into, struct err *e)
{
	struct index_segment *s = (struct index_segment *)ctx;
	struct buf text CLEANUP(buf_done) = buf_init(LABEL_VALUE_BYTES_MAX + 64);
	uint32_t begin, end;
	blocks_of(s, name, &begin, &end);
	for (uint32_t b = begin; b < end; b++) {
		struct value_entry v;
		str bytes;
		if (part_block(s->file, posting_block_index(s, b), &bytes, NULL) != OK)
			continue;
		struct reader r = reader_init(bytes);
		buf_clear(&text);
		while (next_value(&r, &text, &v)) {
			bool matches = wanted;
			if (m)
				TRY(matcher_matches(m, buf_str(&text), &matches, e));
			if (matches == wanted)
				add_places(s, &v, into);
		}
	}
	return OK;
}

static errc source_all(const void *ctx, struct id_set *into, struct err *e)
{
	struct index_segment *s = (struct index_segment *)ctx;
	(void)e;
	id_set_reserve(into, s->count);
	for (uint32_t i = 0; i < s->count; i++) {
		uint32_t at, id;
		if (number_at(s, 1, i, &at) && number_at(s, 0, at, &id) && id)
			into->ids[into->count++] = id;
	}
	return OK;
}

struct index_source index_segment_source(struct index_segment *s)
{
	return (struct index_source){
		.ctx = s, .value = source_value, .scan = source_scan, .all = source_all
	};
}

errc index_segment_values(struct index_segment *s, str name,
			  errc (*see)(void *ctx, str value, uint64_t series_count, struct err *e),
			  void *ctx, struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(LABEL_VALUE_BYTES_MAX + 64);
	uint32_t begin = 0, end = s->posting_blocks;
	if (name.len)
		blocks_of(s, name, &begin, &end);
	for (uint32_t b = begin; b < end; b++) {
		struct value_entry v;
		str bytes;
		if (!name.len) {
			if (!b || !str_eq(s->blocks[b - 1].name, s->blocks[b].name))
				TRY(see(ctx, s->blocks[b].name, 0, e));
			continue;
		}
		if (part_block(s->file, posting_block_index(s, b), &bytes, NULL) != OK)
			continue;
		struct reader r = reader_init(bytes);
		buf_clear(&text);
		while (next_value(&r, &text, &v))
			TRY(see(ctx, buf_str(&text), v.count, e));
	}
	return OK;
}
