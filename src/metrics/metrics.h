/*
 * metrics: the time-series engine. Samples go in by batches, come out by selections; what was
 * acknowledged survives kill -9.
 *
 * Uses codec, store; knows nothing of queries, intake or HTTP.
 * Units: time_ms since 1970.
 * Threads: every function from any thread unless it says otherwise. The engine owns no thread:
 *   metrics_tick() does the flushing, merging and retention that is due, and who opened the engine
 *   calls it about once a second from one thread of its own (tests call it when they like).
 * Durable: metrics_batch_commit() returns after write(2) to the log (survives kill -9);
 *   metrics_sync() makes it survive a power cut, and is due at most 200 ms later; with
 * `sync_always` every commit waits for it (one fsync for all that wait). Rule for duplicates: of
 * two samples of one series at one time the last written wins.
 */
#pragma once

#include "base/units.h"
#include "metrics/histogram.h"
#include "metrics/labels.h"
#include "metrics/matcher.h"

struct metrics;

/* What Prometheus writes when a series has ended; a NaN like no computation gives. */
#define METRICS_STALE_BITS 0x7ff0000000000002ULL
static inline bool metrics_is_stale(double v)
{
	union {
		double d;
		uint64_t u;
	} bits = { v };
	return bits.u == METRICS_STALE_BITS;
}

struct metrics_retention {
	const struct matcher *matchers; /* compiled; all must match */
	size_t matcher_count;
	int64_t retention_ms;
};

struct metrics_options {
	const char *folder; /* made when missing; mode 0700 */
	/* 0 takes the default in brackets */
	int64_t retention_ms;           /* [31 days] raw samples */
	int64_t rollup_5m_retention_ms; /* [186 days] */
	int64_t rollup_1h_retention_ms; /* [5 years] */
	const struct metrics_retention
		*retentions; /* the first that matches counts, else the above */
	size_t retention_count;
	int64_t future_ms_max;      /* [10 min] samples later than that after now are refused */
	size_t memory_bytes_max;    /* [25 % of the machine] head, index, caches, queries */
	size_t query_bytes_max;     /* [a quarter of memory_bytes_max] of one query */
	uint64_t series_count_max;  /* [4,000,000] active at once */
	int64_t disk_reserve_bytes; /* [5 % of the disk, at most 2 GiB] read-only below this */
	bool sync_always;
	time_ms (*now)(void); /* [clock_now] */
};

/* Recover what the log holds. Errors: ERR_CORRUPT for what cannot be read at all (a bad block is
 * quarantined instead, see metrics_health()); ERR_BUSY when another process has the folder. */
WARN_UNUSED errc metrics_open(const struct metrics_options *options, struct metrics **ret_metrics,
			      struct err *e);
/* Flushes nothing: the log is enough. Accepts NULL. */
void metrics_close(struct metrics *m);
/* Due work, in slices of at most about 100 ms. ret_more: call again at once, there is more. */
WARN_UNUSED errc metrics_tick(struct metrics *m, bool *ret_more, struct err *e);
/* Everything in the head into a part, and with MERGE all parts as compact as they get. Slow. */
WARN_UNUSED errc metrics_flush(struct metrics *m, bool merge, struct err *e);
/* What is written is on the disk when it returns. */
WARN_UNUSED errc metrics_sync(struct metrics *m, struct err *e);

/* ---- In. A batch belongs to one thread; all of it is in the log, or nothing. */

/* A series as this process knows it. Valid until: metrics_close(), but a series may have been
 * dropped meanwhile (retention): then metrics_batch_sample() says false and who cached the
 * reference asks by labels again. 0 is none. */
typedef uint64_t metrics_ref;

struct metrics_batch;

enum metrics_type {
	METRICS_TYPE_UNKNOWN,
	METRICS_TYPE_COUNTER,
	METRICS_TYPE_GAUGE,
	METRICS_TYPE_HISTOGRAM,
	METRICS_TYPE_GAUGE_HISTOGRAM,
	METRICS_TYPE_SUMMARY,
	METRICS_TYPE_INFO,
	METRICS_TYPE_STATESET,
};
/* `counter`, … as the API and the text formats spell it. */
const char *metrics_type_name(enum metrics_type type);
/* METRICS_TYPE_UNKNOWN for what is none. */
enum metrics_type metrics_type_of_name(str name);

struct metrics_exemplar {
	struct labels labels;
	time_ms time;
	double value;
};

struct metrics_metadata {
	str name; /* of the metric family */
	enum metrics_type type;
	str help, unit;
};

/* SOURCE names who sends (`scrape:api`, `write:10.0.0.1`): series limits are counted by it. Reuse a
 * batch: commit and abort empty it. Owns: end with metrics_batch_free(). */
