/* When results count as equal, and how they are shown. */
#include <math.h>
#include <string.h>

#include "codec/number.h"
#include "promqltest.h"
#include "query/promql/histogram_math.h"

static const double epsilon = 1e-6;

bool test_values_equal(double a, double b)
{
	if (metrics_is_stale(a) || metrics_is_stale(b))
		return metrics_is_stale(a) && metrics_is_stale(b);
	if (isnan(a) && isnan(b))
		return true;
	if (a == b)
		return true;
	double sum = fabs(a) + fabs(b), difference = fabs(a - b);
	if (a == 0 || b == 0 || sum < 2.2250738585072014e-308)
		return difference < epsilon * 2.2250738585072014e-308;
	return difference / (sum < 1.7976931348623157e308 ? sum : 1.7976931348623157e308) < epsilon;
}

/* The next bucket that holds something. */
static bool next_bucket(struct histogram_iterator *it, struct histogram_bucket *b)
{
	while (histogram_iterator_next(it, b))
		if (b->count != 0)
			return true;
	return false;
}

bool test_histograms_equal(const struct histogram *a, const struct histogram *b)
{
	struct histogram_iterator x, y;
	struct histogram_bucket p, q;
	if (!a || !b)
		return a == b;
	if (a->schema != b->schema || !test_values_equal(a->count, b->count) ||
	    !test_values_equal(a->sum, b->sum) ||
	    !test_values_equal(a->zero_count, b->zero_count) ||
	    !test_values_equal(a->zero_threshold, b->zero_threshold) ||
	    a->custom_bound_count != b->custom_bound_count)
		return false;
	for (uint32_t i = 0; i < a->custom_bound_count; i++)
		if (a->custom_bounds[i] != b->custom_bounds[i])
			return false;
	histogram_iterator_init(&x, a, false);
	histogram_iterator_init(&y, b, false);
	for (;;) {
		bool more = next_bucket(&x, &p), other = next_bucket(&y, &q);
		if (more != other)
			return false;
		if (!more)
			return true;
		if (p.index != q.index || !test_values_equal(p.count, q.count))
			return false;
	}
}

void test_point_print(struct buf *into, const struct test_point *p)
{
	char text[NUMBER_TEXT_SIZE];
	if (!p->present) {
		buf_add_c(into, "_");
		return;
	}
	if (!p->histogram) {
		number_format(p->value, text);
		buf_add_c(into, metrics_is_stale(p->value) ? "stale" : text);
		return;
	}
	const struct histogram *h = p->histogram;
	buf_printf(into, "{{schema:%d count:%g sum:%g z_bucket:%g z_bucket_w:%g buckets:[",
		   h->schema, h->count, h->sum, h->zero_count, h->zero_threshold);
	struct histogram_iterator it;
	struct histogram_bucket b;
	histogram_iterator_init(&it, h, false);
	while (next_bucket(&it, &b))
		buf_printf(into, " %g..%g:%g", b.lower, b.upper, b.count);
	buf_add_c(into, " ]}}");
}
