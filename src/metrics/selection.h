/* selection: the series that matchers select, live and of the days' indexes, each once. */
#pragma once

#include "metrics/metrics_internal.h"

/* One series by one id. Several with the same labels have been dropped from memory and come back.
 */
struct match {
	uint32_t id, rank; /* rank 0: not live, or not ranked */
	bool in_head;      /* live, and perhaps with samples in a head */
	str key;           /* in the arena */
};

struct match_list {
	struct match *items; /* by labels, then by id */
	size_t count, room;
	struct arena arena; /* of the keys */
};

void match_list_done(struct match_list *l);
/* Those with samples on the days of [from, to], as far as days tell. SETS are alternatives; none
 * select all. BUDGET (may be NULL) says when to stop. Errors: ERR_FAILED
 * past SERIES_MAX (0: none), as metrics_charge(). */
WARN_UNUSED errc match_series(struct metrics *m, const struct metrics_matchers *sets,
			      size_t set_count, time_ms from, time_ms to, size_t series_max,
			      struct metrics_budget *budget, struct match_list *ret, struct err *e);
