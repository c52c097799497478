/* Aggregations that need all values of a group at once: quantile, count_values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/number.h"
#include "codec/text.h"
#include "query/promql/histogram_math.h"
#include "query/promql/promql_eval_aggregate.h"

/* ---- quantile */

struct quantiles {
	struct aggregation *a;
	struct promql_table *from, *into;
	double **values; /* of each worker */
};

/* NaN sorts before everything. */
static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	if (isnan(x) || isnan(y))
		return isnan(y) - isnan(x);
	return (x > y) - (x < y);
}

static double quantile_of(double q, double *values, size_t count)
{
	if (isnan(q))
		return (double)NAN;
	if (q < 0)
		return -HUGE_VAL;
	if (q > 1)
		return HUGE_VAL;
	qsort(values, count, sizeof(values[0]), ascending);
	double n = (double)count, rank = q * (n - 1);
	size_t lower = (size_t)fmax(0, floor(rank)),
	       upper = lower + 1 < count ? lower + 1 : count - 1;
	double weight = rank - floor(rank);
	return values[lower] * (1 - weight) + values[upper] * weight;
}

static errc quantile_groups(void *ctx, unsigned worker, size_t begin, size_t end, struct err *e)
{
	struct quantiles *s = ctx;
	const struct aggregation *a = s->a;
	bool ignored = false;
	for (size_t g = begin; g < end; g++) {
		struct promql_column into = promql_table_column(s->into, g);
		TRY(promql_check(a->run, e));
		for (size_t step = 0; step < a->grid.count; step++) {
			size_t n = 0;
			for (uint32_t i = a->first[g]; i < a->first[g + 1]; i++) {
				struct promql_column c = promql_table_column(s->from,
									     a->members[i]);
				if (!promql_has(&c, step))
					continue;
				if (promql_histogram(&c, step))
					ignored = true;
				else
					s->values[worker][n++] = c.values[step];
			}
			if (n)
				promql_set(&into, step,
					   quantile_of(a->param[step], s->values[worker], n));
		}
	}
	if (ignored)
		aggregate_note_histogram(a);
	return OK;
}

static void note_quantiles(const struct aggregation *a)
{
	for (size_t step = 0; step < a->grid.count; step++) {
		double q = a->param[step];
		char text[NUMBER_TEXT_SIZE];
		if (q >= 0 && q <= 1)
			continue;
		number_format(q, text);
		promql_annotate(a->run, PROMQL_WARNING, a->expr->aggregate.param->start,
				"quantile value should be between 0 and 1, got %s", text);
	}
}

errc aggregate_quantile(struct aggregation *a, struct promql_table **ret, struct err *e)
{
	struct quantiles s = { .a = a };
	struct promql_run *run = a->run;
	if (a->source->count)
		note_quantiles(a);
	TRY(promql_table_of(a->source, &s.from, e));
	a->source = NULL;
	TRY(promql_table_new(run, &a->grid, a->group_count, &s.into, e));
	for (size_t g = 0; g < a->group_count; g++)
		promql_table_add(s.into, a->labels[g], false);
	TRY(promql_alloc(run, run->worker_count, sizeof(s.values[0]), (void **)&s.values, e));
	for (unsigned i = 0; i < run->worker_count; i++)
		TRY(promql_alloc(run, s.from->count + 1, sizeof(double), (void **)&s.values[i], e));
	TRY(promql_parallel(run, a->group_count, 1, quantile_groups, &s, e));
	for (unsigned i = 0; i < run->worker_count; i++)
		promql_free(run, s.values[i]);
	promql_free(run, s.values);
	promql_table_free(s.from);
	*ret = s.into;
	return OK;
}

/* ---- count_values */

/* As strconv.FormatFloat(v, 'f', -1, 64): the fewest digits, never an exponent. */
static void print_plain(double v, struct buf *into)
{
	char text[NUMBER_TEXT_SIZE];
	size_t len = number_format(v, text);
	const char *e = memchr(text, 'e', len);
	if (!e) {
		buf_add(into, (str){ text, len });
		return;
	}
	int exponent = (int)strtol(e + 1, NULL, 10);
	char digits[NUMBER_TEXT_SIZE];
	size_t n = 0, point = 0;
	for (const char *c = text; c < e; c++) {
		if (*c == '-')
			buf_add_byte(into, '-');
		else if (*c == '.')
			point = n;
		else
			digits[n++] = *c;
	}
	int place = (int)(point ? point : n) + exponent; /* of the decimal point in the digits */
	if (place <= 0) {
		buf_add_c(into, "0.");
		for (; place < 0; place++)
			buf_add_byte(into, '0');
		buf_add(into, (str){ digits, n });
		return;
	}
	for (size_t i = 0; i < n || (int)i < place; i++) {
		if ((int)i == place)
			buf_add_byte(into, '.');
		buf_add_byte(into, i < n ? digits[i] : '0');
	}
}

