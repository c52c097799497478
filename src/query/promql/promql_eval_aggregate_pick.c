/* Aggregations that pass series on: topk, bottomk, limitk, limit_ratio. Columns stream through; of
 * each group and step the best so far are kept. */
#define XXH_STATIC_LINKING_ONLY /* the size of its state */
#include <math.h>
#include <string.h>
#include <xxhash.h>

#include "base/checks.h"
#include "query/promql/promql_eval_aggregate.h"

enum { PICK_SLICES = 4 };

struct pick {
	double value;
	uint32_t series;
};

/* A heap with the worst at its root. */
struct heap {
	struct pick *items;
	uint32_t count;
};

struct picking {
	struct aggregation *a;
	size_t slice_count;
	uint32_t *k; /* of each step */
	uint32_t k_max;
	struct heap *heaps; /* slice, group, step */
	struct pick *items;
};

/* NaN is worse than anything. */
static bool is_worse(enum promql_aggregation op, double x, double y)
{
	if (isnan(x))
		return !isnan(y);
	if (isnan(y))
		return false;
	return op == PROMQL_TOPK ? x < y : x > y;
}

static bool comes_first(enum promql_aggregation op, const struct pick *x, const struct pick *y)
{
	/* the worst, and of equal ones the later */
	if (is_worse(op, x->value, y->value))
		return true;
	return !is_worse(op, y->value, x->value) && x->series > y->series;
}

static void sift_up(enum promql_aggregation op, struct heap *h)
{
	for (uint32_t at = h->count - 1; at; at = (at - 1) / 2) {
		struct pick *child = &h->items[at], *parent = &h->items[(at - 1) / 2];
		if (!comes_first(op, child, parent))
			return;
		struct pick swap = *child;
		*child = *parent;
		*parent = swap;
	}
}

static void sift_down(enum promql_aggregation op, struct heap *h)
{
	for (uint32_t at = 0;;) {
		uint32_t first = at;
		for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < h->count; child++)
			if (comes_first(op, &h->items[child], &h->items[first]))
				first = child;
		if (first == at)
			return;
		struct pick swap = h->items[at];
		h->items[at] = h->items[first];
		h->items[first] = swap;
		at = first;
	}
}

static void offer(enum promql_aggregation op, struct heap *h, uint32_t k, double value,
		  uint32_t series)
{
	if (h->count < k) {
		h->items[h->count++] = (struct pick){ value, series };
		sift_up(op, h);
	} else if (k && is_worse(op, h->items[0].value, value)) {
		h->items[0] = (struct pick){ value, series };
		sift_down(op, h);
	}
}

static errc offer_column(struct picking *p, unsigned worker, struct heap *heaps, uint32_t series,
			 struct err *e)
{
	struct aggregation *a = p->a;
	struct promql_column c;
	bool ignored = false;
	TRY(a->source->column(a->source, worker, series, &c, e));
	for (size_t step = 0; step < a->grid.count; step++) {
		if (!promql_has(&c, step))
			continue;
		if (promql_histogram(&c, step))
			ignored = true;
		else
			offer(a->op, &heaps[step], p->k[step], c.values[step], series);
	}
	if (ignored)
		aggregate_note_histogram(a);
	promql_scratch_clear(a->run, worker);
	return OK;
}

static errc pick_groups(void *ctx, unsigned worker, size_t begin, size_t end, struct err *e)
{
	struct picking *p = ctx;
	const struct aggregation *a = p->a;
	for (size_t g = begin; g < end; g++)
		for (uint32_t i = a->first[g]; i < a->first[g + 1]; i++)
			TRY(offer_column(p, worker, p->heaps + g * a->grid.count, a->members[i],
					 e));
	return OK;
}

static errc pick_slices(void *ctx, unsigned worker, size_t begin, size_t end, struct err *e)
{
	struct picking *p = ctx;
	const struct aggregation *a = p->a;
	for (size_t slice = begin; slice < end; slice++) {
		size_t from = a->source->count * slice / p->slice_count,
		       to = a->source->count * (slice + 1) / p->slice_count;
		struct heap *heaps = p->heaps + slice * a->group_count * a->grid.count;
		for (size_t i = from; i < to; i++)
			TRY(offer_column(p, worker, heaps + a->group_of[i] * a->grid.count,
					 (uint32_t)i, e));
	}
	return OK;
}

