/*
 * metrics_internal: the engine behind metrics.h.
 *
 * Locks, in the order they are taken: `index` (labels and postings of the live series), `state`
 * (heads, chains, the view, what is in a series' slot). Both are held for microseconds; files are
 * read and written under neither. What only metrics_tick() and its like touch is under `work`,
 * which comes before both.
 */
#pragma once

#include <pthread.h>

#include "metrics/exemplar_store.h"
#include "metrics/head.h"
#include "metrics/metadata_store.h"
#include "metrics/metrics.h"
#include "metrics/view.h"
#include "store/budget.h"
#include "store/disk_watch.h"
#include "store/store_manifest.h"
#include "store/wal.h"

#define METRICS_ENGINE "metrics"

enum {
	DAY_MS = 86400000,
	METRICS_RETENTIONS_MAX = 200,
	SOURCE_NAME_MAX = 200,
};

/* Of series.indexed_day: the index of that day is gone; which have it has to be looked up. */
#define INDEXED_UNKNOWN UINT32_MAX

/* Who sends; series are counted by it. */
struct source {
	char *name;
	uint64_t hash, series_count;
};

struct metrics_counters {
	uint64_t created, refused, samples, old, future, flushes, merges, commit_refused,
		bad_blocks;
	uint64_t unresolved; /* samples of the log whose series are not known any more */
};

struct flush;
struct merge;

struct metrics {
	struct metrics_options options; /* defaults filled in */
	char *folder, *parts_folder, *log_folder;
	int lock_fd;

	pthread_rwlock_t index;
	struct series_table table;
	struct source *sources;
	size_t source_count, source_room;
	size_t unranked_count; /* made since the last ranking; atomic */
	size_t table_charged;
	size_t pinned_count; /* commits under way, whose series must stay; atomic */

	pthread_mutex_t state;
	pthread_cond_t applied;     /* applied_next moved on */
	uint64_t applied_next;      /* the group of the log that is applied next */
	size_t applying_count;      /* who waits for it */
	struct head *head, *frozen; /* frozen: being flushed, else NULL */
	size_t head_charged, parts_charged;
	struct view *view;
	struct part_file *side; /* metadata and exemplars as the manifest has them; or NULL */
	uint64_t *logged;       /* one bit an id: its labels are in the log or an index; atomic */
	struct exemplar_store exemplars;
	struct metadata_store metadata;
	struct metrics_counters counters; /* atomic */

	pthread_mutex_t work;
	struct flush *flush;
	struct merge *merge;
	struct store_manifest *manifest;
	uint64_t next_file, next_write, next_tombstone;
	bool flush_wanted;     /* atomic: memory or log are short */
	uint64_t log_position; /* what the manifest says */
	time_ms disk_looked_at, dropped_at, retention_at;

	struct wal *wal;
	struct quarantine *quarantine;
	struct disk_watch disk;
	struct budget budget, budget_head, budget_index, budget_queries;
	struct matcher *retention_matchers; /* owned copies */
	struct arena config;
};

