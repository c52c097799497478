/* A part as it is read. Nothing in it is believed: a checksum says that bytes are as they were
 * written, not by whom. */
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/checks.h"
#include "codec/compress.h"
#include "codec/time_vector.h"
#include "codec/value_vector.h"
#include "metrics/metrics_part_internal.h"
#include "metrics/samples.h"

struct metrics_part {
	size_t refs;     /* atomic */
	bool damaged;    /* atomic */
	uint64_t serial; /* of this process: tells parts apart in times_key */
	struct part_file *file;
	struct metrics_part_meta meta;
	uint32_t block_count, time_block_count, chunk_count;
	uint32_t *first_ids;
	struct time_chunk *chunks;
};

static uint64_t serials;

/* ---- Opening. */

static errc damaged(const struct metrics_part *p, struct err *e)
{
	FAIL(e, ERR_CORRUPT, "%s: its directory makes no sense", part_file_name(p->file));
}

static errc read_meta(struct metrics_part *p, struct err *e)
{
	struct reader r = reader_init(part_file_meta(p->file));
	struct metrics_part_meta *m = &p->meta;
	uint64_t n[12];
	for (size_t i = 0; i < ARRAY_COUNT(n); i++)
		n[i] = reader_varint(&r);
	m->min_time = reader_zigzag(&r);
	m->max_time = reader_zigzag(&r);
	uint32_t blocks = part_block_count(p->file);
	if (r.failed || n[0] > METRICS_1H || n[1] > UINT32_MAX || n[2] > UINT32_MAX ||
	    n[9] + n[10] + 1 != blocks || n[9] > blocks || n[10] > blocks ||
	    n[11] > part_block_len(p->file, blocks - 1) / 5)
		return damaged(p, e);
	m->resolution = (enum metrics_resolution)n[0];
	m->day = (uint32_t)n[1];
	m->retention_class = (uint32_t)n[2];
	m->first_write = n[3];
	m->last_write = n[4];
	m->purged = n[5];
	m->sample_count = n[6];
	m->series_count = n[7];
	m->cold = n[8];
	p->block_count = (uint32_t)n[9];
	p->time_block_count = (uint32_t)n[10];
	p->chunk_count = (uint32_t)n[11];
	return OK;
}

static errc read_chunks(struct metrics_part *p, struct reader *r, struct err *e)
{
	time_ms before = 0;
	uint64_t block = 0, offset = 0;
	for (uint32_t i = 0; i < p->chunk_count; i++) {
		struct time_chunk *c = &p->chunks[i];
		uint64_t skipped = reader_varint(r), count = reader_varint(r);
		int64_t delta = reader_zigzag(r);
		uint64_t span = reader_varint(r), len = reader_varint(r);
		if (skipped > p->time_block_count || !count || count > VECTOR_LEN_MAX)
			return damaged(p, e);
		offset = skipped ? 0 : offset;
		block += skipped;
		if (block >= p->time_block_count)
			return damaged(p, e);
		uint32_t room = part_block_len(p->file, p->block_count + (uint32_t)block);
		if (len > room || offset > room - len)
			return damaged(p, e);
		c->first = (time_ms)((uint64_t)before + (uint64_t)delta);
		c->last = (time_ms)((uint64_t)c->first + span);
		if (c->last < c->first)
			return damaged(p, e);
		c->block = p->block_count + (uint32_t)block;
		c->offset = (uint32_t)offset;
		c->len = (uint32_t)len;
		c->count = (uint32_t)count;
		before = c->first;
		offset += len;
	}
	return OK;
}

static errc read_directory(struct metrics_part *p, struct err *e)
{
	str bytes;
	uint64_t id = 0;
	TRY(part_block(p->file, p->block_count + p->time_block_count, &bytes, e));
	struct reader r = reader_init(bytes);
	p->first_ids = must_calloc(p->block_count + 1, sizeof(p->first_ids[0]));
	p->chunks = must_calloc(p->chunk_count + 1, sizeof(p->chunks[0]));
	for (uint32_t i = 0; i < p->block_count; i++) {
		id += reader_varint(&r);
		if (id > UINT32_MAX || !id)
			return damaged(p, e);
		p->first_ids[i] = (uint32_t)id;
	}
	TRY(read_chunks(p, &r, e));
	return r.failed || reader_left(&r) ? damaged(p, e) : OK;
}

