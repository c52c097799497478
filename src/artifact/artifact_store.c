#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "artifact/artifact_internal.h"
#include "base/checks.h"
#include "os/clock.h"

/* manifest first: it is what makes the artifact exist */
static const char *const endings[] = {
	ARTIFACT_MANIFEST, ARTIFACT_SIGNATURE,       ARTIFACT_PROVENANCE_SIGNATURE,
	ARTIFACT_TAR,      ARTIFACT_PROVENANCE_FILE, ARTIFACT_SBOM_FILE,
};

errc artifact_path(const struct artifact_store *s, const struct digest *digest, const char *ending,
		   char path[IO_PATH_MAX], struct err *e)
{
	char hex[DIGEST_HEX_SIZE];
	if (snprintf(path, IO_PATH_MAX, "%s/sha256-%s%s", s->folder, digest_hex(digest, hex),
		     ending) >= IO_PATH_MAX)
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", s->folder);
	return OK;
}

errc artifact_corrupt(const struct digest *digest, struct err *e)
{
	char text[DIGEST_TEXT_SIZE];
	err_prepend(e, "artifact %s is damaged and will not run; build it again",
		    digest_text(digest, text));
	if (e)
		e->code = ERR_CORRUPT;
	return ERR_CORRUPT;
}

/* `sha256-<hex>ENDING` */
static bool parse_name(const char *name, struct digest *ret_digest, str *ret_ending)
{
	str s = str_c(name);
	size_t len = 7 + DIGEST_HEX_SIZE - 1;
	if (s.len <= len || !str_starts(s, STR("sha256-")) ||
	    !digest_parse_hex((str){ s.ptr + 7, len - 7 }, ret_digest))
		return false;
	*ret_ending = (str){ s.ptr + len, s.len - len };
	return true;
}

bool artifact_exists(const struct artifact_store *s, const struct digest *digest)
{
	char path[IO_PATH_MAX];
	struct stat st;
	return artifact_path(s, digest, ARTIFACT_MANIFEST, path, NULL) == OK &&
	       lstat(path, &st) == 0;
}

errc artifact_remove_files(struct artifact_store *s, const struct digest *digest, struct err *e)
{
	char path[IO_PATH_MAX];
	for (size_t i = 0; i < ARRAY_COUNT(endings); i++) {
		TRY(artifact_path(s, digest, endings[i], path, e));
		if (io->unlink(path) < 0 && errno != ENOENT)
			FAIL_ERRNO(e, "cannot remove %s", path);
		/* the order must hold on the disk too */
		if (i == 0)
			TRY(io_sync_parent(path, e));
	}
	TRY(artifact_forget_unpacked(s, digest, e));
	return io_sync_parent(path, e);
}

/* A file that no whole artifact owns: what an interrupted change left behind. */
static bool is_leftover(const struct artifact_store *s, const char *name)
{
	struct digest digest;
	str ending;
	if (str_ends(str_c(name), STR(ARTIFACT_TEMPORARY)))
		return true;
	if (!parse_name(name, &digest, &ending))
		return false;
	if (str_eq_c(ending, ARTIFACT_UNPACKED ARTIFACT_PARTIAL))
		return true;
	bool ours = str_eq_c(ending, ARTIFACT_UNPACKED);
	for (size_t i = 0; i < ARRAY_COUNT(endings); i++)
		ours = ours || str_eq_c(ending, endings[i]);
	return ours && !artifact_exists(s, &digest);
}

static errc remove_leftovers(struct artifact_store *s, struct err *e)
{
	struct dirent **names = NULL;
	char path[IO_PATH_MAX];
	int count = scandir(s->folder, &names, NULL, alphasort);
	if (count < 0)
		FAIL_ERRNO(e, "cannot list %s", s->folder);
	errc rc = OK;
	for (int i = 0; i < count; i++) {
		if (rc == OK && is_leftover(s, names[i]->d_name)) {
			int n = snprintf(path, sizeof(path), "%s/%s", s->folder, names[i]->d_name);
			if (n < (int)sizeof(path))
				rc = io_remove_tree(path, e);
		}
		free(names[i]);
	}
	free(names);
	return rc;
}

