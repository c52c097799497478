/* A repair that fails or crashes at any call leaves a folder that another repair makes healthy,
 * with everything that could be read before. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "fault_io.h"
#include "metrics/metrics.h"
#include "os/io.h"

enum { SERIES = 60, SAMPLES = 400, ROUNDS_MAX = 2000 };

static char root[64], original[96], folder[96];
static struct err error;
static size_t expected; /* series that a repair saves */

static void check(errc rc, int line)
{
	if (rc == OK)
		return;
	print_error("%s: %s (line %d)\n", errc_name(rc), error.message, line);
	fail();
}
#define assert_ok(expr) check((expr), __LINE__)

static time_ms fixed_now(void)
{
	return (time_ms)1790003600 * 1000;
}

static struct metrics *open_engine(const char *path)
{
	const struct metrics_options options = { .folder = path,
						 .now = fixed_now,
						 .disk_reserve_bytes = 1,
						 .memory_bytes_max = (size_t)64 << 20 };
	struct metrics *m = NULL;
	assert_ok(metrics_open(&options, &m, &error));
	return m;
}

static void fill(const char *path)
{
	struct metrics *m = open_engine(path);
	struct metrics_batch *b = metrics_batch_new(m, STR("test"), 0);
	struct metrics_batch_result result;
	uint64_t value = 1;
	for (unsigned i = 0; i < SERIES; i++) {
		char text[16];
		snprintf(text, sizeof(text), "%u", i);
		struct label items[] = { { STR("__name__"), STR("m") }, { STR("i"), str_c(text) } };
		const struct labels labels = { items, ARRAY_COUNT(items) };
		metrics_ref ref = 0;
		assert_ok(metrics_batch_series(b, &labels, &ref, &error));
		/* an hour ago, and hard to compress: several blocks */
		for (int k = 0; k < SAMPLES; k++) {
			value = value * 6364136223846793005u + 1442695040888963407u;
			time_ms time = ((time_ms)1790000000 + k) * 1000;
			(void)!metrics_batch_sample(b, ref, time, (double)(value >> 12));
		}
	}
	assert_ok(metrics_batch_commit(b, &result, &error));
	metrics_batch_free(b);
	assert_ok(metrics_flush(m, false, &error));
	metrics_close(m);
}

static void damage_part(const char *path)
{
	char parts[128], name[256] = "";
	struct buf bytes = buf_init(64 << 20);
	snprintf(parts, sizeof(parts), "%s/parts", path);
	DIR *dir = opendir(parts);
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));)
		if (d->d_name[0] == 's')
			snprintf(name, sizeof(name), "%s/%.100s", parts, d->d_name);
	closedir(dir);
	assert_true(name[0]);
	assert_ok(io_read_file(name, &bytes, &error));
	assert_true(bytes.len > 130000);
	bytes.ptr[90000] = (char)~bytes.ptr[90000];
	assert_ok(io_write_file(name, buf_str(&bytes), 0600, &error));
	buf_done(&bytes);
}

static errc repair(void)
{
	struct buf report = buf_init(1 << 20);
	uint64_t bad = 0;
	errc rc = metrics_doctor(folder, true, &report, &bad, &error);
	buf_done(&report);
	return rc;
}

static uint64_t count_bad(void)
{
	struct buf report = buf_init(1 << 20);
	uint64_t bad = 0;
	assert_ok(metrics_doctor(folder, false, &report, &bad, &error));
	buf_done(&report);
	return bad;
}

static size_t count_series(void)
{
	struct metrics *m = open_engine(folder);
	const struct matcher matcher = { .type = MATCH_EQUAL,
					 .name = STR("__name__"),
					 .value = STR("m") };
	struct metrics_query query = {
		.matchers = &matcher, .matcher_count = 1, .from = INT64_MIN, .to = INT64_MAX
	};
	struct metrics_selection *s = NULL;
	struct metrics_samples samples = { 0 };
	size_t whole = 0;
	assert_ok(metrics_select(m, &query, &s, &error));
	for (size_t i = 0; i < metrics_selection_count(s); i++) {
		assert_ok(metrics_selection_read(s, i, query.from, query.to, &samples, &error));
		whole += samples.count == SAMPLES;
	}
	metrics_samples_done(&samples);
	metrics_selection_free(s);
	metrics_close(m);
	return whole;
}

static void start_afresh(void)
{
	assert_ok(io_remove_tree(folder, &error));
	assert_ok(io_copy_tree(original, folder, false, &error));
}

/* After whatever happened another repair does it. */
static void assert_repairable(void)
{
	if (count_bad())
		assert_ok(repair());
	assert_int_equal(count_bad(), 0);
	assert_int_equal(count_series(), expected);
}

static void run_faults(enum fault_call call, int sys_errno, bool persistent)
{
	bool fired = true;
	for (size_t k = 1; fired && k < ROUNDS_MAX; k++) {
		const struct fault fault = {
			.call = call, .k = k, .sys_errno = sys_errno, .persistent = persistent
		};
		start_afresh();
		fault_io_install(root);
		fault_io_arm(&fault);
		(void)!repair();
		fired = fault_io_fired();
		fault_io_disarm();
		fault_io_remove();
		assert_repairable();
	}
}

static void every_failing_call_can_be_repaired(void **state)
{
	static const enum fault_call calls[] = { FAULT_WRITE, FAULT_FSYNC, FAULT_RENAME,
						 FAULT_UNLINK, FAULT_MKDIR };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++) {
		run_faults(calls[i], EIO, false);
		run_faults(calls[i], EIO, true);
	}
	run_faults(FAULT_WRITE, ENOSPC, true);
}

static bool crash_once(size_t k, bool names_lost)
{
	int status;
	start_afresh();
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		fault_io_install(root);
		fault_io_crash_at(k, names_lost);
		(void)!repair();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_EXIT);
	return WEXITSTATUS(status) == FAULT_EXIT;
}

static void every_crash_can_be_repaired(void **state)
{
	(void)state;
	for (int names_lost = 0; names_lost <= 1; names_lost++) {
		bool crashed = true;
		for (size_t k = 1; crashed && k < ROUNDS_MAX; k++) {
			crashed = crash_once(k, names_lost);
			assert_repairable();
		}
	}
}

static int set_up(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "%s/holdfast-fault-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(root));
	snprintf(original, sizeof(original), "%s/original", root);
	snprintf(folder, sizeof(folder), "%s/metrics", root);
	fill(original);
	damage_part(original);
	start_afresh();
	assert_true(count_bad() > 0);
	assert_ok(repair());
	assert_int_equal(count_bad(), 0);
	expected = count_series();
	assert_true(expected > 0 && expected < SERIES);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return io_remove_tree(root, NULL) == OK ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_failing_call_can_be_repaired),
		cmocka_unit_test(every_crash_can_be_repaired),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
