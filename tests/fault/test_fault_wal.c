/* The log under failing calls and crashes: what was acknowledged is replayed, once, and what was
 * refused is not. */
#include "store_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fault_io.h"
#include "store/wal.h"

enum { GROUPS = 40, GROUP_BYTES_MAX = 600 };

/* What the scenario was told; shared with a child that crashes. */
struct told {
	uint64_t sequences[GROUPS]; /* 0: the log took none for it */
	bool begun[GROUPS], acknowledged[GROUPS], synced[GROUPS];
	uint64_t position;
	char what[96];
};

static char folder[128];
static struct told *told;
static bool seen[GROUPS];
static uint64_t last_seen;

static struct wal_options options(struct quarantine *q)
{
	return (struct wal_options){
		.folder = folder, .engine = "test", .quarantine = q, .segment_bytes = 3000
	};
}

/* ---- The scenario: what fails is passed over, as an engine does that goes on. */

/* Two records; the first says which group it is. */
static size_t group_bytes(size_t n, char number[8], char bytes[GROUP_BYTES_MAX])
{
	uint64_t seed = n + 1;
	size_t len = test_below(&seed, GROUP_BYTES_MAX);
	snprintf(number, 8, "%zu", n);
	test_fill(n, bytes, len);
	return len;
}

static void append(struct wal *w, size_t n)
{
	char number[8], bytes[GROUP_BYTES_MAX];
	size_t len = group_bytes(n, number, bytes);
	const struct wal_record records[] = { { 1, { number, 8 } }, { 2, { bytes, len } } };
	told->begun[n] = true;
	told->acknowledged[n] = wal_append(w, records, 2, &told->sequences[n], NULL) == OK;
}

static void note_synced(errc rc)
{
	for (size_t i = 0; i < GROUPS && rc == OK; i++)
		told->synced[i] = told->acknowledged[i];
}

static struct wal *reopen(struct wal *w)
{
	struct wal_options o = options(NULL);
	struct wal_report report;
	struct wal *again = NULL;
	if (w)
		note_synced(wal_close(w, NULL));
	return wal_open(&o, told->position, NULL, NULL, &report, &again, NULL) == OK ? again : NULL;
}

static void scenario(void)
{
	struct wal *w = reopen(NULL);
	for (size_t n = 0; n < GROUPS && w; n++) {
		append(w, n);
		if (n % 4 == 3)
			note_synced(wal_sync(w, NULL));
		if (n == 15 || n == 30) {
			/* the parts hold everything up to here */
			uint64_t position = told->sequences[n - 5];
			if (position > told->position)
				told->position = position;
			(void)!wal_truncate(w, told->position, NULL);
		}
		if (n == 21 || n == 33)
			w = reopen(w);
	}
	if (w)
		note_synced(wal_close(w, NULL));
}

/* ---- What must hold. */

static errc check_group(void *ctx, struct wal_group *group, struct err *e)
{
	struct wal_record record;
	char number[8], bytes[GROUP_BYTES_MAX];
	(void)ctx;
	(void)e;
	assert_true(group->sequence > last_seen);
	last_seen = group->sequence;
	assert_true(wal_group_record(group, &record));
	assert_int_equal(record.bytes.len, 8);
	size_t n = (size_t)strtoul(record.bytes.ptr, NULL, 10);
	assert_true(n < GROUPS && told->begun[n]);
	if (seen[n])
		print_error("%s: group %zu is there twice\n", told->what, n);
	assert_false(seen[n]);
	seen[n] = true;
	size_t len = group_bytes(n, number, bytes);
	assert_true(wal_group_record(group, &record));
	assert_int_equal(record.bytes.len, len);
	assert_memory_equal(record.bytes.ptr, bytes, len);
	assert_false(wal_group_record(group, &record));
	return OK;
}

