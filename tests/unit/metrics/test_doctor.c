/* The doctor: says nothing of a healthy folder, finds what is bad, and what it has repaired is
 * healthy and has everything that could be read. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "metrics_fixture.h"
#include "os/io.h"

enum { SERIES = 400, SAMPLES = 300 };

static const time_ms start = (time_ms)20000 * FIXTURE_DAY_MS;

/* Samples that do not compress well, so that there are several blocks. */
static void fill(struct metrics_fixture *f)
{
	struct metrics_batch_result result;
	fixture_time = start + 3 * 3600000;
	fixture_open(f);
	struct metrics_batch *b = metrics_batch_new(f->m, STR("test"), 0);
	uint64_t value = 1;
	for (unsigned i = 0; i < SERIES; i++) {
		struct label items[2];
		char text[16];
		struct labels labels = fixture_labels("m", i, items, text);
		metrics_ref ref = 0;
		assert_ok(metrics_batch_series(b, &labels, &ref, &fixture_error));
		for (int k = 0; k < SAMPLES; k++) {
			value = value * 6364136223846793005u + 1442695040888963407u;
			assert_true(metrics_batch_sample(b, ref, start + k * 15000,
							 (double)(value >> 12)));
		}
	}
	assert_ok(metrics_batch_commit(b, &result, &fixture_error));
	metrics_batch_free(b);
	assert_ok(metrics_flush(f->m, false, &fixture_error));
}

static void shut(struct metrics_fixture *f)
{
	metrics_close(f->m);
	f->m = NULL;
}

static uint64_t examine(struct metrics_fixture *f, bool repair, struct buf *report)
{
	uint64_t bad = 0;
	buf_clear(report);
	assert_ok(metrics_doctor(f->folder, repair, report, &bad, &fixture_error));
	size_t lines = 0;
	for (size_t i = 0; i < report->len; i++)
		lines += report->ptr[i] == '\n';
	assert_int_equal(lines, bad);
	return bad;
}

/* The path of the part of that kind. */
static void find_part(struct metrics_fixture *f, char kind, char path[static 256])
{
	char folder[128];
	snprintf(folder, sizeof(folder), "%s/parts", f->folder);
	DIR *dir = opendir(folder);
	bool found = false;
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));)
		if (d->d_name[0] == kind && d->d_name[1] == '-') {
			snprintf(path, 256, "%s/%.100s", folder, d->d_name);
			found = true;
		}
	closedir(dir);
	assert_true(found);
}

static void damage(const char *path, size_t at)
{
	struct buf bytes = buf_init(64 << 20);
	assert_ok(io_read_file(path, &bytes, &fixture_error));
	assert_true(at < bytes.len);
	bytes.ptr[at] = (char)(bytes.ptr[at] ^ 0x10);
	assert_ok(io_write_file(path, buf_str(&bytes), 0600, &fixture_error));
	buf_done(&bytes);
}

/* How many of the series have all their samples, and how many none. */
static void count_series(struct metrics_fixture *f, size_t *ret_whole, size_t *ret_gone)
{
	struct metrics_samples s = { 0 };
	*ret_whole = *ret_gone = 0;
	for (unsigned i = 0; i < SERIES; i++) {
		size_t count = fixture_read(f, "m", i, INT64_MIN, INT64_MAX, &s);
		*ret_whole += count == SAMPLES;
		*ret_gone += count == 0;
	}
	metrics_samples_done(&s);
}

static void says_nothing_of_the_healthy(void **state)
{
	struct metrics_fixture f;
	struct buf report = buf_init(1 << 20);
	uint64_t bad = 0;
	(void)state;
	fill(&f);
	assert_int_equal(metrics_doctor(f.folder, false, &report, &bad, &fixture_error), ERR_BUSY);
	shut(&f);
	assert_int_equal(examine(&f, false, &report), 0);
	assert_int_equal(examine(&f, true, &report), 0);
	assert_int_equal(
		metrics_doctor("/tmp/hf-no-such-folder", false, &report, &bad, &fixture_error),
		ERR_NOT_FOUND);
	fixture_close(&f);
	buf_done(&report);
}

