/*
 * What the parts of the evaluator share: promql_eval*.c, promql_functions_*.c, promql_kernels*.c.
 *
 * An expression is evaluated over all steps at once, series by series. What comes out of a node is
 * a value: a scalar (one double a step), a string, or a source of columns, one column a series. A
 * source computes its columns when it is asked, so that an aggregation over `rate(x[5m])` never
 * holds them all; promql_table_of() stores them where they are needed more than once.
 *
 * Threads: nodes are set up on the calling thread; columns are computed by workers, each with its
 *   own buffers. A function body runs in a worker and touches nothing but its arguments.
 * Who has what:
 *   promql_eval.c               the query, nodes, step-invariant parts
 *   promql_eval_run.c           memory, workers, annotations
 *   promql_eval_table.c         columns and tables
 *   promql_eval_select.c        instant and range selectors
 *   promql_eval_call.c          calls of functions, subqueries
 *   promql_eval_binary.c        operators; promql_eval_match.c: vector matching
 *   promql_eval_aggregate*.c    aggregations
 *   promql_eval_result.c        the result
 *   promql_kernels*.c           rate, …_over_time of floats, all windows of a series at once
 *   promql_functions_*.c        bodies of all functions and the table promql_function_body()
 */
#pragma once

#include "metrics/metrics.h"
#include "query/promql/promql_ast.h"
#include "query/promql/promql_eval.h"

struct promql_run; /* one evaluation */

/* ---- Steps and columns. */

struct promql_grid {
	time_ms start;
	int64_t step; /* at least 1 */
	size_t count; /* at least 1 */
};

static inline time_ms promql_grid_time(const struct promql_grid *g, size_t step)
{
	return g->start + (int64_t)step * g->step;
}

/* One series over all steps. values[i] counts where bit i of present is set; where histograms is
 * not NULL and histograms[i] is not, the sample is that histogram and values[i] is nothing. */
struct promql_column {
	double *values;
	uint64_t *present;
	const struct histogram **histograms;
};

#define PROMQL_WORDS(steps) (((steps) + 63) / 64)

static inline bool promql_has(const struct promql_column *c, size_t step)
{
	return c->present[step / 64] >> (step % 64) & 1;
}

static inline void promql_set(struct promql_column *c, size_t step, double value)
{
	c->values[step] = value;
	c->present[step / 64] |= 1ULL << (step % 64);
}

static inline void promql_clear(struct promql_column *c, size_t step)
{
	c->present[step / 64] &= ~(1ULL << (step % 64));
}

static inline const struct histogram *promql_histogram(const struct promql_column *c, size_t step)
{
	return c->histograms ? c->histograms[step] : NULL;
}

/* One sample: a float, a histogram, or nothing. */
struct promql_sample {
	bool present;
	double value;
	const struct histogram *histogram; /* not NULL: it is one */
};

/* ---- Tables: stored columns. */

struct promql_table {
	struct promql_run *run;
	struct promql_table *prev, *next; /* in the run's list */
	struct promql_grid grid;
	struct labels *labels; /* of each series; they live as long as the run */
	bool *drop_name; /* delayed name removal: the name counts as gone; all false without it */
	size_t count, room;
	double *values;                       /* room × grid.count */
	uint64_t *present;                    /* room × PROMQL_WORDS(grid.count) */
	const struct histogram ***histograms; /* NULL, or of each series NULL or an array */
	bool ordered;         /* the order of the series is part of the result (sort, topk) */
	struct arena *arenas; /* where its histograms are, one a worker */
	size_t arena_count;
	int64_t histogram_bytes; /* charged for them; atomic */
};

/* Room for ROOM series, no point present. Owns: promql_table_free(), also of NULL. */
WARN_UNUSED errc promql_table_new(struct promql_run *run, const struct promql_grid *grid,
				  size_t room, struct promql_table **ret_table, struct err *e);
void promql_table_free(struct promql_table *v);
/* One more series (room must be left); LABELS must live as long as the run: take them from another
 * vector or make them in promql_labels_arena(). */
size_t promql_table_add(struct promql_table *v, struct labels labels, bool drop_name);
/* A view on series I; promql_set() on it sets points. */
struct promql_column promql_table_column(const struct promql_table *v, size_t i);
/* Set point (I, STEP) to a deep copy of HISTOGRAM. Threads: as workers; WORKER 0 in the main one.
 */
WARN_UNUSED errc promql_table_set_histogram(struct promql_table *v, unsigned worker, size_t i,
					    size_t step, const struct histogram *histogram,
					    struct err *e);
/* Join series with equal labels (they may, at different steps). Errors: ERR_FAILED, `vector cannot
 * contain metrics with the same labelset`, when two have a point at one step. */
