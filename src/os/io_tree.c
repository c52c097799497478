/* Whole folders: removing, giving away, copying. Links are handled as links, never followed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/io.h"

enum { REMOVE_DEPTH_MAX = 256, REMOVE_TRIES = 5 };

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static errc remove_at(int parent, const char *name, const char *shown, int depth, struct err *e);

/* Open a folder to be emptied, whatever its mode; never through a link. */
static int open_to_empty(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0) {
		fchmod(fd, 0700); /* a folder without write permission still has to go */
		return fd;
	}
	if (errno != EACCES)
		return -1;
	/* an unreadable one can be named by descriptor alone, and changed only through /proc */
	int place CLEANUP(io_close) = openat(parent, name,
					     O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char link[64];
	if (place < 0)
		return -1;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", place);
	if (chmod(link, 0700) < 0)
		return -1;
	return openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static errc remove_contents(DIR *dir, const char *shown, int depth, struct err *e)
{
	rewinddir(dir);
	for (struct dirent *d; (d = readdir(dir));)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			TRY(remove_at(dirfd(dir), d->d_name, shown, depth + 1, e));
	return OK;
}

/* Relative to an open folder, so that a swapped link cannot lead the removal elsewhere. */
static errc remove_at(int parent, const char *name, const char *shown, int depth, struct err *e)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return OK;
	int unlink_errno = errno;
	if (errno != EISDIR && errno != EPERM)
		FAIL_ERRNO(e, "cannot remove %s (in %s)", name, shown);
	if (depth > REMOVE_DEPTH_MAX)
		FAIL(e, ERR_LIMIT, "%s is nested too deeply to remove", shown);
	int fd = open_to_empty(parent, name);
	if (fd < 0 && errno == ENOTDIR) {
		errno = unlink_errno;
		FAIL_ERRNO(e, "cannot remove %s (in %s)", name, shown);
	}
	if (fd < 0)
		FAIL_ERRNO(e, "cannot open the folder %s (in %s)", name, shown);
	DIR *dir CLEANUP(close_dir) = fdopendir(fd);
	must(dir != NULL);
	/* a listing may miss what moves while it is emptied, and a dying process may still write */
	for (int tries = 1;; tries++) {
		TRY(remove_contents(dir, shown, depth, e));
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return OK;
		if (errno != ENOTEMPTY || tries == REMOVE_TRIES)
			FAIL_ERRNO(e, "cannot remove the folder %s (in %s)", name, shown);
	}
}

errc io_remove_tree(const char *path, struct err *e)
{
	return remove_at(AT_FDCWD, path, path, 0, e);
}

struct chown_ctx {
	const char *root;
	uid_t uid;
	gid_t gid;
};

static errc chown_one(const char *path, uid_t uid, gid_t gid, struct err *e)
{
	if (lchown(path, uid, gid) < 0)
		FAIL_ERRNO(e, "cannot give %s to user %u", path, uid);
	return OK;
}

static errc chown_visit(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk,
			struct err *e)
{
	const struct chown_ctx *c = ctx;
	char full[IO_PATH_MAX];
	*ret_walk = IO_WALK_INTO;
	snprintf(full, sizeof(full), "%s/%s", c->root, entry->path);
	return chown_one(full, c->uid, c->gid, e);
}

errc io_chown_tree(const char *path, uid_t uid, gid_t gid, struct err *e)
{
	struct chown_ctx c = { path, uid, gid };
	TRY(chown_one(path, uid, gid, e));
	struct stat st;
	if (lstat(path, &st) < 0)
		FAIL_ERRNO(e, "cannot stat %s", path);
	return S_ISDIR(st.st_mode) ? io_walk(path, chown_visit, &c, e) : OK;
}

struct copy_ctx {
	const char *from;
	const char *to;
	bool link;
};

static errc copy_stream(int in, int out, const char *from, const char *to, struct err *e)
{
	char chunk[65536];
	for (;;) {
		ssize_t n = io->read(in, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			FAIL_ERRNO(e, "cannot read %s", from);
		if (n == 0)
			return OK;
		TRY(io_write_all(out, (str){ chunk, (size_t)n }, to, e));
	}
}

static errc copy_bytes(const char *from, const char *to, mode_t mode, struct err *e)
{
	int in CLEANUP(io_close) = io->open(from, O_RDONLY | O_NOFOLLOW, 0);
	if (in < 0)
		FAIL_ERRNO(e, "cannot open %s", from);
	int out CLEANUP(io_close) = io->open(to, O_WRONLY | O_CREAT | O_EXCL, mode & 0777);
	if (out < 0)
		FAIL_ERRNO(e, "cannot create %s", to);
	if (ioctl(out, FICLONE, in) < 0)
		TRY(copy_stream(in, out, from, to, e));
	/* the mode given to open() was cut by the umask */
	if (fchmod(out, mode & 0777) < 0)
		FAIL_ERRNO(e, "cannot set the mode of %s", to);
	return OK;
}

static errc copy_entry(const char *from, const char *to, const struct stat *st, bool link_files,
		       struct err *e)
{
	if (S_ISDIR(st->st_mode)) {
		mode_t mode = (st->st_mode & 0777) | 0700;
		if (io->mkdir(to, mode) < 0) {
			if (errno == EEXIST)
				return OK;
			FAIL_ERRNO(e, "cannot make the folder %s", to);
		}
		/* the mode given to mkdir() was cut by the umask */
		if (chmod(to, mode) < 0)
			FAIL_ERRNO(e, "cannot set the mode of %s", to);
		return OK;
	}
	if (S_ISLNK(st->st_mode)) {
		char target[IO_PATH_MAX];
		ssize_t n = readlink(from, target, sizeof(target) - 1);
		if (n < 0)
			FAIL_ERRNO(e, "cannot read the link %s", from);
		target[n] = '\0';
		if (symlink(target, to) < 0)
			FAIL_ERRNO(e, "cannot make the link %s", to);
		return OK;
	}
	if (!S_ISREG(st->st_mode))
		FAIL(e, ERR_INVALID,
		     "%s is neither a file nor a folder nor a link; remove it or exclude it", from);
	if (link_files && link(from, to) == 0)
		return OK;
	return copy_bytes(from, to, st->st_mode, e);
}

static errc copy_visit(void *ctx, const struct io_entry *entry, enum io_walk *ret_walk,
		       struct err *e)
{
	const struct copy_ctx *c = ctx;
	char from[IO_PATH_MAX], to[IO_PATH_MAX];
	*ret_walk = IO_WALK_INTO;
	snprintf(from, sizeof(from), "%s/%s", c->from, entry->path);
	if (snprintf(to, sizeof(to), "%s/%s", c->to, entry->path) >= (int)sizeof(to))
		FAIL(e, ERR_LIMIT, "a path below %s is too long", c->to);
	return copy_entry(from, to, &entry->st, c->link, e);
}

errc io_copy_tree(const char *from, const char *to, bool link_files, struct err *e)
{
	struct copy_ctx c = { from, to, link_files };
	struct stat st;
	if (lstat(from, &st) < 0)
		FAIL_ERRNO(e, "cannot stat %s", from);
	TRY(copy_entry(from, to, &st, link_files, e));
	return S_ISDIR(st.st_mode) ? io_walk(from, copy_visit, &c, e) : OK;
}
