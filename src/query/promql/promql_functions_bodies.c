#include "base/checks.h"
#include "query/promql/promql_functions_internal.h"

#define RANGE(name)                         \
	{                                   \
		.range = promql_body_##name \
	}
#define RANGE_KERNEL(name)                                                  \
	{                                                                   \
		.range = promql_body_##name, .kernel = promql_kernel_##name \
	}
#define RATE_KERNEL(name, is_counter)                                                       \
	{                                                                                   \
		.range = promql_body_##name, .kernel = promql_kernel_##name,                \
		.takes_anchored = true, .takes_smoothed = true, .cache = PROMQL_RATE_CACHE, \
		.counter = (is_counter)                                                     \
	}
#define PAIRS_KERNEL(name)                                                   \
	{                                                                    \
		.range = promql_body_##name, .kernel = promql_kernel_##name, \
		.takes_anchored = true                                       \
	}
#define PIECES_KERNEL(name)                                                  \
	{                                                                    \
		.range = promql_body_##name, .kernel = promql_kernel_##name, \
		.cache = PROMQL_PIECES_CACHE                                 \
	}
#define NAMED_KERNEL(name)                                                                      \
	{                                                                                       \
		.range = promql_body_##name, .kernel = promql_kernel_##name, .keeps_name = true \
	}
#define MAP(name)                         \
	{                                 \
		.map = promql_body_##name \
	}
#define TIME_MAP(name)                                     \
	{                                                  \
		.map = promql_body_##name, .of_time = true \
	}
#define SAMPLE(name)                         \
	{                                    \
		.sample = promql_body_##name \
	}
#define WHOLE(name)                         \
	{                                   \
		.whole = promql_body_##name \
	}

