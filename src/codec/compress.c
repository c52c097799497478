#include "codec/compress.h"

#include <brotli/decode.h>
#include <brotli/encode.h>
#include <limits.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/checks.h"

enum {
	STEP_BYTES = 64 * 1024,
	ZLIB_WINDOW = 15,
	GZIP_WINDOW = ZLIB_WINDOW + 16,
	OS_UNKNOWN = 255,
	BROTLI_WINDOW_LOG = 22,
	/* What a frame may ask for as history: 8 MiB, as HTTP has it (RFC 9659). */
	ZSTD_WINDOW_LOG_MAX = 23,
	ZSTD_BYTES_RATIO_MAX = ZSTD_BLOCKSIZE_MAX / 4,
};

/* Each library's state is made when it is first wanted. Brotli's cannot be used twice. */
struct compressor {
	z_stream deflate, inflate;
	int deflate_window, deflate_level; /* 0: DEFLATE is not made */
	bool has_inflate;
	ZSTD_CCtx *zstd;
	ZSTD_DCtx *unzstd;
};

static errc too_large(const struct buf *into, struct err *e)
{
	FAIL(e, ERR_LIMIT, "the result is larger than the limit of %zu bytes", into->cap);
}

/* Room for the next step, smaller near the cap so that the cap can be reached exactly. */
static char *next_room(struct buf *into, size_t *ret_size)
{
	size_t left = into->cap - into->len;
	*ret_size = left < STEP_BYTES ? left : STEP_BYTES;
	return *ret_size ? buf_reserve(into, *ret_size) : NULL;
}

/* The state for WINDOW and LEVEL, made anew only when they change. */
static z_stream *deflate_of(struct compressor *c, int window, int level)
{
	z_stream *z = &c->deflate;
	if (c->deflate_window == window && c->deflate_level == level) {
		must(deflateReset(z) == Z_OK);
		return z;
	}
	if (c->deflate_window)
		deflateEnd(z);
	*z = (z_stream){ 0 };
	must(deflateInit2(z, level, Z_DEFLATED, window, 9, Z_DEFAULT_STRATEGY) == Z_OK);
	c->deflate_window = window;
	c->deflate_level = level;
	return z;
}

static errc deflate_bytes(struct compressor *c, int window, int level, str bytes, struct buf *into,
			  struct err *e)
{
	gz_header header = { .os = OS_UNKNOWN };
	if (bytes.len > UINT_MAX)
		FAIL(e, ERR_LIMIT, "more than 4 GiB cannot be compressed at once");
	z_stream *z = deflate_of(c, window, level);
	if (window == GZIP_WINDOW)
		deflateSetHeader(z, &header);
	z->next_in = (Bytef *)bytes.ptr;
	z->avail_in = (uInt)bytes.len;
	int rc;
	do {
		size_t size = 0;
		char *dst = next_room(into, &size);
		if (!dst)
			return too_large(into, e);
		z->next_out = (Bytef *)dst;
		z->avail_out = (uInt)size;
		rc = deflate(z, Z_FINISH);
		into->len += size - z->avail_out;
	} while (rc == Z_OK || rc == Z_BUF_ERROR);
	must(rc == Z_STREAM_END);
	return OK;
}

/* Where a result of at most BOUND bytes is made: in INTO when that always fits, else in *SCRATCH.
 */
static char *room_for(struct buf *into, size_t bound, char **scratch)
{
	if (!into->overflow && bound <= into->cap - into->len)
		return buf_reserve(into, bound);
	*scratch = must_realloc(NULL, bound);
	return *scratch;
}

/* Keep the LEN bytes made in room_for(). */
static errc keep(struct buf *into, char *scratch, size_t len, struct err *e)
{
	if (!scratch) {
		into->len += len;
		into->ptr[into->len] = '\0';
		return OK;
	}
	bool fits = !into->overflow && len <= into->cap - into->len;
	if (fits)
		buf_add(into, (str){ scratch, len });
	free(scratch);
	return fits ? OK : too_large(into, e);
}

static errc brotli_bytes(int level, str bytes, struct buf *into, struct err *e)
{
	char *scratch = NULL;
	size_t size = BrotliEncoderMaxCompressedSize(bytes.len);
	if (size == 0)
		FAIL(e, ERR_LIMIT, "%zu bytes cannot be compressed at once", bytes.len);
	char *dst = room_for(into, size, &scratch);
	if (!BrotliEncoderCompress(level, BROTLI_WINDOW_LOG, BROTLI_MODE_TEXT, bytes.len,
				   (const uint8_t *)bytes.ptr, &size, (uint8_t *)dst)) {
		free(scratch);
		FAIL(e, ERR_INTERNAL, "brotli failed");
	}
	return keep(into, scratch, size, e);
}

