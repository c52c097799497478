/* label_replace(), label_join(), and the orders by value and by label. */
#include <math.h>
#include <stdlib.h>

#include "base/checks.h"
#include "codec/text.h"
#include "query/promql/promql_eval_core.h"
#include "query/promql/promql_functions_internal.h"

enum { LABEL_TEXT_BYTES_MAX = 1 << 20 };

static bool is_label_name(str name)
{
	return name.len > 0 && text_is_utf8(name);
}

static void set_label(struct promql_eval_call *call, struct promql_table *t, size_t i, str name,
		      const struct buf *value)
{
	struct arena *arena = promql_labels_arena(call->run);
	t->labels[i] = promql_labels_with(arena, &t->labels[i], name,
					  arena_str(arena, buf_str(value)));
	if (str_eq(name, STR(LABEL_METRIC_NAME)))
		t->drop_name[i] = false;
}

/* Even series that are never there at one step may not become one. */
static errc must_differ(struct promql_table *t, struct err *e)
{
	TRY(promql_charge_labels(t->run, e));
	return promql_table_join(t, true, "vector cannot contain metrics with the same labelset",
				 e);
}

static errc replace_all(struct promql_eval_call *call, struct promql_table *t,
			const struct matcher *m, struct buf *text, struct err *e)
{
	str name = call->strings[1], template = call->strings[2], source = call->strings[3];
	for (size_t i = 0; i < t->count; i++) {
		bool matches;
		buf_clear(text);
		TRY(matcher_expand(m, labels_get(&t->labels[i], source), template, text, &matches,
				   e));
		TRY(buf_check(text, "a label made by label_replace()", e));
		if (matches)
			set_label(call, t, i, name, text);
		if (i % 1024 == 1023)
			TRY(promql_check(call->run, e));
	}
	return must_differ(t, e);
}

errc promql_body_label_replace(struct promql_eval_call *call, struct promql_value *args,
			       struct promql_value *ret, struct err *e)
{
	struct matcher m = { .type = MATCH_REGEXP, .value = call->strings[4] };
	struct buf text = buf_init(LABEL_TEXT_BYTES_MAX);
	if (matcher_compile(&m, NULL) != OK)
		FAIL(e, ERR_FAILED, "invalid regular expression in label_replace(): %.*s",
		     STR_ARG(call->strings[4]));
	errc rc;
	if (is_label_name(call->strings[1]))
		rc = replace_all(call, args[0].table, &m, &text, e);
	else
		rc = err_fill(e, ERR_FAILED, 0, __FILE__, __LINE__,
			      "invalid destination label name in label_replace(): %.*s",
			      STR_ARG(call->strings[1]));
	matcher_done(&m);
	buf_done(&text);
	TRY(rc);
	*ret = args[0];
	args[0].table = NULL;
	return OK;
}

static errc join_all(struct promql_eval_call *call, struct promql_table *t, struct buf *text,
		     struct err *e)
{
	for (size_t i = 0; i < t->count; i++) {
		buf_clear(text);
		for (size_t k = 3; k < call->arg_count; k++) {
			if (k > 3)
				buf_add(text, call->strings[2]);
			buf_add(text, labels_get(&t->labels[i], call->strings[k]));
		}
		TRY(buf_check(text, "a label made by label_join()", e));
		set_label(call, t, i, call->strings[1], text);
	}
	return must_differ(t, e);
}

errc promql_body_label_join(struct promql_eval_call *call, struct promql_value *args,
			    struct promql_value *ret, struct err *e)
{
	struct buf text = buf_init(LABEL_TEXT_BYTES_MAX);
	for (size_t k = 3; k < call->arg_count; k++)
		if (!is_label_name(call->strings[k]))
			FAIL(e, ERR_FAILED, "invalid source label name in label_join(): %.*s",
			     STR_ARG(call->strings[k]));
	if (!is_label_name(call->strings[1]))
		FAIL(e, ERR_FAILED, "invalid destination label name in label_join(): %.*s",
		     STR_ARG(call->strings[1]));
	errc rc = join_all(call, args[0].table, &text, e);
	buf_done(&text);
	TRY(rc);
	*ret = args[0];
	args[0].table = NULL;
	return OK;
}

/* ---- Orders: they show in an instant query only. */

struct order {
	const struct promql_table *table;
	struct promql_eval_call *call;
	bool descending;
	int (*compare)(const struct order *o, size_t a, size_t b);
};

static int compare_rows(const void *a, const void *b, void *order)
{
	const struct order *o = order;
	return o->compare(o, *(const uint32_t *)a, *(const uint32_t *)b);
}

