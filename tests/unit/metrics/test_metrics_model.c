/* The engine against a plain model: random batches, restarts, flushes, merges, deletions, and
 * queries at random ranges, which must give what the model has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../base/test_random.h"
#include "base/checks.h"
#include "metrics_fixture.h"

enum { SERIES = 48, STEPS = 260, HOUR_MS = 3600000 };

/* The address sanitizer makes an open ten times as long. */
#ifdef __SANITIZE_ADDRESS__
enum { SEEDS = 2 };
#else
enum { SEEDS = 6 };
#endif

struct point {
	time_ms time;
	uint64_t bits;
	uint32_t histogram; /* seed of one; 0: a float */
};

struct model_series {
	struct label items[4];
	struct labels labels;
	char texts[4][24];
	struct point *points; /* by time */
	size_t count, room;
	time_ms clock; /* of its writer */
};

struct world {
	struct metrics_fixture f;
	struct test_random random;
	struct model_series series[SERIES];
	struct metrics_batch *batch;
	struct metrics_samples samples;
	uint32_t histogram_serial;
	uint64_t checked;
};

/* ---- The model. */

static void model_put(struct model_series *s, struct point p)
{
	size_t at = s->count;
	while (at && s->points[at - 1].time >= p.time)
		at--;
	if (at < s->count && s->points[at].time == p.time) {
		s->points[at] = p;
		return;
	}
	if (s->count == s->room) {
		s->room = s->room ? s->room * 2 : 64;
		s->points = must_realloc(s->points, s->room * sizeof(s->points[0]));
	}
	memmove(s->points + at + 1, s->points + at, (s->count - at) * sizeof(p));
	s->points[at] = p;
	s->count++;
}

static void model_delete(struct model_series *s, time_ms from, time_ms to)
{
	size_t kept = 0;
	for (size_t i = 0; i < s->count; i++)
		if (s->points[i].time < from || s->points[i].time > to)
			s->points[kept++] = s->points[i];
	s->count = kept;
}

static void make_labels(struct model_series *s, size_t i)
{
	static const char *const names[] = { "up", "http_requests_total", "x:y" };
	size_t n = 0;
	snprintf(s->texts[0], sizeof(s->texts[0]), "%s", names[i % 3]);
	snprintf(s->texts[1], sizeof(s->texts[1]), "host-%zu", i / 3 % 8);
	snprintf(s->texts[2], sizeof(s->texts[2]), "%zu", i / 24);
	s->items[n++] = (struct label){ STR("__name__"), str_c(s->texts[0]) };
	if (i % 5)
		s->items[n++] = (struct label){ STR("host"), str_c(s->texts[1]) };
	else
		s->items[n++] = (struct label){ STR("instance"), str_c(s->texts[1]) };
	s->items[n++] = (struct label){ STR("zone"), str_c(s->texts[2]) };
	s->labels = (struct labels){ s->items, n };
}

/* A histogram that only its seed decides. */
struct made_histogram {
	struct histogram_span spans[2];
	double buckets[6];
	struct histogram h;
};

static void make_histogram(uint32_t seed, struct made_histogram *ret)
{
	struct test_random r = { seed };
	ret->spans[0] = (struct histogram_span){ (int32_t)test_random_below(&r, 20) - 10, 2 };
	ret->spans[1] = (struct histogram_span){ 1 + (int32_t)test_random_below(&r, 5), 4 };
	ret->h = (struct histogram){ .schema = (int32_t)test_random_below(&r, 9),
				     .zero_threshold = 1e-128,
				     .zero_count = (double)test_random_below(&r, 10),
				     .sum = (double)seed / 7 };
	ret->h.count = ret->h.zero_count;
	for (size_t i = 0; i < ARRAY_COUNT(ret->buckets); i++) {
		ret->buckets[i] = (double)test_random_below(&r, 1000);
		ret->h.count += ret->buckets[i];
	}
	ret->h.positive = (struct histogram_side){ ret->spans, ret->buckets, 2, 6 };
}

/* ---- What is done. */

static double random_value(struct test_random *r, uint64_t *ret_bits)
{
	static const uint64_t odd[] = { 0,
					0x8000000000000000,
					METRICS_STALE_BITS,
					0x7ff8000000000001,
					0x7ff0000000000000,
					0xfff0000000000000,
					1,
					0x7fefffffffffffff };
	double value = (double)test_random_below(r, 100000) / 100;
	if (test_random_below(r, 10) == 0)
		memcpy(&value, &odd[test_random_below(r, ARRAY_COUNT(odd))], sizeof(value));
	else if (test_random_below(r, 10) == 0) {
		uint64_t any = test_random_u64(r);
		memcpy(&value, &any, sizeof(value));
	}
	memcpy(ret_bits, &value, sizeof(value));
	return value;
}

