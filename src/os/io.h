/*
 * Files, as a vtable over the system calls and what is built on it. Everything that must survive a
 * crash goes through here, so that tests can let the k-th call fail or tear a write.
 *
 * Errors: messages name the path; ENOENT is ERR_NOT_FOUND, the rest ERR_IO unless said otherwise.
 */
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/units.h"

/* The system calls; each returns and sets errno as its namesake. */
struct io_ops {
	int (*open)(const char *path, int flags, mode_t mode);
	ssize_t (*read)(int fd, void *bytes, size_t len);
	ssize_t (*pread)(int fd, void *bytes, size_t len, off_t offset);
	ssize_t (*write)(int fd, const void *bytes, size_t len);
	int (*ftruncate)(int fd, off_t len);
	int (*fsync)(int fd);
	int (*fdatasync)(int fd);
	int (*close)(int fd);
	int (*rename)(const char *from, const char *to);
	int (*unlink)(const char *path);
	int (*mkdir)(const char *path, mode_t mode);
	int (*statvfs)(const char *path, struct statvfs *st);
};

extern const struct io_ops io_linux;
/* What every function below calls; io_linux unless a fault test put its own there. */
extern const struct io_ops *io;

enum { IO_PATH_MAX = 4096 };

/* `cleanup` helper: closes *FD when it is ≥ 0. */
void io_close(int *fd);

/* Whole file into BUF (appended); ERR_LIMIT past the buf's cap. */
WARN_UNUSED errc io_read_file(const char *path, struct buf *into, struct err *e);
WARN_UNUSED errc io_write_all(int fd, str bytes, const char *path, struct err *e);

/* Replace PATH by BYTES: temporary file, fsync, rename, fsync of the folder. Durable: when OK. */
WARN_UNUSED errc io_write_file(const char *path, str bytes, mode_t mode, struct err *e);
/* fsync the folder that holds PATH, after a rename or unlink. */
WARN_UNUSED errc io_sync_parent(const char *path, struct err *e);

/* mkdir -p; existing folders are kept as they are. Errors: ERR_CONFLICT when a file is in the way.
 */
WARN_UNUSED errc io_make_dirs(const char *path, mode_t mode, struct err *e);
/* rm -rf that never follows a symbolic link; a missing PATH is OK. */
WARN_UNUSED errc io_remove_tree(const char *path, struct err *e);
/* chown -R without following symbolic links. */
WARN_UNUSED errc io_chown_tree(const char *path, uid_t uid, gid_t gid, struct err *e);
/* Copy a folder or file: permissions and symbolic links kept (a folder stays writable to its
 * owner), hard links instead of copies where LINK is set. Errors: ERR_INVALID for sockets and
 * devices. */
WARN_UNUSED errc io_copy_tree(const char *from, const char *to, bool link, struct err *e);

/* One entry of a walk. */
struct io_entry {
	const char *path; /* relative to the root, `/` between names */
	struct stat st;   /* of the link itself */
};

/* What a walk does with a folder's contents. */
enum io_walk { IO_WALK_INTO, IO_WALK_SKIP };

/*
 * Visit every entry below ROOT depth first, names in byte order, a folder before its contents.
 * VISIT may skip a folder by *ret_walk = IO_WALK_SKIP. Symbolic links are reported, never followed.
 * Limits: 1,000,000 entries and 64 levels, else ERR_LIMIT.
 */
WARN_UNUSED errc io_walk(const char *root,
			 errc (*visit)(void *ctx, const struct io_entry *entry,
				       enum io_walk *ret_walk, struct err *e),
			 void *ctx, struct err *e);
