/* A temporary folder and files in it, for the tests of this folder. */
#pragma once

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
#include "os/io.h"

static char fixture_root[64];

/* ROOT/NAME; the last 16 results are valid. */
static inline const char *in_root(const char *name)
{
	static char paths[16][1024];
	static size_t next;
	char *path = paths[next++ % 16];
	snprintf(path, sizeof(paths[0]), "%s/%s", fixture_root, name);
	return path;
}

static inline void put_bytes(const char *name, str bytes, mode_t mode)
{
	struct err e;
	char folder[1024];
	snprintf(folder, sizeof(folder), "%s", in_root(name));
	*strrchr(folder, '/') = '\0';
	assert_int_equal(io_make_dirs(folder, 0755, &e), OK);
	assert_int_equal(io_write_file(in_root(name), bytes, mode, &e), OK);
}

static inline void put_text(const char *name, const char *text)
{
	put_bytes(name, str_c(text), 0644);
}

/* Owns: buf_done(). */
static inline struct buf get_bytes(const char *name)
{
	struct err e;
	struct buf bytes = buf_init(64 << 20);
	assert_int_equal(io_read_file(in_root(name), &bytes, &e), OK);
	return bytes;
}

static inline int fixture_set_up(void **state)
{
	(void)state;
	snprintf(fixture_root, sizeof(fixture_root), "/tmp/holdfast-test-XXXXXX");
	return mkdtemp(fixture_root) ? 0 : -1;
}

static inline int fixture_tear_down(void **state)
{
	(void)state;
	return io_remove_tree(fixture_root, NULL) == OK ? 0 : -1;
}

/* Fails showing the message of E. */
#define assert_ok(call)                                                     \
	do {                                                                \
		errc assert_rc_ = (call);                                   \
		assert_string_equal(assert_rc_ == OK ? "" : e.message, ""); \
	} while (0)

#define assert_contains(text, part)                                                 \
	do {                                                                        \
		if (!strstr((text), (part)))                                        \
			fail_msg("\"%s\" does not contain \"%s\"", (text), (part)); \
	} while (0)
