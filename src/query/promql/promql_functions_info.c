/* info(): series get labels of the info series that have the same `instance` and `job`. */
#include <string.h>

#include "base/checks.h"
#include "query/promql/promql_eval_core.h"
#include "query/promql/promql_functions_internal.h"

enum { INFO_NAMES_MAX = 1000 };

#define NO_ROW UINT32_MAX

struct info_state {
	struct promql_eval_call *call;
	struct promql_table *base, *info; /* values of info are the times of its samples */
	struct matcher *matchers;         /* compiled; the selector's, or the default */
	size_t matcher_count, compiled;
	bool selected;      /* there is a selector */
	bool has_data;      /* it names labels */
	bool empty_will_do; /* all its conditions hold for missing labels */
	bool fixed;         /* by @: one step of info for all of the base */
	str *names;         /* of the info metrics */
	size_t name_count;
	struct promql_index *index; /* of name, instance and job of info series */
	uint32_t *heads, *nexts;    /* the info series of each; NO_ROW ends */
};

static const str name_label = { LABEL_METRIC_NAME, sizeof(LABEL_METRIC_NAME) - 1 };

static bool is_of_name(const struct matcher *m)
{
	return str_eq(m->name, name_label);
}

/* ---- Which info series. */

static errc make_matchers(struct info_state *s, struct err *e)
{
	const struct promql_expr *expr = s->call->expr;
	const struct promql_vector *v = NULL;
	if (expr->call.arg_count > 1)
		v = &promql_unwrap(expr->call.args[1])->vector;
	size_t count = v ? v->matcher_count : 0;
	bool named = false;
	s->selected = v != NULL;
	TRY(promql_alloc(s->call->run, count + 1, sizeof(*s->matchers), (void **)&s->matchers, e));
	for (size_t i = 0; i < count; i++) {
		s->matchers[i] = v->matchers[i];
		named |= is_of_name(&v->matchers[i]);
		s->has_data |= !is_of_name(&v->matchers[i]);
	}
	if (!named)
		s->matchers[count++] = (struct matcher){ .type = MATCH_EQUAL,
							 .name = name_label,
							 .value = STR("target_info") };
	s->matcher_count = count;
	for (; s->compiled < count; s->compiled++)
		TRY(matcher_compile(&s->matchers[s->compiled], e));
	s->empty_will_do = true;
	for (size_t i = 0; i < count; i++)
		if (!is_of_name(&s->matchers[i]) && !matcher_matches_empty(&s->matchers[i]))
			s->empty_will_do = false;
	return OK;
}

/* The first selector of an expression. */
static const struct promql_vector *selector_of(const struct promql_expr *expr)
{
	const struct promql_vector *found = NULL;
	switch (expr->kind) {
	case PROMQL_VECTOR:
		return &expr->vector;
	case PROMQL_MATRIX:
		return &expr->matrix.selector->vector;
	case PROMQL_SUBQUERY:
		return selector_of(expr->subquery.expr);
	case PROMQL_UNARY:
		return selector_of(expr->unary.expr);
	case PROMQL_BINARY:
		found = selector_of(expr->binary.lhs);
		return found ? found : selector_of(expr->binary.rhs);
	case PROMQL_AGGREGATE:
		return selector_of(expr->aggregate.expr);
	case PROMQL_CALL:
		for (size_t i = 0; i < expr->call.arg_count && !found; i++)
			found = selector_of(expr->call.args[i]);
		return found;
	case PROMQL_PAREN:
		return selector_of(expr->paren.expr);
	case PROMQL_NUMBER:
	case PROMQL_STRING:
		return NULL;
	}
	return NULL;
}

/* Info series count at the time that the base does: its offset and @ are theirs too. */
static errc select_info(struct info_state *s, struct err *e)
{
	struct promql_run *run = s->call->run;
	const struct promql_vector *v = selector_of(s->call->expr->call.args[0]);
	struct promql_grid grid = s->base->grid;
	if (v) {
		struct promql_reference r = promql_reference_of(run, &grid, &v->time);
		s->fixed = r.step == 0;
		grid.start = r.first;
		grid.count = s->fixed ? 1 : grid.count;
	}
	return promql_select_table(run, &grid, s->matchers, s->matcher_count, &s->info, e);
}

static errc add_name(struct info_state *s, str name, struct err *e)
{
	for (size_t i = 0; i < s->name_count; i++)
		if (str_eq(s->names[i], name))
			return OK;
	if (s->name_count == INFO_NAMES_MAX)
		FAIL(e, ERR_FAILED,
		     "info() finds more than %d info metrics; select them by name in its second "
		     "argument",
		     INFO_NAMES_MAX);
	s->names[s->name_count++] = name;
	return OK;
}

