/*
 * What the vectors of timestamps and of values have in common. Bytes: docs/format/vectors.md.
 */
#pragma once

#include "base/buf.h"

enum {
	VECTOR_LEN_MAX = 1024,
	/* No vector takes more bytes than this. */
	VECTOR_BYTES_MAX = VECTOR_LEN_MAX * 8 + 64,
};

enum vector_level {
	VECTOR_HOT,  /* bit packing: for what is written once and merged soon */
	VECTOR_COLD, /* entropy-coded where that is smaller; slower to write */
};

/* Work space of encoders and decoders, about 100 KB: one a thread, for any number of vectors. */
struct vector_scratch;
struct vector_scratch *vector_scratch_new(void);
void vector_scratch_free(struct vector_scratch *scratch);
