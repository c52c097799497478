/*
 * histogram_codec: a histogram as bytes, every bit of its doubles kept. Small where populations are
 * whole numbers.
 */
#pragma once

#include "base/arena.h"
#include "codec/varint.h"
#include "metrics/histogram.h"

/* H passes histogram_check(). */
void histogram_encode(const struct histogram *h, struct buf *into);
/* Into ARENA. Errors: ERR_CORRUPT; ERR_LIMIT of ARENA. */
WARN_UNUSED errc histogram_decode(str bytes, struct arena *arena, struct histogram **ret,
				  struct err *e);
