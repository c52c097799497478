#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "query/promql/promql_eval_core.h"

/* ---- Tables. */

errc promql_table_new(struct promql_run *run, const struct promql_grid *grid, size_t room,
		      struct promql_table **ret_table, struct err *e)
{
	struct promql_table *t;
	size_t words = PROMQL_WORDS(grid->count);
	TRY(promql_alloc(run, 1, sizeof(*t), (void **)&t, e));
	t->run = run;
	t->grid = *grid;
	t->room = room;
	/* the run's list is of tables under which histograms may lie in arenas */
	t->next = run->tables;
	if (t->next)
		t->next->prev = t;
	run->tables = t;
	TRY(promql_alloc(run, room, sizeof(*t->labels), (void **)&t->labels, e));
	TRY(promql_alloc(run, room, sizeof(*t->drop_name), (void **)&t->drop_name, e));
	TRY(promql_alloc(run, room, grid->count * sizeof(*t->values), (void **)&t->values, e));
	TRY(promql_alloc(run, room, words * sizeof(*t->present), (void **)&t->present, e));
	TRY(promql_alloc(run, room, sizeof(*t->histograms), (void **)&t->histograms, e));
	TRY(promql_alloc(run, run->worker_count, sizeof(*t->arenas), (void **)&t->arenas, e));
	t->arena_count = run->worker_count;
	for (size_t i = 0; i < t->arena_count; i++)
		t->arenas[i] = arena_init(SIZE_MAX / 2);
	*ret_table = t;
	return OK;
}

void promql_table_free(struct promql_table *t)
{
	if (!t)
		return;
	struct promql_run *run = t->run;
	if (t->prev)
		t->prev->next = t->next;
	else
		run->tables = t->next;
	if (t->next)
		t->next->prev = t->prev;
	for (size_t i = 0; i < t->arena_count; i++)
		arena_done(&t->arenas[i]);
	promql_uncharge(run, t->histogram_bytes);
	for (size_t i = 0; t->histograms && i < t->count; i++)
		promql_free(run, t->histograms[i]);
	promql_free(run, t->labels);
	promql_free(run, t->drop_name);
	promql_free(run, t->values);
	promql_free(run, t->present);
	promql_free(run, t->histograms);
	promql_free(run, t->arenas);
	promql_free(run, t);
}

size_t promql_table_add(struct promql_table *t, struct labels labels, bool drop_name)
{
	must(t->count < t->room);
	t->labels[t->count] = labels;
	t->drop_name[t->count] = drop_name;
	return t->count++;
}

struct promql_column promql_table_column(const struct promql_table *t, size_t i)
{
	must_slow(i < t->count);
	return (struct promql_column){ .values = t->values + i * t->grid.count,
				       .present = t->present + i * PROMQL_WORDS(t->grid.count),
				       .histograms = t->histograms[i] };
}

errc promql_table_set_histogram(struct promql_table *t, unsigned worker, size_t i, size_t step,
				const struct histogram *histogram, struct err *e)
{
	struct promql_run *run = t->run;
	if (!t->histograms[i])
		TRY(promql_alloc(run, t->grid.count, sizeof(t->histograms[i][0]),
				 (void **)&t->histograms[i], e));
	struct arena *a = &t->arenas[worker];
	size_t before = a->used;
	const struct histogram *copy = histogram_copy(a, histogram);
	TRY(arena_check(a, "the histograms of the query", e));
	int64_t bytes = (int64_t)(a->used - before);
	TRY(promql_charge(run, bytes, e));
	__atomic_add_fetch(&t->histogram_bytes, bytes, __ATOMIC_RELAXED);
	struct promql_column c = promql_table_column(t, i);
	promql_set(&c, step, 0);
	c.histograms[step] = copy;
	return OK;
}

static bool row_is_empty(const struct promql_table *t, size_t i)
{
	size_t words = PROMQL_WORDS(t->grid.count);
	const uint64_t *present = t->present + i * words;
	for (size_t w = 0; w < words; w++)
		if (present[w])
			return false;
	return true;
}

