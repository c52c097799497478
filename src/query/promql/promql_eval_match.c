/* Vector matching: which series of one side meet which of the other. */
#include <string.h>

#include "base/checks.h"
#include "query/promql/promql_ast.h"
#include "query/promql/promql_eval_op.h"

#define NONE UINT32_MAX

/* A series of each side; NONE: a fill value stands in. */
struct pair {
	uint32_t left, right;
};

struct match_source {
	struct promql_source base;
	struct promql_op op;
	struct pair *pairs;
	struct promql_buffers *buffers, *filled; /* FILLED: of the left, then of the right side */
	bool has_fill[2];
	double fill[2];
	uint64_t *present_left, *present_right; /* fill: of each group, where that side has any */
	uint32_t *groups;                       /* of each pair */
};

/* The match groups of both sides. */
struct grouping {
	struct promql_run *run;
	const struct promql_op *op;
	const struct promql_matching *matching;
	struct promql_label_choice choice;
	struct promql_source *sides[2];
	uint32_t *group_of[2];           /* of each series */
	uint32_t *first[2], *members[2]; /* series of group g: members[first[g] … first[g + 1]) */
	size_t count;
	bool one_is_left; /* group_right: the left side is the one of which there is one */
};

/* ---- Columns. */

/* The values of C where it has them, else FILL where MASK is set. */
static struct promql_side fill_side(const struct promql_column *c, double fill,
				    const uint64_t *mask, struct promql_buffers *b)
{
	struct promql_column into = promql_buffers_clear(b);
	size_t words = PROMQL_WORDS(b->steps);
	for (size_t step = 0; step < b->steps; step++)
		into.values[step] = c && promql_has(c, step) ? c->values[step] : fill;
	for (size_t w = 0; w < words; w++)
		into.present[w] = (c ? c->present[w] : 0) | mask[w];
	return (struct promql_side){ into.values, into.present, c ? c->histograms : NULL };
}

static errc match_column(struct promql_source *source, unsigned worker, size_t i,
			 struct promql_column *ret, struct err *e)
{
	struct match_source *s = (struct match_source *)source;
	const struct pair *p = &s->pairs[i];
	struct promql_column left = { 0 }, right = { 0 };
	struct promql_side l = { 0 }, r = { 0 };
	size_t words = PROMQL_WORDS(source->grid.count);
	if (p->left != NONE) {
		TRY(source->inputs[0]->column(source->inputs[0], worker, p->left, &left, e));
		l = promql_side_of(&left);
	}
	if (p->right != NONE) {
		TRY(source->inputs[1]->column(source->inputs[1], worker, p->right, &right, e));
		r = promql_side_of(&right);
	}
	if (s->has_fill[0] || s->has_fill[1]) {
		unsigned workers = source->run->worker_count;
		const uint64_t *none = s->present_left + s->groups[i] * words;
		const uint64_t *other = s->present_right + s->groups[i] * words;
		uint64_t mask[2][64], *large = NULL;
		if (words > 64)
			TRY(promql_alloc(source->run, 2 * words, sizeof(*large), (void **)&large,
					 e));
		uint64_t *lm = large ? large : mask[0], *rm = large ? large + words : mask[1];
		/* a fill counts where its whole group has nothing, and the other side's series has
		 */
		for (size_t w = 0; w < words; w++) {
			lm[w] = s->has_fill[0]
					? ~none[w] & (p->right != NONE ? right.present[w] : 0)
					: 0;
			rm[w] = s->has_fill[1] ? ~other[w] & (p->left != NONE ? left.present[w] : 0)
					       : 0;
		}
		l = fill_side(p->left != NONE ? &left : NULL, s->fill[0], lm, &s->filled[worker]);
		r = fill_side(p->right != NONE ? &right : NULL, s->fill[1], rm,
			      &s->filled[workers + worker]);
		promql_free(source->run, large);
	}
	return promql_op_columns(&s->op, worker, s->buffers, &l, &r, ret, e);
}

