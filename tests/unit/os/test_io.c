#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
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
#include "os/clock.h"
#include "os/io.h"

struct place {
	char root[64];
	struct io_ops ops; /* a copy of io_linux that a test changes */
};

/* The call to fail: of all calls counted, the one of this number, and all later ones if FOREVER. */
static struct {
	int calls;
	int fail_at;
	bool forever;
	size_t write_max; /* 0: as much as asked for */
	int interruptions;
} faults;

static bool fails_now(void)
{
	int call = ++faults.calls;
	return faults.fail_at &&
	       (call == faults.fail_at || (faults.forever && call > faults.fail_at));
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
	if (fails_now()) {
		errno = EMFILE;
		return -1;
	}
	return io_linux.open(path, flags, mode);
}

static ssize_t faulty_write(int fd, const void *bytes, size_t len)
{
	if (faults.interruptions > 0) {
		faults.interruptions--;
		errno = EINTR;
		return -1;
	}
	if (fails_now()) {
		errno = ENOSPC;
		return -1;
	}
	if (faults.write_max && len > faults.write_max)
		len = faults.write_max;
	return io_linux.write(fd, bytes, len);
}

static ssize_t faulty_read(int fd, void *bytes, size_t len)
{
	if (faults.interruptions > 0) {
		faults.interruptions--;
		errno = EINTR;
		return -1;
	}
	if (fails_now()) {
		errno = EIO;
		return -1;
	}
	return io_linux.read(fd, bytes, len > 7 ? 7 : len);
}

static int faulty_fsync(int fd)
{
	if (fails_now()) {
		errno = EIO;
		return -1;
	}
	return io_linux.fsync(fd);
}

static int faulty_rename(const char *from, const char *to)
{
	if (fails_now()) {
		errno = EIO;
		return -1;
	}
	return io_linux.rename(from, to);
}

static const char *in(const struct place *p, const char *name)
{
	static char paths[4][256];
	static unsigned next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof(paths[0]), "%s/%s", p->root, name);
	return path;
}

static int setup(void **state)
{
	struct place *p = must_calloc(1, sizeof(*p));
	snprintf(p->root, sizeof(p->root), "/tmp/holdfast-io-XXXXXX");
	must(mkdtemp(p->root) != NULL);
	p->ops = io_linux;
	p->ops.open = faulty_open;
	p->ops.write = faulty_write;
	p->ops.read = faulty_read;
	p->ops.fsync = faulty_fsync;
	p->ops.rename = faulty_rename;
	memset(&faults, 0, sizeof(faults));
	*state = p;
	return 0;
}

static int unlink_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

/* Not by io_remove_tree(), which is tested here. */
static int teardown(void **state)
{
	struct place *p = *state;
	io = &io_linux;
	nftw(p->root, unlink_one, 32, FTW_DEPTH | FTW_PHYS);
	free(p);
	return 0;
}

static void put(const struct place *p, const char *name, const char *text)
{
	FILE *f = fopen(in(p, name), "w");
	must(f != NULL);
	fputs(text, f);
	fclose(f);
}

static void folder(const struct place *p, const char *name)
{
	must(mkdir(in(p, name), 0755) == 0);
}

static void assert_holds(const struct place *p, const char *name, const char *text)
{
	char got[256] = "";
	FILE *f = fopen(in(p, name), "r");
	assert_non_null(f);
	got[fread(got, 1, sizeof(got) - 1, f)] = '\0';
	fclose(f);
	assert_string_equal(got, text);
}

static bool there(const struct place *p, const char *name)
{
	struct stat st;
	return lstat(in(p, name), &st) == 0;
}

static mode_t mode_of(const struct place *p, const char *name)
{
	struct stat st;
	must(lstat(in(p, name), &st) == 0);
	return st.st_mode & 07777;
}

static size_t entry_count(const struct place *p)
{
	size_t count = 0;
	DIR *dir = opendir(p->root);
	must(dir != NULL);
	for (struct dirent *d; (d = readdir(dir));)
		count += d->d_name[0] != '.';
	closedir(dir);
	return count;
}

