/* Opening, migrating, transactions, and what survives a kill. */
#include "catalog_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "catalog/operations.h"
#include "os/clock.h"

static void what_was_written_is_there_after_a_reopen(void **state)
{
	struct catalog_fixture *f = *state;
	catalog_run(f->catalog, "CREATE TABLE mine (x INTEGER); INSERT INTO mine VALUES (7)");
	catalog_reopen(f);
	assert_int_equal(catalog_ask(f->catalog, "SELECT x FROM mine"), 7);
	assert_int_equal(catalog_ask(f->catalog, "PRAGMA synchronous"), 2);
	assert_int_equal(catalog_ask(f->catalog, "PRAGMA foreign_keys"), 1);
	assert_string_equal(catalog_data(f->catalog), f->data);
}

static void a_newer_schema_is_refused_and_left_alone(void **state)
{
	struct catalog_fixture *f = *state;
	struct catalog *c = NULL;
	struct err e;
	catalog_run(f->catalog, "PRAGMA user_version = 999");
	catalog_close(f->catalog);
	f->catalog = NULL;
	assert_int_equal(catalog_open(f->data, &c, &e), ERR_CONFLICT);
	assert_non_null(strstr(e.message, "newer Holdfast"));
	assert_null(c);
}

static void what_is_no_database_is_refused(void **state)
{
	struct catalog_fixture *f = *state;
	struct catalog *c = NULL;
	struct err e;
	char path[128], text[5000];
	catalog_close(f->catalog);
	f->catalog = NULL;
	snprintf(path, sizeof(path), "%s/catalog.db-wal", f->data);
	unlink(path);
	snprintf(path, sizeof(path), "%s/catalog.db", f->data);
	memset(text, 'x', sizeof(text));
	assert_int_equal(io_write_file(path, (str){ text, sizeof(text) }, 0600, &e), OK);
	assert_int_equal(catalog_open(f->data, &c, &e), ERR_CORRUPT);
	assert_non_null(strstr(e.message, "catalog.db"));
}

static errc insert(struct catalog *c, int64_t x)
{
	return catalog_exec(c, NULL, NULL, "INSERT INTO mine VALUES (?)", "i", x);
}

static void transactions_nest(void **state)
{
	struct catalog_fixture *f = *state;
	struct catalog *c = f->catalog;
	struct err e;
	catalog_run(c, "CREATE TABLE mine (x INTEGER)");
	assert_int_equal(catalog_begin(c, &e), OK);
	assert_int_equal(insert(c, 1), OK);
	assert_int_equal(catalog_begin(c, &e), OK);
	assert_int_equal(insert(c, 2), OK);
	assert_int_equal(catalog_end(c, OK, &e), OK);
	assert_int_equal(catalog_end(c, OK, &e), OK);
	assert_int_equal(catalog_ask(c, "SELECT count(*) FROM mine"), 2);

	/* a failure inside takes everything back, even when the outer one thinks all is well */
	assert_int_equal(catalog_begin(c, &e), OK);
	assert_int_equal(insert(c, 3), OK);
	assert_int_equal(catalog_begin(c, &e), OK);
	assert_int_equal(insert(c, 4), OK);
	assert_int_equal(catalog_end(c, ERR_INVALID, &e), ERR_INVALID);
	assert_int_equal(catalog_end(c, OK, &e), ERR_INTERNAL);
	assert_int_equal(catalog_ask(c, "SELECT count(*) FROM mine"), 2);

	assert_int_equal(catalog_begin(c, &e), OK);
	assert_int_equal(insert(c, 5), OK);
	assert_int_equal(catalog_end(c, ERR_BUSY, &e), ERR_BUSY);
	/* and the next one is clean again */
	assert_int_equal(catalog_begin(c, &e), OK);
	assert_int_equal(insert(c, 6), OK);
	assert_int_equal(catalog_end(c, OK, &e), OK);
	assert_int_equal(catalog_ask(c, "SELECT sum(x) FROM mine"), 9);
}