static void match_done(struct promql_source *source)
{
	struct match_source *s = (struct match_source *)source;
	promql_buffers_free(source->run, s->buffers);
	for (unsigned i = 0; s->filled && i < 2 * source->run->worker_count; i++) {
		promql_free(source->run, s->filled[i].values);
		promql_free(source->run, s->filled[i].present);
		promql_free(source->run, s->filled[i].histograms);
	}
	promql_free(source->run, s->filled);
	promql_free(source->run, s->pairs);
	promql_free(source->run, s->groups);
	promql_free(source->run, s->present_left);
	promql_free(source->run, s->present_right);
}

/* ---- Groups. */

static errc number_groups(struct grouping *g, struct err *e)
{
	struct promql_index *x;
	TRY(promql_index_new(g->run, g->sides[0]->count + g->sides[1]->count, &x, e));
	for (int side = 0; side < 2; side++) {
		const struct promql_source *s = g->sides[side];
		TRY(promql_alloc(g->run, s->count + 1, sizeof(uint32_t),
				 (void **)&g->group_of[side], e));
		for (size_t i = 0; i < s->count; i++)
			TRY(promql_index_put(x, &g->choice, &s->labels[i], &g->group_of[side][i],
					     e));
	}
	g->count = promql_index_count(x);
	promql_index_free(x);
	return OK;
}

static errc list_members(struct grouping *g, int side, struct err *e)
{
	const struct promql_source *s = g->sides[side];
	uint32_t *first, *members;
	TRY(promql_alloc(g->run, g->count + 2, sizeof(*first), (void **)&first, e));
	TRY(promql_alloc(g->run, s->count + 1, sizeof(*members), (void **)&members, e));
	for (size_t i = 0; i < s->count; i++)
		first[g->group_of[side][i] + 2]++;
	for (size_t i = 2; i < g->count + 2; i++)
		first[i] += first[i - 1];
	for (size_t i = 0; i < s->count; i++)
		members[first[g->group_of[side][i] + 1]++] = (uint32_t)i;
	g->first[side] = first;
	g->members[side] = members;
	return OK;
}

static size_t member_count(const struct grouping *g, int side, size_t group)
{
	return g->first[side][group + 1] - g->first[side][group];
}

static void grouping_done(struct grouping *g)
{
	for (int side = 0; side < 2; side++) {
		promql_free(g->run, g->group_of[side]);
		promql_free(g->run, g->first[side]);
		promql_free(g->run, g->members[side]);
	}
}

/* ---- More than one where there may be one: an error, unless never at the same step. */

/* At which steps any series of a side has a sample. */
static errc any_present(struct promql_source *s, uint64_t *into, struct err *e)
{
	for (size_t i = 0; i < s->count; i++) {
		struct promql_column c;
		TRY(s->column(s, 0, i, &c, e));
		for (size_t w = 0; w < PROMQL_WORDS(s->grid.count); w++)
			into[w] |= c.present[w];
		promql_scratch_clear(s->run, 0);
	}
	return OK;
}

/* `{a="b", c="d"}`, the name as a label: as Prometheus words labels in errors. */
static void print_labels(struct buf *into, const struct labels *l)
{
	buf_add_byte(into, '{');
	for (size_t i = 0; i < l->count; i++) {
		buf_printf(into, "%s%.*s=", i ? ", " : "", STR_ARG(l->items[i].name));
		promql_print_string(into, l->items[i].value);
	}
	buf_add_byte(into, '}');
}

/* B comes after A. */
static errc duplicates(const struct grouping *g, int side, uint32_t a, uint32_t b, struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(64 * 1024);
	const struct promql_source *s = g->sides[side];
	struct labels labels = promql_choice_labels(&g->run->labels, &g->choice, &s->labels[a]);
	buf_add_c(&text, "found duplicate series for the match group ");
	print_labels(&text, &labels);
	buf_printf(&text, " on the %s hand-side of the operation: [", side ? "right" : "left");
	print_labels(&text, &s->labels[b]);
	buf_add_c(&text, ", ");
	print_labels(&text, &s->labels[a]);
	buf_add_c(&text, "];many-to-many matching not allowed: matching labels must be unique on "
			 "one side");
	FAIL(e, ERR_FAILED, "%s", buf_cstr(&text));
}