static void reads_what_is_there(void **state)
{
	struct place *p = *state;
	struct buf b CLEANUP(buf_done) = buf_init(100);
	struct err e;
	put(p, "a", "twelve bytes");
	buf_add_c(&b, "> ");
	assert_int_equal(io_read_file(in(p, "a"), &b, &e), OK);
	assert_string_equal(buf_cstr(&b), "> twelve bytes");
	put(p, "empty", "");
	assert_int_equal(io_read_file(in(p, "empty"), &b, &e), OK);
	assert_string_equal(buf_cstr(&b), "> twelve bytes");
}

static void read_errors_name_the_path(void **state)
{
	struct place *p = *state;
	struct buf b CLEANUP(buf_done) = buf_init(100);
	struct err e;
	assert_int_equal(io_read_file(in(p, "none"), &b, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.message, in(p, "none")));
	assert_int_equal(io_read_file(p->root, &b, &e), ERR_IO);
	assert_int_equal(e.sys_errno, EISDIR);
}

static void read_stops_at_the_cap(void **state)
{
	struct place *p = *state;
	struct err e;
	put(p, "a", "12345678");
	struct buf fits CLEANUP(buf_done) = buf_init(8), small CLEANUP(buf_done) = buf_init(7);
	assert_int_equal(io_read_file(in(p, "a"), &fits, &e), OK);
	assert_int_equal(fits.len, 8);
	assert_int_equal(io_read_file(in(p, "a"), &small, &e), ERR_LIMIT);
	assert_non_null(strstr(e.message, in(p, "a")));
	/* without an end, too */
	struct buf bounded CLEANUP(buf_done) = buf_init(200000);
	assert_int_equal(io_read_file("/dev/zero", &bounded, &e), ERR_LIMIT);
}

static void short_and_interrupted_calls_are_resumed(void **state)
{
	struct place *p = *state;
	struct err e;
	char text[200];
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	io = &p->ops;
	faults.write_max = 3;
	faults.interruptions = 5;
	assert_int_equal(io_write_file(in(p, "a"), str_c(text), 0600, &e), OK);
	assert_holds(p, "a", text);
	struct buf b CLEANUP(buf_done) = buf_init(1000);
	faults.interruptions = 5;
	assert_int_equal(io_read_file(in(p, "a"), &b, &e), OK);
	assert_string_equal(buf_cstr(&b), text);
}

static void write_replaces_and_sets_the_mode(void **state)
{
	struct place *p = *state;
	struct err e;
	umask(022);
	put(p, "a", "old");
	assert_int_equal(io_write_file(in(p, "a"), STR("new"), 0600, &e), OK);
	assert_holds(p, "a", "new");
	assert_int_equal(mode_of(p, "a"), 0600);
	assert_int_equal(io_write_file(in(p, "b"), STR(""), 0644, &e), OK);
	assert_holds(p, "b", "");
	assert_int_equal(mode_of(p, "b"), 0644);
	assert_int_equal(entry_count(p), 2);
}

/* Whichever call fails: the old or the new contents, whole; never neither, and nothing left over.
 */
static void write_is_all_or_nothing(void **state)
{
	struct place *p = *state;
	for (int forever = 0; forever <= 1; forever++) {
		for (int k = 1;; k++) {
			struct err e;
			put(p, "a", "old contents");
			io = &p->ops;
			memset(&faults, 0, sizeof(faults));
			faults.fail_at = k;
			faults.forever = forever;
			faults.write_max = 4;
			errc rc = io_write_file(in(p, "a"), STR("new contents"), 0600, &e);
			bool fired = faults.calls >= k;
			io = &io_linux;
			struct buf b CLEANUP(buf_done) = buf_init(100);
			assert_int_equal(io_read_file(in(p, "a"), &b, &e), OK);
			bool is_new = str_eq_c(buf_str(&b), "new contents");
			assert_true(is_new || str_eq_c(buf_str(&b), "old contents"));
			assert_int_equal(entry_count(p), 1);
			if (rc == OK)
				assert_true(is_new);
			if (!fired) {
				assert_int_equal(rc, OK);
				assert_true(k > 6); /* open, writes, fsync, rename, folder */
				break;
			}
			assert_int_not_equal(rc, OK);
		}
	}
}

