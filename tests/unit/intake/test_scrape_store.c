#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/wire.h"
#include "intake/scrape_store.h"
#include "intake_fixture.h"

enum { INTERVAL = 15000 };

struct fixture {
	struct intake_fixture f;
	struct scrape_cache *cache;
	struct scrape_rules rules;
	struct scrape_result result;
	time_ms now;
};

static int open_fixture(void **state)
{
	struct fixture *x = must_calloc(1, sizeof(*x));
	fixture_open(&x->f, 0);
	x->cache = scrape_cache_new();
	x->now = FIXTURE_NOW - 10 * INTERVAL;
	*state = x;
	return 0;
}

static int close_fixture(void **state)
{
	struct fixture *x = *state;
	scrape_cache_free(x->cache);
	fixture_close(&x->f);
	free(x);
	return 0;
}

static errc scrape_as(struct fixture *x, enum scrape_format format, str body)
{
	x->result = (struct scrape_result){ 0 };
	errc rc = scrape_store(x->cache, x->f.batch, format, body, &x->rules, x->now, &x->result,
			       &fixture_error);
	if (rc == OK) {
		fixture_commit(&x->f);
	} else {
		metrics_batch_abort(x->f.batch);
		x->result.stale_count = scrape_cache_stale(x->cache, x->f.batch, x->now);
		fixture_commit(&x->f);
	}
	x->now += INTERVAL;
	return rc;
}

static errc scrape(struct fixture *x, const char *body)
{
	return scrape_as(x, SCRAPE_TEXT, str_c(body));
}

static void check_counts(const struct fixture *x, uint64_t scraped, uint64_t kept, uint64_t added,
			 uint64_t stale)
{
	assert_int_equal(x->result.scraped_count, scraped);
	assert_int_equal(x->result.kept_count, kept);
	assert_int_equal(x->result.added_count, added);
	assert_int_equal(x->result.stale_count, stale);
}

static void series_end_and_return(void **state)
{
	struct fixture *x = *state;
	assert_ok(scrape(x, "a 1\nb 2\n"));
	check_counts(x, 2, 2, 2, 0);
	assert_ok(scrape(x, "a 3\nb 4\n"));
	check_counts(x, 2, 2, 0, 0);
	assert_ok(scrape(x, "a 5\n"));
	check_counts(x, 1, 1, 0, 1);
	assert_ok(scrape(x, "a 6\n"));
	check_counts(x, 1, 1, 0, 0);
	assert_ok(scrape(x, "a 7\nb 8\n"));
	check_counts(x, 2, 2, 1, 0);
	assert_string_equal(fixture_dump(&x->f),
			    "a 1@-150000\na 3@-135000\na 5@-120000\na 6@-105000\na 7@-90000\n"
			    "b 2@-150000\nb 4@-135000\nb stale@-120000\nb 8@-90000\n");
}

static void a_failed_scrape_ends_everything(void **state)
{
	struct fixture *x = *state;
	assert_ok(scrape(x, "a 1\nb 2\n"));
	assert_int_equal(scrape(x, "a 3\nc 4\nb oops\n"), ERR_INVALID);
	assert_non_null(strstr(fixture_error.message, "line 3"));
	assert_ok(scrape(x, "a 5\n"));
	const char *dump = fixture_dump(&x->f);
	assert_non_null(strstr(dump, "a 1@-150000\na stale@-135000\na 5@-120000\n"));
	assert_non_null(strstr(dump, "b 2@-150000\nb stale@-135000\n"));
	assert_null(strstr(dump, "b stale@-120000"));
	assert_null(strstr(dump, "c 4"));
}

/* The order of labels, or the format, is no other series: nothing ends. */
static void other_bytes_of_the_same_series(void **state)
{
	struct fixture *x = *state;
	assert_ok(scrape(x, "a{x=\"1\",y=\"2\"} 1\nb 1\n"));
	assert_ok(scrape(x, "a{y=\"2\",x=\"1\"} 2\nb 2\n"));
	assert_int_equal(x->result.stale_count, 0);
	assert_ok(scrape_as(x, SCRAPE_OPENMETRICS, STR("{\"a\",y=\"2\",x=\"1\"} 3\n# EOF\n")));
	assert_int_equal(x->result.stale_count, 1); /* of b */
	assert_ok(scrape(x, ""));
	assert_int_equal(x->result.stale_count, 1);
	assert_string_equal(fixture_dump(&x->f),
			    "a{x=\"1\",y=\"2\"} 1@-150000\na{x=\"1\",y=\"2\"} 2@-135000\n"
			    "a{x=\"1\",y=\"2\"} 3@-120000\na{x=\"1\",y=\"2\"} stale@-105000\n"
			    "b 1@-150000\nb 2@-135000\nb stale@-120000\n");
}

