/* What there is to ask for: series, labels, their values, metadata, exemplars. */
#include <stdlib.h>
#include <string.h>

#include "api/prometheus.h"
#include "base/checks.h"
#include "codec/number.h"
#include "codec/text.h"

static void write_names(struct prometheus_call *call, const struct metrics_names *names)
{
	json_begin_array(call->data);
	for (size_t i = 0; i < names->count; i++)
		json_add_str(call->data, names->items[i]);
	json_end_array(call->data);
	prometheus_note_truncated(call, names->truncated);
}

/* What all three of names, values and series ask by. */
struct scope {
	struct prometheus_matchers matchers;
	time_ms from, to;
	size_t limit;
};

static errc scope_read(const struct prometheus_call *call, struct scope *scope, struct err *e)
{
	TRY(prometheus_range(call, &scope->from, &scope->to, e));
	TRY(prometheus_limit(call, &scope->limit, e));
	return prometheus_matchers_parse(call, &scope->matchers, e);
}

static void scope_done(struct scope *scope)
{
	prometheus_matchers_done(&scope->matchers);
}

static errc write_label_names(struct prometheus_call *call, struct err *e)
{
	struct scope scope CLEANUP(scope_done) = { 0 };
	struct metrics_names names = { 0 };
	TRY(scope_read(call, &scope, e));
	TRY(metrics_label_names(call->metrics, scope.matchers.sets, scope.matchers.count,
				scope.from, scope.to, scope.limit, &call->budget, call->work,
				&names, e));
	write_names(call, &names);
	return OK;
}

/* `U__a_2e_b` is a name with bytes that a path cannot carry: `_2e_` is a code point, `__` an
 * underscore. */
