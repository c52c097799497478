/* What takes metrics in: remote write, OTLP, text and Influx lines, the Pushgateway's groups. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/prometheus.h"
#include "base/checks.h"
#include "codec/compress.h"
#include "codec/number.h"
#include "intake/import_text.h"
#include "intake/otlp.h"
#include "intake/pushgateway.h"
#include "intake/remote_write.h"
#include "os/clock.h"

enum {
	BODY_MAX = 32 * 1024 * 1024,     /* as sent */
	DECODED_MAX = 128 * 1024 * 1024, /* after decompression */
	WRITERS_MAX = 16,                /* kept for the next request */
	WRITER_BYTES_KEPT = 4 * 1024 * 1024,
	EXTRA_LABELS_MAX = 32,
};

/* What a request needs to write, kept from one to the next of the same sender. */
struct writer {
	struct metrics_batch *batch;
	struct compressor *compressor;
	struct buf decoded;
	char source[96];
};

static pthread_mutex_t writers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct writer *writers[WRITERS_MAX];

static void writer_free(struct writer *w)
{
	metrics_batch_free(w->batch);
	compressor_free(w->compressor);
	buf_done(&w->decoded);
	free(w);
}

static struct writer *writer_take(struct metrics *m, const char *source)
{
	struct writer *found = NULL;
	pthread_mutex_lock(&writers_lock);
	for (size_t i = 0; i < WRITERS_MAX && !found; i++) {
		if (!writers[i] || strcmp(writers[i]->source, source) != 0)
			continue;
		found = writers[i];
		writers[i] = NULL;
	}
	pthread_mutex_unlock(&writers_lock);
	if (found)
		return found;
	found = must_calloc(1, sizeof(*found));
	snprintf(found->source, sizeof(found->source), "%s", source);
	found->batch = metrics_batch_new(m, str_c(found->source), 0);
	found->compressor = compressor_new();
	found->decoded = buf_init(DECODED_MAX);
	return found;
}

static void writer_give(struct writer **w)
{
	struct writer *extra = *w;
	if (!extra)
		return;
	metrics_batch_abort(extra->batch); /* nothing is left of one that was committed */
	if (extra->decoded.size > WRITER_BYTES_KEPT)
		buf_done(&extra->decoded);
	buf_clear(&extra->decoded);
	pthread_mutex_lock(&writers_lock);
	for (size_t i = 0; i < WRITERS_MAX && extra; i++) {
		if (writers[i])
			continue;
		writers[i] = extra;
		extra = NULL;
	}
	if (extra) { /* the first makes room, so that senders that are gone do not stay for ever */
		struct writer *old = writers[0];
		memmove(writers, writers + 1, sizeof(writers) - sizeof(writers[0]));
		writers[WRITERS_MAX - 1] = extra;
		extra = old;
	}
	pthread_mutex_unlock(&writers_lock);
	if (extra)
		writer_free(extra);
}

void prometheus_writers_free(void)
{
	for (size_t i = 0; i < WRITERS_MAX; i++) {
		if (writers[i])
			writer_free(writers[i]);
		writers[i] = NULL;
	}
}

/* One request being taken in. */
struct write_call {
	struct api *api;
	struct http_request *request;
	struct http_response *response;
	struct writer *writer;
	str body;
	struct intake_result taken;
	struct metrics_batch_result stored;
};

static errc begin(struct write_call *w, struct err *e)
{
	w->writer = writer_take(w->api->context->metrics, api_identity_of(w->request)->actor);
	errc rc = intake_decompress(
		w->writer->compressor, http_request_header(w->request, "content-encoding"),
		http_request_body(w->request), &w->writer->decoded, &w->body, e);
	if (rc == ERR_LIMIT)
		http_response_set_status(w->response, 413);
	return rc;
}

static errc commit(struct write_call *w, errc decoded, struct err *e)
{
	if (decoded != OK)
		return decoded;
	errc rc = metrics_batch_commit(w->writer->batch, &w->stored, e);
	if (rc == ERR_BUSY)
		http_response_set_header(w->response, "retry-after", "5");
	return rc;
}

/* The status of an answer to what was stored in part. */
static int status_of(const struct write_call *w, int all_well)
{
	if (w->taken.rejected_count)
		return w->taken.busy ? 429 : 400;
	return w->stored.refusal[0] ? 400 : all_well;
}

