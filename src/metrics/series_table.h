/*
 * series_table: the series that are written to now, by id and by key, and the postings over their
 * labels. What has not been written to for a while is dropped; the index of its days has it.
 *
 * Shape: an id is a number that is never used again. Slots lie in chunks by id; a chunk goes when
 *   all of its series are dropped.
 * Limits: ids are 32 bits: 4 thousand million series in the life of a data folder.
 * Threads: none of its own; the caller holds what each function asks for.
 *   `index`: the lock over keys and postings, `state`: the one over everything else in a slot.
 */
#pragma once

#include <pthread.h>

#include "base/units.h"
#include "metrics/index_match.h"

enum {
	SERIES_CHUNK_BITS = 10,
	SERIES_CHUNK_COUNT = 1 << SERIES_CHUNK_BITS,
	SERIES_DIRECTORY_COUNT = 1 << (32 - SERIES_CHUNK_BITS),
};
#define SERIES_ID_MAX (UINT32_MAX - 1)

/* Where the samples of a series in one head begin: its newest, from which the others are found. */
struct series_chain {
	uint32_t last;       /* index + 1 into the head */
	uint32_t generation; /* of the head */
};

enum series_flag {
	SERIES_LOGGED = 1,            /* its definition is in the log or the index */
	SERIES_OUT_OF_ORDER_EVEN = 2, /* in the head of an even generation */
	SERIES_OUT_OF_ORDER_ODD = 4,
};

struct series {
	uint8_t *key;      /* 4 bytes of length, then the key; NULL while recovery looks for it */
	time_ms last_time; /* of the newest sample */
	struct series_chain chain[2]; /* by the lowest bit of the head's generation */
	uint32_t id, rank;            /* rank: place among the series by labels; 0: not known yet */
	uint32_t indexed_day;         /* the latest day whose index has it */
	uint32_t used_at; /* seconds: when it was last written to, by the engine's clock */
	uint32_t source;
	uint8_t flags;
	bool live;         /* changes only under both locks */
	uint8_t retention; /* class; see retention.h */
};

struct posting {
	uint32_t name; /* index of its label name */
	uint32_t hash; /* of name and value */
	union {
		uint32_t one;
		uint32_t *ids;
	};
	uint32_t count, room; /* room 0: `one` counts */
	uint32_t value_len;
	char value[];
};

struct label_postings {
	str name;
	struct posting **items; /* its values, in the order they came; sorted up to sorted_count */
	size_t count, room, sorted_count;
};

struct series_table {
	struct series **chunks;               /* by id >> SERIES_CHUNK_BITS */
	uint16_t *chunk_counts;               /* live series in each */
	uint64_t *live;                       /* one bit an id; read without a lock */
	uint64_t next_id;                     /* atomic */
	uint64_t *slots;                      /* open addressing: upper half of the hash, id */
	size_t slot_count, used_count, count; /* used: with what was deleted */
	struct label_postings *names;
	size_t name_count, name_room;
	uint32_t *name_slots; /* open addressing: index + 1 into names */
	size_t name_slot_count;
	struct posting **pairs; /* open addressing over (name, value) */
	size_t pair_slots, pair_count;
	size_t sweep_at;     /* where the next sweep of dead ids begins */
	uint64_t dead_count; /* dropped, and perhaps still in postings */
	uint32_t *ranked;    /* ids in the order of their labels as far as known */
	size_t ranked_count;
	size_t memory_bytes;
};

void series_table_init(struct series_table *t);
void series_table_done(struct series_table *t);

static inline str series_key(const struct series *s)
{
	uint32_t len;
	__builtin_memcpy(&len, s->key, sizeof(len));
	return (str){ (const char *)s->key + sizeof(len), len };
}

/* NULL for what was dropped or never was. Holds: state or index. */
static inline struct series *series_table_get(const struct series_table *t, uint32_t id)
{
	struct series *chunk = t->chunks[id >> SERIES_CHUNK_BITS];
	if (!chunk)
		return NULL;
	struct series *s = &chunk[id & (SERIES_CHUNK_COUNT - 1)];
	return s->live ? s : NULL;
}

/* Without any lock. */
static inline bool series_table_is_live(const struct series_table *t, uint64_t id)
{
	return id <= SERIES_ID_MAX &&
	       (__atomic_load_n(&t->live[id >> 6], __ATOMIC_RELAXED) >> (id & 63) & 1);
}

/* Holds: index, shared. */
struct series *series_table_find(const struct series_table *t, str key, uint64_t hash);
/* A new series with the id ID, which was never used. KEY may be empty: then it is unresolved, and
 * series_table_resolve() gives it its labels. Holds: index and state. */
struct series *series_table_add(struct series_table *t, uint32_t id, str key, uint64_t hash);
void series_table_resolve(struct series_table *t, struct series *s, str key, uint64_t hash);
/* Holds: index and state. */
void series_table_drop(struct series_table *t, struct series *s);
/* Take dropped ids out of some postings; false when it went round. Holds: index. */
bool series_table_sweep(struct series_table *t, size_t posting_count_max);
/* Give ranks to series that have none. INDEX is the engine's lock of that name, which is taken for
 * moments only. Cost: a sort of those without, and a merge. Holds: nothing, and nobody else drops
 * series or ranks them meanwhile. */
void series_table_rank(struct series_table *t, pthread_rwlock_t *index);

/* Holds, all three: index, shared. */
const struct posting *series_table_posting(const struct series_table *t, str name, str value);
const struct label_postings *series_table_name(const struct series_table *t, str name);

/* What index_match() looks into; ids of dropped series may be among what it finds. */
struct index_source series_table_source(const struct series_table *t);

static inline str posting_value(const struct posting *p)
{
	return (str){ p->value, p->value_len };
}

static inline const uint32_t *posting_ids(const struct posting *p)
{
	return p->room ? p->ids : &p->one;
}
