#include "artifact/sbom.h"

#include "artifact_fixture.h"
#include "codec/json.h"

static const char lock[] =
	"{\"name\":\"shop\",\"version\":\"2.0.0\",\"lockfileVersion\":3,\"packages\":{"
	"\"\":{\"name\":\"shop\",\"version\":\"2.0.0\",\"license\":\"Apache-2.0\","
	"\"dependencies\":{\"a\":\"^1\",\"@scope/"
	"b\":\"2\",\"local\":\"*\",\"alias\":\"npm:real@3\"},"
	"\"devDependencies\":{\"tool\":\"1\"},\"optionalDependencies\":{\"absent\":\"1\"}},"
	"\"local\":{\"name\":\"local\",\"version\":\"0.1.0\",\"dependencies\":{\"a\":\"^1\"}},"
	"\"node_modules/local\":{\"resolved\":\"local\",\"link\":true},"
	"\"node_modules/a\":{\"version\":\"1.2.3+build\","
	"\"resolved\":\"https://registry.npmjs.org/a/-/a-1.2.3.tgz\","
	"\"integrity\":\"sha512-"
	"z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg== "
	"sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=\",\"license\":\"(MIT OR Apache-2.0)\","
	"\"dependencies\":{\"@scope/b\":\"1\"}},"
	"\"node_modules/@scope/b\":{\"version\":\"2.0.0\",\"license\":\"MIT\"},"
	"\"node_modules/a/node_modules/@scope/b\":{\"version\":\"1.0.0\",\"optional\":true,"
	"\"license\":\"SEE LICENSE IN FILE\"},"
	"\"node_modules/alias\":{\"name\":\"real\",\"version\":\"3.0.0\","
	"\"resolved\":\"git+https://user:secret@example.org/real.git#0123\"},"
	"\"node_modules/tool\":{\"version\":\"1.0.0\",\"dev\":true,"
	"\"peerDependencies\":{\"a\":\"*\"}}}}";

static struct arena memory;

static const struct json *bill(const char *text, struct buf *into)
{
	struct err e;
	const struct json *document;
	*into = buf_init(1 << 20);
	assert_ok(sbom_from_npm_lock(str_c(text), into, &e));
	assert_ok(json_parse(&memory, buf_str(into), 1 << 20, &document, &e));
	return document;
}

static const struct json *component(const struct json *document, const char *purl)
{
	const struct json *all = json_get(document, "components");
	for (size_t i = 0; i < all->count; i++)
		if (str_eq_c(json_str(json_get(&all->items[i], "purl"), STR("")), purl))
			return &all->items[i];
	fail_msg("no component %s", purl);
	return NULL;
}

static const char *text_of(const struct json *object, const char *key)
{
	return json_cstr(json_get(object, key));
}

static void every_package_is_a_component(void **state)
{
	(void)state;
	struct buf text;
	const struct json *d = bill(lock, &text);
	assert_int_equal(json_get(d, "components")->count, 6);
	const struct json *a = component(d, "pkg:npm/a@1.2.3%2Bbuild");
	assert_string_equal(text_of(a, "version"), "1.2.3+build");
	assert_string_equal(text_of(a, "scope"), "required");
	const struct json *hashes = json_get(a, "hashes");
	/* SHA-512 and SHA-1 of nothing, well known */
	assert_int_equal(hashes->count, 2);
	assert_string_equal(text_of(&hashes->items[0], "alg"), "SHA-512");
	assert_string_equal(text_of(&hashes->items[0], "content"),
			    "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
			    "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e");
	assert_string_equal(text_of(&hashes->items[1], "content"),
			    "da39a3ee5e6b4b0d3255bfef95601890afd80709");
	assert_string_equal(text_of(&json_get(a, "licenses")->items[0], "expression"),
			    "(MIT OR Apache-2.0)");
	const struct json *b = component(d, "pkg:npm/%40scope/b@2.0.0");
	assert_string_equal(text_of(b, "group"), "@scope");
	assert_string_equal(text_of(b, "name"), "b");
	const struct json *license = json_get(&json_get(b, "licenses")->items[0], "license");
	assert_string_equal(text_of(license, "id"), "MIT");
	const struct json *old = component(d, "pkg:npm/%40scope/b@1.0.0");
	assert_string_equal(text_of(old, "scope"), "optional");
	license = json_get(&json_get(old, "licenses")->items[0], "license");
	assert_string_equal(text_of(license, "name"), "SEE LICENSE IN FILE");
	assert_string_equal(text_of(component(d, "pkg:npm/tool@1.0.0"), "scope"), "excluded");
	assert_null(strstr(buf_cstr(&text), "secret"));
	buf_done(&text);
}

