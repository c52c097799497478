/* Parts and their manifest under failing calls and crashes: the last commit counts, and every part
 * that it names is whole. */
#include "store_test.h"

#include <dirent.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fault_io.h"
#include "store/store_manifest.h"

enum { COMMITS = 12, LIVE_MAX = 16, BLOCKS = 3, BLOCK_BYTES = 30000 };

/* What a commit said. */
struct said {
	uint32_t numbers[LIVE_MAX];
	size_t count;
};

/* What the scenario was told; shared with a child that crashes. */
struct told {
	struct said commits[COMMITS + 2]; /* [0]: of the empty store */
	size_t begun, done;               /* commits; the last that was OK */
	char what[96];
};

static char folder[128];
static struct told *told;

static void part_name(uint32_t number, char name[24])
{
	snprintf(name, 24, "%08u.part", number);
}

static size_t block_bytes(uint32_t number, uint32_t block, char bytes[BLOCK_BYTES])
{
	uint64_t seed = number * 100 + block;
	size_t len = test_below(&seed, BLOCK_BYTES);
	test_fill(seed, bytes, len);
	return len;
}

/* ---- The scenario. */

static errc write_part(uint32_t number, uint64_t *ret_bytes)
{
	static char bytes[BLOCK_BYTES];
	struct part_writer *w = NULL;
	char name[24];
	part_name(number, name);
	const struct part_writer_options o = { .folder = folder, .name = name, .kind = "test" };
	errc rc = part_writer_new(&o, &w, NULL);
	for (uint32_t i = 0; i < BLOCKS && rc == OK; i++)
		rc = part_writer_block(w, (str){ bytes, block_bytes(number, i, bytes) }, NULL,
				       NULL);
	if (rc == OK)
		rc = part_writer_finish(w, (str){ name, strlen(name) }, ret_bytes, NULL);
	part_writer_free(w);
	return rc;
}

static errc commit(struct store_manifest *m, const struct said *s, const uint64_t *sizes)
{
	struct store_manifest_part parts[LIVE_MAX];
	char names[LIVE_MAX][24];
	for (size_t i = 0; i < s->count; i++) {
		part_name(s->numbers[i], names[i]);
		parts[i] = (struct store_manifest_part){ str_c(names[i]), sizes[s->numbers[i]],
							 STR("") };
	}
	const struct store_manifest_content content = { STR("state"), parts, s->count };
	told->commits[++told->begun] = *s;
	errc rc = store_manifest_commit(m, &content, NULL);
	if (rc == OK)
		told->done = told->begun;
	return rc;
}

static struct store_manifest *open_store(struct quarantine *q, struct arena *arena,
					 struct store_manifest_found *found)
{
	struct store_manifest *m = NULL;
	struct err e = { .code = OK };
	return store_manifest_open(folder, "test", q, arena, found, &m, &e) == OK ? m : NULL;
}

/* The parts that are no longer named, as an engine lets them go. */
static void doom(const struct said *replaced)
{
	for (size_t i = 0; i < replaced->count; i++) {
		struct part_file *p = NULL;
		char name[24];
		part_name(replaced->numbers[i], name);
		if (part_file_open(folder, name, "test", NULL, &p, NULL) != OK)
			continue;
		part_file_doom(p);
		part_file_unref(p);
	}
}

static void scenario(void)
{
	struct arena arena = arena_init(1 << 20);
	struct store_manifest_found found;
	struct store_manifest *m = open_store(NULL, &arena, &found);
	struct said live = { .count = 0 };
	uint64_t sizes[COMMITS + 1] = { 0 };
	for (uint32_t n = 1; n <= COMMITS && m; n++) {
		struct said next = live, replaced = { .count = 0 };
		if (write_part(n, &sizes[n]) != OK)
			continue;
		if (n % 4 == 0) { /* a merge: N is instead of those before it */
			replaced = live;
			next.count = 0;
		}
		next.numbers[next.count++] = n;
		if (commit(m, &next, sizes) != OK)
			continue; /* either may count: nothing is let go */
		live = next;
		doom(&replaced);
		if (n == 6) {
			store_manifest_close(m);
			m = open_store(NULL, &arena, &found);
		}
	}
	store_manifest_close(m);
	arena_done(&arena);
}

/* ---- What must hold. */

static void check_part(const char *name)
{
	static char bytes[BLOCK_BYTES];
	struct quarantine *q = quarantine_new();
	struct part_file *p = NULL;
	struct err e;
	uint32_t number = (uint32_t)strtoul(name, NULL, 10);
	test_ok(part_file_open(folder, name, "test", q, &p, &e), &e);
	assert_false(part_file_is_damaged(p));
	assert_int_equal(part_block_count(p), BLOCKS);
	assert_true(str_eq_c(part_file_meta(p), name));
	for (uint32_t i = 0; i < BLOCKS; i++) {
		size_t len = block_bytes(number, i, bytes);
		str got;
		test_ok(part_block(p, i, &got, &e), &e);
		assert_int_equal(got.len, len);
		assert_memory_equal(got.ptr, bytes, len);
	}
	part_file_unref(p);
	assert_int_equal(quarantine_count(q), 0);
	quarantine_free(q);
}

static bool is_said(const struct said *s, const struct store_manifest_content *c)
{
	char name[24];
	if (s->count != c->part_count)
		return false;
	for (size_t i = 0; i < s->count; i++) {
		part_name(s->numbers[i], name);
		if (!str_eq_c(c->parts[i].name, name))
			return false;
	}
	return true;
}

