#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/json.h"
#include "codec/json_locate.h"

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

static errc parse(struct arena *a, const char *text, const struct json **ret, struct err *e)
{
	return json_parse(a, str_c(text), 1 << 20, ret, e);
}

static void numbers_keep_their_kind(void **state)
{
	(void)state;
	struct arena a = arena_init(1 << 20);
	const struct json *v = NULL;
	struct err e;
	assert_int_equal(parse(&a,
			       "[9223372036854775807,-9223372036854775808,18446744073709551615,"
			       "1.5,0,1e3]",
			       &v, &e),
			 OK);
	assert_int_equal(v->count, 6);
	assert_int_equal(v->items[0].kind, JSON_INT);
	assert_true(v->items[0].integer == INT64_MAX);
	assert_true(v->items[1].kind == JSON_INT && v->items[1].integer == INT64_MIN);
	assert_true(v->items[2].kind == JSON_UINT && v->items[2].unsigned_integer == UINT64_MAX);
	assert_true(v->items[3].kind == JSON_DOUBLE && v->items[3].number == 1.5);
	assert_int_equal(v->items[4].kind, JSON_INT);
	assert_int_equal(v->items[5].kind, JSON_DOUBLE);
	assert_true(json_f64(&v->items[4], 7) == 0 && json_i64(&v->items[3], 7) == 7);
	arena_done(&a);
}

static void members_are_found(void **state)
{
	(void)state;
	struct arena a = arena_init(1 << 20);
	const struct json *v = NULL;
	struct err e;
	str s;
	int64_t n;
	assert_int_equal(
		parse(&a, "{\"s\":\"\\u00fc\\ud83d\\ude00\",\"n\":3,\"z\":\"a\\u0000b\"}", &v, &e),
		OK);
	assert_string_equal(json_cstr(json_get(v, "s")), "\xc3\xbc\xf0\x9f\x98\x80");
	assert_null(json_get(v, "none"));
	assert_null(json_get(NULL, "s"));
	assert_null(json_get(json_get(v, "s"), "s"));
	assert_int_equal(json_need_i64(v, "n", &n, &e), OK);
	assert_int_equal(n, 3);
	assert_int_equal(json_need_str(v, "n", &s, &e), ERR_INVALID);
	assert_string_equal(e.message, "\"n\" must be a string");
	assert_int_equal(json_need_str(v, "environment", &s, &e), ERR_INVALID);
	assert_string_equal(e.message, "\"environment\" must be a string and is missing");
	assert_int_equal(json_need_str(v, "z", &s, &e), ERR_INVALID);
	assert_int_equal(json_need_i64(v, "s", &n, &e), ERR_INVALID);
	arena_done(&a);
}

static const struct {
	const char *text;
	const char *message;
} mistakes[] = {
	{ "", "1:1: it ends where a value must come" },
	{ "{\"a\":1,\n \"b\" 2}", "2:6: expected a colon after the key" },
	{ "{\"a\":1\n \"b\":2}", "2:2: expected a comma or }" },
	{ "[1,2", "1:5: expected a comma or ]" },
	{ "[1,]", "1:4: expected a value" },
	{ "{\"a\":1,}", "1:8: expected a key in double quotes" },
	{ "{a:1}", "1:2: expected a key in double quotes" },
	{ "{\"\xc3\xbc\":tru}", "1:6: expected a value" },
	{ "[\"a\nb\"]", "1:4: control character in a string; escape it" },
	{ "[\"ab]", "1:2: this string has no end" },
	{ "[\"\\q\"]", "1:3: unknown escape" },
	{ "[\"\\u12g4\"]", "1:3: \\u needs four hexadecimal digits" },
	{ "[\"\\ud800\"]", "1:3: half of a surrogate pair" },
	{ "[\"\xff\"]", "1:3: this is not UTF-8" },
	{ "[012]", "1:2: a number must not begin with 0" },
	{ "[-]", "1:2: a number must have digits" },
	{ "[1.]", "1:2: digits must follow the decimal point" },
	{ "[1e]", "1:2: digits must follow the exponent" },
	{ "[18446744073709551616]", "1:2: this number is out of range" },
	{ "[1e999]", "1:2: this number is out of range" },
	{ "1 2", "1:3: something follows the value" },
	{ "[]]", "1:3: something follows the value" },
};

