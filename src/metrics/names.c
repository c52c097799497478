/* Names, values, series, exemplars, metadata: what there is, without samples. */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/selection.h"
#include "metrics/series_key.h"

enum { TEXTS_BYTES_MAX = 256 << 20 };

/* A set of texts. */
struct texts {
	struct arena arena;
	str *slots; /* open addressing; ptr NULL: empty */
	size_t slot_count, count;
};

static struct texts texts_init(void)
{
	struct texts t = { .arena = arena_init(TEXTS_BYTES_MAX), .slot_count = 256 };
	t.slots = must_calloc(t.slot_count, sizeof(t.slots[0]));
	return t;
}

static void texts_done(struct texts *t)
{
	free(t->slots);
	arena_done(&t->arena);
}

static str *place_of(const struct texts *t, str s)
{
	size_t at = (size_t)series_key_hash(s) & (t->slot_count - 1);
	while (t->slots[at].ptr && !str_eq(t->slots[at], s))
		at = (at + 1) & (t->slot_count - 1);
	return &t->slots[at];
}

static void grow(struct texts *t)
{
	str *before = t->slots;
	size_t before_count = t->slot_count;
	t->slot_count *= 2;
	t->slots = must_calloc(t->slot_count, sizeof(t->slots[0]));
	for (size_t i = 0; i < before_count; i++)
		if (before[i].ptr)
			*place_of(t, before[i]) = before[i];
	free(before);
}

static errc add_text(struct texts *t, str s, struct err *e)
{
	str *place = place_of(t, s);
	if (place->ptr)
		return OK;
	*place = arena_str(&t->arena, s);
	TRY(arena_check(&t->arena, "the names", e));
	if (++t->count * 2 > t->slot_count)
		grow(t);
	return OK;
}

static int by_text(const void *a, const void *b)
{
	return str_cmp(*(const str *)a, *(const str *)b);
}

static errc give(const struct texts *t, size_t limit, struct arena *arena,
		 struct metrics_names *ret, struct err *e)
{
	str *items = arena_array(arena, t->count + 1, sizeof(items[0]));
	size_t n = 0;
	TRY(arena_check(arena, "the names", e));
	for (size_t i = 0; i < t->slot_count; i++)
		if (t->slots[i].ptr)
			items[n++] = t->slots[i];
	if (n)
		qsort(items, n, sizeof(items[0]), by_text);
	bool truncated = limit && n > limit;
	n = truncated ? limit : n;
	for (size_t i = 0; i < n; i++)
		items[i] = arena_str(arena, items[i]);
	TRY(arena_check(arena, "the names", e));
	*ret = (struct metrics_names){ items, n, truncated };
	return OK;
}

/* ---- Without matchers: what the indexes list. */

static errc see_text(void *ctx, str value, uint64_t series_count, struct err *e)
{
	(void)series_count;
	return add_text(ctx, value, e);
}

static bool any_live(const struct metrics *m, const struct posting *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		if (series_table_get(&m->table, posting_ids(p)[i]))
			return true;
	return false;
}

/* NAME empty: names, else the values of NAME. Holds: index, shared. */
static errc list_live(const struct metrics *m, str name, struct texts *t, struct err *e)
{
	for (size_t i = 0; i < m->table.name_count; i++) {
		const struct label_postings *n = &m->table.names[i];
		if (name.len && !str_eq(n->name, name))
			continue;
		for (size_t k = 0; k < n->count; k++) {
			if (!any_live(m, n->items[k]))
				continue;
			TRY(add_text(t, name.len ? posting_value(n->items[k]) : n->name, e));
			if (!name.len)
				break;
		}
	}
	return OK;
}

static errc list_all(struct metrics *m, str name, time_ms from, time_ms to, struct texts *t,
		     struct err *e)
{
	struct view *v = engine_view(m);
	pthread_rwlock_rdlock(&m->index);
	errc rc = list_live(m, name, t, e);
	pthread_rwlock_unlock(&m->index);
	for (size_t i = 0; i < v->segment_count && rc == OK; i++) {
		uint32_t day = index_segment_day(v->segments[i]);
		if (day >= day_of(from) && day <= day_of(to))
			rc = index_segment_values(v->segments[i], name, see_text, t, e);
	}
	view_unref(v);
	return rc;
}

