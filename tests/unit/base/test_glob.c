#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fnmatch.h>

#include "base/checks.h"
#include "base/glob.h"
#include "test_random.h"

struct example {
	const char *pattern;
	const char *path;
	bool matches;
};

static const struct example examples[] = {
	{ "main.js", "main.js", true },
	{ "main.js", "src/main.js", false },
	{ "*.js", "main.js", true },
	{ "*.js", "src/main.js", false },
	{ "*.js", ".js", true },
	{ "src/*", "src/main.js", true },
	{ "src/*.js", "src/a/b.js", false },
	{ "**/*.js", "main.js", true },
	{ "**/*.js", "a/b/c/main.js", true },
	{ "src/**/test.js", "src/test.js", true },
	{ "src/**/test.js", "src/a/b/test.js", true },
	{ "src/**/test.js", "srctest.js", false },
	{ "src/**/test.js", "src/mytest.js", false },
	{ "**/test.js", "mytest.js", false },
	{ "**/test.js", "a/mytest.js", false },
	{ "src/**", "src/a/b", true },
	{ "src/**", "source/a", false },
	{ "**", "anything/at/all", true },
	{ "?.c", "a.c", true },
	{ "?.c", "ab.c", false },
	{ "a?b", "a/b", false },
	{ "[a-c].c", "b.c", true },
	{ "[a-c].c", "d.c", false },
	{ "[!a-c].c", "d.c", true },
	{ "[^a-c].c", "a.c", false },
	{ "[!a]b", "/b", false },
	{ "[]]x", "]x", true },
	{ "[a-]x", "-x", true },
	{ "{a,b}.c", "a.c", true },
	{ "{a,b}.c", "c.c", false },
	{ "*.{js,css}", "x.css", true },
	{ "{src,lib}/**/*.{js,ts}", "lib/a/x.ts", true },
	{ "{,un}safe", "safe", true },
	{ "{,un}safe", "unsafe", true },
	{ "{,un}safe", "verysafe", false },
	{ "a{,}b", "ab", true },
	{ "x{y", "x{y", true },
	/* a folder stands for what is below it */
	{ "dist", "dist/index.html", true },
	{ "dist/", "dist/index.html", true },
	{ "dist/", "dist", true },
	{ "dist", "distance", false },
	{ "dist", "web/dist", false },
	{ "", "x", false },
	{ "x", "", false },
	{ "*", "", true },
};

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(examples); i++) {
		const struct example *x = &examples[i];
		if (glob_match(str_c(x->pattern), str_c(x->path)) != x->matches)
			fail_msg("%s should%s match %s", x->pattern, x->matches ? "" : " not",
				 x->path);
	}
}

/* A path or a folder above it matches: what fnmatch, which knows names only, says of each. */
static bool model(const char *pattern, const char *path)
{
	char prefix[64];
	size_t len = strlen(path);
	for (size_t n = 0; n <= len; n++) {
		if (n < len && path[n] != '/')
			continue;
		memcpy(prefix, path, n);
		prefix[n] = '\0';
		if (fnmatch(pattern, prefix, FNM_PATHNAME | FNM_NOESCAPE) == 0)
			return true;
	}
	return false;
}

static void agrees_with_fnmatch(void **state)
{
	(void)state;
	static const char *const tokens[] = { "a", "b",    "c",    "/",  "*",
					      "?", "[ab]", "[!a]", "a*", "[b-c]" };
	struct test_random r = { 11 };
	size_t match_count = 0;
	for (int round = 0; round < 200000; round++) {
		char pattern[64] = "", path[16];
		size_t used = 0;
		for (size_t n = 1 + test_random_below(&r, 6); n; n--) {
			const char *token = tokens[test_random_below(&r, ARRAY_COUNT(tokens))];
			/* `**` is ours alone */
			if (used && pattern[used - 1] == '*' && token[0] == '*')
				continue;
			used += (size_t)snprintf(pattern + used, sizeof(pattern) - used, "%s",
						 token);
		}
		/* a final slash is dropped by us, a first one never matches a relative path */
		if (pattern[0] == '/' || pattern[used - 1] == '/')
			continue;
		test_random_text(&r, "aabbcc/", 7, path, 1 + test_random_below(&r, 8));
		if (path[0] == '/' || strstr(path, "//"))
			continue;
		bool expected = model(pattern, path);
		if (glob_match(str_c(pattern), str_c(path)) != expected)
			fail_msg("%s should%s match %s", pattern, expected ? "" : " not", path);
		match_count += expected;
	}
	assert_true(match_count > 1000); /* the cases are not all trivial */
}

