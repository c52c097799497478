#include "artifact/artifact.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "artifact_fixture.h"

static struct signing *keys;
static struct artifact_store *store;

static errc pack_with(struct artifact_store *into, const char *folder, const str *include,
		      size_t include_count, const str *exclude, size_t exclude_count,
		      struct artifact_packed *ret_packed, struct err *e)
{
	static const str steps[] = { { "npm ci", 6 } };
	struct provenance provenance = { .application = STR("shop"),
					 .environment = STR("production"),
					 .steps = steps,
					 .step_count = 1,
					 .invocation_id = STR("build-1"),
					 .started_at = 1,
					 .finished_at = 2 };
	struct artifact_pack options = { .folder = folder,
					 .include = include,
					 .include_count = include_count,
					 .exclude = exclude,
					 .exclude_count = exclude_count,
					 .application = STR("shop"),
					 .sbom = STR("{\"bomFormat\":\"CycloneDX\"}\n"),
					 .provenance = &provenance };
	return artifact_pack(into, &options, ret_packed, e);
}

static errc pack(struct artifact_store *into, const char *folder,
		 struct artifact_packed *ret_packed, struct err *e)
{
	return pack_with(into, folder, NULL, 0, NULL, 0, ret_packed, e);
}

static int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int shell(const char *format, ...)
{
	char words[4000], command[4096];
	va_list ap;
	va_start(ap, format);
	vsnprintf(words, sizeof(words), format, ap);
	va_end(ap);
	snprintf(command, sizeof(command), "(%s) >/dev/null 2>&1", words);
	FILE *p = popen(command, "r");
	assert_non_null(p);
	return pclose(p);
}

static const char *stored(const struct digest *digest, const char *ending)
{
	static char names[4][160];
	static size_t next;
	char hex[DIGEST_HEX_SIZE];
	char *name = names[next++ % 4];
	snprintf(name, sizeof(names[0]), "store/sha256-%s%s", digest_hex(digest, hex), ending);
	return name;
}

static void make_sample(const char *name)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/bin/run", name);
	put_bytes(path, STR("#!/bin/sh\necho hello\n"), 0755);
	snprintf(path, sizeof(path), "%s/page.html", name);
	put_text(path, "<p>hello</p>\n");
	snprintf(path, sizeof(path), "%s/a-b.txt", name);
	put_text(path, "sorts before a/\n");
	snprintf(path, sizeof(path), "%s/a/\xc3\xa9t\xc3\xa9 e\xcc\x81 .txt", name);
	put_text(path, "composed and decomposed\n");
	snprintf(path, sizeof(path), "%s/a/empty", name);
	put_text(path, "");
	snprintf(path, sizeof(path),
		 "%s/a/a-folder-with-a-name-that-is-longer-than-a-tar-header-has-room-for/"
		 "and-a-file-"
		 "whose-name-is-long-as-well-so-that-pax-headers-are-needed-for-it.txt",
		 name);
	put_text(path, "long\n");
	snprintf(path, sizeof(path), "%s/index.html", name);
	assert_int_equal(symlink("page.html", in_root(path)), 0);
	snprintf(path, sizeof(path), "%s/a/up", name);
	assert_int_equal(symlink("../bin/run", in_root(path)), 0);
	snprintf(path, sizeof(path), "%s/nothing", name);
	assert_int_equal(mkdir(in_root(path), 0755), 0);
}

