/*
 * The catalog: what Holdfast knows and must not lose, in SQLite (WAL, synchronous=FULL): releases,
 * operations, instances, leases, tokens, secrets, audit. Small, transactional, announced on the
 * bus.
 *
 * This header opens it and gives the statements on which the table modules (instances.h,
 * releases.h, …) stand; features use those, not SQL.
 *
 * Threads: any; one connection under one recursive lock, held by a transaction or a running query.
 * Durable: what a function wrote survives a crash once it returns OK.
 */
#pragma once

#include "base/arena.h"
#include "base/units.h"
#include "catalog/bus.h"

struct catalog;

/* Open or create DATA/catalog.db, migrate it. Errors: ERR_CORRUPT, ERR_CONFLICT (made by a newer
 * Holdfast). */
WARN_UNUSED errc catalog_open(const char *data, struct catalog **ret_catalog, struct err *e);
void catalog_close(struct catalog *c);

struct bus *catalog_bus(struct catalog *c);
/* The data folder, as given to catalog_open(). */
const char *catalog_data(const struct catalog *c);

/* Transactions nest: only the outermost one commits; a rollback inside fails the outer commit. */
WARN_UNUSED errc catalog_begin(struct catalog *c, struct err *e);
/* Commit when RC is OK, else roll back; returns RC or the commit's own failure. */
WARN_UNUSED errc catalog_end(struct catalog *c, errc rc, struct err *e);

/*
 * Run SQL with arguments described by TYPES, one letter each:
 * t const char * (NULL is null) · s str · i int64_t · b str as blob · n (no argument) null.
 * ret_changes (may be NULL): rows changed.
 */
WARN_UNUSED errc catalog_exec(struct catalog *c, int64_t *ret_changes, struct err *e,
			      const char *sql, const char *types, ...);

/* As catalog_exec() for one statement, but the commit does not wait for the disk: it survives the
 * death of the process, not of the machine. */
WARN_UNUSED errc catalog_exec_relaxed(struct catalog *c, struct err *e, const char *sql,
				      const char *types, ...);

/* A running query; `struct catalog_query q CLEANUP(catalog_query_done) = { 0 };` */
struct catalog_query {
	struct catalog *catalog;
	struct sqlite3_stmt *statement;
};

WARN_UNUSED errc catalog_query(struct catalog *c, struct catalog_query *q, struct err *e,
			       const char *sql, const char *types, ...);
/* The next row; *ret_row false at the end. */
WARN_UNUSED errc catalog_step(struct catalog_query *q, bool *ret_row, struct err *e);
void catalog_query_done(struct catalog_query *q);
int64_t catalog_i64(struct catalog_query *q, int column);
/* Valid until: the next step. Null gives the empty str. */
str catalog_str(struct catalog_query *q, int column);
int64_t catalog_last_id(struct catalog *c);
