/* query, query_range, format_query, parse_query. */
#include <stdlib.h>
#include <string.h>

#include "api/prometheus.h"
#include "base/checks.h"
#include "codec/number.h"
#include "os/clock.h"
#include "query/promql/histogram_math.h"
#include "query/promql/promql_ast.h"
#include "query/promql/promql_eval.h"

enum { QUERY_MS_MAX = 120000 };

static void write_histogram_value(struct json_writer *w, const char *key, double v)
{
	char text[NUMBER_TEXT_SIZE];
	number_format(v, text);
	json_put_cstr(w, key, text);
}

/* `[rule,"lower","upper","count"]`; the rule says which ends belong to the bucket. */
static void write_bucket(struct json_writer *w, const struct histogram_bucket *b)
{
	char text[NUMBER_TEXT_SIZE];
	const double values[] = { b->lower, b->upper, b->count };
	json_begin_array(w);
	json_add_i64(w, b->lower_inclusive ? (b->upper_inclusive ? 3 : 1)
					   : (b->upper_inclusive ? 0 : 2));
	for (size_t i = 0; i < ARRAY_COUNT(values); i++) {
		number_format(values[i], text);
		json_add_cstr(w, text);
	}
	json_end_array(w);
}

static void write_histogram(struct json_writer *w, time_ms t, const struct histogram *h)
{
	struct histogram_iterator it;
	struct histogram_bucket bucket;
	bool begun = false;
	json_begin_array(w);
	prometheus_write_time(w, t);
	json_begin_object(w);
	write_histogram_value(w, "count", h->count);
	write_histogram_value(w, "sum", h->sum);
	histogram_iterator_init(&it, h, false);
	while (histogram_iterator_next(&it, &bucket)) {
		if (bucket.count == 0)
			continue;
		if (!begun) {
			json_key(w, "buckets");
			json_begin_array(w);
		}
		begun = true;
		write_bucket(w, &bucket);
	}
	if (begun)
		json_end_array(w);
	json_end_object(w);
	json_end_array(w);
}

/* Floats in `values`, histograms in `histograms`, as one series may have both. */
static void write_matrix_series(struct json_writer *w, const struct promql_series *s)
{
	bool floats = !s->histograms, histograms = false;
	for (size_t i = 0; s->histograms && i < s->count; i++) {
		floats |= !s->histograms[i];
		histograms |= s->histograms[i] != NULL;
	}
	if (floats) {
		json_key(w, "values");
		json_begin_array(w);
		for (size_t i = 0; i < s->count; i++)
			if (!s->histograms || !s->histograms[i])
				prometheus_write_point(w, s->times[i], s->values[i]);
		json_end_array(w);
	}
	if (histograms) {
		json_key(w, "histograms");
		json_begin_array(w);
		for (size_t i = 0; i < s->count; i++)
			if (s->histograms[i])
				write_histogram(w, s->times[i], s->histograms[i]);
		json_end_array(w);
	}
}

static void write_series(struct json_writer *w, const struct promql_series *s, bool matrix)
{
	json_begin_object(w);
	json_key(w, "metric");
	prometheus_write_labels(w, &s->labels);
	if (matrix) {
		write_matrix_series(w, s);
	} else if (s->histograms && s->histograms[0]) {
		json_key(w, "histogram");
		write_histogram(w, s->times[0], s->histograms[0]);
	} else {
		json_key(w, "value");
		prometheus_write_point(w, s->times[0], s->values[0]);
	}
	json_end_object(w);
}

static void write_result_value(struct prometheus_call *call, const struct promql_result *r,
			       size_t limit)
{
	struct json_writer *w = call->data;
	if (r->type == PROMQL_RESULT_SCALAR) {
		prometheus_write_point(w, r->time, r->scalar);
		return;
	}
	json_begin_array(w);
	if (r->type == PROMQL_RESULT_STRING) {
		prometheus_write_time(w, r->time);
		json_add_str(w, r->string);
	}
	size_t count = limit && limit < r->series_count ? limit : r->series_count;
	bool has_series = r->type == PROMQL_RESULT_VECTOR || r->type == PROMQL_RESULT_MATRIX;
	for (size_t i = 0; has_series && i < count && !w->into->overflow; i++)
		write_series(w, &r->series[i], r->type == PROMQL_RESULT_MATRIX);
	json_end_array(w);
	prometheus_note_truncated(call, has_series && count < r->series_count);
}

static void write_stats(struct json_writer *w, const struct promql_stats *stats)
{
	json_key(w, "stats");
	json_begin_object(w);
	json_key(w, "timings");
	json_begin_object(w);
	json_key(w, "evalTotalTime");
	json_add_f64(w, (double)stats->eval_us / 1e6);
	json_key(w, "queryPreparationTime");
	json_add_f64(w, (double)stats->select_us / 1e6);
	json_end_object(w);
	json_key(w, "samples");
	json_begin_object(w);
	json_key(w, "totalQueryableSamples");
	json_add_u64(w, stats->samples);
	json_key(w, "peakBytes");
	json_add_u64(w, stats->peak_bytes);
	json_end_object(w);
	json_end_object(w);
}

/* Notes outlive the result. */
static const str *copy_notes(struct arena *work, const str *notes, size_t count)
{
	str *copy = arena_array(work, count + 1, sizeof(copy[0]));
	for (size_t i = 0; copy && i < count; i++)
		copy[i] = arena_str(work, notes[i]);
	return copy;
}

