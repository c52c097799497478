/*
 * Folder -> tar -> zstd -> temporary file, then its documents, then the manifest. The bytes depend
 * on the manifest's contents alone: no times, no owners, one order, one compression level.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "artifact/artifact_internal.h"
#include "base/checks.h"
#include "os/clock.h"

/* part of the format: another level gives other bytes (not another digest) */
enum { ZSTD_LEVEL = 6 };

struct packer {
	const struct artifact_pack *pack;
	const char *path; /* of the temporary file */
	int fd;
	struct archive *tar;
	ZSTD_CCtx *zstd;
	uint64_t packed_byte_count;
	struct err *e; /* of the pack, for the callback */
	bool closing;  /* what libarchive still writes is of no interest */
	errc write_rc; /* what the callback met */
	char out[65536];
	char chunk[65536];
};

static errc compress(struct packer *p, const void *bytes, size_t len, ZSTD_EndDirective end,
		     struct err *e)
{
	ZSTD_inBuffer in = { bytes, len, 0 };
	size_t left;
	do {
		ZSTD_outBuffer out = { p->out, sizeof(p->out), 0 };
		left = ZSTD_compressStream2(p->zstd, &out, &in, end);
		if (ZSTD_isError(left))
			FAIL(e, ERR_INTERNAL, "zstd cannot compress: %s", ZSTD_getErrorName(left));
		TRY(io_write_all(p->fd, (str){ p->out, out.pos }, p->path, e));
		p->packed_byte_count += out.pos;
	} while (end == ZSTD_e_end ? left != 0 : in.pos < in.size);
	return OK;
}

/*
 * libarchive hears of no failure: it would leak (3.6.2) where it cannot close in peace. The first
 * one is kept, what follows is dropped, and check_tar() tells.
 */
static la_ssize_t on_write(struct archive *tar, void *ctx, const void *bytes, size_t len)
{
	struct packer *p = ctx;
	(void)tar;
	if (p->write_rc == OK && !p->closing)
		p->write_rc = compress(p, bytes, len, ZSTD_e_continue, p->e);
	return (la_ssize_t)len;
}

/* What came of a call of libarchive: our own error where writing met one. */
static errc check_tar(struct packer *p, bool done, str path, struct err *e)
{
	if (p->write_rc != OK)
		return p->write_rc;
	if (done)
		return OK;
	FAIL(e, ERR_INTERNAL, "cannot put %.*s into the archive: %s", STR_ARG(path),
	     archive_error_string(p->tar));
}

static errc open_packer(struct packer *p, struct err *e)
{
	p->fd = io->open(p->path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (p->fd < 0)
		FAIL_ERRNO(e, "cannot create %s", p->path);
	p->zstd = ZSTD_createCCtx();
	p->tar = archive_write_new();
	must(p->zstd != NULL && p->tar != NULL);
	ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
	ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_checksumFlag, 1);
	/* raw names: neither the locale nor Unicode normalization may change them */
	bool opened = archive_write_set_format_pax_restricted(p->tar) == ARCHIVE_OK &&
		      archive_write_set_options(p->tar, "hdrcharset=BINARY") == ARCHIVE_OK &&
		      archive_write_set_bytes_per_block(p->tar, ARTIFACT_TAR_BLOCK) == ARCHIVE_OK &&
		      archive_write_set_bytes_in_last_block(p->tar, ARTIFACT_TAR_BLOCK) ==
			      ARCHIVE_OK &&
		      archive_write_open(p->tar, p, NULL, on_write, NULL) == ARCHIVE_OK;
	return check_tar(p, opened, STR("the header"), e);
}

static void close_packer(struct packer *p)
{
	p->closing = true;
	if (p->tar)
		archive_write_free(p->tar);
	ZSTD_freeCCtx(p->zstd);
	io_close(&p->fd);
}

