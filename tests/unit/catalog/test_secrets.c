#include "catalog_fixture.h"

#include <sys/stat.h>

#include "catalog/secrets.h"

static int64_t set(struct catalog *c, const char *name, const char *value)
{
	int64_t version = 0;
	struct err e = { 0 };
	str v = value ? str_c(value) : (str){ NULL, 0 };
	if (secrets_set(c, "shop", "production", name, v, "local:me", &version, &e) != OK)
		fail_msg("%s", e.message);
	return version;
}

/* `NAME=value NAME=value` as of VERSION. */
static const char *opened(struct catalog_fixture *f, int64_t version)
{
	struct secret *items = NULL;
	size_t count = 0;
	struct err e = { 0 };
	const char *text = "";
	if (secrets_open(f->catalog, "shop", "production", version, &f->scratch, &items, &count,
			 &e) != OK)
		return arena_printf(&f->scratch, "%s", errc_name(e.code));
	for (size_t i = 0; i < count; i++)
		text = arena_printf(&f->scratch, "%s%s%s=%.*s", text, i ? " " : "", items[i].name,
				    STR_ARG(items[i].value));
	return text;
}

static void every_version_can_be_had_again(void **state)
{
	struct catalog_fixture *f = *state;
	int64_t version = -1;
	struct err e;
	assert_int_equal(secrets_version(f->catalog, "shop", "production", &version, &e), OK);
	assert_int_equal(version, 0);
	assert_int_equal(set(f->catalog, "KEY", "one"), 1);
	assert_int_equal(set(f->catalog, "DB", "pw"), 2);
	assert_int_equal(set(f->catalog, "KEY", "two"), 3);
	assert_int_equal(set(f->catalog, "DB", NULL), 4);
	assert_int_equal(set(f->catalog, "DB", "again"), 5);
	catalog_reopen(f);
	static const char *const expected[] = {
		"", "KEY=one", "DB=pw KEY=one", "DB=pw KEY=two", "KEY=two", "DB=again KEY=two"
	};
	for (int64_t v = 0; v <= 5; v++)
		assert_string_equal(opened(f, v), expected[v]);
	assert_string_equal(opened(f, INT64_MAX), expected[5]);
	/* each environment has versions of its own */
	assert_int_equal(secrets_version(f->catalog, "shop", "staging", &version, &e), OK);
	assert_int_equal(version, 0);
}

static void names_come_without_values(void **state)
{
	struct catalog_fixture *f = *state;
	struct secret *items = NULL;
	size_t count = 0;
	set(f->catalog, "B", "x");
	set(f->catalog, "A", "y");
	set(f->catalog, "C", "z");
	set(f->catalog, "C", NULL);
	assert_int_equal(
		secrets_names(f->catalog, "shop", "production", &f->scratch, &items, &count, NULL),
		OK);
	assert_int_equal(count, 2);
	assert_string_equal(items[0].name, "A");
	assert_string_equal(items[1].name, "B");
	assert_int_equal(items[0].version, 2);
	assert_string_equal(items[0].actor, "local:me");
	assert_null(items[0].value.ptr);
}

