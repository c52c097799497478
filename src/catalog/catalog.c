#include "catalog/catalog.h"

#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checks.h"
#include "catalog/catalog_internal.h"
#include "catalog/migrations.h"
#include "os/io.h"

struct catalog {
	sqlite3 *db;
	pthread_mutex_t lock; /* recursive */
	int transaction_depth;
	bool transaction_failed; /* an inner one rolled back */
	struct bus *bus;
	struct instance_table *instances;
	unsigned char secret_key[32];
	char data[IO_PATH_MAX];
};

/* How often this thread holds the lock by a transaction or an open query. */
static _Thread_local int held_count;

void catalog_must_not_hold(void)
{
	must(held_count == 0);
}

struct bus *catalog_bus(struct catalog *c)
{
	return c->bus;
}

const char *catalog_data(const struct catalog *c)
{
	return c->data;
}

struct instance_table *catalog_instances(struct catalog *c)
{
	return c->instances;
}

const unsigned char *catalog_secret_key(const struct catalog *c)
{
	return c->secret_key;
}

static errc sql_error(struct catalog *c, const char *what, struct err *e)
{
	int code = sqlite3_errcode(c->db) & 0xff;
	errc rc = ERR_IO;
	if (code == SQLITE_CONSTRAINT)
		rc = ERR_CONFLICT;
	else if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
		rc = ERR_CORRUPT;
	else if (code == SQLITE_FULL || code == SQLITE_TOOBIG)
		rc = ERR_LIMIT;
	return err_fill(e, rc, 0, __FILE__, __LINE__, "the catalog %s/catalog.db cannot %s: %s",
			c->data, what, sqlite3_errmsg(c->db));
}

static errc open_database(struct catalog *c, struct err *e)
{
	char path[IO_PATH_MAX + 16];
	snprintf(path, sizeof(path), "%s/catalog.db", c->data);
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX;
	/* made here and not by SQLite, for its user alone; the other files of the database follow
	 */
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot open %s", path);
	int closed = fchmod(fd, 0600);
	close(fd);
	if (closed < 0)
		FAIL_ERRNO(e, "cannot keep others from %s", path);
	if (sqlite3_open_v2(path, &c->db, flags, NULL) != SQLITE_OK)
		return sql_error(c, "be opened", e);
	sqlite3_extended_result_codes(c->db, 1);
	sqlite3_busy_timeout(c->db, 5000);
	/* the cache is small on purpose: everything hot is kept in memory by the table modules */
	TRY(catalog_exec(
		c, NULL, e,
		"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
		"PRAGMA trusted_schema = OFF; PRAGMA cache_size = -512;"
		"PRAGMA journal_size_limit = 4194304; PRAGMA wal_autocheckpoint = 256",
		""));
	return OK;
}

errc catalog_open(const char *data, struct catalog **ret_catalog, struct err *e)
{
	if (sodium_init() < 0)
		FAIL(e, ERR_INTERNAL, "libsodium cannot be initialised");
	struct catalog *c = must_calloc(1, sizeof(*c));
	pthread_mutexattr_t recursive;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&c->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	c->bus = bus_new();
	c->instances = instance_table_new();
	errc rc = OK;
	if (!str_copy(str_c(data), c->data, sizeof(c->data)))
		rc = err_fill(e, ERR_LIMIT, 0, __FILE__, __LINE__,
			      "the data folder's path is too long");
	if (rc == OK)
		rc = secret_key_load(data, c->secret_key, e);
	if (rc == OK)
		rc = open_database(c, e);
	if (rc == OK)
		rc = migrations_run(c, e);
	if (rc == OK)
		rc = instance_table_load(c, e);
	if (rc != OK) {
		catalog_close(c);
		return rc;
	}
	*ret_catalog = c;
	return OK;
}

void catalog_close(struct catalog *c)
{
	if (!c)
		return;
	must(c->transaction_depth == 0);
	sqlite3_close(c->db);
	instance_table_free(c->instances);
	bus_free(c->bus);
	pthread_mutex_destroy(&c->lock);
	sodium_memzero(c->secret_key, sizeof(c->secret_key));
	free(c);
}

