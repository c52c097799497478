/* The envelope, parameters and errors that all of Prometheus's API shares. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/prometheus.h"
#include "base/checks.h"
#include "codec/number.h"
#include "os/clock.h"
#include "query/promql/promql_ast.h"

enum { WORK_BYTES_MAX = 1024 * 1024 * 1024, LIMIT_MAX = 10000000 };
/* What Prometheus takes for the ends of time. */
static const time_ms time_min = -62135596800000, time_max = 253402300799999;

/* What an error is called here, and its status. */
static const struct {
	errc code;
	int status;
	const char *type;
} error_types[] = {
	{ ERR_INVALID, 400, "bad_data" },       { ERR_LIMIT, 400, "bad_data" },
	{ ERR_FAILED, 422, "execution" },       { ERR_TIMEOUT, 503, "timeout" },
	{ ERR_CANCELLED, 499, "canceled" },     { ERR_NOT_FOUND, 404, "not_found" },
	{ ERR_BUSY, 429, "too_many_requests" }, { ERR_UNAVAILABLE, 503, "unavailable" },
};

void prometheus_fail(struct http_response *response, const struct err *e)
{
	int status = 500;
	const char *type = "internal";
	struct buf text = buf_init(16 * sizeof(e->message));
	struct json_writer w = json_writer_init(&text, false);
	for (size_t i = 0; i < ARRAY_COUNT(error_types); i++) {
		if (error_types[i].code != e->code)
			continue;
		status = error_types[i].status;
		type = error_types[i].type;
	}
	json_begin_object(&w);
	json_put_cstr(&w, "status", "error");
	json_put_cstr(&w, "errorType", type);
	json_put_cstr(&w, "error", e->message);
	json_end_object(&w);
	http_response_set_status(response, status);
	if (e->code == ERR_BUSY)
		http_response_set_header(response, "retry-after", "5");
	http_response_set_body(response, "application/json", &text);
}

static bool has_left(void *ctx)
{
	return http_request_cancelled(ctx);
}

static void add_notes(struct json_writer *w, const char *key, const str *notes, size_t count)
{
	if (!count)
		return;
	json_key(w, key);
	json_begin_array(w);
	for (size_t i = 0; i < count; i++)
		json_add_str(w, notes[i]);
	json_end_array(w);
}

errc prometheus_answer(struct api *api, struct http_request *request,
		       struct http_response *response,
		       errc (*write)(struct prometheus_call *call, struct err *e))
{
	struct err failure = { 0 };
	struct arena work CLEANUP(arena_done) = arena_init(WORK_BYTES_MAX);
	struct buf text = buf_init(PROMETHEUS_ANSWER_MAX);
	struct json_writer w = json_writer_init(&text, false);
	struct prometheus_call call = { .api = api,
					.metrics = api->context->metrics,
					.request = request,
					.arena = http_request_arena(request),
					.work = &work,
					.data = &w,
					.budget = { .cancelled = has_left,
						    .cancelled_ctx = request } };
	errc rc = http_request_form(request, &call.pairs, &call.pair_count, &failure);
	json_begin_object(&w);
	json_put_cstr(&w, "status", "success");
	json_key(&w, "data");
	if (rc == OK)
		rc = write(&call, &failure);
	if (rc == OK && text.overflow)
		rc = err_fill(&failure, ERR_FAILED, 0, __FILE__, __LINE__,
			      "the answer is larger than %d MiB; ask for less",
			      PROMETHEUS_ANSWER_MAX >> 20);
	if (rc == OK) {
		add_notes(&w, "warnings", call.warnings, call.warning_count);
		add_notes(&w, "infos", call.infos, call.info_count);
		json_end_object(&w);
		http_response_set_body(response, "application/json", &text);
	} else {
		buf_done(&text);
		prometheus_fail(response, &failure);
	}
	return OK;
}

void prometheus_note_truncated(struct prometheus_call *call, bool truncated)
{
	if (!truncated)
		return;
	str *notes = arena_array(call->work, call->warning_count + 1, sizeof(notes[0]));
	if (!notes)
		return;
	if (call->warning_count)
		memcpy(notes, call->warnings, call->warning_count * sizeof(notes[0]));
	notes[call->warning_count++] = STR("results truncated due to limit");
	call->warnings = notes;
}

str prometheus_param(const struct prometheus_call *call, const char *name)
{
	for (size_t i = 0; i < call->pair_count; i++)
		if (str_eq_c(call->pairs[i].name, name))
			return call->pairs[i].value;
	return STR("");
}