static void names_and_values_have_limits(void **state)
{
	struct catalog_fixture *f = *state;
	static const char *const wrong[] = { "", "1A", "A-B", "A B", "A=B", "\xc3\xbc", "A\n" };
	struct err e;
	int64_t version = 0;
	char name[SECRET_NAME_MAX + 2], *value = must_calloc(SECRET_BYTES_MAX + 2, 1);
	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
		assert_int_equal(secrets_set(f->catalog, "shop", "production", wrong[i], STR("x"),
					     "me", &version, &e),
				 ERR_INVALID);
	memset(name, 'N', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(
		secrets_set(f->catalog, "shop", "production", name, STR("x"), "me", &version, &e),
		ERR_INVALID);
	name[SECRET_NAME_MAX] = '\0';
	memset(value, 'v', SECRET_BYTES_MAX + 1);
	assert_int_equal(secrets_set(f->catalog, "shop", "production", name,
				     (str){ value, SECRET_BYTES_MAX + 1 }, "me", &version, &e),
			 ERR_LIMIT);
	assert_null(strstr(e.message, "vvv"));
	assert_int_equal(secrets_set(f->catalog, "shop", "production", name,
				     (str){ value, SECRET_BYTES_MAX }, "me", &version, &e),
			 OK);
	assert_int_equal(
		secrets_set(f->catalog, "shop", "production", "A", STR("a\0b"), "me", &version, &e),
		ERR_INVALID);
	assert_int_equal(
		secrets_set(f->catalog, "shop", "production", "EMPTY", STR(""), "me", &version, &e),
		OK);
	free(value);
	assert_non_null(strstr(opened(f, INT64_MAX), "EMPTY="));
}

static void there_are_only_so_many(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	int64_t version = 0;
	char name[16];
	assert_int_equal(catalog_begin(f->catalog, &e), OK);
	for (int i = 0; i < SECRET_COUNT_MAX; i++) {
		snprintf(name, sizeof(name), "S%d", i);
		set(f->catalog, name, "x");
	}
	assert_int_equal(catalog_end(f->catalog, OK, &e), OK);
	assert_int_equal(
		secrets_set(f->catalog, "shop", "production", "MORE", STR("x"), "me", &version, &e),
		ERR_LIMIT);
	set(f->catalog, "S5", "another value");
	set(f->catalog, "S6", NULL);
	set(f->catalog, "MORE", "x");
	struct secret *items = NULL;
	size_t count = 0;
	assert_int_equal(secrets_open(f->catalog, "shop", "production", INT64_MAX, &f->scratch,
				      &items, &count, &e),
			 OK);
	assert_int_equal(count, SECRET_COUNT_MAX);
}

static void no_value_is_in_the_files(void **state)
{
	struct catalog_fixture *f = *state;
	static const char *const files[] = { "catalog.db", "catalog.db-wal" };
	set(f->catalog, "KEY", "correct horse battery staple");
	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		char path[128];
		struct buf bytes = buf_init(16 << 20);
		snprintf(path, sizeof(path), "%s/%s", f->data, files[i]);
		assert_int_equal(io_read_file(path, &bytes, NULL), OK);
		assert_true(str_find(buf_str(&bytes), STR("battery staple")) < 0);
		buf_done(&bytes);
	}
}

/* A row stands only for its own application, environment, name and version, unchanged. */
static void a_row_that_was_tampered_with_is_refused(void **state)
{
	struct catalog_fixture *f = *state;
	static const char *const changes[] = {
		"UPDATE secret SET app = 'shop', environment = 'production' WHERE app = 'blog'",
		"UPDATE secret SET environment = 'production' WHERE environment = 'staging'",
		"UPDATE secret SET name = 'OTHER' WHERE name = 'KEY'",
		"UPDATE secret SET version = 50 WHERE version = 1",
		"UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = 'DB')"
		" WHERE name = 'KEY'",
		"UPDATE secret SET sealed = substr(sealed, 1, 40) WHERE name = 'KEY'",
		"UPDATE secret SET sealed = substr(sealed, 1, 39) WHERE name = 'KEY'",
		"UPDATE secret SET sealed = CAST(sealed || X'00' AS BLOB) WHERE name = 'KEY'",
		"UPDATE secret SET sealed = X'00' WHERE name = 'KEY'",
		"UPDATE secret SET sealed = zeroblob(length(sealed)) WHERE name = 'KEY'",
	};
	struct err e;
	int64_t version = 0;
	for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
		catalog_run(f->catalog, "DELETE FROM secret");
		set(f->catalog, "KEY", "one");
		set(f->catalog, "DB", "two");
		assert_int_equal(secrets_set(f->catalog, "shop", "staging", "STAGED", STR("x"),
					     "me", &version, &e),
				 OK);
		catalog_run(f->catalog, "UPDATE secret SET version = 9 WHERE name = 'STAGED'");
		assert_int_equal(secrets_set(f->catalog, "blog", "production", "BLOG", STR("x"),
					     "me", &version, &e),
				 OK);
		catalog_run(f->catalog, "UPDATE secret SET version = 8 WHERE name = 'BLOG'");
		assert_string_equal(opened(f, INT64_MAX), "DB=two KEY=one");
		catalog_run(f->catalog, changes[i]);
		assert_string_equal(opened(f, INT64_MAX), "corrupt");
	}
	/* one flipped bit at any place */
	for (int at = 1; at <= 43; at++) {
		char sql[200];
		catalog_run(f->catalog, "DELETE FROM secret");
		set(f->catalog, "KEY", "one");
		snprintf(sql, sizeof(sql),
			 "UPDATE secret SET sealed = CAST(substr(sealed, 1, %d) || CASE WHEN "
			 "substr(sealed, %d, 1) = X'55' THEN X'54' ELSE X'55' END || "
			 "substr(sealed, %d) AS BLOB)",
			 at - 1, at, at + 1);
		catalog_run(f->catalog, sql);
		assert_string_equal(opened(f, INT64_MAX), "corrupt");
	}
}

