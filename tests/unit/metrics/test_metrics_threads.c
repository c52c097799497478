/* Writers, readers and the keeper of the engine at once. A reader sees at least what was
 * acknowledged before it asked, whole and in order. Run under ThreadSanitizer. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "metrics_fixture.h"

enum {
	WRITERS = 3,
	READERS = 2,
	SERIES_EACH = 20,
	COMMITS = 1000,
	STEP_MS = 1000,
	FRESH_EVERY = 10, /* commits between two new series */
};

struct shared {
	struct metrics_fixture f;
	time_ms start;
	uint64_t acknowledged[WRITERS]; /* commits; atomic */
	bool stop;                      /* atomic */
	char problem[300];              /* the first; what is not "" fails the test */
	pthread_mutex_t problem_lock;
};

struct worker {
	struct shared *shared;
	unsigned index;
	pthread_t thread;
};

static void complain(struct shared *s, const char *what, const char *why)
{
	pthread_mutex_lock(&s->problem_lock);
	if (!s->problem[0])
		snprintf(s->problem, sizeof(s->problem), "%s: %s", what, why);
	pthread_mutex_unlock(&s->problem_lock);
	__atomic_store_n(&s->stop, true, __ATOMIC_RELAXED);
}

static bool is_stopped(struct shared *s)
{
	return __atomic_load_n(&s->stop, __ATOMIC_RELAXED);
}

static errc put(struct metrics_batch *b, const char *name, unsigned index, time_ms time,
		double value, struct err *e)
{
	struct label items[2];
	char text[16];
	struct labels labels = fixture_labels(name, index, items, text);
	metrics_ref ref = 0;
	TRY(metrics_batch_series(b, &labels, &ref, e));
	if (!metrics_batch_sample(b, ref, time, value))
		FAIL(e, ERR_INTERNAL, "a series that was just made is not known");
	return OK;
}

static void *write_some(void *arg)
{
	struct worker *w = arg;
	struct shared *s = w->shared;
	struct metrics_batch *b = metrics_batch_new(s->f.m, STR("threads"), 0);
	struct err e = { 0 };
	errc rc = OK;
	for (unsigned n = 0; n < COMMITS && rc == OK && !is_stopped(s); n++) {
		struct metrics_batch_result result;
		time_ms time = s->start + (time_ms)n * STEP_MS;
		for (unsigned i = 0; i < SERIES_EACH && rc == OK; i++)
			rc = put(b, "steady", w->index * SERIES_EACH + i, time, n, &e);
		if (rc == OK && n % FRESH_EVERY == 0)
			rc = put(b, "fresh", w->index * COMMITS + n, time, n, &e);
		if (rc == OK)
			rc = metrics_batch_commit(b, &result, &e);
		__atomic_store_n(&s->acknowledged[w->index], n + 1, __ATOMIC_RELEASE);
	}
	if (rc != OK)
		complain(s, "writer", e.message);
	metrics_batch_free(b);
	return NULL;
}

/* All samples from the start on, without a hole. */
static bool is_whole(const struct metrics_samples *got, const struct shared *s, uint64_t least)
{
	if (got->count < least)
		return false;
	for (size_t i = 0; i < got->count; i++)
		if (got->times[i] != s->start + (time_ms)i * STEP_MS || got->values[i] != (double)i)
			return false;
	return true;
}

static errc read_all(struct shared *s, struct metrics_samples *samples, struct err *e)
{
	const struct matcher steady = { .type = MATCH_EQUAL,
					.name = STR(LABEL_METRIC_NAME),
					.value = STR("steady") };
	struct metrics_query query = {
		.matchers = &steady, .matcher_count = 1, .from = INT64_MIN, .to = INT64_MAX
	};
	struct metrics_selection *selection = NULL;
	uint64_t least[WRITERS];
	for (size_t i = 0; i < WRITERS; i++)
		least[i] = __atomic_load_n(&s->acknowledged[i], __ATOMIC_ACQUIRE);
	TRY(metrics_select(s->f.m, &query, &selection, e));
	errc rc = OK;
	for (size_t i = 0; i < metrics_selection_count(selection) && rc == OK; i++) {
		struct labels l = metrics_selection_labels(selection, i);
		uint64_t index = 0;
		must(str_to_u64(labels_get(&l, STR("i")), &index));
		rc = metrics_selection_read(selection, i, INT64_MIN, INT64_MAX, samples, e);
		if (rc == OK && !is_whole(samples, s, least[index / SERIES_EACH]))
			rc = err_fill(e, ERR_INTERNAL, 0, __FILE__, __LINE__,
				      "series %llu: %zu samples, at least %llu were acknowledged",
				      (unsigned long long)index, samples->count,
				      (unsigned long long)least[index / SERIES_EACH]);
	}
	metrics_selection_free(selection);
	return rc;
}

