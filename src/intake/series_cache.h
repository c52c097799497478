/*
 * series_cache: hash of a series as it was sent -> its reference in the engine, so that a known
 * series costs neither parsing nor sorting its labels.
 *
 * Shape: buckets of 128 bytes with five entries, two buckets for each hash; doubled while it may,
 *   then the entries not used lately make room. A hash is 128 bits under a secret of the process,
 *   so that two series are never one.
 * Limits: the size given; it grows only while the engine's budget allows.
 * Threads: any number between enter and leave; a lookup takes no lock.
 */
#pragma once

#include "metrics/metrics.h"

struct series_cache;

struct series_hash {
	uint64_t low, high;
};

struct series_cache *series_cache_new(struct metrics *m, size_t bytes_max);
void series_cache_free(struct series_cache *c);
/* Before and after a run of lookups, of one body. Enter grows the cache when that is due. */
void series_cache_enter(struct series_cache *c);
void series_cache_leave(struct series_cache *c);

/* What names a series, under the secret of this process. */
struct series_hash series_hash_of(const void *bytes, size_t len);
/* Have the buckets of HASH near when they are looked up, a little later. */
void series_cache_prefetch(const struct series_cache *c, struct series_hash hash);
/* 0: not known. */
metrics_ref series_cache_get(struct series_cache *c, struct series_hash hash);
void series_cache_put(struct series_cache *c, struct series_hash hash, metrics_ref ref);
size_t series_cache_count(const struct series_cache *c);
size_t series_cache_bytes(const struct series_cache *c);
