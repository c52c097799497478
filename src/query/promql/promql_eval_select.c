#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "os/clock.h"
#include "query/promql/promql_eval_core.h"

struct promql_reference promql_reference_of(const struct promql_run *run,
					    const struct promql_grid *grid,
					    const struct promql_time *time)
{
	switch (time->at) {
	case PROMQL_AT_TIME:
		return (struct promql_reference){ time->at_ms - time->offset_ms, 0 };
	case PROMQL_AT_START:
		return (struct promql_reference){ run->query.start - time->offset_ms, 0 };
	case PROMQL_AT_END:
		return (struct promql_reference){ run->query.end - time->offset_ms, 0 };
	case PROMQL_AT_NONE:
		break;
	}
	return (struct promql_reference){ grid->start - time->offset_ms, grid->step };
}

/* ---- Selections. */

static bool has_one_name(const struct matcher *matchers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (matchers[i].type == MATCH_EQUAL && matchers[i].value.len &&
		    str_eq(matchers[i].name, STR(LABEL_METRIC_NAME)))
			return true;
	return false;
}

/* The series that match in [from, to]; their labels, which live as long as the run. */
struct selected {
	struct metrics_selection *selection;
	struct labels *labels;
	size_t count;
};

static errc list_labels(struct promql_run *run, struct selected *ret, struct err *e)
{
	ret->count = metrics_selection_count(ret->selection);
	/* views into the selection, which its owner keeps as long as the run */
	ret->labels = arena_array(&run->labels, ret->count + 1, sizeof(*ret->labels));
	TRY(arena_check(&run->labels, "the labels of the query", e));
	for (size_t i = 0; i < ret->count; i++)
		ret->labels[i] = metrics_selection_labels(ret->selection, i);
	return promql_charge_labels(run, e);
}

static errc compile_matchers(struct matcher *matchers, size_t count, size_t *compiled,
			     struct err *e)
{
	for (; *compiled < count; ++*compiled)
		TRY(matcher_compile(&matchers[*compiled], e));
	return OK;
}

static errc select_series(struct promql_run *run, const struct matcher *uncompiled,
			  size_t matcher_count, time_ms from, time_ms to, struct selected *ret,
			  struct err *e)
{
	size_t compiled = 0;
	int64_t began = clock_mono_us();
	struct matcher *matchers;
	TRY(promql_alloc(run, matcher_count + 1, sizeof(*matchers), (void **)&matchers, e));
	memcpy(matchers, uncompiled, matcher_count * sizeof(*matchers));
	errc rc = compile_matchers(matchers, matcher_count, &compiled, e);
	if (rc == OK) {
		struct metrics_query query = {
			.matchers = matchers,
			.matcher_count = matcher_count,
			.from = from,
			.to = to,
			.budget = run->budget,
		};
		rc = metrics_select(run->metrics, &query, &ret->selection, e);
	}
	for (size_t i = 0; i < compiled; i++)
		matcher_done(&matchers[i]);
	promql_free(run, matchers);
	run->select_us += clock_mono_us() - began;
	TRY(rc);
	promql_run_keep_selection(run, ret->selection);
	return list_labels(run, ret, e);
}

/* ---- Instant selectors. */

struct select_worker {
	struct metrics_samples samples;
	uint64_t key;     /* of the times that `at` is of; 0: of none */
	size_t key_count; /* samples then */
	int32_t *at;      /* of each step: the sample that counts, or -1 */
};

struct select_source {
	struct promql_source base;
	struct metrics_selection *selection;
	struct promql_reference reference;
	int64_t lookback_ms;
	time_ms from, to;
	bool times; /* values are the samples' times */
	struct select_worker *workers;
	struct promql_buffers *buffers;
};

/* For each step the last sample not after its reference and within the lookback before it. */
static void find_samples(const struct select_source *s, const struct metrics_samples *samples,
			 int32_t *at)
{
	size_t next = 0;
	time_ms when = s->reference.first;
	for (size_t step = 0; step < s->base.grid.count; step++, when += s->reference.step) {
		while (next < samples->count && samples->times[next] <= when)
			next++;
		bool near = next && samples->times[next - 1] > when - s->lookback_ms;
		at[step] = near ? (int32_t)next - 1 : -1;
	}
}

static inline double sample_value(const struct select_source *s,
				  const struct metrics_samples *samples, int32_t at)
{
	return s->times ? (double)samples->times[at] / 1000 : samples->values[at];
}

