/* The parts of remote write. */
#pragma once

#include "codec/wire.h"
#include "intake/intake_histogram.h"
#include "intake/intake_internal.h"
#include "intake/remote_write.h"

/* One TimeSeries message, looked through once. */
struct remote_series {
	str message;
	struct series_hash hash;
	bool has_hash; /* false: labels lie about in the message; they are parsed each time */
	uint64_t sample_count; /* and histograms */
	metrics_ref ref;
};

enum { REMOTE_AHEAD = 32 };

struct remote_write {
	enum remote_write_version version;
	struct intake *in;
	struct metrics_batch *batch;
	struct intake_result *result;
	struct intake_histogram *histogram; /* made when the first one comes */
	/* series whose cache lines are on their way */
	struct remote_series ahead[REMOTE_AHEAD];
	size_t ahead_count;
	/* of 2.0 */
	str *symbols;
	struct series_hash *symbol_hashes; /* {0, 0}: not made yet */
	size_t symbol_count;
};

/* Look a message up or through: fill S but for `ref`. */
WARN_UNUSED errc remote_scan_v1(str message, struct remote_series *s, struct err *e);
WARN_UNUSED errc remote_scan_v2(struct remote_write *w, str message, struct remote_series *s,
				struct err *e);
/* The labels of a series or of an exemplar; ITEMS has room for LABELS_COUNT_MAX. Errors:
 * ERR_INVALID. */
WARN_UNUSED errc remote_labels_v1(str message, struct label *items, size_t *ret_count,
				  struct err *e);
WARN_UNUSED errc remote_labels_v2(const struct remote_write *w, str message, struct label *items,
				  size_t *ret_count, struct err *e);
/* What a series of 2.0 says of itself, once its labels are known. */
void remote_metadata_v2(struct remote_write *w, str message, str name);
WARN_UNUSED errc remote_symbols_v2(struct remote_write *w, str body, struct err *e);

/* Take a whole series; queued until REMOTE_AHEAD of them are known. */
WARN_UNUSED errc remote_add(struct remote_write *w, const struct remote_series *s, struct err *e);
WARN_UNUSED errc remote_flush(struct remote_write *w, struct err *e);

/* A Histogram message of either version. Errors: ERR_INVALID. */
WARN_UNUSED errc remote_histogram(str message, struct intake_histogram *into, time_ms *ret_time,
				  time_ms *ret_start, struct err *e);
