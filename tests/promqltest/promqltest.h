/*
 * promqltest: Prometheus's own test language for PromQL, run against the engine.
 *
 * Source: Prometheus, promql/promqltest/README.md.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "metrics/metrics.h"
#include "query/promql/promql_eval.h"

/* One point of a series: nothing, a float (a stale marker too), or a histogram. */
struct test_point {
	bool present;
	double value;
	const struct histogram *histogram; /* NULL: a float */
	bool reset_set; /* the histogram's counter_reset_hint was written and is to be compared */
};

/* `name{a="b"} 1 2 3`, labels sorted. */
struct test_series {
	struct labels labels;
	struct test_point *points;
	size_t count;
};

/* series.c. Errors: ERR_INVALID with what is wrong. */
WARN_UNUSED errc test_series_parse(str line, struct arena *arena, struct test_series *ret,
				   struct err *e);
/* `1m30s`, `90`, `1.5` in milliseconds, negative ones too. */
bool test_duration_parse(str s, int64_t *ret_ms);

/* load.c: what `load` does; with NHCB classic histograms become native ones besides. */
WARN_UNUSED errc test_load(struct metrics *m, int64_t step_ms, bool nhcb,
			   const struct test_series *series, size_t count, struct err *e);

/* at_time.c: let every selector of EXPR that names no time look at TIME. False when its result
 * hangs on the time of the evaluation all the same. */
bool test_pin_to_time(struct promql_expr *expr, time_ms time);

/* compare.c */
bool test_values_equal(double a, double b);
bool test_histograms_equal(const struct histogram *a, const struct histogram *b);
void test_point_print(struct buf *into, const struct test_point *p);