static void mistakes_have_a_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(mistakes); i++) {
		struct arena a = arena_init(1 << 20);
		const struct json *v = NULL;
		struct err e;
		char expected[200];
		snprintf(expected, sizeof(expected), "the JSON is wrong at %s",
			 mistakes[i].message);
		assert_int_equal(parse(&a, mistakes[i].text, &v, &e), ERR_INVALID);
		assert_string_equal(e.message, expected);
		assert_null(v);
		arena_done(&a);
	}
}

static void limits_hold(void **state)
{
	(void)state;
	struct arena a = arena_init(1 << 20), small = arena_init(300);
	const struct json *v = NULL;
	struct err e;
	char deep[131] = { 0 };
	memset(deep, '[', 64);
	memset(deep + 64, ']', 64);
	assert_int_equal(parse(&a, deep, &v, &e), OK);
	memset(deep, '[', 65);
	memset(deep + 65, ']', 65);
	assert_int_equal(parse(&a, deep, &v, &e), ERR_INVALID);
	assert_non_null(strstr(e.message, "nested"));
	assert_int_equal(json_parse(&a, STR("[1,2]"), 4, &v, &e), ERR_LIMIT);
	assert_int_equal(json_parse(&small, STR("[1,2,3,4,5,6]"), 100, &v, &e), ERR_LIMIT);
	assert_int_equal(parse(&a, "{\"x\":{\"k\":1,\"l\":2,\"k\":3}}", &v, &e), ERR_INVALID);
	assert_non_null(strstr(e.message, "a key comes twice: k"));
	arena_done(&small);
	arena_done(&a);
}

/* A prefix of a good text is never good, and the locator agrees with simdjson. */
static void mutations_are_judged_alike(void **state)
{
	(void)state;
	static const char good[] =
		"{\"a\":[1,-2.5e3,true,null,\"\\u00e9x\"],\"b\":{\"c\":\"\xc3\xbc\"}}";
	for (int i = 0; i < 20000; i++) {
		char text[sizeof(good)];
		memcpy(text, good, sizeof(good));
		for (uint64_t n = next_random() % 3; n < 3; n++)
			text[next_random() % (sizeof(good) - 1)] =
				good[next_random() % (sizeof(good) - 1)];
		struct arena a = arena_init(1 << 20);
		struct json_mistake mistake;
		const struct json *v = NULL;
		struct err e;
		bool wrong = json_locate(str_c(text), JSON_DEPTH_MAX, &mistake);
		errc rc = parse(&a, text, &v, &e);
		if ((rc != OK) != wrong && !strstr(e.message, "comes twice"))
			fail_msg("%s: %s", text, rc == OK ? mistake.message : e.message);
		arena_done(&a);
	}
}

static void writer_escapes(void **state)
{
	(void)state;
	struct buf b = buf_init(1000);
	struct json_writer w = json_writer_init(&b, false);
	json_begin_object(&w);
	json_put_str(&w, "s", STR("\"\\/\b\t\n\f\r\x01\x7f\xc3\xbc\xff\xed\xa0\x80"));
	json_key(&w, "list");
	json_begin_array(&w);
	json_add_i64(&w, INT64_MIN);
	json_add_u64(&w, UINT64_MAX);
	json_add_bool(&w, false);
	json_add_null(&w);
	json_add_raw(&w, STR("{}"));
	json_end_array(&w);
	json_end_object(&w);
	assert_string_equal(buf_cstr(&b),
			    "{\"s\":\"\\\"\\\\/\\b\\t\\n\\f\\r\\u0001\x7f\xc3\xbc\xef\xbf\xbd"
			    "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"list\":"
			    "[-9223372036854775808,18446744073709551615,false,null,{}]}");
	buf_done(&b);
}

