/* rate(), increase(), delta() and their extended forms; irate(), idelta(); changes(), resets(). */
#include <math.h>

#include "base/checks.h"
#include "query/promql/promql_functions_internal.h"

struct rate_kind {
	bool counter, per_second;
};

/* ---- Differences of histograms. */

static const struct histogram *gauge_of(struct histogram *h)
{
	h->reset = HISTOGRAM_RESET_GAUGE;
	return h;
}

/* Whether histogram I of the window, not its first sample, is a reset to the histogram before. */
static bool is_histogram_reset(const struct promql_window *w, size_t i)
{
	if (w->resets && w->resets[i])
		return w->resets[i] == 2;
	bool reset = histogram_detect_reset(w->histograms[i], w->histograms[i - 1]);
	if (w->resets)
		w->resets[i] = reset ? 2 : 1;
	return reset;
}

/* What histogram_rate() has gathered of its window. */
struct rate_look {
	const struct histogram *first; /* NULL: reset right behind it, its layout does not count */
	int32_t schema;                /* the coarsest */
	bool custom, mixed_schemas;
};

static void look_at_histograms(struct promql_eval_scope *scope, const struct promql_window *w,
			       bool counter, struct rate_look *ret)
{
	const struct histogram *first = w->histograms[0], *last = w->histograms[w->count - 1];
	if (counter &&
	    (first->reset == HISTOGRAM_RESET_GAUGE || last->reset == HISTOGRAM_RESET_GAUGE))
		promql_note_not_counter(scope);
	*ret = (struct rate_look){ first, first->schema, histogram_is_custom(first), false };
	if (counter && is_histogram_reset(w, 1)) {
		const struct histogram *second = w->histograms[1];
		*ret = (struct rate_look){ NULL, second->schema, histogram_is_custom(second),
					   false };
	}
	ret->mixed_schemas = histogram_is_custom(last) != ret->custom;
	if (last->schema < ret->schema)
		ret->schema = last->schema;
	for (size_t i = 1; counter && i + 1 < w->count; i++) {
		const struct histogram *h = w->histograms[i];
		if (h->reset == HISTOGRAM_RESET_GAUGE)
			promql_note_not_counter(scope);
		if (h->schema < ret->schema)
			ret->schema = h->schema;
		ret->mixed_schemas |= histogram_is_custom(h) != ret->custom;
	}
}

/* The last histogram less the first, and more by each before a reset; into S. */
static errc subtract_histograms(struct promql_eval_scope *scope, const struct promql_window *w,
				bool counter, const struct rate_look *look, struct histogram_sum *s,
				struct err *e)
{
	/* conflicting hints are no matter here, for resets are looked at one by one */
	struct histogram_notes notes = { 0 };
	TRY(histogram_sum_set(s, w->histograms[w->count - 1], e));
	if (!look->custom)
		histogram_sum_to_schema(s, look->schema);
	if (look->first)
		TRY(histogram_sum_sub(s, look->first, &notes, e));
	if (notes.bounds_reconciled)
		promql_note_reconciled(scope, "subtraction");
	if (!counter)
		return OK;
	notes.bounds_reconciled = false;
	for (size_t i = look->first ? 1 : 2; i < w->count; i++)
		if (is_histogram_reset(w, i))
			TRY(histogram_sum_add(s, w->histograms[i - 1], &notes, e));
	if (notes.bounds_reconciled)
		promql_note_reconciled(scope, "addition");
	return OK;
}

/* *RET is NULL when the histograms do not go together. All of the window are histograms. */
static errc histogram_rate(struct promql_eval_scope *scope, const struct promql_window *w,
			   bool counter, struct histogram_sum *s, bool *ret_made, struct err *e)
{
	struct rate_look look;
	const struct histogram *first = w->histograms[0], *last = w->histograms[w->count - 1];
	look_at_histograms(scope, w, counter, &look);
	*ret_made = false;
	if (look.mixed_schemas) {
		promql_note_mixed_schemas(scope);
		return OK;
	}
	TRY(subtract_histograms(scope, w, counter, &look, s, e));
	if (!counter &&
	    (first->reset != HISTOGRAM_RESET_GAUGE || last->reset != HISTOGRAM_RESET_GAUGE))
		promql_note_not_gauge(scope);
	*ret_made = true;
	return OK;
}

/* ---- rate(), increase(), delta(). */

static double float_increase(const struct promql_window *w, bool counter)
{
	double increase = w->values[w->count - 1] - w->values[0], before = w->values[0];
	for (size_t i = 1; counter && i < w->count; i++) {
		if (w->values[i] < before)
			increase += before;
		before = w->values[i];
	}
	return increase;
}

/* By what to multiply the increase between the first and the last sample to get that of the whole
 * range. FIRST: the counter's first value, or NaN when zero is no bound. */
