/* The manifest: the last one committed counts, and what it does not name goes. */
#include "store_test.h"

#include "store/store_internal.h"
#include "store/store_manifest_internal.h"

enum { PARTS_MAX = 30 };

static struct arena arena;

/* Names of living parts, and the engine's state. */
struct model {
	char names[PARTS_MAX][24];
	char notes[PARTS_MAX][16];
	uint64_t sizes[PARTS_MAX];
	size_t count;
	char state[40];
	size_t state_len;
	uint64_t name_next;
};

static const char *in_store(const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "store/%s", name);
	return test_path(path);
}

static void put_file(const char *name, uint64_t size)
{
	char bytes[256] = { 0 };
	test_write(in_store(name), bytes, size);
}

static errc commit(struct store_manifest *m, const struct model *model, struct err *e)
{
	struct store_manifest_part parts[PARTS_MAX];
	for (size_t i = 0; i < model->count; i++)
		parts[i] = (struct store_manifest_part){ str_c(model->names[i]), model->sizes[i],
							 str_c(model->notes[i]) };
	const struct store_manifest_content content = { { model->state, model->state_len },
							parts,
							model->count };
	return store_manifest_commit(m, &content, e);
}

static void add_part(struct model *m)
{
	size_t i = m->count++;
	m->name_next++;
	snprintf(m->names[i], sizeof(m->names[i]), "%08llu.part", (unsigned long long)m->name_next);
	snprintf(m->notes[i], sizeof(m->notes[i]), "note %llu", (unsigned long long)m->name_next);
	m->sizes[i] = m->name_next % 256;
	put_file(m->names[i], m->sizes[i]);
}

static void assert_same(const struct model *m, const struct store_manifest_content *c)
{
	assert_int_equal(c->part_count, m->count);
	assert_int_equal(c->state.len, m->state_len);
	assert_memory_equal(c->state.ptr, m->state, m->state_len);
	for (size_t i = 0; i < m->count; i++) {
		assert_true(str_eq_c(c->parts[i].name, m->names[i]));
		assert_true(str_eq_c(c->parts[i].note, m->notes[i]));
		assert_int_equal(c->parts[i].bytes, m->sizes[i]);
	}
}

static struct store_manifest *open_store(struct quarantine *q, struct store_manifest_found *found)
{
	struct store_manifest *m = NULL;
	struct err e;
	arena_done(&arena);
	arena = arena_init(1 << 20);
	test_ok(store_manifest_open(test_path("store"), "test", q, &arena, found, &m, &e), &e);
	return m;
}

static void begin_afresh(void)
{
	assert_int_equal(io_remove_tree(test_path("store"), NULL), OK);
}

static const char *manifest_name(uint64_t generation)
{
	static char names[2][40];
	static size_t next;
	char *name = names[next++ % 2];
	snprintf(name, sizeof(names[0]), "MANIFEST-%016llx", (unsigned long long)generation);
	return name;
}

static void random_commits_are_found_again(void **state)
{
	(void)state;
	static struct model m, committed;
	struct store_manifest_found found;
	struct quarantine *q = quarantine_new();
	struct err e;
	uint64_t seed = 4, generation = 0;
	begin_afresh();
	struct store_manifest *s = open_store(q, &found);
	assert_int_equal(found.generation, 0);
	assert_int_equal(found.content.part_count, 0);
	for (int step = 0; step < 500; step++) {
		uint64_t what = test_below(&seed, 10);
		if (what < 4 && m.count < PARTS_MAX) {
			add_part(&m);
		} else if (what < 6 && m.count) {
			/* as a merge: the file is left, as by a crash before it is removed */
			size_t at = test_below(&seed, m.count);
			m.count--;
			memmove(m.names[at], m.names[m.count], sizeof(m.names[0]));
			memmove(m.notes[at], m.notes[m.count], sizeof(m.notes[0]));
			m.sizes[at] = m.sizes[m.count];
		} else if (what < 9) {
			m.state_len = test_below(&seed, sizeof(m.state));
			test_fill(seed, m.state, m.state_len);
			test_ok(commit(s, &m, &e), &e);
			assert_int_equal(store_manifest_generation(s), ++generation);
			committed = m;
		} else {
			uint64_t name_next = m.name_next;
			put_file("12345678.part.tmp", 3);
			store_manifest_close(s);
			s = open_store(q, &found);
			assert_int_equal(found.generation, generation);
			assert_same(&committed, &found.content);
			assert_int_equal(found.missing_count + found.orphan_count, 0);
			assert_false(found.fell_back);
			assert_false(test_exists(in_store("12345678.part.tmp")));
			m = committed;
			m.name_next = name_next;
			for (size_t i = 0; i < m.count; i++)
				assert_true(test_exists(in_store(m.names[i])));
		}
	}
	assert_int_equal(quarantine_count(q), 0);
	/* one is kept as fallback, the older ones are not */
	assert_true(test_exists(in_store(manifest_name(generation))));
	assert_true(test_exists(in_store(manifest_name(generation - 1))));
	assert_false(test_exists(in_store(manifest_name(generation - 2))));
	store_manifest_close(s);
	store_manifest_close(NULL);
	quarantine_free(q);
}

