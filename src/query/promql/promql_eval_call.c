#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "query/promql/histogram_math.h"
#include "query/promql/promql_eval_core.h"

/* ---- Calls and their arguments that are no vectors. */

static errc call_new(struct promql_run *run, const struct promql_grid *grid,
		     const struct promql_expr *expr, struct promql_eval_call **ret_call,
		     struct err *e)
{
	struct promql_eval_call *call;
	const double **scalars;
	str *strings;
	size_t count = expr->call.arg_count;
	TRY(promql_alloc(run, 1, sizeof(*call), (void **)&call, e));
	TRY(promql_alloc(run, count + 1, sizeof(*scalars), (void **)&scalars, e));
	TRY(promql_alloc(run, count + 1, sizeof(*strings), (void **)&strings, e));
	for (size_t i = 0; i < count; i++) {
		struct promql_operand operand;
		enum promql_type type = expr->call.args[i]->type;
		if (type != PROMQL_TYPE_SCALAR && type != PROMQL_TYPE_STRING)
			continue;
		TRY(promql_node(run, grid, expr->call.args[i], &operand, e));
		scalars[i] = operand.scalar;
		strings[i] = operand.string;
	}
	*call = (struct promql_eval_call){ .run = run,
					   .expr = expr,
					   .grid = *grid,
					   .arg_count = count,
					   .scalars = scalars,
					   .strings = strings };
	*ret_call = call;
	return OK;
}

static const struct promql_expr *arg_of_type(const struct promql_expr *expr, enum promql_type type)
{
	for (size_t i = 0; i < expr->call.arg_count; i++)
		if (expr->call.args[i]->type == type)
			return expr->call.args[i];
	return NULL;
}

/* ---- Functions of ranges. */

struct range_worker {
	uint64_t key; /* of the times that the bounds are of; 0: they are known_times */
	size_t key_count;
	time_ms *known_times;
	size_t known_room;
	uint32_t *begins, *ends;
	double *cache; /* of the kernel, for the same windows */
	bool cached;
	str noted; /* the last name that an info was given about */
};

struct range_source {
	struct promql_source base;
	struct promql_input input;
	struct promql_eval_call *call;
	const struct promql_function_body *body;
	struct range_worker *workers;
	struct promql_buffers *buffers;
};

/* The first sample after LIMIT, at FROM or later; probably STRIDE later, as the one before was. */
static uint32_t first_after(const struct promql_input_samples *samples, uint32_t from,
			    uint32_t stride, time_ms limit)
{
	uint32_t count = (uint32_t)samples->count;
	uint32_t at = count - from < stride ? count : from + stride;
	if (at > from && samples->times[at - 1] > limit)
		at = from;
	while (at < count && samples->times[at] <= limit)
		at++;
	return at;
}

/* The samples in (end - range, end] of each step; extended ones as struct promql_window says. */
static void find_windows(const struct range_source *s, const struct promql_input_samples *samples,
			 struct range_worker *w)
{
	const struct promql_input *in = &s->input;
	uint32_t count = (uint32_t)samples->count, begin = 0, end = 0, next, strides[2] = { 0, 0 };
	time_ms when = in->reference.first;
	for (size_t step = 0; step < s->base.grid.count; step++, when += in->reference.step) {
		next = first_after(samples, begin, strides[0], when - in->range_ms);
		strides[0] = next - begin;
		w->begins[step] = begin = next;
		next = first_after(samples, end, strides[1], when);
		strides[1] = next - end;
		w->ends[step] = end = next;
	}
	if (!in->anchored && !in->smoothed)
		return;
	when = in->reference.first;
	for (size_t step = 0; step < s->base.grid.count; step++, when += in->reference.step) {
		uint32_t before = w->begins[step], after = w->ends[step];
		time_ms start = when - in->range_ms, lookback = s->base.run->query.lookback_ms;
		if (before && samples->times[before - 1] > start - lookback)
			w->begins[step]--;
		bool exact = after && samples->times[after - 1] == when;
		if (in->smoothed && !exact && after < count &&
		    samples->times[after] <= when + lookback)
			w->ends[step]++;
	}
}

