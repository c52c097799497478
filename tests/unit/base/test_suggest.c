#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "base/suggest.h"
#include "test_random.h"

static const char *const commands[] = { "serve",  "build",    "deploy", "rollback",
					"status", "releases", "logs",   "secret" };

static const char *of_commands(const char *typed)
{
	return suggest(str_c(typed), commands, ARRAY_COUNT(commands));
}

static void slips_of_the_finger(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {
		{ "deplyo", "deploy" },    { "depoy", "deploy" },   { "ddeploy", "deploy" },
		{ "stauts", "status" },    { "staus", "status" },   { "rolback", "rollback" },
		{ "release", "releases" }, { "secrets", "secret" }, { "biuld", "build" },
		{ "log", "logs" },         { "srve", "serve" },     { "rollbakc", "rollback" },
	};
	for (size_t i = 0; i < ARRAY_COUNT(pairs); i++) {
		const char *got = of_commands(pairs[i][0]);
		assert_non_null(got);
		assert_string_equal(got, pairs[i][1]);
	}
}

static void nothing_near(void **state)
{
	(void)state;
	static const char *const far[] = { "", "x", "frobnicate", "zzzzzz", "kubernetes" };
	for (size_t i = 0; i < ARRAY_COUNT(far); i++)
		assert_null(of_commands(far[i]));
	assert_null(suggest(STR("deploy"), commands, 0));
	char typed[200];
	memset(typed, 'a', sizeof(typed));
	const char *const words[] = { "aaaa" };
	assert_null(suggest((str){ typed, sizeof(typed) }, words, 1));
	assert_null(suggest((str){ typed, 65 }, words, 1));
}

static void long_words_are_skipped(void **state)
{
	(void)state;
	char word[66], typed[66];
	memset(word, 'a', 65);
	word[65] = '\0';
	memcpy(typed, word, sizeof(word));
	const char *const words[] = { word, "other" };
	assert_null(suggest((str){ typed, 64 }, words, 2));
	word[64] = '\0';
	assert_ptr_equal(suggest((str){ typed, 64 }, words, 2), word);
	assert_ptr_equal(suggest((str){ typed, 63 }, words, 2), word);
}

/* Edits by their definition, without a table: one of insert, delete, replace, swap at the ends. */
static size_t edits(const char *a, size_t a_len, const char *b, size_t b_len)
{
	if (a_len == 0 || b_len == 0)
		return a_len + b_len;
	size_t best = edits(a, a_len - 1, b, b_len - 1) + (a[a_len - 1] != b[b_len - 1]);
	size_t other = edits(a, a_len - 1, b, b_len) + 1;
	best = other < best ? other : best;
	other = edits(a, a_len, b, b_len - 1) + 1;
	best = other < best ? other : best;
	if (a_len > 1 && b_len > 1 && a[a_len - 1] == b[b_len - 2] &&
	    a[a_len - 2] == b[b_len - 1]) {
		other = edits(a, a_len - 2, b, b_len - 2) + 1;
		best = other < best ? other : best;
	}
	return best;
}

static void the_nearest_by_definition(void **state)
{
	(void)state;
	struct test_random r = { 31 };
	size_t found_count = 0;
	for (int round = 0; round < 1500; round++) {
		char words[4][8], typed[8];
		const char *list[4];
		size_t best = SIZE_MAX;
		test_random_text(&r, "abc", 3, typed, 1 + test_random_below(&r, 6));
		for (size_t i = 0; i < 4; i++) {
			test_random_text(&r, "abcd", 4, words[i], 1 + test_random_below(&r, 6));
			list[i] = words[i];
			size_t d = edits(typed, strlen(typed), words[i], strlen(words[i]));
			best = d < best ? d : best;
		}
		const char *got = suggest(str_c(typed), list, 4);
		if (got) {
			size_t d = edits(typed, strlen(typed), got, strlen(got));
			assert_true(d * 2 <= strlen(got));
			assert_true(d <= strlen(typed) / 3 + 1);
			/* a nearer one was passed over only because half of it would be wrong */
			for (size_t i = 0; i < 4; i++) {
				size_t other = edits(typed, strlen(typed), list[i],
						     strlen(list[i]));
				assert_true(other >= d || other * 2 > strlen(list[i]));
			}
			found_count++;
		} else {
			for (size_t i = 0; i < 4; i++) {
				size_t other = edits(typed, strlen(typed), list[i],
						     strlen(list[i]));
				assert_true(other * 2 > strlen(list[i]) ||
					    other > strlen(typed) / 3 + 1);
			}
		}
		if (best == 0)
			assert_string_equal(got, typed);
	}
	assert_true(found_count > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slips_of_the_finger),
		cmocka_unit_test(nothing_near),
		cmocka_unit_test(long_words_are_skipped),
		cmocka_unit_test(the_nearest_by_definition),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