/* K of each step; what cannot be one is an error, as in Prometheus. */
static errc read_k(struct picking *p, struct err *e)
{
	const struct aggregation *a = p->a;
	size_t largest = 0;
	for (size_t g = 0; g < a->group_count; g++) {
		size_t n = a->first[g + 1] - a->first[g];
		largest = n > largest ? n : largest;
	}
	TRY(promql_alloc(a->run, a->grid.count, sizeof(p->k[0]), (void **)&p->k, e));
	for (size_t step = 0; step < a->grid.count; step++) {
		double k = a->param[step];
		if (isnan(k))
			FAIL(e, ERR_FAILED, "Parameter value is NaN");
		if (k >= 9223372036854775807.0)
			FAIL(e, ERR_FAILED, "Scalar value %g overflows int64", k);
		if (k <= -9223372036854775808.0)
			FAIL(e, ERR_FAILED, "Scalar value %g underflows int64", k);
		p->k[step] = k < 1 ? 0 : k > (double)largest ? (uint32_t)largest : (uint32_t)k;
		p->k_max = p->k[step] > p->k_max ? p->k[step] : p->k_max;
	}
	return OK;
}

static errc make_heaps(struct picking *p, struct err *e)
{
	const struct aggregation *a = p->a;
	size_t count = p->slice_count * a->group_count * a->grid.count;
	TRY(promql_alloc(a->run, count + 1, sizeof(p->heaps[0]), (void **)&p->heaps, e));
	TRY(promql_alloc(a->run, count * p->k_max + 1, sizeof(p->items[0]), (void **)&p->items, e));
	for (size_t i = 0; i < count; i++)
		p->heaps[i].items = p->items + i * p->k_max;
	return OK;
}

static void join_slices(struct picking *p)
{
	const struct aggregation *a = p->a;
	size_t cells = a->group_count * a->grid.count;
	for (size_t slice = 1; slice < p->slice_count; slice++)
		for (size_t i = 0; i < cells; i++) {
			const struct heap *from = &p->heaps[slice * cells + i];
			for (uint32_t n = 0; n < from->count; n++)
				offer(a->op, &p->heaps[i], p->k[i % a->grid.count],
				      from->items[n].value, from->items[n].series);
		}
}

/* ---- The result: the series that were picked at any step. */

static errc add_rows(struct picking *p, const uint32_t *order, size_t count,
		     struct promql_table **ret, uint32_t *row_of, struct err *e)
{
	const struct aggregation *a = p->a;
	struct promql_table *t;
	TRY(promql_table_new(a->run, &a->grid, count, &t, e));
	for (size_t i = 0; i < count; i++) {
		uint32_t series = order[i];
		bool drop = a->source->drop_name && a->source->drop_name[series];
		row_of[series] = (uint32_t)promql_table_add(t, a->source->labels[series], drop);
	}
	*ret = t;
	return OK;
}

/* Of one step, best first, group by group: an instant query shows them so. */
static size_t order_of_instant(struct picking *p, uint32_t *order)
{
	const struct aggregation *a = p->a;
	size_t n = 0;
	for (size_t g = 0; g < a->group_count; g++) {
		struct heap *h = &p->heaps[g * a->grid.count];
		struct heap left = *h;
		size_t at = n + h->count;
		n = at;
		/* the root is the worst: from the back */
		while (left.count) {
			order[--at] = left.items[0].series;
			struct pick out = left.items[0];
			left.items[0] = left.items[--left.count];
			left.items[left.count] = out;
			sift_down(a->op, &left);
		}
	}
	return n;
}

static size_t order_of_range(struct picking *p, uint8_t *picked, uint32_t *order)
{
	const struct aggregation *a = p->a;
	size_t n = 0;
	for (size_t i = 0; i < a->group_count * a->grid.count; i++)
		for (uint32_t k = 0; k < p->heaps[i].count; k++)
			picked[p->heaps[i].items[k].series] = 1;
	for (size_t i = 0; i < a->source->count; i++)
		if (picked[i])
			order[n++] = (uint32_t)i;
	return n;
}

static errc give(struct picking *p, struct promql_table **ret, struct err *e)
{
	const struct aggregation *a = p->a;
	uint32_t *order, *row_of;
	uint8_t *picked;
	TRY(promql_alloc(a->run, a->source->count + 1, sizeof(*order), (void **)&order, e));
	TRY(promql_alloc(a->run, a->source->count + 1, sizeof(*row_of), (void **)&row_of, e));
	TRY(promql_alloc(a->run, a->source->count + 1, 1, (void **)&picked, e));
	bool instant = a->grid.count == 1;
	size_t count = instant ? order_of_instant(p, order) : order_of_range(p, picked, order);
	TRY(add_rows(p, order, count, ret, row_of, e));
	(*ret)->ordered = instant;
	for (size_t i = 0; i < a->group_count * a->grid.count; i++)
		for (uint32_t k = 0; k < p->heaps[i].count; k++) {
			const struct pick *x = &p->heaps[i].items[k];
			struct promql_column c = promql_table_column(*ret, row_of[x->series]);
			promql_set(&c, i % a->grid.count, x->value);
		}
	promql_free(a->run, order);
	promql_free(a->run, row_of);
	promql_free(a->run, picked);
	return OK;
}

