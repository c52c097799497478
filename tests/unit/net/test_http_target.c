/* Paths, queries and route patterns. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "net/http_target.h"

static const char *parse(struct arena *a, const char *raw, struct http_target *t)
{
	static struct err e;
	e.message[0] = 0;
	return http_target_parse(str_c(raw), 3, a, t, &e) == OK ? NULL : e.message;
}

/* An independent, byte-wise percent-encoder of anything. */
static void encode(struct buf *b, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf_printf(b, rand() % 2 ? "%%%02x" : "%%%02X", (unsigned char)bytes[i]);
}

static void test_round_trip(void **state)
{
	(void)state;
	srand(7);
	for (int round = 0; round < 2000; round++) {
		char bytes[40];
		size_t len = 1 + (size_t)(rand() % 39);
		struct buf b = buf_init(4096);
		struct arena a = arena_init(1 << 16);
		struct http_target t;
		for (size_t i = 0; i < len; i++)
			bytes[i] = (char)(1 + rand() % 255);
		buf_add_c(&b, "/x?a=");
		encode(&b, bytes, len);
		buf_add_c(&b, "&");
		encode(&b, bytes, len);
		buf_add_c(&b, "=");
		assert_null(parse(&a, buf_cstr(&b), &t));
		assert_int_equal(t.query_count, 2);
		assert_true(str_eq(t.query[0].value, (str){ bytes, len }));
		assert_true(str_eq(t.query[1].name, (str){ bytes, len }));
		buf_done(&b);
		arena_done(&a);
	}
}

static bool matches(const char *pattern, const char *path)
{
	struct arena a = arena_init(1 << 16);
	struct http_target t;
	struct http_pattern p;
	struct err e;
	assert_int_equal(http_pattern_parse(pattern, &p, &e), OK);
	assert_null(parse(&a, path, &t));
	bool yes = http_pattern_matches(&p, &t);
	arena_done(&a);
	return yes;
}

static void test_patterns(void **state)
{
	struct http_pattern p;
	struct err e;
	(void)state;
	assert_true(matches("/", "/"));
	assert_false(matches("/", "/a"));
	assert_true(matches("/a", "/a"));
	assert_false(matches("/a", "/a/"));
	assert_true(matches("/a/", "/a/"));
	assert_true(matches("/a/:b", "/a/c"));
	assert_false(matches("/a/:b", "/a/"));
	assert_true(matches("/api/:project/envelope/", "/api/7/envelope/"));
	assert_true(matches("/*all", "/"));
	assert_true(matches("/*all", "/a/b/c"));
	assert_true(matches("/a/*rest", "/a/"));
	assert_false(matches("/a/*rest", "/a"));
	assert_true(matches("/a b", "/a%20b"));
	assert_int_equal(http_pattern_parse("a", &p, &e), ERR_INVALID);
	assert_int_equal(http_pattern_parse("/:", &p, &e), ERR_INVALID);
	assert_int_equal(http_pattern_parse("/*a/b", &p, &e), ERR_INVALID);
}

static void test_refusals(void **state)
{
	struct arena a = arena_init(1 << 16);
	struct http_target t;
	(void)state;
	assert_non_null(parse(&a, "", &t));
	assert_non_null(parse(&a, "http://host", &t));
	assert_null(parse(&a, "https://host/", &t));
	assert_non_null(parse(&a, "/?a&b&c&d", &t));
	assert_null(parse(&a, "/?a&b&c", &t));
	assert_non_null(parse(
		&a, "/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3", &t));
	arena_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
