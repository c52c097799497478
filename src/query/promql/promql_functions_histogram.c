/* Quantiles and fractions of histograms, native and classic. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/number.h"
#include "query/promql/promql_eval_core.h"
#include "query/promql/promql_functions_internal.h"

/* ---- Rows of one vector, sorted out. */

/* The rows that are buckets of one classic histogram, at least one. */
struct group {
	struct labels labels;  /* without `le`, with the name */
	uint32_t first, count; /* in members */
	uint32_t rival;        /* the row of native histograms with these labels, or NO_ROW */
	struct histogram_mended mended; /* over all steps */
	size_t mended_count;
	time_ms mended_first, mended_last;
};

#define NO_ROW UINT32_MAX

struct member {
	uint32_t row, group;
	double upper;
};

struct look {
	struct promql_eval_call *call;
	const struct promql_table *table;
	size_t vector_arg;                 /* the argument that is the vector */
	struct promql_label_choice choice; /* all but `le` */
	struct promql_index *index;
	struct group *groups;
	struct member *members;
	size_t group_count, member_count;
	uint32_t *native; /* rows with histograms */
	size_t native_count;
};

static bool row_has(const struct promql_table *t, size_t i, bool histograms)
{
	struct promql_column c = promql_table_column(t, i);
	for (size_t step = 0; step < t->grid.count; step++)
		if (promql_has(&c, step) && !promql_histogram(&c, step) == !histograms)
			return true;
	return false;
}

