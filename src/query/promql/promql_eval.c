#include "query/promql/promql_eval.h"

#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "os/clock.h"
#include "query/promql/promql_eval_core.h"

/* ---- What does not change with the step. */

static bool is_fixed(const struct promql_time *time)
{
	return time->at != PROMQL_AT_NONE;
}

static bool call_is_invariant(const struct promql_expr *expr)
{
	const struct promql_function_body *body = promql_function_body(expr->call.function->id);
	if (body->varies || (body->of_time && !expr->call.arg_count))
		return false;
	for (size_t i = 0; i < expr->call.arg_count; i++)
		if (!promql_is_invariant(expr->call.args[i]))
			return false;
	return true;
}

bool promql_is_invariant(const struct promql_expr *expr)
{
	switch (expr->kind) {
	case PROMQL_NUMBER:
	case PROMQL_STRING:
		return true;
	case PROMQL_VECTOR:
		return is_fixed(&expr->vector.time);
	case PROMQL_MATRIX:
		return is_fixed(&expr->matrix.selector->vector.time);
	case PROMQL_SUBQUERY:
		return is_fixed(&expr->subquery.time);
	case PROMQL_UNARY:
		return promql_is_invariant(expr->unary.expr);
	case PROMQL_BINARY:
		return promql_is_invariant(expr->binary.lhs) &&
		       promql_is_invariant(expr->binary.rhs);
	case PROMQL_AGGREGATE:
		return promql_is_invariant(expr->aggregate.expr) &&
		       (!expr->aggregate.param || promql_is_invariant(expr->aggregate.param));
	case PROMQL_CALL:
		return call_is_invariant(expr);
	case PROMQL_PAREN:
		return promql_is_invariant(expr->paren.expr);
	}
	return false;
}

/* One column of one step, shown at all steps. */
struct broadcast_source {
	struct promql_source base;
	struct promql_buffers *buffers;
};

static errc broadcast_column(struct promql_source *source, unsigned worker, size_t i,
			     struct promql_column *ret, struct err *e)
{
	struct broadcast_source *s = (struct broadcast_source *)source;
	struct promql_column one;
	TRY(source->inputs[0]->column(source->inputs[0], worker, i, &one, e));
	*ret = promql_buffers_clear(&s->buffers[worker]);
	if (!promql_has(&one, 0))
		return OK;
	if (promql_histogram(&one, 0))
		TRY(promql_buffers_histograms(source->run, &s->buffers[worker], ret, e));
	for (size_t step = 0; step < source->grid.count; step++) {
		promql_set(ret, step, one.values[0]);
		if (ret->histograms)
			ret->histograms[step] = one.histograms[0];
	}
	return OK;
}

static void broadcast_done(struct promql_source *source)
{
	promql_buffers_free(source->run, ((struct broadcast_source *)source)->buffers);
}

static errc broadcast_source(struct promql_source **source, const struct promql_grid *grid,
			     struct err *e)
{
	struct broadcast_source *s;
	struct promql_source *in = *source;
	TRY(promql_source_new(in->run, grid, sizeof(*s), &s, e));
	s->base.labels = in->labels;
	s->base.drop_name = in->drop_name;
	s->base.count = in->count;
	s->base.same_name = in->same_name;
	s->base.costly = in->costly;
	s->base.column = broadcast_column;
	s->base.done = broadcast_done;
	s->base.inputs[0] = in;
	TRY(promql_buffers_new(in->run, grid->count, &s->buffers, e));
	*source = &s->base;
	return OK;
}

static errc node_once(struct promql_run *run, const struct promql_grid *grid,
		      const struct promql_expr *expr, struct promql_operand *ret, struct err *e)
{
	const struct promql_grid once = { grid->start, grid->step, 1 };
	TRY(promql_node(run, &once, expr, ret, e));
	if (ret->kind == PROMQL_OPERAND_SOURCE)
		return broadcast_source(&ret->source, grid, e);
	if (ret->kind == PROMQL_OPERAND_STRING)
		return OK;
	double *one = ret->scalar;
	TRY(promql_alloc(run, grid->count, sizeof(double), (void **)&ret->scalar, e));
	for (size_t step = 0; step < grid->count; step++)
		ret->scalar[step] = one[0];
	promql_free(run, one);
	return OK;
}

/* ---- Nodes. */

static errc number_node(struct promql_run *run, const struct promql_grid *grid, double value,
			struct promql_operand *ret, struct err *e)
{
	ret->kind = PROMQL_OPERAND_SCALAR;
	TRY(promql_alloc(run, grid->count, sizeof(double), (void **)&ret->scalar, e));
	for (size_t step = 0; step < grid->count; step++)
		ret->scalar[step] = value;
	return OK;
}

static errc unary_node(struct promql_run *run, const struct promql_grid *grid,
		       const struct promql_expr *expr, struct promql_operand *ret, struct err *e)
{
	TRY(promql_node(run, grid, expr->unary.expr, ret, e));
	if (expr->unary.op != PROMQL_SUB)
		return OK;
	if (ret->kind == PROMQL_OPERAND_SOURCE)
		return promql_negate(&ret->source, e);
	for (size_t step = 0; step < grid->count; step++)
		ret->scalar[step] = -ret->scalar[step];
	return OK;
}

