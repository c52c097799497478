/* Parts: what was written is read, and of a damaged file all that is not damaged. */
#include "store_test.h"

#include <pthread.h>

#include "store/part_internal.h"

enum { BLOCKS_MAX = 64, SMALL_BLOCKS = 6 };

struct model {
	char *blocks[BLOCKS_MAX];
	uint32_t lens[BLOCKS_MAX];
	uint32_t count;
	char meta[300];
	size_t meta_len;
};

static void model_done(struct model *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		free(m->blocks[i]);
	memset(m, 0, sizeof(*m));
}

static struct part_writer *begin(const char *name)
{
	struct part_writer_options o = {
		.folder = test_root, .name = name, .kind = "test.kind", .kind_version = 3
	};
	struct part_writer *w = NULL;
	struct err e;
	test_ok(part_writer_new(&o, &w, &e), &e);
	return w;
}

/* Random blocks, of which some are empty and few are large. */
static void write_part(const char *name, uint64_t seed, uint32_t count, uint32_t len_max,
		       struct model *m)
{
	struct part_writer *w = begin(name);
	struct err e;
	uint64_t bytes;
	for (m->count = 0; m->count < count; m->count++) {
		uint32_t i = m->count, index = 99;
		m->lens[i] = (uint32_t)test_below(&seed, test_below(&seed, 5) ? 200 : len_max);
		m->blocks[i] = must_calloc(1, m->lens[i] + 1);
		test_fill(seed, m->blocks[i], m->lens[i]);
		size_t cut = test_below(&seed, m->lens[i] + 1);
		str pieces[] = { { m->blocks[i], cut }, { m->blocks[i] + cut, m->lens[i] - cut } };
		if (i % 2)
			test_ok(part_writer_blockv(w, pieces, 2, &index, &e), &e);
		else
			test_ok(part_writer_block(w, (str){ m->blocks[i], m->lens[i] }, &index, &e),
				&e);
		assert_int_equal(index, i);
		assert_int_equal(part_writer_block_count(w), i + 1);
	}
	m->meta_len = test_below(&seed, sizeof(m->meta));
	test_fill(seed, m->meta, m->meta_len);
	test_ok(part_writer_finish(w, (str){ m->meta, m->meta_len }, &bytes, &e), &e);
	assert_int_equal(bytes, part_writer_bytes(w));
	part_writer_free(w);
	struct buf file = test_read(test_path(name));
	assert_int_equal(file.len, bytes);
	buf_done(&file);
}

static errc open_part(const char *name, struct quarantine *q, struct part_file **ret, struct err *e)
{
	return part_file_open(test_root, name, "test.kind", q, ret, e);
}

/* Every block by both ways; those in BAD_BEGIN..BAD_END may be bad. How many were. */
static uint32_t check_blocks(struct part_file *p, const struct model *m, uint64_t bad_at)
{
	uint64_t offset = PART_HEADER_BYTES;
	uint32_t bad = 0;
	struct err e;
	for (uint32_t i = 0; i < m->count; i++) {
		char *copy = must_calloc(1, m->lens[i] + 1);
		bool hit = bad_at >= offset && bad_at < offset + m->lens[i];
		str bytes;
		assert_int_equal(part_block_len(p, i), m->lens[i]);
		errc rc = part_block(p, i, &bytes, &e);
		assert_int_equal(rc, hit ? ERR_CORRUPT : OK);
		assert_int_equal(part_block_is_bad(p, i), hit);
		assert_int_equal(part_block_read(p, i, copy, &e), rc);
		assert_int_equal(part_block(p, i, &bytes, &e), rc);
		if (!hit) {
			volatile char slack = bytes.ptr[bytes.len + PART_SLACK_BYTES - 1];
			(void)slack;
			assert_int_equal((uintptr_t)bytes.ptr % 8, 0);
			assert_int_equal(bytes.len, m->lens[i]);
			assert_memory_equal(bytes.ptr, m->blocks[i], bytes.len);
			assert_memory_equal(copy, m->blocks[i], bytes.len);
		}
		free(copy);
		bad += hit;
		offset += align8(m->lens[i]);
	}
	return bad;
}

static void random_parts_are_read_back(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct model m = { 0 };
		struct part_file *p = NULL;
		struct err e;
		uint64_t bad, random = seed;
		str bytes;
		write_part("random.part", seed, (uint32_t)test_below(&random, BLOCKS_MAX), 400000,
			   &m);
		test_ok(open_part("random.part", NULL, &p, &e), &e);
		assert_int_equal(part_block_count(p), m.count);
		assert_int_equal(part_file_kind_version(p), 3);
		assert_string_equal(part_file_name(p), "random.part");
		assert_false(part_file_is_damaged(p));
		assert_int_equal(part_file_meta(p).len, m.meta_len);
		assert_memory_equal(part_file_meta(p).ptr, m.meta, m.meta_len);
		check_blocks(p, &m, UINT64_MAX);
		part_file_forget_pages(p);
		check_blocks(p, &m, UINT64_MAX);
		test_ok(part_file_verify(p, &bad, &e), &e);
		assert_int_equal(bad, 0);
		assert_int_equal(part_block(p, m.count, &bytes, &e), ERR_CORRUPT);
		assert_true(part_file_memory_bytes(p) > 0);
		part_file_unref(p);
		model_done(&m);
	}
	part_file_unref(NULL);
}

