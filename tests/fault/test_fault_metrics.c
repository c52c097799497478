/* The time-series engine under failing calls and crashes: what was acknowledged is there, a batch
 * is there as a whole or not at all, what was deleted stays deleted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "fault_io.h"
#include "metrics/metrics.h"
#include "os/io.h"

enum { BATCHES = 10, SERIES = 5, STEP_MS = 1000, DAY_MS = 86400000 };

/* The address sanitizer makes an open ten times as long (it shadows what is only reserved): there,
 * not every call. */
#ifdef __SANITIZE_ADDRESS__
enum { CALL_STEP = 7 };
#else
enum { CALL_STEP = 1 };
#endif

/* What the scenario was told; shared with a child that crashes. */
struct told {
	bool acknowledged[BATCHES], durable[BATCHES];
	bool begun[BATCHES];           /* may be there */
	bool deletion_begun, deletion; /* of the metric `gone`, in the batches before it */
	char what[80];                 /* what fails, for messages */
};

static char root[64], folder[96];
static struct told *told;
static const time_ms start = 1790000000000;

static time_ms now(void)
{
	return start + 60000;
}

static struct metrics_options options(void)
{
	return (struct metrics_options){ .folder = folder,
					 .now = now,
					 .disk_reserve_bytes = 1,
					 .memory_bytes_max = (size_t)64 << 20 };
}

/* Every other batch is of the day before. */
static time_ms time_of(size_t batch)
{
	return start + (time_ms)batch * STEP_MS - (batch % 2 ? DAY_MS : 0);
}

static double value_of(size_t batch, size_t series)
{
	return (double)(batch * 100 + series) + 0.25;
}

static const char *metric_of(size_t series)
{
	return series == 0 ? "gone" : "kept";
}

/* ---- The scenario: everything an engine does. What fails is passed over. */

static errc write_batch(struct metrics *m, size_t n)
{
	struct metrics_batch *b = metrics_batch_new(m, STR("fault"), 0);
	struct metrics_batch_result result;
	errc rc = OK;
	for (size_t i = 0; i < SERIES && rc == OK; i++) {
		char text[16];
		snprintf(text, sizeof(text), "%zu", i);
		struct label items[] = { { STR(LABEL_METRIC_NAME), str_c(metric_of(i)) },
					 { STR("i"), str_c(text) } };
		const struct labels labels = { items, 2 };
		metrics_ref ref = 0;
		rc = metrics_batch_series(b, &labels, &ref, NULL);
		if (rc == OK)
			must(metrics_batch_sample(b, ref, time_of(n), value_of(n, i)));
	}
	told->begun[n] = true;
	if (rc == OK)
		rc = metrics_batch_commit(b, &result, NULL);
	told->acknowledged[n] = rc == OK;
	metrics_batch_free(b);
	return rc;
}

static void note_durable(errc rc)
{
	for (size_t i = 0; i < BATCHES && rc == OK; i++)
		told->durable[i] = told->acknowledged[i];
}

static void delete_gone(struct metrics *m)
{
	const struct matcher gone = { .type = MATCH_EQUAL,
				      .name = STR(LABEL_METRIC_NAME),
				      .value = STR("gone") };
	uint64_t count;
	told->deletion_begun = true;
	told->deletion = metrics_delete(m, &gone, 1, INT64_MIN, INT64_MAX, &count, NULL) == OK;
}

static struct metrics *reopen(struct metrics *m)
{
	const struct metrics_options o = options();
	struct metrics *again = NULL;
	metrics_close(m);
	return metrics_open(&o, &again, NULL) == OK ? again : NULL;
}

/* Which of the batches come before the deletion. */
enum { DELETED_BATCHES = 5 };

static void scenario(bool synced)
{
	struct metrics *m = reopen(NULL);
	bool more;
	for (size_t n = 0; n < BATCHES && m; n++) {
		if (n == DELETED_BATCHES)
			delete_gone(m);
		errc rc = write_batch(m, n);
		if (synced && n % 3 == 0)
			note_durable(metrics_sync(m, NULL));
		if (n == 2 || n == 7)
			note_durable(metrics_flush(m, false, NULL));
		if (n == 6)
			note_durable(metrics_flush(m, true, NULL));
		rc = metrics_tick(m, &more, NULL);
		(void)rc;
		if (n == 4 || n == 8)
			m = reopen(m);
	}
	metrics_close(m);
}

/* ---- What must hold. */

static void assert_opens(struct metrics **ret)
{
	const struct metrics_options o = options();
	struct err e = { .code = OK };
	errc rc = metrics_open(&o, ret, &e);
	assert_string_equal(rc == OK ? "" : e.message, "");
}