/* ---- With matchers: of the series that match. */

static errc list_matching(struct metrics *m, str name, const struct metrics_matchers *sets,
			  size_t set_count, time_ms from, time_ms to, struct metrics_budget *budget,
			  struct texts *t, struct err *e)
{
	struct match_list l CLEANUP(match_list_done) = { 0 };
	TRY(match_series(m, sets, set_count, from, to, 0, budget, &l, e));
	for (size_t i = 0; i < l.count; i++) {
		struct label items[LABELS_COUNT_MAX];
		if (name.len) {
			str value = series_key_get(l.items[i].key, name);
			if (value.len)
				TRY(add_text(t, value, e));
			continue;
		}
		size_t count = series_key_labels(l.items[i].key, items);
		for (size_t k = 0; count != SIZE_MAX && k < count; k++)
			TRY(add_text(t, items[k].name, e));
	}
	return OK;
}

static errc list(struct metrics *m, str name, const struct metrics_matchers *sets, size_t set_count,
		 time_ms from, time_ms to, size_t limit, struct metrics_budget *budget,
		 struct arena *arena, struct metrics_names *ret, struct err *e)
{
	struct texts t = texts_init();
	errc rc = set_count ? list_matching(m, name, sets, set_count, from, to, budget, &t, e)
			    : list_all(m, name, from, to, &t, e);
	if (rc == OK)
		rc = give(&t, limit, arena, ret, e);
	texts_done(&t);
	return rc;
}

errc metrics_label_names(struct metrics *m, const struct metrics_matchers *sets, size_t set_count,
			 time_ms from, time_ms to, size_t limit, struct metrics_budget *budget,
			 struct arena *arena, struct metrics_names *ret, struct err *e)
{
	return list(m, STR(""), sets, set_count, from, to, limit, budget, arena, ret, e);
}

errc metrics_label_values(struct metrics *m, str name, const struct metrics_matchers *sets,
			  size_t set_count, time_ms from, time_ms to, size_t limit,
			  struct metrics_budget *budget, struct arena *arena,
			  struct metrics_names *ret, struct err *e)
{
	if (!name.len) {
		*ret = (struct metrics_names){ 0 };
		return OK;
	}
	return list(m, name, sets, set_count, from, to, limit, budget, arena, ret, e);
}

/* ---- Series. */

errc metrics_series(struct metrics *m, const struct metrics_matchers *sets, size_t set_count,
		    time_ms from, time_ms to, size_t limit, struct metrics_budget *budget,
		    struct arena *arena, struct labels **ret_series, size_t *ret_count,
		    bool *ret_truncated, struct err *e)
{
	struct match_list l CLEANUP(match_list_done) = { 0 };
	size_t n = 0;
	TRY(match_series(m, sets, set_count, from, to, 0, budget, &l, e));
	struct labels *series = arena_array(arena, l.count + 1, sizeof(series[0]));
	TRY(arena_check(arena, "the series", e));
	*ret_truncated = false;
	for (size_t i = 0; i < l.count; i++) {
		struct label items[LABELS_COUNT_MAX];
		if (i && str_eq(l.items[i].key, l.items[i - 1].key))
			continue;
		if (limit && n == limit) {
			*ret_truncated = true;
			break;
		}
		struct labels labels = { items, series_key_labels(l.items[i].key, items) };
		if (labels.count == SIZE_MAX)
			continue;
		series[n++] = labels_copy(arena, &labels);
	}
	TRY(arena_check(arena, "the series", e));
	*ret_series = series;
	*ret_count = n;
	return OK;
}

