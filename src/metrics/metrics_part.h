/*
 * metrics_part: samples on disk: of one day, one resolution and one retention class, series by
 * ascending id, each with vectors of up to VECTOR_LEN_MAX samples. Timestamps that several series
 * share stand there once.
 *
 * Shape: a file of store/part_file.h; docs/format/metrics.md. A vector holds floats or histograms.
 *   A rollup has a column each for last, min, max, sum and count.
 * Limits: a series may stand in several blocks, one after another.
 * Threads: a writer belongs to one; an open part to any, each with a reference.
 */
#pragma once

#include "codec/vector.h"
#include "metrics/id_set.h"
#include "metrics/metrics.h"
#include "store/part_file.h"

enum { PART_COLUMNS_MAX = 5 }; /* in the order of enum metrics_rollup */

/* What a part is; stands in its META. */
struct metrics_part_meta {
	enum metrics_resolution resolution;
	uint32_t day;                     /* of all its samples */
	uint32_t retention_class;         /* retention.h */
	uint64_t first_write, last_write; /* numbers of the flushes that are in it */
	uint64_t purged;                  /* tombstones up to this number were applied */
	uint64_t sample_count, series_count;
	time_ms min_time, max_time;
	bool cold; /* entropy-coded where that is smaller */
};

/* ---- Writing. */

struct metrics_part_writer;

/* META: everything but the counts and times, which are found out. */
WARN_UNUSED errc metrics_part_writer_new(const char *folder, const char *name,
					 const struct metrics_part_meta *meta,
					 struct metrics_part_writer **ret, struct err *e);
/* Removes what was not finished. Accepts NULL. */
void metrics_part_writer_free(struct metrics_part_writer *w);
/* All samples of series ID, ascending and distinct by time; ids ascend from call to call. */
WARN_UNUSED errc metrics_part_writer_add(struct metrics_part_writer *w, uint32_t id,
					 const struct metrics_samples *samples, struct err *e);
/* The same for a rollup: COLUMNS by enum metrics_rollup. */
WARN_UNUSED errc metrics_part_writer_rollup(struct metrics_part_writer *w, uint32_t id,
					    const time_ms *times,
					    const double *const columns[static PART_COLUMNS_MAX],
					    size_t count, struct err *e);
/* Whole and durable when OK. RET_BYTES: size of the file. */
WARN_UNUSED errc metrics_part_writer_finish(struct metrics_part_writer *w,
					    struct metrics_part_meta *ret_meta, uint64_t *ret_bytes,
					    struct err *e);
/* The file's name. */
const char *metrics_part_writer_name(const struct metrics_part_writer *w);
uint64_t metrics_part_writer_samples(const struct metrics_part_writer *w);

/* ---- Reading. */

struct metrics_part;

WARN_UNUSED errc metrics_part_open(const char *folder, const char *name,
				   struct quarantine *quarantine, struct metrics_part **ret_part,
				   struct err *e);
struct metrics_part *metrics_part_ref(struct metrics_part *p);
/* Accepts NULL. */
void metrics_part_unref(struct metrics_part *p);
const struct metrics_part_meta *metrics_part_meta(const struct metrics_part *p);
struct part_file *metrics_part_file(const struct metrics_part *p);
size_t metrics_part_memory_bytes(const struct metrics_part *p);
/* Some of it could not be read: it must not be replaced by what could. */
bool metrics_part_is_damaged(const struct metrics_part *p);
void metrics_part_set_damaged(struct metrics_part *p);

/*
 * Append the samples of series ID in [from, to] to INTO, ascending among themselves; nothing when
 * it has none. RESOLUTION other than raw: ROLLUP says which column. *RET_BAD counts blocks that
 * were left out because they are bad. Errors: ERR_LIMIT of INTO's memory.
 */
WARN_UNUSED errc metrics_part_read(struct metrics_part *p, uint32_t id, time_ms from, time_ms to,
				   enum metrics_rollup rollup, struct metrics_samples *into,
				   uint64_t *ret_bad, struct err *e);
/* Walks through a raw part series by series, from the file and not through the mapping: for
 * merges. Owns: end with metrics_part_cursor_free(), before the part. */
struct metrics_part_cursor;
struct metrics_part_cursor *metrics_part_cursor_new(struct metrics_part *p);
void metrics_part_cursor_free(struct metrics_part_cursor *c);
/* The id of the next series, 0 at the end. Bad blocks are passed over and counted in *RET_BAD. */
WARN_UNUSED errc metrics_part_cursor_next(struct metrics_part_cursor *c, uint32_t *ret_id,
					  uint64_t *ret_bad, struct err *e);
/* Append all samples of that series to INTO. */
WARN_UNUSED errc metrics_part_cursor_read(struct metrics_part_cursor *c,
					  struct metrics_samples *into, uint64_t *ret_bad,
					  struct err *e);
/* Append the ids of all its series to INTO, ascending. */
void metrics_part_ids(struct metrics_part *p, struct id_set *into);
