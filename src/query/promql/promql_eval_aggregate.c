/*
 * Aggregations to one number a group and step. Columns stream through: what is kept is a row of
 * accumulators a group. With many groups each is summed up by one worker in the order of its
 * series; with few the series are cut into AGGREGATE_SLICES slices whose sums are joined in order,
 * so that the result does not depend on how many workers there are.
 */
#include "query/promql/promql_eval_aggregate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "query/promql/histogram_math.h"

enum { AGGREGATE_SLICES = 4, FLOAT_SEEN = 1, HISTOGRAM_SEEN = 2, INCOMPATIBLE = 4, MEAN_MODE = 8 };

/* Of one group in one slice. */
struct row {
	double *a, *b; /* sum and compensation; mean and squares */
	double *count;
	uint8_t *flags;
	struct histogram_sum **histograms; /* of each step, made when needed */
};

struct summing {
	struct aggregation *aggregation;
	size_t slice_count;
	struct row *rows; /* slice by slice, each with all groups */
	double *numbers;
	uint8_t *flags;
	bool annotated; /* atomic; that histograms are left out */
};

void aggregate_note_histogram(const struct aggregation *a)
{
	promql_annotate(a->run, PROMQL_INFO, a->expr->aggregate.expr->start,
			"ignored histogram in %s aggregation", promql_aggregation_text(a->op));
}

/* ---- Floats. */

static void add_sum(struct row *r, const struct promql_column *c, size_t step)
{
	promql_kahan_add(c->values[step], &r->a[step], &r->b[step]);
	r->count[step] += 1;
}

/* All 64 steps of a word at once. */
static void add_sums(struct row *r, const double *restrict values, size_t begin, size_t count)
{
	double *restrict a = r->a + begin, *restrict b = r->b + begin,
			 *restrict n = r->count + begin;
	for (size_t i = 0; i < count; i++) {
		double v = values[i], sum = a[i], t = sum + v;
		double large = fabs(sum) >= fabs(v) ? sum : v;
		double small = fabs(sum) >= fabs(v) ? v : sum;
		double comp = b[i] + ((large - t) + small);
		b[i] = isinf(t) ? 0 : comp;
		a[i] = t;
		n[i] += 1;
	}
}

/* As Prometheus does it: by the sum, until that overflows; then a running mean. */
static void add_mean(struct row *r, size_t step, double v)
{
	double n = r->count[step] += 1;
	if (!(r->flags[step] & MEAN_MODE)) {
		double sum = r->a[step], comp = r->b[step];
		promql_kahan_add(v, &sum, &comp);
		if (!isinf(sum) || n == 1) {
			r->a[step] = sum;
			r->b[step] = comp;
			return;
		}
		r->flags[step] |= MEAN_MODE;
		r->a[step] /= n - 1;
		r->b[step] /= n - 1;
	}
	if (isinf(r->a[step])) {
		if (isinf(v) && (r->a[step] > 0) == (v > 0))
			return;
		if (!isinf(v) && !isnan(v))
			return;
	}
	double q = (n - 1) / n;
	double mean = q * r->a[step], comp = q * r->b[step];
	promql_kahan_add(v / n, &mean, &comp);
	r->a[step] = mean;
	r->b[step] = comp;
}

static void add_variance(struct row *r, size_t step, double v)
{
	double n = r->count[step] += 1;
	if (n == 1) {
		r->a[step] = v;
		r->b[step] = isnan(v) || isinf(v) ? (double)NAN : 0;
		return;
	}
	double delta = v - r->a[step];
	r->a[step] += delta / n;
	r->b[step] += delta * (v - r->a[step]);
}

static void add_extreme(struct row *r, enum promql_aggregation op, size_t step, double v)
{
	double have = r->a[step];
	bool better = op == PROMQL_MIN ? v < have : v > have;
	if (r->count[step] == 0 || better || isnan(have))
		r->a[step] = v;
	r->count[step] += 1;
}