static void gather_floats(const struct select_source *s, const struct metrics_samples *samples,
			  const int32_t *at, struct promql_column *ret)
{
	size_t count = s->base.grid.count;
	for (size_t begin = 0; begin < count; begin += 64) {
		uint64_t bits = 0;
		size_t n = count - begin < 64 ? count - begin : 64;
		for (size_t i = 0; i < n; i++) {
			int32_t a = at[begin + i];
			double v = samples->values[a < 0 ? 0 : a];
			bits |= (uint64_t)(a >= 0 && !metrics_is_stale(v)) << i;
			ret->values[begin + i] = v;
		}
		ret->present[begin / 64] = bits;
	}
	if (s->times)
		for (size_t step = 0; step < count; step++)
			if (promql_has(ret, step))
				ret->values[step] = sample_value(s, samples, at[step]);
}

static void gather_any(const struct select_source *s, const struct metrics_samples *samples,
		       const int32_t *at, struct promql_column *ret)
{
	for (size_t step = 0; step < s->base.grid.count; step++) {
		int32_t a = at[step];
		if (a < 0)
			continue;
		const struct histogram *h = samples->histograms[a];
		if (metrics_is_stale(h ? h->sum : samples->values[a]))
			continue;
		promql_set(ret, step, h && !s->times ? 0 : sample_value(s, samples, a));
		ret->histograms[step] = s->times ? NULL : h;
	}
}

static errc select_column(struct promql_source *source, unsigned worker, size_t i,
			  struct promql_column *ret, struct err *e)
{
	struct select_source *s = (struct select_source *)source;
	struct select_worker *w = &s->workers[worker];
	struct metrics_samples *samples = &w->samples;
	TRY(metrics_selection_read(s->selection, i, s->from, s->to, samples, e));
	*ret = promql_buffers_clear(&s->buffers[worker]);
	if (!samples->count)
		return OK;
	if (!samples->times_key || samples->times_key != w->key || samples->count != w->key_count) {
		find_samples(s, samples, w->at);
		w->key = samples->times_key;
		w->key_count = samples->count;
	}
	if (!samples->histograms) {
		gather_floats(s, samples, w->at, ret);
		return OK;
	}
	TRY(promql_buffers_histograms(source->run, &s->buffers[worker], ret, e));
	gather_any(s, samples, w->at, ret);
	return OK;
}

static void select_done(struct promql_source *source)
{
	struct select_source *s = (struct select_source *)source;
	for (unsigned i = 0; s->workers && i < source->run->worker_count; i++) {
		metrics_samples_done(&s->workers[i].samples);
		promql_free(source->run, s->workers[i].at);
	}
	promql_free(source->run, s->workers);
	promql_buffers_free(source->run, s->buffers);
}

static errc select_buffers(struct select_source *s, struct err *e)
{
	struct promql_run *run = s->base.run;
	size_t steps = s->base.grid.count;
	TRY(promql_alloc(run, run->worker_count, sizeof(*s->workers), (void **)&s->workers, e));
	for (unsigned i = 0; i < run->worker_count; i++)
		TRY(promql_alloc(run, steps, sizeof(int32_t), (void **)&s->workers[i].at, e));
	return promql_buffers_new(run, steps, &s->buffers, e);
}

static errc select_source_new(struct promql_run *run, const struct promql_grid *grid,
			      const struct matcher *matchers, size_t matcher_count,
			      struct promql_reference reference, bool times,
			      struct promql_source **ret_source, struct err *e)
{
	struct select_source *s;
	struct selected selected;
	TRY(promql_source_new(run, grid, sizeof(*s), &s, e));
	s->base.column = select_column;
	s->base.done = select_done;
	s->base.costly = true;
	s->base.same_name = has_one_name(matchers, matcher_count);
	s->reference = reference;
	s->lookback_ms = run->query.lookback_ms;
	s->from = reference.first - s->lookback_ms + 1;
	s->to = reference.first + (int64_t)(grid->count - 1) * reference.step;
	s->times = times;
	TRY(select_series(run, matchers, matcher_count, s->from, s->to, &selected, e));
	s->selection = selected.selection;
	s->base.labels = selected.labels;
	s->base.count = selected.count;
	TRY(select_buffers(s, e));
	*ret_source = &s->base;
	return OK;
}

errc promql_select_node(struct promql_run *run, const struct promql_grid *grid,
			const struct promql_vector *selector, bool times,
			struct promql_source **ret_source, struct err *e)
{
	return select_source_new(run, grid, selector->matchers, selector->matcher_count,
				 promql_reference_of(run, grid, &selector->time), times, ret_source,
				 e);
}