/* Of group GROUP: no two series of SIDE at one step of MASK. */
static errc check_group(const struct grouping *g, int side, size_t group, const uint64_t *mask,
			struct err *e)
{
	struct promql_source *s = g->sides[side];
	size_t words = PROMQL_WORDS(s->grid.count);
	uint64_t *seen;
	TRY(promql_alloc(g->run, words, sizeof(*seen), (void **)&seen, e));
	const uint32_t *members = g->members[side] + g->first[side][group];
	for (size_t i = 0; i < member_count(g, side, group); i++) {
		struct promql_column c;
		TRY(s->column(s, 0, members[i], &c, e));
		for (size_t w = 0; w < words; w++) {
			if (seen[w] & c.present[w] & mask[w])
				return duplicates(g, side, members[0], members[i], e);
			seen[w] |= c.present[w];
		}
		promql_scratch_clear(g->run, 0);
	}
	promql_free(g->run, seen);
	return OK;
}

static errc check_ones(struct grouping *g, struct err *e)
{
	int one = g->one_is_left ? 0 : 1;
	uint64_t *mask = NULL;
	for (size_t group = 0; group < g->count; group++) {
		if (member_count(g, one, group) < 2)
			continue;
		if (!mask) {
			TRY(promql_alloc(g->run, PROMQL_WORDS(g->sides[0]->grid.count),
					 sizeof(*mask), (void **)&mask, e));
			/* with nothing at all on the other side nothing is looked at */
			TRY(any_present(g->sides[!one], mask, e));
		}
		TRY(check_group(g, one, group, mask, e));
	}
	promql_free(g->run, mask);
	return OK;
}

/* ---- Pairs and their labels. */

/* The labels of a result: those of the series of which there may be many. */
static struct labels result_labels(const struct grouping *g, const struct pair *p)
{
	struct arena *a = &g->run->labels;
	const struct promql_matching *m = g->matching;
	bool many_is_right = g->one_is_left;
	uint32_t many_at = many_is_right ? p->right : p->left,
		 one_at = many_is_right ? p->left : p->right;
	const struct promql_source *many = g->sides[many_is_right], *one = g->sides[!many_is_right];
	struct labels labels;
	if (many_at == NONE) /* filled: what the group has in common */
		return promql_choice_labels(a, &g->choice, &one->labels[one_at]);
	labels = many->labels[many_at];
	if (promql_op_drops_name(g->op) && !promql_delayed_names(g->run))
		labels = promql_labels_without_name(a, &labels);
	if (m->card == PROMQL_ONE_TO_ONE) {
		struct promql_label_choice choice = g->choice;
		choice.keep_name = !choice.keep;
		return promql_choice_labels(a, &choice, &labels);
	}
	for (size_t i = 0; i < m->include.count; i++) {
		str value = one_at == NONE ? STR("")
					   : labels_get(&one->labels[one_at], m->include.items[i]);
		labels = promql_labels_with(a, &labels, m->include.items[i], value);
	}
	return labels;
}

static size_t count_pairs(const struct grouping *g)
{
	const struct promql_matching *m = g->matching;
	size_t count = 0;
	for (size_t group = 0; group < g->count; group++) {
		size_t left = member_count(g, 0, group), right = member_count(g, 1, group);
		count += left && right ? left * right
			 : left        ? (m->has_fill_right ? left : 0)
			 : right       ? (m->has_fill_left ? right : 0)
				       : 0;
	}
	return count;
}

static errc add_pair(struct match_source *s, const struct grouping *g, struct labels *labels,
		     bool *drop, uint32_t group, uint32_t left, uint32_t right, struct err *e)
{
	size_t at = s->base.count++;
	const struct promql_source *many = g->sides[g->one_is_left];
	uint32_t many_at = g->one_is_left ? right : left;
	s->pairs[at] = (struct pair){ left, right };
	s->groups[at] = group;
	labels[at] = result_labels(g, &s->pairs[at]);
	drop[at] = (promql_delayed_names(g->run) && promql_op_drops_name(g->op)) ||
		   (many->drop_name && many_at != NONE && many->drop_name[many_at]);
	return arena_check(&g->run->labels, "the labels of the query", e);
}

