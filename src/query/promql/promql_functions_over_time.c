/* …_over_time(): sums, averages, extremes and the like of the samples of a range. */
#include <math.h>

#include "base/checks.h"
#include "query/promql/promql_functions_internal.h"

static errc give(double value, struct promql_sample *ret)
{
	*ret = (struct promql_sample){ true, value, NULL };
	return OK;
}

/* ---- Sums and averages of histograms. */

struct histogram_total {
	struct histogram_sum sum;
	struct histogram_notes notes;
	bool reset_seen, no_reset_seen;
};

static void total_done(struct histogram_total *t)
{
	histogram_sum_done(&t->sum);
}

static void look_at_hint(struct histogram_total *t, const struct histogram *h)
{
	t->reset_seen |= h->reset == HISTOGRAM_RESET_YES;
	t->no_reset_seen |= h->reset == HISTOGRAM_RESET_NO;
}

static bool side_overflows(const struct histogram_sum_side *side)
{
	for (uint32_t i = 0; i < side->count; i++)
		if (isinf(side->counts[i]))
			return true;
	return false;
}

static bool overflows(const struct histogram_sum *s)
{
	return isinf(s->zero_count) || isinf(s->count) || isinf(s->sum) ||
	       side_overflows(&s->positive) || side_overflows(&s->negative);
}

/* The sum of the first COUNT; *RET_COUNT is how many went in before it overflowed. */
static errc add_up(struct histogram_total *t, const struct promql_window *w, size_t count,
		   bool watch, size_t *ret_count, struct err *e)
{
	TRY(histogram_sum_set(&t->sum, w->histograms[0], e));
	look_at_hint(t, w->histograms[0]);
	for (size_t i = 1; i < count; i++) {
		look_at_hint(t, w->histograms[i]);
		TRY(histogram_sum_add(&t->sum, w->histograms[i], &t->notes, e));
		if (watch && overflows(&t->sum)) {
			*ret_count = i;
			return OK;
		}
	}
	*ret_count = count;
	return OK;
}

enum { PART_BYTES_MAX = 16 << 20 }; /* of one histogram */

/* The average without ever holding the sum, which is too large: of DONE from there on. */
static errc average_on(struct histogram_total *t, const struct promql_window *w, size_t done,
		       struct err *e)
{
	TRY(add_up(t, w, done, false, &done, e));
	histogram_sum_div(&t->sum, (double)done);
	for (size_t i = done; i < w->count; i++) {
		double count = (double)(i + 1);
		CLEANUP(arena_done) struct arena arena = arena_init(PART_BYTES_MAX);
		struct histogram *part;
		look_at_hint(t, w->histograms[i]);
		TRY(histogram_div(&arena, w->histograms[i], count, &part, e));
		histogram_sum_mul(&t->sum, (count - 1) / count);
		TRY(histogram_sum_add(&t->sum, part, &t->notes, e));
	}
	return OK;
}

static bool go_together(const struct promql_window *w)
{
	for (size_t i = 1; i < w->count; i++)
		if (!histogram_compatible(w->histograms[0], w->histograms[i]))
			return false;
	return true;
}

static errc histogram_total(struct promql_eval_scope *scope, const struct promql_window *w,
			    bool average, struct promql_sample *ret, struct err *e)
{
	CLEANUP(total_done) struct histogram_total t = { .sum.compensated = true };
	struct histogram *h;
	size_t done;
	if (!go_together(w)) {
		promql_note_mixed_schemas(scope);
		return OK;
	}
	TRY(add_up(&t, w, w->count, average, &done, e));
	if (done < w->count)
		TRY(average_on(&t, w, done, e));
	else if (average)
		histogram_sum_div(&t.sum, (double)w->count);
	if (t.reset_seen && t.no_reset_seen)
		promql_note_collision(scope, "aggregation");
	if (t.notes.bounds_reconciled)
		promql_note_reconciled(scope, "aggregation");
	TRY(histogram_sum_result(&t.sum, scope->scratch, &h, e));
	*ret = (struct promql_sample){ true, 0, h };
	return OK;
}

/* ---- Sums and averages of floats. */

static double float_sum(const struct promql_window *w)
{
	double sum = 0, compensation = 0;
	for (size_t i = 0; i < w->count; i++)
		promql_kahan_add(w->values[i], &sum, &compensation);
	return isinf(sum) ? sum : sum + compensation;
}

static double float_average(const struct promql_window *w)
{
	double sum = w->values[0], mean = 0, compensation = 0;
	bool incremental = false;
	for (size_t i = 1; i < w->count; i++) {
		double count = (double)(i + 1), next = sum, next_compensation = compensation;
		if (!incremental) {
			promql_kahan_add(w->values[i], &next, &next_compensation);
			if (!isinf(next)) {
				sum = next;
				compensation = next_compensation;
				continue;
			}
			/* the sum overflows: from here on the mean itself is moved */
			incremental = true;
			mean = sum / (count - 1);
			compensation /= count - 1;
		}
		double q = (count - 1) / count;
		mean *= q;
		compensation *= q;
		promql_kahan_add(w->values[i] / count, &mean, &compensation);
	}
	if (incremental)
		return mean + compensation;
	double count = (double)w->count;
	return sum / count + compensation / count;
}

static errc total_body(struct promql_eval_scope *scope, const struct promql_window *w, bool average,
		       struct promql_sample *ret, struct err *e)
{
	size_t histograms = promql_window_histograms(w);
	if (!histograms)
		return give(average ? float_average(w) : float_sum(w), ret);
	if (histograms == w->count)
		return histogram_total(scope, w, average, ret, e);
	promql_note_mixed(scope);
	return OK;
}