static void explain(const struct write_call *w, int status)
{
	char text[2 * INTAKE_REFUSAL_SIZE];
	http_response_set_status(w->response, status);
	if (status < 400)
		return;
	if (status == 429)
		http_response_set_header(w->response, "retry-after", "5");
	int n = snprintf(text, sizeof(text), "%s%s%s\n", w->taken.refusal,
			 w->taken.refusal[0] && w->stored.refusal[0] ? "; " : "",
			 w->stored.refusal);
	http_response_set_text(w->response, "text/plain; charset=utf-8", (str){ text, (size_t)n });
}

static void count_header(struct http_response *response, const char *name, uint64_t count)
{
	char text[32];
	snprintf(text, sizeof(text), "%llu", (unsigned long long)count);
	http_response_set_header(response, name, text);
}

static errc remote_write(struct api *api, struct http_request *request,
			 struct http_response *response, struct err *e)
{
	enum remote_write_version version;
	struct write_call w = { .api = api, .request = request, .response = response };
	if (remote_write_version_of(http_request_header(request, "content-type"), &version, e) !=
	    OK) {
		http_response_set_status(response, 415);
		return e->code;
	}
	struct writer *writer CLEANUP(writer_give) = NULL;
	errc rc = begin(&w, e);
	writer = w.writer;
	TRY(rc);
	rc = intake_remote_write(api->context->intake, writer->batch, w.body, version, &w.taken, e);
	TRY(commit(&w, rc, e));
	if (version == REMOTE_WRITE_2) {
		count_header(response, "X-Prometheus-Remote-Write-Samples-Written",
			     w.stored.sample_count);
		count_header(response, "X-Prometheus-Remote-Write-Histograms-Written",
			     w.stored.histogram_count);
		count_header(response, "X-Prometheus-Remote-Write-Exemplars-Written",
			     w.stored.exemplar_count);
	}
	explain(&w, status_of(&w, 204));
	return OK;
}

static errc otlp_answer(struct write_call *w, enum otlp_encoding encoding, errc rc,
			const struct err *e)
{
	struct buf text = buf_init(8 * INTAKE_REFUSAL_SIZE);
	const char *type = encoding == OTLP_JSON ? "application/json" : "application/x-protobuf";
	if (rc != OK) {
		otlp_error(e, encoding, &text);
		http_response_set_status(w->response, errc_http_status(rc));
		http_response_set_body(w->response, type, &text);
		return OK;
	}
	/* what the engine left out is told the same way */
	uint64_t left_out = w->stored.too_old_count + w->stored.too_new_count;
	if (left_out) {
		struct err reason;
		err_fill(&reason, ERR_INVALID, 0, __FILE__, __LINE__, "%s", w->stored.refusal);
		intake_reject(&w->taken, left_out, &reason);
	}
	otlp_response(&w->taken, encoding, &text);
	http_response_set_body(w->response, type, &text);
	return OK;
}

static errc otlp(struct api *api, struct http_request *request, struct http_response *response,
		 struct err *e)
{
	enum otlp_encoding encoding;
	struct write_call w = { .api = api, .request = request, .response = response };
	if (otlp_encoding_of(http_request_header(request, "content-type"), &encoding, e) != OK) {
		http_response_set_status(response, 415);
		return e->code;
	}
	struct writer *writer CLEANUP(writer_give) = NULL;
	errc rc = begin(&w, e);
	writer = w.writer;
	if (rc == OK)
		rc = intake_otlp(api->context->intake, writer->batch, w.body, encoding, NULL,
				 &w.taken, e);
	return otlp_answer(&w, encoding, commit(&w, rc, e), e);
}

/* `extra_label=name=value`, any number of them. */
static errc extra_labels(struct http_request *request, struct label *labels, size_t *ret_count,
			 struct err *e)
{
	str name, value;
	for (size_t i = 0; http_request_query_at(request, i, &name, &value); i++) {
		if (!str_eq_c(name, "extra_label"))
			continue;
		const char *equals = value.len ? memchr(value.ptr, '=', value.len) : NULL;
		if (!equals || equals == value.ptr)
			FAIL(e, ERR_INVALID, "\"extra_label\" must be NAME=VALUE: %.*s",
			     STR_ARG(value));
		if (*ret_count == EXTRA_LABELS_MAX)
			FAIL(e, ERR_INVALID, "more than %d extra labels", EXTRA_LABELS_MAX);
		size_t len = (size_t)(equals - value.ptr);
		labels[(*ret_count)++] = (struct label){ { value.ptr, len },
							 { equals + 1, value.len - len - 1 } };
	}
	return OK;
}

