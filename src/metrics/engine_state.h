/* What the manifest keeps of the engine besides its parts. */
#pragma once

#include "metrics/tombstone.h"

struct engine_state {
	uint64_t next_id, next_file, next_write, next_tombstone;
	uint64_t log_position; /* the parts hold every group before it */
};

void engine_state_write(const struct engine_state *s, struct tombstone *const *tombstones,
			size_t count, struct buf *into);
/* Owns: the caller frees RET_TOMBSTONES and drops the references in it. Errors: ERR_CORRUPT,
 * ERR_CONFLICT. */
WARN_UNUSED errc engine_state_read(str bytes, struct engine_state *ret,
				   struct tombstone ***ret_tombstones, size_t *ret_count,
				   struct err *e);
