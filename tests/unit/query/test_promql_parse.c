/* The parser of PromQL: what it takes, how it is printed again, and where it says a mistake is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "query/promql/promql_ast.h"

static const struct promql_options everything = { .experimental_functions = true,
						  .extended_range_selectors = true,
						  .fill_modifiers = true };

/* The canonical form of TEXT, or the error. */
static const char *printed(const char *text)
{
	static struct buf into;
	struct arena arena CLEANUP(arena_done) = arena_init(16 << 20);
	struct promql_expr *expr;
	static struct err e;
	buf_done(&into);
	into = buf_init(1 << 20);
	e = (struct err){ 0 };
	if (promql_parse(str_c(text), &everything, &arena, &expr, &e) != OK)
		return e.message;
	promql_print(&into, expr);
	return buf_cstr(&into);
}

/* TEXT is printed as WANT, and that as itself. */
static void prints(const char *text, const char *want)
{
	assert_string_equal(printed(text), want);
	assert_string_equal(printed(want), want);
}

static void selectors_are_printed(void **state)
{
	(void)state;
	prints("up", "up");
	prints("up { job = 'a' , }", "up{job=\"a\"}");
	prints("{__name__=\"up\"}", "{__name__=\"up\"}");
	prints("up{a!=\"1\",b=~`x.*`,c!~\"y\"}", "up{a!=\"1\",b=~\"x.*\",c!~\"y\"}");
	prints("up[ 5m ]", "up[5m]");
	prints("up[90m] offset 1d", "up[1h30m] offset 1d");
	prints("up offset -5m", "up offset -5m");
	prints("up @ 12.5", "up @ 12.500");
	prints("up @ start() offset 5m", "up @ start() offset 5m");
	prints("rate(up[5m])[1h:1m]", "rate(up[5m])[1h:1m]");
	prints("rate(up[5m])[1h:]", "rate(up[5m])[1h:]");
	prints("up # a comment", "up");
}

static void operators_are_printed(void **state)
{
	(void)state;
	prints("1+2*3", "1 + 2 * 3");
	prints("(1+2)*3", "(1 + 2) * 3");
	prints("-a^2", "-a ^ 2");
	prints("a and on(x) b", "a and on (x) b");
	prints("a / ignoring(x)group_left(y)b", "a / ignoring (x) group_left (y) b");
	prints("a>bool b", "a > bool b");
	prints("sum(a)by(x)", "sum by (x) (a)");
	prints("sum without(x)(a)", "sum without (x) (a)");
	prints("topk(3,a)", "topk(3, a)");
	prints("count_values(\"v\",a)", "count_values(\"v\", a)");
	prints("\"a\\n\\\"b\\\"\"", "\"a\\n\\\"b\\\"\"");
}

/* The formatted text is as good as the plain one. */
static void formatting_keeps_the_meaning(void **state)
{
	static const char *const texts[] = {
		"up",
		"sum by (job) (rate(http_requests_total{job=\"api\", "
		"handler=\"/a/long/path\"}[5m])) / "
		"on (job) group_left (team) avg by (job) (something_rather_long_to_break_the_line)",
		"histogram_quantile(0.99, sum by (le) "
		"(rate(a_histogram_with_a_long_name_bucket[5m]))) "
		"> 10 and on () vector(1) or vector(0)",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		struct arena arena CLEANUP(arena_done) = arena_init(16 << 20);
		struct buf once CLEANUP(buf_done) = buf_init(1 << 20);
		struct promql_expr *expr;
		struct err e = { 0 };
		char plain[4096];
		assert_true(promql_parse(str_c(texts[i]), NULL, &arena, &expr, &e) == OK);
		promql_format(&once, expr);
		snprintf(plain, sizeof(plain), "%s", printed(texts[i]));
		assert_string_equal(printed(buf_cstr(&once)), plain);
	}
}