/* A table with the rows of T in the order; takes T. */
static errc put_in_order(const struct order *o, struct promql_table *t, struct promql_value *ret,
			 struct err *e)
{
	uint32_t *rows;
	struct promql_table *sorted;
	TRY(promql_alloc(t->run, t->count + 1, sizeof(*rows), (void **)&rows, e));
	for (uint32_t i = 0; i < t->count; i++)
		rows[i] = i;
	qsort_r(rows, t->count, sizeof(*rows), compare_rows, (void *)(uintptr_t)o);
	TRY(promql_table_new(t->run, &t->grid, t->count, &sorted, e));
	for (size_t k = 0; k < t->count; k++) {
		size_t i = rows[k], to = promql_table_add(sorted, t->labels[i], t->drop_name[i]);
		struct promql_column from = promql_table_column(t, i);
		struct promql_column into = promql_table_column(sorted, to);
		if (promql_has(&from, 0) && promql_histogram(&from, 0))
			TRY(promql_table_set_histogram(sorted, 0, to, 0, promql_histogram(&from, 0),
						       e));
		else if (promql_has(&from, 0))
			promql_set(&into, 0, from.values[0]);
	}
	sorted->ordered = true;
	promql_free(t->run, rows);
	promql_table_free(t);
	ret->table = sorted;
	return OK;
}

static errc ordered(struct promql_eval_call *call, struct order *o, struct promql_value *args,
		    struct promql_value *ret, struct err *e)
{
	struct promql_table *t = args[0].table;
	*ret = args[0];
	args[0].table = NULL;
	o->call = call;
	o->table = t;
	bool instant = !promql_run_query(call->run)->step_ms && t->grid.count == 1;
	return instant ? put_in_order(o, t, ret, e) : OK;
}

static int by_value(const struct order *o, size_t a, size_t b)
{
	/* NaNs come last in both directions, and then what has no value */
	struct promql_column ca = promql_table_column(o->table, a);
	struct promql_column cb = promql_table_column(o->table, b);
	double x = promql_has(&ca, 0) ? ca.values[0] : (double)NAN;
	double y = promql_has(&cb, 0) ? cb.values[0] : (double)NAN;
	if (isnan(x) || isnan(y) || x == y) {
		int order = isnan(x) - isnan(y);
		return order ? order : labels_cmp(&o->table->labels[a], &o->table->labels[b]);
	}
	return (x < y) == o->descending ? 1 : -1;
}

static void clear_histograms(struct promql_table *t)
{
	for (size_t i = 0; i < t->count; i++) {
		struct promql_column c = promql_table_column(t, i);
		for (size_t step = 0; c.histograms && step < t->grid.count; step++)
			if (c.histograms[step])
				promql_clear(&c, step);
	}
}

errc promql_body_sort(struct promql_eval_call *call, struct promql_value *args,
		      struct promql_value *ret, struct err *e)
{
	struct order o = { .compare = by_value };
	clear_histograms(args[0].table);
	return ordered(call, &o, args, ret, e);
}

errc promql_body_sort_desc(struct promql_eval_call *call, struct promql_value *args,
			   struct promql_value *ret, struct err *e)
{
	struct order o = { .compare = by_value, .descending = true };
	clear_histograms(args[0].table);
	return ordered(call, &o, args, ret, e);
}

/* The next run of digits, or of anything else. */
static str chunk(str s, bool *ret_number)
{
	size_t len = 0;
	*ret_number = s.len && s.ptr[0] >= '0' && s.ptr[0] <= '9';
	while (len < s.len && (s.ptr[len] >= '0' && s.ptr[len] <= '9') == *ret_number)
		len++;
	return (str){ s.ptr, len };
}

/* As people count: x2 before x10. */
static int natural(str a, str b)
{
	while (a.len && b.len) {
		bool a_number, b_number;
		int64_t x, y;
		str ca = chunk(a, &a_number), cb = chunk(b, &b_number);
		a = (str){ a.ptr + ca.len, a.len - ca.len };
		b = (str){ b.ptr + cb.len, b.len - cb.len };
		if (a_number && b_number && str_to_i64(ca, &x) && str_to_i64(cb, &y)) {
			if (x != y)
				return x < y ? -1 : 1;
			continue;
		}
		int order = str_cmp(ca, cb);
		if (order)
			return order;
	}
	return (a.len > 0) - (b.len > 0);
}

static int by_labels(const struct order *o, size_t a, size_t b)
{
	const struct labels *la = &o->table->labels[a], *lb = &o->table->labels[b];
	int order = 0;
	for (size_t k = 1; k < o->call->arg_count && !order; k++) {
		str name = o->call->strings[k];
		str va = labels_get(la, name), vb = labels_get(lb, name);
		if (str_eq(va, vb))
			continue;
		order = natural(va, vb);
		/* x01 and x1 count the same */
		if (!order)
			order = str_cmp(va, vb);
	}
	if (!order)
		order = labels_cmp(la, lb);
	return o->descending ? -order : order;
}

errc promql_body_sort_by_label(struct promql_eval_call *call, struct promql_value *args,
			       struct promql_value *ret, struct err *e)
{
	struct order o = { .compare = by_labels };
	return ordered(call, &o, args, ret, e);
}

errc promql_body_sort_by_label_desc(struct promql_eval_call *call, struct promql_value *args,
				    struct promql_value *ret, struct err *e)
{
	struct order o = { .compare = by_labels, .descending = true };
	return ordered(call, &o, args, ret, e);
}