static void check_once(bool crashed)
{
	struct quarantine *q = quarantine_new();
	struct wal_options o = options(q);
	struct wal_report report;
	struct wal *w = NULL;
	struct err e;
	memset(seen, 0, sizeof(seen));
	last_seen = 0;
	test_ok(wal_open(&o, told->position, check_group, NULL, &report, &w, &e), &e);
	for (size_t n = 0; n < GROUPS; n++) {
		bool needed = crashed ? told->synced[n] : told->acknowledged[n];
		needed = needed && told->sequences[n] >= told->position;
		if (needed && !seen[n])
			print_error("%s: group %zu is lost\n", told->what, n);
		assert_true(!needed || seen[n]);
		/* what was refused is not there, unless a crash cut short the answer */
		bool refused = !crashed && told->begun[n] && !told->sequences[n];
		if (refused && seen[n])
			print_error("%s: group %zu was refused and is there\n", told->what, n);
		assert_false(refused && seen[n]);
	}
	/* nothing rotted: a torn tail is no damage */
	if (report.bad_span_count)
		print_error("%s: %llu spans are called bad\n", told->what,
			    (unsigned long long)report.bad_span_count);
	assert_int_equal(report.bad_span_count, 0);
	assert_int_equal(quarantine_count(q), 0);
	/* and it goes on */
	size_t n = GROUPS - 1;
	bool is_new = !told->begun[n];
	if (is_new)
		append(w, n);
	test_ok(wal_close(w, &e), &e);
	if (is_new) {
		assert_true(told->acknowledged[n]);
		told->synced[n] = true;
	}
	quarantine_free(q);
}

static void check(bool crashed)
{
	check_once(crashed);
	check_once(crashed);
}

static void start_afresh(void)
{
	assert_int_equal(io_remove_tree(folder, NULL), OK);
	/* who uses the log makes its folder's name durable */
	assert_int_equal(io_make_dirs(folder, 0700, NULL), OK);
	memset(told, 0, sizeof(*told));
	told->position = 1;
}

/* ---- Failing calls. */

static void run_faults(enum fault_call call, int sys_errno, bool persistent, bool short_write)
{
	for (size_t k = 1;; k++) {
		struct fault fault = { call, k, sys_errno, persistent, short_write };
		start_afresh();
		snprintf(told->what, sizeof(told->what), "call %d, errno %d, %s%s, no. %zu", call,
			 sys_errno, persistent ? "for good" : "once",
			 short_write ? ", short writes" : "", k);
		fault_io_install(test_root);
		fault_io_arm(&fault);
		scenario();
		bool fired = fault_io_fired();
		fault_io_remove();
		check(false);
		if (!fired)
			return;
	}
}

static void every_failing_call_loses_nothing(void **state)
{
	static const enum fault_call calls[] = { FAULT_OPEN,     FAULT_READ,  FAULT_WRITE,
						 FAULT_TRUNCATE, FAULT_FSYNC, FAULT_RENAME,
						 FAULT_UNLINK,   FAULT_MKDIR, FAULT_ANY };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++)
		for (int n = 0; n < 8; n++)
			run_faults(calls[i], n & 4 ? ENOSPC : EIO, n & 1, n & 2);
}

/* ---- Crashes, of a healthy machine and of one whose calls failed before. */