static void errors_have_their_code(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	int64_t changes = -1;
	struct catalog_query q = { 0 };
	catalog_run(f->catalog,
		    "CREATE TABLE mine (x INTEGER UNIQUE); INSERT INTO mine VALUES (1)");
	assert_int_equal(
		catalog_exec(f->catalog, NULL, &e, "INSERT INTO mine VALUES (?)", "i", (int64_t)1),
		ERR_CONFLICT);
	assert_int_equal(
		catalog_exec(f->catalog, &changes, &e, "UPDATE mine SET x = ?", "i", (int64_t)9),
		OK);
	assert_int_equal(changes, 1);
	assert_int_equal(catalog_query(f->catalog, &q, &e, "SELECT nothing FROM nowhere", ""),
			 ERR_IO);
	catalog_query_done(&q); /* an unopened one may be done */
	assert_int_equal(catalog_ask(f->catalog, "SELECT x FROM mine"), 9);
}

static void values_come_back_as_they_went(void **state)
{
	struct catalog_fixture *f = *state;
	struct catalog_query q = { 0 };
	bool row = false;
	struct err e;
	catalog_run(f->catalog, "CREATE TABLE mine (a, b, c, d, e)");
	assert_int_equal(catalog_exec(f->catalog, NULL, &e, "INSERT INTO mine VALUES (?,?,?,?,?)",
				      "tsibn", (const char *)NULL, STR("a\0b"), INT64_MIN,
				      STR("\0\xff")),
			 OK);
	assert_int_equal(catalog_query(f->catalog, &q, &e,
				       "SELECT a, b, c, d, e, a IS NULL FROM mine WHERE c = ?", "i",
				       INT64_MIN),
			 OK);
	assert_int_equal(catalog_step(&q, &row, &e), OK);
	assert_true(row);
	assert_true(str_eq(catalog_str(&q, 0), STR("")));
	assert_true(str_eq(catalog_str(&q, 1), STR("a\0b")));
	assert_true(catalog_i64(&q, 2) == INT64_MIN);
	assert_true(str_eq(catalog_str(&q, 3), STR("\0\xff")));
	assert_true(str_eq(catalog_str(&q, 4), STR("")));
	assert_int_equal(catalog_i64(&q, 5), 1);
	assert_int_equal(catalog_step(&q, &row, &e), OK);
	assert_false(row);
	catalog_query_done(&q);
}

static void a_relaxed_write_leaves_the_others_strict(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	catalog_run(f->catalog, "CREATE TABLE mine (x INTEGER)");
	assert_int_equal(catalog_exec_relaxed(f->catalog, &e, "INSERT INTO mine VALUES (?)", "i",
					      (int64_t)1),
			 OK);
	assert_int_equal(catalog_ask(f->catalog, "PRAGMA synchronous"), 2);
	assert_int_equal(catalog_exec_relaxed(f->catalog, &e, "INSERT INTO nowhere VALUES (?)", "i",
					      (int64_t)1),
			 ERR_IO);
	assert_int_equal(catalog_ask(f->catalog, "PRAGMA synchronous"), 2);
	/* within a transaction it is a part of that */
	assert_int_equal(catalog_begin(f->catalog, &e), OK);
	assert_int_equal(catalog_exec_relaxed(f->catalog, &e, "INSERT INTO mine VALUES (?)", "i",
					      (int64_t)2),
			 OK);
	assert_int_equal(catalog_end(f->catalog, ERR_CANCELLED, &e), ERR_CANCELLED);
	assert_int_equal(catalog_ask(f->catalog, "SELECT count(*) FROM mine"), 1);
}

/* ---- Threads. */

static void *add_pairs(void *ctx)
{
	struct catalog *c = ctx;
	for (int i = 0; i < 50; i++) {
		if (catalog_begin(c, NULL) != OK)
			return "begin";
		errc rc = insert(c, 1);
		if (rc == OK)
			rc = insert(c, -1);
		if (catalog_end(c, i % 5 ? rc : ERR_CANCELLED, NULL) == ERR_IO)
			return "end";
	}
	return NULL;
}

