/*
 * metadata_store: type, help and unit of each metric family; the last written wins.
 *
 * Limits: METADATA_COUNT_MAX families, METADATA_TEXT_MAX bytes a text (cut); past the first, new
 *   ones are not taken.
 * Threads: none of its own.
 */
#pragma once

#include "codec/varint.h"
#include "metrics/metrics.h"

enum { METADATA_COUNT_MAX = 100000, METADATA_TEXT_MAX = 4096 };

struct metadata_store {
	struct metrics_metadata *items; /* by name; the strings of each in one allocation */
	size_t count, room;
	bool changed;
};

void metadata_store_done(struct metadata_store *s);
void metadata_store_put(struct metadata_store *s, const struct metrics_metadata *metadata);
/* As it stands in the log and on disk. */
void metadata_add_bytes(struct buf *into, const struct metrics_metadata *metadata);
/* False at the end and when what is left is malformed (then r->failed). */
bool metadata_read_bytes(struct reader *r, struct metadata_store *s);
