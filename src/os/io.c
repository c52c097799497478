#include "os/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/clock.h"

static int linux_open(const char *path, int flags, mode_t mode)
{
	return open(path, flags | O_CLOEXEC, mode);
}

const struct io_ops io_linux = {
	.open = linux_open,
	.read = read,
	.pread = pread,
	.write = write,
	.ftruncate = ftruncate,
	.fsync = fsync,
	.fdatasync = fdatasync,
	.close = close,
	.rename = rename,
	.unlink = unlink,
	.mkdir = mkdir,
	.statvfs = statvfs,
};

const struct io_ops *io = &io_linux;

void io_close(int *fd)
{
	if (*fd >= 0)
		io->close(*fd);
	*fd = -1;
}

errc io_read_file(const char *path, struct buf *into, struct err *e)
{
	int fd CLEANUP(io_close) = io->open(path, O_RDONLY, 0);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot open %s", path);
	for (;;) {
		size_t room = into->cap - into->len;
		size_t want = room < 65536 ? room + 1 : 65536;
		char chunk[65536];
		ssize_t n = io->read(fd, chunk, want < sizeof(chunk) ? want : sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			FAIL_ERRNO(e, "cannot read %s", path);
		if (n == 0)
			return OK;
		buf_add(into, (str){ chunk, (size_t)n });
		TRY(buf_check(into, path, e));
	}
}

errc io_write_all(int fd, str bytes, const char *path, struct err *e)
{
	while (bytes.len) {
		ssize_t n = io->write(fd, bytes.ptr, bytes.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENOSPC; /* no progress and no reason given */
		if (n <= 0)
			FAIL_ERRNO(e, "cannot write %s", path);
		bytes = (str){ bytes.ptr + n, bytes.len - (size_t)n };
	}
	return OK;
}

errc io_sync_parent(const char *path, struct err *e)
{
	char parent[IO_PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 1;
	if (!str_copy((str){ slash ? path : ".", len ? len : 1 }, parent, sizeof(parent)))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", path);
	int fd CLEANUP(io_close) = io->open(parent, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot open the folder %s", parent);
	if (io->fsync(fd) < 0)
		FAIL_ERRNO(e, "cannot sync the folder %s", parent);
	return OK;
}

static errc write_and_sync(const char *path, str bytes, mode_t mode, struct err *e)
{
	int fd CLEANUP(io_close) = io->open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
	if (fd < 0)
		FAIL_ERRNO(e, "cannot create %s", path);
	TRY(io_write_all(fd, bytes, path, e));
	if (io->fsync(fd) < 0)
		FAIL_ERRNO(e, "cannot sync %s", path);
	return OK;
}

errc io_write_file(const char *path, str bytes, mode_t mode, struct err *e)
{
	char temporary[IO_PATH_MAX], tag[9];
	entropy_hex(tag, 8);
	int n = snprintf(temporary, sizeof(temporary), "%s.%s.tmp", path, tag);
	if (n < 0 || (size_t)n >= sizeof(temporary))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", path);
	errc rc = write_and_sync(temporary, bytes, mode, e);
	if (rc == OK && io->rename(temporary, path) < 0)
		rc = err_fill_errno(e, __FILE__, __LINE__, "cannot rename %s to %s", temporary,
				    path);
	if (rc != OK) {
		io->unlink(temporary);
		return rc;
	}
	return io_sync_parent(path, e);
}

errc io_make_dirs(const char *path, mode_t mode, struct err *e)
{
	char part[IO_PATH_MAX];
	if (!str_copy(str_c(path), part, sizeof(part)))
		FAIL(e, ERR_LIMIT, "the path %.60s… is too long", path);
	for (char *c = part + (part[0] == '/');; c++) {
		if (*c != '/' && *c != '\0')
			continue;
		char kept = *c;
		*c = '\0';
		if (io->mkdir(part, mode) < 0) {
			struct stat st;
			if (errno != EEXIST)
				FAIL_ERRNO(e, "cannot make the folder %s", part);
			if (stat(part, &st) < 0)
				FAIL_ERRNO(e, "cannot use %s as a folder", part);
			if (!S_ISDIR(st.st_mode))
				FAIL(e, ERR_CONFLICT,
				     "cannot make the folder %s: a file of that name is there; "
				     "remove or rename it",
				     part);
		}
		if (kept == '\0')
			return OK;
		*c = kept;
	}
}

enum { WALK_ENTRIES_MAX = 1000000, WALK_DEPTH_MAX = 64 };

struct walk {
	const char *root;
	errc (*visit)(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk,
		      struct err *e);
	void *ctx;
	struct buf path; /* relative */
	size_t entry_count;
};

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static errc walk_dir(struct walk *w, int depth, struct err *e);

static errc walk_entry(struct walk *w, const char *name, int depth, struct err *e)
{
	size_t len_before = w->path.len;
	if (++w->entry_count > WALK_ENTRIES_MAX)
		FAIL(e, ERR_LIMIT, "%s holds more than %d files", w->root, WALK_ENTRIES_MAX);
	if (len_before)
		buf_add_byte(&w->path, '/');
	buf_add_c(&w->path, name);
	TRY(buf_check(&w->path, "a path", e));
	char full[IO_PATH_MAX];
	if (snprintf(full, sizeof(full), "%s/%s", w->root, buf_cstr(&w->path)) >= (int)sizeof(full))
		FAIL(e, ERR_LIMIT, "a path below %s is too long", w->root);
	struct io_entry entry = { .path = buf_cstr(&w->path) };
	if (lstat(full, &entry.st) < 0)
		FAIL_ERRNO(e, "cannot stat %s", full);
	enum io_walk walk = IO_WALK_INTO;
	TRY(w->visit(w->ctx, &entry, &walk, e));
	if (S_ISDIR(entry.st.st_mode) && walk == IO_WALK_INTO)
		TRY(walk_dir(w, depth + 1, e));
	w->path.len = len_before;
	if (w->path.ptr)
		w->path.ptr[len_before] = '\0';
	return OK;
}

static errc walk_dir(struct walk *w, int depth, struct err *e)
{
	char full[IO_PATH_MAX];
	if (depth > WALK_DEPTH_MAX)
		FAIL(e, ERR_LIMIT, "%s is nested deeper than %d folders", w->root, WALK_DEPTH_MAX);
	if (snprintf(full, sizeof(full), "%s/%s", w->root, buf_cstr(&w->path)) >= (int)sizeof(full))
		FAIL(e, ERR_LIMIT, "a path below %s is too long", w->root);
	struct dirent **names = NULL;
	int count = scandir(full, &names, not_dots, by_name);
	if (count < 0)
		FAIL_ERRNO(e, "cannot list %s", full);
	errc rc = OK;
	for (int i = 0; i < count; i++) {
		if (rc == OK)
			rc = walk_entry(w, names[i]->d_name, depth, e);
		free(names[i]);
	}
	free(names);
	return rc;
}

errc io_walk(const char *root,
	     errc (*visit)(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk,
			   struct err *e),
	     void *ctx, struct err *e)
{
	struct walk w = { .root = root, .visit = visit, .ctx = ctx, .path = buf_init(IO_PATH_MAX) };
	errc rc = walk_dir(&w, 0, e);
	buf_done(&w.path);
	return rc;
}