static void close_part(struct metrics_part *p)
{
	part_file_unref(p->file);
	free(p->first_ids);
	free(p->chunks);
	free(p);
}

errc metrics_part_open(const char *folder, const char *name, struct quarantine *quarantine,
		       struct metrics_part **ret_part, struct err *e)
{
	struct metrics_part *p = must_calloc(1, sizeof(*p));
	p->refs = 1;
	p->serial = __atomic_add_fetch(&serials, 1, __ATOMIC_RELAXED);
	errc rc = part_file_open(folder, name, METRICS_PART_KIND, quarantine, &p->file, e);
	if (rc == OK && part_file_kind_version(p->file) > METRICS_PART_VERSION)
		rc = err_fill(e, ERR_CONFLICT, 0, __FILE__, __LINE__,
			      "%s was written by a newer Holdfast; start that one", name);
	if (rc == OK && !part_block_count(p->file))
		rc = damaged(p, e);
	if (rc == OK)
		rc = read_meta(p, e);
	if (rc == OK)
		rc = read_directory(p, e);
	if (rc == ERR_CORRUPT && p->file && part_file_is_unreadable(p->file))
		rc = ERR_IO;
	if (rc != OK) {
		close_part(p);
		return rc;
	}
	*ret_part = p;
	return OK;
}

struct metrics_part *metrics_part_ref(struct metrics_part *p)
{
	__atomic_fetch_add(&p->refs, 1, __ATOMIC_RELAXED);
	return p;
}

void metrics_part_unref(struct metrics_part *p)
{
	if (p && !__atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL))
		close_part(p);
}

const struct metrics_part_meta *metrics_part_meta(const struct metrics_part *p)
{
	return &p->meta;
}

struct part_file *metrics_part_file(const struct metrics_part *p)
{
	return p->file;
}

size_t metrics_part_memory_bytes(const struct metrics_part *p)
{
	return sizeof(*p) + part_file_memory_bytes(p->file) +
	       p->block_count * sizeof(p->first_ids[0]) + p->chunk_count * sizeof(p->chunks[0]);
}

bool metrics_part_is_damaged(const struct metrics_part *p)
{
	return __atomic_load_n(&p->damaged, __ATOMIC_RELAXED);
}

void metrics_part_set_damaged(struct metrics_part *p)
{
	__atomic_store_n(&p->damaged, true, __ATOMIC_RELAXED);
}

/* ---- One record. */

/* A block of series, its head checked. */
struct data_block {
	str bytes;
	uint32_t count;
	const uint8_t *ids, *offsets;
};

static uint32_t u32_at(const uint8_t *at, uint32_t index)
{
	uint32_t value;
	memcpy(&value, at + (size_t)index * sizeof(value), sizeof(value));
	return value;
}

static bool open_block(str bytes, struct data_block *ret)
{
	const uint8_t *at = (const uint8_t *)bytes.ptr;
	if (bytes.len < sizeof(uint32_t))
		return false;
	uint32_t count = u32_at(at, 0);
	if (!count || count > DATA_SERIES_MAX ||
	    (1 + 2 * (size_t)count) * sizeof(uint32_t) > bytes.len)
		return false;
	*ret = (struct data_block){ bytes, count, at + sizeof(uint32_t),
				    at + (1 + (size_t)count) * sizeof(uint32_t) };
	return true;
}

