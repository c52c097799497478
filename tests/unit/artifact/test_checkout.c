/* Working copies: whole, apart from each other, and never made of bytes that have changed. */
#include <sys/stat.h>
#include <unistd.h>

#include "artifact/artifact.h"
#include "artifact_fixture.h"

static struct signing *keys;
static struct artifact_store *store;
static struct digest first, second;

static void pack(const char *folder, struct digest *ret_digest)
{
	struct err e;
	struct artifact_packed packed;
	struct provenance provenance = { .application = STR("shop"),
					 .environment = STR("production"),
					 .invocation_id = STR("build-1"),
					 .started_at = 1,
					 .finished_at = 2 };
	struct artifact_pack options = { .folder = in_root(folder),
					 .application = STR("shop"),
					 .sbom = STR("{\"bomFormat\":\"CycloneDX\"}\n"),
					 .provenance = &provenance };
	assert_ok(artifact_pack(store, &options, &packed, &e));
	*ret_digest = packed.digest;
}

static errc check_out_as(const struct digest *digest, const char *to, bool link, const char *start,
			 const struct digest *carried, bool *ret_repaired, struct err *e)
{
	struct artifact_checkout how = { .artifact = digest,
					 .destination = in_root(to),
					 .start = start,
					 .link = link,
					 .carried = carried,
					 .carried_folder = STR("public") };
	return artifact_checkout(store, &how, ret_repaired, e);
}

static void check_out(const struct digest *digest, const char *to, bool link)
{
	struct err e;
	bool repaired;
	assert_ok(check_out_as(digest, to, link, "start-1", NULL, &repaired, &e));
	assert_false(repaired);
}

static const char *text_of(const char *name)
{
	static char text[256];
	FILE *file = fopen(in_root(name), "r");
	if (!file)
		return "(absent)";
	size_t n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = '\0';
	return text;
}

static struct stat stat_of(const char *name)
{
	struct stat st = { 0 };
	assert_int_equal(lstat(in_root(name), &st), 0);
	return st;
}

static const char *unpacked(const struct digest *digest, const char *name)
{
	static char path[320];
	char hex[DIGEST_HEX_SIZE];
	snprintf(path, sizeof(path), "store/sha256-%s.unpacked/%s", digest_hex(digest, hex), name);
	return path;
}

static void copies_share_files_only_when_asked(void **state)
{
	(void)state;
	check_out(&first, "linked-1", true);
	check_out(&first, "linked-2", true);
	check_out(&first, "copied", false);
	assert_int_equal(stat_of("linked-1/run").st_ino, stat_of("linked-2/run").st_ino);
	assert_int_not_equal(stat_of("copied/run").st_ino, stat_of("linked-1/run").st_ino);
	assert_int_equal(stat_of("copied/run").st_mode & 07777, 0755);
	assert_int_equal(stat_of("linked-1/public").st_mode & 07777, 0755);
	put_text("copied/public/old.js", "mine");
	assert_string_equal(text_of("linked-1/public/old.js"), "old");
	assert_string_equal(text_of(unpacked(&first, "public/old.js")), "old");
	/* what is whole is left alone, with what was written there */
	check_out(&first, "copied", false);
	assert_string_equal(text_of("copied/public/old.js"), "mine");
}

static void a_new_start_of_the_machine_makes_it_again(void **state)
{
	(void)state;
	struct err e;
	bool repaired;
	check_out(&first, "again", false);
	put_text("again/public/old.js", "torn by a power cut");
	put_text("again/left-over", "x");
	assert_ok(check_out_as(&first, "again", false, "start-2", NULL, &repaired, &e));
	assert_string_equal(text_of("again/public/old.js"), "old");
	assert_string_equal(text_of("again/left-over"), "(absent)");
}