errc promql_body_sum_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
			       struct promql_sample *ret, struct err *e)
{
	return total_body(scope, w, false, ret, e);
}

errc promql_body_avg_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
			       struct promql_sample *ret, struct err *e)
{
	return total_body(scope, w, true, ret, e);
}

/* ---- Extremes and their times. */

enum extreme { LOWEST, HIGHEST, LOWEST_TIME, HIGHEST_TIME };

static errc extreme_body(struct promql_eval_scope *scope, const struct promql_window *w,
			 enum extreme what, struct promql_sample *ret, struct err *e)
{
	CLEANUP(promql_floats_done) struct promql_floats f = { 0 };
	TRY(promql_window_only_floats(scope, w, &f, e));
	if (!f.count)
		return OK;
	bool highest = what == HIGHEST || what == HIGHEST_TIME;
	bool of_time = what == LOWEST_TIME || what == HIGHEST_TIME;
	double best = f.values[0];
	size_t at = 0;
	for (size_t i = 0; i < f.count; i++) {
		double v = f.values[i];
		/* of equal values the last one's time counts */
		if (isnan(best) || (highest ? v > best : v < best) || (of_time && v == best)) {
			best = v;
			at = i;
		}
	}
	return give(of_time ? (double)f.times[at] / 1000 : best, ret);
}

errc promql_body_min_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
			       struct promql_sample *ret, struct err *e)
{
	return extreme_body(scope, w, LOWEST, ret, e);
}

errc promql_body_max_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
			       struct promql_sample *ret, struct err *e)
{
	return extreme_body(scope, w, HIGHEST, ret, e);
}

errc promql_body_ts_of_min_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
				     struct promql_sample *ret, struct err *e)
{
	return extreme_body(scope, w, LOWEST_TIME, ret, e);
}

errc promql_body_ts_of_max_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
				     struct promql_sample *ret, struct err *e)
{
	return extreme_body(scope, w, HIGHEST_TIME, ret, e);
}

/* ---- Counts and ends. */

errc promql_body_count_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
				 struct promql_sample *ret, struct err *e)
{
	(void)scope, (void)e;
	return give((double)w->count, ret);
}

errc promql_body_present_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
				   struct promql_sample *ret, struct err *e)
{
	(void)scope, (void)w, (void)e;
	return give(1, ret);
}

static errc sample_of(const struct promql_window *w, size_t i, struct promql_sample *ret)
{
	*ret = (struct promql_sample){ true, w->values[i], promql_window_histogram(w, i) };
	return OK;
}

errc promql_body_first_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
				 struct promql_sample *ret, struct err *e)
{
	(void)scope, (void)e;
	return sample_of(w, 0, ret);
}

errc promql_body_last_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
				struct promql_sample *ret, struct err *e)
{
	(void)scope, (void)e;
	return sample_of(w, w->count - 1, ret);
}

errc promql_body_ts_of_first_over_time(struct promql_eval_scope *scope,
				       const struct promql_window *w, struct promql_sample *ret,
				       struct err *e)
{
	(void)scope, (void)e;
	return give((double)w->times[0] / 1000, ret);
}

errc promql_body_ts_of_last_over_time(struct promql_eval_scope *scope,
				      const struct promql_window *w, struct promql_sample *ret,
				      struct err *e)
{
	(void)scope, (void)e;
	return give((double)w->times[w->count - 1] / 1000, ret);
}

/* ---- Spread. */

static errc variance_body(struct promql_eval_scope *scope, const struct promql_window *w, bool root,
			  struct promql_sample *ret, struct err *e)
{
	CLEANUP(promql_floats_done) struct promql_floats f = { 0 };
	TRY(promql_window_only_floats(scope, w, &f, e));
	if (!f.count)
		return OK;
	double count = 0, mean = 0, mean_c = 0, squares = 0, squares_c = 0;
	for (size_t i = 0; i < f.count; i++) {
		count++;
		double delta = f.values[i] - (mean + mean_c);
		promql_kahan_add(delta / count, &mean, &mean_c);
		promql_kahan_add(delta * (f.values[i] - (mean + mean_c)), &squares, &squares_c);
	}
	double variance = (squares + squares_c) / count;
	return give(root ? sqrt(variance) : variance, ret);
}

errc promql_body_stdvar_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
				  struct promql_sample *ret, struct err *e)
{
	return variance_body(scope, w, false, ret, e);
}

errc promql_body_stddev_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
				  struct promql_sample *ret, struct err *e)
{
	return variance_body(scope, w, true, ret, e);
}

errc promql_body_mad_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
			       struct promql_sample *ret, struct err *e)
{
	CLEANUP(promql_floats_done) struct promql_floats f = { 0 };
	double *values;
	TRY(promql_window_only_floats(scope, w, &f, e));
	if (!f.count)
		return OK;
	TRY(promql_floats_scratch(&f, &values, e));
	double median = promql_quantile_of(0.5, values, f.count);
	for (size_t i = 0; i < f.count; i++)
		values[i] = fabs(f.values[i] - median);
	return give(promql_quantile_of(0.5, values, f.count), ret);
}

errc promql_body_quantile_over_time(struct promql_eval_scope *scope, const struct promql_window *w,
				    struct promql_sample *ret, struct err *e)
{
	CLEANUP(promql_floats_done) struct promql_floats f = { 0 };
	double *values, q = scope->call->scalars[0][w->step];
	TRY(promql_window_floats(scope, w, &f, e));
	if (!f.count)
		return OK;
	if (!(q >= 0 && q <= 1))
		promql_note_quantile(scope->call, 0, q);
	if (f.histogram_count)
		promql_note_mixed_ranges(scope);
	TRY(promql_floats_scratch(&f, &values, e));
	return give(promql_quantile_of(q, values, f.count), ret);
}