static errc eval_window(struct range_source *s, struct promql_eval_scope *scope,
			const struct promql_input_samples *samples, const struct range_worker *w,
			uint8_t *resets, size_t step, struct promql_sample *ret, struct err *e)
{
	const struct promql_input *in = &s->input;
	size_t begin = w->begins[step], end = w->ends[step];
	time_ms when = in->reference.first + (int64_t)step * in->reference.step;
	struct promql_window window = {
		.times = samples->times + begin,
		.values = samples->values + begin,
		.resets = resets ? resets + begin : NULL,
		.count = end - begin,
		.start = when - in->range_ms,
		.end = when,
		.anchored = in->anchored,
		.smoothed = in->smoothed,
		.step = step,
		.step_time = promql_grid_time(&s->base.grid, step),
	};
	*ret = (struct promql_sample){ 0 };
	if (begin >= end)
		return OK;
	for (size_t i = begin; samples->histograms && i < end && !window.histograms; i++)
		if (samples->histograms[i])
			window.histograms = samples->histograms + begin;
	return s->body->range(scope, &window, ret, e);
}

static errc eval_windows(struct range_source *s, struct promql_eval_scope *scope,
			 const struct promql_input_samples *samples, const struct range_worker *w,
			 struct promql_column *ret, struct err *e)
{
	uint8_t *resets = samples->histograms ? arena_alloc(scope->scratch, samples->count) : NULL;
	for (size_t step = 0; step < s->base.grid.count; step++) {
		struct promql_sample sample;
		if (step % 64 == 63) /* windows may be long */
			TRY(promql_check(s->base.run, e));
		TRY(eval_window(s, scope, samples, w, resets, step, &sample, e));
		if (!sample.present)
			continue;
		promql_set(ret, step, sample.value);
		if (sample.histogram)
			TRY(promql_buffers_histograms(s->base.run, &s->buffers[scope->worker], ret,
						      e));
		if (ret->histograms)
			ret->histograms[step] = sample.histogram;
	}
	return OK;
}

static bool has_float(const struct promql_column *c, size_t steps)
{
	for (size_t step = 0; step < steps; step++)
		if (promql_has(c, step) && !promql_histogram(c, step))
			return true;
	return false;
}

static bool is_counter_name(str name)
{
	return str_ends(name, STR("_total")) || str_ends(name, STR("_sum")) ||
	       str_ends(name, STR("_count")) || str_ends(name, STR("_bucket"));
}

static void note_no_counter(struct range_source *s, struct range_worker *w, str name,
			    const struct promql_column *c)
{
	if (!name.len || str_eq(name, w->noted) || is_counter_name(name) ||
	    !has_float(c, s->base.grid.count))
		return;
	w->noted = name;
	promql_annotate(s->base.run, PROMQL_INFO, s->call->expr->call.args[0]->start,
			"metric might not be a counter, name does not end in "
			"_total/_sum/_count/_bucket: \"%.*s\"",
			STR_ARG(name));
}

/* Series that are written together have the same times, and so the same windows. */
static errc know_windows(struct range_source *s, const struct promql_input_samples *samples,
			 struct range_worker *w, struct err *e)
{
	struct promql_run *run = s->base.run;
	size_t bytes = samples->count * sizeof(samples->times[0]);
	bool same = samples->count == w->key_count && samples->times_key == w->key;
	if (same && !w->key)
		same = memcmp(samples->times, w->known_times, bytes) == 0;
	if (same)
		return OK;
	find_windows(s, samples, w);
	w->cached = false;
	w->key = samples->times_key;
	w->key_count = samples->count;
	if (w->key)
		return OK;
	if (samples->count > w->known_room) {
		promql_free(run, w->known_times);
		w->known_times = NULL;
		w->known_room = w->key_count = 0;
		size_t room = samples->count + samples->count / 2;
		TRY(promql_alloc(run, room, sizeof(time_ms), (void **)&w->known_times, e));
		w->known_room = room;
		w->key_count = samples->count;
	}
	memcpy(w->known_times, samples->times, bytes);
	return OK;
}

static errc range_column(struct promql_source *source, unsigned worker, size_t i,
			 struct promql_column *ret, struct err *e)
{
	struct range_source *s = (struct range_source *)source;
	struct promql_input *in = &s->input;
	struct range_worker *w = &s->workers[worker];
	struct promql_input_samples samples;
	TRY(promql_input_read(in, worker, i, &samples, e));
	*ret = promql_buffers_clear(&s->buffers[worker]);
	if (!samples.count)
		return OK;
	TRY(know_windows(s, &samples, w, e));
	struct promql_eval_scope scope = {
		.call = s->call,
		.worker = worker,
		.scratch = &source->run->scratch[worker],
		.metric_name = labels_get(&in->labels[i], STR(LABEL_METRIC_NAME)),
	};
	if (s->body->kernel && !samples.histograms && !in->anchored && !in->smoothed) {
		struct promql_windows windows = {
			.times = samples.times,
			.values = samples.values,
			.count = samples.count,
			.begins = w->begins,
			.ends = w->ends,
			.step_count = source->grid.count,
			.first_end = in->reference.first,
			.end_step = in->reference.step,
			.range_ms = in->range_ms,
			.cache = w->cache,
			.cached = &w->cached,
		};
		TRY(s->body->kernel(&scope, &windows, ret, e));
	} else {
		TRY(eval_windows(s, &scope, &samples, w, ret, e));
	}
	if (s->body->counter)
		note_no_counter(s, w, scope.metric_name, ret);
	return OK;
}

