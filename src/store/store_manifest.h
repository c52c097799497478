/*
 * The manifest: which parts live, and a small state of the engine with them (the log position up to
 * which they hold everything, counters, tombstones), replaced as one.
 *
 * Durable: when store_manifest_commit() is OK; before that the previous one counts. A crash in
 *   between leaves the one or the other.
 * Shape: files MANIFEST-<generation> in the folder of the parts; the newest that checks counts, and
 *   the one before it is kept as fallback.
 * Order of a flush or merge: part_writer_finish() → store_manifest_commit() with the new list →
 *   part_file_doom() the replaced parts → wal_truncate().
 * At open: part files that the manifest does not name, and temporary files, are leftovers of a
 * crash and removed. Other files are left alone. Parts named but missing are reported, not an
 * error. When the newest manifest is bad, the one before it counts (the bad one is moved to
 *   quarantine/ by the next commit) and nothing is removed: the unnamed part files are listed as
 * orphans, for they may be what replaced the missing ones. The engine adopts those it can read, or
 * gives them to quarantine_move(). Threads: one at a time (the engine's own lock). Limits: below.
 * Format: docs/format/store.md.
 */
#pragma once

#include "base/arena.h"
#include "store/part_file.h"

enum {
	STORE_MANIFEST_PARTS_MAX = 65536,
	STORE_MANIFEST_STATE_MAX = 1 << 20,
	STORE_MANIFEST_NOTE_MAX = 1024, /* bytes of a part's note */
	STORE_MANIFEST_ENGINE_MAX = 15,
};

struct store_manifest_part {
	str name;       /* of the file */
	uint64_t bytes; /* of the file */
	str note;       /* the engine's: time range, counts */
};

/* What a manifest says. */
struct store_manifest_content {
	str state; /* the engine's */
	const struct store_manifest_part *parts;
	size_t part_count;
};

/* What was found at open. */
struct store_manifest_found {
	uint64_t generation; /* 0: there was none, the store is new */
	struct store_manifest_content content;
	const bool *missing; /* one a part: the file is not there, or not of its size */
	size_t missing_count;
	bool fell_back;     /* the newest manifest was bad */
	const str *orphans; /* unnamed part files that were kept because of that */
	size_t orphan_count;
	size_t removed_count; /* leftovers */
};

struct store_manifest;

/*
 * Read the manifest of FOLDER (made when missing, mode 0700) and clear leftovers. Strings in
 * RET_FOUND live in ARENA. A missing or short part, a bad manifest: on the QUARANTINE list (may be
 * NULL), never an error; when no manifest can be read but there are some, all part files are
 * orphans.
 * Errors: ERR_CONFLICT when it is another engine's or of a newer version; ERR_IO when the folder
 * or a manifest cannot be read (its bytes may be good: nothing is undone because of a failing
 * call); ERR_LIMIT of ARENA.
 */
WARN_UNUSED errc store_manifest_open(const char *folder, const char *engine,
				     struct quarantine *quarantine, struct arena *arena,
				     struct store_manifest_found *ret_found,
				     struct store_manifest **ret_manifest, struct err *e);
/* Accepts NULL. */
void store_manifest_close(struct store_manifest *m);
/* Replace the manifest by CONTENT. Errors: ERR_LIMIT, ERR_INVALID (a name twice, or no name),
 * ERR_IO. After ERR_IO either may count at the next open: until a later commit is OK, keep the
 * files of both (do not doom what this one left out) and do not truncate the log. */
WARN_UNUSED errc store_manifest_commit(struct store_manifest *m,
				       const struct store_manifest_content *content, struct err *e);
/* Of the last commit that was OK. */
uint64_t store_manifest_generation(const struct store_manifest *m);

/* As open, but changes nothing, for a doctor. */
WARN_UNUSED errc store_manifest_scan(const char *folder, const char *engine,
				     struct quarantine *quarantine, struct arena *arena,
				     struct store_manifest_found *ret_found, struct err *e);

/* The bytes of one manifest file, for readers of files from elsewhere (backup, fuzzing). Errors:
 * ERR_CORRUPT, ERR_CONFLICT, ERR_LIMIT of ARENA. */
WARN_UNUSED errc store_manifest_decode(str bytes, const char *engine, struct arena *arena,
				       uint64_t *ret_generation,
				       struct store_manifest_content *ret_content, struct err *e);
