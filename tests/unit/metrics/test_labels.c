/* Labels: what is taken, how they are ordered and printed, and the key made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../base/test_random.h"
#include "base/checks.h"
#include "metrics/series_key.h"

static errc normalize(struct label *items, size_t count, struct labels *ret)
{
	struct err e;
	return labels_normalize(items, count, ret, &e);
}

static void they_are_sorted_and_empty_values_are_absent(void **state)
{
	struct label items[] = { { STR("z"), STR("1") },
				 { STR("a"), STR("") },
				 { STR("b"), STR("2") } };
	struct labels l;
	(void)state;
	assert_int_equal(normalize(items, 3, &l), OK);
	assert_int_equal(l.count, 2);
	assert_true(str_eq_c(l.items[0].name, "b"));
	assert_true(str_eq_c(labels_get(&l, STR("z")), "1"));
	assert_int_equal(labels_get(&l, STR("a")).len, 0);
}

static void bad_ones_are_refused(void **state)
{
	static char long_name[LABEL_NAME_BYTES_MAX + 1], long_value[LABEL_VALUE_BYTES_MAX + 1];
	struct label many[LABELS_COUNT_MAX + 1];
	static char names[LABELS_COUNT_MAX + 1][8];
	struct labels l;
	(void)state;
	memset(long_name, 'a', sizeof(long_name));
	memset(long_value, 'a', sizeof(long_value));
	struct label twice[] = { { STR("a"), STR("1") }, { STR("a"), STR("2") } };
	struct label nameless[] = { { STR(""), STR("1") } };
	struct label name_utf8[] = { { STR("\xff"), STR("1") } };
	struct label value_utf8[] = { { STR("a"), STR("\xc3") } };
	struct label name_long[] = { { { long_name, sizeof(long_name) }, STR("1") } };
	struct label value_long[] = { { STR("a"), { long_value, sizeof(long_value) } } };
	assert_int_equal(normalize(twice, 2, &l), ERR_INVALID);
	assert_int_equal(normalize(nameless, 1, &l), ERR_INVALID);
	assert_int_equal(normalize(name_utf8, 1, &l), ERR_INVALID);
	assert_int_equal(normalize(value_utf8, 1, &l), ERR_INVALID);
	assert_int_equal(normalize(name_long, 1, &l), ERR_INVALID);
	assert_int_equal(normalize(value_long, 1, &l), ERR_INVALID);
	for (size_t i = 0; i < ARRAY_COUNT(many); i++) {
		snprintf(names[i], sizeof(names[i]), "n%03zu", i);
		many[i] = (struct label){ str_c(names[i]), STR("1") };
	}
	assert_int_equal(normalize(many, LABELS_COUNT_MAX, &l), OK);
	assert_int_equal(normalize(many, LABELS_COUNT_MAX + 1, &l), ERR_INVALID);
}

static void expect_printed(struct label *items, size_t count, const char *expected)
{
	struct buf text CLEANUP(buf_done) = buf_init(1000);
	const struct labels l = { items, count };
	labels_print(&text, &l);
	assert_string_equal(buf_cstr(&text), expected);
}

static void they_print_as_in_a_query(void **state)
{
	struct label plain[] = { { STR("__name__"), STR("up") }, { STR("job"), STR("a\"b\n") } };
	struct label odd[] = { { STR("__name__"), STR("my metric") }, { STR("a.b"), STR("c") } };
	(void)state;
	expect_printed(NULL, 0, "{}");
	expect_printed(plain, 1, "up");
	expect_printed(plain, 2, "up{job=\"a\\\"b\\n\"}");
	expect_printed(plain + 1, 1, "{job=\"a\\\"b\\n\"}");
	expect_printed(odd, 2, "{\"my metric\",\"a.b\"=\"c\"}");
}

struct made {
	struct label items[5];
	char texts[10][8];
	struct labels labels;
	uint8_t key[256];
	str bytes;
};

static void make(struct test_random *r, struct made *m)
{
	size_t count = test_random_below(r, 6), kept = 0;
	for (size_t i = 0; i < count; i++) {
		test_random_text(r, "ab", 2, m->texts[i], 1 + test_random_below(r, 3));
		test_random_text(r, "xy", 2, m->texts[5 + i], 1 + test_random_below(r, 3));
		struct label l = { str_c(m->texts[i]), str_c(m->texts[5 + i]) };
		bool known = false;
		for (size_t k = 0; k < kept; k++)
			known |= str_eq(m->items[k].name, l.name);
		if (!known)
			m->items[kept++] = l;
	}
	assert_int_equal(normalize(m->items, kept, &m->labels), OK);
	size_t size = series_key_size(&m->labels);
	assert_true(size <= sizeof(m->key));
	assert_int_equal(series_key_put(m->key, &m->labels), size);
	m->bytes = (str){ (const char *)m->key, size };
}

static void keys_are_as_the_labels(void **state)
{
	struct test_random r = { 3 };
	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct made a, b;
		struct label items[LABELS_COUNT_MAX];
		make(&r, &a);
		make(&r, &b);
		int order = labels_cmp(&a.labels, &b.labels);
		int by_key = series_key_cmp(a.bytes, b.bytes);
		assert_int_equal((order > 0) - (order < 0), (by_key > 0) - (by_key < 0));
		assert_int_equal(labels_eq(&a.labels, &b.labels), order == 0);
		assert_int_equal(str_eq(a.bytes, b.bytes), order == 0);
		if (order == 0)
			assert_true(series_key_hash(a.bytes) == series_key_hash(b.bytes));
		const struct labels back = { items, series_key_labels(a.bytes, items) };
		assert_true(labels_eq(&back, &a.labels));
		assert_true(str_eq(series_key_get(a.bytes, STR("ab")),
				   labels_get(&a.labels, STR("ab"))));
		assert_true(labels_hash(&a.labels) == series_key_hash(a.bytes));
	}
}

static void a_damaged_key_is_no_key(void **state)
{
	struct test_random r = { 4 };
	struct label items[LABELS_COUNT_MAX];
	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct made a;
		make(&r, &a);
		str cut = { a.bytes.ptr, test_random_below(&r, a.bytes.len) };
		assert_true(series_key_labels(cut, items) == SIZE_MAX);
		a.key[test_random_below(&r, a.bytes.len)] ^= (uint8_t)(1
								       << test_random_below(&r, 8));
		size_t count = series_key_labels(a.bytes, items); /* no crash, and order holds */
		for (size_t k = 1; count != SIZE_MAX && k < count; k++)
			assert_true(str_cmp(items[k - 1].name, items[k].name) < 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(they_are_sorted_and_empty_values_are_absent),
		cmocka_unit_test(bad_ones_are_refused),
		cmocka_unit_test(they_print_as_in_a_query),
		cmocka_unit_test(keys_are_as_the_labels),
		cmocka_unit_test(a_damaged_key_is_no_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
