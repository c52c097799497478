/* One operator on whole columns. Private to promql_eval_{op,binary,match}.c. */
#pragma once

#include "query/promql/promql_eval_core.h"

struct promql_op {
	struct promql_run *run;
	enum promql_operator op;
	bool is_bool;
	bool keep_right;   /* a filter passes on the right side: the left one is a scalar */
	uint32_t position; /* of the whole operation, for annotations */
	size_t steps;
};

/* One side: a column, or with PRESENT NULL values for all steps. */
struct promql_side {
	const double *values;
	const uint64_t *present;
	const struct histogram *const *histograms;
};

static inline struct promql_side promql_side_of(const struct promql_column *c)
{
	return (struct promql_side){ c->values, c->present, c->histograms };
}

/* LEFT op RIGHT at all steps that both have, into the worker's buffers. */
WARN_UNUSED errc promql_op_columns(const struct promql_op *op, unsigned worker,
				   struct promql_buffers *buffers, const struct promql_side *left,
				   const struct promql_side *right, struct promql_column *ret,
				   struct err *e);
/* Of scalars; comparisons give 0 or 1. */
double promql_op_scalar(enum promql_operator op, double left, double right);
/* Whether the result is no longer the metric that the operand was. */
bool promql_op_drops_name(const struct promql_op *op);

/* Vector and vector; takes the sources. */
WARN_UNUSED errc promql_match_node(const struct promql_op *op,
				   const struct promql_matching *matching,
				   struct promql_source *left, struct promql_source *right,
				   struct promql_source **ret_source, struct err *e);
WARN_UNUSED errc promql_set_node(const struct promql_op *op, const struct promql_matching *matching,
				 struct promql_source *left, struct promql_source *right,
				 struct promql_source **ret_source, struct err *e);