WARN_UNUSED errc promql_table_unique(struct promql_table *v, struct err *e);

/* ---- What functions get. */

struct promql_value {
	enum { PROMQL_IS_SCALAR, PROMQL_IS_STRING, PROMQL_IS_VECTOR } kind;
	double *scalar; /* one a step; promql_alloc() */
	str string;
	struct promql_table *table;
};

/* One call of a function in the expression, the same for all series and steps. */
struct promql_eval_call {
	struct promql_run *run;
	const struct promql_expr *expr; /* the call; its arguments have positions for annotations */
	struct promql_grid grid;
	size_t arg_count;
	const double *const *scalars; /* [arg][step]; NULL for an argument that is no scalar */
	const str *strings;           /* [arg]; empty for an argument that is no string */
};

/* Where a body runs: of one worker and one series. */
struct promql_eval_scope {
	struct promql_eval_call *call;
	unsigned worker;
	struct arena *scratch; /* histograms that a body returns; emptied after each series */
	str metric_name;       /* of the series, for annotations; empty when it has none */
};

/* The samples of one step's range selector or subquery: those in (start, end], no stale markers,
 * times ascending, at least one. With `anchored` the last one at or before start comes first, with
 * `smoothed` also the first one after end; the body treats them as Prometheus's extendedRate() and
 * pickFirst/pickLast do. */
struct promql_window {
	const time_ms *times;
	const double *values;
	const struct histogram *const *histograms; /* NULL when all are floats; else as a column */
	/* NULL, or of each histogram whether it is a counter reset to the sample before it, for
	 * windows overlap: 0 not looked at yet, 1 no, 2 yes */
	uint8_t *resets;
	size_t count;
	time_ms start,
		end; /* of the range; with `smoothed` and `anchored` samples lie outside too */
	bool anchored, smoothed;
	size_t step;       /* for call->scalars */
	time_ms step_time; /* of the evaluation: end without offset and @ */
};

/* All windows of one series that holds floats only. The window of step i is samples
 * [begins[i], ends[i]); both ascend. With @ all windows are the same one. */
struct promql_windows {
	const time_ms *times;
	const double *values;
	size_t count;
	const uint32_t *begins, *ends;
	size_t step_count;
	time_ms first_end; /* the end of step 0; step i's is first_end + i * end_step */
	int64_t end_step, range_ms;
	/* What the kernel knows of these times and windows whatever the values, for the next series
	 * that has the same ones: so many doubles a step as the function's row says. */
	double *cache;
	bool *cached; /* whether it is filled; the kernel sets it */
};

/* Bodies. A body has one of these shapes; a function that lacks a shape leaves its pointer NULL. */

/* One window to at most one sample (RET->present is false on entry). */
typedef errc (*promql_range_body)(struct promql_eval_scope *scope, const struct promql_window *w,
				  struct promql_sample *ret, struct err *e);
/* All windows of a series of floats at once; must give what the range body gives. RET has no point
 * present on entry, and no histograms. */
typedef errc (*promql_range_kernel)(struct promql_eval_scope *scope, const struct promql_windows *w,
				    struct promql_column *ret, struct err *e);
/* One sample of an instant vector at one step; IN is present. */
typedef errc (*promql_sample_body)(struct promql_eval_scope *scope, size_t step,
				   const struct promql_sample *in, struct promql_sample *ret,
				   struct err *e);
/* All floats of a column: from[i] to into[i], for present and other points alike, no failing.
 * Histograms of the column are left out of the result before it is called. */
typedef void (*promql_map_body)(const struct promql_eval_call *call, const double *from,
				double *into, size_t count);
/* The whole thing: ARGS are evaluated and stored (vectors may be changed and returned: then set the
 * argument's table to NULL). RET is a scalar made with promql_alloc() or a vector; series with
 * equal labels are joined afterwards by promql_table_unique(). Runs in the main thread. */
typedef errc (*promql_whole_body)(struct promql_eval_call *call, struct promql_value *args,
				  struct promql_value *ret, struct err *e);

struct promql_function_body {
	promql_range_body range;    /* first matrix argument, any scalars and strings beside it */
	promql_range_kernel kernel; /* beside range, or NULL */
	promql_sample_body sample;  /* first vector argument, any scalars beside it */
	promql_map_body map;        /* beside sample or alone: when the column holds only floats */
	promql_whole_body whole;    /* anything else */
	bool keeps_name;            /* of the metric */
	/* sample: without an argument it is applied to vector(time()) (`hour()`) */
	bool of_time;
	/* its result changes with the step though its arguments do not (`time`, `hour`) */
	bool varies;
	bool takes_anchored, takes_smoothed; /* ranges with these modifiers */
	size_t cache;                        /* doubles a step that the kernel keeps */
	bool counter; /* an info when the metric's name does not look like a counter's (rate) */
};