static errc row_merge(struct promql_table *t, size_t into, size_t from, bool *ret_overlap,
		      struct err *e)
{
	struct promql_column a = promql_table_column(t, into), b = promql_table_column(t, from);
	for (size_t w = 0; w < PROMQL_WORDS(t->grid.count); w++)
		if (a.present[w] & b.present[w]) {
			*ret_overlap = true;
			return OK;
		}
	if (b.histograms && !a.histograms) {
		TRY(promql_alloc(t->run, t->grid.count, sizeof(a.histograms[0]),
				 (void **)&t->histograms[into], e));
		a = promql_table_column(t, into);
	}
	for (size_t step = 0; step < t->grid.count; step++) {
		if (!promql_has(&b, step))
			continue;
		promql_set(&a, step, b.values[step]);
		if (a.histograms)
			a.histograms[step] = promql_histogram(&b, step);
	}
	return OK;
}

static void row_move(struct promql_table *t, size_t into, size_t from)
{
	if (into == from)
		return;
	struct promql_column a = promql_table_column(t, into), b = promql_table_column(t, from);
	memcpy(a.values, b.values, t->grid.count * sizeof(a.values[0]));
	memcpy(a.present, b.present, PROMQL_WORDS(t->grid.count) * sizeof(a.present[0]));
	t->labels[into] = t->labels[from];
	t->drop_name[into] = t->drop_name[from];
	promql_free(t->run, t->histograms[into]);
	t->histograms[into] = t->histograms[from];
	t->histograms[from] = NULL;
}

errc promql_table_join(struct promql_table *t, bool strict, const char *message, struct err *e)
{
	struct promql_index *x;
	size_t kept = 0;
	TRY(promql_index_new(t->run, t->count, &x, e));
	for (size_t i = 0; i < t->count; i++) {
		uint32_t row;
		bool overlap = false;
		if (row_is_empty(t, i))
			continue;
		TRY(promql_index_put(x, NULL, &t->labels[i], &row, e));
		if (row == kept) {
			row_move(t, kept++, i);
			continue;
		}
		if (!strict)
			TRY(row_merge(t, row, i, &overlap, e));
		if (strict || overlap)
			FAIL(e, ERR_FAILED, "%s", message);
	}
	for (size_t i = kept; i < t->count; i++) {
		promql_free(t->run, t->histograms[i]);
		t->histograms[i] = NULL;
	}
	t->count = kept;
	promql_index_free(x);
	return OK;
}

errc promql_table_unique(struct promql_table *t, struct err *e)
{
	return promql_table_join(t, false, "vector cannot contain metrics with the same labelset",
				 e);
}

/* ---- Sources. */

errc promql_source_new(struct promql_run *run, const struct promql_grid *grid, size_t size,
		       void *ret_source, struct err *e)
{
	struct promql_source *s;
	TRY(promql_alloc(run, 1, size, (void **)&s, e));
	s->run = run;
	s->grid = *grid;
	s->next = run->sources;
	if (s->next)
		s->next->prev = s;
	run->sources = s;
	*(struct promql_source **)ret_source = s;
	return OK;
}

void promql_source_free(struct promql_source *s)
{
	if (!s)
		return;
	if (s->prev)
		s->prev->next = s->next;
	else
		s->run->sources = s->next;
	if (s->next)
		s->next->prev = s->prev;
	if (s->done)
		s->done(s);
	for (size_t i = 0; i < ARRAY_COUNT(s->inputs); i++)
		promql_source_free(s->inputs[i]);
	promql_table_free(s->table);
	promql_free(s->run, s);
}

static errc table_column(struct promql_source *s, unsigned worker, size_t i,
			 struct promql_column *ret, struct err *e)
{
	(void)worker, (void)e;
	*ret = promql_table_column(s->table, i);
	return OK;
}

errc promql_source_of_table(struct promql_table *t, struct promql_source **ret_source,
			    struct err *e)
{
	struct promql_source *s;
	TRY(promql_source_new(t->run, &t->grid, sizeof(*s), &s, e));
	s->table = t;
	s->labels = t->labels;
	s->drop_name = t->drop_name;
	s->count = t->count;
	s->ordered = t->ordered;
	s->column = table_column;
	*ret_source = s;
	return OK;
}

struct storing {
	struct promql_source *source;
	struct promql_table *table;
};

static errc store_histograms(struct promql_table *t, unsigned worker, size_t i,
			     const struct promql_column *from, struct err *e)
{
	for (size_t step = 0; step < t->grid.count; step++)
		if (promql_has(from, step) && from->histograms[step])
			TRY(promql_table_set_histogram(t, worker, i, step, from->histograms[step],
						       e));
	return OK;
}