/* In the order of the side of which there are many, so that its columns come one after another. */
static errc list_pairs(struct match_source *s, const struct grouping *g, struct err *e)
{
	struct arena *a = &g->run->labels;
	size_t count = count_pairs(g);
	struct labels *labels = arena_array(a, count + 1, sizeof(labels[0]));
	bool *drop = arena_array(a, count + 1, sizeof(drop[0]));
	int many = g->one_is_left ? 1 : 0;
	TRY(arena_check(a, "the labels of the query", e));
	TRY(promql_alloc(g->run, count + 1, sizeof(s->pairs[0]), (void **)&s->pairs, e));
	TRY(promql_alloc(g->run, count + 1, sizeof(s->groups[0]), (void **)&s->groups, e));
	for (uint32_t i = 0; i < g->sides[many]->count; i++) {
		uint32_t group = g->group_of[many][i];
		const uint32_t *ones = g->members[!many] + g->first[!many][group];
		size_t n = member_count(g, !many, group);
		bool filled = many ? g->matching->has_fill_left : g->matching->has_fill_right;
		for (size_t k = 0; k < n; k++)
			TRY(add_pair(s, g, labels, drop, group, many ? ones[k] : i,
				     many ? i : ones[k], e));
		if (!n && filled)
			TRY(add_pair(s, g, labels, drop, group, many ? NONE : i, many ? i : NONE,
				     e));
	}
	/* groups that only the other side has */
	for (uint32_t i = 0; i < g->sides[!many]->count; i++) {
		uint32_t group = g->group_of[!many][i];
		bool filled = many ? g->matching->has_fill_right : g->matching->has_fill_left;
		if (filled && !member_count(g, many, group))
			TRY(add_pair(s, g, labels, drop, group, many ? i : NONE, many ? NONE : i,
				     e));
	}
	s->base.labels = labels;
	s->base.drop_name = drop;
	return OK;
}

/* ---- Two results of one group at one step. */

static errc check_results(struct promql_source **source, const struct grouping *g, struct err *e)
{
	struct promql_source *s = *source;
	struct promql_table *t;
	bool equal = false, one_to_one = g->matching->card == PROMQL_ONE_TO_ONE;
	TRY(promql_labels_have_equal(g->run, s->labels, s->count, &equal, e));
	if (!equal)
		return OK;
	TRY(promql_table_of(s, &t, e));
	TRY(promql_table_join(t, false,
			      one_to_one
				      ? "multiple matches for labels: many-to-one matching must "
					"be explicit (group_left/group_right)"
				      : "multiple matches for labels: grouping labels must ensure "
					"unique matches",
			      e));
	return promql_source_of_table(t, source, e);
}

/* Filters keep names: then series of one group differ by name alone, and their results do not look
 * equal, but may not stand side by side all the same. */
static errc check_many(struct promql_source **source, const struct match_source *m,
		       const struct grouping *g, struct err *e)
{
	struct promql_source *s = *source;
	struct promql_table *t;
	size_t words = PROMQL_WORDS(s->grid.count);
	bool doubled = false;
	for (size_t group = 0; group < g->count && !doubled; group++)
		doubled = member_count(g, 0, group) > 1 && member_count(g, 1, group) > 0;
	if (!doubled || g->matching->card != PROMQL_ONE_TO_ONE)
		return OK;
	uint32_t *groups;
	uint64_t *seen;
	size_t count = s->count;
	TRY(promql_alloc(g->run, count + 1, sizeof(*groups), (void **)&groups, e));
	memcpy(groups, m->groups, count * sizeof(*groups));
	TRY(promql_alloc(g->run, g->count * words + 1, sizeof(*seen), (void **)&seen, e));
	TRY(promql_table_of(s, &t, e));
	for (size_t i = 0; i < count; i++) {
		struct promql_column c = promql_table_column(t, i);
		uint64_t *row = seen + groups[i] * words;
		for (size_t w = 0; w < words; w++) {
			if (row[w] & c.present[w])
				FAIL(e, ERR_FAILED,
				     "multiple matches for labels: many-to-one matching must be "
				     "explicit (group_left/group_right)");
			row[w] |= c.present[w];
		}
	}
	promql_free(g->run, groups);
	promql_free(g->run, seen);
	return promql_source_of_table(t, source, e);
}

