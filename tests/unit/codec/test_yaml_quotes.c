#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checks.h"
#include "codec/yaml.h"

/* libfyaml leaks on quotes doubled side by side; these are ours to unquote. Shown under ASan. */
static const struct {
	const char *text;
	const char *value; /* of `a`; NULL: the text is refused */
} cases[] = {
	{ "# \xc3\xbc\nb: \xc3\xbc\na: 'x''''y'", "x''y" },
	{ "a: ''''''''''''''''''''", "'''''''''" },
	{ "{b: '\xc3\xbc', a: 'q'''''}", "q''" },
	{ "a: '\xc3\xbc''''''\xc3\xbc' # ''''", "\xc3\xbc'''\xc3\xbc" },
	{ "a: 'it''s'", "it's" },
	{ "a: ''", "" },
	{ "a: ''''", "'" },
	{ "a: 'b\n  c'", "b c" },
	{ "a: 'b''''\n  c'", NULL },
};

static void doubled_quotes_are_one(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct arena a = arena_init(1 << 16);
		const struct yaml_node *root = NULL;
		struct err e = { 0 };
		errc rc = yaml_parse(&a, str_c(cases[i].text), "f.yml", &root, NULL, &e);
		assert_int_equal(rc, cases[i].value ? OK : ERR_INVALID);
		if (cases[i].value)
			assert_string_equal(yaml_get(root, "a")->text.ptr, cases[i].value);
		else
			assert_string_equal(e.message,
					    "f.yml:1:4: a text of several lines with '''' "
					    "in it; write it in double quotes");
		arena_done(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(doubled_quotes_are_one) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
