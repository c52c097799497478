#include "store/merge_policy.h"

enum { FAN_IN = 15, RATIO_PERCENT = 400, FLOOR_BYTES = 64 << 10 };

struct best {
	size_t first, count;
	uint64_t sum;
	double ratio;
};

static uint64_t size_of(const struct merge_part *part, uint64_t floor)
{
	return part->bytes > floor ? part->bytes : floor;
}

/* Parts of the group that begins at FIRST. */
static size_t group_len(const struct merge_part *parts, size_t count, size_t first)
{
	size_t end = first;
	while (end < count && parts[end].group == parts[first].group)
		end++;
	return end - first;
}

/* Every run that begins at FIRST and ends before END; the best so far is in BEST. */
static void try_runs(const struct merge_policy *p, const struct merge_part *parts, size_t first,
		     size_t end, double ratio_min, struct best *best)
{
	uint64_t sum = 0, largest = 0, bytes = 0;
	for (size_t i = first; i < end && i - first < p->fan_in_max && !parts[i].busy; i++) {
		uint64_t size = size_of(&parts[i], p->bytes_floor);
		if (__builtin_add_overflow(bytes, parts[i].bytes, &bytes) || bytes > p->bytes_max)
			return;
		if (__builtin_add_overflow(sum, size, &sum))
			return;
		if (size > largest)
			largest = size;
		double ratio = (double)sum / (double)largest;
		if (i == first || ratio < ratio_min)
			continue;
		if (ratio > best->ratio || (ratio >= best->ratio && sum < best->sum))
			*best = (struct best){ first, i - first + 1, sum, ratio };
	}
}

static struct merge_policy with_defaults(const struct merge_policy *policy)
{
	struct merge_policy p = *policy;
	if (p.fan_in_max < 2)
		p.fan_in_max = FAN_IN;
	if (p.bytes_max == 0)
		p.bytes_max = UINT64_MAX;
	if (p.bytes_floor == 0)
		p.bytes_floor = FLOOR_BYTES;
	if (p.ratio_min_percent == 0)
		p.ratio_min_percent = RATIO_PERCENT;
	if (p.count_max == 0)
		p.count_max = SIZE_MAX;
	return p;
}

bool merge_policy_choose(const struct merge_policy *policy, const struct merge_part *parts,
			 size_t count, size_t *ret_first, size_t *ret_count)
{
	struct merge_policy p = with_defaults(policy);
	struct best best = { .count = 0 };
	for (size_t group = 0; group < count;) {
		size_t end = group + group_len(parts, count, group);
		bool too_many = end - group > p.count_max;
		double ratio_min = too_many ? 0 : (double)p.ratio_min_percent / 100;
		for (size_t first = group; first < end; first++)
			try_runs(&p, parts, first, end, ratio_min, &best);
		group = end;
	}
	if (best.count == 0)
		return false;
	*ret_first = best.first;
	*ret_count = best.count;
	return true;
}