static errc pick_best(struct aggregation *a, struct promql_table **ret, struct err *e)
{
	bool by_groups = aggregate_by_groups(a);
	struct picking p = { .a = a, .slice_count = by_groups ? 1 : PICK_SLICES };
	TRY(read_k(&p, e));
	TRY(make_heaps(&p, e));
	if (by_groups)
		TRY(promql_parallel(a->run, a->group_count, 1, pick_groups, &p, e));
	else
		TRY(promql_parallel(a->run, p.slice_count, 1, pick_slices, &p, e));
	join_slices(&p);
	TRY(give(&p, ret, e));
	promql_free(a->run, p.k);
	promql_free(a->run, p.heaps);
	promql_free(a->run, p.items);
	return OK;
}

/* ---- limitk and limit_ratio keep the columns that they let through. */

/* The hash that Prometheus takes of a series' labels: each text behind its length. */
static uint64_t labels_hash_as_prometheus(const struct labels *l)
{
	XXH64_state_t state;
	XXH64_reset(&state, 0);
	for (size_t i = 0; i < l->count; i++) {
		const str parts[] = { l->items[i].name, l->items[i].value };
		for (size_t k = 0; k < 2; k++) {
			uint8_t head[4] = { 255, (uint8_t)parts[k].len,
					    (uint8_t)(parts[k].len >> 8),
					    (uint8_t)(parts[k].len >> 16) };
			uint8_t one = (uint8_t)parts[k].len;
			if (parts[k].len < 255)
				XXH64_update(&state, &one, 1);
			else
				XXH64_update(&state, head, sizeof(head));
			XXH64_update(&state, parts[k].ptr, parts[k].len);
		}
	}
	return XXH64_digest(&state);
}

static bool in_ratio(double ratio, const struct labels *labels)
{
	double offset = (double)labels_hash_as_prometheus(labels) / 18446744073709551615.0;
	return (ratio >= 0 && offset < ratio) || (ratio < 0 && offset >= 1 + ratio);
}

static errc cap_ratio(const struct aggregation *a, double *ratio, struct err *e)
{
	double capped = *ratio > 1 ? 1 : *ratio < -1 ? -1 : *ratio;
	if (isnan(*ratio))
		FAIL(e, ERR_FAILED, "Ratio value is NaN");
	if (capped != *ratio)
		promql_annotate(a->run, PROMQL_WARNING, a->expr->aggregate.param->start,
				"ratio value should be between -1 and 1, got %g, capping to %g",
				*ratio, capped);
	*ratio = capped;
	return OK;
}

static errc limit(struct aggregation *a, struct promql_table **ret, struct err *e)
{
	struct picking p = { .a = a };
	struct promql_table *t;
	uint32_t *passed; /* of each group at this step */
	double ratio = 0;
	if (a->op == PROMQL_LIMITK)
		TRY(read_k(&p, e));
	TRY(promql_table_of(a->source, &t, e));
	a->source = NULL;
	TRY(promql_alloc(a->run, a->group_count + 1, sizeof(*passed), (void **)&passed, e));
	for (size_t step = 0; step < a->grid.count; step++) {
		if (a->op == PROMQL_LIMIT_RATIO) {
			ratio = a->param[step];
			TRY(cap_ratio(a, &ratio, e));
		}
		memset(passed, 0, a->group_count * sizeof(*passed));
		for (size_t i = 0; i < t->count; i++) {
			struct promql_column c = promql_table_column(t, i);
			if (!promql_has(&c, step))
				continue;
			bool keep = a->op == PROMQL_LIMITK ? passed[a->group_of[i]]++ < p.k[step]
							   : in_ratio(ratio, &t->labels[i]);
			if (!keep)
				promql_clear(&c, step);
		}
	}
	promql_free(a->run, passed);
	promql_free(a->run, p.k);
	*ret = t;
	return OK;
}

errc aggregate_pick(struct aggregation *a, struct promql_table **ret, struct err *e)
{
	return a->op == PROMQL_TOPK || a->op == PROMQL_BOTTOMK ? pick_best(a, ret, e)
							       : limit(a, ret, e);
}
