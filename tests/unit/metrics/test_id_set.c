/* Sets of ids against a plain table of flags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../base/test_random.h"
#include "base/checks.h"
#include "metrics/id_set.h"

enum { IDS = 3000, ROUNDS = 300 };

struct plain {
	bool has[IDS];
};

static void fill(struct test_random *r, struct id_set *s, struct plain *p, size_t count)
{
	*p = (struct plain){ 0 };
	s->count = 0;
	for (size_t i = 0; i < count; i++) {
		uint32_t id = (uint32_t)test_random_below(r, IDS);
		p->has[id] = true;
		id_set_insert(s, id);
	}
}

static void compare(const struct id_set *s, const struct plain *p)
{
	size_t n = 0;
	for (uint32_t id = 0; id < IDS; id++) {
		assert_int_equal(id_set_has(s, id), p->has[id]);
		if (p->has[id])
			assert_int_equal(s->ids[n++], id);
	}
	assert_int_equal(s->count, n);
}

static size_t random_size(struct test_random *r)
{
	return test_random_below(r, test_random_below(r, 2) ? 8 : 2000);
}

static void sets_are_what_sets_are(void **state)
{
	struct test_random r = { 1 };
	struct id_set a CLEANUP(id_set_done) = { 0 };
	struct id_set b CLEANUP(id_set_done) = { 0 };
	struct id_set x CLEANUP(id_set_done) = { 0 };
	struct plain p, q, expected;
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		fill(&r, &a, &p, random_size(&r));
		fill(&r, &b, &q, random_size(&r));
		compare(&a, &p);
		id_set_copy(&x, a.ids, a.count);
		id_set_intersect(&x, b.ids, b.count);
		for (size_t k = 0; k < IDS; k++)
			expected.has[k] = p.has[k] && q.has[k];
		compare(&x, &expected);
		id_set_copy(&x, a.ids, a.count);
		id_set_subtract(&x, b.ids, b.count);
		for (size_t k = 0; k < IDS; k++)
			expected.has[k] = p.has[k] && !q.has[k];
		compare(&x, &expected);
		id_set_copy(&x, a.ids, a.count);
		id_set_unite(&x, b.ids, b.count);
		for (size_t k = 0; k < IDS; k++)
			expected.has[k] = p.has[k] || q.has[k];
		compare(&x, &expected);
	}
}

static void normalizing_sorts_and_drops_doubles(void **state)
{
	struct test_random r = { 2 };
	struct id_set s CLEANUP(id_set_done) = { 0 };
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		struct plain p = { 0 };
		size_t count = random_size(&r);
		s.count = 0;
		id_set_reserve(&s, count);
		for (size_t k = 0; k < count; k++) {
			uint32_t id = (uint32_t)test_random_below(&r, IDS);
			p.has[id] = true;
			s.ids[s.count++] = id;
		}
		id_set_normalize(&s);
		compare(&s, &p);
	}
}

static void the_ends_of_the_range_are_ids_too(void **state)
{
	struct id_set s CLEANUP(id_set_done) = { 0 };
	const uint32_t ends[] = { 0, UINT32_MAX };
	(void)state;
	id_set_insert(&s, UINT32_MAX);
	id_set_insert(&s, 0);
	assert_int_equal(s.count, 2);
	assert_true(id_set_has(&s, 0) && id_set_has(&s, UINT32_MAX) && !id_set_has(&s, 1));
	id_set_intersect(&s, ends, 2);
	assert_int_equal(s.count, 2);
	id_set_normalize(&s);
	assert_int_equal(s.ids[1], UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_are_what_sets_are),
		cmocka_unit_test(normalizing_sorts_and_drops_doubles),
		cmocka_unit_test(the_ends_of_the_range_are_ids_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
