/* The table of live series, and matching over its postings, against looking at every series. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../base/test_random.h"
#include "base/checks.h"
#include "metrics/series_key.h"
#include "metrics/series_table.h"

enum { IDS = 4000, STEPS = 12000 };

struct made {
	struct label items[3];
	char texts[3][16];
	struct labels labels;
	uint8_t bytes[128];
	str key;
	uint64_t hash;
};

/* NUMBER decides the labels. */
static void make(struct made *m, size_t number)
{
	size_t n = 0;
	snprintf(m->texts[0], sizeof(m->texts[0]), "m%zu", number % 5);
	snprintf(m->texts[1], sizeof(m->texts[1]), "%zu", number / 5 % 40);
	snprintf(m->texts[2], sizeof(m->texts[2]), "z%zu", number / 200);
	m->items[n++] = (struct label){ STR("__name__"), str_c(m->texts[0]) };
	if (number % 7)
		m->items[n++] = (struct label){ STR("host"), str_c(m->texts[1]) };
	else
		m->items[n++] = (struct label){ STR("instance"), str_c(m->texts[1]) };
	m->items[n++] = (struct label){ STR("zone"), str_c(m->texts[2]) };
	m->labels = (struct labels){ m->items, n };
	must(series_key_size(&m->labels) <= sizeof(m->bytes));
	m->key = (str){ (const char *)m->bytes, series_key_put(m->bytes, &m->labels) };
	m->hash = series_key_hash(m->key);
}

struct world {
	struct series_table t;
	uint32_t id_of[IDS]; /* 0: not live */
	struct test_random random;
};

static void check_found(struct world *w, size_t number)
{
	struct made m;
	make(&m, number);
	const struct series *s = series_table_find(&w->t, m.key, m.hash);
	assert_int_equal(s ? s->id : 0, w->id_of[number]);
	if (s)
		assert_true(str_eq(series_key(s), m.key) && series_table_is_live(&w->t, s->id));
}

static void add_or_drop(struct world *w)
{
	size_t number = test_random_below(&w->random, IDS);
	uint32_t *id = &w->id_of[number];
	struct made m;
	make(&m, number);
	check_found(w, number);
	if (*id && test_random_below(&w->random, 3) == 0) {
		uint32_t gone = *id;
		series_table_drop(&w->t, series_table_get(&w->t, gone));
		*id = 0;
		assert_false(series_table_is_live(&w->t, gone));
		assert_null(series_table_get(&w->t, gone));
	} else if (!*id) {
		*id = (uint32_t)w->t.next_id;
		if (test_random_below(&w->random, 2)) {
			series_table_add(&w->t, *id, m.key, m.hash);
		} else { /* as recovery does */
			struct series *s = series_table_add(&w->t, *id, STR(""), 0);
			series_table_resolve(&w->t, s, m.key, m.hash);
		}
	}
	check_found(w, number);
}

static void check_match(struct world *w, const struct matcher *matchers, size_t count)
{
	struct index_source source = series_table_source(&w->t);
	struct id_set ids CLEANUP(id_set_done) = { 0 };
	size_t expected = 0, live = 0;
	assert_int_equal(index_match(&source, matchers, count, &ids, NULL), OK);
	for (size_t i = 0; i < ids.count; i++)
		live += series_table_get(&w->t, ids.ids[i]) != NULL; /* dead ones may be there */
	for (size_t number = 0; number < IDS; number++) {
		struct made m;
		bool all = w->id_of[number] != 0;
		if (!all)
			continue;
		make(&m, number);
		for (size_t i = 0; i < count && all; i++)
			assert_int_equal(matcher_matches(&matchers[i],
							 labels_get(&m.labels, matchers[i].name),
							 &all, NULL),
					 OK);
		expected += all;
		if (all)
			assert_true(id_set_has(&ids, w->id_of[number]));
	}
	assert_int_equal(live, expected);
}

