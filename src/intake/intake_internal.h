/* What the protocols share. */
#pragma once

#include "intake/intake.h"
#include "intake/series_cache.h"

struct otlp_deltas;

struct intake {
	struct intake_options options;
	struct series_cache *cache;
	struct otlp_deltas *deltas;
};

/* Name the series of ITEMS at the end of the message of E. */
errc intake_name_series(struct err *e, const struct label *items, size_t count);

/*
 * The reference of the series of ITEMS, which are sorted here. Errors: ERR_INVALID for labels that
 * cannot be a series (with it named); ERR_BUSY past a limit of the engine.
 */
WARN_UNUSED errc intake_series(struct metrics_batch *batch, struct label *items, size_t count,
			       metrics_ref *ret_ref, struct err *e);

/* Whether a failure of intake_series() is more than one bad series. */
static inline bool intake_is_fatal(errc code)
{
	return code != ERR_INVALID && code != ERR_BUSY && code != ERR_LIMIT;
}

/* Hand M to the batch when it is something to keep: a name, UTF-8, not too long. */
bool intake_metadata(struct metrics_batch *batch, const struct metrics_metadata *m);
/* The family of the series NAME: without _bucket, _sum, _count where TYPE has them. */
str intake_family_name(str name, enum metrics_type type);
struct import_options;
/* What tells the series of one set of extra labels from those of another; OPTIONS may be NULL. */
struct series_hash import_extra_hash(const struct import_options *options);
/* LABEL in place of one of that name, or behind the others. Errors: ERR_LIMIT. */
WARN_UNUSED errc import_set_label(struct label *items, size_t *count, const struct label *label,
				  struct err *e);
