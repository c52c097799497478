/* What changes the key of a build or step, and what does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/checks.h"
#include "feature/build/build_internal.h"

static const char base_text[] =
	"app: shop\n"
	"build:\n"
	"  tools: [node, npm]\n"
	"  variables: [API, MODE]\n"
	"  steps:\n"
	"    - name: install\n"
	"      run: npm ci\n"
	"      inputs: [package.json]\n"
	"      outputs: [deps]\n"
	"      variables: [API, MODE]\n"
	"    - name: pages\n"
	"      run: make pages\n"
	"      inputs: ['src/**']\n"
	"      outputs: [out]\n"
	"      variables: [API, MODE]\n"
	"    - name: pack\n"
	"      run: make pack\n"
	"  include: [out, server]\n"
	"services:\n"
	"  web: { command: [node, main.js], traffic: true, ready: / }\n"
	"environments:\n"
	"  production: { listen: 127.0.0.1:8080, variables: { API: a, MODE: m, OTHER: o } }\n"
	"  staging: { listen: 127.0.0.1:8081, variables: { API: a, MODE: m, OTHER: x } }\n";

struct keys {
	char whole[DIGEST_HEX_SIZE];
	char steps[2][DIGEST_HEX_SIZE];
};

struct change {
	const char *from; /* in the specification */
	const char *to;
	const char *environment;
	const char *node_version;
	size_t input; /* one more than that which changes; 0: none */
	char byte;    /* of its digest */
	mode_t mode;
	const char *path;
};

/* BASE with FROM replaced. */
static char *changed_text(struct arena *a, const char *from, const char *to)
{
	const char *at = from ? strstr(base_text, from) : NULL;
	assert_true(!from || at);
	if (!at)
		return arena_cstr(a, STR(base_text));
	return arena_printf(a, "%.*s%s%s", (int)(at - base_text), base_text, to, at + strlen(from));
}

static struct keys keys_of(const struct change *change)
{
	struct arena a = arena_init(64 << 20);
	struct build_input inputs[] = { { .path = "package.json", .mode = S_IFREG | 0644 },
					{ .path = "src", .mode = S_IFDIR | 0755 },
					{ .path = "src/a.js", .mode = S_IFREG | 0644 },
					{ .path = "version.txt", .mode = S_IFREG | 0644 } };
	struct build_tool tools[] = { { "node", "v18" }, { "npm", "9" } };
	struct build_run run = { .inputs = inputs,
				 .input_count = ARRAY_COUNT(inputs),
				 .tools = tools };
	struct digest digest;
	struct keys keys;
	struct err e = { 0 };
	if (change->node_version)
		tools[0].version = change->node_version;
	if (change->input) {
		struct build_input *input = &inputs[change->input - 1];
		input->digest.bytes[7] = (unsigned char)change->byte;
		input->mode = change->mode ? change->mode : input->mode;
		input->path = change->path ? change->path : input->path;
	}
	if (spec_parse(&a, str_c(changed_text(&a, change->from, change->to)), "holdfast.yml",
		       &run.spec, NULL, &e) != OK)
		fail_msg("%s", e.message);
	const char *environment = change->environment ? change->environment : "production";
	assert_int_equal(spec_environment_find(run.spec, environment, &run.environment, &e), OK);
	assert_int_equal(build_make_key(&run, &e), OK);
	digest_hex(&run.key, keys.whole);
	for (size_t i = 0; i < 2; i++) {
		assert_true(build_step_key(&run, i, &digest));
		digest_hex(&digest, keys.steps[i]);
	}
	if (run.spec->build.step_count > 2)
		assert_false(build_step_key(&run, 2, &digest)); /* no outputs of its own */
	arena_done(&a);
	return keys;
}