static const struct promql_function_body bodies[PROMQL_FUNCTION_COUNT] = {
	[PROMQL_FN_ABS] = MAP(abs),
	[PROMQL_FN_ABSENT] = WHOLE(absent),
	[PROMQL_FN_ABSENT_OVER_TIME] = WHOLE(absent_over_time),
	[PROMQL_FN_ACOS] = MAP(acos),
	[PROMQL_FN_ACOSH] = MAP(acosh),
	[PROMQL_FN_ASIN] = MAP(asin),
	[PROMQL_FN_ASINH] = MAP(asinh),
	[PROMQL_FN_ATAN] = MAP(atan),
	[PROMQL_FN_ATANH] = MAP(atanh),
	[PROMQL_FN_AVG_OVER_TIME] = PIECES_KERNEL(avg_over_time),
	[PROMQL_FN_CEIL] = MAP(ceil),
	[PROMQL_FN_CHANGES] = PAIRS_KERNEL(changes),
	[PROMQL_FN_CLAMP] = SAMPLE(clamp),
	[PROMQL_FN_CLAMP_MAX] = MAP(clamp_max),
	[PROMQL_FN_CLAMP_MIN] = MAP(clamp_min),
	[PROMQL_FN_COS] = MAP(cos),
	[PROMQL_FN_COSH] = MAP(cosh),
	[PROMQL_FN_COUNT_OVER_TIME] = RANGE_KERNEL(count_over_time),
	[PROMQL_FN_DAYS_IN_MONTH] = TIME_MAP(days_in_month),
	[PROMQL_FN_DAY_OF_MONTH] = TIME_MAP(day_of_month),
	[PROMQL_FN_DAY_OF_WEEK] = TIME_MAP(day_of_week),
	[PROMQL_FN_DAY_OF_YEAR] = TIME_MAP(day_of_year),
	[PROMQL_FN_DEG] = MAP(deg),
	[PROMQL_FN_DELTA] = RATE_KERNEL(delta, false),
	[PROMQL_FN_DERIV] = RANGE(deriv),
	[PROMQL_FN_DOUBLE_EXPONENTIAL_SMOOTHING] = RANGE(double_exponential_smoothing),
	[PROMQL_FN_END] = WHOLE(end),
	[PROMQL_FN_EXP] = MAP(exp),
	[PROMQL_FN_FIRST_OVER_TIME] = NAMED_KERNEL(first_over_time),
	[PROMQL_FN_FLOOR] = MAP(floor),
	[PROMQL_FN_HISTOGRAM_AVG] = SAMPLE(histogram_avg),
	[PROMQL_FN_HISTOGRAM_COUNT] = SAMPLE(histogram_count),
	[PROMQL_FN_HISTOGRAM_FRACTION] = WHOLE(histogram_fraction),
	[PROMQL_FN_HISTOGRAM_QUANTILE] = WHOLE(histogram_quantile),
	[PROMQL_FN_HISTOGRAM_QUANTILES] = WHOLE(histogram_quantiles),
	[PROMQL_FN_HISTOGRAM_STDDEV] = SAMPLE(histogram_stddev),
	[PROMQL_FN_HISTOGRAM_STDVAR] = SAMPLE(histogram_stdvar),
	[PROMQL_FN_HISTOGRAM_SUM] = SAMPLE(histogram_sum),
	[PROMQL_FN_HOUR] = TIME_MAP(hour),
	[PROMQL_FN_IDELTA] = RANGE_KERNEL(idelta),
	[PROMQL_FN_INCREASE] = RATE_KERNEL(increase, true),
	[PROMQL_FN_INFO] = WHOLE(info),
	[PROMQL_FN_IRATE] = RANGE_KERNEL(irate),
	[PROMQL_FN_LABEL_JOIN] = WHOLE(label_join),
	[PROMQL_FN_LABEL_REPLACE] = WHOLE(label_replace),
	[PROMQL_FN_LAST_OVER_TIME] = NAMED_KERNEL(last_over_time),
	[PROMQL_FN_LN] = MAP(ln),
	[PROMQL_FN_LOG10] = MAP(log10),
	[PROMQL_FN_LOG2] = MAP(log2),
	[PROMQL_FN_MAD_OVER_TIME] = RANGE(mad_over_time),
	[PROMQL_FN_MAX_OF] = WHOLE(max_of),
	[PROMQL_FN_MAX_OVER_TIME] = PIECES_KERNEL(max_over_time),
	[PROMQL_FN_MINUTE] = TIME_MAP(minute),
	[PROMQL_FN_MIN_OF] = WHOLE(min_of),
	[PROMQL_FN_MIN_OVER_TIME] = PIECES_KERNEL(min_over_time),
	[PROMQL_FN_MONTH] = TIME_MAP(month),
	[PROMQL_FN_PI] = WHOLE(pi),
	/* its value is of the step's time, whatever the samples */
	[PROMQL_FN_PREDICT_LINEAR] = { .range = promql_body_predict_linear, .varies = true },
	[PROMQL_FN_PRESENT_OVER_TIME] = RANGE_KERNEL(present_over_time),
	[PROMQL_FN_QUANTILE_OVER_TIME] = RANGE(quantile_over_time),
	[PROMQL_FN_RAD] = MAP(rad),
	[PROMQL_FN_RANGE] = WHOLE(range),
	[PROMQL_FN_RATE] = RATE_KERNEL(rate, true),
	[PROMQL_FN_RESETS] = PAIRS_KERNEL(resets),
	[PROMQL_FN_ROUND] = MAP(round),
	[PROMQL_FN_SCALAR] = WHOLE(scalar),
	[PROMQL_FN_SGN] = MAP(sgn),
	[PROMQL_FN_SIN] = MAP(sin),
	[PROMQL_FN_SINH] = MAP(sinh),
	[PROMQL_FN_SORT] = WHOLE(sort),
	[PROMQL_FN_SORT_BY_LABEL] = WHOLE(sort_by_label),
	[PROMQL_FN_SORT_BY_LABEL_DESC] = WHOLE(sort_by_label_desc),
	[PROMQL_FN_SORT_DESC] = WHOLE(sort_desc),
	[PROMQL_FN_SQRT] = MAP(sqrt),
	[PROMQL_FN_START] = WHOLE(start),
	[PROMQL_FN_START_TIMESTAMP] = SAMPLE(start_timestamp),
	[PROMQL_FN_STDDEV_OVER_TIME] = RANGE(stddev_over_time),
	[PROMQL_FN_STDVAR_OVER_TIME] = RANGE(stdvar_over_time),
	[PROMQL_FN_STEP] = WHOLE(step),
	[PROMQL_FN_SUM_OVER_TIME] = PIECES_KERNEL(sum_over_time),
	[PROMQL_FN_TAN] = MAP(tan),
	[PROMQL_FN_TANH] = MAP(tanh),
	[PROMQL_FN_TIME] = { .whole = promql_body_time, .varies = true },
	[PROMQL_FN_TIMESTAMP] = { .sample = promql_body_timestamp, .varies = true },
	[PROMQL_FN_TS_OF_FIRST_OVER_TIME] = RANGE(ts_of_first_over_time),
	[PROMQL_FN_TS_OF_LAST_OVER_TIME] = RANGE(ts_of_last_over_time),
	[PROMQL_FN_TS_OF_MAX_OVER_TIME] = RANGE(ts_of_max_over_time),
	[PROMQL_FN_TS_OF_MIN_OVER_TIME] = RANGE(ts_of_min_over_time),
	[PROMQL_FN_VECTOR] = WHOLE(vector),
	[PROMQL_FN_YEAR] = TIME_MAP(year),
};

const struct promql_function_body *promql_function_body(enum promql_function_id id)
{
	must((size_t)id < ARRAY_COUNT(bodies));
	return &bodies[id];
}