static void add_float(struct row *r, enum promql_aggregation op, const struct promql_column *c,
		      size_t step)
{
	switch (op) {
	case PROMQL_SUM:
		add_sum(r, c, step);
		return;
	case PROMQL_AVG:
		add_mean(r, step, c->values[step]);
		return;
	case PROMQL_STDDEV:
	case PROMQL_STDVAR:
		add_variance(r, step, c->values[step]);
		return;
	case PROMQL_MIN:
	case PROMQL_MAX:
		add_extreme(r, op, step, c->values[step]);
		return;
	default: /* count and group */
		r->count[step] += 1;
	}
}

static void add_floats(struct row *r, enum promql_aggregation op, const struct promql_column *c,
		       size_t steps)
{
	for (size_t w = 0; w < PROMQL_WORDS(steps); w++) {
		size_t begin = w * 64, n = steps - begin < 64 ? steps - begin : 64;
		uint64_t bits = c->present[w];
		if (n < 64)
			bits &= (UINT64_C(1) << n) - 1;
		uint64_t all = n < 64 ? (UINT64_C(1) << n) - 1 : ~UINT64_C(0);
		if (op == PROMQL_SUM && bits == all) {
			add_sums(r, c->values + begin, begin, n);
			continue;
		}
		for (; bits; bits &= bits - 1)
			add_float(r, op, c, begin + (size_t)__builtin_ctzll(bits));
	}
}

/* ---- Histograms. */

static errc sum_of(struct summing *s, struct row *r, size_t step, struct histogram_sum **ret,
		   struct err *e)
{
	struct promql_run *run = s->aggregation->run;
	if (!r->histograms)
		TRY(promql_alloc(run, s->aggregation->grid.count, sizeof(r->histograms[0]),
				 (void **)&r->histograms, e));
	if (!r->histograms[step]) {
		TRY(promql_alloc(run, 1, sizeof(**r->histograms), (void **)&r->histograms[step],
				 e));
		r->histograms[step]->compensated = true;
	}
	*ret = r->histograms[step];
	return OK;
}

static void note_addition(const struct aggregation *a, const struct histogram_notes *notes)
{
	size_t position = a->expr->aggregate.expr->start;
	if (notes->reset_collision)
		promql_annotate(a->run, PROMQL_WARNING, position,
				"conflicting counter resets during histogram aggregation");
	if (notes->bounds_reconciled)
		promql_annotate(a->run, PROMQL_INFO, position,
				"mismatched custom buckets were reconciled during aggregation");
}

static void note_incompatible(const struct aggregation *a, str name)
{
	promql_annotate(a->run, PROMQL_WARNING, a->expr->aggregate.expr->start,
			"vector contains a mix of histograms with exponential and custom buckets "
			"schemas for metric name \"%.*s\"",
			STR_ARG(name));
}

static errc add_histogram(struct summing *s, struct row *r, size_t step, str name,
			  const struct histogram *h, struct err *e)
{
	const struct aggregation *a = s->aggregation;
	struct histogram_notes notes = { 0 };
	struct histogram_sum *sum;
	switch (a->op) {
	case PROMQL_COUNT:
	case PROMQL_GROUP:
		r->count[step] += 1;
		return OK;
	case PROMQL_SUM:
	case PROMQL_AVG:
		break;
	default:
		if (!__atomic_exchange_n(&s->annotated, true, __ATOMIC_RELAXED))
			aggregate_note_histogram(a);
		return OK;
	}
	r->flags[step] |= HISTOGRAM_SEEN;
	r->count[step] += 1;
	TRY(sum_of(s, r, step, &sum, e));
	if (!sum->set)
		return histogram_sum_set(sum, h, e);
	if (!histogram_sum_takes(sum, h)) {
		r->flags[step] |= INCOMPATIBLE;
		note_incompatible(a, name);
		return OK;
	}
	TRY(histogram_sum_add(sum, h, &notes, e));
	note_addition(a, &notes);
	return OK;
}

