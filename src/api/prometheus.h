/*
 * The HTTP API of Prometheus below /api/v1/: queries, names, status, and what writes. Its own
 * shapes, errors and number formats, so that Grafana and every other client work unmodified.
 *
 * Source: Prometheus 3, docs/querying/api.
 */
#pragma once

#include "api/api.h"
#include "codec/json.h"
#include "metrics/metrics.h"

enum {
	PROMETHEUS_FORM_MAX = 512 * 1024,
	PROMETHEUS_ANSWER_MAX = 512 * 1024 * 1024,
	PROMETHEUS_POINTS_MAX = 11000, /* a series of a range query */
};

/* One call being answered. */
struct prometheus_call {
	struct api *api;
	struct metrics *metrics;
	struct http_request *request;
	const struct http_pair *pairs;
	size_t pair_count;
	struct arena *arena; /* the request's */
	struct arena *work;  /* large, gone when the call ends */
	struct json_writer *data;
	const str *warnings, *infos; /* in WORK */
	size_t warning_count, info_count;
	struct metrics_budget budget;
};

/* Answers by WRITE, which adds the value of `data` to call->data. Errors become Prometheus's. */
errc prometheus_answer(struct api *api, struct http_request *request,
		       struct http_response *response,
		       errc (*write)(struct prometheus_call *call, struct err *e));
/* The api_route handler NAME that answers by write_NAME. */
#define PROMETHEUS_HANDLER(name)                                                \
	static errc name(struct api *api, struct http_request *request,         \
			 struct http_response *response, struct err *e)         \
	{                                                                       \
		(void)e;                                                        \
		return prometheus_answer(api, request, response, write_##name); \
	}
/* `{"status":"error",…}` with the status that E's code has here. */
void prometheus_fail(struct http_response *response, const struct err *e);

/* A warning that LIMIT left something out, when TRUNCATED. */
void prometheus_note_truncated(struct prometheus_call *call, bool truncated);

/* Free what writers kept; after the server has stopped and before the engine closes. */
void prometheus_writers_free(void);

/* The first value of a parameter, "" when absent. */
str prometheus_param(const struct prometheus_call *call, const char *name);
/* The next value from *INDEX on; false when there is no other. */
bool prometheus_param_next(const struct prometheus_call *call, const char *name, size_t *index,
			   str *ret_value);
/* Seconds with a fraction, or RFC 3339. Errors: ERR_INVALID naming the parameter. */
WARN_UNUSED errc prometheus_time(const struct prometheus_call *call, const char *name,
				 time_ms otherwise, time_ms *ret, struct err *e);
/* Seconds with a fraction, or `1h30m`; 0 when absent. */
WARN_UNUSED errc prometheus_duration(const struct prometheus_call *call, const char *name,
				     int64_t *ret_ms, struct err *e);
WARN_UNUSED errc prometheus_limit(const struct prometheus_call *call, size_t *ret_limit,
				  struct err *e);
/* Start and end, all of time when absent. */
WARN_UNUSED errc prometheus_range(const struct prometheus_call *call, time_ms *ret_from,
				  time_ms *ret_to, struct err *e);

/* The compiled matchers of every `match[]`. */
struct prometheus_matchers {
	struct metrics_matchers *sets;
	size_t count;
};
WARN_UNUSED errc prometheus_matchers_parse(const struct prometheus_call *call,
					   struct prometheus_matchers *ret, struct err *e);
/* Those of every selector in a query. */
WARN_UNUSED errc prometheus_query_matchers(const struct prometheus_call *call, str query,
					   struct prometheus_matchers *ret, struct err *e);
void prometheus_matchers_done(struct prometheus_matchers *m);

/* `{"a":"b",…}` */
void prometheus_write_labels(struct json_writer *w, const struct labels *labels);
/* Seconds as `1700000000` or `1700000000.500`. */
void prometheus_write_time(struct json_writer *w, time_ms t);
/* `[1700000000,"1.5"]` */
void prometheus_write_point(struct json_writer *w, time_ms t, double v);
