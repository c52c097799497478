#include <string.h>

#include "base/checks.h"
#include "query/promql/promql_eval_op.h"

/* Some series of an input, each masked by the steps at which its match group has a sample on the
 * other side; for `or` behind all series of the other side. */
struct set_source {
	struct promql_source base;
	size_t whole_count; /* series of inputs[1] that come first, unmasked */
	uint32_t *series;   /* of inputs[0], of each of the others */
	uint32_t *groups;   /* of each, or UINT32_MAX: of none */
	uint64_t *present;  /* of each group, PROMQL_WORDS each */
	bool inverted;      /* the steps at which it has none */
	uint64_t **masked;  /* of each worker */
};

static errc set_column(struct promql_source *source, unsigned worker, size_t i,
		       struct promql_column *ret, struct err *e)
{
	struct set_source *s = (struct set_source *)source;
	struct promql_source *whole = source->inputs[1], *in = source->inputs[0];
	size_t words = PROMQL_WORDS(source->grid.count);
	if (i < s->whole_count)
		return whole->column(whole, worker, i, ret, e);
	i -= s->whole_count;
	TRY(in->column(in, worker, s->series[i], ret, e));
	if (s->groups[i] == UINT32_MAX)
		return OK;
	const uint64_t *mask = s->present + s->groups[i] * words;
	uint64_t *masked = s->masked[worker];
	for (size_t w = 0; w < words; w++)
		masked[w] = ret->present[w] & (s->inverted ? ~mask[w] : mask[w]);
	ret->present = masked;
	return OK;
}

static void set_done(struct promql_source *source)
{
	struct set_source *s = (struct set_source *)source;
	promql_free(source->run, s->series);
	promql_free(source->run, s->groups);
	promql_free(source->run, s->present);
	for (unsigned i = 0; s->masked && i < source->run->worker_count; i++)
		promql_free(source->run, s->masked[i]);
	promql_free(source->run, s->masked);
}

struct presence {
	struct promql_source *source;
	uint64_t *rows;
};

static errc find_presence(void *ctx, unsigned worker, size_t begin, size_t end, struct err *e)
{
	struct presence *p = ctx;
	size_t words = PROMQL_WORDS(p->source->grid.count);
	for (size_t i = begin; i < end; i++) {
		struct promql_column c;
		TRY(p->source->column(p->source, worker, i, &c, e));
		memcpy(p->rows + i * words, c.present, words * sizeof(*p->rows));
		promql_scratch_clear(p->source->run, worker);
	}
	return OK;
}

/* At which steps each match group of BY has a sample. */
static errc group_presence(struct promql_source *by, const struct promql_label_choice *choice,
			   struct promql_index *x, uint64_t **ret_present, struct err *e)
{
	struct promql_run *run = by->run;
	size_t words = PROMQL_WORDS(by->grid.count);
	struct presence p = { by, NULL };
	uint32_t *groups;
	TRY(promql_alloc(run, by->count + 1, sizeof(*groups), (void **)&groups, e));
	for (size_t i = 0; i < by->count; i++)
		TRY(promql_index_put(x, choice, &by->labels[i], &groups[i], e));
	TRY(promql_alloc(run, by->count, words * sizeof(*p.rows), (void **)&p.rows, e));
	TRY(promql_alloc(run, promql_index_count(x), words * sizeof(**ret_present),
			 (void **)ret_present, e));
	TRY(promql_parallel(run, by->count, 16, find_presence, &p, e));
	for (size_t i = 0; i < by->count; i++)
		for (size_t w = 0; w < words; w++)
			(*ret_present)[groups[i] * words + w] |= p.rows[i * words + w];
	promql_free(run, p.rows);
	promql_free(run, groups);
	return OK;
}

/* Which series of IN are in the result, and their labels behind those of WHOLE. */
static errc list_series(struct set_source *s, enum promql_operator op, struct promql_source *in,
			struct promql_source *whole, const struct promql_label_choice *choice,
			struct promql_index *x, struct err *e)
{
	struct arena *arena = &in->run->labels;
	size_t room = in->count + (whole ? whole->count : 0) + 1, count = 0;
	struct labels *labels = arena_array(arena, room, sizeof(*labels));
	bool *drop = arena_array(arena, room, sizeof(*drop));
	TRY(arena_check(arena, "the labels of the query", e));
	TRY(promql_alloc(in->run, in->count + 1, sizeof(*s->series), (void **)&s->series, e));
	TRY(promql_alloc(in->run, in->count + 1, sizeof(*s->groups), (void **)&s->groups, e));
	for (; whole && count < whole->count; count++) {
		labels[count] = whole->labels[count];
		drop[count] = whole->drop_name && whole->drop_name[count];
	}
	s->whole_count = count;
	for (size_t i = 0; i < in->count; i++) {
		uint32_t group = promql_index_find(x, choice, &in->labels[i]);
		if (group == UINT32_MAX && op == PROMQL_AND)
			continue;
		s->series[count - s->whole_count] = (uint32_t)i;
		s->groups[count - s->whole_count] = group;
		labels[count] = in->labels[i];
		drop[count++] = in->drop_name && in->drop_name[i];
	}
	s->base.labels = labels;
	s->base.drop_name = drop;
	s->base.count = count;
	return OK;
}

errc promql_set_node(const struct promql_op *op, const struct promql_matching *matching,
		     struct promql_source *left, struct promql_source *right,
		     struct promql_source **ret_source, struct err *e)
{
	struct set_source *s;
	struct promql_index *x;
	struct promql_table *stored;
	struct promql_label_choice choice;
	struct promql_run *run = op->run;
	bool is_or = op->op == PROMQL_OR;
	struct promql_source *in = is_or ? right : left, *by = is_or ? left : right;
	if (is_or) {
		/* asked twice: for where it is, and for what */
		TRY(promql_table_of(by, &stored, e));
		TRY(promql_source_of_table(stored, &by, e));
	}
	TRY(promql_choice_init(&run->labels, &matching->labels, matching->on, &choice, e));
	TRY(promql_index_new(run, by->count, &x, e));
	TRY(promql_source_new(run, &in->grid, sizeof(*s), &s, e));
	s->base.column = set_column;
	s->base.done = set_done;
	s->base.costly = in->costly;
	s->base.same_name = !is_or && in->same_name;
	s->inverted = op->op != PROMQL_AND;
	s->base.inputs[0] = in;
	TRY(group_presence(by, &choice, x, &s->present, e));
	TRY(list_series(s, op->op, in, is_or ? by : NULL, &choice, x, e));
	promql_index_free(x);
	TRY(promql_alloc(run, run->worker_count, sizeof(*s->masked), (void **)&s->masked, e));
	for (unsigned i = 0; i < run->worker_count; i++)
		TRY(promql_alloc(run, PROMQL_WORDS(in->grid.count), sizeof(uint64_t),
				 (void **)&s->masked[i], e));
	if (is_or)
		s->base.inputs[1] = by;
	else
		promql_source_free(by);
	*ret_source = &s->base;
	return is_or ? promql_source_unique(ret_source, false, e) : OK;
}
