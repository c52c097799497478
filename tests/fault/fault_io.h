/*
 * Fault injection: wraps the vtable `io` (os/io.h) so that the k-th call fails, writes come short,
 * or the machine crashes: what was not synced is lost and the last write is torn.
 *
 * What is read through a mapping (store/part_file.h) is not seen here; that reader reads a block by
 * pread before it touches its mapping.
 *
 * Usage: fault_io_install(); then for k = 1…: fault_io_arm(), run the scenario, and stop when
 * fault_io_fired() is false; fault_io_remove() at the end.
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum fault_call {
	FAULT_OPEN,
	FAULT_READ, /* pread too */
	FAULT_WRITE,
	FAULT_TRUNCATE,
	FAULT_FSYNC, /* fdatasync too */
	FAULT_RENAME,
	FAULT_UNLINK,
	FAULT_MKDIR,
	FAULT_STATVFS,
	FAULT_ANY,
};

struct fault {
	enum fault_call call;
	size_t k;         /* from 1: the k-th such call from now */
	int sys_errno;    /* EIO, ENOSPC */
	bool persistent;  /* every later such call fails too */
	bool short_write; /* a write that is hit writes half before the next one fails */
};

/* Put the wrapper over `io`; ROOT is the folder whose changes a crash may undo. */
void fault_io_install(const char *root);
void fault_io_remove(void);

void fault_io_arm(const struct fault *fault);
void fault_io_disarm(void);
/* Whether the armed fault was met. */
bool fault_io_fired(void);

enum { FAULT_EXIT = 99 };

/*
 * At the K-th changing call from now the machine crashes. The folder is brought to what a disk may
 * hold then, and the process ends with FAULT_EXIT: call it in a forked child. Unsynced bytes are
 * always lost, with the last write torn; unsynced names (created, renamed, removed) are undone when
 * NAMES_LOST and kept when not, as either may happen.
 */
void fault_io_crash_at(size_t k, bool names_lost);