static errc zstd_bytes(struct compressor *c, int level, str bytes, struct buf *into, struct err *e)
{
	char *scratch = NULL;
	size_t bound = ZSTD_compressBound(bytes.len);
	char *dst = room_for(into, bound, &scratch);
	if (!c->zstd)
		c->zstd = ZSTD_createCCtx();
	must(c->zstd != NULL);
	size_t len = ZSTD_compressCCtx(c->zstd, dst, bound, bytes.ptr, bytes.len, level);
	if (ZSTD_isError(len)) {
		free(scratch);
		FAIL(e, ERR_INTERNAL, "zstd failed: %s", ZSTD_getErrorName(len));
	}
	return keep(into, scratch, len, e);
}

static errc snappy_bytes(str bytes, struct buf *into, struct err *e)
{
	char *scratch = NULL;
	if (bytes.len > UINT32_MAX)
		FAIL(e, ERR_LIMIT, "more than 4 GiB cannot be compressed at once");
	size_t len = snappy_max_compressed_length(bytes.len);
	char *dst = room_for(into, len, &scratch);
	must(snappy_compress(bytes.ptr, bytes.len, dst, &len) == SNAPPY_OK);
	return keep(into, scratch, len, e);
}

static errc inflate_bytes(struct compressor *c, int window, str bytes, struct buf *into,
			  struct err *e)
{
	z_stream *z = &c->inflate;
	if (bytes.len > UINT_MAX)
		FAIL(e, ERR_LIMIT, "more than 4 GiB cannot be decompressed at once");
	int rc = c->has_inflate ? inflateReset2(z, window) : inflateInit2(z, window);
	must(rc == Z_OK);
	c->has_inflate = true;
	z->next_in = (Bytef *)bytes.ptr;
	z->avail_in = (uInt)bytes.len;
	bool full = false;
	while (rc == Z_OK && !full) {
		size_t size = 0;
		char *dst = next_room(into, &size);
		char beyond;
		z->next_out = (Bytef *)(dst ? dst : &beyond);
		z->avail_out = (uInt)(dst ? size : 1);
		rc = inflate(z, Z_NO_FLUSH);
		if (dst)
			into->len += size - z->avail_out;
		else
			full = z->avail_out == 0;
		if (rc == Z_BUF_ERROR || (rc == Z_OK && z->avail_in == 0 && z->avail_out))
			rc = Z_DATA_ERROR;
	}
	if (full)
		return too_large(into, e);
	if (rc != Z_STREAM_END || z->avail_in)
		FAIL(e, ERR_INVALID, "the %s data is damaged or incomplete",
		     window == GZIP_WINDOW ? "gzip" : "deflate");
	return OK;
}

static errc unbrotli_bytes(str bytes, struct buf *into, struct err *e)
{
	BrotliDecoderState *state = BrotliDecoderCreateInstance(NULL, NULL, NULL);
	must(state != NULL);
	size_t in_len = bytes.len;
	const uint8_t *in = (const uint8_t *)bytes.ptr;
	BrotliDecoderResult rc = BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT;
	bool full = false;
	while (rc == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT && !full) {
		size_t size = 0;
		char *dst = next_room(into, &size);
		char beyond;
		size_t out_len = dst ? size : 1;
		uint8_t *out = (uint8_t *)(dst ? dst : &beyond);
		rc = BrotliDecoderDecompressStream(state, &in_len, &in, &out_len, &out, NULL);
		if (dst)
			into->len += size - out_len;
		else
			full = out_len == 0;
	}
	BrotliDecoderDestroyInstance(state);
	if (full)
		return too_large(into, e);
	if (rc != BROTLI_DECODER_RESULT_SUCCESS || in_len)
		FAIL(e, ERR_INVALID, "the brotli data is damaged or incomplete");
	return OK;
}

static errc bad_zstd(struct err *e)
{
	FAIL(e, ERR_INVALID, "the zstd data is damaged or incomplete");
}

static errc unzstd_stream(ZSTD_DCtx *ctx, str bytes, struct buf *into, struct err *e)
{
	must(!ZSTD_isError(ZSTD_DCtx_reset(ctx, ZSTD_reset_session_only)));
	ZSTD_inBuffer in = { bytes.ptr, bytes.len, 0 };
	size_t rc = 1;
	bool full = false, failed = bytes.len == 0;
	while (!full && !failed && (rc != 0 || in.pos < in.size)) {
		size_t size = 0;
		char *dst = next_room(into, &size);
		char beyond;
		ZSTD_outBuffer out = { dst ? dst : &beyond, dst ? size : 1, 0 };
		size_t before = in.pos;
		rc = ZSTD_decompressStream(ctx, &out, &in);
		if (dst)
			into->len += out.pos;
		else
			full = out.pos != 0;
		failed = ZSTD_isError(rc) || (rc != 0 && in.pos == before && out.pos == 0);
	}
	if (full)
		return too_large(into, e);
	return failed ? bad_zstd(e) : OK;
}

