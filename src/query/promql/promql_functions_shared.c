#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "query/promql/promql_functions_internal.h"

/* ---- Windows. */

size_t promql_window_histograms(const struct promql_window *w)
{
	size_t count = 0;
	for (size_t i = 0; w->histograms && i < w->count; i++)
		count += w->histograms[i] != NULL;
	return count;
}

errc promql_window_floats(struct promql_eval_scope *scope, const struct promql_window *w,
			  struct promql_floats *ret, struct err *e)
{
	size_t histograms = promql_window_histograms(w), n = 0;
	*ret = (struct promql_floats){ .times = w->times,
				       .values = w->values,
				       .count = w->count - histograms,
				       .histogram_count = histograms,
				       .run = scope->call ? scope->call->run : NULL };
	if (!histograms || !ret->count)
		return OK;
	time_ms *times;
	TRY(promql_alloc(ret->run, ret->count, sizeof(time_ms) + sizeof(double), &ret->copy, e));
	times = ret->copy;
	double *values = (double *)(times + ret->count);
	for (size_t i = 0; i < w->count; i++) {
		if (w->histograms[i])
			continue;
		times[n] = w->times[i];
		values[n++] = w->values[i];
	}
	ret->times = times;
	ret->values = values;
	return OK;
}

errc promql_floats_scratch(struct promql_floats *f, double **ret_values, struct err *e)
{
	TRY(promql_alloc(f->run, f->count, sizeof(double), &f->scratch, e));
	*ret_values = f->scratch;
	memcpy(*ret_values, f->values, f->count * sizeof(double));
	return OK;
}

void promql_floats_done(struct promql_floats *f)
{
	if (!f->run)
		return;
	promql_free(f->run, f->copy);
	promql_free(f->run, f->scratch);
}

errc promql_window_only_floats(struct promql_eval_scope *scope, const struct promql_window *w,
			       struct promql_floats *ret, struct err *e)
{
	TRY(promql_window_floats(scope, w, ret, e));
	if (ret->count && ret->histogram_count)
		promql_note_mixed_ranges(scope);
	return OK;
}

/* ---- Annotations. */

size_t promql_arg_position(const struct promql_eval_call *call, size_t i)
{
	return call->expr->call.args[i]->start;
}

size_t promql_range_arg_position(const struct promql_eval_call *call)
{
	for (size_t i = 0; i < call->arg_count; i++)
		if (call->expr->call.args[i]->type == PROMQL_TYPE_MATRIX)
			return promql_arg_position(call, i);
	return call->expr->start;
}

void promql_note_name(struct promql_run *run, enum promql_annotation kind, size_t position,
		      const char *text, str name)
{
	struct buf quoted = buf_init(4 * LABEL_VALUE_BYTES_MAX);
	promql_print_string(&quoted, name);
	promql_annotate(run, kind, position, "%s %s", text, buf_cstr(&quoted));
	buf_done(&quoted);
}

void promql_note_for_name(struct promql_run *run, enum promql_annotation kind, size_t position,
			  const char *text, str name)
{
	if (!name.len) {
		promql_annotate(run, kind, position, "%s", text);
		return;
	}
	struct buf quoted = buf_init(4 * LABEL_VALUE_BYTES_MAX);
	promql_print_string(&quoted, name);
	promql_annotate(run, kind, position, "%s for metric name %s", text, buf_cstr(&quoted));
	buf_done(&quoted);
}

static void note_of_range(struct promql_eval_scope *scope, enum promql_annotation kind,
			  const char *text)
{
	promql_note_name(scope->call->run, kind, promql_range_arg_position(scope->call), text,
			 scope->metric_name);
}

void promql_note_mixed(struct promql_eval_scope *scope)
{
	note_of_range(scope, PROMQL_WARNING,
		      "encountered a mix of histograms and floats for metric name");
}

void promql_note_mixed_ranges(struct promql_eval_scope *scope)
{
	/* it stands at the first argument, also where that is a scalar */
	promql_note_for_name(scope->call->run, PROMQL_INFO, promql_arg_position(scope->call, 0),
			     "ignored histograms in a range containing both floats and histograms",
			     scope->metric_name);
}

void promql_note_mixed_schemas(struct promql_eval_scope *scope)
{
	note_of_range(scope, PROMQL_WARNING,
		      "vector contains a mix of histograms with exponential and custom buckets "
		      "schemas for metric name");
}

void promql_note_not_counter(struct promql_eval_scope *scope)
{
	note_of_range(scope, PROMQL_WARNING, "this native histogram metric is not a counter:");
}

void promql_note_not_gauge(struct promql_eval_scope *scope)
{
	note_of_range(scope, PROMQL_WARNING, "this native histogram metric is not a gauge:");
}

void promql_note_reconciled(struct promql_eval_scope *scope, const char *operation)
{
	promql_annotate(scope->call->run, PROMQL_INFO, promql_range_arg_position(scope->call),
			"mismatched custom buckets were reconciled during %s", operation);
}

void promql_note_collision(struct promql_eval_scope *scope, const char *operation)
{
	promql_annotate(scope->call->run, PROMQL_WARNING, promql_range_arg_position(scope->call),
			"conflicting counter resets during histogram %s", operation);
}

void promql_note_quantile(struct promql_eval_call *call, size_t arg, double q)
{
	char text[PROMQL_SHORTEST_SIZE];
	promql_annotate(call->run, PROMQL_WARNING, promql_arg_position(call, arg),
			"quantile value should be between 0 and 1, got %s",
			promql_shortest(q, text));
}

/* ---- Numbers. */

const char *promql_shortest(double v, char text[static PROMQL_SHORTEST_SIZE])
{
	if (isnan(v) || isinf(v)) {
		const char *name = isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf";
		snprintf(text, PROMQL_SHORTEST_SIZE, "%s", name);
		return text;
	}
	int digits = 0;
	do
		snprintf(text, PROMQL_SHORTEST_SIZE, "%.*e", digits, v);
	while (digits++ < 17 && strtod(text, NULL) != v);
	digits--;
	int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
	if (exponent < -4 || exponent >= 6)
		return text;
	snprintf(text, PROMQL_SHORTEST_SIZE, "%.*f", digits > exponent ? digits - exponent : 0, v);
	return text;
}

double promql_min(double a, double b)
{
	if (isinf(a) || isinf(b)) {
		if ((isinf(a) && a < 0) || (isinf(b) && b < 0))
			return -(double)INFINITY;
	}
	if (isnan(a) || isnan(b))
		return (double)NAN;
	if (a == 0 && b == 0)
		return signbit(a) ? a : b;
	return a < b ? a : b;
}

double promql_max(double a, double b)
{
	return -promql_min(-a, -b);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	if (isnan(x) || isnan(y))
		return isnan(y) - isnan(x);
	return (x > y) - (x < y);
}

double promql_quantile_of(double q, double *values, size_t count)
{
	if (!count || isnan(q))
		return (double)NAN;
	if (q < 0)
		return -(double)INFINITY;
	if (q > 1)
		return (double)INFINITY;
	qsort(values, count, sizeof(*values), by_value);
	double rank = q * (double)(count - 1);
	size_t lower = (size_t)rank;
	size_t upper = lower + 1 < count ? lower + 1 : count - 1;
	double weight = rank - floor(rank);
	return values[lower] * (1 - weight) + values[upper] * weight;
}

struct labels promql_result_labels(struct promql_run *run, const struct labels *labels)
{
	if (promql_delayed_names(run))
		return *labels;
	return promql_labels_without_name(promql_labels_arena(run), labels);
}
