/* What the files of otlp share. */
#pragma once

#include "intake/otlp.h"

enum { OTLP_DEPTH_MAX = 64, OTLP_BYTES_MAX = 128 << 20 };

enum otlp_temporality { OTLP_UNSPECIFIED, OTLP_DELTA, OTLP_CUMULATIVE };

struct otlp_metric {
	str name, description, unit;
	enum metrics_type type;
	bool is_sum; /* of a Sum, where a Gauge may be a ratio */
};

/* ---- otlp_json.c: the JSON form of a request as the same message in protobuf. Errors:
 * ERR_INVALID, ERR_LIMIT. */
WARN_UNUSED errc otlp_json_to_wire(str body, struct buf *into, struct err *e);

/* ---- otlp_names.c: names as Prometheus writes them; new text is in SCRATCH. */
str otlp_metric_name(struct arena *scratch, const struct otlp_metric *m,
		     enum otlp_translation translation);
str otlp_label_name(struct arena *scratch, str name, enum otlp_translation translation);

/* ---- otlp_attributes.c: one or several sets of attributes as labels. */
struct otlp_labels {
	struct arena *scratch;
	enum otlp_translation translation;
	struct label items[LABELS_COUNT_MAX];
	size_t count;
	size_t weak_count;  /* the first of them, which an attribute takes the place of */
	size_t fixed_count; /* these and those behind them, which no attribute changes */
};
/* One more; that of the same name gets both values, with `;` between, as in Prometheus. Errors:
 * ERR_LIMIT past LABELS_COUNT_MAX. */
WARN_UNUSED errc otlp_labels_add(struct otlp_labels *l, str name, str value, struct err *e);
/* In place of that of the same name, or one more. Errors: ERR_LIMIT. */
WARN_UNUSED errc otlp_labels_set(struct otlp_labels *l, str name, str value, struct err *e);
/* The attributes of field NUMBER of MESSAGE by key, so that those whose names become one are
 * joined in the same order however they were sent. Values are text; of arrays and maps their
 * JSON. ITEMS has LABELS_COUNT_MAX. Errors: ERR_INVALID, ERR_LIMIT. */
WARN_UNUSED errc otlp_read_attributes(struct arena *scratch, str message, uint32_t number,
				      struct label *items, size_t *ret_count, struct err *e);
/* The attributes of field NUMBER of MESSAGE, names translated. */
WARN_UNUSED errc otlp_attributes(struct otlp_labels *l, str message, uint32_t number,
				 struct err *e);

/* ---- otlp_deltas.c: running totals of what is sent as differences. Threads: any. */
struct otlp_deltas;
struct otlp_deltas *otlp_deltas_new(size_t stream_max, int64_t idle_ms);
void otlp_deltas_free(struct otlp_deltas *d);
/* The total of series REF with DELTA of the time TIME added. Errors: ERR_INVALID when DELTA is not
 * finite or TIME is not after the last one's, ERR_BUSY past the streams that there may be. */
WARN_UNUSED errc otlp_deltas_add(struct otlp_deltas *d, metrics_ref ref, double delta, time_ms time,
				 time_ms now, double *ret_total, struct err *e);

/* ---- otlp_points.c */
struct otlp_request {
	struct intake *in;
	struct metrics_batch *batch;
	const struct otlp_options *options;
	struct intake_result *result;
	time_ms now;
	/* of the resource: job, instance and what is promoted; of the scope behind them */
	struct otlp_labels common;
	bool has_identity; /* the resource: a job or an instance */
	time_ms latest;    /* of the resource's points; INT64_MIN: none */
	struct intake_histogram *histogram;
};
/* A Metric message. Errors: what refuses the whole body. */
WARN_UNUSED errc otlp_metric(struct otlp_request *q, str message, struct err *e);
/* One sample of the series of LABELS, whose refusal is counted, not an error. */
WARN_UNUSED errc otlp_sample(struct otlp_request *q, const struct otlp_labels *labels, str name,
			     time_ms time, double value, metrics_ref *ret_ref, struct err *e);