static void timestamps(void **state)
{
	struct fixture *x = *state;
	assert_ok(scrape(x, "a 1 1789999999999\na 2 1789999999998\nb 1\nb 2\n"));
	check_counts(x, 4, 3, 2, 0);
	assert_int_equal(x->result.duplicate_count, 1);
	/* what has its own time does not end */
	assert_ok(scrape(x, "b 3\n"));
	assert_int_equal(x->result.stale_count, 0);
	x->rules.ignore_timestamps = true;
	assert_ok(scrape(x, "a 4 1789999999997\n"));
	assert_string_equal(fixture_dump(&x->f), "a 4@-120000\na 2@-2\na 1@-1\n"
						 "b 1@-150000\nb 3@-135000\nb stale@-120000\n");
}

static void target_labels(void **state)
{
	struct fixture *x = *state;
	static const struct label labels[] = { { STR("instance"), STR("i:1") },
					       { STR("job"), STR("j") } };
	const char *body = "a{job=\"x\",exported_job=\"y\"} 1\nb{instance=\"\"} 2\nc 3\n";
	x->rules.target_labels = labels;
	x->rules.target_label_count = ARRAY_COUNT(labels);
	assert_ok(scrape(x, body));
	assert_string_equal(
		fixture_dump(&x->f),
		"a{exported_exported_job=\"x\",exported_job=\"y\",instance=\"i:1\",job=\"j\"} "
		"1@-150000\n"
		"b{instance=\"i:1\",job=\"j\"} 2@-150000\nc{instance=\"i:1\",job=\"j\"} "
		"3@-150000\n");
}

static void honored_labels(void **state)
{
	struct fixture *x = *state;
	static const struct label labels[] = { { STR("instance"), STR("i:1") },
					       { STR("job"), STR("j") } };
	x->rules.target_labels = labels;
	x->rules.target_label_count = ARRAY_COUNT(labels);
	x->rules.honor_labels = true;
	assert_ok(scrape(x, "a{job=\"x\"} 1\nb{instance=\"\"} 2\nc 3\n"));
	assert_string_equal(fixture_dump(&x->f), "a{instance=\"i:1\",job=\"x\"} 1@-150000\n"
						 "b{job=\"j\"} 2@-150000\n"
						 "c{instance=\"i:1\",job=\"j\"} 3@-150000\n");
}

/* Drops `drop_…`, renames `old` to `new`. */
static errc relabel(void *ctx, struct arena *scratch, struct label *items, size_t *count,
		    bool *ret_keep, struct err *e)
{
	(void)e;
	++*(int *)ctx;
	*ret_keep = true;
	for (size_t i = 0; i < *count; i++) {
		assert_true(items[i].value.len > 0);
		if (!str_eq_c(items[i].name, LABEL_METRIC_NAME))
			continue;
		if (str_starts(items[i].value, STR("drop_")))
			*ret_keep = false;
		if (str_eq_c(items[i].value, "old"))
			items[i].value = arena_str(scratch, STR("new"));
	}
	return OK;
}

static void relabelling(void **state)
{
	struct fixture *x = *state;
	int calls = 0;
	x->rules.relabel = relabel;
	x->rules.relabel_ctx = &calls;
	for (int i = 0; i < 3; i++) {
		assert_ok(scrape(x, "old{a=\"\"} 1\ndrop_this 2\nkept 3\n"));
		check_counts(x, 3, 2, i ? 0 : 2, 0);
	}
	/* a series is asked about once */
	assert_int_equal(calls, 3);
	assert_ok(scrape(x, ""));
	check_counts(x, 0, 0, 0, 2);
	assert_string_equal(fixture_dump(&x->f),
			    "kept 3@-150000\nkept 3@-135000\nkept 3@-120000\nkept stale@-105000\n"
			    "new 1@-150000\nnew 1@-135000\nnew 1@-120000\nnew stale@-105000\n");
}

static void limits(void **state)
{
	struct fixture *x = *state;
	x->rules.sample_max = 2;
	assert_ok(scrape(x, "a 1\nb 2\n"));
	assert_int_equal(scrape(x, "a 1\nb 2\nc 3\n"), ERR_LIMIT);
	assert_non_null(strstr(fixture_error.message, "sample limit"));
	assert_int_equal(x->result.stale_count >= 2, 1);
	x->rules.sample_max = 0;
	x->rules.label_max = 2;
	assert_ok(scrape(x, "d{a=\"b\"} 1\n"));
	assert_int_equal(scrape(x, "d{a=\"b\",c=\"d\"} 1\n"), ERR_LIMIT);
	x->rules.label_max = 0;
	x->rules.label_name_bytes_max = 8;
	assert_int_equal(scrape(x, "e{abcdefghi=\"b\"} 1\n"), ERR_LIMIT);
	x->rules.label_value_bytes_max = 3;
	assert_int_equal(scrape(x, "e{a=\"1234\"} 1\n"), ERR_LIMIT);
	assert_ok(scrape(x, "e{a=\"123\"} 1\n"));
}

