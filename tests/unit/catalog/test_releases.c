#include "catalog_fixture.h"

#include <pthread.h>

#include "catalog/releases.h"

static struct release make(const char *app, const char *environment)
{
	struct release r = { .configuration_version = 1,
			     .secret_version = 2,
			     .specification = "app: shop",
			     .state = RELEASE_NEW };
	snprintf(r.app, sizeof(r.app), "%s", app);
	snprintf(r.environment, sizeof(r.environment), "%s", environment);
	memcpy(r.artifact, "sha256:", 8);
	memset(r.artifact + 7, 'a', 64);
	snprintf(r.colour, sizeof(r.colour), "blue");
	snprintf(r.actor, sizeof(r.actor), "token:bot");
	snprintf(r.operation, sizeof(r.operation), "op-1");
	return r;
}

static int64_t put(struct catalog *c, const char *app, const char *environment)
{
	struct release r = make(app, environment);
	struct err e = { 0 };
	if (releases_put(c, &r, &e) != OK)
		fail_msg("%s", e.message);
	return r.number;
}

static void numbers_count_in_each_environment(void **state)
{
	struct catalog_fixture *f = *state;
	struct release r;
	assert_int_equal(put(f->catalog, "shop", "production"), 1);
	assert_int_equal(put(f->catalog, "shop", "staging"), 1);
	assert_int_equal(put(f->catalog, "shop", "production"), 2);
	assert_int_equal(put(f->catalog, "blog", "production"), 1);
	catalog_reopen(f);
	assert_int_equal(put(f->catalog, "shop", "production"), 3);
	assert_int_equal(releases_get(f->catalog, "shop", "production", 3, &f->scratch, &r, NULL),
			 OK);
	assert_string_equal(r.specification, "app: shop");
	assert_string_equal(r.actor, "token:bot");
	assert_int_equal(strlen(r.artifact), 71);
	assert_int_equal(r.configuration_version, 1);
	assert_int_equal(r.secret_version, 2);
	assert_int_equal(r.state, RELEASE_NEW);
	assert_true(r.created > 0);
	struct err e;
	assert_int_equal(releases_get(f->catalog, "shop", "production", 4, &f->scratch, &r, &e),
			 ERR_NOT_FOUND);
	assert_non_null(strstr(e.message, "release 4"));
}

static void the_current_one_is_found(void **state)
{
	struct catalog_fixture *f = *state;
	struct release r = make("shop", "production"), current;
	struct err e;
	put(f->catalog, "shop", "production");
	assert_int_equal(
		releases_current(f->catalog, "shop", "production", &f->scratch, &current, &e),
		ERR_NOT_FOUND);
	r.number = 1;
	assert_int_equal(releases_set_state(f->catalog, &r, RELEASE_CURRENT, 0, NULL, &e), OK);
	assert_int_equal(
		releases_current(f->catalog, "shop", "production", &f->scratch, &current, &e), OK);
	assert_int_equal(current.number, 1);
	assert_int_equal(releases_current(f->catalog, "shop", "staging", &f->scratch, &current, &e),
			 ERR_NOT_FOUND);
	/* a note stays until there is another; a long one is cut at a character */
	assert_int_equal(releases_set_state(f->catalog, &r, RELEASE_WARM, 1234, "why", &e), OK);
	assert_int_equal(releases_set_state(f->catalog, &r, RELEASE_WARM, 1234, NULL, &e), OK);
	assert_int_equal(releases_get(f->catalog, "shop", "production", 1, &f->scratch, &r, &e),
			 OK);
	assert_string_equal(r.note, "why");
	assert_int_equal(r.warm_until, 1234);
	char note[3000];
	for (size_t i = 0; i + 2 < sizeof(note); i += 2)
		memcpy(note + i, "\xc3\xbc", 3);
	assert_int_equal(releases_set_state(f->catalog, &r, RELEASE_FAILED, 0, note, &e), OK);
	assert_int_equal(releases_get(f->catalog, "shop", "production", 1, &f->scratch, &r, &e),
			 OK);
	assert_true(strlen(r.note) >= sizeof(r.note) - 3 && strlen(r.note) % 2 == 0);
}