static const struct {
	const char *what;
	struct change change;
	bool whole, first, second; /* which keys it changes */
} cases[] = {
	{ "nothing", { 0 }, false, false, false },
	{ "the spelling",
	  { "tools: [node, npm]", "tools:\n  - node\n  - npm   # both" },
	  false,
	  false,
	  false },
	{ "another environment with the same values",
	  { .environment = "staging" },
	  false,
	  false,
	  false },
	{ "a variable that is not declared", { "OTHER: o", "OTHER: p" }, false, false, false },
	{ "how it is served", { "127.0.0.1:8080", "127.0.0.1:9090" }, false, false, false },
	{ "a declared variable", { "API: a", "API: b" }, true, true, true },
	{ "a declared variable unset", { "API: a, ", "" }, true, true, true },
	{ "a declared variable empty", { "API: a", "API: ''" }, true, true, true },
	{ "a value moved to the next variable",
	  { "API: a, MODE: m", "API: am, MODE: ''" },
	  true,
	  true,
	  true },
	{ "a tool's version", { .node_version = "v20" }, true, true, true },
	{ "the application", { "app: shop", "app: blog" }, true, true, true },
	{ "the first step's command", { "npm ci", "npm install" }, true, true, true },
	{ "the second step's command", { "make pages", "make page" }, true, false, true },
	{ "the last step's command", { "make pack", "make packs" }, true, false, false },
	{ "a step's name", { "name: pages", "name: site" }, true, false, false },
	{ "one step fewer",
	  { "    - name: pack\n      run: make pack\n", "" },
	  true,
	  false,
	  false },
	{ "an output", { "outputs: [out]", "outputs: [out, log]" }, true, false, true },
	{ "two outputs from one", { "[out, server]", "['out,server']" }, true, false, false },
	{ "what goes in", { "[out, server]", "[out]" }, true, false, false },
	{ "the input of the first step", { .input = 1, .byte = 1 }, true, true, true },
	{ "the input of the second", { .input = 3, .byte = 1 }, true, false, true },
	{ "an input of neither", { .input = 4, .byte = 1 }, true, false, false },
	{ "the execution bit", { .input = 3, .mode = S_IFREG | 0755 }, true, false, true },
	{ "a file that became a link", { .input = 3, .mode = S_IFLNK | 0644 }, true, false, true },
	{ "a name", { .input = 3, .path = "src/b.js" }, true, false, true },
};

static void keys_change_with_what_matters(void **state)
{
	(void)state;
	struct keys base = keys_of(&cases[0].change);
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct keys k = keys_of(&cases[i].change);
		if ((strcmp(k.whole, base.whole) != 0) != cases[i].whole)
			fail_msg("%s: the whole key", cases[i].what);
		if ((strcmp(k.steps[0], base.steps[0]) != 0) != cases[i].first)
			fail_msg("%s: the first step's key", cases[i].what);
		if ((strcmp(k.steps[1], base.steps[1]) != 0) != cases[i].second)
			fail_msg("%s: the second step's key", cases[i].what);
	}
	/* and each of them to a key of its own */
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		for (size_t n = 0; n < i; n++)
			if (cases[i].whole && cases[n].whole)
				assert_string_not_equal(keys_of(&cases[i].change).whole,
							keys_of(&cases[n].change).whole);
}

/* The end of one field and the begin of the next cannot be told apart by their bytes alone. */
static void fields_do_not_run_together(void **state)
{
	(void)state;
	struct digest keys[2];
	static const char *const paths[2][2] = { { "ab", "c" }, { "a", "bc" } };
	for (size_t i = 0; i < 2; i++) {
		struct arena a = arena_init(64 << 20);
		struct build_input inputs[] = { { .path = paths[i][0], .mode = S_IFREG },
						{ .path = paths[i][1], .mode = S_IFREG } };
		struct build_tool tools[] = { { "node", i ? "v1" : "v11" },
					      { "npm", i ? "19" : "9" } };
		struct build_run run = { .inputs = inputs, .input_count = 2, .tools = tools };
		struct err e = { 0 };
		assert_int_equal(spec_parse(&a, STR(base_text), "f", &run.spec, NULL, &e), OK);
		assert_int_equal(
			spec_environment_find(run.spec, "production", &run.environment, &e), OK);
		assert_int_equal(build_make_key(&run, &e), OK);
		keys[i] = run.key;
		arena_done(&a);
	}
	assert_false(digest_eq(&keys[0], &keys[1]));
}

/* A build is told nothing that its key does not know. */
static void a_step_sees_only_what_is_in_the_key(void **state)
{
	(void)state;
	struct feature_context context = { .data = "/d" };
	struct build_run run = { .context = &context, .arena = arena_init(64 << 20) };
	const char *const *envp = NULL;
	struct err e = { 0 };
	bool api = false;
	snprintf(run.home, sizeof(run.home), "/d/builds/home");
	assert_int_equal(spec_parse(&run.arena, STR(base_text), "f", &run.spec, NULL, &e), OK);
	assert_int_equal(spec_environment_find(run.spec, "staging", &run.environment, &e), OK);
	setenv("HOLDFAST_TEST_LEAK", "secret", 1);
	assert_int_equal(build_environment(&run, &run.spec->build.steps[0], &envp, &e), OK);
	for (; *envp; envp++) {
		assert_null(strstr(*envp, "staging"));
		assert_null(strstr(*envp, "OTHER="));
		assert_null(strstr(*envp, "LEAK"));
		api |= strcmp(*envp, "API=a") == 0;
	}
	assert_true(api);
	arena_done(&run.arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_change_with_what_matters),
		cmocka_unit_test(fields_do_not_run_together),
		cmocka_unit_test(a_step_sees_only_what_is_in_the_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