static void labels_that_are_no_series(void **state)
{
	struct fixture *x = *state;
	assert_int_equal(scrape(x, "a 1\n{b=\"c\"} 1\n"), ERR_INVALID);
	assert_non_null(strstr(fixture_error.message, "line 2"));
	assert_int_equal(scrape(x, "a{b=\"1\",b=\"2\"} 1\n"), ERR_INVALID);
	assert_ok(scrape(x, "a 1\n"));
}

static void too_many_series(void **state)
{
	(void)state;
	struct fixture x = { .now = FIXTURE_NOW };
	fixture_open(&x.f, 2);
	x.cache = scrape_cache_new();
	for (int i = 0; i < 2; i++) {
		assert_ok(scrape(&x, "a 1\nb 2\nc 3\nd 4\n"));
		check_counts(&x, 4, 2, i ? 0 : 2, 0);
		assert_int_equal(x.result.refused_count, 2);
		assert_true(x.result.refusal[0]);
		x.now = FIXTURE_NOW + 1;
	}
	scrape_cache_free(x.cache);
	fixture_close(&x.f);
}

static void exemplars_and_metadata(void **state)
{
	struct fixture *x = *state;
	for (int i = 0; i < 2; i++)
		assert_ok(scrape_as(x, SCRAPE_OPENMETRICS,
				    STR("# TYPE a counter\n# UNIT a seconds\n# HELP a b\n"
					"a_total 3 # {trace=\"x\"} 2.5 1789999999.5\n# EOF\n")));
	assert_int_equal(x->result.exemplar_count, 1);
	assert_string_equal(fixture_metadata(&x->f), "a counter [b] [seconds]\n");
	assert_string_equal(fixture_exemplars(&x->f), "a_total {trace=\"x\"} 2.5@-500\n");
	assert_ok(scrape(x, "# HELP a other\n# TYPE a gauge\na 1\n"));
	assert_string_equal(fixture_metadata(&x->f), "a gauge [other] []\n");
}

/* Random scrapes against a plain model of what is alive. */
static void random_scrapes(void **state)
{
	enum { SERIES = 200, SCRAPES = 60 };
	struct fixture *x = *state;
	bool alive[SERIES] = { 0 };
	struct buf body CLEANUP(buf_done) = buf_init(1 << 20);
	srandom(7);
	for (int k = 0; k < SCRAPES; k++) {
		uint64_t scraped = 0, added = 0, ended = 0;
		unsigned base = (unsigned)random() % 4 ? 9 : 1;
		buf_clear(&body);
		for (int i = 0; i < SERIES; i++) {
			bool now = (unsigned)random() % 10 < base;
			if (now && random() % 2)
				buf_printf(&body, "m{i=\"%d\",j=\"x\"} %d\n", i, k);
			else if (now)
				buf_printf(&body, "m{j=\"x\",i=\"%d\"} %d\n", i, k);
			scraped += now;
			ended += alive[i] && !now;
			added += !alive[i] && now;
			alive[i] = now;
		}
		x->now = FIXTURE_NOW + k;
		assert_ok(scrape_as(x, SCRAPE_TEXT, buf_str(&body)));
		assert_int_equal(x->result.scraped_count, scraped);
		assert_int_equal(x->result.kept_count, scraped);
		assert_int_equal(x->result.stale_count, ended);
		/* other bytes of a series count as added, as nobody knows before */
		assert_true(x->result.added_count >= added);
	}
	uint64_t left = 0;
	for (int i = 0; i < SERIES; i++)
		left += alive[i];
	assert_int_equal(scrape_cache_stale(x->cache, x->f.batch, x->now), left);
	assert_int_equal(scrape_cache_stale(x->cache, x->f.batch, x->now), 0);
	assert_true(scrape_cache_bytes(x->cache) < 100000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_fixture, close_fixture)
	const struct CMUnitTest tests[] = {
		TEST(series_end_and_return),
		TEST(a_failed_scrape_ends_everything),
		TEST(other_bytes_of_the_same_series),
		TEST(timestamps),
		TEST(target_labels),
		TEST(honored_labels),
		TEST(relabelling),
		TEST(limits),
		TEST(labels_that_are_no_series),
		cmocka_unit_test(too_many_series),
		TEST(exemplars_and_metadata),
		TEST(random_scrapes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