static errc open_folder(struct artifact_store *s, struct err *e)
{
	TRY(io_make_dirs(s->folder, 0700, e));
	s->lock_fd = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->lock_fd < 0)
		FAIL_ERRNO(e, "cannot open the artifact folder %s", s->folder);
	/* Cleaning while somebody packs would take his temporaries away. */
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
		TRY(remove_leftovers(s, e));
	while (flock(s->lock_fd, LOCK_SH) < 0)
		if (errno != EINTR)
			FAIL_ERRNO(e, "cannot lock the artifact folder %s", s->folder);
	return OK;
}

errc artifact_store_open(const char *folder, const struct signing *signing,
			 struct artifact_store **ret_store, struct err *e)
{
	struct artifact_store *s = must_calloc(1, sizeof(*s));
	s->signing = signing;
	s->lock_fd = -1;
	pthread_mutex_init(&s->commit_lock, NULL);
	pthread_mutex_init(&s->unpacked_lock, NULL);
	errc rc = OK;
	if (!str_copy(str_c(folder), s->folder, sizeof(s->folder) - 128))
		rc = err_fill(e, ERR_LIMIT, 0, __FILE__, __LINE__, "the path %.60s… is too long",
			      folder);
	if (rc == OK)
		rc = open_folder(s, e);
	if (rc != OK) {
		artifact_store_close(s);
		return rc;
	}
	*ret_store = s;
	return OK;
}

void artifact_store_close(struct artifact_store *s)
{
	if (!s)
		return;
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	pthread_mutex_destroy(&s->commit_lock);
	pthread_mutex_destroy(&s->unpacked_lock);
	free(s);
}

static void comment_of(const struct digest *digest, const char *kind, struct buf *into)
{
	char text[DIGEST_TEXT_SIZE];
	buf_printf(into, "holdfast %s of %s", kind, digest_text(digest, text));
}

errc artifact_sign(const struct artifact_store *s, const struct digest *digest, const char *kind,
		   str application, str bytes, struct buf *into, struct err *e)
{
	char time[UNIT_TEXT_SIZE];
	struct buf comment CLEANUP(buf_done) = buf_init(SIGNING_COMMENT_MAX);
	comment_of(digest, kind, &comment);
	buf_printf(&comment, " application %.*s at %s", STR_ARG(application),
		   time_format(clock_now(), time));
	TRY(buf_check(&comment, "a trusted comment", e));
	return signing_sign(s->signing, bytes, buf_str(&comment), into, e);
}

errc artifact_check_signature(const struct artifact_store *s, const struct digest *digest,
			      const char *kind, const char *ending, str bytes, struct err *e)
{
	char path[IO_PATH_MAX];
	str comment;
	struct buf file CLEANUP(buf_done) = buf_init(SIGNATURE_FILE_MAX);
	struct buf expected CLEANUP(buf_done) = buf_init(SIGNING_COMMENT_MAX);
	TRY(artifact_path(s, digest, ending, path, e));
	errc rc = io_read_file(path, &file, e);
	if (rc == OK)
		rc = signing_verify(s->signing, bytes, buf_str(&file), &comment, e);
	if (rc != OK)
		return err_prepend(e, "the signature of the %s", kind);
	comment_of(digest, kind, &expected);
	buf_add_byte(&expected, ' ');
	if (!str_starts(comment, buf_str(&expected)))
		FAIL(e, ERR_CORRUPT, "the signature of the %s is about something else: %.*s", kind,
		     STR_ARG(comment));
	return OK;
}

