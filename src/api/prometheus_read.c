/* Raw samples for other programs: /federate and remote read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/prometheus.h"
#include "base/checks.h"
#include "codec/compress.h"
#include "codec/number.h"
#include "codec/wire.h"
#include "intake/intake.h"
#include "os/clock.h"
#include "query/promql/promql_eval.h"

enum {
	READ_BODY_MAX = 1024 * 1024,
	READ_QUERIES_MAX = 64,
	READ_MATCHERS_MAX = 64,
	READ_MS_MAX = 120000,
};

/* ---- /federate: the newest sample of each series that matches, as text. */

/* `name{label="value"}` in the text format: with every label, an empty instance too, so that who
 * scrapes this does not put its own there. */
static void write_name(struct buf *into, const struct labels *labels)
{
	bool plain = labels_get(labels, STR("instance")).len > 0;
	labels_print(into, labels);
	if (plain)
		return;
	if (into->len && into->ptr[into->len - 1] == '}') {
		into->len--;
		buf_add_c(into, ",instance=\"\"}");
	} else {
		buf_add_c(into, "{instance=\"\"}");
	}
}

static errc federate_series(struct metrics_selection *s, size_t i, time_ms from, time_ms to,
			    struct metrics_samples *samples, str *family, struct buf *into,
			    struct err *e)
{
	struct labels labels = metrics_selection_labels(s, i);
	char value[NUMBER_TEXT_SIZE];
	TRY(metrics_selection_read(s, i, from, to, samples, e));
	if (!samples->count)
		return OK;
	size_t last = samples->count - 1;
	bool histogram = samples->histograms && samples->histograms[last];
	if (histogram || metrics_is_stale(samples->values[last]))
		return OK; /* the text format has no native histograms */
	str name = labels_get(&labels, STR(LABEL_METRIC_NAME));
	if (!name.len)
		return OK;
	if (!str_eq(name, *family))
		buf_printf(into, "# TYPE %.*s untyped\n", STR_ARG(name));
	*family = name;
	write_name(into, &labels);
	number_format(samples->values[last], value);
	buf_printf(into, " %s %lld\n", value, (long long)samples->times[last]);
	return OK;
}

static errc federate_set(const struct prometheus_call *call, const struct metrics_matchers *set,
			 struct buf *into, struct err *e)
{
	struct metrics_selection *selection = NULL;
	struct metrics_samples samples = { 0 };
	time_ms now = clock_now();
	str family = STR("");
	struct metrics_query query = { .matchers = set->matchers,
				       .matcher_count = set->count,
				       .from = now - PROMQL_LOOKBACK_MS + 1,
				       .to = now,
				       .budget = (struct metrics_budget *)&call->budget };
	TRY(metrics_select(call->metrics, &query, &selection, e));
	errc rc = OK;
	for (size_t i = 0; rc == OK && i < metrics_selection_count(selection); i++)
		rc = federate_series(selection, i, query.from, query.to, &samples, &family, into,
				     e);
	metrics_samples_done(&samples);
	metrics_selection_free(selection);
	return rc;
}

static errc federate(struct api *api, struct http_request *request, struct http_response *response,
		     struct err *e)
{
	struct arena work CLEANUP(arena_done) = arena_init(16 * 1024 * 1024);
	struct prometheus_matchers matchers CLEANUP(prometheus_matchers_done) = { 0 };
	struct buf text = buf_init(PROMETHEUS_ANSWER_MAX);
	struct prometheus_call call = { .api = api,
					.metrics = api->context->metrics,
					.request = request,
					.arena = http_request_arena(request),
					.work = &work };
	TRY(http_request_form(request, &call.pairs, &call.pair_count, e));
	TRY(prometheus_matchers_parse(&call, &matchers, e));
	errc rc = OK;
	for (size_t i = 0; rc == OK && i < matchers.count; i++)
		rc = federate_set(&call, &matchers.sets[i], &text, e);
	if (rc == OK)
		rc = buf_check(&text, "the answer", e);
	if (rc != OK) {
		buf_done(&text);
		return rc;
	}
	http_response_set_body(response, "text/plain; version=0.0.4; charset=utf-8", &text);
	return OK;
}

