/* The store under failing calls and crashes: an artifact is whole or absent, never half. */
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

#include "artifact/artifact.h"
#include "base/checks.h"
#include "fault_io.h"
#include "os/io.h"

static char root[64];
static struct signing *keys;
static struct digest digest_a, digest_b;
static char machine_start[32]; /* after a simulated power cut the machine has started anew */

static void put_file(const char *name, const char *text, size_t repeat)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", root, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	while (repeat--)
		fputs(text, file);
	fclose(file);
}

static const char *in_root(const char *name)
{
	static char paths[4][256];
	static size_t next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

static errc pack(struct artifact_store *store, const char *folder, struct digest *ret_digest,
		 struct err *e)
{
	struct provenance provenance = { .application = STR("shop"),
					 .environment = STR("production"),
					 .invocation_id = STR("b1") };
	struct artifact_pack options = { .folder = folder,
					 .application = STR("shop"),
					 .sbom = STR("{\"bomFormat\":\"CycloneDX\"}"),
					 .provenance = &provenance };
	struct artifact_packed packed;
	TRY(artifact_pack(store, &options, &packed, e));
	*ret_digest = packed.digest;
	return OK;
}

/* A working copy of B. */
static errc check_out(struct artifact_store *store, struct err *e)
{
	bool repaired;
	struct artifact_checkout how = { .artifact = &digest_b,
					 .destination = in_root("live"),
					 .start = machine_start,
					 .link = true };
	return artifact_checkout(store, &how, &repaired, e);
}

/* Everything a deploy does with the store; leaves B and a working copy of B. */
static errc scenario(struct err *e)
{
	struct artifact_store *store;
	struct digest a, b;
	TRY(artifact_store_open(in_root("store"), keys, &store, e));
	errc rc = pack(store, in_root("a"), &a, e);
	if (rc == OK)
		rc = artifact_verify(store, &a, e);
	if (rc == OK)
		rc = pack(store, in_root("b"), &b, e);
	if (rc == OK)
		rc = artifact_checkout_remove(in_root("live"), e);
	if (rc == OK)
		rc = check_out(store, e);
	if (rc == OK)
		rc = artifact_remove(store, &a, e);
	artifact_store_close(store);
	return rc;
}

static size_t count_files(const char *part)
{
	size_t count = 0;
	FILE *list;
	char command[512], line[512];
	snprintf(command, sizeof(command), "ls -a %s/store", root);
	list = popen(command, "r");
	assert_non_null(list);
	while (fgets(line, sizeof(line), list))
		count += strstr(line, part) != NULL;
	pclose(list);
	return count;
}

static void check_artifact(struct artifact_store *store, const struct digest *digest)
{
	struct err e = { .code = OK };
	char hex[DIGEST_HEX_SIZE];
	errc rc = artifact_verify(store, digest, &e);
	if (rc == ERR_NOT_FOUND)
		assert_int_equal(count_files(digest_hex(digest, hex)), 0);
	else
		assert_string_equal(rc == OK ? "" : e.message, "");
}

static void check_live(void)
{
	char command[512];
	snprintf(command, sizeof(command), "diff -r %s/b %s/live", root, root);
	FILE *diff = popen(command, "r");
	assert_non_null(diff);
	assert_int_equal(pclose(diff), 0);
}

/* What must hold whatever happened; then the scenario must go through. */
static void check_invariants(void)
{
	struct err e = { .code = OK };
	struct artifact_store *store;
	assert_int_equal(artifact_store_open(in_root("store"), keys, &store, &e), OK);
	assert_int_equal(count_files(".tmp"), 0);
	check_artifact(store, &digest_a);
	check_artifact(store, &digest_b);
	/* whatever is there: nothing is taken for whole that is not */
	if (artifact_verify(store, &digest_b, NULL) == OK) {
		errc checked_out = check_out(store, &e);
		assert_string_equal(checked_out == OK ? "" : e.message, "");
		check_live();
	}
	artifact_store_close(store);
	errc rc = scenario(&e);
	assert_string_equal(rc == OK ? "" : e.message, "");
	check_live();
	assert_int_equal(access(in_root("live.partial"), F_OK), -1);
}

static void start_afresh(void)
{
	struct err e = { .code = OK };
	assert_int_equal(io_remove_tree(in_root("store"), &e), OK);
	assert_int_equal(artifact_checkout_remove(in_root("live"), &e), OK);
	assert_int_equal(io_remove_tree(in_root("live.partial"), &e), OK);
}

static void run_faults(enum fault_call call, int sys_errno, bool persistent)
{
	for (size_t k = 1;; k++) {
		struct fault fault = { call, k, sys_errno, persistent, true };
		struct err e = { .code = OK };
		start_afresh();
		fault_io_install(root);
		fault_io_arm(&fault);
		errc rc = scenario(&e);
		bool fired = fault_io_fired();
		fault_io_disarm();
		fault_io_remove();
		if (!fired) {
			assert_int_equal(rc, OK);
			assert_true(k > 1);
			return;
		}
		if (rc != OK) {
			assert_true(strlen(e.message) > 10);
			assert_int_equal(access(in_root("live.partial"), F_OK), -1);
		}
		check_invariants();
	}
}

static void every_failing_call_leaves_whole_artifacts(void **state)
{
	(void)state;
	static const enum fault_call calls[] = { FAULT_OPEN,  FAULT_READ,   FAULT_WRITE,
						 FAULT_FSYNC, FAULT_RENAME, FAULT_MKDIR };
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++) {
		run_faults(calls[i], EIO, false);
		run_faults(calls[i], ENOSPC, true);
	}
	run_faults(FAULT_UNLINK, EIO, false);
	run_faults(FAULT_ANY, EIO, true);
}