static void saves_what_can_be_read(void **state)
{
	struct metrics_fixture f;
	struct buf report = buf_init(1 << 20);
	char path[256];
	size_t whole, gone;
	(void)state;
	fill(&f);
	shut(&f);
	find_part(&f, 's', path);
	damage(path, 200000);
	assert_true(examine(&f, false, &report) > 0);
	assert_non_null(strstr(buf_cstr(&report), strrchr(path, '/') + 1));
	assert_int_equal(access(path, F_OK), 0); /* to look changes nothing */
	assert_true(examine(&f, true, &report) > 0);
	assert_int_not_equal(access(path, F_OK), 0);
	assert_int_equal(examine(&f, false, &report), 0);
	fixture_reopen(&f);
	count_series(&f, &whole, &gone);
	assert_int_equal(whole + gone, SERIES);
	assert_true(gone > 0 && gone < SERIES / 4);
	/* and it goes on from there */
	fixture_put(&f, "m", 1, start + 3600000 * 2, 5);
	assert_ok(metrics_flush(f.m, true, &fixture_error));
	shut(&f);
	assert_int_equal(examine(&f, false, &report), 0);
	fixture_close(&f);
	buf_done(&report);
}

static void puts_aside_what_cannot_be_opened(void **state)
{
	struct metrics_fixture f;
	struct buf report = buf_init(1 << 20);
	char path[256];
	size_t whole, gone;
	(void)state;
	fill(&f);
	shut(&f);
	find_part(&f, 's', path);
	struct buf bytes = buf_init(64 << 20);
	assert_ok(io_read_file(path, &bytes, &fixture_error));
	memset(bytes.ptr + bytes.len - 4096, 0, 4096); /* both tables */
	assert_ok(io_write_file(path, buf_str(&bytes), 0600, &fixture_error));
	buf_done(&bytes);
	assert_true(examine(&f, false, &report) > 0);
	assert_true(examine(&f, true, &report) > 0);
	assert_int_equal(examine(&f, false, &report), 0);
	fixture_reopen(&f);
	count_series(&f, &whole, &gone);
	assert_int_equal(gone, SERIES);
	fixture_close(&f);
	buf_done(&report);
}

static void goes_on_without_what_is_missing(void **state)
{
	struct metrics_fixture f;
	struct buf report = buf_init(1 << 20);
	char path[256];
	(void)state;
	fill(&f);
	shut(&f);
	find_part(&f, 's', path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(examine(&f, false, &report), 1);
	assert_int_equal(examine(&f, true, &report), 1);
	assert_int_equal(examine(&f, false, &report), 0);
	fixture_close(&f);
	buf_done(&report);
}

/* Postings are made again from the labels. */
static void makes_indexes_again(void **state)
{
	struct metrics_fixture f;
	struct buf report = buf_init(1 << 20);
	char path[256];
	size_t whole, gone;
	struct stat st;
	(void)state;
	fill(&f);
	shut(&f);
	find_part(&f, 'i', path);
	assert_int_equal(stat(path, &st), 0);
	damage(path, (size_t)st.st_size - 2000); /* a block of postings */
	assert_true(examine(&f, false, &report) > 0);
	assert_true(examine(&f, true, &report) > 0);
	assert_int_equal(examine(&f, false, &report), 0);
	fixture_reopen(&f);
	count_series(&f, &whole, &gone);
	assert_int_equal(whole, SERIES);
	fixture_close(&f);
	buf_done(&report);
}

static void adopts_after_a_bad_manifest(void **state)
{
	struct metrics_fixture f;
	struct buf report = buf_init(1 << 20);
	char folder[128], newest[256] = "";
	size_t whole, gone;
	(void)state;
	fill(&f);
	shut(&f);
	snprintf(folder, sizeof(folder), "%s/parts", f.folder);
	DIR *dir = opendir(folder);
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));) {
		char path[256];
		snprintf(path, sizeof(path), "%s/%.100s", folder, d->d_name);
		if (!strncmp(d->d_name, "MANIFEST-", 9) && strcmp(path, newest) > 0)
			memcpy(newest, path, sizeof(path));
	}
	closedir(dir);
	damage(newest, 20);
	assert_true(examine(&f, false, &report) > 0);
	assert_true(examine(&f, true, &report) > 0);
	assert_int_equal(examine(&f, false, &report), 0);
	fixture_reopen(&f);
	count_series(&f, &whole, &gone);
	assert_int_equal(whole, SERIES);
	/* new series do not take the ids of those */
	for (unsigned i = 0; i < 20; i++)
		fixture_put(&f, "fresh", i, start + 3600000, i);
	assert_ok(metrics_flush(f.m, true, &fixture_error));
	count_series(&f, &whole, &gone);
	assert_int_equal(whole, SERIES);
	fixture_close(&f);
	buf_done(&report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_nothing_of_the_healthy),
		cmocka_unit_test(saves_what_can_be_read),
		cmocka_unit_test(puts_aside_what_cannot_be_opened),
		cmocka_unit_test(goes_on_without_what_is_missing),
		cmocka_unit_test(makes_indexes_again),
		cmocka_unit_test(adopts_after_a_bad_manifest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
