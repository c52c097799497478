/*
 * import_text: lines that are pushed: Prometheus text with timestamps, and Influx line protocol. A
 * bad line is rejected and counted, the others are taken.
 *
 * Source: VictoriaMetrics's /api/v1/import/prometheus and /write; the InfluxDB line protocol.
 */
#pragma once

#include "intake/intake.h"

struct import_options {
	const struct label *extra_labels; /* of the query string; they win over the line's */
	size_t extra_label_count;
	int64_t time_divisor; /* Influx: of a time in the units it was sent in, to ms… */
	int64_t time_factor; /* …or the other way; 0 and 0: by size, as VictoriaMetrics guesses */
};

/* `ns`, `n`, `us`, `u`, `µ`, `ms`, `s`, `m`, `h` into OPTIONS. Errors: ERR_INVALID naming them. */
WARN_UNUSED errc influx_precision(str precision, struct import_options *options, struct err *e);

/* Times are milliseconds, now when missing. OPTIONS may be NULL. */
WARN_UNUSED errc intake_import(struct intake *in, struct metrics_batch *batch, str body,
			       const struct import_options *options, struct intake_result *ret,
			       struct err *e);
/* A sample `measurement_field` for each field that is a number or a boolean; strings are skipped.
 */
WARN_UNUSED errc intake_influx(struct intake *in, struct metrics_batch *batch, str body,
			       const struct import_options *options, struct intake_result *ret,
			       struct err *e);
