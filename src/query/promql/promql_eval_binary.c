#include <string.h>

#include "base/checks.h"
#include "query/promql/promql_eval_op.h"

/* A vector and a scalar. */
struct scalar_source {
	struct promql_source base;
	struct promql_op op;
	double *scalar;
	bool scalar_left;
	struct promql_buffers *buffers;
};

static errc scalar_column(struct promql_source *source, unsigned worker, size_t i,
			  struct promql_column *ret, struct err *e)
{
	struct scalar_source *s = (struct scalar_source *)source;
	struct promql_source *in = source->inputs[0];
	struct promql_column c;
	TRY(in->column(in, worker, i, &c, e));
	const struct promql_side vector = promql_side_of(&c), scalar = { .values = s->scalar };
	return promql_op_columns(&s->op, worker, s->buffers, s->scalar_left ? &scalar : &vector,
				 s->scalar_left ? &vector : &scalar, ret, e);
}

static void scalar_done(struct promql_source *source)
{
	struct scalar_source *s = (struct scalar_source *)source;
	promql_buffers_free(source->run, s->buffers);
	promql_free(source->run, s->scalar);
}

static errc with_scalar(const struct promql_op *op, struct promql_source *in, double *scalar,
			bool scalar_left, struct promql_source **ret_source, struct err *e)
{
	struct scalar_source *s;
	TRY(promql_source_new(op->run, &in->grid, sizeof(*s), &s, e));
	s->base.labels = in->labels;
	s->base.drop_name = in->drop_name;
	s->base.count = in->count;
	s->base.same_name = in->same_name;
	s->base.costly = in->costly;
	s->base.column = scalar_column;
	s->base.done = scalar_done;
	s->base.inputs[0] = in;
	s->op = *op;
	s->op.keep_right = scalar_left;
	s->scalar = scalar;
	s->scalar_left = scalar_left;
	TRY(promql_buffers_new(op->run, in->grid.count, &s->buffers, e));
	*ret_source = &s->base;
	return promql_op_drops_name(op) ? promql_source_drop_names(ret_source, false, e) : OK;
}

static errc two_vectors(const struct promql_op *op, const struct promql_expr *expr,
			struct promql_source *left, struct promql_source *right,
			struct promql_source **ret_source, struct err *e)
{
	if (promql_operator_is_set(op->op))
		return promql_set_node(op, expr->binary.matching, left, right, ret_source, e);
	return promql_match_node(op, expr->binary.matching, left, right, ret_source, e);
}

errc promql_binary_node(struct promql_run *run, const struct promql_grid *grid,
			const struct promql_expr *expr, struct promql_operand *ret, struct err *e)
{
	struct promql_operand left, right;
	const struct promql_op op = { .run = run,
				      .op = expr->binary.op,
				      .is_bool = expr->binary.is_bool,
				      .position = expr->start,
				      .steps = grid->count };
	TRY(promql_node(run, grid, expr->binary.lhs, &left, e));
	TRY(promql_node(run, grid, expr->binary.rhs, &right, e));
	if (left.kind == PROMQL_OPERAND_SCALAR && right.kind == PROMQL_OPERAND_SCALAR) {
		for (size_t i = 0; i < grid->count; i++)
			left.scalar[i] = promql_op_scalar(op.op, left.scalar[i], right.scalar[i]);
		promql_free(run, right.scalar);
		*ret = left;
		return OK;
	}
	ret->kind = PROMQL_OPERAND_SOURCE;
	if (left.kind == PROMQL_OPERAND_SCALAR)
		return with_scalar(&op, right.source, left.scalar, true, &ret->source, e);
	if (right.kind == PROMQL_OPERAND_SCALAR)
		return with_scalar(&op, left.source, right.scalar, false, &ret->source, e);
	return two_vectors(&op, expr, left.source, right.source, &ret->source, e);
}
