/*
 * tar + zstd -> folder, or -> nothing when verifying. The archive must hold exactly the manifest's
 * entries in the manifest's order, so nothing in it is believed: every name, type, mode, size and
 * byte is compared with the signed list. Links are made last, so no path can lead through one.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "artifact/artifact_internal.h"
#include "base/checks.h"

struct reader {
	const struct manifest *m;
	const char *root; /* NULL: compare only */
	const char *path; /* of the archive */
	int fd;
	struct archive *tar;
	struct err *e; /* of the read, for the callback */
	errc read_rc;  /* what the callback met */
	char in[65536];
	char chunk[65536];
};

static la_ssize_t on_read(struct archive *tar, void *ctx, const void **ret_bytes)
{
	struct reader *r = ctx;
	ssize_t n;
	do {
		n = io->read(r->fd, r->in, sizeof(r->in));
	} while (n < 0 && errno == EINTR);
	*ret_bytes = r->in;
	if (n < 0) {
		r->read_rc = err_fill_errno(r->e, __FILE__, __LINE__, "cannot read %s", r->path);
		archive_set_error(tar, EIO, "read failed");
	}
	return n;
}

/* What libarchive refused: the system's error where the callback met one, else bad bytes. */
static errc tar_failed(struct reader *r, const char *where, struct err *e)
{
	const char *reason = archive_error_string(r->tar);
	if (r->read_rc != OK)
		return r->read_rc;
	FAIL(e, ERR_CORRUPT, "the packed contents are unreadable %s: %s", where,
	     reason ? reason : "no reason given");
}

static errc open_reader(struct reader *r, struct err *e)
{
	r->fd = io->open(r->path, O_RDONLY | O_NOFOLLOW, 0);
	if (r->fd < 0)
		FAIL_ERRNO(e, "cannot open %s", r->path);
	r->tar = archive_read_new();
	must(r->tar != NULL);
	if (archive_read_support_filter_zstd(r->tar) != ARCHIVE_OK ||
	    archive_read_support_format_tar(r->tar) != ARCHIVE_OK ||
	    archive_read_open(r->tar, r, NULL, on_read, NULL) != ARCHIVE_OK)
		return tar_failed(r, "at the beginning", e);
	return OK;
}

static void close_reader(struct reader *r)
{
	if (r->tar)
		archive_read_free(r->tar);
	io_close(&r->fd);
}

/* A folder's name ends in `/` in a tar. */
static bool same_path(const struct manifest_entry *entry, const char *pathname)
{
	str path = str_c(pathname);
	if (entry->type == MANIFEST_FOLDER && str_ends(path, STR("/")))
		path.len--;
	return str_eq(path, entry->path);
}

static bool same_header(const struct manifest_entry *entry, struct archive_entry *header)
{
	const char *pathname = archive_entry_pathname(header);
	mode_t perm = archive_entry_perm(header);
	if (!pathname || !same_path(entry, pathname) || archive_entry_hardlink(header))
		return false;
	switch (entry->type) {
	case MANIFEST_FILE:
		return archive_entry_filetype(header) == AE_IFREG &&
		       perm == (entry->executable ? 0755 : 0644) &&
		       archive_entry_size_is_set(header) &&
		       archive_entry_size(header) == (la_int64_t)entry->size;
	case MANIFEST_FOLDER:
		return archive_entry_filetype(header) == AE_IFDIR && perm == 0755;
	case MANIFEST_LINK:
		return archive_entry_filetype(header) == AE_IFLNK &&
		       archive_entry_symlink(header) &&
		       str_eq_c(entry->target, archive_entry_symlink(header));
	}
	return false;
}

WARN_UNUSED static errc full_path(const struct reader *r, str path, char full[IO_PATH_MAX],
				  struct err *e)
{
	if (snprintf(full, IO_PATH_MAX, "%s/%.*s", r->root, STR_ARG(path)) >= IO_PATH_MAX)
		FAIL(e, ERR_LIMIT, "a path below %s is too long", r->root);
	return OK;
}

