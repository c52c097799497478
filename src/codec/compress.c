#include "codec/compress.h"

#include <brotli/decode.h>
#include <brotli/encode.h>
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/checks.h"

enum { STEP_BYTES = 64 * 1024, GZIP_WINDOW = 15 + 16, OS_UNKNOWN = 255, BROTLI_WINDOW_LOG = 22 };

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

static errc gzip_bytes(int level, str bytes, struct buf *into, struct err *e)
{
	z_stream z = { 0 };
	gz_header header = { .os = OS_UNKNOWN };
	if (bytes.len > UINT_MAX)
		FAIL(e, ERR_LIMIT, "more than 4 GiB cannot be compressed at once");
	int rc = deflateInit2(&z, level, Z_DEFLATED, GZIP_WINDOW, 9, Z_DEFAULT_STRATEGY);
	must(rc == Z_OK);
	deflateSetHeader(&z, &header);
	z.next_in = (Bytef *)bytes.ptr;
	z.avail_in = (uInt)bytes.len;
	errc result = OK;
	do {
		size_t size = 0;
		char *dst = next_room(into, &size);
		if (!dst) {
			result = too_large(into, e);
			break;
		}
		z.next_out = (Bytef *)dst;
		z.avail_out = (uInt)size;
		rc = deflate(&z, Z_FINISH);
		into->len += size - z.avail_out;
	} while (rc == Z_OK || rc == Z_BUF_ERROR);
	must(result != OK || rc == Z_STREAM_END);
	deflateEnd(&z);
	return result;
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

static errc zstd_bytes(int level, str bytes, struct buf *into, struct err *e)
{
	char *scratch = NULL;
	size_t bound = ZSTD_compressBound(bytes.len);
	char *dst = room_for(into, bound, &scratch);
	size_t len = ZSTD_compress(dst, bound, bytes.ptr, bytes.len, level);
	if (ZSTD_isError(len)) {
		free(scratch);
		FAIL(e, ERR_INTERNAL, "zstd failed: %s", ZSTD_getErrorName(len));
	}
	return keep(into, scratch, len, e);
}

errc compress_bytes(enum compress_format format, int level, str bytes, struct buf *into,
		    struct err *e)
{
	if (format == COMPRESS_GZIP)
		return gzip_bytes(level, bytes, into, e);
	return format == COMPRESS_BROTLI ? brotli_bytes(level, bytes, into, e)
					 : zstd_bytes(level, bytes, into, e);
}

static errc gunzip_bytes(str bytes, struct buf *into, struct err *e)
{
	z_stream z = { 0 };
	if (bytes.len > UINT_MAX)
		FAIL(e, ERR_LIMIT, "more than 4 GiB cannot be decompressed at once");
	int rc = inflateInit2(&z, GZIP_WINDOW);
	must(rc == Z_OK);
	z.next_in = (Bytef *)bytes.ptr;
	z.avail_in = (uInt)bytes.len;
	bool full = false;
	while (rc == Z_OK && !full) {
		size_t size = 0;
		char *dst = next_room(into, &size);
		char beyond;
		z.next_out = (Bytef *)(dst ? dst : &beyond);
		z.avail_out = (uInt)(dst ? size : 1);
		rc = inflate(&z, Z_NO_FLUSH);
		if (dst)
			into->len += size - z.avail_out;
		else
			full = z.avail_out == 0;
		if (rc == Z_BUF_ERROR || (rc == Z_OK && z.avail_in == 0 && z.avail_out))
			rc = Z_DATA_ERROR;
	}
	bool whole = rc == Z_STREAM_END && z.avail_in == 0;
	inflateEnd(&z);
	if (full)
		return too_large(into, e);
	if (!whole)
		FAIL(e, ERR_INVALID, "the gzip data is damaged or incomplete");
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

static errc unzstd_bytes(str bytes, struct buf *into, struct err *e)
{
	ZSTD_DCtx *ctx = ZSTD_createDCtx();
	must(ctx != NULL);
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
	ZSTD_freeDCtx(ctx);
	if (full)
		return too_large(into, e);
	if (failed)
		FAIL(e, ERR_INVALID, "the zstd data is damaged or incomplete");
	return OK;
}

errc decompress_bytes(enum compress_format format, str bytes, struct buf *into, struct err *e)
{
	if (format == COMPRESS_GZIP)
		return gunzip_bytes(bytes, into, e);
	return format == COMPRESS_BROTLI ? unbrotli_bytes(bytes, into, e)
					 : unzstd_bytes(bytes, into, e);
}