/* The place of ID in the block; COUNT when it is not there. */
static uint32_t find_series(const struct data_block *b, uint32_t id)
{
	uint32_t low = 0, high = b->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (u32_at(b->ids, middle) < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < b->count && u32_at(b->ids, low) == id ? low : b->count;
}

/* One vector of a record. */
struct samples_vector {
	uint32_t chunk;
	bool histogram;
	str bytes; /* of the column that is wanted */
};

static struct samples_vector *plan_room(struct samples_scratch *scratch, size_t count)
{
	if (count > scratch->plan_room) {
		scratch->plan_room = count + count / 2;
		scratch->plan = must_realloc(scratch->plan,
					     scratch->plan_room * sizeof(scratch->plan[0]));
	}
	return scratch->plan;
}

/* The vectors of the record at INDEX whose times meet [from, to], into the plan. */
static bool plan_record(const struct metrics_part *p, const struct data_block *b, uint32_t index,
			size_t column, time_ms from, time_ms to, struct samples_scratch *scratch)
{
	size_t columns = part_column_count(p->meta.resolution);
	uint32_t offset = u32_at(b->offsets, index);
	uint64_t lens[PART_COLUMNS_MAX];
	scratch->plan_count = 0;
	if (offset >= b->bytes.len)
		return false;
	struct reader r = reader_init((str){ b->bytes.ptr + offset, b->bytes.len - offset });
	uint64_t count = reader_varint(&r);
	if (!count || count > SERIES_VECTORS_MAX)
		return false;
	struct samples_vector *plan = plan_room(scratch, count);
	uint64_t at = 0;
	const struct time_chunk *before = NULL;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t head = reader_varint(&r), begin = at;
		for (size_t c = 0; c < columns; c++) {
			lens[c] = reader_varint(&r);
			if (lens[c] > b->bytes.len)
				return false;
			begin += c < column ? lens[c] : 0;
			at += lens[c];
		}
		if (r.failed || head >> 1 >= p->chunk_count)
			return false;
		const struct time_chunk *chunk = &p->chunks[head >> 1];
		if (before && chunk->first <= before->last)
			return false;
		before = chunk;
		if (chunk->last < from || chunk->first > to)
			continue;
		plan[scratch->plan_count++] = (struct samples_vector){ (uint32_t)(head >> 1),
								       head & 1,
								       { NULL, lens[column] } };
		/* the place, for now as a number */
		plan[scratch->plan_count - 1].bytes.ptr = (const char *)(uintptr_t)begin;
	}
	if (at > reader_left(&r))
		return false;
	for (size_t i = 0; i < scratch->plan_count; i++)
		plan[i].bytes.ptr = (const char *)r.at + (uintptr_t)plan[i].bytes.ptr;
	return true;
}

static errc decode_times(const struct metrics_part *p, const struct time_chunk *c, time_ms *into,
			 struct vector_scratch *scratch, struct err *e)
{
	str bytes;
	TRY(part_block(p->file, c->block, &bytes, e));
	struct reader r = reader_init((str){ bytes.ptr + c->offset, c->len });
	TRY(time_vector_decode(&r, c->count, into, scratch, e));
	uint64_t disorder = 0;
	for (size_t i = 1; i < c->count; i++)
		disorder |= into[i] <= into[i - 1];
	if (disorder || into[0] != c->first || into[c->count - 1] != c->last)
		FAIL(e, ERR_CORRUPT, "%s: times are not what its directory says",
		     part_file_name(p->file));
	return OK;
}

static errc push_histograms(struct metrics_samples *into, const time_ms *times, size_t count,
			    str bytes, struct err *e)
{
	struct samples_scratch *scratch = samples_scratch(into);
	if (!bytes.len)
		FAIL(e, ERR_CORRUPT, "a vector of histograms is empty");
	str rest = { bytes.ptr + 1, bytes.len - 1 };
	if (bytes.ptr[0]) {
		if (!scratch->compressor)
			scratch->compressor = compressor_new();
		buf_clear(&scratch->bytes);
		TRY(compressor_decompress(scratch->compressor, COMPRESS_ZSTD, rest, &scratch->bytes,
					  e));
		rest = buf_str(&scratch->bytes);
	}
	struct reader r = reader_init(rest);
	for (size_t i = 0; i < count; i++) {
		str blob = reader_bytes(&r, (size_t)reader_varint(&r));
		if (r.failed)
			FAIL(e, ERR_CORRUPT, "a vector of histograms is cut short");
		TRY(samples_push_histogram(into, times[i], blob, e));
	}
	return OK;
}