static errc node_of_kind(struct promql_run *run, const struct promql_grid *grid,
			 const struct promql_expr *expr, struct promql_operand *ret, struct err *e)
{
	switch (expr->kind) {
	case PROMQL_NUMBER:
		return number_node(run, grid, expr->number.value, ret, e);
	case PROMQL_STRING:
		ret->kind = PROMQL_OPERAND_STRING;
		ret->string = expr->string.value;
		return OK;
	case PROMQL_VECTOR:
		ret->kind = PROMQL_OPERAND_SOURCE;
		return promql_select_node(run, grid, &expr->vector, false, &ret->source, e);
	case PROMQL_UNARY:
		return unary_node(run, grid, expr, ret, e);
	case PROMQL_BINARY:
		return promql_binary_node(run, grid, expr, ret, e);
	case PROMQL_AGGREGATE:
		return promql_aggregate_node(run, grid, expr, ret, e);
	case PROMQL_CALL:
		return promql_call_node(run, grid, expr, ret, e);
	case PROMQL_PAREN:
	case PROMQL_MATRIX:
	case PROMQL_SUBQUERY:
		break;
	}
	FAIL(e, ERR_INTERNAL, "a range vector stands where the parser lets none stand");
}

errc promql_node(struct promql_run *run, const struct promql_grid *grid,
		 const struct promql_expr *expr, struct promql_operand *ret, struct err *e)
{
	expr = promql_unwrap(expr);
	*ret = (struct promql_operand){ 0 };
	TRY(promql_check(run, e));
	bool leaf = expr->kind == PROMQL_NUMBER || expr->kind == PROMQL_STRING;
	if (grid->count > 1 && !leaf && promql_is_invariant(expr))
		return node_once(run, grid, expr, ret, e);
	TRY(node_of_kind(run, grid, expr, ret, e));
	return promql_charge_labels(run, e);
}

/* ---- Queries. */

const char *promql_result_type_name(enum promql_result_type type)
{
	static const char *const names[] = {
		[PROMQL_RESULT_SCALAR] = "scalar",
		[PROMQL_RESULT_VECTOR] = "vector",
		[PROMQL_RESULT_MATRIX] = "matrix",
		[PROMQL_RESULT_STRING] = "string",
	};
	return names[type];
}

static errc grid_of(const struct promql_query *q, struct promql_grid *ret, struct err *e)
{
	bool instant = q->step_ms == 0;
	if (instant && q->start != q->end)
		FAIL(e, ERR_INVALID,
		     "zero or negative query resolution step widths are not accepted. Try a "
		     "positive "
		     "integer");
	if (q->step_ms < 0)
		FAIL(e, ERR_INVALID,
		     "zero or negative query resolution step widths are not accepted. Try a "
		     "positive "
		     "integer");
	if (q->end < q->start)
		FAIL(e, ERR_INVALID, "end timestamp must not be before start time");
	const int64_t far = INT64_MAX / 8;
	if (q->start < -far || q->end > far)
		FAIL(e, ERR_INVALID, "the times of the query are out of range");
	int64_t steps = instant ? 1 : (q->end - q->start) / q->step_ms + 1;
	if (steps > PROMQL_STEPS_MAX)
		FAIL(e, ERR_INVALID, "the query has %lld steps, more than %d; make its step longer",
		     (long long)steps, (int)PROMQL_STEPS_MAX);
	*ret = (struct promql_grid){ q->start, instant ? 1 : q->step_ms, (size_t)steps };
	return OK;
}

static errc check_type(const struct promql_query *q, struct err *e)
{
	enum promql_type type = q->expr->type;
	if (q->step_ms && type != PROMQL_TYPE_VECTOR && type != PROMQL_TYPE_SCALAR)
		FAIL(e, ERR_INVALID,
		     "invalid expression type \"%s\" for range query, must be Scalar or instant "
		     "Vector",
		     promql_type_text(type));
	return OK;
}

static errc eval_into(struct promql_run *run, const struct promql_grid *grid,
		      struct promql_result *ret, struct err *e)
{
	const struct promql_query *q = &run->query;
	struct promql_operand operand;
	if (q->expr->type == PROMQL_TYPE_MATRIX) {
		struct promql_input in;
		errc rc = promql_input_open(run, grid, q->expr, &in, e);
		if (rc == OK)
			rc = promql_result_of_input(run, &in, ret, e);
		promql_input_close(&in);
		return rc;
	}
	TRY(promql_node(run, grid, q->expr, &operand, e));
	return promql_result_of_operand(run, &operand, ret, e);
}

errc promql_eval(struct metrics *m, const struct promql_query *query,
		 struct promql_result **ret_result, struct err *e)
{
	struct promql_grid grid;
	struct promql_run *run;
	struct promql_result *result = NULL;
	int64_t began = clock_mono_us();
	TRY(check_type(query, e));
	TRY(grid_of(query, &grid, e));
	struct promql_span span = { query->step_ms, query->end - query->start };
	TRY(promql_resolve_durations(query->expr, span, e));
	run = promql_run_new(m, query);
	errc rc = promql_result_new(run, &result, e);
	if (rc == OK)
		rc = eval_into(run, &grid, result, e);
	if (rc == OK)
		rc = promql_result_finish(run, result, e);
	if (rc == OK) {
		result->stats.eval_us = clock_mono_us() - began;
		*ret_result = result;
	} else {
		promql_result_free(result);
	}
	promql_run_free(run);
	return rc;
}
