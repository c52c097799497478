/* How the engine is, in Prometheus's shapes; the cardinality explorer; deletion. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/api_json.h"
#include "api/prometheus.h"
#include "base/checks.h"
#include "os/clock.h"
#include "query/promql/promql_ast.h"

enum { TOP_DEFAULT = 10, TOP_MAX = 10000 };

/* No `features`: clients take that for a ruler API that we have not. */
static errc write_buildinfo(struct prometheus_call *call, struct err *e)
{
	struct json_writer *w = call->data;
	(void)e;
	json_begin_object(w);
	json_put_cstr(w, "version", "3.14.0");
	json_put_cstr(w, "revision", "holdfast-" HOLDFAST_VERSION);
	json_put_cstr(w, "branch", "");
	json_put_cstr(w, "buildUser", "");
	json_put_cstr(w, "buildDate", "");
	json_put_cstr(w, "goVersion", "");
	json_end_object(w);
	return OK;
}

static errc write_runtimeinfo(struct prometheus_call *call, struct err *e)
{
	struct json_writer *w = call->data;
	struct metrics_stats stats;
	char host[256] = "", folder[4096] = "";
	(void)e;
	metrics_stats(call->metrics, &stats);
	gethostname(host, sizeof(host) - 1);
	if (!getcwd(folder, sizeof(folder)))
		folder[0] = '\0';
	json_begin_object(w);
	api_put_time(w, "startTime", call->api->started);
	json_put_cstr(w, "CWD", folder);
	json_put_cstr(w, "hostname", host);
	api_put_time(w, "serverTime", clock_now());
	json_put_bool(w, "reloadConfigSuccess", true);
	api_put_time(w, "lastConfigTime", call->api->started);
	json_put_i64(w, "corruptionCount", (int64_t)stats.block_bad_count);
	json_put_i64(w, "goroutineCount", 0);
	json_put_i64(w, "GOMAXPROCS", sysconf(_SC_NPROCESSORS_ONLN));
	json_put_i64(w, "GOMEMLIMIT", (int64_t)stats.memory_bytes_max);
	json_put_cstr(w, "GOGC", "");
	json_put_cstr(w, "GODEBUG", "");
	json_put_cstr(w, "storageRetention", "");
	json_end_object(w);
	return OK;
}

static errc write_config(struct prometheus_call *call, struct err *e)
{
	(void)e;
	json_begin_object(call->data);
	/* targets come from the applications' specifications; there is no file of this shape */
	json_put_cstr(call->data, "yaml", "");
	json_end_object(call->data);
	return OK;
}

static errc write_flags(struct prometheus_call *call, struct err *e)
{
	const struct promql_options *options = call->api->context->promql;
	struct buf features CLEANUP(buf_done) = buf_init(256);
	struct json_writer *w = call->data;
	(void)e;
	if (options->experimental_functions)
		buf_add_c(&features, "promql-experimental-functions");
	if (options->extended_range_selectors)
		buf_printf(&features, "%spromql-extended-range-selectors", features.len ? "," : "");
	if (options->fill_modifiers)
		buf_printf(&features, "%spromql-binop-fill-modifiers", features.len ? "," : "");
	json_begin_object(w);
	json_put_cstr(w, "enable-feature", buf_cstr(&features));
	json_put_cstr(w, "query.lookback-delta", "5m");
	json_put_cstr(w, "query.timeout", "2m");
	json_put_cstr(w, "web.enable-admin-api", "true");
	json_put_cstr(w, "web.enable-remote-write-receiver", "true");
	json_put_cstr(w, "web.enable-otlp-receiver", "true");
	json_end_object(w);
	return OK;
}

static errc add_top(struct prometheus_call *call, const char *key, enum metrics_cardinality_by by,
		    bool values, size_t limit, struct err *e)
{
	struct json_writer *w = call->data;
	struct metrics_cardinality *rows = NULL;
	size_t count = 0;
	TRY(metrics_cardinality(call->metrics, by, clock_now(), limit, call->work, &rows, &count,
				e));
	json_key(w, key);
	json_begin_array(w);
	for (size_t i = 0; i < count; i++) {
		json_begin_object(w);
		json_put_str(w, "name", rows[i].name);
		json_put_i64(w, "value",
			     (int64_t)(values ? rows[i].value_count : rows[i].series_count));
		json_end_object(w);
	}
	json_end_array(w);
	return OK;
}