/* Append what is planned. SAME_TIMES: the times at the end of INTO are there already. */
static errc decode_plan(const struct metrics_part *p, struct metrics_samples *into, bool same_times,
			struct err *e)
{
	struct samples_scratch *scratch = samples_scratch(into);
	for (size_t i = 0; i < scratch->plan_count; i++) {
		const struct samples_vector *v = &scratch->plan[i];
		const struct time_chunk *c = &p->chunks[v->chunk];
		samples_reserve(into, c->count);
		if (!same_times)
			TRY(decode_times(p, c, into->times + into->count, scratch->vectors, e));
		if (v->histogram) {
			time_ms times[VECTOR_LEN_MAX];
			memcpy(times, into->times + into->count, c->count * sizeof(times[0]));
			TRY(push_histograms(into, times, c->count, v->bytes, e));
			continue;
		}
		struct reader r = reader_init(v->bytes);
		TRY(value_vector_decode(&r, c->count, into->values + into->count, scratch->vectors,
					e));
		if (into->histograms)
			memset(into->histograms + into->count, 0,
			       c->count * sizeof(into->histograms[0]));
		into->count += c->count;
	}
	return OK;
}

/* Cut what was appended from FIRST on to [from, to]. */
static void trim(struct metrics_samples *s, size_t first, time_ms from, time_ms to)
{
	size_t begin = first, end = s->count;
	while (end > begin && s->times[end - 1] > to)
		end--;
	while (begin < end && s->times[begin] < from)
		begin++;
	size_t kept = end - begin;
	if (begin > first && kept) {
		memmove(s->times + first, s->times + begin, kept * sizeof(s->times[0]));
		memmove(s->values + first, s->values + begin, kept * sizeof(s->values[0]));
		if (s->histograms)
			memmove(s->histograms + first, s->histograms + begin,
				kept * sizeof(s->histograms[0]));
	}
	s->count = first + kept;
}

/* What stands for the times of a read: equal only when they are the same array. */
static uint64_t key_of_times(const struct metrics_part *p, const struct samples_scratch *scratch,
			     time_ms from, time_ms to)
{
	uint64_t hash = p->serial * 0x9e3779b97f4a7c15ULL;
	for (size_t i = 0; i < scratch->plan_count; i++)
		hash = (hash ^ (scratch->plan[i].chunk + 1)) * 0x9fb21c651e98df25ULL + 1;
	const int64_t range[2] = { from, to };
	return XXH3_64bits_withSeed(range, sizeof(range), hash) | 1;
}

static bool has_histograms(const struct samples_scratch *scratch)
{
	for (size_t i = 0; i < scratch->plan_count; i++)
		if (scratch->plan[i].histogram)
			return true;
	return false;
}

static size_t planned_count(const struct metrics_part *p, const struct samples_scratch *scratch)
{
	size_t count = 0;
	for (size_t i = 0; i < scratch->plan_count; i++)
		count += p->chunks[scratch->plan[i].chunk].count;
	return count;
}

/* The planned vectors into INTO, cut to the range. What cannot be read is left out and counted. */
static errc read_plan(const struct metrics_part *p, time_ms from, time_ms to,
		      struct metrics_samples *into, uint64_t *ret_bad, struct err *e)
{
	struct samples_scratch *scratch = samples_scratch(into);
	size_t first = into->count;
	struct err why = { 0 };
	uint64_t key = key_of_times(p, scratch, from, to);
	/* all of these are in the range: then the times of the read before serve as they are */
	bool whole = first == 0 && !has_histograms(scratch) && scratch->plan_count &&
		     p->chunks[scratch->plan[0].chunk].first >= from &&
		     p->chunks[scratch->plan[scratch->plan_count - 1].chunk].last <= to;
	bool same = whole && into->times_key == key && into->room >= planned_count(p, scratch);
	into->times_key = 0;
	errc rc = decode_plan(p, into, same, &why);
	if (rc == ERR_LIMIT) {
		if (e)
			*e = why;
		return rc;
	}
	if (rc != OK) { /* what was decoded before it stays */
		++*ret_bad;
		trim(into, first, from, to);
		return OK;
	}
	trim(into, first, from, to);
	if (whole)
		into->times_key = key;
	return OK;
}

/* The first block that may hold ID; block_count when none does. */
static uint32_t first_block(const struct metrics_part *p, uint32_t id)
{
	uint32_t low = 0, high = p->block_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (p->first_ids[middle] < id)
			low = middle + 1;
		else
			high = middle;
	}
	/* LOW is the first that begins with ID or later; ID may stand within the one before */
	return low == 0 ? 0 : low - 1;
}

