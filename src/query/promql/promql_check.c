/* Types, argument counts and what else a grammar does not say, in the order in which Prometheus
 * finds it. */
#include "base/checks.h"
#include "query/promql/promql_internal.h"

static errc expect_type(struct parser *p, struct promql_expr *expr, enum promql_type type,
			const char *context, const char *name)
{
	TRY(check_expr(p, expr));
	if (expr->type == type)
		return OK;
	return parser_fail(p, expr->start, "expected type %s in %s%s%s%s, got %s",
			   promql_type_text(type), context, name ? " \"" : "", name ? name : "",
			   name ? "\"" : "", promql_type_text(expr->type));
}

static errc check_aggregate(struct parser *p, struct promql_expr *expr)
{
	enum promql_type type = expr->aggregate.op == PROMQL_COUNT_VALUES ? PROMQL_TYPE_STRING
									  : PROMQL_TYPE_SCALAR;
	TRY(expect_type(p, expr->aggregate.expr, PROMQL_TYPE_VECTOR, "aggregation expression",
			NULL));
	if (expr->aggregate.param)
		TRY(expect_type(p, expr->aggregate.param, type, "aggregation parameter", NULL));
	return OK;
}

/* Where the operator of EXPR stands. */
static size_t operator_pos(const struct parser *p, const struct promql_expr *expr)
{
	size_t pos = expr->binary.lhs->end;
	while (pos < p->lexer.text.len && p->lexer.text.ptr[pos] <= ' ')
		pos++;
	return pos;
}

static errc check_group_labels(struct parser *p, const struct promql_expr *expr)
{
	const struct promql_matching *m = expr->binary.matching;
	for (size_t i = 0; m->on && i < m->labels.count; i++)
		for (size_t j = 0; j < m->include.count; j++)
			if (str_eq(m->labels.items[i], m->include.items[j]))
				return parser_fail(p, operator_pos(p, expr),
						   "label \"%.*s\" must not occur in ON and GROUP "
						   "clause at once",
						   STR_ARG(m->labels.items[i]));
	return OK;
}

/* Matching and filling are for two vectors. */
static errc check_matching(struct parser *p, struct promql_expr *expr)
{
	struct promql_matching *m = expr->binary.matching;
	enum promql_operator op = expr->binary.op;
	bool set = promql_operator_is_set(op);
	bool vectors = expr->binary.lhs->type == PROMQL_TYPE_VECTOR &&
		       expr->binary.rhs->type == PROMQL_TYPE_VECTOR;
	bool fill = m->has_fill_left || m->has_fill_right;
	if (!vectors) {
		if (m->labels.count)
			return parser_fail(p, expr->start,
					   "vector matching only allowed between instant vectors");
		if (fill)
			return parser_fail(p, expr->start,
					   "filling in missing series only allowed between "
					   "instant vectors");
		expr->binary.matching = NULL;
		if (set)
			return parser_fail(p, expr->start,
					   "set operator \"%s\" not allowed in binary scalar "
					   "expression",
					   promql_operator_text(op));
		return OK;
	}
	if (!set)
		return OK;
	if (m->card != PROMQL_ONE_TO_ONE)
		return parser_fail(p, expr->start, "no grouping allowed for \"%s\" operation",
				   promql_operator_text(op));
	if (fill)
		return parser_fail(p, expr->start,
				   "filling in missing series not allowed for set operators");
	m->card = PROMQL_MANY_TO_MANY;
	return OK;
}

static errc check_binary(struct parser *p, struct promql_expr *expr)
{
	struct promql_expr *lhs = expr->binary.lhs, *rhs = expr->binary.rhs;
	enum promql_operator op = expr->binary.op;
	bool comparison = promql_operator_is_comparison(op);
	bool scalars = lhs->type == PROMQL_TYPE_SCALAR && rhs->type == PROMQL_TYPE_SCALAR;
	TRY(check_expr(p, lhs));
	TRY(check_expr(p, rhs));
	if (expr->binary.is_bool && !comparison)
		return parser_fail(p, operator_pos(p, expr),
				   "bool modifier can only be used on comparison operators");
	if (comparison && scalars && !expr->binary.is_bool)
		return parser_fail(p, operator_pos(p, expr),
				   "comparisons between scalars must use BOOL modifier");
	TRY(check_group_labels(p, expr));
	for (int i = 0; i < 2; i++) {
		struct promql_expr *side = i ? rhs : lhs;
		if (side->type != PROMQL_TYPE_SCALAR && side->type != PROMQL_TYPE_VECTOR)
			return parser_fail(p, side->start,
					   "binary expression must contain only scalar and instant "
					   "vector types");
	}
	return check_matching(p, expr);
}