errc catalog_begin(struct catalog *c, struct err *e)
{
	pthread_mutex_lock(&c->lock);
	if (c->transaction_depth == 0) {
		c->transaction_failed = false;
		if (sqlite3_exec(c->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK) {
			errc rc = sql_error(c, "begin a transaction", e);
			pthread_mutex_unlock(&c->lock);
			return rc;
		}
	}
	c->transaction_depth++;
	held_count++;
	return OK;
}

errc catalog_end(struct catalog *c, errc rc, struct err *e)
{
	must(c->transaction_depth > 0);
	c->transaction_depth--;
	held_count--;
	if (rc != OK)
		c->transaction_failed = true;
	if (c->transaction_depth == 0) {
		if (rc == OK && c->transaction_failed)
			rc = err_fill(e, ERR_INTERNAL, 0, __FILE__, __LINE__,
				      "a part of the transaction failed");
		if (rc == OK && sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
			rc = sql_error(c, "commit", e);
		if (rc != OK && !sqlite3_get_autocommit(c->db))
			sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
	}
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static int bind_one(sqlite3_stmt *statement, int at, char type, va_list *ap)
{
	if (type == 'i')
		return sqlite3_bind_int64(statement, at, va_arg(*ap, int64_t));
	if (type == 't')
		return sqlite3_bind_text(statement, at, va_arg(*ap, const char *), -1,
					 SQLITE_TRANSIENT);
	if (type == 'n')
		return sqlite3_bind_null(statement, at);
	must(type == 's' || type == 'b');
	str s = va_arg(*ap, str);
	const char *bytes = s.ptr ? s.ptr : "";
	if (type == 'b')
		return sqlite3_bind_blob64(statement, at, bytes, s.len, SQLITE_TRANSIENT);
	return sqlite3_bind_text64(statement, at, bytes, s.len, SQLITE_TRANSIENT, SQLITE_UTF8);
}

static errc bind_all(struct catalog *c, sqlite3_stmt *statement, const char *types, va_list *ap,
		     struct err *e)
{
	must(sqlite3_bind_parameter_count(statement) == (int)strlen(types));
	for (int i = 0; types[i]; i++)
		if (bind_one(statement, i + 1, types[i], ap) != SQLITE_OK)
			return sql_error(c, "take an argument", e);
	return OK;
}

/* Several statements in one text are allowed where there are no arguments. */
static errc exec_locked(struct catalog *c, const char *sql, const char *types, va_list *ap,
			struct err *e)
{
	if (types[0] == '\0') {
		if (sqlite3_exec(c->db, sql, NULL, NULL, NULL) != SQLITE_OK)
			return sql_error(c, "be written", e);
		return OK;
	}
	sqlite3_stmt *statement = NULL;
	if (sqlite3_prepare_v2(c->db, sql, -1, &statement, NULL) != SQLITE_OK)
		return sql_error(c, "prepare a statement", e);
	errc rc = bind_all(c, statement, types, ap, e);
	if (rc == OK && sqlite3_step(statement) != SQLITE_DONE)
		rc = sql_error(c, "be written", e);
	sqlite3_finalize(statement);
	return rc;
}

errc catalog_exec(struct catalog *c, int64_t *ret_changes, struct err *e, const char *sql,
		  const char *types, ...)
{
	va_list ap;
	va_start(ap, types);
	pthread_mutex_lock(&c->lock);
	errc rc = exec_locked(c, sql, types, &ap, e);
	if (rc == OK && ret_changes)
		*ret_changes = sqlite3_changes64(c->db);
	pthread_mutex_unlock(&c->lock);
	va_end(ap);
	return rc;
}

errc catalog_exec_relaxed(struct catalog *c, struct err *e, const char *sql, const char *types, ...)
{
	va_list ap;
	va_start(ap, types);
	pthread_mutex_lock(&c->lock);
	/* within a transaction the outermost commit decides */
	bool alone = c->transaction_depth == 0;
	if (alone)
		sqlite3_exec(c->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
	errc rc = exec_locked(c, sql, types, &ap, e);
	if (alone)
		sqlite3_exec(c->db, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
	pthread_mutex_unlock(&c->lock);
	va_end(ap);
	return rc;
}

errc catalog_query(struct catalog *c, struct catalog_query *q, struct err *e, const char *sql,
		   const char *types, ...)
{
	va_list ap;
	sqlite3_stmt *statement = NULL;
	must(q->statement == NULL);
	pthread_mutex_lock(&c->lock);
	errc rc = OK;
	if (sqlite3_prepare_v2(c->db, sql, -1, &statement, NULL) != SQLITE_OK)
		rc = sql_error(c, "prepare a query", e);
	va_start(ap, types);
	if (rc == OK)
		rc = bind_all(c, statement, types, &ap, e);
	va_end(ap);
	if (rc != OK) {
		sqlite3_finalize(statement);
		pthread_mutex_unlock(&c->lock);
		return rc;
	}
	q->catalog = c;
	q->statement = statement; /* the lock is held until catalog_query_done() */
	held_count++;
	return OK;
}

errc catalog_step(struct catalog_query *q, bool *ret_row, struct err *e)
{
	int rc = sqlite3_step(q->statement);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return sql_error(q->catalog, "be read", e);
	*ret_row = rc == SQLITE_ROW;
	return OK;
}

void catalog_query_done(struct catalog_query *q)
{
	if (!q->statement)
		return;
	sqlite3_finalize(q->statement);
	q->statement = NULL;
	held_count--;
	pthread_mutex_unlock(&q->catalog->lock);
}

int64_t catalog_i64(struct catalog_query *q, int column)
{
	return sqlite3_column_int64(q->statement, column);
}

str catalog_str(struct catalog_query *q, int column)
{
	const void *bytes = sqlite3_column_blob(q->statement, column);
	int len = sqlite3_column_bytes(q->statement, column);
	return (str){ bytes ? bytes : "", bytes ? (size_t)len : 0 };
}

int64_t catalog_last_id(struct catalog *c)
{
	pthread_mutex_lock(&c->lock);
	int64_t id = sqlite3_last_insert_rowid(c->db);
	pthread_mutex_unlock(&c->lock);
	return id;
}
