/* A snapshot of what matchers select, and reading it. */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/samples.h"
#include "metrics/selection.h"
#include "metrics/series_key.h"

enum { LABELS_BYTES_MAX_ALL = 2000000000, HEADS = 2 };

/* Where the samples of one id in the heads begin. */
struct chains {
	uint32_t last[HEADS];
	bool in_order[HEADS];
};

struct selected {
	struct labels labels;
	size_t first, count; /* of the matches with these labels */
};

struct metrics_selection {
	struct metrics *m;
	struct metrics_query query;
	struct match_list matches;
	struct chains *chains; /* as the matches */
	struct selected *series;
	size_t count;
	struct arena labels;
	struct view *view;
	struct metrics_part **parts; /* that may have samples in the range, oldest first */
	size_t part_count;
	struct head *heads[HEADS]; /* the frozen one first; may be NULL */
	size_t charged;
	uint64_t bad; /* atomic */
};

void metrics_selection_free(struct metrics_selection *s)
{
	if (!s)
		return;
	if (s->charged)
		(void)!metrics_charge(s->m, s->query.budget, -(int64_t)s->charged, NULL);
	match_list_done(&s->matches);
	free(s->chains);
	free(s->series);
	arena_done(&s->labels);
	free(s->parts);
	for (size_t i = 0; i < HEADS; i++)
		head_unref(s->heads[i]);
	view_unref(s->view);
	free(s);
}

/* ---- The snapshot. */

/* View, heads and where each series begins in them, all of one moment. */
static void take_snapshot(struct metrics_selection *s)
{
	struct metrics *m = s->m;
	s->chains = must_calloc(s->matches.count + 1, sizeof(s->chains[0]));
	pthread_mutex_lock(&m->state);
	s->view = view_ref(m->view);
	s->heads[0] = m->frozen ? head_ref(m->frozen) : NULL;
	s->heads[1] = head_ref(m->head);
	for (size_t i = 0; i < s->matches.count; i++) {
		const struct series *series = series_table_get(&m->table, s->matches.items[i].id);
		for (size_t h = 0; series && h < HEADS; h++) {
			if (!s->heads[h])
				continue;
			s->chains[i].last[h] = head_chain(s->heads[h], series);
			s->chains[i].in_order[h] = head_in_order(series, s->heads[h]);
		}
	}
	pthread_mutex_unlock(&m->state);
}

static bool has_resolution(const struct view *v, const struct metrics_part_meta *p,
			   enum metrics_resolution resolution)
{
	for (size_t i = 0; i < v->part_count; i++) {
		const struct metrics_part_meta *other = metrics_part_meta(v->parts[i]);
		if (other->resolution == resolution && other->day == p->day &&
		    other->retention_class == p->retention_class)
			return true;
	}
	return false;
}

/* Of each day and class the resolution that was asked for; without it the next finer one that there
 * is, else the next coarser one. */
static bool is_wanted(const struct view *v, const struct metrics_part_meta *p,
		      enum metrics_resolution wanted)
{
	static const enum metrics_resolution order[3][3] = {
		[METRICS_RAW] = { METRICS_RAW, METRICS_5M, METRICS_1H },
		[METRICS_5M] = { METRICS_5M, METRICS_RAW, METRICS_1H },
		[METRICS_1H] = { METRICS_1H, METRICS_5M, METRICS_RAW },
	};
	for (size_t i = 0; i < 3; i++) {
		if (p->resolution == order[wanted][i])
			return true;
		if (has_resolution(v, p, order[wanted][i]))
			return false;
	}
	return false;
}

static void choose_parts(struct metrics_selection *s)
{
	const struct view *v = s->view;
	s->parts = must_calloc(v->part_count + 1, sizeof(s->parts[0]));
	for (size_t i = 0; i < v->part_count; i++) {
		const struct metrics_part_meta *p = metrics_part_meta(v->parts[i]);
		if (p->max_time >= s->query.from && p->min_time <= s->query.to &&
		    is_wanted(v, p, s->query.resolution))
			s->parts[s->part_count++] = v->parts[i];
	}
}

static errc group_series(struct metrics_selection *s, struct err *e)
{
	const struct match_list *l = &s->matches;
	s->series = must_calloc(l->count + 1, sizeof(s->series[0]));
	for (size_t i = 0, n; i < l->count; i += n) {
		struct label items[LABELS_COUNT_MAX];
		size_t count = series_key_labels(l->items[i].key, items);
		n = 1;
		while (i + n < l->count && str_eq(l->items[i + n].key, l->items[i].key))
			n++;
		must(count != SIZE_MAX);
		struct label *copy = arena_array(&s->labels, count + 1, sizeof(copy[0]));
		TRY(arena_check(&s->labels, "the labels of the series", e));
		memcpy(copy, items, count * sizeof(copy[0]));
		s->series[s->count++] = (struct selected){ { copy, count }, i, n };
	}
	return OK;
}