/* One row a function, in promql_functions_bodies.c; never NULL. timestamp() has a sample body (the
 * step's time); of a bare selector the evaluator itself gives the sample's time. absent(),
 * absent_over_time() and info() are whole bodies; absent_over_time()'s argument comes as a table
 * with 1 where the window holds a sample, and info()'s second not at all: read call->expr. */
const struct promql_function_body *promql_function_body(enum promql_function_id id);

/* ---- Kernels (promql_kernels*.c), for the table. */

errc promql_kernel_rate(struct promql_eval_scope *, const struct promql_windows *,
			struct promql_column *, struct err *);
errc promql_kernel_increase(struct promql_eval_scope *, const struct promql_windows *,
			    struct promql_column *, struct err *);
errc promql_kernel_delta(struct promql_eval_scope *, const struct promql_windows *,
			 struct promql_column *, struct err *);
errc promql_kernel_irate(struct promql_eval_scope *, const struct promql_windows *,
			 struct promql_column *, struct err *);
errc promql_kernel_idelta(struct promql_eval_scope *, const struct promql_windows *,
			  struct promql_column *, struct err *);
errc promql_kernel_sum_over_time(struct promql_eval_scope *, const struct promql_windows *,
				 struct promql_column *, struct err *);
errc promql_kernel_avg_over_time(struct promql_eval_scope *, const struct promql_windows *,
				 struct promql_column *, struct err *);
errc promql_kernel_min_over_time(struct promql_eval_scope *, const struct promql_windows *,
				 struct promql_column *, struct err *);
errc promql_kernel_max_over_time(struct promql_eval_scope *, const struct promql_windows *,
				 struct promql_column *, struct err *);
errc promql_kernel_count_over_time(struct promql_eval_scope *, const struct promql_windows *,
				   struct promql_column *, struct err *);
errc promql_kernel_present_over_time(struct promql_eval_scope *, const struct promql_windows *,
				     struct promql_column *, struct err *);
errc promql_kernel_first_over_time(struct promql_eval_scope *, const struct promql_windows *,
				   struct promql_column *, struct err *);
errc promql_kernel_last_over_time(struct promql_eval_scope *, const struct promql_windows *,
				  struct promql_column *, struct err *);
errc promql_kernel_changes(struct promql_eval_scope *, const struct promql_windows *,
			   struct promql_column *, struct err *);
errc promql_kernel_resets(struct promql_eval_scope *, const struct promql_windows *,
			  struct promql_column *, struct err *);

/* ---- Services of a run. */

/* Zeroed memory of the query's budget. Errors: as metrics_charge(). Threads: any. */
WARN_UNUSED errc promql_alloc(struct promql_run *run, size_t count, size_t size, void **ret,
			      struct err *e);
void promql_free(struct promql_run *run, void *p); /* accepts NULL */
/* Labels made by nodes and whole bodies; main thread only. */
struct arena *promql_labels_arena(struct promql_run *run);
/* Errors: ERR_TIMEOUT, ERR_CANCELLED. For long loops, every few thousand turns. Threads: any. */
WARN_UNUSED errc promql_check(struct promql_run *run, struct err *e);
bool promql_delayed_names(const struct promql_run *run);
/* What was asked, with defaults filled in; start(), end(), step() and range() are of it. */
const struct promql_query *promql_run_query(const struct promql_run *run);

enum promql_annotation { PROMQL_WARNING, PROMQL_INFO };
/* Note, once, `PromQL warning: FMT… (line:column)`; POSITION is a byte offset in the text of the
 * query. Cheap when the same was noted before. Threads: any. */
void promql_annotate(struct promql_run *run, enum promql_annotation kind, size_t position,
		     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* LABELS without the name, or with NAME set to VALUE (empty: removed); strings are not copied. */
struct labels promql_labels_without_name(struct arena *a, const struct labels *labels);
struct labels promql_labels_with(struct arena *a, const struct labels *labels, str name, str value);

/* An instant selection by MATCHERS over GRID, for info(): the values are the times of the samples,
 * in seconds. */
WARN_UNUSED errc promql_select_table(struct promql_run *run, const struct promql_grid *grid,
				     const struct matcher *matchers, size_t matcher_count,
				     struct promql_table **ret_table, struct err *e);
/* NULL-safe: the compensated sum as Prometheus adds (Neumaier's variant of Kahan's). */
static inline void promql_kahan_add(double value, double *sum, double *compensation)
{
	double t = *sum + value;
	if (__builtin_isinf(t))
		*compensation = 0;
	else if (__builtin_fabs(*sum) >= __builtin_fabs(value))
		*compensation += (*sum - t) + value;
	else
		*compensation += (value - t) + *sum;
	*sum = t;
}