static size_t count_parts(void)
{
	size_t count = 0;
	DIR *dir = opendir(folder);
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));) {
		assert_null(strstr(d->d_name, ".tmp"));
		count += strstr(d->d_name, ".part") != NULL;
	}
	closedir(dir);
	return count;
}

static void check(void)
{
	struct quarantine *q = quarantine_new();
	struct arena arena = arena_init(1 << 20);
	struct store_manifest_found found;
	struct store_manifest *m = open_store(q, &arena, &found);
	assert_non_null(m);
	bool counts = false;
	for (size_t i = told->done; i <= told->begun; i++)
		counts |= is_said(&told->commits[i], &found.content);
	if (!counts || found.missing_count || found.fell_back)
		print_error("%s: generation %llu, %zu parts, %zu missing\n", told->what,
			    (unsigned long long)found.generation, found.content.part_count,
			    found.missing_count);
	assert_true(counts);
	assert_int_equal(found.missing_count, 0);
	assert_false(found.fell_back);
	assert_int_equal(quarantine_count(q), 0);
	for (size_t i = 0; i < found.content.part_count; i++)
		check_part(found.content.parts[i].name.ptr);
	assert_int_equal(count_parts(), found.content.part_count);
	/* and it goes on */
	assert_int_equal(store_manifest_commit(m, &found.content, NULL), OK);
	store_manifest_close(m);
	arena_done(&arena);
	quarantine_free(q);
}

static void start_afresh(void)
{
	assert_int_equal(io_remove_tree(folder, NULL), OK);
	/* who uses the store makes its folder's name durable */
	assert_int_equal(io_make_dirs(folder, 0700, NULL), OK);
	memset(told, 0, sizeof(*told));
}

static void run_faults(enum fault_call call, int sys_errno, bool persistent, bool short_write)
{
	for (size_t k = 1;; k++) {
		const struct fault fault = { call, k, sys_errno, persistent, short_write };
		start_afresh();
		snprintf(told->what, sizeof(told->what), "call %d, errno %d, %s, no. %zu", call,
			 sys_errno, persistent ? "for good" : "once", k);
		fault_io_install(test_root);
		fault_io_arm(&fault);
		scenario();
		bool fired = fault_io_fired();
		fault_io_remove();
		check();
		if (!fired)
			return;
	}
}

static void every_failing_call_leaves_a_whole_store(void **state)
{
	static const enum fault_call calls[] = { FAULT_OPEN,  FAULT_READ,   FAULT_WRITE,
						 FAULT_FSYNC, FAULT_RENAME, FAULT_UNLINK,
						 FAULT_MKDIR, FAULT_ANY };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++) {
		run_faults(calls[i], EIO, false, false);
		run_faults(calls[i], EIO, true, false);
	}
	run_faults(FAULT_WRITE, ENOSPC, false, true);
	run_faults(FAULT_WRITE, ENOSPC, true, true);
}

static bool crash_once(size_t k, bool names_lost)
{
	int status;
	start_afresh();
	snprintf(told->what, sizeof(told->what), "crash no. %zu, names %s", k,
		 names_lost ? "lost" : "kept");
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		fault_io_install(test_root);
		fault_io_crash_at(k, names_lost);
		scenario();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_EXIT);
	return WEXITSTATUS(status) == FAULT_EXIT;
}

static void every_crash_leaves_a_whole_store(void **state)
{
	(void)state;
	for (int names_lost = 0; names_lost <= 1; names_lost++) {
		bool crashed = true;
		for (size_t k = 1; crashed; k++) {
			crashed = crash_once(k, names_lost);
			check();
		}
	}
}

/* A block whose sector cannot be read is put aside; the others are served. */
static void an_unreadable_block_is_put_aside(void **state)
{
	(void)state;
	uint64_t bytes;
	start_afresh();
	assert_int_equal(write_part(1, &bytes), OK);
	for (int persistent = 0; persistent <= 1; persistent++) {
		struct quarantine *q = quarantine_new();
		const struct fault fault = { FAULT_READ, 1, EIO, persistent, false };
		struct part_file *p = NULL;
		struct err e;
		str got;
		test_ok(part_file_open(folder, "00000001.part", "test", q, &p, &e), &e);
		test_ok(part_block(p, 0, &got, &e), &e);
		fault_io_install(test_root);
		fault_io_arm(&fault);
		errc rc = part_block(p, 1, &got, &e);
		/* what was checked before needs no call */
		assert_int_equal(part_block(p, 0, &got, &e), OK);
		fault_io_remove();
		/* a failure that passes is tried again, and not seen */
		assert_int_equal(rc, persistent ? ERR_CORRUPT : OK);
		assert_int_equal(part_block(p, 1, &got, &e), rc);
		assert_int_equal(quarantine_count(q), persistent);
		assert_int_equal(part_file_is_unreadable(p), persistent);
		assert_int_equal(part_block(p, 2, &got, &e), OK);
		part_file_unref(p);
		quarantine_free(q);
	}
}

static int set_up(void **state)
{
	if (test_root_make(state) != 0)
		return -1;
	snprintf(folder, sizeof(folder), "%s", test_path("parts"));
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(told != MAP_FAILED);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_failing_call_leaves_a_whole_store),
		cmocka_unit_test(every_crash_leaves_a_whole_store),
		cmocka_unit_test(an_unreadable_block_is_put_aside),
	};
	return cmocka_run_group_tests(tests, set_up, test_root_remove);
}