static void makes_folders(void **state)
{
	struct place *p = *state;
	struct err e;
	assert_int_equal(io_make_dirs(in(p, "a/b//c/"), 0700, &e), OK);
	assert_true(there(p, "a/b/c"));
	assert_int_equal(mode_of(p, "a/b"), 0700);
	assert_int_equal(chmod(in(p, "a"), 0751), 0);
	assert_int_equal(io_make_dirs(in(p, "a/b/c/d"), 0700, &e), OK);
	assert_int_equal(mode_of(p, "a"), 0751);
	assert_int_equal(io_make_dirs("/", 0700, &e), OK);
	assert_int_equal(symlink("a", in(p, "link")), 0);
	assert_int_equal(io_make_dirs(in(p, "link"), 0700, &e), OK);
}

static void a_file_is_no_folder(void **state)
{
	struct place *p = *state;
	struct err e;
	put(p, "file", "");
	assert_int_equal(io_make_dirs(in(p, "file"), 0700, &e), ERR_CONFLICT);
	assert_non_null(strstr(e.message, in(p, "file")));
	assert_int_not_equal(io_make_dirs(in(p, "file/below"), 0700, &e), OK);
	assert_int_equal(io_make_dirs("", 0700, &e), ERR_NOT_FOUND);
	char longest[IO_PATH_MAX + 10];
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(io_make_dirs(longest, 0700, &e), ERR_LIMIT);
}

static void relative_folders(void **state)
{
	struct place *p = *state;
	struct err e;
	char *before = getcwd(NULL, 0);
	assert_int_equal(chdir(p->root), 0);
	assert_int_equal(io_make_dirs("x", 0700, &e), OK);
	assert_int_equal(io_make_dirs("y/z", 0700, &e), OK);
	assert_int_equal(io_write_file("plain", STR("1"), 0600, &e), OK);
	assert_int_equal(chdir(before), 0);
	free(before);
	assert_true(there(p, "x") && there(p, "y/z") && there(p, "plain"));
}

struct seen {
	struct buf names;
	const char *skip;
	const char *stop;
};

static errc see(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk, struct err *e)
{
	struct seen *s = ctx;
	buf_printf(&s->names, "%s%s ", entry->path,
		   S_ISDIR(entry->st.st_mode)   ? "/"
		   : S_ISLNK(entry->st.st_mode) ? "@"
						: "");
	if (s->stop && strcmp(entry->path, s->stop) == 0)
		FAIL(e, ERR_CANCELLED, "stopped");
	*ret_walk = s->skip && strcmp(entry->path, s->skip) == 0 ? IO_WALK_SKIP : IO_WALK_INTO;
	return OK;
}

static void walks_in_byte_order(void **state)
{
	struct place *p = *state;
	struct err e;
	struct seen s = { .names = buf_init(10000) };
	folder(p, "b");
	folder(p, "b/inner");
	folder(p, "Z");
	put(p, "b/inner/x", "");
	put(p, "b/a", "");
	put(p, "a-b", "");
	put(p, "a", "");
	put(p, "\xc3\xa9", "");
	put(p, ".hidden", "");
	assert_int_equal(symlink("..", in(p, "b/up")), 0);
	assert_int_equal(io_walk(p->root, see, &s, &e), OK);
	assert_string_equal(buf_cstr(&s.names), ".hidden Z/ a a-b b/ b/a b/inner/ b/inner/x b/up@ "
						"\xc3\xa9 ");
	buf_clear(&s.names);
	s.skip = "b/inner";
	s.stop = "b/up";
	assert_int_equal(io_walk(p->root, see, &s, &e), ERR_CANCELLED);
	assert_string_equal(buf_cstr(&s.names), ".hidden Z/ a a-b b/ b/a b/inner/ b/up@ ");
	buf_done(&s.names);
	assert_int_equal(io_walk(in(p, "none"), see, &s, &e), ERR_NOT_FOUND);
}