bool prometheus_param_next(const struct prometheus_call *call, const char *name, size_t *index,
			   str *ret_value)
{
	while (*index < call->pair_count) {
		const struct http_pair *pair = &call->pairs[(*index)++];
		if (!str_eq_c(pair->name, name))
			continue;
		*ret_value = pair->value;
		return true;
	}
	return false;
}

errc prometheus_time(const struct prometheus_call *call, const char *name, time_ms otherwise,
		     time_ms *ret, struct err *e)
{
	double seconds = 0;
	str text = prometheus_param(call, name);
	if (!text.len) {
		*ret = otherwise;
		return OK;
	}
	if (number_parse(text, &seconds)) {
		if (!(seconds >= (double)time_min / 1000 && seconds <= (double)time_max / 1000))
			FAIL(e, ERR_INVALID,
			     "invalid parameter \"%s\": %.*s is no time that there is", name,
			     STR_ARG(text));
		*ret = (time_ms)round(seconds * 1000);
		return OK;
	}
	if (time_parse(text, ret))
		return OK;
	FAIL(e, ERR_INVALID, "invalid parameter \"%s\": cannot parse \"%.*s\" to a valid timestamp",
	     name, (int)(text.len < 100 ? text.len : 100), text.ptr);
}

/* `1h30m`: whole numbers, each unit at most once, large ones first. */
static bool duration_words(str text, int64_t *ret_ms)
{
	static const struct {
		const char *name;
		int64_t ms;
	} units[] = { { "y", 31536000000 }, { "w", 604800000 }, { "d", 86400000 }, { "h", 3600000 },
		      { "m", 60000 },       { "s", 1000 },      { "ms", 1 } };
	int64_t sum = 0;
	size_t next = 0;
	if (!text.len)
		return false;
	while (text.len) {
		int64_t v = 0, part;
		size_t digits = 0, letters = 0, u = next;
		for (; digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9';
		     digits++)
			if (__builtin_mul_overflow(v, 10, &v) ||
			    __builtin_add_overflow(v, text.ptr[digits] - '0', &v))
				return false;
		while (digits + letters < text.len && text.ptr[digits + letters] >= 'a' &&
		       text.ptr[digits + letters] <= 'z')
			letters++;
		str unit = { text.ptr + digits, letters };
		while (u < ARRAY_COUNT(units) && !str_eq_c(unit, units[u].name))
			u++;
		if (!digits || u == ARRAY_COUNT(units) ||
		    __builtin_mul_overflow(v, units[u].ms, &part) ||
		    __builtin_add_overflow(sum, part, &sum))
			return false;
		text = (str){ text.ptr + digits + letters, text.len - digits - letters };
		next = u + 1;
	}
	*ret_ms = sum;
	return true;
}

errc prometheus_duration(const struct prometheus_call *call, const char *name, int64_t *ret_ms,
			 struct err *e)
{
	double seconds = 0;
	str text = prometheus_param(call, name);
	if (!text.len) {
		*ret_ms = 0;
		return OK;
	}
	if (number_parse(text, &seconds)) {
		if (!(fabs(seconds) < 9.2e15))
			FAIL(e, ERR_INVALID,
			     "invalid parameter \"%s\": cannot parse \"%.*s\" to a valid duration. "
			     "It overflows int64",
			     name, STR_ARG(text));
		*ret_ms = (int64_t)round(seconds * 1000);
		return OK;
	}
	if (duration_words(text, ret_ms))
		return OK;
	FAIL(e, ERR_INVALID, "invalid parameter \"%s\": cannot parse \"%.*s\" to a valid duration",
	     name, (int)(text.len < 100 ? text.len : 100), text.ptr);
}

errc prometheus_limit(const struct prometheus_call *call, size_t *ret_limit, struct err *e)
{
	uint64_t limit = 0;
	str text = prometheus_param(call, "limit");
	if (text.len && (!str_to_u64(text, &limit) || limit > LIMIT_MAX))
		FAIL(e, ERR_INVALID, "invalid parameter \"limit\": it must be 0 to %d", LIMIT_MAX);
	*ret_limit = (size_t)limit;
	return OK;
}

errc prometheus_range(const struct prometheus_call *call, time_ms *ret_from, time_ms *ret_to,
		      struct err *e)
{
	time_ms from, to;
	TRY(prometheus_time(call, "start", time_min, &from, e));
	TRY(prometheus_time(call, "end", time_max, &to, e));
	if (to < from)
		FAIL(e, ERR_INVALID,
		     "invalid parameter \"end\": end timestamp must not be before start time");
	*ret_from = from;
	*ret_to = to;
	return OK;
}

void prometheus_matchers_done(struct prometheus_matchers *m)
{
	for (size_t i = 0; i < m->count; i++)
		for (size_t k = 0; k < m->sets[i].count; k++)
			matcher_done((struct matcher *)&m->sets[i].matchers[k]);
	m->count = 0;
}