static void writer_indents(void **state)
{
	(void)state;
	struct buf b = buf_init(1000);
	struct json_writer w = json_writer_init(&b, true);
	json_begin_object(&w);
	json_put_i64(&w, "a", 1);
	json_key(&w, "b");
	json_begin_array(&w);
	json_end_array(&w);
	json_key(&w, "c");
	json_begin_array(&w);
	json_add_bool(&w, true);
	json_end_array(&w);
	json_end_object(&w);
	assert_string_equal(buf_cstr(&b),
			    "{\n  \"a\": 1,\n  \"b\": [],\n  \"c\": [\n    true\n  ]\n}");
	buf_done(&b);
}

static const char *f64_text(struct buf *b, double v)
{
	buf_clear(b);
	struct json_writer w = json_writer_init(b, false);
	json_add_f64(&w, v);
	return buf_cstr(b);
}

static void floats_are_shortest(void **state)
{
	(void)state;
	/* digits as JSON.stringify() of JavaScript prints them */
	static const struct {
		double v;
		const char *text;
	} known[] = { { 0, "0" },
		      { 0.1, "0.1" },
		      { 100, "100" },
		      { 1e17, "100000000000000000" },
		      { 1e18, "1e+18" },
		      { -0.0, "-0.0" },
		      { 1e21, "1e+21" },
		      { 1e-6, "0.000001" },
		      { 1.5e-7, "1.5e-7" },
		      { 5e-324, "5e-324" },
		      { 1.7976931348623157e308, "1.7976931348623157e+308" },
		      { 5.684341886080802e-14, "5.684341886080802e-14" },
		      { -123.456, "-123.456" },
		      { 0.30000000000000004, "0.30000000000000004" },
		      { 0.0 / 0.0, "null" },
		      { 1e308 * 10, "null" } };
	struct buf b = buf_init(100);
	for (size_t i = 0; i < ARRAY_COUNT(known); i++)
		assert_string_equal(f64_text(&b, known[i].v), known[i].text);
	for (int i = 0; i < 20000; i++) {
		uint64_t bits = next_random();
		double v;
		memcpy(&v, &bits, sizeof(v));
		const char *text = f64_text(&b, v);
		if (strcmp(text, "null") == 0)
			continue;
		double again = strtod(text, NULL);
		assert_memory_equal(&again, &v, sizeof(v));
	}
	buf_done(&b);
}

static void misuse_value_without_key(struct json_writer *w)
{
	json_begin_object(w);
	json_add_i64(w, 1);
}

static void misuse_key_in_array(struct json_writer *w)
{
	json_begin_array(w);
	json_key(w, "a");
}

static void misuse_wrong_end(struct json_writer *w)
{
	json_begin_array(w);
	json_end_object(w);
}

static void misuse_end_after_key(struct json_writer *w)
{
	json_begin_object(w);
	json_key(w, "a");
	json_end_object(w);
}

static void misuse_end_too_often(struct json_writer *w)
{
	json_end_array(w);
}

static void misuse_two_values(struct json_writer *w)
{
	json_add_i64(w, 1);
	json_add_i64(w, 2);
}

static void misuse_stops_the_process(void **state)
{
	(void)state;
	static void (*const cases[])(struct json_writer *) = {
		misuse_value_without_key, misuse_key_in_array,  misuse_wrong_end,
		misuse_end_after_key,     misuse_end_too_often, misuse_two_values,
	};
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		int status = 0;
		pid_t pid = fork();
		if (pid == 0) {
			struct buf b = buf_init(1000);
			struct json_writer w = json_writer_init(&b, false);
			signal(SIGABRT, SIG_DFL);
			fclose(stderr);
			cases[i](&w);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_keep_their_kind),
		cmocka_unit_test(members_are_found),
		cmocka_unit_test(mistakes_have_a_place),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(mutations_are_judged_alike),
		cmocka_unit_test(writer_escapes),
		cmocka_unit_test(writer_indents),
		cmocka_unit_test(floats_are_shortest),
		cmocka_unit_test(misuse_stops_the_process),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
