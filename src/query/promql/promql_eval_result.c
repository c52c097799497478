/* What a query gives: copied out of the run, which ends. */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "query/promql/promql_eval_core.h"

struct owned_result {
	struct promql_result result;
	struct arena arena;
};

static struct arena *arena_of(struct promql_result *r)
{
	return &((struct owned_result *)r)->arena;
}

errc promql_result_new(struct promql_run *run, struct promql_result **ret_result, struct err *e)
{
	struct owned_result *r = must_calloc(1, sizeof(*r));
	(void)run, (void)e;
	r->arena = arena_init(SIZE_MAX / 2);
	*ret_result = &r->result;
	return OK;
}

void promql_result_free(struct promql_result *r)
{
	if (!r)
		return;
	arena_done(arena_of(r));
	free(r);
}

/* ---- Series. */

static int by_labels(const void *a, const void *b)
{
	const struct promql_series *x = a, *y = b;
	return labels_cmp(&x->labels, &y->labels);
}

/* Copies of the present points of one column. */
static errc take_column(struct promql_run *run, struct promql_result *r,
			const struct promql_source *s, size_t i, const struct promql_column *c,
			struct err *e)
{
	struct arena *a = arena_of(r);
	size_t count = 0;
	for (size_t w = 0; w < PROMQL_WORDS(s->grid.count); w++)
		count += (size_t)__builtin_popcountll(c->present[w]);
	if (!count)
		return OK;
	TRY(promql_charge(run, (int64_t)(count * (sizeof(time_ms) + sizeof(double))), e));
	time_ms *times = arena_array(a, count, sizeof(times[0]));
	double *values = arena_array(a, count, sizeof(values[0]));
	const struct histogram **histograms = c->histograms
						      ? arena_array(a, count, sizeof(histograms[0]))
						      : NULL;
	TRY(arena_check(a, "the result", e));
	size_t n = 0;
	for (size_t step = 0; step < s->grid.count; step++) {
		if (!promql_has(c, step))
			continue;
		times[n] = promql_grid_time(&s->grid, step);
		values[n] = c->values[step];
		if (histograms && c->histograms[step])
			histograms[n] = histogram_copy(a, c->histograms[step]);
		n++;
	}
	r->series[r->series_count++] = (struct promql_series){ labels_copy(a, &s->labels[i]), times,
							       values, histograms, count };
	return arena_check(a, "the result", e);
}

/* Names that were only marked as gone go now. */
static errc remove_names(struct promql_source **source, struct err *e)
{
	struct promql_source *s = *source;
	bool any = false;
	for (size_t i = 0; s->drop_name && i < s->count; i++)
		any |= s->drop_name[i];
	if (!any || !promql_delayed_names(s->run))
		return OK;
	struct labels *labels = s->table ? s->table->labels
					 : arena_array(&s->run->labels, s->count + 1,
						       sizeof(*labels));
	TRY(arena_check(&s->run->labels, "the labels of the query", e));
	for (size_t i = 0; i < s->count; i++)
		labels[i] = s->drop_name[i]
				    ? promql_labels_without_name(&s->run->labels, &s->labels[i])
				    : s->labels[i];
	s->labels = labels;
	return promql_source_unique(source, false, e);
}

static errc take_source(struct promql_run *run, struct promql_source *s, struct promql_result *r,
			struct err *e)
{
	struct promql_table *t = NULL;
	bool range = run->query.step_ms != 0;
	TRY(remove_names(&s, e));
	TRY(promql_table_of(s, &t, e));
	TRY(promql_source_of_table(t, &s, e));
	r->type = range ? PROMQL_RESULT_MATRIX : PROMQL_RESULT_VECTOR;
	r->series = arena_array(arena_of(r), t->count + 1, sizeof(r->series[0]));
	TRY(arena_check(arena_of(r), "the result", e));
	for (size_t i = 0; i < t->count; i++) {
		struct promql_column c = promql_table_column(t, i);
		TRY(take_column(run, r, s, i, &c, e));
	}
	if (run->query.series_count_max && r->series_count > run->query.series_count_max)
		FAIL(e, ERR_FAILED, "the result has %zu series, more than %zu", r->series_count,
		     run->query.series_count_max);
	if (r->series_count && (range || !t->ordered))
		qsort(r->series, r->series_count, sizeof(r->series[0]), by_labels);
	promql_source_free(s);
	return OK;
}