static errc add_mixed(struct summing *s, struct row *r, const struct labels *labels,
		      const struct promql_column *c, struct err *e)
{
	str name = labels_get(labels, STR(LABEL_METRIC_NAME));
	for (size_t step = 0; step < s->aggregation->grid.count; step++) {
		if (!promql_has(c, step))
			continue;
		if (c->histograms[step]) {
			TRY(add_histogram(s, r, step, name, c->histograms[step], e));
			continue;
		}
		r->flags[step] |= FLOAT_SEEN;
		add_float(r, s->aggregation->op, c, step);
	}
	return OK;
}

/* Floats that came as pure columns are not marked step by step: they are when a histogram comes. */
static void mark_floats(struct row *r, size_t steps)
{
	for (size_t step = 0; step < steps; step++)
		if (r->count[step] > 0 && !(r->flags[step] & HISTOGRAM_SEEN))
			r->flags[step] |= FLOAT_SEEN;
}

static errc add_column(struct summing *s, unsigned worker, struct row *r, uint32_t series,
		       struct err *e)
{
	struct aggregation *a = s->aggregation;
	struct promql_column c;
	TRY(a->source->column(a->source, worker, series, &c, e));
	if (c.histograms) {
		mark_floats(r, a->grid.count);
		TRY(add_mixed(s, r, &a->source->labels[series], &c, e));
	} else {
		add_floats(r, a->op, &c, a->grid.count);
		if (r->histograms)
			for (size_t step = 0; step < a->grid.count; step++)
				if (promql_has(&c, step))
					r->flags[step] |= FLOAT_SEEN;
	}
	promql_scratch_clear(a->run, worker);
	return OK;
}

/* ---- Work. */

static errc sum_groups(void *ctx, unsigned worker, size_t begin, size_t end, struct err *e)
{
	struct summing *s = ctx;
	const struct aggregation *a = s->aggregation;
	for (size_t g = begin; g < end; g++)
		for (uint32_t i = a->first[g]; i < a->first[g + 1]; i++)
			TRY(add_column(s, worker, &s->rows[g], a->members[i], e));
	return OK;
}

static errc sum_slices(void *ctx, unsigned worker, size_t begin, size_t end, struct err *e)
{
	struct summing *s = ctx;
	const struct aggregation *a = s->aggregation;
	for (size_t slice = begin; slice < end; slice++) {
		size_t from = a->source->count * slice / s->slice_count,
		       to = a->source->count * (slice + 1) / s->slice_count;
		for (size_t i = from; i < to; i++)
			TRY(add_column(s, worker, &s->rows[slice * a->group_count + a->group_of[i]],
				       (uint32_t)i, e));
	}
	return OK;
}

/* ---- Joining slices. */

static void join_mean(struct row *into, const struct row *from, size_t step)
{
	double m = into->count[step], n = from->count[step], both = m + n;
	bool plain = !((into->flags[step] | from->flags[step]) & MEAN_MODE);
	double sum = into->a[step], comp = into->b[step];
	if (plain) {
		promql_kahan_add(from->a[step], &sum, &comp);
		comp += from->b[step];
		if (!isinf(sum) || isinf(into->a[step]) || isinf(from->a[step])) {
			into->a[step] = sum;
			into->b[step] = isinf(sum) ? 0 : comp;
			into->count[step] = both;
			return;
		}
	}
	double x = into->flags[step] & MEAN_MODE ? into->a[step] + into->b[step]
						 : into->a[step] / m + into->b[step] / m;
	double y = from->flags[step] & MEAN_MODE ? from->a[step] + from->b[step]
						 : from->a[step] / n + from->b[step] / n;
	into->flags[step] |= MEAN_MODE;
	into->a[step] = x * (m / both) + y * (n / both);
	into->b[step] = 0;
	into->count[step] = both;
}

