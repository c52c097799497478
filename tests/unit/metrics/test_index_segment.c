/* Indexes of a day against a plain list: series are found by id, by labels and by matchers; bad
 * bytes hide series, but give no wrong ones. */
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
#include "metrics/index_segment.h"
#include "metrics/series_key.h"
#include "os/io.h"

enum { SERIES = 3000, DAY = 20123, NAME_BYTES = 128 };

struct fixture {
	char folder[64];
	struct index_entry entries[SERIES]; /* by id: entries[i].id is ids[i] */
	struct index_entry given[SERIES + 100];
	struct arena arena;
	struct test_random random;
};

static struct err error;

static void check(errc rc, int line)
{
	if (rc == OK)
		return;
	print_error("%s: %s (line %d)\n", errc_name(rc), error.message, line);
	fail();
}
#define assert_ok(expr) check((expr), __LINE__)

static str make_key(struct fixture *f, size_t i)
{
	char texts[5][40];
	struct label items[5];
	size_t n = 0;
	snprintf(texts[0], sizeof(texts[0]), "metric_%zu_total", i % 40);
	snprintf(texts[1], sizeof(texts[1]), "host-%zu.example", i / 40 % 50);
	snprintf(texts[2], sizeof(texts[2]), "%zx", i * 2654435761 % 1000003);
	snprintf(texts[3], sizeof(texts[3]), "label_%zu", i % 700);
	items[n++] = (struct label){ STR("__name__"), str_c(texts[0]) };
	if (i % 3)
		items[n++] = (struct label){ STR("host"), str_c(texts[1]) };
	items[n++] = (struct label){ STR("id"), str_c(texts[2]) };
	if (i % 11 == 0)
		items[n++] = (struct label){ str_c(texts[3]), STR("x") };
	const struct labels labels = { items, n };
	size_t size = series_key_size(&labels);
	char *key = arena_array(&f->arena, size, 1);
	series_key_put((uint8_t *)key, &labels);
	return (str){ key, size };
}

static int setup(void **state)
{
	struct fixture *f = must_calloc(1, sizeof(*f));
	snprintf(f->folder, sizeof(f->folder), "/tmp/hf-index-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	f->random.state = 3;
	f->arena = arena_init(64 << 20);
	for (size_t i = 0; i < SERIES; i++)
		f->entries[i] = (struct index_entry){ (uint32_t)(i * 5 + 2), make_key(f, i) };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	arena_done(&f->arena);
	assert_ok(io_remove_tree(f->folder, &error));
	free(f);
	return 0;
}

/* The series in a random order, some of them twice. */
static struct index_segment *write_segment(struct fixture *f, const char *name)
{
	struct index_segment *s = NULL;
	size_t count = SERIES;
	uint64_t bytes = 0;
	memcpy(f->given, f->entries, sizeof(f->entries));
	for (size_t i = 0; i < 100; i++)
		f->given[count++] = f->entries[test_random_below(&f->random, SERIES)];
	for (size_t i = count; i > 1; i--) {
		size_t k = test_random_below(&f->random, i);
		struct index_entry swap = f->given[i - 1];
		f->given[i - 1] = f->given[k];
		f->given[k] = swap;
	}
	assert_ok(index_segment_write(f->folder, name, DAY, f->given, count, &bytes, &error));
	assert_ok(index_segment_open(f->folder, name, NULL, &s, &error));
	assert_int_equal(part_file_bytes(index_segment_file(s)), bytes);
	assert_int_equal(index_segment_count(s), SERIES);
	assert_int_equal(index_segment_day(s), DAY);
	return s;
}

static void finds_each(void **state)
{
	struct fixture *f = *state;
	struct index_segment *s = write_segment(f, "i-1.part");
	struct buf key = buf_init(SERIES_KEY_BYTES_MAX);
	for (size_t i = 0; i < SERIES; i++) {
		const struct index_entry *entry = &f->entries[i];
		assert_int_equal(index_segment_find(s, entry->key), entry->id);
		assert_true(index_segment_key(s, entry->id, &key));
		assert_true(str_eq(buf_str(&key), entry->key));
		assert_false(index_segment_key(s, entry->id + 1, &key));
	}
	const struct label none[] = { { STR("__name__"), STR("metric_1_total") } };
	const struct labels labels = { none, 1 };
	uint8_t bytes[64];
	size_t size = series_key_put(bytes, &labels);
	assert_int_equal(index_segment_find(s, (str){ (char *)bytes, size }), 0);
	assert_int_equal(index_segment_find(s, STR("")), 0);
	assert_false(index_segment_key(s, 0, &key));
	assert_false(index_segment_key(s, UINT32_MAX, &key));
	buf_done(&key);
	index_segment_unref(s);
}

struct walk {
	const struct fixture *f;
	size_t count;
	char before[SERIES_KEY_BYTES_MAX];
	size_t before_len;
};

static errc see(void *ctx, uint32_t id, str key, struct err *e)
{
	struct walk *w = ctx;
	(void)e;
	assert_int_equal(id % 5, 2);
	assert_true(id / 5 < SERIES);
	assert_true(str_eq(w->f->entries[id / 5].key, key));
	if (w->count)
		assert_true(series_key_cmp((str){ w->before, w->before_len }, key) < 0);
	memcpy(w->before, key.ptr, key.len);
	w->before_len = key.len;
	w->count++;
	return OK;
}

static void walks_in_order(void **state)
{
	struct fixture *f = *state;
	struct index_segment *s = write_segment(f, "i-2.part");
	struct walk *w = must_calloc(1, sizeof(*w));
	w->f = f;
	assert_ok(index_segment_each(s, see, w, &error));
	assert_int_equal(w->count, SERIES);
	free(w);
	index_segment_unref(s);
}

/* ---- Matchers. */

static bool is_selected(str key, const struct matcher *matchers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		bool matches = false;
		assert_ok(matcher_matches(&matchers[i], series_key_get(key, matchers[i].name),
					  &matches, &error));
		if (!matches)
			return false;
	}
	return true;
}

