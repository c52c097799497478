/*
 * shim_output: what the application writes, line by line into FOLDER/output.ndjson.
 *
 * Shape: `{"t":1764000000000,"s":"out","l":"text"}` a line; `s` is out, err or shim (our own
 *   remarks). Text is valid UTF-8: a byte that is not becomes U+FFFD. A line over
 *   SHIM_LINE_BYTES_MAX comes in pieces, all but the last with `"more":true`. Files rotate:
 *   output.ndjson, output.ndjson.1, … .3, the highest number is the oldest.
 * Limits: a disk that is full or broken never stops the application: lines are dropped, counted,
 *   and the count stands in the file once it can be written again.
 * Threads: one.
 */
#pragma once

#include "base/buf.h"
#include "base/units.h"

enum { SHIM_LINE_BYTES_MAX = 64 * 1024 };

enum shim_stream { SHIM_OUT, SHIM_ERR, SHIM_STREAM_COUNT };

struct shim_output;

/* Owns: end with shim_output_close(), which flushes. */
WARN_UNUSED errc shim_output_open(const char *folder, int64_t file_bytes_max,
				  struct shim_output **ret_output, struct err *e);
void shim_output_close(struct shim_output *o);

/* Bytes that were read from STREAM just now. */
void shim_output_bytes(struct shim_output *o, enum shim_stream stream, str bytes);
/* The stream ended: its last line is complete though it had no end. */
void shim_output_end(struct shim_output *o, enum shim_stream stream);
/* A remark of the shim's own. */
void shim_output_note(struct shim_output *o, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Write what is gathered; called when the pipes are empty for the moment. */
void shim_output_flush(struct shim_output *o);

int64_t shim_output_dropped(const struct shim_output *o);
/* The N-th of the last lines, oldest first, cut to SHIM_LAST_LINE_BYTES_MAX; false past the end. */
bool shim_output_last(const struct shim_output *o, size_t n, str *ret_line);
