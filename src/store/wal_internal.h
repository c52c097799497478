/* The log's segments: their layout (docs/format/store.md), and what reading and writing share. */
#pragma once

#include <pthread.h>

#include "store/store_internal.h"
#include "store/wal.h"

enum {
	WAL_VERSION = 1,
	WAL_HEADER_BYTES = 80,
	WAL_HEADER_COPY = 512,   /* the second copy: another sector */
	WAL_GROUPS_BEGIN = 1024, /* the first group of a segment */
	WAL_GROUP_HEADER = 32,
	WAL_RECORD_HEADER = 8,
	WAL_NAME_LEN = 20, /* 16 digits and `.wal` */
};

enum {
	WAL_AFTER_RECOVERY = 1, /* sequences before its first may be missing: recovery said so */
	WAL_REPEATS = 2,        /* begins with copies of groups of the segments before it */
};

struct wal_header {
	char engine[WAL_ENGINE_MAX + 1];
	uint64_t number;
	uint64_t log_id;          /* random; keeps bytes of other logs from checking as ours */
	uint64_t first;           /* sequence of its first group */
	uint64_t previous_number; /* the segment before it; 0: none known */
	uint64_t previous_end;    /* what of that counts whatever happens; the rest may be torn */
	uint32_t flags;
};

struct wal_group_header {
	uint32_t payload_len;
	uint32_t record_count;
	uint32_t payload_crc;
	uint64_t sequence;
};

/* A segment on disk, as the open log knows it. */
struct wal_segment {
	uint64_t number;
	uint64_t first, next; /* sequences: of its first group, after its last */
	uint64_t end;         /* its valid bytes */
	uint64_t synced;      /* of these; known while it is open */
	uint64_t synced_next; /* the sequence after its last synced group */
	int fd;               /* -1: nothing more to write or sync */
	bool bad;             /* moved to quarantine/ when its time comes, not unlinked */
};

struct wal_segments {
	struct wal_segment **items; /* by number */
	size_t count, room;
};

struct wal_segment *wal_segments_add(struct wal_segments *s);
void wal_segments_remove(struct wal_segments *s, size_t index);
void wal_segments_done(struct wal_segments *s);

/* FOLDER/<number>.wal */
WARN_UNUSED errc wal_segment_path(const char *folder, uint64_t number, char path[], size_t size,
				  struct err *e);
/* False for what is no segment's name. */
bool wal_segment_number(const char *name, uint64_t *ret_number);

/* The first WAL_GROUPS_BEGIN bytes of a segment. */
void wal_header_encode(const struct wal_header *header, uint8_t bytes[static WAL_GROUPS_BEGIN]);
/* From either copy. False when both are bad. RET_VERSION is set when true; of a newer version
 * nothing else is. */
bool wal_header_decode(const uint8_t bytes[static WAL_GROUPS_BEGIN], struct wal_header *ret_header,
		       uint32_t *ret_version);

/* A group's header depends on where it stands: neither a stale nor a foreign group checks. */
uint32_t wal_group_seed(uint64_t log_id, uint64_t number, uint64_t offset);
void wal_group_header_encode(const struct wal_group_header *header, uint32_t seed,
			     uint8_t bytes[static WAL_GROUP_HEADER]);
bool wal_group_header_decode(const uint8_t bytes[static WAL_GROUP_HEADER], uint32_t seed,
			     struct wal_group_header *ret_header);
/* Payload bytes of these records; 0 when there are too many. */
uint64_t wal_payload_len(const struct wal_record *records, size_t count);
void wal_payload_encode(const struct wal_record *records, size_t count, uint8_t *payload);
/* Whether PAYLOAD is COUNT records, exactly. */
bool wal_payload_check(const uint8_t *payload, size_t len, uint32_t count);

/* What one pass over the segments finds out. */
struct wal_recovered {
	struct wal_segments segments;
	struct wal_report report;
	uint64_t log_id;      /* 0: no segment says */
	uint64_t number_next; /* above every segment's */
};