/* ---- The key. */

static errc open_again(struct catalog_fixture *f, struct err *e)
{
	catalog_close(f->catalog);
	f->catalog = NULL;
	return catalog_open(f->data, &f->catalog, e);
}

static void the_key_is_kept_to_its_owner(void **state)
{
	struct catalog_fixture *f = *state;
	char path[128];
	struct stat st;
	struct err e;
	snprintf(path, sizeof(path), "%s/keys/secret.key", f->data);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, 32);
	static const mode_t open_modes[] = { 0604, 0640, 0666, 0610 };
	for (size_t i = 0; i < ARRAY_COUNT(open_modes); i++) {
		assert_int_equal(chmod(path, open_modes[i]), 0);
		catalog_close(f->catalog);
		f->catalog = NULL;
		assert_int_equal(catalog_open(f->data, &f->catalog, &e), ERR_FORBIDDEN);
		assert_non_null(strstr(e.message, "chmod 600"));
	}
	assert_int_equal(chmod(path, 0400), 0);
	assert_int_equal(open_again(f, &e), OK);
}

static void a_key_of_another_length_is_refused(void **state)
{
	struct catalog_fixture *f = *state;
	static const size_t lens[] = { 0, 31, 33, 5000 };
	static const char bytes[5000];
	char path[128];
	struct err e;
	snprintf(path, sizeof(path), "%s/keys/secret.key", f->data);
	for (size_t i = 0; i < ARRAY_COUNT(lens); i++) {
		assert_int_equal(io_write_file(path, (str){ bytes, lens[i] }, 0600, &e), OK);
		assert_int_equal(open_again(f, &e), ERR_CORRUPT);
		assert_non_null(strstr(e.message, "32 bytes"));
	}
}

static void another_key_opens_nothing(void **state)
{
	struct catalog_fixture *f = *state;
	char path[128], saved[32];
	struct err e;
	struct buf key = buf_init(32);
	set(f->catalog, "KEY", "one");
	snprintf(path, sizeof(path), "%s/keys/secret.key", f->data);
	assert_int_equal(io_read_file(path, &key, &e), OK);
	memcpy(saved, key.ptr, sizeof(saved));
	/* a missing one is made anew: nothing else is lost, and what cannot be opened says so */
	unlink(path);
	assert_int_equal(open_again(f, &e), OK);
	assert_string_equal(opened(f, INT64_MAX), "corrupt");
	struct secret *items = NULL;
	size_t count = 0;
	assert_int_equal(secrets_open(f->catalog, "shop", "production", INT64_MAX, &f->scratch,
				      &items, &count, &e),
			 ERR_CORRUPT);
	assert_non_null(strstr(e.message, "KEY of shop/production"));
	set(f->catalog, "KEY", "new");
	assert_string_equal(opened(f, INT64_MAX), "KEY=new");
	/* and the old one still opens what it sealed */
	assert_int_equal(io_write_file(path, (str){ saved, sizeof(saved) }, 0600, &e), OK);
	assert_int_equal(open_again(f, &e), OK);
	assert_string_equal(opened(f, 1), "KEY=one");
	buf_done(&key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CATALOG_TEST(every_version_can_be_had_again),
		CATALOG_TEST(names_come_without_values),
		CATALOG_TEST(names_and_values_have_limits),
		CATALOG_TEST(there_are_only_so_many),
		CATALOG_TEST(no_value_is_in_the_files),
		CATALOG_TEST(a_row_that_was_tampered_with_is_refused),
		CATALOG_TEST(the_key_is_kept_to_its_owner),
		CATALOG_TEST(a_key_of_another_length_is_refused),
		CATALOG_TEST(another_key_opens_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