static double extrapolation(const struct promql_window *w, double increase, double first)
{
	double to_start = (double)(w->times[0] - w->start) / 1000;
	double to_end = (double)(w->end - w->times[w->count - 1]) / 1000;
	double sampled = (double)(w->times[w->count - 1] - w->times[0]) / 1000;
	double average = sampled / (double)(w->count - 1), threshold = average * 1.1;
	if (to_start >= threshold)
		to_start = average / 2;
	/* a counter does not begin below zero */
	if (increase > 0 && first >= 0) {
		double to_zero = sampled * (first / increase);
		if (to_zero < to_start)
			to_start = to_zero;
	}
	if (to_end >= threshold)
		to_end = average / 2;
	return (sampled + to_start + to_end) / sampled;
}

static errc extrapolated(struct promql_eval_scope *scope, const struct promql_window *w,
			 struct rate_kind kind, struct promql_sample *ret, struct err *e)
{
	size_t histograms = promql_window_histograms(w);
	double seconds = (double)(w->end - w->start) / 1000;
	if (histograms && histograms < w->count) {
		promql_note_mixed(scope);
		return OK;
	}
	if (w->count < 2)
		return OK;
	if (!histograms) {
		double increase = float_increase(w, kind.counter);
		double first = kind.counter ? w->values[0] : (double)NAN;
		double factor = extrapolation(w, increase, first);
		*ret = (struct promql_sample){
			true, increase * (kind.per_second ? factor / seconds : factor), NULL
		};
		return OK;
	}
	CLEANUP(histogram_sum_done) struct histogram_sum s = { 0 };
	bool made;
	struct histogram *h;
	TRY(histogram_rate(scope, w, kind.counter, &s, &made, e));
	if (!made)
		return OK;
	double first = kind.counter ? w->histograms[0]->count : (double)NAN;
	double factor = extrapolation(w, s.count, first);
	histogram_sum_mul(&s, kind.per_second ? factor / seconds : factor);
	TRY(histogram_sum_result(&s, scope->scratch, &h, e));
	*ret = (struct promql_sample){ true, 0, gauge_of(h) };
	return OK;
}

/* ---- With `anchored` and `smoothed`. */

/* Between two samples at WHEN; over a counter's reset it goes on from the value before it, or at
 * the left edge from zero. */
static double between(const struct promql_window *w, size_t left, time_ms when, bool counter,
		      bool left_edge)
{
	double a = w->values[left], b = w->values[left + 1];
	if (counter && b < a) {
		if (left_edge)
			a = 0;
		else
			b += a;
	}
	return a + (b - a) * (double)(when - w->times[left]) /
			   (double)(w->times[left + 1] - w->times[left]);
}

/* The last sample at or before the start, or the first one. */
static size_t anchor(const struct promql_window *w)
{
	size_t after = 0;
	while (after < w->count - 1 && w->times[after] <= w->start)
		after++;
	return after ? after - 1 : 0;
}

static errc extended(struct promql_eval_scope *scope, const struct promql_window *w,
		     struct rate_kind kind, struct promql_sample *ret, struct err *e)
{
	(void)scope;
	if (promql_window_histograms(w))
		FAIL(e, ERR_FAILED,
		     "smoothed and anchored modifiers do not work with native histograms");
	size_t first = anchor(w), last = w->count - 1;
	if (w->smoothed) {
		last = 0;
		while (last < w->count - 1 && w->times[last] < w->end)
			last++;
	}
	if (w->times[last] <= w->start)
		return OK;
	double left = w->values[first], right = w->values[last];
	if (w->smoothed && w->times[first] < w->start)
		left = between(w, first, w->start, kind.counter, true);
	if (w->smoothed && last > 0 && w->times[last] > w->end)
		right = between(w, last - 1, w->end, kind.counter, false);
	double increase = right - left, before = left;
	for (size_t i = first + 1; kind.counter && i <= last; i++) {
		double value = i < last ? w->values[i] : right;
		if (value < before)
			increase += before;
		before = value;
	}
	if (kind.per_second)
		increase /= (double)(w->end - w->start) / 1000;
	*ret = (struct promql_sample){ true, increase, NULL };
	return OK;
}

static errc rate_body(struct promql_eval_scope *scope, const struct promql_window *w,
		      struct rate_kind kind, struct promql_sample *ret, struct err *e)
{
	if (w->anchored || w->smoothed)
		return extended(scope, w, kind, ret, e);
	return extrapolated(scope, w, kind, ret, e);
}

errc promql_body_rate(struct promql_eval_scope *scope, const struct promql_window *w,
		      struct promql_sample *ret, struct err *e)
{
	return rate_body(scope, w, (struct rate_kind){ true, true }, ret, e);
}