/* The value of series I at the time of batch N; false when it is not there. */
static bool look_up(struct metrics *m, size_t n, size_t i, double *ret)
{
	char text[16];
	snprintf(text, sizeof(text), "%zu", i);
	const struct matcher matcher = { .type = MATCH_EQUAL,
					 .name = STR("i"),
					 .value = str_c(text) };
	struct metrics_query query = {
		.matchers = &matcher, .matcher_count = 1, .from = time_of(n), .to = time_of(n)
	};
	struct metrics_samples samples = { 0 };
	struct metrics_selection *s = NULL;
	assert_int_equal(metrics_select(m, &query, &s, NULL), OK);
	if (metrics_selection_count(s))
		assert_int_equal(metrics_selection_read(s, 0, query.from, query.to, &samples, NULL),
				 OK);
	bool found = samples.count > 0;
	assert_true(samples.count <= 1);
	if (found)
		*ret = samples.values[0];
	metrics_samples_done(&samples);
	metrics_selection_free(s);
	return found;
}

static void check_batch(struct metrics *m, size_t n, bool must_be_there)
{
	size_t count = 0, kept = 0;
	bool perhaps_deleted = n < DELETED_BATCHES && told->deletion_begun;
	for (size_t i = 0; i < SERIES; i++) {
		double value;
		bool found = look_up(m, n, i, &value);
		if (found)
			assert_true(value == value_of(n, i));
		if (i == 0 && perhaps_deleted) {
			if (told->deletion && found)
				print_error("%s: batch %zu was deleted\n", told->what, n);
			assert_false(told->deletion && found);
			continue;
		}
		kept++;
		count += found;
	}
	if (must_be_there && count != kept)
		print_error("%s: batch %zu has %zu of %zu series\n", told->what, n, count, kept);
	assert_true(!must_be_there || count == kept);
	assert_true(count == 0 || count == kept);
	assert_true(told->begun[n] || count == 0);
}

static void check_all(struct metrics *m, bool power_cut)
{
	for (size_t n = 0; n < BATCHES; n++)
		check_batch(m, n, power_cut ? told->durable[n] : told->acknowledged[n]);
}

/* All is there, after another restart and once all is merged, too; and the engine works. */
static void check_invariants(bool power_cut)
{
	struct metrics *m = NULL;
	struct err e = { .code = OK };
	assert_opens(&m);
	check_all(m, power_cut);
	assert_int_equal(write_batch(m, BATCHES - 1), OK);
	told->durable[BATCHES - 1] = true;
	errc rc = metrics_flush(m, true, &e);
	assert_string_equal(rc == OK ? "" : e.message, "");
	check_all(m, power_cut);
	metrics_close(m);
	assert_opens(&m);
	check_all(m, power_cut);
	metrics_close(m);
}

static void start_afresh(void)
{
	assert_int_equal(io_remove_tree(folder, NULL), OK);
	memset(told, 0, sizeof(*told));
}

/* ---- Failing calls. */

static void run_faults(enum fault_call call, int sys_errno, bool persistent)
{
	for (size_t k = 1;; k += CALL_STEP) {
		struct fault fault = { call, k, sys_errno, persistent, true };
		start_afresh();
		snprintf(told->what, sizeof(told->what), "call %d, errno %d, %s, no. %zu", call,
			 sys_errno, persistent ? "for good" : "once", k);
		fault_io_install(root);
		fault_io_arm(&fault);
		scenario(true);
		bool fired = fault_io_fired();
		fault_io_remove();
		/* nobody can delete what cannot be read */
		told->deletion &= call != FAULT_READ;
		check_invariants(false);
		if (!fired)
			return;
	}
}

static void every_failing_call_loses_nothing(void **state)
{
	static const enum fault_call calls[] = { FAULT_OPEN,  FAULT_READ,   FAULT_WRITE,
						 FAULT_FSYNC, FAULT_RENAME, FAULT_UNLINK,
						 FAULT_MKDIR, FAULT_STATVFS };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++) {
		run_faults(calls[i], EIO, false);
		run_faults(calls[i], EIO, true);
	}
}

static void a_full_disk_loses_nothing(void **state)
{
	(void)state;
	run_faults(FAULT_WRITE, ENOSPC, false);
	run_faults(FAULT_WRITE, ENOSPC, true);
}

/* ---- Crashes. */

static bool crash_once(size_t k, bool names_lost)
{
	int status;
	start_afresh();
	snprintf(told->what, sizeof(told->what), "crash no. %zu, names %s", k,
		 names_lost ? "lost" : "kept");
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		fault_io_install(root);
		fault_io_crash_at(k, names_lost);
		scenario(true);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_EXIT);
	return WEXITSTATUS(status) == FAULT_EXIT;
}

static void every_crash_leaves_what_was_synced(void **state)
{
	(void)state;
	for (int names_lost = 0; names_lost <= 1; names_lost++) {
		bool crashed = true;
		for (size_t k = 1; crashed; k += CALL_STEP) {
			crashed = crash_once(k, names_lost);
			check_invariants(true);
		}
	}
}

/* ---- */

static int set_up(void **state)
{
	(void)state;
	/* in memory where there is such a folder: thousands of calls of fsync take their time */
	snprintf(root, sizeof(root), "%s/holdfast-fault-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(root));
	snprintf(folder, sizeof(folder), "%s/metrics", root);
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(told != MAP_FAILED);
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
		cmocka_unit_test(every_failing_call_loses_nothing),
		cmocka_unit_test(a_full_disk_loses_nothing),
		cmocka_unit_test(every_crash_leaves_what_was_synced),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