/* ---- Remote read. Source: prometheus.io/docs/prometheus/latest/querying/remote_read_api. */

struct read_query {
	time_ms from, to;
	struct matcher *matchers;
	size_t count;
};

static void read_query_done(struct read_query *q)
{
	for (size_t i = 0; i < q->count; i++)
		matcher_done(&q->matchers[i]);
}

static errc read_matcher(struct reader r, struct read_query *q, struct err *e)
{
	struct wire_field f;
	struct matcher m = { .name = STR(""), .value = STR("") };
	uint64_t type = 0;
	while (wire_next(&r, &f)) {
		switch (f.key) {
		case WIRE_KEY(1, WIRE_VARINT):
			type = f.value;
			break;
		case WIRE_KEY(2, WIRE_BYTES):
			m.name = f.bytes;
			break;
		case WIRE_KEY(3, WIRE_BYTES):
			m.value = f.bytes;
			break;
		}
	}
	if (r.failed || type > MATCH_NOT_REGEXP)
		FAIL(e, ERR_INVALID, "a matcher of the remote read request is malformed");
	if (q->count == READ_MATCHERS_MAX)
		FAIL(e, ERR_INVALID, "more than %d matchers in a query", READ_MATCHERS_MAX);
	m.type = (enum matcher_type)type; /* EQ, NEQ, RE, NRE: the same order */
	TRY(matcher_compile(&m, e));
	q->matchers[q->count++] = m;
	return OK;
}

static errc read_query_parse(struct reader r, struct read_query *q, struct err *e)
{
	struct wire_field f;
	while (wire_next(&r, &f)) {
		switch (f.key) {
		case WIRE_KEY(1, WIRE_VARINT):
			q->from = wire_int(&f);
			break;
		case WIRE_KEY(2, WIRE_VARINT):
			q->to = wire_int(&f);
			break;
		case WIRE_KEY(3, WIRE_BYTES):
			TRY(read_matcher(wire_message(&f), q, e));
			break;
		}
	}
	if (r.failed || !q->count)
		FAIL(e, ERR_INVALID, "a query of the remote read request is malformed");
	return OK;
}

static void add_span(struct buf *into, uint32_t number, const struct histogram_side *side)
{
	for (uint32_t i = 0; i < side->span_count; i++) {
		size_t mark = wire_begin(into, number);
		wire_add_sint(into, 1, side->spans[i].offset);
		wire_add_varint(into, 2, side->spans[i].length);
		wire_end(into, mark);
	}
}

static void add_doubles(struct buf *into, uint32_t number, const double *values, size_t count)
{
	if (!count)
		return;
	size_t mark = wire_begin(into, number);
	buf_add(into, (str){ (const char *)values, count * sizeof(values[0]) });
	wire_end(into, mark);
}

static void add_histogram(struct buf *into, time_ms t, const struct histogram *h)
{
	static const uint8_t hints[] = { [HISTOGRAM_RESET_UNKNOWN] = 0,
					 [HISTOGRAM_RESET_YES] = 1,
					 [HISTOGRAM_RESET_NO] = 2,
					 [HISTOGRAM_RESET_GAUGE] = 3 };
	size_t mark = wire_begin(into, 4);
	wire_add_double(into, 2, h->count);
	wire_add_double(into, 3, h->sum);
	wire_add_sint(into, 4, h->schema);
	wire_add_double(into, 5, h->zero_threshold);
	wire_add_double(into, 7, h->zero_count);
	add_span(into, 8, &h->negative);
	add_doubles(into, 10, h->negative.buckets, h->negative.bucket_count);
	add_span(into, 11, &h->positive);
	add_doubles(into, 13, h->positive.buckets, h->positive.bucket_count);
	wire_add_varint(into, 14, hints[h->reset]);
	wire_add_int(into, 15, t);
	add_doubles(into, 16, h->custom_bounds, h->custom_bound_count);
	wire_end(into, mark);
}