/* False when the scenario came to its end before the k-th change. */
static bool crash_once(size_t k, bool names_lost)
{
	start_afresh();
	struct err e = { .code = OK };
	/* half of the runs begin with what an earlier one left */
	if (k % 2)
		assert_int_equal(scenario(&e), OK);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		fault_io_install(root);
		fault_io_crash_at(k, names_lost);
		_exit(scenario(&e) == OK ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_EXIT);
	bool crashed = WEXITSTATUS(status) == FAULT_EXIT;
	if (crashed)
		snprintf(machine_start, sizeof(machine_start), "start-%d-%zu", names_lost, k);
	return crashed;
}

static void every_crash_leaves_whole_artifacts(void **state)
{
	(void)state;
	for (int names_lost = 0; names_lost <= 1; names_lost++) {
		size_t ended = 0;
		for (size_t k = 1; ended < 2; k++) {
			ended = crash_once(k, names_lost) ? 0 : ended + 1;
			check_invariants();
		}
	}
}

static void a_key_is_whole_or_absent_after_any_failure(void **state)
{
	(void)state;
	for (size_t k = 1;; k++) {
		struct fault fault = { FAULT_ANY, k, ENOSPC, false, true };
		struct err e = { .code = OK };
		struct signing *signing = NULL;
		assert_int_equal(io_remove_tree(in_root("other"), &e), OK);
		fault_io_install(root);
		fault_io_arm(&fault);
		errc rc = signing_open(in_root("other"), &signing, &e);
		bool fired = fault_io_fired();
		fault_io_remove();
		if (rc == OK)
			signing_close(signing);
		assert_int_equal(signing_open(in_root("other"), &signing, &e), OK);
		struct buf shown = buf_init(4096), stored = buf_init(4096);
		signing_public_key(signing, &shown);
		assert_int_equal(io_read_file(in_root("other/artifact.pub"), &stored, &e), OK);
		assert_string_equal(buf_cstr(&shown), buf_cstr(&stored));
		buf_done(&shown);
		buf_done(&stored);
		signing_close(signing);
		if (!fired)
			return;
	}
}

static int set_up(void **state)
{
	(void)state;
	struct err e = { .code = OK };
	struct artifact_store *store;
	snprintf(root, sizeof(root), "/tmp/holdfast-fault-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(io_make_dirs(in_root("a/bin"), 0755, &e), OK);
	assert_int_equal(io_make_dirs(in_root("b/empty"), 0755, &e), OK);
	put_file("a/bin/run", "#!/bin/sh\n", 1);
	put_file("a/page.html", "<p>first</p>\n", 100);
	put_file("b/page.html", "<p>second</p>\n", 20000);
	assert_int_equal(symlink("page.html", in_root("b/index.html")), 0);
	assert_int_equal(signing_open(in_root("keys"), &keys, &e), OK);
	assert_int_equal(artifact_store_open(in_root("store"), keys, &store, &e), OK);
	assert_int_equal(pack(store, in_root("a"), &digest_a, &e), OK);
	assert_int_equal(pack(store, in_root("b"), &digest_b, &e), OK);
	artifact_store_close(store);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	signing_close(keys);
	return io_remove_tree(root, NULL) == OK ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_failing_call_leaves_whole_artifacts),
		cmocka_unit_test(every_crash_leaves_whole_artifacts),
		cmocka_unit_test(a_key_is_whole_or_absent_after_any_failure),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
