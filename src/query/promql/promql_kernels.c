/* rate() and its kin over all windows of a series of floats. */
#include <assert.h>
#include <math.h>

#include "query/promql/promql_functions_internal.h"

/* ---- Counter resets: where a value is below the one before it. */

struct resets {
	uint32_t *at; /* indices of the later sample, ascending */
	size_t count;
};

/* Pairs, which every 64-bit processor compares at once. */
typedef double pair __attribute__((vector_size(16), aligned(8)));
typedef int64_t flags __attribute__((vector_size(16)));

/* -1 for each of two values from P on that is below the one before it. */
static inline flags fell(const double *p)
{
	return *(const pair *)p < *(const pair *)(p - 1);
}

static size_t count_resets(const double *values, size_t count)
{
	flags a = { 0 }, b = { 0 };
	size_t i = 1;
	for (; i + 8 <= count; i += 8) {
		a += fell(values + i) + fell(values + i + 2);
		b += fell(values + i + 4) + fell(values + i + 6);
	}
	int64_t found = -(a[0] + a[1] + b[0] + b[1]);
	size_t n = (size_t)found;
	for (; i < count; i++)
		n += values[i] < values[i - 1];
	return n;
}

static errc find_resets(struct promql_eval_scope *scope, const struct promql_windows *w,
			struct resets *ret, struct err *e)
{
	size_t n = count_resets(w->values, w->count);
	*ret = (struct resets){ 0 };
	if (!n)
		return OK;
	ret->at = arena_array(scope->scratch, n, sizeof(*ret->at));
	TRY(arena_check(scope->scratch, "the counter resets of a series", e));
	for (size_t i = 1; i < w->count; i++)
		if (w->values[i] < w->values[i - 1])
			ret->at[ret->count++] = (uint32_t)i;
	return OK;
}

/* ---- rate(), increase(), delta(). */

struct rate_kind {
	bool counter, per_second;
};

/* What the times alone tell of a window. */
struct rate_times {
	double factor; /* that the increase is multiplied by, when zero is no bound */
	double to_start, sampled;
};
static_assert(sizeof(struct rate_times) == PROMQL_RATE_CACHE * sizeof(double), "the cache fits");

/* In milliseconds; of a window of fewer than two samples nothing that counts. */
struct rate_ends {
	double to_start, to_end, sampled, gaps;
};

static inline struct rate_ends ends_of(const struct promql_windows *w, size_t step)
{
	size_t begin = w->begins[step], end = w->ends[step];
	if (end < begin + 2)
		return (struct rate_ends){ 0, 0, 1, 1 };
	time_ms first = w->times[begin], last = w->times[end - 1];
	time_ms end_time = w->first_end + (int64_t)step * w->end_step;
	return (struct rate_ends){ (double)(first - (end_time - w->range_ms)),
				   (double)(end_time - last), (double)(last - first),
				   (double)(end - 1 - begin) };
}

/* V, or OTHER where V is at least LIMIT. */
static inline pair unless_reached(pair v, pair limit, pair other)
{
	flags reached = v >= limit;
	return (pair)(((flags)other & reached) | ((flags)v & ~reached));
}

/* Of two steps at once, for it is mostly divisions. */
static inline void fill_two(const struct promql_windows *w, size_t one, size_t two, double seconds,
			    struct rate_times *cache)
{
	struct rate_ends a = ends_of(w, one), b = ends_of(w, two);
	pair to_start = (pair){ a.to_start, b.to_start } / 1000;
	pair to_end = (pair){ a.to_end, b.to_end } / 1000;
	pair sampled = (pair){ a.sampled, b.sampled } / 1000;
	pair average = sampled / (pair){ a.gaps, b.gaps };
	pair threshold = average * 1.1, half = average / 2;
	to_start = unless_reached(to_start, threshold, half);
	to_end = unless_reached(to_end, threshold, half);
	pair factor = (sampled + to_start + to_end) / sampled / seconds;
	cache[one] = (struct rate_times){ factor[0], to_start[0], sampled[0] };
	cache[two] = (struct rate_times){ factor[1], to_start[1], sampled[1] };
}

/* The factor when the counter was zero TO_ZERO seconds before the window's first sample. */
static double bounded_factor(const struct promql_windows *w, size_t step, double to_zero,
			     double seconds)
{
	size_t begin = w->begins[step], last = w->ends[step] - 1;
	time_ms end_time = w->first_end + (int64_t)step * w->end_step;
	double to_end = (double)(end_time - w->times[last]) / 1000;
	double sampled = (double)(w->times[last] - w->times[begin]) / 1000;
	double average = sampled / (double)(last - begin);
	if (to_end >= average * 1.1)
		to_end = average / 2;
	return (sampled + to_zero + to_end) / sampled / seconds;
}

static inline double rate_of(const struct promql_windows *w, size_t step,
			     const struct rate_times *t, double first, double increase,
			     bool counter, double seconds)
{
	/* a counter does not begin below zero: is zero nearer than the start? The product spares a
	 * division; what it lets through is looked at exactly. */
	if (counter && increase > 0 && first >= 0 &&
	    !(t->sampled * first > t->to_start * increase * 1.000001)) {
		double to_zero = t->sampled * (first / increase);
		if (to_zero < t->to_start)
			return increase * bounded_factor(w, step, to_zero, seconds);
	}
	return increase * t->factor;
}

