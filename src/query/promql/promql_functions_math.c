/* Functions of one number, date and time included, and of one histogram. */
#include <math.h>

#include "query/promql/promql_functions_internal.h"

#define MAP(name, expression)                                                            \
	void promql_body_##name(const struct promql_eval_call *call, const double *from, \
				double *into, size_t count)                              \
	{                                                                                \
		(void)call;                                                              \
		for (size_t i = 0; i < count; i++) {                                     \
			double v = from[i];                                              \
			into[i] = (expression);                                          \
		}                                                                        \
	}

MAP(abs, fabs(v))
MAP(acos, acos(v))
MAP(acosh, acosh(v))
MAP(asin, asin(v))
MAP(asinh, asinh(v))
MAP(atan, atan(v))
MAP(atanh, atanh(v))
MAP(ceil, ceil(v))
MAP(cos, cos(v))
MAP(cosh, cosh(v))
MAP(deg, v * 180 / M_PI)
MAP(exp, exp(v))
MAP(floor, floor(v))
MAP(ln, log(v))
MAP(log10, log10(v))
MAP(log2, log2(v))
MAP(rad, v *M_PI / 180)
MAP(sgn, v<0 ? -1 : v> 0 ? 1 : v)
MAP(sin, sin(v))
MAP(sinh, sinh(v))
MAP(sqrt, sqrt(v))
MAP(tan, tan(v))
MAP(tanh, tanh(v))

/* Element i is of step i, so the scalars beside it are too. */
MAP(clamp_max, promql_min(call->scalars[1][i], v))
MAP(clamp_min, promql_max(call->scalars[1][i], v))

void promql_body_round(const struct promql_eval_call *call, const double *from, double *into,
		       size_t count)
{
	const double *nearest = call->arg_count > 1 ? call->scalars[1] : NULL;
	for (size_t i = 0; i < count; i++) {
		/* by the inverse, which is exact for 0.1 and the like more often; ties go up */
		double inverse = 1 / (nearest ? nearest[i] : 1);
		into[i] = floor(from[i] * inverse + 0.5) / inverse;
	}
}

errc promql_body_clamp(struct promql_eval_scope *scope, size_t step, const struct promql_sample *in,
		       struct promql_sample *ret, struct err *e)
{
	(void)e;
	double low = scope->call->scalars[1][step], high = scope->call->scalars[2][step];
	if (in->histogram || high < low)
		return OK;
	*ret = (struct promql_sample){ true, promql_max(low, promql_min(high, in->value)), NULL };
	return OK;
}

/* ---- Date and time, in UTC. */

enum { DAY_SECONDS = 24 * 60 * 60 };

struct civil {
	int64_t year;
	int month, day;  /* from 1 */
	int day_of_year; /* from 1 */
	int day_of_week; /* 0: Sunday */
	bool leap;
};

/* The days since a 1 March of a year divisible by 400 make all leap days come last. */
static struct civil civil_of_day(int64_t day)
{
	enum { CYCLE_DAYS = 146097 };
	struct civil c;
	int64_t shifted = day + 719468;
	int64_t cycle = (shifted >= 0 ? shifted : shifted - (CYCLE_DAYS - 1)) / CYCLE_DAYS;
	int64_t in_cycle = shifted - cycle * CYCLE_DAYS;
	int64_t year = (in_cycle - in_cycle / 1460 + in_cycle / 36524 - in_cycle / 146096) / 365;
	int64_t since_march = in_cycle - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * since_march + 2) / 153;
	c.day = (int)(since_march - (153 * month + 2) / 5 + 1);
	c.month = (int)(month < 10 ? month + 3 : month - 9);
	c.year = year + cycle * 400 + (c.month <= 2);
	c.leap = (c.year % 4 == 0 && c.year % 100 != 0) || c.year % 400 == 0;
	c.day_of_year = (int)(since_march >= 306 ? since_march - 305 : since_march + 60 + c.leap);
	c.day_of_week = (int)(((day % 7) + 11) % 7);
	return c;
}

/* Whole seconds, and as a time they are; what is no number or too large is the earliest time. */
static int64_t seconds_of(double v)
{
	return v >= -0x1p63 && v < 0x1p63 ? (int64_t)v : INT64_MIN;
}

static int64_t floor_to(int64_t v, int64_t unit)
{
	return v / unit - (v % unit < 0);
}

static struct civil civil_of(double v)
{
	return civil_of_day(floor_to(seconds_of(v), DAY_SECONDS));
}

static int64_t second_of_day(double v)
{
	int64_t second = seconds_of(v) % DAY_SECONDS;
	return second < 0 ? second + DAY_SECONDS : second;
}

static int days_in_month(const struct civil *c)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	return days[c->month - 1] + (c->month == 2 && c->leap);
}

#define CIVIL_MAP(name, expression)                                                      \
	void promql_body_##name(const struct promql_eval_call *call, const double *from, \
				double *into, size_t count)                              \
	{                                                                                \
		(void)call;                                                              \
		for (size_t i = 0; i < count; i++) {                                     \
			struct civil c = civil_of(from[i]);                              \
			into[i] = (double)(expression);                                  \
		}                                                                        \
	}

CIVIL_MAP(day_of_month, c.day)
CIVIL_MAP(day_of_week, c.day_of_week)
CIVIL_MAP(day_of_year, c.day_of_year)
CIVIL_MAP(days_in_month, days_in_month(&c))
CIVIL_MAP(month, c.month)
CIVIL_MAP(year, c.year)
MAP(hour, (double)(second_of_day(v) / 3600))
MAP(minute, (double)(second_of_day(v) % 3600 / 60))

errc promql_body_timestamp(struct promql_eval_scope *scope, size_t step,
			   const struct promql_sample *in, struct promql_sample *ret, struct err *e)
{
	(void)in, (void)e;
	double when = (double)promql_grid_time(&scope->call->grid, step) / 1000;
	*ret = (struct promql_sample){ true, when, NULL };
	return OK;
}

errc promql_body_start_timestamp(struct promql_eval_scope *scope, size_t step,
				 const struct promql_sample *in, struct promql_sample *ret,
				 struct err *e)
{
	(void)scope, (void)step, (void)in, (void)e;
	/* samples come without a start time, which Prometheus gives as 0 */
	*ret = (struct promql_sample){ true, 0, NULL };
	return OK;
}

/* ---- What one native histogram tells; floats are left out. */

#define HISTOGRAM_SAMPLE(name, expression)                                                 \
	errc promql_body_##name(struct promql_eval_scope *scope, size_t step,              \
				const struct promql_sample *in, struct promql_sample *ret, \
				struct err *e)                                             \
	{                                                                                  \
		(void)scope, (void)step, (void)e;                                          \
		const struct histogram *h = in->histogram;                                 \
		if (h)                                                                     \
			*ret = (struct promql_sample){ true, (expression), NULL };         \
		return OK;                                                                 \
	}

HISTOGRAM_SAMPLE(histogram_avg, h->sum / h->count)
HISTOGRAM_SAMPLE(histogram_count, h->count)
HISTOGRAM_SAMPLE(histogram_sum, h->sum)
HISTOGRAM_SAMPLE(histogram_stdvar, histogram_variance(h))
HISTOGRAM_SAMPLE(histogram_stddev, sqrt(histogram_variance(h)))
