/* Tokens and the audit. */
#include "catalog_fixture.h"

#include "catalog/access.h"

static void a_token_opens_until_it_is_revoked(void **state)
{
	struct catalog_fixture *f = *state;
	char text[TOKEN_TEXT_SIZE];
	struct token made, seen;
	struct err e;
	assert_int_equal(
		tokens_create(f->catalog, "deploy-bot", ROLE_OPERATOR, 90, text, &made, &e), OK);
	assert_int_equal(strncmp(text, "hf_", 3), 0);
	catalog_reopen(f);
	assert_int_equal(tokens_check(f->catalog, str_c(text), &seen, &e), OK);
	assert_string_equal(seen.id, made.id);
	assert_string_equal(seen.name, "deploy-bot");
	assert_int_equal(seen.role, ROLE_OPERATOR);
	assert_int_equal(seen.expires - seen.created, 90 * INT64_C(86400000));
	assert_true(catalog_ask(f->catalog, "SELECT used FROM token") > 0);
	assert_int_equal(tokens_revoke(f->catalog, made.id, &e), OK);
	assert_int_equal(tokens_check(f->catalog, str_c(text), &seen, &e), ERR_UNAUTHENTICATED);
	assert_int_equal(tokens_revoke(f->catalog, made.id, &e), ERR_NOT_FOUND);
	assert_int_equal(tokens_revoke(f->catalog, "nope", &e), ERR_NOT_FOUND);
}

static void only_its_hash_is_stored(void **state)
{
	struct catalog_fixture *f = *state;
	static const char *const files[] = { "catalog.db", "catalog.db-wal" };
	char text[TOKEN_TEXT_SIZE];
	struct token made;
	assert_int_equal(tokens_create(f->catalog, "bot", ROLE_ADMIN, 1, text, &made, NULL), OK);
	const char *secret = strrchr(text, '_') + 1;
	assert_int_equal(strlen(secret), 40);
	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		char path[128];
		struct buf bytes = buf_init(16 << 20);
		snprintf(path, sizeof(path), "%s/%s", f->data, files[i]);
		assert_int_equal(io_read_file(path, &bytes, NULL), OK);
		assert_true(str_find(buf_str(&bytes), str_c(secret)) < 0);
		buf_done(&bytes);
	}
}

static void what_is_no_token_is_refused(void **state)
{
	struct catalog_fixture *f = *state;
	char text[TOKEN_TEXT_SIZE], longer[200];
	struct token made, seen;
	struct err e;
	assert_int_equal(tokens_create(f->catalog, "bot", ROLE_VIEWER, 1, text, &made, &e), OK);
	assert_int_equal(tokens_check(f->catalog, STR(""), &seen, &e), ERR_UNAUTHENTICATED);
	assert_int_equal(tokens_check(f->catalog, STR("hf_"), &seen, &e), ERR_UNAUTHENTICATED);
	assert_int_equal(tokens_check(f->catalog, str_c(made.id), &seen, &e), ERR_UNAUTHENTICATED);
	memset(longer, 'a', sizeof(longer));
	assert_int_equal(tokens_check(f->catalog, (str){ longer, sizeof(longer) }, &seen, &e),
			 ERR_UNAUTHENTICATED);
	size_t len = strlen(text);
	for (size_t i = 0; i < len; i++) {
		char changed[TOKEN_TEXT_SIZE];
		memcpy(changed, text, sizeof(text));
		changed[i] = changed[i] == '0' ? '1' : '0';
		assert_int_equal(tokens_check(f->catalog, str_c(changed), &seen, &e),
				 ERR_UNAUTHENTICATED);
		assert_null(strstr(e.message, changed)); /* what was tried is in no message */
		assert_int_equal(tokens_check(f->catalog, (str){ text, i }, &seen, &e),
				 ERR_UNAUTHENTICATED);
	}
	assert_int_equal(tokens_check(f->catalog, (str){ text, len }, &seen, &e), OK);
}

static void a_token_expires(void **state)
{
	struct catalog_fixture *f = *state;
	char text[TOKEN_TEXT_SIZE];
	struct token made, seen;
	struct err e;
	assert_int_equal(tokens_create(f->catalog, "bot", ROLE_VIEWER, 1, text, &made, &e), OK);
	catalog_run(f->catalog, "UPDATE token SET expires = 1");
	assert_int_equal(tokens_check(f->catalog, str_c(text), &seen, &e), ERR_UNAUTHENTICATED);
	assert_non_null(strstr(e.message, "expired"));
	static const int64_t days[] = { 0, -1, TOKEN_DAYS_MAX + 1, INT64_MAX, INT64_MIN };
	for (size_t i = 0; i < ARRAY_COUNT(days); i++)
		assert_int_equal(
			tokens_create(f->catalog, "bot", ROLE_VIEWER, days[i], text, &made, &e),
			ERR_INVALID);
	assert_int_equal(tokens_create(f->catalog, "Not A Name", ROLE_VIEWER, 1, text, &made, &e),
			 ERR_INVALID);
	assert_int_equal(tokens_create(f->catalog, "", ROLE_VIEWER, 1, text, &made, &e),
			 ERR_INVALID);
}