static errc look_around(struct shared *s, struct err *e)
{
	struct arena arena CLEANUP(arena_done) = arena_init(1 << 20);
	struct metrics_names names;
	struct metrics_stats stats;
	struct metrics_cardinality *rows;
	size_t row_count;
	TRY(metrics_label_values(s->f.m, STR("i"), NULL, 0, INT64_MIN, INT64_MAX, 0, NULL, &arena,
				 &names, e));
	TRY(metrics_cardinality(s->f.m, METRICS_BY_LABEL, s->start, 10, &arena, &rows, &row_count,
				e));
	metrics_stats(s->f.m, &stats);
	return OK;
}

static void *read_some(void *arg)
{
	struct worker *w = arg;
	struct shared *s = w->shared;
	struct metrics_samples samples = { 0 };
	struct err e = { 0 };
	while (!is_stopped(s)) {
		errc rc = read_all(s, &samples, &e);
		if (rc == OK)
			rc = look_around(s, &e);
		if (rc != OK)
			complain(s, "reader", e.message);
	}
	metrics_samples_done(&samples);
	return NULL;
}

static void *keep(void *arg)
{
	struct worker *w = arg;
	struct shared *s = w->shared;
	struct err e = { 0 };
	const struct matcher fresh = { .type = MATCH_EQUAL,
				       .name = STR(LABEL_METRIC_NAME),
				       .value = STR("fresh") };
	for (unsigned n = 0; !is_stopped(s); n++) {
		uint64_t count;
		bool more;
		__atomic_fetch_add(&fixture_time, 400, __ATOMIC_RELAXED);
		errc rc = metrics_tick(s->f.m, &more, &e);
		if (rc == OK && n % 3 == 0)
			rc = metrics_flush(s->f.m, n % 9 == 0, &e);
		if (rc == OK && n % 5 == 0)
			rc = metrics_sync(s->f.m, &e);
		if (rc == OK && n % 11 == 0)
			rc = metrics_delete(s->f.m, &fresh, 1, INT64_MIN, INT64_MAX, &count, &e);
		if (rc != OK)
			complain(s, "keeper", e.message);
	}
	return NULL;
}

static void start(struct worker *w, struct shared *s, unsigned index, void *(*body)(void *))
{
	*w = (struct worker){ .shared = s, .index = index };
	must(pthread_create(&w->thread, NULL, body, w) == 0);
}

static void run(bool sync_always)
{
	struct shared s = { .problem_lock = PTHREAD_MUTEX_INITIALIZER };
	struct worker writers[WRITERS], readers[READERS], keeper;
	struct metrics_samples samples = { 0 };
	fixture_open(&s.f);
	s.f.options.sync_always = sync_always;
	fixture_reopen(&s.f);
	s.start = fixture_time - (time_ms)COMMITS * STEP_MS;
	for (unsigned i = 0; i < WRITERS; i++)
		start(&writers[i], &s, i, write_some);
	for (unsigned i = 0; i < READERS; i++)
		start(&readers[i], &s, i, read_some);
	start(&keeper, &s, 0, keep);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(readers[i].thread, NULL);
	pthread_join(keeper.thread, NULL);
	assert_string_equal(s.problem, "");
	/* and all of it is there after a restart */
	fixture_reopen(&s.f);
	for (unsigned i = 0; i < WRITERS * SERIES_EACH; i++)
		assert_int_equal(fixture_read(&s.f, "steady", i, INT64_MIN, INT64_MAX, &samples),
				 COMMITS);
	metrics_samples_done(&samples);
	fixture_close(&s.f);
}

static void test_together(void **state)
{
	(void)state;
	run(false);
}

static void test_together_synced(void **state)
{
	(void)state;
	run(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_together),
		cmocka_unit_test(test_together_synced),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
