/*
 * exemplar_store: the newest exemplars of each series, bounded in number and bytes.
 *
 * Limits: EXEMPLARS_PER_SERIES a series, EXEMPLARS_COUNT_MAX in all, EXEMPLAR_LABEL_BYTES_MAX of
 *   labels each; past the second the oldest written goes.
 * Threads: none of its own.
 */
#pragma once

#include "base/buf.h"
#include "codec/varint.h"
#include "metrics/id_set.h"
#include "metrics/metrics.h"

enum {
	EXEMPLARS_PER_SERIES = 10,
	EXEMPLARS_COUNT_MAX = 100000,
	EXEMPLAR_LABEL_BYTES_MAX = 4096,
};

struct stored_exemplar {
	uint32_t id;    /* of the series; 0: empty */
	uint32_t older; /* index + 1 of the series' one before; an overwritten one ends the list */
	uint64_t serial;
	time_ms time;
	double value;
	uint8_t *key; /* 4 bytes of length, then series_key of its labels */
};

struct exemplar_last {
	uint32_t id, last; /* index + 1; id 0: empty */
};

struct exemplar_store {
	struct stored_exemplar *ring;
	size_t room;
	uint64_t serial;
	struct exemplar_last *lasts; /* open addressing by id */
	size_t last_slots, last_count;
	bool changed;
};

void exemplar_store_done(struct exemplar_store *s);
/* KEY: series_key of the exemplar's labels. One that is the newest already is left out. */
void exemplar_store_add(struct exemplar_store *s, uint32_t id, time_ms time, double value, str key);
/* Those of series ID in [from, to], newest first, at most EXEMPLARS_PER_SERIES; how many. */
size_t exemplar_store_get(const struct exemplar_store *s, uint32_t id, time_ms from, time_ms to,
			  const struct stored_exemplar *ret[static EXEMPLARS_PER_SERIES]);
/* One as bytes, as it stands in the log and on disk; and back. False at the end and when what is
 * left is malformed (then r->failed). */
void exemplar_add_bytes(struct buf *into, uint32_t id, time_ms time, double value, str key);
bool exemplar_read_bytes(struct reader *r, struct exemplar_store *s);
/* All, oldest first. */
void exemplar_store_write(const struct exemplar_store *s, struct buf *into);