static void walk_has_a_depth(void **state)
{
	struct place *p = *state;
	struct err e;
	struct seen s = { .names = buf_init(1 << 20) };
	char path[300] = "d";
	for (int depth = 1; depth <= 66; depth++) {
		folder(p, path);
		snprintf(path + strlen(path), 3, "/d");
		if (depth == 64)
			assert_int_equal(io_walk(p->root, see, &s, &e), OK);
	}
	assert_int_equal(io_walk(p->root, see, &s, &e), ERR_LIMIT);
	buf_done(&s.names);
	assert_int_equal(io_remove_tree(in(p, "d"), &e), OK);
	assert_false(there(p, "d"));
}

static void removes_without_following_links(void **state)
{
	struct place *p = *state;
	struct err e;
	folder(p, "keep");
	put(p, "keep/file", "precious");
	folder(p, "gone");
	folder(p, "gone/deep");
	put(p, "gone/deep/x", "");
	assert_int_equal(symlink(in(p, "keep"), in(p, "gone/to-folder")), 0);
	assert_int_equal(symlink("../keep/file", in(p, "gone/to-file")), 0);
	assert_int_equal(symlink("nowhere", in(p, "gone/dangling")), 0);
	assert_int_equal(io_remove_tree(in(p, "gone"), &e), OK);
	assert_false(there(p, "gone"));
	assert_int_equal(symlink("keep", in(p, "link")), 0);
	assert_int_equal(io_remove_tree(in(p, "link"), &e), OK);
	assert_false(there(p, "link"));
	assert_holds(p, "keep/file", "precious");
	assert_int_equal(io_remove_tree(in(p, "link"), &e), OK);
	assert_int_equal(io_remove_tree(in(p, "keep/file"), &e), OK);
	assert_false(there(p, "keep/file"));
}

static void many_files_go(void **state)
{
	struct place *p = *state;
	struct err e;
	char name[64];
	folder(p, "many");
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "many/a-rather-long-name-%d", i);
		put(p, name, "");
	}
	assert_int_equal(io_remove_tree(in(p, "many"), &e), OK);
	assert_false(there(p, "many"));
}

