/* A part as it is written: blocks of series, the times they share, the directory. */
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/checks.h"
#include "codec/compress.h"
#include "codec/time_vector.h"
#include "codec/value_vector.h"
#include "metrics/histogram_codec.h"
#include "metrics/metrics_part_internal.h"
#include "metrics/samples.h"

enum { DIRECTORY_BYTES_MAX = 16 << 20, SLOTS_MIN = 256 };

struct time_slot {
	XXH128_hash_t hash;
	uint32_t chunk; /* index + 1; 0: empty */
};

struct metrics_part_writer {
	struct metrics_part_meta meta;
	struct part_writer *file;
	char name[PART_NAME_MAX + 1];
	enum vector_level level;
	struct vector_scratch *scratch;
	struct compressor *compressor;
	/* the block at hand */
	struct buf records;
	uint32_t ids[DATA_SERIES_MAX], offsets[DATA_SERIES_MAX];
	uint32_t series_count;
	uint32_t last_id;
	/* one series */
	struct buf heads, vectors, blob;
	/* the times */
	struct buf times;
	struct time_chunk *chunks;
	size_t chunk_count, chunk_room;
	uint32_t time_block_count; /* full ones, not written yet */
	struct buf *time_blocks;
	struct time_slot *slots;
	size_t slot_count;
	/* the directory of blocks */
	uint32_t *first_ids;
	size_t block_count, block_room;
};

errc metrics_part_writer_new(const char *folder, const char *name,
			     const struct metrics_part_meta *meta, struct metrics_part_writer **ret,
			     struct err *e)
{
	struct metrics_part_writer *w = must_calloc(1, sizeof(*w));
	struct part_writer_options options = { .folder = folder,
					       .name = name,
					       .kind = METRICS_PART_KIND,
					       .kind_version = METRICS_PART_VERSION };
	w->meta = *meta;
	w->meta.sample_count = w->meta.series_count = 0;
	w->meta.min_time = INT64_MAX;
	w->meta.max_time = INT64_MIN;
	w->level = meta->cold ? VECTOR_COLD : VECTOR_HOT;
	w->scratch = vector_scratch_new();
	w->compressor = compressor_new();
	w->records = buf_init(PART_BLOCK_BYTES_MAX);
	w->heads = buf_init(DATA_BLOCK_BYTES_MAX);
	w->vectors = buf_init(PART_BLOCK_BYTES_MAX);
	w->blob = buf_init(SAMPLES_VECTOR_BYTES_MAX);
	w->times = buf_init(PART_BLOCK_BYTES_MAX);
	w->slot_count = SLOTS_MIN;
	w->slots = must_calloc(w->slot_count, sizeof(w->slots[0]));
	errc rc = part_writer_new(&options, &w->file, e);
	if (rc == OK)
		must(str_copy(str_c(name), w->name, sizeof(w->name)));
	if (rc != OK) {
		metrics_part_writer_free(w);
		return rc;
	}
	*ret = w;
	return OK;
}

void metrics_part_writer_free(struct metrics_part_writer *w)
{
	if (!w)
		return;
	part_writer_free(w->file);
	vector_scratch_free(w->scratch);
	compressor_free(w->compressor);
	struct buf *const bufs[] = { &w->records, &w->heads, &w->vectors, &w->blob, &w->times };
	for (size_t i = 0; i < ARRAY_COUNT(bufs); i++)
		buf_done(bufs[i]);
	for (uint32_t i = 0; i < w->time_block_count; i++)
		buf_done(&w->time_blocks[i]);
	free(w->time_blocks);
	free(w->chunks);
	free(w->slots);
	free(w->first_ids);
	free(w);
}

const char *metrics_part_writer_name(const struct metrics_part_writer *w)
{
	return w->name;
}

uint64_t metrics_part_writer_samples(const struct metrics_part_writer *w)
{
	return w->meta.sample_count;
}

/* ---- Times. */

