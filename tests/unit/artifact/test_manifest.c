#include "artifact/manifest.h"

#include "artifact/provenance.h"
#include "artifact_fixture.h"
#include "codec/json.h"

static const struct manifest_entry entries[] = {
	{ .path = { "a", 1 }, .type = MANIFEST_FILE, .size = 3 },
	{ .path = { "d", 1 }, .type = MANIFEST_FOLDER },
	{ .path = { "d/\"q\\", 5 }, .type = MANIFEST_FILE, .executable = true, .size = 4 },
	{ .path = { "d/l", 3 }, .type = MANIFEST_LINK, .target = { "../a", 4 } },
};

static struct manifest sample(void)
{
	return (struct manifest){ .application = STR("shop"),
				  .has_sbom = true,
				  .entries = entries,
				  .entry_count = ARRAY_COUNT(entries),
				  .file_count = 2,
				  .folder_count = 1,
				  .link_count = 1,
				  .byte_count = 7 };
}

static void it_reads_back_and_is_json(void **state)
{
	(void)state;
	struct err e;
	struct manifest m = sample(), back;
	struct arena a = arena_init(1 << 20);
	struct buf text = buf_init(1 << 20), again = buf_init(1 << 20);
	const struct json *document;
	manifest_write(&m, &text);
	assert_ok(manifest_parse(buf_str(&text), &a, &back, &e));
	manifest_write(&back, &again);
	assert_string_equal(buf_cstr(&text), buf_cstr(&again));
	assert_ok(json_parse(&a, buf_str(&text), 1 << 20, &document, &e));
	const struct json *list = json_get(document, "entries");
	assert_int_equal(list->count, 4);
	assert_string_equal(json_cstr(json_get(&list->items[2], "path")), "d/\"q\\");
	assert_string_equal(json_cstr(json_get(&list->items[2], "mode")), "0755");
	assert_non_null(manifest_find(&back, STR("d/l")));
	assert_null(manifest_find(&back, STR("d/m")));
	buf_done(&text);
	buf_done(&again);
	arena_done(&a);
}

/* Whatever is read writes the same bytes: there is no second encoding. */
static void there_is_one_encoding(void **state)
{
	(void)state;
	struct manifest m = sample();
	struct buf text = buf_init(1 << 20);
	size_t accepted = 0;
	manifest_write(&m, &text);
	for (size_t i = 0; i < text.len; i++)
		for (int c = 1; c < 256; c++) {
			struct arena a = arena_init(1 << 20);
			struct buf again = buf_init(1 << 20);
			struct manifest back;
			char kept = text.ptr[i];
			text.ptr[i] = (char)c;
			if (manifest_parse(buf_str(&text), &a, &back, NULL) == OK) {
				manifest_write(&back, &again);
				assert_string_equal(buf_cstr(&text), buf_cstr(&again));
				accepted++;
			}
			text.ptr[i] = kept;
			buf_done(&again);
			arena_done(&a);
		}
	assert_true(accepted > text.len); /* names and digests may be others */
	buf_done(&text);
}

static void wrong_lists_are_refused(void **state)
{
	(void)state;
	struct err e;
	struct manifest_entry wrong[4];
	struct manifest m = sample();
	assert_ok(manifest_check(&m, &e));
	m.entries = wrong;
#define CHECK(change, part)                                       \
	do {                                                      \
		memcpy(wrong, entries, sizeof(wrong));            \
		change;                                           \
		assert_int_not_equal(manifest_check(&m, &e), OK); \
		assert_contains(e.message, part);                 \
	} while (0)
	CHECK(wrong[0].path = STR("e"), "out of order");
	CHECK(wrong[1].path = STR("a"), "twice");
	CHECK(wrong[1].type = MANIFEST_FILE, "folder of");
	CHECK(wrong[0].path = STR("../a"), "..");
	CHECK(wrong[0].path = STR("/a"), "empty name");
	CHECK(wrong[2].path = STR("d//q"), "empty name");
	CHECK(wrong[2].path = STR("d/./q"), "empty name");
	CHECK(wrong[0].size = 5, "totals");
	CHECK(wrong[0].size = UINT64_MAX, "4 GiB");
	CHECK(wrong[3].target = STR("../../a"), "outside");
	CHECK(wrong[3].target = STR("x/../a"), "outside");
	CHECK(wrong[3].target = STR("/a"), "absolute");
	CHECK(wrong[3].target = STR(""), "empty");
#undef CHECK
}