static errc unzstd_bytes(struct compressor *c, str bytes, struct buf *into, struct err *e)
{
	if (!c->unzstd) {
		c->unzstd = ZSTD_createDCtx();
		must(c->unzstd != NULL);
		must(!ZSTD_isError(ZSTD_DCtx_setParameter(c->unzstd, ZSTD_d_windowLogMax,
							  ZSTD_WINDOW_LOG_MAX)));
	}
	/* one frame that says its size needs no history of its own: the result is it */
	unsigned long long size = ZSTD_getFrameContentSize(bytes.ptr, bytes.len);
	if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR ||
	    ZSTD_findFrameCompressedSize(bytes.ptr, bytes.len) != bytes.len)
		return unzstd_stream(c->unzstd, bytes, into, e);
	/* as with snappy: a block of 128 KiB takes at least 4 bytes */
	if (size <= into->cap && size / ZSTD_BYTES_RATIO_MAX > bytes.len)
		return bad_zstd(e);
	char *dst = size <= into->cap ? buf_reserve(into, size) : NULL;
	if (!dst)
		return too_large(into, e);
	size_t len = ZSTD_decompressDCtx(c->unzstd, dst, size, bytes.ptr, bytes.len);
	if (ZSTD_isError(len))
		return bad_zstd(e);
	into->len += len;
	into->ptr[into->len] = '\0';
	return OK;
}

static errc unsnappy_bytes(str bytes, struct buf *into, struct err *e)
{
	size_t size = 0;
	bool is_valid = snappy_uncompressed_length(bytes.ptr, bytes.len, &size) == SNAPPY_OK;
	/* the size is believed only as far as the input could hold it: 64 bytes of result for 3 */
	if (is_valid && size <= into->cap && size / 22 > bytes.len)
		is_valid = false;
	if (!is_valid)
		FAIL(e, ERR_INVALID, "the snappy data is damaged or incomplete");
	char *dst = size <= into->cap ? buf_reserve(into, size) : NULL;
	if (!dst)
		return too_large(into, e);
	if (snappy_uncompress(bytes.ptr, bytes.len, dst, &size) != SNAPPY_OK)
		FAIL(e, ERR_INVALID, "the snappy data is damaged or incomplete");
	into->len += size;
	into->ptr[into->len] = '\0';
	return OK;
}

struct compressor *compressor_new(void)
{
	return must_calloc(1, sizeof(struct compressor));
}

static void compressor_done(struct compressor *c)
{
	if (c->deflate_window)
		deflateEnd(&c->deflate);
	if (c->has_inflate)
		inflateEnd(&c->inflate);
	ZSTD_freeCCtx(c->zstd);
	ZSTD_freeDCtx(c->unzstd);
}

void compressor_free(struct compressor *c)
{
	if (!c)
		return;
	compressor_done(c);
	free(c);
}

errc compressor_compress(struct compressor *c, enum compress_format format, int level, str bytes,
			 struct buf *into, struct err *e)
{
	switch (format) {
	case COMPRESS_GZIP:
		return deflate_bytes(c, GZIP_WINDOW, level, bytes, into, e);
	case COMPRESS_DEFLATE:
		return deflate_bytes(c, ZLIB_WINDOW, level, bytes, into, e);
	case COMPRESS_BROTLI:
		return brotli_bytes(level, bytes, into, e);
	case COMPRESS_ZSTD:
		return zstd_bytes(c, level, bytes, into, e);
	case COMPRESS_SNAPPY:
		return snappy_bytes(bytes, into, e);
	}
	FAIL(e, ERR_INTERNAL, "there is no compression %d", (int)format);
}

errc compressor_decompress(struct compressor *c, enum compress_format format, str bytes,
			   struct buf *into, struct err *e)
{
	switch (format) {
	case COMPRESS_GZIP:
		return inflate_bytes(c, GZIP_WINDOW, bytes, into, e);
	case COMPRESS_DEFLATE:
		return inflate_bytes(c, ZLIB_WINDOW, bytes, into, e);
	case COMPRESS_BROTLI:
		return unbrotli_bytes(bytes, into, e);
	case COMPRESS_ZSTD:
		return unzstd_bytes(c, bytes, into, e);
	case COMPRESS_SNAPPY:
		return unsnappy_bytes(bytes, into, e);
	}
	FAIL(e, ERR_INTERNAL, "there is no compression %d", (int)format);
}

errc compress_bytes(enum compress_format format, int level, str bytes, struct buf *into,
		    struct err *e)
{
	struct compressor c = { 0 };
	errc rc = compressor_compress(&c, format, level, bytes, into, e);
	compressor_done(&c);
	return rc;
}

errc decompress_bytes(enum compress_format format, str bytes, struct buf *into, struct err *e)
{
	struct compressor c = { 0 };
	errc rc = compressor_decompress(&c, format, bytes, into, e);
	compressor_done(&c);
	return rc;
}