static void range_done(struct promql_source *source)
{
	struct range_source *s = (struct range_source *)source;
	for (unsigned i = 0; s->workers && i < source->run->worker_count; i++) {
		promql_free(source->run, s->workers[i].known_times);
		promql_free(source->run, s->workers[i].begins);
		promql_free(source->run, s->workers[i].ends);
		promql_free(source->run, s->workers[i].cache);
	}
	promql_free(source->run, s->workers);
	promql_buffers_free(source->run, s->buffers);
	promql_input_close(&s->input);
}

/* Names of the functions that take the modifier, as a message lists them. */
static void list_taking(bool anchored, struct buf *into)
{
	for (int id = 0; id < PROMQL_FUNCTION_COUNT; id++) {
		const struct promql_function_body *b =
			promql_function_body((enum promql_function_id)id);
		if (!(anchored ? b->takes_anchored : b->takes_smoothed))
			continue;
		buf_add_c(into, into->len ? ", " : "");
		buf_add_c(into, promql_function_of((enum promql_function_id)id)->name);
	}
}

static errc check_modifiers(const struct promql_eval_call *call,
			    const struct promql_function_body *body, const struct promql_input *in,
			    struct err *e)
{
	if ((!in->anchored || body->takes_anchored) && (!in->smoothed || body->takes_smoothed))
		return OK;
	struct buf names = buf_init(1024);
	list_taking(in->anchored, &names);
	errc rc = err_fill(e, ERR_FAILED, 0, __FILE__, __LINE__,
			   "%s modifier can only be used with: %s - not with %s",
			   in->anchored ? "anchored" : "smoothed", buf_cstr(&names),
			   call->expr->call.function->name);
	buf_done(&names);
	return rc;
}

static errc range_source_new(struct promql_eval_call *call, const struct promql_function_body *body,
			     struct promql_source **ret_source, struct err *e)
{
	struct range_source *s;
	struct promql_run *run = call->run;
	size_t steps = call->grid.count;
	TRY(promql_source_new(run, &call->grid, sizeof(*s), &s, e));
	s->base.column = range_column;
	s->base.done = range_done;
	s->base.costly = true;
	s->call = call;
	s->body = body;
	TRY(promql_input_open(run, &call->grid, arg_of_type(call->expr, PROMQL_TYPE_MATRIX),
			      &s->input, e));
	TRY(check_modifiers(call, body, &s->input, e));
	s->base.labels = s->input.labels;
	s->base.drop_name = s->input.drop_name;
	s->base.count = s->input.count;
	s->base.same_name = s->input.same_name;
	TRY(promql_alloc(run, run->worker_count, sizeof(*s->workers), (void **)&s->workers, e));
	for (unsigned i = 0; i < run->worker_count; i++) {
		struct range_worker *w = &s->workers[i];
		TRY(promql_alloc(run, steps, sizeof(*w->begins), (void **)&w->begins, e));
		TRY(promql_alloc(run, steps, sizeof(*w->ends), (void **)&w->ends, e));
		TRY(promql_alloc(run, steps * body->cache, sizeof(*w->cache), (void **)&w->cache,
				 e));
	}
	TRY(promql_buffers_new(run, steps, &s->buffers, e));
	*ret_source = &s->base;
	return OK;
}

static errc range_call(struct promql_eval_call *call, const struct promql_function_body *body,
		       struct promql_operand *ret, struct err *e)
{
	ret->kind = PROMQL_OPERAND_SOURCE;
	TRY(range_source_new(call, body, &ret->source, e));
	return body->keeps_name ? OK : promql_source_drop_names(&ret->source, true, e);
}

/* ---- Functions of samples. */

struct sample_source {
	struct promql_source base;
	struct promql_eval_call *call;
	const struct promql_function_body *body;
	struct promql_buffers *buffers;
};