static void assets_are_carried_and_stay_so(void **state)
{
	(void)state;
	struct err e;
	bool repaired;
	assert_ok(check_out_as(&second, "carrying", true, "start-1", &first, &repaired, &e));
	assert_string_equal(text_of("carrying/public/new.js"), "new");
	assert_string_equal(text_of("carrying/public/old.js"), "old");
	assert_string_equal(text_of("carrying/public/same.js"), "second");
	assert_string_equal(text_of("carrying/server.js"), "(absent)");
	/* made again, it has them again */
	assert_ok(check_out_as(&second, "carrying", true, "start-2", NULL, &repaired, &e));
	assert_string_equal(text_of("carrying/public/old.js"), "old");
}

static void changed_files_are_noticed_and_unpacked_again(void **state)
{
	(void)state;
	struct err e;
	bool repaired;
	static const struct {
		const char *what, *text; /* NULL: removed */
	} changes[] = { { "public/old.js", "bad" }, { "public/old.js", NULL },
			{ "public/old.js", "longer than it was" }, { "run", "" } };
	for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
		char to[32];
		check_out(&first, "witness", true);
		const char *path = in_root(unpacked(&first, changes[i].what));
		char folder[512];
		snprintf(folder, sizeof(folder), "%s", path);
		*strrchr(folder, '/') = '\0';
		assert_int_equal(chmod(folder, 0755), 0);
		assert_int_equal(unlink(path), 0);
		if (changes[i].text)
			put_text(unpacked(&first, changes[i].what), changes[i].text);
		snprintf(to, sizeof(to), "repaired-%zu", i);
		assert_ok(check_out_as(&first, to, i % 2, "start-1", NULL, &repaired, &e));
		assert_true(repaired);
		snprintf(to, sizeof(to), "repaired-%zu/public/old.js", i);
		assert_string_equal(text_of(to), "old");
	}
}

static void what_is_forgotten_is_made_again(void **state)
{
	(void)state;
	struct err e;
	struct stat st;
	check_out(&first, "before", true);
	assert_ok(artifact_forget_unpacked(store, &first, &e));
	assert_int_equal(lstat(in_root(unpacked(&first, "run")), &st), -1);
	assert_string_equal(text_of("before/public/old.js"), "old");
	check_out(&first, "after", true);
	assert_ok(artifact_checkout_remove(in_root("after"), &e));
	assert_ok(artifact_checkout_remove(in_root("after"), &e));
	assert_int_equal(lstat(in_root("after"), &st), -1);
	assert_int_equal(lstat(in_root("after.made"), &st), -1);
}

static void removing_the_artifact_takes_its_unpacked_copy(void **state)
{
	(void)state;
	struct err e;
	struct stat st;
	bool repaired;
	put_text("third/only.txt", "third");
	struct digest third;
	pack("third", &third);
	check_out(&third, "third-live", true);
	assert_ok(artifact_remove(store, &third, &e));
	assert_int_equal(lstat(in_root(unpacked(&third, "only.txt")), &st), -1);
	assert_string_equal(text_of("third-live/only.txt"), "third");
	assert_int_equal(check_out_as(&third, "gone", true, "start-1", NULL, &repaired, &e),
			 ERR_NOT_FOUND);
	assert_int_equal(lstat(in_root("gone"), &st), -1);
}

static int setup(void **state)
{
	struct err e;
	(void)state;
	assert_int_equal(fixture_set_up(NULL), 0);
	assert_ok(signing_open(in_root("keys"), &keys, &e));
	assert_ok(artifact_store_open(in_root("store"), keys, &store, &e));
	put_bytes("first/run", STR("#!/bin/sh\n"), 0755);
	put_text("first/server.js", "server");
	put_text("first/public/old.js", "old");
	put_text("first/public/same.js", "first");
	put_text("second/public/new.js", "new");
	put_text("second/public/same.js", "second");
	pack("first", &first);
	pack("second", &second);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	artifact_store_close(store);
	signing_close(keys);
	return fixture_tear_down(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_share_files_only_when_asked),
		cmocka_unit_test(a_new_start_of_the_machine_makes_it_again),
		cmocka_unit_test(assets_are_carried_and_stay_so),
		cmocka_unit_test(changed_files_are_noticed_and_unpacked_again),
		cmocka_unit_test(what_is_forgotten_is_made_again),
		cmocka_unit_test(removing_the_artifact_takes_its_unpacked_copy),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