errc promql_body_increase(struct promql_eval_scope *scope, const struct promql_window *w,
			  struct promql_sample *ret, struct err *e)
{
	return rate_body(scope, w, (struct rate_kind){ true, false }, ret, e);
}

errc promql_body_delta(struct promql_eval_scope *scope, const struct promql_window *w,
		       struct promql_sample *ret, struct err *e)
{
	return rate_body(scope, w, (struct rate_kind){ false, false }, ret, e);
}

/* ---- irate(), idelta(): of the last two samples. */

static errc instant_histogram(struct promql_eval_scope *scope, const struct histogram *before,
			      const struct histogram *last, bool rate, double seconds,
			      struct promql_sample *ret, struct err *e)
{
	CLEANUP(histogram_sum_done) struct histogram_sum s = { 0 };
	struct histogram_notes notes = { 0 };
	struct histogram *h;
	bool a_gauge = last->reset == HISTOGRAM_RESET_GAUGE;
	bool b_gauge = before->reset == HISTOGRAM_RESET_GAUGE;
	if (rate && (a_gauge || b_gauge))
		promql_note_not_counter(scope);
	if (!rate && (!a_gauge || !b_gauge))
		promql_note_not_gauge(scope);
	TRY(histogram_sum_set(&s, last, e));
	if (!rate || !histogram_detect_reset(last, before)) {
		if (!histogram_compatible(last, before)) {
			promql_note_mixed_schemas(scope);
			return OK;
		}
		TRY(histogram_sum_sub(&s, before, &notes, e));
		if (notes.bounds_reconciled)
			promql_note_reconciled(scope, "subtraction");
	}
	if (rate)
		histogram_sum_div(&s, seconds);
	TRY(histogram_sum_result(&s, scope->scratch, &h, e));
	*ret = (struct promql_sample){ true, 0, gauge_of(h) };
	return OK;
}

static errc instant_body(struct promql_eval_scope *scope, const struct promql_window *w, bool rate,
			 struct promql_sample *ret, struct err *e)
{
	if (w->count < 2)
		return OK;
	size_t last = w->count - 1;
	double seconds = (double)(w->times[last] - w->times[last - 1]) / 1000;
	const struct histogram *h = promql_window_histogram(w, last);
	const struct histogram *before = promql_window_histogram(w, last - 1);
	if (!h != !before) {
		promql_note_mixed(scope);
		return OK;
	}
	if (h)
		return instant_histogram(scope, before, h, rate, seconds, ret, e);
	double value = w->values[last];
	if (!rate || !(value < w->values[last - 1]))
		value -= w->values[last - 1];
	*ret = (struct promql_sample){ true, rate ? value / seconds : value, NULL };
	return OK;
}

errc promql_body_irate(struct promql_eval_scope *scope, const struct promql_window *w,
		       struct promql_sample *ret, struct err *e)
{
	return instant_body(scope, w, true, ret, e);
}

errc promql_body_idelta(struct promql_eval_scope *scope, const struct promql_window *w,
			struct promql_sample *ret, struct err *e)
{
	return instant_body(scope, w, false, ret, e);
}

/* ---- changes(), resets(). */

static bool is_change(const struct promql_window *w, size_t i)
{
	const struct histogram *a = promql_window_histogram(w, i - 1);
	const struct histogram *b = promql_window_histogram(w, i);
	if (a && b)
		return !histogram_equals(a, b);
	if (a || b)
		return true;
	double x = w->values[i - 1], y = w->values[i];
	return x != y && !(isnan(x) && isnan(y));
}

static bool is_reset(const struct promql_window *w, size_t i)
{
	const struct histogram *a = promql_window_histogram(w, i - 1);
	const struct histogram *b = promql_window_histogram(w, i);
	if (a && b)
		return is_histogram_reset(w, i);
	return a || b || w->values[i] < w->values[i - 1];
}

static errc count_pairs(const struct promql_window *w,
			bool (*counts)(const struct promql_window *, size_t),
			struct promql_sample *ret)
{
	size_t first = 0, count = 0;
	if (w->anchored) {
		if (w->times[w->count - 1] <= w->start)
			return OK;
		first = anchor(w);
	}
	for (size_t i = first + 1; i < w->count; i++)
		count += counts(w, i);
	*ret = (struct promql_sample){ true, (double)count, NULL };
	return OK;
}

errc promql_body_changes(struct promql_eval_scope *scope, const struct promql_window *w,
			 struct promql_sample *ret, struct err *e)
{
	(void)scope, (void)e;
	return count_pairs(w, is_change, ret);
}

errc promql_body_resets(struct promql_eval_scope *scope, const struct promql_window *w,
			struct promql_sample *ret, struct err *e)
{
	(void)scope, (void)e;
	return count_pairs(w, is_reset, ret);
}