errc promql_select_table(struct promql_run *run, const struct promql_grid *grid,
			 const struct matcher *matchers, size_t matcher_count,
			 struct promql_table **ret_table, struct err *e)
{
	struct promql_source *s;
	struct promql_reference reference = { grid->start, grid->step };
	TRY(select_source_new(run, grid, matchers, matcher_count, reference, true, &s, e));
	return promql_table_of(s, ret_table, e);
}

/* ---- Inputs of range functions. */

struct promql_input_worker {
	struct metrics_samples samples;
	/* compacted copies: of samples with stale markers among them, or of a column with gaps */
	time_ms *times;
	double *values;
	const struct histogram **histograms;
	size_t room;
};

/* Steps of the grid on which a subquery's expression is evaluated: the multiples of its step in the
 * ranges of all steps. */
static struct promql_grid subquery_grid(const struct promql_run *run,
					const struct promql_grid *grid,
					const struct promql_subquery *q,
					struct promql_reference reference)
{
	int64_t step = q->step_ms ? q->step_ms : run->query.subquery_step_ms;
	time_ms after = reference.first - q->range_ms;
	time_ms end = reference.first + (int64_t)(grid->count - 1) * reference.step;
	time_ms start = after / step * step;
	if (start <= after)
		start += step;
	return (struct promql_grid){
		.start = start,
		.step = step,
		.count = end < start ? 0 : (size_t)((end - start) / step) + 1,
	};
}

static errc open_subquery(struct promql_input *in, const struct promql_grid *grid,
			  const struct promql_subquery *q, struct err *e)
{
	struct promql_run *run = in->run;
	struct promql_operand operand;
	in->reference = promql_reference_of(run, grid, &q->time);
	in->range_ms = q->range_ms;
	struct promql_grid inner = subquery_grid(run, grid, q, in->reference);
	if (!inner.count)
		return OK;
	if (inner.count > PROMQL_STEPS_MAX)
		FAIL(e, ERR_FAILED, "a subquery has %zu steps, more than %d; make its step longer",
		     inner.count, (int)PROMQL_STEPS_MAX);
	TRY(promql_node(run, &inner, q->expr, &operand, e));
	must(operand.kind == PROMQL_OPERAND_SOURCE);
	struct promql_source *s = operand.source;
	in->source = s;
	in->labels = s->labels;
	in->drop_name = s->drop_name;
	in->count = s->count;
	in->same_name = s->same_name;
	return OK;
}

static errc open_selector(struct promql_input *in, const struct promql_grid *grid,
			  const struct promql_matrix *matrix, struct err *e)
{
	const struct promql_vector *v = &matrix->selector->vector;
	struct promql_run *run = in->run;
	struct selected selected;
	in->reference = promql_reference_of(run, grid, &v->time);
	in->range_ms = matrix->range_ms;
	in->anchored = v->anchored;
	in->smoothed = v->smoothed;
	in->from = in->reference.first - matrix->range_ms + 1;
	in->to = in->reference.first + (int64_t)(grid->count - 1) * in->reference.step;
	if (v->anchored || v->smoothed)
		in->from -= run->query.lookback_ms;
	if (v->smoothed)
		in->to += run->query.lookback_ms;
	TRY(select_series(run, v->matchers, v->matcher_count, in->from, in->to, &selected, e));
	in->selection = selected.selection;
	in->labels = selected.labels;
	in->count = selected.count;
	in->same_name = has_one_name(v->matchers, v->matcher_count);
	return OK;
}

errc promql_input_open(struct promql_run *run, const struct promql_grid *grid,
		       const struct promql_expr *expr, struct promql_input *ret, struct err *e)
{
	expr = promql_unwrap(expr);
	*ret = (struct promql_input){ .run = run };
	TRY(promql_alloc(run, run->worker_count, sizeof(*ret->workers), (void **)&ret->workers, e));
	if (expr->kind == PROMQL_SUBQUERY)
		return open_subquery(ret, grid, &expr->subquery, e);
	must(expr->kind == PROMQL_MATRIX);
	return open_selector(ret, grid, &expr->matrix, e);
}

void promql_input_close(struct promql_input *in)
{
	if (!in->run)
		return;
	for (unsigned i = 0; in->workers && i < in->run->worker_count; i++) {
		struct promql_input_worker *w = &in->workers[i];
		metrics_samples_done(&w->samples);
		promql_free(in->run, w->times);
		promql_free(in->run, w->values);
		promql_free(in->run, w->histograms);
	}
	promql_free(in->run, in->workers);
	promql_source_free(in->source);
	in->run = NULL;
}

