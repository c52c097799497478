#include <math.h>

#include "base/checks.h"
#include "query/promql/promql_ast.h"

static errc evaluate(const struct promql_duration *d, struct promql_span span, double *ret,
		     struct err *e);

static errc evaluate_binary(const struct promql_duration *d, double lhs, double rhs, double *ret,
			    struct err *e)
{
	switch (d->op) {
	case PROMQL_ADD:
		*ret = lhs + rhs;
		return OK;
	case PROMQL_SUB:
		*ret = lhs - rhs;
		return OK;
	case PROMQL_MUL:
		*ret = lhs * rhs;
		return OK;
	case PROMQL_DIV:
		if (rhs == 0)
			FAIL(e, ERR_FAILED, "%u:%u: division by zero", d->start, d->end);
		*ret = lhs / rhs;
		return OK;
	case PROMQL_MOD:
		if (rhs == 0)
			FAIL(e, ERR_FAILED, "%u:%u: modulo by zero", d->start, d->end);
		*ret = fmod(lhs, rhs);
		return OK;
	default:
		must(d->op == PROMQL_POW);
		*ret = pow(lhs, rhs);
		return OK;
	}
}

static errc evaluate(const struct promql_duration *d, struct promql_span span, double *ret,
		     struct err *e)
{
	double lhs = 0, rhs = 0;
	if (d->lhs)
		TRY(evaluate(d->lhs, span, &lhs, e));
	if (d->rhs)
		TRY(evaluate(d->rhs, span, &rhs, e));
	switch (d->kind) {
	case PROMQL_DURATION_NUMBER:
		*ret = d->seconds;
		return OK;
	case PROMQL_DURATION_STEP:
		*ret = (double)span.step_ms / 1000;
		return OK;
	case PROMQL_DURATION_RANGE:
		*ret = (double)span.range_ms / 1000;
		return OK;
	case PROMQL_DURATION_MIN_OF:
		*ret = lhs < rhs || isnan(lhs) ? lhs : rhs;
		return OK;
	case PROMQL_DURATION_MAX_OF:
		*ret = lhs > rhs || isnan(lhs) ? lhs : rhs;
		return OK;
	case PROMQL_DURATION_NEGATE:
		*ret = -rhs;
		return OK;
	case PROMQL_DURATION_BINARY:
		return evaluate_binary(d, lhs, rhs, ret, e);
	}
	must(false);
	return ERR_INTERNAL;
}

static errc resolve(const struct promql_duration *d, struct promql_span span, bool may_be_negative,
		    int64_t *ret_ms, struct err *e)
{
	double seconds = 0;
	if (!d)
		return OK;
	TRY(evaluate(d, span, &seconds, e));
	if (seconds <= 0 && !may_be_negative)
		FAIL(e, ERR_FAILED, "%u:%u: duration must be greater than 0", d->start, d->end);
	/* also what is no number; the bound is that of Go's nanoseconds */
	if (!(fabs(seconds) <= 9223372036.0))
		FAIL(e, ERR_FAILED, "%u:%u: duration is out of range", d->start, d->end);
	*ret_ms = (int64_t)round(seconds * 1000);
	return OK;
}

static errc resolve_time(struct promql_time *time, struct promql_span span, struct err *e)
{
	return resolve(time->offset_expr, span, true, &time->offset_ms, e);
}

errc promql_resolve_durations(struct promql_expr *expr, struct promql_span span, struct err *e)
{
	switch (expr->kind) {
	case PROMQL_NUMBER:
	case PROMQL_STRING:
		return OK;
	case PROMQL_VECTOR:
		return resolve_time(&expr->vector.time, span, e);
	case PROMQL_MATRIX:
		TRY(resolve(expr->matrix.range_expr, span, false, &expr->matrix.range_ms, e));
		return promql_resolve_durations(expr->matrix.selector, span, e);
	case PROMQL_SUBQUERY: {
		struct promql_subquery *s = &expr->subquery;
		TRY(resolve_time(&s->time, span, e));
		TRY(resolve(s->step_expr, span, false, &s->step_ms, e));
		TRY(resolve(s->range_expr, span, false, &s->range_ms, e));
		return promql_resolve_durations(s->expr, span, e);
	}
	case PROMQL_UNARY:
		return promql_resolve_durations(expr->unary.expr, span, e);
	case PROMQL_BINARY:
		TRY(promql_resolve_durations(expr->binary.lhs, span, e));
		return promql_resolve_durations(expr->binary.rhs, span, e);
	case PROMQL_AGGREGATE:
		if (expr->aggregate.param)
			TRY(promql_resolve_durations(expr->aggregate.param, span, e));
		return promql_resolve_durations(expr->aggregate.expr, span, e);
	case PROMQL_CALL:
		for (size_t i = 0; i < expr->call.arg_count; i++)
			TRY(promql_resolve_durations(expr->call.args[i], span, e));
		return OK;
	case PROMQL_PAREN:
		return promql_resolve_durations(expr->paren.expr, span, e);
	}
	must(false);
	return ERR_INTERNAL;
}