static errc eval_samples(struct sample_source *s, struct promql_eval_scope *scope,
			 const struct promql_column *from, struct promql_column *into,
			 struct err *e)
{
	for (size_t step = 0; step < s->base.grid.count; step++) {
		struct promql_sample out = { 0 };
		if (!promql_has(from, step))
			continue;
		struct promql_sample in = { true, from->values[step],
					    promql_histogram(from, step) };
		TRY(s->body->sample(scope, step, &in, &out, e));
		if (!out.present)
			continue;
		promql_set(into, step, out.value);
		if (out.histogram)
			TRY(promql_buffers_histograms(s->base.run, &s->buffers[scope->worker], into,
						      e));
		if (into->histograms)
			into->histograms[step] = out.histogram;
	}
	return OK;
}

static errc sample_column(struct promql_source *source, unsigned worker, size_t i,
			  struct promql_column *ret, struct err *e)
{
	struct sample_source *s = (struct sample_source *)source;
	struct promql_source *in = source->inputs[0];
	struct promql_column from;
	size_t words = PROMQL_WORDS(source->grid.count);
	TRY(in->column(in, worker, i, &from, e));
	*ret = promql_buffers_clear(&s->buffers[worker]);
	if (s->body->map && (!from.histograms || !s->body->sample)) {
		s->body->map(s->call, from.values, ret->values, source->grid.count);
		memcpy(ret->present, from.present, words * sizeof(ret->present[0]));
		for (size_t step = 0; from.histograms && step < source->grid.count; step++)
			if (from.histograms[step])
				promql_clear(ret, step);
		return OK;
	}
	struct promql_eval_scope scope = {
		.call = s->call,
		.worker = worker,
		.scratch = &source->run->scratch[worker],
		.metric_name = labels_get(&in->labels[i], STR(LABEL_METRIC_NAME)),
	};
	return eval_samples(s, &scope, &from, ret, e);
}

static void sample_done(struct promql_source *source)
{
	promql_buffers_free(source->run, ((struct sample_source *)source)->buffers);
}

static errc time_source(struct promql_eval_call *call, struct promql_source **ret_source,
			struct err *e)
{
	struct promql_table *t;
	TRY(promql_table_new(call->run, &call->grid, 1, &t, e));
	promql_table_add(t, (struct labels){ 0 }, false);
	struct promql_column c = promql_table_column(t, 0);
	for (size_t step = 0; step < call->grid.count; step++)
		promql_set(&c, step, (double)promql_grid_time(&call->grid, step) / 1000);
	return promql_source_of_table(t, ret_source, e);
}

static errc sample_call(struct promql_eval_call *call, const struct promql_function_body *body,
			struct promql_operand *ret, struct err *e)
{
	struct sample_source *s;
	struct promql_operand in = { 0 };
	const struct promql_expr *arg = arg_of_type(call->expr, PROMQL_TYPE_VECTOR);
	if (arg) {
		TRY(promql_node(call->run, &call->grid, arg, &in, e));
	} else {
		must(body->of_time);
		TRY(time_source(call, &in.source, e));
	}
	TRY(promql_source_new(call->run, &call->grid, sizeof(*s), &s, e));
	s->base.column = sample_column;
	s->base.done = sample_done;
	s->base.labels = in.source->labels;
	s->base.drop_name = in.source->drop_name;
	s->base.count = in.source->count;
	s->base.same_name = in.source->same_name;
	s->base.costly = in.source->costly;
	s->base.inputs[0] = in.source;
	s->call = call;
	s->body = body;
	TRY(promql_buffers_new(call->run, call->grid.count, &s->buffers, e));
	ret->kind = PROMQL_OPERAND_SOURCE;
	ret->source = &s->base;
	return body->keeps_name ? OK : promql_source_drop_names(&ret->source, false, e);
}

static errc negate_sample(struct promql_eval_scope *scope, size_t step,
			  const struct promql_sample *in, struct promql_sample *ret, struct err *e)
{
	(void)step;
	*ret = (struct promql_sample){ true, -in->value, NULL };
	if (!in->histogram)
		return OK;
	struct histogram *negated;
	TRY(histogram_mul(scope->scratch, in->histogram, -1, &negated, e));
	ret->histogram = negated;
	return OK;
}

static void negate_map(const struct promql_eval_call *call, const double *from, double *into,
		       size_t count)
{
	(void)call;
	for (size_t i = 0; i < count; i++)
		into[i] = -from[i];
}

