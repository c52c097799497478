/*
 * …_over_time() over all windows of a series of floats.
 *
 * The starts and ends of all windows cut the series into pieces; every window is some pieces in a
 * row. Pieces are added up (or compared) one by one, and go through a queue of two stacks: the
 * window is [first, middle), of which every suffix is known, and [middle, last), of which the whole
 * is. A window moves on by taking another suffix and adding to the whole; when the first part is
 * used up, the middle moves to the end and suffixes are made anew. So each sample is looked at once
 * and each piece twice however long windows are, and nothing is ever subtracted, so that no digits
 * are lost to samples that have left.
 */
#include <assert.h>
#include <math.h>

#include "query/promql/promql_functions_internal.h"

/* ---- Sums. */

struct sum {
	double value, rest; /* what rounding lost */
};

/* Exact: value + rest is what it was; of finite values whose sum is finite. */
static inline struct sum sum_of(double a, double b)
{
	double t = a + b, part = t - a;
	return (struct sum){ t, (a - (t - part)) + (b - part) };
}

static inline struct sum sum_add(struct sum s, double v)
{
	struct sum t = sum_of(s.value, v);
	return (struct sum){ t.value, s.rest + t.rest };
}

/* A is what was known last: in a chain of sums each waits for one addition of the one before. */
static inline struct sum sum_join(struct sum a, struct sum b)
{
	struct sum t = sum_of(a.value, b.value);
	return (struct sum){ t.value, a.rest + (b.rest + t.rest) };
}

/* Whether no sum of them can overflow or be NaN. */
static bool are_tame(const double *values, size_t count)
{
	/* pairs, which every 64-bit processor compares at once */
	typedef double pair __attribute__((vector_size(16), aligned(8)));
	typedef int64_t flags __attribute__((vector_size(16)));
	const pair most = { 0x1p960, 0x1p960 };
	flags tame = { 0 }; /* less one for each pair of pairs */
	size_t i = 0;
	for (; i + 4 <= count; i += 4) {
		const pair *p = (const pair *)(values + i);
		tame += ((p[0] < most) & (p[0] > -most)) & ((p[1] < most) & (p[1] > -most));
	}
	int64_t all = -(int64_t)(i / 4);
	bool rest = true;
	for (; i < count; i++)
		rest &= fabs(values[i]) < most[0];
	return rest && tame[0] == all && tame[1] == all;
}

/* ---- Pieces: the same for all series with the same windows, and so kept in the cache. */

struct pieces {
	const uint32_t *bounds;       /* piece i is the samples from bounds[i] on */
	const uint32_t *first, *last; /* of each step: its pieces are [first, last) */
	double *room;                 /* for what is known of pieces, and then of suffixes */
};

enum {
	BOUNDS_PER_STEP = 2,
	/* numbers a step: bounds, first, last and one more in all; then two rows of pieces */
	PIECE_DOUBLES = PROMQL_PIECES_CACHE - 3,
	ROW_DOUBLES = PIECE_DOUBLES / 2,
};
static_assert(PIECE_DOUBLES >= 2 * BOUNDS_PER_STEP * 2, "two doubles for each piece, twice");

static void cut(const struct promql_windows *w, uint32_t *bounds, uint32_t *first, uint32_t *last)
{
	size_t b = 0, e = 0, steps = w->step_count;
	uint32_t n = 0;
	while (e < steps) {
		uint32_t at = w->ends[e];
		if (b < steps && w->begins[b] < at)
			at = w->begins[b];
		bounds[n] = at;
		while (b < steps && w->begins[b] == at)
			first[b++] = n;
		while (e < steps && w->ends[e] == at)
			last[e++] = n;
		n++;
	}
}

static struct pieces pieces_of(const struct promql_windows *w)
{
	size_t steps = w->step_count;
	uint32_t *bounds = (uint32_t *)w->cache, *first = bounds + BOUNDS_PER_STEP * steps + 1;
	uint32_t *last = first + steps;
	if (!*w->cached)
		cut(w, bounds, first, last);
	*w->cached = true;
	return (struct pieces){ bounds, first, last, w->cache + 3 * steps };
}

static inline struct sum sum_piece(const struct promql_windows *w, const struct pieces *p, size_t i)
{
	struct sum s = { 0, 0 };
	for (uint32_t k = p->bounds[i]; k < p->bounds[i + 1]; k++)
		s = sum_add(s, w->values[k]);
	return s;
}

static errc sum_windows(const struct promql_windows *w, bool average, struct promql_column *ret)
{
	struct pieces p = pieces_of(w);
	struct sum *sums = (struct sum *)p.room;
	struct sum *suffixes = (struct sum *)(p.room + ROW_DOUBLES * w->step_count);
	size_t middle = 0, high = 0; /* pieces before high are added up */
	struct sum whole = { 0, 0 };
	for (size_t step = 0; step < w->step_count; step++) {
		size_t first = p.first[step], last = p.last[step];
		if (last <= first)
			continue;
		high = high < first ? first : high;
		for (size_t i = high; i < last; i++)
			sums[i] = sum_piece(w, &p, i);
		if (first >= middle) {
			struct sum s = { 0, 0 };
			for (size_t i = last; i-- > first;)
				suffixes[i] = s = sum_join(s, sums[i]);
			middle = last;
			whole = (struct sum){ 0, 0 };
		} else {
			for (; high < last; high++)
				whole = sum_join(whole, sums[high]);
		}
		high = last;
		struct sum s = sum_join(whole, suffixes[first]);
		double count = (double)(w->ends[step] - w->begins[step]);
		promql_set(ret, step,
			   average ? s.value / count + s.rest / count : s.value + s.rest);
	}
	return OK;
}