static errc read_manifest(struct artifact_store *s, const struct digest *digest, const char *path,
			  struct arena *into, struct manifest *ret_manifest, struct err *e)
{
	struct buf text CLEANUP(buf_done) = buf_init(MANIFEST_TEXT_MAX);
	TRY(io_read_file(path, &text, e));
	struct digest actual = digest_of(buf_str(&text));
	if (!digest_eq(&actual, digest))
		FAIL(e, ERR_CORRUPT, "the digest of %s is not its name", path);
	TRY(artifact_check_signature(s, digest, "manifest", ARTIFACT_SIGNATURE, buf_str(&text), e));
	return manifest_parse(buf_str(&text), into, ret_manifest, e);
}

errc artifact_manifest(struct artifact_store *s, const struct digest *digest, struct arena *into,
		       struct manifest *ret_manifest, struct err *e)
{
	char path[IO_PATH_MAX], text[DIGEST_TEXT_SIZE];
	TRY(artifact_path(s, digest, ARTIFACT_MANIFEST, path, e));
	if (!artifact_exists(s, digest))
		FAIL(e, ERR_NOT_FOUND, "there is no artifact %s in %s; `holdfast build` makes one",
		     digest_text(digest, text), s->folder);
	errc rc = read_manifest(s, digest, path, into, ret_manifest, e);
	return rc == ERR_CORRUPT || rc == ERR_NOT_FOUND ? artifact_corrupt(digest, e) : rc;
}

static errc read_document(struct artifact_store *s, const struct digest *digest,
			  const struct manifest *m, enum artifact_document which, struct buf *into,
			  struct err *e)
{
	char path[IO_PATH_MAX];
	size_t before = into->len;
	TRY(artifact_path(s, digest,
			  which == ARTIFACT_SBOM ? ARTIFACT_SBOM_FILE : ARTIFACT_PROVENANCE_FILE,
			  path, e));
	TRY(io_read_file(path, into, e));
	str text = { into->ptr ? into->ptr + before : "", into->len - before };
	if (which == ARTIFACT_SBOM) {
		struct digest actual = digest_of(text);
		if (!digest_eq(&actual, &m->sbom))
			FAIL(e, ERR_CORRUPT, "%s is not the one of the manifest", path);
		return OK;
	}
	TRY(artifact_check_signature(s, digest, "provenance", ARTIFACT_PROVENANCE_SIGNATURE, text,
				     e));
	return provenance_check(text, digest, e);
}

errc artifact_document(struct artifact_store *s, const struct digest *digest,
		       enum artifact_document which, struct buf *into, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(ARTIFACT_MANIFEST_ARENA_MAX);
	struct manifest m;
	char text[DIGEST_TEXT_SIZE];
	TRY(artifact_manifest(s, digest, &scratch, &m, e));
	if (which == ARTIFACT_SBOM && !m.has_sbom)
		FAIL(e, ERR_NOT_FOUND, "artifact %s has no bill of materials",
		     digest_text(digest, text));
	size_t before = into->len;
	errc rc = read_document(s, digest, &m, which, into, e);
	if (rc != OK)
		into->len = before;
	return rc == ERR_CORRUPT || rc == ERR_NOT_FOUND ? artifact_corrupt(digest, e) : rc;
}

errc artifact_verify(struct artifact_store *s, const struct digest *digest, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(ARTIFACT_MANIFEST_ARENA_MAX);
	struct buf document CLEANUP(buf_done) = buf_init(ARTIFACT_DOCUMENT_MAX);
	struct manifest m;
	TRY(artifact_manifest(s, digest, &scratch, &m, e));
	TRY(artifact_read_contents(s, digest, &m, NULL, e));
	errc rc = read_document(s, digest, &m, ARTIFACT_PROVENANCE, &document, e);
	buf_clear(&document);
	if (rc == OK && m.has_sbom)
		rc = read_document(s, digest, &m, ARTIFACT_SBOM, &document, e);
	return rc == ERR_CORRUPT || rc == ERR_NOT_FOUND ? artifact_corrupt(digest, e) : rc;
}