static errc take_scalar(struct promql_run *run, const double *scalar, struct promql_result *r,
			struct err *e)
{
	const struct promql_query *q = &run->query;
	struct arena *a = arena_of(r);
	if (!q->step_ms) {
		r->type = PROMQL_RESULT_SCALAR;
		r->time = q->start;
		r->scalar = scalar[0];
		return OK;
	}
	size_t count = (size_t)((q->end - q->start) / q->step_ms) + 1;
	time_ms *times = arena_array(a, count, sizeof(times[0]));
	double *values = arena_array(a, count, sizeof(values[0]));
	r->series = arena_array(a, 1, sizeof(r->series[0]));
	TRY(arena_check(a, "the result", e));
	for (size_t i = 0; i < count; i++) {
		times[i] = q->start + (int64_t)i * q->step_ms;
		values[i] = scalar[i];
	}
	r->type = PROMQL_RESULT_MATRIX;
	r->series[0] = (struct promql_series){ .times = times, .values = values, .count = count };
	r->series_count = 1;
	return OK;
}

errc promql_result_of_operand(struct promql_run *run, struct promql_operand *operand,
			      struct promql_result *ret, struct err *e)
{
	switch (operand->kind) {
	case PROMQL_OPERAND_STRING:
		ret->type = PROMQL_RESULT_STRING;
		ret->time = run->query.start;
		ret->string = arena_str(arena_of(ret), operand->string);
		return arena_check(arena_of(ret), "the result", e);
	case PROMQL_OPERAND_SCALAR:
		return take_scalar(run, operand->scalar, ret, e);
	case PROMQL_OPERAND_SOURCE:
		break;
	}
	return take_source(run, operand->source, ret, e);
}

/* ---- A range, as it is. */

static errc take_samples(struct promql_run *run, const struct promql_input *in, size_t i,
			 const struct promql_input_samples *s, struct promql_result *r,
			 struct err *e)
{
	struct arena *a = arena_of(r);
	time_ms end = in->reference.first;
	size_t first = 0, last = s->count;
	while (first < last && s->times[first] <= end - in->range_ms)
		first++;
	while (last > first && s->times[last - 1] > end)
		last--;
	size_t count = last - first;
	if (!count)
		return OK;
	TRY(promql_charge(run, (int64_t)(count * (sizeof(time_ms) + sizeof(double))), e));
	time_ms *times = arena_array(a, count, sizeof(times[0]));
	double *values = arena_array(a, count, sizeof(values[0]));
	const struct histogram **histograms = s->histograms
						      ? arena_array(a, count, sizeof(histograms[0]))
						      : NULL;
	TRY(arena_check(a, "the result", e));
	memcpy(times, s->times + first, count * sizeof(times[0]));
	memcpy(values, s->values + first, count * sizeof(values[0]));
	for (size_t k = 0; histograms && k < count; k++)
		if (s->histograms[first + k])
			histograms[k] = histogram_copy(a, s->histograms[first + k]);
	bool drop = in->drop_name && in->drop_name[i];
	struct labels labels = drop ? promql_labels_without_name(&run->labels, &in->labels[i])
				    : in->labels[i];
	r->series[r->series_count++] = (struct promql_series){ labels_copy(a, &labels), times,
							       values, histograms, count };
	return arena_check(a, "the result", e);
}

errc promql_result_of_input(struct promql_run *run, struct promql_input *in,
			    struct promql_result *ret, struct err *e)
{
	ret->type = PROMQL_RESULT_MATRIX;
	ret->series = arena_array(arena_of(ret), in->count + 1, sizeof(ret->series[0]));
	TRY(arena_check(arena_of(ret), "the result", e));
	for (size_t i = 0; i < in->count; i++) {
		struct promql_input_samples s = { 0 };
		TRY(promql_input_read(in, 0, i, &s, e));
		TRY(take_samples(run, in, i, &s, ret, e));
		promql_scratch_clear(run, 0);
	}
	if (ret->series_count)
		qsort(ret->series, ret->series_count, sizeof(ret->series[0]), by_labels);
	return OK;
}

/* ---- */

errc promql_result_finish(struct promql_run *run, struct promql_result *ret, struct err *e)
{
	struct arena *a = arena_of(ret);
	size_t max = run->query.annotation_count_max;
	ret->warning_count = promql_annotations_list(run->annotations, PROMQL_WARNING, max, a,
						     &ret->warnings);
	ret->info_count = promql_annotations_list(run->annotations, PROMQL_INFO, max, a,
						  &ret->infos);
	ret->stats.samples = __atomic_load_n(&run->budget->samples, __ATOMIC_RELAXED);
	ret->stats.peak_bytes = (size_t)__atomic_load_n(&run->bytes_peak, __ATOMIC_RELAXED);
	ret->stats.select_us = run->select_us;
	ret->stats.worker_count = run->worker_count;
	return arena_check(a, "the result", e);
}