static void check_uses(const struct json *document, const char *ref, const char *const *expected,
		       size_t count)
{
	const struct json *all = json_get(document, "dependencies");
	for (size_t i = 0; i < all->count; i++) {
		if (strcmp(text_of(&all->items[i], "ref"), ref) != 0)
			continue;
		const struct json *uses = json_get(&all->items[i], "dependsOn");
		assert_int_equal(uses->count, count);
		for (size_t k = 0; k < count; k++)
			assert_string_equal(json_cstr(&uses->items[k]), expected[k]);
		return;
	}
	fail_msg("no dependencies of %s", ref);
}

static void dependencies_resolve_as_node_does(void **state)
{
	(void)state;
	struct buf text;
	const struct json *d = bill(lock, &text);
	static const char *const root[] = {
		"pkg:npm/%40scope/b@2.0.0", "pkg:npm/a@1.2.3%2Bbuild", "pkg:npm/local@0.1.0",
		"pkg:npm/real@3.0.0?vcs_url=git%2Bhttps%3A%2F%2Fexample.org%2Freal.git%230123",
		"pkg:npm/tool@1.0.0"
	};
	static const char *const nested[] = { "pkg:npm/%40scope/b@1.0.0" };
	static const char *const a[] = { "pkg:npm/a@1.2.3%2Bbuild" };
	check_uses(d, "application", root, ARRAY_COUNT(root));
	check_uses(d, "pkg:npm/a@1.2.3%2Bbuild", nested, 1);
	check_uses(d, "pkg:npm/local@0.1.0", a, 1);
	check_uses(d, "pkg:npm/tool@1.0.0", a, 1);
	check_uses(d, "pkg:npm/%40scope/b@2.0.0", NULL, 0);
	buf_done(&text);
}

static void the_same_lock_gives_the_same_bytes(void **state)
{
	(void)state;
	struct buf one, two;
	bill(lock, &one);
	bill(lock, &two);
	assert_string_equal(buf_cstr(&one), buf_cstr(&two));
	buf_done(&one);
	buf_done(&two);
}

static void what_is_no_lock_file_is_told(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"",
		"[]",
		"{\"lockfileVersion\":1,\"dependencies\":{}}",
		"{\"lockfileVersion\":3,\"packages\":{}}",
		"{\"lockfileVersion\":3,\"packages\":[]}",
		"{\"lockfileVersion\":3,\"packages\":{\"\":1}}",
		"{\"lockfileVersion\":3,\"packages\":{\"\":{},\"node_modules/\":{}}}",
	};
	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
		struct err e;
		struct buf text = buf_init(1 << 20);
		assert_int_equal(sbom_from_npm_lock(str_c(wrong[i]), &text, &e), ERR_INVALID);
		assert_contains(e.message, "lock file");
		buf_done(&text);
	}
}

static int set_up(void **state)
{
	(void)state;
	memory = arena_init(64 << 20);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	arena_done(&memory);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_package_is_a_component),
		cmocka_unit_test(dependencies_resolve_as_node_does),
		cmocka_unit_test(the_same_lock_gives_the_same_bytes),
		cmocka_unit_test(what_is_no_lock_file_is_told),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
