/*
 * Which adjacent parts to merge: size-tiered. A pure function over sizes.
 *
 * A merge pays when what comes out is several times the largest that goes in: then every byte is
 * rewritten only logarithmically often. Of all runs of at most `fan_in_max` neighbours the one with
 * the highest ratio (sum / largest) is chosen, when that is at least `ratio_min`; of equal ones the
 * smaller. So with the defaults at most about 4 parts of a size stay side by side, a byte is
 * rewritten about log4(total / smallest) times, and the number of parts is logarithmic too.
 */
#pragma once

#include "base/units.h"

struct merge_part {
	uint64_t bytes;
	/* Parts of one group only are merged: a day, a retention class. Neighbours in the array. */
	uint64_t group;
	bool busy; /* being merged, or not to be merged: no run includes it */
};

struct merge_policy {
	/* 0 takes the default in brackets */
	size_t fan_in_max;          /* [15] ≥ 2 */
	uint64_t bytes_max;         /* [none] of what comes out */
	uint64_t bytes_floor;       /* [64 KiB] smaller parts count as if they were of this size */
	uint32_t ratio_min_percent; /* [400] sum / largest ≥ 4 */
	/* [none] of one group: with more, the best run of at least 2 is taken whatever its ratio */
	size_t count_max;
};

/* The run [*ret_first, *ret_first + *ret_count) of PARTS that is worth merging most; false when
 * none is. Cost: COUNT × fan_in_max. */
bool merge_policy_choose(const struct merge_policy *policy, const struct merge_part *parts,
			 size_t count, size_t *ret_first, size_t *ret_count);