static time_ms random_time(struct world *w, struct model_series *s)
{
	struct test_random *r = &w->random;
	if (s->clock < fixture_time - HOUR_MS)
		s->clock = fixture_time - HOUR_MS;
	switch (test_random_below(r, 12)) {
	case 0: /* late, by up to three days */
		return fixture_time - (time_ms)test_random_below(r, 3 * FIXTURE_DAY_MS);
	case 1: /* the same again */
		return s->count ? s->points[test_random_below(r, s->count)].time : fixture_time;
	case 2:
		return s->clock -= (time_ms)test_random_below(r, 60000);
	default:
		return s->clock += 1 + (time_ms)test_random_below(r, 30000);
	}
}

/* A batch has floats or histograms of one series: between the two it knows no order. */
enum kind { KIND_NONE, KIND_FLOAT, KIND_HISTOGRAM };

static void put_sample(struct world *w, struct model_series *s, enum kind *kind)
{
	struct point p = { random_time(w, s), 0, 0 };
	metrics_ref ref = 0;
	if (p.time > fixture_time + 10 * 60000)
		s->clock = p.time = fixture_time;
	if (*kind == KIND_NONE)
		*kind = test_random_below(&w->random, 25) ? KIND_FLOAT : KIND_HISTOGRAM;
	assert_ok(metrics_batch_series(w->batch, &s->labels, &ref, &fixture_error));
	if (*kind == KIND_HISTOGRAM) {
		struct made_histogram made;
		p.histogram = ++w->histogram_serial;
		make_histogram(p.histogram, &made);
		assert_ok(histogram_check(&made.h, &fixture_error));
		assert_true(metrics_batch_histogram(w->batch, ref, p.time, &made.h));
	} else {
		double value = random_value(&w->random, &p.bits);
		assert_true(metrics_batch_sample(w->batch, ref, p.time, value));
	}
	model_put(s, p);
}

static void write_batch(struct world *w)
{
	struct metrics_batch_result result;
	struct test_random *r = &w->random;
	enum kind kinds[SERIES] = { KIND_NONE };
	size_t count = 1 + test_random_below(r, 400), first = test_random_below(r, SERIES);
	bool one_series = test_random_below(r, 4) == 0;
	for (size_t i = 0; i < count; i++) {
		size_t at = one_series ? first : (first + i) % SERIES;
		put_sample(w, &w->series[at], &kinds[at]);
		if (test_random_below(r, 60))
			continue;
		assert_ok(metrics_batch_commit(w->batch, &result, &fixture_error));
		memset(kinds, 0, sizeof(kinds));
	}
	assert_ok(metrics_batch_commit(w->batch, &result, &fixture_error));
	assert_string_equal(result.refusal, "");
}

/* ---- Matchers. */

struct matcher_choice {
	struct matcher matchers[2];
	size_t count;
};

static struct matcher_choice random_matchers(struct world *w)
{
	static const struct matcher all[] = {
		{ MATCH_EQUAL, STR("__name__"), STR("up"), NULL },
		{ MATCH_EQUAL, STR("__name__"), STR("none"), NULL },
		{ MATCH_REGEXP, STR("__name__"), STR("up|x:y"), NULL },
		{ MATCH_REGEXP, STR("host"), STR("host-[1-4]"), NULL },
		{ MATCH_NOT_EQUAL, STR("host"), STR("host-2"), NULL },
		{ MATCH_NOT_REGEXP, STR("instance"), STR("host-(1|2|3)"), NULL },
		{ MATCH_EQUAL, STR("host"), STR(""), NULL },
		{ MATCH_NOT_EQUAL, STR("instance"), STR(""), NULL },
		{ MATCH_REGEXP, STR("zone"), STR(".*"), NULL },
		{ MATCH_EQUAL, STR("zone"), STR("1"), NULL },
	};
	struct matcher_choice c = { .count = 1 + test_random_below(&w->random, 2) };
	for (size_t i = 0; i < c.count; i++) {
		c.matchers[i] = all[test_random_below(&w->random, ARRAY_COUNT(all))];
		assert_ok(matcher_compile(&c.matchers[i], &fixture_error));
	}
	return c;
}

static void matchers_done(struct matcher_choice *c)
{
	for (size_t i = 0; i < c->count; i++)
		matcher_done(&c->matchers[i]);
}

static bool model_matches(const struct matcher_choice *c, const struct labels *l)
{
	for (size_t i = 0; i < c->count; i++) {
		bool matches = false;
		assert_ok(matcher_matches(&c->matchers[i], labels_get(l, c->matchers[i].name),
					  &matches, &fixture_error));
		if (!matches)
			return false;
	}
	return true;
}

/* ---- Comparing. */

static void compare_point(const struct metrics_samples *got, size_t i, const struct point *p)
{
	assert_int_equal(got->times[i], p->time);
	const struct histogram *h = got->histograms ? got->histograms[i] : NULL;
	if (p->histogram) {
		struct made_histogram made;
		make_histogram(p->histogram, &made);
		assert_non_null(h);
		assert_true(histogram_eq(h, &made.h));
		return;
	}
	uint64_t bits;
	assert_null(h);
	memcpy(&bits, &got->values[i], sizeof(bits));
	assert_true(bits == p->bits);
}