static errc compile_set(const struct prometheus_call *call, const struct promql_vector *selector,
			struct metrics_matchers *set, struct err *e)
{
	struct matcher *items = arena_array(call->work, selector->matcher_count + 1,
					    sizeof(items[0]));
	TRY(arena_check(call->work, "the selectors", e));
	set->matchers = items;
	for (size_t i = 0; i < selector->matcher_count; i++) {
		items[i] = selector->matchers[i];
		TRY(matcher_compile(&items[i], e));
		set->count = i + 1;
	}
	return OK;
}

errc prometheus_matchers_parse(const struct prometheus_call *call, struct prometheus_matchers *ret,
			       struct err *e)
{
	str text;
	size_t count = 0;
	for (size_t index = 0; prometheus_param_next(call, "match[]", &index, &text);)
		count++;
	ret->sets = arena_array(call->work, count + 1, sizeof(ret->sets[0]));
	TRY(arena_check(call->work, "the selectors", e));
	for (size_t index = 0; prometheus_param_next(call, "match[]", &index, &text);) {
		struct promql_vector selector;
		if (promql_parse_selector(text, call->work, &selector, e) != OK)
			return err_prepend(e, "invalid parameter \"match[]\"");
		ret->count++; /* what was compiled of a set that fails is freed too */
		TRY(compile_set(call, &selector, &ret->sets[ret->count - 1], e));
	}
	return OK;
}

/* Every selector below EXPR. */
static errc collect(const struct prometheus_call *call, const struct promql_expr *expr,
		    struct prometheus_matchers *ret, struct err *e)
{
	switch (expr->kind) {
	case PROMQL_NUMBER:
	case PROMQL_STRING:
		return OK;
	case PROMQL_VECTOR: {
		struct metrics_matchers *sets = arena_array(call->work, ret->count + 1,
							    sizeof(sets[0]));
		TRY(arena_check(call->work, "the selectors", e));
		if (ret->count)
			memcpy(sets, ret->sets, ret->count * sizeof(sets[0]));
		ret->sets = sets;
		return compile_set(call, &expr->vector, &ret->sets[ret->count++], e);
	}
	case PROMQL_MATRIX:
		return collect(call, expr->matrix.selector, ret, e);
	case PROMQL_SUBQUERY:
		return collect(call, expr->subquery.expr, ret, e);
	case PROMQL_UNARY:
		return collect(call, expr->unary.expr, ret, e);
	case PROMQL_BINARY:
		TRY(collect(call, expr->binary.lhs, ret, e));
		return collect(call, expr->binary.rhs, ret, e);
	case PROMQL_AGGREGATE:
		if (expr->aggregate.param)
			TRY(collect(call, expr->aggregate.param, ret, e));
		return collect(call, expr->aggregate.expr, ret, e);
	case PROMQL_CALL:
		for (size_t i = 0; i < expr->call.arg_count; i++)
			TRY(collect(call, expr->call.args[i], ret, e));
		return OK;
	case PROMQL_PAREN:
		return collect(call, expr->paren.expr, ret, e);
	}
	return OK;
}

errc prometheus_query_matchers(const struct prometheus_call *call, str query,
			       struct prometheus_matchers *ret, struct err *e)
{
	struct promql_expr *expr = NULL;
	TRY(promql_parse(query, call->api->context->promql, call->work, &expr, e));
	return collect(call, expr, ret, e);
}

void prometheus_write_labels(struct json_writer *w, const struct labels *labels)
{
	json_begin_object(w);
	for (size_t i = 0; i < labels->count; i++) {
		json_key_str(w, labels->items[i].name);
		json_add_str(w, labels->items[i].value);
	}
	json_end_object(w);
}

void prometheus_write_time(struct json_writer *w, time_ms t)
{
	char text[32];
	uint64_t size = t < 0 ? -(uint64_t)t : (uint64_t)t;
	int n = snprintf(text, sizeof(text), "%s%llu", t < 0 ? "-" : "",
			 (unsigned long long)(size / 1000));
	if (size % 1000)
		n += snprintf(text + n, sizeof(text) - (size_t)n, ".%03d", (int)(size % 1000));
	json_add_raw(w, (str){ text, (size_t)n });
}

void prometheus_write_point(struct json_writer *w, time_ms t, double v)
{
	char text[NUMBER_TEXT_SIZE + 2];
	json_begin_array(w);
	prometheus_write_time(w, t);
	size_t len = number_format(v, text + 1);
	text[0] = text[len + 1] = '"';
	json_add_raw(w, (str){ text, len + 2 });
	json_end_array(w);
}
