#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "codec/yaml.h"

/* `key@line:column` and `value@line:column` in the order written; quoted scalars in quotes. */
static void describe(const struct yaml_node *n, struct buf *into)
{
	if (n->kind == YAML_SCALAR) {
		const char *quote = n->plain ? "" : "\"";
		buf_printf(into, "%s%.*s%s", quote, STR_ARG(n->text), quote);
	}
	buf_printf(into, "@%zu:%zu", n->line, n->column);
	for (size_t i = 0; i < n->count; i++) {
		buf_add_c(into, i ? " " : (n->kind == YAML_MAPPING ? "{" : "["));
		if (n->kind == YAML_MAPPING) {
			describe(&n->keys[i], into);
			buf_add_byte(into, '=');
		}
		describe(&n->items[i], into);
	}
	if (n->count)
		buf_add_byte(into, n->kind == YAML_MAPPING ? '}' : ']');
}

static void knows_where_everything_stands(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *wanted;
	} cases[] = {
		{ "a: 1", "@1:1{a@1:1=1@1:4}" },
		{ "a:\n  b: \"x\"\n  'c': ['y', z]", "@1:1{a@1:1=@2:3{b@2:3=\"x\"@2:6 "
						     "\"c\"@3:3=@3:8[\"y\"@3:9 z@3:14]}}" },
		{ "- a\n- {b: c}", "@1:1[a@1:3 @2:3{b@2:4=c@2:7}]" },
		{ "\xc3\xa4: \xc3\xb6, \"\xc3\xbc\"", "@1:1{\xc3\xa4@1:1=\xc3\xb6, "
						      "\"\xc3\xbc\"@1:4}" },
		{ "# only\n\na: b", "@3:1{a@3:1=b@3:4}" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena scratch = arena_init(1 << 20);
		struct buf said = buf_init(4096);
		const struct yaml_node *root = NULL;
		struct err e = { 0 };
		assert_int_equal(yaml_parse(&scratch, str_c(cases[i].text), "f", &root, NULL, &e),
				 OK);
		describe(root, &said);
		assert_string_equal(buf_cstr(&said), cases[i].wanted);
		buf_done(&said);
		arena_done(&scratch);
	}
}

static void refuses_with_a_place(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *place;
		const char *word; /* in the message */
	} cases[] = {
		{ "a: &x 1", "f:1:", "anchors" },
		{ "a: *x", "f:1:", "aliases" },
		{ "a: !!str 1", "f:1:", "tags" },
		{ "b: 1\n<<: {a: b}", "f:2:1: ", "merge keys" },
		{ "a: 1\nb: 2\na: 3", "f:3:1: ", "the first is at 1:1" },
		{ "a: 1\n---\nb: 2", "f:2:1: ", "second document" },
		{ "? [a]\n: b", "f:1:", "key" },
		{ "a: \"x", "f:1:", "quote" },
		{ "a: [1", "f:", "" },
		{ "a: b: c", "f:1:5: ", "mapping" },
		{ "ab\x01", "f:1:3: ", "control" },
		{ "\xff", "f:1:1: ", "UTF-8" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena scratch = arena_init(1 << 20);
		const struct yaml_node *root = NULL;
		struct err e = { 0 };
		assert_int_equal(yaml_parse(&scratch, str_c(cases[i].text), "f", &root, NULL, &e),
				 ERR_INVALID);
		if (strncmp(e.message, cases[i].place, strlen(cases[i].place)) != 0 ||
		    !strstr(e.message, cases[i].word))
			fail_msg("%s: %s", cases[i].text, e.message);
		arena_done(&scratch);
	}
}

static errc parse_repeated(const char *piece, size_t count)
{
	struct arena scratch = arena_init(64 << 20);
	struct buf text = buf_init(4 << 20);
	const struct yaml_node *root = NULL;
	struct err e = { 0 };
	for (size_t i = 0; i < count; i++)
		buf_add_c(&text, piece);
	errc rc = yaml_parse(&scratch, buf_str(&text), "f", &root, NULL, &e);
	assert_true(rc == OK || e.message[0]);
	buf_done(&text);
	arena_done(&scratch);
	return rc;
}

static void keeps_its_limits(void **state)
{
	(void)state;
	assert_int_not_equal(parse_repeated("[", YAML_DEPTH_MAX + 1), OK);
	assert_int_not_equal(parse_repeated("- a\n", YAML_NODE_COUNT_MAX + 1), OK);
	assert_int_equal(parse_repeated("- a\n", 1000), OK);
	assert_int_equal(parse_repeated("# a\n", YAML_BYTES_MAX / 4 + 1), ERR_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_where_everything_stands),
		cmocka_unit_test(refuses_with_a_place),
		cmocka_unit_test(keeps_its_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
