/*
 * otlp: OpenTelemetry metrics over HTTP, in protobuf or JSON, as Prometheus takes them.
 *
 * Names become Prometheus's (`http.server.duration` in `ms` ->
 * `http_server_duration_milliseconds`), deltas are added up, exponential histograms become native
 * ones, resource attributes become `job`, `instance` and `target_info`. Source:
 * opentelemetry.io/docs/specs/otlp, .../compatibility/prometheus_and_openmetrics.
 */
#pragma once

#include "intake/intake.h"

enum otlp_encoding { OTLP_PROTOBUF, OTLP_JSON };

enum otlp_translation {
	OTLP_UNDERSCORES_SUFFIXES, /* [A-Za-z0-9_:] only, units and _total appended: the default */
	OTLP_UNDERSCORES,
	OTLP_UTF8_SUFFIXES, /* names as they are, units and _total appended */
	OTLP_UTF8,
};

struct otlp_options {
	enum otlp_translation translation;
	const str *promoted; /* resource attributes that become labels of every series */
	size_t promoted_count;
	bool scope_labels; /* otel_scope_name, otel_scope_version, … on every series */
	bool no_target_info;
};

/* `application/x-protobuf` or `application/json`. Errors: ERR_INVALID (415). */
WARN_UNUSED errc otlp_encoding_of(str content_type, enum otlp_encoding *ret_encoding,
				  struct err *e);

/* An ExportMetricsServiceRequest into BATCH. OPTIONS may be NULL. Errors: ERR_INVALID when it is
 * none; ERR_LIMIT past 64 levels or the memory of one request. */
WARN_UNUSED errc intake_otlp(struct intake *in, struct metrics_batch *batch, str body,
			     enum otlp_encoding encoding, const struct otlp_options *options,
			     struct intake_result *ret, struct err *e);

/* The ExportMetricsServiceResponse: empty, or with partial_success when something was rejected. */
void otlp_response(const struct intake_result *result, enum otlp_encoding encoding,
		   struct buf *into);
/* A google.rpc.Status, which goes with every error. */
void otlp_error(const struct err *e, enum otlp_encoding encoding, struct buf *into);
