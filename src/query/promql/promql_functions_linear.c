/* deriv(), predict_linear(), double_exponential_smoothing(). */
#include <math.h>

#include "base/checks.h"
#include "query/promql/promql_functions_internal.h"

struct line {
	double slope, intercept;
};

/* Least squares; x is seconds since ORIGIN, near the samples so that digits are not lost. */
static struct line regression(const struct promql_floats *f, time_ms origin)
{
	double x_sum = 0, x_c = 0, y_sum = 0, y_c = 0, xy_sum = 0, xy_c = 0, xx_sum = 0, xx_c = 0;
	double first = f->values[0], n = (double)f->count;
	bool constant = true;
	for (size_t i = 0; i < f->count; i++) {
		double x = (double)(f->times[i] - origin) / 1e3, y = f->values[i];
		if (i > 0 && y != first)
			constant = false;
		promql_kahan_add(x, &x_sum, &x_c);
		promql_kahan_add(y, &y_sum, &y_c);
		promql_kahan_add(x * y, &xy_sum, &xy_c);
		promql_kahan_add(x * x, &xx_sum, &xx_c);
	}
	if (constant && isinf(first))
		return (struct line){ (double)NAN, (double)NAN };
	if (constant)
		return (struct line){ 0, first };
	x_sum += x_c;
	y_sum += y_c;
	xy_sum += xy_c;
	xx_sum += xx_c;
	double covariance = xy_sum - x_sum * y_sum / n;
	double variance = xx_sum - x_sum * x_sum / n;
	double slope = covariance / variance;
	return (struct line){ slope, y_sum / n - slope * x_sum / n };
}

/* The floats of a range with at least two; otherwise RET->count is 0. */
static errc two_floats(struct promql_eval_scope *scope, const struct promql_window *w,
		       struct promql_floats *ret, struct err *e)
{
	TRY(promql_window_only_floats(scope, w, ret, e));
	if (ret->count < 2)
		ret->count = 0;
	return OK;
}

errc promql_body_deriv(struct promql_eval_scope *scope, const struct promql_window *w,
		       struct promql_sample *ret, struct err *e)
{
	CLEANUP(promql_floats_done) struct promql_floats f = { 0 };
	TRY(two_floats(scope, w, &f, e));
	if (f.count)
		*ret = (struct promql_sample){ true, regression(&f, f.times[0]).slope, NULL };
	return OK;
}

errc promql_body_predict_linear(struct promql_eval_scope *scope, const struct promql_window *w,
				struct promql_sample *ret, struct err *e)
{
	CLEANUP(promql_floats_done) struct promql_floats f = { 0 };
	TRY(two_floats(scope, w, &f, e));
	if (!f.count)
		return OK;
	struct line line = regression(&f, w->step_time);
	double ahead = scope->call->scalars[1][w->step];
	*ret = (struct promql_sample){ true, line.slope * ahead + line.intercept, NULL };
	return OK;
}

errc promql_body_double_exponential_smoothing(struct promql_eval_scope *scope,
					      const struct promql_window *w,
					      struct promql_sample *ret, struct err *e)
{
	double smoothing = scope->call->scalars[1][w->step];
	double trend = scope->call->scalars[2][w->step];
	CLEANUP(promql_floats_done) struct promql_floats f = { 0 };
	if (smoothing <= 0 || smoothing >= 1)
		FAIL(e, ERR_FAILED, "invalid smoothing factor. Expected: 0 < sf < 1, got: %f",
		     smoothing);
	if (trend <= 0 || trend >= 1)
		FAIL(e, ERR_FAILED, "invalid trend factor. Expected: 0 < tf < 1, got: %f", trend);
	TRY(two_floats(scope, w, &f, e));
	if (!f.count)
		return OK;
	double before = 0, level = f.values[0], slope = f.values[1] - f.values[0];
	for (size_t i = 1; i < f.count; i++) {
		if (i > 1)
			slope = trend * (level - before) + (1 - trend) * slope;
		double next = smoothing * f.values[i] + (1 - smoothing) * (level + slope);
		before = level;
		level = next;
	}
	*ret = (struct promql_sample){ true, level, NULL };
	return OK;
}