static errc write_tsdb(struct prometheus_call *call, struct err *e)
{
	struct json_writer *w = call->data;
	struct metrics_stats stats;
	size_t limit = 0;
	TRY(prometheus_limit(call, &limit, e));
	if (limit > TOP_MAX)
		FAIL(e, ERR_INVALID, "invalid parameter \"limit\": it must be 1 to %d", TOP_MAX);
	limit = limit ? limit : TOP_DEFAULT;
	metrics_stats(call->metrics, &stats);
	json_begin_object(w);
	json_key(w, "headStats");
	json_begin_object(w);
	json_put_i64(w, "numSeries", (int64_t)stats.series_count);
	json_put_i64(w, "numLabelPairs", 0);
	json_put_i64(w, "chunkCount", (int64_t)stats.part_count);
	json_put_i64(w, "minTime", stats.min_time);
	json_put_i64(w, "maxTime", stats.max_time);
	json_end_object(w);
	TRY(add_top(call, "seriesCountByMetricName", METRICS_BY_METRIC, false, limit, e));
	TRY(add_top(call, "labelValueCountByLabelName", METRICS_BY_LABEL, true, limit, e));
	TRY(add_top(call, "memoryInBytesByLabelName", METRICS_BY_LABEL, false, limit, e));
	TRY(add_top(call, "seriesCountByLabelValuePair", METRICS_BY_PAIR, false, limit, e));
	json_end_object(w);
	return OK;
}

static errc write_walreplay(struct prometheus_call *call, struct err *e)
{
	struct json_writer *w = call->data;
	(void)e;
	json_begin_object(w);
	json_put_i64(w, "min", 0);
	json_put_i64(w, "max", 0);
	json_put_i64(w, "current", 0);
	json_put_cstr(w, "state", "done");
	json_end_object(w);
	return OK;
}

/* Rules and alerts, of which there are none yet. */
static errc write_rules(struct prometheus_call *call, struct err *e)
{
	(void)e;
	json_begin_object(call->data);
	json_key(call->data, "groups");
	json_begin_array(call->data);
	json_end_array(call->data);
	json_end_object(call->data);
	return OK;
}

static errc write_alerts(struct prometheus_call *call, struct err *e)
{
	(void)e;
	json_begin_object(call->data);
	json_key(call->data, "alerts");
	json_begin_array(call->data);
	json_end_array(call->data);
	json_end_object(call->data);
	return OK;
}

static errc write_alertmanagers(struct prometheus_call *call, struct err *e)
{
	static const char *const keys[] = { "activeAlertmanagers", "droppedAlertmanagers" };
	(void)e;
	json_begin_object(call->data);
	for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
		json_key(call->data, keys[i]);
		json_begin_array(call->data);
		json_end_array(call->data);
	}
	json_end_object(call->data);
	return OK;
}

/* The cardinality explorer: one table by `by=metric|label|pair`, of one day. */
static errc write_cardinality(struct prometheus_call *call, struct err *e)
{
	static const struct {
		const char *word;
		enum metrics_cardinality_by by;
	} words[] = { { "metric", METRICS_BY_METRIC },
		      { "label", METRICS_BY_LABEL },
		      { "pair", METRICS_BY_PAIR } };
	struct json_writer *w = call->data;
	struct metrics_cardinality *rows = NULL;
	struct metrics_stats stats;
	size_t count = 0, limit = 0, k = 0;
	time_ms day;
	str by = prometheus_param(call, "by");
	TRY(prometheus_limit(call, &limit, e));
	TRY(prometheus_time(call, "time", clock_now(), &day, e));
	while (by.len && k < ARRAY_COUNT(words) && !str_eq_c(by, words[k].word))
		k++;
	if (k == ARRAY_COUNT(words))
		FAIL(e, ERR_INVALID, "\"by\" must be metric, label or pair: %.*s", STR_ARG(by));
	TRY(metrics_cardinality(call->metrics, words[k].by, day, limit ? limit : TOP_DEFAULT,
				call->work, &rows, &count, e));
	metrics_stats(call->metrics, &stats);
	json_begin_object(w);
	json_put_i64(w, "series", (int64_t)stats.series_count);
	json_put_i64(w, "created", (int64_t)stats.series_created_count);
	json_put_i64(w, "refused", (int64_t)stats.series_refused_count);
	json_key(w, "rows");
	json_begin_array(w);
	for (size_t i = 0; i < count; i++) {
		json_begin_object(w);
		json_put_str(w, "name", rows[i].name);
		json_put_i64(w, "series", (int64_t)rows[i].series_count);
		json_put_i64(w, "values", (int64_t)rows[i].value_count);
		json_put_i64(w, "created", (int64_t)rows[i].created_count);
		json_end_object(w);
	}
	json_end_array(w);
	json_end_object(w);
	return OK;
}

