/*
 * Parts: immutable files of checksummed blocks. Written once, in order, under a temporary name;
 * whole when they have their name.
 *
 * Durable: when part_writer_finish() is OK (file synced, renamed, folder synced). The part belongs
 *   to the engine only once the manifest names it; what it does not name is removed at open.
 * Shape: a block is what is checked and read at once. It costs 8 bytes in the file and 16 in
 * memory, so put many small things into one: 4–64 KiB is what this is made for. Blocks begin at
 * multiples of 8. The table of blocks and META (the engine's own footer: small) are written twice,
 * and read whole at open; large indexes go into blocks. Reading: by mmap, without a copy. The size
 * is checked against the footer before anything is mapped. A block's first use in each open reads
 * it by pread(2) (through `io`, so that tests can make it fail) and checks its CRC; a bitmap
 * remembers. A bad sector therefore meets us as EIO of a system call, is put on the quarantine list
 * and never touched by the mapping. What remains: a sector that goes bad after it was checked and
 * is then evicted ends the process by SIGBUS; the restarted process meets it at its first read, as
 * above. So does truncation by somebody else. Bad blocks: ERR_CORRUPT naming file and offset,
 * counted, listed once; again ERR_CORRUPT at every later use, without reading. Callers skip them
 * and serve the rest. Threads: a writer belongs to one; an open part to any, each holding a
 * reference. Format: docs/format/store.md.
 */
#pragma once

#include "base/buf.h"
#include "store/quarantine.h"

enum {
	PART_KIND_MAX = 15, /* bytes of a kind's name */
	PART_NAME_MAX = 63, /* bytes of a file name */
	PART_BLOCK_BYTES_MAX = 16 << 20,
	PART_BLOCK_COUNT_MAX = 4 << 20,
	PART_META_BYTES_MAX = 4 << 20,
	PART_SLACK_BYTES = 64, /* readable after the end of every mapped block */
};

/* ---- Writing. */

struct part_writer;

struct part_writer_options {
	const char *folder; /* is there */
	const char *name; /* `….part`: what the manifest will say; unique for ever (a counter) */
	const char *kind; /* what the engine's own format in the blocks is: `metrics.raw` */
	uint32_t kind_version;
};

/* Owns: end with part_writer_free(), after part_writer_finish() too. Errors: ERR_INVALID for a name
 * that is no plain file name ending in `.part`, ERR_IO. */
WARN_UNUSED errc part_writer_new(const struct part_writer_options *options,
				 struct part_writer **ret_writer, struct err *e);
/* Removes the temporary file of what was not finished. Accepts NULL. */
void part_writer_free(struct part_writer *w);
/* Append a block; RET_INDEX (may be NULL) is what part_block() takes: 0, 1, 2 … BYTES may be empty.
 * Errors: ERR_LIMIT, ERR_IO; then the writer only takes part_writer_free(). */
WARN_UNUSED errc part_writer_block(struct part_writer *w, str bytes, uint32_t *ret_index,
				   struct err *e);
/* The same block from pieces, without joining them first. */
WARN_UNUSED errc part_writer_blockv(struct part_writer *w, const str *pieces, size_t piece_count,
				    uint32_t *ret_index, struct err *e);
/* Bytes of the file so far. */
uint64_t part_writer_bytes(const struct part_writer *w);
uint32_t part_writer_block_count(const struct part_writer *w);
/* Write META and the table, sync, rename into place, sync the folder. RET_BYTES (may be NULL): size
 * of the file. Errors: as part_writer_block(); the name is not there then, or is removed by the
 * next open because no manifest names it. */
WARN_UNUSED errc part_writer_finish(struct part_writer *w, str meta, uint64_t *ret_bytes,
				    struct err *e);

/* ---- Reading. */

struct part_file;

/*
 * Open FOLDER/NAME with one reference. Errors: ERR_NOT_FOUND; ERR_CORRUPT when neither copy of the
 * table can be used (put on the quarantine list; the file is left where it is); ERR_CONFLICT when
 * it is of another KIND or of a newer version; ERR_IO, also when a read failed and no copy of the
 * table was found for that: the file may be good.
 */
WARN_UNUSED errc part_file_open(const char *folder, const char *name, const char *kind,
				struct quarantine *quarantine, struct part_file **ret_part,
				struct err *e);
/* One more user; returns P. */
struct part_file *part_file_ref(struct part_file *p);
/* One user fewer; the last one closes it, and unlinks it when it was doomed. Accepts NULL. */
void part_file_unref(struct part_file *p);
/*
 * The manifest no longer names it: unlink the file when the last user leaves. Call it after the
 * manifest was committed, then drop the engine's own reference. A crash in between leaves the file
 * to store_manifest_open(), which removes what is not named.
 */
void part_file_doom(struct part_file *p);

const char *part_file_name(const struct part_file *p);
uint32_t part_file_kind_version(const struct part_file *p);
uint64_t part_file_bytes(const struct part_file *p);
uint32_t part_block_count(const struct part_file *p);
/* The engine's footer. Valid until: the last part_file_unref(). */
str part_file_meta(const struct part_file *p);
/* One of the two tables was bad: rewrite the part (merge it) when there is time. */
bool part_file_is_damaged(const struct part_file *p);
/* A read of it failed (not: gave bad bytes). What was not found in it may be there all the same. */
bool part_file_is_unreadable(const struct part_file *p);
/* Bytes of memory that the open part holds, for the engine's budget. */
size_t part_file_memory_bytes(const struct part_file *p);

/* Length of a block, without reading it. INDEX < part_block_count(). */
uint32_t part_block_len(const struct part_file *p, uint32_t index);
/* Whether it was found bad in this open. Cost: none. */
bool part_block_is_bad(const struct part_file *p, uint32_t index);
/*
 * The bytes of block INDEX, mapped and checked; they begin at an address divisible by 8 and
 * PART_SLACK_BYTES after their end can be read. Cost: the first time a pread and a CRC, then
 * nothing. Valid until: the last part_file_unref(). Errors: ERR_CORRUPT (also for EIO of a bad
 * sector; also when INDEX is out of range, as it comes from a stored index).
 */
WARN_UNUSED errc part_block(struct part_file *p, uint32_t index, str *ret_bytes, struct err *e);
/* The same copied into INTO of part_block_len() bytes, not through the mapping: for merges, which
 * read a part once and should not fill the process's memory with its pages. Always checked. */
WARN_UNUSED errc part_block_read(struct part_file *p, uint32_t index, char *into, struct err *e);
/* Give the mapped pages back to the kernel (they stay in the page cache); blocks in use stay valid.
 */
void part_file_forget_pages(struct part_file *p);
/* Check every block, as a doctor does. RET_BAD_COUNT counts the bad ones. Errors: none for those.
 */
WARN_UNUSED errc part_file_verify(struct part_file *p, uint64_t *ret_bad_count, struct err *e);