/* Every byte of a small part, one after another. */
static void one_bad_byte_costs_one_block_at_most(void **state)
{
	struct model m = { 0 };
	uint64_t blocks_end = PART_HEADER_BYTES, outside = 0, noticed = 0;
	(void)state;
	write_part("flip.part", 7, SMALL_BLOCKS, 200, &m);
	for (uint32_t i = 0; i < m.count; i++)
		blocks_end += align8(m.lens[i]);
	struct buf file = test_read(test_path("flip.part"));
	for (uint64_t at = 0; at < file.len; at++) {
		struct quarantine *q = quarantine_new();
		struct part_file *p = NULL;
		struct err e;
		uint64_t bad_verified;
		test_flip(test_path("flip.part"), at, (int)(at % 8));
		test_ok(open_part("flip.part", q, &p, &e), &e);
		assert_int_equal(part_block_count(p), m.count);
		assert_memory_equal(part_file_meta(p).ptr, m.meta, m.meta_len);
		uint32_t bad = check_blocks(p, &m, at);
		assert_true(at < blocks_end || bad == 0);
		/* one of the two copies of the table: a merge makes two of it again. Padding and
		 * what is reserved are checked by nobody. */
		bool damaged = part_file_is_damaged(p);
		assert_true(!damaged || at < PART_HEADER_BYTES || at >= blocks_end);
		outside += at >= blocks_end && at < file.len;
		noticed += at >= blocks_end && damaged;
		test_ok(part_file_verify(p, &bad_verified, &e), &e);
		assert_int_equal(bad_verified, bad);
		/* listed once, however often it was asked for */
		assert_int_equal(quarantine_count(q), bad + (at < PART_HEADER_BYTES));
		part_file_unref(p);
		quarantine_free(q);
		test_flip(test_path("flip.part"), at, (int)(at % 8));
	}
	/* up to 7 bytes of padding in each copy */
	assert_true(noticed + 2 * 7 >= outside);
	buf_done(&file);
	model_done(&m);
}

static void a_cut_part_is_refused(void **state)
{
	(void)state;
	struct model m = { 0 };
	write_part("cut.part", 9, SMALL_BLOCKS, 200, &m);
	struct buf file = test_read(test_path("cut.part"));
	for (size_t len = 0; len < file.len; len += 3) {
		struct quarantine *q = quarantine_new();
		struct part_file *p = NULL;
		struct err e;
		test_write(test_path("cut.part"), file.ptr, len);
		assert_int_equal(open_part("cut.part", q, &p, &e), ERR_CORRUPT);
		assert_true(quarantine_count(q) >= 1);
		assert_true(test_exists(test_path("cut.part")));
		quarantine_free(q);
	}
	buf_done(&file);
	model_done(&m);
}

/* Whatever the bytes are: an error or blocks that check, never more. */
static void no_bytes_make_it_crash(void **state)
{
	(void)state;
	struct model m = { 0 };
	write_part("wild.part", 11, SMALL_BLOCKS, 3000, &m);
	struct buf file = test_read(test_path("wild.part"));
	for (uint64_t seed = 1; seed <= 400; seed++) {
		uint64_t random = seed;
		struct part_file *p = NULL;
		struct err e;
		char *copy = must_calloc(1, file.len);
		memcpy(copy, file.ptr, file.len);
		for (uint64_t n = 1 + test_below(&random, 8); n; n--) {
			/* mostly where the tables are */
			size_t near = test_below(&random, 3) ? file.len - 900 : 0;
			size_t at = near + test_below(&random, file.len - near);
			size_t len = test_below(&random, file.len - at) / 8 + 1;
			if (test_below(&random, 2))
				test_fill(random, copy + at, len);
			else
				memmove(copy + at, file.ptr + at / 2, len);
		}
		test_write(test_path("wild.part"), copy, file.len);
		free(copy);
		errc rc = open_part("wild.part", NULL, &p, &e);
		assert_true(rc == OK || rc == ERR_CORRUPT);
		for (uint32_t i = 0; rc == OK && i < part_block_count(p); i++) {
			str bytes;
			if (part_block(p, i, &bytes, &e) == OK) {
				assert_int_equal(bytes.len, m.lens[i]);
				assert_memory_equal(bytes.ptr, m.blocks[i], bytes.len);
			}
		}
		part_file_unref(p);
	}
	buf_done(&file);
	model_done(&m);
}