static errc index_info(struct info_state *s, struct err *e)
{
	static const str names[] = { { LABEL_METRIC_NAME, sizeof(LABEL_METRIC_NAME) - 1 },
				     { "instance", 8 },
				     { "job", 3 } };
	const struct promql_label_choice choice = { .names = names, .count = 3, .keep = true };
	struct promql_run *run = s->call->run;
	size_t count = s->info->count;
	TRY(promql_alloc(run, INFO_NAMES_MAX, sizeof(*s->names), (void **)&s->names, e));
	TRY(promql_alloc(run, count + 1, sizeof(*s->heads), (void **)&s->heads, e));
	TRY(promql_alloc(run, count + 1, sizeof(*s->nexts), (void **)&s->nexts, e));
	TRY(promql_index_new(run, count, &s->index, e));
	memset(s->heads, 0xff, (count + 1) * sizeof(*s->heads));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t number;
		TRY(promql_index_put(s->index, &choice, &s->info->labels[i], &number, e));
		s->nexts[i] = s->heads[number];
		s->heads[number] = i;
		TRY(add_name(s, labels_get(&s->info->labels[i], name_label), e));
	}
	return OK;
}

/* ---- The labels of a base series at one step. */

static errc is_info_itself(const struct info_state *s, str name, bool *ret, struct err *e)
{
	*ret = false;
	for (size_t i = 0; i < s->matcher_count && !*ret; i++) {
		/* the default name counts only where nothing was selected */
		bool written = !s->selected ||
			       i < promql_unwrap(s->call->expr->call.args[1])->vector.matcher_count;
		if (written && is_of_name(&s->matchers[i]))
			TRY(matcher_matches(&s->matchers[i], name, ret, e));
	}
	return OK;
}

/* Of the info series NUMBER the one with the newest sample at STEP, or NO_ROW. */
static errc newest(const struct info_state *s, uint32_t number, size_t step, uint32_t *ret_row,
		   struct err *e)
{
	double best = 0;
	*ret_row = NO_ROW;
	for (uint32_t i = s->heads[number]; i != NO_ROW; i = s->nexts[i]) {
		struct promql_column c = promql_table_column(s->info, i);
		if (!promql_has(&c, step))
			continue;
		if (*ret_row != NO_ROW && c.values[step] == best) {
			str name = labels_get(&s->info->labels[i], name_label);
			FAIL(e, ERR_FAILED, "found duplicate series for info metric %.*s",
			     STR_ARG(name));
		}
		if (*ret_row == NO_ROW || c.values[step] > best) {
			best = c.values[step];
			*ret_row = i;
		}
	}
	return OK;
}

static bool is_wanted(const struct info_state *s, str name)
{
	if (str_eq(name, name_label))
		return false;
	for (size_t i = 0; s->has_data && i < s->matcher_count; i++)
		if (str_eq(s->matchers[i].name, name))
			return true;
	return !s->has_data;
}

static errc add_labels(struct info_state *s, const struct labels *base, const struct labels *info,
		       struct labels *added, struct err *e)
{
	struct arena *arena = promql_labels_arena(s->call->run);
	for (size_t i = 0; i < info->count; i++) {
		const struct label *l = &info->items[i];
		if (!is_wanted(s, l->name))
			continue;
		str before = labels_get(added, l->name);
		if (before.len && !str_eq(before, l->value))
			FAIL(e, ERR_FAILED, "conflicting label: %.*s", STR_ARG(l->name));
		if (before.len || labels_get(base, l->name).len)
			continue;
		*added = promql_labels_with(arena, added, l->name, l->value);
	}
	return OK;
}

/* BASE with the labels of the info series ROWS; false when it is not part of the result. */
static errc enriched(struct info_state *s, const struct labels *base, const uint32_t *rows,
		     struct labels *ret, bool *ret_kept, struct err *e)
{
	struct arena *arena = promql_labels_arena(s->call->run);
	struct labels added = { 0 };
	for (size_t k = 0; k < s->name_count; k++)
		if (rows[k] != NO_ROW)
			TRY(add_labels(s, base, &s->info->labels[rows[k]], &added, e));
	*ret = *base;
	*ret_kept = added.count || s->empty_will_do;
	for (size_t i = 0; i < added.count; i++)
		*ret = promql_labels_with(arena, ret, added.items[i].name, added.items[i].value);
	return arena_check(arena, "the labels of the query", e);
}

/* ---- All steps. */

/* The result as it grows: rows of the base from a step on, under labels. */
struct run_of_steps {
	uint32_t row;
	uint32_t begin, end;
	struct labels labels;
};

struct info_runs {
	struct run_of_steps *items;
	size_t count, room;
};

static errc runs_add(struct info_state *s, struct info_runs *runs, struct run_of_steps item,
		     struct err *e)
{
	if (runs->count == runs->room) {
		struct run_of_steps *more;
		size_t room = runs->room * 2 + 64;
		TRY(promql_alloc(s->call->run, room, sizeof(*more), (void **)&more, e));
		if (runs->count)
			memcpy(more, runs->items, runs->count * sizeof(*more));
		promql_free(s->call->run, runs->items);
		runs->items = more;
		runs->room = room;
	}
	runs->items[runs->count++] = item;
	return OK;
}

