/*
 * Compression of whole bodies and blocks. The same bytes give the same result anywhere;
 * decompression stops at the cap of the buf while running, so a bomb costs no more than that.
 */
#pragma once

#include "base/buf.h"

enum compress_format {
	COMPRESS_GZIP,
	COMPRESS_BROTLI,
	COMPRESS_ZSTD,
	COMPRESS_DEFLATE, /* HTTP's: the zlib format */
	COMPRESS_SNAPPY,  /* the block format, as in remote write */
};

/*
 * LEVEL: gzip and deflate 1..9, brotli 0..11, zstd 1..19; snappy has none.
 * Errors: ERR_LIMIT past the buf's cap.
 */
WARN_UNUSED errc compress_bytes(enum compress_format format, int level, str bytes, struct buf *into,
				struct err *e);
/* Errors: ERR_INVALID for damaged input, trailing bytes included; ERR_LIMIT past the buf's cap. */
WARN_UNUSED errc decompress_bytes(enum compress_format format, str bytes, struct buf *into,
				  struct err *e);

/*
 * The same with the libraries' state kept from call to call, for hot paths; it grows to about a
 * megabyte. What is appended to INTO does not depend on earlier calls.
 * Threads: one compressor a thread.
 */
struct compressor;
struct compressor *compressor_new(void);
void compressor_free(struct compressor *c);
WARN_UNUSED errc compressor_compress(struct compressor *c, enum compress_format format, int level,
				     str bytes, struct buf *into, struct err *e);
WARN_UNUSED errc compressor_decompress(struct compressor *c, enum compress_format format, str bytes,
				       struct buf *into, struct err *e);