/* A store with two commits: `old` is named by the first only, `new` by the second only. */
static void write_two(struct model *m)
{
	struct store_manifest_found found;
	struct err e;
	begin_afresh();
	memset(m, 0, sizeof(*m));
	struct store_manifest *s = open_store(NULL, &found);
	add_part(m); /* 00000001 */
	add_part(m);
	test_ok(commit(s, m, &e), &e);
	struct model second = *m;
	second.count = 1;
	add_part(&second); /* 00000003 */
	test_ok(commit(s, &second, &e), &e);
	m->name_next = second.name_next;
	store_manifest_close(s);
}

static void only_leftovers_are_removed(void **state)
{
	(void)state;
	struct model m;
	struct store_manifest_found found;
	struct err e;
	write_two(&m);
	put_file("notes.txt", 3);
	put_file("99999999.part.tmp", 3);
	arena_done(&arena);
	arena = arena_init(1 << 20);
	test_ok(store_manifest_scan(test_path("store"), "test", NULL, &arena, &found, &e), &e);
	assert_int_equal(found.removed_count, 0);
	assert_true(test_exists(in_store("00000002.part")));
	assert_true(test_exists(in_store("99999999.part.tmp")));
	store_manifest_close(open_store(NULL, &found));
	assert_int_equal(found.removed_count, 2);
	assert_false(test_exists(in_store("00000002.part")));
	assert_true(test_exists(in_store("00000001.part")));
	assert_true(test_exists(in_store("00000003.part")));
	assert_true(test_exists(in_store("notes.txt")));
}

static void missing_parts_are_told(void **state)
{
	(void)state;
	struct model m;
	struct store_manifest_found found;
	struct quarantine *q = quarantine_new();
	write_two(&m);
	assert_int_equal(unlink(in_store("00000001.part")), 0);
	put_file("00000003.part", 4);
	store_manifest_close(open_store(q, &found));
	assert_int_equal(found.missing_count, 2);
	assert_true(found.missing[0] && found.missing[1]);
	assert_int_equal(quarantine_count(q), 2);
	assert_true(test_exists(in_store("00000003.part")));
	quarantine_free(q);
}

static void a_bad_manifest_falls_back(void **state)
{
	(void)state;
	struct model m;
	struct store_manifest_found found;
	struct err e;
	write_two(&m);
	struct buf good = test_read(in_store(manifest_name(2)));
	for (size_t at = 0; at < good.len; at++) {
		struct quarantine *q = quarantine_new();
		test_flip(in_store(manifest_name(2)), at, (int)(at % 8));
		for (int again = 0; again < 2; again++) {
			store_manifest_close(open_store(q, &found));
			assert_true(found.fell_back);
			assert_int_equal(found.generation, 1);
			assert_same(&m, &found.content);
			/* what the bad one named may be all there is of it */
			assert_int_equal(found.orphan_count, 1);
			assert_true(str_eq_c(found.orphans[0], "00000003.part"));
			assert_int_equal(found.removed_count, 0);
			assert_int_equal(quarantine_count(q), 1);
		}
		test_flip(in_store(manifest_name(2)), at, (int)(at % 8));
		quarantine_free(q);
	}
	for (size_t len = 0; len < good.len; len++) {
		test_write(in_store(manifest_name(2)), good.ptr, len);
		store_manifest_close(open_store(NULL, &found));
		assert_int_equal(found.generation, 1);
		assert_int_equal(found.orphan_count, 1);
	}
	/* the next commit ends it: the bad one is put aside, its number is not used again */
	struct store_manifest *s = open_store(NULL, &found);
	test_ok(commit(s, &m, &e), &e);
	assert_int_equal(store_manifest_generation(s), 3);
	store_manifest_close(s);
	assert_false(test_exists(in_store(manifest_name(2))));
	char aside[80];
	snprintf(aside, sizeof(aside), "quarantine/%s", manifest_name(2));
	assert_true(test_exists(in_store(aside)));
	store_manifest_close(open_store(NULL, &found));
	assert_false(found.fell_back);
	assert_same(&m, &found.content);
	buf_done(&good);
}

