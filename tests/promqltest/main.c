/*
 * promqltest FILE…: runs files of Prometheus's test language. Prints each eval that fails with what
 * was expected and what came, then `N passed, N failed`; exits 1 when one failed or cannot be read.
 */
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"
#include "codec/number.h"
#include "os/clock.h"
#include "os/io.h"
#include "promqltest.h"
#include "query/promql/promql_ast.h"

enum {
	FILE_BYTES_MAX = 64 << 20,
	LINES_MAX = 1 << 20,
	EXPECTS_MAX = 32,
	SERIES_MAX = 100000,
	EVAL_BYTES_MAX = 1 << 30,
	MINUTE_MS = 60000,
};
#define CENTURY_MS INT64_C(3155760000000)

struct text_check {
	enum { CHECK_ANY, CHECK_TEXT, CHECK_REGEX } kind;
	str text;
};

struct expectation {
	bool fail, ordered, no_warn, no_info, warn, info, has_string, has_range;
	struct text_check fails[EXPECTS_MAX], warns[EXPECTS_MAX], infos[EXPECTS_MAX];
	size_t fail_count, warn_count, info_count;
	str string;
	time_ms range_start, range_end; /* with has_range: of the points of an instant's matrix */
	int64_t range_step_ms;
	struct test_series *series;
	size_t series_count;
	bool has_scalar;
	double scalar;
};

struct eval {
	size_t line;
	str query;
	bool range;
	time_ms start, end;
	int64_t step_ms;
	struct expectation expect;
};

struct runner {
	const char *file;
	str *lines;
	size_t line_count, at;
	char folder[64];
	struct metrics *metrics;
	size_t passed, failed;
	struct arena arena; /* of the block at hand */
};

/* ---- The engine. */

/* All times are near 1970: nothing is too old or too new. */
static time_ms test_now(void)
{
	return 0;
}

static void open_engine(struct runner *r)
{
	struct err e = { 0 };
	struct metrics_options options = { .folder = r->folder,
					   .retention_ms = CENTURY_MS,
					   .future_ms_max = CENTURY_MS,
					   .memory_bytes_max = 2000 << 20,
					   .query_bytes_max = 1000 << 20,
					   .disk_reserve_bytes = 1,
					   .now = test_now };
	snprintf(r->folder, sizeof(r->folder), "/tmp/promqltest-XXXXXX");
	if (!mkdtemp(r->folder) || metrics_open(&options, &r->metrics, &e) != OK) {
		fprintf(stderr, "the engine cannot be opened: %s\n", e.message);
		exit(2);
	}
}

static void close_engine(struct runner *r)
{
	metrics_close(r->metrics);
	r->metrics = NULL;
	if (io_remove_tree(r->folder, NULL) != OK)
		fprintf(stderr, "%s could not be removed\n", r->folder);
}

/* ---- Failures. */

static void report(struct runner *r, const struct eval *v, const char *what, const char *expected,
		   const char *got)
{
	printf("%s:%zu: %.*s\n  %s\n  expected: %s\n  got:      %s\n", r->file, v->line,
	       STR_ARG(v->query), what, expected, got);
}