static errc write_header(struct packer *p, const struct manifest_entry *entry, struct err *e)
{
	char path[MANIFEST_PATH_MAX + 1], target[MANIFEST_PATH_MAX + 1];
	struct archive_entry *header = archive_entry_new();
	must(header != NULL);
	must(str_copy(entry->path, path, sizeof(path)));
	archive_entry_set_pathname(header, path);
	archive_entry_set_mtime(header, 0, 0);
	archive_entry_set_uid(header, 0);
	archive_entry_set_gid(header, 0);
	switch (entry->type) {
	case MANIFEST_FILE:
		archive_entry_set_filetype(header, AE_IFREG);
		archive_entry_set_perm(header, entry->executable ? 0755 : 0644);
		archive_entry_set_size(header, (la_int64_t)entry->size);
		break;
	case MANIFEST_FOLDER:
		archive_entry_set_filetype(header, AE_IFDIR);
		archive_entry_set_perm(header, 0755);
		break;
	case MANIFEST_LINK:
		must(str_copy(entry->target, target, sizeof(target)));
		archive_entry_set_filetype(header, AE_IFLNK);
		archive_entry_set_perm(header, 0777);
		archive_entry_set_symlink(header, target);
		break;
	}
	int rc = archive_write_header(p->tar, header);
	archive_entry_free(header);
	return check_tar(p, rc == ARCHIVE_OK, entry->path, e);
}

static errc open_source(const struct packer *p, const struct manifest_entry *entry,
			char path[IO_PATH_MAX], int *ret_fd, struct err *e)
{
	struct stat st;
	snprintf(path, IO_PATH_MAX, "%s/%.*s", p->pack->folder, STR_ARG(entry->path));
	int fd = io->open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot open %s", path);
	*ret_fd = fd; /* the caller closes it, whatever we find */
	if (fstat(fd, &st) < 0)
		FAIL_ERRNO(e, "cannot stat %s", path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != entry->size)
		FAIL(e, ERR_CONFLICT, "%s changed while it was packed; build again", path);
	return OK;
}