static void fill_cache(const struct promql_windows *w, double seconds)
{
	struct rate_times *cache = (struct rate_times *)w->cache;
	if (*w->cached)
		return;
	for (size_t step = 0; step < w->step_count; step += 2)
		fill_two(w, step, step + 1 < w->step_count ? step + 1 : step, seconds, cache);
	*w->cached = true;
}

static inline __attribute__((always_inline)) errc
extrapolated(struct promql_eval_scope *scope, const struct promql_windows *w, struct rate_kind kind,
	     struct promql_column *ret, struct err *e)
{
	struct resets resets = { 0 };
	size_t low = 0;
	double seconds = kind.per_second ? (double)w->range_ms / 1000 : 1;
	const struct rate_times *times = (const struct rate_times *)w->cache;
	fill_cache(w, seconds);
	if (kind.counter)
		TRY(find_resets(scope, w, &resets, e));
	for (size_t word = 0; word * 64 < w->step_count; word++) {
		uint64_t present = 0;
		size_t begin_step = word * 64, end_step = begin_step + 64;
		if (end_step > w->step_count)
			end_step = w->step_count;
		for (size_t step = begin_step; step < end_step; step++) {
			size_t begin = w->begins[step], last = (size_t)w->ends[step] - 1;
			if (w->ends[step] < begin + 2)
				continue;
			double first = w->values[begin], increase = w->values[last] - first;
			while (low < resets.count && resets.at[low] <= begin)
				low++;
			for (size_t k = low; k < resets.count && resets.at[k] <= last; k++)
				increase += w->values[resets.at[k] - 1];
			ret->values[step] = rate_of(w, step, &times[step], first, increase,
						    kind.counter, seconds);
			present |= 1ULL << (step % 64);
		}
		ret->present[word] = present;
	}
	return OK;
}

errc promql_kernel_rate(struct promql_eval_scope *scope, const struct promql_windows *w,
			struct promql_column *ret, struct err *e)
{
	return extrapolated(scope, w, (struct rate_kind){ true, true }, ret, e);
}

errc promql_kernel_increase(struct promql_eval_scope *scope, const struct promql_windows *w,
			    struct promql_column *ret, struct err *e)
{
	return extrapolated(scope, w, (struct rate_kind){ true, false }, ret, e);
}

errc promql_kernel_delta(struct promql_eval_scope *scope, const struct promql_windows *w,
			 struct promql_column *ret, struct err *e)
{
	return extrapolated(scope, w, (struct rate_kind){ false, false }, ret, e);
}

/* ---- irate(), idelta(). */

static errc of_last_two(const struct promql_windows *w, bool rate, struct promql_column *ret)
{
	for (size_t step = 0; step < w->step_count; step++) {
		size_t begin = w->begins[step], end = w->ends[step];
		if (end < begin + 2)
			continue;
		double value = w->values[end - 1], before = w->values[end - 2];
		double seconds = (double)(w->times[end - 1] - w->times[end - 2]) / 1000;
		if (!rate || !(value < before))
			value -= before;
		promql_set(ret, step, rate ? value / seconds : value);
	}
	return OK;
}

errc promql_kernel_irate(struct promql_eval_scope *scope, const struct promql_windows *w,
			 struct promql_column *ret, struct err *e)
{
	(void)scope, (void)e;
	return of_last_two(w, true, ret);
}

errc promql_kernel_idelta(struct promql_eval_scope *scope, const struct promql_windows *w,
			  struct promql_column *ret, struct err *e)
{
	(void)scope, (void)e;
	return of_last_two(w, false, ret);
}

/* ---- changes(), resets(): pairs of neighbours are counted as they enter and leave the window. */

static bool is_change(double a, double b)
{
	return a != b && !(isnan(a) && isnan(b));
}

static bool is_reset(double a, double b)
{
	return b < a;
}

static inline __attribute__((always_inline)) errc count_pairs(const struct promql_windows *w,
							      bool (*counts)(double, double),
							      struct promql_column *ret)
{
	const double *v = w->values;
	size_t low = 0, high = 0, count = 0; /* of the pairs that end at (low, high] */
	for (size_t step = 0; step < w->step_count; step++) {
		size_t begin = w->begins[step], end = w->ends[step];
		if (end <= begin)
			continue;
		if (begin >= high) {
			low = high = begin;
			count = 0;
		}
		for (; low < begin; low++)
			count -= counts(v[low], v[low + 1]);
		for (; high + 1 < end; high++)
			count += counts(v[high], v[high + 1]);
		promql_set(ret, step, (double)count);
	}
	return OK;
}

errc promql_kernel_changes(struct promql_eval_scope *scope, const struct promql_windows *w,
			   struct promql_column *ret, struct err *e)
{
	(void)scope, (void)e;
	return count_pairs(w, is_change, ret);
}

errc promql_kernel_resets(struct promql_eval_scope *scope, const struct promql_windows *w,
			  struct promql_column *ret, struct err *e)
{
	(void)scope, (void)e;
	return count_pairs(w, is_reset, ret);
}