/* As an ordinary user, whom modes bind. */
static void modes_do_not_stop_a_removal(void **state)
{
	struct place *p = *state;
	assert_int_equal(chmod(p->root, 0777), 0);
	pid_t child = fork();
	if (child == 0) {
		struct err e = { 0 };
		if (getuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
			_exit(2);
		folder(p, "locked");
		folder(p, "locked/closed");
		put(p, "locked/closed/x", "");
		folder(p, "locked/read-only");
		put(p, "locked/read-only/x", "");
		chmod(in(p, "locked/closed"), 0);
		chmod(in(p, "locked/read-only"), 0500);
		chmod(in(p, "locked"), 0100);
		errc rc = io_remove_tree(in(p, "locked"), &e);
		if (rc != OK)
			fprintf(stderr, "%s\n", e.message);
		_exit(rc == OK && !there(p, "locked") ? 0 : 1);
	}
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void copies_keep_modes_and_links(void **state)
{
	struct place *p = *state;
	struct err e;
	umask(077); /* of no effect on a copy */
	folder(p, "from");
	folder(p, "from/bin");
	put(p, "from/bin/run", "#!/bin/sh\n");
	put(p, "from/secret", "s");
	put(p, "from/empty", "");
	assert_int_equal(chmod(in(p, "from/bin"), 0775), 0);
	assert_int_equal(chmod(in(p, "from/bin/run"), 0755), 0);
	assert_int_equal(chmod(in(p, "from/secret"), 0400), 0);
	assert_int_equal(symlink("bin/run", in(p, "from/start")), 0);
	assert_int_equal(symlink("/nowhere", in(p, "from/dangling")), 0);
	assert_int_equal(io_copy_tree(in(p, "from"), in(p, "to"), false, &e), OK);
	umask(022);
	char target[64] = "";
	assert_int_equal(readlink(in(p, "to/start"), target, sizeof(target)), 7);
	assert_string_equal(target, "bin/run");
	assert_true(there(p, "to/dangling"));
	assert_holds(p, "to/bin/run", "#!/bin/sh\n");
	assert_holds(p, "to/empty", "");
	assert_int_equal(mode_of(p, "to/bin"), 0775);
	assert_int_equal(mode_of(p, "to/bin/run"), 0755);
	assert_int_equal(mode_of(p, "to/secret"), 0400);
	/* a file that is there already is not overwritten */
	assert_int_not_equal(io_copy_tree(in(p, "from"), in(p, "to"), false, &e), OK);
}

static void copies_by_hard_link(void **state)
{
	struct place *p = *state;
	struct err e;
	struct stat a, b;
	folder(p, "from");
	put(p, "from/x", "x");
	assert_int_equal(io_copy_tree(in(p, "from"), in(p, "to"), true, &e), OK);
	assert_int_equal(stat(in(p, "from/x"), &a), 0);
	assert_int_equal(stat(in(p, "to/x"), &b), 0);
	assert_true(a.st_ino == b.st_ino);
	assert_int_equal(io_copy_tree(in(p, "from/x"), in(p, "single"), false, &e), OK);
	assert_holds(p, "single", "x");
}

static void devices_are_not_copied(void **state)
{
	struct place *p = *state;
	struct err e;
	folder(p, "from");
	assert_int_equal(mkfifo(in(p, "from/pipe"), 0600), 0);
	assert_int_equal(io_copy_tree(in(p, "from"), in(p, "to"), false, &e), ERR_INVALID);
	assert_non_null(strstr(e.message, "from/pipe"));
}

static void ownership_without_following_links(void **state)
{
	struct place *p = *state;
	struct err e;
	struct stat st;
	if (getuid() != 0)
		skip();
	put(p, "outside", "");
	folder(p, "app");
	folder(p, "app/sub");
	put(p, "app/sub/x", "");
	assert_int_equal(symlink("../outside", in(p, "app/link")), 0);
	assert_int_equal(io_chown_tree(in(p, "app"), 65534, 65534, &e), OK);
	static const char *const given[] = { "app", "app/sub", "app/sub/x", "app/link" };
	for (size_t i = 0; i < ARRAY_COUNT(given); i++) {
		assert_int_equal(lstat(in(p, given[i]), &st), 0);
		assert_int_equal(st.st_uid, 65534);
	}
	assert_int_equal(stat(in(p, "outside"), &st), 0);
	assert_int_equal(st.st_uid, 0);
}

static void clocks_and_entropy(void **state)
{
	(void)state;
	int64_t us = clock_mono_us();
	assert_true(clock_mono_us() >= us);
	assert_true(clock_now() > 1700000000000);
	char text[17];
	entropy_hex(text, 16);
	assert_int_equal(strlen(text), 16);
	assert_int_equal(strspn(text, "0123456789abcdef"), 16);
	size_t hits[7] = { 0 };
	for (int i = 0; i < 7000; i++)
		hits[entropy_below(7)]++;
	for (size_t i = 0; i < 7; i++)
		assert_in_range(hits[i], 700, 1300); /* ten standard deviations */
	assert_int_equal(entropy_below(1), 0);
}

#define IO_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IO_TEST(reads_what_is_there),
		IO_TEST(read_errors_name_the_path),
		IO_TEST(read_stops_at_the_cap),
		IO_TEST(short_and_interrupted_calls_are_resumed),
		IO_TEST(write_replaces_and_sets_the_mode),
		IO_TEST(write_is_all_or_nothing),
		IO_TEST(makes_folders),
		IO_TEST(a_file_is_no_folder),
		IO_TEST(relative_folders),
		IO_TEST(walks_in_byte_order),
		IO_TEST(walk_has_a_depth),
		IO_TEST(removes_without_following_links),
		IO_TEST(many_files_go),
		IO_TEST(modes_do_not_stop_a_removal),
		IO_TEST(copies_keep_modes_and_links),
		IO_TEST(copies_by_hard_link),
		IO_TEST(devices_are_not_copied),
		IO_TEST(ownership_without_following_links),
		cmocka_unit_test(clocks_and_entropy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