static int by_time(const void *a, const void *b)
{
	const struct artifact_info *x = a, *y = b;
	if (x->stored_at != y->stored_at)
		return x->stored_at < y->stored_at ? 1 : -1;
	return memcmp(x->digest.bytes, y->digest.bytes, DIGEST_BYTES);
}

/* The artifact behind a file name; false when the name is none's manifest or it went meanwhile. */
static bool info_of(const struct artifact_store *s, const char *name,
		    struct artifact_info *ret_info)
{
	struct artifact_info info = { 0 };
	char path[IO_PATH_MAX];
	struct stat st;
	str ending;
	if (!parse_name(name, &info.digest, &ending) || !str_eq_c(ending, ARTIFACT_MANIFEST))
		return false;
	if (artifact_path(s, &info.digest, ARTIFACT_MANIFEST, path, NULL) != OK ||
	    lstat(path, &st) < 0)
		return false;
	info.stored_at = (time_ms)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	if (artifact_path(s, &info.digest, ARTIFACT_TAR, path, NULL) == OK && lstat(path, &st) == 0)
		info.packed_byte_count = (uint64_t)st.st_size;
	*ret_info = info;
	return true;
}

errc artifact_list(struct artifact_store *s, struct arena *into, struct artifact_info **ret_infos,
		   size_t *ret_count, struct err *e)
{
	struct dirent **names = NULL;
	int name_count = scandir(s->folder, &names, NULL, alphasort);
	if (name_count < 0)
		FAIL_ERRNO(e, "cannot list %s", s->folder);
	struct artifact_info *infos = arena_array(into, (size_t)name_count, sizeof(*infos));
	size_t count = 0;
	for (int i = 0; i < name_count; i++) {
		if (infos && info_of(s, names[i]->d_name, &infos[count]))
			count++;
		free(names[i]);
	}
	free(names);
	TRY(arena_check(into, "the list of artifacts", e));
	if (count)
		qsort(infos, count, sizeof(*infos), by_time);
	*ret_infos = infos;
	*ret_count = count;
	return OK;
}

errc artifact_find(struct artifact_store *s, str text, struct digest *ret_digest, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(64 << 20);
	struct artifact_info *infos;
	size_t count, match_count = 0;
	struct digest match;
	str digits = str_starts(text, STR("sha256:")) ? (str){ text.ptr + 7, text.len - 7 } : text;
	for (size_t i = 0; i < digits.len; i++)
		if (!memchr("0123456789abcdef", digits.ptr[i], 16))
			digits.len = 0;
	if (digits.len < 8 || digits.len >= DIGEST_HEX_SIZE)
		FAIL(e, ERR_INVALID,
		     "%.*s names no artifact: give `sha256:` and at least 8 digits of the digest",
		     (int)(text.len < 80 ? text.len : 80), text.ptr);
	TRY(artifact_list(s, &scratch, &infos, &count, e));
	for (size_t i = 0; i < count; i++) {
		char hex[DIGEST_HEX_SIZE];
		if (!str_starts(str_c(digest_hex(&infos[i].digest, hex)), digits))
			continue;
		if (match_count++)
			FAIL(e, ERR_CONFLICT, "several artifacts begin with %.*s; give more digits",
			     STR_ARG(digits));
		match = infos[i].digest;
	}
	if (match_count == 0)
		FAIL(e, ERR_NOT_FOUND, "there is no artifact %.*s; `holdfast build` makes one",
		     STR_ARG(text));
	*ret_digest = match;
	return OK;
}

errc artifact_remove(struct artifact_store *s, const struct digest *digest, struct err *e)
{
	pthread_mutex_lock(&s->commit_lock);
	errc rc = artifact_remove_files(s, digest, e);
	pthread_mutex_unlock(&s->commit_lock);
	return rc;
}
