/*
 * Compressed siblings of files that are served: NAME.gz (zlib level 9) and NAME.br (quality 11).
 *
 * Text types of at least 1 KiB are compressed and a sibling is kept only where it is smaller. The
 * bytes depend on the contents alone. A cache folder keyed by the digest of the contents saves
 * compressing what did not change.
 */
#pragma once

#include "base/str.h"

struct precompress_options {
	const char *folder;
	const char *cache_folder; /* created when missing; NULL: none */
	const str *exclude;       /* globs */
	size_t exclude_count;
	bool (*cancelled)(void *ctx); /* asked before every file; may be NULL */
	void *cancelled_ctx;
};

struct precompress_result {
	uint64_t file_count;    /* that were considered */
	uint64_t sibling_count; /* written */
	uint64_t cached_count;  /* of those taken from the cache */
	int64_t raw_bytes;
	int64_t gzip_bytes; /* of the siblings */
	int64_t brotli_bytes;
};

/* Give every text file below a folder its siblings; older siblings are replaced or removed. */
WARN_UNUSED errc precompress_folder(const struct precompress_options *options,
				    struct precompress_result *ret_result, struct err *e);