static void check_matches(struct world *w)
{
	struct matcher all[] = {
		{ MATCH_EQUAL, STR("__name__"), STR("m1"), NULL },
		{ MATCH_NOT_EQUAL, STR("__name__"), STR("m1"), NULL },
		{ MATCH_REGEXP, STR("host"), STR("1.*"), NULL },
		{ MATCH_REGEXP, STR("host"), STR("3|4|none"), NULL },
		{ MATCH_REGEXP, STR("host"), STR("3|"), NULL },
		{ MATCH_NOT_REGEXP, STR("instance"), STR("2.?"), NULL },
		{ MATCH_EQUAL, STR("host"), STR(""), NULL },
		{ MATCH_NOT_EQUAL, STR("host"), STR(""), NULL },
		{ MATCH_EQUAL, STR("none"), STR(""), NULL },
		{ MATCH_EQUAL, STR("none"), STR("x"), NULL },
		{ MATCH_REGEXP, STR("zone"), STR(".+"), NULL },
		{ MATCH_REGEXP, STR("zone"), STR(".*"), NULL },
	};
	for (size_t i = 0; i < ARRAY_COUNT(all); i++)
		assert_int_equal(matcher_compile(&all[i], NULL), OK);
	for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
		check_match(w, &all[i], 1);
		const struct matcher three[] = {
			all[i], all[test_random_below(&w->random, ARRAY_COUNT(all))],
			all[test_random_below(&w->random, ARRAY_COUNT(all))]
		};
		check_match(w, three, 2 + test_random_below(&w->random, 2));
	}
	for (size_t i = 0; i < ARRAY_COUNT(all); i++)
		matcher_done(&all[i]);
}

static void check_ranks(struct world *w)
{
	pthread_rwlock_t index = PTHREAD_RWLOCK_INITIALIZER;
	series_table_rank(&w->t, &index);
	assert_int_equal(w->t.ranked_count, w->t.count);
	for (size_t i = 0; i < w->t.ranked_count; i++) {
		const struct series *s = series_table_get(&w->t, w->t.ranked[i]);
		assert_non_null(s);
		assert_int_equal(s->rank, i + 1);
		if (i)
			assert_true(series_key_cmp(
					    series_key(series_table_get(&w->t, w->t.ranked[i - 1])),
					    series_key(s)) < 0);
	}
}

static void it_is_as_a_plain_list(void **state)
{
	struct world *w = must_calloc(1, sizeof(*w));
	(void)state;
	w->random.state = 7;
	series_table_init(&w->t);
	for (size_t i = 1; i <= STEPS; i++) {
		add_or_drop(w);
		if (i % 400 == 0)
			while (series_table_sweep(&w->t, 100))
				;
		if (i % 1500 == 0)
			check_matches(w);
		if (i % 1000 == 0)
			check_ranks(w);
	}
	for (size_t number = 0; number < IDS; number++)
		check_found(w, number);
	series_table_done(&w->t);
	free(w);
}

static void memory_is_given_back(void **state)
{
	struct series_table t;
	struct made m;
	(void)state;
	series_table_init(&t);
	for (int round = 0; round < 3; round++) {
		size_t empty = t.memory_bytes;
		uint32_t first = (uint32_t)t.next_id;
		for (size_t i = 0; i < IDS; i++) {
			make(&m, i);
			series_table_add(&t, (uint32_t)t.next_id, m.key, m.hash);
		}
		assert_true(t.memory_bytes > empty);
		for (uint32_t id = first; id < first + IDS; id++)
			series_table_drop(&t, series_table_get(&t, id));
		while (series_table_sweep(&t, SIZE_MAX))
			;
		assert_int_equal(t.count, 0);
		if (round)
			assert_true(t.memory_bytes <=
				    empty + SERIES_CHUNK_COUNT * sizeof(struct series));
	}
	series_table_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_as_a_plain_list),
		cmocka_unit_test(memory_is_given_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