static void match(struct fixture *f, struct index_segment *s, struct matcher *matchers,
		  size_t count)
{
	struct index_source source = index_segment_source(s);
	struct id_set ids = { 0 };
	size_t k = 0;
	for (size_t i = 0; i < count; i++)
		assert_ok(matcher_compile(&matchers[i], &error));
	assert_ok(index_match(&source, matchers, count, &ids, &error));
	for (size_t i = 0; i < SERIES; i++)
		if (is_selected(f->entries[i].key, matchers, count)) {
			assert_true(k < ids.count);
			assert_int_equal(ids.ids[k++], f->entries[i].id);
		}
	assert_int_equal(k, ids.count);
	for (size_t i = 0; i < count; i++)
		matcher_done(&matchers[i]);
	id_set_done(&ids);
}

static void selects_as_matchers_say(void **state)
{
	static const struct {
		const char *name, *value;
	} texts[] = {
		{ "__name__", "metric_7_total" },
		{ "__name__", "metric_[0-9]_total" },
		{ "__name__", "nothing" },
		{ "host", "" },
		{ "host", "host-1.*" },
		{ "host", "host-49.example" },
		{ "id", "" },
		{ "id", "[0-7].+" },
		{ "label_0", "x" },
		{ "label_11", ".*" },
		{ "absent", "" },
		{ "absent", "x|" },
	};
	struct fixture *f = *state;
	struct index_segment *s = write_segment(f, "i-3.part");
	for (size_t round = 0; round < 400; round++) {
		struct matcher matchers[3] = { 0 };
		size_t count = 1 + test_random_below(&f->random, ARRAY_COUNT(matchers));
		for (size_t i = 0; i < count; i++) {
			size_t which = test_random_below(&f->random, ARRAY_COUNT(texts));
			matchers[i].type = (enum matcher_type)test_random_below(&f->random, 4);
			matchers[i].name = str_c(texts[which].name);
			matchers[i].value = str_c(texts[which].value);
		}
		match(f, s, matchers, count);
	}
	index_segment_unref(s);
}

struct counted {
	struct fixture *f;
	str name;
	size_t count;
	uint64_t series;
	char before[64];
};

static errc count_value(void *ctx, str value, uint64_t series_count, struct err *e)
{
	struct counted *c = ctx;
	(void)e;
	assert_true(str_cmp(str_c(c->before), value) < 0);
	assert_true(str_copy(value, c->before, sizeof(c->before)));
	c->count++;
	c->series += series_count;
	return OK;
}

static void lists_names_and_values(void **state)
{
	struct fixture *f = *state;
	struct index_segment *s = write_segment(f, "i-4.part");
	struct counted names = { .f = f }, hosts = { .f = f }, metrics = { .f = f };
	assert_ok(index_segment_values(s, STR(""), count_value, &names, &error));
	assert_ok(index_segment_values(s, STR("host"), count_value, &hosts, &error));
	assert_ok(index_segment_values(s, STR("__name__"), count_value, &metrics, &error));
	/* label_0, label_11, …: those of every 11th, by 700 */
	size_t labels = 0;
	bool there[700] = { false };
	for (size_t i = 0; i < SERIES; i += 11)
		there[i % 700] = true;
	for (size_t i = 0; i < 700; i++)
		labels += there[i];
	assert_int_equal(names.count, 3 + labels);
	assert_int_equal(hosts.count, 50);
	assert_int_equal(hosts.series, SERIES - SERIES / 3);
	assert_int_equal(metrics.count, 40);
	assert_int_equal(metrics.series, SERIES);
	index_segment_unref(s);
}