static void join_floats(struct row *into, const struct row *from, enum promql_aggregation op,
			size_t step)
{
	double m = into->count[step], n = from->count[step];
	if (n == 0)
		return;
	if (m == 0) {
		into->a[step] = from->a[step];
		into->b[step] = from->b[step];
		into->count[step] = n;
		into->flags[step] |= from->flags[step];
		return;
	}
	switch (op) {
	case PROMQL_SUM:
		promql_kahan_add(from->a[step], &into->a[step], &into->b[step]);
		if (!isinf(into->a[step]))
			into->b[step] += from->b[step];
		break;
	case PROMQL_AVG:
		join_mean(into, from, step);
		return;
	case PROMQL_STDDEV:
	case PROMQL_STDVAR: {
		double delta = from->a[step] - into->a[step];
		into->b[step] += from->b[step] + delta * delta * (m * n / (m + n));
		into->a[step] += delta * (n / (m + n));
		break;
	}
	case PROMQL_MIN:
	case PROMQL_MAX:
		add_extreme(into, op, step, from->a[step]);
		break;
	default:
		break;
	}
	into->count[step] = m + n;
}

static errc join_histograms(struct summing *s, struct row *into, const struct row *from,
			    size_t step, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(64 << 20);
	struct histogram_notes notes = { 0 };
	struct histogram_sum *sum;
	struct histogram *h = NULL;
	if (!from->histograms || !from->histograms[step] || !from->histograms[step]->set)
		return OK;
	TRY(histogram_sum_result(from->histograms[step], &scratch, &h, e));
	TRY(sum_of(s, into, step, &sum, e));
	if (!sum->set)
		return histogram_sum_set(sum, h, e);
	if (!histogram_sum_takes(sum, h)) {
		into->flags[step] |= INCOMPATIBLE;
		note_incompatible(s->aggregation, STR(""));
		return OK;
	}
	TRY(histogram_sum_add(sum, h, &notes, e));
	note_addition(s->aggregation, &notes);
	return OK;
}

static errc join_rows(struct summing *s, struct row *into, struct row *from, struct err *e)
{
	size_t steps = s->aggregation->grid.count;
	bool histograms = into->histograms || from->histograms;
	if (histograms) {
		mark_floats(into, steps);
		mark_floats(from, steps);
	}
	for (size_t step = 0; step < steps; step++) {
		uint8_t flags = into->flags[step] | from->flags[step];
		if (flags & HISTOGRAM_SEEN) {
			TRY(join_histograms(s, into, from, step, e));
			into->count[step] += from->count[step];
			into->flags[step] |= from->flags[step];
			continue;
		}
		join_floats(into, from, s->aggregation->op, step);
		into->flags[step] |= from->flags[step];
	}
	return OK;
}

/* ---- Results. */

static double float_result(const struct row *r, enum promql_aggregation op, size_t step)
{
	double n = r->count[step];
	switch (op) {
	case PROMQL_SUM:
		return r->a[step] + r->b[step];
	case PROMQL_AVG:
		return r->flags[step] & MEAN_MODE ? r->a[step] + r->b[step]
						  : r->a[step] / n + r->b[step] / n;
	case PROMQL_STDVAR:
		return r->b[step] / n;
	case PROMQL_STDDEV:
		return sqrt(r->b[step] / n);
	case PROMQL_COUNT:
		return n;
	case PROMQL_GROUP:
		return 1;
	default:
		return r->a[step];
	}
}

static errc histogram_result(struct aggregation *a, struct promql_table *t, size_t group,
			     struct row *r, size_t step, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(64 << 20);
	struct histogram *h = NULL;
	if (r->flags[step] & INCOMPATIBLE)
		return OK;
	if (r->flags[step] & FLOAT_SEEN) {
		promql_annotate(a->run, PROMQL_WARNING, a->expr->aggregate.expr->start,
				"encountered a mix of histograms and floats for aggregation");
		return OK;
	}
	if (a->op == PROMQL_AVG)
		histogram_sum_div(r->histograms[step], r->count[step]);
	TRY(histogram_sum_result(r->histograms[step], &scratch, &h, e));
	return promql_table_set_histogram(t, 0, group, step, h, e);
}