static void provenance_is_a_statement_about_the_artifact(void **state)
{
	(void)state;
	struct err e;
	static const str steps[] = { { "npm ci", 6 }, { "vite \"build\"", 12 } };
	static const struct provenance_tool tools[] = { { { "node", 4 }, { "v20.1.0", 7 } } };
	struct digest subject = digest_of(STR("manifest")), other = digest_of(STR("other"));
	struct provenance p = { .application = STR("shop"),
				.environment = STR("production"),
				.steps = steps,
				.step_count = 2,
				.source = other,
				.has_lock_file = true,
				.lock_file_path = STR("package-lock.json"),
				.lock_file = other,
				.tools = tools,
				.tool_count = 1,
				.git_commit = STR("0123"),
				.invocation_id = STR("b1"),
				.started_at = 0,
				.finished_at = 1500 };
	struct arena a = arena_init(1 << 20);
	struct buf text = buf_init(PROVENANCE_TEXT_MAX);
	const struct json *d;
	char hex[DIGEST_HEX_SIZE];
	assert_ok(provenance_write(&p, &subject, &text, &e));
	assert_ok(provenance_check(buf_str(&text), &subject, &e));
	assert_int_equal(provenance_check(buf_str(&text), &other, &e), ERR_CORRUPT);
	assert_int_equal(provenance_check(STR("{}"), &subject, &e), ERR_CORRUPT);
	assert_int_equal(provenance_check(STR("no json"), &subject, &e), ERR_CORRUPT);
	assert_ok(json_parse(&a, buf_str(&text), PROVENANCE_TEXT_MAX, &d, &e));
	assert_string_equal(json_cstr(json_get(d, "_type")), "https://in-toto.io/Statement/v1");
	assert_string_equal(json_cstr(json_get(d, "predicateType")),
			    "https://slsa.dev/provenance/v1");
	const struct json *first = &json_get(d, "subject")->items[0];
	assert_string_equal(json_cstr(json_get(json_get(first, "digest"), "sha256")),
			    digest_hex(&subject, hex));
	const struct json *predicate = json_get(d, "predicate");
	const struct json *definition = json_get(predicate, "buildDefinition");
	assert_int_equal(json_get(definition, "resolvedDependencies")->count, 4);
	const struct json *external = json_get(definition, "externalParameters");
	assert_string_equal(json_cstr(&json_get(external, "steps")->items[1]), "vite \"build\"");
	const struct json *metadata = json_get(json_get(predicate, "runDetails"), "metadata");
	assert_string_equal(json_cstr(json_get(metadata, "finishedOn")),
			    "1970-01-01T00:00:01.500Z");
	buf_done(&text);
	arena_done(&a);
}

static int run(const char *command)
{
	char text[512];
	snprintf(text, sizeof(text), "cd %s && (%s) >/dev/null 2>&1", fixture_root, command);
	FILE *p = popen(text, "r");
	assert_non_null(p);
	return pclose(p);
}

static void the_commit_of_a_checkout_is_found(void **state)
{
	(void)state;
	struct err e;
	struct arena a = arena_init(1 << 20);
	str commit, remote;
	assert_ok(io_make_dirs(in_root("plain"), 0755, &e));
	assert_ok(provenance_git(in_root("plain"), &a, &commit, &remote, &e));
	assert_int_equal(commit.len, 0);
	if (run("git init -q repo && cd repo && git -c user.name=n -c user.email=e@example.org "
		"commit -q --allow-empty -m first && git remote add origin "
		"https://user:token@example.org/shop.git") != 0)
		skip();
	assert_ok(provenance_git(in_root("repo"), &a, &commit, &remote, &e));
	assert_int_equal(commit.len, 40);
	assert_true(str_eq(remote, STR("https://example.org/shop.git")));
	arena_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_reads_back_and_is_json),
		cmocka_unit_test(there_is_one_encoding),
		cmocka_unit_test(wrong_lists_are_refused),
		cmocka_unit_test(provenance_is_a_statement_about_the_artifact),
		cmocka_unit_test(the_commit_of_a_checkout_is_found),
	};
	return cmocka_run_group_tests(tests, fixture_set_up, fixture_tear_down);
}