PROMETHEUS_HANDLER(buildinfo)
PROMETHEUS_HANDLER(runtimeinfo)
PROMETHEUS_HANDLER(config)
PROMETHEUS_HANDLER(flags)
PROMETHEUS_HANDLER(tsdb)
PROMETHEUS_HANDLER(walreplay)
PROMETHEUS_HANDLER(rules)
PROMETHEUS_HANDLER(alerts)
PROMETHEUS_HANDLER(alertmanagers)
PROMETHEUS_HANDLER(cardinality)

static errc delete_matching(struct prometheus_call *call, struct err *e)
{
	struct prometheus_matchers matchers CLEANUP(prometheus_matchers_done) = { 0 };
	time_ms from, to;
	TRY(http_request_form(call->request, &call->pairs, &call->pair_count, e));
	TRY(prometheus_range(call, &from, &to, e));
	TRY(prometheus_matchers_parse(call, &matchers, e));
	if (!matchers.count)
		FAIL(e, ERR_INVALID, "no match[] parameter provided");
	for (size_t i = 0; i < matchers.count; i++) {
		uint64_t count = 0;
		TRY(metrics_delete(call->metrics, matchers.sets[i].matchers, matchers.sets[i].count,
				   from, to, &count, e));
	}
	return OK;
}

static errc delete_series(struct api *api, struct http_request *request,
			  struct http_response *response, struct err *e)
{
	struct arena work CLEANUP(arena_done) = arena_init(16 * 1024 * 1024);
	struct prometheus_call call = { .api = api,
					.metrics = api->context->metrics,
					.request = request,
					.arena = http_request_arena(request),
					.work = &work };
	str selector = STR("");
	errc rc = delete_matching(&call, e);
	size_t index = 0;
	prometheus_param_next(&call, "match[]", &index, &selector);
	api_audit_detail(request, arena_cstr(call.arena, selector), NULL);
	if (rc == OK)
		http_response_set_status(response, 204);
	else
		prometheus_fail(response, e);
	return rc;
}

/* All parts rewritten as compact as they get, without what was deleted. */
static errc clean_tombstones(struct api *api, struct http_request *request,
			     struct http_response *response, struct err *e)
{
	(void)request;
	errc rc = metrics_flush(api->context->metrics, true, e);
	if (rc == OK)
		http_response_set_status(response, 204);
	else
		prometheus_fail(response, e);
	return rc;
}

const struct api_route prometheus_status_routes[] = {
	{ "GET", "/api/v1/status/buildinfo", 0, ROLE_VIEWER, NULL, buildinfo },
	{ "GET", "/api/v1/status/runtimeinfo", 0, ROLE_VIEWER, NULL, runtimeinfo },
	{ "GET", "/api/v1/status/config", 0, ROLE_VIEWER, NULL, config },
	{ "GET", "/api/v1/status/flags", 0, ROLE_VIEWER, NULL, flags },
	{ "GET", "/api/v1/status/tsdb", 0, ROLE_VIEWER, NULL, tsdb },
	{ "GET", "/api/v1/status/walreplay", 0, ROLE_VIEWER, NULL, walreplay },
	{ "GET", "/api/v1/rules", 0, ROLE_VIEWER, NULL, rules },
	{ "GET", "/api/v1/alerts", 0, ROLE_VIEWER, NULL, alerts },
	{ "GET", "/api/v1/alertmanagers", 0, ROLE_VIEWER, NULL, alertmanagers },
	{ "GET", "/holdfast/v1/metrics/cardinality", 0, ROLE_VIEWER, NULL, cardinality },
	{ "POST", "/api/v1/admin/tsdb/delete_series", PROMETHEUS_FORM_MAX, ROLE_ADMIN,
	  "metrics.delete", delete_series },
	{ "PUT", "/api/v1/admin/tsdb/delete_series", PROMETHEUS_FORM_MAX, ROLE_ADMIN,
	  "metrics.delete", delete_series },
	{ "POST", "/api/v1/admin/tsdb/clean_tombstones", 0, ROLE_ADMIN, "metrics.merge",
	  clean_tombstones },
	{ "PUT", "/api/v1/admin/tsdb/clean_tombstones", 0, ROLE_ADMIN, "metrics.merge",
	  clean_tombstones },
};
const size_t prometheus_status_route_count = ARRAY_COUNT(prometheus_status_routes);