static errc store_columns(void *ctx, unsigned worker, size_t begin, size_t end, struct err *e)
{
	struct storing *s = ctx;
	struct promql_table *t = s->table;
	for (size_t i = begin; i < end; i++) {
		struct promql_column from, into = promql_table_column(t, i);
		TRY(s->source->column(s->source, worker, i, &from, e));
		memcpy(into.values, from.values, t->grid.count * sizeof(into.values[0]));
		memcpy(into.present, from.present,
		       PROMQL_WORDS(t->grid.count) * sizeof(into.present[0]));
		if (from.histograms)
			TRY(store_histograms(t, worker, i, &from, e));
		promql_scratch_clear(t->run, worker);
	}
	return OK;
}

errc promql_table_of(struct promql_source *s, struct promql_table **ret_table, struct err *e)
{
	struct promql_table *t = s->table;
	if (t) {
		s->table = NULL;
		promql_source_free(s);
		*ret_table = t;
		return OK;
	}
	TRY(promql_table_new(s->run, &s->grid, s->count, &t, e));
	for (size_t i = 0; i < s->count; i++)
		promql_table_add(t, s->labels[i], s->drop_name && s->drop_name[i]);
	t->ordered = s->ordered;
	struct storing storing = { s, t };
	TRY(promql_parallel(s->run, s->count, 16, store_columns, &storing, e));
	promql_source_free(s);
	*ret_table = t;
	return OK;
}

errc promql_source_unique(struct promql_source **s, bool strict, struct err *e)
{
	bool equal;
	struct promql_table *t;
	TRY(promql_labels_have_equal((*s)->run, (*s)->labels, (*s)->count, &equal, e));
	if (!equal)
		return OK;
	TRY(promql_table_of(*s, &t, e));
	TRY(promql_table_join(t, strict, "vector cannot contain metrics with the same labelset",
			      e));
	return promql_source_of_table(t, s, e);
}

errc promql_source_drop_names(struct promql_source **source, bool strict, struct err *e)
{
	struct promql_source *s = *source;
	if (promql_delayed_names(s->run)) {
		bool *drop = s->table ? s->table->drop_name
				      : arena_array(&s->run->labels, s->count + 1, sizeof(*drop));
		TRY(arena_check(&s->run->labels, "the labels of the query", e));
		memset(drop, true, s->count * sizeof(*drop));
		s->drop_name = drop;
		return OK;
	}
	struct labels *labels = s->table ? s->table->labels
					 : arena_array(&s->run->labels, s->count + 1,
						       sizeof(*labels));
	TRY(arena_check(&s->run->labels, "the labels of the query", e));
	for (size_t i = 0; i < s->count; i++)
		labels[i] = promql_labels_without_name(&s->run->labels, &s->labels[i]);
	s->labels = labels;
	TRY(promql_charge_labels(s->run, e));
	return s->same_name ? OK : promql_source_unique(source, strict, e);
}

/* ---- Buffers. */

errc promql_buffers_new(struct promql_run *run, size_t steps, struct promql_buffers **ret_buffers,
			struct err *e)
{
	struct promql_buffers *b;
	TRY(promql_alloc(run, run->worker_count, sizeof(*b), (void **)&b, e));
	for (unsigned i = 0; i < run->worker_count; i++) {
		b[i].steps = steps;
		TRY(promql_alloc(run, steps, sizeof(*b->values), (void **)&b[i].values, e));
		TRY(promql_alloc(run, PROMQL_WORDS(steps), sizeof(*b->present),
				 (void **)&b[i].present, e));
	}
	*ret_buffers = b;
	return OK;
}

void promql_buffers_free(struct promql_run *run, struct promql_buffers *b)
{
	for (unsigned i = 0; b && i < run->worker_count; i++) {
		promql_free(run, b[i].values);
		promql_free(run, b[i].present);
		promql_free(run, b[i].histograms);
	}
	promql_free(run, b);
}

struct promql_column promql_buffers_clear(struct promql_buffers *b)
{
	memset(b->present, 0, PROMQL_WORDS(b->steps) * sizeof(b->present[0]));
	return (struct promql_column){ .values = b->values, .present = b->present };
}

errc promql_buffers_histograms(struct promql_run *run, struct promql_buffers *b,
			       struct promql_column *c, struct err *e)
{
	if (c->histograms)
		return OK;
	if (!b->histograms)
		TRY(promql_alloc(run, b->steps, sizeof(b->histograms[0]), (void **)&b->histograms,
				 e));
	memset(b->histograms, 0, b->steps * sizeof(b->histograms[0]));
	c->histograms = b->histograms;
	return OK;
}