static errc give(struct summing *s, struct promql_table **ret, struct err *e)
{
	struct aggregation *a = s->aggregation;
	struct promql_table *t;
	TRY(promql_table_new(a->run, &a->grid, a->group_count, &t, e));
	for (size_t g = 0; g < a->group_count; g++) {
		struct row *r = &s->rows[g];
		promql_table_add(t, a->labels[g], false);
		struct promql_column c = promql_table_column(t, g);
		for (size_t step = 0; step < a->grid.count; step++) {
			if (r->count[step] == 0)
				continue;
			if (r->flags[step] & HISTOGRAM_SEEN)
				TRY(histogram_result(a, t, g, r, step, e));
			else
				promql_set(&c, step, float_result(r, a->op, step));
		}
	}
	*ret = t;
	return OK;
}

static errc make_rows(struct summing *s, struct err *e)
{
	const struct aggregation *a = s->aggregation;
	size_t count = s->slice_count * a->group_count, steps = a->grid.count;
	TRY(promql_alloc(a->run, count + 1, sizeof(s->rows[0]), (void **)&s->rows, e));
	TRY(promql_alloc(a->run, count * steps + 1, 3 * sizeof(double), (void **)&s->numbers, e));
	TRY(promql_alloc(a->run, count * steps + 1, 1, (void **)&s->flags, e));
	for (size_t i = 0; i < count; i++)
		s->rows[i] = (struct row){ .a = s->numbers + 3 * i * steps,
					   .b = s->numbers + (3 * i + 1) * steps,
					   .count = s->numbers + (3 * i + 2) * steps,
					   .flags = s->flags + i * steps };
	return OK;
}

static void free_rows(struct summing *s)
{
	const struct aggregation *a = s->aggregation;
	size_t count = s->slice_count * a->group_count;
	for (size_t i = 0; s->rows && i < count; i++) {
		for (size_t step = 0; s->rows[i].histograms && step < a->grid.count; step++) {
			if (s->rows[i].histograms[step])
				histogram_sum_done(s->rows[i].histograms[step]);
			promql_free(a->run, s->rows[i].histograms[step]);
		}
		promql_free(a->run, s->rows[i].histograms);
	}
	promql_free(a->run, s->rows);
	promql_free(a->run, s->numbers);
	promql_free(a->run, s->flags);
}

errc aggregate_numbers(struct aggregation *a, struct promql_table **ret, struct err *e)
{
	bool by_groups = aggregate_by_groups(a);
	struct summing s = { .aggregation = a, .slice_count = by_groups ? 1 : AGGREGATE_SLICES };
	errc rc = make_rows(&s, e);
	if (rc == OK && by_groups)
		rc = promql_parallel(a->run, a->group_count, 1, sum_groups, &s, e);
	else if (rc == OK)
		rc = promql_parallel(a->run, s.slice_count, 1, sum_slices, &s, e);
	for (size_t slice = 1; slice < s.slice_count; slice++)
		for (size_t g = 0; g < a->group_count && rc == OK; g++)
			rc = join_rows(&s, &s.rows[g], &s.rows[slice * a->group_count + g], e);
	if (rc == OK)
		rc = give(&s, ret, e);
	free_rows(&s);
	return rc;
}

/* ---- The node. */

