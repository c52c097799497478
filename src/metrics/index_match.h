/*
 * index_match: which series matchers select, by the postings of one index: of the live series, or
 * of a segment on disk.
 */
#pragma once

#include "metrics/id_set.h"
#include "metrics/matcher.h"

/* An index. Functions append to INTO in any order; doubles are allowed. */
struct index_source {
	const void *ctx;
	/* ids of the series with exactly that value */
	errc (*value)(const void *ctx, str name, str value, struct id_set *into, struct err *e);
	/* ids of the series that have the label with a value for which the expression of M gives
	 * WANTED; M NULL: any value */
	errc (*scan)(const void *ctx, str name, const struct matcher *m, bool wanted,
		     struct id_set *into, struct err *e);
	errc (*all)(const void *ctx, struct id_set *into, struct err *e);
	/* May be NULL: drop the ids that M does not match, by their labels, if that is cheaper than
	 * scanning; false otherwise. */
	errc (*filter)(const void *ctx, const struct matcher *m, struct id_set *ids, bool *ret_done,
		       struct err *e);
};

/* Owns: the caller ends RET_IDS (which it gave empty) with id_set_done(), on failure too. Errors:
 * ERR_LIMIT of an expression; what SOURCE gives. */
WARN_UNUSED errc index_match(const struct index_source *source, const struct matcher *matchers,
			     size_t count, struct id_set *ret_ids, struct err *e);