static void add_number(struct buf *into, double v)
{
	char text[NUMBER_TEXT_SIZE];
	buf_add(into, (str){ text, number_format(v, text) });
}

static void print_histogram(const struct histogram *h, struct buf *into)
{
	struct histogram_iterator it;
	struct histogram_bucket b;
	buf_add_c(into, "{count:");
	add_number(into, h->count);
	buf_add_c(into, ", sum:");
	add_number(into, h->sum);
	histogram_iterator_init(&it, h, false);
	while (histogram_iterator_next(&it, &b)) {
		if (b.count == 0)
			continue;
		buf_add_c(into, b.lower_inclusive ? ", [" : ", (");
		add_number(into, b.lower);
		buf_add_byte(into, ',');
		add_number(into, b.upper);
		buf_add_c(into, b.upper_inclusive ? "]:" : "):");
		add_number(into, b.count);
	}
	buf_add_byte(into, '}');
}

/* A histogram as Prometheus prints one: {count:3, sum:5, [0.5,1):2, …}. */
static void print_sample(const struct promql_column *c, size_t step, struct buf *into)
{
	const struct histogram *h = promql_histogram(c, step);
	if (h)
		print_histogram(h, into);
	else
		print_plain(c->values[step], into);
}

struct counting {
	struct aggregation *a;
	struct promql_index *index;
};

/* The table has room for as many series as there are distinct values; they are found first. */
static errc number_values(struct counting *k, struct promql_table *from, uint32_t *numbers,
			  struct labels **ret_labels, size_t *ret_count, struct err *e)
{
	struct aggregation *a = k->a;
	struct arena *arena = &a->run->labels;
	struct buf text CLEANUP(buf_done) = buf_init(256 * 1024);
	struct labels *labels = NULL;
	size_t count = 0, room = 0;
	for (size_t i = 0; i < from->count; i++) {
		struct promql_column c = promql_table_column(from, i);
		TRY(promql_check(a->run, e));
		for (size_t step = 0; step < a->grid.count; step++) {
			uint32_t *number = &numbers[i * a->grid.count + step];
			if (!promql_has(&c, step))
				continue;
			buf_clear(&text);
			print_sample(&c, step, &text);
			struct labels with = promql_labels_with(arena, &a->labels[a->group_of[i]],
								a->label, buf_str(&text));
			TRY(promql_index_put(k->index, NULL, &with, number, e));
			if (*number < count)
				continue;
			if (count == room) {
				room = room ? room * 2 : 64;
				labels = must_realloc(labels, room * sizeof(labels[0]));
			}
			labels[count++] = labels_copy(arena, &with);
		}
	}
	*ret_labels = labels;
	*ret_count = count;
	return arena_check(arena, "the labels of the query", e);
}

errc aggregate_count_values(struct aggregation *a, struct promql_table **ret, struct err *e)
{
	struct counting k = { .a = a };
	struct promql_table *from, *into;
	struct labels *labels = NULL;
	uint32_t *numbers;
	size_t count = 0;
	if (!a->label.len || !text_is_utf8(a->label))
		FAIL(e, ERR_FAILED, "invalid label name \"%.*s\"", STR_ARG(a->label));
	TRY(promql_table_of(a->source, &from, e));
	a->source = NULL;
	TRY(promql_alloc(a->run, from->count * a->grid.count + 1, sizeof(*numbers),
			 (void **)&numbers, e));
	TRY(promql_index_new(a->run, 64, &k.index, e));
	errc rc = number_values(&k, from, numbers, &labels, &count, e);
	if (rc == OK)
		rc = promql_table_new(a->run, &a->grid, count, &into, e);
	for (size_t i = 0; i < count && rc == OK; i++)
		promql_table_add(into, labels[i], false);
	free(labels);
	promql_index_free(k.index);
	TRY(rc);
	for (size_t i = 0; i < from->count; i++) {
		struct promql_column c = promql_table_column(from, i);
		for (size_t step = 0; step < a->grid.count; step++) {
			if (!promql_has(&c, step))
				continue;
			struct promql_column row =
				promql_table_column(into, numbers[i * a->grid.count + step]);
			double before = promql_has(&row, step) ? row.values[step] : 0;
			promql_set(&row, step, before + 1);
		}
	}
	promql_free(a->run, numbers);
	promql_table_free(from);
	*ret = into;
	return OK;
}
