/*
 * index_segment: which series a day has: their labels, and postings by label, on disk. A day may
 * have several; a merge makes them one.
 *
 * Shape: a file of store/part_file.h; docs/format/metrics.md. Series are numbered by their place in
 *   the order of labels; postings hold those places.
 * Threads: an open segment from any, each with a reference.
 */
#pragma once

#include "metrics/index_match.h"
#include "store/part_file.h"

struct index_entry {
	uint32_t id;
	str key; /* series_key.h */
};

/* Write COUNT ≥ 1 entries, which are sorted here by labels, then ids; an entry that is there twice
 * is written once. Durable: when OK. */
WARN_UNUSED errc index_segment_write(const char *folder, const char *name, uint32_t day,
				     struct index_entry *entries, size_t count, uint64_t *ret_bytes,
				     struct err *e);

struct index_segment;

WARN_UNUSED errc index_segment_open(const char *folder, const char *name,
				    struct quarantine *quarantine,
				    struct index_segment **ret_segment, struct err *e);
struct index_segment *index_segment_ref(struct index_segment *s);
/* Accepts NULL. */
void index_segment_unref(struct index_segment *s);
uint32_t index_segment_day(const struct index_segment *s);
size_t index_segment_count(const struct index_segment *s);
struct part_file *index_segment_file(const struct index_segment *s);
size_t index_segment_memory_bytes(const struct index_segment *s);
/* Some block of it was found bad. */
bool index_segment_is_damaged(const struct index_segment *s);

/* What index_match() looks into. What is bad on disk is passed over. */
struct index_source index_segment_source(struct index_segment *s);
/* An id of the series with exactly this key; 0 when it has none. */
uint32_t index_segment_find(struct index_segment *s, str key);
/* Append the key of series ID to INTO; false when it is not there or cannot be read. */
bool index_segment_key(struct index_segment *s, uint32_t id, struct buf *into);
/* Every entry, by labels; the key is valid during the call. Errors: what SEE gives. */
WARN_UNUSED errc index_segment_each(struct index_segment *s,
				    errc (*see)(void *ctx, uint32_t id, str key, struct err *e),
				    void *ctx, struct err *e);
/* Every value of the label NAME (NAME empty: every name instead), in order. */
WARN_UNUSED errc index_segment_values(struct index_segment *s, str name,
				      errc (*see)(void *ctx, str value, uint64_t series_count,
						  struct err *e),
				      void *ctx, struct err *e);
