#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/selection.h"
#include "metrics/series_key.h"

enum { KEYS_BYTES_MAX = 2000000000, LOOKS_AT_ONCE = 256 };

void match_list_done(struct match_list *l)
{
	free(l->items);
	arena_done(&l->arena);
	*l = (struct match_list){ 0 };
}

/* Of the engine when the search began. */
struct search {
	struct metrics *m;
	const struct metrics_matchers *sets;
	size_t set_count, series_max;
	struct view *view;
	uint32_t generations[2]; /* of the heads that have samples in the range; 0: none */
	struct id_set known;     /* the ids in the list */
	struct id_set indexed;   /* those that the days have */
	struct match_list list;
};

static errc add_match(struct match_list *l, uint32_t id, uint32_t rank, str key, struct err *e)
{
	if (l->count == l->room) {
		l->room = l->room ? l->room * 2 : 64;
		l->items = must_realloc(l->items, l->room * sizeof(l->items[0]));
	}
	l->items[l->count++] = (struct match){ id, rank, false, arena_str(&l->arena, key) };
	return arena_check(&l->arena, "the labels of the series", e);
}

static errc match_sets(const struct index_source *source, const struct metrics_matchers *sets,
		       size_t set_count, struct id_set *into, struct err *e)
{
	if (!set_count)
		return source->all(source->ctx, into, e);
	for (size_t i = 0; i < set_count; i++) {
		struct id_set one CLEANUP(id_set_done) = { 0 };
		TRY(index_match(source, sets[i].matchers, sets[i].count, &one, e));
		id_set_normalize(&one);
		id_set_unite(into, one.ids, one.count);
	}
	return OK;
}

static errc check_count(size_t count, size_t series_max, struct err *e)
{
	if (series_max && count > series_max)
		FAIL(e, ERR_FAILED,
		     "the query selects more than %zu series; add matchers so that it selects "
		     "fewer",
		     series_max);
	return OK;
}

/* Which of the live series have samples in the heads. A chain that a later head has taken over
 * counts as one, too: there is no telling any more. Holds: index. */
static void look_into_heads(struct search *s)
{
	struct metrics *m = s->m;
	for (size_t i = 0; i < s->list.count; i += LOOKS_AT_ONCE) {
		pthread_mutex_lock(&m->state);
		for (size_t k = i; k < s->list.count && k < i + LOOKS_AT_ONCE; k++) {
			struct match *match = &s->list.items[k];
			const struct series *series = series_table_get(&m->table, match->id);
			for (size_t h = 0; h < ARRAY_COUNT(s->generations); h++)
				if (s->generations[h])
					match->in_head |=
						series->chain[s->generations[h] & 1].generation >=
						s->generations[h];
		}
		pthread_mutex_unlock(&m->state);
	}
}

static errc match_live(struct search *s, struct err *e)
{
	struct metrics *m = s->m;
	struct id_set *ids = &s->known;
	size_t kept = 0;
	pthread_rwlock_rdlock(&m->index);
	struct index_source source = series_table_source(&m->table);
	errc rc = match_sets(&source, s->sets, s->set_count, ids, e);
	if (rc == OK)
		rc = check_count(ids->count, s->series_max, e);
	for (size_t i = 0; i < ids->count && rc == OK; i++) {
		const struct series *series = series_table_get(&m->table, ids->ids[i]);
		if (!series || !series->key)
			continue;
		ids->ids[kept++] = series->id;
		rc = add_match(&s->list, series->id, series->rank, series_key(series), e);
	}
	ids->count = kept;
	if (rc == OK)
		look_into_heads(s);
	pthread_rwlock_unlock(&m->index);
	return rc;
}

/* Those of a day's index that are not known yet. */
static errc match_segment(struct search *s, struct index_segment *segment, struct err *e)
{
	struct buf key CLEANUP(buf_done) = buf_init(SERIES_KEY_BYTES_MAX);
	struct id_set ids CLEANUP(id_set_done) = { 0 };
	struct index_source source = index_segment_source(segment);
	TRY(match_sets(&source, s->sets, s->set_count, &ids, e));
	id_set_normalize(&ids);
	id_set_unite(&s->indexed, ids.ids, ids.count);
	id_set_subtract(&ids, s->known.ids, s->known.count);
	TRY(check_count(s->known.count + ids.count, s->series_max, e));
	for (size_t i = 0; i < ids.count; i++)
		if (index_segment_key(segment, ids.ids[i], &key))
			TRY(add_match(&s->list, ids.ids[i], 0, buf_str(&key), e));
	id_set_unite(&s->known, ids.ids, ids.count);
	return OK;
}