/* The role in the row is what counts, and one that cannot be is no role at all. */
static void a_damaged_role_is_no_role(void **state)
{
	struct catalog_fixture *f = *state;
	char text[TOKEN_TEXT_SIZE];
	struct token made, seen;
	struct err e;
	static const char *const changes[] = { "UPDATE token SET role = 0",
					       "UPDATE token SET role = 5",
					       "UPDATE token SET role = -1" };
	assert_int_equal(tokens_create(f->catalog, "bot", ROLE_VIEWER, 1, text, &made, &e), OK);
	for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
		catalog_run(f->catalog, changes[i]);
		assert_int_equal(tokens_check(f->catalog, str_c(text), &seen, &e), ERR_CORRUPT);
	}
}

/* When it was used is of no weight: a catalog that cannot be written locks nobody out. */
static void a_catalog_that_cannot_be_written_still_knows(void **state)
{
	struct catalog_fixture *f = *state;
	char text[TOKEN_TEXT_SIZE];
	struct token made, seen;
	struct err e;
	assert_int_equal(tokens_create(f->catalog, "bot", ROLE_VIEWER, 1, text, &made, &e), OK);
	catalog_run(f->catalog, "PRAGMA query_only = ON");
	assert_int_equal(tokens_check(f->catalog, str_c(text), &seen, &e), OK);
	catalog_run(f->catalog, "PRAGMA query_only = OFF");
}

static void roles_have_names(void **state)
{
	(void)state;
	enum access_role role = ROLE_NONE;
	assert_true(access_role_parse(STR("viewer"), &role) && role == ROLE_VIEWER);
	assert_true(access_role_parse(STR("operator"), &role) && role == ROLE_OPERATOR);
	assert_true(access_role_parse(STR("admin"), &role) && role == ROLE_ADMIN);
	assert_false(access_role_parse(STR("none"), &role));
	assert_false(access_role_parse(STR("Admin"), &role));
	assert_false(access_role_parse(STR("admi"), &role));
	assert_false(access_role_parse(STR(""), &role));
	assert_true(ROLE_NONE < ROLE_VIEWER && ROLE_VIEWER < ROLE_OPERATOR &&
		    ROLE_OPERATOR < ROLE_ADMIN);
}

static void tokens_are_listed_without_their_text(void **state)
{
	struct catalog_fixture *f = *state;
	char text[TOKEN_TEXT_SIZE];
	struct token made, *items = NULL;
	size_t count = 0;
	struct err e;
	for (int i = 0; i < 3; i++)
		assert_int_equal(tokens_create(f->catalog, "bot", ROLE_VIEWER, 1, text, &made, &e),
				 OK);
	assert_int_equal(tokens_revoke(f->catalog, made.id, &e), OK);
	assert_int_equal(tokens_list(f->catalog, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 3);
	int revoked = 0;
	for (size_t i = 0; i < count; i++)
		revoked += items[i].revoked != 0;
	assert_int_equal(revoked, 1);
}

static void the_audit_grows_and_is_read_backwards(void **state)
{
	struct catalog_fixture *f = *state;
	struct audit_entry *items = NULL, entry = { .actor = "token:bot",
						    .role = "operator",
						    .peer = "127.0.0.1:1",
						    .action = "deploy",
						    .target = "shop/production",
						    .outcome = "ok" };
	size_t count = 0;
	struct err e;
	for (int i = 0; i < 5; i++)
		assert_int_equal(audit_add(f->catalog, &entry, &e), OK);
	entry.detail = "{\"operation\":\"op-1\"}";
	assert_int_equal(audit_add(f->catalog, &entry, &e), OK);
	catalog_reopen(f);
	assert_int_equal(audit_list(f->catalog, 0, 4, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 4);
	assert_string_equal(items[0].detail, "{\"operation\":\"op-1\"}");
	assert_string_equal(items[1].detail, "");
	assert_string_equal(items[0].actor, "token:bot");
	assert_int_equal(items[0].sequence, 6);
	assert_int_equal(
		audit_list(f->catalog, items[3].sequence, 4, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 2);
	assert_int_equal(items[1].sequence, 1);
}

static void a_sender_only_sends(void **state)
{
	static const enum access_role all[] = { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN,
						ROLE_SENDER };
	/* rows: who has it; columns: what is needed */
	static const bool may[5][5] = { { true, false, false, false, false },
					{ true, true, false, false, false },
					{ true, true, true, false, true },
					{ true, true, true, true, true },
					{ true, false, false, false, true } };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(all); i++)
		for (size_t k = 0; k < ARRAY_COUNT(all); k++)
			assert_int_equal(access_role_may(all[i], all[k]), may[i][k]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CATALOG_TEST(a_token_opens_until_it_is_revoked),
		CATALOG_TEST(only_its_hash_is_stored),
		CATALOG_TEST(what_is_no_token_is_refused),
		CATALOG_TEST(a_token_expires),
		CATALOG_TEST(a_damaged_role_is_no_role),
		CATALOG_TEST(a_catalog_that_cannot_be_written_still_knows),
		cmocka_unit_test(roles_have_names),
		cmocka_unit_test(a_sender_only_sends),
		CATALOG_TEST(tokens_are_listed_without_their_text),
		CATALOG_TEST(the_audit_grows_and_is_read_backwards),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