static void others_are_refused(void **state)
{
	(void)state;
	struct model m = { 0 };
	struct part_file *p = NULL;
	struct err e;
	write_part("kind.part", 3, 2, 100, &m);
	assert_int_equal(part_file_open(test_root, "kind.part", "other.kind", NULL, &p, &e),
			 ERR_CONFLICT);
	assert_int_equal(open_part("none.part", NULL, &p, &e), ERR_NOT_FOUND);
	assert_int_equal(open_part("../kind.part", NULL, &p, &e), ERR_INVALID);
	struct buf file = test_read(test_path("kind.part"));
	struct part_header header = { "test.kind", PART_VERSION + 1, 3 };
	part_header_encode(&header, (uint8_t *)file.ptr);
	test_write(test_path("kind.part"), file.ptr, file.len);
	assert_int_equal(open_part("kind.part", NULL, &p, &e), ERR_CONFLICT);
	assert_non_null(strstr(e.message, "newer"));
	assert_int_equal(symlink("kind.part", test_path("link.part")), 0);
	assert_true(open_part("link.part", NULL, &p, &e) != OK);
	buf_done(&file);
	model_done(&m);
}

static void names_are_checked(void **state)
{
	(void)state;
	const char *bad[] = { "", ".part", "a", "a.part.tmp", "a/b.part", "../a.part", ".a.part" };
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct part_writer_options o = { .folder = test_root,
						 .name = bad[i],
						 .kind = "test.kind" };
		struct part_writer *w = NULL;
		struct err e;
		assert_int_equal(part_writer_new(&o, &w, &e), ERR_INVALID);
	}
}

static void what_is_not_finished_leaves_nothing(void **state)
{
	(void)state;
	struct part_writer *w = begin("half.part");
	struct err e;
	char *large = must_calloc(1, PART_BLOCK_BYTES_MAX + 1);
	test_ok(part_writer_block(w, STR("block"), NULL, &e), &e);
	assert_true(test_exists(test_path("half.part.tmp")));
	assert_false(test_exists(test_path("half.part")));
	part_writer_free(w);
	assert_false(test_exists(test_path("half.part.tmp")));
	w = begin("large.part");
	test_ok(part_writer_block(w, (str){ large, PART_BLOCK_BYTES_MAX }, NULL, &e), &e);
	assert_int_equal(part_writer_block(w, (str){ large, PART_BLOCK_BYTES_MAX + 1 }, NULL, &e),
			 ERR_LIMIT);
	part_writer_free(w);
	w = begin("large.part");
	assert_int_equal(part_writer_finish(w, (str){ large, PART_META_BYTES_MAX + 1 }, NULL, &e),
			 ERR_LIMIT);
	part_writer_free(w);
	assert_false(test_exists(test_path("large.part")));
	assert_false(test_exists(test_path("large.part.tmp")));
	part_writer_free(NULL);
	free(large);
}

static void a_doomed_part_goes_with_its_last_user(void **state)
{
	(void)state;
	struct model m = { 0 };
	struct part_file *p = NULL;
	struct err e;
	write_part("doom.part", 5, 4, 1000, &m);
	test_ok(open_part("doom.part", NULL, &p, &e), &e);
	struct part_file *reader = part_file_ref(p);
	part_file_doom(p);
	part_file_unref(p);
	assert_true(test_exists(test_path("doom.part")));
	check_blocks(reader, &m, UINT64_MAX);
	part_file_unref(reader);
	assert_false(test_exists(test_path("doom.part")));
	model_done(&m);
}

enum { THREADS = 4 };

static struct model shared_model;

static void *read_all(void *arg)
{
	struct part_file *p = arg;
	for (int round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < shared_model.count; i++) {
			str bytes;
			must(part_block(p, i, &bytes, NULL) == OK);
			must(memcmp(bytes.ptr, shared_model.blocks[i], bytes.len) == 0);
		}
		part_file_forget_pages(p);
	}
	part_file_unref(p);
	return NULL;
}

static void threads_share_a_part(void **state)
{
	(void)state;
	struct part_file *p = NULL;
	struct err e;
	pthread_t threads[THREADS];
	write_part("shared.part", 21, 40, 20000, &shared_model);
	test_ok(open_part("shared.part", NULL, &p, &e), &e);
	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&threads[i], NULL, read_all, part_file_ref(p)) == 0);
	part_file_doom(p);
	part_file_unref(p);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_false(test_exists(test_path("shared.part")));
	model_done(&shared_model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_parts_are_read_back),
		cmocka_unit_test(one_bad_byte_costs_one_block_at_most),
		cmocka_unit_test(a_cut_part_is_refused),
		cmocka_unit_test(no_bytes_make_it_crash),
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(what_is_not_finished_leaves_nothing),
		cmocka_unit_test(a_doomed_part_goes_with_its_last_user),
		cmocka_unit_test(threads_share_a_part),
	};
	return cmocka_run_group_tests(tests, test_root_make, test_root_remove);
}