/* Window by window, as the range body does it: where a sum may overflow or is none. */
static double plain_sum(const double *values, size_t count)
{
	double sum = 0, rest = 0;
	for (size_t i = 0; i < count; i++)
		promql_kahan_add(values[i], &sum, &rest);
	return isinf(sum) ? sum : sum + rest;
}

static double plain_average(const double *values, size_t count)
{
	double sum = values[0], rest = 0;
	size_t i = 1;
	for (; i < count; i++) {
		double next = sum, next_rest = rest;
		promql_kahan_add(values[i], &next, &next_rest);
		if (isinf(next))
			break;
		sum = next;
		rest = next_rest;
	}
	double n = (double)i;
	if (i == count)
		return sum / n + rest / n;
	/* too large for a sum: the mean itself is moved */
	double mean = sum / n;
	rest /= n;
	for (; i < count; i++) {
		n = (double)(i + 1);
		double q = (n - 1) / n;
		mean *= q;
		rest *= q;
		promql_kahan_add(values[i] / n, &mean, &rest);
	}
	return mean + rest;
}

static errc plain_windows(struct promql_eval_scope *scope, const struct promql_windows *w,
			  double (*of)(const double *, size_t), struct promql_column *ret,
			  struct err *e)
{
	for (size_t step = 0; step < w->step_count; step++) {
		size_t begin = w->begins[step], end = w->ends[step];
		if (end > begin)
			promql_set(ret, step, of(w->values + begin, end - begin));
		if (step % 64 == 63 && scope->call) /* windows may be long */
			TRY(promql_check(scope->call->run, e));
	}
	return OK;
}

errc promql_kernel_sum_over_time(struct promql_eval_scope *scope, const struct promql_windows *w,
				 struct promql_column *ret, struct err *e)
{
	if (!are_tame(w->values, w->count))
		return plain_windows(scope, w, plain_sum, ret, e);
	return sum_windows(w, false, ret);
}

errc promql_kernel_avg_over_time(struct promql_eval_scope *scope, const struct promql_windows *w,
				 struct promql_column *ret, struct err *e)
{
	if (!are_tame(w->values, w->count))
		return plain_windows(scope, w, plain_average, ret, e);
	return sum_windows(w, true, ret);
}

/* ---- Extremes: of equal ones the first counts (0 and -0 are equal), NaN only where there is
 * nothing else. */

static inline double lower_of(double a, double b)
{
	return b < a || isnan(a) ? b : a;
}

static inline double higher_of(double a, double b)
{
	return b > a || isnan(a) ? b : a;
}

static inline __attribute__((always_inline)) errc extreme_windows(const struct promql_windows *w,
								  double (*better)(double, double),
								  struct promql_column *ret)
{
	struct pieces p = pieces_of(w);
	double *bests = p.room, *suffixes = p.room + ROW_DOUBLES * w->step_count;
	size_t middle = 0, high = 0;
	double whole = (double)NAN;
	for (size_t step = 0; step < w->step_count; step++) {
		size_t first = p.first[step], last = p.last[step];
		if (last <= first)
			continue;
		high = high < first ? first : high;
		for (size_t i = high; i < last; i++) {
			bests[i] = w->values[p.bounds[i]];
			for (uint32_t k = p.bounds[i] + 1; k < p.bounds[i + 1]; k++)
				bests[i] = better(bests[i], w->values[k]);
		}
		if (first >= middle) {
			double best = (double)NAN;
			for (size_t i = last; i-- > first;)
				suffixes[i] = best = better(bests[i], best);
			middle = last;
			whole = (double)NAN;
		} else {
			for (; high < last; high++)
				whole = better(whole, bests[high]);
		}
		high = last;
		promql_set(ret, step, better(suffixes[first], whole));
	}
	return OK;
}

errc promql_kernel_min_over_time(struct promql_eval_scope *scope, const struct promql_windows *w,
				 struct promql_column *ret, struct err *e)
{
	(void)scope, (void)e;
	return extreme_windows(w, lower_of, ret);
}

errc promql_kernel_max_over_time(struct promql_eval_scope *scope, const struct promql_windows *w,
				 struct promql_column *ret, struct err *e)
{
	(void)scope, (void)e;
	return extreme_windows(w, higher_of, ret);
}

/* ---- Counts and ends. */

errc promql_kernel_count_over_time(struct promql_eval_scope *scope, const struct promql_windows *w,
				   struct promql_column *ret, struct err *e)
{
	(void)scope, (void)e;
	for (size_t step = 0; step < w->step_count; step++)
		if (w->ends[step] > w->begins[step])
			promql_set(ret, step, (double)(w->ends[step] - w->begins[step]));
	return OK;
}

errc promql_kernel_present_over_time(struct promql_eval_scope *scope,
				     const struct promql_windows *w, struct promql_column *ret,
				     struct err *e)
{
	(void)scope, (void)e;
	for (size_t step = 0; step < w->step_count; step++)
		if (w->ends[step] > w->begins[step])
			promql_set(ret, step, 1);
	return OK;
}

errc promql_kernel_first_over_time(struct promql_eval_scope *scope, const struct promql_windows *w,
				   struct promql_column *ret, struct err *e)
{
	(void)scope, (void)e;
	for (size_t step = 0; step < w->step_count; step++)
		if (w->ends[step] > w->begins[step])
			promql_set(ret, step, w->values[w->begins[step]]);
	return OK;
}

errc promql_kernel_last_over_time(struct promql_eval_scope *scope, const struct promql_windows *w,
				  struct promql_column *ret, struct err *e)
{
	(void)scope, (void)e;
	for (size_t step = 0; step < w->step_count; step++)
		if (w->ends[step] > w->begins[step])
			promql_set(ret, step, w->values[w->ends[step] - 1]);
	return OK;
}
