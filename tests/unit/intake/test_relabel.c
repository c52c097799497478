#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "intake/relabel.h"

struct row {
	const char *name;
	const char *action, *sources, *separator, *regex, *target, *replacement;
	uint64_t modulus;
	const char *in, *out; /* `name=value` with blanks between; out "-": dropped */
};

/* The documented examples of each action and their edges. */
static const struct row rows[] = {
	{ "replace", "replace", "a b", ";", "(.*);(.*)", "c", "$2-${1}", 0, "a=1 b=2",
	  "a=1 b=2 c=2-1" },
	{ "replace is anchored", "replace", "a", ";", "b", "c", "x", 0, "a=abc", "a=abc" },
	{ "an empty result removes", "replace", "a", ";", ".*", "a", "", 0, "a=1 b=2", "b=2" },
	{ "a missing source is empty", "replace", "zz", ";", "", "c", "none", 0, "a=1",
	  "a=1 c=none" },
	{ "keep", "keep", "a", ";", "1|2", "", "", 0, "a=2 b=3", "a=2 b=3" },
	{ "keep drops", "keep", "a", ";", "1|2", "", "", 0, "a=3", "-" },
	{ "drop", "drop", "a b", "/", "1/2", "", "", 0, "a=1 b=2", "-" },
	{ "drop keeps", "drop", "a b", "/", "1/2", "", "", 0, "a=1 b=3", "a=1 b=3" },
	{ "keepequal", "keepequal", "a", ";", "", "b", "", 0, "a=1 b=1", "a=1 b=1" },
	{ "keepequal drops", "keepequal", "a", ";", "", "b", "", 0, "a=1 b=2", "-" },
	{ "dropequal", "dropequal", "a", ";", "", "b", "", 0, "a=1 b=1", "-" },
	{ "labelmap", "labelmap", "", ";", "meta_(.+)", "", "$1", 0, "meta_x=1 y=2",
	  "meta_x=1 x=1 y=2" },
	{ "labeldrop", "labeldrop", "", ";", "m.*", "", "", 0, "mx=1 my=2 z=3", "z=3" },
	{ "labelkeep", "labelkeep", "", ";", "m.*", "", "", 0, "mx=1 my=2 z=3", "mx=1 my=2" },
	{ "lowercase", "lowercase", "a", ";", "", "b", "", 0, "a=ABc", "a=ABc b=abc" },
	{ "uppercase", "uppercase", "a", ";", "", "a", "", 0, "a=aBc", "a=ABC" },
};

static size_t parse_labels(struct arena *arena, const char *text, struct label *items)
{
	str rest = str_c(arena_cstr(arena, str_c(text))), word;
	size_t count = 0;
	while (rest.len && str_split(&rest, ' ', &word)) {
		str name;
		must(str_split(&word, '=', &name));
		items[count++] = (struct label){ name, word };
	}
	return count;
}

static struct relabel *compile(const struct row *r, struct err *e)
{
	str sources[8], rest = str_c(r->sources), word;
	struct relabel_rule rule = { .sources = sources,
				     .separator = str_c(r->separator),
				     .regex = str_c(r->regex),
				     .target = str_c(r->target),
				     .replacement = str_c(r->replacement),
				     .action = str_c(r->action),
				     .modulus = r->modulus };
	struct relabel *compiled = NULL;
	while (rest.len && str_split(&rest, ' ', &word))
		sources[rule.source_count++] = word;
	return relabel_new(&rule, 1, &compiled, e) == OK ? compiled : NULL;
}

static void every_action(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct err e = { 0 };
		struct arena arena = arena_init(1 << 20);
		struct label items[LABELS_COUNT_MAX], wanted[LABELS_COUNT_MAX];
		struct relabel *r = compile(&rows[i], &e);
		bool keep = false;
		size_t count = parse_labels(&arena, rows[i].in, items);
		if (!r)
			fail_msg("%s: %s", rows[i].name, e.message);
		if (relabel_apply(r, &arena, items, &count, &keep, &e) != OK)
			fail_msg("%s: %s", rows[i].name, e.message);
		if (strcmp(rows[i].out, "-") == 0) {
			if (keep)
				fail_msg("%s: it is kept", rows[i].name);
		} else {
			struct labels got;
			size_t wanted_count = parse_labels(&arena, rows[i].out, wanted);
			struct labels expected;
			assert_int_equal(labels_normalize(items, count, &got, &e), OK);
			assert_int_equal(labels_normalize(wanted, wanted_count, &expected, &e), OK);
			if (!keep || !labels_eq(&got, &expected))
				fail_msg("%s: not %s", rows[i].name, rows[i].out);
		}
		relabel_free(r);
		arena_done(&arena);
	}
}

/* The last eight bytes of the MD5, big-endian: as Prometheus spreads targets over servers. md5sum
 * of 0 ends in 66e7dff9f98764da. */
static void hashmod_as_in_prometheus(void **state)
{
	(void)state;
	struct row row = { "", "hashmod", "a", ";", "(.*)", "shard", "$1", 1000, NULL, NULL };
	struct err e = { 0 };
	struct arena arena = arena_init(1 << 20);
	struct label items[LABELS_COUNT_MAX];
	struct relabel *r = compile(&row, &e);
	size_t count = parse_labels(&arena, "a=0", items);
	bool keep = false;
	assert_non_null(r);
	assert_int_equal(relabel_apply(r, &arena, items, &count, &keep, &e), OK);
	assert_true(keep);
	assert_int_equal(count, 2);
	assert_true(str_eq_c(items[1].name, "shard") && str_eq_c(items[1].value, "722"));
	relabel_free(r);
	arena_done(&arena);
}

static void bad_rules_are_named(void **state)
{
	(void)state;
	static const struct {
		struct row row;
		const char *said;
	} bad[] = {
		{ { "", "rename", "a", ";", ".*", "b", "", 0, "", "" }, "rename" },
		{ { "", "replace", "a", ";", "(", "b", "", 0, "", "" }, "(" },
		{ { "", "hashmod", "a", ";", ".*", "b", "", 0, "", "" }, "modulus" },
		{ { "", "replace", "a", ";", ".*", "", "x", 0, "", "" }, "target" },
	};
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct err e = { 0 };
		struct relabel *r = compile(&bad[i].row, &e);
		assert_null(r);
		assert_int_equal(e.code, ERR_INVALID);
		if (!strstr(e.message, bad[i].said))
			fail_msg("\"%s\" does not say \"%s\"", e.message, bad[i].said);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_action),
		cmocka_unit_test(hashmod_as_in_prometheus),
		cmocka_unit_test(bad_rules_are_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