static void without_any_manifest_all_parts_are_orphans(void **state)
{
	(void)state;
	struct model m;
	struct store_manifest_found found;
	write_two(&m);
	test_flip(in_store(manifest_name(1)), 20, 0);
	test_flip(in_store(manifest_name(2)), 20, 0);
	store_manifest_close(open_store(NULL, &found));
	assert_int_equal(found.orphan_count, 3);
	assert_int_equal(found.content.part_count, 0);
	assert_int_equal(found.removed_count, 0);
}

static void others_are_refused(void **state)
{
	(void)state;
	struct model m;
	struct store_manifest_found found;
	struct store_manifest *s = NULL;
	struct err e;
	write_two(&m);
	assert_int_equal(
		store_manifest_open(test_path("store"), "other", NULL, &arena, &found, &s, &e),
		ERR_CONFLICT);
	assert_true(test_exists(in_store("00000002.part")));
	struct arena small = arena_init(64);
	assert_int_equal(
		store_manifest_open(test_path("store"), "test", NULL, &small, &found, &s, &e),
		ERR_LIMIT);
	arena_done(&small);
}

static void wrong_contents_are_refused(void **state)
{
	(void)state;
	struct store_manifest_found found;
	struct err e;
	begin_afresh();
	struct store_manifest *s = open_store(NULL, &found);
	char *large = must_calloc(1, STORE_MANIFEST_STATE_MAX + 1);
	struct store_manifest_part parts[2] = { { STR("a.part"), 0, STR("") },
						{ STR("a.part"), 0, STR("") } };
	struct store_manifest_content c = { STR(""), parts, 2 };
	assert_int_equal(store_manifest_commit(s, &c, &e), ERR_INVALID);
	parts[1].name = STR("../b.part");
	assert_int_equal(store_manifest_commit(s, &c, &e), ERR_INVALID);
	parts[1].name = STR("b\0c.part");
	assert_int_equal(store_manifest_commit(s, &c, &e), ERR_INVALID);
	parts[1].name = STR("");
	assert_int_equal(store_manifest_commit(s, &c, &e), ERR_INVALID);
	parts[1].name = STR("b.part");
	parts[1].note = (str){ large, STORE_MANIFEST_NOTE_MAX + 1 };
	assert_int_equal(store_manifest_commit(s, &c, &e), ERR_LIMIT);
	parts[1].note.len--;
	c.state = (str){ large, STORE_MANIFEST_STATE_MAX + 1 };
	assert_int_equal(store_manifest_commit(s, &c, &e), ERR_LIMIT);
	c.state.len--;
	/* none of them counted */
	assert_int_equal(store_manifest_generation(s), 0);
	test_ok(store_manifest_commit(s, &c, &e), &e);
	store_manifest_close(s);
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_commits_are_found_again),
		cmocka_unit_test(only_leftovers_are_removed),
		cmocka_unit_test(missing_parts_are_told),
		cmocka_unit_test(a_bad_manifest_falls_back),
		cmocka_unit_test(without_any_manifest_all_parts_are_orphans),
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(wrong_contents_are_refused),
	};
	int rc = cmocka_run_group_tests(tests, test_root_make, test_root_remove);
	arena_done(&arena);
	return rc;
}