static void alternatives_equal_their_spelled_out_forms(void **state)
{
	(void)state;
	struct test_random r = { 12 };
	for (int round = 0; round < 20000; round++) {
		char parts[4][4], joined[32], path[12];
		for (int i = 0; i < 4; i++)
			test_random_text(&r, "ab*?", 4, parts[i], test_random_below(&r, 3));
		test_random_text(&r, "aab", 3, path, 1 + test_random_below(&r, 5));
		snprintf(joined, sizeof(joined), "%s{%s,%s}%s", parts[0], parts[1], parts[2],
			 parts[3]);
		bool expected = false;
		for (int i = 1; i <= 2; i++) {
			char plain[32];
			snprintf(plain, sizeof(plain), "%s%s%s", parts[0], parts[i], parts[3]);
			expected |= glob_match(str_c(plain), str_c(path));
		}
		if (glob_match(str_c(joined), str_c(path)) != expected)
			fail_msg("%s should%s match %s", joined, expected ? "" : " not", path);
	}
}

static void hostile_patterns_end(void **state)
{
	(void)state;
	char pattern[300], path[2000];
	for (size_t i = 0; i + 1 < 240; i += 2)
		memcpy(pattern + i, "*a", 2);
	memset(path, 'a', sizeof(path));
	path[sizeof(path) - 1] = 'b';
	assert_false(glob_match((str){ pattern, 240 }, (str){ path, sizeof(path) }));
	for (size_t i = 0; i + 6 <= 240; i += 6)
		memcpy(pattern + i, "{a,aa}", 6);
	assert_false(glob_match((str){ pattern, 240 }, (str){ path, sizeof(path) }));
	memset(pattern, 'a', sizeof(pattern));
	assert_true(glob_match((str){ pattern, 256 }, (str){ pattern, 256 }));
	assert_false(glob_match((str){ pattern, 257 }, (str){ pattern, 257 }));
}

/* Bytes at random: no crash, nothing read past the views (a sanitizer's build sees it). */
static void any_bytes(void **state)
{
	(void)state;
	struct test_random r = { 13 };
	for (int round = 0; round < 50000; round++) {
		size_t pattern_len = test_random_below(&r, 20),
		       path_len = test_random_below(&r, 12);
		char *pattern = must_calloc(1, pattern_len + 1),
		     *path = must_calloc(1, path_len + 1);
		test_random_text(&r, "a/*?[]{},!-^\xff", 13, pattern, pattern_len);
		test_random_text(&r, "a/b-\xff", 5, path, path_len);
		char *exact_pattern = must_calloc(1, pattern_len),
		     *exact_path = must_calloc(1, path_len);
		memcpy(exact_pattern, pattern, pattern_len);
		memcpy(exact_path, path, path_len);
		bool once = glob_match((str){ exact_pattern, pattern_len },
				       (str){ exact_path, path_len });
		assert_int_equal(once, glob_match(str_c(pattern), str_c(path)));
		free(pattern);
		free(path);
		free(exact_pattern);
		free(exact_path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(agrees_with_fnmatch),
		cmocka_unit_test(alternatives_equal_their_spelled_out_forms),
		cmocka_unit_test(hostile_patterns_end),
		cmocka_unit_test(any_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