static errc select_series(struct metrics_selection *s, struct err *e)
{
	const struct metrics_matchers set = { s->query.matchers, s->query.matcher_count };
	TRY(match_series(s->m, &set, 1, s->query.from, s->query.to, s->query.series_count_max,
			 s->query.budget, &s->matches, e));
	take_snapshot(s);
	choose_parts(s);
	TRY(group_series(s, e));
	size_t bytes = s->matches.arena.used + s->labels.used +
		       s->matches.room * sizeof(struct match) +
		       s->matches.count * (sizeof(struct chains) + sizeof(struct selected));
	TRY(metrics_charge(s->m, s->query.budget, (int64_t)bytes, e));
	s->charged = bytes;
	return OK;
}

errc metrics_select(struct metrics *m, const struct metrics_query *query,
		    struct metrics_selection **ret_selection, struct err *e)
{
	struct metrics_selection *s = must_calloc(1, sizeof(*s));
	s->m = m;
	s->query = *query;
	s->labels = arena_init(LABELS_BYTES_MAX_ALL);
	errc rc = select_series(s, e);
	if (rc != OK) {
		metrics_selection_free(s);
		return rc;
	}
	*ret_selection = s;
	return OK;
}

size_t metrics_selection_count(const struct metrics_selection *s)
{
	return s->count;
}

struct labels metrics_selection_labels(const struct metrics_selection *s, size_t index)
{
	must(index < s->count);
	return s->series[index].labels;
}

uint64_t metrics_selection_bad_blocks(const struct metrics_selection *s)
{
	return __atomic_load_n(&s->bad, __ATOMIC_RELAXED);
}

/* ---- Reading. */

/* What stands in INTO from FIRST on was written later than what is before it: in order, and of
 * equal times the later stays. */
static void settle(struct metrics_samples *into, size_t first)
{
	struct samples_scratch *scratch = samples_scratch(into);
	struct metrics_samples *run = &scratch->run, *merged = &scratch->merged;
	if (!first || first == into->count || into->times[first - 1] < into->times[first])
		return;
	run->count = merged->count = 0;
	free(run->histograms);
	free(merged->histograms);
	run->histograms = merged->histograms = NULL;
	samples_append(run, into, first, into->count - first);
	into->count = first;
	samples_merge(merged, into, run);
	/* the arrays change places; the arena and the scratch stay */
	struct metrics_samples swap = *into;
	into->times = merged->times;
	into->values = merged->values;
	into->histograms = merged->histograms;
	into->count = merged->count;
	into->room = merged->room;
	merged->times = swap.times;
	merged->values = swap.values;
	merged->histograms = swap.histograms;
	merged->room = swap.room;
	merged->count = 0;
	into->times_key = 0;
}

static void hide_deleted(const struct metrics_selection *s, const struct metrics_part *p, str key,
			 struct metrics_samples *into, size_t first)
{
	const struct metrics_part_meta *meta = metrics_part_meta(p);
	for (size_t i = 0; i < s->view->tombstone_count; i++) {
		const struct tombstone *t = s->view->tombstones[i];
		if (meta->last_write <= t->write && meta->purged < t->number &&
		    into->count > first && into->times[first] <= t->to &&
		    into->times[into->count - 1] >= t->from && tombstone_selects(t, key))
			tombstone_apply(t, into, first);
	}
}

static errc read_match(struct metrics_selection *s, size_t index, time_ms from, time_ms to,
		       struct metrics_samples *into, struct err *e)
{
	const struct match *match = &s->matches.items[index];
	const struct chains *chains = &s->chains[index];
	uint64_t bad = 0;
	for (size_t i = 0; i < s->part_count; i++) {
		size_t first = into->count;
		TRY(metrics_part_read(s->parts[i], match->id, from, to, s->query.rollup, into, &bad,
				      e));
		if (s->view->tombstone_count)
			hide_deleted(s, s->parts[i], match->key, into, first);
		settle(into, first);
	}
	for (size_t h = 0; h < HEADS; h++) {
		size_t first = into->count;
		if (!chains->last[h])
			continue;
		TRY(head_read(s->heads[h], chains->last[h], chains->in_order[h], from, to, into,
			      e));
		if (into->count == first)
			continue;
		into->times_key = 0;
		settle(into, first);
	}
	if (bad) {
		__atomic_fetch_add(&s->bad, bad, __ATOMIC_RELAXED);
		count_up(&s->m->counters.bad_blocks, bad);
	}
	return OK;
}

errc metrics_selection_read(struct metrics_selection *s, size_t index, time_ms from, time_ms to,
			    struct metrics_samples *into, struct err *e)
{
	must(index < s->count);
	const struct selected *series = &s->series[index];
	samples_clear(into);
	for (size_t i = 0; i < series->count; i++) {
		size_t first = into->count;
		TRY(read_match(s, series->first + i, from, to, into, e));
		if (i && into->count > first) {
			into->times_key = 0;
			settle(into, first);
		}
	}
	if (!into->count) /* the key is of the read before */
		into->times_key = 0;
	return metrics_charge_samples(s->query.budget, into->count, e);
}