static errc pack_file(struct packer *p, struct manifest_entry *entry, struct digest_state *hash,
		      struct err *e)
{
	char path[IO_PATH_MAX];
	int fd CLEANUP(io_close) = -1;
	TRY(open_source(p, entry, path, &fd, e));
	TRY(write_header(p, entry, e));
	digest_state_reset(hash);
	uint64_t size = 0;
	for (;;) {
		ssize_t n = io->read(fd, p->chunk, sizeof(p->chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			FAIL_ERRNO(e, "cannot read %s", path);
		if (n == 0)
			break;
		size += (uint64_t)n;
		if (size > entry->size)
			break;
		digest_state_add(hash, (str){ p->chunk, (size_t)n });
		la_ssize_t written = archive_write_data(p->tar, p->chunk, (size_t)n);
		TRY(check_tar(p, written == n, entry->path, e));
	}
	if (size != entry->size)
		FAIL(e, ERR_CONFLICT, "%s changed while it was packed; build again", path);
	entry->sha256 = digest_state_finish(hash);
	return OK;
}

/* The contents in order; the digests of the files go into the entries. */
static errc pack_entries(struct packer *p, struct manifest_entry *entries, size_t count,
			 struct err *e)
{
	struct digest_state hash CLEANUP(digest_state_done) = digest_state_init();
	for (size_t i = 0; i < count; i++) {
		if (p->pack->cancelled && p->pack->cancelled(p->pack->cancelled_ctx))
			FAIL(e, ERR_CANCELLED, "packing was cancelled");
		if (entries[i].type == MANIFEST_FILE)
			TRY(pack_file(p, &entries[i], &hash, e));
		else
			TRY(write_header(p, &entries[i], e));
	}
	int closed = archive_write_close(p->tar);
	TRY(check_tar(p, closed == ARCHIVE_OK, STR("the end"), e));
	TRY(compress(p, NULL, 0, ZSTD_e_end, e));
	if (io->fsync(p->fd) < 0)
		FAIL_ERRNO(e, "cannot sync %s", p->path);
	return OK;
}

static errc pack_contents(const struct artifact_pack *pack, const char *path, struct manifest *m,
			  uint64_t *ret_packed_byte_count, struct err *e)
{
	struct packer *p = must_calloc(1, sizeof(*p));
	p->pack = pack;
	p->path = path;
	p->fd = -1;
	p->e = e;
	errc rc = open_packer(p, e);
	if (rc == OK)
		rc = pack_entries(p, (struct manifest_entry *)m->entries, m->entry_count, e);
	if (rc == OK)
		*ret_packed_byte_count = p->packed_byte_count;
	close_packer(p);
	free(p);
	return rc;
}

static errc put_document(struct artifact_store *s, const struct digest *digest, const char *ending,
			 str bytes, struct err *e)
{
	char path[IO_PATH_MAX];
	TRY(artifact_path(s, digest, ending, path, e));
	return io_write_file(path, bytes, 0600, e);
}

static errc put_signed(struct artifact_store *s, const struct digest *digest, const char *kind,
		       const char *ending, str application, str bytes, struct err *e)
{
	struct buf signature CLEANUP(buf_done) = buf_init(SIGNATURE_FILE_MAX);
	TRY(artifact_sign(s, digest, kind, application, bytes, &signature, e));
	return put_document(s, digest, ending, buf_str(&signature), e);
}

/* Everything under its name, the manifest last. */
static errc commit(struct artifact_store *s, const struct artifact_pack *pack,
		   const struct digest *digest, const char *temporary, str manifest, struct err *e)
{
	char path[IO_PATH_MAX];
	struct buf provenance CLEANUP(buf_done) = buf_init(PROVENANCE_TEXT_MAX);
	TRY(provenance_write(pack->provenance, digest, &provenance, e));
	TRY(artifact_path(s, digest, ARTIFACT_TAR, path, e));
	if (io->rename(temporary, path) < 0)
		FAIL_ERRNO(e, "cannot rename %s to %s", temporary, path);
	TRY(put_document(s, digest, ARTIFACT_PROVENANCE_FILE, buf_str(&provenance), e));
	TRY(put_signed(s, digest, "provenance", ARTIFACT_PROVENANCE_SIGNATURE, pack->application,
		       buf_str(&provenance), e));
	if (pack->sbom.len)
		TRY(put_document(s, digest, ARTIFACT_SBOM_FILE, pack->sbom, e));
	TRY(put_signed(s, digest, "manifest", ARTIFACT_SIGNATURE, pack->application, manifest, e));
	return put_document(s, digest, ARTIFACT_MANIFEST, manifest, e);
}

/* Keep the artifact that is there if it is whole, else put this one in its place. */
static errc commit_or_keep(struct artifact_store *s, const struct artifact_pack *pack,
			   const struct digest *digest, const char *temporary, str manifest,
			   bool *ret_existed, struct err *e)
{
	pthread_mutex_lock(&s->commit_lock);
	bool existed = artifact_verify(s, digest, NULL) == OK;
	errc rc = OK;
	if (!existed) {
		rc = artifact_remove_files(s, digest, e);
		if (rc == OK)
			rc = commit(s, pack, digest, temporary, manifest, e);
		if (rc != OK)
			(void)!artifact_remove_files(s, digest, NULL); /* the next open retries */
	}
	pthread_mutex_unlock(&s->commit_lock);
	if (rc == OK)
		*ret_existed = existed;
	return rc;
}

static errc pack_into(struct artifact_store *s, const struct artifact_pack *pack,
		      const char *temporary, struct artifact_packed *ret_packed, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(ARTIFACT_MANIFEST_ARENA_MAX);
	struct buf text CLEANUP(buf_done) = buf_init(MANIFEST_TEXT_MAX);
	struct artifact_packed packed = { 0 };
	struct manifest m;
	TRY(artifact_select(pack, &scratch, &m, e));
	m.has_sbom = pack->sbom.len != 0;
	if (m.has_sbom)
		m.sbom = digest_of(pack->sbom);
	TRY(manifest_check(&m, e));
	TRY(pack_contents(pack, temporary, &m, &packed.packed_byte_count, e));
	manifest_write(&m, &text);
	TRY(buf_check(&text, "the manifest", e));
	packed.digest = digest_of(buf_str(&text));
	packed.file_count = m.file_count;
	packed.byte_count = m.byte_count;
	TRY(commit_or_keep(s, pack, &packed.digest, temporary, buf_str(&text), &packed.existed, e));
	*ret_packed = packed;
	return OK;
}

errc artifact_pack(struct artifact_store *s, const struct artifact_pack *pack,
		   struct artifact_packed *ret_packed, struct err *e)
{
	char temporary[IO_PATH_MAX], tag[17];
	entropy_hex(tag, 16);
	if (snprintf(temporary, sizeof(temporary), "%s/pack-%s" ARTIFACT_TEMPORARY, s->folder,
		     tag) >= (int)sizeof(temporary))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", s->folder);
	if (pack->sbom.len > ARTIFACT_DOCUMENT_MAX)
		FAIL(e, ERR_LIMIT, "the bill of materials is larger than %d bytes",
		     ARTIFACT_DOCUMENT_MAX);
	errc rc = pack_into(s, pack, temporary, ret_packed, e);
	io->unlink(temporary); /* renamed away when it became an artifact */
	return rc;
}
