/* What the aggregations share. Private to promql_eval_aggregate*.c. */
#pragma once

#include "query/promql/promql_eval_core.h"

/* One aggregation over the columns of SOURCE, which are asked for once each. */
struct aggregation {
	struct promql_run *run;
	const struct promql_expr *expr;
	enum promql_aggregation op;
	struct promql_source *source;
	struct promql_grid grid;
	const double *param;       /* one a step; NULL: it has none */
	str label;                 /* of count_values */
	uint32_t *group_of;        /* of each series */
	uint32_t *first, *members; /* series of group g: members[first[g] … first[g + 1]) */
	size_t group_count;
	struct labels *labels; /* of each group */
};

/* promql_eval_aggregate.c: sum, avg, min, max, count, group, stddev, stdvar. */
WARN_UNUSED errc aggregate_numbers(struct aggregation *a, struct promql_table **ret, struct err *e);
/* promql_eval_aggregate_pick.c: topk, bottomk, limitk, limit_ratio. */
WARN_UNUSED errc aggregate_pick(struct aggregation *a, struct promql_table **ret, struct err *e);
/* promql_eval_aggregate_values.c: quantile, count_values. */
WARN_UNUSED errc aggregate_quantile(struct aggregation *a, struct promql_table **ret,
				    struct err *e);
WARN_UNUSED errc aggregate_count_values(struct aggregation *a, struct promql_table **ret,
					struct err *e);

/* An info, once, that OP leaves histograms out. */
void aggregate_note_histogram(const struct aggregation *a);
/* Whether the work is cut by groups, where they are many, or else into slices of the series in
 * their order: that is the one in which the engine reads them fastest. Slices need room for all
 * groups.
 */
static inline bool aggregate_by_groups(const struct aggregation *a)
{
	const size_t points_of_groups_max = 256 * 1024;
	return a->group_count >= 16 && a->group_count > points_of_groups_max / a->grid.count;
}