static void grow_slots(struct metrics_part_writer *w)
{
	struct time_slot *before = w->slots;
	size_t before_count = w->slot_count;
	w->slot_count *= 2;
	w->slots = must_calloc(w->slot_count, sizeof(w->slots[0]));
	for (size_t i = 0; i < before_count; i++) {
		size_t at = before[i].hash.low64 & (w->slot_count - 1);
		if (!before[i].chunk)
			continue;
		while (w->slots[at].chunk)
			at = (at + 1) & (w->slot_count - 1);
		w->slots[at] = before[i];
	}
	free(before);
}

/* The block of times is full: it is written behind the series. */
static void end_time_block(struct metrics_part_writer *w)
{
	w->time_blocks = must_realloc(w->time_blocks,
				      (w->time_block_count + 1) * sizeof(w->time_blocks[0]));
	w->time_blocks[w->time_block_count++] = w->times;
	w->times = buf_init(PART_BLOCK_BYTES_MAX);
}

static errc add_chunk(struct metrics_part_writer *w, const time_ms *times, size_t count,
		      uint32_t *ret_chunk, struct err *e)
{
	if (w->chunk_count == w->chunk_room) {
		w->chunk_room = w->chunk_room ? w->chunk_room * 2 : 64;
		w->chunks = must_realloc(w->chunks, w->chunk_room * sizeof(w->chunks[0]));
	}
	if (w->times.len >= TIME_BLOCK_BYTES)
		end_time_block(w);
	struct time_chunk *c = &w->chunks[w->chunk_count];
	*c = (struct time_chunk){ .first = times[0],
				  .last = times[count - 1],
				  .block = w->time_block_count,
				  .offset = (uint32_t)w->times.len,
				  .count = (uint32_t)count };
	/* few bytes, read often: not worth the slower coding */
	c->len = (uint32_t)time_vector_encode(times, count, w->level, w->scratch, &w->times);
	if (!c->len)
		FAIL(e, ERR_LIMIT, "a block of times is too large");
	*ret_chunk = (uint32_t)w->chunk_count++;
	return OK;
}

static errc chunk_of(struct metrics_part_writer *w, const time_ms *times, size_t count,
		     uint32_t *ret_chunk, struct err *e)
{
	XXH128_hash_t hash = XXH3_128bits(times, count * sizeof(times[0]));
	size_t at = hash.low64 & (w->slot_count - 1);
	for (; w->slots[at].chunk; at = (at + 1) & (w->slot_count - 1))
		if (XXH128_isEqual(w->slots[at].hash, hash) &&
		    w->chunks[w->slots[at].chunk - 1].count == count) {
			*ret_chunk = w->slots[at].chunk - 1;
			return OK;
		}
	TRY(add_chunk(w, times, count, ret_chunk, e));
	w->slots[at] = (struct time_slot){ hash, *ret_chunk + 1 };
	if (w->chunk_count * 2 > w->slot_count)
		grow_slots(w);
	return OK;
}

/* ---- Blocks of series: count, ids, offsets, records. */

static errc end_block(struct metrics_part_writer *w, struct err *e)
{
	uint32_t count = w->series_count, head[1 + 2 * DATA_SERIES_MAX];
	if (!count)
		return OK;
	uint32_t head_len = (uint32_t)((1 + 2 * (size_t)count) * sizeof(head[0]));
	head[0] = count;
	for (uint32_t i = 0; i < count; i++) {
		head[1 + i] = w->ids[i];
		head[1 + count + i] = head_len + w->offsets[i];
	}
	const str pieces[] = { { (const char *)head, head_len }, buf_str(&w->records) };
	TRY(part_writer_blockv(w->file, pieces, ARRAY_COUNT(pieces), NULL, e));
	if (w->block_count == w->block_room) {
		w->block_room = w->block_room ? w->block_room * 2 : 64;
		w->first_ids = must_realloc(w->first_ids, w->block_room * sizeof(w->first_ids[0]));
	}
	w->first_ids[w->block_count++] = w->ids[0];
	w->series_count = 0;
	buf_clear(&w->records);
	return OK;
}