static errc unescape_name(struct prometheus_call *call, str name, str *ret, struct err *e)
{
	if (!str_starts(name, STR("U__"))) {
		*ret = name;
		return OK;
	}
	struct buf text = buf_init(4 * name.len);
	bool good = true;
	for (size_t i = 3; i < name.len && good; i++) {
		if (name.ptr[i] != '_') {
			buf_add_byte(&text, name.ptr[i]);
			continue;
		}
		uint32_t point = 0;
		size_t digits = 0;
		for (i++; i < name.len && name.ptr[i] != '_' && digits <= 6; i++, digits++) {
			int c = name.ptr[i] | 0x20;
			bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
			good &= hex;
			point = point * 16 + (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
		}
		good &= i < name.len && digits <= 6;
		if (good && digits == 0)
			buf_add_byte(&text, '_');
		else if (good)
			good = text_add_utf8(&text, point);
	}
	*ret = good ? arena_str(call->arena, buf_str(&text)) : (str){ 0 };
	buf_done(&text);
	if (!good)
		FAIL(e, ERR_INVALID, "invalid label name: \"%.*s\"", STR_ARG(name));
	return OK;
}

static errc write_label_values(struct prometheus_call *call, struct err *e)
{
	struct scope scope CLEANUP(scope_done) = { 0 };
	struct metrics_names names = { 0 };
	str name;
	TRY(unescape_name(call, http_request_param(call->request, "name"), &name, e));
	if (!name.len || !text_is_utf8(name))
		FAIL(e, ERR_INVALID, "invalid label name: \"%.*s\"", STR_ARG(name));
	TRY(scope_read(call, &scope, e));
	TRY(metrics_label_values(call->metrics, name, scope.matchers.sets, scope.matchers.count,
				 scope.from, scope.to, scope.limit, &call->budget, call->work,
				 &names, e));
	write_names(call, &names);
	return OK;
}

static errc write_series(struct prometheus_call *call, struct err *e)
{
	struct scope scope CLEANUP(scope_done) = { 0 };
	struct labels *series = NULL;
	size_t count = 0;
	bool truncated = false;
	TRY(scope_read(call, &scope, e));
	if (!scope.matchers.count)
		FAIL(e, ERR_INVALID, "no match[] parameter provided");
	TRY(metrics_series(call->metrics, scope.matchers.sets, scope.matchers.count, scope.from,
			   scope.to, scope.limit, &call->budget, call->work, &series, &count,
			   &truncated, e));
	json_begin_array(call->data);
	for (size_t i = 0; i < count; i++)
		prometheus_write_labels(call->data, &series[i]);
	json_end_array(call->data);
	prometheus_note_truncated(call, truncated);
	return OK;
}

static errc write_metadata(struct prometheus_call *call, struct err *e)
{
	struct metrics_metadata *items = NULL;
	size_t count = 0, limit = 0;
	struct json_writer *w = call->data;
	TRY(prometheus_limit(call, &limit, e));
	TRY(metrics_metadata_list(call->metrics, prometheus_param(call, "metric"), limit,
				  call->work, &items, &count, e));
	json_begin_object(w);
	for (size_t i = 0; i < count; i++) {
		json_key_str(w, items[i].name);
		json_begin_array(w);
		json_begin_object(w);
		json_put_cstr(w, "type", metrics_type_name(items[i].type));
		json_put_str(w, "unit", items[i].unit);
		json_put_str(w, "help", items[i].help);
		json_end_object(w);
		json_end_array(w);
	}
	json_end_object(w);
	return OK;
}

static void write_exemplar(struct json_writer *w, const struct metrics_exemplar *x)
{
	char text[NUMBER_TEXT_SIZE];
	json_begin_object(w);
	json_key(w, "labels");
	prometheus_write_labels(w, &x->labels);
	number_format(x->value, text);
	json_put_cstr(w, "value", text);
	json_key(w, "timestamp");
	prometheus_write_time(w, x->time);
	json_end_object(w);
}

/* Of the series that the selectors of the query name. */
static errc write_exemplars(struct prometheus_call *call, struct err *e)
{
	struct prometheus_matchers matchers CLEANUP(prometheus_matchers_done) = { 0 };
	struct metrics_exemplars *found = NULL;
	size_t count = 0;
	time_ms from, to;
	struct json_writer *w = call->data;
	TRY(prometheus_range(call, &from, &to, e));
	TRY(prometheus_query_matchers(call, prometheus_param(call, "query"), &matchers, e));
	TRY(metrics_exemplars_query(call->metrics, matchers.sets, matchers.count, from, to,
				    call->work, &found, &count, e));
	json_begin_array(w);
	for (size_t i = 0; i < count; i++) {
		json_begin_object(w);
		json_key(w, "seriesLabels");
		prometheus_write_labels(w, &found[i].series);
		json_key(w, "exemplars");
		json_begin_array(w);
		for (size_t k = 0; k < found[i].count; k++)
			write_exemplar(w, &found[i].items[k]);
		json_end_array(w);
		json_end_object(w);
	}
	json_end_array(w);
	return OK;
}

PROMETHEUS_HANDLER(label_names)
PROMETHEUS_HANDLER(label_values)
PROMETHEUS_HANDLER(series)
PROMETHEUS_HANDLER(metadata)
PROMETHEUS_HANDLER(exemplars)

const struct api_route prometheus_name_routes[] = {
	{ "GET", "/api/v1/labels", 0, ROLE_VIEWER, NULL, label_names },
	{ "POST", "/api/v1/labels", PROMETHEUS_FORM_MAX, ROLE_VIEWER, NULL, label_names },
	{ "GET", "/api/v1/label/:name/values", 0, ROLE_VIEWER, NULL, label_values },
	{ "GET", "/api/v1/series", 0, ROLE_VIEWER, NULL, series },
	{ "POST", "/api/v1/series", PROMETHEUS_FORM_MAX, ROLE_VIEWER, NULL, series },
	{ "GET", "/api/v1/metadata", 0, ROLE_VIEWER, NULL, metadata },
	{ "GET", "/api/v1/query_exemplars", 0, ROLE_VIEWER, NULL, exemplars },
	{ "POST", "/api/v1/query_exemplars", PROMETHEUS_FORM_MAX, ROLE_VIEWER, NULL, exemplars },
};
const size_t prometheus_name_route_count = ARRAY_COUNT(prometheus_name_routes);