static void add_series(struct buf *into, const struct labels *labels,
		       const struct metrics_samples *samples)
{
	size_t series = wire_begin(into, 1);
	for (size_t i = 0; i < labels->count; i++) {
		size_t mark = wire_begin(into, 1);
		wire_add_bytes(into, 1, labels->items[i].name);
		wire_add_bytes(into, 2, labels->items[i].value);
		wire_end(into, mark);
	}
	for (size_t i = 0; i < samples->count; i++) {
		if (samples->histograms && samples->histograms[i]) {
			add_histogram(into, samples->times[i], samples->histograms[i]);
			continue;
		}
		size_t mark = wire_begin(into, 2);
		wire_add_double(into, 1, samples->values[i]);
		wire_add_int(into, 2, samples->times[i]);
		wire_end(into, mark);
	}
	wire_end(into, series);
}

static errc answer_query(struct metrics *m, const struct read_query *q,
			 struct metrics_budget *budget, struct buf *into, struct err *e)
{
	struct metrics_selection *selection = NULL;
	struct metrics_samples samples = { 0 };
	struct metrics_query query = { .matchers = q->matchers,
				       .matcher_count = q->count,
				       .from = q->from,
				       .to = q->to,
				       .budget = budget };
	TRY(metrics_select(m, &query, &selection, e));
	size_t result = wire_begin(into, 1);
	errc rc = OK;
	for (size_t i = 0; rc == OK && i < metrics_selection_count(selection); i++) {
		struct labels labels = metrics_selection_labels(selection, i);
		rc = metrics_selection_read(selection, i, q->from, q->to, &samples, e);
		if (rc == OK && samples.count)
			add_series(into, &labels, &samples);
	}
	wire_end(into, result);
	metrics_samples_done(&samples);
	metrics_selection_free(selection);
	return rc == OK ? buf_check(into, "the answer to a remote read", e) : rc;
}

static bool who_asked_left(void *ctx)
{
	return http_request_cancelled(ctx);
}

static errc answer_all(struct api *api, struct http_request *request, str body, struct buf *into,
		       struct err *e)
{
	struct reader r = reader_init(body);
	struct wire_field f;
	struct metrics_budget budget = { .deadline_mono_ms = clock_mono_ms() + READ_MS_MAX,
					 .cancelled = who_asked_left,
					 .cancelled_ctx = request };
	size_t count = 0;
	while (wire_next(&r, &f)) {
		struct matcher matchers[READ_MATCHERS_MAX];
		struct read_query q CLEANUP(read_query_done) = { .matchers = matchers };
		if (f.key != WIRE_KEY(1, WIRE_BYTES))
			continue;
		if (++count > READ_QUERIES_MAX)
			FAIL(e, ERR_INVALID, "more than %d queries", READ_QUERIES_MAX);
		TRY(read_query_parse(wire_message(&f), &q, e));
		TRY(answer_query(api->context->metrics, &q, &budget, into, e));
	}
	if (r.failed)
		FAIL(e, ERR_INVALID, "the body is no remote read request");
	return OK;
}

/* Always with samples: every client takes those, whatever else it takes. */
static errc remote_read(struct api *api, struct http_request *request,
			struct http_response *response, struct err *e)
{
	struct buf decoded CLEANUP(buf_done) = buf_init(READ_BODY_MAX);
	struct buf plain CLEANUP(buf_done) = buf_init(PROMETHEUS_ANSWER_MAX);
	struct buf packed = buf_init(PROMETHEUS_ANSWER_MAX);
	TRY(decompress_bytes(COMPRESS_SNAPPY, http_request_body(request), &decoded, e));
	TRY(answer_all(api, request, buf_str(&decoded), &plain, e));
	errc rc = compress_bytes(COMPRESS_SNAPPY, 0, buf_str(&plain), &packed, e);
	if (rc != OK) {
		buf_done(&packed);
		return rc;
	}
	http_response_set_header(response, "content-encoding", "snappy");
	http_response_set_body(response, "application/x-protobuf", &packed);
	return OK;
}

const struct api_route prometheus_read_routes[] = {
	{ "GET", "/federate", 0, ROLE_VIEWER, NULL, federate },
	{ "POST", "/api/v1/read", READ_BODY_MAX, ROLE_VIEWER, NULL, remote_read },
};
const size_t prometheus_read_route_count = ARRAY_COUNT(prometheus_read_routes);