static errc check_arg_count(struct parser *p, const struct promql_expr *expr)
{
	const struct promql_function *f = expr->call.function;
	size_t least = f->arg_count - (f->variadic ? 1 : 0), count = expr->call.arg_count;
	if (!f->variadic && count != f->arg_count)
		return parser_fail(p, expr->start,
				   "expected %zu argument(s) in call to \"%s\", got %zu",
				   f->arg_count, f->name, count);
	if (f->variadic && count < least)
		return parser_fail(p, expr->start,
				   "expected at least %zu argument(s) in call to \"%s\", got %zu",
				   least, f->name, count);
	if (f->variadic > 0 && count > least + (size_t)f->variadic)
		return parser_fail(p, expr->start,
				   "expected at most %zu argument(s) in call to \"%s\", got %zu",
				   least + (size_t)f->variadic, f->name, count);
	return OK;
}

static errc check_call(struct parser *p, struct promql_expr *expr)
{
	const struct promql_function *f = expr->call.function;
	TRY(check_arg_count(p, expr));
	for (size_t i = 0; i < expr->call.arg_count; i++) {
		struct promql_expr *arg = expr->call.args[i];
		size_t type = i < f->arg_count ? i : f->arg_count - 1;
		if (f->id == PROMQL_FN_INFO && i == 1 && arg->type == PROMQL_TYPE_VECTOR) {
			/* it says which labels to add, so it may select everything */
			if (arg->kind != PROMQL_VECTOR || arg->vector.name.len)
				return parser_fail(p, arg->start,
						   "expected label selectors only, got vector "
						   "selector instead");
			continue;
		}
		TRY(expect_type(p, arg, f->arg_types[type], "call to function", f->name));
	}
	return OK;
}

static errc check_vector(struct parser *p, const struct promql_expr *expr)
{
	const struct promql_vector *v = &expr->vector;
	if (!v->name.len) {
		if (v->all_empty)
			return parser_fail(
				p, expr->start,
				"vector selector must contain at least one non-empty matcher");
		return OK;
	}
	for (size_t i = 0; i + 1 < v->matcher_count; i++)
		if (str_eq(v->matchers[i].name, STR(LABEL_METRIC_NAME)))
			return parser_fail(
				p, expr->start,
				"metric name must not be set twice: \"%.*s\" or \"%.*s\"",
				(int)(v->name.len > 200 ? 200 : v->name.len), v->name.ptr,
				(int)(v->matchers[i].value.len > 200 ? 200
								     : v->matchers[i].value.len),
				v->matchers[i].value.ptr);
	return OK;
}

errc check_expr(struct parser *p, struct promql_expr *expr)
{
	switch (expr->kind) {
	case PROMQL_NUMBER:
	case PROMQL_STRING:
		return OK;
	case PROMQL_VECTOR:
		return check_vector(p, expr);
	case PROMQL_MATRIX:
		return check_expr(p, expr->matrix.selector);
	case PROMQL_SUBQUERY:
		TRY(check_expr(p, expr->subquery.expr));
		if (expr->subquery.expr->type != PROMQL_TYPE_VECTOR)
			return parser_fail(p, expr->start,
					   "subquery is only allowed on instant vector, got %s "
					   "instead",
					   promql_type_text(expr->subquery.expr->type));
		return OK;
	case PROMQL_UNARY:
		TRY(check_expr(p, expr->unary.expr));
		if (expr->type != PROMQL_TYPE_SCALAR && expr->type != PROMQL_TYPE_VECTOR)
			return parser_fail(p, expr->start,
					   "unary expression only allowed on expressions of type "
					   "scalar or instant vector, got \"%s\"",
					   promql_type_text(expr->type));
		return OK;
	case PROMQL_BINARY:
		return check_binary(p, expr);
	case PROMQL_AGGREGATE:
		return check_aggregate(p, expr);
	case PROMQL_CALL:
		return check_call(p, expr);
	case PROMQL_PAREN:
		return check_expr(p, expr->paren.expr);
	}
	must(false);
	return ERR_INTERNAL;
}