/* Live series of which neither heads nor days of the range have samples. */
static void drop_others(struct search *s)
{
	size_t kept = 0;
	for (size_t i = 0; i < s->list.count; i++)
		if (s->list.items[i].in_head || id_set_has(&s->indexed, s->list.items[i].id))
			s->list.items[kept++] = s->list.items[i];
	s->list.count = kept;
}

static int by_rank(const void *a, const void *b)
{
	const struct match *x = a, *y = b;
	return (x->rank > y->rank) - (x->rank < y->rank);
}

static int by_labels(const void *a, const void *b)
{
	const struct match *x = a, *y = b;
	int order = series_key_cmp(x->key, y->key);
	return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* How many of COUNT items come before X. */
static size_t place_of(const struct match *items, size_t count, const struct match *x)
{
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (by_labels(&items[middle], x) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Ranked ones by rank, the others by their labels, and put in between. */
static void sort(struct match_list *l)
{
	struct match *all = must_calloc(l->count + 1, sizeof(all[0])), *others;
	size_t ranked = 0, rest = 0, done = 0, n = 0;
	for (size_t i = 0; i < l->count; i++)
		if (l->items[i].rank)
			all[ranked++] = l->items[i];
	others = all + ranked;
	for (size_t i = 0; i < l->count; i++)
		if (!l->items[i].rank)
			others[rest++] = l->items[i];
	if (ranked)
		qsort(all, ranked, sizeof(all[0]), by_rank);
	if (rest)
		qsort(others, rest, sizeof(others[0]), by_labels);
	for (size_t i = 0; i < rest; i++) {
		size_t before = place_of(all + done, ranked - done, &others[i]);
		memcpy(l->items + n, all + done, before * sizeof(all[0]));
		done += before;
		n += before;
		l->items[n++] = others[i];
	}
	if (done < ranked)
		memcpy(l->items + n, all + done, (ranked - done) * sizeof(all[0]));
	free(all);
}

static void begin(struct search *s, time_ms from, time_ms to)
{
	struct metrics *m = s->m;
	pthread_mutex_lock(&m->state);
	const struct head *heads[] = { m->frozen, m->head };
	s->view = view_ref(m->view);
	for (size_t i = 0; i < ARRAY_COUNT(heads); i++)
		if (heads[i] && heads[i]->min_time <= to && heads[i]->max_time >= from)
			s->generations[i] = heads[i]->generation;
	pthread_mutex_unlock(&m->state);
}

errc match_series(struct metrics *m, const struct metrics_matchers *sets, size_t set_count,
		  time_ms from, time_ms to, size_t series_max, struct metrics_budget *budget,
		  struct match_list *ret, struct err *e)
{
	struct search s = { .m = m,
			    .sets = sets,
			    .set_count = set_count,
			    .series_max = series_max,
			    .list.arena = arena_init(KEYS_BYTES_MAX) };
	begin(&s, from, to);
	errc rc = match_live(&s, e);
	if (rc == OK)
		rc = metrics_charge_samples(budget, 0, e); /* is it time to stop? */
	for (size_t i = 0; i < s.view->segment_count && rc == OK; i++) {
		uint32_t day = index_segment_day(s.view->segments[i]);
		if (day >= day_of(from) && day <= day_of(to))
			rc = match_segment(&s, s.view->segments[i], e);
		if (rc == OK)
			rc = metrics_charge_samples(budget, 0, e);
	}
	drop_others(&s);
	view_unref(s.view);
	id_set_done(&s.known);
	id_set_done(&s.indexed);
	if (rc != OK) {
		match_list_done(&s.list);
		return rc;
	}
	sort(&s.list);
	*ret = s.list;
	return OK;
}
