/*
 * tombstone: a deletion that hides samples at once, until merges have purged them from the parts
 * that were there when it was made.
 *
 * Threads: never changes; references are atomic.
 */
#pragma once

#include "codec/varint.h"
#include "metrics/metrics.h"

enum { TOMBSTONES_MAX = 1000, TOMBSTONE_MATCHERS_MAX = 64 };

struct tombstone {
	size_t refs;     /* atomic */
	uint64_t number; /* from 1, ascending */
	uint64_t write;  /* what flushes up to this number wrote is hidden; later samples are not */
	time_ms from, to;         /* both inclusive */
	struct matcher *matchers; /* compiled */
	size_t matcher_count;
	struct arena arena;
};

/* MATCHERS are copied. Errors: those of matcher_compile(). */
WARN_UNUSED errc tombstone_new(uint64_t number, uint64_t write, time_ms from, time_ms to,
			       const struct matcher *matchers, size_t count, struct tombstone **ret,
			       struct err *e);
struct tombstone *tombstone_ref(struct tombstone *t);
/* Accepts NULL. */
void tombstone_unref(struct tombstone *t);
/* Whether it selects the series of KEY (series_key.h). An expression that takes too many steps
 * selects nothing. */
bool tombstone_selects(const struct tombstone *t, str key);
/* Take the hidden samples out of what stands in S from FIRST on. */
void tombstone_apply(const struct tombstone *t, struct metrics_samples *s, size_t first);

/* As it stands in the manifest. */
void tombstone_write(const struct tombstone *t, struct buf *into);
/* Errors: ERR_CORRUPT. */
WARN_UNUSED errc tombstone_read(struct reader *r, struct tombstone **ret, struct err *e);