errc names_count_series(struct metrics *m, const struct matcher *matchers, size_t matcher_count,
			time_ms from, time_ms to, uint64_t *ret_count, struct err *e)
{
	struct match_list l CLEANUP(match_list_done) = { 0 };
	const struct metrics_matchers set = { matchers, matcher_count };
	uint64_t count = 0;
	TRY(match_series(m, &set, 1, from, to, 0, NULL, &l, e));
	for (size_t i = 0; i < l.count; i++)
		count += !i || !str_eq(l.items[i].key, l.items[i - 1].key);
	*ret_count = count;
	return OK;
}

/* ---- Exemplars. */

static int by_time(const void *a, const void *b)
{
	const struct metrics_exemplar *x = a, *y = b;
	return (x->time > y->time) - (x->time < y->time);
}

/* Those of one series, copied into ARENA. Holds: state. */
static size_t take_exemplars(const struct metrics *m, uint32_t id, time_ms from, time_ms to,
			     struct arena *arena, struct metrics_exemplar *into)
{
	const struct stored_exemplar *found[EXEMPLARS_PER_SERIES];
	size_t n = exemplar_store_get(&m->exemplars, id, from, to, found), count = 0;
	for (size_t i = 0; i < n; i++) {
		struct label items[LABELS_COUNT_MAX];
		uint32_t len;
		memcpy(&len, found[i]->key, sizeof(len));
		str key = { (const char *)found[i]->key + sizeof(len), len };
		struct labels labels = { items, series_key_labels(key, items) };
		if (labels.count == SIZE_MAX)
			continue;
		into[count++] = (struct metrics_exemplar){ labels_copy(arena, &labels),
							   found[i]->time, found[i]->value };
	}
	if (count)
		qsort(into, count, sizeof(into[0]), by_time);
	return count;
}

errc metrics_exemplars_query(struct metrics *m, const struct metrics_matchers *sets,
			     size_t set_count, time_ms from, time_ms to, struct arena *arena,
			     struct metrics_exemplars **ret, size_t *ret_count, struct err *e)
{
	struct match_list l CLEANUP(match_list_done) = { 0 };
	size_t n = 0;
	TRY(match_series(m, sets, set_count, from, to, 0, NULL, &l, e));
	struct metrics_exemplars *all = arena_array(arena, l.count + 1, sizeof(all[0]));
	TRY(arena_check(arena, "the exemplars", e));
	for (size_t i = 0; i < l.count; i++) {
		struct metrics_exemplar found[EXEMPLARS_PER_SERIES];
		struct label items[LABELS_COUNT_MAX];
		pthread_mutex_lock(&m->state);
		size_t count = take_exemplars(m, l.items[i].id, from, to, arena, found);
		pthread_mutex_unlock(&m->state);
		if (!count)
			continue;
		struct metrics_exemplar *copy = arena_array(arena, count, sizeof(copy[0]));
		TRY(arena_check(arena, "the exemplars", e));
		memcpy(copy, found, count * sizeof(copy[0]));
		struct labels labels = { items, series_key_labels(l.items[i].key, items) };
		all[n++] = (struct metrics_exemplars){ labels_copy(arena, &labels), copy, count };
	}
	TRY(arena_check(arena, "the exemplars", e));
	*ret = all;
	*ret_count = n;
	return OK;
}

/* ---- Metadata. */

errc metrics_metadata_list(struct metrics *m, str name, size_t limit, struct arena *arena,
			   struct metrics_metadata **ret, size_t *ret_count, struct err *e)
{
	size_t n = 0;
	pthread_mutex_lock(&m->state);
	size_t count = m->metadata.count;
	struct metrics_metadata *items = arena_array(arena, count + 1, sizeof(items[0]));
	for (size_t i = 0; items && i < count && !(limit && n == limit); i++) {
		const struct metrics_metadata *x = &m->metadata.items[i];
		if (name.len && !str_eq(x->name, name))
			continue;
		items[n++] = (struct metrics_metadata){ arena_str(arena, x->name), x->type,
							arena_str(arena, x->help),
							arena_str(arena, x->unit) };
	}
	pthread_mutex_unlock(&m->state);
	TRY(arena_check(arena, "the metadata", e));
	*ret = items;
	*ret_count = n;
	return OK;
}
