/* Functions that give a scalar or look at all series of a vector at once. */
#include <math.h>

#include "query/promql/promql_functions_internal.h"

static errc scalar_new(struct promql_eval_call *call, struct promql_value *ret, struct err *e)
{
	ret->kind = PROMQL_IS_SCALAR;
	return promql_alloc(call->run, call->grid.count, sizeof(double), (void **)&ret->scalar, e);
}

static errc constant(struct promql_eval_call *call, double value, struct promql_value *ret,
		     struct err *e)
{
	TRY(scalar_new(call, ret, e));
	for (size_t step = 0; step < call->grid.count; step++)
		ret->scalar[step] = value;
	return OK;
}

errc promql_body_pi(struct promql_eval_call *call, struct promql_value *args,
		    struct promql_value *ret, struct err *e)
{
	(void)args;
	return constant(call, M_PI, ret, e);
}

errc promql_body_start(struct promql_eval_call *call, struct promql_value *args,
		       struct promql_value *ret, struct err *e)
{
	(void)args;
	return constant(call, (double)promql_run_query(call->run)->start / 1000, ret, e);
}

errc promql_body_end(struct promql_eval_call *call, struct promql_value *args,
		     struct promql_value *ret, struct err *e)
{
	(void)args;
	return constant(call, (double)promql_run_query(call->run)->end / 1000, ret, e);
}

errc promql_body_step(struct promql_eval_call *call, struct promql_value *args,
		      struct promql_value *ret, struct err *e)
{
	(void)args;
	return constant(call, (double)promql_run_query(call->run)->step_ms / 1000, ret, e);
}

errc promql_body_range(struct promql_eval_call *call, struct promql_value *args,
		       struct promql_value *ret, struct err *e)
{
	(void)args;
	const struct promql_query *q = promql_run_query(call->run);
	return constant(call, (double)(q->end - q->start) / 1000, ret, e);
}

errc promql_body_time(struct promql_eval_call *call, struct promql_value *args,
		      struct promql_value *ret, struct err *e)
{
	(void)args;
	TRY(scalar_new(call, ret, e));
	for (size_t step = 0; step < call->grid.count; step++)
		ret->scalar[step] = (double)promql_grid_time(&call->grid, step) / 1000;
	return OK;
}

errc promql_body_min_of(struct promql_eval_call *call, struct promql_value *args,
			struct promql_value *ret, struct err *e)
{
	TRY(scalar_new(call, ret, e));
	for (size_t step = 0; step < call->grid.count; step++)
		ret->scalar[step] = promql_min(args[0].scalar[step], args[1].scalar[step]);
	return OK;
}

errc promql_body_max_of(struct promql_eval_call *call, struct promql_value *args,
			struct promql_value *ret, struct err *e)
{
	TRY(scalar_new(call, ret, e));
	for (size_t step = 0; step < call->grid.count; step++)
		ret->scalar[step] = promql_max(args[0].scalar[step], args[1].scalar[step]);
	return OK;
}

errc promql_body_scalar(struct promql_eval_call *call, struct promql_value *args,
			struct promql_value *ret, struct err *e)
{
	const struct promql_table *t = args[0].table;
	uint8_t *floats;
	TRY(constant(call, (double)NAN, ret, e));
	TRY(promql_alloc(call->run, call->grid.count, 1, (void **)&floats, e));
	for (size_t i = 0; i < t->count; i++) {
		struct promql_column c = promql_table_column(t, i);
		for (size_t step = 0; step < call->grid.count; step++) {
			if (!promql_has(&c, step) || promql_histogram(&c, step))
				continue;
			/* more than one is as none */
			ret->scalar[step] = floats[step] ? (double)NAN : c.values[step];
			floats[step] = 1;
		}
	}
	promql_free(call->run, floats);
	return OK;
}

/* A table of one series with LABELS. */
static errc one_series(struct promql_eval_call *call, struct labels labels,
		       struct promql_value *ret, struct promql_column *ret_column, struct err *e)
{
	ret->kind = PROMQL_IS_VECTOR;
	TRY(promql_table_new(call->run, &call->grid, 1, &ret->table, e));
	promql_table_add(ret->table, labels, false);
	*ret_column = promql_table_column(ret->table, 0);
	return OK;
}

errc promql_body_vector(struct promql_eval_call *call, struct promql_value *args,
			struct promql_value *ret, struct err *e)
{
	struct promql_column c;
	TRY(one_series(call, (struct labels){ 0 }, ret, &c, e));
	for (size_t step = 0; step < call->grid.count; step++)
		promql_set(&c, step, args[0].scalar[step]);
	return OK;
}

/* ---- absent(), absent_over_time(). */

static bool is_name(const struct matcher *m)
{
	return str_eq(m->name, STR(LABEL_METRIC_NAME));
}

/* The labels that every series of the selector would have: those of its only equality. */
static errc labels_of_selector(struct promql_eval_call *call, struct labels *ret, struct err *e)
{
	struct arena *arena = promql_labels_arena(call->run);
	const struct promql_expr *arg = promql_unwrap(call->expr->call.args[0]);
	*ret = (struct labels){ 0 };
	if (arg->kind == PROMQL_MATRIX)
		arg = arg->matrix.selector;
	if (arg->kind != PROMQL_VECTOR)
		return OK;
	const struct promql_vector *v = &arg->vector;
	for (size_t i = 0; i < v->matcher_count; i++) {
		const struct matcher *m = &v->matchers[i];
		bool seen = false;
		if (is_name(m))
			continue;
		for (size_t k = 0; k < i; k++)
			seen |= v->matchers[k].type == MATCH_EQUAL &&
				str_eq(v->matchers[k].name, m->name);
		bool sets = m->type == MATCH_EQUAL && !seen;
		/* the text of the expression may go before the result does */
		str name = arena_str(arena, m->name);
		str value = sets ? arena_str(arena, m->value) : STR("");
		*ret = promql_labels_with(arena, ret, name, value);
	}
	return arena_check(arena, "the labels of the query", e);
}

errc promql_body_absent(struct promql_eval_call *call, struct promql_value *args,
			struct promql_value *ret, struct err *e)
{
	const struct promql_table *t = args[0].table;
	struct labels labels;
	struct promql_column c;
	uint64_t *any;
	size_t words = PROMQL_WORDS(call->grid.count);
	TRY(labels_of_selector(call, &labels, e));
	TRY(promql_alloc(call->run, words, sizeof(*any), (void **)&any, e));
	for (size_t i = 0; i < t->count; i++) {
		struct promql_column in = promql_table_column(t, i);
		for (size_t w = 0; w < words; w++)
			any[w] |= in.present[w];
	}
	TRY(one_series(call, labels, ret, &c, e));
	for (size_t step = 0; step < call->grid.count; step++)
		if (!(any[step / 64] >> (step % 64) & 1))
			promql_set(&c, step, 1);
	promql_free(call->run, any);
	return OK;
}

errc promql_body_absent_over_time(struct promql_eval_call *call, struct promql_value *args,
				  struct promql_value *ret, struct err *e)
{
	return promql_body_absent(call, args, ret, e);
}
