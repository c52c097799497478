/*
 * head: the newest samples, in memory until a flush makes a part of them. What is in it is in the
 * log.
 *
 * Shape: one append-only array of entries in the order written, each with the place of the one
 *   before of its series; so an append is one sequential store. Whoever knows a series' newest
 *   entry (struct series_chain) has its samples as they were then, for entries never change.
 * Threads: head_append() under the engine's state lock; reading what was there when the chain was
 *   taken under that lock needs none.
 */
#pragma once

#include "metrics/histogram.h"
#include "metrics/metrics.h"
#include "metrics/series_table.h"

enum {
	HEAD_CHUNK_BITS = 16,
	HEAD_CHUNK_COUNT = 1 << HEAD_CHUNK_BITS,
	HEAD_CHUNKS_MAX = 16384, /* 2^30 samples */
};
#define HEAD_HISTOGRAM (1U << 31)

struct head_entry {
	uint32_t previous; /* index + 1 of the one before of its series; HEAD_HISTOGRAM beside it */
	int32_t offset;    /* ms from the chunk's base; INT32_MIN: value points to a head_far */
	union {
		double value;
		uint64_t bits;
		void *pointer;
	};
};

/* A time more than 24 days from the base of its chunk. */
struct head_far {
	time_ms time;
	struct head_entry entry;
};

struct head_chunk {
	time_ms base;
	struct head_entry entries[HEAD_CHUNK_COUNT];
};

struct head_blob {
	struct head_blob *next;
	size_t size;
	_Alignas(16) uint8_t bytes[];
};

struct head {
	size_t refs;         /* atomic */
	uint32_t generation; /* from 1 */
	uint64_t position;   /* of the log where it begins */
	time_ms started_at;  /* its first append, by the engine's clock */
	time_ms min_time, max_time;
	struct head_chunk **chunks;
	uint32_t count;
	struct id_set touched; /* the series in it, in order of their first append */
	struct head_blob *blobs;
	size_t bytes;
};

struct head *head_new(uint32_t generation, uint64_t position);
struct head *head_ref(struct head *h);
void head_unref(struct head *h);
/* Bytes that COUNT more samples may add. */
size_t head_growth(const struct head *h, size_t count);
bool head_has_room(const struct head *h, size_t count);
void head_append(struct head *h, struct series *s, time_ms time, double value);
/* BLOB as histogram_encode() made it; copied. */
void head_append_histogram(struct head *h, struct series *s, time_ms time, str blob);
/* The samples in [from, to] behind LAST, added to INTO with ascending times, of equal times the
 * last written. IN_ORDER: the chain's times never go back. */
errc head_read(const struct head *h, uint32_t last, bool in_order, time_ms from, time_ms to,
	       struct metrics_samples *into, struct err *e);
/* The chain of S in H; 0 when it has none. Holds: state. */
static inline uint32_t head_chain(const struct head *h, const struct series *s)
{
	const struct series_chain *chain = &s->chain[h->generation & 1];
	return chain->generation == h->generation ? chain->last : 0;
}
static inline bool head_in_order(const struct series *s, const struct head *h)
{
	return !(s->flags &
		 (h->generation & 1 ? SERIES_OUT_OF_ORDER_ODD : SERIES_OUT_OF_ORDER_EVEN));
}