/* ---- Fill values. */

static errc group_present(const struct grouping *g, int side, uint64_t **ret, struct err *e)
{
	struct promql_source *s = g->sides[side];
	size_t words = PROMQL_WORDS(s->grid.count);
	TRY(promql_alloc(g->run, g->count * words + 1, sizeof(**ret), (void **)ret, e));
	for (size_t i = 0; i < s->count; i++) {
		struct promql_column c;
		TRY(s->column(s, 0, i, &c, e));
		for (size_t w = 0; w < words; w++)
			(*ret)[g->group_of[side][i] * words + w] |= c.present[w];
		promql_scratch_clear(g->run, 0);
	}
	return OK;
}

static errc prepare_fill(struct match_source *s, const struct grouping *g, struct err *e)
{
	unsigned workers = g->run->worker_count;
	size_t steps = s->base.grid.count;
	if (!s->has_fill[0] && !s->has_fill[1])
		return OK;
	TRY(group_present(g, 0, &s->present_left, e));
	TRY(group_present(g, 1, &s->present_right, e));
	TRY(promql_alloc(g->run, 2 * workers, sizeof(s->filled[0]), (void **)&s->filled, e));
	for (unsigned i = 0; i < 2 * workers; i++) {
		s->filled[i].steps = steps;
		TRY(promql_alloc(g->run, steps, sizeof(double), (void **)&s->filled[i].values, e));
		TRY(promql_alloc(g->run, PROMQL_WORDS(steps), sizeof(uint64_t),
				 (void **)&s->filled[i].present, e));
	}
	return OK;
}

/* ---- */

/* A column that several pairs ask for is kept rather than computed for each. */
static errc keep_one(struct grouping *g, struct err *e)
{
	int one = g->one_is_left ? 0 : 1;
	struct promql_table *t;
	bool often = g->sides[!one]->count > g->sides[one]->count;
	if (!g->sides[one]->costly || g->sides[one]->table ||
	    (g->matching->card == PROMQL_ONE_TO_ONE && !often))
		return OK;
	TRY(promql_table_of(g->sides[one], &t, e));
	return promql_source_of_table(t, &g->sides[one], e);
}

errc promql_match_node(const struct promql_op *op, const struct promql_matching *matching,
		       struct promql_source *left, struct promql_source *right,
		       struct promql_source **ret_source, struct err *e)
{
	struct promql_run *run = op->run;
	struct match_source *s;
	struct grouping g = { .run = run,
			      .op = op,
			      .matching = matching,
			      .sides = { left, right },
			      .one_is_left = matching->card == PROMQL_ONE_TO_MANY };
	TRY(promql_choice_init(&run->labels, &matching->labels, matching->on, &g.choice, e));
	TRY(keep_one(&g, e));
	TRY(number_groups(&g, e));
	TRY(list_members(&g, 0, e));
	TRY(list_members(&g, 1, e));
	TRY(check_ones(&g, e));
	TRY(promql_source_new(run, &g.sides[0]->grid, sizeof(*s), &s, e));
	s->op = *op;
	s->base.column = match_column;
	s->base.done = match_done;
	s->base.costly = true;
	s->base.inputs[0] = g.sides[0];
	s->base.inputs[1] = g.sides[1];
	s->has_fill[0] = matching->has_fill_left;
	s->has_fill[1] = matching->has_fill_right;
	s->fill[0] = matching->fill_left;
	s->fill[1] = matching->fill_right;
	TRY(promql_buffers_new(run, s->base.grid.count, &s->buffers, e));
	TRY(list_pairs(s, &g, e));
	TRY(prepare_fill(s, &g, e));
	*ret_source = &s->base;
	TRY(check_many(ret_source, s, &g, e));
	TRY(check_results(ret_source, &g, e));
	grouping_done(&g);
	return OK;
}