static void compare_series(struct world *w, const struct model_series *s,
			   struct metrics_selection *selection, size_t at, time_ms from, time_ms to)
{
	size_t first = 0, count = 0;
	while (first < s->count && s->points[first].time < from)
		first++;
	while (first + count < s->count && s->points[first + count].time <= to)
		count++;
	w->samples.count = 0;
	if (at != SIZE_MAX)
		assert_ok(metrics_selection_read(selection, at, from, to, &w->samples,
						 &fixture_error));
	for (size_t i = 0; i < count && i < w->samples.count; i++)
		compare_point(&w->samples, i, &s->points[first + i]);
	assert_int_equal(w->samples.count, count);
	w->checked += count;
}

static void random_range(struct world *w, time_ms *ret_from, time_ms *ret_to)
{
	struct test_random *r = &w->random;
	*ret_to = fixture_time + HOUR_MS -
		  (time_ms)test_random_below(r, (size_t)2 * FIXTURE_DAY_MS);
	*ret_from = *ret_to - (time_ms)test_random_below(r, test_random_below(r, 2)
								    ? (size_t)6 * FIXTURE_DAY_MS
								    : (size_t)2 * HOUR_MS);
	if (test_random_below(r, 8) == 0) {
		*ret_from = INT64_MIN;
		*ret_to = INT64_MAX;
	}
}

static void check(struct world *w)
{
	struct metrics_budget budget = { 0 };
	struct matcher_choice c = random_matchers(w);
	struct metrics_selection *selection = NULL;
	time_ms from, to;
	random_range(w, &from, &to);
	struct metrics_query query = { .matchers = c.matchers,
				       .matcher_count = c.count,
				       .from = from,
				       .to = to,
				       .budget = &budget };
	assert_ok(metrics_select(w->f.m, &query, &selection, &fixture_error));
	size_t count = metrics_selection_count(selection);
	for (size_t i = 1; i < count; i++) {
		struct labels a = metrics_selection_labels(selection, i - 1),
			      b = metrics_selection_labels(selection, i);
		assert_true(labels_cmp(&a, &b) < 0);
	}
	for (size_t k = 0; k < SERIES; k++) {
		size_t at = SIZE_MAX;
		for (size_t i = 0; i < count; i++) {
			struct labels l = metrics_selection_labels(selection, i);
			if (labels_eq(&l, &w->series[k].labels))
				at = i;
		}
		if (model_matches(&c, &w->series[k].labels))
			compare_series(w, &w->series[k], selection, at, from, to);
		else
			assert_true(at == SIZE_MAX);
	}
	assert_int_equal(metrics_selection_bad_blocks(selection), 0);
	metrics_selection_free(selection);
	assert_int_equal(budget.bytes, 0);
	matchers_done(&c);
}

static void delete_some(struct world *w)
{
	struct matcher_choice c = random_matchers(w);
	time_ms from, to;
	uint64_t count;
	random_range(w, &from, &to);
	assert_ok(metrics_delete(w->f.m, c.matchers, c.count, from, to, &count, &fixture_error));
	for (size_t k = 0; k < SERIES; k++)
		if (model_matches(&c, &w->series[k].labels))
			model_delete(&w->series[k], from, to);
	matchers_done(&c);
}

static void restart(struct world *w)
{
	metrics_batch_free(w->batch);
	fixture_reopen(&w->f);
	w->batch = metrics_batch_new(w->f.m, STR("test"), 0);
}

static void step(struct world *w)
{
	switch (test_random_below(&w->random, 20)) {
	case 0:
		restart(w);
		break;
	case 1:
	case 2:
		assert_ok(metrics_flush(w->f.m, false, &fixture_error));
		break;
	case 3:
		assert_ok(metrics_flush(w->f.m, true, &fixture_error));
		break;
	case 4:
		if (test_random_below(&w->random, 3) == 0)
			delete_some(w);
		break;
	case 5:
		fixture_time += (time_ms)test_random_below(&w->random, 10 * HOUR_MS);
		fixture_tick(&w->f);
		break;
	case 6:
	case 7: {
		bool more;
		fixture_time += (time_ms)test_random_below(&w->random, 600000);
		assert_ok(metrics_tick(w->f.m, &more, &fixture_error));
		break;
	}
	default:
		write_batch(w);
	}
	check(w);
}

static void run(uint64_t seed)
{
	struct world *w = must_calloc(1, sizeof(*w));
	w->random.state = seed;
	fixture_open(&w->f);
	w->f.options.retention_ms = (int64_t)1000 * FIXTURE_DAY_MS;
	w->batch = NULL;
	restart(w);
	for (size_t i = 0; i < SERIES; i++)
		make_labels(&w->series[i], i);
	for (size_t i = 0; i < STEPS; i++)
		step(w);
	assert_true(w->checked > 10000);
	metrics_batch_free(w->batch);
	metrics_samples_done(&w->samples);
	fixture_close(&w->f);
	for (size_t i = 0; i < SERIES; i++)
		free(w->series[i].points);
	free(w);
}

static void test_model(void **state)
{
	const char *chosen = getenv("SEED");
	(void)state;
	if (chosen) {
		run(strtoull(chosen, NULL, 10));
		return;
	}
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		print_message("seed %llu\n", (unsigned long long)seed);
		run(seed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