static bool check_text(const struct text_check *c, const char *text)
{
	char pattern[4096];
	regex_t regex;
	if (c->kind == CHECK_ANY)
		return true;
	if (c->kind == CHECK_TEXT)
		return str_eq(str_trim(c->text), str_trim(str_c(text)));
	if (!str_copy(c->text, pattern, sizeof(pattern)) ||
	    regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	bool matches = regexec(&regex, text, 0, NULL, 0) == 0;
	regfree(&regex);
	return matches;
}

/* ---- Results. */

static struct test_point point_of(const struct promql_series *s, size_t i)
{
	return (struct test_point){ true, s->values[i], s->histograms ? s->histograms[i] : NULL };
}

static void print_series(struct buf *into, const struct labels *l, const struct test_point *points,
			 size_t count)
{
	labels_print(into, l);
	for (size_t i = 0; i < count; i++) {
		buf_add_byte(into, ' ');
		test_point_print(into, &points[i]);
	}
	buf_add_c(into, "; ");
}

static bool points_equal(const struct test_point *a, const struct test_point *b)
{
	if (a->present != b->present)
		return false;
	if (!a->present)
		return true;
	if (a->histogram || b->histogram)
		return test_histograms_equal(a->histogram, b->histogram) &&
		       (!b->reset_set || a->histogram->reset == b->histogram->reset);
	return test_values_equal(a->value, b->value);
}

/* The points of S on the grid of V; SIZE_MAX when one stands beside it. */
static size_t on_grid(const struct eval *v, const struct promql_series *s, struct arena *arena,
		      struct test_point **ret)
{
	size_t count = v->range ? (size_t)((v->end - v->start) / v->step_ms) + 1 : 1;
	struct test_point *points = arena_array(arena, count, sizeof(points[0]));
	must(points);
	for (size_t i = 0; i < s->count; i++) {
		size_t at = v->range ? (size_t)((s->times[i] - v->start) / v->step_ms) : 0;
		bool beside = v->range && (s->times[i] - v->start) % v->step_ms;
		if (beside || at >= count)
			return SIZE_MAX;
		points[at] = point_of(s, i);
	}
	*ret = points;
	return count;
}

static const struct test_series *find_series(const struct expectation *x, const struct labels *l,
					     size_t *ret_at)
{
	for (size_t i = 0; i < x->series_count; i++)
		if (labels_eq(&x->series[i].labels, l)) {
			*ret_at = i;
			return &x->series[i];
		}
	return NULL;
}

static bool series_match(struct runner *r, const struct eval *v, const struct promql_result *got)
{
	const struct expectation *x = &v->expect;
	if (got->series_count != x->series_count)
		return false;
	for (size_t i = 0; i < got->series_count; i++) {
		size_t at = 0;
		struct test_point *points;
		const struct test_series *s = find_series(x, &got->series[i].labels, &at);
		if (!s || (x->ordered && at != i))
			return false;
		size_t count = on_grid(v, &got->series[i], &r->arena, &points);
		if (count == SIZE_MAX)
			return false;
		for (size_t k = 0; k < count || k < s->count; k++) {
			const struct test_point none = { 0 };
			if (!points_equal(k < count ? &points[k] : &none,
					  k < s->count ? &s->points[k] : &none))
				return false;
		}
	}
	return true;
}

static bool check_series(struct runner *r, const struct eval *v, const struct promql_result *got,
			 const char *what)
{
	struct buf expected CLEANUP(buf_done) = buf_init(16 << 20);
	struct buf shown CLEANUP(buf_done) = buf_init(16 << 20);
	if (series_match(r, v, got))
		return true;
	for (size_t i = 0; i < v->expect.series_count; i++)
		print_series(&expected, &v->expect.series[i].labels, v->expect.series[i].points,
			     v->expect.series[i].count);
	for (size_t i = 0; i < got->series_count; i++) {
		size_t count = got->series[i].count;
		struct test_point *points = arena_array(&r->arena, count, sizeof(points[0]));
		must(points);
		for (size_t k = 0; k < count; k++)
			points[k] = point_of(&got->series[i], k);
		print_series(&shown, &got->series[i].labels, points, count);
	}
	report(r, v, what, buf_cstr(&expected), buf_cstr(&shown));
	return false;
}

static bool check_scalar(struct runner *r, const struct eval *v, double got)
{
	char expected[NUMBER_TEXT_SIZE], shown[NUMBER_TEXT_SIZE];
	if (v->expect.has_scalar && test_values_equal(v->expect.scalar, got))
		return true;
	number_format(v->expect.scalar, expected);
	number_format(got, shown);
	report(r, v, "the scalar differs", v->expect.has_scalar ? expected : "no scalar", shown);
	return false;
}

/* ---- Annotations: without their place, ` (1:5)`. */

static bool check_notes(struct runner *r, const struct eval *v, const char *what, const str *texts,
			size_t count, bool wanted, bool unwanted, const struct text_check *checks,
			size_t check_count)
{
	char message[256];
	if (unwanted && count) {
		snprintf(message, sizeof(message), "there is a %s", what);
		report(r, v, message, "none", texts[0].ptr);
		return false;
	}
	if (wanted && !count) {
		snprintf(message, sizeof(message), "there is no %s", what);
		report(r, v, message, "one", "none");
		return false;
	}
	for (size_t i = 0; i < check_count; i++) {
		bool met = checks[i].kind == CHECK_ANY;
		for (size_t k = 0; k < count && !met; k++) {
			char text[8192];
			str s = texts[k];
			ptrdiff_t at = (ptrdiff_t)s.len;
			while (at > 0 && s.ptr[at - 1] != '(')
				at--;
			if (at > 1)
				s.len = (size_t)at - 2;
			met = str_copy(s, text, sizeof(text)) && check_text(&checks[i], text);
		}
		if (!met) {
			char expected[4096] = "";
			(void)!str_copy(checks[i].text, expected, sizeof(expected));
			snprintf(message, sizeof(message), "no %s is as expected", what);
			report(r, v, message, expected, count ? texts[0].ptr : "none");
			return false;
		}
	}
	return true;
}

/* ---- One eval. */

static errc parse_eval(struct runner *r, const struct eval *v, struct promql_expr **ret,
		       struct err *e)
{
	static const struct promql_options everything = { .experimental_functions = true,
							  .extended_range_selectors = true,
							  .fill_modifiers = true };
	return promql_parse(v->query, &everything, &r->arena, ret, e);
}

static errc ask(struct runner *r, const struct eval *v, struct promql_expr *expr,
		struct promql_result **ret, struct err *e)
{
	struct promql_query q = { .expr = expr,
				  .text = v->query,
				  .start = v->start,
				  .end = v->end,
				  .step_ms = v->range ? v->step_ms : 0,
				  .annotation_count_max = 1000 };
	return promql_eval(r->metrics, &q, ret, e);
}

static bool check_failure(struct runner *r, const struct eval *v, const struct err *e)
{
	for (size_t i = 0; i < v->expect.fail_count; i++) {
		if (check_text(&v->expect.fails[i], e->message))
			continue;
		char expected[4096] = "";
		(void)!str_copy(v->expect.fails[i].text, expected, sizeof(expected));
		report(r, v, "it fails otherwise", expected, e->message);
		return false;
	}
	return true;
}

static bool check_result(struct runner *r, const struct eval *v, const struct promql_result *got,
			 const char *what)
{
	switch (got->type) {
	case PROMQL_RESULT_SCALAR:
		return check_scalar(r, v, got->scalar);
	case PROMQL_RESULT_STRING:
		if (v->expect.has_string && str_eq(got->string, v->expect.string))
			return true;
		report(r, v, "the string differs", "another", got->string.ptr);
		return false;
	case PROMQL_RESULT_MATRIX:
	case PROMQL_RESULT_VECTOR:
		break;
	}
	struct eval wide = *v;
	if (v->expect.has_range) {
		wide.range = true;
		wide.start = v->expect.range_start;
		wide.end = v->expect.range_end;
		wide.step_ms = v->expect.range_step_ms;
	}
	return check_series(r, &wide, got, what);
}

/* An instant's result must be the same at other times when every selector is pinned to it. */
static bool check_pinned(struct runner *r, const struct eval *v)
{
	time_ms t = v->start;
	const time_ms times[] = { -10 * t, 0, t / 5, t, 10 * t }, of_zero[] = { -1000, 0, 1000 };
	size_t count = t ? ARRAY_COUNT(times) : ARRAY_COUNT(of_zero);
	bool good = true;
	for (size_t i = 0; i < count && good; i++) {
		struct eval moved = *v;
		struct promql_result *got = NULL;
		struct err e = { 0 };
		moved.start = moved.end = t ? times[i] : of_zero[i];
		struct promql_expr *expr;
		if (parse_eval(r, v, &expr, &e) != OK || !test_pin_to_time(expr, t))
			return true;
		if (ask(r, &moved, expr, &got, &e) != OK) {
			report(r, v, "it fails when pinned with @", "a result", e.message);
			return false;
		}
		good = check_result(r, v, got, "the same pinned with @ differs");
		promql_result_free(got);
	}
	return good;
}

/* An instant's result must be that of a range around it as well. */
static bool check_as_range(struct runner *r, const struct eval *v,
			   const struct promql_result *first)
{
	struct eval wide = *v;
	struct promql_result *got = NULL;
	struct err e = { 0 };
	if (first->type != PROMQL_RESULT_VECTOR || v->expect.ordered ||
	    str_find(v->query, STR("step()")) >= 0 || str_find(v->query, STR("range()")) >= 0 ||
	    str_find(v->query, STR("start()")) >= 0 || str_find(v->query, STR("end()")) >= 0)
		return true;
	wide.range = true;
	wide.start = v->start - MINUTE_MS;
	wide.end = v->start + MINUTE_MS;
	wide.step_ms = MINUTE_MS;
	struct promql_expr *expr;
	if (parse_eval(r, v, &expr, &e) != OK || ask(r, &wide, expr, &got, &e) != OK)
		return true; /* the other two steps may not be askable */
	struct promql_result middle = *got;
	struct promql_series *series = arena_array(&r->arena, got->series_count + 1,
						   sizeof(series[0]));
	must(series);
	middle.series = series;
	middle.series_count = 0;
	for (size_t i = 0; i < got->series_count; i++)
		for (size_t k = 0; k < got->series[i].count; k++)
			if (got->series[i].times[k] == v->start) {
				struct promql_series *s = &series[middle.series_count++];
				*s = got->series[i];
				s->times += k;
				s->values += k;
				s->histograms = s->histograms ? s->histograms + k : NULL;
				s->count = 1;
			}
	middle.type = PROMQL_RESULT_VECTOR;
	bool good = check_result(r, v, &middle, "the same as a range query differs");
	promql_result_free(got);
	return good;
}

static bool run_eval(struct runner *r, const struct eval *v)
{
	struct promql_result *got = NULL;
	struct err e = { 0 };
	const struct expectation *x = &v->expect;
	struct promql_expr *expr;
	errc rc = parse_eval(r, v, &expr, &e);
	if (rc == OK)
		rc = ask(r, v, expr, &got, &e);
	if (x->fail) {
		if (rc != OK)
			return check_failure(r, v, &e);
		report(r, v, "it does not fail", "an error", "a result");
		promql_result_free(got);
		return false;
	}
	if (rc != OK) {
		report(r, v, "it fails", "a result", e.message);
		return false;
	}
	bool good = check_result(r, v, got, "the result differs") &&
		    check_notes(r, v, "warning", got->warnings, got->warning_count, x->warn,
				x->no_warn, x->warns, x->warn_count) &&
		    check_notes(r, v, "info", got->infos, got->info_count, x->info, x->no_info,
				x->infos, x->info_count);
	if (good && !v->range)
		good = check_as_range(r, v, got) && check_pinned(r, v);
	promql_result_free(got);
	return good;
}

/* ---- Reading. */

static _Noreturn void stop_at(const struct runner *r, const char *what)
{
	fprintf(stderr, "%s:%zu: %s: %.*s\n", r->file, r->at + 1, what, STR_ARG(r->lines[r->at]));
	exit(2);
}

static str take_word(str *rest)
{
	*rest = str_trim(*rest);
	size_t n = 0;
	while (n < rest->len && rest->ptr[n] != ' ' && rest->ptr[n] != '\t')
		n++;
	str word = { rest->ptr, n };
	*rest = str_trim((str){ rest->ptr + n, rest->len - n });
	return word;
}

static void add_check(struct text_check *checks, size_t *count, str rest)
{
	struct text_check c = { CHECK_ANY, STR("") };
	if (str_starts(rest, STR("msg:")))
		c = (struct text_check){ CHECK_TEXT,
					 str_trim((str){ rest.ptr + 4, rest.len - 4 }) };
	else if (str_starts(rest, STR("regex:")))
		c = (struct text_check){ CHECK_REGEX,
					 str_trim((str){ rest.ptr + 6, rest.len - 6 }) };
	if (*count < EXPECTS_MAX)
		checks[(*count)++] = c;
}

static str unquoted(struct runner *r, str s)
{
	if (s.len >= 2 && s.ptr[0] == '`')
		return (str){ s.ptr + 1, s.len - 2 };
	struct promql_expr *expr;
	return promql_parse(s, NULL, &r->arena, &expr, NULL) == OK && expr->kind == PROMQL_STRING
		       ? expr->string.value
		       : s;
}

static void read_expect(struct runner *r, struct expectation *x, str rest)
{
	str kind = take_word(&rest);
	if (str_eq_c(kind, "fail")) {
		x->fail = true;
		add_check(x->fails, &x->fail_count, rest);
	} else if (str_eq_c(kind, "warn")) {
		x->warn = true;
		add_check(x->warns, &x->warn_count, rest);
	} else if (str_eq_c(kind, "info")) {
		x->info = true;
		add_check(x->infos, &x->info_count, rest);
	} else if (str_eq_c(kind, "no_warn")) {
		x->no_warn = true;
	} else if (str_eq_c(kind, "no_info")) {
		x->no_info = true;
	} else if (str_eq_c(kind, "ordered")) {
		x->ordered = true;
	} else if (str_eq_c(kind, "string")) {
		x->has_string = true;
		x->string = unquoted(r, rest);
	} else {
		stop_at(r, "there is no such expectation");
	}
}

/* `expect range vector from 0 to 5m step 1m`: the rows below are of that range. */
static bool read_expected_range(struct expectation *x, str rest)
{
	str from, to, step;
	if (!str_starts(rest, STR("range vector from ")))
		return false;
	take_word(&rest), take_word(&rest), take_word(&rest);
	from = take_word(&rest);
	take_word(&rest);
	to = take_word(&rest);
	take_word(&rest);
	step = take_word(&rest);
	x->has_range = test_duration_parse(from, &x->range_start) &&
		       test_duration_parse(to, &x->range_end) &&
		       test_duration_parse(step, &x->range_step_ms) && x->range_step_ms > 0 &&
		       x->range_end >= x->range_start;
	return x->has_range;
}

static void read_expected(struct runner *r, struct eval *v)
{
	struct expectation *x = &v->expect;
	struct err e = { 0 };
	x->series = arena_array(&r->arena, 4096, sizeof(x->series[0]));
	must(x->series);
	while (r->at + 1 < r->line_count && r->lines[r->at + 1].len) {
		str line = r->lines[++r->at], rest = line;
		str word = take_word(&rest);
		double scalar;
		if (str_eq_c(word, "expect")) {
			if (!read_expected_range(x, rest))
				read_expect(r, x, rest);
		} else if (str_eq_c(word, "expected_fail_message")) {
			x->fails[x->fail_count++] = (struct text_check){ CHECK_TEXT, rest };
		} else if (str_eq_c(word, "expected_fail_regexp")) {
			x->fails[x->fail_count++] = (struct text_check){ CHECK_REGEX, rest };
		} else if (!rest.len && number_parse(line, &scalar)) {
			x->has_scalar = true;
			x->scalar = scalar;
		} else if (x->series_count == 4096 ||
			   test_series_parse(line, &r->arena, &x->series[x->series_count++], &e) !=
				   OK) {
			stop_at(r, e.message);
		}
	}
}

/* `eval instant at 5m QUERY`, `eval range from 0 to 5m step 1m QUERY` */
static void read_eval(struct runner *r, str word, str rest)
{
	struct eval v = { .line = r->at + 1 };
	int64_t start, end, step;
	v.expect.fail = str_eq_c(word, "eval_fail");
	v.expect.warn = str_eq_c(word, "eval_warn");
	v.expect.info = str_eq_c(word, "eval_info");
	v.expect.ordered = str_eq_c(word, "eval_ordered");
	str kind = take_word(&rest);
	v.range = str_eq_c(kind, "range");
	take_word(&rest);
	if (!test_duration_parse(take_word(&rest), &start))
		stop_at(r, "there is no time");
	v.start = v.end = start;
	if (v.range) {
		take_word(&rest);
		bool good = test_duration_parse(take_word(&rest), &end);
		take_word(&rest);
		if (!good || !test_duration_parse(take_word(&rest), &step) || step <= 0)
			stop_at(r, "there is no range");
		v.end = end;
		v.step_ms = step;
	}
	v.query = rest;
	read_expected(r, &v);
	bool good = run_eval(r, &v);
	r->passed += good;
	r->failed += !good;
}

static void read_load(struct runner *r, str rest, bool nhcb)
{
	struct test_series *series = must_calloc(SERIES_MAX, sizeof(series[0]));
	struct err e = { 0 };
	size_t count = 0;
	int64_t step;
	if (!test_duration_parse(take_word(&rest), &step) || step <= 0)
		stop_at(r, "load without a step");
	while (r->at + 1 < r->line_count && r->lines[r->at + 1].len) {
		r->at++;
		if (count == SERIES_MAX ||
		    test_series_parse(r->lines[r->at], &r->arena, &series[count++], &e) != OK)
			stop_at(r, e.message);
	}
	if (test_load(r->metrics, step, nhcb, series, count, &e) != OK)
		stop_at(r, e.message);
	free(series);
}

static void run_lines(struct runner *r)
{
	open_engine(r);
	for (r->at = 0; r->at < r->line_count; r->at++) {
		str rest = r->lines[r->at];
		if (!rest.len)
			continue;
		r->arena = arena_init(EVAL_BYTES_MAX);
		str word = take_word(&rest);
		if (str_eq_c(word, "clear")) {
			close_engine(r);
			open_engine(r);
		} else if (str_eq_c(word, "load")) {
			read_load(r, rest, false);
		} else if (str_eq_c(word, "load_with_nhcb")) {
			read_load(r, rest, true);
		} else if (str_starts(word, STR("eval"))) {
			read_eval(r, word, rest);
		} else {
			stop_at(r, "there is no such command");
		}
		arena_done(&r->arena);
	}
	close_engine(r);
}

static void run_file(struct runner *r, const char *file)
{
	struct buf text CLEANUP(buf_done) = buf_init(FILE_BYTES_MAX);
	struct err e = { 0 };
	if (io_read_file(file, &text, &e) != OK) {
		fprintf(stderr, "%s\n", e.message);
		exit(2);
	}
	str rest = buf_str(&text), line;
	r->file = file;
	r->lines = must_calloc(LINES_MAX, sizeof(r->lines[0]));
	r->line_count = 0;
	while (rest.len && r->line_count < LINES_MAX && str_split(&rest, '\n', &line)) {
		line = str_trim(line);
		if (line.len && line.ptr[0] == '#')
			line.len = 0;
		r->lines[r->line_count++] = line;
	}
	run_lines(r);
	free(r->lines);
}

int main(int argc, char **argv)
{
	struct runner r = { 0 };
	if (argc < 2) {
		fprintf(stderr, "usage: promqltest FILE…\n");
		return 2;
	}
	for (int i = 1; i < argc; i++)
		run_file(&r, argv[i]);
	printf("%zu passed, %zu failed\n", r.passed, r.failed);
	return r.failed ? 1 : 0;
}