static void lists_are_newest_first_and_bounded(void **state)
{
	struct catalog_fixture *f = *state;
	struct release *items = NULL;
	size_t count = 0;
	struct err e;
	for (int i = 0; i < 5; i++)
		put(f->catalog, "shop", "production");
	put(f->catalog, "shop", "staging");
	assert_int_equal(
		releases_list(f->catalog, "shop", "production", 3, &f->scratch, &items, &count, &e),
		OK);
	assert_int_equal(count, 3);
	assert_int_equal(items[0].number, 5);
	assert_int_equal(items[2].number, 3);
	assert_int_equal(
		releases_list(f->catalog, NULL, "staging", 100, &f->scratch, &items, &count, &e),
		OK);
	assert_int_equal(count, 1);
	assert_int_equal(
		releases_list(f->catalog, NULL, NULL, 100, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 6);
	assert_string_equal(items[0].specification, "");
	assert_int_equal(
		releases_list(f->catalog, "other", NULL, 100, &f->scratch, &items, &count, &e), OK);
	assert_int_equal(count, 0);
}

static void an_artifact_that_serves_is_known(void **state)
{
	struct catalog_fixture *f = *state;
	struct release r = make("shop", "production");
	struct err e;
	bool serves = true;
	assert_int_equal(releases_serve_artifact(f->catalog, r.artifact, &serves, &e), OK);
	assert_false(serves);
	assert_int_equal(releases_put(f->catalog, &r, &e), OK);
	static const struct {
		enum release_state state;
		bool serves;
	} cases[] = { { RELEASE_NEW, true },
		      { RELEASE_CURRENT, true },
		      { RELEASE_WARM, true },
		      { RELEASE_RETIRED, false },
		      { RELEASE_FAILED, false } };
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		assert_int_equal(releases_set_state(f->catalog, &r, cases[i].state, 0, NULL, &e),
				 OK);
		assert_int_equal(releases_serve_artifact(f->catalog, r.artifact, &serves, &e), OK);
		assert_int_equal(serves, cases[i].serves);
	}
}

static void a_configuration_is_a_version_when_it_differs(void **state)
{
	struct catalog_fixture *f = *state;
	struct err e;
	int64_t version = 0;
	str json;
	static const struct {
		const char *json;
		int64_t version;
	} puts[] = { { "{\"A\":\"1\"}", 1 },
		     { "{\"A\":\"1\"}", 1 },
		     { "{\"A\":\"2\"}", 2 },
		     { "{\"A\":\"1\"}", 3 } };
	for (size_t i = 0; i < ARRAY_COUNT(puts); i++) {
		assert_int_equal(configuration_put(f->catalog, "shop", "production",
						   str_c(puts[i].json), "me", &version, &e),
				 OK);
		assert_int_equal(version, puts[i].version);
	}
	assert_int_equal(
		configuration_put(f->catalog, "shop", "staging", STR("{}"), "me", &version, &e),
		OK);
	assert_int_equal(version, 1);
	catalog_reopen(f);
	for (size_t i = 0; i < ARRAY_COUNT(puts); i++) {
		assert_int_equal(configuration_get(f->catalog, "shop", "production",
						   puts[i].version, &f->scratch, &json, &e),
				 OK);
		assert_true(str_eq_c(json, puts[i].json));
	}
	assert_int_equal(
		configuration_get(f->catalog, "shop", "production", 9, &f->scratch, &json, &e),
		ERR_NOT_FOUND);
}

static void a_damaged_row_is_said_to_be(void **state)
{
	struct catalog_fixture *f = *state;
	struct release r;
	struct err e;
	put(f->catalog, "shop", "production");
	catalog_run(f->catalog, "UPDATE release SET state = -1");
	assert_int_equal(releases_get(f->catalog, "shop", "production", 1, &f->scratch, &r, &e),
			 ERR_CORRUPT);
	catalog_run(f->catalog, "UPDATE release SET state = 0, colour = 'far too long a colour'");
	assert_int_equal(releases_get(f->catalog, "shop", "production", 1, &f->scratch, &r, &e),
			 ERR_CORRUPT);
}

static void *put_ten(void *ctx)
{
	for (int i = 0; i < 10; i++) {
		struct release r = make("shop", "production");
		if (releases_put(ctx, &r, NULL) != OK)
			return "put";
	}
	return NULL;
}

static void threads_get_different_numbers(void **state)
{
	struct catalog_fixture *f = *state;
	pthread_t threads[4];
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, put_ten, f->catalog), 0);
	for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
		void *problem = NULL;
		pthread_join(threads[i], &problem);
		assert_null(problem);
	}
	assert_int_equal(catalog_ask(f->catalog, "SELECT count(DISTINCT number) FROM release"), 40);
	assert_int_equal(catalog_ask(f->catalog, "SELECT max(number) FROM release"), 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CATALOG_TEST(numbers_count_in_each_environment),
		CATALOG_TEST(the_current_one_is_found),
		CATALOG_TEST(lists_are_newest_first_and_bounded),
		CATALOG_TEST(an_artifact_that_serves_is_known),
		CATALOG_TEST(a_configuration_is_a_version_when_it_differs),
		CATALOG_TEST(a_damaged_row_is_said_to_be),
		CATALOG_TEST(threads_get_different_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
