#include "metrics/head.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/samples.h"

enum { BLOB_BYTES_MIN = 64 * 1024 };

struct head *head_new(uint32_t generation, uint64_t position)
{
	struct head *h = must_calloc(1, sizeof(*h));
	*h = (struct head){ .refs = 1,
			    .generation = generation,
			    .position = position,
			    .min_time = INT64_MAX,
			    .max_time = INT64_MIN };
	h->chunks = must_calloc(HEAD_CHUNKS_MAX, sizeof(struct head_chunk *));
	return h;
}

struct head *head_ref(struct head *h)
{
	__atomic_fetch_add(&h->refs, 1, __ATOMIC_RELAXED);
	return h;
}

void head_unref(struct head *h)
{
	if (!h || __atomic_sub_fetch(&h->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	for (size_t i = 0; i < HEAD_CHUNKS_MAX && h->chunks[i]; i++)
		free(h->chunks[i]);
	while (h->blobs) {
		struct head_blob *next = h->blobs->next;
		free(h->blobs);
		h->blobs = next;
	}
	free(h->chunks);
	id_set_done(&h->touched);
	free(h);
}

bool head_has_room(const struct head *h, size_t count)
{
	return (uint64_t)h->count + count <= (uint64_t)HEAD_CHUNKS_MAX << HEAD_CHUNK_BITS;
}

size_t head_growth(const struct head *h, size_t count)
{
	size_t chunks = (h->count + HEAD_CHUNK_COUNT - 1) >> HEAD_CHUNK_BITS;
	size_t after = (h->count + count + HEAD_CHUNK_COUNT - 1) >> HEAD_CHUNK_BITS;
	return (after - chunks) * sizeof(struct head_chunk);
}

static void *blob_alloc(struct head *h, size_t size)
{
	size = (size + 15) & ~(size_t)15;
	if (!h->blobs || h->blobs->size < size) {
		size_t room = size > BLOB_BYTES_MIN ? size : BLOB_BYTES_MIN;
		struct head_blob *blob = must_realloc(NULL, sizeof(*blob) + room);
		blob->size = room;
		blob->next = h->blobs;
		h->blobs = blob;
		h->bytes += sizeof(*blob) + room;
	}
	h->blobs->size -= size; /* given out from the end */
	return h->blobs->bytes + h->blobs->size;
}

static void new_chunk(struct head *h, time_ms base)
{
	struct head_chunk *c = must_realloc(NULL, sizeof(*c));
	c->base = base;
	h->chunks[h->count >> HEAD_CHUNK_BITS] = c;
	h->bytes += sizeof(*c);
}

/* The place of a further sample of S, with everything but the value. */
static inline struct head_entry *next_entry(struct head *h, struct series *s, time_ms time,
					    uint32_t flag)
{
	struct series_chain *chain = &s->chain[h->generation & 1];
	uint8_t disorder = h->generation & 1 ? SERIES_OUT_OF_ORDER_ODD : SERIES_OUT_OF_ORDER_EVEN;
	uint32_t index = h->count;
	if (__builtin_expect(chain->generation != h->generation, 0)) {
		*chain = (struct series_chain){ .generation = h->generation };
		s->flags &= (uint8_t)~disorder;
		if (h->touched.count == h->touched.room)
			id_set_reserve(&h->touched, 1024);
		h->touched.ids[h->touched.count++] = s->id;
	} else if (__builtin_expect(time <= s->last_time, 0)) {
		s->flags |= disorder;
	}
	if (__builtin_expect((index & (HEAD_CHUNK_COUNT - 1)) == 0, 0))
		new_chunk(h, time);
	struct head_chunk *c = h->chunks[index >> HEAD_CHUNK_BITS];
	struct head_entry *entry = &c->entries[index & (HEAD_CHUNK_COUNT - 1)];
	int64_t offset = (int64_t)((uint64_t)time - (uint64_t)c->base);
	entry->previous = chain->last | flag;
	chain->last = h->count = index + 1;
	h->min_time = time < h->min_time ? time : h->min_time;
	h->max_time = time > h->max_time ? time : h->max_time;
	if (time > s->last_time)
		s->last_time = time;
	if (__builtin_expect(offset > INT32_MAX || offset <= INT32_MIN, 0)) {
		struct head_far *far = blob_alloc(h, sizeof(*far));
		far->time = time;
		entry->offset = INT32_MIN;
		entry->pointer = far;
		return &far->entry;
	}
	entry->offset = (int32_t)offset;
	return entry;
}

void head_append(struct head *h, struct series *s, time_ms time, double value)
{
	next_entry(h, s, time, 0)->value = value;
}

void head_append_histogram(struct head *h, struct series *s, time_ms time, str blob)
{
	uint32_t len = (uint32_t)blob.len;
	uint8_t *copy = blob_alloc(h, sizeof(len) + blob.len);
	memcpy(copy, &len, sizeof(len));
	memcpy(copy + sizeof(len), blob.ptr, blob.len);
	next_entry(h, s, time, HEAD_HISTOGRAM)->pointer = copy;
}

static errc push_entry(const struct head_entry *entry, uint32_t previous, time_ms time,
		       struct metrics_samples *into, struct err *e)
{
	if (!(previous & HEAD_HISTOGRAM)) {
		samples_push(into, time, entry->value);
		return OK;
	}
	uint32_t len;
	const uint8_t *blob = entry->pointer;
	memcpy(&len, blob, sizeof(len));
	return samples_push_histogram(into, time, (str){ (const char *)blob + sizeof(len), len },
				      e);
}

static void reverse(struct metrics_samples *s, size_t first)
{
	for (size_t i = first, k = s->count; i + 1 < k; i++) {
		k--;
		time_ms time = s->times[i];
		double value = s->values[i];
		s->times[i] = s->times[k];
		s->values[i] = s->values[k];
		s->times[k] = time;
		s->values[k] = value;
		if (s->histograms) {
			const struct histogram *h = s->histograms[i];
			s->histograms[i] = s->histograms[k];
			s->histograms[k] = h;
		}
	}
}

errc head_read(const struct head *h, uint32_t last, bool in_order, time_ms from, time_ms to,
	       struct metrics_samples *into, struct err *e)
{
	size_t first = into->count;
	while (last & ~HEAD_HISTOGRAM) {
		uint32_t index = (last & ~HEAD_HISTOGRAM) - 1;
		const struct head_chunk *c = h->chunks[index >> HEAD_CHUNK_BITS];
		const struct head_entry *entry = &c->entries[index & (HEAD_CHUNK_COUNT - 1)];
		uint32_t previous = entry->previous;
		time_ms time = (time_ms)((uint64_t)c->base + (uint64_t)(int64_t)entry->offset);
		if (__builtin_expect(entry->offset == INT32_MIN, 0)) {
			const struct head_far *far = entry->pointer;
			time = far->time;
			entry = &far->entry;
		}
		last = previous & ~HEAD_HISTOGRAM;
		if (in_order && time < from)
			break;
		if (time >= from && time <= to)
			TRY(push_entry(entry, previous, time, into, e));
	}
	reverse(into, first);
	samples_order(into, first);
	return OK;
}