static void what_was_packed_is_unpacked(void **state)
{
	(void)state;
	struct err e;
	struct artifact_packed packed;
	struct stat st;
	make_sample("plain");
	assert_ok(pack(store, in_root("plain"), &packed, &e));
	assert_false(packed.existed);
	assert_int_equal(packed.file_count, 6);
	assert_ok(artifact_verify(store, &packed.digest, &e));
	mode_t before = umask(077);
	assert_ok(artifact_unpack(store, &packed.digest, in_root("out"), &e));
	umask(before);
	assert_int_equal(
		shell("diff -r --no-dereference %s/plain %s/out", fixture_root, fixture_root), 0);
	assert_int_equal(stat(in_root("out/bin/run"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(stat(in_root("out/page.html"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(stat(in_root("out"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(artifact_unpack(store, &packed.digest, in_root("out"), &e), ERR_CONFLICT);
	assert_ok(pack(store, in_root("plain"), &packed, &e));
	assert_true(packed.existed);
}

/* The format is tar + zstd + sha256 + minisign: their own programs read it. */
static void other_programs_read_it(void **state)
{
	(void)state;
	struct err e;
	struct artifact_packed packed;
	char hex[DIGEST_HEX_SIZE];
	assert_ok(pack(store, in_root("plain"), &packed, &e));
	digest_hex(&packed.digest, hex);
	if (shell("command -v zstd >/dev/null && command -v tar >/dev/null") == 0) {
		assert_int_equal(shell("mkdir %s/tar && zstd -dcq %s | tar -xf - -C %s/tar 2>&1",
				       fixture_root, in_root(stored(&packed.digest, ".tar.zst")),
				       fixture_root),
				 0);
		assert_int_equal(shell("diff -r --no-dereference %s/plain %s/tar", fixture_root,
				       fixture_root),
				 0);
	}
	assert_int_equal(shell("echo '%s  %s' | sha256sum -c --status", hex,
			       in_root(stored(&packed.digest, ".json"))),
			 0);
	if (access("/usr/bin/minisign", X_OK) == 0) {
		assert_int_equal(shell("minisign -V -p %s -m %s -x %s >/dev/null",
				       in_root("keys/artifact.pub"),
				       in_root(stored(&packed.digest, ".json")),
				       in_root(stored(&packed.digest, ".sig"))),
				 0);
		assert_int_equal(shell("minisign -V -p %s -m %s -x %s >/dev/null",
				       in_root("keys/artifact.pub"),
				       in_root(stored(&packed.digest, ".provenance.json")),
				       in_root(stored(&packed.digest, ".provenance.sig"))),
				 0);
	}
}

static uint32_t seed;

static uint32_t random_below(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

/* A tree of SEED_OF below NAME; with BACKWARDS made in another order, at other times and modes. */
static void make_tree(const char *name, uint32_t seed_of, bool backwards)
{
	enum { COUNT = 60 };
	for (int i = 0; i < COUNT; i++) {
		int k = backwards ? COUNT - 1 - i : i;
		char path[256], bytes[5000];
		seed = seed_of * 1000003 + (uint32_t)k;
		snprintf(path, sizeof(path), "%s/%c%c/%c-%d", name, 'a' + (char)random_below(4),
			 "-./_"[0] + (char)(random_below(2) * 2), 'A' + (char)random_below(26), k);
		size_t len = random_below(4) ? random_below(sizeof(bytes)) : 0;
		for (size_t b = 0; b < len; b++)
			bytes[b] = (char)random_below(256);
		bool executable = random_below(3) == 0;
		put_bytes(path, (str){ bytes, len },
			  executable ? (backwards ? 0711 : 0755) : (backwards ? 0600 : 0664));
		struct timeval times[2] = { { k, 0 }, { backwards ? 99 : 1, 5 } };
		assert_int_equal(utimes(in_root(path), times), 0);
	}
}

static void the_same_content_gives_the_same_bytes_anywhere(void **state)
{
	(void)state;
	struct err e;
	struct artifact_store *second;
	assert_ok(artifact_store_open(in_root("second"), keys, &second, &e));
	for (uint32_t round = 0; round < 10; round++) {
		struct artifact_packed one, two;
		char name[64], other[64], hex[DIGEST_HEX_SIZE];
		snprintf(name, sizeof(name), "tree-%u", round);
		snprintf(other, sizeof(other), "elsewhere/deeper/t%u", round);
		make_tree(name, round, false);
		mode_t before = umask(077);
		make_tree(other, round, true);
		assert_ok(pack(store, in_root(name), &one, &e));
		umask(before);
		assert_ok(pack(second, in_root(other), &two, &e));
		assert_true(digest_eq(&one.digest, &two.digest));
		digest_hex(&one.digest, hex);
		assert_int_equal(shell("cmp %s/store/sha256-%s.tar.zst "
				       "%s/second/sha256-%s.tar.zst",
				       fixture_root, hex, fixture_root, hex),
				 0);
		/* one byte, one mode, one name: each gives another digest */
		make_tree(name, round, false);
		char extra[sizeof(name) + 8];
		snprintf(extra, sizeof(extra), "%s/extra", name);
		put_text(extra, "");
		assert_ok(pack(second, in_root(name), &two, &e));
		assert_false(digest_eq(&one.digest, &two.digest));
	}
	artifact_store_close(second);
}

static void globs_select_with_the_folders_above(void **state)
{
	(void)state;
	struct err e;
	struct artifact_packed packed;
	const str include[] = { STR("dist/**"), STR("server"), STR("package.json") };
	const str exclude[] = { STR("**/*.test.js"), STR("server/tmp") };
	put_text("select/dist/assets/app.js", "1");
	put_text("select/server/main.js", "2");
	put_text("select/server/main.test.js", "3");
	put_text("select/server/tmp/x", "4");
	put_text("select/package.json", "{}");
	put_text("select/src/app.ts", "5");
	assert_ok(pack_with(store, in_root("select"), include, 3, exclude, 2, &packed, &e));
	struct arena a = arena_init(1 << 20);
	struct manifest m;
	assert_ok(artifact_manifest(store, &packed.digest, &a, &m, &e));
	static const char *const expected[] = { "dist",         "dist/assets", "dist/assets/app.js",
						"package.json", "server",      "server/main.js" };
	assert_int_equal(m.entry_count, ARRAY_COUNT(expected));
	for (size_t i = 0; i < m.entry_count; i++)
		assert_true(str_eq_c(m.entries[i].path, expected[i]));
	assert_int_equal(m.folder_count, 3);
	assert_int_equal(pack_with(store, in_root("select"), exclude, 1, include, 3, &packed, &e),
			 ERR_INVALID);
	arena_done(&a);
}

static void check_refused(const char *part)
{
	struct err e;
	struct artifact_packed packed;
	assert_int_equal(pack(store, in_root("refused"), &packed, &e), ERR_INVALID);
	assert_contains(e.message, part);
	assert_ok(io_remove_tree(in_root("refused"), &e));
	put_text("refused/file", "1");
}

static void what_cannot_be_packed_is_refused_by_name(void **state)
{
	(void)state;
	static const char *const outside[] = { "/etc/passwd",  "..",         "../x",
					       "folder/../..", "../refused", "folder/../file" };
	put_text("refused/file", "1");
	for (size_t i = 0; i < ARRAY_COUNT(outside); i++) {
		assert_int_equal(symlink(outside[i], in_root("refused/link")), 0);
		check_refused("refused/link");
	}
	assert_int_equal(mkfifo(in_root("refused/pipe"), 0600), 0);
	check_refused("refused/pipe");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_root("refused/socket"));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	check_refused("refused/socket");
	put_text("refused/latin\xe9", "1");
	check_refused("UTF-8");
	put_text("refused/new\nline", "1");
	check_refused("control");
}

static void hard_links_become_files(void **state)
{
	(void)state;
	struct err e;
	struct artifact_packed packed;
	put_text("hard/a", "same");
	assert_int_equal(link(in_root("hard/a"), in_root("hard/b")), 0);
	assert_ok(pack(store, in_root("hard"), &packed, &e));
	assert_int_equal(packed.file_count, 2);
	assert_int_equal(packed.byte_count, 8);
}

static void a_huge_file_is_refused(void **state)
{
	(void)state;
	struct err e;
	struct artifact_packed packed;
	put_text("huge/a", "1");
	assert_int_equal(truncate(in_root("huge/a"), (off_t)(4ULL << 30) + 1), 0);
	assert_int_equal(pack(store, in_root("huge"), &packed, &e), ERR_LIMIT);
	assert_contains(e.message, "4 GiB");
}

static bool cancelled(void *ctx)
{
	return ++*(int *)ctx > 2;
}

static void cancelling_leaves_nothing(void **state)
{
	(void)state;
	struct err e;
	int asked = 0;
	struct provenance provenance = { .application = STR("shop") };
	struct artifact_packed packed;
	struct artifact_pack options = { .folder = in_root("plain"),
					 .application = STR("shop"),
					 .provenance = &provenance,
					 .cancelled = cancelled,
					 .cancelled_ctx = &asked };
	assert_int_equal(artifact_pack(store, &options, &packed, &e), ERR_CANCELLED);
	assert_int_equal(shell("! ls %s/store | grep -q tmp", fixture_root), 0);
}

static void the_list_finds_and_forgets(void **state)
{
	(void)state;
	struct err e;
	struct artifact_packed packed;
	struct artifact_info *infos;
	struct digest found;
	struct arena a = arena_init(1 << 20);
	size_t before, after;
	char text[DIGEST_TEXT_SIZE];
	assert_ok(artifact_list(store, &a, &infos, &before, &e));
	put_text("listed/a", "listed");
	assert_ok(pack(store, in_root("listed"), &packed, &e));
	assert_ok(artifact_list(store, &a, &infos, &after, &e));
	assert_int_equal(after, before + 1);
	digest_text(&packed.digest, text);
	for (size_t len = 15; len < DIGEST_TEXT_SIZE; len += 7) {
		assert_ok(artifact_find(store, (str){ text, len }, &found, &e));
		assert_true(digest_eq(&found, &packed.digest));
	}
	assert_int_equal(artifact_find(store, STR("sha256:ab"), &found, &e), ERR_INVALID);
	assert_int_equal(artifact_find(store, STR("sha256:../../../x"), &found, &e), ERR_INVALID);
	assert_ok(artifact_remove(store, &packed.digest, &e));
	assert_ok(artifact_remove(store, &packed.digest, &e));
	assert_int_equal(artifact_find(store, str_c(text), &found, &e), ERR_NOT_FOUND);
	assert_int_equal(artifact_verify(store, &packed.digest, &e), ERR_NOT_FOUND);
	assert_int_equal(artifact_unpack(store, &packed.digest, in_root("gone"), &e),
			 ERR_NOT_FOUND);
	arena_done(&a);
}

/* Whatever byte is changed: an error that leaves nothing, or the very same content. */
static void check_unpack_of_tampered(const struct digest *digest, const char *what, size_t at)
{
	struct err e = { .message = "" };
	errc rc = artifact_unpack(store, digest, in_root("tampered-out"), &e);
	assert_int_equal(access(in_root("tampered-out.partial"), F_OK), -1);
	if (rc == OK) {
		struct buf a = get_bytes("tampered-out/a"), b = get_bytes("tampered-out/d/b");
		assert_string_equal(buf_cstr(&a), "first\n");
		assert_string_equal(buf_cstr(&b), "second\n");
		buf_done(&a);
		buf_done(&b);
		assert_ok(io_remove_tree(in_root("tampered-out"), &e));
		return;
	}
	if (rc != ERR_CORRUPT && rc != ERR_FORBIDDEN)
		fail_msg("%s byte %zu: %s", what, at, e.message);
	assert_int_equal(access(in_root("tampered-out"), F_OK), -1);
}

static void tampering_is_always_noticed(void **state)
{
	(void)state;
	static const char *const endings[] = {
		".tar.zst", ".json", ".sig", ".provenance.json", ".provenance.sig", ".sbom.json"
	};
	struct err e;
	struct artifact_packed packed;
	put_text("tampered/a", "first\n");
	put_text("tampered/d/b", "second\n");
	assert_ok(pack(store, in_root("tampered"), &packed, &e));
	for (size_t i = 0; i < ARRAY_COUNT(endings); i++) {
		const char *name = stored(&packed.digest, endings[i]);
		struct buf bytes = get_bytes(name);
		FILE *file = fopen(in_root(name), "r+");
		assert_non_null(file);
		for (size_t at = 0; at < bytes.len; at++) {
			fseek(file, (long)at, SEEK_SET);
			fputc(bytes.ptr[at] ^ (1 << (at % 8)), file);
			fflush(file);
			check_unpack_of_tampered(&packed.digest, endings[i], at);
			if (i != 0 && !(i == 2 || i == 4)) /* a free comment begins a signature */
				assert_int_equal(artifact_verify(store, &packed.digest, &e),
						 ERR_CORRUPT);
			fseek(file, (long)at, SEEK_SET);
			fputc(bytes.ptr[at], file);
			fflush(file);
		}
		for (size_t len = 0; len < bytes.len; len += 7) {
			assert_int_equal(ftruncate(fileno(file), (off_t)len), 0);
			assert_int_not_equal(artifact_verify(store, &packed.digest, &e), OK);
			fseek(file, 0, SEEK_SET);
			fwrite(bytes.ptr, 1, bytes.len, file);
			fflush(file);
		}
		fclose(file);
		assert_ok(artifact_verify(store, &packed.digest, &e));
		assert_int_equal(unlink(in_root(name)), 0);
		errc expected = i == 1 ? ERR_NOT_FOUND : ERR_CORRUPT;
		assert_int_equal(artifact_verify(store, &packed.digest, &e), expected);
		put_bytes(name, buf_str(&bytes), 0600);
		buf_done(&bytes);
	}
}

static void a_damaged_artifact_is_mended_by_packing_again(void **state)
{
	(void)state;
	struct err e;
	struct artifact_packed packed;
	assert_ok(pack(store, in_root("tampered"), &packed, &e));
	put_text(stored(&packed.digest, ".tar.zst"), "nonsense");
	assert_ok(pack(store, in_root("tampered"), &packed, &e));
	assert_false(packed.existed);
	assert_ok(artifact_verify(store, &packed.digest, &e));
}

static void another_artifacts_files_are_refused(void **state)
{
	(void)state;
	struct err e;
	struct artifact_packed one, two;
	assert_ok(pack(store, in_root("tampered"), &one, &e));
	assert_ok(pack(store, in_root("hard"), &two, &e));
	static const char *const endings[] = { ".tar.zst", ".sig", ".provenance.json", ".json" };
	for (size_t i = 0; i < ARRAY_COUNT(endings); i++) {
		struct buf own = get_bytes(stored(&one.digest, endings[i]));
		struct buf foreign = get_bytes(stored(&two.digest, endings[i]));
		put_bytes(stored(&one.digest, endings[i]), buf_str(&foreign), 0600);
		assert_int_equal(artifact_verify(store, &one.digest, &e), ERR_CORRUPT);
		put_bytes(stored(&one.digest, endings[i]), buf_str(&own), 0600);
		buf_done(&own);
		buf_done(&foreign);
	}
	/* a signed manifest is no signature of a provenance */
	struct buf own = get_bytes(stored(&one.digest, ".provenance.sig"));
	struct buf text = get_bytes(stored(&one.digest, ".provenance.json"));
	struct buf manifest = get_bytes(stored(&one.digest, ".json"));
	struct buf signature = get_bytes(stored(&one.digest, ".sig"));
	put_bytes(stored(&one.digest, ".provenance.json"), buf_str(&manifest), 0600);
	put_bytes(stored(&one.digest, ".provenance.sig"), buf_str(&signature), 0600);
	assert_int_equal(artifact_verify(store, &one.digest, &e), ERR_CORRUPT);
	put_bytes(stored(&one.digest, ".provenance.json"), buf_str(&text), 0600);
	put_bytes(stored(&one.digest, ".provenance.sig"), buf_str(&own), 0600);
	buf_done(&own);
	buf_done(&text);
	buf_done(&manifest);
	buf_done(&signature);
	assert_ok(artifact_verify(store, &one.digest, &e));
}

enum { AS_FILE = AE_IFREG, AS_LINK = AE_IFLNK, AS_FOLDER = AE_IFDIR, AS_DEVICE = AE_IFCHR };

static void add_to(struct archive *tar, const char *path, unsigned type, const char *content,
		   const char *hardlink, la_int64_t size)
{
	struct archive_entry *entry = archive_entry_new();
	archive_entry_set_pathname(entry, path);
	archive_entry_set_filetype(entry, type);
	archive_entry_set_perm(entry, type == AS_FOLDER ? 0755 : 0644);
	if (type == AS_LINK)
		archive_entry_set_symlink(entry, content);
	else if (hardlink)
		archive_entry_set_hardlink(entry, hardlink);
	else
		archive_entry_set_size(entry, size >= 0 ? size : (la_int64_t)strlen(content));
	assert_int_equal(archive_write_header(tar, entry), ARCHIVE_OK);
	if (type == AS_FILE && !hardlink)
		archive_write_data(tar, content, strlen(content));
	archive_entry_free(entry);
}

/* The contents of the artifact {a, d/b}, with something evil before, instead or after. */
static void write_evil(const char *path, int kind)
{
	struct archive *tar = archive_write_new();
	archive_write_add_filter_zstd(tar);
	archive_write_set_format_pax_restricted(tar);
	assert_int_equal(archive_write_open_filename(tar, path), ARCHIVE_OK);
	static const struct {
		const char *path;
		unsigned type;
		const char *content;
		const char *hardlink;
		la_int64_t size;
	} evil[] = {
		{ "../x", AS_FILE, "evil", NULL, -1 },
		{ "/tmp/holdfast-evil", AS_FILE, "evil", NULL, -1 },
		{ "a", AS_LINK, "/etc", NULL, -1 },
		{ "a", AS_FILE, "other\n", NULL, -1 },
		{ "a", AS_FILE, "first\n", NULL, (la_int64_t)1 << 26 },
		{ "a", AS_DEVICE, "", NULL, 0 },
		{ "a", AS_FILE, "", "/etc/passwd", -1 },
		{ "./a", AS_FILE, "first\n", NULL, -1 },
		{ "A", AS_FILE, "first\n", NULL, -1 },
		{ "a", AS_FOLDER, "", NULL, 0 },
		{ "d", AS_LINK, "/tmp", NULL, -1 },
	};
	size_t count = ARRAY_COUNT(evil);
	bool before = (size_t)kind < count;
	size_t i = (size_t)kind % count;
	if (before)
		add_to(tar, evil[i].path, evil[i].type, evil[i].content, evil[i].hardlink,
		       evil[i].size);
	if (!before || i == 0 || i == 1)
		add_to(tar, "a", AS_FILE, "first\n", NULL, -1);
	if (!before || i != 10)
		add_to(tar, "d", AS_FOLDER, "", NULL, 0);
	add_to(tar, "d/b", AS_FILE, "second\n", NULL, -1);
	if (!before)
		add_to(tar, evil[i].path, evil[i].type, evil[i].content, evil[i].hardlink,
		       evil[i].size);
	archive_write_close(tar);
	archive_write_free(tar);
}

static void malicious_archives_write_nothing(void **state)
{
	(void)state;
	struct err e;
	struct artifact_packed packed;
	assert_ok(pack(store, in_root("tampered"), &packed, &e));
	for (int kind = 0; kind < 22; kind++) {
		write_evil(in_root(stored(&packed.digest, ".tar.zst")), kind);
		assert_int_equal(artifact_unpack(store, &packed.digest, in_root("evil/out"), &e),
				 ERR_CORRUPT);
		assert_int_equal(artifact_verify(store, &packed.digest, &e), ERR_CORRUPT);
		assert_int_equal(access("/tmp/holdfast-evil", F_OK), -1);
		assert_int_equal(shell("[ -z \"$(ls -A %s/evil)\" ]", fixture_root), 0);
	}
	assert_ok(pack(store, in_root("tampered"), &packed, &e));
}

static int set_up(void **state)
{
	struct err e;
	if (fixture_set_up(state) != 0)
		return -1;
	assert_ok(signing_open(in_root("keys"), &keys, &e));
	assert_ok(artifact_store_open(in_root("store"), keys, &store, &e));
	assert_ok(io_make_dirs(in_root("evil"), 0755, &e));
	return 0;
}

static int tear_down(void **state)
{
	artifact_store_close(store);
	signing_close(keys);
	return fixture_tear_down(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_packed_is_unpacked),
		cmocka_unit_test(other_programs_read_it),
		cmocka_unit_test(the_same_content_gives_the_same_bytes_anywhere),
		cmocka_unit_test(globs_select_with_the_folders_above),
		cmocka_unit_test(what_cannot_be_packed_is_refused_by_name),
		cmocka_unit_test(hard_links_become_files),
		cmocka_unit_test(a_huge_file_is_refused),
		cmocka_unit_test(cancelling_leaves_nothing),
		cmocka_unit_test(the_list_finds_and_forgets),
		cmocka_unit_test(tampering_is_always_noticed),
		cmocka_unit_test(a_damaged_artifact_is_mended_by_packing_again),
		cmocka_unit_test(another_artifacts_files_are_refused),
		cmocka_unit_test(malicious_archives_write_nothing),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