errc promql_negate(struct promql_source **source, struct err *e)
{
	static const struct promql_function_body body = { .sample = negate_sample,
							  .map = negate_map };
	struct promql_source *in = *source;
	struct sample_source *s;
	TRY(promql_source_new(in->run, &in->grid, sizeof(*s), &s, e));
	s->base.column = sample_column;
	s->base.done = sample_done;
	s->base.labels = in->labels;
	s->base.drop_name = in->drop_name;
	s->base.count = in->count;
	s->base.same_name = in->same_name;
	s->base.costly = in->costly;
	s->base.inputs[0] = in;
	s->body = &body;
	TRY(promql_buffers_new(in->run, in->grid.count, &s->buffers, e));
	*source = &s->base;
	return promql_source_drop_names(source, true, e);
}

/* ---- Functions of everything. */

static errc window_is_present(struct promql_eval_scope *scope, const struct promql_window *w,
			      struct promql_sample *ret, struct err *e)
{
	(void)scope, (void)w, (void)e;
	*ret = (struct promql_sample){ true, 1, NULL };
	return OK;
}

static errc whole_arg(struct promql_eval_call *call, size_t i, struct promql_value *ret,
		      struct err *e)
{
	static const struct promql_function_body present = { .range = window_is_present,
							     .keeps_name = true };
	const struct promql_expr *arg = call->expr->call.args[i];
	struct promql_operand operand;
	bool is_info_labels = call->expr->call.function->id == PROMQL_FN_INFO && i == 1;
	switch (arg->type) {
	case PROMQL_TYPE_SCALAR:
		ret->kind = PROMQL_IS_SCALAR;
		/* the body reads it, it stays the call's */
		ret->scalar = (double *)(uintptr_t)call->scalars[i];
		return OK;
	case PROMQL_TYPE_STRING:
		ret->kind = PROMQL_IS_STRING;
		ret->string = call->strings[i];
		return OK;
	case PROMQL_TYPE_MATRIX:
		ret->kind = PROMQL_IS_VECTOR;
		TRY(range_source_new(call, &present, &operand.source, e));
		return promql_table_of(operand.source, &ret->table, e);
	case PROMQL_TYPE_VECTOR:
		ret->kind = PROMQL_IS_VECTOR;
		if (is_info_labels)
			return OK;
		TRY(promql_node(call->run, &call->grid, arg, &operand, e));
		return promql_table_of(operand.source, &ret->table, e);
	}
	return OK;
}

static errc whole_call(struct promql_eval_call *call, const struct promql_function_body *body,
		       struct promql_operand *ret, struct err *e)
{
	struct promql_value *args, value = { 0 };
	TRY(promql_alloc(call->run, call->arg_count + 1, sizeof(*args), (void **)&args, e));
	for (size_t i = 0; i < call->arg_count; i++)
		TRY(whole_arg(call, i, &args[i], e));
	TRY(body->whole(call, args, &value, e));
	for (size_t i = 0; i < call->arg_count; i++)
		promql_table_free(args[i].table);
	promql_free(call->run, args);
	ret->scalar = value.scalar;
	ret->string = value.string;
	if (value.kind == PROMQL_IS_SCALAR) {
		ret->kind = PROMQL_OPERAND_SCALAR;
		return OK;
	}
	must(value.kind == PROMQL_IS_VECTOR && value.table);
	ret->kind = PROMQL_OPERAND_SOURCE;
	bool ordered = value.table->ordered;
	TRY(promql_table_unique(value.table, e));
	value.table->ordered = ordered;
	return promql_source_of_table(value.table, &ret->source, e);
}

errc promql_call_node(struct promql_run *run, const struct promql_grid *grid,
		      const struct promql_expr *expr, struct promql_operand *ret, struct err *e)
{
	enum promql_function_id id = expr->call.function->id;
	const struct promql_function_body *body = promql_function_body(id);
	struct promql_eval_call *call;
	if (id == PROMQL_FN_TIMESTAMP) {
		const struct promql_expr *arg = promql_unwrap(expr->call.args[0]);
		if (arg->kind == PROMQL_VECTOR) {
			ret->kind = PROMQL_OPERAND_SOURCE;
			TRY(promql_select_node(run, grid, &arg->vector, true, &ret->source, e));
			return promql_source_drop_names(&ret->source, false, e);
		}
	}
	TRY(call_new(run, grid, expr, &call, e));
	if (body->range)
		return range_call(call, body, ret, e);
	if (body->sample || body->map)
		return sample_call(call, body, ret, e);
	must(body->whole);
	return whole_call(call, body, ret, e);
}
