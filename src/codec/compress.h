/*
 * One-shot compression. The same bytes give the same result anywhere; decompression stops at the
 * cap of the buf while running, so a bomb costs no more than that.
 */
#pragma once

#include "base/buf.h"

enum compress_format { COMPRESS_GZIP, COMPRESS_BROTLI, COMPRESS_ZSTD };

/* LEVEL: gzip 1..9, brotli 0..11, zstd 1..19. Errors: ERR_LIMIT past the buf's cap. */
WARN_UNUSED errc compress_bytes(enum compress_format format, int level, str bytes, struct buf *into,
				struct err *e);
/* Errors: ERR_INVALID for damaged input, trailing bytes included; ERR_LIMIT past the buf's cap. */
WARN_UNUSED errc decompress_bytes(enum compress_format format, str bytes, struct buf *into,
				  struct err *e);