static errc input_room(struct promql_input *in, struct promql_input_worker *w, size_t count,
		       struct err *e)
{
	if (count <= w->room)
		return OK;
	promql_free(in->run, w->times);
	promql_free(in->run, w->values);
	promql_free(in->run, w->histograms);
	w->times = NULL;
	w->values = NULL;
	w->histograms = NULL;
	w->room = 0;
	size_t room = count + count / 2;
	TRY(promql_alloc(in->run, room, sizeof(*w->times), (void **)&w->times, e));
	TRY(promql_alloc(in->run, room, sizeof(*w->values), (void **)&w->values, e));
	TRY(promql_alloc(in->run, room, sizeof(*w->histograms), (void **)&w->histograms, e));
	w->room = room;
	return OK;
}

static errc column_samples(struct promql_input *in, unsigned worker, size_t i,
			   struct promql_input_samples *ret, struct err *e)
{
	struct promql_source *s = in->source;
	struct promql_input_worker *w = &in->workers[worker];
	struct promql_column c;
	size_t count = 0;
	TRY(input_room(in, w, s->grid.count, e));
	TRY(s->column(s, worker, i, &c, e));
	bool any = false;
	for (size_t step = 0; step < s->grid.count; step++) {
		if (!promql_has(&c, step))
			continue;
		w->times[count] = promql_grid_time(&s->grid, step);
		w->values[count] = c.values[step];
		w->histograms[count] = promql_histogram(&c, step);
		any |= w->histograms[count] != NULL;
		count++;
	}
	*ret = (struct promql_input_samples){
		.times = w->times,
		.values = w->values,
		.histograms = any ? w->histograms : NULL,
		.count = count,
		/* without gaps it is the grid, for all series the same */
		.times_key = count == s->grid.count ? 1 : 0,
	};
	return OK;
}

/* Up to where there is surely no NaN, and so no stale marker; mostly that is COUNT. */
static size_t first_nan(const double *values, size_t count)
{
	typedef double pair __attribute__((vector_size(16), aligned(8)));
	typedef int64_t flags __attribute__((vector_size(16)));
	size_t i = 0;
	for (; i + 8 <= count; i += 8) {
		const pair *p = (const pair *)(values + i);
		flags nan = ((p[0] != p[0]) | (p[1] != p[1])) | ((p[2] != p[2]) | (p[3] != p[3]));
		if (nan[0] | nan[1])
			return i;
	}
	return i;
}

static bool has_stale(const struct metrics_samples *s)
{
	uint64_t found = 0;
	for (size_t i = first_nan(s->values, s->count); i < s->count; i++)
		found |= (uint64_t)metrics_is_stale(s->values[i]);
	if (s->histograms)
		for (size_t i = 0; i < s->count; i++)
			found |= (uint64_t)(s->histograms[i] &&
					    metrics_is_stale(s->histograms[i]->sum));
	return found != 0;
}

static errc without_stale(struct promql_input *in, struct promql_input_worker *w,
			  struct promql_input_samples *ret, struct err *e)
{
	const struct metrics_samples *s = &w->samples;
	size_t count = 0;
	bool any = false;
	TRY(input_room(in, w, s->count, e));
	for (size_t i = 0; i < s->count; i++) {
		const struct histogram *h = s->histograms ? s->histograms[i] : NULL;
		if (metrics_is_stale(h ? h->sum : s->values[i]))
			continue;
		w->times[count] = s->times[i];
		w->values[count] = s->values[i];
		w->histograms[count++] = h;
		any |= h != NULL;
	}
	*ret = (struct promql_input_samples){
		.times = w->times,
		.values = w->values,
		.histograms = any ? w->histograms : NULL,
		.count = count,
	};
	return OK;
}

errc promql_input_read(struct promql_input *in, unsigned worker, size_t i,
		       struct promql_input_samples *ret, struct err *e)
{
	if (in->source)
		return column_samples(in, worker, i, ret, e);
	struct promql_input_worker *w = &in->workers[worker];
	TRY(metrics_selection_read(in->selection, i, in->from, in->to, &w->samples, e));
	if (has_stale(&w->samples))
		return without_stale(in, w, ret, e);
	*ret = (struct promql_input_samples){
		.times = w->samples.times,
		.values = w->samples.values,
		.histograms = w->samples.histograms,
		.count = w->samples.count,
		.times_key = w->samples.times_key,
	};
	return OK;
}