static errc make_groups(struct aggregation *a, struct err *e)
{
	const struct promql_expr *expr = a->expr;
	struct promql_run *run = a->run;
	struct promql_label_choice choice;
	struct promql_index *x;
	const struct promql_source *s = a->source;
	TRY(promql_choice_init(&run->labels, &expr->aggregate.grouping, !expr->aggregate.without,
			       &choice, e));
	TRY(promql_index_new(run, 64, &x, e));
	TRY(promql_alloc(run, s->count + 1, sizeof(uint32_t), (void **)&a->group_of, e));
	TRY(promql_alloc(run, s->count + 1, sizeof(uint32_t), (void **)&a->members, e));
	a->labels = arena_array(&run->labels, s->count + 1, sizeof(a->labels[0]));
	TRY(arena_check(&run->labels, "the labels of the query", e));
	for (size_t i = 0; i < s->count; i++) {
		uint32_t group;
		TRY(promql_index_put(x, &choice, &s->labels[i], &group, e));
		if (group == a->group_count)
			a->labels[a->group_count++] = promql_choice_labels(&run->labels, &choice,
									   &s->labels[i]);
		a->group_of[i] = group;
	}
	promql_index_free(x);
	TRY(promql_alloc(run, a->group_count + 2, sizeof(uint32_t), (void **)&a->first, e));
	return OK;
}

/* Members of each group, in the order of the series. */
static errc list_members(struct aggregation *a, struct err *e)
{
	uint32_t *at;
	for (size_t i = 0; i < a->source->count; i++)
		a->first[a->group_of[i] + 1]++;
	for (size_t g = 1; g <= a->group_count; g++)
		a->first[g] += a->first[g - 1];
	TRY(promql_alloc(a->run, a->group_count + 1, sizeof(*at), (void **)&at, e));
	memcpy(at, a->first, a->group_count * sizeof(*at));
	for (size_t i = 0; i < a->source->count; i++)
		a->members[at[a->group_of[i]]++] = (uint32_t)i;
	promql_free(a->run, at);
	return OK;
}

static errc take_parameter(struct aggregation *a, double **ret_scalar, struct err *e)
{
	struct promql_operand param;
	if (!a->expr->aggregate.param)
		return OK;
	TRY(promql_node(a->run, &a->grid, a->expr->aggregate.param, &param, e));
	if (param.kind == PROMQL_OPERAND_STRING) {
		a->label = param.string;
		return OK;
	}
	if (param.kind != PROMQL_OPERAND_SCALAR)
		FAIL(e, ERR_INTERNAL, "the parameter of an aggregation is a vector");
	*ret_scalar = param.scalar;
	a->param = param.scalar;
	return OK;
}

static errc aggregate(struct aggregation *a, struct promql_table **ret, struct err *e)
{
	switch (a->op) {
	case PROMQL_TOPK:
	case PROMQL_BOTTOMK:
	case PROMQL_LIMITK:
	case PROMQL_LIMIT_RATIO:
		return aggregate_pick(a, ret, e);
	case PROMQL_QUANTILE:
		return aggregate_quantile(a, ret, e);
	case PROMQL_COUNT_VALUES:
		return aggregate_count_values(a, ret, e);
	default:
		return aggregate_numbers(a, ret, e);
	}
}

errc promql_aggregate_node(struct promql_run *run, const struct promql_grid *grid,
			   const struct promql_expr *expr, struct promql_operand *ret,
			   struct err *e)
{
	struct aggregation a = {
		.run = run, .expr = expr, .op = expr->aggregate.op, .grid = *grid
	};
	struct promql_operand operand;
	struct promql_table *t = NULL;
	double *param = NULL;
	TRY(take_parameter(&a, &param, e));
	TRY(promql_node(run, grid, expr->aggregate.expr, &operand, e));
	a.source = operand.source;
	TRY(make_groups(&a, e));
	TRY(list_members(&a, e));
	TRY(aggregate(&a, &t, e));
	promql_source_free(a.source);
	promql_free(run, param);
	promql_free(run, a.group_of);
	promql_free(run, a.members);
	promql_free(run, a.first);
	ret->kind = PROMQL_OPERAND_SOURCE;
	return promql_source_of_table(t, &ret->source, e);
}
