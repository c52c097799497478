/* Matchers: RE2's expressions, anchored; what can be told of them; bounded in steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "metrics/matcher.h"

static struct matcher compiled(enum matcher_type type, const char *value)
{
	struct matcher m = { .type = type, .name = STR("x"), .value = str_c(value) };
	struct err e = { .code = OK };
	errc rc = matcher_compile(&m, &e);
	assert_string_equal(rc == OK ? "" : e.message, "");
	return m;
}

static void the_four_kinds_match(void **state)
{
	static const struct {
		enum matcher_type type;
		const char *pattern, *value;
		bool matches;
	} cases[] = {
		{ MATCH_EQUAL, "a", "a", true },
		{ MATCH_EQUAL, "a", "ab", false },
		{ MATCH_EQUAL, "", "", true },
		{ MATCH_NOT_EQUAL, "a", "b", true },
		{ MATCH_NOT_EQUAL, "a", "a", false },
		{ MATCH_REGEXP, "a", "ba", false }, /* anchored at both ends */
		{ MATCH_REGEXP, "a|b", "b", true },
		{ MATCH_REGEXP, "a|b", "ab", false },
		{ MATCH_REGEXP, ".*", "", true },
		{ MATCH_REGEXP, ".+", "", false },
		{ MATCH_REGEXP, "a.b", "a\nb", true }, /* Prometheus 3 */
		{ MATCH_REGEXP, "a$", "a\n", false },
		{ MATCH_REGEXP, "(?i)ABC", "abc", true },
		{ MATCH_REGEXP, "[[:alpha:]]+", "abc", true },
		{ MATCH_REGEXP, "\\d{2,3}", "1234", false },
		{ MATCH_REGEXP, "ä.", "äö", true }, /* characters, not bytes */
		{ MATCH_REGEXP, "\\Qa.b\\E", "a.b", true },
		{ MATCH_NOT_REGEXP, "a.*", "abc", false },
		{ MATCH_NOT_REGEXP, "a.*", "", true },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct matcher m = compiled(cases[i].type, cases[i].pattern);
		bool matches;
		assert_int_equal(matcher_matches(&m, str_c(cases[i].value), &matches, NULL), OK);
		if (matches != cases[i].matches)
			print_error("%s on %s\n", cases[i].pattern, cases[i].value);
		assert_int_equal(matches, cases[i].matches);
		bool empty;
		assert_int_equal(matcher_matches(&m, STR(""), &empty, NULL), OK);
		assert_int_equal(matcher_matches_empty(&m), empty);
		matcher_done(&m);
	}
}

static void what_re2_does_not_have_is_refused(void **state)
{
	static const char *const patterns[] = { "(",       "a**",    "[b-a]",        "(?=a)",
						"(?<!a)b", "(a)\\1", "\\",           "*",
						"(?P<n>a", "a{2,1}", "(?<n>a)(?P=n)" };
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(patterns); i++) {
		struct matcher m = { MATCH_REGEXP, STR("x"), str_c(patterns[i]), NULL };
		struct err e = { .code = OK };
		errc rc = matcher_compile(&m, &e);
		if (rc != ERR_INVALID)
			print_error("%s was taken\n", patterns[i]);
		assert_int_equal(rc, ERR_INVALID);
		assert_true(e.message[0]);
		matcher_done(&m);
	}
	static char huge[70000];
	memset(huge, 'a', sizeof(huge));
	struct matcher m = { MATCH_REGEXP, STR("x"), { huge, sizeof(huge) }, NULL };
	assert_int_equal(matcher_compile(&m, NULL), ERR_LIMIT);
	matcher_done(&m);
}

static void expect_literals(const char *pattern, const char *joined)
{
	struct matcher m = compiled(MATCH_REGEXP, pattern);
	struct buf text CLEANUP(buf_done) = buf_init(1000);
	const str *values;
	size_t count;
	bool plain = matcher_literals(&m, &values, &count);
	for (size_t i = 0; plain && i < count; i++) {
		buf_add(&text, values[i]);
		buf_add_byte(&text, ' ');
	}
	assert_string_equal(plain ? buf_cstr(&text) : "no", joined);
	matcher_done(&m);
}

static void alternatives_of_plain_text_are_known(void **state)
{
	(void)state;
	expect_literals("abc", "abc ");
	expect_literals("a|b|c", "a b c ");
	expect_literals("x(1|2)", "x1 x2 ");
	expect_literals("a.b", "no");
	expect_literals("a\\.b", "a.b ");
	expect_literals("(?i)a|b", "no");
	expect_literals("a*", "no");
}

static void a_prefix_is_one_of_every_match(void **state)
{
	static const char *const patterns[] = { "abc.*", "abc|abd", "ab?c", "a|b.*", "abc+" };
	static const char *const values[] = { "abc", "abcd", "ac", "b", "abcc", "abd", "a" };
	(void)state;
	struct matcher plain = compiled(MATCH_REGEXP, "abc.*");
	assert_true(str_eq_c(matcher_prefix(&plain), "abc"));
	matcher_done(&plain);
	for (size_t i = 0; i < ARRAY_COUNT(patterns); i++) {
		struct matcher m = compiled(MATCH_REGEXP, patterns[i]);
		for (size_t k = 0; k < ARRAY_COUNT(values); k++) {
			bool matches;
			assert_int_equal(matcher_matches(&m, str_c(values[k]), &matches, NULL), OK);
			if (matches)
				assert_true(str_starts(str_c(values[k]), matcher_prefix(&m)));
		}
		matcher_done(&m);
	}
}

static void an_evil_expression_stops(void **state)
{
	struct matcher m = compiled(MATCH_REGEXP, "(a*)*(a*)*(a*)*(a*)*b");
	static char value[5000];
	bool matches = false;
	(void)state;
	memset(value, 'a', sizeof(value));
	errc rc = matcher_matches(&m, (str){ value, sizeof(value) }, &matches, NULL);
	assert_true(rc == ERR_LIMIT || (rc == OK && !matches));
	matcher_done(&m);
}

static void groups_go_into_a_template(void **state)
{
	static const struct {
		const char *pattern, *value, *template, *expected;
	} cases[] = {
		{ "(.*):(\\d+)", "web:80", "$1-$2", "web-80" },
		{ "(?P<host>.*):.*", "web:80", "${host}x $host", "webx web" },
		{ "(.*)", "a", "$1x $$ ${1}x $9", " $ ax " },
		{ "(.*)", "a", "no groups", "no groups" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct matcher m = compiled(MATCH_REGEXP, cases[i].pattern);
		struct buf text CLEANUP(buf_done) = buf_init(100);
		bool matches;
		assert_int_equal(matcher_expand(&m, str_c(cases[i].value), str_c(cases[i].template),
						&text, &matches, NULL),
				 OK);
		assert_true(matches);
		assert_string_equal(buf_cstr(&text), cases[i].expected);
		matcher_done(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_four_kinds_match),
		cmocka_unit_test(what_re2_does_not_have_is_refused),
		cmocka_unit_test(alternatives_of_plain_text_are_known),
		cmocka_unit_test(a_prefix_is_one_of_every_match),
		cmocka_unit_test(an_evil_expression_stops),
		cmocka_unit_test(groups_go_into_a_template),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
