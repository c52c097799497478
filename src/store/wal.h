/*
 * Write-ahead log: batches of records in segment files. A batch is one atomic group: after recovery
 * all of it is there, or nothing.
 *
 * Order: every group has a sequence number, from 1, without gaps. A position in the log is the
 *   sequence of the group that comes next: what an engine stores in its manifest with what it
 *   flushed (wal_next() taken when the head was swapped), gives to wal_truncate() once that is
 *   durable, and to wal_open() at the next start. It does not depend on where groups lie, because
 *   a group may be written again into a later segment (below).
 * Durable: wal_append() returns after write(2): survives kill -9. wal_sync() makes everything
 *   appended so far survive a power cut; who uses the log calls it when wal_sync_due_ms() says 0.
 *   With `sync_always` an append waits for it; one fsync serves all who wait.
 * Failed calls: a failed write is cut off again and, unless the disk was only full, the segment is
 *   left and a new one begun. After a failed fsync nobody knows what the page cache still holds
 *   (the kernel may call the pages clean and forget them), so the bytes of every group are kept in
 *   memory until they are synced; the segment is left, and they are written to a fresh segment and
 *   synced there. Only when that fails too does the caller get the error; the bytes stay, appends
 *   fail until a new segment can be written, and the next append or sync tries again by itself.
 * Bad bytes: a group whose bytes are bad is left out, alone: reading goes on at the next header
 * that checks. The span is counted and put on the quarantine list, and the segment, when truncation
 *   would unlink it, is moved to quarantine/ instead. A torn tail (a crash, a failed write) is
 *   no error: it is cut, and counted in the report.
 * Threads: any. Append copies and checksums outside the lock; the lock is held for one write(2).
 * Limits: WAL_GROUP_BYTES_MAX a group, `bytes_max` in all, `unsynced_bytes_max` in memory.
 * Format: docs/format/store.md.
 */
#pragma once

#include "base/units.h"
#include "store/quarantine.h"

struct wal;

enum { WAL_GROUP_BYTES_MAX = 64 << 20, WAL_ENGINE_MAX = 16, WAL_SYNC_DUE_MS = 200 };

struct wal_record {
	uint8_t type; /* the engine's; not 0 */
	str bytes;
};

struct wal_options {
	const char *folder;            /* made when missing, mode 0700; nothing else lives in it */
	const char *engine;            /* `metrics`: a log of another engine is refused */
	struct quarantine *quarantine; /* may be NULL; outlives the log */
	/* 0 takes the default in brackets */
	uint64_t segment_bytes;      /* [64 MiB] a new file is begun past it */
	uint64_t bytes_max;          /* [1 GiB] of all segments; appends past it are ERR_BUSY */
	uint64_t unsynced_bytes_max; /* [32 MiB] an append past it syncs before it returns */
	bool sync_always;
};

/* One group as replay sees it. */
struct wal_group {
	uint64_t sequence;
	const uint8_t *next, *end; /* for wal_group_record() */
};

/* The next record of a group, in the order appended; false at the end. Its bytes begin at an
 * address divisible by 8. Valid until: the replay function returns. */
bool wal_group_record(struct wal_group *group, struct wal_record *ret_record);

/* Called once a group, ascending. A failure ends the replay and is what wal_open() returns. */
typedef errc wal_replay_fn(void *ctx, struct wal_group *group, struct err *e);

/* What recovery met. */
struct wal_report {
	uint64_t segment_count, bytes; /* read */
	uint64_t group_count;          /* replayed */
	uint64_t skipped_count;        /* before FROM */
	uint64_t repeated_count; /* copies that a failed sync left behind: seen once already */
	uint64_t bad_span_count, bad_bytes; /* corrupt; on the quarantine list */
	uint64_t lost_count;                /* groups missing by their sequence */
	uint64_t torn_bytes;                /* after the last whole group of a segment; no error */
	uint64_t next;                      /* the position after the last group */
};

/*
 * Recover the log in options->folder and make it ready to append: REPLAY (may be NULL) gets every
 * whole group from position FROM on (0 or 1: all). Bad bytes never make it fail. Nothing on disk
 * changes: a new segment is begun by the first append.
 * Errors: what REPLAY returned; ERR_IO when the folder cannot be listed, a segment not be opened,
 * or the last one or a header not be read (that is no bad bytes: the next try may go well);
 * ERR_CONFLICT when it is the log of another engine or of a newer version.
 */
WARN_UNUSED errc wal_open(const struct wal_options *options, uint64_t from, wal_replay_fn *replay,
			  void *ctx, struct wal_report *ret_report, struct wal **ret_wal,
			  struct err *e);
/* The same reading, for a doctor: opens nothing for writing. RET_REPORT is filled on failure too.
 */
WARN_UNUSED errc wal_scan(const struct wal_options *options, uint64_t from, wal_replay_fn *replay,
			  void *ctx, struct wal_report *ret_report, struct err *e);
/* Sync what is not yet, and let go; an error of that is returned, the log is closed all the same.
 * Accepts NULL. */
errc wal_close(struct wal *w, struct err *e);

/*
 * Append COUNT ≥ 1 records as one group. RET_SEQUENCE may be NULL.
 * Errors: nothing of the group will be replayed after ERR_LIMIT (the group is larger than
 * WAL_GROUP_BYTES_MAX), ERR_BUSY (the log is at bytes_max: flush, then wal_truncate()), ERR_IO of a
 * write (sys_errno says which; ENOSPC passes when there is space again). After ERR_IO of a sync
 * (`sync_always`, or unsynced_bytes_max reached) the group may or may not be replayed: it is in the
 * log, in memory, and *ret_sequence is set.
 */
WARN_UNUSED errc wal_append(struct wal *w, const struct wal_record *records, size_t count,
			    uint64_t *ret_sequence, struct err *e);

/* The position after everything appended so far. */
uint64_t wal_next(struct wal *w);
/* Make everything appended before the call durable. Cost: nothing when it is already. Errors:
 * ERR_IO; it stays due. */
WARN_UNUSED errc wal_sync(struct wal *w, struct err *e);
/* Milliseconds until wal_sync() is due: WAL_SYNC_DUE_MS after the oldest unsynced append; 0 when
 * that is past, INT64_MAX when all is synced. Cost: no lock. */
int64_t wal_sync_due_ms(struct wal *w);
/* Unlink the segments whose groups all come before POSITION (those not synced yet: at their sync).
 * Crash safe: what remains is skipped by wal_open(). Errors: ERR_IO of an unlink; it is tried again
 * at the next truncation. */
WARN_UNUSED errc wal_truncate(struct wal *w, uint64_t position, struct err *e);

struct wal_stats {
	uint64_t segment_count, bytes; /* on disk now */
	uint64_t next, synced;         /* positions */
	uint64_t unsynced_bytes;       /* written, not synced */
	uint64_t memory_bytes;         /* held for that */
	uint64_t append_count, append_bytes, sync_count;
	uint64_t write_failed_count, sync_failed_count; /* calls */
	bool failing; /* groups wait in memory for a segment that can be written */
};
void wal_stats(struct wal *w, struct wal_stats *ret_stats);
