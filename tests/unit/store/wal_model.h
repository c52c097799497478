/* Groups whose bytes follow from a key, so that a test need only remember the keys. */
#pragma once

#include "store/wal_internal.h"
#include "store_test.h"

enum { MODEL_GROUPS_MAX = 4096, MODEL_RECORDS_MAX = 5, MODEL_RECORD_BYTES_MAX = 700 };

/* What was appended, by sequence; key 0: nothing. */
struct wal_model {
	uint64_t keys[MODEL_GROUPS_MAX];
	bool seen[MODEL_GROUPS_MAX]; /* of the last replay */
	uint64_t last;               /* highest seen */
	size_t seen_count;
};

struct model_group {
	struct wal_record records[MODEL_RECORDS_MAX];
	size_t count;
	char bytes[MODEL_RECORDS_MAX][MODEL_RECORD_BYTES_MAX];
};

/* KEY's group; small ones are the most. */
static inline void model_group(uint64_t key, struct model_group *g)
{
	uint64_t seed = key;
	g->count = 1 + test_below(&seed, MODEL_RECORDS_MAX);
	for (size_t i = 0; i < g->count; i++) {
		uint64_t most = test_below(&seed, 4) ? 40 : MODEL_RECORD_BYTES_MAX;
		size_t len = test_below(&seed, most);
		test_fill(key + i, g->bytes[i], len);
		g->records[i] = (struct wal_record){ (uint8_t)(1 + test_below(&seed, 255)),
						     { g->bytes[i], len } };
	}
}

static inline errc model_append(struct wal_model *m, struct wal *w, uint64_t key, struct err *e)
{
	struct model_group g;
	uint64_t sequence = 0;
	model_group(key, &g);
	errc rc = wal_append(w, g.records, g.count, &sequence, e);
	if (sequence) {
		must(sequence < MODEL_GROUPS_MAX);
		m->keys[sequence] = key;
	}
	return rc;
}

static inline void model_begin(struct wal_model *m)
{
	memset(m->seen, 0, sizeof(m->seen));
	m->last = m->seen_count = 0;
}

/* A wal_replay_fn: every group is what was appended under its sequence, and comes once. */
static inline errc model_replay(void *ctx, struct wal_group *group, struct err *e)
{
	struct wal_model *m = ctx;
	struct wal_record record;
	struct model_group g;
	(void)e;
	assert_true(group->sequence > m->last && group->sequence < MODEL_GROUPS_MAX);
	assert_true(m->keys[group->sequence] != 0);
	model_group(m->keys[group->sequence], &g);
	for (size_t i = 0; i < g.count; i++) {
		assert_true(wal_group_record(group, &record));
		assert_int_equal(record.type, g.records[i].type);
		assert_int_equal(record.bytes.len, g.records[i].bytes.len);
		assert_memory_equal(record.bytes.ptr, g.records[i].bytes.ptr, record.bytes.len);
		assert_int_equal((uintptr_t)record.bytes.ptr % 8, 0);
	}
	assert_false(wal_group_record(group, &record));
	m->seen[group->sequence] = true;
	m->last = group->sequence;
	m->seen_count++;
	return OK;
}