/* Read everything in FOLDER; see wal_scan(). End with wal_segments_done(). */
WARN_UNUSED errc wal_recover(const struct wal_options *options, uint64_t from,
			     wal_replay_fn *replay, void *ctx, struct wal_recovered *r,
			     struct err *e);

/* One segment's groups. */
struct wal_reading {
	int fd;
	uint64_t size;
	const char *name; /* for the quarantine list */
	struct wal_header header;
	uint64_t torn_from; /* bad bytes from here on are torn, not corrupt */
	bool is_tail;       /* nothing was written after it: bad bytes at its end are torn */
	struct quarantine *quarantine;
	uint64_t from, expected; /* sequences; 0: not known */
	uint64_t last;           /* highest seen */
	bool bad;                /* out: there were corrupt spans */
	bool unreadable;         /* out: a read of it failed */
	uint64_t end;            /* out: after the last whole group */
	uint64_t unseen_bytes;   /* out: bad or torn after that */
	wal_replay_fn *replay;
	void *ctx;
	struct wal_report *report;
	/* Groups from `expected` up to UNTIL are missing here: deliver what of them, and of those
	 * after them, is elsewhere. May be NULL. */
	errc (*fill)(struct wal_reading *r, uint64_t until, struct err *e);
};

/* Errors: what REPLAY returns. */
WARN_UNUSED errc wal_segment_read(struct wal_reading *r, struct err *e);

/* ---- The open log. */

/* One group in memory, as it stands in the file; kept until it is synced. */
struct wal_kept {
	struct wal_kept *next;
	size_t room, len; /* of bytes */
	uint64_t sequence;
	int64_t mono_ms; /* when it was appended */
	uint64_t pad;
	uint8_t bytes[];
};

struct wal {
	struct wal_options options;
	char folder[4000];
	char engine[WAL_ENGINE_MAX + 1];
	uint64_t log_id;
	pthread_mutex_t lock;
	pthread_cond_t sync_ended;
	/* all below under the lock */
	struct wal_segments segments;
	struct wal_segment *current; /* the last of segments; NULL: the next append begins one */
	uint64_t number_next, next, synced;
	uint64_t bytes;                    /* of the segments, what is to be unlinked included */
	bool first_begun;                  /* this open has written a group */
	bool folder_dirty;                 /* names in the folder are not synced */
	bool failing;                      /* everything kept must be written again */
	bool syncing;                      /* somebody is in fsync, without the lock */
	struct wal_kept *kept, **kept_end; /* by sequence: what is not synced */
	uint64_t kept_bytes, kept_room;
	struct wal_kept *spare; /* buffers to use again */
	uint64_t spare_room;
	int64_t due_mono_ms; /* atomic: when a sync is due; INT64_MAX: nothing to sync */
	uint64_t truncate_to;
	struct wal_segments garbage; /* to be unlinked */
	uint64_t append_count, append_bytes, sync_count, write_failed_count, sync_failed_count;
};

/* All with the lock held. */

/* Begin a segment and make it the current one. */
WARN_UNUSED errc wal_begin_segment(struct wal *w, uint32_t flags, struct err *e);
/* Seal GROUP for where the current segment ends and write it there. */
WARN_UNUSED errc wal_write_group(struct wal *w, struct wal_kept *group, struct err *e);
/* Write to the current segment no more. */
void wal_retire(struct wal *w);
/* Write everything kept into a new segment, after a failed sync. */
WARN_UNUSED errc wal_write_again(struct wal *w, struct err *e);
void wal_set_due(struct wal *w, int64_t mono_ms);
/* Move segments that truncation covers to the garbage. */
void wal_sweep(struct wal *w);
/* Unlink the garbage. Without the lock. */
WARN_UNUSED errc wal_take_out(struct wal *w, struct err *e);
