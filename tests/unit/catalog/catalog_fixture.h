/* A catalog in a folder of its own; `catalog_setup` and `catalog_teardown` go around every test. */
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
#include "catalog/catalog.h"
#include "os/io.h"

struct catalog_fixture {
	char data[64];
	struct catalog *catalog;
	struct arena scratch;
};

static inline int catalog_setup(void **state)
{
	struct catalog_fixture *f = must_calloc(1, sizeof(*f));
	struct err e;
	snprintf(f->data, sizeof(f->data), "/tmp/holdfast-catalog-XXXXXX");
	if (!mkdtemp(f->data) || catalog_open(f->data, &f->catalog, &e) != OK)
		return -1;
	f->scratch = arena_init(64 * 1024 * 1024);
	*state = f;
	return 0;
}

static inline int catalog_teardown(void **state)
{
	struct catalog_fixture *f = *state;
	catalog_close(f->catalog);
	arena_done(&f->scratch);
	errc rc = io_remove_tree(f->data, NULL);
	free(f);
	return rc == OK ? 0 : -1;
}

static inline void catalog_reopen(struct catalog_fixture *f)
{
	struct err e = { 0 };
	catalog_close(f->catalog);
	f->catalog = NULL;
	if (catalog_open(f->data, &f->catalog, &e) != OK)
		fail_msg("%s", e.message);
}

/* The first column of the first row, or -1. */
static inline int64_t catalog_ask(struct catalog *c, const char *sql)
{
	struct catalog_query q CLEANUP(catalog_query_done) = { 0 };
	bool row = false;
	assert_int_equal(catalog_query(c, &q, NULL, sql, ""), OK);
	assert_int_equal(catalog_step(&q, &row, NULL), OK);
	return row ? catalog_i64(&q, 0) : -1;
}

static inline void catalog_run(struct catalog *c, const char *sql)
{
	struct err e = { 0 };
	if (catalog_exec(c, NULL, &e, sql, "") != OK)
		fail_msg("%s: %s", sql, e.message);
}

#define CATALOG_TEST(name) cmocka_unit_test_setup_teardown(name, catalog_setup, catalog_teardown)