static errc take_lines(struct api *api, struct http_request *request,
		       struct http_response *response, const struct import_options *options,
		       errc (*take)(struct intake *, struct metrics_batch *, str,
				    const struct import_options *, struct intake_result *,
				    struct err *),
		       struct err *e)
{
	struct write_call w = { .api = api, .request = request, .response = response };
	struct writer *writer CLEANUP(writer_give) = NULL;
	errc rc = begin(&w, e);
	writer = w.writer;
	TRY(rc);
	rc = take(api->context->intake, writer->batch, w.body, options, &w.taken, e);
	TRY(commit(&w, rc, e));
	explain(&w, status_of(&w, 204));
	return OK;
}

static errc import_prometheus(struct api *api, struct http_request *request,
			      struct http_response *response, struct err *e)
{
	struct label labels[EXTRA_LABELS_MAX];
	struct import_options options = { .extra_labels = labels };
	TRY(extra_labels(request, labels, &options.extra_label_count, e));
	return take_lines(api, request, response, &options, intake_import, e);
}

static errc influx(struct api *api, struct http_request *request, struct http_response *response,
		   struct err *e)
{
	struct label labels[EXTRA_LABELS_MAX];
	struct import_options options = { .extra_labels = labels };
	str precision = http_request_query(request, "precision"),
	    database = http_request_query(request, "db");
	TRY(extra_labels(request, labels, &options.extra_label_count, e));
	if (precision.len)
		TRY(influx_precision(precision, &options, e));
	if (database.len && options.extra_label_count < EXTRA_LABELS_MAX)
		labels[options.extra_label_count++] = (struct label){ STR("db"), database };
	return take_lines(api, request, response, &options, intake_influx, e);
}

static errc push(struct api *api, struct http_request *request, enum pushgateway_method method,
		 struct err *e)
{
	struct buf decoded CLEANUP(buf_done) = buf_init(DECODED_MAX);
	str path = http_request_path(request), body = STR("");
	enum scrape_format format = scrape_format_of(http_request_header(request, "content-type"),
						     SCRAPE_TEXT);
	must(str_starts(path, STR("/metrics")));
	path = (str){ path.ptr + 8, path.len - 8 };
	if (method != PUSHGATEWAY_DELETE)
		TRY(intake_decompress(NULL, http_request_header(request, "content-encoding"),
				      http_request_body(request), &decoded, &body, e));
	return pushgateway_push(api->context->pushgateway, method, path, format, body, clock_now(),
				e);
}

static errc push_put(struct api *api, struct http_request *request, struct http_response *response,
		     struct err *e)
{
	(void)response;
	return push(api, request, PUSHGATEWAY_PUT, e);
}

static errc push_post(struct api *api, struct http_request *request, struct http_response *response,
		      struct err *e)
{
	(void)response;
	return push(api, request, PUSHGATEWAY_POST, e);
}

static errc push_delete(struct api *api, struct http_request *request,
			struct http_response *response, struct err *e)
{
	http_response_set_status(response, 202);
	return push(api, request, PUSHGATEWAY_DELETE, e);
}

#define WRITES(method_, path_, handler_)                              \
	{                                                             \
		method_, path_, BODY_MAX, ROLE_SENDER, NULL, handler_ \
	}

const struct api_route prometheus_write_routes[] = {
	WRITES("POST", "/api/v1/write", remote_write),
	WRITES("POST", "/api/v1/otlp/v1/metrics", otlp),
	WRITES("POST", "/v1/metrics", otlp),
	WRITES("POST", "/api/v1/import/prometheus", import_prometheus),
	WRITES("POST", "/write", influx),
	WRITES("POST", "/api/v2/write", influx),
	WRITES("PUT", "/metrics/*group", push_put),
	WRITES("POST", "/metrics/*group", push_post),
	{ "DELETE", "/metrics/*group", 0, ROLE_SENDER, NULL, push_delete },
};
const size_t prometheus_write_route_count = ARRAY_COUNT(prometheus_write_routes);
