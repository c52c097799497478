/*
 * Timestamps as bytes: any int64, in any order; small when they are sorted and nearly regular (a
 * constant step takes about ten bytes).
 *
 * Limits: 1..VECTOR_LEN_MAX values a vector. The count is not stored; the end is.
 * Format: docs/format/vectors.md.
 */
#pragma once

#include "base/units.h"
#include "codec/varint.h"
#include "codec/vector.h"

/* Append TIMES to INTO; how many bytes that took, or 0 past its cap. */
size_t time_vector_encode(const time_ms *times, size_t n, enum vector_level level,
			  struct vector_scratch *scratch, struct buf *into);

/* Read a vector of N timestamps and leave R behind it. Errors: ERR_CORRUPT; TIMES is then garbage.
 */
WARN_UNUSED errc time_vector_decode(struct reader *r, size_t n, time_ms *times,
				    struct vector_scratch *scratch, struct err *e);