errc metrics_part_read(struct metrics_part *p, uint32_t id, time_ms from, time_ms to,
		       enum metrics_rollup rollup, struct metrics_samples *into, uint64_t *ret_bad,
		       struct err *e)
{
	size_t column = p->meta.resolution == METRICS_RAW ? 0 : (size_t)rollup;
	bool found = false;
	if (p->meta.max_time < from || p->meta.min_time > to)
		return OK;
	for (uint32_t i = first_block(p, id); i < p->block_count && p->first_ids[i] <= id; i++) {
		struct data_block b;
		str bytes;
		if (part_block(p->file, i, &bytes, NULL) != OK || !open_block(bytes, &b)) {
			++*ret_bad;
			continue;
		}
		uint32_t at = find_series(&b, id);
		if (at == b.count) {
			if (found)
				break;
			continue;
		}
		if (!plan_record(p, &b, at, column, from, to, samples_scratch(into))) {
			++*ret_bad;
			continue;
		}
		if (found)
			into->times_key = 0;
		found = true;
		if (samples_scratch(into)->plan_count)
			TRY(read_plan(p, from, to, into, ret_bad, e));
	}
	return OK;
}

void metrics_part_ids(struct metrics_part *p, struct id_set *into)
{
	for (uint32_t i = 0; i < p->block_count; i++) {
		struct data_block b;
		str bytes;
		if (part_block(p->file, i, &bytes, NULL) != OK || !open_block(bytes, &b))
			continue;
		for (uint32_t k = 0; k < b.count; k++) {
			uint32_t id = u32_at(b.ids, k);
			if (!into->count || into->ids[into->count - 1] < id)
				id_set_push(into, id);
		}
	}
}

/* ---- Walking through all of it. */

struct metrics_part_cursor {
	struct metrics_part *part;
	uint32_t block, at; /* the next record; block == block_count: the end */
	bool open;
	struct data_block data;
	struct buf bytes;
	uint32_t id;
};

struct metrics_part_cursor *metrics_part_cursor_new(struct metrics_part *p)
{
	struct metrics_part_cursor *c = must_calloc(1, sizeof(*c));
	c->part = p;
	c->bytes = buf_init(PART_BLOCK_BYTES_MAX + PART_SLACK_BYTES);
	return c;
}

void metrics_part_cursor_free(struct metrics_part_cursor *c)
{
	if (!c)
		return;
	buf_done(&c->bytes);
	free(c);
}

/* Have the block of the next record open; false at the end. */
static bool cursor_block(struct metrics_part_cursor *c, uint64_t *ret_bad)
{
	struct metrics_part *p = c->part;
	while (c->block < p->block_count) {
		if (c->open && c->at < c->data.count)
			return true;
		if (c->open) {
			c->open = false;
			c->block++;
			continue;
		}
		uint32_t len = part_block_len(p->file, c->block);
		buf_clear(&c->bytes);
		char *room = buf_reserve(&c->bytes, (size_t)len + PART_SLACK_BYTES);
		must(room);
		if (part_block_read(p->file, c->block, room, NULL) != OK ||
		    !open_block((str){ room, len }, &c->data)) {
			++*ret_bad;
			c->block++;
			continue;
		}
		c->open = true;
		c->at = 0;
	}
	return false;
}

errc metrics_part_cursor_next(struct metrics_part_cursor *c, uint32_t *ret_id, uint64_t *ret_bad,
			      struct err *e)
{
	(void)e;
	/* records of the series before that nobody read */
	while (cursor_block(c, ret_bad) && c->id && u32_at(c->data.ids, c->at) <= c->id)
		c->at++;
	*ret_id = c->id = cursor_block(c, ret_bad) ? u32_at(c->data.ids, c->at) : 0;
	return OK;
}

errc metrics_part_cursor_read(struct metrics_part_cursor *c, struct metrics_samples *into,
			      uint64_t *ret_bad, struct err *e)
{
	while (c->id && cursor_block(c, ret_bad) && u32_at(c->data.ids, c->at) == c->id) {
		into->times_key = 0;
		if (!plan_record(c->part, &c->data, c->at, 0, INT64_MIN, INT64_MAX,
				 samples_scratch(into)))
			++*ret_bad;
		else if (samples_scratch(into)->plan_count)
			TRY(read_plan(c->part, INT64_MIN, INT64_MAX, into, ret_bad, e));
		c->at++;
	}
	return OK;
}
