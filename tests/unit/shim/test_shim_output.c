#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "os/io.h"
#include "shim/shim_output.h"
#include "shim_support.h"

static int64_t disk_bytes_left;

/* A disk that becomes full, as ENOSPC comes: first a short write, then the error. */
static ssize_t write_full_disk(int fd, const void *bytes, size_t len)
{
	if (disk_bytes_left <= 0) {
		errno = ENOSPC;
		return -1;
	}
	if ((int64_t)len > disk_bytes_left)
		len = (size_t)disk_bytes_left;
	disk_bytes_left -= (int64_t)len;
	return write(fd, bytes, len);
}

struct seen {
	long next;  /* the number expected next */
	long lines; /* numbered ones */
	long told_missing;
	long missing;
};

static void check_number(void *ctx, str stream, str text)
{
	struct seen *seen = ctx;
	char number[32];
	if (str_eq_c(stream, "shim")) {
		assert_non_null(strstr(text.ptr, "No space left on device"));
		long told = strtol(text.ptr, NULL, 10);
		seen->told_missing += told;
		seen->next += told;
		return;
	}
	assert_true(str_copy(text, number, sizeof(number)));
	assert_int_equal(strtol(number, NULL, 10), seen->next);
	seen->next++;
	seen->lines++;
}

static void test_full_disk_drops_whole_lines_and_says_so(void **state)
{
	struct instance *x = instance_new("");
	struct io_ops ops = io_linux;
	struct shim_output *o;
	struct seen seen = { 0 };
	struct err e = { 0 };
	long number = 0;
	char line[32];
	(void)state;
	assert_int_equal(io_make_dirs(x->folder, 0700, &e), OK);
	assert_int_equal(shim_output_open(x->folder, 4 << 20, &o, &e), OK);
	ops.write = write_full_disk;
	io = &ops;
	for (int round = 0; round < 50; round++) {
		/* enough, none, and ever other amounts that end within a line */
		disk_bytes_left = round % 3 == 0 ? 1 << 20 : round % 3 == 1 ? 0 : 700 + round * 13;
		for (int i = 0; i < 100; i++) {
			int len = snprintf(line, sizeof(line), "%ld\n", number++);
			shim_output_bytes(o, SHIM_OUT, (str){ line, (size_t)len });
		}
		shim_output_flush(o);
	}
	disk_bytes_left = 1 << 20;
	shim_output_bytes(o, SHIM_OUT, STR("5000"));
	int64_t dropped = shim_output_dropped(o);
	shim_output_close(o);
	io = &io_linux;
	instance_output(x, check_number, &seen);
	assert_true(dropped > 0);
	assert_int_equal(seen.told_missing, dropped);
	assert_int_equal(seen.lines + dropped, 5001);
	instance_free(x);
}

struct line_list {
	struct buf text;
	size_t count;
};

static void add_line(void *ctx, str stream, str text)
{
	struct line_list *list = ctx;
	buf_add(&list->text, stream);
	buf_add_byte(&list->text, ' ');
	buf_add(&list->text, text);
	buf_add_byte(&list->text, '\n');
	list->count++;
}

static void test_bytes_that_are_not_text(void **state)
{
	struct instance *x = instance_new("");
	struct line_list list = { .text = buf_init(1 << 20) };
	struct shim_output *o;
	struct err e = { 0 };
	str last;
	(void)state;
	assert_int_equal(io_make_dirs(x->folder, 0700, &e), OK);
	assert_int_equal(shim_output_open(x->folder, 4 << 20, &o, &e), OK);
	/* chunks that end within a line and within a character */
	shim_output_bytes(o, SHIM_OUT, STR("caf\xc3"));
	shim_output_bytes(o, SHIM_ERR, STR("other\n"));
	shim_output_bytes(o, SHIM_OUT, STR("\xa9 \"q\" \\ \t\n\xff\xfe|\xc0\xaf|\xed\xa0\x80\n\n"));
	shim_output_bytes(o, SHIM_OUT, STR("no end"));
	shim_output_close(o);
	instance_output(x, add_line, &list);
	assert_string_equal(buf_cstr(&list.text),
			    "err other\n"
			    "out caf\xc3\xa9 \"q\" \\ \t\n"
			    "out \xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|"
			    "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\n"
			    "out \n"
			    "out no end\n");
	buf_done(&list.text);
	/* half a line of a shim that was killed: the next one begins a line of its own */
	char path[256];
	snprintf(path, sizeof(path), "%s/output.ndjson", x->folder);
	FILE *f = fopen(path, "a");
	fputs("{\"t\":17", f);
	fclose(f);
	assert_int_equal(shim_output_open(x->folder, 4 << 20, &o, &e), OK);
	shim_output_bytes(o, SHIM_OUT, STR("again\n"));
	assert_true(shim_output_last(o, 0, &last) && str_eq_c(last, "again"));
	assert_false(shim_output_last(o, 1, &last));
	shim_output_close(o);
	struct buf text = buf_init(1 << 20);
	assert_int_equal(io_read_file(path, &text, &e), OK);
	assert_non_null(strstr(buf_cstr(&text), "{\"t\":17\n{\"t\":"));
	buf_done(&text);
	instance_free(x);
}

static void test_long_lines_and_random_chunks(void **state)
{
	enum { LINES = 40, LEN_MAX = 200 * 1000 };
	struct instance *x = instance_new("");
	struct line_list list = { .text = buf_init(32 << 20) };
	struct buf expected = buf_init(32 << 20), bytes = buf_init(32 << 20);
	struct shim_output *o;
	struct err e = { 0 };
	(void)state;
	srandom(7);
	for (int i = 0; i < LINES; i++) {
		size_t len = (size_t)random() % LEN_MAX;
		if (i < 6)
			len = (size_t)(SHIM_LINE_BYTES_MAX - 3 + i);
		buf_add_c(&expected, "out ");
		for (size_t j = 0; j + 3 <= len; j += 3)
			buf_add_c(&bytes, j % 2 ? "\xe2\x82\xac" : "abc");
		buf_add_byte(&bytes, '\n');
	}
	buf_clear(&expected);
	str rest = buf_str(&bytes), line;
	for (int i = 0; i < LINES && str_split(&rest, '\n', &line); i++)
		buf_printf(&expected, "out %.*s\n", STR_ARG(line));
	assert_int_equal(io_make_dirs(x->folder, 0700, &e), OK);
	assert_int_equal(shim_output_open(x->folder, 4 << 20, &o, &e), OK);
	for (rest = buf_str(&bytes); rest.len;) {
		size_t n = (size_t)random() % 70000 + 1;
		n = n < rest.len ? n : rest.len;
		shim_output_bytes(o, SHIM_OUT, (str){ rest.ptr, n });
		rest = (str){ rest.ptr + n, rest.len - n };
	}
	shim_output_close(o);
	instance_output(x, add_line, &list);
	assert_int_equal(list.count, LINES);
	assert_true(str_eq(buf_str(&list.text), buf_str(&expected)));
	buf_done(&list.text);
	buf_done(&expected);
	buf_done(&bytes);
	instance_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_disk_drops_whole_lines_and_says_so),
		cmocka_unit_test(test_bytes_that_are_not_text),
		cmocka_unit_test(test_long_lines_and_random_chunks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