static void mistakes_have_a_place(void **state)
{
	static const struct {
		const char *text, *start;
	} cases[] = {
		{ "", "unknown position: parse error: no expression found in input" },
		{ "1 +", "1:4: parse error: unexpected end of input" },
		{ "a{", "1:3: parse error: unexpected end of input" },
		{ "(a", "1:3: parse error: unclosed left parenthesis" },
		{ "a b", "1:3: parse error: unexpected identifier \"b\"" },
		{ "rate(a)", "1:6: parse error: expected type range vector in call to function "
			     "\"rate\", got instant vector" },
		{ "rate()", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 0" },
		{ "no_such(a)", "1:1: parse error: unknown function with name \"no_such\"" },
		{ "{a=\"\"}", "1:1: parse error: vector selector must contain at least one "
			      "non-empty matcher" },
		{ "1 > 2", "1:3: parse error: comparisons between scalars must use BOOL modifier" },
		{ "a and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar "
			     "expression" },
		{ "\"a", "1:1: parse error: unterminated quoted string" },
		{ "a[5m] + 1", "1:1: parse error: binary expression must contain only scalar and "
			       "instant vector types" },
		{ "a{b=~\"(\"}", "1:" },
		{ "a\n  + +", "2:6: parse error: unexpected end of input" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		const char *got = printed(cases[i].text);
		if (strncmp(got, cases[i].start, strlen(cases[i].start)) != 0)
			fail_msg("%s: %s", cases[i].text, got);
	}
}

/* What is experimental is refused unless it was switched on. */
static void experiments_are_off(void **state)
{
	static const char *const texts[] = { "limitk(1, a)", "a + fill(0) b",
					     "rate(a[5m] smoothed)" };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		struct arena arena CLEANUP(arena_done) = arena_init(1 << 20);
		struct promql_expr *expr;
		struct err e = { 0 };
		assert_int_equal(promql_parse(str_c(texts[i]), NULL, &arena, &expr, &e),
				 ERR_INVALID);
		assert_true(promql_parse(str_c(texts[i]), &everything, &arena, &expr, &e) == OK);
	}
}

/* Deep and long input ends with an error, not with the stack or the memory. */
static void depth_is_bounded(void **state)
{
	struct arena arena CLEANUP(arena_done) = arena_init(64 << 20);
	enum { LEN = 200000 };
	char *text = malloc(LEN + 1);
	struct promql_expr *expr;
	struct err e = { 0 };
	(void)state;
	assert_non_null(text);
	memset(text, '(', LEN);
	text[LEN] = 0;
	assert_true(promql_parse(str_c(text), NULL, &arena, &expr, &e) != OK);
	memset(text, '-', LEN);
	text[LEN - 1] = '1';
	assert_true(promql_parse(str_c(text), NULL, &arena, &expr, &e) != OK);
	for (size_t i = 0; i + 1 < LEN; i += 2)
		memcpy(text + i, "1+", 2);
	text[LEN - 1] = '1';
	assert_true(promql_parse(str_c(text), NULL, &arena, &expr, &e) != OK);
	free(text);
}

/* Every prefix of an expression is taken or refused with a message. */
static void prefixes_are_safe(void **state)
{
	const char *whole = "sum by (a) (rate({\"x.y\", b=~\"c|d\"}[5m:1m] @ end() offset -1h)) "
			    "> bool 0x1F ^ 2 or `q` unless on (z) quantile(0.5, h @ 1e3)";
	(void)state;
	for (size_t len = 0; len <= strlen(whole); len++) {
		struct arena arena CLEANUP(arena_done) = arena_init(1 << 20);
		struct promql_expr *expr;
		struct err e = { 0 };
		char *exact = malloc(len + 1); /* so that a sanitizer sees a byte too many */
		assert_non_null(exact);
		memcpy(exact, whole, len);
		if (promql_parse((str){ exact, len }, NULL, &arena, &expr, &e) != OK)
			assert_true(e.message[0]);
		free(exact);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(selectors_are_printed),
		cmocka_unit_test(operators_are_printed),
		cmocka_unit_test(formatting_keeps_the_meaning),
		cmocka_unit_test(mistakes_have_a_place),
		cmocka_unit_test(experiments_are_off),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(prefixes_are_safe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