static int by_group(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	if (x->group != y->group)
		return x->group < y->group ? -1 : 1;
	if (x->upper != y->upper)
		return x->upper < y->upper ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

static void note_bad_bucket(const struct look *l, const struct labels *labels, str value)
{
	struct buf text = buf_init(4 * LABEL_VALUE_BYTES_MAX + 100);
	buf_add_c(&text, "bucket label \"le\" is missing or has a malformed value of ");
	promql_print_string(&text, value);
	promql_note_for_name(l->call->run, PROMQL_WARNING,
			     promql_arg_position(l->call, l->vector_arg), buf_cstr(&text),
			     labels_get(labels, STR(LABEL_METRIC_NAME)));
	buf_done(&text);
}

static errc look_at_row(struct look *l, uint32_t i, struct err *e)
{
	const struct labels *labels = &l->table->labels[i];
	if (row_has(l->table, i, true))
		l->native[l->native_count++] = i;
	if (!row_has(l->table, i, false))
		return OK;
	struct member m = { .row = i };
	str le = labels_get(labels, STR("le"));
	if (!number_parse(le, &m.upper)) {
		note_bad_bucket(l, labels, le);
		return OK;
	}
	TRY(promql_index_put(l->index, &l->choice, labels, &m.group, e));
	l->members[l->member_count++] = m;
	return OK;
}

/* The classic histogram with the same labels as native row I, or NULL. */
static struct group *rival_of(const struct look *l, uint32_t i)
{
	uint32_t number = promql_index_find(l->index, NULL, &l->table->labels[i]);
	return number < l->group_count ? &l->groups[number] : NULL;
}

static errc make_groups(struct look *l, struct err *e)
{
	struct arena *arena = promql_labels_arena(l->call->run);
	l->group_count = promql_index_count(l->index);
	TRY(promql_alloc(l->call->run, l->group_count + 1, sizeof(*l->groups), (void **)&l->groups,
			 e));
	if (l->member_count)
		qsort(l->members, l->member_count, sizeof(*l->members), by_group);
	for (uint32_t k = 0; k < l->member_count; k++) {
		struct group *g = &l->groups[l->members[k].group];
		uint32_t row = l->members[k].row;
		if (!g->count++) {
			g->first = k;
			g->labels = promql_choice_labels(arena, &l->choice, &l->table->labels[row]);
			g->rival = NO_ROW;
		}
	}
	for (size_t k = 0; k < l->native_count; k++) {
		struct group *g = rival_of(l, l->native[k]);
		if (g)
			g->rival = l->native[k];
	}
	return promql_charge_labels(l->call->run, e);
}

static errc look_init(struct look *l, struct promql_eval_call *call, const struct promql_table *t,
		      size_t vector_arg, struct err *e)
{
	static const str le = { "le", 2 };
	*l = (struct look){ .call = call, .table = t, .vector_arg = vector_arg };
	l->choice = (struct promql_label_choice){ .names = &le, .count = 1, .keep_name = true };
	TRY(promql_index_new(call->run, t->count, &l->index, e));
	TRY(promql_alloc(call->run, t->count + 1, sizeof(*l->members), (void **)&l->members, e));
	TRY(promql_alloc(call->run, t->count + 1, sizeof(*l->native), (void **)&l->native, e));
	for (uint32_t i = 0; i < t->count; i++)
		TRY(look_at_row(l, i, e));
	return make_groups(l, e);
}

static void look_done(struct look *l)
{
	struct promql_run *run = l->call->run;
	promql_index_free(l->index);
	promql_free(run, l->groups);
	promql_free(run, l->members);
	promql_free(run, l->native);
}

static bool has_bucket(const struct look *l, const struct group *g, size_t step)
{
	for (uint32_t k = 0; k < g->count; k++) {
		struct promql_column c = promql_table_column(l->table,
							     l->members[g->first + k].row);
		if (promql_has(&c, step) && !promql_histogram(&c, step))
			return true;
	}
	return false;
}

/* ---- What is asked of them: one or more numbers of each histogram. */

struct question {
	bool fraction;
	size_t args[2]; /* scalars: the quantile, or lower and upper */
	/* of histogram_quantiles(): a label of the result, and the steps are those where the
	 * argument has this value */
	str label, value;
	bool has_only;
	double only;
};

static bool is_asked(const struct question *q, const double *args, size_t step)
{
	return !q->has_only || args[step] == q->only || (isnan(args[step]) && isnan(q->only));
}

struct answering {
	struct look *look;
	const struct question *q;
	struct promql_table *result; /* rows of natives, then of groups */
};

static void note_nan(const struct answering *a, const struct labels *labels, enum histogram_nan nan)
{
	static const char *const quantile_texts[] = {
		[HISTOGRAM_NAN_RESULT] = "input to histogram_quantile has NaN observations, "
					 "result is NaN",
		[HISTOGRAM_NAN_SKEW] = "input to histogram_quantile has NaN observations, "
				       "result is skewed higher",
	};
	if (nan == HISTOGRAM_NAN_NONE)
		return;
	const char *text = quantile_texts[nan];
	if (a->q->fraction)
		text = "input to histogram_fraction has NaN observations, which are excluded "
		       "from all fractions";
	promql_note_for_name(a->look->call->run, PROMQL_INFO,
			     promql_arg_position(a->look->call, a->q->args[0]), text,
			     labels_get(labels, STR(LABEL_METRIC_NAME)));
}

static void answer_native(const struct answering *a, size_t k)
{
	const struct look *l = a->look;
	uint32_t row = l->native[k];
	const struct labels *labels = &l->table->labels[row];
	struct promql_column from = promql_table_column(l->table, row);
	struct promql_column into = promql_table_column(a->result, k);
	const struct group *rival = rival_of(l, row);
	const double *first = l->call->scalars[a->q->args[0]];
	const double *second = l->call->scalars[a->q->args[1]];
	for (size_t step = 0; step < l->table->grid.count; step++) {
		const struct histogram *h = promql_has(&from, step) ? promql_histogram(&from, step)
								    : NULL;
		if (!h || !is_asked(a->q, first, step))
			continue;
		if (rival && has_bucket(l, rival, step)) {
			promql_note_for_name(
				l->call->run, PROMQL_WARNING,
				promql_arg_position(l->call, l->vector_arg),
				"vector contains a mix of classic and native histograms",
				labels_get(labels, STR(LABEL_METRIC_NAME)));
			continue;
		}
		enum histogram_nan nan;
		double v = a->q->fraction ? histogram_fraction(h, first[step], second[step], &nan)
					  : histogram_quantile(h, first[step], &nan);
		note_nan(a, labels, nan);
		promql_set(&into, step, v);
	}
}

static bool has_native(const struct look *l, uint32_t row, size_t step)
{
	if (row == NO_ROW)
		return false;
	struct promql_column c = promql_table_column(l->table, row);
	return promql_has(&c, step) && promql_histogram(&c, step);
}

static void mend_group(struct group *g, const struct histogram_mended *m, time_ms when)
{
	if (!m->monotonicity)
		return;
	if (!g->mended_count++) {
		g->mended = *m;
		g->mended_first = g->mended_last = when;
		return;
	}
	g->mended.lowest = fmin(g->mended.lowest, m->lowest);
	g->mended.highest = fmax(g->mended.highest, m->highest);
	g->mended.difference = fmax(g->mended.difference, m->difference);
	g->mended_last = when;
}

/* Of one worker: the columns of a group's buckets, and what they are at one step. */
struct group_work {
	struct promql_column *columns;
	struct histogram_classic_bucket *buckets;
	size_t room;
};

static void group_work_done(struct promql_run *run, struct group_work *work)
{
	promql_free(run, work->columns);
	promql_free(run, work->buckets);
	*work = (struct group_work){ 0 };
}

static errc group_work_begin(const struct look *l, const struct group *g, struct group_work *work,
			     struct err *e)
{
	struct promql_run *run = l->call->run;
	if (g->count > work->room) {
		group_work_done(run, work);
		TRY(promql_alloc(run, g->count, sizeof(*work->columns), (void **)&work->columns,
				 e));
		TRY(promql_alloc(run, g->count, sizeof(*work->buckets), (void **)&work->buckets,
				 e));
		work->room = g->count;
	}
	for (uint32_t m = 0; m < g->count; m++)
		work->columns[m] = promql_table_column(l->table, l->members[g->first + m].row);
	return OK;
}

/* The buckets there are at STEP. */
static size_t group_at(const struct look *l, const struct group *g, struct group_work *work,
		       size_t step)
{
	size_t count = 0;
	for (uint32_t m = 0; m < g->count; m++) {
		const struct promql_column *c = &work->columns[m];
		if (!promql_has(c, step) || promql_histogram(c, step))
			continue;
		work->buckets[count++] = (struct histogram_classic_bucket){
			l->members[g->first + m].upper, c->values[step]
		};
	}
	return count;
}

static void answer_group(const struct answering *a, size_t k, struct group_work *work)
{
	struct look *l = a->look;
	struct group *g = &l->groups[k];
	struct promql_column into = promql_table_column(a->result, l->native_count + k);
	const double *first = l->call->scalars[a->q->args[0]];
	const double *second = l->call->scalars[a->q->args[1]];
	struct histogram_classic_bucket *b = work->buckets;
	for (size_t step = 0; step < l->table->grid.count; step++) {
		size_t count = is_asked(a->q, first, step) ? group_at(l, g, work, step) : 0;
		if (!count || has_native(l, g->rival, step))
			continue;
		if (a->q->fraction) {
			promql_set(&into, step,
				   histogram_classic_fraction(b, count, first[step], second[step]));
			continue;
		}
		struct histogram_mended mended;
		promql_set(&into, step, histogram_classic_quantile(b, count, first[step], &mended));
		mend_group(g, &mended, promql_grid_time(&l->table->grid, step));
	}
}

static errc answer_some(void *ctx, unsigned worker, size_t begin, size_t end, struct err *e)
{
	const struct answering *a = ctx;
	const struct look *l = a->look;
	struct group_work work = { 0 };
	(void)worker;
	for (size_t i = begin; i < end; i++) {
		if (i < l->native_count) {
			answer_native(a, i);
			continue;
		}
		TRY(group_work_begin(l, &l->groups[i - l->native_count], &work, e));
		answer_group(a, i - l->native_count, &work);
	}
	group_work_done(l->call->run, &work);
	return OK;
}

static struct labels answer_labels(const struct look *l, const struct question *q,
				   const struct labels *labels)
{
	struct labels result = promql_result_labels(l->call->run, labels);
	if (!q->label.len)
		return result;
	return promql_labels_with(promql_labels_arena(l->call->run), &result, q->label, q->value);
}

/* A table of the answers to Q: of native histograms, then of groups. */
static errc answer(struct look *l, const struct question *q, struct promql_table **ret_result,
		   struct err *e)
{
	struct promql_run *run = l->call->run;
	struct answering a = { .look = l, .q = q };
	bool delayed = promql_delayed_names(run);
	size_t count = l->native_count + l->group_count;
	TRY(promql_table_new(run, &l->table->grid, count, &a.result, e));
	for (size_t k = 0; k < l->native_count; k++)
		promql_table_add(a.result, answer_labels(l, q, &l->table->labels[l->native[k]]),
				 delayed);
	for (size_t k = 0; k < l->group_count; k++)
		promql_table_add(a.result, answer_labels(l, q, &l->groups[k].labels), delayed);
	TRY(promql_charge_labels(run, e));
	TRY(promql_parallel(run, count, 16, answer_some, &a, e));
	*ret_result = a.result;
	return OK;
}

/* ---- The info that counts were made monotonic: one for all samples of a name. */

static void add_seconds(struct buf *into, time_ms t)
{
	char text[UNIT_TEXT_SIZE];
	str s = str_c(time_format(t, text));
	/* without a fraction that is nothing */
	ptrdiff_t dot = str_find(s, STR("."));
	if (dot < 0) {
		buf_add(into, s);
		return;
	}
	size_t end = s.len - 1;
	while (end > (size_t)dot && (s.ptr[end - 1] == '0' || s.ptr[end - 1] == '.'))
		end--;
	buf_add(into, (str){ s.ptr, end });
	buf_add_byte(into, 'Z');
}

static void note_mended(const struct look *l, const struct group *g)
{
	char lowest[PROMQL_SHORTEST_SIZE], highest[PROMQL_SHORTEST_SIZE];
	struct buf text = buf_init(64 * 1024);
	buf_add_c(&text, "input to histogram_quantile needed to be fixed for monotonicity (see "
			 "https://prometheus.io/docs/prometheus/latest/querying/functions/"
			 "#histogram_quantile)");
	str name = labels_get(&g->labels, STR(LABEL_METRIC_NAME));
	if (promql_delayed_names(l->call->run) && name.len) {
		buf_add_c(&text, " for metric name ");
		promql_print_string(&text, name);
	}
	buf_printf(
		&text, ", from buckets %s to %s, with a max diff of %.2g, over %zu samples from ",
		promql_shortest(g->mended.lowest, lowest),
		promql_shortest(g->mended.highest, highest), g->mended.difference, g->mended_count);
	add_seconds(&text, g->mended_first);
	buf_add_c(&text, " to ");
	add_seconds(&text, g->mended_last);
	promql_annotate(l->call->run, PROMQL_INFO, promql_arg_position(l->call, l->vector_arg),
			"%s", buf_cstr(&text));
	buf_done(&text);
}

static bool same_note(const struct look *l, const struct group *a, const struct group *b)
{
	return !promql_delayed_names(l->call->run) ||
	       str_eq(labels_get(&a->labels, STR(LABEL_METRIC_NAME)),
		      labels_get(&b->labels, STR(LABEL_METRIC_NAME)));
}

static void join_note(struct group *into, const struct group *g)
{
	into->mended.lowest = fmin(into->mended.lowest, g->mended.lowest);
	into->mended.highest = fmax(into->mended.highest, g->mended.highest);
	into->mended.difference = fmax(into->mended.difference, g->mended.difference);
	into->mended_count += g->mended_count;
	if (g->mended_first < into->mended_first)
		into->mended_first = g->mended_first;
	if (g->mended_last > into->mended_last)
		into->mended_last = g->mended_last;
}

static void note_all_mended(const struct look *l)
{
	struct group *open = NULL;
	for (size_t k = 0; k < l->group_count; k++) {
		struct group *g = &l->groups[k];
		if (!g->mended_count)
			continue;
		if (open && same_note(l, open, g)) {
			join_note(open, g);
			continue;
		}
		if (open)
			note_mended(l, open);
		open = g;
	}
	if (open)
		note_mended(l, open);
}

/* ---- The functions. */

static void check_quantile(struct promql_eval_call *call, size_t arg)
{
	for (size_t step = 0; step < call->grid.count; step++) {
		double q = call->scalars[arg][step];
		if (!(q >= 0 && q <= 1))
			promql_note_quantile(call, arg, q);
	}
}

static errc one_question(struct promql_eval_call *call, const struct question *q, size_t vector_arg,
			 const struct promql_table *t, struct promql_value *ret, struct err *e)
{
	struct look l;
	TRY(look_init(&l, call, t, vector_arg, e));
	ret->kind = PROMQL_IS_VECTOR;
	TRY(answer(&l, q, &ret->table, e));
	note_all_mended(&l);
	look_done(&l);
	return OK;
}

errc promql_body_histogram_quantile(struct promql_eval_call *call, struct promql_value *args,
				    struct promql_value *ret, struct err *e)
{
	struct question q = { .args = { 0, 0 } };
	check_quantile(call, 0);
	return one_question(call, &q, 1, args[1].table, ret, e);
}

errc promql_body_histogram_fraction(struct promql_eval_call *call, struct promql_value *args,
				    struct promql_value *ret, struct err *e)
{
	struct question q = { .fraction = true, .args = { 0, 1 } };
	return one_question(call, &q, 2, args[2].table, ret, e);
}

/* As OpenMetrics writes a quantile: `0.5`, `1.0`. */
static str quantile_text(struct arena *arena, double q)
{
	char text[PROMQL_SHORTEST_SIZE];
	promql_shortest(q, text);
	bool plain = isfinite(q) && !strpbrk(text, ".e");
	return str_c(arena_printf(arena, "%s%s", text, plain ? ".0" : ""));
}

/* The rows of FROM behind those of INTO, which has room; frees FROM. */
static errc append_rows(struct promql_table *into, struct promql_table *from, struct err *e)
{
	size_t steps = into->grid.count;
	for (size_t i = 0; i < from->count; i++) {
		size_t k = promql_table_add(into, from->labels[i], from->drop_name[i]);
		struct promql_column a = promql_table_column(from, i);
		struct promql_column b = promql_table_column(into, k);
		memcpy(b.values, a.values, steps * sizeof(*a.values));
		memcpy(b.present, a.present, PROMQL_WORDS(steps) * sizeof(*a.present));
	}
	TRY(promql_check(from->run, e));
	promql_table_free(from);
	return OK;
}

/* Arguments that are quantiles, with each value that they have at some step. */
struct asked {
	size_t arg;
	double q;
};

enum { ASKED_MAX = 1000 };

static bool same_number(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

static errc list_asked(const struct promql_eval_call *call, struct asked *asked, size_t *ret_count,
		       struct err *e)
{
	size_t count = 0;
	for (size_t arg = 2; arg < call->arg_count; arg++) {
		size_t begin = count;
		for (size_t step = 0; step < call->grid.count; step++) {
			double q = call->scalars[arg][step];
			size_t i = begin;
			while (i < count && !same_number(asked[i].q, q))
				i++;
			if (i < count)
				continue;
			if (count == ASKED_MAX)
				FAIL(e, ERR_FAILED,
				     "histogram_quantiles() is asked for more than %d different "
				     "quantiles",
				     ASKED_MAX);
			asked[count++] = (struct asked){ arg, q };
		}
	}
	*ret_count = count;
	return OK;
}

static errc answer_asked(struct look *l, const struct asked *asked, size_t count,
			 struct promql_table *into, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		struct promql_table *part;
		struct question q = { .args = { asked[i].arg, asked[i].arg },
				      .label = l->call->strings[1],
				      .has_only = true,
				      .only = asked[i].q };
		q.value = quantile_text(promql_labels_arena(l->call->run), asked[i].q);
		TRY(answer(l, &q, &part, e));
		TRY(append_rows(into, part, e));
	}
	return OK;
}

errc promql_body_histogram_quantiles(struct promql_eval_call *call, struct promql_value *args,
				     struct promql_value *ret, struct err *e)
{
	struct look l;
	struct asked *asked;
	size_t count;
	str label = call->strings[1];
	if (!label.len)
		FAIL(e, ERR_FAILED, "invalid label name %.*s", STR_ARG(label));
	for (size_t arg = 2; arg < call->arg_count; arg++)
		check_quantile(call, arg);
	TRY(promql_alloc(call->run, ASKED_MAX, sizeof(*asked), (void **)&asked, e));
	TRY(list_asked(call, asked, &count, e));
	TRY(look_init(&l, call, args[0].table, 0, e));
	ret->kind = PROMQL_IS_VECTOR;
	TRY(promql_table_new(call->run, &call->grid, (l.native_count + l.group_count) * count,
			     &ret->table, e));
	TRY(answer_asked(&l, asked, count, ret->table, e));
	note_all_mended(&l);
	look_done(&l);
	promql_free(call->run, asked);
	return OK;
}