/* What is in HEADS and VECTORS becomes a record of series ID. */
static errc end_record(struct metrics_part_writer *w, uint32_t id, size_t vector_count,
		       struct err *e)
{
	if (!vector_count)
		return OK;
	if (w->records.len + w->vectors.len > DATA_BLOCK_BYTES_MAX)
		TRY(end_block(w, e));
	w->ids[w->series_count] = id;
	w->offsets[w->series_count++] = (uint32_t)w->records.len;
	buf_add_varint(&w->records, vector_count);
	buf_add(&w->records, buf_str(&w->heads));
	buf_add(&w->records, buf_str(&w->vectors));
	buf_clear(&w->heads);
	buf_clear(&w->vectors);
	TRY(buf_check(&w->records, "a block of samples", e));
	return w->records.len >= DATA_BLOCK_BYTES || w->series_count == DATA_SERIES_MAX
		       ? end_block(w, e)
		       : OK;
}

static void note_times(struct metrics_part_writer *w, const time_ms *times, size_t count)
{
	w->meta.min_time = times[0] < w->meta.min_time ? times[0] : w->meta.min_time;
	w->meta.max_time = times[count - 1] > w->meta.max_time ? times[count - 1]
							       : w->meta.max_time;
	w->meta.sample_count += count;
}

static errc add_histograms(struct metrics_part_writer *w, const struct histogram *const *items,
			   size_t count, struct err *e)
{
	buf_clear(&w->blob);
	for (size_t i = 0; i < count; i++) {
		size_t before = w->blob.len;
		histogram_encode(items[i], &w->blob);
		TRY(buf_check(&w->blob, "histograms", e));
		/* the length goes in front */
		uint8_t len[VARINT_BYTES_MAX];
		size_t n = varint_put(len, w->blob.len - before);
		char *room = buf_reserve(&w->blob, n);
		if (!room)
			FAIL(e, ERR_LIMIT, "histograms are too large");
		memmove(w->blob.ptr + before + n, w->blob.ptr + before, w->blob.len - before);
		memcpy(w->blob.ptr + before, len, n);
		w->blob.len += n;
	}
	size_t begin = w->vectors.len;
	bool packed = w->blob.len >= COMPRESS_MIN;
	buf_add_byte(&w->vectors, packed);
	if (packed)
		TRY(compressor_compress(w->compressor, COMPRESS_ZSTD, w->meta.cold ? 3 : 1,
					buf_str(&w->blob), &w->vectors, e));
	else
		buf_add(&w->vectors, buf_str(&w->blob));
	buf_add_varint(&w->heads, w->vectors.len - begin);
	return buf_check(&w->vectors, "histograms", e);
}

static errc add_floats(struct metrics_part_writer *w, const double *values, size_t count,
		       struct err *e)
{
	size_t len = value_vector_encode(values, count, w->level, w->scratch, &w->vectors);
	if (!len)
		FAIL(e, ERR_LIMIT, "a vector of samples is too large");
	buf_add_varint(&w->heads, len);
	return OK;
}

/* How many from FIRST on are of one kind and fit a vector. */
static size_t run_length(const struct metrics_samples *s, size_t first)
{
	bool histogram = s->histograms && s->histograms[first];
	size_t most = histogram ? HISTOGRAM_VECTOR_MAX : VECTOR_LEN_MAX, n = 1;
	while (n < most && first + n < s->count &&
	       (!s->histograms || (s->histograms[first + n] != NULL) == histogram))
		n++;
	return n;
}

errc metrics_part_writer_add(struct metrics_part_writer *w, uint32_t id,
			     const struct metrics_samples *s, struct err *e)
{
	size_t vector_count = 0;
	if (!s->count)
		return OK;
	must(id > w->last_id);
	w->last_id = id;
	w->meta.series_count++;
	for (size_t first = 0, n; first < s->count; first += n) {
		uint32_t chunk;
		bool histogram = s->histograms && s->histograms[first];
		n = run_length(s, first);
		TRY(chunk_of(w, s->times + first, n, &chunk, e));
		buf_add_varint(&w->heads, (uint64_t)chunk << 1 | histogram);
		if (histogram)
			TRY(add_histograms(w, s->histograms + first, n, e));
		else
			TRY(add_floats(w, s->values + first, n, e));
		if (++vector_count == SERIES_VECTORS_MAX ||
		    w->vectors.len >= DATA_BLOCK_BYTES_MAX / 2) {
			TRY(end_record(w, id, vector_count, e));
			TRY(end_block(w, e));
			vector_count = 0;
		}
	}
	note_times(w, s->times, s->count);
	return end_record(w, id, vector_count, e);
}

