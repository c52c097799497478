/* Samples into the engine. */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/number.h"
#include "promqltest.h"

static errc put_series(struct metrics_batch *b, int64_t step_ms, const struct test_series *s,
		       struct err *e)
{
	metrics_ref ref;
	TRY(metrics_batch_series(b, &s->labels, &ref, e));
	for (size_t i = 0; i < s->count; i++) {
		time_ms time = (time_ms)i * step_ms;
		if (!s->points[i].present)
			continue;
		if (s->points[i].histogram)
			metrics_batch_histogram(b, ref, time, s->points[i].histogram);
		else
			metrics_batch_sample(b, ref, time, s->points[i].value);
	}
	return OK;
}

/* ---- Classic histograms as native ones with custom boundaries. */

struct classic {
	struct labels labels; /* without le, and with the base name */
	struct {
		double bound;
		const struct test_series *series;
	} buckets[256];
	size_t bucket_count;
	const struct test_series *count, *sum;
};

static str without_suffix(str name, const char *suffix)
{
	str end = str_c(suffix);
	return str_ends(name, end) && name.len > end.len ? (str){ name.ptr, name.len - end.len }
							 : STR("");
}

static struct labels base_labels(struct arena *arena, const struct labels *l, str name)
{
	struct label *items = arena_array(arena, l->count + 1, sizeof(items[0]));
	size_t n = 0;
	must(items);
	for (size_t i = 0; i < l->count; i++) {
		if (str_eq_c(l->items[i].name, "le"))
			continue;
		items[n] = l->items[i];
		if (str_eq_c(items[n].name, LABEL_METRIC_NAME))
			items[n].value = name;
		n++;
	}
	return (struct labels){ items, n };
}

static int by_bound(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double value_at(const struct test_series *s, size_t i, double otherwise)
{
	return s && i < s->count && s->points[i].present && !s->points[i].histogram
		       ? s->points[i].value
		       : otherwise;
}

static errc put_classic(struct metrics_batch *b, int64_t step_ms, struct classic *c,
			struct arena *arena, struct err *e)
{
	metrics_ref ref;
	size_t points = 0, n = c->bucket_count;
	qsort(c->buckets, n, sizeof(c->buckets[0]), by_bound);
	for (size_t i = 0; i < n; i++)
		if (c->buckets[i].series->count > points)
			points = c->buckets[i].series->count;
	TRY(metrics_batch_series(b, &c->labels, &ref, e));
	for (size_t i = 0; i < points; i++) {
		double *bounds = arena_array(arena, n + 1, sizeof(double)),
		       *counts = arena_array(arena, n + 1, sizeof(double)), before = 0;
		size_t finite = 0;
		must(bounds && counts);
		if (!c->buckets[n - 1]
			     .series->points[i < c->buckets[n - 1].series->count ? i : 0]
			     .present)
			continue;
		for (size_t k = 0; k < n; k++) {
			double at = value_at(c->buckets[k].series, i, before);
			counts[k] = at - before;
			before = at;
			if (!__builtin_isinf(c->buckets[k].bound))
				bounds[finite++] = c->buckets[k].bound;
		}
		struct histogram_span span = { 0, (uint32_t)n };
		struct histogram h = {
			.schema = HISTOGRAM_SCHEMA_CUSTOM,
			.count = value_at(c->count, i, before),
			.sum = value_at(c->sum, i, 0),
			.positive = { &span, counts, 1, (uint32_t)n },
			.custom_bounds = bounds,
			.custom_bound_count = (uint32_t)finite,
		};
		metrics_batch_histogram(b, ref, (time_ms)i * step_ms, &h);
	}
	return OK;
}

static errc put_all_classic(struct metrics_batch *b, int64_t step_ms,
			    const struct test_series *series, size_t count, struct err *e)
{
	struct arena arena CLEANUP(arena_done) = arena_init(512 << 20);
	struct classic *all = must_calloc(count + 1, sizeof(all[0]));
	size_t n = 0;
	for (size_t i = 0; i < count; i++) {
		static const char *const suffixes[] = { "_bucket", "_count", "_sum" };
		str name = labels_get(&series[i].labels, STR(LABEL_METRIC_NAME)), base = STR("");
		size_t kind = 0;
		while (kind < 3 && !(base = without_suffix(name, suffixes[kind])).len)
			kind++;
		if (kind == 3)
			continue;
		struct labels labels = base_labels(&arena, &series[i].labels, base);
		size_t at = 0;
		while (at < n && !labels_eq(&all[at].labels, &labels))
			at++;
		if (at == n)
			all[n++].labels = labels;
		struct classic *c = &all[at];
		double bound;
		if (kind == 1)
			c->count = &series[i];
		else if (kind == 2)
			c->sum = &series[i];
		else if (number_parse(labels_get(&series[i].labels, STR("le")), &bound) &&
			 c->bucket_count < ARRAY_COUNT(c->buckets)) {
			c->buckets[c->bucket_count].bound = bound;
			c->buckets[c->bucket_count++].series = &series[i];
		}
	}
	errc rc = OK;
	for (size_t i = 0; i < n && rc == OK; i++)
		if (all[i].bucket_count)
			rc = put_classic(b, step_ms, &all[i], &arena, e);
	free(all);
	return rc;
}

errc test_load(struct metrics *m, int64_t step_ms, bool nhcb, const struct test_series *series,
	       size_t count, struct err *e)
{
	struct metrics_batch *b = metrics_batch_new(m, STR("test"), 0);
	struct metrics_batch_result result;
	errc rc = OK;
	for (size_t i = 0; i < count && rc == OK; i++)
		rc = put_series(b, step_ms, &series[i], e);
	if (rc == OK && nhcb)
		rc = put_all_classic(b, step_ms, series, count, e);
	if (rc == OK)
		rc = metrics_batch_commit(b, &result, e);
	if (rc == OK && result.refusal[0])
		rc = err_fill(e, ERR_INVALID, 0, __FILE__, __LINE__, "%s", result.refusal);
	metrics_batch_free(b);
	return rc;
}