/* Long values that begin alike: each is found. */
static void finds_long_values(void **state)
{
	enum { COUNT = 400, LEN = 2000 };
	struct fixture *f = *state;
	struct index_segment *s = NULL;
	struct index_entry entries[COUNT];
	static char values[COUNT][LEN + 16];
	uint64_t bytes;
	for (size_t i = 0; i < COUNT; i++) {
		struct label items[2] = { { STR("__name__"), STR("q") } };
		memset(values[i], 's', LEN);
		test_random_text(&f->random, "ab", 2, values[i] + LEN / 2, 12);
		values[i][LEN / 2 + 12] = 's';
		snprintf(values[i] + LEN, 16, "%zu", i);
		items[1] = (struct label){ STR("statement"), str_c(values[i]) };
		const struct labels labels = { items, 2 };
		char *key = arena_array(&f->arena, series_key_size(&labels), 1);
		entries[i] = (struct index_entry){
			(uint32_t)i + 1, { key, series_key_put((uint8_t *)key, &labels) }
		};
	}
	assert_ok(index_segment_write(f->folder, "i-5.part", DAY, entries, COUNT, &bytes, &error));
	assert_ok(index_segment_open(f->folder, "i-5.part", NULL, &s, &error));
	struct index_source source = index_segment_source(s);
	for (size_t i = 0; i < COUNT; i++) {
		struct id_set ids = { 0 };
		assert_ok(
			source.value(source.ctx, STR("statement"), str_c(values[i]), &ids, &error));
		assert_int_equal(ids.count, 1);
		assert_int_equal(ids.ids[0], i + 1);
		/* the same less its last character is nobody's, or another's */
		size_t len = strlen(values[i]) - 1;
		ids.count = 0;
		assert_ok(source.value(source.ctx, STR("statement"), (str){ values[i], len }, &ids,
				       &error));
		for (size_t k = 0; k < ids.count; k++)
			assert_true(ids.ids[k] != i + 1);
		id_set_done(&ids);
	}
	index_segment_unref(s);
}

/* ---- Bad bytes. */

static void read_damaged(struct fixture *f, const char *name)
{
	struct index_segment *s = NULL;
	struct buf key = buf_init(SERIES_KEY_BYTES_MAX);
	struct walk *w = must_calloc(1, sizeof(*w));
	if (index_segment_open(f->folder, name, NULL, &s, &error) == OK) {
		w->f = f;
		assert_ok(index_segment_each(s, see, w, &error));
		for (size_t i = 0; i < SERIES; i += 97) {
			uint32_t id = index_segment_find(s, f->entries[i].key);
			assert_true(id == 0 || id == f->entries[i].id);
			if (index_segment_key(s, f->entries[i].id, &key))
				assert_true(str_eq(buf_str(&key), f->entries[i].key));
		}
		index_segment_unref(s);
	}
	buf_done(&key);
	free(w);
}

static void survives_bad_bytes(void **state)
{
	struct fixture *f = *state;
	struct buf bytes = buf_init(64 << 20);
	char path[NAME_BYTES];
	index_segment_unref(write_segment(f, "i-6.part"));
	snprintf(path, sizeof(path), "%s/i-6.part", f->folder);
	assert_ok(io_read_file(path, &bytes, &error));
	snprintf(path, sizeof(path), "%s/i-7.part", f->folder);
	for (size_t round = 0; round < 150; round++) {
		size_t at = test_random_below(&f->random, bytes.len);
		if (round % 2)
			at = bytes.len - 1 - test_random_below(&f->random, 1024);
		char before = bytes.ptr[at];
		bytes.ptr[at] = (char)(before ^ (1 << test_random_below(&f->random, 8)));
		assert_ok(io_write_file(path, buf_str(&bytes), 0600, &error));
		read_damaged(f, "i-7.part");
		bytes.ptr[at] = before;
	}
	for (size_t round = 0; round < 30; round++) {
		size_t len = test_random_below(&f->random, bytes.len);
		assert_ok(io_write_file(path, (str){ bytes.ptr, len }, 0600, &error));
		read_damaged(f, "i-7.part");
	}
	buf_done(&bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_each),
		cmocka_unit_test(walks_in_order),
		cmocka_unit_test(selects_as_matchers_say),
		cmocka_unit_test(lists_names_and_values),
		cmocka_unit_test(finds_long_values),
		cmocka_unit_test(survives_bad_bytes),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
