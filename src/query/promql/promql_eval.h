/*
 * promql_eval: runs a PromQL expression over the metrics engine, for one instant or a range of
 * steps, as Prometheus 3 does.
 *
 * Uses metrics, os; knows nothing of HTTP.
 * Units: time_ms since 1970; durations in milliseconds.
 * Limits: memory, samples, deadline and cancellation as the budget says; series and steps as the
 *   query says. Past them an error, never a partial result.
 * Threads: promql_eval() from any; it runs on the calling thread and borrows workers of the
 *   executor. The result does not depend on how many there are.
 * Source: Prometheus 3's documentation and its published behaviour.
 */
#pragma once

#include "metrics/metrics.h"
#include "os/executor.h"

struct promql_expr;

enum {
	PROMQL_LOOKBACK_MS = 5 * 60 * 1000,
	PROMQL_SUBQUERY_STEP_MS = 60 * 1000,
	PROMQL_STEPS_MAX = 1000 * 1000, /* of one query; the HTTP API allows fewer */
	PROMQL_ANNOTATIONS_MAX = 1000,  /* distinct warnings and infos kept of one query */
};

struct promql_query {
	/* Parsed and checked; its durations are resolved in place (promql_resolve_durations()). */
	struct promql_expr *expr;
	str text; /* what it was parsed from, for the line and column of annotations */
	/* An instant query has step_ms 0 and end == start. */
	time_ms start, end;
	int64_t step_ms;
	/* 0 takes the default */
	int64_t lookback_ms;         /* [5 min] an instant selector looks back less than this */
	int64_t subquery_step_ms;    /* [1 min] of subqueries that name no step */
	size_t series_count_max;     /* [none] of the result */
	size_t annotation_count_max; /* [10] of warnings, and of infos; then a line counts the rest
				      */
	bool delayed_name_removal;   /* names go at the end; off is Prometheus's default */
	struct metrics_budget *budget; /* may be NULL: then no limits but the engine's */
	struct executor *executor;     /* may be NULL: all on the calling thread */
	unsigned worker_count_max; /* threads with the calling one; 0 takes the processors' count */
};

enum promql_result_type {
	PROMQL_RESULT_SCALAR,
	PROMQL_RESULT_VECTOR,
	PROMQL_RESULT_MATRIX,
	PROMQL_RESULT_STRING,
};

/* One series of a vector (count is 1) or a matrix (count is at least 1, times ascend). */
struct promql_series {
	struct labels labels;
	const time_ms *times;
	const double *values;
	/* NULL when all points are floats; otherwise histograms[i] is NULL for a float. */
	const struct histogram *const *histograms;
	size_t count;
};

struct promql_stats {
	uint64_t samples; /* read of the engine */
	size_t peak_bytes;
	int64_t eval_us, select_us; /* the second is within the first */
	unsigned worker_count;
};

struct promql_result {
	enum promql_result_type type;
	/* Vector and matrix. By labels, but a vector of sort(), topk() and the like as they order.
	 */
	struct promql_series *series;
	size_t series_count;
	time_ms time; /* scalar and string */
	double scalar;
	str string;
	/* As Prometheus words them, `PromQL warning: … (1:5)`; distinct, sorted. */
	const str *warnings, *infos;
	size_t warning_count, info_count;
	struct promql_stats stats;
};

/* `scalar`, `vector`, `matrix`, `string`. */
const char *promql_result_type_name(enum promql_result_type type);

/*
 * Evaluate QUERY. Owns: end with promql_result_free(); nothing in it points into the engine or the
 * expression. Errors: ERR_INVALID (bad_data, 400) for a range or a type that cannot be asked;
 * ERR_FAILED (execution, 422) for what fails while it runs, limits of memory and samples included;
 * ERR_TIMEOUT (timeout, 503); ERR_CANCELLED (canceled); ERR_BUSY when all queries together are over
 * the engine's memory.
 */
WARN_UNUSED errc promql_eval(struct metrics *m, const struct promql_query *query,
			     struct promql_result **ret_result, struct err *e);
/* Accepts NULL. */
void promql_result_free(struct promql_result *r);
