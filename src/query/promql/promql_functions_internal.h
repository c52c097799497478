/*
 * The bodies behind the table of promql_functions_bodies.c, and what they share.
 *
 * Source: Prometheus 3.14's documentation and its published behaviour.
 */
#pragma once

#include "query/promql/histogram_math.h"
#include "query/promql/promql_eval_internal.h"

/* ---- Shared (promql_functions_shared.c). */

/* The floats of a window; views into it when there is nothing else in it. */
struct promql_floats {
	const time_ms *times;
	const double *values;
	size_t count;
	size_t histogram_count; /* left out */
	struct promql_run *run;
	void *copy, *scratch; /* what it holds of the run's memory, or NULL */
};

/* Owns: end with promql_floats_done(). */
WARN_UNUSED errc promql_window_floats(struct promql_eval_scope *scope,
				      const struct promql_window *w, struct promql_floats *ret,
				      struct err *e);
/* As above, with the info that histograms among floats are left out. RET->count 0: no floats. */
WARN_UNUSED errc promql_window_only_floats(struct promql_eval_scope *scope,
					   const struct promql_window *w, struct promql_floats *ret,
					   struct err *e);
/* The values to be changed and sorted, of F too. */
WARN_UNUSED errc promql_floats_scratch(struct promql_floats *f, double **ret_values, struct err *e);
/* Accepts a zeroed one. */
void promql_floats_done(struct promql_floats *f);
size_t promql_window_histograms(const struct promql_window *w);

static inline const struct histogram *promql_window_histogram(const struct promql_window *w,
							      size_t i)
{
	return w->histograms ? w->histograms[i] : NULL;
}

/* The start of argument I in the query's text. */
size_t promql_arg_position(const struct promql_eval_call *call, size_t i);
/* The first argument that is a range. */
size_t promql_range_arg_position(const struct promql_eval_call *call);
/* TEXT and then NAME quoted. */
void promql_note_name(struct promql_run *run, enum promql_annotation kind, size_t position,
		      const char *text, str name);
/* TEXT, and ` for metric name "NAME"` when there is one. */
void promql_note_for_name(struct promql_run *run, enum promql_annotation kind, size_t position,
			  const char *text, str name);
/* The same about the range of a call and the series in work. */
void promql_note_mixed(struct promql_eval_scope *scope);        /* floats and histograms */
void promql_note_mixed_ranges(struct promql_eval_scope *scope); /* histograms left out */
void promql_note_mixed_schemas(struct promql_eval_scope *scope);
void promql_note_not_counter(struct promql_eval_scope *scope);
void promql_note_not_gauge(struct promql_eval_scope *scope);
/* What an addition (ADD: `subtraction`, …) of histograms had to do. */
void promql_note_reconciled(struct promql_eval_scope *scope, const char *operation);
void promql_note_collision(struct promql_eval_scope *scope, const char *operation);
/* A quantile outside of [0, 1]. */
void promql_note_quantile(struct promql_eval_call *call, size_t arg, double q);

enum { PROMQL_SHORTEST_SIZE = 40 };
/* As Go's %g: `0.5`, `1e+06`, `+Inf`, `NaN`. */
const char *promql_shortest(double v, char text[static PROMQL_SHORTEST_SIZE]);
/* As Go's math.Min and math.Max: a NaN wins, an infinity over it. */
double promql_min(double a, double b);
double promql_max(double a, double b);
/* Linear between ranks, NaNs lowest; sorts VALUES. */
double promql_quantile_of(double q, double *values, size_t count);
/* The name removed, or to be removed at the end. */
struct labels promql_result_labels(struct promql_run *run, const struct labels *labels);

/* Doubles a step that kernels keep: those of rate() and its kin, those of sums and extremes. */
enum { PROMQL_RATE_CACHE = 3, PROMQL_PIECES_CACHE = 11 };

/* ---- Bodies. */

/* clang-format off */
#define PROMQL_RANGE_BODIES(X)                                                             \
	X(rate) X(increase) X(delta) X(irate) X(idelta) X(changes) X(resets)               \
	X(sum_over_time) X(avg_over_time) X(min_over_time) X(max_over_time)                \
	X(count_over_time) X(present_over_time) X(first_over_time) X(last_over_time)       \
	X(stddev_over_time) X(stdvar_over_time) X(mad_over_time) X(quantile_over_time)     \
	X(ts_of_first_over_time) X(ts_of_last_over_time) X(ts_of_max_over_time)            \
	X(ts_of_min_over_time) X(deriv) X(predict_linear)                                  \
	X(double_exponential_smoothing)

#define PROMQL_MAP_BODIES(X)                                                               \
	X(abs) X(acos) X(acosh) X(asin) X(asinh) X(atan) X(atanh) X(ceil) X(clamp_max)     \
	X(clamp_min) X(cos) X(cosh) X(deg) X(exp) X(floor) X(ln) X(log10) X(log2) X(rad)   \
	X(round) X(sgn) X(sin) X(sinh) X(sqrt) X(tan) X(tanh) X(day_of_month)              \
	X(day_of_week) X(day_of_year) X(days_in_month) X(hour) X(minute) X(month)          \
	X(year)

#define PROMQL_SAMPLE_BODIES(X)                                                            \
	X(clamp) X(timestamp) X(start_timestamp) X(histogram_avg) X(histogram_count)       \
	X(histogram_stddev) X(histogram_stdvar) X(histogram_sum)

#define PROMQL_WHOLE_BODIES(X)                                                             \
	X(absent) X(absent_over_time) X(end) X(histogram_fraction) X(histogram_quantile)   \
	X(histogram_quantiles) X(info) X(label_join) X(label_replace) X(max_of)            \
	X(min_of) X(pi) X(range) X(scalar) X(sort) X(sort_by_label)                        \
	X(sort_by_label_desc) X(sort_desc) X(start) X(step) X(time) X(vector)
/* clang-format on */

#define X(name)                                                                           \
	errc promql_body_##name(struct promql_eval_scope *, const struct promql_window *, \
				struct promql_sample *, struct err *);
PROMQL_RANGE_BODIES(X)
#undef X
#define X(name) \
	void promql_body_##name(const struct promql_eval_call *, const double *, double *, size_t);
PROMQL_MAP_BODIES(X)
#undef X
#define X(name)                                                                                   \
	errc promql_body_##name(struct promql_eval_scope *, size_t, const struct promql_sample *, \
				struct promql_sample *, struct err *);
PROMQL_SAMPLE_BODIES(X)
#undef X
#define X(name)                                                                   \
	errc promql_body_##name(struct promql_eval_call *, struct promql_value *, \
				struct promql_value *, struct err *);
PROMQL_WHOLE_BODIES(X)
#undef X
