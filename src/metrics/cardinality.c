/* Where series come from: counts by metric, label and pair of a day. */
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "metrics/selection.h"
#include "metrics/series_key.h"

enum { NAMES_BYTES_MAX = 256 << 20 };

struct row {
	str name;
	uint64_t series, created, values;
};

struct counting {
	struct arena arena;
	struct row *rows; /* open addressing; name.ptr NULL: empty */
	size_t slot_count, count;
};

static struct row *place_of(const struct counting *c, str name)
{
	size_t at = (size_t)series_key_hash(name) & (c->slot_count - 1);
	while (c->rows[at].name.ptr && !str_eq(c->rows[at].name, name))
		at = (at + 1) & (c->slot_count - 1);
	return &c->rows[at];
}

static void grow(struct counting *c)
{
	struct row *before = c->rows;
	size_t before_count = c->slot_count;
	c->slot_count *= 2;
	c->rows = must_calloc(c->slot_count, sizeof(c->rows[0]));
	for (size_t i = 0; i < before_count; i++)
		if (before[i].name.ptr)
			*place_of(c, before[i].name) = before[i];
	free(before);
}

static errc count_one(struct counting *c, str name, bool created, bool *ret_fresh, struct err *e)
{
	struct row *row = place_of(c, name);
	bool fresh = !row->name.ptr;
	if (fresh) {
		row->name = arena_str(&c->arena, name);
		TRY(arena_check(&c->arena, "the names of the cardinality", e));
	}
	row->series++;
	row->created += created;
	if (ret_fresh)
		*ret_fresh = fresh;
	if (fresh && ++c->count * 2 > c->slot_count)
		grow(c);
	return OK;
}

/* A pair that was not seen yet is one more value of its label. */
static errc count_labels(struct counting *pairs, struct counting *labels, str key, bool created,
			 struct err *e)
{
	struct buf pair CLEANUP(buf_done) = buf_init(LABELS_BYTES_MAX);
	struct label items[LABELS_COUNT_MAX];
	size_t count = series_key_labels(key, items);
	for (size_t i = 0; count != SIZE_MAX && i < count; i++) {
		bool fresh = false;
		buf_clear(&pair);
		buf_add(&pair, items[i].name);
		buf_add_byte(&pair, '=');
		buf_add(&pair, items[i].value);
		TRY(count_one(pairs, buf_str(&pair), created, &fresh, e));
		TRY(count_one(labels, items[i].name, created, NULL, e));
		place_of(labels, items[i].name)->values += fresh;
	}
	return OK;
}

static int most_first(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	if (x->series != y->series)
		return x->series > y->series ? -1 : 1;
	return str_cmp(x->name, y->name);
}

static errc give(struct counting *c, size_t top, struct arena *arena,
		 struct metrics_cardinality **ret, size_t *ret_count, struct err *e)
{
	size_t n = 0;
	for (size_t i = 0; i < c->slot_count; i++)
		if (c->rows[i].name.ptr)
			c->rows[n++] = c->rows[i];
	if (n)
		qsort(c->rows, n, sizeof(c->rows[0]), most_first);
	n = top && n > top ? top : n;
	struct metrics_cardinality *rows = arena_array(arena, n + 1, sizeof(rows[0]));
	TRY(arena_check(arena, "the cardinality", e));
	for (size_t i = 0; i < n; i++)
		rows[i] = (struct metrics_cardinality){ arena_str(arena, c->rows[i].name),
							c->rows[i].series, c->rows[i].values,
							c->rows[i].created };
	TRY(arena_check(arena, "the cardinality", e));
	*ret = rows;
	*ret_count = n;
	return OK;
}

/* Series have ascending ids: those made today are above the highest that an earlier day has. */
static uint32_t highest_before(struct metrics *m, uint32_t day)
{
	struct view *v = engine_view(m);
	uint32_t highest = 0;
	for (size_t i = 0; i < v->segment_count; i++) {
		struct id_set ids CLEANUP(id_set_done) = { 0 };
		struct index_source source = index_segment_source(v->segments[i]);
		if (index_segment_day(v->segments[i]) >= day ||
		    source.all(source.ctx, &ids, NULL) != OK)
			continue;
		for (size_t k = 0; k < ids.count; k++)
			highest = ids.ids[k] > highest ? ids.ids[k] : highest;
	}
	view_unref(v);
	return highest;
}

static struct counting counting_init(void)
{
	struct counting c = { .arena = arena_init(NAMES_BYTES_MAX), .slot_count = 256 };
	c.rows = must_calloc(c.slot_count, sizeof(c.rows[0]));
	return c;
}

static void counting_done(struct counting *c)
{
	free(c->rows);
	arena_done(&c->arena);
}

errc metrics_cardinality(struct metrics *m, enum metrics_cardinality_by by, time_ms day, size_t top,
			 struct arena *arena, struct metrics_cardinality **ret, size_t *ret_count,
			 struct err *e)
{
	struct match_list l CLEANUP(match_list_done) = { 0 };
	struct counting CLEANUP(counting_done) pairs = counting_init();
	struct counting CLEANUP(counting_done) labels = counting_init();
	time_ms midnight = (time_ms)day_of(day) * DAY_MS;
	TRY(match_series(m, NULL, 0, midnight, midnight + DAY_MS - 1, 0, NULL, &l, e));
	uint32_t highest = highest_before(m, day_of(day));
	for (size_t i = 0; i < l.count; i++) {
		bool created = l.items[i].id > highest;
		if (by == METRICS_BY_METRIC)
			TRY(count_one(&labels,
				      series_key_get(l.items[i].key, STR(LABEL_METRIC_NAME)),
				      created, NULL, e));
		else
			TRY(count_labels(&pairs, &labels, l.items[i].key, created, e));
	}
	return give(by == METRICS_BY_PAIR ? &pairs : &labels, top, arena, ret, ret_count, e);
}