struct metrics_batch *metrics_batch_new(struct metrics *m, str source, uint64_t series_count_max);
void metrics_batch_free(struct metrics_batch *b);
/* The reference of a series, made when it is new. Cost: one hash lookup. Errors: ERR_BUSY naming
 * the limit when the source or the engine has too many series: skip the series, go on. */
WARN_UNUSED errc metrics_batch_series(struct metrics_batch *b, const struct labels *labels,
				      metrics_ref *ret_ref, struct err *e);
/* False when the reference is no longer known: look it up again. A sample too old (before the
 * retention) or too far in the future is left out and counted. Cost: a store into a buffer. */
bool metrics_batch_sample(struct metrics_batch *b, metrics_ref ref, time_ms time, double value);
/* As above, for a histogram that histogram_check() accepts. */
bool metrics_batch_histogram(struct metrics_batch *b, metrics_ref ref, time_ms time,
			     const struct histogram *histogram);
/* The time from which a cumulative series counts: checked like a sample's; parts have no place for
 * it yet. */
bool metrics_batch_start_time(struct metrics_batch *b, metrics_ref ref, time_ms time);
bool metrics_batch_exemplar(struct metrics_batch *b, metrics_ref ref,
			    const struct metrics_exemplar *exemplar);
void metrics_batch_metadata(struct metrics_batch *b, const struct metrics_metadata *metadata);

struct metrics_batch_result {
	uint64_t sample_count, histogram_count, exemplar_count; /* taken */
	uint64_t too_old_count, too_new_count; /* left out, the first named in refusal */
	char refusal[512]; /* "": nothing was left out; else for a person, with the series */
};

/* Write the batch to the log and into the head. Errors: ERR_BUSY past the memory budget (nothing
 * was taken, try again later), ERR_UNAVAILABLE while the disk is nearly full, ERR_IO. Left-out
 * samples are no error: the caller decides (400). */
WARN_UNUSED errc metrics_batch_commit(struct metrics_batch *b, struct metrics_batch_result *ret,
				      struct err *e);
void metrics_batch_abort(struct metrics_batch *b);

/* ---- Out. */

/* Memory and time of one query; filled by who runs it, charged by the engine and the evaluator. */
struct metrics_budget {
	size_t bytes_max;         /* 0: no limit of its own */
	uint64_t samples_max;     /* 0: none */
	int64_t deadline_mono_ms; /* 0: none */
	/* Whether who asked has left; now and then, from any thread. May be NULL. */
	bool (*cancelled)(void *ctx);
	void *cancelled_ctx;
	size_t bytes;     /* atomic */
	uint64_t samples; /* atomic: read so far */
};

/* Charge BYTES (negative gives back). Errors: ERR_FAILED (422) when the query is over its memory or
 * sample limit, ERR_TIMEOUT (503 in the API) past the deadline, ERR_CANCELLED, ERR_BUSY when all
 * queries together are over the engine's budget. Threads: any. */
WARN_UNUSED errc metrics_charge(struct metrics *m, struct metrics_budget *budget, int64_t bytes,
				struct err *e);
/* Count samples and look at the deadline and the cancellation. */
WARN_UNUSED errc metrics_charge_samples(struct metrics_budget *budget, uint64_t count,
					struct err *e);

enum metrics_resolution { METRICS_RAW, METRICS_5M, METRICS_1H };

/* Which of a rollup's columns to read as values. */
enum metrics_rollup { METRICS_LAST, METRICS_MIN, METRICS_MAX, METRICS_SUM, METRICS_COUNT };

struct metrics_query {
	const struct matcher *matchers; /* compiled; all must match */
	size_t matcher_count;
	time_ms from, to; /* both inclusive */
	/* With METRICS_RAW, where raw samples are gone already the rollup's `last` stands in. */
	enum metrics_resolution resolution;
	enum metrics_rollup rollup;
	size_t series_count_max; /* 0: none; ERR_FAILED past it */
	struct metrics_budget *budget;
};

/* A snapshot: the series that match and have samples in the range, sorted by labels, each set of
 * labels once; parts and head as they were. */
struct metrics_selection;

WARN_UNUSED errc metrics_select(struct metrics *m, const struct metrics_query *query,
				struct metrics_selection **ret_selection, struct err *e);
void metrics_selection_free(struct metrics_selection *s);
size_t metrics_selection_count(const struct metrics_selection *s);
/* Valid until: metrics_selection_free(). */
struct labels metrics_selection_labels(const struct metrics_selection *s, size_t index);

/* Decoded samples of one series, times strictly ascending. A series may change between floats and
 * histograms: where histograms is not NULL and histograms[i] is not, values[i] is meaningless. */
struct metrics_samples {
	time_ms *times;
	double *values;
	const struct histogram **histograms; /* NULL when the series has none in this range */
	size_t count, room;
	struct arena *arena; /* where histograms live; emptied by the next read */
	/* equal and not 0 in two reads of the same range: their times are the same array of values
	 */
	uint64_t times_key;
	void *scratch; /* of the decoder */
};