static errc create_file(struct reader *r, const struct manifest_entry *entry,
			char full[IO_PATH_MAX], int *ret_fd, struct err *e)
{
	mode_t mode = entry->executable ? 0755 : 0644;
	TRY(full_path(r, entry->path, full, e));
	int fd = io->open(full, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot create %s", full);
	*ret_fd = fd;
	if (fchmod(fd, mode) < 0) /* whatever the umask */
		FAIL_ERRNO(e, "cannot set the mode of %s", full);
	return OK;
}

static errc read_file(struct reader *r, const struct manifest_entry *entry,
		      struct digest_state *hash, struct err *e)
{
	char full[IO_PATH_MAX];
	int fd CLEANUP(io_close) = -1;
	uint64_t size = 0;
	if (r->root)
		TRY(create_file(r, entry, full, &fd, e));
	digest_state_reset(hash);
	for (;;) {
		la_ssize_t n = archive_read_data(r->tar, r->chunk, sizeof(r->chunk));
		if (n < 0)
			return tar_failed(r, "in a file", e);
		if (n == 0)
			break;
		size += (uint64_t)n;
		if (size > entry->size)
			break;
		digest_state_add(hash, (str){ r->chunk, (size_t)n });
		if (r->root)
			TRY(io_write_all(fd, (str){ r->chunk, (size_t)n }, full, e));
	}
	struct digest actual = digest_state_finish(hash);
	if (size != entry->size || !digest_eq(&actual, &entry->sha256))
		FAIL(e, ERR_CORRUPT, "the bytes are not those of the manifest");
	return OK;
}

static errc make_folder(struct reader *r, str path, struct err *e)
{
	char full[IO_PATH_MAX];
	TRY(full_path(r, path, full, e));
	if (io->mkdir(full, 0755) < 0)
		FAIL_ERRNO(e, "cannot make the folder %s", full);
	if (chmod(full, 0755) < 0)
		FAIL_ERRNO(e, "cannot set the mode of %s", full);
	return OK;
}

static errc read_entry(struct reader *r, const struct manifest_entry *entry,
		       struct digest_state *hash, struct err *e)
{
	struct archive_entry *header;
	int rc = archive_read_next_header(r->tar, &header);
	if (rc == ARCHIVE_EOF)
		FAIL(e, ERR_CORRUPT, "it is missing from the packed contents");
	if (rc != ARCHIVE_OK)
		return tar_failed(r, "at a header", e);
	if (!same_header(entry, header))
		FAIL(e, ERR_CORRUPT, "the packed contents have something else in its place");
	if (entry->type == MANIFEST_FILE)
		return read_file(r, entry, hash, e);
	if (entry->type == MANIFEST_FOLDER && r->root)
		return make_folder(r, entry->path, e);
	return OK;
}

static errc make_links(struct reader *r, struct err *e)
{
	char full[IO_PATH_MAX], target[MANIFEST_PATH_MAX + 1];
	for (size_t i = 0; i < r->m->entry_count; i++) {
		const struct manifest_entry *entry = &r->m->entries[i];
		if (entry->type != MANIFEST_LINK)
			continue;
		TRY(full_path(r, entry->path, full, e));
		must(str_copy(entry->target, target, sizeof(target)));
		if (symlink(target, full) < 0)
			FAIL_ERRNO(e, "cannot make the link %s", full);
	}
	return OK;
}

static errc read_entries(struct reader *r, struct err *e)
{
	struct digest_state hash CLEANUP(digest_state_done) = digest_state_init();
	struct archive_entry *header;
	for (size_t i = 0; i < r->m->entry_count; i++)
		if (read_entry(r, &r->m->entries[i], &hash, e) != OK)
			return err_prepend(e, "%.*s", STR_ARG(r->m->entries[i].path));
	int rc = archive_read_next_header(r->tar, &header);
	if (rc == ARCHIVE_OK)
		FAIL(e, ERR_CORRUPT, "the packed contents hold more than the manifest");
	if (rc != ARCHIVE_EOF)
		return tar_failed(r, "at the end", e);
	return r->root ? make_links(r, e) : OK;
}

errc artifact_read_contents(struct artifact_store *s, const struct digest *digest,
			    const struct manifest *m, const char *root, struct err *e)
{
	char path[IO_PATH_MAX];
	TRY(artifact_path(s, digest, ARTIFACT_TAR, path, e));
	struct reader *r = must_calloc(1, sizeof(*r));
	r->m = m;
	r->root = root;
	r->path = path;
	r->fd = -1;
	r->e = e;
	errc rc = open_reader(r, e);
	bool missing = rc == ERR_NOT_FOUND;
	if (rc == OK)
		rc = read_entries(r, e);
	close_reader(r);
	free(r);
	return rc == ERR_CORRUPT || missing ? artifact_corrupt(digest, e) : rc;
}

static errc unpack_partial(struct artifact_store *s, const struct digest *digest,
			   const struct manifest *m, const char *partial, struct err *e)
{
	TRY(io_remove_tree(partial, e));
	if (io->mkdir(partial, 0755) < 0)
		FAIL_ERRNO(e, "cannot make the folder %s", partial);
	if (chmod(partial, 0755) < 0)
		FAIL_ERRNO(e, "cannot set the mode of %s", partial);
	return artifact_read_contents(s, digest, m, partial, e);
}

errc artifact_unpack_manifest(struct artifact_store *s, const struct digest *digest,
			      const struct manifest *m, const char *destination, struct err *e)
{
	char partial[IO_PATH_MAX];
	struct stat st;
	if (snprintf(partial, sizeof(partial), "%s" ARTIFACT_PARTIAL, destination) >=
	    (int)sizeof(partial))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", destination);
	if (lstat(destination, &st) == 0)
		FAIL(e, ERR_CONFLICT, "%s exists already; remove it or choose another place",
		     destination);
	errc rc = unpack_partial(s, digest, m, partial, e);
	if (rc == OK && io->rename(partial, destination) < 0)
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot rename %s to %s", partial,
				    destination);
	if (rc != OK)
		(void)!io_remove_tree(partial, NULL);
	return rc;
}

errc artifact_unpack(struct artifact_store *s, const struct digest *digest, const char *destination,
		     struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(ARTIFACT_MANIFEST_ARENA_MAX);
	struct manifest m;
	TRY(artifact_manifest(s, digest, &scratch, &m, e));
	return artifact_unpack_manifest(s, digest, &m, destination, e);
}