static bool crash_once(size_t k, bool names_lost, const struct fault *fault, bool *ret_fired)
{
	int status;
	start_afresh();
	snprintf(told->what, sizeof(told->what), "crash no. %zu, names %s, fault %d no. %zu", k,
		 names_lost ? "lost" : "kept", fault ? (int)fault->call : -1, fault ? fault->k : 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		fault_io_install(test_root);
		if (fault)
			fault_io_arm(fault);
		fault_io_crash_at(k, names_lost);
		scenario();
		_exit(fault_io_fired() ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	*ret_fired = WEXITSTATUS(status) == 1;
	return WEXITSTATUS(status) == FAULT_EXIT;
}

static void every_crash_leaves_what_was_synced(void **state)
{
	(void)state;
	for (int names_lost = 0; names_lost <= 1; names_lost++) {
		bool crashed = true, fired;
		for (size_t k = 1; crashed; k++) {
			crashed = crash_once(k, names_lost, NULL, &fired);
			check(true);
		}
	}
}

static void a_crash_after_a_failed_call_does_too(void **state)
{
	static const enum fault_call calls[] = { FAULT_FSYNC, FAULT_WRITE };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++) {
		bool fired = true;
		for (size_t k = 1; fired; k += 4) {
			const struct fault fault = { calls[i], k, EIO, false, true };
			bool crashed = true;
			for (size_t at = 1; crashed; at += 3) {
				crashed = crash_once(at, at % 2, &fault, &fired);
				check(true);
			}
		}
	}
}

/* ---- A failed sync after which the page cache has forgotten what it could not write. */

static struct {
	struct io_ops ops;
	const struct io_ops *below;
	off_t from; /* bytes of the log's first segment that are lost at the next sync */
	off_t len;
	int holes; /* so many times, with as much between them */
} forgetful;

static int forget_at_sync(int fd)
{
	char link_path[64], path[512];
	if (!forgetful.len)
		return forgetful.below->fdatasync(fd);
	snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link_path, path, sizeof(path) - 1);
	must(n > 0);
	path[n] = '\0';
	int again = open(path, O_WRONLY | O_CLOEXEC);
	char *zeros = must_calloc(1, (size_t)forgetful.len);
	must(again >= 0);
	for (int i = 0; i < forgetful.holes; i++)
		must(pwrite(again, zeros, (size_t)forgetful.len,
			    forgetful.from + 2 * i * forgetful.len) == forgetful.len);
	free(zeros);
	close(again);
	forgetful.len = 0;
	errno = EIO;
	return -1;
}

static void what_the_page_cache_forgot_is_written_again(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct wal_options o = options(NULL);
		struct wal_report report;
		struct wal *w = NULL;
		struct wal_stats stats;
		struct err e;
		uint64_t random = seed;
		size_t count = 4 + test_below(&random, 30);
		start_afresh();
		snprintf(told->what, sizeof(told->what), "forgetful, seed %llu",
			 (unsigned long long)seed);
		o.segment_bytes = test_below(&random, 2) ? 3000 : 1 << 20;
		test_ok(wal_open(&o, 1, NULL, NULL, &report, &w, &e), &e);
		for (size_t n = 0; n < count; n++)
			append(w, n);
		/* somewhere in the first segment, behind its header */
		forgetful.from = 1024 + (off_t)test_below(&random, 1000);
		forgetful.len = 1 + (off_t)test_below(&random, 900);
		forgetful.holes = 1 + (int)test_below(&random, 4);
		forgetful.below = io;
		forgetful.ops = *io;
		forgetful.ops.fdatasync = forget_at_sync;
		io = &forgetful.ops;
		/* the caller does not even notice */
		test_ok(wal_sync(w, &e), &e);
		io = forgetful.below;
		note_synced(OK);
		wal_stats(w, &stats);
		assert_int_equal(stats.sync_failed_count, 1);
		assert_false(stats.failing);
		append(w, count);
		test_ok(wal_close(w, &e), &e);
		note_synced(OK);
		check(true);
	}
}

/* ---- */

static int set_up(void **state)
{
	if (test_root_make(state) != 0)
		return -1;
	snprintf(folder, sizeof(folder), "%s", test_path("log"));
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(told != MAP_FAILED);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_failing_call_loses_nothing),
		cmocka_unit_test(every_crash_leaves_what_was_synced),
		cmocka_unit_test(a_crash_after_a_failed_call_does_too),
		cmocka_unit_test(what_the_page_cache_forgot_is_written_again),
	};
	return cmocka_run_group_tests(tests, set_up, test_root_remove);
}