void metrics_samples_done(struct metrics_samples *s);
/* Replace INTO by the samples of series INDEX in [from, to] (within the query's range). INTO is
 * reused from one read to the next. Threads: any, each with its own INTO. Errors: ERR_FAILED,
 * ERR_TIMEOUT, ERR_CANCELLED as metrics_charge(). */
WARN_UNUSED errc metrics_selection_read(struct metrics_selection *s, size_t index, time_ms from,
					time_ms to, struct metrics_samples *into, struct err *e);
/* Blocks left out because their bytes are bad; a query that met some adds a warning. */
uint64_t metrics_selection_bad_blocks(const struct metrics_selection *s);

/* ---- The names there are. Results in ARENA, sorted, unique; LIMIT 0 is none. */

struct metrics_names {
	const str *items;
	size_t count;
	bool truncated; /* by the limit */
};

/* Label names of the series that match (all when MATCHER_SETS is 0: several sets are alternatives)
 * in the range, as far as days tell. */
struct metrics_matchers {
	const struct matcher *matchers;
	size_t count;
};
WARN_UNUSED errc metrics_label_names(struct metrics *m, const struct metrics_matchers *sets,
				     size_t set_count, time_ms from, time_ms to, size_t limit,
				     struct metrics_budget *budget, struct arena *arena,
				     struct metrics_names *ret, struct err *e);
WARN_UNUSED errc metrics_label_values(struct metrics *m, str name,
				      const struct metrics_matchers *sets, size_t set_count,
				      time_ms from, time_ms to, size_t limit,
				      struct metrics_budget *budget, struct arena *arena,
				      struct metrics_names *ret, struct err *e);
/* Series by labels alone, sorted, each once. */
WARN_UNUSED errc metrics_series(struct metrics *m, const struct metrics_matchers *sets,
				size_t set_count, time_ms from, time_ms to, size_t limit,
				struct metrics_budget *budget, struct arena *arena,
				struct labels **ret_series, size_t *ret_count, bool *ret_truncated,
				struct err *e);

struct metrics_exemplars {
	struct labels series;
	const struct metrics_exemplar *items; /* by time */
	size_t count;
};
WARN_UNUSED errc metrics_exemplars_query(struct metrics *m, const struct metrics_matchers *sets,
					 size_t set_count, time_ms from, time_ms to,
					 struct arena *arena, struct metrics_exemplars **ret,
					 size_t *ret_count, struct err *e);
/* NAME empty: all. Sorted by name. */
WARN_UNUSED errc metrics_metadata_list(struct metrics *m, str name, size_t limit,
				       struct arena *arena, struct metrics_metadata **ret,
				       size_t *ret_count, struct err *e);

/* ---- Keeping. */

/* Hide at once, and purge at the next merges, what the matchers select in [from, to]. Durable: when
 * OK. */
WARN_UNUSED errc metrics_delete(struct metrics *m, const struct matcher *matchers,
				size_t matcher_count, time_ms from, time_ms to,
				uint64_t *ret_series_count, struct err *e);

/* One row of the cardinality explorer. */
struct metrics_cardinality {
	str name;               /* a metric, a label, or `label=value` */
	uint64_t series_count;  /* active or in today's index */
	uint64_t value_count;   /* of a label: distinct values */
	uint64_t created_count; /* series made today: churn */
};
enum metrics_cardinality_by { METRICS_BY_METRIC, METRICS_BY_LABEL, METRICS_BY_PAIR };
/* The TOP rows by series, most first, on the day that holds DAY. */
WARN_UNUSED errc metrics_cardinality(struct metrics *m, enum metrics_cardinality_by by, time_ms day,
				     size_t top, struct arena *arena,
				     struct metrics_cardinality **ret, size_t *ret_count,
				     struct err *e);

/* How the engine is; counters since it was opened. */
struct metrics_stats {
	uint64_t series_count, series_created_count, series_refused_count;
	uint64_t samples_taken_count, samples_old_count, samples_future_count;
	uint64_t head_samples, part_count, part_samples, block_bad_count, quarantined_count;
	uint64_t bytes_on_disk, bytes_log, memory_bytes, memory_bytes_max;
	uint64_t flush_count, merge_count, log_sync_count, commit_refused_count;
	time_ms min_time, max_time; /* INT64_MAX, INT64_MIN while empty */
	bool read_only;             /* the disk is nearly full */
	int64_t disk_free_bytes;
};
void metrics_stats(struct metrics *m, struct metrics_stats *ret);

/* What `holdfast doctor --data` finds; REPORT gets one line a finding, for a person. REPAIR
 * rewrites what can be saved and moves what cannot aside into quarantine/. The engine must not be
 * open. */
WARN_UNUSED errc metrics_doctor(const char *folder, bool repair, struct buf *report,
				uint64_t *ret_bad_count, struct err *e);