static inline void count_up(uint64_t *counter, uint64_t by)
{
	__atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

static inline time_ms engine_now(const struct metrics *m)
{
	return m->options.now();
}

static inline uint32_t day_of(time_ms t)
{
	return t < 0 ? 0 : t / DAY_MS > UINT32_MAX ? UINT32_MAX : (uint32_t)(t / DAY_MS);
}

/* ---- log_records.c: what a batch is in the log. */

enum log_record_type {
	LOG_SERIES = 1,
	LOG_SAMPLES,
	LOG_HISTOGRAMS,
	LOG_EXEMPLARS,
	LOG_METADATA,
};

void log_add_series(struct buf *into, uint32_t id, str key);
void log_add_samples(struct buf *into, const uint32_t *ids, const time_ms *times,
		     const double *values, size_t count);
void log_add_histogram(struct buf *into, uint32_t id, time_ms time, const struct histogram *h);
/* The histograms in BYTES into the head. Holds: state. */
WARN_UNUSED errc log_apply_histograms(struct metrics *m, str bytes, struct err *e);
/* Into the head, the table, the stores. Holds: state; LOG_SERIES: index too (at open only).
 * Errors: ERR_CORRUPT when the bytes make no sense. */
WARN_UNUSED errc log_apply(struct metrics *m, const struct wal_record *record, struct err *e);
/* The same for samples that were never bytes. */
void log_apply_samples(struct metrics *m, const uint32_t *ids, const time_ms *times,
		       const double *values, size_t count);

/* ---- recovery.c */

WARN_UNUSED errc recovery_run(struct metrics *m, struct err *e);

/* ---- flush.c, merge.c, retention.c: under `work`. Each does a slice until DEADLINE (monotonic).
 */

WARN_UNUSED errc flush_slice(struct metrics *m, bool force, int64_t deadline, bool *ret_more,
			     struct err *e);
void flush_abort(struct metrics *m);
WARN_UNUSED errc merge_slice(struct metrics *m, bool everything, int64_t deadline, bool *ret_more,
			     struct err *e);
void merge_abort(struct metrics *m);
WARN_UNUSED errc retention_slice(struct metrics *m, bool *ret_more, struct err *e);
/* Drop series that nobody writes to. */
void series_drop_idle(struct metrics *m);

/* Rollups of a day whose raw samples are all there and merged; see rollup.c. */
WARN_UNUSED errc rollup_one(struct metrics *m, bool *ret_did, struct err *e);

/* ---- engine.c: what flushes and merges do at their end. Under `work`. */

/* Replace parts and segments of the view and make it durable. What is removed goes when its last
 * user leaves. LOG_POSITION 0 and SIDE NULL: as they are. On OK the new view is in force. */
struct view_change {
	struct metrics_part *const *parts_added, *const *parts_removed;
	size_t part_added_count, part_removed_count;
	struct index_segment *const *segments_added, *const *segments_removed;
	size_t segment_added_count, segment_removed_count;
	struct tombstone *tombstone_added; /* NULL: none */
	uint64_t tombstones_up_to;         /* those up to this number are dropped */
	struct part_file *side;
	uint64_t log_position;
	bool frozen_done; /* the frozen head is in the parts now */
};
WARN_UNUSED errc engine_commit(struct metrics *m, const struct view_change *change, struct err *e);
/* `s-0000000000000001.part`: a name that was never used. */
void engine_part_name(struct metrics *m, char kind, char name[static PART_NAME_MAX + 1]);
struct view *engine_view(struct metrics *m);
/* The key of series ID, live or of an index of V, into INTO; false when nobody knows it. */
bool engine_series_key(struct metrics *m, struct view *v, uint32_t id, struct buf *into);
/* Which retention class a series is in: 0 the default, else index + 1 into the options. */
uint32_t retention_class_of(const struct metrics *m, str key);
int64_t retention_ms_of(const struct metrics *m, enum metrics_resolution resolution,
			uint32_t retention_class);

static inline bool id_bit(const uint64_t *bits, uint64_t id)
{
	return __atomic_load_n(&bits[id >> 6], __ATOMIC_RELAXED) >> (id & 63) & 1;
}

/* ---- names.c */

WARN_UNUSED errc names_count_series(struct metrics *m, const struct matcher *matchers,
				    size_t matcher_count, time_ms from, time_ms to,
				    uint64_t *ret_count, struct err *e);

/* ---- side_file.c: metadata and exemplars on disk. */

/* Write what is there now into a new file; *RET_SIDE NULL when nothing changed since the last. */
WARN_UNUSED errc side_file_write(struct metrics *m, struct part_file **ret_side, struct err *e);
/* Into the stores; what is bad is passed over. */
void side_file_read(struct metrics *m, struct part_file *side);

/* Account for what changed; holds: index. */
void charge_index(struct metrics *m);
/* Holds: state. */
void charge_head(struct metrics *m);
