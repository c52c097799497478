/* What the tests of the store share: a folder to work in, seeded numbers, damage to files. */
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

static char test_root[64];

/* In memory where there is such a folder: thousands of calls of fsync take their time. */
static inline int test_root_make(void **state)
{
	(void)state;
	snprintf(test_root, sizeof(test_root), "%s/holdfast-store-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	return mkdtemp(test_root) ? 0 : -1;
}

static inline int test_root_remove(void **state)
{
	(void)state;
	return io_remove_tree(test_root, NULL) == OK ? 0 : -1;
}

/* A path below the folder; the last eight given stay valid. */
static inline const char *test_path(const char *name)
{
	static char paths[8][512];
	static size_t next;
	char *path = paths[next++ % ARRAY_COUNT(paths)];
	snprintf(path, sizeof(paths[0]), "%s/%s", test_root, name);
	return path;
}

static inline uint64_t test_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15U;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
	z = (z ^ z >> 27) * 0x94d049bb133111ebU;
	return z ^ z >> 31;
}

static inline uint64_t test_below(uint64_t *seed, uint64_t below)
{
	return test_random(seed) % below;
}

/* BYTES that depend on KEY alone. */
static inline void test_fill(uint64_t key, char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)(test_random(&key) >> 16);
}

static inline void test_ok(errc rc, const struct err *e)
{
	assert_string_equal(rc == OK ? "" : e->message, "");
}

static inline struct buf test_read(const char *path)
{
	struct buf bytes = buf_init(64 << 20);
	struct err e;
	test_ok(io_read_file(path, &bytes, &e), &e);
	return bytes;
}

/* In place: the same file, other bytes. */
static inline void test_write(const char *path, const char *bytes, size_t len)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static inline void test_flip(const char *path, uint64_t offset, int bit)
{
	FILE *f = fopen(path, "r+b");
	assert_non_null(f);
	assert_int_equal(fseek(f, (long)offset, SEEK_SET), 0);
	int c = fgetc(f);
	assert_true(c != EOF);
	assert_int_equal(fseek(f, (long)offset, SEEK_SET), 0);
	assert_true(fputc(c ^ 1 << bit, f) != EOF);
	assert_int_equal(fclose(f), 0);
}

static inline bool test_exists(const char *path)
{
	return access(path, F_OK) == 0;
}