static errc signatures(const struct info_state *s, const struct labels *base, uint32_t *numbers)
{
	struct label items[3];
	str instance = labels_get(base, STR("instance")), job = labels_get(base, STR("job"));
	for (size_t k = 0; k < s->name_count; k++) {
		size_t n = 0;
		items[n++] = (struct label){ name_label, s->names[k] };
		if (instance.len)
			items[n++] = (struct label){ STR("instance"), instance };
		if (job.len)
			items[n++] = (struct label){ STR("job"), job };
		struct labels signature = { items, n };
		/* without either nothing is identified */
		numbers[k] = n > 1 ? promql_index_find(s->index, NULL, &signature) : NO_ROW;
	}
	return OK;
}

static errc info_row(struct info_state *s, uint32_t i, struct info_runs *runs, uint32_t *numbers,
		     uint32_t *rows, uint32_t *before, struct err *e)
{
	const struct labels *base = &s->base->labels[i];
	struct promql_column c = promql_table_column(s->base, i);
	uint32_t steps = (uint32_t)s->base->grid.count;
	bool itself, open = false, kept = false;
	struct labels labels = *base;
	TRY(is_info_itself(s, labels_get(base, name_label), &itself, e));
	if (itself)
		return runs_add(s, runs, (struct run_of_steps){ i, 0, steps, *base }, e);
	TRY(signatures(s, base, numbers));
	for (uint32_t step = 0; step < steps; step++) {
		if (!promql_has(&c, step))
			continue;
		for (size_t k = 0; k < s->name_count; k++) {
			rows[k] = NO_ROW;
			if (numbers[k] != NO_ROW)
				TRY(newest(s, numbers[k], s->fixed ? 0 : step, &rows[k], e));
		}
		bool same = open && memcmp(rows, before, s->name_count * sizeof(*rows)) == 0;
		if (!same) {
			TRY(enriched(s, base, rows, &labels, &kept, e));
			memcpy(before, rows, s->name_count * sizeof(*rows));
			if (kept)
				TRY(runs_add(s, runs,
					     (struct run_of_steps){ i, step, step, labels }, e));
		}
		open = true;
		if (kept)
			runs->items[runs->count - 1].end = step + 1;
	}
	return OK;
}

static errc make_result(struct info_state *s, const struct info_runs *runs,
			struct promql_value *ret, struct err *e)
{
	ret->kind = PROMQL_IS_VECTOR;
	TRY(promql_table_new(s->call->run, &s->base->grid, runs->count, &ret->table, e));
	for (size_t k = 0; k < runs->count; k++) {
		const struct run_of_steps *r = &runs->items[k];
		struct promql_column from = promql_table_column(s->base, r->row);
		size_t row = promql_table_add(ret->table, r->labels, s->base->drop_name[r->row]);
		struct promql_column into = promql_table_column(ret->table, row);
		for (size_t step = r->begin; step < r->end; step++) {
			if (!promql_has(&from, step))
				continue;
			const struct histogram *h = promql_histogram(&from, step);
			if (h)
				TRY(promql_table_set_histogram(ret->table, 0, row, step, h, e));
			else
				promql_set(&into, step, from.values[step]);
		}
	}
	return promql_charge_labels(s->call->run, e);
}

static errc info_of_all(struct info_state *s, struct promql_value *ret, struct err *e)
{
	struct info_runs runs = { 0 };
	struct promql_run *run = s->call->run;
	uint32_t *numbers;
	TRY(make_matchers(s, e));
	TRY(select_info(s, e));
	TRY(index_info(s, e));
	size_t room = s->name_count + 1;
	TRY(promql_alloc(run, 3 * room, sizeof(*numbers), (void **)&numbers, e));
	for (uint32_t i = 0; i < s->base->count; i++) {
		TRY(info_row(s, i, &runs, numbers, numbers + room, numbers + 2 * room, e));
		TRY(promql_check(run, e));
	}
	TRY(make_result(s, &runs, ret, e));
	promql_free(run, numbers);
	promql_free(run, runs.items);
	promql_free(run, s->names);
	promql_free(run, s->heads);
	promql_free(run, s->nexts);
	promql_index_free(s->index);
	promql_table_free(s->info);
	return OK;
}

errc promql_body_info(struct promql_eval_call *call, struct promql_value *args,
		      struct promql_value *ret, struct err *e)
{
	struct info_state s = { .call = call, .base = args[0].table };
	errc rc = info_of_all(&s, ret, e);
	for (size_t i = 0; i < s.compiled; i++)
		matcher_done(&s.matchers[i]);
	promql_free(call->run, s.matchers);
	return rc;
}
