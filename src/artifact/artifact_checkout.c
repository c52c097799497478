/*
 * Working copies. An artifact is unpacked once, into FOLDER/sha256-<hex>.unpacked, and every
 * working copy is made of that: by hard links where the caller says that nobody can write through
 * them, else by clones, else by copies. Each file is compared with the signed manifest on the way,
 * so a file that changed under us is noticed, and the artifact is unpacked again.
 *
 * Nothing is synced, for all of it can be made again. That is safe because nothing is believed: the
 * unpacked copy is compared whenever it is used, and a working copy counts only with a mark beside
 * it, made before it got its name, that names the present start of the machine. The mark is a
 * symbolic link, because a link is there with its text or not at all, also after a power cut.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "artifact/artifact_internal.h"
#include "base/checks.h"

struct copying {
	const char *from; /* the unpacked copy */
	const char *to;   /* the working copy, under its temporary name */
	bool link;
	bool fresh;       /* it was unpacked, and so compared, a moment ago */
	bool only_absent; /* what the working copy has already stays */
	bool damaged;     /* FROM is not what the manifest says */
	struct digest_state hash;
	char source[IO_PATH_MAX];
	char target[IO_PATH_MAX];
	char chunk[65536];
};

/* ---- The unpacked copy. */

/* Folders lose their write permission: what is found missing or added was not us. */
static errc seal_folders(const char *root, const struct manifest *m, struct err *e)
{
	char path[IO_PATH_MAX];
	for (size_t i = 0; i < m->entry_count; i++) {
		if (m->entries[i].type != MANIFEST_FOLDER)
			continue;
		int n = snprintf(path, sizeof(path), "%s/%.*s", root, STR_ARG(m->entries[i].path));
		if (n >= (int)sizeof(path) || chmod(path, 0555) < 0)
			FAIL_ERRNO(e, "cannot set the mode of %s", path);
	}
	return OK;
}

static errc make_unpacked(struct artifact_store *s, const struct digest *digest,
			  const struct manifest *m, const char *path, bool *ret_fresh,
			  struct err *e)
{
	struct stat st;
	*ret_fresh = false;
	if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return OK;
	TRY(io_remove_tree(path, e));
	TRY(artifact_unpack_manifest(s, digest, m, path, e));
	*ret_fresh = true;
	return seal_folders(path, m, e);
}

static errc forget_unpacked(struct artifact_store *s, const struct digest *digest, struct err *e)
{
	char path[IO_PATH_MAX];
	TRY(artifact_path(s, digest, ARTIFACT_UNPACKED, path, e));
	return io_remove_tree(path, e);
}

/* ---- One entry. */

static errc damaged(struct copying *c, struct err *e)
{
	c->damaged = true;
	FAIL(e, ERR_CORRUPT, "%s is not what the manifest says", c->source);
}

static bool is_as_said(const struct manifest_entry *entry, const struct stat *st)
{
	return S_ISREG(st->st_mode) && (uint64_t)st->st_size == entry->size &&
	       (st->st_mode & 07777) == (entry->executable ? 0755 : 0644);
}

