/*
 * Free space of the file system an engine lives on: read-only before it is full, and back by
 * itself.
 *
 * Units: bytes that an unprivileged process may still use.
 * Threads: disk_watch_check() from one, the rest from any.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct disk_watch {
	char folder[4096];
	int64_t reserve_bytes; /* as asked for; 0: by the disk's size */
	int64_t limit_bytes;   /* atomic: what counts */
	int64_t free_bytes;    /* atomic */
	int64_t size_bytes;    /* atomic */
	bool read_only;        /* atomic */
};

/* RESERVE_BYTES 0: 5 % of the disk, at most 2 GiB. Looks once. Errors: ERR_LIMIT for a path too
 * long, ERR_IO, ERR_NOT_FOUND. */
WARN_UNUSED errc disk_watch_init(struct disk_watch *d, const char *folder, int64_t reserve_bytes,
				 struct err *e);
/* Look again (about once a second, and after ENOSPC). Read-only begins below the reserve and ends
 * above 1.2 times the reserve. Errors: ERR_IO; nothing changes then. Cost: one system call. */
WARN_UNUSED errc disk_watch_check(struct disk_watch *d, struct err *e);
bool disk_watch_is_read_only(const struct disk_watch *d);
int64_t disk_watch_free(const struct disk_watch *d);
int64_t disk_watch_reserve(const struct disk_watch *d);
/* OK, or ERR_UNAVAILABLE with a message that says how much is free, how much is kept and what to
 * do.
 */
WARN_UNUSED errc disk_watch_writable(const struct disk_watch *d, struct err *e);
/* Whether BYTES more (a merge's output) fit above the reserve. */
bool disk_watch_has_room(const struct disk_watch *d, uint64_t bytes);
