/* An expression that gives the same at whatever time it is asked. */
#include "promqltest.h"
#include "query/promql/promql_ast.h"

/* Of the time of the evaluation, or of the times of their argument. */
static bool is_of_time(enum promql_function_id id)
{
	static const char *const names[] = {
		"time",        "timestamp",   "hour",           "minute",
		"month",       "year",        "days_in_month",  "day_of_month",
		"day_of_week", "day_of_year", "predict_linear", "start_timestamp",
		"start",       "end",         "step",           "range",
		"info"
	};
	str name = str_c(promql_function_of(id)->name);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (str_eq_c(name, names[i]))
			return true;
	return false;
}

static void pin(struct promql_time *t, time_ms time)
{
	if (t->at != PROMQL_AT_NONE)
		return;
	t->at = PROMQL_AT_TIME;
	t->at_ms = time;
}

bool test_pin_to_time(struct promql_expr *expr, time_ms time)
{
	switch (expr->kind) {
	case PROMQL_NUMBER:
	case PROMQL_STRING:
		return true;
	case PROMQL_VECTOR:
		pin(&expr->vector.time, time);
		return true;
	case PROMQL_MATRIX:
		pin(&expr->matrix.selector->vector.time, time);
		return true;
	case PROMQL_SUBQUERY: /* what is inside goes by its steps */
		pin(&expr->subquery.time, time);
		return true;
	case PROMQL_UNARY:
		return test_pin_to_time(expr->unary.expr, time);
	case PROMQL_BINARY:
		return test_pin_to_time(expr->binary.lhs, time) &&
		       test_pin_to_time(expr->binary.rhs, time);
	case PROMQL_AGGREGATE:
		return test_pin_to_time(expr->aggregate.expr, time) &&
		       (!expr->aggregate.param || test_pin_to_time(expr->aggregate.param, time));
	case PROMQL_CALL:
		if (is_of_time(expr->call.function->id))
			return false;
		for (size_t i = 0; i < expr->call.arg_count; i++)
			if (!test_pin_to_time(expr->call.args[i], time))
				return false;
		return true;
	case PROMQL_PAREN:
		return test_pin_to_time(expr->paren.expr, time);
	}
	return false;
}