static errc write_result(struct prometheus_call *call, const struct promql_result *r, struct err *e)
{
	struct json_writer *w = call->data;
	size_t limit = 0;
	TRY(prometheus_limit(call, &limit, e));
	call->warnings = copy_notes(call->work, r->warnings, r->warning_count);
	call->warning_count = call->warnings ? r->warning_count : 0;
	call->infos = copy_notes(call->work, r->infos, r->info_count);
	call->info_count = call->infos ? r->info_count : 0;
	json_begin_object(w);
	json_put_cstr(w, "resultType", promql_result_type_name(r->type));
	json_key(w, "result");
	write_result_value(call, r, limit);
	if (prometheus_param(call, "stats").len)
		write_stats(w, &r->stats);
	json_end_object(w);
	return OK;
}

static errc evaluate(struct prometheus_call *call, struct promql_query *query, struct err *e)
{
	const struct feature_context *context = call->api->context;
	struct promql_result *result = NULL;
	int64_t timeout_ms = 0;
	TRY(prometheus_duration(call, "timeout", &timeout_ms, e));
	TRY(prometheus_duration(call, "lookback_delta", &query->lookback_ms, e));
	if (timeout_ms <= 0 || timeout_ms > QUERY_MS_MAX)
		timeout_ms = QUERY_MS_MAX;
	call->budget.deadline_mono_ms = clock_mono_ms() + timeout_ms;
	query->text = prometheus_param(call, "query");
	query->budget = &call->budget;
	query->executor = context->executor;
	if (promql_parse(query->text, context->promql, call->work, &query->expr, e) != OK)
		return err_prepend(e, "invalid parameter \"query\"");
	struct promql_span span = { query->step_ms, query->end - query->start };
	TRY(promql_resolve_durations(query->expr, span, e));
	TRY(promql_eval(call->metrics, query, &result, e));
	errc rc = write_result(call, result, e);
	promql_result_free(result);
	return rc;
}

static errc write_query(struct prometheus_call *call, struct err *e)
{
	struct promql_query query = { 0 };
	TRY(prometheus_time(call, "time", clock_now(), &query.start, e));
	query.end = query.start;
	return evaluate(call, &query, e);
}

static errc write_query_range(struct prometheus_call *call, struct err *e)
{
	struct promql_query query = { 0 };
	static const char *const needed[] = { "start", "end", "step" };
	for (size_t i = 0; i < ARRAY_COUNT(needed); i++)
		if (!prometheus_param(call, needed[i]).len)
			FAIL(e, ERR_INVALID,
			     "invalid parameter \"%s\": cannot parse \"\" to a valid %s", needed[i],
			     i < 2 ? "timestamp" : "duration");
	TRY(prometheus_time(call, "start", 0, &query.start, e));
	TRY(prometheus_time(call, "end", 0, &query.end, e));
	TRY(prometheus_duration(call, "step", &query.step_ms, e));
	if (query.end < query.start)
		FAIL(e, ERR_INVALID,
		     "invalid parameter \"end\": end timestamp must not be before start time");
	if (query.step_ms <= 0)
		FAIL(e, ERR_INVALID,
		     "invalid parameter \"step\": zero or negative query resolution step widths "
		     "are not accepted. Try a positive integer");
	if ((query.end - query.start) / query.step_ms > PROMETHEUS_POINTS_MAX)
		FAIL(e, ERR_INVALID,
		     "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing "
		     "the query resolution (?step=XX)");
	return evaluate(call, &query, e);
}

static errc parse(struct prometheus_call *call, struct promql_expr **ret, struct err *e)
{
	if (promql_parse(prometheus_param(call, "query"), call->api->context->promql, call->work,
			 ret, e) != OK)
		return err_prepend(e, "invalid parameter \"query\"");
	return OK;
}

static errc write_format_query(struct prometheus_call *call, struct err *e)
{
	struct promql_expr *expr = NULL;
	struct buf text CLEANUP(buf_done) = buf_init(16 * PROMETHEUS_FORM_MAX);
	TRY(parse(call, &expr, e));
	promql_format(&text, expr);
	TRY(buf_check(&text, "the formatted query", e));
	json_add_str(call->data, buf_str(&text));
	return OK;
}

static errc write_parse_query(struct prometheus_call *call, struct err *e)
{
	struct promql_expr *expr = NULL;
	struct buf text CLEANUP(buf_done) = buf_init(64 * PROMETHEUS_FORM_MAX);
	TRY(parse(call, &expr, e));
	promql_print_json(&text, expr);
	TRY(buf_check(&text, "the parsed query", e));
	json_add_raw(call->data, buf_str(&text));
	return OK;
}

PROMETHEUS_HANDLER(query)
PROMETHEUS_HANDLER(query_range)
PROMETHEUS_HANDLER(format_query)
PROMETHEUS_HANDLER(parse_query)

const struct api_route prometheus_query_routes[] = {
	{ "GET", "/api/v1/query", 0, ROLE_VIEWER, NULL, query },
	{ "POST", "/api/v1/query", PROMETHEUS_FORM_MAX, ROLE_VIEWER, NULL, query },
	{ "GET", "/api/v1/query_range", 0, ROLE_VIEWER, NULL, query_range },
	{ "POST", "/api/v1/query_range", PROMETHEUS_FORM_MAX, ROLE_VIEWER, NULL, query_range },
	{ "GET", "/api/v1/format_query", 0, ROLE_VIEWER, NULL, format_query },
	{ "POST", "/api/v1/format_query", PROMETHEUS_FORM_MAX, ROLE_VIEWER, NULL, format_query },
	{ "GET", "/api/v1/parse_query", 0, ROLE_VIEWER, NULL, parse_query },
	{ "POST", "/api/v1/parse_query", PROMETHEUS_FORM_MAX, ROLE_VIEWER, NULL, parse_query },
};
const size_t prometheus_query_route_count = ARRAY_COUNT(prometheus_query_routes);
