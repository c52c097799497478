#include "fault_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/io.h"

/*
 * The crash model. A journal keeps, for every change of a name since its folder was last synced,
 * how to undo it: a removed or replaced file is kept as a hard link in a side folder. A file's
 * bytes are durable up to the length it had at its last fsync.
 */
enum undo_type { UNDO_CREATE, UNDO_UNLINK, UNDO_RENAME, UNDO_MKDIR };

struct undo {
	enum undo_type type;
	char path[PATH_MAX]; /* the name that changed */
	char from[PATH_MAX]; /* rename: the old name */
	char kept[PATH_MAX]; /* the file that was there before; empty: none */
	struct undo *next;   /* earlier */
};

struct written {
	char path[PATH_MAX]; /* follows renames */
	int fd;              /* -1 once closed */
	off_t synced;        /* bytes that are safe */
	off_t last;          /* where the last write began */
	struct written *next;
};

static struct {
	const struct io_ops *below;
	char root[PATH_MAX - 64];
	struct fault fault;
	bool armed, fired;
	size_t calls;
	bool tracking, names_lost;
	size_t crash_at, change_count;
	struct undo *undos;
	struct written *files;
	size_t kept_count;
} f;

static void kept_folder(char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s.kept", f.root);
}

static bool below_root(const char *path)
{
	size_t len = strlen(f.root);
	return strncmp(path, f.root, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Whether this call of KIND fails, errno set. */
static bool hit(enum fault_call call)
{
	if (!f.armed || (f.fault.call != call && f.fault.call != FAULT_ANY))
		return false;
	f.calls++;
	if (f.calls != f.fault.k && !(f.fault.persistent && f.calls > f.fault.k))
		return false;
	f.fired = true;
	errno = f.fault.sys_errno;
	return true;
}

static void remember(enum undo_type type, const char *path, const char *from)
{
	struct undo *u = must_calloc(1, sizeof(*u));
	char folder[PATH_MAX];
	u->type = type;
	snprintf(u->path, sizeof(u->path), "%s", path);
	snprintf(u->from, sizeof(u->from), "%s", from ? from : "");
	if (type == UNDO_UNLINK || type == UNDO_RENAME) {
		kept_folder(folder);
		snprintf(u->kept, sizeof(u->kept), "%.*s/%zu", PATH_MAX - 32, folder,
			 f.kept_count++);
		if (link(path, u->kept) < 0)
			u->kept[0] = '\0';
	}
	u->next = f.undos;
	f.undos = u;
}

static struct written *file_of(int fd)
{
	for (struct written *w = f.files; w; w = w->next)
		if (w->fd == fd)
			return w;
	return NULL;
}

static void undo(const struct undo *u)
{
	struct err e = { .code = OK };
	switch (u->type) {
	case UNDO_CREATE:
		unlink(u->path);
		break;
	case UNDO_MKDIR:
		must(io_remove_tree(u->path, &e) == OK);
		break;
	case UNDO_UNLINK:
		if (u->kept[0])
			must(link(u->kept, u->path) == 0 || errno == EEXIST);
		break;
	case UNDO_RENAME:
		if (rename(u->path, u->from) == 0 && u->kept[0])
			must(link(u->kept, u->path) == 0 || errno == EEXIST);
		break;
	}
}

static _Noreturn void crash(void)
{
	/* bytes first: the names still lead to them */
	for (struct written *w = f.files; w; w = w->next) {
		struct stat st;
		if (stat(w->path, &st) == 0 && st.st_size > w->synced) {
			off_t torn = w->last > w->synced ? w->last : w->synced;
			must(truncate(w->path, torn + (st.st_size - torn) / 2) == 0);
		}
	}
	for (struct undo *u = f.undos; u && f.names_lost; u = u->next)
		undo(u);
	_exit(FAULT_EXIT);
}

/* Every call that changes the disk comes through here first. */
static void before_change(void)
{
	if (f.tracking && ++f.change_count == f.crash_at)
		crash();
}

static int fault_open(const char *path, int flags, mode_t mode)
{
	bool create = flags & O_CREAT;
	if (hit(FAULT_OPEN))
		return -1;
	if (create)
		before_change();
	bool is_new = create && access(path, F_OK) < 0;
	int fd = f.below->open(path, flags, mode);
	if (fd < 0 || !f.tracking || (flags & O_ACCMODE) == O_RDONLY || !below_root(path))
		return fd;
	if (is_new)
		remember(UNDO_CREATE, path, NULL);
	struct written *w = must_calloc(1, sizeof(*w));
	snprintf(w->path, sizeof(w->path), "%s", path);
	w->fd = fd;
	w->synced = w->last = is_new ? 0 : lseek(fd, 0, SEEK_END);
	w->next = f.files;
	f.files = w;
	return fd;
}

static ssize_t fault_read(int fd, void *bytes, size_t len)
{
	return hit(FAULT_READ) ? -1 : f.below->read(fd, bytes, len);
}

static ssize_t fault_pread(int fd, void *bytes, size_t len, off_t offset)
{
	return hit(FAULT_READ) ? -1 : f.below->pread(fd, bytes, len, offset);
}

static ssize_t fault_write(int fd, const void *bytes, size_t len)
{
	struct written *w = file_of(fd);
	if (hit(FAULT_WRITE)) {
		int failure = errno;
		if (f.fault.short_write && len > 1)
			(void)!f.below->write(fd, bytes, len / 2);
		errno = failure;
		return -1;
	}
	before_change();
	if (w)
		w->last = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
	return f.below->write(fd, bytes, len);
}

/* What is cut off is lost at once; a crash does not bring it back. */
static int fault_ftruncate(int fd, off_t len)
{
	struct written *w = file_of(fd);
	if (hit(FAULT_TRUNCATE))
		return -1;
	before_change();
	if (w && w->synced > len)
		w->synced = len;
	if (w && w->last > len)
		w->last = len;
	return f.below->ftruncate(fd, len);
}

/* The names in FOLDER are on the disk now. */
static void forget_names(const char *folder)
{
	size_t len = strlen(folder);
	for (struct undo **at = &f.undos; *at;) {
		struct undo *u = *at;
		const char *slash = strrchr(u->path, '/');
		if (slash && (size_t)(slash - u->path) == len && !strncmp(u->path, folder, len)) {
			if (u->kept[0])
				unlink(u->kept);
			*at = u->next;
			free(u);
		} else {
			at = &u->next;
		}
	}
}

static void synced(int fd)
{
	char link_path[64], path[PATH_MAX];
	struct written *w = file_of(fd);
	if (w) {
		struct stat st;
		must(fstat(fd, &st) == 0);
		w->synced = w->last = st.st_size;
		return;
	}
	snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link_path, path, sizeof(path) - 1);
	if (n < 0)
		return;
	path[n] = '\0';
	forget_names(path);
}

static int fault_fsync(int fd)
{
	if (hit(FAULT_FSYNC))
		return -1;
	before_change();
	if (f.tracking)
		synced(fd);
	return f.below->fsync(fd);
}

static int fault_fdatasync(int fd)
{
	if (hit(FAULT_FSYNC))
		return -1;
	before_change();
	if (f.tracking)
		synced(fd);
	return f.below->fdatasync(fd);
}

static void forget_all(void)
{
	while (f.undos) {
		struct undo *u = f.undos;
		f.undos = u->next;
		if (u->kept[0])
			unlink(u->kept);
		free(u);
	}
	while (f.files) {
		struct written *w = f.files;
		f.files = w->next;
		free(w);
	}
}

static int fault_close(int fd)
{
	struct written *w = file_of(fd);
	if (w)
		w->fd = -1;
	return f.below->close(fd);
}

/* A file that PATH no longer leads to; another may get that name. */
static void forget_file(const char *path)
{
	for (struct written *w = f.files; w; w = w->next)
		if (strcmp(w->path, path) == 0)
			w->path[0] = '\0';
}

static void follow_rename(const char *from, const char *to)
{
	size_t len = strlen(from);
	for (struct written *w = f.files; w; w = w->next) {
		char path[PATH_MAX];
		if (strncmp(w->path, from, len) != 0 || (w->path[len] && w->path[len] != '/'))
			continue;
		snprintf(path, sizeof(path), "%s%s", to, w->path + len);
		memcpy(w->path, path, sizeof(path));
	}
}

static int fault_rename(const char *from, const char *to)
{
	if (hit(FAULT_RENAME))
		return -1;
	before_change();
	if (f.tracking && below_root(to)) {
		remember(UNDO_RENAME, to, from);
		forget_file(to);
		follow_rename(from, to);
	}
	return f.below->rename(from, to);
}

static int fault_unlink(const char *path)
{
	if (hit(FAULT_UNLINK))
		return -1;
	before_change();
	if (f.tracking && below_root(path) && access(path, F_OK) == 0) {
		remember(UNDO_UNLINK, path, NULL);
		forget_file(path);
	}
	return f.below->unlink(path);
}

static int fault_mkdir(const char *path, mode_t mode)
{
	if (hit(FAULT_MKDIR))
		return -1;
	before_change();
	int rc = f.below->mkdir(path, mode);
	if (rc == 0 && f.tracking && below_root(path))
		remember(UNDO_MKDIR, path, NULL);
	return rc;
}

static int fault_statvfs(const char *path, struct statvfs *st)
{
	return hit(FAULT_STATVFS) ? -1 : f.below->statvfs(path, st);
}

static const struct io_ops faulty = {
	.open = fault_open,
	.read = fault_read,
	.pread = fault_pread,
	.write = fault_write,
	.ftruncate = fault_ftruncate,
	.fsync = fault_fsync,
	.fdatasync = fault_fdatasync,
	.close = fault_close,
	.rename = fault_rename,
	.unlink = fault_unlink,
	.mkdir = fault_mkdir,
	.statvfs = fault_statvfs,
};

void fault_io_install(const char *root)
{
	must(io != &faulty);
	f.below = io;
	char full[PATH_MAX];
	must(realpath(root, full) != NULL && strlen(full) < sizeof(f.root));
	memcpy(f.root, full, strlen(full) + 1);
	io = &faulty;
}

void fault_io_remove(void)
{
	char folder[PATH_MAX];
	forget_all();
	kept_folder(folder);
	(void)!io_remove_tree(folder, NULL);
	io = f.below;
	memset(&f, 0, sizeof(f));
}

void fault_io_arm(const struct fault *fault)
{
	f.fault = *fault;
	f.armed = true;
	f.fired = false;
	f.calls = 0;
}

void fault_io_disarm(void)
{
	f.armed = false;
}

bool fault_io_fired(void)
{
	return f.fired;
}

void fault_io_crash_at(size_t k, bool names_lost)
{
	char folder[PATH_MAX];
	kept_folder(folder);
	mkdir(folder, 0700);
	forget_all();
	f.tracking = true;
	f.names_lost = names_lost;
	f.change_count = 0;
	f.crash_at = k;
}