errc metrics_part_writer_rollup(struct metrics_part_writer *w, uint32_t id, const time_ms *times,
				const double *const columns[static PART_COLUMNS_MAX], size_t count,
				struct err *e)
{
	size_t vector_count = 0;
	if (!count)
		return OK;
	must(id > w->last_id && count <= SERIES_VECTORS_MAX);
	w->last_id = id;
	w->meta.series_count++;
	for (size_t first = 0, n; first < count; first += n, vector_count++) {
		uint32_t chunk;
		n = count - first < VECTOR_LEN_MAX ? count - first : VECTOR_LEN_MAX;
		TRY(chunk_of(w, times + first, n, &chunk, e));
		buf_add_varint(&w->heads, (uint64_t)chunk << 1);
		for (size_t c = 0; c < PART_COLUMNS_MAX; c++)
			TRY(add_floats(w, columns[c] + first, n, e));
	}
	note_times(w, times, count);
	return end_record(w, id, vector_count, e);
}

/* ---- The end. */

static errc put_times(struct metrics_part_writer *w, struct err *e)
{
	if (w->times.len)
		end_time_block(w);
	for (uint32_t i = 0; i < w->time_block_count; i++)
		TRY(part_writer_block(w->file, buf_str(&w->time_blocks[i]), NULL, e));
	return OK;
}

/* First ids of the blocks, then the chunks. */
static errc put_directory(struct metrics_part_writer *w, struct err *e)
{
	struct buf b CLEANUP(buf_done) = buf_init(DIRECTORY_BYTES_MAX);
	uint32_t before_id = 0, before_block = 0;
	time_ms before = 0;
	for (size_t i = 0; i < w->block_count; i++) {
		buf_add_varint(&b, w->first_ids[i] - before_id);
		before_id = w->first_ids[i];
	}
	for (size_t i = 0; i < w->chunk_count; i++) {
		const struct time_chunk *c = &w->chunks[i];
		buf_add_varint(&b, c->block - before_block);
		buf_add_varint(&b, c->count);
		buf_add_zigzag(&b, (int64_t)((uint64_t)c->first - (uint64_t)before));
		buf_add_varint(&b, (uint64_t)c->last - (uint64_t)c->first);
		buf_add_varint(&b, c->len);
		before = c->first;
		before_block = c->block;
	}
	TRY(buf_check(&b, "the directory of a part", e));
	return part_writer_block(w->file, buf_str(&b), NULL, e);
}

static void put_meta(const struct metrics_part_writer *w, struct buf *into)
{
	const struct metrics_part_meta *m = &w->meta;
	const uint64_t numbers[] = { (uint64_t)m->resolution,
				     m->day,
				     m->retention_class,
				     m->first_write,
				     m->last_write,
				     m->purged,
				     m->sample_count,
				     m->series_count,
				     m->cold,
				     w->block_count,
				     w->time_block_count,
				     w->chunk_count };
	for (size_t i = 0; i < ARRAY_COUNT(numbers); i++)
		buf_add_varint(into, numbers[i]);
	buf_add_zigzag(into, m->min_time);
	buf_add_zigzag(into, m->max_time);
}

errc metrics_part_writer_finish(struct metrics_part_writer *w, struct metrics_part_meta *ret_meta,
				uint64_t *ret_bytes, struct err *e)
{
	struct buf meta CLEANUP(buf_done) = buf_init(4096);
	if (!w->meta.sample_count) /* a rollup of histograms only: it expires with its day */
		w->meta.min_time = w->meta.max_time = (time_ms)w->meta.day * 86400000;
	TRY(end_block(w, e));
	TRY(put_times(w, e));
	TRY(put_directory(w, e));
	put_meta(w, &meta);
	TRY(buf_check(&meta, "the meta of a part", e));
	TRY(part_writer_finish(w->file, buf_str(&meta), ret_bytes, e));
	*ret_meta = w->meta;
	return OK;
}