/* Read IN to its end, compare, and write what is read to OUT unless it is negative. */
static errc read_through(struct copying *c, int in, int out, const struct manifest_entry *entry,
			 struct err *e)
{
	uint64_t size = 0;
	digest_state_reset(&c->hash);
	for (;;) {
		ssize_t n = io->read(in, c->chunk, sizeof(c->chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return damaged(c, e); /* a sector that cannot be read is unpacked again */
		if (n == 0)
			break;
		size += (uint64_t)n;
		if (size > entry->size)
			return damaged(c, e);
		digest_state_add(&c->hash, (str){ c->chunk, (size_t)n });
		if (out >= 0)
			TRY(io_write_all(out, (str){ c->chunk, (size_t)n }, c->target, e));
	}
	struct digest actual = digest_state_finish(&c->hash);
	return size == entry->size && digest_eq(&actual, &entry->sha256) ? OK : damaged(c, e);
}

static errc copy_file(struct copying *c, int in, const struct manifest_entry *entry, struct err *e)
{
	mode_t mode = entry->executable ? 0755 : 0644;
	int out CLEANUP(io_close) = io->open(c->target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
					     mode);
	if (out < 0)
		FAIL_ERRNO(e, "cannot create %s", c->target);
	bool cloned = ioctl(out, FICLONE, in) == 0;
	if (!cloned || !c->fresh)
		TRY(read_through(c, in, cloned ? -1 : out, entry, e));
	if (fchmod(out, mode) < 0) /* whatever the umask */
		FAIL_ERRNO(e, "cannot set the mode of %s", c->target);
	return OK;
}

static errc place_file(struct copying *c, const struct manifest_entry *entry, struct err *e)
{
	struct stat st;
	int in CLEANUP(io_close) = io->open(c->source, O_RDONLY | O_NOFOLLOW, 0);
	if (in < 0 && (errno == ENOENT || errno == ELOOP))
		return damaged(c, e);
	if (in < 0 || fstat(in, &st) < 0)
		FAIL_ERRNO(e, "cannot open %s", c->source);
	if (!is_as_said(entry, &st))
		return damaged(c, e);
	if (!c->link)
		return copy_file(c, in, entry, e);
	if (!c->fresh)
		TRY(read_through(c, in, -1, entry, e));
	if (link(c->source, c->target) == 0)
		return OK;
	/* another file system, or one inode has all the names that it may have */
	if (errno != EXDEV && errno != EMLINK && errno != EPERM)
		FAIL_ERRNO(e, "cannot link %s to %s", c->source, c->target);
	if (lseek(in, 0, SEEK_SET) < 0)
		FAIL_ERRNO(e, "cannot read %s again", c->source);
	return copy_file(c, in, entry, e);
}

static errc place_folder(struct copying *c, struct err *e)
{
	if (io->mkdir(c->target, 0755) < 0)
		FAIL_ERRNO(e, "cannot make the folder %s", c->target);
	if (chmod(c->target, 0755) < 0)
		FAIL_ERRNO(e, "cannot set the mode of %s", c->target);
	return OK;
}

static errc place_link(struct copying *c, const struct manifest_entry *entry, struct err *e)
{
	char text[MANIFEST_PATH_MAX + 1];
	must(str_copy(entry->target, text, sizeof(text)));
	if (symlink(text, c->target) < 0)
		FAIL_ERRNO(e, "cannot make the link %s", c->target);
	return OK;
}

static errc place_entry(struct copying *c, const struct manifest_entry *entry, struct err *e)
{
	struct stat st;
	if (snprintf(c->source, sizeof(c->source), "%s/%.*s", c->from, STR_ARG(entry->path)) >=
		    (int)sizeof(c->source) ||
	    snprintf(c->target, sizeof(c->target), "%s/%.*s", c->to, STR_ARG(entry->path)) >=
		    (int)sizeof(c->target))
		FAIL(e, ERR_LIMIT, "a path below %s is too long", c->to);
	if (c->only_absent && lstat(c->target, &st) == 0)
		return OK;
	switch (entry->type) {
	case MANIFEST_FOLDER:
		return place_folder(c, e);
	case MANIFEST_LINK:
		return place_link(c, entry, e);
	case MANIFEST_FILE:
		break;
	}
	return place_file(c, entry, e);
}

/* ---- All of them. */

/* Links come last, so that no path can lead through one. */
static errc place_all(struct copying *c, const struct manifest *m, struct err *e)
{
	for (int links = 0; links <= 1; links++)
		for (size_t i = 0; i < m->entry_count; i++)
			if ((m->entries[i].type == MANIFEST_LINK) == links)
				TRY(place_entry(c, &m->entries[i], e));
	return OK;
}

static bool is_below(str path, str folder)
{
	return path.len > folder.len && path.ptr[folder.len] == '/' && str_starts(path, folder);
}

/* The files of FOLDER that the working copy lacks, with the folders on their way. Links stay out:
 * what they would lead to may be the other artifact's. */
static errc place_absent(struct copying *c, const struct manifest *m, str folder, struct err *e)
{
	char path[IO_PATH_MAX];
	c->only_absent = true;
	for (size_t i = 0; i < m->entry_count; i++) {
		const struct manifest_entry *entry = &m->entries[i];
		if (entry->type != MANIFEST_FILE || !is_below(entry->path, folder))
			continue;
		int n = snprintf(path, sizeof(path), "%s/%.*s", c->to, STR_ARG(entry->path));
		if (n >= (int)sizeof(path))
			FAIL(e, ERR_LIMIT, "a path below %s is too long", c->to);
		*strrchr(path, '/') = '\0';
		errc rc = io_make_dirs(path, 0755, e);
		if (rc == ERR_CONFLICT) /* the artifact has a file of that name */
			continue;
		TRY(rc);
		TRY(place_entry(c, entry, e));
	}
	return OK;
}

/* From the unpacked copy of DIGEST; FOLDER NULL: all of it. A damaged copy is made anew, once. */
static errc place_artifact(struct artifact_store *s, const struct digest *digest, const char *to,
			   bool link, const str *folder, bool *ret_damaged, struct err *e)
{
	struct arena scratch CLEANUP(arena_done) = arena_init(ARTIFACT_MANIFEST_ARENA_MAX);
	struct manifest m;
	char from[IO_PATH_MAX];
	TRY(artifact_manifest(s, digest, &scratch, &m, e));
	TRY(artifact_path(s, digest, ARTIFACT_UNPACKED, from, e));
	struct copying *c = must_calloc(1, sizeof(*c));
	*c = (struct copying){ .from = from, .to = to, .link = link };
	c->hash = digest_state_init();
	errc rc = make_unpacked(s, digest, &m, from, &c->fresh, e);
	if (rc == OK)
		rc = folder ? place_absent(c, &m, *folder, e) : place_all(c, &m, e);
	*ret_damaged = c->damaged;
	digest_state_done(&c->hash);
	free(c);
	return rc;
}

static errc make_root(const char *path, struct err *e)
{
	TRY(io_remove_tree(path, e));
	if (io->mkdir(path, 0755) < 0)
		FAIL_ERRNO(e, "cannot make the folder %s", path);
	if (chmod(path, 0755) < 0)
		FAIL_ERRNO(e, "cannot set the mode of %s", path);
	return OK;
}

static errc try_fill(struct artifact_store *s, const struct artifact_checkout *how,
		     const char *partial, const struct digest **ret_damaged, struct err *e)
{
	bool is_damaged = false;
	*ret_damaged = NULL;
	TRY(make_root(partial, e));
	errc rc = place_artifact(s, how->artifact, partial, how->link, NULL, &is_damaged, e);
	if (is_damaged)
		*ret_damaged = how->artifact;
	if (rc != OK || !how->carried)
		return rc;
	rc = place_artifact(s, how->carried, partial, how->link, &how->carried_folder, &is_damaged,
			    e);
	if (is_damaged)
		*ret_damaged = how->carried;
	if (rc != OK)
		return err_prepend(e, "the assets of the release before cannot be carried over");
	return OK;
}

/* Two copies can be damaged, each is made anew once. */
static errc fill(struct artifact_store *s, const struct artifact_checkout *how, const char *partial,
		 bool *ret_repaired, struct err *e)
{
	for (int repairs = 0;; repairs++) {
		const struct digest *bad = NULL;
		errc rc = try_fill(s, how, partial, &bad, e);
		if (!bad || repairs == 2)
			return rc;
		TRY(forget_unpacked(s, bad, e));
		*ret_repaired = true;
	}
}

/* ---- The mark: `<start of the machine> <digest whose files were carried, or ->`. */

enum { MARK_MAX = CHECKOUT_START_MAX + 1 + DIGEST_TEXT_SIZE };

static errc mark_path(const char *destination, char path[IO_PATH_MAX], struct err *e)
{
	if (snprintf(path, IO_PATH_MAX, "%s.made", destination) >= IO_PATH_MAX)
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", destination);
	return OK;
}

/* Whether DESTINATION is whole; if not, what had been carried into it, so that it can be again. */
static bool is_whole(const struct artifact_checkout *how, const char *mark, bool *ret_had_carried,
		     struct digest *ret_carried)
{
	char text[MARK_MAX + 1];
	struct stat st;
	str start, rest;
	ssize_t n = readlink(mark, text, sizeof(text));
	*ret_had_carried = false;
	if (n <= 0 || n > MARK_MAX)
		return false;
	rest = (str){ text, (size_t)n };
	if (!str_split(&rest, ' ', &start))
		return false;
	*ret_had_carried = digest_parse(rest, ret_carried);
	return str_eq_c(start, how->start) && lstat(how->destination, &st) == 0;
}

static errc write_mark(const struct artifact_checkout *how, const char *mark, struct err *e)
{
	char text[MARK_MAX + 1], digest[DIGEST_TEXT_SIZE];
	int n = snprintf(text, sizeof(text), "%s %s", how->start,
			 how->carried ? digest_text(how->carried, digest) : "-");
	must(n > 0 && n <= MARK_MAX);
	if (symlink(text, mark) < 0)
		FAIL_ERRNO(e, "cannot make %s", mark);
	return OK;
}

static errc checkout_locked(struct artifact_store *s, const struct artifact_checkout *asked,
			    const char *mark, bool *ret_repaired, struct err *e)
{
	struct artifact_checkout how = *asked;
	struct digest carried;
	bool had_carried = false;
	char partial[IO_PATH_MAX];
	if (is_whole(&how, mark, &had_carried, &carried))
		return OK;
	if (!how.carried && had_carried && artifact_exists(s, &carried))
		how.carried = &carried;
	if (snprintf(partial, sizeof(partial), "%s.partial", how.destination) >=
	    (int)sizeof(partial))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", how.destination);
	errc rc = fill(s, &how, partial, ret_repaired, e);
	if (rc == OK)
		rc = artifact_checkout_remove(how.destination, e);
	if (rc == OK)
		rc = write_mark(&how, mark, e);
	if (rc == OK && io->rename(partial, how.destination) < 0)
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot rename %s to %s", partial,
				    how.destination);
	if (rc != OK)
		(void)!io_remove_tree(partial, NULL);
	return rc;
}

errc artifact_checkout(struct artifact_store *s, const struct artifact_checkout *how,
		       bool *ret_repaired, struct err *e)
{
	char mark[IO_PATH_MAX];
	struct digest carried;
	bool had_carried;
	must(strlen(how->start) <= CHECKOUT_START_MAX);
	*ret_repaired = false;
	TRY(mark_path(how->destination, mark, e));
	/* an instance that starts again need not wait until some other artifact is unpacked */
	if (is_whole(how, mark, &had_carried, &carried))
		return OK;
	pthread_mutex_lock(&s->unpacked_lock);
	errc rc = checkout_locked(s, how, mark, ret_repaired, e);
	pthread_mutex_unlock(&s->unpacked_lock);
	return rc;
}

errc artifact_checkout_remove(const char *destination, struct err *e)
{
	char mark[IO_PATH_MAX];
	TRY(mark_path(destination, mark, e));
	/* first, so that what is half removed is not taken for whole */
	if (unlink(mark) < 0 && errno != ENOENT)
		FAIL_ERRNO(e, "cannot remove %s", mark);
	return io_remove_tree(destination, e);
}

errc artifact_forget_unpacked(struct artifact_store *s, const struct digest *digest, struct err *e)
{
	pthread_mutex_lock(&s->unpacked_lock);
	errc rc = forget_unpacked(s, digest, e);
	pthread_mutex_unlock(&s->unpacked_lock);
	return rc;
}