/* A reader never sees half of a transaction of another thread. */
static void threads_see_whole_transactions(void **state)
{
	struct catalog_fixture *f = *state;
	pthread_t threads[4];
	catalog_run(f->catalog, "CREATE TABLE mine (x INTEGER)");
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_pairs, f->catalog), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(catalog_ask(f->catalog, "SELECT coalesce(sum(x), 0) FROM mine"),
				 0);
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
		void *problem = NULL;
		pthread_join(threads[i], &problem);
		assert_null(problem);
	}
	assert_int_equal(catalog_ask(f->catalog, "SELECT count(*) FROM mine"), 4 * 40 * 2);
}

/* ---- Simulated crashes. */

/* Write without end; each number goes to FD once its write was acknowledged. */
static _Noreturn void write_until_killed(const char *data, int fd, int64_t first)
{
	struct catalog *c = NULL;
	if (catalog_open(data, &c, NULL) != OK)
		_exit(1);
	for (int64_t x = first;; x++) {
		errc rc = catalog_begin(c, NULL);
		if (rc == OK) {
			rc = insert(c, x);
			if (rc == OK)
				rc = insert(c, -x);
			rc = catalog_end(c, rc, NULL);
		}
		if (rc == OK && x % 3 == 0)
			rc = catalog_exec_relaxed(c, NULL, "INSERT INTO loose VALUES (?)", "i", x);
		if (rc != OK || write(fd, &x, sizeof(x)) != sizeof(x))
			_exit(1);
	}
}

static void acknowledged_writes_survive_a_kill(void **state)
{
	struct catalog_fixture *f = *state;
	int64_t last = 0, loose = 0; /* acknowledged */
	catalog_run(f->catalog, "CREATE TABLE mine (x INTEGER); CREATE TABLE loose (x INTEGER)");
	catalog_close(f->catalog);
	f->catalog = NULL;
	for (int round = 0; round < 20; round++) {
		int fds[2], status = 0;
		assert_int_equal(pipe(fds), 0);
		pid_t pid = fork();
		if (pid == 0)
			write_until_killed(f->data, fds[1], last + 1);
		close(fds[1]);
		/* after a number of acknowledgements, then at any instruction after it */
		uint32_t many = 1 + entropy_below(20);
		for (uint32_t i = 0; i < many; i++) {
			assert_int_equal(read(fds[0], &last, sizeof(last)), sizeof(last));
			loose += last % 3 == 0;
		}
		usleep(entropy_below(2000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		while (read(fds[0], &last, sizeof(last)) == sizeof(last))
			loose += last % 3 == 0;
		close(fds[0]);

		assert_int_equal(catalog_open(f->data, &f->catalog, NULL), OK);
		struct catalog *c = f->catalog;
		assert_int_equal(catalog_ask(c, "SELECT integrity_check = 'ok' FROM "
						"pragma_integrity_check"),
				 1);
		assert_int_equal(catalog_ask(c, "SELECT coalesce(sum(x), 0) FROM mine"), 0);
		int64_t newest = catalog_ask(c, "SELECT coalesce(max(x), 0) FROM mine");
		assert_true(newest == last || newest == last + 1);
		assert_int_equal(catalog_ask(c, "SELECT count(*) FROM mine"), 2 * newest);
		assert_true(catalog_ask(c, "SELECT count(*) FROM loose") >= loose);
		last = newest;
		catalog_close(c);
		f->catalog = NULL;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CATALOG_TEST(what_was_written_is_there_after_a_reopen),
		CATALOG_TEST(a_newer_schema_is_refused_and_left_alone),
		CATALOG_TEST(what_is_no_database_is_refused),
		CATALOG_TEST(transactions_nest),
		CATALOG_TEST(errors_have_their_code),
		CATALOG_TEST(values_come_back_as_they_went),
		CATALOG_TEST(a_relaxed_write_leaves_the_others_strict),
		CATALOG_TEST(threads_see_whole_transactions),
		CATALOG_TEST(acknowledged_writes_survive_a_kill),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
